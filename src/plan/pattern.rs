//! Row patterns (`MATCH_RECOGNIZE`) as the plan has them: a small program, conditions and measures.
//!
//! A condition or a measure is an expression over *slots*, not over a row: each slot says where in a match its value is
//! found (`LAST(A.price, 1)` is one slot). Slots and aggregates read the columns that are kept of a row.
//!
//! Invariant: a program ends in [`Instruction::Accept`], and every jump stays inside of it. [`Instruction::Absent`] stands
//! right before the end, and only in a pattern with WITHIN that takes at least one row.

use std::fmt::Write as _;

use compact_str::CompactString;

use super::{Aggregate, LateRows};
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
    /// Whether a match is known as soon as the watermark has passed its time: all have equally many rows, or all end by
    /// time.
    pub prompt: bool,
    /// The variables of the program, and those that are only defined.
    pub variables: Vec<Variable>,
    /// What conditions read of the rows matched so far, computed row by row.
    pub totals: Vec<Total>,
    /// What is computed of a match.
    pub measures: Measures,
    /// Which rows are given of a match.
    pub rows: RowsPerMatch,
    /// What is given of a match, in the order of the output.
    pub output: Vec<Output>,
    /// Whether what has begun and runs out of WITHIN is given, too.
    pub timeouts: bool,
    /// Where to look on behind a match.
    pub skip: Skip,
    /// Rows of a match are less than this after its first.
    pub within: Option<Timespan>,
    /// How many rows before a match may be read.
    pub lookback: usize,
    /// How many rows behind a row may be read: it is looked at when so many are known.
    pub lookahead: usize,
    /// Whether an event time is given.
    pub timed: bool,
    /// What becomes of a row that comes when those of its time have been matched: a match is never revised.
    pub late: LateRows,
}

/// Which rows are given of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsPerMatch {
    /// One, as of the match's end.
    One,
    /// Each of its rows, with what is known at it, but for those that the pattern excludes.
    All {
        /// Whether a match without rows gives the row at which it was found.
        empty: bool,
    },
}

/// A column of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A column of PARTITION BY, by its position there.
    Key(usize),
    /// A kept column of the row, where all rows are given.
    Row(usize),
    /// A measure.
    Measure(usize),
}

/// Rows of one key that matches which have begun may hold, and rows that wait for the watermark.
pub const MAX_PATTERN_ROWS: usize = 10_000;
/// Partial matches of one key.
pub const MAX_PARTIAL_MATCHES: usize = 1_000;
/// Bytes of memory of the rows and partial matches of one key, about, and of its rows that wait.
pub const MAX_PATTERN_BYTES: usize = 4 << 20;

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
    Row {
        /// Which variable.
        variable: usize,
        /// Whether the row is given where all rows are.
        shown: bool,
    },
    /// Waits until WITHIN has passed. A row that meets the condition of the variable ends it; any other is passed over
    /// and does not belong to the match.
    Absent(usize),
    /// Goes on only before the first row of a partition.
    Start,
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
    /// One expression over the slots for each.
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
    /// An aggregate.
    Total {
        /// Its position.
        which: usize,
        /// Whether it is over all rows of the match (FINAL), and not up to the row that is given.
        whole: bool,
    },
    /// The number of the match in its partition, from 1.
    MatchNumber,
    /// The time of the last row; where WITHIN has ended the match, the time at which it did.
    MatchTime,
}

/// Which row of a match: `NEXT(LAST(A.x, skip), offset)`. NULL is read where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Navigation {
    /// Among the rows of these variables
    pub of: Variables,
    /// from the last one backwards, or from the first one onwards,
    pub from: End,
    /// the one after so many,
    pub skip: usize,
    /// and from there so many rows on, or back if it is negative, whatever they are matched to, also outside of the match.
    pub offset: i64,
    /// Whether it is among all rows of the match (FINAL), and not up to the row that is given.
    pub whole: bool,
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
    /// How long after the time of a row it may be given out: a longer match that is preferred may still become complete
    /// until WITHIN has passed, and the first row of a match is that far behind. Without WITHIN there is no bound.
    pub(super) fn delay(&self) -> Timespan {
        let prompt = self.prompt && self.rows == RowsPerMatch::One;
        match self.within {
            Some(within) if self.timed && !prompt => within,
            _ => Timespan::ZERO,
        }
    }

    /// Whether the number of a match is asked for.
    pub fn is_numbered(&self) -> bool {
        self.measures.slots.contains(&Slot::MatchNumber)
    }

    /// Whether matches begin only at the first row of a partition.
    pub fn is_anchored(&self) -> bool {
        self.program.contains(&Instruction::Start)
    }

    /// The text that decides what is matched and how its state is to be read.
    pub fn canonical(&self) -> String {
        // The program follows from the pattern; slots and sets have one spelling as data.
        let mut text = format!(
            "match [{}] by {:?} on #{} {:?} keeping {:?} {:?} within {:?} giving {:?} {:?} {:?} measuring {:?}",
            self.pattern,
            self.partition,
            self.time,
            self.order,
            self.kept,
            self.skip,
            self.within.map(Timespan::as_micros),
            self.rows,
            self.timeouts,
            self.output,
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
        match self.rows {
            RowsPerMatch::One => {}
            RowsPerMatch::All { empty: true } => text.push_str(", all rows"),
            RowsPerMatch::All { empty: false } => {
                text.push_str(", all rows of matches that have some");
            }
        }
        if self.timeouts {
            text.push_str(", also what runs out of time");
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
        if self.late == LateRows::Table {
            lines.push("late rows go to a table".to_owned());
        }
        for variable in &self.variables {
            let text = match &variable.condition {
                Some(Condition { slots, expr }) => {
                    expr.describe(&|at| self.describe(&slots[at], &self.totals, input))
                }
                None => "any row".to_owned(),
            };
            lines.push(format!("{} is {text}", variable.name));
        }
        for (given, column) in self.output.iter().zip(&columns.columns) {
            let Output::Measure(at) = given else {
                continue;
            };
            let totals = &self.measures.totals;
            let slots = &self.measures.slots;
            let expr = &self.measures.exprs[*at];
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
            Slot::Total { which, whole } => {
                let Total { of, aggregate } = &totals[*which];
                let prefix = self.prefix(*of);
                let text = aggregate.describe(&|at| format!("{prefix}{}", column(at)));
                if *whole {
                    format!("FINAL {text}")
                } else {
                    text
                }
            }
            Slot::MatchNumber => "MATCH_NUMBER()".to_owned(),
            Slot::MatchTime => "MATCH_ROWTIME()".to_owned(),
        }
    }

    fn navigated(&self, at: &Navigation, what: &str) -> String {
        let mut text = format!("{}{what}", self.prefix(at.of));
        if at.from == End::First || at.skip > 0 || at.whole {
            text = format!("{}({text}, {})", at.from.text().to_uppercase(), at.skip);
        }
        if at.whole {
            text = format!("FINAL {text}");
        }
        match at.offset {
            0 => text,
            back if back < 0 => format!("PREV({text}, {})", back.unsigned_abs()),
            on => format!("NEXT({text}, {on})"),
        }
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
