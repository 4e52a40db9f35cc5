//! The checks of QARTOD (the quality manuals of the US ocean observing system) as the `ioos_qc` library computes them.
//!
//! Flags: 1 good, 2 not evaluated, 3 suspect, 4 bad, 9 missing.

use std::collections::VecDeque;

use super::{double, row};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timespan, Value};

const GOOD: i64 = 1;
const NOT_EVALUATED: i64 = 2;
const SUSPECT: i64 = 3;
const BAD: i64 = 4;
const MISSING: i64 = 9;

/// Whether a value is outside of bounds, which are inclusive.
pub(super) fn gross_range(value: Option<f64>, fail: [f64; 2], suspect: [f64; 2]) -> i64 {
    let outside = |value: f64, [low, high]: [f64; 2]| value < low || value > high;
    match value {
        None => MISSING,
        Some(value) if outside(value, fail) => BAD,
        Some(value) if outside(value, suspect) => SUSPECT,
        Some(_) => GOOD,
    }
}

/// The two values before the current one, the newest last; missing ones count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spike {
    last: [Option<f64>; 2],
    known: u8,
}

impl Spike {
    /// The flag of the value before this one, which has both its neighbours now, and that value; NULL at the first.
    pub(super) fn take(&mut self, value: Option<f64>, suspect: f64, fail: f64) -> Value {
        let [before, judged] = self.last;
        let known = self.known;
        self.last = [judged, value];
        self.known = (known + 1).min(2);
        let flag = match (known, before, judged, value) {
            (0, ..) => return Value::Null,
            (_, _, None, _) => MISSING,
            (2, Some(before), Some(judged), Some(after)) => {
                let spike = (judged - f64::midpoint(before, after)).abs();
                if spike > fail {
                    BAD
                } else if spike > suspect {
                    SUSPECT
                } else {
                    GOOD
                }
            }
            _ => NOT_EVALUATED,
        };
        row([Value::Int(flag), double(judged)])
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u8(self.known);
        self.last.iter().for_each(|last| optional(*last, out));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            known: from.u8()?,
            last: [read_optional(from)?, read_optional(from)?],
        })
    }
}

/// The value before the current one, missing or not, and its time in microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RateOfChange {
    last: Option<f64>,
    time: i64,
}

impl RateOfChange {
    /// A value is suspect if it is farther from the one before than the threshold allows per second; good where that
    /// one is missing.
    pub(super) fn take(&mut self, value: Option<f64>, time: i64, threshold: f64) -> i64 {
        let last = std::mem::replace(&mut self.last, value);
        let seconds = time.saturating_sub(std::mem::replace(&mut self.time, time)) as f64 / 1e6;
        match (last, value) {
            (_, None) => MISSING,
            (Some(last), Some(value)) if (value - last).abs() / seconds > threshold => SUSPECT,
            _ => GOOD,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        optional(self.last, out);
        out.i64(self.time);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            last: read_optional(from)?,
            time: from.i64()?,
        })
    }
}

/// Extremes that the range of a flat line needs are kept up to so many, of each side. Beyond that the two oldest
/// become one that has the later time and the wider value: a flat line is then flagged later, never wrongly.
const MAX_EXTREMES: usize = 64;

/// A time, and an extreme from there on.
type Extremes = VecDeque<(EventTime, f64)>;

/// The range of the last values: what may yet be the least or the greatest of a window that ends later.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FlatLine {
    first: Option<EventTime>,
    low: Extremes,
    high: Extremes,
}

impl FlatLine {
    /// A value is suspect or bad if the values of the first or the second span up to it, both ends included, have a
    /// range below the tolerance. Rows before the first whole span are good.
    pub(super) fn take(
        &mut self,
        value: Option<f64>,
        time: EventTime,
        tolerance: f64,
        [suspect, bad]: [Timespan; 2],
    ) -> i64 {
        let first = *self.first.get_or_insert(time);
        let longest = time.minus(suspect.max(bad));
        for extremes in [&mut self.low, &mut self.high] {
            while extremes.front().is_some_and(|(at, _)| *at < longest) {
                extremes.pop_front();
            }
        }
        let Some(value) = value else {
            return MISSING;
        };
        push(&mut self.low, time, value, |held| held >= value, f64::min);
        push(&mut self.high, time, value, |held| held <= value, f64::max);
        let flat = |span: Timespan| {
            let from = time.minus(span);
            let extreme = |of: &Extremes| {
                let found = of.iter().find(|(at, _)| *at >= from);
                found.map_or(value, |(_, extreme)| *extreme)
            };
            first <= from && extreme(&self.high) - extreme(&self.low) < tolerance
        };
        if flat(bad) {
            BAD
        } else if flat(suspect) {
            SUSPECT
        } else {
            GOOD
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bool(self.first.is_some());
        out.time(self.first.unwrap_or(EventTime::MIN));
        for extremes in [&self.low, &self.high] {
            out.u64(extremes.len() as u64);
            for (at, extreme) in extremes {
                out.time(*at);
                out.f64(*extreme);
            }
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let known = from.bool()?;
        let first = Some(from.time()?).filter(|_| known);
        let mut read = Self {
            first,
            ..Self::default()
        };
        for extremes in [&mut read.low, &mut read.high] {
            for _ in 0..from.count("extremes")? {
                extremes.push_back((from.time()?, from.f64()?));
            }
        }
        Ok(read)
    }
}

/// Adds a value, before which what it surpasses no longer matters.
fn push(
    extremes: &mut Extremes,
    time: EventTime,
    value: f64,
    surpassed: impl Fn(f64) -> bool,
    wider: impl Fn(f64, f64) -> f64,
) {
    while extremes.back().is_some_and(|(_, held)| surpassed(*held)) {
        extremes.pop_back();
    }
    extremes.push_back((time, value));
    if extremes.len() > MAX_EXTREMES
        && let (Some((_, oldest)), Some(next)) = (extremes.pop_front(), extremes.front_mut())
    {
        next.1 = wider(oldest, next.1);
    }
}

fn optional(value: Option<f64>, out: &mut Encoder) {
    out.bool(value.is_some());
    if let Some(value) = value {
        out.f64(value);
    }
}

fn read_optional(from: &mut Decoder<'_>) -> Result<Option<f64>, StateError> {
    from.bool()?.then(|| from.f64()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;

    /// Values a minute apart; those that are no number are missing.
    fn minutes(values: &[f64]) -> impl Iterator<Item = (EventTime, Option<f64>)> {
        values.iter().enumerate().map(|(i, value)| {
            let time = EventTime::from_micros(i as i64 * 60_000_000);
            (time, Some(*value).filter(|value| value.is_finite()))
        })
    }

    #[test]
    fn flags_are_those_of_the_reference() {
        let flags: Vec<i64> = minutes(&[-1.0, 0.0, 1.0, 4.0, 4.5, 5.0, 5.01, NAN, 2.0])
            .map(|(_, value)| gross_range(value, [0.0, 5.0], [1.0, 4.0]))
            .collect();
        assert_eq!(flags, [4, 3, 1, 1, 3, 3, 4, 9, 1]);
        let mut rate = RateOfChange::default();
        let flags: Vec<i64> = minutes(&[
            2.0, 10.0, 2.1, 3.0, 4.0, 5.0, 7.0, 10.0, 0.0, 2.0, 2.2, 2.0, 1.0, 2.0, 3.0, 90.0,
            91.0, 92.0, 93.0, 1.0,
        ])
        .map(|(time, value)| rate.take(value, time.as_micros(), 5.0 / 60.0))
        .collect();
        assert_eq!(
            flags,
            [1, 3, 3, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 3]
        );
        let mut flat = FlatLine::default();
        let spans = [Timespan::from_secs(180), Timespan::from_secs(300)];
        let flags: Vec<i64> = minutes(&[
            1.0, 2.0, 2.0001, 2.0, 2.0001, 2.0, 2.0001, 2.0, 4.0, 5.0, 3.0, 3.0001, 3.0005,
            3.00001, NAN, 3.0, 3.0, 3.0, 6.0, 7.0,
        ])
        .map(|(time, value)| flat.take(value, time, 0.01, spans))
        .collect();
        assert_eq!(
            flags,
            [1, 1, 1, 1, 3, 3, 4, 4, 1, 1, 1, 1, 1, 3, 9, 4, 4, 4, 1, 1]
        );
    }

    fn spikes(values: &[f64]) -> Vec<i64> {
        let mut spike = Spike::default();
        let flags = minutes(values).map(|(_, value)| spike.take(value, 0.5, 1.0));
        let flags = flags.filter_map(|result| match result {
            Value::Row(fields) => match fields[0] {
                Value::Int(flag) => Some(flag),
                _ => None,
            },
            _ => None,
        });
        flags.collect()
    }

    /// The last value is judged when another comes.
    #[test]
    fn spikes_are_those_of_the_reference_one_row_late() {
        let values = [
            3.0, 4.99, 5.0, 6.0, 8.0, 6.0, 6.0, 6.75, 6.0, 6.0, 5.3, 6.0, 6.0, 9.0, 5.0,
        ];
        assert_eq!(spikes(&values), [2, 3, 1, 1, 4, 3, 1, 3, 1, 1, 3, 1, 4, 4]);
        let values = [3.0, 3.4, 3.1, 9.0, 3.2, 3.3, 3.1, NAN, 3.2, 3.0];
        assert_eq!(spikes(&values), [2, 1, 4, 4, 4, 1, 2, 9, 2]);
    }

    /// A drift keeps every value as an extreme; the bound on them delays a flag, and makes none.
    #[test]
    fn a_flat_line_of_many_extremes_is_never_flagged_wrongly() {
        let span = Timespan::from_secs(200);
        let mut flat = FlatLine::default();
        let mut values = Vec::new();
        for i in 0..2_000_i64 {
            let time = EventTime::from_micros(i * 1_000_000);
            let value = if i % 700 < 500 {
                (i % 700) as f64 * 0.01
            } else {
                5.0
            };
            values.push(value);
            let flag = flat.take(Some(value), time, 1.0, [span, span]);
            let from = usize::try_from(i - 200).unwrap_or_default();
            let window = &values[from..];
            let low = window.iter().copied().fold(f64::MAX, f64::min);
            let high = window.iter().copied().fold(f64::MIN, f64::max);
            let right = i >= 200 && high - low < 1.0;
            assert!(flag == GOOD || right, "wrong at {i}");
            assert!(flat.low.len() <= MAX_EXTREMES && flat.high.len() <= MAX_EXTREMES);
            if right && i % 700 > 500 + 150 {
                assert_eq!(flag, BAD, "missed at {i}");
            }
        }
    }
}
