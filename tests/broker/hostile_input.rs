//! Input that means harm, or comes from a broken device.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::headwater::{Deployment, Setup};
use crate::waiting::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// The column `v` of the table as the test wants it.
fn sql(v: &str) -> String {
    format!(
        "CREATE TABLE readings (n BIGINT NOT NULL, v {v}) WITH (
           'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'readings', 'qos' = '1', 'format' = 'json'
         );
         CREATE TABLE forwarded (n BIGINT, v STRING) WITH (
           'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'forwarded', 'qos' = '1', 'format' = 'json'
         );
         INSERT INTO forwarded SELECT n, CAST(v AS STRING) FROM readings;"
    )
}

/// Broken and oversized payloads become dead letters with their reason and their bytes, good ones between them are
/// processed, and the dead letters can be listed, shown, replayed once after a fix, and purged.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn what_cannot_be_used_is_kept_and_can_be_sent_again() {
    let site = Mosquitto::start("");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "forwarded");
    let with_bigint = sql("BIGINT");
    let mut setup = Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options: "max_packet_size = \"2MB\"",
        upstream_options: "",
        settings: "commit.interval = \"50ms\"\nlimits.max_payload = \"512KB\"",
        sql: &with_bigint,
    };
    let deployment = Deployment::new(&setup);
    let mut headwater = deployment.start();
    headwater.wait_subscribed();

    let large = |bytes: usize| format!(r#"{{"n":0,"pad":"{}"}}"#, "x".repeat(bytes)).into_bytes();
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no JSON", b"\x00\x01\x02".to_vec()),
        ("invalid UTF-8", b"{\"n\":1,\"v\":\"\xff\xfe\"}".to_vec()),
        ("NaN", br#"{"n":NaN}"#.to_vec()),
        ("infinite", br#"{"n":1e999}"#.to_vec()),
        (
            "too large a number",
            br#"{"n":123456789012345678901234567890}"#.to_vec(),
        ),
        ("cut off", br#"{"n":1,"v":"#.to_vec()),
        ("deep array", "[".repeat(10_000).into_bytes()),
        ("deep object", r#"{"n":"#.repeat(10_000).into_bytes()),
        (
            "deep in an unread field",
            format!(r#"{{"z":{}"#, "[".repeat(10_000)).into_bytes(),
        ),
        ("a megabyte", large(1_000_000)),
        ("of another type", br#"{"n":7,"v":"twelve"}"#.to_vec()),
        ("no number", br#"{"v":1}"#.to_vec()),
    ];
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    let mut good = 100_u64;
    for (_, payload) in &hostile {
        publisher
            .send("readings", payload)
            .expect("the broker is up");
        publisher
            .send("readings", format!(r#"{{"n":{good},"v":1}}"#).as_bytes())
            .expect("the broker is up");
        good += 1;
    }
    // Beyond what we accept: the broker keeps it to itself.
    publisher
        .send("readings", &large(3_000_000))
        .expect("the broker is up");
    publisher
        .send("readings", format!(r#"{{"n":{good},"v":1}}"#).as_bytes())
        .expect("the broker is up");
    publisher.flush().expect("the broker is up");
    let good_rows = hostile.len() + 1;
    collector.wait_for(good_rows, PATIENCE);
    assert_eq!(
        rows(&collector).len(),
        good_rows,
        "the good ones between them are processed"
    );

    let letters = deployment.dead_letters();
    for ((name, payload), letter) in hostile.iter().zip(&letters) {
        println!(
            "{name}: {}: {}",
            letter["reason"],
            text_start(&letter["detail"])
        );
        assert_eq!(
            letter["payload_bytes"],
            payload.len(),
            "{name}: kept with its bytes"
        );
    }
    assert_eq!(
        letters.len(),
        hostile.len(),
        "each of them is a dead letter, in order"
    );
    assert_eq!(letters[10]["reason"], "too_large");

    // While it runs: show one, remove one.
    let id = |at: usize| letters[at]["id"].to_string();
    assert!(
        deployment
            .say(&["dead-letters", "show", &id(11)])
            .contains("twelve")
    );
    deployment.say(&["dead-letters", "purge", &id(0)]);
    wait_until("it is gone", PATIENCE, || {
        deployment.dead_letters().len() == hostile.len() - 1
    });
    headwater.terminate(Duration::from_secs(5));

    // While it does not run: the same, but for a replay.
    assert_eq!(
        deployment.dead_letters().len(),
        hostile.len() - 1,
        "they outlive the process"
    );
    assert!(
        deployment
            .say(&["dead-letters", "show", &id(11)])
            .contains("twelve")
    );
    deployment.say(&["dead-letters", "purge", &id(1)]);
    assert_eq!(deployment.dead_letters().len(), hostile.len() - 2);
    assert!(
        !deployment
            .command(&["dead-letters", "replay", &id(11)])
            .status
            .success(),
        "nobody would process it"
    );

    // After the fix: the letter gives its row, once, whatever comes.
    let with_string = sql("STRING");
    setup.sql = &with_string;
    deployment.configure(&setup);
    let mut headwater = deployment.start();
    headwater.wait_connected();
    deployment.say(&["dead-letters", "replay", &id(11)]);
    wait_until("the row comes", PATIENCE, || {
        rows(&collector).contains_key(&7)
    });
    wait_until("the letter is gone", PATIENCE, || {
        deployment.dead_letters().len() == hostile.len() - 3
    });
    assert!(
        !deployment
            .command(&["dead-letters", "replay", &id(11)])
            .status
            .success(),
        "it cannot be sent twice"
    );
    headwater.kill();
    let mut headwater = deployment.start();
    headwater.wait_connected();
    publisher
        .send("readings", br#"{"n":8,"v":"after"}"#)
        .expect("the broker is up");
    publisher.flush().expect("the broker is up");
    wait_until("it works on", PATIENCE, || {
        rows(&collector).contains_key(&8)
    });
    assert_eq!(rows(&collector)[&7], 1, "the row came once");
    deployment.say(&["dead-letters", "purge", "--all"]);
    wait_until("all are gone", PATIENCE, || {
        deployment.dead_letters().is_empty()
    });
    headwater.terminate(Duration::from_secs(5));
}

/// How many different events came for each number.
fn rows(collector: &Collector) -> BTreeMap<u64, usize> {
    let mut rows = BTreeMap::new();
    for event in crate::clients::by_id(&collector.all()).values() {
        let row: Value = serde_json::from_slice(&event.payload).expect("it is JSON");
        *rows
            .entry(row["n"].as_u64().expect("it has a number"))
            .or_default() += 1;
    }
    rows
}

fn text_start(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_default()
        .chars()
        .take(100)
        .collect()
}

/// A million different keys where ten thousand are allowed: the known ones go on, the others are counted, and memory
/// has a bound.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_million_keys_do_not_fill_the_memory() {
    const KEYS: u64 = 1_000_000;
    const ALLOWED: u64 = 10_000;
    let sql = "
        CREATE TABLE readings (k BIGINT, ms BIGINT, ts AS TO_TIMESTAMP_LTZ(ms, 3),
          WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH (
          'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'readings', 'qos' = '1', 'format' = 'json'
        );
        CREATE TABLE counts (k BIGINT, readings BIGINT) WITH (
          'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'counts', 'qos' = '1', 'format' = 'json'
        );
        INSERT INTO counts SELECT k, COUNT(*)
        FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end;";
    let site = Mosquitto::start("max_inflight_messages 2000");
    let upstream = Mosquitto::start("max_inflight_messages 1000");
    let collector = Collector::start(upstream.port(), "counts");
    let deployment = Deployment::new(&Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options: "receive_maximum = 2000",
        upstream_options: "in_flight = 100",
        settings: &format!(
            "limits.max_keys = {ALLOWED}\ndead_letters.max_count = 1000\ncommit.interval = \"500ms\""
        ),
        sql,
    });
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let start = Instant::now();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    let mut early = None;
    for k in 0..KEYS {
        publisher
            .send("readings", format!(r#"{{"k":{k},"ms":1000}}"#).as_bytes())
            .expect("the broker is up");
        if k == KEYS / 5 {
            publisher.flush().expect("the broker is up");
            early = Some(headwater.memory().0);
        }
    }
    // The keys that are known still count, and an hour later the windows close.
    for k in 0..ALLOWED {
        publisher
            .send("readings", format!(r#"{{"k":{k},"ms":2000}}"#).as_bytes())
            .expect("the broker is up");
    }
    publisher
        .send("readings", br#"{"k":0,"ms":7200000}"#)
        .expect("the broker is up");
    publisher.flush().expect("the broker is up");
    collector.wait_for(ALLOWED as usize, Duration::from_secs(240));
    let (late, highest) = headwater.memory();
    let early = early.expect("it was measured");
    println!(
        "{KEYS} keys in {:?}; resident: {early} bytes after a fifth, {late} at the end, {highest} at the most",
        start.elapsed()
    );
    let events = crate::clients::by_id(&collector.all());
    assert_eq!(events.len() as u64, ALLOWED);
    for event in events.values() {
        let row: Value = serde_json::from_slice(&event.payload).expect("it is JSON");
        assert!(
            row["k"].as_u64().is_some_and(|k| k < ALLOWED) && row["readings"] == 2,
            "{row}"
        );
    }
    assert!(highest < 128 * MIB, "{highest} bytes resident at the most");
    assert!(
        late < early + 16 * MIB,
        "memory grows with keys that are refused: {early} bytes, then {late}"
    );
    headwater.terminate(Duration::from_secs(5));
    assert_eq!(
        headwater.discards("max_keys"),
        KEYS - ALLOWED,
        "each key that was refused is counted"
    );
}
