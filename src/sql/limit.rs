//! Filters on row numbers: `WHERE rn <= 3` says how many rows a Top-N keeps, `WHERE rn = 1` that only the first row of a
//! key is wanted.
//!
//! The filter may stand queries away from the number: the way back leads through steps that pass rows on one by one.
//! Steps that bring rows together end it, as they would see fewer rows. The filter itself stays.

use crate::expr::{Comparison, Expr};
use crate::plan::{
    Diagnostic, Frame, MAX_TOP, Node, NodeId, Operator, OverCall, OverFunction, Plan,
};
use crate::types::{Timespan, Value};

use super::planner::{Planner, Relation};

impl Planner<'_> {
    /// The relation with the row numbers bounded that a filter on it bounds.
    pub(super) fn limited(&mut self, mut relation: Relation, predicate: &Expr) -> Relation {
        for (column, most) in bounds(predicate) {
            let width = self.graph.node(relation.node).schema.len();
            if column < width
                && let Some(node) = self.limit(relation.node, column, most)
            {
                relation.node = node;
            }
        }
        relation
    }

    /// A node that gives the same rows, without those whose number in `column` is greater than `most`.
    fn limit(&mut self, id: NodeId, column: usize, most: i64) -> Option<NodeId> {
        let Node {
            operator,
            inputs,
            schema,
            query,
            place,
            ..
        } = self.graph.node(id).clone();
        let [input] = *inputs.as_slice() else {
            return None;
        };
        let width = self.graph.node(input).schema.len();
        let (operator, input) = match operator {
            Operator::Project { ref exprs } => match exprs.get(column)? {
                Expr::Column(below) => {
                    let below = *below;
                    (operator, self.limit(input, below, most)?)
                }
                _ => return None,
            },
            Operator::Filter { .. } => (operator, self.limit(input, column, most)?),
            Operator::Unnest { .. } | Operator::WindowAssign { .. } if column < width => {
                (operator, self.limit(input, column, most)?)
            }
            Operator::WindowTop {
                start,
                end,
                keys,
                order,
                limit,
            } if column == width => {
                let most = usize::try_from(most).unwrap_or_default().max(1);
                let limit = Some(limit.map_or(most, |known| known.min(most)));
                let operator = Operator::WindowTop {
                    start,
                    end,
                    keys,
                    order,
                    limit,
                };
                (operator, input)
            }
            Operator::Over {
                time,
                keys,
                functions,
                ttl,
            } if column == width && most <= 1 => {
                let within = remembered(&functions, ttl)?;
                (Operator::Deduplicate { time, keys, within }, input)
            }
            _ => return None,
        };
        let (inputs, query) = (vec![input], &query);
        Some(self.graph.add(operator, inputs, schema, query, &place))
    }
}

/// How long the only function, a row number, looks back on the rows of a key.
fn remembered(functions: &[OverFunction], ttl: Option<Timespan>) -> Option<Timespan> {
    let [
        OverFunction {
            frame,
            call: OverCall::RowNumber,
        },
    ] = functions
    else {
        return None;
    };
    match frame {
        Frame::Range(span) => Some(*span),
        _ => ttl,
    }
}

/// The columns that a predicate bounds by a constant, and the greatest value each may have.
fn bounds(predicate: &Expr) -> Vec<(usize, i64)> {
    let column = |expr: &Expr| match expr {
        Expr::Column(at) => Some(*at),
        _ => None,
    };
    let number = |expr: &Expr| match expr {
        Expr::Literal(Value::Int(number)) => Some(*number),
        _ => None,
    };
    let found = match predicate {
        Expr::And(parts) => return parts.iter().flat_map(bounds).collect(),
        Expr::Compare { op, left, right } => {
            let (op, left, right) = match column(left) {
                Some(_) => (*op, left, right),
                None => (op.mirrored(), right, left),
            };
            let most = number(right).and_then(|most| match op {
                Comparison::Eq | Comparison::LtEq => Some(most),
                Comparison::Lt => most.checked_sub(1),
                _ => None,
            });
            column(left).zip(most)
        }
        Expr::Between { expr, high, .. } => column(expr).zip(number(high)),
        Expr::In { expr, list } => {
            let numbers: Option<Vec<i64>> = list.iter().map(number).collect();
            column(expr).zip(numbers.and_then(|numbers| numbers.into_iter().max()))
        }
        _ => None,
    };
    found.into_iter().collect()
}

/// What is wrong, and what is risky, with the row numbers and OVER frames of a plan.
pub(super) fn look_over(plan: &Plan) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for (at, node) in plan.nodes.iter().enumerate() {
        let diagnostic = |message: String, hint: &str| Diagnostic {
            place: node.place.clone(),
            message,
            hint: Some(hint.to_owned()),
        };
        match &node.operator {
            Operator::WindowTop { limit: None, .. } => problems.push(diagnostic(
                "the ROW_NUMBER of a window's rows needs a bound".to_owned(),
                "filter in the query around it: SELECT … FROM (SELECT …, ROW_NUMBER() OVER (…) AS rn FROM …) WHERE rn <= 3",
            )),
            Operator::WindowTop { limit: Some(limit), .. } if *limit > MAX_TOP => {
                problems.push(diagnostic(
                    format!("{limit} rows of each window are asked for, and {MAX_TOP} is the most"),
                    "ask for fewer, or filter by value in WHERE",
                ));
            }
            Operator::Over {
                keys,
                functions,
                ttl: None,
                ..
            } if functions.iter().any(|f| !matches!(f.frame, Frame::Range(_))) => {
                let counts = functions.iter().position(|f| {
                    matches!(f.call, OverCall::RowNumber) && !f.frame.is_bounded()
                });
                let width = node.schema.len() - functions.len();
                if counts.is_some_and(|which| functions.len() == 1 && wants_first(plan, at, width + which)) {
                    problems.push(diagnostic(
                        "keeping the first row of each key for ever would remember every key for ever".to_owned(),
                        "say for how long: ROW_NUMBER() OVER (PARTITION BY … ORDER BY … RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW), or SET 'table.exec.state.ttl' = '1 d' before the statement",
                    ));
                } else if !keys.is_empty() {
                    warnings.push(diagnostic(
                        "OVER remembers every key for ever, up to limits.max_keys".to_owned(),
                        "where keys come and go, write SET 'table.exec.state.ttl' = '1 d' before the statement, or RANGE BETWEEN INTERVAL … PRECEDING AND CURRENT ROW",
                    ));
                }
            }
            _ => {}
        }
    }
    (problems, warnings)
}

/// Whether somebody wants only those rows of a node whose number in `column` is 1.
fn wants_first(plan: &Plan, at: usize, column: usize) -> bool {
    let mut users = plan
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.inputs.contains(&NodeId(at)));
    users.any(|(user, node)| match &node.operator {
        Operator::Filter { predicate } => {
            let mut bounds = bounds(predicate).into_iter();
            bounds.any(|(bounded, most)| bounded == column && most <= 1)
                || wants_first(plan, user, column)
        }
        Operator::Project { exprs } => {
            let moved = exprs.iter().position(|expr| *expr == Expr::Column(column));
            moved.is_some_and(|column| wants_first(plan, user, column))
        }
        _ => false,
    })
}
