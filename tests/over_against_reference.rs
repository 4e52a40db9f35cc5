//! OVER, deduplication and window Top-N against a reference that looks at all rows again for each: over random streams
//! with random disorder, ties, NULLs and keys, random frames, and a crash and restore at random points. A failure prints
//! its seed.
#![allow(clippy::unwrap_used)]

#[path = "support/engine.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use headwater::engine::{Clock, Engine};
use headwater::plan::Plan;
use headwater::sql::{Catalog, compile_query};
use headwater::types::EventTime;
use serde_json::{Value, json};
use support::Disk;

/// A row as it came; its number is its place in the stream.
#[derive(Clone, Copy, Debug)]
struct Event {
    number: usize,
    key: u64,
    millis: i64,
    value: Option<i64>,
    /// The watermark before it.
    watermark: i64,
}

fn plan(query: &str) -> Arc<Plan> {
    let table = "CREATE TABLE t (n BIGINT, k BIGINT, ts TIMESTAMP(3), v BIGINT, WATERMARK FOR ts AS ts)
        WITH ('connector' = 'filesystem', 'path' = 'x', 'format' = 'json', 'json.timestamp-format.standard' = 'epoch-millis')";
    let files = [("t.sql".to_owned(), table.to_owned())];
    let query = ("query".to_owned(), query.to_owned());
    let compiled = compile_query(&files, &query, &Catalog::default());
    Arc::new(
        compiled
            .map_err(|problems| problems[0].to_string())
            .unwrap()
            .0,
    )
}

const CLOCK: Clock = Clock {
    wall: EventTime::from_millis(1_000_000),
    steady_micros: 0,
};

fn deliver(engine: &mut Engine, event: &Event) {
    let payload = json!({"n": event.number, "k": event.key, "ts": event.millis, "v": event.value});
    support::deliver(engine, 0, &payload.to_string(), CLOCK);
}

fn stream(random: &mut Rng) -> Vec<Event> {
    let keys = 1 + random.u64(..5);
    let disorder = 1 + random.u64(..60);
    let coarse = 1 + random.u64(..8) as i64;
    let mut now = random.u64(..1_000) as i64 - 500;
    let mut watermark = i64::MIN;
    (0..random.u64(..250) as usize)
        .map(|number| {
            now += random.u64(..12) as i64;
            if random.u64(..40) == 0 {
                now += random.u64(..400) as i64;
            }
            let behind = if random.u64(..3) == 0 {
                random.u64(..disorder) as i64
            } else {
                0
            };
            // On a grid, so that there are ties.
            let millis = (now - behind).div_euclid(coarse) * coarse;
            let event = Event {
                number,
                key: random.u64(..keys),
                millis,
                value: (random.u64(..6) > 0).then(|| random.u64(..40) as i64 - 20),
                watermark,
            };
            watermark = watermark.max(millis);
            event
        })
        .collect()
}

/// The rows and dead letters of a query: in one go, and the same again in epochs of random length with crashes.
fn run(random: &mut Rng, query: &str, events: &[Event], seed: u64) -> Disk {
    let plan = plan(query);
    let fold = [0, 700, 1 << 20][random.u64(..3) as usize];
    let mut whole = Disk::default();
    let mut running = support::engine(&plan, fold);
    for event in events {
        deliver(&mut running, event);
    }
    running.finish();
    whole.commit(running.seal(CLOCK));

    let mut disk = Disk::default();
    let mut running = support::engine(&plan, fold);
    let (mut next, mut committed) = (0, 0);
    while next < events.len() {
        deliver(&mut running, &events[next]);
        next += 1;
        if random.u64(..4) == 0 {
            disk.commit(running.seal(CLOCK));
            committed = next;
        }
        if random.u64(..6) == 0 {
            running = disk.restored(&plan, fold);
            next = committed;
        }
    }
    running.finish();
    disk.commit(running.seal(CLOCK));
    assert_eq!(
        disk.rows, whole.rows,
        "seed {seed}: crashes or epochs changed rows, order or ids\n{query}"
    );
    assert_eq!(
        disk.dead, whole.dead,
        "seed {seed}: crashes or epochs changed dead letters\n{query}"
    );
    let mut ids: Vec<&String> = whole.rows.iter().map(|(id, _)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        whole.rows.len(),
        "seed {seed}: two rows have one id"
    );
    whole
}

/// What the functions of [`FUNCTIONS`] are over the rows of a frame, straight from their definitions.
const FUNCTIONS: &str = "COUNT(*) OVER #, SUM(v) OVER #, MIN(v) OVER #, MAX(v) OVER #, AVG(v * 0.5E0) OVER #, FIRST_VALUE(v) OVER #, \
     LAST_VALUE(v) OVER #, COUNT(DISTINCT v) OVER #, COUNT(v) FILTER (WHERE v > 0) OVER #, ARRAY_AGG(v) OVER #";

fn functions(frame: &[&Event]) -> Vec<Value> {
    let values: Vec<i64> = frame.iter().filter_map(|event| event.value).collect();
    let mut different = values.clone();
    different.sort_unstable();
    different.dedup();
    let some = !values.is_empty();
    let mean = some.then(|| values.iter().sum::<i64>() as f64 * 0.5 / values.len() as f64);
    vec![
        json!(frame.len()),
        json!(some.then(|| values.iter().sum::<i64>())),
        json!(values.iter().min()),
        json!(values.iter().max()),
        json!(mean),
        json!(values.first()),
        json!(values.last()),
        json!(different.len()),
        json!(values.iter().filter(|value| **value > 0).count()),
        json!(frame.iter().map(|event| event.value).collect::<Vec<_>>()),
    ]
}

/// The values of a row in the order of its columns.
fn values(line: &str) -> Vec<Value> {
    // The columns have names in order: c000, c001, …
    let row: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
    row.into_values().collect()
}

fn same(got: &Value, expected: &Value) -> bool {
    match (got.as_f64(), expected.as_f64()) {
        (Some(got), Some(expected)) => (got - expected).abs() < 1e-9,
        _ => got == expected,
    }
}

/// Names the columns so that their order is that of their names.
fn select(columns: &str) -> String {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in columns.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let named = parts.iter().enumerate();
    named
        .map(|(i, part)| format!("{part} AS c{i:03}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[derive(Clone, Copy, PartialEq)]
enum Frame {
    Range(i64),
    Rows(usize),
    AllRange,
    AllRows,
}

impl Frame {
    fn sql(self) -> String {
        match self {
            Self::Range(span) => format!(
                "RANGE INTERVAL '{}.{:03}' SECOND PRECEDING",
                span / 1000,
                span % 1000
            ),
            Self::Rows(rows) => format!("ROWS {rows} PRECEDING"),
            Self::AllRange => "RANGE UNBOUNDED PRECEDING".to_owned(),
            Self::AllRows => "ROWS UNBOUNDED PRECEDING".to_owned(),
        }
    }

    /// The frame of the row at a place in the rows of its key.
    fn of<'e>(self, rows: &[&'e Event], at: usize) -> Vec<&'e Event> {
        let now = rows[at].millis;
        let in_frame = |(place, row): (usize, &&'e Event)| {
            let inside = match self {
                Self::Range(span) => row.millis >= now - span && row.millis <= now,
                Self::Rows(count) => place <= at && place + count >= at,
                Self::AllRange => row.millis <= now,
                Self::AllRows => place <= at,
            };
            inside.then_some(*row)
        };
        rows.iter().enumerate().filter_map(in_frame).collect()
    }
}

fn over(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let random = &mut random;
    let frame = |random: &mut Rng| match random.u64(..4) {
        0 => Frame::AllRange,
        1 => Frame::AllRows,
        2 => Frame::Rows(random.u64(..12) as usize),
        _ => Frame::Range(random.u64(..150) as i64),
    };
    let frames: Vec<Frame> = match random.u64(..3) {
        0 => vec![Frame::Range(random.u64(..150) as i64)],
        1 => vec![
            Frame::Range(random.u64(..150) as i64),
            Frame::Range(random.u64(..150) as i64),
        ],
        _ => vec![frame(random), frame(random)],
    };
    let back = random.u64(..4) as usize;
    let ranks = random.u64(..2) == 0;
    let keyed = random.u64(..4) > 0;
    let mut events = stream(random);
    let partition = if keyed { "PARTITION BY k " } else { "" };
    let mut columns = "n".to_owned();
    for frame in &frames {
        let window = format!("({partition}ORDER BY ts {})", frame.sql());
        columns = format!("{columns}, {}", FUNCTIONS.replace('#', &window));
    }
    if ranks {
        let window = format!("({partition}ORDER BY ts)");
        columns = format!(
            "{columns}, ROW_NUMBER() OVER {window}, RANK() OVER {window}, DENSE_RANK() OVER {window}, LAG(v, {back}, n) OVER {window}"
        );
    }
    let spans = frames.iter().filter_map(|frame| match frame {
        Frame::Range(span) => Some(*span),
        _ => None,
    });
    let longest = spans.clone().max().unwrap_or_default();
    let ranges = spans.count() == frames.len() && !ranks;
    // Where a frame is not bounded by time, a time to live may be said.
    let ttl = (random.u64(..2) == 0).then(|| 1 + random.u64(..100) as i64);
    let set = ttl.map(|ttl| format!("SET 'table.exec.state.ttl' = '{ttl}ms'; "));
    let ttl = ttl.filter(|_| !ranges).map(|ttl| ttl.max(longest));
    let query = format!(
        "{}SELECT {} FROM t",
        set.unwrap_or_default(),
        select(&columns)
    );
    if !keyed {
        for event in &mut events {
            event.key = 0;
        }
    }
    let got = run(random, &query, &events, seed);

    let strict = ranks
        || frames
            .iter()
            .any(|f| matches!(f, Frame::AllRange | Frame::AllRows));
    let given: Vec<(usize, Vec<Value>)> = got
        .rows
        .iter()
        .map(|(_, line)| {
            let mut row = values(line);
            (row.remove(0).as_u64().unwrap() as usize, row)
        })
        .collect();
    // Which rows are late: all of an unbounded frame, and no row in time.
    let mut taken = vec![false; events.len()];
    for (number, _) in &given {
        taken[*number] = true;
    }
    let mut late = 0;
    for event in &events {
        if event.millis > event.watermark {
            assert!(
                taken[event.number],
                "seed {seed}: a row in time is lost: {event:?}"
            );
        } else if strict {
            assert!(
                !taken[event.number],
                "seed {seed}: a late row is taken: {event:?}"
            );
        } else if !taken[event.number] {
            // Something of its key was given that is not before it, or its frame may be forgotten in part.
            let passed = |other: &&Event| {
                other.number < event.number
                    && other.key == event.key
                    && taken[other.number]
                    && other.millis >= event.millis
                    && other.millis <= event.watermark
            };
            let span = ttl.unwrap_or(if ranges { longest } else { i64::MAX / 4 });
            let old = event.millis <= event.watermark - span;
            assert!(
                events.iter().any(|e| passed(&e)) || old,
                "seed {seed}: not late: {event:?}"
            );
        }
        late += usize::from(!taken[event.number]);
    }
    assert_eq!(
        got.dead
            .iter()
            .filter(|(reason, _)| reason == "late")
            .count(),
        late,
        "seed {seed}"
    );
    assert_eq!(got.dead.len(), late, "seed {seed}: {:?}", got.dead);

    let mut keys: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in events.iter().filter(|event| taken[event.number]) {
        keys.entry(event.key).or_default().push(event);
    }
    // Sorting is stable: ties stay in the order of arrival.
    for rows in keys.values_mut() {
        rows.sort_by_key(|row| row.millis);
    }
    for rows in keys.values() {
        let order: Vec<usize> = given
            .iter()
            .map(|(n, _)| *n)
            .filter(|n| events[*n].key == rows[0].key)
            .collect();
        let expected: Vec<usize> = rows.iter().map(|row| row.number).collect();
        assert_eq!(order, expected, "seed {seed}: order");
    }
    for (number, row) in &given {
        let rows = since_silence(&keys[&events[*number].key], &events[*number], ttl);
        let rows = rows.as_slice();
        let at = rows.iter().position(|row| row.number == *number).unwrap();
        let mut expected = Vec::new();
        for frame in &frames {
            expected.extend(functions(&frame.of(rows, at)));
        }
        if ranks {
            let before = rows
                .iter()
                .filter(|row| row.millis < rows[at].millis)
                .count();
            let mut times: Vec<i64> = rows
                .iter()
                .map(|row| row.millis)
                .filter(|t| *t <= rows[at].millis)
                .collect();
            times.dedup();
            let lag = at
                .checked_sub(back)
                .map_or(json!(number), |at| json!(rows[at].value));
            expected.extend([json!(at + 1), json!(before + 1), json!(times.len()), lag]);
        }
        assert_eq!(row.len(), expected.len());
        for (column, (got, expected)) in row.iter().zip(&expected).enumerate() {
            assert!(
                same(got, expected),
                "seed {seed}: row {number}, column {column}: {got}, not {expected}\n{query}"
            );
        }
    }
}

/// The rows of a key since it was last silent for longer than a time to live before a row, that row's peers and later
/// ones included.
fn since_silence<'e>(rows: &[&'e Event], row: &Event, ttl: Option<i64>) -> Vec<&'e Event> {
    let mut start = 0;
    for (at, pair) in rows.windows(2).enumerate() {
        let silent = pair[1].millis - pair[0].millis;
        if pair[1].millis <= row.millis && ttl.is_some_and(|ttl| silent > ttl) {
            start = at + 1;
        }
    }
    rows[start..].to_vec()
}

#[test]
fn over_is_what_the_reference_says_whatever_crashes() {
    for seed in 0..500 {
        over(seed);
    }
}

/// The runs of a key: rows that follow each other within a span. Each as its first row and its last time.
fn runs<'e>(rows: &[&'e Event], within: i64) -> Vec<(&'e Event, i64)> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|row| (row.millis, row.number));
    let mut runs: Vec<(&Event, i64)> = Vec::new();
    for row in sorted {
        match runs.last_mut() {
            Some((_, last)) if row.millis <= *last + within => *last = row.millis,
            _ => runs.push((row, row.millis)),
        }
    }
    runs
}

fn first(seed: u64) {
    let mut random = Rng::with_seed(seed ^ 0x5eed);
    let within = random.u64(..80) as i64;
    let events = stream(&mut random);
    let query = format!(
        "SELECT n AS c000 FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts RANGE INTERVAL '0.{within:03}' SECOND PRECEDING) = 1"
    );
    let got = run(&mut random, &query, &events, seed);
    let mut counted: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    let mut late = 0;
    for event in &events {
        let rows = counted.entry(event.key).or_default();
        let known = runs(rows, within).into_iter().any(|(first, last)| {
            let forgotten = last + within <= event.watermark;
            first.millis <= event.millis && event.millis <= last + within && !forgotten
        });
        if event.millis > event.watermark || known {
            rows.push(event);
        } else {
            late += 1;
        }
    }
    let mut expected: Vec<usize> = counted
        .values()
        .flat_map(|rows| runs(rows, within))
        .map(|(first, _)| first.number)
        .collect();
    let mut firsts: Vec<usize> = got
        .rows
        .iter()
        .map(|(_, line)| values(line)[0].as_u64().unwrap() as usize)
        .collect();
    expected.sort_unstable();
    firsts.sort_unstable();
    assert_eq!(
        firsts, expected,
        "seed {seed}: first rows within {within} ms"
    );
    assert_eq!(got.dead.len(), late, "seed {seed}: late rows");
}

#[test]
fn first_rows_are_what_the_reference_says_whatever_crashes() {
    for seed in 0..500 {
        first(seed);
    }
}

fn top(seed: u64) {
    let mut random = Rng::with_seed(seed ^ 0x709);
    let size = 1 + random.u64(..100) as i64;
    let limit = 1 + random.u64(..5) as usize;
    let descending = random.u64(..2) == 0;
    let events = stream(&mut random);
    let order = if descending {
        "v DESC NULLS LAST"
    } else {
        "v NULLS LAST"
    };
    let query = format!(
        "SELECT n AS c000, k AS c001, rn AS c002 FROM (
           SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY {order}) AS rn
           FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '0.{size:03}' SECOND)) WHERE rn <= {limit}"
    );
    let got = run(&mut random, &query, &events, seed);
    let mut windows: BTreeMap<(i64, u64), Vec<&Event>> = BTreeMap::new();
    let mut late = 0;
    for event in &events {
        let end = event.millis.div_euclid(size) * size + size;
        if end - 1 <= event.watermark {
            late += 1;
        } else {
            windows.entry((end, event.key)).or_default().push(event);
        }
    }
    let mut expected = Vec::new();
    for ((_, key), mut rows) in windows {
        rows.sort_by_key(|row| {
            let by = row
                .value
                .map(|value| if descending { -value } else { value });
            (by.is_none(), by, row.number)
        });
        let best = rows.iter().take(limit).zip(1..);
        expected.extend(best.map(|(row, rank)| vec![json!(row.number), json!(key), json!(rank)]));
    }
    let rows: Vec<Vec<Value>> = got.rows.iter().map(|(_, line)| values(line)).collect();
    let by_text = |rows: Vec<Vec<Value>>| {
        let mut texts: Vec<String> = rows.iter().map(|row| json!(row).to_string()).collect();
        texts.sort();
        texts
    };
    assert_eq!(
        by_text(rows),
        by_text(expected),
        "seed {seed}: best rows\n{query}"
    );
    assert_eq!(got.dead.len(), late, "seed {seed}: late rows");
}

#[test]
fn best_rows_are_what_the_reference_says_whatever_crashes() {
    for seed in 0..300 {
        top(seed);
    }
}
