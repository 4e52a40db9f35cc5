//! What becomes of a value of a message: how it is read, and where it is put.

use compact_str::CompactString;

use super::super::TimestampFormat;
use super::super::decode::InputColumn;
use super::super::json::JsonShape;
use super::super::timestamp::epoch_micros;
use super::scalar::{POWERS, Scalar, skip};
use super::words::{ShortNumber, text_at, whole_number};
use crate::types::{Row, Type, Value, calendar};

/// How a value is read, and the column that it is for.
#[derive(Clone, Debug)]
pub(super) enum Read {
    /// By nobody.
    Not,
    Double(usize),
    Text(usize),
    /// An integer and the range of its type.
    Integer(usize, i64, i64),
    /// A whole number of so many microseconds since 1970, of which nothing is cut off.
    Time(usize, i64),
    /// As its column's type has it.
    Other(usize),
}

impl Read {
    pub(super) fn of(slot: usize, ty: &Type, format: &TimestampFormat) -> Self {
        match ty {
            Type::Double => Self::Double(slot),
            Type::String => Self::Text(slot),
            Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt => {
                let (least, greatest) = ty.integer_range().unwrap_or_default();
                Self::Integer(slot, least, greatest)
            }
            Type::Timestamp { precision } | Type::TimestampLtz { precision } => {
                match epoch_micros(1, format) {
                    Some(unit) if unit > 0 && calendar::cut(unit, *precision) == unit => {
                        Self::Time(slot, unit)
                    }
                    _ => Self::Other(slot),
                }
            }
            _ => Self::Other(slot),
        }
    }

    /// The column.
    pub(super) const fn slot(&self) -> Option<usize> {
        match self {
            Self::Not => None,
            Self::Double(slot)
            | Self::Text(slot)
            | Self::Integer(slot, ..)
            | Self::Time(slot, _)
            | Self::Other(slot) => Some(*slot),
        }
    }

    /// Reads what begins at `at`, where it is what is most often seen; gives where it ends.
    #[inline]
    fn quick(&self, message: &[u8], at: usize, row: &mut Row) -> Option<usize> {
        match self {
            Self::Not => match ShortNumber::read(message, at) {
                Some(number) => Some(at + number.length as usize),
                None => skip(message, at),
            },
            Self::Double(slot) => {
                let number = ShortNumber::read(message, at)?;
                let ten_power = POWERS[number.fraction as usize];
                put_double(&mut row[*slot], number.digits() as f64 / ten_power);
                Some(at + number.length as usize)
            }
            Self::Text(slot) => {
                if *message.get(at)? != b'"' {
                    return None;
                }
                let text = text_at(message, at + 1)?;
                put_text(&mut row[*slot], text.read(message)?);
                Some(text.end + 1)
            }
            Self::Integer(slot, least, greatest) => {
                let (number, end) = whole_number(message, at)?;
                put_integer(&mut row[*slot], number, *least, *greatest)?;
                Some(end)
            }
            Self::Time(slot, unit) => {
                let (number, end) = whole_number(message, at)?;
                put_time(&mut row[*slot], number, *unit)?;
                Some(end)
            }
            Self::Other(_) => None,
        }
    }

    /// Reads what begins at `at`; gives where it ends.
    #[inline(never)]
    pub(super) fn value(
        &self,
        message: &[u8],
        at: usize,
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> Option<usize> {
        let quick = self.quick(message, at, row);
        quick.or_else(|| self.any(message, at, shape, columns, row))
    }

    /// Reads whatever begins at `at`; gives where it ends.
    fn any(
        &self,
        message: &[u8],
        at: usize,
        shape: &JsonShape,
        columns: &[InputColumn],
        row: &mut Row,
    ) -> Option<usize> {
        let slot = self.slot()?;
        let column = &columns[slot];
        let (scalar, end) = Scalar::read(message, at)?;
        let value = scalar.value(&message[at..end], &column.ty, shape)?;
        if value.is_null() && !column.nullable {
            return None;
        }
        row[slot] = value;
        Some(end)
    }
}

// Mostly a place holds a value of the same kind, of the message before.

#[inline]
pub(super) fn put_double(place: &mut Value, number: f64) {
    match place {
        Value::Double(place) => *place = number,
        place => *place = Value::Double(number),
    }
}

#[inline]
pub(super) fn put_text(place: &mut Value, text: CompactString) {
    match place {
        Value::Str(place) => *place = text,
        place => *place = Value::Str(text),
    }
}

#[inline]
pub(super) fn put_integer(place: &mut Value, number: i64, least: i64, greatest: i64) -> Option<()> {
    if number < least || number > greatest {
        return None;
    }
    match place {
        Value::Int(place) => *place = number,
        place => *place = Value::Int(number),
    }
    Some(())
}

#[inline]
pub(super) fn put_time(place: &mut Value, number: i64, unit: i64) -> Option<()> {
    let micros = number.checked_mul(unit)?;
    match place {
        Value::Timestamp(place) => *place = micros,
        place => *place = Value::Timestamp(micros),
    }
    Some(())
}
