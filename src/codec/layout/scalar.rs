//! A scalar of a message: where it ends, and what its value is where that is sure without the long way.

use super::super::json::{JsonShape, parse_value};
use super::super::timestamp::epoch_micros;
use super::words::{ShortNumber, digits, text_at};
use crate::types::{Type, Value, calendar};

/// Digits of a number that a double holds, whatever they are.
pub(super) const EXACT_DIGITS: u32 = 15;

/// A scalar as it is read from a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    /// Without a backslash.
    Text,
    Number(Number),
    Bool(bool),
    Null,
}

/// A number without an exponent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    negative: bool,
    /// Its digits, if they are not too many.
    digits: u64,
    count: u32,
    /// How many of them stand behind the point.
    fraction: u32,
    /// Whether it has an exponent, which is not read.
    scientific: bool,
}

/// Powers of ten that are doubles.
pub(super) const POWERS: [f64; EXACT_DIGITS as usize + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Where the scalar ends that begins at `at`, and that nobody reads.
#[inline]
pub(super) fn skip(message: &[u8], at: usize) -> Option<usize> {
    match message.get(at)? {
        b'"' => {
            let text = text_at(message, at + 1)?;
            text.is_utf8(message).then_some(text.end + 1)
        }
        b'-' | b'0'..=b'9' => match ShortNumber::read(message, at) {
            Some(number) => Some(at + number.length as usize),
            None => Number::read(message, at).map(|(_, end)| end),
        },
        _ => word(message, at).map(|(_, end)| end),
    }
}

/// The word that begins at `at`, and where it ends.
fn word(message: &[u8], at: usize) -> Option<(Scalar, usize)> {
    let rest = &message[at..];
    let word =
        |word: &[u8], scalar: Scalar| rest.starts_with(word).then_some((scalar, at + word.len()));
    word(b"true", Scalar::Bool(true))
        .or_else(|| word(b"false", Scalar::Bool(false)))
        .or_else(|| word(b"null", Scalar::Null))
}

impl Scalar {
    /// The scalar that begins at `at`, and where it ends.
    pub(super) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        match message.get(at)? {
            b'"' => {
                let text = text_at(message, at + 1)?;
                Some((Self::Text, text.end + 1))
            }
            b'-' | b'0'..=b'9' => {
                let (number, end) = Number::read(message, at)?;
                Some((Self::Number(number), end))
            }
            _ => word(message, at),
        }
    }

    /// The value of type `ty`, of which `raw` are the bytes; `None` if the long way is to decide.
    pub(super) fn value(self, raw: &[u8], ty: &Type, shape: &JsonShape) -> Option<Value> {
        let format = &shape.options.timestamp;
        let quick = match (self, ty) {
            (Self::Null, _) => Some(Value::Null),
            (Self::Text, Type::String) => {
                let text = str::from_utf8(&raw[1..raw.len() - 1]).ok()?;
                Some(Value::str(text))
            }
            (Self::Number(number), Type::Double) => number.double().map(Value::Double),
            (Self::Number(number), Type::Float) => number
                .double()
                .map(|number| number as f32)
                .filter(|number| number.is_finite())
                .map(Value::Float),
            (Self::Number(number), Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt) => {
                number.integer().and_then(|number| {
                    let (least, greatest) = ty.integer_range()?;
                    (least..=greatest)
                        .contains(&number)
                        .then_some(Value::Int(number))
                })
            }
            (
                Self::Number(number),
                Type::Timestamp { precision } | Type::TimestampLtz { precision },
            ) => {
                let micros = number
                    .integer()
                    .and_then(|whole| epoch_micros(whole, format));
                micros.map(|micros| Value::Timestamp(calendar::cut(micros, *precision)))
            }
            (Self::Bool(value), Type::Boolean) => Some(Value::Bool(value)),
            _ => None,
        };
        quick.or_else(|| parse_value(str::from_utf8(raw).ok()?, ty, format, 0))
    }
}

impl Number {
    /// The number that begins at `at`, and where it ends, by the grammar of JSON.
    pub(super) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let negative = message.get(at) == Some(&b'-');
        let begin = at + usize::from(negative);
        if let Some(short) = ShortNumber::read(message, begin) {
            let number = Self {
                negative,
                digits: short.digits(),
                count: short.count,
                fraction: short.fraction,
                scientific: false,
            };
            return Some((number, begin + short.length as usize));
        }
        let (mut number, mut end) = digits(message, begin, 0);
        let whole = end - begin;
        if whole == 0 || (whole > 1 && message[begin] == b'0') {
            return None;
        }
        let mut fraction = 0;
        if message.get(end) == Some(&b'.') {
            let point = end + 1;
            (number, end) = digits(message, point, number);
            fraction = end - point;
            if fraction == 0 {
                return None;
            }
        }
        let scientific = matches!(message.get(end), Some(b'e' | b'E'));
        if scientific {
            let sign = matches!(message.get(end + 1), Some(b'+' | b'-'));
            let exponent = end + 1 + usize::from(sign);
            (_, end) = digits(message, exponent, 0);
            if end == exponent {
                return None;
            }
        }
        let number = Self {
            negative,
            digits: number,
            count: (whole + fraction) as u32,
            fraction: fraction as u32,
            scientific,
        };
        Some((number, end))
    }

    /// Its value, if it is sure to be exact: both the digits and the power of ten are doubles, and one division rounds
    /// as it should.
    pub(super) fn double(self) -> Option<f64> {
        if self.scientific || self.count > EXACT_DIGITS {
            return None;
        }
        let number = self.digits as f64 / POWERS[self.fraction as usize];
        Some(if self.negative { -number } else { number })
    }

    /// Its value, if it is written as an integer and sure to fit.
    fn integer(self) -> Option<i64> {
        if self.scientific || self.fraction > 0 || self.count > 18 {
            return None;
        }
        let number = self.digits as i64;
        Some(if self.negative { -number } else { number })
    }
}
