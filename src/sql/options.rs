//! The options of a table: `WITH ('key' = 'value', …)`.
//!
//! Invariant: an option that is not known is an error, and so is one that has no effect on a table used as it is.

use crate::plan::{Diagnostic, TimestampFormat, TopicPart, nearest, quantity};
use crate::types::{Schema, Timespan, Type};

use super::planner::Planner;
use super::table::{OptionDef, TableDef};

/// All options, and whether they matter for a table that is read or written.
const KNOWN: [(&str, Use); 23] = [
    ("connector", Use::Both),
    ("format", Use::Both),
    ("topic", Use::Both),
    ("connection", Use::Both),
    ("qos", Use::Both),
    ("retain", Use::Written),
    ("retained", Use::Read),
    ("path", Use::Both),
    ("json.ignore-parse-errors", Use::Read),
    ("json.fail-on-missing-field", Use::Read),
    ("json.timestamp-format.standard", Use::Both),
    ("timestamp-format", Use::Both),
    ("csv.field-delimiter", Use::Both),
    ("json.id-field", Use::Written),
    ("home-assistant.discovery", Use::Written),
    ("home-assistant.prefix", Use::Written),
    ("scan.watermark.emit.strategy", Use::Read),
    ("scan.watermark.idle-timeout", Use::Read),
    ("scan.watermark.max-future", Use::Read),
    ("scan.watermark.per-key", Use::Read),
    ("late-rows", Use::Read),
    ("late-rows.table", Use::Read),
    ("late-rows.allowed-lateness", Use::Read),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Written,
    Both,
}

/// What options say of a single column, `fields.<column>.…`, and where it matters.
const OF_COLUMNS: [(&str, Use); 3] = [
    ("path", Use::Read),
    ("unit", Use::Written),
    ("device-class", Use::Written),
];

/// The column that an option is about, and where it matters.
fn of_column(key: &str) -> Option<(&str, Use)> {
    let (column, what) = key.strip_prefix("fields.")?.rsplit_once('.')?;
    let known = OF_COLUMNS.iter().find(|(known, _)| *known == what);
    known.map(|(_, of)| (column, *of))
}

/// The option that says where a column's value is in the payload.
pub(super) fn path_key(column: &str) -> String {
    column_key(column, "path")
}

/// The option that says something of a column.
pub(super) fn column_key(column: &str, what: &str) -> String {
    format!("fields.{column}.{what}")
}

impl Planner<'_> {
    /// Checks the names of a table's options.
    pub(super) fn check_options(&mut self, table: &TableDef) {
        for (i, option) in table.options.iter().enumerate() {
            if table.options[..i]
                .iter()
                .any(|other| other.key == option.key)
            {
                self.report(at_key(
                    option,
                    format!("the option '{}' is given twice", option.key),
                    "remove one",
                ));
            }
            if KNOWN.iter().any(|(known, _)| *known == option.key) {
                continue;
            }
            if let Some((column, _)) = of_column(&option.key) {
                if !table.columns.iter().any(|c| c.name.value == column) {
                    let known = table.columns.iter().map(|c| c.name.value.as_str());
                    let hint = match nearest(column, known) {
                        Some(near) => {
                            let near = option.key.replacen(column, near, 1);
                            format!("did you mean '{near}'?")
                        }
                        None => {
                            let form = option.key.replacen(column, "<column>", 1);
                            format!("the form is '{form}'")
                        }
                    };
                    self.report(at_key(
                        option,
                        format!("the table has no column {column}"),
                        &hint,
                    ));
                }
                continue;
            }
            let hint = match nearest(&option.key, KNOWN.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!(
                    "the options are {}",
                    KNOWN.map(|(known, _)| known).join(", ")
                ),
            };
            self.report(at_key(
                option,
                format!("there is no option '{}'", option.key),
                &hint,
            ));
        }
    }

    /// Refuses options that were never asked for: they would have no effect.
    pub(super) fn refuse_idle_options(&mut self, table: &TableDef, read: bool, written: bool) {
        let asked = self
            .asked
            .get(&table.name.value)
            .cloned()
            .unwrap_or_default();
        for option in &table.options {
            let known = KNOWN.iter().find(|(known, _)| *known == option.key);
            let known = known.map(|(_, of)| *of);
            let known = known.or_else(|| of_column(&option.key).map(|(_, of)| of));
            let Some(known) = known.filter(|_| !asked.contains(&option.key)) else {
                continue;
            };
            let (why, hint) = match known {
                Use::Read if !read => ("on a table that is only written", "remove it"),
                Use::Written if !written => ("on a table that is only read", "remove it"),
                _ => ("with this connector and format", "remove it"),
            };
            self.report(at_key(
                option,
                format!("the option '{}' has no effect {why}", option.key),
                hint,
            ));
        }
    }

    /// The option `key`, if it is given.
    pub(super) fn option<'t>(&mut self, table: &'t TableDef, key: &str) -> Option<&'t OptionDef> {
        self.asked
            .entry(table.name.value.clone())
            .or_default()
            .insert(key.to_owned());
        table.options.iter().find(|option| option.key == key)
    }

    /// An option that must be given; empty where it is missing.
    pub(super) fn required<'t>(
        &mut self,
        table: &'t TableDef,
        key: &str,
        example: &str,
    ) -> Option<&'t OptionDef> {
        let found = self.option(table, key);
        // Who misspells the option is told so, once.
        let misspelt = table.options.iter().any(|option| {
            !KNOWN.iter().any(|(known, _)| *known == option.key)
                && nearest(&option.key, [key]).is_some()
        });
        if found.is_none() && !misspelt {
            self.report(Diagnostic {
                place: table.place.clone(),
                message: format!("the table {} has no option '{key}'", table.name.value),
                hint: Some(format!("add '{key}' = '{example}'")),
            });
        }
        found
    }

    /// `'true'` or `'false'`.
    pub(super) fn flag(&mut self, table: &TableDef, key: &str, default: bool) -> bool {
        let Some(option) = self.option(table, key) else {
            return default;
        };
        match option.value.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.report(at_value(
                    option,
                    format!("'{key}' is 'true' or 'false', not '{}'", option.value),
                    None,
                ));
                default
            }
        }
    }

    /// A length of time; zero is none.
    pub(super) fn timespan(
        &mut self,
        table: &TableDef,
        key: &str,
        default: Option<Timespan>,
    ) -> Option<Timespan> {
        let Some(option) = self.option(table, key) else {
            return default;
        };
        match quantity::parse_duration(&option.value) {
            Ok(duration) => {
                let span =
                    Timespan::from_micros(duration.as_micros().try_into().unwrap_or(i64::MAX));
                span.is_positive().then_some(span)
            }
            Err(message) => {
                self.report(at_value(option, message, None));
                default
            }
        }
    }

    /// The quality of service: 0 or 1.
    pub(super) fn qos(&mut self, table: &TableDef) -> u8 {
        let Some(option) = self.option(table, "qos") else {
            return 1;
        };
        match option.value.as_str() {
            "0" => 0,
            "1" => 1,
            "2" => {
                let hint = "use '1': the handshake of QoS 2 does not survive a crash of the client, the acknowledgement after the commit does";
                self.report(at_value(
                    option,
                    "QoS 2 is not supported".to_owned(),
                    Some(hint),
                ));
                1
            }
            other => {
                self.report(at_value(
                    option,
                    format!("'qos' is '0' or '1', not '{other}'"),
                    None,
                ));
                1
            }
        }
    }

    /// The connection of a table: the one it names, the only one, or one that is named for it.
    pub(super) fn connection(&mut self, table: &TableDef, fallbacks: &[&str]) -> String {
        let known = &self.catalog.connections;
        let listed = known.join(", ");
        let found = self.option(table, "connection");
        let known = &self.catalog.connections;
        if let Some(option) = found {
            if !known.contains(&option.value) {
                let hint = match nearest(&option.value, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None if known.is_empty() => {
                        format!("add [connections.{}] to headwater.toml", option.value)
                    }
                    None => format!("the connections are {listed}"),
                };
                self.report(at_value(
                    option,
                    format!("there is no connection '{}'", option.value),
                    Some(&hint),
                ));
            }
            return option.value.clone();
        }
        if let [only] = known.as_slice() {
            return only.clone();
        }
        if let Some(name) = std::iter::once(&"default")
            .chain(fallbacks)
            .find(|name| known.iter().any(|k| k == *name))
        {
            return (*name).to_owned();
        }
        let (message, hint) = if known.is_empty() {
            (
                "there is no connection to a broker".to_owned(),
                "add [connections.default] with url = \"mqtt://host:1883\" to headwater.toml"
                    .to_owned(),
            )
        } else {
            (
                format!(
                    "the table {} does not say which connection it uses",
                    table.name.value
                ),
                format!("add 'connection' = '…': the connections are {listed}"),
            )
        };
        self.report(Diagnostic {
            place: table.place.clone(),
            message,
            hint: Some(hint),
        });
        String::new()
    }

    /// How points in time are spelt in payloads.
    pub(super) fn timestamp_format(&mut self, table: &TableDef) -> TimestampFormat {
        let flink = self.option(table, "json.timestamp-format.standard");
        let ours = self.option(table, "timestamp-format");
        if let (Some(_), Some(option)) = (flink, ours) {
            self.report(at_key(
                option,
                "the spelling of timestamps is given twice".to_owned(),
                "keep 'timestamp-format'",
            ));
        }
        let Some(option) = ours.or(flink) else {
            return TimestampFormat::Sql;
        };
        match option.value.to_ascii_lowercase().as_str() {
            "sql" => TimestampFormat::Sql,
            "iso-8601" => TimestampFormat::Iso8601,
            "epoch-seconds" => TimestampFormat::EpochSeconds,
            "epoch-millis" => TimestampFormat::EpochMillis,
            "epoch-micros" => TimestampFormat::EpochMicros,
            "epoch-nanos" => TimestampFormat::EpochNanos,
            _ if option.value.contains('%') => TimestampFormat::Pattern(option.value.clone()),
            other => {
                const NAMES: [&str; 6] = [
                    "SQL",
                    "ISO-8601",
                    "epoch-seconds",
                    "epoch-millis",
                    "epoch-micros",
                    "epoch-nanos",
                ];
                let hint = match nearest(other, NAMES) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => format!(
                        "use one of {}, or a pattern like '%d.%m.%Y %H:%M:%S'",
                        NAMES.join(", ")
                    ),
                };
                self.report(at_value(
                    option,
                    format!("'{}' is not a spelling of timestamps", option.value),
                    Some(&hint),
                ));
                TimestampFormat::Sql
            }
        }
    }

    /// The topic filters of a source.
    pub(super) fn filters(&mut self, table: &TableDef) -> Vec<String> {
        let Some(option) = self.required(table, "topic", "sensors/+/telemetry") else {
            return Vec::new();
        };
        let mut filters = Vec::new();
        for filter in option.value.split(';').map(str::trim) {
            if let Err((message, hint)) = check_filter(filter) {
                self.report(at_value(option, message, Some(hint)));
            }
            filters.push(filter.to_owned());
        }
        filters
    }

    /// The topic of a sink, with columns in braces.
    pub(super) fn topic(&mut self, table: &TableDef, schema: &Schema) -> Vec<TopicPart> {
        let Some(option) = self.required(table, "topic", "alerts/{device}") else {
            return Vec::new();
        };
        match parse_topic(&option.value, schema) {
            Ok(parts) => parts,
            Err((message, hint)) => {
                self.report(at_value(option, message, Some(&hint)));
                Vec::new()
            }
        }
    }

    /// Where a column's value is in the payload.
    pub(super) fn payload_path(&mut self, table: &TableDef, column: &str) -> Vec<String> {
        let Some(option) = self.option(table, &path_key(column)) else {
            return vec![column.to_owned()];
        };
        parse_path(&option.value).unwrap_or_else(|message| {
            let hint = "write keys with dots between, in double quotes where they hold dots: a.\"switch:0\".c";
            self.report(at_value(option, message, Some(hint)));
            Vec::new()
        })
    }
}

/// MQTT 5, 4.7: what a topic filter may be.
fn check_filter(filter: &str) -> Result<(), (String, &'static str)> {
    if filter.is_empty() {
        return Err((
            "a topic filter is empty".to_owned(),
            "separate filters with one ;",
        ));
    }
    if filter.len() > 65_535 || filter.contains('\0') {
        return Err((
            "a topic filter has at most 65535 bytes and no zero byte".to_owned(),
            "shorten it",
        ));
    }
    if filter.starts_with("$share/") {
        return Err((
            "shared subscriptions are not supported".to_owned(),
            "subscribe alone: a group member that is away would leave its messages to others, and state would be split",
        ));
    }
    if filter.contains('{') {
        return Err((
            "a topic that is read has no {columns}".to_owned(),
            "use the wildcards + and #, and METADATA FROM 'topic[1]'",
        ));
    }
    let levels: Vec<&str> = filter.split('/').collect();
    for (i, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || i + 1 != levels.len()) {
            return Err((
                format!("# is not the whole last level of '{filter}'"),
                "write # after the last /",
            ));
        }
        if level.contains('+') && *level != "+" {
            return Err((
                format!("+ is not a whole level of '{filter}'"),
                "write + between two /",
            ));
        }
    }
    Ok(())
}

fn parse_topic(text: &str, schema: &Schema) -> Result<Vec<TopicPart>, (String, String)> {
    if text.contains(['+', '#']) {
        return Err((
            "a topic that is written has no wildcards".to_owned(),
            "write a column in braces: alerts/{device}".to_owned(),
        ));
    }
    if text.is_empty() || text.len() > 65_535 || text.contains('\0') {
        return Err((
            "the topic is empty or too long".to_owned(),
            "write for instance alerts/{device}".to_owned(),
        ));
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let Some(close) = rest[open..]
            .find('}')
            .filter(|_| rest[open..].starts_with('{'))
        else {
            return Err((
                format!("a brace is not closed in '{text}'"),
                "write a column in braces: alerts/{device}".to_owned(),
            ));
        };
        if open > 0 {
            parts.push(TopicPart::Literal(rest[..open].to_owned()));
        }
        let name = &rest[open + 1..open + close];
        let Some(position) = schema.position(name) else {
            let hint = match nearest(name, schema.columns.iter().map(|c| c.name.as_str())) {
                Some(near) => format!("did you mean {{{near}}}?"),
                None => "name a column of this table".to_owned(),
            };
            return Err((
                format!("the topic names a column {name} that the table does not have"),
                hint,
            ));
        };
        if matches!(
            schema.columns[position].ty,
            Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Bytes
        ) {
            return Err((
                format!("the column {name} cannot be part of a topic"),
                "use a STRING or a number".to_owned(),
            ));
        }
        parts.push(TopicPart::Column(position));
        rest = &rest[open + close + 1..];
    }
    if !rest.is_empty() {
        parts.push(TopicPart::Literal(rest.to_owned()));
    }
    Ok(parts)
}

/// Reads `a.b`, `$.a."switch:0".c` or `$['a']['b']`.
fn parse_path(text: &str) -> Result<Vec<String>, String> {
    let mut rest = text.trim();
    rest = rest.strip_prefix('$').unwrap_or(rest);
    let mut keys = Vec::new();
    let mut first = true;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let Some(quote) = quote else {
                return Err(format!(
                    "'{text}' picks an element of an array: declare the column as ARRAY and write column[1] in the query"
                ));
            };
            let (key, after) = inner[1..]
                .split_once(quote)
                .ok_or_else(|| format!("a quote is not closed in '{text}'"))?;
            rest = after
                .strip_prefix(']')
                .ok_or_else(|| format!("a ] is missing in '{text}'"))?;
            keys.push(key.to_owned());
        } else {
            rest = match rest.strip_prefix('.') {
                Some(after) => after,
                None if first => rest,
                None => return Err(format!("a dot is missing in '{text}'")),
            };
            if let Some(inner) = rest.strip_prefix('"') {
                let (key, after) = inner
                    .split_once('"')
                    .ok_or_else(|| format!("a quote is not closed in '{text}'"))?;
                keys.push(key.to_owned());
                rest = after;
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                if end == 0 {
                    return Err(format!("a key is missing in '{text}'"));
                }
                keys.push(rest[..end].to_owned());
                rest = &rest[end..];
            }
        }
        first = false;
    }
    if keys.is_empty() {
        return Err("the path is empty".to_owned());
    }
    Ok(keys)
}

/// An error at the name of an option.
pub(super) fn at_key(option: &OptionDef, message: String, hint: &str) -> Diagnostic {
    Diagnostic {
        place: option.key_place.clone(),
        message,
        hint: Some(hint.to_owned()),
    }
}

/// An error at the value of an option.
pub(super) fn at_value(option: &OptionDef, message: String, hint: Option<&str>) -> Diagnostic {
    Diagnostic {
        place: option.value_place.clone(),
        message,
        hint: hint.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_quote_their_keys() {
        for (text, keys) in [
            ("a", vec!["a"]),
            ("a.b.c", vec!["a", "b", "c"]),
            ("$.a.\"switch:0\".c", vec!["a", "switch:0", "c"]),
            ("$['a.b'][\"c\"].d", vec!["a.b", "c", "d"]),
            ("\"a.b\"", vec!["a.b"]),
        ] {
            assert_eq!(parse_path(text).unwrap(), keys, "{text}");
        }
        for text in ["", "$", "a..b", "a[0]", "a.\"b", "$['a", "a.", ".", "['é"] {
            assert!(parse_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filters_follow_mqtt() {
        for filter in [
            "a",
            "/",
            "a/+/b",
            "+/+",
            "#",
            "a/#",
            "te/device/main///m/+",
            "$SYS/#",
            "spBv1.0/My Plant/#",
        ] {
            assert!(check_filter(filter).is_ok(), "{filter}");
        }
        for filter in ["", "a/#/b", "a#", "a+/b", "$share/g/a", "a/{b}"] {
            assert!(check_filter(filter).is_err(), "{filter}");
        }
    }
}
