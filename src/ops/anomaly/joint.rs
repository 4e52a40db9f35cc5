//! `ANOMALY_SCORE_JOINT`: how unlike their past several columns are together, also where each alone is as ever.
//!
//! The statistic is the Mahalanobis distance from a running mean under a running covariance, of the values and of
//! their smoothed distances; how rare it is says the same tail as in `ANOMALY_SCORE`. Robust in three ways: nothing is
//! learnt of the first rows but where values are ([`Origin`]); a row that is far off moves mean and covariance as one at
//! [`HUBER`] would; and the covariance is shrunk a little towards its diagonal.
//!
//! **What a score means**: minus the decimal logarithm of the probability of such a distance, less the 0.3 that two
//! statistics cost.
//!
//! Invariants: a row is judged before it is learnt; nothing is scored for the first [`WARM_UP`] rows. State is bounded by the
//! number of columns: 330 bytes for eight, and up to 900 for their first rows.

use super::origin::Origin;
use super::row;
use super::score::{FIRST, Tail, WARM_UP};
use crate::plan::JointOptions;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

/// The share of a new row in mean and covariance, when many have come.
const RATE: f64 = 0.001;
/// The share of a new row in the smoothed distances.
const SMOOTH_RATE: f64 = 0.1;
/// Rows farther off than this, in deviations per root of the number of columns, count less.
const HUBER: f64 = 3.0;
/// As many times farther off they may be before the distances are learnt.
const HUBER_AT_FIRST: f64 = 10.0;
/// What is added to the diagonal of the correlations.
const SHRINK: f64 = 1e-3;
/// A distance from a constant, in deviations.
const FROM_CONSTANT: f64 = 1e3;
/// Rows before the distances are learnt.
const BURN_IN: u32 = 80;
/// What is taken off a score, as the better of two statistics counts.
const TWO_STATISTICS: f64 = 0.301;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Joint {
    /// How many rows were learnt.
    count: u32,
    quiet: u32,
    origins: Vec<Origin<FIRST>>,
    mean: Vec<f32>,
    /// The lower triangle, row by row.
    covariance: Vec<f32>,
    smooth: Vec<f32>,
    tails: [Tail; 2],
}

impl Joint {
    pub(super) fn new(options: &JointOptions) -> Self {
        let columns = options.columns;
        Self {
            count: 0,
            quiet: 0,
            origins: vec![Origin::new(); columns],
            mean: vec![0.0; columns],
            covariance: vec![0.0; columns * (columns + 1) / 2],
            smooth: vec![0.0; columns],
            tails: [Tail::default(); 2],
        }
    }

    pub(super) fn take(&mut self, options: &JointOptions, values: &[f64]) -> Value {
        let columns = self.origins.iter_mut().zip(values);
        let far: Vec<Option<f64>> = columns.map(|(origin, value)| origin.take(*value)).collect();
        // All columns have come equally often.
        let Some(far) = far.into_iter().collect::<Option<Vec<f64>>>() else {
            return row([
                Value::Double(0.0),
                Value::Bool(false),
                Value::Null,
                Value::Null,
            ]);
        };
        self.count = self.count.saturating_add(1);
        let deviations: Vec<f64> = (0..values.len())
            .map(|i| f64::from(self.covariance[at(i, i)]).max(0.0).sqrt())
            .collect();
        let off: Vec<f64> = (0..values.len())
            .map(|i| far[i] - f64::from(self.mean[i]))
            .collect();
        let standard: Vec<f64> = off
            .iter()
            .zip(&deviations)
            .map(|(off, deviation)| {
                if *deviation > 0.0 {
                    (off / deviation).clamp(-FROM_CONSTANT, FROM_CONSTANT)
                } else if *off == 0.0 {
                    0.0
                } else {
                    FROM_CONSTANT.copysign(*off)
                }
            })
            .collect();
        let inverse = self.inverse(&deviations);
        let pull = product(&inverse, &standard);
        let distance = dot(&pull, &standard).max(0.0).sqrt();
        let smooth: Vec<f64> = self
            .smooth
            .iter()
            .zip(&standard)
            .map(|(smooth, z)| {
                let smooth = f64::from(*smooth);
                smooth + SMOOTH_RATE * (z - smooth)
            })
            .collect();
        let drift = dot(&product(&inverse, &smooth), &smooth).max(0.0).sqrt();
        let mut score: f64 = 0.0;
        // The first distances are from a mean and a covariance that know nothing.
        let judged = self.count.saturating_sub(BURN_IN);
        let warm = self.count > WARM_UP - FIRST as u32;
        // As long as a tail knows little, one row that is no reading would be most of what it knows.
        let most = if warm {
            f64::INFINITY
        } else {
            HUBER * (values.len() as f64).sqrt()
        };
        if judged > 0 {
            for (tail, statistic) in self.tails.iter_mut().zip([distance, drift]) {
                score = score.max(tail.score(statistic, judged) - TWO_STATISTICS);
                tail.learn(statistic.min(most), judged);
            }
        }
        if !warm {
            score = 0.0;
        }
        let quiet = self.quiet > 0;
        self.quiet = self.quiet.saturating_sub(1);
        let alarm = score >= options.threshold && !quiet;
        if alarm {
            self.quiet = options.quiet;
        }
        // What each column is off by, given the others.
        let alone = |i: usize| pull[i] / inverse[i][i].max(f64::MIN_POSITIVE).sqrt();
        let loudest = (0..values.len()).max_by(|a, b| alone(*a).abs().total_cmp(&alone(*b).abs()));
        let loudest = loudest.unwrap_or_default();
        // What goes beyond the bound of a column counts in full for what it should have been.
        let beyond = off[loudest] - standard[loudest] * deviations[loudest];
        let unexpected = pull[loudest] / inverse[loudest][loudest] * deviations[loudest] + beyond;
        let learnt: Vec<f64> = (0..values.len())
            .map(|i| {
                let most = if deviations[i] > 0.0 {
                    FROM_CONSTANT * deviations[i]
                } else {
                    // A constant has no deviation to measure by; its own size has to do.
                    self.origins[i].median().unwrap_or_default().abs().max(1.0)
                };
                off[i].clamp(-most, most)
            })
            .collect();
        self.learn(&learnt, distance);
        for (held, smooth) in self.smooth.iter_mut().zip(smooth) {
            *held = smooth as f32;
        }
        let said = score > 0.0;
        row([
            Value::Double(score),
            Value::Bool(alarm),
            if said {
                Value::Double(values[loudest] - unexpected)
            } else {
                Value::Null
            },
            if said {
                Value::Int(loudest as i64 + 1)
            } else {
                Value::Null
            },
        ])
    }

    fn learn(&mut self, off: &[f64], distance: f64) {
        let rate = RATE.max(1.0 / f64::from(self.count));
        let mut near = HUBER * (off.len() as f64).sqrt();
        if self.count <= BURN_IN {
            // The first rows are all far from a mean and covariance that know nothing.
            near *= HUBER_AT_FIRST;
        }
        let weight = if self.count > 1 && distance > near {
            near / distance
        } else {
            1.0
        };
        for (i, off_i) in off.iter().enumerate() {
            self.mean[i] = (f64::from(self.mean[i]) + rate * weight * off_i) as f32;
            for (j, off_j) in off.iter().enumerate().take(i + 1) {
                let held = f64::from(self.covariance[at(i, j)]);
                let seen = weight * weight * off_i * off_j * (1.0 - rate);
                self.covariance[at(i, j)] = (held + rate * (seen - held)) as f32;
            }
        }
    }

    /// The inverse of the correlations.
    fn inverse(&self, deviations: &[f64]) -> Vec<Vec<f64>> {
        let size = deviations.len();
        let mut left: Vec<Vec<f64>> = (0..size)
            .map(|i| {
                (0..size)
                    .map(|j| {
                        let both = deviations[i] * deviations[j];
                        match (i == j, both > 0.0) {
                            (true, _) => 1.0 + SHRINK,
                            (false, true) => {
                                let covariance = self.covariance[at(i.max(j), i.min(j))];
                                (f64::from(covariance) / both).clamp(-1.0, 1.0)
                            }
                            (false, false) => 0.0,
                        }
                    })
                    .collect()
            })
            .collect();
        let mut right: Vec<Vec<f64>> = (0..size)
            .map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect())
            .collect();
        // Gauss and Jordan; a symmetric matrix that is positive needs no pivot, and the least pivot stands for the rest.
        for i in 0..size {
            let pivot = left[i][i].max(SHRINK);
            for j in 0..size {
                left[i][j] /= pivot;
                right[i][j] /= pivot;
            }
            let (left_row, right_row) = (left[i].clone(), right[i].clone());
            for k in (0..size).filter(|k| *k != i) {
                let factor = left[k][i];
                for j in 0..size {
                    left[k][j] -= factor * left_row[j];
                    right[k][j] -= factor * right_row[j];
                }
            }
        }
        right
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        // All columns have come equally often.
        let gathered = self.origins.first().map_or(FIRST, Origin::count);
        out.u64(gathered as u64 + u64::from(self.count));
        self.origins.iter().for_each(|origin| origin.encode(out));
        if gathered < FIRST {
            return;
        }
        out.u64(u64::from(self.quiet));
        for parts in [&self.mean, &self.covariance, &self.smooth] {
            for part in parts {
                out.f32(*part);
            }
        }
        self.tails.iter().for_each(|tail| tail.encode(out));
    }

    pub(super) fn decode(
        options: &JointOptions,
        from: &mut Decoder<'_>,
    ) -> Result<Self, StateError> {
        let mut read = Self::new(options);
        let invalid = |_| StateError::Invalid { what: "count" };
        let came = from.u64()?;
        let gathered = came.min(FIRST as u64);
        for origin in &mut read.origins {
            *origin = Origin::decode(gathered as usize, from)?;
        }
        if gathered < FIRST as u64 {
            return Ok(read);
        }
        read.count = u32::try_from(came - gathered).map_err(invalid)?;
        read.quiet = u32::try_from(from.u64()?).map_err(invalid)?;
        for parts in [&mut read.mean, &mut read.covariance, &mut read.smooth] {
            for part in parts {
                *part = from.f32()?;
            }
        }
        for tail in &mut read.tails {
            *tail = Tail::decode(from)?;
        }
        Ok(read)
    }
}

/// Where an entry of the lower triangle is.
const fn at(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(matrix: &[Vec<f64>], vector: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| dot(row, vector)).collect()
}
