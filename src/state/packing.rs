//! How state and outbox rows are packed before they are written: flash wears with each byte, and rows of JSON and keys
//! that resemble each other shrink to a fraction for less than what writing them would take.
//!
//! ```text
//! 0 · the bytes as they are
//! 1 · their length (varint) · an LZ4 block of them
//! ```
//! Whichever is shorter. Invariant: what was packed comes back; other bytes are an error, never a panic, and take no more
//! memory than LZ4 could have packed into them.

use std::borrow::Cow;

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use super::{Decoder, Encoder, StateError};

const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// Shorter ones do not shrink.
const LEAST_BYTES: usize = 64;
/// An LZ4 block is at least this part of what it holds: a byte adds at most 255 to the length of a match.
const MOST_RATIO: u64 = 255;

/// Bytes that are kept packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(Vec<u8>);

impl Packed {
    /// Packs them.
    pub fn of(bytes: &[u8]) -> Self {
        let mut packed = pack(bytes);
        packed.shrink_to_fit();
        Self(packed)
    }

    /// Takes what was packed before, if it unpacks.
    pub fn from_stored(packed: &[u8]) -> Result<Self, StateError> {
        unpack(packed)?;
        Ok(Self(packed.to_vec()))
    }

    /// As they are stored.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// What was packed.
    pub fn unpacked(&self) -> Cow<'_, [u8]> {
        unpack(&self.0).expect("it was packed here, or has been unpacked once")
    }

    /// The length of what was packed.
    pub fn unpacked_len(&self) -> usize {
        unpacked_len(&self.0).expect("it was packed here, or has been unpacked once")
    }
}

/// `bytes`, packed.
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() >= LEAST_BYTES {
        let mut encoder = Encoder::over(Vec::with_capacity(
            get_maximum_output_size(bytes.len()) + 11,
        ));
        encoder.u8(LZ4);
        encoder.u64(bytes.len() as u64);
        let mut packed = encoder.into_bytes();
        let header = packed.len();
        packed.resize(header + get_maximum_output_size(bytes.len()), 0);
        let len = compress_into(bytes, &mut packed[header..])
            .expect("the output has the room that it says it needs");
        packed.truncate(header + len);
        if packed.len() <= bytes.len() {
            return packed;
        }
    }
    [&[PLAIN], bytes].concat()
}

/// What was packed.
pub fn unpack(packed: &[u8]) -> Result<Cow<'_, [u8]>, StateError> {
    let (len, body) = open(packed)?;
    if packed[0] == PLAIN {
        return Ok(Cow::Borrowed(body));
    }
    let mut bytes = vec![0; len];
    match decompress_into(body, &mut bytes) {
        Ok(written) if written == len => Ok(Cow::Owned(bytes)),
        _ => Err(broken()),
    }
}

/// The length of what was packed.
pub fn unpacked_len(packed: &[u8]) -> Result<usize, StateError> {
    open(packed).map(|(len, _)| len)
}

fn open(packed: &[u8]) -> Result<(usize, &[u8]), StateError> {
    let mut decoder = Decoder::new(packed);
    let how = decoder.u8()?;
    let len = if how == LZ4 {
        Some(decoder.u64()?)
    } else {
        None
    };
    let body = &packed[packed.len() - decoder.remaining()..];
    match (how, len) {
        (PLAIN, _) => Ok((body.len(), body)),
        (LZ4, Some(len)) if len / MOST_RATIO <= body.len() as u64 => Ok((len as usize, body)),
        _ => Err(broken()),
    }
}

const fn broken() -> StateError {
    StateError::Invalid {
        what: "packed piece",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_shrink_to_a_third() {
        let row = |n: u32| {
            format!(
                "{{\"device\":\"pump-{n}\",\"n\":{},\"mean\":{}.5}}",
                n * 7 % 13,
                n * 31 % 100
            )
        };
        let rows = (0..64).map(row).collect::<Vec<_>>().concat();
        let packed = pack(rows.as_bytes());
        assert!(
            packed.len() * 3 < rows.len(),
            "{} of {}",
            packed.len(),
            rows.len()
        );
        assert_eq!(unpacked_len(&packed).unwrap(), rows.len());
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        assert_eq!(pack(b"ab"), [0, b'a', b'b']);
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(1_000)
            .collect();
        assert_eq!(pack(&random).len(), 1_001);
    }

    #[test]
    fn a_length_that_no_block_can_have_takes_no_memory() {
        let mut encoder = Encoder::new();
        encoder.u8(LZ4);
        encoder.u64(u64::MAX);
        assert!(unpack(encoder.as_slice()).is_err());
    }

    proptest! {
        #[test]
        fn bytes_come_back(piece: Vec<u8>, times in 1..50usize, tail: Vec<u8>) {
            let bytes = [piece.repeat(times), tail].concat();
            let packed = pack(&bytes);
            prop_assert!(packed.len() <= bytes.len() + 1);
            prop_assert_eq!(unpacked_len(&packed).unwrap(), bytes.len());
            prop_assert_eq!(&*unpack(&packed).unwrap(), &bytes);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>, len in 0..10_000u64, block: Vec<u8>) {
            let _ = unpack(&bytes);
            let mut encoder = Encoder::new();
            encoder.u8(LZ4);
            encoder.u64(len);
            let _ = unpack(&[encoder.as_slice(), &block].concat());
        }
    }
}
