//! Floor 6: the process: clock, threads, tasks, signals, shutdown.
//!
//! One thread runs everything that waits (connections, engine, control socket); a second one owns the store and
//! waits for the disk. The engine runs on the first: a row takes about a microsecond, and handing it to another
//! thread would cost more than that.

mod clock;
pub mod commit;
mod committer;
mod control;
mod driver;
#[cfg(feature = "fault-injection")]
mod fault;
mod files;
mod forwarding;
pub mod machine;
mod memory;
mod offline;
mod status;
mod supervisor;
mod tables;

pub use clock::SystemClock;
pub use control::{Answer, Command, ControlError, Letter, ask, socket_path};
pub use forwarding::Drain;
pub use offline::{answer_offline, reset_state};
pub use tables::load_tables;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compact_str::ToCompactString as _;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use self::driver::{Driver, Ended};
use self::supervisor::Supervisor;
use self::tables::Tables;
use crate::engine::{
    ConnectionOptions, Engine, EngineOptions, LEAST_FOLD_BYTES, OutboxLimits, RestoreError,
    subscription_id,
};
use crate::mqtt::{Endpoint, ForwardOptions, SourceOptions, Subscription};
use crate::plan::{Plan, SinkConnector, SourceConnector};
use crate::store::{Recovered, RecoveryNote, Store, StoreError, StoreOptions};

/// What `run` needs to know beside the plan.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the state.
    pub state_dir: PathBuf,
    /// How the store is opened.
    pub store: StoreOptions,
    /// The broker connections, all that the plan names among them.
    pub connections: Vec<ConnectionSettings>,
    /// How long a derived row, or input that nobody would send again, may wait for its commit.
    pub commit_interval: Duration,
    /// How long input may wait of which nothing was derived, and which the broker would send again.
    pub quiet_interval: Duration,
    /// Bytes a day that commits may write before rows wait as long as that.
    pub flash_budget_bytes: Option<u64>,
    /// `commit.mode = "periodic"`: publishes are acknowledged on receipt.
    pub acknowledge_on_receipt: bool,
    /// Keys with state, for each operator.
    pub max_keys: usize,
    /// Payloads larger than this are dead letters.
    pub max_payload_bytes: usize,
    /// QoS 0 messages that wait, in bytes.
    pub qos0_limit_bytes: u64,
    /// The memory of the process at which no more input is taken; half of the machine's if not said.
    pub memory_limit_bytes: Option<u64>,
    /// How long a shutdown waits for the last commit.
    pub stop_patience: Duration,
}

/// A broker connection.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Its name.
    pub name: String,
    /// Where and how.
    pub endpoint: Endpoint,
    /// The client id of the source connection; the forward connection appends `-out`.
    pub client_id: String,
    /// The window that is advertised to the broker.
    pub receive_maximum: u16,
    /// How long the broker keeps the session.
    pub session_expiry: Duration,
    /// Publishes in flight upstream.
    pub in_flight: u16,
    /// The bounds of the outbox.
    pub outbox: OutboxLimits,
    /// Which rows go upstream first.
    pub drain: Drain,
}

/// Why `run` ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state cannot be opened or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state does not fit the pipeline.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
    /// The control socket could not be opened.
    #[error("the control socket {} could not be opened", path.display())]
    Control {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A reload could not end what ran before.
    #[error(
        "the last commit before the reload is not done in time; what it holds will be delivered again"
    )]
    Unfinished,
    /// A file that a sink writes is not as the last commit left it.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        detail: String,
    },
}

impl Settings {
    /// What the engine needs to know.
    pub fn engine_options(&self) -> EngineOptions {
        let connections = self.connections.iter().map(|connection| ConnectionOptions {
            name: connection.name.to_compact_string(),
            receive_maximum: connection.receive_maximum,
            outbox: connection.outbox,
        });
        EngineOptions {
            max_keys: self.max_keys,
            max_payload_bytes: self.max_payload_bytes,
            least_fold_bytes: LEAST_FOLD_BYTES,
            connections: connections.collect(),
        }
    }

    /// The source connections: those that some table reads from.
    fn sources(&self, engine: &Engine) -> Vec<SourceOptions> {
        let connections = self.connections.iter().enumerate();
        let options = connections.map(|(at, connection)| {
            let (subscriptions, tables) = subscriptions(engine.plan(), &connection.name);
            SourceOptions {
                name: connection.name.clone(),
                connection: at,
                endpoint: connection.endpoint.clone(),
                client_id: connection.client_id.clone(),
                receive_maximum: connection.receive_maximum,
                session_expiry: connection.session_expiry,
                qos0_limit_bytes: self.qos0_limit_bytes,
                acknowledge_on_receipt: self.acknowledge_on_receipt,
                subscriptions,
                tables,
                unsubscribe: engine.stale_filters(at),
            }
        });
        options
            .filter(|options| !options.subscriptions.is_empty())
            .collect()
    }

    /// The forward connections by connection: those that some query writes to, or whose outbox is not empty.
    fn forwards(&self, engine: &Engine) -> Vec<Option<(ForwardOptions, Drain)>> {
        let written = |name: &str| {
            engine
                .plan()
                .sinks
                .iter()
                .any(|sink| match &sink.connector {
                    SinkConnector::Mqtt { connection, .. } => connection == name,
                    _ => false,
                })
        };
        let connections = self.connections.iter().enumerate().map(|(at, connection)| {
            let wanted = written(&connection.name) || engine.outbox_rows(at) > 0;
            wanted.then(|| {
                let options = ForwardOptions {
                    name: connection.name.clone(),
                    connection: at,
                    endpoint: connection.endpoint.clone(),
                    client_id: format!("{}-out", connection.client_id),
                    in_flight: connection.in_flight,
                };
                (options, connection.drain)
            })
        });
        connections.collect()
    }
}

/// What is to be subscribed to on a connection, and the tables that want it.
fn subscriptions(plan: &Plan, connection: &str) -> (Vec<Subscription>, Vec<(String, Vec<String>)>) {
    let mut subscriptions: Vec<Subscription> = Vec::new();
    let mut tables = Vec::new();
    for source in &plan.sources {
        let SourceConnector::Mqtt {
            connection: name,
            filters,
            qos,
            retained,
        } = &source.connector
        else {
            continue;
        };
        if name != connection {
            continue;
        }
        tables.push((source.name.to_string(), filters.clone()));
        for filter in filters {
            match subscriptions
                .iter_mut()
                .find(|known| known.filter == *filter)
            {
                Some(known) => {
                    known.qos = known.qos.max(*qos);
                    known.retained |= *retained;
                }
                None => subscriptions.push(Subscription {
                    id: subscription_id(connection, filter),
                    filter: filter.clone(),
                    qos: *qos,
                    retained: *retained,
                }),
            }
        }
    }
    (subscriptions, tables)
}

/// Opens the state and makes an engine that goes on from it. Nothing is connected yet.
fn restore(
    plan: Arc<Plan>,
    settings: &Settings,
    reset: &[String],
) -> Result<(Engine, Store), RunError> {
    let (store, recovered) = Store::open(&settings.state_dir, &settings.store)?;
    report(&recovered);
    let options = settings.engine_options();
    let (mut engine, homeless) = commit::resume(plan, &options, recovered, reset)?;
    let totals = store.totals();
    engine.stored(totals.base_bytes, totals.delta_bytes);
    for chunk in homeless {
        warn!(
            connection = %chunk.connection,
            rows = chunk.rows,
            "the outbox holds events for a connection that is not configured any more; they stay until it is"
        );
    }
    Ok((engine, store))
}

fn report(recovered: &Recovered) {
    for note in &recovered.notes {
        match note {
            RecoveryNote::BallastFreed | RecoveryNote::NoBallast { .. } => warn!("{note}"),
            _ => error!("{note}"),
        }
    }
    if recovered.epoch > 0 {
        info!(
            epoch = recovered.epoch,
            outbox_chunks = recovered.outbox.len(),
            "going on from the stored state"
        );
    }
}

/// A plan and what it needs to run on this gateway.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The pipelines.
    pub plan: Arc<Plan>,
    /// Everything else.
    pub settings: Settings,
}

/// What somebody wants of the running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To commit, take leave, and end.
    Stop,
    /// To go on with the configuration and the pipelines as the files say now.
    Reload,
}

/// Runs a deployment until it is told to stop. Queries named in `reset` lose state that does not fit them any more.
///
/// On [`Order::Reload`] it asks `reload` for another deployment. If there is none, or if it cannot start on this state
/// (a query has changed), the one of before goes on, and why is said in the log and to the service manager.
pub async fn run(
    deployment: Deployment,
    reset: &[String],
    mut orders: mpsc::Receiver<Order>,
    mut reload: impl FnMut() -> Result<Deployment, String>,
) -> Result<(), RunError> {
    let clock = SystemClock::start();
    let mut supervisor = Supervisor::new();
    let mut current = deployment;
    let mut running = Running::start(&current, reset, clock)?;
    loop {
        info!(
            state = %current.settings.state_dir.display(),
            version = env!("CARGO_PKG_VERSION"),
            "running"
        );
        let ended = running
            .driver
            .run(&mut orders, &mut supervisor, &mut reload)
            .await;
        running.control.abort();
        // The socket is removed so that a client is told at once that nobody listens.
        let _ = std::fs::remove_file(socket_path(&current.settings.state_dir));
        let next = match ended? {
            Ended::Stopped => return Ok(()),
            Ended::Reload(next) => next,
        };
        running = match Running::start(&next, &[], clock) {
            Ok(running) => {
                supervisor.note(None);
                current = *next;
                running
            }
            Err(refused) => {
                let mut why = refused.to_string();
                let mut cause = std::error::Error::source(&refused);
                while let Some(error) = cause {
                    why = format!("{why}: {error}");
                    cause = error.source();
                }
                error!("reload refused, the pipelines of before go on: {why}");
                supervisor.note(Some(format!("reload refused: {why}")));
                Running::start(&current, &[], clock)?
            }
        };
    }
}

/// A deployment at work.
struct Running {
    driver: Driver,
    control: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Opens the state and begins to connect. What can fail for a reason in the deployment comes before the first
    /// commit, so that another deployment can still go on from the state as it was.
    fn start(
        deployment: &Deployment,
        reset: &[String],
        clock: SystemClock,
    ) -> Result<Self, RunError> {
        let Deployment { plan, settings } = deployment;
        if settings.acknowledge_on_receipt {
            warn!(
                interval = ?settings.commit_interval,
                "commit.mode = periodic: messages are acknowledged on receipt; a crash or a power cut loses what came \
                 since the last commit, at most one interval"
            );
        }
        let (mut engine, mut store) = restore(plan.clone(), settings, reset)?;
        // What the files of tables change is not to be in the commit below; whether they can be read is to be known.
        Tables::load(&mut Engine::new(plan.clone(), &settings.engine_options()))?;
        let lines = files::read(&engine)?;
        let listener =
            control::listen(&settings.state_dir).map_err(|source| RunError::Control {
                path: socket_path(&settings.state_dir),
                source,
            })?;
        if files::settle(&engine)? {
            let sealed = engine.seal(clock.now());
            store.commit(&commit::epoch_commit(
                &settings.engine_options(),
                sealed,
                Vec::new(),
            ))?;
            engine.committed();
        }
        engine.started(clock.now());
        let tables = Tables::load(&mut engine)?;
        let (sender, commands) = mpsc::channel(1);
        let driver = Driver::new(
            Arc::new(settings.clone()),
            clock,
            engine,
            (tables, lines),
            store,
            commands,
        )?;
        Ok(Self {
            driver,
            control: tokio::spawn(control::serve(listener, sender)),
        })
    }
}
