//! What the commands do with the state of a Headwater that is not running.

use std::sync::Arc;

use super::commit::epoch_commit;
use super::control::{Answer, Command};
use super::{RunError, Settings, SystemClock, restore};
use crate::plan::Plan;
use crate::store::{EpochCommit, Store};

/// Answers a [`Command`] from the state directory itself. A replay needs the running pipeline and is refused.
pub fn answer_offline(command: &Command, settings: &Settings) -> Result<Answer, RunError> {
    if matches!(command, Command::Replay { .. }) {
        return Ok(Answer::error(
            "a dead letter goes through the running pipeline: start `headwater run` first",
        ));
    }
    let (mut store, recovered) = Store::open(&settings.state_dir, &settings.store)?;
    Ok(match command {
        Command::List { after, limit } => Answer::letters(store.dead_letters_after(*after, *limit)),
        Command::Show { id } | Command::Replay { id } => {
            Answer::letters(store.dead_letter(*id).map(|letter| vec![(*id, letter)]))
        }
        Command::Purge { ids } => {
            store.commit(&EpochCommit {
                epoch: recovered.epoch + 1,
                meta: recovered.meta.unwrap_or_default(),
                dead_remove: ids.clone(),
                ..EpochCommit::default()
            })?;
            Answer::Done { count: ids.len() }
        }
    })
}

/// Drops the state of the named queries (`--all` for every one) where it does not fit the plan any more. Returns the
/// epoch in which that took effect.
pub fn reset_state(
    plan: Arc<Plan>,
    settings: &Settings,
    names: &[String],
) -> Result<u64, RunError> {
    let (mut engine, mut store) = restore(plan, settings, names)?;
    let sealed = engine.seal(SystemClock::start().now());
    let commit = epoch_commit(&settings.engine_options(), sealed, Vec::new());
    store.commit(&commit)?;
    Ok(commit.epoch)
}
