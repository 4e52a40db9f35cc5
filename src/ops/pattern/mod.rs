//! Row patterns: `MATCH_RECOGNIZE`.
//!
//! Rows wait until the watermark has passed them (`waiting`), and are then looked at by the `matcher` in the order of their
//! key. A match with WITHIN that can no longer become longer is decided by the watermark alone, without a further row. A row at
//! or before the watermark comes too late and is discarded as `late`, since the rows behind it have been taken.
//!
//! Bound: [`MAX_PATTERN_ROWS`] rows and [`MAX_PATTERN_BYTES`] of a key wait; a row beyond that is discarded as
//! `pattern_limit`. Those on what has begun are in `bound`.
//!
//! What is kept of a key is in `partition`; how the rows of a partial match are matched in `path`; how its program goes
//! on in `program`; what conditions read in `condition`; what is given of a match in `read`.
//!
//! Most rows change nothing: where nothing has begun, and a row meets the condition of no variable that a match may
//! begin with, it is passed over as soon as the watermark has passed it, without what it takes to look at a row. So of most
//! keys nothing is kept but how many of their rows wait.

mod bound;
mod condition;
mod matcher;
mod partition;
mod path;
mod program;
mod read;
mod waiting;

use std::cmp::Ordering;

use super::keyed::{KeyState, Keyed, NO_MORE_KEYS};
use super::timers::{Deadlines, Slots};
use super::{Discard, Emit, Operator};
use crate::expr::Context;
use crate::plan::{self, LateRows, MAX_PATTERN_BYTES, MAX_PATTERN_ROWS};
use crate::state::{Decoder, Encoder, StateError, push_key};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Value};

use matcher::Matcher;
use partition::{HeldRow, Partition, Seat, ordered};
use read::key_text;
use waiting::{Due, NOTHING, Waiting, WaitingRow};

/// Patterns do not read the clock: the plan refuses it.
const CONTEXT: Context = Context {
    now: EventTime::MIN,
};

/// Looks for a row pattern.
#[derive(Debug)]
pub struct Match {
    matcher: Matcher,
    state: Keyed<Seat>,
    waiting: Waiting,
    /// Keys by the time at which their oldest match runs out.
    ends: Deadlines,
    key_bytes: Vec<u8>,
    /// Partitions that nobody needs, for keys in which something begins: at most [`SPARE`].
    #[expect(clippy::vec_box, reason = "a key takes one as it is")]
    spare: Vec<Box<Partition>>,
}

const SPARE: usize = 64;

impl Match {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(plan: &plan::Match, fingerprint: Fingerprint, max_keys: usize) -> Self {
        Self {
            matcher: Matcher::new(plan.clone(), fingerprint),
            state: Keyed::new(max_keys),
            waiting: Waiting::default(),
            ends: Deadlines::default(),
            key_bytes: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The earliest time at which something is due.
    #[inline]
    fn next_due(&self, line: Timeline) -> Option<EventTime> {
        match (self.waiting.next(line), self.ends.next(line)) {
            (Some(row), Some(end)) => Some(row.min(end)),
            (row, end) => row.or(end),
        }
    }

    /// Does what is due at `at`, the earliest time at which something is, in the order of the keys' bytes.
    fn catch_up_all(&mut self, line: Timeline, at: EventTime, emit: &mut dyn Emit) {
        let to = Progress {
            line,
            watermark: at,
        };
        let mut rows = self.waiting.take(line, at);
        let mut ends = self.ends.take(to).map_or_else(Slots::new, |(_, ends)| ends);
        self.sort(&mut rows);
        self.state.sort(&mut ends);
        let (mut rows, mut ends) = (rows.into_iter().peekable(), ends.into_iter().peekable());
        loop {
            let slot = match (rows.peek().map(|row| row.slot), ends.peek().copied()) {
                (Some(row), Some(end)) if self.state.key(row) > self.state.key(end) => end,
                (Some(row), _) => row,
                (None, Some(end)) => end,
                (None, None) => break,
            };
            let ended = ends.next_if_eq(&slot).is_some();
            let of_key = std::iter::from_fn(|| rows.next_if(|row| row.slot == slot));
            self.catch_up(slot, at, of_key, ended, emit);
        }
    }

    /// Puts rows of one time into the order of their keys, and those of a key into that of the pattern.
    fn sort(&self, rows: &mut Due) {
        if rows.len() < 2 {
            return;
        }
        let order = &self.matcher.plan.order;
        rows.sort_by(|a, b| {
            let keys = if a.slot == b.slot {
                Ordering::Equal
            } else {
                self.state.key(a.slot).cmp(self.state.key(b.slot))
            };
            keys.then_with(|| ordered(order, &a.row.values, &b.row.values))
        });
    }

    /// Does what is due of a key: looks at its rows of that time, in order, and lets time pass.
    #[inline]
    fn catch_up(
        &mut self,
        slot: u32,
        at: EventTime,
        mut rows: impl Iterator<Item = WaitingRow>,
        ended: bool,
        emit: &mut dyn Emit,
    ) {
        let (key, seat) = self.state.change_of(slot);
        self.matcher.begin();
        let mut first = None;
        if seat.partition.as_ref().is_none_or(|known| known.is_idle()) {
            let number = seat.partition.as_ref().map_or(0, |known| known.next);
            for due in rows.by_ref() {
                if !self.matcher.passes(&due.row, number) {
                    first = Some(due);
                    break;
                }
                seat.waited(&due.row);
                due.row.leave(&mut self.matcher.spare);
            }
            if first.is_none() {
                if seat.is_empty() {
                    self.state.emptied();
                }
                return;
            }
        }
        let known = seat.partition.take().or_else(|| self.spare.pop());
        let mut partition = known.unwrap_or_default();
        if ended {
            partition.armed = None;
        }
        for due in first.into_iter().chain(rows) {
            seat.waited(&due.row);
            partition.line = due.line;
            partition.take(due.row);
        }
        self.matcher.catch_up(&mut partition, at, key, emit);
        let end = self.matcher.deadline(&partition);
        arm(&mut partition, end, slot, &mut self.ends);
        if !partition.is_empty() {
            seat.partition = Some(partition);
            return;
        }
        if partition.renew() && self.spare.len() < SPARE {
            self.spare.push(partition);
        }
        if seat.is_empty() {
            self.state.emptied();
        }
    }
}

/// Lists a key for the time at which its oldest match runs out.
#[inline]
fn arm(partition: &mut Partition, end: Option<EventTime>, slot: u32, ends: &mut Deadlines) {
    let armed = std::mem::replace(&mut partition.armed, end);
    if end == armed {
        return;
    }
    if let Some(before) = armed {
        ends.unset(partition.line, before, slot);
    }
    if let Some(at) = end {
        ends.set(partition.line, at, slot);
    }
}

impl Operator for Match {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        _context: &Context,
        emit: &mut dyn Emit,
    ) {
        let plan = &self.matcher.plan;
        let Value::Timestamp(micros) = row[plan.time] else {
            return emit.discard(Discard {
                reason: "null_time",
                detail: "the event time is NULL, so the row has no place in the order".to_owned(),
            });
        };
        let time = EventTime::from_micros(micros);
        if time <= at.watermark {
            if plan.late == LateRows::Table {
                // It has missed no window.
                let bounds = [Value::Null, Value::Null];
                let late: Row = row.iter().cloned().chain(bounds).collect();
                emit.count("late_to_table");
                return emit.late(&late, lineage);
            }
            let detail = format!(
                "late: the rows up to the watermark {} have been matched, and it is at {time}",
                at.watermark
            );
            return emit.discard(Discard {
                reason: "late",
                detail,
            });
        }
        self.key_bytes.clear();
        for at in &plan.partition {
            push_key(&row[*at], &mut self.key_bytes);
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            let detail = format!(
                "key {} is new and limits.max_keys = {} keys have rows of a pattern",
                key_text(&self.key_bytes),
                self.state.len()
            );
            return emit.discard(Discard {
                reason: "max_keys",
                detail,
            });
        };
        let known = self.state.get(slot);
        if known.waiting() >= MAX_PATTERN_ROWS || known.waiting_bytes() >= MAX_PATTERN_BYTES {
            let detail = format!(
                "key {} has {} rows of {} bytes that wait for the watermark, of at most {MAX_PATTERN_ROWS} and \
                 {MAX_PATTERN_BYTES}, and one row more; let the watermark follow more closely, or partition by more columns",
                key_text(&self.key_bytes),
                known.waiting(),
                known.waiting_bytes(),
            );
            return emit.discard(Discard {
                reason: "pattern_limit",
                detail,
            });
        }
        let row = HeldRow::of(row, &plan.kept, time, lineage, &mut self.matcher.spare);
        // What is written of the key is as it was.
        let seat = if known.is_empty() {
            self.state.change(slot)
        } else {
            self.state.annotate(slot)
        };
        seat.wait(&row);
        self.waiting.put(WaitingRow {
            row,
            slot,
            line: at.line,
        });
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some(at) = self.next_due(to.line).filter(|at| *at <= to.watermark) {
            if self.ends.next(to.line) != Some(at)
                && let Some(only) = self.waiting.take_only(to.line, at)
            {
                self.catch_up(only.slot, at, std::iter::once(only), false, emit);
            } else {
                self.catch_up_all(to.line, at, emit);
            }
        }
    }

    fn next_timer(&self, line: Timeline) -> Option<EventTime> {
        self.next_due(line)
    }

    fn seal(&mut self, out: &mut Encoder) -> bool {
        let waiting = self
            .waiting
            .encode_changes(|slot| self.state.key(slot), out);
        let state = self.state.seal(out);
        if !state {
            out.u64(NO_MORE_KEYS);
        }
        waiting || state
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        let key = |slot| self.state.key(slot);
        self.waiting.encode(piece_bytes, key, |piece| {
            piece.u64(NO_MORE_KEYS);
            out(piece.as_slice());
        });
        let mut whole = Vec::new();
        self.state.snapshot(piece_bytes, &mut |piece| {
            whole.clear();
            whole.extend(NOTHING);
            whole.extend_from_slice(piece);
            out(&whole);
        });
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        while from.bool()? {
            let (line, to) = (from.timeline(usize::MAX)?, from.time()?);
            for waited in self.waiting.take_until(line, to) {
                let seat = self.state.annotate(waited.slot);
                seat.waited(&waited.row);
                if seat.is_empty() {
                    self.state.emptied_by_reading(waited.slot);
                }
            }
        }
        let plan = &self.matcher.plan;
        while from.bool()? {
            let slot = self.state.restored_slot(from.bytes()?)?;
            let row = WaitingRow::decode(from, slot, plan)?;
            self.state.annotate(slot).wait(&row.row);
            self.waiting.restore(row);
        }
        self.state.restore_by(from, |_, seat, from| match from {
            Some(from) => seat.read(from, plan),
            None if seat.waiting() > 0 => Err(StateError::Invalid { what: "deletion" }),
            None => Ok(()),
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.ends.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            if let Some(partition) = &mut self.state.annotate(slot).partition {
                partition.armed = None;
                self.matcher.restore_totals(partition);
                arm(
                    partition,
                    self.matcher.deadline(partition),
                    slot,
                    &mut self.ends,
                );
            }
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
