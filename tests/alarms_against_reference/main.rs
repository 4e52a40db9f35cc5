//! Alarms over random streams, settings, commands and crashes, against a naive reference that sees the whole input in
//! order and goes through it second by second, looking back at all readings each time.
//!
//! A failure prints its seed; `ALARM_SEED=n` runs that one alone.
#![allow(clippy::unwrap_used)]

mod reference;
#[path = "../support/engine.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use headwater::plan::Plan;
use headwater::sql::{Catalog, compile};
use serde_json::{Value, json};

use reference::reference;
use support::{Disk, clock, deliver, engine};

const KEYS: u64 = 3;

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.next(of.len() as u64) as usize]
    }
}

/// An alarm as the reference knows it.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) on: i64,
    pub(crate) off: i64,
    pub(crate) again: Option<i64>,
    pub(crate) latch: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) rules: Vec<Rule>,
    pub(crate) deadband: f64,
    pub(crate) silent: Option<i64>,
    pub(crate) lateness: i64,
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Reading {
        key: u64,
        time: i64,
        value: Option<f64>,
    },
    Command {
        key: u64,
        command: &'static str,
        alarm: Option<&'static str>,
        seconds: Option<i64>,
    },
}

fn settings(random: &mut Random) -> Settings {
    let mut rules = Vec::new();
    let silent = (random.next(2) == 0).then(|| random.one(&[8, 20]));
    for name in ["HI", "HIHI", "LO", "odd", "SILENT"] {
        let own_delay = name == "SILENT";
        if (own_delay && silent.is_some()) || (!own_delay && random.next(3) > 0) {
            let delay = |random: &mut Random| random.one(&[0, 0, 5, 12]);
            rules.push(Rule {
                name,
                on: if own_delay { 0 } else { delay(random) },
                off: if own_delay { 0 } else { delay(random) },
                again: random.one(&[None, Some(7), Some(20)]),
                latch: random.next(3) == 0,
            });
        }
    }
    if rules.is_empty() {
        return settings(random);
    }
    Settings {
        rules,
        deadband: random.one(&[0.0, 1.0, 2.5]),
        silent,
        lateness: random.one(&[1, 4, 40]),
    }
}

fn messages(random: &mut Random, settings: &Settings) -> Vec<Message> {
    let mut now = 100;
    let mut values = [5.0_f64; KEYS as usize];
    let names: Vec<&'static str> = settings.rules.iter().map(|rule| rule.name).collect();
    let mut all = Vec::new();
    for _ in 0..40 + random.next(100) {
        let key = random.next(KEYS);
        if random.next(6) == 0 {
            let command = random.one(&["acknowledge", "acknowledge", "shelve", "unshelve"]);
            all.push(Message::Command {
                key,
                command,
                alarm: (random.next(2) == 0).then(|| random.one(&names)),
                seconds: (command == "shelve").then(|| 1 + random.next(30) as i64),
            });
            continue;
        }
        now += random.one(&[0, 0, 1, 1, 2, 3, 6, 15]);
        let value = &mut values[key as usize];
        *value = (*value + random.one(&[-3.0, -1.0, 0.0, 0.0, 1.0, 3.0])).clamp(0.0, 12.0);
        all.push(Message::Reading {
            key,
            // Up to a second later than the lateness allows.
            time: now - random.next(settings.lateness as u64 + 2) as i64 * random.next(2) as i64,
            value: (random.next(8) > 0).then_some(*value),
        });
    }
    all
}

fn plan(settings: &Settings) -> Arc<Plan> {
    let mut call = String::new();
    let has = |name: &str| settings.rules.iter().any(|rule| rule.name == name);
    for (name, setting) in [
        ("HI", "high => 8"),
        ("HIHI", "high_high => 10"),
        ("LO", "low => 2"),
    ] {
        if has(name) {
            let _ = write!(call, ", {setting}");
        }
    }
    if ["HI", "HIHI", "LO"].into_iter().any(has) {
        let _ = write!(call, ", deadband => {}", settings.deadband);
    }
    if has("odd") {
        let _ = write!(
            call,
            ", name => 'odd', condition => v IN (3, 5, 7, 9), clear => v = 4 OR v = 6"
        );
    }
    if let Some(silent) = settings.silent {
        let _ = write!(call, ", silent_after => INTERVAL '{silent}' SECOND");
    }
    let mut each = |setting: &str, of: &dyn Fn(&Rule) -> Option<String>| {
        let given = settings
            .rules
            .iter()
            .filter_map(|rule| Some(format!("'{}', {}", rule.name, of(rule)?)));
        let given: Vec<String> = given.collect();
        if !given.is_empty() {
            let _ = write!(call, ", {setting} => MAP[{}]", given.join(", "));
        }
    };
    let span = |seconds: i64| (seconds > 0).then(|| format!("INTERVAL '{seconds}' SECOND"));
    each("on_delay", &|rule| span(rule.on));
    each("off_delay", &|rule| span(rule.off));
    each("re_alarm", &|rule| span(rule.again?));
    each("latch", &|rule| rule.latch.then(|| "TRUE".to_owned()));
    let sql = format!(
        "CREATE TABLE t (k BIGINT, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '{}' SECOND)
         WITH ('connector' = 'filesystem', 'path' = 't', 'json.timestamp-format.standard' = 'SQL');
         CREATE TABLE c (k BIGINT, command STRING, alarm STRING, duration BIGINT)
         WITH ('connector' = 'filesystem', 'path' = 'c');
         CREATE TABLE out (k BIGINT, alarm STRING, event STRING, state STRING, at BIGINT, raised_at BIGINT,
           duration DOUBLE, `value` DOUBLE, peak DOUBLE, first_out BOOLEAN, raises BIGINT,
           raises_last_minute INT, shelved_until BIGINT) WITH ('connector' = 'print');
         INSERT INTO out SELECT k, alarm, event, state, TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', at),
           TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', raised_at), duration, `value`, peak, first_out, raises,
           raises_last_minute, TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', shelved_until)
         FROM ALARM(TABLE t PARTITION BY k, DESCRIPTOR(ts), value => v, commands => TABLE c{call});",
        settings.lateness
    );
    let files = [("pipeline.sql".to_owned(), sql)];
    let (plan, _) = compile(&files, &Catalog::default()).unwrap_or_else(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", problems.join("\n"))
    });
    Arc::new(plan)
}

fn payload(message: &Message) -> (&'static str, String) {
    match message {
        Message::Reading { key, time, value } => {
            let ts = format!("1970-01-01 00:{:02}:{:02}", time / 60, time % 60);
            ("t", json!({"k": key, "v": value, "ts": ts}).to_string())
        }
        Message::Command {
            key,
            command,
            alarm,
            seconds,
        } => {
            let said = json!({"k": key, "command": command, "alarm": alarm, "duration": seconds});
            ("c", said.to_string())
        }
    }
}

/// The ids and rows that the engine gives, and the reasons of dead letters; killed with probability 1 in `kill`.
fn run(plan: &Arc<Plan>, messages: &[Message], random: &mut Random, kill: u64) -> Disk {
    let fold = random.one(&[0, 200, 1 << 30]);
    let table = |name: &str| plan.sources.iter().position(|s| s.name == name).unwrap();
    let mut disk = Disk::default();
    let mut running = engine(plan, fold);
    let (mut at, mut committed) = (0, 0);
    while at < messages.len() {
        let (name, text) = payload(&messages[at]);
        deliver(&mut running, table(name), &text, clock(0));
        at += 1;
        match random.next(kill) {
            0 => {
                running = disk.restored(plan, fold);
                at = committed;
            }
            1 => {
                disk.commit(running.seal(clock(0)));
                committed = at;
            }
            _ => {}
        }
    }
    running.finish();
    disk.commit(running.seal(clock(0)));
    disk
}

/// Checks one seed; gives how often each event came.
fn check(seed: u64) -> BTreeMap<String, usize> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let settings = settings(&mut random);
    let messages = messages(&mut random, &settings);
    let plan = plan(&settings);
    let whole = run(&plan, &messages, &mut random, 1 << 40);
    let torn = run(&plan, &messages, &mut random, 6);
    assert_eq!(
        whole.rows, torn.rows,
        "seed {seed}: crashes change the rows"
    );
    assert_eq!(
        whole.dead, torn.dead,
        "seed {seed}: crashes change the dead letters"
    );
    let mut ids: Vec<&String> = whole.rows.iter().map(|(id, _)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        whole.rows.len(),
        "seed {seed}: an id comes twice"
    );
    let (expected, dead) = reference(&settings, &messages);
    let mut found: BTreeMap<u64, Vec<Value>> =
        expected.keys().map(|key| (*key, Vec::new())).collect();
    for (_, line) in &whole.rows {
        let row: Value = serde_json::from_str(line).unwrap();
        found
            .entry(row["k"].as_u64().unwrap())
            .or_default()
            .push(row);
    }
    for (key, expected) in &expected {
        let found = &found[key];
        for (at, row) in expected.iter().enumerate() {
            assert_eq!(
                found.get(at),
                Some(row),
                "seed {seed}: row {at} of key {key}\n{settings:#?}\n{messages:?}\nbefore: {:#?}",
                &expected[at.saturating_sub(5)..at]
            );
        }
        assert_eq!(
            found.len(),
            expected.len(),
            "seed {seed}: key {key} has more rows: {:#?}",
            &found[expected.len()..]
        );
    }
    assert_eq!(whole.dead.len(), dead, "seed {seed}: {:?}", whole.dead);
    let mut events = BTreeMap::new();
    for row in expected.values().flatten() {
        *events.entry(row["event"].to_string()).or_default() += 1;
    }
    events
}

#[test]
fn alarms_are_those_of_the_reference_whatever_crashes() {
    if let Ok(seed) = std::env::var("ALARM_SEED") {
        check(seed.parse().unwrap());
        return;
    }
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..400 {
        for (event, count) in check(seed) {
            *all.entry(event).or_default() += count;
        }
    }
    // A test in which nothing happens would pass, too.
    assert!(
        all.len() == 7 && all.values().all(|count| *count > 100),
        "{all:?}"
    );
}
