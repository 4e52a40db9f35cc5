//! The only place where a clock is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Clock;
use crate::types::EventTime;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose steady time begins now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Clock {
        let micros = |since: Duration| i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        };
        let steady = self.start.elapsed().as_micros();
        Clock {
            wall: EventTime::from_micros(wall),
            steady_micros: u64::try_from(steady).unwrap_or(u64::MAX),
        }
    }

    /// The moment of a steady time, for timers.
    pub fn instant(&self, steady_micros: u64) -> Instant {
        self.start + Duration::from_micros(steady_micros)
    }
}
