//! Time zones: wall clock to UTC and back.
//!
//! Invariants: the zones are those of the binary, never of the machine, so that a query gives the same rows on every
//! gateway. A wall clock time that a change of offset skips is moved forward by what was skipped, and of one that
//! comes twice the first is meant: as in Java, and so in Flink. Before the years of the database its first offset
//! holds, and after them its last rule.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use super::ResolveError;
use super::calendar::Fields;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// The zone of this name: `Europe/Berlin`, `UTC`, `Z`, `+05:30`, `GMT-8`, `UTC+01:00`, and `PST`, which Flink's
    /// documentation uses.
    pub(super) fn find(name: &str) -> Result<Self, ResolveError> {
        let trimmed = name.trim();
        let zone = match trimmed {
            "Z" | "UTC" | "GMT" | "UT" => Some(TimeZone::UTC),
            "PST" => ZONES.get("America/Los_Angeles").ok(),
            _ => offset(trimmed)
                .map(TimeZone::fixed)
                .or_else(|| ZONES.get(trimmed).ok()),
        };
        zone.map(Self).ok_or_else(|| {
            let shown: String = trimmed.chars().take(40).collect();
            ResolveError::hinted(
                format!("there is no time zone '{shown}'"),
                "write a name such as 'Europe/Berlin', 'UTC' or an offset such as '+02:00'",
            )
        })
    }

    /// What the clocks of the zone show at a point in time; both in microseconds since 1970-01-01T00:00:00.
    pub(super) fn to_wall(&self, micros: i64) -> i64 {
        let seconds = micros
            .div_euclid(1_000_000)
            .clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let offset = Timestamp::from_second(seconds).map_or(Offset::UTC, |at| self.0.to_offset(at));
        micros.saturating_add(i64::from(offset.seconds()) * 1_000_000)
    }

    /// The point in time at which the clocks of the zone show `wall`.
    pub(super) fn to_utc(&self, wall: i64) -> i64 {
        let f = Fields::of(wall);
        let shown = i16::try_from(f.year).ok().and_then(|year| {
            let [month, day, hour, minute, second] =
                [f.month, f.day, f.hour, f.minute, f.second].map(|part| part as i8);
            DateTime::new(year, month, day, hour, minute, second, 0).ok()
        });
        // Beyond the library's calendar there are no rules to ask.
        let offset = shown.map_or(Offset::UTC, |shown| {
            match self.0.to_ambiguous_timestamp(shown).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset,
                AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => {
                    before
                }
            }
        });
        wall.saturating_sub(i64::from(offset.seconds()) * 1_000_000)
    }
}

/// Reads `+02:00`, `-8`, `GMT-08:00`, `UTC+0530`.
fn offset(name: &str) -> Option<Offset> {
    let bare = ["UTC", "GMT", "UT"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let digits = bare.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "00"),
    };
    if !(1..=2).contains(&hours.len()) || minutes.len() != 2 {
        return None;
    }
    if !(hours.bytes().chain(minutes.bytes())).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 18 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if bare.starts_with('-') {
        -seconds
    } else {
        seconds
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::super::calendar::parse_timestamp;
    use super::*;

    #[test]
    fn clocks_skip_and_repeat_an_hour_as_in_java() {
        let at = |text| parse_timestamp(text).unwrap();
        let berlin = Zone::find("Europe/Berlin").unwrap();
        for (wall, utc) in [
            ("2024-01-01 12:00:00", "2024-01-01 11:00:00"),
            ("2024-07-01 12:00:00", "2024-07-01 10:00:00"),
            // Skipped: 02:30 is taken for 03:30.
            ("2024-03-31 01:59:59", "2024-03-31 00:59:59"),
            ("2024-03-31 02:30:00", "2024-03-31 01:30:00"),
            ("2024-03-31 03:00:00", "2024-03-31 01:00:00"),
            // Twice: the first.
            ("2024-10-27 02:30:00", "2024-10-27 00:30:00"),
            ("2024-10-27 03:00:00", "2024-10-27 02:00:00"),
            ("2024-02-29 00:30:00", "2024-02-28 23:30:00"),
            ("1969-12-31 23:30:00", "1969-12-31 22:30:00"),
            ("9999-12-31 23:59:59", "9999-12-31 22:59:59"),
        ] {
            assert_eq!(berlin.to_utc(at(wall)), at(utc), "{wall}");
        }
        for (utc, wall) in [
            ("2024-03-31 00:59:59", "2024-03-31 01:59:59"),
            ("2024-03-31 01:00:00", "2024-03-31 03:00:00"),
            ("2024-10-27 00:30:00", "2024-10-27 02:30:00"),
            ("2024-10-27 01:30:00", "2024-10-27 02:30:00"),
        ] {
            assert_eq!(berlin.to_wall(at(utc)), at(wall), "{utc}");
        }
    }

    #[test]
    fn zones_have_names_and_offsets() {
        let noon = parse_timestamp("2024-01-01 12:00:00").unwrap();
        // Half hours.
        for (name, half_hours) in [
            ("UTC", 0),
            ("Z", 0),
            ("+05:30", 11),
            ("-8", -16),
            ("GMT-08:00", -16),
            ("UTC+0530", 11),
            ("PST", -16),
            ("Asia/Kolkata", 11),
            ("America/St_Johns", -7),
        ] {
            let moved = Zone::find(name).unwrap().to_wall(noon) - noon;
            assert_eq!(moved, half_hours * 1_800_000_000, "{name}");
        }
        for name in ["", "Mars/Olympus", "+25:00", "+1:2", "GMT+", "+é1:00"] {
            assert!(Zone::find(name).is_err(), "{name}");
        }
    }
}
