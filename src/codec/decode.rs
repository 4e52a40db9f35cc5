//! A message to rows.

use compact_str::CompactString;

use super::json::JsonShape;
use super::layout::Layouts;
use super::scalar::parse_scalar;
use super::{CodecError, CsvFormat, Format, Metadata, TimestampFormat};
use crate::types::{EventTime, Row, Type, Value};

/// A message as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// 0 or 1.
    pub qos: u8,
    /// Whether the broker sent it as a retained message.
    pub retain: bool,
    /// When it was received.
    pub received: EventTime,
}

/// A column that a message fills.
#[derive(Clone, Debug, PartialEq)]
pub struct InputColumn {
    /// Its name, for messages.
    pub name: CompactString,
    /// Its type.
    pub ty: Type,
    /// False for NOT NULL.
    pub nullable: bool,
    /// Where its value comes from.
    pub origin: Origin,
}

/// Where the value of an [`InputColumn`] comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The payload: for JSON the keys to follow from the root, outermost first; for text the whole payload.
    Payload {
        /// Object keys, outermost first.
        path: Vec<String>,
    },
    /// What travels with a message.
    Metadata(Metadata),
    /// Filled by somebody else; stays NULL here.
    Elsewhere,
}

/// Turns messages of one source into rows. Compiled once.
#[derive(Debug)]
pub struct Decoder {
    columns: Vec<InputColumn>,
    metadata: Vec<(usize, Metadata)>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Json(JsonShape, Layouts),
    Text { slots: Vec<usize> },
    Csv(CsvFormat, Vec<usize>),
}

impl Decoder {
    /// A decoder for rows of `columns`.
    pub fn new(format: &Format, columns: Vec<InputColumn>) -> Self {
        let metadata = columns
            .iter()
            .enumerate()
            .filter_map(|(slot, column)| match column.origin {
                Origin::Metadata(metadata) => Some((slot, metadata)),
                _ => None,
            })
            .collect();
        let paths = columns
            .iter()
            .enumerate()
            .filter_map(|(slot, c)| match &c.origin {
                Origin::Payload { path } => Some((slot, path.as_slice())),
                _ => None,
            });
        let kind = match format {
            Format::Json(options) => Kind::Json(JsonShape::new(options, paths), Layouts::default()),
            Format::Csv(options) => {
                Kind::Csv(options.clone(), paths.map(|(slot, _)| slot).collect())
            }
            Format::Text => Kind::Text {
                slots: paths.map(|(slot, _)| slot).collect(),
            },
        };
        Self {
            columns,
            metadata,
            kind,
        }
    }

    /// The rows of `message`, in order.
    pub fn decode(&mut self, message: &Message<'_>) -> Result<Vec<Row>, CodecError> {
        let mut rows = Vec::new();
        let count = self.decode_into(message, &mut rows)?;
        rows.truncate(count);
        Ok(rows)
    }

    /// Writes the rows of `message` into the first of `rows`, whose memory is used again, and gives how many there are.
    /// What the others hold, and all if there is an error, means nothing.
    #[inline]
    pub fn decode_into(
        &mut self,
        message: &Message<'_>,
        rows: &mut Vec<Row>,
    ) -> Result<usize, CodecError> {
        let count = match &mut self.kind {
            Kind::Json(shape, layouts) => {
                if message.payload.is_empty() {
                    return Err(CodecError::EmptyPayload);
                }
                shape.decode(message.payload, layouts, &self.columns, rows)?
            }
            Kind::Csv(..) | Kind::Text { .. } => self.decode_text(message.payload, rows)?,
        };
        if !self.metadata.is_empty() {
            self.fill_metadata(message, &mut rows[..count]);
        }
        Ok(count)
    }

    fn fill_metadata(&self, message: &Message<'_>, rows: &mut [Row]) {
        for row in rows {
            for &(slot, metadata) in &self.metadata {
                row[slot] = metadata_value(metadata, message);
            }
        }
    }

    fn decode_text(&self, payload: &[u8], rows: &mut Vec<Row>) -> Result<usize, CodecError> {
        let text = utf8(payload)?;
        match &self.kind {
            Kind::Csv(options, slots) => {
                super::csv::decode(text, options, &self.columns, slots, rows)
            }
            Kind::Text { slots } => {
                let row = cleared_row(rows, 0, self.columns.len());
                for &slot in slots {
                    row[slot] = text_value(text, &self.columns[slot])?;
                }
                Ok(1)
            }
            Kind::Json(..) => unreachable!("a document is decoded by its shape"),
        }
    }
}

/// The payload as text.
pub(super) fn utf8(payload: &[u8]) -> Result<&str, CodecError> {
    std::str::from_utf8(payload).map_err(|error| CodecError::InvalidUtf8 {
        at: error.valid_up_to(),
    })
}

/// The row buffer `index`, with whatever it held, made if there is none yet.
#[inline]
pub(super) fn row_of(rows: &mut Vec<Row>, index: usize, width: usize) -> &mut Row {
    if rows.len() <= index {
        rows.resize_with(index + 1, Vec::new);
    }
    let row = &mut rows[index];
    if row.len() != width {
        row.resize(width, Value::Null);
    }
    row
}

/// The row buffer `index`, all NULL.
pub(super) fn cleared_row(rows: &mut Vec<Row>, index: usize, width: usize) -> &mut Row {
    let row = row_of(rows, index, width);
    row.fill(Value::Null);
    row
}

fn text_value(text: &str, column: &InputColumn) -> Result<Value, CodecError> {
    if text.trim().is_empty() && column.ty != Type::String && column.ty != Type::Bytes {
        return Err(CodecError::EmptyPayload);
    }
    parse_scalar(text, &column.ty, &TimestampFormat::Iso8601)
        .ok_or_else(|| wrong_type(column, text))
}

/// The error for `found`, of which only the start is kept: a payload may be a megabyte.
pub(super) fn wrong_type(column: &InputColumn, found: &str) -> CodecError {
    let mut shown: String = found.chars().take(40).collect();
    if shown.len() < found.len() {
        shown.push('…');
    }
    CodecError::WrongType {
        column: column.name.clone(),
        ty: column.ty.to_string(),
        found: shown,
    }
}

fn metadata_value(metadata: Metadata, message: &Message<'_>) -> Value {
    match metadata {
        Metadata::Topic => Value::str(message.topic),
        Metadata::TopicLevel(level) => message
            .topic
            .split('/')
            .nth(level)
            .map_or(Value::Null, Value::str),
        Metadata::Qos => Value::Int(i64::from(message.qos)),
        Metadata::Retain => Value::Bool(message.retain),
        Metadata::Timestamp => Value::Timestamp(message.received.as_millis().saturating_mul(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::JsonFormat;

    fn column(name: &str, ty: Type, path: &[&str]) -> InputColumn {
        let path = path.iter().map(ToString::to_string).collect();
        InputColumn {
            name: name.into(),
            ty,
            nullable: true,
            origin: Origin::Payload { path },
        }
    }

    fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
        Message {
            topic,
            payload,
            qos: 1,
            retain: false,
            received: EventTime::from_micros(1_234_567),
        }
    }

    fn json() -> Format {
        Format::Json(JsonFormat {
            timestamp: TimestampFormat::EpochSeconds,
            ignore_parse_errors: false,
            fail_on_missing_field: false,
            id_field: None,
        })
    }

    #[test]
    fn topic_levels_keep_empty_levels() {
        let metadata = |name: &str, metadata| InputColumn {
            name: name.into(),
            ty: Type::String,
            nullable: true,
            origin: Origin::Metadata(metadata),
        };
        let columns = vec![
            column("temperature", Type::Double, &["temperature"]),
            metadata("empty", Metadata::TopicLevel(3)),
            metadata("kind", Metadata::TopicLevel(5)),
            metadata("beyond", Metadata::TopicLevel(9)),
            metadata("at", Metadata::Timestamp),
        ];
        let mut decoder = Decoder::new(&json(), columns);
        let message = message(
            "te/device/main///m/environment",
            br#"{"temperature": 22.4}"#,
        );
        let rows = decoder.decode(&message).unwrap();
        assert_eq!(
            rows[0],
            [
                Value::Double(22.4),
                Value::str(""),
                Value::str("m"),
                Value::Null,
                Value::Timestamp(1_234_000)
            ]
        );
    }

    #[test]
    fn nested_paths_with_awkward_keys() {
        let columns = vec![
            column("ts", Type::TimestampLtz { precision: 3 }, &["params", "ts"]),
            column("output", Type::Boolean, &["params", "switch:0", "output"]),
            column("all", Type::String, &["params", "switch:0"]),
            column("absent", Type::Int, &["params", "ts", "deeper"]),
        ];
        let mut decoder = Decoder::new(&json(), columns);
        let payload =
            br#"{"src":"x","params":{"ts":1631186545.04,"switch:0":{"id":0,"output":true}}}"#;
        assert_eq!(
            decoder.decode(&message("t", payload)).unwrap()[0],
            [
                Value::Timestamp(1_631_186_545_040_000),
                Value::Bool(true),
                Value::str(r#"{"id":0,"output":true}"#),
                Value::Null
            ]
        );
    }

    #[test]
    fn a_root_array_is_many_rows_or_none() {
        let mut decoder = Decoder::new(&json(), vec![column("v", Type::Int, &["v"])]);
        let rows = decoder
            .decode(&message("t", br#"[{"v":1},{"v":"2"},{}]"#))
            .unwrap();
        assert_eq!(rows, [[Value::Int(1)], [Value::Int(2)], [Value::Null]]);
        let error = decoder
            .decode(&message("t", br#"[{"v":1},{"v":"x"}]"#))
            .unwrap_err();
        assert_eq!(error.to_string(), "field `v` is not a INT: \"x\"");
        assert_eq!(decoder.decode(&message("t", b"[]")).unwrap().len(), 0);
    }

    #[test]
    fn hostile_payloads_are_errors() {
        let deep = "[".repeat(10_000);
        let deep_field = format!(r#"{{"v":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        let mut decoder = Decoder::new(&json(), vec![column("v", Type::Double, &["v"])]);
        for (payload, reason) in [
            (&b""[..], "empty_payload"),
            (b"\xff\xfe", "invalid_utf8"),
            (b"nan", "invalid_json"),
            (b"{\"v\":NaN}", "invalid_json"),
            (b"{\"v\":1} trailing", "invalid_json"),
            (b"{\"v\":\"NaN\"}", "wrong_type"),
            (b"{\"v\":1e999}", "wrong_type"),
            (b"7", "invalid_json"),
            (deep.as_bytes(), "invalid_json"),
            (deep_field.as_bytes(), "wrong_type"),
        ] {
            let error = decoder.decode(&message("t", payload)).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
        }
    }

    #[test]
    fn text_is_one_scalar() {
        let mut decoder = Decoder::new(&Format::Text, vec![column("v", Type::Double, &[])]);
        assert_eq!(
            decoder.decode(&message("t", b"290.00")).unwrap()[0],
            [Value::Double(290.0)]
        );
        for (payload, reason) in [
            (&b"nan"[..], "wrong_type"),
            (b"", "empty_payload"),
            (b"unavailable", "wrong_type"),
        ] {
            assert_eq!(
                decoder.decode(&message("t", payload)).unwrap_err().reason(),
                reason
            );
        }
    }

    #[test]
    fn what_is_nested_is_of_its_type_or_null_or_the_message_is_wrong() {
        let fields = [("a", Type::Int), ("b", Type::Array(Type::Int.into()))].map(|(name, ty)| {
            crate::types::Field {
                name: name.into(),
                ty,
            }
        });
        let element = Type::Row(fields.into());
        let columns = vec![
            column("list", Type::Array(element.clone().into()), &["list"]),
            column("map", Type::Map(Type::Int.into(), element.into()), &["map"]),
        ];
        let mut decoder = Decoder::new(&json(), columns);
        let mut decoded = |payload: &str| {
            let rows = decoder.decode(&message("t", payload.as_bytes()));
            rows.map(|rows| rows[0].clone())
                .map_err(|error| error.reason())
        };
        let row =
            |a: Option<i64>, b: Value| Value::Row([a.map_or(Value::Null, Value::Int), b].into());
        let list = Value::Array([Value::Int(1), Value::Null].into());
        let expected = [
            row(Some(5), list.clone()),
            Value::Null,
            row(None, Value::Null),
        ];
        assert_eq!(
            decoded(r#"{"list":[{"b":[1,null],"other":{"a":7},"a":"5"},null,{}]}"#).unwrap(),
            [Value::Array(expected.into()), Value::Null]
        );
        let expected = [
            (Value::Int(7), row(Some(2), list)),
            (Value::Int(-1), Value::Null),
        ];
        assert_eq!(
            decoded(r#"{"list":null,"map":{"7":{"\u0061":1,"a":2,"b":[1,null]},"-1":null}}"#)
                .unwrap(),
            [Value::Null, Value::Map(expected.into())]
        );
        for nested in [
            r#""list":{"a":1}"#,
            r#""list":[7]"#,
            r#""list":[{"a":[]}]"#,
            r#""list":[{"b":{}}]"#,
            r#""list":[{"b":7}]"#,
            r#""list":[{"b":[true]}]"#,
            r#""map":[]"#,
            r#""map":{"x":null}"#,
        ] {
            assert_eq!(
                decoded(&format!("{{{nested}}}")),
                Err("wrong_type"),
                "{nested}"
            );
        }
        assert_eq!(decoded(r#"{"list":[{"a":1,}]}"#), Err("invalid_json"));
    }

    #[test]
    fn composite_types_and_exact_integers() {
        let reading = Type::Row(
            [("name", Type::String), ("value", Type::BigInt)]
                .map(|(name, ty)| crate::types::Field {
                    name: name.into(),
                    ty,
                })
                .into(),
        );
        let columns = vec![column("tags", Type::Array(reading.into()), &["tags"])];
        let mut decoder = Decoder::new(&json(), columns);
        let payload =
            br#"{"tags":[{"value":9007199254740993,"name":"a\n"},{"name":"b","error":7}]}"#;
        let rows = decoder.decode(&message("t", payload)).unwrap();
        let row = |name: &str, value| Value::Row([Value::str(name), value].into());
        let expected = [
            row("a\n", Value::Int(9_007_199_254_740_993)),
            row("b", Value::Null),
        ];
        assert_eq!(rows[0], [Value::Array(expected.into())]);
    }
}
