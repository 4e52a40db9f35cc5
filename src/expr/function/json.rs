//! Functions on texts that are JSON.
//!
//! The clauses of `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS`, `JSON_OBJECT` and `JSON_ARRAY` come as constant arguments
//! (the SQL room makes them of the syntax). A default is evaluated for every row, also where it is not needed.

use std::fmt::Write as _;

use crate::expr::cast::cast;
use crate::expr::json::{self, JsonKind, Selected};
use crate::types::{Type, Value};

use super::Kind::{Any, Text};
use super::Output::{Is, Like};
use super::prepare::Preparation::Path;
use super::string::{MAX_BYTES, too_long};
use super::{Args, EvalError, Function, function};

const STRING: super::Output = Is(Type::String);
const BOOL: super::Output = Is(Type::Boolean);

/// The functions that have clauses; the SQL room makes calls of those that begin with `$` of them.
pub(super) const WITH_CLAUSES: [&str; 5] = [
    "JSON_VALUE",
    "JSON_QUERY",
    "JSON_EXISTS",
    "JSON_OBJECT",
    "JSON_ARRAY",
];

pub(super) const FUNCTIONS: &[Function] = &[
    // A NULL of the wanted type, that type as text, the document, the path, what to do on empty, the default for it,
    // what to do on error, the default for it.
    function(
        "$JSON_VALUE",
        &[Any, Text, Text, Text, Text, Any, Text, Any],
        Like(0),
        value,
    )
    .sees_null()
    .may_be_null()
    .prepare(&[(3, Path)]),
    // As for $JSON_VALUE; then the wrapper, what to do on empty and on error.
    function(
        "$JSON_QUERY",
        &[Any, Text, Text, Text, Text, Text, Text],
        Like(0),
        query,
    )
    .sees_null()
    .may_be_null()
    .prepare(&[(3, Path)]),
    // The document, the path, what to do on error.
    function("$JSON_EXISTS", &[Text, Text, Text], BOOL, exists)
        .may_be_null()
        .prepare(&[(1, Path)]),
    // The document, and VALUE, SCALAR, ARRAY or OBJECT.
    function("$IS_JSON", &[Text, Text], BOOL, is_json).sees_null(),
    // What is done with NULL, which values are JSON already, then keys and values.
    function("$JSON_OBJECT", &[Text, Text, Any], STRING, object)
        .optional(1)
        .repeated()
        .sees_null(),
    function("$JSON_ARRAY", &[Text, Text, Any], STRING, array)
        .optional(1)
        .repeated()
        .sees_null(),
    function("JSON_STRING", &[Any], STRING, |a| {
        let mut out = String::new();
        json::write_value(a.value(0), a.arg_type(0), &mut out);
        Ok(Value::str(out))
    }),
    function("JSON_QUOTE", &[Text], STRING, |a| {
        Ok(Value::str(quote(a.text(0)?)))
    }),
    function("JSON_UNQUOTE", &[Text], STRING, |a| {
        Ok(Value::str(unquote(a.text(0)?)))
    }),
    function("JSON_LENGTH", &[Text, Text], Is(Type::Int), length)
        .optional(1)
        .may_be_null()
        .prepare(&[(1, Path)]),
];

/// What the text of a clause asks for, if no default does.
fn otherwise(action: &str, of: &str, why: &str) -> Result<Value, EvalError> {
    match action {
        "ERROR" => Err(EvalError::new(format!("{of}: {why}"))),
        "EMPTY ARRAY" => Ok(Value::str("[]")),
        "EMPTY OBJECT" => Ok(Value::str("{}")),
        "TRUE" => Ok(Value::Bool(true)),
        "FALSE" => Ok(Value::Bool(false)),
        _ => Ok(Value::Null),
    }
}

fn value(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(2).is_null() || args.value(3).is_null() {
        return Ok(Value::Null);
    }
    let on = |action: usize, why: &str| match args.text(action)? {
        "DEFAULT" => Ok(args.value(action + 1).clone()),
        other => otherwise(other, "JSON_VALUE", why),
    };
    let found = match args.json_path(3)?.select(args.text(2)?) {
        Ok(found) => found,
        Err(why) => return on(6, &why.to_string()),
    };
    match found.items.as_slice() {
        [] => on(4, "the path finds nothing"),
        [item] => match json::kind(item) {
            JsonKind::Null => Ok(Value::Null),
            JsonKind::Scalar => match returned(item, args.ty()) {
                Some(value) => Ok(value),
                None => on(6, &format!("the value is not a {}", args.ty())),
            },
            _ => on(6, "the path finds an object or array, not one value"),
        },
        _ => on(6, "the path finds several values"),
    }
}

/// A scalar as a value of a type. A number with a fraction is no integer.
fn returned(raw: &str, ty: &Type) -> Option<Value> {
    let text = json::scalar_text(raw);
    if ty.is_integer() && text.contains(['.', 'e', 'E']) {
        let exact = cast(
            &Value::str(&*text),
            &Type::String,
            &Type::Decimal {
                precision: 38,
                scale: 9,
            },
        )
        .ok()?;
        let whole = cast(
            &exact,
            &Type::Decimal {
                precision: 38,
                scale: 9,
            },
            ty,
        )
        .ok()?;
        return (crate::expr::Comparison::Eq.holds(&exact, &whole) == Some(true)).then_some(whole);
    }
    cast(&Value::str(text), &Type::String, ty).ok()
}

fn query(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(2).is_null() || args.value(3).is_null() {
        return Ok(Value::Null);
    }
    let found = match args.json_path(3)?.select(args.text(2)?) {
        Ok(found) => found,
        Err(why) => return otherwise(args.text(6)?, "JSON_QUERY", &why.to_string()),
    };
    if found.items.is_empty() && !found.many {
        return otherwise(args.text(5)?, "JSON_QUERY", "the path finds nothing");
    }
    let Some(text) = wrapped(&found, args.text(4)?) else {
        return otherwise(
            args.text(6)?,
            "JSON_QUERY",
            "the path finds one value, not an object or array (add WITH WRAPPER)",
        );
    };
    if text.len() > MAX_BYTES {
        return Err(too_long());
    }
    match args.ty() {
        Type::Array(_) if json::kind(&text) == JsonKind::Array => {
            let items = json::elements(&text)
                .into_iter()
                .map(|item| match json::kind(item) {
                    JsonKind::Null => Value::Null,
                    _ => Value::str(json::scalar_text(item)),
                });
            Ok(Value::Array(items.collect()))
        }
        Type::Array(_) => otherwise(args.text(6)?, "JSON_QUERY", "the path finds no array"),
        _ => Ok(Value::str(text)),
    }
}

/// What was found as one JSON value; `None` for a scalar that nothing wraps. Several values are an array, as in
/// Flink.
fn wrapped(found: &Selected<'_>, wrapper: &str) -> Option<String> {
    let mut out = String::new();
    let single = match found.items.as_slice() {
        [one] if !found.many => Some(*one),
        _ => None,
    };
    match single {
        Some(one) => json::push_compact(one, &mut out),
        None => {
            out.push('[');
            for (at, item) in found.items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                json::push_compact(item, &mut out);
            }
            out.push(']');
        }
    }
    match (wrapper, json::kind(&out)) {
        ("UNCONDITIONAL", _) => Some(format!("[{out}]")),
        ("CONDITIONAL", JsonKind::Array) => Some(out),
        ("CONDITIONAL", _) => Some(format!("[{out}]")),
        (_, JsonKind::Array | JsonKind::Object) => Some(out),
        _ => None,
    }
}

fn exists(args: &Args<'_>) -> Result<Value, EvalError> {
    match args.json_path(1)?.select(args.text(0)?) {
        Ok(found) => Ok(Value::Bool(!found.items.is_empty())),
        Err(why) => otherwise(args.text(2)?, "JSON_EXISTS", &why.to_string()),
    }
}

/// NULL is no JSON, as in Flink.
fn is_json(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Bool(false));
    }
    let text = args.text(0)?;
    if !json::is_valid(text) {
        return Ok(Value::Bool(false));
    }
    let kind = json::kind(text);
    Ok(Value::Bool(match args.text(1)? {
        "SCALAR" => matches!(kind, JsonKind::Scalar | JsonKind::Null),
        "ARRAY" => kind == JsonKind::Array,
        "OBJECT" => kind == JsonKind::Object,
        _ => true,
    }))
}

/// Appends an argument: as it is where it is JSON already.
fn push(args: &Args<'_>, at: usize, raw: bool, out: &mut String) -> Result<(), EvalError> {
    match args.value(at) {
        Value::Str(text) if raw => out.push_str(text),
        value => json::write_value(value, args.arg_type(at), out),
    }
    if out.len() > MAX_BYTES {
        return Err(too_long());
    }
    Ok(())
}

/// Whether the n-th value is JSON already: the second argument has a `j` at its place then.
fn is_raw(args: &Args<'_>, nth: usize) -> Result<bool, EvalError> {
    Ok(args.text(1)?.as_bytes().get(nth) == Some(&b'j'))
}

fn object(args: &Args<'_>) -> Result<Value, EvalError> {
    let absent = args.text(0)? == "ABSENT";
    let mut out = String::from("{");
    for (nth, at) in (2..args.len().saturating_sub(1)).step_by(2).enumerate() {
        if args.value(at).is_null() {
            return Err(EvalError::new("a key of JSON_OBJECT is NULL"));
        }
        if absent && args.value(at + 1).is_null() {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        json::push_string(args.text(at)?, &mut out);
        out.push(':');
        push(args, at + 1, is_raw(args, nth)?, &mut out)?;
    }
    out.push('}');
    Ok(Value::str(out))
}

fn array(args: &Args<'_>) -> Result<Value, EvalError> {
    let absent = args.text(0)? == "ABSENT";
    let mut out = String::from("[");
    for (nth, at) in (2..args.len()).enumerate() {
        if absent && args.value(at).is_null() {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        push(args, at, is_raw(args, nth)?, &mut out)?;
    }
    out.push(']');
    Ok(Value::str(out))
}

/// As a JSON string of ASCII alone, with `/` escaped, as Flink does.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii() && !c.is_ascii_control() => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// The content of a JSON string; what is none stays as it is.
fn unquote(text: &str) -> String {
    if text.len() < 2 || !text.starts_with('"') {
        return text.to_owned();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())
}

/// How many elements or members the value has, of a scalar 1; NULL where there is none. Not in Flink; as in
/// `MySQL`.
fn length(args: &Args<'_>) -> Result<Value, EvalError> {
    let document = args.text(0)?;
    let found = if args.len() > 1 {
        args.json_path(1)?.select(document)
    } else {
        crate::expr::json::JsonPath::root().select(document)
    };
    let Ok(Selected { items, many: false }) = found else {
        return Ok(Value::Null);
    };
    let Some(item) = items.first() else {
        return Ok(Value::Null);
    };
    let count = match json::kind(item) {
        JsonKind::Array => json::elements(item).len(),
        JsonKind::Object => json::members(item).len(),
        _ => 1,
    };
    Ok(Value::Int(count as i64))
}
