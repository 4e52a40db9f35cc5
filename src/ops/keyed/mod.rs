//! State per key: find it by the key's bytes, remember which keys an epoch changed, write and read them.
//!
//! Invariants: a slot number stands for its key until the slot is empty and sealed; a key that has been written and whose
//! state becomes empty is written once more, as a deletion. Bound: `max_keys`; a new key beyond it is refused (the row that
//! brought it is discarded and counted), so that the keys that are known keep working.
//!
//! The place of a key whose state is empty is kept for one epoch more: a device that reports once an epoch, and of which
//! nothing is left to keep at the end of each, is not listed anew every time. Such keys do not count.
//!
//! Many keys are what takes memory: `keys` has their bytes, and what is noted of each beside its state, in about twelve bytes
//! more; `slab` has the states without room for ever more of them.

mod keys;
mod slab;
mod written;

use crate::expr::{Context, EvalError, Expr};
use crate::state::{Decoder, Encoder, StateError, decode_key, push_key};
use crate::types::Value;

use keys::{Keys, Mark};
pub(super) use slab::Slab;
pub(super) use written::NO_MORE_KEYS;
use written::{read_written_key, write_key};

/// What is kept for one key.
pub(super) trait KeyState: Default {
    /// Whether there is nothing left to keep.
    fn is_empty(&self) -> bool;
    /// Whether anything of it is written with its key. Where that is not so of one that is not empty, its key is known by
    /// what is written elsewhere.
    fn is_stored(&self) -> bool {
        true
    }
    /// Makes a state that is empty as good as new.
    fn renew(&mut self) {
        *self = Self::default();
    }
}

/// State that can be written by itself.
pub(super) trait WrittenState: KeyState {
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
    keys: Keys,
    /// By slot, which is the number of the key.
    states: Slab<S>,
    dirty: Vec<u32>,
    /// Keys whose state was empty at the last seal; those of which nothing has come since leave at the next.
    resting: Vec<u32>,
    /// Keys that are known and whose state is empty; they do not count against `max_keys`, so that where an epoch ends does
    /// not decide which key is refused.
    emptied: usize,
    max_keys: usize,
}

impl<S: KeyState> Keyed<S> {
    pub(super) fn new(max_keys: usize) -> Self {
        let max_keys = max_keys.min(u32::MAX as usize);
        Self {
            keys: Keys::default(),
            states: Slab::default(),
            dirty: Vec::new(),
            resting: Vec::new(),
            emptied: 0,
            max_keys,
        }
    }

    /// How many keys have state.
    pub(super) fn len(&self) -> usize {
        self.keys.len() - self.emptied
    }

    /// Notes that a key's state has become empty.
    pub(super) fn emptied(&mut self) {
        self.emptied += 1;
    }

    /// The slot of `key`, if it has state.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let slot = self.keys.find(Keys::hash(key), key)?;
        (!self.get(slot).is_empty()).then_some(slot)
    }

    /// The slot of `key`, made if there is room; `None` if there is not. The caller changes its state at once.
    #[inline]
    pub(super) fn slot(&mut self, key: &[u8]) -> Option<u32> {
        let hash = Keys::hash(key);
        match self.keys.find(hash, key) {
            Some(slot) if !self.get(slot).is_empty() => Some(slot),
            found => self.slot_of_new(hash, key, found),
        }
    }

    /// The same of a key without state, for which there may be a slot.
    fn slot_of_new(&mut self, hash: u64, key: &[u8], found: Option<u32>) -> Option<u32> {
        if self.len() >= self.max_keys {
            return None;
        }
        if let Some(slot) = found {
            // Emptied in this epoch, or resting: as good as new.
            self.emptied -= 1;
            return Some(slot);
        }
        let slot = self.keys.add(hash, key)?;
        if slot as usize == self.states.len() {
            self.states.push(S::default());
        }
        Some(slot)
    }

    #[inline]
    pub(super) fn key(&self, slot: u32) -> &[u8] {
        self.keys.get(slot)
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &S {
        self.states.get(slot)
    }

    /// The state to change; it will be written at the next seal.
    #[inline]
    pub(super) fn change(&mut self, slot: u32) -> &mut S {
        if !self.keys.has(slot, Mark::Dirty) {
            self.keys.set(slot, Mark::Dirty, true);
            self.dirty.push(slot);
        }
        self.states.get_mut(slot)
    }

    /// A key, and its state to change.
    #[inline]
    pub(super) fn change_of(&mut self, slot: u32) -> (&[u8], &mut S) {
        self.change(slot);
        (self.keys.get(slot), self.states.get_mut(slot))
    }

    /// What is derived from the state, to change without writing it at the next seal.
    pub(super) fn annotate(&mut self, slot: u32) -> &mut S {
        self.states.get_mut(slot)
    }

    /// Puts slots into the order of their keys' bytes.
    pub(super) fn sort(&self, slots: &mut [u32]) {
        if slots.len() < 2 {
            return;
        }
        // Not the unstable sort: most come in that order, or in a few runs of it, which this one merges.
        slots.sort_by(|a, b| self.key(*a).cmp(self.key(*b)));
    }

    /// The slots that have state.
    pub(super) fn live(&self) -> impl Iterator<Item = u32> + '_ {
        let slots = self.keys.numbers();
        slots.filter(|slot| !self.get(*slot).is_empty())
    }

    /// Writes the keys that have changed, and forgets those that are empty; false if none has. `encode` writes what has
    /// changed of the state of a slot.
    pub(super) fn seal_by(
        &mut self,
        out: &mut Encoder,
        mut encode: impl FnMut(u32, &mut S, &mut Encoder),
    ) -> bool {
        let mut resting = std::mem::take(&mut self.resting);
        for slot in resting.drain(..) {
            self.let_go(slot);
        }
        self.resting = resting;
        if self.dirty.is_empty() {
            return false;
        }
        let mut before = None;
        for slot in self.dirty.drain(..) {
            self.keys.set(slot, Mark::Dirty, false);
            let state = self.states.get_mut(slot);
            let written = self.keys.has(slot, Mark::Written);
            if state.is_empty() {
                if written {
                    write_key(&self.keys, &mut before, slot, false, out);
                    self.keys.set(slot, Mark::Written, false);
                }
                state.renew();
                self.resting.push(slot);
            } else {
                let stored = state.is_stored();
                if stored || written {
                    write_key(&self.keys, &mut before, slot, true, out);
                    encode(slot, state, out);
                }
                if stored != written {
                    self.keys.set(slot, Mark::Written, stored);
                }
            }
        }
        // One epoch with many keys must not cost its memory for ever.
        self.dirty.shrink_to(KEPT_SLOTS);
        self.resting.shrink_to(KEPT_SLOTS);
        out.u64(NO_MORE_KEYS);
        true
    }

    /// Forgets a key that rests, unless something of it has come since the last seal.
    fn let_go(&mut self, slot: u32) {
        let state = self.states.get_mut(slot);
        if self.keys.has(slot, Mark::Dirty) || !state.is_empty() {
            return;
        }
        *state = S::default();
        self.emptied -= 1;
        self.keys.forget(slot);
    }

    /// Writes all keys that have state, in pieces of about `piece_bytes`. `encode` writes the state of a slot, and is told
    /// whether it is the first of its piece.
    pub(super) fn snapshot_by(
        &self,
        piece_bytes: usize,
        out: &mut dyn FnMut(&[u8]),
        mut encode: impl FnMut(u32, &S, bool, &mut Encoder),
    ) {
        let mut piece = Encoder::new();
        let mut before = None;
        for slot in self.live().filter(|slot| self.get(*slot).is_stored()) {
            let first = piece.is_empty();
            write_key(&self.keys, &mut before, slot, true, &mut piece);
            encode(slot, self.get(slot), first, &mut piece);
            if piece.len() >= piece_bytes {
                piece.u64(NO_MORE_KEYS);
                out(piece.as_slice());
                piece.clear();
                before = None;
            }
        }
        if !piece.is_empty() {
            piece.u64(NO_MORE_KEYS);
            out(piece.as_slice());
        }
    }

    /// The slot of a key of which something is read that is not written with it; whoever asks changes its state at once.
    pub(super) fn restored_slot(&mut self, key: &[u8]) -> Result<u32, StateError> {
        self.beyond_max_keys(|state| state.slot(key))
            .ok_or(TOO_MANY)
    }

    /// Forgets a key whose state has become empty by what was read, and of which nothing was written with it.
    pub(super) fn emptied_by_reading(&mut self, slot: u32) {
        self.emptied();
        self.let_go(slot);
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

    /// Applies what `seal` or `snapshot` wrote.
    pub(super) fn restore_changes(
        &mut self,
        from: &mut Decoder<'_>,
        mut decode: impl FnMut(&mut Decoder<'_>, &mut S) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.restore_by(from, |_, state, from| match from {
            Some(from) => decode(from, state),
            None => Ok(()),
        })
    }

    /// Applies what `seal_by` or `snapshot_by` wrote. State that is there stays, whatever `max_keys` says now. `decode` reads
    /// the state of a slot, or with nothing to read from makes ready for that it is forgotten.
    pub(super) fn restore_by(
        &mut self,
        from: &mut Decoder<'_>,
        mut decode: impl FnMut(u32, &mut S, Option<&mut Decoder<'_>>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.beyond_max_keys(|state| state.restore_entries(from, &mut decode))
    }

    /// Does something for which `max_keys` does not count.
    fn beyond_max_keys<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let max_keys = std::mem::replace(&mut self.max_keys, usize::MAX);
        let done = act(self);
        self.max_keys = max_keys;
        done
    }

    fn restore_entries(
        &mut self,
        from: &mut Decoder<'_>,
        decode: &mut Decode<'_, S>,
    ) -> Result<(), StateError> {
        let mut key = Vec::new();
        while let Some(present) = read_written_key(&mut key, from)? {
            let slot = self.slot(&key).ok_or(TOO_MANY)?;
            let state = self.states.get_mut(slot);
            if present {
                decode(slot, state, Some(from))?;
                // Nobody writes that, but bytes from outside may say it.
                self.emptied += usize::from(state.is_empty());
                self.keys.set(slot, Mark::Written, state.is_stored());
            } else {
                decode(slot, state, None)?;
                *state = S::default();
                self.keys.set(slot, Mark::Written, false);
                self.keys.forget(slot);
            }
        }
        Ok(())
    }
}

impl<S: WrittenState> Keyed<S> {
    /// Writes the keys that have changed, and forgets those that are empty; false if none has.
    pub(super) fn seal(&mut self, out: &mut Encoder) -> bool {
        self.seal_by(out, |_, state, out| state.encode_changes(out))
    }

    /// Writes all keys that have state, in pieces of about `piece_bytes`.
    pub(super) fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        self.snapshot_by(piece_bytes, out, |_, state, _, out| state.encode(out));
    }
}

/// Reads the state of a slot, or with nothing to read from makes ready for that it is forgotten.
type Decode<'d, S> =
    dyn FnMut(u32, &mut S, Option<&mut Decoder<'_>>) -> Result<(), StateError> + 'd;

/// More keys than this program has room for have never been written.
const TOO_MANY: StateError = StateError::Invalid {
    what: "set of keys",
};

/// Slots for which a list keeps its room between epochs.
const KEPT_SLOTS: usize = 4_096;

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
    }

    impl WrittenState for Count {
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
        assert_eq!(state.keys.len(), 1);
        // Its number is given to the next.
        state.max_keys = 2;
        assert_eq!(state.slot(b"c"), Some(slot));
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

    #[test]
    fn keys_come_back_in_whatever_order_they_were_written() {
        let mut rng = fastrand::Rng::with_seed(8);
        let mut state = Keyed::<Count>::new(1_000);
        let mut copies = [Keyed::<Count>::new(1_000), Keyed::new(1_000)];
        let mut expected = std::collections::BTreeMap::new();
        for _ in 0..200 {
            for _ in 0..rng.usize(1..20) {
                let key = format!("plant-{}/{}", rng.u8(..3), "pump-".repeat(rng.usize(..4)));
                let count = rng.u64(..3);
                let known = state.find(key.as_bytes()).is_some();
                if count == 0 && !known {
                    continue;
                }
                let slot = state.slot(key.as_bytes()).expect("there is room");
                state.change(slot).0 = count;
                if count == 0 {
                    state.emptied();
                    expected.remove(&key);
                } else {
                    expected.insert(key, count);
                }
            }
            let mut pieces = Vec::new();
            let changes = sealed(&mut state);
            state.snapshot(50, &mut |piece| pieces.push(piece.to_vec()));
            copies[1] = Keyed::new(1_000);
            let read = |copy: &mut Keyed<Count>, bytes: &[u8]| {
                let mut from = Decoder::new(bytes);
                copy.restore(&mut from, |from| Ok(Count(from.u64()?)))
                    .expect("what was written can be read");
                assert!(from.is_empty());
            };
            if !changes.is_empty() {
                read(&mut copies[0], &changes);
            }
            for piece in &pieces {
                read(&mut copies[1], piece);
            }
            for copy in &copies {
                let found = copy.live().map(|slot| {
                    let key = String::from_utf8(copy.key(slot).to_vec());
                    (key.expect("text"), copy.get(slot).0)
                });
                assert_eq!(
                    found.collect::<std::collections::BTreeMap<_, _>>(),
                    expected
                );
            }
        }
    }

    #[test]
    fn stored_state_that_is_empty_does_not_count() {
        let mut keys = Keys::default();
        let key = keys.add(Keys::hash(b"a"), b"a").expect("there is room");
        let mut out = Encoder::new();
        write_key(&keys, &mut None, key, true, &mut out);
        out.u64(0);
        out.u64(NO_MORE_KEYS);
        let mut state = Keyed::<Count>::new(9);
        let read = state.restore(&mut Decoder::new(out.as_slice()), |from| {
            Ok(Count(from.u64()?))
        });
        assert_eq!((read, state.len()), (Ok(()), 0));
        let slot = state.slot(b"a").expect("there is room");
        state.change(slot).0 = 1;
        assert_eq!(state.len(), 1);
    }
}
