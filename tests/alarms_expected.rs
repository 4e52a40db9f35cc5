//! Keys that are to report, and a gateway that is started again: what the files of tables say while it runs and while it
//! does not, bounds, and commands in flight when it is killed.
#![allow(clippy::unwrap_used)]

#[path = "support/engine.rs"]
mod support;

use std::sync::Arc;

use headwater::engine::{Clock, Engine};
use headwater::plan::{Plan, TableId};
use headwater::sql::{Catalog, compile};
use headwater::types::EventTime;

use support::{Disk, clock, deliver, engine};

const SQL: &str = "
CREATE TABLE t (device STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 't', 'scan.watermark.idle-timeout' = '10 s');
CREATE TABLE devices (device STRING) WITH ('connector' = 'filesystem', 'path' = 'd', 'format' = 'json');
CREATE TABLE c (device STRING, command STRING, duration STRING)
WITH ('connector' = 'filesystem', 'path' = 'c');
CREATE TABLE out (device STRING, event STRING, state STRING, at TIMESTAMP(3)) WITH ('connector' = 'print');
INSERT INTO out SELECT device, event, state, at
FROM ALARM(TABLE t PARTITION BY device, DESCRIPTOR(ts), silent_after => INTERVAL '1' MINUTE, latch => TRUE,
           expected => TABLE devices, commands => TABLE c);
";

fn plan() -> Arc<Plan> {
    plan_of(SQL)
}

fn plan_of(sql: &str) -> Arc<Plan> {
    let files = [("pipeline.sql".to_owned(), sql.to_owned())];
    Arc::new(compile(&files, &Catalog::default()).unwrap().0)
}

fn table(plan: &Plan, name: &str) -> usize {
    plan.sources.iter().position(|s| s.name == name).unwrap()
}

fn list(engine: &mut Engine, devices: &[&str]) {
    let lines: Vec<String> = devices
        .iter()
        .map(|device| format!("{{\"device\":\"{device}\"}}\n"))
        .collect();
    engine
        .load_table(TableId(0), lines.concat().as_bytes())
        .unwrap();
}

fn read(plan: &Plan, engine: &mut Engine, device: &str, time: &str) {
    let text = format!("{{\"device\":\"{device}\",\"ts\":\"2026-03-01 {time}\"}}");
    deliver(engine, table(plan, "t"), &text, clock(0));
}

fn command(plan: &Plan, engine: &mut Engine, device: &str, command: &str) {
    let text =
        format!("{{\"device\":\"{device}\",\"command\":\"{command}\",\"duration\":\"5 min\"}}");
    deliver(engine, table(plan, "c"), &text, clock(0));
}

/// The rows since the last look, as `device event state time`.
fn told(disk: &mut Disk) -> Vec<String> {
    disk.rows
        .drain(..)
        .map(|(_, line)| {
            let row: serde_json::Value = serde_json::from_str(&line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let at = text("at");
            format!(
                "{} {} {} {}",
                text("device"),
                text("event"),
                text("state"),
                &at[11..]
            )
        })
        .collect()
}

#[test]
fn a_key_taken_off_the_list_is_not_missed_any_more() {
    let (plan, mut disk) = (plan(), Disk::default());
    let mut running = engine(&plan, 1 << 20);
    list(&mut running, &["a", "b", "c"]);
    read(&plan, &mut running, "a", "12:00:00");
    read(&plan, &mut running, "a", "12:01:00");
    read(&plan, &mut running, "b", "12:01:30");
    disk.commit(running.seal(clock(0)));
    let raised = [
        "b raised unacknowledged 12:01:00",
        "c raised unacknowledged 12:01:00",
        "b returned latched unacknowledged 12:01:30",
    ];
    assert_eq!(told(&mut disk), raised);
    // While it runs: cleared at the present time, latched or not.
    list(&mut running, &["a", "b"]);
    assert!(running.has_changes(), "it is committed without a row");
    disk.commit(running.seal(clock(0)));
    assert_eq!(told(&mut disk), ["c cleared normal 12:01:30"]);
    // While it does not run; killed before that is committed, it is found again, with the same id.
    let mut ids = Vec::new();
    for _ in 0..2 {
        running = disk.restored(&plan, 0);
        list(&mut running, &["a"]);
        let row = running.seal(clock(0)).local.remove(0);
        ids.push((row.id, row.line));
    }
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].1.contains("\"b\",\"event\":\"cleared\""), "{ids:?}");
    running = disk.restored(&plan, 0);
    list(&mut running, &["a"]);
    disk.commit(running.seal(clock(0)));
    told(&mut disk);
    // Neither is missed from now on; b is again when it reports again, listed or not.
    read(&plan, &mut running, "a", "12:10:00");
    read(&plan, &mut running, "b", "12:10:01");
    read(&plan, &mut running, "a", "12:11:01");
    disk.commit(running.seal(clock(0)));
    assert_eq!(
        told(&mut disk),
        [
            "a raised unacknowledged 12:02:00",
            "a returned latched unacknowledged 12:10:00",
            "a re-alarmed unacknowledged 12:11:00",
            "a returned latched unacknowledged 12:11:01",
            "b raised unacknowledged 12:11:01",
        ]
    );
}

#[test]
fn listed_keys_count_against_the_bound_and_are_refused_beyond_it() {
    let (plan, mut disk) = (plan(), Disk::default());
    let mut running = engine(&plan, 1 << 20);
    for key in 0..1_000 {
        read(
            &plan,
            &mut running,
            &format!("device-{key}"),
            "12:00:00.001",
        );
    }
    // All rows but the first are late: the first has moved the watermark.
    list(&mut running, &["a", "b"]);
    disk.commit(running.seal(clock(0)));
    let names: Vec<String> = (0..1_000).map(|key| format!("d{key}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    disk.dead.clear();
    list(&mut running, &names);
    disk.commit(running.seal(clock(0)));
    // 1,000 keys: the one that has reported and 999 of the list, since `a` and `b` are forgotten.
    assert_eq!(disk.dead.len(), 1, "{:?}", disk.dead);
    let (reason, detail) = &disk.dead[0];
    assert_eq!(reason, "max_keys");
    assert!(detail.contains("'d999'") && detail.contains("limits.max_keys = 1000"));
}

#[test]
fn a_kill_with_commands_in_flight_gives_the_same_rows() {
    let plan = plan();
    let all = |kill_at: Option<usize>| {
        let mut disk = Disk::default();
        let mut running = engine(&plan, 0);
        list(&mut running, &["a"]);
        let steps: [&dyn Fn(&mut Engine); 7] = [
            &|e| read(&plan, e, "b", "12:00:00"),
            &|e| read(&plan, e, "b", "12:01:00"),
            &|e| command(&plan, e, "a", "acknowledge"),
            &|e| command(&plan, e, "b", "shelve"),
            &|e| read(&plan, e, "a", "12:02:30"),
            &|e| read(&plan, e, "a", "12:07:00"),
            &|e| command(&plan, e, "b", "acknowledge"),
        ];
        for (at, step) in steps.iter().enumerate() {
            step(&mut running);
            if kill_at == Some(at) {
                // Processed and not committed: the broker sends it again.
                running = disk.restored(&plan, 0);
                list(&mut running, &["a"]);
                step(&mut running);
            }
            disk.commit(running.seal(clock(0)));
        }
        (disk.rows, disk.dead)
    };
    let whole = all(None);
    assert_eq!(whole.0.len(), 9, "{whole:?}");
    for kill_at in 0..7 {
        assert_eq!(all(Some(kill_at)), whole, "killed at {kill_at}");
    }
}

/// 2026-03-01 12:00:00 and so many seconds, on both clocks.
fn after_noon(seconds: u64) -> Clock {
    Clock {
        wall: EventTime::from_millis(1_772_366_400_000 + seconds as i64 * 1_000),
        steady_micros: seconds * 1_000_000,
    }
}

fn read_at(plan: &Plan, engine: &mut Engine, device: &str, time: &str, clock: Clock) {
    let text = format!("{{\"device\":\"{device}\",\"ts\":\"2026-03-01 {time}\"}}");
    deliver(engine, table(plan, "t"), &text, clock);
}

/// A gateway that has heard of `a` and `b` at noon, and is off since then.
fn off_since_noon(plan: &Arc<Plan>) -> (Disk, Engine) {
    let mut disk = Disk::default();
    let mut running = engine(plan, 1 << 20);
    read_at(plan, &mut running, "a", "12:00:00", after_noon(0));
    read_at(plan, &mut running, "b", "12:00:01", after_noon(1));
    disk.commit(running.seal(after_noon(1)));
    let restored = disk.restored(plan, 1 << 20);
    (disk, restored)
}

#[test]
fn the_grace_after_a_start_is_by_the_clock_that_is_told() {
    let plan = plan();
    let (mut disk, mut running) = off_since_noon(&plan);
    // A clock that was put back stands at the last committed time.
    let put_back = Clock {
        wall: EventTime::from_millis(0),
        steady_micros: 0,
    };
    assert_eq!(running.now(put_back), after_noon(1).wall);
    running.started(after_noon(3_600));
    for (time, seconds) in [("13:00:30", 3_630), ("13:00:59.999", 3_660)] {
        read_at(&plan, &mut running, "b", time, after_noon(seconds));
    }
    disk.commit(running.seal(after_noon(3_660)));
    assert!(
        told(&mut disk).is_empty(),
        "the grace is a minute, as long as silent_after"
    );
    read_at(&plan, &mut running, "b", "13:01:00", after_noon(3_660));
    disk.commit(running.seal(after_noon(3_660)));
    assert_eq!(told(&mut disk), ["a raised unacknowledged 13:01:00"]);
}

/// A gateway without a battery begins at the last committed time, and its clock is set when the network is there: with
/// the first reading of today all others would be silent at once.
#[test]
fn a_clock_that_is_set_behind_the_start_does_not_end_the_grace() {
    let plan = plan();
    let (mut disk, mut running) = off_since_noon(&plan);
    let unset = |seconds: u64| Clock {
        wall: EventTime::from_millis(0),
        steady_micros: seconds * 1_000_000,
    };
    running.started(unset(0));
    running.tick(unset(20));
    let set = |seconds: u64| Clock {
        steady_micros: seconds * 1_000_000,
        ..after_noon(3_600 + seconds)
    };
    read_at(&plan, &mut running, "b", "13:00:30", set(30));
    disk.commit(running.seal(set(30)));
    assert!(told(&mut disk).is_empty());
    read_at(&plan, &mut running, "b", "13:01:00", set(60));
    disk.commit(running.seal(set(60)));
    assert_eq!(told(&mut disk), ["a raised unacknowledged 13:01:00"]);
}

/// One moment in the year 2036, and the last committed time kept silence from being told until then.
#[test]
fn a_clock_that_was_ahead_for_a_moment_does_not_put_silence_off() {
    let plan = plan();
    let ahead = Clock {
        wall: EventTime::from_millis(2_100_000_000_000),
        ..after_noon(2)
    };
    // Before a restart, and while it runs.
    for again in [true, false] {
        let (mut disk, mut running) = off_since_noon(&plan);
        running.started(after_noon(1));
        running.tick(ahead);
        disk.commit(running.seal(ahead));
        if again {
            running = disk.restored(&plan, 0);
            running.started(after_noon(3));
        }
        wait(&mut running, 3, 65);
        disk.commit(running.seal(after_noon(65)));
        let silent = if again { "12:01:03" } else { "12:01:01" };
        assert_eq!(
            told(&mut disk),
            ["a", "b"].map(|device| format!("{device} raised unacknowledged {silent}"))
        );
    }
}

/// Told to be silent by a clock that was years ahead, a device was not missed again for as long.
#[test]
fn what_was_told_by_a_clock_that_was_ahead_is_taken_back() {
    let plan = plan();
    let ahead = |seconds: u64| Clock {
        wall: EventTime::from_millis(2_100_000_000_000 + seconds as i64 * 1_000),
        steady_micros: seconds * 1_000_000,
    };
    for again in [true, false] {
        let (mut disk, mut running) = off_since_noon(&plan);
        running.started(ahead(2));
        for seconds in 2..100 {
            running.tick(ahead(seconds));
        }
        disk.commit(running.seal(ahead(100)));
        assert_eq!(told(&mut disk).len(), 2);
        if again {
            running = disk.restored(&plan, 0);
            running.started(after_noon(101));
        }
        read_at(&plan, &mut running, "a", "12:01:50", after_noon(110));
        read_at(&plan, &mut running, "a", "12:03:00", after_noon(180));
        disk.commit(running.seal(after_noon(180)));
        let last = told(&mut disk).pop().unwrap();
        assert!(last.starts_with("a returned latched"), "{last}");
        // Silent from then on.
        wait(&mut running, 180, 300);
        disk.commit(running.seal(after_noon(300)));
        let silent = told(&mut disk);
        let raised = silent
            .iter()
            .any(|row| row == "a re-alarmed unacknowledged 12:04:00");
        assert!(raised, "{silent:?}");
    }
}

/// Moving a setpoint lost what stood, and left it on the broker for ever where it was retained.
#[test]
fn moving_a_setpoint_keeps_what_stands() {
    let sql = "
CREATE TABLE t (device STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = 't');
CREATE TABLE out (device STRING, event STRING, state STRING, at TIMESTAMP(3)) WITH ('connector' = 'print');
INSERT INTO out SELECT device, event, state, at FROM ALARM(TABLE t PARTITION BY device, DESCRIPTOR(ts), value => v,
  high => 8, on_delay => INTERVAL '10' SECOND);
INSERT INTO out SELECT device, event, state, at FROM ALARM(TABLE t PARTITION BY device, DESCRIPTOR(ts), value => v,
  high => 80, on_delay => INTERVAL '10' SECOND, severity => 'high');";
    let before = plan_of(sql);
    let after = plan_of(&sql.replace("high => 8,", "high => 6, deadband => 1,"));
    let read = |plan: &Plan, engine: &mut Engine, v: f64, time: &str| {
        let text = format!("{{\"device\":\"a\",\"v\":{v},\"ts\":\"2026-03-01 {time}\"}}");
        deliver(engine, table(plan, "t"), &text, clock(0));
    };
    let mut disk = Disk::default();
    let mut running = engine(&before, 0);
    for (v, time) in [(9.0, "12:00:00"), (9.0, "12:00:20")] {
        read(&before, &mut running, v, time);
    }
    disk.commit(running.seal(clock(0)));
    assert_eq!(told(&mut disk), ["a raised unacknowledged 12:00:10"]);
    let mut running = disk.restored(&after, 0);
    for (v, time) in [(7.0, "12:01:00"), (5.5, "12:02:00"), (4.9, "12:03:00")] {
        read(&after, &mut running, v, time);
    }
    disk.commit(running.seal(clock(0)));
    assert_eq!(told(&mut disk), ["a cleared normal 12:03:00"]);
}

fn wait(engine: &mut Engine, from: u64, to: u64) {
    for seconds in from..=to {
        engine.tick(after_noon(seconds));
    }
}

#[test]
fn silence_after_downtime_is_told_after_the_grace_and_makes_no_backlog_late() {
    let plan = plan();
    let (mut disk, mut running) = off_since_noon(&plan);
    running.started(after_noon(3_600));
    wait(&mut running, 3_600, 3_659);
    disk.commit(running.seal(after_noon(3_659)));
    assert!(told(&mut disk).is_empty());
    wait(&mut running, 3_660, 3_661);
    assert!(running.has_changes());
    // Killed before that is committed: a new start, and a grace of its own.
    running = disk.restored(&plan, 0);
    running.started(after_noon(3_661));
    wait(&mut running, 3_661, 3_725);
    let silent = [
        "a raised unacknowledged 13:02:01",
        "b raised unacknowledged 13:02:01",
    ];
    disk.commit(running.seal(after_noon(3_725)));
    assert_eq!(told(&mut disk), silent);
    // Killed when it is: nothing is told again.
    running = disk.restored(&plan, 0);
    running.started(after_noon(3_730));
    wait(&mut running, 3_730, 3_900);
    // Somebody has seen it. It is shelved by the time that it is, and not by that of the last reading.
    for (device, said) in [("a", "acknowledge"), ("b", "shelve")] {
        let text =
            format!("{{\"device\":\"{device}\",\"command\":\"{said}\",\"duration\":\"5 min\"}}");
        deliver(&mut running, table(&plan, "c"), &text, after_noon(3_900));
    }
    disk.commit(running.seal(after_noon(3_900)));
    assert_eq!(
        told(&mut disk),
        [
            "a acknowledged acknowledged 13:02:01",
            "b shelved shelved 13:02:01"
        ]
    );
    wait(&mut running, 3_900, 4_199);
    disk.commit(running.seal(after_noon(4_199)));
    assert!(told(&mut disk).is_empty());
    wait(&mut running, 4_200, 4_200);
    disk.commit(running.seal(after_noon(4_200)));
    assert_eq!(
        told(&mut disk),
        [
            "b unshelved normal 13:10:00",
            "b raised unacknowledged 13:10:00"
        ]
    );
    // What a kept of the time while the gateway was off is not late. It ends the silence when that was told.
    for (device, time) in [("a", "12:30:00"), ("a", "12:31:00"), ("a", "13:10:10")] {
        read_at(&plan, &mut running, device, time, after_noon(4_210));
    }
    disk.commit(running.seal(after_noon(4_210)));
    assert!(disk.dead.is_empty(), "{:?}", disk.dead);
    assert_eq!(
        told(&mut disk),
        [
            "a cleared normal 13:02:01",
            // By its readings it was silent again, behind the grace of the last start.
            "a raised unacknowledged 13:03:10",
            "a returned latched unacknowledged 13:10:10",
        ]
    );
}

/// A key that is silent in its own time stands at its last reading or alarm: an hour from there was over when it began.
#[test]
fn a_key_that_is_silent_in_its_own_time_is_shelved_from_now_on() {
    let sql = SQL.replace("'10 s'", "'10 s', 'scan.watermark.per-key' = 'device'");
    let plan = plan_of(&sql.replace("expected => TABLE devices,", ""));
    let (mut disk, mut running) = (Disk::default(), engine(&plan, 0));
    running.started(after_noon(0));
    for device in ["a", "b"] {
        read_at(&plan, &mut running, device, "12:00:00", after_noon(0));
    }
    wait(&mut running, 1, 1_800);
    let shelve = "{\"device\":\"a\",\"command\":\"shelve\",\"duration\":\"5 min\"}";
    deliver(&mut running, table(&plan, "c"), shelve, after_noon(1_800));
    wait(&mut running, 1_801, 2_099);
    disk.commit(running.seal(after_noon(2_099)));
    assert_eq!(
        told(&mut disk),
        [
            "a raised unacknowledged 12:01:00",
            "b raised unacknowledged 12:01:00",
            "a shelved shelved 12:01:00",
        ]
    );
    wait(&mut running, 2_100, 2_101);
    disk.commit(running.seal(after_noon(2_101)));
    let ended = [
        "a unshelved normal 12:35:00",
        "a raised unacknowledged 12:35:00",
    ];
    assert_eq!(told(&mut disk), ended);
    // What b has kept is not late for that.
    read_at(&plan, &mut running, "b", "12:01:30", after_noon(2_102));
    disk.commit(running.seal(after_noon(2_102)));
    assert!(disk.dead.is_empty(), "{:?}", disk.dead);
    assert_eq!(
        told(&mut disk),
        ["b returned latched unacknowledged 12:01:30"]
    );

    // The gateway is off for an hour, and only b comes back: a key of its own time is told by the clock, too.
    running = disk.restored(&plan, 0);
    running.started(after_noon(7_200));
    read_at(&plan, &mut running, "b", "14:00:00", after_noon(7_200));
    wait(&mut running, 7_201, 7_259);
    disk.commit(running.seal(after_noon(7_259)));
    assert!(told(&mut disk).is_empty());
    wait(&mut running, 7_260, 7_270);
    disk.commit(running.seal(after_noon(7_270)));
    assert_eq!(
        told(&mut disk),
        ["b re-alarmed unacknowledged 14:01:00"],
        "a stands already"
    );
}
