//! COUNT, AVG and MAX per device over windows, and the step from the reading before.

use std::collections::VecDeque;

use super::{Batch, Devices, Floor, Row, of, readings, text};

/// Count, sum and maximum.
#[derive(Clone, Copy, Debug, Default)]
struct Aggregates {
    count: u64,
    sum: f64,
    greatest: f64,
}

impl Aggregates {
    fn add(&mut self, temperature: f64, vibration: f64) {
        self.merge(Self {
            count: 1,
            sum: temperature,
            greatest: vibration,
        });
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        // All that is measured is above zero.
        self.greatest = self.greatest.max(other.greatest);
    }

    fn write(self, id: &[u8], end_millis: i64, rows: &mut String) {
        let mut row = Row::new(rows, "{\"id\":\"", text(id));
        row.integer("\",\"window_end\":", end_millis);
        row.integer(",\"n\":", self.count as i64);
        row.number(",\"mean\":", self.sum / self.count as f64);
        row.number(",\"greatest\":", self.greatest);
        row.end();
    }
}

/// One minute after the other; a row per device when the next minute begins.
#[derive(Default)]
pub(super) struct Tumble {
    devices: Devices<Aggregates>,
    minute: i64,
}

impl Floor for Tumble {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let minute = reading.millis / 60_000;
            if minute != self.minute {
                self.finish(rows);
                self.minute = minute;
            }
            of(&mut self.devices, reading.id).add(reading.temperature, reading.vibration);
        }
    }

    fn finish(&mut self, rows: &mut String) {
        for (id, aggregates) in self.devices.drain() {
            aggregates.write(&id, (self.minute + 1) * 60_000, rows);
        }
    }
}

/// Panes of a second in two stacks: what goes leaves the front, in which each pane holds all that came after it; what comes
/// is added to the back and to one sum over it. When the front is empty the back is turned over.
#[derive(Default)]
struct Panes {
    front: Vec<(i64, Aggregates)>,
    back: Vec<(i64, Aggregates)>,
    sum: Aggregates,
}

impl Panes {
    fn add(&mut self, second: i64, temperature: f64, vibration: f64) {
        self.sum.add(temperature, vibration);
        match self.back.last_mut() {
            Some((last, pane)) if *last == second => pane.add(temperature, vibration),
            _ => {
                let mut pane = Aggregates::default();
                pane.add(temperature, vibration);
                self.back.push((second, pane));
            }
        }
    }

    /// All from second `first` on.
    fn since(&mut self, first: i64) -> Aggregates {
        while self.front.pop_if(|(second, _)| *second < first).is_some() {}
        if self.front.is_empty() && self.back.first().is_some_and(|(s, _)| *s < first) {
            let mut sum = Aggregates::default();
            for (second, pane) in self.back.drain(..).rev() {
                if second < first {
                    continue;
                }
                sum.merge(pane);
                self.front.push((second, sum));
            }
            self.sum = Aggregates::default();
        }
        let mut all = self.sum;
        if let Some((_, front)) = self.front.last() {
            all.merge(*front);
        }
        all
    }
}

/// Windows of 60 seconds, one every second.
#[derive(Default)]
pub(super) struct Hop {
    devices: Devices<Panes>,
    second: i64,
}

impl Hop {
    /// Gives the windows that end with the present second, and goes on to the next.
    fn close(&mut self, rows: &mut String) {
        let second = self.second;
        self.devices.retain(|id, panes| {
            let all = panes.since(second - 59);
            if all.count > 0 {
                all.write(id, (second + 1) * 1_000, rows);
            }
            all.count > 0
        });
        self.second += 1;
    }
}

impl Floor for Hop {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let second = reading.millis / 1_000;
            while self.second < second && !self.devices.is_empty() {
                self.close(rows);
            }
            self.second = second;
            of(&mut self.devices, reading.id).add(second, reading.temperature, reading.vibration);
        }
    }

    fn finish(&mut self, rows: &mut String) {
        while !self.devices.is_empty() {
            self.close(rows);
        }
    }
}

/// Readings within 15 seconds of each other.
const GAP_MILLIS: i64 = 15_000;

#[derive(Default)]
pub(super) struct Session {
    devices: Devices<(i64, Aggregates)>,
    /// Each reading's time and device: one that is still its device's last when the gap has passed ends a session.
    ends: VecDeque<(i64, Box<[u8]>)>,
}

impl Session {
    /// Closes the sessions whose last reading was before `first`.
    fn close(&mut self, first: i64, rows: &mut String) {
        while self.ends.front().is_some_and(|(millis, _)| *millis < first)
            && let Some((millis, id)) = self.ends.pop_front()
        {
            if self
                .devices
                .get(&id)
                .is_some_and(|(last, _)| *last == millis)
                && let Some((last, aggregates)) = self.devices.remove(&id)
            {
                aggregates.write(&id, last + GAP_MILLIS, rows);
            }
        }
    }
}

impl Floor for Session {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            self.close(reading.millis - GAP_MILLIS, rows);
            let (last, aggregates) = of(&mut self.devices, reading.id);
            *last = reading.millis;
            aggregates.add(reading.temperature, reading.vibration);
            self.ends.push_back((reading.millis, reading.id.into()));
        }
    }

    fn finish(&mut self, rows: &mut String) {
        self.close(i64::MAX, rows);
    }
}

/// The step from the reading before, where it is above 35.
#[derive(Default)]
pub(super) struct Lag {
    devices: Devices<Option<f64>>,
}

impl Floor for Lag {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let last = of(&mut self.devices, reading.id).replace(reading.temperature);
            let step = last.map_or(0.0, |last| reading.temperature - last);
            if step > 35.0 {
                let mut row = Row::new(rows, "{\"id\":\"", text(reading.id));
                row.integer("\",\"ts\":", reading.millis);
                row.number(",\"step\":", step);
                row.end();
            }
        }
    }
}
