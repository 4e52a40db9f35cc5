//! What an epoch leaves to be stored, and how an engine is made again from what was stored.
//!
//! State bytes are a sequence of sections, each a fingerprint and a length-prefixed body written by the operator or
//! ledger of that fingerprint. A delta has the sections that changed in an epoch; a snapshot has all, in pieces. So
//! state belongs to a definition, not to a place in the plan: queries may be added or moved, and an unchanged one
//! finds its state again. State whose definition is gone is not dropped in silence: restoring refuses, by name,
//! unless it is told to drop it.

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::output::named_state;
use super::{Chunk, Clock, DeadLetter, Engine, LocalRow};
use crate::plan::{self, SourceConnector};
use crate::state::{Decoder, Encoder, Packed, StateError};
use crate::types::{EventTime, Fingerprint, Timeline};

/// Version 2 tells where a pane of a window lies from the pane written before it, version 3 the id of a publish from the
/// one before it, and keeps the rows of patterns that wait apart from their keys, version 4 has 40 bits of its hash, and
/// keys without what they share with the one before, version 5 has 32 bits of the hash.
const STATE_VERSION: u8 = 5;
const META_VERSION: u8 = 1;
/// Pieces of a snapshot, with what the last key adds. LZ4 looks back 64 KiB.
const PIECE_BYTES: usize = 60 * 1024;

/// Everything one epoch changed, to be committed in one transaction.
#[derive(Clone, Debug, Default)]
pub struct SealedEpoch {
    /// Its number; the first is 1.
    pub epoch: u64,
    /// What state has changed.
    pub state: StateChange,
    /// Watermarks, numbers and definitions; replaces what the epoch before left.
    pub meta: Vec<u8>,
    /// For each connection, by position: chunks to append to its outbox.
    pub outbox_append: Vec<Vec<Chunk>>,
    /// For each connection, by position: chunks to remove, by their first row's number.
    pub outbox_remove: Vec<Vec<u64>>,
    /// Inputs that could not be used.
    pub dead: Vec<DeadLetter>,
    /// Derived rows for this machine, to be written after the commit.
    pub local: Vec<LocalRow>,
}

/// A change of state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateChange {
    /// Nothing.
    #[default]
    Unchanged,
    /// To be appended to the log of changes.
    Delta(Vec<u8>),
    /// Takes the place of all state stored before. Packed at once: the state of many keys is not to be in memory a second
    /// time as it is.
    Snapshot(Vec<Packed>),
}

/// What a store gives back.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// The number of the last epoch.
    pub epoch: u64,
    /// Its meta.
    pub meta: &'a [u8],
    /// The pieces of the last snapshot.
    pub base: Vec<Packed>,
    /// The deltas since, in order.
    pub deltas: Vec<Vec<u8>>,
}

/// Why stored state does not fit the plan.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Queries whose state is stored and whose definition has changed or gone.
    #[error(
        "the state of {} belongs to a definition that has changed or gone; put the old definition back, or drop \
         that state with `headwater state reset {}`",
        names.join(", "),
        names.join(" ")
    )]
    Orphans {
        /// Their names.
        names: Vec<String>,
    },
    /// Bytes that cannot be read.
    #[error("stored state cannot be read")]
    State(#[from] StateError),
}

/// When to fold the deltas into a new snapshot: when they have grown to four times the snapshot. So of all bytes written for
/// state at most a fifth is written again. What counts is what both take in the store, if it says so; but a start has the
/// deltas in memory as they are, so that their own length is bounded, too.
#[derive(Debug, Default)]
pub(super) struct SnapshotPolicy {
    base_bytes: u64,
    delta_bytes: u64,
    /// The same as stored.
    stored: Option<(u64, u64)>,
    least_bytes: u64,
    due: bool,
}

impl SnapshotPolicy {
    /// So many times the snapshot deltas may be, as they are and as they are stored.
    const TIMES: u64 = 4;
    const TIMES_UNPACKED: u64 = 8;
    /// And so many times the least length at which they are folded.
    const TIMES_LEAST_UNPACKED: u64 = 16;

    pub(super) fn new(least_bytes: u64) -> Self {
        Self {
            least_bytes,
            ..Self::default()
        }
    }

    fn is_due(&self) -> bool {
        let Self {
            base_bytes,
            delta_bytes,
            least_bytes,
            ..
        } = *self;
        let times = |bytes: u64, times| bytes.saturating_mul(times);
        let grown = match self.stored {
            None => delta_bytes > times(base_bytes, Self::TIMES).max(least_bytes),
            Some((base, deltas)) => {
                let least = times(least_bytes, Self::TIMES_LEAST_UNPACKED);
                deltas > times(base, Self::TIMES).max(least_bytes)
                    || delta_bytes > times(base_bytes, Self::TIMES_UNPACKED).max(least)
            }
        };
        self.due || grown
    }
}

impl Engine {
    /// Whether an epoch sealed now would have something in it.
    pub fn has_changes(&self) -> bool {
        self.changed
            || !self.output.dead.is_empty()
            || self.output.outboxes.iter().any(super::Outbox::has_changes)
            || self
                .output
                .outboxes
                .iter()
                .any(|outbox| outbox.has_expired(self.wall_floor.as_micros()))
    }

    /// Ends the epoch.
    pub fn seal(&mut self, clock: Clock) -> SealedEpoch {
        self.wall_floor = self.wall_floor.max(clock.wall);
        self.epoch += 1;
        self.changed = false;
        let state = if self.snapshot.is_due() {
            self.seal_snapshot()
        } else {
            self.seal_delta()
        };
        // One large epoch must not cost its memory for ever.
        self.scratch.shrink(PIECE_BYTES);
        let now_micros = self.wall_floor.as_micros();
        let (mut append, mut remove) = (Vec::new(), Vec::new());
        for outbox in &mut self.output.outboxes {
            let (appended, removed) = outbox.seal(now_micros);
            append.push(appended);
            remove.push(removed);
        }
        SealedEpoch {
            epoch: self.epoch,
            state,
            meta: self.meta(),
            outbox_append: append,
            outbox_remove: remove,
            dead: {
                self.output.waiting_bytes = 0;
                std::mem::take(&mut self.output.dead)
            },
            local: std::mem::take(&mut self.output.local),
        }
    }

    /// The epoch sealed last is in the store.
    pub fn committed(&mut self) {
        self.output
            .outboxes
            .iter_mut()
            .for_each(super::Outbox::committed);
    }

    /// What the snapshot and the deltas since take in the store, which packs them, each as far as it can. To be told after a
    /// start and after each commit; without it lengths count.
    pub const fn stored(&mut self, base_bytes: u64, delta_bytes: u64) {
        self.snapshot.stored = Some((base_bytes, delta_bytes));
    }

    fn seal_delta(&mut self) -> StateChange {
        let mut delta = Encoder::new();
        delta.version(STATE_VERSION);
        let empty = delta.len();
        let scratch = &mut self.scratch;
        let mut section = |fingerprint: Fingerprint,
                           write: &mut dyn FnMut(&mut Encoder) -> bool| {
            scratch.clear();
            if write(scratch) {
                delta.fingerprint(fingerprint);
                delta.bytes(scratch.as_slice());
            }
        };
        for (name, ledger) in self.names.iter().zip(&mut self.ledgers) {
            section(named_state("ledger", name), &mut |out| ledger.seal(out));
        }
        // Before what refers to them.
        section(named_state("timelines", ""), &mut |out| {
            self.timelines.seal(out)
        });
        for (source, planned) in self.sources.iter_mut().zip(&self.plan.sources) {
            if let Some(keys) = &mut source.keys {
                section(times_of(planned.fingerprint), &mut |out| keys.seal(out));
            }
        }
        for (fingerprint, meeting) in self.graph.meetings() {
            section(times_of(fingerprint), &mut |out| meeting.seal(out));
        }
        for (fingerprint, operator) in self.graph.operators() {
            section(fingerprint, &mut |out| operator.seal(out));
        }
        if delta.len() == empty {
            return StateChange::Unchanged;
        }
        self.snapshot.delta_bytes += delta.len() as u64;
        StateChange::Delta(delta.into_bytes())
    }

    fn seal_snapshot(&mut self) -> StateChange {
        let mut pieces = Vec::new();
        let mut base_bytes = 0;
        let mut out = Encoder::new();
        let mut piece = |fingerprint: Fingerprint, body: &[u8]| {
            out.clear();
            out.version(STATE_VERSION);
            out.fingerprint(fingerprint);
            out.bytes(body);
            base_bytes += out.len() as u64;
            pieces.push(Packed::of(out.as_slice()));
        };
        for (name, ledger) in self.names.iter().zip(&mut self.ledgers) {
            self.scratch.clear();
            // What was to be written as a change is in the snapshot.
            ledger.seal(&mut self.scratch);
            self.scratch.clear();
            ledger.snapshot(&mut self.scratch);
            piece(named_state("ledger", name), self.scratch.as_slice());
        }
        self.scratch.clear();
        self.timelines.seal(&mut self.scratch);
        self.scratch.clear();
        self.timelines.snapshot(&mut self.scratch);
        piece(named_state("timelines", ""), self.scratch.as_slice());
        for (source, planned) in self.sources.iter_mut().zip(&self.plan.sources) {
            if let Some(keys) = &mut source.keys {
                self.scratch.clear();
                keys.seal(&mut self.scratch);
                self.scratch.clear();
                keys.snapshot(&mut self.scratch);
                piece(times_of(planned.fingerprint), self.scratch.as_slice());
            }
        }
        for (fingerprint, meeting) in self.graph.meetings() {
            self.scratch.clear();
            meeting.seal(&mut self.scratch);
            self.scratch.clear();
            meeting.snapshot(&mut self.scratch);
            piece(times_of(fingerprint), self.scratch.as_slice());
        }
        for (fingerprint, operator) in self.graph.operators() {
            self.scratch.clear();
            operator.seal(&mut self.scratch);
            operator.snapshot(PIECE_BYTES, &mut |body| piece(fingerprint, body));
        }
        self.snapshot = SnapshotPolicy {
            base_bytes,
            ..SnapshotPolicy::new(self.snapshot.least_bytes)
        };
        StateChange::Snapshot(pieces)
    }

    /// Definitions with stored state, by fingerprint.
    fn definitions(&self) -> BTreeMap<Fingerprint, CompactString> {
        let nodes = self.plan.nodes.iter();
        let stateful = nodes.filter(|node| node.operator.has_state());
        stateful
            .map(|node| (node.fingerprint, node.query.clone()))
            .collect()
    }

    fn meta(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.version(META_VERSION);
        out.time(self.wall_floor);
        let definitions = self.definitions();
        out.u64(definitions.len() as u64);
        for (fingerprint, query) in &definitions {
            out.fingerprint(*fingerprint);
            out.str(query);
        }
        out.u64(self.sources.len() as u64);
        for (source, planned) in self.sources.iter().zip(&self.plan.sources) {
            out.fingerprint(planned.fingerprint);
            out.u64(source.accepted);
            out.u64(source.lines);
            out.time(source.watermark);
        }
        out.u64(self.names.len() as u64);
        for (name, outbox) in self.names.iter().zip(&self.output.outboxes) {
            out.str(name);
            out.u64(outbox.next_number());
            let filters: Vec<&String> = self.filters(name).collect();
            out.u64(filters.len() as u64);
            for filter in filters {
                out.str(filter);
            }
        }
        out.u64(self.plan.sinks.len() as u64);
        for (sink, bytes) in self.plan.sinks.iter().zip(&self.output.file_bytes) {
            out.fingerprint(sink.fingerprint);
            out.u64(*bytes);
        }
        out.into_bytes()
    }

    /// The topic filters of the sources of a connection.
    fn filters(&self, connection: &str) -> impl Iterator<Item = &String> {
        let sources = self.plan.sources.iter();
        sources
            .filter_map(move |source| match &source.connector {
                SourceConnector::Mqtt {
                    connection: name,
                    filters,
                    ..
                } if name == connection => Some(filters),
                _ => None,
            })
            .flatten()
    }

    /// Topic filters that a connection was subscribed to when the last epoch was committed, and that no source wants
    /// any more.
    pub fn stale_filters(&self, connection: usize) -> Vec<String> {
        let wanted: Vec<&String> = self.filters(&self.names[connection]).collect();
        let before = self.filters_before[connection].iter();
        before
            .filter(|filter| !wanted.contains(filter))
            .cloned()
            .collect()
    }

    /// The files that sinks write, each once: the path, how many bytes of it are part of committed epochs, and whether
    /// a committed epoch says that it is ours.
    pub fn sink_files(&self) -> BTreeMap<&str, (u64, bool)> {
        let mut files: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for (at, sink) in self.plan.sinks.iter().enumerate() {
            if let plan::SinkConnector::Filesystem { path } = &sink.connector {
                let (bytes, claimed) = files.entry(path).or_default();
                *bytes += self.output.file_bytes[at];
                *claimed |= self.output.file_claimed[at];
            }
        }
        files
    }

    /// Takes over what was stored. Queries named in `reset` lose their state if their definition has changed; for
    /// others that is an error, found before anything is taken over. The engine must be new.
    ///
    /// What was stored goes piece by piece, so that it is not in memory a second time beside what has been made of it.
    pub fn restore(&mut self, stored: Stored<'_>, reset: &[String]) -> Result<(), RestoreError> {
        let known = self.definitions();
        let mut from = Decoder::new(stored.meta);
        from.version(META_VERSION)?;
        let wall = from.time()?;
        let mut orphans: Vec<String> = Vec::new();
        let mut dropped: Vec<Fingerprint> = Vec::new();
        for _ in 0..from.count("definitions")? {
            let (fingerprint, query) = (from.fingerprint()?, from.str()?);
            if known.contains_key(&fingerprint) {
                continue;
            }
            if reset.iter().any(|name| name == query || name == "--all") {
                dropped.push(fingerprint);
            } else if !orphans.iter().any(|name| name == query) {
                orphans.push(query.to_owned());
            }
        }
        if !orphans.is_empty() {
            return Err(RestoreError::Orphans { names: orphans });
        }
        self.epoch = stored.epoch;
        self.wall_floor = wall;
        self.snapshot.due = !dropped.is_empty();
        self.restore_numbers(&mut from)?;
        from.finish()?;
        let base = stored.base.iter().map(|piece| piece.unpacked_len() as u64);
        self.snapshot.base_bytes = base.sum();
        let deltas = stored.deltas.iter().map(|delta| delta.len() as u64);
        self.snapshot.delta_bytes = deltas.sum();
        for piece in stored.base {
            self.restore_sections(&piece.unpacked())?;
        }
        for delta in stored.deltas {
            self.restore_sections(&delta)?;
        }
        for keys in self.sources.iter_mut().filter_map(|s| s.keys.as_mut()) {
            for line in 1..self.timelines.count() {
                keys.expect_line(Timeline(line as u32), 0);
            }
        }
        let sources = &self.sources;
        let of_node = |node: usize, line| {
            let source = sources.iter().find(|source| source.node == node);
            source.map_or(EventTime::MIN, |source| source.reached(line))
        };
        self.graph.resume(self.timelines.count(), &of_node);
        Ok(())
    }

    fn restore_numbers(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        for _ in 0..from.count("sources")? {
            let fingerprint = from.fingerprint()?;
            let (accepted, lines, watermark) = (from.u64()?, from.u64()?, from.time()?);
            let planned = self.plan.sources.iter();
            for (source, _) in self
                .sources
                .iter_mut()
                .zip(planned)
                .filter(|(_, p)| p.fingerprint == fingerprint)
            {
                source.accepted = accepted;
                source.lines = lines;
                source.watermark = watermark;
            }
        }
        for _ in 0..from.count("connections")? {
            let (name, number) = (from.str()?, from.u64()?);
            let filters = (0..from.count("filters")?).map(|_| Ok(from.str()?.to_owned()));
            let filters: Vec<String> = filters.collect::<Result<_, StateError>>()?;
            if let Some(at) = self.names.iter().position(|known| known == name) {
                self.output.outboxes[at].resume_at(number);
                self.filters_before[at] = filters;
            }
        }
        for _ in 0..from.count("sinks")? {
            let (fingerprint, bytes) = (from.fingerprint()?, from.u64()?);
            for (at, sink) in self.plan.sinks.iter().enumerate() {
                if sink.fingerprint == fingerprint {
                    self.output.file_bytes[at] = bytes;
                    self.output.file_claimed[at] = true;
                }
            }
        }
        Ok(())
    }

    fn restore_sections(&mut self, blob: &[u8]) -> Result<(), StateError> {
        let mut from = Decoder::new(blob);
        from.version_since(STATE_VERSION, STATE_VERSION)?;
        while !from.is_empty() {
            let fingerprint = from.fingerprint()?;
            let mut body = Decoder::new(from.bytes()?);
            let ledgers = self.names.iter().zip(&mut self.ledgers);
            for (name, ledger) in ledgers {
                if named_state("ledger", name) == fingerprint {
                    ledger.restore(&mut body)?;
                }
            }
            let lines = self.timelines.count();
            if fingerprint == named_state("timelines", "") {
                self.timelines.restore(&mut body)?;
            }
            for (source, planned) in self.sources.iter_mut().zip(&self.plan.sources) {
                if let Some(keys) = &mut source.keys
                    && times_of(planned.fingerprint) == fingerprint
                {
                    keys.restore(&mut body, lines)?;
                }
            }
            for (known, meeting) in self.graph.meetings() {
                if times_of(known) == fingerprint {
                    meeting.restore(&mut body, lines)?;
                }
            }
            for (known, operator) in self.graph.operators() {
                if known == fingerprint {
                    operator.restore(&mut body)?;
                }
            }
        }
        Ok(())
    }

    /// The sources that read a file, with the path and how many lines of it are done.
    pub fn file_sources(&self) -> impl Iterator<Item = (plan::SourceId, &str, u64)> {
        let planned = self.plan.sources.iter().enumerate();
        planned.filter_map(|(id, source)| match &source.connector {
            SourceConnector::Filesystem { path } => {
                Some((plan::SourceId(id), path.as_str(), self.sources[id].lines))
            }
            SourceConnector::Mqtt { .. } => None,
        })
    }
}

/// Where the watermarks of a source's keys, or of a node where watermarks meet, are kept.
fn times_of(fingerprint: Fingerprint) -> Fingerprint {
    named_state("times", &fingerprint.to_string())
}
