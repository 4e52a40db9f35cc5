//! GROUP BY over windows.

use std::collections::BTreeSet;

use sqlparser::tokenizer::Location;

use crate::expr::{Expr, Typed};
use crate::plan::{Aggregate, AggregateFunction, NodeId, Operator, Window};
use crate::types::{Column, Schema, Type};

use super::super::aggregate::Grouping;
use super::super::planner::{Home, Planned, Planner, Relation};
use super::super::scope::{Role, Scope};

impl Planner<'_> {
    /// Refuses a GROUP BY whose groups never end.
    pub(in crate::sql) fn check_window(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        roles: &[Role],
        at: Location,
        global: bool,
    ) -> Planned<()> {
        let (start, end) = (roles.contains(&Role::Start), roles.contains(&Role::End));
        if start && end {
            return Ok(());
        }
        if scope.position_of(Role::Start).is_some() && scope.position_of(Role::End).is_some() {
            let (message, missing) = match (start, end) {
                (true, false) => (
                    "GROUP BY names window_start and not window_end",
                    "window_end",
                ),
                (false, true) => (
                    "GROUP BY names window_end and not window_start",
                    "window_start",
                ),
                _ => (
                    "the rows have a window, and GROUP BY does not name it",
                    "window_start, window_end",
                ),
            };
            return Err(self.refuse(home, at, message, format!("add {missing} to GROUP BY")));
        }
        let message = if global {
            "an aggregate over a whole stream never ends"
        } else {
            "a GROUP BY without a window never ends: each event would change a result already sent"
        };
        Err(self.refuse(
            home,
            at,
            message,
            "group by a window: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) … GROUP BY …, window_start, window_end",
        ))
    }

    /// The step that aggregates a relation.
    pub(in crate::sql) fn aggregated(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        grouping: Grouping,
        at: Location,
    ) -> Planned<Relation> {
        // A window that is no step yet has no columns to compute with.
        let width = self.graph.node(relation.node).schema.len();
        let relation = if grouping.reads(width) {
            self.settled(home, relation)
        } else {
            relation
        };
        if relation.pending.is_none() && self.counts_rows(relation.node) {
            return Err(self.refuse(
                home,
                at,
                "the windows of COUNT_WINDOW are closed by rows, not by time, so their rows cannot be grouped by them once more",
                "filter and compute in a view that COUNT_WINDOW reads, or with FILTER (WHERE …); for longer windows use TUMBLE over window_time",
            ));
        }
        let Grouping {
            keys,
            aggregates,
            window: [start, end, time],
            window_types,
            ..
        } = grouping;
        let (window, time) = relation.pending.unwrap_or_else(|| {
            // check_window has seen both.
            let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
            (Window::Attached { start, end }, time.unwrap_or(end))
        });
        let key_of = |column: usize| keys.iter().position(|key| key.expr == Expr::Column(column));
        let window = self.partitioned(home, &relation.scope, window, keys.len(), &key_of, at)?;
        let late = self.late_rows(home, relation.node, &window, at)?;
        let mut columns: Vec<(Column, Role)> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let name = match key.expr {
                Expr::Column(at) => relation.scope.columns[at].column.name.clone(),
                _ => format!("key{i}").into(),
            };
            let column = Column {
                nullable: key.nullable,
                ..Column::new(name, key.ty.clone())
            };
            columns.push((column, Role::None));
        }
        for aggregate in &aggregates {
            let name = aggregate.function.name().to_lowercase();
            columns.push((Column::new(name, aggregate.ty.clone()), Role::None));
        }
        let time_column = Column::new("window_time", window_types[2].clone());
        columns.extend(super::columns(&time_column));
        let schema = Schema::new(columns.iter().map(|(column, _)| column.clone()).collect());
        let mut scope = Scope::of(&schema, None);
        for (column, (_, role)) in scope.columns.iter_mut().zip(columns) {
            column.role = role;
        }
        let keys = keys.into_iter().map(|key| key.expr).collect();
        let operator = Operator::WindowAggregate {
            window,
            time,
            keys,
            aggregates,
            late,
        };
        let node = self.graph.add(
            operator,
            vec![relation.node],
            schema,
            &home.query,
            &home.place,
        );
        self.note_late_table(node);
        Ok(Relation {
            node,
            scope,
            pending: None,
        })
    }

    /// Whether the last windows before a node are those of `COUNT_WINDOW`.
    fn counts_rows(&self, node: NodeId) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![node]);
        while let Some(at) = open.pop() {
            let node = self.graph.node(at);
            match &node.operator {
                Operator::WindowAggregate { window, .. } => {
                    if matches!(window, Window::Count { .. }) {
                        return true;
                    }
                }
                Operator::WindowAssign { .. } => {}
                _ if seen.insert(at) => open.extend(&node.inputs),
                _ => {}
            }
        }
        false
    }

    /// The rows of sessions or count windows, each with the bounds of its window: no row knows them when it comes, so
    /// that the rows of a window are kept in a list and given when it closes, as in Flink. The list is bounded like any
    /// that an aggregate keeps.
    pub(in crate::sql) fn rows_of_closed(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        mut window: Window,
        time: usize,
    ) -> Relation {
        let columns = &relation.scope.columns;
        let width = self.graph.node(relation.node).schema.len();
        let bounds = super::columns(&columns[time].column).map(|(column, _)| column);
        let mut partition: Vec<usize> = Vec::new();
        if let Window::Session { partition: by, .. } | Window::Count { partition: by, .. } =
            &mut window
        {
            partition = std::mem::replace(by, (0..by.len()).collect());
        }
        let row = (0..width)
            .map(|at| (columns[at].column.name.clone(), relation.scope.typed(at)))
            .collect();
        let row = Typed::row(row);
        let list = Type::Array(row.ty.clone().into());
        let mut kept: Vec<Column> = partition
            .iter()
            .map(|at| columns[*at].column.clone())
            .collect();
        kept.push(Column::new("rows", list.clone()));
        kept.extend(bounds);
        let nowhere = Location { line: 0, column: 0 };
        let late = self.late_rows(home, relation.node, &window, nowhere);
        let array = Expr::Column(partition.len());
        let operator = Operator::WindowAggregate {
            window,
            time,
            keys: partition.into_iter().map(Expr::Column).collect(),
            aggregates: vec![Aggregate::new(
                AggregateFunction::ArrayAgg,
                vec![(row.expr, row.ty)],
                list,
            )],
            // What is wrong with it has been reported.
            late: late.unwrap_or_default(),
        };
        let schema = Schema::new(kept.clone());
        let inputs = vec![relation.node];
        let node = self
            .graph
            .add(operator, inputs, schema, &home.query, &home.place);
        self.note_late_table(node);
        let before = kept.len();
        kept.extend(columns[..width].iter().map(|c| c.column.clone()));
        let operator = Operator::Unnest {
            array,
            width,
            rows: true,
            outer: false,
        };
        let schema = Schema::new(kept);
        let node = self
            .graph
            .add(operator, vec![node], schema, &home.query, &home.place);
        let exprs = (before..before + width).chain(before - 3..before);
        let operator = Operator::Project {
            exprs: exprs.map(Expr::Column).collect(),
        };
        let schema = relation.scope.schema();
        let node = self
            .graph
            .add(operator, vec![node], schema, &home.query, &home.place);
        Relation {
            node,
            scope: relation.scope.clone(),
            pending: None,
        }
    }

    /// A window whose PARTITION BY columns are given as positions among the `keys` of GROUP BY.
    fn partitioned(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        mut window: Window,
        keys: usize,
        key_of: &dyn Fn(usize) -> Option<usize>,
        at: Location,
    ) -> Planned<Window> {
        let counts = matches!(window, Window::Count { .. });
        let (Window::Session { partition, .. } | Window::Count { partition, .. }) = &mut window
        else {
            return Ok(window);
        };
        for column in partition.iter_mut() {
            let Some(key) = key_of(*column) else {
                let name = &scope.columns[*column].column.name;
                return Err(self.refuse(
                    home,
                    at,
                    format!("the windows are those of each {name}, and GROUP BY does not name it"),
                    format!("add {name} to GROUP BY, or take it out of PARTITION BY"),
                ));
            };
            *column = key;
        }
        if counts && partition.len() < keys {
            return Err(self.refuse(
                home,
                at,
                "GROUP BY names more keys than PARTITION BY of COUNT_WINDOW, whose windows are of so many rows in all",
                "name the same columns in both",
            ));
        }
        Ok(window)
    }
}
