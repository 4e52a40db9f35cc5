//! Row patterns: `MATCH_RECOGNIZE`.
//!
//! Rows are held until the watermark has passed them, put into order, and then taken by the `matcher` of their key. A
//! match with WITHIN that can no longer become longer is decided by the watermark alone, without a further row. A row at
//! or before the watermark comes too late and is discarded as `late`, since the rows behind it have been taken.
//!
//! Bound: [`MAX_PATTERN_ROWS`] rows and [`MAX_PATTERN_BYTES`] of a key wait; a row beyond that is discarded as
//! `pattern_limit`. The bounds on what has begun are those of the `matcher`.
//!
//! What is kept of a key is in `partition`; how the rows of a partial match are matched in `path`; how its program goes
//! on in `program`; what is given of a match in `read`.

mod matcher;
mod partition;
mod path;
mod program;
mod read;

use std::collections::VecDeque;

use super::keyed::{KeyState, Keyed};
use super::timers::Deadlines;
use super::{Discard, Emit, Operator};
use crate::expr::Context;
use crate::plan::{self, LateRows, MAX_PATTERN_BYTES, MAX_PATTERN_ROWS};
use crate::state::{Decoder, Encoder, StateError, push_key};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Value};

use matcher::Matcher;
use partition::{Begun, HeldRow, Partition};
use read::key_text;

/// Patterns do not read the clock: the plan refuses it.
const CONTEXT: Context = Context {
    now: EventTime::MIN,
};

/// Looks for a row pattern.
#[derive(Debug)]
pub struct Match {
    matcher: Matcher,
    state: Keyed<Partition>,
    due: Deadlines,
    key_bytes: Vec<u8>,
    room: Room,
}

/// Room for the rows and the matches of a key that has none.
#[derive(Debug, Default)]
struct Room {
    rows: VecDeque<HeldRow>,
    begun: VecDeque<Begun>,
}

/// Places of a room that is left to the next key: one that has held much is not kept.
const ROOM: usize = 16;

/// Leaves the room of what a key no longer has to the next.
fn leave<T>(held: &mut VecDeque<T>, room: &mut VecDeque<T>) {
    if held.is_empty() {
        let left = std::mem::take(held);
        if left.capacity() <= ROOM {
            *room = left;
        }
    }
}

impl Match {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(plan: &plan::Match, fingerprint: Fingerprint, max_keys: usize) -> Self {
        Self {
            matcher: Matcher::new(plan.clone(), fingerprint),
            state: Keyed::new(max_keys),
            due: Deadlines::default(),
            key_bytes: Vec::new(),
            room: Room::default(),
        }
    }

    /// Lists a key for the time of its first row that waits, or at which its oldest match runs out of time.
    fn arm(&mut self, slot: u32) {
        let partition = self.state.get(slot);
        let (line, armed) = (partition.line, partition.armed);
        let row = partition.waiting.first().map(|row| row.time);
        let end = self.matcher.deadline(partition);
        let due = row.into_iter().chain(end).min();
        if due == armed {
            return;
        }
        if let Some(before) = armed {
            self.due.unset(line, before, slot);
        }
        if let Some(at) = due {
            self.due.set(line, at, slot);
        }
        self.state.annotate(slot).armed = due;
    }

    /// Takes the rows of a key up to a time.
    fn catch_up(&mut self, slot: u32, at: EventTime, emit: &mut dyn Emit) {
        if self.state.get(slot).armed != Some(at) {
            return;
        }
        let (key, partition) = self.state.change_of(slot);
        // Most keys need room for rows and matches only while a row is looked at, and so share it.
        let Room { rows, begun } = &mut self.room;
        if partition.rows.is_empty() {
            std::mem::swap(&mut partition.rows, rows);
        }
        if partition.begun.is_empty() {
            std::mem::swap(&mut partition.begun, begun);
        }
        partition.take(at);
        self.matcher.catch_up(partition, at, key, emit);
        partition.armed = None;
        leave(&mut partition.rows, rows);
        leave(&mut partition.begun, begun);
        if partition.is_empty() {
            self.state.emptied();
        }
        self.arm(slot);
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
        if known.waiting.len() >= MAX_PATTERN_ROWS || known.waiting_bytes >= MAX_PATTERN_BYTES {
            let detail = format!(
                "key {} has {} rows of {} bytes that wait for the watermark, of at most {MAX_PATTERN_ROWS} and \
                 {MAX_PATTERN_BYTES}, and one row more; let the watermark follow more closely, or partition by more columns",
                key_text(&self.key_bytes),
                known.waiting.len(),
                known.waiting_bytes,
            );
            return emit.discard(Discard {
                reason: "pattern_limit",
                detail,
            });
        }
        let values: Box<[Value]> = plan.kept.iter().map(|at| row[*at].clone()).collect();
        let partition = self.state.change(slot);
        partition.line = at.line;
        partition.wait(HeldRow::new(time, lineage, values), &plan.order);
        self.arm(slot);
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some((at, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                self.catch_up(slot, at, emit);
            }
        }
    }

    fn next_timer(&self, line: Timeline) -> Option<EventTime> {
        self.due.next(line)
    }

    fn seal(&mut self, out: &mut Encoder) -> bool {
        self.state.seal(out)
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        self.state.snapshot(piece_bytes, out);
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let plan = &self.matcher.plan;
        self.state
            .restore_changes(from, |from, partition| partition.read(from, plan))
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            let partition = self.state.annotate(slot);
            partition.armed = None;
            self.matcher.restore_totals(partition);
            self.arm(slot);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
