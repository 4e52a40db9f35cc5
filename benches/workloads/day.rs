//! A day of a gateway in the seconds that its commits take: 1,000 devices report once a minute, with one commit a minute, to a
//! file. What that writes is the same on every run, and as `benches/flash` finds it in an hour; what the filesystem writes
//! for itself is not in it.

use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{
    Clock, ConnectionOptions, Delivery, Engine, EngineOptions, LEAST_FOLD_BYTES, OutboxLimits,
    Policy,
};
use headwater::runtime::commit::{epoch_commit, resume};
use headwater::sql::{Catalog, compile};
use headwater::store::{Store, StoreOptions};
use headwater::types::EventTime;

const DEVICES: u64 = 1_000;
const MINUTES: u64 = 1_440;
/// Until the file no longer grows, and state has been folded for the first time.
const WARM_MINUTES: u64 = 120;
const FIRST_MILLIS: u64 = 1_760_000_000_000;

const SOURCE: &str = "
CREATE TABLE readings (device STRING, ts TIMESTAMP_LTZ(3), x DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (
  'connector' = 'mqtt', 'topic' = 'in', 'qos' = '1', 'format' = 'json', 'json.timestamp-format.standard' = 'epoch-millis');
";

/// What is run for a day: a name, and the query.
const DAYS: [(&str, &str); 2] = [
    (
        "day-alarms",
        "CREATE TABLE alarms (device STRING, event STRING) WITH ('connector' = 'mqtt', 'topic' = 'out', 'qos' = '1',
           'format' = 'json');
         INSERT INTO alarms SELECT device, event FROM ALARM(TABLE readings PARTITION BY device, DESCRIPTOR(ts),
           value => x, high => 99.9, deadband => 1, on_delay => INTERVAL '30' SECOND);",
    ),
    (
        "day-windows",
        "CREATE TABLE sums (device STRING, n BIGINT, mean DOUBLE) WITH ('connector' = 'mqtt', 'topic' = 'out', 'qos' = '1',
           'format' = 'json');
         INSERT INTO sums SELECT device, COUNT(*), AVG(x) FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' MINUTE)
         GROUP BY device, window_start, window_end;",
    ),
];

/// The names of the days.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    DAYS.iter().map(|(name, _)| *name)
}

/// Bytes in the mean of a minute.
#[derive(Default)]
pub(crate) struct Written {
    /// What changed, as the engine says it.
    pub(crate) changed: u64,
    /// What was handed to the disk.
    pub(crate) written: u64,
}

/// A day of that name.
pub(crate) fn day(name: &str) -> Written {
    let found = DAYS.iter().find(|(known, _)| *known == name);
    let (_, query) = found.unwrap_or_else(|| panic!("no day is named {name}"));
    let sql = [("day.sql".to_owned(), format!("{SOURCE}{query}"))];
    let catalog = Catalog {
        connections: vec!["broker".to_owned()],
    };
    let (plan, _) = compile(&sql, &catalog).expect("the query is sound");
    let options = EngineOptions {
        max_keys: 100_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes: LEAST_FOLD_BYTES,
        connections: vec![ConnectionOptions {
            name: "broker".into(),
            receive_maximum: 1_000,
            outbox: OutboxLimits {
                limit_bytes: 64 << 20,
                max_age_micros: None,
                policy: Policy::Block,
            },
        }],
    };
    let dir = tempfile::tempdir().expect("a folder for the state");
    let opened = Store::open(dir.path(), &StoreOptions::default());
    let (mut store, recovered) = opened.expect("a new store");
    let (mut engine, _) =
        resume(Arc::new(plan), &options, recovered, &[]).expect("nothing is stored");
    engine.connected(0, false);
    let mut total = Written::default();
    let mut acknowledged = 0;
    for minute in 0..WARM_MINUTES + MINUTES {
        let clock = report(&mut engine, minute);
        let given = engine.outbox(0).next_number();
        let commit = epoch_commit(&options, engine.seal(clock), Vec::new());
        let stats = store.commit(&commit).expect("the disk has room");
        engine.committed();
        engine.stored(stats.totals.base_bytes, stats.totals.delta_bytes);
        let fallback = if store.fallback_is_due() {
            let exported = store.export_fallback().expect("the disk has room");
            exported.map_or(0, |fallback| fallback.file_bytes)
        } else {
            0
        };
        // Before the next minute ends, upstream has acknowledged all that it was given.
        for number in acknowledged..given {
            engine.outbox(0).acknowledge(number);
        }
        acknowledged = given;
        if minute >= WARM_MINUTES {
            total.changed += stats.payload_bytes;
            total.written += stats.written_bytes + fallback;
        }
    }
    total.changed /= MINUTES;
    total.written /= MINUTES;
    total
}

/// All devices report within a minute. What time it is at its end.
fn report(engine: &mut Engine, minute: u64) -> Clock {
    let mut clock = Clock {
        wall: EventTime::MIN,
        steady_micros: 0,
    };
    for device in 0..DEVICES {
        let number = minute * DEVICES + device;
        let millis = FIRST_MILLIS + number * 60;
        let x = number * 7_919 % 1_000;
        let payload = format!(
            "{{\"device\":\"device-{device}\",\"ts\":{millis},\"x\":{}.{}}}",
            x / 10,
            x % 10
        );
        clock = Clock {
            wall: EventTime::from_millis(millis as i64),
            steady_micros: number * 60_000,
        };
        engine.deliver(
            0,
            &Delivery {
                message: Message {
                    topic: "in",
                    payload: payload.as_bytes(),
                    qos: 1,
                    retain: false,
                    received: clock.wall,
                },
                dup: false,
                packet_id: (number % 65_535 + 1) as u16,
                subscription_ids: &[],
                tracked: true,
            },
            clock,
        );
    }
    engine.tick(clock);
    clock
}
