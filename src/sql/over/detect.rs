//! Calls of detectors: `ANOMALY_SCORE(x, threshold => 4) OVER (PARTITION BY key ORDER BY ts)`.
//!
//! The values come first, by place; the settings behind them, by name. Azure's functions take theirs by place as well,
//! as they are written there. A detector takes one row after the other, so it has no frame; but for Azure's, where a RANGE is
//! their LIMIT DURATION.

use std::ops::RangeInclusive;

use sqlparser::ast::{Expr as Ast, Function, FunctionArg, FunctionArgExpr, Ident};

use crate::expr::{Expr, ResolveError, call};
use crate::plan::{
    ControlRule, CusumOptions, Detection, Diagnostic, EwmaOptions, Frame, History, JointOptions,
    LEAST_HISTORY, MAX_HISTORY, MAX_JOINT_COLUMNS, Method, Normal, ScoreOptions, SpikeMode,
};
use crate::types::{Timespan, Type};

use super::super::convert::{Converter, at};
use super::settings::{Bounds, Settings};

/// A detector's function.
#[derive(Debug)]
pub(in super::super) struct Detector {
    name: &'static str,
    /// How many values it takes.
    values: RangeInclusive<usize>,
    /// Settings that may be written by place behind the values.
    by_place: &'static [&'static str],
}

const fn one(name: &'static str) -> Detector {
    Detector {
        name,
        values: 1..=1,
        by_place: &[],
    }
}

const DETECTORS: [Detector; 13] = [
    one("ANOMALY_SCORE"),
    Detector {
        values: 2..=MAX_JOINT_COLUMNS,
        ..one("ANOMALY_SCORE_JOINT")
    },
    one("FORECAST_BAND"),
    one("CUSUM"),
    one("EWMA_CHART"),
    one("SHEWHART_CHART"),
    one("CONTROL_RULES"),
    one("QARTOD_GROSS_RANGE"),
    one("QARTOD_SPIKE"),
    one("QARTOD_RATE_OF_CHANGE"),
    one("QARTOD_FLAT_LINE"),
    Detector {
        by_place: &["confidence", "history", "mode"],
        ..one("ANOMALYDETECTION_SPIKEANDDIP")
    },
    Detector {
        by_place: &["confidence", "history"],
        ..one("ANOMALYDETECTION_CHANGEPOINT")
    },
];

/// The names of all detectors.
pub fn detector_names() -> Vec<&'static str> {
    DETECTORS.iter().map(|detector| detector.name).collect()
}

/// The detector of a name, if there is one.
pub(in super::super) fn find(name: &str) -> Option<&'static Detector> {
    let mut all = DETECTORS.iter();
    all.find(|detector| detector.name.eq_ignore_ascii_case(name))
}

/// What is said to a detector without OVER.
pub(in super::super) fn needs_over(detector: &Detector) -> ResolveError {
    let name = detector.name;
    ResolveError::hinted(
        format!("{name} takes the rows of a key one after the other, and needs OVER"),
        format!("write {name}(x) OVER (PARTITION BY key ORDER BY ts)"),
    )
}

const MOST_QUIET: u32 = 1_000_000;
const MOST_BASELINE: u32 = 1_000_000;
const BASELINE: u32 = 100;
/// One in 10,000: rarer is not told apart by a history of at most as many values.
const MOST_CONFIDENCE: f64 = 99.99;
/// An alarm in 3,000 rows at most.
const JOINT_THRESHOLD: f64 = 3.5;

impl Converter<'_> {
    /// A call of a detector, over rows whose time is in column `time`.
    pub(super) fn detection(
        &mut self,
        detector: &'static Detector,
        function: &Function,
        time: usize,
        frame: Option<Frame>,
        ast: &Ast,
    ) -> Result<Detection, Diagnostic> {
        let place = self.blame(ast, ResolveError::new("")).place;
        let mut settings = Settings::new(detector.name, place);
        let mut inputs = self.detector_arguments(detector, function, &mut settings, ast)?;
        let duration = match frame {
            None => None,
            Some(Frame::Range(span)) if !detector.by_place.is_empty() => Some(span),
            Some(_) => {
                let hint = if detector.by_place.is_empty() {
                    "remove ROWS or RANGE: it remembers what it needs of the rows before"
                } else {
                    "write LIMIT DURATION(minute, 2), or RANGE INTERVAL '2' MINUTE PRECEDING"
                };
                let message = format!("{} takes no such frame", detector.name);
                return Err(self.blame(ast, ResolveError::hinted(message, hint)));
            }
        };
        let method = method(detector.name, inputs.len(), duration, &mut settings)?;
        if matches!(method, Method::Score(_) | Method::Forecast { .. }) {
            inputs.extend(self.wall_clock(time, &mut settings)?);
        }
        settings.finish()?;
        Ok(Detection { method, inputs })
    }

    /// The values that a detector takes, as DOUBLEs; notes the settings.
    fn detector_arguments(
        &mut self,
        detector: &'static Detector,
        function: &Function,
        settings: &mut Settings,
        ast: &Ast,
    ) -> Result<Vec<Expr>, Diagnostic> {
        let name = detector.name;
        let list = self.arguments(function, ast)?;
        let plain = list.clauses.is_empty()
            && list.duplicate_treatment.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none();
        if !plain {
            let message = format!("{name} takes values and settings, and no clauses but OVER");
            let hint =
                "to leave rows out, filter before, or make the value NULL: CASE WHEN … THEN x END";
            return Err(self.blame(ast, ResolveError::hinted(message, hint)));
        }
        let mut inputs = Vec::new();
        let mut by_place = detector.by_place.iter();
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(given))
                    if inputs.len() < *detector.values.end() =>
                {
                    let value = self.convert(given)?;
                    if !value.ty.is_numeric() && value.ty != Type::Null {
                        let message = format!("{name} takes numbers, and this is {}", value.ty);
                        let hint = "convert it: CAST(x AS DOUBLE)";
                        return Err(self.blame(given, ResolveError::hinted(message, hint)));
                    }
                    let value = self.checked(given, value.cast(&Type::Double, false))?;
                    inputs.push(value.expr);
                }
                FunctionArg::Unnamed(FunctionArgExpr::Expr(given)) => {
                    let Some(setting) = by_place.next() else {
                        let message = format!("{name} takes no more values");
                        let hint = "write settings by name: threshold => 4";
                        return Err(self.blame(given, ResolveError::hinted(message, hint)));
                    };
                    let value = self.convert(given)?;
                    let place = self.blame(given, ResolveError::new("")).place;
                    settings.put(setting, value, place)?;
                }
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(given),
                    ..
                } => settings.add(self, name, given)?,
                FunctionArg::ExprNamed {
                    name: Ast::Identifier(name),
                    arg: FunctionArgExpr::Expr(given),
                    ..
                } => {
                    let name: &Ident = name;
                    settings.add(self, name, given)?;
                }
                _ => {
                    let message = format!("{name} takes values, and settings by name");
                    let hint = format!("write {name}(x, setting => 4) OVER (…)");
                    return Err(self.blame(ast, ResolveError::hinted(message, hint)));
                }
            }
        }
        if inputs.len() < *detector.values.start() {
            let message = match *detector.values.start() {
                1 => format!("{name} takes a value"),
                least => format!("{name} takes at least {least} values"),
            };
            return Err(self.blame(ast, ResolveError::new(message)));
        }
        Ok(inputs)
    }

    /// What the clocks of the zone show that the settings name, if they do.
    fn wall_clock(
        &mut self,
        time: usize,
        settings: &mut Settings,
    ) -> Result<Option<Expr>, Diagnostic> {
        let zone = settings.text("timezone", "the name of a time zone", |zone| {
            Some(zone.to_owned())
        })?;
        let Some(zone) = zone else {
            return Ok(None);
        };
        let place = settings.place_of("timezone");
        let time = self.scope.typed(time);
        if !matches!(time.ty, Type::TimestampLtz { .. }) {
            let message = format!("the time is a {}, which is on some clock already", time.ty);
            let hint = "remove timezone, or declare the time as TIMESTAMP_LTZ(3)";
            return Err(at(place, ResolveError::hinted(message, hint)));
        }
        let zone = crate::expr::Typed::string(&zone);
        let clock = call("$AT_TIME_ZONE", vec![time, zone]);
        let clock = clock.map_err(|error| at(place, error))?;
        Ok(Some(clock.expr))
    }
}

/// The detector with its settings.
fn method(
    name: &str,
    columns: usize,
    duration: Option<Timespan>,
    settings: &mut Settings,
) -> Result<Method, Diagnostic> {
    Ok(match name {
        "ANOMALY_SCORE" => {
            let default = ScoreOptions::default();
            Method::Score(ScoreOptions {
                threshold: settings.number_or(
                    "threshold",
                    Bounds::Within(0.1, 50.0),
                    default.threshold,
                )?,
                quiet: settings
                    .count("quiet", [0, MOST_QUIET])?
                    .unwrap_or(default.quiet),
                lean: settings.flag("lean")?,
            })
        }
        "ANOMALY_SCORE_JOINT" => {
            let default = ScoreOptions::default();
            Method::Joint(JointOptions {
                columns,
                threshold: settings.number_or(
                    "threshold",
                    Bounds::Within(0.1, 50.0),
                    JOINT_THRESHOLD,
                )?,
                quiet: settings
                    .count("quiet", [0, MOST_QUIET])?
                    .unwrap_or(default.quiet),
            })
        }
        "FORECAST_BAND" => Method::Forecast {
            confidence: settings.number_or("confidence", Bounds::Within(0.5, 0.9999), 0.99)?,
        },
        "CUSUM" => Method::Cusum(CusumOptions {
            normal: normal(settings)?,
            k: settings.number_or("k", Bounds::Within(0.0, 100.0), 0.5)?,
            h: settings.number_or("h", Bounds::Positive, 5.0)?,
            head_start: settings.number_or("head_start", Bounds::Within(0.0, 1.0), 0.0)?,
            restart: settings.flag("restart")?,
        }),
        "EWMA_CHART" => Method::EwmaChart(EwmaOptions {
            normal: normal(settings)?,
            lambda: settings.number_or("lambda", Bounds::Within(0.001, 1.0), 0.2)?,
            width: settings.number_or("width", Bounds::Positive, 3.0)?,
            asymptotic: settings.flag("asymptotic")?,
        }),
        "SHEWHART_CHART" => Method::Shewhart {
            normal: normal(settings)?,
            width: settings.number_or("width", Bounds::Positive, 3.0)?,
        },
        "CONTROL_RULES" => Method::Rules {
            normal: normal(settings)?,
            rules: settings
                .text(
                    "rules",
                    "'nelson', 'western electric', or names such as 'N1,N5,WE4'",
                    rules,
                )?
                .unwrap_or_else(|| rules("nelson").unwrap_or_default()),
        },
        "QARTOD_GROSS_RANGE" => gross_range(settings)?,
        "QARTOD_SPIKE" => {
            let suspect = settings.number("suspect", Bounds::NotNegative)?;
            let fail = settings.number("fail", Bounds::NotNegative)?;
            let either = settings.required("suspect", "0.5", suspect.or(fail))?;
            if suspect
                .zip(fail)
                .is_some_and(|(suspect, fail)| suspect >= fail)
            {
                return Err(settings.contradiction("suspect", "suspect < fail"));
            }
            Method::Spike {
                suspect: suspect.unwrap_or(either),
                fail: fail.unwrap_or(f64::INFINITY),
            }
        }
        "QARTOD_RATE_OF_CHANGE" => {
            let threshold = settings.number("threshold", Bounds::NotNegative)?;
            Method::RateOfChange {
                threshold: settings.required("threshold", "0.5 (per second)", threshold)?,
            }
        }
        "QARTOD_FLAT_LINE" => {
            let tolerance = settings.number("tolerance", Bounds::Positive)?;
            let suspect = settings.span("suspect")?;
            let fail = settings.span("fail")?;
            settings.required("suspect", "INTERVAL '5' MINUTE", suspect.or(fail))?;
            if suspect
                .zip(fail)
                .is_some_and(|(suspect, fail)| suspect >= fail)
            {
                return Err(settings.contradiction("suspect", "suspect < fail"));
            }
            Method::FlatLine {
                tolerance: settings.required("tolerance", "0.01", tolerance)?,
                suspect,
                fail,
            }
        }
        "ANOMALYDETECTION_SPIKEANDDIP" => {
            let (confidence, history) = azure(duration, settings)?;
            let expected = "'spikes', 'dips' or 'spikesanddips'";
            let mode = settings.text("mode", expected, |mode| {
                match mode.to_ascii_lowercase().as_str() {
                    "spikes" => Some(SpikeMode::Spikes),
                    "dips" => Some(SpikeMode::Dips),
                    "spikesanddips" => Some(SpikeMode::SpikesAndDips),
                    _ => None,
                }
            })?;
            Method::SpikeAndDip {
                confidence,
                mode: settings.required("mode", "'spikesanddips'", mode)?,
                history,
            }
        }
        _ => {
            let (confidence, history) = azure(duration, settings)?;
            enough_for_a_change(settings, confidence, history)?;
            Method::ChangePoint {
                confidence,
                history,
            }
        }
    })
}

/// What a chart takes for normal.
fn normal(settings: &mut Settings) -> Result<Normal, Diagnostic> {
    let target = settings.number("target", Bounds::Any)?;
    let sigma = settings.number("sigma", Bounds::Positive)?;
    let baseline = settings.count("baseline", [2, MOST_BASELINE])?;
    if target.is_some() && sigma.is_some() && baseline.is_some() {
        let what = "baseline has nothing to learn, as target and sigma are both given";
        let hint = "remove baseline, or the one of target and sigma that is to be learnt";
        return Err(settings.useless("baseline", what, hint));
    }
    Ok(Normal {
        target,
        sigma,
        baseline: baseline.unwrap_or(BASELINE),
    })
}

/// The rules of a list, or of one of the two sets.
fn rules(text: &str) -> Option<Vec<ControlRule>> {
    let starting = |prefix: &str| {
        let all = ControlRule::ALL.iter();
        let named = all.filter(|(_, name)| name.starts_with(prefix));
        Some(named.map(|(rule, _)| *rule).collect())
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "nelson" => return starting("N"),
        "western electric" => return starting("WE"),
        _ => {}
    }
    let each = text.split(',').map(|wanted| {
        let mut all = ControlRule::ALL.iter();
        let found = all.find(|(_, name)| name.eq_ignore_ascii_case(wanted.trim()));
        found.map(|(rule, _)| *rule)
    });
    each.collect()
}

fn gross_range(settings: &mut Settings) -> Result<Method, Diagnostic> {
    let fail_low = settings.number("fail_low", Bounds::Any)?;
    let fail_high = settings.number("fail_high", Bounds::Any)?;
    let suspect_low = settings.number("suspect_low", Bounds::Any)?;
    let suspect_high = settings.number("suspect_high", Bounds::Any)?;
    let any = fail_low.or(fail_high).or(suspect_low).or(suspect_high);
    settings.required("fail_high", "100", any)?;
    let span = |low: Option<f64>, high: Option<f64>| {
        [
            low.unwrap_or(f64::NEG_INFINITY),
            high.unwrap_or(f64::INFINITY),
        ]
    };
    let (fail, suspect) = (span(fail_low, fail_high), span(suspect_low, suspect_high));
    let inside = suspect_low.is_none_or(|low| low >= fail[0])
        && suspect_high.is_none_or(|high| high <= fail[1]);
    if fail[0] > fail[1] || suspect[0] > suspect[1] || !inside {
        let hint = "fail_low <= suspect_low <= suspect_high <= fail_high";
        return Err(settings.contradiction("fail_low", hint));
    }
    Ok(Method::GrossRange { fail, suspect })
}

/// What Azure's functions have in common.
fn azure(
    duration: Option<Timespan>,
    settings: &mut Settings,
) -> Result<(f64, History), Diagnostic> {
    let confidence = settings.number("confidence", Bounds::Within(1.0, 100.0))?;
    let confidence = settings.required("confidence", "95", confidence)?;
    // Azure takes 100 as well, at which no score is ever low or high enough.
    if confidence > MOST_CONFIDENCE {
        let what =
            format!("at a confidence of {confidence} hardly anything would ever be an anomaly");
        let hint =
            format!("write at most {MOST_CONFIDENCE}; Azure suggests 70 to 90 to start with");
        return Err(settings.useless("confidence", &what, &hint));
    }
    let size = settings.count("history", [LEAST_HISTORY, MAX_HISTORY])?;
    let history = History {
        size: settings.required("history", "120", size)?,
        duration: duration.unwrap_or(Timespan::from_micros(i64::MAX)),
    };
    Ok((confidence, history))
}

/// Refuses a history so short that hardly any change could be told.
fn enough_for_a_change(
    settings: &mut Settings,
    confidence: f64,
    history: History,
) -> Result<(), Diagnostic> {
    let tells = |size: u32| {
        let history = History { size, ..history };
        history.bets_on_a_step() >= history.bets_to_tell(confidence)
    };
    if tells(history.size) {
        return Ok(());
    }
    let what = format!(
        "against {} values hardly any change could be told at a confidence of {confidence}",
        history.size
    );
    let hint = match (history.size..=MAX_HISTORY).find(|size| tells(*size)) {
        Some(least) => format!("write a history of {least} or more"),
        None => "write a lower confidence".to_owned(),
    };
    Err(settings.useless("history", &what, &hint))
}
