//! Floor 1: versioned state bytes: how values, times and counters become bytes on disk and come back.
//!
//! Primitives have postcard's wire format (varints, zigzag for signed, little-endian floats); a [`Value`] is one
//! tag byte, fixed in `encode.rs`, and what belongs to it. There are no field names and no types: the reader asks
//! for what the writer wrote, in its order, and a leading [`Encoder::version`] says which order that was.
//!
//! Invariants:
//! - what was encoded decodes to the same value, bit for bit, also NaN, −0.0 and the trailing zeros of a decimal;
//! - a decoder fed arbitrary bytes gives an error or a value: it does not panic, does not allocate more than a small
//!   multiple of its input, and does not recurse deeper than [`MAX_DEPTH`];
//! - grouping keys ([`key_bytes, push_key`]) are equal as bytes if and only if they are equal as SQL keys;
//! - a tag or a primitive never changes its bytes. New things get new tags; changed layouts a new version.
//!
//! What is written is packed before it is; see `packing.rs`.
//!
//! Deliberately absent: checksums (the `store` puts one around each blob), and `serde` on domain types.
//!
//! [`Value`]: crate::types::Value

mod decode;
mod encode;
mod key;
mod packing;

pub use decode::Decoder;
pub use encode::Encoder;
pub use key::{decode_key, decode_key_into, key_bytes, push_key};
pub use packing::{Packed, pack, pack_tightly, unpack, unpacked_len};

/// How deep values may nest (an ARRAY of ARRAY is two). Types written in SQL stay far below it.
pub const MAX_DEPTH: u32 = 64;

/// Why state bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes end inside a value, or a length exceeds what is left.
    #[error(
        "state bytes end early: a {what} does not fit into the {remaining_bytes} bytes that are left"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// How many bytes were left.
        remaining_bytes: usize,
    },
    /// The bytes are not what the writer of this version would have written.
    #[error("state bytes are damaged: not a valid {what}")]
    Invalid {
        /// What was being read.
        what: &'static str,
    },
    /// Values nest deeper than [`MAX_DEPTH`].
    #[error("state bytes are damaged: values nest deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Something follows what should have been the end.
    #[error("state bytes are damaged: {remaining_bytes} bytes are left over")]
    Leftover {
        /// How many.
        remaining_bytes: usize,
    },
    /// Written by a program of before, in a layout that is no longer read.
    #[error(
        "state bytes have version {found}, this program reads from {oldest} on: use the older program again, or reset the query's state"
    )]
    OlderVersion {
        /// The version in the bytes.
        found: u8,
        /// The oldest one that is known.
        oldest: u8,
    },
    /// Written by a newer program.
    #[error(
        "state bytes have version {found}, this program reads up to {newest}: use the newer program again, or reset the query's state"
    )]
    NewerVersion {
        /// The version in the bytes.
        found: u8,
        /// The newest one that is known.
        newest: u8,
    },
}
