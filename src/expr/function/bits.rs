//! Functions on the bits of integers. Flink has none in SQL; the names are those of the field.
//!
//! Negative numbers are two's complement of the width of their type.

use crate::types::{Type, Value};

use super::Kind::Integer;
use super::Output::{Is, Like};
use super::{Args, EvalError, Function, Output, function};

pub(super) const FUNCTIONS: &[Function] = &[
    function("BITAND", &[Integer, Integer], Output::By(wider), |a| {
        two(a, |x, y| x & y)
    }),
    function("BITOR", &[Integer, Integer], Output::By(wider), |a| {
        two(a, |x, y| x | y)
    }),
    function("BITXOR", &[Integer, Integer], Output::By(wider), |a| {
        two(a, |x, y| x ^ y)
    }),
    function("BITNOT", &[Integer], Like(0), |a| {
        Ok(Value::Int(!a.int(0)?))
    }),
    function("BIT_COUNT", &[Integer], Is(Type::Int), count),
    function("BITCOUNT", &[Integer], Is(Type::Int), count),
    function("SHIFTLEFT", &[Integer, Integer], Like(0), |a| {
        shift(a, |value, by, width| cut(value.wrapping_shl(by), width))
    }),
    function("SHIFTRIGHT", &[Integer, Integer], Like(0), |a| {
        shift(a, |value, by, _| value >> by)
    }),
    function("SHIFTRIGHTUNSIGNED", &[Integer, Integer], Like(0), |a| {
        shift(a, |value, by, width| {
            cut((bits(value, width) >> by) as i64, width)
        })
    }),
];

/// The wider of two integer types.
fn wider(types: &[Type]) -> Type {
    match types {
        [a, b] => crate::expr::common_type(a, b).unwrap_or(Type::BigInt),
        _ => Type::BigInt,
    }
}

fn two(args: &Args<'_>, op: fn(i64, i64) -> i64) -> Result<Value, EvalError> {
    Ok(Value::Int(op(args.int(0)?, args.int(1)?)))
}

/// How many bits the type has.
fn width(ty: &Type) -> u32 {
    match ty {
        Type::TinyInt => 8,
        Type::SmallInt => 16,
        Type::Int => 32,
        _ => 64,
    }
}

/// The bits of a value without those that only extend its sign.
fn bits(value: i64, width: u32) -> u64 {
    (value as u64) & (u64::MAX >> (64 - width))
}

/// The lowest bits as a signed number.
fn cut(value: i64, width: u32) -> i64 {
    let unused = 64 - width;
    (value << unused) >> unused
}

/// A count beyond the width of the type is taken modulo the width, as processors and Java do.
fn shift(args: &Args<'_>, op: fn(i64, u32, u32) -> i64) -> Result<Value, EvalError> {
    let width = width(args.ty());
    let by = args.int(1)?.rem_euclid(i64::from(width)) as u32;
    Ok(Value::Int(op(args.int(0)?, by, width)))
}

/// A negative number is counted as a BIGINT, as Spark does.
fn count(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Int(i64::from(args.int(0)?.count_ones())))
}
