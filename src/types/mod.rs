//! Floor 0: the nouns every other room speaks in: types, values, rows, schemas, event time and ids; the calendar,
//! the text of intervals, and short texts out of bytes, which expressions, payloads and state share.
//!
//! Invariants: nothing here knows how a payload is parsed, stored or sent; nothing here reads a clock.

pub mod calendar;
mod id;
pub mod interval;
mod schema;
mod text;
mod time;
mod value;

pub use id::{Fingerprint, Lineage};
pub use schema::{Column, Schema};
pub use text::{SHORT_TEXT, ShortText, text_of};
pub use time::{EventTime, Progress, Timeline, Timespan};
pub use value::{Field, Row, Type, Value};
