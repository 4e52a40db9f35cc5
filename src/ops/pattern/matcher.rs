//! The matcher: takes the rows of a partition in order and finds the matches of a pattern.
//!
//! Each row may begin a match. All that begin with one row are tried at once, in the order of the standard's preferment:
//! a partial match that becomes complete ends all that are not preferred to it, and what has begun is decided when no
//! partial match is left. Matches are given in the order of their first rows, since one decides where the next may begin.
//!
//! Where no condition reads what was matched before, two partial matches that wait at the same place have the same
//! future: the one that is not preferred is dropped, so their number does not grow with the rows.
//!
//! Bounds, per key: at [`MAX_PARTIAL_MATCHES`] the newest match that has begun is given up, and at [`MAX_ROWS`] rows the
//! oldest, which holds them; what it has accepted so far is its match. Both are counted as `pattern_limit`.

use smallvec::{SmallVec, smallvec};

use super::super::{Accumulator, Discard, Emit};
use super::partition::{Begun, HeldRow, Partial, Partition, Totals};
use super::path::Path;
use super::program::{Rounds, Wait, follow};
use crate::expr::{Context, Expr};
use crate::plan::{Condition, End, Instruction, Match, Skip, Slot, Total};
use crate::types::{EventTime, Fingerprint, Lineage, Row, Value};

/// Partial matches of one key.
pub(super) const MAX_PARTIAL_MATCHES: usize = 1_000;
/// Rows of one key that wait, and rows that matches which have begun may hold.
pub(super) const MAX_ROWS: usize = 10_000;

/// Patterns do not read the clock: the plan refuses it.
const CONTEXT: Context = Context {
    now: EventTime::MIN,
};

/// Finds the matches of one pattern.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) plan: Match,
    fingerprint: Fingerprint,
    /// Where a match waits for its first row.
    first: Vec<Wait>,
    /// Whether no condition reads what was matched before.
    independent: bool,
    /// Why a condition could not be computed for the row that is looked at.
    failure: Option<String>,
    slots: Row,
    output: Row,
}

/// Where slots are read.
#[derive(Clone, Copy)]
struct Place<'a> {
    partition: &'a Partition,
    /// The number of the first row.
    row: u64,
    path: &'a Path,
    totals: (&'a [Total], &'a [Accumulator]),
}

impl Matcher {
    pub(super) fn new(plan: Match, fingerprint: Fingerprint) -> Self {
        let mut first = Vec::new();
        let rounds: Rounds = smallvec![0; plan.loops];
        // A plan's pattern has at least one row.
        follow(&plan.program, 0, &rounds, &mut first);
        Self {
            first,
            independent: is_independent(&plan),
            plan,
            fingerprint,
            failure: None,
            slots: Row::new(),
            output: Row::new(),
        }
    }

    /// Takes the next row of a partition.
    pub(super) fn feed(
        &mut self,
        partition: &mut Partition,
        row: HeldRow,
        key: &[Value],
        emit: &mut dyn Emit,
    ) {
        let time = row.time;
        self.expire(partition, time, key, emit);
        let number = partition.base + partition.rows.len() as u64;
        partition.rows.push_back(row);
        let mut all = std::mem::take(&mut partition.begun);
        for begun in &mut all {
            self.step(begun, partition, number);
        }
        let mut begun = Begun {
            row: number,
            time,
            partial: vec![Partial {
                path: Path::default(),
                totals: self.no_totals(),
                waits: self.first.clone(),
            }],
            accepted: None,
        };
        self.step(&mut begun, partition, number);
        all.push_back(begun);
        all.retain(Begun::is_alive);
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
        self.decide(partition, key, emit);
        self.bound(partition, key, emit);
    }

    /// Ends what has begun too long before `now`.
    pub(super) fn expire(
        &mut self,
        partition: &mut Partition,
        now: EventTime,
        key: &[Value],
        emit: &mut dyn Emit,
    ) {
        let Some(within) = self.plan.within else {
            return;
        };
        // They stand in the order of time.
        let ended = |begun: &Begun| begun.time.plus(within) <= now;
        let ended = partition.begun.partition_point(ended);
        if ended == 0 {
            return;
        }
        for begun in partition.begun.iter_mut().take(ended) {
            begun.partial.clear();
        }
        partition.begun.retain(Begun::is_alive);
        self.decide(partition, key, emit);
    }

    /// Has what has begun take a row, the last of the partition.
    fn step(&mut self, begun: &mut Begun, partition: &Partition, number: u64) {
        for mut partial in std::mem::take(&mut begun.partial) {
            // What the row would make of the partial match, by variable.
            let mut tested: SmallVec<[(usize, Option<Totals>); 4]> = SmallVec::new();
            for wait in std::mem::take(&mut partial.waits) {
                let Instruction::Row(variable) = self.plan.program[wait.at as usize] else {
                    continue;
                };
                let known = tested.iter().position(|(known, _)| *known == variable);
                let at = known.unwrap_or_else(|| {
                    partial.path.push(variable);
                    let totals = self.test(variable, &partial, begun.row, partition, number);
                    partial.path.pop();
                    tested.push((variable, totals));
                    tested.len() - 1
                });
                let Some(totals) = &tested[at].1 else {
                    continue;
                };
                let mut path = partial.path.clone();
                path.push(variable);
                let mut waits = Vec::new();
                let next = wait.at as usize + 1;
                let accepts = follow(&self.plan.program, next, &wait.rounds, &mut waits);
                if self.independent {
                    let others = &begun.partial;
                    waits.retain(|wait| !others.iter().any(|other| other.waits.contains(wait)));
                }
                if accepts {
                    begun.accepted = Some(path.clone());
                }
                if !waits.is_empty() {
                    begun.partial.push(Partial {
                        path,
                        totals: totals.clone(),
                        waits,
                    });
                }
                if accepts {
                    return;
                }
            }
        }
    }

    /// The aggregates of a partial match with a row more, already in its path, if the row meets the condition.
    fn test(
        &mut self,
        variable: usize,
        partial: &Partial,
        first: u64,
        partition: &Partition,
        number: u64,
    ) -> Option<Totals> {
        let mut totals = partial.totals.clone();
        let row = partition.row(number)?;
        let tested = self
            .update(&mut totals, variable, row, partial.path.len())
            .and_then(|()| {
                let Some(Condition { slots, expr }) = &self.plan.variables[variable].condition
                else {
                    return Ok(true);
                };
                let place = Place {
                    partition,
                    row: first,
                    path: &partial.path,
                    totals: (&self.plan.totals, &totals),
                };
                self.slots.clear();
                for slot in slots {
                    self.slots.push(self.plan.read(slot, place, 0)?);
                }
                expr.test(&self.slots, &CONTEXT).map_err(|e| e.to_string())
            });
        match tested {
            Ok(true) => Some(totals),
            Ok(false) => None,
            Err(failure) => {
                let name = &self.plan.variables[variable].name;
                self.failure
                    .get_or_insert_with(|| format!("{failure}, in the condition of {name}"));
                None
            }
        }
    }

    fn update(
        &self,
        totals: &mut Totals,
        variable: usize,
        row: &HeldRow,
        length: usize,
    ) -> Result<(), String> {
        update(&self.plan.totals, totals, variable, &row.values, length)
    }

    fn no_totals(&self) -> Totals {
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
                for (at, variable) in partial.path.variables().enumerate() {
                    if let Some(row) = partition.row(begun.row + at as u64) {
                        // It was computed without an error when the row was taken.
                        let _ = self.update(&mut partial.totals, variable, row, at + 1);
                    }
                }
            }
        }
        partition.begun = all;
    }

    /// Gives out the matches that are decided.
    fn decide(&mut self, partition: &mut Partition, key: &[Value], emit: &mut dyn Emit) {
        while let Some(front) = partition.begun.front() {
            if !front.partial.is_empty() {
                break;
            }
            let Some(Begun { row, accepted, .. }) = partition.begun.pop_front() else {
                break;
            };
            let Some(path) = accepted else { continue };
            self.give(partition, row, &path, key, emit);
            let next = self.next_row(partition, row, &path, key, emit);
            while partition
                .begun
                .front()
                .is_some_and(|begun| begun.row < next)
            {
                partition.begun.pop_front();
            }
        }
        partition.forget_rows(self.plan.lookback);
    }

    /// The number of the row at which the next match may begin.
    fn next_row(
        &self,
        partition: &Partition,
        row: u64,
        path: &Path,
        key: &[Value],
        emit: &mut dyn Emit,
    ) -> u64 {
        let (end, of) = match self.plan.skip {
            Skip::PastLastRow => return row + path.len() as u64,
            Skip::ToNextRow => return row + 1,
            Skip::To(end, of) => (end, of),
        };
        let target = match end {
            End::First => path.nth(of, 0),
            End::Last => path.nth_last(of, 0),
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

    /// Gives out the row of a match.
    fn give(
        &mut self,
        partition: &mut Partition,
        row: u64,
        path: &Path,
        key: &[Value],
        emit: &mut dyn Emit,
    ) {
        if self.plan.measures.slots.contains(&Slot::MatchNumber) {
            partition.matches += 1;
        }
        let last = row + path.len() as u64 - 1;
        let (Some(first), Some(last)) = (partition.row(row), partition.row(last)) else {
            return;
        };
        let mut identity = [0; 32];
        identity[..16].copy_from_slice(&first.lineage.0.to_le_bytes());
        identity[16..].copy_from_slice(&last.lineage.0.to_le_bytes());
        let lineage = Lineage::derived(self.fingerprint, &identity);
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        output.extend_from_slice(key);
        match self.measure(partition, row, path, &mut output) {
            Ok(()) => emit.row(&output, lineage),
            Err(failure) => emit.discard(Discard {
                reason: "expression_error",
                detail: format!(
                    "{failure}, in the measures of the match of key {} that began at {}",
                    key_text(key),
                    time_text(partition, row)
                ),
            }),
        }
        self.output = output;
    }

    fn measure(
        &mut self,
        partition: &Partition,
        row: u64,
        path: &Path,
        output: &mut Row,
    ) -> Result<(), String> {
        let measures = &self.plan.measures;
        let new = |total: &Total| Accumulator::new(&total.aggregate);
        let mut totals: Totals = measures.totals.iter().map(new).collect();
        if !totals.is_empty() {
            for (at, variable) in path.variables().enumerate() {
                if let Some(held) = partition.row(row + at as u64) {
                    update(
                        &measures.totals,
                        &mut totals,
                        variable,
                        &held.values,
                        at + 1,
                    )?;
                }
            }
        }
        let place = Place {
            partition,
            row,
            path,
            totals: (&measures.totals, &totals),
        };
        self.slots.clear();
        for slot in &measures.slots {
            self.slots
                .push(self.plan.read(slot, place, partition.matches)?);
        }
        for expr in &measures.exprs {
            let value = expr.eval(&self.slots, &CONTEXT);
            output.push(value.map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    /// Gives up what goes beyond the bounds.
    fn bound(&mut self, partition: &mut Partition, key: &[Value], emit: &mut dyn Emit) {
        while partition.partial_matches() > MAX_PARTIAL_MATCHES {
            let newest = partition.begun.iter().rposition(|b| !b.partial.is_empty());
            let Some(newest) = newest else { break };
            self.give_up(partition, newest, key, emit);
        }
        while partition.rows.len() > MAX_ROWS + self.plan.lookback && !partition.begun.is_empty() {
            self.give_up(partition, 0, key, emit);
        }
    }

    fn give_up(
        &mut self,
        partition: &mut Partition,
        at: usize,
        key: &[Value],
        emit: &mut dyn Emit,
    ) {
        emit.discard(Discard {
            reason: "pattern_limit",
            detail: format!(
                "key {} has {} partial matches over {} rows, of at most {MAX_PARTIAL_MATCHES} and {MAX_ROWS}; the one that \
                 began at {} is given up. Bound it by WITHIN or {{n,m}}, or let the conditions exclude each other",
                key_text(key),
                partition.partial_matches(),
                partition.rows.len(),
                partition.begun[at].time
            ),
        });
        partition.begun[at].partial.clear();
        partition.begun.retain(Begun::is_alive);
        self.decide(partition, key, emit);
    }
}

impl Begun {
    /// Whether it is, or may become, a match.
    fn is_alive(&self) -> bool {
        self.accepted.is_some() || !self.partial.is_empty()
    }
}

impl Match {
    /// The value of a slot; `matches` is the number of the match.
    fn read(&self, slot: &Slot, place: Place<'_>, matches: u64) -> Result<Value, String> {
        let row_of = |position: usize| place.row + position as u64;
        let value = match slot {
            Slot::Value { at, column } => {
                let position = place.path.find(*at);
                let number = position.and_then(|p| row_of(p).checked_sub(at.back as u64));
                let row = number.and_then(|number| place.partition.row(number));
                row.map(|row| row.values[*column].clone())
            }
            Slot::Classifier(at) => {
                let position = place.path.find(*at);
                let position = position.and_then(|p| p.checked_sub(at.back));
                let variable = position.and_then(|p| place.path.variable(p));
                variable.map(|variable| self.classifier(variable))
            }
            Slot::Total(at) => {
                let (totals, accumulators) = place.totals;
                let result = accumulators[*at].result(&totals[*at].aggregate, None);
                Some(result.map_err(|discard| discard.detail)?)
            }
            Slot::MatchNumber => Some(Value::Int(matches as i64)),
            Slot::MatchTime => {
                let last = row_of(place.path.len().saturating_sub(1));
                let row = place.partition.row(last);
                row.map(|row| Value::Timestamp(row.time.as_micros()))
            }
        };
        Ok(value.unwrap_or(Value::Null))
    }
}

/// Has the aggregates over a variable take its row.
fn update(
    totals: &[Total],
    accumulators: &mut [Accumulator],
    variable: usize,
    row: &[Value],
    length: usize,
) -> Result<(), String> {
    for (total, accumulator) in totals.iter().zip(accumulators) {
        if !total.of.contains(variable) {
            continue;
        }
        let aggregate = &total.aggregate;
        if let Some(filter) = &aggregate.filter
            && !filter.test(row, &CONTEXT).map_err(|e| e.to_string())?
        {
            continue;
        }
        let mut arguments: SmallVec<[Value; 2]> = SmallVec::new();
        for argument in &aggregate.arguments {
            let value = argument.eval(row, &CONTEXT);
            arguments.push(value.map_err(|e| e.to_string())?);
        }
        accumulator.update(aggregate, &arguments, length as u32);
    }
    Ok(())
}

/// Whether no condition reads which rows were matched before: only the row itself, and rows before it.
fn is_independent(plan: &Match) -> bool {
    plan.variables.iter().enumerate().all(|(own, variable)| {
        let slots = variable.condition.iter().flat_map(|c| &c.slots);
        slots.into_iter().all(|slot| match slot {
            Slot::Value { at, .. } => at.from == End::Last && at.skip == 0 && at.of.contains(own),
            _ => false,
        })
    })
}

/// A key for people: its values as SQL writes them.
pub(super) fn key_text(key: &[Value]) -> String {
    if key.is_empty() {
        return "(all rows)".to_owned();
    }
    let values = key.iter().cloned().map(|v| Expr::Literal(v).to_string());
    values.collect::<Vec<_>>().join(", ")
}

fn time_text(partition: &Partition, row: u64) -> String {
    partition
        .row(row)
        .map_or_else(String::new, |row| row.time.to_string())
}
