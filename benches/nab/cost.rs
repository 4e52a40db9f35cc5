//! What a key and an event of `ANOMALY_SCORE` cost: bytes of stored state, nanoseconds, and under
//! `valgrind --tool=callgrind` instructions, as `benches/nab/run.py` counts them.
//!
//!     cargo run --example anomaly_cost -- [EVENTS [default | lean]]
//!
//! On aarch64 (built for `aarch64-unknown-linux-musl`, release) a reading takes 3,360 instructions, and 2,640 lean, of
//! which about 60 are this program's: counted under `qemu-aarch64 -singlestep -d exec,nochain,strace` as the lines of the
//! trace up to each `write`, at 10,000 events less those at 9,000.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use headwater::ops::Detector;
use headwater::plan::{Method, ScoreOptions};
use headwater::state::Encoder;
use headwater::types::{EventTime, Value};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse().expect("EVENTS is a number");
    let events: u32 = arguments.first().map_or(1_000_000, number);
    for (name, lean) in [("default", false), ("lean", true)] {
        if arguments.get(1).is_some_and(|only| only != name) {
            continue;
        }
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
            std::hint::black_box(take(&mut detector, &method, at, value));
        }
        let nanos = started.elapsed().as_nanos() as f64 / f64::from(events.max(1));
        let mut out = Encoder::new();
        detector.encode(&mut out);
        println!(
            "{name}: {} bytes per key, {nanos:.0} ns per event",
            out.as_slice().len()
        );
    }
}

/// One event: what happens in here is what tools count.
#[inline(never)]
fn take(detector: &mut Detector, method: &Method, at: EventTime, value: f64) -> Value {
    detector.take(method, at, &[Value::Double(value)])
}
