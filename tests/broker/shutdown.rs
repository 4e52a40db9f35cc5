//! SIGTERM: the end within five seconds, with the last commit, whatever the brokers do.

use std::time::Duration;

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::headwater::{Deployment, Setup};
use crate::oracle::{Expected, SQL, readings};
use crate::random::Random;

/// What a supervisor allows.
const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// What the brokers do when the signal comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brokers {
    Work,
    SiteHangs,
    UpstreamHangs,
    UpstreamIsGone,
    BothHang,
    BothAreGone,
}

/// It ends in time and with success while the brokers work, hang or are gone, and the next start completes the work.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_supervisor_can_stop_it_whatever_the_brokers_do() {
    use Brokers::{BothAreGone, BothHang, SiteHangs, UpstreamHangs, UpstreamIsGone, Work};
    for brokers in [
        Work,
        SiteHangs,
        UpstreamHangs,
        UpstreamIsGone,
        BothHang,
        BothAreGone,
    ] {
        let took = stop_while(brokers);
        println!("{brokers:?}: ended after {took:?}");
    }
}

fn stop_while(brokers: Brokers) -> Duration {
    const MESSAGES: usize = 3_000;
    let mut site = Mosquitto::start("persistence true\nmax_inflight_messages 100");
    let mut upstream = Mosquitto::start("persistence true");
    let collector = Collector::start(upstream.port(), "#");
    let deployment = Deployment::new(&Setup {
        site: site.port(),
        upstream: upstream.port(),
        site_options: "",
        upstream_options: "in_flight = 5",
        // The last commit would be due only after this.
        settings: "commit.interval = \"10s\"",
        sql: SQL,
    });
    let readings = readings(&mut Random(brokers as u64 + 100), MESSAGES);
    let expected = Expected::of(&readings);
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    for reading in &readings {
        let message = reading.message();
        publisher
            .send(&message.topic, &message.payload)
            .expect("the broker is up");
    }
    publisher.flush().expect("the broker is up");
    match brokers {
        Brokers::Work => {}
        Brokers::SiteHangs => site.pause(),
        Brokers::UpstreamHangs => upstream.pause(),
        Brokers::UpstreamIsGone => upstream.stop(),
        Brokers::BothHang => {
            site.pause();
            upstream.pause();
        }
        Brokers::BothAreGone => {
            site.stop();
            upstream.stop();
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    let took = headwater.terminate(FIVE_SECONDS);
    match brokers {
        Brokers::Work => {}
        Brokers::SiteHangs => site.resume(),
        Brokers::UpstreamHangs => upstream.resume(),
        Brokers::UpstreamIsGone => upstream.start_again(),
        Brokers::BothHang => {
            site.resume();
            upstream.resume();
        }
        Brokers::BothAreGone => {
            site.start_again();
            upstream.start_again();
        }
    }
    let mut headwater = deployment.start();
    collector.wait_for(expected.len(), Duration::from_secs(60));
    expected.assert_fulfilled(&collector.all());
    headwater.terminate(FIVE_SECONDS);
    took
}
