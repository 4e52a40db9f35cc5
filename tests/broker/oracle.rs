//! What has to come out, computed from what was published and from nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::clients::{Collected, Message, by_id};
use crate::random::Random;

/// The pipeline whose results are known: rows above a limit one by one, and ten-second windows of each device.
pub(crate) const SQL: &str = "
CREATE TABLE readings (
  device STRING,
  n BIGINT,
  v BIGINT,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'plant/+/reading', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'SQL'
);
CREATE TABLE high (device STRING, n BIGINT, doubled BIGINT) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'high/{device}', 'qos' = '1', 'format' = 'json'
);
CREATE TABLE summary (
  device STRING, starts TIMESTAMP(3), readings BIGINT, total BIGINT, least BIGINT, most BIGINT
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'summary/{device}', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'SQL'
);
INSERT INTO high SELECT device, n, v * 2 FROM readings WHERE v >= 500;
INSERT INTO summary
SELECT device, window_start, COUNT(*), SUM(v), MIN(v), MAX(v)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
";

const LIMIT: u64 = 500;
const WINDOW_MS: u64 = 10_000;
const DEVICES: u64 = 5;

/// A reading of a device; `ms` since the beginning of the test's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    device: String,
    n: u64,
    v: u64,
    ms: u64,
}

impl Reading {
    pub(crate) fn message(&self) -> Message {
        let Self { device, n, v, ms } = self;
        let ts = time_text(*ms);
        Message {
            topic: format!("plant/{device}/reading"),
            payload: format!(r#"{{"device":"{device}","n":{n},"v":{v},"ts":"{ts}"}}"#).into_bytes(),
        }
    }
}

/// `count` readings in the order of their time, half of them the same bytes on the same topic as the one before, in
/// runs that are often longer than a broker's window. The last one closes all windows before it.
pub(crate) fn readings(random: &mut Random, count: usize) -> Vec<Reading> {
    let mut readings: Vec<Reading> = Vec::with_capacity(count);
    let (mut ms, mut fresh) = (0, 0);
    while readings.len() + 1 < count {
        if fresh == 0 {
            fresh = random.between(1, 60);
            // As many repetitions as there are different readings, in one run.
            let repeated = random.between(1, 60) as usize;
            if let Some(last) = readings.last().cloned() {
                let room = count - 1 - readings.len();
                readings.extend(std::iter::repeat_n(last, repeated.min(room)));
                continue;
            }
        }
        fresh -= 1;
        ms += random.between(0, 400);
        let device = format!("pump-{}", random.between(0, DEVICES));
        readings.push(Reading {
            device,
            n: readings.len() as u64,
            v: random.between(0, 1_000),
            ms,
        });
    }
    let n = readings.len() as u64;
    readings.push(Reading {
        device: "last".to_owned(),
        n,
        v: 0,
        ms: ms + 3_600_000,
    });
    readings
}

/// `2025-06-01 HH:MM:SS.mmm`; the tests' time is a day at the most.
fn time_text(ms: u64) -> String {
    let (s, m, h) = (ms / 1_000 % 60, ms / 60_000 % 60, ms / 3_600_000);
    assert!(h < 24, "a day is enough");
    format!("2025-06-01 {h:02}:{m:02}:{s:02}.{:03}", ms % 1_000)
}

/// A window's result: readings, total, least, most.
type Sums = (u64, u64, u64, u64);

/// What has to come upstream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// How often each row comes: device, number, doubled value.
    high: BTreeMap<(String, u64, u64), usize>,
    /// The windows by device and start.
    windows: BTreeMap<(String, String), Sums>,
}

impl Expected {
    pub(crate) fn of(readings: &[Reading]) -> Self {
        let mut expected = Self::default();
        let end = readings.iter().map(|reading| reading.ms).max().unwrap_or(0);
        for Reading { device, n, v, ms } in readings {
            if *v >= LIMIT {
                *expected
                    .high
                    .entry((device.clone(), *n, v * 2))
                    .or_default() += 1;
            }
            let start = ms / WINDOW_MS * WINDOW_MS;
            // Windows that the last reading leaves open do not come; the others are far behind it.
            if start + WINDOW_MS + 3_000 <= end {
                // Windows start at whole seconds, and no fraction is written then.
                let starts = time_text(start).trim_end_matches(".000").to_owned();
                let sums = expected.windows.entry((device.clone(), starts));
                let (count, total, least, most) = sums.or_insert((0, 0, u64::MAX, 0));
                *count += 1;
                *total += v;
                *least = (*least).min(*v);
                *most = (*most).max(*v);
            }
        }
        expected
    }

    /// How many events have to come.
    pub(crate) fn len(&self) -> usize {
        self.high.values().sum::<usize>() + self.windows.len()
    }

    /// What is wrong with what came, a line for each deviation; empty if nothing is. Repetitions of one event (the
    /// same id) are allowed and must be the same in every byte.
    pub(crate) fn deviations(&self, collected: &[Collected]) -> Vec<String> {
        let mut found = Self::default();
        let mut deviations = Vec::new();
        for event in by_id(collected).values() {
            let row: Value = match serde_json::from_slice(&event.payload) {
                Ok(row) => row,
                Err(error) => {
                    deviations.push(format!("no JSON: {event:?}: {error}"));
                    continue;
                }
            };
            let device = row["device"].as_str().unwrap_or("?").to_owned();
            let number = |name: &str| row[name].as_u64().unwrap_or(u64::MAX);
            if event.topic == format!("high/{device}") {
                *found
                    .high
                    .entry((device, number("n"), number("doubled")))
                    .or_default() += 1;
            } else if event.topic == format!("summary/{device}") {
                let starts = row["starts"].as_str().unwrap_or("?").to_owned();
                let sums = (
                    number("readings"),
                    number("total"),
                    number("least"),
                    number("most"),
                );
                if let Some(before) = found.windows.insert((device.clone(), starts.clone()), sums) {
                    deviations.push(format!(
                        "window {device} {starts} came as {before:?} and as {sums:?}"
                    ));
                }
            } else {
                deviations.push(format!("unexpected topic: {event:?}"));
            }
        }
        compare("row", &self.high, &found.high, &mut deviations);
        compare("window", &self.windows, &found.windows, &mut deviations);
        deviations
    }

    /// Panics with the deviations, if there are any.
    #[track_caller]
    pub(crate) fn assert_fulfilled(&self, collected: &[Collected]) {
        let deviations = self.deviations(collected);
        if !deviations.is_empty() {
            let mut text = String::new();
            for line in deviations
                .iter()
                .take(8)
                .chain(deviations.iter().rev().take(8))
            {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "  {line}");
            }
            panic!("{} deviations from the oracle:\n{text}", deviations.len());
        }
    }
}

fn compare<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    deviations: &mut Vec<String>,
) {
    for (key, value) in expected {
        match found.get(key) {
            Some(other) if other == value => {}
            Some(other) => deviations.push(format!(
                "{what} {key:?}: expected {value:?}, came {other:?}"
            )),
            None => deviations.push(format!("{what} {key:?}: expected {value:?}, did not come")),
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        deviations.push(format!("{what} {key:?}: came {value:?}, not expected"));
    }
}
