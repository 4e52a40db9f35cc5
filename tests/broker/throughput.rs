//! How fast messages come through, beside a bare subscriber on the same broker in the same run. It measures and prints;
//! what it asserts is that nothing is missing.

use std::time::{Duration, Instant};

use crate::brokers::Mosquitto;
use crate::clients::{Collector, Publisher};
use crate::headwater::{Deployment, Setup};
use crate::waiting::wait_until;

const COUNT: u64 = 100_000;
/// One in so many messages is forwarded, so that the last one tells when all have been processed.
const FORWARDED: u64 = 1_000;

/// Messages a second through mosquitto, at both qualities of service.
#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn throughput_beside_a_bare_subscriber() {
    for qos in [0, 1] {
        let site = Mosquitto::start("max_inflight_messages 1000");
        let bare = Collector::start(site.port(), "readings");
        let seconds = publish(&site, qos, 0, || bare.len() as u64 >= COUNT);
        println!(
            "QoS {qos}: a bare subscriber takes {:.0} messages/s",
            COUNT as f64 / seconds
        );
        drop(bare);

        let upstream = Mosquitto::start("");
        let out = Collector::start(upstream.port(), "forwarded");
        let deployment = Deployment::new(&Setup {
            site: site.port(),
            upstream: upstream.port(),
            site_options: "receive_maximum = 1000",
            upstream_options: "",
            settings: "limits.qos0_queue = \"64MB\"",
            sql: &format!(
                "CREATE TABLE readings (n BIGINT, device STRING, ts TIMESTAMP(3), v DOUBLE,
                   WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH (
                   'connector' = 'mqtt', 'connection' = 'site', 'topic' = 'readings', 'qos' = '{qos}', 'format' = 'json',
                   'json.timestamp-format.standard' = 'epoch-millis', 'scan.watermark.max-future' = '100000 d');
                 CREATE TABLE forwarded (n BIGINT) WITH (
                   'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'forwarded', 'qos' = '1', 'format' = 'json');
                 CREATE TABLE minutes (device STRING, readings BIGINT, average DOUBLE) WITH (
                   'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'minutes', 'qos' = '1', 'format' = 'json');
                 INSERT INTO forwarded SELECT n FROM readings WHERE n % {FORWARDED} = {};
                 INSERT INTO minutes SELECT device, COUNT(*), AVG(v)
                 FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
                 GROUP BY device, window_start, window_end;",
                FORWARDED - 1
            ),
        });
        let mut headwater = deployment.start();
        headwater.wait_subscribed();
        let idle = headwater.memory().0;
        let seconds = publish(&site, qos, 0, || out.len() as u64 >= COUNT / FORWARDED);
        println!(
            "QoS {qos}: headwater takes {:.0} messages/s; resident: {idle} bytes idle, {} with 1,000 devices",
            COUNT as f64 / seconds,
            headwater.memory().0
        );
        headwater.terminate(Duration::from_secs(5));
        let summaries = headwater.summaries();
        let sum = |name: &str| {
            summaries
                .iter()
                .filter_map(|s| s[name].as_u64())
                .sum::<u64>()
        };
        println!(
            "QoS {qos}: {} commits, {:.1} bytes written per event",
            sum("commits"),
            sum("written_bytes") as f64 / COUNT as f64
        );
    }
}

/// Publishes everything and waits for `arrived`; gives the seconds both took.
fn publish(site: &Mosquitto, qos: u8, first: u64, mut arrived: impl FnMut() -> bool) -> f64 {
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    let begin = Instant::now();
    for n in first..first + COUNT {
        let payload = format!(
            r#"{{"n":{n},"device":"device-{:04}","ts":{},"v":21.5,"unit":"C","rssi":-71,"battery":3.71}}"#,
            n % 1_000,
            1_700_000_000_000 + n * 10
        );
        let sent = match qos {
            0 => publisher.send_qos0("readings", payload.as_bytes()),
            _ => publisher.send("readings", payload.as_bytes()),
        };
        sent.expect("the broker is up");
    }
    publisher.flush().expect("the broker is up");
    wait_until(
        "all messages arrive",
        Duration::from_secs(120),
        &mut arrived,
    );
    begin.elapsed().as_secs_f64()
}
