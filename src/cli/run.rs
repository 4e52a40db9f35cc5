//! `run`: the pipelines at work.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use tokio::sync::mpsc;
use tracing::warn;

use super::load::{Pipeline, load, read, settings};
use super::log::{self, LogOptions};
use super::{ConfigArgument, Failure, LogStyle};
use crate::runtime::{Deployment, Order, RunError, run as run_pipeline};

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// How log messages are written; overrides the configuration
    #[arg(long, value_enum)]
    log: Option<LogStyle>,
    /// Forget the stored state of these queries where their definition has changed (--all for every one)
    #[arg(long, value_name = "QUERY", allow_hyphen_values = true)]
    reset: Vec<String>,
}

/// Runs until a signal comes.
pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let path = &arguments.config.config;
    let pipeline = load(path)?;
    log::start(&LogOptions::new(&pipeline.config.log, arguments.log));
    for warning in &pipeline.warnings {
        warn!("{warning}");
    }
    run_loaded(pipeline, &arguments.reset, || again(path), async {})
}

/// The files as they are now, for a reload; the log's level and format stay as they are.
pub(super) fn again(path: &Path) -> Result<Deployment, String> {
    let pipeline = read(path).map_err(|unusable| unusable.summary())?;
    for warning in &pipeline.warnings {
        warn!("{warning}");
    }
    deployment(pipeline).map_err(|error| format!("{error:#}"))
}

fn deployment(pipeline: Pipeline) -> anyhow::Result<Deployment> {
    Ok(Deployment {
        settings: settings(&pipeline.config)?,
        plan: pipeline.plan,
    })
}

/// Runs a pipeline until a signal comes, with what `reload` gives from SIGHUP on; `beside` runs in the same process
/// and ends with it.
pub(super) fn run_loaded(
    pipeline: Pipeline,
    reset: &[String],
    reload: impl FnMut() -> Result<Deployment, String>,
    beside: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let deployment = deployment(pipeline)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let ended = runtime.block_on(async {
        let running = run_pipeline(deployment, reset, signalled()?, reload);
        tokio::pin!(running);
        tokio::pin!(beside);
        let mut beside_done = false;
        loop {
            tokio::select! {
                ended = &mut running => break Ok::<_, anyhow::Error>(ended),
                () = &mut beside, if !beside_done => beside_done = true,
            }
        }
    })?;
    match ended {
        Err(error @ RunError::Restore(_)) => {
            eprintln!("headwater: {:#}", anyhow::Error::from(error));
            Err(Failure::Config)
        }
        other => Ok(other?),
    }
}

/// Orders by signal: SIGTERM and SIGINT stop, SIGHUP reloads.
fn signalled() -> anyhow::Result<mpsc::Receiver<Order>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?;
    let (sender, orders) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let order = tokio::select! {
                _ = terminate.recv() => Order::Stop,
                _ = interrupt.recv() => Order::Stop,
                _ = hangup.recv() => Order::Reload,
            };
            if sender.send(order).await.is_err() {
                return;
            }
        }
    });
    Ok(orders)
}
