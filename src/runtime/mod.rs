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
mod files;
mod forwarding;
mod offline;
mod status;
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
use tracing::{info, warn};

use self::driver::Driver;
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
    /// The longest a change waits for its commit.
    pub commit_interval: Duration,
    /// `commit.mode = "periodic"`: publishes are acknowledged on receipt.
    pub acknowledge_on_receipt: bool,
    /// Keys with state, for each operator.
    pub max_keys: usize,
    /// Payloads larger than this are dead letters.
    pub max_payload_bytes: usize,
    /// QoS 0 messages that wait, in bytes.
    pub qos0_limit_bytes: u64,
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
    let (engine, homeless) = commit::resume(plan, &options, recovered, reset)?;
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
            _ => tracing::error!("{note}"),
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

/// Runs a pipeline until `shutdown` resolves. Queries named in `reset` lose state that does not fit them any more.
/// `ready` is called when the state is open and the connections are being made.
pub async fn run(
    plan: Arc<Plan>,
    settings: Settings,
    reset: &[String],
    shutdown: impl Future<Output = ()> + Unpin,
    ready: impl FnOnce(),
) -> Result<(), RunError> {
    if settings.acknowledge_on_receipt {
        warn!(
            interval = ?settings.commit_interval,
            "commit.mode = periodic: messages are acknowledged on receipt; a crash or a power cut loses what came since \
             the last commit, at most one interval"
        );
    }
    let (mut engine, mut store) = restore(plan, &settings, reset)?;
    if files::settle(&engine)? {
        let sealed = engine.seal(SystemClock::start().now());
        store.commit(&commit::epoch_commit(
            &settings.engine_options(),
            sealed,
            Vec::new(),
        ))?;
        engine.committed();
    }
    let tables = Tables::load(&mut engine)?;
    let path = socket_path(&settings.state_dir);
    let listener = control::listen(&settings.state_dir).map_err(|source| RunError::Control {
        path: path.clone(),
        source,
    })?;
    let (sender, commands) = tokio::sync::mpsc::channel(1);
    let control = tokio::spawn(control::serve(listener, sender));
    let driver = Driver::new(
        Arc::new(settings),
        SystemClock::start(),
        engine,
        tables,
        store,
        commands,
    )?;
    ready();
    let ended = driver.run(shutdown).await;
    control.abort();
    // The socket is removed so that a client is told at once that nobody listens.
    let _ = std::fs::remove_file(path);
    ended
}
