//! Reading state bytes that may be damaged: every method checks before it takes.

use std::sync::Arc;

use compact_str::CompactString;
use rust_decimal::Decimal;
use serde::Deserialize;

use super::encode::{
    ARRAY, BYTES, DATE, DECIMAL, DOUBLE, FALSE, FLOAT, INT, INTERVAL, MAP, MONTHS, NULL, ROW, STR,
    TIME, TIMESTAMP, TRUE,
};
use super::{MAX_DEPTH, StateError};
use crate::types::{EventTime, Fingerprint, Lineage, Timeline, Timespan, Value, text_of};

/// How many values are allocated on the word of a count alone; the rest as they are read.
const TRUSTED_COUNT: usize = 256;

/// Takes values off the front of state bytes, in the order in which an [`Encoder`](super::Encoder) wrote them.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads `bytes` from the front.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading; an error if something is left.
    pub const fn finish(self) -> Result<(), StateError> {
        match self.rest.len() {
            0 => Ok(()),
            remaining_bytes => Err(StateError::Leftover { remaining_bytes }),
        }
    }

    /// The layout version: between 1 and `newest`.
    pub fn version(&mut self, newest: u8) -> Result<u8, StateError> {
        match self.u8()? {
            0 => Err(StateError::Invalid { what: "version" }),
            found if found > newest => Err(StateError::NewerVersion { found, newest }),
            found => Ok(found),
        }
    }

    /// The layout version, where those before `oldest` are no longer read.
    pub fn version_since(&mut self, oldest: u8, newest: u8) -> Result<u8, StateError> {
        match self.version(newest)? {
            found if found < oldest => Err(StateError::OlderVersion { found, oldest }),
            found => Ok(found),
        }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, StateError> {
        Ok(self.raw::<1>("byte")?[0])
    }

    /// A varint.
    pub fn u64(&mut self) -> Result<u64, StateError> {
        self.postcard("unsigned integer")
    }

    /// A zigzag varint.
    pub fn i64(&mut self) -> Result<i64, StateError> {
        self.postcard("integer")
    }

    /// A zigzag varint of 128 bits.
    pub fn i128(&mut self) -> Result<i128, StateError> {
        self.postcard("integer")
    }

    /// 8 bytes.
    pub fn f64(&mut self) -> Result<f64, StateError> {
        self.raw("double").map(f64::from_le_bytes)
    }

    /// 4 bytes.
    pub fn f32(&mut self) -> Result<f32, StateError> {
        self.raw("float").map(f32::from_le_bytes)
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(StateError::Invalid { what: "boolean" }),
        }
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let len = self.count("byte string")?;
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    /// A length and that many bytes of UTF-8.
    pub fn str(&mut self) -> Result<&'a str, StateError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| StateError::Invalid { what: "text" })
    }

    /// The same, as a text of its own.
    fn text(&mut self) -> Result<CompactString, StateError> {
        text_of(self.bytes()?).ok_or(StateError::Invalid { what: "text" })
    }

    /// A point in time.
    pub fn time(&mut self) -> Result<EventTime, StateError> {
        self.i64().map(EventTime::from_micros)
    }

    /// A span.
    pub fn span(&mut self) -> Result<Timespan, StateError> {
        self.i64().map(Timespan::from_micros)
    }

    /// A timeline, one of the first `lines`.
    pub fn timeline(&mut self, lines: usize) -> Result<Timeline, StateError> {
        let number = u32::try_from(self.u64()?).ok();
        number
            .filter(|number| (*number as usize) < lines)
            .map(Timeline)
            .ok_or(StateError::Invalid { what: "timeline" })
    }

    /// 8 bytes.
    pub fn fingerprint(&mut self) -> Result<Fingerprint, StateError> {
        self.raw("fingerprint")
            .map(|b| Fingerprint(u64::from_le_bytes(b)))
    }

    /// 16 bytes.
    pub fn lineage(&mut self) -> Result<Lineage, StateError> {
        self.raw("lineage").map(|b| Lineage(u128::from_le_bytes(b)))
    }

    /// A count of things that have at least one byte each: never more than the bytes that are left.
    pub fn count(&mut self, what: &'static str) -> Result<usize, StateError> {
        let count = self.u64()?;
        let remaining_bytes = self.rest.len();
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= remaining_bytes)
            .ok_or(StateError::Truncated {
                what,
                remaining_bytes,
            })
    }

    /// A value of any type.
    pub fn value(&mut self) -> Result<Value, StateError> {
        self.value_at(0)
    }

    /// A count and that many values.
    pub fn values(&mut self) -> Result<Vec<Value>, StateError> {
        self.values_at(0)
    }

    fn value_at(&mut self, depth: u32) -> Result<Value, StateError> {
        if depth > MAX_DEPTH {
            return Err(StateError::TooDeep);
        }
        Ok(match self.u8()? {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INT => Value::Int(self.i64()?),
            FLOAT => Value::Float(self.f32()?),
            DOUBLE => Value::Double(self.f64()?),
            DECIMAL => Value::Decimal(self.decimal()?),
            STR => Value::Str(self.text()?),
            BYTES => Value::Bytes(Arc::from(self.bytes()?)),
            DATE => Value::Date(self.i32("date")?),
            TIME => Value::Time(self.i64()?),
            TIMESTAMP => Value::Timestamp(self.i64()?),
            INTERVAL => Value::Interval(self.i64()?),
            MONTHS => Value::Months(self.i32("number of months")?),
            ARRAY => Value::Array(self.values_at(depth + 1)?.into()),
            MAP => {
                let count = self.count("map")?;
                let mut entries = Vec::with_capacity(count.min(TRUSTED_COUNT));
                for _ in 0..count {
                    entries.push((self.value_at(depth + 1)?, self.value_at(depth + 1)?));
                }
                Value::Map(entries.into())
            }
            ROW => Value::Row(self.values_at(depth + 1)?.into()),
            _ => return Err(StateError::Invalid { what: "value tag" }),
        })
    }

    fn values_at(&mut self, depth: u32) -> Result<Vec<Value>, StateError> {
        let count = self.count("list of values")?;
        let mut values = Vec::with_capacity(count.min(TRUSTED_COUNT));
        for _ in 0..count {
            values.push(self.value_at(depth)?);
        }
        Ok(values)
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, StateError> {
        i32::try_from(self.i64()?).map_err(|_| StateError::Invalid { what })
    }

    fn decimal(&mut self) -> Result<Decimal, StateError> {
        let scale = u32::from(self.u8()?);
        let mantissa: i128 = self.postcard("decimal")?;
        Decimal::try_from_i128_with_scale(mantissa, scale)
            .map_err(|_| StateError::Invalid { what: "decimal" })
    }

    /// What [`Encoder::raw`](super::Encoder::raw) wrote.
    pub fn raw<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], StateError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(StateError::Truncated {
                what,
                remaining_bytes: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn postcard<T: Deserialize<'a>>(&mut self, what: &'static str) -> Result<T, StateError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|error| match error {
            postcard::Error::DeserializeUnexpectedEnd => StateError::Truncated {
                what,
                remaining_bytes: self.rest.len(),
            },
            _ => StateError::Invalid { what },
        })?;
        self.rest = rest;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Encoder;
    use super::super::key::tests::any_value;
    use super::*;

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(values in prop::collection::vec(any_value(), 0..8)) {
            let mut encoder = Encoder::new();
            encoder.values(&values);
            let mut decoder = Decoder::new(encoder.as_slice());
            let decoded = decoder.values().unwrap();
            decoder.finish().unwrap();
            // Debug tells −0.0 from 0.0 and lets NaN equal itself; the bytes tell the rest.
            prop_assert_eq!(format!("{:?}", &decoded), format!("{:?}", &values));
            let mut again = Encoder::new();
            again.values(&decoded);
            prop_assert_eq!(again.as_slice(), encoder.as_slice());
        }

        #[test]
        fn primitives_come_back(u: u64, i: i64, w: i128, d: f64, s: String, b: Vec<u8>, l: u128, flag: bool) {
            let mut encoder = Encoder::over(vec![]);
            encoder.version(3);
            encoder.u64(u);
            encoder.i64(i);
            encoder.i128(w);
            encoder.i128(i128::from(i));
            encoder.f64(d);
            encoder.str(&s);
            encoder.bytes(&b);
            encoder.lineage(Lineage(l));
            encoder.fingerprint(Fingerprint(u));
            encoder.bool(flag);
            encoder.time(EventTime::from_micros(i));
            encoder.span(Timespan::from_micros(i));
            let bytes = encoder.into_bytes();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.version(3), Ok(3));
            prop_assert_eq!(decoder.u64(), Ok(u));
            prop_assert_eq!(decoder.i64(), Ok(i));
            prop_assert_eq!(decoder.i128(), Ok(w));
            prop_assert_eq!(decoder.i64(), Ok(i));
            prop_assert_eq!(decoder.f64().map(f64::to_bits), Ok(d.to_bits()));
            prop_assert_eq!(decoder.str(), Ok(s.as_str()));
            prop_assert_eq!(decoder.bytes(), Ok(b.as_slice()));
            prop_assert_eq!(decoder.lineage(), Ok(Lineage(l)));
            prop_assert_eq!(decoder.fingerprint(), Ok(Fingerprint(u)));
            prop_assert_eq!(decoder.bool(), Ok(flag));
            prop_assert_eq!(decoder.time(), Ok(EventTime::from_micros(i)));
            prop_assert_eq!(decoder.span(), Ok(Timespan::from_micros(i)));
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Decoder::new(&bytes).values();
            let _ = Decoder::new(&bytes).value();
            let _ = Decoder::new(&bytes).str();
            let _ = Decoder::new(&bytes).version(1);
        }

        #[test]
        fn damaged_values_do_not_panic(value in any_value(), at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
            let mut encoder = Encoder::new();
            encoder.value(&value);
            let mut bytes = encoder.into_bytes();
            let index = at.index(bytes.len());
            bytes[index] = to;
            let _ = Decoder::new(&bytes).value();
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = Decoder::new(&bytes).value();
        }
    }

    #[test]
    fn nesting_is_bounded() {
        // Two bytes a level: without the bound, 200 KB of these overflow the stack.
        let bytes = [ARRAY, 1].repeat(100_000);
        assert_eq!(Decoder::new(&bytes).value(), Err(StateError::TooDeep));
    }

    #[test]
    fn lengths_are_bounded_by_what_is_left() {
        let mut encoder = Encoder::new();
        encoder.u8(ARRAY);
        encoder.u64(u64::MAX);
        assert!(matches!(
            Decoder::new(encoder.as_slice()).value(),
            Err(StateError::Truncated { .. })
        ));
    }

    #[test]
    fn other_versions_and_leftovers_are_refused() {
        assert_eq!(Decoder::new(&[2]).version_since(2, 3), Ok(2));
        assert_eq!(
            Decoder::new(&[1]).version_since(2, 3),
            Err(StateError::OlderVersion {
                found: 1,
                oldest: 2
            })
        );
        assert_eq!(
            Decoder::new(&[2]).version(1),
            Err(StateError::NewerVersion {
                found: 2,
                newest: 1
            })
        );
        assert_eq!(
            Decoder::new(&[0]).version(1),
            Err(StateError::Invalid { what: "version" })
        );
        assert_eq!(
            Decoder::new(&[1, 2]).finish(),
            Err(StateError::Leftover { remaining_bytes: 2 })
        );
    }
}
