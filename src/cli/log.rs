//! Logging to standard error, for people, journald or a collector.
//!
//! A message that repeats is written [`REPEATS`] times in [`WINDOW`] and then held back until the window ends; how
//! many were held back is said with the next one that is written, so that a flood of faults cannot wear the card.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::LogStyle;
use crate::config::{Log, LogFormat, LogLevel};

const REPEATS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// What is logged and how.
pub(super) struct LogOptions {
    level: LevelFilter,
    json: bool,
}

impl LogOptions {
    /// What the configuration says, and the command line over it.
    pub(super) fn new(log: &Log, style: Option<LogStyle>) -> Self {
        let level = match log.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let json = match style {
            Some(style) => style == LogStyle::Json,
            None => log.format == LogFormat::Json,
        };
        Self { level, json }
    }
}

/// Starts logging for this process.
pub(super) fn start(options: &LogOptions) {
    // journald adds the time itself.
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let registry = tracing_subscriber::registry()
        .with(options.level)
        .with(OnlyOurs)
        .with(Repeats::default());
    if options.json {
        registry.with(format.json().flatten_event(true)).init();
    } else if journald {
        registry.with(format.without_time().with_ansi(false)).init();
    } else {
        registry.with(format.with_ansi(terminal)).init();
    }
}

/// Lets our own messages through, and of others only warnings.
struct OnlyOurs;

impl<S: Subscriber> Layer<S> for OnlyOurs {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        metadata.target().starts_with("headwater") || *metadata.level() <= tracing::Level::ERROR
    }
}

#[derive(Default)]
struct Repeats {
    sites: Mutex<HashMap<Identifier, Site>>,
}

struct Site {
    since: Instant,
    written: u32,
    held_back: u64,
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let now = Instant::now();
        let mut sites = self
            .sites
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let site = sites.entry(event.metadata().callsite()).or_insert(Site {
            since: now,
            written: 0,
            held_back: 0,
        });
        if now.duration_since(site.since) >= WINDOW {
            if site.held_back > 0 {
                let place = event.metadata();
                eprintln!(
                    "headwater: {} messages like the next one were held back ({}:{})",
                    site.held_back,
                    place.file().unwrap_or("?"),
                    place.line().unwrap_or(0)
                );
            }
            *site = Site {
                since: now,
                written: 0,
                held_back: 0,
            };
        }
        if site.written >= REPEATS {
            site.held_back += 1;
            return false;
        }
        site.written += 1;
        true
    }
}
