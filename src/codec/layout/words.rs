//! Bytes of a message, eight at a time: is this what is expected here, how far do digits go, where does a text end.
//!
//! Words are little-endian: the byte that comes first is the lowest. A byte is marked by its highest bit.

use compact_str::CompactString;

use crate::types::{SHORT_TEXT, ShortText, text_of};

const ONES: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGH: u64 = 0x80 * ONES;
pub(super) const ZEROS: u64 = b'0' as u64 * ONES;

/// The eight bytes from `at` on.
#[inline]
pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at + 8)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// The eight bytes from `at` on, with zeros behind the last.
#[inline]
pub(super) fn word_or_less(bytes: &[u8], at: usize) -> u64 {
    word_at(bytes, at).unwrap_or_else(|| {
        let missing = (at + 8).saturating_sub(bytes.len());
        match bytes.last_chunk() {
            Some(last) if missing < 8 => u64::from_le_bytes(*last) >> (8 * missing),
            _ => word_of_less(bytes.get(at..).unwrap_or_default()),
        }
    })
}

/// The same where there are not even eight in all.
#[cold]
fn word_of_less(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

/// Marks the bytes of a word that are no digits.
const fn others(word: u64) -> u64 {
    let values = word ^ ZEROS;
    (((values & !HIGH) + (0x80 - 10) * ONES) | values) & HIGH
}

/// A number without sign and exponent that stands within a word, with something behind it (at the end of a message that
/// is a zero).
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortNumber {
    /// Its digits as values, in the highest bytes, with zeros in front.
    digits: u64,
    /// How many there are, and how many of them behind the point.
    pub(super) count: u32,
    pub(super) fraction: u32,
    /// How many bytes it has.
    pub(super) length: u32,
}

impl ShortNumber {
    /// The number that begins at `at`, by the grammar of JSON; `None` if it is longer, or none.
    #[inline]
    pub(super) fn read(message: &[u8], at: usize) -> Option<Self> {
        let word = word_or_less(message, at);
        let others = others(word);
        let whole = others.trailing_zeros() / 8;
        if whole == 0 || whole == 8 || (whole > 1 && word as u8 == b'0') {
            return None;
        }
        let mut values = word ^ ZEROS;
        let (mut count, mut fraction, mut length) = (whole, 0, whole);
        if (word >> (8 * whole)) as u8 == b'.' {
            length = (others & (others - 1)).trailing_zeros() / 8;
            if length == 8 || length == whole + 1 {
                return None;
            }
            fraction = length - whole - 1;
            count = length - 1;
            // The digits move to where the point was.
            let before = (1 << (8 * whole)) - 1;
            values = (values & before) | ((values >> 8) & !before);
        }
        if matches!((word >> (8 * length)) as u8, b'e' | b'E') {
            return None;
        }
        Some(Self {
            digits: values << (64 - 8 * count),
            count,
            fraction,
            length,
        })
    }

    /// All its digits as one number.
    #[inline]
    pub(super) const fn digits(self) -> u64 {
        value_of_digits(self.digits)
    }
}

/// The integer without a sign that begins at `at`, and where it ends, by the grammar of JSON; `None` if it has more than
/// fifteen digits, or if it is no integer or none as such.
#[inline]
pub(super) fn whole_number(message: &[u8], at: usize) -> Option<(i64, usize)> {
    let word = word_or_less(message, at);
    let others_of_first = others(word);
    let count = others_of_first.trailing_zeros() / 8;
    if count == 0 || (count > 1 && word as u8 == b'0') {
        return None;
    }
    let fraction_or_exponent = |sign: u64| matches!(sign as u8, b'.' | b'e' | b'E');
    if count < 8 {
        let number = value_of_digits((word ^ ZEROS) << (64 - 8 * count));
        let more = fraction_or_exponent(word >> (8 * count));
        return (!more).then_some((number as i64, at + count as usize));
    }
    let high = value_of_digits(word ^ ZEROS);
    let word = word_or_less(message, at + 8);
    let count = others(word).trailing_zeros() / 8;
    if count == 8 || fraction_or_exponent(word >> (8 * count)) {
        return None;
    }
    let low = match count {
        0 => 0,
        _ => value_of_digits((word ^ ZEROS) << (64 - 8 * count)),
    };
    let number = high * POWERS[count as usize] + low;
    Some((number as i64, at + 8 + count as usize))
}

/// Powers of ten by their number of zeros.
const POWERS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Appends the digits from `at` on to a number, which wraps if they are too many; with where they end.
#[inline]
pub(super) fn digits(bytes: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    while let Some(word) = word_at(bytes, at) {
        let count = others(word).trailing_zeros() / 8;
        if count == 0 {
            return (number, at);
        }
        // Zeros in front.
        let eight = value_of_digits((word ^ ZEROS) << (64 - 8 * count));
        number = number
            .wrapping_mul(POWERS[count as usize])
            .wrapping_add(eight);
        at += count as usize;
        if count < 8 {
            return (number, at);
        }
    }
    for byte in bytes.get(at..).unwrap_or_default() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (number, at)
}

/// The number that eight digits make: neighbours are put together, then pairs, then fours.
pub(super) const fn value_of_digits(digits: u64) -> u64 {
    const EACH_SECOND: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let outer = (pairs & EACH_SECOND).wrapping_mul(100 + (1_000_000 << 32));
    let inner = ((pairs >> 16) & EACH_SECOND).wrapping_mul(1 + (10_000 << 32));
    outer.wrapping_add(inner) >> 32
}

/// Marks the lowest byte of a word that does not stand for itself in a JSON text: a quote, a backslash, a control
/// character. Bytes above it may be marked, too.
#[inline]
pub(in crate::codec) const fn special(word: u64) -> u64 {
    const QUOTE: u64 = b'"' as u64 * ONES;
    const BACKSLASH: u64 = b'\\' as u64 * ONES;
    let (quotes, slashes) = (word ^ QUOTE, word ^ BACKSLASH);
    let marked = (quotes.wrapping_sub(ONES) & !quotes)
        | (slashes.wrapping_sub(ONES) & !slashes)
        | (word.wrapping_sub(0x20 * ONES) & !word);
    marked & HIGH
}

/// A text without a backslash or a control character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    begin: usize,
    /// Where its closing quote stands.
    pub(super) end: usize,
    /// Whether it has no byte beyond 127.
    ascii: bool,
}

impl Text {
    /// A text of so many bytes that is known to be ASCII.
    pub(super) const fn ascii(begin: usize, length: usize) -> Self {
        Self {
            begin,
            end: begin + length,
            ascii: true,
        }
    }

    pub(super) fn is_utf8(self, message: &[u8]) -> bool {
        self.ascii || str::from_utf8(&message[self.begin..self.end]).is_ok()
    }

    /// Hands over the text, if it is UTF-8.
    #[inline]
    pub(super) fn read(self, message: &[u8]) -> Option<CompactString> {
        let length = self.end - self.begin;
        // With whatever comes behind it, mostly more of the kind.
        if length <= SHORT_TEXT
            && let Some(bytes) = message[self.begin..].first_chunk()
            && let Some(text) = (ShortText { bytes: *bytes }).get(length)
        {
            return Some(text.into());
        }
        text_of(&message[self.begin..self.end])
    }
}

/// The text that begins at `at`, behind its opening quote; `None` if something comes before its closing quote that may
/// be an error or stand for something else.
#[inline]
pub(super) fn text_at(bytes: &[u8], begin: usize) -> Option<Text> {
    let mut at = begin;
    let mut high = 0;
    while let Some(word) = word_at(bytes, at) {
        let marked = special(word);
        if marked != 0 {
            // The bits below the mark belong to the text.
            high |= word & HIGH & (marked & marked.wrapping_neg()).wrapping_sub(1);
            let end = at + marked.trailing_zeros() as usize / 8;
            let text = Text {
                begin,
                end,
                ascii: high == 0,
            };
            return (bytes[end] == b'"').then_some(text);
        }
        high |= word & HIGH;
        at += 8;
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    let rest = bytes.get(at..)?;
    let end = at + rest.iter().position(ends)?;
    let ascii = high == 0 && rest[..end - at].is_ascii();
    (bytes[end] == b'"').then_some(Text { begin, end, ascii })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_from_every_place_and_length() {
        let digits_of = "12345678901234567";
        for length in 0..=digits_of.len() {
            for (before, behind) in [
                ("", ""),
                ("\u{ff}x", ","),
                ("  ", "\u{ff}"),
                ("", "0.5e7 and more"),
            ] {
                let text = format!("{before}{}{behind}", &digits_of[..length]);
                let begin = before.len();
                let end = text[begin..]
                    .find(|sign: char| !sign.is_ascii_digit())
                    .map_or(text.len(), |at| begin + at);
                let expected = text[begin..end].parse().unwrap_or(0);
                assert_eq!(digits(text.as_bytes(), begin, 0), (expected, end), "{text}");
            }
        }
        assert_eq!(digits(b"7", 9, 5), (5, 9));
    }

    #[test]
    fn texts_end_at_their_quote_and_at_nothing_else() {
        for length in 0..20 {
            for (inside, ascii) in [("a", true), ("\u{e9}", false), ("\u{7f}", true)] {
                let text = inside.repeat(length);
                for behind in ["", "\u{e9}", ",\"more\":12345"] {
                    let message = format!("xy{text}\"{behind}");
                    let found = text_at(message.as_bytes(), 2).unwrap();
                    assert_eq!(found.end, 2 + text.len(), "{message}");
                    assert_eq!(found.ascii, ascii || length == 0, "{message}");
                    assert!(found.is_utf8(message.as_bytes()));
                }
                for sign in ["\\", "\n", "\0"] {
                    let message = format!("xy{text}{sign}\" and more behind");
                    assert!(text_at(message.as_bytes(), 2).is_none(), "{message}");
                }
                assert!(text_at(format!("xy{text}").as_bytes(), 2).is_none());
            }
        }
        let broken = text_at(b"a\xff\"", 0).unwrap();
        assert!(!broken.is_utf8(b"a\xff\""));
    }
}
