//! When an epoch is to be committed.
//!
//! A commit costs flash, so it waits for as long as it can; but acknowledgements wait for the commit, and a broker
//! stops sending when its in-flight window is full of unacknowledged publishes, while its queue fills and overflows. So a
//! commit is due
//! - when the window that was advertised is full;
//! - when the broker has stalled: unacknowledged publishes are out and nothing has come for much longer than the
//!   publishes before it were apart. The broker's own window (mosquitto: 20 unless configured) is not told to
//!   clients; what it stalls at again and again is learnt, and the next time there is nothing to wait for. Where pauses
//!   turned out to be the devices' own they are believed to be a stall only after the commit interval;
//! - when the quiet interval has passed since the first uncommitted publish. It can be long: what a publish has changed
//!   the broker would send again. Rows that were derived from it are waited for, and do not wait that long
//!   (`driver::pace`).
//!
//! Pure: time is an argument, in microseconds of a clock that never jumps.

use heapless::HistoryBuf;

/// Confirmed stalls at the same count before that count is taken for the broker's window.
const STALLS_TO_LEARN: u32 = 2;
/// A pause shorter than this is not a stall.
const LEAST_STALL_MICROS: u64 = 5_000;
/// A stall is this many times the usual gap between publishes.
const STALL_GAPS: u64 = 8;
/// What is usual is the median of so many gaps: a burst is not taken for the trickle before it.
const USUAL_GAPS: usize = 8;
/// A broker that was held up by its window sends the next publish this soon after our acknowledgements.
const CONFIRM_MICROS: u64 = 20_000;
/// After a pause that was no stall we are patient for 1, 2, 4 … up to this many commits.
const MOST_PATIENCE: u32 = 256;
/// Every so many commits the learnt window is put to the test again.
const PROBE_EVERY: u32 = 64;

/// The decision when to commit, for one connection's in-flight window.
#[derive(Debug)]
pub struct Pacer {
    interval_micros: u64,
    quiet_micros: u64,
    /// Publishes a broker may send without an acknowledgement, as advertised.
    window: usize,
    /// What the broker's own window seems to be.
    learned: Option<usize>,
    stalled_at: usize,
    stalls: u32,
    /// What the last commit made of a silent broker, until what follows shows whether it had stalled.
    suspected: Option<Suspicion>,
    /// When everything was acknowledged after it.
    acknowledged_at: Option<u64>,
    /// How long the next wrong guess makes us patient, and how much of that is left, in commits.
    patience: u32,
    waits: u32,
    commits: u32,
    unacknowledged: usize,
    last_arrival: Option<u64>,
    /// The last gaps between arrivals, microseconds, and their median.
    gaps: HistoryBuf<u64, USUAL_GAPS>,
    usual_gap: u64,
    first_change: Option<u64>,
}

/// That a broker has stalled.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// How many publishes were unacknowledged.
    count: usize,
    /// Whether the commit was made for the pause alone.
    guessed: bool,
    /// Whether the learnt window was being put to the test.
    probed: bool,
}

impl Pacer {
    /// A pacer for a window of `window` publishes. After the commit interval a pause is taken for a stall; the quiet
    /// interval is the longest that publishes wait.
    pub const fn new(window: usize, interval_micros: u64, quiet_micros: u64) -> Self {
        Self {
            interval_micros,
            quiet_micros,
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
            gaps: HistoryBuf::new(),
            usual_gap: 0,
            first_change: None,
        }
    }

    /// A publish that is to be acknowledged after a commit has come.
    pub fn arrived(&mut self, now: u64) {
        // Of a gap in which the broker could not send only that counts in which it could.
        let could_send = match self.acknowledged_at {
            Some(at) if self.unacknowledged == 0 && now.saturating_sub(at) <= CONFIRM_MICROS => {
                Some(at)
            }
            _ => self.last_arrival,
        };
        if let Some(since) = could_send {
            self.note_gap(now.saturating_sub(since));
        }
        self.judge_stall(now);
        self.last_arrival = Some(now);
        self.unacknowledged += 1;
        if self
            .learned
            .is_some_and(|window| self.unacknowledged > window)
        {
            self.learned = None;
            self.stalls = 0;
        }
        self.first_change.get_or_insert(now);
    }

    fn note_gap(&mut self, gap: u64) {
        self.gaps.write(gap);
        let mut sorted: heapless::Vec<u64, USUAL_GAPS> = self.gaps.iter().copied().collect();
        sorted.sort_unstable();
        self.usual_gap = sorted[(sorted.len() - 1) / 2];
    }

    /// The first publish after a suspected stall shows whether it was one: a broker that waited for our
    /// acknowledgements sends at once; a device that was silent for its own reasons does not.
    fn judge_stall(&mut self, now: u64) {
        let (Some(suspicion), Some(acknowledged)) = (self.suspected, self.acknowledged_at) else {
            return;
        };
        let count = suspicion.count;
        self.suspected = None;
        self.acknowledged_at = None;
        if now.saturating_sub(acknowledged) > CONFIRM_MICROS {
            if suspicion.guessed {
                self.waits = self.patience;
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
            }
            self.stalls = 0;
            if suspicion.probed {
                self.learned = None;
            }
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

    /// The broker's own window, if it is smaller than what was advertised and has shown itself.
    pub fn learned(&self) -> Option<usize> {
        self.learned.filter(|learned| *learned < self.window)
    }

    /// Whether the learnt window is being put to the test.
    const fn probing(&self) -> bool {
        self.commits % PROBE_EVERY == PROBE_EVERY - 1
    }

    /// The count at which the window is taken to be full.
    fn limit(&self) -> usize {
        let learned = self.learned.filter(|_| !self.probing());
        learned.map_or(self.window, |learned| learned.min(self.window))
    }

    /// `count` publishes have been acknowledged.
    pub fn acknowledged(&mut self, count: usize, now: u64) {
        self.unacknowledged = self.unacknowledged.saturating_sub(count);
        if self.unacknowledged == 0 {
            self.acknowledged_at = Some(now);
        }
    }

    /// The connection is gone, and with it all that was in flight and what was known of its broker.
    pub const fn disconnected(&mut self) {
        self.unacknowledged = 0;
        self.learned = None;
        self.stalls = 0;
        self.suspected = None;
        self.patience = 1;
        self.waits = 0;
    }

    /// An epoch has been sealed; what comes now belongs to the next.
    pub const fn sealed(&mut self) {
        self.first_change = None;
    }

    /// When the next commit is due: now or earlier for at once, `None` for when something arrives.
    pub fn due(&self) -> Option<u64> {
        let first = self.first_change?;
        if self.unacknowledged >= self.limit() {
            return Some(0);
        }
        let quiet = first.saturating_add(self.quiet_micros);
        Some(self.stalled_from().map_or(quiet, |stall| stall.min(quiet)))
    }

    /// From when on silence is a stall, if a publish waits for its acknowledgement.
    fn stalled_from(&self) -> Option<u64> {
        let last = self.last_arrival.filter(|_| self.unacknowledged > 0)?;
        // One publish alone has no gaps to compare with.
        let least = if self.waits > 0 || self.unacknowledged == 1 {
            self.interval_micros
        } else {
            LEAST_STALL_MICROS
        };
        Some(last.saturating_add(self.usual_gap.saturating_mul(STALL_GAPS).max(least)))
    }

    /// Notes that a commit begins, to learn from what it was due.
    pub fn commit_begins(&mut self, now: u64) {
        let below = self.unacknowledged > 0 && self.unacknowledged < self.limit();
        let stalled = self.stalled_from().is_some_and(|from| now >= from);
        let quiet_over = self
            .first_change
            .is_some_and(|first| now >= first.saturating_add(self.quiet_micros));
        if below {
            self.waits = self.waits.saturating_sub(1);
        }
        self.acknowledged_at = None;
        self.suspected = (below && (stalled || quiet_over)).then_some(Suspicion {
            count: self.unacknowledged,
            guessed: !quiet_over,
            probed: self.probing(),
        });
        self.commits = self.commits.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    const SECOND: u64 = 1_000_000;
    /// What it holds for a client unless told otherwise; more is lost.
    const MOSQUITTOS_QUEUE: usize = 1_000;

    fn pacer(window: usize) -> Pacer {
        Pacer::new(window, SECOND, 30 * SECOND)
    }

    #[test]
    fn waits_for_the_quiet_interval_when_events_trickle() {
        let mut pacer = pacer(100);
        assert_eq!(pacer.due(), None);
        for n in 0..10 {
            pacer.arrived(n * 900_000);
        }
        let due = pacer.due().unwrap();
        assert!(due > 9 * 900_000 + 7 * SECOND, "a steady stream: {due}");
        for n in 10..30 {
            pacer.arrived(n * 900_000);
        }
        assert_eq!(pacer.due(), Some(30 * SECOND));
    }

    #[test]
    fn a_full_window_commits_at_once() {
        let mut pacer = pacer(3);
        (0..3).for_each(|n| pacer.arrived(n));
        assert_eq!(pacer.due(), Some(0));
        pacer.commit_begins(3);
        pacer.sealed();
        assert_eq!(pacer.due(), None, "all of it is being committed");
        pacer.acknowledged(3, 3);
        pacer.arrived(4 + CONFIRM_MICROS);
        assert!(pacer.due().unwrap() > SECOND);
    }

    #[test]
    fn a_device_that_pauses_is_not_taken_for_a_broker_that_stalls() {
        // Two readings at once every 100 ms. A commit after each pair would be ten times what the interval promises.
        let mut pacer = pacer(100);
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
        assert!(commits < 40, "{commits} commits in a minute");
    }

    #[test]
    fn the_window_of_a_broker_that_stalls_is_learnt() {
        let mut pacer = pacer(100);
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
        assert_eq!(pacer.learned(), Some(20));
        (0..21).for_each(|n| pacer.arrived(now + n));
        assert_ne!(
            pacer.due(),
            Some(0),
            "the broker's window is larger than it seemed"
        );
    }

    #[test]
    fn a_publish_that_follows_an_acknowledgement_by_chance_makes_no_window_of_one() {
        let mut pacer = pacer(100);
        pacer.arrived(0);
        assert_eq!(pacer.due(), Some(SECOND));
        pacer.commit_begins(SECOND);
        pacer.sealed();
        pacer.acknowledged(1, SECOND + 3_000);
        pacer.arrived(SECOND + 10_000);
        assert_eq!(pacer.learned(), None);
        assert_ne!(pacer.due(), Some(0), "a commit for each message");
    }

    /// A broker with a window, and devices that report at random, for an hour, whose second half has a rate of its own:
    /// commits, and the longest queue.
    fn hour(seed: u64, per_second: [f64; 2], window: usize) -> (usize, usize) {
        const STEP: u64 = 1_000;
        const COMMIT_MICROS: u64 = 20_000;
        let mut random = Rng::with_seed(seed);
        let mut pause = move |now: u64| {
            let per_second = per_second[usize::from(now > 1_800 * SECOND)];
            (-random.f64().max(1e-12).ln() / per_second * SECOND as f64) as u64
        };
        let mut pacer = pacer(500);
        let (mut queue, mut out, mut unsealed) = (0, 0, 0);
        let (mut commits, mut longest) = (0, 0);
        let mut committing: Option<(u64, usize)> = None;
        let mut next = pause(0);
        for now in (0..3_600 * SECOND).step_by(STEP as usize) {
            if let Some((_, count)) = committing.take_if(|(done, _)| *done <= now) {
                out -= count;
                pacer.acknowledged(count, now);
            }
            while next <= now {
                queue += 1;
                next += pause(next);
            }
            while queue > 0 && out < window {
                (queue, out, unsealed) = (queue - 1, out + 1, unsealed + 1);
                pacer.arrived(now);
            }
            longest = longest.max(queue);
            if committing.is_none() && pacer.due().is_some_and(|due| due <= now) {
                pacer.commit_begins(now);
                pacer.sealed();
                committing = Some((now + COMMIT_MICROS, std::mem::take(&mut unsealed)));
                commits += 1;
            }
        }
        (commits, longest)
    }

    #[test]
    fn a_broker_with_a_small_window_is_not_kept_waiting_until_its_queue_overflows() {
        for (before, per_second, window) in [
            (17.0, 17.0, 20),
            (50.0, 50.0, 20),
            (100.0, 100.0, 20),
            (300.0, 300.0, 20),
            (0.1, 200.0, 20),
            (0.1, 100.0, 5),
            (5.0, 5.0, 1),
            (17.0, 17.0, 1),
            (0.1, 17.0, 1),
        ] {
            for seed in 0..3 {
                let (_, longest) = hour(seed, [before, per_second], window);
                assert!(
                    longest < MOSQUITTOS_QUEUE,
                    "{per_second}/s, window {window}: {longest}"
                );
            }
        }
    }

    #[test]
    fn commits_are_few_where_the_window_is_not_in_the_way() {
        for per_second in [0.05, 0.3, 1.0, 5.0, 15.0] {
            for seed in 0..3 {
                let (commits, _) = hour(seed, [per_second; 2], 500);
                assert!(
                    commits < 300,
                    "{per_second}/s: {commits} commits in an hour"
                );
            }
        }
    }
}
