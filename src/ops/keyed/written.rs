//! Keys as they are written with their state: in a log of changes and in snapshots.
//!
//! Before each stands whether another follows, whether it has state, and how many bytes it shares with the one before it.

use crate::state::{Decoder, Encoder, StateError};

use super::keys::Keys;

/// Stands where another key might.
pub(in crate::ops) const NO_MORE_KEYS: u64 = 0;
const ANOTHER: u64 = 0b01;
const PRESENT: u64 = 0b10;
/// Behind the two bits: how many bytes a key shares with the one before it,
const SHARED_SHIFT: u32 = 2;
/// which are at most so many: what is read takes no more memory than a multiple of what was written.
const MOST_SHARED: usize = 255;

/// Writes the key of a slot, and whether it has state. Names of devices begin alike: what a key shares with the one that
/// was written before it is not written again.
#[inline]
pub(super) fn write_key(
    keys: &Keys,
    before: &mut Option<u32>,
    slot: u32,
    present: bool,
    out: &mut Encoder,
) {
    let key = keys.get(slot);
    let shared = before.map_or(0, |before| shared_bytes(keys.get(before), key));
    let shared = shared.min(MOST_SHARED);
    *before = Some(slot);
    let present = if present { PRESENT } else { 0 };
    out.u64((shared as u64) << SHARED_SHIFT | present | ANOTHER);
    out.bytes(&key[shared..]);
}

/// Reads what [`write_key`] wrote into `key`, which holds the key before it: whether it has state; `None` if no other follows.
pub(super) fn read_written_key(
    key: &mut Vec<u8>,
    from: &mut Decoder<'_>,
) -> Result<Option<bool>, StateError> {
    const INVALID: StateError = StateError::Invalid { what: "key" };
    let how = from.u64()?;
    if how == NO_MORE_KEYS {
        return Ok(None);
    }
    let shared = usize::try_from(how >> SHARED_SHIFT).map_err(|_| INVALID)?;
    if how & ANOTHER == 0 || shared > key.len().min(MOST_SHARED) {
        return Err(INVALID);
    }
    key.truncate(shared);
    key.extend_from_slice(from.bytes()?);
    Ok(Some(how & PRESENT != 0))
}

/// How many bytes two keys have in common at their start.
#[inline]
fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    let least = a.len().min(b.len());
    let (a, b) = (&a[..least], &b[..least]);
    let mut at = 0;
    while at < least {
        // The last word overlaps the one before it.
        let from = at.min(least.saturating_sub(WORD));
        let (Some(a), Some(b)) = (a[from..].first_chunk(), b[from..].first_chunk()) else {
            return a.iter().zip(b).take_while(|(a, b)| a == b).count();
        };
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return from + differing.trailing_zeros() as usize / 8;
        }
        at = from + WORD;
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_share_what_they_begin_with() {
        let random = |rng: &mut fastrand::Rng| -> Vec<u8> {
            let len = rng.usize(..30);
            std::iter::repeat_with(|| rng.u8(..2)).take(len).collect()
        };
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let a = random(&mut rng);
            let mut b = a.clone();
            b.truncate(rng.usize(..=a.len()));
            b.extend(random(&mut rng));
            let naive = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            assert_eq!(shared_bytes(&a, &b), naive, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_key_that_shares_more_than_there_was_is_an_error() {
        let mut out = Encoder::new();
        out.u64(5 << SHARED_SHIFT | PRESENT | ANOTHER);
        out.bytes(b"a");
        let read = read_written_key(&mut b"1234".to_vec(), &mut Decoder::new(out.as_slice()));
        assert_eq!(read, Err(StateError::Invalid { what: "key" }));
    }
}
