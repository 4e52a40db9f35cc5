//! Aggregates that keep their values: LISTAGG, `ARRAY_AGG`, COLLECT, and the set behind DISTINCT.
//!
//! Invariants: values stand in order of arrival, those of a merge's left side first; equal means equal as a grouping key
//! (`state::key_bytes`). Bounds: [`MAX_VALUES`] values and [`MAX_BYTES`] bytes; beyond either the aggregate gives
//! an error for its window and keeps nothing, since a count or list that stopped growing would be wrong.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use super::failure::Failure;
use super::{MAX_BYTES, MAX_VALUES};
use crate::state::{Decoder, Encoder, StateError, decode_key, key_bytes};
use crate::types::{Type, Value};

/// LISTAGG: the text so far, if there was a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text(Option<String>);

impl Text {
    pub(super) fn add(&mut self, more: &str, separator: &str) -> Result<(), Failure> {
        let held = self
            .0
            .as_ref()
            .map_or(0, |text| text.len() + separator.len());
        if held + more.len() > MAX_BYTES {
            return Err(Failure::Bytes);
        }
        match &mut self.0 {
            Some(text) => {
                text.push_str(separator);
                text.push_str(more);
            }
            None => self.0 = Some(more.to_owned()),
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, later: &Self, separator: &str) -> Result<(), Failure> {
        later
            .0
            .as_ref()
            .map_or(Ok(()), |more| self.add(more, separator))
    }

    pub(super) fn result(&self) -> Value {
        self.0.as_ref().map_or(Value::Null, Value::str)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(1 + u64::from(self.0.is_some()));
        if let Some(text) = &self.0 {
            out.str(text);
        }
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let text = if first > 1 {
            Some(from.str()?.to_owned())
        } else {
            None
        };
        Ok(Self(text))
    }
}

/// `ARRAY_AGG`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct List {
    values: Vec<Value>,
    bytes: usize,
}

impl List {
    pub(super) fn add(&mut self, value: Value) -> Result<(), Failure> {
        let mut encoder = Encoder::new();
        encoder.value(&value);
        if self.values.len() >= MAX_VALUES {
            return Err(Failure::Values);
        }
        self.bytes += encoder.len();
        if self.bytes > MAX_BYTES {
            return Err(Failure::Bytes);
        }
        self.values.push(value);
        Ok(())
    }

    pub(super) fn merge(&mut self, later: &Self) -> Result<(), Failure> {
        later
            .values
            .iter()
            .try_for_each(|value| self.add(value.clone()))
    }

    /// NULL over no row, as in Flink.
    pub(super) fn result(&self) -> Value {
        if self.values.is_empty() {
            Value::Null
        } else {
            Value::Array(self.values.as_slice().into())
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(1);
        out.values(&self.values);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let before = from.remaining();
        let values = from.values()?;
        let mut count = Encoder::new();
        count.u64(values.len() as u64);
        let bytes = before - from.remaining() - count.len();
        Ok(Self { values, bytes })
    }
}

/// A multiset of rows of arguments, in order of their first arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Bag {
    entries: IndexMap<Box<[u8]>, u64, FixedState>,
    bytes: usize,
}

impl PartialEq for Bag {
    fn eq(&self, other: &Self) -> bool {
        self.entries.iter().eq(other.entries.iter())
    }
}

/// What is left after a value was taken out of a [`Bag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It was not there.
    Absent,
    /// More of the same.
    Some,
    /// None of the same.
    None,
}

/// The canonical bytes of a row of arguments.
pub(super) fn key_of(arguments: &[Value]) -> Vec<u8> {
    let mut key = Vec::new();
    key_bytes(arguments, &mut key);
    key
}

/// The arguments behind canonical bytes; DECIMALs have the digits of their type again.
pub(super) fn arguments_of(key: &[u8], types: &[Type]) -> Result<Vec<Value>, StateError> {
    let mut arguments = decode_key(key)?;
    for (argument, ty) in arguments.iter_mut().zip(types) {
        if let (Value::Decimal(number), Type::Decimal { scale, .. }) = (argument, ty) {
            number.rescale(u32::from(*scale).min(rust_decimal::Decimal::MAX_SCALE));
        }
    }
    Ok(arguments)
}

impl Bag {
    /// Puts in `count` of a row of arguments; whether it is the first of its kind.
    pub(super) fn add(&mut self, key: &[u8], count: u64) -> Result<bool, Failure> {
        if let Some(held) = self.entries.get_mut(key) {
            *held = held.saturating_add(count);
            return Ok(false);
        }
        if self.entries.len() >= MAX_VALUES {
            return Err(Failure::Values);
        }
        if self.bytes + key.len() > MAX_BYTES {
            return Err(Failure::Bytes);
        }
        self.bytes += key.len();
        self.entries.insert(key.into(), count);
        Ok(true)
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, key: &[u8]) -> Left {
        match self.entries.get_mut(key) {
            None => Left::Absent,
            Some(count) if *count > 1 => {
                *count -= 1;
                Left::Some
            }
            Some(_) => {
                self.entries.shift_remove(key);
                self.bytes -= key.len();
                Left::None
            }
        }
    }

    pub(super) fn merge(&mut self, later: &Self) -> Result<(), Failure> {
        let mut entries = later.entries.iter();
        entries.try_for_each(|(key, count)| self.add(key, *count).map(|_| ()))
    }

    /// Every kind once, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.keys().map(|key| &**key)
    }

    /// How many of one kind there are.
    pub(super) fn count(&self, key: &[u8]) -> u64 {
        self.entries.get(key).copied().unwrap_or(0)
    }

    /// COLLECT: a MAP of each value to how often it is there, which is how Flink's JSON writes a MULTISET.
    pub(super) fn result(&self, types: &[Type], distinct: bool) -> Result<Value, String> {
        let mut pairs = Vec::with_capacity(self.entries.len());
        for (key, count) in &self.entries {
            let mut arguments = arguments_of(key, types).map_err(|error| error.to_string())?;
            let Some(value) = arguments.pop() else {
                continue;
            };
            let count = if distinct { 1 } else { *count };
            let count = i32::try_from(count)
                .map_err(|_| format!("{count} of one value do not fit INT; use COUNT"))?;
            pairs.push((value, Value::Int(count.into())));
        }
        Ok(Value::Map(pairs.into()))
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.entries.len() as u64 + 1);
        for (key, count) in &self.entries {
            out.bytes(key);
            out.u64(*count);
        }
    }

    pub(super) fn decode(first: u64, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut bag = Self::default();
        for _ in 1..first {
            let (key, count) = (from.bytes()?, from.u64()?);
            if bag.add(key, count).is_err() {
                return Err(StateError::Invalid {
                    what: "set of values",
                });
            }
        }
        Ok(bag)
    }
}
