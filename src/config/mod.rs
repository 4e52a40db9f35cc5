//! Floor 3: `headwater.toml`, checked: the deployment of a gateway. What the SQL says is not here.
//!
//! [`Config::parse`] is pure: text in, configuration or all its errors out, each with its place and a remedy.
//! [`load`] is the small part that touches files.
//!
//! Invariants: an unknown key is an error that names its nearest neighbour; a secret is never in the file, only the
//! name of where it is ([`Secret`]); every limit has a value.

mod file;
mod reader;

use std::path::PathBuf;
use std::time::Duration;

use crate::plan::{Diagnostic, Place};

pub use file::{LoadError, Loaded, load};
use reader::{Reader, Section};

/// The deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Brokers, in the order of their names.
    pub connections: Vec<Connection>,
    /// Where and how state is kept.
    pub state: State,
    /// When epochs are committed.
    pub commit: Commit,
    /// Bounds of memory.
    pub limits: Limits,
    /// What applies to connections that do not say otherwise.
    pub outbox: Outbox,
    /// How many unusable inputs are kept.
    pub dead_letters: DeadLetters,
    /// The SQL files: paths relative to the configuration file, `*` allowed in the last part.
    pub pipelines: Vec<String>,
    /// What is logged and how.
    pub log: Log,
}

/// A broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The name that the SQL refers to.
    pub name: String,
    /// Where it is declared.
    pub place: Place,
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is used.
    pub tls: bool,
    /// The client identifier, if one was given.
    pub client_id: Option<String>,
    /// The user name.
    pub username: Option<String>,
    /// Where the password is.
    pub password: Option<Secret>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and where its key is.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The longest silence before a ping.
    pub keep_alive: Duration,
    /// How many unacknowledged messages the broker may have in flight towards us.
    pub receive_maximum: u16,
    /// The largest packet we accept.
    pub max_packet_size_bytes: u32,
    /// How long the broker keeps our session while we are away.
    pub session_expiry: Duration,
    /// How many messages we have in flight towards the broker.
    pub in_flight: u16,
    /// The bound of what waits for this broker.
    pub outbox: Outbox,
}

/// Where a secret is: read by the runtime when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In this file.
    File(PathBuf),
    /// In the file of this name in `$CREDENTIALS_DIRECTORY`, as systemd's `LoadCredential=` places it.
    Credential(String),
}

/// Where and how state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The directory of the state file.
    pub dir: PathBuf,
    /// The cache of the state file; it is resident memory.
    pub cache_size_bytes: u64,
    /// Space held back for the day the disk is full.
    pub ballast_bytes: u64,
}

/// When an epoch is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// As soon as an acknowledgement waits for it; nothing acknowledged is ever lost.
    ExactlyOnce,
    /// Every interval only; input is acknowledged on arrival, and a crash loses what came since the last commit.
    Periodic,
}

/// When epochs are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// What a commit waits for.
    pub mode: CommitMode,
    /// The longest that a derived row, or input that nobody would send again, waits for its commit.
    pub interval: Duration,
    /// The longest that input waits of which nothing was derived, and which the broker would send again.
    pub quiet_interval: Duration,
    /// Bytes a day: beyond it rows wait until their commit is within it, up to the quiet interval. `None` for no bound.
    pub flash_budget_bytes: Option<u64>,
}

/// Bounds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Keys of one operator.
    pub max_keys: usize,
    /// `QoS` 0 messages that wait to be processed.
    pub qos0_queue_bytes: u64,
    /// A payload that is decoded.
    pub max_payload_bytes: u64,
    /// The memory of the process at which it takes no more input; half of the machine's if not said.
    pub memory_bytes: Option<u64>,
}

/// What happens when the outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// Input is no longer acknowledged, so that the broker holds it.
    Block,
    /// The oldest events are dropped and counted.
    DropOldest,
    /// The newest events are dropped and counted.
    DropNewest,
}

/// In which order the outbox empties after an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// In the order of creation.
    OldestFirst,
    /// New events first, the backlog in the gaps.
    LiveFirst,
}

/// The bound of what waits for a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// All that waits.
    pub limit_bytes: u64,
    /// Older events are dropped and counted.
    pub max_age: Option<Duration>,
    /// At the bound.
    pub policy: OverflowPolicy,
    /// After an outage.
    pub drain: Drain,
}

/// How many unusable inputs are kept; the oldest go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// All that is kept.
    pub limit_bytes: u64,
    /// How many are kept.
    pub max_count: usize,
}

/// The least important message that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// From which level on.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

const SECOND: Duration = Duration::from_secs(1);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

impl Default for Outbox {
    fn default() -> Self {
        Self {
            limit_bytes: 64 * MIB,
            max_age: None,
            policy: OverflowPolicy::Block,
            drain: Drain::OldestFirst,
        }
    }
}

impl Config {
    /// Reads the text of `file`. Gives all errors, in the order of their places.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut reader = Reader::new(file, text);
        let config = reader.root(|reader, root| {
            let outbox = root.section(reader, "outbox", |r, s| outbox(r, s, Outbox::default()));
            Self {
                connections: root.sections(reader, "connections", |r, s, name, place| {
                    connection(r, s, name, place, outbox)
                }),
                state: root.section(reader, "state", state),
                commit: root.section(reader, "commit", commit),
                limits: root.section(reader, "limits", limits),
                outbox,
                dead_letters: root.section(reader, "dead_letters", |r, s| DeadLetters {
                    limit_bytes: s.size(r, "limit", (KIB, TIB), 16 * MIB),
                    max_count: count(s.integer(r, "max_count", (1, 1 << 40), 100_000)),
                }),
                pipelines: root.section(reader, "pipelines", pipelines),
                log: root.section(reader, "log", log),
            }
        });
        match reader.finish() {
            problems if problems.is_empty() => config.ok_or_else(Vec::new),
            problems => Err(problems),
        }
    }
}

fn connection(
    r: &mut Reader<'_>,
    s: &mut Section<'_>,
    name: &str,
    place: Place,
    defaults: Outbox,
) -> Connection {
    s.refuse(r, "password", "a password does not belong into the configuration", "put it into a file and write password_file = \"path\", or credential = \"name\" for a systemd credential");
    let url = s.required(r, "url", |text| broker_url(&text));
    let (host, port, tls) = url.unwrap_or_default();
    let tls_known = !host.is_empty();
    let files = (s.file(r, "client_cert_file"), s.file(r, "client_key_file"));
    let ca_file = s.file(r, "ca_file");
    if tls_known && !tls {
        for key in ["ca_file", "client_cert_file", "client_key_file"] {
            if s.has(key) {
                s.report(
                    r,
                    key,
                    format!("{key} has no effect without TLS"),
                    "write url = \"mqtts://…\"",
                );
            }
        }
    }
    let client_certificate = match files {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => {
            s.report(
                r,
                "client_cert_file",
                "a client certificate needs its key",
                "add client_key_file = \"path\"",
            );
            None
        }
        (None, Some(_)) => {
            s.report(
                r,
                "client_key_file",
                "a client key needs its certificate",
                "add client_cert_file = \"path\"",
            );
            None
        }
        (None, None) => None,
    };
    let password = match (
        s.file(r, "password_file"),
        s.text(r, "credential", checked_credential),
    ) {
        (Some(_), Some(_)) => {
            s.report(
                r,
                "credential",
                "the password is given twice",
                "keep either password_file or credential",
            );
            None
        }
        (Some(path), None) => Some(Secret::File(path)),
        (None, Some(name)) => Some(Secret::Credential(name)),
        (None, None) => None,
    };
    let username = s.text(r, "username", Ok);
    if password.is_some() && username.is_none() {
        let key = if s.has("credential") {
            "credential"
        } else {
            "password_file"
        };
        s.report(
            r,
            key,
            "a password needs a user name",
            "add username = \"…\"",
        );
    }
    Connection {
        name: name.to_owned(),
        place,
        host,
        port,
        tls,
        client_id: s.text(r, "client_id", checked_client_id),
        username,
        password,
        ca_file,
        client_certificate,
        keep_alive: s.duration(r, "keep_alive", (5 * SECOND, 65_535 * SECOND), 30 * SECOND),
        receive_maximum: s.integer(r, "receive_maximum", (1, 65_535), 1_000) as u16,
        max_packet_size_bytes: s.size(r, "max_packet_size", (KIB, 256 * MIB - 1), MIB) as u32,
        session_expiry: s.duration(
            r,
            "session_expiry",
            (SECOND, u32::MAX * SECOND),
            7 * 86_400 * SECOND,
        ),
        in_flight: s.integer(r, "in_flight", (1, 1_000), 20) as u16,
        outbox: s.section(r, "outbox", |r, s| outbox(r, s, defaults)),
    }
}

/// `mqtt://host[:port]` or `mqtts://host[:port]` as host, port and whether it is TLS.
fn broker_url(url: &str) -> Result<(String, u16, bool), String> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or("a broker is written mqtt://host:1883 or mqtts://host:8883")?;
    let tls = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" | "tls" => true,
        other => {
            return Err(format!(
                "{other}:// is not supported: write mqtt:// or mqtts://"
            ));
        }
    };
    if rest.contains('@') {
        return Err(
            "user name and password do not belong into the url: write username and password_file"
                .to_owned(),
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("a broker's url ends after the port".to_owned());
    }
    let default_port = if tls { 8_883 } else { 1_883 };
    // An IPv6 address stands in brackets, so that its colons are not taken for the port's.
    let (host, port) = match rest
        .strip_prefix('[')
        .and_then(|inner| inner.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, port)) => (
            host,
            Some(
                port.strip_prefix(':')
                    .ok_or("after ] stands :port or nothing")?,
            ),
        ),
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        None => default_port,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("'{text}' is not a port (1 to 65535)")),
        },
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("the url names no host".to_owned());
    }
    Ok((host.to_owned(), port, tls))
}

fn checked_client_id(id: String) -> Result<String, String> {
    match id.len() {
        0 => Err("a client_id is not empty: leave the key out for the default".to_owned()),
        // MQTT 5, 1.5.4: a string has a length of two bytes.
        1..=65_535 if !id.contains('\0') => Ok(id),
        _ => Err("a client_id has at most 65535 bytes and no zero byte".to_owned()),
    }
}

fn checked_credential(name: String) -> Result<String, String> {
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err("a credential is a plain file name in $CREDENTIALS_DIRECTORY".to_owned());
    }
    Ok(name)
}

fn state(r: &mut Reader<'_>, s: &mut Section<'_>) -> State {
    State {
        dir: s.file(r, "dir").unwrap_or_else(|| PathBuf::from("state")),
        // Most commits touch some twenty pages. With four times as much no less is written, also with 100,000 keys.
        cache_size_bytes: s.size(r, "cache_size", (64 * KIB, 4 * GIB), 512 * KIB),
        ballast_bytes: s.size(r, "ballast", (0, 64 * GIB), 8 * MIB),
    }
}

fn commit(r: &mut Reader<'_>, s: &mut Section<'_>) -> Commit {
    const MODES: [(&str, CommitMode); 2] = [
        ("exactly-once", CommitMode::ExactlyOnce),
        ("periodic", CommitMode::Periodic),
    ];
    let interval = s.duration(r, "interval", (SECOND / 100, 3_600 * SECOND), SECOND);
    let quiet = (SECOND / 100, 3_600 * SECOND);
    let quiet_interval = s.duration(r, "quiet_interval", quiet, interval.max(60 * SECOND));
    if quiet_interval < interval {
        s.report(
            r,
            "quiet_interval",
            "quiet_interval is shorter than interval: input of which nothing was derived waits at least as long as rows",
            "write a longer quiet_interval, or a shorter interval",
        );
    }
    Commit {
        mode: s.choice(r, "mode", &MODES, CommitMode::ExactlyOnce),
        interval,
        quiet_interval,
        flash_budget_bytes: {
            let said = s.has("flash_budget");
            let bytes = s.size(r, "flash_budget", (MIB, TIB), MIB);
            said.then_some(bytes)
        },
    }
}

fn limits(r: &mut Reader<'_>, s: &mut Section<'_>) -> Limits {
    Limits {
        max_keys: count(s.integer(r, "max_keys", (1, 1 << 32), 100_000)),
        qos0_queue_bytes: s.size(r, "qos0_queue", (KIB, 4 * GIB), 4 * MIB),
        max_payload_bytes: s.size(r, "max_payload", (KIB, 256 * MIB), MIB),
        memory_bytes: {
            let said = s.has("memory");
            let bytes = s.size(r, "memory", (8 * MIB, TIB), 8 * MIB);
            said.then_some(bytes)
        },
    }
}

/// As many as this machine can count: a 32-bit one has no more than fit there.
fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn outbox(r: &mut Reader<'_>, s: &mut Section<'_>, defaults: Outbox) -> Outbox {
    const POLICIES: [(&str, OverflowPolicy); 3] = [
        ("block", OverflowPolicy::Block),
        ("drop-oldest", OverflowPolicy::DropOldest),
        ("drop-newest", OverflowPolicy::DropNewest),
    ];
    const DRAINS: [(&str, Drain); 2] = [
        ("oldest-first", Drain::OldestFirst),
        ("live-first", Drain::LiveFirst),
    ];
    let max_age = s
        .has("max_age")
        .then(|| s.duration(r, "max_age", (SECOND, u32::MAX * SECOND), SECOND))
        .or(defaults.max_age);
    s.knows("max_age");
    Outbox {
        limit_bytes: s.size(r, "limit", (64 * KIB, TIB), defaults.limit_bytes),
        max_age,
        policy: s.choice(r, "policy", &POLICIES, defaults.policy),
        drain: s.choice(r, "drain", &DRAINS, defaults.drain),
    }
}

fn pipelines(r: &mut Reader<'_>, s: &mut Section<'_>) -> Vec<String> {
    let default = || vec!["pipelines/*.sql".to_owned()];
    s.texts(r, "files", |pattern| {
        let folder = pattern.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.contains('*') {
            return Err("* may only stand in the last part of a path".to_owned());
        }
        if pattern.is_empty() || pattern.ends_with('/') {
            return Err("the path of a file is missing".to_owned());
        }
        Ok(pattern)
    })
    .unwrap_or_else(default)
}

fn log(r: &mut Reader<'_>, s: &mut Section<'_>) -> Log {
    const LEVELS: [(&str, LogLevel); 5] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        level: s.choice(r, "level", &LEVELS, LogLevel::Info),
        format: s.choice(r, "format", &FORMATS, LogFormat::Text),
    }
}

#[cfg(test)]
mod tests;
