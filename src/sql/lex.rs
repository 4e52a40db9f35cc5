//! Text into tokens, tokens into statements, with bounds on both.
//!
//! Invariant: what leaves here is small enough for a recursive parser: so many tokens, so deep a nesting, so long
//! a chain of operators. Comments and white space are gone; every token knows its place.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::plan::{Diagnostic, Place};

use super::dialect::Flink;

/// The largest file, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The longest statement, in tokens.
const MAX_TOKENS: usize = 20_000;
/// The deepest nesting of brackets.
const MAX_DEPTH: usize = 40;
/// The longest chain of operators between two commas.
const MAX_CHAIN: usize = 200;

/// One statement: its tokens without the semicolon.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The file it stands in.
    pub(super) file: String,
    /// At least one.
    pub(super) tokens: Vec<TokenWithSpan>,
    /// Whether nothing has been found wrong with it; else it is not to be parsed.
    pub(super) sound: bool,
}

impl Chunk {
    fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            tokens: Vec::new(),
            sound: true,
        }
    }
}

/// The place of a location of sqlparser.
pub(super) fn place(file: &str, location: Location) -> Place {
    Place {
        file: file.to_owned(),
        line: location.line as usize,
        column: location.column as usize,
    }
}

/// Cuts the text of a file into statements.
pub(super) fn statements(file: &str, text: &str, problems: &mut Vec<Diagnostic>) -> Vec<Chunk> {
    let mut report = |location: Location, message: String, hint: Option<&str>| {
        problems.push(Diagnostic {
            place: place(file, location),
            message,
            hint: hint.map(str::to_owned),
        });
    };
    let start = Location { line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        report(
            start,
            format!("the file is larger than {MAX_BYTES} bytes"),
            Some("split it"),
        );
        return Vec::new();
    }
    // A byte order mark is no SQL, but editors write it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tokens = Vec::new();
    let mut whole = true;
    if let Err(error) = Tokenizer::new(&Flink, text).tokenize_with_location_into_buf(&mut tokens) {
        let message = error.message.trim_end_matches('.').to_lowercase();
        whole = false;
        report(
            error.location,
            message,
            Some("close the string, name or comment that begins here"),
        );
    }
    let mut chunks = Vec::new();
    let mut chunk = Chunk::new(file);
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::SemiColon => {
                chunks.push(std::mem::replace(&mut chunk, Chunk::new(file)));
                continue;
            }
            Token::DoubleQuotedString(_) => {
                chunk.sound = false;
                report(
                    token.span.start,
                    "double quotes are not used in Flink SQL".to_owned(),
                    Some("write strings in single quotes and names in backticks"),
                );
            }
            // Alone it is an anchor of a row pattern.
            Token::Word(word)
                if word.quote_style.is_none() && word.value.contains('$') && word.value != "$" =>
            {
                chunk.sound = false;
                report(
                    token.span.start,
                    format!("a name with a $ needs backticks: `{}`", word.value),
                    None,
                );
            }
            _ => {}
        }
        chunk.tokens.push(token);
    }
    // What cannot be cut into words has no end.
    chunk.sound &= whole;
    chunks.push(chunk);
    chunks.retain(|chunk| !chunk.tokens.is_empty());
    for chunk in &mut chunks {
        if let Err((location, message, hint)) = check_bounds(&chunk.tokens) {
            chunk.sound = false;
            report(location, message, Some(hint));
        }
    }
    chunks
}

fn check_bounds(tokens: &[TokenWithSpan]) -> Result<(), (Location, String, &'static str)> {
    if tokens.len() > MAX_TOKENS {
        let message = format!("the statement has more than {MAX_TOKENS} words");
        return Err((tokens[0].span.start, message, "split it with views"));
    }
    // One count for each open bracket.
    let mut chains: Vec<usize> = vec![0];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace | Token::Lt => {
                chains.push(0);
                // `<` opens a bracket only in types; as a comparison it is never closed, so it is not counted here.
                if token.token == Token::Lt {
                    chains.pop();
                    bump(&mut chains, token)?;
                } else if chains.len() > MAX_DEPTH {
                    let message = format!("brackets are nested more than {MAX_DEPTH} deep");
                    return Err((token.span.start, message, "split the statement with views"));
                }
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if chains.len() > 1 {
                    chains.pop();
                }
                // A call or subscript after it makes the chain longer: f(x)(y), a[1][2].
                bump(&mut chains, token)?;
            }
            Token::Comma => chains.last_mut().into_iter().for_each(|chain| *chain = 0),
            Token::Word(word) => match word.keyword {
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING => {
                    chains.last_mut().into_iter().for_each(|chain| *chain = 0);
                }
                Keyword::NoKeyword => {}
                _ => bump(&mut chains, token)?,
            },
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            _ => bump(&mut chains, token)?,
        }
    }
    let unions = tokens
        .iter()
        .filter(|t| is_keyword(t, Keyword::UNION))
        .count();
    let joins = tokens
        .iter()
        .filter(|t| is_keyword(t, Keyword::JOIN))
        .count();
    if unions > MAX_CHAIN / 2 || joins > MAX_CHAIN / 2 {
        let message = format!("the statement combines more than {} queries", MAX_CHAIN / 2);
        return Err((tokens[0].span.start, message, "split it with views"));
    }
    Ok(())
}

fn bump(
    chains: &mut [usize],
    token: &TokenWithSpan,
) -> Result<(), (Location, String, &'static str)> {
    let Some(chain) = chains.last_mut() else {
        return Ok(());
    };
    *chain += 1;
    if *chain > 2 * MAX_CHAIN {
        let message = format!("an expression chains more than {MAX_CHAIN} operators");
        return Err((
            token.span.start,
            message,
            "use IN (…) or CASE, or split it with views",
        ));
    }
    Ok(())
}

/// Whether a token is this keyword, unquoted.
pub(super) fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

/// Whether a token is this word, unquoted, in any case.
pub(super) fn is_word(token: &TokenWithSpan, wanted: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}
