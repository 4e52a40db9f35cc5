//! A call with OVER, with its arguments, order and frame, into what the plan has.
//!
//! Invariant: a form that is not computed is refused with what to write instead; nothing that is written is ignored.

use sqlparser::ast::{
    DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, NullTreatment,
    OrderByExpr, OrderBySort, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec,
    WindowType,
};

use crate::expr::{Expr, ResolveError, Typed, common_type};
use crate::plan::{
    Aggregate, Diagnostic, Frame, MAX_FRAME_ROWS, OverCall, OverFunction, SortKey, nearest,
};
use crate::types::{Timespan, Type, Value};

use super::super::aggregate;
use super::super::convert::{Converted, Converter};
use super::super::scope::Role;
use super::detect::{self, Detector};
use super::{BASE, Call, Calls, Step};

/// What a function is before OVER.
#[derive(Clone, Copy)]
enum Kind {
    RowNumber,
    Rank,
    DenseRank,
    Lag,
    Aggregate,
    Detector(&'static Detector),
}

impl Kind {
    /// Whether it is the place of a row in an order.
    const fn ranks(self) -> bool {
        matches!(self, Self::RowNumber | Self::Rank | Self::DenseRank)
    }
}

fn no_aggregate(name: &str) -> ResolveError {
    let message = format!("{name} is no aggregate, and cannot stand before OVER");
    let hint = match nearest(name, detect::detector_names()) {
        Some(near) => format!("remove OVER (…), or did you mean {near}?"),
        None => "remove OVER (…)".to_owned(),
    };
    ResolveError::hinted(message, hint)
}

impl Converter<'_> {
    /// Converts a call with OVER: notes it and gives its column.
    pub(in super::super) fn over_call(
        &mut self,
        name: &str,
        function: &Function,
        window: &WindowType,
        ast: &Ast,
    ) -> Converted {
        let Some(mut calls) = self.over.take() else {
            let hint = if self.grouping.is_some() {
                "group in a query in FROM, and write OVER in the query around it"
            } else {
                "OVER stands in SELECT: compute it in a query in FROM, and use its column in the query around it"
            };
            let message = "OVER cannot stand here";
            return Err(self.blame(ast, ResolveError::hinted(message, hint)));
        };
        let call = self.call_over(&mut calls, name, function, window, ast);
        let typed = call.map(|call| {
            let known = calls.found.iter().position(|known| {
                (&known.keys, &known.step, &known.ty) == (&call.keys, &call.step, &call.ty)
            });
            let (ty, nullable) = (call.ty.clone(), call.nullable);
            let index = known.unwrap_or_else(|| {
                calls.found.push(call);
                calls.found.len() - 1
            });
            Typed::new(Expr::Column(BASE + index), ty, nullable)
        });
        self.over = Some(calls);
        typed
    }

    fn call_over(
        &mut self,
        calls: &mut Calls,
        name: &str,
        function: &Function,
        window: &WindowType,
        ast: &Ast,
    ) -> Result<Call, Diagnostic> {
        let upper = name.to_ascii_uppercase();
        let kind = match upper.as_str() {
            "ROW_NUMBER" => Kind::RowNumber,
            "RANK" => Kind::Rank,
            "DENSE_RANK" => Kind::DenseRank,
            "LAG" => Kind::Lag,
            _ => match refused(&upper) {
                Some(hint) => {
                    let message = format!("{upper} is not supported on a stream");
                    return Err(self.blame(ast, ResolveError::hinted(message, hint)));
                }
                None if aggregate::is_aggregate(name) => Kind::Aggregate,
                None => match detect::find(name) {
                    Some(detector) => Kind::Detector(detector),
                    None => return Err(self.blame(ast, no_aggregate(&upper))),
                },
            },
        };
        let spec = calls.window(window).map_err(|e| self.blame(ast, e))?;
        let mut keys = Vec::with_capacity(spec.partition_by.len());
        for key in &spec.partition_by {
            let typed = self.convert(key)?;
            if matches!(typed.ty, Type::Map(..)) {
                let hint = "partition by one of its values: m['key']";
                let error = ResolveError::hinted("a MAP cannot be partitioned by", hint);
                return Err(self.blame(key, error));
            }
            keys.push(typed.expr);
        }
        let of_window = |role| {
            let at = self.scope.position_of(role)?;
            keys.contains(&Expr::Column(at)).then_some(at)
        };
        let place = self.blame(ast, ResolveError::new("")).place;
        if let (Some(start), Some(end), true) =
            (of_window(Role::Start), of_window(Role::End), kind.ranks())
        {
            let order = self.ranking(kind, &upper, function, &spec, ast)?;
            keys.retain(|key| ![Expr::Column(start), Expr::Column(end)].contains(key));
            return Ok(Call {
                keys,
                step: Step::Top { start, end, order },
                ty: Type::BigInt,
                nullable: false,
                place,
            });
        }
        let time = self.order(kind, &upper, &spec.order_by, ast)?;
        let frame = match &spec.window_frame {
            Some(frame) => Some(self.frame(frame, ast)?),
            None => None,
        };
        let (call, ty, nullable) = match kind {
            Kind::Aggregate => {
                let aggregate: Aggregate = aggregate::aggregate(self, name, function, ast)?;
                let (ty, nullable) = (aggregate.ty.clone(), aggregate.nullable());
                (OverCall::Aggregate(aggregate), ty, nullable)
            }
            Kind::Lag => self.lag(function, ast)?,
            Kind::Detector(detector) => {
                let detection = self.detection(detector, function, time, frame, ast)?;
                let ty = detection.method.ty();
                // Flags are never missing: what is has a flag of its own.
                let nullable = ty != Type::Int;
                (OverCall::Detect(detection), ty, nullable)
            }
            rank => {
                self.no_arguments(&upper, function, ast)?;
                let call = match rank {
                    Kind::RowNumber => OverCall::RowNumber,
                    Kind::Rank => OverCall::Rank,
                    _ => OverCall::DenseRank,
                };
                (call, Type::BigInt, false)
            }
        };
        let frame = match (kind, frame) {
            (Kind::Aggregate, frame) => frame.unwrap_or(Frame::AllRange),
            (Kind::Detector(_), _) => Frame::AllRows,
            (Kind::RowNumber, Some(range @ Frame::Range(_))) => range,
            (_, None) => Frame::AllRows,
            (_, Some(_)) => {
                let hint = if matches!(kind, Kind::RowNumber) {
                    "remove it, or number the rows of a span of time: RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW"
                } else {
                    "remove ROWS or RANGE"
                };
                let message = format!("{upper} takes no frame");
                return Err(self.blame(ast, ResolveError::hinted(message, hint)));
            }
        };
        Ok(Call {
            keys,
            step: Step::Function {
                time,
                function: OverFunction { frame, call },
            },
            ty,
            nullable,
            place,
        })
    }

    /// The order of `ROW_NUMBER` in a window.
    fn ranking(
        &mut self,
        kind: Kind,
        name: &str,
        function: &Function,
        spec: &WindowSpec,
        ast: &Ast,
    ) -> Result<Vec<SortKey>, Diagnostic> {
        if !matches!(kind, Kind::RowNumber) {
            let message = format!("{name} of the rows of a window is not supported");
            let hint = "write ROW_NUMBER(), with what tells equal rows apart in ORDER BY";
            return Err(self.blame(ast, ResolveError::hinted(message, hint)));
        }
        self.no_arguments(name, function, ast)?;
        if spec.window_frame.is_some() {
            let error = ResolveError::hinted("ROW_NUMBER takes no frame", "remove ROWS or RANGE");
            return Err(self.blame(ast, error));
        }
        if spec.order_by.is_empty() {
            let message = "ROW_NUMBER needs an order";
            let hint = "write ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY value DESC)";
            return Err(self.blame(ast, ResolveError::hinted(message, hint)));
        }
        let mut order = Vec::with_capacity(spec.order_by.len());
        for item in &spec.order_by {
            let descending = self.descending(item)?;
            let typed = self.convert(&item.expr)?;
            if matches!(typed.ty, Type::Map(..) | Type::Array(_) | Type::Row(_)) {
                let message = format!("{} has no order", typed.ty);
                let hint = "order by one of its values";
                return Err(self.blame(&item.expr, ResolveError::hinted(message, hint)));
            }
            order.push(SortKey {
                expr: typed.expr,
                descending,
                // NULL is less than all values, as in Flink.
                nulls_first: item.options.nulls_first.unwrap_or(!descending),
            });
        }
        Ok(order)
    }

    fn descending(&self, item: &OrderByExpr) -> Result<bool, Diagnostic> {
        if item.with_fill.is_some() {
            let error = ResolveError::hinted("WITH FILL is not supported", "remove it");
            return Err(self.blame(&item.expr, error));
        }
        match &item.options.sort {
            None | Some(OrderBySort::Asc) => Ok(false),
            Some(OrderBySort::Desc) => Ok(true),
            Some(_) => {
                let error = ResolveError::hinted("ORDER BY … USING is not supported", "remove it");
                Err(self.blame(&item.expr, error))
            }
        }
    }

    /// The column of the time attribute by which OVER is ordered.
    fn order(
        &mut self,
        kind: Kind,
        name: &str,
        order: &[OrderByExpr],
        ast: &Ast,
    ) -> Result<usize, Diagnostic> {
        let columns = self.scope.columns.iter();
        let time = columns
            .filter(|c| c.column.rowtime && !c.hidden)
            .map(|c| c.column.name.as_str())
            .next();
        let form = match time {
            Some(time) => format!("write ORDER BY {time}"),
            None => {
                "declare a time attribute: WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, and select it unchanged"
                    .to_owned()
            }
        };
        let Some((first, others)) = order.split_first() else {
            let message = format!("{name} OVER needs an order: which rows come before");
            return Err(self.blame(ast, ResolveError::hinted(message, form)));
        };
        let typed = self.convert(&first.expr)?;
        let at = match typed.expr {
            Expr::Column(at) if self.scope.columns[at].column.rowtime => Some(at),
            _ => None,
        };
        let ranks = kind.ranks();
        let descending = self.descending(first)?;
        let Some(at) = at else {
            let (message, hint) = if ranks {
                (
                    "a rank by value over an endless stream changes with each row, also for rows already sent"
                        .to_owned(),
                    "rank the rows of a window: FROM TABLE(TUMBLE(…)), PARTITION BY window_start, window_end"
                        .to_owned(),
                )
            } else {
                (
                    "OVER is ordered by event time, and this is not a time attribute".to_owned(),
                    form,
                )
            };
            return Err(self.blame(&first.expr, ResolveError::hinted(message, hint)));
        };
        if descending {
            let (message, hint) = if ranks {
                (
                    "the latest row changes with each row, also where one was already sent",
                    "take it per window: PARTITION BY …, window_start, window_end, or MAX_BY(value, ts) GROUP BY …, window_start, window_end",
                )
            } else {
                (
                    "OVER cannot run backwards: what comes later is not known yet",
                    "remove DESC",
                )
            };
            return Err(self.blame(&first.expr, ResolveError::hinted(message, hint)));
        }
        if first.options.nulls_first.is_some() {
            let message = "NULLS FIRST and NULLS LAST have no effect: a row without event time is a dead letter";
            return Err(self.blame(&first.expr, ResolveError::hinted(message, "remove it")));
        }
        if let Some(other) = others.first() {
            let message = "OVER is ordered by the time attribute alone; rows of one time stand in the order of arrival";
            let error = ResolveError::hinted(message, "remove the other columns");
            return Err(self.blame(&other.expr, error));
        }
        Ok(at)
    }

    fn frame(&mut self, frame: &WindowFrame, ast: &Ast) -> Result<Frame, Diagnostic> {
        let range = match frame.units {
            WindowFrameUnits::Rows => false,
            WindowFrameUnits::Range => true,
            WindowFrameUnits::Groups => {
                let error = ResolveError::hinted("GROUPS is not supported", "write ROWS or RANGE");
                return Err(self.blame(ast, error));
            }
        };
        match frame.end_bound {
            None | Some(WindowFrameBound::CurrentRow) => {}
            Some(WindowFrameBound::Preceding(_)) => {
                return Err(self.blame(
                    ast,
                    ResolveError::hinted(
                        "a frame that ends before the current row is not supported",
                        "end it at CURRENT ROW, or take one row of it with LAG(x, n)",
                    ),
                ));
            }
            Some(WindowFrameBound::Following(_)) => return Err(self.following(ast)),
        }
        match &frame.start_bound {
            WindowFrameBound::CurrentRow if range => Ok(Frame::Range(Timespan::ZERO)),
            WindowFrameBound::CurrentRow => Ok(Frame::Rows(0)),
            WindowFrameBound::Preceding(None) if range => Ok(Frame::AllRange),
            WindowFrameBound::Preceding(None) => Ok(Frame::AllRows),
            WindowFrameBound::Preceding(Some(size)) if range => self.span(size).map(Frame::Range),
            WindowFrameBound::Preceding(Some(size)) => self.count(size).map(Frame::Rows),
            WindowFrameBound::Following(_) => Err(self.following(ast)),
        }
    }

    fn following(&self, ast: &Ast) -> Diagnostic {
        self.blame(
            ast,
            ResolveError::hinted(
                "a frame with FOLLOWING needs rows that have not come yet",
                "end it at CURRENT ROW, and look back from the later row: LAG(x, n)",
            ),
        )
    }

    fn span(&mut self, ast: &Ast) -> Result<Timespan, Diagnostic> {
        let typed = self.convert(ast)?;
        let (message, hint) = match typed.expr {
            Expr::Literal(Value::Interval(micros)) if micros >= 0 => {
                return Ok(Timespan::from_micros(micros));
            }
            Expr::Literal(Value::Interval(_)) => {
                ("a RANGE cannot be negative", "remove the minus sign")
            }
            Expr::Literal(Value::Months(_)) => (
                "months and years have no fixed length",
                "use DAY or shorter",
            ),
            _ => (
                "RANGE over time takes a constant INTERVAL",
                "write RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW, or ROWS for a number of rows",
            ),
        };
        Err(self.blame(ast, ResolveError::hinted(message, hint)))
    }

    fn count(&mut self, ast: &Ast) -> Result<usize, Diagnostic> {
        let typed = self.convert(ast)?;
        let count = match typed.expr {
            Expr::Literal(Value::Int(count)) => usize::try_from(count).ok(),
            _ => None,
        };
        count
            .filter(|count| *count <= MAX_FRAME_ROWS)
            .ok_or_else(|| {
                let message =
                    format!("the number of rows is a constant from 0 to {MAX_FRAME_ROWS}");
                let hint = "write 10, or RANGE with an INTERVAL for a span of time";
                self.blame(ast, ResolveError::hinted(message, hint))
            })
    }

    fn no_arguments(
        &mut self,
        name: &str,
        function: &Function,
        ast: &Ast,
    ) -> Result<(), Diagnostic> {
        let list = self.arguments(function, ast)?;
        let bare = list.args.is_empty()
            && list.clauses.is_empty()
            && list.duplicate_treatment.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none();
        if bare {
            return Ok(());
        }
        let message = format!("{name} takes no arguments and no clauses but OVER");
        let hint = format!("write {name}() OVER (…)");
        Err(self.blame(ast, ResolveError::hinted(message, hint)))
    }

    fn lag(
        &mut self,
        function: &Function,
        ast: &Ast,
    ) -> Result<(OverCall, Type, bool), Diagnostic> {
        let list = self.arguments(function, ast)?;
        let respects = matches!(
            function.null_treatment,
            None | Some(NullTreatment::RespectNulls)
        );
        let plain = list.clauses.is_empty()
            && list.duplicate_treatment != Some(DuplicateTreatment::Distinct)
            && function.filter.is_none()
            && function.within_group.is_empty();
        let form = "write LAG(value, offset, default) OVER (…)";
        if !respects || !plain {
            let message = "LAG takes no DISTINCT, FILTER or IGNORE NULLS";
            return Err(self.blame(ast, ResolveError::hinted(message, form)));
        }
        let mut arguments = Vec::with_capacity(3);
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => arguments.push(argument),
                _ => return Err(self.blame(ast, ResolveError::hinted("LAG takes values", form))),
            }
        }
        let (value, offset, default) = match arguments.as_slice() {
            [value] => (value, None, None),
            [value, offset] => (value, Some(offset), None),
            [value, offset, default] => (value, Some(offset), Some(default)),
            _ => {
                let error = ResolveError::hinted("LAG takes one to three values", form);
                return Err(self.blame(ast, error));
            }
        };
        let mut value = self.convert(value)?;
        let offset = offset.map_or(Ok(1), |offset| self.count(offset))?;
        let mut nullable = true;
        let default = match default {
            Some(given) => {
                let default = self.convert(given)?;
                let Some(ty) = common_type(&value.ty, &default.ty) else {
                    let message = format!(
                        "the default of LAG is {}, and its value {}",
                        default.ty, value.ty
                    );
                    let error = ResolveError::hinted(message, "convert one with CAST");
                    return Err(self.blame(given, error));
                };
                nullable = value.nullable || default.nullable;
                value = self.checked(ast, value.cast(&ty, false))?;
                Some(self.checked(given, default.cast(&ty, false))?.expr)
            }
            None => None,
        };
        let ty = value.ty.clone();
        let call = OverCall::Lag {
            value: value.expr,
            offset,
            default,
            ty: ty.clone(),
        };
        Ok((call, ty, nullable))
    }
}

/// What is said to a function that would need rows to come.
fn refused(name: &str) -> Option<&'static str> {
    match name {
        "LEAD" => Some(
            "the next row is not known yet: look back from it, LAG(x) OVER (…) gives the pair when its later row comes",
        ),
        "NTILE" | "PERCENT_RANK" | "CUME_DIST" => Some(
            "it needs all rows of a partition, and a stream has no end: use PERCENTILE in a window",
        ),
        "NTH_VALUE" => Some("use FIRST_VALUE, LAST_VALUE, or LAG(x, n)"),
        _ => None,
    }
}
