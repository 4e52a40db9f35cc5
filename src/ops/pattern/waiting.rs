//! Rows that wait until the watermark of their timeline has passed them.
//!
//! They stand in the order of time and not with their keys: most change nothing when their turn comes, so that of their
//! key nothing more is needed than how many of its rows wait.
//!
//! Invariants: all are after the watermark of their line; rows of one time stand in the order in which they came.
//!
//! Written as what has changed: rows that came since, and up to when rows have been taken that were written before. A row
//! that came and was taken between two commits is not written at all.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use super::partition::HeldRow;
use crate::plan::Match;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timeline};

/// A row that waits.
#[derive(Debug)]
pub(super) struct WaitingRow {
    pub(super) row: HeldRow,
    /// Its key.
    pub(super) slot: u32,
    pub(super) line: Timeline,
}

/// Rows of one time: of events that come one by one mostly a single one.
pub(super) type Due = SmallVec<[WaitingRow; 1]>;

/// All rows that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Of the shared timeline, as most come.
    queue: VecDeque<WaitingRow>,
    /// How many of the queue are written: they are at its front.
    written: usize,
    /// Those that are before the last of the queue, and those of other timelines.
    others: BTreeMap<(Timeline, EventTime), Due>,
    /// Where a row has come to `others` since those before it were written, for each such row.
    fresh: Vec<(Timeline, EventTime)>,
    /// Up to when rows that may have been written have been taken since then, by line.
    taken: Vec<(Timeline, EventTime)>,
}

impl WaitingRow {
    /// Reads one that waits for a key, of which whoever reads has read already.
    pub(super) fn decode(
        from: &mut Decoder<'_>,
        slot: u32,
        plan: &Match,
    ) -> Result<Self, StateError> {
        Ok(Self {
            line: from.timeline(usize::MAX)?,
            row: HeldRow::decode(from, plan)?,
            slot,
        })
    }

    fn encode(&self, key: &[u8], out: &mut Encoder) {
        out.bool(true);
        out.bytes(key);
        out.timeline(self.line);
        self.row.encode(out);
    }
}

impl Waiting {
    /// Adds a row that has come.
    #[inline]
    pub(super) fn put(&mut self, row: WaitingRow) {
        let place = (row.line, row.row.time);
        if !self.add(row) {
            self.fresh.push(place);
        }
    }

    /// Adds a row that was read, behind those that were read before it.
    pub(super) fn restore(&mut self, row: WaitingRow) {
        if self.add(row) {
            self.written += 1;
        }
    }

    /// Adds a row, and says whether to the queue.
    #[inline]
    fn add(&mut self, row: WaitingRow) -> bool {
        let (line, at) = (row.line, row.row.time);
        let queued =
            line == Timeline::SHARED && self.queue.back().is_none_or(|last| last.row.time <= at);
        if queued {
            self.queue.push_back(row);
        } else {
            self.others.entry((line, at)).or_default().push(row);
        }
        queued
    }

    /// The time of the first row of a line.
    #[inline]
    pub(super) fn next(&self, line: Timeline) -> Option<EventTime> {
        if line != Timeline::SHARED {
            let all = (line, EventTime::MIN)..=(line, EventTime::MAX);
            return self.others.range(all).next().map(|((_, at), _)| *at);
        }
        let queued = self.queue.front().map(|row| row.row.time);
        if self.others.is_empty() {
            return queued;
        }
        // The shared line is the least of all.
        match self.others.first_key_value() {
            Some(((Timeline::SHARED, at), _)) => Some(queued.map_or(*at, |queued| queued.min(*at))),
            _ => queued,
        }
    }

    /// Takes the rows of a time that is the first of its line, in the order in which they came.
    #[inline]
    pub(super) fn take(&mut self, line: Timeline, at: EventTime) -> Due {
        let mut due = Due::new();
        if line == Timeline::SHARED {
            while let Some(front) = self.queue.front()
                && front.row.time == at
            {
                due.extend(self.pop(at));
            }
        }
        if !self.others.is_empty()
            && let Some(others) = self.others.remove(&(line, at))
        {
            due.extend(others);
            self.note_taken(line, at);
        }
        due
    }

    /// Takes the row of a time that is the first of its line, if there is easily seen to be one alone; of most times there
    /// is.
    #[inline]
    pub(super) fn take_only(&mut self, line: Timeline, at: EventTime) -> Option<WaitingRow> {
        if line != Timeline::SHARED || !self.others.is_empty() {
            return None;
        }
        if self.queue.get(1).is_some_and(|next| next.row.time == at) {
            return None;
        }
        self.pop(at)
    }

    /// Takes the first of the queue, of which the time is `at`.
    #[inline]
    fn pop(&mut self, at: EventTime) -> Option<WaitingRow> {
        if self.written > 0 {
            self.written -= 1;
            self.note_taken(Timeline::SHARED, at);
        }
        self.queue.pop_front()
    }

    fn note_taken(&mut self, line: Timeline, at: EventTime) {
        match self.taken.last_mut() {
            Some((last, to)) if *last == line => *to = at,
            _ => self.taken.push((line, at)),
        }
    }

    /// Writes what has changed; whether anything has. `key` gives the key of a slot.
    pub(super) fn encode_changes<'k>(
        &mut self,
        key: impl Fn(u32) -> &'k [u8],
        out: &mut Encoder,
    ) -> bool {
        let empty = out.len();
        // The last of each line is enough.
        self.taken.sort_unstable_by(|a, b| b.cmp(a));
        self.taken.dedup_by_key(|(line, _)| *line);
        for (line, at) in self.taken.drain(..) {
            out.bool(true);
            out.timeline(line);
            out.time(at);
        }
        out.bool(false);
        // Those that are new came to the end.
        for row in self.queue.range(self.written..) {
            row.encode(key(row.slot), out);
        }
        self.written = self.queue.len();
        self.fresh.sort_unstable();
        for of_time in self.fresh.chunk_by(|a, b| a == b) {
            let rows = self.others.get(&of_time[0]).map_or(&[][..], |due| due);
            for row in &rows[rows.len().saturating_sub(of_time.len())..] {
                row.encode(key(row.slot), out);
            }
        }
        self.fresh.clear();
        out.bool(false);
        // One epoch with many must not cost its memory for ever.
        self.fresh.shrink_to(KEPT);
        self.taken.shrink_to(KEPT);
        if self.queue.capacity() / 4 > self.queue.len() {
            self.queue.shrink_to(KEPT.max(2 * self.queue.len()));
        }
        out.len() > empty + NOTHING.len()
    }

    /// Writes all rows, in pieces of about `piece_bytes`.
    pub(super) fn encode<'k>(
        &self,
        piece_bytes: usize,
        key: impl Fn(u32) -> &'k [u8],
        mut out: impl FnMut(&mut Encoder),
    ) {
        let mut rows = self.queue.iter().chain(self.others.values().flatten());
        let mut piece = Encoder::new();
        while let Some(first) = rows.next() {
            piece.clear();
            piece.bool(false);
            first.encode(key(first.slot), &mut piece);
            while piece.len() < piece_bytes
                && let Some(row) = rows.next()
            {
                row.encode(key(row.slot), &mut piece);
            }
            piece.bool(false);
            out(&mut piece);
        }
    }

    /// Takes the rows of a line up to a time that its watermark has reached.
    pub(super) fn take_until(&mut self, line: Timeline, to: EventTime) -> Vec<WaitingRow> {
        let mut taken = Vec::new();
        while let Some(at) = self.next(line).filter(|at| *at <= to) {
            taken.extend(self.take(line, at));
        }
        self.taken.clear();
        taken
    }
}

/// What is written where nothing has changed.
pub(super) const NOTHING: [u8; 2] = [0, 0];

/// Places for which a list keeps its room between epochs.
const KEPT: usize = 4_096;
