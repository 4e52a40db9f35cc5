//! `TIME_WEIGHTED_AVG(x, ts)`: the average over time of a value that is sampled now and then.
//!
//! By the rule `LOCF` (the default) each sample holds until the next one, and the last one until the window ends; by
//! `LINEAR` the value moves on a straight line from sample to sample and nothing is known after the last. Nothing is
//! known before the first sample in either case: what an earlier window saw does not reach into this one. Of samples at
//! one instant the last to arrive holds. A single sample is its own average.
//!
//! Samples may come out of order: the latest [`MAX_OPEN`] or fewer are kept, sorted, and what is before them is one area.
//! A sample that belongs into that area is an error of the result, never a silent shift.

use super::failure::Failure;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Value};

/// How many samples are kept to be sorted; when there are more, half of them become an area.
pub(super) const MAX_OPEN: usize = 256;

/// A time in microseconds since 1970, and the value from then on.
type Sample = (i64, f64);

/// What holds between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Locf,
    Linear,
}

impl Rule {
    /// The rule of an aggregate's parameter.
    pub(super) fn of(parameter: Option<&Value>) -> Self {
        match parameter {
            Some(Value::Str(name)) if name == "LINEAR" => Self::Linear,
            _ => Self::Locf,
        }
    }

    /// The area under the value from one sample to the next, in value times microseconds.
    fn area(self, from: Sample, to: Sample) -> f64 {
        // In i128 no distance overflows.
        let span = (i128::from(to.0) - i128::from(from.0)) as f64;
        match self {
            // Infinity times an instant is nothing.
            _ if span == 0.0 => 0.0,
            Self::Locf => from.1 * span,
            Self::Linear => (from.1 * 0.5 + to.1 * 0.5) * span,
        }
    }
}

/// Samples that nothing can come between any more.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area {
    first: Sample,
    last: Sample,
    integral: f64,
}

impl Area {
    fn extend(this: &mut Option<Self>, sample: Sample, rule: Rule) {
        match this {
            Some(closed) => {
                closed.integral += rule.area(closed.last, sample);
                closed.last = sample;
            }
            None => {
                *this = Some(Self {
                    first: sample,
                    last: sample,
                    integral: 0.0,
                });
            }
        }
    }
}

/// The samples of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TimeWeighted {
    closed: Option<Area>,
    /// None before `closed.last`; sorted, those of one instant in order of arrival.
    open: Vec<Sample>,
}

impl TimeWeighted {
    pub(super) fn add(&mut self, sample: Sample, rule: Rule) -> Result<(), Failure> {
        if self.closed.is_some_and(|closed| sample.0 < closed.last.0) {
            return Err(Failure::Disorder);
        }
        let at = self.open.partition_point(|(time, _)| *time <= sample.0);
        self.open.insert(at, sample);
        if self.open.len() > MAX_OPEN {
            self.close(MAX_OPEN / 2, rule);
        }
        Ok(())
    }

    fn close(&mut self, count: usize, rule: Rule) {
        for sample in self.open.drain(..count) {
            Area::extend(&mut self.closed, sample, rule);
        }
    }

    fn first(&self) -> Option<Sample> {
        self.closed
            .map(|closed| closed.first)
            .or_else(|| self.open.first().copied())
    }

    fn last(&self) -> Option<Sample> {
        self.open
            .last()
            .copied()
            .or(self.closed.map(|closed| closed.last))
    }

    pub(super) fn merge(&mut self, later: &Self, rule: Rule) -> Result<(), Failure> {
        let Some(area) = later.closed else {
            return later
                .open
                .iter()
                .try_for_each(|sample| self.add(*sample, rule));
        };
        let (Some(first), Some(last)) = (self.first(), self.last()) else {
            self.clone_from(later);
            return Ok(());
        };
        if last.0 <= area.first.0 {
            self.close(self.open.len(), rule);
            // It has samples, so now it has an area.
            if let Some(closed) = &mut self.closed {
                closed.integral += rule.area(closed.last, area.first) + area.integral;
                closed.last = area.last;
            }
            self.open.clone_from(&later.open);
            return Ok(());
        }
        if self.closed.is_none() && area.last.0 < first.0 {
            let mut merged = later.clone();
            // What arrived first stands first among those of one instant.
            let mine = std::mem::take(&mut self.open);
            let theirs = std::mem::take(&mut merged.open);
            mine.into_iter()
                .chain(theirs)
                .try_for_each(|sample| merged.add(sample, rule))?;
            *self = merged;
            return Ok(());
        }
        Err(Failure::Disorder)
    }

    pub(super) fn result(&self, rule: Rule, end: Option<EventTime>) -> Value {
        let mut whole = self.closed;
        for sample in &self.open {
            Area::extend(&mut whole, *sample, rule);
        }
        let Some(Area {
            first,
            last,
            mut integral,
        }) = whole
        else {
            return Value::Null;
        };
        let mut till = last.0;
        if let (Rule::Locf, Some(end)) = (rule, end)
            && end.as_micros() > till
        {
            till = end.as_micros();
            integral += rule.area(last, (till, last.1));
        }
        let span = (i128::from(till) - i128::from(first.0)) as f64;
        Value::Double(if span > 0.0 { integral / span } else { last.1 })
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(1);
        out.bool(self.closed.is_some());
        if let Some(closed) = &self.closed {
            for (time, value) in [closed.first, closed.last] {
                out.i64(time);
                out.f64(value);
            }
            out.f64(closed.integral);
        }
        out.u64(self.open.len() as u64);
        let mut before = 0;
        for (time, value) in &self.open {
            out.i64(time.wrapping_sub(before)); // near each other: a few bytes
            out.f64(*value);
            before = *time;
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut samples = Self::default();
        if from.bool()? {
            samples.closed = Some(Area {
                first: (from.i64()?, from.f64()?),
                last: (from.i64()?, from.f64()?),
                integral: from.f64()?,
            });
        }
        let mut before: i64 = 0;
        for _ in 0..from.count("list of samples")? {
            let time = before.wrapping_add(from.i64()?);
            let value = from.f64()?;
            let sorted = samples.last().is_none_or(|(last, _)| last <= time);
            if !sorted || samples.open.len() >= MAX_OPEN {
                return Err(StateError::Invalid {
                    what: "list of samples",
                });
            }
            samples.open.push((time, value));
            before = time;
        }
        Ok(samples)
    }
}
