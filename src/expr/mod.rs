//! Floor 1: typed expressions over a row, and the scalar functions.
//!
//! An [`Expr`] is compiled once by the typed builders ([`Typed`], [`call`]) and evaluated for each row.
//!
//! Invariants: SQL's three-valued logic everywhere; numeric work allocates nothing; what has no exact answer
//! (an overflow, an impossible cast, a value out of a function's domain, an integer division by zero) is an
//! [`EvalError`] and never a wrapped or invented value. DOUBLE follows IEEE 754, as in Flink. [`Expr`]'s `Display`
//! is canonical and unambiguous: fingerprints of queries are made of it.
//!
//! Deliberately absent: names (columns are positions), SQL text, state, a clock ([`Context`] carries the time).

mod build;
mod calendar;
mod cast;
mod compare;
mod display;
mod eval;
mod function;
mod json;
mod like;
mod numeric;
mod pattern;
mod predicate;
mod promote;
mod similar;
#[cfg(test)]
mod tests;
mod zone;

use compact_str::CompactString;

use crate::types::{EventTime, Type, Value};

pub use build::Typed;
pub use calendar::Unit;
pub(crate) use calendar::checked_timestamp;
pub use compare::total_order;
use function::Prepared;
pub use function::{Function, call, function_names, resolve};
pub use like::LikePattern;
pub use promote::{can_cast, common_type};

/// A typed expression, compiled once and evaluated for each row.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The value of an input column.
    Column(usize),
    /// A constant.
    Literal(Value),
    /// True if all are; false if one is; else NULL.
    And(Box<[Expr]>),
    /// True if one is; false if all are; else NULL.
    Or(Box<[Expr]>),
    /// The opposite, NULL for NULL.
    Not(Box<Expr>),
    /// `IS NULL`.
    IsNull(Box<Expr>),
    /// `IS TRUE` or `IS FALSE`; never NULL.
    IsBool {
        /// A BOOLEAN.
        expr: Box<Expr>,
        /// Which one is asked for.
        value: bool,
    },
    /// A comparison of two values of one type, NULL if either is.
    Compare {
        /// Which.
        op: Comparison,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `IS DISTINCT FROM`: a comparison in which NULL equals NULL; never NULL.
    Distinct {
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `BETWEEN`, bounds included.
    Between {
        /// What is tested.
        expr: Box<Expr>,
        /// Least accepted value.
        low: Box<Expr>,
        /// Greatest accepted value.
        high: Box<Expr>,
    },
    /// `IN (…)`.
    In {
        /// What is looked for.
        expr: Box<Expr>,
        /// Where.
        list: Box<[Expr]>,
    },
    /// `LIKE` with a constant pattern.
    Like {
        /// A STRING.
        expr: Box<Expr>,
        /// The compiled pattern.
        pattern: LikePattern,
    },
    /// Arithmetic.
    Arith {
        /// Which.
        op: Arithmetic,
        /// The type of the result: it decides the overflow check.
        ty: Type,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// Unary minus.
    Negate {
        /// The type of the operand and of the result.
        ty: Type,
        /// A number or an interval.
        expr: Box<Expr>,
    },
    /// `CASE WHEN … THEN … ELSE … END`: the first branch whose condition is true.
    Case {
        /// Conditions and results.
        branches: Box<[(Expr, Expr)]>,
        /// Without a true branch.
        otherwise: Box<Expr>,
    },
    /// The first that is not NULL.
    Coalesce(Box<[Expr]>),
    /// `CAST` and `TRY_CAST`.
    Cast {
        /// What is converted.
        expr: Box<Expr>,
        /// Its type.
        from: Type,
        /// The wanted type.
        to: Type,
        /// Whether a value that cannot be converted is NULL.
        try_: bool,
    },
    /// A field of a ROW.
    Field {
        /// The ROW.
        expr: Box<Expr>,
        /// Position of the field.
        index: usize,
        /// Its name, for people.
        name: CompactString,
    },
    /// An element of an ARRAY (from 1) or the value of a MAP's key; NULL if there is none.
    Element {
        /// The ARRAY or MAP.
        expr: Box<Expr>,
        /// Position or key.
        index: Box<Expr>,
    },
    /// `ROW(…)` or `ARRAY[…]` or `MAP[k, v, …]`.
    Construct {
        /// What is made.
        kind: Construct,
        /// Its parts; for a MAP keys and values in turn.
        items: Box<[Expr]>,
    },
    /// A function of the registry.
    Call(Call),
}

/// A call of a function of the registry.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub function: &'static Function,
    /// Its arguments, of the types the function wants.
    pub args: Box<[Expr]>,
    /// The types of the arguments.
    types: Box<[Type]>,
    /// The type of the result.
    pub ty: Type,
    /// What could be computed from constant arguments beforehand; decided by `function` and `args`.
    prepared: Box<[Prepared]>,
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.function, other.function)
            && self.ty == other.ty
            && self.types == other.types
            && self.args == other.args
    }
}

/// What [`Expr::Construct`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Construct {
    /// A ROW of its items.
    Row,
    /// An ARRAY of its items.
    Array,
    /// A MAP of keys and values in turn.
    Map,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

/// An arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`; of integers an integer, truncated towards zero.
    Div,
    /// `%` and `MOD`; the sign of the dividend.
    Rem,
}

/// What an expression may know beside its row.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Processing time.
    pub now: EventTime,
}

/// Why an expression has no value for a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

impl EvalError {
    /// An error with this message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Why an expression cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ResolveError {
    /// What is wrong.
    pub message: String,
    /// What the person can do.
    pub hint: Option<String>,
}

impl ResolveError {
    /// An error with a remedy.
    pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// An error that says all in its message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }
}

impl Expr {
    /// Whether this is a constant.
    pub const fn as_literal(&self) -> Option<&Value> {
        match self {
            Self::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Calls `visit` for each direct part.
    pub fn for_each_part<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Column(_) | Self::Literal(_) => {}
            Self::And(items)
            | Self::Or(items)
            | Self::Coalesce(items)
            | Self::Construct { items, .. } => {
                items.iter().for_each(visit);
            }
            Self::Not(expr)
            | Self::IsNull(expr)
            | Self::IsBool { expr, .. }
            | Self::Like { expr, .. }
            | Self::Negate { expr, .. }
            | Self::Cast { expr, .. }
            | Self::Field { expr, .. } => visit(expr),
            Self::Compare { left, right, .. }
            | Self::Distinct { left, right }
            | Self::Arith { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Self::Between { expr, low, high } => {
                visit(expr);
                visit(low);
                visit(high);
            }
            Self::In { expr, list } => {
                visit(expr);
                list.iter().for_each(visit);
            }
            Self::Case {
                branches,
                otherwise,
            } => {
                for (condition, result) in branches {
                    visit(condition);
                    visit(result);
                }
                visit(otherwise);
            }
            Self::Element { expr, index } => {
                visit(expr);
                visit(index);
            }
            Self::Call(call) => call.args.iter().for_each(visit),
        }
    }

    /// Calls `change` for each direct part.
    fn for_each_part_mut(&mut self, change: &mut dyn FnMut(&mut Expr)) {
        match self {
            Self::Column(_) | Self::Literal(_) => {}
            Self::And(items)
            | Self::Or(items)
            | Self::Coalesce(items)
            | Self::Construct { items, .. } => {
                items.iter_mut().for_each(change);
            }
            Self::Not(expr)
            | Self::IsNull(expr)
            | Self::IsBool { expr, .. }
            | Self::Like { expr, .. }
            | Self::Negate { expr, .. }
            | Self::Cast { expr, .. }
            | Self::Field { expr, .. } => change(expr),
            Self::Compare { left, right, .. }
            | Self::Distinct { left, right }
            | Self::Arith { left, right, .. } => {
                change(left);
                change(right);
            }
            Self::Between { expr, low, high } => {
                change(expr);
                change(low);
                change(high);
            }
            Self::In { expr, list } => {
                change(expr);
                list.iter_mut().for_each(change);
            }
            Self::Case {
                branches,
                otherwise,
            } => {
                for (condition, result) in branches {
                    change(condition);
                    change(result);
                }
                change(otherwise);
            }
            Self::Element { expr, index } => {
                change(expr);
                change(index);
            }
            Self::Call(call) => call.args.iter_mut().for_each(change),
        }
    }

    /// Calls `visit` with the position of each column that is read.
    pub fn for_each_column(&self, visit: &mut dyn FnMut(usize)) {
        if let Self::Column(index) = self {
            visit(*index);
        }
        self.for_each_part(&mut |part| part.for_each_column(visit));
    }

    /// Whether the value depends on the row.
    pub fn reads_columns(&self) -> bool {
        let mut found = false;
        self.for_each_column(&mut |_| found = true);
        found
    }

    /// Whether the value depends on the time of evaluation.
    pub fn reads_clock(&self) -> bool {
        let mut found = matches!(self, Self::Call(call) if call.function.reads_clock());
        self.for_each_part(&mut |part| found |= part.reads_clock());
        found
    }

    /// The same expression with every column replaced by what `of` gives for it.
    #[must_use]
    pub fn with_columns(mut self, of: &dyn Fn(usize) -> Expr) -> Self {
        self.replace_columns(of);
        self
    }

    fn replace_columns(&mut self, of: &dyn Fn(usize) -> Expr) {
        if let Self::Column(index) = self {
            *self = of(*index);
        } else {
            self.for_each_part_mut(&mut |part| part.replace_columns(of));
        }
    }
}
