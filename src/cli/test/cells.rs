//! Rows as a test file shows them.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values of a JSON line, in its order, names left out.
pub(super) fn cells(line: &str) -> Vec<String> {
    struct Cells(Vec<String>);
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Cells;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a row")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cells, A::Error> {
            let mut cells = Vec::new();
            while let Some((_, value)) = map.next_entry::<String, &'de RawValue>()? {
                cells.push(cell(value.get()));
            }
            Ok(Cells(cells))
        }
    }
    impl<'de> Deserialize<'de> for Cells {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_map(InOrder)
        }
    }
    let Cells(cells) = serde_json::from_str(line).expect("a row is written as a JSON object");
    cells
}

/// Text without quotes, unless that would hide something.
fn cell(json: &str) -> String {
    if json == "null" {
        return "NULL".to_owned();
    }
    let Ok(text) = serde_json::from_str::<String>(json) else {
        return json.to_owned();
    };
    let plain = text.trim() == text
        && text != "NULL"
        && !text.contains("  ")
        && !text.contains(char::is_control);
    match text.as_str() {
        "" => "(empty)".to_owned(),
        _ if plain => text,
        _ => json.to_owned(),
    }
}
