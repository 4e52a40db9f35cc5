//! State per key: find it by the key's bytes, remember which keys an epoch changed, write and read them.
//!
//! Invariants: a slot number stands for its key until the slot is empty and sealed; a key that has been written and whose
//! state becomes empty is written once more, as a deletion. Bound: `max_keys`; a new key beyond it is refused (the row that
//! brought it is discarded and counted), so that the keys that are known keep working.
//!
//! The place of a key whose state is empty is kept for one epoch more: a device that reports once an epoch, and of which
//! nothing is left to keep at the end of each, is not listed anew every time. Such keys do not count.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::expr::{Context, EvalError, Expr};
use crate::state::{Decoder, Encoder, StateError, decode_key, push_key};
use crate::types::Value;

/// What is kept for one key.
pub(super) trait KeyState: Default {
    /// Whether there is nothing left to keep.
    fn is_empty(&self) -> bool;
    /// Writes the state.
    fn encode(&self, out: &mut Encoder);
    /// Writes what has changed since it was written by this last; whatever is read back is told what was known before.
    fn encode_changes(&mut self, out: &mut Encoder) {
        self.encode(out);
    }
    /// Makes a state that is empty as good as new.
    fn renew(&mut self) {
        *self = Self::default();
    }
}

/// State for many keys.
#[derive(Debug)]
pub(super) struct Keyed<S> {
    table: HashTable<u32>,
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// Keys whose state was empty at the last seal; those of which nothing has come since leave at the next.
    resting: Vec<u32>,
    /// Keys in the table whose state is empty; they do not count against `max_keys`, so that where an epoch ends does not
    /// decide which key is refused.
    emptied: usize,
    max_keys: usize,
}

#[derive(Debug)]
struct Slot<S> {
    key: Box<[u8]>,
    state: S,
    dirty: bool,
    /// Whether it has been written with state, and not as a deletion since.
    written: bool,
}

impl<S: KeyState> Keyed<S> {
    pub(super) fn new(max_keys: usize) -> Self {
        let max_keys = max_keys.min(u32::MAX as usize);
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            resting: Vec::new(),
            emptied: 0,
            max_keys,
        }
    }

    /// How many keys have state.
    pub(super) fn len(&self) -> usize {
        self.table.len() - self.emptied
    }

    /// Notes that a key's state has become empty.
    pub(super) fn emptied(&mut self) {
        self.emptied += 1;
    }

    /// The slot of `key`, if it has state.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let same = |slot: &u32| *self.slots[*slot as usize].key == *key;
        let slot = *self.table.find(xxh3_64(key), same)?;
        (!self.slots[slot as usize].state.is_empty()).then_some(slot)
    }

    /// The slot of `key`, made if there is room; `None` if there is not. The caller changes its state at once.
    pub(super) fn slot(&mut self, key: &[u8]) -> Option<u32> {
        let hash = xxh3_64(key);
        if let Some(slot) = self
            .table
            .find(hash, |&slot| *self.slots[slot as usize].key == *key)
        {
            let slot = *slot;
            if self.slots[slot as usize].state.is_empty() {
                // Emptied in this epoch, or resting: as good as new.
                if self.len() >= self.max_keys {
                    return None;
                }
                self.emptied -= 1;
            }
            return Some(slot);
        }
        if self.len() >= self.max_keys {
            return None;
        }
        let fresh = Slot {
            key: key.into(),
            state: S::default(),
            dirty: false,
            written: false,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = fresh;
            slot
        } else {
            self.slots.push(fresh);
            (self.slots.len() - 1) as u32
        };
        let slots = &self.slots;
        self.table
            .insert_unique(hash, slot, |&slot| xxh3_64(&slots[slot as usize].key));
        Some(slot)
    }

    pub(super) fn key(&self, slot: u32) -> &[u8] {
        &self.slots[slot as usize].key
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &S {
        &self.slots[slot as usize].state
    }

    /// The state to change; it will be written at the next seal.
    #[inline]
    pub(super) fn change(&mut self, slot: u32) -> &mut S {
        self.change_of(slot).1
    }

    /// A key, and its state to change.
    #[inline]
    pub(super) fn change_of(&mut self, slot: u32) -> (&[u8], &mut S) {
        let found = &mut self.slots[slot as usize];
        if !found.dirty {
            found.dirty = true;
            self.dirty.push(slot);
        }
        (&found.key, &mut found.state)
    }

    /// What is derived from the state, to change without writing it at the next seal.
    pub(super) fn annotate(&mut self, slot: u32) -> &mut S {
        &mut self.slots[slot as usize].state
    }

    /// Puts slots into the order of their keys' bytes.
    pub(super) fn sort(&self, slots: &mut [u32]) {
        // Not the unstable sort: most come in that order, or in a few runs of it, which this one merges.
        slots.sort_by(|a, b| self.key(*a).cmp(self.key(*b)));
    }

    /// The slots that have state.
    pub(super) fn live(&self) -> impl Iterator<Item = u32> + '_ {
        let slots = self.table.iter().copied();
        slots.filter(|slot| !self.get(*slot).is_empty())
    }

    /// Writes the keys that have changed, and forgets those that are empty; false if none has.
    pub(super) fn seal(&mut self, out: &mut Encoder) -> bool {
        let mut resting = std::mem::take(&mut self.resting);
        for slot in resting.drain(..) {
            self.let_go(slot);
        }
        self.resting = resting;
        if self.dirty.is_empty() {
            return false;
        }
        for slot in self.dirty.drain(..) {
            let found = &mut self.slots[slot as usize];
            found.dirty = false;
            if found.state.is_empty() {
                if found.written {
                    write_key(found, false, out);
                }
                found.written = false;
                found.state.renew();
                self.resting.push(slot);
            } else {
                write_key(found, true, out);
                found.state.encode_changes(out);
                found.written = true;
            }
        }
        out.bool(false);
        true
    }

    /// Forgets a key that rests, unless something of it has come since the last seal.
    fn let_go(&mut self, slot: u32) {
        let found = &mut self.slots[slot as usize];
        if found.dirty || !found.state.is_empty() {
            return;
        }
        self.emptied -= 1;
        let hash = xxh3_64(&found.key);
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        found.key = Box::default();
        found.state = S::default();
        self.free.push(slot);
    }

    pub(super) fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        let mut piece = Encoder::new();
        for slot in self.live() {
            let found = &self.slots[slot as usize];
            write_key(found, true, &mut piece);
            found.state.encode(&mut piece);
            if piece.len() >= piece_bytes {
                piece.bool(false);
                out(piece.as_slice());
                piece.clear();
            }
        }
        if !piece.is_empty() {
            piece.bool(false);
            out(piece.as_slice());
        }
    }

    /// Applies what `seal` or `snapshot` wrote, of states that are always written whole.
    pub(super) fn restore(
        &mut self,
        from: &mut Decoder<'_>,
        mut decode: impl FnMut(&mut Decoder<'_>) -> Result<S, StateError>,
    ) -> Result<(), StateError> {
        self.restore_changes(from, |from, state| {
            *state = decode(from)?;
            Ok(())
        })
    }

    /// Applies what `seal` or `snapshot` wrote. State that is there stays, whatever `max_keys` says now.
    pub(super) fn restore_changes(
        &mut self,
        from: &mut Decoder<'_>,
        mut decode: impl FnMut(&mut Decoder<'_>, &mut S) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let max_keys = std::mem::replace(&mut self.max_keys, usize::MAX);
        let restored = self.restore_entries(from, &mut decode);
        self.max_keys = max_keys;
        restored
    }

    fn restore_entries(
        &mut self,
        from: &mut Decoder<'_>,
        decode: &mut dyn FnMut(&mut Decoder<'_>, &mut S) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        while from.bool()? {
            let key = from.bytes()?;
            let present = from.bool()?;
            // Without a bound on keys there is always a slot.
            let Some(slot) = self.slot(key) else { continue };
            if present {
                self.slots[slot as usize].written = true;
                decode(from, &mut self.slots[slot as usize].state)?;
            } else {
                let hash = xxh3_64(key);
                if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
                    entry.remove();
                }
                self.slots[slot as usize] = Slot {
                    key: Box::default(),
                    state: S::default(),
                    dirty: false,
                    written: false,
                };
                self.free.push(slot);
            }
        }
        Ok(())
    }
}

/// Reads the key of a row into `bytes`, which are cleared before; whether no part of it is NULL.
pub(super) fn read_key(
    keys: &[Expr],
    row: &[Value],
    context: &Context,
    bytes: &mut Vec<u8>,
) -> Result<bool, EvalError> {
    bytes.clear();
    let mut complete = true;
    for key in keys {
        if let Some(value) = key.held(row) {
            complete &= !value.is_null();
            push_key(value, bytes);
            continue;
        }
        let value = key.eval_ref(row, context)?;
        complete &= !value.is_null();
        push_key(&value, bytes);
    }
    Ok(complete)
}

/// Writes a key, and whether it has state.
fn write_key<S>(slot: &Slot<S>, present: bool, out: &mut Encoder) {
    out.bool(true);
    out.bytes(&slot.key);
    out.bool(present);
}

/// A key for people, from its bytes.
pub(super) fn key_text(key: &[u8]) -> String {
    values_text(&decode_key(key).unwrap_or_default())
}

/// The values of a key for people, as SQL writes them.
pub(super) fn values_text(key: &[Value]) -> String {
    let values = key.iter().cloned().map(|v| Expr::Literal(v).to_string());
    values.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often something of the key has come.
    #[derive(Debug, Default)]
    struct Count(u64);

    impl KeyState for Count {
        fn is_empty(&self) -> bool {
            self.0 == 0
        }

        fn encode(&self, out: &mut Encoder) {
            out.u64(self.0);
        }
    }

    fn sealed(state: &mut Keyed<Count>) -> Vec<u8> {
        let mut out = Encoder::new();
        state.seal(&mut out);
        out.into_bytes()
    }

    #[test]
    fn a_key_without_state_keeps_its_place_for_an_epoch_and_takes_none_from_others() {
        let mut state = Keyed::new(1);
        let pass = |state: &mut Keyed<Count>| {
            let slot = state.slot(b"a").expect("there is room");
            state.change(slot).0 += 1;
            state.change(slot).0 = 0;
            state.emptied();
            slot
        };
        let slot = pass(&mut state);
        for _ in 0..3 {
            assert_eq!(sealed(&mut state), [0]);
            assert_eq!((state.len(), state.live().count()), (0, 0));
            assert_eq!(state.find(b"a"), None);
            assert_eq!(pass(&mut state), slot);
        }
        assert_eq!(sealed(&mut state), [0]);
        // Another is as welcome as if the first had never been; then that one is new, and there is no room.
        let other = state.slot(b"b").expect("there is room");
        state.change(other).0 += 1;
        assert_eq!(state.slot(b"a"), None);
        sealed(&mut state);
        assert_eq!(state.free, [slot]);
        assert_eq!(state.table.len(), 1);
    }

    #[test]
    fn state_that_was_written_and_is_empty_is_written_as_a_deletion_once() {
        let (mut state, mut copy) = (Keyed::<Count>::new(9), Keyed::<Count>::new(9));
        let mut take_over = |bytes: &[u8]| {
            let mut from = Decoder::new(bytes);
            let read = copy.restore(&mut from, |from| Ok(Count(from.u64()?)));
            assert_eq!(read, Ok(()));
            copy.len()
        };
        let slot = state.slot(b"a").expect("there is room");
        state.change(slot).0 = 7;
        assert_eq!(take_over(&sealed(&mut state)), 1);
        state.change(slot).0 = 0;
        state.emptied();
        assert_eq!(take_over(&sealed(&mut state)), 0);
        let slot = state.slot(b"a").expect("there is room");
        state.change(slot).0 = 8;
        assert_eq!(take_over(&sealed(&mut state)), 1);
        assert_eq!(state.len(), 1);
    }
}
