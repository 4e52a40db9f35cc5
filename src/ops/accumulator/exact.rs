//! Sums and sums of squares that are exact: of integers, DECIMALs and intervals.
//!
//! A DECIMAL(p, s) is the integer of its digits at scale s, so everything here is an integer of 128 bits. What is
//! exact can also be taken back: `add` of a count of −1 undoes `add`. An overflow of 128 bits is an error; a sum that
//! comes back into the range of its type (MAX + 1 − 1) is none, since only the result is checked.

use rust_decimal::Decimal;

use super::failure::Failure;
use super::moments::Spread;
use crate::plan::{Aggregate, AggregateFunction};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{Type, Value};

/// The scale at which the digits of a type are summed.
fn scale_of(ty: &Type) -> u32 {
    match ty {
        Type::Decimal { scale, .. } => u32::from(*scale).min(Decimal::MAX_SCALE),
        _ => 0,
    }
}

/// The digits of a value at the scale of its type.
fn digits(value: &Value, ty: &Type) -> Result<i128, Failure> {
    Ok(match value {
        Value::Int(number) | Value::Interval(number) => i128::from(*number),
        Value::Months(months) => i128::from(*months),
        Value::Decimal(number) => {
            let scale = scale_of(ty);
            let number = number.round_dp(scale);
            10_i128
                .checked_pow(scale - number.scale())
                .and_then(|power| number.mantissa().checked_mul(power))
                .ok_or(Failure::Overflow)?
        }
        _ => 0,
    })
}

/// SUM and AVG.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) sum: i128,
    pub(super) count: u64,
}

impl Sum {
    /// Adds a value once, or with `undo` takes it back.
    pub(super) fn add(&mut self, value: &Value, ty: &Type, undo: bool) -> Result<(), Failure> {
        let number = digits(value, ty)?;
        let number = if undo { -number } else { number };
        self.sum = self.sum.checked_add(number).ok_or(Failure::Overflow)?;
        self.count = moved(self.count, undo);
        Ok(())
    }

    pub(super) fn merge(&mut self, later: &Self) -> Result<(), Failure> {
        self.sum = self.sum.checked_add(later.sum).ok_or(Failure::Overflow)?;
        self.count += later.count;
        Ok(())
    }

    pub(super) fn result(&self, aggregate: &Aggregate) -> Result<Value, String> {
        if self.count == 0 {
            return Ok(Value::Null);
        }
        let sum = self.sum;
        let average = aggregate.function == AggregateFunction::Avg;
        let number = if average {
            sum / i128::from(self.count) // towards zero, as in Flink
        } else {
            sum
        };
        let unfit =
            |remedy: &str| format!("the sum {number} does not fit {}; {remedy}", aggregate.ty);
        match &aggregate.ty {
            Type::Decimal { scale, .. } => {
                let to = u32::from(*scale).min(Decimal::MAX_SCALE);
                let from = aggregate.argument_types.first().map_or(0, scale_of);
                let shifted = 10_i128
                    .checked_pow(to.saturating_sub(from))
                    .and_then(|power| sum.checked_mul(power));
                let divisor = if average { i128::from(self.count) } else { 1 };
                shifted
                    .map(|sum| rounded_quotient(sum, divisor))
                    .and_then(|number| Decimal::try_from_i128_with_scale(number, to).ok())
                    .map(Value::Decimal)
                    .ok_or_else(|| {
                        let what = if average { "average" } else { "sum" };
                        format!("the {what} needs more than 28 digits; cast the argument to DOUBLE")
                    })
            }
            Type::IntervalYearMonth => i32::try_from(number)
                .map(Value::Months)
                .map_err(|_| unfit("sum fewer rows")),
            Type::IntervalDayTime => i64::try_from(number)
                .map(Value::Interval)
                .map_err(|_| unfit("sum fewer rows")),
            ty => {
                let (least, greatest) = ty.integer_range().unwrap_or((i64::MIN, i64::MAX));
                i64::try_from(number)
                    .ok()
                    .filter(|number| (least..=greatest).contains(number))
                    .map(Value::Int)
                    .ok_or_else(|| {
                        unfit(if *ty == Type::BigInt {
                            "cast the argument to DECIMAL(38, 0)"
                        } else {
                            "cast the argument to BIGINT"
                        })
                    })
            }
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.count + 1); // 0 is what failures begin with
        out.i128(self.sum);
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            sum: from.i128()?,
            count: first - 1,
        })
    }
}

/// A count after one more, or one less.
pub(super) const fn moved(count: u64, undo: bool) -> u64 {
    if undo {
        count.saturating_sub(1)
    } else {
        count + 1
    }
}

/// `number / by`, halves away from zero.
fn rounded_quotient(number: i128, by: i128) -> i128 {
    let (quotient, rest) = (number / by, number % by);
    // |rest| < by ≤ 2^64, so doubling it does not overflow.
    if rest.abs() * 2 >= by {
        quotient + number.signum()
    } else {
        quotient
    }
}

/// The variance of integers and DECIMALs: from exact sums, so that it can be taken back and does not depend on order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Squares {
    sum: i128,
    second_power: i128,
    count: u64,
}

impl Squares {
    /// Adds a value once, or with `undo` takes it back.
    pub(super) fn add(&mut self, value: &Value, ty: &Type, undo: bool) -> Result<(), Failure> {
        let number = digits(value, ty)?;
        let square = number.checked_mul(number).ok_or(Failure::Squares)?;
        let (number, square) = if undo {
            (-number, -square)
        } else {
            (number, square)
        };
        // Both or none are changed.
        let sum = self.sum.checked_add(number).ok_or(Failure::Squares)?;
        self.second_power = self
            .second_power
            .checked_add(square)
            .ok_or(Failure::Squares)?;
        self.sum = sum;
        self.count = moved(self.count, undo);
        Ok(())
    }

    pub(super) fn merge(&mut self, later: &Self) -> Result<(), Failure> {
        let sum = self.sum.checked_add(later.sum).ok_or(Failure::Squares)?;
        let squares = self.second_power.checked_add(later.second_power);
        self.second_power = squares.ok_or(Failure::Squares)?;
        self.sum = sum;
        self.count += later.count;
        Ok(())
    }

    /// How many, and the sum of the squared distances from the mean.
    pub(super) fn spread(&self, ty: &Type) -> Spread {
        let count = i128::from(self.count);
        if count == 0 {
            return Spread::default();
        }
        // Around the whole number nearest below the mean, so that nothing cancels: with q = sum div n and r = sum mod n
        // it is Σx² − q·sum − q·r − r²/n.
        let (mean, rest) = (self.sum.div_euclid(count), self.sum.rem_euclid(count));
        let whole = mean
            .checked_mul(self.sum)
            .and_then(|product| self.second_power.checked_sub(product))
            .and_then(|left| left.checked_sub(mean.checked_mul(rest)?));
        let around = whole.and_then(|whole| {
            let exact = whole
                .checked_mul(count)?
                .checked_sub(rest.checked_mul(rest)?)?;
            Some(exact as f64 / count as f64)
        });
        let distances = around.unwrap_or_else(|| {
            let (sum, count) = (self.sum as f64, count as f64);
            (self.second_power as f64 - sum * sum / count).max(0.0)
        });
        Spread {
            count: self.count,
            distances: distances / 100_f64.powi(scale_of(ty) as i32), // at most 28
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.count + 1);
        out.i128(self.sum);
        out.i128(self.second_power);
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            sum: from.i128()?,
            second_power: from.i128()?,
            count: first - 1,
        })
    }
}
