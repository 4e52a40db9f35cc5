//! mosquitto, the broker that is on most gateways: what it counts under `$SYS`, and what its configuration says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Findings;
use crate::runtime::ConnectionSettings;

const MAIN_FILE: &str = "/etc/mosquitto/mosquitto.conf";

/// Judges `$SYS/broker/…`, given as topics and texts.
pub(super) fn examine_counters(said: &[(String, String)], subject: &str, findings: &mut Findings) {
    let value = |name: &str| {
        let topic = format!("$SYS/broker/{name}");
        said.iter()
            .find(|(known, _)| *known == topic)
            .map(|(_, text)| text.as_str())
    };
    let Some(version) = value("version") else {
        findings.good(subject, "does not count under $SYS");
        return;
    };
    let stored = value("store/messages/count").unwrap_or("?");
    let dropped = value("publish/messages/dropped").and_then(|text| text.parse::<u64>().ok());
    let found = format!(
        "{version}, up {}, holds {stored} messages",
        value("uptime").unwrap_or("?")
    );
    match dropped {
        Some(dropped) if dropped > 0 => findings.warn(
            subject,
            &format!("{found}; it has dropped {dropped} messages since it started, which their publishers took for sent"),
            "raise max_queued_messages (mosquitto.conf), find clients that are away for long, and publish with QoS 1",
        ),
        _ => findings.good(subject, &found),
    }
}

/// Judges mosquitto.conf and what it includes, if they can be read, for our session.
pub(super) fn examine_files(connection: &ConnectionSettings, findings: &mut Findings) {
    let Ok(main) = std::fs::read_to_string(MAIN_FILE) else {
        return;
    };
    let mut text = main.clone();
    for line in main.lines() {
        if let Some(dir) = line.trim().strip_prefix("include_dir ") {
            for path in included(Path::new(dir.trim())) {
                // One that cannot be read is passed over: what it says is not known.
                text.push('\n');
                text.push_str(&std::fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    examine_text(
        &text,
        connection.session_expiry,
        connection.receive_maximum,
        findings,
    );
}

fn included(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    paths.sort();
    paths
}

/// As long as mosquitto writes it: a number of hours, days, weeks, months or years.
fn expiration(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'm' => 30 * 24,
        'y' => 365 * 24,
        _ => return None,
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].trim().parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(hours * 3_600)?))
}

/// The session is to be kept for `session_expiry`, with up to `receive_maximum` messages that were sent and not acknowledged.
fn examine_text(
    text: &str,
    session_expiry: Duration,
    receive_maximum: u16,
    findings: &mut Findings,
) {
    let subject = MAIN_FILE;
    let value = |name: &str| {
        let lines = text.lines().map(str::trim);
        let mut values =
            lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '\t']));
        values.next_back().map(str::trim)
    };
    let number = |name: &str, default: u64| {
        value(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    if value("persistence") != Some("true") {
        findings.warn(
            subject,
            "persistence is off: a restart of the broker loses our session and all that waits in it",
            "persistence true",
        );
    } else if value("autosave_on_changes") != Some("true")
        && number("autosave_interval", 1_800) > 60
    {
        findings.warn(
            subject,
            &format!(
                "the broker saves what waits every {} s: a power cut loses what came since",
                number("autosave_interval", 1_800)
            ),
            "autosave_interval 60 (each save writes the whole store to the card), or autosave_interval 1000 with \
             autosave_on_changes true",
        );
    } else {
        findings.good(subject, "what waits is saved");
    }
    if let Some(written) = value("persistent_client_expiration")
        && expiration(written).is_some_and(|kept| kept < session_expiry)
    {
        findings.warn(
            subject,
            &format!(
                "persistent_client_expiration is {written}, and session_expiry asks for {} s: what comes during a longer \
                 absence is lost",
                session_expiry.as_secs()
            ),
            "remove persistent_client_expiration, or make it longer than any absence",
        );
    }
    let queued = number("max_queued_messages", 1_000);
    if queued != 0 && queued <= u64::from(receive_maximum) + 1_000 {
        findings.warn(
            subject,
            &format!(
                "max_queued_messages is {queued}, and what we had not committed when we were cut off can take up to {} of it \
                 (receive_maximum): when we are away longer than the rest takes to fill, the broker drops what its publishers \
                 take for sent",
                queued.min(receive_maximum.into())
            ),
            "max_queued_messages 100000, or as many as your devices send during the longest absence",
        );
    } else {
        findings.good(subject, &format!("max_queued_messages {queued}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(text: &str) -> (usize, usize) {
        let mut findings = Findings::default();
        examine_text(text, Duration::from_secs(7 * 86_400), 2_000, &mut findings);
        (findings.failures, findings.warnings)
    }

    #[test]
    fn defaults_that_lose_messages_are_warned_of() {
        assert_eq!(worst(""), (0, 2));
        // What a Debian package ships.
        assert_eq!(
            worst("persistence true\npersistence_location /var/lib/mosquitto/"),
            (0, 2)
        );
        let careful = "  persistence true\nautosave_interval\t30\nmax_queued_messages 1000\nmax_queued_messages 100000";
        assert_eq!(worst(careful), (0, 0));
        // All or most of it is what we had not committed when we went; else it is short all the same.
        for (queue, warnings) in [(2_000, 1), (3_000, 1), (3_001, 0), (0, 0)] {
            let text = format!("{careful}\nmax_queued_messages {queue}");
            assert_eq!(worst(&text), (0, warnings), "{queue}");
        }
        assert_eq!(
            worst("persistence true\nautosave_on_changes true\nmax_queued_messages 0"),
            (0, 0)
        );
        for (kept, warnings) in [
            ("6d", 1),
            ("167h", 1),
            ("1w", 0),
            ("2m", 0),
            ("1y", 0),
            ("soon", 0),
        ] {
            let expiring = format!("{careful}\npersistent_client_expiration {kept}");
            assert_eq!(worst(&expiring), (0, warnings), "{kept}");
        }
        assert_eq!(
            worst("#persistence true\npersistence_location x\nmax_queued_messages 0"),
            (0, 1)
        );
    }

    #[test]
    fn counters_are_read_if_they_are_there() {
        let said = |dropped: &str| {
            [
                ("version", "mosquitto version 2.0.11"),
                ("publish/messages/dropped", dropped),
            ]
            .map(|(name, text)| (format!("$SYS/broker/{name}"), text.to_owned()))
        };
        for (counters, warnings) in [
            (said("0").to_vec(), 0),
            (said("7").to_vec(), 1),
            (Vec::new(), 0),
        ] {
            let mut findings = Findings::default();
            examine_counters(&counters, "broker x", &mut findings);
            assert_eq!(findings.warnings, warnings);
        }
    }
}
