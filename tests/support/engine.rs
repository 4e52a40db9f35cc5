//! An engine whose epochs go to a disk in memory, to be killed and brought back by tests.

// Each test uses what it needs.
#![allow(dead_code)]

use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions, SealedEpoch, StateChange, Stored};
use headwater::plan::{Plan, SinkId, SourceId};
use headwater::state::Packed;
use headwater::types::EventTime;

/// An engine without state.
pub(crate) fn engine(plan: &Arc<Plan>, least_fold_bytes: u64) -> Engine {
    let options = EngineOptions {
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes,
        connections: Vec::new(),
    };
    Engine::new(plan.clone(), &options)
}

/// A wall clock later than all events, and a steady one.
pub(crate) fn clock(steady_micros: u64) -> Clock {
    Clock {
        wall: EventTime::from_millis(1_800_000_000_000),
        steady_micros,
    }
}

/// Hands a payload to a table.
pub(crate) fn deliver(engine: &mut Engine, table: usize, payload: &str, clock: Clock) {
    let message = Message {
        topic: "t",
        payload: payload.as_bytes(),
        qos: 1,
        retain: false,
        received: clock.wall,
    };
    engine.deliver_to(SourceId(table), &message, clock);
}

/// What has been committed.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    epoch: u64,
    meta: Vec<u8>,
    base: Vec<Packed>,
    deltas: Vec<Vec<u8>>,
    /// The ids and lines of rows.
    pub(crate) rows: Vec<(String, String)>,
    /// The sink of each.
    pub(crate) sinks: Vec<SinkId>,
    /// The reasons and details of dead letters.
    pub(crate) dead: Vec<(String, String)>,
}

impl Disk {
    /// Takes an epoch.
    pub(crate) fn commit(&mut self, sealed: SealedEpoch) {
        assert_eq!(sealed.epoch, self.epoch + 1);
        (self.epoch, self.meta) = (sealed.epoch, sealed.meta);
        match sealed.state {
            StateChange::Unchanged => {}
            StateChange::Delta(delta) => self.deltas.push(delta),
            StateChange::Snapshot(base) => (self.base, self.deltas) = (base, Vec::new()),
        }
        for row in sealed.local {
            self.rows.push((row.id.to_string(), row.line));
            self.sinks.push(row.sink);
        }
        let dead = sealed.dead.into_iter();
        self.dead
            .extend(dead.map(|letter| (letter.reason.to_owned(), letter.detail)));
    }

    /// An engine as a start after a crash makes it.
    pub(crate) fn restored(&self, plan: &Arc<Plan>, least_fold_bytes: u64) -> Engine {
        let mut engine = engine(plan, least_fold_bytes);
        if self.epoch > 0 {
            let stored = Stored {
                epoch: self.epoch,
                meta: &self.meta,
                base: self.base.clone(),
                deltas: self.deltas.clone(),
            };
            engine
                .restore(stored, &[])
                .expect("what was written can be read");
        }
        engine
    }
}
