//! A row to a payload.

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::layout::special;
use super::{TimestampFormat, format_timestamp};
use crate::types::{EventTime, Schema, Type, Value, interval};

/// Writes rows of one schema as JSON objects, fields in its order. Doubles that JSON cannot spell become the strings
/// `"NaN"`, `"Infinity"` and `"-Infinity"`, as Flink writes them.
#[derive(Clone, Debug)]
pub struct JsonEncoder {
    /// What stands before the event's id, if it is written.
    id: Option<String>,
    fields: Vec<Field>,
    timestamps: TimestampFormat,
}

/// A field of the object.
#[derive(Clone, Debug)]
struct Field {
    /// What stands before its value.
    before: String,
    ty: Type,
    /// The point in time that was written last, and its text: rows that are due together often share it.
    last: Option<(i64, String)>,
}

impl JsonEncoder {
    /// For rows of `schema`. `id_field` is the name of a field for the event's id.
    pub fn new(schema: &Schema, timestamps: &TimestampFormat, id_field: Option<&str>) -> Self {
        let mut begin = '{';
        let mut before = |name: &str| {
            let mut text = String::from(std::mem::replace(&mut begin, ','));
            push_string(name, &mut text);
            text.push(':');
            text
        };
        Self {
            id: id_field.map(&mut before),
            fields: schema
                .columns
                .iter()
                .map(|column| Field {
                    before: before(&column.name),
                    ty: column.ty.clone(),
                    last: None,
                })
                .collect(),
            timestamps: timestamps.clone(),
        }
    }

    /// Appends a row, with the event's id if that has a field.
    pub fn encode(&mut self, row: &[Value], id: impl Display, out: &mut String) {
        if let Some(before) = &self.id {
            // Writing to a String cannot fail.
            let _ = write!(out, "{before}\"{id}\"");
        } else if self.fields.is_empty() {
            out.push('{');
        }
        for (value, field) in row.iter().zip(&mut self.fields) {
            out.push_str(&field.before);
            let Value::Timestamp(micros) = value else {
                push_json(value, &field.ty, &self.timestamps, out);
                continue;
            };
            if let Some((last, text)) = &field.last
                && last == micros
            {
                out.push_str(text);
                continue;
            }
            let begin = out.len();
            push_json(value, &field.ty, &self.timestamps, out);
            let (last, text) = field.last.get_or_insert_default();
            *last = *micros;
            text.clear();
            text.push_str(&out[begin..]);
        }
        out.push('}');
    }
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
        Value::Int(value) => {
            out.push_str(itoa::Buffer::new().format(*value));
            Ok(())
        }
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
            if value.is_finite() {
                out.push_str(zmij::Buffer::new().format_finite(*value));
            } else {
                push_not_finite(f64::from(*value), out);
            }
            Ok(())
        }
        Value::Double(value) => {
            if value.is_finite() {
                out.push_str(zmij::Buffer::new().format_finite(*value));
            } else {
                push_not_finite(*value, out);
            }
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

/// What JSON has no number for.
fn push_not_finite(value: f64, out: &mut String) {
    out.push_str(if value.is_nan() {
        "\"NaN\""
    } else if value > 0.0 {
        "\"Infinity\""
    } else {
        "\"-Infinity\""
    });
}

fn push_string(text: &str, out: &mut String) {
    if is_plain(text.as_bytes()) {
        out.reserve(text.len() + 2);
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // Serialising a string to memory cannot fail.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// Whether all bytes of a text stand for themselves.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let plain = |word: &[u8; 8]| special(u64::from_le_bytes(*word)) == 0;
    words.iter().all(plain) && plain(&last)
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
            let mut encoder = JsonEncoder::new(&schema, &TimestampFormat::Sql, Some("id"));
            encoder.encode(&[value], "7f", &mut out);
            assert_eq!(out, format!("{{\"id\":\"7f\",\"v\":{expected}}}"));
        }
    }

    #[test]
    fn rows_follow_each_other() {
        let timestamp = Type::Timestamp { precision: 3 };
        let columns = [
            ("a \"b\"", Type::String),
            ("from", timestamp.clone()),
            ("to", timestamp),
        ];
        let columns = columns.map(|(name, ty)| Column::new(name, ty));
        let schema = Schema::new(columns.into());
        let mut encoder = JsonEncoder::new(&schema, &TimestampFormat::EpochMillis, None);
        for (text, from, to, expected) in [
            ("x", 1, 2, r#"{"a \"b\"":"x","from":1,"to":2}"#),
            (
                "long enough \\",
                1,
                3,
                r#"{"a \"b\"":"long enough \\","from":1,"to":3}"#,
            ),
            ("\u{1}", 3, 3, r#"{"a \"b\"":"\u0001","from":3,"to":3}"#),
            (
                "twelve signs\"",
                0,
                -3,
                r#"{"a \"b\"":"twelve signs\"","from":0,"to":-3}"#,
            ),
        ] {
            let times = [from, to].map(|millis| Value::Timestamp(millis * 1_000));
            let row: Vec<Value> = [Value::str(text)].into_iter().chain(times).collect();
            let mut out = String::new();
            encoder.encode(&row, "", &mut out);
            assert_eq!(out, expected);
        }
        let mut out = String::new();
        JsonEncoder::new(&Schema::default(), &TimestampFormat::Sql, None).encode(&[], "", &mut out);
        assert_eq!(out, "{}");
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
