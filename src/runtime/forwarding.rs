//! What to send upstream next: from the outbox to a forward connection, at the pace the broker takes it.
//!
//! Oldest first is one cursor through the outbox. Live first is two: what was committed since the connection came up
//! goes before what waited then, so that people upstream see the present while the backlog drains behind it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use tracing::warn;

use super::committer::{Committer, Job};
use super::supervisor::Watch;
use crate::engine::{Outbox, OutboxRow, decode_rows};
use crate::mqtt::{Forward, ForwardRow};

/// Which rows go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Drain {
    /// In the order they were made.
    #[default]
    OldestFirst,
    /// New ones before those that waited while upstream was away.
    LiveFirst,
}

/// Chunks that were just committed are kept for sending up to this many bytes for each connection; beyond it they are
/// read from the store when their turn comes.
const RECENT_LIMIT_BYTES: usize = 256 * 1024;

/// The way of one connection's rows upstream.
pub(super) struct Forwarding {
    forward: Forward,
    connection: usize,
    name: CompactString,
    drain: Drain,
    /// Which network connection is up, if any.
    attempt: Option<u64>,
    max_packet_bytes: Option<u32>,
    /// The last chunk taken of those committed since `live_from`, or of all when draining oldest first.
    live: Option<u64>,
    /// The last chunk taken of the backlog.
    backlog: Option<u64>,
    /// The first chunk that is not backlog.
    live_from: u64,
    ready: VecDeque<(u64, OutboxRow)>,
    /// The chunk being read, if one is, and whether it is still wanted.
    reading: Option<(u64, bool)>,
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
    watch: Watch,
}

/// Rows that cannot be sent at all.
pub(super) struct TooLarge {
    pub(super) number: u64,
    pub(super) row: OutboxRow,
    pub(super) reason: String,
}

impl Forwarding {
    pub(super) fn new(
        forward: Forward,
        connection: usize,
        name: CompactString,
        drain: Drain,
    ) -> Self {
        Self {
            forward,
            connection,
            name,
            drain,
            attempt: None,
            max_packet_bytes: None,
            live: None,
            backlog: None,
            live_from: 0,
            ready: VecDeque::new(),
            reading: None,
            recent: VecDeque::new(),
            recent_bytes: 0,
            watch: Watch::default(),
        }
    }

    /// For how long the connection has done nothing, `None` if its task has ended; and for how long it may.
    pub(super) fn still_for(&mut self, now_micros: u64) -> (Option<Duration>, Duration) {
        let still = self.watch.of_task(self.forward.turns(), now_micros);
        (still, self.forward.longest_turn())
    }

    /// Whether the broker is reachable.
    pub(super) fn is_up(&self) -> bool {
        self.attempt.is_some()
    }

    /// The connection is up: begin with what waits.
    pub(super) fn up(&mut self, attempt: u64, max_packet_bytes: Option<u32>, outbox: &Outbox) {
        self.attempt = Some(attempt);
        self.max_packet_bytes = max_packet_bytes;
        self.ready.clear();
        self.live = None;
        self.backlog = None;
        if let Some((_, wanted)) = &mut self.reading {
            *wanted = false;
        }
        if self.drain == Drain::LiveFirst {
            self.live = outbox.chunk_before(None);
            self.live_from = self.live.map_or(0, |newest| newest + 1);
        }
    }

    /// The connection is gone.
    pub(super) fn down(&mut self) {
        self.attempt = None;
        self.ready.clear();
    }

    /// A chunk has been committed.
    pub(super) fn committed(&mut self, first_number: u64, bytes: Bytes) {
        self.recent_bytes += bytes.len();
        self.recent.push_back((first_number, bytes));
        while self.recent_bytes > RECENT_LIMIT_BYTES
            && let Some((_, dropped)) = self.recent.pop_front()
        {
            self.recent_bytes -= dropped.len();
        }
    }

    /// A chunk that was asked for has been read.
    pub(super) fn chunk_read(&mut self, first_number: u64, bytes: Option<&Bytes>) {
        let wanted = self.reading.take() == Some((first_number, true));
        if let (true, Some(bytes)) = (wanted, bytes) {
            self.load(first_number, bytes);
        }
    }

    fn load(&mut self, first_number: u64, bytes: &Bytes) {
        match decode_rows(bytes) {
            Ok(rows) => self.ready.extend((first_number..).zip(rows)),
            Err(error) => {
                warn!(connection = %self.name, first_number, %error, "a piece of the outbox cannot be decoded");
            }
        }
    }

    /// Hands over as many rows as the connection takes now.
    pub(super) fn pump(&mut self, outbox: &Outbox, committer: &Committer) -> Vec<TooLarge> {
        let mut too_large = Vec::new();
        let Some(attempt) = self.attempt else {
            return too_large;
        };
        while self.forward.room() > 0 {
            let Some((number, row)) = self.ready.pop_front() else {
                if self.next_chunk(outbox, committer) {
                    continue;
                }
                break;
            };
            if !outbox.is_waiting(number) {
                continue;
            }
            let size = row.topic.len() + row.payload.len() + 80;
            if let Some(limit) = self.max_packet_bytes.filter(|limit| size > *limit as usize) {
                let reason = format!("{size} bytes with headers; the broker takes {limit}");
                too_large.push(TooLarge {
                    number,
                    row,
                    reason,
                });
                continue;
            }
            if let Err(back) = self.forward.hand_over(ForwardRow {
                attempt,
                number,
                row,
            }) {
                self.ready.push_front((back.number, back.row));
                break;
            }
        }
        too_large
    }

    /// Gets the next chunk ready; false if there is none yet.
    fn next_chunk(&mut self, outbox: &Outbox, committer: &Committer) -> bool {
        if self.reading.is_some() {
            return false;
        }
        let first_number = if let Some(next) = outbox.chunk_after(self.live) {
            self.live = Some(next);
            next
        } else if self.drain == Drain::LiveFirst
            && let Some(next) = outbox
                .chunk_after(self.backlog)
                .filter(|n| *n < self.live_from)
        {
            self.backlog = Some(next);
            next
        } else {
            return false;
        };
        if let Some(at) = self
            .recent
            .iter()
            .position(|(number, _)| *number == first_number)
            && let Some((_, bytes)) = self.recent.remove(at)
        {
            self.recent_bytes -= bytes.len();
            self.load(first_number, &bytes);
            return true;
        }
        self.reading = Some((first_number, true));
        let (connection, name) = (self.connection, self.name.clone());
        committer.send(Job::ReadOutbox {
            connection,
            name,
            first_number,
        });
        false
    }

    pub(super) async fn stop(self, patience: std::time::Duration) {
        self.forward.stop(patience).await;
    }
}
