//! The proleptic Gregorian calendar in UTC: days and dates.
//!
//! Written here and not taken from the calendar library, because that one stops at the year 9999 and an event time
//! read from a broken clock may lie beyond (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").

/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 0001-01-01T00:00:00, the least TIMESTAMP, in microseconds since 1970.
pub const LEAST_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999, the greatest TIMESTAMP, in microseconds since 1970.
pub const GREATEST_MICROS: i64 = 253_402_300_799_999_999;

/// Days since 1970-01-01 of a date.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The date `days` after 1970-01-01 as year, month, day.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

/// How many days a month has.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Cuts fraction digits of a second beyond `precision`, towards the past, as Flink does.
pub fn cut(micros: i64, precision: u8) -> i64 {
    let step = 10_i64.pow(u32::from(6 - precision.min(6)));
    micros.saturating_sub(micros.rem_euclid(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_are_each_others_inverse() {
        for (date, day) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((2000, 2, 29), 11_016),
            ((1, 1, 1), LEAST_MICROS / MICROS_PER_DAY),
            ((9999, 12, 31), GREATEST_MICROS / MICROS_PER_DAY),
        ] {
            assert_eq!(days(date.0, date.1, date.2), day, "{date:?}");
            assert_eq!(civil(day), date);
        }
    }

    #[test]
    fn fractions_are_cut_towards_the_past() {
        assert_eq!(cut(1_999, 3), 1_000);
        assert_eq!(cut(-1, 3), -1_000);
        assert_eq!(cut(-1, 6), -1);
        assert_eq!(cut(1_999_999, 0), 1_000_000);
    }
}
