//! The registry of scalar functions: names and type rules as in Flink.
//!
//! To add a function, add one line to the table of its family: its name, the kinds of its arguments, the type of
//! its result and the code. Several lines of one name are overloads; the first that fits is taken.
//!
//! Invariants: a function has no state and no side effect; only those marked `clock` look at the time. Strict
//! functions (all that are not marked `sees_null`) never see a NULL: the result is NULL then.

// Every function of a table has the same signature, whether it can fail or not.
#![allow(clippy::unnecessary_wraps)]

mod args;
mod bits;
mod collection;
mod conditional;
mod encoding;
mod hash;
mod json;
mod math;
mod pieces;
mod prepare;
mod printf;
mod regex;
mod string;
#[cfg(test)]
mod tests;
mod time;
mod zoned;

use std::fmt;
use std::sync::Arc;

use crate::types::{Type, Value};

use super::promote::common_type;
use super::{Arithmetic, Call, EvalError, Expr, ResolveError, Typed};

pub(super) use args::Args;
use prepare::Preparation;
pub(super) use prepare::Prepared;

/// All families.
const TABLES: [&[Function]; 13] = [
    math::FUNCTIONS,
    bits::FUNCTIONS,
    hash::FUNCTIONS,
    string::FUNCTIONS,
    pieces::FUNCTIONS,
    encoding::FUNCTIONS,
    printf::FUNCTIONS,
    regex::FUNCTIONS,
    time::FUNCTIONS,
    zoned::FUNCTIONS,
    json::FUNCTIONS,
    collection::FUNCTIONS,
    conditional::FUNCTIONS,
];

/// Functions that Flink has and that cannot be had here, with the reason and the remedy.
const REFUSED: [(&str, &str, &str); 8] = [
    ("RAND", NOT_REPEATABLE, BY_HASH),
    ("RAND_INTEGER", NOT_REPEATABLE, BY_HASH),
    ("UUID", NOT_REPEATABLE, BY_ID),
    ("GEN_UUID", NOT_REPEATABLE, BY_ID),
    (
        "CURRENT_WATERMARK",
        "depends on what else has arrived, and so a replay would give other rows",
        "late rows become dead letters by themselves",
    ),
    (
        "CURRENT_DATABASE",
        "names a catalog, and there is none",
        "leave it out",
    ),
    ("PARSE_JSON", NO_VARIANT, BY_PATH),
    ("TRY_PARSE_JSON", NO_VARIANT, BY_PATH),
];
const NOT_REPEATABLE: &str =
    "is not repeatable, and after a crash the same event would give another row";
const BY_HASH: &str = "to sample, compare a hash: LEFT(MD5(key), 1) = '0' takes one key in 16";
const BY_ID: &str = "each derived event has an id: 'json.id-field' on the sink writes it";
const NO_VARIANT: &str = "makes a VARIANT, and there is no such type";
const BY_PATH: &str = "read what you need with JSON_VALUE or JSON_QUERY";

/// A scalar function.
// Its flags are independent of each other.
#[allow(clippy::struct_excessive_bools)]
pub struct Function {
    name: &'static str,
    params: &'static [Kind],
    /// How many of the parameters, from the last, may be left out.
    optional: usize,
    /// Whether the last parameter may be repeated.
    repeated: bool,
    result: Output,
    strict: bool,
    /// Whether the result may be NULL though no argument is.
    may_be_null: bool,
    clock: bool,
    /// What is computed once from which argument, if that is constant.
    prepare: &'static [(usize, Preparation)],
    eval: fn(&Args<'_>) -> Result<Value, EvalError>,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Anything.
    Any,
    /// Anything; all arguments of this kind are brought to their common type.
    Common,
    /// A number of any kind.
    Number,
    /// An integer of any width.
    Integer,
    /// A number that is exact: an integer or a DECIMAL.
    Exact,
    /// FLOAT or DOUBLE.
    Approximate,
    /// STRING.
    Text,
    /// BYTES.
    Bytes,
    /// TIMESTAMP, `TIMESTAMP_LTZ` or DATE.
    Point,
    /// DATE.
    Date,
    /// TIME.
    TimeOfDay,
    /// ARRAY.
    Array,
    /// MAP.
    Map,
    /// BOOLEAN.
    Boolean,
    /// INTERVAL of days to seconds or of years and months.
    Span,
    /// ARRAY; brought to one type with all others of this kind and with every [`Kind::Element`].
    CommonArray,
    /// MAP; brought to one type with all others of this kind.
    CommonMap,
    /// An element of the arrays of [`Kind::CommonArray`].
    Element,
}

/// The type of a result.
#[derive(Clone)]
enum Output {
    /// This type.
    Is(Type),
    /// The type of the argument at this position.
    Like(usize),
    /// The common type of the arguments of [`Kind::Common`].
    Common,
    /// The type of the items of the common ARRAY type.
    ItemOfCommon,
    /// What a rule makes of the types of the arguments.
    By(fn(&[Type]) -> Type),
}

/// A line of a table: a strict function.
const fn function(
    name: &'static str,
    params: &'static [Kind],
    result: Output,
    eval: fn(&Args<'_>) -> Result<Value, EvalError>,
) -> Function {
    Function {
        name,
        params,
        optional: 0,
        repeated: false,
        result,
        strict: true,
        may_be_null: false,
        clock: false,
        prepare: &[],
        eval,
    }
}

impl Function {
    const fn optional(mut self, count: usize) -> Self {
        self.optional = count;
        self
    }

    const fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    const fn sees_null(mut self) -> Self {
        self.strict = false;
        self
    }

    const fn may_be_null(mut self) -> Self {
        self.may_be_null = true;
        self
    }

    const fn clock(mut self) -> Self {
        self.clock = true;
        self
    }

    const fn prepare(mut self, prepare: &'static [(usize, Preparation)]) -> Self {
        self.prepare = prepare;
        self
    }

    /// The name; those that begin with `$` are not for people to call.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the result depends on the time of evaluation.
    pub const fn reads_clock(&self) -> bool {
        self.clock
    }

    /// Whether a NULL argument makes the result NULL.
    pub(super) const fn is_strict(&self) -> bool {
        self.strict
    }

    pub(super) fn run(&self, args: &Args<'_>) -> Result<Value, EvalError> {
        (self.eval)(args)
    }

    fn accepts(&self, types: &[Type]) -> bool {
        let most = if self.repeated {
            usize::MAX
        } else {
            self.params.len()
        };
        let least = self.params.len() - self.optional;
        (least..=most).contains(&types.len())
            && types
                .iter()
                .enumerate()
                .all(|(i, ty)| self.kind(i).accepts(ty))
    }

    fn kind(&self, position: usize) -> Kind {
        self.params[position.min(self.params.len() - 1)]
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    fn accepts(self, ty: &Type) -> bool {
        if *ty == Type::Null {
            return true;
        }
        match self {
            Self::Any | Self::Common | Self::Element => true,
            Self::Number => ty.is_numeric(),
            Self::Integer => ty.is_integer(),
            Self::Exact => ty.is_integer() || matches!(ty, Type::Decimal { .. }),
            Self::Approximate => matches!(ty, Type::Float | Type::Double),
            Self::Text => *ty == Type::String,
            Self::Bytes => *ty == Type::Bytes,
            Self::Point => ty.is_timestamp() || *ty == Type::Date,
            Self::Date => *ty == Type::Date,
            Self::TimeOfDay => matches!(ty, Type::Time { .. }),
            Self::Array | Self::CommonArray => matches!(ty, Type::Array(_)),
            Self::Map | Self::CommonMap => matches!(ty, Type::Map(..)),
            Self::Boolean => *ty == Type::Boolean,
            Self::Span => matches!(ty, Type::IntervalDayTime | Type::IntervalYearMonth),
        }
    }

    /// Whether arguments of this kind are brought to a common type.
    const fn is_common(self) -> bool {
        matches!(
            self,
            Self::Common | Self::CommonArray | Self::CommonMap | Self::Element
        )
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Any | Self::Common => "any",
            Self::Element => "element",
            Self::Boolean => "BOOLEAN",
            Self::Span => "INTERVAL",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Exact => "integer or DECIMAL",
            Self::Approximate => "DOUBLE",
            Self::Text => "STRING",
            Self::Bytes => "BYTES",
            Self::Point => "TIMESTAMP or DATE",
            Self::Date => "DATE",
            Self::TimeOfDay => "TIME",
            Self::Array | Self::CommonArray => "ARRAY",
            Self::Map | Self::CommonMap => "MAP",
        }
    }
}

/// What a call of a function means.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The function.
    pub function: &'static Function,
    /// The types its arguments must be cast to.
    pub args: Vec<Type>,
    /// The type of the result.
    pub ty: Type,
}

/// Finds the function `name` for arguments of these types.
pub fn resolve(name: &str, types: &[Type]) -> Result<Resolved, ResolveError> {
    let overloads: Vec<&'static Function> = all()
        .filter(|f| f.name.eq_ignore_ascii_case(name))
        .collect();
    if overloads.is_empty() {
        return Err(unknown(name));
    }
    let Some(function) = overloads.iter().find(|f| f.accepts(types)) else {
        return Err(misfit(name, &overloads, types));
    };
    let mut common = Type::Null;
    for (i, ty) in types.iter().enumerate() {
        let kind = function.kind(i);
        if !kind.is_common() {
            continue;
        }
        // An element is to the arrays what an array of it would be.
        let met = match kind {
            Kind::Element => &Type::Array(Arc::new(ty.clone())),
            _ => ty,
        };
        common = common_type(&common, met).ok_or_else(|| {
            ResolveError::hinted(
                format!(
                    "the arguments of {} are of different types: {common} and {ty}",
                    function.name
                ),
                "convert one with CAST",
            )
        })?;
    }
    let args = types
        .iter()
        .enumerate()
        .map(|(i, ty)| match (function.kind(i), &common) {
            (Kind::Element, Type::Array(item)) => item.as_ref().clone(),
            (kind, _) if kind.is_common() => common.clone(),
            _ => ty.clone(),
        })
        .collect();
    let ty = match &function.result {
        Output::Is(ty) => ty.clone(),
        Output::Like(position) => types.get(*position).cloned().unwrap_or(Type::Null),
        Output::Common => common,
        Output::By(rule) => rule(types),
        Output::ItemOfCommon => match common {
            Type::Array(item) => item.as_ref().clone(),
            other => other,
        },
    };
    Ok(Resolved { function, args, ty })
}

/// The call of `name` with these arguments.
pub fn call(name: &str, args: Vec<Typed>) -> Result<Typed, ResolveError> {
    if let Some(rewritten) = conditional::rewrite(name, &args) {
        return rewritten;
    }
    if name.eq_ignore_ascii_case("MOD")
        && let [left, right] = args.as_slice()
    {
        return Typed::arith(Arithmetic::Rem, left.clone(), right.clone());
    }
    let types: Vec<Type> = args.iter().map(|t| t.ty.clone()).collect();
    let Resolved {
        function,
        args: wanted,
        ty,
    } = resolve(name, &types)?;
    let nullable = function.may_be_null || args.iter().any(|t| t.nullable);
    let args: Result<Vec<Expr>, ResolveError> = args
        .into_iter()
        .zip(&wanted)
        .map(|(arg, ty)| arg.cast(ty, false).map(|t| t.expr))
        .collect();
    let args: Box<[Expr]> = args?.into();
    let ty = math::rounded_type(function.name, &wanted, &args).unwrap_or(ty);
    let prepared = prepare::prepare(function, &args)?;
    let expr = Expr::Call(Call {
        function,
        args,
        types: wanted.into(),
        ty: ty.clone(),
        prepared,
    });
    Ok(Typed::new(expr, ty, nullable).folded())
}

/// The names of all functions that people may call, sorted, each once.
pub fn function_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = all()
        .map(|f| f.name)
        .filter(|name| !name.starts_with('$'))
        .collect();
    names.extend(conditional::REWRITTEN);
    names.extend(json::WITH_CLAUSES);
    names.push("MOD");
    names.sort_unstable();
    names.dedup();
    names
}

fn all() -> impl Iterator<Item = &'static Function> {
    TABLES.into_iter().flatten()
}

fn unknown(name: &str) -> ResolveError {
    let upper = name.to_ascii_uppercase();
    if let Some((_, reason, remedy)) = REFUSED.iter().find(|(refused, ..)| *refused == upper) {
        return ResolveError::hinted(format!("{upper} is not supported: it {reason}"), *remedy);
    }
    let nearest = function_names()
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&upper, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1);
    ResolveError {
        message: format!("there is no function {upper}"),
        hint: nearest.map(|(_, known)| format!("did you mean {known}?")),
    }
}

fn misfit(name: &str, overloads: &[&'static Function], types: &[Type]) -> ResolveError {
    let given: Vec<String> = types.iter().map(ToString::to_string).collect();
    let forms: Vec<String> = overloads
        .iter()
        .map(|f| {
            let required = f.params.len() - f.optional;
            let mut params = String::new();
            for (i, kind) in f.params.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                let (open, close) = if i >= required { ("[", "]") } else { ("", "") };
                params.extend([open, comma, kind.describe(), close]);
            }
            let dots = if f.repeated { ", …" } else { "" };
            format!("{}({params}{dots})", f.name.trim_start_matches('$'))
        })
        .collect();
    ResolveError::hinted(
        format!(
            "{} does not take ({})",
            name.trim_start_matches('$').to_ascii_uppercase(),
            given.join(", ")
        ),
        format!("it takes {}", forms.join(" or ")),
    )
}
