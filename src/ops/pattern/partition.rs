//! What is kept of a key: how many of its rows wait, and of a partition in which something has begun, the rows of open
//! matches and the matches that have begun.
//!
//! Invariants: the rows of all partial matches are kept once; a match that has begun stands in the order of its first
//! row.
//!
//! Written as what has changed: rows that were taken, rows that are no longer needed, and the partial matches. How an
//! aggregate stands is not written but computed again from the rows, in the same order.

use std::cmp::Ordering;
use std::collections::VecDeque;

use smallvec::SmallVec;

use super::super::Accumulator;
use super::super::keyed::{KeyState, WrittenState};
use super::super::spare::{SpareRows, heap_bytes};
use super::path::Path;
use super::program::{Rounds, Wait, Waits};
use crate::expr::total_order;
use crate::plan::{Instruction, Match, OrderKey};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Timeline, Value};

/// Places that each queue of a partition that nobody needs may have.
const PLACES: usize = 16;

/// The state of one key.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// How many of its rows wait for the watermark.
    waiting: u32,
    /// Bytes of memory of those, about.
    waiting_bytes: usize,
    /// `None` where nothing is kept but rows that wait: of most keys, if matches are rare.
    pub(super) partition: Option<Box<Partition>>,
}

/// What rows that have been looked at have left.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) line: Timeline,
    /// Rows that have been taken and may be read again.
    pub(super) rows: VecDeque<HeldRow>,
    /// The number of the first of `rows`.
    pub(super) base: u64,
    /// The number of the row that is looked at next.
    pub(super) next: u64,
    /// What may become matches, in the order of their first rows.
    pub(super) begun: VecDeque<Begun>,
    /// How many matches there have been, where that is asked for.
    pub(super) matches: u64,
    /// Whether the first row has been looked at, where that matters.
    pub(super) started: bool,
    /// The time for which the key is listed as that at which its oldest match runs out.
    pub(super) armed: Option<EventTime>,
    /// Bytes of memory of `rows`, about.
    pub(super) row_bytes: usize,
    /// What has been written of it.
    written: Written,
}

/// What need not be written again.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// Whether anything.
    some: bool,
    /// The number behind the last of `rows` that is written.
    end: u64,
}

/// A row with the columns that are kept.
#[derive(Debug)]
pub(super) struct HeldRow {
    pub(super) time: EventTime,
    pub(super) lineage: Lineage,
    pub(super) values: Box<[Value]>,
    /// Bytes of memory, about.
    bytes: u32,
}

/// All partial matches that begin with one row.
#[derive(Debug)]
pub(super) struct Begun {
    /// The number of the row.
    pub(super) row: u64,
    pub(super) time: EventTime,
    /// The preferred first.
    pub(super) partial: SmallVec<[Partial; 1]>,
    /// The best match so far; all partial ones that are left are preferred to it.
    pub(super) accepted: Option<Path>,
    /// How it ends; only as it does is it other than by a row.
    pub(super) ending: Ending,
}

/// How what has begun ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As a match that a row has decided.
    Row,
    /// As a match because WITHIN has passed.
    Absence,
    /// Not as a match, because WITHIN has passed.
    Timeout,
}

/// A partial match and how it can go on, the preferred first.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: Path,
    pub(super) totals: Totals,
    pub(super) waits: Waits,
}

/// The running aggregates of a partial match.
pub(super) type Totals = Box<[Accumulator]>;

impl Seat {
    /// How many of its rows wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting as usize
    }

    /// Bytes of memory of its rows that wait, about.
    pub(super) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Notes a row that waits.
    #[inline]
    pub(super) const fn wait(&mut self, row: &HeldRow) {
        self.waiting += 1;
        self.waiting_bytes += row.bytes();
    }

    /// Notes that a row has waited.
    #[inline]
    pub(super) const fn waited(&mut self, row: &HeldRow) {
        self.waiting -= 1;
        self.waiting_bytes -= row.bytes();
    }

    /// Applies what was written of it, of this pattern.
    pub(super) fn read(&mut self, from: &mut Decoder<'_>, plan: &Match) -> Result<(), StateError> {
        if !from.bool()? {
            self.partition = None;
            return Ok(());
        }
        self.partition.get_or_insert_default().read(from, plan)
    }
}

impl Partition {
    /// Adds a row that is to be looked at.
    #[inline]
    pub(super) fn take(&mut self, row: HeldRow) {
        self.row_bytes += row.bytes();
        if self.rows.capacity() == 0 {
            // A row with which something has begun and the next. By itself it would have room for four.
            self.rows.reserve_exact(2);
        }
        self.rows.push_back(row);
    }

    /// Whether nothing has begun of which a row could be a part, and no row is kept for others to look back at.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.begun.is_empty()
    }

    /// Whether there is nothing left to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.matches == 0 && !self.started
    }

    /// Makes one that is empty as good as new, but for the room of its queues. Whether that is worth keeping.
    pub(super) fn renew(&mut self) -> bool {
        *self = Self {
            rows: std::mem::take(&mut self.rows),
            begun: std::mem::take(&mut self.begun),
            ..Self::default()
        };
        self.begun.clear();
        self.rows.capacity() <= PLACES && self.begun.capacity() <= PLACES
    }

    /// The number behind the last row.
    pub(super) fn end(&self) -> u64 {
        self.base + self.rows.len() as u64
    }

    /// The row of a number, if it is kept.
    pub(super) fn row(&self, number: u64) -> Option<&HeldRow> {
        let at = number.checked_sub(self.base)?;
        self.rows.get(usize::try_from(at).ok()?)
    }

    /// How many partial matches there are.
    pub(super) fn partial_matches(&self) -> usize {
        self.begun.iter().map(|begun| begun.partial.len()).sum()
    }

    /// Forgets the rows that nothing will read any more.
    pub(super) fn forget_rows(&mut self, lookback: usize, spare: &mut SpareRows) {
        let first = self.begun.front().map_or(self.next, |begun| begun.row);
        let keep = first.saturating_sub(lookback as u64).max(self.base);
        if keep == self.base {
            return;
        }
        for _ in self.base..keep {
            if let Some(row) = self.rows.pop_front() {
                self.row_bytes -= row.bytes();
                row.leave(spare);
            }
        }
        self.base = keep;
    }

    /// Writes what has come after `written`.
    fn write(&self, written: Written, out: &mut Encoder) {
        out.bool(!written.some);
        if !written.some {
            out.timeline(self.line);
        }
        out.u64(self.base);
        let new = written.end.saturating_sub(self.base) as usize;
        out.u64(self.rows.len().saturating_sub(new) as u64);
        self.rows.iter().skip(new).for_each(|row| row.encode(out));
        out.u64(self.next);
        out.u64(self.matches);
        out.bool(self.started);
        out.u64(self.begun.len() as u64);
        self.begun.iter().for_each(|begun| begun.encode(out));
    }

    fn note_written(&mut self) {
        self.written = Written {
            some: true,
            end: self.end(),
        };
    }

    /// Applies what was written of a partition of this pattern.
    fn read(&mut self, from: &mut Decoder<'_>, plan: &Match) -> Result<(), StateError> {
        let invalid = || StateError::Invalid { what: "row number" };
        if from.bool()? {
            *self = Self {
                line: from.timeline(usize::MAX)?,
                ..Self::default()
            };
        }
        let base = from.u64()?;
        let gone = base.checked_sub(self.base).ok_or_else(invalid)?;
        if base > u64::MAX / 2 {
            return Err(invalid());
        }
        let gone = usize::try_from(gone).unwrap_or(usize::MAX);
        self.rows.drain(..gone.min(self.rows.len()));
        self.base = base;
        for _ in 0..from.count("rows")? {
            self.rows.push_back(HeldRow::decode(from, plan)?);
        }
        self.row_bytes = self.rows.iter().map(HeldRow::bytes).sum();
        self.next = from.u64()?;
        if !(self.base..=self.end()).contains(&self.next) {
            return Err(invalid());
        }
        self.matches = from.u64()?;
        self.started = from.bool()?;
        self.begun.clear();
        for _ in 0..from.count("matches")? {
            let begun = Begun::decode(from, plan, self)?;
            self.begun.push_back(begun);
        }
        self.note_written();
        Ok(())
    }
}

impl KeyState for Seat {
    fn is_empty(&self) -> bool {
        self.waiting == 0 && self.partition.is_none()
    }

    /// Rows that wait are written apart.
    fn is_stored(&self) -> bool {
        self.partition.is_some()
    }
}

impl WrittenState for Seat {
    fn encode(&self, out: &mut Encoder) {
        out.bool(self.partition.is_some());
        if let Some(partition) = &self.partition {
            partition.write(Written::default(), out);
        }
    }

    fn encode_changes(&mut self, out: &mut Encoder) {
        out.bool(self.partition.is_some());
        if let Some(partition) = &mut self.partition {
            partition.write(partition.written, out);
            partition.note_written();
        }
    }
}

impl HeldRow {
    /// A row with the values of some columns; all rows have equally many.
    #[inline]
    pub(super) fn of(
        row: &[Value],
        columns: &[usize],
        time: EventTime,
        lineage: Lineage,
        spare: &mut SpareRows,
    ) -> Self {
        let Some(mut values) = spare.take() else {
            let values = columns.iter().map(|at| row[*at].clone()).collect();
            return Self::new(time, lineage, values);
        };
        let mut apart = 0;
        for (place, at) in values.iter_mut().zip(columns) {
            let value = &row[*at];
            if !place.set_plain(value) {
                *place = value.clone();
                apart += heap_bytes(value);
            }
        }
        Self::with(time, lineage, values, apart)
    }

    /// Leaves the room of its values to others.
    #[inline]
    pub(super) fn leave(self, spare: &mut SpareRows) {
        let apart = self.bytes() - size_of::<Self>() - size_of_val(&*self.values);
        spare.leave(self.values, apart);
    }

    fn new(time: EventTime, lineage: Lineage, values: Box<[Value]>) -> Self {
        let apart = values.iter().map(heap_bytes).sum();
        Self::with(time, lineage, values, apart)
    }

    /// Of values that have so many bytes of memory beside themselves.
    fn with(time: EventTime, lineage: Lineage, values: Box<[Value]>, apart: usize) -> Self {
        let bytes = size_of::<Self>() + size_of_val(&*values) + apart;
        Self {
            time,
            lineage,
            values,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        }
    }

    /// Bytes of memory, about.
    const fn bytes(&self) -> usize {
        self.bytes as usize
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.time(self.time);
        out.lineage(self.lineage);
        for value in &self.values {
            out.value(value);
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>, plan: &Match) -> Result<Self, StateError> {
        let (time, lineage) = (from.time()?, from.lineage()?);
        let values = (0..plan.kept.len()).map(|_| from.value());
        Ok(Self::new(time, lineage, values.collect::<Result<_, _>>()?))
    }
}

/// The order of two rows of one time.
pub(super) fn ordered(order: &[OrderKey], left: &[Value], right: &[Value]) -> Ordering {
    let mut keys = order.iter().map(|key| {
        let (left, right) = (&left[key.column], &right[key.column]);
        if left.is_null() != right.is_null() {
            let first = left.is_null() == key.nulls_first;
            return if first {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        let order = total_order(left, right);
        if key.descending {
            order.reverse()
        } else {
            order
        }
    });
    keys.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

impl Begun {
    /// Whether it is, or may become, a match.
    pub(super) fn is_alive(&self) -> bool {
        self.accepted.is_some() || !self.partial.is_empty()
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.row);
        out.time(self.time);
        out.bool(self.accepted.is_some());
        if let Some(path) = &self.accepted {
            path.encode(out);
        }
        out.u64(self.partial.len() as u64);
        for partial in &self.partial {
            partial.path.encode(out);
            out.u64(partial.waits.len() as u64);
            for wait in partial.waits.iter() {
                out.u64(u64::from(wait.at));
                for rounds in &wait.rounds {
                    out.u64(u64::from(*rounds));
                }
            }
        }
    }

    fn decode(
        from: &mut Decoder<'_>,
        plan: &Match,
        partition: &Partition,
    ) -> Result<Self, StateError> {
        let invalid = StateError::Invalid { what: "match" };
        let (row, time) = (from.u64()?, from.time()?);
        if !(partition.base..partition.end()).contains(&row) {
            return Err(invalid);
        }
        let rows = (partition.end() - row) as usize;
        let variables = plan.variables.len();
        let path = |from: &mut Decoder<'_>| Path::decode(from, rows, variables);
        let accepted = if from.bool()? {
            Some(path(from)?)
        } else {
            None
        };
        let mut begun = Self {
            row,
            time,
            partial: SmallVec::new(),
            accepted,
            ending: Ending::Row,
        };
        for _ in 0..from.count("partial matches")? {
            let path = path(from)?;
            let mut waits: Vec<Wait> = Vec::new();
            for _ in 0..from.count("instructions")? {
                let at = from.u64()?;
                let instruction = usize::try_from(at).ok().and_then(|at| plan.program.get(at));
                if !matches!(
                    instruction,
                    Some(Instruction::Row { .. } | Instruction::Absent(_))
                ) {
                    return Err(invalid);
                }
                let mut rounds = Rounds::new();
                for _ in 0..plan.loops {
                    rounds.push(u32::try_from(from.u64()?).map_err(|_| invalid.clone())?);
                }
                waits.push(Wait {
                    at: at as u32,
                    rounds,
                });
            }
            begun.partial.push(Partial {
                path,
                totals: Totals::default(),
                waits: waits.into(),
            });
        }
        Ok(begun)
    }
}
