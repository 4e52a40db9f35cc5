//! String functions. Positions count characters from 1, as SQL does.

use compact_str::CompactString;

use crate::types::{Type, Value};

use super::Kind::{Bytes, Integer, Text};
use super::Output::Is;
use super::{Args, EvalError, Function, function};
use crate::expr::like::LikePattern;

/// The longest string a function may make of shorter ones, in bytes: REPEAT and REPLACE must not exhaust the memory of
/// a gateway.
pub(super) const MAX_BYTES: usize = 1 << 20;

const STRING: super::Output = Is(Type::String);
const INT: super::Output = Is(Type::Int);
const BOOL: super::Output = Is(Type::Boolean);

pub(super) const FUNCTIONS: &[Function] = &[
    function("UPPER", &[Text], STRING, |a| {
        text(a.text(0)?.to_uppercase())
    }),
    function("LOWER", &[Text], STRING, |a| {
        text(a.text(0)?.to_lowercase())
    }),
    function("INITCAP", &[Text], STRING, |a| text(initcap(a.text(0)?))),
    function("CHAR_LENGTH", &[Text], INT, char_length),
    function("CHARACTER_LENGTH", &[Text], INT, char_length),
    function("LENGTH", &[Text], INT, char_length),
    function("OCTET_LENGTH", &[Text], INT, |a| int(a.text(0)?.len())),
    function("OCTET_LENGTH", &[Bytes], INT, |a| int(a.bytes(0)?.len())),
    function("TRIM", &[Text, Text], STRING, |a| trim(a, true, true)).optional(1),
    function("BTRIM", &[Text, Text], STRING, |a| trim(a, true, true)).optional(1),
    function("LTRIM", &[Text, Text], STRING, |a| trim(a, true, false)).optional(1),
    function("RTRIM", &[Text, Text], STRING, |a| trim(a, false, true)).optional(1),
    function("SUBSTRING", &[Text, Integer, Integer], STRING, substring)
        .optional(1)
        .may_be_null(),
    function("SUBSTR", &[Text, Integer, Integer], STRING, substring)
        .optional(1)
        .may_be_null(),
    function("LEFT", &[Text, Integer], STRING, left),
    function("RIGHT", &[Text, Integer], STRING, right),
    function("CONCAT", &[Text], STRING, concat).repeated(),
    function("CONCAT_WS", &[Text, Text], STRING, concat_ws)
        .repeated()
        .sees_null(),
    function("REPLACE", &[Text, Text, Text], STRING, replace),
    function("POSITION", &[Text, Text], INT, |a| {
        find(a.text(1)?, a.text(0)?, 1)
    }),
    function("LOCATE", &[Text, Text, Integer], INT, |a| {
        find(a.text(1)?, a.text(0)?, a.int_or(2, 1)?)
    })
    .optional(1),
    function("INSTR", &[Text, Text], INT, |a| {
        find(a.text(0)?, a.text(1)?, 1)
    }),
    function("LPAD", &[Text, Integer, Text], STRING, |a| pad(a, true)).may_be_null(),
    function("RPAD", &[Text, Integer, Text], STRING, |a| pad(a, false)).may_be_null(),
    function("REVERSE", &[Text], STRING, |a| {
        text(a.text(0)?.chars().rev().collect::<String>())
    }),
    function("REPEAT", &[Text, Integer], STRING, repeat),
    function("SPLIT_INDEX", &[Text, Text, Integer], STRING, split_index).may_be_null(),
    function("STARTSWITH", &[Text, Text], BOOL, |a| {
        Ok(Value::Bool(a.text(0)?.starts_with(a.text(1)?)))
    }),
    function("STARTSWITH", &[Bytes, Bytes], BOOL, |a| {
        Ok(Value::Bool(a.bytes(0)?.starts_with(a.bytes(1)?)))
    }),
    function("ENDSWITH", &[Text, Text], BOOL, |a| {
        Ok(Value::Bool(a.text(0)?.ends_with(a.text(1)?)))
    }),
    function("ENDSWITH", &[Bytes, Bytes], BOOL, |a| {
        Ok(Value::Bool(a.bytes(0)?.ends_with(a.bytes(1)?)))
    }),
    function("ASCII", &[Text], INT, |a| {
        Ok(Value::Int(i64::from(
            a.text(0)?.bytes().next().unwrap_or(0),
        )))
    }),
    function("CHR", &[Integer], STRING, chr),
    function("$LIKE", &[Text, Text, Text], BOOL, like).optional(1),
    // CAST to CHAR(n), VARBINARY(n) and BINARY(n).
    function("$CHAR", &[Text, Integer], STRING, char_of),
    function("$VARBINARY", &[Bytes, Integer], Is(Type::Bytes), |a| {
        binary_of(a, false)
    }),
    function("$BINARY", &[Bytes, Integer], Is(Type::Bytes), |a| {
        binary_of(a, true)
    }),
];

fn text(value: impl Into<CompactString>) -> Result<Value, EvalError> {
    Ok(Value::Str(value.into()))
}

fn int(value: usize) -> Result<Value, EvalError> {
    Ok(Value::Int(value as i64))
}

fn char_length(args: &Args<'_>) -> Result<Value, EvalError> {
    int(args.text(0)?.chars().count())
}

fn initcap(value: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric();
    }
    out
}

/// Removes spaces, or any of the characters given.
fn trim(args: &Args<'_>, front: bool, back: bool) -> Result<Value, EvalError> {
    let mut value = args.text(0)?;
    let set = if args.len() > 1 { args.text(1)? } else { " " };
    if front {
        value = value.trim_start_matches(|c| set.contains(c));
    }
    if back {
        value = value.trim_end_matches(|c| set.contains(c));
    }
    text(value)
}

/// The byte at which the `count`-th character begins, or the end.
fn byte_of(value: &str, count: usize) -> usize {
    value
        .char_indices()
        .nth(count)
        .map_or(value.len(), |(at, _)| at)
}

/// From a position, which counts from the end if negative; 0 is taken as 1, and a negative length is NULL, as in
/// Flink.
fn substring(args: &Args<'_>) -> Result<Value, EvalError> {
    let value = args.text(0)?;
    let (start, length) = (args.int(1)?, args.int_or(2, i64::MAX)?);
    let count = value.chars().count() as i64;
    let from = match start {
        1.. => start - 1,
        0 => 0,
        _ => start.saturating_add(count),
    };
    if length < 0 {
        return Ok(Value::Null);
    }
    if length == 0 || from < 0 || from >= count {
        return text("");
    }
    let until = from.saturating_add(length).min(count);
    text(&value[byte_of(value, from as usize)..byte_of(value, until as usize)])
}

fn left(args: &Args<'_>) -> Result<Value, EvalError> {
    let value = args.text(0)?;
    text(&value[..byte_of(value, args.int(1)?.max(0) as usize)])
}

fn right(args: &Args<'_>) -> Result<Value, EvalError> {
    let value = args.text(0)?;
    let skipped = (value.chars().count() as i64)
        .saturating_sub(args.int(1)?.max(0))
        .max(0);
    text(&value[byte_of(value, skipped as usize)..])
}

fn concat(args: &Args<'_>) -> Result<Value, EvalError> {
    let mut out = CompactString::default();
    for at in 0..args.len() {
        out.push_str(args.text(at)?);
    }
    text(out)
}

/// Joins what is not NULL; a NULL separator makes NULL.
fn concat_ws(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Null);
    }
    let separator = args.text(0)?;
    let mut out = CompactString::default();
    let mut first = true;
    for at in 1..args.len() {
        if !args.value(at).is_null() {
            if !first {
                out.push_str(separator);
            }
            out.push_str(args.text(at)?);
            first = false;
        }
    }
    text(out)
}

/// The position of `needle` from character `start` on, 0 if it is not there.
fn find(value: &str, needle: &str, start: i64) -> Result<Value, EvalError> {
    let Ok(skipped) = usize::try_from(start.saturating_sub(1)) else {
        return int(0);
    };
    let from = byte_of(value, skipped);
    match value[from..].find(needle) {
        Some(at) => int(value[..from + at].chars().count() + 1),
        None => int(0),
    }
}

/// Pads or cuts to a length; NULL where the length is negative or nothing is there to pad with.
fn pad(args: &Args<'_>, front: bool) -> Result<Value, EvalError> {
    let (value, length, with) = (args.text(0)?, args.int(1)?, args.text(2)?);
    let count = value.chars().count();
    let Ok(length) = usize::try_from(length) else {
        return Ok(Value::Null);
    };
    if length <= count {
        return text(&value[..byte_of(value, length)]);
    }
    if with.is_empty() {
        return Ok(Value::Null);
    }
    if length > MAX_BYTES / 4 {
        return Err(too_long());
    }
    let filling: String = with.chars().cycle().take(length - count).collect();
    text(if front {
        filling + value
    } else {
        value.to_owned() + &filling
    })
}

/// The text cut or filled with spaces to a length.
fn char_of(args: &Args<'_>) -> Result<Value, EvalError> {
    let (value, length) = (args.text(0)?, args.int(1)?.max(0) as usize);
    let count = value.chars().count();
    if length <= count {
        return text(&value[..byte_of(value, length)]);
    }
    if length > MAX_BYTES {
        return Err(too_long());
    }
    text(value.to_owned() + &" ".repeat(length - count))
}

/// The bytes cut to a length, or filled with zeros to it.
fn binary_of(args: &Args<'_>, fill: bool) -> Result<Value, EvalError> {
    let (value, length) = (args.bytes(0)?, args.int(1)?.max(0) as usize);
    if length > MAX_BYTES && fill {
        return Err(too_long());
    }
    let mut bytes = value[..value.len().min(length)].to_vec();
    if fill {
        bytes.resize(length, 0);
    }
    Ok(Value::Bytes(bytes.into()))
}

fn repeat(args: &Args<'_>) -> Result<Value, EvalError> {
    let (value, times) = (args.text(0)?, usize::try_from(args.int(1)?).unwrap_or(0));
    if value.len().saturating_mul(times) > MAX_BYTES {
        return Err(too_long());
    }
    text(value.repeat(times))
}

fn replace(args: &Args<'_>) -> Result<Value, EvalError> {
    let (value, from, to) = (args.text(0)?, args.text(1)?, args.text(2)?);
    if to.len() > from.len() {
        let count = value.matches(from).count();
        if count.saturating_mul(to.len()).saturating_add(value.len()) > MAX_BYTES {
            return Err(too_long());
        }
    }
    text(value.replace(from, to))
}

pub(super) fn too_long() -> EvalError {
    EvalError::new(format!("the string would be longer than {MAX_BYTES} bytes"))
}

/// A part between separators, counted from 0 as in Flink; NULL if there is none.
fn split_index(args: &Args<'_>) -> Result<Value, EvalError> {
    let (value, separator) = (args.text(0)?, args.text(1)?);
    let Ok(index) = usize::try_from(args.int(2)?) else {
        return Ok(Value::Null);
    };
    if separator.is_empty() {
        return Ok(Value::Null);
    }
    Ok(value
        .split(separator)
        .nth(index)
        .map_or(Value::Null, Value::str))
}

fn chr(args: &Args<'_>) -> Result<Value, EvalError> {
    let code = args.int(0)?;
    // Flink keeps the lowest byte.
    if code < 0 {
        return text("");
    }
    text(char::from((code & 0xff) as u8).to_string())
}

fn like(args: &Args<'_>) -> Result<Value, EvalError> {
    let escape = if args.len() > 2 {
        args.text(2)?.chars().next()
    } else {
        None
    };
    LikePattern::matches_dynamic(args.text(0)?, args.text(1)?, escape).map(Value::Bool)
}
