//! Floor 1: typed expressions over a row, and the scalar functions.

use crate::types::{EventTime, Value};

/// A typed expression, compiled once and evaluated for each row.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The value of an input column.
    Column(usize),
    /// A constant.
    Literal(Value),
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

impl Expr {
    /// The value for `row`.
    pub fn eval(&self, row: &[Value], _context: &Context) -> Result<Value, EvalError> {
        match self {
            Self::Column(index) => Ok(row[*index].clone()),
            Self::Literal(value) => Ok(value.clone()),
        }
    }

    /// Whether a BOOLEAN expression is true for `row`; NULL is not.
    pub fn test(&self, row: &[Value], context: &Context) -> Result<bool, EvalError> {
        Ok(self.eval(row, context)? == Value::Bool(true))
    }
}
