//! Canonical bytes of a grouping key: equal keys, and only they, have equal bytes.
//!
//! The format is that of values, without a count, after what SQL holds equal was made the same: −0.0 is 0.0, every NaN
//! is one NaN (a grouping key equals itself, unlike the operand of `=`), 1.00 is 1.0 is 1. The entries of a MAP
//! stay in the order in which it was made. Order of bytes is not order of keys.

use std::sync::Arc;

use super::encode::STR;
use super::{Decoder, Encoder, StateError};
use crate::types::Value;

/// Appends the canonical bytes of `key` to `out`. Keys of different lengths or types differ.
pub fn key_bytes(key: &[Value], out: &mut Vec<u8>) {
    let mut encoder = Encoder::over(std::mem::take(out));
    for value in key {
        encode_canonical(value, &mut encoder);
    }
    *out = encoder.into_bytes();
}

/// Appends the canonical bytes of the next value of a key to `out`.
pub fn push_key(value: &Value, out: &mut Vec<u8>) {
    if let Value::Str(text) = value
        && text.len() < 0x80
    {
        // As nearly all keys are: its length is one byte.
        out.extend_from_slice(&[STR, text.len() as u8]);
        return out.extend_from_slice(text.as_bytes());
    }
    let mut encoder = Encoder::over(std::mem::take(out));
    encode_canonical(value, &mut encoder);
    *out = encoder.into_bytes();
}

/// The key that has these bytes, in its canonical form.
pub fn decode_key(bytes: &[u8]) -> Result<Vec<Value>, StateError> {
    let mut key = Vec::new();
    decode_key_into(bytes, &mut key)?;
    Ok(key)
}

/// Appends the key that has these bytes, in its canonical form, to `key`.
pub fn decode_key_into(bytes: &[u8], key: &mut Vec<Value>) -> Result<(), StateError> {
    let mut decoder = Decoder::new(bytes);
    while !decoder.is_empty() {
        key.push(decoder.value()?);
    }
    Ok(())
}

fn encode_canonical(value: &Value, encoder: &mut Encoder) {
    match value {
        // The common keys need no copy.
        Value::Str(_) | Value::Int(_) => encoder.value(value),
        _ => encoder.value(&canonical(value)),
    }
}

fn canonical(value: &Value) -> Value {
    match value {
        Value::Float(v) if v.is_nan() => Value::Float(f32::NAN),
        Value::Float(v) => Value::Float(v + 0.0), // −0.0 + 0.0 is 0.0
        Value::Double(v) if v.is_nan() => Value::Double(f64::NAN),
        Value::Double(v) => Value::Double(v + 0.0),
        Value::Decimal(v) => Value::Decimal(v.normalize()),
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(k, v)| (canonical(k), canonical(v)))
                .collect::<Arc<[_]>>(),
        ),
        Value::Row(fields) => Value::Row(fields.iter().map(canonical).collect()),
        _ => value.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;

    /// Any value, with the awkward ones often.
    pub(in super::super) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            prop_oneof![any::<i64>(), -2..3i64].prop_map(Value::Int),
            prop_oneof![any::<f32>(), Just(-0.0), Just(0.0), Just(f32::NAN)].prop_map(Value::Float),
            prop_oneof![
                any::<f64>(),
                Just(-0.0),
                Just(0.0),
                Just(f64::NAN),
                Just(-f64::NAN)
            ]
            .prop_map(Value::Double),
            (prop_oneof![any::<i64>(), Just(0), Just(100)], 0..=28u32)
                .prop_map(|(m, s)| Value::Decimal(Decimal::new(m, s))),
            ".{0,40}".prop_map(Value::str),
            any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())),
            any::<i32>().prop_map(Value::Date),
            any::<i64>().prop_map(Value::Time),
            any::<i64>().prop_map(Value::Timestamp),
            any::<i64>().prop_map(Value::Interval),
            any::<i32>().prop_map(Value::Months),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|v| Value::Array(v.into())),
                prop::collection::vec((inner.clone(), inner.clone()), 0..3)
                    .prop_map(|v| Value::Map(v.into())),
                prop::collection::vec(inner, 0..4).prop_map(|v| Value::Row(v.into())),
            ]
        })
    }

    fn bytes_of(key: &[Value]) -> Vec<u8> {
        let mut bytes = Vec::new();
        key_bytes(key, &mut bytes);
        bytes
    }

    /// The reference: equality as GROUP BY has it.
    #[expect(clippy::float_cmp, reason = "a key is equal or it is not")]
    fn same_key(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Double(a), Value::Double(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Array(a), Value::Array(b)) | (Value::Row(a), Value::Row(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same_key(a, b))
            }
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b.iter())
                        .all(|(a, b)| same_key(&a.0, &b.0) && same_key(&a.1, &b.1))
            }
            _ => a == b,
        }
    }

    proptest! {
        #[test]
        fn equal_keys_and_only_they_have_equal_bytes(a in prop::collection::vec(any_value(), 0..4), b in prop::collection::vec(any_value(), 0..4)) {
            let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_key(a, b));
            prop_assert_eq!(bytes_of(&a) == bytes_of(&b), same);
        }

        #[test]
        fn a_key_comes_back_equal(key in prop::collection::vec(any_value(), 0..4)) {
            let bytes = bytes_of(&key);
            let decoded = decode_key(&bytes).unwrap();
            prop_assert!(decoded.len() == key.len() && decoded.iter().zip(&key).all(|(a, b)| same_key(a, b)));
            prop_assert_eq!(bytes_of(&decoded), bytes);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = decode_key(&bytes);
        }
    }

    #[test]
    fn what_sql_holds_equal_is_equal() {
        let decimal = |m, s| Value::Decimal(Decimal::new(m, s));
        for (a, b) in [
            (Value::Double(0.0), Value::Double(-0.0)),
            (
                Value::Double(f64::NAN),
                Value::Double(f64::from_bits(0xfff8_0000_0000_0001)),
            ),
            (Value::Float(f32::NAN), Value::Float(-f32::NAN)),
            (decimal(10, 1), decimal(100, 2)),
            (decimal(0, 0), decimal(0, 5)),
            (
                Value::Array([Value::Double(-0.0)].into()),
                Value::Array([Value::Double(0.0)].into()),
            ),
        ] {
            assert_eq!(bytes_of(&[a]), bytes_of(&[b]));
        }
        assert_ne!(
            bytes_of(&[Value::Null, Value::str("")]),
            bytes_of(&[Value::str(""), Value::Null])
        );
        assert_ne!(
            bytes_of(&[Value::str("ab")]),
            bytes_of(&[Value::str("a"), Value::str("b")])
        );
    }

    #[test]
    fn values_one_by_one_are_those_together() {
        for length in [0, 1, 24, 25, 0x7f, 0x80, 300] {
            let key = [Value::str("é".repeat(length / 2) + "x"), Value::Int(-1)];
            let mut bytes = Vec::new();
            for value in &key {
                push_key(value, &mut bytes);
            }
            assert_eq!(bytes, bytes_of(&key));
        }
    }

    #[test]
    fn keys_are_appended_to_what_is_there() {
        let mut bytes = vec![9];
        key_bytes(&[Value::Null], &mut bytes);
        assert_eq!(bytes, [9, 0]);
    }
}
