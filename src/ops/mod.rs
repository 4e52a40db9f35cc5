//! Floor 3: operators: synchronous state machines over rows and watermarks.
//!
//! An operator takes one row or one watermark at a time and hands what it makes to an [`Emit`]. It sees no clock, no
//! file and no other operator. Stateless steps (filter, project, unnest) are so small that the engine's graph runs
//! them itself; what is here has state, per key, and can write down what an epoch changed of it and read it back.
//!
//! Invariants: the rows an operator emits depend on the rows, their order and the watermarks alone, never on how
//! the input was cut into epochs or batches; after `restore` of all that was written it goes on as if nothing
//! had happened; rows that fire together come in the order of their key's bytes, which a restart does not change.

mod accumulator;
mod alarm;
mod anomaly;
mod join;
mod keyed;
mod over;
mod pattern;
mod spare;
mod timers;
mod unnest;
mod window;

pub use accumulator::{Accumulator, Arguments, MAX_BYTES, MAX_VALUES, RELATIVE_ERROR, Retracted};
pub use alarm::Alarms;
pub use anomaly::Detector;
pub use join::{IntervalJoin, LookupJoin, TemporalJoin};
pub use over::{Deduplicate, Over, WindowTop};
pub use pattern::Match;
pub use unnest::unnest;
pub use window::{Aggregation, assign_windows, window_aggregate};

use crate::expr::{Context, EvalError};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Progress, Row, Timeline, Value};

/// Where an operator puts what it makes.
pub trait Emit {
    /// A row for the next operators.
    fn row(&mut self, row: &[Value], lineage: Lineage);

    /// A row that is not processed, and why.
    fn discard(&mut self, discard: Discard);

    /// A row that came too late, for the table that takes those: as it came in, with the start and the end of the window
    /// that it missed behind it.
    fn late(&mut self, row: &[Value], lineage: Lineage);

    /// Counts something of the query that people should see, though nothing is lost by it.
    fn count(&mut self, what: &'static str);

    /// The rows that follow are on this timeline, at this watermark: for rows that no row and no watermark of a leading
    /// input has caused.
    fn on(&mut self, at: Progress);
}

/// A row, or part of one, that an operator could not use. Always counted by reason; kept as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    /// The short name under which it is counted.
    pub reason: &'static str,
    /// What a person needs to know of this one.
    pub detail: String,
}

impl Discard {
    /// Of a row for which an expression has no value.
    pub fn expression(error: &EvalError) -> Self {
        Self {
            reason: "expression_error",
            detail: error.to_string(),
        }
    }
}

/// A stateful operator.
///
/// Its rows may be on several timelines ([`Timeline`]); then all rows of one key are on one, and what is late or due
/// is decided on that one alone. An operator is told the watermark with each row of its leading inputs, and need not
/// remember it.
pub trait Operator: Send {
    /// Takes a row of input `input`, on the timeline and at the watermark `at`.
    fn process(
        &mut self,
        input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    );

    /// Learns that no row before or at the watermark is to come on its timeline, except late ones. Never goes back.
    fn advance(&mut self, to: Progress, emit: &mut dyn Emit);

    /// The least watermark of a timeline that will make `advance` do something; `None` if none will.
    fn next_timer(&self, line: Timeline) -> Option<EventTime>;

    /// Learns when the gateway was started, by its clock: after a restart, which is otherwise no event, and again when the
    /// clock turns out to have been wrong.
    fn started(&mut self, _start: EventTime, _now: EventTime) {}

    /// Learns what time it is by now on each timeline (its number is the place) that has been silent for the idle
    /// timeout of its table; [`EventTime::MIN`] on the others. Unlike behind a watermark, rows of before may come yet.
    fn silent(&mut self, _present: &[EventTime], _emit: &mut dyn Emit) {}

    /// Takes the rows of the table that it refers to, all of them, and again when they have changed.
    fn load(
        &mut self,
        _rows: &[Row],
        _context: &Context,
        _emit: &mut dyn Emit,
    ) -> Result<(), EvalError> {
        Ok(())
    }

    /// Writes what has changed since the last `seal`; false if nothing has.
    fn seal(&mut self, out: &mut Encoder) -> bool;

    /// Writes all state in pieces of about `piece_bytes`, each readable by `restore`.
    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8]));

    /// Applies what `seal` or `snapshot` wrote, in the order it was written.
    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError>;

    /// Goes on after `restore`, from the watermarks of that time.
    fn resume(&mut self, watermark: &dyn Fn(Timeline) -> EventTime);

    /// How many keys have state.
    fn keys(&self) -> usize;
}
