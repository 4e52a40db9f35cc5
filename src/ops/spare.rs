//! Room that is used again: what rows and keys no longer need is for those that follow, which then allocate nothing.
//!
//! Bound: [`PIECES`] of each kind; one that has held much is not kept.

use std::collections::VecDeque;

use crate::types::Value;

const PIECES: usize = 64;
/// Bytes of the values of a row.
const BYTES: usize = 4_096;
/// Places of a queue.
const PLACES: usize = 16;

/// The values of rows that are no longer needed; all rows have equally many.
#[derive(Debug, Default)]
pub(super) struct SpareRows(Vec<Box<[Value]>>);

impl SpareRows {
    /// Values to be replaced, if there are any.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Box<[Value]>> {
        self.0.pop()
    }

    /// A copy of a row.
    pub(super) fn copy(&mut self, row: &[Value]) -> Box<[Value]> {
        let Some(mut values) = self.take() else {
            return row.into();
        };
        for (place, value) in values.iter_mut().zip(row) {
            if !place.set_plain(value) {
                place.clone_from(value);
            }
        }
        values
    }

    /// Leaves values to others, which have so many bytes of memory beside themselves.
    #[inline]
    pub(super) fn leave(&mut self, values: Box<[Value]>, apart: usize) {
        if self.0.len() < PIECES && size_of_val(&*values) + apart <= BYTES && !values.is_empty() {
            self.0.push(values);
        }
    }
}

/// The queues of keys that have nothing in them.
#[derive(Debug)]
pub(super) struct SpareQueues<T>(Vec<VecDeque<T>>);

impl<T> Default for SpareQueues<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> SpareQueues<T> {
    /// Gives a key a queue that another has left, if it has none.
    #[inline]
    pub(super) fn lend(&mut self, held: &mut VecDeque<T>) {
        if held.capacity() == 0
            && let Some(queue) = self.0.pop()
        {
            *held = queue;
        }
    }

    /// Leaves the queue of a key to others, if nothing is in it.
    #[inline]
    pub(super) fn leave(&mut self, held: &mut VecDeque<T>) {
        if held.is_empty() && held.capacity() > 0 {
            let left = std::mem::take(held);
            if left.capacity() <= PLACES && self.0.len() < PIECES {
                self.0.push(left);
            }
        }
    }
}

/// Bytes of memory that a value has beside itself, about.
#[inline]
pub(super) fn heap_bytes(value: &Value) -> usize {
    match value {
        // Not by its capacity: a copy, and what a restart reads, has another.
        Value::Str(text) if text.is_heap_allocated() => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(_) | Value::Row(_) | Value::Map(_) => bytes_of_parts(value),
        _ => 0,
    }
}

fn bytes_of_parts(value: &Value) -> usize {
    let bytes = |part: &Value| size_of::<Value>() + heap_bytes(part);
    match value {
        Value::Array(values) | Value::Row(values) => values.iter().map(bytes).sum(),
        Value::Map(entries) => entries.iter().map(|(k, v)| bytes(k) + bytes(v)).sum(),
        _ => 0,
    }
}
