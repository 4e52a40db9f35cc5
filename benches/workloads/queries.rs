//! What is run over the messages.

use std::fmt::Write as _;

/// A workload: queries over the table `sensors`, to the table `out`.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What it stands for, for the table.
    pub(crate) what: &'static str,
    /// The hand-written loop it is held against.
    pub(crate) floor: &'static str,
    pub(crate) devices: usize,
    /// Messages of the shorter of two timed runs.
    pub(crate) events: usize,
    queries: Queries,
}

enum Queries {
    One {
        columns: &'static str,
        query: &'static str,
    },
    /// Each has its own threshold and group of devices.
    Rules(u16),
    /// Each has its own threshold.
    Thresholds(u16),
}

const fn one(
    name: &'static str,
    what: &'static str,
    floor: &'static str,
    columns: &'static str,
    query: &'static str,
) -> Workload {
    Workload {
        name,
        what,
        floor,
        devices: 10_000,
        events: 200_000,
        queries: Queries::One { columns, query },
    }
}

const WINDOW_COLUMNS: &str =
    "id STRING, window_end TIMESTAMP(3), n BIGINT, mean DOUBLE, greatest DOUBLE";

const PATTERN_COLUMNS: &str = "id STRING, first TIMESTAMP(3), last TIMESTAMP(3)";
const TWO_STEPS: &str = "SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts \
MEASURES A.ts AS first, B.ts AS last AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) WITHIN INTERVAL '1' MINUTE \
DEFINE A AS vib > 7, B AS temp > 50)";
const FIVE_STEPS: &str = "SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts \
MEASURES A.ts AS first, E.ts AS last AFTER MATCH SKIP PAST LAST ROW PATTERN (A B C D E) WITHIN INTERVAL '5' MINUTE \
DEFINE B AS B.vib > A.vib, C AS C.vib > B.vib, D AS D.vib > C.vib, E AS E.temp > 30)";

/// All of them.
pub(crate) const WORKLOADS: &[Workload] = &[
    one(
        "decode",
        "five of twelve fields, no row given",
        "decode",
        "id STRING, ts TIMESTAMP(3), temp DOUBLE, vib DOUBLE, rpm INT",
        "SELECT id, ts, temp, vib, rpm FROM sensors WHERE rpm < 0",
    ),
    one(
        "filter",
        "filter and project, one row in eight given",
        "decode",
        "id STRING, ts TIMESTAMP(3), fahrenheit DOUBLE",
        "SELECT id, ts, temp * 1.8 + 32 FROM sensors WHERE temp > 55",
    ),
    one(
        "tumble",
        "one-minute tumbling COUNT, AVG and MAX per device",
        "window",
        WINDOW_COLUMNS,
        "SELECT id, window_end, COUNT(*), AVG(temp), MAX(vib) \
         FROM TUMBLE(TABLE sensors, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY id, window_start, window_end",
    ),
    one(
        "hop",
        "the same, 60 s by 1 s",
        "window",
        WINDOW_COLUMNS,
        "SELECT id, window_end, COUNT(*), AVG(temp), MAX(vib) \
         FROM HOP(TABLE sensors, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' MINUTE) \
         GROUP BY id, window_start, window_end",
    ),
    one(
        "session",
        "sessions per device",
        "window",
        WINDOW_COLUMNS,
        "SELECT id, window_end, COUNT(*), AVG(temp), MAX(vib) \
         FROM SESSION(TABLE sensors PARTITION BY id, DESCRIPTOR(ts), INTERVAL '5' SECOND) \
         GROUP BY id, window_start, window_end",
    ),
    one(
        "lag",
        "the step from the row before, per device",
        "window",
        "id STRING, ts TIMESTAMP(3), step DOUBLE",
        "SELECT id, ts, step FROM (SELECT id, ts, temp - LAG(temp) OVER (PARTITION BY id ORDER BY ts) AS step \
         FROM sensors) WHERE step > 35",
    ),
    one(
        "pattern2",
        "a pattern of two steps per device",
        "window",
        PATTERN_COLUMNS,
        TWO_STEPS,
    ),
    one(
        "pattern5",
        "a pattern of five rising steps per device",
        "window",
        PATTERN_COLUMNS,
        FIVE_STEPS,
    ),
    Workload {
        devices: 10,
        ..one(
            "pattern2-10",
            "the pattern of two steps, 10 devices",
            "window",
            PATTERN_COLUMNS,
            TWO_STEPS,
        )
    },
    Workload {
        devices: 10,
        ..one(
            "pattern5-10",
            "the pattern of five steps, 10 devices",
            "window",
            PATTERN_COLUMNS,
            FIVE_STEPS,
        )
    },
    Workload {
        devices: 10,
        events: 5_000,
        ..one(
            "overlap100",
            "100 overlapping partial matches for each of 10 devices",
            "window",
            PATTERN_COLUMNS,
            "SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts \
             MEASURES A.ts AS first, C.ts AS last AFTER MATCH SKIP TO NEXT ROW PATTERN (A B* C) \
             WITHIN INTERVAL '1000' SECOND DEFINE B AS B.vib > A.vib - 100, C AS C.vib > 100)",
        )
    },
    one(
        "score",
        "an anomaly score per device",
        "window",
        "id STRING, ts TIMESTAMP(3), score DOUBLE",
        "SELECT id, ts, a.score FROM (SELECT id, ts, ANOMALY_SCORE(vib) OVER (PARTITION BY id ORDER BY ts) AS a \
         FROM sensors) WHERE a.alarm",
    ),
    Workload {
        name: "thresholds",
        what: "1,000 rules on one stream, each with its own threshold, of which one in 500 holds",
        floor: "decode",
        devices: 10_000,
        events: 100_000,
        queries: Queries::Thresholds(1_000),
    },
    Workload {
        name: "rules",
        what: "1,000 rules on one stream, each with its own threshold and group of devices",
        floor: "decode",
        devices: 10_000,
        events: 100_000,
        queries: Queries::Rules(1_000),
    },
];

const SENSORS: &str = "CREATE TABLE sensors (id STRING, ts TIMESTAMP(3), temp DOUBLE, vib DOUBLE, rpm INT, \
WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
WITH ('connector' = 'filesystem', 'path' = 'sensors', 'json.timestamp-format.standard' = 'epoch-millis');\n";

impl Workload {
    /// Its pipeline.
    pub(crate) fn sql(&self) -> String {
        let mut sql = SENSORS.to_owned();
        match self.queries {
            Queries::One { columns, query } => {
                let _ = writeln!(
                    sql,
                    "CREATE TABLE out ({columns}) WITH ('connector' = 'print');\nINSERT INTO out {query};"
                );
            }
            Queries::Thresholds(count) => {
                sql += "CREATE TABLE out (rule INT, id STRING, ts TIMESTAMP(3)) WITH ('connector' = 'print');\n";
                for rule in 0..count {
                    let threshold = 8.984 + f64::from(rule) / 1_000.0;
                    let _ = writeln!(
                        sql,
                        "INSERT INTO out SELECT {rule}, id, ts FROM sensors WHERE vib > {threshold};"
                    );
                }
            }
            Queries::Rules(count) => {
                sql += "CREATE TABLE out (rule INT, id STRING, ts TIMESTAMP(3)) WITH ('connector' = 'print');\n";
                for rule in 0..count {
                    let threshold = 5.0 + f64::from(rule) / 400.0;
                    let _ = writeln!(
                        sql,
                        "INSERT INTO out SELECT {rule}, id, ts FROM sensors \
                         WHERE id LIKE 'pump-{rule:04}%' AND vib > {threshold};"
                    );
                }
            }
        }
        sql
    }
}
