//! The head of the file: one record in one page that each commit writes, with all that is small and new in it.
//!
//! A commit of redb writes four pages and its header twice however little has changed, and two pages or more for each
//! further tree that it touches. One of the four is the head's, and most of it would be empty. So what an epoch adds waits
//! in it: the end of the log of deltas, and chunks of the outbox. Many a chunk is acknowledged and gone before it was
//! anywhere else; what no longer fits goes to its table, and takes with it all that waits of its kind.
//!
//! ```text
//! epoch · next dead letter id · totals · pieces of the log · meta (0, or 1 and bytes) · tail of the log (bytes)
//!   · chunks (count, and each: connection, first number, payload)
//! delta in the log  epoch · bytes, packed
//! ```
//! The log is cut into pieces that fill pages of their table; what is not yet a piece is the tail.
//!
//! Invariant: what is in the head is in no table, and what it holds beside counts and meta fits in the pages that those
//! take.

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::Totals;
use super::error::Fault;
use super::record::FRAME_BYTES;
use crate::state::{Decoder, Encoder};

/// A page of redb's.
const REDB_PAGE_BYTES: usize = 4_096;
/// What a page has beside a value: its own header, the end of the value, a key of at most 12 bytes, and a frame.
const BESIDE_BYTES: usize = 20 + FRAME_BYTES;
/// The longest value that is alone in a page.
pub(super) const PAGE_BYTES: usize = filling(1);

/// The longest value that is alone in so many pages, which are a power of two: there are no others.
pub(super) const fn filling(pages: usize) -> usize {
    pages * REDB_PAGE_BYTES - BESIDE_BYTES
}

/// What the file says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) epoch: u64,
    pub(super) next_dead_id: u64,
    pub(super) totals: Totals,
}

/// The head, and what is in its page with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadPage {
    pub(super) head: Head,
    /// Of the engine; `None` before the first epoch.
    pub(super) meta: Option<Vec<u8>>,
    /// How many pieces of the log are in their table.
    pub(super) log_pieces: u64,
    /// What follows on them.
    pub(super) log_tail: Vec<u8>,
    /// The payloads of chunks that are not in the table of the outbox.
    pub(super) outbox: BTreeMap<ChunkKey, Vec<u8>>,
}

/// The connection of a chunk of the outbox, and the number of its first row.
pub(super) type ChunkKey = (CompactString, u64);

/// What has to go to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    LogTail,
    Outbox,
}

impl HeadPage {
    /// Puts a packed delta at the end of the log.
    pub(super) fn append_delta(&mut self, epoch: u64, packed: &[u8]) {
        let mut encoder = Encoder::over(std::mem::take(&mut self.log_tail));
        encoder.u64(epoch);
        encoder.bytes(packed);
        self.log_tail = encoder.into_bytes();
        self.head.totals.deltas += 1;
        self.head.totals.delta_bytes += packed.len() as u64;
    }

    /// What is to be taken out of the page next; `None` if the rest fits. Whichever takes more room goes, so that it is
    /// long until the next has to.
    pub(super) fn overflow(&self) -> Option<Overflow> {
        let tail = self.log_tail.len();
        let outbox = self.outbox.iter();
        let outbox = outbox
            .map(|((connection, _), payload)| connection.len() + payload.len())
            .sum::<usize>();
        let fits = || {
            let whole = self.encode().len();
            // With much meta, what room there is in the pages that it takes.
            let pages = (whole - tail - outbox + BESIDE_BYTES).next_power_of_two();
            whole <= pages.max(REDB_PAGE_BYTES) - BESIDE_BYTES
        };
        // A flood of rows is not to be encoded only to learn that it is one.
        let meta = self.meta.as_ref().map_or(0, Vec::len);
        let may_fit = tail + outbox <= 2 * (REDB_PAGE_BYTES + meta);
        match tail + outbox {
            0 => None,
            _ if may_fit && fits() => None,
            _ if tail >= outbox => Some(Overflow::LogTail),
            _ => Some(Overflow::Outbox),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        let Totals {
            base_chunks,
            base_bytes,
            deltas,
            delta_bytes,
            outbox_chunks,
            outbox_bytes,
            dead_letters,
            dead_letter_bytes,
            committed_bytes,
        } = self.head.totals;
        for number in [
            self.head.epoch,
            self.head.next_dead_id,
            base_chunks,
            base_bytes,
            deltas,
            delta_bytes,
            outbox_chunks,
            outbox_bytes,
            dead_letters,
            dead_letter_bytes,
            committed_bytes,
            self.log_pieces,
        ] {
            encoder.u64(number);
        }
        encoder.bool(self.meta.is_some());
        if let Some(meta) = &self.meta {
            encoder.bytes(meta);
        }
        encoder.bytes(&self.log_tail);
        encoder.u64(self.outbox.len() as u64);
        for ((connection, first_number), payload) in &self.outbox {
            encoder.str(connection);
            encoder.u64(*first_number);
            encoder.bytes(payload);
        }
        encoder.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut decoder = Decoder::new(bytes);
        let mut next = || decoder.u64();
        let head = Head {
            epoch: next()?,
            next_dead_id: next()?,
            totals: Totals {
                base_chunks: next()?,
                base_bytes: next()?,
                deltas: next()?,
                delta_bytes: next()?,
                outbox_chunks: next()?,
                outbox_bytes: next()?,
                dead_letters: next()?,
                dead_letter_bytes: next()?,
                committed_bytes: next()?,
            },
        };
        let log_pieces = next()?;
        let meta = if decoder.bool()? {
            Some(decoder.bytes()?.to_vec())
        } else {
            None
        };
        let log_tail = decoder.bytes()?.to_vec();
        let mut outbox = BTreeMap::new();
        for _ in 0..decoder.count("outbox chunks")? {
            let key = (decoder.str()?.into(), decoder.u64()?);
            outbox.insert(key, decoder.bytes()?.to_vec());
        }
        decoder.finish()?;
        Ok(Self {
            head,
            meta,
            log_pieces,
            log_tail,
            outbox,
        })
    }
}

/// What is shown the deltas of the log: their epochs and packed bytes.
pub(super) type DeltaVisitor<'v> = dyn FnMut(u64, &[u8]) -> Result<(), Fault> + 'v;

/// The log, read piece by piece.
#[derive(Debug, Default)]
pub(super) struct LogReader {
    bytes: Vec<u8>,
}

impl LogReader {
    /// Takes what follows, and shows the deltas that are whole by now.
    pub(super) fn read(
        &mut self,
        piece: &[u8],
        visitor: &mut DeltaVisitor<'_>,
    ) -> Result<(), Fault> {
        self.bytes.extend_from_slice(piece);
        let mut decoder = Decoder::new(&self.bytes);
        let mut rest = decoder.remaining();
        while let (Ok(epoch), Ok(packed)) = (decoder.u64(), decoder.bytes()) {
            rest = decoder.remaining();
            visitor(epoch, packed)?;
        }
        self.bytes.drain(..self.bytes.len() - rest);
        Ok(())
    }

    /// An error if a delta has begun that does not end.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.bytes.len() {
            0 => Ok(()),
            _ => Err(Fault::damaged("the log of deltas ends within one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks<const N: usize>(lens: [usize; N]) -> BTreeMap<ChunkKey, Vec<u8>> {
        let keys = (3..).map(|first_number| ("up".into(), first_number));
        keys.zip(lens.map(|len| vec![b'x'; len])).collect()
    }

    #[test]
    fn the_bytes_are_fixed_for_ever() {
        let mut page = HeadPage {
            head: Head {
                epoch: 300,
                next_dead_id: 2,
                totals: Totals {
                    committed_bytes: 9,
                    ..Totals::default()
                },
            },
            meta: Some(b"m".to_vec()),
            log_pieces: 4,
            outbox: chunks([1]),
            ..HeadPage::default()
        };
        page.append_delta(299, b"d");
        assert_eq!(
            page.encode(),
            [
                &[0xac, 2, 2, 0, 0, 1, 1, 0, 0, 0, 0, 9, 4, 1, 1][..],
                &[b'm', 4, 0xab, 2, 1, b'd', 1, 2, b'u', b'p', 3, 1, b'x']
            ]
            .concat()
        );
        assert_eq!(HeadPage::decode(&page.encode()).unwrap(), page);
    }

    #[test]
    fn what_makes_most_room_goes_first() {
        let mut page = HeadPage {
            log_tail: vec![0; 1_500],
            outbox: chunks([500, 500]),
            ..HeadPage::default()
        };
        assert_eq!(page.overflow(), None);
        page.meta = Some(vec![0; 2_000]);
        assert_eq!(page.overflow(), Some(Overflow::LogTail));
        page.outbox = chunks([500, 500, 600]);
        assert_eq!(page.overflow(), Some(Overflow::Outbox));
        // In two pages there is room for all of it.
        page.meta = Some(vec![0; 4_100]);
        assert_eq!(page.overflow(), None);
        page.meta = Some(vec![0; 100_000]);
        (page.log_tail, page.outbox) = (Vec::new(), BTreeMap::new());
        assert_eq!(page.overflow(), None);
    }

    proptest! {
        #[test]
        fn the_log_comes_back_however_it_is_cut(
            deltas: Vec<(u64, Vec<u8>)>,
            cut in 1..40usize,
        ) {
            let mut page = HeadPage::default();
            for (epoch, packed) in &deltas {
                page.append_delta(*epoch, packed);
            }
            let (mut reader, mut found) = (LogReader::default(), Vec::new());
            for piece in page.log_tail.chunks(cut) {
                reader
                    .read(piece, &mut |epoch, packed| {
                        found.push((epoch, packed.to_vec()));
                        Ok(())
                    })
                    .unwrap();
            }
            prop_assert!(reader.finish().is_ok());
            prop_assert_eq!(found, deltas);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = HeadPage::decode(&bytes);
            let _ = LogReader::default().read(&bytes, &mut |_, _| Ok(()));
        }
    }
}
