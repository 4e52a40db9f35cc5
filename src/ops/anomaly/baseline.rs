//! What a control chart takes for normal: a mean and a standard deviation, given or learnt from the first values.
//!
//! Learnt as an individuals chart has it: the mean of the first values, and their mean moving range over 1.128 (the mean
//! range of two normal values, d2). Then they stay as they are: a chart that follows its process does not see it leave.

use crate::plan::Normal;
use crate::state::{Decoder, Encoder, StateError};

/// The mean range of two values of a normal distribution in its standard deviations, as the handbooks round it.
pub(super) const D2: f64 = 1.128;

/// The first values of a stream, or what they came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Baseline {
    count: u32,
    /// The sum of the first values, and of their moving ranges.
    sum: f64,
    ranges: f64,
    last: f64,
}

impl Baseline {
    /// Learns a value if the baseline still grows; gives the mean and the standard deviation once they are known.
    pub(super) fn take(&mut self, normal: &Normal, value: f64) -> Option<(f64, f64)> {
        if normal.target.is_none() || normal.sigma.is_none() {
            if self.count < normal.baseline {
                if self.count > 0 {
                    self.ranges += (value - self.last).abs();
                }
                self.count += 1;
                self.sum += value;
                self.last = value;
            }
            if self.count < normal.baseline {
                return None;
            }
        }
        let count = f64::from(self.count);
        // The mean of equal values is that value, which the sum of many may round.
        let mean = || {
            if self.ranges == 0.0 {
                self.last
            } else {
                self.sum / count
            }
        };
        let sigma = || self.ranges / (count - 1.0) / D2;
        Some((
            normal.target.unwrap_or_else(mean),
            normal.sigma.unwrap_or_else(sigma),
        ))
    }

    /// Whether a value is the last of the baseline or one of it, which cannot be judged by it.
    pub(super) fn takes(&self, normal: &Normal) -> bool {
        (normal.target.is_none() || normal.sigma.is_none()) && self.count < normal.baseline
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(u64::from(self.count));
        out.f64(self.sum);
        out.f64(self.ranges);
        out.f64(self.last);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            count: u32::try_from(from.u64()?).map_err(|_| StateError::Invalid { what: "count" })?,
            sum: from.f64()?,
            ranges: from.f64()?,
            last: from.f64()?,
        })
    }
}
