//! A row to a payload.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{TimestampFormat, format_timestamp};
use crate::types::{EventTime, Schema, Type, Value, interval};

/// Appends the row as a JSON object, fields in the order of the schema. Doubles that JSON cannot spell become the
/// strings `"NaN"`, `"Infinity"` and `"-Infinity"`, as Flink writes them. `id`: a field name and the event's id.
pub fn encode_json(
    row: &[Value],
    schema: &Schema,
    timestamps: &TimestampFormat,
    id: Option<(&str, &str)>,
    out: &mut String,
) {
    out.push('{');
    if let Some((field, id)) = id {
        push_string(field, out);
        out.push(':');
        push_string(id, out);
    }
    for (value, column) in row.iter().zip(&schema.columns) {
        if !out.ends_with('{') {
            out.push(',');
        }
        push_string(&column.name, out);
        out.push(':');
        push_json(value, &column.ty, timestamps, out);
    }
    out.push('}');
}

/// Appends one value as plain text: strings without quotes, NULL as nothing, composite values as JSON.
pub fn encode_text(value: &Value, ty: &Type, timestamps: &TimestampFormat, out: &mut String) {
    match (value, ty) {
        (Value::Null, _) => {}
        (Value::Str(text), _) => out.push_str(text),
        (Value::Timestamp(micros), _) => {
            let zoned = matches!(ty, Type::TimestampLtz { .. });
            format_timestamp(*micros, timestamps, zoned, false, out);
        }
        (
            Value::Date(_)
            | Value::Time(_)
            | Value::Bytes(_)
            | Value::Interval(_)
            | Value::Months(_),
            _,
        ) => {
            let start = out.len();
            push_json(value, ty, timestamps, out);
            out.pop();
            out.remove(start);
        }
        _ => push_json(value, ty, timestamps, out),
    }
}

fn push_json(value: &Value, ty: &Type, timestamps: &TimestampFormat, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Null => out.write_str("null"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(value) => write!(out, "{value}"),
        Value::Interval(micros) => {
            out.push('"');
            let written = interval::write_day_time(*micros, out);
            out.push('"');
            written
        }
        Value::Months(months) => {
            out.push('"');
            let written = interval::write_year_month(*months, out);
            out.push('"');
            written
        }
        Value::Float(value) => {
            push_number(f64::from(*value), serde_json::to_string(value), out);
            Ok(())
        }
        Value::Double(value) => {
            push_number(*value, serde_json::to_string(value), out);
            Ok(())
        }
        Value::Decimal(value) => write!(out, "{value}"),
        Value::Str(text) => {
            push_string(text, out);
            Ok(())
        }
        Value::Bytes(bytes) => {
            out.push('"');
            STANDARD.encode_string(bytes, out);
            out.push('"');
            Ok(())
        }
        Value::Date(days) => {
            let midnight = EventTime::from_micros(i64::from(*days) * 86_400_000_000).to_string();
            write!(
                out,
                "\"{}\"",
                midnight.split('T').next().unwrap_or_default()
            )
        }
        Value::Time(micros) => {
            let text = EventTime::from_micros(*micros).to_string();
            let time = text.split('T').nth(1).unwrap_or_default();
            write!(out, "\"{}\"", time.trim_end_matches('Z'))
        }
        Value::Timestamp(micros) => {
            let zoned = matches!(ty, Type::TimestampLtz { .. });
            format_timestamp(*micros, timestamps, zoned, true, out);
            Ok(())
        }
        Value::Array(items) => {
            let item_type = if let Type::Array(item) = ty {
                item
            } else {
                &Type::Null
            };
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(item, item_type, timestamps, out);
            }
            out.write_char(']')
        }
        Value::Row(values) => {
            let fields: &[_] = if let Type::Row(fields) = ty {
                fields
            } else {
                &[]
            };
            out.push('{');
            for (index, (value, field)) in values.iter().zip(fields).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(&field.name, out);
                out.push(':');
                push_json(value, &field.ty, timestamps, out);
            }
            out.write_char('}')
        }
        Value::Map(pairs) => {
            let (key_type, value_type) = match ty {
                Type::Map(key, value) => (&**key, &**value),
                _ => (&Type::Null, &Type::Null),
            };
            out.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                let mut name = String::new();
                encode_text(key, key_type, timestamps, &mut name);
                push_string(&name, out);
                out.push(':');
                push_json(value, value_type, timestamps, out);
            }
            out.write_char('}')
        }
    };
}

fn push_number(value: f64, spelt: serde_json::Result<String>, out: &mut String) {
    match spelt {
        Ok(text) if value.is_finite() => out.push_str(&text),
        _ if value.is_nan() => out.push_str("\"NaN\""),
        _ if value > 0.0 => out.push_str("\"Infinity\""),
        _ => out.push_str("\"-Infinity\""),
    }
}

fn push_string(text: &str, out: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // Serialising a string to memory cannot fail.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Column;

    #[test]
    fn every_type_as_json() {
        let cases = [
            (Value::Null, Type::Int, "null"),
            (Value::Int(i64::MIN), Type::BigInt, "-9223372036854775808"),
            (Value::Float(0.1), Type::Float, "0.1"),
            (Value::Double(21.5), Type::Double, "21.5"),
            (Value::Double(f64::NAN), Type::Double, "\"NaN\""),
            (
                Value::Double(f64::NEG_INFINITY),
                Type::Double,
                "\"-Infinity\"",
            ),
            (Value::str("a\"\n"), Type::String, r#""a\"\n""#),
            (
                Value::Bytes([1, 2, 3, 4].as_slice().into()),
                Type::Bytes,
                "\"AQIDBA==\"",
            ),
            (Value::Date(-1), Type::Date, "\"1969-12-31\""),
            (
                Value::Interval(-1_500_000),
                Type::IntervalDayTime,
                "\"-0 00:00:01.500\"",
            ),
            (Value::Months(14), Type::IntervalYearMonth, "\"+1-02\""),
            (
                Value::Time(3_600_500_000),
                Type::Time { precision: 3 },
                "\"01:00:00.500\"",
            ),
            (
                Value::Timestamp(500_000),
                Type::Timestamp { precision: 3 },
                "\"1970-01-01 00:00:00.500\"",
            ),
            (
                Value::Timestamp(0),
                Type::TimestampLtz { precision: 3 },
                "\"1970-01-01 00:00:00Z\"",
            ),
            (
                Value::Array([Value::Int(1), Value::Null].into()),
                Type::Array(Type::Int.into()),
                "[1,null]",
            ),
            (
                Value::Map([(Value::Int(7), Value::Bool(true))].into()),
                Type::Map(Type::Int.into(), Type::Boolean.into()),
                "{\"7\":true}",
            ),
        ];
        for (value, ty, expected) in cases {
            let mut out = String::new();
            let schema = Schema::new(vec![Column::new("v", ty)]);
            encode_json(
                &[value],
                &schema,
                &TimestampFormat::Sql,
                Some(("id", "7f")),
                &mut out,
            );
            assert_eq!(out, format!("{{\"id\":\"7f\",\"v\":{expected}}}"));
        }
    }

    #[test]
    fn text_has_no_quotes() {
        let text = |value, ty| {
            let mut out = String::new();
            encode_text(&value, &ty, &TimestampFormat::Sql, &mut out);
            out
        };
        assert_eq!(text(Value::str("a b"), Type::String), "a b");
        assert_eq!(text(Value::Date(0), Type::Date), "1970-01-01");
        assert_eq!(text(Value::Null, Type::Int), "");
        assert_eq!(text(Value::Double(1.5), Type::Double), "1.5");
    }
}
