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

/// Extremes that the range of a flat line needs are kept up to so many, of each side. Beyond that those of one bucket
/// become one.
const MAX_EXTREMES: usize = 64;

/// The buckets of a span. A window, with both its ends, meets at most two more of them, so it fits.
const BUCKETS: i64 = 60;

/// A time, and an extreme from there on; the oldest first.
type Extremes = VecDeque<(EventTime, f64)>;

/// The range of the last values, over a span for each of the two flags.
///
/// What may yet be the least or the greatest of a window is kept as it is, so the range is exact, up to
/// [`MAX_EXTREMES`] on each side. A drift has more: then extremes that lie in the same sixtieth of the span become one,
/// with the latest time and the widest value of them. So a value counts for up to a sixtieth of the span longer than it
/// should: a flat line is then flagged that much later, and never wrongly.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FlatLine {
    first: Option<EventTime>,
    suspect: Window,
    bad: Window,
}

impl FlatLine {
    /// A value is suspect or bad if the values of the first or the second span up to it, both ends included, have a
    /// range below the tolerance. Rows before the first whole span are good.
    pub(super) fn take(
        &mut self,
        value: Option<f64>,
        time: EventTime,
        tolerance: f64,
        [suspect, bad]: [Option<Timespan>; 2],
    ) -> i64 {
        let first = *self.first.get_or_insert(time);
        let flat = |window: &mut Window, span: Option<Timespan>| {
            let range = span.and_then(|span| window.range(value, time, span));
            let whole = span.is_some_and(|span| first <= time.minus(span));
            whole && range.is_some_and(|range| range < tolerance)
        };
        let suspect = flat(&mut self.suspect, suspect);
        let bad = flat(&mut self.bad, bad);
        match value {
            None => MISSING,
            Some(_) if bad => BAD,
            Some(_) if suspect => SUSPECT,
            Some(_) => GOOD,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bool(self.first.is_some());
        out.time(self.first.unwrap_or(EventTime::MIN));
        self.suspect.encode(out);
        self.bad.encode(out);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let known = from.bool()?;
        Ok(Self {
            first: Some(from.time()?).filter(|_| known),
            suspect: Window::decode(from)?,
            bad: Window::decode(from)?,
        })
    }
}

/// The values of a span that are or may become its least or its greatest.
#[derive(Clone, Debug, Default, PartialEq)]
struct Window {
    low: Extremes,
    high: Extremes,
}

impl Window {
    /// The range of the values of a span up to this one, which is part of it if it is not missing.
    fn range(&mut self, value: Option<f64>, time: EventTime, span: Timespan) -> Option<f64> {
        let from = time.minus(span);
        for extremes in [&mut self.low, &mut self.high] {
            while extremes.front().is_some_and(|(at, _)| *at < from) {
                extremes.pop_front();
            }
        }
        if let Some(value) = value {
            push(&mut self.low, (time, value), span, |held| held >= value);
            push(&mut self.high, (time, value), span, |held| held <= value);
        }
        let (low, high) = (self.low.front()?, self.high.front()?);
        Some(high.1 - low.1)
    }

    fn encode(&self, out: &mut Encoder) {
        for extremes in [&self.low, &self.high] {
            out.u64(extremes.len() as u64);
            for (at, extreme) in extremes {
                out.time(*at);
                out.f64(*extreme);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut read = Self::default();
        for extremes in [&mut read.low, &mut read.high] {
            let count = from.count("extremes")?;
            if count > MAX_EXTREMES {
                return Err(StateError::Invalid { what: "extremes" });
            }
            for _ in 0..count {
                extremes.push_back((from.time()?, from.f64()?));
            }
        }
        Ok(read)
    }
}

/// Adds a value, before which what it surpasses no longer matters.
fn push(
    extremes: &mut Extremes,
    newest: (EventTime, f64),
    span: Timespan,
    surpassed: impl Fn(f64) -> bool,
) {
    while extremes.back().is_some_and(|(_, held)| surpassed(*held)) {
        extremes.pop_back();
    }
    extremes.push_back(newest);
    if extremes.len() > MAX_EXTREMES {
        let width = span.as_micros().saturating_add(BUCKETS - 1) / BUCKETS;
        let width = width.max(1);
        let bucket = |at: EventTime| at.as_micros().div_euclid(width);
        let mut merged = Extremes::with_capacity(MAX_EXTREMES);
        for (at, extreme) in extremes.drain(..) {
            match merged.back_mut() {
                // An older extreme is the wider one.
                Some((last, _)) if bucket(*last) == bucket(at) => *last = at,
                _ => merged.push_back((at, extreme)),
            }
        }
        *extremes = merged;
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
        let spans = [180, 300].map(|seconds| Some(Timespan::from_secs(seconds)));
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

    /// The flags that a look at all rows gives, for a line that was flat for so long already at each of them.
    fn exact(values: &[f64], i: usize, span: usize) -> bool {
        let window = values.get(i.saturating_sub(span)..=i).unwrap_or_default();
        let low = window.iter().copied().fold(f64::MAX, f64::min);
        let high = window.iter().copied().fold(f64::MIN, f64::max);
        i >= span && high - low < 1.0
    }

    /// Spans of few microseconds have fewer than sixty buckets.
    #[test]
    fn extremes_are_bounded_for_any_span() {
        for micros in [1, 59, 60, 61, 100, 119, 121, 10_000, i64::MAX] {
            let mut flat = FlatLine::default();
            for i in 0..5_000 {
                let spans = [Some(Timespan::from_micros(micros)), None];
                flat.take(Some(i as f64), EventTime::from_micros(i), 1.0, spans);
                assert!(flat.suspect.low.len() <= MAX_EXTREMES, "{micros}: {i}");
            }
        }
    }

    /// A drift keeps every value as an extreme: beyond the bound on them a flag comes a sixtieth of its span later, and
    /// none comes wrongly, of each span on its own.
    #[test]
    fn a_flat_line_of_many_extremes_is_flagged_a_sixtieth_of_its_span_late_and_never_wrongly() {
        const SECONDS: [usize; 2] = [100, 600];
        // A ramp that is flat and one that is not, up and down, a plateau after each.
        let values: Vec<f64> = (0..12_000_usize)
            .map(|i| {
                let part = (i % 3_000) as f64;
                let slope = [0.001, 0.002, -0.001, -0.05][i / 3_000];
                slope * part.min(2_000.0)
            })
            .collect();
        let spans = SECONDS.map(|span| Some(Timespan::from_secs(span as i64)));
        for wanted in [spans, [spans[0], None], [None, spans[1]]] {
            let mut flat = FlatLine::default();
            let mut flags = [0; 5];
            for (i, value) in values.iter().enumerate() {
                let time = EventTime::from_micros(i as i64 * 1_000_000 - 5_000_000_000);
                let flag = flat.take(Some(*value), time, 1.0, wanted);
                flags[flag as usize] += 1;
                let held = [&flat.suspect, &flat.bad].map(|window| [&window.low, &window.high]);
                let mut held = held.as_flattened().iter();
                assert!(held.all(|extremes| extremes.len() <= MAX_EXTREMES));
                for (n, worse) in [(0, SUSPECT), (1, BAD)] {
                    if wanted[n].is_none() {
                        assert_ne!(flag, worse, "{wanted:?}: row {i} of a span that is not set");
                        continue;
                    }
                    let (span, late) = (SECONDS[n], SECONDS[n].div_ceil(60));
                    let flagged = flag == worse || flag == BAD && exact(&values, i, SECONDS[1]);
                    if flagged {
                        assert!(exact(&values, i, span), "{wanted:?}: row {i} is not flat");
                    }
                    let long = exact(&values, i, span + late);
                    assert!(
                        flagged || flag == BAD || !long,
                        "{wanted:?}: row {i} is missed"
                    );
                }
            }
            assert!(flags[3] + flags[4] > 3_000, "{flags:?}");
        }
    }
}
