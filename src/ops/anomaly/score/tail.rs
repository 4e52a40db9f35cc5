//! How rare a value of a statistic is: a running model of the upper tail of its distribution, in 18 bytes.
//!
//! The threshold that a tenth of the values exceed follows by steps (Robbins and Monro); what exceeds it has a
//! generalised Pareto distribution (peaks over threshold: Balkema and de Haan, Pickands), fitted by its first two
//! moments (Hosking and Wallis 1987). So a score is minus the decimal logarithm of the probability that the statistic
//! exceeds the value: 3 means once in a thousand.
//!
//! Invariants: a value is scored before it is learnt. A constant statistic has no exceedance. One value moves the model
//! by a bounded amount: means take it as at most 24 times the mean, exceedances as at most 16 times theirs, or less.
//!
//! Deliberately absent: the number of values, which the owner has for all its tails together.

use crate::state::{Decoder, Encoder, StateError};

/// What an old value's weight falls by with each new one, when many have come: about 5,000 values are remembered.
const RATE: f64 = 0.0002;

/// The part of the values that exceeds the threshold.
const EXCEEDING: f64 = 0.1;

/// Nothing is rare before so many values.
const LEAST_VALUES: u32 = 30;

/// The most that a score can be.
const MOST: f64 = 50.0;

/// The score of a value that no finite tail of the fitted shape reaches.
const BEYOND_THE_END: f64 = 20.0;

/// What an excess counts for at most, in mean ones.
const MOST_EXCESS: f64 = 16.0;

/// Exceedances beyond which each counts the same.
const COUNTED: u16 = 500;

/// The score of a value unlike all before it, where none ever exceeded the threshold.
const FIRST_OF_ITS_KIND: f64 = 2.0;

/// The tail of one statistic, which is never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in super::super) struct Tail {
    /// The threshold.
    threshold: f32,
    /// The mean of what exceeds it, and the mean of its square.
    excess: f32,
    excess_squared: f32,
    /// The mean of all values, the measure of the steps.
    mean: f32,
    /// How many exceeded it; stops at the most.
    exceeded: u16,
}

impl Tail {
    /// The mean of the statistic.
    pub(in super::super) fn mean(&self) -> f64 {
        f64::from(self.mean)
    }

    /// How rare a value is after `count` values; 0 for the nine of ten that are not.
    pub(in super::super) fn score(&self, value: f64, count: u32) -> f64 {
        let (threshold, mean) = (f64::from(self.threshold), f64::from(self.excess));
        if count < LEAST_VALUES || value <= threshold {
            return 0.0;
        }
        if mean <= 0.0 {
            return FIRST_OF_ITS_KIND.min(f64::from(count).log10());
        }
        let square = mean * mean;
        let variance = (f64::from(self.excess_squared) - square).max(1e-3 * square);
        let ratio = square / variance;
        let shape = (f64::midpoint(1.0, -ratio)).clamp(-0.2, 0.45);
        let scale = (mean * f64::midpoint(1.0, ratio)).max(0.3 * mean);
        let excess = (value - threshold) / scale;
        let rarer = if shape.abs() < 1e-4 {
            excess * std::f64::consts::LOG10_E
        } else {
            let stretched = 1.0 + shape * excess;
            if stretched <= 0.0 {
                return BEYOND_THE_END;
            }
            stretched.log10() / shape
        };
        (rarer - EXCEEDING.log10()).min(MOST)
    }

    /// Learns a value, the `count`th.
    pub(in super::super) fn learn(&mut self, value: f64, count: u32) {
        self.learn_at_most(MOST_EXCESS, value, count);
    }

    /// Learns a value, of which an excess counts as at most so many times the mean one.
    pub(super) fn learn_at_most(&mut self, most: f64, value: f64, count: u32) {
        let rate = RATE.max(1.0 / f64::from(count));
        let mut mean = f64::from(self.mean);
        let taken = if mean > 0.0 {
            value.min(24.0 * mean)
        } else {
            value
        };
        mean += rate * (taken - mean);
        self.mean = mean as f32;
        let step = mean * (3.0 * rate).min(0.5);
        let threshold = f64::from(self.threshold);
        let moved = if value > threshold {
            self.learn_excess(most, value - threshold);
            threshold + step * (1.0 - EXCEEDING)
        } else {
            threshold - step * EXCEEDING
        };
        self.threshold = moved.max(0.0) as f32;
    }

    fn learn_excess(&mut self, most: f64, excess: f64) {
        self.exceeded = (self.exceeded + 1).min(COUNTED);
        let rate = (RATE / EXCEEDING).max(1.0 / f64::from(self.exceeded));
        let (mean, squared) = (f64::from(self.excess), f64::from(self.excess_squared));
        let taken = if self.exceeded > 10 {
            excess.min(most * mean)
        } else {
            excess
        };
        let mean = mean + rate * (taken - mean);
        self.excess = mean as f32;
        self.excess_squared = (squared + rate * (taken * taken - squared)) as f32;
    }

    pub(in super::super) fn encode(&self, out: &mut Encoder) {
        for part in [self.threshold, self.excess, self.excess_squared, self.mean] {
            out.f32(part);
        }
        out.u64(u64::from(self.exceeded));
    }

    pub(in super::super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            threshold: from.f32()?,
            excess: from.f32()?,
            excess_squared: from.f32()?,
            mean: from.f32()?,
            exceeded: u16::try_from(from.u64()?)
                .ok()
                .filter(|exceeded| *exceeded <= COUNTED)
                .ok_or(StateError::Invalid { what: "count" })?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_the_logarithm_of_how_rare_a_value_is() {
        // The quantiles of an exponential distribution, in an order that is no trend.
        let mut tail = Tail::default();
        let mut at: u32 = 1;
        for count in 1..=200_000 {
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let uniform = f64::from(at) / f64::from(u32::MAX);
            tail.learn(-(1.0 - uniform).max(1e-10).ln(), count);
        }
        for (value, rare) in [(2.4, 1.04), (4.6, 2.0), (6.9, 3.0), (9.2, 4.0)] {
            let score = tail.score(value, 200_000);
            assert!((score - rare).abs() < 0.2 * rare, "{value}: {score}");
        }
        assert!(tail.score(2.0, 200_000) == 0.0);
    }

    #[test]
    fn nothing_is_rare_before_thirty_values_nor_in_a_constant() {
        let mut tail = Tail::default();
        for count in 1..1_000 {
            assert!(tail.score(0.0, count) == 0.0);
            if count < 30 {
                assert!(tail.score(9.0, count) == 0.0);
            }
            tail.learn(0.0, count);
        }
        assert!(tail.score(1.0, 999) == FIRST_OF_ITS_KIND);
    }
}
