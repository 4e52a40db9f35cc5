//! OVER as the plan has it: functions with their frames, and the order of ranks.
//!
//! Invariant: all that decides the rows and the state of an OVER step is here, and its canonical text covers it.

use crate::expr::Expr;
use crate::types::{Timespan, Type};

use super::{Aggregate, Detection};

/// The most rows before the current one that a frame or LAG looks back on.
pub const MAX_FRAME_ROWS: usize = 100_000;

/// The most rows that a Top-N keeps for a window.
pub const MAX_TOP: usize = 10_000;

/// A function over a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct OverFunction {
    /// The rows it sees, beside the current one.
    pub frame: Frame,
    /// What is computed.
    pub call: OverCall,
}

/// The rows that a function sees: all end with the current row, and those of RANGE also with those of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `ROWS UNBOUNDED PRECEDING`: all rows before.
    AllRows,
    /// `RANGE UNBOUNDED PRECEDING`: all rows up to the time of the current one.
    AllRange,
    /// `ROWS n PRECEDING`: so many rows before, at most [`MAX_FRAME_ROWS`].
    Rows(usize),
    /// `RANGE INTERVAL … PRECEDING`: all rows that are not older than this against the current one.
    Range(Timespan),
}

impl Frame {
    /// Whether the frame has an end in the past.
    pub const fn is_bounded(self) -> bool {
        matches!(self, Self::Rows(_) | Self::Range(_))
    }

    /// The frame as SQL writes it.
    fn text(self) -> String {
        match self {
            Self::AllRows => "ROWS UNBOUNDED PRECEDING".to_owned(),
            Self::AllRange => "RANGE UNBOUNDED PRECEDING".to_owned(),
            Self::Rows(rows) => format!("ROWS {rows} PRECEDING"),
            Self::Range(span) => format!("RANGE {span} PRECEDING"),
        }
    }
}

/// What is computed over a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum OverCall {
    /// An aggregate of the frame.
    Aggregate(Aggregate),
    /// How many rows the frame has up to the current one.
    RowNumber,
    /// One more than there are rows of an earlier time.
    Rank,
    /// How many times there are up to that of the current row.
    DenseRank,
    /// The value of an earlier row.
    Lag {
        /// What is taken of it.
        value: Expr,
        /// How many rows earlier, at most [`MAX_FRAME_ROWS`].
        offset: usize,
        /// What is taken of the current row where there is no such row; NULL without.
        default: Option<Expr>,
        /// The type of the result.
        ty: Type,
    },
    /// A detector, which takes one row after the other.
    Detect(Detection),
}

impl OverFunction {
    /// The text that decides what the function is and how its state is to be read.
    pub fn canonical(&self) -> String {
        let call = match &self.call {
            OverCall::Aggregate(aggregate) => aggregate.canonical(),
            OverCall::RowNumber => "row number".to_owned(),
            OverCall::Rank => "rank".to_owned(),
            OverCall::DenseRank => "dense rank".to_owned(),
            OverCall::Lag {
                value,
                offset,
                default,
                ty,
            } => {
                let default = default.as_ref().map(|default| format!(" else {default}"));
                let default = default.unwrap_or_default();
                format!("lag {value} by {offset}{default} {ty}")
            }
            OverCall::Detect(detection) => detection.canonical(),
        };
        let frame = match self.frame {
            Frame::Range(span) => format!("range {}", span.as_micros()),
            frame => frame.text(),
        };
        format!("[{call} over {frame}]")
    }

    /// The function for people, with its columns named.
    pub fn describe(&self, naming: &dyn Fn(usize) -> String) -> String {
        match &self.call {
            OverCall::Aggregate(aggregate) => {
                format!(
                    "{} OVER ({})",
                    aggregate.describe(naming),
                    self.frame.text()
                )
            }
            OverCall::RowNumber if self.frame.is_bounded() => {
                format!("ROW_NUMBER() OVER ({})", self.frame.text())
            }
            OverCall::RowNumber => "ROW_NUMBER()".to_owned(),
            OverCall::Rank => "RANK()".to_owned(),
            OverCall::DenseRank => "DENSE_RANK()".to_owned(),
            OverCall::Detect(detection) => detection.describe(naming),
            OverCall::Lag {
                value,
                offset,
                default,
                ..
            } => {
                let default = default
                    .as_ref()
                    .map(|default| format!(", {}", default.describe(naming)));
                let default = default.unwrap_or_default();
                format!("LAG({}, {offset}{default})", value.describe(naming))
            }
        }
    }
}

/// One of the values by which rows are ranked.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    /// The value, over the input.
    pub expr: Expr,
    /// Whether the greatest is first.
    pub descending: bool,
    /// Whether NULL is before all values.
    pub nulls_first: bool,
}

impl SortKey {
    /// The text that decides the order.
    pub fn canonical(&self) -> String {
        self.text(&self.expr.to_string())
    }

    /// The key for people, with its columns named.
    pub fn describe(&self, naming: &dyn Fn(usize) -> String) -> String {
        self.text(&self.expr.describe(naming))
    }

    fn text(&self, value: &str) -> String {
        format!(
            "{value} {} NULLS {}",
            if self.descending { "DESC" } else { "ASC" },
            if self.nulls_first { "FIRST" } else { "LAST" }
        )
    }
}
