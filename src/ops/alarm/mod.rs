//! Alarms: the table function ALARM.
//!
//! Rows are held until the watermark has passed them, put into order, and then taken by the alarms of their key. Delays,
//! silence, re-alarms and the end of shelving are deadlines in event time, in one order with the rows, so that what is
//! told does not depend on the pace of the watermark: several deadlines between two rows are kept one by one. A row at
//! the very time of a deadline is taken first. A row at or before the watermark comes too late and is discarded.
//! Silence behind a start of the gateway is the exception: `ahead` tells it before the watermark is there.
//!
//! Commands are a second input that has no part in time: they are taken when they come, at the time that their key has
//! reached. So this operator remembers what each timeline has reached.
//!
//! Bounds: [`MAX_PATTERN_ROWS`] rows of a key wait, a row beyond that is discarded as `alarm_limit`; an alarm is
//! shelved for `MAX_SHELVED` at most. When the input ends, time passes all deadlines, but behind the last row of its key no
//! alarm is told again, which would be for ever.
//!
//! The state machine of one alarm is in `state`, what is kept of a key in `partition`, commands in `command`, and keys that
//! are to report in `expected`.

mod ahead;
mod command;
mod expected;
mod partition;
mod state;

use compact_str::CompactString;

use super::keyed::{KeyState, Keyed, key_text, values_text};
use super::timers::Deadlines;
use super::{Discard, Emit, Operator};
use crate::expr::{Context, EvalError, Expr};
use crate::plan::{self, LateRows, MAX_PATTERN_ROWS, Trigger};
use crate::state::{Decoder, Encoder, StateError, decode_key, key_bytes};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Timespan, Value};

use partition::{Partition, Reading, Says};
use state::{Alarm, Behaviour, CHATTER_RAISES, Change, Event, Moment};

/// Raises and clears alarms.
#[derive(Debug)]
pub struct Alarms {
    plan: plan::Alarms,
    /// The alarms of others that take commands from the same table.
    beside: Vec<CompactString>,
    behaviour: Vec<Behaviour>,
    fingerprint: Fingerprint,
    state: Keyed<Partition>,
    due: Deadlines,
    /// What each timeline has reached.
    reached: Vec<EventTime>,
    /// When the gateway was started, by its clock.
    start: Option<EventTime>,
    /// What time it is by now on each timeline that is silent.
    present: Vec<EventTime>,
    key: Row,
    key_bytes: Vec<u8>,
    changes: Vec<Change>,
}

impl Alarms {
    /// The operator of a plan's node. `max_keys` bounds its state.
    /// `beside` are the alarms of others that take commands from the same table.
    pub fn new(
        plan: &plan::Alarms,
        beside: Vec<CompactString>,
        fingerprint: Fingerprint,
        max_keys: usize,
    ) -> Self {
        Self {
            beside,
            behaviour: plan.rules.iter().map(Behaviour::of).collect(),
            plan: plan.clone(),
            fingerprint,
            state: Keyed::new(max_keys),
            due: Deadlines::default(),
            reached: Vec::new(),
            start: None,
            present: Vec::new(),
            key: Row::new(),
            key_bytes: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn reached(&self, line: Timeline) -> EventTime {
        let known = self.reached.get(line.0 as usize);
        known.copied().unwrap_or(EventTime::MIN)
    }

    /// What a timeline has reached, to the digits of the times that are given.
    fn now(&self, line: Timeline) -> EventTime {
        self.cut(self.reached(line))
    }

    fn cut(&self, time: EventTime) -> EventTime {
        match time {
            EventTime::MIN | EventTime::MAX => time,
            time => time.align_down(self.plan.unit, Timespan::ZERO),
        }
    }

    fn note_reached(&mut self, line: Timeline, watermark: EventTime) {
        let at = line.0 as usize;
        if self.reached.len() <= at {
            self.reached.resize(at + 1, EventTime::MIN);
        }
        self.reached[at] = self.reached[at].max(watermark);
    }

    /// When a key that is silent is told of.
    fn silent_at(&self, partition: &Partition) -> Option<EventTime> {
        let (which, after, grace) = self.plan.silence()?;
        let alarm = partition.known.alarms.get(which);
        if alarm.is_some_and(Alarm::is_signalled) {
            return None;
        }
        let silent = partition.known.heard?.plus(after);
        let started = self.start.map(|start| start.plus(grace));
        // What has been told ahead of time is not taken back.
        Some(silent).max(started).max(partition.known.ahead)
    }

    /// Lists a key for the next time at which something is to be done.
    fn arm(&mut self, slot: u32) {
        let partition = self.state.get(slot);
        let (line, armed) = (partition.line, partition.armed);
        let row = partition.waiting.first().map(|row| row.time);
        let alarms = partition.known.alarms.iter().zip(&self.behaviour);
        let alarms = alarms.filter_map(|(alarm, rule)| alarm.due(rule));
        let due = row
            .into_iter()
            .chain(alarms)
            .chain(self.silent_at(partition))
            .min()
            // A clock that was put back could ask for what has passed.
            .map(|due| due.max(self.now(line)));
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

    /// Lets something happen to the alarms of a key, and tells of it.
    fn happen(&mut self, slot: u32, at: EventTime, emit: &mut dyn Emit, ended: bool) {
        if self.state.get(slot).armed != Some(at) {
            return;
        }
        let mut partition = std::mem::take(self.state.change(slot));
        let filled = self.rules_filled(&mut partition);
        let readings = partition.due(at);
        let last = ended && readings == partition.waiting.len();
        if last && readings == 0 {
            partition
                .known
                .alarms
                .iter_mut()
                .for_each(Alarm::tell_no_more);
        }
        for reading in 0..readings {
            let reading = partition.waiting[reading];
            self.take(&mut partition, &reading, slot, emit);
        }
        partition.taken(readings, at);
        for which in 0..filled {
            let due = partition.known.alarms[which].due(&self.behaviour[which]);
            if due.is_some_and(|due| due <= at) {
                self.tell(&mut partition, which, at, slot, emit, Alarm::pass);
            }
        }
        if let Some((which, ..)) = self.plan.silence()
            && self.silent_at(&partition).is_some_and(|due| due <= at)
        {
            self.tell(&mut partition, which, at, slot, emit, Alarm::come);
        }
        if last {
            partition
                .known
                .alarms
                .iter_mut()
                .for_each(Alarm::tell_no_more);
        }
        partition.armed = None;
        partition.forget_nothing_known();
        *self.state.change(slot) = partition;
        if self.state.get(slot).is_empty() {
            self.state.emptied();
        }
        self.arm(slot);
    }

    /// Makes the alarms of a key if it has none yet; gives how many there are.
    fn rules_filled(&self, partition: &mut Partition) -> usize {
        let alarms = &mut partition.known.alarms;
        alarms.resize_with(self.behaviour.len(), Alarm::default);
        alarms.len()
    }

    /// Takes a reading.
    fn take(
        &mut self,
        partition: &mut Partition,
        reading: &Reading,
        slot: u32,
        emit: &mut dyn Emit,
    ) {
        let known = &mut partition.known;
        known.reported |= self.plan.commands;
        known.value = reading.value.or(known.value);
        let at = reading.time;
        // Silence is over before anything is said of the reading: an alarm that it raises can be the first.
        if let Some((which, ..)) = self.plan.silence() {
            known.reported = true;
            known.heard = known.heard.max(Some(at));
            if known.alarms[which].is_signalled() {
                self.tell(partition, which, at, slot, emit, Alarm::go);
            }
        }
        for which in 0..self.behaviour.len() {
            let (raise, clear) = reading.says.of(which);
            if raise != Some(true) && !partition.known.alarms[which].is_signalled() {
                continue;
            }
            let value = reading.value;
            self.tell(partition, which, at, slot, emit, |alarm, rule, now, out| {
                if rule.of_readings {
                    alarm.reading(rule, raise, clear, Moment { value, ..now }, out);
                }
            });
        }
    }

    /// Does something with an alarm, and gives a row for each change.
    fn tell(
        &mut self,
        partition: &mut Partition,
        which: usize,
        at: EventTime,
        slot: u32,
        emit: &mut dyn Emit,
        act: impl FnOnce(&mut Alarm, &Behaviour, Moment, &mut Vec<Change>),
    ) {
        let known = &mut partition.known;
        let ahead = known.ahead.filter(|_| !self.behaviour[which].of_readings);
        // Nor is anything before it was raised, which may have been told ahead of its readings too.
        let at = at.max(ahead.max(known.alarms[which].raised_at()).unwrap_or(at));
        let mut others = known.alarms.iter().enumerate();
        let now = Moment {
            at,
            value: known.value,
            alone: others.all(|(other, alarm)| other == which || !alarm.stands()),
        };
        let mut changes = std::mem::take(&mut self.changes);
        act(
            &mut known.alarms[which],
            &self.behaviour[which],
            now,
            &mut changes,
        );
        for change in changes.drain(..) {
            partition.changed = true;
            let known = &mut partition.known;
            known.told += 1;
            self.give(which, at, slot, known.value, known.told, &change, emit);
        }
        self.changes = changes;
    }

    /// Gives the row of a change, the `number`-th of its key.
    // All of them are parts of one row, and it has one caller.
    #[allow(clippy::too_many_arguments)]
    fn give(
        &self,
        which: usize,
        at: EventTime,
        slot: u32,
        value: Option<f64>,
        number: u64,
        change: &Change,
        emit: &mut dyn Emit,
    ) {
        let rule = &self.plan.rules[which];
        let time = |time: EventTime| Value::Timestamp(time.as_micros());
        let optional = |known: Option<EventTime>| known.map_or(Value::Null, time);
        let number_of = |known: Option<f64>| known.map_or(Value::Null, Value::Double);
        let lasted = change.raised_at.map(|raised| seconds(at.since(raised)));
        let chattering = change.raises_last_minute >= CHATTER_RAISES;
        if chattering && matches!(change.event, Event::Raised | Event::CameAgain) {
            emit.count("chattering");
        }
        let key = self.state.key(slot);
        let mut row: Row = decode_key(key).expect("the key was written by this operator");
        row.extend([
            Value::Str(rule.name.clone()),
            rule.severity.clone().map_or(Value::Null, Value::Str),
            Value::Str(change.event.name().into()),
            Value::Str(change.state.into()),
            time(at),
            optional(change.raised_at),
            number_of(lasted),
            number_of(value),
            number_of(change.peak),
            change.first.map_or(Value::Null, Value::Bool),
            Value::Int(i64::try_from(change.raises).unwrap_or(i64::MAX)),
            Value::Int(change.raises_last_minute as i64),
            Value::Bool(chattering),
            optional(change.shelved_until),
        ]);
        let mut identity = key.to_vec();
        identity.extend(at.as_micros().to_le_bytes());
        identity.extend((which as u64).to_le_bytes());
        identity.extend(change.event.name().as_bytes());
        identity.extend(number.to_le_bytes());
        emit.row(&row, Lineage::derived(self.fingerprint, &identity));
    }

    /// What a row says.
    fn reading(&self, row: &[Value], context: &Context) -> Result<Reading, EvalError> {
        let Value::Timestamp(micros) = row[self.plan.time] else {
            return Err(EvalError::new("the event time is NULL"));
        };
        let value = match &self.plan.value {
            Some(value) => match value.eval(row, context)? {
                Value::Double(value) if !value.is_nan() => Some(value),
                _ => None,
            },
            None => None,
        };
        let is = |expr: &Expr| {
            Ok(match expr.eval(row, context)? {
                Value::Bool(is) => Some(is),
                _ => None,
            })
        };
        let mut says = Says::default();
        for (which, rule) in self.plan.rules.iter().enumerate() {
            let (raise, clear) = match &rule.trigger {
                Trigger::Limit { .. } if value.is_none() => continue,
                Trigger::Silence { .. } => continue,
                Trigger::Limit { raise, clear, .. }
                | Trigger::Condition {
                    raise,
                    clear: Some(clear),
                } => (is(raise)?, is(clear)?),
                Trigger::Condition { raise, clear: None } => {
                    let raise = is(raise)?;
                    (raise, raise.map(|raise| !raise))
                }
            };
            // What still raises it does not clear it: a deadband from a column may be negative.
            let clear = if raise == Some(true) {
                Some(false)
            } else {
                clear
            };
            says.note(which, raise, clear);
        }
        Ok(Reading::new(EventTime::from_micros(micros), value, says))
    }

    /// Takes a row of the stream.
    fn row(
        &mut self,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let Value::Timestamp(micros) = row[self.plan.time] else {
            let detail = "the event time is NULL, so the row has no place in the order".to_owned();
            return emit.discard(Discard {
                reason: "null_time",
                detail,
            });
        };
        let time = EventTime::from_micros(micros);
        if time <= at.watermark {
            if self.plan.late == LateRows::Table {
                // It has missed no window.
                let bounds = [Value::Null, Value::Null];
                let late: Row = row.iter().cloned().chain(bounds).collect();
                emit.count("late_to_table");
                return emit.late(&late, lineage);
            }
            let detail = format!(
                "late: the rows up to the watermark {} have been taken by alarms, and it is at {time}",
                at.watermark
            );
            return emit.discard(Discard {
                reason: "late",
                detail,
            });
        }
        let reading = match self.reading(row, context) {
            Ok(reading) => reading,
            Err(error) => {
                return emit.discard(Discard {
                    reason: "expression_error",
                    detail: error.to_string(),
                });
            }
        };
        self.key.clear();
        let partition = self.plan.partition.iter();
        self.key.extend(partition.map(|at| row[*at].clone()));
        self.key_bytes.clear();
        key_bytes(&self.key, &mut self.key_bytes);
        let known = self.state.find(&self.key_bytes);
        if known.is_some_and(|slot| self.state.get(slot).waiting.len() >= MAX_PATTERN_ROWS) {
            let detail = format!(
                "key {} has {MAX_PATTERN_ROWS} rows that wait for the watermark, which is the most, and one row more; let \
                 the watermark follow more closely",
                values_text(&self.key),
            );
            return emit.discard(Discard {
                reason: "alarm_limit",
                detail,
            });
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(self.too_many_keys(&self.key_bytes));
        };
        let partition = self.state.change(slot);
        partition.line = at.line;
        partition.wait(reading);
        self.arm(slot);
    }

    fn too_many_keys(&self, key: &[u8]) -> Discard {
        let detail = format!(
            "key {} is new and limits.max_keys = {} keys have alarms",
            key_text(key),
            self.state.len()
        );
        Discard {
            reason: "max_keys",
            detail,
        }
    }
}

impl Operator for Alarms {
    fn process(
        &mut self,
        input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        match input {
            0 => self.row(row, lineage, at, context, emit),
            _ => self.command(row, emit),
        }
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        let ended = to.watermark == EventTime::MAX;
        if self.reached(to.line) == EventTime::MIN && !ended {
            self.begin(to);
        }
        while let Some((at, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                self.happen(slot, at, emit, ended);
            }
        }
        self.note_reached(to.line, to.watermark);
    }

    fn next_timer(&self, line: Timeline) -> Option<EventTime> {
        self.due.next(line)
    }

    fn started(&mut self, start: EventTime, now: EventTime) {
        let (start, now) = (self.cut(start), self.cut(now));
        self.start = Some(start);
        for behaviour in &mut self.behaviour {
            behaviour.told_from = now;
        }
        self.take_back(now);
        self.arm_all();
    }

    fn silent(&mut self, present: &[EventTime], emit: &mut dyn Emit) {
        self.tell_ahead(present, emit);
    }

    fn load(
        &mut self,
        rows: &[Row],
        context: &Context,
        emit: &mut dyn Emit,
    ) -> Result<(), EvalError> {
        self.expect(rows, context, emit)
    }

    fn seal(&mut self, out: &mut Encoder) -> bool {
        self.state.seal(out)
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        self.state.snapshot(piece_bytes, out);
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let alarms = self.behaviour.len();
        self.state
            .restore_changes(from, |from, partition| partition.read(from, alarms))
    }

    fn resume(&mut self, watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        self.reached.clear();
        self.note_reached(Timeline::SHARED, watermark(Timeline::SHARED));
        for slot in self.slots() {
            self.state.annotate(slot).armed = None;
            let line = self.state.get(slot).line;
            self.note_reached(line, watermark(line));
        }
        self.arm_all();
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}

impl Alarms {
    /// The keys, in an order that a restart does not change.
    fn slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.state.live().collect();
        self.state.sort(&mut slots);
        slots
    }

    fn arm_all(&mut self) {
        for slot in self.slots() {
            if !self.state.get(slot).is_empty() {
                self.arm(slot);
            }
        }
    }
}

/// A span in seconds.
fn seconds(span: Timespan) -> f64 {
    span.as_micros() as f64 / 1e6
}
