//! What one epoch writes into its transaction, and how the head record follows.
//!
//! Invariant: the head's counts and sizes are those of the tables and of what is in its page, after every epoch; opening
//! checks it.

use redb::{ReadableTable, WriteTransaction};

use super::error::Fault;
use super::head::{HeadPage, Overflow, filling};
use super::ledger::{BASE, DEAD, DELTAS, HEAD, HEAD_KEY, OUTBOX, put, put_pieces};
use super::record::{FRAME_BYTES, Kind, encode_dead, encode_outbox};
use super::{CommitStats, EpochCommit, StateWrite, StoreOptions, Totals};
use crate::state::pack_tightly;

/// The transaction of one epoch.
pub(super) struct EpochWriter<'t> {
    tx: &'t WriteTransaction,
    pub(super) page: HeadPage,
    pub(super) stats: CommitStats,
}

impl<'t> EpochWriter<'t> {
    pub(super) fn new(tx: &'t WriteTransaction, page: HeadPage) -> Self {
        Self {
            tx,
            page,
            stats: CommitStats::default(),
        }
    }

    pub(super) fn write(
        &mut self,
        commit: &EpochCommit,
        options: &StoreOptions,
    ) -> Result<(), Fault> {
        self.page.head.epoch = commit.epoch;
        self.carry(commit.meta.len(), commit.meta.len());
        self.write_state(commit.epoch, &commit.state)?;
        self.write_outbox(commit)?;
        self.write_dead(commit, options)?;
        self.page.meta = Some(commit.meta.clone());
        put_head(self.tx, &mut self.page)
    }

    /// Counts so many bytes, and as how many they are stored.
    const fn carry(&mut self, bytes: usize, stored: usize) {
        self.stats.payload_bytes += bytes as u64;
        self.page.head.totals.committed_bytes += stored as u64;
    }

    fn write_state(&mut self, epoch: u64, state: &StateWrite) -> Result<(), Fault> {
        match state {
            StateWrite::Unchanged => {}
            StateWrite::Delta(bytes) => {
                let packed = pack_tightly(bytes);
                self.page.append_delta(epoch, &packed);
                put_log(self.tx, &mut self.page)?;
                self.carry(bytes.len(), packed.len());
            }
            StateWrite::Snapshot(chunks) => {
                self.tx.delete_table(BASE)?;
                self.tx.delete_table(DELTAS)?;
                self.tx.open_table(DELTAS)?;
                self.page.log_pieces = 0;
                self.page.log_tail.clear();
                let mut base = self.tx.open_table(BASE)?;
                self.page.head.totals = Totals {
                    base_chunks: 0,
                    base_bytes: 0,
                    deltas: 0,
                    delta_bytes: 0,
                    ..self.page.head.totals
                };
                for (number, chunk) in (0..).zip(chunks) {
                    let packed = chunk.as_slice();
                    put_pieces(&mut base, number, packed)?;
                    self.page.head.totals.base_chunks += 1;
                    self.page.head.totals.base_bytes += packed.len() as u64;
                    self.carry(chunk.unpacked_len(), packed.len());
                }
            }
        }
        Ok(())
    }

    fn write_outbox(&mut self, commit: &EpochCommit) -> Result<(), Fault> {
        if commit.outbox_append.is_empty() && commit.outbox_remove.is_empty() {
            return Ok(());
        }
        // A table that is only opened is not written.
        let mut outbox = self.tx.open_table(OUTBOX)?;
        for (connection, first_number) in &commit.outbox_remove {
            let key = (connection.clone(), *first_number);
            let len = match self.page.outbox.remove(&key) {
                Some(payload) => payload.len() as u64,
                None => match outbox.remove((connection.as_str(), *first_number))? {
                    Some(frame) => payload_len(frame.value()),
                    None => continue,
                },
            };
            let totals = &mut self.page.head.totals;
            totals.outbox_chunks = totals.outbox_chunks.saturating_sub(1);
            totals.outbox_bytes = totals.outbox_bytes.saturating_sub(len);
        }
        for chunk in &commit.outbox_append {
            let key = (chunk.connection.clone(), chunk.first_number);
            if self.page.outbox.contains_key(&key) || outbox.get((key.0.as_str(), key.1))?.is_some()
            {
                return Err(Fault::Misuse(format!(
                    "the outbox of {} already has a chunk that starts at row {}",
                    key.0, key.1
                )));
            }
            let payload = encode_outbox(chunk.rows, chunk.appended_at_micros, &chunk.bytes);
            self.page.head.totals.outbox_chunks += 1;
            self.page.head.totals.outbox_bytes += payload.len() as u64;
            self.carry(chunk.bytes.len(), payload.len());
            self.page.outbox.insert(key, payload);
        }
        Ok(())
    }

    fn write_dead(&mut self, commit: &EpochCommit, options: &StoreOptions) -> Result<(), Fault> {
        self.stats.first_dead_letter_id = self.page.head.next_dead_id;
        let totals = self.page.head.totals;
        let over = |letters: u64, bytes: u64| {
            letters > options.dead_letters_limit_count || bytes > options.dead_letters_limit_bytes
        };
        if commit.dead_append.is_empty()
            && commit.dead_remove.is_empty()
            && !over(totals.dead_letters, totals.dead_letter_bytes)
        {
            return Ok(());
        }
        let mut dead = self.tx.open_table(DEAD)?;
        let forget = |totals: &mut Totals, len: u64| {
            totals.dead_letters = totals.dead_letters.saturating_sub(1);
            totals.dead_letter_bytes = totals.dead_letter_bytes.saturating_sub(len);
        };
        for id in &commit.dead_remove {
            if let Some(frame) = dead.remove(*id)? {
                forget(&mut self.page.head.totals, payload_len(frame.value()));
            }
        }
        for letter in &commit.dead_append {
            let payload = encode_dead(letter);
            put(
                &mut dead,
                self.page.head.next_dead_id,
                Kind::Dead,
                self.page.head.next_dead_id,
                &payload,
            )?;
            self.page.head.next_dead_id += 1;
            self.page.head.totals.dead_letters += 1;
            self.page.head.totals.dead_letter_bytes += payload.len() as u64;
            self.carry(payload.len(), payload.len());
        }
        while over(
            self.page.head.totals.dead_letters,
            self.page.head.totals.dead_letter_bytes,
        ) {
            let Some((_, frame)) = dead.pop_first()? else {
                break;
            };
            forget(&mut self.page.head.totals, payload_len(frame.value()));
            self.stats.dead_letters_dropped += 1;
        }
        Ok(())
    }
}

/// Moves what fills pages from the end of the log to its table.
pub(super) fn put_log(tx: &WriteTransaction, page: &mut HeadPage) -> Result<(), Fault> {
    let mut lens = Vec::new();
    let mut left = page.log_tail.len();
    while let Some(len) = full_piece(left) {
        lens.push(len);
        left -= len;
    }
    put_pieces_of_log(tx, page, &lens)
}

/// The longest piece, of those that fill pages, that is in so many bytes. Long ones make for a shallow tree, of which a commit
/// that has a piece writes all levels.
fn full_piece(bytes: usize) -> Option<usize> {
    let pages = [8, 4, 2, 1].into_iter();
    pages.map(filling).find(|len| *len <= bytes)
}

/// Moves pieces of these lengths from the tail of the log, from its start on.
fn put_pieces_of_log(
    tx: &WriteTransaction,
    page: &mut HeadPage,
    lens: &[usize],
) -> Result<(), Fault> {
    // A table that is opened and not written costs nothing but time.
    if lens.is_empty() {
        return Ok(());
    }
    let mut log = tx.open_table(DELTAS)?;
    let mut at = 0;
    for len in lens {
        let (number, piece) = (page.log_pieces, &page.log_tail[at..at + len]);
        put(&mut log, number, Kind::Delta, number, piece)?;
        page.log_pieces += 1;
        at += len;
    }
    page.log_tail.drain(..at);
    Ok(())
}

/// Writes the head, after what has no room in its page.
pub(super) fn put_head(tx: &WriteTransaction, page: &mut HeadPage) -> Result<(), Fault> {
    while let Some(overflow) = page.overflow() {
        match overflow {
            Overflow::LogTail => {
                let len = page.log_tail.len();
                put_pieces_of_log(tx, page, &[len])?;
            }
            Overflow::Outbox => {
                let mut outbox = tx.open_table(OUTBOX)?;
                for ((connection, number), payload) in std::mem::take(&mut page.outbox) {
                    let key = (connection.as_str(), number);
                    put(&mut outbox, key, Kind::Outbox, number, &payload)?;
                }
            }
        }
    }
    let mut head = tx.open_table(HEAD)?;
    put(&mut head, HEAD_KEY, Kind::Head, 0, &page.encode())
}

fn payload_len(frame: &[u8]) -> u64 {
    frame.len().saturating_sub(FRAME_BYTES) as u64
}
