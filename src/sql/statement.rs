//! Statements: which kinds there are, and what is said to those that are not.

use sqlparser::ast::{Ident, Query};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::plan::{Diagnostic, Place, nearest, quantity};
use crate::types::Timespan;

use super::cursor::Cursor;
use super::lex::Chunk;
use super::splice::{self, Parsed};
use super::table::{self, TableDef};

/// A statement that is understood.
#[derive(Debug)]
pub(super) enum Statement {
    /// CREATE TABLE.
    Table(TableDef),
    /// CREATE VIEW.
    View(ViewDef),
    /// INSERT INTO.
    Insert(InsertDef),
}

/// CREATE VIEW.
#[derive(Debug)]
pub(super) struct ViewDef {
    /// Its name.
    pub(super) name: Ident,
    /// Where the name stands.
    pub(super) place: Place,
    /// New names of its columns.
    pub(super) columns: Vec<Ident>,
    /// What it is.
    pub(super) query: Parsed<Query>,
    /// How long its state is kept that has no bound of its own, if that is said.
    pub(super) ttl: Option<Timespan>,
}

/// INSERT INTO.
#[derive(Debug)]
pub(super) struct InsertDef {
    /// The table that is written.
    pub(super) target: Ident,
    /// Where its name stands.
    pub(super) place: Place,
    /// The columns that are given, or none for all.
    pub(super) columns: Vec<Ident>,
    /// The rows.
    pub(super) query: Parsed<Query>,
    /// How long its state is kept that has no bound of its own, if that is said.
    pub(super) ttl: Option<Timespan>,
}

/// A query that is all of a text, but for settings before it.
#[derive(Debug)]
pub(super) struct BareQuery {
    /// Where it begins.
    pub(super) place: Place,
    /// The rows.
    pub(super) query: Parsed<Query>,
    /// How long its state is kept that has no bound of its own, if that is said.
    pub(super) ttl: Option<Timespan>,
}

/// Parses the statements of a file.
///
/// `broken` gets the names whose declarations are wrong: who uses them is not blamed for it.
pub(super) fn parse(
    chunks: &[Chunk],
    problems: &mut Vec<Diagnostic>,
    broken: &mut Vec<String>,
) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut set: Option<Place> = None;
    let mut ttl = None;
    for chunk in chunks {
        let mut cursor = Cursor::new(&chunk.file, &chunk.tokens);
        let place = cursor.place();
        if cursor.take(&["EXECUTE", "STATEMENT", "SET", "BEGIN"])
            || cursor.take(&["BEGIN", "STATEMENT", "SET"])
        {
            if set.replace(place.clone()).is_some() {
                problems.push(Diagnostic {
                    place,
                    message: "a statement set begins inside of another".to_owned(),
                    hint: Some("end the first with END;".to_owned()),
                });
            }
        } else if set.is_some() && (cursor.looks_at(&["END"])) {
            cursor.advance();
            set = None;
        }
        if cursor.is_at_end() {
            continue;
        }
        let declared = declared_name(cursor.clone());
        if !chunk.sound {
            broken.extend(declared);
            continue;
        }
        if let Some(setting) = setting(&mut cursor) {
            match setting {
                Ok(setting) => ttl = setting,
                Err(problem) => problems.push(problem),
            }
            continue;
        }
        match statement(&mut cursor, ttl) {
            Ok(statement) => statements.push(statement),
            Err(problem) => {
                problems.push(problem);
                broken.extend(declared);
            }
        }
    }
    if let Some(place) = set {
        problems.push(Diagnostic {
            place,
            message: "the statement set has no end".to_owned(),
            hint: Some("write END; after its last INSERT".to_owned()),
        });
    }
    statements
}

/// The one query that a text is.
pub(super) fn bare_query(
    file: &str,
    text: &str,
    problems: &mut Vec<Diagnostic>,
) -> Option<BareQuery> {
    let before = problems.len();
    let chunks = super::lex::statements(file, text, problems);
    let mut ttl = None;
    let mut chunks = chunks.iter().filter(|chunk| !chunk.tokens.is_empty());
    let mut first = chunks.next();
    while let Some(chunk) = first
        && let Some(setting) = setting(&mut Cursor::new(&chunk.file, &chunk.tokens))
    {
        match setting {
            Ok(setting) => ttl = setting,
            Err(problem) => problems.push(problem),
        }
        first = chunks.next();
    }
    let second = chunks.next();
    if problems.len() > before {
        return None;
    }
    if let Some(second) = second {
        let place = Cursor::new(&second.file, &second.tokens).place();
        problems.push(Diagnostic {
            place,
            message: "one query is expected, and here begins a second statement".to_owned(),
            hint: Some("remove it".to_owned()),
        });
        return None;
    }
    let Some(first) = first else {
        problems.push(Diagnostic {
            place: Place::of_offset(file, text, 0),
            message: "there is no query".to_owned(),
            hint: Some("write SELECT … FROM a table".to_owned()),
        });
        return None;
    };
    let cursor = Cursor::new(&first.file, &first.tokens);
    match splice::query(cursor.file(), cursor.rest()) {
        Ok(query) => Some(BareQuery {
            place: cursor.place(),
            query,
            ttl,
        }),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// The name that a CREATE declares, whatever follows.
fn declared_name(mut cursor: Cursor<'_>) -> Option<String> {
    cursor.take(&["CREATE"]).then_some(())?;
    cursor.take(&["TEMPORARY"]);
    (cursor.take(&["TABLE"]) || cursor.take(&["VIEW"])).then_some(())?;
    cursor.take(&["IF", "NOT", "EXISTS"]);
    cursor.name("a name").ok().map(|name| name.value)
}

/// `SET 'table.exec.state.ttl' = '1 d'`: how long the statements behind it, in its file, keep state that has no bound of its
/// own. Nothing if it is another statement.
fn setting(cursor: &mut Cursor<'_>) -> Option<Result<Option<Timespan>, Diagnostic>> {
    const TTL: &str = "table.exec.state.ttl";
    let quoted = |token: &TokenWithSpan| matches!(token.token, Token::SingleQuotedString(_));
    if !cursor.looks_at(&["SET"]) || !cursor.peek_nth(1).is_some_and(quoted) {
        return None;
    }
    cursor.advance();
    Some(setting_of(cursor, TTL))
}

fn setting_of(cursor: &mut Cursor<'_>, known: &str) -> Result<Option<Timespan>, Diagnostic> {
    let (key, place) = cursor.string("a setting in quotes")?;
    if key != known {
        return Err(Diagnostic {
            place,
            message: format!("there is no setting '{key}'"),
            hint: Some(format!(
                "the setting is '{known}'; deployment options are in headwater.toml, options of a table in its WITH (…)"
            )),
        });
    }
    cursor.expect_sign(&Token::Eq)?;
    let (value, place) = cursor.string("a duration in quotes")?;
    let at = |message: String| Diagnostic {
        place,
        message,
        hint: Some(format!("write SET '{known}' = '1 d'")),
    };
    let micros = quantity::parse_duration(&value)
        .map_err(at.clone())?
        .as_micros();
    if !cursor.is_at_end() {
        return Err(cursor.expected("the end of the statement"));
    }
    let span = Timespan::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
    // As in Flink, none at all is for ever.
    Ok(span.is_positive().then_some(span))
}

fn statement(cursor: &mut Cursor<'_>, ttl: Option<Timespan>) -> Result<Statement, Diagnostic> {
    let start = cursor.clone();
    if cursor.take(&["CREATE"]) {
        if cursor.looks_at(&["OR", "REPLACE"]) {
            return Err(cursor.error(
                "OR REPLACE is not supported",
                "remove it: files are read anew on each start",
            ));
        }
        cursor.take(&["TEMPORARY"]);
        if cursor.take(&["TABLE"]) {
            return table::parse(cursor).map(Statement::Table);
        }
        if cursor.take(&["VIEW"]) {
            return view(cursor, ttl).map(Statement::View);
        }
        return Err(start.error(
            "only CREATE TABLE and CREATE VIEW are supported",
            other_create(cursor),
        ));
    }
    if cursor.take(&["INSERT"]) {
        if cursor.looks_at(&["OVERWRITE"]) {
            return Err(cursor.error(
                "INSERT OVERWRITE is not supported",
                "events cannot be taken back: write INSERT INTO",
            ));
        }
        cursor.expect(&["INTO"])?;
        return insert(cursor, ttl).map(Statement::Insert);
    }
    Err(refusal(&start))
}

fn other_create(cursor: &Cursor<'_>) -> &'static str {
    if cursor.looks_at(&["FUNCTION"]) || cursor.looks_at(&["SYSTEM"]) {
        "functions cannot be added: write the expression in a view"
    } else {
        "connections and directories are in headwater.toml"
    }
}

/// What is said to a statement that is not supported.
fn refusal(start: &Cursor<'_>) -> Diagnostic {
    const REMEDIES: [(&str, &str); 20] = [
        (
            "SELECT",
            "say where the rows go: INSERT INTO table SELECT …",
        ),
        ("WITH", "put the WITH behind INSERT INTO table"),
        (
            "VALUES",
            "rows come from tables: INSERT INTO table SELECT …",
        ),
        (
            "SET",
            "deployment options are in headwater.toml, options of a table in its WITH (…)",
        ),
        ("RESET", "deployment options are in headwater.toml"),
        ("USE", "there is one catalog: remove the statement"),
        (
            "DROP",
            "remove the CREATE statement instead: files are read anew on each start",
        ),
        (
            "ALTER",
            "change the CREATE statement instead: files are read anew on each start",
        ),
        ("ADD", "nothing can be loaded: remove the statement"),
        ("LOAD", "nothing can be loaded: remove the statement"),
        ("EXPLAIN", "use the command: headwater explain"),
        ("DESCRIBE", "use the command: headwater explain"),
        ("DESC", "use the command: headwater explain"),
        ("SHOW", "use the command: headwater explain"),
        ("DELETE", "events cannot be taken back"),
        ("UPDATE", "events cannot be changed: insert a new one"),
        ("TRUNCATE", "events cannot be taken back"),
        ("ANALYZE", "remove the statement"),
        ("EXECUTE", "write EXECUTE STATEMENT SET BEGIN … END;"),
        ("END", "there is no statement set to end"),
    ];
    let Some(Token::Word(word)) = start.peek().map(|token| &token.token) else {
        return start.expected("a statement: CREATE TABLE, CREATE VIEW or INSERT INTO");
    };
    let upper = word.value.to_ascii_uppercase();
    if let Some((name, remedy)) = REMEDIES.iter().find(|(name, _)| *name == upper) {
        return start.error(format!("{name} is not supported here"), *remedy);
    }
    let hint = match nearest(&upper, ["CREATE", "INSERT"]) {
        Some(near) => format!("did you mean {near}?"),
        None => "statements are CREATE TABLE, CREATE VIEW and INSERT INTO".to_owned(),
    };
    start.error(format!("there is no statement {}", word.value), hint)
}

fn view(cursor: &mut Cursor<'_>, ttl: Option<Timespan>) -> Result<ViewDef, Diagnostic> {
    cursor.take(&["IF", "NOT", "EXISTS"]);
    let place = cursor.place();
    let name = table_name(cursor)?;
    let columns = if cursor.take_sign(&Token::LParen) {
        column_list(cursor)?
    } else {
        Vec::new()
    };
    if cursor.take(&["COMMENT"]) {
        cursor.string("a comment in quotes")?;
    }
    cursor.expect(&["AS"])?;
    let query = splice::query(cursor.file(), cursor.rest())?;
    Ok(ViewDef {
        name,
        place,
        columns,
        query,
        ttl,
    })
}

fn insert(cursor: &mut Cursor<'_>, ttl: Option<Timespan>) -> Result<InsertDef, Diagnostic> {
    cursor.take(&["TABLE"]);
    let place = cursor.place();
    let target = table_name(cursor)?;
    if cursor.looks_at(&["PARTITION"]) {
        return Err(cursor.error(
            "PARTITION is not supported",
            "write the column with the others",
        ));
    }
    // A parenthesis may also open the query.
    let query_follows = cursor.peek_nth(1).is_some_and(|t| {
        super::lex::is_word(t, "SELECT")
            || super::lex::is_word(t, "WITH")
            || t.token == Token::LParen
    });
    let columns = if !query_follows && cursor.take_sign(&Token::LParen) {
        column_list(cursor)?
    } else {
        Vec::new()
    };
    let query = splice::query(cursor.file(), cursor.rest())?;
    Ok(InsertDef {
        target,
        place,
        columns,
        query,
        ttl,
    })
}

/// The name of a table or view; those of other catalogs do not exist.
pub(super) fn table_name(cursor: &mut Cursor<'_>) -> Result<Ident, Diagnostic> {
    let start = cursor.clone();
    let name = cursor.name("a name")?;
    if matches!(cursor.peek().map(|t| &t.token), Some(Token::Period)) {
        return Err(start.error(
            "names of catalogs and databases are not supported",
            "write the name of the table alone",
        ));
    }
    Ok(name)
}

/// Names up to the closing parenthesis.
pub(super) fn column_list(cursor: &mut Cursor<'_>) -> Result<Vec<Ident>, Diagnostic> {
    let mut names = Vec::new();
    loop {
        names.push(cursor.name("a column's name")?);
        if !cursor.take_sign(&Token::Comma) {
            break;
        }
    }
    cursor.expect_sign(&Token::RParen)?;
    Ok(names)
}
