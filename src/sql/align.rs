//! Which timelines rows are on: where each key of a table has a watermark of its own, and where they must be put
//! together again.
//!
//! A step with state stays on the lines of the keys if all rows it brings together are of one key; before any other
//! a [`Operator::SharedTime`] is put, which waits for the slowest key.

use std::collections::HashMap;

use crate::expr::Expr;
use crate::plan::{JoinSide, Node, NodeId, Operator, Plan, Window};
use crate::types::Fingerprint;

/// The timelines of a node's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lines {
    /// All rows are on one.
    Shared,
    /// Each key has its own; the columns with its values, where the row still has them.
    Keyed(Vec<Option<usize>>),
}

/// The plan with the timelines put together where they must be.
pub(super) fn align(plan: Plan) -> Plan {
    if plan
        .sources
        .iter()
        .all(|source| source.time_keys.is_empty())
    {
        return plan;
    }
    let Plan {
        sources,
        tables,
        nodes,
        sinks,
    } = plan;
    let mut aligned = Aligned {
        nodes: Vec::new(),
        lines: Vec::new(),
        shared: HashMap::new(),
    };
    let mut ids: Vec<NodeId> = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        node.inputs
            .iter_mut()
            .for_each(|input| *input = ids[input.0]);
        let inputs: Vec<Lines> = node
            .inputs
            .iter()
            .map(|input| aligned.lines[input.0].clone())
            .collect();
        let lines = match &node.operator {
            Operator::Source(id) => match sources[id.0].time_keys.as_slice() {
                [] => Lines::Shared,
                keys => Lines::Keyed(keys.iter().copied().map(Some).collect()),
            },
            operator => behind(operator, &inputs),
        };
        if lines == Lines::Shared {
            for (at, input) in node.inputs.iter_mut().enumerate() {
                if node.operator.leads(at) {
                    *input = aligned.share(*input);
                }
            }
        }
        ids.push(aligned.add(node, lines));
    }
    Plan {
        sources,
        tables,
        nodes: aligned.nodes,
        sinks,
    }
}

/// The timelines behind a step; shared if it needs its inputs' put together.
fn behind(operator: &Operator, inputs: &[Lines]) -> Lines {
    let moved = |to: &dyn Fn(usize) -> Option<usize>| match inputs.first() {
        Some(Lines::Keyed(columns)) => {
            Lines::Keyed(columns.iter().map(|at| at.and_then(to)).collect())
        }
        _ => Lines::Shared,
    };
    match operator {
        Operator::Project { exprs } => {
            moved(&|at| exprs.iter().position(|expr| *expr == Expr::Column(at)))
        }
        Operator::WindowAggregate { keys, window, .. } => {
            let brings_together = |key: &usize| match window {
                Window::Session { partition, .. } => !partition.contains(key),
                _ => false,
            };
            let kept = moved(&|at| {
                let key = keys.iter().position(|key| *key == Expr::Column(at));
                key.filter(|key| !brings_together(key))
            });
            match kept {
                Lines::Keyed(columns) if columns.iter().all(Option::is_some) => {
                    Lines::Keyed(columns)
                }
                _ => Lines::Shared,
            }
        }
        Operator::Match(pattern) => {
            let kept = moved(&|at| pattern.partition.iter().position(|key| *key == at));
            match kept {
                Lines::Keyed(columns) if columns.iter().all(Option::is_some) => {
                    Lines::Keyed(columns)
                }
                _ => Lines::Shared,
            }
        }
        // Keys that have never come are on no line of their own.
        Operator::Alarms(alarms) if alarms.expected.is_some() => Lines::Shared,
        Operator::Alarms(alarms) => {
            let kept = moved(&|at| alarms.partition.iter().position(|key| *key == at));
            match kept {
                Lines::Keyed(columns) if columns.iter().all(Option::is_some) => {
                    Lines::Keyed(columns)
                }
                _ => Lines::Shared,
            }
        }
        Operator::Over { keys, .. }
        | Operator::Deduplicate { keys, .. }
        | Operator::WindowTop { keys, .. } => match moved(&|at| {
            let known = keys.contains(&Expr::Column(at));
            known.then_some(at)
        }) {
            Lines::Keyed(columns) if columns.iter().all(Option::is_some) => Lines::Keyed(columns),
            _ => Lines::Shared,
        },
        Operator::Union => union(inputs),
        // They are on the lines of the step that they come from, and nothing but a sink follows.
        Operator::LateRows => inputs.first().cloned().unwrap_or(Lines::Shared),
        Operator::IntervalJoin(join) => joined(&join.sides, inputs),
        Operator::TemporalJoin(join) => joined(&join.sides, inputs),
        Operator::Source(_) | Operator::SharedTime => Lines::Shared,
        Operator::Filter { .. }
        | Operator::Unnest { .. }
        | Operator::LookupJoin(_)
        | Operator::WindowAssign { .. }
        | Operator::Sink(_) => moved(&Some),
    }
}

/// The lines of several inputs go on if all are of keys alike.
fn union(inputs: &[Lines]) -> Lines {
    let mut together: Option<Vec<Option<usize>>> = None;
    for input in inputs {
        let Lines::Keyed(columns) = input else {
            return Lines::Shared;
        };
        match &mut together {
            None => together = Some(columns.clone()),
            Some(known) if known.len() == columns.len() => {
                for (known, other) in known.iter_mut().zip(columns) {
                    *known = known.filter(|at| Some(*at) == *other);
                }
            }
            Some(_) => return Lines::Shared,
        }
    }
    together.map_or(Lines::Shared, Lines::Keyed)
}

/// The lines of two inputs go on if their keys are joined by.
fn joined(sides: &[JoinSide; 2], inputs: &[Lines]) -> Lines {
    let [Lines::Keyed(left), Lines::Keyed(right)] = inputs else {
        return Lines::Shared;
    };
    let together = |(left, right): (&Option<usize>, &Option<usize>)| {
        let (Some(left), Some(right)) = (left, right) else {
            return false;
        };
        let mut keys = sides[0].keys.iter().zip(&sides[1].keys);
        keys.any(|(l, r)| *l == Expr::Column(*left) && *r == Expr::Column(*right))
    };
    if left.len() == right.len() && left.iter().zip(right).all(together) {
        return Lines::Keyed(left.clone());
    }
    Lines::Shared
}

struct Aligned {
    nodes: Vec<Node>,
    lines: Vec<Lines>,
    /// The nodes behind which the lines of others are one.
    shared: HashMap<NodeId, NodeId>,
}

impl Aligned {
    fn add(&mut self, node: Node, lines: Lines) -> NodeId {
        self.nodes.push(node);
        self.lines.push(lines);
        NodeId(self.nodes.len() - 1)
    }

    /// A node with the same rows on the shared line.
    fn share(&mut self, input: NodeId) -> NodeId {
        if self.lines[input.0] == Lines::Shared {
            return input;
        }
        if let Some(known) = self.shared.get(&input) {
            return *known;
        }
        let before = &self.nodes[input.0];
        let node = Node {
            operator: Operator::SharedTime,
            inputs: vec![input],
            schema: before.schema.clone(),
            fingerprint: Fingerprint::of(&format!("shared time of {}", before.fingerprint)),
            query: before.query.clone(),
            place: before.place.clone(),
        };
        let id = self.add(node, Lines::Shared);
        self.shared.insert(input, id);
        id
    }
}
