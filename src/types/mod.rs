//! Floor 0: the nouns every other room speaks in: types, values, rows, schemas, event time and ids.
//!
//! Invariants: nothing here knows how a value is parsed, stored or sent; nothing here reads a clock.

mod id;
mod schema;
mod time;
mod value;

pub use id::{Fingerprint, Lineage};
pub use schema::{Column, Schema};
pub use time::{EventTime, Progress, Timeline, Timespan};
pub use value::{Field, Row, Type, Value};
