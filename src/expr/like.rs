//! LIKE with a constant pattern: compiled once, matched without allocation and in linear space.

use super::{EvalError, ResolveError};

/// A compiled LIKE pattern: `%` is any text, `_` one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LikePattern {
    /// The pattern as written.
    pattern: String,
    /// The escape character, if one was given.
    escape: Option<char>,
    /// What it means, as far as it is text alone,
    prefix: String,
    /// and what follows.
    tokens: Box<[Token]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Any,
}

impl LikePattern {
    /// Compiles a pattern.
    pub fn new(pattern: &str, escape: Option<char>) -> Result<Self, ResolveError> {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some(next) if next == '%' || next == '_' || Some(next) == escape => {
                        Token::Char(next)
                    }
                    _ => {
                        return Err(ResolveError::hinted(
                            format!("invalid escape sequence in the LIKE pattern '{pattern}'"),
                            format!("after the escape character {c} stands %, _ or {c} itself"),
                        ));
                    }
                },
                '%' => Token::Any,
                '_' => Token::One,
                c => Token::Char(c),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Any && *b == Token::Any);
        let text = tokens.iter().map_while(|token| match token {
            Token::Char(c) => Some(*c),
            Token::One | Token::Any => None,
        });
        let prefix: String = text.collect();
        tokens.drain(..prefix.chars().count());
        Ok(Self {
            pattern: pattern.to_owned(),
            escape,
            prefix,
            tokens: tokens.into(),
        })
    }

    /// The pattern as written and its escape character.
    pub fn source(&self) -> (&str, Option<char>) {
        (&self.pattern, self.escape)
    }

    /// What every text that matches begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the whole text matches. Greedy with one point to go back to, so time is at most the product of the
    /// lengths.
    pub fn matches(&self, text: &str) -> bool {
        let Some(text) = text.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        let tokens = &self.tokens;
        let (mut at, mut rest) = (0, text.chars());
        let mut back: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            match (tokens.get(at), rest.next()) {
                (Some(Token::Any), _) => {
                    at += 1;
                    rest = before.clone();
                    back = Some((at, before));
                    if at == tokens.len() {
                        return true;
                    }
                }
                (Some(Token::One), Some(_)) => at += 1,
                (Some(Token::Char(want)), Some(c)) if *want == c => at += 1,
                (None, None) => return true,
                (_, None) => return false,
                (_, Some(_)) => match &mut back {
                    Some((after, from)) => {
                        from.next();
                        at = *after;
                        rest = from.clone();
                    }
                    None => return false,
                },
            }
        }
    }

    /// Matches a pattern that is known only with the row.
    pub(super) fn matches_dynamic(
        text: &str,
        pattern: &str,
        escape: Option<char>,
    ) -> Result<bool, EvalError> {
        Self::new(pattern, escape)
            .map(|compiled| compiled.matches(text))
            .map_err(|e| EvalError::new(e.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_sql_says() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("%", "", true),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("%a%b%", "xxaxxbxx", true),
            ("%a%b", "ab", true),
            ("%ab", "aab", true),
            ("a%b%c", "abcbc", true),
            ("a%b%c", "abcb", false),
            ("_", "ü", true),
            ("abc", "abcd", false),
            ("%%_", "x", true),
        ] {
            assert_eq!(
                LikePattern::new(pattern, None).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(LikePattern::new("10!%", Some('!')).unwrap().matches("10%"));
        assert!(!LikePattern::new("10!%", Some('!')).unwrap().matches("100"));
        assert!(LikePattern::new("10!x", Some('!')).is_err());
    }
}
