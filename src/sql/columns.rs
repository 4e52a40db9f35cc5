//! The columns of a declared table that is read, and which of them carry time.

use crate::expr::Typed;
use crate::plan::{ColumnOrigin, Diagnostic, Format, Metadata, Place, SourceColumn, Watermark};
use crate::types::{Column, Type};

use super::datatype::Written;
use super::declare::home;
use super::options::at_value;
use super::planner::{Failed, Planned, Planner};
use super::scope::Scope;
use super::splice::Parsed;
use super::table::{ColumnKind, TableDef, WatermarkDef};

impl Planner<'_> {
    pub(super) fn source_columns(
        &mut self,
        table: &TableDef,
        format: &Format,
    ) -> (Vec<SourceColumn>, Scope) {
        self.refuse_twin_columns(table);
        // Computed columns are hidden until all others are known: they may use those that come later, but not each
        // other.
        let mut scope = Scope::default();
        for column in &table.columns {
            let (ty, nullable) = match &column.kind {
                ColumnKind::Physical(written) | ColumnKind::Metadata { ty: written, .. } => {
                    self.warn_of_length(&column.name.value, written, &column.place);
                    (written.ty.clone(), written.nullable)
                }
                ColumnKind::Computed(_) => (Type::Null, true),
            };
            scope.columns.push(super::scope::ScopeColumn {
                relation: Some(table.name.value.as_str().into()),
                column: Column {
                    nullable,
                    ..Column::new(column.name.value.as_str(), ty)
                },
                role: super::scope::Role::None,
                hidden: matches!(column.kind, ColumnKind::Computed(_)),
            });
        }
        let mut computed: Vec<(usize, Typed)> = Vec::new();
        let mut columns = Vec::new();
        for (i, column) in table.columns.iter().enumerate() {
            let name = column.name.value.as_str();
            let origin = match &column.kind {
                ColumnKind::Physical(_) if !matches!(format, Format::Json(_)) => {
                    ColumnOrigin::Payload { path: Vec::new() }
                }
                ColumnKind::Physical(_) => ColumnOrigin::Payload {
                    path: self.payload_path(table, name),
                },
                ColumnKind::Metadata { ty, key, .. } => match self.metadata(ty, key, &column.place)
                {
                    Ok(metadata) => ColumnOrigin::Metadata(metadata),
                    Err(Failed) => continue,
                },
                ColumnKind::Computed(expr) => {
                    match self.computed(table, &scope, expr, &column.place) {
                        Ok(typed) => {
                            computed.push((i, typed.clone()));
                            ColumnOrigin::Computed(typed.expr)
                        }
                        Err(Failed) => continue,
                    }
                }
            };
            columns.push((i, origin));
        }
        for (i, typed) in computed {
            let column = &mut scope.columns[i];
            column.column.ty = typed.ty;
            column.column.nullable = typed.nullable;
            column.hidden = false;
        }
        let columns = columns.into_iter().map(|(i, origin)| {
            let Column {
                name, ty, nullable, ..
            } = scope.columns[i].column.clone();
            SourceColumn {
                name,
                ty,
                nullable,
                origin,
            }
        });
        (columns.collect(), scope)
    }

    fn computed(
        &mut self,
        table: &TableDef,
        scope: &Scope,
        expr: &Parsed<sqlparser::ast::Expr>,
        place: &Place,
    ) -> Planned<Typed> {
        let home = home(table, place, &expr.types);
        self.convert(&home, scope, &expr.ast)
    }

    fn metadata(
        &mut self,
        written: &Written,
        (key, key_place): &(String, Place),
        place: &Place,
    ) -> Planned<Metadata> {
        let level = key
            .strip_prefix("topic[")
            .and_then(|rest| rest.strip_suffix(']'));
        let (metadata, fits, wanted) = match (key.as_str(), level) {
            ("topic", _) => (Metadata::Topic, written.ty == Type::String, "STRING"),
            (_, Some(level)) => {
                let Some(level) = level.parse::<usize>().ok().filter(|level| *level < 128) else {
                    return Err(self.report(Diagnostic {
                        place: key_place.clone(),
                        message: format!("'{key}' does not name a level of the topic"),
                        hint: Some("levels count from 0: of a/b/c, 'topic[1]' is b".to_owned()),
                    }));
                };
                (
                    Metadata::TopicLevel(level),
                    written.ty == Type::String,
                    "STRING",
                )
            }
            ("qos", _) => (Metadata::Qos, written.ty == Type::Int, "INT"),
            ("retain", _) => (Metadata::Retain, written.ty == Type::Boolean, "BOOLEAN"),
            ("timestamp", _) => (
                Metadata::Timestamp,
                written.ty.is_timestamp(),
                "TIMESTAMP_LTZ(3)",
            ),
            _ => {
                const KEYS: [&str; 5] = ["topic", "topic[1]", "qos", "retain", "timestamp"];
                let hint = match crate::plan::nearest(key, KEYS) {
                    Some(near) => format!("did you mean METADATA FROM '{near}'?"),
                    None => format!("write METADATA FROM '…' with one of {}", KEYS.join(", ")),
                };
                let message = format!("messages have no metadata '{key}'");
                return Err(self.report(Diagnostic {
                    place: key_place.clone(),
                    message,
                    hint: Some(hint),
                }));
            }
        };
        if !fits {
            return Err(self.report(Diagnostic {
                place: place.clone(),
                message: format!("the metadata '{key}' is {wanted}, not {}", written.ty),
                hint: Some(format!("declare the column as {wanted}")),
            }));
        }
        Ok(metadata)
    }

    pub(super) fn watermark(
        &mut self,
        table: &TableDef,
        def: &WatermarkDef,
        scope: &Scope,
    ) -> Planned<Watermark> {
        let (column, _) = scope
            .find(std::slice::from_ref(&def.column))
            .map_err(|e| self.report(super::convert::at(def.place.clone(), e)))?;
        let ty = &scope.columns[column].column.ty;
        let fits = matches!(
            ty,
            Type::Timestamp { precision: 0..=3 } | Type::TimestampLtz { precision: 0..=3 }
        );
        if !fits {
            let hint = match ty {
                Type::String => {
                    "declare the column as TIMESTAMP(3) and set 'timestamp-format', or compute it: ts AS TO_TIMESTAMP(text)"
                }
                ty if ty.is_numeric() => {
                    "compute it: ts AS TO_TIMESTAMP_LTZ(number, 3), where 0 is for seconds and 3 for milliseconds"
                }
                _ => "declare the column as TIMESTAMP(3)",
            };
            let message = format!(
                "a watermark needs a TIMESTAMP(3) or TIMESTAMP_LTZ(3), and {} is {ty}",
                def.column.value
            );
            return Err(self.report(Diagnostic {
                place: def.place.clone(),
                message,
                hint: Some(hint.to_owned()),
            }));
        }
        let home = home(table, &def.place, &def.expr.types);
        let typed = self.convert(&home, scope, &def.expr.ast)?;
        if !typed.ty.is_timestamp() {
            let message = format!("the watermark is {}, not a TIMESTAMP", typed.ty);
            let hint = format!(
                "write WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND",
                def.column.value
            );
            return Err(self.report(Diagnostic {
                place: def.place.clone(),
                message,
                hint: Some(hint),
            }));
        }
        Ok(Watermark {
            column,
            expr: typed.expr,
        })
    }

    /// A watermark follows each event; a periodic one would make what is late depend on the clock.
    pub(super) fn check_emit_strategy(&mut self, table: &TableDef) {
        if let Some(option) = self.option(table, "scan.watermark.emit.strategy")
            && option.value != "on-event"
        {
            self.report(at_value(
                option,
                format!("there is no strategy '{}'", option.value),
                Some("write 'on-event', which is the default: a watermark follows each event"),
            ));
        }
    }

    /// The columns of `scan.watermark.per-key`.
    pub(super) fn time_keys(
        &mut self,
        table: &TableDef,
        scope: &Scope,
        has_watermark: bool,
    ) -> Vec<usize> {
        let Some(option) = self.option(table, "scan.watermark.per-key") else {
            return Vec::new();
        };
        if !has_watermark {
            self.report(at_value(
                option,
                "each key cannot have a watermark of its own: the table declares none".to_owned(),
                Some("add WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"),
            ));
            return Vec::new();
        }
        let mut columns = Vec::new();
        for name in option.value.split(',').map(str::trim) {
            match scope.schema().position(name) {
                Some(at) if matches!(scope.columns[at].column.ty, Type::Map(..)) => {
                    self.report(at_value(
                        option,
                        format!("{name} is a MAP, which cannot be a key"),
                        Some("add a column with one of its values: device AS m['device']"),
                    ));
                }
                Some(at) if !columns.contains(&at) => columns.push(at),
                Some(_) => {}
                None => {
                    let known = scope.columns.iter().map(|c| c.column.name.as_str());
                    let hint = match crate::plan::nearest(name, known) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "name columns of the table: 'device' or 'site, device'".to_owned(),
                    };
                    let message = format!("the table has no column {name}");
                    self.report(at_value(option, message, Some(&hint)));
                }
            }
        }
        columns
    }

    pub(super) fn refuse_twin_columns(&mut self, table: &TableDef) {
        for (i, column) in table.columns.iter().enumerate() {
            if table.columns[..i]
                .iter()
                .any(|other| other.name.value == column.name.value)
            {
                let message = format!("the table has two columns {}", column.name.value);
                let problem = Diagnostic {
                    place: column.place.clone(),
                    message,
                    hint: Some("rename one".to_owned()),
                };
                if !self.problems.contains(&problem) {
                    self.report(problem);
                }
            }
        }
    }

    fn warn_of_length(&mut self, name: &str, written: &Written, place: &Place) {
        if let Some(length) = written.length {
            self.warnings.push(Diagnostic {
                place: place.clone(),
                message: format!("the length {length} of the column {name} is not checked"),
                hint: Some(
                    "write STRING or BYTES, or cut it in the query with LEFT(x, n)".to_owned(),
                ),
            });
        }
    }
}
