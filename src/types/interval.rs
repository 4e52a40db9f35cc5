//! Intervals as text: `+1 02:03:04.567` of days to seconds, `+1-02` of years and months.
//!
//! Invariant: what is written reads back as the same interval.

use std::fmt::Write as _;

/// Appends an interval of days to seconds; three fraction digits, or six where it has them.
pub fn write_day_time(micros: i64, out: &mut impl std::fmt::Write) -> std::fmt::Result {
    let sign = if micros < 0 { '-' } else { '+' };
    let span = micros.unsigned_abs();
    let seconds = span / 1_000_000;
    write!(
        out,
        "{sign}{} {:02}:{:02}:{:02}",
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    )?;
    let fraction = span % 1_000_000;
    if fraction.is_multiple_of(1_000) {
        write!(out, ".{:03}", fraction / 1_000)
    } else {
        write!(out, ".{fraction:06}")
    }
}

/// Appends an interval of years and months.
pub fn write_year_month(months: i32, out: &mut impl std::fmt::Write) -> std::fmt::Result {
    let sign = if months < 0 { '-' } else { '+' };
    let count = months.unsigned_abs();
    write!(out, "{sign}{}-{:02}", count / 12, count % 12)
}

/// Reads `1 02:03:04.567` with an optional sign, as microseconds.
pub fn parse_day_time(text: &str) -> Option<i64> {
    let (negative, body) = signed(text);
    let (days, time) = body.split_once(' ')?;
    let mut parts = time.trim_start().split(':');
    let (hours, minutes, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
    if fraction.is_empty() {
        return None;
    }
    let fraction = fraction.get(..6).unwrap_or(fraction);
    let mut padded = String::with_capacity(6);
    // Writing to a string cannot fail.
    let _ = write!(padded, "{fraction:0<6}");
    let (hours, minutes, seconds) = (whole(hours)?, whole(minutes)?, whole(seconds)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = whole(days)?
        .checked_mul(86_400)?
        .checked_add((hours * 60 + minutes) * 60 + seconds)?
        .checked_mul(1_000_000)?
        .checked_add(whole(&padded)?)?;
    Some(if negative { -micros } else { micros })
}

/// Reads `1-02` with an optional sign, as months.
pub fn parse_year_month(text: &str) -> Option<i32> {
    let (negative, body) = signed(text);
    let (years, months) = body.split_once('-')?;
    let months = whole(months).filter(|months| *months < 12)?;
    let total = whole(years)?.checked_mul(12)?.checked_add(months)?;
    i32::try_from(if negative { -total } else { total }).ok()
}

fn signed(text: &str) -> (bool, &str) {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn whole(digits: &str) -> Option<i64> {
    let digits_alone = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits_alone.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_back() {
        for (micros, text) in [
            (0, "+0 00:00:00.000"),
            (93_784_567_000, "+1 02:03:04.567"),
            (-1, "-0 00:00:00.000001"),
            (i64::MAX, "+106751991 04:00:54.775807"),
        ] {
            let mut written = String::new();
            write_day_time(micros, &mut written).unwrap();
            assert_eq!(written, text);
            assert_eq!(parse_day_time(text), Some(micros));
        }
        for (months, text) in [(0, "+0-00"), (14, "+1-02"), (-1, "-0-01")] {
            let mut written = String::new();
            write_year_month(months, &mut written).unwrap();
            assert_eq!(written, text);
            assert_eq!(parse_year_month(text), Some(months));
        }
        for wrong in [
            "",
            "1",
            "1 2",
            "1 25:00:00",
            "1 2:3:4:5",
            "x 1:2:3",
            "1 1:2:3.",
            "1 1:2:3.é",
        ] {
            assert_eq!(parse_day_time(wrong), None, "{wrong}");
        }
        for wrong in ["", "1", "1-12", "a-b", "99999999999-1"] {
            assert_eq!(parse_year_month(wrong), None, "{wrong}");
        }
    }
}
