//! Alarms with commands, killed while both come: the same alarms, exactly once.
//!
//! The oracle is `replay` of what was published: the same engine, without a broker and without a crash.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Message, Publisher, by_id};
use crate::headwater::{Deployment, Setup};
use crate::random::{Random, Seed, seeds};

const SEEDS: u64 = 3;
const KILLS: usize = 10;
const MESSAGES: usize = 1_500;

/// What of an alarm goes by event time alone; silence, re-alarms and shelving go by the clock of the gateway, too.
const SQL: &str = "
CREATE TABLE readings (device STRING METADATA FROM 'topic[1]', v DOUBLE, ts TIMESTAMP_LTZ(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH (
  'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'plant/+/reading', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'epoch-millis');
CREATE TABLE commands (device STRING METADATA FROM 'topic[1]', command STRING, alarm STRING, duration STRING) WITH (
  'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'plant/+/command', 'qos' = '1', 'format' = 'json');
CREATE TABLE alarms (device STRING, at TIMESTAMP_LTZ(3), alarm STRING, event STRING, state STRING, duration DOUBLE,
  peak DOUBLE, raises BIGINT) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alarms/{device}/{alarm}', 'qos' = '1', 'retain' = 'true',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601');
INSERT INTO alarms SELECT device, at, alarm, event, state, duration, peak, raises
FROM ALARM(TABLE readings PARTITION BY device, DESCRIPTOR(ts), value => v, high => 8, high_high => 9, deadband => 2,
  on_delay => MAP['HI', INTERVAL '2' SECOND], off_delay => INTERVAL '1' SECOND, latch => TRUE,
  commands => TABLE commands);
";

fn messages(random: &mut Random) -> Vec<Message> {
    let mut millis = 1_772_366_400_000;
    let devices = ["a", "b", "c"];
    let mut messages: Vec<Message> = (0..MESSAGES)
        .map(|_| {
            let device = random.one_of(&devices);
            if random.once_in(12) {
                let alarm = [Value::Null, json!("HI"), json!("HIHI")];
                let alarm = &alarm[random.between(0, 3) as usize];
                let payload = json!({"command": "acknowledge", "alarm": alarm});
                return Message {
                    topic: format!("plant/{device}/command"),
                    payload: payload.to_string().into_bytes(),
                };
            }
            millis += random.between(0, 700);
            let late = random.between(0, 2_000);
            let v = random.between(0, 110) as f64 / 10.0;
            Message {
                topic: format!("plant/{device}/reading"),
                payload: json!({"v": v, "ts": millis - late})
                    .to_string()
                    .into_bytes(),
            }
        })
        .collect();
    // What is under way ends, and the watermark passes it.
    for behind in [60_000, 120_000] {
        messages.extend(devices.map(|device| {
            Message {
                topic: format!("plant/{device}/reading"),
                payload: json!({"v": 1, "ts": millis + behind})
                    .to_string()
                    .into_bytes(),
            }
        }));
    }
    messages
}

/// What `replay` gives, in the order of its text: a device's alarms in the order of their time.
fn expected(deployment: &Deployment, messages: &[Message]) -> Vec<String> {
    let mut recording = String::new();
    // No reading is ahead of the clock.
    for message in messages {
        let payload = String::from_utf8_lossy(&message.payload);
        let line = json!({"topic": message.topic, "payload": payload, "qos": 1, "tst": "2026-03-01T13:00:00Z"});
        writeln!(recording, "{line}").expect("a string takes everything");
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    file.write_all(recording.as_bytes())
        .expect("it can be written");
    let path = file.path().to_str().expect("its name is text");
    let rows = deployment.say(&["replay", path]);
    let mut rows: Vec<String> = rows.lines().map(ToOwned::to_owned).collect();
    rows.sort_unstable();
    rows
}

#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn alarms_come_exactly_once_over_kills() {
    for seed in seeds(SEEDS) {
        let _seed = Seed(seed);
        let mut random = Random(seed);
        let site = Mosquitto::start("max_inflight_messages 20");
        let upstream = Mosquitto::start("");
        let collector = Collector::start(upstream.port(), "alarms/#");
        let deployment = Deployment::new(&Setup {
            site: site.port(),
            upstream: upstream.port(),
            site_options: "",
            upstream_options: "",
            settings: "commit.interval = \"50ms\"\ncommit.quiet_interval = \"1s\"",
            sql: SQL,
        });
        let messages = messages(&mut random);
        let expected = expected(&deployment, &messages);
        let mut headwater = deployment.start();
        headwater.wait_subscribed();
        let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
        for some in messages.chunks(messages.len().div_ceil(KILLS + 1)) {
            headwater.wait_connected();
            for message in some {
                publisher
                    .send(&message.topic, &message.payload)
                    .expect("the broker is up");
            }
            publisher.flush().expect("the broker is up");
            std::thread::sleep(Duration::from_millis(random.between(0, 150)));
            headwater.kill();
            headwater = deployment.start();
        }
        collector.wait_for(expected.len(), Duration::from_secs(60));
        headwater.terminate(Duration::from_secs(5));
        let given = by_id(&collector.all());
        let mut given: Vec<String> = given
            .values()
            .map(|event| String::from_utf8_lossy(&event.payload).into_owned())
            .collect();
        given.sort_unstable();
        for (place, (given, expected)) in given.iter().zip(&expected).enumerate() {
            assert_eq!(given, expected, "the {place}th");
        }
        assert_eq!(given.len(), expected.len());
        println!(
            "seed {seed}: {} alarms, {} deliveries",
            collector.distinct(),
            collector.len()
        );
    }
}
