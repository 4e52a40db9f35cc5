//! What is written to flash: the present rate, and whether it is within a day's budget.
//!
//! The budget is an allowance that grows with time and that commits spend. What a quiet time has not spent is kept for
//! an hour's worth at most, so that a busy minute is not held up, and a busy day is. When it is used up it has room again
//! as soon as what was written is paid for: what waits for that is the driver's to decide; nothing is refused here.
//!
//! Pure: time is an argument, in microseconds of a clock that never jumps.

/// The least that a commit writes: four pages and the header twice, however little has changed.
pub const COMMIT_BYTES: u64 = 24_576;

/// What a commit with some rows writes.
const ROWS_COMMIT_BYTES: f64 = 28_672.0;

const DAY_SECONDS: f64 = 86_400.0;
/// The rate is that of about so many seconds.
const MEMORY_SECONDS: f64 = 600.0;
/// Nothing is said of the rate before.
const LEAST_SECONDS: f64 = 60.0;

/// Bytes written, seen over time.
#[derive(Clone, Debug)]
pub struct Flash {
    started: u64,
    /// When `recent` and `allowance` were true.
    at: u64,
    /// Bytes written, those of long ago counting less.
    recent: f64,
    /// Bytes a second; `None` if there is no budget.
    budget: Option<f64>,
    /// What may be written now; negative when the budget is used up.
    allowance: f64,
    /// What a commit writes of late; a single great one says little about it.
    usual: f64,
}

impl Flash {
    /// Nothing written yet; the budget in bytes a day.
    pub fn new(budget_bytes_per_day: Option<u64>, now: u64) -> Self {
        let budget = budget_bytes_per_day.map(|bytes| bytes as f64 / DAY_SECONDS);
        Self {
            started: now,
            at: now,
            recent: 0.0,
            budget,
            allowance: budget.map_or(0.0, most_saved),
            usual: ROWS_COMMIT_BYTES,
        }
    }

    /// A commit has written so much.
    pub fn wrote(&mut self, bytes: u64, now: u64) {
        let passed = seconds(self.at, now);
        self.at = self.at.max(now);
        self.usual += ((bytes as f64).min(2.0 * self.usual) - self.usual) / 20.0;
        self.recent = self.recent * (-passed / MEMORY_SECONDS).exp() + bytes as f64;
        if let Some(budget) = self.budget {
            let grown = self.allowance + budget * passed;
            // What is owed is bounded too: one great fold must not slow a whole day.
            let least = -most_saved(budget);
            self.allowance = (grown.min(most_saved(budget)) - bytes as f64).max(least);
        }
    }

    /// What a day writes at the rate of the last minutes; `None` in the first one.
    pub fn bytes_per_day(&self, now: u64) -> Option<u64> {
        let age = seconds(self.started, now);
        if age < LEAST_SECONDS {
            return None;
        }
        let recent = self.recent * (-seconds(self.at, now) / MEMORY_SECONDS).exp();
        let weight = MEMORY_SECONDS * (1.0 - (-age / MEMORY_SECONDS).exp());
        Some((recent / weight * DAY_SECONDS) as u64)
    }

    /// From when on a commit is within the budget: what was written is paid for. What is owed beyond that, after a flood,
    /// is paid by commits that are twice as far apart, not by one long wait.
    pub fn room_at(&self) -> u64 {
        match self.budget {
            Some(budget) if self.allowance < 0.0 => {
                let owed = (-self.allowance).min(2.0 * self.usual.max(ROWS_COMMIT_BYTES));
                self.at.saturating_add((owed / budget * 1e6).ceil() as u64)
            }
            _ => self.at,
        }
    }

    /// Whether more was written than the budget allows.
    pub fn is_used_up(&self, now: u64) -> bool {
        self.budget
            .is_some_and(|budget| self.allowance_at(budget, now) < 0.0)
    }

    /// Whether a good part of what may be saved is there again, so that rows do not wait for their share.
    pub fn has_recovered(&self, now: u64) -> bool {
        self.budget
            .is_none_or(|budget| self.allowance_at(budget, now) > most_saved(budget) / 10.0)
    }

    /// What may be written at a time, with what has grown since the last commit.
    fn allowance_at(&self, budget: f64, now: u64) -> f64 {
        self.allowance + budget * seconds(self.at, now)
    }
}

/// What is kept of a quiet time: an hour's worth, or some commits if that is less.
fn most_saved(budget: f64) -> f64 {
    (budget * 3_600.0).max(10.0 * COMMIT_BYTES as f64)
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_rate_is_that_of_a_day() {
        let mut flash = Flash::new(None, 0);
        for second in 1..=3_600 {
            flash.wrote(1_000, second * SECOND);
            if second == 30 {
                assert_eq!(flash.bytes_per_day(second * SECOND), None);
            }
            if second == 90 || second == 3_600 {
                let day = flash.bytes_per_day(second * SECOND).unwrap();
                assert!(day.abs_diff(86_400_000) < 1_000_000, "{day}");
            }
        }
        let later = flash.bytes_per_day(7_200 * SECOND).unwrap();
        assert!(later < 500_000, "an hour without a commit: {later}");
        assert!(!flash.is_used_up(3_600 * SECOND), "there is no budget");
    }

    #[test]
    fn the_budget_bounds_a_day_and_not_a_minute() {
        // 86.4 MB a day: 1 KB a second, and 3.6 MB saved.
        let mut flash = Flash::new(Some(86_400_000), 0);
        let mut written = 0;
        for second in 1..=86_400 {
            if !flash.is_used_up(second * SECOND) {
                flash.wrote(25_000, second * SECOND);
                written += 25_000;
            }
            if second == 100 {
                assert_eq!(written, 2_500_000, "a busy minute goes on");
            }
        }
        assert!(written <= 86_400_000 + 3_600_000 + 25_000, "{written}");
        assert!(written >= 86_400_000, "{written}");
    }

    #[test]
    fn one_great_commit_is_forgiven_within_an_hour() {
        let mut flash = Flash::new(Some(86_400_000), 0);
        flash.wrote(1_000_000_000, SECOND);
        assert!(flash.is_used_up(3_500 * SECOND));
        assert!(!flash.is_used_up(3_700 * SECOND));
        assert!(!flash.has_recovered(3_700 * SECOND));
        assert!(flash.has_recovered(4_000 * SECOND));
    }

    #[test]
    fn a_commit_that_waits_for_its_room_waits_no_longer() {
        let mut flash = Flash::new(Some(86_400_000), 0);
        flash.wrote(3_600_000 + 20_000, 0);
        assert_eq!(flash.room_at(), 20 * SECOND);
        assert!(flash.is_used_up(20 * SECOND - 1));
        assert!(!flash.is_used_up(20 * SECOND));
        flash.wrote(1_000_000_000, 20 * SECOND);
        let wait = flash.room_at() - 20 * SECOND;
        assert!(wait < 100 * SECOND, "{wait} after a flood");
    }

    #[test]
    fn commits_that_write_much_wait_for_as_much() {
        for each in [45_000, 500_000] {
            let mut flash = Flash::new(Some(1_000_000_000), 0);
            let (mut now, mut written) = (0, 0);
            while now < 2 * 86_400 * SECOND {
                now = flash.room_at().max(now + SECOND).min(now + 60 * SECOND);
                flash.wrote(each, now);
                written += if now > 86_400 * SECOND { each } else { 0 };
            }
            assert!(written < 1_010_000_000, "{written} of {each} each");
        }
    }
}
