//! The flash budget.

use std::time::Duration;

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::headwater::{Deployment, Setup};

const PATIENCE: Duration = Duration::from_secs(60);

/// When the budget of a day is used up, rows wait for each other: all of them come, with far fewer commits, and it is told
/// once.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn rows_wait_when_the_flash_budget_is_used_up_and_none_is_lost() {
    let site = Mosquitto::start("");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "forwarded");
    let setup = Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options: "",
        upstream_options: "",
        // An hour's share is less than ten commits.
        settings: "commit.interval = \"20ms\"\ncommit.quiet_interval = \"3s\"\ncommit.flash_budget = \"1MiB\"",
        sql: "CREATE TABLE readings (n BIGINT NOT NULL) WITH (
                'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'readings', 'qos' = '1', 'format' = 'json'
              );
              CREATE TABLE forwarded (n BIGINT) WITH (
                'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'forwarded', 'qos' = '1', 'format' = 'json'
              );
              INSERT INTO forwarded SELECT n FROM readings;",
    };
    let deployment = Deployment::new(&setup);
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    let mut send = |n: usize| {
        publisher
            .send("readings", format!(r#"{{"n":{n}}}"#).as_bytes())
            .expect("the broker is up");
        publisher.flush().expect("the broker is up");
    };
    // Each row by itself, until there is nothing left to pay its commit.
    let mut sent = 0;
    while headwater.log_lines("FLASH BUDGET") == 0 {
        send(sent);
        sent += 1;
        collector.wait_for(sent, PATIENCE);
        assert!(sent < 100, "the budget has no end");
    }
    // Without the budget each would be a commit.
    for n in sent..sent + 100 {
        send(n);
        std::thread::sleep(Duration::from_millis(25));
    }
    sent += 100;
    collector.wait_for(sent, PATIENCE);
    let mut forwarded: Vec<u64> = collector
        .all()
        .iter()
        .map(|row| {
            serde_json::from_slice::<serde_json::Value>(&row.payload).unwrap()["n"]
                .as_u64()
                .unwrap()
        })
        .collect();
    forwarded.sort_unstable();
    assert_eq!(forwarded, (0..sent as u64).collect::<Vec<_>>());
    assert_eq!(headwater.log_lines("FLASH BUDGET used up"), 1);
    headwater.terminate(PATIENCE);
    let summaries = headwater.summaries();
    let commits: u64 = summaries
        .iter()
        .map(|it| it["commits"].as_u64().unwrap())
        .sum();
    assert!(commits < 50, "{commits} commits for {sent} rows");
}
