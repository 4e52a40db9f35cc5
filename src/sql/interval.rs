//! INTERVAL constants: `INTERVAL '5' SECOND`, `INTERVAL '1:30' HOUR TO MINUTE`, `INTERVAL '2' MONTH`.

use sqlparser::ast::{DateTimeField, Expr as Ast, Interval, UnaryOperator, Value as AstValue};

use crate::expr::{ResolveError, Typed, Unit};
use crate::types::{Type, Value};

/// The typed constant.
pub(super) fn convert(interval: &Interval) -> Result<Typed, ResolveError> {
    let text = constant(&interval.value).ok_or_else(|| {
        ResolveError::hinted(
            "an interval is constant",
            "write INTERVAL '5' SECOND, or multiply: n * INTERVAL '1' SECOND",
        )
    })?;
    let Some(field) = &interval.leading_field else {
        return Err(ResolveError::hinted(
            "the interval has no unit",
            "write INTERVAL '5' SECOND",
        ));
    };
    let wrong = || {
        ResolveError::hinted(
            format!("'{text}' is not an interval of this unit"),
            "write INTERVAL '5' SECOND or INTERVAL '1:30' HOUR TO MINUTE",
        )
    };
    let first = unit(field)?;
    let last = interval.last_field.as_ref().map(unit).transpose()?;
    let (negative, body) = match text.trim().strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.trim().trim_start_matches('+')),
    };
    if let Some(months) = first.months() {
        let total = match last {
            None => whole(body).and_then(|n| n.checked_mul(months)),
            Some(Unit::Month) if first == Unit::Year => body
                .split_once('-')
                .and_then(|(years, rest)| whole(years)?.checked_mul(12)?.checked_add(whole(rest)?)),
            Some(_) => None,
        };
        let total = total
            .and_then(|n| i32::try_from(n).ok())
            .ok_or_else(wrong)?;
        return Ok(Typed::literal(
            Value::Months(if negative { -total } else { total }),
            Type::IntervalYearMonth,
        ));
    }
    let total = span(body, first, last).ok_or_else(wrong)?;
    Ok(Typed::literal(
        Value::Interval(if negative { -total } else { total }),
        Type::IntervalDayTime,
    ))
}

/// The text of a constant, with its sign.
fn constant(ast: &Ast) -> Option<String> {
    match ast {
        Ast::Value(value) => match &value.value {
            AstValue::SingleQuotedString(text) | AstValue::Number(text, false) => {
                Some(text.clone())
            }
            _ => None,
        },
        Ast::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => {
            let text = constant(expr)?;
            Some(match text.strip_prefix('-') {
                Some(positive) => positive.to_owned(),
                None => format!("-{text}"),
            })
        }
        Ast::Nested(inner) => constant(inner),
        _ => None,
    }
}

fn unit(field: &DateTimeField) -> Result<Unit, ResolveError> {
    let name = field.to_string();
    Unit::parse(&name)
        .filter(|unit| unit.micros().is_some() || unit.months().is_some())
        .ok_or_else(|| {
            ResolveError::hinted(
                format!("{name} is not a unit of an interval"),
                "use YEAR, MONTH, DAY, HOUR, MINUTE or SECOND",
            )
        })
}

/// Microseconds of `1 02:03:04.5` from the first unit to the last.
fn span(text: &str, first: Unit, last: Option<Unit>) -> Option<i64> {
    const ORDER: [Unit; 4] = [Unit::Day, Unit::Hour, Unit::Minute, Unit::Second];
    let Some(last) = last else {
        return scaled(text, first.micros()?);
    };
    let from = ORDER.iter().position(|u| *u == first)?;
    let to = ORDER.iter().position(|u| *u == last)?;
    let units = ORDER.get(from..=to)?;
    let parts: Vec<&str> = text.split([' ', ':']).filter(|p| !p.is_empty()).collect();
    if parts.len() != units.len() {
        return None;
    }
    let mut total = 0_i64;
    for (part, unit) in parts.iter().zip(units) {
        total = total.checked_add(scaled(part, unit.micros()?)?)?;
    }
    Some(total)
}

/// A number, with a fraction of at most six digits, in units of `micros`.
fn scaled(text: &str, micros: i64) -> Option<i64> {
    let (number, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut total = whole(number)?.checked_mul(micros)?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok().filter(|n| *n <= 9)?;
        let part = i128::from(whole(fraction)?) * i128::from(micros) / 10_i128.pow(digits);
        total = total.checked_add(i64::try_from(part).ok()?)?;
    }
    Some(total)
}

fn whole(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
