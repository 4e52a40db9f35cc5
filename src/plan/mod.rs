//! Floor 2: the typed plan: what the SQL files mean, as plain data.
//!
//! A [`Plan`] is a directed acyclic graph of [`Node`]s in topological order: every input of a node stands before
//! it. Sources and sinks are nodes too. Nothing here parses SQL, holds state or processes a row; `sql` builds
//! plans and `engine` runs them.
//!
//! Invariants: every expression refers to columns of its node's input by position and is typed; a
//! [`Fingerprint`] covers all that decides which rows a node produces and how its state is to be read, and
//! nothing else (not the place in the file, not comments or spelling).

mod aggregate;
mod alarm;
mod detection;
mod diagnostic;
mod discovery;
mod explain;
mod over;
mod pattern;
pub mod quantity;

use compact_str::CompactString;

pub use crate::codec::{CsvFormat, Format, JsonFormat, Metadata, TimestampFormat};
use crate::expr::Expr;
use crate::types::{Fingerprint, Schema, Timespan, Type};

pub use aggregate::{Aggregate, AggregateFunction};
pub use alarm::{AlarmRule, Alarms, ExpectedKeys, MAX_ALARMS, MAX_SHELVED, Trigger};
pub use detection::{
    BET_POWER, ControlRule, CusumOptions, Detection, EwmaOptions, History, JointOptions,
    LEAST_HISTORY, MAX_HISTORY, MAX_JOINT_COLUMNS, Method, Normal, ScoreOptions, SpikeMode,
};
pub use diagnostic::{Diagnostic, Place, nearest};
pub use discovery::{Discovery, Entity};
pub use explain::explain;
pub use over::{Frame, MAX_FRAME_ROWS, MAX_TOP, OverCall, OverFunction, SortKey};
pub use pattern::{
    Condition, End, Instruction, MAX_PARTIAL_MATCHES, MAX_PATTERN_BYTES, MAX_PATTERN_ROWS, Match,
    Measures, Navigation, OrderKey, Output, RowsPerMatch, Skip, Slot, Total, Variable, Variables,
};

/// The position of a node in [`Plan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// The position of a source in [`Plan::sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub usize);

/// The position of a sink in [`Plan::sinks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId(pub usize);

/// Everything a pipeline does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Tables that are read.
    pub sources: Vec<Source>,
    /// The graph, inputs before their consumers.
    pub nodes: Vec<Node>,
    /// Tables that others look rows up in.
    pub tables: Vec<LookupTable>,
    /// Tables that are written, one for each INSERT (two INSERTs into one table are two sinks).
    pub sinks: Vec<Sink>,
}

/// A table that is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The table's name.
    pub name: CompactString,
    /// Where it is declared.
    pub place: Place,
    /// Where its messages come from.
    pub connector: SourceConnector,
    /// How a payload becomes columns.
    pub format: Format,
    /// The declared columns, in order; their values fill the row in this order.
    pub columns: Vec<SourceColumn>,
    /// The declared watermark.
    pub watermark: Option<Watermark>,
    /// Rows whose event time is further than this ahead of the arrival time are dead letters; `None` for no bound.
    pub max_future: Option<Timespan>,
    /// After this much processing time without a row the source no longer holds time back.
    pub idle_timeout: Option<Timespan>,
    /// The columns that make the key, if each key has a watermark of its own; else empty.
    pub time_keys: Vec<usize>,
    /// Identity of the definition.
    pub fingerprint: Fingerprint,
}

/// The position of a table in [`Plan::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub usize);

/// A table that rows are looked up in: a file, read whole, and again when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupTable {
    /// The table's name.
    pub name: CompactString,
    /// Where it is declared.
    pub place: Place,
    /// The path of the file.
    pub path: String,
    /// How its lines become rows.
    pub format: Format,
    /// The declared columns, in order.
    pub columns: Vec<SourceColumn>,
    /// Identity of the definition.
    pub fingerprint: Fingerprint,
}

/// Where messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConnector {
    /// MQTT subscriptions.
    Mqtt {
        /// The name of a connection in the configuration.
        connection: CompactString,
        /// The topic filters of the table, wildcards allowed.
        filters: Vec<String>,
        /// 0 or 1.
        qos: u8,
        /// Whether retained messages, sent by the broker on subscribing, count as events.
        retained: bool,
    },
    /// A file of recorded rows, one JSON object a line.
    Filesystem {
        /// Its path.
        path: String,
    },
}

/// A column of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceColumn {
    /// Its name.
    pub name: CompactString,
    /// Its type.
    pub ty: Type,
    /// False for NOT NULL.
    pub nullable: bool,
    /// Where its value comes from.
    pub origin: ColumnOrigin,
}

/// Where the value of a source's column comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnOrigin {
    /// The payload: for JSON the keys to follow from the root, outermost first; for text the whole payload.
    Payload {
        /// Object keys, outermost first.
        path: Vec<String>,
    },
    /// What travels with a message.
    Metadata(Metadata),
    /// An expression over the row (the other columns are filled before).
    Computed(Expr),
}

/// A declared watermark: `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug, PartialEq)]
pub struct Watermark {
    /// The column that carries event time.
    pub column: usize,
    /// The watermark a row gives, over the row; NULL changes nothing.
    pub expr: Expr,
}

/// A step of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub operator: Operator,
    /// The nodes whose rows it takes.
    pub inputs: Vec<NodeId>,
    /// The rows it gives.
    pub schema: Schema,
    /// Identity of it and of all before it.
    pub fingerprint: Fingerprint,
    /// The INSERT or VIEW it belongs to, for messages and counters.
    pub query: CompactString,
    /// Where in the SQL files.
    pub place: Place,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// Gives the rows of a source.
    Source(SourceId),
    /// Keeps the rows for which the predicate is true.
    Filter {
        /// A BOOLEAN expression over the input.
        predicate: Expr,
    },
    /// Computes new rows, one for each.
    Project {
        /// One expression for each output column.
        exprs: Vec<Expr>,
    },
    /// Gives each row once for each element of an array, the element's columns appended.
    Unnest {
        /// The array.
        array: Expr,
        /// How many columns an element makes: the fields of a ROW, else 1.
        width: usize,
        /// Whether elements are ROWs whose fields become columns.
        rows: bool,
        /// Whether a row without elements is given once with NULLs (LEFT JOIN UNNEST).
        outer: bool,
    },
    /// Gives each row once for each window it belongs to, with `window_start`, `window_end`, `window_time` appended.
    WindowAssign {
        /// Which windows.
        window: Window,
        /// The input column with the event time.
        time: usize,
    },
    /// Aggregates per key and window. Output: the keys, the aggregates, `window_start`, `window_end`, `window_time`.
    WindowAggregate {
        /// Which windows.
        window: Window,
        /// The input column with the event time.
        time: usize,
        /// The grouping keys beside the window.
        keys: Vec<Expr>,
        /// What is computed.
        aggregates: Vec<Aggregate>,
        /// What becomes of rows whose window has closed.
        late: LateRows,
    },
    /// Computes functions over each row and rows before it, in the order of event time. Output: the input, and a column
    /// for each function.
    Over {
        /// The input column with the event time.
        time: usize,
        /// The keys of the partitions.
        keys: Vec<Expr>,
        /// What is computed.
        functions: Vec<OverFunction>,
        /// The state of a key that has no row for so long is dropped.
        ttl: Option<Timespan>,
    },
    /// Gives the first row of each key, and again the first after the key was silent for longer than `within`. Output:
    /// the input, and the number 1.
    Deduplicate {
        /// The input column with the event time.
        time: usize,
        /// What makes rows equal.
        keys: Vec<Expr>,
        /// How long a key is remembered after its last row.
        within: Timespan,
    },
    /// Gives the first rows of each key and window, in order, when the window closes. Output: the input, and the row's
    /// number.
    WindowTop {
        /// The input column with the start of the window.
        start: usize,
        /// The input column with the end of the window.
        end: usize,
        /// The keys beside the window.
        keys: Vec<Expr>,
        /// What decides which row is first; of equal rows the one that came first.
        order: Vec<SortKey>,
        /// How many rows are given, at most [`MAX_TOP`]. A plan without one is not complete.
        limit: Option<usize>,
    },
    /// Gives the rows that came too late for the step before it: its input rows, with `window_start` and `window_end` of
    /// the window that they missed appended. None of its results.
    LateRows,
    /// Joins the rows of two inputs whose times are close together. Output: the left row, then the right row.
    IntervalJoin(Box<IntervalJoin>),
    /// Joins each left row with the latest right row at its time. Output: the left row, then the right row.
    TemporalJoin(Box<TemporalJoin>),
    /// Joins each row with the rows of a table. Output: the row, then the table's row.
    LookupJoin(Box<LookupJoin>),
    /// Looks for a row pattern. Output: the columns of PARTITION BY, then the measures.
    Match(Box<Match>),
    /// Raises and clears alarms. Its second input, if it has one, brings commands and has no part in time.
    Alarms(Box<Alarms>),
    /// Gives the rows of all inputs as they come.
    Union,
    /// Gives the rows as they come, and puts the timelines of all keys together: from here on there is one watermark,
    /// the least of those of the keys that are not idle.
    SharedTime,
    /// Hands rows to a sink.
    Sink(SinkId),
}

/// What becomes of a row whose window has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateRows {
    /// It is a dead letter.
    #[default]
    DeadLetter,
    /// A [`Operator::LateRows`] behind the step takes it.
    Table,
    /// Its window is given once more, as a revision, if it closed no longer ago than this; else it is a dead letter.
    Update {
        /// How long after its end a window can be revised, positive.
        allowed: Timespan,
    },
}

/// Which windows a row belongs to. All are `[start, end)`; those with an `offset` are on a grid anchored at
/// 1970-01-01T00:00:00 plus it.
impl Operator {
    /// Whether state of it is stored.
    pub const fn has_state(&self) -> bool {
        matches!(
            self,
            Self::WindowAggregate { .. }
                | Self::Match(_)
                | Self::Alarms(_)
                | Self::Over { .. }
                | Self::Deduplicate { .. }
                | Self::WindowTop { .. }
                | Self::IntervalJoin(_)
                | Self::TemporalJoin(_)
        )
    }

    /// How far behind the watermark the times of its rows may be: for what follows, time is so much later.
    pub fn delay(&self) -> Timespan {
        match self {
            Self::IntervalJoin(join) => join.delay(),
            Self::Match(pattern) => pattern.delay(),
            // What a command changes, changes at the present time.
            Self::Alarms(_) => Timespan::MILLISECOND,
            _ => Timespan::ZERO,
        }
    }

    /// Whether the watermark of an input has a part in its time.
    pub const fn leads(&self, input: usize) -> bool {
        !matches!(self, Self::Alarms(_)) || input == 0
    }
}

/// A join of two streams with bounds on time: `lower <= left time - right time <= upper`.
#[derive(Clone, Debug, PartialEq)]
pub struct IntervalJoin {
    /// Left and right.
    pub sides: [JoinSide; 2],
    /// The least difference of the times.
    pub lower: Timespan,
    /// The greatest.
    pub upper: Timespan,
    /// What else must hold, over the joined row.
    pub residual: Option<Expr>,
}

impl IntervalJoin {
    /// A left row may be given out when the watermark is `-lower` after it, a right row when it is `upper` after it.
    fn delay(&self) -> Timespan {
        let after = |micros: i64| Timespan::from_micros(micros.max(0));
        let left = after(self.lower.as_micros().saturating_neg());
        left.max(after(self.upper.as_micros()))
    }
}

/// A join of a stream with the versions of another: `FOR SYSTEM_TIME AS OF left.time`.
#[derive(Clone, Debug, PartialEq)]
pub struct TemporalJoin {
    /// The rows, and the versions. Only the left side can be outer.
    pub sides: [JoinSide; 2],
    /// What else must hold, over the joined row.
    pub residual: Option<Expr>,
}

/// A join of a stream with a table.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupJoin {
    /// The table.
    pub table: TableId,
    /// What must be equal, over the row,
    pub keys: Vec<Expr>,
    /// and over the table's row.
    pub table_keys: Vec<Expr>,
    /// What else must hold, over the joined row.
    pub residual: Option<Expr>,
    /// Whether rows without a partner are given out with NULLs.
    pub outer: bool,
    /// How many columns the table has.
    pub width: usize,
}

/// A side of a join.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinSide {
    /// The column with the event time,
    pub time: usize,
    /// and what is added to it.
    pub shift: Timespan,
    /// What must be equal on both sides, over the side's rows.
    pub keys: Vec<Expr>,
    /// Whether rows without a partner are given out with NULLs.
    pub outer: bool,
    /// How many columns its rows have.
    pub width: usize,
}

/// Which windows a row belongs to. All are `[start, end)`, on a grid anchored at 1970-01-01T00:00:00 plus `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Windows of `size`, one after the other.
    Tumble {
        /// Length, positive.
        size: Timespan,
        /// Shift of the grid.
        offset: Timespan,
    },
    /// Windows of `size` that start every `slide`; `size` is a multiple of `slide`.
    Hop {
        /// Distance between starts, positive.
        slide: Timespan,
        /// Length, positive.
        size: Timespan,
        /// Shift of the grid.
        offset: Timespan,
    },
    /// Windows that share their start and grow by `step` up to `size`, a multiple of `step`; then the next ones start.
    Cumulate {
        /// Distance between ends, positive.
        step: Timespan,
        /// Length of the longest, positive.
        size: Timespan,
        /// Shift of the grid.
        offset: Timespan,
    },
    /// Windows that last until there was no row of their key for `gap`.
    Session {
        /// The silence that ends a session, positive.
        gap: Timespan,
        /// The keys whose sessions they are, as positions among the keys of the step.
        partition: Vec<usize>,
    },
    /// Every `slide` rows of a key a window of its last `size` rows, in order of arrival.
    Count {
        /// Rows of a window, a multiple of `slide`.
        size: u64,
        /// Rows from a window to the next, positive.
        slide: u64,
        /// The keys whose rows are counted: all of the step, as positions among them.
        partition: Vec<usize>,
    },
    /// The windows that an earlier step has given the rows, in these columns of the input. A row belongs to one;
    /// it is closed like any other, by its end.
    Attached {
        /// The column with its start.
        start: usize,
        /// The column with its end.
        end: usize,
    },
}

/// A table that is written by one INSERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// The table's name.
    pub name: CompactString,
    /// Where the INSERT stands.
    pub place: Place,
    /// Where its rows go.
    pub connector: SinkConnector,
    /// How columns become a payload.
    pub format: Format,
    /// The table's columns.
    pub schema: Schema,
    /// Identity of the table and of the query that feeds it.
    pub fingerprint: Fingerprint,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkConnector {
    /// Publishes to a broker, through the outbox.
    Mqtt {
        /// The name of a connection in the configuration.
        connection: CompactString,
        /// The topic of a row.
        topic: Vec<TopicPart>,
        /// 0 or 1.
        qos: u8,
        /// Whether the broker keeps the last message of each topic.
        retain: bool,
        /// What Home Assistant is told of it, if it is told.
        discovery: Option<Discovery>,
    },
    /// Prints a JSON line to standard output.
    Print,
    /// Appends a JSON line to a file.
    Filesystem {
        /// Its path.
        path: String,
    },
}

/// A piece of a sink's topic: `alerts/{device}` is a literal and a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicPart {
    /// Text as it stands.
    Literal(String),
    /// The value of a column of the sink.
    Column(usize),
}
