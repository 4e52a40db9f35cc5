//! GROUP BY: keys, aggregates, and what may be asked for behind them.

use sqlparser::ast::{DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr};

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{Aggregate, AggregateFunction, Diagnostic};
use crate::types::Type;

use super::convert::Converter;
use super::scope::{Role, Scope};

/// A line of the table of aggregates.
struct Known {
    name: &'static str,
    function: AggregateFunction,
    /// The type of the result for an argument of a type, if it can be aggregated.
    result: fn(&Type) -> Option<Type>,
    /// What it aggregates, for messages.
    takes: &'static str,
}

const AGGREGATES: [Known; 5] = [
    Known {
        name: "COUNT",
        function: AggregateFunction::Count,
        result: |_| Some(Type::BigInt),
        takes: "any value",
    },
    Known {
        name: "SUM",
        function: AggregateFunction::Sum,
        result: sum_type,
        takes: "a number",
    },
    Known {
        name: "AVG",
        function: AggregateFunction::Avg,
        result: average_type,
        takes: "a number",
    },
    Known {
        name: "MIN",
        function: AggregateFunction::Min,
        result: ordered_type,
        takes: "a value with an order",
    },
    Known {
        name: "MAX",
        function: AggregateFunction::Max,
        result: ordered_type,
        takes: "a value with an order",
    },
];

/// Aggregates of Flink that are not computed yet: refused by name, so that nobody takes them for misspelt functions.
const NOT_YET: [&str; 20] = [
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STDDEV",
    "VAR_POP",
    "VAR_SAMP",
    "VARIANCE",
    "FIRST_VALUE",
    "LAST_VALUE",
    "LISTAGG",
    "COLLECT",
    "ARRAY_AGG",
    "APPROX_COUNT_DISTINCT",
    "LAG",
    "LEAD",
    "ROW_NUMBER",
    "RANK",
    "DENSE_RANK",
    "NTILE",
    "PERCENTILE",
    "CUME_DIST",
];

/// Whether a function aggregates.
pub(super) fn is_aggregate(name: &str) -> bool {
    let known = AGGREGATES.iter().map(|known| known.name);
    known
        .chain(NOT_YET)
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// SUM keeps the type of its argument in Flink; a DECIMAL gets all digits.
fn sum_type(ty: &Type) -> Option<Type> {
    match ty {
        Type::Decimal { scale, .. } => Some(Type::Decimal {
            precision: 38,
            scale: *scale,
        }),
        Type::Null => Some(Type::Int),
        ty if ty.is_numeric() => Some(ty.clone()),
        _ => None,
    }
}

/// AVG keeps the type of its argument in Flink; a DECIMAL gets at least six digits after the point.
fn average_type(ty: &Type) -> Option<Type> {
    match ty {
        Type::Decimal { scale, .. } => Some(Type::Decimal {
            precision: 38,
            scale: (*scale).max(6),
        }),
        ty => sum_type(ty),
    }
}

fn ordered_type(ty: &Type) -> Option<Type> {
    match ty {
        Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Bytes => None,
        ty => Some(ty.clone()),
    }
}

/// The keys and aggregates of a query. The row behind it: keys, aggregates, window start, end and time.
#[derive(Debug)]
pub(super) struct Grouping {
    /// The keys beside the window.
    pub(super) keys: Vec<Typed>,
    /// What is aggregated, as it is found in SELECT and HAVING.
    pub(super) aggregates: Vec<Aggregate>,
    /// The columns of the input that are the window's start, end and time.
    pub(super) window: [Option<usize>; 3],
    /// The types of the window's columns.
    pub(super) window_types: [Type; 3],
    /// How many columns of the row come before the window's.
    ///
    /// Aggregates are found while expressions are converted, so positions behind them are not known until the end:
    /// the window's columns are counted from here and moved by [`Grouping::placed`].
    offset: usize,
}

/// Positions from here on mean the window's columns until all aggregates are known.
const WINDOW_BASE: usize = 1 << 32;

impl Grouping {
    pub(super) fn new(keys: Vec<Typed>, scope: &Scope) -> Self {
        let position = |role| scope.position_of(role);
        let window = [
            position(Role::Start),
            position(Role::End),
            position(Role::Time),
        ];
        let window_types = window.map(|at| {
            at.map_or(Type::Timestamp { precision: 3 }, |at| {
                scope.columns[at].column.ty.clone()
            })
        });
        Self {
            keys,
            aggregates: Vec::new(),
            window,
            window_types,
            offset: WINDOW_BASE,
        }
    }

    /// The column of the row behind the GROUP BY that holds this value of the input.
    pub(super) fn key(&self, value: &Typed) -> Option<Typed> {
        if let Expr::Column(at) = value.expr
            && let Some(which) = self.window.iter().position(|column| *column == Some(at))
        {
            let ty = self.window_types[which].clone();
            return Some(Typed::new(Expr::Column(self.offset + which), ty, false));
        }
        let position = self.keys.iter().position(|key| key.expr == value.expr)?;
        Some(Typed::new(
            Expr::Column(position),
            value.ty.clone(),
            value.nullable,
        ))
    }

    /// What a column of the row behind the GROUP BY is of the window, and whether it carries time.
    pub(super) fn role(&self, position: usize) -> (Role, bool) {
        match position.checked_sub(self.offset) {
            Some(0) => (Role::Start, false),
            Some(1) => (Role::End, false),
            Some(_) => (Role::Time, true),
            None => (Role::None, false),
        }
    }

    /// The error that a column is neither a key nor aggregated.
    pub(super) fn not_grouped(scope: &Scope, position: usize) -> ResolveError {
        let name = &scope.columns[position].column.name;
        ResolveError::hinted(
            format!("the column {name} is neither grouped nor aggregated"),
            format!("add it to GROUP BY, or aggregate it: MAX({name})"),
        )
    }

    /// An expression over the row behind the GROUP BY, with the window's columns at their final places.
    pub(super) fn placed(&self, value: Typed) -> Typed {
        let end = self.keys.len() + self.aggregates.len();
        let expr = value.expr.with_columns(&|at| {
            Expr::Column(if at >= WINDOW_BASE {
                at - WINDOW_BASE + end
            } else {
                at
            })
        });
        Typed { expr, ..value }
    }
}

/// Converts a call of an aggregate: notes what is aggregated and gives its column.
pub(super) fn convert(
    converter: &mut Converter<'_>,
    grouping: &mut Grouping,
    name: &str,
    function: &Function,
    ast: &Ast,
) -> Result<Typed, Diagnostic> {
    let upper = name.to_ascii_uppercase();
    let Some(known) = AGGREGATES.iter().find(|known| known.name == upper) else {
        return Err(converter.blame(
            ast,
            ResolveError::hinted(
                format!("{upper} is not supported yet"),
                "the aggregates are COUNT, SUM, AVG, MIN and MAX",
            ),
        ));
    };
    let list = converter.arguments(function, ast)?;
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
        return Err(converter.blame(
            ast,
            ResolveError::hinted(
                format!("{upper}(DISTINCT …) is not supported yet"),
                "group by the value in an inner query over the same window and aggregate its rows",
            ),
        ));
    }
    if !list.clauses.is_empty()
        || !function.within_group.is_empty()
        || function.null_treatment.is_some()
    {
        return Err(converter.blame(
            ast,
            ResolveError::new(format!("{upper} takes one value and FILTER")),
        ));
    }
    // The grouping is set aside, so that columns of the input can be named here and aggregates cannot.
    let argument = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]
            if known.function == AggregateFunction::Count =>
        {
            None
        }
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => {
            Some(converter.convert(argument)?)
        }
        _ => {
            let form = if known.function == AggregateFunction::Count {
                "COUNT(*) or COUNT(value)"
            } else {
                "one value"
            };
            return Err(converter.blame(ast, ResolveError::new(format!("{upper} takes {form}"))));
        }
    };
    let filter = match &function.filter {
        Some(filter) => {
            let predicate = converter.convert(filter)?;
            predicate
                .want_bool("FILTER")
                .map_err(|e| converter.blame(filter, e))?;
            Some(predicate.expr)
        }
        None => None,
    };
    let argument_type = argument
        .as_ref()
        .map_or(Type::Null, |typed| typed.ty.clone());
    let Some(ty) = (known.result)(&argument_type) else {
        return Err(converter.blame(
            ast,
            ResolveError::hinted(
                format!("{upper} takes {}, not {argument_type}", known.takes),
                "convert it first, for instance CAST(x AS DOUBLE)",
            ),
        ));
    };
    let counts = known.function == AggregateFunction::Count;
    let aggregate = Aggregate {
        function: known.function,
        argument: argument.map(|typed| typed.expr),
        argument_type,
        filter,
        ty: ty.clone(),
    };
    let index = grouping
        .aggregates
        .iter()
        .position(|known| *known == aggregate)
        .unwrap_or_else(|| {
            grouping.aggregates.push(aggregate);
            grouping.aggregates.len() - 1
        });
    Ok(Typed::new(
        Expr::Column(grouping.keys.len() + index),
        ty,
        !counts,
    ))
}

/// Whether an expression contains an aggregate, so that its query groups even without GROUP BY.
pub(super) fn contains_aggregate(ast: &Ast) -> bool {
    match ast {
        Ast::Function(function) => {
            let named = super::convert::plain_name(&function.name).is_some_and(is_aggregate);
            (named && function.over.is_none()) || arguments(function).any(contains_aggregate)
        }
        Ast::BinaryOp { left, right, .. } => {
            // Chains lean to the left.
            let mut first = left;
            let mut found = contains_aggregate(right);
            while let Ast::BinaryOp { left, right, .. } = first.as_ref() {
                found |= contains_aggregate(right);
                first = left;
            }
            found || contains_aggregate(first)
        }
        Ast::Nested(inner)
        | Ast::UnaryOp { expr: inner, .. }
        | Ast::Cast { expr: inner, .. }
        | Ast::IsNull(inner)
        | Ast::IsNotNull(inner)
        | Ast::IsTrue(inner)
        | Ast::IsFalse(inner)
        | Ast::IsNotTrue(inner)
        | Ast::IsNotFalse(inner)
        | Ast::Extract { expr: inner, .. }
        | Ast::Ceil { expr: inner, .. }
        | Ast::Floor { expr: inner, .. }
        | Ast::Like { expr: inner, .. }
        | Ast::Substring { expr: inner, .. }
        | Ast::Trim { expr: inner, .. } => contains_aggregate(inner),
        Ast::IsDistinctFrom(a, b) | Ast::IsNotDistinctFrom(a, b) => {
            contains_aggregate(a) || contains_aggregate(b)
        }
        Ast::Between {
            expr, low, high, ..
        } => [expr, low, high]
            .into_iter()
            .any(|part| contains_aggregate(part)),
        Ast::InList { expr, list, .. } => {
            contains_aggregate(expr) || list.iter().any(contains_aggregate)
        }
        Ast::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            operand.as_deref().is_some_and(contains_aggregate)
                || else_result.as_deref().is_some_and(contains_aggregate)
                || conditions
                    .iter()
                    .any(|c| contains_aggregate(&c.condition) || contains_aggregate(&c.result))
        }
        Ast::Array(array) => array.elem.iter().any(contains_aggregate),
        Ast::CompoundFieldAccess { root, .. } => contains_aggregate(root),
        _ => false,
    }
}

fn arguments(function: &Function) -> impl Iterator<Item = &Ast> {
    let list = match &function.args {
        sqlparser::ast::FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast)) => Some(ast),
        _ => None,
    })
}
