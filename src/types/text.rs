//! Short texts out of bytes.
//!
//! The standard library checks UTF-8 by aligned words; of a short text that stands anywhere it would look at each byte. So
//! a short text is copied to an aligned place, with zeros behind it, and looked at there.

use compact_str::CompactString;

/// Bytes of a text that is short.
pub const SHORT_TEXT: usize = 32;

/// Bytes that may be a text.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub struct ShortText {
    /// The bytes, and zeros.
    pub bytes: [u8; SHORT_TEXT],
}

impl ShortText {
    /// The text of the first `length` bytes, if all are UTF-8.
    #[inline]
    pub fn get(&self, length: usize) -> Option<&str> {
        str::from_utf8(&self.bytes).ok()?.get(..length)
    }
}

/// The text that these bytes are, if they are UTF-8.
#[inline]
pub fn text_of(bytes: &[u8]) -> Option<CompactString> {
    if bytes.len() > SHORT_TEXT {
        return str::from_utf8(bytes).ok().map(CompactString::new);
    }
    let mut short = ShortText {
        bytes: [0; SHORT_TEXT],
    };
    short.bytes[..bytes.len()].copy_from_slice(bytes);
    short.get(bytes.len()).map(CompactString::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_what_the_library_makes_of_them() {
        let text = "aä1€\u{1f600}~".repeat(5);
        for from in 0..text.len() {
            for to in from..=text.len() {
                let bytes = &text.as_bytes()[from..to];
                let expected = str::from_utf8(bytes).ok();
                assert_eq!(text_of(bytes).as_deref(), expected, "{from}..{to}");
            }
        }
    }
}
