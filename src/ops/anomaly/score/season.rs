//! What a value is at each hour of the day, and how far the last ones are off.
//!
//! Invariant: silent for a whole day after the hour of the first value, and in an hour until four values of it have come.

use super::tail::Tail;
use crate::state::{Decoder, Encoder, StateError};

/// The share of a new value in its hour's mean, when many have come.
const RATE: f64 = 0.03;
const LEAST_VALUES: u8 = 4;
const MICROS_PER_HOUR: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// The hour of the day on the clock.
pub(super) fn hour_of(clock_micros: i64) -> usize {
    clock_micros.div_euclid(MICROS_PER_HOUR).rem_euclid(24) as usize
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Season {
    /// When the first value came, in hours since 1970.
    first: i64,
    means: [f32; 24],
    counts: [u8; 24],
    /// How far the last ones were off, over about four and sixteen.
    errors: [f32; 2],
    tails: [Tail; 3],
    /// How many were compared.
    compared: u32,
}

impl Season {
    pub(super) fn new() -> Self {
        Self {
            first: 0,
            means: [0.0; 24],
            counts: [0; 24],
            errors: [0.0; 2],
            tails: [Tail::default(); 3],
            compared: 0,
        }
    }

    /// What is expected at an hour, and how far one is off on average; `None` before it is known.
    pub(super) fn expected(&self, time: i64, hour: usize) -> Option<(f64, f64)> {
        let known = self.counts[hour] >= LEAST_VALUES
            && time.div_euclid(MICROS_PER_HOUR) - self.first > HOURS_PER_DAY;
        known.then(|| (f64::from(self.means[hour]), self.tails[0].mean()))
    }

    /// Takes a value at a time; gives each statistic's score to `each`.
    pub(super) fn take(&mut self, value: f64, time: i64, hour: usize, each: &mut dyn FnMut(f64)) {
        if self.counts.iter().all(|count| *count == 0) {
            self.first = time.div_euclid(MICROS_PER_HOUR);
        }
        if let Some((expected, _)) = self.expected(time, hour) {
            self.compared = (self.compared + 1).min(super::MOST_COUNTED);
            let error = value - expected;
            let mut off = [error; 3];
            for (i, rate) in [0.25, 0.0625].into_iter().enumerate() {
                let smooth = f64::from(self.errors[i]);
                let smooth = smooth + rate * (error - smooth);
                self.errors[i] = smooth as f32;
                off[i + 1] = smooth;
            }
            for (tail, off) in self.tails.iter_mut().zip(off) {
                each(tail.score(off.abs(), self.compared));
                tail.learn(off.abs(), self.compared);
            }
        }
        let count = self.counts[hour];
        let rate = RATE.max(1.0 / (f64::from(count) + 1.0));
        let mean = f64::from(self.means[hour]);
        self.means[hour] = (mean + rate * (value - mean)) as f32;
        self.counts[hour] = count.saturating_add(1);
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.i64(self.first);
        self.means.iter().for_each(|mean| out.f32(*mean));
        self.counts.iter().for_each(|count| out.u8(*count));
        self.errors.iter().for_each(|error| out.f32(*error));
        self.tails.iter().for_each(|tail| tail.encode(out));
        out.u64(u64::from(self.compared));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut read = Self::new();
        read.first = from.i64()?;
        for mean in &mut read.means {
            *mean = from.f32()?;
        }
        for count in &mut read.counts {
            *count = from.u8()?;
        }
        for error in &mut read.errors {
            *error = from.f32()?;
        }
        for tail in &mut read.tails {
            *tail = Tail::decode(from)?;
        }
        read.compared = super::count(from, super::MOST_COUNTED)?;
        Ok(read)
    }
}
