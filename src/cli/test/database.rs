//! The statements of a test file.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use sqllogictest::{ColumnType, DBOutput};

use crate::codec::{Format, JsonFormat, TimestampFormat, parse_timestamp};
use crate::plan::{
    ColumnOrigin, Diagnostic, Plan, SinkConnector, Source, SourceConnector, quantity,
};
use crate::sql::{Catalog, compile, compile_query};
use crate::types::{EventTime, Timespan, Type};

use super::cells::cells;
use super::literals::Literals;
use super::machine::{Machine, Outcome, Step};

/// Messages arrive on this day unless a file says otherwise: later than every event in it.
const ARRIVAL: EventTime = EventTime::from_millis(4_102_444_800_000); // 2100-01-01
/// The topic of messages for a table that names none.
const TOPIC: &str = "plant/line-1/sensor";

/// What is wrong with a statement.
#[derive(Debug)]
pub(super) struct Refused(pub(super) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl From<Vec<Diagnostic>> for Refused {
    fn from(problems: Vec<Diagnostic>) -> Self {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Self(lines.join("\n"))
    }
}

/// The letter of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter(char);

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        Some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl Letter {
    fn of(ty: &Type) -> Self {
        Self(match ty {
            Type::Boolean => 'B',
            ty if ty.is_integer() => 'I',
            Type::Decimal { .. } => 'D',
            Type::Float | Type::Double => 'R',
            Type::String | Type::Bytes => 'T',
            Type::Null => 'N',
            Type::Array(_) | Type::Map(..) | Type::Row(_) => 'C',
            _ => 'P',
        })
    }
}

/// What the configuration brings along.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Names and texts of the pipelines.
    pub(super) pipelines: Vec<(String, String)>,
    /// The connections that tables may name.
    pub(super) connections: Vec<String>,
    /// `limits.max_keys`.
    pub(super) max_keys: usize,
}

/// What a file has declared and fed so far.
pub(super) struct Database {
    given: Arc<Given>,
    /// Names and texts of the statements.
    declared: Vec<(String, String)>,
    /// The settings for what is declared and asked from here on.
    settings: String,
    steps: Vec<Step>,
    /// The pipelines at work, and what was looked at already of what came out.
    live: Option<Live>,
}

struct Live {
    machine: Machine,
    steps: usize,
    /// By sink.
    rows_seen: Vec<usize>,
    dead_seen: usize,
}

impl Database {
    pub(super) fn new(given: Arc<Given>) -> Self {
        Self {
            declared: given.pipelines.clone(),
            settings: String::new(),
            given,
            steps: Vec::new(),
            live: None,
        }
    }
}

impl sqllogictest::DB for Database {
    type Error = Refused;
    type ColumnType = Letter;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, Refused> {
        let words: Vec<&str> = sql.split_whitespace().collect();
        let upper: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        match upper.as_slice() {
            ["CREATE", "TABLE", ..] if words.len() > 2 => {
                let name = bare_name(words[2]);
                let text = with_connector(sql, &name);
                self.declare(name, text)
            }
            ["CREATE", "VIEW", ..] if words.len() > 2 => {
                self.declare(bare_name(words[2]), sql.to_owned())
            }
            ["DROP", "ALL"] => {
                *self = Self::new(self.given.clone());
                Ok(DBOutput::StatementComplete(0))
            }
            ["SET", "CLOCK", ..] => Ok(self.step(Step::SetClock(instant(behind(sql, "CLOCK"))?))),
            ["SET", key, ..] if key.starts_with('\'') => {
                compile(&[("query".to_owned(), sql.to_owned())], &self.catalog())?;
                let _ = write!(self.settings, "{}; ", sql.trim().trim_end_matches(';'));
                Ok(DBOutput::StatementComplete(0))
            }
            ["WAIT", ..] => Ok(self.step(Step::Wait(timespan(behind(sql, "WAIT"))?))),
            ["RESTART"] => Ok(self.step(Step::Restart)),
            ["END", "OF", "INPUT"] => Ok(self.step(Step::End)),
            ["INSERT", "INTO", _, "VALUES" | "PAYLOAD" | "TOPIC", ..] => self.feed(sql, words[2]),
            ["DEAD", "LETTERS"] => self.dead_letters(),
            ["DEAD", "LETTERS", ..] => {
                let (_, outcome) = self.query(behind(sql, "LETTERS"))?;
                let letters = outcome.dead.into_iter();
                Ok(DBOutput::Rows {
                    types: vec![Letter('T'); 2],
                    rows: letters
                        .map(|[_, reason, detail]| vec![reason, detail])
                        .collect(),
                })
            }
            ["SELECT", "*", "FROM", table] if self.is_written(table) => self.written(words[3]),
            ["SELECT" | "WITH", ..] => {
                let (plan, outcome) = self.query(sql)?;
                let columns = &plan.sinks[0].schema.columns;
                Ok(DBOutput::Rows {
                    types: columns.iter().map(|c| Letter::of(&c.ty)).collect(),
                    rows: outcome
                        .rows
                        .iter()
                        // The query's own sink is the first; another may take its late rows.
                        .filter(|(sink, _, _)| *sink == 0)
                        .map(|(_, _, line)| cells(line))
                        .collect(),
                })
            }
            _ => {
                let mut files = self.declared.clone();
                files.push(("query".to_owned(), sql.to_owned()));
                compile(&files, &self.catalog())?;
                if upper.starts_with(&["INSERT", "INTO"]) {
                    // It works beside the pipelines, over all that was fed.
                    self.declared = files;
                    self.live = None;
                }
                Ok(DBOutput::StatementComplete(0))
            }
        }
    }
}

impl Database {
    fn catalog(&self) -> Catalog {
        Catalog {
            connections: self.given.connections.clone(),
        }
    }

    fn step(&mut self, step: Step) -> DBOutput<Letter> {
        self.steps.push(step);
        DBOutput::StatementComplete(0)
    }

    fn declare(&mut self, name: String, text: String) -> Result<DBOutput<Letter>, Refused> {
        let text = format!("{}{text}", self.settings);
        self.declared.push((name.clone(), text));
        let query = ("query".to_owned(), format!("SELECT * FROM `{name}`"));
        match compile_query(&self.declared, &query, &self.catalog()) {
            Ok(_) => Ok(DBOutput::StatementComplete(0)),
            Err(problems) => {
                self.declared.pop();
                Err(problems.into())
            }
        }
    }

    fn feed(&mut self, sql: &str, table: &str) -> Result<DBOutput<Letter>, Refused> {
        let query = ("query".to_owned(), format!("SELECT * FROM {table}"));
        let (plan, _) = compile_query(&self.declared, &query, &self.catalog())?;
        let source = &plan.sources[0];
        let mut literals = Literals::behind_the_table(sql);
        let mut word = literals.word();
        let mut topic = usual_topic(source);
        if word == "TOPIC" {
            topic = literals.literal()?.text;
            word = literals.word();
        }
        let mut count = 0;
        loop {
            let payload = match word.as_str() {
                "PAYLOAD" => literals.literal()?.text,
                "VALUES" => payload(source, &mut literals)?,
                _ => return Err(literals.expected("VALUES or PAYLOAD behind the topic")),
            };
            // A table that rows are looked up in takes a line; a stream takes a message. A table may be both.
            self.steps.push(Step::TableLine {
                table: source.name.clone(),
                line: payload.clone(),
            });
            self.steps.push(Step::Arrival {
                table: source.name.clone(),
                topic: topic.clone(),
                payload,
            });
            count += 1;
            if !literals.takes(',') {
                break;
            }
        }
        if !literals.is_at_end() {
            return Err(literals.expected("a comma or the end of the statement"));
        }
        Ok(DBOutput::StatementComplete(count))
    }

    /// The rows of a query over all that was fed, with all windows closed.
    fn query(&self, sql: &str) -> Result<(Arc<Plan>, Outcome), Refused> {
        let text = format!("{}{}", self.settings, sql.trim());
        let query = ("query".to_owned(), text);
        let (plan, _) = compile_query(&self.declared, &query, &self.catalog())?;
        let plan = Arc::new(plan);
        let mut machine = Machine::new(plan.clone(), self.given.max_keys, ARRIVAL);
        for step in self.steps.iter().chain([&Step::End]) {
            machine.take(step);
        }
        Ok((plan, machine.outcome()?.clone()))
    }

    /// Whether a query of the pipelines writes this table.
    fn is_written(&self, table: &str) -> bool {
        let Ok((plan, _)) = compile(&self.declared, &self.catalog()) else {
            return false;
        };
        let mut sinks = plan.sinks.iter();
        sinks.any(|sink| sink.name.eq_ignore_ascii_case(&bare_name(table)))
    }

    /// The pipelines at work, after all that was fed.
    fn live(&mut self) -> Result<&mut Live, Refused> {
        if self.live.is_none() {
            let (mut plan, _) = compile(&self.declared, &self.catalog())?;
            for sink in &mut plan.sinks {
                sink.connector = SinkConnector::Print;
                sink.format = Format::Json(JsonFormat {
                    timestamp: TimestampFormat::Sql,
                    ignore_parse_errors: false,
                    fail_on_missing_field: false,
                    id_field: None,
                });
            }
            self.live = Some(Live {
                rows_seen: vec![0; plan.sinks.len()],
                machine: Machine::new(Arc::new(plan), self.given.max_keys, ARRIVAL),
                steps: 0,
                dead_seen: 0,
            });
        }
        let live = self.live.as_mut().expect("it was made just now");
        for step in &self.steps[live.steps..] {
            live.machine.take(step);
        }
        live.steps = self.steps.len();
        Ok(live)
    }

    /// What the pipelines have written to a table since somebody looked.
    fn written(&mut self, table: &str) -> Result<DBOutput<Letter>, Refused> {
        let table = bare_name(table);
        let live = self.live()?;
        let outcome = live.machine.outcome()?.clone();
        let (mut rows, mut types) = (Vec::new(), Vec::new());
        for (at, sink) in live.machine.plan.sinks.iter().enumerate() {
            if !sink.name.eq_ignore_ascii_case(&table) {
                continue;
            }
            types = sink
                .schema
                .columns
                .iter()
                .map(|c| Letter::of(&c.ty))
                .collect();
            let all = outcome.rows.iter().filter(|(sink, _, _)| *sink == at);
            let new: Vec<_> = all.skip(live.rows_seen[at]).collect();
            live.rows_seen[at] += new.len();
            rows.extend(new.into_iter().map(|(_, _, line)| cells(line)));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    /// What the pipelines have discarded since somebody looked.
    fn dead_letters(&mut self) -> Result<DBOutput<Letter>, Refused> {
        let live = self.live()?;
        let dead = live.machine.outcome()?.dead[live.dead_seen..].to_vec();
        live.dead_seen += dead.len();
        Ok(DBOutput::Rows {
            types: vec![Letter('T'); 3],
            rows: dead.into_iter().map(Vec::from).collect(),
        })
    }
}

/// A row of VALUES as the payload of a message: the physical columns of the table in order.
fn payload(source: &Source, literals: &mut Literals<'_>) -> Result<String, Refused> {
    let mut columns = Vec::new();
    for column in &source.columns {
        if let ColumnOrigin::Payload { path } = &column.origin {
            columns.push((path, &column.ty));
        }
    }
    let row = literals.row()?;
    if row.len() != columns.len() {
        return Err(Refused(format!(
            "{} has {} columns in its payload and a row gives {}",
            source.name,
            columns.len(),
            row.len()
        )));
    }
    if let Format::Csv(options) = &source.format {
        let fields = row.iter().map(|literal| match literal.text.as_str() {
            text if text.eq_ignore_ascii_case("NULL") => String::new(),
            text => text.replace('"', "\"\""),
        });
        let fields: Vec<String> = fields.map(|text| format!("\"{text}\"")).collect();
        return Ok(fields.join(&char::from(options.delimiter).to_string()));
    }
    if source.format == Format::Text {
        return Ok(row
            .into_iter()
            .next()
            .map(|value| value.text)
            .unwrap_or_default());
    }
    let mut object = Object::default();
    for ((path, ty), literal) in columns.iter().zip(row) {
        object.put(path, literal.json(ty));
    }
    Ok(object.text())
}

/// A JSON object that is put together path by path, in order.
#[derive(Default)]
struct Object(Vec<(String, Node)>);

enum Node {
    Leaf(String),
    Inner(Object),
}

impl Object {
    fn put(&mut self, path: &[String], json: String) {
        let [key, rest @ ..] = path else { return };
        if rest.is_empty() {
            self.0.push((key.clone(), Node::Leaf(json)));
            return;
        }
        let known = self.0.iter_mut().find_map(|(known, node)| match node {
            Node::Inner(object) if known == key => Some(object),
            _ => None,
        });
        if let Some(object) = known {
            object.put(rest, json);
        } else {
            let mut object = Self::default();
            object.put(rest, json);
            self.0.push((key.clone(), Node::Inner(object)));
        }
    }

    fn text(&self) -> String {
        let fields = self.0.iter().map(|(key, node)| {
            let value = match node {
                Node::Leaf(json) => json.clone(),
                Node::Inner(object) => object.text(),
            };
            format!("{}:{value}", serde_json::Value::String(key.clone()))
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
}

/// A topic that the table's first filter lets through.
fn usual_topic(source: &Source) -> String {
    let SourceConnector::Mqtt { filters, .. } = &source.connector else {
        return TOPIC.to_owned();
    };
    let filter = filters.first().map_or(TOPIC, String::as_str);
    let levels = filter.split('/').map(|level| match level {
        "+" | "#" => "test",
        level => level,
    });
    levels.collect::<Vec<_>>().join("/")
}

/// What stands behind a word, without quotes and spaces around it.
fn behind<'a>(sql: &'a str, word: &str) -> &'a str {
    let at = sql.to_ascii_uppercase().find(word);
    let rest = at.map_or("", |at| &sql[at + word.len()..]);
    rest.trim().trim_matches('\'')
}

fn instant(text: &str) -> Result<EventTime, Refused> {
    let iso = parse_timestamp(text, &TimestampFormat::Iso8601, true);
    let micros = iso.or_else(|| parse_timestamp(text, &TimestampFormat::Sql, false));
    let micros = micros.ok_or_else(|| {
        Refused(format!(
            "'{text}' is no time: write SET CLOCK '2026-01-01 00:00:00' (UTC)"
        ))
    })?;
    Ok(EventTime::from_micros(micros))
}

fn timespan(text: &str) -> Result<Timespan, Refused> {
    let span = quantity::parse_duration(text).map_err(Refused)?;
    Ok(Timespan::from_micros(span.as_micros() as i64))
}

fn bare_name(word: &str) -> String {
    let name = word.split('(').next().unwrap_or_default();
    name.trim_matches(['`', ';']).to_owned()
}

/// The statement with a connector of which the file plays the part, unless it names one.
fn with_connector(sql: &str, table: &str) -> String {
    let connector = format!("'connector' = 'filesystem', 'path' = '{table}'");
    if sql.contains("'connector'") {
        return sql.to_owned();
    }
    match sql.rfind("WITH (") {
        Some(at) => {
            let at = at + "WITH (".len();
            format!("{}{connector}, {}", &sql[..at], &sql[at..])
        }
        None => format!("{sql} WITH ({connector})"),
    }
}
