//! A pipeline that forwards each message as one row, and tells the site how far it has come.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::clients::{Collected, Collector, Message};

/// Each message is forwarded; of every hundredth the site broker is told as well.
pub(crate) const SQL: &str = "
CREATE TABLE numbers (n BIGINT, pad STRING) WITH (
  'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'numbers', 'qos' = '1', 'format' = 'json'
);
CREATE TABLE forwarded (n BIGINT, pad STRING) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'forwarded', 'qos' = '1', 'format' = 'json'
);
CREATE TABLE progress (n BIGINT) WITH (
  'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'progress', 'qos' = '1', 'format' = 'json'
);
INSERT INTO forwarded SELECT n, pad FROM numbers;
INSERT INTO progress SELECT n FROM numbers WHERE MOD(n, 100) = 99;
";

/// Message `n`, of about a hundred bytes.
pub(crate) fn message(n: u64) -> Message {
    let pad = "0123456789".repeat(8);
    Message {
        topic: "numbers".to_owned(),
        payload: format!(r#"{{"n":{n},"pad":"{pad}"}}"#).into_bytes(),
    }
}

/// The number in a row or a message.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(payload).ok()?["n"].as_u64()
}

/// The numbers that came, in the order in which each came first. Panics at a row that is not as `message` made it.
#[track_caller]
pub(crate) fn numbers_in_order(collected: &[Collected]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let numbers = collected.iter().map(|one| {
        let n = number(&one.payload).unwrap_or_else(|| panic!("a row without a number: {one:?}"));
        assert_eq!(
            one.payload,
            message(n).payload,
            "the row is as it was published"
        );
        n
    });
    numbers.filter(|n| seen.insert(*n)).collect()
}

/// How many messages were taken, as the site was told (to a hundred).
pub(crate) fn progress(site: &Collector) -> u64 {
    let told = site.under("progress");
    told.iter()
        .filter_map(|one| number(&one.payload))
        .max()
        .map_or(0, |n| n + 1)
}
