//! Functions with regular expressions. A constant expression is compiled once.
//!
//! The syntax is that of `regex-lite`: Java's without look-around and back-references, matched in linear time, so
//! that no payload can stall a gateway.

use crate::types::{Type, Value};

use super::Kind::{Integer, Text};
use super::Output::{By, Is};
use super::prepare::Preparation::{Regex, Similar};
use super::string::{MAX_BYTES, too_long};
use super::{Args, EvalError, Function, function};

pub(super) const FUNCTIONS: &[Function] = &[
    function("REGEXP", &[Text, Text], Is(Type::Boolean), matches).prepare(&[(1, Regex)]),
    function("REGEXP_LIKE", &[Text, Text], Is(Type::Boolean), matches).prepare(&[(1, Regex)]),
    function(
        "REGEXP_EXTRACT",
        &[Text, Text, Integer],
        Is(Type::String),
        extract,
    )
    .optional(1)
    .may_be_null()
    .prepare(&[(1, Regex)]),
    function(
        "REGEXP_REPLACE",
        &[Text, Text, Text],
        Is(Type::String),
        replace,
    )
    .prepare(&[(1, Regex)]),
    function("REGEXP_COUNT", &[Text, Text], Is(Type::Int), count).prepare(&[(1, Regex)]),
    function("REGEXP_INSTR", &[Text, Text], Is(Type::Int), position).prepare(&[(1, Regex)]),
    function("REGEXP_SUBSTR", &[Text, Text], Is(Type::String), first)
        .may_be_null()
        .prepare(&[(1, Regex)]),
    function(
        "REGEXP_EXTRACT_ALL",
        &[Text, Text, Integer],
        By(|_| Type::Array(Type::String.into())),
        extract_all,
    )
    .optional(1)
    .may_be_null()
    .prepare(&[(1, Regex)]),
    function("$SIMILAR", &[Text, Text, Text], Is(Type::Boolean), |a| {
        Ok(Value::Bool(a.similar(1)?.is_match(a.text(0)?)))
    })
    .optional(1)
    .prepare(&[(1, Similar)]),
];

/// Whether some part of the text matches; nothing matches an empty expression, as in Flink.
fn matches(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.text(1)?.is_empty() {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(args.regex(1)?.is_match(args.text(0)?)))
}

fn extract(args: &Args<'_>) -> Result<Value, EvalError> {
    let Ok(group) = usize::try_from(args.int_or(2, 0)?) else {
        return Ok(Value::Null);
    };
    let regex = args.regex(1)?;
    let found = regex
        .captures(args.text(0)?)
        .and_then(|captures| captures.get(group));
    Ok(found.map_or(Value::Null, |m| Value::str(m.as_str())))
}

/// The replacement is taken as it is: `$1` has no meaning, as in Flink.
fn replace(args: &Args<'_>) -> Result<Value, EvalError> {
    let (text, replacement) = (args.text(0)?, args.text(2)?);
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for found in args.regex(1)?.find_iter(text) {
        out.push_str(&text[copied..found.start()]);
        out.push_str(replacement);
        copied = found.end();
        if out.len() > MAX_BYTES {
            return Err(too_long());
        }
    }
    out.push_str(&text[copied..]);
    Ok(Value::str(out))
}

/// What a group (the first one, if it is left out; 0 is the whole) has matched, each time; NULL if there is no such
/// group.
fn extract_all(args: &Args<'_>) -> Result<Value, EvalError> {
    let regex = args.regex(1)?;
    let group = match usize::try_from(args.int_or(2, 1)?) {
        Ok(group) if group < regex.captures_len() => group,
        _ => return Ok(Value::Null),
    };
    let found = regex.captures_iter(args.text(0)?).map(|captures| {
        captures
            .get(group)
            .map_or(Value::Null, |m| Value::str(m.as_str()))
    });
    Ok(Value::Array(found.collect()))
}

fn count(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Int(
        args.regex(1)?.find_iter(args.text(0)?).count() as i64
    ))
}

fn position(args: &Args<'_>) -> Result<Value, EvalError> {
    let text = args.text(0)?;
    let found = args
        .regex(1)?
        .find(text)
        .map_or(0, |m| text[..m.start()].chars().count() + 1);
    Ok(Value::Int(found as i64))
}

fn first(args: &Args<'_>) -> Result<Value, EvalError> {
    let regex = args.regex(1)?;
    Ok(regex
        .find(args.text(0)?)
        .map_or(Value::Null, |m| Value::str(m.as_str())))
}
