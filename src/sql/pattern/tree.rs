//! The pattern of `MATCH_RECOGNIZE`: read as a tree, written in one spelling, and compiled to a program.
//!
//! Invariants: preferment is the standard's: the left alternative, a greedy quantifier's further round and a reluctant
//! one's end come first. One exception is Flink's: `B?` before something that must match gives way to the match without
//! it, as if it were `B??` (`B{0,1}` is greedy). A program has at most [`MAX_INSTRUCTIONS`] instructions. A round of a loop that takes no row
//! ends the loop, so every program comes to an end between two rows.

use std::fmt;

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Token;

use crate::plan::{Diagnostic, Instruction};

use super::super::cursor::Cursor;

/// How long a program may be.
const MAX_INSTRUCTIONS: usize = 2_000;
/// How many loops with a count a program may have.
const MAX_LOOPS: usize = 64;
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
}

/// Reads a pattern to the end.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Tree, Diagnostic> {
    let mut tree = alternation(cursor)?;
    if cursor.is_at_end() {
        tree.give_way(false);
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
    let mut items = vec![quantified(cursor)?];
    while !matches!(
        cursor.peek().map(|t| &t.token),
        None | Some(Token::Pipe | Token::RParen | Token::Comma)
    ) {
        items.push(quantified(cursor)?);
    }
    Ok(one_or(items, Tree::Sequence))
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
        Some(Token::Mul | Token::Plus | Token::LBrace) => true,
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
        Some(Token::LBrace) => Err(cursor.error(
            "the exclusion {- -} is not supported: it leaves rows out of ALL ROWS PER MATCH, and one row is given",
            "remove {- and -}",
        )),
        Some(Token::Caret) => Err(cursor.error(
            "the anchor ^ is not supported yet",
            "remove it: it would find at most one match in the whole life of a partition",
        )),
        Some(Token::Word(word)) if word.quote_style.is_none() && word.value.starts_with('$') => Err(cursor.error(
            "the anchor $ is not supported: a stream has no last row",
            "remove it, or bound the match by WITHIN",
        )),
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
            Self::Variable(_) => {}
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

    /// The least and the greatest number of rows.
    pub(super) fn length(&self) -> (u64, Option<u64>) {
        match self {
            Self::Variable(_) => (1, Some(1)),
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

    /// Calls `visit` with each variable, from the left.
    pub(super) fn for_each_variable<'t>(&'t self, visit: &mut dyn FnMut(&'t Ident)) {
        match self {
            Self::Variable(name) => visit(name),
            Self::Sequence(items) | Self::Alternation(items) | Self::Permutation(items) => {
                for item in items {
                    item.for_each_variable(visit);
                }
            }
            Self::Repeat { inner, .. } => inner.for_each_variable(visit),
        }
    }

    /// The program, its number of loops, or why it is too large.
    pub(super) fn compile(
        &self,
        variable: &dyn Fn(&Ident) -> usize,
    ) -> Result<(Vec<Instruction>, usize), &'static str> {
        let mut compiler = Compiler {
            program: Vec::new(),
            loops: 0,
            variable,
        };
        compiler.tree(self)?;
        compiler.program.push(Instruction::Accept);
        Ok((compiler.program, compiler.loops))
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
                    Self::Variable(_) | Self::Permutation(_) => write!(f, "{inner}")?,
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

struct Compiler<'v> {
    program: Vec<Instruction>,
    loops: usize,
    variable: &'v dyn Fn(&Ident) -> usize,
}

impl Compiler<'_> {
    fn push(&mut self, instruction: Instruction) -> Result<usize, &'static str> {
        if self.program.len() >= MAX_INSTRUCTIONS {
            return Err("the pattern is too large: permute or repeat less");
        }
        self.program.push(instruction);
        Ok(self.program.len() - 1)
    }

    fn tree(&mut self, tree: &Tree) -> Result<(), &'static str> {
        match tree {
            Tree::Variable(name) => {
                let variable = (self.variable)(name);
                self.push(Instruction::Row(variable))?;
                Ok(())
            }
            Tree::Sequence(items) => items.iter().try_for_each(|item| self.tree(item)),
            Tree::Alternation(items) => {
                self.alternatives(items.len(), &mut |this, at| this.tree(&items[at]))
            }
            Tree::Permutation(items) => {
                let orders = permutations(items.len())
                    .ok_or("PERMUTE takes at most 6 parts: more have too many orders")?;
                self.alternatives(orders.len(), &mut |this, at| {
                    orders[at].iter().try_for_each(|i| this.tree(&items[*i]))
                })
            }
            Tree::Repeat {
                inner,
                min,
                max,
                greedy,
                ..
            } => self.repeat(inner, *min, *max, *greedy),
        }
    }

    /// One of several, the first preferred.
    fn alternatives(
        &mut self,
        count: usize,
        emit: &mut dyn FnMut(&mut Self, usize) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let mut ends = Vec::new();
        for at in 0..count {
            if at + 1 == count {
                emit(self, at)?;
                break;
            }
            let fork = self.push(Instruction::Else(0))?;
            emit(self, at)?;
            ends.push(self.push(Instruction::Jump(0))?);
            self.program[fork] = Instruction::Else(self.program.len());
        }
        for end in ends {
            self.program[end] = Instruction::Jump(self.program.len());
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        inner: &Tree,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    ) -> Result<(), &'static str> {
        if (min, max) == (1, Some(1)) {
            return self.tree(inner);
        }
        let counter = self.loops;
        self.loops += 1;
        if self.loops > MAX_LOOPS {
            return Err("the pattern has more than 64 quantifiers: use fewer");
        }
        self.push(Instruction::Enter(counter))?;
        let head = self.push(Instruction::Jump(0))?;
        self.tree(inner)?;
        self.push(Instruction::Jump(head))?;
        self.program[head] = Instruction::Repeat {
            counter,
            min,
            max,
            greedy,
            exit: self.program.len(),
        };
        Ok(())
    }
}

/// The orders of so many things, as the standard prefers them; `None` if there are too many.
fn permutations(count: usize) -> Option<Vec<Vec<usize>>> {
    if count > 6 {
        return None;
    }
    let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..count {
        orders = orders
            .iter()
            .flat_map(|order| {
                let rest = (0..count).filter(|i| !order.contains(i));
                rest.map(|i| order.iter().copied().chain([i]).collect())
            })
            .collect();
    }
    Some(orders)
}
