//! How expected a value is after the one before it and at this hour: a small model of what follows what.
//!
//! A value becomes one of eight symbols by its distance from the mean; how often each symbol came is counted over all,
//! after each symbol, and in each hour of the day. The counts are blended from the coarse to the fine, as in prediction
//! by partial matching (Cleary and Witten 1984); the statistic is the mean number of bits by which the last symbols
//! surprised. So a stream that goes on within its range, but in another order, is found.
//!
//! Invariant: a row of counts holds at most 120, and is halved there; so what is long ago is forgotten.

use crate::state::{Decoder, Encoder, StateError};

const SYMBOLS: usize = 8;
/// One row for all, one after each symbol, one for each hour.
const ROWS: usize = 1 + SYMBOLS + 24;
const MEAN_RATE: f64 = 0.0005;
const SURPRISE_RATE: f64 = 0.1;
/// What a coarser row counts for in a finer one, in counts.
const WEIGHT: f64 = 4.0;
const FULL: u32 = 120;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sequence {
    mean: f32,
    deviation: f32,
    /// The running mean of the surprise, in bits.
    surprise: f32,
    last: u8,
    counts: [[u8; SYMBOLS]; ROWS],
}

impl Sequence {
    pub(super) fn new() -> Self {
        Self {
            mean: 0.0,
            deviation: 0.0,
            surprise: 0.0,
            last: 0,
            counts: [[0; SYMBOLS]; ROWS],
        }
    }

    /// Takes the `count`th value, from 1; gives the mean surprise of the last ones in bits.
    pub(super) fn take(&mut self, value: f64, hour: usize, count: u32) -> f64 {
        let (mean, deviation) = (f64::from(self.mean), f64::from(self.deviation));
        let symbol = if deviation > 0.0 {
            let place = (value - mean) / (2.0 * deviation) + 4.0;
            place.floor().clamp(0.0, (SYMBOLS - 1) as f64) as usize
        } else {
            SYMBOLS / 2
        };
        if count > 1 {
            let rows = [0, 1 + usize::from(self.last), 1 + SYMBOLS + hour];
            let mut probable = 1.0 / SYMBOLS as f64;
            for row in rows {
                let row = &self.counts[row];
                let all = f64::from(total(row));
                probable = (f64::from(row[symbol]) + WEIGHT * probable) / (all + WEIGHT);
            }
            let surprise = f64::from(self.surprise);
            self.surprise = (surprise + SURPRISE_RATE * (-probable.log2() - surprise)) as f32;
            for row in rows {
                let row = &mut self.counts[row];
                row[symbol] += 2;
                if total(row) > FULL {
                    for count in row {
                        *count /= 2;
                    }
                }
            }
        }
        self.last = symbol as u8;
        let rate = MEAN_RATE.max(1.0 / f64::from(count));
        let mean = mean + rate * (value - mean);
        self.mean = mean as f32;
        self.deviation = (deviation + rate * ((value - mean).abs() - deviation)) as f32;
        f64::from(self.surprise)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.f32(self.mean);
        out.f32(self.deviation);
        out.f32(self.surprise);
        out.u8(self.last);
        self.counts.as_flattened().iter().for_each(|c| out.u8(*c));
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut read = Self {
            mean: from.f32()?,
            deviation: from.f32()?,
            surprise: from.f32()?,
            last: from.u8()?,
            ..Self::new()
        };
        for count in read.counts.as_flattened_mut() {
            *count = from.u8()?;
        }
        let whole =
            usize::from(read.last) < SYMBOLS && read.counts.iter().all(|row| total(row) <= FULL);
        whole
            .then_some(read)
            .ok_or(StateError::Invalid { what: "sequence" })
    }
}

fn total(row: &[u8; SYMBOLS]) -> u32 {
    row.iter().map(|count| u32::from(*count)).sum()
}
