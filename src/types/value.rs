//! SQL types and the values of them.
//!
//! Invariants: a value does not carry its declared type (the plan knows it); integers of all widths are `Int`,
//! checked against the declared width where they are made. TIMESTAMP and `TIMESTAMP_LTZ` share one representation,
//! microseconds since 1970 in UTC, and differ by type alone.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use rust_decimal::Decimal;

/// A SQL type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// The type of a bare NULL; becomes any other type.
    Null,
    /// BOOLEAN.
    Boolean,
    /// TINYINT, 8 bits.
    TinyInt,
    /// SMALLINT, 16 bits.
    SmallInt,
    /// INT, 32 bits.
    Int,
    /// BIGINT, 64 bits.
    BigInt,
    /// FLOAT, 32 bits.
    Float,
    /// DOUBLE, 64 bits.
    Double,
    /// DECIMAL(precision, scale), exact, at most 28 digits.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// STRING, VARCHAR(n), CHAR(n): UTF-8 text.
    String,
    /// BYTES, VARBINARY(n), BINARY(n).
    Bytes,
    /// DATE: days since 1970-01-01.
    Date,
    /// TIME(p): microseconds since midnight.
    Time {
        /// Fraction digits, 0 to 6.
        precision: u8,
    },
    /// TIMESTAMP(p): a date and time without a zone.
    Timestamp {
        /// Fraction digits, 0 to 6.
        precision: u8,
    },
    /// `TIMESTAMP_LTZ(p)`: a point on the time line.
    TimestampLtz {
        /// Fraction digits, 0 to 6.
        precision: u8,
    },
    /// INTERVAL of days to seconds, in microseconds.
    IntervalDayTime,
    /// INTERVAL of years and months, in months.
    IntervalYearMonth,
    /// ARRAY of one type.
    Array(Arc<Type>),
    /// MAP from one type to another.
    Map(Arc<Type>, Arc<Type>),
    /// ROW of named fields.
    Row(Arc<[Field]>),
}

/// A field of a ROW.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub name: CompactString,
    /// Its type.
    pub ty: Type,
}

impl Type {
    /// Whether values are integers of some width.
    pub const fn is_integer(&self) -> bool {
        matches!(
            self,
            Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt
        )
    }

    /// Whether arithmetic is defined on the type.
    pub const fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self, Self::Float | Self::Double | Self::Decimal { .. })
    }

    /// Whether the type is a point in time that can carry a watermark.
    pub const fn is_timestamp(&self) -> bool {
        matches!(self, Self::Timestamp { .. } | Self::TimestampLtz { .. })
    }

    /// The least and the greatest value of an integer type.
    pub const fn integer_range(&self) -> Option<(i64, i64)> {
        match self {
            Self::TinyInt => Some((i8::MIN as i64, i8::MAX as i64)),
            Self::SmallInt => Some((i16::MIN as i64, i16::MAX as i64)),
            Self::Int => Some((i32::MIN as i64, i32::MAX as i64)),
            Self::BigInt => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    /// The type as SQL writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            Self::String => f.write_str("STRING"),
            Self::Bytes => f.write_str("BYTES"),
            Self::Date => f.write_str("DATE"),
            Self::Time { precision } => write!(f, "TIME({precision})"),
            Self::Timestamp { precision } => write!(f, "TIMESTAMP({precision})"),
            Self::TimestampLtz { precision } => write!(f, "TIMESTAMP_LTZ({precision})"),
            Self::IntervalDayTime => f.write_str("INTERVAL DAY TO SECOND"),
            Self::IntervalYearMonth => f.write_str("INTERVAL YEAR TO MONTH"),
            Self::Array(item) => write!(f, "ARRAY<{item}>"),
            Self::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            Self::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}`{}` {}", field.name, field.ty)?;
                }
                f.write_str(">")
            }
        }
    }
}

/// A value of some [`Type`], or NULL.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// The absence of a value.
    #[default]
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL.
    Decimal(Decimal),
    /// STRING.
    Str(CompactString),
    /// BYTES.
    Bytes(Arc<[u8]>),
    /// DATE, in days since 1970-01-01.
    Date(i32),
    /// TIME, in microseconds since midnight.
    Time(i64),
    /// TIMESTAMP or `TIMESTAMP_LTZ`, in microseconds since 1970-01-01T00:00:00 UTC.
    Timestamp(i64),
    /// INTERVAL DAY TO SECOND, in microseconds.
    Interval(i64),
    /// INTERVAL YEAR TO MONTH, in months.
    Months(i32),
    /// ARRAY.
    Array(Arc<[Value]>),
    /// MAP, in the order it was made.
    Map(Arc<[(Value, Value)]>),
    /// ROW, in the order of its fields.
    Row(Arc<[Value]>),
}

impl Value {
    /// Whether this is NULL.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Becomes a copy of `other` where both are numbers or times of one kind, as from one row to the next, which takes
    /// next to nothing; whether they are.
    #[inline]
    pub fn set_plain(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Double(place), Self::Double(value)) => *place = *value,
            (Self::Int(place), Self::Int(value))
            | (Self::Timestamp(place), Self::Timestamp(value)) => *place = *value,
            _ => return false,
        }
        true
    }

    /// A STRING.
    pub fn str(text: impl Into<CompactString>) -> Self {
        Self::Str(text.into())
    }
}

/// The values of one event, in the order of its [`super::Schema`].
pub type Row = Vec<Value>;

impl Value {
    /// How this value stands to `other` in SQL's order; `None` where either is NULL or the two are of kinds that
    /// have no common order. NaN is greater than every number and equal to itself, as in Flink's sort order.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => compare_f64(*a, *b),
            (Self::Float(a), Self::Float(b)) => compare_f64(f64::from(*a), f64::from(*b)),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Str(a), Self::Str(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) | (Self::Months(a), Self::Months(b)) => a.cmp(b),
            (Self::Time(a), Self::Time(b))
            | (Self::Timestamp(a), Self::Timestamp(b))
            | (Self::Interval(a), Self::Interval(b)) => a.cmp(b),
            _ => return None,
        })
    }
}

fn compare_f64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
