//! Rewrites what sqlparser cannot read into what it can, in the tokens before it sees them.
//!
//! | written | becomes |
//! |---|---|
//! | `TABLE t [PARTITION BY k]` as an argument | `$table(t, k)` |
//! | `TABLE (SELECT …) [PARTITION BY k]` as an argument | `$table((SELECT …), k)` |
//! | `CAST(x AS ROW<a INT>)`, any type | ``CAST(x AS $type_0)``, the type kept aside |
//! | `RETURNING INT`, any type | `RETURNING $type_0` |
//! | `MAP[k, v]` | `$map(k, v)` |
//! | `LIMIT DURATION(minute, 5)`, Azure's | `RANGE INTERVAL '5' MINUTE PRECEDING` |
//! | `t MATCH_RECOGNIZE (…) AS m` | `t $match_0`, the clause kept aside |
//!
//! Invariant: a token that is put in has the place of what it stands for, so that messages point into the text.

use sqlparser::ast::{Expr, Query};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};

use crate::plan::Diagnostic;

use super::cursor::{Cursor, shown};
use super::datatype::{self, Written};
use super::dialect::Flink;
use super::lex::{is_keyword, is_word, place};
use super::pattern;
use super::syntax::JSON_FUNCTIONS;

/// How deep sqlparser may recurse. Each level costs stack.
const RECURSION: usize = 64;

/// The function that stands for a `TABLE t` argument.
pub(super) const TABLE: &str = "$table";
/// The function that stands for `MAP[…]`.
pub(super) const MAP: &str = "$map";
/// What the name of a type kept aside begins with.
const TYPE: &str = "$type_";
/// What the alias that stands for a `MATCH_RECOGNIZE` begins with.
const MATCH: &str = "$match_";

/// A parsed piece of SQL and what was kept aside.
#[derive(Clone, Debug)]
pub(super) struct Parsed<T> {
    /// The syntax tree.
    pub(super) ast: T,
    /// The types of its casts, and its row patterns.
    pub(super) types: Types,
}

/// Types and row patterns kept aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Types {
    written: Vec<Written>,
    patterns: Vec<pattern::Clause>,
}

impl Types {
    /// The type that this name stands for.
    pub(super) fn get(&self, name: &str) -> Option<&Written> {
        self.written
            .get(name.strip_prefix(TYPE)?.parse::<usize>().ok()?)
    }

    /// The `MATCH_RECOGNIZE` that this alias stands for.
    pub(super) fn pattern(&self, alias: &str) -> Option<&pattern::Clause> {
        self.patterns
            .get(alias.strip_prefix(MATCH)?.parse::<usize>().ok()?)
    }
}

/// Parses a query.
pub(super) fn query(file: &str, tokens: &[TokenWithSpan]) -> Result<Parsed<Query>, Diagnostic> {
    parse(file, tokens, |parser| {
        parser.parse_query().map(|query| *query)
    })
}

/// Parses an expression.
pub(super) fn expr(file: &str, tokens: &[TokenWithSpan]) -> Result<Parsed<Expr>, Diagnostic> {
    // A closure, because the method itself is tied to one lifetime.
    #[allow(clippy::redundant_closure_for_method_calls)]
    parse(file, tokens, |parser| parser.parse_expr())
}

fn parse<T>(
    file: &str,
    tokens: &[TokenWithSpan],
    read: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Result<Parsed<T>, Diagnostic> {
    let (spliced, types) = splice(file, tokens)?;
    let mut parser = Parser::new(&Flink)
        .with_recursion_limit(RECURSION)
        .with_tokens_with_locations(spliced);
    let ast = read(&mut parser).map_err(|error| explain(file, &error, tokens))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(Diagnostic {
            place: place(file, next.span.start),
            message: format!(
                "expected the end of the statement, found {}",
                plain(&shown(&next.token))
            ),
            hint: None,
        });
    }
    Ok(Parsed { ast, types })
}

/// An error of sqlparser as one of ours: its place stands in its text.
fn explain(file: &str, error: &ParserError, tokens: &[TokenWithSpan]) -> Diagnostic {
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    let (message, location) = match text.rsplit_once(" at Line: ").and_then(|(message, rest)| {
        let (line, column) = rest.split_once(", Column: ")?;
        Some((
            message,
            Location {
                line: line.parse().ok()?,
                column: column.trim().parse().ok()?,
            },
        ))
    }) {
        // SELECT a, FROM t: sqlparser takes FROM for a name and gives the place of what follows it.
        Some((message, location)) if message.starts_with("Expected an expression, found") => {
            let before = tokens.iter().rev().find(|t| t.span.start < location);
            (message, before.map_or(location, |t| t.span.start))
        }
        Some((message, location)) if location.line > 0 => (message, location),
        _ => (
            text,
            tokens
                .last()
                .map_or(Location { line: 1, column: 1 }, |t| t.span.end),
        ),
    };
    let message = message
        .replace("Expected: ", "expected ")
        .replace("Expected ", "expected ")
        .replace("found: EOF", "found the end of the statement")
        .replace("found: ", "found ")
        .replace(TABLE, "TABLE")
        .replace(MAP, "MAP");
    let message = plain(&message);
    Diagnostic {
        place: place(file, location),
        message,
        hint: matches!(error, ParserError::RecursionLimitExceeded)
            .then(|| "split it with views".to_owned()),
    }
}

/// A message with `MATCH_RECOGNIZE` in the place of the alias that stands for it.
fn plain(message: &str) -> String {
    match message.split_once(MATCH) {
        Some((before, behind)) => {
            let behind = behind.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}MATCH_RECOGNIZE{behind}")
        }
        None => message.to_owned(),
    }
}

fn splice(file: &str, tokens: &[TokenWithSpan]) -> Result<(Vec<TokenWithSpan>, Types), Diagnostic> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut types = Vec::new();
    let mut patterns = Vec::new();
    // What each open bracket is.
    let mut open: Vec<Bracket> = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        let before = at.checked_sub(1).and_then(|i| tokens.get(i));
        match &token.token {
            Token::LParen => {
                let cast = before.is_some_and(|t| {
                    is_keyword(t, Keyword::CAST) || is_keyword(t, Keyword::TRY_CAST)
                });
                let json = before.is_some_and(|t| JSON_FUNCTIONS.iter().any(|f| is_word(t, f)));
                open.push(match (cast, json) {
                    (true, _) => Bracket::Cast,
                    (_, true) => Bracket::Json,
                    _ => Bracket::Plain,
                });
            }
            Token::LBracket if before.is_some_and(|t| is_word(t, "MAP")) => {
                open.push(Bracket::Map);
                out.pop();
                out.push(word(MAP, token.span));
                out.push(TokenWithSpan::new(Token::LParen, token.span));
                at += 1;
                continue;
            }
            Token::LBracket | Token::LBrace => open.push(Bracket::Plain),
            Token::RBracket if open.last() == Some(&Bracket::Map) => {
                open.pop();
                out.push(TokenWithSpan::new(Token::RParen, token.span));
                at += 1;
                continue;
            }
            Token::RParen if open.last() == Some(&Bracket::Query) => {
                open.pop();
                out.push(token.clone());
                let mut cursor = Cursor::new(file, &tokens[at + 1..]);
                partition_by(&mut cursor, token.span, &mut out)?;
                out.push(TokenWithSpan::new(Token::RParen, token.span));
                at = tokens.len() - cursor.rest().len();
                continue;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                open.pop();
            }
            Token::Word(_)
                if is_keyword(token, Keyword::AS) && open.last() == Some(&Bracket::Cast) =>
            {
                let mut cursor = Cursor::new(file, &tokens[at + 1..]);
                let written = datatype::parse(&mut cursor)?;
                if !matches!(cursor.peek().map(|t| &t.token), Some(Token::RParen)) {
                    return Err(cursor.expected(")"));
                }
                keep_aside(&mut out, &mut types, token, written);
                at = tokens.len() - cursor.rest().len();
                continue;
            }
            Token::Word(_)
                if is_keyword(token, Keyword::RETURNING) && open.last() == Some(&Bracket::Json) =>
            {
                let mut cursor = Cursor::new(file, &tokens[at + 1..]);
                keep_aside(&mut out, &mut types, token, datatype::parse(&mut cursor)?);
                at = tokens.len() - cursor.rest().len();
                continue;
            }
            Token::Word(_)
                if is_word(token, "MATCH_RECOGNIZE")
                    && matches!(next.map(|t| &t.token), Some(Token::LParen)) =>
            {
                let mut cursor = Cursor::new(file, &tokens[at + 1..]);
                out.push(word(&format!("{MATCH}{}", patterns.len()), token.span));
                patterns.push(pattern::parse(&mut cursor)?);
                at = tokens.len() - cursor.rest().len();
                continue;
            }
            Token::Word(_)
                if is_keyword(token, Keyword::LIMIT)
                    && next.is_some_and(|t| is_word(t, "DURATION")) =>
            {
                let mut cursor = Cursor::new(file, &tokens[at + 2..]);
                out.extend(duration(&mut cursor, token.span)?);
                at = tokens.len() - cursor.rest().len();
                continue;
            }
            Token::Word(_)
                if is_keyword(token, Keyword::TABLE)
                    && matches!(next.map(|t| &t.token), Some(Token::LParen))
                    && tokens.get(at + 2).is_some_and(|t| {
                        is_keyword(t, Keyword::SELECT) || is_keyword(t, Keyword::WITH)
                    }) =>
            {
                out.push(word(TABLE, token.span));
                out.push(TokenWithSpan::new(Token::LParen, token.span));
                out.extend(next.cloned());
                open.push(Bracket::Query);
                at += 2;
                continue;
            }
            Token::Word(_)
                if is_keyword(token, Keyword::TABLE)
                    && matches!(next.map(|t| &t.token), Some(Token::Word(_)))
                    && matches!(
                        before.map(|t| &t.token),
                        Some(Token::LParen | Token::Comma | Token::RArrow)
                    ) =>
            {
                at += 1 + table_argument(file, token, &tokens[at + 1..], &mut out)?;
                continue;
            }
            _ => {}
        }
        out.push(token.clone());
        at += 1;
    }
    let types = Types {
        written: types,
        patterns,
    };
    Ok((out, types))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Plain,
    Cast,
    Json,
    Map,
    /// The query of a `TABLE (SELECT …)` argument.
    Query,
}

/// Puts in the word before a type and the name that stands for the type.
fn keep_aside(
    out: &mut Vec<TokenWithSpan>,
    types: &mut Vec<Written>,
    before: &TokenWithSpan,
    written: Written,
) {
    out.push(before.clone());
    out.push(word(&format!("{TYPE}{}", types.len()), before.span));
    types.push(written);
}

/// The units of `LIMIT DURATION`, with Azure's names for them.
const DURATION_UNITS: [(&str, [&str; 3]); 4] = [
    ("SECOND", ["SECOND", "SS", "S"]),
    ("MINUTE", ["MINUTE", "MI", "N"]),
    ("HOUR", ["HOUR", "HH", "H"]),
    ("DAY", ["DAY", "DD", "D"]),
];

/// The frame that Azure's `LIMIT DURATION(unit, length)` means.
fn duration(cursor: &mut Cursor<'_>, span: Span) -> Result<[TokenWithSpan; 5], Diagnostic> {
    let hinted = |error: Diagnostic| Diagnostic {
        hint: Some("write LIMIT DURATION(minute, 5), with day, hour, minute or second".to_owned()),
        ..error
    };
    cursor.expect_sign(&Token::LParen).map_err(hinted)?;
    let unit = cursor.peek().and_then(|token| {
        let mut units = DURATION_UNITS.iter();
        units.find(|(_, names)| names.iter().any(|name| is_word(token, name)))
    });
    let Some((unit, _)) = unit else {
        return Err(hinted(cursor.expected("a unit of time")));
    };
    cursor.advance();
    cursor.expect_sign(&Token::Comma).map_err(hinted)?;
    let Some(Token::Number(length, _)) = cursor.peek().map(|t| &t.token) else {
        return Err(hinted(cursor.expected("a number")));
    };
    cursor.advance();
    cursor.expect_sign(&Token::RParen).map_err(hinted)?;
    let length = Token::SingleQuotedString(length.clone());
    Ok([
        Token::make_keyword("RANGE"),
        Token::make_keyword("INTERVAL"),
        length,
        Token::make_keyword(unit),
        Token::make_keyword("PRECEDING"),
    ]
    .map(|token| TokenWithSpan::new(token, span)))
}

/// Writes `$table(name, keys…)` and gives how many tokens after TABLE it stands for.
fn table_argument(
    file: &str,
    table: &TokenWithSpan,
    rest: &[TokenWithSpan],
    out: &mut Vec<TokenWithSpan>,
) -> Result<usize, Diagnostic> {
    let sign = |token, span| TokenWithSpan::new(token, span);
    out.push(word(TABLE, table.span));
    out.push(sign(Token::LParen, table.span));
    let mut cursor = Cursor::new(file, rest);
    out.extend(cursor.advance().cloned());
    while matches!(cursor.peek().map(|t| &t.token), Some(Token::Period)) {
        out.extend(cursor.advance().cloned());
        out.extend(cursor.advance().cloned());
    }
    partition_by(&mut cursor, table.span, out)?;
    out.push(sign(Token::RParen, table.span));
    Ok(rest.len() - cursor.rest().len())
}

/// Writes a comma and the name for each column of a PARTITION BY, if there is one.
fn partition_by(
    cursor: &mut Cursor<'_>,
    span: Span,
    out: &mut Vec<TokenWithSpan>,
) -> Result<(), Diagnostic> {
    if !cursor.take(&["PARTITION", "BY"]) {
        return Ok(());
    }
    let many = cursor.take_sign(&Token::LParen);
    loop {
        out.push(TokenWithSpan::new(Token::Comma, span));
        let name = cursor.peek().cloned();
        cursor
            .name("a column to partition by")
            .map_err(|e| Diagnostic {
                hint: Some("write PARTITION BY column, or PARTITION BY (a, b)".to_owned()),
                ..e
            })?;
        out.extend(name);
        if !(many && cursor.take_sign(&Token::Comma)) {
            break;
        }
    }
    if many {
        cursor.expect_sign(&Token::RParen)?;
    }
    Ok(())
}

/// A name that stands for something else.
pub(super) fn word(value: &str, span: Span) -> TokenWithSpan {
    let word = Word {
        value: value.to_owned(),
        quote_style: None,
        keyword: Keyword::NoKeyword,
    };
    TokenWithSpan::new(Token::Word(word), span)
}
