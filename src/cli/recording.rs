//! Recorded messages: one JSON object a line with topic, payload and time.
//!
//! Accepted spellings: `time` or `timestamp` or `tst`, as ISO 8601 (also mosquitto's `…Z+0100`) or as a number of
//! seconds, milliseconds or microseconds since 1970 (told apart by size); `payload` as a string, or as any JSON value
//! (as `mosquitto_sub -F %J` writes), which stands for its text; or `payload_base64` for bytes that are no text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::codec::{TimestampFormat, parse_timestamp};
use crate::types::EventTime;

/// A recorded message.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// When it was received; `None` if the recording does not say.
    pub(super) time: Option<EventTime>,
}

#[derive(Deserialize)]
struct Line<'a> {
    topic: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    payload_base64: Option<String>,
    #[serde(borrow, alias = "timestamp", alias = "tst")]
    time: Option<&'a RawValue>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: Flag,
}

/// `true` or, as mosquitto writes it, `1`.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
    #[default]
    Absent,
}

/// Reads one line; the error says what is wrong with it.
pub(super) fn parse(line: &str) -> Result<Recorded, String> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let payload = match (line.payload, line.payload_base64) {
        (_, Some(text)) => STANDARD
            .decode(text)
            .map_err(|error| format!("`payload_base64`: {error}"))?,
        (Some(raw), None) if raw.get().starts_with('"') => {
            let text: String =
                serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
            text.into_bytes()
        }
        (Some(raw), None) if raw.get() == "null" => Vec::new(),
        (Some(raw), None) => raw.get().as_bytes().to_vec(),
        (None, None) => return Err("there is neither `payload` nor `payload_base64`".to_owned()),
    };
    let time = line
        .time
        .filter(|raw| raw.get() != "null")
        .map(|raw| parse_time(raw.get()));
    Ok(Recorded {
        topic: line.topic,
        payload,
        qos: line.qos.min(1),
        retain: matches!(line.retain, Flag::Bool(true) | Flag::Number(1..)),
        time: time.transpose()?,
    })
}

fn parse_time(raw: &str) -> Result<EventTime, String> {
    let wrong =
        || format!("the time {raw} is neither ISO 8601 with a zone nor a number since 1970");
    let micros = if let Some(text) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        // mosquitto writes both a Z and an offset; the offset is what it means.
        let text = match text.rfind(['+', '-']) {
            Some(at) if text[..at].ends_with('Z') => format!("{}{}", &text[..at - 1], &text[at..]),
            _ => text.to_owned(),
        };
        parse_timestamp(&text, &TimestampFormat::Iso8601, true)
    } else {
        let size: f64 = raw.parse().map_err(|_| wrong())?;
        // The year 5138 in seconds is 1973 in milliseconds; the same again for microseconds.
        let format = match size.abs() {
            x if x < 1e11 => TimestampFormat::EpochSeconds,
            x if x < 1e14 => TimestampFormat::EpochMillis,
            _ => TimestampFormat::EpochMicros,
        };
        parse_timestamp(raw, &format, true)
    };
    micros.map(EventTime::from_micros).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_mosquitto_sub_writes() {
        let line = r#"{"tst":"2026-11-23T05:11:36.540283Z+0100","topic":"a/b","qos":1,"retain":1,"payloadlen":7,"payload":"{\"x\":1}"}"#;
        let recorded = parse(line).unwrap();
        assert_eq!(
            recorded.time.unwrap().to_string(),
            "2026-11-23T04:11:36.540283Z"
        );
        assert_eq!(
            (recorded.topic.as_str(), recorded.qos, recorded.retain),
            ("a/b", 1, true)
        );
        assert_eq!(recorded.payload, br#"{"x":1}"#);
    }

    #[test]
    fn payloads_and_times_of_every_spelling() {
        let payload = |line| parse(line).unwrap().payload;
        assert_eq!(
            payload(r#"{"topic":"t","payload":{"x": 1}}"#),
            br#"{"x": 1}"#
        );
        assert_eq!(payload(r#"{"topic":"t","payload":21.50}"#), b"21.50");
        assert_eq!(
            payload(r#"{"topic":"t","payload_base64":"//4A"}"#),
            [0xff, 0xfe, 0]
        );
        for time in [
            "1700000000",
            "1700000000000",
            "1700000000000000",
            "\"2023-11-14T22:13:20Z\"",
        ] {
            let line = format!(r#"{{"topic":"t","payload":"","time":{time}}}"#);
            assert_eq!(
                parse(&line).unwrap().time.unwrap().as_millis(),
                1_700_000_000_000
            );
        }
        assert!(
            parse(r#"{"topic":"t","payload":"","time":"noon"}"#)
                .unwrap_err()
                .contains("noon")
        );
        assert!(parse(r#"{"topic":"t"}"#).unwrap_err().contains("payload"));
    }
}
