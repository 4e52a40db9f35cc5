//! Identities that must be the same on every run: of a query's definition and of a derived event.
//!
//! Invariant: neither depends on a clock, on a random number, on the process or on the machine. They are built
//! on XXH3, whose output is fixed by its specification, and never on the hash of a hash table.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// What a query, a source or an operator is: a hash of its canonical text. Two definitions with the same
/// fingerprint share their stored state; a changed definition has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint of a canonical text.
    pub fn of(text: &str) -> Self {
        Self(xxh3_64(text.as_bytes()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a row comes from, in 128 bits: for an input row its source and number, for a window its query, key and
/// bounds. A derived event's id is the lineage of its row under its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub u128);

impl Lineage {
    /// The lineage of the `number`-th event of a source.
    pub const fn of_event(source: Fingerprint, number: u64) -> Self {
        Self((source.0 as u128) << 64 | number as u128)
    }

    /// The lineage of what the operator `by` makes of `identity` (a key and its window, a match).
    pub fn derived(by: Fingerprint, identity: &[u8]) -> Self {
        Self(xxh3_128_with_seed(identity, by.0))
    }

    /// The lineage of the `index`-th row that `by` makes out of this one.
    #[must_use]
    pub fn child(self, by: Fingerprint, index: u64) -> Self {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.0.to_le_bytes());
        bytes[16..].copy_from_slice(&index.to_le_bytes());
        Self::derived(by, &bytes)
    }
}

impl fmt::Display for Lineage {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_fixed_for_ever() {
        // A changed value here would make every upstream consumer see all pending events as new ones.
        let by = Fingerprint::of("query");
        assert_eq!(by.to_string(), "d30ff090d9292bc1");
        assert_eq!(
            Lineage::derived(by, b"pump-7").to_string(),
            "66e5c9689b98573db4142877df0373ef"
        );
    }
}
