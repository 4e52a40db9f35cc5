//! Windows: the table functions TUMBLE, HOP, CUMULATE, SESSION and `COUNT_WINDOW`. GROUP BY over them is in `grouped`, and
//! what becomes of late rows in `late`.

mod grouped;
mod late;

use sqlparser::ast::{Expr as Ast, FunctionArg, FunctionArgExpr, Ident, Spanned};
use sqlparser::tokenizer::Location;

use crate::expr::Expr;
use crate::plan::Window;
use crate::types::{Column, Timespan, Type, Value};

use super::planner::{Home, Planned, Planner, Relation};
use super::scope::{Role, Scope, ScopeColumn};

pub(super) use late::{LateTables, refuse_steps_behind_revisions};

/// A window function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Tumble,
    Hop,
    Cumulate,
    Session,
    Count,
}

impl Function {
    const ALL: [Self; 5] = [
        Self::Tumble,
        Self::Hop,
        Self::Cumulate,
        Self::Session,
        Self::Count,
    ];

    fn of(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.name().eq_ignore_ascii_case(name))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
            Self::Count => "COUNT_WINDOW",
        }
    }

    /// The names of its arguments behind DATA and TIMECOL, and how many of them must be given.
    const fn arguments(self) -> (&'static [&'static str], usize) {
        match self {
            Self::Tumble => (&["SIZE", "OFFSET"], 1),
            Self::Hop => (&["SLIDE", "SIZE", "OFFSET"], 2),
            Self::Cumulate => (&["STEP", "SIZE", "OFFSET"], 2),
            Self::Session => (&["GAP"], 1),
            Self::Count => (&["SIZE", "SLIDE"], 1),
        }
    }

    /// Whether its windows are of the rows of a key.
    const fn partitions(self) -> bool {
        matches!(self, Self::Session | Self::Count)
    }

    /// How it is written.
    fn form(self) -> String {
        let (names, needed) = self.arguments();
        let value = if self == Self::Count {
            "10"
        } else {
            "INTERVAL …"
        };
        let given: Vec<String> = names[..needed]
            .iter()
            .map(|name| format!("{name} => {value}"))
            .collect();
        let partition = if self.partitions() {
            " PARTITION BY k"
        } else {
            ""
        };
        format!(
            "write {}(TABLE t{partition}, DESCRIPTOR(ts), {})",
            self.name(),
            given.join(", ")
        )
    }
}

/// The names of the table functions, for messages.
pub(super) const NAMES: &str = "TUMBLE, HOP, CUMULATE, SESSION and COUNT_WINDOW";

/// Whether a table function makes windows.
pub(super) fn is_window(name: &str) -> bool {
    Function::of(name).is_some()
}

/// Whether the window function of a relation, not yet a step, makes windows whose bounds follow from the rows that came.
pub(super) fn is_of_rows(relation: &Relation) -> bool {
    let window = relation.pending.as_ref().map(|(window, _)| window);
    matches!(window, Some(Window::Session { .. } | Window::Count { .. }))
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
        let Some(function) = Function::of(name) else {
            let message = format!("there is no window function {name}");
            return Err(self.refuse(home, at, message, format!("the windows are {NAMES}")));
        };
        let (upper, form) = (function.name(), function.form());
        let (names, needed) = function.arguments();
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
        let unkeyed = (!function.partitions()).then_some("write the key into GROUP BY");
        let (relation, partition) = self.table_argument(home, data, unkeyed, &form)?;
        let relation = self.settled(home, relation);
        let time = self.time_column(
            home,
            &relation,
            time,
            &form,
            "no window can be closed by it",
        )?;
        if let Some(missing) = given[2..2 + needed].iter().position(Option::is_none) {
            let message = format!("{upper} needs {}", names[missing]);
            return Err(self.refuse(home, at, message, form));
        }
        let partition = self.partition_columns(home, &relation, partition)?;
        let window = self.window_of(home, function, &given[2..], partition, at)?;
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

    /// The window that the arguments behind DATA and TIMECOL mean; those that must be given are.
    fn window_of(
        &mut self,
        home: &Home<'_>,
        function: Function,
        given: &[Option<&Ast>],
        partition: Vec<usize>,
        at: Location,
    ) -> Planned<Window> {
        if function == Function::Count {
            return self.count_window(home, given, partition, at);
        }
        let (names, _) = function.arguments();
        let mut spans = Vec::with_capacity(names.len());
        for (name, ast) in names.iter().zip(given) {
            spans.push(match ast {
                Some(ast) => self.span(home, ast, name)?,
                None => Timespan::ZERO,
            });
        }
        let several = |of: Timespan, step: Timespan| {
            let step = step.as_micros().max(1);
            (of.as_micros() % step == 0).then_some(of.as_micros() / step)
        };
        let (windows, window, unfit) = match (function, spans.as_slice()) {
            (Function::Tumble, &[size, offset]) => return Ok(Window::Tumble { size, offset }),
            (Function::Session, &[gap]) => return Ok(Window::Session { gap, partition }),
            (Function::Hop, &[slide, size, offset]) => (
                several(size, slide),
                Window::Hop {
                    slide,
                    size,
                    offset,
                },
                (
                    format!("the size of HOP ({size}) is not a multiple of its slide ({slide})"),
                    "the slide comes first: HOP(TABLE t, DESCRIPTOR(ts), slide, size)",
                ),
            ),
            (Function::Cumulate, &[step, size, offset]) => (
                several(size, step),
                Window::Cumulate { step, size, offset },
                (
                    format!(
                        "the size of CUMULATE ({size}) is not an integral multiple of its step ({step})"
                    ),
                    "the step comes first: CUMULATE(TABLE t, DESCRIPTOR(ts), step, size)",
                ),
            ),
            _ => return Err(self.refuse(home, at, "the window is not complete", function.form())),
        };
        let name = function.name();
        match windows {
            None => Err(self.refuse(home, at, unfit.0, unfit.1)),
            Some(windows) if windows > MAX_WINDOWS => {
                let message = format!(
                    "{name} would put each row into {windows} windows, and {MAX_WINDOWS} is the most"
                );
                let longer = if function == Function::Hop {
                    "make the slide longer"
                } else {
                    "make the step longer"
                };
                Err(self.refuse(home, at, message, longer))
            }
            Some(_) => Ok(window),
        }
    }

    fn count_window(
        &mut self,
        home: &Home<'_>,
        given: &[Option<&Ast>],
        partition: Vec<usize>,
        at: Location,
    ) -> Planned<Window> {
        let mut counts = Vec::with_capacity(given.len());
        for ast in given.iter().flatten() {
            let typed = self.convert(home, &Scope::default(), ast)?;
            match typed.expr {
                Expr::Literal(Value::Int(count)) if count > 0 => counts.push(count),
                _ => {
                    return Err(self.refuse(
                        home,
                        ast.span().start,
                        "the size and the slide of COUNT_WINDOW are numbers of rows, from 1 on",
                        Function::Count.form(),
                    ));
                }
            }
        }
        let (size, slide) = match counts.as_slice() {
            [size] => (*size, *size),
            [size, slide] => (*size, *slide),
            _ => {
                return Err(self.refuse(
                    home,
                    at,
                    "the window is not complete",
                    Function::Count.form(),
                ));
            }
        };
        if size % slide != 0 || size / slide > MAX_WINDOWS {
            let message = format!(
                "the size of COUNT_WINDOW ({size}) is not a multiple of its slide ({slide}), of at most {MAX_WINDOWS} times"
            );
            let hint = "the size comes first: COUNT_WINDOW(TABLE t PARTITION BY k, DESCRIPTOR(ts), 100, 10)";
            return Err(self.refuse(home, at, message, hint));
        }
        Ok(Window::Count {
            size: size.unsigned_abs(),
            slide: slide.unsigned_abs(),
            partition,
        })
    }

    /// A named table as a relation under its own name.
    pub(super) fn table(&mut self, home: &Home<'_>, name: &Ident) -> Planned<Relation> {
        let mut relation = self.named(home, name)?;
        for column in &mut relation.scope.columns {
            column.relation = Some(name.value.as_str().into());
        }
        Ok(relation)
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
}
