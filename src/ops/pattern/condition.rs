//! Conditions: whether a row meets that of a variable, and what conditions read, so what can be decided of a row alone.

use std::sync::Arc;

use super::matcher::Matcher;
use super::partition::{Partial, Partition, Totals};
use super::path::Step;
use super::program::Waits;
use super::read::{Place, update};
use crate::expr::Expr;
use crate::plan::{Condition, End, Instruction, Match, Slot};
use crate::types::EventTime;

impl Matcher {
    /// Whether a row can be the first of no match, as most rows; a `partial` match that waits for its first row would tell
    /// the same, but at more length.
    pub(super) fn fails_at_once(
        &mut self,
        partial: &mut Partial,
        partition: &Partition,
        number: u64,
    ) -> bool {
        if !self.plan.totals.is_empty() {
            return false;
        }
        let waits = Arc::clone(&partial.waits);
        waits.iter().all(|wait| match self.program.at(wait) {
            Instruction::Row { variable, .. } => {
                let conditional = self.plan.variables[variable].condition.is_some();
                let tells = conditional && self.alone[variable];
                let mut test = || self.test(variable, partial, number, partition, number);
                tells && test().is_none()
            }
            _ => false,
        })
    }

    /// The aggregates of a partial match with a row more, if the row meets the condition.
    pub(super) fn test(
        &mut self,
        variable: usize,
        partial: &mut Partial,
        first: u64,
        partition: &Partition,
        number: u64,
    ) -> Option<Totals> {
        if self.verdicts[variable] == Some(false) {
            return None;
        }
        let row = partition.row(number)?;
        if self.plan.totals.is_empty()
            && let Some(condition) = &self.direct[variable]
        {
            let met = self.verdicts[variable] == Some(true) || {
                let tested = condition.test(&row.values, &super::CONTEXT);
                self.note(variable, tested.map_err(|e| e.to_string()))
            };
            return met.then(Totals::default);
        }
        let (plan, values) = (&self.plan.totals, &row.values);
        let mut totals = Totals::default();
        if !plan.is_empty() {
            totals.clone_from(&partial.totals);
        }
        // Whether a row is given has no part in conditions.
        partial.path.push(Step {
            variable: variable as u8,
            shown: true,
        });
        let length = partial.path.len();
        let updated = update(plan, &mut totals, variable, values, length);
        let tested = updated.and_then(|()| {
            if self.verdicts[variable] == Some(true) {
                return Ok(true);
            }
            let condition = &self.plan.variables[variable].condition;
            let Some(Condition { slots, expr }) = condition else {
                return Ok(true);
            };
            let place = Place {
                partition,
                first,
                last: number,
                path: &partial.path,
                seen: length,
                totals: (&self.plan.totals, &totals, &[]),
                ended: EventTime::MIN,
            };
            place.read_all(&self.plan, slots, &mut self.slots)?;
            let met = expr.test(&self.slots, &super::CONTEXT);
            met.map_err(|e| e.to_string())
        });
        partial.path.pop();
        self.note(variable, tested).then_some(totals)
    }

    /// Remembers what a test has shown; whether the row meets the condition.
    fn note(&mut self, variable: usize, tested: Result<bool, String>) -> bool {
        match tested {
            Ok(met) => {
                if self.alone[variable] {
                    self.verdicts[variable] = Some(met);
                }
                met
            }
            Err(failure) => {
                let name = &self.plan.variables[variable].name;
                self.failure
                    .get_or_insert_with(|| format!("{failure}, in the condition of {name}"));
                false
            }
        }
    }
}

/// Whether the condition of a variable reads only the row that is looked at and rows around it, not which were matched
/// before.
pub(super) fn reads_one_row(plan: &Match, variable: usize) -> bool {
    let condition = plan.variables[variable].condition.as_ref();
    let mut slots = condition.iter().flat_map(|condition| &condition.slots);
    slots.all(|slot| match slot {
        Slot::Value { at, .. } => at.from == End::Last && at.skip == 0 && at.of.contains(variable),
        _ => false,
    })
}

/// The condition of a variable over the kept columns of the row that is looked at, if it reads nothing else.
pub(super) fn direct(condition: &Condition, variable: usize) -> Option<Expr> {
    let columns = condition.slots.iter().map(|slot| match slot {
        Slot::Value { at, column } => {
            let own = at.from == End::Last && at.skip == 0 && at.offset == 0;
            (own && at.of.contains(variable)).then_some(*column)
        }
        _ => None,
    });
    let columns: Vec<usize> = columns.collect::<Option<_>>()?;
    let expr = condition.expr.clone();
    Some(expr.with_columns(&|slot| Expr::Column(columns[slot])))
}

/// The variables, with their conditions, of which a row must meet one to change anything where nothing has begun, if that
/// is all that counts.
pub(super) fn firsts(
    plan: &Match,
    first: &(Waits, bool),
    direct: &[Option<Expr>],
) -> Option<Box<[(usize, Expr)]>> {
    let (waits, accepts) = first;
    let neighbours = plan.lookback > 0 || plan.lookahead > 0;
    if *accepts || neighbours || plan.is_anchored() || !plan.totals.is_empty() {
        return None;
    }
    let firsts = waits
        .iter()
        .map(|wait| match plan.program[wait.at as usize] {
            Instruction::Row { variable, .. } => Some((variable, direct[variable].clone()?)),
            _ => None,
        });
    firsts.collect()
}
