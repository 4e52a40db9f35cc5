//! The broker goes away and comes back, with its sessions or without them.

use std::time::Duration;

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Message, Publisher, publish_stubbornly};
use crate::forwarding::{SQL, message, number, numbers_in_order};
use crate::headwater::{Deployment, Headwater, Setup};
use crate::waiting::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

fn deployment(site: &Mosquitto, upstream: &Mosquitto, site_options: &str) -> Deployment {
    Deployment::new(&Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options,
        upstream_options: "",
        settings: "commit.interval = \"50ms\"",
        sql: SQL,
    })
}

/// A broker that keeps its sessions restarts five times while events flow: each message counts once for each time
/// that it was published.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_broker_that_restarts_with_its_sessions_loses_nothing() {
    const MESSAGES: u64 = 5_000;
    let mut site = Mosquitto::start("persistence true\nmax_inflight_messages 100");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "forwarded");
    let deployment = deployment(&site, &upstream, "");
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let messages: Vec<Message> = (0..MESSAGES).map(message).collect();
    let port = site.port();
    let sent = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            publish_stubbornly(port, &messages, |next| {
                if next % 10 == 0 {
                    std::thread::sleep(Duration::from_millis(15));
                }
            })
        });
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(900));
            site.stop();
            std::thread::sleep(Duration::from_millis(300));
            site.start_again();
        }
        publisher.join().expect("the publisher does not panic")
    });
    collector.wait_for(MESSAGES as usize, PATIENCE);
    let collected = collector.all();
    let arrived = numbers_in_order(&collected);
    assert_eq!(
        arrived.len() as u64,
        MESSAGES,
        "nothing acknowledged is lost"
    );
    // The publisher's own repetitions are messages of their own; ours are not.
    let mut counts = vec![0_u32; MESSAGES as usize];
    for event in crate::clients::by_id(&collected).values() {
        counts[number(&event.payload).expect("it was checked") as usize] += 1;
    }
    for (n, (count, sent)) in counts.iter().zip(&sent).enumerate() {
        assert!(
            count <= sent,
            "message {n} was published {sent} times and counted {count} times"
        );
    }
    let again: u32 = sent.iter().map(|times| times - 1).sum();
    println!(
        "{MESSAGES} messages ({again} sent again by the publisher), {} reconnects",
        headwater.log_lines("lost")
    );
    assert!(headwater.log_lines("broker connection lost") >= 5);
    assert_eq!(headwater.log_lines("SESSION_LOST"), 0);
    headwater.terminate(Duration::from_secs(5));
}

/// A broker without persistence forgets the session: that is said aloud and counted, and work goes on.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_broker_that_forgets_the_session_is_named() {
    let mut site = Mosquitto::start("");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "forwarded");
    let deployment = deployment(&site, &upstream, "");
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    publish(&site, 0..100);
    collector.wait_for(100, PATIENCE);
    site.stop();
    site.start_again();
    headwater.wait_for_log("SESSION_LOST", 1, PATIENCE);
    headwater.wait_for_log("\"subscribed\"", 2, PATIENCE);
    publish(&site, 100..200);
    assert_lost_once_and_at_work(&mut headwater, &collector);
}

/// A session that expired while headwater was away is lost as well.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_session_that_expired_is_named() {
    let site = Mosquitto::start("");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "forwarded");
    let deployment = deployment(&site, &upstream, "session_expiry = \"1s\"");
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    publish(&site, 0..100);
    collector.wait_for(100, PATIENCE);
    headwater.kill();
    // The broker looks for expired sessions every few seconds.
    std::thread::sleep(Duration::from_secs(8));
    let mut headwater = deployment.start();
    headwater.wait_for_log("SESSION_LOST", 1, PATIENCE);
    headwater.wait_subscribed();
    publish(&site, 100..200);
    assert_lost_once_and_at_work(&mut headwater, &collector);
}

fn publish(site: &Mosquitto, numbers: std::ops::Range<u64>) {
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    for n in numbers {
        let message = message(n);
        publisher
            .send(&message.topic, &message.payload)
            .expect("the broker is up");
    }
    publisher.flush().expect("the broker is up");
}

fn assert_lost_once_and_at_work(headwater: &mut Headwater, collector: &Collector) {
    collector.wait_for(200, PATIENCE);
    assert_eq!(
        numbers_in_order(&collector.all()),
        (0..200).collect::<Vec<_>>()
    );
    headwater.terminate(Duration::from_secs(5));
    assert_eq!(headwater.discards("session_lost"), 1, "it is counted");
    wait_until("the log is whole", PATIENCE, || {
        headwater.log_lines("stopped") > 0
    });
}
