//! Any bytes as stored state: values, keys, packed pieces, ledgers and outbox rows are read or refused, never a panic.
#![no_main]

use headwater::engine::{Ledger, decode_rows};
use headwater::state::{Decoder, Encoder, decode_key, key_bytes, unpack, unpacked_len};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(values) = Decoder::new(bytes).values() {
        let mut out = Encoder::new();
        out.values(&values);
        assert!(Decoder::new(out.as_slice()).values().is_ok(), "what was read cannot be read again");
    }
    if let Ok(key) = decode_key(bytes) {
        let mut again = Vec::new();
        key_bytes(&key, &mut again);
        assert!(decode_key(&again).is_ok());
    }
    if let Ok(unpacked) = unpack(bytes) {
        assert_eq!(unpacked_len(bytes), Ok(unpacked.len()));
    }
    let _ = decode_rows(&bytes.to_vec().into());
    let _ = Ledger::new(10).restore(&mut Decoder::new(bytes));
});
