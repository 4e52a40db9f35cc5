//! What lets an accumulator be small: a count in six bytes, and most values in one byte and eight.
//!
//! Each key has an accumulator for every aggregate and open pane, so that sixteen bytes and not thirty-two are worth a
//! number in two pieces.

use super::exact::Sum;
use super::kind::{Kind, better};
use crate::plan::Aggregate;
use crate::types::Value;

/// A count of rows. At a million rows a second of one key it is full after nine years, and stays so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rows([u16; 3]);

impl Rows {
    const MOST: u64 = (1 << 48) - 1;

    pub(super) const fn new(count: u64) -> Self {
        let count = if count > Self::MOST {
            Self::MOST
        } else {
            count
        };
        // Each takes its sixteen bits.
        Self([count as u16, (count >> 16) as u16, (count >> 32) as u16])
    }

    #[inline]
    pub(super) const fn get(self) -> u64 {
        let Self([low, middle, high]) = self;
        low as u64 | (middle as u64) << 16 | (high as u64) << 32
    }

    #[inline]
    pub(super) fn add(&mut self, more: u64) {
        *self = Self::new(self.get().saturating_add(more));
    }
}

/// What a value is of which eight bytes say the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool,
    Int,
    Float,
    Double,
    Date,
    Time,
    Timestamp,
    Interval,
    Months,
}

impl Plain {
    /// A value in parts; `None` if it is of another kind.
    pub(super) fn of(value: &Value) -> Option<(Self, u64)> {
        // The bits are kept, whatever they mean.
        Some(match value {
            Value::Null => (Self::Null, 0),
            Value::Bool(yes) => (Self::Bool, u64::from(*yes)),
            Value::Int(number) => (Self::Int, *number as u64),
            Value::Float(number) => (Self::Float, u64::from(number.to_bits())),
            Value::Double(number) => (Self::Double, number.to_bits()),
            Value::Date(days) => (Self::Date, *days as u64),
            Value::Time(micros) => (Self::Time, *micros as u64),
            Value::Timestamp(micros) => (Self::Timestamp, *micros as u64),
            Value::Interval(micros) => (Self::Interval, *micros as u64),
            Value::Months(months) => (Self::Months, *months as u64),
            Value::Decimal(_)
            | Value::Str(_)
            | Value::Bytes(_)
            | Value::Array(_)
            | Value::Map(_)
            | Value::Row(_) => return None,
        })
    }

    /// The value of these parts.
    pub(super) fn value(self, bits: u64) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool => Value::Bool(bits != 0),
            Self::Int => Value::Int(bits as i64),
            Self::Float => Value::Float(f32::from_bits(bits as u32)),
            Self::Double => Value::Double(f64::from_bits(bits)),
            Self::Date => Value::Date(bits as i32),
            Self::Time => Value::Time(bits as i64),
            Self::Timestamp => Value::Timestamp(bits as i64),
            Self::Interval => Value::Interval(bits as i64),
            Self::Months => Value::Months(bits as i32),
        }
    }
}

impl Kind {
    /// A sum in its smallest form.
    pub(super) fn of_sum(sum: Sum) -> Self {
        match i64::try_from(sum.sum) {
            Ok(small) => Self::Exact {
                count: Rows::new(sum.count),
                sum: small,
            },
            Err(_) => Self::Wide(Box::new(sum)),
        }
    }

    /// MIN or MAX of one value.
    pub(super) fn best(value: &Value) -> Self {
        match Plain::of(value) {
            Some((plain, bits)) => Self::Best { plain, bits },
            None => Self::BestOther(Box::new(value.clone())),
        }
    }

    /// `FIRST_VALUE` or `LAST_VALUE` of one that came then.
    pub(super) fn held(value: &Value, arrival: u32) -> Self {
        match Plain::of(value) {
            Some((plain, bits)) => Self::Held {
                plain,
                arrival,
                bits,
            },
            None => Self::HeldOther {
                arrival,
                value: Box::new(value.clone()),
            },
        }
    }

    /// The sum that is here, if one is.
    pub(super) fn sum(&self) -> Option<Sum> {
        match self {
            Self::Exact { count, sum } => Some(Sum {
                sum: i128::from(*sum),
                count: count.get(),
            }),
            Self::Wide(sum) => Some(**sum),
            _ => None,
        }
    }

    /// The value that is kept as it came, if one is.
    pub(super) fn kept(&self) -> Option<Value> {
        match self {
            Self::Best { plain, bits } | Self::Held { plain, bits, .. } => Some(plain.value(*bits)),
            Self::BestOther(value) | Self::HeldOther { value, .. } => Some((**value).clone()),
            _ => None,
        }
    }

    /// When the value that is held came.
    pub(super) const fn arrival(&self) -> u32 {
        match self {
            Self::Held { arrival, .. } | Self::HeldOther { arrival, .. } => *arrival,
            _ => 0,
        }
    }

    /// Takes a value for MIN or MAX.
    pub(super) fn challenge(&mut self, aggregate: &Aggregate, value: &Value) {
        let wins = match self {
            Self::BestOther(best) => better(aggregate, value, best),
            Self::Best { plain, bits } => better(aggregate, value, &plain.value(*bits)),
            _ => false,
        };
        if wins {
            *self = Self::best(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_counts_come_back_from_their_parts() {
        for value in [
            Value::Null,
            Value::Bool(true),
            Value::Int(-1),
            Value::Int(i64::MIN),
            Value::Float(-0.5),
            Value::Double(-0.0),
            Value::Date(-1),
            Value::Time(i64::MAX),
            Value::Timestamp(-1),
            Value::Interval(7),
            Value::Months(i32::MIN),
        ] {
            let (plain, bits) = Plain::of(&value).expect("it is plain");
            assert_eq!(plain.value(bits), value);
        }
        assert_eq!(Plain::of(&Value::str("")), None);
        let mut rows = Rows::default();
        for more in [0xffff, 1, 0xffff_ffff, 7] {
            rows.add(more);
        }
        assert_eq!(rows.get(), 0x1_0001_0006);
        rows.add(u64::MAX);
        rows.add(1);
        assert_eq!(rows.get(), Rows::MOST);
    }
}
