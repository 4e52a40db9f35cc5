//! Seeded randomness: a failure prints its seed, and `HEADWATER_TEST_SEEDS=7,8` runs those seeds again.

/// The generator `SplitMix64`: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `from` up to, not including, `to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// True once in `n`.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }
}

/// `count` seeds from the fixed list, or those that the environment names.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("HEADWATER_TEST_SEEDS") {
        Ok(text) => text
            .split(',')
            .map(|seed| {
                seed.trim()
                    .parse()
                    .expect("HEADWATER_TEST_SEEDS is a list of numbers")
            })
            .collect(),
        Err(_) => (1..=count).collect(),
    }
}

/// Prints the seed if what follows panics.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "with seed {}: HEADWATER_TEST_SEEDS={} runs it again",
                self.0, self.0
            );
        }
    }
}
