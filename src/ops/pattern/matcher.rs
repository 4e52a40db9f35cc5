//! The matcher: takes the rows of a partition in order and finds the matches of a pattern.
//!
//! Each row may begin a match. All that begin with one row are tried at once, in the order of the standard's preferment:
//! a partial match that becomes complete ends all that are not preferred to it, and what has begun is decided when no
//! partial match is left. Matches are given in the order of their first rows, since one decides where the next may begin;
//! only where that is always the next row, and nobody counts them, each is given as soon as it is decided.
//!
//! Where no condition reads what was matched before, two partial matches that wait at the same place have the same
//! future: the one that is not preferred is dropped, so their number does not grow with the rows.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::super::spare::SpareRows;
use super::super::{Accumulator, Discard, Emit};
use super::condition::{direct, firsts, reads_one_row};
use super::partition::{Begun, Ending, HeldRow, Partial, Partition, Totals};
use super::path::{Path, Step};
use super::program::{Program, Rounds, Wait, Waits, follow};
use super::read::{Found, key_text, time_text, update};
use crate::expr::Expr;
use crate::plan::{End, Instruction, Match, Skip, Total};
use crate::types::{EventTime, Fingerprint, Row};

/// Finds the matches of one pattern.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) plan: Match,
    pub(super) fingerprint: Fingerprint,
    /// Where a match waits for its first row, and whether it may have none.
    first: (Waits, bool),
    /// The same at the first row of a partition.
    first_of_all: (Waits, bool),
    /// Whether no condition reads what was matched before.
    independent: bool,
    /// Whether a match decides where others begin, or is numbered.
    ordered: bool,
    /// Whether the first row of a partition is another than the rest, and so to be remembered.
    anchored: bool,
    pub(super) program: Program,
    /// By variable: whether its condition reads only the row that is looked at and rows around it, and then whether that
    /// one meets it, if that is known.
    pub(super) alone: Vec<bool>,
    pub(super) verdicts: Vec<Option<bool>>,
    /// By variable: its condition over the kept columns of the row that is looked at, where it reads no other row.
    pub(super) direct: Vec<Option<Expr>>,
    /// The variables that a match may begin with and their conditions over the kept columns, where a row that meets none
    /// of them changes nothing if nothing has begun before it.
    firsts: Option<Box<[(usize, Expr)]>>,
    /// The number of a row and the first of those that it meets, if that is known.
    begins: Option<(u64, usize)>,
    /// Why a condition could not be computed for the row that is looked at.
    pub(super) failure: Option<String>,
    pub(super) slots: Row,
    pub(super) output: Row,
    pub(super) spare: SpareRows,
}

/// How a partial match goes on behind a row.
struct Way {
    /// What the row is matched to; `None` where it is passed over.
    step: Option<Step>,
    totals: Totals,
    waits: Waits,
    accepts: bool,
}

impl Matcher {
    pub(super) fn new(plan: Match, fingerprint: Fingerprint) -> Self {
        let first = |at_start| {
            let rounds: Rounds = smallvec![0; plan.loops];
            follow(&plan.program, 0, &rounds, at_start)
        };
        let alone: Vec<bool> = (0..plan.variables.len())
            .map(|variable| reads_one_row(&plan, variable))
            .collect();
        let direct: Vec<Option<Expr>> = plan
            .variables
            .iter()
            .enumerate()
            .map(|(variable, of)| direct(of.condition.as_ref()?, variable))
            .collect();
        let first_of_any = first(false);
        Self {
            begins: None,
            firsts: firsts(&plan, &first_of_any, &direct),
            first: first_of_any,
            first_of_all: first(true),
            direct,
            independent: alone.iter().all(|alone| *alone),
            program: Program::new(plan.program.clone()),
            verdicts: vec![None; alone.len()],
            alone,
            ordered: plan.skip != Skip::ToNextRow || plan.is_numbered(),
            anchored: plan.is_anchored(),
            plan,
            fingerprint,
            failure: None,
            slots: Row::new(),
            output: Row::new(),
            spare: SpareRows::default(),
        }
    }

    /// Forgets what was known of a row of another key.
    pub(super) fn begin(&mut self) {
        self.begins = None;
    }

    /// Whether a row changes nothing in a partition in which nothing has begun: nothing of what it takes to look at a row
    /// is needed while none has. `number` is that of the row.
    #[inline]
    pub(super) fn passes(&mut self, row: &HeldRow, number: u64) -> bool {
        let Some(firsts) = &self.firsts else {
            return false;
        };
        for (variable, condition) in firsts {
            match condition.test(&row.values, &super::CONTEXT) {
                Ok(false) => {}
                Ok(true) => {
                    self.begins = Some((number, *variable));
                    return false;
                }
                // That is for whoever can tell of it.
                Err(_) => return false,
            }
        }
        true
    }

    /// Looks at the rows of a partition that have been taken, and lets time pass.
    #[inline]
    pub(super) fn catch_up(
        &mut self,
        partition: &mut Partition,
        now: EventTime,
        key: &[u8],
        emit: &mut dyn Emit,
    ) {
        let ahead = self.plan.lookahead as u64;
        while partition.next + ahead < partition.end() {
            self.look_at_next(partition, key, emit);
        }
        // Where conditions read ahead, rows before `now` may still have to be looked at.
        if ahead == 0 {
            self.expire(partition, now, key, emit);
        }
        partition.forget_rows(self.plan.lookback, &mut self.spare);
    }

    /// The time at which what has begun first runs out.
    pub(super) fn deadline(&self, partition: &Partition) -> Option<EventTime> {
        let within = self.plan.within.filter(|_| self.plan.lookahead == 0)?;
        partition.begun.front().map(|begun| begun.time.plus(within))
    }

    fn look_at_next(&mut self, partition: &mut Partition, key: &[u8], emit: &mut dyn Emit) {
        let number = partition.next;
        let Some(time) = partition.row(number).map(|row| row.time) else {
            return;
        };
        self.expire(partition, time, key, emit);
        self.verdicts.fill(None);
        if let Some((_, variable)) = self.begins.filter(|(begins, _)| *begins == number) {
            self.verdicts[variable] = Some(true);
        }
        partition.next += 1;
        let mut all = std::mem::take(&mut partition.begun);
        if !all.is_empty() {
            for begun in &mut all {
                self.step(begun, partition, number);
            }
            if !all.iter().all(Begun::is_alive) {
                all.retain(Begun::is_alive);
            }
        }
        let (waits, accepts) = if self.anchored && !partition.started {
            &self.first_of_all
        } else {
            &self.first
        };
        let mut begun = Begun {
            row: number,
            time,
            partial: SmallVec::new(),
            accepted: accepts.then(Path::default),
            ending: Ending::Row,
        };
        if !waits.is_empty() {
            let mut partial = Partial {
                path: Path::default(),
                totals: self.no_totals(),
                waits: waits.clone(),
            };
            if !self.fails_at_once(&mut partial, partition, number) {
                begun.partial.push(partial);
                self.step(&mut begun, partition, number);
            }
        }
        partition.started = self.anchored;
        if begun.is_alive() {
            if all.capacity() == 0 {
                // Most keys have one. By itself it would have room for four.
                all.reserve_exact(1);
            }
            all.push_back(begun);
        }
        partition.begun = all;
        if let Some(failure) = self.failure.take() {
            emit.discard(Discard {
                reason: "expression_error",
                detail: format!(
                    "{failure}; the row at {time} of key {} does not meet the condition",
                    key_text(key)
                ),
            });
        }
        if !partition.begun.is_empty() {
            self.decide(partition, key, emit);
            self.bound(partition, key, emit);
        }
        partition.forget_rows(self.plan.lookback, &mut self.spare);
    }

    /// Ends what has begun too long before `now`.
    fn expire(
        &mut self,
        partition: &mut Partition,
        now: EventTime,
        key: &[u8],
        emit: &mut dyn Emit,
    ) {
        let Some(within) = self.plan.within else {
            return;
        };
        // They stand in the order of time.
        let ended = |begun: &Begun| begun.time.plus(within) <= now;
        if !partition.begun.front().is_some_and(ended) {
            return;
        }
        let ended = partition.begun.partition_point(ended);
        if ended == 0 {
            return;
        }
        for begun in partition.begun.iter_mut().take(ended) {
            self.run_out(begun);
        }
        partition.begun.retain(Begun::is_alive);
        self.decide(partition, key, emit);
    }

    /// Ends what has begun by time: the preferred partial match that waits for nothing to come is the match.
    fn run_out(&self, begun: &mut Begun) {
        let mut partial = std::mem::take(&mut begun.partial).into_iter();
        let waits_for_nothing = |partial: &Partial| {
            let absent = |wait| matches!(self.program.at(wait), Instruction::Absent(_));
            partial.waits.iter().any(absent)
        };
        let preferred = partial
            .as_slice()
            .first()
            .map(|partial| partial.path.clone());
        if let Some(complete) = partial.find(waits_for_nothing) {
            begun.accepted = Some(complete.path);
            begun.ending = Ending::Absence;
        } else if self.plan.timeouts && begun.accepted.is_none() {
            begun.accepted = preferred;
            begun.ending = Ending::Timeout;
        }
    }

    /// Has what has begun look at a row.
    fn step(&mut self, begun: &mut Begun, partition: &Partition, number: u64) {
        if let [partial] = &mut begun.partial[..]
            && let [wait] = &*partial.waits.clone()
            && let Instruction::Row { variable, shown } = self.program.at(wait)
        {
            // It goes on in one way or not at all.
            let totals = self.test(variable, partial, begun.row, partition, number);
            let Some(totals) = totals else {
                return begun.partial.clear();
            };
            let (waits, accepts) = self.program.behind(wait);
            partial.path.push(Step {
                variable: variable as u8,
                shown,
            });
            partial.totals = totals;
            let waits_on = !waits.is_empty();
            partial.waits = waits;
            if accepts {
                begun.accepted = Some(partial.path.clone());
            }
            if !waits_on {
                begun.partial.clear();
            }
            return;
        }
        for partial in std::mem::take(&mut begun.partial) {
            if self.go_on(begun, partial, partition, number) {
                break;
            }
        }
    }

    /// Has a partial match look at a row; whether that makes a match, to which none that follow are preferred.
    fn go_on(
        &mut self,
        begun: &mut Begun,
        mut partial: Partial,
        partition: &Partition,
        number: u64,
    ) -> bool {
        let ways = self.ways(&mut partial, begun.row, partition, number);
        let mut ways = ways.into_iter();
        while let Some(way) = ways.next() {
            let Way {
                step,
                totals,
                mut waits,
                accepts,
            } = way;
            let others = &begun.partial;
            let taken = |wait: &Wait| others.iter().any(|other| other.waits.contains(wait));
            if self.independent && waits.iter().any(taken) {
                waits = waits.iter().filter(|wait| !taken(wait)).cloned().collect();
            }
            let mut path = match ways.as_slice() {
                [] => std::mem::take(&mut partial.path),
                _ => partial.path.clone(),
            };
            if let Some(step) = step {
                path.push(step);
            }
            if accepts {
                begun.accepted = Some(path.clone());
            }
            if !waits.is_empty() {
                begun.partial.push(Partial {
                    path,
                    totals,
                    waits,
                });
            }
            if accepts {
                return true;
            }
        }
        false
    }

    /// How a partial match goes on, the preferred first.
    fn ways(
        &mut self,
        partial: &mut Partial,
        first: u64,
        partition: &Partition,
        number: u64,
    ) -> SmallVec<[Way; 2]> {
        let mut ways: SmallVec<[Way; 2]> = SmallVec::new();
        // What the row would make of the partial match, by variable.
        let mut tested: SmallVec<[(usize, Option<Totals>); 4]> = SmallVec::new();
        for wait in Arc::clone(&partial.waits).iter() {
            let (variable, shown) = match self.program.at(wait) {
                Instruction::Row { variable, shown } => (variable, Some(shown)),
                Instruction::Absent(variable) => (variable, None),
                _ => continue,
            };
            let known = tested.iter().position(|(known, _)| *known == variable);
            let at = known.unwrap_or_else(|| {
                let totals = self.test(variable, partial, first, partition, number);
                tested.push((variable, totals));
                tested.len() - 1
            });
            match (shown, &tested[at].1) {
                (Some(shown), Some(totals)) => {
                    let (waits, accepts) = self.program.behind(wait);
                    ways.push(Way {
                        step: Some(Step {
                            variable: variable as u8,
                            shown,
                        }),
                        totals: totals.clone(),
                        waits,
                        accepts,
                    });
                    if accepts {
                        break;
                    }
                }
                (None, None) => ways.push(Way {
                    step: None,
                    totals: partial.totals.clone(),
                    waits: match &*partial.waits {
                        [_] => Arc::clone(&partial.waits),
                        _ => Arc::new([wait.clone()]),
                    },
                    accepts: false,
                }),
                _ => {}
            }
        }
        ways
    }

    fn no_totals(&self) -> Totals {
        if self.plan.totals.is_empty() {
            return Totals::default();
        }
        let new = |total: &Total| Accumulator::new(&total.aggregate);
        self.plan.totals.iter().map(new).collect()
    }

    /// Computes the aggregates of a partition's partial matches again, after a restart.
    pub(super) fn restore_totals(&self, partition: &mut Partition) {
        if self.plan.totals.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut partition.begun);
        for begun in &mut all {
            for partial in &mut begun.partial {
                partial.totals = self.no_totals();
                for (at, step) in partial.path.steps().enumerate() {
                    if let Some(row) = partition.row(begun.row + at as u64) {
                        let (plan, totals) = (&self.plan.totals, &mut partial.totals);
                        // It was computed without an error when the row was taken.
                        let _ = update(plan, totals, step.variable as usize, &row.values, at + 1);
                    }
                }
            }
        }
        partition.begun = all;
    }

    /// Gives out the matches that are decided.
    pub(super) fn decide(&mut self, partition: &mut Partition, key: &[u8], emit: &mut dyn Emit) {
        if !self.ordered {
            let decided = |begun: &Begun| begun.partial.is_empty();
            if !partition.begun.iter().any(decided) {
                return;
            }
            for begun in std::mem::take(&mut partition.begun) {
                if decided(&begun) {
                    self.give(partition, begun, key, emit);
                } else {
                    partition.begun.push_back(begun);
                }
            }
            return;
        }
        let decided = |begun: &Begun| begun.partial.is_empty();
        while partition.begun.front().is_some_and(decided) {
            let Some(begun) = partition.begun.pop_front() else {
                break;
            };
            let next = self.give(partition, begun, key, emit);
            while partition
                .begun
                .front()
                .is_some_and(|begun| begun.row < next)
            {
                partition.begun.pop_front();
            }
        }
    }

    /// Gives out what is decided; the number of the row at which the next match may begin.
    fn give(
        &mut self,
        partition: &mut Partition,
        begun: Begun,
        key: &[u8],
        emit: &mut dyn Emit,
    ) -> u64 {
        let Begun {
            row,
            time,
            accepted,
            ending,
            ..
        } = begun;
        let Some(path) = accepted else {
            return row + 1;
        };
        let ended = match (ending, self.plan.within) {
            (Ending::Absence | Ending::Timeout, Some(within)) => time.plus(within),
            _ => {
                let last = row + (path.len() as u64).saturating_sub(1);
                partition.row(last).map_or(time, |row| row.time)
            }
        };
        let found = Found {
            first: row,
            path: &path,
            ended,
        };
        self.give_rows(partition, found, key, emit);
        if ending == Ending::Timeout || path.len() == 0 {
            return row + 1;
        }
        self.next_row(partition, row, &path, key, emit)
    }

    /// The number of the row at which the next match may begin.
    fn next_row(
        &self,
        partition: &Partition,
        row: u64,
        path: &Path,
        key: &[u8],
        emit: &mut dyn Emit,
    ) -> u64 {
        let (end, of) = match self.plan.skip {
            Skip::PastLastRow => return row + path.len() as u64,
            Skip::ToNextRow => return row + 1,
            Skip::To(end, of) => (end, of),
        };
        let target = match end {
            End::First => path.nth(of, 0),
            End::Last => path.nth_last(of, 0, path.len()),
        };
        if let Some(position) = target.filter(|position| *position > 0) {
            return row + position as u64;
        }
        let what = match target {
            Some(_) => "is where the match began",
            None => "is not in the match",
        };
        emit.discard(Discard {
            reason: "skip_target",
            detail: format!(
                "key {}: the {} row of {} {what} at {}; the next match is looked for at the row after that. Write AFTER \
                 MATCH SKIP TO NEXT ROW or PAST LAST ROW, or skip to a variable that every match has behind its first row",
                key_text(key),
                end.text(),
                self.plan.names(of),
                time_text(partition, row)
            ),
        });
        row + 1
    }
}
