//! What time it is where nothing comes: behind a start of the gateway, and for commands to what is silent.
//!
//! A table that has brought nothing since the start, for its idle timeout, is at the time of the start and what has passed
//! since on the clock that never jumps. Its watermark is not moved by that: what devices have kept may come yet, and is
//! not late.
//!
//! Deliberately absent: silence behind what keeps rows back (windows, joins, patterns, OVER), which may have rows to give
//! that have come before; there it is told by the watermark.

use super::{Clock, Engine};
use crate::plan::{NodeId, Operator, Plan};
use crate::types::{EventTime, Timeline, Timespan};

/// A wall clock that has parted from the one that never jumps by more than this has been set.
const CLOCK_SET: Timespan = Timespan::from_secs(60);

/// How often silence is looked at.
const LOOK_MICROS: u64 = 1_000_000;

/// What is known of silence.
#[derive(Debug)]
pub(super) struct Silence {
    /// The nodes that raise alarms.
    alarms: Vec<NodeId>,
    /// By source: whether its rows are commands to them.
    commands: Vec<bool>,
    /// When the gateway was started.
    start: Option<Clock>,
    looked_at: u64,
}

impl Silence {
    pub(super) fn new(plan: &Plan) -> Self {
        let nodes = plan.nodes.iter().enumerate();
        let alarms = nodes.filter(|(_, node)| matches!(node.operator, Operator::Alarms(_)));
        let alarms: Vec<NodeId> = alarms.map(|(at, _)| NodeId(at)).collect();
        let mut commands = vec![false; plan.sources.len()];
        for source in alarms.iter().flat_map(|at| plan.command_sources(at.0)) {
            commands[source.0] = true;
        }
        Self {
            alarms,
            commands,
            start: None,
            looked_at: 0,
        }
    }
}

/// When a table is that has brought nothing since the start of the gateway; `None` if nobody has told that.
pub(super) fn unheard_for(start: Option<Clock>, steady_micros: u64) -> Option<EventTime> {
    let start = start?;
    Some(start.wall.plus(passed(start, steady_micros)))
}

fn passed(start: Clock, steady_micros: u64) -> Timespan {
    let passed = steady_micros.saturating_sub(start.steady_micros);
    Timespan::from_micros(i64::try_from(passed).unwrap_or(i64::MAX))
}

impl Engine {
    /// The gateway was started at this time; told once, after what was stored has been taken over. Nothing else in here
    /// knows of a restart.
    pub fn started(&mut self, clock: Clock) {
        // A clock that is set is believed, wherever it once stood: had it been wrong by years for a moment, the last committed
        // time would keep silence from being told for as long.
        let wall = if Clock::is_unset(clock.wall) {
            self.now(clock)
        } else {
            clock.wall
        };
        let start = Clock { wall, ..clock };
        self.silence.start = Some(start);
        self.graph.started(start.wall, start.wall);
    }

    /// It is so late. A clock that was wrong at the start, and has been set since, would end the grace after it at once or
    /// never: the start is put right with it.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        self.wall_floor = self.wall_floor.max(clock.wall);
        self.graph.context.now = self.wall_floor;
        self.output.now_micros = self.wall_floor.as_micros();
        let Some(start) = &mut self.silence.start else {
            return;
        };
        let begun = clock.wall.minus(passed(*start, clock.steady_micros));
        let apart = begun.since(start.wall).max(start.wall.since(begun));
        if apart > CLOCK_SET && !Clock::is_unset(clock.wall) {
            start.wall = begun;
            self.graph.started(begun, clock.wall);
        }
    }

    /// A message of a source will be taken: if it is a command, alarms must know what time it is for it.
    pub(super) fn before_message(&mut self, source: usize, steady_micros: u64) {
        if self.silence.commands[source] {
            self.look_at_silence(steady_micros);
        }
    }

    /// It has been taken: what a command has set may be due on keys that are silent, which nobody looks at otherwise.
    pub(super) fn after_message(&mut self, source: usize, steady_micros: u64) {
        if self.silence.commands[source] {
            for keys in self.sources.iter_mut().filter_map(|s| s.keys.as_mut()) {
                keys.look_again(steady_micros);
            }
        }
    }

    /// Lets silence be told that the clock has reached, at most once a second.
    pub(super) fn tick_silence(&mut self, steady_micros: u64) {
        let due = self.silence.looked_at.saturating_add(LOOK_MICROS);
        if self.silence.start.is_some() && due <= steady_micros {
            self.look_at_silence(steady_micros);
        }
    }

    /// Tells all alarms what time it is where nothing comes.
    pub(super) fn look_at_silence(&mut self, steady_micros: u64) {
        self.silence.looked_at = steady_micros;
        for alarm in 0..self.silence.alarms.len() {
            let node = self.silence.alarms[alarm];
            let Some(input) = self.plan.nodes[node.0].inputs.first().copied() else {
                continue;
            };
            let lines = (0..self.timelines.count()).map(|line| Timeline(line as u32));
            let present: Vec<EventTime> = lines
                .map(|line| {
                    let present = self.present(input, Some(line), steady_micros);
                    present.unwrap_or(EventTime::MIN)
                })
                .collect();
            let mut exit = self.output.during(&self.plan, None, 0);
            self.graph.silent(node.0, &present, &mut exit);
        }
    }

    /// What time it is behind a node on a line, or for all of them, if nothing comes by it.
    fn present(&self, at: NodeId, line: Option<Timeline>, steady_micros: u64) -> Option<EventTime> {
        let node = &self.plan.nodes[at.0];
        let line = match &node.operator {
            Operator::Source(source) => {
                let source = &self.sources[source.0];
                return source.present(line, self.silence.start, steady_micros);
            }
            Operator::LateRows => return None,
            // On the lines of keys there is nothing behind it.
            Operator::SharedTime => match line {
                Some(Timeline::SHARED) | None => None,
                Some(_) => return None,
            },
            operator if operator.has_state() => return None,
            _ => line,
        };
        let inputs = node.inputs.iter();
        let presents = inputs.map(|input| self.present(*input, line, steady_micros));
        presents.min().flatten()
    }

    /// When silence is to be looked at again, on the clock that never jumps.
    pub(super) fn silence_at(&self) -> Option<u64> {
        let look = self.silence.start.is_some()
            && !self.silence.alarms.is_empty()
            && self.sources.iter().any(super::source::Source::is_unheard);
        look.then(|| self.silence.looked_at.saturating_add(LOOK_MICROS))
    }
}
