//! Whether everything moves, how much memory it takes, and what is said about it: to the log when it changes, to the
//! service manager every few seconds.
//!
//! What waits is not stuck: a broker that is away, an outbox that is full and blocks, a full disk and the memory budget
//! stop the input and are said, and a new start would help none of them. Stuck is a commit that neither ends nor is tried
//! again, and a connection whose task does nothing for longer than a silent broker explains. That the loop itself turns is
//! shown by its being here.

use std::fmt::Write as _;
use std::time::Duration;

use tracing::{error, info, warn};

use super::{Deployment, Driver, Supervisor, Usage};
use crate::engine::Clock;
use crate::runtime::memory::Turn;

/// Between two looks at the memory.
pub(super) const MEASURE_INTERVAL_MICROS: u64 = 20_000;
/// A clock that is this far behind what it once said has jumped; a correction by NTP is smaller.
const CLOCK_BEHIND_MICROS: i64 = 60_000_000;

impl Driver {
    /// Looks at the memory and the clock, and says what has changed.
    pub(super) fn measure(&mut self, now: Clock) {
        if now.steady_micros < self.measured_at + MEASURE_INTERVAL_MICROS {
            return;
        }
        self.measured_at = now.steady_micros;
        self.usage = Usage::measure();
        self.say_budget(now.steady_micros);
        match self.budget.look(self.usage) {
            Some(Turn::Reached) => error!(
                resident_bytes = self.usage.resident_bytes,
                allocated_bytes = self.usage.allocated_bytes,
                limit_bytes = self.budget.limit_bytes(),
                keys = self.engine.keys(),
                "MEMORY BUDGET reached: no input is taken until windows close or the outbox empties (QoS 1 waits at the \
                 broker, QoS 0 beyond limits.qos0_queue is dropped and counted); raise limits.memory or lower \
                 limits.max_keys"
            ),
            Some(Turn::Left) => info!(
                resident_bytes = self.usage.resident_bytes,
                allocated_bytes = self.usage.allocated_bytes,
                "the memory budget has room again; going on"
            ),
            None => {}
        }
        let doubt = self.clock_doubt(now);
        if doubt.is_some() != self.clock_doubted {
            self.clock_doubted = doubt.is_some();
            match doubt {
                Some(doubt) => warn!(
                    "{doubt}; event time goes on from the data, times of arrival and idle timeouts wait for the clock"
                ),
                None => info!("the clock looks right again"),
            }
        }
    }

    /// What is wrong with the wall clock, if something visibly is.
    fn clock_doubt(&self, now: Clock) -> Option<String> {
        if Clock::is_unset(now.wall) {
            return Some(format!("the clock is not set (it says {})", now.wall));
        }
        let floor = self.engine.wall_floor().as_micros();
        let behind = floor.saturating_sub(now.wall.as_micros());
        (behind > CLOCK_BEHIND_MICROS).then(|| {
            format!(
                "the clock went back by {} s (it says {})",
                behind / 1_000_000,
                now.wall
            )
        })
    }

    /// Whether nothing has stood still for longer than `patience` that should move; says what has.
    pub(super) fn moves(&mut self, now: Clock, patience: Duration) -> bool {
        let steady = now.steady_micros;
        let busy = self.committing.is_some();
        let commit = self
            .store_watch
            .still_for(self.committer.turns(), busy, steady);
        let mut stuck = String::new();
        if commit > patience {
            let _ = write!(stuck, "a commit for {} s; ", commit.as_secs());
        }
        for line in &mut self.sources {
            let name = &self.settings.connections[line.connection].name;
            let still = line.watch.of_task(line.handle.turns(), steady);
            let longest = line.handle.longest_turn().max(patience);
            stuck += &stuck_task("connection", name, still, longest);
        }
        for (at, forwarding) in self.forwards.iter_mut().enumerate() {
            let Some(forwarding) = forwarding else {
                continue;
            };
            let name = &self.settings.connections[at].name;
            let (still, longest) = forwarding.still_for(steady);
            stuck += &stuck_task("upstream connection", name, still, longest.max(patience));
        }
        if !stuck.is_empty() {
            error!(
                "STUCK: {}the service manager is given no more signs of life",
                stuck
            );
        }
        stuck.is_empty()
    }

    /// One line for people: what is wrong, if something is, and what is being done.
    pub(super) fn status(&mut self, now: Clock) -> String {
        let mut line = String::new();
        let mut trouble = |text: &str| {
            line.push_str(text);
            line.push_str("; ");
        };
        if self.budget.is_reached() {
            trouble("memory budget reached, no input is taken");
        }
        if self.stalled {
            trouble("the disk takes no commit, no input is taken");
        }
        if !self.engine.has_room() {
            trouble("outbox full, no input is taken");
        }
        for source in self.sources.iter().filter(|source| source.link.is_none()) {
            let name = &self.settings.connections[source.connection].name;
            trouble(&format!("broker {name} is not reached"));
        }
        for (at, forwarding) in self.forwards.iter().enumerate() {
            if forwarding.as_ref().is_some_and(|it| !it.is_up()) {
                let name = &self.settings.connections[at].name;
                trouble(&format!("upstream {name} is not reached"));
            }
        }
        if let Some(doubt) = self.clock_doubt(now) {
            trouble(&doubt);
        }
        if let Some(budget) = self.flash.overdrawn() {
            let budget = Megabytes(budget);
            trouble(&format!(
                "flash budget of {budget} a day used up, rows wait for it"
            ));
        }
        let (received, made) = self.rates.take(now.steady_micros, &self.engine);
        let (rows, bytes, _) = self.engine.outbox_totals();
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "{received:.1} messages/s in, {made:.1} events/s out, {rows} events ({}) wait for upstream, {} keys, memory \
             {} ({} in use) of {}",
            Megabytes(bytes),
            self.engine.keys(),
            Megabytes(self.usage.resident_bytes),
            Megabytes(self.usage.allocated_bytes),
            Megabytes(self.budget.limit_bytes()),
        );
        if let Some(bytes) = self.flash.bytes_per_day(now.steady_micros) {
            let _ = write!(line, ", {} a day to flash", Megabytes(bytes));
        }
        line
    }

    /// Asks for what is to run from now on; if it cannot be had, everything stays as it is.
    pub(super) fn reload(
        &self,
        supervisor: &mut Supervisor,
        load: &mut impl FnMut() -> Result<Deployment, String>,
    ) -> Option<Box<Deployment>> {
        supervisor.reloading();
        let refused = if self.stalled {
            "the disk takes no commit; free some space and reload again".to_owned()
        } else {
            match load() {
                Ok(next) if next.settings.state_dir != self.settings.state_dir => {
                    "state.dir cannot change on a reload; restart headwater".to_owned()
                }
                Ok(next) => {
                    info!("reloading");
                    return Some(Box::new(next));
                }
                Err(why) => why,
            }
        };
        error!("reload refused, the pipelines of before go on: {refused}");
        supervisor.note(Some(format!("reload refused: {refused}")));
        supervisor.ready("the pipelines of before go on");
        None
    }
}

/// What is to be said of a connection's task that has done nothing for so long, or has ended.
fn stuck_task(what: &str, name: &str, still: Option<Duration>, longest: Duration) -> String {
    match still {
        None => format!("the task of {what} {name}, which has ended; "),
        Some(still) if still > longest => format!("{what} {name} for {} s; ", still.as_secs()),
        Some(_) => String::new(),
    }
}

/// Bytes as people read them.
#[derive(Clone, Copy)]
pub(super) struct Megabytes(pub(super) u64);

impl std::fmt::Display for Megabytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let megabytes = self.0 as f64 / 1e6;
        if megabytes < 10.0 {
            write!(f, "{megabytes:.1} MB")
        } else {
            write!(f, "{megabytes:.0} MB")
        }
    }
}
