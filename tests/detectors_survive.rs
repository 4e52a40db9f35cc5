//! Detectors over random rows: state that is written and read back at any row goes on bit for bit, missing values are
//! no values, results are in bounds, and damaged state is an error or a state, never a panic. Rows come by the minute and
//! by the quarter of an hour, over weeks in which clocks are put forward and back.
#![allow(clippy::unwrap_used)]

use headwater::ops::Detector;
use headwater::plan::{
    ControlRule, CusumOptions, EwmaOptions, History, JointOptions, Method, Normal, ScoreOptions,
    SpikeMode,
};
use headwater::state::{Decoder, Encoder};
use headwater::types::{EventTime, Timespan, Value};

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn value(&mut self) -> Value {
        Value::Double(match self.next(40) {
            0 => return Value::Null,
            1 => f64::NAN,
            2 => f64::INFINITY,
            3 => f64::MAX,
            4 => -1e18,
            5 => f64::MIN_POSITIVE,
            6 => 1e9,
            7..=15 => 5.0,
            _ => self.next(1_000) as f64 / 10.0,
        })
    }
}

fn methods() -> Vec<Method> {
    let normal = Normal {
        target: None,
        sigma: None,
        baseline: 20,
    };
    let history = History {
        size: 50,
        duration: Timespan::from_secs(3_000),
    };
    let score = ScoreOptions::default();
    vec![
        Method::Score(score),
        Method::Score(ScoreOptions {
            lean: true,
            quiet: 3,
            threshold: 1.0,
        }),
        Method::Joint(JointOptions {
            columns: 3,
            threshold: 2.0,
            quiet: 5,
        }),
        Method::Forecast { confidence: 0.9 },
        Method::Cusum(CusumOptions {
            normal,
            k: 0.5,
            h: 4.0,
            head_start: 0.5,
            restart: true,
        }),
        Method::EwmaChart(EwmaOptions {
            normal,
            lambda: 0.2,
            width: 3.0,
            asymptotic: false,
        }),
        Method::Shewhart { normal, width: 3.0 },
        Method::Rules {
            normal,
            rules: ControlRule::ALL.iter().map(|(rule, _)| *rule).collect(),
        },
        Method::GrossRange {
            fail: [0.0, 90.0],
            suspect: [10.0, 80.0],
        },
        Method::Spike {
            suspect: 20.0,
            fail: 50.0,
        },
        Method::RateOfChange { threshold: 0.5 },
        Method::FlatLine {
            tolerance: 30.0,
            suspect: Some(Timespan::from_secs(600)),
            fail: Some(Timespan::from_secs(1_200)),
        },
        Method::SpikeAndDip {
            confidence: 95.0,
            mode: SpikeMode::SpikesAndDips,
            history,
        },
        Method::ChangePoint {
            confidence: 75.0,
            history,
        },
    ]
}

/// The days on which clocks in Berlin change: an hour that does not exist, and one that comes twice.
const CHANGES: [&str; 2] = ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"];

/// What the clocks in Berlin show, as the engine hands it to detectors with a time zone.
fn clock(at: EventTime) -> Value {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap();
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let offset = i64::from(zone.to_offset(at).seconds());
    Value::Timestamp(at.as_microsecond() + offset * 1_000_000)
}

/// The inputs of a row: three columns, or one and the clock.
fn inputs(method: &Method, random: &mut Random, at: EventTime) -> Vec<Value> {
    match method {
        Method::Score(_) | Method::Forecast { .. } => vec![random.value(), clock(at)],
        _ => vec![random.value(), random.value(), random.value()],
    }
}

fn written(detector: &Detector) -> Vec<u8> {
    let mut out = Encoder::new();
    detector.encode(&mut out);
    out.as_slice().to_vec()
}

/// The same, NaN for NaN.
fn same(one: &Value, other: &Value) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

#[test]
fn a_detector_that_is_stored_and_read_goes_on_as_if_nothing_had_happened() {
    for method in methods() {
        // Rows a minute apart for a day, and a quarter of an hour apart for half a month.
        for (seed, most_micros) in (1..=8_u64).zip([120_000_000, 1_800_000_000].into_iter().cycle())
        {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut kept = Detector::new(&method);
            let mut restored = Detector::new(&method);
            let change: jiff::Timestamp = CHANGES[seed as usize / 2 % 2].parse().unwrap();
            let start = change.as_microsecond() - 600 * most_micros as i64 / 2;
            let mut time = start + random.next(3_600_000_000) as i64;
            for row in 0..1_500 {
                time += random.next(most_micros) as i64;
                let at = EventTime::from_micros(time);
                let inputs = inputs(&method, &mut random, at);
                let (one, other) = (
                    kept.take(&method, at, &inputs),
                    restored.take(&method, at, &inputs),
                );
                let place = format!("{} seed {seed} row {row}", method.name());
                assert!(same(&one, &other), "{place}: {one:?} and {other:?}");
                check(&one, &place);
                // The first rows are held as they are, so each of them is a state of its own.
                if row < 20 || random.next(50) == 0 {
                    let bytes = written(&restored);
                    let mut from = Decoder::new(&bytes);
                    restored = Detector::decode(&method, &mut from).unwrap();
                    assert_eq!(written(&restored), bytes, "{place}");
                }
            }
            let micros = (time - start) as u64;
            assert!(time > change.as_microsecond() + 86_400_000_000 || micros < 3 * 86_400_000_000);
            assert!(micros > 86_400_000_000, "seed {seed}: less than a day");
        }
    }
}

/// No result is NaN, and none is infinite.
fn check(value: &Value, place: &str) {
    if let Value::Row(fields) = value {
        for field in fields.iter() {
            if let Value::Double(number) = field {
                assert!(number.is_finite(), "{place}: {value:?}");
            }
        }
    }
}

#[test]
fn damaged_state_never_panics() {
    for method in methods() {
        let mut random = Random(77);
        let mut detector = Detector::new(&method);
        for row in 0..300 {
            let at = EventTime::from_micros(row * 60_000_000);
            let inputs = inputs(&method, &mut random, at);
            detector.take(&method, at, &inputs);
        }
        let whole = written(&detector);
        for _ in 0..1_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random.next(4) {
                if bytes.is_empty() {
                    break;
                }
                let at = random.next(bytes.len() as u64) as usize;
                bytes[at] = random.next(256) as u8;
            }
            bytes.truncate(random.next(bytes.len() as u64 * 2 + 1) as usize);
            let Ok(mut read) = Detector::decode(&method, &mut Decoder::new(&bytes)) else {
                continue;
            };
            for row in 0..40 {
                let at = EventTime::from_micros((300 + row) * 60_000_000);
                let inputs = inputs(&method, &mut random, at);
                read.take(&method, at, &inputs);
            }
        }
    }
}
