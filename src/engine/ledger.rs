//! Which delivery of a broker is a repetition of one that has already changed state.
//!
//! A publish of QoS 1 that was processed stays in the ledger, with its packet id and a hash of its topic and payload,
//! for as long as the broker may not have got its PUBACK. After a crash or a cut connection the broker sends such a
//! publish again, marked DUP; only if DUP, session, packet id and hash all agree is it a [`Verdict::Duplicate`].
//!
//! Invariants:
//! - The ledger is part of the epoch: a publish is in the durable ledger exactly if its effects are durable.
//! - The newest [`MEMORY`] publishes are remembered. Receive Maximum would allow for far fewer, but it bounds nothing:
//!   mosquitto 2.0 answers each PUBACK with a whole window of publishes while it has a backlog, and comes to read the
//!   other PUBACKs afterwards. Ten thousand publishes in doubt at once are an ordinary restart after an hour's outage.
//! - A packet id means nothing by itself. Brokers that count ids up (mosquitto) do not use one again while it is in
//!   doubt; with those that hand out the lowest free id, a DUP may be the first copy to arrive of *another* message
//!   with the same bytes. Once a broker was seen to use an id again within a few windows, a match proves nothing any
//!   more: the message is processed, and counted as [`Verdict::PossibleDuplicate`]. A duplicate beats a loss. Where
//!   an id comes again later than that, half that distance is remembered.
//! - A lost session empties the ledger: the broker has forgotten its ids.
//!
//! Of a hash 32 bits are kept: they are half of what a quiet minute writes. Another message under an id in doubt, marked as
//! sent before, is taken for the one that was there in one of 4 × 10^9 cases, and few brokers ever make such a case.
//!
//! Bound: 8 bytes for each publish that is remembered and 2 for each packet id, 384 KiB, in pages that are made when they
//! are first used.

use xxhash_rust::xxh3::Xxh3;

use crate::state::{Decoder, Encoder, StateError};

/// How many publishes are remembered: half of the packet ids. An id that is counted up comes again only when the
/// other half has passed, so that what is found under it is the same publish.
const MEMORY: u64 = 32_768;
/// Values in one page of a table.
const PAGE: usize = 256;
/// What is kept of a hash.
const HASH_BYTES: usize = 4;

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
    /// The newest publishes: each at its number modulo [`MEMORY`].
    publishes: Paged<Publish>,
    /// By packet id, the place among them of what was last published under it.
    places: Paged<u16>,
    /// What was noted before this number is forgotten.
    forgotten: u64,
    /// How far back is remembered.
    memory: u64,
    /// An id that is used again within so many publishes was free at once.
    close: u64,
    /// Numbers begin with 1.
    next_number: u64,
    /// The first number of the network connection that is up.
    connection_began: u64,
    session: u64,
    reuses_ids: bool,
    /// The first number that the next seal has to write.
    unsealed: u64,
    session_changed: bool,
    /// Whether the next seal has to write all that is left, because entries were withdrawn.
    rewrite: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Publish {
    hash: Hash,
    /// Whether it came on the network connection that is up, which it may have done again.
    here: bool,
    packet_id: u16,
}

/// The start of a [`publish_hash`].
type Hash = [u8; HASH_BYTES];

/// A table whose pages are made when they are first written to; before, there are defaults in them.
#[derive(Debug)]
struct Paged<T>(Vec<Option<Box<[T; PAGE]>>>);

impl<T: Copy + Default> Paged<T> {
    fn new(len: usize) -> Self {
        Self(std::iter::repeat_with(|| None).take(len / PAGE).collect())
    }

    fn get(&self, at: usize) -> T {
        let page = self.0[at / PAGE].as_ref();
        page.map_or_else(T::default, |page| page[at % PAGE])
    }

    fn get_mut(&mut self, at: usize) -> &mut T {
        let page = self.0[at / PAGE].get_or_insert_with(|| Box::new([T::default(); PAGE]));
        &mut page[at % PAGE]
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten().flat_map(|page| page.iter_mut())
    }
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
    /// A ledger for a connection that advertises `receive_maximum`.
    pub fn new(receive_maximum: u16) -> Self {
        Self {
            publishes: Paged::new(MEMORY as usize),
            places: Paged::new(usize::from(u16::MAX) + 1),
            forgotten: 1,
            memory: MEMORY,
            // Three windows and some: a broker that counts up has more ids than that.
            close: 3 * u64::from(receive_maximum) + 64,
            next_number: 1,
            connection_began: 1,
            session: 0,
            reuses_ids: false,
            unsealed: 1,
            session_changed: false,
            rewrite: false,
        }
    }

    /// A connection is up. Returns whether a session that was known to exist is gone.
    pub fn connected(&mut self, session_present: bool) -> bool {
        self.connection_began = self.next_number;
        for publish in self.publishes.iter_mut() {
            publish.here = false;
        }
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
        self.forgotten = self.next_number;
        self.memory = MEMORY;
        self.unsealed = self.next_number;
        self.reuses_ids = false;
    }

    /// Whether this broker was seen to use packet ids again at once, so that redeliveries cannot be told apart.
    pub const fn reuses_ids(&self) -> bool {
        self.reuses_ids
    }

    /// Judges a QoS 1 delivery of that [`publish_hash`], and notes it as processed unless it was.
    pub fn judge(&mut self, dup: bool, packet_id: u16, hash: u64) -> Verdict {
        let hash = start_of(hash);
        let verdict = match self.known(packet_id) {
            // The one place where the test-only fault lies; see `Cargo.toml`.
            Some(_) if cfg!(feature = "fault-injection") => Verdict::New,
            Some((number, before)) if dup && before.hash == hash => {
                if !self.reuses_ids {
                    // Its place stays: what is remembered is counted in publishes, and this is one that was counted.
                    // A backlog that is sent again at each of many reconnects must not push out what it has in it.
                    self.publishes.get_mut(place(number)).here = true;
                    return Verdict::Duplicate;
                }
                Verdict::PossibleDuplicate
            }
            Some((number, before)) => {
                self.used_again(number, before);
                Verdict::New
            }
            None => Verdict::New,
        };
        self.note(packet_id, hash);
        verdict
    }

    /// Learns from an id that stands for another publish than the one `before`, of that number.
    fn used_again(&mut self, number: u64, before: Publish) {
        if !before.here {
            // The broker counts from an older number than it had: it came back from a backup of its sessions, or it
            // numbers each connection anew. What it was sent before says nothing now.
            self.forgotten = self.forgotten.max(self.connection_began);
            self.rewrite = true;
            return;
        }
        let distance = self.next_number - number;
        if distance <= self.close {
            self.reuses_ids = true;
        } else {
            self.memory = self.memory.min(distance / 2).max(self.close);
        }
    }

    /// What was last published under `packet_id`, and its number, if that is remembered.
    fn known(&self, packet_id: u16) -> Option<(u64, Publish)> {
        let at = self.places.get(usize::from(packet_id));
        let publish = self.publishes.get(usize::from(at));
        let newest = self.next_number - 1;
        let age = newest.wrapping_sub(u64::from(at)) % MEMORY;
        let number = newest.checked_sub(age)?;
        (publish.packet_id == packet_id && number >= self.oldest()).then_some((number, publish))
    }

    /// The number of the oldest publish that is remembered.
    fn oldest(&self) -> u64 {
        self.next_number
            .saturating_sub(self.memory)
            .max(self.forgotten)
    }

    fn note(&mut self, packet_id: u16, hash: Hash) {
        let at = place(self.next_number);
        self.next_number += 1;
        *self.publishes.get_mut(at) = Publish {
            hash,
            here: true,
            packet_id,
        };
        *self.places.get_mut(usize::from(packet_id)) = at as u16;
    }

    /// Writes what has changed since the last seal; false if nothing has.
    pub fn seal(&mut self, out: &mut Encoder) -> bool {
        if self.unsealed == self.next_number && !self.session_changed && !self.rewrite {
            return false;
        }
        if std::mem::take(&mut self.rewrite) {
            self.snapshot(out);
        } else {
            out.u64(self.session);
            out.bool(self.session_changed);
            out.bool(self.reuses_ids);
            out.u64(self.memory);
            self.write_since(self.unsealed, out);
        }
        self.session_changed = false;
        self.unsealed = self.next_number;
        true
    }

    /// Writes the whole ledger.
    pub fn snapshot(&self, out: &mut Encoder) {
        out.u64(self.session);
        out.bool(true);
        out.bool(self.reuses_ids);
        out.u64(self.memory);
        self.write_since(self.oldest(), out);
    }

    /// Writes how many publishes there were since a number, of those that there is memory for; their ids, and then their
    /// hashes. Of an id the gap to the one before is written: most brokers count up, and a row of zeros packs to nothing.
    fn write_since(&self, number: u64, out: &mut Encoder) {
        let oldest = number.max(self.next_number.saturating_sub(MEMORY));
        let publishes = (oldest..self.next_number).map(|number| self.publishes.get(place(number)));
        out.u64(self.next_number - oldest);
        let mut before: u16 = 0;
        for Publish { packet_id, .. } in publishes.clone() {
            let gap = packet_id.wrapping_sub(before).wrapping_sub(1);
            out.i64(i64::from(gap.cast_signed()));
            before = packet_id;
        }
        for Publish { hash, .. } in publishes {
            out.raw(hash);
        }
    }

    /// Applies what `seal` or `snapshot` wrote, in order.
    pub fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        self.session = from.u64()?;
        if from.bool()? {
            self.clear();
        }
        self.reuses_ids = from.bool()?;
        self.memory = from.u64()?.min(MEMORY);
        let mut ids = Vec::new();
        for _ in 0..from.count("publishes")? {
            let before: u16 = ids.last().copied().unwrap_or_default();
            let gap = from.i64()? as u16;
            ids.push(before.wrapping_add(1).wrapping_add(gap));
        }
        for packet_id in ids {
            let hash = from.raw("a publish's hash")?;
            self.note(packet_id, hash);
        }
        self.unsealed = self.next_number;
        Ok(())
    }
}

/// Where the publish of a number is.
const fn place(number: u64) -> usize {
    (number % MEMORY) as usize
}

fn start_of(hash: u64) -> Hash {
    let mut start = Hash::default();
    start.copy_from_slice(&hash.to_le_bytes()[..HASH_BYTES]);
    start
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
        restored
            .restore(&mut Decoder::new(out.as_slice()))
            .expect("what was written can be read");
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
    fn each_of_the_bits_that_are_kept_tells_publishes_apart() {
        for bit in 0..32 {
            let mut before = connected();
            before.judge(false, 1, 7);
            let mut after = reopened(&mut before, false);
            after.connected(true);
            assert_eq!(after.judge(true, 1, 7 ^ 1 << bit), Verdict::New, "{bit}");
        }
    }

    #[test]
    fn ids_come_back_in_whatever_order_they_are() {
        let ids = [5, 6, 7, 65_534, 65_535, 1, 2, 40_000, 8, 3];
        for whole in [false, true] {
            let mut before = connected();
            for (id, hash) in ids.into_iter().zip(100..) {
                assert_eq!(before.judge(false, id, hash), Verdict::New);
            }
            let mut after = reopened(&mut before, whole);
            assert!(!after.connected(true));
            for (id, hash) in ids.into_iter().zip(100..) {
                assert_eq!(after.judge(true, id, hash), Verdict::Duplicate, "{id}");
            }
        }
    }

    #[test]
    fn ids_that_count_up_cost_a_byte_each_and_the_same_one() {
        let mut ledger = connected();
        for id in 20_001..=21_000 {
            ledger.judge(false, id, u64::MAX);
        }
        let mut out = Encoder::new();
        assert!(ledger.seal(&mut out));
        let beside_hashes = out.len() - HASH_BYTES * 1_000;
        assert!(beside_hashes < 1_020, "{beside_hashes}");
        let bytes = out.as_slice().iter();
        let zeros: usize = bytes.map(|byte| usize::from(*byte == 0)).sum();
        assert!(zeros >= 999, "{zeros}");
    }

    #[test]
    fn a_backlog_that_is_sent_again_and_again_pushes_nothing_out() {
        // Ten thousand publishes in doubt; each life reads the first two thousand again and is killed.
        let mut ledger = connected();
        for id in 1..=10_000 {
            ledger.judge(false, id, 7);
        }
        for _ in 0..40 {
            ledger = reopened(&mut ledger, true);
            ledger.connected(true);
            for id in 1..=2_000 {
                assert_eq!(ledger.judge(true, id, 7), Verdict::Duplicate);
            }
        }
        for id in 1..=10_000 {
            assert_eq!(ledger.judge(true, id, 7), Verdict::Duplicate, "{id}");
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
        let mut again = reopened(&mut ledger, false);
        again.connected(true);
        assert_eq!(
            again.judge(true, 4, 100),
            Verdict::New,
            "the same after a crash"
        );
        assert_eq!(
            ledger.judge(true, 4, 100),
            Verdict::New,
            "a new message, its first copy lost"
        );
    }

    /// A list of all that was noted, looked through from its end.
    #[derive(Default)]
    struct Naive {
        noted: Vec<(u16, u64, bool)>,
        forgotten: usize,
        connection_began: usize,
        reuses_ids: bool,
        memory: Option<usize>,
    }

    impl Naive {
        const CLOSE: usize = 3 * 10 + 64;

        fn connected(&mut self, session_present: bool) {
            self.connection_began = self.noted.len();
            self.noted.iter_mut().for_each(|noted| noted.2 = false);
            if !session_present {
                (self.forgotten, self.memory, self.reuses_ids) = (self.noted.len(), None, false);
            }
        }

        fn judge(&mut self, dup: bool, id: u16, hash: u64) -> Verdict {
            let memory = self.memory.unwrap_or(MEMORY as usize);
            let oldest = (self.noted.len() + 1).saturating_sub(memory + 1);
            let known = self.noted.iter().rposition(|noted| noted.0 == id);
            let known = known.filter(|at| *at >= oldest.max(self.forgotten));
            let mut verdict = Verdict::New;
            if let Some(at) = known {
                let distance = self.noted.len() - at;
                match self.noted[at] {
                    (_, before, _) if dup && before == hash => {
                        if !self.reuses_ids {
                            self.noted[at].2 = true;
                            return Verdict::Duplicate;
                        }
                        verdict = Verdict::PossibleDuplicate;
                    }
                    (.., false) => self.forgotten = self.forgotten.max(self.connection_began),
                    _ if distance <= Self::CLOSE => self.reuses_ids = true,
                    _ => self.memory = Some(memory.min(distance / 2).max(Self::CLOSE)),
                }
            }
            self.noted.push((id, hash, true));
            verdict
        }
    }

    #[test]
    fn it_judges_as_a_list_of_all_would() {
        let mut rng = fastrand::Rng::with_seed(11);
        for ids in [3_u32, 120, 3_000, 65_535] {
            let (mut ledger, mut naive) = (connected(), Naive::default());
            let mut counted = 0;
            let mut seen = [0; 3];
            for _ in 0..70_000 {
                let dup = rng.u8(..3) == 0;
                let id = if dup {
                    // One of late.
                    (counted + ids - rng.u32(..ids.min(400))) % ids + 1
                } else {
                    counted = (counted + 1) % ids;
                    counted + 1
                };
                let hash = u64::from(rng.u8(..8) / 7);
                let verdict = ledger.judge(dup, id as u16, hash);
                assert_eq!(verdict, naive.judge(dup, id as u16, hash), "{ids} {id}");
                seen[verdict as usize] += 1;
                if rng.u16(..2_000) == 0 {
                    // What is read back is of an earlier connection, and so are both after the next.
                    let session_present = rng.u8(..10) > 0;
                    ledger = reopened(&mut ledger, true);
                    ledger.connected(session_present);
                    naive.connected(session_present);
                }
            }
            assert!(seen[0] > 0 && seen[1] + seen[2] > 0, "{ids}: {seen:?}");
        }
    }

    /// mosquitto 2.0 handed over a backlog of 20,000: the ledger knew the newest 364 of the redeliveries' ids, forgot
    /// each before its turn came, and everything was counted again and again.
    #[test]
    fn a_whole_backlog_in_doubt_is_recognised_in_its_order() {
        for whole in [false, true] {
            let mut before = connected();
            for id in 1..=20_000 {
                assert_eq!(before.judge(false, id, 7), Verdict::New);
            }
            let mut after = reopened(&mut before, whole);
            for _ in 0..3 {
                after.connected(true);
                for id in 1..=20_000 {
                    assert_eq!(after.judge(true, id, 7), Verdict::Duplicate, "{id}");
                }
            }
            assert_eq!(after.judge(false, 20_001, 7), Verdict::New);
            assert!(!after.reuses_ids());
        }
    }

    #[test]
    fn what_is_half_of_the_ids_ago_is_forgotten() {
        let mut ledger = connected();
        for round in 0..3_u32 {
            for id in 1..=65_535 {
                assert_eq!(ledger.judge(false, id, 7), Verdict::New, "{round}");
            }
        }
        ledger.connected(true);
        // Sent before, but so long ago that the id stands for another message with the same bytes, whose first copy
        // was lost.
        assert_eq!(ledger.judge(true, 1, 7), Verdict::New);
        assert_eq!(ledger.judge(true, 65_000, 7), Verdict::Duplicate);
        assert!(!ledger.reuses_ids());
    }

    #[test]
    fn a_broker_with_few_ids_is_remembered_for_half_of_them() {
        let mut ledger = connected();
        for _ in 0..2 {
            for id in 1..=1_000 {
                ledger.judge(false, id, 7);
            }
        }
        assert!(!ledger.reuses_ids());
        let snapshot = reopened(&mut ledger, true);
        let delta = reopened(&mut ledger, false);
        for mut ledger in [ledger, snapshot, delta] {
            ledger.connected(true);
            assert_eq!(ledger.judge(true, 400, 7), Verdict::New);
            assert_eq!(ledger.judge(true, 900, 7), Verdict::Duplicate);
        }
    }
}
