//! `test`: files that feed rows to the pipelines and say what must come out, in the format of sqllogictest.
//!
//! How a file reads:
//! - `INSERT INTO t VALUES (…), (…)` sends messages to a table that is read, in order: the columns of its payload.
//!   `INSERT INTO t TOPIC 'a/b' VALUES (…)` sends them on a topic. `INSERT INTO t PAYLOAD '…', '…'` sends them as
//!   they stand. An ARRAY, MAP or ROW is written as its JSON in quotes.
//! - `SELECT * FROM sink` gives what the pipelines have written to a table since the last look; no row below `----`
//!   says that nothing is expected. `DEAD LETTERS` gives what was discarded since the last look: table or query,
//!   reason, detail.
//! - `SET CLOCK 'time'` sets the wall clock, `WAIT '30 s'` lets time pass, `END OF INPUT` closes all windows, `RESTART`
//!   stops the gateway and starts it again.
//! - `SET 'table.exec.state.ttl' = '1 d'` is for all that follows.
//! - `CREATE TABLE` (without a connector: the file plays its part) and `CREATE VIEW` add to the pipelines.
//! - `INSERT INTO sink SELECT …` adds a query to the pipelines; it works over all that was fed so far and after it.
//! - Any other query runs over all that was fed so far and closes all windows; `DEAD LETTERS query` gives what it
//!   discarded. Other statements are only checked. `DROP ALL` begins anew.
//! - The letters behind `query`: B boolean, I integer, D decimal, R FLOAT and DOUBLE, T string, P date and time,
//!   N the type of NULL, C array, map and row.
//!
//! Every file is also a crash test, see [`machine`].

mod cells;
mod database;
mod literals;
mod machine;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use sqllogictest::{Record, Runner, default_validator, strict_column_validator};

use self::database::{Database, Given};
use super::Failure;
use super::load::load;

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// The configuration whose pipelines are tested; without it the files declare all they need
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the results into the files instead of comparing: look at each before you believe it
    #[arg(long)]
    update: bool,
    /// Test files, in the format of sqllogictest
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the files, and prints what fails.
pub(super) fn test(arguments: &TestArguments) -> Result<(), Failure> {
    let given = match &arguments.config {
        Some(path) => {
            let pipeline = load(path)?;
            let connections = pipeline.config.connections.iter();
            Given {
                connections: connections.map(|c| c.name.clone()).collect(),
                max_keys: pipeline.config.limits.max_keys,
                pipelines: pipeline.texts,
            }
        }
        None => stand_alone(),
    };
    let given = Arc::new(given);
    let mut failed = 0;
    for path in &arguments.files {
        let report = run_file(path, &given, arguments.update)?;
        if arguments.update {
            println!("{}: written", path.display());
            continue;
        }
        if report.failures.is_empty() {
            println!("{}: ok, {} records", path.display(), report.records);
            continue;
        }
        failed += report.failures.len();
        for failure in &report.failures {
            eprintln!("{failure}\n");
        }
    }
    if failed > 0 {
        return Err(anyhow::anyhow!("{failed} records fail").into());
    }
    Ok(())
}

/// Runs a file that declares all it needs, as `headwater test FILE` does; gives what fails.
pub fn run_stand_alone(path: &Path, update: bool) -> anyhow::Result<Vec<String>> {
    let report = run_file(path, &Arc::new(stand_alone()), update)?;
    Ok(report.failures)
}

fn stand_alone() -> Given {
    Given {
        pipelines: Vec::new(),
        connections: vec!["broker".to_owned()],
        max_keys: 1_000,
    }
}

struct Report {
    /// Statements and queries.
    records: usize,
    failures: Vec<String>,
}

fn run_file(path: &Path, given: &Arc<Given>, update: bool) -> anyhow::Result<Report> {
    let mut runner = Runner::new(|| {
        let given = given.clone();
        async move { Ok(Database::new(given)) }
    });
    runner.with_column_validator(strict_column_validator);
    runner.with_normalizer(trimmed);
    let mut report = Report {
        records: 0,
        failures: Vec::new(),
    };
    if update {
        let updated = runner.update_test_file(
            path,
            " ",
            default_validator,
            trimmed,
            strict_column_validator,
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        if let Err(error) = runtime.block_on(updated) {
            anyhow::bail!("{}: {error}", path.display());
        }
        return Ok(report);
    }
    let records = sqllogictest::parse_file(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    for record in records {
        report.records += usize::from(matches!(
            record,
            Record::Statement { .. } | Record::Query { .. }
        ));
        // Each case is told of, not only the first that fails.
        if let Err(error) = runner.run(record) {
            report.failures.push(error.to_string());
        }
    }
    Ok(report)
}

/// Spaces within a value count.
#[allow(clippy::ptr_arg)]
fn trimmed(text: &String) -> String {
    text.trim().to_owned()
}
