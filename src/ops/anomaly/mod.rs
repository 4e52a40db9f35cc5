//! Detectors: small running models of a stream that say of each value how it stands to those before.
//!
//! One interface for all: `new` of a [`Method`] with its settings; `take` of a row's time and inputs gives what the
//! function gives for the row; `encode` and `decode` carry the state over a restart bit for bit. Each family has a file.
//!
//! Invariants: a value is judged by what came before it, never by what comes after. State is bounded by the method's settings
//! alone. Rows come in the order of event time; that is the caller's to see to.
//!
//! What is missing: NULL, NaN and the infinities are no values. A detector that gives a ROW gives NULL for them, and for
//! numbers beyond 1e100, and goes on as if they had not come; the QARTOD checks flag them as missing.
//!
//! Deliberately absent: time passing without a row (alarms with delays, silence), and SQL.

mod baseline;
mod charts;
mod forecast;
mod history;
mod joint;
mod origin;
mod quality;
mod rules;
mod score;

use crate::plan::Method;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Value};

use charts::{Cusum, EwmaChart, Shewhart};
use forecast::Forecast;
use history::{ChangePoint, SpikeAndDip};
use joint::Joint;
use quality::{FlatLine, RateOfChange, Spike};
use rules::Rules;
use score::{Score, Verdict};

/// The running state of a detector of one key. It is used with one [`Method`], the same at every call.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector(State);

#[derive(Clone, Debug, PartialEq)]
enum State {
    Score(Box<Score>),
    Joint(Box<Joint>),
    Forecast(Box<Forecast>),
    Cusum(Box<Cusum>),
    EwmaChart(Box<EwmaChart>),
    Shewhart(Box<Shewhart>),
    Rules(Box<Rules>),
    GrossRange,
    Spike(Spike),
    RateOfChange(RateOfChange),
    FlatLine(Box<FlatLine>),
    SpikeAndDip(Box<SpikeAndDip>),
    ChangePoint(Box<ChangePoint>),
}

impl Detector {
    /// One that has seen nothing.
    pub fn new(method: &Method) -> Self {
        Self(match method {
            Method::Score(options) => State::Score(Box::new(Score::new(options))),
            Method::Joint(options) => State::Joint(Box::new(Joint::new(options))),
            Method::Forecast { .. } => State::Forecast(Box::default()),
            Method::Cusum(options) => State::Cusum(Box::new(Cusum::new(options))),
            Method::EwmaChart(options) => State::EwmaChart(Box::new(EwmaChart::new(options))),
            Method::Shewhart { .. } => State::Shewhart(Box::default()),
            Method::Rules { .. } => State::Rules(Box::default()),
            Method::GrossRange { .. } => State::GrossRange,
            Method::Spike { .. } => State::Spike(Spike::default()),
            Method::RateOfChange { .. } => State::RateOfChange(RateOfChange::default()),
            Method::FlatLine { .. } => State::FlatLine(Box::default()),
            Method::SpikeAndDip { .. } => State::SpikeAndDip(Box::default()),
            Method::ChangePoint { .. } => State::ChangePoint(Box::default()),
        })
    }

    /// Takes a row: its time and the inputs that the plan names, perhaps more behind them. What the function gives.
    pub fn take(&mut self, method: &Method, time: EventTime, inputs: &[Value]) -> Value {
        let value = number(inputs.first());
        let micros = time.as_micros();
        match (&mut self.0, method) {
            (State::GrossRange, Method::GrossRange { fail, suspect }) => {
                Value::Int(quality::gross_range(value, *fail, *suspect))
            }
            (State::Spike(state), Method::Spike { suspect, fail }) => {
                state.take(value, *suspect, *fail)
            }
            (State::RateOfChange(state), Method::RateOfChange { threshold }) => {
                Value::Int(state.take(value, micros, *threshold))
            }
            (
                State::FlatLine(state),
                Method::FlatLine {
                    tolerance,
                    suspect,
                    fail,
                },
            ) => Value::Int(state.take(value, time, *tolerance, [*suspect, *fail])),
            (State::Joint(state), Method::Joint(options)) => {
                let Some(inputs) = inputs.get(..options.columns) else {
                    return Value::Null;
                };
                let values = inputs.iter().map(|v| number(Some(v)).filter(usable));
                let values: Option<Vec<f64>> = values.collect();
                values.map_or(Value::Null, |values| state.take(options, &values))
            }
            (state, method) => match value.filter(usable) {
                Some(value) => state.judge(method, value, micros, inputs.get(1)),
                None => Value::Null,
            },
        }
    }

    /// Writes the state.
    pub fn encode(&self, out: &mut Encoder) {
        match &self.0 {
            State::Score(state) => state.encode(out),
            State::Joint(state) => state.encode(out),
            State::Forecast(state) => state.encode(out),
            State::Cusum(state) => state.encode(out),
            State::EwmaChart(state) => state.encode(out),
            State::Shewhart(state) => state.encode(out),
            State::Rules(state) => state.encode(out),
            State::GrossRange => {}
            State::Spike(state) => state.encode(out),
            State::RateOfChange(state) => state.encode(out),
            State::FlatLine(state) => state.encode(out),
            State::SpikeAndDip(state) => state.encode(out),
            State::ChangePoint(state) => state.encode(out),
        }
    }

    /// Reads what `encode` wrote of a detector of this method.
    pub fn decode(method: &Method, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self(match method {
            Method::Score(options) => State::Score(Box::new(Score::decode(options, from)?)),
            Method::Joint(options) => State::Joint(Box::new(Joint::decode(options, from)?)),
            Method::Forecast { .. } => State::Forecast(Box::new(Forecast::decode(from)?)),
            Method::Cusum(_) => State::Cusum(Box::new(Cusum::decode(from)?)),
            Method::EwmaChart(_) => State::EwmaChart(Box::new(EwmaChart::decode(from)?)),
            Method::Shewhart { .. } => State::Shewhart(Box::new(Shewhart::decode(from)?)),
            Method::Rules { .. } => State::Rules(Box::new(Rules::decode(from)?)),
            Method::GrossRange { .. } => State::GrossRange,
            Method::Spike { .. } => State::Spike(Spike::decode(from)?),
            Method::RateOfChange { .. } => State::RateOfChange(RateOfChange::decode(from)?),
            Method::FlatLine { .. } => State::FlatLine(Box::new(FlatLine::decode(from)?)),
            Method::SpikeAndDip { history, .. } => {
                State::SpikeAndDip(Box::new(SpikeAndDip::decode(*history, from)?))
            }
            Method::ChangePoint { history, .. } => {
                State::ChangePoint(Box::new(ChangePoint::decode(*history, from)?))
            }
        }))
    }
}

impl State {
    /// What is said of a value, by the detectors that leave out what is missing.
    fn judge(&mut self, method: &Method, value: f64, time: i64, clock: Option<&Value>) -> Value {
        let clock = match clock {
            Some(Value::Timestamp(micros)) => *micros,
            _ => time,
        };
        match (self, method) {
            (Self::Score(state), Method::Score(options)) => {
                verdict(state.take(options, value, time, clock))
            }
            (Self::Forecast(state), Method::Forecast { confidence }) => {
                state.take(value, clock, *confidence)
            }
            (Self::Cusum(state), Method::Cusum(options)) => state.take(options, value),
            (Self::EwmaChart(state), Method::EwmaChart(options)) => state.take(options, value),
            (Self::Shewhart(state), Method::Shewhart { normal, width }) => {
                state.take(normal, *width, value)
            }
            (Self::Rules(state), Method::Rules { normal, rules }) => {
                state.take(normal, rules, value)
            }
            (
                Self::SpikeAndDip(state),
                Method::SpikeAndDip {
                    confidence,
                    mode,
                    history,
                },
            ) => state.take(value, time, *confidence, *mode, *history),
            (
                Self::ChangePoint(state),
                Method::ChangePoint {
                    confidence,
                    history,
                },
            ) => state.take(value, time, *confidence, *history),
            _ => Value::Null,
        }
    }
}

/// A finite number; what is not one is missing.
fn number(value: Option<&Value>) -> Option<f64> {
    match value {
        Some(Value::Double(value)) if value.is_finite() => Some(*value),
        _ => None,
    }
}

/// Whether a number is near enough to 0 that no arithmetic leaves the range of doubles.
fn usable(value: &f64) -> bool {
    value.abs() <= 1e100
}

/// A ROW.
fn row<const N: usize>(fields: [Value; N]) -> Value {
    Value::Row(fields.into())
}

fn double(value: Option<f64>) -> Value {
    value.map_or(Value::Null, Value::Double)
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, Value::str)
}

/// The result of a score.
fn verdict(verdict: Verdict) -> Value {
    row([
        Value::Double(verdict.score),
        Value::Bool(verdict.alarm),
        double(verdict.expected),
        text(verdict.channel.map(score::Channel::name)),
    ])
}
