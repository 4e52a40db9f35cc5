//! Conditional functions: most are other names for CASE and become one. TYPEOF is known before any row.

use crate::types::{Type, Value};

use super::Kind::{Any, Common, Text};
use super::{Args, EvalError, Function, Output, function};
use crate::expr::compare::order;
use crate::expr::{Comparison, ResolveError, Typed};

pub(super) const FUNCTIONS: &[Function] = &[
    function("GREATEST", &[Common], Output::Common, greatest).repeated(),
    function("LEAST", &[Common], Output::Common, least).repeated(),
    function("$NOT_NULL", &[Any, Text], Output::Like(0), not_null).sees_null(),
];

/// Functions that are written as CASE.
pub(super) const REWRITTEN: [&str; 7] = [
    "COALESCE", "IF", "IFNULL", "NULLIF", "NVL", "IS_NULL", "TYPEOF",
];

/// The expression that a conditional function means; `None` for other functions.
pub(super) fn rewrite(name: &str, args: &[Typed]) -> Option<Result<Typed, ResolveError>> {
    let name = REWRITTEN
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name))?;
    let args = args.to_vec();
    let wanted = |form: &str| {
        Some(Err(ResolveError::hinted(
            format!("{name} does not take these arguments"),
            form,
        )))
    };
    match (
        name,
        <[Typed; 3]>::try_from(args.clone()),
        <[Typed; 2]>::try_from(args.clone()),
    ) {
        ("COALESCE", _, _) if !args.is_empty() => Some(Typed::coalesce(args)),
        ("IFNULL" | "NVL", _, Ok(_)) => Some(Typed::coalesce(args)),
        ("IF", Ok([condition, then, otherwise]), _) => {
            Some(Typed::case(vec![(condition, then)], otherwise))
        }
        ("NULLIF", _, Ok([value, null])) => Some(nullif(value, null)),
        ("IS_NULL", _, _) if args.len() == 1 => args.into_iter().next().map(|t| Ok(t.is_null())),
        ("TYPEOF", _, _) if args.len() == 1 => args.first().map(|t| Ok(type_of(t))),
        ("TYPEOF", _, _) => wanted("it takes TYPEOF(value)"),
        ("COALESCE", _, _) => wanted("it takes COALESCE(value, …)"),
        ("IF", _, _) => wanted("it takes IF(condition, then, else)"),
        ("IS_NULL", _, _) => wanted("it takes IS_NULL(value)"),
        _ => wanted("it takes two values"),
    }
}

/// The type as SQL writes it, with NOT NULL where no value can be NULL.
fn type_of(value: &Typed) -> Typed {
    let not_null = if value.nullable { "" } else { " NOT NULL" };
    Typed::string(&format!("{}{not_null}", value.ty))
}

fn nullif(value: Typed, null: Typed) -> Result<Typed, ResolveError> {
    let same = Typed::compare(Comparison::Eq, value.clone(), null)?;
    let nothing = Typed::literal(Value::Null, Type::Null);
    Typed::case(vec![(same, nothing)], value)
}

fn greatest(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(extreme(args, std::cmp::Ordering::is_gt))
}

fn least(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(extreme(args, std::cmp::Ordering::is_lt))
}

fn extreme(args: &Args<'_>, wins: fn(std::cmp::Ordering) -> bool) -> Value {
    let mut best = args.value(0);
    for value in args.values().skip(1) {
        if order(value, best).is_some_and(wins) {
            best = value;
        }
    }
    best.clone()
}

/// The value, which a column that is NOT NULL takes.
fn not_null(args: &Args<'_>) -> Result<Value, EvalError> {
    match args.value(0) {
        Value::Null => {
            let column = args.text(1)?;
            Err(EvalError::new(format!(
                "the column {column} is NOT NULL and got NULL"
            )))
        }
        value => Ok(value.clone()),
    }
}
