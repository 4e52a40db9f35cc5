//! Detectors as the plan has them: which one, what it takes of a row, and its settings with all defaults filled in.
//!
//! Invariants: the settings are checked; all that decides a detector's rows and the meaning of its state is in its
//! canonical text.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::expr::Expr;
use crate::types::{Field, Timespan, Type};

/// The most values that a detector with a history keeps.
pub const MAX_HISTORY: u32 = 10_000;

/// The least: nothing is strange against fewer values.
pub const LEAST_HISTORY: u32 = 10;

/// The power of a change point's bets: 1 is no bet, 0 bets all on the strangest.
pub const BET_POWER: f64 = 0.5;

/// The most columns of a joint score.
pub const MAX_JOINT_COLUMNS: usize = 8;

/// A detector over the rows of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Which one.
    pub method: Method,
    /// What it takes of a row: DOUBLEs, and behind them the wall clock's TIMESTAMP where the settings name a time zone.
    pub inputs: Vec<Expr>,
}

/// A detector with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// `ANOMALY_SCORE`.
    Score(ScoreOptions),
    /// `ANOMALY_SCORE_JOINT`.
    Joint(JointOptions),
    /// `FORECAST_BAND`.
    Forecast {
        /// The part of the values that is within the band, between 0 and 1.
        confidence: f64,
    },
    /// `CUSUM`.
    Cusum(CusumOptions),
    /// `EWMA_CHART`.
    EwmaChart(EwmaOptions),
    /// `SHEWHART_CHART`.
    Shewhart {
        /// What is normal.
        normal: Normal,
        /// The limits, in standard deviations from the target.
        width: f64,
    },
    /// `CONTROL_RULES`.
    Rules {
        /// What is normal.
        normal: Normal,
        /// The rules that are looked at, in the order in which they are named.
        rules: Vec<ControlRule>,
    },
    /// `QARTOD_GROSS_RANGE`: bounds, inclusive.
    GrossRange {
        /// Below or above is bad.
        fail: [f64; 2],
        /// Below or above is suspect.
        suspect: [f64; 2],
    },
    /// `QARTOD_SPIKE`: distances from the mean of the neighbours.
    Spike {
        /// Farther is suspect.
        suspect: f64,
        /// Farther is bad.
        fail: f64,
    },
    /// `QARTOD_RATE_OF_CHANGE`.
    RateOfChange {
        /// Faster is suspect, per second.
        threshold: f64,
    },
    /// `QARTOD_FLAT_LINE`.
    FlatLine {
        /// A range below this is flat.
        tolerance: f64,
        /// Flat for so long is suspect; `None` for never.
        suspect: Option<Timespan>,
        /// Flat for so long is bad; `None` for never.
        fail: Option<Timespan>,
    },
    /// `ANOMALYDETECTION_SPIKEANDDIP`.
    SpikeAndDip {
        /// Percent, from 1 to below 100.
        confidence: f64,
        /// Which side counts.
        mode: SpikeMode,
        /// What is looked back on.
        history: History,
    },
    /// `ANOMALYDETECTION_CHANGEPOINT`.
    ChangePoint {
        /// Percent, from 1 to below 100.
        confidence: f64,
        /// What is looked back on.
        history: History,
    },
}

/// The settings of `ANOMALY_SCORE`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreOptions {
    /// The score from which on there is an alarm.
    pub threshold: f64,
    /// Events after an alarm in which there is no other.
    pub quiet: u32,
    /// Without the model of sequences, at half the state.
    pub lean: bool,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            threshold: 3.2,
            quiet: 100,
            lean: false,
        }
    }
}

/// The settings of `ANOMALY_SCORE_JOINT`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointOptions {
    /// How many columns, from 2 to [`MAX_JOINT_COLUMNS`].
    pub columns: usize,
    /// The score from which on there is an alarm.
    pub threshold: f64,
    /// Events after an alarm in which there is no other.
    pub quiet: u32,
}

/// What a control chart takes for normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    /// The mean; `None` for that of the baseline.
    pub target: Option<f64>,
    /// The standard deviation, positive; `None` for that of the baseline, by its mean moving range.
    pub sigma: Option<f64>,
    /// How many values are the baseline, at least 2.
    pub baseline: u32,
}

/// The settings of `CUSUM`, in standard deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CusumOptions {
    /// What is normal.
    pub normal: Normal,
    /// The slack: half of the shift to be found.
    pub k: f64,
    /// The sum that signals.
    pub h: f64,
    /// Where the sums start, as a part of `h`.
    pub head_start: f64,
    /// Whether the sums start again after a signal.
    pub restart: bool,
}

/// The settings of `EWMA_CHART`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EwmaOptions {
    /// What is normal.
    pub normal: Normal,
    /// The share of a new value in the mean, above 0 and at most 1.
    pub lambda: f64,
    /// The limits, in standard deviations of the mean.
    pub width: f64,
    /// Whether the limits are those after endless many values from the start.
    pub asymptotic: bool,
}

/// A rule of Western Electric (1956) or Nelson (1984).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRule {
    /// One beyond 3 sigma.
    N1,
    /// Nine on one side.
    N2,
    /// Six that rise or fall.
    N3,
    /// Fourteen that alternate.
    N4,
    /// Two of three beyond 2 sigma on one side.
    N5,
    /// Four of five beyond 1 sigma on one side.
    N6,
    /// Fifteen within 1 sigma.
    N7,
    /// Eight beyond 1 sigma, on both sides.
    N8,
    /// As N1.
    WE1,
    /// As N5.
    WE2,
    /// As N6.
    WE3,
    /// Eight on one side.
    WE4,
}

impl ControlRule {
    /// All rules, each with its name.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::N1, "N1"),
        (Self::N2, "N2"),
        (Self::N3, "N3"),
        (Self::N4, "N4"),
        (Self::N5, "N5"),
        (Self::N6, "N6"),
        (Self::N7, "N7"),
        (Self::N8, "N8"),
        (Self::WE1, "WE1"),
        (Self::WE2, "WE2"),
        (Self::WE3, "WE3"),
        (Self::WE4, "WE4"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(rule, _)| *rule == self);
        found.map_or("", |(_, name)| name)
    }
}

/// Which side of the usual counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpikeMode {
    /// Above.
    Spikes,
    /// Below.
    Dips,
    /// Both.
    SpikesAndDips,
}

impl SpikeMode {
    /// The mode as SQL writes it.
    const fn text(self) -> &'static str {
        match self {
            Self::Spikes => "'spikes'",
            Self::Dips => "'dips'",
            Self::SpikesAndDips => "'spikesanddips'",
        }
    }
}

/// The values that a detector compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The most, from [`LEAST_HISTORY`] to [`MAX_HISTORY`].
    pub size: u32,
    /// The oldest, against the current one.
    pub duration: Timespan,
}

impl History {
    /// The sum of the bets at which a change point is told.
    pub fn bets_to_tell(&self, confidence: f64) -> f64 {
        f64::from(self.size) / (1.0 - confidence / 100.0)
    }

    /// The sum that the bets come to on a step that stands out of all noise, without what they had won before.
    pub fn bets_on_a_step(&self) -> f64 {
        let all = f64::from(self.size) + 1.0;
        let mut sum = 0.0;
        for behind in 1..=self.size {
            // Those behind the step are as strange as each other, until they are the most.
            let bet = BET_POWER * (f64::from(behind) / 2.0 / all).powf(BET_POWER - 1.0);
            if bet <= 1.0 {
                break;
            }
            sum = (1.0 + sum) * bet;
        }
        sum
    }
}

impl Method {
    /// The function's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Score(_) => "ANOMALY_SCORE",
            Self::Joint(_) => "ANOMALY_SCORE_JOINT",
            Self::Forecast { .. } => "FORECAST_BAND",
            Self::Cusum(_) => "CUSUM",
            Self::EwmaChart(_) => "EWMA_CHART",
            Self::Shewhart { .. } => "SHEWHART_CHART",
            Self::Rules { .. } => "CONTROL_RULES",
            Self::GrossRange { .. } => "QARTOD_GROSS_RANGE",
            Self::Spike { .. } => "QARTOD_SPIKE",
            Self::RateOfChange { .. } => "QARTOD_RATE_OF_CHANGE",
            Self::FlatLine { .. } => "QARTOD_FLAT_LINE",
            Self::SpikeAndDip { .. } => "ANOMALYDETECTION_SPIKEANDDIP",
            Self::ChangePoint { .. } => "ANOMALYDETECTION_CHANGEPOINT",
        }
    }

    /// The type of what it gives for a row.
    pub fn ty(&self) -> Type {
        use Type::{BigInt, Boolean, Double, Int, String};
        let row = |fields: &[(&str, Type)]| {
            let fields = fields.iter().map(|(name, ty)| Field {
                name: (*name).into(),
                ty: ty.clone(),
            });
            Type::Row(fields.collect::<Arc<[Field]>>())
        };
        match self {
            Self::Score(_) => row(&[
                ("score", Double),
                ("alarm", Boolean),
                ("expected", Double),
                ("channel", String),
            ]),
            Self::Joint(_) => row(&[
                ("score", Double),
                ("alarm", Boolean),
                ("expected", Double),
                ("argument", Int),
            ]),
            Self::Forecast { .. } => row(&[
                ("expected", Double),
                ("lower", Double),
                ("upper", Double),
                ("residual", Double),
                ("outside", Boolean),
            ]),
            Self::Cusum(_) => row(&[
                ("high", Double),
                ("low", Double),
                ("high_run", BigInt),
                ("low_run", BigInt),
                ("signal", String),
            ]),
            Self::EwmaChart(_) => row(&[
                ("ewma", Double),
                ("lower", Double),
                ("upper", Double),
                ("signal", String),
            ]),
            Self::Shewhart { .. } => row(&[
                ("center", Double),
                ("lower", Double),
                ("upper", Double),
                ("moving_range", Double),
                ("signal", String),
            ]),
            Self::Rules { .. } => row(&[("z", Double), ("rules", String)]),
            Self::Spike { .. } => row(&[("flag", Int), ("value", Double)]),
            Self::GrossRange { .. } | Self::RateOfChange { .. } | Self::FlatLine { .. } => Int,
            // The names are Azure's.
            Self::SpikeAndDip { .. } | Self::ChangePoint { .. } => {
                row(&[("Score", Double), ("IsAnomaly", BigInt)])
            }
        }
    }

    /// The settings, each with its name.
    fn settings(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, value: &dyn fmt::Display| {
            let _ = write!(text, ", {name} => {value}");
        };
        match self {
            Self::Score(options) => {
                put("threshold", &options.threshold);
                put("quiet", &options.quiet);
                put("lean", &options.lean);
            }
            Self::Joint(options) => {
                put("threshold", &options.threshold);
                put("quiet", &options.quiet);
            }
            Self::Forecast { confidence } => put("confidence", confidence),
            Self::Cusum(options) => {
                options.normal.put(&mut put);
                put("k", &options.k);
                put("h", &options.h);
                put("head_start", &options.head_start);
                put("restart", &options.restart);
            }
            Self::EwmaChart(options) => {
                options.normal.put(&mut put);
                put("lambda", &options.lambda);
                put("width", &options.width);
                put("asymptotic", &options.asymptotic);
            }
            Self::Shewhart { normal, width } => {
                normal.put(&mut put);
                put("width", width);
            }
            Self::Rules { normal, rules } => {
                normal.put(&mut put);
                let names: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
                put("rules", &format!("'{}'", names.join(",")));
            }
            Self::GrossRange { fail, suspect } => {
                let bounds = [
                    ("fail_low", fail[0]),
                    ("fail_high", fail[1]),
                    ("suspect_low", suspect[0]),
                    ("suspect_high", suspect[1]),
                ];
                for (name, bound) in bounds.iter().filter(|(_, bound)| bound.is_finite()) {
                    put(name, bound);
                }
            }
            Self::Spike { suspect, fail } => {
                put("suspect", suspect);
                put("fail", fail);
            }
            Self::RateOfChange { threshold } => put("threshold", threshold),
            Self::FlatLine {
                tolerance,
                suspect,
                fail,
            } => {
                put("tolerance", tolerance);
                for (name, span) in [("suspect", suspect), ("fail", fail)] {
                    if let Some(span) = span {
                        put(name, span);
                    }
                }
            }
            Self::SpikeAndDip {
                confidence,
                mode,
                history,
            } => {
                put("confidence", confidence);
                put("mode", &mode.text());
                history.put(&mut put);
            }
            Self::ChangePoint {
                confidence,
                history,
            } => {
                put("confidence", confidence);
                history.put(&mut put);
            }
        }
        text
    }
}

/// Takes a setting with its name.
type Put<'a> = dyn FnMut(&str, &dyn fmt::Display) + 'a;

impl Normal {
    fn put(&self, put: &mut Put<'_>) {
        if let Some(target) = self.target {
            put("target", &target);
        }
        if let Some(sigma) = self.sigma {
            put("sigma", &sigma);
        }
        if self.target.is_none() || self.sigma.is_none() {
            put("baseline", &self.baseline);
        }
    }
}

impl History {
    fn put(&self, put: &mut Put<'_>) {
        put("history", &self.size);
        if self.duration.as_micros() < i64::MAX {
            put("duration", &self.duration);
        }
    }
}

impl Detection {
    /// The text that decides what the detector gives and how its state is to be read.
    pub fn canonical(&self) -> String {
        self.text(&|expr| expr.to_string())
    }

    /// The call for people, with its columns named.
    pub fn describe(&self, naming: &dyn Fn(usize) -> String) -> String {
        self.text(&|expr| expr.describe(naming))
    }

    fn text(&self, of: &dyn Fn(&Expr) -> String) -> String {
        let inputs: Vec<String> = self.inputs.iter().map(of).collect();
        format!(
            "{}({}{})",
            self.method.name(),
            inputs.join(", "),
            self.method.settings()
        )
    }
}
