//! Window aggregates: `GROUP BY keys, window_start, window_end` over each kind of window.
//!
//! `aligned` has the windows whose bounds follow from the time of a row alone (TUMBLE, HOP, CUMULATE, and those that
//! come with the row), `session` those that follow from the rows of a key, `count` those that are as long as a number of
//! rows. What they share is here: how a row's keys and arguments are computed, what a window's row looks like and is
//! called, and what becomes of a late row.
//!
//! Invariants: windows are `[start, end)` and fire when the watermark reaches their last instant, `end - 1 ms` (Flink's
//! rule); a key gets a row only for windows in which it has events; the id of a row is made of the step, the key and the
//! window, and for a revision also of the late row that caused it, so that one id has one content.

mod aligned;
mod count;
mod grid;
mod lines;
mod panes;
mod session;
mod sessions;
mod spans;
mod stacks;
#[cfg(test)]
mod tests;
mod written;

use smallvec::SmallVec;

pub use grid::assign_windows;

use super::accumulator::{Accumulator, Arguments};
use super::keyed::{read_key, values_text};
use super::{Discard, Emit, Operator};
use crate::expr::{Context, EvalError, Expr};
use crate::plan::{Aggregate, LateRows, Window};
use crate::state::decode_key_into;
use crate::types::{EventTime, Fingerprint, Lineage, Row, Timespan, Value};

/// What is aggregated in windows of whatever kind.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// The input column with the event time.
    pub time: usize,
    /// The grouping keys beside the window, over the input.
    pub keys: Vec<Expr>,
    /// What is computed.
    pub aggregates: Vec<Aggregate>,
    /// What becomes of rows whose window has closed.
    pub late: LateRows,
    /// Identity of the step.
    pub fingerprint: Fingerprint,
}

/// The operator of a window aggregate. `max_keys` bounds its state.
pub fn window_aggregate(
    window: &Window,
    aggregation: Aggregation,
    max_keys: usize,
) -> Box<dyn Operator> {
    match window {
        Window::Session { gap, partition } => Box::new(session::SessionAggregate::new(
            *gap,
            partition,
            aggregation,
            max_keys,
        )),
        Window::Count { size, slide, .. } => Box::new(count::CountAggregate::new(
            *size,
            *slide,
            aggregation,
            max_keys,
        )),
        _ => Box::new(aligned::AlignedAggregate::new(
            window,
            aggregation,
            max_keys,
        )),
    }
}

/// The running aggregates of a pane or window, in the order of the plan.
type Accumulators = SmallVec<[Accumulator; 2]>;

/// The last instant of a window that ends at `end`; the watermark that reaches it closes the window.
fn last_instant(end: EventTime) -> EventTime {
    end.minus(Timespan::MILLISECOND)
}

/// A point in time of a row.
fn time_of(row: &[Value], column: usize) -> Option<EventTime> {
    match row[column] {
        Value::Timestamp(micros) => Some(EventTime::from_micros(micros)),
        _ => None,
    }
}

/// Takes `from` into `into`, which came before.
fn merge(aggregates: &[Aggregate], into: &mut [Accumulator], from: &[Accumulator]) {
    for ((into, from), aggregate) in into.iter_mut().zip(from).zip(aggregates) {
        into.merge(aggregate, from);
    }
}

/// The place in the order of arrival of a row that comes after all that `held` have taken.
fn next_arrival<'a>(held: impl Iterator<Item = &'a Accumulator>) -> u32 {
    let last = held.map(Accumulator::arrival).max();
    last.map_or(1, |last| last.saturating_add(1))
}

/// What all kinds of windows share.
#[derive(Debug)]
struct Shared {
    plan: Aggregation,
    /// Accumulators that have taken nothing.
    empty: Accumulators,
    /// Whether an aggregate goes by the order of arrival, which merging must not lose.
    by_arrival: bool,
    /// The arguments of the aggregates for the row at hand.
    arguments: Arguments,
    output: Row,
    identity: Vec<u8>,
}

/// The bounds of a window, and its time as a row.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    start: EventTime,
    end: EventTime,
}

impl Shared {
    fn new(plan: Aggregation) -> Self {
        use crate::plan::AggregateFunction as Function;
        let first_or_last =
            |a: &Aggregate| matches!(a.function, Function::FirstValue | Function::LastValue);
        let arguments = Arguments::new(&plan.aggregates);
        Self {
            empty: plan.aggregates.iter().map(Accumulator::new).collect(),
            by_arrival: plan.aggregates.iter().any(first_or_last),
            plan,
            arguments,
            output: Row::new(),
            identity: Vec::new(),
        }
    }

    /// Computes the key of a row, into `key`, and the arguments.
    fn evaluate(
        &mut self,
        row: &[Value],
        context: &Context,
        key: &mut Vec<u8>,
    ) -> Result<(), EvalError> {
        read_key(&self.plan.keys, row, context, key)?;
        self.arguments.evaluate(&self.plan.aggregates, row, context)
    }

    /// Has accumulators take the row for which the arguments were computed.
    fn update(&self, row: &[Value], accumulators: &mut [Accumulator], arrival: u32) {
        self.arguments
            .update(&self.plan.aggregates, row, accumulators, arrival);
    }

    /// The keys of a row for people.
    fn key_text(&self, row: &[Value], context: &Context) -> String {
        let keys = self.plan.keys.iter();
        let values: Row = keys.filter_map(|key| key.eval(row, context).ok()).collect();
        values_text(&values)
    }

    /// Gives a window's row: the keys, the aggregates, the window's start, end and time. `caused_by` is the late row
    /// of a revision; `key_bytes` are those of all keys.
    fn emit(
        &mut self,
        keys: impl Iterator<Item = Value>,
        key_bytes: &[&[u8]],
        window: Bounds,
        accumulators: &[Accumulator],
        caused_by: Option<Lineage>,
        emit: &mut dyn Emit,
    ) {
        let lineage = self.identify(key_bytes, window, caused_by);
        self.output.clear();
        self.output.extend(keys);
        self.emit_row(lineage, window, accumulators, emit);
    }

    /// The same for keys that stand in their bytes in the order of the row.
    fn emit_of_key(
        &mut self,
        key: &[u8],
        window: Bounds,
        accumulators: &[Accumulator],
        caused_by: Option<Lineage>,
        emit: &mut dyn Emit,
    ) {
        let lineage = self.identify(&[key], window, caused_by);
        self.output.clear();
        match decode_key_into(key, &mut self.output) {
            Ok(()) => self.emit_row(lineage, window, accumulators, emit),
            Err(error) => discard_corrupt(&error, emit),
        }
    }

    /// What a window's row is called.
    fn identify(
        &mut self,
        key_bytes: &[&[u8]],
        window: Bounds,
        caused_by: Option<Lineage>,
    ) -> Lineage {
        let identity = &mut self.identity;
        identity.clear();
        for bytes in key_bytes {
            identity.extend_from_slice(bytes);
        }
        identity.extend_from_slice(&window.start.as_micros().to_le_bytes());
        identity.extend_from_slice(&window.end.as_micros().to_le_bytes());
        if let Some(Lineage(cause)) = caused_by {
            identity.extend_from_slice(&cause.to_le_bytes());
        }
        Lineage::derived(self.plan.fingerprint, identity)
    }

    /// Accumulators that have taken nothing.
    fn fresh(&self) -> Accumulators {
        let mut fresh = Accumulators::with_capacity(self.empty.len());
        fresh.extend(self.empty.iter().cloned());
        fresh
    }

    /// Gives a row whose keys are in the output already.
    fn emit_row(
        &mut self,
        lineage: Lineage,
        window: Bounds,
        accumulators: &[Accumulator],
        emit: &mut dyn Emit,
    ) {
        let Bounds { start, end } = window;
        let output = &mut self.output;
        for (accumulator, aggregate) in accumulators.iter().zip(&self.plan.aggregates) {
            match accumulator.result(aggregate, Some(end)) {
                Ok(value) => output.push(value),
                Err(Discard { reason, detail }) => {
                    let key = values_text(&output[..self.plan.keys.len()]);
                    let detail = format!("window [{start}, {end}) of key {key}: {detail}");
                    emit.discard(Discard { reason, detail });
                    return;
                }
            }
        }
        output.push(Value::Timestamp(start.as_micros()));
        output.push(Value::Timestamp(end.as_micros()));
        output.push(Value::Timestamp(last_instant(end).as_micros()));
        emit.row(output, lineage);
    }

    /// Puts a late row where the table says. `missed` is the last window that it would have counted in.
    fn late(
        &mut self,
        row: &[Value],
        lineage: Lineage,
        missed: Bounds,
        watermark: EventTime,
        emit: &mut dyn Emit,
    ) {
        let Bounds { start, end } = missed;
        let allowed = match self.plan.late {
            LateRows::Table => {
                let output = &mut self.output;
                output.clear();
                output.extend_from_slice(row);
                output.push(Value::Timestamp(start.as_micros()));
                output.push(Value::Timestamp(end.as_micros()));
                emit.count("late_to_table");
                emit.late(output, lineage);
                return;
            }
            LateRows::DeadLetter => String::new(),
            LateRows::Update { allowed } => format!(", and {allowed} of allowed lateness are over"),
        };
        let detail = format!(
            "late: its window [{start}, {end}) closed when the watermark reached {watermark}{allowed}"
        );
        emit.discard(Discard {
            reason: "late",
            detail,
        });
    }
}

/// Discards a row without event time.
fn discard_timeless(emit: &mut dyn Emit) {
    let detail = "the event time is NULL, so the row belongs to no window".to_owned();
    emit.discard(Discard {
        reason: "null_time",
        detail,
    });
}

/// Discards a row of a key for which there is no room.
fn discard_new_key(key: &str, keys: usize, emit: &mut dyn Emit) {
    let detail = format!("key {key} is new and limits.max_keys = {keys} keys have open windows");
    emit.discard(Discard {
        reason: "max_keys",
        detail,
    });
}

/// Tells of a key that cannot be read back.
fn discard_corrupt(error: &crate::state::StateError, emit: &mut dyn Emit) {
    let detail = format!("the key of a window cannot be read: {error}");
    emit.discard(Discard {
        reason: "corrupt_key",
        detail,
    });
}
