//! Any bytes as a payload, JSON or text, for columns of every kind: rows or an error, never a panic; and what was
//! decoded can be encoded.
#![no_main]

use headwater::codec::{
    Decoder, Format, InputColumn, JsonEncoder, JsonFormat, Message, Metadata, Origin, TimestampFormat,
};
use headwater::types::{Column, EventTime, Field, Schema, Type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, payload) = input;
    let timestamp = match choice % 6 {
        0 => TimestampFormat::Sql,
        1 => TimestampFormat::Iso8601,
        2 => TimestampFormat::EpochSeconds,
        3 => TimestampFormat::EpochNanos,
        4 => TimestampFormat::Pattern("%Y-%m-%d %H:%M:%S%.f %z".to_owned()),
        _ => TimestampFormat::EpochMillis,
    };
    let reading = Type::Row(
        [("n", Type::String), ("v", Type::Double)]
            .map(|(name, ty)| Field { name: name.into(), ty })
            .into(),
    );
    let types = [
        ("a", Type::BigInt),
        ("b", Type::Double),
        ("c", Type::Decimal { precision: 10, scale: 2 }),
        ("d", Type::String),
        ("e", Type::Timestamp { precision: 3 }),
        ("f", Type::TimestampLtz { precision: 3 }),
        ("g", Type::Boolean),
        ("h", Type::Array(reading.into())),
        ("i", Type::Map(Type::String.into(), Type::Int.into())),
        ("j", Type::Date),
        ("k", Type::Time { precision: 3 }),
    ];
    let json = choice & 64 == 0;
    let types = if json { &types[..] } else { &types[usize::from(choice) % types.len()..][..1] };
    let columns: Vec<InputColumn> = types
        .iter()
        .map(|(name, ty)| InputColumn {
            name: (*name).into(),
            ty: ty.clone(),
            nullable: choice & 128 == 0,
            origin: Origin::Payload { path: if json { vec![(*name).to_owned()] } else { vec![] } },
        })
        .chain([InputColumn {
            name: "level".into(),
            ty: Type::String,
            nullable: true,
            origin: Origin::Metadata(Metadata::TopicLevel(usize::from(choice))),
        }])
        .collect();
    let format = if json {
        Format::Json(JsonFormat {
            timestamp: timestamp.clone(),
            ignore_parse_errors: choice & 32 != 0,
            fail_on_missing_field: choice & 16 != 0,
            id_field: None,
        })
    } else {
        Format::Text
    };
    let schema = Schema::new(columns.iter().map(|c| Column::new(c.name.clone(), c.ty.clone())).collect());
    let mut decoder = Decoder::new(&format, columns);
    let message =
        Message { topic: "a/b//c", payload, qos: 1, retain: false, received: EventTime::from_micros(0) };
    let first = decoder.decode(&message);
    // Now the layout of the message is known, and is a guess at the next.
    let mut rows = first.clone().unwrap_or_default();
    let again = decoder.decode_into(&message, &mut rows).map(|count| &rows[..count]);
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    if let Ok(rows) = first {
        let mut encoder = JsonEncoder::new(&schema, &timestamp, Some("id"));
        for row in &rows {
            let mut text = String::new();
            encoder.encode(row, 0, &mut text);
        }
    }
});
