//! Durations and sizes as people write them in configuration and SQL options: `250ms`, `10 s`, `5min`, `64MB`, `64 MiB`.

use std::time::Duration;

/// Reads a duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const HINT: &str = "write a number and a unit: 250ms, 10s, 5min, 2h, 7d";
    let (number, unit) = split(text).ok_or(HINT)?;
    let micros: f64 = match unit {
        "us" | "µs" => 1.0,
        "ms" => 1e3,
        "s" | "sec" | "second" | "seconds" => 1e6,
        "m" | "min" | "minute" | "minutes" => 6e7,
        "h" | "hour" | "hours" => 3.6e9,
        "d" | "day" | "days" => 8.64e10,
        "" => return Err(format!("'{text}' has no unit: {HINT}")),
        other => return Err(format!("'{other}' is not a unit of time: {HINT}")),
    };
    let total = (number * micros).round();
    // 2^63 microseconds are 292,000 years.
    if total >= 9.0e18 {
        return Err(format!("'{text}' is too long"));
    }
    Ok(Duration::from_micros(total as u64))
}

/// Reads a size in bytes. `MB` is a million bytes and `MiB` 1,048,576, as SI and IEC say.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const HINT: &str = "write a number and a unit: 512KB, 64MB, 64MiB, 1GB";
    let (number, unit) = split(text).ok_or(HINT)?;
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => 1.0,
        "kb" | "k" => 1e3,
        "kib" => 1024.0,
        "mb" | "m" => 1e6,
        "mib" => 1_048_576.0,
        "gb" | "g" => 1e9,
        "gib" => 1_073_741_824.0,
        "" => return Err(format!("'{text}' has no unit: {HINT}")),
        other => return Err(format!("'{other}' is not a unit of size: {HINT}")),
    };
    let total = (number * factor).round();
    if total >= 9.0e18 {
        return Err(format!("'{text}' is too large"));
    }
    Ok(total as u64)
}

/// The shortest exact way to write a duration.
pub fn show_duration(value: Duration) -> String {
    let micros = value.as_micros();
    for (unit, name) in [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ] {
        if micros >= unit && micros.is_multiple_of(unit) {
            return format!("{}{name}", micros / unit);
        }
    }
    format!("{micros}us")
}

/// The shortest exact way to write a size.
pub fn show_size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

/// Number and unit; `None` if there is no number.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_need_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("10 s", 10_000),
            ("5min", 300_000),
            ("1.5h", 5_400_000),
            ("7 d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        for (text, bytes) in [
            ("64MB", 64_000_000),
            ("64 MiB", 67_108_864),
            ("1.5kb", 1_500),
            ("12 b", 12),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in [
            "",
            "10",
            "ms",
            "10 parsecs",
            "-5s",
            "1e9s",
            "99999999999999d",
            "1..2s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_size(2 << 20), "2MiB");
    }
}
