//! The time between values: when it is strangely long.
//!
//! A gap is strange from a few times the longest of lately, and the more so the more gaps differ: readings that come by
//! the clock say that something is missing after four of them, readings that come when something happens only after very
//! long. The longest is forgotten by halves in [`HALF_LIFE`] values, and one gap moves it half the way, in
//! proportions: an hour that is missing today does not hide the one that is missing next week, and a machine that stands every
//! night is known after a few.

use crate::state::{Decoder, Encoder, StateError};

/// A gap is strange from so many times the longest of lately, where all gaps are alike.
const OVER_LONGEST: f64 = 3.25;

/// Values after which half of what was longer than usual is forgotten.
const HALF_LIFE: f64 = 1_000.0;

/// How fast the scatter is learnt when many values have come.
const SCATTER_RATE: f64 = 0.001;

/// Gaps below this part of the longest count as this part: of values with one time nothing is to be learnt.
const LEAST_PART: f64 = 1e-3;

/// The scatter is kept in so many parts of one.
const SCATTER_PARTS: f64 = 8_192.0;

/// The gaps of a stream, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gaps {
    /// The longest of lately.
    longest: f32,
    /// By how much the longest is longer than they are: the mean of its logarithm, in [`SCATTER_PARTS`].
    scatter: u16,
}

impl Gaps {
    /// Takes a gap before the `count`th value; gives how many times it is as long as what is strange.
    pub(super) fn take(&mut self, gap: f64, count: u32) -> f64 {
        let longest = f64::from(self.longest);
        let scatter = f64::from(self.scatter) / SCATTER_PARTS;
        if longest <= 0.0 {
            self.longest = gap as f32;
            return 0.0;
        }
        let usual = OVER_LONGEST * (scatter / 3.0).exp() * longest;
        let rate = SCATTER_RATE.max(1.0 / f64::from(count));
        let part = (gap / longest).max(LEAST_PART);
        let scatter = scatter + rate * ((-part.ln()).max(0.0) - scatter);
        self.scatter = (scatter * SCATTER_PARTS).round() as u16;
        let learnt = if gap <= longest {
            longest - (longest - gap) * (std::f64::consts::LN_2 / HALF_LIFE)
        } else {
            (longest * gap).sqrt()
        };
        self.longest = learnt as f32;
        gap / usual
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.f32(self.longest);
        let [low, high] = self.scatter.to_le_bytes();
        out.u8(low);
        out.u8(high);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        Ok(Self {
            longest: from.f32()?,
            scatter: u16::from_le_bytes([from.u8()?, from.u8()?]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of some gaps are strange, in minutes.
    fn strange(gaps: impl IntoIterator<Item = f64>) -> Vec<usize> {
        let mut known = Gaps::default();
        let gaps = gaps.into_iter().enumerate();
        gaps.filter(|(at, gap)| known.take(gap * 60e3, *at as u32 + 2) > 1.0 && *at > 75)
            .map(|(at, _)| at)
            .collect()
    }

    /// Gaps of one length, with others at some places.
    fn every(minutes: f64, count: usize, others: &[(usize, f64)]) -> Vec<f64> {
        let mut gaps = vec![minutes; count];
        for (at, gap) in others {
            gaps[*at] = *gap;
        }
        gaps
    }

    #[test]
    fn an_hour_is_missed_at_each_cadence_and_again() {
        for (minutes, again) in [(1.0, 1_000), (5.0, 2_000), (10.0, 3_000)] {
            let missing = 60.0 + minutes;
            let gaps = every(
                minutes,
                20_000,
                &[
                    (500, missing),
                    (500 + again, missing),
                    (500 + 3 * again, missing),
                ],
            );
            assert_eq!(
                strange(gaps),
                [500, 500 + again, 500 + 3 * again],
                "{minutes}"
            );
            // One reading was lost some time before.
            let gaps = every(minutes, 2_000, &[(500, 2.0 * minutes), (900, missing)]);
            assert_eq!(strange(gaps), [900], "{minutes}");
        }
        assert_eq!(strange(every(15.0, 2_000, &[(500, 75.0)])), [500]);
    }

    #[test]
    fn what_comes_every_night_is_known_after_a_few() {
        let gaps = (0..30 * 720).map(|at| if at % 720 == 719 { 720.0 } else { 1.0 });
        let found = strange(gaps);
        assert!(found.len() <= 4, "{found:?}");
    }

    #[test]
    fn gaps_that_differ_are_not_strange() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut exponential = || -(1.0 - random.f64()).ln();
        let gaps: Vec<f64> = (0..100_000).map(|_| exponential()).collect();
        assert_eq!(strange(gaps.clone()).len(), 0);
        // A heavy tail, as of a door that is used by people.
        let heavy = strange(gaps.iter().map(|gap| (1.5 * gap).exp())).len();
        assert!(heavy <= 20, "{heavy}");
        // Bursts of several at one time.
        let bursts = gaps.iter().enumerate();
        let bursts = bursts.map(|(at, gap)| if at % 10 == 0 { 10.0 + gap } else { 0.0 });
        assert_eq!(strange(bursts).len(), 0);
    }
}
