//! What must make no difference: where epochs end, how often is committed, how arrivals are batched, when the program
//! dies, when state is folded. A pipeline with every kind of operator runs over a random stream in many such ways, and
//! gives the same rows with the same ids each time; so does one with every detector. And a thousand rules on one stream share what they can.
//!
//! `HEADWATER_SEED=n` runs one seed alone.
#![allow(clippy::unwrap_used)]

#[path = "support/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "support/engine.rs"]
mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use disk::Random;
use headwater::plan::{Operator, Plan};
use headwater::sql::{Catalog, compile};
use support::{Disk, clock, deliver, engine};

const SEEDS: u64 = 40;
const MESSAGES: usize = 180;
const DETECTOR_SEEDS: u64 = 6;
const READINGS: usize = 600;

const PIPELINE: &str = "
CREATE TABLE a (device STRING, ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '3' SECOND)
WITH ('connector' = 'filesystem', 'path' = 'a');
CREATE TABLE b (device STRING, ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '3' SECOND)
WITH ('connector' = 'filesystem', 'path' = 'b', 'scan.watermark.per-key' = 'device');
CREATE TABLE c (device STRING, ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = 'c', 'scan.watermark.per-key' = 'device');
CREATE TABLE out (q STRING, device STRING, ts TIMESTAMP(3), n DOUBLE) WITH ('connector' = 'print');
INSERT INTO out SELECT 'filter', device, ts, v FROM a WHERE v > 5;
INSERT INTO out SELECT 'tumble', device, window_start, SUM(v)
FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY device, window_start, window_end;
INSERT INTO out SELECT 'hop', device, window_start, AVG(CAST(v AS DOUBLE))
FROM HOP(TABLE b, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND) GROUP BY device, window_start, window_end;
INSERT INTO out SELECT 'distinct', CAST(NULL AS STRING), window_start, COUNT(DISTINCT device)
FROM TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '20' SECOND) GROUP BY window_start, window_end;
INSERT INTO out SELECT 'join', a.device, a.ts, b.v FROM a LEFT JOIN b
ON a.device = b.device AND b.ts BETWEEN a.ts - INTERVAL '2' SECOND AND a.ts + INTERVAL '4' SECOND;
INSERT INTO out SELECT 'as of', x.device, x.ts, y.v FROM a AS x
LEFT JOIN b FOR SYSTEM_TIME AS OF x.ts AS y ON x.device = y.device;
INSERT INTO out SELECT 'over', device, ts, SUM(v) OVER (PARTITION BY device ORDER BY ts
RANGE BETWEEN INTERVAL '8' SECOND PRECEDING AND CURRENT ROW) FROM a;
INSERT INTO out SELECT 'rows', device, ts, AVG(CAST(v AS DOUBLE)) OVER (PARTITION BY device ORDER BY ts
ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM b;
INSERT INTO out SELECT 'lag', device, ts, LAG(v) OVER (PARTITION BY device ORDER BY ts) FROM a;
INSERT INTO out SELECT 'top', device, window_end, v FROM (SELECT *, ROW_NUMBER() OVER (
PARTITION BY window_start, window_end ORDER BY v DESC, ts) AS rn
FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE rn <= 2;
INSERT INTO out SELECT 'session', device, window_start, LAST_VALUE(v)
FROM SESSION(TABLE a PARTITION BY device, DESCRIPTOR(ts), INTERVAL '6' SECOND) GROUP BY device, window_start, window_end;
INSERT INTO out SELECT 'cumulate', device, window_end, MAX(v)
FROM CUMULATE(TABLE a, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND)
GROUP BY device, window_start, window_end;
INSERT INTO out SELECT 'count', device, window_end, SUM(v)
FROM COUNT_WINDOW(TABLE b PARTITION BY device, DESCRIPTOR(ts), 4, 2) GROUP BY device, window_start, window_end;
INSERT INTO out SELECT 'union', device, window_start, COUNT(*)
FROM TUMBLE((SELECT device, ts FROM a UNION ALL SELECT device, ts FROM b), DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY device, window_start, window_end;
INSERT INTO out SELECT 'union of all', CAST(NULL AS STRING), window_start, COUNT(*)
FROM TUMBLE((SELECT ts FROM b UNION ALL SELECT ts FROM c), DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY window_start, window_end;
INSERT INTO out SELECT 'pattern', device, at, n FROM a MATCH_RECOGNIZE (PARTITION BY device ORDER BY ts
MEASURES FIRST(A.ts) AS at, COUNT(*) AS n AFTER MATCH SKIP TO NEXT ROW PATTERN (A B* C) WITHIN INTERVAL '20' SECOND
DEFINE A AS v > 5, B AS v > 2, C AS v <= 4);
INSERT INTO out SELECT 'pattern of keys', device, at, n FROM b MATCH_RECOGNIZE (PARTITION BY device ORDER BY ts
MEASURES FIRST(A.ts) AS at, LAST(B.v) AS n PATTERN (A B) DEFINE A AS v > 5, B AS B.v < A.v);
";

/// Every detector with all that it gives, by the clocks of a place that puts them forward on the second day.
const DETECTORS: &str = "
CREATE TABLE a (device STRING, ts TIMESTAMP_LTZ(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '30' MINUTE)
WITH ('connector' = 'filesystem', 'path' = 'a');
CREATE TABLE b (device STRING, ts TIMESTAMP_LTZ(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '30' MINUTE)
WITH ('connector' = 'filesystem', 'path' = 'b');
CREATE TABLE out (q STRING, device STRING, ts TIMESTAMP_LTZ(3), given STRING) WITH ('connector' = 'print');
CREATE VIEW m AS SELECT device, ts, v FROM a UNION ALL SELECT device, ts, v FROM b;
INSERT INTO out SELECT 'models', device, ts, CONCAT_WS(' ', CAST(s AS STRING), CAST(l AS STRING), CAST(j AS STRING),
CAST(f AS STRING)) FROM (SELECT device, ts,
ANOMALY_SCORE(v, threshold => 1.5, quiet => 7, timezone => 'Europe/Berlin') OVER w AS s,
ANOMALY_SCORE(v, threshold => 1, quiet => 3, lean => TRUE) OVER w AS l,
ANOMALY_SCORE_JOINT(v, v * v, threshold => 1, quiet => 3) OVER w AS j,
FORECAST_BAND(v, confidence => 0.8, timezone => 'Europe/Berlin') OVER w AS f
FROM m WINDOW w AS (PARTITION BY device ORDER BY ts));
INSERT INTO out SELECT 'charts', device, ts, CONCAT_WS(' ', CAST(c AS STRING), CAST(e AS STRING), CAST(s AS STRING),
CAST(r AS STRING)) FROM (SELECT device, ts, CUSUM(v, baseline => 20) OVER w AS c,
EWMA_CHART(v, baseline => 20) OVER w AS e, SHEWHART_CHART(v, baseline => 20) OVER w AS s,
CONTROL_RULES(v, baseline => 20) OVER w AS r FROM m WINDOW w AS (PARTITION BY device ORDER BY ts));
INSERT INTO out SELECT 'checks', device, ts, CONCAT_WS(' ', CAST(g AS STRING), CAST(s AS STRING), CAST(r AS STRING),
CAST(f AS STRING), CAST(d AS STRING), CAST(c AS STRING)) FROM (SELECT device, ts,
QARTOD_GROSS_RANGE(v, fail_high => 9, suspect_high => 8) OVER w AS g, QARTOD_SPIKE(v, suspect => 4, fail => 6) OVER w AS s,
QARTOD_RATE_OF_CHANGE(v, threshold => 0.005) OVER w AS r,
QARTOD_FLAT_LINE(v, tolerance => 5, suspect => INTERVAL '20' MINUTE, fail => INTERVAL '1' HOUR) OVER w AS f,
ANOMALYDETECTION_SPIKEANDDIP(v, 75, 20, 'spikesanddips') OVER w AS d,
ANOMALYDETECTION_CHANGEPOINT(v, 75, 20) OVER w AS c FROM m WINDOW w AS (PARTITION BY device ORDER BY ts));
";

fn compiled(sql: &str) -> Arc<Plan> {
    let files = [("pipeline.sql".to_owned(), sql.to_owned())];
    Arc::new(compile(&files, &Catalog::default()).unwrap().0)
}

/// What came out: ids and lines of rows in order, reasons and details of dead letters.
type Outcome = (Vec<(String, String)>, Vec<(String, String)>);

fn outcome(disk: Disk) -> Outcome {
    (disk.rows, disk.dead)
}

fn messages(random: &mut Random) -> Vec<(usize, String)> {
    let mut now = 0;
    let messages = (0..MESSAGES).map(|_| {
        now += random.below(3);
        // Some are late, some very late.
        let most = if random.once_in(10) { 40 } else { 4 };
        let behind = random.below(most);
        let second = now.saturating_sub(behind);
        let (device, v) = (random.below(3), random.below(10));
        let payload = if random.once_in(25) {
            "{".to_owned()
        } else {
            format!(
                r#"{{"device":"d{device}","ts":"2026-01-01 00:{:02}:{:02}","v":{v}}}"#,
                second / 60,
                second % 60
            )
        };
        (random.below(3), payload)
    });
    messages.collect()
}

/// Readings of two devices over about three days, from the day before clocks in Berlin are put forward.
fn readings(random: &mut Random) -> Vec<(usize, String)> {
    let mut minute = 0;
    let readings = (0..READINGS).map(|i| {
        minute += random.below(15);
        let behind = if random.once_in(5) {
            random.below(40)
        } else {
            0
        };
        let minute = minute.saturating_sub(behind);
        // Half way one device gets stuck, and the other one steps up.
        let device = random.below(2);
        let v = match (device, i > READINGS / 2) {
            (0, true) => "7".to_owned(),
            (1, true) => (random.below(6) + 5).to_string(),
            _ if random.once_in(30) => "null".to_owned(),
            _ => random.below(6).to_string(),
        };
        let (day, hour) = (28 + minute / 1_440, minute / 60 % 24);
        let payload = format!(
            r#"{{"device":"d{device}","ts":"2026-03-{day} {hour:02}:{:02}:00Z","v":{v}}}"#,
            minute % 60
        );
        (random.below(2), payload)
    });
    readings.collect()
}

#[test]
fn where_epochs_end_makes_no_difference() {
    let plan = compiled(PIPELINE);
    for seed in seeds(SEEDS) {
        let mut random = Random(seed);
        let messages = messages(&mut random);
        any_epochs(&plan, &messages, seed, &mut random);
    }
}

#[test]
fn where_epochs_end_makes_no_difference_to_detectors() {
    let plan = compiled(DETECTORS);
    for seed in seeds(DETECTOR_SEEDS) {
        let mut random = Random(seed);
        let readings = readings(&mut random);
        let rows = any_epochs(&plan, &readings, seed, &mut random);
        // Else the rows would be the same because nobody had said anything.
        for said in ["TRUE, ", "level", "HI", "N2"] {
            assert!(
                rows.iter().any(|(_, line)| line.contains(said)),
                "no {said}"
            );
        }
    }
}

fn seeds(all: u64) -> std::ops::Range<u64> {
    let one = std::env::var("HEADWATER_SEED").ok();
    match one.and_then(|text| text.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..all,
    }
}

/// Runs a plan over messages as a whole, and cut into random epochs with random crashes: the rows are the same.
fn any_epochs(
    plan: &Arc<Plan>,
    messages: &[(usize, String)],
    seed: u64,
    random: &mut Random,
) -> Vec<(String, String)> {
    let whole = {
        let mut disk = Disk::default();
        let mut engine = engine(plan, 1 << 30);
        for message in messages {
            deliver(&mut engine, message.0, &message.1, clock(0));
        }
        engine.finish();
        disk.commit(engine.seal(clock(0)));
        outcome(disk)
    };
    assert!(whole.0.len() > 100, "{}", whole.0.len());
    for _ in 0..4 {
        let commit_one_in = 1 + random.below(30);
        let crash_one_in = 1 + random.below(20);
        let fold = [0, 300, 1 << 30][random.below(3)];
        let mut disk = Disk::default();
        let mut engine = engine(plan, fold);
        // Delivered and not committed: a crash brings them again.
        let mut open = 0;
        let mut at = 0;
        while at < messages.len() {
            let (table, payload) = &messages[at];
            deliver(&mut engine, *table, payload, clock(at as u64));
            (at, open) = (at + 1, open + 1);
            if random.once_in(4) {
                engine.tick(clock(at as u64));
            }
            if random.once_in(commit_one_in) {
                disk.commit(engine.seal(clock(at as u64)));
                engine.committed();
                open = 0;
            } else if random.once_in(crash_one_in * commit_one_in) {
                engine = disk.restored(plan, fold);
                at -= open;
                open = 0;
            }
        }
        engine.finish();
        disk.commit(engine.seal(clock(at as u64)));
        assert_eq!(outcome(disk), whole, "HEADWATER_SEED={seed}");
    }
    whole.0
}

#[test]
fn a_thousand_rules_share_their_source_and_equal_steps() {
    let mut sql = "
        CREATE TABLE a (device STRING, ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts)
        WITH ('connector' = 'filesystem', 'path' = 'a');
        CREATE TABLE out (rule INT, device STRING, v INT) WITH ('connector' = 'print');
    "
    .to_owned();
    for rule in 0..1_000 {
        let (device, least) = (rule % 50, rule % 20);
        let _ = writeln!(
            sql,
            "INSERT INTO out SELECT {rule}, device, v FROM a WHERE device = 'd{device}' AND v >= {least};"
        );
    }
    let plan = compiled(&sql);
    assert_eq!(plan.sources.len(), 1);
    let filters = plan.nodes.iter();
    let filters = filters.filter(|node| matches!(node.operator, Operator::Filter { .. }));
    assert_eq!(filters.count(), 100, "equal conditions are one step");
    let tree = headwater::plan::explain(&plan);
    assert!(tree.contains("(shared, see above)"), "{tree}");
    let mut random = Random(7);
    let mut engine = engine(&plan, 1 << 20);
    let mut expected = 0;
    for _ in 0..500 {
        let (device, v) = (random.below(60), random.below(25));
        let payload = format!(r#"{{"device":"d{device}","ts":"2026-01-01 00:00:00","v":{v}}}"#);
        deliver(&mut engine, 0, &payload, clock(0));
        let rules = 0..1_000;
        expected += rules
            .filter(|rule| rule % 50 == device && rule % 20 <= v)
            .count();
    }
    assert_eq!(engine.seal(clock(0)).local.len(), expected);
}
