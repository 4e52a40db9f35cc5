//! A network that cuts, truncates, delays, repeats and garbles.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::forwarding::{SQL, message, numbers_in_order};
use crate::headwater::{Deployment, Setup};
use crate::proxy::{Fault, Faults, Proxy};
use crate::random::{Seed, seeds};

const SEEDS: u64 = 5;
const MESSAGES: u64 = 3_000;
/// In which the messages of one seed are published.
const TIME: Duration = Duration::from_secs(9);

/// Nothing that was acknowledged is lost, nothing is invented, and the process stays alive, whatever the network does
/// that a receiver can see.
///
/// Asserted: each published message arrives upstream with its bytes unchanged, or lies in the dead letters with the
/// bytes in which it came (a PUBLISH whose length was garbled reaches the codec as broken JSON, and is acknowledged as
/// a dead letter). Not asserted: that nothing is counted twice. A PUBLISH that is repeated with DUP = 0 is a new
/// message by the protocol. On the way upstream frames are not repeated either: a second PUBACK for a packet id that
/// is in use again acknowledges another message, and no client can tell.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_broken_network_loses_nothing() {
    for seed in seeds(SEEDS) {
        let _seed = Seed(seed);
        one_network(seed);
    }
}

fn one_network(seed: u64) {
    let site = Mosquitto::start("max_inflight_messages 100");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "forwarded");
    let visible = vec![
        Fault::Cut,
        Fault::Truncate,
        Fault::SendThenCut,
        Fault::Delay,
        Fault::Delay,
        Fault::GarbleType,
        Fault::GarbleLength,
    ];
    let mut from_site = visible.clone();
    from_site.extend([
        Fault::Duplicate,
        Fault::Duplicate,
        Fault::ShiftLength,
        Fault::ShiftLength,
    ]);
    let mut to_site = visible.clone();
    to_site.push(Fault::Duplicate);
    let of_site = Proxy::start(
        site.port(),
        Faults {
            seed,
            one_in: 120,
            down: from_site,
            up: to_site,
        },
    );
    let of_upstream = Proxy::start(
        upstream.port(),
        Faults {
            seed: !seed,
            one_in: 200,
            down: visible.clone(),
            up: visible,
        },
    );
    let deployment = Deployment::new(&Setup {
        site: of_site.port(),
        upstream: of_upstream.port(),
        site_options: "keep_alive = \"5s\"",
        upstream_options: "keep_alive = \"5s\"",
        settings: "commit.interval = \"50ms\"",
        sql: SQL,
    });
    let mut headwater = deployment.start();
    headwater.wait_subscribed();

    let start = Instant::now();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    for n in 0..MESSAGES {
        let due = TIME.mul_f64(n as f64 / MESSAGES as f64);
        if n % 10 == 0 {
            publisher.flush().expect("the broker is up");
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let message = message(n);
        publisher
            .send(&message.topic, &message.payload)
            .expect("the broker is up");
    }
    assert_eq!(publisher.flush().expect("the broker is up"), MESSAGES);
    of_site.behave();
    of_upstream.behave();
    collector.wait_for(MESSAGES as usize, Duration::from_secs(60));
    assert!(headwater.is_running(), "it is still alive");

    let collected = collector.all();
    let arrived: BTreeSet<u64> = numbers_in_order(&collected).into_iter().collect();
    let letters = deployment.dead_letters();
    let garbled = |n: u64| {
        let begin = format!(r#"{{"n":{n},"#);
        letters.iter().any(|letter| {
            letter["payload"]
                .as_str()
                .is_some_and(|text| text.starts_with(&begin))
        })
    };
    let missing: Vec<u64> = (0..MESSAGES).filter(|n| !arrived.contains(n)).collect();
    let lost: Vec<u64> = missing.iter().copied().filter(|n| !garbled(*n)).collect();
    println!(
        "seed {seed}: {} faults, {} + {} connections, {} arrived, {} garbled, {} delivered more than once",
        of_site.made().len() + of_upstream.made().len(),
        of_site.connections(),
        of_upstream.connections(),
        arrived.len(),
        missing.len(),
        collected.len() - arrived.len()
    );
    assert!(
        lost.is_empty(),
        "lost: {lost:?}; faults: {:?}",
        of_site.made()
    );
    assert!(arrived.iter().all(|n| *n < MESSAGES), "nothing is invented");
    assert!(
        of_site.connections() > 3 && of_upstream.connections() > 3,
        "the network was too good"
    );
    headwater.terminate(Duration::from_secs(5));
}
