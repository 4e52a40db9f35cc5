//! The arguments of a call while it is evaluated.
//!
//! Invariant: an accessor gives the type it is named after or an error; a payload of a wrong type cannot panic here.

use std::borrow::Cow;

use crate::expr::calendar::{MICROS_PER_DAY, Unit, checked_timestamp};
use crate::expr::json::JsonPath;
use crate::expr::numeric::{mismatch, to_f64};
use crate::expr::pattern::TimePattern;
use crate::expr::zone::Zone;
use crate::expr::{Call, Context, EvalError};
use crate::types::{EventTime, Type, Value};

use super::prepare::{self, Prepared};

/// The arguments of one call.
pub(in crate::expr) struct Args<'a> {
    values: &'a [Cow<'a, Value>],
    call: &'a Call,
    context: &'a Context,
}

impl<'a> Args<'a> {
    pub(in crate::expr) fn new(
        values: &'a [Cow<'a, Value>],
        call: &'a Call,
        context: &'a Context,
    ) -> Self {
        Self {
            values,
            call,
            context,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn value(&self, at: usize) -> &Value {
        &self.values[at]
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.values.iter().map(AsRef::as_ref)
    }

    pub(super) fn text(&self, at: usize) -> Result<&str, EvalError> {
        match self.value(at) {
            Value::Str(text) => Ok(text),
            other => Err(mismatch("a STRING", other)),
        }
    }

    pub(super) fn int(&self, at: usize) -> Result<i64, EvalError> {
        match self.value(at) {
            Value::Int(value) => Ok(*value),
            other => Err(mismatch("an integer", other)),
        }
    }

    pub(super) fn double(&self, at: usize) -> Result<f64, EvalError> {
        to_f64(self.value(at))
    }

    pub(super) fn array(&self, at: usize) -> Result<&[Value], EvalError> {
        match self.value(at) {
            Value::Array(items) => Ok(items),
            other => Err(mismatch("an ARRAY", other)),
        }
    }

    /// A TIMESTAMP or DATE as microseconds. One beyond the years 0001 to 9999, which a payload of numbers can hold, is
    /// an error: no function has to think of it.
    pub(super) fn point(&self, at: usize) -> Result<i64, EvalError> {
        match self.value(at) {
            Value::Timestamp(micros) => checked_timestamp(*micros),
            Value::Date(days) => checked_timestamp(i64::from(*days).saturating_mul(MICROS_PER_DAY)),
            other => Err(mismatch("a TIMESTAMP", other)),
        }
    }

    /// An integer argument, or `default` where it was left out.
    pub(super) fn int_or(&self, at: usize, default: i64) -> Result<i64, EvalError> {
        if at < self.len() {
            self.int(at)
        } else {
            Ok(default)
        }
    }

    pub(super) fn bool(&self, at: usize) -> Result<bool, EvalError> {
        match self.value(at) {
            Value::Bool(value) => Ok(*value),
            other => Err(mismatch("a BOOLEAN", other)),
        }
    }

    pub(super) fn bytes(&self, at: usize) -> Result<&[u8], EvalError> {
        match self.value(at) {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(mismatch("BYTES", other)),
        }
    }

    pub(super) fn map(&self, at: usize) -> Result<&[(Value, Value)], EvalError> {
        match self.value(at) {
            Value::Map(entries) => Ok(entries),
            other => Err(mismatch("a MAP", other)),
        }
    }

    /// The declared type of the argument at `at`.
    pub(super) fn arg_type(&self, at: usize) -> &Type {
        &self.call.types[at]
    }

    /// The declared type of the result.
    pub(super) fn ty(&self) -> &Type {
        &self.call.ty
    }

    pub(super) fn now(&self) -> EventTime {
        self.context.now
    }

    /// What was prepared of the argument at `at`.
    fn prepared(&self, at: usize) -> Option<&Prepared> {
        let prepared = self.call.function.prepare.iter();
        let index = prepared.clone().position(|(of, _)| *of == at)?;
        self.call.prepared.get(index)
    }

    /// The unit of time at `at`, which is constant.
    pub(super) fn unit(&self, at: usize) -> Result<Unit, EvalError> {
        match self.prepared(at) {
            Some(Prepared::Unit(unit)) => Ok(*unit),
            _ => Err(EvalError::new("the unit of time must be constant")),
        }
    }

    /// The regular expression: prepared, or compiled for this row.
    pub(super) fn regex(&self, at: usize) -> Result<Cow<'_, regex_lite::Regex>, EvalError> {
        match self.prepared(at) {
            Some(Prepared::Regex(regex)) => Ok(Cow::Borrowed(regex)),
            _ => prepare::regex(self.text(at)?).map(Cow::Owned),
        }
    }

    /// The pattern of SIMILAR TO as a regular expression: prepared, or compiled for this row.
    pub(super) fn similar(&self, at: usize) -> Result<Cow<'_, regex_lite::Regex>, EvalError> {
        match self.prepared(at) {
            Some(Prepared::Regex(regex)) => Ok(Cow::Borrowed(regex)),
            _ => {
                let escape = match self.values.get(at + 1) {
                    Some(_) => self.text(at + 1)?.chars().next(),
                    None => None,
                };
                prepare::similar(self.text(at)?, escape).map(Cow::Owned)
            }
        }
    }

    /// The pattern of date and time: prepared, or compiled for this row.
    pub(super) fn pattern(&self, at: usize) -> Result<Cow<'_, TimePattern>, EvalError> {
        match self.prepared(at) {
            Some(Prepared::Pattern(pattern)) => Ok(Cow::Borrowed(pattern)),
            _ => TimePattern::compile(self.text(at)?)
                .map(Cow::Owned)
                .map_err(EvalError::new),
        }
    }

    /// The time zone: prepared, or looked up for this row.
    pub(super) fn zone(&self, at: usize) -> Result<Cow<'_, Zone>, EvalError> {
        match self.prepared(at) {
            Some(Prepared::Zone(zone)) => Ok(Cow::Borrowed(zone)),
            _ => Zone::find(self.text(at)?)
                .map(Cow::Owned)
                .map_err(|e| EvalError::new(e.message)),
        }
    }

    /// The SQL/JSON path: prepared, or compiled for this row.
    pub(super) fn json_path(&self, at: usize) -> Result<Cow<'_, JsonPath>, EvalError> {
        match self.prepared(at) {
            Some(Prepared::Path(path)) => Ok(Cow::Borrowed(path)),
            _ => JsonPath::parse(self.text(at)?)
                .map(Cow::Owned)
                .map_err(|e| EvalError::new(e.message)),
        }
    }
}
