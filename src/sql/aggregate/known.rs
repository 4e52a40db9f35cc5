//! The table of aggregates: their names, what they take, and the type of what they give.
//!
//! Types are Flink's, but for the deviation of integers, which is a DOUBLE: Flink cuts `STDDEV_POP` of an INT to an INT,
//! so that readings of 1 and 2 do not vary at all. Aggregates that Flink does not have are Trino's.
//!
//! Invariant: an aggregate that is not computed is refused by name, so that nobody takes it for a misspelt function.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{Aggregate, AggregateFunction as F};
use crate::types::{Type, Value};

/// What DISTINCT means to an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinct {
    /// Equal values count once.
    Counts,
    /// It changes nothing.
    Idle,
    /// It has no sense.
    Refused,
}

/// What may be said about NULLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    /// Left out, whatever is said.
    Ignored,
    /// Left out unless RESPECT NULLS is said.
    IgnoredUnlessSaid,
    /// Taken unless IGNORE NULLS is said.
    RespectedUnlessSaid,
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) function: F,
    /// How it is written.
    pub(super) form: &'static str,
    pub(super) arguments: RangeInclusive<usize>,
    pub(super) distinct: Distinct,
    pub(super) nulls: Nulls,
}

const fn known(
    name: &'static str,
    function: F,
    form: &'static str,
    arguments: RangeInclusive<usize>,
    distinct: Distinct,
) -> Known {
    Known {
        name,
        function,
        form,
        arguments,
        distinct,
        nulls: Nulls::Ignored,
    }
}

const fn minding(nulls: Nulls, known: Known) -> Known {
    Known { nulls, ..known }
}

use Distinct::{Counts, Idle, Refused};
use Nulls::{IgnoredUnlessSaid, RespectedUnlessSaid};

static KNOWN: [Known; 35] = [
    known(
        "COUNT",
        F::Count,
        "COUNT(*) or COUNT(value)",
        0..=16,
        Counts,
    ),
    known("SUM", F::Sum, "one value", 1..=1, Counts),
    known("AVG", F::Avg, "one value", 1..=1, Counts),
    known("MIN", F::Min, "one value", 1..=1, Idle),
    known("MAX", F::Max, "one value", 1..=1, Idle),
    minding(
        IgnoredUnlessSaid,
        known("FIRST_VALUE", F::FirstValue, "one value", 1..=1, Idle),
    ),
    minding(
        IgnoredUnlessSaid,
        known("LAST_VALUE", F::LastValue, "one value", 1..=1, Refused),
    ),
    known("ANY_VALUE", F::FirstValue, "one value", 1..=1, Idle),
    known("BIT_AND", F::BitAnd, "one value", 1..=1, Idle),
    known("BIT_OR", F::BitOr, "one value", 1..=1, Idle),
    known("BIT_XOR", F::BitXor, "one value", 1..=1, Counts),
    known("STDDEV_POP", F::StddevPop, "one value", 1..=1, Counts),
    known("STDDEV_SAMP", F::StddevSamp, "one value", 1..=1, Counts),
    known("STDDEV", F::StddevSamp, "one value", 1..=1, Counts),
    known("VAR_POP", F::VarPop, "one value", 1..=1, Counts),
    known("VAR_SAMP", F::VarSamp, "one value", 1..=1, Counts),
    known("VARIANCE", F::VarSamp, "one value", 1..=1, Counts),
    known(
        "COVAR_POP",
        F::CovarPop,
        "two values: (y, x)",
        2..=2,
        Counts,
    ),
    known(
        "COVAR_SAMP",
        F::CovarSamp,
        "two values: (y, x)",
        2..=2,
        Counts,
    ),
    known("CORR", F::Corr, "two values: (y, x)", 2..=2, Counts),
    known(
        "REGR_COUNT",
        F::RegrCount,
        "two values: (y, x)",
        2..=2,
        Counts,
    ),
    known(
        "REGR_SLOPE",
        F::RegrSlope,
        "two values: (y, x)",
        2..=2,
        Counts,
    ),
    known(
        "REGR_INTERCEPT",
        F::RegrIntercept,
        "two values: (y, x)",
        2..=2,
        Counts,
    ),
    known("REGR_R2", F::RegrR2, "two values: (y, x)", 2..=2, Counts),
    known("MAX_BY", F::MaxBy, "two values: (what, by)", 2..=2, Refused),
    known("MIN_BY", F::MinBy, "two values: (what, by)", 2..=2, Refused),
    known(
        "LISTAGG",
        F::ListAgg,
        "(text [, 'separator'])",
        1..=2,
        Counts,
    ),
    minding(
        RespectedUnlessSaid,
        known("ARRAY_AGG", F::ArrayAgg, "one value", 1..=1, Counts),
    ),
    known("COLLECT", F::Collect, "one value", 1..=1, Counts),
    known(
        "PERCENTILE",
        F::Percentile,
        "(number, fraction [, frequency])",
        2..=3,
        Counts,
    ),
    known(
        "APPROX_PERCENTILE",
        F::ApproxPercentile,
        "(number, fraction)",
        2..=2,
        Counts,
    ),
    known(
        "APPROX_QUANTILE",
        F::ApproxPercentile,
        "(number, fraction)",
        2..=2,
        Counts,
    ),
    known(
        "APPROX_COUNT_DISTINCT",
        F::ApproxCountDistinct,
        "one value",
        1..=1,
        Idle,
    ),
    known(
        "TIME_WEIGHTED_AVG",
        F::TimeWeightedAvg,
        "(number, time [, 'LOCF' or 'LINEAR'])",
        2..=3,
        Refused,
    ),
    known(
        "TIME_WEIGHTED_AVERAGE",
        F::TimeWeightedAvg,
        "(number, time [, 'LOCF' or 'LINEAR'])",
        2..=3,
        Refused,
    ),
];

/// Aggregates that are not computed, and what to write instead.
const NOT_COMPUTED: [(&str, &str); 29] = [
    ("LAG", OVER),
    ("LEAD", OVER),
    ("ROW_NUMBER", OVER),
    ("RANK", OVER),
    ("DENSE_RANK", OVER),
    ("PERCENT_RANK", OVER),
    ("NTILE", OVER),
    ("CUME_DIST", OVER),
    ("JSON_OBJECTAGG", JSON),
    ("JSON_ARRAYAGG", JSON),
    ("BOOL_AND", "write MIN(x): FALSE is before TRUE"),
    ("EVERY", "write MIN(x): FALSE is before TRUE"),
    ("BOOL_OR", "write MAX(x): FALSE is before TRUE"),
    ("COUNT_IF", "write COUNT(*) FILTER (WHERE …)"),
    ("MEDIAN", "write PERCENTILE(x, 0.5)"),
    ("PERCENTILE_CONT", "write PERCENTILE(x, fraction)"),
    (
        "PERCENTILE_DISC",
        "write PERCENTILE(x, fraction), which interpolates",
    ),
    ("STRING_AGG", "write LISTAGG(x, 'separator')"),
    ("GROUP_CONCAT", "write LISTAGG(x, 'separator')"),
    ("ARG_MAX", "write MAX_BY(x, y)"),
    ("ARG_MIN", "write MIN_BY(x, y)"),
    ("COLLECT_LIST", "write ARRAY_AGG(x)"),
    ("COLLECT_SET", "write ARRAY_AGG(DISTINCT x)"),
    (
        "REGR_AVGX",
        "write AVG(CAST(x AS DOUBLE)) FILTER (WHERE y IS NOT NULL)",
    ),
    (
        "REGR_AVGY",
        "write AVG(CAST(y AS DOUBLE)) FILTER (WHERE x IS NOT NULL)",
    ),
    (
        "REGR_SXX",
        "write VAR_POP(x) * COUNT(x) FILTER (WHERE y IS NOT NULL)",
    ),
    ("REGR_SXY", "write COVAR_POP(y, x) * REGR_COUNT(y, x)"),
    ("MODE", COLLECT),
    ("HISTOGRAM", COLLECT),
];

const OVER: &str = "it stands before OVER (PARTITION BY … ORDER BY …); in GROUP BY use FIRST_VALUE, LAST_VALUE, MAX_BY or MIN_BY";
const JSON: &str =
    "write ARRAY_AGG(x) or COLLECT(x): a JSON sink writes them as arrays and objects";
const COLLECT: &str = "write COLLECT(x): a MAP of each value to how often it was there";

/// The aggregate of a name, if it is computed.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(name))
}

/// What to write instead of an aggregate that is not computed.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    let mut listed = NOT_COMPUTED.iter();
    let found = listed.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, instead)| *instead)
}

/// Whether a function aggregates.
pub(in super::super) fn is_aggregate(name: &str) -> bool {
    find(name).is_some() || instead_of(name).is_some()
}

fn not_of(known: &Known, takes: &str, found: &Type, instead: &str) -> ResolveError {
    ResolveError::hinted(
        format!("{} takes {takes}, not {found}", known.name),
        instead,
    )
}

/// Whether values of a type have an order.
fn ordered(ty: &Type) -> bool {
    !matches!(
        ty,
        Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Bytes
    )
}

/// A DECIMAL with all digits and at least so many after the point; any other type as it is.
fn widened(ty: &Type, least_scale: u8) -> Type {
    match ty {
        Type::Decimal { scale, .. } => Type::Decimal {
            precision: 38,
            scale: (*scale).max(least_scale),
        },
        Type::Null => Type::Int,
        ty => ty.clone(),
    }
}

impl Known {
    /// The aggregate of these arguments, without its clauses.
    pub(super) fn of(&self, mut arguments: Vec<Typed>) -> Result<Aggregate, ResolveError> {
        let first = arguments
            .first()
            .map_or(Type::Null, |typed| typed.ty.clone());
        let mut parameters = Vec::new();
        let ty = match self.function {
            F::Count | F::ApproxCountDistinct => Type::BigInt,
            F::Sum | F::Avg => {
                let interval = matches!(first, Type::IntervalDayTime | Type::IntervalYearMonth);
                if !first.is_numeric() && !interval && first != Type::Null {
                    return Err(self.not_number(&first));
                }
                widened(&first, if self.function == F::Avg { 6 } else { 0 })
            }
            F::Min | F::Max => {
                self.want_ordered(&first)?;
                first
            }
            F::FirstValue | F::LastValue => first,
            F::BitAnd | F::BitOr | F::BitXor => {
                if !first.is_integer() {
                    let instead = "convert it first: CAST(x AS BIGINT)";
                    return Err(not_of(self, "an integer", &first, instead));
                }
                first
            }
            F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp => match &first {
                Type::Float | Type::Decimal { .. } => widened(&first, 6),
                ty if ty.is_numeric() || *ty == Type::Null => Type::Double,
                _ => return Err(self.not_number(&first)),
            },
            F::CovarPop
            | F::CovarSamp
            | F::Corr
            | F::RegrCount
            | F::RegrSlope
            | F::RegrIntercept
            | F::RegrR2 => {
                for argument in &mut arguments {
                    if !argument.ty.is_timestamp() {
                        self.make_double(argument)?;
                    }
                }
                if self.function == F::RegrCount {
                    Type::BigInt
                } else {
                    Type::Double
                }
            }
            F::MaxBy | F::MinBy => {
                self.want_ordered(&arguments[1].ty)?;
                first
            }
            F::ListAgg => {
                if !matches!(first, Type::String | Type::Null) {
                    let instead = "convert it first: CAST(x AS STRING)";
                    return Err(not_of(self, "a STRING", &first, instead));
                }
                let separator = arguments.drain(1..).next();
                parameters.push(match separator.map(|typed| typed.expr) {
                    None => Value::str(","),
                    Some(Expr::Literal(text @ Value::Str(_))) => text,
                    Some(_) => {
                        return Err(ResolveError::hinted(
                            "the separator of LISTAGG is not a constant string",
                            "write it in single quotes: LISTAGG(x, ', ')",
                        ));
                    }
                });
                Type::String
            }
            F::ArrayAgg => Type::Array(Arc::new(first)),
            F::Collect => {
                if matches!(first, Type::Map(..)) {
                    let instead = "collect one of its values: m['key']";
                    return Err(not_of(
                        self,
                        "a value that can be compared",
                        &first,
                        instead,
                    ));
                }
                Type::Map(Arc::new(first), Arc::new(Type::Int))
            }
            F::Percentile | F::ApproxPercentile => {
                self.make_double(&mut arguments[0])?;
                let fraction = arguments.remove(1);
                if let Some(frequency) = arguments.get(1)
                    && !frequency.ty.is_integer()
                {
                    let instead =
                        "the third argument says how often a row counts: CAST(x AS BIGINT)";
                    return Err(not_of(self, "an integer frequency", &frequency.ty, instead));
                }
                let (value, ty) = fractions(self.name, &fraction)?;
                parameters.push(value);
                ty
            }
            F::TimeWeightedAvg => {
                self.make_double(&mut arguments[0])?;
                if !arguments[1].ty.is_timestamp() {
                    let instead = "name the time column: TIME_WEIGHTED_AVG(x, ts)";
                    return Err(not_of(
                        self,
                        "a TIMESTAMP second",
                        &arguments[1].ty,
                        instead,
                    ));
                }
                let rule = arguments.drain(2..).next();
                parameters.push(rule_of(rule)?);
                Type::Double
            }
        };
        let arguments = arguments.into_iter().map(|typed| (typed.expr, typed.ty));
        let mut aggregate = Aggregate::new(self.function, arguments.collect(), ty);
        aggregate.parameters = parameters;
        Ok(aggregate)
    }

    fn not_number(&self, found: &Type) -> ResolveError {
        let instead = "convert it first, for instance CAST(x AS DOUBLE)";
        not_of(self, "a number", found, instead)
    }

    fn want_ordered(&self, ty: &Type) -> Result<(), ResolveError> {
        if ordered(ty) {
            return Ok(());
        }
        let instead = "convert it first, for instance CAST(x AS DOUBLE)";
        Err(not_of(self, "a value with an order", ty, instead))
    }

    fn make_double(&self, argument: &mut Typed) -> Result<(), ResolveError> {
        if !argument.ty.is_numeric() && argument.ty != Type::Null {
            return Err(self.not_number(&argument.ty));
        }
        *argument = argument.clone().cast(&Type::Double, false)?;
        Ok(())
    }
}

/// The fractions of a percentile, as a DOUBLE or an ARRAY of them, and the type of the result.
fn fractions(name: &str, given: &Typed) -> Result<(Value, Type), ResolveError> {
    let wrong = || {
        ResolveError::hinted(
            format!("the fraction of {name} is not a constant from 0 to 1"),
            format!("write {name}(x, 0.95), or {name}(x, ARRAY[0.5, 0.95]) for several"),
        )
    };
    let one = |value: &Value, ty: &Type| {
        if !ty.is_numeric() {
            return None;
        }
        let literal = Typed::literal(value.clone(), ty.clone());
        match literal.cast(&Type::Double, false).ok()?.expr {
            Expr::Literal(Value::Double(fraction)) if (0.0..=1.0).contains(&fraction) => {
                Some(Value::Double(fraction))
            }
            _ => None,
        }
    };
    let list = || Type::Array(Arc::new(Type::Double));
    match (&given.expr, &given.ty) {
        (Expr::Literal(Value::Array(items)), Type::Array(ty)) if !items.is_empty() => {
            let all: Option<Vec<Value>> = items.iter().map(|item| one(item, ty)).collect();
            Ok((Value::Array(all.ok_or_else(wrong)?.into()), list()))
        }
        (Expr::Construct { items, .. }, Type::Array(ty)) if !items.is_empty() => {
            let item = |item: &Expr| match item {
                Expr::Literal(value) => one(value, ty),
                _ => None,
            };
            let all: Option<Vec<Value>> = items.iter().map(item).collect();
            Ok((Value::Array(all.ok_or_else(wrong)?.into()), list()))
        }
        (Expr::Literal(value), ty) => one(value, ty).map(|v| (v, Type::Double)).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// What `TIME_WEIGHTED_AVG` is told to do between samples.
fn rule_of(given: Option<Typed>) -> Result<Value, ResolveError> {
    let rule = match given.map(|typed| typed.expr) {
        None => Some("LOCF"),
        Some(Expr::Literal(Value::Str(text))) => {
            let rules = ["LOCF", "LINEAR"];
            rules
                .into_iter()
                .find(|rule| rule.eq_ignore_ascii_case(&text))
        }
        Some(_) => None,
    };
    rule.map(Value::str).ok_or_else(|| {
        ResolveError::hinted(
            "the third argument of TIME_WEIGHTED_AVG is not a rule",
            "write 'LOCF' (each value holds until the next) or 'LINEAR' (a line between them)",
        )
    })
}
