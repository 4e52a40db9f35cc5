//! The running value of one aggregate: over a pane of a window, a sliding frame, or the rows of a match.
//!
//! One interface for all: `update` takes the arguments of a row, `merge` what another has taken, `retract` gives a row
//! back where that is exact, `result` reads, `encode` and `decode` carry it over a restart bit for bit. Each family of
//! aggregates has a file of its own.
//!
//! Invariants: `merge` of two accumulators is the accumulator of both inputs, the left one first, so that a hopping window
//! can be put together from panes. Every accumulator is bounded ([`Accumulator::bytes_bound`]). What has no right answer
//! (an overflow, more values than the bound) is remembered as a failure and becomes an error of the result that says
//! what to change, never a wrapped or shortened value. Many keys hold small accumulators: those fit in 16 bytes, and
//! larger ones are boxed.
//!
//! Deliberately absent: the aggregate itself (the plan has it, and every call is given it), time, and windows.

mod arguments;
mod cardinality;
mod collect;
mod exact;
mod failure;
mod kind;
mod moments;
mod quantile;
mod small;
mod stored;
mod time_weighted;

use super::Discard;
use crate::plan::{Aggregate, AggregateFunction};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Value};

use kind::Kind;

pub use arguments::Arguments;
pub use quantile::RELATIVE_ERROR;

/// Values that one aggregate of one group keeps: different ones for DISTINCT, COLLECT and PERCENTILE, all for `ARRAY_AGG`.
pub const MAX_VALUES: usize = 10_000;

/// Bytes of values that one aggregate of one group keeps.
pub const MAX_BYTES: usize = 256 * 1024;

/// A running aggregate. It takes rows of one [`Aggregate`], the same at every call.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator(Kind);

/// Whether [`Accumulator::retract`] did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Retracted {
    /// The accumulator is as if the row had never come.
    Exactly,
    /// It cannot be done exactly and nothing has changed: build a new accumulator of the rows that are left.
    Recompute,
}

impl Accumulator {
    /// One that has taken nothing.
    pub fn new(aggregate: &Aggregate) -> Self {
        Self(Kind::new(aggregate))
    }

    /// Takes a row's arguments, as many as the aggregate has. Rows whose arguments are NULL are left out, as each
    /// aggregate has it.
    ///
    /// `arrival`, from 1, grows from row to row of a key. `FIRST_VALUE` and `LAST_VALUE` are by it when accumulators are
    /// merged; where they never are, any number will do. One above all that are held ([`arrival`](Self::arrival)) is enough.
    #[inline]
    pub fn update(&mut self, aggregate: &Aggregate, arguments: &[Value], arrival: u32) {
        if !self.0.take_usual(aggregate, arguments) {
            self.take(aggregate, arguments, arrival);
        }
    }

    fn take(&mut self, aggregate: &Aggregate, arguments: &[Value], arrival: u32) {
        if takes(aggregate, arguments)
            && let Err(failure) = self.0.update(aggregate, arguments, arrival)
        {
            self.0 = Kind::Failed(failure);
        }
    }

    /// When the value that is held came, for `FIRST_VALUE` and `LAST_VALUE`; else 0.
    pub fn arrival(&self) -> u32 {
        self.0.arrival()
    }

    /// Takes what `later`, an accumulator of the same aggregate, has taken.
    #[inline]
    pub fn merge(&mut self, aggregate: &Aggregate, later: &Self) {
        if !self.0.merge_usual(aggregate, &later.0) {
            self.put_together(aggregate, later);
        }
    }

    fn put_together(&mut self, aggregate: &Aggregate, later: &Self) {
        if let Err(failure) = self.0.merge(aggregate, &later.0) {
            self.0 = Kind::Failed(failure);
        }
    }

    /// Gives back a row that was taken.
    pub fn retract(&mut self, aggregate: &Aggregate, arguments: &[Value]) -> Retracted {
        if takes(aggregate, arguments) {
            self.0.retract(aggregate, arguments)
        } else {
            Retracted::Exactly
        }
    }

    /// Whether [`retract`](Self::retract) does it for every row, unless the aggregate has failed. Sums of doubles drift and extremes
    /// forget, so a sliding frame over those is better served by merging two stacks.
    pub fn retracts(aggregate: &Aggregate) -> bool {
        Kind::new(aggregate).retracts(aggregate)
    }

    /// The aggregate's value, or why there is none. `end` is the end of the window, where there is one.
    pub fn result(&self, aggregate: &Aggregate, end: Option<EventTime>) -> Result<Value, Discard> {
        self.0.result(aggregate, end)
    }

    /// Writes the state.
    #[inline]
    pub fn encode(&self, out: &mut Encoder) {
        if !self.0.encode_usual(out) {
            self.0.encode(out);
        }
    }

    /// Reads what `encode` wrote of an accumulator of this aggregate.
    pub fn decode(aggregate: &Aggregate, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Kind::new(aggregate).decode(aggregate, from).map(Self)
    }

    /// The most bytes of memory that an accumulator of an aggregate takes, itself included. A single value that is kept
    /// as it came (MIN, MAX, `FIRST_VALUE`, `MAX_BY`) is as large as a payload allows and not counted.
    pub fn bytes_bound(aggregate: &Aggregate) -> usize {
        size_of::<Self>() + Kind::new(aggregate).bytes_bound()
    }
}

/// Whether a row counts.
fn takes(aggregate: &Aggregate, arguments: &[Value]) -> bool {
    use AggregateFunction as F;
    match aggregate.function {
        F::MaxBy | F::MinBy => arguments.last().is_some_and(|by| !by.is_null()),
        _ if aggregate.respects_nulls => true,
        _ => arguments.iter().all(|argument| !argument.is_null()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accumulator_is_small() {
        // Each key holds one or more for every open pane.
        assert!(
            size_of::<Accumulator>() <= 16,
            "{}",
            size_of::<Accumulator>()
        );
    }
}
