//! What the conditions of a pattern read, and so what can be decided of a row by itself.

use super::program::Waits;
use crate::expr::Expr;
use crate::plan::{Condition, End, Instruction, Match, Slot};

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
