//! Which sources a topic belongs to.

/// Whether an MQTT topic filter matches a topic (MQTT 5, section 4.7). Levels may be empty; a wildcard at the front
/// does not match topics that begin with `$`.
pub fn topic_matches(filter: &str, topic: &str) -> bool {
    // A shared subscription is delivered under its plain topic.
    let filter = match filter.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, filter)| filter),
        None => filter,
    };
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        match (level, topic_levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(found)) if level == found => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::topic_matches;

    #[test]
    fn wildcards_and_empty_levels() {
        for (filter, topic, expected) in [
            ("plant/+/temp", "plant/p1/temp", true),
            ("plant/+/temp", "plant/p1/x/temp", false),
            ("plant/#", "plant", true),
            ("plant/#", "plant/a/b", true),
            ("plant", "plant/a", false),
            ("+/+/mqtt", "/neuron/mqtt", true),
            (
                "te/device/main/+/+/m/+",
                "te/device/main///m/environment",
                true,
            ),
            ("#", "$SYS/broker", false),
            ("+/broker", "$SYS/broker", false),
            ("$SYS/#", "$SYS/broker", true),
            ("$share/group/plant/+", "plant/p1", true),
            ("a/b", "a", false),
        ] {
            assert_eq!(topic_matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
