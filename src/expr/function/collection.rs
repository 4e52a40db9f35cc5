//! Functions on arrays and maps.

//!
//! Invariant: work grows with n log n at most, so that no payload can stall a gateway. Elements are equal as in
//! DISTINCT: NULL equals NULL, NaN equals NaN.

use std::collections::{BTreeMap, BTreeSet};

use crate::expr::compare::Ordered;
use crate::expr::numeric::mismatch;
use crate::types::{Field, Type, Value};

use super::Kind::{Array, Boolean, CommonArray, CommonMap, Element, Integer, Map, Text};
use super::Output::{By, Common, Is, ItemOfCommon, Like};
use super::string::{MAX_BYTES, too_long};
use super::{Args, EvalError, Function, function};

pub(super) const FUNCTIONS: &[Function] = &[
    function("CARDINALITY", &[Array], Is(Type::Int), cardinality),
    function("CARDINALITY", &[Map], Is(Type::Int), cardinality),
    function("ELEMENT", &[Array], By(item_type), element).may_be_null(),
    function(
        "ARRAY_CONTAINS",
        &[CommonArray, Element],
        Is(Type::Boolean),
        contains,
    )
    .sees_null(),
    function(
        "ARRAY_POSITION",
        &[CommonArray, Element],
        Is(Type::Int),
        |a| Ok(Value::Int(find(a)?.map_or(0, |at| at as i64 + 1))),
    ),
    function("ARRAY_APPEND", &[CommonArray, Element], Common, |a| {
        add(a, false)
    })
    .sees_null(),
    function("ARRAY_PREPEND", &[CommonArray, Element], Common, |a| {
        add(a, true)
    })
    .sees_null(),
    function("ARRAY_REMOVE", &[CommonArray, Element], Common, remove).sees_null(),
    function("ARRAY_DISTINCT", &[Array], Like(0), |a| {
        Ok(distinct(a.array(0)?.iter()))
    }),
    function("ARRAY_UNION", &[CommonArray, CommonArray], Common, |a| {
        Ok(distinct(a.array(0)?.iter().chain(a.array(1)?)))
    }),
    function("ARRAY_EXCEPT", &[CommonArray, CommonArray], Common, |a| {
        kept(a, false)
    }),
    function(
        "ARRAY_INTERSECT",
        &[CommonArray, CommonArray],
        Common,
        |a| kept(a, true),
    ),
    function("ARRAY_CONCAT", &[CommonArray], Common, concat).repeated(),
    function("ARRAY_SORT", &[Array, Boolean, Boolean], Like(0), sort).optional(2),
    function("ARRAY_MAX", &[CommonArray], ItemOfCommon, |a| {
        extreme(a, |values| values.max())
    })
    .may_be_null(),
    function("ARRAY_MIN", &[CommonArray], ItemOfCommon, |a| {
        extreme(a, |values| values.min())
    })
    .may_be_null(),
    function("ARRAY_REVERSE", &[Array], Like(0), reverse),
    function("ARRAY_SLICE", &[Array, Integer, Integer], Like(0), slice).optional(1),
    function("ARRAY_JOIN", &[Array, Text, Text], Is(Type::String), join).optional(1),
    function("MAP_KEYS", &[Map], By(keys_type), |a| {
        entries(a, |(key, _)| key.clone())
    }),
    function("MAP_VALUES", &[Map], By(values_type), |a| {
        entries(a, |(_, value)| value.clone())
    }),
    function("MAP_ENTRIES", &[Map], By(entries_type), |a| {
        entries(a, |(key, value)| {
            Value::Row([key.clone(), value.clone()].into())
        })
    }),
    function(
        "MAP_FROM_ARRAYS",
        &[Array, Array],
        By(map_type),
        from_arrays,
    ),
    function("MAP_UNION", &[CommonMap], Common, union).repeated(),
];

/// A MAP of these entries: of equal keys the last value counts, at the place of the first.
pub(super) fn map_of(entries: Vec<(Value, Value)>) -> Value {
    let mut places: BTreeMap<Ordered<'_>, usize> = BTreeMap::new();
    let mut chosen: Vec<usize> = Vec::with_capacity(entries.len());
    for (at, (key, _)) in entries.iter().enumerate() {
        let place = *places.entry(Ordered(key)).or_insert(chosen.len());
        match chosen.get_mut(place) {
            Some(last) => *last = at,
            None => chosen.push(at),
        }
    }
    Value::Map(chosen.into_iter().map(|at| entries[at].clone()).collect())
}

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

fn entries_type(types: &[Type]) -> Type {
    let Some(Type::Map(key, value)) = types.first() else {
        return Type::Null;
    };
    let field = |name: &str, ty: &Type| Field {
        name: name.into(),
        ty: ty.clone(),
    };
    Type::Array(Type::Row([field("key", key), field("value", value)].into()).into())
}

fn map_type(types: &[Type]) -> Type {
    match types {
        [Type::Array(key), Type::Array(value)] => Type::Map(key.clone(), value.clone()),
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
    let wanted = Ordered(args.value(1));
    Ok(args
        .array(0)?
        .iter()
        .position(|item| Ordered(item) == wanted))
}

fn contains(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Null);
    }
    Ok(Value::Bool(find(args)?.is_some()))
}

fn add(args: &Args<'_>, front: bool) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Null);
    }
    let mut items = args.array(0)?.to_vec();
    let at = if front { 0 } else { items.len() };
    items.insert(at, args.value(1).clone());
    Ok(Value::Array(items.into()))
}

fn remove(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Null);
    }
    let unwanted = Ordered(args.value(1));
    let left = args
        .array(0)?
        .iter()
        .filter(|item| Ordered(item) != unwanted);
    Ok(Value::Array(left.cloned().collect()))
}

/// Each element once, in the order of their first places.
fn distinct<'v>(items: impl Iterator<Item = &'v Value>) -> Value {
    let mut seen = BTreeSet::new();
    let kept = items.filter(|item| seen.insert(Ordered(item)));
    Value::Array(kept.cloned().collect())
}

/// The elements of the first array that are (or are not) in the second, each once.
fn kept(args: &Args<'_>, wanted: bool) -> Result<Value, EvalError> {
    let other: BTreeSet<Ordered<'_>> = args.array(1)?.iter().map(Ordered).collect();
    let items = args.array(0)?.iter();
    Ok(distinct(
        items.filter(|item| other.contains(&Ordered(item)) == wanted),
    ))
}

fn concat(args: &Args<'_>) -> Result<Value, EvalError> {
    let mut items = Vec::new();
    for at in 0..args.len() {
        items.extend_from_slice(args.array(at)?);
    }
    Ok(Value::Array(items.into()))
}

/// Ascending with the NULLs first, descending with the NULLs last, or with the NULLs where the third argument says.
fn sort(args: &Args<'_>) -> Result<Value, EvalError> {
    let ascending = args.len() < 2 || args.bool(1)?;
    let nulls_first = if args.len() > 2 {
        args.bool(2)?
    } else {
        ascending
    };
    let (nulls, mut items): (Vec<Value>, Vec<Value>) =
        args.array(0)?.iter().cloned().partition(Value::is_null);
    items.sort_by(|a, b| {
        let order = Ordered(a).cmp(&Ordered(b));
        if ascending { order } else { order.reverse() }
    });
    let (first, second) = if nulls_first {
        (nulls, items)
    } else {
        (items, nulls)
    };
    Ok(Value::Array(first.into_iter().chain(second).collect()))
}

/// The greatest or the least element that is not NULL.
fn extreme(
    args: &Args<'_>,
    choose: for<'v> fn(&mut dyn Iterator<Item = Ordered<'v>>) -> Option<Ordered<'v>>,
) -> Result<Value, EvalError> {
    let mut values = args.array(0)?.iter().filter(|v| !v.is_null()).map(Ordered);
    Ok(choose(&mut values).map_or(Value::Null, |found| found.0.clone()))
}

fn from_arrays(args: &Args<'_>) -> Result<Value, EvalError> {
    let (keys, values) = (args.array(0)?, args.array(1)?);
    if keys.len() != values.len() {
        return Err(EvalError::new(format!(
            "MAP_FROM_ARRAYS needs arrays of one length, not {} keys and {} values",
            keys.len(),
            values.len()
        )));
    }
    Ok(map_of(
        keys.iter().cloned().zip(values.iter().cloned()).collect(),
    ))
}

/// Of a key in several maps the value of the last one counts.
fn union(args: &Args<'_>) -> Result<Value, EvalError> {
    let mut entries = Vec::new();
    for at in 0..args.len() {
        entries.extend_from_slice(args.map(at)?);
    }
    Ok(map_of(entries))
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
    let mut length = 0_usize;
    for item in args.array(0)? {
        match (item, replacement) {
            (Value::Str(text), _) => parts.push(text.as_str()),
            (Value::Null, Some(text)) => parts.push(text),
            (Value::Null, None) => {}
            (other, _) => return Err(mismatch("an ARRAY<STRING>", other)),
        }
        length = length.saturating_add(separator.len() + parts.last().map_or(0, |p| p.len()));
        if length > MAX_BYTES {
            return Err(too_long());
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
