//! The type rules: which types meet in which, what may be cast, and how wide a DECIMAL becomes. As in Flink.

// A table of rules reads best with one line for each rule.
#![allow(clippy::match_same_arms)]

use std::sync::Arc;

use crate::types::{Field, Type};

use super::{Arithmetic, ResolveError};

/// Flink's greatest precision. Values carry at most 28 digits; a result that needs more is an error for its row.
const MAX_PRECISION: u8 = 38;
/// The greatest scale a value can carry.
const MAX_SCALE: u8 = 28;

/// The type in which values of both types can be compared or stand in one column; `None` if there is none.
pub fn common_type(left: &Type, right: &Type) -> Option<Type> {
    use Type as T;
    if left == right {
        return Some(left.clone());
    }
    Some(match (left, right) {
        (T::Null, other) | (other, T::Null) => other.clone(),
        (a, b) if a.is_numeric() && b.is_numeric() => common_number(a, b),
        (T::Timestamp { precision: a }, T::Timestamp { precision: b }) => T::Timestamp {
            precision: *a.max(b),
        },
        (
            T::TimestampLtz { precision: a },
            T::TimestampLtz { precision: b } | T::Timestamp { precision: b },
        )
        | (T::Timestamp { precision: a }, T::TimestampLtz { precision: b }) => T::TimestampLtz {
            precision: *a.max(b),
        },
        (T::Date, time) | (time, T::Date) if time.is_timestamp() => time.clone(),
        (T::Time { precision: a }, T::Time { precision: b }) => T::Time {
            precision: *a.max(b),
        },
        (T::Array(a), T::Array(b)) => T::Array(Arc::new(common_type(a, b)?)),
        (T::Map(ka, va), T::Map(kb, vb)) => T::Map(
            Arc::new(common_type(ka, kb)?),
            Arc::new(common_type(va, vb)?),
        ),
        (T::Row(a), T::Row(b)) if a.len() == b.len() => {
            let fields: Option<Vec<Field>> = a
                .iter()
                .zip(b.iter())
                .map(|(x, y)| {
                    Some(Field {
                        name: x.name.clone(),
                        ty: common_type(&x.ty, &y.ty)?,
                    })
                })
                .collect();
            T::Row(fields?.into())
        }
        _ => return None,
    })
}

fn common_number(left: &Type, right: &Type) -> Type {
    use Type as T;
    match (left, right) {
        (T::Double, _) | (_, T::Double) => T::Double,
        (T::Float, T::Decimal { .. }) | (T::Decimal { .. }, T::Float) => T::Double,
        (T::Float, _) | (_, T::Float) => T::Float,
        (a, b) if a.is_integer() && b.is_integer() => wider_integer(a, b),
        (a, b) => {
            let ((pa, sa), (pb, sb)) = (as_decimal(a), as_decimal(b));
            let scale = sa.max(sb);
            decimal((pa - sa).max(pb - sb) + scale, scale)
        }
    }
}

fn wider_integer(left: &Type, right: &Type) -> Type {
    if left.integer_range() >= right.integer_range() {
        // Ranges order by their least value first: the wider one is the smaller tuple.
        right.clone()
    } else {
        left.clone()
    }
}

/// Precision and scale of an exact number.
fn as_decimal(ty: &Type) -> (u8, u8) {
    match ty {
        Type::Decimal { precision, scale } => (*precision, *scale),
        Type::TinyInt => (3, 0),
        Type::SmallInt => (5, 0),
        Type::Int => (10, 0),
        _ => (19, 0),
    }
}

/// A DECIMAL of at most Flink's precision: digits before the point are kept at the cost of those after it.
pub(super) fn decimal(precision: u8, scale: u8) -> Type {
    let (mut p, mut s) = (precision, scale);
    if p > MAX_PRECISION {
        let whole = p - s;
        s = MAX_PRECISION.saturating_sub(whole).max(s.min(6));
        p = MAX_PRECISION;
    }
    if s > MAX_SCALE {
        p -= s - MAX_SCALE;
        s = MAX_SCALE;
    }
    Type::Decimal {
        precision: p,
        scale: s,
    }
}

/// The type of `left op right`.
pub(super) fn arithmetic_type(
    op: Arithmetic,
    left: &Type,
    right: &Type,
) -> Result<Type, ResolveError> {
    use Arithmetic as A;
    use Type as T;
    match (left, right) {
        (T::Null, T::Null) => return Ok(T::Int),
        (T::Null, other) | (other, T::Null) if other.is_numeric() => return Ok(other.clone()),
        _ => {}
    }
    if left.is_numeric() && right.is_numeric() {
        let exact = |t: &T| t.is_integer() || matches!(t, T::Decimal { .. });
        let any_decimal = matches!(left, T::Decimal { .. }) || matches!(right, T::Decimal { .. });
        if any_decimal && exact(left) && exact(right) {
            return Ok(decimal_result(op, as_decimal(left), as_decimal(right)));
        }
        if op == A::Rem && left.is_integer() && right.is_integer() {
            return Ok(right.clone());
        }
        return Ok(common_number(left, right));
    }
    let span = |t: &T| matches!(t, T::IntervalDayTime | T::IntervalYearMonth);
    let point = |t: &T| t.is_timestamp() || matches!(t, T::Date | T::Time { .. });
    match op {
        A::Add if point(left) && span(right) && !is_time_by_months(left, right) => Ok(left.clone()),
        A::Add if span(left) && point(right) && !is_time_by_months(right, left) => {
            Ok(right.clone())
        }
        A::Sub if point(left) && span(right) && !is_time_by_months(left, right) => Ok(left.clone()),
        A::Sub if left.is_timestamp() && right.is_timestamp() => Ok(T::IntervalDayTime),
        A::Sub
            if matches!(
                (left, right),
                (T::Date, T::Date) | (T::Time { .. }, T::Time { .. })
            ) =>
        {
            Ok(T::IntervalDayTime)
        }
        A::Add | A::Sub if span(left) && left == right => Ok(left.clone()),
        A::Mul if span(left) && right.is_integer() => Ok(left.clone()),
        A::Mul if left.is_integer() && span(right) => Ok(right.clone()),
        A::Div if span(left) && right.is_integer() => Ok(left.clone()),
        _ => Err(ResolveError {
            message: format!("{} is not defined for {left} and {right}", op.sign()),
            hint: arithmetic_hint(op, left, right),
        }),
    }
}

fn is_time_by_months(point: &Type, span: &Type) -> bool {
    matches!((point, span), (Type::Time { .. }, Type::IntervalYearMonth))
}

fn arithmetic_hint(op: Arithmetic, left: &Type, right: &Type) -> Option<String> {
    let text = |t: &Type| *t == Type::String;
    if op == Arithmetic::Add && text(left) && text(right) {
        return Some("use || to join strings".to_owned());
    }
    if text(left) || text(right) {
        return Some(
            "convert the text first: CAST(… AS DOUBLE), or TRY_CAST for NULL where it is no number"
                .to_owned(),
        );
    }
    if (left.is_timestamp() && right.is_numeric()) || (right.is_timestamp() && left.is_numeric()) {
        return Some("move a timestamp by an interval: ts + INTERVAL '5' SECOND".to_owned());
    }
    None
}

fn decimal_result(op: Arithmetic, (p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> Type {
    match op {
        Arithmetic::Add | Arithmetic::Sub => {
            let scale = s1.max(s2);
            decimal((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        Arithmetic::Mul => decimal(p1 + p2, s1 + s2),
        Arithmetic::Div => {
            let scale = (s1 + p2 + 1).max(6);
            decimal(p1 - s1 + s2 + scale, scale)
        }
        Arithmetic::Rem => {
            let scale = s1.max(s2);
            decimal((p1 - s1).min(p2 - s2) + scale, scale)
        }
    }
}

/// Whether `CAST(from AS to)` is defined; if not, what to do instead where there is something.
pub fn can_cast(from: &Type, to: &Type) -> Result<(), Option<&'static str>> {
    use Type as T;
    let time = |t: &T| t.is_timestamp() || matches!(t, T::Date | T::Time { .. });
    let span = |t: &T| matches!(t, T::IntervalDayTime | T::IntervalYearMonth);
    let possible = match (from, to) {
        (a, b) if a == b => true,
        (T::Null, _) => true,
        (_, T::String) => true,
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (T::Boolean, b) => b.is_numeric(),
        (a, T::Boolean) => a.is_numeric() || *a == T::String,
        (T::String, b) => b.is_numeric() || time(b) || span(b) || *b == T::Bytes,
        (T::Date, b) => b.is_timestamp(),
        (a, T::Date | T::Time { .. }) => {
            a.is_timestamp() || matches!((a, to), (T::Time { .. }, T::Time { .. }))
        }
        (a, b) if a.is_timestamp() && b.is_timestamp() => true,
        (T::Array(a), T::Array(b)) => return can_cast(a, b),
        (T::Map(ka, va), T::Map(kb, vb)) => return can_cast(ka, kb).and(can_cast(va, vb)),
        (T::Row(a), T::Row(b)) if a.len() == b.len() => {
            return a
                .iter()
                .zip(b.iter())
                .try_for_each(|(x, y)| can_cast(&x.ty, &y.ty));
        }
        _ => false,
    };
    if possible {
        return Ok(());
    }
    Err(match (from, to) {
        (a, b) if a.is_numeric() && b.is_timestamp() => Some(
            "use TO_TIMESTAMP_LTZ(number, 0) for seconds or TO_TIMESTAMP_LTZ(number, 3) for milliseconds",
        ),
        (a, b) if a.is_timestamp() && b.is_numeric() => {
            Some("use UNIX_TIMESTAMP(CAST(ts AS STRING)) for seconds, or EXTRACT(EPOCH FROM ts)")
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn dec(precision: u8, scale: u8) -> Type {
        Type::Decimal { precision, scale }
    }

    #[test]
    fn numbers_meet_as_in_flink() {
        use Type as T;
        for (a, b, common) in [
            (T::Int, T::BigInt, T::BigInt),
            (T::TinyInt, T::SmallInt, T::SmallInt),
            (T::Int, T::Double, T::Double),
            (T::Int, T::Float, T::Float),
            (dec(10, 2), T::Float, T::Double),
            (dec(10, 2), T::Int, dec(12, 2)),
            (T::Null, T::String, T::String),
        ] {
            assert_eq!(common_type(&a, &b), Some(common.clone()), "{a} {b}");
            assert_eq!(common_type(&b, &a), Some(common), "{b} {a}");
        }
        assert_eq!(common_type(&T::Int, &T::String), None);
    }

    #[test]
    fn decimals_grow_as_in_flink() {
        for (op, expected) in [
            (Arithmetic::Add, dec(11, 2)),
            (Arithmetic::Mul, dec(20, 4)),
            (Arithmetic::Div, dec(23, 13)),
            (Arithmetic::Rem, dec(10, 2)),
        ] {
            assert_eq!(arithmetic_type(op, &dec(10, 2), &dec(10, 2)), Ok(expected));
        }
        assert_eq!(
            arithmetic_type(Arithmetic::Mul, &dec(38, 10), &dec(38, 10)),
            Ok(dec(38, 6))
        );
        assert!(arithmetic_type(Arithmetic::Add, &Type::String, &Type::Int).is_err());
    }
}
