//! The whole way through the embedded broker, in one process: MQTT in, the engine, one commit, MQTT out. What needs
//! a real broker and a real kill -9 is in `tests/broker`.
#![cfg(feature = "demo")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater::engine::{OutboxLimits, Policy};
use headwater::mqtt::Endpoint;
use headwater::plan::Plan;
use headwater::runtime::{ConnectionSettings, Drain, Settings, run};
use headwater::sql::{Catalog, compile};
use headwater::store::StoreOptions;
use mqtt5::broker::config::StorageConfig;
use mqtt5::broker::{BrokerConfig, MqttBroker};
use mqtt5::{ConnectOptions, MqttClient, QoS};
use tokio::sync::oneshot;

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

fn plan() -> Arc<Plan> {
    let files = [("pipeline.sql".to_owned(), PIPELINE.to_owned())];
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

fn settings(dir: &Path, port: u16) -> Settings {
    Settings {
        state_dir: dir.to_path_buf(),
        store: StoreOptions {
            ballast_bytes: 0,
            ..StoreOptions::default()
        },
        connections: vec![ConnectionSettings {
            name: "broker".to_owned(),
            endpoint: Endpoint {
                host: "127.0.0.1".to_owned(),
                port,
                credentials: None,
                tls: None,
                keep_alive: Duration::from_secs(5),
                max_packet_bytes: 1 << 20,
            },
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
        acknowledge_on_receipt: false,
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        qos0_limit_bytes: 1 << 20,
        stop_patience: Duration::from_secs(3),
    }
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
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = Box::pin(async move {
            stopped.await.ok();
        });
        let state = dir.path().join("state");
        let running = tokio::spawn(run(plan(), settings(&state, port), &[], shutdown, || {}));
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
        stop.send(()).unwrap();
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
