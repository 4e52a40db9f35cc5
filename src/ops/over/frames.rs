//! Frames with an end in the past, which slide over the rows that are kept of a key.
//!
//! An aggregate that can give rows back exactly does so. One of fixed size that cannot (a sum of doubles drifts, an
//! extreme forgets) has two stacks: the older half of the frame as aggregates of each row and all behind it, the
//! newer half as one; a result merges the two, so that a row costs two merges, however long the frame is. Any other
//! is computed anew for each result, which is as long as the frame anyway.
//!
//! Invariant: what a frame holds is decided by the rows that are kept, the frame's start, and where its stacks meet;
//! so only those are stored, and a frame that is built again gives the same bits.

use std::collections::VecDeque;

use super::super::Discard;
use super::super::accumulator::{Accumulator, Retracted};
use crate::plan::{Aggregate, AggregateFunction, Frame, MAX_FRAME_ROWS};
use crate::types::{EventTime, Value};

/// What a row is of a bounded frame: its time, and what the functions take of it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) time: EventTime,
    pub(super) inputs: Box<[Value]>,
}

/// The rows that are kept of a key, in order; each has a number.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The number of the first.
    pub(super) base: u64,
    pub(super) kept: VecDeque<Kept>,
}

impl Rows {
    /// The number of the next row.
    pub(super) fn end(&self) -> u64 {
        self.base + self.kept.len() as u64
    }

    pub(super) fn get(&self, number: u64) -> Option<&Kept> {
        let index = number.checked_sub(self.base)?;
        self.kept.get(usize::try_from(index).ok()?)
    }

    /// Forgets the rows before a number.
    pub(super) fn forget(&mut self, before: u64) {
        let count = before.saturating_sub(self.base).min(self.kept.len() as u64);
        self.kept.drain(..count as usize);
        self.base += count;
    }
}

/// An aggregate and where its arguments are among what is taken of a row.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) aggregate: Aggregate,
    pub(super) at: usize,
}

impl Placed {
    /// What the aggregate takes of a row; nothing if its FILTER says so.
    pub(super) fn arguments<'a>(&self, inputs: &'a [Value]) -> Option<&'a [Value]> {
        let mut from = self.at;
        if self.aggregate.filter.is_some() {
            if inputs.get(from) != Some(&Value::Bool(true)) {
                return None;
            }
            from += 1;
        }
        inputs.get(from..from + self.aggregate.arguments.len())
    }

    /// Has an accumulator take a row.
    pub(super) fn update(&self, accumulator: &mut Accumulator, inputs: &[Value], arrival: u32) {
        if let Some(arguments) = self.arguments(inputs) {
            accumulator.update(&self.aggregate, arguments, arrival);
        }
    }
}

/// A frame and its aggregates.
#[derive(Clone, Debug)]
pub(super) struct FramePlan {
    pub(super) frame: Frame,
    pub(super) aggregates: Vec<Placed>,
}

#[derive(Clone, Debug)]
enum Held {
    /// Rows are given back.
    One(Accumulator),
    /// Of each row of the older half, the last one first, it and all behind it in that half; and the newer half.
    Stacks {
        front: Vec<Accumulator>,
        back: Accumulator,
    },
    /// Computed when it is asked for.
    Nothing,
}

impl Held {
    /// Values of a fixed size fit in here, boxes included.
    const SMALL_BYTES: usize = 256;

    fn new(aggregate: &Aggregate) -> Self {
        let fresh = Accumulator::new(aggregate);
        if aggregate.function != AggregateFunction::Collect && Accumulator::retracts(aggregate) {
            Self::One(fresh)
        } else if Accumulator::bytes_bound(aggregate) <= Self::SMALL_BYTES {
            Self::Stacks {
                front: Vec::new(),
                back: fresh,
            }
        } else {
            Self::Nothing
        }
    }
}

/// A frame of one key.
#[derive(Debug)]
pub(super) struct Slide {
    /// The number of its first row.
    pub(super) start: u64,
    /// The number of the first row of the newer half.
    pub(super) meet: u64,
    end: u64,
    held: Box<[Held]>,
}

impl Slide {
    pub(super) fn new(plan: &FramePlan) -> Self {
        Self {
            start: 0,
            meet: 0,
            end: 0,
            held: held(plan),
        }
    }

    /// The frame that starts and whose stacks meet at these rows.
    pub(super) fn rebuilt(plan: &FramePlan, start: u64, meet: u64, rows: &Rows) -> Self {
        let mut slide = Self {
            start,
            meet,
            end: rows.end(),
            held: held(plan),
        };
        for (held, placed) in slide.held.iter_mut().zip(&plan.aggregates) {
            match held {
                Held::One(one) => *one = newer(placed, rows, start, slide.end),
                Held::Stacks { front, back } => {
                    *front = older(placed, rows, start, meet);
                    *back = newer(placed, rows, meet, slide.end);
                }
                Held::Nothing => {}
            }
        }
        slide
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Has it begin with row `to`.
    pub(super) fn begin(&mut self, plan: &FramePlan, to: u64, rows: &Rows) {
        if to <= self.start {
            return;
        }
        if to >= self.end {
            (self.start, self.meet) = (self.end, self.end);
            self.held = held(plan);
            return;
        }
        let used_up = to >= self.meet;
        for (held, placed) in self.held.iter_mut().zip(&plan.aggregates) {
            match held {
                Held::One(one) => {
                    let exact = (self.start..to).all(|number| {
                        let inputs = rows.get(number).map(|row| &*row.inputs);
                        let arguments = inputs.and_then(|inputs| placed.arguments(inputs));
                        arguments.is_none_or(|arguments| {
                            one.retract(&placed.aggregate, arguments) == Retracted::Exactly
                        })
                    });
                    if !exact {
                        *one = newer(placed, rows, to, self.end);
                    }
                }
                Held::Stacks { front, back } if used_up => {
                    *front = older(placed, rows, to, self.end);
                    *back = Accumulator::new(&placed.aggregate);
                }
                Held::Stacks { front, .. } => {
                    front.truncate((self.meet - to) as usize);
                }
                Held::Nothing => {}
            }
        }
        self.start = to;
        if used_up {
            self.meet = self.end;
        }
    }

    /// Takes the next of the rows that are kept.
    pub(super) fn add(&mut self, plan: &FramePlan, rows: &Rows) {
        let Some(row) = rows.get(self.end) else {
            return;
        };
        let arrival = arrival_of_newer(self.end, self.meet);
        for (held, placed) in self.held.iter_mut().zip(&plan.aggregates) {
            if let Held::One(newer) | Held::Stacks { back: newer, .. } = held {
                placed.update(newer, &row.inputs, arrival);
            }
        }
        self.end += 1;
    }

    /// The value of one of its aggregates at `time`.
    pub(super) fn result(
        &self,
        plan: &FramePlan,
        which: usize,
        rows: &Rows,
        time: EventTime,
    ) -> Result<Value, Discard> {
        let placed = &plan.aggregates[which];
        let aggregate = &placed.aggregate;
        match &self.held[which] {
            Held::One(one) => one.result(aggregate, Some(time)),
            Held::Stacks { front, back } => match front.last() {
                Some(older) => {
                    let mut all = older.clone();
                    all.merge(aggregate, back);
                    all.result(aggregate, Some(time))
                }
                None => back.result(aggregate, Some(time)),
            },
            Held::Nothing => {
                newer(placed, rows, self.start, self.end).result(aggregate, Some(time))
            }
        }
    }
}

fn held(plan: &FramePlan) -> Box<[Held]> {
    let aggregates = plan.aggregates.iter();
    aggregates
        .map(|placed| Held::new(&placed.aggregate))
        .collect()
}

/// Rows of the newer half count as having come after all of the older one.
fn arrival_of_newer(number: u64, first: u64) -> u32 {
    let before = MAX_FRAME_ROWS as u64 + 2;
    u32::try_from(before + (number - first)).unwrap_or(u32::MAX)
}

/// The rows from `first` to before `end`, as one.
fn newer(placed: &Placed, rows: &Rows, first: u64, end: u64) -> Accumulator {
    let mut one = Accumulator::new(&placed.aggregate);
    for number in first..end {
        if let Some(row) = rows.get(number) {
            placed.update(&mut one, &row.inputs, arrival_of_newer(number, first));
        }
    }
    one
}

/// Each row before `end` down to `first`, with all behind it.
fn older(placed: &Placed, rows: &Rows, first: u64, end: u64) -> Vec<Accumulator> {
    let mut stack: Vec<Accumulator> = Vec::new();
    for number in (first..end).rev() {
        let mut one = Accumulator::new(&placed.aggregate);
        if let Some(row) = rows.get(number) {
            let arrival = u32::try_from(number - first + 1).unwrap_or(u32::MAX);
            placed.update(&mut one, &row.inputs, arrival);
        }
        if let Some(behind) = stack.last() {
            one.merge(&placed.aggregate, behind);
        }
        stack.push(one);
    }
    stack
}
