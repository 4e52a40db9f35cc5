//! Functions of time. The session's time zone is UTC.

use crate::types::{Type, Value};

use super::Kind::{Date, Integer, Number, Point, Span, Text, TimeOfDay};
use super::Output::{By, Is, Like};
use super::prepare::Preparation::{Pattern, Unit as PreparedUnit};
use super::{Args, EvalError, Function, function};
use crate::expr::calendar::{self, MICROS_PER_DAY, Unit};
use crate::expr::cast::double_to_int;
use crate::expr::numeric::to_f64;

const BIGINT: super::Output = Is(Type::BigInt);
const STRING: super::Output = Is(Type::String);
const TIMESTAMP: super::Output = Is(Type::Timestamp { precision: 3 });
const LTZ: super::Output = Is(Type::TimestampLtz { precision: 3 });

pub(super) const FUNCTIONS: &[Function] = &[
    function("NOW", &[], LTZ, now).clock(),
    function("CURRENT_TIMESTAMP", &[], LTZ, now).clock(),
    function("CURRENT_ROW_TIMESTAMP", &[], LTZ, now).clock(),
    function("LOCALTIMESTAMP", &[], TIMESTAMP, now).clock(),
    function("CURRENT_DATE", &[], Is(Type::Date), today).clock(),
    function(
        "CURRENT_TIME",
        &[],
        Is(Type::Time { precision: 0 }),
        time_of_day,
    )
    .clock(),
    function(
        "LOCALTIME",
        &[],
        Is(Type::Time { precision: 0 }),
        time_of_day,
    )
    .clock(),
    function("TO_TIMESTAMP", &[Text, Text], TIMESTAMP, to_timestamp)
        .optional(1)
        .prepare(&[(1, Pattern)]),
    function("TO_TIMESTAMP_LTZ", &[Number, Integer], LTZ, from_epoch).optional(1),
    function("TO_TIMESTAMP_LTZ", &[Text, Text], LTZ, to_timestamp)
        .optional(1)
        .prepare(&[(1, Pattern)]),
    function("TO_DATE", &[Text, Text], Is(Type::Date), to_date)
        .optional(1)
        .prepare(&[(1, Pattern)]),
    function("DATE_FORMAT", &[Point, Text], STRING, date_format).prepare(&[(1, Pattern)]),
    function("DATE_FORMAT", &[Text, Text], STRING, date_format_text).prepare(&[(1, Pattern)]),
    function("FROM_UNIXTIME", &[Integer, Text], STRING, from_unixtime)
        .optional(1)
        .prepare(&[(1, Pattern)]),
    function("UNIX_TIMESTAMP", &[], BIGINT, |a| {
        Ok(Value::Int(a.now().as_micros().div_euclid(1_000_000)))
    })
    .clock(),
    function("UNIX_TIMESTAMP", &[Text, Text], BIGINT, unix_timestamp)
        .optional(1)
        .prepare(&[(1, Pattern)]),
    function("UNIX_TIMESTAMP", &[Point], BIGINT, |a| {
        Ok(Value::Int(a.point(0)?.div_euclid(1_000_000)))
    }),
    function("EXTRACT", &[Text, Point], BIGINT, extract).prepare(&[(0, PreparedUnit)]),
    function("EXTRACT", &[Text, TimeOfDay], BIGINT, extract_time).prepare(&[(0, PreparedUnit)]),
    function("EXTRACT", &[Text, Span], BIGINT, extract_span).prepare(&[(0, PreparedUnit)]),
    function("YEAR", &[Point], BIGINT, |a| part(a, Unit::Year)),
    function("QUARTER", &[Point], BIGINT, |a| part(a, Unit::Quarter)),
    function("MONTH", &[Point], BIGINT, |a| part(a, Unit::Month)),
    function("WEEK", &[Point], BIGINT, |a| part(a, Unit::Week)),
    function("DAYOFYEAR", &[Point], BIGINT, |a| part(a, Unit::DayOfYear)),
    function("DAYOFMONTH", &[Point], BIGINT, |a| part(a, Unit::Day)),
    function("DAYOFWEEK", &[Point], BIGINT, |a| part(a, Unit::DayOfWeek)),
    function("HOUR", &[Point], BIGINT, |a| part(a, Unit::Hour)),
    function("MINUTE", &[Point], BIGINT, |a| part(a, Unit::Minute)),
    function("SECOND", &[Point], BIGINT, |a| part(a, Unit::Second)),
    function("HOUR", &[TimeOfDay], BIGINT, |a| clock_part(a, Unit::Hour)),
    function("MINUTE", &[TimeOfDay], BIGINT, |a| {
        clock_part(a, Unit::Minute)
    }),
    function("SECOND", &[TimeOfDay], BIGINT, |a| {
        clock_part(a, Unit::Second)
    }),
    function("TIMESTAMPADD", &[Text, Integer, Point], By(moved_type), add)
        .prepare(&[(0, PreparedUnit)]),
    function(
        "TIMESTAMPDIFF",
        &[Text, Point, Point],
        Is(Type::Int),
        difference,
    )
    .prepare(&[(0, PreparedUnit)]),
    function("$FLOOR", &[Text, Date], Like(1), |a| {
        cut(a, calendar::floor)
    })
    .prepare(&[(0, PreparedUnit)]),
    function("$FLOOR", &[Text, Point], Like(1), |a| {
        cut(a, calendar::floor)
    })
    .prepare(&[(0, PreparedUnit)]),
    function("$FLOOR", &[Text, TimeOfDay], Like(1), |a| {
        cut_time(a, calendar::floor)
    })
    .prepare(&[(0, PreparedUnit)]),
    function("$CEIL", &[Text, Point], Like(1), |a| cut(a, calendar::ceil))
        .prepare(&[(0, PreparedUnit)]),
    function("$CEIL", &[Text, TimeOfDay], Like(1), |a| {
        cut_time(a, calendar::ceil)
    })
    .prepare(&[(0, PreparedUnit)]),
];

fn now(args: &Args<'_>) -> Result<Value, EvalError> {
    // Flink's clock has milliseconds.
    let micros = args.now().as_micros();
    calendar::checked_timestamp(micros - micros.rem_euclid(1_000)).map(Value::Timestamp)
}

fn today(args: &Args<'_>) -> Result<Value, EvalError> {
    calendar::checked_date(args.now().as_micros().div_euclid(MICROS_PER_DAY)).map(Value::Date)
}

fn time_of_day(args: &Args<'_>) -> Result<Value, EvalError> {
    let micros = args.now().as_micros().rem_euclid(MICROS_PER_DAY);
    Ok(Value::Time(micros - micros % 1_000_000))
}

/// Reads the text at `at` by the pattern behind it, or in SQL's form.
pub(super) fn parse(args: &Args<'_>, at: usize) -> Result<i64, EvalError> {
    let text = args.text(at)?;
    let parsed = if args.len() > at + 1 {
        args.pattern(at + 1)?.parse(text)
    } else {
        calendar::parse_timestamp(text)
    };
    parsed.ok_or_else(|| timestamp_error(text))
}

/// What is said of text that is no timestamp.
pub(super) fn timestamp_error(text: &str) -> EvalError {
    let shown: String = text.chars().take(60).collect();
    EvalError::new(format!("'{shown}' is not a timestamp of the expected form"))
}

/// Flink gives NULL for text that is no timestamp. Here it is an error, so that the row is not lost in silence:
/// `TRY_CAST` is the form that gives NULL.
fn to_timestamp(args: &Args<'_>) -> Result<Value, EvalError> {
    let micros = parse(args, 0)?;
    Ok(Value::Timestamp(micros - micros.rem_euclid(1_000)))
}

fn to_date(args: &Args<'_>) -> Result<Value, EvalError> {
    calendar::checked_date(parse(args, 0)?.div_euclid(MICROS_PER_DAY)).map(Value::Date)
}

/// A number of seconds (precision 0), milliseconds (3, also if left out), microseconds (6) or nanoseconds (9).
/// Fractions of a DOUBLE or DECIMAL count.
fn from_epoch(args: &Args<'_>) -> Result<Value, EvalError> {
    let precision = args.int_or(1, 3)?;
    let (numerator, denominator) = match precision {
        0 => (1_000_000, 1),
        3 => (1_000, 1),
        6 => (1, 1),
        9 => (1, 1_000),
        _ => {
            return Err(EvalError::new(format!(
                "TO_TIMESTAMP_LTZ takes the precisions 0 (seconds), 3, 6 and 9, not {precision}"
            )));
        }
    };
    let micros = match args.value(0) {
        Value::Int(v) => v.checked_mul(numerator).map(|v| v.div_euclid(denominator)),
        other => double_to_int((to_f64(other)? * numerator as f64 / denominator as f64).round()),
    };
    calendar::checked_timestamp(micros.unwrap_or(i64::MAX)).map(Value::Timestamp)
}

fn date_format(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::str(args.pattern(1)?.format(args.point(0)?)))
}

fn date_format_text(args: &Args<'_>) -> Result<Value, EvalError> {
    let text = args.text(0)?;
    let micros = calendar::parse_timestamp(text)
        .ok_or_else(|| EvalError::new("DATE_FORMAT needs text like 2024-01-02 03:04:05"))?;
    Ok(Value::str(args.pattern(1)?.format(micros)))
}

fn from_unixtime(args: &Args<'_>) -> Result<Value, EvalError> {
    let micros =
        calendar::checked_timestamp(args.int(0)?.checked_mul(1_000_000).unwrap_or(i64::MAX))?;
    if args.len() > 1 {
        return Ok(Value::str(args.pattern(1)?.format(micros)));
    }
    Ok(Value::Str(calendar::format_timestamp(micros, 0)))
}

fn unix_timestamp(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Int(parse(args, 0)?.div_euclid(1_000_000)))
}

fn extract(args: &Args<'_>) -> Result<Value, EvalError> {
    Ok(Value::Int(calendar::extract(args.unit(0)?, args.point(1)?)))
}

fn extract_time(args: &Args<'_>) -> Result<Value, EvalError> {
    time_part(args.value(1), args.unit(0)?)
}

fn clock_part(args: &Args<'_>, unit: Unit) -> Result<Value, EvalError> {
    time_part(args.value(0), unit)
}

/// Whether the unit is a part of a day.
const fn within_a_day(unit: Unit) -> bool {
    matches!(
        unit,
        Unit::Hour
            | Unit::Minute
            | Unit::Second
            | Unit::Millisecond
            | Unit::Microsecond
            | Unit::Nanosecond
    )
}

fn time_part(time: &Value, unit: Unit) -> Result<Value, EvalError> {
    match time {
        Value::Time(micros) if within_a_day(unit) => {
            Ok(Value::Int(calendar::extract(unit, *micros)))
        }
        _ => Err(EvalError::new("a TIME has only hours, minutes and seconds")),
    }
}

/// A part of an interval; a negative interval has negative parts.
fn extract_span(args: &Args<'_>) -> Result<Value, EvalError> {
    let unit = args.unit(0)?;
    let part = match (args.value(1), unit) {
        (Value::Months(months), Unit::Year) => i64::from(months / 12),
        (Value::Months(months), Unit::Quarter) => i64::from(months % 12 / 3 + 1),
        (Value::Months(months), Unit::Month) => i64::from(months % 12),
        (Value::Interval(micros), Unit::Day) => micros / MICROS_PER_DAY,
        (Value::Interval(micros), Unit::Epoch) => micros / 1_000_000,
        (Value::Interval(micros), unit) if within_a_day(unit) => {
            let within = micros % MICROS_PER_DAY;
            calendar::extract(unit, within.abs()) * within.signum()
        }
        _ => {
            return Err(EvalError::new(
                "an interval of days to seconds has days, hours, minutes and seconds, and one of months years and months",
            ));
        }
    };
    Ok(Value::Int(part))
}

fn part(args: &Args<'_>, unit: Unit) -> Result<Value, EvalError> {
    Ok(Value::Int(calendar::extract(unit, args.point(0)?)))
}

/// A DATE moved by hours is a TIMESTAMP only where the unit says so; Flink keeps the type.
fn moved_type(types: &[Type]) -> Type {
    types.get(2).cloned().unwrap_or(Type::Null)
}

/// A point of the type that was put in.
fn point_like(args: &Args<'_>, micros: i64) -> Result<Value, EvalError> {
    if *args.ty() == Type::Date {
        return calendar::checked_date(micros.div_euclid(MICROS_PER_DAY)).map(Value::Date);
    }
    calendar::checked_timestamp(micros).map(Value::Timestamp)
}

fn add(args: &Args<'_>) -> Result<Value, EvalError> {
    let moved = calendar::add(args.unit(0)?, args.point(2)?, args.int(1)?)?;
    point_like(args, moved)
}

fn difference(args: &Args<'_>) -> Result<Value, EvalError> {
    let count = calendar::difference(args.unit(0)?, args.point(1)?, args.point(2)?)?;
    if i32::try_from(count).is_err() {
        return Err(EvalError::new(format!(
            "TIMESTAMPDIFF gives an INT, and {count} is too large for one: use a coarser unit"
        )));
    }
    Ok(Value::Int(count))
}

fn cut(args: &Args<'_>, by: fn(Unit, i64) -> Result<i64, EvalError>) -> Result<Value, EvalError> {
    point_like(args, by(args.unit(0)?, args.point(1)?)?)
}

/// A TIME cut to a part of the day; past the last one it is midnight again.
fn cut_time(
    args: &Args<'_>,
    by: fn(Unit, i64) -> Result<i64, EvalError>,
) -> Result<Value, EvalError> {
    let unit = args.unit(0)?;
    match args.value(1) {
        Value::Time(micros) if within_a_day(unit) => {
            by(unit, *micros).map(|cut| Value::Time(cut.rem_euclid(MICROS_PER_DAY)))
        }
        _ => Err(EvalError::new(
            "a TIME is cut to HOUR, MINUTE, SECOND or MILLISECOND",
        )),
    }
}
