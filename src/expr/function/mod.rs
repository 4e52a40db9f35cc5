//! The registry of scalar functions: names and type rules as in Flink.
//!
//! To add a function, add one line to the table of its family: its name, the kinds of its arguments, the type of
//! its result and the code. Several lines of one name are overloads; the first that fits is taken.
//!
//! Invariants: a function has no state and no side effect; only those marked `clock` look at the time. Strict
//! functions (all that are not marked `sees_null`) never see a NULL: the result is NULL then.

// Every function of a table has the same signature, whether it can fail or not.
#![allow(clippy::unnecessary_wraps)]

mod collection;
mod conditional;
mod math;
mod regex;
mod string;
mod time;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::types::{EventTime, Type, Value};

use super::calendar::Unit;
use super::numeric::{mismatch, to_f64};
use super::pattern::TimePattern;
use super::promote::common_type;
use super::{Arithmetic, Call, Context, EvalError, Expr, Prepared, ResolveError, Typed};

/// All families.
const TABLES: [&[Function]; 6] = [
    math::FUNCTIONS,
    string::FUNCTIONS,
    regex::FUNCTIONS,
    time::FUNCTIONS,
    collection::FUNCTIONS,
    conditional::FUNCTIONS,
];

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
    prepare: Preparation,
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
    /// What a rule makes of the types of the arguments.
    By(fn(&[Type]) -> Type),
}

/// What can be computed once from constant arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preparation {
    Nothing,
    /// The argument at this position is a regular expression.
    Regex(usize),
    /// The argument at this position names a unit of time, and must be constant.
    Unit(usize),
    /// The argument at this position, if given, is a pattern of date and time.
    Pattern(usize),
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
        prepare: Preparation::Nothing,
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

    const fn prepare(mut self, prepare: Preparation) -> Self {
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
            Self::Any | Self::Common => true,
            Self::Number => ty.is_numeric(),
            Self::Integer => ty.is_integer(),
            Self::Exact => ty.is_integer() || matches!(ty, Type::Decimal { .. }),
            Self::Approximate => matches!(ty, Type::Float | Type::Double),
            Self::Text => *ty == Type::String,
            Self::Bytes => *ty == Type::Bytes,
            Self::Point => ty.is_timestamp() || *ty == Type::Date,
            Self::Date => *ty == Type::Date,
            Self::TimeOfDay => matches!(ty, Type::Time { .. }),
            Self::Array => matches!(ty, Type::Array(_)),
            Self::Map => matches!(ty, Type::Map(..)),
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Any | Self::Common => "any",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Exact => "integer or DECIMAL",
            Self::Approximate => "DOUBLE",
            Self::Text => "STRING",
            Self::Bytes => "BYTES",
            Self::Point => "TIMESTAMP or DATE",
            Self::Date => "DATE",
            Self::TimeOfDay => "TIME",
            Self::Array => "ARRAY",
            Self::Map => "MAP",
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
    for (i, ty) in types
        .iter()
        .enumerate()
        .filter(|(i, _)| function.kind(*i) == Kind::Common)
    {
        common = common_type(&common, ty).ok_or_else(|| {
            ResolveError::hinted(
                format!(
                    "the arguments of {} are of different types: {common} and {}",
                    function.name, types[i]
                ),
                "convert one with CAST",
            )
        })?;
    }
    let args = types
        .iter()
        .enumerate()
        .map(|(i, ty)| {
            if function.kind(i) == Kind::Common {
                common.clone()
            } else {
                ty.clone()
            }
        })
        .collect();
    let ty = match &function.result {
        Output::Is(ty) => ty.clone(),
        Output::Like(position) => types.get(*position).cloned().unwrap_or(Type::Null),
        Output::Common => common,
        Output::By(rule) => rule(types),
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
    let prepared = prepare(function, &args)?;
    let expr = Expr::Call(Call {
        function,
        args,
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

fn prepare(function: &Function, args: &[Expr]) -> Result<Prepared, ResolveError> {
    let text = |position: usize| match args.get(position) {
        Some(Expr::Literal(Value::Str(text))) => Some(text.as_str()),
        _ => None,
    };
    match function.prepare {
        Preparation::Nothing => Ok(Prepared::Nothing),
        Preparation::Regex(at) => text(at).map_or(Ok(Prepared::Nothing), |pattern| {
            compile_regex(pattern)
                .map(|regex| Prepared::Regex(Arc::new(regex)))
                .map_err(|e| {
                    ResolveError::hinted(e.0, "look-around and back-references are not supported")
                })
        }),
        Preparation::Unit(at) => {
            let name = text(at).unwrap_or_default();
            Unit::parse(name).map(Prepared::Unit).ok_or_else(|| {
                ResolveError::hinted(
                    format!("'{name}' is not a unit of time"),
                    "units are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND",
                )
            })
        }
        Preparation::Pattern(at) => text(at).map_or(Ok(Prepared::Nothing), |pattern| {
            TimePattern::compile(pattern)
                .map(|compiled| Prepared::Pattern(Arc::new(compiled)))
                .map_err(ResolveError::new)
        }),
    }
}

fn compile_regex(pattern: &str) -> Result<regex_lite::Regex, EvalError> {
    regex_lite::Regex::new(pattern)
        .map_err(|e| EvalError::new(format!("'{pattern}' is not a regular expression: {e}")))
}

/// The arguments of a call while it is evaluated.
pub(super) struct Args<'a> {
    values: &'a [Cow<'a, Value>],
    call: &'a Call,
    context: &'a Context,
}

impl<'a> Args<'a> {
    pub(super) fn new(values: &'a [Cow<'a, Value>], call: &'a Call, context: &'a Context) -> Self {
        Self {
            values,
            call,
            context,
        }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn value(&self, at: usize) -> &Value {
        &self.values[at]
    }

    fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.values.iter().map(AsRef::as_ref)
    }

    fn text(&self, at: usize) -> Result<&str, EvalError> {
        match self.value(at) {
            Value::Str(text) => Ok(text),
            other => Err(mismatch("a STRING", other)),
        }
    }

    fn int(&self, at: usize) -> Result<i64, EvalError> {
        match self.value(at) {
            Value::Int(value) => Ok(*value),
            other => Err(mismatch("an integer", other)),
        }
    }

    fn double(&self, at: usize) -> Result<f64, EvalError> {
        to_f64(self.value(at))
    }

    fn array(&self, at: usize) -> Result<&[Value], EvalError> {
        match self.value(at) {
            Value::Array(items) => Ok(items),
            other => Err(mismatch("an ARRAY", other)),
        }
    }

    /// A TIMESTAMP or DATE as microseconds.
    fn point(&self, at: usize) -> Result<i64, EvalError> {
        match self.value(at) {
            Value::Timestamp(micros) => Ok(*micros),
            Value::Date(days) => Ok(i64::from(*days) * super::calendar::MICROS_PER_DAY),
            other => Err(mismatch("a TIMESTAMP", other)),
        }
    }

    /// An integer argument, or `default` where it was left out.
    fn int_or(&self, at: usize, default: i64) -> Result<i64, EvalError> {
        if at < self.len() {
            self.int(at)
        } else {
            Ok(default)
        }
    }

    /// The declared type of the result.
    fn ty(&self) -> &Type {
        &self.call.ty
    }

    fn now(&self) -> EventTime {
        self.context.now
    }

    /// The unit that was prepared.
    fn unit(&self) -> Result<Unit, EvalError> {
        match &self.call.prepared {
            Prepared::Unit(unit) => Ok(*unit),
            _ => Err(EvalError::new("the unit of time must be constant")),
        }
    }

    /// The regular expression: prepared, or compiled for this row.
    fn regex(&self, at: usize) -> Result<Cow<'_, regex_lite::Regex>, EvalError> {
        match &self.call.prepared {
            Prepared::Regex(regex) => Ok(Cow::Borrowed(regex)),
            _ => compile_regex(self.text(at)?).map(Cow::Owned),
        }
    }

    /// The pattern of date and time: prepared, or compiled for this row.
    fn pattern(&self, at: usize) -> Result<Cow<'_, TimePattern>, EvalError> {
        match &self.call.prepared {
            Prepared::Pattern(pattern) => Ok(Cow::Borrowed(pattern)),
            _ => TimePattern::compile(self.text(at)?)
                .map(Cow::Owned)
                .map_err(EvalError::new),
        }
    }
}
