//! `demo`: an embedded broker, a simulated plant, and the shipped example over it, through the code path of `run`.

mod broker;
mod plant;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mqtt5::{ConnectOptions, MqttClient};

use super::Failure;
use super::load::load;
use super::log::{self, LogOptions};
use super::run::{again, run_loaded};
use crate::config::{Log, LogFormat, LogLevel};

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Where the demo keeps its files; starting it again goes on from there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The port of the embedded broker, on this machine only
    #[arg(long, default_value_t = 18830)]
    port: u16,
    /// Show the log of headwater as well
    #[arg(long, short)]
    verbose: bool,
}

/// The shipped example; `config/headwater.toml` runs the same one.
const PIPELINE: &str = include_str!("../../../config/pipelines/plant.sql");

pub(super) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let dir = arguments.dir.clone().unwrap_or_else(default_dir);
    let config = write_files(&dir, arguments.port)
        .with_context(|| format!("cannot write the demo's files to {}", dir.display()))?;
    let pipeline = load(&config)?;
    let level = if arguments.verbose {
        LogLevel::Info
    } else {
        LogLevel::Error
    };
    log::start(&LogOptions::new(
        &Log {
            level,
            format: LogFormat::Text,
        },
        None,
    ));
    introduce(&dir, &config, arguments.port);
    let port = arguments.port;
    let ended = run_loaded(pipeline, &[], || again(&config), async move {
        if let Err(error) = beside(port, &dir.join("broker")).await {
            eprintln!("headwater: the demo's surroundings failed: {error:#}");
        }
    });
    println!(
        "\nStopped. What was committed stays; start the demo again and it goes on from there."
    );
    ended
}

fn default_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    state
        .or(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("headwater-demo")
}

/// Writes what a user would write: a configuration and a pipeline. A pipeline that was edited is kept.
fn write_files(dir: &Path, port: u16) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(dir.join("pipelines"))?;
    let pipeline = dir.join("pipelines/plant.sql");
    if !pipeline.exists() {
        std::fs::write(pipeline, PIPELINE)?;
    }
    let config = dir.join("headwater.toml");
    let text = format!(
        "# Made by `headwater demo`. The sources and the upstream are the same embedded broker here.\n\
         [connections.plant]\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"headwater-demo\"\n\n\
         [connections.upstream]\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"headwater-demo-upstream\"\n\n\
         [state]\ndir = \"state\"\n\n\
         [pipelines]\nfiles = [\"pipelines/*.sql\"]\n"
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

fn introduce(dir: &Path, config: &Path, port: u16) {
    println!(
        "headwater demo\n\
         \x20 an MQTT broker on 127.0.0.1:{port}, six pumps and three cold rooms that report to it,\n\
         \x20 and the queries in {dir}/pipelines/plant.sql over them.\n\
         Watch pump-3 (a bearing wears), room-2 (a door stays open) and pump-5 (a sensor that fails now and then).\n\
         What comes out goes back to the broker under derived/ and alerts/, and is shown here; the first windows\n\
         close after about 15 seconds. In another terminal you can\n\
         \x20 look at the plan:           headwater explain --config {config}\n\
         \x20 look at unusable input:     headwater dead-letters list --config {config}\n\
         \x20 subscribe yourself:         mosquitto_sub -p {port} -t 'alerts/#' -v\n\
         Ctrl-C stops it.\n",
        dir = dir.display(),
        config = config.display(),
    );
}

/// The broker, the plant, and somebody who watches what comes out.
async fn beside(port: u16, broker_dir: &Path) -> anyhow::Result<()> {
    let broker = broker::start(port, broker_dir).await?;
    let watcher = client("demo-watcher", port).await?;
    for topic in ["derived/#", "alerts/#"] {
        watcher
            .subscribe(topic, |message| show(&message.topic, &message.payload))
            .await?;
    }
    let publisher = client("demo-plant", port).await?;
    tokio::select! {
        ended = plant::run(&publisher) => ended,
        ended = broker => ended,
    }
}

async fn client(id: &str, port: u16) -> anyhow::Result<MqttClient> {
    let options = ConnectOptions::new(id)
        .with_clean_start(true)
        .with_keep_alive(Duration::from_secs(30));
    let client = MqttClient::with_options(options);
    let address = format!("mqtt://127.0.0.1:{port}");
    client
        .connect(&address)
        .await
        .with_context(|| format!("{id} cannot connect to {address}"))?;
    Ok(client)
}

fn show(topic: &str, payload: &[u8]) {
    let payload = String::from_utf8_lossy(payload);
    let alert = topic.starts_with("alerts/");
    let (on, off) = match (alert, std::io::stdout().is_terminal()) {
        (true, true) => ("\x1b[1;31m", "\x1b[0m"),
        _ => ("", ""),
    };
    println!(
        "{on}{} {topic:<24} {payload}{off}",
        if alert { "ALERT" } else { "     " }
    );
}
