//! What becomes of rows that come after their window has closed: the options `late-rows` of a table, the steps that
//! follow them, and the table that late rows may go to.
//!
//! The option is of the table that is read, because it is there that people know how late rows can be; it holds for
//! every window and every row pattern whose event time comes from that table. The late table is a table like any other: its columns are filled
//! by name with those of the rows, and with the bounds of the window that they missed.

use std::collections::{BTreeMap, BTreeSet};

use compact_str::CompactString;
use sqlparser::tokenizer::Location;

use crate::expr::{ResolveError, Typed};
use crate::plan::{
    Diagnostic, LateRows, NodeId, Operator, Place, Plan, Sink, Window, nearest, quantity,
};
use crate::types::{Column, Fingerprint, Schema, Timespan, Type, Value};

use super::super::convert;
use super::super::declare::{SinkTable, for_column};
use super::super::options::{at_key, at_value};
use super::super::planner::{Home, Planned, Planner, Relation, find, same};
use super::super::scope::Scope;
use super::super::table::TableDef;

/// What one table says of late rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sql) struct Policy {
    late: LateRows,
    /// The table that late rows go to.
    into: Option<String>,
}

/// What tables say of late rows, and which steps have late rows for a table.
#[derive(Debug, Default)]
pub(in crate::sql) struct LateTables {
    /// By the node that reads a table: the table, what it says, and where.
    policies: BTreeMap<NodeId, (String, Policy, Place)>,
    /// Steps whose late rows go to a table, and have no sink yet.
    open: Vec<NodeId>,
    /// Steps whose late rows have a sink.
    written: BTreeSet<NodeId>,
}

const MODES: &str = "'late-rows' is 'dead-letter', 'table' or 'update'";
const TABLE: &str = "late-rows.table";
const LATENESS: &str = "late-rows.allowed-lateness";

impl Planner<'_> {
    /// Reads the options of a table that is read.
    pub(in crate::sql) fn late_options(&mut self, table: &TableDef, has_watermark: bool) -> Policy {
        let mode = self.option(table, "late-rows").cloned();
        let into = self.option(table, TABLE).cloned();
        let lateness = self.option(table, LATENESS).cloned();
        if let (Some(option), false) = (
            mode.as_ref().or(into.as_ref()).or(lateness.as_ref()),
            has_watermark,
        ) {
            self.report(at_key(
                option,
                format!(
                    "'{}' has no effect: without a watermark no row is late",
                    option.key
                ),
                "add WATERMARK FOR ts AS ts - INTERVAL '5' SECOND",
            ));
        }
        let named = mode
            .as_ref()
            .map_or("dead-letter", |mode| mode.value.as_str());
        for (option, of) in [(&into, "table"), (&lateness, "update")] {
            if let Some(option) = option.as_ref().filter(|_| named != of) {
                self.report(at_key(
                    option,
                    format!(
                        "'{}' has no effect with 'late-rows' = '{named}'",
                        option.key
                    ),
                    &format!("write 'late-rows' = '{of}', or remove it"),
                ));
            }
        }
        let mut policy = Policy {
            late: LateRows::DeadLetter,
            into: None,
        };
        let Some(mode) = mode else { return policy };
        match mode.value.as_str() {
            "dead-letter" => {}
            "table" => {
                policy.late = LateRows::Table;
                match into {
                    None => drop(self.report(at_value(
                        &mode,
                        "late rows go to a table that is not named".to_owned(),
                        Some("add 'late-rows.table' = 'late_readings', a table that is declared with CREATE TABLE"),
                    ))),
                    Some(option) => match find(self.tables, &option.value) {
                        Some(name) if name != table.name.value => policy.into = Some(name),
                        Some(_) => drop(self.report(at_value(
                            &option,
                            "late rows cannot go to the table that they come from".to_owned(),
                            Some("declare another table for them"),
                        ))),
                        None => {
                            let known = self.tables.keys().map(String::as_str);
                            let hint = match nearest(&option.value, known) {
                                Some(near) => format!("did you mean {near}?"),
                                None => "declare it with CREATE TABLE".to_owned(),
                            };
                            let message = format!("there is no table {} for late rows", option.value);
                            self.report(at_value(&option, message, Some(&hint)));
                        }
                    },
                }
            }
            "update" => match lateness {
                None => drop(self.report(at_value(
                    &mode,
                    "how late a row may be is not said".to_owned(),
                    Some("add 'late-rows.allowed-lateness' = '10 min'"),
                ))),
                Some(option) => match quantity::parse_duration(&option.value) {
                    Ok(span) if !span.is_zero() => {
                        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
                        let allowed = Timespan::from_micros(micros);
                        policy.late = LateRows::Update { allowed };
                    }
                    Ok(_) => drop(self.report(at_value(
                        &option,
                        "an allowed lateness of zero allows nothing".to_owned(),
                        Some("write '10 min', or 'late-rows' = 'dead-letter'"),
                    ))),
                    Err(message) => drop(self.report(at_value(&option, message, None))),
                },
            },
            other => {
                let message = format!("'{other}' is nothing that can become of late rows");
                self.report(at_value(&mode, message, Some(MODES)));
            }
        }
        policy
    }

    /// Remembers what a table says.
    pub(in crate::sql) fn note_late_policy(
        &mut self,
        node: NodeId,
        table: &TableDef,
        policy: Policy,
    ) {
        let name = table.name.value.clone();
        let known = self.late.policies.get(&node);
        if let Some((other, _, _)) = known.filter(|(_, known, _)| *known != policy) {
            let message = format!(
                "{name} and {other} are the same stream and say different things of its late rows"
            );
            let hint = Some("declare it once, or give both the same 'late-rows'".to_owned());
            let place = table.place.clone();
            self.report(Diagnostic {
                place,
                message,
                hint,
            });
            return;
        }
        let place = table.place.clone();
        self.late.policies.insert(node, (name, policy, place));
    }

    /// The nodes that read the tables whose event time a step's input has.
    fn tables_behind(&self, node: NodeId) -> BTreeSet<NodeId> {
        let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![node]);
        while let Some(at) = open.pop() {
            if !seen.insert(at) {
                continue;
            }
            let node = self.graph.node(at);
            match node.operator {
                Operator::Source(_) => drop(found.insert(at)),
                // The rows of windows have the time of the window, and are never late for the next.
                Operator::WindowAggregate { .. } => {}
                // Nor are alarms, whose commands are no part of their time at all.
                Operator::Alarms(_) => {}
                _ => open.extend(&node.inputs),
            }
        }
        found
    }

    /// What becomes of the late rows of a window over the rows of a node.
    pub(super) fn late_rows(
        &mut self,
        home: &Home<'_>,
        node: NodeId,
        window: &Window,
        at: Location,
    ) -> Planned<LateRows> {
        if matches!(window, Window::Count { .. }) {
            return Ok(LateRows::DeadLetter); // There are none.
        }
        let late = self.late_policy(home, node, at)?;
        if matches!(
            (window, late),
            (Window::Session { .. }, LateRows::Update { .. })
        ) {
            return Err(self.refuse(
                home,
                at,
                "a session cannot be revised: a late row may join two that were sent already, and nothing takes those back",
                "use 'late-rows' = 'table', or declare a WATERMARK that waits longer",
            ));
        }
        Ok(late)
    }

    /// What becomes of the late rows of a step over the rows of a node that cannot take back what it gave; `why` says so.
    pub(in crate::sql) fn late_rows_of(
        &mut self,
        home: &Home<'_>,
        node: NodeId,
        at: Location,
        why: &str,
    ) -> Planned<LateRows> {
        match self.late_policy(home, node, at)? {
            LateRows::Update { .. } => Err(self.refuse(
                home,
                at,
                why,
                "give the table 'late-rows' = 'table' or 'dead-letter'",
            )),
            late => Ok(late),
        }
    }

    /// What the tables behind a node say of late rows.
    fn late_policy(&mut self, home: &Home<'_>, node: NodeId, at: Location) -> Planned<LateRows> {
        let tables = self.tables_behind(node);
        let mut policies = tables
            .iter()
            .filter_map(|table| self.late.policies.get(table));
        let Some((table, policy, _)) = policies.next() else {
            return Ok(LateRows::DeadLetter);
        };
        if let Some((other, _, _)) = policies.find(|(_, other, _)| other != policy) {
            let message =
                format!("the tables {table} and {other} say different things of late rows");
            let hint = "give both the same 'late-rows', or aggregate them in windows of their own";
            return Err(self.refuse(home, at, message, hint));
        }
        Ok(policy.late)
    }

    /// Remembers a step with late rows for a table.
    pub(in crate::sql) fn note_late_table(&mut self, step: NodeId) {
        let late = match &self.graph.node(step).operator {
            Operator::WindowAggregate { late, .. } => *late,
            Operator::Match(pattern) => pattern.late,
            Operator::Alarms(alarms) => alarms.late,
            _ => LateRows::DeadLetter,
        };
        if late == LateRows::Table && self.late.written.insert(step) {
            self.late.open.push(step);
        }
    }

    /// Gives the late rows of the steps of a query to their tables; after the query has its own sink.
    pub(in crate::sql) fn write_late_rows(&mut self, home: &Home<'_>) -> Planned<()> {
        for step in std::mem::take(&mut self.late.open) {
            let input = self.graph.node(step).inputs[0];
            let source = self.tables_behind(input).into_iter().next();
            let policy = source.and_then(|source| self.late.policies.get(&source));
            let (
                Some(source),
                Some((
                    _,
                    Policy {
                        into: Some(into), ..
                    },
                    place,
                )),
            ) = (source, policy)
            else {
                continue; // What is wrong with the option has been reported.
            };
            let (into, place) = (into.clone(), place.clone());
            let home = Home {
                query: CompactString::from(format!("late rows of {}", home.query)),
                place,
                ..home.clone()
            };
            self.write_late_rows_of(&home, step, input, source, &into)?;
        }
        Ok(())
    }

    fn write_late_rows_of(
        &mut self,
        home: &Home<'_>,
        step: NodeId,
        input: NodeId,
        source: NodeId,
        into: &str,
    ) -> Planned<()> {
        let table = &self.tables[into];
        self.written.insert(into.to_owned());
        let SinkTable {
            connector,
            format,
            schema,
            text,
        } = self.sink(table)?;
        let mut columns = self.graph.node(input).schema.columns.clone();
        let time = Column::new("window_time", Type::Timestamp { precision: 3 });
        let [mut start, mut end, _] = super::columns(&time).map(|(column, _)| column);
        // What is late for a pattern has missed no window.
        let misses_window = !matches!(
            self.graph.node(step).operator,
            Operator::Match(_) | Operator::Alarms(_)
        );
        (start.nullable, end.nullable) = (!misses_window, !misses_window);
        columns.extend([start, end]);
        let late = Schema::new(columns);
        let node = self.graph.add(
            Operator::LateRows,
            vec![step],
            late.clone(),
            &home.query,
            &home.place,
        );
        let relation = Relation {
            node,
            scope: Scope::of(&late, None),
            pending: None,
        };
        let mut exprs = Vec::with_capacity(schema.len());
        for column in &schema.columns {
            let value = self
                .late_column(&relation.scope, source, column)
                .and_then(|value| for_column(value, column));
            match value {
                Ok(expr) => exprs.push(expr),
                Err(error) => return Err(self.report(convert::at(table.place.clone(), error))),
            }
        }
        let relation = self.project(home, &relation, exprs, schema.clone(), &[]);
        let sink = Sink {
            name: CompactString::from(into),
            place: home.place.clone(),
            connector,
            format,
            schema,
            // Set when it is added: it covers what feeds it.
            fingerprint: Fingerprint(0),
        };
        self.graph.add_sink(sink, &text, relation.node, &home.query);
        Ok(())
    }

    /// The value of a column of a late table: that of the rows, or NULL if the query left it out.
    fn late_column(
        &self,
        rows: &Scope,
        source: NodeId,
        column: &Column,
    ) -> Result<Typed, ResolveError> {
        let named = |known: &str| same(known, &column.name);
        if let Some(at) = rows.columns.iter().position(|c| named(&c.column.name)) {
            return Ok(rows.typed(at));
        }
        let mut declared = self.graph.node(source).schema.columns.iter();
        if column.nullable && declared.any(|c| named(&c.name)) {
            return Ok(Typed::literal(Value::Null, Type::Null));
        }
        let names: Vec<&str> = rows
            .columns
            .iter()
            .map(|c| c.column.name.as_str())
            .collect();
        Err(ResolveError::hinted(
            format!("late rows have no column {}", column.name),
            format!("they have {}", names.join(", ")),
        ))
    }
}

/// Steps with state behind a window whose rows late rows revise: they would count a window and its revision as two.
pub(in crate::sql) fn refuse_steps_behind_revisions(plan: &Plan) -> Vec<Diagnostic> {
    let mut revised = vec![false; plan.nodes.len()];
    let mut problems = Vec::new();
    for (at, node) in plan.nodes.iter().enumerate() {
        let behind = node.inputs.iter().any(|input| revised[input.0]);
        let revises = matches!(
            node.operator,
            Operator::WindowAggregate {
                late: LateRows::Update { .. },
                ..
            }
        );
        revised[at] = behind || revises;
        let keeps_none = matches!(
            node.operator,
            Operator::Source(_)
                | Operator::Filter { .. }
                | Operator::Project { .. }
                | Operator::Unnest { .. }
                | Operator::WindowAssign { .. }
                | Operator::LookupJoin(_)
                | Operator::Union
                | Operator::SharedTime
                | Operator::LateRows
                | Operator::Sink(_)
        );
        if behind && !keeps_none {
            problems.push(Diagnostic {
                place: node.place.clone(),
                message: "late rows revise the windows that this query computes with, and each revision would count once more".to_owned(),
                hint: Some("write the windows of the table with 'late-rows' = 'update' to a sink as they are, or give the table another 'late-rows'".to_owned()),
            });
        }
    }
    problems
}
