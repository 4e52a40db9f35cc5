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
mod tests;
