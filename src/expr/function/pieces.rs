//! Functions that take texts to pieces and put pieces together.

use crate::types::{Type, Value};

use super::Kind::{Any, Common, Integer, Text};
use super::Output::Is;
use super::prepare::Preparation::Regex;
use super::{Args, EvalError, Function, Output, function};

const STRING: Output = Is(Type::String);
const BOOL: Output = Is(Type::Boolean);

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "SPLIT",
        &[Text, Text],
        Output::By(|_| Type::Array(Type::String.into())),
        split,
    ),
    function(
        "SUBSTRING_INDEX",
        &[Text, Text, Integer],
        STRING,
        substring_index,
    ),
    function(
        "STR_TO_MAP",
        &[Text, Text, Text],
        Output::By(|_| Type::Map(Type::String.into(), Type::String.into())),
        str_to_map,
    )
    .optional(2)
    .prepare(&[(1, Regex), (2, Regex)]),
    function("ELT", &[Integer, Common], Output::Common, elt)
        .repeated()
        .sees_null()
        .may_be_null(),
    function("TRANSLATE", &[Text, Text, Text], STRING, translate),
    function("OVERLAY", &[Text, Text, Integer, Integer], STRING, overlay).optional(1),
    function("PARSE_URL", &[Text, Text, Text], STRING, parse_url)
        .optional(1)
        .may_be_null(),
    function("IS_ALPHA", &[Any], BOOL, |a| {
        consists_of(a, char::is_alphabetic, |_| false)
    })
    .sees_null(),
    function("IS_DIGIT", &[Any], BOOL, |a| {
        consists_of(a, char::is_numeric, |v| matches!(v, Value::Int(_)))
    })
    .sees_null(),
    function("IS_DECIMAL", &[Any], BOOL, is_decimal).sees_null(),
];

/// The parts between delimiters; an empty delimiter stands between all characters.
fn split(args: &Args<'_>) -> Result<Value, EvalError> {
    let (text, delimiter) = (args.text(0)?, args.text(1)?);
    let parts: Vec<Value> = if delimiter.is_empty() {
        let mut utf8 = [0; 4];
        text.chars()
            .map(|c| Value::str(&*c.encode_utf8(&mut utf8)))
            .collect()
    } else {
        text.split(delimiter).map(Value::str).collect()
    };
    Ok(Value::Array(parts.into()))
}

/// What is before the n-th delimiter; counted from the end, and what is behind it, if n is negative. Not in Flink;
/// as in `MySQL`.
fn substring_index(args: &Args<'_>) -> Result<Value, EvalError> {
    let (text, delimiter, count) = (args.text(0)?, args.text(1)?, args.int(2)?);
    if count == 0 || delimiter.is_empty() {
        return Ok(Value::str(""));
    }
    let nth = usize::try_from(count.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let kept = if count > 0 {
        text.match_indices(delimiter)
            .nth(nth)
            .map(|(at, _)| &text[..at])
    } else {
        text.rmatch_indices(delimiter)
            .nth(nth)
            .map(|(at, _)| &text[at + delimiter.len()..])
    };
    Ok(Value::str(kept.unwrap_or(text)))
}

/// Both delimiters are regular expressions, as in Flink. Of a key that comes twice the last value counts; a pair
/// without a delimiter is a key with NULL.
fn str_to_map(args: &Args<'_>) -> Result<Value, EvalError> {
    let text = args.text(0)?;
    let pieces: Vec<&str> = if args.len() > 1 {
        args.regex(1)?.split(text).collect()
    } else {
        text.split(',').collect()
    };
    let inner = if args.len() > 2 {
        Some(args.regex(2)?)
    } else {
        None
    };
    // Java leaves out the empty pieces at the end.
    let count = pieces
        .iter()
        .rposition(|p| !p.is_empty())
        .map_or(0, |at| at + 1);
    let entry = |pair: &&str| {
        let found = match &inner {
            Some(regex) => regex.find(pair).map(|found| found.range()),
            None => pair.find('=').map(|at| at..at + 1),
        };
        match found {
            Some(at) => (Value::str(&pair[..at.start]), Value::str(&pair[at.end..])),
            None => (Value::str(*pair), Value::Null),
        }
    };
    Ok(super::collection::map_of(
        pieces[..count].iter().map(entry).collect(),
    ))
}

/// The n-th of the values from 1; NULL if there is none.
fn elt(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Null);
    }
    Ok(usize::try_from(args.int(0)?)
        .ok()
        .filter(|at| (1..args.len()).contains(at))
        .map_or(Value::Null, |at| args.value(at).clone()))
}

/// Each character of the second text becomes the one at its place in the third, or nothing where that is shorter.
fn translate(args: &Args<'_>) -> Result<Value, EvalError> {
    let (text, from) = (args.text(0)?, args.text(1)?);
    let to: Vec<char> = args.text(2)?.chars().collect();
    // The first of two equal characters counts.
    let mut changes = std::collections::BTreeMap::new();
    for (at, c) in from.chars().enumerate() {
        changes.entry(c).or_insert_with(|| to.get(at).copied());
    }
    let translated: String = text
        .chars()
        .filter_map(|c| changes.get(&c).copied().unwrap_or(Some(c)))
        .collect();
    Ok(Value::str(translated))
}

/// Puts a text in the place of `length` characters (as many as it has itself, if left out) from a position on.
fn overlay(args: &Args<'_>) -> Result<Value, EvalError> {
    let (text, with) = (args.text(0)?, args.text(1)?);
    let chars: Vec<char> = text.chars().collect();
    let start = args.int(2)?;
    let length = args.int_or(3, with.chars().count() as i64)?;
    let count = chars.len() as i64;
    if start <= 0 || start > count {
        return Ok(Value::str(text));
    }
    let mut out: String = chars[..(start - 1) as usize].iter().collect();
    out.push_str(with);
    // A length below one takes the rest away, as in Flink.
    if length > 0 && start.saturating_add(length) <= count {
        out.extend(&chars[(start - 1 + length) as usize..]);
    }
    Ok(Value::str(out))
}

fn consists_of(
    args: &Args<'_>,
    of: fn(char) -> bool,
    other: fn(&Value) -> bool,
) -> Result<Value, EvalError> {
    Ok(Value::Bool(match args.value(0) {
        Value::Str(text) => !text.is_empty() && text.chars().all(of),
        value => other(value),
    }))
}

/// Whether a text can be read as a number; numbers can, NULL cannot.
fn is_decimal(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Bool(match args.value(0) {
        Value::Str(text) => crate::expr::cast::parse_double(text).is_some(),
        Value::Int(_) | Value::Float(_) | Value::Double(_) | Value::Decimal(_) => true,
        _ => false,
    }))
}

/// A part of a URL; NULL where the URL lacks it, or is none. The parts are as in Java's `URL`, of any scheme.
fn parse_url(args: &Args<'_>) -> Result<Value, EvalError> {
    let Some(url) = Url::parse(args.text(0)?) else {
        return Ok(Value::Null);
    };
    let part = args.text(1)?;
    if args.len() > 2 {
        let key = args.text(2)?;
        let found = url.query.filter(|_| part == "QUERY").and_then(|query| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
        });
        return Ok(found.map_or(Value::Null, Value::str));
    }
    let found = match part {
        "PROTOCOL" => Some(url.scheme),
        "HOST" => Some(url.host),
        "AUTHORITY" => Some(url.authority),
        "USERINFO" => url.user,
        "PATH" => Some(url.path),
        "QUERY" => url.query,
        "FILE" => Some(url.file),
        "REF" => url.fragment,
        _ => None,
    };
    Ok(found.map_or(Value::Null, Value::str))
}

struct Url<'a> {
    scheme: &'a str,
    authority: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    /// Path and query.
    file: &'a str,
    fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(':')?;
        let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !named {
            return None;
        }
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let (authority, file) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        // An IPv6 address stands in brackets and has colons itself.
        let port = place.rfind(':').filter(|at| !place[*at..].contains(']'));
        let host = &place[..port.unwrap_or(place.len())];
        let (path, query) = match file.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (file, None),
        };
        Some(Self {
            scheme,
            authority,
            user,
            host,
            path,
            query,
            file,
            fragment,
        })
    }
}
