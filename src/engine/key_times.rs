//! The event time of each key of a source, where its table asks for that (`scan.watermark.per-key`).
//!
//! A device that was offline and uploads its backlog is not late because its neighbour's clock ran on: each key has
//! a watermark of its own. A key that is silent for longer than the idle timeout no longer holds others back. Its own
//! time goes on only as far as there is something to close or to raise: so its last window closes, an absence is
//! noticed, and yet the backlog it may still bring falls into windows that have not been closed.
//!
//! Invariants: of a key there is at most one valid entry in the queue of checks; all times by the clock that never
//! jumps are from this process, a restart counts as a sign of life of every key.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timeline, Timespan};

/// The times of a source's keys.
#[derive(Debug)]
pub(super) struct KeyTimes {
    /// The columns that make the key.
    pub(super) columns: Vec<usize>,
    idle_timeout: Option<Timespan>,
    lines: Vec<Option<KeyTime>>,
    /// When to look at which line again, on the clock that never jumps.
    checks: BinaryHeap<Reverse<(u64, u32)>>,
    /// How many lines are not idle.
    active: usize,
    /// How many are idle and have not been heard since the start of this process.
    unheard: usize,
    greatest: EventTime,
    moved: BTreeSet<Timeline>,
    /// Whether the lines were read from the store and not looked at yet.
    restored: bool,
}

#[derive(Clone, Copy, Debug)]
struct KeyTime {
    watermark: EventTime,
    /// When its last row came, and the watermark then.
    since: u64,
    then: EventTime,
    idle: bool,
    /// Whether it is known from other tables alone: its first row is waited for.
    expected: bool,
    /// Whether a row has come since the start of this process, or it was not known before.
    heard: bool,
    /// The entry in the queue that counts.
    check: Option<u64>,
}

/// A key that has been silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silent {
    pub(super) line: Timeline,
    /// Whether it is idle from now on.
    pub(super) fell_idle: bool,
    /// What its watermark may be by now.
    pub(super) may_reach: EventTime,
    since: u64,
    then: EventTime,
}

impl KeyTimes {
    pub(super) fn new(columns: Vec<usize>, idle_timeout: Option<Timespan>) -> Self {
        Self {
            columns,
            idle_timeout,
            lines: Vec::new(),
            checks: BinaryHeap::new(),
            active: 0,
            unheard: 0,
            greatest: EventTime::MIN,
            moved: BTreeSet::new(),
            restored: false,
        }
    }

    /// What a line has reached.
    pub(super) fn reached(&self, line: Timeline) -> EventTime {
        let known = self.lines.get(line.0 as usize).copied().flatten();
        known.map_or(EventTime::MIN, |known| known.watermark)
    }

    /// Whether a line must be woken before its row: it is new, or has been idle.
    pub(super) fn wakes(&mut self, line: Timeline) -> bool {
        let fresh = KeyTime {
            watermark: EventTime::MIN,
            since: 0,
            then: EventTime::MIN,
            idle: true,
            expected: false,
            heard: true,
            check: None,
        };
        let known = entry(&mut self.lines, line).get_or_insert(fresh);
        self.unheard -= usize::from(known.idle && !known.heard);
        known.heard = true;
        let woken = known.idle || known.expected;
        (known.idle, known.expected) = (false, false);
        self.active += usize::from(woken);
        woken
    }

    /// Another table has seen a key. If it does not come here within the idle timeout it counts as idle: joins wait
    /// for it so long.
    pub(super) fn expect_line(&mut self, line: Timeline, steady_micros: u64) {
        let known = entry(&mut self.lines, line);
        if known.is_some() {
            return;
        }
        *known = Some(KeyTime {
            watermark: EventTime::MIN,
            since: steady_micros,
            then: EventTime::MIN,
            idle: false,
            expected: true,
            heard: true,
            check: None,
        });
        self.check(line, self.idle_timeout, steady_micros);
    }

    /// A row has come; `watermark` is what it says of time, if it does.
    pub(super) fn row(
        &mut self,
        line: Timeline,
        watermark: Option<EventTime>,
        steady_micros: u64,
    ) -> (EventTime, EventTime) {
        let Some(known) = entry(&mut self.lines, line) else {
            return (EventTime::MIN, EventTime::MIN);
        };
        let from = known.watermark;
        let to = watermark.map_or(from, |watermark| watermark.max(from));
        known.watermark = to;
        (known.since, known.then) = (steady_micros, to);
        if to > from {
            self.moved.insert(line);
            self.greatest = self.greatest.max(to);
        }
        self.check(line, self.idle_timeout, steady_micros);
        (from, to)
    }

    /// Time has been let pass on a line.
    pub(super) fn advance(&mut self, line: Timeline, to: EventTime) -> EventTime {
        let Some(known) = entry(&mut self.lines, line) else {
            return to;
        };
        let from = std::mem::replace(&mut known.watermark, to);
        self.moved.insert(line);
        self.greatest = self.greatest.max(to);
        from
    }

    /// The next line whose silence is to be looked at.
    pub(super) fn next_silent(&mut self, steady_micros: u64) -> Option<Silent> {
        let timeout = self.idle_timeout?;
        if std::mem::take(&mut self.restored) {
            for at in 0..self.lines.len() {
                let Some(known) = &mut self.lines[at] else {
                    continue;
                };
                (known.since, known.then) = (steady_micros, known.watermark);
                self.check(Timeline(at as u32), Some(timeout), steady_micros);
            }
        }
        while let Some(Reverse((at, line))) = self.checks.peek().copied() {
            if at > steady_micros {
                return None;
            }
            self.checks.pop();
            let line = Timeline(line);
            let Some(known) = entry(&mut self.lines, line) else {
                continue;
            };
            if known.check != Some(at) {
                continue;
            }
            known.check = None;
            let (since, then) = (known.since, known.then);
            let silent = Timespan::from_micros(steady_micros.saturating_sub(since) as i64);
            if silent < timeout {
                self.check(line, Some(timeout), since);
                continue;
            }
            let fell_idle = !std::mem::replace(&mut known.idle, true);
            let expected = std::mem::take(&mut known.expected);
            self.active -= usize::from(fell_idle && !expected);
            self.unheard += usize::from(fell_idle && !known.heard);
            let may_reach = if then > EventTime::MIN {
                then.plus(silent)
            } else {
                then
            };
            return Some(Silent {
                line,
                fell_idle,
                may_reach,
                since,
                then,
            });
        }
        None
    }

    /// Has all silent lines looked at again: something may be due on them that was not before.
    pub(super) fn look_again(&mut self, steady_micros: u64) {
        for at in 0..self.lines.len() {
            if self.lines[at].is_some_and(|known| known.idle) {
                self.check(Timeline(at as u32), Some(Timespan::ZERO), steady_micros);
            }
        }
    }

    /// What time it is by now on a line that is silent: `unheard` if nothing has come since the start of this process.
    pub(super) fn present(
        &self,
        line: Timeline,
        unheard: Option<EventTime>,
        steady_micros: u64,
    ) -> Option<EventTime> {
        let known = self.lines.get(line.0 as usize).copied().flatten();
        let known = known.filter(|known| known.idle && known.then > EventTime::MIN)?;
        let silent = Timespan::from_micros(steady_micros.saturating_sub(known.since) as i64);
        let since_last = Some(known.then.plus(silent));
        unheard.filter(|_| !known.heard).or(since_last)
    }

    /// Whether some line is idle and has been silent since the start of this process.
    pub(super) const fn any_unheard(&self) -> bool {
        self.unheard > 0
    }

    /// Whether all lines that are known are.
    pub(super) fn all_unheard(&self) -> bool {
        let mut known = self.lines.iter().flatten();
        self.unheard > 0 && known.all(|known| known.idle && !known.heard)
    }

    /// Has a silent line looked at again when it may have reached `timer`.
    pub(super) fn wait(&mut self, silent: &Silent, timer: EventTime) {
        if silent.then > EventTime::MIN && timer < EventTime::MAX {
            let after = timer.since(silent.then);
            self.check(silent.line, Some(after), silent.since);
        }
    }

    /// Whether no key has said anything of time.
    pub(super) fn is_unseen(&self) -> bool {
        self.greatest == EventTime::MIN
    }

    /// If all keys are silent: the time that the source as a whole may have reached.
    pub(super) fn all_silent(&self, steady_micros: u64) -> Option<EventTime> {
        if self.active > 0 || self.idle_timeout.is_none() || self.greatest == EventTime::MIN {
            return None;
        }
        let latest = self.lines.iter().flatten();
        let (since, then) = latest.map(|known| (known.since, known.then)).max()?;
        let silent = Timespan::from_micros(steady_micros.saturating_sub(since) as i64);
        Some(then.plus(silent).max(self.greatest))
    }

    /// When to look again, on the clock that never jumps.
    pub(super) fn next_check(&self) -> Option<u64> {
        if self.restored && self.idle_timeout.is_some() {
            return Some(0);
        }
        self.checks.peek().map(|Reverse((at, _))| *at)
    }

    fn check(&mut self, line: Timeline, after: Option<Timespan>, since: u64) {
        let Some(after) = after else { return };
        let at = since.saturating_add(after.as_micros().max(0) as u64);
        let Some(known) = entry(&mut self.lines, line) else {
            return;
        };
        // An earlier entry finds out by itself that it is early.
        if known.check.is_none_or(|known| at < known) {
            known.check = Some(at);
            self.checks.push(Reverse((at, line.0)));
        }
    }

    /// The lines that have a time.
    pub(super) fn seen(&self) -> Vec<Timeline> {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, known)| known.is_some_and(|known| known.watermark > EventTime::MIN))
            .map(|(line, _)| Timeline(line as u32))
            .collect()
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

    /// Writes all.
    pub(super) fn snapshot(&self, out: &mut Encoder) {
        for line in self.seen() {
            out.timeline(line);
            out.time(self.reached(line));
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
            let watermark = from.time()?;
            self.wakes(line);
            self.advance(line, watermark);
            if let Some(known) = entry(&mut self.lines, line) {
                known.heard = false;
            }
        }
        self.moved.clear();
        self.restored = true;
        Ok(())
    }
}

fn entry(lines: &mut Vec<Option<KeyTime>>, line: Timeline) -> &mut Option<KeyTime> {
    let at = line.0 as usize;
    if lines.len() <= at {
        lines.resize(at + 1, None);
    }
    &mut lines[at]
}
