//! What columns and functions mean inside of DEFINE and MEASURES: each becomes a slot, a place in the match where a value
//! is found.
//!
//! `A.x` is `LAST(A.x)`; a column without a variable is of any row of the match. A navigation around an expression is
//! one around each of its columns, which must be of one variable.

use compact_str::CompactString;
use sqlparser::ast::{
    Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart,
};

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{Diagnostic, End, Navigation, Slot, Total, Variables, nearest};
use crate::types::{Type, Value};

use super::super::aggregate;
use super::super::convert::{Converted, Converter};
use super::clause::FINAL;

/// The names that can be used in a pattern, and what has been used of them.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Names {
    /// Variables and subsets.
    pub(super) variables: Vec<(CompactString, Variables)>,
    /// Variables that no row of a match has, for they stand in no pattern or only in `[^B]`, and which of the two it is.
    pub(super) rowless: Vec<(CompactString, Rowless)>,
    /// The input columns that are kept of a row.
    pub(super) kept: Vec<usize>,
    /// The variable whose condition is read; none in MEASURES.
    pub(super) candidate: Option<usize>,
    /// The input column with the event time.
    pub(super) time: usize,
    /// What the expression reads.
    pub(super) slots: Vec<Slot>,
    /// The aggregates.
    pub(super) totals: Vec<Total>,
    /// How many rows before a match are read.
    pub(super) lookback: usize,
    /// How many rows behind a row are read.
    pub(super) lookahead: usize,
    /// Whether measures are of a match that may have no rows.
    pub(super) may_be_empty: bool,
    /// Whether a measure is computed at each row, so that FINAL makes a difference.
    pub(super) each_row: bool,
    /// Inside of which function.
    within: Within,
    /// The variable of the columns inside of it.
    of: Option<Variables>,
}

/// Why no row of a match has a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rowless {
    /// PATTERN does not have it.
    Unused,
    /// It stays away.
    Absent,
}

/// What a column stands inside of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    /// Nothing.
    #[default]
    Nothing,
    /// FIRST or LAST, with its offset and whether it is FINAL, in PREV or NEXT.
    Navigation {
        end: Option<(End, usize, bool)>,
        offset: i64,
    },
    /// An aggregate.
    Aggregate,
}

impl Names {
    /// The position of an input column among those that are kept.
    pub(super) fn keep(&mut self, column: usize) -> usize {
        let known = self.kept.iter().position(|kept| *kept == column);
        known.unwrap_or_else(|| {
            self.kept.push(column);
            self.kept.len() - 1
        })
    }

    /// The variable or subset of this name, if a row can have it.
    pub(super) fn variable(&self, name: &str) -> Option<Variables> {
        let mut known = self.variables.iter();
        let found = known.clone().find(|(known, _)| known == name);
        let found = found.or_else(|| known.find(|(known, _)| known.eq_ignore_ascii_case(name)));
        let (name, variables) = found?;
        let own = self
            .candidate
            .is_some_and(|own| self.variables[own].0 == *name);
        (own || self.rowless(name).is_none()).then_some(*variables)
    }

    fn rowless(&self, name: &str) -> Option<Rowless> {
        let found = self.rowless.iter().find(|(known, _)| known == name);
        found.map(|(_, why)| *why)
    }

    /// The error that a variable is not known.
    pub(super) fn unknown(&self, name: &str) -> ResolveError {
        if self.rowless(name) == Some(Rowless::Absent) {
            return ResolveError::hinted(
                format!("{name} has no rows to be read: [^{name}] says that none comes"),
                "read a variable that stands before it",
            );
        }
        let with_rows = self.variables.iter().map(|(name, _)| name.as_str());
        let names = || {
            with_rows
                .clone()
                .filter(|name| self.rowless(name).is_none())
        };
        let hint = nearest(name, names()).map_or_else(
            || {
                format!(
                    "the variables are {}",
                    names().collect::<Vec<_>>().join(", ")
                )
            },
            |near| format!("did you mean {near}?"),
        );
        ResolveError::hinted(format!("PATTERN has no variable {name}"), hint)
    }

    fn slot(&mut self, slot: Slot) -> Expr {
        let known = self.slots.iter().position(|known| *known == slot);
        Expr::Column(known.unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        }))
    }

    /// Notes that a column is of these variables; false if another one beside it is of others.
    fn same(&mut self, of: Variables) -> bool {
        *self.of.get_or_insert(of) == of
    }

    fn navigation(&self, of: Variables) -> Navigation {
        let (end, offset) = match self.within {
            Within::Navigation { end, offset } => (end, offset),
            _ => (None, 0),
        };
        let (from, skip, whole) = end.unwrap_or((End::Last, 0, false));
        Navigation {
            of,
            from,
            skip,
            offset,
            whole: whole && self.each_row,
        }
    }

    /// Whether a row is there for sure: the candidate, or in MEASURES the first or last of all.
    fn certain(&self, at: Navigation) -> bool {
        let own = match self.candidate {
            Some(candidate) => at.from == End::Last && at.of.contains(candidate),
            None => at.of == Variables::ALL && !self.may_be_empty,
        };
        own && at.skip == 0 && at.offset == 0
    }
}

impl Converter<'_> {
    /// A column inside of a pattern.
    pub(in super::super) fn pattern_column(&mut self, names: &[Ident]) -> Converted {
        let Some(mut known) = self.pattern.take() else {
            return Err(self.blame_names(names, ResolveError::new("there is no pattern here")));
        };
        let result = self.pattern_column_of(&mut known, names);
        self.pattern = Some(known);
        result
    }

    fn pattern_column_of(&mut self, known: &mut Names, names: &[Ident]) -> Converted {
        let (of, rest) = match names {
            [variable, rest @ ..] if !rest.is_empty() => match known.variable(&variable.value) {
                Some(of) => (of, rest),
                None => (Variables::ALL, names),
            },
            _ => (Variables::ALL, names),
        };
        let found = self.scope.find(rest).map_err(|error| {
            if rest.len() == names.len() && names.len() > 1 {
                known.unknown(&names[0].value)
            } else {
                error
            }
        });
        let (position, taken) = found.map_err(|e| self.blame_names(names, e))?;
        if !known.same(of) {
            return Err(self.blame_names(
                names,
                ResolveError::hinted(
                    "the columns inside of one function are of several pattern variables",
                    "take one variable, or a SUBSET of them",
                ),
            ));
        }
        if known.within == Within::Nothing {
            known.of = None;
        }
        let column = known.keep(position);
        let ty = self.scope.columns[position].column.ty.clone();
        let nullable = self.scope.columns[position].column.nullable;
        let mut value = if known.within == Within::Aggregate {
            Typed::new(Expr::Column(column), ty, nullable)
        } else {
            let at = known.navigation(of);
            let nullable = nullable || !known.certain(at);
            Typed::new(known.slot(Slot::Value { at, column }), ty, nullable)
        };
        for name in &rest[taken..] {
            value = value
                .field(&name.value)
                .map_err(|e| self.blame_names(std::slice::from_ref(name), e))?;
        }
        Ok(value)
    }

    /// A function that has a meaning of its own inside of a pattern; `None` for any other.
    pub(in super::super) fn pattern_function(
        &mut self,
        name: &str,
        function: &Function,
        ast: &Ast,
    ) -> Option<Converted> {
        let (name, whole) = match name.strip_prefix(FINAL) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let upper = name.to_ascii_uppercase();
        let navigates = ["FIRST", "LAST", "PREV", "NEXT"].contains(&upper.as_str());
        let special = navigates || upper.starts_with("MATCH_") || upper == "CLASSIFIER";
        let aggregates = aggregate::is_aggregate(name);
        if self.pattern.is_none() || !(special || aggregates) {
            return whole.then(|| {
                let error = ResolveError::hinted(
                    format!("FINAL stands before FIRST, LAST and aggregates, and {upper} is none"),
                    "remove FINAL",
                );
                Err(self.blame(ast, error))
            });
        }
        if whole && special && !["FIRST", "LAST"].contains(&upper.as_str()) {
            let error = ResolveError::hinted(
                format!("FINAL {upper} is not written so"),
                "write FINAL before FIRST, LAST or an aggregate: PREV(FINAL LAST(A.column))",
            );
            return Some(Err(self.blame(ast, error)));
        }
        let plain = function.over.is_none() && function.filter.is_none();
        if special && !plain {
            let message = format!("{upper} takes neither OVER nor FILTER");
            return Some(Err(self.blame(ast, ResolveError::new(message))));
        }
        if function.over.is_some() {
            let error = ResolveError::hinted(
                "OVER has no meaning in a pattern",
                "compute it before: FROM (SELECT …, LAG(x) OVER (…) AS x1 FROM t) MATCH_RECOGNIZE (…",
            );
            return Some(Err(self.blame(ast, error)));
        }
        Some(if aggregates {
            self.pattern_aggregate(name, whole, function, ast)
        } else if navigates {
            self.navigate(&upper, whole, function, ast)
        } else {
            self.of_match(&upper, function, ast)
        })
    }

    fn navigate(&mut self, name: &str, whole: bool, function: &Function, ast: &Ast) -> Converted {
        let wrong = |form: &str| ResolveError::hinted(format!("{name} is not written so"), form);
        let form = format!("write {name}(A.column) or {name}(A.column, n) with a whole n");
        let (value, offset) = match arguments(function).as_slice() {
            [value] => (*value, None),
            [value, offset] => (*value, Some(self.convert(offset)?)),
            _ => return Err(self.blame(ast, wrong(&form))),
        };
        let offset = match offset.map(|offset| offset.expr) {
            None => i64::from(name == "PREV" || name == "NEXT"),
            Some(Expr::Literal(Value::Int(n))) if (0..=10_000).contains(&n) => n,
            Some(_) => return Err(self.blame(ast, wrong(&form))),
        };
        let known = self.pattern.as_mut().expect("asked for in a pattern");
        let (outer, outer_of) = (known.within, known.of);
        let within = match (outer, name) {
            (Within::Nothing, "PREV") => Within::Navigation {
                end: None,
                offset: -offset,
            },
            (Within::Nothing, "NEXT") => Within::Navigation { end: None, offset },
            (Within::Nothing | Within::Navigation { end: None, .. }, "FIRST" | "LAST") => {
                let end = if name == "FIRST" {
                    End::First
                } else {
                    End::Last
                };
                let outer_offset = match outer {
                    Within::Navigation { offset, .. } => offset,
                    _ => 0,
                };
                Within::Navigation {
                    end: Some((end, offset as usize, whole)),
                    offset: outer_offset,
                }
            }
            _ => {
                return Err(self.blame(
                    ast,
                    ResolveError::hinted(
                        format!("{name} cannot stand inside of this function"),
                        "write PREV(LAST(A.column, n), m) or NEXT(…), and aggregates over columns alone",
                    ),
                ));
            }
        };
        known.within = within;
        if outer == Within::Nothing {
            known.of = None;
        }
        let slots = known.slots.len();
        let value = self.convert(value);
        let known = self.pattern.as_mut().expect("asked for in a pattern");
        known.within = outer;
        known.of = outer_of;
        if let Within::Navigation { offset, .. } = within {
            let rows = offset.unsigned_abs() as usize;
            if offset < 0 {
                known.lookback = known.lookback.max(rows);
            } else {
                known.lookahead = known.lookahead.max(rows);
            }
        }
        let value = value?;
        if !value.expr.reads_columns() && known.slots.len() == slots {
            return Err(self.blame(
                ast,
                ResolveError::hinted(
                    format!("{name} navigates to a row, and no column is named"),
                    form,
                ),
            ));
        }
        Ok(value)
    }

    /// What is known of a match as a whole, and the variable of a row.
    fn of_match(&mut self, name: &str, function: &Function, ast: &Ast) -> Converted {
        let arguments = arguments(function);
        let known = self.pattern.as_mut().expect("asked for in a pattern");
        let measured = known.candidate.is_none() && known.within == Within::Nothing;
        let late = ResolveError::hinted(
            format!("{name} is known when a match is complete"),
            "use it in MEASURES, outside of other functions",
        );
        match (name, arguments.as_slice()) {
            ("CLASSIFIER", [] | [Ast::Identifier(_)]) if known.within != Within::Aggregate => {
                let of = match arguments.first() {
                    Some(Ast::Identifier(name)) => match known.variable(&name.value) {
                        Some(of) => of,
                        None => {
                            let error = known.unknown(&name.value);
                            return Err(self.blame(ast, error));
                        }
                    },
                    _ => Variables::ALL,
                };
                let at = known.navigation(of);
                let nullable = !known.certain(at);
                Ok(Typed::new(
                    known.slot(Slot::Classifier(at)),
                    Type::String,
                    nullable,
                ))
            }
            ("CLASSIFIER", _) => Err(self.blame(
                ast,
                ResolveError::hinted(
                    "CLASSIFIER is not written so",
                    "write CLASSIFIER() or CLASSIFIER(A), outside of aggregates",
                ),
            )),
            ("MATCH_NUMBER", []) if measured => Ok(Typed::new(
                known.slot(Slot::MatchNumber),
                Type::BigInt,
                false,
            )),
            ("MATCH_ROWTIME", [] | [Ast::Identifier(_)]) if measured => {
                let time = known.time;
                if let Some(Ast::Identifier(name)) = arguments.first() {
                    let found = self.scope.find(std::slice::from_ref(name));
                    let (position, _) = found.map_err(|e| self.blame(ast, e))?;
                    if position != time {
                        let error = ResolveError::hinted(
                            "MATCH_ROWTIME takes the event time that the pattern is ordered by",
                            "write MATCH_ROWTIME()",
                        );
                        return Err(self.blame(ast, error));
                    }
                }
                let ty = self.scope.columns[time].column.ty.clone();
                let known = self.pattern.as_mut().expect("asked for in a pattern");
                Ok(Typed::new(known.slot(Slot::MatchTime), ty, false))
            }
            ("MATCH_NUMBER" | "MATCH_ROWTIME", _) => Err(self.blame(ast, late)),
            _ => Err(self.blame(
                ast,
                ResolveError::hinted(
                    format!("{name} is not supported"),
                    "of a match there are MATCH_NUMBER(), MATCH_ROWTIME() and CLASSIFIER()",
                ),
            )),
        }
    }

    fn pattern_aggregate(
        &mut self,
        name: &str,
        whole: bool,
        function: &Function,
        ast: &Ast,
    ) -> Converted {
        let known = self.pattern.as_mut().expect("asked for in a pattern");
        if known.within != Within::Nothing {
            return Err(self.blame(
                ast,
                ResolveError::hinted(
                    "an aggregate cannot stand inside of a navigation or of another aggregate",
                    "aggregate a column: SUM(A.price)",
                ),
            ));
        }
        let counted = rows_of(function).filter(|_| name.eq_ignore_ascii_case("COUNT"));
        let of = match &counted {
            None => None,
            Some((variable, _)) => match known.variable(&variable.value) {
                None => {
                    let error = known.unknown(&variable.value);
                    return Err(self.blame_names(std::slice::from_ref(variable), error));
                }
                found => found,
            },
        };
        known.within = Within::Aggregate;
        known.of = of;
        let function = counted.as_ref().map_or(function, |(_, all)| all);
        let aggregate = aggregate::aggregate(self, name, function, ast);
        let known = self.pattern.as_mut().expect("asked for in a pattern");
        known.within = Within::Nothing;
        let of = known.of.take().unwrap_or(Variables::ALL);
        let aggregate = aggregate?;
        let (ty, nullable) = (aggregate.ty.clone(), aggregate.nullable());
        let total = Total { of, aggregate };
        let position = known.totals.iter().position(|known| *known == total);
        let position = position.unwrap_or_else(|| {
            known.totals.push(total);
            known.totals.len() - 1
        });
        let slot = Slot::Total {
            which: position,
            whole: whole && known.each_row,
        };
        Ok(Typed::new(known.slot(slot), ty, nullable))
    }

    fn blame_names(&self, names: &[Ident], error: ResolveError) -> Diagnostic {
        let ast = Ast::CompoundIdentifier(names.to_vec());
        self.blame(&ast, error)
    }
}

/// `COUNT(A.*)`: its variable, and it as COUNT(*).
fn rows_of(function: &Function) -> Option<(Ident, Function)> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name))] = list.args.as_slice()
    else {
        return None;
    };
    let [ObjectNamePart::Identifier(variable)] = name.0.as_slice() else {
        return None;
    };
    let mut all = function.clone();
    if let FunctionArguments::List(list) = &mut all.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
    }
    Some((variable.clone(), all))
}

/// The arguments that are values; all others make the call one of none.
fn arguments(function: &Function) -> Vec<&Ast> {
    let FunctionArguments::List(list) = &function.args else {
        return Vec::new();
    };
    let values = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    });
    values.collect::<Option<Vec<_>>>().unwrap_or_default()
}
