//! `run`: the pipelines at work.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tracing::{info, warn};

use super::load::{Pipeline, load, settings};
use super::log::{self, LogOptions};
use super::{ConfigArgument, Failure, LogStyle};
use crate::runtime::{RunError, run as run_pipeline};

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
    let pipeline = load(&arguments.config.config)?;
    log::start(&LogOptions::new(&pipeline.config.log, arguments.log));
    for warning in &pipeline.warnings {
        warn!("{warning}");
    }
    run_loaded(pipeline, &arguments.reset, async {})
}

/// Runs a pipeline until a signal comes; `beside` runs in the same process and ends with it.
pub(super) fn run_loaded(
    pipeline: Pipeline,
    reset: &[String],
    beside: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let settings = settings(&pipeline.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let state_dir: PathBuf = settings.state_dir.clone();
    let ended = runtime.block_on(async {
        let shutdown = Box::pin(signalled()?);
        let ready =
            || info!(state = %state_dir.display(), version = env!("CARGO_PKG_VERSION"), "running");
        let running = run_pipeline(pipeline.plan, settings, reset, shutdown, ready);
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

/// Resolves at the first SIGTERM or SIGINT.
fn signalled() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
