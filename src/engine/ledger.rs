//! Which delivery of a broker is a repetition of one that has already changed state.
//!
//! A publish of QoS 1 that was processed stays in the ledger, with its packet id and a hash of its topic and payload,
//! for as long as the broker may not have got its PUBACK. After a crash or a cut connection the broker sends such a
//! publish again, marked DUP; only if DUP, session, packet id and hash all agree is it a [`Verdict::Duplicate`].
//!
//! Invariants:
//! - The ledger is part of the epoch: a publish is in the durable ledger exactly if its effects are durable.
//! - The broker has at most its in-flight window of publishes without PUBACK, and receives our PUBACKs in order.
//!   So only the newest `capacity` publishes (a few windows) can be in doubt; older ones leave the ledger.
//! - A packet id means nothing by itself. Brokers that count ids up (mosquitto) do not use one again while it is in
//!   doubt; with those that hand out the lowest free id, a DUP may be the first copy to arrive of *another* message
//!   with the same bytes. Once a broker was seen to use an id again within the ledger, a match proves nothing any
//!   more: the message is processed, and counted as [`Verdict::PossibleDuplicate`]. A duplicate beats a loss.
//! - A lost session empties the ledger: the broker has forgotten its ids.

use std::collections::VecDeque;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

use crate::state::{Decoder, Encoder, StateError};
use crate::types::Fingerprint;

/// What a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before: process it.
    New,
    /// It has changed state before: acknowledge it again, do nothing else.
    Duplicate,
    /// It may have changed state before, and nothing can tell: process it, and count it.
    PossibleDuplicate,
}

/// The deliveries of one connection that are in doubt.
#[derive(Debug)]
pub struct Ledger {
    entries: HashMap<u16, Entry, foldhash::fast::FixedState>,
    /// Packet ids with the number of their entry, oldest first; a pair whose number is not the entry's is stale.
    order: VecDeque<(u16, u64)>,
    capacity: usize,
    next_number: u64,
    session: u64,
    /// Counts network connections of this process; entries read from the store belong to connection 0.
    connection: u64,
    reuses_ids: bool,
    /// What the next seal has to write.
    unsealed: Vec<(u16, u64)>,
    session_changed: bool,
    /// Whether the next seal has to write all that is left, because entries were withdrawn.
    rewrite: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    number: u64,
    connection: u64,
}

/// The hash of what is published; 64 bits, the same in every version.
pub fn publish_hash(topic: &str, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(topic.len() as u64).to_le_bytes());
    hash.update(topic.as_bytes());
    hash.update(payload);
    hash.digest()
}

impl Ledger {
    /// A ledger for a connection that advertises `receive_maximum`. Three windows and some: brokers were seen to
    /// send twice what was advertised.
    pub fn new(receive_maximum: u16) -> Self {
        Self {
            entries: HashMap::default(),
            order: VecDeque::new(),
            // Below half of all ids, so that counting up does not come round within the ledger.
            capacity: (3 * usize::from(receive_maximum) + 64).min(30_000),
            next_number: 0,
            session: 0,
            connection: 0,
            reuses_ids: false,
            unsealed: Vec::new(),
            session_changed: false,
            rewrite: false,
        }
    }

    /// A connection is up. Returns whether a session that was known to exist is gone.
    pub fn connected(&mut self, session_present: bool) -> bool {
        self.connection += 1;
        if session_present {
            return false;
        }
        let lost = self.session > 0;
        self.session += 1;
        self.session_changed = true;
        self.clear();
        lost
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.unsealed.clear();
        self.reuses_ids = false;
    }

    /// Whether this broker was seen to use packet ids again at once, so that redeliveries cannot be told apart.
    pub const fn reuses_ids(&self) -> bool {
        self.reuses_ids
    }

    /// Judges a QoS 1 delivery, and notes it as processed unless it is a duplicate.
    pub fn judge(&mut self, dup: bool, packet_id: u16, hash: u64) -> Verdict {
        let known = self.entries.get(&packet_id).copied();
        let verdict = match known {
            // The one place where the test-only fault lies; see `Cargo.toml`.
            Some(_) if cfg!(feature = "fault-injection") => Verdict::New,
            Some(entry) if dup && entry.hash == hash => {
                if self.reuses_ids {
                    Verdict::PossibleDuplicate
                } else {
                    return Verdict::Duplicate;
                }
            }
            Some(entry) => {
                if entry.connection == self.connection {
                    self.reuses_ids = true;
                } else {
                    // The broker counts from an older number than it had: it came back from a backup of its
                    // sessions, or it numbers each connection anew. What it was sent before says nothing now.
                    let connection = self.connection;
                    self.entries
                        .retain(|_, entry| entry.connection == connection);
                }
                Verdict::New
            }
            None => Verdict::New,
        };
        self.note(packet_id, hash);
        self.unsealed.push((packet_id, hash));
        verdict
    }

    fn note(&mut self, packet_id: u16, hash: u64) {
        let number = self.next_number;
        self.next_number += 1;
        self.entries.insert(
            packet_id,
            Entry {
                hash,
                number,
                connection: self.connection,
            },
        );
        self.order.push_back((packet_id, number));
        while self.order.len() > self.capacity {
            if let Some((id, number)) = self.order.pop_front()
                && self
                    .entries
                    .get(&id)
                    .is_some_and(|entry| entry.number == number)
            {
                self.entries.remove(&id);
            }
        }
    }

    /// Writes what has changed since the last seal; false if nothing has.
    pub fn seal(&mut self, out: &mut Encoder) -> bool {
        if self.unsealed.is_empty() && !self.session_changed && !self.rewrite {
            return false;
        }
        if std::mem::take(&mut self.rewrite) {
            self.unsealed.clear();
            self.session_changed = false;
            self.snapshot(out);
            return true;
        }
        out.u64(self.session);
        out.bool(self.session_changed);
        out.bool(self.reuses_ids);
        self.session_changed = false;
        // More than the ledger holds need not be written.
        let surplus = self.unsealed.len().saturating_sub(self.capacity);
        write_entries(self.unsealed.drain(..).skip(surplus), out);
        true
    }

    /// Writes the whole ledger.
    pub fn snapshot(&self, out: &mut Encoder) {
        out.u64(self.session);
        out.bool(true);
        out.bool(self.reuses_ids);
        let live = self.order.iter().filter_map(|(id, number)| {
            let entry = self
                .entries
                .get(id)
                .filter(|entry| entry.number == *number)?;
            Some((*id, entry.hash))
        });
        write_entries(live, out);
    }

    /// Applies what `seal` or `snapshot` wrote, in order.
    pub fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        self.session = from.u64()?;
        if from.bool()? {
            self.clear();
        }
        self.reuses_ids = from.bool()?;
        while from.bool()? {
            let packet_id = from.u64()? as u16;
            let hash = from.fingerprint()?.0;
            self.note(packet_id, hash);
        }
        Ok(())
    }
}

fn write_entries(entries: impl Iterator<Item = (u16, u64)>, out: &mut Encoder) {
    for (packet_id, hash) in entries {
        out.bool(true);
        out.u64(u64::from(packet_id));
        out.fingerprint(Fingerprint(hash));
    }
    out.bool(false);
}

#[cfg(all(test, not(feature = "fault-injection")))]
mod tests {
    use super::*;

    fn connected() -> Ledger {
        let mut ledger = Ledger::new(10);
        assert!(!ledger.connected(false));
        ledger
    }

    fn reopened(ledger: &mut Ledger, whole: bool) -> Ledger {
        let mut out = Encoder::new();
        if whole {
            ledger.snapshot(&mut out);
        } else {
            ledger.seal(&mut out);
        }
        let mut restored = Ledger::new(10);
        restored.restore(&mut Decoder::new(out.as_slice())).unwrap();
        restored
    }

    #[test]
    fn a_redelivery_after_a_crash_is_a_duplicate_only_if_all_agrees() {
        for whole in [false, true] {
            let mut before = connected();
            assert_eq!(before.judge(false, 1, 100), Verdict::New);
            let mut after = reopened(&mut before, whole);
            assert!(!after.connected(true));
            assert_eq!(after.judge(true, 1, 100), Verdict::Duplicate);
            assert_eq!(
                after.judge(true, 1, 100),
                Verdict::Duplicate,
                "again, after another cut"
            );
            assert_eq!(after.judge(true, 2, 100), Verdict::New, "never committed");
            assert_eq!(after.judge(true, 1, 101), Verdict::New, "other bytes");
            assert_eq!(
                after.judge(false, 1, 101),
                Verdict::New,
                "not marked as repeated"
            );
        }
    }

    #[test]
    fn a_lost_session_empties_the_ledger() {
        let mut ledger = connected();
        ledger.judge(false, 1, 100);
        assert!(ledger.connected(false), "a known session is lost");
        assert_eq!(ledger.judge(true, 1, 100), Verdict::New);
        let mut after = reopened(&mut ledger, false);
        after.connected(true);
        assert_eq!(after.judge(true, 1, 100), Verdict::Duplicate);
    }

    #[test]
    fn ids_that_are_used_again_at_once_prove_nothing() {
        let mut ledger = connected();
        ledger.judge(false, 1, 100);
        ledger.judge(false, 1, 100);
        assert!(ledger.reuses_ids());
        ledger.connected(true);
        assert_eq!(ledger.judge(true, 1, 100), Verdict::PossibleDuplicate);
    }

    #[test]
    fn a_broker_that_rolled_back_is_not_mistaken_for_one_that_reuses_ids() {
        let mut ledger = connected();
        for id in 1..=5 {
            ledger.judge(false, id, 100);
        }
        ledger.connected(true);
        assert_eq!(
            ledger.judge(false, 3, 100),
            Verdict::New,
            "counts from an older number"
        );
        assert!(!ledger.reuses_ids());
        assert_eq!(
            ledger.judge(true, 4, 100),
            Verdict::New,
            "a new message, its first copy lost"
        );
    }

    #[test]
    fn old_entries_leave() {
        let mut ledger = connected();
        for id in 1..=1_000 {
            ledger.judge(false, id, 7);
        }
        assert_eq!(ledger.entries.len(), 94);
        ledger.connected(true);
        assert_eq!(ledger.judge(true, 906, 7), Verdict::New);
        assert_eq!(ledger.judge(true, 908, 7), Verdict::Duplicate);
    }
}
