//! The floor: loops written by hand for one message layout and one query, as short as safe Rust allows. They know every
//! field's name and place beforehand and check it all the same; a query engine cannot be faster, only close. They give the
//! rows that the engine gives, which is checked before anything is timed.

mod patterns;
mod read;
mod row;
mod rules;
mod windows;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::input::Batch;
use read::{Reading, readings};
use row::Row;

/// What is known of each device.
type Devices<T> = HashMap<Box<[u8]>, T, RandomState>;

/// A loop over messages.
pub(crate) trait Floor {
    /// Takes messages, and adds the rows they give: a line of JSON each.
    fn take(&mut self, batch: &Batch, rows: &mut String);

    /// The input has ended.
    fn finish(&mut self, _rows: &mut String) {}
}

/// Makes a loop.
type Make = fn() -> Box<dyn Floor>;

/// The loops, by name.
pub(crate) const FLOORS: &[(&str, Make)] = &[
    ("scan", || Box::new(Scan)),
    ("decode", || Box::new(Decode)),
    ("project", || Box::new(Project)),
    ("filter", || Box::new(Filter)),
    ("tumble", || Box::new(windows::Tumble::default())),
    ("hop", || Box::new(windows::Hop::default())),
    ("session", || Box::new(windows::Session::default())),
    ("lag", || Box::new(windows::Lag::default())),
    ("pattern2", || Box::new(patterns::TwoSteps::default())),
    ("pattern5", || Box::new(patterns::FiveSteps::default())),
    ("thresholds", || Box::new(rules::Thresholds::new())),
    ("rules", || Box::new(rules::Rules)),
];

/// The loop of that name.
pub(crate) fn floor(name: &str) -> Box<dyn Floor> {
    let found = FLOORS.iter().find(|(floor, _)| *floor == name);
    found
        .unwrap_or_else(|| panic!("no floor is named {name}"))
        .1()
}

/// The value of a device, made if it is new.
fn of<'a, T: Default>(devices: &'a mut Devices<T>, id: &[u8]) -> &'a mut T {
    if !devices.contains_key(id) {
        devices.insert(id.into(), T::default());
    }
    devices.get_mut(id).expect("it has just been looked for")
}

fn text(id: &[u8]) -> &str {
    std::str::from_utf8(id).unwrap_or_default()
}

/// Touches every byte.
struct Scan;

impl Floor for Scan {
    fn take(&mut self, batch: &Batch, _rows: &mut String) {
        let sums = batch.iter().map(|(_, message)| {
            let (words, rest) = message.as_chunks::<8>();
            let words = words.iter().map(|word| u64::from_le_bytes(*word));
            let rest = rest.iter().map(|byte| u64::from(*byte));
            words.chain(rest).fold(0, u64::wrapping_add)
        });
        std::hint::black_box(sums.fold(0, u64::wrapping_add));
    }
}

/// Reads five fields.
struct Decode;

impl Floor for Decode {
    fn take(&mut self, batch: &Batch, _rows: &mut String) {
        for reading in readings(batch) {
            std::hint::black_box(reading);
        }
    }
}

/// Reads five fields, and writes them.
struct Project;

impl Floor for Project {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            let Reading {
                id,
                millis,
                temperature,
                vibration,
                rpm,
            } = reading;
            let mut row = Row::new(rows, "{\"id\":\"", text(id));
            row.integer("\",\"ts\":", millis);
            row.number(",\"temp\":", temperature);
            row.number(",\"vib\":", vibration);
            row.integer(",\"rpm\":", rpm);
            row.end();
        }
    }
}

struct Filter;

impl Floor for Filter {
    fn take(&mut self, batch: &Batch, rows: &mut String) {
        for reading in readings(batch) {
            if reading.temperature > 55.0 {
                let mut row = Row::new(rows, "{\"id\":\"", text(reading.id));
                row.integer("\",\"ts\":", reading.millis);
                row.number(",\"fahrenheit\":", reading.temperature * 1.8 + 32.0);
                row.end();
            }
        }
    }
}
