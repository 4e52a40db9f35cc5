//! kill -9 at random moments while publishing goes on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::brokers::Mosquitto;
use crate::clients::{Collected, Collector, Publisher};
use crate::headwater::{Deployment, Setup};
use crate::oracle::{Expected, SQL, readings};
use crate::random::{Random, Seed, seeds};

const SEEDS: u64 = 10;
const KILLS: usize = 20;
const MESSAGES: usize = 2_000;

/// What came upstream of one run, and what should have.
struct Outcome {
    expected: Expected,
    collected: Vec<Collected>,
}

/// Publishes [`MESSAGES`] while headwater is killed [`KILLS`] times, and lets everything drain.
fn run(seed: u64, binary: Option<&Path>) -> Outcome {
    let mut random = Random(seed);
    let window = random.one_of(&[5, 20, 100]);
    let site = Mosquitto::start(&format!("max_inflight_messages {window}"));
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "#");
    let interval = random.one_of(&["10ms", "50ms", "200ms", "1s"]);
    let quiet = random.one_of(&["1s", "5s", "30s"]);
    let mut deployment = Deployment::new(&Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options: &format!("receive_maximum = {}", random.one_of(&[10, 100])),
        upstream_options: &format!("in_flight = {}", random.one_of(&[1, 20, 100])),
        settings: &format!("commit.interval = \"{interval}\"\ncommit.quiet_interval = \"{quiet}\""),
        sql: SQL,
    });
    if let Some(binary) = binary {
        deployment = deployment.run_by(binary);
    }
    let readings = readings(&mut random, MESSAGES);
    let expected = Expected::of(&readings);
    // The session has to exist before the first message is published.
    let mut headwater = deployment.start();
    headwater.wait_subscribed();

    let kills = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (readings, kills, port) = (&readings, &kills, site.port());
        let mut pauses = Random(!seed);
        let publisher = scope.spawn(move || {
            let mut publisher = Publisher::connect(port).expect("the broker is up");
            for (number, reading) in readings.iter().enumerate() {
                // Some are left for each life of the process, however slow the machine is.
                while number > MESSAGES * (kills.load(Ordering::Relaxed) + 1) / (KILLS + 1) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let message = reading.message();
                publisher
                    .send(&message.topic, &message.payload)
                    .expect("the broker is up");
                if pauses.once_in(15) {
                    publisher.flush().expect("the broker is up");
                    std::thread::sleep(Duration::from_millis(pauses.between(0, 30)));
                }
            }
            publisher.flush().expect("the broker is up")
        });
        for _ in 0..KILLS {
            // Most lives end while events flow, some before the connection is up.
            if random.once_in(8) {
                std::thread::sleep(Duration::from_millis(random.between(0, 40)));
            } else {
                headwater.wait_connected();
                std::thread::sleep(Duration::from_millis(random.between(20, 400)));
            }
            headwater.kill();
            headwater = deployment.start();
            kills.fetch_add(1, Ordering::Relaxed);
        }
        let acknowledged = publisher.join().expect("the publisher does not panic");
        assert_eq!(acknowledged, MESSAGES as u64, "the broker has all messages");
    });
    collector.wait_for(expected.len(), Duration::from_secs(60));
    headwater.terminate(Duration::from_secs(5));
    Outcome {
        expected,
        collected: collector.all(),
    }
}

/// 10 seeds with 20 kills each, 20,000 messages in all, half of them identical bytes: nothing is missing, nothing is
/// counted twice, no id stands for two events.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn kill_minus_nine() {
    let (mut events, mut repeated) = (0, 0);
    for seed in seeds(SEEDS) {
        let _seed = Seed(seed);
        let Outcome {
            expected,
            collected,
        } = run(seed, None);
        expected.assert_fulfilled(&collected);
        events += expected.len();
        repeated += collected.len() - expected.len();
        println!(
            "seed {seed}: {} events, {} repeated",
            expected.len(),
            collected.len() - expected.len()
        );
    }
    println!("{events} events as the oracle has them, {repeated} of them delivered more than once");
}

/// The same with the duplicate check switched off gives wrong results, so the test above can see them.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn without_the_duplicate_check_the_oracle_objects() {
    let binary = build_without_duplicate_check();
    for seed in seeds(SEEDS) {
        let _seed = Seed(seed);
        let Outcome {
            expected,
            collected,
        } = run(seed, Some(&binary));
        let deviations = expected.deviations(&collected);
        if let Some(first) = deviations.first() {
            println!(
                "seed {seed}: {} deviations, such as: {first}",
                deviations.len()
            );
            return;
        }
    }
    panic!("{SEEDS} seeds without the duplicate check, and the oracle saw nothing wrong");
}

/// kill -9 while a broker hands over what it has kept: mosquitto 2.0 then sends thousands of publishes whatever Receive
/// Maximum says, and reads their acknowledgements late. Each of them counts once all the same.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn kill_minus_nine_while_a_backlog_drains() {
    const BACKLOG: usize = 20_000;
    for seed in seeds(5) {
        let _seed = Seed(seed);
        let mut random = Random(seed ^ 0xbac6);
        let site = Mosquitto::start(&format!(
            "max_inflight_messages {}",
            random.one_of(&[20, 100])
        ));
        let upstream = Mosquitto::start("max_inflight_messages 1000");
        let collector = Collector::start(upstream.port(), "#");
        let deployment = Deployment::new(&Setup {
            site: site.port(),
            upstream: upstream.port(),
            site_options: "",
            upstream_options: "in_flight = 100",
            settings: &format!(
                "commit.interval = \"{}\"",
                random.one_of(&["10ms", "100ms", "1s"])
            ),
            sql: SQL,
        });
        let readings = readings(&mut random, BACKLOG);
        let expected = Expected::of(&readings);
        let mut headwater = deployment.start();
        headwater.wait_subscribed();
        headwater.terminate(Duration::from_secs(5));
        let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
        for reading in &readings {
            let message = reading.message();
            publisher
                .send(&message.topic, &message.payload)
                .expect("the broker is up");
        }
        publisher.flush().expect("the broker is up");

        let mut kills = 0;
        let mut headwater = deployment.start();
        for _ in 0..KILLS {
            headwater.wait_connected();
            std::thread::sleep(Duration::from_millis(random.between(2, 40)));
            kills += usize::from(collector.distinct() < expected.len());
            headwater.kill();
            headwater = deployment.start();
        }
        collector.wait_for(expected.len(), Duration::from_secs(60));
        expected.assert_fulfilled(&collector.all());
        headwater.terminate(Duration::from_secs(5));
        let duplicates = headwater
            .summaries()
            .last()
            .map(|last| last["duplicates"].clone());
        println!(
            "seed {seed}: {} events, {} repeated; {kills} kills before the end, duplicates left out in the last life: \
             {duplicates:?}, reconnects in the last life: {}",
            expected.len(),
            collector.len() - expected.len(),
            headwater.log_lines("broker connection lost")
        );
    }
}

/// Builds the binary whose ledger takes every delivery for a new one, into a target directory of its own.
fn build_without_duplicate_check() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault-injection");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--bin",
            "headwater",
            "--no-default-features",
            "--features",
            "fault-injection",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(root)
        .status()
        .expect("cargo can be started");
    assert!(
        status.success(),
        "the binary with fault injection must build"
    );
    target.join("debug/headwater")
}
