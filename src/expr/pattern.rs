//! Patterns of date and time as Java writes them (`yyyy-MM-dd HH:mm:ss.SSS`), compiled once.
//!
//! Invariant: a letter that is not understood is refused when the pattern is compiled, never skipped.

use std::fmt::Write;

use super::calendar::{self, Fields, MICROS_PER_DAY};

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimePattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Letter, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    Year,
    Month,
    Day,
    DayOfYear,
    Weekday,
    Hour,
    Hour12,
    Half,
    Minute,
    Second,
    Fraction,
    /// An offset as `Z`, `+01`, `+0100` or `+01:00`.
    Offset,
    /// An offset as `+0100`, also for UTC.
    PlainOffset,
    /// `UTC`, or `GMT+01:00`.
    ZoneName,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

impl TimePattern {
    /// Compiles a pattern.
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                let quoted = Self::quoted(&mut chars)
                    .ok_or_else(|| format!("a ' is not closed in '{pattern}'"))?;
                Self::push_literal(&mut parts, &quoted);
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                let letter = Letter::of(c).ok_or_else(|| {
                    format!("the letter {c} in the time pattern '{pattern}' is not supported (quote it as '{c}' if it is text)")
                })?;
                parts.push(Part::Field(letter, count));
            } else {
                Self::push_literal(&mut parts, c.encode_utf8(&mut [0; 4]));
            }
        }
        Ok(Self { parts })
    }

    /// The text up to the closing quote; `''` is a quote.
    fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
        let mut text = String::new();
        loop {
            match chars.next()? {
                '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
                '\'' if text.is_empty() => return Some("'".to_owned()),
                '\'' => return Some(text),
                c => text.push(c),
            }
        }
    }

    fn push_literal(parts: &mut Vec<Part>, text: &str) {
        match parts.last_mut() {
            Some(Part::Literal(last)) => last.push_str(text),
            _ => parts.push(Part::Literal(text.to_owned())),
        }
    }

    /// Whether the text says its own offset from UTC.
    pub(super) fn reads_zone(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Field(letter, _) if letter.is_zone()))
    }

    /// The point in time as text, in UTC.
    pub(super) fn format(&self, micros: i64) -> String {
        self.format_wall(micros, 0)
    }

    /// What a clock shows that is `offset` microseconds ahead of UTC, as text.
    pub(super) fn format_wall(&self, micros: i64, offset: i64) -> String {
        let f = Fields::of(micros);
        let date = micros.div_euclid(MICROS_PER_DAY);
        let mut out = String::new();
        for part in &self.parts {
            let (letter, count) = match part {
                Part::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Field(letter, count) => (*letter, *count),
            };
            let number = match letter {
                Letter::Year if count == 2 => f.year.rem_euclid(100),
                Letter::Year => f.year,
                Letter::Month if count >= 3 => {
                    out.push_str(name(&MONTHS, f.month, count));
                    continue;
                }
                Letter::Weekday => {
                    out.push_str(name(&WEEKDAYS, calendar::iso_weekday(date), count));
                    continue;
                }
                Letter::Half => {
                    out.push_str(if f.hour < 12 { "AM" } else { "PM" });
                    continue;
                }
                Letter::Offset | Letter::PlainOffset | Letter::ZoneName => {
                    out.push_str(&offset_text(letter, count, offset));
                    continue;
                }
                Letter::Fraction => {
                    let digits = format!("{:06}000", f.micro);
                    out.push_str(&digits[..count.min(9)]);
                    continue;
                }
                Letter::Month => f.month,
                Letter::Day => f.day,
                Letter::DayOfYear => date - calendar::days(f.year, 1, 1) + 1,
                Letter::Hour => f.hour,
                Letter::Hour12 => (f.hour + 11) % 12 + 1,
                Letter::Minute => f.minute,
                Letter::Second => f.second,
            };
            // Writing to a string cannot fail.
            let _ = write!(out, "{number:0count$}");
        }
        out
    }

    /// Reads text of this form; the whole text must fit. What the pattern lacks is 1970-01-01T00:00:00.
    pub(super) fn parse(&self, text: &str) -> Option<i64> {
        let mut f = Fields {
            year: 1970,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            micro: 0,
        };
        let (mut rest, mut half, mut day_of_year, mut offset) = (text.trim(), None, None, 0);
        for (i, part) in self.parts.iter().enumerate() {
            let (letter, count) = match part {
                Part::Literal(literal) => {
                    rest = rest.strip_prefix(literal.as_str())?;
                    continue;
                }
                Part::Field(letter, count) => (*letter, *count),
            };
            // Digits run on to the next part unless that is a field too: then the count of letters is exact.
            let exact = matches!(self.parts.get(i + 1), Some(Part::Field(..)));
            match letter {
                Letter::Month if count >= 3 => f.month = take_name(&mut rest, &MONTHS)?,
                Letter::Weekday => {
                    take_name(&mut rest, &WEEKDAYS)?;
                }
                Letter::Half => {
                    let word = rest.get(..2)?.to_ascii_uppercase();
                    half = Some(match word.as_str() {
                        "AM" => 0,
                        "PM" => 12,
                        _ => return None,
                    });
                    rest = &rest[2..];
                }
                letter if letter.is_zone() => offset = take_zone(&mut rest)?,
                Letter::Fraction => {
                    let digits = take_digits(&mut rest, if exact { count } else { 9 })?;
                    f.micro = calendar::parse_fraction(digits)?;
                }
                _ => {
                    let most = match letter {
                        _ if exact => count,
                        Letter::Year if count != 2 => 4,
                        Letter::DayOfYear => 3,
                        _ => 2,
                    };
                    let value: i64 = take_digits(&mut rest, most)?.parse().ok()?;
                    match letter {
                        Letter::Year if count == 2 => {
                            f.year = if value < 70 {
                                2000 + value
                            } else {
                                1900 + value
                            }
                        }
                        Letter::Year => f.year = value,
                        Letter::Month => f.month = value,
                        Letter::Day => f.day = value,
                        Letter::DayOfYear => day_of_year = Some(value),
                        Letter::Hour => f.hour = value,
                        Letter::Hour12 => f.hour = value % 12,
                        Letter::Minute => f.minute = value,
                        _ => f.second = value,
                    }
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        f.hour += half.unwrap_or(0);
        let mut micros = f.micros()?;
        if let Some(day) = day_of_year.filter(|day| (1..=366).contains(day)) {
            micros += (day - 1) * MICROS_PER_DAY;
        }
        calendar::checked_timestamp(micros - offset).ok()
    }
}

impl Letter {
    fn of(c: char) -> Option<Self> {
        Some(match c {
            'y' | 'u' => Self::Year,
            'M' | 'L' => Self::Month,
            'd' => Self::Day,
            'D' => Self::DayOfYear,
            'E' => Self::Weekday,
            'H' => Self::Hour,
            'h' => Self::Hour12,
            'a' => Self::Half,
            'm' => Self::Minute,
            's' => Self::Second,
            'S' => Self::Fraction,
            'X' => Self::Offset,
            'Z' => Self::PlainOffset,
            'z' => Self::ZoneName,
            _ => return None,
        })
    }

    const fn is_zone(self) -> bool {
        matches!(self, Self::Offset | Self::PlainOffset | Self::ZoneName)
    }
}

fn name(names: &[&'static str], number: i64, count: usize) -> &'static str {
    let name = names[(number - 1) as usize];
    if count >= 4 { name } else { &name[..3] }
}

fn take_digits<'a>(rest: &mut &'a str, most: usize) -> Option<&'a str> {
    let count = rest
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    if count == 0 {
        return None;
    }
    let (digits, after) = rest.split_at(count);
    *rest = after;
    Some(digits)
}

/// The number, from 1, of the name that the text begins with: whole or its first three letters.
fn take_name(rest: &mut &str, names: &[&str]) -> Option<i64> {
    for (i, name) in names.iter().enumerate() {
        for form in [*name, &name[..3]] {
            if rest
                .get(..form.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(form))
            {
                *rest = &rest[form.len()..];
                return Some(i as i64 + 1);
            }
        }
    }
    None
}

/// An offset as text; `count` letters were written.
fn offset_text(letter: Letter, count: usize, offset: i64) -> String {
    let minutes = offset / 60_000_000;
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
    match (letter, count) {
        (Letter::Offset, _) if minutes == 0 => "Z".to_owned(),
        (Letter::Offset, 1) if rest == 0 => format!("{sign}{hours:02}"),
        (Letter::Offset, 1 | 2) | (Letter::PlainOffset, _) => format!("{sign}{hours:02}{rest:02}"),
        (Letter::ZoneName, _) if minutes == 0 => "UTC".to_owned(),
        (Letter::ZoneName, _) => format!("GMT{sign}{hours:02}:{rest:02}"),
        _ => format!("{sign}{hours:02}:{rest:02}"),
    }
}

/// An offset from UTC in microseconds.
fn take_zone(rest: &mut &str) -> Option<i64> {
    if let Some(after) = rest.strip_prefix(['Z', 'z']) {
        *rest = after;
        return Some(0);
    }
    if let Some(after) = rest
        .strip_prefix("UTC")
        .or_else(|| rest.strip_prefix("GMT"))
    {
        *rest = after;
        if !after.starts_with(['+', '-']) {
            return Some(0);
        }
    }
    let negative = rest.starts_with('-');
    let mut at = rest.strip_prefix(['+', '-'])?;
    let hours: i64 = take_digits(&mut at, 2)?.parse().ok()?;
    at = at.strip_prefix(':').unwrap_or(at);
    let minutes: i64 = take_digits(&mut at, 2).map_or(Some(0), |digits| digits.parse().ok())?;
    *rest = at;
    let span = (hours * 60 + minutes) * 60_000_000;
    Some(if negative { -span } else { span })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_what_they_write() {
        let point = calendar::parse_timestamp("2024-03-05 16:07:08.009").unwrap();
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-03-05 16:07:08.009"),
            ("yyyyMMddHHmmssSSS", "20240305160708009"),
            (
                "dd.MM.yyyy 'at' hh:mm:ss.SSS a",
                "05.03.2024 at 04:07:08.009 PM",
            ),
            (
                "EEE, dd MMM yyyy HH:mm:ss.SSSX",
                "Tue, 05 Mar 2024 16:07:08.009Z",
            ),
            ("yyyy-DDD HH:mm:ss.SSS", "2024-065 16:07:08.009"),
        ] {
            let compiled = TimePattern::compile(pattern).unwrap();
            assert_eq!(compiled.format(point), text);
            assert_eq!(compiled.parse(text), Some(point), "{pattern}");
        }
        assert!(TimePattern::compile("yyyy-QQ").is_err());
        assert!(TimePattern::compile("yyyy 'open").is_err());
        assert_eq!(TimePattern::compile("yyyy").unwrap().parse("2024x"), None);
    }
}
