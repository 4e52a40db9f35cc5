//! `FORECAST_BAND`: what a value is at this hour of the day and of the week, and how far it usually is from that.
//!
//! The expected value is the mean of the hour of the week, drawn towards the mean of the hour of the day as long as few
//! values of that hour of the week are known. The width of the band is the mean deviation at that hour of the day times a factor
//! that follows the misses (adaptive conformal inference, Gibbs and Candès 2021), so that in the long run the wanted part of all
//! values is within, whatever their distribution.
//!
//! Invariants: the band of a value is made before the value is learnt; there is none before four values of its hour
//! are known. One value far off moves means and width by a bounded part. State has a fixed size of about 1.1 KB.

use super::origin::Origin;
use super::row;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

const HOURS: usize = 24;
const WEEK_HOURS: usize = 7 * HOURS;
/// Values that are not learnt, and say where the values are; few, as some devices report once a day.
const FIRST: usize = 5;
const LEAST_VALUES: u8 = 4;
/// The shares of a new value in the means, when many have come.
const HOUR_RATE: f64 = 0.03;
const WEEK_RATE: f64 = 0.05;
/// Values of an hour of the week that count as much as the hour of the day.
const PRIOR: f64 = 8.0;
/// How fast the factor follows misses.
const FACTOR_RATE: f64 = 0.05;
/// What a miss is learnt as at most, in mean deviations of its hour.
const MOST_OFF: f64 = 10.0;
const START_FACTOR: f32 = 3.0;
const FACTORS: (f64, f64) = (0.1, 1_000.0);
const MICROS_PER_HOUR: i64 = 3_600_000_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forecast {
    origin: Origin<FIRST>,
    hours: [f32; HOURS],
    deviations: [f32; HOURS],
    counts: [u8; HOURS],
    week: [f32; WEEK_HOURS],
    week_counts: [u8; WEEK_HOURS],
    factor: f32,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            origin: Origin::new(),
            hours: [0.0; HOURS],
            deviations: [0.0; HOURS],
            counts: [0; HOURS],
            week: [0.0; WEEK_HOURS],
            week_counts: [0; WEEK_HOURS],
            factor: START_FACTOR,
        }
    }
}

impl Forecast {
    /// Takes a value at a time on the wall, in microseconds.
    pub(super) fn take(&mut self, value: f64, clock: i64, confidence: f64) -> Value {
        let Some((x, origin)) = self.origin.take(value).zip(self.origin.median()) else {
            return nothing();
        };
        let slot = clock
            .div_euclid(MICROS_PER_HOUR)
            .rem_euclid(WEEK_HOURS as i64) as usize;
        let hour = slot % HOURS;
        let count = self.counts[hour];
        let seen = f64::from(self.week_counts[slot]);
        let of_hour = f64::from(self.hours[hour]);
        let of_week = f64::from(self.week[slot]);
        let expected = (seen * of_week + PRIOR * of_hour) / (seen + PRIOR);
        let residual = x - expected;
        let known = count >= LEAST_VALUES;
        let deviation = f64::from(self.deviations[hour]);
        let width = f64::from(self.factor) * deviation;
        let outside = residual.abs() > width;
        let result = if known {
            let expected = origin + expected;
            row([
                Value::Double(expected),
                Value::Double(expected - width),
                Value::Double(expected + width),
                Value::Double(residual),
                Value::Bool(outside),
            ])
        } else {
            nothing()
        };
        if known && deviation > 0.0 {
            let missed = f64::from(u8::from(outside)) - (1.0 - confidence);
            let factor = f64::from(self.factor) * (1.0 + FACTOR_RATE * missed);
            self.factor = factor.clamp(FACTORS.0, FACTORS.1) as f32;
        }
        let x = if known && deviation > 0.0 {
            expected + residual.clamp(-MOST_OFF * deviation, MOST_OFF * deviation)
        } else {
            x
        };
        let share = |least: f64, count: f64| least.max(1.0 / (count + 1.0));
        if count > 0 {
            let rate = share(HOUR_RATE, f64::from(count) - 1.0);
            let off = (x - expected).abs();
            self.deviations[hour] = (deviation + rate * (off - deviation)) as f32;
        }
        let rate = share(HOUR_RATE, f64::from(count));
        self.hours[hour] = (of_hour + rate * (x - of_hour)) as f32;
        self.counts[hour] = count.saturating_add(1);
        let rate = share(WEEK_RATE, seen);
        self.week[slot] = (of_week + rate * (x - of_week)) as f32;
        self.week_counts[slot] = self.week_counts[slot].saturating_add(1);
        result
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u8(self.origin.count() as u8);
        self.origin.encode(out);
        for parts in [&self.hours[..], &self.deviations, &self.week] {
            for part in parts {
                out.f32(*part);
            }
        }
        for counts in [&self.counts[..], &self.week_counts] {
            for count in counts {
                out.u8(*count);
            }
        }
        out.f32(self.factor);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut read = Self {
            origin: Origin::decode(usize::from(from.u8()?), from)?,
            ..Self::default()
        };
        for parts in [&mut read.hours[..], &mut read.deviations, &mut read.week] {
            for part in parts {
                *part = from.f32()?;
            }
        }
        for counts in [&mut read.counts[..], &mut read.week_counts] {
            for count in counts {
                *count = from.u8()?;
            }
        }
        read.factor = from.f32()?;
        Ok(read)
    }
}

/// What is said as long as no band is known.
fn nothing() -> Value {
    row([
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Bool(false),
    ])
}
