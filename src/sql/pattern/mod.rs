//! `MATCH_RECOGNIZE`: from the clause as it is written (`clause`, `tree`) to a plan (`compile`); what names mean in it is in `names`,
//! the parts beside the pattern are in `parts`, and what may go wrong with a pattern that is legal is in `risk`.
//!
//! Deliberately absent: what a match is; the plan's program says it, and `ops` runs it.

mod clause;
mod compile;
mod names;
mod parts;
mod risk;
mod tree;

use sqlparser::ast::{Ident, TableAlias};

use crate::expr::Expr;
use crate::plan::{
    Condition, Diagnostic, Match, Measures, Operator, Output, RowsPerMatch, Slot, Variable,
};
use crate::types::{Column, Schema};

use super::lex::place;
use super::planner::{Home, Planned, Planner, Relation};
use super::scope::Scope;

use clause::{Measure, Order};

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
        let within = self.within(home, clause)?;
        let variables = self.variables(home, clause, &mut names)?;
        self.check_ends(home, clause, within)?;
        let position = |name: &Ident| variables.iter().position(|known| *known == name.value);
        let (program, loops) = clause
            .tree
            .compile(&|name| position(name).unwrap_or_default())
            .map_err(|why| self.refuse(home, clause.location, why, "split the pattern"))?;
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
        let (least, most) = clause.tree.length();
        names.may_be_empty = least == 0;
        names.each_row = clause.rows != RowsPerMatch::One;
        let mut measured = Vec::new();
        for Measure { value, name } in &clause.measures {
            let typed = self.in_pattern(home, scope, &mut names, value)?;
            let mut column = Column::new(name.value.as_str(), typed.ty);
            column.nullable = typed.nullable;
            column.rowtime =
                matches!(&typed.expr, Expr::Column(at) if names.slots[*at] == Slot::MatchTime);
            measured.push((column, typed.expr));
        }
        self.check_ahead(home, clause, &names)?;
        // With NEXT a match can be given any time after it was.
        let timed = names.lookahead == 0;
        let (output, columns) = given(clause, scope, &partition, &measured, &mut names, |column| {
            column.rowtime &= timed && (clause.rows == RowsPerMatch::One || within.is_some());
        });
        let timed = columns.iter().any(|column| column.rowtime);
        let skip = self.skip(home, clause, &names)?;
        let why = "a match cannot be revised: a late row may make others of it, and nothing takes back what was sent";
        let late = self.late_rows_of(home, relation.node, clause.location, why)?;
        let variables = variables.into_iter().zip(conditions);
        let pattern = Match {
            partition,
            time,
            order,
            kept: names.kept,
            pattern: clause.tree.to_string(),
            program,
            loops,
            prompt: most == Some(least) || clause.tree.absence().is_some(),
            variables: variables
                .map(|(name, condition)| Variable { name, condition })
                .collect(),
            totals,
            measures: Measures {
                slots: names.slots,
                totals: names.totals,
                exprs: measured.into_iter().map(|(_, expr)| expr).collect(),
            },
            rows: clause.rows,
            output,
            timeouts: clause.timeouts.is_some(),
            skip,
            within,
            lookback: names.lookback,
            lookahead: names.lookahead,
            timed,
            late,
        };
        for (message, hint) in risk::of(&pattern, &clause.tree, clause.skip.is_some()) {
            self.warnings.push(Diagnostic {
                place: place(home.file, clause.location),
                message,
                hint: Some(hint),
            });
        }
        let schema = Schema::new(columns);
        let scope = Scope::of(&schema, None);
        let inputs = vec![relation.node];
        let operator = Operator::Match(Box::new(pattern));
        let node = self
            .graph
            .add(operator, inputs, schema, &home.query, &home.place);
        self.note_late_table(node);
        let mut relation = Relation {
            node,
            scope,
            pending: None,
        };
        self.alias(home, &mut relation, clause.alias.as_ref())?;
        Ok(relation)
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

/// The columns of the output, in the standard's order: those of PARTITION BY, where all rows are given those of ORDER BY,
/// the measures, and where all rows are given the other columns of the input. `settle` decides which are event times.
fn given(
    clause: &Clause,
    scope: &Scope,
    partition: &[usize],
    measured: &[(Column, Expr)],
    names: &mut Names,
    settle: impl FnMut(&mut Column),
) -> (Vec<Output>, Vec<Column>) {
    let mut output = Vec::new();
    let mut columns: Vec<Column> = Vec::new();
    for (at, key) in partition.iter().enumerate() {
        output.push(Output::Key(at));
        let mut column = scope.columns[*key].column.clone();
        column.rowtime = false;
        columns.push(column);
    }
    let (mut ordered, mut others): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    if clause.rows != RowsPerMatch::One {
        let found = |by: &Order| scope.find(&by.column).ok();
        for (position, _) in clause.order.iter().filter_map(found) {
            if !partition.contains(&position) && !ordered.contains(&position) {
                ordered.push(position);
            }
        }
        others.extend((0..scope.columns.len()).filter(|at| {
            !scope.columns[*at].hidden && !partition.contains(at) && !ordered.contains(at)
        }));
    }
    let mut give_rows = |rows: &[usize], output: &mut Vec<Output>, columns: &mut Vec<Column>| {
        for row in rows {
            output.push(Output::Row(names.keep(*row)));
            let mut column = scope.columns[*row].column.clone();
            column.rowtime &= *row == names.time;
            columns.push(column);
        }
    };
    give_rows(&ordered, &mut output, &mut columns);
    for (at, (column, _)) in measured.iter().enumerate() {
        output.push(Output::Measure(at));
        let mut column = column.clone();
        column.rowtime &= clause.rows == RowsPerMatch::One;
        columns.push(column);
    }
    give_rows(&others, &mut output, &mut columns);
    columns.iter_mut().for_each(settle);
    (output, columns)
}
