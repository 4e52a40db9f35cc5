//! Between the engine's words and the store's: what an epoch is on disk, how an engine goes on from what a store
//! holds, and a dead letter on its way back. No I/O: the simulation of power cuts goes through the same code.

use std::sync::Arc;

use compact_str::ToCompactString as _;

use crate::codec::Message;
use crate::engine::{
    self, Clock, Engine, EngineOptions, RestoreError, SealedEpoch, StateChange, Stored,
};
use crate::plan::{Plan, SourceId};
use crate::store::{DeadLetter, EpochCommit, OutboxChunk, OutboxIndex, Recovered, StateWrite};
use crate::types::EventTime;

/// An engine that goes on from what the store holds. Queries named in `reset` lose state that does not fit them any
/// more.
///
/// Beside it come the chunks of the outbox that belong to connections which are not among the options: they stay in
/// the store until somebody configures those again.
pub fn resume(
    plan: Arc<Plan>,
    options: &EngineOptions,
    recovered: Recovered,
    reset: &[String],
) -> Result<(Engine, Vec<OutboxIndex>), RestoreError> {
    let mut engine = Engine::new(plan, options);
    if let Some(meta) = &recovered.meta {
        let deltas = recovered.deltas.into_iter();
        let stored = Stored {
            epoch: recovered.epoch,
            meta,
            base: recovered.base,
            deltas: deltas.map(|(_, delta)| delta).collect(),
        };
        engine.restore(stored, reset)?;
    }
    let mut homeless = Vec::new();
    for chunk in recovered.outbox {
        let mut connections = options.connections.iter();
        match connections.position(|c| c.name == chunk.connection) {
            Some(connection) => engine.outbox(connection).restore(
                chunk.first_number,
                chunk.rows,
                chunk.len_bytes,
                chunk.appended_at_micros,
            ),
            None => homeless.push(chunk),
        }
    }
    Ok((engine, homeless))
}

/// The transaction of an epoch of an engine with these options.
pub fn epoch_commit(
    options: &EngineOptions,
    sealed: SealedEpoch,
    dead_remove: Vec<u64>,
) -> EpochCommit {
    let mut commit = EpochCommit {
        epoch: sealed.epoch,
        state: match sealed.state {
            StateChange::Unchanged => StateWrite::Unchanged,
            StateChange::Delta(bytes) => StateWrite::Delta(bytes),
            StateChange::Snapshot(pieces) => StateWrite::Snapshot(pieces),
        },
        meta: sealed.meta,
        dead_append: sealed.dead.into_iter().map(dead_letter).collect(),
        dead_remove,
        ..EpochCommit::default()
    };
    let changes = sealed.outbox_append.into_iter().zip(sealed.outbox_remove);
    for ((append, remove), connection) in changes.zip(&options.connections) {
        let name = connection.name.to_compact_string();
        commit
            .outbox_remove
            .extend(remove.into_iter().map(|first| (name.clone(), first)));
        commit
            .outbox_append
            .extend(append.into_iter().map(|chunk| OutboxChunk {
                connection: name.clone(),
                first_number: chunk.first_number,
                rows: chunk.rows,
                appended_at_micros: chunk.appended_at_micros,
                bytes: chunk.bytes,
            }));
    }
    commit
}

fn dead_letter(letter: engine::DeadLetter) -> DeadLetter {
    DeadLetter {
        reason: letter.reason.to_owned(),
        stream: letter.stream.into_string(),
        topic: letter.topic,
        payload: letter.payload,
        received_at_micros: letter.received.as_micros(),
        detail: letter.detail,
        qos: letter.qos,
        retain: letter.retain,
        replayable: letter.replayable,
    }
}

/// Sends a dead letter through `engine` again.
pub(super) fn replay_letter(
    engine: &mut Engine,
    letter: &DeadLetter,
    now: Clock,
) -> Result<(), String> {
    if !letter.replayable {
        return Err(format!(
            "it was discarded by `{}` after other queries had used it; sending it again would count it twice",
            letter.stream
        ));
    }
    let sources = &engine.plan().sources;
    let Some(id) = sources
        .iter()
        .position(|source| source.name == letter.stream.as_str())
    else {
        return Err(format!("there is no table `{}` any more", letter.stream));
    };
    let message = Message {
        topic: &letter.topic,
        payload: &letter.payload,
        qos: letter.qos,
        retain: letter.retain,
        received: EventTime::from_micros(letter.received_at_micros),
    };
    engine.deliver_to(SourceId(id), &message, now);
    Ok(())
}
