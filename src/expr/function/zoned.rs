//! Functions of time zones. The session's own zone is UTC; a zone is always named.

use crate::expr::calendar;
use crate::types::{Type, Value};

use super::Kind::{Point, Text};
use super::Output::{By, Is};
use super::prepare::Preparation::{Pattern, Zone};
use super::time::{parse, timestamp_error};
use super::{Args, EvalError, Function, function};

const STRING: super::Output = Is(Type::String);
const LTZ: super::Output = Is(Type::TimestampLtz { precision: 3 });

pub(super) const FUNCTIONS: &[Function] = &[
    function("CONVERT_TZ", &[Text, Text, Text], STRING, convert).prepare(&[(1, Zone), (2, Zone)]),
    function(
        "TO_TIMESTAMP_LTZ",
        &[Text, Text, Text],
        LTZ,
        to_timestamp_ltz,
    )
    .prepare(&[(1, Pattern), (2, Zone)]),
    function("DATE_FORMAT", &[Point, Text, Text], STRING, date_format)
        .prepare(&[(1, Pattern), (2, Zone)]),
    function(
        "$AT_TIME_ZONE",
        &[Point, Text],
        By(other_type),
        at_time_zone,
    )
    .prepare(&[(1, Zone)]),
];

/// Text like 2024-01-02 03:04:05 as the clocks of one zone show it, as those of another do.
fn convert(args: &Args<'_>) -> Result<Value, EvalError> {
    let text = args.text(0)?;
    let wall = calendar::parse_timestamp(text).ok_or_else(|| timestamp_error(text))?;
    let moved = args.zone(2)?.to_wall(args.zone(1)?.to_utc(wall));
    let moved = calendar::checked_timestamp(moved)?;
    Ok(Value::Str(calendar::format_timestamp(moved, 0)))
}

/// The text is what the clocks of the zone show, unless it says its own offset.
fn to_timestamp_ltz(args: &Args<'_>) -> Result<Value, EvalError> {
    let pattern = args.pattern(1)?;
    let micros = parse(args, 0)?;
    let micros = if pattern.reads_zone() {
        micros
    } else {
        args.zone(2)?.to_utc(micros)
    };
    calendar::checked_timestamp(micros - micros.rem_euclid(1_000)).map(Value::Timestamp)
}

/// What the clocks of the zone show at the point in time, by a pattern.
fn date_format(args: &Args<'_>) -> Result<Value, EvalError> {
    let at = args.point(0)?;
    let wall = args.zone(2)?.to_wall(at);
    Ok(Value::str(
        args.pattern(1)?.format_wall(wall, wall.saturating_sub(at)),
    ))
}

/// A TIMESTAMP is on the clocks of the zone and becomes a point in time; a point in time becomes what they show.
fn other_type(types: &[Type]) -> Type {
    match types.first() {
        Some(Type::TimestampLtz { precision }) => Type::Timestamp {
            precision: *precision,
        },
        Some(Type::Timestamp { precision }) => Type::TimestampLtz {
            precision: *precision,
        },
        _ => Type::TimestampLtz { precision: 0 },
    }
}

fn at_time_zone(args: &Args<'_>) -> Result<Value, EvalError> {
    let (at, zone) = (args.point(0)?, args.zone(1)?);
    let moved = match args.ty() {
        Type::Timestamp { .. } => zone.to_wall(at),
        _ => zone.to_utc(at),
    };
    calendar::checked_timestamp(moved).map(Value::Timestamp)
}
