//! The pattern of `MATCH_RECOGNIZE`: read as a tree, and written in one spelling.
//!
//! One thing is as in Flink and not as in the standard: `B?` before something that must match gives way to the match
//! without it, as if it were `B??` (`B{0,1}` is greedy).

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Token;

use crate::plan::Diagnostic;

use super::super::cursor::Cursor;

/// The greatest count of a quantifier: more rows are not held for one key.
const MAX_COUNT: u64 = 10_000;

/// A pattern or a part of one.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Variable(Ident),
    Sequence(Vec<Tree>),
    Alternation(Vec<Tree>),
    Permutation(Vec<Tree>),
    Repeat {
        inner: Box<Tree>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
        /// Whether it is written as `?`.
        sign: bool,
    },
    /// `{- … -}`: what is not given where all rows are.
    Excluded(Box<Tree>),
    /// `^`: before the first row of a partition.
    Start,
    /// `{- gap*? -} [^variable]`: from here on no such row until WITHIN has passed, whatever else comes.
    Absent {
        gap: Ident,
        variable: Ident,
    },
}

/// Reads a pattern to the end.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Tree, Diagnostic> {
    let mut tree = alternation(cursor)?;
    if cursor.is_at_end() {
        tree.give_way(false);
        tree.check_absence(cursor)?;
        Ok(tree)
    } else {
        Err(cursor.expected("a pattern variable, |, a quantifier or )"))
    }
}

fn alternation(cursor: &mut Cursor<'_>) -> Result<Tree, Diagnostic> {
    let mut branches = vec![sequence(cursor)?];
    while cursor.take_sign(&Token::Pipe) {
        branches.push(sequence(cursor)?);
    }
    Ok(one_or(branches, Tree::Alternation))
}

fn sequence(cursor: &mut Cursor<'_>) -> Result<Tree, Diagnostic> {
    let mut items: Vec<Tree> = Vec::new();
    loop {
        match cursor.peek().map(|t| &t.token) {
            Some(Token::LBracket) => {
                let absent = absent(cursor, items.pop())?;
                items.push(absent);
            }
            None | Some(Token::Pipe | Token::RParen | Token::Comma) if !items.is_empty() => break,
            Some(Token::Minus) if !items.is_empty() => break,
            _ => items.push(quantified(cursor)?),
        }
    }
    Ok(one_or(items, Tree::Sequence))
}

/// `[^B]` behind what stands before it.
fn absent(cursor: &mut Cursor<'_>, before: Option<Tree>) -> Result<Tree, Diagnostic> {
    let at = cursor.clone();
    cursor.advance();
    cursor.expect_sign(&Token::Caret)?;
    let variable = cursor.name("a pattern variable")?;
    cursor.expect_sign(&Token::RBracket)?;
    if let Some(Tree::Excluded(inner)) = before
        && let Tree::Repeat {
            inner,
            min: 0,
            max: None,
            greedy: false,
            ..
        } = *inner
        && let Tree::Variable(gap) = *inner
    {
        return Ok(Tree::Absent { gap, variable });
    }
    let name = &variable.value;
    Err(at.error(
        format!("[^{name}] needs to be told that other rows may come before"),
        format!(
            "write {{- X*? -}} [^{name}] for no {name} until WITHIN has passed; for a next row that is no {name} write a \
             variable that is defined as NOT (…)"
        ),
    ))
}

fn one_or(mut items: Vec<Tree>, many: fn(Vec<Tree>) -> Tree) -> Tree {
    match items.len() {
        1 => items.remove(0),
        _ => many(items),
    }
}

fn quantified(cursor: &mut Cursor<'_>) -> Result<Tree, Diagnostic> {
    let inner = primary(cursor)?;
    let mut sign = false;
    let (min, max) = match cursor.peek().map(|t| &t.token) {
        Some(Token::Mul) => (0, None),
        Some(Token::Plus) => (1, None),
        Some(Token::Placeholder(mark)) if mark == "?" => {
            sign = true;
            (0, Some(1))
        }
        Some(Token::LBrace) if !excludes(cursor) => {
            cursor.advance();
            let counts = counts(cursor)?;
            return finish(cursor, inner, counts, false);
        }
        _ => return Ok(inner),
    };
    cursor.advance();
    finish(cursor, inner, (min, max), sign)
}

fn finish(
    cursor: &mut Cursor<'_>,
    inner: Tree,
    (min, max): (u32, Option<u32>),
    sign: bool,
) -> Result<Tree, Diagnostic> {
    let greedy = !cursor.take_sign(&Token::Placeholder("?".to_owned()));
    let again = match cursor.peek().map(|t| &t.token) {
        Some(Token::Mul | Token::Plus) => true,
        Some(Token::LBrace) => !excludes(cursor),
        Some(Token::Placeholder(sign)) => sign == "?",
        _ => false,
    };
    if again {
        return Err(cursor.error(
            "two quantifiers follow each other",
            "put the first one into brackets: (A+)*",
        ));
    }
    Ok(Tree::Repeat {
        inner: Box::new(inner),
        min,
        max,
        greedy,
        sign,
    })
}

/// What stands behind `{`.
fn counts(cursor: &mut Cursor<'_>) -> Result<(u32, Option<u32>), Diagnostic> {
    let form = "write {n}, {n,}, {n,m} or {,m}";
    let at = cursor.clone();
    let number = |cursor: &mut Cursor<'_>| {
        let count = cursor.number("a count")?;
        u32::try_from(count)
            .ok()
            .filter(|_| count <= MAX_COUNT)
            .ok_or_else(|| at.error(format!("a quantifier counts to {MAX_COUNT} at most"), form))
    };
    let min = match cursor.peek().map(|t| &t.token) {
        Some(Token::Comma) => None,
        _ => Some(number(cursor)?),
    };
    let max = if cursor.take_sign(&Token::Comma) {
        match (min, cursor.peek().map(|t| &t.token)) {
            (Some(_), Some(Token::RBrace)) => None,
            _ => Some(number(cursor)?),
        }
    } else {
        min
    };
    cursor.expect_sign(&Token::RBrace)?;
    let min = min.unwrap_or(0);
    if max.is_some_and(|max| max < min || max == 0) {
        return Err(at.error(
            "a quantifier's upper count is positive and not below the lower",
            form,
        ));
    }
    Ok((min, max))
}

fn primary(cursor: &mut Cursor<'_>) -> Result<Tree, Diagnostic> {
    match cursor.peek().map(|t| &t.token) {
        Some(Token::LParen) => {
            cursor.advance();
            let inner = alternation(cursor)?;
            cursor.expect_sign(&Token::RParen)?;
            Ok(inner)
        }
        Some(Token::LBrace) => {
            cursor.advance();
            cursor.expect_sign(&Token::Minus)?;
            let inner = alternation(cursor)?;
            cursor.expect_sign(&Token::Minus)?;
            cursor.expect_sign(&Token::RBrace)?;
            Ok(Tree::Excluded(Box::new(inner)))
        }
        Some(Token::Caret) => {
            cursor.advance();
            Ok(Tree::Start)
        }
        Some(Token::Word(word)) if word.quote_style.is_none() && word.value.starts_with('$') => {
            Err(cursor.error(
                "the anchor $ is not supported: a stream has no last row",
                "remove it, or bound the match by WITHIN",
            ))
        }
        Some(Token::Word(_)) if cursor.looks_at(&["PERMUTE"]) && opens(cursor) => {
            cursor.advance();
            cursor.advance();
            let mut items = vec![alternation(cursor)?];
            while cursor.take_sign(&Token::Comma) {
                items.push(alternation(cursor)?);
            }
            cursor.expect_sign(&Token::RParen)?;
            Ok(Tree::Permutation(items))
        }
        _ => cursor.name("a pattern variable").map(Tree::Variable),
    }
}

/// Whether an exclusion begins here.
fn excludes(cursor: &Cursor<'_>) -> bool {
    matches!(cursor.peek_nth(1).map(|t| &t.token), Some(Token::Minus))
}

fn opens(cursor: &Cursor<'_>) -> bool {
    matches!(cursor.peek_nth(1).map(|t| &t.token), Some(Token::LParen))
}

impl Tree {
    /// Makes each `B?` that something obligatory follows reluctant.
    fn give_way(&mut self, mut followed: bool) {
        match self {
            Self::Variable(_) | Self::Start | Self::Absent { .. } => {}
            Self::Excluded(inner) => inner.give_way(followed),
            Self::Sequence(items) => {
                for item in items.iter_mut().rev() {
                    item.give_way(followed);
                    followed |= item.length().0 > 0;
                }
            }
            Self::Alternation(items) | Self::Permutation(items) => {
                for item in items {
                    item.give_way(followed);
                }
            }
            Self::Repeat {
                inner,
                greedy,
                sign,
                ..
            } => match **inner {
                Self::Variable(_) => *greedy &= !(*sign && followed),
                _ => inner.give_way(followed),
            },
        }
    }

    /// Fails if an absence stands elsewhere than at the end.
    fn check_absence(&self, cursor: &Cursor<'_>) -> Result<(), Diagnostic> {
        let before = match self {
            Self::Sequence(items) => items.split_last().map_or(&[][..], |(_, before)| before),
            _ => &[],
        };
        let last = match self {
            Self::Sequence(items) => items.last().unwrap_or(self),
            _ => self,
        };
        let nested = match last {
            Self::Absent { .. } => false,
            _ => last.has_absence(),
        };
        if nested || before.iter().any(Self::has_absence) {
            return Err(cursor.error(
                "[^…] stands only at the end of a pattern: before it, something must still come",
                "for A, then no B before C write A N* C and define N AS NOT (the condition of B)",
            ));
        }
        Ok(())
    }

    fn has_absence(&self) -> bool {
        match self {
            Self::Absent { .. } => true,
            Self::Variable(_) | Self::Start => false,
            Self::Sequence(items) | Self::Alternation(items) | Self::Permutation(items) => {
                items.iter().any(Self::has_absence)
            }
            Self::Repeat { inner, .. } | Self::Excluded(inner) => inner.has_absence(),
        }
    }

    /// The absence at its end: the variable of the rows that may come, and of the rows that may not.
    pub(super) fn absence(&self) -> Option<(&Ident, &Ident)> {
        match self {
            Self::Absent { gap, variable } => Some((gap, variable)),
            Self::Sequence(items) => items.last().and_then(Self::absence),
            _ => None,
        }
    }

    /// The least and the greatest number of rows.
    pub(super) fn length(&self) -> (u64, Option<u64>) {
        match self {
            Self::Variable(_) => (1, Some(1)),
            Self::Start | Self::Absent { .. } => (0, Some(0)),
            Self::Excluded(inner) => inner.length(),
            Self::Sequence(items) | Self::Permutation(items) => {
                items.iter().fold((0, Some(0)), |(low, high), item| {
                    let (l, h) = item.length();
                    let sum = high.zip(h).map(|(a, b): (u64, u64)| a.saturating_add(b));
                    (low.saturating_add(l), sum)
                })
            }
            Self::Alternation(items) => {
                let lengths = || items.iter().map(Self::length);
                let low = lengths().map(|(low, _)| low).min();
                let high = lengths().map(|(_, high)| high);
                let high = high.reduce(|a, b| a.zip(b).map(|(a, b)| a.max(b)));
                (low.unwrap_or(0), high.unwrap_or(Some(0)))
            }
            Self::Repeat {
                inner, min, max, ..
            } => {
                let (low, high) = inner.length();
                let high = high
                    .zip(*max)
                    .map(|(high, max)| high.saturating_mul(u64::from(max)));
                (low.saturating_mul(u64::from(*min)), high)
            }
        }
    }

    /// The variables of each two open loops between which no row must come.
    pub(super) fn open_neighbours(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let mut found = Vec::new();
        match self {
            Self::Variable(_) | Self::Start | Self::Absent { .. } => {}
            Self::Sequence(items) => {
                for (at, item) in items.iter().enumerate() {
                    found.extend(item.open_neighbours());
                    if item.length().1.is_some() {
                        continue;
                    }
                    for other in &items[at + 1..] {
                        if other.length().1.is_none() {
                            found.push((item.names(), other.names()));
                        }
                        if other.length().0 > 0 {
                            break;
                        }
                    }
                }
            }
            Self::Alternation(items) | Self::Permutation(items) => {
                found.extend(items.iter().flat_map(Self::open_neighbours));
            }
            Self::Repeat { inner, .. } | Self::Excluded(inner) => found = inner.open_neighbours(),
        }
        found
    }

    /// The first variable of an open loop that stands in an open loop.
    pub(super) fn nested_open(&self) -> Option<String> {
        match self {
            Self::Variable(_) | Self::Start | Self::Absent { .. } => None,
            Self::Sequence(items) | Self::Alternation(items) | Self::Permutation(items) => {
                items.iter().find_map(Self::nested_open)
            }
            Self::Repeat {
                inner, max: None, ..
            } if inner.length().1.is_none() => inner.names().into_iter().next(),
            Self::Repeat { inner, .. } | Self::Excluded(inner) => inner.nested_open(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.for_each_variable(&mut |name| names.push(name.value.clone()));
        names
    }

    /// Calls `visit` with each variable, from the left.
    pub(super) fn for_each_variable<'t>(&'t self, visit: &mut dyn FnMut(&'t Ident)) {
        match self {
            Self::Variable(name) | Self::Absent { variable: name, .. } => visit(name),
            Self::Start => {}
            Self::Sequence(items) | Self::Alternation(items) | Self::Permutation(items) => {
                for item in items {
                    item.for_each_variable(visit);
                }
            }
            Self::Repeat { inner, .. } | Self::Excluded(inner) => inner.for_each_variable(visit),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Self], between: &str| {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    f.write_str(between)?;
                }
                let bracket =
                    matches!(item, Self::Alternation(_) | Self::Sequence(_)) && between != ", ";
                if bracket {
                    write!(f, "({item})")?;
                } else {
                    write!(f, "{item}")?;
                }
            }
            Ok(())
        };
        match self {
            Self::Variable(name) => f.write_str(&name.value),
            Self::Start => f.write_str("^"),
            Self::Excluded(inner) => write!(f, "{{- {inner} -}}"),
            Self::Absent { gap, variable } => {
                write!(f, "{{- {}*? -}} [^{}]", gap.value, variable.value)
            }
            Self::Sequence(items) => list(f, items, " "),
            Self::Alternation(items) => list(f, items, " | "),
            Self::Permutation(items) => {
                f.write_str("PERMUTE(")?;
                list(f, items, ", ")?;
                f.write_str(")")
            }
            Self::Repeat {
                inner,
                min,
                max,
                greedy,
                sign,
            } => {
                match **inner {
                    Self::Variable(_) | Self::Permutation(_) | Self::Excluded(_) => {
                        write!(f, "{inner}")?;
                    }
                    _ => write!(f, "({inner})")?,
                }
                match (min, max) {
                    (0, None) => f.write_str("*")?,
                    (1, None) => f.write_str("+")?,
                    (0, Some(1)) if *sign => f.write_str("?")?,
                    (min, None) => write!(f, "{{{min},}}")?,
                    (min, Some(max)) if min == max => write!(f, "{{{min}}}")?,
                    (min, Some(max)) => write!(f, "{{{min},{max}}}")?,
                }
                f.write_str(if *greedy { "" } else { "?" })
            }
        }
    }
}
