//! How the open panes of a key are written down.
//!
//! A pane is written when it has changed: of a window of many panes mostly the last. Where it lies is told from the pane
//! that was written before it, which is mostly the same one of another key, and takes two bytes.

use super::panes::{OpenPanes, Panes, View};
use super::spans::Span;
use crate::ops::accumulator::Accumulator;
use crate::plan::Aggregate;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timeline};

/// The pane that was written or read last of a piece of state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before(Span);

impl Default for Before {
    /// At the begin of a piece.
    fn default() -> Self {
        Self(Span {
            start: EventTime::from_micros(0),
            last_end: EventTime::from_micros(0),
        })
    }
}

impl Before {
    /// Writes where a pane lies.
    fn write(&mut self, span: Span, out: &mut Encoder) {
        let start = span.start.as_micros();
        out.i64(start.wrapping_sub(self.0.start.as_micros()));
        out.i64(length(span).wrapping_sub(length(self.0)));
        self.0 = span;
    }

    fn read(&mut self, from: &mut Decoder<'_>) -> Result<Span, StateError> {
        let start = self.0.start.as_micros().wrapping_add(from.i64()?);
        let length = length(self.0).wrapping_add(from.i64()?);
        self.0 = Span {
            start: EventTime::from_micros(start),
            last_end: EventTime::from_micros(start.wrapping_add(length)),
        };
        Ok(self.0)
    }
}

/// Times at the edge wrap round, and back when they are read.
const fn length(span: Span) -> i64 {
    let (start, end) = (span.start.as_micros(), span.last_end.as_micros());
    end.wrapping_sub(start)
}

/// Writes all but the first `known` panes, which need only be kept.
pub(super) fn encode(
    line: Timeline,
    panes: View<'_>,
    known: usize,
    before: &mut Before,
    out: &mut Encoder,
) {
    if line == Timeline::SHARED && known == 0 && panes.len() == 1 && panes.span(0) == before.0 {
        // As nearly all are: what is below, in one.
        out.raw([0, 0, 1, 0, 0]);
        for accumulator in panes.accumulators() {
            accumulator.encode(out);
        }
        return;
    }
    out.timeline(line);
    out.u64(known as u64);
    if known > 0 {
        before.write(panes.span(0), out);
        *before = Before(panes.span(known - 1));
    }
    out.u64((panes.len() - known) as u64);
    for at in known..panes.len() {
        before.write(panes.span(at), out);
        for accumulator in panes.of(at) {
            accumulator.encode(out);
        }
    }
}

/// Reads what has changed of the panes of a key.
pub(super) fn decode(
    aggregates: &[Aggregate],
    open: &mut OpenPanes,
    slot: u32,
    panes: &mut Panes,
    before: &mut Before,
    from: &mut Decoder<'_>,
) -> Result<(), StateError> {
    const INVALID: StateError = StateError::Invalid { what: "pane" };
    open.set_line(slot, from.timeline(usize::MAX)?);
    let known = usize::try_from(from.u64()?).unwrap_or(usize::MAX);
    let mut left = known;
    if known > 0 {
        let first = before.read(from)?;
        open.retain(slot, panes, |span| {
            let kept = span >= first && left > 0;
            left -= usize::from(kept);
            kept
        });
        if left > 0 {
            return Err(INVALID);
        }
        *before = Before(open.view(slot, *panes).span(known - 1));
    } else {
        open.retain(slot, panes, |_| false);
    }
    for _ in 0..from.u64()? {
        let span = before.read(from)?;
        let (accumulators, new) = open.take(slot, panes, span);
        if !new {
            return Err(INVALID);
        }
        for (place, aggregate) in accumulators.iter_mut().zip(aggregates) {
            *place = Accumulator::decode(aggregate, from)?;
        }
    }
    open.written(panes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::super::super::keyed::{KeyState, Keyed};
    use super::*;
    use crate::plan::AggregateFunction;
    use crate::types::Type;

    /// A key's panes with what each has counted, as a list.
    type Listed = Vec<(Span, u64)>;

    struct Held {
        aggregates: [Aggregate; 2],
        state: Keyed<Panes>,
        open: OpenPanes,
    }

    impl Held {
        fn new() -> Self {
            let count = || Aggregate::new(AggregateFunction::Count, Vec::new(), Type::BigInt);
            let aggregates = [count(), count()];
            let empty = aggregates.iter().map(Accumulator::new).collect();
            Self {
                aggregates,
                state: Keyed::new(100),
                open: OpenPanes::new(empty),
            }
        }

        fn listed(&self, slot: u32) -> Listed {
            let view = self.open.view(slot, *self.state.get(slot));
            let counts = (0..view.len()).map(|at| {
                let counted = view.of(at).iter().zip(&self.aggregates);
                let mut counted = counted.map(|(one, of)| one.result(of, None).expect("a count"));
                let first = counted.next().expect("there are two");
                assert_eq!(counted.next().as_ref(), Some(&first));
                format!("{first:?}")
            });
            let number = |text: String| text[4..text.len() - 1].parse().expect("Int(…)");
            view.spans().zip(counts.map(number)).collect()
        }

        fn seal(&mut self) -> Vec<u8> {
            let (mut out, mut before) = (Encoder::new(), Before::default());
            let Self { state, open, .. } = self;
            state.seal_by(&mut out, |slot, panes, out| {
                let (view, known) = (open.view(slot, *panes), open.known(*panes));
                encode(open.line(slot), view, known, &mut before, out);
                open.written(panes);
            });
            out.into_bytes()
        }

        fn take_over(&mut self, bytes: &[u8]) {
            let (mut from, mut before) = (Decoder::new(bytes), Before::default());
            if from.is_empty() {
                return;
            }
            let Self {
                aggregates,
                state,
                open,
            } = self;
            let read = state.restore_by(&mut from, |slot, panes, from| match from {
                Some(from) => decode(aggregates, open, slot, panes, &mut before, from),
                None => {
                    open.retain(slot, panes, |_| false);
                    Ok(())
                }
            });
            assert_eq!(read, Ok(()));
        }
    }

    /// Panes as they come with rows: they may lie over each other, and begin or end together.
    #[test]
    fn panes_are_a_sorted_list_and_come_back_from_what_has_changed() {
        for seed in 0..60 {
            let mut random = Rng::with_seed(seed);
            let (mut held, mut copy) = (Held::new(), Held::new());
            let mut lists: [Listed; 3] = Default::default();
            for _ in 0..400 {
                let key = random.usize(..3);
                let (name, list) = ([key as u8], &mut lists[key]);
                match random.u8(..10) {
                    0 => {
                        let bytes = held.seal();
                        copy.take_over(&bytes);
                        for (key, list) in lists.iter().enumerate() {
                            let found = copy.state.find(&[key as u8]);
                            let found = found.map_or_else(Vec::new, |slot| copy.listed(slot));
                            assert_eq!(found, *list, "seed {seed}");
                        }
                    }
                    1..7 => {
                        let start = random.i64(0..6);
                        let span = Span {
                            start: EventTime::from_millis(start),
                            last_end: EventTime::from_millis(start + 1 + random.i64(0..4)),
                        };
                        let slot = held.state.slot(&name).expect("there is room");
                        held.open.set_line(slot, Timeline(key as u32));
                        let panes = held.state.change(slot);
                        let (accumulators, new) = held.open.take(slot, panes, span);
                        for (one, of) in accumulators.iter_mut().zip(&held.aggregates) {
                            one.update(of, &[], 1);
                        }
                        match list.binary_search_by_key(&span, |(known, _)| *known) {
                            Ok(at) => list[at].1 += 1,
                            Err(at) => list.insert(at, (span, 1)),
                        }
                        assert_eq!(new, list.contains(&(span, 1)));
                        assert_eq!(held.open.line(slot), Timeline(key as u32));
                    }
                    way => {
                        let Some(slot) = held.state.find(&name) else {
                            continue;
                        };
                        let panes = held.state.change(slot);
                        if way == 7 {
                            let gone = random.usize(..=list.len());
                            held.open.drop_first(slot, panes, gone);
                            list.drain(..gone);
                        } else if way == 8 && list.len() > 1 {
                            let counts = list.drain(1..).map(|(_, count)| count);
                            let sum = counts.sum::<u64>();
                            list[0].1 += sum;
                            let view = held.open.view(slot, *panes);
                            let mut merged: super::super::Accumulators = view.of(0).into();
                            for at in 1..view.len() {
                                super::super::merge(&held.aggregates, &mut merged, view.of(at));
                            }
                            let all = 0..view.len();
                            held.open.fold(slot, panes, all, &mut merged);
                        } else {
                            let end = EventTime::from_millis(random.i64(0..8));
                            let kept = |span: Span| span.last_end > end;
                            held.open.retain(slot, panes, kept);
                            list.retain(|(span, _)| kept(*span));
                        }
                        if held.state.get(slot).is_empty() {
                            held.state.emptied();
                        }
                        assert_eq!(held.listed(slot), *list, "seed {seed}");
                    }
                }
            }
        }
    }
}
