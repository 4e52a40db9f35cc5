//! Writing state bytes, and the tags of values, which are part of the disk format and never change.

use rust_decimal::Decimal;

use crate::types::{EventTime, Fingerprint, Lineage, Timeline, Timespan, Value};

pub(super) const NULL: u8 = 0;
pub(super) const FALSE: u8 = 1;
pub(super) const TRUE: u8 = 2;
pub(super) const INT: u8 = 3;
pub(super) const FLOAT: u8 = 4;
pub(super) const DOUBLE: u8 = 5;
pub(super) const DECIMAL: u8 = 6;
pub(super) const STR: u8 = 7;
pub(super) const BYTES: u8 = 8;
pub(super) const DATE: u8 = 9;
pub(super) const TIME: u8 = 10;
pub(super) const TIMESTAMP: u8 = 11;
pub(super) const INTERVAL: u8 = 12;
pub(super) const MONTHS: u8 = 13;
pub(super) const ARRAY: u8 = 14;
pub(super) const MAP: u8 = 15;
pub(super) const ROW: u8 = 16;

/// Appends values to a byte vector that it owns. Keep one and [`clear`](Self::clear) it: encoding then does not
/// allocate.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// One that appends to `bytes`.
    pub const fn over(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The layout version of what follows; from 1. Read by [`Decoder::version`](super::Decoder::version).
    pub fn version(&mut self, version: u8) {
        debug_assert!(version > 0, "version 0 is what zeroed bytes look like");
        self.u8(version);
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A varint, 1 to 10 bytes.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        // As postcard has it; most numbers are small, and most others are times.
        if value < 0x80 {
            self.bytes.push(value as u8);
        } else {
            self.wide_u64(value);
        }
    }

    fn wide_u64(&mut self, mut value: u64) {
        if value < 1 << 56 {
            let (bytes, length) = spread(value);
            let end = self.bytes.len() + length;
            self.bytes.extend_from_slice(&bytes);
            return self.bytes.truncate(end);
        }
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A zigzag varint, 1 to 10 bytes.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.u64((value << 1 ^ value >> 63) as u64);
    }

    /// A zigzag varint, 1 to 19 bytes; the same bytes as [`i64`](Self::i64) where that has the number.
    pub fn i128(&mut self, value: i128) {
        let mut buffer = [0; 19];
        let used = postcard::to_slice(&value, &mut buffer)
            .expect("a varint of 128 bits has at most 19 bytes");
        self.bytes.extend_from_slice(used);
    }

    /// 8 bytes, little-endian.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A number as [`u64`](Self::u64), and one as [`f64`](Self::f64), at once.
    #[inline]
    pub fn u64_and_f64(&mut self, count: u64, value: f64) {
        if count < 0x80 {
            let mut bytes = [count as u8; 9];
            bytes[1..].copy_from_slice(&value.to_le_bytes());
            return self.bytes.extend_from_slice(&bytes);
        }
        self.u64(count);
        self.f64(value);
    }

    /// 4 bytes, little-endian.
    pub fn f32(&mut self, value: f32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// One byte, 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// A length as [`u64`](Self::u64), and the bytes.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.u64(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A length as [`u64`](Self::u64), and UTF-8.
    pub fn str(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A point in time: microseconds as [`i64`](Self::i64).
    #[inline]
    pub fn time(&mut self, value: EventTime) {
        self.i64(value.as_micros());
    }

    /// A span: microseconds as [`i64`](Self::i64).
    #[inline]
    pub fn span(&mut self, value: Timespan) {
        self.i64(value.as_micros());
    }

    /// A timeline: its number as [`u64`](Self::u64).
    #[inline]
    pub fn timeline(&mut self, value: Timeline) {
        self.u64(u64::from(value.0));
    }

    /// 8 bytes, little-endian (a hash gains nothing from a varint).
    pub fn fingerprint(&mut self, value: Fingerprint) {
        self.bytes.extend_from_slice(&value.0.to_le_bytes());
    }

    /// 16 bytes, little-endian.
    #[inline]
    pub fn lineage(&mut self, value: Lineage) {
        self.bytes.extend_from_slice(&value.0.to_le_bytes());
    }

    /// A value of any type: its tag and its content. Nesting beyond [`MAX_DEPTH`](super::MAX_DEPTH) is written but
    /// cannot be read.
    #[inline]
    pub fn value(&mut self, value: &Value) {
        match value {
            // What most are.
            Value::Double(v) => self.double(*v),
            Value::Timestamp(v) => self.tagged(TIMESTAMP, *v),
            _ => self.any_value(value),
        }
    }

    /// The same of a DOUBLE.
    #[inline]
    pub fn double(&mut self, value: f64) {
        self.u64_and_f64(u64::from(DOUBLE), value);
    }

    /// Bytes that stand for themselves.
    #[inline]
    pub fn raw<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend_from_slice(&bytes);
    }

    fn any_value(&mut self, value: &Value) {
        match value {
            Value::Null => self.u8(NULL),
            Value::Bool(false) => self.u8(FALSE),
            Value::Bool(true) => self.u8(TRUE),
            Value::Int(v) => self.tagged(INT, *v),
            Value::Float(v) => {
                self.u8(FLOAT);
                self.f32(*v);
            }
            Value::Double(v) => {
                self.u8(DOUBLE);
                self.f64(*v);
            }
            Value::Decimal(v) => self.decimal(v),
            Value::Str(v) => {
                self.u8(STR);
                self.str(v);
            }
            Value::Bytes(v) => {
                self.u8(BYTES);
                self.bytes(v);
            }
            Value::Date(v) => self.tagged(DATE, i64::from(*v)),
            Value::Time(v) => self.tagged(TIME, *v),
            Value::Timestamp(v) => self.tagged(TIMESTAMP, *v),
            Value::Interval(v) => self.tagged(INTERVAL, *v),
            Value::Months(v) => self.tagged(MONTHS, i64::from(*v)),
            Value::Array(items) => {
                self.u8(ARRAY);
                self.values(items);
            }
            Value::Map(entries) => {
                self.u8(MAP);
                self.u64(entries.len() as u64);
                for (key, value) in entries.iter() {
                    self.value(key);
                    self.value(value);
                }
            }
            Value::Row(fields) => {
                self.u8(ROW);
                self.values(fields);
            }
        }
    }

    /// A count as [`u64`](Self::u64), and the values.
    pub fn values(&mut self, values: &[Value]) {
        self.u64(values.len() as u64);
        for value in values {
            self.value(value);
        }
    }

    #[inline]
    fn tagged(&mut self, tag: u8, value: i64) {
        self.u8(tag);
        self.i64(value);
    }

    /// Tag, scale, and the mantissa as a zigzag varint of 128 bits. The sign of a zero is not kept: SQL has none.
    fn decimal(&mut self, value: &Decimal) {
        self.u8(DECIMAL);
        self.u8(value.scale() as u8); // at most 28
        self.i128(value.mantissa());
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes so far.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives back the room beyond `bytes` that a large content has left behind; the content goes, too.
    pub fn shrink(&mut self, bytes: usize) {
        self.clear();
        self.bytes.shrink_to(bytes);
    }

    /// Forgets the bytes and keeps their memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A number below 2⁵⁶ as a varint, and how many of the bytes it has: seven bits go to each byte, and all but the last are
/// marked.
#[inline]
const fn spread(value: u64) -> ([u8; 8], usize) {
    let length = (70 - (value | 1).leading_zeros() as usize) / 7;
    // Halves, quarters, and then eighths move apart.
    let halves = ((value & 0x00ff_ffff_f000_0000) << 4) | (value & 0x0fff_ffff);
    let quarters = ((halves & 0x0fff_c000_0fff_c000) << 2) | (halves & 0x0000_3fff_0000_3fff);
    let eighths = ((quarters & 0x3f80_3f80_3f80_3f80) << 1) | (quarters & 0x007f_007f_007f_007f);
    let marks = 0x0080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    ((eighths | marks).to_le_bytes(), length)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn numbers_of_every_length_are_as_postcard_has_them() {
        for shift in 0..64 {
            for less in [0, 1, 0x5555_5555_5555_5555] {
                let value = (u64::MAX >> shift).wrapping_sub(less >> shift);
                let mut encoder = Encoder::new();
                encoder.u64(value);
                let expected = postcard::to_allocvec(&value).unwrap();
                assert_eq!(encoder.as_slice(), expected, "{value}");
            }
        }
    }

    #[test]
    fn the_bytes_are_fixed_for_ever() {
        // A changed line here makes every gateway in the field lose its state on the next upgrade.
        let hex = |f: &dyn Fn(&mut Encoder)| {
            let mut encoder = Encoder::new();
            f(&mut encoder);
            encoder
                .as_slice()
                .iter()
                .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
        };
        assert_eq!(hex(&|e| e.u64(300)), "ac02");
        assert_eq!(hex(&|e| e.u64(u64::MAX)), "ffffffffffffffffff01");
        assert_eq!(hex(&|e| e.i64(-2)), "03");
        assert_eq!(hex(&|e| e.time(EventTime::MIN)), "ffffffffffffffffff01");
        assert_eq!(hex(&|e| e.f32(1.0)), "0000803f");
        assert_eq!(hex(&|e| e.str("ab")), "026162");
        assert_eq!(
            hex(&|e| e.lineage(Lineage(1))),
            "01000000000000000000000000000000"
        );
        for (value, bytes) in [
            (Value::Null, "00"),
            (Value::Bool(false), "01"),
            (Value::Bool(true), "02"),
            (Value::Int(-1), "0301"),
            (Value::Float(1.0), "040000803f"),
            (Value::Double(1.0), "05000000000000f03f"),
            (Value::Decimal(Decimal::new(-150, 2)), "0602ab02"),
            (Value::str("é"), "0702c3a9"),
            (Value::Bytes(Arc::from([7u8].as_slice())), "080107"),
            (Value::Date(-1), "0901"),
            (Value::Time(1), "0a02"),
            (Value::Timestamp(64), "0b8001"),
            (Value::Interval(2), "0c04"),
            (Value::Months(-3), "0d05"),
            (Value::Array(Arc::from([Value::Null])), "0e0100"),
            (
                Value::Map(Arc::from([(Value::Int(0), Value::Null)])),
                "0f01030000",
            ),
            (
                Value::Row(Arc::from([Value::Bool(true), Value::Null])),
                "10020200",
            ),
        ] {
            assert_eq!(hex(&|e| e.value(&value)), bytes, "{value:?}");
        }
    }
}
