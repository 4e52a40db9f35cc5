//! `MATCH_RECOGNIZE ( … )` as it is written. Only its expressions are read by sqlparser, which cannot read the rest.
//!
//! Deliberately absent: what names mean. A clause that is not supported is refused here, by name.

use sqlparser::ast::{Expr as Ast, Ident, TableAlias, TableAliasColumnDef};
use sqlparser::keywords::RESERVED_FOR_TABLE_ALIAS;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::plan::{Diagnostic, RowsPerMatch};

use super::super::cursor::Cursor;
use super::super::lex::is_word;
use super::super::splice::{self, Parsed};
use super::tree::{self, Tree};

/// The clause, and the alias behind it.
#[derive(Clone, Debug)]
pub(in super::super) struct Clause {
    pub(super) location: Location,
    pub(super) partition: Vec<Vec<Ident>>,
    pub(super) order: Vec<Order>,
    pub(super) measures: Vec<Measure>,
    pub(super) rows: RowsPerMatch,
    /// Where SHOW TIMEOUT MATCHES stands.
    pub(super) timeouts: Option<Location>,
    pub(super) skip: Option<SkipTo>,
    pub(super) tree: Tree,
    pub(super) within: Option<Written>,
    pub(super) subsets: Vec<(Ident, Vec<Ident>)>,
    pub(super) definitions: Vec<(Ident, Written)>,
    pub(super) alias: Option<TableAlias>,
}

/// A column of ORDER BY.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Its name, behind that of its table if that is given.
    pub(super) column: Vec<Ident>,
    pub(super) descending: bool,
    pub(super) nulls_first: Option<bool>,
}

/// An expression and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) expr: Parsed<Ast>,
    pub(super) location: Location,
}

/// A column of MEASURES.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    pub(super) value: Written,
    pub(super) name: Ident,
}

/// AFTER MATCH.
#[derive(Clone, Debug)]
pub(super) enum SkipTo {
    PastLastRow,
    NextRow,
    First(Ident),
    Last(Ident),
}

/// What begins the parts of the clause behind MEASURES.
const PARTS: &[&str] = &[
    "ONE", "ALL", "AFTER", "PATTERN", "WITHIN", "SUBSET", "DEFINE",
];

/// Reads the clause behind the word `MATCH_RECOGNIZE`, and its alias.
pub(in super::super) fn parse(cursor: &mut Cursor<'_>) -> Result<Clause, Diagnostic> {
    let location = cursor.location();
    cursor.expect_sign(&Token::LParen)?;
    let inside = bracketed(cursor);
    cursor.expect_sign(&Token::RParen)?;
    let mut body = Cursor::new(cursor.file(), inside);
    let mut clause = self::body(&mut body, location)?;
    if !body.is_at_end() {
        return Err(body.expected("the end of MATCH_RECOGNIZE"));
    }
    let named = cursor.take(&["AS"]);
    let alias = cursor.peek().is_some_and(|token| match &token.token {
        Token::Word(word) => named || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword),
        _ => false,
    });
    if named || alias {
        let name = cursor.name("an alias")?;
        let mut columns = Vec::new();
        if cursor.take_sign(&Token::LParen) {
            columns = names(cursor, "the name of a column")?;
            cursor.expect_sign(&Token::RParen)?;
        }
        let column = |name| TableAliasColumnDef {
            name,
            data_type: None,
        };
        clause.alias = Some(TableAlias {
            explicit: named,
            name,
            columns: columns.into_iter().map(column).collect(),
            at: None,
        });
    }
    Ok(clause)
}

fn body(cursor: &mut Cursor<'_>, location: Location) -> Result<Clause, Diagnostic> {
    let mut partition = Vec::new();
    if cursor.take(&["PARTITION", "BY"]) {
        partition = columns(cursor)?;
    }
    let order = order(cursor)?;
    let mut measures = Vec::new();
    if cursor.take(&["MEASURES"]) {
        loop {
            let value = expr(cursor, true)?;
            if !cursor.take(&["AS"]) {
                return Err(cursor.error(
                    "a measure needs a name",
                    "write MEASURES LAST(A.price) AS price",
                ));
            }
            let name = cursor.name("the name of a measure")?;
            measures.push(Measure { value, name });
            if !cursor.take_sign(&Token::Comma) {
                break;
            }
        }
    }
    let (rows, timeouts) = rows_per_match(cursor)?;
    let skip = if cursor.take(&["AFTER", "MATCH"]) {
        Some(skip(cursor)?)
    } else {
        None
    };
    if !cursor.looks_at(&["PATTERN"]) {
        return Err(Diagnostic {
            hint: Some(
                "the parts stand in this order: PARTITION BY, ORDER BY, MEASURES, ONE ROW PER MATCH, AFTER MATCH, \
                 PATTERN, WITHIN, SUBSET, DEFINE"
                    .to_owned(),
            ),
            ..cursor.expected("PATTERN (…)")
        });
    }
    cursor.advance();
    cursor.expect_sign(&Token::LParen)?;
    let mut inside = Cursor::new(cursor.file(), bracketed(cursor));
    let tree = tree::parse(&mut inside)?;
    cursor.expect_sign(&Token::RParen)?;
    let within = if cursor.take(&["WITHIN"]) {
        Some(expr(cursor, false)?)
    } else {
        None
    };
    let mut subsets = Vec::new();
    if cursor.take(&["SUBSET"]) {
        loop {
            let name = cursor.name("the name of a subset")?;
            cursor.expect_sign(&Token::Eq)?;
            cursor.expect_sign(&Token::LParen)?;
            let members = names(cursor, "a pattern variable")?;
            cursor.expect_sign(&Token::RParen)?;
            subsets.push((name, members));
            if !cursor.take_sign(&Token::Comma) {
                break;
            }
        }
    }
    let mut definitions = Vec::new();
    if cursor.take(&["DEFINE"]) {
        loop {
            let name = cursor.name("a pattern variable")?;
            cursor.expect(&["AS"])?;
            definitions.push((name, expr(cursor, false)?));
            if !cursor.take_sign(&Token::Comma) {
                break;
            }
        }
    }
    Ok(Clause {
        location,
        partition,
        order,
        measures,
        rows,
        timeouts,
        skip,
        tree,
        within,
        subsets,
        definitions,
        alias: None,
    })
}

/// The tokens up to the bracket that closes what is open; they are taken, the bracket is not.
fn bracketed<'t>(cursor: &mut Cursor<'t>) -> &'t [TokenWithSpan] {
    let all = cursor.rest();
    let mut depth = 0_usize;
    while let Some(token) = cursor.peek() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => break,
            Token::RParen => depth -= 1,
            _ => {}
        }
        cursor.advance();
    }
    &all[..all.len() - cursor.rest().len()]
}

fn columns(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<Ident>>, Diagnostic> {
    let mut columns = Vec::new();
    loop {
        columns.push(column(cursor)?);
        if matches!(cursor.peek().map(|token| &token.token), Some(Token::LParen)) {
            return Err(cursor.error(
                "PARTITION BY takes columns",
                "compute it in a query: FROM (SELECT …, expression AS key FROM t) MATCH_RECOGNIZE (PARTITION BY key …",
            ));
        }
        if !cursor.take_sign(&Token::Comma) {
            return Ok(columns);
        }
    }
}

/// `column` or `table.column`.
fn column(cursor: &mut Cursor<'_>) -> Result<Vec<Ident>, Diagnostic> {
    let mut names = vec![cursor.name("a column")?];
    while cursor.take_sign(&Token::Period) {
        names.push(cursor.name("a column")?);
    }
    Ok(names)
}

fn names(cursor: &mut Cursor<'_>, what: &str) -> Result<Vec<Ident>, Diagnostic> {
    let mut names = vec![cursor.name(what)?];
    while cursor.take_sign(&Token::Comma) {
        names.push(cursor.name(what)?);
    }
    Ok(names)
}

fn order(cursor: &mut Cursor<'_>) -> Result<Vec<Order>, Diagnostic> {
    let mut order = Vec::new();
    if !cursor.take(&["ORDER", "BY"]) {
        return Ok(order);
    }
    loop {
        let column = column(cursor)?;
        let descending = !cursor.take(&["ASC"]) && cursor.take(&["DESC"]);
        let nulls_first = if cursor.take(&["NULLS", "FIRST"]) {
            Some(true)
        } else {
            cursor.take(&["NULLS", "LAST"]).then_some(false)
        };
        order.push(Order {
            column,
            descending,
            nulls_first,
        });
        if !cursor.take_sign(&Token::Comma) {
            return Ok(order);
        }
    }
}

fn rows_per_match(cursor: &mut Cursor<'_>) -> Result<(RowsPerMatch, Option<Location>), Diagnostic> {
    let mut rows = if cursor.take(&["ALL", "ROWS", "PER", "MATCH"]) {
        RowsPerMatch::All { empty: true }
    } else if cursor.take(&["ONE", "ROW", "PER", "MATCH"]) {
        RowsPerMatch::One
    } else {
        return Ok((RowsPerMatch::One, None));
    };
    let at = cursor.location();
    let timeouts = cursor.take(&["SHOW", "TIMEOUT", "MATCHES"]).then_some(at);
    if rows != RowsPerMatch::One && timeouts.is_none() {
        if cursor.looks_at(&["WITH", "UNMATCHED", "ROWS"]) {
            return Err(cursor.error(
                "WITH UNMATCHED ROWS is not supported: that a row is in no match is known only when all that could take \
                 it have ended",
                "write SHOW EMPTY MATCHES, or another INSERT with a pattern for those rows",
            ));
        }
        if cursor.take(&["OMIT", "EMPTY", "MATCHES"]) {
            rows = RowsPerMatch::All { empty: false };
        } else {
            cursor.take(&["SHOW", "EMPTY", "MATCHES"]);
        }
    }
    if cursor.looks_at(&["SHOW"]) || cursor.looks_at(&["OMIT"]) {
        return Err(cursor.error(
            "this is not known behind PER MATCH",
            "write ONE ROW PER MATCH [SHOW TIMEOUT MATCHES] or ALL ROWS PER MATCH [SHOW EMPTY MATCHES | OMIT EMPTY MATCHES | \
             SHOW TIMEOUT MATCHES]",
        ));
    }
    Ok((rows, timeouts))
}

fn skip(cursor: &mut Cursor<'_>) -> Result<SkipTo, Diagnostic> {
    if cursor.take(&["SKIP", "PAST", "LAST", "ROW"]) {
        return Ok(SkipTo::PastLastRow);
    }
    if cursor.take(&["SKIP", "TO", "NEXT", "ROW"]) {
        return Ok(SkipTo::NextRow);
    }
    cursor.expect(&["SKIP"]).map_err(|e| Diagnostic {
        hint: Some("write AFTER MATCH SKIP PAST LAST ROW".to_owned()),
        ..e
    })?;
    cursor.expect(&["TO"]).map_err(|e| Diagnostic {
        hint: Some(
            "write SKIP PAST LAST ROW, SKIP TO NEXT ROW, SKIP TO FIRST A or SKIP TO LAST A"
                .to_owned(),
        ),
        ..e
    })?;
    // A variable may be called FIRST or LAST.
    let two = matches!(cursor.peek_nth(1).map(|t| &t.token), Some(Token::Word(_)))
        && !cursor.peek_nth(1).is_some_and(|t| is_word(t, "PATTERN"));
    let first = two && cursor.take(&["FIRST"]);
    if two && !first {
        cursor.take(&["LAST"]);
    }
    let name = cursor.name("a pattern variable")?;
    Ok(if first {
        SkipTo::First(name)
    } else {
        SkipTo::Last(name)
    })
}

/// What the name of a function begins with that FINAL stands before.
pub(super) const FINAL: &str = "$FINAL_";

/// An expression up to a comma, an AS or the next part of the clause. RUNNING before a function says what is so anyway;
/// FINAL is put into its name.
fn expr(cursor: &mut Cursor<'_>, measure: bool) -> Result<Written, Diagnostic> {
    let location = cursor.location();
    let mut tokens: Vec<TokenWithSpan> = Vec::new();
    let mut depth = 0_usize;
    while let Some(token) = cursor.peek() {
        let word = |words: &[&str]| words.iter().any(|word| is_word(token, word));
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::Comma if depth == 0 => break,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            // Behind a period it is the name of a column.
            Token::Word(_)
                if depth == 0
                    && (word(&["AS"]) || word(PARTS))
                    && tokens.last().is_none_or(|t| t.token != Token::Period) =>
            {
                break;
            }
            _ => {}
        }
        let called = matches!(cursor.peek_nth(1).map(|t| &t.token), Some(Token::Word(_)))
            && matches!(cursor.peek_nth(2).map(|t| &t.token), Some(Token::LParen));
        if called && word(&["FINAL"]) && !measure {
            return Err(cursor.error(
                "FINAL has no meaning before a match is complete",
                "remove it: in DEFINE all functions are RUNNING",
            ));
        }
        if called && word(&["FINAL", "RUNNING"]) {
            cursor.advance();
            let name = cursor.name("a function")?;
            let prefix = if word(&["FINAL"]) { FINAL } else { "" };
            tokens.push(splice::word(&format!("{prefix}{}", name.value), name.span));
            continue;
        }
        tokens.push(token.clone());
        cursor.advance();
    }
    if tokens.is_empty() {
        return Err(cursor.expected("an expression"));
    }
    let expr = splice::expr(cursor.file(), &tokens)?;
    Ok(Written { expr, location })
}
