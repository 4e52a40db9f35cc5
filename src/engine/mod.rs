//! Floor 4: the sans-IO driver. Deliveries and the time go in; at the end of an epoch everything it changed comes
//! out as one value, to be committed in one transaction.
//!
//! Invariants:
//! - No socket, file, clock or await. What comes out depends on what went in and on nothing else.
//! - Rows and watermarks take effect at once and one after the other; where an epoch ends changes no row.
//! - A [`SealedEpoch`] and all before it, restored into a new engine, give an engine that goes on as this one would.
//!
//! Not here: when to acknowledge (the runtime does after its commit), how bytes get onto the disk (`store`).

mod checkpoint;
mod delivery;
mod discovery;
mod flash;
mod graph;
mod key_times;
mod ledger;
mod lookup;
mod meeting;
mod outbox;
mod output;
mod pacing;
mod predicates;
mod routing;
mod silence;
mod source;
mod timelines;

pub use checkpoint::{RestoreError, SealedEpoch, StateChange, Stored};
pub use flash::{COMMIT_BYTES, Flash};
pub use ledger::{Ledger, Verdict, publish_hash};
pub use outbox::{Chunk, NewRow, Outbox, OutboxLimits, OutboxRow, Policy, decode_rows};
pub use output::{Counters, DeadLetter, LocalRow};
pub use pacing::Pacer;
pub use routing::topic_matches;

use std::sync::Arc;

use compact_str::CompactString;

use self::graph::Graph;
use self::meeting::Step;
use self::output::Output;
use self::silence::Silence;
use self::source::Source;
use self::timelines::Timelines;
use crate::codec::Message;
use crate::ops::Discard;
use crate::plan::{self, Plan, SourceConnector, SourceId};
use crate::state::Encoder;
use crate::types::{EventTime, Fingerprint, Timeline};

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// By the wall clock, which may jump.
    pub wall: EventTime,
    /// Microseconds on a clock that never jumps.
    pub steady_micros: u64,
}

impl Clock {
    /// Whether a wall clock that says so has not been set since power came back (a Raspberry Pi has no battery).
    pub const fn is_unset(wall: EventTime) -> bool {
        wall.as_micros() < 1_735_689_600_000_000
    }
}

/// A broker connection, as far as the engine is concerned.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Its name in the configuration.
    pub name: CompactString,
    /// The in-flight window that is advertised to the broker.
    pub receive_maximum: u16,
    /// The bounds of its outbox.
    pub outbox: OutboxLimits,
}

/// The bounds of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Keys with state, for each operator; rows of further keys are dead letters.
    pub max_keys: usize,
    /// Messages with a larger payload are dead letters.
    pub max_payload_bytes: usize,
    /// The log of state changes is folded into a snapshot when it has grown to four times the last one, and to this
    /// many bytes at least, as stored.
    pub least_fold_bytes: u64,
    /// The connections that the plan names.
    pub connections: Vec<ConnectionOptions>,
}

/// A message from a broker.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Topic, payload, QoS, retain flag and arrival time.
    pub message: Message<'a>,
    /// Whether the broker marks it as sent before.
    pub dup: bool,
    /// The packet id; 0 for QoS 0.
    pub packet_id: u16,
    /// The ids of the subscriptions it is sent for, where the broker tells.
    pub subscription_ids: &'a [u32],
    /// Whether repetitions are to be recognised: false where acknowledgements do not wait for the commit.
    pub tracked: bool,
}

/// The id under which a topic filter is subscribed to. It belongs to the filter and not to a table: a broker keeps one
/// subscription for each filter, and keeps its id with messages that it delivers after a restart of ours.
pub fn subscription_id(connection: &str, filter: &str) -> u32 {
    let hash = Fingerprint::of(&format!("{connection}\0{filter}")).0;
    // Variable byte integers end at 268,435,455; 0 is not allowed.
    (hash % 268_435_454) as u32 + 1
}

/// What [`EngineOptions::least_fold_bytes`] is unless there is a reason.
pub const LEAST_FOLD_BYTES: u64 = 256 * 1024;

/// The engine.
pub struct Engine {
    plan: Arc<Plan>,
    graph: Graph,
    sources: Vec<Source>,
    timelines: Timelines,
    silence: Silence,
    output: Output,
    ledgers: Vec<Ledger>,
    names: Vec<CompactString>,
    /// For each source, the subscription ids of its topic filters.
    subscription_ids: Vec<Vec<u32>>,
    /// For each connection, the topic filters that were subscribed to when the last epoch was committed.
    filters_before: Vec<Vec<String>>,
    max_payload_bytes: usize,
    max_keys: usize,
    epoch: u64,
    /// The latest wall clock that was committed: time does not go back behind it.
    wall_floor: EventTime,
    /// Whether anything has changed since the last seal.
    changed: bool,
    snapshot: checkpoint::SnapshotPolicy,
    scratch: Encoder,
}

impl Engine {
    /// An engine with no state. Every connection that the plan names must be among the options.
    pub fn new(plan: Arc<Plan>, options: &EngineOptions) -> Self {
        let sources = plan.sources.iter().enumerate().map(|(id, source)| {
            let reads = |node: &plan::Node| node.operator == plan::Operator::Source(SourceId(id));
            // A source that no query reads has no node; its messages are decoded for nothing and go nowhere.
            let node = plan.nodes.iter().position(reads).unwrap_or(usize::MAX);
            Source::new(source, node, plan.waits_for_unheard(SourceId(id)))
        });
        Self {
            graph: Graph::new(&plan, options.max_keys),
            sources: sources.collect(),
            timelines: Timelines::new(options.max_keys),
            silence: Silence::new(&plan),
            output: Output::new(&plan, &options.connections, options.max_keys),
            ledgers: options
                .connections
                .iter()
                .map(|c| Ledger::new(c.receive_maximum))
                .collect(),
            filters_before: vec![Vec::new(); options.connections.len()],
            names: options.connections.iter().map(|c| c.name.clone()).collect(),
            subscription_ids: plan
                .sources
                .iter()
                .map(|source| match &source.connector {
                    SourceConnector::Mqtt {
                        connection,
                        filters,
                        ..
                    } => filters
                        .iter()
                        .map(|filter| subscription_id(connection, filter))
                        .collect(),
                    SourceConnector::Filesystem { .. } => Vec::new(),
                })
                .collect(),
            max_payload_bytes: options.max_payload_bytes,
            max_keys: options.max_keys,
            epoch: 0,
            wall_floor: EventTime::MIN,
            changed: false,
            snapshot: checkpoint::SnapshotPolicy::new(options.least_fold_bytes),
            scratch: Encoder::new(),
            plan,
        }
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The epoch sealed last.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What time it is: by the wall clock, unless it has been put back behind the last committed time.
    pub fn now(&self, clock: Clock) -> EventTime {
        self.wall_floor.max(clock.wall)
    }

    /// A connection is up. Returns whether a session that existed is gone, and with it what the broker held for us.
    pub fn connected(&mut self, connection: usize, session_present: bool) -> bool {
        self.changed |= !session_present;
        self.ledgers[connection].connected(session_present)
    }

    /// Whether the broker of a connection hands out packet ids so that redeliveries cannot be told apart.
    pub fn reuses_packet_ids(&self, connection: usize) -> bool {
        self.ledgers[connection].reuses_ids()
    }

    /// Lets time pass: sources that have been silent for their idle timeout no longer hold windows open. Time that
    /// closes nothing is no change, so that an idle gateway writes nothing.
    pub fn tick(&mut self, clock: Clock) {
        self.set_clock(clock);
        let rows_before = self.output.counters.rows_out;
        for id in 0..self.sources.len() {
            let tick = self.sources[id].tick(clock.steady_micros, self.wall_floor);
            if tick.fell_idle {
                self.set_idle(id, Timeline::SHARED, true);
            }
            if let Some(step) = tick.step {
                self.advance(id, step);
            }
            self.tick_keys(id, clock.steady_micros);
        }
        self.tick_silence(clock.steady_micros);
        self.changed |= self.output.counters.rows_out > rows_before;
    }

    /// Lets time pass for the keys of a source that have their own.
    fn tick_keys(&mut self, id: usize, steady_micros: u64) {
        let node = self.sources[id].node;
        if node == usize::MAX {
            return;
        }
        while let Some(silent) = self.sources[id]
            .keys
            .as_mut()
            .and_then(|keys| keys.next_silent(steady_micros))
        {
            let line = silent.line;
            if silent.fell_idle {
                self.set_idle(id, line, true);
            }
            // Only as far as something is due: what the key may still bring is not to be late for nothing.
            while let Some(timer) = self.graph.next_timer(node, line) {
                let Some(keys) = &mut self.sources[id].keys else {
                    break;
                };
                if timer > silent.may_reach {
                    keys.wait(&silent, timer);
                    break;
                }
                if timer <= keys.reached(line) {
                    // Another input holds it back, and will let it go.
                    break;
                }
                let from = keys.advance(line, timer);
                let to = timer;
                self.advance(id, Step { line, from, to });
            }
        }
        if let Some(reached) = self.sources[id].all_silent(steady_micros, self.wall_floor) {
            let mut exit = self.output.during(&self.plan, None, 0);
            self.graph.pass(node, reached, &mut exit);
        }
    }

    /// When `tick` has something to do, on the clock that never jumps.
    pub fn next_tick(&self) -> Option<u64> {
        let sources = self.sources.iter().filter_map(Source::tick_at);
        sources.chain(self.silence_at()).min()
    }

    /// The input has ended, as a recording does: every window closes.
    pub fn finish(&mut self) {
        self.changed = true;
        for id in 0..self.sources.len() {
            let source = &mut self.sources[id];
            source.watermark = EventTime::MAX;
            let to = EventTime::MAX;
            let lines = match &source.keys {
                Some(_) => (1..self.timelines.count())
                    .map(|line| Timeline(line as u32))
                    .collect(),
                None => vec![Timeline::SHARED],
            };
            for line in lines {
                let from = match &mut self.sources[id].keys {
                    Some(keys) => keys.advance(line, to),
                    None => EventTime::MIN,
                };
                self.advance(id, Step { line, from, to });
            }
        }
    }

    fn set_idle(&mut self, id: usize, line: Timeline, idle: bool) {
        let node = self.sources[id].node;
        if node != usize::MAX {
            let mut exit = self.output.during(&self.plan, None, 0);
            self.graph.set_idle(node, 0, line, idle, &mut exit);
        }
    }

    fn advance(&mut self, id: usize, step: Step) {
        let node = self.sources[id].node;
        if node != usize::MAX {
            let mut exit = self.output.during(&self.plan, None, 0);
            self.graph.advance(node, 0, step, &mut exit);
        }
    }

    /// Counts something that happened outside, such as a message dropped before it came here.
    pub fn count(&mut self, stream: &CompactString, reason: &'static str) {
        self.output.count(stream, reason);
    }

    /// Counts `count` of them.
    pub fn count_many(&mut self, stream: &CompactString, reason: &'static str, count: u64) {
        *self
            .output
            .counters
            .discards
            .entry((stream.clone(), reason))
            .or_default() += count;
    }

    /// A row that upstream will never take: it leaves the outbox and is kept as a dead letter.
    pub fn refused_upstream(
        &mut self,
        connection: usize,
        number: u64,
        topic: &str,
        payload: &[u8],
        reason: &str,
        clock: Clock,
    ) {
        if self.output.outboxes[connection].acknowledge(number) {
            let name = self.names[connection].clone();
            let message = Message {
                topic,
                payload,
                qos: 1,
                retain: false,
                received: clock.wall,
            };
            let detail = format!("upstream refuses it: {reason}");
            self.output.refuse(
                name,
                &message,
                Discard {
                    reason: "refused_upstream",
                    detail,
                },
            );
        }
    }

    /// A chunk of the outbox that the store cannot give back leaves the book, its rows counted. False if it had left
    /// already, which is how a chunk that was acknowledged meanwhile looks.
    pub fn outbox_unreadable(&mut self, connection: usize, first_number: u64) -> bool {
        let rows = self.output.outboxes[connection].forget(first_number);
        if let Some(rows) = rows {
            let name = self.names[connection].clone();
            self.count_many(&name, "outbox_unreadable", rows);
        }
        rows.is_some()
    }

    /// What has been counted since the start of this process.
    pub const fn counters(&self) -> &Counters {
        &self.output.counters
    }

    /// The outbox of a connection.
    pub fn outbox(&mut self, connection: usize) -> &mut Outbox {
        &mut self.output.outboxes[connection]
    }

    /// Whether rows in some outbox have passed the age at which they are dropped: the next seal drops them.
    pub fn any_expired(&mut self, clock: Clock) -> bool {
        self.wall_floor = self.wall_floor.max(clock.wall);
        let now_micros = self.wall_floor.as_micros();
        self.output
            .outboxes
            .iter()
            .any(|outbox| outbox.has_expired(now_micros))
    }

    /// Bytes that the epoch has gathered so far.
    pub fn epoch_bytes(&self) -> u64 {
        let outboxes = self.output.outboxes.iter().map(Outbox::unsealed_bytes);
        outboxes.sum::<u64>() + self.output.waiting_bytes
    }

    /// Rows that wait in the outbox of a connection.
    pub fn outbox_rows(&self, connection: usize) -> u64 {
        self.output.outboxes[connection].rows()
    }

    /// Over all outboxes: rows that wait, their bytes, and rows dropped so far at the bound or for their age.
    pub fn outbox_totals(&self) -> (u64, u64, u64) {
        let outboxes = self.output.outboxes.iter();
        outboxes.fold((0, 0, 0), |(rows, bytes, dropped), outbox| {
            let (at_bound, by_age) = outbox.dropped();
            (
                rows + outbox.rows(),
                bytes + outbox.bytes(),
                dropped + at_bound + by_age,
            )
        })
    }

    /// Whether every outbox that blocks has room, so that input may be taken.
    pub fn has_room(&self) -> bool {
        self.output.outboxes.iter().all(Outbox::has_room)
    }

    /// Keys with state, over all operators.
    pub fn keys(&mut self) -> usize {
        self.graph
            .operators()
            .map(|(_, operator)| operator.keys())
            .sum()
    }

    /// The latest that the wall clock has ever said: time does not go back behind it.
    pub const fn wall_floor(&self) -> EventTime {
        self.wall_floor
    }

    /// The least watermark of the sources that have one.
    pub fn watermark(&self) -> EventTime {
        let known = self.sources.iter().map(|source| source.watermark);
        known
            .filter(|watermark| *watermark > EventTime::MIN)
            .min()
            .unwrap_or(EventTime::MIN)
    }
}
