//! Cases that were executed on Flink: the same tables, rows and queries must give the same rows here.
//!
//! Run by `.ci/run`, which has the cases beside the checkout: `HEADWATER_CONFORMANCE` is the path of a file with one
//! JSON object a line. Each has `cols` (column definitions of a table `t`), `watermark` (the expression behind
//! `WATERMARK FOR ts AS`), `rows` in order of arrival, `sql`, `expected` rows in any order or null, and `expect_error`
//! or null. What Flink refuses may be supported here; what is refused here must be refused there, or be named below.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions};
use headwater::plan::SourceId;
use headwater::sql::{Catalog, compile_query};
use headwater::types::EventTime;
use serde_json::Value;

/// Cases that are refused here although Flink accepts them, and why.
const REFUSED: &[(&str, &str)] = &[(
    "probe-group-window-only-start",
    "an updating result: the window's end is to be grouped by, too",
)];

/// Cases whose rows differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "probe-tumble-future-ts",
        "one clock in the future does not make all others late: its row is a dead letter",
    ),
    (
        "x-subset-used",
        "a measure over a SUBSET has the value of its last row, not NULL",
    ),
];

#[test]
#[ignore = "needs the cases; run by .ci/run"]
fn rows_are_those_of_flink() {
    let path = std::env::var("HEADWATER_CONFORMANCE").expect("the path of the cases is given");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut wrong, mut same) = (Vec::new(), 0);
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let id = case["id"].as_str().unwrap();
        match (run(&case), &case["expected"]) {
            (Err(_), _) if case["expect_error"].is_string() => same += 1,
            (Err(_), _) if REFUSED.iter().any(|(known, _)| *known == id) => {}
            (Err(error), _) => wrong.push(format!("{id}: refused: {error}")),
            (Ok(_), Value::Null) => same += 1,
            (Ok(_), _) if DIFFERENT.iter().any(|(known, _)| *known == id) => {}
            (Ok(rows), expected) => match difference(rows, expected.as_array().unwrap()) {
                None => same += 1,
                Some(difference) => wrong.push(format!("{id}: {difference}")),
            },
        }
    }
    println!("{same} cases give Flink's rows or refusal");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same >= 65, "only {same} cases");
}

/// The rows of a case, in order.
fn run(case: &Value) -> Result<Vec<Vec<Value>>, String> {
    let cols: Vec<&str> = case["cols"]
        .as_array()
        .unwrap()
        .iter()
        .map(|col| col.as_str().unwrap())
        .collect();
    let watermark = case["watermark"].as_str().unwrap();
    let table = format!(
        "CREATE TABLE t ({}, WATERMARK FOR ts AS {watermark}) WITH ('connector' = 'filesystem', 'path' = 't')",
        cols.join(", ")
    );
    let mut files = vec![("t.sql".to_owned(), table)];
    let sql = case["sql"].as_str().unwrap();
    let mut statements: Vec<&str> = sql.split(';').map(str::trim).collect();
    statements.retain(|statement| !statement.is_empty());
    let query = statements.pop().unwrap();
    for statement in statements {
        files.push(("view.sql".to_owned(), statement.to_owned()));
    }
    let query = ("query".to_owned(), query.to_owned());
    let (plan, _) = compile_query(&files, &query, &Catalog::default()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("; ")
    })?;
    let options = EngineOptions {
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes: 1 << 20,
        connections: Vec::new(),
    };
    let mut engine = Engine::new(Arc::new(plan), &options);
    let clock = Clock {
        wall: EventTime::from_millis(4_102_444_800_000), // 2100-01-01
        steady_micros: 0,
    };
    let names: Vec<&str> = cols
        .iter()
        .map(|col| col.split(' ').next().unwrap())
        .collect();
    for row in case["rows"].as_array().unwrap() {
        let fields = names.iter().zip(row.as_array().unwrap());
        let object: serde_json::Map<String, Value> = fields
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let payload = Value::Object(object).to_string();
        let message = Message {
            topic: "t",
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            received: clock.wall,
        };
        engine.deliver_to(SourceId(0), &message, clock);
    }
    engine.finish();
    let sealed = engine.seal(clock);
    let columns = engine.plan().sinks[0].schema.columns.clone();
    let rows = sealed.local.iter().map(|row| {
        let object: Value = serde_json::from_str(&row.line).unwrap();
        let cells = columns
            .iter()
            .map(|column| object[column.name.as_str()].clone());
        cells.collect()
    });
    Ok(rows.collect())
}

/// What is not the same, order aside.
fn difference(found: Vec<Vec<Value>>, expected: &[Value]) -> Option<String> {
    let mut left = found.clone();
    for row in expected {
        let row = row.as_array().unwrap();
        let at = left.iter().position(|other| {
            other.len() == row.len() && other.iter().zip(row).all(|(a, b)| same(a, b))
        });
        let Some(at) = at else {
            return Some(format!("{row:?} is missing from {found:?}"));
        };
        left.remove(at);
    }
    (!left.is_empty()).then(|| format!("{left:?} is too much"))
}

fn same(found: &Value, expected: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    if let (Some(a), Some(b)) = (number(found), number(expected)) {
        return (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    }
    // `…:05` and `…:05.000` are one time.
    let plain = |value: &Value| match value.as_str() {
        Some(text) if text.contains(':') => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => value.to_string(),
    };
    let time = |value: &Value| {
        let text = value.as_str()?;
        let sql = headwater::codec::TimestampFormat::Sql;
        headwater::codec::parse_timestamp(text, &sql, false)
    };
    match (time(found), time(expected)) {
        (Some(a), Some(b)) => a == b,
        _ => plain(found) == plain(expected),
    }
}
