//! A guess at a JSON message: that it has the layout of one before it, as the messages of a sensor have.
//!
//! A layout is what stands between the values of a message: braces, keys, commas, spaces. A message that has the same
//! bytes there, and a scalar where the layout has one, is the same JSON with other values; nothing is taken on trust. What
//! differs, and what is seldom (a backslash, a number in scientific notation where one is read), goes the long way by
//! `serde_json`, which also gives all errors.
//!
//! Bounds: [`LAYOUTS`] per table, each of at most [`MAX_PARTS`] values and [`MAX_BYTES`] bytes. Where messages have no
//! layout in common, learning is tried ever more seldom.
//!
//! Invariant: a guess that succeeds gives what the long way gives.

use super::decode::{InputColumn, Origin};
use super::json::{JsonShape, Node, parse_value};
use super::timestamp::epoch_micros;
use crate::types::{Row, Type, Value, calendar};

/// Layouts that are known at a time.
const LAYOUTS: usize = 4;
/// Values of a layout.
const MAX_PARTS: usize = 256;
/// Bytes between the values of a layout.
const MAX_BYTES: usize = 8 * 1024;
/// How deep objects and arrays are followed.
const MAX_DEPTH: usize = 16;
/// Digits of a number that a double holds, whatever they are.
const EXACT_DIGITS: u32 = 15;
/// The greatest number of messages of which one is learned.
const MOST_SELDOM: u32 = 1_024;

/// The layouts that messages of one table had.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    known: Vec<Layout>,
    /// The one that fitted last.
    last: usize,
    /// The next one to be replaced.
    oldest: usize,
    /// Messages to pass before the next is learned, and how many it was the last time.
    pause: u32,
    paused: u32,
}

/// What stands between the values of a message.
#[derive(Debug, Default)]
struct Layout {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// The columns that it has no value for, but for those of metadata, which are written for each message.
    absent: Vec<usize>,
}

/// A value.
#[derive(Debug)]
struct Part {
    /// How many bytes stand before it, behind the value before.
    before: usize,
    /// The column that reads it, if one does.
    slot: Option<usize>,
}

impl Layouts {
    /// Fills `row`, but for columns of metadata, if the message has a layout that is known. If not, some may have been filled.
    pub(super) fn fill(
        &mut self,
        text: &str,
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> bool {
        for try_ in 0..self.known.len() {
            let at = (self.last + try_) % self.known.len();
            if self.known[at].fill(text, shape, columns, row).is_some() {
                self.last = at;
                self.paused = 0;
                return true;
            }
        }
        false
    }

    /// Learns the layout of a message that went the long way and was sound.
    pub(super) fn learn(&mut self, text: &str, root: &Node, columns: &[InputColumn]) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let fits = |layout: &Layout| layout.parts.len() <= MAX_PARTS;
        if let Some(layout) = Layout::of(text, root, columns).filter(fits) {
            if self.known.len() < LAYOUTS {
                self.last = self.known.len();
                self.known.push(layout);
            } else {
                self.last = self.oldest;
                self.known[self.oldest] = layout;
                self.oldest = (self.oldest + 1) % LAYOUTS;
            }
        }
        if self.known.len() == LAYOUTS || self.known.is_empty() {
            self.paused = (2 * self.paused + 1).min(MOST_SELDOM);
            self.pause = self.paused;
        }
    }
}

impl Layout {
    fn of(text: &str, root: &Node, columns: &[InputColumn]) -> Option<Self> {
        let mut learner = Learner {
            text,
            at: 0,
            literal: 0,
            layout: Self::default(),
        };
        learner.spaces();
        learner.value(Some(root), 0)?;
        let mut layout = learner.layout;
        let read = |slot: &usize| layout.parts.iter().any(|part| part.slot == Some(*slot));
        let written = |slot: &usize| matches!(columns[*slot].origin, Origin::Metadata(_));
        let slots = (0..columns.len()).filter(|slot| !written(slot));
        layout.absent = slots.filter(|slot| !read(slot)).collect();
        layout
            .bytes
            .extend_from_slice(&text.as_bytes()[learner.literal..]);
        (layout.bytes.len() <= MAX_BYTES && !layout.parts.is_empty()).then_some(layout)
    }

    fn fill(
        &self,
        text: &str,
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> Option<()> {
        let bytes = text.as_bytes();
        let mut literals = &self.bytes[..];
        let mut at = 0;
        for part in &self.parts {
            let (before, others) = literals.split_at(part.before);
            literals = others;
            let behind = at + part.before;
            if bytes.get(at..behind)? != before {
                return None;
            }
            let (scalar, end) = Scalar::read(bytes, behind)?;
            if let Some(slot) = part.slot {
                let column = &columns[slot];
                let value = scalar.value(&text[behind..end], &column.ty, shape)?;
                if value.is_null() && !column.nullable {
                    return None;
                }
                row[slot] = value;
            }
            at = end;
        }
        if bytes[at..] != *literals {
            return None;
        }
        for slot in &self.absent {
            row[*slot] = Value::Null;
        }
        Some(())
    }
}

/// A scalar as it is read from a message.
#[derive(Clone, Copy, Debug)]
enum Scalar {
    /// Without a backslash.
    Text,
    Number(Number),
    Bool(bool),
    Null,
}

/// A number without an exponent.
#[derive(Clone, Copy, Debug)]
struct Number {
    negative: bool,
    /// Its digits, if they are not too many.
    digits: u64,
    count: u32,
    /// How many of them stand behind the point.
    fraction: u32,
    /// Whether it has an exponent, which is not read.
    scientific: bool,
}

impl Scalar {
    /// The scalar that begins at `at`, and where it ends.
    fn read(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        match bytes.get(at)? {
            b'"' => {
                let end = text_end(&bytes[at + 1..])?;
                Some((Self::Text, at + end + 2))
            }
            b'-' | b'0'..=b'9' => {
                let (number, end) = Number::read(bytes, at)?;
                Some((Self::Number(number), end))
            }
            _ => {
                let rest = &bytes[at..];
                let word = |word: &[u8], scalar: Self| {
                    rest.starts_with(word).then_some((scalar, at + word.len()))
                };
                word(b"true", Self::Bool(true))
                    .or_else(|| word(b"false", Self::Bool(false)))
                    .or_else(|| word(b"null", Self::Null))
            }
        }
    }

    /// The value of type `ty`, of which `raw` is the text; `None` if the long way is to decide.
    fn value(self, raw: &str, ty: &Type, shape: &JsonShape) -> Option<Value> {
        let format = &shape.options.timestamp;
        let quick = match (self, ty) {
            (Self::Null, _) => Some(Value::Null),
            (Self::Text, Type::String) => Some(Value::str(&raw[1..raw.len() - 1])),
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
        quick.or_else(|| parse_value(raw, ty, format, 0))
    }
}

impl Number {
    /// The number that begins at `at`, and where it ends, by the grammar of JSON.
    fn read(bytes: &[u8], mut at: usize) -> Option<(Self, usize)> {
        let negative = bytes.get(at) == Some(&b'-');
        at += usize::from(negative);
        let rest = bytes.get(at..)?;
        let (mut number, whole) = digits(rest, 0);
        if whole == 0 || (whole > 1 && rest[0] == b'0') {
            return None;
        }
        let mut end = whole;
        let mut fraction = 0;
        if rest.get(end) == Some(&b'.') {
            (number, fraction) = digits(&rest[end + 1..], number);
            if fraction == 0 {
                return None;
            }
            end += 1 + fraction;
        }
        let scientific = matches!(rest.get(end), Some(b'e' | b'E'));
        if scientific {
            end += 1;
            end += usize::from(matches!(rest.get(end), Some(b'+' | b'-')));
            let (_, exponent) = digits(rest.get(end..)?, 0);
            if exponent == 0 {
                return None;
            }
            end += exponent;
        }
        let number = Self {
            negative,
            digits: number,
            count: (whole + fraction) as u32,
            fraction: fraction as u32,
            scientific,
        };
        Some((number, at + end))
    }

    /// Its value, if it is sure to be exact: both the digits and the power of ten are doubles, and one division rounds
    /// as it should.
    fn double(self) -> Option<f64> {
        const POWERS: [f64; EXACT_DIGITS as usize + 1] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
        ];
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

/// Appends the digits that `bytes` begins with to a number; with how many there are.
fn digits(bytes: &[u8], mut number: u64) -> (u64, usize) {
    let mut count = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    (number, count)
}

/// Where the quote is that ends a text, eight bytes at a time; `None` if something comes before it that may be an error
/// or stand for something else: a backslash, a control character.
fn text_end(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    const QUOTE: u64 = b'"' as u64 * ONES;
    const BACKSLASH: u64 = b'\\' as u64 * ONES;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest byte that is marked is one of them; those above it may be marked by the borrow.
        let (quotes, slashes) = (word ^ QUOTE, word ^ BACKSLASH);
        let marked = (quotes.wrapping_sub(ONES) & !quotes)
            | (slashes.wrapping_sub(ONES) & !slashes)
            | (word.wrapping_sub(0x20 * ONES) & !word);
        let marked = marked & HIGH;
        if marked != 0 {
            let at = 8 * number + marked.trailing_zeros() as usize / 8;
            return (bytes[at] == b'"').then_some(at);
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    let at = bytes.len() - rest.len() + rest.iter().position(ends)?;
    (bytes[at] == b'"').then_some(at)
}

/// Walks a message that is known to be JSON.
struct Learner<'t> {
    text: &'t str,
    at: usize,
    /// Where that begins which stands before the next value.
    literal: usize,
    layout: Layout,
}

impl Learner<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes a sign, if it is the next.
    fn take(&mut self, sign: u8) -> bool {
        let found = self.byte() == Some(sign);
        self.at += usize::from(found);
        self.spaces();
        found
    }

    fn value(&mut self, node: Option<&Node>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH || self.layout.parts.len() > MAX_PARTS {
            return None;
        }
        let slots = node.map_or(&[][..], |node| &node.slots);
        match self.byte()? {
            // A column that reads all of it would have to be read another way.
            b'{' | b'[' if !slots.is_empty() => None,
            b'{' => self.object(node, depth),
            b'[' => self.array(depth),
            _ => self.scalar(slots),
        }
    }

    fn object(&mut self, node: Option<&Node>, depth: usize) -> Option<()> {
        self.take(b'{');
        if self.take(b'}') {
            return Some(());
        }
        loop {
            let begin = self.at + 1;
            let (Scalar::Text, end) = Scalar::read(self.text.as_bytes(), self.at)? else {
                return None;
            };
            let key = &self.text[begin..end - 1];
            self.at = end;
            self.spaces();
            self.take(b':');
            let child = node.and_then(|node| node.child(key));
            self.value(child, depth + 1)?;
            self.spaces();
            if !self.take(b',') {
                return self.take(b'}').then_some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[');
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(None, depth + 1)?;
            self.spaces();
            if !self.take(b',') {
                return self.take(b']').then_some(());
            }
        }
    }

    fn scalar(&mut self, slots: &[usize]) -> Option<()> {
        let layout = &mut self.layout;
        let slot = match slots {
            [] => None,
            [slot] => Some(*slot),
            // Two columns that read one value are filled the long way.
            _ => return None,
        };
        // A key that comes twice: the last one counts.
        if slot.is_some() && layout.parts.iter().any(|part| part.slot == slot) {
            return None;
        }
        let (_, end) = Scalar::read(self.text.as_bytes(), self.at)?;
        let before = &self.text.as_bytes()[self.literal..self.at];
        layout.bytes.extend_from_slice(before);
        layout.parts.push(Part {
            before: before.len(),
            slot,
        });
        self.at = end;
        self.literal = end;
        Some(())
    }
}

#[cfg(test)]
mod tests;
