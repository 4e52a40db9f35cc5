//! INSERT INTO: a query and the table its rows go to.

use compact_str::CompactString;
use sqlparser::ast::Spanned;

use crate::codec::{Format, JsonFormat, TimestampFormat};
use crate::expr::{ResolveError, Typed};
use crate::plan::{Diagnostic, Sink, SinkConnector, nearest};
use crate::types::{Fingerprint, Schema, Type, Value};

use super::declare::{SinkTable, for_column};
use super::lex::place;
use super::planner::{Failed, Home, Planned, Planner, Relation, find, same};
use super::statement::{BareQuery, InsertDef};

impl Planner<'_> {
    /// Plans an INSERT.
    pub(super) fn insert(&mut self, insert: &InsertDef) -> Planned<()> {
        let known = find(self.tables, &insert.target.value);
        let number = known.as_ref().map_or(0, |key| self.graph.sinks_of(key));
        let mut query = format!("INSERT {}", insert.target.value);
        if number > 0 {
            query = format!("{query} {}", number + 1);
        }
        let home = Home {
            file: &insert.place.file,
            query: CompactString::from(query),
            place: insert.place.clone(),
            types: &insert.query.types,
            ttl: insert.ttl,
        };
        let target = match known {
            Some(key) => {
                self.written.insert(key.clone());
                let table = &self.tables[&key];
                self.sink(table).map(|sink| (table, sink))
            }
            None => Err(self.no_target(insert)),
        };
        let relation = self.query(&home, &insert.query.ast);
        let ((table, sink), relation) = (target?, relation?);
        let relation = self.settled(&home, relation);
        let SinkTable {
            connector,
            format,
            schema,
            text,
        } = sink;
        let relation = self.shaped(&home, insert, relation, &schema)?;
        let sink = Sink {
            name: CompactString::from(&table.name.value),
            place: insert.place.clone(),
            connector,
            format,
            schema,
            // Set when it is added: it covers what feeds it.
            fingerprint: Fingerprint(0),
        };
        self.graph.add_sink(sink, &text, relation.node, &home.query);
        self.write_late_rows(&home)
    }

    /// Plans a query whose rows are printed.
    pub(super) fn bare(&mut self, bare: BareQuery) -> Planned<()> {
        let BareQuery { place, query, ttl } = bare;
        let home = Home {
            file: &place.file,
            query: CompactString::const_new("query"),
            place: place.clone(),
            types: &query.types,
            ttl,
        };
        let relation = self.query(&home, &query.ast)?;
        let relation = self.settled(&home, relation);
        let sink = Sink {
            name: home.query.clone(),
            place: place.clone(),
            connector: SinkConnector::Print,
            format: Format::Json(JsonFormat {
                timestamp: TimestampFormat::Sql,
                ignore_parse_errors: false,
                fail_on_missing_field: false,
                id_field: None,
            }),
            schema: relation.scope.schema(),
            fingerprint: Fingerprint(0),
        };
        self.graph
            .add_sink(sink, "query", relation.node, &home.query);
        self.write_late_rows(&home)
    }

    fn no_target(&mut self, insert: &InsertDef) -> Failed {
        let name = &insert.target.value;
        if self.broken.iter().any(|broken| same(broken, name)) {
            return Failed;
        }
        let hint = if find(self.views, name).is_some() {
            "a view cannot be written: declare a table with CREATE TABLE".to_owned()
        } else {
            match nearest(name, self.tables.keys().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => "declare it with CREATE TABLE".to_owned(),
            }
        };
        self.report(Diagnostic {
            place: insert.place.clone(),
            message: format!("there is no table {name} to write"),
            hint: Some(hint),
        })
    }

    /// The rows in the shape of the table.
    fn shaped(
        &mut self,
        home: &Home<'_>,
        insert: &InsertDef,
        relation: Relation,
        schema: &Schema,
    ) -> Planned<Relation> {
        let given = relation.scope.columns.len();
        let targets: Vec<usize> = if insert.columns.is_empty() {
            (0..schema.len()).collect()
        } else {
            let mut targets = Vec::new();
            for name in &insert.columns {
                let Some(at) = schema.position(&name.value) else {
                    let hint = match nearest(
                        &name.value,
                        schema.columns.iter().map(|c| c.name.as_str()),
                    ) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "name the table's columns".to_owned(),
                    };
                    let message = format!(
                        "the table {} has no column {} to write",
                        insert.target.value, name.value
                    );
                    return Err(self.refuse(home, name.span.start, message, hint));
                };
                if targets.contains(&at) {
                    return Err(self.refuse(
                        home,
                        name.span.start,
                        format!("the column {} is named twice", name.value),
                        "remove one",
                    ));
                }
                targets.push(at);
            }
            targets
        };
        if targets.len() != given {
            let named =
                |columns: &mut dyn Iterator<Item = &str>| columns.collect::<Vec<_>>().join(", ");
            let wanted = named(&mut targets.iter().map(|at| schema.columns[*at].name.as_str()));
            let found = named(
                &mut relation
                    .scope
                    .columns
                    .iter()
                    .map(|c| c.column.name.as_str()),
            );
            let problem = Diagnostic {
                place: home.place.clone(),
                message: format!(
                    "the table takes {} columns ({wanted}) and the query gives {given} ({found})",
                    targets.len()
                ),
                hint: Some(
                    "give each column a value, or name the columns: INSERT INTO t (a, b) SELECT …"
                        .to_owned(),
                ),
            };
            return Err(self.report(problem));
        }
        let mut exprs = Vec::with_capacity(schema.len());
        let mut failed = None;
        for (at, column) in schema.columns.iter().enumerate() {
            let position = targets.iter().position(|target| *target == at);
            let (value, name) = match position {
                Some(i) => (
                    relation.scope.typed(i),
                    relation.scope.columns[i].column.name.as_str(),
                ),
                None => (Typed::literal(Value::Null, Type::Null), "NULL"),
            };
            let from = value.ty.clone();
            let result = if position.is_none() && !column.nullable {
                Err(ResolveError::hinted(
                    format!("the column {} is NOT NULL and gets no value", column.name),
                    "name it in the INSERT",
                ))
            } else {
                for_column(value, column).map_err(|_| {
                    ResolveError::hinted(
                        format!(
                            "the column {} is {}, and the query gives {name} of type {from}",
                            column.name, column.ty
                        ),
                        format!("write CAST({name} AS {})", column.ty),
                    )
                })
            };
            match result {
                Ok(expr) => exprs.push(expr),
                Err(e) => {
                    let span = insert.query.ast.body.span().start;
                    let at = position
                        .and_then(|i| item_location(insert, i))
                        .unwrap_or(span);
                    let at = if at.line == 0 {
                        home.place.clone()
                    } else {
                        place(home.file, at)
                    };
                    failed = Some(self.report(super::convert::at(at, e)));
                }
            }
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        let same_shape = exprs.len() == given
            && exprs
                .iter()
                .enumerate()
                .all(|(i, e)| *e == crate::expr::Expr::Column(i));
        if same_shape {
            return Ok(relation);
        }
        Ok(self.project(home, &relation, exprs, schema.clone(), &[]))
    }
}

/// Where the i-th item of a plain SELECT stands.
fn item_location(insert: &InsertDef, i: usize) -> Option<sqlparser::tokenizer::Location> {
    let select = insert.query.ast.body.as_select()?;
    let wild = |item: &sqlparser::ast::SelectItem| {
        matches!(
            item,
            sqlparser::ast::SelectItem::Wildcard(_)
                | sqlparser::ast::SelectItem::QualifiedWildcard(..)
        )
    };
    let items = &select.projection;
    // Behind a * the items are not counted alike.
    let item = items.get(i).filter(|_| !items.iter().any(wild))?;
    Some(item.span().start)
}
