//! A plan as text for people: one tree for each sink, the sink at its root.
//!
//! A step that several others read is written once, with a number; elsewhere stands its number. The text is for
//! eyes: nothing reads it, and it may change.

use std::fmt::Write;

use crate::expr::Expr;
use crate::types::{Column, Schema};

use super::{
    ColumnOrigin, Format, IntervalJoin, JsonFormat, LateRows, Metadata, Node, NodeId, Operator,
    Plan, Sink, SinkConnector, Source, SourceConnector, TimestampFormat, TopicPart, Window,
};

/// The plan as trees.
pub fn explain(plan: &Plan) -> String {
    let mut readers = vec![0_usize; plan.nodes.len()];
    for node in &plan.nodes {
        for input in &node.inputs {
            readers[input.0] += 1;
        }
    }
    let mut explainer = Explainer {
        plan,
        readers,
        numbers: vec![None; plan.nodes.len()],
        count: 0,
        out: String::new(),
    };
    for (i, node) in plan.nodes.iter().enumerate() {
        if matches!(node.operator, Operator::Sink(_)) {
            if !explainer.out.is_empty() {
                explainer.out.push('\n');
            }
            explainer.node(NodeId(i), "", "");
        }
    }
    explainer.out
}

struct Explainer<'p> {
    plan: &'p Plan,
    /// How many steps read each node.
    readers: Vec<usize>,
    /// The numbers of shared nodes that have been written.
    numbers: Vec<Option<usize>>,
    count: usize,
    out: String,
}

impl Explainer<'_> {
    fn node(&mut self, id: NodeId, first: &str, rest: &str) {
        let node = &self.plan.nodes[id.0];
        if let Some(number) = self.numbers[id.0] {
            self.line(&format!("{first}[{number}] (shared, see above)"));
            return;
        }
        let mut title = self.title(node);
        if self.readers[id.0] > 1 {
            self.count += 1;
            self.numbers[id.0] = Some(self.count);
            title = format!("[{}] {title}", self.count);
        }
        if matches!(node.operator, Operator::Sink(_)) {
            let _ = write!(title, "  -- {} at {}", node.query, node.place);
        }
        self.line(&format!("{first}{title}"));
        let bar = if node.inputs.is_empty() {
            "   "
        } else {
            "│  "
        };
        for detail in self.details(node) {
            self.line(&format!("{rest}{bar}{detail}"));
        }
        for (i, input) in node.inputs.iter().enumerate() {
            let last = i + 1 == node.inputs.len();
            let (branch, below) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            self.node(
                *input,
                &format!("{rest}{branch}"),
                &format!("{rest}{below}"),
            );
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// The columns that a node's expressions refer to.
    fn input(&self, node: &Node) -> &Schema {
        static EMPTY: Schema = Schema {
            columns: Vec::new(),
        };
        node.inputs
            .first()
            .map_or(&EMPTY, |input| &self.plan.nodes[input.0].schema)
    }

    fn title(&self, node: &Node) -> String {
        let input = self.input(node);
        match &node.operator {
            Operator::Source(id) => source_title(&self.plan.sources[id.0]),
            Operator::Filter { predicate } => format!("filter {}", described(predicate, input)),
            Operator::Project { .. } => "project".to_owned(),
            Operator::Unnest { array, outer, .. } => {
                format!(
                    "unnest {}{}",
                    described(array, input),
                    if *outer {
                        ", keeping rows without elements"
                    } else {
                        ""
                    }
                )
            }
            Operator::WindowAssign { window, time } => format!(
                "assign {} on {}",
                window_text(window, input),
                name(input, *time)
            ),
            Operator::WindowAggregate { window, time, .. } => {
                format!(
                    "aggregate per {} on {}",
                    window_text(window, input),
                    name(input, *time)
                )
            }
            Operator::Over { time, ttl, .. } => {
                let ttl = ttl.map(|ttl| format!(", keys kept for {ttl}"));
                format!(
                    "over rows by {}{}",
                    name(input, *time),
                    ttl.unwrap_or_default()
                )
            }
            Operator::Deduplicate { time, within, .. } => {
                format!("first row within {within} by {}", name(input, *time))
            }
            Operator::WindowTop {
                start, end, limit, ..
            } => format!(
                "first {} rows per window from {} to {}",
                limit.unwrap_or_default(),
                name(input, *start),
                name(input, *end)
            ),
            Operator::LateRows => "rows that were too late for".to_owned(),
            Operator::IntervalJoin(join) => self.join_title(join, node),
            Operator::TemporalJoin(join) => {
                let kind = if join.sides[0].outer {
                    "left join"
                } else {
                    "join"
                };
                let time = name(self.input(node), join.sides[0].time);
                let equal = self.equal_keys(&join.sides[0].keys, &join.sides[1].keys, node);
                format!("{kind} with the latest row at {time}{equal}")
            }
            Operator::LookupJoin(join) => {
                let kind = if join.outer { "left join" } else { "join" };
                let table = &self.plan.tables[join.table.0];
                let keys: Vec<String> = join
                    .keys
                    .iter()
                    .map(|key| described(key, self.input(node)))
                    .collect();
                format!(
                    "{kind} with the table {} in '{}' by {}",
                    table.name,
                    table.path,
                    keys.join(", ")
                )
            }
            Operator::Match(pattern) => pattern.title(input),
            Operator::Alarms(alarms) => alarms.title(input),
            Operator::Union => "union".to_owned(),
            Operator::SharedTime => "wait for the slowest key".to_owned(),
            Operator::Sink(id) => sink_title(&self.plan.sinks[id.0]),
        }
    }

    /// Which rows meet, by the names of the columns of both inputs.
    fn join_title(&self, join: &IntervalJoin, node: &Node) -> String {
        let [left, right] = [0, 1].map(|side| &self.plan.nodes[node.inputs[side].0].schema);
        let kind = match join.sides.each_ref().map(|side| side.outer) {
            [false, false] => "join",
            [true, false] => "left join",
            [false, true] => "right join",
            [true, true] => "full join",
        };
        let mut text = format!(
            "{kind} where left {} - right {} is from {} to {}",
            name(left, join.sides[0].time),
            name(right, join.sides[1].time),
            join.lower,
            join.upper
        );
        text.push_str(&self.equal_keys(&join.sides[0].keys, &join.sides[1].keys, node));
        if let Some(residual) = &join.residual {
            let _ = write!(text, ", {}", described(residual, &node.schema));
        }
        text
    }

    /// `, a = b` for each key of a join.
    fn equal_keys(&self, left: &[Expr], right: &[Expr], node: &Node) -> String {
        let [left_input, right_input] =
            [0, 1].map(|side| &self.plan.nodes[node.inputs[side].0].schema);
        let mut text = String::new();
        for (l, r) in left.iter().zip(right) {
            let (l, r) = (described(l, left_input), described(r, right_input));
            let _ = write!(text, ", {l} = {r}");
        }
        text
    }

    fn details(&self, node: &Node) -> Vec<String> {
        let input = self.input(node);
        match &node.operator {
            Operator::Source(id) => source_details(&self.plan.sources[id.0]),
            Operator::Project { exprs } => exprs
                .iter()
                .zip(&node.schema.columns)
                .map(|(expr, column)| assigned(column, &described(expr, input)))
                .collect(),
            Operator::WindowAggregate {
                keys,
                aggregates,
                late,
                ..
            } => {
                let columns = &node.schema.columns;
                let key = |(expr, column): (&Expr, &Column)| {
                    format!("key {}", assigned(column, &described(expr, input)))
                };
                let mut lines: Vec<String> = keys.iter().zip(columns).map(key).collect();
                let rest = columns.iter().skip(keys.len());
                lines.extend(
                    aggregates
                        .iter()
                        .zip(rest)
                        .map(|(a, column)| assigned(column, &a.describe(&|at| name(input, at)))),
                );
                match late {
                    LateRows::DeadLetter => {}
                    LateRows::Table => lines.push("late rows go to a table".to_owned()),
                    LateRows::Update { allowed } => {
                        lines.push(format!("late rows revise it for {allowed}"));
                    }
                }
                lines
            }
            Operator::Over {
                keys, functions, ..
            } => {
                let added = node.schema.columns.iter().skip(input.len());
                let naming = |at| name(input, at);
                let mut lines = keys_of(keys, input);
                let functions = functions.iter().zip(added);
                lines.extend(functions.map(|(f, column)| assigned(column, &f.describe(&naming))));
                lines
            }
            Operator::Deduplicate { keys, .. } => keys_of(keys, input),
            Operator::WindowTop { keys, order, .. } => {
                let mut lines = keys_of(keys, input);
                let naming = |at| name(input, at);
                lines.extend(
                    order
                        .iter()
                        .map(|key| format!("by {}", key.describe(&naming))),
                );
                lines
            }
            Operator::Match(pattern) => pattern.details(input, &node.schema),
            Operator::Alarms(alarms) => {
                let table = alarms.expected.as_ref();
                let table = table.map(|expected| self.plan.tables[expected.table.0].name.as_str());
                alarms.details(input, table)
            }
            Operator::Sink(id) => {
                let sink = &self.plan.sinks[id.0];
                vec![
                    format!("columns {}", columns(&sink.schema)),
                    format!("format {}", format_text(&sink.format)),
                ]
            }
            _ => Vec::new(),
        }
    }
}

fn keys_of(keys: &[Expr], input: &Schema) -> Vec<String> {
    let keys = keys.iter();
    keys.map(|key| format!("key {}", described(key, input)))
        .collect()
}

pub(super) fn described(expr: &Expr, input: &Schema) -> String {
    expr.describe(&|at| name(input, at))
}

fn name(input: &Schema, at: usize) -> String {
    input
        .columns
        .get(at)
        .map_or_else(|| format!("#{at}"), |column| column.name.to_string())
}

fn assigned(column: &Column, text: &str) -> String {
    let (name, ty) = (&column.name, typed(column));
    if text == name.as_str() {
        format!("{name} {ty}")
    } else {
        format!("{name} {ty} = {text}")
    }
}

fn typed(column: &Column) -> String {
    let mut text = column.ty.to_string();
    if !column.nullable {
        text.push_str(" NOT NULL");
    }
    text
}

fn columns(schema: &Schema) -> String {
    schema
        .columns
        .iter()
        .map(|c| format!("{} {}", c.name, typed(c)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn window_text(window: &Window, input: &Schema) -> String {
    let shifted = |offset: &crate::types::Timespan| {
        if *offset == crate::types::Timespan::ZERO {
            String::new()
        } else {
            format!(" shifted by {offset}")
        }
    };
    match window {
        Window::Tumble { size, offset } => format!("window of {size}{}", shifted(offset)),
        Window::Hop {
            slide,
            size,
            offset,
        } => format!("window of {size} every {slide}{}", shifted(offset)),
        Window::Cumulate { step, size, offset } => {
            format!("window growing by {step} up to {size}{}", shifted(offset))
        }
        Window::Session { gap, .. } => format!("session with a gap of {gap}"),
        Window::Count { size, slide, .. } if size == slide => format!("window of {size} rows"),
        Window::Count { size, slide, .. } => format!("window of {size} rows every {slide} rows"),
        Window::Attached { start, end } => format!(
            "window from {} to {}",
            name(input, *start),
            name(input, *end)
        ),
    }
}

fn source_title(source: &Source) -> String {
    let from = match &source.connector {
        SourceConnector::Mqtt {
            connection,
            filters,
            qos,
            retained,
        } => {
            let retained = if *retained {
                ", retained messages too"
            } else {
                ""
            };
            format!(
                "mqtt {connection} '{}' qos {qos}{retained}",
                filters.join("; ")
            )
        }
        SourceConnector::Filesystem { path } => format!("file '{path}'"),
    };
    format!("source {} from {from}", source.name)
}

fn source_details(source: &Source) -> Vec<String> {
    let schema = Schema::new(
        source
            .columns
            .iter()
            .map(|c| Column::new(c.name.clone(), c.ty.clone()))
            .collect(),
    );
    let mut lines: Vec<String> = source
        .columns
        .iter()
        .map(|column| {
            let origin = match &column.origin {
                ColumnOrigin::Payload { path } if path.is_empty() => "the payload".to_owned(),
                ColumnOrigin::Payload { path } => path_text(path),
                ColumnOrigin::Metadata(metadata) => metadata_text(*metadata),
                ColumnOrigin::Computed(expr) => described(expr, &schema),
            };
            let null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {}{null} = {origin}", column.name, column.ty)
        })
        .collect();
    if let Some(watermark) = &source.watermark {
        lines.push(format!(
            "watermark for {} = {}",
            name(&schema, watermark.column),
            described(&watermark.expr, &schema)
        ));
    }
    if let Some(span) = source.max_future {
        lines.push(format!("at most {span} ahead of its arrival"));
    }
    if let Some(span) = source.idle_timeout {
        lines.push(format!("idle after {span}"));
    }
    lines.push(format!("format {}", format_text(&source.format)));
    lines
}

fn path_text(path: &[String]) -> String {
    let mut text = String::new();
    for key in path {
        // Writing to a string cannot fail.
        let _ = write!(text, "[{key:?}]");
    }
    text
}

fn metadata_text(metadata: Metadata) -> String {
    match metadata {
        Metadata::Topic => "the topic".to_owned(),
        Metadata::TopicLevel(level) => format!("level {level} of the topic"),
        Metadata::Qos => "the quality of service".to_owned(),
        Metadata::Retain => "whether the message was retained".to_owned(),
        Metadata::Timestamp => "the time of arrival".to_owned(),
    }
}

fn sink_title(sink: &Sink) -> String {
    let to = match &sink.connector {
        SinkConnector::Mqtt {
            connection,
            topic,
            qos,
            retain,
            discovery,
        } => {
            let part = |part: &TopicPart| match part {
                TopicPart::Literal(text) => text.clone(),
                TopicPart::Column(at) => format!("{{{}}}", name(&sink.schema, *at)),
            };
            let topic: String = topic.iter().map(part).collect();
            format!(
                "mqtt {connection} '{topic}' qos {qos}{}{}",
                if *retain { ", retained" } else { "" },
                if discovery.is_some() {
                    ", shown by Home Assistant"
                } else {
                    ""
                },
            )
        }
        SinkConnector::Print => "standard output".to_owned(),
        SinkConnector::Filesystem { path } => format!("file '{path}'"),
    };
    format!("sink {} to {to}", sink.name)
}

fn format_text(format: &Format) -> String {
    let Format::Json(JsonFormat {
        timestamp,
        ignore_parse_errors,
        fail_on_missing_field,
        id_field,
    }) = format
    else {
        return match format {
            Format::Csv(_) => "csv".to_owned(),
            _ => "text".to_owned(),
        };
    };
    let mut text = "json".to_owned();
    match timestamp {
        TimestampFormat::Sql => {}
        TimestampFormat::Iso8601 => text.push_str(", timestamps in ISO 8601"),
        TimestampFormat::EpochSeconds => text.push_str(", timestamps in seconds since 1970"),
        TimestampFormat::EpochMillis => text.push_str(", timestamps in milliseconds since 1970"),
        TimestampFormat::EpochMicros => text.push_str(", timestamps in microseconds since 1970"),
        TimestampFormat::EpochNanos => text.push_str(", timestamps in nanoseconds since 1970"),
        TimestampFormat::Pattern(pattern) => {
            let _ = write!(text, ", timestamps as '{pattern}'");
        }
    }
    if *ignore_parse_errors {
        text.push_str(", wrong fields are NULL");
    }
    if *fail_on_missing_field {
        text.push_str(", all fields required");
    }
    if let Some(field) = id_field {
        let _ = write!(text, ", event id in '{field}'");
    }
    text
}
