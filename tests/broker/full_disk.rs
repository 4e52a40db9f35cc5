//! A disk that is full while events flow.
//!
//! `HEADWATER_TEST_SMALL_FS` names a directory on a file system of 16 to 64 MiB that nobody else uses (a loop-mounted
//! ext4).

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::headwater::{Deployment, Headwater, Setup};
use crate::oracle::{Expected, SQL, readings};
use crate::random::Random;
use crate::waiting::settled;

const PATIENCE: Duration = Duration::from_secs(60);
const STALLED: &str = "no input is acknowledged until there is space";

/// With the disk full nothing crashes and nothing is dropped: input is not acknowledged until there is space again.
#[test]
#[ignore = "needs mosquitto and a small file system of its own in HEADWATER_TEST_SMALL_FS; run by .ci/run"]
fn a_full_disk_holds_the_input_back() {
    full_disk(false);
}

/// SIGTERM ends it in time although the disk is full, and the next start completes the work.
#[test]
#[ignore = "needs mosquitto and a small file system of its own in HEADWATER_TEST_SMALL_FS; run by .ci/run"]
fn a_supervisor_can_stop_it_on_a_full_disk() {
    full_disk(true);
}

fn full_disk(stop_meanwhile: bool) {
    const MESSAGES: usize = 6_000;
    // The file has space of its own as soon as it has grown.
    const FEW: usize = 20;
    let root = small_fs();
    let site = Mosquitto::start("max_inflight_messages 100");
    let upstream = Mosquitto::start("");
    let collector = Collector::start(upstream.port(), "#");
    let deployment = Deployment::with_state_in(
        &root.join("state"),
        &Setup {
            site: site.port(),
            upstream: upstream.port(),
            site_options: "keep_alive = \"5s\"",
            upstream_options: "",
            settings: "commit.interval = \"50ms\"\nstate.ballast = \"1MB\"",
            sql: SQL,
        },
    );
    let readings = readings(&mut Random(9), MESSAGES);
    let expected = Expected::of(&readings);
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    let mut publish = |some: &[crate::oracle::Reading]| {
        for reading in some {
            let message = reading.message();
            publisher
                .send(&message.topic, &message.payload)
                .expect("the broker is up");
        }
        publisher.flush().expect("the broker is up");
    };
    publish(&readings[..FEW]);
    let mut filler = Filler::new(&root);
    filler.fill();
    let end = Instant::now() + PATIENCE;
    for some in readings[FEW..].chunks(50) {
        publish(some);
        filler.fill();
        std::thread::sleep(Duration::from_millis(10));
    }
    while headwater.log_lines(STALLED) == 0 {
        // The reserve was freed, and is filled as well.
        assert!(
            Instant::now() < end && headwater.is_running(),
            "it notices that the disk is full"
        );
        filler.fill();
        std::thread::sleep(Duration::from_millis(20));
    }
    // Opening the state file anew can give space back, which would let it go on: no other writer leaves it that either.
    let came = settled("the events", Duration::from_secs(3), PATIENCE, || {
        filler.fill();
        collector.distinct()
    });
    assert!(
        came < expected.len(),
        "input is held back: {came} of {}",
        expected.len()
    );
    assert!(headwater.is_running(), "a full disk is no reason to crash");
    assert_eq!(
        headwater.log_lines("broker connection lost"),
        0,
        "the connection lives"
    );
    if stop_meanwhile {
        let took = headwater.terminate(Duration::from_secs(5));
        println!("ended after {took:?} on a full disk");
        drop(filler);
        headwater = start_again(&deployment);
    } else {
        drop(filler);
    }
    collector.wait_for(expected.len(), PATIENCE);
    expected.assert_fulfilled(&collector.all());
    println!(
        "{came} events before the disk was full, {} in the end",
        expected.len()
    );
    headwater.terminate(Duration::from_secs(5));
}

fn start_again(deployment: &Deployment) -> Headwater {
    let headwater = deployment.start();
    headwater.wait_connected();
    headwater
}

/// A file that takes all space there is, and gives it back at the end.
struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    fn new(root: &Path) -> Self {
        let path = root.join("filler");
        let file = File::create(&path).expect("the file system can be written");
        Self { path, file }
    }

    fn fill(&mut self) {
        for size in [1 << 20, 1 << 16, 1 << 12, 1 << 9, 1] {
            let bytes = vec![0x5a; size];
            while self.file.write_all(&bytes).is_ok() {}
        }
        // Delayed allocation takes space only now.
        let _ = self.file.sync_all();
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn small_fs() -> PathBuf {
    let root = std::env::var("HEADWATER_TEST_SMALL_FS")
        .expect("HEADWATER_TEST_SMALL_FS names the mount point of a small file system");
    let dir = Path::new(&root).join("broker");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the small file system can be written");
    dir
}
