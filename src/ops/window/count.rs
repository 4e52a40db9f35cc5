//! `COUNT_WINDOW`: windows as long as a number of rows of a key, in order of arrival.
//!
//! A window is given when its last row has come: every `slide` rows one of the last `size` rows, the first when there are
//! `size`. Its bounds are the time of its earliest row and the millisecond after its latest, so that it is `[start, end)`
//! like any other. No row is late, and no watermark closes anything: a window that is not full waits for its rows.
//!
//! State per key: the running aggregates of its window, in panes of `slide` rows. Bound: `max_keys` keys.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed, WrittenState};
use super::super::{Accumulator, Discard, Emit, Operator};
use super::{
    Accumulators, Aggregation, Bounds, Shared, discard_corrupt, discard_new_key, discard_timeless,
    merge, next_arrival, time_of,
};
use crate::expr::Context;
use crate::state::{Decoder, Encoder, StateError, decode_key};
use crate::types::{EventTime, Lineage, Progress, Timeline, Timespan, Value};

/// Aggregates per key and number of rows.
#[derive(Debug)]
pub(super) struct CountAggregate {
    /// Panes of a window, and rows of a pane.
    panes: usize,
    slide: u64,
    shared: Shared,
    state: Keyed<Panes>,
    key_bytes: Vec<u8>,
}

/// The panes of one key; only the last is not full.
#[derive(Debug, Default)]
struct Panes(SmallVec<[Pane; 1]>);

#[derive(Debug)]
struct Pane {
    rows: u64,
    first: EventTime,
    last: EventTime,
    accumulators: Accumulators,
}

impl KeyState for Panes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl WrittenState for Panes {
    fn encode(&self, out: &mut Encoder) {
        out.u64(self.0.len() as u64);
        for pane in &self.0 {
            out.u64(pane.rows);
            out.time(pane.first);
            out.span(pane.last.since(pane.first));
            for accumulator in &pane.accumulators {
                accumulator.encode(out);
            }
        }
    }
}

impl CountAggregate {
    /// `size` is a multiple of `slide`, and both are positive.
    pub(super) fn new(size: u64, slide: u64, aggregation: Aggregation, max_keys: usize) -> Self {
        Self {
            panes: usize::try_from(size / slide).unwrap_or(usize::MAX),
            slide,
            shared: Shared::new(aggregation),
            state: Keyed::new(max_keys),
            key_bytes: Vec::new(),
        }
    }
}

impl Operator for CountAggregate {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        lineage: Lineage,
        _at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let Some(time) = time_of(row, self.shared.plan.time) else {
            return discard_timeless(emit);
        };
        if let Err(error) = self.shared.evaluate(row, context, &mut self.key_bytes) {
            return emit.discard(Discard::expression(&error));
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            let key = self.shared.key_text(row, context);
            return discard_new_key(&key, self.state.len(), emit);
        };
        let Panes(panes) = self.state.change(slot);
        let aggregates = &self.shared.plan.aggregates;
        let arrival = if self.shared.by_arrival {
            next_arrival(panes.iter().flat_map(|pane| &pane.accumulators))
        } else {
            1
        };
        if panes.last().is_none_or(|pane| pane.rows == self.slide) {
            panes.push(Pane {
                rows: 0,
                first: time,
                last: time,
                accumulators: self.shared.empty.clone(),
            });
        }
        let pane = panes.last_mut().expect("one is open");
        pane.rows += 1;
        pane.first = pane.first.min(time);
        pane.last = pane.last.max(time);
        self.shared.update(row, &mut pane.accumulators, arrival);
        if pane.rows < self.slide || panes.len() < self.panes {
            return;
        }
        let first = panes.iter().map(|pane| pane.first).min().unwrap_or(time);
        let last = panes.iter().map(|pane| pane.last).max().unwrap_or(time);
        let Pane {
            accumulators: mut merged,
            ..
        } = panes.remove(0);
        for pane in panes.iter() {
            merge(aggregates, &mut merged, &pane.accumulators);
        }
        if panes.is_empty() {
            self.state.emptied();
        }
        let window = Bounds {
            start: first,
            end: last.plus(Timespan::MILLISECOND),
        };
        // A row completes one window, so that its own lineage names it.
        let lineage = lineage.child(self.shared.plan.fingerprint, 0);
        match decode_key(&self.key_bytes) {
            Ok(key) => self.shared.output = key,
            Err(error) => return discard_corrupt(&error, emit),
        }
        self.shared.emit_row(lineage, window, &merged, emit);
    }

    fn advance(&mut self, _to: Progress, _emit: &mut dyn Emit) {}

    fn next_timer(&self, _line: Timeline) -> Option<EventTime> {
        None
    }

    fn seal(&mut self, out: &mut Encoder) -> bool {
        self.state.seal(out)
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        self.state.snapshot(piece_bytes, out);
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let aggregates = &self.shared.plan.aggregates;
        self.state.restore(from, |from| {
            let mut panes = Panes::default();
            for _ in 0..from.u64()? {
                let rows = from.u64()?;
                let first = from.time()?;
                let last = first.plus(from.span()?);
                let accumulators = aggregates.iter().map(|one| Accumulator::decode(one, from));
                panes.0.push(Pane {
                    rows,
                    first,
                    last,
                    accumulators: accumulators.collect::<Result<_, _>>()?,
                });
            }
            Ok(panes)
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {}

    fn keys(&self) -> usize {
        self.state.len()
    }
}
