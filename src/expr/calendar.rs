//! Points in time as text and as calendar fields: the proleptic Gregorian calendar in UTC.
//!
//! Invariant: a TIMESTAMP made by an expression lies between the years 0001 and 9999. A clock that says otherwise
//! is broken, and a window for the year 60000 would never close.

use std::fmt::Write;

use compact_str::CompactString;

use crate::types::calendar::{GREATEST_MICROS, LEAST_MICROS};

use super::EvalError;

pub(super) use crate::types::calendar::{MICROS_PER_DAY, civil, cut, days, days_in_month};

/// A unit of time that a point can be cut to, taken apart by, or moved by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 1000 years.
    Millennium,
    /// 100 years.
    Century,
    /// 10 years.
    Decade,
    /// A calendar year.
    Year,
    /// Three months.
    Quarter,
    /// A calendar month.
    Month,
    /// Seven days; ISO 8601 weeks begin on Monday.
    Week,
    /// 24 hours.
    Day,
    /// 60 minutes.
    Hour,
    /// 60 seconds.
    Minute,
    /// A second.
    Second,
    /// A thousandth of a second.
    Millisecond,
    /// A millionth of a second.
    Microsecond,
    /// A billionth of a second (for EXTRACT).
    Nanosecond,
    /// Day of the week, Sunday is 1 (for EXTRACT).
    DayOfWeek,
    /// Day of the week, Monday is 1 (for EXTRACT).
    IsoDayOfWeek,
    /// Day of the year (for EXTRACT).
    DayOfYear,
    /// The year that an ISO 8601 week belongs to (for EXTRACT).
    IsoYear,
    /// Seconds since 1970 (for EXTRACT).
    Epoch,
}

impl Unit {
    /// The unit of this name, singular or plural, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let mut upper = name.to_ascii_uppercase();
        upper = upper
            .strip_prefix("SQL_TSI_")
            .map(str::to_owned)
            .unwrap_or(upper);
        Some(match upper.as_str() {
            "MILLENNIUM" => Self::Millennium,
            "CENTURY" => Self::Century,
            "DECADE" => Self::Decade,
            "YEAR" | "YEARS" => Self::Year,
            "QUARTER" | "QUARTERS" => Self::Quarter,
            "MONTH" | "MONTHS" => Self::Month,
            "WEEK" | "WEEKS" => Self::Week,
            "DAY" | "DAYS" => Self::Day,
            "HOUR" | "HOURS" => Self::Hour,
            "MINUTE" | "MINUTES" => Self::Minute,
            "SECOND" | "SECONDS" => Self::Second,
            "MILLISECOND" | "MILLISECONDS" => Self::Millisecond,
            "MICROSECOND" | "MICROSECONDS" => Self::Microsecond,
            "NANOSECOND" | "NANOSECONDS" => Self::Nanosecond,
            "DOW" | "DAYOFWEEK" => Self::DayOfWeek,
            "ISODOW" => Self::IsoDayOfWeek,
            "DOY" | "DAYOFYEAR" => Self::DayOfYear,
            "ISOYEAR" => Self::IsoYear,
            "EPOCH" => Self::Epoch,
            _ => return None,
        })
    }

    /// The length in microseconds, for units that always have the same.
    pub const fn micros(self) -> Option<i64> {
        Some(match self {
            Self::Week => 7 * MICROS_PER_DAY,
            Self::Day => MICROS_PER_DAY,
            Self::Hour => 3_600_000_000,
            Self::Minute => 60_000_000,
            Self::Second => 1_000_000,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1,
            _ => return None,
        })
    }

    /// The length in months, for units made of months.
    pub const fn months(self) -> Option<i64> {
        Some(match self {
            Self::Millennium => 12_000,
            Self::Century => 1_200,
            Self::Decade => 120,
            Self::Year => 12,
            Self::Quarter => 3,
            Self::Month => 1,
            _ => return None,
        })
    }
}

/// A point in time as calendar fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) micro: i64,
}

impl Fields {
    /// The fields of a point in time.
    pub(super) fn of(micros: i64) -> Self {
        let (year, month, day) = civil(micros.div_euclid(MICROS_PER_DAY));
        let within = micros.rem_euclid(MICROS_PER_DAY);
        let seconds = within / 1_000_000;
        Self {
            year,
            month,
            day,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micro: within % 1_000_000,
        }
    }

    /// The point in time, if there is such a date and time of day.
    pub(super) fn micros(self) -> Option<i64> {
        let valid = (1..=9_999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second)
            && (0..1_000_000).contains(&self.micro);
        valid.then(|| {
            let seconds = (self.hour * 60 + self.minute) * 60 + self.second;
            days(self.year, self.month, self.day) * MICROS_PER_DAY
                + seconds * 1_000_000
                + self.micro
        })
    }
}

/// The point, unless it lies outside of the years 0001 to 9999.
pub(crate) fn checked_timestamp(micros: i64) -> Result<i64, EvalError> {
    if (LEAST_MICROS..=GREATEST_MICROS).contains(&micros) {
        Ok(micros)
    } else {
        Err(EvalError::new(
            "the timestamp is outside of the years 0001 to 9999",
        ))
    }
}

/// The date, unless it lies outside of the years 0001 to 9999.
pub(super) fn checked_date(days: i64) -> Result<i32, EvalError> {
    let micros = days.checked_mul(MICROS_PER_DAY).unwrap_or(i64::MAX);
    checked_timestamp(micros).map(|_| days as i32)
}

/// A point moved by calendar months; a day that the month lacks becomes its last.
pub(super) fn add_months(micros: i64, months: i64) -> Result<i64, EvalError> {
    let mut fields = Fields::of(micros);
    let count = (fields.year * 12 + fields.month - 1).saturating_add(months);
    fields.year = count.div_euclid(12);
    fields.month = count.rem_euclid(12) + 1;
    fields.day = fields.day.min(days_in_month(fields.year, fields.month));
    fields
        .micros()
        .ok_or_else(|| EvalError::new("the timestamp is outside of the years 0001 to 9999"))
}

/// The day of the week, Monday is 1 and Sunday 7.
pub(super) fn iso_weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// The ISO 8601 year and week.
pub(super) fn iso_week(date: i64) -> (i64, i64) {
    // The week belongs to the year of its Thursday.
    let thursday = date - iso_weekday(date) + 4;
    let (year, _, _) = civil(thursday);
    (year, (thursday - days(year, 1, 1)) / 7 + 1)
}

/// A field of a point in time.
pub(super) fn extract(unit: Unit, micros: i64) -> i64 {
    let f = Fields::of(micros);
    let date = micros.div_euclid(MICROS_PER_DAY);
    match unit {
        Unit::Millennium => (f.year + 999) / 1_000,
        Unit::Century => (f.year + 99) / 100,
        Unit::Decade => f.year / 10,
        Unit::Year => f.year,
        Unit::Quarter => (f.month + 2) / 3,
        Unit::Month => f.month,
        Unit::Week => iso_week(date).1,
        Unit::Day => f.day,
        Unit::Hour => f.hour,
        Unit::Minute => f.minute,
        Unit::Second => f.second,
        Unit::Millisecond => f.second * 1_000 + f.micro / 1_000,
        Unit::Microsecond => f.second * 1_000_000 + f.micro,
        Unit::Nanosecond => (f.second * 1_000_000 + f.micro) * 1_000,
        Unit::DayOfWeek => iso_weekday(date) % 7 + 1,
        Unit::IsoDayOfWeek => iso_weekday(date),
        Unit::DayOfYear => date - days(f.year, 1, 1) + 1,
        Unit::IsoYear => iso_week(date).0,
        Unit::Epoch => micros.div_euclid(1_000_000),
    }
}

/// The latest beginning of a `unit` that is not after the point. Weeks begin on Sunday, as in Flink's `FLOOR`.
pub(super) fn floor(unit: Unit, micros: i64) -> Result<i64, EvalError> {
    match (unit, unit.micros(), unit.months()) {
        (Unit::Week, _, _) => {
            let date = micros.div_euclid(MICROS_PER_DAY);
            Ok((date - iso_weekday(date) % 7) * MICROS_PER_DAY)
        }
        (_, Some(length), _) => Ok(micros - micros.rem_euclid(length)),
        (_, _, Some(months)) => {
            let f = Fields::of(micros);
            let count = match unit {
                // Centuries and millennia begin with the year 1 of each.
                Unit::Century | Unit::Millennium => {
                    let years = months / 12;
                    ((f.year - 1).div_euclid(years) * years + 1) * 12
                }
                _ => (f.year * 12 + f.month - 1).div_euclid(months) * months,
            };
            Ok(days(count.div_euclid(12), count.rem_euclid(12) + 1, 1) * MICROS_PER_DAY)
        }
        _ => Err(EvalError::new("a timestamp cannot be cut to this unit")),
    }
}

/// The earliest beginning of a `unit` that is not before the point.
pub(super) fn ceil(unit: Unit, micros: i64) -> Result<i64, EvalError> {
    let start = floor(unit, micros)?;
    if start == micros {
        return Ok(start);
    }
    add(unit, start, 1)
}

/// A point moved by `count` units.
pub(super) fn add(unit: Unit, micros: i64, count: i64) -> Result<i64, EvalError> {
    if let Some(length) = unit.micros() {
        let moved = count
            .checked_mul(length)
            .and_then(|by| micros.checked_add(by));
        return checked_timestamp(moved.unwrap_or(i64::MAX));
    }
    match unit.months() {
        Some(months) => add_months(micros, count.saturating_mul(months)),
        None => Err(EvalError::new("a timestamp cannot be moved by this unit")),
    }
}

/// How many whole units lie between two points, as `TIMESTAMPDIFF(unit, from, to)`.
pub(super) fn difference(unit: Unit, from: i64, to: i64) -> Result<i64, EvalError> {
    if let Some(length) = unit.micros() {
        return to
            .checked_sub(from)
            .map(|span| span / length)
            .ok_or_else(|| EvalError::new("the difference of the timestamps is too large"));
    }
    let Some(step) = unit.months() else {
        return Err(EvalError::new(
            "timestamps cannot be subtracted in this unit",
        ));
    };
    let (a, b) = (Fields::of(from), Fields::of(to));
    let mut months = (b.year * 12 + b.month) - (a.year * 12 + a.month);
    // A month is whole only when day and time of day have been reached.
    let rest = |f: Fields, at: i64| (f.day, at.rem_euclid(MICROS_PER_DAY));
    if months > 0 && rest(b, to) < rest(a, from) {
        months -= 1;
    } else if months < 0 && rest(b, to) > rest(a, from) {
        months += 1;
    }
    Ok(months / step)
}

/// `2024-01-02 03:04:05.678`, with `precision` fraction digits.
pub(super) fn format_timestamp(micros: i64, precision: u8) -> CompactString {
    let mut text = format_date(micros.div_euclid(MICROS_PER_DAY));
    text.push(' ');
    text.push_str(&format_time(micros.rem_euclid(MICROS_PER_DAY), precision));
    text
}

/// `2024-01-02`.
pub(super) fn format_date(days: i64) -> CompactString {
    let (year, month, day) = civil(days);
    compact_str::format_compact!("{year:04}-{month:02}-{day:02}")
}

/// `03:04:05.678`, with `precision` fraction digits.
pub(super) fn format_time(micros: i64, precision: u8) -> CompactString {
    let f = Fields::of(micros);
    let mut text = compact_str::format_compact!("{:02}:{:02}:{:02}", f.hour, f.minute, f.second);
    if precision > 0 {
        let digits = usize::from(precision.min(6));
        let fraction = f.micro / 10_i64.pow(6 - digits as u32);
        // Writing to a string cannot fail.
        let _ = write!(text, ".{fraction:0digits$}");
    }
    text
}

/// Reads `2024-01-02`, `2024-01-02 03:04`, `2024-01-02T03:04:05.678`, with an optional `Z` or `+01:00` that moves
/// the point to UTC. Fraction digits beyond microseconds are cut.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = match text.find([' ', 'T', 't']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim_start())),
        None => (text, None),
    };
    let days = parse_date(date)?;
    let Some(rest) = rest else {
        return Some(days * MICROS_PER_DAY);
    };
    let (time, offset) = split_offset(rest)?;
    checked_timestamp(days * MICROS_PER_DAY + parse_time(time)? - offset).ok()
}

/// Reads `2024-01-02`.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.trim().splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 {
        return None;
    }
    let fields = Fields {
        year: number(year)?,
        month: number(month)?,
        day: number(day)?,
        hour: 0,
        minute: 0,
        second: 0,
        micro: 0,
    };
    fields
        .micros()
        .map(|micros| micros.div_euclid(MICROS_PER_DAY))
}

/// Reads `03:04`, `03:04:05`, `03:04:05.678` as microseconds since midnight.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let mut parts = text.trim().splitn(3, ':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let (second, micro) = match parts.next() {
        None => (0, 0),
        Some(rest) => match rest.split_once('.') {
            None => (number(rest)?, 0),
            Some((second, fraction)) => (number(second)?, parse_fraction(fraction)?),
        },
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micro)
}

/// The digits after the point as microseconds.
pub(super) fn parse_fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let kept = &digits[..digits.len().min(6)];
    let value: i64 = kept.parse().ok()?;
    Some(value * 10_i64.pow(6 - kept.len() as u32))
}

fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let digits: String = text[at + 1..].chars().filter(|c| *c != ':').collect();
    if !digits.is_ascii() {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits)?, 0),
        4 => (number(&digits[..2])?, number(&digits[2..])?),
        _ => return None,
    };
    if hours > 18 || minutes > 59 {
        return None;
    }
    let span = (hours * 60 + minutes) * 60_000_000;
    let signed = if text.as_bytes()[at] == b'-' {
        -span
    } else {
        span
    };
    Some((&text[..at], signed))
}

/// A number of at most nine digits without a sign.
fn number(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip() {
        for text in [
            "1969-12-31 23:59:59.999",
            "2000-02-29 00:00:00.000",
            "9999-12-31 23:59:59.999",
        ] {
            assert_eq!(format_timestamp(parse_timestamp(text).unwrap(), 3), text);
        }
        for text in [
            "2023-02-29",
            "2024-13-01",
            "24-01-01",
            "2024-01-01 24:00:00",
            "2024-01-01T",
            "x",
            "2024-01-01 1:2:3+99",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        let utc = parse_timestamp("2024-01-01T12:00:00Z");
        assert_eq!(parse_timestamp("2024-01-01T13:00:00+01:00"), utc);
        assert_eq!(parse_timestamp("2024-01-01 06:30:00-0530"), utc);
    }

    #[test]
    fn months_end_where_the_calendar_says() {
        let at = |text| parse_timestamp(text).unwrap();
        assert_eq!(add_months(at("2024-01-31"), 1), Ok(at("2024-02-29")));
        assert_eq!(add_months(at("2024-03-31"), -13), Ok(at("2023-02-28")));
        assert_eq!(
            difference(Unit::Month, at("2024-01-31"), at("2024-02-29")),
            Ok(0)
        );
        assert_eq!(
            difference(Unit::Year, at("2024-03-01"), at("2022-03-02")),
            Ok(-1)
        );
        assert!(add_months(at("9999-12-31"), 1).is_err());
    }

    #[test]
    fn cutting_and_taking_apart() {
        let at = |text| parse_timestamp(text).unwrap();
        assert_eq!(
            floor(Unit::Quarter, at("2024-05-05 01:02:03")),
            Ok(at("2024-04-01"))
        );
        assert_eq!(floor(Unit::Week, at("2024-01-03")), Ok(at("2023-12-31")));
        assert_eq!(
            ceil(Unit::Hour, at("2024-01-01 00:00:00.001")),
            Ok(at("2024-01-01 01:00:00"))
        );
        assert_eq!(ceil(Unit::Hour, at("2024-01-01")), Ok(at("2024-01-01")));
        assert_eq!(extract(Unit::Week, at("2021-01-03")), 53);
        assert_eq!(extract(Unit::IsoYear, at("2021-01-03")), 2020);
        assert_eq!(extract(Unit::DayOfWeek, at("2024-01-07")), 1);
        assert_eq!(extract(Unit::IsoDayOfWeek, at("2024-01-07")), 7);
    }
}
