//! Functions with regular expressions. A constant expression is compiled once.
//!
//! The syntax is that of `regex-lite`: Java's without look-around and back-references, matched in linear time, so
//! that no payload can stall a gateway.

use crate::types::{Type, Value};

use super::Kind::{Integer, Text};
use super::Output::Is;
use super::Preparation::Regex;
use super::{Args, EvalError, Function, function};

pub(super) const FUNCTIONS: &[Function] = &[
    function("REGEXP", &[Text, Text], Is(Type::Boolean), matches).prepare(Regex(1)),
    function("REGEXP_LIKE", &[Text, Text], Is(Type::Boolean), matches).prepare(Regex(1)),
    function(
        "REGEXP_EXTRACT",
        &[Text, Text, Integer],
        Is(Type::String),
        extract,
    )
    .optional(1)
    .may_be_null()
    .prepare(Regex(1)),
    function(
        "REGEXP_REPLACE",
        &[Text, Text, Text],
        Is(Type::String),
        replace,
    )
    .prepare(Regex(1)),
    function("REGEXP_COUNT", &[Text, Text], Is(Type::Int), count).prepare(Regex(1)),
    function("REGEXP_INSTR", &[Text, Text], Is(Type::Int), position).prepare(Regex(1)),
    function("REGEXP_SUBSTR", &[Text, Text], Is(Type::String), first)
        .may_be_null()
        .prepare(Regex(1)),
];

fn matches(args: &Args<'_>) -> Result<Value, EvalError> {
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

fn replace(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::str(
        args.regex(1)?.replace_all(args.text(0)?, args.text(2)?),
    ))
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
