//! `MATCH_RECOGNIZE`: from the clause as it is written (`clause`, `tree`) to a plan; what names mean in it is in `names`.
//!
//! Deliberately absent: what a match is; the plan's program says it, and `ops` runs it.

mod clause;
mod names;
mod tree;

use compact_str::CompactString;
use sqlparser::ast::{Ident, TableAlias};

use crate::expr::{Expr, Typed};
use crate::plan::{
    Condition, Diagnostic, End, Match, Measures, Operator, OrderKey, Skip, Slot, Variable,
    Variables,
};
use crate::types::{Column, Schema, Timespan, Type, Value};

use super::convert::Converter;
use super::lex::place;
use super::planner::{Home, Planned, Planner, Relation};
use super::scope::Scope;

use clause::{Measure, SkipTo, Written};

pub(super) use clause::{Clause, parse};
pub(super) use names::Names;

impl Planner<'_> {
    /// The matches of a pattern in the rows of a relation.
    pub(super) fn match_recognize(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        clause: &Clause,
    ) -> Planned<Relation> {
        let relation = self.settled(home, relation);
        let scope = &relation.scope;
        let mut partition = Vec::new();
        for name in &clause.partition {
            partition.push(self.column_of(home, scope, name)?);
        }
        let mut names = Names::default();
        let (time, order) = self.match_order(home, scope, clause, &mut names)?;
        names.time = time;
        let variables = self.variables(home, clause, &mut names)?;
        let position = |name: &Ident| variables.iter().position(|known| *known == name.value);
        let (program, loops) = clause
            .tree
            .compile(&|name| position(name).unwrap_or_default())
            .map_err(|why| self.refuse(home, clause.location, why, "split the pattern"))?;
        let (least, most) = clause.tree.length();
        if least == 0 {
            return Err(self.refuse(
                home,
                clause.location,
                "the pattern can match no row at all",
                "make one variable obligatory: A+ instead of A*",
            ));
        }
        let mut conditions: Vec<Option<Condition>> = vec![None; variables.len()];
        for (name, written) in &clause.definitions {
            let at = position(name).unwrap_or_default();
            names.candidate = Some(at);
            names.slots.clear();
            let value = self.in_pattern(home, scope, &mut names, written)?;
            self.want_bool_of(home, written, &value)?;
            conditions[at] = Some(Condition {
                slots: names.slots.clone(),
                expr: value.expr,
            });
        }
        let totals = std::mem::take(&mut names.totals);
        names.candidate = None;
        names.slots.clear();
        let columns = partition.iter().map(|at| scope.columns[*at].column.clone());
        let mut columns: Vec<Column> = columns
            .map(|column| Column {
                rowtime: false,
                ..column
            })
            .collect();
        let mut exprs = Vec::new();
        for Measure { value, name } in &clause.measures {
            let typed = self.in_pattern(home, scope, &mut names, value)?;
            let mut column = Column::new(name.value.as_str(), typed.ty);
            column.nullable = typed.nullable;
            column.rowtime =
                matches!(&typed.expr, Expr::Column(at) if names.slots[*at] == Slot::MatchTime);
            columns.push(column);
            exprs.push(typed.expr);
        }
        let timed = columns.iter().any(|column| column.rowtime);
        let skip = self.skip(home, clause, &names)?;
        let within = self.within(home, clause)?;
        let variables = variables.into_iter().zip(conditions);
        let operator = Operator::Match(Box::new(Match {
            partition,
            time,
            order,
            kept: names.kept,
            pattern: clause.tree.to_string(),
            program,
            loops,
            fixed: most == Some(least),
            variables: variables
                .map(|(name, condition)| Variable { name, condition })
                .collect(),
            totals,
            measures: Measures {
                slots: names.slots,
                totals: names.totals,
                exprs,
            },
            skip,
            within,
            lookback: names.lookback,
            timed,
        }));
        let schema = Schema::new(columns);
        let scope = Scope::of(&schema, None);
        let inputs = vec![relation.node];
        let node = self
            .graph
            .add(operator, inputs, schema, &home.query, &home.place);
        let mut relation = Relation {
            node,
            scope,
            pending: None,
        };
        self.alias(home, &mut relation, clause.alias.as_ref())?;
        Ok(relation)
    }

    fn column_of(&mut self, home: &Home<'_>, scope: &Scope, name: &Ident) -> Planned<usize> {
        match scope.find(std::slice::from_ref(name)) {
            Ok((position, _)) => Ok(position),
            Err(error) => {
                let hint = error.hint.unwrap_or_default();
                Err(self.refuse(home, name.span.start, error.message, hint))
            }
        }
    }

    /// The event time, and what orders rows of one time.
    fn match_order(
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
        let at = first.column.span.start;
        if !scope.columns[time].column.rowtime {
            let message = format!(
                "{} is not a time attribute, so rows cannot be ordered by it as they come",
                first.column.value
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

    /// The names of all variables; notes them and the subsets.
    fn variables(
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
        let in_pattern = variables.len();
        for (i, (name, written)) in clause.definitions.iter().enumerate() {
            let mut before = clause.definitions[..i].iter();
            if before.any(|(known, _)| known.value == name.value) {
                let message = format!("{} is defined twice", name.value);
                let hint = "join the conditions with AND";
                return Err(self.refuse(home, name.span.start, message, hint));
            }
            if !variables.iter().any(|known| *known == name.value) {
                variables.push(name.value.as_str().into());
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
                let known = names.variables[..in_pattern]
                    .iter()
                    .find(|(known, _)| *known == member.value);
                let Some((_, one)) = known else {
                    let error = names.unknown(&member.value);
                    let hint = error.hint.unwrap_or_default();
                    return Err(self.refuse(home, member.span.start, error.message, hint));
                };
                union = Some(union.map_or(*one, |union| union.and(*one)));
            }
            let union = union.expect("a list of names is not empty");
            names.variables.push((name.value.as_str().into(), union));
        }
        Ok(variables)
    }

    /// An expression of DEFINE or MEASURES, over slots.
    fn in_pattern(
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

    fn want_bool_of(&mut self, home: &Home<'_>, written: &Written, value: &Typed) -> Planned<()> {
        value.want_bool("DEFINE").map_err(|error| {
            let hint = error.hint.unwrap_or_default();
            self.refuse(home, written.location, error.message, hint)
        })
    }

    fn skip(&mut self, home: &Home<'_>, clause: &Clause, names: &Names) -> Planned<Skip> {
        let (end, name) = match &clause.skip {
            None => {
                self.warn(
                    home,
                    clause,
                    "without AFTER MATCH it is SKIP TO NEXT ROW here, as in Flink, and PAST LAST ROW in other systems",
                    "write AFTER MATCH SKIP PAST LAST ROW, or SKIP TO NEXT ROW for overlapping matches",
                );
                return Ok(Skip::ToNextRow);
            }
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

    fn within(&mut self, home: &Home<'_>, clause: &Clause) -> Planned<Option<Timespan>> {
        let hint = "write WITHIN INTERVAL '5' MINUTE";
        let Some(written) = &clause.within else {
            self.warn(
                home,
                clause,
                "without WITHIN a match that is begun waits for its end for ever and holds its rows",
                hint,
            );
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

    fn warn(&mut self, home: &Home<'_>, clause: &Clause, message: &str, hint: &str) {
        self.warnings.push(Diagnostic {
            place: place(home.file, clause.location),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }

    /// A relation under its alias; or, where the alias stands for `MATCH_RECOGNIZE`, the matches in it.
    pub(super) fn matched(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        alias: Option<&TableAlias>,
    ) -> Planned<Relation> {
        let clause = alias.and_then(|alias| home.types.pattern(&alias.name.value));
        match clause {
            Some(clause) => self.match_recognize(home, relation, clause),
            None => {
                let mut relation = relation;
                self.alias(home, &mut relation, alias)?;
                Ok(relation)
            }
        }
    }
}
