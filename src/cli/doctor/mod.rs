//! `doctor`: looks at the machine and at the brokers, and says what to change and why.
//!
//! Exit status: 0 if there is nothing to change, 3 if there are warnings alone, 1 if something will not work, 78 if the
//! configuration itself has errors.

mod broker;
mod machine;
mod mosquitto;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::load::{load, settings};
use super::{ConfigArgument, Failure};

/// Warnings alone.
const EX_WARNINGS: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Look at the machine alone, and connect to nothing
    #[arg(long)]
    offline: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    /// As it should be.
    Good,
    /// It works, and something will be lost or slow one day.
    Warning,
    /// It does not work.
    Failure,
}

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default)]
struct Findings {
    worst: Option<Grade>,
    warnings: usize,
    failures: usize,
}

impl Findings {
    fn say(&mut self, grade: Grade, subject: &str, found: &str, remedy: Option<&str>) {
        let mark = match grade {
            Grade::Good => "ok  ",
            Grade::Warning => "warn",
            Grade::Failure => "FAIL",
        };
        println!("{mark}  {subject}: {found}");
        if let Some(remedy) = remedy {
            println!("      -> {remedy}");
        }
        self.warnings += usize::from(grade == Grade::Warning);
        self.failures += usize::from(grade == Grade::Failure);
        self.worst = self.worst.max(Some(grade));
    }

    fn good(&mut self, subject: &str, found: &str) {
        self.say(Grade::Good, subject, found, None);
    }

    fn warn(&mut self, subject: &str, found: &str, remedy: &str) {
        self.say(Grade::Warning, subject, found, Some(remedy));
    }

    fn fail(&mut self, subject: &str, found: &str, remedy: &str) {
        self.say(Grade::Failure, subject, found, Some(remedy));
    }
}

pub(super) fn run(arguments: &DoctorArguments) -> Result<ExitCode, Failure> {
    let pipeline = load(&arguments.config.config)?;
    let mut findings = Findings::default();
    let queries = pipeline.plan.sinks.len();
    findings.good(
        "configuration",
        &format!(
            "{}: {queries} queries over {} tables",
            arguments.config.config.display(),
            pipeline.plan.sources.len()
        ),
    );
    for warning in &pipeline.warnings {
        let hint = warning.hint.as_deref();
        let found = format!("{}: {}", warning.place, warning.message);
        findings.say(Grade::Warning, "pipeline", &found, hint);
    }
    machine::examine(&pipeline.config, &mut findings);
    if !arguments.offline {
        match settings(&pipeline.config) {
            Ok(settings) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .context("cannot start the async runtime")?;
                for connection in &settings.connections {
                    runtime.block_on(broker::examine(connection, &mut findings));
                }
            }
            Err(error) => findings.fail(
                "secrets",
                &format!("{error:#}"),
                "without them no broker can be asked; run doctor as the user of the service, or through \
                 `systemd-run --pty -p User=headwater -p LoadCredential=… headwater doctor`",
            ),
        }
    }
    println!(
        "\n{} failures, {} warnings",
        findings.failures, findings.warnings
    );
    Ok(match findings.worst {
        Some(Grade::Failure) => ExitCode::FAILURE,
        Some(Grade::Warning) => ExitCode::from(EX_WARNINGS),
        _ => ExitCode::SUCCESS,
    })
}
