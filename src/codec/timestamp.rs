//! Points in time as text or number.
//!
//! Invariant: a `TIMESTAMP_LTZ`, a point on the time line, is only read from text that says its zone; guessing
//! one would move every event of a device by hours without a word.

use std::fmt::Write as _;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::TimestampFormat;
use crate::types::{EventTime, ShortText, calendar};

/// Reads a TIMESTAMP (`zoned` false) or a `TIMESTAMP_LTZ` (`zoned` true); microseconds since 1970. A number has to
/// be given as its text. `None` where it does not fit the format.
pub fn parse_timestamp(text: &str, format: &TimestampFormat, zoned: bool) -> Option<i64> {
    let text = text.trim();
    match format {
        TimestampFormat::Sql | TimestampFormat::Iso8601 => parse_iso(text, zoned),
        TimestampFormat::EpochSeconds => parse_epoch(text, 1_000_000),
        TimestampFormat::EpochMillis => parse_epoch(text, 1_000),
        TimestampFormat::EpochMicros => parse_epoch(text, 1),
        TimestampFormat::EpochNanos => text
            .parse::<i64>()
            .ok()
            .map(|nanos| nanos.div_euclid(1_000)),
        TimestampFormat::Pattern(pattern) => {
            let parsed = strtime::parse(pattern, text).ok()?;
            match parsed.offset() {
                Some(offset) => at_offset(parsed.to_datetime().ok()?, offset),
                // Also `%s`, seconds since 1970.
                None if parsed.timestamp().is_some() || parsed.iana_time_zone().is_some() => {
                    Some(parsed.to_timestamp().ok()?.as_microsecond())
                }
                None if zoned => None,
                None => at_offset(parsed.to_datetime().ok()?, Offset::UTC),
            }
        }
    }
}

/// By the pieces of the text and not as the library's own point in time: that one ends a day before the year 9999
/// does.
fn parse_iso(text: &str, zoned: bool) -> Option<i64> {
    let pieces = Pieces::parse(text).ok()?;
    let civil = DateTime::from_parts(pieces.date(), pieces.time().unwrap_or_else(Time::midnight));
    match pieces.to_numeric_offset() {
        Some(offset) => at_offset(civil, offset),
        None if zoned => None,
        None => at_offset(civil, Offset::UTC),
    }
}

/// A point in time of the years 0001 to 9999.
fn at_offset(civil: DateTime, offset: Offset) -> Option<i64> {
    let days = calendar::days(
        civil.year().into(),
        civil.month().into(),
        civil.day().into(),
    );
    let [hour, minute, second] = [civil.hour(), civil.minute(), civil.second()].map(i64::from);
    let seconds = (hour * 60 + minute) * 60 + second - i64::from(offset.seconds());
    let micros = days * calendar::MICROS_PER_DAY
        + seconds * 1_000_000
        + i64::from(civil.subsec_nanosecond() / 1_000);
    (calendar::LEAST_MICROS..=calendar::GREATEST_MICROS)
        .contains(&micros)
        .then_some(micros)
}

/// The point in time that a whole number stands for; `None` where the format has none, or it does not fit.
pub(super) fn epoch_micros(whole: i64, format: &TimestampFormat) -> Option<i64> {
    match format {
        TimestampFormat::EpochSeconds => whole.checked_mul(1_000_000),
        TimestampFormat::EpochMillis => whole.checked_mul(1_000),
        TimestampFormat::EpochMicros => Some(whole),
        TimestampFormat::EpochNanos => Some(whole.div_euclid(1_000)),
        TimestampFormat::Sql | TimestampFormat::Iso8601 | TimestampFormat::Pattern(_) => None,
    }
}

/// A decimal number of units of `unit_micros`, exact: a double would lose the microseconds of today's date.
fn parse_epoch(text: &str, unit_micros: i64) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(unit_micros);
    }
    let number = text
        .parse::<Decimal>()
        .or_else(|_| Decimal::from_scientific(text))
        .ok()?;
    number
        .checked_mul(Decimal::from(unit_micros))?
        .floor()
        .to_i64()
}

/// Appends `micros` since 1970 as the format spells it; text is quoted if `quoted`.
pub fn format_timestamp(
    micros: i64,
    format: &TimestampFormat,
    zoned: bool,
    quoted: bool,
    out: &mut String,
) {
    let quote = if quoted { "\"" } else { "" };
    // Writing to a String cannot fail.
    let _ = match format {
        TimestampFormat::EpochSeconds => {
            let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
            if fraction == 0 {
                return push_number(seconds, out);
            }
            write!(out, "{}", Decimal::new(micros, 6).normalize())
        }
        TimestampFormat::EpochMillis => return push_number(micros.div_euclid(1_000), out),
        TimestampFormat::EpochMicros => return push_number(micros, out),
        TimestampFormat::EpochNanos => return push_number(i128::from(micros) * 1_000, out),
        TimestampFormat::Sql | TimestampFormat::Iso8601 => {
            let between = if matches!(format, TimestampFormat::Sql) {
                b' '
            } else {
                b'T'
            };
            if let Some((text, length)) = civil_text(micros, between) {
                out.push_str(quote);
                // Of digits and signs alone.
                out.push_str(text.get(length).unwrap_or_default());
                if zoned {
                    out.push('Z');
                }
                out.push_str(quote);
                return;
            }
            let start = out.len() + quote.len();
            let written = write!(out, "{quote}{}", EventTime::from_micros(micros));
            if matches!(format, TimestampFormat::Sql)
                && let Some(at) = out[start..].find('T')
            {
                out.replace_range(start + at..=start + at, " ");
            }
            if !zoned && out.ends_with('Z') {
                out.pop();
            }
            out.push_str(quote);
            written
        }
        TimestampFormat::Pattern(pattern) => {
            let text = match jiff::Timestamp::from_microsecond(micros) {
                Ok(at) => strtime::format(pattern, &at.to_zoned(jiff::tz::TimeZone::UTC)).ok(),
                Err(_) => broken_down(micros).and_then(|fields| fields.to_string(pattern).ok()),
            };
            let text = text.unwrap_or_else(|| EventTime::from_micros(micros).to_string());
            write!(out, "{quote}{text}{quote}")
        }
    };
}

fn push_number(number: impl itoa::Integer, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// A point in time as `2026-01-01T12:00:00.123`, with as many fraction digits (none, 3 or 6) as it needs, and how many
/// bytes that are. `None` outside of the years 0 to 9999.
fn civil_text(micros: i64, between: u8) -> Option<(ShortText, usize)> {
    let (year, month, day) = calendar::civil(micros.div_euclid(calendar::MICROS_PER_DAY));
    let within = micros.rem_euclid(calendar::MICROS_PER_DAY);
    let (seconds, fraction) = ((within / 1_000_000) as u32, (within % 1_000_000) as u32);
    let year = u32::try_from(year).ok().filter(|year| *year <= 9_999)?;
    let mut bytes = *b"0000-00-00T00:00:00.000000\0\0\0\0\0\0";
    let mut pair = |at: usize, number: u32| {
        bytes[at] = b'0' + (number / 10) as u8;
        bytes[at + 1] = b'0' + (number % 10) as u8;
    };
    pair(0, year / 100);
    pair(2, year % 100);
    pair(5, u32::try_from(month).ok()?);
    pair(8, u32::try_from(day).ok()?);
    pair(11, seconds / 3_600);
    pair(14, seconds / 60 % 60);
    pair(17, seconds % 60);
    if fraction > 0 {
        pair(20, fraction / 10_000);
        pair(22, fraction / 100 % 100);
        pair(24, fraction % 100);
    }
    bytes[10] = between;
    let length = match fraction {
        0 => 19,
        _ if fraction % 1_000 == 0 => 23,
        _ => 26,
    };
    Some((ShortText { bytes }, length))
}

/// A point in time for the patterns by its calendar fields: the library's own points end a day before the year 9999
/// does. `None` beyond the calendar.
fn broken_down(micros: i64) -> Option<BrokenDownTime> {
    let (year, month, day) = calendar::civil(micros.div_euclid(calendar::MICROS_PER_DAY));
    let date = Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    );
    let within = micros.rem_euclid(calendar::MICROS_PER_DAY);
    let time = Time::midnight().wrapping_add(SignedDuration::from_micros(within));
    let mut fields = BrokenDownTime::from(date.ok()?.to_datetime(time));
    fields.set_offset(Some(Offset::UTC));
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_civil_text_is_that_of_the_event_time() {
        let years = 366 * 86_400_000_000_i64;
        let steps = [1, 1_000, 61_000_000, 86_399_999_999, 12_345_678_901_234];
        for start in [0, -1, -2_000 * years, 7_900 * years, i64::MIN, i64::MAX] {
            for step in steps {
                for number in 0..1_000 {
                    let micros = start.saturating_add(step * number);
                    let text = EventTime::from_micros(micros).to_string();
                    match civil_text(micros, b'T') {
                        Some((civil, length)) => {
                            assert_eq!(
                                text.as_bytes().strip_suffix(b"Z"),
                                Some(&civil.bytes[..length])
                            );
                        }
                        // With a sign, or longer than four digits.
                        None => assert_ne!(text.find('-'), Some(4), "{text}"),
                    }
                }
            }
        }
    }

    #[test]
    fn reads_what_devices_write() {
        use TimestampFormat as F;
        let noon = 1_709_208_000_000_000; // 2024-02-29T12:00:00Z
        for (text, format, zoned, expected) in [
            ("2024-02-29 12:00:00", F::Sql, false, Some(noon)),
            (
                "2024-02-29T12:00:00.5",
                F::Iso8601,
                false,
                Some(noon + 500_000),
            ),
            (
                "2024-02-29T12:00:00.775023242+00:00",
                F::Iso8601,
                true,
                Some(noon + 775_023),
            ),
            ("2024-02-29T13:00:00+01:00", F::Iso8601, true, Some(noon)),
            ("2024-02-29T13:00:00+01:00", F::Iso8601, false, Some(noon)),
            ("2024-02-29 12:00:00Z", F::Sql, true, Some(noon)),
            ("2024-02-29 12:00:00", F::Sql, true, None),
            ("2024-02-30 12:00:00", F::Sql, false, None),
            (
                "9999-12-31T23:59:59.999999Z",
                F::Iso8601,
                true,
                Some(calendar::GREATEST_MICROS),
            ),
            (
                "9999-12-31 23:59:59.9999999",
                F::Sql,
                false,
                Some(calendar::GREATEST_MICROS),
            ),
            ("9999-12-31T23:59:59-01:00", F::Iso8601, true, None),
            (
                "0001-01-01 00:00:00",
                F::Sql,
                false,
                Some(calendar::LEAST_MICROS),
            ),
            ("0001-01-01T00:00:00+01:00", F::Iso8601, true, None),
            ("0000-12-31 00:00:00", F::Sql, false, None),
            (
                "31.12.9999 23:00 +0000",
                F::Pattern("%d.%m.%Y %H:%M %z".into()),
                true,
                Some(253_402_297_200_000_000),
            ),
            ("2024-02-29", F::Sql, false, Some(noon - 43_200_000_000)),
            ("1709208000", F::EpochSeconds, true, Some(noon)),
            ("1709208000.04", F::EpochSeconds, true, Some(noon + 40_000)),
            ("1.709208e9", F::EpochSeconds, true, Some(noon)),
            ("1709208000000", F::EpochMillis, true, Some(noon)),
            ("1709208000000000999", F::EpochNanos, true, Some(noon)),
            ("-1", F::EpochSeconds, true, Some(-1_000_000)),
            ("9223372036854775807", F::EpochSeconds, true, None),
            (
                "29.02.2024 12:00",
                F::Pattern("%d.%m.%Y %H:%M".into()),
                false,
                Some(noon),
            ),
            ("yesterday", F::Iso8601, false, None),
        ] {
            assert_eq!(parse_timestamp(text, &format, zoned), expected, "{text}");
        }
    }

    #[test]
    fn patterns_write_the_last_hours_of_the_calendar() {
        let format = TimestampFormat::Pattern("%d.%m.%Y %H:%M:%S.%6f %z".into());
        for text in [
            "31.12.9999 23:59:59.999999 +0000",
            "30.12.9999 12:00:00.000000 +0000",
            "30.12.9999 23:00:00.000000 +0000",
            "01.01.0001 00:00:00.000000 +0000",
        ] {
            let micros = parse_timestamp(text, &format, true).unwrap();
            let mut written = String::new();
            format_timestamp(micros, &format, true, false, &mut written);
            assert_eq!(written, text);
        }
    }

    #[test]
    fn writes_what_it_reads() {
        use TimestampFormat as F;
        for format in [
            F::Sql,
            F::Iso8601,
            F::EpochSeconds,
            F::EpochMicros,
            F::EpochNanos,
        ] {
            for zoned in [false, true] {
                for micros in [0, 1, -1, 1_709_208_000_000_000, 1_709_208_000_123_000] {
                    let mut text = String::new();
                    format_timestamp(micros, &format, zoned, false, &mut text);
                    assert_eq!(
                        parse_timestamp(&text, &format, zoned),
                        Some(micros),
                        "{text}"
                    );
                }
            }
        }
    }
}
