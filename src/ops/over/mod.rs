//! OVER: functions over a row and the rows before it; the first row of each key; the first rows of each window.
//!
//! All three hold a row until the watermark has passed its time (a window's end, for its first rows), so that disorder
//! within the watermark's delay changes nothing. Rows of one key come out in the order of their time, those of one time
//! in the order in which they came, and keys that are due together in the order of their key's bytes.
//!
//! Deliberately absent: frames that end after the current row, and orders other than by event time: both would have
//! to take back rows that were given.

mod first;
mod frames;
mod layout;
mod partition;
mod rows;
mod top;

pub use first::Deduplicate;
pub use rows::Over;
pub use top::WindowTop;

use super::Discard;
use crate::types::{EventTime, Value};

/// Rows of one key that wait for the watermark.
const MAX_WAITING_ROWS: usize = 100_000;

/// The event time of a row, or why it has none.
fn time_of(row: &[Value], column: usize) -> Result<EventTime, Discard> {
    match row[column] {
        Value::Timestamp(micros) => Ok(EventTime::from_micros(micros)),
        _ => Err(Discard {
            reason: "null_time",
            detail: "the event time is NULL, so the row has no place in the order".to_owned(),
        }),
    }
}

/// What is said when there is no room for one more key.
fn no_room(key: &str, keys: usize) -> Discard {
    Discard {
        reason: "max_keys",
        detail: format!("key {key} is new and limits.max_keys = {keys} keys have state"),
    }
}
