//! Functions on arrays and maps.

use crate::types::{Type, Value};

use super::Kind::{Any, Array, Integer, Map, Text};
use super::Output::{By, Is, Like};
use super::{Args, EvalError, Function, function};
use crate::expr::Comparison;
use crate::expr::numeric::mismatch;

pub(super) const FUNCTIONS: &[Function] = &[
    function("CARDINALITY", &[Array], Is(Type::Int), cardinality),
    function("CARDINALITY", &[Map], Is(Type::Int), cardinality),
    function("ELEMENT", &[Array], By(item_type), element).may_be_null(),
    function("ARRAY_CONTAINS", &[Array, Any], Is(Type::Boolean), contains),
    function("ARRAY_POSITION", &[Array, Any], Is(Type::Int), position),
    function("ARRAY_REVERSE", &[Array], Like(0), reverse),
    function("ARRAY_SLICE", &[Array, Integer, Integer], Like(0), slice).optional(1),
    function("ARRAY_JOIN", &[Array, Text, Text], Is(Type::String), join).optional(1),
    function("MAP_KEYS", &[Map], By(keys_type), |a| {
        entries(a, |(key, _)| key.clone())
    }),
    function("MAP_VALUES", &[Map], By(values_type), |a| {
        entries(a, |(_, value)| value.clone())
    }),
];

fn item_type(types: &[Type]) -> Type {
    match types.first() {
        Some(Type::Array(item)) => item.as_ref().clone(),
        _ => Type::Null,
    }
}

fn keys_type(types: &[Type]) -> Type {
    match types.first() {
        Some(Type::Map(key, _)) => Type::Array(key.clone()),
        _ => Type::Null,
    }
}

fn values_type(types: &[Type]) -> Type {
    match types.first() {
        Some(Type::Map(_, value)) => Type::Array(value.clone()),
        _ => Type::Null,
    }
}

fn cardinality(args: &Args<'_>) -> Result<Value, EvalError> {
    match args.value(0) {
        Value::Array(items) => Ok(Value::Int(items.len() as i64)),
        Value::Map(entries) => Ok(Value::Int(entries.len() as i64)),
        other => Err(mismatch("an ARRAY or MAP", other)),
    }
}

fn element(args: &Args<'_>) -> Result<Value, EvalError> {
    match args.array(0)? {
        [] => Ok(Value::Null),
        [one] => Ok(one.clone()),
        many => Err(EvalError::new(format!(
            "ELEMENT of an array of {} elements: it must have one",
            many.len()
        ))),
    }
}

fn find(args: &Args<'_>) -> Result<Option<usize>, EvalError> {
    let wanted = args.value(1);
    Ok(args
        .array(0)?
        .iter()
        .position(|item| Comparison::Eq.holds(item, wanted) == Some(true)))
}

fn contains(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Bool(find(args)?.is_some()))
}

fn position(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Int(find(args)?.map_or(0, |at| at as i64 + 1)))
}

fn reverse(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Array(args.array(0)?.iter().rev().cloned().collect()))
}

/// From the first to the last position, both included; negative positions count from the end.
fn slice(args: &Args<'_>) -> Result<Value, EvalError> {
    let items = args.array(0)?;
    let count = items.len() as i64;
    let place = |at: i64| {
        if at < 0 {
            at.saturating_add(count) + 1
        } else {
            at
        }
    };
    let first = place(args.int(1)?).max(1);
    let last = place(args.int_or(2, count)?).min(count);
    let kept = if first > last {
        &[]
    } else {
        &items[(first - 1) as usize..last as usize]
    };
    Ok(Value::Array(kept.into()))
}

fn join(args: &Args<'_>) -> Result<Value, EvalError> {
    let separator = args.text(1)?;
    let replacement = if args.len() > 2 {
        Some(args.text(2)?)
    } else {
        None
    };
    let mut parts = Vec::new();
    for item in args.array(0)? {
        match (item, replacement) {
            (Value::Str(text), _) => parts.push(text.as_str()),
            (Value::Null, Some(text)) => parts.push(text),
            (Value::Null, None) => {}
            (other, _) => return Err(mismatch("an ARRAY<STRING>", other)),
        }
    }
    Ok(Value::str(parts.join(separator)))
}

fn entries(args: &Args<'_>, part: fn(&(Value, Value)) -> Value) -> Result<Value, EvalError> {
    match args.value(0) {
        Value::Map(entries) => Ok(Value::Array(entries.iter().map(part).collect())),
        other => Err(mismatch("a MAP", other)),
    }
}
