//! `state`: looking after what is stored.

use clap::{Args, Subcommand};

use super::load::{load, settings};
use super::{ConfigArgument, Failure};
use crate::runtime::reset_state;

#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// Forget the stored state of queries whose definition has changed or gone; headwater must not be running
    Reset(ResetArguments),
}

#[derive(Debug, Args)]
pub(super) struct ResetArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The queries, as `run` names them
    #[arg(value_name = "QUERY", required_unless_present = "all")]
    queries: Vec<String>,
    /// Every query whose definition has changed or gone
    #[arg(long, conflicts_with = "queries")]
    all: bool,
}

pub(super) fn run(command: &StateCommand) -> Result<(), Failure> {
    let StateCommand::Reset(arguments) = command;
    let pipeline = load(&arguments.config.config)?;
    let settings = settings(&pipeline.config)?;
    let names = if arguments.all {
        vec!["--all".to_owned()]
    } else {
        arguments.queries.clone()
    };
    let epoch = reset_state(pipeline.plan, &settings, &names)?;
    println!("state reset in epoch {epoch}; the other queries keep theirs");
    Ok(())
}
