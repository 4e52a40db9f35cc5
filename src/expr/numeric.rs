//! Arithmetic on numbers, intervals and points in time.
//!
//! Invariant: a result that does not fit its type is an error. DOUBLE and FLOAT follow IEEE 754 instead.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::types::{Type, Value};

use super::calendar::{self, MICROS_PER_DAY};
use super::{Arithmetic, EvalError};

/// `left op right` as a value of `ty`; NULL if either is NULL.
pub(super) fn arith(
    op: Arithmetic,
    ty: &Type,
    left: &Value,
    right: &Value,
) -> Result<Value, EvalError> {
    use Value as V;
    match (left, right) {
        (V::Null, _) | (_, V::Null) => return Ok(V::Null),
        (V::Int(a), V::Int(b)) if ty.is_integer() => return integer(op, ty, *a, *b),
        (V::Double(a), V::Double(b)) => return Ok(V::Double(double(op, *a, *b))),
        _ => {}
    }
    match ty {
        Type::Double => {
            let (a, b) = (to_f64(left)?, to_f64(right)?);
            Ok(V::Double(double(op, a, b)))
        }
        Type::Float => {
            let (a, b) = (to_f64(left)? as f32, to_f64(right)? as f32);
            Ok(V::Float(match op {
                Arithmetic::Add => a + b,
                Arithmetic::Sub => a - b,
                Arithmetic::Mul => a * b,
                Arithmetic::Div => a / b,
                Arithmetic::Rem => a % b,
            }))
        }
        Type::Decimal { precision, scale } => decimal(
            op,
            *precision,
            *scale,
            to_decimal(left)?,
            to_decimal(right)?,
        ),
        _ => time(op, ty, left, right),
    }
}

/// `-value`.
pub(super) fn negate(ty: &Type, value: &Value) -> Result<Value, EvalError> {
    match value {
        Value::Int(v) => integer(Arithmetic::Sub, ty, 0, *v),
        Value::Double(v) => Ok(Value::Double(-v)),
        Value::Float(v) => Ok(Value::Float(-v)),
        Value::Decimal(v) => Ok(Value::Decimal(-*v)),
        Value::Interval(v) => v
            .checked_neg()
            .map(Value::Interval)
            .ok_or_else(|| overflow(ty)),
        Value::Months(v) => v
            .checked_neg()
            .map(Value::Months)
            .ok_or_else(|| overflow(ty)),
        Value::Null => Ok(Value::Null),
        other => Err(mismatch("-", other)),
    }
}

fn integer(op: Arithmetic, ty: &Type, a: i64, b: i64) -> Result<Value, EvalError> {
    let result = match op {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Sub => a.checked_sub(b),
        Arithmetic::Mul => a.checked_mul(b),
        Arithmetic::Div | Arithmetic::Rem if b == 0 => {
            return Err(EvalError::new(format!(
                "division of {a} by zero (guard with NULLIF(divisor, 0) or cast to DOUBLE)"
            )));
        }
        Arithmetic::Div => a.checked_div(b),
        // The one case that overflows, MIN % -1, has the exact answer 0.
        Arithmetic::Rem => Some(a.wrapping_rem(b)),
    };
    result.map_or_else(|| Err(overflow(ty)), |value| checked_integer(ty, value))
}

/// An integer as a value of `ty`, if it fits.
pub(super) fn checked_integer(ty: &Type, value: i64) -> Result<Value, EvalError> {
    match ty.integer_range() {
        Some((least, greatest)) if !(least..=greatest).contains(&value) => Err(EvalError::new(
            format!("{value} does not fit {ty} (cast an operand to a wider type)"),
        )),
        _ => Ok(Value::Int(value)),
    }
}

fn double(op: Arithmetic, a: f64, b: f64) -> f64 {
    match op {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div => a / b,
        Arithmetic::Rem => a % b,
    }
}

fn decimal(
    op: Arithmetic,
    precision: u8,
    scale: u8,
    a: Decimal,
    b: Decimal,
) -> Result<Value, EvalError> {
    let result = match op {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Sub => a.checked_sub(b),
        Arithmetic::Mul => a.checked_mul(b),
        Arithmetic::Div | Arithmetic::Rem if b.is_zero() => {
            return Err(EvalError::new(format!(
                "division of {a} by zero (guard with NULLIF(divisor, 0))"
            )));
        }
        Arithmetic::Div => a.checked_div(b),
        Arithmetic::Rem => a.checked_rem(b),
    };
    let result = result.ok_or_else(|| overflow(&Type::Decimal { precision, scale }))?;
    fit_decimal(result, precision, scale).map(Value::Decimal)
}

/// `value` rounded half up to `scale` digits after the point and written with all of them.
pub(super) fn fit_decimal(value: Decimal, precision: u8, scale: u8) -> Result<Decimal, EvalError> {
    let mut fitted = value;
    if value.scale() != u32::from(scale) {
        fitted =
            value.round_dp_with_strategy(u32::from(scale), RoundingStrategy::MidpointAwayFromZero);
        fitted.rescale(u32::from(scale));
    }
    let whole = u32::from(precision.saturating_sub(scale));
    if whole <= 28 && fitted.trunc().abs() >= Decimal::from_i128_with_scale(10_i128.pow(whole), 0) {
        return Err(EvalError::new(format!(
            "{value} does not fit DECIMAL({precision}, {scale})"
        )));
    }
    Ok(fitted)
}

/// A number as the nearest DOUBLE.
pub(super) fn to_f64(value: &Value) -> Result<f64, EvalError> {
    match value {
        Value::Int(v) => Ok(*v as f64),
        Value::Double(v) => Ok(*v),
        Value::Float(v) => Ok(f64::from(*v)),
        Value::Decimal(v) => Ok(decimal_to_f64(v)),
        other => Err(mismatch("a number", other)),
    }
}

/// The DOUBLE nearest to a decimal. By way of text where mantissa or power of ten is not exact in a DOUBLE: the
/// quotient of two rounded numbers may be off by one unit.
pub(super) fn decimal_to_f64(value: &Decimal) -> f64 {
    const EXACT: i128 = 1 << 53;
    let (mantissa, scale) = (value.mantissa(), value.scale());
    if mantissa.abs() <= EXACT && scale <= 22 {
        return mantissa as f64 / 10_f64.powi(scale as i32);
    }
    value.to_string().parse().unwrap_or(f64::NAN)
}

/// A number that is exact.
pub(super) fn to_decimal(value: &Value) -> Result<Decimal, EvalError> {
    match value {
        Value::Int(v) => Ok(Decimal::from(*v)),
        Value::Decimal(v) => Ok(*v),
        other => Err(mismatch("an exact number", other)),
    }
}

fn time(op: Arithmetic, ty: &Type, left: &Value, right: &Value) -> Result<Value, EvalError> {
    use Arithmetic as A;
    use Value as V;
    let sum = |a: i64, b: i64| match op {
        A::Sub => a.checked_sub(b),
        _ => a.checked_add(b),
    };
    let fail = || overflow(ty);
    match (op, left, right) {
        (A::Add, V::Interval(_) | V::Months(_), V::Timestamp(_) | V::Date(_) | V::Time(_)) => {
            time(op, ty, right, left)
        }
        (A::Add | A::Sub, V::Timestamp(t), V::Interval(by)) => {
            calendar::checked_timestamp(sum(*t, *by).ok_or_else(fail)?).map(V::Timestamp)
        }
        (A::Add | A::Sub, V::Timestamp(t), V::Months(by)) => {
            let months = sum(0, i64::from(*by)).ok_or_else(fail)?;
            calendar::add_months(*t, months).map(V::Timestamp)
        }
        (A::Add | A::Sub, V::Date(d), V::Interval(by)) => {
            if by % MICROS_PER_DAY != 0 {
                return Err(EvalError::new(
                    "a DATE can only be moved by whole days (cast it to TIMESTAMP)",
                ));
            }
            let days = sum(i64::from(*d), by / MICROS_PER_DAY).ok_or_else(fail)?;
            calendar::checked_date(days).map(V::Date)
        }
        (A::Add | A::Sub, V::Date(d), V::Months(by)) => {
            let months = sum(0, i64::from(*by)).ok_or_else(fail)?;
            let moved = calendar::add_months(i64::from(*d) * MICROS_PER_DAY, months)?;
            calendar::checked_date(moved.div_euclid(MICROS_PER_DAY)).map(V::Date)
        }
        (A::Add | A::Sub, V::Time(t), V::Interval(by)) => Ok(V::Time(
            sum(*t, by % MICROS_PER_DAY)
                .ok_or_else(fail)?
                .rem_euclid(MICROS_PER_DAY),
        )),
        (A::Sub, V::Timestamp(a), V::Timestamp(b)) | (A::Sub, V::Time(a), V::Time(b)) => {
            a.checked_sub(*b).map(V::Interval).ok_or_else(fail)
        }
        (A::Sub, V::Date(a), V::Date(b)) => Ok(V::Interval(
            (i64::from(*a) - i64::from(*b)) * MICROS_PER_DAY,
        )),
        (A::Add | A::Sub, V::Interval(a), V::Interval(b)) => {
            sum(*a, *b).map(V::Interval).ok_or_else(fail)
        }
        (A::Add | A::Sub, V::Months(a), V::Months(b)) => {
            let months = sum(i64::from(*a), i64::from(*b)).and_then(|m| i32::try_from(m).ok());
            months.map(V::Months).ok_or_else(fail)
        }
        (A::Mul, V::Interval(a), V::Int(b)) | (A::Mul, V::Int(b), V::Interval(a)) => {
            a.checked_mul(*b).map(V::Interval).ok_or_else(fail)
        }
        (A::Mul, V::Months(a), V::Int(b)) | (A::Mul, V::Int(b), V::Months(a)) => {
            let months = i64::from(*a)
                .checked_mul(*b)
                .and_then(|m| i32::try_from(m).ok());
            months.map(V::Months).ok_or_else(fail)
        }
        (A::Div, V::Interval(_) | V::Months(_), V::Int(0)) => {
            Err(EvalError::new("division of an interval by zero"))
        }
        (A::Div, V::Interval(a), V::Int(b)) => a.checked_div(*b).map(V::Interval).ok_or_else(fail),
        (A::Div, V::Months(a), V::Int(b)) => i64::from(*a)
            .checked_div(*b)
            .and_then(|months| i32::try_from(months).ok())
            .map(V::Months)
            .ok_or_else(fail),
        _ => Err(EvalError::new(format!(
            "{} is not defined for {left:?} and {right:?}",
            op.sign()
        ))),
    }
}

impl Arithmetic {
    /// The sign as SQL writes it.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
        }
    }
}

fn overflow(ty: &Type) -> EvalError {
    EvalError::new(format!(
        "the result does not fit {ty} (cast an operand to a wider type)"
    ))
}

/// An expression met a value of a type it was not compiled for: a source gave a value that is not of its declared
/// type.
pub(super) fn mismatch(wanted: &str, found: &Value) -> EvalError {
    EvalError::new(format!("expected {wanted}, found {found:?}"))
}
