//! Messages that tell Home Assistant what a sink publishes: one, retained, before the first row of each topic.
//!
//! They are sent again after a start, with the same bytes and the same id, so that nothing has to be remembered and a
//! broker that has lost them gets them back.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use serde_json::{Map, Value as Json, json};

use super::OutboxRow;
use crate::plan::{Discovery, Entity, Sink};
use crate::types::{Fingerprint, Lineage, Type};

/// The topics of a sink that Home Assistant was told of since the start.
#[derive(Debug, Default)]
pub(super) struct Announced {
    topics: HashSet<u64, FixedState>,
    /// Whether there were more than may be remembered.
    full: bool,
}

/// Whether a topic is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    /// It is new.
    Due,
    /// It was told of.
    Known,
    /// It is the first for which there is no room.
    Refused,
}

impl Announced {
    /// Notes a topic; at most `most` are remembered.
    pub(super) fn note(&mut self, topic: &str, most: usize) -> Announcement {
        let hash = Fingerprint::of(topic).0;
        if self.topics.contains(&hash) {
            Announcement::Known
        } else if self.topics.len() < most {
            self.topics.insert(hash);
            Announcement::Due
        } else if std::mem::replace(&mut self.full, true) {
            Announcement::Known
        } else {
            Announcement::Refused
        }
    }
}

/// The message that tells of `topic`, on which the rows of `sink` are published.
pub(super) fn announcement(discovery: &Discovery, sink: &Sink, topic: &str, qos: u8) -> OutboxRow {
    let object = object_id(topic);
    let components = discovery.entities.iter().map(|entity| {
        let name = &sink.schema.columns[entity.column].name;
        (name.to_string(), component(entity, sink, &object))
    });
    let payload = json!({
        "device": {
            "identifiers": [object],
            "name": topic.replace('/', " "),
            "manufacturer": "Headwater",
        },
        "origin": { "name": "Headwater", "sw_version": env!("CARGO_PKG_VERSION") },
        "state_topic": topic,
        "qos": qos,
        "components": components.collect::<Map<String, Json>>(),
    });
    let topic = format!("{}/device/{object}/config", discovery.prefix);
    OutboxRow {
        id: Lineage::derived(sink.fingerprint, topic.as_bytes()),
        topic,
        payload: payload.to_string().into(),
        qos,
        retain: true,
    }
}

fn component(entity: &Entity, sink: &Sink, object: &str) -> Json {
    let column = &sink.schema.columns[entity.column];
    // As a key of a template: what the name holds must not end the text.
    let key = column.name.replace('\\', "\\\\").replace('\'', "\\'");
    let (platform, template) = match column.ty {
        Type::Boolean => (
            "binary_sensor",
            // A NULL is neither: its state is unknown.
            format!(
                "{{{{ none if value_json['{key}'] is none else ('ON' if value_json['{key}'] else 'OFF') }}}}"
            ),
        ),
        _ => ("sensor", format!("{{{{ value_json['{key}'] }}}}")),
    };
    let mut component = json!({
        "platform": platform,
        "name": column.name.as_str(),
        "unique_id": format!("{object}_{}", column.name),
        "value_template": template,
    });
    if column.ty.is_numeric() {
        component["state_class"] = "measurement".into();
    }
    if let Some(unit) = &entity.unit {
        component["unit_of_measurement"] = unit.as_str().into();
    }
    if let Some(class) = &entity.device_class {
        component["device_class"] = class.as_str().into();
    }
    component
}

/// A name for a topic of letters, digits, `_` and `-`, as Home Assistant wants it, of its own for each.
fn object_id(topic: &str) -> String {
    let plain = |sign: char| {
        if sign.is_ascii_alphanumeric() || sign == '-' {
            sign
        } else {
            '_'
        }
    };
    let name: String = topic.chars().take(64).map(plain).collect();
    let hash = Fingerprint::of(topic).0 as u32;
    format!("headwater_{name}_{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_of_once_and_within_the_bound() {
        let mut announced = Announced::default();
        let notes = ["a", "b", "a", "c", "d", "c"].map(|topic| announced.note(topic, 2));
        let (due, known, refused) = (
            Announcement::Due,
            Announcement::Known,
            Announcement::Refused,
        );
        assert_eq!(notes, [due, due, known, refused, known, known]);
    }

    #[test]
    fn topics_that_look_alike_have_ids_of_their_own() {
        assert_ne!(object_id("rooms/a b"), object_id("rooms/a_b"));
        let id = object_id("räume/1");
        assert!(id.starts_with("headwater_r_ume_1_"), "{id}");
    }
}
