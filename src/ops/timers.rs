//! Which keys to look at when a watermark is reached.
//!
//! Timers are derived from the state and never stored: an operator sets them again after a restart. A key may be
//! listed without being due; whoever takes a timer asks the state what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{EventTime, Progress, Timeline};

/// The timers of an operator: per timeline, by the watermark at which they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(Timeline, EventTime), Vec<u32>>,
}

impl Timers {
    /// Has `slot` looked at when the watermark of `line` reaches `at`.
    pub(super) fn set(&mut self, line: Timeline, at: EventTime, slot: u32) {
        self.due.entry((line, at)).or_default().push(slot);
    }

    /// The earliest time that `to` has reached, and who is listed for it.
    pub(super) fn take(&mut self, to: Progress) -> Option<(EventTime, Vec<u32>)> {
        let at = self.next(to.line).filter(|at| *at <= to.watermark)?;
        self.due.remove(&(to.line, at)).map(|slots| (at, slots))
    }

    /// The earliest time on a line.
    pub(super) fn next(&self, line: Timeline) -> Option<EventTime> {
        let all = (line, EventTime::MIN)..=(line, EventTime::MAX);
        self.due.range(all).next().map(|((_, at), _)| *at)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.due.clear();
    }
}

/// Timers that can be taken back, for operators whose keys are due at ever other times: a key that is listed once leaves
/// nothing behind.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    due: BTreeSet<(Timeline, EventTime, u32)>,
}

impl Deadlines {
    /// Has `slot` looked at when the watermark of `line` reaches `at`.
    pub(super) fn set(&mut self, line: Timeline, at: EventTime, slot: u32) {
        self.due.insert((line, at, slot));
    }

    /// Takes that back.
    pub(super) fn unset(&mut self, line: Timeline, at: EventTime, slot: u32) {
        self.due.remove(&(line, at, slot));
    }

    /// The earliest time that `to` has reached, and who is listed for it.
    pub(super) fn take(&mut self, to: Progress) -> Option<(EventTime, Vec<u32>)> {
        let at = self.next(to.line).filter(|at| *at <= to.watermark)?;
        let all = (to.line, at, 0)..=(to.line, at, u32::MAX);
        let slots: Vec<u32> = self.due.range(all).map(|(_, _, slot)| *slot).collect();
        for slot in &slots {
            self.due.remove(&(to.line, at, *slot));
        }
        Some((at, slots))
    }

    /// The earliest time on a line.
    pub(super) fn next(&self, line: Timeline) -> Option<EventTime> {
        let all = (line, EventTime::MIN, 0)..=(line, EventTime::MAX, u32::MAX);
        self.due.range(all).next().map(|(_, at, _)| *at)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.due.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_taken_back_leaves_nothing() {
        let (line, at) = (Timeline::SHARED, EventTime::from_millis);
        let mut deadlines = Deadlines::default();
        for key in 0..3 {
            deadlines.set(line, at(100), key);
        }
        // Each row of a key moves what it is due for.
        for time in 0..1_000 {
            deadlines.unset(line, at(100 + time), 1);
            deadlines.set(line, at(101 + time), 1);
        }
        assert_eq!(deadlines.due.len(), 3);
        let to = |watermark| Progress { line, watermark };
        assert_eq!(deadlines.take(to(at(99))), None);
        assert_eq!(deadlines.take(to(at(2_000))), Some((at(100), vec![0, 2])));
        assert_eq!(deadlines.take(to(at(2_000))), Some((at(1_100), vec![1])));
        assert_eq!(deadlines.next(line), None);
    }
}
