//! What a key and an event of `ANOMALY_SCORE` cost: bytes of stored state, nanoseconds, and under
//! `valgrind --tool=callgrind` instructions (run it with 0 events as well, and take the difference).
//!
//!     cargo run --example anomaly_cost -- [EVENTS]
#![allow(clippy::print_stdout)]

use std::time::Instant;

use headwater::ops::Detector;
use headwater::plan::{Method, ScoreOptions};
use headwater::state::Encoder;
use headwater::types::{EventTime, Value};

fn main() {
    let events = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let events: u32 = events.unwrap_or(1_000_000);
    for lean in [false, true] {
        let method = Method::Score(ScoreOptions {
            lean,
            ..ScoreOptions::default()
        });
        let mut detector = Detector::new(&method);
        let started = Instant::now();
        let mut state = 1_u64;
        let mut time = 1_700_000_000_000_000;
        for _ in 0..events {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            time += 300_000_000;
            let value = (state >> 40) as f64 / 1e6 + (state >> 20 & 0xFF_FFFF) as f64 / 1e6;
            let at = EventTime::from_micros(time);
            std::hint::black_box(detector.take(&method, at, &[Value::Double(value)]));
        }
        let nanos = started.elapsed().as_nanos() as f64 / f64::from(events.max(1));
        let mut out = Encoder::new();
        detector.encode(&mut out);
        let name = if lean { "lean" } else { "default" };
        println!(
            "{name}: {} bytes per key, {nanos:.0} ns per event",
            out.as_slice().len()
        );
    }
}
