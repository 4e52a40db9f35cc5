//! The timelines of keys: which key is on which. Tables with a watermark for each key share them, so that the rows
//! of one device in two tables are on one line.
//!
//! Invariants: a key keeps its number for ever, also over restarts; numbers begin at 1, as 0 is the shared line.
//! Bound: `max_keys`; a row of a further key is refused, so that the keys that are known keep working.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::state::{Decoder, Encoder, StateError};
use crate::types::Timeline;

#[derive(Debug)]
pub(super) struct Timelines {
    table: HashTable<u32>,
    keys: Vec<Box<[u8]>>,
    /// How many of them are sealed.
    sealed: usize,
    max_keys: usize,
}

impl Timelines {
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            table: HashTable::new(),
            keys: Vec::new(),
            sealed: 0,
            max_keys: max_keys.min(u32::MAX as usize - 1),
        }
    }

    /// The line of a key, as the bytes of its values; `None` if it is new and there is no room.
    pub(super) fn of(&mut self, key: &[u8]) -> Option<Timeline> {
        let hash = xxh3_64(key);
        if let Some(at) = self.table.find(hash, |&at| *self.keys[at as usize] == *key) {
            return Some(Timeline(at + 1));
        }
        (self.keys.len() < self.max_keys).then(|| self.add(hash, key))
    }

    fn add(&mut self, hash: u64, key: &[u8]) -> Timeline {
        let at = self.keys.len() as u32;
        self.keys.push(key.into());
        let keys = &self.keys;
        self.table
            .insert_unique(hash, at, |&at| xxh3_64(&keys[at as usize]));
        Timeline(at + 1)
    }

    /// How many lines there are, the shared one included.
    pub(super) fn count(&self) -> usize {
        self.keys.len() + 1
    }

    /// Writes the keys that are new since the last seal; false if none is.
    pub(super) fn seal(&mut self, out: &mut Encoder) -> bool {
        let new = &self.keys[self.sealed..];
        for key in new {
            out.bytes(key);
        }
        let any = !new.is_empty();
        self.sealed = self.keys.len();
        any
    }

    /// Writes all keys.
    pub(super) fn snapshot(&self, out: &mut Encoder) {
        for key in &self.keys {
            out.bytes(key);
        }
    }

    /// Reads what `seal` or `snapshot` wrote, in the order it was written.
    pub(super) fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        while !from.is_empty() {
            let key = from.bytes()?;
            self.add(xxh3_64(key), key);
        }
        self.sealed = self.keys.len();
        Ok(())
    }
}
