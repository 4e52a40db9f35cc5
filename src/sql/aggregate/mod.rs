//! GROUP BY: keys, aggregates, and what may be asked for behind them. The table of aggregates is in `known`, and how a
//! call of one is read in `call`.

mod call;
mod known;

use sqlparser::ast::{Expr as Ast, Function, FunctionArg, FunctionArgExpr};

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::Aggregate;
use crate::types::Type;

use super::grouping_sets::Sets;
use super::scope::{Role, Scope};

pub(super) use call::{aggregate, convert};
pub(super) use known::is_aggregate;

/// The keys and aggregates of a query. The row behind it: keys, aggregates, window start, end and time.
#[derive(Debug)]
pub(super) struct Grouping {
    /// The keys beside the window; with grouping sets the last is the set's number.
    pub(super) keys: Vec<Typed>,
    /// The grouping sets, if there are several.
    sets: Option<Sets>,
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
const WINDOW_BASE: usize = 1 << 29;

impl Grouping {
    /// `sets` come with their number in the row, which becomes one more key.
    pub(super) fn new(mut keys: Vec<Typed>, sets: Option<(Sets, Typed)>, scope: &Scope) -> Self {
        let (sets, number) = sets.unzip();
        keys.extend(number);
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
            sets,
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
        let position = self.position_of(value)?;
        let absent = |sets: &Sets| !sets.all_have(position);
        Some(Typed::new(
            Expr::Column(position),
            value.ty.clone(),
            value.nullable || self.sets.as_ref().is_some_and(absent),
        ))
    }

    /// The position of a value among the keys.
    pub(super) fn position_of(&self, value: &Typed) -> Option<usize> {
        self.keys.iter().position(|key| key.expr == value.expr)
    }

    /// The grouping sets, and the column behind the GROUP BY that has a row's number of them.
    pub(super) fn sets(&self) -> Option<(&Sets, Typed)> {
        let number = Expr::Column(self.keys.len().checked_sub(1)?);
        let number = Typed::new(number, Type::Int, false);
        self.sets.as_ref().map(|sets| (sets, number))
    }

    /// With every key NULL in the sets that do not have it.
    pub(super) fn split(mut self) -> Result<Self, ResolveError> {
        if let Some(sets) = &self.sets {
            self.keys = sets.keys(self.keys)?;
        }
        Ok(self)
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

    /// Whether a key or an aggregate reads a column of the input from `width` on.
    pub(super) fn reads(&self, width: usize) -> bool {
        let keys = self.keys.iter().map(|key| &key.expr);
        let aggregated = self.aggregates.iter();
        let aggregated = aggregated.flat_map(|one| one.arguments.iter().chain(&one.filter));
        let mut found = false;
        for expr in keys.chain(aggregated) {
            expr.for_each_column(&mut |column| found |= column >= width);
        }
        found
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
