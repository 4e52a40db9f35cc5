//! The summary line: what a person should see without asking.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use compact_str::CompactString;
use tracing::info;

use crate::engine::{Clock, Engine};
use crate::store::CommitStats;
use crate::types::EventTime;

/// Between two summaries, microseconds.
const INTERVAL_MICROS: u64 = 60_000_000;

/// What has happened since the last summary.
#[derive(Debug)]
pub(super) struct Summary {
    since: u64,
    /// Rows that upstream has confirmed, ever.
    pub(super) delivered: u64,
    commits: u64,
    written_bytes: u64,
    /// What of it was content, not pages around it.
    changed_bytes: u64,
    dead_letters: u64,
    before: Before,
}

#[derive(Debug, Default)]
struct Before {
    received: u64,
    rows_out: u64,
    delivered: u64,
    discards: BTreeMap<(CompactString, &'static str), u64>,
    notes: BTreeMap<(CompactString, &'static str), u64>,
}

impl Summary {
    pub(super) fn new(now: u64) -> Self {
        Self {
            since: now,
            delivered: 0,
            commits: 0,
            written_bytes: 0,
            changed_bytes: 0,
            dead_letters: 0,
            before: Before::default(),
        }
    }

    pub(super) fn committed(&mut self, stats: &CommitStats) {
        self.commits += 1;
        self.written_bytes += stats.written_bytes;
        self.changed_bytes += stats.payload_bytes;
        self.dead_letters = stats.totals.dead_letters;
    }

    pub(super) const fn is_due(&self, now: u64) -> bool {
        now >= self.since + INTERVAL_MICROS
    }

    /// Writes the line and begins anew. `sources`: connected and all; `upstreams`: how many are connected; `flash`: bytes
    /// a day at the present rate.
    pub(super) fn log(
        &mut self,
        now: Clock,
        engine: &mut Engine,
        sources: (usize, usize),
        upstreams: usize,
        flash: Option<u64>,
    ) {
        let seconds = (now.steady_micros - self.since).max(1) as f64 / 1e6;
        let counters = engine.counters();
        let received = counters.received - self.before.received;
        let rows_out = counters.rows_out - self.before.rows_out;
        let delivered = self.delivered - self.before.delivered;
        let drops = grown_since(&self.before.discards, &counters.discards);
        let notes = grown_since(&self.before.notes, &counters.notes);
        self.before = Before {
            received: counters.received,
            rows_out: counters.rows_out,
            delivered: self.delivered,
            discards: counters.discards.clone(),
            notes: counters.notes.clone(),
        };
        let (duplicates, possible) = (counters.duplicates, counters.possible_duplicates);
        let watermark = engine.watermark();
        let lag = if watermark == EventTime::MIN {
            "none".to_owned()
        } else {
            format!("{:.1}s", now.wall.since(watermark).as_micros() as f64 / 1e6)
        };
        let (outbox_rows, outbox_bytes, dropped) = engine.outbox_totals();
        info!(
            brokers = %format_args!("{}/{}", sources.0, sources.1),
            upstreams,
            received,
            messages_per_second = %format_args!("{:.1}", received as f64 / seconds),
            rows_out,
            delivered,
            lag,
            keys = engine.keys(),
            outbox_rows,
            outbox_bytes,
            outbox_dropped = dropped,
            commits = self.commits,
            changed_bytes = self.changed_bytes,
            written_bytes = self.written_bytes,
            flash_bytes_per_day = flash,
            dead_letters = self.dead_letters,
            duplicates,
            possible_duplicates = possible,
            drops = %if drops.is_empty() { "none" } else { &drops },
            notes = %if notes.is_empty() { "none" } else { &notes },
            "summary"
        );
        self.commits = 0;
        self.written_bytes = 0;
        self.changed_bytes = 0;
        self.since = now.steady_micros;
    }
}

/// Messages and events a second since the last look.
#[derive(Debug)]
pub(super) struct Rates {
    since: u64,
    received: u64,
    rows_out: u64,
}

impl Rates {
    pub(super) const fn new(now: u64) -> Self {
        Self {
            since: now,
            received: 0,
            rows_out: 0,
        }
    }

    /// Messages received and events made each second since the last call.
    pub(super) fn take(&mut self, now: u64, engine: &Engine) -> (f64, f64) {
        let seconds = (now - self.since).max(1_000) as f64 / 1e6;
        let counters = engine.counters();
        let rates = (
            (counters.received - self.received) as f64 / seconds,
            (counters.rows_out - self.rows_out) as f64 / seconds,
        );
        *self = Self {
            since: now,
            received: counters.received,
            rows_out: counters.rows_out,
        };
        rates
    }
}

/// `stream: reason n` for each count that has grown.
fn grown_since(
    before: &BTreeMap<(CompactString, &'static str), u64>,
    now: &BTreeMap<(CompactString, &'static str), u64>,
) -> String {
    let mut text = String::new();
    for (key, count) in now {
        let grown = count - before.get(key).copied().unwrap_or(0);
        if grown > 0 {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{}: {} {grown}", key.0, key.1);
        }
    }
    text
}
