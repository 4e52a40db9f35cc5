//! The order and equality of values of one type.
//!
//! Numbers of different representation compare exactly where that is cheap, so that an INT column against a
//! BIGINT one needs no cast. NaN compares false with everything, as in Flink's generated code.

use std::cmp::Ordering;

use crate::types::Value;

use super::Comparison;

impl Comparison {
    /// Whether `left op right` holds; `None` for SQL's unknown.
    #[inline]
    pub fn holds(self, left: &Value, right: &Value) -> Option<bool> {
        match (left, right) {
            // What most conditions on readings compare.
            (Value::Double(left), Value::Double(right)) => {
                Some(self.meets(left.partial_cmp(right)))
            }
            (Value::Int(left), Value::Int(right)) => Some(self.meets(Some(left.cmp(right)))),
            (Value::Null, _) | (_, Value::Null) => None,
            _ => Some(self.meets(order(left, right))),
        }
    }

    /// Whether it holds for operands that stand like this to each other; `None` where there is no order.
    #[inline]
    fn meets(self, order: Option<Ordering>) -> bool {
        match order {
            Some(order) => match self {
                Self::Eq => order.is_eq(),
                Self::NotEq => order.is_ne(),
                Self::Lt => order.is_lt(),
                Self::LtEq => order.is_le(),
                Self::Gt => order.is_gt(),
                Self::GtEq => order.is_ge(),
            },
            None => self == Self::NotEq,
        }
    }

    /// The sign as SQL writes it.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        }
    }

    /// The comparison that holds for swapped operands.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Eq => Self::Eq,
            Self::NotEq => Self::NotEq,
            Self::Lt => Self::Gt,
            Self::LtEq => Self::GtEq,
            Self::Gt => Self::Lt,
            Self::GtEq => Self::LtEq,
        }
    }
}

/// The order of two values of one type that are not NULL; `None` where there is none (NaN). NULLs inside of arrays
/// and rows equal each other and come first.
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    use Value as V;
    match (left, right) {
        (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
        (V::Int(a), V::Int(b)) | (V::Time(a), V::Time(b)) | (V::Timestamp(a), V::Timestamp(b)) => {
            Some(a.cmp(b))
        }
        (V::Interval(a), V::Interval(b)) => Some(a.cmp(b)),
        (V::Months(a), V::Months(b)) | (V::Date(a), V::Date(b)) => Some(a.cmp(b)),
        (V::Double(a), V::Double(b)) => a.partial_cmp(b),
        (V::Float(a), V::Float(b)) => a.partial_cmp(b),
        (V::Float(a), V::Double(b)) => f64::from(*a).partial_cmp(b),
        (V::Double(a), V::Float(b)) => a.partial_cmp(&f64::from(*b)),
        (V::Decimal(a), V::Decimal(b)) => Some(a.cmp(b)),
        (V::Decimal(a), V::Int(b)) => Some(a.cmp(&(*b).into())),
        (V::Int(a), V::Decimal(b)) => Some(rust_decimal::Decimal::from(*a).cmp(b)),
        (V::Str(a), V::Str(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (V::Bytes(a), V::Bytes(b)) => Some(a.cmp(b)),
        (V::Array(a), V::Array(b)) | (V::Row(a), V::Row(b)) => order_all(a, b),
        (V::Map(a), V::Map(b)) => map_equal(a, b).then_some(Ordering::Equal),
        (V::Null, V::Null) => Some(Ordering::Equal),
        (V::Null, _) => Some(Ordering::Less),
        (_, V::Null) => Some(Ordering::Greater),
        _ => None,
    }
}

/// A value in a total order, for sets and sorting: NULL equals NULL and comes first, NaN equals NaN and comes last.
#[derive(Clone, Copy)]
pub(super) struct Ordered<'a>(pub(super) &'a Value);

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        total_order(self.0, other.0)
    }
}

impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered<'_> {}

/// The order of two values of one type: NULL equals NULL and comes first, NaN equals NaN and comes last.
pub fn total_order(left: &Value, right: &Value) -> Ordering {
    use Value as V;
    let is_nan = |value: &Value| match value {
        V::Double(v) => v.is_nan(),
        V::Float(v) => v.is_nan(),
        _ => false,
    };
    match (left, right) {
        (V::Array(a), V::Array(b)) | (V::Row(a), V::Row(b)) => {
            a.iter().map(Ordered).cmp(b.iter().map(Ordered))
        }
        (V::Map(a), V::Map(b)) => sorted_entries(a).cmp(&sorted_entries(b)),
        _ => order(left, right).unwrap_or_else(|| is_nan(left).cmp(&is_nan(right))),
    }
}

/// The entries of a map in the order of their keys.
fn sorted_entries(entries: &[(Value, Value)]) -> Vec<(Ordered<'_>, Ordered<'_>)> {
    let pairs = entries
        .iter()
        .map(|(key, value)| (Ordered(key), Ordered(value)));
    let mut sorted: Vec<_> = pairs.collect();
    sorted.sort_unstable();
    sorted
}

fn order_all(left: &[Value], right: &[Value]) -> Option<Ordering> {
    for (a, b) in left.iter().zip(right) {
        match order(a, b)? {
            Ordering::Equal => {}
            other => return Some(other),
        }
    }
    Some(left.len().cmp(&right.len()))
}

/// Two maps are equal if they have the same entries in any order.
fn map_equal(left: &[(Value, Value)], right: &[(Value, Value)]) -> bool {
    left.len() == right.len()
        && left.iter().all(|(key, value)| {
            right.iter().any(|(k, v)| {
                order(key, k) == Some(Ordering::Equal) && order(value, v) == Some(Ordering::Equal)
            })
        })
}
