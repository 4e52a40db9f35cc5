//! Values as JSON, for `JSON_STRING` and its kin: spelt as Flink spells them there.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::expr::calendar;
use crate::expr::cast::to_text;
use crate::types::{Type, Value};

/// Appends a text in quotes.
pub(in crate::expr) fn push_string(text: &str, out: &mut String) {
    // Serialising a text to memory cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Appends a value of a type. Numbers that JSON has not (NaN and the infinities) become texts, points in time
/// ISO 8601, bytes Base64.
pub(in crate::expr) fn write_value(value: &Value, ty: &Type, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match (value, ty) {
        (Value::Null, _) => out.write_str("null"),
        (Value::Bool(v), _) => write!(out, "{v}"),
        (Value::Int(v), _) => write!(out, "{v}"),
        (Value::Decimal(v), _) => write!(out, "{v}"),
        (Value::Double(v), _) if v.is_finite() => {
            out.write_str(&serde_json::to_string(v).unwrap_or_default())
        }
        (Value::Float(v), _) if v.is_finite() => {
            out.write_str(&serde_json::to_string(v).unwrap_or_default())
        }
        (Value::Bytes(bytes), _) => write!(out, "\"{}\"", STANDARD.encode(bytes)),
        (Value::Timestamp(micros), ty) => {
            let (precision, zone) = match ty {
                Type::TimestampLtz { precision } => (*precision, "Z"),
                Type::Timestamp { precision } => (*precision, ""),
                _ => (6, ""),
            };
            let text = calendar::format_timestamp(*micros, precision).replacen(' ', "T", 1);
            write!(out, "\"{text}{zone}\"")
        }
        (Value::Array(items), ty) => {
            let item_type = match ty {
                Type::Array(item) => item,
                _ => &Type::Null,
            };
            write_list(out, '[', ']', items.iter(), |item, out| {
                write_value(item, item_type, out);
            });
            Ok(())
        }
        (Value::Row(values), Type::Row(fields)) => {
            write_list(
                out,
                '{',
                '}',
                values.iter().zip(fields.iter()),
                |(value, field), out| {
                    push_string(&field.name, out);
                    out.push(':');
                    write_value(value, &field.ty, out);
                },
            );
            Ok(())
        }
        (Value::Map(entries), Type::Map(key_type, value_type)) => {
            write_list(out, '{', '}', entries.iter(), |(key, value), out| {
                push_string(&to_text(key, key_type).unwrap_or_default(), out);
                out.push(':');
                write_value(value, value_type, out);
            });
            Ok(())
        }
        (other, ty) => {
            push_string(&to_text(other, ty).unwrap_or_default(), out);
            Ok(())
        }
    };
}

fn write_list<T>(
    out: &mut String,
    open: char,
    close: char,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}
