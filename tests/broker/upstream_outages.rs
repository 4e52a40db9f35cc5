//! Upstream is gone for a while: what is derived waits on disk, in bounded memory, and the policy holds.

use std::time::{Duration, Instant};

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::forwarding::{SQL, message, numbers_in_order, progress};
use crate::headwater::{Deployment, Headwater, Setup};
use crate::waiting::{settled, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);
/// How long upstream is gone at the least, in the long outage and in the others.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

/// Two brokers with a collector on each, and headwater between them; upstream is stopped.
struct Outage {
    site: Mosquitto,
    upstream: Mosquitto,
    at_site: Collector,
    at_upstream: Collector,
    headwater: Headwater,
    began: Instant,
    _deployment: Deployment,
}

impl Outage {
    fn begin(upstream_options: &str) -> Self {
        let site = Mosquitto::start("max_inflight_messages 1000");
        // Persistence keeps the collector's session: what comes after the outage finds its subscriber.
        let mut upstream = Mosquitto::start("persistence true\nmax_inflight_messages 1000");
        let at_site = Collector::start(site.port(), "progress");
        let at_upstream = Collector::start(upstream.port(), "#");
        upstream.stop();
        let deployment = Deployment::new(&Setup {
            site: site.port(),
            upstream: upstream.port(),
            site_options: "keep_alive = \"5s\"\nreceive_maximum = 1000",
            upstream_options: &format!("in_flight = 100\n{upstream_options}"),
            settings: "commit.interval = \"100ms\"",
            sql: SQL,
        });
        let headwater = deployment.start();
        headwater.wait_subscribed();
        Self {
            site,
            upstream,
            at_site,
            at_upstream,
            headwater,
            began: Instant::now(),
            _deployment: deployment,
        }
    }

    fn publish(&self, numbers: std::ops::Range<u64>) {
        let mut publisher = Publisher::connect(self.site.port()).expect("the broker is up");
        for n in numbers {
            let message = message(n);
            publisher
                .send(&message.topic, &message.payload)
                .expect("the broker is up");
        }
        publisher.flush().expect("the broker is up");
    }

    fn wait_taken(&self, count: u64) {
        wait_until("all messages are taken", PATIENCE, || {
            progress(&self.at_site) >= count
        });
    }

    fn end(&mut self, least: Duration) {
        std::thread::sleep(least.saturating_sub(self.began.elapsed()));
        self.upstream.start_again();
    }

    /// The rows dropped at the bound, as the last summary says.
    fn dropped(&mut self) -> u64 {
        self.headwater.terminate(Duration::from_secs(5));
        let summaries = self.headwater.summaries();
        let last = summaries.last().expect("there is one at the end");
        last["outbox_dropped"].as_u64().expect("it is a number")
    }
}

/// 50,000 events wait on disk while memory stays flat and input goes on; all arrive in order when upstream is back.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn an_outage_is_waited_out_on_disk() {
    const COUNT: u64 = 50_000;
    let mut outage = Outage::begin("");
    outage.publish(0..5_000);
    outage.wait_taken(5_000);
    let (early, _) = outage.headwater.memory();
    outage.publish(5_000..COUNT);
    outage.wait_taken(COUNT);
    let (late, highest) = outage.headwater.memory();
    println!(
        "resident: {early} bytes with 5,000 waiting, {late} with 50,000, {highest} at the most"
    );
    assert!(
        late < early + 12 * MIB,
        "memory grows with the outbox: {early} bytes, then {late}"
    );
    assert!(highest < 64 * MIB, "{highest} bytes at the most");
    assert_eq!(outage.at_upstream.len(), 0, "upstream was away");
    outage.end(LONG);
    outage.at_upstream.wait_for(COUNT as usize, PATIENCE);
    let collected = outage.at_upstream.all();
    assert_eq!(
        numbers_in_order(&collected),
        (0..COUNT).collect::<Vec<_>>(),
        "all of them, in order"
    );
    assert!(
        outage.headwater.memory().1 < 64 * MIB,
        "draining takes no more memory"
    );
    assert_eq!(outage.dropped(), 0);
    println!(
        "{COUNT} events arrived in order, {} of them more than once",
        collected.len() - COUNT as usize
    );
}

/// At the bound, `block` leaves the input with the broker: nothing is lost, the connection lives, memory is flat.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_full_outbox_that_blocks_holds_the_input_back() {
    const COUNT: u64 = 20_000;
    let mut outage = Outage::begin("outbox.limit = \"256KB\"\noutbox.policy = \"block\"");
    outage.publish(0..COUNT);
    let calm = Duration::from_secs(3);
    let taken = settled("the input", calm, PATIENCE, || {
        progress(&outage.at_site) as usize
    });
    // 256 KiB are some 1,700 rows; one window more may be under way.
    assert!((500..5_000).contains(&taken), "{taken} messages were taken");
    let (early, _) = outage.headwater.memory();
    outage.publish(COUNT..2 * COUNT);
    // Several times the keep-alive of 5 seconds.
    std::thread::sleep(Duration::from_secs(16));
    assert_eq!(
        progress(&outage.at_site) as usize,
        taken,
        "nothing more was taken"
    );
    let (late, _) = outage.headwater.memory();
    println!("resident: {early} bytes when it blocks, {late} with 40,000 messages at the broker");
    assert!(
        late < early + 4 * MIB,
        "memory grows while it blocks: {early} bytes, then {late}"
    );
    assert_eq!(
        outage.headwater.log_lines("broker connection lost"),
        0,
        "the connection lives"
    );
    outage.end(SHORT);
    outage.at_upstream.wait_for(2 * COUNT as usize, PATIENCE);
    let collected = outage.at_upstream.all();
    assert_eq!(
        numbers_in_order(&collected),
        (0..2 * COUNT).collect::<Vec<_>>(),
        "all of them, in order"
    );
    assert_eq!(outage.dropped(), 0);
}

/// `drop-oldest` keeps the newest rows without a gap, and counts exactly what is missing.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_full_outbox_that_drops_the_oldest_keeps_the_newest() {
    let (arrived, dropped) = drop_at_the_bound("drop-oldest");
    let first = COUNT - arrived.len() as u64;
    assert_eq!(
        arrived,
        (first..COUNT).collect::<Vec<_>>(),
        "the newest, without a gap"
    );
    assert_eq!(dropped, first);
}

/// `drop-newest` keeps the oldest rows without a gap, and counts exactly what is missing.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_full_outbox_that_drops_the_newest_keeps_the_oldest() {
    let (arrived, dropped) = drop_at_the_bound("drop-newest");
    let kept = arrived.len() as u64;
    assert_eq!(
        arrived,
        (0..kept).collect::<Vec<_>>(),
        "the oldest, without a gap"
    );
    assert_eq!(dropped, COUNT - kept);
}

const COUNT: u64 = 10_000;

/// What arrives, and how many rows were counted as dropped.
fn drop_at_the_bound(policy: &str) -> (Vec<u64>, u64) {
    let mut outage = Outage::begin(&format!(
        "outbox.limit = \"256KB\"\noutbox.policy = \"{policy}\""
    ));
    outage.publish(0..COUNT);
    outage.wait_taken(COUNT);
    outage.upstream.start_again();
    let calm = Duration::from_secs(2);
    wait_until("the outbox drains", PATIENCE, || {
        outage.at_upstream.len() > 500
    });
    settled("the outbox", calm, PATIENCE, || outage.at_upstream.len());
    let arrived = numbers_in_order(&outage.at_upstream.all());
    let dropped = outage.dropped();
    println!("{policy}: {} arrived, {dropped} dropped", arrived.len());
    assert!(dropped > 5_000, "the bound was reached");
    (arrived, dropped)
}
