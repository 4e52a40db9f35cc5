//! What a function computes once from its constant arguments, so that no row pays for it.
//!
//! Invariant: preparing changes no result. What is wrong with a constant argument is told when the query is
//! compiled; what is wrong with one that is known only with the row is an error of that row.

use std::sync::Arc;

use crate::expr::calendar::Unit;
use crate::expr::json::JsonPath;
use crate::expr::pattern::TimePattern;
use crate::expr::similar;
use crate::expr::zone::Zone;
use crate::expr::{EvalError, Expr, ResolveError};
use crate::types::Value;

use super::Function;

/// What an argument is, if it is constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preparation {
    /// A regular expression.
    Regex,
    /// A pattern of SIMILAR TO; its escape character, if any, is the next argument.
    Similar,
    /// A unit of time; it must be constant.
    Unit,
    /// A pattern of date and time.
    Pattern,
    /// A time zone.
    Zone,
    /// A SQL/JSON path.
    Path,
}

/// What has been computed.
#[derive(Clone, Debug)]
pub(in crate::expr) enum Prepared {
    /// The argument is not constant.
    Nothing,
    Regex(Arc<regex_lite::Regex>),
    Unit(Unit),
    Pattern(Arc<TimePattern>),
    Zone(Arc<Zone>),
    Path(Arc<JsonPath>),
}

/// One entry for each preparation of the function.
pub(super) fn prepare(function: &Function, args: &[Expr]) -> Result<Box<[Prepared]>, ResolveError> {
    let text = |position: usize| match args.get(position) {
        Some(Expr::Literal(Value::Str(text))) => Some(text.as_str()),
        _ => None,
    };
    let one = |(at, what): &(usize, Preparation)| {
        let Some(text) = text(*at) else {
            return match what {
                Preparation::Unit => Err(wrong_unit("")),
                _ => Ok(Prepared::Nothing),
            };
        };
        Ok(match what {
            Preparation::Regex => Prepared::Regex(Arc::new(regex(text).map_err(wrong_regex)?)),
            Preparation::Similar => {
                let escape = match args.get(at + 1) {
                    None => None,
                    Some(Expr::Literal(Value::Str(escape))) => escape.chars().next(),
                    Some(_) => return Ok(Prepared::Nothing),
                };
                Prepared::Regex(Arc::new(similar(text, escape).map_err(wrong_similar)?))
            }
            Preparation::Unit => Prepared::Unit(Unit::parse(text).ok_or_else(|| wrong_unit(text))?),
            Preparation::Pattern => Prepared::Pattern(Arc::new(
                TimePattern::compile(text).map_err(ResolveError::new)?,
            )),
            Preparation::Zone => Prepared::Zone(Arc::new(Zone::find(text)?)),
            Preparation::Path => Prepared::Path(Arc::new(JsonPath::parse(text)?)),
        })
    };
    function.prepare.iter().map(one).collect()
}

fn wrong_unit(name: &str) -> ResolveError {
    ResolveError::hinted(
        format!("'{name}' is not a unit of time"),
        "units are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND",
    )
}

fn wrong_regex(error: EvalError) -> ResolveError {
    ResolveError::hinted(error.0, "look-around and back-references are not supported")
}

fn wrong_similar(error: EvalError) -> ResolveError {
    ResolveError::hinted(
        error.0,
        "a pattern is made of text, % and _, |, *, +, ?, {m,n}, ( ) and [ ]",
    )
}

/// Compiles a regular expression.
pub(super) fn regex(pattern: &str) -> Result<regex_lite::Regex, EvalError> {
    regex_lite::Regex::new(pattern)
        .map_err(|e| EvalError::new(format!("'{pattern}' is not a regular expression: {e}")))
}

/// Compiles a pattern of SIMILAR TO.
pub(super) fn similar(pattern: &str, escape: Option<char>) -> Result<regex_lite::Regex, EvalError> {
    let translated = similar::translate(pattern, escape)?;
    regex_lite::Regex::new(&translated)
        .map_err(|e| EvalError::new(format!("'{pattern}' is not a pattern of SIMILAR TO: {e}")))
}
