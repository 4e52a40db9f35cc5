//! A place in the tokens of a statement, for the parts of the grammar that are our own.

use sqlparser::ast::Ident;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::plan::{Diagnostic, Place};

use super::lex::{is_word, place};

/// Walks over tokens.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'t> {
    file: &'t str,
    tokens: &'t [TokenWithSpan],
    at: usize,
    /// Whether the first half of a `>>` has been taken.
    half: bool,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(file: &'t str, tokens: &'t [TokenWithSpan]) -> Self {
        Self {
            file,
            tokens,
            at: 0,
            half: false,
        }
    }

    pub(super) fn file(&self) -> &'t str {
        self.file
    }

    pub(super) fn peek(&self) -> Option<&'t TokenWithSpan> {
        self.tokens.get(self.at)
    }

    pub(super) fn peek_nth(&self, n: usize) -> Option<&'t TokenWithSpan> {
        self.tokens.get(self.at + n)
    }

    pub(super) fn advance(&mut self) -> Option<&'t TokenWithSpan> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The tokens that are left.
    pub(super) fn rest(&self) -> &'t [TokenWithSpan] {
        &self.tokens[self.at..]
    }

    /// Where the next token begins, or the last one ended.
    pub(super) fn location(&self) -> Location {
        match (self.peek(), self.tokens.last()) {
            (Some(token), _) => token.span.start,
            (None, Some(last)) => last.span.end,
            (None, None) => Location { line: 1, column: 1 },
        }
    }

    pub(super) fn place(&self) -> Place {
        place(self.file, self.location())
    }

    /// Whether the next words are these.
    pub(super) fn looks_at(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(i, word)| self.peek_nth(i).is_some_and(|token| is_word(token, word)))
    }

    /// Takes these words if they come next.
    pub(super) fn take(&mut self, words: &[&str]) -> bool {
        let found = self.looks_at(words);
        if found {
            self.at += words.len();
        }
        found
    }

    /// Takes this sign if it comes next.
    pub(super) fn take_sign(&mut self, sign: &Token) -> bool {
        let found = self.peek().is_some_and(|token| token.token == *sign);
        self.at += usize::from(found);
        found
    }

    /// Takes one `>`; the tokenizer makes one token of `>>`.
    pub(super) fn take_angle(&mut self) -> bool {
        match self.peek().map(|token| &token.token) {
            Some(Token::Gt) => self.at += 1,
            Some(Token::ShiftRight) if self.half => {
                self.half = false;
                self.at += 1;
            }
            Some(Token::ShiftRight) => self.half = true,
            _ => return false,
        }
        true
    }

    pub(super) fn expect(&mut self, words: &[&str]) -> Result<(), Diagnostic> {
        if self.take(words) {
            Ok(())
        } else {
            Err(self.expected(&words.join(" ")))
        }
    }

    pub(super) fn expect_sign(&mut self, sign: &Token) -> Result<(), Diagnostic> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(self.expected(&format!("{sign}")))
        }
    }

    /// A name.
    pub(super) fn name(&mut self, what: &str) -> Result<Ident, Diagnostic> {
        match self.peek().map(|token| (&token.token, token.span)) {
            Some((Token::Word(word), span)) => {
                self.at += 1;
                Ok(word.to_ident(span))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A string in single quotes, with its place.
    pub(super) fn string(&mut self, what: &str) -> Result<(String, Place), Diagnostic> {
        let place = self.place();
        match self.peek().map(|token| &token.token) {
            Some(Token::SingleQuotedString(text)) => {
                self.at += 1;
                Ok((text.clone(), place))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, what: &str) -> Result<u64, Diagnostic> {
        let number = match self.peek().map(|token| &token.token) {
            Some(Token::Number(text, _)) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => {
                self.at += 1;
                Ok(number)
            }
            None => Err(self.expected(what)),
        }
    }

    /// The tokens up to a comma or closing bracket of this level; they are taken, the sign is not.
    pub(super) fn until_comma(&mut self) -> &'t [TokenWithSpan] {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token.token {
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::Comma | Token::RParen | Token::RBracket | Token::RBrace if depth == 0 => {
                    break;
                }
                Token::RParen | Token::RBracket | Token::RBrace => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        &self.tokens[start..self.at]
    }

    /// The error that something else was expected here.
    pub(super) fn expected(&self, what: &str) -> Diagnostic {
        let found = self.peek().map_or_else(
            || "the end of the statement".to_owned(),
            |token| shown(&token.token),
        );
        Diagnostic {
            place: self.place(),
            message: format!("expected {what}, found {found}"),
            hint: None,
        }
    }

    /// An error at the next token.
    pub(super) fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
        Diagnostic {
            place: self.place(),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// A token for a message, bounded in length.
pub(super) fn shown(token: &Token) -> String {
    let text = token.to_string();
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}
