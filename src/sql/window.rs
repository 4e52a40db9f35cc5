//! Windows: the table functions TUMBLE and HOP, and GROUP BY over them.

use sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned,
};
use sqlparser::tokenizer::Location;

use crate::expr::Expr;
use crate::plan::{Operator, Window};
use crate::types::{Column, Schema, Timespan, Type, Value};

use super::aggregate::Grouping;
use super::convert::plain_name;
use super::planner::{Home, Planned, Planner, Relation};
use super::scope::{Role, Scope, ScopeColumn};
use super::splice;

/// The window functions and the names of their arguments behind DATA and TIMECOL.
const FUNCTIONS: [(&str, &[&str]); 2] = [
    ("TUMBLE", &["SIZE", "OFFSET"]),
    ("HOP", &["SLIDE", "SIZE", "OFFSET"]),
];

/// Whether a table function makes windows.
pub(super) fn is_window(name: &str) -> bool {
    ["TUMBLE", "HOP", "CUMULATE", "SESSION"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// The columns that a window adds to a row.
pub(super) fn columns(time: &Column) -> [(Column, Role); 3] {
    let bound = |name: &str| Column {
        nullable: false,
        ..Column::new(name, Type::Timestamp { precision: 3 })
    };
    let last = Column {
        rowtime: true,
        ..bound("window_time")
    };
    [
        (bound("window_start"), Role::Start),
        (bound("window_end"), Role::End),
        (
            Column {
                ty: time.ty.clone(),
                ..last
            },
            Role::Time,
        ),
    ]
}

/// The windows a row may belong to: a day by the second, and some. Each of them is a row when it fires.
const MAX_WINDOWS: i64 = 100_000;

impl Planner<'_> {
    /// `TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)`.
    pub(super) fn window(
        &mut self,
        home: &Home<'_>,
        name: &str,
        args: &[FunctionArg],
        at: Location,
    ) -> Planned<Relation> {
        let upper = name.to_ascii_uppercase();
        let Some((_, names)) = FUNCTIONS.iter().find(|(known, _)| *known == upper) else {
            return Err(self.refuse(
                home,
                at,
                format!("{upper} is not supported yet"),
                "the windows are TUMBLE and HOP",
            ));
        };
        let form = format!(
            "write {upper}(TABLE t, DESCRIPTOR(ts), {})",
            names
                .iter()
                .map(|n| format!("{n} => INTERVAL …"))
                .collect::<Vec<_>>()
                .join(", ")
                .replace(", OFFSET => INTERVAL …", "")
        );
        let mut given: Vec<Option<&Ast>> = vec![None; names.len() + 2];
        for (i, arg) in args.iter().enumerate() {
            let (slot, ast) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(ast)) => (Some(i), ast),
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(ast),
                    ..
                } => {
                    let wanted = name.value.to_ascii_uppercase();
                    let slot = match wanted.as_str() {
                        "DATA" => Some(0),
                        "TIMECOL" => Some(1),
                        other => names.iter().position(|n| *n == other).map(|n| n + 2),
                    };
                    if slot.is_none() {
                        return Err(self.refuse(
                            home,
                            name.span.start,
                            format!("{upper} has no argument {}", name.value),
                            form,
                        ));
                    }
                    (slot, ast)
                }
                _ => {
                    return Err(self.refuse(
                        home,
                        at,
                        format!("{upper} does not take this argument"),
                        form,
                    ));
                }
            };
            match slot.and_then(|slot| given.get_mut(slot)) {
                Some(slot) => *slot = Some(ast),
                None => {
                    return Err(self.refuse(
                        home,
                        ast.span().start,
                        format!("{upper} has too many arguments"),
                        form,
                    ));
                }
            }
        }
        let (Some(data), Some(time)) = (given[0], given[1]) else {
            return Err(self.refuse(
                home,
                at,
                format!("{upper} needs a table and a time column"),
                form,
            ));
        };
        let relation = self.window_input(home, data, &form)?;
        let relation = self.settled(home, relation);
        let time = self.time_column(home, &relation, time, &form)?;
        let mut spans = Vec::with_capacity(names.len());
        for (name, ast) in names.iter().zip(&given[2..]) {
            match ast {
                Some(ast) => spans.push(self.span(home, ast, name)?),
                None if *name == "OFFSET" => spans.push(Timespan::ZERO),
                None => return Err(self.refuse(home, at, format!("{upper} needs {name}"), form)),
            }
        }
        let window = match spans.as_slice() {
            [size, offset] => Window::Tumble {
                size: *size,
                offset: *offset,
            },
            [slide, size, offset] => {
                if size.as_micros() % slide.as_micros().max(1) != 0 {
                    let message = format!(
                        "the size of HOP ({size}) is not a multiple of its slide ({slide})"
                    );
                    return Err(self.refuse(
                        home,
                        at,
                        message,
                        "the slide comes first: HOP(TABLE t, DESCRIPTOR(ts), slide, size)",
                    ));
                }
                let windows = size.as_micros() / slide.as_micros().max(1);
                if windows > MAX_WINDOWS {
                    return Err(self.refuse(
                        home,
                        at,
                        format!(
                            "HOP would put each row into {windows} windows, and {MAX_WINDOWS} is the most"
                        ),
                        "make the slide longer",
                    ));
                }
                Window::Hop {
                    slide: *slide,
                    size: *size,
                    offset: *offset,
                }
            }
            _ => return Err(self.refuse(home, at, format!("{upper} is not complete"), form)),
        };
        let mut relation = relation;
        let added = columns(&relation.scope.columns[time].column);
        // The rows keep their time, but only the window's is a time attribute from here on.
        relation.scope.columns.iter_mut().for_each(|c| {
            c.column.rowtime = false;
            c.role = Role::None;
        });
        relation
            .scope
            .columns
            .extend(added.map(|(column, role)| ScopeColumn {
                relation: None,
                column,
                role,
                hidden: false,
            }));
        relation.pending = Some((window, time));
        Ok(relation)
    }

    fn window_input(&mut self, home: &Home<'_>, data: &Ast, form: &str) -> Planned<Relation> {
        match data {
            Ast::Function(call) if plain_name(&call.name) == Some(splice::TABLE) => {
                let args = match &call.args {
                    FunctionArguments::List(list) => list.args.as_slice(),
                    _ => &[],
                };
                if let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(key)), ..] = args {
                    return Err(self.refuse(
                        home,
                        key.span().start,
                        "PARTITION BY has no meaning here",
                        "write the key into GROUP BY",
                    ));
                }
                match args {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Identifier(name)))] => {
                        self.table(home, name)
                    }
                    _ => Err(self.refuse(
                        home,
                        data.span().start,
                        "names of catalogs and databases are not supported",
                        "write the name of the table alone",
                    )),
                }
            }
            Ast::Subquery(query) => self.query(home, query),
            Ast::Nested(inner) => self.window_input(home, inner, form),
            Ast::Identifier(name) => Err(self.refuse(
                home,
                name.span.start,
                format!("write TABLE before {}", name.value),
                form,
            )),
            other => Err(self.refuse(
                home,
                other.span().start,
                "the first argument of a window is a table",
                form,
            )),
        }
    }

    /// A named table as a relation under its own name.
    pub(super) fn table(&mut self, home: &Home<'_>, name: &Ident) -> Planned<Relation> {
        let mut relation = self.named(home, name)?;
        for column in &mut relation.scope.columns {
            column.relation = Some(name.value.as_str().into());
        }
        Ok(relation)
    }

    fn time_column(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        ast: &Ast,
        form: &str,
    ) -> Planned<usize> {
        let column = match ast {
            Ast::Function(call)
                if plain_name(&call.name)
                    .is_some_and(|name| name.eq_ignore_ascii_case("DESCRIPTOR")) =>
            {
                match &call.args {
                    FunctionArguments::List(list) => match list.args.as_slice() {
                        [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] => Some(column),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(column) = column else {
            return Err(self.refuse(
                home,
                ast.span().start,
                "the time column is written DESCRIPTOR(column)",
                form,
            ));
        };
        let typed = self.convert(home, &relation.scope, column)?;
        let Expr::Column(at) = typed.expr else {
            return Err(self.refuse(
                home,
                column.span().start,
                "DESCRIPTOR takes a column",
                "compute it in the table: ts AS …, with a WATERMARK on it",
            ));
        };
        let found = &relation.scope.columns[at].column;
        if found.rowtime {
            return Ok(at);
        }
        let name = found.name.clone();
        let times: Vec<&str> = relation
            .scope
            .columns
            .iter()
            .filter(|c| c.column.rowtime)
            .map(|c| c.column.name.as_str())
            .collect();
        let hint = if times.is_empty() {
            format!(
                "declare it in CREATE TABLE: WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND, and select it unchanged"
            )
        } else {
            format!("the time attribute here is {}", times.join(", "))
        };
        Err(self.refuse(
            home,
            column.span().start,
            format!("{name} is not a time attribute, so no window can be closed by it"),
            hint,
        ))
    }

    fn span(&mut self, home: &Home<'_>, ast: &Ast, name: &str) -> Planned<Timespan> {
        let typed = self.convert(home, &Scope::default(), ast)?;
        let span = match typed.expr {
            Expr::Literal(Value::Interval(micros)) => Timespan::from_micros(micros),
            Expr::Literal(Value::Months(_)) => {
                return Err(self.refuse(
                    home,
                    ast.span().start,
                    "months and years have no fixed length",
                    "use DAY or shorter",
                ));
            }
            _ => {
                return Err(self.refuse(
                    home,
                    ast.span().start,
                    format!("{name} is an interval"),
                    "write INTERVAL '1' MINUTE",
                ));
            }
        };
        if name != "OFFSET" && !span.is_positive() {
            return Err(self.refuse(
                home,
                ast.span().start,
                format!("{name} must be longer than zero"),
                "write INTERVAL '1' MINUTE",
            ));
        }
        if span.as_micros() % Timespan::MILLISECOND.as_micros() != 0 {
            return Err(self.refuse(
                home,
                ast.span().start,
                format!("{name} must be whole milliseconds"),
                "round it",
            ));
        }
        Ok(span)
    }

    /// Refuses a GROUP BY whose groups never end.
    pub(super) fn check_window(
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
    pub(super) fn aggregated(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        grouping: Grouping,
    ) -> Relation {
        // A window that is no step yet has no columns to compute with.
        let width = self.graph.node(relation.node).schema.len();
        let relation = if grouping.reads(width) {
            self.settled(home, relation)
        } else {
            relation
        };
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
        columns.extend(self::columns(&time_column));
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
        };
        let node = self.graph.add(
            operator,
            vec![relation.node],
            schema,
            &home.query,
            &home.place,
        );
        Relation {
            node,
            scope,
            pending: None,
        }
    }
}
