//! Floor 1: payload bytes to rows and rows to payload bytes.
//!
//! Decoding is by projection: only the fields that some column reads are parsed, the rest is skipped. A message
//! becomes rows as a whole or not at all: one bad field of one reading rejects the message, which then is a dead
//! letter with its bytes, so that nothing of it is lost or counted twice when it is sent through again.
//!
//! Not here: what happens to a message that is rejected (the engine), what an expression makes of a column.

mod csv;
mod decode;
mod encode;
mod json;
mod layout;
mod scalar;
mod timestamp;

pub use csv::encode_csv;
pub use decode::{Decoder, InputColumn, Message, Origin};
pub use encode::{JsonEncoder, encode_text};
pub use timestamp::{format_timestamp, parse_timestamp};

use compact_str::CompactString;

/// How payload bytes and columns relate.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// A JSON object, or for a source an array of objects (one row each).
    Json(JsonFormat),
    /// The payload is one scalar as text, for the table's only physical column.
    Text,
    /// Records of fields in the order of the physical columns.
    Csv(CsvFormat),
}

/// Options of the CSV format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    /// What stands between fields: one ASCII character.
    pub delimiter: u8,
    /// How TIMESTAMP columns are spelt.
    pub timestamp: TimestampFormat,
}

/// Options of the JSON format.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonFormat {
    /// How TIMESTAMP columns are spelt.
    pub timestamp: TimestampFormat,
    /// Whether a field of the wrong type makes NULL (true) or a dead letter (false).
    pub ignore_parse_errors: bool,
    /// Whether a field that is absent makes the message a dead letter; if not it is NULL.
    pub fail_on_missing_field: bool,
    /// For a sink: the name of a field that carries the event's id, or none.
    pub id_field: Option<CompactString>,
}

/// How a TIMESTAMP is spelt in JSON or text. A number is accepted under the epoch formats alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Flink's `SQL`: `2024-01-02 03:04:05.678`, for `TIMESTAMP_LTZ` with a `Z`.
    Sql,
    /// Flink's `ISO-8601`: `2024-01-02T03:04:05.678`, zone or offset accepted.
    Iso8601,
    /// A number of seconds since 1970, fractions allowed.
    EpochSeconds,
    /// A number of milliseconds since 1970.
    EpochMillis,
    /// A number of microseconds since 1970.
    EpochMicros,
    /// A number of nanoseconds since 1970.
    EpochNanos,
    /// A pattern of `strftime` directives.
    Pattern(String),
}

/// What travels with a message beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// The topic, STRING.
    Topic,
    /// The n-th level of the topic from 0, STRING; NULL where the topic is shorter.
    TopicLevel(usize),
    /// 0 or 1, INT.
    Qos,
    /// Whether the broker sent it as a retained message, BOOLEAN.
    Retain,
    /// When Headwater received it, `TIMESTAMP_LTZ(3)`; in a replay the recorded time.
    Timestamp,
}

/// Why a payload could not become rows, or a row no payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all. On MQTT that deletes a retained message; it is not a reading.
    #[error("the payload is empty")]
    EmptyPayload,
    /// Not UTF-8.
    #[error("the payload is not valid UTF-8 at byte {at}")]
    InvalidUtf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// Not JSON, or not an object or array of objects.
    #[error("the payload is not the JSON expected: {detail}")]
    InvalidJson {
        /// What the parser says.
        detail: String,
    },
    /// Not CSV, or not with the table's columns.
    #[error("the payload is not the CSV expected: {detail}")]
    InvalidCsv {
        /// What is wrong.
        detail: String,
    },
    /// A field that the table requires is absent.
    #[error("field `{column}` is missing")]
    MissingField {
        /// The column.
        column: CompactString,
    },
    /// A NULL for a NOT NULL column.
    #[error("field `{column}` is null or missing, but the column is NOT NULL")]
    NullValue {
        /// The column.
        column: CompactString,
    },
    /// A field that is not of the column's type.
    #[error("field `{column}` is not a {ty}: {found}")]
    WrongType {
        /// The column.
        column: CompactString,
        /// The declared type.
        ty: String,
        /// The start of what was found.
        found: String,
    },
}

impl CodecError {
    /// The short name under which the discard is counted.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::EmptyPayload => "empty_payload",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::InvalidJson { .. } => "invalid_json",
            Self::InvalidCsv { .. } => "invalid_csv",
            Self::MissingField { .. } => "missing_field",
            Self::NullValue { .. } => "null_value",
            Self::WrongType { .. } => "wrong_type",
        }
    }
}
