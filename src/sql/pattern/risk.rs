//! What may go wrong with a pattern that is legal: for the warnings of `check`.
//!
//! The estimates are of the worst case, and only sure when they say that nothing is wrong: whether two conditions exclude
//! each other is seen only where both compare one column with constants.

use std::cmp::Ordering;

use crate::expr::{Comparison, Expr, total_order};
use crate::plan::{
    Condition, End, MAX_PARTIAL_MATCHES, MAX_PATTERN_BYTES, MAX_PATTERN_ROWS, Match, Slot,
};
use crate::types::Value;

use super::tree::Tree;

/// Bytes of memory of a held row without its values, and of a value, about.
const ROW_BYTES: usize = 72;
const VALUE_BYTES: usize = 24;

/// Rows that a pattern may hold for each key for ever without a warning.
const FEW_ROWS: u64 = 16;

/// Warnings, each with what to do.
pub(super) fn of(pattern: &Match, tree: &Tree, skips: bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut warn = |message: String, hint: &str| found.push((message, hint.to_owned()));
    if !skips {
        warn(
            "without AFTER MATCH it is SKIP TO NEXT ROW here, as in Flink, and PAST LAST ROW in other systems".to_owned(),
            "write AFTER MATCH SKIP PAST LAST ROW, or SKIP TO NEXT ROW for overlapping matches",
        );
    }
    let most = tree.length().1;
    if pattern.within.is_none() && most.is_none_or(|rows| rows > FEW_ROWS) {
        let row = ROW_BYTES + VALUE_BYTES * pattern.kept.len();
        let bytes = (row * MAX_PATTERN_ROWS).min(MAX_PATTERN_BYTES);
        warn(
            format!(
                "without WITHIN a match that is begun waits for its end for ever and holds its rows: up to \
                 {MAX_PATTERN_ROWS}, about {} KB, for each key{}",
                bytes >> 10,
                if pattern.timed && !pattern.prompt {
                    "; when it is known, windows at its time may have closed"
                } else {
                    ""
                }
            ),
            "write WITHIN INTERVAL '5' MINUTE",
        );
    }
    if tree.length().0 == 0 {
        warn(
            "the pattern can match no row at all, and then gives a row for each row at which nothing else matches".to_owned(),
            "make one variable obligatory: A+ instead of A*",
        );
    }
    if pattern.is_anchored() {
        warn(
            "^ is before the first row that a key ever had, so each key is remembered for ever"
                .to_owned(),
            "remove ^, or see that the keys are not ever new ones",
        );
    }
    if pattern.is_numbered() {
        warn(
            "MATCH_NUMBER() counts from the first match that a key ever had, so each key is remembered for ever".to_owned(),
            "remove it, unless keys are few",
        );
    }
    if remembers(pattern)
        && let Some((one, other)) = overlap(pattern, tree)
    {
        warn(
            format!(
                "a row may meet both {one} and {other}, whose numbers of rows are open, and conditions read what was \
                 matched before: each row can double what is to be tried, up to {MAX_PARTIAL_MATCHES} partial matches for \
                 each key"
            ),
            "let the conditions exclude each other, or bound the quantifiers by {n,m}",
        );
    }
    found
}

/// Whether a condition reads what was matched before, so that partial matches at one place are not alike.
fn remembers(pattern: &Match) -> bool {
    let conditions = pattern.variables.iter().enumerate();
    conditions.into_iter().any(|(own, variable)| {
        let mut slots = variable.condition.iter().flat_map(|c| &c.slots);
        slots.any(|slot| !is_own(slot, own))
    })
}

/// Whether a slot is of the row that is tested, or one next to it.
fn is_own(slot: &Slot, own: usize) -> bool {
    match slot {
        Slot::Value { at, .. } => at.from == End::Last && at.skip == 0 && at.of.contains(own),
        _ => false,
    }
}

/// Two variables in neighbouring open loops that one row may meet, by name.
fn overlap(pattern: &Match, tree: &Tree) -> Option<(String, String)> {
    let at = |name: &str| pattern.variables.iter().position(|v| v.name == name);
    for (left, right) in tree.open_neighbours() {
        for one in &left {
            for other in &right {
                let (a, b) = (at(one)?, at(other)?);
                if a == b || !exclusive(pattern, a, b) {
                    return Some((one.clone(), other.clone()));
                }
            }
        }
    }
    // An open loop in an open loop takes the same rows in many ways.
    let nested = tree.nested_open()?;
    Some((nested.clone(), nested))
}

/// Whether no row meets both conditions, as far as comparisons with constants show it.
fn exclusive(pattern: &Match, a: usize, b: usize) -> bool {
    let bounds = |own: usize| {
        let condition = pattern.variables[own].condition.as_ref();
        condition.map_or_else(Vec::new, |condition| bounds(condition, own))
    };
    let (left, right) = (bounds(a), bounds(b));
    left.iter().any(|(column, op, value)| {
        let same = right.iter().filter(|(other, _, _)| other == column);
        same.into_iter()
            .any(|(_, other_op, other)| apart((*op, value), (*other_op, other)))
    })
}

/// What a condition demands of columns of its row: comparisons with constants that all must hold.
fn bounds(condition: &Condition, own: usize) -> Vec<(usize, Comparison, Value)> {
    let parts = match &condition.expr {
        Expr::And(parts) => parts,
        one => std::slice::from_ref(one),
    };
    let column = |expr: &Expr| match expr {
        Expr::Column(slot) => match &condition.slots[*slot] {
            slot @ Slot::Value { at, column } if is_own(slot, own) && at.offset == 0 => {
                Some(*column)
            }
            _ => None,
        },
        _ => None,
    };
    let bound = |part: &Expr| {
        let Expr::Compare { op, left, right } = part else {
            return None;
        };
        match (&**left, &**right) {
            (left, Expr::Literal(value)) => Some((column(left)?, *op, value.clone())),
            (Expr::Literal(value), right) => Some((column(right)?, flipped(*op), value.clone())),
            _ => None,
        }
    };
    parts.iter().filter_map(bound).collect()
}

fn flipped(op: Comparison) -> Comparison {
    match op {
        Comparison::Lt => Comparison::Gt,
        Comparison::LtEq => Comparison::GtEq,
        Comparison::Gt => Comparison::Lt,
        Comparison::GtEq => Comparison::LtEq,
        same => same,
    }
}

/// Whether no value meets both comparisons.
fn apart(left: (Comparison, &Value), right: (Comparison, &Value)) -> bool {
    use Comparison::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let order = total_order(left.1, right.1);
    match (left.0, right.0) {
        (Eq, Eq) => order.is_ne(),
        (Eq, NotEq) | (NotEq, Eq) => order.is_eq(),
        // Less than the left one, and more than the right one.
        (Eq | LtEq, GtEq) | (LtEq, Eq) => order == Ordering::Less,
        (Lt | LtEq | Eq, Gt) | (Lt, Eq | GtEq) => order.is_le(),
        (GtEq, Eq | LtEq) | (Eq, LtEq) => order == Ordering::Greater,
        (Gt, Lt | LtEq | Eq) | (Eq | GtEq, Lt) => order.is_ge(),
        _ => false,
    }
}
