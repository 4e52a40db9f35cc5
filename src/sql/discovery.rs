//! Home Assistant discovery: what the options of a sink say of it.

use crate::plan::{Diagnostic, Discovery, Entity, TopicPart};
use crate::types::{Schema, Type};

use super::options::{at_value, column_key};
use super::planner::Planner;
use super::table::TableDef;

/// Where Home Assistant listens unless it is told otherwise.
const PREFIX: &str = "homeassistant";

impl Planner<'_> {
    /// What Home Assistant is to be told of a sink, if anything.
    pub(super) fn discovery(
        &mut self,
        table: &TableDef,
        schema: &Schema,
        topic: &[TopicPart],
    ) -> Option<Discovery> {
        if !self.flag(table, "home-assistant.discovery", false) {
            return None;
        }
        if let Some(format) = self.option(table, "format")
            && format.value != "json"
        {
            self.report(at_value(
                format,
                "Home Assistant takes the columns out of JSON".to_owned(),
                Some("write 'format' = 'json', or remove 'home-assistant.discovery'"),
            ));
        }
        let prefix = match self.option(table, "home-assistant.prefix") {
            None => PREFIX,
            Some(option) => {
                if option.value.is_empty() || option.value.contains(['+', '#', '\0', '{']) {
                    self.report(at_value(
                        option,
                        "the prefix of discovery is the beginning of a topic, without +, # and {"
                            .to_owned(),
                        Some("write 'homeassistant', or what Home Assistant's MQTT settings say"),
                    ));
                }
                option.value.trim_end_matches('/')
            }
        };
        let mut entities = Vec::new();
        for (column, declared) in schema.columns.iter().enumerate() {
            let composite = matches!(declared.ty, Type::Array(_) | Type::Map(..) | Type::Row(_));
            // What the topic names says which device it is.
            if composite || topic.contains(&TopicPart::Column(column)) {
                continue;
            }
            let mut option = |what| {
                let option = self.option(table, &column_key(&declared.name, what));
                option.map(|option| option.value.clone())
            };
            entities.push(Entity {
                column,
                unit: option("unit"),
                device_class: option("device-class"),
            });
        }
        if entities.is_empty() {
            self.report(Diagnostic {
                place: table.place.clone(),
                message: format!(
                    "Home Assistant would see nothing of the table {}: all columns are part of its topic",
                    table.name.value
                ),
                hint: Some("add a column that is not, or remove 'home-assistant.discovery'".to_owned()),
            });
        }
        Some(Discovery {
            prefix: prefix.into(),
            entities,
        })
    }
}
