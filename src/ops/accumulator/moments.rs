//! Variance of doubles, and covariance, correlation and regression of pairs.
//!
//! Means and sums of squared distances are updated one value at a time (Welford 1962) and merged in pairs (Chan, Golub
//! and `LeVeque` 1979): stable where the sums of squares that textbooks use cancel. Values cannot be taken back without
//! drift, so sliding frames recompute.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::plan::{Aggregate, AggregateFunction};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{Type, Value};

/// How many values, and the sum of their squared distances from their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) count: u64,
    pub(super) distances: f64,
}

impl Spread {
    /// The variance or standard deviation that the aggregate asks for, in its type. NULL over no value, and over one
    /// for a sample.
    pub(super) fn result(self, aggregate: &Aggregate) -> Result<Value, String> {
        use AggregateFunction as F;
        let population = matches!(aggregate.function, F::StddevPop | F::VarPop);
        let degrees = if population {
            self.count
        } else {
            self.count.saturating_sub(1)
        };
        if degrees == 0 {
            return Ok(Value::Null);
        }
        let variance = self.distances / degrees as f64;
        let root = matches!(aggregate.function, F::StddevPop | F::StddevSamp);
        let number = if root { variance.sqrt() } else { variance };
        match aggregate.ty {
            Type::Float => Ok(Value::Float(number as f32)),
            Type::Decimal { scale, .. } => {
                let scale = u32::from(scale).min(Decimal::MAX_SCALE);
                let strategy = RoundingStrategy::MidpointAwayFromZero;
                let unfit =
                    || format!("{number} needs more than 28 digits; cast the argument to DOUBLE");
                let mut number = Decimal::try_from(number)
                    .map_err(|_| unfit())?
                    .round_dp_with_strategy(scale, strategy);
                number.rescale(scale);
                Ok(Value::Decimal(number))
            }
            _ => Ok(Value::Double(number)),
        }
    }
}

/// A number as a double; a time in seconds since 1970, so that slopes are per second.
pub(super) fn number(value: &Value) -> f64 {
    match value {
        Value::Double(number) => *number,
        Value::Float(number) => f64::from(*number),
        Value::Int(number) => *number as f64,
        Value::Timestamp(micros) => *micros as f64 / 1e6,
        // The planner casts all other numbers to DOUBLE.
        _ => f64::NAN,
    }
}

/// The variance of doubles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Moments {
    count: u64,
    mean: f64,
    distances: f64,
}

impl Moments {
    pub(super) fn add(&mut self, x: f64) {
        self.count += 1;
        let before = x - self.mean;
        self.mean += before / self.count as f64;
        self.distances += before * (x - self.mean);
    }

    pub(super) fn merge(&mut self, later: &Self) {
        if self.count == 0 {
            *self = *later;
        } else if later.count > 0 {
            let (n, m) = (self.count as f64, later.count as f64);
            let apart = later.mean - self.mean;
            self.mean += apart * (m / (n + m));
            self.distances += later.distances + apart * apart * (n * m / (n + m));
            self.count += later.count;
        }
    }

    pub(super) fn spread(&self) -> Spread {
        Spread {
            count: self.count,
            distances: self.distances,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.count + 1);
        out.f64(self.mean);
        out.f64(self.distances);
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            count: first - 1,
            mean: from.f64()?,
            distances: from.f64()?,
        })
    }
}

/// Two numbers of each row. In SQL the dependent one, y, comes first: `REGR_SLOPE(y, x)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pairs {
    count: u64,
    mean_y: f64,
    mean_x: f64,
    yy: f64,
    xx: f64,
    xy: f64,
}

impl Pairs {
    pub(super) fn add(&mut self, y: f64, x: f64) {
        self.count += 1;
        let n = self.count as f64;
        let (before_y, before_x) = (y - self.mean_y, x - self.mean_x);
        self.mean_y += before_y / n;
        self.mean_x += before_x / n;
        self.yy += before_y * (y - self.mean_y);
        self.xx += before_x * (x - self.mean_x);
        self.xy += before_x * (y - self.mean_y);
    }

    pub(super) fn merge(&mut self, later: &Self) {
        if self.count == 0 {
            *self = *later;
        } else if later.count > 0 {
            let (n, m) = (self.count as f64, later.count as f64);
            let (apart_y, apart_x) = (later.mean_y - self.mean_y, later.mean_x - self.mean_x);
            let weight = n * m / (n + m);
            self.mean_y += apart_y * (m / (n + m));
            self.mean_x += apart_x * (m / (n + m));
            self.yy += later.yy + apart_y * apart_y * weight;
            self.xx += later.xx + apart_x * apart_x * weight;
            self.xy += later.xy + apart_y * apart_x * weight;
            self.count += later.count;
        }
    }

    /// As SQL:2016 (4.16.4) has it: NULL over no pair, where all x are one (for CORR also all y), and for a sample of one.
    pub(super) fn result(&self, function: AggregateFunction) -> Value {
        use AggregateFunction as F;
        let n = self.count as f64;
        let (flat_x, flat_y) = (self.xx == 0.0, self.yy == 0.0);
        let number = match function {
            F::RegrCount => return Value::Int(self.count as i64),
            _ if self.count == 0 => return Value::Null,
            F::CovarPop => self.xy / n,
            F::CovarSamp if self.count > 1 => self.xy / (n - 1.0),
            F::CovarSamp => return Value::Null,
            F::Corr if flat_x || flat_y => return Value::Null,
            F::Corr => (self.xy / (self.xx.sqrt() * self.yy.sqrt())).clamp(-1.0, 1.0),
            _ if flat_x => return Value::Null,
            F::RegrSlope => self.xy / self.xx,
            F::RegrIntercept => self.mean_y - self.xy / self.xx * self.mean_x,
            _ if flat_y => 1.0,
            _ => (self.xy / self.xx * (self.xy / self.yy)).clamp(0.0, 1.0),
        };
        Value::Double(number)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.count + 1);
        for number in [self.mean_y, self.mean_x, self.yy, self.xx, self.xy] {
            out.f64(number);
        }
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            count: first - 1,
            mean_y: from.f64()?,
            mean_x: from.f64()?,
            yy: from.f64()?,
            xx: from.f64()?,
            xy: from.f64()?,
        })
    }
}
