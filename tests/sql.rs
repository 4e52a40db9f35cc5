//! Behaviour of SQL: the sqllogictest files in `tests/sql`, run over the real planner and the real engine.
//!
//! How a file reads:
//! - `CREATE TABLE t (…)` needs no WITH: rows come from here. What its WITH says is kept.
//! - `INSERT INTO t VALUES (…), (…)` feeds rows in order of arrival, as JSON messages; an ARRAY, MAP or ROW is
//!   written as its JSON in quotes. `INSERT INTO t PAYLOAD '…', '…'` feeds messages as they stand.
//! - `INSERT INTO t SELECT …`, and what is no statement of ours, is only checked.
//! - A query compiles what is declared so far, sends all rows of its tables through a fresh engine, closes all
//!   windows and gives its rows. `DEAD LETTERS query` gives what was discarded instead: reason and detail.
//! - `SET CLOCK 'time'` sets the time of arrival of the rows that follow. `DROP ALL` forgets everything.
//! - The letters behind `query`: B boolean, I integer, D decimal, R FLOAT and DOUBLE, T string, P date and time,
//!   N the type of NULL, C array, map and row.
//!
//! Every query is also a crash test: it runs again with every row an epoch of its own and a new engine restored
//! from what was sealed at each boundary, after a crash that lost the row once; rows, order, ids and dead letters
//! must be the same.
//!
//! `UPDATE_SLT=1 cargo test --test sql` writes the results into the files; look at each before you believe it.

#![allow(clippy::unwrap_used)]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions, SealedEpoch, StateChange, Stored};
use headwater::plan::{ColumnOrigin, Diagnostic, Plan};
use headwater::sql::{Catalog, compile, compile_query};
use headwater::types::{EventTime, Type};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use sqllogictest::{ColumnType, DBOutput, Runner, default_validator, strict_column_validator};

/// Rows arrive on this day unless a file says otherwise: later than every event in the files.
const ARRIVAL: EventTime = EventTime::from_millis(4_102_444_800_000); // 2100-01-01

/// Bytes of deltas after which state is folded into a snapshot: always, and never.
const FOLDS: [u64; 2] = [0, 1 << 30];

#[test]
fn sql_behaves_as_the_files_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", dir.display());
    let update = std::env::var_os("UPDATE_SLT").is_some();
    let mut failures = Vec::new();
    for file in &files {
        let mut runner = Runner::new(|| async { Ok(Database::default()) });
        runner.with_column_validator(strict_column_validator);
        runner.with_normalizer(trimmed);
        if update {
            let updated = runner.update_test_file(
                file,
                " ",
                default_validator,
                trimmed,
                strict_column_validator,
            );
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(updated).unwrap();
            continue;
        }
        for record in sqllogictest::parse_file(file).unwrap() {
            // Each case is told of, not only the first that fails.
            if let Err(error) = runner.run(record) {
                failures.push(error.to_string());
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases fail:\n\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A function that nobody has called here is a function that nobody has checked, and one that the README lacks is one
/// that nobody finds.
#[test]
fn every_function_has_a_case_and_is_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut called = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let name_ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        called.extend(text.split(name_ends).map(str::to_owned));
    }
    let mut missing = headwater::expr::function_names();
    missing.retain(|name| !called.contains(*name));
    assert!(missing.is_empty(), "no case in tests/sql for {missing:?}");
    let readme = std::fs::read_to_string("README.md").unwrap();
    let mut unlisted = headwater::expr::function_names();
    unlisted.retain(|name| !readme.contains(&format!("`{name}`")));
    assert!(unlisted.is_empty(), "not in README.md: {unlisted:?}");
}

/// Spaces within a value count.
#[allow(clippy::ptr_arg)]
fn trimmed(text: &String) -> String {
    text.trim().to_owned()
}

/// What is wrong with a statement.
#[derive(Debug)]
struct Refused(String);

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
struct Letter(char);

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

/// A message that arrives.
#[derive(Clone, Debug)]
struct Arrival {
    table: String,
    payload: String,
    at: EventTime,
}

/// What a file has declared and fed so far.
struct Database {
    /// Names and texts of the statements.
    declared: Vec<(String, String)>,
    arrivals: Vec<Arrival>,
    clock: EventTime,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            declared: Vec::new(),
            arrivals: Vec::new(),
            clock: ARRIVAL,
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
            ["CREATE", "TABLE", ..] => {
                let name = bare_name(words[2]);
                let text = with_connector(sql, &name);
                self.declare(name, text)
            }
            ["CREATE", "VIEW", ..] => self.declare(bare_name(words[2]), sql.to_owned()),
            ["DROP", "ALL"] => {
                *self = Self::default();
                Ok(DBOutput::StatementComplete(0))
            }
            ["SET", "CLOCK", time] => {
                self.clock = instant(time.trim_matches('\''));
                Ok(DBOutput::StatementComplete(0))
            }
            ["INSERT", "INTO", _, "VALUES" | "PAYLOAD", ..] => self.feed(sql, words[2]),
            ["DEAD", "LETTERS", ..] => {
                let at = sql.to_uppercase().find("LETTERS").unwrap() + "LETTERS".len();
                let (_, outcome) = self.query(&sql[at..])?;
                Ok(DBOutput::Rows {
                    types: vec![Letter('T'), Letter('T')],
                    rows: outcome.dead,
                })
            }
            [first, ..] if !["SELECT", "WITH"].contains(first) => {
                let mut files = self.files();
                files.push(("query".to_owned(), sql.to_owned()));
                compile(&files, &catalog())?;
                Ok(DBOutput::StatementComplete(0))
            }
            _ => {
                let (plan, outcome) = self.query(sql)?;
                let columns = &plan.sinks[0].schema.columns;
                Ok(DBOutput::Rows {
                    types: columns.iter().map(|c| Letter::of(&c.ty)).collect(),
                    rows: outcome.rows.iter().map(|(_, line)| cells(line)).collect(),
                })
            }
        }
    }
}

impl Database {
    fn files(&self) -> Vec<(String, String)> {
        self.declared.clone()
    }

    fn declare(&mut self, name: String, text: String) -> Result<DBOutput<Letter>, Refused> {
        self.declared.push((name.clone(), text));
        let query = ("query".to_owned(), format!("SELECT * FROM `{name}`"));
        match compile_query(&self.files(), &query, &catalog()) {
            Ok(_) => Ok(DBOutput::StatementComplete(0)),
            Err(problems) => {
                self.declared.pop();
                Err(problems.into())
            }
        }
    }

    fn feed(&mut self, sql: &str, table: &str) -> Result<DBOutput<Letter>, Refused> {
        let query = ("query".to_owned(), format!("SELECT * FROM {table}"));
        let (plan, _) = compile_query(&self.files(), &query, &catalog())?;
        let columns: Vec<(&str, &Type)> = plan.sources[0]
            .columns
            .iter()
            .filter(|column| matches!(column.origin, ColumnOrigin::Payload { .. }))
            .map(|column| (column.name.as_str(), &column.ty))
            .collect();
        let mut literals = Literals::behind_the_table(sql);
        let raw = literals.word() == "PAYLOAD";
        let mut count = 0;
        loop {
            let payload = if raw {
                literals.literal().text
            } else {
                let row = literals.row();
                if row.len() != columns.len() {
                    return Err(Refused(format!(
                        "{table} has {} columns and a row gives {}",
                        columns.len(),
                        row.len()
                    )));
                }
                let fields = columns.iter().zip(row);
                let fields: Vec<String> = fields
                    .map(|((name, ty), literal)| format!("\"{name}\":{}", literal.json(ty)))
                    .collect();
                format!("{{{}}}", fields.join(","))
            };
            self.arrivals.push(Arrival {
                table: plan.sources[0].name.to_string(),
                payload,
                at: self.clock,
            });
            count += 1;
            if !literals.takes(',') {
                break;
            }
        }
        Ok(DBOutput::StatementComplete(count))
    }

    /// The rows of a query, whatever crashes.
    fn query(&self, sql: &str) -> Result<(Arc<Plan>, Outcome), Refused> {
        let query = ("query".to_owned(), sql.trim().to_owned());
        let (plan, _) = compile_query(&self.files(), &query, &catalog())?;
        let plan = Arc::new(plan);
        let whole = self.in_one_epoch(&plan);
        for fold in FOLDS {
            let torn = self.with_crashes(&plan, fold);
            if torn != whole {
                return Err(Refused(format!(
                    "crashes change the result (fold {fold}): {torn:#?}, and without them {whole:#?}"
                )));
            }
        }
        Ok((plan, whole))
    }

    fn in_one_epoch(&self, plan: &Arc<Plan>) -> Outcome {
        let mut engine = engine(plan, FOLDS[1]);
        for arrival in &self.arrivals {
            deliver(&mut engine, arrival);
        }
        engine.finish();
        let mut disk = Disk::default();
        disk.commit(engine.seal(self.clock()));
        disk.outcome
    }

    fn with_crashes(&self, plan: &Arc<Plan>, fold: u64) -> Outcome {
        let mut disk = Disk::default();
        for arrival in &self.arrivals {
            // Lost before its commit, and so delivered again.
            deliver(&mut disk.restore(plan, fold), arrival);
            let mut engine = disk.restore(plan, fold);
            deliver(&mut engine, arrival);
            disk.commit(engine.seal(self.clock()));
        }
        let mut engine = disk.restore(plan, fold);
        engine.finish();
        disk.commit(engine.seal(self.clock()));
        disk.outcome
    }

    fn clock(&self) -> Clock {
        clock_at(self.clock)
    }
}

fn clock_at(wall: EventTime) -> Clock {
    Clock {
        wall,
        steady_micros: 0,
    }
}

fn engine(plan: &Arc<Plan>, least_fold_bytes: u64) -> Engine {
    let options = EngineOptions {
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes,
        connections: Vec::new(),
    };
    Engine::new(plan.clone(), &options)
}

fn deliver(engine: &mut Engine, arrival: &Arrival) {
    let message = Message {
        topic: "plant/line-1/sensor",
        payload: arrival.payload.as_bytes(),
        qos: 1,
        retain: false,
        received: arrival.at,
    };
    let plan = engine.plan().clone();
    for (id, source) in plan.sources.iter().enumerate() {
        if source.name == arrival.table.as_str() {
            let id = headwater::plan::SourceId(id);
            engine.deliver_to(id, &message, clock_at(arrival.at));
        }
    }
}

/// What came out.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Ids and JSON lines.
    rows: Vec<(String, String)>,
    /// Reasons and details.
    dead: Vec<Vec<String>>,
}

/// What a store keeps.
#[derive(Default)]
struct Disk {
    epoch: u64,
    meta: Vec<u8>,
    base: Vec<Vec<u8>>,
    deltas: Vec<Vec<u8>>,
    outcome: Outcome,
}

impl Disk {
    fn commit(&mut self, sealed: SealedEpoch) {
        assert_eq!(sealed.epoch, self.epoch + 1);
        self.epoch = sealed.epoch;
        self.meta = sealed.meta;
        match sealed.state {
            StateChange::Unchanged => {}
            StateChange::Delta(delta) => self.deltas.push(delta),
            StateChange::Snapshot(base) => {
                self.base = base;
                self.deltas.clear();
            }
        }
        let rows = sealed.local.into_iter();
        let rows = rows.map(|row| (row.id.to_string(), row.line));
        self.outcome.rows.extend(rows);
        let dead = sealed.dead.into_iter();
        let dead = dead.map(|letter| vec![letter.reason.to_owned(), letter.detail]);
        self.outcome.dead.extend(dead);
    }

    fn restore(&self, plan: &Arc<Plan>, fold: u64) -> Engine {
        let mut engine = engine(plan, fold);
        if self.epoch > 0 {
            let stored = Stored {
                epoch: self.epoch,
                meta: &self.meta,
                base: &self.base,
                deltas: &self.deltas,
            };
            engine.restore(&stored, &[]).unwrap();
        }
        engine
    }
}

fn catalog() -> Catalog {
    Catalog {
        connections: vec!["broker".to_owned()],
    }
}

fn bare_name(word: &str) -> String {
    let name = word.split('(').next().unwrap_or_default();
    name.trim_matches('`').to_owned()
}

/// The statement with a connector of which the harness plays the part, unless it names one.
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

/// `2024-01-01T00:00:00Z` as a point in time, through the functions under test.
fn instant(text: &str) -> EventTime {
    let micros =
        headwater::codec::parse_timestamp(text, &headwater::codec::TimestampFormat::Iso8601, true);
    EventTime::from_micros(micros.expect("the clock is set to ISO 8601 with a zone"))
}

/// The values of a JSON line, in its order, names left out.
fn cells(line: &str) -> Vec<String> {
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
    let Cells(cells) = serde_json::from_str(line).expect("a row is a JSON object");
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

/// A constant of VALUES.
struct Literal {
    text: String,
    quoted: bool,
}

impl Literal {
    fn json(&self, ty: &Type) -> String {
        if !self.quoted {
            return self.text.to_lowercase();
        }
        match ty {
            Type::Array(_) | Type::Map(..) | Type::Row(_) => self.text.clone(),
            _ => serde_json::to_string(&self.text).unwrap(),
        }
    }
}

/// Reads the rows of VALUES.
struct Literals<'a>(&'a str);

impl<'a> Literals<'a> {
    fn behind_the_table(sql: &'a str) -> Self {
        let mut literals = Self(sql);
        for _ in ["INSERT", "INTO", "table"] {
            literals.word();
        }
        literals
    }

    fn word(&mut self) -> String {
        let rest = self.0.trim_start();
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '(' || c == '\'')
            .unwrap_or(rest.len());
        self.0 = &rest[end..];
        rest[..end].to_uppercase()
    }

    fn takes(&mut self, sign: char) -> bool {
        let rest = self.0.trim_start();
        match rest.strip_prefix(sign) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn row(&mut self) -> Vec<Literal> {
        assert!(self.takes('('), "a row begins at {:?}", self.0);
        let mut row = vec![self.literal()];
        while self.takes(',') {
            row.push(self.literal());
        }
        assert!(self.takes(')'), "a row ends at {:?}", self.0);
        row
    }

    fn literal(&mut self) -> Literal {
        let mut rest = self.0.trim_start();
        for word in ["TIMESTAMP", "DATE", "TIME"] {
            if let Some(after) = rest.strip_prefix(word) {
                rest = after.trim_start();
            }
        }
        if let Some(mut inside) = rest.strip_prefix('\'') {
            let mut text = String::new();
            loop {
                let end = inside.find('\'').expect("a string ends");
                text.push_str(&inside[..end]);
                inside = &inside[end + 1..];
                match inside.strip_prefix('\'') {
                    Some(after) => {
                        text.push('\'');
                        inside = after;
                    }
                    None => break,
                }
            }
            self.0 = inside;
            return Literal { text, quoted: true };
        }
        let end = rest.find([',', ')']).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Literal {
            text: rest[..end].trim().to_owned(),
            quoted: false,
        }
    }
}
