//! When an epoch is committed, and what that writes to flash.
//!
//! A commit writes some 25 KB however little has changed, and flash wears with what is written. So each thing waits for
//! as long as it can: what was derived, and what nobody would send again, for `commit.interval`, and if the flash budget is
//! used up until it has room, but no longer than `commit.quiet_interval`; input that derived nothing, which the broker holds
//! until it is acknowledged, for `commit.quiet_interval`, and so what upstream has confirmed. A broker that waits for
//! acknowledgements is never kept waiting ([`Pacer`](crate::engine::Pacer)), whatever the budget says: its queue is
//! bounded, and what does not fit there is lost.

use tracing::{info, warn};

use super::health::Megabytes;
use super::{Driver, EPOCH_LIMIT_BYTES, Settings};
use crate::engine::{COMMIT_BYTES, Clock, Flash};

/// What waits for a commit beside publishes to acknowledge: since when.
pub(super) struct Changes {
    interval_micros: u64,
    quiet_micros: u64,
    urgent: bool,
    first: Option<u64>,
    first_row: Option<u64>,
    first_quiet: Option<u64>,
}

impl Changes {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            interval_micros: settings.commit_interval.as_micros() as u64,
            quiet_micros: settings.quiet_interval.as_micros() as u64,
            urgent: false,
            first: None,
            first_row: None,
            first_quiet: None,
        }
    }

    /// Something that has to be stored within the interval whatever it costs.
    pub(super) fn note(&mut self, now: u64) {
        self.first.get_or_insert(now);
    }

    /// Rows, dead letters, or input that nobody would send again.
    pub(super) fn note_rows(&mut self, now: u64) {
        self.first_row.get_or_insert(now);
    }

    /// Something that can wait.
    pub(super) fn note_quiet(&mut self, now: u64) {
        self.first_quiet.get_or_insert(now);
    }

    /// Something that holds up a connection.
    pub(super) const fn note_urgent(&mut self) {
        self.urgent = true;
    }

    /// All of it is in an epoch.
    pub(super) const fn sealed(&mut self) {
        self.urgent = false;
        self.first = None;
        self.first_row = None;
        self.first_quiet = None;
    }

    /// When it is to be committed, 0 for at once. The flash budget has room from `room_at` on.
    fn due(&self, room_at: u64) -> Option<u64> {
        if self.urgent {
            return Some(0);
        }
        let first = self.first.map(|since| since + self.interval_micros);
        let rows = self.first_row.map(|since| {
            let latest = since + self.quiet_micros;
            room_at.max(since + self.interval_micros).min(latest)
        });
        let quiet = self.first_quiet.map(|since| since + self.quiet_micros);
        first.into_iter().chain(rows).chain(quiet).min()
    }
}

/// What commits write, and whether it was said that this is too much.
pub(super) struct FlashWear {
    written: Flash,
    budget_bytes: Option<u64>,
    used_up: bool,
}

impl FlashWear {
    /// Says what the settings will write, as far as they decide it.
    pub(super) fn new(settings: &Settings, now: u64) -> Self {
        let a_day = |interval: std::time::Duration| {
            (COMMIT_BYTES as f64 * 86_400.0 / interval.as_secs_f64()) as u64
        };
        let at_rest = a_day(settings.quiet_interval);
        let rows_all_the_time = a_day(settings.commit_interval);
        info!(
            at_rest = %Megabytes(at_rest),
            rows_all_the_time =
                %Megabytes(settings.flash_budget_bytes.map_or(rows_all_the_time, |it| it.min(rows_all_the_time))),
            window_of_messages = settings.connections.iter().map(|c| c.receive_maximum).min(),
            "flash, a day: a commit writes at least 24 KB; one is made each commit.quiet_interval with input, each \
             commit.interval with rows, and for each full window of unacknowledged messages"
        );
        if let Some(budget) = settings.flash_budget_bytes
            && at_rest > budget
        {
            warn!(
                budget = %Megabytes(budget),
                "commit.flash_budget cannot be kept while messages come: commit.quiet_interval alone makes {} a day; \
                 raise one of the two",
                Megabytes(at_rest)
            );
        }
        Self {
            written: Flash::new(settings.flash_budget_bytes, now),
            budget_bytes: settings.flash_budget_bytes,
            used_up: false,
        }
    }

    /// What a day writes at the present rate.
    pub(super) fn bytes_per_day(&self, now: u64) -> Option<u64> {
        self.written.bytes_per_day(now)
    }

    /// The budget, where it is used up.
    pub(super) const fn overdrawn(&self) -> Option<u64> {
        if self.used_up {
            self.budget_bytes
        } else {
            None
        }
    }
}

impl Driver {
    /// When the epoch is to be committed, 0 for at once.
    pub(super) fn commit_due(&self) -> Option<u64> {
        let pacers = self.sources.iter().filter_map(|line| line.pacer.due());
        let room_at = self.flash.written.room_at();
        // Nor does an epoch grow without end while its interval lasts, or hold up the input by what it keeps from going.
        let gathered = self.engine.epoch_bytes();
        let full = gathered >= EPOCH_LIMIT_BYTES || gathered > 0 && !self.engine.has_room();
        let full = full.then_some(0);
        pacers.chain(self.changes.due(room_at)).chain(full).min()
    }

    pub(super) fn commit_if_due(&mut self, now: Clock) {
        let due = self
            .commit_due()
            .is_some_and(|due| due <= now.steady_micros);
        if due && self.committing.is_none() {
            self.commit(now);
        }
    }

    /// Counts what a commit has written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        let now = self.clock.now().steady_micros;
        self.flash.written.wrote(bytes, now);
    }

    /// Says when the flash budget is used up and when it has room again.
    pub(super) fn say_budget(&mut self, now: u64) {
        let Some(budget) = self.flash.budget_bytes else {
            return;
        };
        // Where it is spent as it grows it is used up between any two commits: that is one state, and told once.
        let used_up = if self.flash.used_up {
            !self.flash.written.has_recovered(now)
        } else {
            self.flash.written.is_used_up(now)
        };
        if used_up == self.flash.used_up {
            return;
        }
        self.flash.used_up = used_up;
        let per_day = self.flash.bytes_per_day(now).unwrap_or(0);
        if used_up {
            warn!(
                budget = %Megabytes(budget),
                bytes_per_day = per_day,
                "FLASH BUDGET used up: rows wait until their commit is within it, up to {:?} (commit.quiet_interval); {}",
                self.settings.quiet_interval,
                self.less_flash()
            );
        } else {
            info!(bytes_per_day = per_day, "the flash budget has room again");
        }
    }

    /// Says of each connection whose broker's window has shown itself, once, what that costs.
    pub(super) fn say_windows(&mut self) {
        let now = self.clock.now().steady_micros;
        let per_day = self.flash.bytes_per_day(now).map(Megabytes);
        for line in &mut self.sources {
            let learned = line.pacer.learned();
            if learned.is_none() || learned == line.told_window {
                continue;
            }
            line.told_window = learned;
            let connection = &self.settings.connections[line.connection];
            info!(
                connection = %connection.name,
                window = learned,
                flash_a_day = per_day.map(tracing::field::display),
                "the broker sends no more than this many messages before it waits for a commit; for fewer commits, and so \
                 less wear, raise receive_maximum to {} here, and the broker's own limit of unacknowledged messages if it has one",
                connection.receive_maximum.max(1_000)
            );
        }
    }

    /// What would make for fewer commits.
    fn less_flash(&self) -> String {
        for line in &self.sources {
            let connection = &self.settings.connections[line.connection];
            if let Some(window) = line.pacer.learned() {
                return format!(
                    "the broker of connection {} sends no more than {window} messages before it waits for a commit: \
                     raise receive_maximum to {} here, and the broker's own limit of unacknowledged messages if it has one",
                    connection.name,
                    connection.receive_maximum.max(1_000)
                );
            }
        }
        "derive fewer or shorter rows, or raise commit.interval, receive_maximum, or the budget"
            .to_owned()
    }
}
