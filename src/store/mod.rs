//! Floor 5: the durable state of one gateway: a redb file to which each epoch is one transaction.
//!
//! # The promise
//! When [`Store::commit`] returns `Ok`, the whole epoch (state, meta, outbox, dead letters) survives a power cut, on
//! storage that honours a flush. When the power fails during a commit, the file holds the epoch before or the epoch
//! itself, whole, never a mixture. `tests/disk_power_cuts.rs` cuts the power at every flush, with what was not yet
//! flushed lost, torn and reordered. A commit is given with the number after the last one; the same commit may be
//! given again after a retryable error, and takes effect once.
//!
//! # On disk
//! ```text
//! <state directory>/          0700
//!   lock                      held by the process that has the directory open
//!   headwater.redb            0600, made under another name and renamed into place
//!   state.fallback            a compact copy of an earlier epoch, with a checksum; see `fallback.rs`
//!   ballast                   written bytes, given up when the disk is full
//!   headwater.redb.corrupt-N  what did not open; never deleted, at most MAX_QUARANTINED of them
//!
//! headwater.redb
//!   head    0 -> epoch, counts, sizes, meta of the engine, and what is small and new; see `head.rs`
//!   base    (chunk number, piece) -> bytes, packed    the last snapshot
//!   deltas  piece -> bytes                            the log of deltas since that snapshot, one packed blob an epoch; its
//!                                                     tail is in the head
//!   outbox  (connection, first number) -> rows, appended at, bytes, packed; new ones are in the head
//!   dead    id -> dead letter
//! ```
//! Each value is framed: a format byte, an XXH3 of kind, key and payload, the payload. What was written is what is
//! read, or it is an error: redb checks its pages when it opens, not when it reads, and a card may rot between.
//!
//! Why a blob an epoch: one small key rewrites pages of 4 KiB up to the root; a thousand keys written one by one cost
//! 88 times their bytes, as one blob 1.08 times. The engine decides when to fold the deltas into a snapshot. Blobs are
//! packed (`state`) and cut to fill pages.
//!
//! What a commit writes, in pages of 4 KiB: the file's header twice (once with the epoch, once to say that it counts), the
//! tree of tables, the head, and redb's own list of freed pages with its tree. That is 24 KB. For each page that the log of
//! deltas has filled it is one more, and two or more for each table that is touched: the leaf and the path to it.
//!
//! # Bounds
//! Dead letters have a limit in bytes and in count, and the oldest go first, counted. The cache has a size. The
//! fallback has a limit in bytes: the state must fit or there is none; outbox and dead letters go in as far as they
//! fit, and what was left out is reported. The outbox is bounded by the engine, which knows its policy. Deltas are
//! bounded by the engine's folding.
//!
//! # When storage fails
//! - Full disk: the ballast is deleted, the file reopened, and [`StoreError::DiskFull`] returned: give the same
//!   commit again. redb cannot even delete without free space; the ballast is that space. [`Store::restore_ballast`]
//!   takes it back.
//! - Any other I/O error: the handle is dropped, and never used again. The next commit reopens the file as after a
//!   crash, from what the disk really holds (the page cache is dropped: after a failed flush Linux believes the pages
//!   clean), and finds out whether the commit in doubt took effect.
//! - A file that does not open, or whose state fails its checksum, is renamed (quarantined), and the fallback takes
//!   its place, which [`RecoveryNote::FellBack`] reports with its epoch. Without a fallback the store refuses to
//!   open, and says how to go on.
//! - A damaged dead letter, or outbox chunk in its table, is reported and left out; it does not cost the state. A chunk in
//!   the head is a part of that.
//! - A newer format is refused, and left alone.
//!
//! Deliberately absent: a clock (times are arguments), `Durability::None`, repair of damaged bytes, more than one
//! writer.

mod backend;
mod ballast;
mod epoch;
mod error;
mod fallback;
mod files;
mod head;
mod ledger;
mod open;
mod record;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bytes::Bytes;
use compact_str::CompactString;

use crate::state::Packed;
pub use error::{RecoveryNote, StoreError};
pub use fallback::FallbackStats;
pub use files::free_bytes;
pub use open::Store;
/// What a simulated disk implements to stand in for the file.
pub use redb::StorageBackend;

/// How many files may be in quarantine. A disk that damages more is failing, and more copies would fill it.
pub const MAX_QUARANTINED: usize = 8;

/// How the store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// redb's page cache, which fills and stays resident; half of it at the most is for what a commit has yet to write.
    pub cache_bytes: usize,
    /// The size of the ballast; 0 for none.
    pub ballast_bytes: u64,
    /// All dead letters together, as stored. The oldest go first.
    pub dead_letters_limit_bytes: u64,
    /// How many dead letters. The oldest go first.
    pub dead_letters_limit_count: u64,
    /// The size of the fallback file; 0 for none.
    pub fallback_limit_bytes: u64,
    /// A fallback is due after this many committed bytes, and after four times its own size: it adds at most a
    /// quarter to what the flash has to bear. It waits as long again for a snapshot, after which it is shortest, and longer
    /// where it would have no room before.
    pub fallback_every_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 1 << 20,
            ballast_bytes: 4 << 20,
            dead_letters_limit_bytes: 4 << 20,
            dead_letters_limit_count: 10_000,
            fallback_limit_bytes: 16 << 20,
            fallback_every_bytes: 8 << 20,
        }
    }
}

/// What an epoch does to the operators' state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateWrite {
    /// Nothing.
    #[default]
    Unchanged,
    /// Appends one blob under the epoch's number.
    Delta(Vec<u8>),
    /// Replaces the base and drops all deltas. The chunks are given back as they are.
    Snapshot(Vec<Packed>),
}

/// Everything one epoch changed: one redb transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCommit {
    /// One more than the last committed epoch; the first is 1.
    pub epoch: u64,
    /// The operators' state.
    pub state: StateWrite,
    /// A small opaque blob (watermarks, counters, session generations), replaced by each epoch.
    pub meta: Vec<u8>,
    /// Chunks that are no longer needed. One that is not there is no error. Done before the appends.
    pub outbox_remove: Vec<(CompactString, u64)>,
    /// New chunks of derived events. One that is there already is [`StoreError::Misuse`].
    pub outbox_append: Vec<OutboxChunk>,
    /// New dead letters; the store numbers them.
    pub dead_append: Vec<DeadLetter>,
    /// Dead letters that were dealt with. One that is not there is no error.
    pub dead_remove: Vec<u64>,
}

/// Derived events of one connection, encoded by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxChunk {
    /// The connection that has to send them.
    pub connection: CompactString,
    /// The number of its first row.
    pub first_number: u64,
    /// How many rows.
    pub rows: u32,
    /// When it was appended, in microseconds since 1970.
    pub appended_at_micros: i64,
    /// The rows.
    pub bytes: Bytes,
}

/// An outbox chunk without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboxIndex {
    /// The connection that has to send them.
    pub connection: CompactString,
    /// The number of its first row.
    pub first_number: u64,
    /// How many rows.
    pub rows: u32,
    /// The length of the chunk.
    pub len_bytes: u64,
    /// When it was appended, in microseconds since 1970.
    pub appended_at_micros: i64,
}

/// An input that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why, as a stable word (`undecodable`, `late`).
    pub reason: String,
    /// The stream it was meant for; empty if none.
    pub stream: String,
    /// The topic it came on.
    pub topic: String,
    /// Its bytes as they came.
    pub payload: Vec<u8>,
    /// When it came, in microseconds since 1970.
    pub received_at_micros: i64,
    /// Why, as a sentence.
    pub detail: String,
    /// 0 or 1.
    pub qos: u8,
    /// Whether the broker sent it as a retained message.
    pub retain: bool,
    /// Whether all of it was rejected, so that sending it through again counts nothing twice.
    pub replayable: bool,
}

/// What the file held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last committed epoch; 0 if there is none.
    pub epoch: u64,
    /// The engine's blob of that epoch; `None` before the first.
    pub meta: Option<Vec<u8>>,
    /// The chunks of the last snapshot.
    pub base: Vec<Packed>,
    /// The deltas since, by epoch, oldest first.
    pub deltas: Vec<(u64, Vec<u8>)>,
    /// The chunks of the outbox, by connection and number.
    pub outbox: Vec<OutboxIndex>,
    /// What a person should hear of.
    pub notes: Vec<RecoveryNote>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// The length of the file.
    pub file_bytes: u64,
    /// What was handed to the disk for this commit, in blocks of 4 KiB, pages and headers included, and the fallback if it
    /// was due. What the filesystem writes for itself is not known here.
    pub written_bytes: u64,
    /// What the commit carried.
    pub payload_bytes: u64,
    /// The id of the first dead letter of this commit; the others follow.
    pub first_dead_letter_id: u64,
    /// Dead letters dropped because of the limits.
    pub dead_letters_dropped: u64,
    /// What the file holds now.
    pub totals: Totals,
}

/// Counts and sizes of what the file holds, packed, without pages and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Chunks of the base.
    pub base_chunks: u64,
    /// Their bytes.
    pub base_bytes: u64,
    /// Deltas since.
    pub deltas: u64,
    /// Their bytes: fold when they outgrow the base.
    pub delta_bytes: u64,
    /// Chunks in the outbox.
    pub outbox_chunks: u64,
    /// Their bytes.
    pub outbox_bytes: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
    /// All that was ever committed to this file.
    pub committed_bytes: u64,
}

/// Where things are in a state directory.
#[derive(Clone, Debug)]
struct Layout {
    dir: PathBuf,
}

impl Layout {
    fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    fn database(&self) -> PathBuf {
        self.dir.join("headwater.redb")
    }

    fn fallback(&self) -> PathBuf {
        self.dir.join("state.fallback")
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    fn quarantine(&self, number: usize) -> PathBuf {
        self.dir.join(format!("headwater.redb.corrupt-{number}"))
    }
}
