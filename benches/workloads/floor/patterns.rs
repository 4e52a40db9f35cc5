//! Automata for two row patterns. In both each step is the very next reading of the device, so what is known of a device is
//! a bit for each step that has been reached.

use super::{Batch, Devices, Floor, Row, of, readings, text};

fn write(id: &[u8], first: i64, last: i64, rows: &mut String) {
    let mut row = Row::new(rows, "{\"id\":\"", text(id));
    row.integer("\",\"first\":", first);
    row.integer(",\"last\":", last);
    row.end();
}

/// `A B` within a minute: `vib > 7`, then `temp > 50`.
#[derive(Default)]
pub(super) struct TwoSteps {
    /// When the first step was, where it was the last reading.
    devices: Devices<Option<i64>>,
}

impl Floor for TwoSteps {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let step = of(&mut self.devices, reading.id);
            match step.take() {
                Some(first) if reading.temperature > 50.0 && reading.millis - first < 60_000 => {
                    write(reading.id, first, reading.millis, rows);
                }
                _ => *step = (reading.vibration > 7.0).then_some(reading.millis),
            }
        }
    }
}

/// `A B C D E` within five minutes: any, three times `vib` above that before, then `temp > 30`.
#[derive(Default)]
pub(super) struct FiveSteps {
    devices: Devices<Five>,
}

#[derive(Default)]
struct Five {
    /// Bit n: a match has begun n readings before the last one.
    begun: u8,
    vibration: f64,
    /// The times of the last four readings.
    times: [i64; 4],
}

impl Floor for FiveSteps {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let five = of(&mut self.devices, reading.id);
            let first = five.times[0];
            let ends = five.begun & 0b1000 != 0
                && reading.temperature > 30.0
                && reading.millis - first < 300_000;
            if ends {
                write(reading.id, first, reading.millis, rows);
                five.begun = 0;
            } else {
                let rises = reading.vibration > five.vibration;
                five.begun = if rises { five.begun << 1 & 0b1110 } else { 0 } | 1;
            }
            five.vibration = reading.vibration;
            five.times.rotate_left(1);
            five.times[3] = reading.millis;
        }
    }
}
