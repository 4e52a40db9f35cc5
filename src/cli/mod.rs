//! Floor 7: the commands.
//!
//! Exit status: 0 for success, 1 for a failure at work, 2 for a wrong command line, 3 for warnings of `doctor`, 78 (`EX_CONFIG`) for a
//! configuration or pipeline with errors, so that a supervisor does not start it again and again.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod check;
mod dead_letters;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod load;
mod log;
mod recording;
mod replay;
mod run;
mod state;
#[cfg(feature = "test-command")]
pub mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The status for a configuration with errors (sysexits.h).
const EX_CONFIG: u8 = 78;

/// Exactly-once streaming SQL for sensor gateways: MQTT in, standing queries, MQTT out.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the pipelines until SIGTERM or Ctrl-C
    Run(run::RunArguments),
    /// Report every error in the configuration and the pipelines; connects to nothing
    Check(ConfigArgument),
    /// Print what the pipelines do, as a tree
    Explain(ConfigArgument),
    /// Run the pipelines over recorded messages and print the derived rows as JSON lines
    Replay(replay::ReplayArguments),
    /// Feed rows to the pipelines from test files, and compare what comes out
    #[cfg(feature = "test-command")]
    Test(test::TestArguments),
    /// Look at the machine and the brokers, and say what to change
    Doctor(doctor::DoctorArguments),
    /// Look at, send again or remove inputs that could not be used
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Look after the stored state
    #[command(subcommand)]
    State(state::StateCommand),
    /// Try it: an embedded broker, a simulated plant, and the example pipeline over it
    #[cfg(feature = "demo")]
    Demo(demo::DemoArguments),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigArgument {
    /// The configuration file
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "/etc/headwater/headwater.toml"
    )]
    config: PathBuf,
}

/// How log messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogStyle {
    /// Lines for people and for journald
    Text,
    /// JSON objects, one a line
    Json,
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// The files have errors, which have been printed.
    Config,
    /// Something else, to be printed.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// The command line as clap knows it, for man pages and completions.
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments.config),
        Command::Explain(arguments) => check::explain(&arguments.config),
        Command::Replay(arguments) => replay::replay(&arguments),
        #[cfg(feature = "test-command")]
        Command::Test(arguments) => test::test(&arguments),
        Command::Doctor(arguments) => match doctor::run(&arguments) {
            Ok(status) => return status,
            Err(failure) => Err(failure),
        },
        Command::DeadLetters(command) => dead_letters::run(&command),
        Command::State(command) => state::run(&command),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config) => ExitCode::from(EX_CONFIG),
        Err(Failure::Other(error)) => {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::BrokenPipe
            {
                // Whoever read our output has seen enough.
                return ExitCode::SUCCESS;
            }
            eprintln!("headwater: {error:#}");
            ExitCode::FAILURE
        }
    }
}
