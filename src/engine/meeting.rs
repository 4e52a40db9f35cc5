//! Where watermarks meet: at a node with several inputs, and where the timelines of all keys become one.
//!
//! Invariants: what a meeting has reached never goes back, also not over a restart (it is stored: after an idle input
//! had let time pass, the watermarks of the sources alone would put it back, and windows that have fired would fire
//! again). Who is idle holds nobody back; if all are, time stands at the greatest they have reached, as in Flink. A
//! key that one input has seen is waited for at the others, until they say that it is idle there; where all keys come
//! together only those count that have been seen.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Progress, Timeline};

/// What is known of one line of one input.
#[derive(Clone, Copy, Debug)]
struct Known {
    watermark: EventTime,
    idle: bool,
}

/// A step of time: the line, where it was, where it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) line: Timeline,
    pub(super) from: EventTime,
    pub(super) to: EventTime,
}

/// What an input's idleness does behind a meeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Idleness {
    /// Time moves on.
    pub(super) step: Option<Step>,
    /// The line is idle from now on, or not any more.
    pub(super) idle: Option<(Timeline, bool)>,
}

/// Where watermarks meet.
#[derive(Debug)]
pub(super) struct Meeting {
    kind: Kind,
    /// What has been reached, by line.
    reached: Vec<EventTime>,
    /// The lines that have moved since the last seal.
    moved: BTreeSet<Timeline>,
}

#[derive(Debug)]
enum Kind {
    /// Several inputs, line by line.
    Inputs(Vec<Vec<Known>>),
    /// All lines of one input become the shared one.
    Lines {
        lines: Vec<Known>,
        active: BTreeSet<(EventTime, Timeline)>,
        greatest: EventTime,
    },
}

impl Meeting {
    /// Of `inputs` inputs.
    pub(super) fn of_inputs(inputs: usize) -> Self {
        Self {
            kind: Kind::Inputs(vec![Vec::new(); inputs]),
            reached: Vec::new(),
            moved: BTreeSet::new(),
        }
    }

    /// Of all lines of one input.
    pub(super) fn of_lines() -> Self {
        Self {
            kind: Kind::Lines {
                lines: Vec::new(),
                active: BTreeSet::new(),
                greatest: EventTime::MIN,
            },
            reached: Vec::new(),
            moved: BTreeSet::new(),
        }
    }

    /// Whether all lines become one.
    pub(super) const fn is_of_lines(&self) -> bool {
        matches!(self.kind, Kind::Lines { .. })
    }

    /// Where a row on `line` is behind the meeting.
    pub(super) fn behind(&self, line: Timeline) -> Progress {
        let line = match self.kind {
            Kind::Inputs(_) => line,
            Kind::Lines { .. } => Timeline::SHARED,
        };
        Progress {
            line,
            watermark: self.reached(line),
        }
    }

    /// What a line has reached behind the meeting.
    pub(super) fn reached(&self, line: Timeline) -> EventTime {
        let known = self.reached.get(line.0 as usize);
        known.copied().unwrap_or(EventTime::MIN)
    }

    /// An input's watermark has moved.
    pub(super) fn advance(&mut self, input: usize, to: Progress) -> Option<Step> {
        self.change(input, to.line, |known| {
            known.watermark = known.watermark.max(to.watermark);
        });
        self.step(to.line)
    }

    /// An input has fallen silent on a line, or speaks again.
    pub(super) fn set_idle(&mut self, input: usize, line: Timeline, idle: bool) -> Idleness {
        let before = self.is_idle(line);
        self.change(input, line, |known| known.idle = idle);
        let now = self.is_idle(line);
        Idleness {
            step: self.step(line),
            // A key that speaks for the first time was not idle here, since it was waited for, and is not known behind.
            idle: (now != before || (!idle && line != Timeline::SHARED))
                .then(|| (self.behind(line).line, now)),
        }
    }

    /// All is silent, and time is known to have passed up to `to`.
    pub(super) fn pass(&mut self, to: EventTime) -> Option<Step> {
        match &self.kind {
            Kind::Lines { active, .. } if active.is_empty() => self.reach(Timeline::SHARED, to),
            _ => None,
        }
    }

    fn change(&mut self, input: usize, line: Timeline, change: impl FnOnce(&mut Known)) {
        match &mut self.kind {
            Kind::Inputs(inputs) => {
                if let Some(lines) = inputs.get_mut(input) {
                    change(entry(lines, line, AWAITED));
                }
            }
            Kind::Lines {
                lines,
                active,
                greatest,
            } => {
                let known = entry(lines, line, UNSEEN);
                active.remove(&(known.watermark, line));
                change(known);
                *greatest = known.watermark.max(*greatest);
                if !known.idle {
                    active.insert((known.watermark, line));
                }
            }
        }
    }

    fn is_idle(&self, line: Timeline) -> bool {
        match &self.kind {
            Kind::Inputs(_) => self.on(line).all(|known| known.idle),
            Kind::Lines { active, .. } => active.is_empty(),
        }
    }

    /// What the inputs know of a line.
    fn on(&self, line: Timeline) -> impl Iterator<Item = Known> + '_ {
        let inputs: &[Vec<Known>] = match &self.kind {
            Kind::Inputs(inputs) => inputs,
            Kind::Lines { .. } => &[],
        };
        inputs
            .iter()
            .map(move |lines| *lines.get(line.0 as usize).unwrap_or(&AWAITED))
    }

    fn step(&mut self, line: Timeline) -> Option<Step> {
        let (line, to) = match &self.kind {
            Kind::Inputs(_) => {
                let active = self.on(line).filter(|known| !known.idle);
                let least = active.map(|known| known.watermark).min();
                let to = least.or_else(|| self.on(line).map(|known| known.watermark).max());
                (line, to?)
            }
            Kind::Lines {
                active, greatest, ..
            } => {
                let least = active.first().map(|(watermark, _)| *watermark);
                (Timeline::SHARED, least.unwrap_or(*greatest))
            }
        };
        self.reach(line, to)
    }

    fn reach(&mut self, line: Timeline, to: EventTime) -> Option<Step> {
        let from = self.reached(line);
        if to <= from {
            return None;
        }
        let at = line.0 as usize;
        if self.reached.len() <= at {
            self.reached.resize(at + 1, EventTime::MIN);
        }
        self.reached[at] = to;
        self.moved.insert(line);
        Some(Step { line, from, to })
    }

    /// Writes what has moved since the last seal; false if nothing has.
    pub(super) fn seal(&mut self, out: &mut Encoder) -> bool {
        let moved = std::mem::take(&mut self.moved);
        for line in &moved {
            out.timeline(*line);
            out.time(self.reached(*line));
        }
        !moved.is_empty()
    }

    /// Writes all that has been reached.
    pub(super) fn snapshot(&self, out: &mut Encoder) {
        for (line, reached) in self.reached.iter().enumerate() {
            if *reached > EventTime::MIN {
                out.timeline(Timeline(line as u32));
                out.time(*reached);
            }
        }
    }

    /// Reads what `seal` or `snapshot` wrote, of at most `lines` lines.
    pub(super) fn restore(
        &mut self,
        from: &mut Decoder<'_>,
        lines: usize,
    ) -> Result<(), StateError> {
        while !from.is_empty() {
            let line = from.timeline(lines)?;
            let reached = from.time()?;
            self.reach(line, reached);
        }
        self.moved.clear();
        Ok(())
    }

    /// Takes in what the inputs had reached when the program ended, on each line on which they had spoken. Who was idle
    /// then is not known: a restart counts as a sign of life.
    pub(super) fn resume(&mut self, inputs: &[SmallVec<[Option<EventTime>; 1]>]) {
        for (input, reached) in inputs.iter().enumerate() {
            for (line, watermark) in reached.iter().enumerate() {
                let line = Timeline(line as u32);
                let Some(watermark) = *watermark else {
                    continue;
                };
                if line == Timeline::SHARED && self.is_of_lines() {
                    continue;
                }
                self.change(input, line, |known| {
                    *known = Known {
                        watermark,
                        idle: false,
                    };
                });
            }
        }
        // Nothing is told of it, and only when all inputs are known: a single one could be far ahead.
        let lines = inputs.iter().map(SmallVec::len).max().unwrap_or(0);
        for line in 0..lines {
            self.step(Timeline(line as u32));
        }
        self.moved.clear();
    }
}

/// A line that another input has seen.
const AWAITED: Known = Known {
    watermark: EventTime::MIN,
    idle: false,
};

/// A key that has not come.
const UNSEEN: Known = Known {
    watermark: EventTime::MIN,
    idle: true,
};

fn entry(lines: &mut Vec<Known>, line: Timeline, before: Known) -> &mut Known {
    let at = line.0 as usize;
    if lines.len() <= at {
        lines.resize(at + 1, before);
    }
    &mut lines[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, seconds: i64) -> Progress {
        Progress {
            line: Timeline(line),
            watermark: EventTime::from_millis(seconds * 1_000),
        }
    }

    fn reached(step: Option<Step>) -> Option<i64> {
        step.map(|step| step.to.as_millis() / 1_000)
    }

    #[test]
    fn the_least_active_input_decides_and_time_never_goes_back() {
        let mut meeting = Meeting::of_inputs(2);
        assert_eq!(reached(meeting.advance(0, at(0, 10))), None);
        assert_eq!(reached(meeting.advance(1, at(0, 5))), Some(5));
        let idle = meeting.set_idle(1, Timeline::SHARED, true);
        assert_eq!((reached(idle.step), idle.idle), (Some(10), None));
        let awake = meeting.set_idle(1, Timeline::SHARED, false);
        assert_eq!((awake.step, awake.idle), (None, None));
        assert_eq!(reached(meeting.advance(1, at(0, 7))), None);
        assert_eq!(reached(meeting.advance(1, at(0, 12))), None);
        assert_eq!(reached(meeting.advance(0, at(0, 20))), Some(12));
    }

    #[test]
    fn a_restart_does_not_put_back_what_an_idle_input_let_pass() {
        let mut meeting = Meeting::of_inputs(2);
        meeting.advance(0, at(0, 10));
        meeting.advance(1, at(0, 5));
        meeting.set_idle(1, Timeline::SHARED, true);
        let mut out = Encoder::new();
        assert!(meeting.seal(&mut out));
        let mut again = Meeting::of_inputs(2);
        again.restore(&mut Decoder::new(out.as_slice()), 1).unwrap();
        let input = |seconds| SmallVec::from_slice(&[Some(at(0, seconds).watermark)]);
        again.resume(&[input(10), input(5)]);
        assert_eq!(again.reached(Timeline::SHARED), at(0, 10).watermark);
    }

    #[test]
    fn each_key_has_its_own_time_until_they_meet() {
        let mut meeting = Meeting::of_inputs(2);
        // The key has not come by the other input yet: it is waited for, until it is known to be idle there.
        assert_eq!(reached(meeting.advance(0, at(1, 10))), None);
        let idle = meeting.set_idle(1, Timeline(1), true);
        assert_eq!(reached(idle.step), Some(10));
        // Where keys come together behind it nothing is known of a key before it speaks: it is told, so that others wait.
        let woken = Meeting::of_inputs(2).set_idle(0, Timeline(1), false);
        assert_eq!(woken.idle, Some((Timeline(1), false)));
        let mut meeting = Meeting::of_lines();
        for line in [1, 2] {
            meeting.set_idle(0, Timeline(line), false);
        }
        assert_eq!(reached(meeting.advance(0, at(1, 100))), None);
        let step = meeting.advance(0, at(2, 40)).unwrap();
        assert_eq!(
            (step.line, reached(Some(step))),
            (Timeline::SHARED, Some(40))
        );
        assert_eq!(reached(meeting.pass(at(0, 70).watermark)), None);
        let idle = meeting.set_idle(0, Timeline(2), true);
        assert_eq!((reached(idle.step), idle.idle), (Some(100), None));
        let idle = meeting.set_idle(0, Timeline(1), true);
        assert_eq!(
            (idle.step, idle.idle),
            (None, Some((Timeline::SHARED, true)))
        );
        assert_eq!(reached(meeting.pass(at(0, 170).watermark)), Some(170));
    }
}
