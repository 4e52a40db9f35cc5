//! `ANOMALY_SCORE` on streams made by formula: how often it alarms where nothing happens, and how soon where something does.
//!
//! Everything is made from seeds, so every run sees the same streams.
#![allow(clippy::unwrap_used)]

use headwater::ops::Detector;
use headwater::plan::{JointOptions, Method, ScoreOptions};
use headwater::types::{EventTime, Value};

const STEP_SECS: i64 = 300;
const PER_DAY: usize = 288;

/// A small random generator (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..20 {
            random.uniform();
        }
        random
    }

    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        let least = (-mean).exp();
        let (mut count, mut product) = (0.0, self.uniform());
        while product > least {
            count += 1.0;
            product *= self.uniform();
        }
        count
    }
}

/// The nine kinds of stationary streams, and the random walk, which is none.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Noise,
    Autoregressive,
    RandomWalk,
    Daily,
    StudentT3,
    Poisson,
    Quantised,
    Constant,
    LogNormal,
    OnOff,
}

const KINDS: [Kind; 10] = [
    Kind::Noise,
    Kind::Autoregressive,
    Kind::RandomWalk,
    Kind::Daily,
    Kind::StudentT3,
    Kind::Poisson,
    Kind::Quantised,
    Kind::Constant,
    Kind::LogNormal,
    Kind::OnOff,
];

fn stream(kind: Kind, length: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut state: f64 = 0.0;
    let (mut on, mut left) = (false, 0.0);
    let mut next = |i: usize| match kind {
        Kind::Noise => random.normal(),
        Kind::Autoregressive => {
            state = 0.9 * state + random.normal();
            state
        }
        Kind::RandomWalk => {
            state += random.normal();
            state
        }
        Kind::Daily => daily(i) + random.normal(),
        Kind::StudentT3 => {
            let normal = random.normal();
            let squares: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
            normal / (squares / 3.0).sqrt()
        }
        Kind::Poisson => random.poisson(3.0),
        Kind::Quantised => {
            state = 0.99 * state + 0.14 * random.normal();
            (state * 2.0).round() / 2.0
        }
        Kind::Constant => 5.0,
        Kind::LogNormal => random.normal().exp(),
        Kind::OnOff => {
            if left < 1.0 {
                on = !on;
                left = 1.0 - 40.0 * random.uniform().max(1e-12).ln();
            }
            left -= 1.0;
            f64::from(u8::from(on))
        }
    };
    (0..length).map(&mut next).collect()
}

fn daily(i: usize) -> f64 {
    10.0 * (std::f64::consts::TAU * i as f64 / PER_DAY as f64).sin()
}

/// The alarms of a stream of which a value comes every five minutes.
fn alarms(values: &[f64], lean: bool) -> Vec<(usize, String)> {
    alarms_over_gaps(values, lean, STEP_SECS, &[])
}

/// The alarms of a stream, by position, each with the channel that spoke. A value comes every `step_secs`, but for gaps of so many
/// steps before some.
fn alarms_over_gaps(
    values: &[f64],
    lean: bool,
    step_secs: i64,
    gaps: &[(usize, i64)],
) -> Vec<(usize, String)> {
    let options = ScoreOptions {
        lean,
        ..ScoreOptions::default()
    };
    let method = Method::Score(options);
    let mut detector = Detector::new(&method);
    let mut time = 1_700_000_000 - 1_700_000_000 % 86_400;
    let mut found = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let gap = gaps.iter().find(|(at, _)| *at == i);
        time += gap.map_or(1, |(_, steps)| *steps) * step_secs;
        let at = EventTime::from_micros(time * 1_000_000);
        let Value::Row(fields) = detector.take(&method, at, &[Value::Double(*value)]) else {
            panic!("a score for every number");
        };
        if let [
            Value::Double(score),
            Value::Bool(true),
            _,
            Value::Str(channel),
        ] = &*fields
        {
            assert!(*score >= options.threshold);
            found.push((i, channel.to_string()));
        }
    }
    found
}

#[test]
fn false_alarms_are_rare_on_stationary_streams() {
    const LENGTH: usize = 100_000;
    for kind in KINDS {
        for lean in [false, true] {
            let count: usize = (1..=2)
                .map(|seed| alarms(&stream(kind, LENGTH, seed), lean).len())
                .sum();
            let most = match kind {
                Kind::Constant => 0,
                _ => 70 * 2,
            };
            assert!(count <= most, "{kind:?}, lean {lean}: {count} in 200,000");
        }
    }
}

/// Two weeks of a shape with noise, then `change`d from `at` on; found within `delay` steps, in each of five seeds.
fn finds(
    what: &str,
    delay: usize,
    shape: fn(usize) -> f64,
    change: impl Fn(usize, f64, f64) -> f64,
) {
    let at = 14 * PER_DAY + 100;
    for lean in [false, true] {
        for seed in 1..=5 {
            let noise = stream(Kind::Noise, at + 2 * PER_DAY, seed);
            let values: Vec<f64> = noise
                .iter()
                .enumerate()
                .map(|(i, noise)| match i.checked_sub(at) {
                    Some(since) => change(since, shape(i), *noise),
                    None => shape(i) + noise,
                })
                .collect();
            let found = alarms(&values, lean);
            let first = found.iter().find(|(i, _)| *i >= at);
            let delayed = first.map(|(i, _)| i - at);
            assert!(
                delayed.is_some_and(|delayed| delayed <= delay),
                "{what}, lean {lean}, seed {seed}: {first:?}"
            );
        }
    }
}

#[test]
fn a_step_is_found_within_three_readings() {
    finds("step", 3, daily, |_, shape, noise| shape + noise + 15.0);
}

#[test]
fn a_spike_is_found_at_once() {
    finds("spike", 0, daily, |since, shape, noise| {
        shape + noise + if since == 0 { 25.0 } else { 0.0 }
    });
}

#[test]
fn a_ramp_is_found_before_it_has_grown_to_four_deviations() {
    // Half a deviation of the noise an hour, under a daily swing of twenty.
    finds("ramp", 8 * 12, daily, |since, shape, noise| {
        shape + noise + since as f64 / 12.0 * 0.5
    });
}

#[test]
fn a_collapse_of_the_variance_is_found_within_three_hours() {
    finds(
        "collapse",
        36,
        |_| 50.0,
        |_, shape, noise| shape + 0.05 * noise,
    );
}

#[test]
fn a_stuck_sensor_is_found_within_two_hours() {
    finds("stuck", 24, daily, |_, _, _| daily(14 * PER_DAY + 100));
}

#[test]
fn a_changed_daily_shape_is_found_within_an_hour() {
    // Day and night change places.
    finds("shape", 12, daily, |_, shape, noise| -shape + noise);
}

/// At each cadence, also when an hour was missing two weeks before, and a single reading five days before. The first gap hid
/// all others for ever, and at ten minutes none was found.
#[test]
fn a_missing_hour_is_found_with_the_next_reading() {
    for (minutes, seed) in [1, 5, 10]
        .into_iter()
        .flat_map(|m| [1, 2, 3].map(|s| (m, s)))
    {
        let per_day = 24 * 60 / minutes as usize;
        let first = 10 * per_day + 7;
        let (lost, second) = (first + 9 * per_day, first + 14 * per_day + 3);
        let values = stream(Kind::Daily, second + 10, seed);
        let missing = 60 / minutes + 1;
        for lean in [false, true] {
            let gaps = [(first, missing), (lost, 2), (second, missing)];
            let found = alarms_over_gaps(&values, lean, minutes * 60, &gaps);
            let found: Vec<usize> = found
                .iter()
                .filter(|(_, channel)| channel == "gap")
                .map(|(at, _)| *at)
                .collect();
            assert_eq!(found, [first, second], "{minutes} minutes, seed {seed}");
        }
    }
}

/// What is no reading: overflows, markers of missing data, a register that was not read.
const FILLS: [f64; 4] = [1e18, -9_999.0, 65_535.0, 1e99];

/// Where they stand: nowhere; first; through the start; in the warm-up; alone and twice in the middle.
const PLACES: [&[usize]; 6] = [
    &[],
    &[0],
    &[0, 1, 2, 3, 4, 5, 6],
    &[0, 40, 100],
    &[2_000],
    &[2_000, 2_001],
];

#[test]
fn what_is_no_reading_does_not_blind_the_score() {
    let at = 14 * PER_DAY + 100;
    for (fill, places) in FILLS
        .into_iter()
        .flat_map(|f| PLACES.map(|places| (f, places)))
    {
        for lean in [false, true] {
            for seed in 1..=2 {
                let still = stream(Kind::Daily, at + 40, seed).into_iter().enumerate();
                let reading = |(i, value)| {
                    if places.contains(&i) {
                        fill
                    } else {
                        20.0 + value
                    }
                };
                let still: Vec<f64> = still.map(reading).collect();
                let said = format!("{fill:e} at {places:?}, lean {lean}, seed {seed}");
                let found = alarms(&still, lean);
                // Alone and once in the middle it is an alarm, what is around it is none.
                assert!(found.len() <= 3, "{said}: {found:?}");
                let middle = places.contains(&2_000);
                assert_eq!(
                    middle,
                    found.iter().any(|(i, _)| *i == 2_000),
                    "{said}: {found:?}"
                );
                let mut step = still.clone();
                for value in &mut step[at..] {
                    *value += 15.0;
                }
                let mut spike = still.clone();
                spike[at] += 25.0;
                let mut stuck = still.clone();
                stuck[at..].fill(20.0 + daily(at));
                for (what, values, delay) in
                    [("step", step, 3), ("spike", spike, 0), ("stuck", stuck, 24)]
                {
                    let found = alarms(&values, lean);
                    let first = found.iter().find(|(i, _)| *i >= at);
                    assert!(
                        first.is_some_and(|(i, _)| i - at <= delay),
                        "{what} after {said}: {first:?}"
                    );
                }
            }
        }
    }
}

/// The expected value is near the readings from the second one on, whatever the first one was.
#[test]
fn what_is_expected_comes_from_readings() {
    for fill in FILLS {
        let method = Method::Score(ScoreOptions::default());
        let mut detector = Detector::new(&method);
        let mut expected = |i: usize, value: f64| {
            let time = EventTime::from_micros(i as i64 * STEP_SECS * 1_000_000);
            match detector.take(&method, time, &[Value::Double(value)]) {
                Value::Row(fields) => fields[2].clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(expected(0, fill), Value::Null);
        assert_eq!(expected(1, 20.0), Value::Double(fill));
        expected(2, 20.5);
        for i in 3..2_000 {
            let Value::Double(expected) = expected(i, 20.0 + (i % 7) as f64 / 10.0) else {
                panic!("nothing is expected at {i}");
            };
            assert!(
                (20.0..=20.6).contains(&expected),
                "{fill:e}, {i}: {expected}"
            );
        }
    }
}

/// The alarms of three columns that follow one another with noise; from `at` on the second goes its own way. At some
/// places the third is no reading.
fn joint_alarms(
    length: usize,
    seed: u64,
    at: usize,
    quiet: u32,
    fills: (f64, &[usize]),
) -> Vec<(usize, i64)> {
    let method = Method::Joint(JointOptions {
        columns: 3,
        threshold: 3.5,
        quiet,
    });
    let mut detector = Detector::new(&method);
    let mut random = Random::new(seed);
    let mut found = Vec::new();
    for i in 0..length {
        let load = 50.0 + 10.0 * random.normal();
        let second = if i < at {
            2.0 * load
        } else {
            2.0 * (50.0 + 10.0 * random.normal())
        };
        let mut values = [
            load + random.normal(),
            second + random.normal(),
            -load + random.normal(),
        ];
        if fills.1.contains(&i) {
            values[2] = fills.0;
        }
        let time = EventTime::from_micros(i as i64 * 1_000_000);
        let Value::Row(fields) = detector.take(&method, time, &values.map(Value::Double)) else {
            panic!("a score for every row");
        };
        if let [_, Value::Bool(true), _, Value::Int(argument)] = &*fields {
            found.push((i, *argument));
        }
    }
    found
}

#[test]
fn columns_that_no_longer_go_together_are_found_though_each_is_as_ever() {
    for seed in 1..=5 {
        let still = joint_alarms(100_000, seed, usize::MAX, 100, (0.0, &[]));
        assert!(still.len() <= 70, "seed {seed}: {} in 100,000", still.len());
        for (fill, places) in FILLS
            .into_iter()
            .flat_map(|f| PLACES.map(|places| (f, places)))
        {
            let at = 4_000;
            let found = joint_alarms(at + 100, seed, at, 0, (fill, places));
            let first = found.iter().find(|(i, _)| *i >= at).copied();
            let soon = first.is_some_and(|(i, argument)| i <= at + 3 && argument == 2);
            assert!(soon, "seed {seed}, {fill:e} at {places:?}: {first:?}");
        }
    }
}

/// The part of the readings from the third week on that are within the band, and the mean width of it. At some places
/// there is no reading.
fn band(kind: Kind, confidence: f64, fills: (f64, &[usize])) -> (f64, f64) {
    let method = Method::Forecast { confidence };
    let mut detector = Detector::new(&method);
    let (mut inside, mut width, mut all) = (0.0, 0.0, 0.0);
    for (i, value) in stream(kind, 60 * PER_DAY, 3).into_iter().enumerate() {
        let value = if fills.1.contains(&i) { fills.0 } else { value };
        let time = EventTime::from_micros(i as i64 * STEP_SECS * 1_000_000);
        let Value::Row(fields) = detector.take(&method, time, &[Value::Double(value)]) else {
            panic!("a band for every number");
        };
        if i >= 14 * PER_DAY {
            let [_, Value::Double(lower), Value::Double(upper), _, outside] = &*fields else {
                panic!("a band after two weeks");
            };
            all += 1.0;
            width += upper - lower;
            inside += f64::from(u8::from(*outside == Value::Bool(false)));
        }
    }
    (inside / all, width / all)
}

/// The band holds what it says, on streams of any distribution, and is as narrow where some values are no readings.
#[test]
fn a_forecast_band_holds_its_part_of_all_readings() {
    for kind in [
        Kind::Daily,
        Kind::Noise,
        Kind::StudentT3,
        Kind::LogNormal,
        Kind::Autoregressive,
    ] {
        for confidence in [0.9, 0.99] {
            let (part, narrow) = band(kind, confidence, (0.0, &[]));
            assert!(
                (part - confidence).abs() < 0.01,
                "{kind:?} {confidence}: {part}"
            );
            for (fill, places) in [(1e18, &[0][..]), (-9_999.0, &[0, 3, 5_000, 5_001])] {
                let (part, width) = band(kind, confidence, (fill, places));
                let said = format!("{kind:?} {confidence}, {fill:e} at {places:?}");
                assert!((part - confidence).abs() < 0.01, "{said}: {part}");
                assert!(width < 1.2 * narrow, "{said}: {width} for {narrow}");
            }
        }
    }
}
