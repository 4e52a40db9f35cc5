//! The keys of an operator, each once, and a number for each.
//!
//! The bytes of keys stand one behind the other, each with its length before it, and are found by a table of numbers. Of a
//! key that is gone they are left until there are more of those than of others; then all are written anew. A key takes its
//! bytes, one for the length, four for where they are, and about seven of the table.
//!
//! Invariant: a number stands for its key until that is forgotten; then it is given to another.
//! Bound: 1 GiB of keys.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a chunk, apart from that of a key that is longer.
const CHUNK_BYTES: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 16;
/// What the length of a key of so many bytes or more begins with; four bytes follow.
const LONG: u8 = u8::MAX;

/// Something that is noted of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// It has changed since it was written last.
    Dirty = 1,
    /// It has been written with state, and not as a deletion since.
    Written = 2,
}

/// Where the bytes of a key are, in chunks of [`CHUNK_BYTES`], above two bits for its marks.
#[derive(Clone, Copy, Debug)]
struct Place(u32);

impl Place {
    const MARK_BITS: u32 = 2;
    /// The number of chunks that it can tell apart.
    const CHUNKS: usize = 1 << (u32::BITS - Self::MARK_BITS - CHUNK_BITS);

    const fn new(chunk: usize, at: usize) -> Self {
        Self(((chunk << CHUNK_BITS | at) as u32) << Self::MARK_BITS)
    }

    const fn chunk(self) -> usize {
        (self.0 >> (Self::MARK_BITS + CHUNK_BITS)) as usize
    }

    const fn at(self) -> usize {
        (self.0 >> Self::MARK_BITS) as usize & (CHUNK_BYTES - 1)
    }
}

/// Keys by number.
#[derive(Debug, Default)]
pub(super) struct Keys {
    table: HashTable<u32>,
    places: Vec<Place>,
    chunks: Vec<Vec<u8>>,
    free: Vec<u32>,
    /// Bytes of keys that are gone, and of those that are there.
    dead_bytes: usize,
    live_bytes: usize,
}

impl Keys {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The numbers of all, in no order that means something.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.table.iter().copied()
    }

    /// The hash of a key, by which it is found and added.
    #[inline]
    pub(super) fn hash(key: &[u8]) -> u64 {
        xxh3_64(key)
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        if key.len() >= usize::from(LONG) {
            let same = |number: &u32| self.get(*number) == key;
            return self.table.find(hash, same).copied();
        }
        let same = |number: &u32| {
            let place = self.places[*number as usize];
            let bytes = &self.chunks[place.chunk()][place.at()..];
            usize::from(bytes[0]) == key.len() && bytes[1..=key.len()] == *key
        };
        self.table.find(hash, same).copied()
    }

    /// The bytes of a key that has not been forgotten.
    #[inline]
    pub(super) fn get(&self, number: u32) -> &[u8] {
        bytes_at(&self.chunks, self.places[number as usize])
    }

    /// Adds a key that is not there; `None` if there is no room.
    pub(super) fn add(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let place = self.put(key)?;
        let number = if let Some(number) = self.free.pop() {
            self.places[number as usize] = place;
            number
        } else {
            self.places.push(place);
            (self.places.len() - 1) as u32
        };
        let (places, chunks) = (&self.places, &self.chunks);
        let hash_of = |number: &u32| xxh3_64(bytes_at(chunks, places[*number as usize]));
        self.table.insert_unique(hash, number, hash_of);
        Some(number)
    }

    /// Forgets a key; its number will be another's.
    pub(super) fn forget(&mut self, number: u32) {
        let key = self.get(number);
        let (hash, bytes) = (xxh3_64(key), stored_bytes(key.len()));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
        self.live_bytes -= bytes;
        self.dead_bytes += bytes;
        if self.dead_bytes > self.live_bytes.max(CHUNK_BYTES) {
            self.compact();
        }
    }

    #[inline]
    pub(super) fn has(&self, number: u32, mark: Mark) -> bool {
        self.places[number as usize].0 & mark as u32 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, number: u32, mark: Mark, to: bool) {
        let place = &mut self.places[number as usize];
        place.0 &= !(mark as u32);
        if to {
            place.0 |= mark as u32;
        }
    }

    /// Writes the bytes of a key; `None` if there is no room.
    fn put(&mut self, key: &[u8]) -> Option<Place> {
        let bytes = stored_bytes(key.len());
        let full = |chunk: &Vec<u8>| chunk.len() + bytes > CHUNK_BYTES;
        if self.chunks.last().is_none_or(full) {
            if self.chunks.len() == Place::CHUNKS {
                return None;
            }
            let capacity = match self.chunks.len() {
                0 => bytes,
                _ => bytes.max(CHUNK_BYTES),
            };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let place = Place::new(number, chunk.len());
        if key.len() < usize::from(LONG) {
            chunk.push(key.len() as u8);
        } else {
            chunk.push(LONG);
            // Payloads are shorter than 4 GiB.
            chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
        }
        chunk.extend_from_slice(key);
        self.live_bytes += bytes;
        Some(place)
    }

    /// Writes all keys anew that are there.
    fn compact(&mut self) {
        let before = std::mem::take(&mut self.chunks);
        (self.live_bytes, self.dead_bytes) = (0, 0);
        let mut numbers: Vec<u32> = self.numbers().collect();
        // In the order in which they were, so that a key's neighbours stay that.
        numbers.sort_unstable_by_key(|number| self.places[*number as usize].0);
        for number in numbers {
            let place = self.places[number as usize];
            let marks = place.0 & (Mark::Dirty as u32 | Mark::Written as u32);
            let moved = self.put(bytes_at(&before, place));
            let moved = moved.expect("they take no more room than before");
            self.places[number as usize] = Place(moved.0 | marks);
        }
    }
}

/// What a key of so many bytes takes.
const fn stored_bytes(key_bytes: usize) -> usize {
    let of_length = if key_bytes < LONG as usize { 1 } else { 5 };
    of_length + key_bytes
}

#[inline]
fn bytes_at(chunks: &[Vec<u8>], place: Place) -> &[u8] {
    let bytes = &chunks[place.chunk()][place.at()..];
    match bytes[0] {
        LONG => long_bytes_at(bytes),
        length => &bytes[1..=usize::from(length)],
    }
}

#[cold]
fn long_bytes_at(bytes: &[u8]) -> &[u8] {
    let length = bytes[1..5].try_into().expect("four bytes");
    &bytes[5..5 + u32::from_le_bytes(length) as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_come_and_go_and_what_is_left_of_them_is_bounded() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut keys = Keys::default();
        let mut known: BTreeMap<Vec<u8>, (u32, bool)> = BTreeMap::new();
        for step in 0..60_000_usize {
            let length = match random.u8(..100) {
                0 if step % 50 == 0 => CHUNK_BYTES + random.usize(..9),
                0..10 => 250 + random.usize(..10),
                _ => random.usize(..20),
            };
            let mut key = format!("{:x}", random.u16(..2_000)).into_bytes();
            key.resize(key.len().max(length), b'.');
            let hash = Keys::hash(&key);
            assert_eq!(keys.find(hash, &key), known.get(&key).map(|(n, _)| *n));
            if let Some((number, written)) = known.remove(&key) {
                assert_eq!(keys.get(number), key);
                assert_eq!(keys.has(number, Mark::Written), written);
                assert!(!keys.has(number, Mark::Dirty));
                keys.forget(number);
            } else {
                let number = keys.add(hash, &key).expect("there is room");
                let written = random.bool();
                keys.set(number, Mark::Dirty, true);
                keys.set(number, Mark::Written, written);
                keys.set(number, Mark::Dirty, false);
                known.insert(key, (number, written));
            }
            assert_eq!(keys.len(), known.len());
            assert!(keys.dead_bytes <= keys.live_bytes.max(CHUNK_BYTES));
        }
        let bytes: usize = known.keys().map(|key| stored_bytes(key.len())).sum();
        assert_eq!(keys.live_bytes, bytes);
        for (key, (number, _)) in &known {
            assert_eq!(keys.get(*number), key);
        }
        assert_eq!(keys.numbers().count(), known.len());
    }
}
