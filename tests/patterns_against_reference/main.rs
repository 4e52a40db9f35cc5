//! `MATCH_RECOGNIZE` against a reference that backtracks over whole partitions: random patterns with random conditions,
//! measures, skips and bounds, over random streams with random disorder, ties, NULLs and keys, with crashes and restores
//! at random points. A failure prints its seed and its query.
//!
//! `HEADWATER_SEED=n` runs one pattern alone, `HEADWATER_PATTERNS=n` so many.
#![allow(clippy::unwrap_used)]

#[path = "../support/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "../support/engine.rs"]
mod engine;
mod pattern;
mod reference;

use std::collections::BTreeMap;
use std::sync::Arc;

use disk::Random;
use engine::{Disk, clock, deliver, engine};
use headwater::plan::Plan;
use headwater::sql::{Catalog, compile_query};
use pattern::{Order, Query, name};
use reference::{Measured, Row, matches};
use serde_json::{Value, json};

const PATTERNS: u64 = 1_200;
const STREAMS: usize = 4;
/// How many steps a reference may take for one stream: backtracking can take for ever.
const STEPS: usize = 200_000;
/// The watermark follows by so much, and disorder is less.
const DISORDER_MILLIS: i64 = 3_000;

/// A row as it comes.
#[derive(Clone, Copy, Debug)]
struct Event {
    key: i64,
    row: Row,
}

fn stream(random: &mut Random) -> Vec<Event> {
    let count = 5 + random.below(30);
    let keys = 1 + random.below(3);
    let values = 2 + random.below(5);
    let mut now = 100_000;
    (0..count)
        .map(|number| {
            now += 500 * random.below(4) as i64;
            let behind = 500 * random.below(4) as i64;
            let row = Row {
                number: number as i64,
                millis: now - behind,
                value: (!random.once_in(9)).then(|| random.below(values) as i64),
            };
            Event {
                key: random.below(keys) as i64,
                row,
            }
        })
        .collect()
}

fn plan(query: &str, per_key: bool) -> Arc<Plan> {
    let per_key = if per_key {
        ", 'scan.watermark.per-key' = 'k'"
    } else {
        ""
    };
    let table = format!(
        "CREATE TABLE t (k BIGINT, n BIGINT, ts TIMESTAMP(3), v BIGINT, \
         WATERMARK FOR ts AS ts - INTERVAL '{}' SECOND) WITH ('connector' = 'filesystem', 'path' = 'x', \
         'json.timestamp-format.standard' = 'epoch-millis'{per_key})",
        DISORDER_MILLIS / 1_000
    );
    let files = [("t.sql".to_owned(), table)];
    let compiled = compile_query(
        &files,
        &("query".to_owned(), query.to_owned()),
        &Catalog::default(),
    );
    match compiled {
        Ok((plan, _)) => Arc::new(plan),
        Err(problems) => panic!("{}\n{query}", problems[0]),
    }
}

/// What the engine gives by key, in order, killed at random; `None` if it says that the partial matches are too many.
fn given(
    plan: &Arc<Plan>,
    events: &[Event],
    query: &Query,
    random: &mut Random,
) -> Option<BTreeMap<i64, Vec<Vec<Value>>>> {
    let commit_one_in = 1 + random.below(12);
    let crash_one_in = 1 + random.below(6);
    let fold = [0, 300, 1 << 30][random.below(3)];
    let mut disk = Disk::default();
    let mut running = engine(plan, fold);
    let (mut at, mut open) = (0, 0);
    while at < events.len() {
        let Event { key, row } = events[at];
        let payload =
            json!({"k": key, "n": row.number, "ts": row.millis, "v": row.value}).to_string();
        deliver(&mut running, 0, &payload, clock(0));
        (at, open) = (at + 1, open + 1);
        if random.once_in(commit_one_in) {
            disk.commit(running.seal(clock(0)));
            running.committed();
            open = 0;
        } else if random.once_in(crash_one_in * commit_one_in) {
            running = disk.restored(plan, fold);
            at -= open;
            open = 0;
        }
    }
    running.finish();
    disk.commit(running.seal(clock(0)));
    if disk
        .dead
        .iter()
        .any(|(reason, _)| reason == "pattern_limit")
    {
        return None;
    }
    for (reason, detail) in &disk.dead {
        assert_eq!(reason, "skip_target", "{detail}");
    }
    let mut ids: Vec<&String> = disk.rows.iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), disk.rows.len(), "two rows have one id");
    let mut rows: BTreeMap<i64, Vec<Vec<Value>>> = BTreeMap::new();
    for (_, line) in &disk.rows {
        let row: Value = serde_json::from_str(line).unwrap();
        let measures = (0..query.measures.len()).map(|at| row[format!("m{at}")].clone());
        let number = query.given.all_rows().then(|| row["n"].clone());
        let key = row["k"].as_i64().unwrap();
        let given = number.into_iter().chain(measures).collect();
        rows.entry(key).or_default().push(given);
    }
    Some(rows)
}

/// What the reference says.
fn expected(query: &Query, events: &[Event]) -> Option<BTreeMap<i64, Vec<Vec<Value>>>> {
    let mut partitions: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for event in events {
        partitions.entry(event.key).or_default().push(event.row);
    }
    let mut all = BTreeMap::new();
    let mut steps = STEPS;
    for (key, mut rows) in partitions {
        rows.sort_by(|a, b| {
            // NULL is less than all values.
            let by_value = match query.order {
                Order::Arrival => std::cmp::Ordering::Equal,
                Order::Ascending => a.value.cmp(&b.value),
                Order::Descending => b.value.cmp(&a.value),
            };
            a.millis.cmp(&b.millis).then(by_value)
        });
        let found = matches(query, &rows, &mut steps)?;
        let found = found.into_iter().map(|measures| {
            let measures = measures.into_iter().map(|measured| match measured {
                Measured::Number(number) => json!(number),
                Measured::Name(variable) => json!(variable.map(name)),
            });
            measures.collect::<Vec<Value>>()
        });
        let found: Vec<_> = found.collect();
        if !found.is_empty() {
            all.insert(key, found);
        }
    }
    Some(all)
}

#[test]
fn matches_are_those_of_the_reference() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("HEADWATER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HEADWATER_PATTERNS").unwrap_or(PATTERNS),
    };
    let (mut compared, mut matched, mut given_up) = (0, 0, 0);
    for seed in seeds.clone() {
        let mut random = Random(seed);
        let query = Query::random(&mut random);
        let sql = query.sql();
        let plan = plan(&sql, random.once_in(3));
        for _ in 0..STREAMS {
            let events = stream(&mut random);
            let Some(expected) = expected(&query, &events) else {
                given_up += 1;
                continue;
            };
            let Some(given) = given(&plan, &events, &query, &mut random) else {
                given_up += 1;
                continue;
            };
            let (mut given, mut expected) = (given, expected);
            if !query.is_ordered() {
                for rows in given.values_mut().chain(expected.values_mut()) {
                    rows.sort_by_key(|row| format!("{row:?}"));
                }
            }
            assert_eq!(given, expected, "HEADWATER_SEED={seed}\n{sql}\n{events:?}");
            compared += 1;
            matched += usize::from(!expected.is_empty());
        }
    }
    println!(
        "{compared} streams compared, {matched} with matches; {given_up} given up for their many ways"
    );
    if seeds.end - seeds.start > 100 {
        assert!(matched * 3 > compared && given_up * 20 < compared);
    }
}
