//! Mathematical functions.
//!
//! Where a real result does not exist (SQRT of a negative number, LN of zero) the answer is an error and not NaN:
//! a NaN would poison every aggregate after it. Overflow to infinity follows IEEE 754.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::types::{Type, Value};

use super::Kind::{Approximate, Exact, Integer, Number};
use super::Output::{By, Is, Like};
use super::{Args, EvalError, Function, function};
use crate::expr::Expr;
use crate::expr::numeric::{checked_integer, fit_decimal, negate};

pub(super) const FUNCTIONS: &[Function] = &[
    function("ABS", &[Number], Like(0), abs),
    function("CEIL", &[Number], By(whole_type), ceil),
    function("CEILING", &[Number], By(whole_type), ceil),
    function("FLOOR", &[Number], By(whole_type), floor),
    function("ROUND", &[Approximate, Integer], Like(0), round).optional(1),
    function("ROUND", &[Exact, Integer], By(round_type), round).optional(1),
    function("TRUNCATE", &[Approximate, Integer], Like(0), truncate).optional(1),
    function("TRUNCATE", &[Exact, Integer], By(round_type), truncate).optional(1),
    function("SIGN", &[Number], Like(0), sign),
    function("PI", &[], Is(Type::Double), |_| {
        Ok(Value::Double(std::f64::consts::PI))
    }),
    function("E", &[], Is(Type::Double), |_| {
        Ok(Value::Double(std::f64::consts::E))
    }),
    function("POWER", &[Number, Number], Is(Type::Double), power),
    function("SQRT", &[Number], Is(Type::Double), |a| {
        real(a, "SQRT", f64::sqrt)
    }),
    function("CBRT", &[Number], Is(Type::Double), |a| {
        real(a, "CBRT", f64::cbrt)
    }),
    function("EXP", &[Number], Is(Type::Double), |a| {
        real(a, "EXP", f64::exp)
    }),
    function("LN", &[Number], Is(Type::Double), |a| {
        logarithm(a, "LN", f64::ln)
    }),
    function("LOG10", &[Number], Is(Type::Double), |a| {
        logarithm(a, "LOG10", f64::log10)
    }),
    function("LOG2", &[Number], Is(Type::Double), |a| {
        logarithm(a, "LOG2", f64::log2)
    }),
    function("LOG", &[Number], Is(Type::Double), |a| {
        logarithm(a, "LOG", f64::ln)
    }),
    function("LOG", &[Number, Number], Is(Type::Double), log_base),
    function("SIN", &[Number], Is(Type::Double), |a| {
        real(a, "SIN", f64::sin)
    }),
    function("COS", &[Number], Is(Type::Double), |a| {
        real(a, "COS", f64::cos)
    }),
    function("TAN", &[Number], Is(Type::Double), |a| {
        real(a, "TAN", f64::tan)
    }),
    function("COT", &[Number], Is(Type::Double), |a| {
        real(a, "COT", |x| 1.0 / x.tan())
    }),
    function("SINH", &[Number], Is(Type::Double), |a| {
        real(a, "SINH", f64::sinh)
    }),
    function("COSH", &[Number], Is(Type::Double), |a| {
        real(a, "COSH", f64::cosh)
    }),
    function("TANH", &[Number], Is(Type::Double), |a| {
        real(a, "TANH", f64::tanh)
    }),
    function("ASIN", &[Number], Is(Type::Double), |a| {
        real(a, "ASIN", f64::asin)
    }),
    function("ACOS", &[Number], Is(Type::Double), |a| {
        real(a, "ACOS", f64::acos)
    }),
    function("ATAN", &[Number], Is(Type::Double), |a| {
        real(a, "ATAN", f64::atan)
    }),
    function("ATAN2", &[Number, Number], Is(Type::Double), |a| {
        Ok(Value::Double(a.double(0)?.atan2(a.double(1)?)))
    }),
    function("DEGREES", &[Number], Is(Type::Double), |a| {
        real(a, "DEGREES", f64::to_degrees)
    }),
    function("RADIANS", &[Number], Is(Type::Double), |a| {
        real(a, "RADIANS", f64::to_radians)
    }),
];

/// A function of one real number; a NaN that was not put in is out of its domain.
fn real(args: &Args<'_>, name: &str, f: fn(f64) -> f64) -> Result<Value, EvalError> {
    let x = args.double(0)?;
    let y = f(x);
    if y.is_nan() && !x.is_nan() {
        return Err(EvalError::new(format!("{name}({x}) is not defined")));
    }
    Ok(Value::Double(y))
}

fn logarithm(args: &Args<'_>, name: &str, f: fn(f64) -> f64) -> Result<Value, EvalError> {
    let x = args.double(0)?;
    if x <= 0.0 {
        return Err(EvalError::new(format!(
            "{name}({x}) is not defined: the argument must be positive"
        )));
    }
    Ok(Value::Double(f(x)))
}

fn log_base(args: &Args<'_>) -> Result<Value, EvalError> {
    let (base, x) = (args.double(0)?, args.double(1)?);
    if base <= 1.0 || x <= 0.0 {
        return Err(EvalError::new(format!(
            "LOG({base}, {x}) is not defined: the base must exceed 1 and the argument be positive"
        )));
    }
    Ok(Value::Double(x.ln() / base.ln()))
}

fn power(args: &Args<'_>) -> Result<Value, EvalError> {
    let (x, y) = (args.double(0)?, args.double(1)?);
    let result = x.powf(y);
    if result.is_nan() && !x.is_nan() && !y.is_nan() {
        return Err(EvalError::new(format!("POWER({x}, {y}) is not defined")));
    }
    Ok(Value::Double(result))
}

fn abs(args: &Args<'_>) -> Result<Value, EvalError> {
    match args.value(0) {
        value @ Value::Int(v) if *v < 0 => negate(args.ty(), value),
        Value::Double(v) => Ok(Value::Double(v.abs())),
        Value::Float(v) => Ok(Value::Float(v.abs())),
        Value::Decimal(v) => Ok(Value::Decimal(v.abs())),
        other => Ok(other.clone()),
    }
}

fn sign(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(match args.value(0) {
        Value::Int(v) => Value::Int(v.signum()),
        // Not f64::signum, which is 1 for 0.
        Value::Double(v) if *v != 0.0 => Value::Double(v.signum()),
        Value::Float(v) if *v != 0.0 => Value::Float(v.signum()),
        Value::Decimal(v) if !v.is_zero() => Value::Decimal(if v.is_sign_negative() {
            Decimal::NEGATIVE_ONE
        } else {
            Decimal::ONE
        }),
        other => other.clone(),
    })
}

/// CEIL and FLOOR of a DECIMAL have no fraction digits.
fn whole_type(types: &[Type]) -> Type {
    match &types[0] {
        Type::Decimal {
            precision,
            scale: 1..,
        } => Type::Decimal {
            precision: *precision,
            scale: 0,
        },
        other => other.clone(),
    }
}

fn ceil(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(match args.value(0) {
        Value::Double(v) => Value::Double(v.ceil()),
        Value::Float(v) => Value::Float(v.ceil()),
        Value::Decimal(v) => Value::Decimal(v.ceil()),
        other => other.clone(),
    })
}

fn floor(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(match args.value(0) {
        Value::Double(v) => Value::Double(v.floor()),
        Value::Float(v) => Value::Float(v.floor()),
        Value::Decimal(v) => Value::Decimal(v.floor()),
        other => other.clone(),
    })
}

/// ROUND(DECIMAL) without digits has none; with digits the scale stays, since the count may differ by row. For a
/// constant count see [`rounded_type`].
fn round_type(types: &[Type]) -> Type {
    if types.len() == 1 {
        whole_type(types)
    } else {
        types[0].clone()
    }
}

/// The type of ROUND and TRUNCATE of a DECIMAL to a constant count of digits, as in Flink; `None` for other calls.
pub(super) fn rounded_type(name: &str, types: &[Type], args: &[Expr]) -> Option<Type> {
    let rounds = name == "ROUND" || name == "TRUNCATE";
    match (types, args) {
        ([Type::Decimal { precision, scale }, _], [_, Expr::Literal(Value::Int(digits))])
            if rounds && *digits < i64::from(*scale) =>
        {
            let digits = u8::try_from((*digits).max(0)).ok()?;
            Some(Type::Decimal {
                precision: (1 + precision - scale + digits).min(38),
                scale: digits,
            })
        }
        _ => None,
    }
}

fn round(args: &Args<'_>) -> Result<Value, EvalError> {
    to_digits(args, RoundingStrategy::MidpointAwayFromZero)
}

fn truncate(args: &Args<'_>) -> Result<Value, EvalError> {
    to_digits(args, RoundingStrategy::ToZero)
}

/// The number with a count of fraction digits; negative counts round to tens, hundreds and so on.
fn to_digits(args: &Args<'_>, strategy: RoundingStrategy) -> Result<Value, EvalError> {
    let digits = args.int_or(1, 0)?.clamp(-40, 40) as i32;
    match args.value(0) {
        Value::Double(v) => Ok(Value::Double(round_double(*v, digits, strategy))),
        Value::Float(v) => {
            // By way of the shortest text, so that 0.1 stays 0.1 and does not become 0.10000000149.
            let exact: f64 = v.to_string().parse().unwrap_or(f64::from(*v));
            Ok(Value::Float(round_double(exact, digits, strategy) as f32))
        }
        Value::Int(v) if digits < 0 => {
            let rounded = round_decimal(Decimal::from(*v), digits, strategy);
            let whole = i64::try_from(rounded.mantissa()).map_err(|_| {
                EvalError::new(format!("ROUND({v}, {digits}) does not fit {}", args.ty()))
            })?;
            checked_integer(args.ty(), whole)
        }
        Value::Decimal(v) => {
            let rounded = round_decimal(*v, digits, strategy);
            match args.ty() {
                Type::Decimal { precision, scale } => {
                    fit_decimal(rounded, *precision, *scale).map(Value::Decimal)
                }
                _ => Ok(Value::Decimal(rounded)),
            }
        }
        other => Ok(other.clone()),
    }
}

/// Rounds the decimal number that the DOUBLE stands for, as Flink does, so that ROUND(2.675, 2) is 2.68. Numbers
/// beyond a DECIMAL have no fraction to round, or are 0.
fn round_double(value: f64, digits: i32, strategy: RoundingStrategy) -> f64 {
    if !value.is_finite() || value.abs() >= 1e27 {
        return value;
    }
    match value.to_string().parse::<Decimal>() {
        Ok(exact) => crate::expr::numeric::decimal_to_f64(&round_decimal(exact, digits, strategy)),
        Err(_) => value,
    }
}

fn round_decimal(value: Decimal, digits: i32, strategy: RoundingStrategy) -> Decimal {
    if digits >= 0 {
        return value.round_dp_with_strategy(digits.unsigned_abs().min(28), strategy);
    }
    if digits < -27 {
        return Decimal::ZERO;
    }
    let step = Decimal::from_i128_with_scale(10_i128.pow(digits.unsigned_abs()), 0);
    (value / step).round_dp_with_strategy(0, strategy) * step
}
