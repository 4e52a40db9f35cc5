//! The whole way through the embedded broker, in one process: MQTT in, the engine, one commit, MQTT out. What needs
//! a real broker and a real kill -9 is in `tests/broker`.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "demo")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater::engine::{OutboxLimits, Policy};
use headwater::mqtt::{Endpoint, Forward, ForwardOptions};
use headwater::plan::Plan;
use headwater::runtime::{ConnectionSettings, Deployment, Drain, Order, Settings, run};
use headwater::sql::{Catalog, compile};
use headwater::store::StoreOptions;
use mqtt5::broker::config::StorageConfig;
use mqtt5::broker::{BrokerConfig, MqttBroker};
use mqtt5::{ConnectOptions, MqttClient, QoS};
use tokio::sync::mpsc;

const PIPELINE: &str = "
    CREATE TABLE readings (k STRING, v BIGINT) WITH (
      'connector' = 'mqtt', 'connection' = 'broker', 'topic' = 'in/+', 'qos' = '1', 'format' = 'json'
    );
    CREATE TABLE doubled (k STRING, v BIGINT) WITH (
      'connector' = 'mqtt', 'connection' = 'broker', 'topic' = 'out/{k}', 'qos' = '1', 'format' = 'json',
      'json.id-field' = 'id'
    );
    INSERT INTO doubled SELECT k, v * 2 FROM readings WHERE v >= 0;
";

fn plan(sql: &str) -> Arc<Plan> {
    let files = [("pipeline.sql".to_owned(), sql.to_owned())];
    let catalog = Catalog {
        connections: vec!["broker".to_owned()],
    };
    match compile(&files, &catalog) {
        Ok((plan, _)) => Arc::new(plan),
        Err(problems) => panic!("{problems:?}"),
    }
}

async fn broker(dir: &Path) -> u16 {
    let mut config = BrokerConfig::default()
        .with_bind_address(([127, 0, 0, 1], 0))
        .with_storage(StorageConfig::new().with_base_dir(dir.to_path_buf()));
    config.auth_config.allow_anonymous = true;
    let mut broker = MqttBroker::with_config(config).await.unwrap();
    let port = broker.local_addr().unwrap().port();
    tokio::spawn(async move { broker.run().await });
    port
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
        credentials: None,
        tls: None,
        keep_alive: Duration::from_secs(5),
        max_packet_bytes: 1 << 20,
    }
}

fn settings(dir: &Path, port: u16) -> Settings {
    Settings {
        state_dir: dir.to_path_buf(),
        store: StoreOptions {
            ballast_bytes: 0,
            ..StoreOptions::default()
        },
        connections: vec![ConnectionSettings {
            name: "broker".to_owned(),
            endpoint: endpoint(port),
            client_id: "headwater-test".to_owned(),
            receive_maximum: 20,
            session_expiry: Duration::from_secs(3_600),
            in_flight: 20,
            outbox: OutboxLimits {
                limit_bytes: 1 << 20,
                max_age_micros: None,
                policy: Policy::Block,
            },
            drain: Drain::OldestFirst,
        }],
        commit_interval: Duration::from_millis(50),
        quiet_interval: Duration::from_millis(50),
        flash_budget_bytes: None,
        acknowledge_on_receipt: false,
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        qos0_limit_bytes: 1 << 20,
        memory_limit_bytes: None,
        stop_patience: Duration::from_secs(3),
    }
}

fn no_reload() -> Result<Deployment, String> {
    Err("nothing to reload".to_owned())
}

async fn client(id: &str, port: u16) -> MqttClient {
    let client = MqttClient::with_options(ConnectOptions::new(id).with_clean_start(true));
    client
        .connect(&format!("mqtt://127.0.0.1:{port}"))
        .await
        .unwrap();
    client
}

/// Waits until `done`, and panics with `what` if that takes unreasonably long.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn events_go_the_whole_way_and_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let port = broker(&dir.path().join("broker")).await;
    let seen: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let watcher = client("watcher", port).await;
    let sink = seen.clone();
    watcher
        .subscribe("out/#", move |message| {
            let payload = String::from_utf8(message.payload.clone()).unwrap();
            *sink.lock().unwrap().entry(payload).or_default() += 1;
        })
        .await
        .unwrap();
    let publisher = client("publisher", port).await;
    let mut sent = 0;
    for round in 1..=3_u64 {
        let (stop, orders) = mpsc::channel(1);
        let state = dir.path().join("state");
        let deployment = Deployment {
            plan: plan(PIPELINE),
            settings: settings(&state, port),
        };
        let running = tokio::spawn(run(deployment, &[], orders, no_reload));
        if round == 1 {
            // The subscription must exist before the first message is published.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for _ in 0..100 {
            let payload = format!(r#"{{"k":"d{}","v":{sent}}}"#, sent % 7);
            publisher
                .publish_qos("in/a", payload.into_bytes(), QoS::AtLeastOnce)
                .await
                .unwrap();
            sent += 1;
        }
        until("all derived events arrive", || {
            seen.lock().unwrap().len() as u64 == round * 100
        })
        .await;
        stop.send(Order::Stop).await.unwrap();
        running.await.unwrap().unwrap();
    }
    let seen = seen.lock().unwrap();
    for (payload, times) in seen.iter() {
        assert_eq!(*times, 1, "a clean restart repeats nothing: {payload}");
    }
    let mut values: Vec<u64> = seen
        .keys()
        .map(|payload| {
            let row: serde_json::Value = serde_json::from_str(payload).unwrap();
            row["v"].as_u64().unwrap()
        })
        .collect();
    values.sort_unstable();
    assert_eq!(values, (0..300).map(|v| v * 2).collect::<Vec<_>>());
}

/// Windows of payload time, rows one by one, and one stream made of two.
const WINDOWS: &str = "
    CREATE TABLE pumps (
      pump STRING METADATA FROM 'topic[1]', ts TIMESTAMP_LTZ(3), v DOUBLE,
      WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
    ) WITH (
      'connector' = 'mqtt', 'topic' = 'pumps/+', 'qos' = '1', 'format' = 'json',
      'json.timestamp-format.standard' = 'ISO-8601'
    );
    CREATE TABLE fans (
      fan STRING METADATA FROM 'topic[1]', ts TIMESTAMP_LTZ(3), v DOUBLE,
      WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
    ) WITH (
      'connector' = 'mqtt', 'topic' = 'fans/+', 'qos' = '1', 'format' = 'json',
      'json.timestamp-format.standard' = 'ISO-8601'
    );
    CREATE TABLE summary (id_of STRING, window_end TIMESTAMP(3), n BIGINT, total DOUBLE, most DOUBLE) WITH (
      'connector' = 'mqtt', 'topic' = 'out/summary/{id_of}', 'qos' = '1', 'format' = 'json', 'json.id-field' = 'id'
    );
    CREATE TABLE alerts (device STRING, ts TIMESTAMP_LTZ(3), v DOUBLE) WITH (
      'connector' = 'mqtt', 'topic' = 'out/alerts', 'qos' = '1', 'format' = 'json', 'json.id-field' = 'id'
    );
    CREATE VIEW machines AS SELECT pump AS machine, ts, v FROM pumps UNION ALL SELECT fan, ts, v FROM fans;

    INSERT INTO summary
    SELECT pump, window_end, COUNT(*), SUM(v), MAX(v)
    FROM TUMBLE(TABLE pumps, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY pump, window_start, window_end;
    INSERT INTO summary
    SELECT 'all', window_end, COUNT(*), SUM(v), MAX(v)
    FROM HOP(TABLE machines, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND)
    GROUP BY window_start, window_end;
    INSERT INTO alerts SELECT machine, ts, v FROM machines WHERE v > 40;
";

/// A minute of two pumps and a fan, somewhat out of order, with a payload that is no JSON; then one message an
/// hour later on each topic, so that every window before it closes.
fn recorded() -> Vec<(String, String)> {
    let mut messages = Vec::new();
    for i in 0_u32..180 {
        let device = ["pumps/one", "pumps/two", "fans/one"][(i % 3) as usize];
        // Every seventh message is late by up to four seconds, some of them too late.
        let second = i / 3 - if i % 7 == 0 { (i % 5).min(i / 3) } else { 0 };
        let value = (i * 37) % 50;
        messages.push((
            device.to_owned(),
            format!(r#"{{"ts":"2024-02-29T23:59:{second:02}.500Z","v":{value}}}"#),
        ));
    }
    messages.insert(90, ("pumps/one".to_owned(), "no json".to_owned()));
    for device in ["pumps/end", "fans/end"] {
        let payload = r#"{"ts":"2024-03-01T01:00:00Z","v":1}"#;
        messages.push((device.to_owned(), payload.to_owned()));
    }
    messages
}

/// What `headwater replay` gives for the messages.
fn replayed(dir: &Path, messages: &[(String, String)]) -> Vec<String> {
    std::fs::write(dir.join("pipeline.sql"), WINDOWS).unwrap();
    let config = dir.join("headwater.toml");
    let text =
        "pipelines.files = [\"pipeline.sql\"]\n[connections.broker]\nurl = \"mqtt://127.0.0.1\"\n";
    std::fs::write(&config, text).unwrap();
    let recording = dir.join("recorded.jsonl");
    let lines = messages.iter().map(|(topic, payload)| {
        let time = "2024-03-01T01:00:00Z";
        serde_json::json!({"time": time, "topic": topic, "payload": payload}).to_string()
    });
    std::fs::write(&recording, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(["replay", "--config"])
        .args([&config, &recording])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.contains("late"),
        "the recording has late rows: {errors}"
    );
    let rows = String::from_utf8(output.stdout).unwrap();
    rows.lines().map(str::to_owned).collect()
}

/// The same engine runs live and in `replay`, so the same messages give the same rows with the same ids, also when
/// the live one is stopped and started in between. Only the windows that are open at the end differ: a recording
/// ends, and a stream does not. What was on its way upstream at the stop may come twice, with the same id: a set.
#[tokio::test]
async fn replay_gives_the_rows_that_run_gave() {
    let dir = tempfile::tempdir().unwrap();
    let messages = recorded();
    let replayed = replayed(dir.path(), &messages);
    let mut expected: BTreeSet<String> = replayed.iter().cloned().collect();
    assert_eq!(expected.len(), replayed.len(), "each row has its own id");
    // The windows of the last two messages have not closed.
    expected.retain(|row| !row.contains("2024-03-01 01:"));
    assert!((41..replayed.len()).contains(&expected.len()));

    let port = broker(&dir.path().join("broker")).await;
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let watcher = client("watcher", port).await;
    let sink = seen.clone();
    watcher
        .subscribe("out/#", move |message| {
            let payload = String::from_utf8(message.payload.clone()).unwrap();
            sink.lock().unwrap().insert(payload);
        })
        .await
        .unwrap();
    let publisher = client("publisher", port).await;
    let state = dir.path().join("state");
    for (round, half) in messages.chunks(messages.len() / 2 + 1).enumerate() {
        let (stop, orders) = mpsc::channel(1);
        let deployment = Deployment {
            plan: plan(WINDOWS),
            settings: settings(&state, port),
        };
        let running = tokio::spawn(run(deployment, &[], orders, no_reload));
        if round == 0 {
            // The subscription must exist before the first message is published.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for (topic, payload) in half {
            publisher
                .publish_qos(topic, payload.clone().into_bytes(), QoS::AtLeastOnce)
                .await
                .unwrap();
        }
        if round == 1 {
            until("all derived events arrive", || {
                seen.lock().unwrap().len() >= expected.len()
            })
            .await;
        }
        stop.send(Order::Stop).await.unwrap();
        running.await.unwrap().unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// Half of the attempts that failed were told as connections that came and went: "connected upstream" with a
/// certificate that is not trusted, and no longer waits between the attempts.
#[tokio::test]
async fn a_broker_that_is_not_there_is_never_up() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = ForwardOptions {
        name: "upstream".to_owned(),
        connection: 0,
        endpoint: endpoint(port),
        client_id: "headwater-test-out".to_owned(),
        in_flight: 20,
    };
    let (events, mut told) = mpsc::unbounded_channel();
    let forward = Forward::start(options, events);
    let first = tokio::time::timeout(Duration::from_secs(1), told.recv()).await;
    assert!(first.is_err(), "{first:?}");
    forward.stop(Duration::from_secs(1)).await;
}
