//! When an epoch is to be committed.
//!
//! A commit costs flash, so it waits for the interval; but acknowledgements wait for the commit, and a broker
//! stops sending when its in-flight window is full of unacknowledged publishes. So a commit is due
//! - when the window that was advertised is full;
//! - when the broker has stalled: unacknowledged publishes are out and nothing has come for much longer than the
//!   publishes before it were apart. The broker's own window (mosquitto: 20 unless configured) is not told to
//!   clients; what it stalls at again and again is learnt, and the next time there is nothing to wait for;
//! - when the interval has passed since the first uncommitted change.
//!
//! Pure: time is an argument, in microseconds of a clock that never jumps.

/// Confirmed stalls at the same count before that count is taken for the broker's window.
const STALLS_TO_LEARN: u32 = 2;
/// A pause shorter than this is not a stall.
const LEAST_STALL_MICROS: u64 = 5_000;
/// A stall is this many times the mean gap between publishes.
const STALL_GAPS: u64 = 8;
/// A broker that was held up by its window sends the next publish this soon after our acknowledgements.
const CONFIRM_MICROS: u64 = 20_000;
/// A pause that was no stall makes us wait for the interval for 1, 2, 4 … up to this many commits.
const MOST_PATIENCE: u32 = 256;
/// Every so many commits the learnt window is put to the test again.
const PROBE_EVERY: u32 = 64;

/// The decision when to commit, for one connection's in-flight window and one interval.
#[derive(Debug)]
pub struct Pacer {
    interval_micros: u64,
    /// Publishes a broker may send without an acknowledgement, as advertised.
    window: usize,
    /// What the broker's own window seems to be.
    learned: Option<usize>,
    stalled_at: usize,
    stalls: u32,
    /// The count at which the last commit took a pause for a stall, until what follows shows whether it was one.
    suspected: Option<usize>,
    /// When everything was acknowledged after it.
    acknowledged_at: Option<u64>,
    /// How long the next wrong guess makes us wait, and how much of that is left, in commits.
    patience: u32,
    waits: u32,
    commits: u32,
    unacknowledged: usize,
    last_arrival: Option<u64>,
    /// Mean gap between arrivals, microseconds.
    mean_gap: u64,
    first_change: Option<u64>,
}

impl Pacer {
    /// A pacer for a window of `window` publishes.
    pub const fn new(window: usize, interval_micros: u64) -> Self {
        Self {
            interval_micros,
            window,
            learned: None,
            stalled_at: 0,
            stalls: 0,
            suspected: None,
            acknowledged_at: None,
            patience: 1,
            waits: 0,
            commits: 0,
            unacknowledged: 0,
            last_arrival: None,
            mean_gap: 0,
            first_change: None,
        }
    }

    /// A publish that is to be acknowledged after a commit has come.
    pub fn arrived(&mut self, now: u64) {
        self.judge_stall(now);
        if let Some(last) = self.last_arrival {
            let gap = now.saturating_sub(last);
            // An exponential mean over about eight gaps. A gap in which the broker could not send says nothing.
            if self.unacknowledged > 0 {
                self.mean_gap = match self.mean_gap {
                    0 => gap,
                    mean => mean - mean / 8 + gap / 8,
                };
            }
        }
        self.last_arrival = Some(now);
        self.unacknowledged += 1;
        if self
            .learned
            .is_some_and(|window| self.unacknowledged > window)
        {
            self.learned = None;
            self.stalls = 0;
        }
        self.changed(now);
    }

    /// The first publish after a suspected stall shows whether it was one: a broker that waited for our
    /// acknowledgements sends at once; a device that was silent for its own reasons does not.
    fn judge_stall(&mut self, now: u64) {
        let (Some(count), Some(acknowledged)) = (self.suspected, self.acknowledged_at) else {
            return;
        };
        self.suspected = None;
        self.acknowledged_at = None;
        if now.saturating_sub(acknowledged) > CONFIRM_MICROS {
            self.waits = self.patience;
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
            self.stalls = 0;
            return;
        }
        self.patience = 1;
        if self.stalled_at == count {
            self.stalls += 1;
        } else {
            self.stalled_at = count;
            self.stalls = 1;
        }
        if self.stalls >= STALLS_TO_LEARN {
            self.learned = Some(count);
        }
    }

    /// The count at which the window is taken to be full.
    fn limit(&self) -> usize {
        let probing = self.commits % PROBE_EVERY == PROBE_EVERY - 1;
        let learned = self.learned.filter(|_| !probing);
        learned.map_or(self.window, |learned| learned.min(self.window))
    }

    /// Something else is to be committed.
    pub fn changed(&mut self, now: u64) {
        self.first_change.get_or_insert(now);
    }

    /// `count` publishes have been acknowledged.
    pub fn acknowledged(&mut self, count: usize, now: u64) {
        self.unacknowledged = self.unacknowledged.saturating_sub(count);
        if self.unacknowledged == 0 {
            self.acknowledged_at = Some(now);
        }
    }

    /// The connection is gone, and with it all that was in flight.
    pub fn disconnected(&mut self) {
        self.unacknowledged = 0;
        self.learned = None;
        self.stalls = 0;
        self.suspected = None;
    }

    /// An epoch has been sealed; what comes now belongs to the next.
    pub fn sealed(&mut self) {
        self.first_change = None;
    }

    /// When the next commit is due: now or earlier for at once, `None` for when something changes.
    pub fn due(&self) -> Option<u64> {
        let first = self.first_change?;
        if self.unacknowledged >= self.limit() {
            return Some(0);
        }
        let interval = first.saturating_add(self.interval_micros);
        match self.last_arrival {
            Some(last) if self.unacknowledged > 1 && self.waits == 0 => {
                let pause = (self.mean_gap * STALL_GAPS).max(LEAST_STALL_MICROS);
                Some(interval.min(last.saturating_add(pause)))
            }
            _ => Some(interval),
        }
    }

    /// Notes that a commit begins, to learn from what it was due.
    pub fn commit_begins(&mut self, now: u64) {
        self.commits = self.commits.wrapping_add(1);
        let interval_over = self
            .first_change
            .is_some_and(|first| now >= first.saturating_add(self.interval_micros));
        if interval_over {
            self.waits = self.waits.saturating_sub(1);
        }
        self.acknowledged_at = None;
        let paused =
            !interval_over && self.unacknowledged > 1 && self.unacknowledged < self.limit();
        self.suspected = paused.then_some(self.unacknowledged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn waits_for_the_interval_when_events_trickle() {
        let mut pacer = Pacer::new(100, SECOND);
        assert_eq!(pacer.due(), None);
        pacer.arrived(10);
        assert_eq!(pacer.due(), Some(10 + SECOND));
        for n in 1..10 {
            pacer.arrived(10 + n * 90_000);
            assert!(
                pacer.due().unwrap() > 10 + (n + 1) * 90_000,
                "a steady stream is no stall"
            );
        }
    }

    #[test]
    fn a_full_window_commits_at_once() {
        let mut pacer = Pacer::new(3, SECOND);
        (0..3).for_each(|n| pacer.arrived(n));
        assert_eq!(pacer.due(), Some(0));
        pacer.commit_begins(3);
        pacer.sealed();
        assert_eq!(pacer.due(), None, "all of it is being committed");
        pacer.acknowledged(3, 3);
        pacer.arrived(4);
        assert_eq!(pacer.due(), Some(4 + SECOND));
    }

    #[test]
    fn a_device_that_pauses_is_not_taken_for_a_broker_that_stalls() {
        // Two readings at once every 100 ms. A commit after each pair would be ten times what the interval promises.
        let mut pacer = Pacer::new(100, SECOND);
        let (mut now, mut commits) = (0, 0);
        for _ in 0..600 {
            pacer.arrived(now);
            pacer.arrived(now + 100);
            let next = now + 100_000;
            while let Some(due) = pacer.due().filter(|due| *due < next) {
                now = due.max(now + 100);
                pacer.commit_begins(now);
                pacer.sealed();
                pacer.acknowledged(100, now + 2_000);
                commits += 1;
            }
            now = next;
        }
        assert!(commits < 80, "{commits} commits in a minute");
    }

    #[test]
    fn the_window_of_a_broker_that_stalls_is_learnt() {
        let mut pacer = Pacer::new(100, SECOND);
        let mut now = 0;
        for round in 0..3 {
            for _ in 0..20 {
                now += 50;
                pacer.arrived(now);
            }
            let due = pacer.due().unwrap();
            if round < 2 {
                assert_eq!(due, now + LEAST_STALL_MICROS);
            } else {
                assert_eq!(due, 0, "learnt");
            }
            now = now.max(due);
            pacer.commit_begins(now);
            pacer.sealed();
            now += 3_000;
            pacer.acknowledged(20, now);
        }
        (0..21).for_each(|n| pacer.arrived(now + n));
        assert_ne!(
            pacer.due(),
            Some(0),
            "the broker's window is larger than it seemed"
        );
    }
}
