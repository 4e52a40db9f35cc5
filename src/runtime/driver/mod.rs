//! The loop of `run`: it moves data between the connections, the engine and the store, and decides nothing that the
//! engine can decide.
//!
//! Order of things, which is the promise: an epoch is sealed, committed by the store's thread, and only then are its
//! publishes acknowledged and its rows sent or printed. The next epoch runs meanwhile; input stops being taken when
//! an outbox that blocks is full, when the disk has stalled, or when an epoch has grown large before the one
//! before it is committed. What is not taken stays with the broker (QoS 1) or is dropped and counted (QoS 0).

mod commands;
mod health;
mod input;
mod output;
mod pace;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::ToCompactString as _;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::engine::{Clock, Engine, Pacer, SealedEpoch};
use crate::mqtt::{Forward, ForwardEvent, Inbox, SourceConnection, SourceEvent, SourceLink};
use crate::plan::SinkConnector;
use crate::runtime::clock::SystemClock;
use crate::runtime::commit::epoch_commit;
use crate::runtime::committer::{Committer, FileAppend, Job, StoreEvent};
use crate::runtime::control::{Answer, Command};
use crate::runtime::files::Line;
use crate::runtime::forwarding::Forwarding;
use crate::runtime::memory::{self, Budget, Usage};
use crate::runtime::status::{Rates, Summary};
use crate::runtime::supervisor::{Supervisor, Watch};
use crate::runtime::tables::Tables;
use crate::runtime::{Deployment, Order, RunError, Settings};
use crate::store::{OutboxChunk, Store};
use pace::{Changes, FlashWear};

/// Messages taken in one go before the other tasks get their turn.
const BATCH: usize = 256;
/// Rows and dead letters waiting for the next epoch beyond this keep input out while a commit is under way.
const EPOCH_LIMIT_BYTES: u64 = 1 << 20;
/// How often it is looked whether the client has room for further acknowledgements.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);
/// Acknowledgements for which their list keeps its room.
const KEPT_ACKNOWLEDGEMENTS: usize = 1_024;
/// How long a reload waits for the last commit before it: longer than a stop, because the state is opened again.
const RELOAD_PATIENCE: Duration = Duration::from_secs(20);

/// Why the loop has ended.
pub(super) enum Ended {
    /// It was told to stop.
    Stopped,
    /// This is to run from now on.
    Reload(Box<Deployment>),
}

/// Everything `run` works with.
pub(super) struct Driver {
    settings: Arc<Settings>,
    clock: SystemClock,
    engine: Engine,
    tables: Tables,
    committer: Committer,
    store_events: mpsc::UnboundedReceiver<StoreEvent>,
    inbox: Arc<Inbox>,
    input: mpsc::UnboundedReceiver<SourceEvent>,
    files: mpsc::Receiver<Line>,
    sources: Vec<SourceLine>,
    forwards: Vec<Option<Forwarding>>,
    forward_events: mpsc::UnboundedReceiver<ForwardEvent>,
    commands: mpsc::Receiver<(Command, oneshot::Sender<Answer>)>,
    /// The epoch that is being committed.
    committing: Option<InFlight>,
    stalled: bool,
    /// Publishes to acknowledge after the epoch that runs now.
    to_acknowledge: Vec<Receipt>,
    dead_remove: Vec<u64>,
    changes: Changes,
    flash: FlashWear,
    summary: Summary,
    rates: Rates,
    budget: Budget,
    usage: Usage,
    measured_at: u64,
    clock_doubted: bool,
    store_watch: Watch,
}

/// A source connection as the driver sees it.
struct SourceLine {
    connection: usize,
    handle: SourceConnection,
    link: Option<SourceLink>,
    /// Publishes of the network connection that is up that are to be acknowledged, by packet id, in their order: as far
    /// as the client has no room for them. As many as the broker has sent without acknowledgement.
    acknowledgements: VecDeque<u16>,
    /// The epoch that has to be durable before a new session subscribes.
    subscribe_after: Option<u64>,
    pacer: Pacer,
    /// The broker's window that was told to people.
    told_window: Option<usize>,
    watch: Watch,
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
    chunks: Vec<(usize, u64, Bytes)>,
    lines: Vec<String>,
}

impl Driver {
    pub(super) fn new(
        settings: Arc<Settings>,
        clock: SystemClock,
        engine: Engine,
        (tables, files): (Tables, mpsc::Receiver<Line>),
        store: Store,
        commands: mpsc::Receiver<(Command, oneshot::Sender<Answer>)>,
    ) -> Result<Self, RunError> {
        let (store_sender, store_events) = mpsc::unbounded_channel();
        let committer = Committer::start(store, store_sender).map_err(RunError::Thread)?;
        let (inbox, input) = Inbox::new();
        let (forward_sender, forward_events) = mpsc::unbounded_channel();
        let micros = |interval: Duration| interval.as_micros() as u64;
        let (interval, quiet) = (
            micros(settings.commit_interval),
            micros(settings.quiet_interval),
        );
        let sources = settings
            .sources(&engine)
            .into_iter()
            .map(|options| SourceLine {
                connection: options.connection,
                link: None,
                acknowledgements: VecDeque::new(),
                subscribe_after: None,
                pacer: Pacer::new(usize::from(options.receive_maximum), interval, quiet),
                told_window: None,
                watch: Watch::default(),
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
        let now = clock.now().steady_micros;
        let limit_bytes = settings.memory_limit_bytes;
        let flash = FlashWear::new(&settings, now);
        let mut changes = Changes::new(&settings);
        if engine.has_changes() {
            // What a table's file has changed while nothing ran.
            changes.note(now);
        }
        Ok(Self {
            forwards: forwards.collect(),
            summary: Summary::new(now),
            rates: Rates::new(now),
            budget: Budget::new(limit_bytes.unwrap_or_else(|| memory::machine_bytes() / 2)),
            usage: Usage::measure(),
            measured_at: now,
            clock_doubted: false,
            store_watch: Watch::default(),
            settings,
            files,
            clock,
            engine,
            tables,
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
            dead_remove: Vec::new(),
            changes,
            flash,
        })
    }

    /// Runs until it is told to stop or to make way, then commits once more and takes leave.
    pub(super) async fn run(
        mut self,
        orders: &mut mpsc::Receiver<Order>,
        supervisor: &mut Supervisor,
        reload: &mut impl FnMut() -> Result<Deployment, String>,
    ) -> Result<Ended, RunError> {
        supervisor.ready(&self.status(self.clock.now()));
        let ended = loop {
            let now = self.clock.now();
            self.collect_drops();
            self.measure(now);
            if supervisor.due() <= now.steady_micros {
                let (status, moves) = (self.status(now), self.moves(now, supervisor.patience()));
                supervisor.report(now.steady_micros, &status, moves);
            }
            if self
                .engine
                .next_tick()
                .is_some_and(|due| due <= now.steady_micros)
            {
                self.engine.tick(now);
                if self.engine.has_changes() {
                    self.changes.note_quiet(now.steady_micros);
                }
            }
            if self
                .tables
                .look_at()
                .is_some_and(|due| due <= now.steady_micros)
            {
                self.tables.look(&mut self.engine, now.steady_micros);
                if self.engine.has_changes() {
                    self.changes.note_quiet(now.steady_micros);
                }
            }
            if self.engine.any_expired(now) || self.engine.epoch_bytes() > 0 {
                self.changes.note_rows(now.steady_micros);
            }
            self.commit_if_due(now);
            self.pump();
            let wake = self.next_wake(now, supervisor.due());
            let takes_input = self.takes_input();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Reload) => {
                        if let Some(next) = self.reload(supervisor, reload) {
                            break Ended::Reload(next);
                        }
                    }
                    Some(Order::Stop) | None => break Ended::Stopped,
                },
                Some(event) = self.store_events.recv() => self.on_store(event)?,
                Some(event) = self.forward_events.recv() => {
                    self.on_forward(event);
                    while let Ok(event) = self.forward_events.try_recv() {
                        self.on_forward(event);
                    }
                }
                Some((command, reply)) = self.commands.recv() => self.on_command(command, reply),
                Some(event) = self.input.recv(), if takes_input => self.on_input(event),
                Some(line) = self.files.recv(), if takes_input => self.take_line(&line),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if self.summary.is_due(now.steady_micros) {
                self.summarise(now);
            }
        };
        match ended {
            Ended::Stopped => {
                supervisor.stopping();
                let patience = self.settings.stop_patience;
                self.stop(patience).await?;
                Ok(Ended::Stopped)
            }
            Ended::Reload(next) => {
                if self.stop(RELOAD_PATIENCE).await? {
                    Ok(Ended::Reload(next))
                } else {
                    Err(RunError::Unfinished)
                }
            }
        }
    }

    fn takes_input(&mut self) -> bool {
        if self.stalled || self.budget.is_reached() || !self.engine.has_room() {
            return false;
        }
        self.committing.is_none() || self.engine.epoch_bytes() < EPOCH_LIMIT_BYTES
    }

    fn next_wake(&self, now: Clock, report_due: u64) -> std::time::Instant {
        let mut wake = report_due.min(now.steady_micros + 1_000_000);
        if self.budget.is_reached() {
            wake = wake.min(now.steady_micros + health::MEASURE_INTERVAL_MICROS);
        }
        if self.committing.is_none() {
            wake = wake.min(self.commit_due().unwrap_or(wake));
        }
        if let Some(tick) = self.engine.next_tick() {
            wake = wake.min(tick.max(now.steady_micros + 10_000));
        }
        if self.has_acknowledgements() {
            wake = wake.min(now.steady_micros + ROOM_INTERVAL.as_micros() as u64);
        }
        self.clock.instant(wake)
    }

    /// Seals the epoch and hands it to the store.
    fn commit(&mut self, now: Clock) {
        for line in &mut self.sources {
            line.pacer.commit_begins(now.steady_micros);
            line.pacer.sealed();
        }
        self.changes.sealed();
        let receipts = std::mem::take(&mut self.to_acknowledge);
        if !self.engine.has_changes() && self.dead_remove.is_empty() {
            self.acknowledge(receipts);
            return;
        }
        let mut sealed = self.engine.seal(now);
        let files = self.files(&mut sealed);
        let local = std::mem::take(&mut sealed.local);
        let lines = local.into_iter().map(|row| row.line).collect();
        let commit = epoch_commit(
            &self.settings.engine_options(),
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

    fn summarise(&mut self, now: Clock) {
        let up = self.forwards.iter().flatten().filter(|f| f.is_up()).count();
        let connected = self
            .sources
            .iter()
            .filter(|line| line.link.is_some())
            .count();
        let flash = self.flash.bytes_per_day(now.steady_micros);
        self.summary.log(
            now,
            &mut self.engine,
            (connected, self.sources.len()),
            up,
            flash,
        );
        self.say_windows();
    }

    /// Takes no more input, commits what was processed, acknowledges it, and takes leave of the brokers. Returns whether
    /// the store is closed.
    async fn stop(mut self, patience: Duration) -> Result<bool, RunError> {
        info!("stopping");
        for line in &self.sources {
            line.handle.about_to_stop();
        }
        let deadline = tokio::time::Instant::now() + patience;
        let mut committed_last = false;
        let in_time = loop {
            if self.committing.is_none() {
                if committed_last {
                    break true;
                }
                committed_last = true;
                self.commit(self.clock.now());
                continue;
            }
            tokio::select! {
                Some(event) = self.store_events.recv() => self.on_store(event)?,
                () = tokio::time::sleep_until(deadline) => {
                    warn!("the last commit is not done in time; what it holds will be delivered again");
                    break false;
                }
            }
        };
        self.collect_drops();
        self.summarise(self.clock.now());
        self.pump();
        let leave = Duration::from_millis(500);
        let until = tokio::time::Instant::now() + leave;
        while self.has_acknowledgements() && tokio::time::Instant::now() < until {
            tokio::time::sleep(ROOM_INTERVAL).await;
            self.pump();
        }
        for line in &self.sources {
            if let Some(link) = &line.link {
                link.disconnect();
            }
        }
        for line in self.sources {
            line.handle.stop(leave).await;
        }
        for forwarding in self.forwards.into_iter().flatten() {
            forwarding.stop(leave).await;
        }
        // A store that is still at that commit is left as after a crash: a supervisor waits for five seconds.
        let (done, stopped) = oneshot::channel();
        self.committer.send(Job::Stop(done));
        let left = deadline
            .saturating_duration_since(tokio::time::Instant::now())
            .max(Duration::from_secs(1));
        let closed = in_time && tokio::time::timeout(left, stopped).await.is_ok();
        if in_time && !closed {
            warn!("the store is still busy; leaving it as after a crash");
        }
        info!("stopped");
        Ok(closed)
    }
}
