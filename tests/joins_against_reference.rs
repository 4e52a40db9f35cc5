//! Interval joins against a naive reference that looks at all pairs: random streams in random order of arrival, random
//! bounds, keys that may be NULL, all four kinds of join; `headwater test` also crashes after every row.
//!
//! `HEADWATER_SEED=n` runs one seed alone.
#![cfg(feature = "test-command")]
#![allow(clippy::unwrap_used)]

#[path = "support/disk.rs"]
#[allow(dead_code)]
mod disk;

use std::fmt::Write as _;

use disk::Random;

const SEEDS: u64 = 150;
/// How far rows come out of order, in seconds; the watermark allows for it, so none is late.
const DISORDER: i64 = 4;

#[derive(Clone, Debug)]
struct Event {
    key: Option<usize>,
    time: i64,
    value: usize,
}

fn events(random: &mut Random, count: usize, range: i64) -> Vec<Event> {
    let mut events: Vec<Event> = (0..count)
        .map(|value| Event {
            key: Some(random.below(4)).filter(|key| *key < 3),
            time: random.below(range as usize) as i64,
            value,
        })
        .collect();
    let mut order: Vec<i64> = events
        .iter()
        .map(|event| event.time * 2 + random.below(DISORDER as usize * 2) as i64)
        .collect();
    let mut positions: Vec<usize> = (0..count).collect();
    positions.sort_by_key(|at| order[*at]);
    events = positions.iter().map(|at| events[*at].clone()).collect();
    order.clear();
    events
}

fn stamp(seconds: i64) -> String {
    format!("2024-01-01 00:{:02}:{:02}", seconds / 60, seconds % 60)
}

fn key(event: &Event) -> String {
    event
        .key
        .map_or("NULL".to_owned(), |key| format!("'k{key}'"))
}

fn shown(value: Option<usize>) -> String {
    value.map_or("NULL".to_owned(), |value| value.to_string())
}

/// A test file of one random case.
fn case(seed: u64) -> String {
    let mut random = Random(seed);
    let left = events(&mut random, 12, 60);
    let right = events(&mut random, 12, 60);
    let lower = random.below(20) as i64 - 12;
    let upper = lower + random.below(12) as i64;
    let residual = random.once_in(2);
    let mut text = String::new();
    for (table, value) in [("a", "v"), ("b", "w")] {
        let _ = write!(
            text,
            "statement ok\nCREATE TABLE {table} (k STRING, ts TIMESTAMP(3), {value} INT, \
             WATERMARK FOR ts AS ts - INTERVAL '{DISORDER}' SECOND)\n\n"
        );
    }
    // The streams come interleaved at random: one may be far ahead of the other.
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        let from_left = r == right.len() || (l < left.len() && random.once_in(2));
        let (table, event) = if from_left {
            l += 1;
            ("a", &left[l - 1])
        } else {
            r += 1;
            ("b", &right[r - 1])
        };
        let _ = write!(
            text,
            "statement ok\nINSERT INTO {table} VALUES ({}, '{}', {})\n\n",
            key(event),
            stamp(event.time),
            event.value
        );
    }
    let on = format!(
        "a.k = b.k AND a.ts >= b.ts + INTERVAL '{lower}' SECOND AND a.ts <= b.ts + INTERVAL '{upper}' SECOND{}",
        if residual { " AND v + w > 8" } else { "" }
    );
    for (name, outer) in [
        ("JOIN", [false, false]),
        ("LEFT JOIN", [true, false]),
        ("RIGHT JOIN", [false, true]),
        ("FULL JOIN", [true, true]),
    ] {
        let mut rows: Vec<String> = Vec::new();
        let mut met = [vec![false; left.len()], vec![false; right.len()]];
        for (i, a) in left.iter().enumerate() {
            for (j, b) in right.iter().enumerate() {
                let close = (lower..=upper).contains(&(a.time - b.time));
                let equal = a.key.is_some() && a.key == b.key;
                if close && equal && (!residual || a.value + b.value > 8) {
                    (met[0][i], met[1][j]) = (true, true);
                    rows.push(format!("{} {}", a.value, b.value));
                }
            }
        }
        for (side, events) in [&left, &right].into_iter().enumerate() {
            for (at, event) in events.iter().enumerate() {
                if outer[side] && !met[side][at] {
                    let value = Some(event.value);
                    let (v, w) = if side == 0 {
                        (value, None)
                    } else {
                        (None, value)
                    };
                    rows.push(format!("{} {}", shown(v), shown(w)));
                }
            }
        }
        rows.sort();
        let _ = write!(
            text,
            "query II rowsort\nSELECT v, w FROM a {name} b ON {on}\n----\n{}\n\n",
            rows.join("\n")
        );
    }
    text + &as_of(&left, &right) + &windowed(&left, &right)
}

/// The rows of `a`, each with the latest of `b` as of its time.
fn as_of(left: &[Event], right: &[Event]) -> String {
    let latest = |a: &Event| {
        let known = right.iter().enumerate();
        let known = known.filter(|(_, b)| a.key.is_some() && a.key == b.key && b.time <= a.time);
        // Of equal times the one that came last.
        known
            .max_by_key(|(at, b)| (b.time, *at))
            .map(|(_, b)| b.value)
    };
    let mut text = String::new();
    for (name, outer) in [("JOIN", false), ("LEFT JOIN", true)] {
        let rows = left.iter().map(|a| (a.value, latest(a)));
        let rows = rows.filter(|(_, b)| outer || b.is_some());
        let mut rows: Vec<String> = rows.map(|(v, w)| format!("{v} {}", shown(w))).collect();
        rows.sort();
        let _ = write!(
            text,
            "query II rowsort\nSELECT v, w FROM a {name} b FOR SYSTEM_TIME AS OF a.ts ON a.k = b.k\n----\n{}\n\n",
            rows.join("\n")
        );
    }
    text
}

/// The rows of `a` and `b` of one key that are in one window of ten seconds.
fn windowed(left: &[Event], right: &[Event]) -> String {
    let same = |a: &Event, b: &Event| {
        a.key.is_some() && a.key == b.key && a.time.div_euclid(10) == b.time.div_euclid(10)
    };
    let window = |table: &str| {
        format!("(SELECT * FROM TUMBLE(TABLE {table}, DESCRIPTOR(ts), INTERVAL '10' SECOND))")
    };
    let mut text = String::new();
    for (name, outer) in [
        ("JOIN", [false, false]),
        ("LEFT JOIN", [true, false]),
        ("RIGHT JOIN", [false, true]),
        ("FULL JOIN", [true, true]),
    ] {
        let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| same(a, b));
        let mut rows: Vec<String> = pairs
            .map(|(a, b)| format!("{} {}", a.value, b.value))
            .collect();
        if outer[0] {
            let alone = left.iter().filter(|a| !right.iter().any(|b| same(a, b)));
            rows.extend(alone.map(|a| format!("{} NULL", a.value)));
        }
        if outer[1] {
            let alone = right.iter().filter(|b| !left.iter().any(|a| same(a, b)));
            rows.extend(alone.map(|b| format!("NULL {}", b.value)));
        }
        rows.sort();
        let _ = write!(
            text,
            "query II rowsort\nSELECT x.v, y.w FROM {} AS x {name} {} AS y ON x.k = y.k \
             AND x.window_start = y.window_start AND x.window_end = y.window_end\n----\n{}\n\n",
            window("a"),
            window("b"),
            rows.join("\n")
        );
    }
    text
}

#[test]
fn joins_give_what_all_pairs_give() {
    let one = std::env::var("HEADWATER_SEED").ok();
    let seeds = match one.and_then(|text| text.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let dir = tempfile::tempdir().unwrap();
    for seed in seeds {
        let path = dir.path().join(format!("join-{seed}.slt"));
        std::fs::write(&path, case(seed)).unwrap();
        let failures = headwater::cli::test::run_stand_alone(&path, false).unwrap();
        assert!(
            failures.is_empty(),
            "HEADWATER_SEED={seed}: {}\n{}",
            failures.join("\n"),
            case(seed)
        );
    }
}
