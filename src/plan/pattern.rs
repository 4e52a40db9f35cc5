//! Row patterns (`MATCH_RECOGNIZE`) as the plan has them: a small program, conditions and measures.
//!
//! A condition or a measure is an expression over *slots*, not over a row: each slot says where in a match its value is
//! found (`LAST(A.price, 1)` is one slot). Slots and aggregates read the columns that are kept of a row.
//!
//! Invariant: a program ends in [`Instruction::Accept`], every jump stays inside of it, and it cannot accept without
//! having taken a row.

use std::fmt::Write as _;

use compact_str::CompactString;

use super::Aggregate;
use crate::expr::Expr;
use crate::types::{Schema, Timespan, Value};

/// A row pattern, looked for in each partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The input columns of PARTITION BY.
    pub partition: Vec<usize>,
    /// The input column with the event time.
    pub time: usize,
    /// What orders rows of one time.
    pub order: Vec<OrderKey>,
    /// The input columns that are kept of a row.
    pub kept: Vec<usize>,
    /// The pattern as it is written, in one spelling.
    pub pattern: String,
    /// What is matched.
    pub program: Vec<Instruction>,
    /// How many counters the program's loops have.
    pub loops: usize,
    /// Whether all matches have equally many rows, so that each is known at its last row.
    pub fixed: bool,
    /// The variables of the program, and those that are only defined.
    pub variables: Vec<Variable>,
    /// What conditions read of the rows matched so far, computed row by row.
    pub totals: Vec<Total>,
    /// What is given of a match.
    pub measures: Measures,
    /// Where to look on behind a match.
    pub skip: Skip,
    /// Rows of a match are less than this after its first.
    pub within: Option<Timespan>,
    /// How many rows before a match may be read.
    pub lookback: usize,
    /// Whether the time of a match is among the measures as an event time.
    pub timed: bool,
}

/// A column that orders rows of one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderKey {
    /// Its position among the kept columns.
    pub column: usize,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// Whether NULL comes first.
    pub nulls_first: bool,
}

/// A step of a pattern's program. Where it can go on in two ways, what follows the first is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Takes one row, if it meets the condition of the variable.
    Row(usize),
    /// Goes on with the next instruction, or else there.
    Else(usize),
    /// Goes on there.
    Jump(usize),
    /// Begins to count a loop.
    Enter(usize),
    /// The head of a loop: its body follows, and jumps back here.
    Repeat {
        /// Which counter.
        counter: usize,
        /// How often at least.
        min: u32,
        /// How often at most.
        max: Option<u32>,
        /// Whether once more is preferred to going on.
        greedy: bool,
        /// Where it goes on behind the loop.
        exit: usize,
    },
    /// The match is complete.
    Accept,
}

/// A variable of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: CompactString,
    /// What a row must meet; without it any row does.
    pub condition: Option<Condition>,
}

/// What a row must meet, itself counted as matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it reads.
    pub slots: Vec<Slot>,
    /// A BOOLEAN over the slots.
    pub expr: Expr,
}

/// What is given of a match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// What they read.
    pub slots: Vec<Slot>,
    /// The aggregates among it.
    pub totals: Vec<Total>,
    /// One expression over the slots for each output column behind those of PARTITION BY.
    pub exprs: Vec<Expr>,
}

/// An aggregate over the rows of some variables; its arguments are over the kept columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    /// The rows of which variables.
    pub of: Variables,
    /// What is computed.
    pub aggregate: Aggregate,
}

/// A set of variables, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables(u64);

impl Variables {
    /// How many variables a pattern can have.
    pub const MAX: usize = 64;
    /// All rows of a match.
    pub const ALL: Self = Self(u64::MAX);

    /// One variable, its position less than [`Variables::MAX`].
    pub const fn one(position: usize) -> Self {
        Self(1 << position)
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a variable is among them.
    pub const fn contains(self, position: usize) -> bool {
        self.0 >> position & 1 == 1
    }
}

/// Where a value is found in a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A kept column of a row.
    Value {
        /// Which row.
        at: Navigation,
        /// The position of the column among the kept ones.
        column: usize,
    },
    /// The name of the variable that a row is matched to.
    Classifier(Navigation),
    /// An aggregate, by its position.
    Total(usize),
    /// The number of the match in its partition, from 1.
    MatchNumber,
    /// The time of the last row.
    MatchTime,
}

/// Which row of a match: `PREV(LAST(A.x, skip), back)`. NULL is read where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Navigation {
    /// Among the rows of these variables
    pub of: Variables,
    /// from the last one backwards, or from the first one onwards,
    pub from: End,
    /// the one after so many,
    pub skip: usize,
    /// and from there so many rows back, whatever they are matched to, also before the match.
    pub back: usize,
}

/// An end of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIRST.
    First,
    /// LAST, and where nothing is said.
    Last,
}

/// Where to look on behind a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// At the row after its last.
    PastLastRow,
    /// At the row after its first.
    ToNextRow,
    /// At its first or last row of some variables.
    To(End, Variables),
}

impl Match {
    /// How long after the time of a match it may be given out: a longer one that is preferred may still become
    /// complete until WITHIN has passed. Without WITHIN there is no bound.
    pub(super) fn delay(&self) -> Timespan {
        match self.within {
            Some(within) if self.timed && !self.fixed => within,
            _ => Timespan::ZERO,
        }
    }

    /// The text that decides what is matched and how its state is to be read.
    pub fn canonical(&self) -> String {
        // The program follows from the pattern; slots and sets have one spelling as data.
        let mut text = format!(
            "match [{}] by {:?} on #{} {:?} keeping {:?} {:?} within {:?} measuring {:?}",
            self.pattern,
            self.partition,
            self.time,
            self.order,
            self.kept,
            self.skip,
            self.within.map(Timespan::as_micros),
            self.measures.slots,
        );
        for expr in &self.measures.exprs {
            // Writing to a string cannot fail.
            let _ = write!(text, " [{expr}]");
        }
        for total in self.measures.totals.iter().chain(&self.totals) {
            let _ = write!(text, " {:?} {}", total.of, total.aggregate.canonical());
        }
        for variable in &self.variables {
            let _ = write!(text, " define {}", variable.name);
            if let Some(Condition { slots, expr }) = &variable.condition {
                let _ = write!(text, " {slots:?} [{expr}]");
            }
        }
        text
    }

    /// The match for people in one line, over its input.
    pub(super) fn title(&self, input: &Schema) -> String {
        let mut text = format!("match {}", self.pattern);
        let name = |at: &usize| input.columns[*at].name.as_str();
        if !self.partition.is_empty() {
            let keys: Vec<&str> = self.partition.iter().map(name).collect();
            let _ = write!(text, " by {}", keys.join(", "));
        }
        let _ = write!(text, " on {}", name(&self.time));
        if let Some(within) = self.within {
            let _ = write!(text, " within {within}");
        }
        text.push_str(", then ");
        match self.skip {
            Skip::PastLastRow => text.push_str("past the last row"),
            Skip::ToNextRow => text.push_str("to the next row"),
            Skip::To(end, of) => {
                let _ = write!(text, "to the {} {}", end.text(), self.names(of));
            }
        }
        text
    }

    /// The conditions and measures for people, over its input; `columns` names what it gives.
    pub(super) fn details(&self, input: &Schema, columns: &Schema) -> Vec<String> {
        let mut lines = Vec::new();
        for variable in &self.variables {
            let text = match &variable.condition {
                Some(Condition { slots, expr }) => {
                    expr.describe(&|at| self.describe(&slots[at], &self.totals, input))
                }
                None => "any row".to_owned(),
            };
            lines.push(format!("{} is {text}", variable.name));
        }
        let measured = columns.columns.iter().skip(self.partition.len());
        for (expr, column) in self.measures.exprs.iter().zip(measured) {
            let totals = &self.measures.totals;
            let slots = &self.measures.slots;
            let text = expr.describe(&|at| self.describe(&slots[at], totals, input));
            lines.push(format!("{} = {text}", column.name));
        }
        lines
    }

    fn describe(&self, slot: &Slot, totals: &[Total], input: &Schema) -> String {
        let column = |at: usize| input.columns[self.kept[at]].name.to_string();
        match slot {
            Slot::Value { at, column: kept } => self.navigated(at, &column(*kept)),
            Slot::Classifier(at) => self.navigated(at, "CLASSIFIER()"),
            Slot::Total(at) => {
                let Total { of, aggregate } = &totals[*at];
                let prefix = self.prefix(*of);
                aggregate.describe(&|at| format!("{prefix}{}", column(at)))
            }
            Slot::MatchNumber => "MATCH_NUMBER()".to_owned(),
            Slot::MatchTime => "MATCH_ROWTIME()".to_owned(),
        }
    }

    fn navigated(&self, at: &Navigation, what: &str) -> String {
        let mut text = format!("{}{what}", self.prefix(at.of));
        if at.from == End::First || at.skip > 0 {
            text = format!("{}({text}, {})", at.from.text().to_uppercase(), at.skip);
        }
        if at.back > 0 {
            text = format!("PREV({text}, {})", at.back);
        }
        text
    }

    fn prefix(&self, of: Variables) -> String {
        if of == Variables::ALL {
            String::new()
        } else {
            format!("{}.", self.names(of))
        }
    }

    /// The names of some variables.
    pub fn names(&self, of: Variables) -> String {
        let named = self.variables.iter().enumerate();
        let named = named.filter(|(at, _)| of.contains(*at));
        let names: Vec<&str> = named.map(|(_, v)| v.name.as_str()).collect();
        names.join("|")
    }

    /// The name of a variable as a value.
    pub fn classifier(&self, variable: usize) -> Value {
        Value::Str(self.variables[variable].name.clone())
    }
}

impl End {
    /// `first` or `last`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }
}
