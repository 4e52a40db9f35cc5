//! JSON inside of texts: paths into it, and values as JSON.
//!
//! Invariant: a document is never taken to pieces as a whole. It is checked once, a path walks down its text, and what
//! it finds is a part of that text: digits stay as they were sent, also of numbers that no DOUBLE can hold, and nesting
//! cannot exhaust the stack.

mod path;
mod write;

pub(super) use path::{JsonPath, Selected, members};
pub(super) use write::{push_string, write_value};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The kind of a JSON value, told by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    Object,
    Array,
    /// A string, number, true or false.
    Scalar,
    Null,
}

/// The kind of a value in valid JSON text.
pub(super) fn kind(raw: &str) -> JsonKind {
    match raw.trim_start().as_bytes().first() {
        Some(b'{') => JsonKind::Object,
        Some(b'[') => JsonKind::Array,
        Some(b'n') => JsonKind::Null,
        _ => JsonKind::Scalar,
    }
}

/// Whether the text is one JSON value.
pub(super) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A scalar as text: of a string its content, of others their spelling.
pub(super) fn scalar_text(raw: &str) -> String {
    if raw.starts_with('"') {
        // Valid JSON may hold half of a surrogate pair, which is no text.
        serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
    } else {
        raw.to_owned()
    }
}

/// The elements of an array in valid JSON.
pub(super) fn elements(raw: &str) -> Vec<&str> {
    serde_json::from_str::<Vec<&RawValue>>(raw)
        .map(|items| items.into_iter().map(RawValue::get).collect())
        .unwrap_or_default()
}

/// Appends valid JSON without the spaces between its signs.
pub(super) fn push_compact(raw: &str, out: &mut String) {
    let mut quoted = false;
    let mut escaped = false;
    for c in raw.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            out.push(c);
        } else if !matches!(c, ' ' | '\t' | '\n' | '\r') {
            quoted = c == '"';
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_go_and_texts_stay() {
        for (text, compact) in [
            (
                r#" { "a b" : [ 1 , "x \" y" ] } "#,
                r#"{"a b":[1,"x \" y"]}"#,
            ),
            (r#"["\\" , " "]"#, r#"["\\"," "]"#),
            ("7", "7"),
        ] {
            let mut out = String::new();
            push_compact(text, &mut out);
            assert_eq!(out, compact);
        }
    }
}
