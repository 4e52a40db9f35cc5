//! One scalar from its text.

use std::sync::Arc;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::{TimestampFormat, parse_timestamp};
use crate::types::{Type, Value, calendar, interval};

/// The value of type `ty` that `text` spells, whether a device wrote it as a number or as a string of one. `None`
/// where it is none: not a number, out of the type's range, not finite, or with digits the type cannot keep.
pub(super) fn parse_scalar(text: &str, ty: &Type, timestamps: &TimestampFormat) -> Option<Value> {
    let trimmed = text.trim();
    match ty {
        Type::String => Some(Value::str(text)),
        Type::Boolean => match trimmed {
            _ if trimmed.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
            _ if trimmed.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
            _ => None,
        },
        Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt => {
            let (least, greatest) = ty.integer_range()?;
            let number = trimmed
                .parse::<i64>()
                .ok()
                .or_else(|| whole_number(trimmed))?;
            (least..=greatest)
                .contains(&number)
                .then_some(Value::Int(number))
        }
        Type::Float => parse_f64(trimmed)
            .map(|number| number as f32)
            .filter(|number| number.is_finite())
            .map(Value::Float),
        Type::Double => parse_f64(trimmed).map(Value::Double),
        Type::Decimal { precision, scale } => {
            let number = trimmed
                .parse::<Decimal>()
                .or_else(|_| Decimal::from_scientific(trimmed))
                .ok()?;
            let mut rounded = number.round_dp_with_strategy(
                u32::from(*scale),
                rust_decimal::RoundingStrategy::MidpointAwayFromZero,
            );
            // All digits of the scale are there, also where the device left zeros out.
            rounded.rescale(u32::from(*scale));
            let whole_digits = u32::from(precision.saturating_sub(*scale));
            // A Decimal holds 28 digits and some: where the type takes more, whatever was read fits.
            let fits =
                whole_digits > 28 || rounded.abs() < Decimal::from(10_i128.pow(whole_digits));
            fits.then_some(Value::Decimal(rounded))
        }
        Type::Timestamp { precision } => {
            let micros = parse_timestamp(trimmed, timestamps, false)?;
            Some(Value::Timestamp(calendar::cut(micros, *precision)))
        }
        Type::TimestampLtz { precision } => {
            let micros = parse_timestamp(trimmed, timestamps, true)?;
            Some(Value::Timestamp(calendar::cut(micros, *precision)))
        }
        Type::Date => {
            let date = trimmed.parse::<jiff::civil::Date>().ok()?;
            if date.year() < 1 {
                return None;
            }
            let days = calendar::days(date.year().into(), date.month().into(), date.day().into());
            Some(Value::Date(i32::try_from(days).ok()?))
        }
        Type::Time { precision } => {
            let time = trimmed.parse::<jiff::civil::Time>().ok()?;
            let span = time.duration_since(jiff::civil::Time::midnight());
            let micros = i64::try_from(span.as_micros()).ok()?;
            Some(Value::Time(calendar::cut(micros, *precision)))
        }
        Type::IntervalDayTime => interval::parse_day_time(trimmed)
            .or_else(|| {
                let span = trimmed.parse::<jiff::SignedDuration>().ok()?;
                i64::try_from(span.as_micros()).ok()
            })
            .map(Value::Interval),
        Type::IntervalYearMonth => interval::parse_year_month(trimmed).map(Value::Months),
        Type::Bytes => Some(Value::Bytes(Arc::from(text.as_bytes()))),
        _ => None,
    }
}

/// A finite number. Rust's own parser also takes `inf`, `nan` and `infinity`; a failed probe that writes one of
/// them must not become a value that poisons every average it meets.
fn parse_f64(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// `5.0` and `5e3` are whole numbers too; `5.5` is not.
fn whole_number(text: &str) -> Option<i64> {
    let number = text
        .parse::<Decimal>()
        .or_else(|_| Decimal::from_scientific(text))
        .ok()?;
    if number.is_integer() {
        number.to_i64()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_spelling() {
        let parse = |text, ty: &Type| parse_scalar(text, ty, &TimestampFormat::Sql);
        for (text, ty, expected) in [
            (
                "9223372036854775807",
                Type::BigInt,
                Some(Value::Int(i64::MAX)),
            ),
            ("9223372036854775808", Type::BigInt, None),
            ("5.0", Type::Int, Some(Value::Int(5))),
            ("5e3", Type::Int, Some(Value::Int(5_000))),
            ("5.5", Type::Int, None),
            ("128", Type::TinyInt, None),
            (" 21.5 ", Type::Double, Some(Value::Double(21.5))),
            ("nan", Type::Double, None),
            ("-inf", Type::Float, None),
            ("1e39", Type::Float, None),
            ("3e88", Type::Double, Some(Value::Double(3e88))),
            ("", Type::Double, None),
            ("TRUE", Type::Boolean, Some(Value::Bool(true))),
            ("1", Type::Boolean, None),
            (
                "12.345",
                Type::Decimal {
                    precision: 4,
                    scale: 2,
                },
                Some(Value::Decimal(Decimal::new(1235, 2))),
            ),
            (
                "123.4",
                Type::Decimal {
                    precision: 4,
                    scale: 2,
                },
                None,
            ),
            ("1970-01-02", Type::Date, Some(Value::Date(1))),
            ("9999-12-31", Type::Date, Some(Value::Date(2_932_896))),
            ("0000-12-31", Type::Date, None),
            (
                "00:00:01.999",
                Type::Time { precision: 0 },
                Some(Value::Time(1_000_000)),
            ),
            (
                "1969-12-31 23:59:59.9999",
                Type::Timestamp { precision: 3 },
                Some(Value::Timestamp(-1_000)),
            ),
            (
                "+0 00:00:05.000",
                Type::IntervalDayTime,
                Some(Value::Interval(5_000_000)),
            ),
            (
                "PT1M30S",
                Type::IntervalDayTime,
                Some(Value::Interval(90_000_000)),
            ),
            ("-1-02", Type::IntervalYearMonth, Some(Value::Months(-14))),
            (
                "18446744073709551615",
                Type::Decimal {
                    precision: 20,
                    scale: 0,
                },
                Some(Value::Decimal(Decimal::from(u64::MAX))),
            ),
            (
                "00:00:01.5",
                Type::Time { precision: 3 },
                Some(Value::Time(1_500_000)),
            ),
        ] {
            assert_eq!(parse(text, &ty), expected, "{text} as {ty}");
        }
    }
}
