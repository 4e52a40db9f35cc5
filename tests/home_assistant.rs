//! Home Assistant discovery: what a sink that asks for it publishes beside its rows.

use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{
    Clock, ConnectionOptions, Engine, EngineOptions, LEAST_FOLD_BYTES, OutboxLimits, OutboxRow,
    Policy, decode_rows,
};
use headwater::plan::{Plan, SourceId};
use headwater::sql::{Catalog, compile};
use headwater::types::EventTime;

const PIPELINE: &str = "
CREATE TABLE readings (room STRING, celsius DOUBLE, door BOOLEAN, note STRING) WITH (
  'connector' = 'mqtt', 'topic' = 'rooms', 'format' = 'json');
CREATE TABLE shown (room STRING, celsius DOUBLE, door BOOLEAN, note STRING) WITH (
  'connector' = 'mqtt', 'topic' = 'shown/{room}', 'format' = 'json', 'retain' = 'true',
  'home-assistant.discovery' = 'true', 'fields.celsius.unit' = '°C',
  'fields.celsius.device-class' = 'temperature', 'fields.door.device-class' = 'door');
INSERT INTO shown SELECT room, celsius, door, note FROM readings;";

fn engine(max_keys: usize) -> Engine {
    let catalog = Catalog {
        connections: vec!["broker".to_owned()],
    };
    let plan: Arc<Plan> = match compile(&[("p.sql".to_owned(), PIPELINE.to_owned())], &catalog) {
        Ok((plan, _)) => plan.into(),
        Err(problems) => panic!("{problems:?}"),
    };
    let options = EngineOptions {
        max_keys,
        max_payload_bytes: 1 << 20,
        least_fold_bytes: LEAST_FOLD_BYTES,
        connections: vec![ConnectionOptions {
            name: "broker".into(),
            receive_maximum: 100,
            outbox: OutboxLimits {
                limit_bytes: 1 << 20,
                max_age_micros: None,
                policy: Policy::Block,
            },
        }],
    };
    Engine::new(plan, &options)
}

/// What is published for readings of these rooms.
fn published(engine: &mut Engine, rooms: &[&str]) -> Vec<OutboxRow> {
    let clock = Clock {
        wall: EventTime::from_millis(1_800_000_000_000),
        steady_micros: 0,
    };
    for room in rooms {
        let payload = format!(r#"{{"room":"{room}","celsius":3.5,"door":false,"note":"x"}}"#);
        let message = Message {
            topic: "rooms",
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            received: clock.wall,
        };
        engine.deliver_to(SourceId(0), &message, clock);
    }
    let sealed = engine.seal(clock);
    let chunks = sealed.outbox_append.into_iter().flatten();
    let rows = chunks.flat_map(|chunk| decode_rows(&chunk.bytes).expect("rows can be read"));
    rows.collect()
}

fn topics(rows: &[OutboxRow]) -> Vec<String> {
    let short = |topic: &str| match topic.strip_prefix("homeassistant/") {
        Some(_) => "discovery".to_owned(),
        None => topic.to_owned(),
    };
    rows.iter().map(|row| short(&row.topic)).collect()
}

#[test]
fn each_topic_is_told_of_before_its_first_row() {
    let mut engine = engine(100);
    let rows = published(&mut engine, &["a", "a", "b"]);
    assert_eq!(
        topics(&rows),
        ["discovery", "shown/a", "shown/a", "discovery", "shown/b"]
    );
    assert_eq!(topics(&published(&mut engine, &["b"])), ["shown/b"]);
    let first = &rows[0];
    assert!(first.retain && first.qos == 1);
    let object = first
        .topic
        .strip_prefix("homeassistant/device/")
        .and_then(|rest| rest.strip_suffix("/config"))
        .expect("the topic is that of a device");
    let told: serde_json::Value = serde_json::from_slice(&first.payload).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "device": { "identifiers": [object], "name": "shown a", "manufacturer": "Headwater" },
            "origin": { "name": "Headwater", "sw_version": env!("CARGO_PKG_VERSION") },
            "state_topic": "shown/a",
            "qos": 1,
            // The room is part of the topic.
            "components": {
                "celsius": {
                    "platform": "sensor", "name": "celsius", "unique_id": format!("{object}_celsius"),
                    "value_template": "{{ value_json['celsius'] }}", "state_class": "measurement",
                    "unit_of_measurement": "°C", "device_class": "temperature",
                },
                "door": {
                    "platform": "binary_sensor", "name": "door", "unique_id": format!("{object}_door"),
                    "value_template": "{{ none if value_json['door'] is none else ('ON' if value_json['door'] else 'OFF') }}",
                    "device_class": "door",
                },
                "note": {
                    "platform": "sensor", "name": "note", "unique_id": format!("{object}_note"),
                    "value_template": "{{ value_json['note'] }}",
                },
            },
        })
    );
}

#[test]
fn a_start_tells_the_same_again() {
    let first = published(&mut engine(100), &["a"]);
    let again = published(&mut engine(100), &["a"]);
    assert_eq!(first, again);
}

#[test]
fn topics_beyond_the_bound_are_counted_and_their_rows_published() {
    let mut engine = engine(2);
    let rows = published(&mut engine, &["a", "b", "c", "d"]);
    assert_eq!(
        topics(&rows),
        [
            "discovery",
            "shown/a",
            "discovery",
            "shown/b",
            "shown/c",
            "shown/d"
        ]
    );
    let notes = &engine.counters().notes;
    assert_eq!(notes.get(&("shown".into(), "discovery_limit")), Some(&1));
}
