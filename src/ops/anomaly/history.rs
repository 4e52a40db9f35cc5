//! `ANOMALYDETECTION_SPIKEANDDIP` and `ANOMALYDETECTION_CHANGEPOINT`: against the last values of a stream.
//!
//! The functions, their arguments and results are those of Azure Stream Analytics, which names its methods (adaptive
//! kernel density estimation, exchangeability martingales) and not their constants; so the scores have the same
//! meaning and are not the same numbers.
//!
//! - Spikes and dips: the score is the p-value of a value, by a density of Gaussian kernels over the history (bandwidth
//!   by Silverman's rule); an anomaly if it is below `1 - confidence`.
//! - Change points: each value is ranked by its distance from the mean of the history, and the ranks are bet on (Vovk,
//!   Nouretdinov and Gammerman 2003, with the power martingale); the score is the Shiryaev-Roberts sum of the bets. On
//!   exchangeable values its expectation is the number of values, so that the threshold `size / (1 - confidence)` is
//!   reached within `size` values with a probability of at most `1 - confidence`. After an anomaly it starts again.
//!
//! Invariants: the history has at most `size` values, none older than `duration`; fewer than [`LEAST_HISTORY`] judge
//! nothing.

use std::collections::VecDeque;

use super::row;
use crate::plan::{BET_POWER, History, LEAST_HISTORY, SpikeMode};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

/// The bandwidth against a constant, in sizes of it: what is as far off as that is one of many that could have come.
const CONSTANT_BANDWIDTH: f64 = 0.01;

/// Where the sum of bets ends: far beyond all thresholds.
const MOST: f64 = 1e18;

/// The last values, with their times in microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Past(VecDeque<(i64, f64)>);

impl Past {
    /// Forgets what is too old at `time`.
    fn forget(&mut self, time: i64, history: History) {
        let from = time.saturating_sub(history.duration.as_micros());
        while self.0.front().is_some_and(|(at, _)| *at < from) {
            self.0.pop_front();
        }
    }

    fn learn(&mut self, time: i64, value: f64, history: History) {
        if self.0.len() >= history.size as usize {
            self.0.pop_front();
        }
        self.0.push_back((time, value));
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().map(|(_, value)| *value)
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.0.len() as u64);
        for (time, value) in &self.0 {
            out.i64(*time);
            out.f64(*value);
        }
    }

    fn decode(history: History, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut read = Self::default();
        for _ in 0..from.count("history")? {
            read.0.push_back((from.i64()?, from.f64()?));
        }
        if read.0.len() > history.size as usize {
            return Err(StateError::Invalid { what: "history" });
        }
        Ok(read)
    }
}

fn result(score: f64, anomaly: bool) -> Value {
    row([Value::Double(score), Value::Int(i64::from(anomaly))])
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SpikeAndDip {
    past: Past,
}

impl SpikeAndDip {
    pub(super) fn take(
        &mut self,
        value: f64,
        time: i64,
        confidence: f64,
        mode: SpikeMode,
        history: History,
    ) -> Value {
        self.past.forget(time, history);
        let p = if self.past.0.len() < LEAST_HISTORY as usize {
            1.0
        } else {
            let above = self.above(value);
            match mode {
                SpikeMode::Spikes => above,
                SpikeMode::Dips => 1.0 - above,
                SpikeMode::SpikesAndDips => 2.0 * above.min(1.0 - above),
            }
        };
        self.past.learn(time, value, history);
        result(p, p < 1.0 - confidence / 100.0)
    }

    /// The probability of a value at least as great.
    fn above(&self, value: f64) -> f64 {
        let count = self.past.0.len() as f64;
        let mean = self.past.values().sum::<f64>() / count;
        let squares = self.past.values().map(|x| (x - mean) * (x - mean));
        let deviation = (squares.sum::<f64>() / (count - 1.0)).sqrt();
        let bandwidth = 0.9 * deviation * count.powf(-0.2);
        // Not by the deviation, which rounding may keep from being 0.
        let first = self.past.values().next();
        let constant = self.past.values().all(|x| Some(x) == first);
        if !constant && bandwidth > 0.0 {
            let each = self
                .past
                .values()
                .map(|x| upper_tail((value - x) / bandwidth));
            return each.sum::<f64>() / count;
        }
        // A constant: one value among count + 1 that are as likely to be the strangest; or, by its size, less likely.
        let constant = first.unwrap_or(mean);
        let off = (value - constant).abs();
        if off == 0.0 {
            return 0.5;
        }
        let mut beyond = 0.5 / (count + 1.0);
        if constant != 0.0 {
            beyond = beyond.min(upper_tail(off / (CONSTANT_BANDWIDTH * constant.abs())));
        }
        if value > constant {
            beyond
        } else {
            1.0 - beyond
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.past.encode(out);
    }

    pub(super) fn decode(history: History, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let past = Past::decode(history, from)?;
        Ok(Self { past })
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ChangePoint {
    past: Past,
    /// The sum of the bets.
    sum: f64,
}

impl ChangePoint {
    pub(super) fn take(
        &mut self,
        value: f64,
        time: i64,
        confidence: f64,
        history: History,
    ) -> Value {
        self.past.forget(time, history);
        let count = self.past.0.len();
        if count >= LEAST_HISTORY as usize {
            let all = count as f64 + 1.0;
            let mean = (self.past.values().sum::<f64>() + value) / all;
            let strange = (value - mean).abs();
            let (mut stranger, mut equal) = (0.0, 1.0);
            for other in self.past.values().map(|x| (x - mean).abs()) {
                if other > strange {
                    stranger += 1.0;
                } else if other.total_cmp(&strange).is_eq() {
                    equal += 1.0;
                }
            }
            // Of equal ones half: a rank without chance.
            let p: f64 = (stranger + 0.5 * equal) / all;
            let bet = BET_POWER * p.powf(BET_POWER - 1.0);
            self.sum = ((1.0 + self.sum) * bet).min(MOST);
        }
        self.past.learn(time, value, history);
        let anomaly = self.sum >= history.bets_to_tell(confidence);
        let said = result(self.sum, anomaly);
        if anomaly {
            // What was normal is no longer; what follows is compared with itself.
            self.sum = 0.0;
            self.past.0.clear();
        }
        said
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.past.encode(out);
        out.f64(self.sum);
    }

    pub(super) fn decode(history: History, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            past: Past::decode(history, from)?,
            sum: from.f64()?,
        })
    }
}

/// The probability that a standard normal value is greater: Abramowitz and Stegun 26.2.17, off by at most 7.5e-8.
fn upper_tail(z: f64) -> f64 {
    let x = z.abs();
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let series = [
        1.330_274_429,
        -1.821_255_978,
        1.781_477_937,
        -0.356_563_782,
        0.319_381_530,
    ];
    let polynomial = series.iter().fold(0.0, |sum, factor| sum * t + factor) * t;
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let tail = density * polynomial;
    if z < 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        for (z, tail) in [
            (0.0, 0.5),
            (1.0, 0.158_655_3),
            (1.96, 0.024_997_9),
            (3.0, 0.001_349_9),
            (-1.0, 0.841_344_7),
        ] {
            assert!((upper_tail(z) - tail).abs() < 1e-7, "{z}");
        }
    }
}
