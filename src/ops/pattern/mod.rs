//! Row patterns: `MATCH_RECOGNIZE`.
//!
//! Rows are held until the watermark has passed them, put into order, and then taken by the `matcher` of their key. A
//! match with WITHIN that can no longer become longer is decided by the watermark alone, without a further row. A row at
//! or before the watermark comes too late and is discarded as `late`, since the rows behind it have been taken.
//!
//! Bound: [`MAX_PATTERN_ROWS`] rows and [`MAX_PATTERN_BYTES`] of a key wait; a row beyond that is discarded as
//! `pattern_limit`. Those on what has begun are in `bound`.
//!
//! What is kept of a key is in `partition`; how the rows of a partial match are matched in `path`; how its program goes
//! on in `program`; what conditions read in `condition`; what is given of a match in `read`.
//!
//! Most rows change nothing: where nothing has begun, and a row meets the condition of no variable that a match may
//! begin with, it is passed over as soon as the watermark has passed it, without what it takes to look at a row.

mod bound;
mod condition;
mod matcher;
mod partition;
mod path;
mod program;
mod read;

use super::keyed::{KeyState, Keyed};
use super::spare::SpareQueues;
use super::timers::{Deadlines, Slots, Timers};
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
    /// Keys by the times of their rows that wait.
    arrivals: Timers,
    /// Keys by the time at which their oldest match runs out.
    ends: Deadlines,
    key_bytes: Vec<u8>,
    /// For the rows and the matches of keys that have none.
    rows: SpareQueues<HeldRow>,
    begun: SpareQueues<Begun>,
}

impl Match {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(plan: &plan::Match, fingerprint: Fingerprint, max_keys: usize) -> Self {
        Self {
            matcher: Matcher::new(plan.clone(), fingerprint),
            state: Keyed::new(max_keys),
            arrivals: Timers::default(),
            ends: Deadlines::default(),
            key_bytes: Vec::new(),
            rows: SpareQueues::default(),
            begun: SpareQueues::default(),
        }
    }

    /// Lists a key for the time at which its oldest match runs out.
    fn arm(&mut self, slot: u32) {
        let partition = self.state.get(slot);
        let (line, armed) = (partition.line, partition.armed);
        let end = self.matcher.deadline(partition);
        if end == armed {
            return;
        }
        if let Some(before) = armed {
            self.ends.unset(line, before, slot);
        }
        if let Some(at) = end {
            self.ends.set(line, at, slot);
        }
        self.state.annotate(slot).armed = end;
    }

    /// The earliest time for which a key is listed.
    #[inline]
    fn next_due(&self, line: Timeline) -> Option<EventTime> {
        match (self.arrivals.next(line), self.ends.next(line)) {
            (Some(row), Some(end)) => Some(row.min(end)),
            (row, end) => row.or(end),
        }
    }

    /// The keys of which rows have waited until `at`, or of which a match runs out then, in the order of their bytes.
    fn due(&mut self, line: Timeline, at: EventTime) -> Slots {
        let to = Progress {
            line,
            watermark: at,
        };
        let of_rows = self.arrivals.take(to).map(|(_, slots)| slots);
        let of_ends = self.ends.take(to).map(|(_, slots)| slots);
        let mut slots = match (of_rows, of_ends) {
            (Some(mut slots), Some(ends)) => {
                slots.extend(ends);
                slots
            }
            (slots, ends) => slots.or(ends).unwrap_or_default(),
        };
        if slots.len() > 1 {
            self.state.sort(&mut slots);
            slots.dedup();
        }
        slots
    }

    /// Takes the rows of a key up to a time for which it is listed.
    fn catch_up(&mut self, slot: u32, at: EventTime, emit: &mut dyn Emit) {
        let (key, partition) = self.state.change_of(slot);
        if partition.armed == Some(at) {
            partition.armed = None;
        }
        self.matcher.pass_over(partition, at);
        if partition.rows.is_empty() && partition.waiting.first().is_none_or(|row| row.time > at) {
            if partition.is_empty() {
                self.state.emptied();
            }
            return;
        }
        // Most keys need room for rows and matches only now and then.
        self.rows.lend(&mut partition.rows);
        self.begun.lend(&mut partition.begun);
        partition.take(at);
        self.matcher.catch_up(partition, at, key, emit);
        self.rows.leave(&mut partition.rows);
        self.begun.leave(&mut partition.begun);
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
        let row = HeldRow::of(row, &plan.kept, time, lineage, &mut self.matcher.spare);
        let partition = self.state.change(slot);
        partition.line = at.line;
        partition.wait(row, &plan.order);
        self.arrivals.set(at.line, time, slot);
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some(at) = self.next_due(to.line).filter(|at| *at <= to.watermark) {
            for slot in &self.due(to.line, at) {
                self.catch_up(*slot, at, emit);
            }
        }
    }

    fn next_timer(&self, line: Timeline) -> Option<EventTime> {
        self.next_due(line)
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
        self.arrivals.clear();
        self.ends.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        let mut arrivals = Vec::new();
        for slot in slots {
            let partition = self.state.annotate(slot);
            partition.armed = None;
            self.matcher.restore_totals(partition);
            let (line, rows) = (partition.line, partition.waiting.iter());
            arrivals.extend(rows.map(|row| (row.time, line, slot)));
            self.arm(slot);
        }
        // As they would have come.
        arrivals.sort_unstable();
        for (time, line, slot) in arrivals {
            self.arrivals.set(line, time, slot);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
