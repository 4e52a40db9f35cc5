//! OVER: calls in SELECT and QUALIFY, named windows, and the steps they make. How a call and its frame are read is in
//! `call`.
//!
//! Calls are found while expressions are converted; only then is it known how many columns they make. So a call is
//! counted from [`BASE`] on, and moved to its column by [`Planner::over_steps`]. All calls of one partition are one step.

mod call;
mod detect;
mod settings;

pub use detect::detector_names;
pub(super) use detect::{find as detector, needs_over};

use sqlparser::ast::{
    Expr as Ast, Ident, NamedWindowDefinition, NamedWindowExpr, Spanned, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Location;

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{Operator, OverCall, OverFunction, Place, SortKey};
use crate::types::{Column, Type};

use super::planner::{Home, Planner, Relation, same};
use super::scope::{Role, ScopeColumn};

/// Positions from here on mean the calls, in the order in which they were found.
pub(super) const BASE: usize = 1 << 30;

/// The calls with OVER in a SELECT.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The windows of the WINDOW clause, and whether each is used.
    windows: Vec<(Ident, NamedWindowExpr, bool)>,
    found: Vec<Call>,
}

/// A call with OVER.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    keys: Vec<Expr>,
    step: Step,
    ty: Type,
    nullable: bool,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A function of the rows before, by a time attribute.
    Function { time: usize, function: OverFunction },
    /// The first rows of a window.
    Top {
        start: usize,
        end: usize,
        order: Vec<SortKey>,
    },
}

impl Calls {
    /// None yet, with the windows of a WINDOW clause.
    pub(super) fn new(windows: &[NamedWindowDefinition]) -> Self {
        let windows = windows.iter();
        Self {
            windows: windows
                .map(|window| (window.0.clone(), window.1.clone(), false))
                .collect(),
            found: Vec::new(),
        }
    }

    /// Whether there is a call.
    pub(super) fn any(&self) -> bool {
        !self.found.is_empty()
    }

    /// A window of the WINDOW clause that is not used.
    pub(super) fn unused(&self) -> Option<&Ident> {
        let unused = self.windows.iter().find(|(_, _, used)| !used);
        unused.map(|(name, ..)| name)
    }

    /// The definition of a window, with what it takes from another.
    fn window(&mut self, window: &WindowType) -> Result<WindowSpec, ResolveError> {
        let mut wanted = match window {
            WindowType::WindowSpec(spec) => spec.clone(),
            WindowType::NamedWindow(name) => named(name.clone()),
        };
        // Each name is followed once at most, so a circle ends.
        for _ in 0..=self.windows.len() {
            let Some(name) = wanted.window_name.take() else {
                return Ok(wanted);
            };
            let known = self.windows.iter_mut();
            let found = known
                .into_iter()
                .find(|(known, ..)| same(&known.value, &name.value));
            let Some((_, definition, used)) = found else {
                return Err(ResolveError::hinted(
                    format!("there is no window {}", name.value),
                    "declare it behind FROM and WHERE: WINDOW w AS (PARTITION BY … ORDER BY …)",
                ));
            };
            *used = true;
            let base = match definition {
                NamedWindowExpr::WindowSpec(spec) => spec.clone(),
                NamedWindowExpr::NamedWindow(other) => named(other.clone()),
            };
            let twice = (!wanted.partition_by.is_empty() && !base.partition_by.is_empty())
                || (!wanted.order_by.is_empty() && !base.order_by.is_empty())
                || (wanted.window_frame.is_some() && base.window_frame.is_some());
            if twice {
                return Err(ResolveError::hinted(
                    format!("the window {} says this already", name.value),
                    "leave out what it says, or do not name it",
                ));
            }
            if wanted.partition_by.is_empty() {
                wanted.partition_by = base.partition_by;
            }
            if wanted.order_by.is_empty() {
                wanted.order_by = base.order_by;
            }
            wanted.window_frame = wanted.window_frame.or(base.window_frame);
            wanted.window_name = base.window_name;
        }
        Err(ResolveError::hinted(
            "the windows of the WINDOW clause refer to each other in a circle",
            "write one of them out",
        ))
    }
}

fn named(name: Ident) -> WindowSpec {
    WindowSpec {
        window_name: Some(name),
        partition_by: Vec::new(),
        order_by: Vec::new(),
        window_frame: None,
    }
}

impl Planner<'_> {
    /// The steps of calls over a relation, and the expressions with the calls at their columns.
    pub(super) fn over_steps(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        calls: Calls,
    ) -> (Relation, Vec<usize>) {
        let mut relation = self.settled(home, relation);
        let mut columns = vec![0; calls.found.len()];
        let mut left: Vec<(usize, Call)> = calls.found.into_iter().enumerate().collect();
        while !left.is_empty() {
            let (first, rest): (Vec<_>, Vec<_>) = left
                .iter()
                .cloned()
                .partition(|(_, call)| together(&left[0].1, call));
            for (i, (index, _)) in first.iter().enumerate() {
                columns[*index] = relation.scope.columns.len() + i;
            }
            let calls: Vec<Call> = first.into_iter().map(|(_, call)| call).collect();
            relation = self.over_step(home, relation, &calls);
            left = rest;
        }
        (relation, columns)
    }

    fn over_step(&mut self, home: &Home<'_>, relation: Relation, calls: &[Call]) -> Relation {
        let keys = calls[0].keys.clone();
        let operator = match &calls[0].step {
            Step::Top { start, end, order } => Operator::WindowTop {
                start: *start,
                end: *end,
                keys,
                order: order.clone(),
                limit: None,
            },
            Step::Function { time, .. } => Operator::Over {
                time: *time,
                keys,
                functions: calls.iter().filter_map(Call::function).collect(),
                ttl: home.ttl,
            },
        };
        let mut scope = relation.scope;
        for call in calls {
            let column = Column {
                nullable: call.nullable,
                ..Column::new(call.name(), call.ty.clone())
            };
            scope.columns.push(ScopeColumn {
                relation: None,
                column,
                role: Role::None,
                hidden: false,
            });
        }
        let schema = scope.schema();
        let inputs = vec![relation.node];
        let node = self
            .graph
            .add(operator, inputs, schema, &home.query, &calls[0].place);
        Relation {
            node,
            scope,
            pending: None,
        }
    }

    /// An expression with the calls at their columns.
    pub(super) fn over_placed(value: Typed, columns: &[usize]) -> Typed {
        let expr = value.expr.with_columns(&|at| {
            let call = at.checked_sub(BASE).and_then(|call| columns.get(call));
            Expr::Column(call.copied().unwrap_or(at))
        });
        Typed { expr, ..value }
    }

    /// Refuses a window that no call uses, and a QUALIFY without a call.
    pub(super) fn refuse_unused(&mut self, home: &Home<'_>, calls: &Calls, qualify: Option<&Ast>) {
        if let Some(name) = calls.unused() {
            let message = format!("the window {} is not used", name.value);
            let hint = format!("remove it, or write OVER {}", name.value);
            self.refuse(home, name.span.start, message, hint);
        }
        if let Some(qualify) = qualify
            && !calls.any()
        {
            let at: Location = qualify.span().start;
            self.refuse(home, at, "QUALIFY filters by OVER", "write WHERE");
        }
    }
}

impl Call {
    fn function(&self) -> Option<OverFunction> {
        match &self.step {
            Step::Function { function, .. } => Some(function.clone()),
            Step::Top { .. } => None,
        }
    }

    fn name(&self) -> String {
        let name = match &self.step {
            Step::Function { function, .. } => match &function.call {
                OverCall::Aggregate(aggregate) => aggregate.function.name(),
                OverCall::Rank => "rank",
                OverCall::DenseRank => "dense_rank",
                OverCall::Lag { .. } => "lag",
                OverCall::RowNumber => "row_number",
                OverCall::Detect(detection) => detection.method.name(),
            },
            Step::Top { .. } => "row_number",
        };
        name.to_lowercase()
    }
}

/// Whether two calls are one step.
fn together(one: &Call, other: &Call) -> bool {
    one.keys == other.keys
        && match (&one.step, &other.step) {
            (Step::Function { time, .. }, Step::Function { time: other, .. }) => time == other,
            (one, other) => one == other,
        }
}
