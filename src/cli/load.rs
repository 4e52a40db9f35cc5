//! From files to a plan and settings, with every error on the way printed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::Failure;
use crate::config::{self, CommitMode, Config, Connection, LoadError, OverflowPolicy, Secret};
use crate::engine::{OutboxLimits, Policy};
use crate::mqtt::{Credentials, Endpoint, Tls};
use crate::plan::{Diagnostic, Plan, SinkConnector};
use crate::runtime::{ConnectionSettings, Drain, Settings};
use crate::sql::{self, Catalog};
use crate::store::StoreOptions;

/// A configuration and the plan of its pipelines.
pub(super) struct Pipeline {
    pub(super) config: Config,
    pub(super) plan: Arc<Plan>,
    pub(super) warnings: Vec<Diagnostic>,
    /// Names and texts of the pipelines.
    #[cfg(feature = "test-command")]
    pub(super) texts: Vec<(String, String)>,
}

/// Why files cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// They have errors.
    Problems(Vec<Diagnostic>),
    /// They could not be found or read.
    Files(LoadError),
}

impl Unusable {
    /// The first error, and how many more there are.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Files(error) => error.to_string(),
            Self::Problems(problems) => {
                let first = problems.first().map(ToString::to_string);
                let first = first.unwrap_or_default();
                match problems.len() {
                    0 | 1 => first,
                    many => format!("{first} (and {} more: headwater check)", many - 1),
                }
            }
        }
    }
}

/// Reads and checks the configuration at `path` and all pipelines it names. Errors have been printed.
pub(super) fn load(path: &Path) -> Result<Pipeline, Failure> {
    read(path).map_err(|unusable| match unusable {
        Unusable::Problems(problems) => print(&problems, "error"),
        Unusable::Files(error @ LoadError::NoPipeline { .. }) => {
            eprintln!("headwater: {error}");
            Failure::Config
        }
        Unusable::Files(error) => error.into(),
    })
}

/// Reads and checks the configuration at `path` and all pipelines it names.
pub(super) fn read(path: &Path) -> Result<Pipeline, Unusable> {
    // What parses goes deep, once; the pages of that stack would stay in memory if it were that of the main thread.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    std::thread::scope(
        |scope| match thread.spawn_scoped(scope, || read_here(path)) {
            Ok(reading) => reading
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => read_here(path),
        },
    )
}

/// The stack for reading; that of a main thread.
const STACK_BYTES: usize = 8 << 20;

fn read_here(path: &Path) -> Result<Pipeline, Unusable> {
    let loaded = config::load(path).map_err(|error| match error {
        LoadError::Invalid(problems) => Unusable::Problems(problems),
        error => Unusable::Files(error),
    })?;
    let connections = loaded
        .config
        .connections
        .iter()
        .map(|c| c.name.clone())
        .collect();
    match sql::compile(&loaded.pipelines, &Catalog { connections }) {
        Ok((plan, mut warnings)) => Ok(Pipeline {
            warnings: {
                warnings.extend(retained_out_of_order(&loaded.config, &plan));
                warnings
            },
            config: loaded.config,
            plan: Arc::new(plan),
            #[cfg(feature = "test-command")]
            texts: loaded.pipelines,
        }),
        Err(problems) => Err(Unusable::Problems(problems)),
    }
}

/// A warning for each table whose last message the broker is to keep, though the last one that is sent is not the newest.
fn retained_out_of_order(config: &Config, plan: &Plan) -> Vec<Diagnostic> {
    let live_first = |name: &str| {
        let mut connections = config.connections.iter();
        let found = connections.find(|connection| connection.name == name);
        found.is_some_and(|connection| connection.outbox.drain == config::Drain::LiveFirst)
    };
    let sinks = plan.sinks.iter().filter(|sink| match &sink.connector {
        SinkConnector::Mqtt {
            connection, retain, ..
        } => *retain && live_first(connection),
        SinkConnector::Print | SinkConnector::Filesystem { .. } => false,
    });
    let warnings = sinks.map(|sink| Diagnostic {
        place: sink.place.clone(),
        message: format!(
            "after an outage the broker would keep an old message of {} as the last one: its connection sends what is live \
             first, and what has waited behind it",
            sink.name
        ),
        hint: Some(
            "remove 'retain', or drain = \"live-first\" from the connection, or give the table a connection of its own"
                .to_owned(),
        ),
    });
    warnings.collect()
}

/// Prints problems to standard error, each with its place and what to do.
pub(super) fn print(problems: &[Diagnostic], kind: &str) -> Failure {
    for problem in problems {
        eprintln!("{}: {kind}: {}", problem.place, problem.message);
        if let Some(hint) = &problem.hint {
            eprintln!("  hint: {hint}");
        }
    }
    Failure::Config
}

/// What the runtime needs. Reads the secrets and certificates that the configuration names.
pub(super) fn settings(config: &Config) -> anyhow::Result<Settings> {
    let connections = config
        .connections
        .iter()
        .map(connection)
        .collect::<anyhow::Result<_>>()?;
    Ok(Settings {
        state_dir: config.state.dir.clone(),
        store: store_options(config),
        connections,
        commit_interval: config.commit.interval,
        quiet_interval: config.commit.quiet_interval,
        flash_budget_bytes: config.commit.flash_budget_bytes,
        acknowledge_on_receipt: config.commit.mode == CommitMode::Periodic,
        max_keys: config.limits.max_keys,
        max_payload_bytes: config.limits.max_payload_bytes as usize,
        qos0_limit_bytes: config.limits.qos0_queue_bytes,
        memory_limit_bytes: config.limits.memory_bytes,
        stop_patience: Duration::from_secs(3),
    })
}

fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        cache_bytes: usize::try_from(config.state.cache_size_bytes).unwrap_or(usize::MAX),
        ballast_bytes: config.state.ballast_bytes,
        dead_letters_limit_bytes: config.dead_letters.limit_bytes,
        dead_letters_limit_count: config.dead_letters.max_count as u64,
        ..StoreOptions::default()
    }
}

fn connection(connection: &Connection) -> anyhow::Result<ConnectionSettings> {
    let name = &connection.name;
    let tls = if connection.tls {
        let client = connection.client_certificate.as_ref();
        let client = client.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let tls = Tls::load(connection.ca_file.as_deref(), client);
        Some(tls.with_context(|| format!("connection `{name}`"))?)
    } else {
        None
    };
    let credentials = match (&connection.username, &connection.password) {
        (Some(username), password) => {
            let password = match password {
                Some(secret) => read_secret(secret)
                    .with_context(|| format!("the password of connection `{name}`"))?,
                None => Vec::new(),
            };
            Some(Credentials {
                username: username.clone(),
                password,
            })
        }
        (None, _) => None,
    };
    let outbox = &connection.outbox;
    Ok(ConnectionSettings {
        name: name.clone(),
        endpoint: Endpoint {
            host: connection.host.clone(),
            port: connection.port,
            credentials,
            tls,
            keep_alive: connection.keep_alive,
            max_packet_bytes: connection.max_packet_size_bytes,
        },
        client_id: match &connection.client_id {
            Some(id) => id.clone(),
            None => default_client_id(name),
        },
        receive_maximum: connection.receive_maximum,
        session_expiry: connection.session_expiry,
        in_flight: connection.in_flight,
        outbox: OutboxLimits {
            limit_bytes: outbox.limit_bytes,
            max_age_micros: outbox.max_age.map(|age| age.as_micros() as u64),
            policy: match outbox.policy {
                OverflowPolicy::Block => Policy::Block,
                OverflowPolicy::DropOldest => Policy::DropOldest,
                OverflowPolicy::DropNewest => Policy::DropNewest,
            },
        },
        drain: match outbox.drain {
            config::Drain::OldestFirst => Drain::OldestFirst,
            config::Drain::LiveFirst => Drain::LiveFirst,
        },
    })
}

/// The same on every start of this machine: the broker keeps our session under it.
fn default_client_id(connection: &str) -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "gateway" } else { host };
    format!("headwater-{host}-{connection}")
}

fn read_secret(secret: &Secret) -> anyhow::Result<Vec<u8>> {
    let path = match secret {
        Secret::File(path) => path.clone(),
        Secret::Credential(name) => {
            let dir = std::env::var_os("CREDENTIALS_DIRECTORY").context(
                "$CREDENTIALS_DIRECTORY is not set: systemd sets it for a unit with LoadCredential=; \
                 otherwise use password_file",
            )?;
            Path::new(&dir).join(name)
        }
    };
    let mut bytes =
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // Editors end a file with a line end; no password ends with one.
    while bytes
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    Ok(bytes)
}
