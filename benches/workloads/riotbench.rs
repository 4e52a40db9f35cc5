//! RIoTBench: the ETL and STATS dataflows, re-built in SQL. The input is SenML like that of its smart city: a message holds what
//! one sensor measured at a time, by its position in a list, 470 bytes.
//!
//! | its task | here |
//! |---|---|
//! | parse SenML | the columns of the list's elements; values are numbers, as SenML has them, where its files have text |
//! | range filter | `CASE WHEN … BETWEEN … END`: a value out of range is missing, the rest of the message is not |
//! | Bloom filter for known sensors | the join with the table of sensors, which is exact |
//! | interpolation of missing values | the average of the sensor's last five |
//! | join of the observations of a message | none: a row holds them all |
//! | annotation | columns of the table of sensors |
//! | MQTT publish, table insert | the rows; there is no table in a cloud |
//! | average over a block | `COUNT_WINDOW` of ten readings |
//! | second order moment | `VAR_POP` over the same |
//! | distinct approximate count | `APPROX_COUNT_DISTINCT` over a minute |
//! | Kalman filter | an exponentially weighted average, `EWMA_CHART`: what a Kalman filter of one constant state settles to |
//! | sliding linear regression | `REGR_SLOPE` over the last ten of those |

use std::fmt::Write as _;
use std::io::Write as _;

use super::input::{Batch, FIRST_MILLIS, Generator, Random};
use super::workload::{Check, Input, Query, Workload};

/// Sensors that all report once a second.
#[derive(Clone, Copy)]
pub(crate) struct City {
    pub(crate) sensors: usize,
}

impl City {
    pub(crate) fn events(self, seconds: u64) -> usize {
        self.sensors * seconds as usize
    }

    pub(crate) fn generator(self) -> impl Generator {
        Observations {
            sensors: self.sensors as u64,
            number: 0,
            random: Random(0xc17),
        }
    }
}

struct Observations {
    sensors: u64,
    number: u64,
    random: Random,
}

impl Observations {
    /// A value in its range, or one time in a hundred far beyond.
    fn value(&mut self, least: f64, most: f64) -> f64 {
        let part = self.random.below(10_000) as f64 / 10_000.0;
        let beyond = if self.random.below(100) == 0 {
            9.0
        } else {
            1.0
        };
        beyond * (least + part * (most - least))
    }
}

impl Generator for Observations {
    fn write(&mut self, batch: &mut Batch) {
        let (sensor, second) = (self.number % self.sensors, self.number / self.sensors);
        let millis = FIRST_MILLIS + second * 1_000 + sensor * 1_000 / self.sensors;
        self.number += 1;
        let temperature = self.value(10.0, 43.0);
        let humidity = self.value(11.0, 95.0);
        let light = self.value(1_345.0, 26_282.0);
        let dust = self.value(186.0, 5_600.0);
        let air = self.value(17.0, 363.0);
        batch.push(0, |bytes| {
            let _ = write!(
                bytes,
                r#"{{"e":[{{"u":"string","n":"source","sv":"ci4{sensor:020}"}},{{"v":103.{sensor:06},"u":"lon","n":"longitude"}},{{"v":1.{sensor:06},"u":"lat","n":"latitude"}},{{"v":{temperature:.1},"u":"far","n":"temperature"}},{{"v":{humidity:.1},"u":"per","n":"humidity"}},{{"v":{light:.0},"u":"per","n":"light"}},{{"v":{dust:.2},"u":"per","n":"dust"}},{{"v":{air:.0},"u":"per","n":"airquality_raw"}}],"bt":{millis}}}"#
            );
        });
    }
}

/// The table of sensors: one in ten is not in it.
pub(crate) fn known() -> String {
    let mut lines = String::new();
    for sensor in (0..100_000).filter(|sensor| sensor % 10 != 9) {
        let _ = writeln!(
            lines,
            r#"{{"sensor":"ci4{sensor:020}","site":"district {}","kind":"outdoor"}}"#,
            sensor % 55
        );
    }
    lines
}

/// A pipeline over the table `city`.
pub(crate) fn pipeline(script: &str) -> String {
    let declared = "CREATE TABLE city (e ARRAY<ROW<sv STRING, v DOUBLE>>, bt TIMESTAMP(3), \
         WATERMARK FOR bt AS bt - INTERVAL '1' SECOND) \
         WITH ('connector' = 'filesystem', 'path' = 'city', 'json.timestamp-format.standard' = 'epoch-millis');\n";
    declared.to_owned() + script
}

const fn one(name: &'static str, what: &'static str, script: &'static str) -> Workload {
    Workload {
        name,
        what,
        floor: "scan",
        check: Check::SomeRows,
        input: Input::City(City { sensors: 1_000 }),
        warm_seconds: 20,
        seconds: 60,
        counted_devices: 200,
        memory_devices: 5_000,
        query: Query::Script(script),
    }
}

/// Its dataflows.
pub(crate) const WORKLOADS: &[Workload] = &[
    one(
        "riot-etl",
        "RIoTBench: parse SenML, filter by range and known sensors, interpolate, annotate",
        "CREATE TABLE known (sensor STRING, site STRING, kind STRING) WITH ('connector' = 'filesystem', 'path' = 'known');
         CREATE TABLE o (sensor STRING, at TIMESTAMP(3), site STRING, kind STRING, lon DOUBLE, lat DOUBLE, temperature DOUBLE,
           humidity DOUBLE, light DOUBLE, dust DOUBLE, air DOUBLE) WITH ('connector' = 'print');
         CREATE VIEW ranged AS SELECT e[1].sv AS sensor, bt, e[2].v AS lon, e[3].v AS lat,
           CASE WHEN e[4].v BETWEEN -12.5 AND 43.1 THEN e[4].v END AS temperature,
           CASE WHEN e[5].v BETWEEN 10.7 AND 95.2 THEN e[5].v END AS humidity,
           CASE WHEN e[6].v BETWEEN 1345 AND 26282 THEN e[6].v END AS light,
           CASE WHEN e[7].v BETWEEN 186 AND 5600 THEN e[7].v END AS dust,
           CASE WHEN e[8].v BETWEEN 17 AND 363 THEN e[8].v END AS air FROM city;
         CREATE VIEW annotated AS SELECT r.sensor, r.bt, k.site, k.kind, r.lon, r.lat, r.temperature, r.humidity, r.light, r.dust,
           r.air FROM ranged AS r JOIN known FOR SYSTEM_TIME AS OF r.bt AS k ON r.sensor = k.sensor;
         INSERT INTO o SELECT sensor, bt, site, kind, lon, lat, COALESCE(temperature, AVG(temperature) OVER w),
           COALESCE(humidity, AVG(humidity) OVER w), COALESCE(light, AVG(light) OVER w), COALESCE(dust, AVG(dust) OVER w),
           COALESCE(air, AVG(air) OVER w)
         FROM annotated WINDOW w AS (PARTITION BY sensor ORDER BY bt ROWS BETWEEN 5 PRECEDING AND CURRENT ROW);",
    ),
    one(
        "riot-stats",
        "RIoTBench: average, second moment, distinct count, smoothing and sliding regression",
        "CREATE TABLE blocks (sensor STRING, until TIMESTAMP(3), mean DOUBLE, moment DOUBLE) WITH ('connector' = 'print');
         CREATE TABLE sensors (until TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
         CREATE TABLE trends (sensor STRING, at TIMESTAMP(3), smooth DOUBLE, slope DOUBLE) WITH ('connector' = 'print');
         CREATE VIEW readings AS SELECT e[1].sv AS sensor, bt, e[4].v AS temperature FROM city;
         INSERT INTO blocks SELECT sensor, window_end, AVG(temperature), VAR_POP(temperature)
         FROM COUNT_WINDOW(TABLE readings PARTITION BY sensor, DESCRIPTOR(bt), 10) GROUP BY sensor, window_start, window_end;
         INSERT INTO sensors SELECT window_end, APPROX_COUNT_DISTINCT(sensor)
         FROM TUMBLE(TABLE readings, DESCRIPTOR(bt), INTERVAL '1' MINUTE) GROUP BY window_start, window_end;
         INSERT INTO trends SELECT sensor, bt, c.ewma,
           REGR_SLOPE(c.ewma, bt) OVER (PARTITION BY sensor ORDER BY bt ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
         FROM (SELECT sensor, bt, EWMA_CHART(temperature) OVER (PARTITION BY sensor ORDER BY bt) AS c FROM readings);",
    ),
];
