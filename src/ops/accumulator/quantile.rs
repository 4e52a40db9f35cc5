//! Quantiles: PERCENTILE, which keeps every value, and `APPROX_PERCENTILE`, which keeps buckets.
//!
//! The sketch is a `DDSketch` (Masson, Rim and Lee, VLDB 2019): bucket i counts the values in (γ^(i−1), γ^i] with
//! γ = (1 + α) / (1 − α) and α = [`RELATIVE_ERROR`], so that every answer lies within 1 % of a value of that rank. Only
//! buckets in use are kept, sorted: a sensor that moves within a tenth of its value needs five, where the dense arrays of
//! the libraries begin at kilobytes. It is a few additions, so values can be taken back and merges are exact.
//!
//! Bounds: [`MAX_VALUES`] different values for PERCENTILE, [`MAX_BUCKETS`] buckets for the sketch, which is
//! seventeen powers of ten. Merging buckets beyond that would break the promised error, so it is an error of the
//! result instead.

use std::collections::BTreeMap;

use super::MAX_VALUES;
use super::failure::Failure;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

/// How far an approximate quantile may be from a value of its rank, as a part of that value.
pub const RELATIVE_ERROR: f64 = 0.01;

/// Buckets of one sign.
pub(super) const MAX_BUCKETS: usize = 2_048;

/// The result for the fractions that were asked for: one number, or an ARRAY of them.
fn answer(fractions: &Value, quantile: impl Fn(f64) -> Value) -> Value {
    match fractions {
        Value::Double(fraction) => quantile(*fraction),
        Value::Array(items) => {
            let one = |item: &Value| match item {
                Value::Double(fraction) => quantile(*fraction),
                _ => Value::Null,
            };
            Value::Array(items.iter().map(one).collect())
        }
        _ => Value::Null,
    }
}

/// All values with their frequencies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    /// By the value's place in the order of doubles.
    counts: BTreeMap<i64, u64>,
    total: u64,
}

/// The place of a double in the order of doubles: −0.0 is 0.0, and NaN is the greatest.
fn place(x: f64) -> i64 {
    let x = if x.is_nan() { f64::NAN } else { x + 0.0 };
    let bits = x.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn at_place(place: i64) -> f64 {
    f64::from_bits((place ^ (((place >> 63) as u64) >> 1) as i64) as u64)
}

impl Tally {
    pub(super) fn add(&mut self, x: f64, times: u64) -> Result<(), Failure> {
        if times == 0 {
            return Ok(());
        }
        let total = self.total.checked_add(times).ok_or(Failure::Overflow)?;
        let place = place(x);
        if self.counts.len() >= MAX_VALUES && !self.counts.contains_key(&place) {
            return Err(Failure::Values);
        }
        *self.counts.entry(place).or_default() += times;
        self.total = total;
        Ok(())
    }

    pub(super) fn remove(&mut self, x: f64, times: u64) {
        let place = place(x);
        if let Some(count) = self.counts.get_mut(&place) {
            let gone = times.min(*count);
            *count -= gone;
            self.total -= gone;
            if *count == 0 {
                self.counts.remove(&place);
            }
        }
    }

    pub(super) fn merge(&mut self, later: &Self) -> Result<(), Failure> {
        let mut counts = later.counts.iter();
        counts.try_for_each(|(place, count)| self.add(at_place(*place), *count))
    }

    /// Linear interpolation between the two nearest ranks of `fraction · (n − 1)`, as in Flink.
    pub(super) fn result(&self, fractions: &Value) -> Value {
        if self.total == 0 {
            return Value::Null;
        }
        answer(fractions, |fraction| {
            let rank = fraction * (self.total - 1) as f64;
            let (low, high) = (
                self.ranked(rank.floor() as u64),
                self.ranked(rank.ceil() as u64),
            );
            // Equal neighbours, also infinite ones, need no arithmetic.
            let same = place(low) == place(high);
            Value::Double(if same {
                low
            } else {
                low * (rank.ceil() - rank) + high * (rank - rank.floor())
            })
        })
    }

    fn ranked(&self, rank: u64) -> f64 {
        let mut passed = 0;
        for (place, count) in &self.counts {
            passed += count;
            if passed > rank {
                return at_place(*place);
            }
        }
        self.counts
            .last_key_value()
            .map_or(f64::NAN, |(place, _)| at_place(*place))
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.counts.len() as u64 + 1);
        for (place, count) in &self.counts {
            out.f64(at_place(*place));
            out.u64(*count);
        }
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut tally = Self::default();
        for _ in 1..first {
            let (x, count) = (from.f64()?, from.u64()?);
            if tally.add(x, count).is_err() {
                return Err(StateError::Invalid { what: "tally" });
            }
        }
        Ok(tally)
    }
}

/// Buckets in use, in order: index and count.
type Buckets = Vec<(i32, u64)>;

/// A `DDSketch`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketch {
    positive: Buckets,
    /// By the absolute value.
    negative: Buckets,
    zeros: u64,
    /// NaN is greater than every number.
    not_numbers: u64,
}

fn gamma() -> f64 {
    (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
}

fn bucket(x: f64) -> i32 {
    // Infinity saturates to the last bucket of all.
    (x.ln() / gamma().ln()).ceil() as i32
}

fn middle(bucket: i32) -> f64 {
    if bucket == i32::MAX {
        return f64::INFINITY;
    }
    // The greatest doubles have a bucket whose upper end is infinite.
    (gamma().powi(bucket - 1) * (2.0 * gamma() / (gamma() + 1.0))).min(f64::MAX)
}

fn count_in(buckets: &mut Buckets, bucket: i32, times: u64) -> Result<(), Failure> {
    match buckets.binary_search_by_key(&bucket, |(index, _)| *index) {
        Ok(at) => buckets[at].1 = buckets[at].1.saturating_add(times),
        Err(_) if buckets.len() >= MAX_BUCKETS => return Err(Failure::Buckets),
        Err(at) => buckets.insert(at, (bucket, times)),
    }
    Ok(())
}

fn count_out(buckets: &mut Buckets, bucket: i32) {
    if let Ok(at) = buckets.binary_search_by_key(&bucket, |(index, _)| *index) {
        buckets[at].1 -= 1;
        if buckets[at].1 == 0 {
            buckets.remove(at);
        }
    }
}

impl Sketch {
    pub(super) fn add(&mut self, x: f64) -> Result<(), Failure> {
        if x.is_nan() {
            self.not_numbers += 1;
        } else if x == 0.0 {
            self.zeros += 1;
        } else if x > 0.0 {
            count_in(&mut self.positive, bucket(x), 1)?;
        } else {
            count_in(&mut self.negative, bucket(-x), 1)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, x: f64) {
        if x.is_nan() {
            self.not_numbers = self.not_numbers.saturating_sub(1);
        } else if x == 0.0 {
            self.zeros = self.zeros.saturating_sub(1);
        } else if x > 0.0 {
            count_out(&mut self.positive, bucket(x));
        } else {
            count_out(&mut self.negative, bucket(-x));
        }
    }

    pub(super) fn merge(&mut self, later: &Self) -> Result<(), Failure> {
        for (bucket, count) in &later.positive {
            count_in(&mut self.positive, *bucket, *count)?;
        }
        for (bucket, count) in &later.negative {
            count_in(&mut self.negative, *bucket, *count)?;
        }
        self.zeros = self.zeros.saturating_add(later.zeros);
        self.not_numbers = self.not_numbers.saturating_add(later.not_numbers);
        Ok(())
    }

    /// The values of the ranks `⌊fraction · (n − 1)⌋`, each within [`RELATIVE_ERROR`] of it.
    pub(super) fn result(&self, fractions: &Value) -> Value {
        let counts = self
            .positive
            .iter()
            .chain(&self.negative)
            .map(|(_, count)| *count);
        let total = counts.fold(
            self.zeros.saturating_add(self.not_numbers),
            u64::saturating_add,
        );
        if total == 0 {
            return Value::Null;
        }
        answer(fractions, |fraction| {
            let rank = (fraction * (total - 1) as f64).floor() as u64;
            Value::Double(self.ranked(rank))
        })
    }

    fn ranked(&self, rank: u64) -> f64 {
        let negative = self
            .negative
            .iter()
            .rev()
            .map(|(index, n)| (-middle(*index), *n));
        let positive = self.positive.iter().map(|(index, n)| (middle(*index), *n));
        let mut passed: u64 = 0;
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            passed = passed.saturating_add(count);
            if passed > rank {
                return value;
            }
        }
        f64::NAN
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(1);
        out.u64(self.zeros);
        out.u64(self.not_numbers);
        for buckets in [&self.positive, &self.negative] {
            out.u64(buckets.len() as u64);
            let mut before = 0;
            for (bucket, count) in buckets {
                out.i64(i64::from(*bucket) - before);
                out.u64(*count);
                before = i64::from(*bucket);
            }
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let (zeros, not_numbers) = (from.u64()?, from.u64()?);
        let (positive, negative) = (decode_buckets(from)?, decode_buckets(from)?);
        Ok(Self {
            positive,
            negative,
            zeros,
            not_numbers,
        })
    }
}

fn decode_buckets(from: &mut Decoder<'_>) -> Result<Buckets, StateError> {
    let invalid = StateError::Invalid { what: "sketch" };
    let mut buckets = Buckets::new();
    let mut before: i64 = 0;
    for _ in 0..from.count("sketch")? {
        before = before.saturating_add(from.i64()?);
        let bucket = i32::try_from(before).map_err(|_| invalid.clone())?;
        let count = from.u64()?;
        let ordered = buckets.last().is_none_or(|(last, _)| *last < bucket);
        if count == 0 || !ordered || buckets.len() >= MAX_BUCKETS {
            return Err(invalid);
        }
        buckets.push((bucket, count));
    }
    Ok(buckets)
}
