//! The bytes that are expected in a message, each as itself or as one of a kind: looked at eight at a time, and whole.
//!
//! Of each byte it is known with what it is compared and how much more it may be. The difference (by XOR) of a byte that
//! is known is none; that of a digit from `0` is its value, at most nine; of a text it matters only that it is ASCII. So one
//! addition to all eight differences, of what is missing up to the highest bit, marks those that are too great.

use super::words::{HIGH, word_or_less};

/// What a byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// This.
    Byte(u8),
    Digit,
    Ascii,
}

/// Eight bytes that are expected, the first of them in the lowest byte.
#[derive(Clone, Copy, Debug, Default)]
struct Eight {
    /// What they are compared with.
    with: u64,
    /// What may be added to a difference before it is too great.
    room: u64,
}

impl Eight {
    /// Of at most eight; the rest may be any ASCII.
    fn of(expected: &[Expected]) -> Self {
        let (mut with, mut room) = ([0; 8], [0; 8]);
        for ((with, room), expected) in with.iter_mut().zip(&mut room).zip(expected) {
            (*with, *room) = match expected {
                Expected::Byte(byte) => (*byte, 0x7f),
                Expected::Digit => (b'0', 0x7f - 9),
                Expected::Ascii => (0, 0),
            };
        }
        Self {
            with: u64::from_le_bytes(with),
            room: u64::from_le_bytes(room),
        }
    }

    /// Marks bytes of `found` that are others, if there are any.
    #[inline]
    const fn others(self, found: u64) -> u64 {
        others(found, self.with, self.room)
    }
}

/// The same, but for the bits that are no marks: for many words those are left out at the end.
#[inline]
const fn others(found: u64, with: u64, room: u64) -> u64 {
    let differ = found ^ with;
    // Nothing is carried over but from a byte whose difference has the highest bit, and which is marked itself.
    differ.wrapping_add(room) | differ
}

/// As many bytes as are compared at a time where there are so many, and four words of them.
const BLOCK: usize = 32;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    with: [u64; 4],
    room: [u64; 4],
}

impl Block {
    fn of(expected: &[Expected]) -> Self {
        let mut block = Self::default();
        for (at, eight) in expected.chunks(8).map(Eight::of).enumerate() {
            (block.with[at], block.room[at]) = (eight.with, eight.room);
        }
        block
    }

    /// Adds the marks of bytes that are others, word by word.
    #[inline]
    fn note_others(&self, found: &[u8; BLOCK], marks: &mut [u64; 4]) {
        let (words, _) = found.as_chunks();
        for (at, word) in words.iter().enumerate() {
            marks[at] |= others(u64::from_le_bytes(*word), self.with[at], self.room[at]);
        }
    }
}

/// Bytes that are expected one behind the other.
#[derive(Debug, Default)]
pub(super) struct Template {
    length: usize,
    /// The first eight, and where marks of them count if they are not as many.
    first: Eight,
    marks: u64,
    /// Of more than eight all full words and the last eight, which may be some of these again.
    words: Box<[Eight]>,
    last: Eight,
    /// Of as many as a block has, instead: all full blocks, and the last.
    blocks: Box<[Block]>,
    last_block: Block,
}

impl Template {
    pub(super) fn new(expected: &[Expected]) -> Self {
        let length = expected.len();
        let first = &expected[..length.min(8)];
        let mut template = Self {
            length,
            first: Eight::of(first),
            marks: HIGH
                & u64::MAX
                    .checked_shr(64 - 8 * first.len() as u32)
                    .unwrap_or(0),
            ..Self::default()
        };
        if length >= BLOCK {
            template.blocks = expected.chunks_exact(BLOCK).map(Block::of).collect();
            template.last_block = Block::of(&expected[length - BLOCK..]);
        } else if length > 8 {
            template.words = expected.chunks_exact(8).map(Eight::of).collect();
            template.last = Eight::of(&expected[length - 8..]);
        }
        template
    }

    /// The bytes that are expected, if they stand in `message` at `at`.
    #[inline]
    pub(super) fn find<'m>(&self, message: &'m [u8], at: usize) -> Option<&'m [u8]> {
        let found = message.get(at..at + self.length)?;
        let differ = if self.length > 8 {
            self.others_of_many(found)
        } else {
            self.first.others(word_or_less(message, at)) & self.marks
        };
        (differ & HIGH == 0).then_some(found)
    }

    /// Marks others in `found`, as many bytes and more than eight.
    #[inline]
    fn others_of_many(&self, found: &[u8]) -> u64 {
        if let Some(last) = found.last_chunk() {
            let (blocks, _) = found.as_chunks();
            let mut marks = [0; 4];
            self.last_block.note_others(last, &mut marks);
            for (found, block) in blocks.iter().zip(&self.blocks) {
                block.note_others(found, &mut marks);
            }
            return marks[0] | marks[1] | marks[2] | marks[3];
        }
        let Some(last) = found.last_chunk() else {
            return HIGH;
        };
        let (words, _) = found.as_chunks();
        let mut differ = self.last.others(u64::from_le_bytes(*last));
        for (word, eight) in words.iter().zip(&self.words) {
            differ |= eight.others(u64::from_le_bytes(*word));
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_every_length_are_found_where_they_are_and_nowhere_else() {
        let all: Vec<u8> = (b'0'..=b'~').collect();
        for length in 0..=all.len() {
            let exactly: Vec<Expected> =
                all[..length].iter().copied().map(Expected::Byte).collect();
            let template = Template::new(&exactly);
            for behind in 0..10 {
                let mut message = b"xy".to_vec();
                message.extend_from_slice(&all[..length]);
                message.extend_from_slice(&b"0123456789"[..behind]);
                assert_eq!(template.find(&message, 2), Some(&all[..length]));
                for at in 2..2 + length {
                    for bit in 0..8 {
                        message[at] ^= 1 << bit;
                        assert_eq!(template.find(&message, 2), None);
                        message[at] ^= 1 << bit;
                    }
                }
                if length > 0 {
                    assert_eq!(template.find(&message[..=length], 2), None);
                }
                assert_eq!(template.find(b"x", 2), None);
            }
        }
    }

    #[test]
    fn each_byte_is_held_against_its_own_kind() {
        let kinds = [Expected::Byte(b'0'), Expected::Digit, Expected::Ascii];
        for length in 1..70 {
            for at in 0..length {
                for kind in kinds {
                    // Neighbours that have no room and all of it, so that nothing is carried from one to the other.
                    for neighbours in kinds {
                        let mut expected = vec![neighbours; length];
                        expected[at] = kind;
                        let template = Template::new(&expected);
                        let mut message = vec![b'0'; length];
                        for byte in 0..=u8::MAX {
                            message[at] = byte;
                            let fits = match kind {
                                Expected::Byte(expected) => byte == expected,
                                Expected::Digit => byte.is_ascii_digit(),
                                Expected::Ascii => byte.is_ascii(),
                            };
                            assert_eq!(
                                template.find(&message, 0).is_some(),
                                fits,
                                "{kind:?} {byte}"
                            );
                        }
                    }
                }
            }
        }
    }
}
