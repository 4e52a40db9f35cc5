//! The parts of `MATCH_RECOGNIZE` beside its pattern: order, variables, conditions, where to look on, how long.

use compact_str::CompactString;
use sqlparser::ast::Ident;

use crate::expr::{Expr, Typed};
use crate::plan::{Diagnostic, End, OrderKey, Skip, Variables};
use crate::types::{Timespan, Type, Value};

use super::super::convert::Converter;
use super::super::lex::place;
use super::super::planner::{Home, Planned, Planner};
use super::super::scope::Scope;
use super::clause::{Clause, SkipTo, Written};
use super::names::{Names, Rowless};

impl Planner<'_> {
    /// The position of a column that is named in PARTITION BY or ORDER BY.
    pub(super) fn column_of(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        names: &[Ident],
    ) -> Planned<usize> {
        let at = names[0].span.start;
        match scope.find(names) {
            Ok((position, taken)) if taken == names.len() => Ok(position),
            Ok(_) => {
                let message = "a field of a ROW is no column";
                let hint = "take it out in a query: FROM (SELECT …, r.field AS key FROM t) MATCH_RECOGNIZE (…";
                Err(self.refuse(home, at, message, hint))
            }
            Err(error) => {
                let hint = error.hint.unwrap_or_default();
                Err(self.refuse(home, at, error.message, hint))
            }
        }
    }

    /// The event time, and what orders rows of one time.
    pub(super) fn match_order(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        clause: &Clause,
        names: &mut Names,
    ) -> Planned<(usize, Vec<OrderKey>)> {
        let hint = "write ORDER BY with the column that has the WATERMARK, ascending";
        let [first, others @ ..] = clause.order.as_slice() else {
            let message = "MATCH_RECOGNIZE needs ORDER BY: a pattern is about rows in order";
            return Err(self.refuse(home, clause.location, message, hint));
        };
        let time = self.column_of(home, scope, &first.column)?;
        let at = first.column[0].span.start;
        if !scope.columns[time].column.rowtime {
            let message = format!(
                "{} is not a time attribute, so rows cannot be ordered by it as they come",
                first.column[first.column.len() - 1].value
            );
            return Err(self.refuse(home, at, message, hint));
        }
        if first.descending {
            let message = "time goes forward: DESC would wait for the last row of the stream";
            return Err(self.refuse(home, at, message, hint));
        }
        let mut order = Vec::new();
        for key in others {
            let position = self.column_of(home, scope, &key.column)?;
            order.push(OrderKey {
                column: names.keep(position),
                descending: key.descending,
                // In Flink NULL is the least value.
                nulls_first: key.nulls_first.unwrap_or(!key.descending),
            });
        }
        Ok((time, order))
    }

    /// Fails if what ends a match does not fit together: SHOW TIMEOUT MATCHES and absence need WITHIN.
    pub(super) fn check_ends(
        &mut self,
        home: &Home<'_>,
        clause: &Clause,
        within: Option<Timespan>,
    ) -> Planned<()> {
        let hint = "write PATTERN (…) WITHIN INTERVAL '5' MINUTE";
        if let Some(at) = clause.timeouts
            && within.is_none()
        {
            let message = "SHOW TIMEOUT MATCHES needs WITHIN: without it nothing runs out of time";
            return Err(self.refuse(home, at, message, hint));
        }
        let Some((gap, absent)) = clause.tree.absence() else {
            return Ok(());
        };
        let at = absent.span.start;
        if within.is_none() {
            let message = format!(
                "[^{}] needs WITHIN: how long is it to stay away?",
                absent.value
            );
            return Err(self.refuse(home, at, message, hint));
        }
        if clause.timeouts.is_some() {
            let message = format!(
                "with [^{}] a match is what runs out of time, so SHOW TIMEOUT MATCHES has no meaning",
                absent.value
            );
            return Err(self.refuse(home, at, message, "remove SHOW TIMEOUT MATCHES"));
        }
        if clause.tree.length().0 == 0 {
            let message = format!(
                "[^{}] needs a row before it, to count the time from",
                absent.value
            );
            let hint = "write PATTERN (A {- X*? -} [^B])";
            return Err(self.refuse(home, at, message, hint));
        }
        let mut elsewhere = false;
        clause
            .tree
            .for_each_variable(&mut |name| elsewhere |= name.value == gap.value);
        let mut defined = clause.definitions.iter();
        if elsewhere || defined.any(|(name, _)| name.value == gap.value) {
            let message = format!(
                "{} stands for any row before [^{}], so it is neither defined nor used elsewhere",
                gap.value, absent.value
            );
            return Err(self.refuse(home, gap.span.start, message, "give it a name of its own"));
        }
        Ok(())
    }

    /// Fails if conditions or measures read ahead although something must fire by time.
    pub(super) fn check_ahead(
        &mut self,
        home: &Home<'_>,
        clause: &Clause,
        names: &Names,
    ) -> Planned<()> {
        if names.lookahead == 0 || (clause.timeouts.is_none() && clause.tree.absence().is_none()) {
            return Ok(());
        }
        let message =
            "NEXT waits for rows to come, and what runs out of time is given without them";
        let hint = "look back from a later variable with PREV or LAST";
        Err(self.refuse(home, clause.location, message, hint))
    }

    /// The names of all variables; notes them and the subsets.
    pub(super) fn variables(
        &mut self,
        home: &Home<'_>,
        clause: &Clause,
        names: &mut Names,
    ) -> Planned<Vec<CompactString>> {
        let mut variables: Vec<CompactString> = Vec::new();
        clause.tree.for_each_variable(&mut |name| {
            if !variables.iter().any(|known| *known == name.value) {
                variables.push(name.value.as_str().into());
            }
        });
        for (i, (name, written)) in clause.definitions.iter().enumerate() {
            let mut before = clause.definitions[..i].iter();
            if before.any(|(known, _)| known.value == name.value) {
                let message = format!("{} is defined twice", name.value);
                let hint = "join the conditions with AND";
                return Err(self.refuse(home, name.span.start, message, hint));
            }
            if !variables.iter().any(|known| *known == name.value) {
                let alike = |known: &&CompactString| known.eq_ignore_ascii_case(&name.value);
                if let Some(known) = variables.iter().find(alike) {
                    let message = format!(
                        "PATTERN has {known}, and {} is another variable",
                        name.value
                    );
                    let hint = format!("write {known} AS …");
                    return Err(self.refuse(home, name.span.start, message, hint));
                }
                variables.push(name.value.as_str().into());
                names
                    .rowless
                    .push((name.value.as_str().into(), Rowless::Unused));
                self.warnings.push(Diagnostic {
                    place: place(home.file, written.location),
                    message: format!("{} is defined, and PATTERN does not have it", name.value),
                    hint: Some("remove the definition, or add it to PATTERN".to_owned()),
                });
            }
        }
        if variables.len() > Variables::MAX {
            let message = format!("a pattern has at most {} variables", Variables::MAX);
            return Err(self.refuse(home, clause.location, message, "split the pattern"));
        }
        let sets = variables.iter().enumerate();
        names.variables = sets
            .map(|(at, name)| (name.clone(), Variables::one(at)))
            .collect();
        if let Some((_, absent)) = clause.tree.absence() {
            let mut times = 0;
            let same = |name: &Ident| usize::from(name.value == absent.value);
            clause
                .tree
                .for_each_variable(&mut |name| times += same(name));
            if times == 1 {
                names
                    .rowless
                    .push((absent.value.as_str().into(), Rowless::Absent));
            }
        }
        for (name, members) in &clause.subsets {
            if names
                .variables
                .iter()
                .any(|(known, _)| *known == name.value)
            {
                let message = format!("{} is a pattern variable or subset already", name.value);
                let hint = "give the subset another name";
                return Err(self.refuse(home, name.span.start, message, hint));
            }
            let mut union: Option<Variables> = None;
            for member in members {
                let variable = variables.iter().any(|known| *known == member.value);
                let Some(one) = names.variable(&member.value).filter(|_| variable) else {
                    let error = names.unknown(&member.value);
                    let hint = error.hint.unwrap_or_default();
                    return Err(self.refuse(home, member.span.start, error.message, hint));
                };
                union = Some(union.map_or(one, |union| union.and(one)));
            }
            let union = union.expect("a list of names is not empty");
            names.variables.push((name.value.as_str().into(), union));
        }
        Ok(variables)
    }

    /// An expression of DEFINE or MEASURES, over slots.
    pub(super) fn in_pattern(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        names: &mut Names,
        written: &Written,
    ) -> Planned<Typed> {
        let mut converter = Converter {
            file: home.file,
            fallback: place(home.file, written.location),
            types: &written.expr.types,
            scope,
            grouping: None,
            pattern: Some(std::mem::take(names)),
            over: None,
        };
        let result = converter.convert(&written.expr.ast);
        *names = converter.pattern.take().unwrap_or_default();
        let typed = result.map_err(|problem| self.report(problem))?;
        let clock = |expr: &Expr| expr.reads_clock();
        let mut aggregated = names.totals.iter().flat_map(|total| {
            let aggregate = &total.aggregate;
            aggregate.arguments.iter().chain(&aggregate.filter)
        });
        if clock(&typed.expr) || aggregated.any(clock) {
            let message = "a pattern cannot read the clock: its rows would differ from run to run";
            let hint = "compute it in a query before: FROM (SELECT …, CURRENT_TIMESTAMP AS now FROM t) MATCH_RECOGNIZE";
            return Err(self.refuse(home, written.location, message, hint));
        }
        Ok(typed)
    }

    pub(super) fn want_bool_of(
        &mut self,
        home: &Home<'_>,
        written: &Written,
        value: &Typed,
    ) -> Planned<()> {
        value.want_bool("DEFINE").map_err(|error| {
            let hint = error.hint.unwrap_or_default();
            self.refuse(home, written.location, error.message, hint)
        })
    }

    pub(super) fn skip(
        &mut self,
        home: &Home<'_>,
        clause: &Clause,
        names: &Names,
    ) -> Planned<Skip> {
        let (end, name) = match &clause.skip {
            None => return Ok(Skip::ToNextRow),
            Some(SkipTo::PastLastRow) => return Ok(Skip::PastLastRow),
            Some(SkipTo::NextRow) => return Ok(Skip::ToNextRow),
            Some(SkipTo::First(name)) => (End::First, name),
            Some(SkipTo::Last(name)) => (End::Last, name),
        };
        match names.variable(&name.value) {
            Some(of) => Ok(Skip::To(end, of)),
            None => {
                let error = names.unknown(&name.value);
                let hint = error.hint.unwrap_or_default();
                Err(self.refuse(home, name.span.start, error.message, hint))
            }
        }
    }

    pub(super) fn within(&mut self, home: &Home<'_>, clause: &Clause) -> Planned<Option<Timespan>> {
        let hint = "write WITHIN INTERVAL '5' MINUTE";
        let Some(written) = &clause.within else {
            return Ok(None);
        };
        let types = &written.expr.types;
        let within = Home {
            types,
            ..home.clone()
        };
        let typed = self.convert(&within, &Scope::default(), &written.expr.ast)?;
        match typed.expr {
            Expr::Literal(Value::Interval(micros)) if micros > 0 => {
                Ok(Some(Timespan::from_micros(micros)))
            }
            _ => {
                let message = match typed.ty {
                    Type::IntervalYearMonth => {
                        "months differ in length, so WITHIN cannot count them"
                    }
                    _ => "WITHIN takes a constant interval longer than zero",
                };
                Err(self.refuse(home, written.location, message, hint))
            }
        }
    }
}
