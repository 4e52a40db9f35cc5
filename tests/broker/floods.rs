//! More `QoS` 0 input than can be held.

use std::time::Duration;

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::headwater::{Deployment, Setup};
use crate::waiting::{settled, wait_until};

const SQL: &str = "
CREATE TABLE fast (n BIGINT) WITH (
  'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'fast', 'qos' = '0', 'format' = 'json'
);
CREATE TABLE forwarded (n BIGINT) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'forwarded', 'qos' = '1', 'format' = 'json'
);
INSERT INTO forwarded SELECT n FROM fast;
";

/// Of a flood that cannot be held, each message is either processed or counted as dropped.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn what_a_flood_loses_is_counted() {
    const COUNT: u64 = 300_000;
    const MIB: u64 = 1 << 20;
    let site = Mosquitto::start("");
    let mut upstream = Mosquitto::start("persistence true\nmax_inflight_messages 1000");
    let collector = Collector::start(upstream.port(), "#");
    // The outbox fills and blocks, so that the queue before it fills as well, however fast the machine is.
    upstream.stop();
    let deployment = Deployment::new(&Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options: "keep_alive = \"5s\"",
        upstream_options: "in_flight = 100\noutbox.limit = \"1MB\"",
        settings: "limits.qos0_queue = \"256KB\"\ncommit.interval = \"100ms\"",
        sql: SQL,
    });
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    for n in 0..COUNT {
        if n == COUNT / 2 {
            // Half of it while upstream is away, half while the outbox drains.
            upstream.start_again();
            wait_until("the outbox drains", Duration::from_secs(60), || {
                collector.len() > 0
            });
        }
        publisher
            .send_qos0("fast", format!(r#"{{"n":{n}}}"#).as_bytes())
            .expect("the broker is up");
    }
    publisher.flush().expect("the broker is up");
    settled(
        "the flood",
        Duration::from_secs(3),
        Duration::from_secs(120),
        || collector.len(),
    );
    // Still alive and at work.
    assert!(headwater.is_running());
    let before = collector.distinct();
    publisher
        .send_qos0("fast", br#"{"n":-1}"#)
        .expect("the broker is up");
    publisher.flush().expect("the broker is up");
    wait_until("it still works", Duration::from_secs(30), || {
        collector.distinct() == before + 1
    });
    let (_, highest) = headwater.memory();
    headwater.terminate(Duration::from_secs(5));

    let published = COUNT + 1;
    let processed = collector.distinct() as u64;
    let dropped = headwater.discards("qos0_overflow");
    let summaries = headwater.summaries();
    let received = summaries
        .last()
        .and_then(|last| last["received"].as_u64())
        .expect("the summary says");
    println!(
        "{published} published, {processed} processed, {dropped} dropped; {highest} bytes resident at the most"
    );
    assert_eq!(
        received, processed,
        "each message that was received gives a row"
    );
    assert_eq!(
        processed + dropped,
        published,
        "each message is processed or counted"
    );
    assert!(dropped > 0, "the flood was too small");
    assert!(highest < 64 * MIB, "{highest} bytes resident at the most");
    assert_eq!(
        headwater.log_lines("broker connection lost"),
        0,
        "a flood does not cost the connection"
    );
}
