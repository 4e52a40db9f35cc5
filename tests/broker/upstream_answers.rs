//! An upstream that answers what it should not: no row keeps those behind it waiting for ever.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::brokers::Mosquitto;
use crate::clients::Publisher;
use crate::headwater::{Deployment, Setup};
use crate::waiting::wait_until;
use crate::wire::{Frame, Publish, kind};

const SQL: &str = "
CREATE TABLE t (n INT) WITH ('connector' = 'mqtt', 'connection' = 'site', 'topic' = 't', 'format' = 'json');
CREATE TABLE out (n INT) WITH ('connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'out', 'format' = 'json');
INSERT INTO out SELECT n FROM t;
";

/// The payload that is answered badly.
const POISON: &str = "{\"n\":7}";

/// How often each payload was published to the broker.
type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

/// A broker that takes publishes, and answers one payload with reason 0x95, which a PUBACK must not carry.
fn serve(listener: &TcpListener, seen: &Seen) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        // The client ends the connection; that is what is tested.
        let _ = converse(stream, seen);
    }
}

fn converse(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    loop {
        let frame = Frame::read(&mut stream)?;
        match frame.kind() {
            kind::CONNECT => Frame::new(kind::CONNACK, 0, vec![0, 0, 0]).write(&mut stream)?,
            kind::PINGREQ => Frame::new(kind::PINGRESP, 0, Vec::new()).write(&mut stream)?,
            kind::PUBLISH => {
                let Some(publish) = Publish::parse(&frame) else {
                    continue;
                };
                let text = String::from_utf8_lossy(&publish.payload).into_owned();
                let reason = if text == POISON { 0x95 } else { 0 };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen.entry(text).or_default() += 1;
                drop(seen);
                let [high, low] = publish.packet_id.unwrap_or_default().to_be_bytes();
                Frame::new(kind::PUBACK, 0, vec![high, low, reason, 0]).write(&mut stream)?;
            }
            _ => {}
        }
    }
}

#[test]
#[ignore = "needs mosquitto; run by .ci/run"]
fn a_row_whose_answer_cannot_be_read_does_not_hold_up_the_others() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let seen = Seen::default();
    let shared = seen.clone();
    std::thread::spawn(move || serve(&listener, &shared));
    let site = Mosquitto::start("");
    let deployment = Deployment::new(&Setup {
        site: site.port(),
        upstream: port,
        site_options: "",
        upstream_options: "in_flight = 10",
        settings: "commit.interval = \"100ms\"",
        sql: SQL,
    });
    let mut headwater = deployment.start();
    headwater.wait_subscribed();
    let mut publisher = Publisher::connect(site.port()).expect("the broker is up");
    for n in 0..30 {
        let payload = format!("{{\"n\":{n}}}");
        publisher
            .send("t", payload.as_bytes())
            .expect("the broker is up");
    }
    publisher.flush().expect("the broker is up");
    wait_until("all rows have been sent", Duration::from_secs(120), || {
        seen.lock().unwrap_or_else(PoisonError::into_inner).len() == 30
    });
    headwater.terminate(Duration::from_secs(5));
    let tries = seen.lock().unwrap_or_else(PoisonError::into_inner)[POISON];
    println!("the row was tried {tries} times");
    assert!((2..=20).contains(&tries), "{tries}");
    let letters = deployment.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["reason"], "refused_upstream", "{letters:?}");
}
