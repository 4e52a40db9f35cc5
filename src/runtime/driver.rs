//! The loop of `run`: it moves data between the connections, the engine and the store, and decides nothing that the
//! engine can decide.
//!
//! Order of things, which is the promise: an epoch is sealed, committed by the store's thread, and only then are its
//! publishes acknowledged and its rows sent or printed. The next epoch runs meanwhile; input stops being taken when
//! an outbox that blocks is full, when the disk has stalled, or when an epoch has grown large before the one
//! before it is committed. What is not taken stays with the broker (QoS 1) or is dropped and counted (QoS 0).

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compact_str::{CompactString, ToCompactString as _};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::clock::SystemClock;
use super::commit::{epoch_commit, replay_letter};
use super::committer::{Committer, FileAppend, Job, StoreEvent};
use super::control::{Answer, Command};
use super::forwarding::Forwarding;
use super::status::Summary;
use super::{RunError, Settings};
use crate::codec::Message;
use crate::engine::{Clock, Delivery, Engine, Pacer, SealedEpoch, Verdict};
use crate::mqtt::{
    Acknowledger, Forward, ForwardEvent, Inbox, Received, SourceConnection, SourceEvent,
};
use crate::plan::SinkConnector;
use crate::store::{OutboxChunk, Store};

/// Messages taken in one go before the other tasks get their turn.
const BATCH: usize = 256;
/// Rows waiting for the next epoch beyond this keep input out while a commit is under way.
const EPOCH_LIMIT_BYTES: u64 = 4 << 20;
/// Chunks that upstream has acknowledged are removed with the next epoch; if none comes, after this many intervals.
const REMOVAL_INTERVALS: u64 = 10;

/// Everything `run` works with.
pub(super) struct Driver {
    settings: Arc<Settings>,
    clock: SystemClock,
    engine: Engine,
    committer: Committer,
    store_events: mpsc::UnboundedReceiver<StoreEvent>,
    inbox: Arc<Inbox>,
    input: mpsc::UnboundedReceiver<SourceEvent>,
    sources: Vec<SourceLine>,
    forwards: Vec<Option<Forwarding>>,
    forward_events: mpsc::UnboundedReceiver<ForwardEvent>,
    commands: mpsc::Receiver<(Command, oneshot::Sender<Answer>)>,
    /// The epoch that is being committed.
    committing: Option<InFlight>,
    stalled: bool,
    /// Publishes to acknowledge after the epoch that runs now.
    to_acknowledge: Vec<Receipt>,
    /// Acknowledgements for which the client had no room.
    retry: Vec<Receipt>,
    dead_remove: Vec<u64>,
    /// When the first change that no publish waits for was made.
    other_change: Option<u64>,
    removal_change: Option<u64>,
    summary: Summary,
}

/// A source connection as the driver sees it.
struct SourceLine {
    connection: usize,
    handle: SourceConnection,
    acknowledger: Option<Acknowledger>,
    pacer: Pacer,
}

/// A publish that waits to be acknowledged.
#[derive(Clone, Copy)]
struct Receipt {
    connection: usize,
    attempt: u64,
    packet_id: u16,
}

struct InFlight {
    receipts: Vec<Receipt>,
    chunks: Vec<(usize, u64, Vec<u8>)>,
    lines: Vec<String>,
}

impl Driver {
    pub(super) fn new(
        settings: Arc<Settings>,
        clock: SystemClock,
        engine: Engine,
        store: Store,
        commands: mpsc::Receiver<(Command, oneshot::Sender<Answer>)>,
    ) -> Result<Self, RunError> {
        let (store_sender, store_events) = mpsc::unbounded_channel();
        let committer = Committer::start(store, store_sender).map_err(RunError::Thread)?;
        let (inbox, input) = Inbox::new();
        let (forward_sender, forward_events) = mpsc::unbounded_channel();
        let interval_micros = settings.commit_interval.as_micros() as u64;
        let sources = settings
            .sources(&engine)
            .into_iter()
            .map(|options| SourceLine {
                connection: options.connection,
                acknowledger: None,
                pacer: Pacer::new(usize::from(options.receive_maximum), interval_micros),
                handle: SourceConnection::start(options, inbox.clone()),
            });
        let sources = sources.collect();
        let forwards = settings.forwards(&engine).into_iter().map(|options| {
            options.map(|(options, drain)| {
                let (connection, name) = (options.connection, options.name.to_compact_string());
                let forward = Forward::start(options, forward_sender.clone());
                Forwarding::new(forward, connection, name, drain)
            })
        });
        Ok(Self {
            forwards: forwards.collect(),
            summary: Summary::new(clock.now().steady_micros),
            settings,
            clock,
            engine,
            committer,
            store_events,
            inbox,
            input,
            sources,
            forward_events,
            commands,
            committing: None,
            stalled: false,
            to_acknowledge: Vec::new(),
            retry: Vec::new(),
            dead_remove: Vec::new(),
            other_change: None,
            removal_change: None,
        })
    }

    /// Runs until `shutdown`, then commits once more and takes leave.
    pub(super) async fn run(
        mut self,
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Result<(), RunError> {
        loop {
            let now = self.clock.now();
            self.collect_drops();
            if self
                .engine
                .next_tick()
                .is_some_and(|due| due <= now.steady_micros)
            {
                self.engine.tick(now);
                self.note_other_change(now);
            }
            self.commit_if_due(now);
            self.pump();
            let wake = self.next_wake(now);
            let takes_input = self.takes_input();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(event) = self.store_events.recv() => self.on_store(event)?,
                Some(event) = self.forward_events.recv() => {
                    self.on_forward(event);
                    while let Ok(event) = self.forward_events.try_recv() {
                        self.on_forward(event);
                    }
                }
                Some((command, reply)) = self.commands.recv() => self.on_command(command, reply).await,
                Some(event) = self.input.recv(), if takes_input => self.on_input(event),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if self.summary.is_due(now.steady_micros) {
                self.summarise(now);
            }
        }
        self.stop().await
    }

    fn takes_input(&mut self) -> bool {
        if self.stalled || !self.engine.has_room() {
            return false;
        }
        let outboxes = 0..self.forwards.len();
        let growing: u64 = outboxes
            .map(|c| self.engine.outbox(c).unsealed_bytes())
            .sum();
        self.committing.is_none() || growing < EPOCH_LIMIT_BYTES
    }

    fn next_wake(&self, now: Clock) -> std::time::Instant {
        let mut wake = now.steady_micros + 1_000_000;
        if self.committing.is_none() {
            wake = wake.min(self.commit_due().unwrap_or(wake));
        }
        if let Some(tick) = self.engine.next_tick() {
            wake = wake.min(tick.max(now.steady_micros + 10_000));
        }
        if !self.retry.is_empty() {
            wake = wake.min(now.steady_micros + 5_000);
        }
        self.clock.instant(wake)
    }

    fn on_input(&mut self, event: SourceEvent) {
        let now = self.clock.now();
        self.take(event, now);
        for _ in 1..BATCH {
            if !self.takes_input() {
                break;
            }
            let Ok(event) = self.input.try_recv() else {
                break;
            };
            self.take(event, now);
            if self.committing.is_none() && self.commit_due() == Some(0) {
                break;
            }
        }
    }

    fn take(&mut self, event: SourceEvent, now: Clock) {
        match event {
            SourceEvent::Received(received) => self.take_message(&received, now),
            SourceEvent::Connected {
                connection,
                acknowledger,
                session_present,
            } => {
                let lost = self.engine.connected(connection, session_present);
                let name = &self.settings.connections[connection].name;
                if lost {
                    error!(
                        connection = %name,
                        "SESSION_LOST: the broker has forgotten our session; what it held for us while we were \
                         away is gone (session expiry, or a broker without persistence)"
                    );
                    self.engine.count(&name.to_compact_string(), "session_lost");
                }
                if let Some(line) = self.line(connection) {
                    line.acknowledger = Some(acknowledger);
                    line.pacer.disconnected();
                }
                self.note_other_change(now);
            }
            SourceEvent::Disconnected { connection } => {
                if let Some(line) = self.line(connection) {
                    line.acknowledger = None;
                    line.pacer.disconnected();
                }
            }
        }
    }

    fn line(&mut self, connection: usize) -> Option<&mut SourceLine> {
        self.sources
            .iter_mut()
            .find(|line| line.connection == connection)
    }

    fn take_message(&mut self, received: &Received, now: Clock) {
        self.inbox.taken(received);
        let Ok(topic) = std::str::from_utf8(&received.topic) else {
            // The client checks topics; one that is not text reaches nobody.
            return;
        };
        let tracked = !self.settings.acknowledge_on_receipt;
        let delivery = Delivery {
            message: Message {
                topic,
                payload: &received.payload,
                qos: received.qos,
                retain: received.retain,
                received: now.wall,
            },
            dup: received.dup,
            packet_id: received.packet_id,
            subscription_ids: &received.subscription_ids,
            tracked,
        };
        let verdict = self.engine.deliver(received.connection, &delivery, now);
        if verdict == Verdict::PossibleDuplicate {
            warn!(
                topic,
                "a redelivery could not be told from a new message; it was processed"
            );
        }
        if received.qos > 0 && tracked {
            self.to_acknowledge.push(Receipt {
                connection: received.connection,
                attempt: received.attempt,
                packet_id: received.packet_id,
            });
            if let Some(line) = self.line(received.connection) {
                line.pacer.arrived(now.steady_micros);
            }
        } else {
            self.note_other_change(now);
        }
    }

    fn note_other_change(&mut self, now: Clock) {
        self.other_change.get_or_insert(now.steady_micros);
    }

    fn commit_due(&self) -> Option<u64> {
        let interval = self.settings.commit_interval.as_micros() as u64;
        let pacers = self.sources.iter().filter_map(|line| line.pacer.due());
        let other = self.other_change.map(|since| since + interval);
        let removal = self
            .removal_change
            .map(|since| since + interval * REMOVAL_INTERVALS);
        pacers.chain(other).chain(removal).min()
    }

    fn commit_if_due(&mut self, now: Clock) {
        let due = self
            .commit_due()
            .is_some_and(|due| due <= now.steady_micros);
        if due && self.committing.is_none() {
            self.commit(now);
        }
    }

    /// Seals the epoch and hands it to the store.
    fn commit(&mut self, now: Clock) {
        for line in &mut self.sources {
            line.pacer.commit_begins(now.steady_micros);
            line.pacer.sealed();
        }
        self.other_change = None;
        self.removal_change = None;
        let receipts = std::mem::take(&mut self.to_acknowledge);
        if !self.engine.has_changes() && self.dead_remove.is_empty() {
            self.acknowledge(receipts);
            return;
        }
        let mut sealed = self.engine.seal(now);
        let files = self.files(&mut sealed);
        let lines = sealed.local.iter().map(|row| row.line.clone()).collect();
        let commit = epoch_commit(
            &self.settings,
            sealed,
            std::mem::take(&mut self.dead_remove),
        );
        let up = |chunk: &OutboxChunk| {
            let at = self
                .settings
                .connections
                .iter()
                .position(|c| c.name == chunk.connection.as_str());
            at.filter(|at| self.forwards[*at].as_ref().is_some_and(Forwarding::is_up))
        };
        let sent_next = commit.outbox_append.iter().filter_map(|chunk| {
            up(chunk).map(|connection| (connection, chunk.first_number, chunk.bytes.clone()))
        });
        let chunks = sent_next.collect();
        self.committing = Some(InFlight {
            receipts,
            chunks,
            lines,
        });
        self.committer.send(Job::Commit(Box::new(commit), files));
    }

    /// Takes the rows for files out of the epoch.
    fn files(&self, sealed: &mut SealedEpoch) -> Vec<FileAppend> {
        let mut files: Vec<FileAppend> = Vec::new();
        let plan = self.engine.plan().clone();
        sealed.local.retain(|row| {
            let SinkConnector::Filesystem { path } = &plan.sinks[row.sink.0].connector else {
                return true;
            };
            let path = PathBuf::from(path);
            let at = files
                .iter()
                .position(|file| file.path == path)
                .unwrap_or_else(|| {
                    files.push(FileAppend {
                        path,
                        bytes: Vec::new(),
                    });
                    files.len() - 1
                });
            files[at].bytes.extend_from_slice(row.line.as_bytes());
            files[at].bytes.push(b'\n');
            false
        });
        files
    }

    fn on_store(&mut self, event: StoreEvent) -> Result<(), RunError> {
        match event {
            StoreEvent::Committed(stats) => {
                self.stalled = false;
                self.summary.committed(&stats);
                let Some(done) = self.committing.take() else {
                    return Ok(());
                };
                self.engine.committed();
                for (connection, first_number, bytes) in done.chunks {
                    if let Some(forwarding) = &mut self.forwards[connection] {
                        forwarding.committed(first_number, bytes);
                    }
                }
                self.acknowledge(done.receipts);
                print_lines(&done.lines);
            }
            StoreEvent::Stalled => self.stalled = true,
            StoreEvent::Chunk {
                connection,
                first_number,
                bytes,
            } => {
                if let Some(forwarding) = &mut self.forwards[connection] {
                    forwarding.chunk_read(first_number, bytes.as_deref());
                }
            }
            StoreEvent::Failed(error) => return Err(RunError::Store(error)),
        }
        Ok(())
    }

    fn acknowledge(&mut self, receipts: Vec<Receipt>) {
        for receipt in receipts {
            let Some(line) = self
                .sources
                .iter_mut()
                .find(|l| l.connection == receipt.connection)
            else {
                continue;
            };
            let Some(acknowledger) = line
                .acknowledger
                .as_ref()
                .filter(|a| a.attempt() == receipt.attempt)
            else {
                // The connection it came on is gone. The broker sends it again, and the ledger knows it.
                continue;
            };
            if acknowledger.acknowledge(receipt.packet_id) {
                line.pacer.acknowledged(1);
            } else {
                self.retry.push(receipt);
            }
        }
    }

    fn on_forward(&mut self, event: ForwardEvent) {
        match event {
            ForwardEvent::Up {
                connection,
                attempt,
                max_packet_bytes,
            } => {
                if let Some(forwarding) = &mut self.forwards[connection] {
                    forwarding.up(attempt, max_packet_bytes, self.engine.outbox(connection));
                }
            }
            ForwardEvent::Down { connection } => {
                if let Some(forwarding) = &mut self.forwards[connection] {
                    forwarding.down();
                }
            }
            ForwardEvent::Delivered { connection, number } => {
                if self.engine.outbox(connection).acknowledge(number) {
                    self.summary.delivered += 1;
                }
                self.note_removal();
            }
            ForwardEvent::Refused {
                connection,
                number,
                topic,
                payload,
                reason,
            } => {
                self.refuse(connection, number, &topic, &payload, &reason);
            }
        }
    }

    fn note_removal(&mut self) {
        let now = self.clock.now().steady_micros;
        self.removal_change.get_or_insert(now);
    }

    /// A row that upstream will never take becomes a dead letter, so that it does not block those behind it.
    fn refuse(
        &mut self,
        connection: usize,
        number: u64,
        topic: &str,
        payload: &[u8],
        reason: &str,
    ) {
        let name = self.settings.connections[connection].name.clone();
        warn!(connection = %name, topic, reason, "upstream refuses an event; it is kept as a dead letter");
        let now = self.clock.now();
        self.engine
            .refused_upstream(connection, number, topic, payload, reason, now);
        self.note_other_change(now);
    }

    fn pump(&mut self) {
        if !self.retry.is_empty() {
            let receipts = std::mem::take(&mut self.retry);
            self.acknowledge(receipts);
        }
        for connection in 0..self.forwards.len() {
            let Some(forwarding) = &mut self.forwards[connection] else {
                continue;
            };
            for row in forwarding.pump(self.engine.outbox(connection), &self.committer) {
                self.refuse(
                    connection,
                    row.number,
                    &row.row.topic,
                    &row.row.payload,
                    &row.reason,
                );
            }
        }
    }

    /// Counts what the connections had to drop.
    fn collect_drops(&mut self) {
        for line in &self.sources {
            for (source, count) in line.handle.take_drops() {
                self.engine
                    .count_many(&CompactString::new(source), "qos0_overflow", count);
            }
        }
    }

    async fn on_command(&mut self, command: Command, reply: oneshot::Sender<Answer>) {
        let answer = match command {
            Command::List { after, limit } => {
                let read = move |store: &mut Store| store.dead_letters_after(after, limit);
                Answer::letters(self.committer.read(read).await)
            }
            Command::Show { id } => {
                let read =
                    move |store: &mut Store| store.dead_letter(id).map(|letter| vec![(id, letter)]);
                Answer::letters(self.committer.read(read).await)
            }
            Command::Purge { ids } => {
                let count = ids.len();
                self.dead_remove.extend(ids);
                let now = self.clock.now();
                self.note_other_change(now);
                Answer::Done { count }
            }
            Command::Replay { id } => self.replay(id).await,
        };
        // Whoever asked may have gone away.
        let _ = reply.send(answer);
    }

    /// Sends a dead letter through again; it is removed in the epoch in which it takes effect.
    async fn replay(&mut self, id: u64) -> Answer {
        let letter = match self
            .committer
            .read(move |store| store.dead_letter(id))
            .await
        {
            Some(Ok(letter)) => letter,
            other => return Answer::letters(other.map(|r| r.map(|letter| vec![(id, letter)]))),
        };
        if self.dead_remove.contains(&id) {
            return Answer::error(format!("dead letter {id} is being removed"));
        }
        let now = self.clock.now();
        match replay_letter(&mut self.engine, &letter, now) {
            Ok(()) => {
                self.dead_remove.push(id);
                self.note_other_change(now);
                Answer::Done { count: 1 }
            }
            Err(reason) => Answer::error(format!("dead letter {id}: {reason}")),
        }
    }

    fn summarise(&mut self, now: Clock) {
        let up = self.forwards.iter().flatten().filter(|f| f.is_up()).count();
        let connected = self
            .sources
            .iter()
            .filter(|line| line.acknowledger.is_some())
            .count();
        self.summary
            .log(now, &mut self.engine, (connected, self.sources.len()), up);
    }

    /// Takes no more input, commits what was processed, acknowledges it, and takes leave of the brokers.
    async fn stop(mut self) -> Result<(), RunError> {
        info!("stopping");
        for line in &self.sources {
            line.handle.about_to_stop();
        }
        let deadline = tokio::time::Instant::now() + self.settings.stop_patience;
        let mut committed_last = false;
        loop {
            if self.committing.is_none() {
                if committed_last {
                    break;
                }
                committed_last = true;
                self.commit(self.clock.now());
                continue;
            }
            tokio::select! {
                Some(event) = self.store_events.recv() => self.on_store(event)?,
                () = tokio::time::sleep_until(deadline) => {
                    warn!("the last commit is not done in time; what it holds will be delivered again");
                    break;
                }
            }
        }
        self.pump();
        let leave = Duration::from_millis(500);
        for line in &self.sources {
            if let Some(acknowledger) = &line.acknowledger {
                acknowledger.disconnect();
            }
        }
        for line in self.sources {
            line.handle.stop(leave).await;
        }
        for forwarding in self.forwards.into_iter().flatten() {
            forwarding.stop(leave).await;
        }
        let (done, stopped) = oneshot::channel();
        self.committer.send(Job::Stop(done));
        if tokio::time::timeout(Duration::from_secs(2), stopped)
            .await
            .is_err()
        {
            warn!("the store is still busy; leaving it as after a crash");
        }
        info!("stopped");
        Ok(())
    }
}

/// Prints the rows of `print` sinks. A reader that has gone away must not end the process.
fn print_lines(lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
}
