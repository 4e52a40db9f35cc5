//! Which keys to look at when a watermark is reached.
//!
//! Timers are derived from the state and never stored: an operator sets them again after a restart. A key may be
//! listed without being due; whoever takes a timer asks the state what is to be done.
//!
//! Most timers are set in the order in which they are due, as events come in about the order of their time. Those of the
//! shared timeline stand in queues for that; what does not fit into them, and other timelines, is in trees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smallvec::SmallVec;

use crate::types::{EventTime, Progress, Timeline};

/// Who is listed for one time: of events that come one by one mostly a single key.
pub(super) type Slots = SmallVec<[u32; 4]>;

/// The timers of an operator: per timeline, by the watermark at which they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Of the shared timeline, in the order of time.
    queue: VecDeque<(EventTime, Slots)>,
    due: BTreeMap<(Timeline, EventTime), Slots>,
    /// The earliest on the shared timeline, which nearly every row asks for.
    first_shared: Option<EventTime>,
}

impl Timers {
    /// Has `slot` looked at when the watermark of `line` reaches `at`.
    pub(super) fn set(&mut self, line: Timeline, at: EventTime, slot: u32) {
        if line != Timeline::SHARED {
            return self.due.entry((line, at)).or_default().push(slot);
        }
        self.first_shared = Some(self.first_shared.map_or(at, |first| first.min(at)));
        match self.queue.back_mut() {
            Some((last, slots)) if *last == at => slots.push(slot),
            Some((last, _)) if *last > at => self.due.entry((line, at)).or_default().push(slot),
            _ => {
                let mut slots = Slots::new();
                slots.push(slot);
                self.queue.push_back((at, slots));
            }
        }
    }

    /// The earliest time that `to` has reached, and who is listed for it.
    #[inline]
    pub(super) fn take(&mut self, to: Progress) -> Option<(EventTime, Slots)> {
        let at = self.next(to.line).filter(|at| *at <= to.watermark)?;
        Some((at, self.take_at(to.line, at)))
    }

    fn take_at(&mut self, line: Timeline, at: EventTime) -> Slots {
        if line != Timeline::SHARED {
            return self.due.remove(&(line, at)).unwrap_or_default();
        }
        let mut slots = match self.queue.front() {
            Some((first, _)) if *first == at => self.queue.pop_front().map(|(_, slots)| slots),
            _ => None,
        }
        .unwrap_or_default();
        let mut first = self.queue.front().map(|(at, _)| *at);
        if !self.due.is_empty() {
            if let Some(others) = self.due.remove(&(line, at)) {
                slots.extend_from_slice(&others);
            }
            // The shared line is the least of all.
            if let Some(((Timeline::SHARED, at), _)) = self.due.first_key_value() {
                first = Some(first.map_or(*at, |first| first.min(*at)));
            }
        }
        self.first_shared = first;
        slots
    }

    /// The earliest time on a line.
    #[inline]
    pub(super) fn next(&self, line: Timeline) -> Option<EventTime> {
        if line == Timeline::SHARED {
            return self.first_shared;
        }
        let all = (line, EventTime::MIN)..=(line, EventTime::MAX);
        self.due.range(all).next().map(|((_, at), _)| *at)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Timers that can be taken back, for operators whose keys are due at ever other times: a key that is listed once leaves
/// nothing behind, but for places of queues that are empty, of which there are no more than others.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Of the shared timeline. There are several because a key may be due soon or late: each is an order of its own.
    queues: [Queue; 3],
    due: BTreeSet<(Timeline, EventTime, u32)>,
    /// The earliest on the shared timeline, which nearly every row asks for.
    first_shared: Option<EventTime>,
}

/// Deadlines in their order.
#[derive(Debug, Default)]
struct Queue {
    /// The first and the last are not empty.
    places: VecDeque<Place>,
    /// How many are empty.
    empty: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: EventTime,
    slot: u32,
    /// Whether it was taken back.
    empty: bool,
}

impl Queue {
    /// Takes a deadline, if it is behind all others.
    fn push(&mut self, at: EventTime, slot: u32) -> bool {
        let last = self.places.back();
        let fits = last.is_none_or(|last| (last.at, last.slot) < (at, slot));
        if fits {
            self.places.push_back(Place {
                at,
                slot,
                empty: false,
            });
        }
        fits
    }

    /// Takes a deadline back, if it is here.
    fn remove(&mut self, at: EventTime, slot: u32) -> bool {
        let found = |place: &Place| (place.at, place.slot).cmp(&(at, slot));
        let Ok(found) = self.places.binary_search_by(found) else {
            return false;
        };
        if std::mem::replace(&mut self.places[found].empty, true) {
            return false;
        }
        self.empty += 1;
        self.tidy();
        while self.places.back().is_some_and(|place| place.empty) {
            self.places.pop_back();
            self.empty -= 1;
        }
        self.compact();
        true
    }

    /// Drops empty places where there are more than others.
    fn compact(&mut self) {
        if self.empty > self.places.len() / 2 {
            self.places.retain(|place| !place.empty);
            self.empty = 0;
        }
    }

    fn next(&self) -> Option<EventTime> {
        self.places.front().map(|place| place.at)
    }

    /// Takes all that are due at `at`, the earliest time.
    fn take(&mut self, at: EventTime, slots: &mut Slots) {
        while let Some(place) = self.places.front().filter(|place| place.at == at) {
            slots.push(place.slot);
            self.places.pop_front();
            self.tidy();
        }
        self.compact();
    }

    /// Drops empty places at the front.
    fn tidy(&mut self) {
        while self.places.front().is_some_and(|place| place.empty) {
            self.places.pop_front();
            self.empty -= 1;
        }
    }
}

impl Deadlines {
    /// Has `slot` looked at when the watermark of `line` reaches `at`.
    pub(super) fn set(&mut self, line: Timeline, at: EventTime, slot: u32) {
        if line == Timeline::SHARED {
            self.first_shared = Some(self.first_shared.map_or(at, |first| first.min(at)));
            if self.queues.iter_mut().any(|queue| queue.push(at, slot)) {
                return;
            }
        }
        self.due.insert((line, at, slot));
    }

    /// Takes that back.
    pub(super) fn unset(&mut self, line: Timeline, at: EventTime, slot: u32) {
        let found = line == Timeline::SHARED && self.queues.iter_mut().any(|q| q.remove(at, slot));
        if !found {
            self.due.remove(&(line, at, slot));
        }
        if line == Timeline::SHARED && Some(at) == self.first_shared {
            self.find_first();
        }
    }

    /// The earliest time that `to` has reached, and who is listed for it.
    #[inline]
    pub(super) fn take(&mut self, to: Progress) -> Option<(EventTime, Slots)> {
        let at = self.next(to.line).filter(|at| *at <= to.watermark)?;
        Some((at, self.take_at(to.line, at)))
    }

    fn take_at(&mut self, line: Timeline, at: EventTime) -> Slots {
        let mut slots = Slots::new();
        if line == Timeline::SHARED {
            for queue in &mut self.queues {
                queue.take(at, &mut slots);
            }
        }
        if !self.due.is_empty() {
            let all = (line, at, 0)..=(line, at, u32::MAX);
            let of_tree = slots.len();
            slots.extend(self.due.range(all).map(|(_, _, slot)| *slot));
            for slot in &slots[of_tree..] {
                self.due.remove(&(line, at, *slot));
            }
        }
        if line == Timeline::SHARED {
            self.find_first();
        }
        slots
    }

    fn find_first(&mut self) {
        let queued = self.queues.iter().filter_map(Queue::next).min();
        let other = self.due.first();
        // The shared line is the least of all.
        let other = other.and_then(|(line, at, _)| (*line == Timeline::SHARED).then_some(*at));
        self.first_shared = queued.into_iter().chain(other).min();
    }

    /// The earliest time on a line.
    #[inline]
    pub(super) fn next(&self, line: Timeline) -> Option<EventTime> {
        if line == Timeline::SHARED {
            return self.first_shared;
        }
        let all = (line, EventTime::MIN, 0)..=(line, EventTime::MAX, u32::MAX);
        self.due.range(all).next().map(|(_, at, _)| *at)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

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
        let places = deadlines.queues.iter().map(|queue| queue.places.len());
        assert!(deadlines.due.len() + places.sum::<usize>() <= 6);
        let to = |watermark| Progress { line, watermark };
        assert_eq!(deadlines.take(to(at(99))), None);
        assert_eq!(
            deadlines.take(to(at(2_000))),
            Some((at(100), Slots::from_slice(&[0, 2])))
        );
        assert_eq!(
            deadlines.take(to(at(2_000))),
            Some((at(1_100), Slots::from_slice(&[1])))
        );
        assert_eq!(deadlines.next(line), None);
    }

    #[test]
    fn timers_and_deadlines_are_taken_as_from_a_sorted_set() {
        for seed in 0..200 {
            let mut random = Rng::with_seed(seed);
            let (mut timers, mut deadlines) = (Timers::default(), Deadlines::default());
            let mut listed: BTreeSet<(Timeline, EventTime, u32)> = BTreeSet::new();
            let mut kept: BTreeSet<(Timeline, EventTime, u32)> = BTreeSet::new();
            for step in 0..400 {
                let line = Timeline(random.u64(..4).saturating_sub(2) as u32);
                let soon = random.u64(..10) + step / 2;
                let at =
                    EventTime::from_millis((soon + [0, 0, 50, 0][random.u64(..4) as usize]) as i64);
                let slot = random.u64(..8) as u32;
                match random.u64(..4) {
                    0 | 1 => {
                        if listed.insert((line, at, slot)) {
                            timers.set(line, at, slot);
                        }
                        if kept.insert((line, at, slot)) {
                            deadlines.set(line, at, slot);
                        }
                    }
                    2 => {
                        let nth = random.usize(..=kept.len());
                        if let Some(&(line, at, slot)) = kept.iter().nth(nth) {
                            deadlines.unset(line, at, slot);
                            kept.remove(&(line, at, slot));
                        }
                        deadlines.unset(line, EventTime::from_millis(-1), slot);
                    }
                    _ => {
                        let to = Progress {
                            line,
                            watermark: at,
                        };
                        assert_eq!(timers.next(line), next(&listed, line), "seed {seed}");
                        assert_eq!(deadlines.next(line), next(&kept, line), "seed {seed}");
                        let taken = timers.take(to).map(sorted);
                        assert_eq!(taken, take(&mut listed, to), "seed {seed}");
                        let taken = deadlines.take(to).map(sorted);
                        assert_eq!(taken, take(&mut kept, to), "seed {seed}");
                    }
                }
                let places = deadlines.queues.iter().map(|queue| queue.places.len());
                assert!(deadlines.due.len() + places.sum::<usize>() <= 2 * kept.len());
            }
        }
    }

    fn sorted((at, mut slots): (EventTime, Slots)) -> (EventTime, Slots) {
        slots.sort_unstable();
        (at, slots)
    }

    fn next(all: &BTreeSet<(Timeline, EventTime, u32)>, of: Timeline) -> Option<EventTime> {
        let mut all = all.iter().filter(|(line, ..)| *line == of);
        all.next().map(|(_, at, _)| *at)
    }

    fn take(
        all: &mut BTreeSet<(Timeline, EventTime, u32)>,
        to: Progress,
    ) -> Option<(EventTime, Slots)> {
        let first = next(all, to.line).filter(|at| *at <= to.watermark)?;
        let due = |(line, at, _): &(Timeline, EventTime, u32)| (*line, *at) == (to.line, first);
        let slots = all.iter().copied().filter(due).map(|(_, _, slot)| slot);
        let slots = slots.collect();
        all.retain(|item| !due(item));
        Some((first, slots))
    }
}
