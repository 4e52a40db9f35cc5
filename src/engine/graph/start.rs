//! A step of the plan as a node that has seen nothing.

use smallvec::SmallVec;

use super::super::meeting::Meeting;
use super::{Node, Stage};
use crate::ops::{
    Aggregation, Alarms, Deduplicate, IntervalJoin, LookupJoin, Match, Operator, Over,
    TemporalJoin, WindowTop, window_aggregate,
};
use crate::plan;
use crate::types::Row;

/// A step that keeps state.
fn stateful(operator: impl Operator + 'static) -> Box<dyn Operator> {
    Box::new(operator)
}

/// A node before its first row.
pub(super) fn start(plan: &plan::Plan, at: usize, max_keys: usize) -> Node {
    let node = &plan.nodes[at];
    let stage = match &node.operator {
        plan::Operator::Source(_) | plan::Operator::SharedTime => Stage::Pass,
        plan::Operator::Union => Stage::Union,
        plan::Operator::LateRows => Stage::Late,
        plan::Operator::Filter { predicate } => Stage::Filter(predicate.clone()),
        plan::Operator::Project { exprs } => Stage::Project {
            exprs: exprs.clone(),
            buffer: Row::new(),
        },
        plan::Operator::Unnest {
            array,
            width,
            rows,
            outer,
        } => Stage::Unnest {
            array: array.clone(),
            width: *width,
            rows: *rows,
            outer: *outer,
            buffer: Row::new(),
        },
        plan::Operator::WindowAssign { window, time } => Stage::Assign {
            window: window.clone(),
            time: *time,
            buffer: Row::new(),
        },
        plan::Operator::LookupJoin(join) => {
            Stage::Lookup(Some(Box::new(LookupJoin::new(join, node.fingerprint))))
        }
        plan::Operator::Sink(sink) => Stage::Sink(*sink),
        _ => Stage::Stateful,
    };
    let meeting = match node.operator {
        plan::Operator::SharedTime => Some(Meeting::of_lines()),
        _ if node.inputs.len() > 1 && node.operator.leads(1) => {
            Some(Meeting::of_inputs(node.inputs.len()))
        }
        _ => None,
    };
    Node {
        stage,
        operator: operator(plan, at, max_keys),
        consumers: SmallVec::new(),
        index: None,
        followers: SmallVec::new(),
        late: SmallVec::new(),
        inputs: node.inputs.iter().map(|input| input.0).collect(),
        meeting,
        delay: node.operator.delay(),
        fingerprint: node.fingerprint,
    }
}

/// The operator of a step before its first row, if the step keeps state.
fn operator(plan: &plan::Plan, at: usize, max_keys: usize) -> Option<Box<dyn Operator>> {
    let node = &plan.nodes[at];
    Some(match &node.operator {
        plan::Operator::WindowAggregate {
            window,
            time,
            keys,
            aggregates,
            late,
        } => {
            let aggregation = Aggregation {
                time: *time,
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                late: *late,
                fingerprint: node.fingerprint,
            };
            window_aggregate(window, aggregation, max_keys)
        }
        plan::Operator::Over {
            time,
            keys,
            functions,
            ttl,
        } => stateful(Over::new(
            *time,
            keys.clone(),
            functions.clone(),
            *ttl,
            max_keys,
        )),
        plan::Operator::Deduplicate { time, keys, within } => {
            stateful(Deduplicate::new(*time, keys.clone(), *within, max_keys))
        }
        plan::Operator::WindowTop {
            start,
            end,
            keys,
            order,
            limit,
        } => stateful(WindowTop::new(
            (*start, *end),
            keys.clone(),
            order.clone(),
            limit.unwrap_or_default(),
            max_keys,
        )),
        plan::Operator::TemporalJoin(join) => {
            stateful(TemporalJoin::new(join, node.fingerprint, max_keys))
        }
        plan::Operator::IntervalJoin(join) => {
            stateful(IntervalJoin::new(join, node.fingerprint, max_keys))
        }
        plan::Operator::Match(pattern) => stateful(Match::new(pattern, node.fingerprint, max_keys)),
        plan::Operator::Alarms(alarms) => {
            let beside = plan.alarms_beside(at);
            stateful(Alarms::new(alarms, beside, node.fingerprint, max_keys))
        }
        plan::Operator::Source(_)
        | plan::Operator::SharedTime
        | plan::Operator::Union
        | plan::Operator::LateRows
        | plan::Operator::Filter { .. }
        | plan::Operator::Project { .. }
        | plan::Operator::Unnest { .. }
        | plan::Operator::WindowAssign { .. }
        | plan::Operator::LookupJoin(_)
        | plan::Operator::Sink(_) => return None,
    })
}
