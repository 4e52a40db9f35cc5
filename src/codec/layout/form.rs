//! What a value looks like, apart from what it says: the messages of a sensor have values of one form at one place.
//!
//! Where a value has its form, there is nothing left to find out about it: how long it is, how many digits stand before the
//! point. It is read from where it is known to be, or nothing is done about it at all.

use super::read::{Read, put_double, put_integer, put_text, put_time};
use super::scalar::{EXACT_DIGITS, POWERS};
use super::template::Expected;
use super::words::{Text, ZEROS, special, value_of_digits, word_or_less};
use crate::types::Value;

/// Bytes of a value that is known by heart.
const MAX_CONSTANT: usize = 64;
/// Bytes of a text in ASCII.
const MAX_TEXT: usize = 256;

/// What a value looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Like nothing else: nobody reads it.
    Constant(Box<[u8]>),
    /// A text of so many bytes, all of them ASCII and none a backslash or a control character.
    Text(usize),
    /// A number without an exponent, of so many digits before the point and behind it.
    Number {
        negative: bool,
        whole: usize,
        fraction: usize,
    },
}

impl Form {
    /// The form of a scalar, if it has one by which it can be read so.
    pub(super) fn of(value: &[u8], read: &Read) -> Option<Self> {
        match (read, value.first()?) {
            (Read::Not | Read::Double(_), b'-' | b'0'..=b'9') => Self::of_number(value),
            (Read::Integer(..) | Read::Time(..), b'-' | b'0'..=b'9') => {
                let whole = |form: &Self| matches!(form, Self::Number { fraction: 0, .. });
                Self::of_number(value).filter(whole)
            }
            (Read::Not, _) if value.len() <= MAX_CONSTANT => Some(Self::Constant(value.into())),
            (Read::Not | Read::Text(_), b'"') => Self::of_text(value),
            _ => None,
        }
    }

    fn of_number(value: &[u8]) -> Option<Self> {
        let negative = value.first() == Some(&b'-');
        let digits = &value[usize::from(negative)..];
        let whole = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let fraction = digits.len().saturating_sub(whole + 1);
        let behind = digits.get(whole + 1..).unwrap_or_default();
        let plain = digits.get(whole).is_none_or(|point| *point == b'.');
        let fits = whole + fraction <= EXACT_DIGITS as usize;
        (plain && fits && behind.iter().all(u8::is_ascii_digit)).then_some(Self::Number {
            negative,
            whole,
            fraction,
        })
    }

    fn of_text(value: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| matches!(byte, b' '..0x80) && *byte != b'\\';
        let text = value.get(1..value.len().checked_sub(1)?)?;
        (text.len() <= MAX_TEXT && text.iter().all(plain)).then_some(Self::Text(text.len()))
    }

    /// Whether a value has it.
    pub(super) fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Constant(known) => **known == *value,
            Self::Text(_) => Self::of_text(value).as_ref() == Some(self),
            Self::Number { .. } => Self::of_number(value).as_ref() == Some(self),
        }
    }

    /// The form for a value that often has another than before, if one is left.
    pub(super) fn loosened(&self, value: &[u8]) -> Option<Self> {
        let Self::Constant(before) = self else {
            return None;
        };
        let alike = before.len() == value.len() && Self::of_text(before).is_some();
        Self::of_text(value).filter(|_| alike && before.first() == Some(&b'"'))
    }

    /// Adds the bytes that a value of this form may have, and the place from which it is read or looked at, if it must be.
    pub(super) fn expect(
        &self,
        read: &Read,
        expected: &mut Vec<Expected>,
        places: &mut Vec<Known>,
    ) {
        let digits = |count: usize| std::iter::repeat_n(Expected::Digit, count);
        match self {
            Self::Constant(bytes) => expected.extend(bytes.iter().copied().map(Expected::Byte)),
            Self::Text(length) => {
                expected.push(Expected::Byte(b'"'));
                places.push(Known::Text {
                    at: expected.len(),
                    length: *length,
                    slot: read.slot(),
                });
                expected.extend(std::iter::repeat_n(Expected::Ascii, *length));
                expected.push(Expected::Byte(b'"'));
            }
            Self::Number {
                negative,
                whole,
                fraction,
            } => {
                if *negative {
                    expected.push(Expected::Byte(b'-'));
                }
                let begin = expected.len();
                expected.extend(digits(*whole));
                if *fraction > 0 {
                    expected.push(Expected::Byte(b'.'));
                    expected.extend(digits(*fraction));
                }
                let digits = Digits::new(begin, *whole, *fraction);
                let sign = if *negative { -1 } else { 1 };
                let becomes = match *read {
                    Read::Double(slot) => Becomes::Double {
                        slot,
                        divisor: f64::from(sign) * POWERS[*fraction],
                    },
                    Read::Integer(slot, least, greatest) => Becomes::Integer {
                        slot,
                        sign: sign.into(),
                        least,
                        greatest,
                    },
                    Read::Time(slot, unit) => Becomes::Time {
                        slot,
                        unit: i64::from(sign) * unit,
                    },
                    _ if *whole > 1 => return places.push(Known::First(begin)),
                    _ => return,
                };
                places.push(Known::Number(digits, becomes));
            }
        }
    }
}

/// A value at a place that is known, of a form that is known.
#[derive(Debug)]
pub(super) enum Known {
    /// The first of several digits, which must not be a zero.
    First(usize),
    Text {
        at: usize,
        length: usize,
        slot: Option<usize>,
    },
    Number(Digits, Becomes),
}

/// What the digits of a number make, all taken as one number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Becomes {
    /// That number, divided by a power of ten or its negative.
    Double { slot: usize, divisor: f64 },
    Integer {
        slot: usize,
        sign: i64,
        least: i64,
        greatest: i64,
    },
    /// So many microseconds each.
    Time { slot: usize, unit: i64 },
}

impl Known {
    /// Reads the value from the bytes `found` of a template, which begin at `begin` in `message`.
    #[inline]
    pub(super) fn read(
        &self,
        message: &[u8],
        begin: usize,
        found: &[u8],
        row: &mut [Value],
    ) -> Option<()> {
        match self {
            Self::First(at) => (found[*at] != b'0').then_some(()),
            Self::Text { at, length, slot } => {
                if !is_plain(found, *at, *length) {
                    return None;
                }
                if let Some(slot) = slot {
                    let text = Text::ascii(begin + at, *length);
                    put_text(&mut row[*slot], text.read(message)?);
                }
                Some(())
            }
            Self::Number(digits, becomes) => becomes.put(digits.read(found)?, row),
        }
    }
}

impl Becomes {
    #[inline]
    fn put(self, number: i64, row: &mut [Value]) -> Option<()> {
        match self {
            Self::Double { slot, divisor } => {
                put_double(&mut row[slot], number as f64 / divisor);
                Some(())
            }
            Self::Integer {
                slot,
                sign,
                least,
                greatest,
            } => put_integer(&mut row[slot], number * sign, least, greatest),
            Self::Time { slot, unit } => put_time(&mut row[slot], number, unit),
        }
    }
}

/// Whether nothing in a text of so many bytes is special, a closing quote least of all.
#[inline]
fn is_plain(found: &[u8], at: usize, length: usize) -> bool {
    let text = &found[at..at + length];
    let Some(last) = text.last_chunk() else {
        let beyond = u64::MAX << (8 * length);
        return special(word_or_less(found, at)) & !beyond == 0;
    };
    let (words, _) = text.as_chunks();
    let mut marked = special(u64::from_le_bytes(*last));
    for word in words {
        marked |= special(u64::from_le_bytes(*word));
    }
    marked == 0
}

/// The digits of a number at a place that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits {
    /// The last eight bytes of it, and those before them if there are more.
    low: Group,
    high: Option<Group>,
    /// What the high ones are worth.
    power: u64,
    /// What it is at the least: of several digits before the point the first is no zero.
    least: u64,
}

/// At most eight bytes of a number.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// Where the eight bytes begin of which they are the last, if they are moved up by `shift` bits.
    at: u32,
    shift: u32,
    /// Which of them are digits behind the point, or where there is none; and which stand before one.
    behind: u64,
    before: u64,
}

impl Group {
    /// The bytes from `begin` to `end`, among which `point` may be.
    fn new(begin: usize, end: usize, point: usize) -> Self {
        let (mut behind, mut before) = (0, 0);
        for at in begin..end {
            let byte = 0xff << (8 * (7 + at - (end - 1)));
            match at.cmp(&point) {
                std::cmp::Ordering::Less if (begin..end).contains(&point) => before |= byte,
                std::cmp::Ordering::Equal => {}
                _ => behind |= byte,
            }
        }
        Self {
            at: end.saturating_sub(8) as u32,
            shift: 8 * 8_usize.saturating_sub(end) as u32,
            behind,
            before,
        }
    }

    /// The number that they make.
    #[inline]
    fn read(&self, found: &[u8]) -> u64 {
        let values = (word_or_less(found, self.at as usize) ^ ZEROS) << self.shift;
        // Digits move to where the point was.
        value_of_digits((values & self.behind) | ((values & self.before) << 8))
    }
}

impl Digits {
    /// Of a number that begins at `begin`, behind its sign.
    fn new(begin: usize, whole: usize, fraction: usize) -> Self {
        let (point, end) = match fraction {
            0 => (usize::MAX, begin + whole),
            _ => (begin + whole, begin + whole + 1 + fraction),
        };
        let middle = end.saturating_sub(8).max(begin);
        let of_low = end - middle - usize::from((middle..end).contains(&point));
        let tens = |count: usize| 10_u64.pow(count as u32);
        Self {
            low: Group::new(middle, end, point),
            high: (begin < middle).then(|| Group::new(begin, middle, point)),
            power: tens(of_low),
            least: if whole > 1 {
                tens(whole + fraction - 1)
            } else {
                0
            },
        }
    }

    /// All digits as one number.
    #[inline]
    fn read(&self, found: &[u8]) -> Option<i64> {
        let mut number = self.low.read(found);
        if let Some(high) = &self.high {
            number += high.read(found) * self.power;
        }
        (number >= self.least).then_some(number as i64)
    }
}
