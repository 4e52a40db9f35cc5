//! Evaluation: three-valued logic, values by reference wherever they exist already.

// The context is an argument by reference everywhere, so that it may grow.
#![allow(clippy::trivially_copy_pass_by_ref)]

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::types::Value;

use super::compare::order;
use super::function::Args;
use super::numeric::{self, mismatch};
use super::{Call, Comparison, Construct, Context, EvalError, Expr, cast};

/// Values of arguments; up to four stay on the stack.
type Values<'a> = SmallVec<[Cow<'a, Value>; 4]>;

impl Expr {
    /// The value for `row`.
    pub fn eval(&self, row: &[Value], context: &Context) -> Result<Value, EvalError> {
        match self.held(row) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.eval_ref(row, context)?.into_owned()),
        }
    }

    /// Whether a BOOLEAN expression is true for `row`; NULL is not.
    pub fn test(&self, row: &[Value], context: &Context) -> Result<bool, EvalError> {
        match self {
            // Not by way of `truth`: here NULL ends the evaluation too.
            Self::And(items) => {
                for item in items {
                    if !item.test(row, context)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Compare { op, left, right } => match (left.held(row), right.held(row)) {
                (Some(left), Some(right)) => Ok(op.holds(left, right) == Some(true)),
                _ => Ok(self.truth(row, context)? == Some(true)),
            },
            _ => Ok(self.truth(row, context)? == Some(true)),
        }
    }

    /// The value for `row`, if the row or this expression itself holds it.
    #[inline]
    pub fn held<'a>(&'a self, row: &'a [Value]) -> Option<&'a Value> {
        match self {
            Self::Column(index) => Some(&row[*index]),
            Self::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The value for `row`, borrowed where the row or a constant holds it.
    pub fn eval_ref<'a>(
        &'a self,
        row: &'a [Value],
        context: &Context,
    ) -> Result<Cow<'a, Value>, EvalError> {
        let owned = match self {
            Self::Column(index) => return Ok(Cow::Borrowed(&row[*index])),
            Self::Literal(value) => return Ok(Cow::Borrowed(value)),
            Self::Arith {
                op,
                ty,
                left,
                right,
            } => {
                let (left, right) = (left.eval_ref(row, context)?, right.eval_ref(row, context)?);
                numeric::arith(*op, ty, &left, &right)?
            }
            Self::Negate { ty, expr } => numeric::negate(ty, &*expr.eval_ref(row, context)?)?,
            Self::Case {
                branches,
                otherwise,
            } => {
                for (condition, result) in branches {
                    if condition.test(row, context)? {
                        return result.eval_ref(row, context);
                    }
                }
                return otherwise.eval_ref(row, context);
            }
            Self::Coalesce(items) => {
                for item in items {
                    let value = item.eval_ref(row, context)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Value::Null
            }
            Self::Cast {
                expr,
                from,
                to,
                try_,
            } => {
                let value = expr.eval_ref(row, context)?;
                match cast::cast(&value, from, to) {
                    Err(_) if *try_ => Value::Null,
                    result => result?,
                }
            }
            Self::Field { expr, index, .. } => return field(expr.eval_ref(row, context)?, *index),
            Self::Element { expr, index } => {
                let (container, index) =
                    (expr.eval_ref(row, context)?, index.eval_ref(row, context)?);
                return Ok(element(container, &index));
            }
            Self::Construct { kind, items } => construct(*kind, items, row, context)?,
            Self::Call(call) => self::call(call, row, context)?,
            _ => self.truth(row, context)?.map_or(Value::Null, Value::Bool),
        };
        Ok(Cow::Owned(owned))
    }

    /// The value of a BOOLEAN expression, `None` for NULL.
    fn truth(&self, row: &[Value], context: &Context) -> Result<Option<bool>, EvalError> {
        Ok(match self {
            Self::And(items) => {
                let mut result = Some(true);
                for item in items {
                    match item.truth(row, context)? {
                        Some(false) => return Ok(Some(false)),
                        Some(true) => {}
                        None => result = None,
                    }
                }
                result
            }
            Self::Or(items) => {
                let mut result = Some(false);
                for item in items {
                    match item.truth(row, context)? {
                        Some(true) => return Ok(Some(true)),
                        Some(false) => {}
                        None => result = None,
                    }
                }
                result
            }
            Self::Not(expr) => expr.truth(row, context)?.map(|value| !value),
            Self::IsNull(expr) => Some(expr.eval_ref(row, context)?.is_null()),
            Self::IsBool { expr, value } => Some(expr.truth(row, context)? == Some(*value)),
            Self::Compare { op, left, right } => {
                if let (Some(left), Some(right)) = (left.held(row), right.held(row)) {
                    return Ok(op.holds(left, right));
                }
                let (left, right) = (left.eval_ref(row, context)?, right.eval_ref(row, context)?);
                op.holds(&left, &right)
            }
            Self::Distinct { left, right } => {
                let (left, right) = (left.eval_ref(row, context)?, right.eval_ref(row, context)?);
                Some(match (left.is_null(), right.is_null()) {
                    (true, true) => false,
                    (false, false) => !order(&left, &right).is_some_and(std::cmp::Ordering::is_eq),
                    _ => true,
                })
            }
            Self::Between { expr, low, high } => {
                let value = expr.eval_ref(row, context)?;
                let above = Comparison::GtEq.holds(&value, &*low.eval_ref(row, context)?);
                if above == Some(false) {
                    return Ok(above);
                }
                let below = Comparison::LtEq.holds(&value, &*high.eval_ref(row, context)?);
                if below == Some(false) {
                    below
                } else {
                    above.and(below)
                }
            }
            Self::In { expr, list } => {
                let value = expr.eval_ref(row, context)?;
                let mut result = Some(false);
                for item in list {
                    match Comparison::Eq.holds(&value, &*item.eval_ref(row, context)?) {
                        Some(true) => return Ok(Some(true)),
                        Some(false) => {}
                        None => result = None,
                    }
                }
                result
            }
            Self::Like { expr, pattern } => match &*expr.eval_ref(row, context)? {
                Value::Str(text) => Some(pattern.matches(text)),
                Value::Null => None,
                other => return Err(mismatch("a STRING", other)),
            },
            other => match &*other.eval_ref(row, context)? {
                Value::Bool(value) => Some(*value),
                Value::Null => None,
                other => return Err(mismatch("a BOOLEAN", other)),
            },
        })
    }
}

fn field(value: Cow<'_, Value>, index: usize) -> Result<Cow<'_, Value>, EvalError> {
    match value {
        Cow::Borrowed(Value::Row(fields)) => Ok(fields
            .get(index)
            .map_or(Cow::Owned(Value::Null), Cow::Borrowed)),
        Cow::Owned(Value::Row(fields)) => {
            Ok(Cow::Owned(fields.get(index).cloned().unwrap_or_default()))
        }
        other if other.is_null() => Ok(Cow::Owned(Value::Null)),
        other => Err(mismatch("a ROW", &other)),
    }
}

fn element<'a>(container: Cow<'a, Value>, index: &Value) -> Cow<'a, Value> {
    match container {
        Cow::Borrowed(container) => {
            item(container, index).map_or(Cow::Owned(Value::Null), Cow::Borrowed)
        }
        Cow::Owned(container) => Cow::Owned(item(&container, index).cloned().unwrap_or_default()),
    }
}

/// The element of an ARRAY or the value of a MAP's key.
fn item<'v>(container: &'v Value, index: &Value) -> Option<&'v Value> {
    match container {
        Value::Array(items) => items.get(position(index)?),
        Value::Map(entries) => entries
            .iter()
            .find(|(key, _)| Comparison::Eq.holds(key, index) == Some(true))
            .map(|(_, value)| value),
        _ => None,
    }
}

/// A position counted from 1 as one counted from 0.
fn position(index: &Value) -> Option<usize> {
    match index {
        Value::Int(at) => usize::try_from(at.checked_sub(1)?).ok(),
        _ => None,
    }
}

fn construct(
    kind: Construct,
    items: &[Expr],
    row: &[Value],
    context: &Context,
) -> Result<Value, EvalError> {
    let values: Result<Vec<Value>, EvalError> =
        items.iter().map(|item| item.eval(row, context)).collect();
    let values = values?;
    Ok(match kind {
        Construct::Row => Value::Row(values.into()),
        Construct::Array => Value::Array(values.into()),
        Construct::Map => {
            let mut entries: Vec<(Value, Value)> = Vec::with_capacity(values.len() / 2);
            let mut values = values.into_iter();
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                // Of two equal keys the last value stays, as in Flink.
                entries.retain(|(k, _)| *k != key);
                entries.push((key, value));
            }
            Value::Map(Arc::from(entries))
        }
    })
}

fn call(call: &Call, row: &[Value], context: &Context) -> Result<Value, EvalError> {
    let mut values = Values::new();
    for arg in &call.args {
        let value = arg.eval_ref(row, context)?;
        if value.is_null() && call.function.is_strict() {
            return Ok(Value::Null);
        }
        values.push(value);
    }
    call.function.run(&Args::new(&values, call, context))
}
