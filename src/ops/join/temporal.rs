//! Temporal joins: each row with what was valid at its time, the latest row of another stream with its key: a
//! setpoint, a recipe, a tariff.
//!
//! A left row waits until the watermark reaches its time, because an earlier change may still come; then it meets the
//! latest version at or before its time. Of the versions at or before the watermark only the last is kept. A left row
//! that is late still meets the version that is held if that was valid at its time; if an older one was, and is gone,
//! it is discarded as `late`.
//!
//! Bounds: one version of each key and those that are ahead of the watermark, and the left rows that wait.

use super::super::keyed::{KeyState, Keyed, WrittenState, read_key};
use super::super::timers::Timers;
use super::super::{Discard, Emit, Operator};
use super::{MAX_ROWS, max_keys_reached, time_of, too_many_rows};
use crate::expr::{Context, Expr};
use crate::plan::{self, JoinSide};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Value};

/// A temporal join.
#[derive(Debug)]
pub struct TemporalJoin {
    sides: [JoinSide; 2],
    residual: Option<Expr>,
    fingerprint: Fingerprint,
    state: Keyed<History>,
    due: Timers,
    joined: Row,
    key_bytes: Vec<u8>,
}

/// What is known of one key.
#[derive(Debug, Default)]
struct History {
    /// In order of time; of two at one time the later arrival counts.
    versions: Vec<Version>,
    /// Left rows, in order of time and then of arrival.
    waiting: Vec<Waiting>,
    line: Timeline,
    armed: Option<EventTime>,
}

#[derive(Debug)]
struct Version {
    time: EventTime,
    row: Box<[Value]>,
}

#[derive(Debug)]
struct Waiting {
    time: EventTime,
    lineage: Lineage,
    row: Box<[Value]>,
}

impl History {
    /// The version that is valid at a time.
    fn at(&self, time: EventTime) -> Option<&Version> {
        let after = self.versions.partition_point(|v| v.time <= time);
        after.checked_sub(1).map(|last| &self.versions[last])
    }

    /// How many versions are of no use any more at a watermark: all before the last that it has reached.
    fn outdated(&self, watermark: EventTime) -> usize {
        let reached = self.versions.partition_point(|v| v.time <= watermark);
        reached.saturating_sub(1)
    }
}

impl KeyState for History {
    fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.waiting.is_empty()
    }
}

impl WrittenState for History {
    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        out.u64(self.versions.len() as u64);
        for version in &self.versions {
            out.time(version.time);
            version.row.iter().for_each(|value| out.value(value));
        }
        out.u64(self.waiting.len() as u64);
        for waiting in &self.waiting {
            out.time(waiting.time);
            out.lineage(waiting.lineage);
            waiting.row.iter().for_each(|value| out.value(value));
        }
    }
}

impl TemporalJoin {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(join: &plan::TemporalJoin, fingerprint: Fingerprint, max_keys: usize) -> Self {
        Self {
            sides: join.sides.clone(),
            residual: join.residual.clone(),
            fingerprint,
            state: Keyed::new(max_keys),
            due: Timers::default(),
            joined: Row::new(),
            key_bytes: Vec::new(),
        }
    }

    /// Gives out a left row with a version, or alone where there is none and the join is outer.
    fn give(
        &mut self,
        row: &[Value],
        lineage: Lineage,
        version: Option<&[Value]>,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let mut output = std::mem::take(&mut self.joined);
        output.clear();
        output.extend_from_slice(row);
        let mut met = false;
        if let Some(version) = version {
            output.extend_from_slice(version);
            met = match self.residual.as_ref().map(|r| r.test(&output, context)) {
                None => true,
                Some(Ok(fits)) => fits,
                Some(Err(error)) => {
                    emit.discard(Discard::expression(&error));
                    self.joined = output;
                    return;
                }
            };
        }
        if !met {
            output.truncate(row.len());
            output.extend(std::iter::repeat_n(Value::Null, self.sides[1].width));
        }
        if met || self.sides[0].outer {
            emit.row(&output, lineage.child(self.fingerprint, 0));
        }
        self.joined = output;
    }

    fn arm(&mut self, slot: u32) {
        let history = self.state.get(slot);
        let Some(at) = history.waiting.first().map(|first| first.time) else {
            return;
        };
        if history.armed.is_none_or(|armed| at < armed) {
            self.due.set(history.line, at, slot);
            self.state.annotate(slot).armed = Some(at);
        }
    }

    /// Gives out the rows of a key whose time the watermark has reached.
    fn fire(&mut self, slot: u32, at: EventTime, emit: &mut dyn Emit) {
        if self.state.get(slot).armed != Some(at) {
            return;
        }
        let history = self.state.change(slot);
        let due = history
            .waiting
            .partition_point(|waiting| waiting.time <= at);
        let due: Vec<Waiting> = history.waiting.drain(..due).collect();
        // Time has passed without an event: expressions of the condition see no clock.
        let context = Context {
            now: EventTime::MIN,
        };
        for waiting in due {
            let version = self.state.get(slot).at(waiting.time);
            let version = version.map(|version| version.row.clone());
            self.give(
                &waiting.row,
                waiting.lineage,
                version.as_deref(),
                &context,
                emit,
            );
        }
        let history = self.state.change(slot);
        let outdated = history.outdated(at);
        history.versions.drain(..outdated);
        if history.is_empty() {
            self.state.emptied();
        }
        self.state.annotate(slot).armed = None;
        self.arm(slot);
    }

    fn left(
        &mut self,
        row: &[Value],
        lineage: Lineage,
        (time, at): (EventTime, Progress),
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let known = self.state.find(&self.key_bytes);
        if time <= at.watermark {
            let held = known.and_then(|slot| self.state.get(slot).at(time));
            if let Some(held) = held {
                let version = held.row.clone();
                return self.give(row, lineage, Some(&version), context, emit);
            }
            let detail = format!(
                "late: what was valid at {time} is not known any more, the watermark is at {}",
                at.watermark
            );
            return emit.discard(Discard {
                reason: "late",
                detail,
            });
        }
        if known.is_some_and(|slot| self.state.get(slot).waiting.len() >= MAX_ROWS) {
            return emit.discard(too_many_rows(&self.key_bytes));
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(max_keys_reached(&self.key_bytes, self.state.len()));
        };
        let history = self.state.change(slot);
        history.line = at.line;
        let place = history.waiting.partition_point(|other| other.time <= time);
        let row = row.into();
        history
            .waiting
            .insert(place, Waiting { time, lineage, row });
        self.arm(slot);
    }

    fn version(&mut self, row: &[Value], time: EventTime, at: Progress, emit: &mut dyn Emit) {
        let known = self.state.find(&self.key_bytes);
        if known.is_some_and(|slot| self.state.get(slot).versions.len() >= MAX_ROWS) {
            return emit.discard(too_many_rows(&self.key_bytes));
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(max_keys_reached(&self.key_bytes, self.state.len()));
        };
        let history = self.state.change(slot);
        history.line = at.line;
        let place = history.versions.partition_point(|v| v.time <= time);
        if place > 0 && history.versions[place - 1].time == time {
            history.versions[place - 1].row = row.into();
        } else {
            let row = row.into();
            history.versions.insert(place, Version { time, row });
        }
        let outdated = history.outdated(at.watermark);
        history.versions.drain(..outdated);
    }
}

impl Operator for TemporalJoin {
    fn process(
        &mut self,
        input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let JoinSide { time, shift, .. } = self.sides[input];
        let time = match time_of(row, time, shift) {
            Ok(time) => time,
            Err(discard) => return emit.discard(discard),
        };
        let keys = &self.sides[input].keys;
        match (read_key(keys, row, context, &mut self.key_bytes), input) {
            (Ok(true), 0) => self.left(row, lineage, (time, at), context, emit),
            (Ok(true), _) => self.version(row, time, at, emit),
            // A NULL key meets nothing.
            (Ok(false), 0) => self.give(row, lineage, None, context, emit),
            (Ok(false), _) => {}
            (Err(error), _) => emit.discard(Discard::expression(&error)),
        }
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some((at, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                self.fire(slot, at, emit);
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
        let [left, right] = [self.sides[0].width, self.sides[1].width];
        self.state.restore(from, |from| {
            let mut history = History {
                line: from.timeline(usize::MAX)?,
                ..History::default()
            };
            let row = |from: &mut Decoder<'_>, width: usize| {
                (0..width)
                    .map(|_| from.value())
                    .collect::<Result<Box<[Value]>, _>>()
            };
            for _ in 0..from.count("versions")? {
                let time = from.time()?;
                let row = row(from, right)?;
                history.versions.push(Version { time, row });
            }
            for _ in 0..from.count("rows")? {
                let (time, lineage) = (from.time()?, from.lineage()?);
                let row = row(from, left)?;
                history.waiting.push(Waiting { time, lineage, row });
            }
            Ok(history)
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            self.state.annotate(slot).armed = None;
            self.arm(slot);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
