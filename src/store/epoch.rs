//! What one epoch writes into its transaction, and how the head record follows.
//!
//! Invariant: the head's counts and sizes are those of the tables, after every epoch; opening checks it.

use redb::{ReadableTable, WriteTransaction};

use super::error::Fault;
use super::ledger::{BASE, DEAD, DELTAS, HEAD, HEAD_KEY, META_KEY, OUTBOX, put, put_pieces};
use super::packing::pack;
use super::record::{FRAME_BYTES, Head, Kind, encode_dead, encode_outbox};
use super::{CommitStats, EpochCommit, StateWrite, StoreOptions, Totals};

/// The transaction of one epoch.
pub(super) struct EpochWriter<'t> {
    tx: &'t WriteTransaction,
    pub(super) head: Head,
    pub(super) stats: CommitStats,
}

impl<'t> EpochWriter<'t> {
    pub(super) fn new(tx: &'t WriteTransaction, head: Head) -> Self {
        Self {
            tx,
            head,
            stats: CommitStats::default(),
        }
    }

    pub(super) fn write(
        &mut self,
        commit: &EpochCommit,
        options: &StoreOptions,
    ) -> Result<(), Fault> {
        self.head.epoch = commit.epoch;
        self.carry(commit.meta.len(), commit.meta.len());
        self.write_state(commit.epoch, &commit.state)?;
        self.write_outbox(commit)?;
        self.write_dead(commit, options)?;
        let mut head = self.tx.open_table(HEAD)?;
        put(&mut head, HEAD_KEY, Kind::Head, 0, &self.head.encode())?;
        put(&mut head, META_KEY, Kind::Meta, 0, &commit.meta)
    }

    /// Counts so many bytes, and as how many they are stored.
    const fn carry(&mut self, bytes: usize, stored: usize) {
        self.stats.payload_bytes += bytes as u64;
        self.head.totals.committed_bytes += stored as u64;
    }

    fn write_state(&mut self, epoch: u64, state: &StateWrite) -> Result<(), Fault> {
        match state {
            StateWrite::Unchanged => {}
            StateWrite::Delta(bytes) => {
                let packed = pack(bytes);
                put_pieces(
                    &mut self.tx.open_table(DELTAS)?,
                    Kind::Delta,
                    epoch,
                    &packed,
                )?;
                self.head.totals.deltas += 1;
                self.head.totals.delta_bytes += packed.len() as u64;
                self.carry(bytes.len(), packed.len());
            }
            StateWrite::Snapshot(chunks) => {
                self.tx.delete_table(BASE)?;
                self.tx.delete_table(DELTAS)?;
                self.tx.open_table(DELTAS)?;
                let mut base = self.tx.open_table(BASE)?;
                self.head.totals = Totals {
                    base_chunks: 0,
                    base_bytes: 0,
                    deltas: 0,
                    delta_bytes: 0,
                    ..self.head.totals
                };
                for (number, chunk) in (0..).zip(chunks) {
                    let packed = pack(chunk);
                    put_pieces(&mut base, Kind::Base, number, &packed)?;
                    self.head.totals.base_chunks += 1;
                    self.head.totals.base_bytes += packed.len() as u64;
                    self.carry(chunk.len(), packed.len());
                }
            }
        }
        Ok(())
    }

    fn write_outbox(&mut self, commit: &EpochCommit) -> Result<(), Fault> {
        if commit.outbox_append.is_empty() && commit.outbox_remove.is_empty() {
            return Ok(());
        }
        let mut outbox = self.tx.open_table(OUTBOX)?;
        for (connection, first_number) in &commit.outbox_remove {
            let totals = &mut self.head.totals;
            if let Some(frame) = outbox.remove((connection.as_str(), *first_number))? {
                totals.outbox_chunks = totals.outbox_chunks.saturating_sub(1);
                totals.outbox_bytes = totals
                    .outbox_bytes
                    .saturating_sub(payload_len(frame.value()));
            }
        }
        for chunk in &commit.outbox_append {
            let key = (chunk.connection.as_str(), chunk.first_number);
            if outbox.get(key)?.is_some() {
                return Err(Fault::Misuse(format!(
                    "the outbox of {} already has a chunk that starts at row {}",
                    chunk.connection, chunk.first_number
                )));
            }
            let payload = encode_outbox(chunk.rows, chunk.appended_at_micros, &chunk.bytes);
            put(&mut outbox, key, Kind::Outbox, chunk.first_number, &payload)?;
            self.head.totals.outbox_chunks += 1;
            self.head.totals.outbox_bytes += payload.len() as u64;
            self.carry(chunk.bytes.len(), payload.len());
        }
        Ok(())
    }

    fn write_dead(&mut self, commit: &EpochCommit, options: &StoreOptions) -> Result<(), Fault> {
        self.stats.first_dead_letter_id = self.head.next_dead_id;
        let totals = self.head.totals;
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
                forget(&mut self.head.totals, payload_len(frame.value()));
            }
        }
        for letter in &commit.dead_append {
            let payload = encode_dead(letter);
            put(
                &mut dead,
                self.head.next_dead_id,
                Kind::Dead,
                self.head.next_dead_id,
                &payload,
            )?;
            self.head.next_dead_id += 1;
            self.head.totals.dead_letters += 1;
            self.head.totals.dead_letter_bytes += payload.len() as u64;
            self.carry(payload.len(), payload.len());
        }
        while over(
            self.head.totals.dead_letters,
            self.head.totals.dead_letter_bytes,
        ) {
            let Some((_, frame)) = dead.pop_first()? else {
                break;
            };
            forget(&mut self.head.totals, payload_len(frame.value()));
            self.stats.dead_letters_dropped += 1;
        }
        Ok(())
    }
}

fn payload_len(frame: &[u8]) -> u64 {
    frame.len().saturating_sub(FRAME_BYTES) as u64
}
