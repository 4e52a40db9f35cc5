//! Where the distances of a stream's values are counted from: the median of its first ones.
//!
//! Running means hold distances in 32 bits, so they must be small against what they are the distances of; and the first
//! reading of a sensor is often none (a fill value, the value before a conversion). So no value is learnt before some
//! have come, and almost half of these may be anything.
//!
//! Invariant: once known, it stays: all that was learnt depends on it.

use crate::state::{Decoder, Encoder, StateError};

/// The farthest a value can be from the origin: its square is a 32-bit number.
const FARTHEST: f64 = 1e18;

/// The `FIRST` values of a stream, an odd number, or what came of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin<const FIRST: usize> {
    /// Fewer than that, in ascending order.
    Gathering(Vec<f64>),
    /// Their median.
    Known(f64),
}

impl<const FIRST: usize> Origin<FIRST> {
    /// One that has seen nothing.
    pub(super) const fn new() -> Self {
        Self::Gathering(Vec::new())
    }

    /// How far a finite value is from the origin; `None` for the first values, which make it.
    pub(super) fn take(&mut self, value: f64) -> Option<f64> {
        match self {
            Self::Known(origin) => Some((value - *origin).clamp(-FARTHEST, FARTHEST)),
            Self::Gathering(first) => {
                let at = first.partition_point(|held| *held < value);
                first.insert(at, value);
                if first.len() == FIRST {
                    *self = Self::Known(first[FIRST / 2]);
                }
                None
            }
        }
    }

    /// The median of what has come; `None` before the first value.
    pub(super) fn median(&self) -> Option<f64> {
        match self {
            Self::Known(origin) => Some(*origin),
            Self::Gathering(first) => first.get(first.len() / 2).copied(),
        }
    }

    /// Whether values are still gathered: then nothing has been learnt.
    pub(super) const fn gathers(&self) -> bool {
        matches!(self, Self::Gathering(_))
    }

    /// How many values have come, up to `FIRST`.
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::Known(_) => FIRST,
            Self::Gathering(first) => first.len(),
        }
    }

    /// Writes all but the count, which the owner has together with its own.
    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Known(origin) => out.f64(*origin),
            Self::Gathering(first) => first.iter().copied().for_each(|value| out.f64(value)),
        }
    }

    /// Reads what was written of an origin of so many values, or more.
    pub(super) fn decode(count: usize, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        if count >= FIRST {
            return Ok(Self::Known(from.f64()?));
        }
        let first: Result<Vec<f64>, StateError> = (0..count).map(|_| from.f64()).collect();
        Ok(Self::Gathering(first?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_the_median_of_the_first_values() {
        let mut origin = Origin::<15>::new();
        assert_eq!(origin.median(), None);
        // Seven of fifteen are absurd.
        for i in 0..15 {
            let value = [1e18, 20.0, 21.0, -9_999.0][i % 4];
            assert_eq!(origin.take(value), None);
        }
        assert_eq!(origin, Origin::Known(21.0));
        assert_eq!(origin.count(), 15);
        assert_eq!(origin.take(23.0), Some(2.0));
        assert_eq!(origin.take(1e90), Some(FARTHEST));
        assert_eq!(origin.median(), Some(21.0));
    }
}
