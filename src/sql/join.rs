//! Joins of streams: which columns are keys, what bounds time, and what is left.
//!
//! A join of two streams must be bounded by time, or rows would have to be kept for ever: by a condition on the two
//! event times, or by equal windows.

use sqlparser::ast::{Expr as Ast, Join, JoinConstraint, JoinOperator, Spanned};
use sqlparser::tokenizer::Location;

use crate::expr::{Comparison, Context, Expr, Typed};
use crate::plan::{IntervalJoin, JoinSide, Operator};
use crate::types::{EventTime, Timespan, Value};

use super::planner::{Failed, Home, Planned, Planner, Relation};
use super::scope::{Role, Scope, ScopeColumn};

/// Which sides give rows without a partner.
pub(super) type Outer = [bool; 2];

/// What a join's condition says, over the joined row.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Equal values, left and right.
    keys: Vec<(Expr, Expr)>,
    /// The time columns that are compared, left and right.
    times: Option<(usize, usize)>,
    /// The bounds of their difference, left minus right.
    lower: Option<Timespan>,
    upper: Option<Timespan>,
    residual: Vec<Expr>,
}

/// A time column and what is added to it.
type Linear = (usize, Timespan);

impl Planner<'_> {
    /// `left [LEFT | RIGHT | FULL] JOIN right ON …`.
    pub(super) fn join_streams(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        right: Relation,
        join: &Join,
    ) -> Planned<Relation> {
        let at = join.relation.span().start;
        let (outer, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => {
                ([false, false], constraint)
            }
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                ([true, false], constraint)
            }
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                ([false, true], constraint)
            }
            JoinOperator::FullOuter(constraint) => ([true, true], constraint),
            JoinOperator::CrossJoin(_) => {
                return Err(self.unbounded(home, at, "CROSS JOIN of streams"));
            }
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_) => {
                return Err(self.refuse(
                    home,
                    at,
                    "SEMI and ANTI joins are not supported",
                    "write LEFT JOIN … ON …, and WHERE b.key IS NULL for rows without a partner",
                ));
            }
            _ => {
                return Err(self.refuse(
                    home,
                    at,
                    "this form of JOIN is not supported",
                    "write [LEFT | RIGHT | FULL] JOIN … ON …",
                ));
            }
        };
        match constraint {
            JoinConstraint::On(on) => self.join_on(home, left, right, outer, on, at),
            JoinConstraint::Using(names) => {
                let names = names.iter().filter_map(super::convert::plain_name);
                let names: Vec<&str> = names.collect();
                self.join_using(home, left, right, outer, &names, at)
            }
            JoinConstraint::Natural => Err(self.refuse(
                home,
                at,
                "NATURAL JOIN is not supported",
                "say which columns are equal: JOIN … ON a.key = b.key AND …",
            )),
            JoinConstraint::None => Err(self.unbounded(home, at, "a JOIN without ON")),
        }
    }

    fn unbounded(&mut self, home: &Home<'_>, at: Location, what: &str) -> Failed {
        self.refuse(
            home,
            at,
            format!("{what} would keep all rows for ever"),
            "bound it by time: JOIN b ON a.key = b.key AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' MINUTE",
        )
    }

    /// `JOIN b USING (window_start, window_end, key)`: only windows can bound such a join.
    fn join_using(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        right: Relation,
        outer: Outer,
        names: &[&str],
        at: Location,
    ) -> Planned<Relation> {
        if outer == [true, true] {
            return Err(self.refuse(
                home,
                at,
                "FULL JOIN with USING is not supported",
                "write ON a.key = b.key, and COALESCE(a.key, b.key) for the value",
            ));
        }
        let width = left.scope.columns.len();
        let (mut keys, mut hidden) = (Vec::new(), Vec::new());
        for name in names {
            let find = |scope: &Scope| scope.schema().position(name);
            let (Some(l), Some(r)) = (find(&left.scope), find(&right.scope)) else {
                return Err(self.refuse(
                    home,
                    at,
                    format!("{name} is not a column of both tables"),
                    "write ON a.x = b.y where the names differ",
                ));
            };
            let right = Typed {
                expr: Expr::Column(r + width),
                ..right.scope.typed(r)
            };
            match Typed::compare(Comparison::Eq, left.scope.typed(l), right) {
                Ok(equal) => keys.push(equal.expr),
                Err(error) => {
                    return Err(self.refuse(home, at, error.message, "convert one with CAST"));
                }
            }
            // The column is there once: that of the side whose rows are always there.
            hidden.push(if outer[1] { l } else { r + width });
        }
        let scope = joined_scope(&left, &right, [false, false]);
        let condition = Condition::read(keys, &scope, width);
        let mut joined = self.planned_join(home, left, right, outer, condition, at)?;
        for at in hidden {
            joined.scope.columns[at].hidden = true;
        }
        Ok(joined)
    }

    /// A join of two streams under a condition.
    pub(super) fn join_on(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        right: Relation,
        outer: Outer,
        on: &Ast,
        at: Location,
    ) -> Planned<Relation> {
        // In the condition both rows are whole, whatever is outer.
        let scope = joined_scope(&left, &right, [false, false]);
        let predicate = self.convert_predicate(home, &scope, on, "ON")?;
        let condition = Condition::read(vec![predicate.expr], &scope, left.scope.columns.len());
        self.planned_join(home, left, right, outer, condition, at)
    }

    fn planned_join(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        right: Relation,
        outer: Outer,
        condition: Condition,
        at: Location,
    ) -> Planned<Relation> {
        let left = self.settled(home, left);
        let right = self.settled(home, right);
        let width = left.scope.columns.len();
        let mut scope = joined_scope(&left, &right, outer);
        let windows = condition.equal_windows(&left.scope, &right.scope);
        let (times, lower, upper) = match (windows, condition.times) {
            (Some(times), _) => (times, Timespan::ZERO, Timespan::ZERO),
            (None, Some((l, r))) => {
                let (Some(lower), Some(upper)) = (condition.lower, condition.upper) else {
                    let what = match condition.lower {
                        Some(_) => {
                            "a join with only one bound on time (a.ts - b.ts has no upper one)"
                        }
                        None => "a join with only one bound on time (a.ts - b.ts has no lower one)",
                    };
                    return Err(self.unbounded(home, at, what));
                };
                let plain = |column| (column, Timespan::ZERO);
                ([plain(l), plain(r - width)], lower, upper)
            }
            (None, None) => {
                return Err(self.unbounded(home, at, "a join of streams without bounds on time"));
            }
        };
        if lower > upper {
            return Err(self.refuse(
                home,
                at,
                "the bounds on time exclude each other: no row could be joined",
                "the lower bound must not be above the upper one",
            ));
        }
        if windows.is_none() {
            // Rows of an interval join belong to no window any more.
            for column in &mut scope.columns {
                column.role = Role::None;
            }
        }
        let ([left_keys, right_keys], residual) = condition.into_keys(width);
        let side = |which: usize, keys, relation: &Relation| JoinSide {
            time: times[which].0,
            shift: times[which].1,
            keys,
            outer: outer[which],
            width: relation.scope.columns.len(),
        };
        let operator = Operator::IntervalJoin(Box::new(IntervalJoin {
            sides: [side(0, left_keys, &left), side(1, right_keys, &right)],
            lower,
            upper,
            residual,
        }));
        let inputs = vec![left.node, right.node];
        let node = self
            .graph
            .add(operator, inputs, scope.schema(), &home.query, &home.place);
        Ok(Relation {
            node,
            scope,
            pending: None,
        })
    }
}

/// The columns of both sides. Those of a side that may be missing may be NULL, and carry no time.
fn joined_scope(left: &Relation, right: &Relation, outer: Outer) -> Scope {
    let with = |relation: &Relation, missing: bool, is_left: bool| {
        let mut columns: Vec<ScopeColumn> = relation.scope.columns.clone();
        for column in &mut columns {
            column.column.nullable |= missing;
            column.column.rowtime &= !missing;
            if missing || !is_left {
                column.role = Role::None;
            }
        }
        columns
    };
    let mut columns = with(left, outer[1], true);
    columns.extend(with(right, outer[0], false));
    Scope { columns }
}

impl Condition {
    /// Takes predicates over a joined row apart.
    fn read(predicates: Vec<Expr>, scope: &Scope, width: usize) -> Self {
        let mut condition = Self::default();
        let mut open = predicates;
        open.reverse();
        while let Some(predicate) = open.pop() {
            match predicate {
                Expr::And(parts) => open.extend(parts.into_vec().into_iter().rev()),
                Expr::Compare { op, left, right } => {
                    condition.compare(scope, width, op, *left, *right);
                }
                Expr::Between { expr, low, high } => {
                    condition.compare(scope, width, Comparison::GtEq, (*expr).clone(), *low);
                    condition.compare(scope, width, Comparison::LtEq, *expr, *high);
                }
                other => condition.residual.push(other),
            }
        }
        condition
    }

    /// Takes a predicate apart in which times are values like others.
    pub(super) fn of_values(predicate: Expr, scope: &Scope, width: usize) -> Self {
        let mut scope = scope.clone();
        for column in &mut scope.columns {
            column.column.rowtime = false;
        }
        Self::read(vec![predicate], &scope, width)
    }

    /// The keys, over each side's own row, and what else must hold, over the joined row.
    pub(super) fn into_keys(self, width: usize) -> ([Vec<Expr>; 2], Option<Expr>) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (l, r) in self.keys {
            left.push(l);
            right.push(r.with_columns(&|at| Expr::Column(at - width)));
        }
        let mut residual = self.residual;
        let residual = match residual.len() {
            0 => None,
            1 => residual.pop(),
            _ => Some(Expr::And(residual.into())),
        };
        ([left, right], residual)
    }

    fn compare(&mut self, scope: &Scope, width: usize, op: Comparison, left: Expr, right: Expr) {
        if let (Some(l), Some(r)) = (linear(&left, scope), linear(&right, scope))
            && (l.0 < width) != (r.0 < width)
        {
            // left + a op right + b, so left - right op b - a.
            let (op, (l, a), (r, b)) = if l.0 < width {
                (op, l, r)
            } else {
                (mirrored(op), r, l)
            };
            let at = Timespan::from_micros(b.as_micros().saturating_sub(a.as_micros()));
            if self.times.is_none_or(|times| times == (l, r)) && self.bound(op, at) {
                self.times = Some((l, r));
                return;
            }
        }
        if op == Comparison::Eq {
            match (side(&left, width), side(&right, width)) {
                (Some(0), Some(1)) => return self.keys.push((left, right)),
                (Some(1), Some(0)) => return self.keys.push((right, left)),
                _ => {}
            }
        }
        self.residual.push(Expr::Compare {
            op,
            left: Box::new(left),
            right: Box::new(right),
        });
    }

    /// Narrows the bounds; false if the comparison is no bound.
    fn bound(&mut self, op: Comparison, at: Timespan) -> bool {
        let step = Timespan::MILLISECOND.as_micros();
        let moved = |by: i64| Timespan::from_micros(at.as_micros().saturating_add(by));
        let (lower, upper) = match op {
            Comparison::Eq => (Some(at), Some(at)),
            Comparison::Lt => (None, Some(moved(-step))),
            Comparison::LtEq => (None, Some(at)),
            Comparison::Gt => (Some(moved(step)), None),
            Comparison::GtEq => (Some(at), None),
            Comparison::NotEq => return false,
        };
        if let Some(lower) = lower {
            self.lower = Some(self.lower.map_or(lower, |known| known.max(lower)));
        }
        if let Some(upper) = upper {
            self.upper = Some(self.upper.map_or(upper, |known| known.min(upper)));
        }
        true
    }

    /// The times of both sides if their windows are equal: the last instants of the windows.
    fn equal_windows(&self, left: &Scope, right: &Scope) -> Option<[Linear; 2]> {
        let width = left.columns.len();
        let equal = |role: Role| {
            let (l, r) = (left.position_of(role)?, right.position_of(role)?);
            let key =
                |(a, b): &(Expr, Expr)| *a == Expr::Column(l) && *b == Expr::Column(r + width);
            self.keys.iter().any(key).then_some((l, r))
        };
        equal(Role::Start)?;
        let (left_end, right_end) = equal(Role::End)?;
        let back = Timespan::from_micros(-Timespan::MILLISECOND.as_micros());
        Some([(left_end, back), (right_end, back)])
    }
}

fn mirrored(op: Comparison) -> Comparison {
    match op {
        Comparison::Lt => Comparison::Gt,
        Comparison::LtEq => Comparison::GtEq,
        Comparison::Gt => Comparison::Lt,
        Comparison::GtEq => Comparison::LtEq,
        same => same,
    }
}

/// The side that an expression is about, if it is about one.
fn side(expr: &Expr, width: usize) -> Option<usize> {
    let (mut left, mut right) = (false, false);
    expr.for_each_column(&mut |at| {
        left |= at < width;
        right |= at >= width;
    });
    match (left, right) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    }
}

/// The event time that an expression is, and what it adds to it: found by trying it on some times, so that it does not
/// matter how it is written. The length of an interval of months depends on the time, so such a one is none.
fn linear(expr: &Expr, scope: &Scope) -> Option<Linear> {
    const SAMPLES: [i64; 4] = [
        0,
        951_782_400_000_000,   // 2000-02-29
        1_681_516_800_000_000, // 2023-04-15: 30 days before the next month's
        1_710_460_800_000_000, // 2024-03-15: 29 days after the last month's
    ];
    let mut column = None;
    let mut others = false;
    expr.for_each_column(&mut |at| {
        others |= column.is_some_and(|known| known != at);
        column = Some(at);
    });
    let column = column.filter(|at| !others && scope.columns[*at].column.rowtime)?;
    let mut row = vec![Value::Null; scope.columns.len()];
    let context = Context {
        now: EventTime::MIN,
    };
    let mut offset = None;
    for sample in SAMPLES {
        row[column] = Value::Timestamp(sample);
        let Ok(Value::Timestamp(moved)) = expr.eval(&row, &context) else {
            return None;
        };
        if *offset.get_or_insert(moved - sample) != moved - sample {
            return None;
        }
    }
    Some((column, Timespan::from_micros(offset?)))
}
