//! Control charts: CUSUM (Page 1954, with the head start of Lucas and Crosier 1982), EWMA (Roberts 1959), and the chart
//! of individual values (Shewhart 1931).
//!
//! Invariants: limits are strict: what is on a limit does not signal. While the baseline is being learnt limits are
//! NULL and nothing signals; its last value has limits and does not signal. A standard deviation of 0, from a baseline
//! of equal values, has limits at the target, so that every other value signals.

use super::baseline::Baseline;
use super::{double, row, text};
use crate::plan::{CusumOptions, EwmaOptions, Normal};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

const HIGH: &str = "HI";
const LOW: &str = "LO";

/// What a deviation counts for, in standard deviations, where the baseline has none; and the most that any counts for.
const UNKNOWN_SCALE: f64 = 1e9;

/// Which side of the limits a value is on.
fn side(value: f64, low: f64, high: f64) -> Option<&'static str> {
    if value > high {
        Some(HIGH)
    } else if value < low {
        Some(LOW)
    } else {
        None
    }
}

/// The tabular CUSUM: two one-sided sums in standard deviations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cusum {
    baseline: Baseline,
    /// Above and below.
    sums: [f64; 2],
    /// For how many values each has been above 0: the shift began so long ago.
    runs: [i64; 2],
}

impl Cusum {
    pub(super) fn new(options: &CusumOptions) -> Self {
        Self {
            baseline: Baseline::default(),
            sums: [options.head_start * options.h; 2],
            runs: [0; 2],
        }
    }

    pub(super) fn take(&mut self, options: &CusumOptions, value: f64) -> Value {
        let learning = self.baseline.takes(&options.normal);
        let normal = self.baseline.take(&options.normal, value);
        let (Some((target, sigma)), false) = (normal, learning) else {
            return row([
                Value::Null,
                Value::Null,
                Value::Int(0),
                Value::Int(0),
                Value::Null,
            ]);
        };
        let z = standard(value, target, sigma);
        // Where no deviation is known one value is enough for a signal, and is not to signal for ever.
        let enough = options.k + options.h + 1.0;
        let z = if sigma > 0.0 {
            z
        } else {
            z.clamp(-enough, enough)
        };
        for (i, z) in [z, -z].into_iter().enumerate() {
            self.sums[i] = (self.sums[i] + z - options.k).max(0.0);
            self.runs[i] = if self.sums[i] > 0.0 {
                self.runs[i].saturating_add(1)
            } else {
                0
            };
        }
        let signal = if self.sums[0] > options.h {
            Some(HIGH)
        } else if self.sums[1] > options.h {
            Some(LOW)
        } else {
            None
        };
        let result = row([
            Value::Double(self.sums[0]),
            Value::Double(self.sums[1]),
            Value::Int(self.runs[0]),
            Value::Int(self.runs[1]),
            text(signal),
        ]);
        if signal.is_some() && options.restart {
            self.sums = [options.head_start * options.h; 2];
            self.runs = [0; 2];
        }
        result
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.baseline.encode(out);
        self.sums.iter().for_each(|sum| out.f64(*sum));
        self.runs.iter().for_each(|run| out.i64(*run));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            baseline: Baseline::decode(from)?,
            sums: [from.f64()?, from.f64()?],
            runs: [from.i64()?, from.i64()?],
        })
    }
}

/// A value in standard deviations from the target.
pub(super) fn standard(value: f64, target: f64, sigma: f64) -> f64 {
    let off = value - target;
    if sigma > 0.0 {
        (off / sigma).clamp(-UNKNOWN_SCALE, UNKNOWN_SCALE)
    } else if off == 0.0 {
        0.0
    } else {
        // No deviation is known: any is beyond all bounds.
        UNKNOWN_SCALE.copysign(off)
    }
}

/// The chart of the exponentially weighted mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EwmaChart {
    baseline: Baseline,
    /// The mean; the target before the first value.
    mean: Option<f64>,
    /// What is left of the weight of the start: `(1 - lambda)^(2 i)`.
    left: f64,
}

impl EwmaChart {
    pub(super) fn new(options: &EwmaOptions) -> Self {
        Self {
            baseline: Baseline::default(),
            mean: None,
            left: if options.asymptotic { 0.0 } else { 1.0 },
        }
    }

    pub(super) fn take(&mut self, options: &EwmaOptions, value: f64) -> Value {
        let learning = self.baseline.takes(&options.normal);
        let normal = self.baseline.take(&options.normal, value);
        let (Some((target, sigma)), false) = (normal, learning) else {
            return row([Value::Null, Value::Null, Value::Null, Value::Null]);
        };
        let lambda = options.lambda;
        let mean = self.mean.unwrap_or(target);
        // In this form a value at the mean leaves it exactly where it is.
        let mean = mean + lambda * (value - mean);
        self.mean = Some(mean);
        self.left *= (1.0 - lambda) * (1.0 - lambda);
        let width = options.width * sigma * (lambda / (2.0 - lambda) * (1.0 - self.left)).sqrt();
        let (lower, upper) = (target - width, target + width);
        row([
            Value::Double(mean),
            Value::Double(lower),
            Value::Double(upper),
            text(side(mean, lower, upper)),
        ])
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.baseline.encode(out);
        out.bool(self.mean.is_some());
        out.f64(self.mean.unwrap_or_default());
        out.f64(self.left);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            baseline: Baseline::decode(from)?,
            mean: {
                let known = from.bool()?;
                Some(from.f64()?).filter(|_| known)
            },
            left: from.f64()?,
        })
    }
}

/// The chart of individual values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shewhart {
    baseline: Baseline,
    last: Option<f64>,
}

impl Shewhart {
    pub(super) fn take(&mut self, normal: &Normal, width: f64, value: f64) -> Value {
        let learning = self.baseline.takes(normal);
        let known = self.baseline.take(normal, value);
        let range = self.last.replace(value).map(|last| (value - last).abs());
        let limits = known.map(|(center, sigma)| {
            let width = width * sigma;
            (center, center - width, center + width)
        });
        let signal = limits.filter(|_| !learning);
        let signal = signal.and_then(|(_, lower, upper)| side(value, lower, upper));
        row([
            double(limits.map(|(center, ..)| center)),
            double(limits.map(|(_, lower, _)| lower)),
            double(limits.map(|(.., upper)| upper)),
            double(range),
            text(signal),
        ])
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.baseline.encode(out);
        out.bool(self.last.is_some());
        out.f64(self.last.unwrap_or_default());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            baseline: Baseline::decode(from)?,
            last: {
                let known = from.bool()?;
                Some(from.f64()?).filter(|_| known)
            },
        })
    }
}
