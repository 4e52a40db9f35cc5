//! What workloads are fed: batches of messages that are written when they are due, so that the input does not lie in memory
//! and does not count as the engine's. The same arguments give the same messages, on every machine and for ever.

/// The event time of the first message: 2026-01-01.
pub(crate) const FIRST_MILLIS: u64 = 1_767_225_600_000;
/// Messages of a batch: few enough to stay in the caches, as messages from a socket would.
pub(crate) const BATCH_MESSAGES: usize = 1_000;

/// Messages one behind the other, each for one table.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// The table of each message, by its number, and where it ends.
    ends: Vec<(u16, u32)>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds the message that `write` writes, for a table.
    pub(crate) fn push(&mut self, table: u16, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push((table, self.bytes.len() as u32));
    }

    /// The messages, each with the number of its table.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |(table, end)| {
            let message = &self.bytes[begin..*end as usize];
            begin = *end as usize;
            (usize::from(*table), message)
        })
    }
}

/// A stream of messages that does not end.
pub(crate) trait Generator {
    /// Adds the next message.
    fn write(&mut self, batch: &mut Batch);
}

/// A generator of numbers (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
