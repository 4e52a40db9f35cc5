//! The bytes of records: frames, outbox chunks and dead letters. The only place that knows them, beside that of the head
//! (`head.rs`) and of what is packed (`state`).
//!
//! A frame is the format byte, the XXH3 (64 bits, little-endian) of the payload seeded with what it is and which key
//! it has, and the payload. So a record that stands under a key where it does not belong fails like one with a
//! flipped bit.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::DeadLetter;
use super::error::Fault;
use crate::state::{Decoder, Encoder, pack};

/// The format of frames, head record, outbox chunks, dead letters, tables and fallback.
pub(super) const FORMAT: u8 = 5;

/// What a frame adds to its payload.
pub(super) const FRAME_BYTES: usize = 9;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head = 1,
    Meta = 2,
    Base = 3,
    Delta = 4,
    Outbox = 5,
    Dead = 6,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Head => "head record",
            Self::Meta => "meta record",
            Self::Base => "snapshot chunk",
            Self::Delta => "piece of the log of deltas",
            Self::Outbox => "outbox chunk",
            Self::Dead => "dead letter",
        }
    }
}

fn checksum(kind: Kind, number: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, number ^ ((kind as u64) << 56))
}

/// Fills `frame`, which is [`FRAME_BYTES`] longer than the payload.
pub(super) fn fill_frame(frame: &mut [u8], kind: Kind, number: u64, payload: &[u8]) {
    frame[0] = FORMAT;
    frame[1..FRAME_BYTES].copy_from_slice(&checksum(kind, number, payload).to_le_bytes());
    frame[FRAME_BYTES..].copy_from_slice(payload);
}

/// The payload, if it is what was written.
pub(super) fn open_frame(frame: &[u8], kind: Kind, number: u64) -> Result<&[u8], Fault> {
    let broken = || Fault::damaged(format!("{} {number} fails its checksum", kind.name()));
    let (header, payload) = frame
        .split_first_chunk::<FRAME_BYTES>()
        .ok_or_else(broken)?;
    let [format, sum @ ..] = *header;
    if u64::from_le_bytes(sum) == checksum(kind, number, payload) {
        match format {
            FORMAT => Ok(payload),
            // Only the head is asked: what follows it has the same format.
            _ if kind == Kind::Head => Err(Fault::OtherFormat {
                found: format.to_string(),
            }),
            _ => Err(broken()),
        }
    } else if format > FORMAT && kind == Kind::Head {
        // A newer format may have another checksum.
        Err(Fault::OtherFormat {
            found: format.to_string(),
        })
    } else {
        Err(broken())
    }
}

/// An outbox chunk: how many rows, when they were appended, and the rows, packed.
pub(super) fn encode_outbox(rows: u32, appended_at_micros: i64, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.u64(u64::from(rows));
    encoder.i64(appended_at_micros);
    let mut payload = encoder.into_bytes();
    payload.extend_from_slice(&pack(bytes));
    payload
}

/// Rows, time and packed bytes of an outbox chunk.
pub(super) fn decode_outbox(payload: &[u8]) -> Result<(u32, i64, &[u8]), Fault> {
    let mut decoder = Decoder::new(payload);
    let rows = u32::try_from(decoder.u64()?)
        .map_err(|_| Fault::damaged("outbox chunk with too many rows"))?;
    let appended_at_micros = decoder.i64()?;
    Ok((
        rows,
        appended_at_micros,
        &payload[payload.len() - decoder.remaining()..],
    ))
}

pub(super) fn encode_dead(letter: &DeadLetter) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.i64(letter.received_at_micros);
    encoder.str(&letter.reason);
    encoder.str(&letter.stream);
    encoder.str(&letter.topic);
    encoder.str(&letter.detail);
    encoder.u8(letter.qos);
    encoder.bool(letter.retain);
    encoder.bool(letter.replayable);
    encoder.bytes(&letter.payload);
    encoder.into_bytes()
}

pub(super) fn decode_dead(payload: &[u8]) -> Result<DeadLetter, Fault> {
    let mut decoder = Decoder::new(payload);
    let letter = DeadLetter {
        received_at_micros: decoder.i64()?,
        reason: decoder.str()?.to_owned(),
        stream: decoder.str()?.to_owned(),
        topic: decoder.str()?.to_owned(),
        detail: decoder.str()?.to_owned(),
        qos: decoder.u8()?,
        retain: decoder.bool()?,
        replayable: decoder.bool()?,
        payload: decoder.bytes()?.to_owned(),
    };
    decoder.finish()?;
    Ok(letter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: Kind, number: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; payload.len() + FRAME_BYTES];
        fill_frame(&mut bytes, kind, number, payload);
        bytes
    }

    #[test]
    fn the_bytes_are_fixed_for_ever() {
        assert_eq!(
            frame(Kind::Delta, 7, b"ab"),
            [5, 72, 196, 133, 41, 253, 220, 84, 165, b'a', b'b']
        );
        assert_eq!(encode_outbox(3, -1, b"xy"), [3, 1, 0, b'x', b'y']);
    }

    #[test]
    fn a_record_in_the_wrong_place_is_damaged() {
        let bytes = frame(Kind::Delta, 7, b"ab");
        assert_eq!(open_frame(&bytes, Kind::Delta, 7).unwrap(), b"ab");
        assert!(matches!(
            open_frame(&bytes, Kind::Delta, 8),
            Err(Fault::Damaged(_))
        ));
        assert!(matches!(
            open_frame(&bytes, Kind::Base, 7),
            Err(Fault::Damaged(_))
        ));
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = frame(Kind::Head, 0, b"ab");
        bytes[0] = FORMAT + 1;
        bytes[1] ^= 1;
        assert!(matches!(
            open_frame(&bytes, Kind::Head, 0),
            Err(Fault::OtherFormat { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(payload: Vec<u8>, number: u64, at: prop::sample::Index, bit in 0..8u32) {
            let mut bytes = frame(Kind::Delta, number, &payload);
            let index = at.index(bytes.len());
            bytes[index] ^= 1 << bit;
            prop_assert!(open_frame(&bytes, Kind::Delta, number).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = open_frame(&bytes, Kind::Head, 0);
            let _ = decode_outbox(&bytes);
            let _ = decode_dead(&bytes);
        }

        #[test]
        fn dead_letters_come_back(reason: String, payload: Vec<u8>, received_at_micros: i64) {
            let letter = DeadLetter { reason, payload, received_at_micros, ..DeadLetter::default() };
            prop_assert_eq!(decode_dead(&encode_dead(&letter)).unwrap(), letter);
        }
    }
}
