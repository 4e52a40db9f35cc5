//! How state and outbox rows are packed before they are written: flash wears with each byte, and rows of JSON and keys
//! that resemble each other shrink to a fraction for less than what writing them would take.
//!
//! ```text
//! 0 · the bytes as they are
//! 1 · their length (varint) · an LZ4 block of them
//! 2 · their length (varint) · a DEFLATE stream of them
//! ```
//! Whichever is shortest; the third is tried where it may be a third shorter and is worth twenty times the work
//! ([`pack_tightly`]).
//!
//! Invariant: what was packed comes back. Other bytes are an error or other bytes, never a panic, and take no more memory than
//! could have been packed into them; that they are not what was written the checksum around them tells (`store`).

use std::borrow::Cow;
use std::iter::once;
use std::ops::RangeInclusive;

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use super::{Decoder, Encoder, StateError};

const PLAIN: u8 = 0;
const LZ4: u8 = 1;
const DEFLATE: u8 = 2;
/// Shorter ones do not shrink.
const LEAST_BYTES: usize = 64;
/// What may be packed tightly. Of less no page is saved; more is written when much comes, and then time counts.
const TIGHT_BYTES: RangeInclusive<usize> = 4 << 10..=64 << 10;
/// From here on DEFLATE takes twice the time for a hundredth.
const DEFLATE_LEVEL: u8 = 6;
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

/// `bytes`, packed with more work if they are such as a quiet minute changes: what is written then, page for page, is most
/// of what a gateway writes.
pub fn pack_tightly(bytes: &[u8]) -> Vec<u8> {
    let packed = pack(bytes);
    // Hashes of publishes with little beside them, for one: DEFLATE makes them no shorter either.
    let is_noise = packed.len() * 4 > bytes.len() * 3;
    if is_noise || !TIGHT_BYTES.contains(&bytes.len()) {
        return packed;
    }
    let mut tight = header(DEFLATE, bytes.len(), 0);
    tight.extend_from_slice(&compress_to_vec(bytes, DEFLATE_LEVEL));
    if tight.len() < packed.len() {
        tight
    } else {
        packed
    }
}

/// `bytes`, packed.
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() >= LEAST_BYTES {
        let most = get_maximum_output_size(bytes.len());
        let mut packed = header(LZ4, bytes.len(), most);
        let at = packed.len();
        packed.resize(at + most, 0);
        let len = compress_into(bytes, &mut packed[at..])
            .expect("the output has the room that it says it needs");
        packed.truncate(at + len);
        if packed.len() <= bytes.len() {
            return packed;
        }
    }
    [&[PLAIN], bytes].concat()
}

/// How so many bytes are packed, with room for what follows.
fn header(how: u8, len: usize, room: usize) -> Vec<u8> {
    let mut encoder = Encoder::over(Vec::with_capacity(room + 11));
    encoder.u8(how);
    encoder.u64(len as u64);
    encoder.into_bytes()
}

/// What was packed.
pub fn unpack(packed: &[u8]) -> Result<Cow<'_, [u8]>, StateError> {
    let (len, body) = open(packed)?;
    if packed[0] == PLAIN {
        return Ok(Cow::Borrowed(body));
    }
    let mut bytes = vec![0; len];
    let written = if packed[0] == LZ4 {
        decompress_into(body, &mut bytes).ok()
    } else {
        decompress_slice_iter_to_slice(&mut bytes, once(body), false, true).ok()
    };
    match written {
        Some(written) if written == len => Ok(Cow::Owned(bytes)),
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
    if how == PLAIN {
        return Ok((packed.len() - 1, &packed[1..]));
    }
    let len = decoder.u64()?;
    let body = &packed[packed.len() - decoder.remaining()..];
    match how {
        LZ4 if len / MOST_RATIO <= body.len() as u64 => Ok((len as usize, body)),
        DEFLATE if len <= *TIGHT_BYTES.end() as u64 => Ok((len as usize, body)),
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
        let random = noise(10_000);
        assert_eq!(pack(&random).len(), 10_001);
        assert_eq!(pack_tightly(&random).len(), 10_001);
    }

    fn noise(len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| fastrand::u8(..))
            .take(len)
            .collect()
    }

    /// A reading for each of so many devices, as little-endian doubles between what is the same for all.
    fn readings(devices: u32) -> Vec<u8> {
        let reading = |device: u32| {
            let mean = f64::from(device * 31 % 1_000) / 10.0;
            [b"+\x03\0\0\x01\0\x08\x09".as_slice(), &mean.to_le_bytes()].concat()
        };
        (0..devices).flat_map(reading).collect()
    }

    #[test]
    fn what_a_quiet_minute_changes_is_packed_tightly() {
        for (bytes, tight) in [
            (readings(100), false),
            (readings(1_000), true),
            (readings(10_000), false),
            ([vec![0; 4_000], noise(16_000)].concat(), false),
        ] {
            let packed = pack_tightly(&bytes);
            assert_eq!(packed[0], if tight { DEFLATE } else { LZ4 });
            assert_eq!(*unpack(&packed).unwrap(), *bytes);
            assert_eq!(packed.len() * 4 < pack(&bytes).len() * 3, tight);
        }
    }

    #[test]
    fn a_length_that_nothing_can_have_takes_no_memory() {
        let body = [0; 100];
        let longer = [(LZ4, 100 * 255 + 255), (DEFLATE, TIGHT_BYTES.end() + 1)];
        for (how, len) in longer
            .into_iter()
            .chain([(LZ4, usize::MAX), (DEFLATE, usize::MAX)])
        {
            let packed = [header(how, len, 0).as_slice(), &body].concat();
            assert_eq!(unpacked_len(&packed), Err(broken()));
            assert_eq!(unpack(&packed), Err(broken()));
        }
    }

    #[test]
    fn what_is_cut_or_says_another_length_is_an_error() {
        let bytes = readings(1_000);
        for packed in [pack(&bytes), pack_tightly(&bytes)] {
            for len in 0..packed.len() {
                assert!(unpack(&packed[..len]).is_err(), "cut at {len}");
            }
            let start = header(packed[0], bytes.len(), 0).len();
            for len in [bytes.len() - 1, bytes.len() + 1] {
                let other = [&header(packed[0], len, 0), &packed[start..]].concat();
                assert_eq!(unpack(&other), Err(broken()));
            }
        }
    }

    #[test]
    fn whatever_packs_best_unpacks() {
        for len in TIGHT_BYTES.step_by(97).chain([*TIGHT_BYTES.end()]) {
            let zeros = vec![0; len];
            let packed = pack_tightly(&zeros);
            assert!(packed[0] == DEFLATE || len < 8_000);
            assert_eq!(*unpack(&packed).unwrap(), *zeros);
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(piece: Vec<u8>, times in 1..200usize, tail: Vec<u8>) {
            let bytes = [piece.repeat(times), tail].concat();
            let packed = pack(&bytes);
            prop_assert!(packed.len() <= bytes.len() + 1);
            prop_assert_eq!(unpacked_len(&packed).unwrap(), bytes.len());
            prop_assert_eq!(&*unpack(&packed).unwrap(), &bytes);
            let packed = pack_tightly(&bytes);
            prop_assert!(packed.len() <= bytes.len() + 1);
            prop_assert_eq!(unpacked_len(&packed).unwrap(), bytes.len());
            prop_assert_eq!(&*unpack(&packed).unwrap(), &bytes);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>, len in 0..10_000usize, block: Vec<u8>) {
            let _ = unpack(&bytes);
            for how in [LZ4, DEFLATE] {
                let _ = unpack(&[header(how, len, 0), block.clone()].concat());
            }
        }
    }
}
