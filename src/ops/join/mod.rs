//! Joins of streams. Each is bounded by time: what can find no partner any more is dropped, and for an outer join given
//! out with NULLs.

mod interval;
mod lookup;
mod temporal;

pub use interval::IntervalJoin;
pub use lookup::LookupJoin;
pub use temporal::TemporalJoin;

use super::Discard;
use super::keyed::key_text;
use crate::types::{EventTime, Timespan, Value};

/// Rows of one key that one side of a join may hold. What comes beyond it is discarded and counted.
pub(crate) const MAX_ROWS: usize = 10_000;

/// The event time of a row.
fn time_of(row: &[Value], column: usize, shift: Timespan) -> Result<EventTime, Discard> {
    match row[column] {
        Value::Timestamp(micros) => Ok(EventTime::from_micros(micros).plus(shift)),
        _ => Err(Discard {
            reason: "null_time",
            detail: "the event time is NULL, so the row cannot be joined by time".to_owned(),
        }),
    }
}

fn max_keys_reached(key: &[u8], keys: usize) -> Discard {
    let detail = format!(
        "key {} is new and limits.max_keys = {keys} keys have rows that wait for a partner",
        key_text(key)
    );
    Discard {
        reason: "max_keys",
        detail,
    }
}

fn too_many_rows(key: &[u8]) -> Discard {
    let detail = format!(
        "key {} has {MAX_ROWS} rows that wait for a partner; narrow the time bounds of the join, or join by more columns",
        key_text(key)
    );
    Discard {
        reason: "join_limit",
        detail,
    }
}
