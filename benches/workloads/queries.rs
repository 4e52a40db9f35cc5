//! What is run over the sensors' messages.

use std::fmt::Write as _;

use super::sensors::Sensors;
use super::workload::{Check, Input, Query, Workload};

/// Ten thousand devices, every ten seconds: a thousand messages a second.
const PLANT: Sensors = Sensors {
    devices: 10_000,
    period_millis: 10_000,
    pause: 0,
};

const fn one(
    name: &'static str,
    what: &'static str,
    columns: &'static str,
    query: &'static str,
) -> Workload {
    Workload {
        name,
        what,
        floor: name,
        check: Check::SameRows,
        input: Input::Sensors(PLANT),
        warm_seconds: 20,
        seconds: 60,
        counted_devices: PLANT.devices,
        memory_devices: 20_000,
        query: Query::One { columns, query },
    }
}

const fn ten_devices(workload: Workload) -> Workload {
    Workload {
        input: Input::Sensors(Sensors {
            devices: 10,
            ..PLANT
        }),
        warm_seconds: 5_000,
        seconds: 20_000,
        counted_devices: 10,
        memory_devices: 0,
        ..workload
    }
}

const WINDOW_COLUMNS: &str =
    "id STRING, window_end TIMESTAMP(3), n BIGINT, mean DOUBLE, greatest DOUBLE";
const HOPPING: &str = "SELECT id, window_end, COUNT(*), AVG(temp), MAX(vib) \
FROM HOP(TABLE sensors, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' MINUTE) \
GROUP BY id, window_start, window_end";
const READING_COLUMNS: &str = "id STRING, ts TIMESTAMP(3), temp DOUBLE, vib DOUBLE, rpm INT";
const PATTERN_COLUMNS: &str = "id STRING, first TIMESTAMP(3), last TIMESTAMP(3)";
const TWO_STEPS: &str = "SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts \
MEASURES A.ts AS first, B.ts AS last AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) WITHIN INTERVAL '1' MINUTE \
DEFINE A AS vib > 7, B AS temp > 50)";
const FIVE_STEPS: &str = "SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts \
MEASURES A.ts AS first, E.ts AS last AFTER MATCH SKIP PAST LAST ROW PATTERN (A B C D E) WITHIN INTERVAL '5' MINUTE \
DEFINE B AS B.vib > A.vib, C AS C.vib > B.vib, D AS D.vib > C.vib, E AS E.temp > 30)";

/// All of them.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        // No row is given, so what is decoded is compared where it is.
        check: Check::SameRowsOf {
            query: Query::One {
                columns: READING_COLUMNS,
                query: "SELECT id, ts, temp, vib, rpm FROM sensors",
            },
            floor: "project",
        },
        memory_devices: 0,
        ..one(
            "decode",
            "five of twelve fields, no row given",
            READING_COLUMNS,
            "SELECT id, ts, temp, vib, rpm FROM sensors WHERE rpm < 0",
        )
    },
    Workload {
        memory_devices: 0,
        ..one(
            "filter",
            "filter and project, one row in eight given",
            "id STRING, ts TIMESTAMP(3), fahrenheit DOUBLE",
            "SELECT id, ts, temp * 1.8 + 32 FROM sensors WHERE temp > 55",
        )
    },
    one(
        "tumble",
        "one-minute tumbling COUNT, AVG and MAX per device",
        WINDOW_COLUMNS,
        "SELECT id, window_end, COUNT(*), AVG(temp), MAX(vib) \
         FROM TUMBLE(TABLE sensors, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY id, window_start, window_end",
    ),
    // In windows of a minute that hop by a second, a device gives a row a second; so rows per event are its period.
    Workload {
        input: Input::Sensors(Sensors {
            period_millis: 3_000,
            ..PLANT
        }),
        warm_seconds: 60,
        counted_devices: 1_000,
        memory_devices: 5_000,
        ..one(
            "hop",
            "the same, 60 s by 1 s: 10,000 devices every 3 s, 3 rows an event",
            WINDOW_COLUMNS,
            HOPPING,
        )
    },
    Workload {
        floor: "hop",
        input: Input::Sensors(Sensors {
            devices: 1_000,
            period_millis: 100,
            pause: 0,
        }),
        warm_seconds: 60,
        counted_devices: 100,
        memory_devices: 1_000,
        ..one(
            "hop-dense",
            "the same, 1,000 devices every 0.1 s, 0.1 rows an event",
            WINDOW_COLUMNS,
            HOPPING,
        )
    },
    Workload {
        input: Input::Sensors(Sensors { pause: 8, ..PLANT }),
        ..one(
            "session",
            "the same in sessions of a gap of 15 s; one report in eight is left out",
            WINDOW_COLUMNS,
            "SELECT id, window_end, COUNT(*), AVG(temp), MAX(vib) \
             FROM SESSION(TABLE sensors PARTITION BY id, DESCRIPTOR(ts), INTERVAL '15' SECOND) \
             GROUP BY id, window_start, window_end",
        )
    },
    one(
        "lag",
        "the step from the row before, per device",
        "id STRING, ts TIMESTAMP(3), step DOUBLE",
        "SELECT id, ts, step FROM (SELECT id, ts, temp - LAG(temp) OVER (PARTITION BY id ORDER BY ts) AS step \
         FROM sensors) WHERE step > 35",
    ),
    one(
        "pattern2",
        "a pattern of two steps per device",
        PATTERN_COLUMNS,
        TWO_STEPS,
    ),
    one(
        "pattern5",
        "a pattern of five rising steps per device",
        PATTERN_COLUMNS,
        FIVE_STEPS,
    ),
    ten_devices(Workload {
        floor: "pattern2",
        ..one(
            "pattern2-10",
            "the pattern of two steps, 10 devices",
            PATTERN_COLUMNS,
            TWO_STEPS,
        )
    }),
    ten_devices(Workload {
        floor: "pattern5",
        ..one(
            "pattern5-10",
            "the pattern of five steps, 10 devices",
            PATTERN_COLUMNS,
            FIVE_STEPS,
        )
    }),
    Workload {
        floor: "decode",
        check: Check::NoRows,
        warm_seconds: 1_000,
        seconds: 1_000,
        memory_devices: 500,
        ..ten_devices(one(
            "overlap100",
            "100 overlapping partial matches for each of 10 devices, none complete",
            PATTERN_COLUMNS,
            "SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts \
             MEASURES A.ts AS first, C.ts AS last AFTER MATCH SKIP TO NEXT ROW PATTERN (A B* C) \
             WITHIN INTERVAL '1000' SECOND DEFINE B AS B.vib > A.vib - 100, C AS C.vib > 100)",
        ))
    },
    // The first 150 readings of a device have no score.
    Workload {
        floor: "decode",
        check: Check::SomeRows,
        input: Input::Sensors(Sensors {
            devices: 1_000,
            ..PLANT
        }),
        warm_seconds: 2_000,
        seconds: 600,
        counted_devices: 200,
        memory_devices: 2_000,
        ..one(
            "score",
            "an anomaly score per device, 1,000 devices",
            "id STRING, ts TIMESTAMP(3), score DOUBLE",
            "SELECT id, ts, a.score FROM (SELECT id, ts, ANOMALY_SCORE(vib) OVER (PARTITION BY id ORDER BY ts) AS a \
             FROM sensors) WHERE a.alarm",
        )
    },
    Workload {
        memory_devices: 0,
        query: Query::Thresholds,
        ..one(
            "thresholds",
            "1,000 rules on one stream, each with its own threshold, of which one in 500 holds",
            "",
            "",
        )
    },
    Workload {
        memory_devices: 0,
        query: Query::Rules,
        ..one(
            "rules",
            "1,000 rules on one stream, each with its own threshold and group of ten devices",
            "",
            "",
        )
    },
];

/// How many rules there are of either kind.
pub(crate) const RULES: u16 = 1_000;

/// What `vib` must be above for a rule of `thresholds`.
pub(crate) fn threshold(rule: u16) -> f64 {
    8.984 + f64::from(rule) / 1_000.0
}

/// What `vib` must be above for a rule of `rules`, whose group are the devices `pump-000RRR0` to `pump-000RRR9`.
pub(crate) fn group_threshold(rule: u16) -> f64 {
    5.0 + f64::from(rule) / 400.0
}

const SENSORS: &str = "CREATE TABLE sensors (id STRING, ts TIMESTAMP(3), temp DOUBLE, vib DOUBLE, rpm INT, \
WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
WITH ('connector' = 'filesystem', 'path' = 'sensors', 'json.timestamp-format.standard' = 'epoch-millis');\n";

const OUT: &str =
    "WITH ('connector' = 'print', 'json.timestamp-format.standard' = 'epoch-millis');\n";

/// A pipeline over the table `sensors`, to the table `out`.
pub(crate) fn pipeline(query: &Query) -> String {
    let mut sql = SENSORS.to_owned();
    match query {
        Query::One { columns, query } => {
            let _ = writeln!(
                sql,
                "CREATE TABLE out ({columns}) {OUT}INSERT INTO out {query};"
            );
        }
        Query::Script(script) => sql += script,
        Query::Thresholds => {
            let _ = write!(
                sql,
                "CREATE TABLE out (rule INT, id STRING, ts TIMESTAMP(3)) {OUT}"
            );
            for rule in 0..RULES {
                let threshold = threshold(rule);
                let _ = writeln!(
                    sql,
                    "INSERT INTO out SELECT {rule}, id, ts FROM sensors WHERE vib > {threshold};"
                );
            }
        }
        Query::Rules => {
            let _ = write!(
                sql,
                "CREATE TABLE out (rule INT, id STRING, ts TIMESTAMP(3)) {OUT}"
            );
            for rule in 0..RULES {
                let threshold = group_threshold(rule);
                let _ = writeln!(
                    sql,
                    "INSERT INTO out SELECT {rule}, id, ts FROM sensors \
                     WHERE id LIKE 'pump-000{rule:03}%' AND vib > {threshold};"
                );
            }
        }
    }
    sql
}
