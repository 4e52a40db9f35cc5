//! Running a pattern's program between two rows: which rows it can take next, the preferred first.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::plan::Instruction;

/// Where a program waits for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// The instruction that looks at it.
    pub(super) at: u32,
    /// The rounds of the loops. A count that decides nothing any more does not grow, so that equal futures are equal.
    pub(super) rounds: Rounds,
}

/// Where a partial match waits, the preferred place first. Shared: many wait at the same places.
pub(super) type Waits = Arc<[Wait]>;

/// The rounds of each loop.
pub(super) type Rounds = SmallVec<[u32; 2]>;

/// A program that remembers where its ways have led.
#[derive(Debug)]
pub(super) struct Program {
    instructions: Vec<Instruction>,
    /// By the instruction that took a row, and the rounds then: where it waits behind it, and whether it accepts. At most
    /// [`MAX_KNOWN`] for each.
    known: Vec<Vec<(Rounds, Waits, bool)>>,
}

/// How many ways from one instruction a program remembers; further ones are followed anew each time.
const MAX_KNOWN: usize = 8;

impl Program {
    pub(super) fn new(instructions: Vec<Instruction>) -> Self {
        Self {
            known: vec![Vec::new(); instructions.len()],
            instructions,
        }
    }

    /// The instruction that waits at a place.
    pub(super) fn at(&self, wait: &Wait) -> Instruction {
        self.instructions[wait.at as usize]
    }

    /// Where the program waits once a row has been taken at a place, and whether it accepts.
    pub(super) fn behind(&mut self, wait: &Wait) -> (Waits, bool) {
        let at = wait.at as usize;
        let known = &mut self.known[at];
        if let Some((_, waits, accepts)) = known.iter().find(|(rounds, ..)| *rounds == wait.rounds)
        {
            return (Waits::clone(waits), *accepts);
        }
        let (waits, accepts) = follow(&self.instructions, at + 1, &wait.rounds, false);
        if known.len() < MAX_KNOWN {
            known.push((wait.rounds.clone(), Waits::clone(&waits), accepts));
        }
        (waits, accepts)
    }
}

/// A place in the program between two rows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Visit {
    at: usize,
    rounds: Rounds,
    /// The loops whose round has begun and has not taken a row yet, as bits.
    begun: u64,
}

/// Where the program waits from `at` on, the preferred first, and whether it accepts. What comes after accepting is not
/// preferred to it and left out. `at_start` says that no row of the partition has been looked at.
pub(super) fn follow(
    program: &[Instruction],
    at: usize,
    rounds: &Rounds,
    at_start: bool,
) -> (Waits, bool) {
    let mut waits: Vec<Wait> = Vec::new();
    let accepts = visit(program, at, rounds, at_start, &mut waits);
    (waits.into(), accepts)
}

fn visit(
    program: &[Instruction],
    at: usize,
    rounds: &Rounds,
    at_start: bool,
    waits: &mut Vec<Wait>,
) -> bool {
    let mut seen: SmallVec<[Visit; 2]> = SmallVec::new();
    // The last is looked at first.
    let mut ahead: SmallVec<[Visit; 2]> = smallvec![Visit {
        at,
        rounds: rounds.clone(),
        begun: 0,
    }];
    while let Some(mut visit) = ahead.pop() {
        loop {
            match program[visit.at] {
                Instruction::Accept => return true,
                Instruction::Start if at_start => visit.at += 1,
                Instruction::Start => break,
                Instruction::Row { .. } | Instruction::Absent(_) => {
                    let wait = Wait {
                        at: visit.at as u32,
                        rounds: visit.rounds,
                    };
                    if !waits.contains(&wait) {
                        waits.push(wait);
                    }
                    break;
                }
                Instruction::Jump(to) => visit.at = to,
                Instruction::Else(other) => {
                    ahead.push(Visit {
                        at: other,
                        ..visit.clone()
                    });
                    visit.at += 1;
                }
                Instruction::Enter(counter) => {
                    visit.rounds[counter] = 0;
                    visit.begun &= !(1 << counter);
                    visit.at += 1;
                }
                Instruction::Repeat {
                    counter,
                    min,
                    max,
                    greedy,
                    exit,
                } => {
                    // Another way has led here already, and it was preferred.
                    if seen.contains(&visit) {
                        break;
                    }
                    seen.push(visit.clone());
                    let rounds = visit.rounds[counter];
                    let empty = visit.begun >> counter & 1 == 1;
                    let mut out = visit.clone();
                    out.at = exit;
                    out.rounds[counter] = 0;
                    out.begun &= !(1 << counter);
                    visit.at += 1;
                    visit.begun |= 1 << counter;
                    visit.rounds[counter] = match max {
                        Some(_) => rounds.saturating_add(1),
                        None => rounds.saturating_add(1).min(min),
                    };
                    if empty || max.is_some_and(|max| rounds >= max) {
                        visit = out;
                    } else if rounds >= min {
                        if !greedy {
                            std::mem::swap(&mut visit, &mut out);
                        }
                        ahead.push(out);
                    }
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn row(variable: usize) -> Instruction {
        Instruction::Row {
            variable,
            shown: true,
        }
    }

    #[test]
    fn a_round_without_a_row_ends_its_loop() {
        // (A?)*
        let program = [
            Instruction::Enter(0),
            Instruction::Repeat {
                counter: 0,
                min: 0,
                max: None,
                greedy: true,
                exit: 6,
            },
            Instruction::Else(5),
            row(0),
            Instruction::Jump(5),
            Instruction::Jump(1),
            Instruction::Accept,
        ];
        let (waits, accepts) = follow(&program, 0, &smallvec![0], false);
        assert!(accepts);
        assert_eq!(waits.len(), 1);
    }

    #[test]
    fn what_is_not_preferred_to_accepting_is_left_out() {
        // A | B, before it and behind the A
        let program = [
            Instruction::Else(3),
            row(0),
            Instruction::Accept,
            row(1),
            Instruction::Accept,
        ];
        let (waits, accepts) = follow(&program, 0, &smallvec![], false);
        assert!(!accepts);
        assert_eq!(waits.len(), 2);
        let (waits, accepts) = follow(&program, 2, &smallvec![], false);
        assert!(accepts);
        assert!(waits.is_empty());
    }

    #[test]
    fn a_start_is_only_before_the_first_row() {
        let program = [Instruction::Start, row(0), Instruction::Accept];
        let (waits, accepts) = follow(&program, 0, &smallvec![], false);
        assert!(waits.is_empty() && !accepts);
        let (waits, _) = follow(&program, 0, &smallvec![], true);
        assert_eq!(waits.len(), 1);
    }
}
