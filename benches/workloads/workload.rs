//! What a workload is, and a run of one.

use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions, LEAST_FOLD_BYTES, SealedEpoch, StateChange};
use headwater::plan::{Plan, SourceId, TableId};
use headwater::sql::{Catalog, compile};
use headwater::state::Packed;
use headwater::types::EventTime;

use super::floor::Floor;
use super::input::{BATCH_MESSAGES, Batch, FIRST_MILLIS, Generator};
use super::nexmark::{self, Tables};
use super::queries;
use super::riotbench::{self, City};
use super::sensors::Sensors;

/// Messages between two commits: a second of a busy gateway.
const EPOCH_MESSAGES: usize = 10_000;

/// A pipeline and what it is fed.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What it stands for, for the table.
    pub(crate) what: &'static str,
    /// The hand-written loop it is held against.
    pub(crate) floor: &'static str,
    pub(crate) check: Check,
    pub(crate) input: Input,
    /// Seconds of event time after which an event costs what it will always cost,
    pub(crate) warm_seconds: u64,
    /// and over which it is then measured.
    pub(crate) seconds: u64,
    /// Devices where instructions are counted, which takes a hundred times as long as running.
    pub(crate) counted_devices: usize,
    /// Devices of the smaller of two runs whose memory is compared; 0 where it says nothing.
    pub(crate) memory_devices: usize,
    pub(crate) query: Query,
}

/// How it is known that the rows are right.
pub(crate) enum Check {
    /// The floor gives the same.
    SameRows,
    /// Another query gives the same as another floor.
    SameRowsOf { query: Query, floor: &'static str },
    /// There are some.
    SomeRows,
    /// There are none.
    NoRows,
}

/// Where messages come from.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    Sensors(Sensors),
    City(City),
    Nexmark(Tables),
}

/// What is asked.
pub(crate) enum Query {
    One {
        columns: &'static str,
        query: &'static str,
    },
    /// A thousand rules, each with its own threshold and group of devices.
    Rules,
    /// A thousand rules, each with its own threshold.
    Thresholds,
    /// Tables to write to, and queries.
    Script(&'static str),
}

impl Input {
    /// How many devices report; 0 where that is not what there are more or less of.
    pub(crate) fn devices(self) -> usize {
        match self {
            Self::Sensors(sensors) => sensors.devices,
            Self::City(city) => city.sensors,
            Self::Nexmark(_) => 0,
        }
    }

    pub(crate) fn with_devices(self, devices: usize) -> Self {
        match self {
            Self::Sensors(sensors) => Self::Sensors(Sensors { devices, ..sensors }),
            Self::City(_) => Self::City(City { sensors: devices }),
            Self::Nexmark(_) => self,
        }
    }

    /// Messages in so many seconds of event time.
    pub(crate) fn events(self, seconds: u64) -> usize {
        match self {
            Self::Sensors(sensors) => {
                sensors.devices * seconds as usize * 1_000 / sensors.period_millis as usize
            }
            Self::City(city) => city.events(seconds),
            Self::Nexmark(tables) => tables.events(seconds),
        }
    }

    /// The tables, by the numbers that messages carry.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Sensors(_) => &["sensors"],
            Self::City(_) => &["city"],
            Self::Nexmark(_) => nexmark::TABLES,
        }
    }

    pub(crate) fn generator(self) -> Box<dyn Generator> {
        match self {
            Self::Sensors(sensors) => Box::new(sensors.generator()),
            Self::City(city) => Box::new(city.generator()),
            Self::Nexmark(tables) => Box::new(tables.generator()),
        }
    }
}

/// The plan of a query over an input.
pub(crate) fn plan(input: Input, query: &Query) -> Arc<Plan> {
    let sql = match (input, query) {
        (Input::City(_), Query::Script(script)) => riotbench::pipeline(script),
        (Input::Nexmark(tables), Query::Script(script)) => nexmark::pipeline(tables, script),
        _ => queries::pipeline(query),
    };
    match compile(&[("workload.sql".to_owned(), sql)], &Catalog::default()) {
        Ok((plan, _)) => plan.into(),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// What a run gave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    pub(crate) rows: u64,
    /// Bytes of the rows' lines.
    pub(crate) row_bytes: u64,
    /// Bytes of changes and snapshots of state, of watermarks and the like.
    pub(crate) state_bytes: u64,
    dead: u64,
}

/// What takes batches: an engine with its commits, or a floor.
pub(crate) trait Taker {
    fn take(&mut self, batch: &Batch);
}

/// Has `events` messages taken, each batch with `around` around it, which may look at the time; the messages are written
/// outside of it.
pub(crate) fn run(
    generator: &mut dyn Generator,
    events: usize,
    taker: &mut dyn Taker,
    around: &mut dyn FnMut(&mut dyn FnMut()),
) {
    let mut batch = Batch::default();
    let mut left = events;
    while left > 0 {
        batch.clear();
        for _ in 0..left.min(BATCH_MESSAGES) {
            generator.write(&mut batch);
        }
        left -= batch.len();
        around(&mut || taker.take(&batch));
    }
}

/// An engine whose commits go nowhere.
pub(crate) struct Committed {
    pub(crate) engine: Engine,
    /// The source of each table, if it is read.
    sources: Vec<Option<SourceId>>,
    pub(crate) given: Given,
    /// Messages since the last commit.
    open: usize,
    clock: Clock,
    /// The rows, if somebody wants them.
    pub(crate) rows: Option<String>,
}

impl Committed {
    pub(crate) fn new(input: Input, plan: &Arc<Plan>) -> Self {
        let options = EngineOptions {
            max_keys: 1_000_000,
            max_payload_bytes: 1 << 20,
            least_fold_bytes: LEAST_FOLD_BYTES,
            connections: Vec::new(),
        };
        let mut engine = Engine::new(plan.clone(), &options);
        if !plan.tables.is_empty() {
            let loaded = engine.load_table(TableId(0), riotbench::known().as_bytes());
            loaded.expect("the table of sensors can be read");
        }
        let source = |table: &&str| {
            let found = plan.sources.iter().position(|source| source.name == *table);
            found.map(SourceId)
        };
        Self {
            engine,
            sources: input.tables().iter().map(source).collect(),
            given: Given::default(),
            open: 0,
            clock: Clock {
                wall: EventTime::from_millis(FIRST_MILLIS as i64 + 366 * 86_400_000),
                steady_micros: 0,
            },
            rows: None,
        }
    }

    /// Makes what came since the last commit an epoch.
    pub(crate) fn commit(&mut self) {
        self.open = 0;
        let SealedEpoch {
            state,
            meta,
            dead,
            local,
            ..
        } = self.engine.seal(self.clock);
        let state_bytes = match &state {
            StateChange::Unchanged => 0,
            StateChange::Delta(delta) => delta.len(),
            StateChange::Snapshot(pieces) => pieces.iter().map(Packed::unpacked_len).sum(),
        };
        let given = &mut self.given;
        given.rows += local.len() as u64;
        given.row_bytes += local.iter().map(|row| row.line.len() as u64).sum::<u64>();
        given.state_bytes += (state_bytes + meta.len()) as u64;
        given.dead += dead.len() as u64;
        if let Some(letter) = dead.first() {
            panic!("a row was discarded: {letter:?}");
        }
        if let Some(rows) = &mut self.rows {
            for row in &local {
                rows.push_str(&row.line);
                rows.push('\n');
            }
        }
        self.engine.committed();
    }

    /// The input has ended.
    pub(crate) fn finish(&mut self) {
        self.engine.finish();
        self.commit();
    }
}

impl Taker for Committed {
    fn take(&mut self, batch: &Batch) {
        for (table, payload) in batch.iter() {
            let message = Message {
                topic: "plant/pumps/readings",
                payload,
                qos: 1,
                retain: false,
                received: self.clock.wall,
            };
            let source = self.sources[table].expect("only tables that are read are fed");
            self.engine.deliver_to(source, &message, self.clock);
        }
        self.open += batch.len();
        if self.open >= EPOCH_MESSAGES {
            self.commit();
        }
    }
}

/// A floor whose rows go nowhere.
pub(crate) struct Discarded {
    pub(crate) floor: Box<dyn Floor>,
    pub(crate) rows: String,
    pub(crate) keeps_rows: bool,
}

impl Discarded {
    pub(crate) fn new(floor: Box<dyn Floor>) -> Self {
        Self {
            floor,
            rows: String::new(),
            keeps_rows: false,
        }
    }
}

impl Taker for Discarded {
    fn take(&mut self, batch: &Batch) {
        if !self.keeps_rows {
            self.rows.clear();
        }
        self.floor.take(batch, &mut self.rows);
        std::hint::black_box(&self.rows);
    }
}
