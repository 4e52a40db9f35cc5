//! The panes of a window put together, with few merges where there are many of them.
//!
//! Time is cut into blocks as long as a window. A window reaches over at most one border between blocks, so it is a run of
//! panes that ends there and one that begins there. Of those before the border, what each and all behind it make is kept,
//! and given up pane by pane as windows move on; of those behind it, what they have made so far: two stacks, or van Herk's
//! filter. A window then costs about three merges, however many panes it has.
//!
//! Invariant: [`put_together`], which needs nothing that is kept, merges in the same order, and where borders lie follows
//! from the grid alone. Sums of doubles are therefore the same to the last bit after a restart; what is kept here is derived
//! from the panes, and never stored.
//!
//! Bound: as many accumulators as the panes of a window have.

use super::panes::View;
use super::{Accumulators, merge};
use crate::ops::accumulator::Accumulator;
use crate::plan::Aggregate;
use crate::types::EventTime;

/// A window of fewer panes is put together anew each time.
pub(super) const FEW_PANES: usize = 6;

/// What has been put together of the panes of one key.
#[derive(Debug)]
pub(super) struct Stacks {
    /// The border between two blocks.
    border: EventTime,
    /// Where the panes before it start, the earliest last.
    starts: Vec<EventTime>,
    /// For each of them, what it and all up to the border make.
    before: Vec<Accumulator>,
    /// What those from the border up to `reached` make; nothing if there are none.
    behind: Accumulators,
    reached: EventTime,
}

impl Stacks {
    /// For windows over `border`, of which the first has these panes.
    pub(super) fn new(aggregates: &[Aggregate], panes: View<'_>, border: EventTime) -> Self {
        let panes = panes.part(0..panes.before(border));
        let mut stacks = Self {
            border,
            starts: Vec::with_capacity(panes.len()),
            before: Vec::with_capacity(panes.len() * aggregates.len()),
            behind: Accumulators::new(),
            reached: border,
        };
        for at in (0..panes.len()).rev() {
            let own = stacks.before.len();
            stacks.starts.push(panes.span(at).start);
            stacks.before.extend_from_slice(panes.of(at));
            let (later, own) = stacks.before.split_at_mut(own);
            if let Some(top) = later.len().checked_sub(aggregates.len()) {
                merge(aggregates, own, &later[top..]);
            }
        }
        stacks
    }

    /// Whether it is for windows over `border`.
    pub(super) fn is_over(&self, border: EventTime) -> bool {
        self.border == border
    }

    /// Whether a pane that starts then is in it.
    pub(super) fn has(&self, start: EventTime) -> bool {
        start < self.reached
    }

    /// Puts the window up to `end` together, which has these panes and is later than those before.
    pub(super) fn window(
        &mut self,
        aggregates: &[Aggregate],
        panes: View<'_>,
        end: EventTime,
        into: &mut Accumulators,
    ) {
        let first = panes.spans().next();
        let first = first.map_or(EventTime::MAX, |span| span.start);
        while self.starts.pop_if(|start| *start < first).is_some() {
            let rest = self.before.len().saturating_sub(aggregates.len());
            self.before.truncate(rest);
        }
        for at in panes.before(self.reached)..panes.len() {
            take(aggregates, &mut self.behind, panes.of(at));
        }
        self.reached = end;
        into.clear();
        if let Some(top) = self.before.len().checked_sub(aggregates.len()) {
            into.extend(self.before[top..].iter().cloned());
        }
        if !self.behind.is_empty() {
            take(aggregates, into, &self.behind);
        }
    }
}

/// Puts panes together that are on both sides of `border`. `spare` is room for it.
pub(super) fn put_together(
    aggregates: &[Aggregate],
    panes: View<'_>,
    border: EventTime,
    into: &mut Accumulators,
    spare: &mut Accumulators,
) {
    let behind = panes.before(border);
    into.clear();
    for at in (0..behind).rev() {
        spare.clear();
        spare.extend(panes.of(at).iter().cloned());
        if !into.is_empty() {
            merge(aggregates, spare, into);
        }
        std::mem::swap(into, spare);
    }
    spare.clear();
    for at in behind..panes.len() {
        take(aggregates, spare, panes.of(at));
    }
    if !spare.is_empty() {
        take(aggregates, into, spare);
    }
}

/// Takes what is later into `into`, which may have taken nothing.
fn take(aggregates: &[Aggregate], into: &mut Accumulators, later: &[Accumulator]) {
    if into.is_empty() {
        into.extend(later.iter().cloned());
    } else {
        merge(aggregates, into, later);
    }
}

#[cfg(test)]
mod tests {
    use super::super::spans::{Span, Spans};
    use super::*;
    use crate::plan::AggregateFunction as Function;
    use crate::types::{Type, Value};

    /// Windows of 20 panes over 60, of which some are empty, and two of which change on the way.
    #[test]
    fn what_is_kept_gives_the_same_to_the_last_bit() {
        let mut sum = Aggregate::new(Function::Sum, Vec::new(), Type::Double);
        sum.argument_types = vec![Type::Double];
        let mut greatest = Aggregate::new(Function::Max, Vec::new(), Type::Double);
        greatest.argument_types = vec![Type::Double];
        let aggregates = [sum, greatest];
        let mut random = fastrand::Rng::with_seed(7);
        let mut row = |accumulators: &mut [Accumulator]| {
            let value = [Value::Double(random.f64() * 10_f64.powi(random.i32(-9..9)))];
            for (accumulator, aggregate) in accumulators.iter_mut().zip(&aggregates) {
                accumulator.update(aggregate, &value, 1);
            }
        };
        let at = EventTime::from_millis;
        let mut spans = Spans::default();
        let numbers: Vec<u32> = (0..60)
            .filter(|number| number % 7 != 3)
            .map(|number| Span {
                start: at(number),
                last_end: at(number + 20),
            })
            .map(|span| spans.take(span))
            .collect();
        let fresh = aggregates.iter().map(Accumulator::new).cycle();
        let mut accumulators: Vec<Accumulator> = fresh.take(2 * numbers.len()).collect();
        for pane in accumulators.chunks_mut(2) {
            row(pane);
        }
        let (mut kept, mut built) = (None, 0);
        let (mut quick, mut slow, mut spare) = Default::default();
        for end in 1..80 {
            if end == 30 || end == 47 {
                let late = View::new(&spans, &numbers, &accumulators, 2).before(at(end - 5));
                row(&mut accumulators[2 * late..][..2]);
                let start = spans.get(numbers[late]).start;
                kept = kept.filter(|stacks: &Stacks| !stacks.has(start));
            }
            let border = at((end - 1) / 20 * 20);
            let panes = View::new(&spans, &numbers, &accumulators, 2);
            let window = panes.part(panes.before(at(end - 20))..panes.before(at(end)));
            put_together(&aggregates, window, border, &mut slow, &mut spare);
            let stacks = match &mut kept {
                Some(stacks) if stacks.is_over(border) => stacks,
                other => {
                    built += 1;
                    other.insert(Stacks::new(&aggregates, window, border))
                }
            };
            stacks.window(&aggregates, window, at(end), &mut quick);
            assert_eq!(quick, slow, "up to {end}");
        }
        assert_eq!(built, 4 + 2, "once for each border and change");
    }
}
