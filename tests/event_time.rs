//! Time that passes without events, clocks that are wrong, and restarts in between: what closes windows, and what
//! must not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions, SealedEpoch, StateChange, Stored};
use headwater::plan::{Plan, SourceId};
use headwater::sql::{Catalog, compile};
use headwater::state::Packed;
use headwater::types::EventTime;

/// A gateway: an engine, what it has stored, and the clocks beside it.
struct Gateway {
    plan: Arc<Plan>,
    engine: Engine,
    wall: EventTime,
    steady_micros: u64,
    epoch: u64,
    meta: Vec<u8>,
    base: Vec<Packed>,
    deltas: Vec<Vec<u8>>,
}

impl Gateway {
    fn new(sql: &str) -> Self {
        let files = [("pipeline.sql".to_owned(), sql.to_owned())];
        let (plan, _) = compile(&files, &Catalog::default()).unwrap();
        let plan = Arc::new(plan);
        Self {
            engine: engine(&plan),
            plan,
            wall: time("2026-06-01 12:00:00"),
            steady_micros: 0,
            epoch: 0,
            meta: Vec::new(),
            base: Vec::new(),
            deltas: Vec::new(),
        }
    }

    fn clock(&self) -> Clock {
        Clock {
            wall: self.wall,
            steady_micros: self.steady_micros,
        }
    }

    /// Lets seconds pass on both clocks, with a tick each.
    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.steady_micros += 1_000_000;
            self.wall = EventTime::from_micros(self.wall.as_micros() + 1_000_000);
            self.engine.tick(self.clock());
        }
    }

    fn send(&mut self, table: &str, json: &str) {
        let id = self.plan.sources.iter().position(|s| s.name == table);
        let message = Message {
            topic: "t",
            payload: json.as_bytes(),
            qos: 1,
            retain: false,
            received: self.wall,
        };
        let clock = self.clock();
        let id = SourceId(id.expect("the table is read"));
        self.engine.deliver_to(id, &message, clock);
    }

    /// Commits; gives the rows and the reasons of what was discarded.
    fn commit(&mut self) -> (Vec<String>, Vec<&'static str>) {
        let SealedEpoch {
            epoch,
            state,
            meta,
            dead,
            local,
            ..
        } = self.engine.seal(self.clock());
        (self.epoch, self.meta) = (epoch, meta);
        match state {
            StateChange::Unchanged => {}
            StateChange::Delta(delta) => self.deltas.push(delta),
            StateChange::Snapshot(base) => (self.base, self.deltas) = (base, Vec::new()),
        }
        let rows = local.into_iter().map(|row| row.line).collect();
        (rows, dead.iter().map(|letter| letter.reason).collect())
    }

    /// Ends at once and starts again from what is committed.
    fn restart(&mut self) {
        self.engine = engine(&self.plan);
        self.steady_micros = 0;
        let stored = Stored {
            epoch: self.epoch,
            meta: &self.meta,
            base: self.base.clone(),
            deltas: self.deltas.clone(),
        };
        self.engine.restore(stored, &[]).unwrap();
        self.engine.tick(self.clock());
    }
}

fn engine(plan: &Arc<Plan>) -> Engine {
    let options = EngineOptions {
        max_keys: 100,
        max_payload_bytes: 1 << 20,
        least_fold_bytes: 1 << 20,
        connections: Vec::new(),
    };
    Engine::new(plan.clone(), &options)
}

fn time(text: &str) -> EventTime {
    let iso = headwater::codec::TimestampFormat::Sql;
    EventTime::from_micros(headwater::codec::parse_timestamp(text, &iso, false).unwrap())
}

const PER_DEVICE: &str = "
CREATE TABLE t (device STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 't', 'scan.watermark.idle-timeout' = '30 s',
      'scan.watermark.per-key' = 'device');
CREATE TABLE out (device STRING, window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
INSERT INTO out SELECT device, window_start, COUNT(*) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY device, window_start, window_end;
";

#[test]
fn a_silent_key_closes_what_is_open_and_its_backlog_is_not_late() {
    let mut gateway = Gateway::new(PER_DEVICE);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:00:10"}"#);
    gateway.send("t", r#"{"device":"b","ts":"2026-06-01 12:00:10"}"#);
    gateway.wait(45);
    assert_eq!(gateway.commit().0, [""; 0], "the minute has not passed");
    gateway.send("t", r#"{"device":"b","ts":"2026-06-01 12:00:55"}"#);
    gateway.wait(10);
    let a = r#"{"device":"a","window_start":"2026-06-01 12:00:00","n":1}"#;
    assert_eq!(
        gateway.commit().0,
        [a],
        "its own minute has passed for a alone"
    );
    // Two hours later it comes back with what it measured meanwhile.
    gateway.wait(7_200);
    let b = r#"{"device":"b","window_start":"2026-06-01 12:00:00","n":2}"#;
    assert_eq!(gateway.commit().0, [b]);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:00:20"}"#);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:01:20"}"#);
    gateway.restart();
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:00:20"}"#);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:01:20"}"#);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:01:30"}"#);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:02:30"}"#);
    let backlog = r#"{"device":"a","window_start":"2026-06-01 12:01:00","n":2}"#;
    let (rows, dead) = gateway.commit();
    assert_eq!(rows, [backlog]);
    assert_eq!(
        dead,
        ["late"],
        "only the window that was reported is closed"
    );
}

#[test]
fn when_all_keys_are_silent_what_waits_for_the_slowest_closes_too() {
    let all = PER_DEVICE
        .replace("SELECT device,", "SELECT CAST(NULL AS STRING),")
        .replace("GROUP BY device,", "GROUP BY");
    let mut gateway = Gateway::new(&all);
    gateway.send("t", r#"{"device":"a","ts":"2026-06-01 12:00:10"}"#);
    gateway.send("t", r#"{"device":"b","ts":"2026-06-01 12:00:40"}"#);
    gateway.wait(19);
    assert_eq!(gateway.commit().0, [""; 0]);
    gateway.restart();
    gateway.wait(29);
    assert_eq!(gateway.commit().0, [""; 0], "a restart is a sign of life");
    gateway.wait(2);
    let row = r#"{"device":null,"window_start":"2026-06-01 12:00:00","n":2}"#;
    assert_eq!(gateway.commit().0, [row]);
}

const TWO_INPUTS: &str = "
CREATE TABLE a (ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 'a', 'scan.watermark.idle-timeout' = '10 s');
CREATE TABLE b (ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 'b', 'scan.watermark.idle-timeout' = '10 s');
CREATE TABLE out (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
INSERT INTO out SELECT window_start, COUNT(*)
FROM TUMBLE((SELECT ts FROM a UNION ALL SELECT ts FROM b), DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY window_start, window_end;
";

#[test]
fn a_window_that_closed_while_an_input_was_idle_stays_closed_over_a_restart() {
    let mut gateway = Gateway::new(TWO_INPUTS);
    gateway.send("b", r#"{"ts":"2026-06-01 12:00:01"}"#);
    gateway.wait(9);
    gateway.send("a", r#"{"ts":"2026-06-01 12:00:10"}"#);
    gateway.wait(1);
    gateway.send("a", r#"{"ts":"2026-06-01 12:02:00"}"#);
    let first = r#"{"window_start":"2026-06-01 12:00:00","n":2}"#;
    assert_eq!(
        gateway.commit().0,
        [first],
        "b is idle and holds nobody back"
    );
    gateway.restart();
    gateway.send("b", r#"{"ts":"2026-06-01 12:00:20"}"#);
    gateway.send("b", r#"{"ts":"2026-06-01 12:03:00"}"#);
    gateway.send("a", r#"{"ts":"2026-06-01 12:03:00"}"#);
    let (rows, dead) = gateway.commit();
    let second = r#"{"window_start":"2026-06-01 12:02:00","n":1}"#;
    assert_eq!(rows, [second], "no second row for the first window");
    assert_eq!(dead, ["late"]);
}

const BY_ARRIVAL: &str = "
CREATE TABLE t (device STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 't', 'scan.watermark.idle-timeout' = '30 s');
CREATE TABLE out (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
INSERT INTO out SELECT window_start, COUNT(*) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY window_start, window_end;
";

#[test]
fn a_clock_that_jumps_neither_closes_windows_nor_holds_them_open() {
    let mut gateway = Gateway::new(BY_ARRIVAL);
    // The machine has no battery: it believes in 1970 when it starts, and the devices know better.
    gateway.wall = time("1970-01-01 00:00:05");
    gateway.send("t", r#"{"ts":"2026-06-01 12:00:10"}"#);
    gateway.wait(5);
    // Time comes from the network, and with it a jump of decades.
    gateway.wall = time("2026-06-01 12:00:20");
    gateway.wait(5);
    assert_eq!(
        gateway.commit().0,
        [""; 0],
        "a jump is not time that passed"
    );
    // Somebody sets the clock back by hours: the silent input still closes its window, by time that passed.
    gateway.wall = time("2026-06-01 03:00:00");
    gateway.wait(39);
    assert_eq!(gateway.commit().0, [""; 0]);
    gateway.wait(1);
    let row = r#"{"window_start":"2026-06-01 12:00:00","n":1}"#;
    assert_eq!(gateway.commit().0, [row]);
    // And once it runs two days ahead: what the devices send is not late for that.
    gateway.wall = time("2026-06-03 12:00:00");
    gateway.send("t", r#"{"ts":"2026-06-01 12:05:10"}"#);
    gateway.send("t", r#"{"ts":"2026-06-01 12:06:10"}"#);
    let (rows, dead) = gateway.commit();
    assert_eq!(rows.len() + dead.len(), 1, "{rows:?} {dead:?}");
    assert!(rows[0].contains("12:05:00"), "{rows:?}");
}

#[test]
fn one_clock_in_the_future_is_a_dead_letter_and_makes_nobody_late() {
    let mut gateway = Gateway::new(BY_ARRIVAL);
    gateway.send("t", r#"{"device":"bad","ts":"2026-12-31 00:00:00"}"#);
    gateway.send("t", r#"{"device":"good","ts":"2026-06-01 11:59:50"}"#);
    gateway.send("t", r#"{"device":"good","ts":"2026-06-01 12:01:00"}"#);
    let (rows, dead) = gateway.commit();
    assert_eq!(rows, [r#"{"window_start":"2026-06-01 11:59:00","n":1}"#]);
    assert_eq!(dead, ["future"]);
}
