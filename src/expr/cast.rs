//! CAST between values.
//!
//! Invariant: what cannot be converted without loss of meaning is an error (`TRY_CAST` makes it NULL): no number
//! wraps, no text becomes 0. Fractions are cut when an integer is wanted and rounded half up for a DECIMAL; text
//! forms are Flink's.

use std::fmt::Write;
use std::sync::Arc;

use compact_str::CompactString;
use rust_decimal::Decimal;

use crate::types::{Type, Value, interval};

use super::EvalError;
use super::calendar::{self, MICROS_PER_DAY, cut};
use super::numeric::{checked_integer, fit_decimal, to_f64};

/// `value`, which is of type `from`, as a value of type `to`.
pub(super) fn cast(value: &Value, from: &Type, to: &Type) -> Result<Value, EvalError> {
    use Value as V;
    if value.is_null() {
        return Ok(V::Null);
    }
    let fail = || EvalError::new(format!("cannot cast {} to {to}", shown(value)));
    match to {
        Type::Boolean => to_bool(value).map(V::Bool).ok_or_else(fail),
        Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt => {
            checked_integer(to, to_int(value).ok_or_else(fail)?)
        }
        Type::Double => to_double(value).map(V::Double).ok_or_else(fail),
        Type::Float => {
            let wide = to_double(value).ok_or_else(fail)?;
            let narrow = wide as f32;
            if narrow.is_infinite() && wide.is_finite() {
                return Err(fail());
            }
            Ok(V::Float(narrow))
        }
        Type::Decimal { precision, scale } => {
            let exact = to_exact(value).ok_or_else(fail)?;
            fit_decimal(exact, *precision, *scale).map(V::Decimal)
        }
        Type::String => Ok(V::Str(to_text(value, from)?)),
        Type::Bytes => match value {
            V::Str(text) => Ok(V::Bytes(Arc::from(text.as_bytes()))),
            V::Bytes(_) => Ok(value.clone()),
            _ => Err(fail()),
        },
        Type::Date => match value {
            V::Date(_) => Ok(value.clone()),
            V::Timestamp(t) => calendar::checked_date(t.div_euclid(MICROS_PER_DAY)).map(V::Date),
            V::Str(text) => calendar::parse_timestamp(text)
                .map(|t| V::Date(t.div_euclid(MICROS_PER_DAY) as i32))
                .ok_or_else(fail),
            _ => Err(fail()),
        },
        Type::Time { precision } => match value {
            V::Time(t) => Ok(V::Time(cut(*t, *precision))),
            V::Timestamp(t) => Ok(V::Time(cut(t.rem_euclid(MICROS_PER_DAY), *precision))),
            V::Str(text) => calendar::parse_time(text)
                .map(|t| V::Time(cut(t, *precision)))
                .ok_or_else(fail),
            _ => Err(fail()),
        },
        Type::Timestamp { precision } | Type::TimestampLtz { precision } => match value {
            V::Timestamp(t) => Ok(V::Timestamp(cut(*t, *precision))),
            V::Date(d) => Ok(V::Timestamp(i64::from(*d) * MICROS_PER_DAY)),
            V::Str(text) => {
                let point = calendar::parse_timestamp(text).ok_or_else(fail)?;
                Ok(V::Timestamp(cut(point, *precision)))
            }
            _ => Err(fail()),
        },
        Type::IntervalDayTime => match value {
            V::Interval(_) => Ok(value.clone()),
            V::Str(text) => interval::parse_day_time(text)
                .map(V::Interval)
                .ok_or_else(fail),
            _ => Err(fail()),
        },
        Type::IntervalYearMonth => match value {
            V::Months(_) => Ok(value.clone()),
            V::Str(text) => interval::parse_year_month(text)
                .map(V::Months)
                .ok_or_else(fail),
            _ => Err(fail()),
        },
        _ => nested(value, from, to),
    }
}

fn nested(value: &Value, from: &Type, to: &Type) -> Result<Value, EvalError> {
    use Value as V;
    match (value, from, to) {
        (V::Array(items), Type::Array(a), Type::Array(b)) => {
            let cast_all: Result<Vec<Value>, EvalError> =
                items.iter().map(|v| cast(v, a, b)).collect();
            Ok(V::Array(cast_all?.into()))
        }
        (V::Map(entries), Type::Map(ka, va), Type::Map(kb, vb)) => {
            let cast_all: Result<Vec<_>, EvalError> = entries
                .iter()
                .map(|(k, v)| Ok((cast(k, ka, kb)?, cast(v, va, vb)?)))
                .collect();
            Ok(V::Map(cast_all?.into()))
        }
        (V::Row(values), Type::Row(a), Type::Row(b)) => {
            let fields = values.iter().zip(a.iter().zip(b.iter()));
            let cast_all: Result<Vec<Value>, EvalError> =
                fields.map(|(v, (x, y))| cast(v, &x.ty, &y.ty)).collect();
            Ok(V::Row(cast_all?.into()))
        }
        (value, from, to) if from == to => Ok(value.clone()),
        _ => Err(EvalError::new(format!(
            "cannot cast {} to {to}",
            shown(value)
        ))),
    }
}

fn to_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(v) => Some(*v),
        Value::Int(v) => Some(*v != 0),
        Value::Double(v) => Some(*v != 0.0),
        Value::Float(v) => Some(*v != 0.0),
        Value::Decimal(v) => Some(!v.is_zero()),
        Value::Str(text) => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "1" => Some(true),
            "f" | "false" | "n" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn to_int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(v) => Some(*v),
        Value::Bool(v) => Some(i64::from(*v)),
        Value::Double(v) => double_to_int(*v),
        Value::Float(v) => double_to_int(f64::from(*v)),
        Value::Decimal(v) => i64::try_from(v.trunc().mantissa())
            .ok()
            .filter(|_| v.trunc().scale() == 0),
        Value::Str(text) => {
            // A fraction is cut, as Flink does with '1.9'.
            let text = text.trim();
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            whole.parse().ok()
        }
        _ => None,
    }
}

/// The whole part of a DOUBLE, if an i64 holds it. 2^63 itself is exact in a DOUBLE and does not fit.
pub(super) fn double_to_int(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (-LIMIT..LIMIT).contains(&value).then_some(value as i64)
}

fn to_double(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(v) => Some(f64::from(u8::from(*v))),
        Value::Str(text) => parse_double(text),
        other => to_f64(other).ok(),
    }
}

/// Reads a number as Java does: `NaN` and `Infinity` in this spelling alone.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" => {
            return Some(if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        _ => {}
    }
    let starts_like_a_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| starts_like_a_number)
}

fn to_exact(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(v) => Some(Decimal::from(*v)),
        Value::Bool(v) => Some(Decimal::from(u8::from(*v))),
        Value::Decimal(v) => Some(*v),
        // The shortest text that reads back as the same number, as Java's BigDecimal.valueOf.
        Value::Double(v) if v.is_finite() && v.abs() < 1e29 => v.to_string().parse().ok(),
        Value::Float(v) if v.is_finite() && v.abs() < 1e29 => v.to_string().parse().ok(),
        Value::Str(text) => {
            let text = text.trim();
            text.parse()
                .ok()
                .or_else(|| Decimal::from_scientific(text).ok())
        }
        _ => None,
    }
}

/// The text of a value as CAST(… AS STRING) makes it.
pub(super) fn to_text(value: &Value, ty: &Type) -> Result<CompactString, EvalError> {
    if let Value::Bytes(bytes) = value {
        return std::str::from_utf8(bytes)
            .map(CompactString::from)
            .map_err(|_| {
                EvalError::new(
                    "cannot cast BYTES to STRING: they are not UTF-8 (use TO_BASE64 or HEX)",
                )
            });
    }
    let mut text = CompactString::default();
    // Writing to a string cannot fail.
    let _ = write_text(&mut text, value, ty);
    Ok(text)
}

fn write_text(out: &mut CompactString, value: &Value, ty: &Type) -> std::fmt::Result {
    use Value as V;
    let precision = match ty {
        Type::Timestamp { precision }
        | Type::TimestampLtz { precision }
        | Type::Time { precision } => *precision,
        _ => 6,
    };
    match value {
        V::Null => out.write_str("NULL"),
        V::Bool(v) => out.write_str(if *v { "TRUE" } else { "FALSE" }),
        V::Int(v) => write!(out, "{v}"),
        V::Double(v) => out.write_str(&java_number(*v, &format!("{v:e}"))),
        V::Float(v) => out.write_str(&java_number(f64::from(*v), &format!("{v:e}"))),
        V::Decimal(v) => write!(out, "{v}"),
        V::Str(v) => out.write_str(v),
        V::Bytes(v) => write!(out, "x'{}'", hex(v)),
        V::Date(v) => out.write_str(&calendar::format_date(i64::from(*v))),
        V::Time(v) => out.write_str(&calendar::format_time(*v, precision)),
        V::Timestamp(v) => out.write_str(&calendar::format_timestamp(*v, precision)),
        V::Interval(v) => interval::write_day_time(*v, out),
        V::Months(v) => interval::write_year_month(*v, out),
        V::Array(items) => {
            let inner = match ty {
                Type::Array(inner) => inner.as_ref(),
                _ => &Type::Null,
            };
            write_list(out, '[', ']', items.iter().map(|v| (v, inner)))
        }
        V::Row(values) => match ty {
            Type::Row(fields) => write_list(
                out,
                '(',
                ')',
                values.iter().zip(fields.iter().map(|f| &f.ty)),
            ),
            _ => write_list(out, '(', ')', values.iter().map(|v| (v, &Type::Null))),
        },
        V::Map(entries) => {
            let (key_type, value_type) = match ty {
                Type::Map(k, v) => (k.as_ref(), v.as_ref()),
                _ => (&Type::Null, &Type::Null),
            };
            out.push('{');
            for (i, (key, value)) in entries.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_text(out, key, key_type)?;
                out.push('=');
                write_text(out, value, value_type)?;
            }
            out.push('}');
            Ok(())
        }
    }
}

fn write_list<'a>(
    out: &mut CompactString,
    open: char,
    close: char,
    items: impl Iterator<Item = (&'a Value, &'a Type)>,
) -> std::fmt::Result {
    out.push(open);
    for (i, (value, ty)) in items.enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        write_text(out, value, ty)?;
    }
    out.push(close);
    Ok(())
}

/// Hexadecimal digits in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// A number as Java's `Double.toString` writes it, from its shortest digits in scientific notation: plain from
/// 0.001 to 10 million, else with an E.
fn java_number(value: f64, scientific: &str) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        let point = if digits.contains('.') { "" } else { ".0" };
        return format!("{digits}{point}E{exponent}");
    }
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if digits.starts_with('-') { "-" } else { "" };
    let bare: String = digits.chars().filter(char::is_ascii_digit).collect();
    let place = exponent + 1;
    if place <= 0 {
        return format!(
            "{sign}0.{}{bare}",
            "0".repeat(place.unsigned_abs() as usize)
        );
    }
    let place = place as usize;
    if bare.len() <= place {
        return format!("{sign}{bare}{}.0", "0".repeat(place - bare.len()));
    }
    format!("{sign}{}.{}", &bare[..place], &bare[place..])
}

/// A value for a message, bounded in length.
fn shown(value: &Value) -> String {
    let mut text = CompactString::default();
    let _ = write_text(&mut text, value, &Type::Null);
    let short: String = text.chars().take(60).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("'{short}{dots}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_in_java() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-21.55, "-21.55"),
            (0.001, "0.001"),
            (0.000_12, "1.2E-4"),
            (1e7, "1.0E7"),
            (9_999_999.5, "9999999.5"),
            (1_234_567.0, "1234567.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(to_text(&Value::Double(value), &Type::Double).unwrap(), text);
        }
        assert_eq!(to_text(&Value::Float(0.1), &Type::Float).unwrap(), "0.1");
    }

    #[test]
    fn casts_convert_or_fail_and_never_wrap() {
        let dec = Type::Decimal {
            precision: 4,
            scale: 1,
        };
        let text = |t: &str| Value::str(t);
        let ts = Type::Timestamp { precision: 3 };
        let point = Value::Timestamp(1_704_067_200_123_000);
        for (value, from, to, expected) in [
            (Value::Int(300), Type::Int, Type::TinyInt, None),
            (
                Value::Int(-128),
                Type::Int,
                Type::TinyInt,
                Some(Value::Int(-128)),
            ),
            (
                Value::Double(-1.9),
                Type::Double,
                Type::Int,
                Some(Value::Int(-1)),
            ),
            (Value::Double(f64::NAN), Type::Double, Type::BigInt, None),
            (Value::Double(9.3e18), Type::Double, Type::BigInt, None),
            (
                text(" 12.7 "),
                Type::String,
                Type::Int,
                Some(Value::Int(12)),
            ),
            (text("12x"), Type::String, Type::Int, None),
            (text(""), Type::String, Type::Int, None),
            (text("nan"), Type::String, Type::Double, None),
            (
                text("1e3"),
                Type::String,
                Type::Double,
                Some(Value::Double(1000.0)),
            ),
            (
                text("1.25"),
                Type::String,
                dec.clone(),
                Some(Value::Decimal("1.3".parse().unwrap())),
            ),
            (
                Value::Double(0.25),
                Type::Double,
                dec.clone(),
                Some(Value::Decimal("0.3".parse().unwrap())),
            ),
            (Value::Int(1000), Type::Int, dec, None),
            (
                text("YES"),
                Type::String,
                Type::Boolean,
                Some(Value::Bool(true)),
            ),
            (text("maybe"), Type::String, Type::Boolean, None),
            (
                text("2024-01-01 00:00:00.1234"),
                Type::String,
                ts.clone(),
                Some(point.clone()),
            ),
            (text("soon"), Type::String, ts.clone(), None),
            (
                point.clone(),
                ts.clone(),
                Type::String,
                Some(text("2024-01-01 00:00:00.123")),
            ),
            (point, ts, Type::Date, Some(Value::Date(19_723))),
        ] {
            assert_eq!(cast(&value, &from, &to).ok(), expected, "{value:?} AS {to}");
        }
    }
}
