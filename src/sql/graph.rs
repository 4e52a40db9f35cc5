//! The graph while it is built: equal steps become one node.
//!
//! Invariant: no two nodes have the same fingerprint, and it follows from what they do to what input, so that it is the same
//! at the next start; whoever asks for a step that exists gets the existing one, so that a source is decoded once however
//! many queries read it. Of alarms what can be set is no part of it, but the query is.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use compact_str::CompactString;

use crate::plan::{
    JoinSide, LateRows, LookupTable, Node, NodeId, Operator, OverFunction, Place, Plan, Sink,
    SinkId, SortKey, Source, SourceId, TableId, Window,
};
use crate::types::{Fingerprint, Schema};

/// Builds a plan.
#[derive(Debug, Default)]
pub(super) struct Graph {
    plan: Plan,
    /// The steps, by all that they do.
    known: HashMap<Fingerprint, NodeId>,
    fingerprints: HashSet<Fingerprint>,
}

impl Graph {
    /// The node of this step.
    pub(super) fn add(
        &mut self,
        operator: Operator,
        inputs: Vec<NodeId>,
        schema: Schema,
        query: &CompactString,
        place: &Place,
    ) -> NodeId {
        let identity = self.canonical(&operator, &inputs, &schema);
        let settings = match &operator {
            Operator::Alarms(alarms) => alarms.settings(),
            _ => String::new(),
        };
        let whole = Fingerprint::of(&format!("{identity}{settings}"));
        if let Some(known) = self.known.get(&whole)
            && !matches!(operator, Operator::Sink(_))
        {
            return *known;
        }
        // What can be set is no part of it; so that it does not depend on what else there is, the query is.
        let identity = if settings.is_empty() {
            whole
        } else {
            Fingerprint::of(&format!("{identity} in {query}"))
        };
        let fingerprint = if self.fingerprints.contains(&identity) {
            whole
        } else {
            identity
        };
        let id = NodeId(self.plan.nodes.len());
        self.plan.nodes.push(Node {
            operator,
            inputs,
            schema,
            fingerprint,
            query: query.clone(),
            place: place.clone(),
        });
        self.known.insert(whole, id);
        self.fingerprints.insert(fingerprint);
        id
    }

    /// The node that reads a source.
    pub(super) fn add_source(&mut self, source: Source, schema: Schema) -> NodeId {
        let known = self
            .plan
            .sources
            .iter()
            .position(|s| s.fingerprint == source.fingerprint);
        let (query, place) = (source.name.clone(), source.place.clone());
        let id = known.unwrap_or_else(|| {
            self.plan.sources.push(source);
            self.plan.sources.len() - 1
        });
        self.add(
            Operator::Source(SourceId(id)),
            Vec::new(),
            schema,
            &query,
            &place,
        )
    }

    /// A table that rows are looked up in.
    pub(super) fn add_table(&mut self, table: LookupTable) -> TableId {
        let mut known = self.plan.tables.iter();
        let known = known.position(|t| t.fingerprint == table.fingerprint);
        TableId(known.unwrap_or_else(|| {
            self.plan.tables.push(table);
            self.plan.tables.len() - 1
        }))
    }

    /// The node that writes a sink; gets its fingerprint from the table's text and what feeds it.
    pub(super) fn add_sink(
        &mut self,
        mut sink: Sink,
        text: &str,
        input: NodeId,
        query: &CompactString,
    ) {
        let fed_by = self.plan.nodes[input.0].fingerprint;
        sink.fingerprint = Fingerprint::of(&format!("sink {text} of {fed_by}"));
        let (schema, place) = (sink.schema.clone(), sink.place.clone());
        let id = SinkId(self.plan.sinks.len());
        self.plan.sinks.push(sink);
        self.add(Operator::Sink(id), vec![input], schema, query, &place);
    }

    /// How many sinks write this table so far.
    pub(super) fn sinks_of(&self, table: &str) -> usize {
        self.plan
            .sinks
            .iter()
            .filter(|sink| sink.name == table)
            .count()
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.plan.nodes[id.0]
    }

    /// The plan without nodes that no sink needs.
    pub(super) fn finish(self) -> Plan {
        let Plan {
            sources,
            tables,
            nodes,
            sinks,
        } = self.plan;
        let mut needed = vec![false; nodes.len()];
        for (i, node) in nodes.iter().enumerate().rev() {
            needed[i] |= matches!(node.operator, Operator::Sink(_));
            if needed[i] {
                node.inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        let mut node_ids = vec![NodeId(0); nodes.len()];
        let mut source_ids: Vec<Option<SourceId>> = vec![None; sources.len()];
        let mut plan = Plan {
            tables,
            sinks,
            ..Plan::default()
        };
        let mut sources: Vec<Option<Source>> = sources.into_iter().map(Some).collect();
        for (i, mut node) in nodes.into_iter().enumerate() {
            if !needed[i] {
                continue;
            }
            if let Operator::Source(SourceId(old)) = &mut node.operator {
                let new = *source_ids[*old].get_or_insert(SourceId(plan.sources.len()));
                plan.sources.extend(sources[*old].take());
                node.operator = Operator::Source(new);
            }
            node.inputs
                .iter_mut()
                .for_each(|input| *input = node_ids[input.0]);
            node_ids[i] = NodeId(plan.nodes.len());
            plan.nodes.push(node);
        }
        plan
    }

    /// The text that decides what a node is.
    fn canonical(&self, operator: &Operator, inputs: &[NodeId], schema: &Schema) -> String {
        let mut text = match operator {
            Operator::Source(id) => format!("source {}", self.plan.sources[id.0].fingerprint),
            Operator::Filter { predicate } => format!("filter {predicate}"),
            Operator::Project { exprs } => {
                // A NULL or a number does not say its type.
                let mut text = "project".to_owned();
                for (expr, column) in exprs.iter().zip(&schema.columns) {
                    let _ = write!(text, " [{expr} {}]", column.ty);
                }
                text
            }
            Operator::Unnest {
                array,
                width,
                rows,
                outer,
            } => format!("unnest {array} {width} {rows} {outer}"),
            Operator::WindowAssign { window, time } => {
                format!("assign {} on #{time}", window_text(window))
            }
            Operator::WindowAggregate {
                window,
                time,
                keys,
                aggregates,
                late,
            } => {
                let mut text = format!(
                    "aggregate {} on #{time} by {}:",
                    window_text(window),
                    joined(keys)
                );
                for a in aggregates {
                    // Writing to a string cannot fail.
                    let _ = write!(text, " {}", a.canonical());
                }
                if let LateRows::Update { allowed } = late {
                    let _ = write!(text, " revised for {}", allowed.as_micros());
                }
                text
            }
            Operator::Over {
                time,
                keys,
                functions,
                ttl,
            } => {
                let ttl = ttl.map(|ttl| format!(" for {}", ttl.as_micros()));
                let functions: Vec<String> =
                    functions.iter().map(OverFunction::canonical).collect();
                format!(
                    "over #{time} by {}{}: {}",
                    joined(keys),
                    ttl.unwrap_or_default(),
                    functions.concat()
                )
            }
            Operator::Deduplicate { time, keys, within } => {
                let within = within.as_micros();
                format!("first on #{time} by {} within {within}", joined(keys))
            }
            Operator::WindowTop {
                start,
                end,
                keys,
                order,
                limit,
            } => {
                let order: Vec<String> = order.iter().map(SortKey::canonical).collect();
                format!(
                    "top {limit:?} of #{start} #{end} by {}: {}",
                    joined(keys),
                    order.join(", ")
                )
            }
            Operator::LateRows => "late rows".to_owned(),
            Operator::IntervalJoin(join) => format!(
                "interval join {} {}{}",
                join.lower.as_micros(),
                join.upper.as_micros(),
                sides_text(&join.sides, join.residual.as_ref())
            ),
            Operator::TemporalJoin(join) => format!(
                "temporal join{}",
                sides_text(&join.sides, join.residual.as_ref())
            ),
            Operator::LookupJoin(join) => {
                let mut text = format!(
                    "lookup join {} {} by {} = {}",
                    self.plan.tables[join.table.0].fingerprint,
                    join.outer,
                    joined(&join.keys),
                    joined(&join.table_keys)
                );
                if let Some(residual) = &join.residual {
                    let _ = write!(text, " if {residual}");
                }
                text
            }
            Operator::Match(pattern) => pattern.canonical(),
            Operator::Alarms(alarms) => {
                let table = alarms.expected.as_ref();
                let table = table.map(|expected| self.plan.tables[expected.table.0].fingerprint);
                alarms.identity(&table.map(|table| table.to_string()).unwrap_or_default())
            }
            Operator::Union => "union".to_owned(),
            Operator::SharedTime => "shared time".to_owned(),
            Operator::Sink(id) => format!("sink {}", self.plan.sinks[id.0].fingerprint),
        };
        for input in inputs {
            let _ = write!(text, " | {}", self.plan.nodes[input.0].fingerprint);
        }
        text
    }
}

fn sides_text(sides: &[JoinSide; 2], residual: Option<&crate::expr::Expr>) -> String {
    let mut text = String::new();
    for side in sides {
        let _ = write!(
            text,
            " [#{} {} {} by {}]",
            side.time,
            side.shift.as_micros(),
            side.outer,
            joined(&side.keys)
        );
    }
    if let Some(residual) = residual {
        let _ = write!(text, " if {residual}");
    }
    text
}

fn joined(exprs: &[crate::expr::Expr]) -> String {
    exprs
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn window_text(window: &Window) -> String {
    match window {
        Window::Tumble { size, offset } => {
            format!("tumble {} {}", size.as_micros(), offset.as_micros())
        }
        Window::Hop {
            slide,
            size,
            offset,
        } => {
            format!(
                "hop {} {} {}",
                slide.as_micros(),
                size.as_micros(),
                offset.as_micros()
            )
        }
        Window::Cumulate { step, size, offset } => format!(
            "cumulate {} {} {}",
            step.as_micros(),
            size.as_micros(),
            offset.as_micros()
        ),
        Window::Session { gap, partition } => {
            format!("session {} by {partition:?}", gap.as_micros())
        }
        Window::Count {
            size,
            slide,
            partition,
        } => format!("count {size} {slide} by {partition:?}"),
        Window::Attached { start, end } => format!("attached #{start} #{end}"),
    }
}
