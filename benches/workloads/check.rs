//! A wrong answer voids the time: the rows of the engine are those of the floor.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::floor::floor;
use super::workload::{Check, Committed, Discarded, Query, Workload, plan, run};

/// Columns in which two rows must agree to the last digit; in others the order of additions may show.
const EXACT: &[&str] = &[
    "id",
    "ts",
    "rule",
    "rpm",
    "n",
    "window_end",
    "first",
    "last",
];
/// Seconds of event time that are compared.
const SECONDS: u64 = 100;

/// Panics if the workload gives other rows than it should; else gives how many there are.
pub(crate) fn check(workload: &Workload) -> usize {
    match &workload.check {
        Check::SameRows => same(workload, &workload.query, workload.floor),
        Check::SameRowsOf { query, floor } => same(workload, query, floor),
        Check::SomeRows => {
            let rows = rows_of_engine(workload, &workload.query).lines().count();
            assert!(rows > 0, "{} gives no row", workload.name);
            rows
        }
        Check::NoRows => {
            let rows = rows_of_engine(workload, &workload.query).lines().count();
            assert_eq!(rows, 0, "{} gives rows", workload.name);
            rows
        }
    }
}

/// Messages that are compared.
fn events(workload: &Workload) -> usize {
    let least = workload.warm_seconds + workload.seconds;
    workload.input.events(least.max(SECONDS))
}

fn rows_of_engine(workload: &Workload, query: &Query) -> String {
    let mut engine = Committed::new(workload.input, &plan(workload.input, query));
    engine.rows = Some(String::new());
    let mut generator = workload.input.generator();
    run(
        &mut *generator,
        events(workload),
        &mut engine,
        &mut |take| take(),
    );
    engine.finish();
    engine.rows.unwrap_or_default()
}

fn same(workload: &Workload, query: &Query, name: &str) -> usize {
    let mut floor = Discarded::new(floor(name));
    floor.keeps_rows = true;
    let mut generator = workload.input.generator();
    run(&mut *generator, events(workload), &mut floor, &mut |take| {
        take();
    });
    floor.floor.finish(&mut floor.rows);
    let expected = sorted(&floor.rows);
    let found = sorted(&rows_of_engine(workload, query));
    assert!(!expected.is_empty(), "floor {name} gives no row");
    for (found, expected) in found.iter().zip(&expected) {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
        let same = found.0 == expected.0
            && found.1.len() == expected.1.len()
            && found.1.iter().zip(&expected.1).all(close);
        assert!(
            same,
            "{} gives {found:?}, its floor {expected:?}",
            workload.name
        );
    }
    assert_eq!(
        found.len(),
        expected.len(),
        "rows of {} and its floor",
        workload.name
    );
    found.len()
}

/// Lines of JSON as what must be the same to the letter, and numbers that must be close; in the order of the former.
fn sorted(lines: &str) -> Vec<(String, Vec<f64>)> {
    let rows = lines.lines().map(|line| {
        let row: Map<String, Value> = serde_json::from_str(line).expect("rows are JSON objects");
        let (mut exact, mut close) = (String::new(), Vec::new());
        for (column, value) in row {
            match value.as_f64() {
                Some(number) if !EXACT.contains(&column.as_str()) => close.push(number),
                _ => {
                    let _ = write!(exact, "{column}={value} ");
                }
            }
        }
        (exact, close)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}
