//! Engines as a test file needs them: with clocks that are set by hand, and with crashes.
//!
//! Every step is taken twice: by an engine that runs on, and by one that is thrown away after every message, once
//! with the message lost before its commit, and started again from what was committed. Their rows, the ids and the
//! dead letters must be the same. Only as long as no time is waited for: a restart is a sign of life of a silent
//! input, so from then on a crash may rightly make a difference, and none is made any more.

use std::sync::Arc;

use compact_str::CompactString;

use crate::codec::Message;
use crate::engine::{Clock, Engine, EngineOptions, SealedEpoch, StateChange, Stored};
use crate::plan::{Plan, SourceId, TableId};
use crate::state::Packed;
use crate::types::{EventTime, Timespan};

use super::database::Refused;

/// Bytes of deltas after which state is folded into a snapshot: always, and never.
const FOLDS: [u64; 2] = [0, 1 << 30];

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A message arrives.
    Arrival {
        /// The table it is for.
        table: CompactString,
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: String,
    },
    /// A line is added to the file of a table that rows are looked up in.
    TableLine {
        /// The table.
        table: CompactString,
        /// The line.
        line: String,
    },
    /// The wall clock is set.
    SetClock(EventTime),
    /// Time passes on all clocks.
    Wait(Timespan),
    /// The gateway is stopped and started again.
    Restart,
    /// The input ends: every window closes.
    End,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Sink, id and JSON line of each row.
    pub(super) rows: Vec<(usize, String, String)>,
    /// Query or table, reason and detail of each dead letter.
    pub(super) dead: Vec<[String; 3]>,
}

/// A pipeline that is taken through steps, with and without crashes.
pub(super) struct Machine {
    pub(super) plan: Arc<Plan>,
    whole: Life,
    torn: Vec<Life>,
    /// Whether time has been waited for.
    waited: bool,
}

impl Machine {
    /// A pipeline before the first step.
    pub(super) fn new(plan: Arc<Plan>, max_keys: usize, clock: EventTime) -> Self {
        let life = |fold| Life::new(plan.clone(), max_keys, fold, clock);
        Self {
            whole: life(FOLDS[1]),
            torn: FOLDS.map(life).into(),
            waited: false,
            plan,
        }
    }

    /// Takes a step.
    pub(super) fn take(&mut self, step: &Step) {
        self.whole.take(step);
        self.waited |= matches!(step, Step::Wait(_));
        for life in &mut self.torn {
            if !self.waited && !matches!(step, Step::Restart) {
                // Lost before its commit, and so delivered again.
                let mut lost = life.restored();
                life.apply(&mut lost, step);
                life.engine = life.restored();
            }
            life.take(step);
            life.commit();
        }
    }

    /// What came out so far; an error if a crash made a difference, which is a fault of this program.
    pub(super) fn outcome(&mut self) -> Result<&Outcome, Refused> {
        self.whole.commit();
        for (life, fold) in self.torn.iter().zip(FOLDS) {
            if life.outcome != self.whole.outcome {
                return Err(Refused(format!(
                    "crashes change the result (fold {fold}): {:#?}, and without them {:#?}",
                    life.outcome, self.whole.outcome
                )));
            }
        }
        Ok(&self.whole.outcome)
    }
}

/// An engine, its clocks, and what it has stored.
struct Life {
    plan: Arc<Plan>,
    max_keys: usize,
    fold: u64,
    engine: Engine,
    clock: Clock,
    epoch: u64,
    meta: Vec<u8>,
    base: Vec<Packed>,
    deltas: Vec<Vec<u8>>,
    /// The files of the tables.
    files: Vec<Vec<u8>>,
    /// When it was started again last.
    started: Option<Clock>,
    outcome: Outcome,
}

impl Life {
    fn new(plan: Arc<Plan>, max_keys: usize, fold: u64, wall: EventTime) -> Self {
        Self {
            engine: engine(&plan, max_keys, fold),
            files: vec![Vec::new(); plan.tables.len()],
            started: None,
            plan,
            max_keys,
            fold,
            clock: Clock {
                wall,
                steady_micros: 0,
            },
            epoch: 0,
            meta: Vec::new(),
            base: Vec::new(),
            deltas: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::SetClock(wall) => self.clock.wall = *wall,
            Step::Wait(span) => self.wait(*span),
            Step::Restart => {
                self.commit();
                self.started = Some(Clock {
                    wall: self.engine.now(self.clock),
                    ..self.clock
                });
                self.engine = self.restored();
            }
            Step::TableLine { table, line } => {
                for (at, known) in self.plan.tables.iter().enumerate() {
                    if known.name == *table {
                        self.files[at].extend_from_slice(line.as_bytes());
                        self.files[at].push(b'\n');
                    }
                }
                load(&mut self.engine, &self.files);
            }
            Step::Arrival { .. } | Step::End => {
                let mut engine = std::mem::replace(&mut self.engine, engine(&self.plan, 0, 0));
                self.apply(&mut engine, step);
                self.engine = engine;
            }
        }
    }

    fn apply(&self, engine: &mut Engine, step: &Step) {
        match step {
            Step::Arrival {
                table,
                topic,
                payload,
            } => {
                let message = Message {
                    topic,
                    payload: payload.as_bytes(),
                    qos: 1,
                    retain: false,
                    received: self.clock.wall,
                };
                for (id, source) in self.plan.sources.iter().enumerate() {
                    if source.name == *table {
                        engine.deliver_to(SourceId(id), &message, self.clock);
                    }
                }
            }
            Step::End => engine.finish(),
            Step::SetClock(_) | Step::Wait(_) | Step::Restart | Step::TableLine { .. } => {}
        }
    }

    /// Lets time pass, with a stop whenever the engine asks for one.
    fn wait(&mut self, span: Timespan) {
        let end = self.clock.steady_micros + span.as_micros().max(0) as u64;
        while self.clock.steady_micros < end {
            let due = self.engine.next_tick().unwrap_or(end);
            let next = due.clamp(self.clock.steady_micros + 1, end);
            let passed = (next - self.clock.steady_micros) as i64;
            self.clock.steady_micros = next;
            self.clock.wall = self.clock.wall.plus(Timespan::from_micros(passed));
            self.engine.tick(self.clock);
        }
    }

    fn commit(&mut self) {
        let SealedEpoch {
            epoch,
            state,
            meta,
            dead,
            local,
            ..
        } = self.engine.seal(self.clock);
        (self.epoch, self.meta) = (epoch, meta);
        match state {
            StateChange::Unchanged => {}
            StateChange::Delta(delta) => self.deltas.push(delta),
            StateChange::Snapshot(base) => (self.base, self.deltas) = (base, Vec::new()),
        }
        let rows = local.into_iter();
        let rows = rows.map(|row| (row.sink.0, row.id.to_string(), row.line));
        self.outcome.rows.extend(rows);
        let dead = dead.into_iter();
        let dead = dead.map(|l| [l.stream.to_string(), l.reason.to_owned(), l.detail]);
        self.outcome.dead.extend(dead);
    }

    fn restored(&self) -> Engine {
        let mut engine = engine(&self.plan, self.max_keys, self.fold);
        if self.epoch > 0 {
            let stored = Stored {
                epoch: self.epoch,
                meta: &self.meta,
                base: self.base.clone(),
                deltas: self.deltas.clone(),
            };
            engine
                .restore(stored, &[])
                .expect("an engine reads what it has written");
        }
        if let Some(started) = self.started {
            engine.started(started);
        }
        load(&mut engine, &self.files);
        engine
    }
}

/// Hands the tables to an engine. Lines that are no rows of a table leave it as it was, as in `run`.
fn load(engine: &mut Engine, files: &[Vec<u8>]) {
    for (at, file) in files.iter().enumerate() {
        let _ = engine.load_table(TableId(at), file);
    }
}

fn engine(plan: &Arc<Plan>, max_keys: usize, least_fold_bytes: u64) -> Engine {
    let options = EngineOptions {
        max_keys,
        max_payload_bytes: 1 << 20,
        least_fold_bytes,
        connections: Vec::new(),
    };
    Engine::new(plan.clone(), &options)
}
