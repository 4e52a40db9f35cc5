//! Declared tables: what they mean when they are read, and when they are written.

use std::fmt::Write;

use compact_str::CompactString;

use crate::expr::{Expr, Typed};
use crate::plan::{
    ColumnOrigin, CsvFormat, Diagnostic, Format, JsonFormat, LookupTable, Metadata, Place,
    SinkConnector, Source, SourceColumn, SourceConnector, TableId, TopicPart, Watermark,
};
use crate::types::{Column, Fingerprint, Schema, Timespan, Type};

use super::datatype::Written;
use super::options::at_value;
use super::planner::{Failed, Home, Planned, Planner, Relation};
use super::scope::Scope;
use super::splice::Types;
use super::table::{ColumnKind, TableDef};

/// A clock further ahead than this is taken for broken.
const MAX_FUTURE: Timespan = Timespan::from_secs(5 * 60);

/// What a table means when it is written.
pub(super) struct SinkTable {
    /// Where its rows go.
    pub(super) connector: SinkConnector,
    /// How columns become a payload.
    pub(super) format: Format,
    /// Its columns.
    pub(super) schema: Schema,
    /// What decides its identity, as text.
    pub(super) text: String,
}

impl Planner<'_> {
    /// The rows of a table that is read.
    pub(super) fn source(&mut self, table: &TableDef) -> Planned<Relation> {
        let before = self.problems.len();
        let connector = self.source_connector(table);
        let format = self.format(table, false);
        let (columns, scope) = self.source_columns(table, &format);
        let watermark = table
            .watermark
            .as_ref()
            .and_then(|w| self.watermark(table, w, &scope).ok());
        let has_watermark = watermark.is_some();
        let max_future = self.timespan(table, "scan.watermark.max-future", Some(MAX_FUTURE));
        self.check_emit_strategy(table);
        let idle_timeout = self.timespan(table, "scan.watermark.idle-timeout", None);
        let time_keys = self.time_keys(table, &scope, has_watermark);
        let late = self.late_options(table, has_watermark);
        let Some(connector) = connector.filter(|_| self.problems.len() == before) else {
            return Err(Failed);
        };
        self.warn_of_anonymous_rows(table, &connector, &columns);
        let mut schema = scope.schema();
        if let Some(watermark) = &watermark {
            schema.columns[watermark.column].rowtime = true;
        }
        let fingerprint = Fingerprint::of(&source_text(
            &connector,
            &format,
            &columns,
            watermark.as_ref(),
            &time_keys,
        ));
        let name = CompactString::from(&table.name.value);
        let source = Source {
            name: name.clone(),
            place: table.place.clone(),
            connector,
            format,
            columns,
            watermark,
            max_future: max_future.filter(|_| has_watermark),
            idle_timeout,
            time_keys,
            fingerprint,
        };
        let node = self.graph.add_source(source, schema.clone());
        self.note_late_policy(node, table, late);
        Ok(Relation {
            node,
            scope: Scope::of(&schema, Some(&name)),
            pending: None,
        })
    }

    /// A table that rows are looked up in: a file without a time of its own.
    pub(super) fn lookup_table(&mut self, table: &TableDef) -> Planned<(TableId, Scope)> {
        let before = self.problems.len();
        let path = self
            .required(table, "path", "devices.csv")
            .map(|o| o.value.clone());
        let format = self.format(table, false);
        let (columns, scope) = self.source_columns(table, &format);
        for column in &table.columns {
            if !matches!(column.kind, ColumnKind::Physical(_)) {
                self.report(Diagnostic {
                    place: column.place.clone(),
                    message: "a table that rows are looked up in has only physical columns"
                        .to_owned(),
                    hint: Some("compute it in the query".to_owned()),
                });
            }
        }
        self.option(table, "connector");
        let Some(path) = path.filter(|_| self.problems.len() == before) else {
            return Err(Failed);
        };
        let connector = SourceConnector::Filesystem { path: path.clone() };
        let text = source_text(&connector, &format, &columns, None, &[]);
        let id = self.graph.add_table(LookupTable {
            name: CompactString::from(&table.name.value),
            place: table.place.clone(),
            path,
            format,
            columns,
            fingerprint: Fingerprint::of(&format!("lookup {text}")),
        });
        let scope = Scope::of(&scope.schema(), Some(&table.name.value));
        Ok((id, scope))
    }

    /// What a table means when it is written.
    pub(super) fn sink(&mut self, table: &TableDef) -> Planned<SinkTable> {
        let before = self.problems.len();
        let mut columns = Vec::new();
        for column in &table.columns {
            match &column.kind {
                ColumnKind::Physical(written) => columns.push(Column {
                    nullable: written.nullable,
                    ..Column::new(column.name.value.as_str(), written.ty.clone())
                }),
                ColumnKind::Metadata {
                    virtual_: false,
                    key,
                    ..
                } => {
                    self.report(Diagnostic {
                        place: column.place.clone(),
                        message: format!("the metadata '{}' cannot be written", key.0),
                        hint: Some("add VIRTUAL to the column; the topic is set with 'topic' = 'alerts/{device}'".to_owned()),
                    });
                }
                ColumnKind::Metadata { .. } | ColumnKind::Computed(_) => {}
            }
        }
        self.refuse_twin_columns(table);
        let schema = Schema::new(columns);
        let format = self.format(table, true);
        let connector = self.sink_connector(table, &schema);
        let Some(connector) = connector.filter(|_| self.problems.len() == before) else {
            return Err(Failed);
        };
        let text = sink_text(&connector, &format, &schema);
        Ok(SinkTable {
            connector,
            format,
            schema,
            text,
        })
    }

    fn source_connector(&mut self, table: &TableDef) -> Option<SourceConnector> {
        let option = self.required(table, "connector", "mqtt")?;
        match option.value.as_str() {
            "mqtt" => Some(SourceConnector::Mqtt {
                connection: self.connection(table, &["source"]).into(),
                filters: self.filters(table),
                qos: self.qos(table),
                retained: self.flag(table, "retained", false),
            }),
            "filesystem" => Some(SourceConnector::Filesystem {
                path: self.required(table, "path", "events.jsonl")?.value.clone(),
            }),
            "print" => {
                self.report(at_value(
                    option,
                    "print can only be written".to_owned(),
                    Some("read from 'mqtt' or 'filesystem'"),
                ));
                None
            }
            other => self.no_connector(option, other),
        }
    }

    fn sink_connector(&mut self, table: &TableDef, schema: &Schema) -> Option<SinkConnector> {
        let option = self.required(table, "connector", "mqtt")?;
        match option.value.as_str() {
            "mqtt" => {
                let topic = self.topic(table, schema);
                Some(SinkConnector::Mqtt {
                    connection: self.connection(table, &["sink", "upstream"]).into(),
                    qos: self.qos(table),
                    retain: self.flag(table, "retain", false),
                    discovery: self.discovery(table, schema, &topic),
                    topic,
                })
            }
            "filesystem" => Some(SinkConnector::Filesystem {
                path: self.required(table, "path", "events.jsonl")?.value.clone(),
            }),
            "print" => Some(SinkConnector::Print),
            other => self.no_connector(option, other),
        }
    }

    /// What stands between the fields of CSV.
    fn delimiter(&mut self, table: &TableDef) -> u8 {
        let Some(option) = self.option(table, "csv.field-delimiter") else {
            return b',';
        };
        match option.value.as_bytes() {
            [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => *one,
            b"\\t" => b'\t',
            _ => {
                self.report(at_value(
                    option,
                    "a delimiter of CSV is one ASCII character".to_owned(),
                    Some("write ';', or '\\t' for a tab"),
                ));
                b','
            }
        }
    }

    fn no_connector<T>(&mut self, option: &super::table::OptionDef, name: &str) -> Option<T> {
        let hint = match crate::plan::nearest(name, ["mqtt", "filesystem", "print"]) {
            Some(near) => format!("did you mean '{near}'?"),
            None => "the connectors are mqtt, filesystem and print".to_owned(),
        };
        self.report(at_value(
            option,
            format!("there is no connector '{name}'"),
            Some(&hint),
        ));
        None
    }

    fn format(&mut self, table: &TableDef, written: bool) -> Format {
        let physical: Vec<&Written> = table
            .columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Physical(written) => Some(written),
                _ => None,
            })
            .collect();
        let is_mqtt = table
            .options
            .iter()
            .any(|o| o.key == "connector" && o.value == "mqtt");
        let option = if is_mqtt {
            self.required(table, "format", "json")
        } else {
            self.option(table, "format")
        };
        let name = option.map_or("json", |o| o.value.as_str());
        let json = |planner: &mut Self| {
            let id_field = if written {
                planner
                    .option(table, "json.id-field")
                    .map(|o| CompactString::from(&o.value))
            } else {
                None
            };
            let (mut ignore, mut fail) = (false, false);
            if !written {
                ignore = planner.flag(table, "json.ignore-parse-errors", false);
                fail = planner.flag(table, "json.fail-on-missing-field", false);
            }
            if let (true, true, Some(option)) = (
                ignore,
                fail,
                table
                    .options
                    .iter()
                    .find(|o| o.key == "json.fail-on-missing-field"),
            ) {
                planner.report(at_value(option, "'json.fail-on-missing-field' and 'json.ignore-parse-errors' exclude each other".to_owned(), Some("keep one")));
            }
            Format::Json(JsonFormat {
                timestamp: planner.timestamp_format(table),
                ignore_parse_errors: ignore,
                fail_on_missing_field: fail,
                id_field,
            })
        };
        match (name, option) {
            ("json", _) | (_, None) => json(self),
            ("csv", Some(_)) => Format::Csv(CsvFormat {
                delimiter: self.delimiter(table),
                timestamp: self.timestamp_format(table),
            }),
            ("text" | "raw", Some(option)) => {
                let scalar = matches!(physical.as_slice(), [one] if !matches!(one.ty, Type::Array(_) | Type::Map(..) | Type::Row(_)));
                let text = name == "text"
                    || matches!(physical.as_slice(), [one] if one.ty == Type::String);
                if !scalar {
                    self.report(at_value(
                        option,
                        format!(
                            "the format '{name}' needs a table with one column that is a scalar"
                        ),
                        Some(
                            "declare value STRING or value DOUBLE; METADATA columns come beside it",
                        ),
                    ));
                } else if !text {
                    self.report(at_value(option, "the format 'raw' is binary for numbers".to_owned(), Some("use 'format' = 'text' for numbers written as text, or declare the column STRING")));
                }
                Format::Text
            }
            (other, Some(option)) => {
                let hint = match crate::plan::nearest(other, ["json", "text", "raw", "csv"]) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => "the formats are json, csv and text".to_owned(),
                };
                self.report(at_value(
                    option,
                    format!("there is no format '{other}'"),
                    Some(&hint),
                ));
                Format::Text
            }
        }
    }

    /// Warns of a wildcard whose rows cannot be told apart.
    fn warn_of_anonymous_rows(
        &mut self,
        table: &TableDef,
        connector: &SourceConnector,
        columns: &[SourceColumn],
    ) {
        let SourceConnector::Mqtt { filters, .. } = connector else {
            return;
        };
        let wild = filters.len() > 1 || filters.iter().any(|f| f.contains(['+', '#']));
        let told_apart = columns.iter().any(|c| match c.origin {
            ColumnOrigin::Metadata(Metadata::Topic | Metadata::TopicLevel(_)) => true,
            // A name in the payload may be the device's.
            ColumnOrigin::Payload { ref path } => c.ty == Type::String && !path.is_empty(),
            _ => false,
        });
        if wild && !told_apart {
            self.warnings.push(Diagnostic {
                place: table.place.clone(),
                message: format!(
                    "{} reads many topics, and no column says which one a row came from",
                    table.name.value
                ),
                hint: Some("add a column: device STRING METADATA FROM 'topic[1]'".to_owned()),
            });
        }
    }
}

pub(super) fn home<'q>(table: &'q TableDef, place: &Place, types: &'q Types) -> Home<'q> {
    Home {
        file: &table.file,
        query: table.name.value.as_str().into(),
        place: place.clone(),
        types,
        ttl: None,
    }
}

/// What decides which rows a source gives and how its state is read. How it is tuned (quality of service, idle
/// timeout, bound on future timestamps, retained messages) may change without its state being thrown away.
fn source_text(
    connector: &SourceConnector,
    format: &Format,
    columns: &[SourceColumn],
    watermark: Option<&Watermark>,
    time_keys: &[usize],
) -> String {
    let mut text = match connector {
        SourceConnector::Mqtt {
            connection,
            filters,
            ..
        } => format!("mqtt {connection:?} {filters:?}"),
        SourceConnector::Filesystem { path } => format!("filesystem {path:?}"),
    };
    // Writing to a string cannot fail.
    let _ = write!(text, " {format:?}");
    for column in columns {
        let _ = write!(text, " [{} {} ", column.ty, column.nullable);
        let _ = match &column.origin {
            ColumnOrigin::Payload { path } => write!(text, "{path:?}]"),
            ColumnOrigin::Metadata(metadata) => write!(text, "{metadata:?}]"),
            ColumnOrigin::Computed(expr) => write!(text, "{expr}]"),
        };
    }
    if let Some(Watermark { column, expr }) = watermark {
        let _ = write!(text, " watermark #{column} {expr}");
    }
    if !time_keys.is_empty() {
        let _ = write!(text, " per key {time_keys:?}");
    }
    text
}

/// What decides what a sink's messages are.
fn sink_text(connector: &SinkConnector, format: &Format, schema: &Schema) -> String {
    let mut text = match connector {
        SinkConnector::Mqtt {
            connection, topic, ..
        } => {
            let parts: Vec<String> = topic
                .iter()
                .map(|part| match part {
                    TopicPart::Literal(text) => format!("{text:?}"),
                    TopicPart::Column(at) => format!("#{at}"),
                })
                .collect();
            format!("mqtt {connection:?} {}", parts.join(" "))
        }
        SinkConnector::Print => "print".to_owned(),
        SinkConnector::Filesystem { path } => format!("filesystem {path:?}"),
    };
    let _ = write!(text, " {format:?}");
    for column in &schema.columns {
        let _ = write!(text, " [{:?} {}]", column.name, column.ty);
    }
    text
}

/// A value as a column of a sink wants it: NOT NULL is checked for each row.
pub(super) fn for_column(value: Typed, column: &Column) -> Result<Expr, crate::expr::ResolveError> {
    let value = value.coerce(&column.ty)?;
    if column.nullable || !value.nullable {
        return Ok(value.expr);
    }
    let name = Typed::string(&column.name);
    crate::expr::call("$NOT_NULL", vec![value, name]).map(|checked| checked.expr)
}
