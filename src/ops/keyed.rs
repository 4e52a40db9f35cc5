//! State per key: find it by the key's bytes, remember which keys an epoch changed, write and read them.
//!
//! Invariants: a slot number stands for its key until the slot is empty and sealed; a key that has been written and whose
//! state becomes empty is written once more, as a deletion. Bound: `max_keys`; a new key beyond it is refused (the row that
//! brought it is discarded and counted), so that the keys that are known keep working.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::expr::{Context, EvalError, Expr};
use crate::state::{Decoder, Encoder, StateError, decode_key, push_key};
use crate::types::Value;

/// What is kept for one key.
pub(super) trait KeyState {
    /// Whether there is nothing left to keep.
    fn is_empty(&self) -> bool;
    /// Writes the state.
    fn encode(&self, out: &mut Encoder);
    /// Writes what has changed since it was written by this last; whatever is read back is told what was known before.
    fn encode_changes(&mut self, out: &mut Encoder) {
        self.encode(out);
    }
}

/// State for many keys.
#[derive(Debug)]
pub(super) struct Keyed<S> {
    table: HashTable<u32>,
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// Keys in the table whose state has become empty in this epoch; they no longer count against `max_keys`, so that
    /// where an epoch ends does not decide which key is refused.
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

impl<S: KeyState + Default> Keyed<S> {
    pub(super) fn new(max_keys: usize) -> Self {
        let max_keys = max_keys.min(u32::MAX as usize);
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
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
                // Emptied in this epoch, and not written as a deletion yet: as good as new.
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

    pub(super) fn get(&self, slot: u32) -> &S {
        &self.slots[slot as usize].state
    }

    /// The state to change; it will be written at the next seal.
    pub(super) fn change(&mut self, slot: u32) -> &mut S {
        self.change_of(slot).1
    }

    /// A key, and its state to change.
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
        self.table.iter().copied()
    }

    /// Writes the keys that have changed, and forgets those that are empty; false if none has.
    pub(super) fn seal(&mut self, out: &mut Encoder) -> bool {
        if self.dirty.is_empty() {
            return false;
        }
        for slot in self.dirty.drain(..) {
            let found = &mut self.slots[slot as usize];
            found.dirty = false;
            let empty = found.state.is_empty();
            if !empty {
                write_key(found, out);
                found.state.encode_changes(out);
            } else if found.written {
                write_key(found, out);
            }
            found.written = !empty;
            if empty {
                self.emptied -= 1;
                let hash = xxh3_64(&found.key);
                if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
                    entry.remove();
                }
                found.key = Box::default();
                found.state = S::default();
                self.free.push(slot);
            }
        }
        out.bool(false);
        true
    }

    pub(super) fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        let mut piece = Encoder::new();
        for slot in self.live() {
            let found = &self.slots[slot as usize];
            if found.state.is_empty() {
                continue;
            }
            write_key(found, &mut piece);
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
fn write_key<S: KeyState>(slot: &Slot<S>, out: &mut Encoder) {
    out.bool(true);
    out.bytes(&slot.key);
    out.bool(!slot.state.is_empty());
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
