//! A thousand rules: sorted thresholds, or the one rule of a device's group.

use super::{Batch, Floor, Reading, Row, readings, text};
use crate::queries::{RULES, group_threshold, threshold};

fn write(rule: u16, reading: &Reading<'_>, rows: &mut String) {
    let mut row = Row::new(rows, "{\"id\":\"", text(reading.id));
    row.integer("\",\"rule\":", i64::from(rule));
    row.integer(",\"ts\":", reading.millis);
    row.end();
}

pub(super) struct Thresholds {
    sorted: Vec<f64>,
}

impl Thresholds {
    pub(super) fn new() -> Self {
        Self {
            sorted: (0..RULES).map(threshold).collect(),
        }
    }
}

impl Floor for Thresholds {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let hold = self
                .sorted
                .partition_point(|least| reading.vibration > *least);
            for rule in 0..hold {
                write(rule as u16, &reading, rows);
            }
        }
    }
}

pub(super) struct Rules;

impl Floor for Rules {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            // pump-000RRRn is of group RRR.
            let group = reading
                .id
                .strip_prefix(b"pump-000")
                .and_then(|rest| rest.get(..3));
            let Some(rule) = group.and_then(|digits| text(digits).parse::<u16>().ok()) else {
                continue;
            };
            if reading.vibration > group_threshold(rule) {
                write(rule, &reading, rows);
            }
        }
    }
}
