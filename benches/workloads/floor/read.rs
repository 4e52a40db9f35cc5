//! Five fields out of a message whose layout is known: no tokens, no numbers beyond what the messages have.

use super::Batch;

/// The five fields that are read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) id: &'a [u8],
    pub(super) millis: i64,
    pub(super) temperature: f64,
    pub(super) vibration: f64,
    pub(super) rpm: i64,
}

/// What the messages of a batch say. One of another layout would be a row less than the engine gives.
pub(super) fn readings(batch: &Batch) -> impl Iterator<Item = Reading<'_>> {
    batch.iter().filter_map(|(_, message)| read(message))
}

/// A place in a message.
struct At<'a>(&'a [u8]);

impl<'a> At<'a> {
    fn literal<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        let (found, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        (found == text).then_some(())
    }

    fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let at = self.0.iter().position(|byte| *byte == end)?;
        let (found, rest) = self.0.split_at(at);
        self.0 = rest;
        Some(found)
    }

    /// Adds digits to `sum`, and says how many there were.
    fn digits(&mut self, sum: &mut i64) -> usize {
        let mut count = 0;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            *sum = sum.wrapping_mul(10) + i64::from(digit - b'0');
            self.0 = rest;
            count += 1;
        }
        count
    }

    fn integer(&mut self) -> Option<i64> {
        let mut sum = 0;
        let count = self.digits(&mut sum);
        (count > 0 && count < 19).then_some(sum)
    }

    /// A number of up to fifteen digits with a point: both parts of the division are exact, so it is rounded once.
    fn number(&mut self) -> Option<f64> {
        const TENS: [f64; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
        let mut sum = 0;
        let before = self.digits(&mut sum);
        self.literal(b".")?;
        let after = self.digits(&mut sum);
        let scale = TENS.get(after)?;
        (before > 0 && before < 9 && after > 0).then(|| sum as f64 / scale)
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
    (at.0 == b"}").then_some(Reading {
        id,
        millis,
        temperature,
        vibration,
        rpm,
    })
}
