//! Floor 0: the nouns every other room speaks in: types, values, rows, schemas, event time and ids; the calendar and
//! the text of intervals, which expressions and payloads share.
//!
//! Invariants: nothing here knows how a payload is parsed, stored or sent; nothing here reads a clock.

pub mod calendar;
mod id;
pub mod interval;
mod schema;
mod time;
mod value;

pub use id::{Fingerprint, Lineage};
pub use schema::{Column, Schema};
pub use time::{EventTime, Progress, Timeline, Timespan};
pub use value::{Field, Row, Type, Value};
