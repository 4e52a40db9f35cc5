//! Reading a match: its slots, its aggregates, and the rows that are given of it.

use smallvec::SmallVec;

use super::super::keyed::values_text;
use super::super::{Accumulator, Discard, Emit};
use super::CONTEXT;
use super::matcher::Matcher;
use super::partition::{Partition, Totals};
use super::path::Path;
use crate::plan::{Match, Navigation, Output, RowsPerMatch, Slot, Total};
use crate::state::decode_key;
use crate::types::{EventTime, Lineage, Row, Value};

/// Where slots are read.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) partition: &'a Partition,
    /// The number of the first row.
    pub(super) first: u64,
    /// The number of the last row of the path: the rows before it follow each other, and it may be later.
    pub(super) last: u64,
    pub(super) path: &'a Path,
    /// How many rows of it can be seen, but for what is FINAL.
    pub(super) seen: usize,
    /// The aggregates, over the rows that can be seen and over all.
    pub(super) totals: (&'a [Total], &'a [Accumulator], &'a [Accumulator]),
    /// The time of the match.
    pub(super) ended: EventTime,
}

/// A match that is decided.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    /// The number of its first row.
    pub(super) first: u64,
    pub(super) path: &'a Path,
    /// Its time.
    pub(super) ended: EventTime,
}

impl Place<'_> {
    /// The values of some slots, in the place of what `values` held.
    pub(super) fn read_all(
        self,
        plan: &Match,
        slots: &[Slot],
        values: &mut Row,
    ) -> Result<(), String> {
        values.resize(slots.len(), Value::Null);
        for (slot, place) in slots.iter().zip(values) {
            let Slot::Value { at, column } = slot else {
                *place = self.read(plan, slot)?;
                continue;
            };
            // As most are: it takes the place of what was read of a row before.
            let number = self.number(*at);
            match number.and_then(|number| self.partition.row(number)) {
                Some(row) if place.set_plain(&row.values[*column]) => {}
                Some(row) => *place = row.values[*column].clone(),
                None => *place = Value::Null,
            }
        }
        Ok(())
    }

    fn read(self, plan: &Match, slot: &Slot) -> Result<Value, String> {
        let value = match slot {
            Slot::Value { at, column } => {
                let number = self.number(*at);
                let row = number.and_then(|number| self.partition.row(number));
                row.map(|row| row.values[*column].clone())
            }
            Slot::Classifier(at) => {
                let position = self.path.find(*at, self.seen);
                let position = position.and_then(|p| (p as u64).checked_add_signed(at.offset));
                let step = position.and_then(|p| self.path.step(usize::try_from(p).ok()?));
                step.map(|step| plan.classifier(step.variable as usize))
            }
            Slot::Total { which, whole } => {
                let (totals, seen, all) = self.totals;
                let accumulator = if *whole { &all[*which] } else { &seen[*which] };
                let result = accumulator.result(&totals[*which].aggregate, None);
                Some(result.map_err(|discard| discard.detail)?)
            }
            Slot::MatchNumber => Some(Value::Int(self.partition.matches as i64)),
            Slot::MatchTime => Some(Value::Timestamp(self.ended.as_micros())),
        };
        Ok(value.unwrap_or(Value::Null))
    }

    /// The number of the row that a navigation leads to.
    fn number(self, at: Navigation) -> Option<u64> {
        let position = self.path.find(at, self.seen)?;
        let number = if position + 1 == self.path.len() {
            self.last
        } else {
            self.first + position as u64
        };
        number.checked_add_signed(at.offset)
    }
}

impl Matcher {
    /// Gives out the rows of a match.
    pub(super) fn give_rows(
        &mut self,
        partition: &mut Partition,
        found: Found<'_>,
        key: &[u8],
        emit: &mut dyn Emit,
    ) {
        if self.plan.is_numbered() {
            partition.matches += 1;
        }
        // It has a number all the same, as in the standard.
        if found.path.len() == 0 && self.plan.rows == (RowsPerMatch::All { empty: false }) {
            return;
        }
        let mut output = std::mem::take(&mut self.output);
        if let Err(failure) = self.measure(partition, found, key, &mut output, emit) {
            emit.discard(Discard {
                reason: "expression_error",
                detail: format!(
                    "{failure}, in the measures of the match of key {} that began at {}",
                    key_text(key),
                    time_text(partition, found.first)
                ),
            });
        }
        self.output = output;
    }

    fn measure(
        &mut self,
        partition: &Partition,
        found: Found<'_>,
        key: &[u8],
        output: &mut Row,
        emit: &mut dyn Emit,
    ) -> Result<(), String> {
        let Found { first, path, ended } = found;
        let last = first + (path.len() as u64).saturating_sub(1);
        let lineage = self.identity(partition, first, last);
        let totals = &self.plan.measures.totals;
        let new = |total: &Total| Accumulator::new(&total.aggregate);
        let mut seen: Totals = totals.iter().map(new).collect();
        let mut all: Totals = totals.iter().map(new).collect();
        let rows = path.steps().enumerate();
        let rows =
            rows.filter_map(|(at, step)| Some((at, step, partition.row(first + at as u64)?)));
        if !totals.is_empty() {
            for (at, step, row) in rows.clone() {
                let variable = step.variable as usize;
                update(totals, &mut all, variable, &row.values, at + 1)?;
            }
        }
        let key = key_values(key);
        let mut give = |slots: &mut Row, at: usize, length: usize, seen: &[Accumulator]| {
            let place = Place {
                partition,
                first,
                last,
                path,
                seen: length,
                totals: (totals, seen, &all),
                ended,
            };
            place.read_all(&self.plan, &self.plan.measures.slots, slots)?;
            output.clear();
            for column in &self.plan.output {
                output.push(match column {
                    Output::Key(at) => key[*at].clone(),
                    Output::Row(column) => {
                        let row = partition.row(first + at as u64);
                        row.map_or(Value::Null, |row| row.values[*column].clone())
                    }
                    Output::Measure(which) => {
                        let value = self.plan.measures.exprs[*which].eval(slots, &CONTEXT);
                        value.map_err(|e| e.to_string())?
                    }
                });
            }
            let lineage = match self.plan.rows {
                RowsPerMatch::One => lineage,
                RowsPerMatch::All { .. } => lineage.child(self.fingerprint, at as u64),
            };
            emit.row(output, lineage);
            Ok::<(), String>(())
        };
        if self.plan.rows == RowsPerMatch::One || path.len() == 0 {
            return give(&mut self.slots, 0, path.len(), &all);
        }
        for (at, step, row) in rows {
            update(
                totals,
                &mut seen,
                step.variable as usize,
                &row.values,
                at + 1,
            )?;
            if step.shown {
                give(&mut self.slots, at, at + 1, &seen)?;
            }
        }
        Ok(())
    }

    /// The same for the same match, and another for any other: no two begin at one row.
    fn identity(&self, partition: &Partition, first: u64, last: u64) -> Lineage {
        let mut identity = [0; 32];
        for (number, bytes) in [first, last].into_iter().zip(identity.chunks_exact_mut(16)) {
            if let Some(row) = partition.row(number) {
                bytes.copy_from_slice(&row.lineage.0.to_le_bytes());
            }
        }
        Lineage::derived(self.fingerprint, &identity)
    }
}

/// Has the aggregates over a variable take its row, the `length`-th of the match.
#[inline]
pub(super) fn update(
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

/// A key for people; without PARTITION BY there is one that has no values.
pub(super) fn key_text(key: &[u8]) -> String {
    if key.is_empty() {
        return "(all rows)".to_owned();
    }
    values_text(&key_values(key))
}

/// The values of a key from its bytes, which the operator wrote.
fn key_values(key: &[u8]) -> Row {
    decode_key(key).expect("the key was written by this operator")
}

/// The time of a row for people.
pub(super) fn time_text(partition: &Partition, row: u64) -> String {
    partition
        .row(row)
        .map_or_else(String::new, |row| row.time.to_string())
}
