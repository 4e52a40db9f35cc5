//! The running value of one aggregate over one pane of one key.
//!
//! Invariant: `merge` of two accumulators is the accumulator of both inputs, the left one first, so that a hopping
//! window can be put together from panes. Overflow is remembered and becomes an error of the result, never a wrap.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::plan::{Aggregate, AggregateFunction};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{Type, Value};

/// A running aggregate.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Accumulator {
    Count(u64),
    Integers {
        sum: i64,
        count: u64,
    },
    Doubles {
        sum: f64,
        count: u64,
    },
    Decimals {
        sum: Decimal,
        count: u64,
    },
    /// MIN or MAX so far; NULL before the first value.
    Extreme {
        best: Value,
        greatest: bool,
    },
    Overflow,
}

impl Accumulator {
    pub(super) fn new(aggregate: &Aggregate) -> Self {
        use AggregateFunction as F;
        match (aggregate.function, &aggregate.argument_type) {
            (F::Count, _) => Self::Count(0),
            (F::Min, _) => Self::Extreme {
                best: Value::Null,
                greatest: false,
            },
            (F::Max, _) => Self::Extreme {
                best: Value::Null,
                greatest: true,
            },
            (F::Sum | F::Avg, Type::Decimal { .. }) => Self::Decimals {
                sum: Decimal::ZERO,
                count: 0,
            },
            (F::Sum | F::Avg, ty) if ty.is_integer() => Self::Integers { sum: 0, count: 0 },
            (F::Sum | F::Avg, _) => Self::Doubles { sum: 0.0, count: 0 },
        }
    }

    /// Takes a value that is not NULL (for `COUNT(*)` any value).
    pub(super) fn update(&mut self, value: &Value) {
        match self {
            Self::Count(count) => *count += 1,
            Self::Integers { sum, count } => {
                if let Value::Int(number) = value {
                    match sum.checked_add(*number) {
                        Some(total) => (*sum, *count) = (total, *count + 1),
                        None => *self = Self::Overflow,
                    }
                }
            }
            Self::Doubles { sum, count } => {
                let number = match value {
                    Value::Double(number) => *number,
                    Value::Float(number) => f64::from(*number),
                    _ => return,
                };
                *sum += number;
                *count += 1;
            }
            Self::Decimals { sum, count } => {
                if let Value::Decimal(number) = value {
                    match sum.checked_add(*number) {
                        Some(total) => (*sum, *count) = (total, *count + 1),
                        None => *self = Self::Overflow,
                    }
                }
            }
            Self::Extreme { best, greatest } => {
                let better = match value.compare(best) {
                    _ if best.is_null() => true,
                    Some(order) if *greatest => order.is_gt(),
                    Some(order) => order.is_lt(),
                    None => false,
                };
                if better {
                    *best = value.clone();
                }
            }
            Self::Overflow => {}
        }
    }

    /// Takes what `later` has taken.
    pub(super) fn merge(&mut self, later: &Self) {
        match (&mut *self, later) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (
                Self::Integers { sum, count },
                Self::Integers {
                    sum: more,
                    count: n,
                },
            ) => match sum.checked_add(*more) {
                Some(total) => (*sum, *count) = (total, *count + n),
                None => *self = Self::Overflow,
            },
            (
                Self::Doubles { sum, count },
                Self::Doubles {
                    sum: more,
                    count: n,
                },
            ) => {
                *sum += more;
                *count += n;
            }
            (
                Self::Decimals { sum, count },
                Self::Decimals {
                    sum: more,
                    count: n,
                },
            ) => match sum.checked_add(*more) {
                Some(total) => (*sum, *count) = (total, *count + n),
                None => *self = Self::Overflow,
            },
            (Self::Extreme { .. }, Self::Extreme { best, .. }) => {
                if !best.is_null() {
                    self.update(best);
                }
            }
            // Accumulators of one aggregate are of one kind, or have overflowed.
            _ => *self = Self::Overflow,
        }
    }

    /// The aggregate's value, or why there is none.
    pub(super) fn result(&self, aggregate: &Aggregate) -> Result<Value, String> {
        let average = aggregate.function == AggregateFunction::Avg;
        match self {
            Self::Count(count) => Ok(Value::Int(*count as i64)),
            Self::Extreme { best, .. } => Ok(best.clone()),
            Self::Integers { count: 0, .. }
            | Self::Doubles { count: 0, .. }
            | Self::Decimals { count: 0, .. } => Ok(Value::Null),
            Self::Integers { sum, count } => {
                let number = if average { sum / (*count as i64) } else { *sum };
                match aggregate.ty.integer_range() {
                    Some((least, greatest)) if !(least..=greatest).contains(&number) => {
                        Err(format!(
                            "the sum {number} does not fit {}; cast the argument to BIGINT",
                            aggregate.ty
                        ))
                    }
                    _ => Ok(Value::Int(number)),
                }
            }
            Self::Doubles { sum, count } => {
                let number = if average { sum / *count as f64 } else { *sum };
                Ok(match aggregate.ty {
                    Type::Float => Value::Float(number as f32),
                    _ => Value::Double(number),
                })
            }
            Self::Decimals { sum, count } => {
                let number = if average {
                    sum.checked_div(Decimal::from(*count))
                        .ok_or("the average overflows DECIMAL")?
                } else {
                    *sum
                };
                let scale = if let Type::Decimal { scale, .. } = aggregate.ty {
                    scale
                } else {
                    0
                };
                let strategy = RoundingStrategy::MidpointAwayFromZero;
                let mut number = number.round_dp_with_strategy(u32::from(scale), strategy);
                // A DECIMAL(38, 6) has six digits, also where they are zeros.
                number.rescale(u32::from(scale).min(Decimal::MAX_SCALE));
                Ok(Value::Decimal(number))
            }
            Self::Overflow => Err("the sum overflows; cast the argument to DOUBLE".to_owned()),
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Count(count) => out.u64(*count),
            Self::Integers { sum, count } => {
                out.u64(count + 1);
                out.i64(*sum);
            }
            Self::Doubles { sum, count } => {
                out.u64(count + 1);
                out.f64(*sum);
            }
            Self::Decimals { sum, count } => {
                out.u64(count + 1);
                out.value(&Value::Decimal(*sum));
            }
            Self::Extreme { best, .. } => out.value(best),
            // No count is written as 0, and none reaches it.
            Self::Overflow => out.u64(0),
        }
    }

    /// Reads what `encode` wrote of an accumulator like `self`, an empty one of the same aggregate.
    pub(super) fn decode(&self, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let count = match self {
            Self::Count(_) => return Ok(Self::Count(from.u64()?)),
            Self::Extreme { greatest, .. } => {
                return Ok(Self::Extreme {
                    best: from.value()?,
                    greatest: *greatest,
                });
            }
            _ => from.u64()?,
        };
        let Some(count) = count.checked_sub(1) else {
            return Ok(Self::Overflow);
        };
        Ok(match self {
            Self::Integers { .. } => Self::Integers {
                sum: from.i64()?,
                count,
            },
            Self::Doubles { .. } => Self::Doubles {
                sum: from.f64()?,
                count,
            },
            _ => match from.value()? {
                Value::Decimal(sum) => Self::Decimals { sum, count },
                _ => Self::Overflow,
            },
        })
    }
}
