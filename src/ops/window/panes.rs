//! The open panes of a key, and how they are written down.
//!
//! A pane is written when it has changed: of a window of many panes mostly the last.

use smallvec::SmallVec;

use super::Accumulators;
use super::stacks::Stacks;
use crate::ops::accumulator::Accumulator;
use crate::ops::keyed::KeyState;
use crate::plan::Aggregate;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timeline, Timespan};

/// What the first of the panes that are written is told from.
const EPOCH: EventTime = EventTime::from_micros(0);

/// The open panes of one key, earliest first.
#[derive(Debug)]
pub(super) struct Panes {
    pub(super) open: SmallVec<[Pane; 1]>,
    pub(super) line: Timeline,
    /// What this key is listed for, if it is: the end of its next window, or when its next pane is forgotten.
    pub(super) armed: Option<EventTime>,
    /// What has been put together of them.
    pub(super) stacks: Option<Box<Stacks>>,
    /// The panes from here on are not as they were written last; earlier ones are, but for those that are gone.
    pub(super) changed_from: EventTime,
}

/// What the rows of a span of time have made.
#[derive(Debug)]
pub(super) struct Pane {
    pub(super) start: EventTime,
    /// The end of the last window it is part of.
    pub(super) last_end: EventTime,
    pub(super) accumulators: Accumulators,
}

impl Default for Panes {
    fn default() -> Self {
        Self {
            open: SmallVec::new(),
            line: Timeline::default(),
            armed: None,
            stacks: None,
            changed_from: EventTime::MAX,
        }
    }
}

impl KeyState for Panes {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn encode(&self, out: &mut Encoder) {
        self.encode_but(0, out);
    }

    fn encode_changes(&mut self, out: &mut Encoder) {
        let from = self.changed_from;
        self.encode_but(self.open.partition_point(|pane| pane.start < from), out);
        self.changed_from = EventTime::MAX;
    }
}

impl Panes {
    /// Notes that a pane is about to change, to come or to go that is not the first.
    pub(super) fn changes(&mut self, start: EventTime) {
        self.changed_from = self.changed_from.min(start);
        if self.stacks.as_ref().is_some_and(|stacks| stacks.has(start)) {
            self.stacks = None;
        }
    }

    /// Writes all but the first `known` panes, which need only be kept.
    fn encode_but(&self, known: usize, out: &mut Encoder) {
        out.timeline(self.line);
        out.u64(known as u64);
        if known > 0 {
            out.time(self.open[0].start);
        }
        let (known, new) = self.open.split_at(known);
        out.u64(new.len() as u64);
        // Panes mostly follow each other, and are as long.
        let last = known.last();
        let mut start = last.map_or(EPOCH, |pane| pane.start);
        let mut length = Timespan::ZERO;
        for pane in new {
            let of_pane = pane.last_end.since(pane.start);
            out.span(pane.start.since(start));
            out.i64(of_pane.as_micros().wrapping_sub(length.as_micros()));
            (start, length) = (pane.start, of_pane);
            for accumulator in &pane.accumulators {
                accumulator.encode(out);
            }
        }
    }

    /// Reads what has changed since the state that this is.
    pub(super) fn decode_changes(
        &mut self,
        aggregates: &[Aggregate],
        from: &mut Decoder<'_>,
    ) -> Result<(), StateError> {
        self.line = from.timeline(usize::MAX)?;
        let known = usize::try_from(from.u64()?).unwrap_or(usize::MAX);
        if known > 0 {
            let first = from.time()?;
            self.open.retain(|pane| pane.start >= first);
        }
        self.open.truncate(known);
        if self.open.len() < known {
            return Err(StateError::Invalid { what: "pane" });
        }
        let last = self.open.last();
        let mut start = last.map_or(EPOCH, |pane| pane.start);
        let mut length = Timespan::ZERO;
        for _ in 0..from.u64()? {
            start = start.plus(from.span()?);
            length = Timespan::from_micros(length.as_micros().wrapping_add(from.i64()?));
            let accumulators = aggregates.iter().map(|one| Accumulator::decode(one, from));
            let accumulators = accumulators.collect::<Result<_, _>>()?;
            self.open.push(Pane {
                start,
                last_end: start.plus(length),
                accumulators,
            });
        }
        Ok(())
    }
}
