//! What Home Assistant is told of a sink, so that it shows what is published there without being configured.

use compact_str::CompactString;

/// Discovery of a sink: each of its topics is a device, each of its columns one of the device's entities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The beginning of the topics where Home Assistant listens, without the slash behind it.
    pub prefix: CompactString,
    /// What of a row is shown.
    pub entities: Vec<Entity>,
}

/// A column that Home Assistant shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Which column of the sink.
    pub column: usize,
    /// The unit that stands behind its value.
    pub unit: Option<String>,
    /// What kind of quantity it is: Home Assistant's name of it, such as `temperature` or `door`.
    pub device_class: Option<String>,
}
