//! The open panes of all keys of an operator.
//!
//! Most keys have one pane open, and most of those the same one. Then a key has no more than four bytes, which say which
//! span of time it is, and its accumulators, which stand beside those of other keys. The panes of a key that has several
//! are in lists of their own.
//!
//! Invariants: the panes of a key are in the order of their spans; the accumulators that stand at the place of a key
//! without a single pane have taken nothing.

use std::ops::Range;

use smallvec::SmallVec;

use super::Accumulators;
use super::lines::Lines;
use super::spans::{Span, Spans};
use super::stacks::Stacks;
use crate::ops::accumulator::Accumulator;
use crate::ops::keyed::{KeyState, Slab};
use crate::types::{EventTime, Timeline};

/// What a key has open. The rest is in [`OpenPanes`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Panes(u32);

/// The same, to look at.
#[derive(Clone, Copy, Debug)]
enum Open {
    Nothing,
    /// One pane, of the span of this number; whether it is as it was written last.
    One {
        span: u32,
        known: bool,
    },
    /// Several, at this place.
    Several(u32),
}

impl Panes {
    const NOTHING: Self = Self(u32::MAX);
    const SEVERAL: u32 = 1 << 31;
    const KNOWN: u32 = 1 << 30;

    const fn one(span: u32, known: bool) -> Self {
        Self(if known { span | Self::KNOWN } else { span })
    }

    const fn several(place: u32) -> Self {
        Self(place | Self::SEVERAL)
    }

    const fn open(self) -> Open {
        match self {
            Self::NOTHING => Open::Nothing,
            Self(several) if several & Self::SEVERAL != 0 => {
                Open::Several(several & !Self::SEVERAL)
            }
            Self(one) => Open::One {
                span: one & !Self::KNOWN,
                known: one & Self::KNOWN != 0,
            },
        }
    }
}

impl Default for Panes {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl KeyState for Panes {
    fn is_empty(&self) -> bool {
        *self == Self::NOTHING
    }
}

/// The panes of all keys.
#[derive(Debug)]
pub(super) struct OpenPanes {
    /// Accumulators that have taken nothing; as many as each pane has.
    empty: Accumulators,
    spans: Spans,
    /// By slot, the accumulators of keys with one pane.
    single: Slab<Accumulator>,
    several: Slab<Several>,
    free: Vec<u32>,
    lines: Lines,
}

/// The panes of a key that has several.
#[derive(Debug, Default)]
struct Several {
    spans: SmallVec<[u32; 4]>,
    accumulators: Vec<Accumulator>,
    /// So many of the first are as they were written last.
    known: usize,
    /// What has been put together of them.
    stacks: Option<Box<Stacks>>,
}

/// Some panes of a key, earliest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    spans: &'a Spans,
    numbers: &'a [u32],
    accumulators: &'a [Accumulator],
    /// Accumulators of a pane.
    width: usize,
}

impl<'a> View<'a> {
    /// Panes of these spans, with all their accumulators.
    pub(super) const fn new(
        spans: &'a Spans,
        numbers: &'a [u32],
        accumulators: &'a [Accumulator],
        width: usize,
    ) -> Self {
        Self {
            spans,
            numbers,
            accumulators,
            width,
        }
    }

    pub(super) const fn len(self) -> usize {
        self.numbers.len()
    }

    pub(super) fn span(self, at: usize) -> Span {
        self.spans.get(self.numbers[at])
    }

    pub(super) fn spans(self) -> impl DoubleEndedIterator<Item = Span> + use<'a> {
        self.numbers
            .iter()
            .map(move |number| self.spans.get(*number))
    }

    pub(super) fn of(self, at: usize) -> &'a [Accumulator] {
        &self.accumulators[at * self.width..][..self.width]
    }

    /// The accumulators of all.
    pub(super) const fn accumulators(self) -> &'a [Accumulator] {
        self.accumulators
    }

    /// How many start before a time; found soon if most do.
    pub(super) fn before(self, time: EventTime) -> usize {
        let starts_before = |number: &u32| self.spans.get(*number).start < time;
        let (mut behind, mut looked_at) = (self.len(), 1);
        while looked_at <= self.len() && !starts_before(&self.numbers[self.len() - looked_at]) {
            behind = self.len() - looked_at;
            looked_at *= 2;
        }
        let from = self.len().saturating_sub(looked_at);
        from + self.numbers[from..behind].partition_point(starts_before)
    }

    /// The same; found soon if none does.
    pub(super) fn gone_before(self, time: EventTime) -> usize {
        match self.spans().next() {
            Some(first) if first.start < time => self.before(time),
            _ => 0,
        }
    }

    pub(super) fn part(self, range: Range<usize>) -> Self {
        Self {
            numbers: &self.numbers[range.clone()],
            accumulators: &self.accumulators[range.start * self.width..range.end * self.width],
            ..self
        }
    }
}

impl OpenPanes {
    /// None, whose accumulators will begin as these.
    pub(super) fn new(empty: Accumulators) -> Self {
        Self {
            empty,
            spans: Spans::default(),
            single: Slab::default(),
            several: Slab::default(),
            free: Vec::new(),
            lines: Lines::default(),
        }
    }

    #[inline]
    pub(super) fn line(&self, slot: u32) -> Timeline {
        self.lines.get(slot)
    }

    #[inline]
    pub(super) fn set_line(&mut self, slot: u32, line: Timeline) {
        self.lines.set(slot, line);
    }

    /// The panes of a key.
    #[inline]
    pub(super) fn view(&self, slot: u32, panes: Panes) -> View<'_> {
        let width = self.empty.len();
        match panes.open() {
            Open::Nothing => View::new(&self.spans, &[], &[], width),
            Open::One { span, .. } => {
                let accumulators = self.single.group(slot, width);
                View::new(&self.spans, self.spans.alone(span), accumulators, width)
            }
            Open::Several(place) => {
                let several = self.several.get(place);
                View::new(&self.spans, &several.spans, &several.accumulators, width)
            }
        }
    }

    /// How many of the first panes of a key are as they were written last.
    pub(super) fn known(&self, panes: Panes) -> usize {
        match panes.open() {
            Open::Nothing => 0,
            Open::One { known, .. } => usize::from(known),
            Open::Several(place) => self.several.get(place).known,
        }
    }

    /// Notes that all are.
    pub(super) fn written(&mut self, panes: &mut Panes) {
        match panes.open() {
            Open::Nothing => {}
            Open::One { span, .. } => *panes = Panes::one(span, true),
            Open::Several(place) => {
                let several = self.several.get_mut(place);
                several.known = several.spans.len();
            }
        }
    }

    /// The accumulators of a pane, to change, and whether the pane is new.
    #[inline]
    pub(super) fn take(
        &mut self,
        slot: u32,
        panes: &mut Panes,
        span: Span,
    ) -> (&mut [Accumulator], bool) {
        if let Open::One { span: known, .. } = panes.open()
            && self.spans.get(known) == span
        {
            *panes = Panes::one(known, false);
            return (self.single.group_mut(slot, self.empty.len()), false);
        }
        self.take_other(slot, panes, span)
    }

    /// The same of a pane that is not the only one.
    fn take_other(
        &mut self,
        slot: u32,
        panes: &mut Panes,
        span: Span,
    ) -> (&mut [Accumulator], bool) {
        let width = self.empty.len();
        let place = match panes.open() {
            Open::Nothing => {
                while self.single.len() <= slot as usize {
                    self.single.push_group(width, self.empty.iter().cloned());
                }
                *panes = Panes::one(self.spans.take(span), false);
                return (self.single.group_mut(slot, width), true);
            }
            Open::One { span, known } => self.part_from_others(slot, panes, span, known),
            Open::Several(place) => place,
        };
        let (spans, several) = (&mut self.spans, self.several.get_mut(place));
        // It is nearly always the last one.
        let before = several
            .spans
            .iter()
            .rposition(|known| spans.get(*known) <= span);
        let (at, new) = match before {
            Some(at) if spans.get(several.spans[at]) == span => (at, false),
            before => (before.map_or(0, |at| at + 1), true),
        };
        several.changes(at, span);
        if new {
            several.spans.insert(at, spans.take(span));
            let place = at * width..at * width;
            let fresh = self.empty.iter().cloned();
            several.accumulators.splice(place, fresh);
        }
        let accumulators = &mut several.accumulators[at * width..][..width];
        (accumulators, new)
    }

    /// Moves the only pane of a key to where those of keys with several are.
    fn part_from_others(&mut self, slot: u32, panes: &mut Panes, span: u32, known: bool) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.several.push(Several::default());
            (self.several.len() - 1) as u32
        });
        let several = self.several.get_mut(place);
        several.spans.push(span);
        several.known = usize::from(known);
        // Two panes are the most usual of several.
        several.accumulators.reserve_exact(2 * self.empty.len());
        let single = self.single.group_mut(slot, self.empty.len());
        let single = single.iter_mut().zip(&self.empty);
        let moved = single.map(|(one, empty)| std::mem::replace(one, empty.clone()));
        several.accumulators.extend(moved);
        *panes = Panes::several(place);
        place
    }

    /// Forgets the first `gone` panes of a key.
    pub(super) fn drop_first(&mut self, slot: u32, panes: &mut Panes, gone: usize) {
        match panes.open() {
            _ if gone == 0 => {}
            Open::Nothing => {}
            Open::One { span, .. } => self.drop_single(slot, panes, span),
            Open::Several(place) => {
                let several = self.several.get_mut(place);
                for number in several.spans.drain(..gone) {
                    self.spans.give_back(number);
                }
                several.accumulators.drain(..gone * self.empty.len());
                several.known = several.known.saturating_sub(gone);
                self.settle(slot, panes, place);
            }
        }
    }

    /// Forgets the panes of a key that are not to be kept.
    pub(super) fn retain(
        &mut self,
        slot: u32,
        panes: &mut Panes,
        mut keep: impl FnMut(Span) -> bool,
    ) {
        match panes.open() {
            Open::Nothing => {}
            Open::One { span, .. } => {
                if !keep(self.spans.get(span)) {
                    self.drop_single(slot, panes, span);
                }
            }
            Open::Several(place) => {
                let (spans, several) = (&mut self.spans, self.several.get_mut(place));
                let width = self.empty.len();
                let mut kept: SmallVec<[bool; 16]> = SmallVec::new();
                for number in &several.spans {
                    kept.push(keep(spans.get(*number)));
                }
                // Those that are known are told from the first, and follow each other.
                let gone = kept.iter().take_while(|kept| !**kept).count();
                let run = kept[gone..].iter().take_while(|kept| **kept).count();
                several.known = several.known.min(gone + run).saturating_sub(gone);
                let mut place_of = 0..;
                several.spans.retain(|number| {
                    let kept = place_of.next().is_some_and(|at: usize| kept[at]);
                    if !kept {
                        spans.give_back(*number);
                    }
                    kept
                });
                let mut place_of = 0..;
                several.accumulators.retain(|_| {
                    let at: usize = place_of.next().unwrap_or_default();
                    kept[at / width]
                });
                several.stacks = None;
                self.settle(slot, panes, place);
            }
        }
    }

    /// Has the panes of `range`, two or more, be one of the span of the first, with what `merged` has, which is as new then.
    pub(super) fn fold(
        &mut self,
        slot: u32,
        panes: &mut Panes,
        range: Range<usize>,
        merged: &mut Accumulators,
    ) {
        let Open::Several(place) = panes.open() else {
            return;
        };
        let width = self.empty.len();
        let several = self.several.get_mut(place);
        several.changes(range.start, self.spans.get(several.spans[range.start]));
        for number in several.spans.drain(range.start + 1..range.end) {
            self.spans.give_back(number);
        }
        let accumulators = range.start * width..range.end * width;
        several.accumulators.splice(accumulators, merged.drain(..));
        self.settle(slot, panes, place);
    }

    /// The panes of a key that has several, and what has been put together of them.
    pub(super) fn stacks(&mut self, panes: Panes) -> Option<(View<'_>, &mut Option<Box<Stacks>>)> {
        let Open::Several(place) = panes.open() else {
            return None;
        };
        let Several {
            spans,
            accumulators,
            stacks,
            ..
        } = self.several.get_mut(place);
        let view = View::new(&self.spans, spans, accumulators, self.empty.len());
        Some((view, stacks))
    }

    fn drop_single(&mut self, slot: u32, panes: &mut Panes, span: u32) {
        self.spans.give_back(span);
        let single = self.single.group_mut(slot, self.empty.len());
        single.clone_from_slice(&self.empty);
        *panes = Panes::NOTHING;
    }

    /// Moves what has become a single pane back to the others, and forgets the place of none.
    fn settle(&mut self, slot: u32, panes: &mut Panes, place: u32) {
        let several = self.several.get_mut(place);
        if several.spans.len() > 1 {
            return;
        }
        let several = std::mem::take(several);
        self.free.push(place);
        *panes = match several.spans[..] {
            [span] => {
                let single = self.single.group_mut(slot, self.empty.len());
                for (place, moved) in single.iter_mut().zip(several.accumulators) {
                    *place = moved;
                }
                Panes::one(span, several.known > 0)
            }
            _ => Panes::NOTHING,
        };
    }
}

impl Several {
    /// Notes that a pane is about to change or to come.
    fn changes(&mut self, at: usize, span: Span) {
        self.known = self.known.min(at);
        let stacks = self.stacks.as_ref();
        if stacks.is_some_and(|stacks| stacks.has(span.start)) {
            self.stacks = None;
        }
    }
}
