//! The floor: loops written by hand for one message layout and one query, as short as safe Rust allows. They know every
//! field's name and place beforehand and check it all the same; a query engine cannot be faster, only close.

use std::fmt::Write as _;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::generator::Messages;

/// A loop over all messages; its result is only there to be computed.
pub(crate) type Floor = fn(&Messages) -> u64;

/// The loops, by name.
pub(crate) const FLOORS: &[(&str, Floor)] =
    &[("scan", scan), ("decode", decode), ("window", window)];

/// Touches every byte.
fn scan(messages: &Messages) -> u64 {
    let sums = messages.iter().map(|message| {
        let words = message.chunks(8);
        words.fold(0_u64, |sum, word| {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            sum.wrapping_add(u64::from_le_bytes(bytes))
        })
    });
    sums.fold(0, u64::wrapping_add)
}

/// The five fields that are read.
struct Reading<'a> {
    id: &'a [u8],
    millis: i64,
    temperature: f64,
    vibration: f64,
    rpm: i64,
}

/// A place in a message.
struct At<'a>(&'a [u8]);

impl<'a> At<'a> {
    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let at = self.0.iter().position(|byte| *byte == end)?;
        let (found, rest) = self.0.split_at(at);
        self.0 = rest;
        Some(found)
    }

    fn integer(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (found, rest) = self.0.split_at(digits);
        self.0 = rest;
        let digit = |sum: i64, b: &u8| sum * 10 + i64::from(b - b'0');
        (digits > 0 && digits < 19).then(|| found.iter().fold(0, digit))
    }

    /// A number of up to fifteen digits with a point.
    fn number(&mut self) -> Option<f64> {
        const TENS: [f64; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
        let whole = self.integer()?;
        self.literal(b".")?;
        let before = self.0.len();
        let fraction = self.integer()?;
        let scale = TENS.get(before - self.0.len())?;
        Some((whole as f64).mul_add(*scale, fraction as f64) / scale)
    }
}

fn read(message: &[u8]) -> Option<Reading<'_>> {
    let mut at = At(message);
    at.literal(b"{\"id\":\"")?;
    let id = at.until(b'"')?;
    at.literal(b"\",\"ts\":")?;
    let millis = at.integer()?;
    at.literal(b",\"temp\":")?;
    let temperature = at.number()?;
    at.literal(b",\"at\":\"")?;
    at.until(b'"')?;
    at.literal(b"\",\"vib\":")?;
    let vibration = at.number()?;
    at.literal(b",\"rpm\":")?;
    let rpm = at.integer()?;
    at.literal(b",\"vol\":")?;
    at.until(b',')?;
    at.literal(b",\"pa\":")?;
    at.until(b',')?;
    at.literal(b",\"st\":\"")?;
    at.until(b'"')?;
    at.literal(b"\",\"ok\":")?;
    at.until(b',')?;
    at.literal(b",\"fw\":\"")?;
    at.until(b'"')?;
    at.literal(b"\",\"seq\":")?;
    at.integer()?;
    at.literal(b"}")?;
    Some(Reading {
        id,
        millis,
        temperature,
        vibration,
        rpm,
    })
}

fn decode(messages: &Messages) -> u64 {
    let readings = messages.iter().filter_map(read);
    readings.fold(0, |sum, reading| {
        let Reading {
            id,
            millis,
            temperature,
            vibration,
            rpm,
        } = reading;
        let bits = temperature.to_bits() ^ vibration.to_bits();
        sum.wrapping_add(bits ^ (millis + rpm) as u64 ^ id.len() as u64)
    })
}

/// Count, sum and maximum by device.
type Windows = HashMap<Box<[u8]>, (u64, f64, f64), RandomState>;

/// COUNT, AVG and MAX per device and minute, given as JSON when the next minute begins.
fn window(messages: &Messages) -> u64 {
    let mut windows = Windows::default();
    let (mut minute, mut rows) = (0, 0);
    let mut text = String::new();
    for reading in messages.iter().filter_map(read) {
        let of = reading.millis / 60_000;
        if of != minute {
            rows += give(&mut windows, minute, &mut text);
            minute = of;
        }
        if let Some(window) = windows.get_mut(reading.id) {
            window.0 += 1;
            window.1 += reading.temperature;
            window.2 = window.2.max(reading.vibration);
        } else {
            let new = (1, reading.temperature, reading.vibration);
            windows.insert(reading.id.into(), new);
        }
    }
    rows + give(&mut windows, minute, &mut text)
}

fn give(windows: &mut Windows, minute: i64, text: &mut String) -> u64 {
    let rows = windows.len() as u64;
    text.clear();
    for (id, (count, sum, greatest)) in windows.drain() {
        let id = String::from_utf8_lossy(&id);
        let end = (minute + 1) * 60_000;
        let mean = sum / count as f64;
        let _ = writeln!(
            text,
            r#"{{"id":"{id}","window_end":{end},"n":{count},"mean":{mean},"greatest":{greatest}}}"#
        );
    }
    std::hint::black_box(&text);
    rows
}
