//! The functions of an OVER step, sorted by what they need: sliding frames, totals, earlier rows, detectors.

use std::ops::Range;

use super::frames::{FramePlan, Placed};
use crate::expr::{Context, EvalError, Expr};
use crate::plan::{Frame, Method, OverCall, OverFunction};
use crate::types::Value;

/// Where what a function needs is found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// An aggregate of a sliding frame: which frame, and which of its aggregates.
    Slide(usize, usize),
    /// The place of a row in a sliding frame.
    Place(usize),
    /// An aggregate of all rows up to this one, or of all up to its time.
    Total {
        which: usize,
        peers: bool,
    },
    RowNumber,
    Rank,
    DenseRank,
    Lag(usize),
    Detector(usize),
}

/// LAG: where its value and its default are among what is taken of a row.
#[derive(Clone, Debug)]
pub(super) struct LagPlan {
    pub(super) at: usize,
    pub(super) offset: usize,
    pub(super) default: bool,
}

/// The functions of a step, sorted by what they need.
#[derive(Debug)]
pub(super) struct Layout {
    /// What is taken of a row and kept with it, for sliding frames.
    pub(super) kept: Vec<Expr>,
    /// What is taken of a row until it is given.
    pub(super) once: Vec<Expr>,
    pub(super) frames: Vec<FramePlan>,
    pub(super) totals: Vec<Placed>,
    pub(super) lags: Vec<LagPlan>,
    /// Detectors, and where their inputs are among what is taken of a row.
    pub(super) detectors: Vec<(Method, Range<usize>)>,
    pub(super) sources: Vec<Source>,
}

impl Layout {
    pub(super) fn new(functions: &[OverFunction]) -> Self {
        let mut layout = Self {
            kept: Vec::new(),
            once: Vec::new(),
            frames: Vec::new(),
            totals: Vec::new(),
            lags: Vec::new(),
            detectors: Vec::new(),
            sources: Vec::new(),
        };
        for function in functions {
            let source = layout.place(function);
            layout.sources.push(source);
        }
        layout
    }

    fn place(&mut self, function: &OverFunction) -> Source {
        let frame = function.frame;
        match &function.call {
            OverCall::Aggregate(aggregate) => {
                let inputs = if frame.is_bounded() {
                    &mut self.kept
                } else {
                    &mut self.once
                };
                let placed = Placed {
                    aggregate: aggregate.clone(),
                    at: inputs.len(),
                };
                inputs.extend(aggregate.filter.iter().chain(&aggregate.arguments).cloned());
                if frame.is_bounded() {
                    let slide = self.frame(frame);
                    let aggregates = &mut self.frames[slide].aggregates;
                    aggregates.push(placed);
                    return Source::Slide(slide, aggregates.len() - 1);
                }
                self.totals.push(placed);
                Source::Total {
                    which: self.totals.len() - 1,
                    peers: frame == Frame::AllRange,
                }
            }
            OverCall::RowNumber if frame.is_bounded() => Source::Place(self.frame(frame)),
            OverCall::RowNumber => Source::RowNumber,
            OverCall::Rank => Source::Rank,
            OverCall::DenseRank => Source::DenseRank,
            OverCall::Lag {
                value,
                offset,
                default,
                ..
            } => {
                let at = self.once.len();
                self.once.push(value.clone());
                self.once.extend(default.clone());
                self.lags.push(LagPlan {
                    at,
                    offset: *offset,
                    default: default.is_some(),
                });
                Source::Lag(self.lags.len() - 1)
            }
            OverCall::Detect(detection) => {
                let first = self.once.len();
                self.once.extend(detection.inputs.iter().cloned());
                self.detectors
                    .push((detection.method.clone(), first..self.once.len()));
                Source::Detector(self.detectors.len() - 1)
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> usize {
        let known = self.frames.iter().position(|plan| plan.frame == frame);
        known.unwrap_or_else(|| {
            self.frames.push(FramePlan {
                frame,
                aggregates: Vec::new(),
            });
            self.frames.len() - 1
        })
    }

    /// What is taken of a row: what is kept with it, and what is needed once, for which there may be room.
    pub(super) fn evaluate(
        &self,
        row: &[Value],
        context: &Context,
        room: Option<Box<[Value]>>,
    ) -> Result<[Box<[Value]>; 2], EvalError> {
        let all = |exprs: &[Expr]| -> Result<Box<[Value]>, EvalError> {
            // Of the size that it will have: collecting results would have to guess, and move them in the end.
            let mut values = Vec::with_capacity(exprs.len());
            for expr in exprs {
                values.push(expr.eval(row, context)?);
            }
            Ok(values.into())
        };
        let kept = all(&self.kept)?;
        let Some(mut once) = room else {
            return Ok([kept, all(&self.once)?]);
        };
        for (place, expr) in once.iter_mut().zip(&self.once) {
            if expr.held(row).is_none_or(|value| !place.set_plain(value)) {
                *place = expr.eval(row, context)?;
            }
        }
        Ok([kept, once])
    }
}
