//! SQL files, their plans, and what is wrong with them.

mod bounds;
mod late;
mod patterns;
mod plans;
mod refusals;

use super::*;
use crate::plan::explain;

const READINGS: &str = "CREATE TABLE readings (
  device STRING METADATA FROM 'topic[1]',
  temp DOUBLE,
  n INT,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'mqtt', 'topic' = 'sensors/+/data', 'format' = 'json', 'scan.watermark.idle-timeout' = '1 min');
";
const OUT: &str = "CREATE TABLE out (device STRING, v DOUBLE) WITH ('connector' = 'print');
";

fn catalog() -> Catalog {
    Catalog {
        connections: vec!["default".to_owned()],
    }
}

fn files(text: &str) -> Vec<(String, String)> {
    vec![("a.sql".to_owned(), text.to_owned())]
}

fn plan(text: &str) -> (Plan, Vec<String>) {
    match compile(&files(text), &catalog()) {
        Ok((plan, warnings)) => (plan, warnings.iter().map(ToString::to_string).collect()),
        Err(problems) => panic!(
            "{}",
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        ),
    }
}

fn errors(text: &str) -> Vec<String> {
    match compile(&files(text), &catalog()) {
        Ok((plan, _)) => panic!("accepted:\n{}", explain(&plan)),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// What is wrong with a query on `readings`, which begins in line 9.
fn query_errors(query: &str) -> Vec<String> {
    errors(&format!("{READINGS}{OUT}{query}"))
}
