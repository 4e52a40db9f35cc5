//! The book of the outbox: derived events that are committed, or about to be, and not yet acknowledged upstream.
//!
//! Rows are kept in chunks of some kilobytes, each numbered by its first row; a chunk is removed when upstream has
//! acknowledged all of its rows, in whatever order. The bytes lie in the store; here is the index and the decisions.
//!
//! Bound: `limit_bytes` and `max_age` for each connection, with a policy at the bound:
//! - [`Policy::Block`]: input is no longer taken until there is room ([`Outbox::has_room`]). One input event may
//!   close windows of many keys, so the bound may be passed by the rows of one event.
//! - [`Policy::DropOldest`]: the oldest chunks go, counted.
//! - [`Policy::DropNewest`]: what does not fit is not appended, counted.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::state::{Decoder, Encoder, StateError};
use crate::types::Lineage;

/// What happens at the bound of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// Stop taking input until there is room.
    #[default]
    Block,
    /// Drop the oldest rows.
    DropOldest,
    /// Drop the rows that do not fit.
    DropNewest,
}

/// The bounds of one connection's outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of rows.
    pub limit_bytes: u64,
    /// Age of a row after which it is dropped, in microseconds.
    pub max_age_micros: Option<u64>,
    /// What happens at `limit_bytes`.
    pub policy: Policy,
}

/// A derived event on its way to a broker. What was read from a chunk shares its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// The event's id.
    pub id: Lineage,
}

impl OutboxRow {
    /// The same, to be appended.
    pub(super) fn as_new(&self) -> NewRow<'_> {
        NewRow {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            id: self.id,
        }
    }
}

/// A derived event that is appended.
#[derive(Clone, Copy, Debug)]
pub struct NewRow<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// 0 or 1.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// The event's id.
    pub id: Lineage,
}

/// A piece of the outbox as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The number of its first row.
    pub first_number: u64,
    /// How many rows.
    pub rows: u32,
    /// The rows, as [`decode_rows`] reads them. The store and the connection that sends them share them.
    pub bytes: Bytes,
    /// Processing time of the append, microseconds since 1970.
    pub appended_at_micros: i64,
}

/// A chunk is closed when it reaches this many bytes,
const CHUNK_BYTES: usize = 16 * 1024;
/// or this many rows: what is sent again after a crash, at the most, because one row was in flight. Two chunks of so many short
/// rows, packed, share a page of the store.
const CHUNK_ROWS: u32 = 48;

/// What is known of one chunk.
#[derive(Clone, Debug)]
struct Entry {
    rows: u32,
    bytes: u64,
    appended_at_micros: i64,
    /// One bit for each row that upstream has acknowledged.
    acknowledged: u64,
}

/// The outbox of one connection.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    chunks: BTreeMap<u64, Entry>,
    bytes: u64,
    rows: u64,
    next_number: u64,
    /// Rows below this number have been handed to a commit,
    sealed_until: u64,
    /// and below this one are in the store, and may be sent.
    durable_until: u64,
    open: Encoder,
    open_rows: u32,
    appended: Vec<Chunk>,
    removed: Vec<u64>,
    /// Rows dropped at the bound, and for their age.
    dropped: u64,
    expired: u64,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            chunks: BTreeMap::new(),
            bytes: 0,
            rows: 0,
            next_number: 0,
            sealed_until: 0,
            durable_until: 0,
            open: Encoder::new(),
            open_rows: 0,
            appended: Vec::new(),
            removed: Vec::new(),
            dropped: 0,
            expired: 0,
        }
    }

    /// Takes over a chunk that the store holds.
    pub fn restore(&mut self, first_number: u64, rows: u32, bytes: u64, appended_at_micros: i64) {
        self.insert(first_number, rows, bytes, appended_at_micros);
        self.sealed_until = self.next_number;
        self.durable_until = self.next_number;
    }

    fn insert(&mut self, first_number: u64, rows: u32, bytes: u64, appended_at_micros: i64) {
        let entry = Entry {
            rows,
            bytes,
            appended_at_micros,
            acknowledged: 0,
        };
        self.chunks.insert(first_number, entry);
        self.bytes += bytes;
        self.rows += u64::from(rows);
        self.next_number = self.next_number.max(first_number + u64::from(rows));
    }

    /// The number the next row gets.
    pub const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Numbers go on from `number` at least: they never repeat, also when the outbox was empty at the restart.
    pub fn resume_at(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Bytes of rows that wait, the open chunk included.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.open.len() as u64
    }

    /// Bytes of rows that belong to the epoch that runs.
    pub fn unsealed_bytes(&self) -> u64 {
        let closed: usize = self.appended.iter().map(|chunk| chunk.bytes.len()).sum();
        (self.open.len() + closed) as u64
    }

    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.rows + u64::from(self.open_rows)
    }

    /// When the oldest row was appended, microseconds since 1970.
    pub fn oldest_micros(&self) -> Option<i64> {
        self.chunks
            .values()
            .next()
            .map(|entry| entry.appended_at_micros)
    }

    /// Rows dropped so far at the bound and for their age.
    pub const fn dropped(&self) -> (u64, u64) {
        (self.dropped, self.expired)
    }

    /// Whether the oldest rows have passed the age at which they are dropped.
    pub fn has_expired(&self, now_micros: i64) -> bool {
        let limit = self
            .limits
            .max_age_micros
            .map(|age| now_micros.saturating_sub_unsigned(age));
        limit
            .zip(self.oldest_micros())
            .is_some_and(|(limit, oldest)| oldest < limit)
    }

    /// Whether input may be taken.
    pub fn has_room(&self) -> bool {
        self.limits.policy != Policy::Block || self.bytes() < self.limits.limit_bytes
    }

    /// Appends a row to the epoch, unless it is dropped by the policy.
    pub fn append(&mut self, row: NewRow<'_>, now_micros: i64) {
        let size = (row.topic.len() + row.payload.len() + 24) as u64;
        if self.limits.policy == Policy::DropNewest && self.bytes() + size > self.limits.limit_bytes
        {
            self.dropped += 1;
            return;
        }
        encode_row(row, &mut self.open);
        self.open_rows += 1;
        if self.open_rows == CHUNK_ROWS || self.open.len() >= CHUNK_BYTES {
            self.close_chunk(now_micros);
        }
    }

    fn close_chunk(&mut self, now_micros: i64) {
        if self.open_rows == 0 {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.open).into_bytes());
        let (first_number, rows) = (self.next_number, self.open_rows);
        self.open_rows = 0;
        self.insert(first_number, rows, bytes.len() as u64, now_micros);
        self.appended.push(Chunk {
            first_number,
            rows,
            bytes,
            appended_at_micros: now_micros,
        });
    }

    /// Notes that upstream has row `number`. Returns whether it was waited for.
    pub fn acknowledge(&mut self, number: u64) -> bool {
        let Some((&first, entry)) = self.chunks.range_mut(..=number).next_back() else {
            return false;
        };
        let index = number - first;
        if index >= u64::from(entry.rows) || entry.acknowledged & 1 << index != 0 {
            return false;
        }
        entry.acknowledged |= 1 << index;
        if entry.acknowledged.count_ones() == entry.rows {
            self.remove(first);
        }
        true
    }

    /// Takes out a chunk that cannot be read; gives how many of its rows upstream does not have.
    pub fn forget(&mut self, first_number: u64) -> Option<u64> {
        self.chunks
            .contains_key(&first_number)
            .then(|| self.remove(first_number))
    }

    fn remove(&mut self, first: u64) -> u64 {
        let Some(entry) = self.chunks.remove(&first) else {
            return 0;
        };
        self.bytes -= entry.bytes;
        self.rows -= u64::from(entry.rows);
        if let Some(at) = self
            .appended
            .iter()
            .position(|chunk| chunk.first_number == first)
        {
            // Never reached the store.
            self.appended.remove(at);
        } else {
            self.removed.push(first);
        }
        u64::from(entry.rows) - u64::from(entry.acknowledged.count_ones())
    }

    /// Whether there is something to commit.
    pub fn has_changes(&self) -> bool {
        self.open_rows > 0 || !self.appended.is_empty() || !self.removed.is_empty()
    }

    /// What the epoch appends and removes. Applies the bounds first.
    pub fn seal(&mut self, now_micros: i64) -> (Vec<Chunk>, Vec<u64>) {
        self.close_chunk(now_micros);
        if let Some(max_age) = self.limits.max_age_micros {
            let oldest = now_micros.saturating_sub_unsigned(max_age);
            while let Some((&first, entry)) = self.chunks.first_key_value()
                && entry.appended_at_micros < oldest
            {
                self.expired += self.remove(first);
            }
        }
        if self.limits.policy == Policy::DropOldest {
            while self.bytes > self.limits.limit_bytes
                && let Some((&first, _)) = self.chunks.first_key_value()
            {
                self.dropped += self.remove(first);
            }
        }
        self.sealed_until = self.next_number;
        (
            std::mem::take(&mut self.appended),
            std::mem::take(&mut self.removed),
        )
    }

    /// The epoch sealed last is in the store: its rows may be sent.
    pub const fn committed(&mut self) {
        self.durable_until = self.sealed_until;
    }

    /// The chunk to send after the one at `after` (from the start if `None`), oldest first.
    pub fn chunk_after(&self, after: Option<u64>) -> Option<u64> {
        let start = after.map_or(0, |number| number + 1);
        self.chunks
            .range(start..)
            .next()
            .map(|(first, _)| *first)
            .filter(|n| *n < self.durable_until)
    }

    /// The chunk to send before the one at `before` (from the end if `None`), newest first.
    pub fn chunk_before(&self, before: Option<u64>) -> Option<u64> {
        let end = before.unwrap_or(u64::MAX).min(self.durable_until);
        self.chunks
            .range(..end)
            .next_back()
            .map(|(first, _)| *first)
    }

    /// Whether row `number` still waits for upstream's acknowledgement.
    pub fn is_waiting(&self, number: u64) -> bool {
        self.chunks
            .range(..=number)
            .next_back()
            .is_some_and(|(first, entry)| {
                let index = number - first;
                index < u64::from(entry.rows) && entry.acknowledged & 1 << index == 0
            })
    }
}

fn encode_row(row: NewRow<'_>, out: &mut Encoder) {
    out.u8(row.qos | u8::from(row.retain) << 1);
    out.str(row.topic);
    out.bytes(row.payload);
    out.lineage(row.id);
}

/// The rows of a chunk, in order.
pub fn decode_rows(chunk: &Bytes) -> Result<Vec<OutboxRow>, StateError> {
    let mut from = Decoder::new(chunk);
    let mut rows = Vec::new();
    while !from.is_empty() {
        let flags = from.u8()?;
        rows.push(OutboxRow {
            topic: from.str()?.to_owned(),
            payload: chunk.slice_ref(from.bytes()?),
            qos: flags & 1,
            retain: flags & 2 != 0,
            id: from.lineage()?,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> OutboxRow {
        let topic = format!("t/{n}");
        OutboxRow {
            topic,
            payload: vec![7; 100].into(),
            qos: 1,
            retain: n.is_multiple_of(2),
            id: Lineage(n.into()),
        }
    }

    fn append(outbox: &mut Outbox, n: u64, now_micros: i64) {
        outbox.append(row(n).as_new(), now_micros);
    }

    fn outbox(policy: Policy, limit_bytes: u64) -> Outbox {
        Outbox::new(OutboxLimits {
            limit_bytes,
            max_age_micros: Some(1_000),
            policy,
        })
    }

    #[test]
    fn rows_leave_by_whole_chunks_in_any_order_of_acknowledgement() {
        let mut outbox = outbox(Policy::Block, 1 << 20);
        let chunk = u64::from(CHUNK_ROWS);
        let rows = chunk + 36;
        (0..rows).for_each(|n| append(&mut outbox, n, 0));
        let (appended, removed) = outbox.seal(0);
        assert_eq!((appended.len(), removed.len(), outbox.rows()), (2, 0, rows));
        let decoded: Vec<_> = appended
            .iter()
            .flat_map(|c| decode_rows(&c.bytes).unwrap())
            .collect();
        assert_eq!(decoded, (0..rows).map(row).collect::<Vec<_>>());
        for number in (0..chunk).rev() {
            assert!(outbox.acknowledge(number));
            assert!(!outbox.acknowledge(number), "counted once");
        }
        assert_eq!(outbox.seal(0), (vec![], vec![0]));
        assert_eq!(outbox.rows(), 36);
        assert!(
            outbox.is_waiting(chunk) && !outbox.is_waiting(chunk - 1) && !outbox.is_waiting(rows)
        );
    }

    #[test]
    fn block_says_when_there_is_no_room() {
        let mut outbox = outbox(Policy::Block, 1_000);
        (0..9).for_each(|n| append(&mut outbox, n, 0));
        assert!(!outbox.has_room());
        outbox.seal(0);
        (0..9).for_each(|n| assert!(outbox.acknowledge(n)));
        assert!(outbox.has_room());
    }

    #[test]
    fn drop_policies_count_what_they_drop() {
        let mut newest = outbox(Policy::DropNewest, 1_000);
        (0..20).for_each(|n| append(&mut newest, n, 0));
        newest.seal(0);
        assert_eq!(newest.rows() + newest.dropped().0, 20);
        assert!(newest.bytes() <= 1_000 && newest.is_waiting(0));

        let mut oldest = outbox(Policy::DropOldest, 20_000);
        for epoch in 0..10 {
            (0..64).for_each(|n| append(&mut oldest, epoch * 64 + n, 0));
            oldest.seal(0);
        }
        assert_eq!(oldest.rows() + oldest.dropped().0, 640);
        assert!(oldest.bytes() <= 20_000 && oldest.is_waiting(639) && !oldest.is_waiting(0));
    }

    #[test]
    fn old_rows_expire() {
        let mut outbox = outbox(Policy::Block, 1 << 20);
        append(&mut outbox, 0, 0);
        outbox.seal(0);
        append(&mut outbox, 1, 5_000);
        let (appended, removed) = outbox.seal(5_000);
        assert_eq!(
            (appended.len(), removed, outbox.dropped()),
            (1, vec![0], (0, 1))
        );
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let mut outbox = outbox(Policy::Block, 1 << 20);
        outbox.restore(64, 10, 500, 0);
        outbox.resume_at(200);
        append(&mut outbox, 0, 0);
        assert_eq!(outbox.seal(0).0[0].first_number, 200);
        assert_eq!(outbox.chunk_after(Some(64)), None, "not in the store yet");
        outbox.committed();
        assert_eq!(outbox.chunk_after(Some(64)), Some(200));
        assert_eq!(outbox.chunk_before(None), Some(200));
        assert_eq!(outbox.chunk_before(Some(64)), None);
    }
}
