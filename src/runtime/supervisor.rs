//! What the service manager is told: READY, STATUS, RELOADING, STOPPING, and WATCHDOG=1 as long as work goes on.
//!
//! Invariant: nothing here runs by itself. A sign of life is sent from the driver's own loop and only if the driver says
//! that everything moves, so that a process whose engine, store or connection is stuck is started anew. Without a
//! service manager (no `$NOTIFY_SOCKET`) nothing is sent.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tracing::debug;

/// Between two reports, at the most.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Supervisor {
    watchdog: Option<Duration>,
    next_report_micros: u64,
    /// What is said beside the status until there is something newer to say, such as a reload that was refused.
    note: Option<String>,
}

impl Supervisor {
    pub(super) fn new() -> Self {
        Self {
            watchdog: watchdog_enabled(),
            next_report_micros: 0,
            note: None,
        }
    }

    /// How long something may stand still before signs of life stop; the service manager then waits as long as its
    /// `WatchdogSec=` says.
    pub(super) fn patience(&self) -> Duration {
        self.watchdog.unwrap_or(Duration::from_secs(60)) / 2
    }

    /// The pipelines run.
    pub(super) fn ready(&mut self, status: &str) {
        self.next_report_micros = 0;
        self.tell(&[NotifyState::Ready, NotifyState::Watchdog], status);
    }

    /// The configuration is being read again; [`Supervisor::ready`] follows in any case.
    pub(super) fn reloading(&mut self) {
        // `Type=notify-reload` wants the time with it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now], "reloading"),
            Err(_) => self.tell(&[NotifyState::Reloading], "reloading"),
        }
    }

    /// The process is about to end.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping], "stopping");
    }

    /// What is to be said beside the status from now on.
    pub(super) fn note(&mut self, note: Option<String>) {
        self.note = note;
        self.next_report_micros = 0;
    }

    /// When the next report is due, in steady microseconds.
    pub(super) const fn due(&self) -> u64 {
        self.next_report_micros
    }

    /// Sends the status, and a sign of life if everything moves.
    pub(super) fn report(&mut self, now_micros: u64, status: &str, moves: bool) {
        let interval = self.watchdog.map_or(REPORT_INTERVAL, |watchdog| {
            (watchdog / 4).clamp(Duration::from_millis(50), REPORT_INTERVAL)
        });
        self.next_report_micros = now_micros + interval.as_micros() as u64;
        self.tell(if moves { &[NotifyState::Watchdog] } else { &[] }, status);
    }

    fn tell(&self, states: &[NotifyState<'_>], status: &str) {
        let status = match &self.note {
            Some(note) => format!("{note}; {status}"),
            None => status.to_owned(),
        };
        // One line: the rest would be read as further assignments.
        let status = status.replace('\n', " ");
        let mut all = states.to_vec();
        all.push(NotifyState::Status(&status));
        if let Err(error) = notify(&all) {
            debug!(%error, "the service manager cannot be told");
        }
    }
}

/// A counter that has to move while there is work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    seen: u64,
    since_micros: u64,
}

impl Watch {
    /// For how long the counter has stood at `count` while `busy`; not being busy counts as moving.
    pub(super) fn still_for(&mut self, count: u64, busy: bool, now_micros: u64) -> Duration {
        if count != self.seen || !busy {
            *self = Self {
                seen: count,
                since_micros: now_micros,
            };
        }
        Duration::from_micros(now_micros.saturating_sub(self.since_micros))
    }

    /// The same of a task that always has work, whose count is `None` once it has ended.
    pub(super) fn of_task(&mut self, turns: Option<u64>, now_micros: u64) -> Option<Duration> {
        Some(self.still_for(turns?, true, now_micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_work_is_not_stuck() {
        let mut watch = Watch::default();
        assert_eq!(watch.still_for(1, true, 5_000_000).as_secs(), 0);
        assert_eq!(watch.still_for(1, true, 9_000_000).as_secs(), 4);
        assert_eq!(watch.still_for(2, true, 9_000_000).as_secs(), 0);
        assert_eq!(watch.still_for(2, false, 60_000_000).as_secs(), 0);
        assert_eq!(watch.still_for(2, true, 61_000_000).as_secs(), 1);
    }
}
