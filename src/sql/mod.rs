//! Floor 3: SQL text to plan. The only room that knows sqlparser.
//!
//! The way: `lex` cuts files into statements with bounds; `statement`, `table`, `datatype` and `cursor` read what is
//! our own grammar; `splice` rewrites tokens so that sqlparser reads the rest; `declare` and `options` say what
//! tables mean; `query`, `select`, `from`, `window`, `alarm`, `aggregate`, `grouping_sets`, `over`, `limit` and `insert` make steps of them in a `scope` by `convert`ing
//! expressions and `call`s; `graph` keeps each step once.
//!
//! Invariants: all errors come at once, each with file, line, column and a remedy; what is not supported is refused
//! by name and never ignored; arbitrary text does not panic. The order of statements and files does not matter.

mod aggregate;
mod alarm;
mod align;
mod as_of;
mod call;
mod columns;
mod convert;
mod cursor;
mod datatype;
mod declare;
mod dialect;
mod discovery;
mod from;
mod graph;
mod grouping_sets;
mod insert;
mod interval;
mod join;
mod json;
mod lex;
mod limit;
mod options;
mod over;
mod pattern;
mod planner;
mod query;
mod scope;
mod select;
mod silence;
mod splice;
mod statement;
mod syntax;
mod table;
mod table_argument;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;

use crate::plan::{Diagnostic, Place, Plan};

pub use over::detector_names;
use planner::Planner;
use statement::{InsertDef, Statement, ViewDef};
use table::TableDef;

/// What SQL may refer to outside of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The names of the connections in the configuration.
    pub connections: Vec<String>,
}

/// What a compilation gives: the plan with warnings, or all errors.
pub type Compiled = Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Compiles SQL files, given as name and text, to a plan. With the plan come warnings; without it all errors.
pub fn compile(files: &[(String, String)], catalog: &Catalog) -> Compiled {
    let Read {
        declared,
        broken,
        problems,
    } = read(files);
    let Declared {
        tables,
        views,
        inserts,
    } = declared;
    let complete = problems.is_empty();
    let mut planner = Planner::new(catalog, &tables, &views);
    planner.broken = broken;
    for table in tables.values() {
        planner.check_options(table);
    }
    for insert in &inserts {
        // What is wrong has been reported.
        let _ = planner.insert(insert);
    }
    if complete {
        look_over(&mut planner, &tables, &views, inserts.is_empty());
    }
    compiled(planner, problems, files)
}

/// Compiles one query over the tables and views of SQL files: its rows go to a sink named `query` that prints JSON,
/// with the columns of the query. The INSERTs of the files are left out; their tables are read all the same.
///
/// `query` is its name, for messages, and its text. Two columns of one name become two fields of one name.
pub fn compile_query(
    files: &[(String, String)],
    query: &(String, String),
    catalog: &Catalog,
) -> Compiled {
    let Read {
        declared,
        broken,
        mut problems,
    } = read(files);
    let parsed = statement::bare_query(&query.0, &query.1, &mut problems);
    let mut planner = Planner::new(catalog, &declared.tables, &declared.views);
    planner.broken = broken;
    for table in declared.tables.values() {
        planner.check_options(table);
    }
    if let Some(parsed) = parsed {
        // What is wrong has been reported.
        let _ = planner.bare(parsed);
    }
    let mut all = files.to_vec();
    all.push(query.clone());
    compiled(planner, problems, &all)
}

/// What the files say, and what is wrong with how they say it.
struct Read {
    declared: Declared,
    broken: Vec<String>,
    problems: Vec<Diagnostic>,
}

fn read(files: &[(String, String)]) -> Read {
    let mut problems = Vec::new();
    let mut statements = Vec::new();
    let mut broken = Vec::new();
    for (file, text) in files {
        let chunks = lex::statements(file, text, &mut problems);
        statements.extend(statement::parse(&chunks, &mut problems, &mut broken));
    }
    Read {
        declared: declared(statements, &mut problems),
        broken,
        problems,
    }
}

/// The result of planning; `before` was wrong already.
fn compiled(planner: Planner<'_>, before: Vec<Diagnostic>, files: &[(String, String)]) -> Compiled {
    let Planner {
        graph,
        problems: found,
        mut warnings,
        ..
    } = planner;
    let mut problems: Vec<Diagnostic> = [before, found].concat();
    let plan = graph.finish();
    if problems.is_empty() {
        let (wrong, risky) = limit::look_over(&plan);
        problems.extend(wrong);
        warnings.extend(risky);
        warnings.extend(silence::look_over(&plan));
        problems.extend(window::refuse_steps_behind_revisions(&plan));
    }
    in_order(files, &mut problems);
    in_order(files, &mut warnings);
    if problems.is_empty() {
        Ok((align::align(plan), warnings))
    } else {
        Err(problems)
    }
}

struct Declared {
    tables: BTreeMap<String, TableDef>,
    views: BTreeMap<String, ViewDef>,
    inserts: Vec<InsertDef>,
}

fn declared(statements: Vec<Statement>, problems: &mut Vec<Diagnostic>) -> Declared {
    let mut all = Declared {
        tables: BTreeMap::new(),
        views: BTreeMap::new(),
        inserts: Vec::new(),
    };
    for statement in statements {
        let (name, place) = match &statement {
            Statement::Table(table) => (table.name.value.clone(), table.place.clone()),
            Statement::View(view) => (view.name.value.clone(), view.place.clone()),
            Statement::Insert(_) => {
                if let Statement::Insert(insert) = statement {
                    all.inserts.push(insert);
                }
                continue;
            }
        };
        let first = all
            .tables
            .get(&name)
            .map(|t| &t.place)
            .or_else(|| all.views.get(&name).map(|v| &v.place));
        if let Some(first) = first {
            let message = format!("{name} is declared twice");
            let hint = Some(format!("rename one: the first stands at {first}"));
            problems.push(Diagnostic {
                place,
                message,
                hint,
            });
            continue;
        }
        match statement {
            Statement::Table(table) => drop(all.tables.insert(name, table)),
            Statement::View(view) => drop(all.views.insert(name, view)),
            Statement::Insert(_) => {}
        }
    }
    all
}

/// What is left when all INSERTs are planned: views nobody uses, options without effect, tables nobody needs.
fn look_over(
    planner: &mut Planner<'_>,
    tables: &BTreeMap<String, TableDef>,
    views: &BTreeMap<String, ViewDef>,
    idle: bool,
) {
    for (name, view) in views {
        if !planner.used.contains(name) {
            // It is checked all the same.
            let relation = planner.view(view).ok();
            planner.planned.insert(name.clone(), relation);
            warn(
                planner,
                &view.place,
                format!("the view {name} is not used"),
                "remove it, or read it in an INSERT",
            );
        }
    }
    for (name, table) in tables {
        let (read, written) = (planner.used.contains(name), planner.written.contains(name));
        if !read && !written {
            warn(
                planner,
                &table.place,
                format!("the table {name} is not used"),
                "remove it, or read or write it in an INSERT",
            );
            continue;
        }
        if planner.problems.is_empty() {
            planner.refuse_idle_options(table, read, written);
        }
        if !read && let Some(watermark) = &table.watermark {
            warn(
                planner,
                &watermark.place,
                format!("the watermark of {name} has no effect: the table is only written"),
                "remove it",
            );
        }
        if let Some(place) = &table.primary_key {
            warn(
                planner,
                place,
                "the PRIMARY KEY changes nothing: events are sent one by one".to_owned(),
                "remove it; to keep the last event of each key, use 'retain' = 'true' and a topic for each key",
            );
        }
    }
    if idle && planner.problems.is_empty() {
        let place = tables
            .values()
            .map(|t| t.place.clone())
            .next()
            .unwrap_or_default();
        warn(
            planner,
            &place,
            "there is no INSERT, so nothing happens".to_owned(),
            "write INSERT INTO table SELECT …",
        );
    }
}

fn warn(planner: &mut Planner<'_>, place: &Place, message: String, hint: &str) {
    planner.warnings.push(Diagnostic {
        place: place.clone(),
        message,
        hint: Some(hint.to_owned()),
    });
}

/// Sorts by file as given, line and column; what is said twice is said once.
fn in_order(files: &[(String, String)], problems: &mut Vec<Diagnostic>) {
    let rank = |file: &str| files.iter().position(|(name, _)| name == file);
    problems.sort_by(|a, b| {
        let key = |d: &Diagnostic| (rank(&d.place.file), d.place.line, d.place.column);
        key(a).cmp(&key(b))
    });
    problems.dedup();
}
