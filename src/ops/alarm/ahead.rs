//! What is told ahead of the watermark: after a start of the gateway, of keys that bring nothing at all.
//!
//! Event time stands where it stood when the gateway went off, and goes on from there at the pace of the clock: a silence
//! would be told later by as long as the gateway was off. To let event time jump instead would make all late that devices
//! have kept meanwhile. So the deadlines of silence, and of what people are told of alarms that stand (again, or behind
//! their shelving), are reached by what time it is by now.
//!
//! Invariant: what is told of the silence of a key never goes back behind `Known::ahead`: a reading of before ends it at
//! that time, since nobody had heard of it until then. Other alarms end when their readings say.
//!
//! Not here: what time it is by now (the engine knows since when nothing has come), and delays (their time is that of
//! the readings).

use super::{Alarm, Alarms, Emit};
use crate::types::{EventTime, Progress, Timeline};

impl Alarms {
    /// What time it is by now for a key on `line`, as far as that is known.
    pub(super) fn present(&self, line: Timeline) -> EventTime {
        let silent = self.present.get(line.0 as usize);
        let silent = silent.copied().unwrap_or(EventTime::MIN);
        self.cut(silent.max(self.reached(line)))
    }

    /// Takes over what time it is, and tells of the silence that there is by then.
    pub(super) fn tell_ahead(&mut self, present: &[EventTime], emit: &mut dyn Emit) {
        self.present.clear();
        self.present.extend_from_slice(present);
        if self.start.is_none() {
            return;
        }
        let live = self.state.live();
        let mut due: Vec<(EventTime, u32)> = live
            .filter_map(|slot| Some((self.due_ahead(slot)?, slot)))
            .collect();
        due.sort_unstable_by(|(one, a), (other, b)| {
            let keys = || self.state.key(*a).cmp(self.state.key(*b));
            one.cmp(other).then_with(keys)
        });
        for (_, slot) in due {
            while let Some(at) = self.due_ahead(slot) {
                self.pass_ahead(slot, at, emit);
            }
            self.arm(slot);
        }
    }

    /// The clock says that it is not later than `now`: what was told ahead of that, by a clock that was wrong, must not
    /// keep keys from being told of for as long.
    pub(super) fn take_back(&mut self, now: EventTime) {
        for slot in self.slots() {
            let partition = self.state.get(slot);
            // What readings have told stands, whatever the clock says.
            let latest = now.max(self.now(partition.line));
            if !partition.known.is_later_than(latest) {
                continue;
            }
            let partition = self.state.change(slot);
            partition.changed = true;
            partition.known.take_back(latest);
        }
    }

    /// When something is to be told of a key that the watermark has not reached and the clock has.
    fn due_ahead(&self, slot: u32) -> Option<EventTime> {
        let partition = self.state.get(slot);
        let (reached, present) = (self.now(partition.line), self.present(partition.line));
        // What waits for the watermark has been heard.
        if present <= reached || !partition.waiting.is_empty() {
            return None;
        }
        let alarms = partition.known.alarms.iter().zip(&self.behaviour);
        let alarms = alarms.filter_map(|(alarm, rule)| alarm.due_unheard(rule));
        let due = alarms.chain(self.silent_at(partition)).min()?;
        (due > reached && due <= present).then_some(due)
    }

    fn pass_ahead(&mut self, slot: u32, at: EventTime, emit: &mut dyn Emit) {
        let line = self.state.get(slot).line;
        emit.on(Progress {
            line,
            watermark: self.reached(line),
        });
        let mut partition = std::mem::take(self.state.change(slot));
        let filled = self.rules_filled(&mut partition);
        partition.changed = true;
        for which in 0..filled {
            let rule = &self.behaviour[which];
            let due = partition.known.alarms[which].due_unheard(rule);
            if due.is_none_or(|due| due > at) {
                continue;
            }
            if rule.of_readings {
                self.tell(&mut partition, which, at, slot, emit, Alarm::pass_phase);
            } else {
                partition.known.ahead = partition.known.ahead.max(Some(at));
                self.tell(&mut partition, which, at, slot, emit, Alarm::pass);
            }
        }
        if let Some((which, ..)) = self.plan.silence()
            && self.silent_at(&partition).is_some_and(|due| due <= at)
        {
            partition.known.ahead = partition.known.ahead.max(Some(at));
            self.tell(&mut partition, which, at, slot, emit, Alarm::come);
        }
        *self.state.change(slot) = partition;
    }
}
