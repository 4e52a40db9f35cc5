//! Event time: a point on the UTC time line in microseconds, and spans between points.
//!
//! Invariant: arithmetic saturates. A timestamp at the edge of the range must never wrap round and make a
//! window of the far past look due.

use std::fmt;

/// A point in time, in microseconds since 1970-01-01T00:00:00 UTC; negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(i64);

impl EventTime {
    /// Before every event: the watermark of a source that has seen nothing.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event: the watermark at the end of a bounded input.
    pub const MAX: Self = Self(i64::MAX);

    /// A point `micros` microseconds after 1970-01-01T00:00:00 UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A point `millis` milliseconds after 1970-01-01T00:00:00 UTC, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since 1970-01-01T00:00:00 UTC.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970-01-01T00:00:00 UTC, rounded towards the past.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This point moved `span` into the future, saturating.
    #[must_use]
    pub const fn plus(self, span: Timespan) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This point moved `span` into the past, saturating.
    #[must_use]
    pub const fn minus(self, span: Timespan) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The span from `earlier` to this point, saturating.
    pub const fn since(self, earlier: Self) -> Timespan {
        Timespan(self.0.saturating_sub(earlier.0))
    }

    /// The latest point of the grid `offset + n * step` that is not after this one. `step` must be positive.
    #[must_use]
    pub const fn align_down(self, step: Timespan, offset: Timespan) -> Self {
        let remainder = self.0.saturating_sub(offset.0).rem_euclid(step.0);
        Self(self.0.saturating_sub(remainder))
    }
}

impl fmt::Display for EventTime {
    /// ISO 8601 with a `Z`, with as many fraction digits (none, 3 or 6) as the value needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => return f.write_str("-infinity"),
            Self::MAX => return f.write_str("+infinity"),
            Self(_) => {}
        }
        let (year, month, day) = civil_from_days(self.0.div_euclid(86_400_000_000));
        let within = self.0.rem_euclid(86_400_000_000);
        let (seconds, micros) = (within / 1_000_000, within % 1_000_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        )?;
        if micros % 1_000 != 0 {
            write!(f, ".{micros:06}")?;
        } else if micros != 0 {
            write!(f, ".{:03}", micros / 1_000)?;
        }
        f.write_str("Z")
    }
}

/// The proleptic Gregorian date `days` after 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms"). Written here and not taken from the calendar library because that one stops at the year 9999,
/// and an event time read from a broken clock may lie beyond.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// A line of event time. Usually all rows share one; a table with a watermark for each key has one for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The one that rows are on where no table says otherwise.
    pub const SHARED: Self = Self(0);
}

/// How far event time has come on a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which line.
    pub line: Timeline,
    /// No row at or before this is to come on it, except late ones.
    pub watermark: EventTime,
}

/// A length of time in microseconds; may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timespan(i64);

impl Timespan {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// One millisecond: the step of Flink's event time, and so what lies between a window's last instant and its end.
    pub const MILLISECOND: Self = Self(1_000);

    /// A span of `micros` microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A span of `millis` milliseconds, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// A span of `secs` seconds, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// The span in microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whether the span is longer than zero.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl fmt::Display for Timespan {
    /// The largest unit that divides the span: `90 s`, `2 min`, `250 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [
            (86_400_000_000, "d"),
            (3_600_000_000, "h"),
            (60_000_000, "min"),
            (1_000_000, "s"),
            (1_000, "ms"),
        ] {
            if self.0 % unit == 0 && (self.0 != 0 || unit == 1_000) {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} us", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_iso_8601_also_before_1970_and_on_leap_days() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1_000, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (1_709_164_800_000_001, "2024-02-29T00:00:00.000001Z"),
        ] {
            assert_eq!(EventTime::from_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn windows_align_to_the_grid_also_before_1970() {
        let ten = Timespan::from_secs(10);
        let at = |s: i64| EventTime::from_millis(s * 1_000);
        assert_eq!(at(-1).align_down(ten, Timespan::ZERO), at(-10));
        assert_eq!(at(-10).align_down(ten, Timespan::ZERO), at(-10));
        assert_eq!(at(14).align_down(ten, Timespan::from_secs(5)), at(5));
        assert_eq!(at(14).align_down(ten, Timespan::from_secs(-5)), at(5));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(EventTime::MAX.plus(Timespan::MILLISECOND), EventTime::MAX);
        assert_eq!(EventTime::MIN.minus(Timespan::MILLISECOND), EventTime::MIN);
    }
}
