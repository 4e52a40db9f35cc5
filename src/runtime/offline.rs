//! What the commands do with the state of a Headwater that is not running.

use std::path::Path;
use std::sync::Arc;

use super::control::{Answer, Command};
use super::driver::replay_offline;
use super::{RunError, Settings, SystemClock, restore};
use crate::plan::Plan;
use crate::store::{EpochCommit, Store, StoreError, StoreOptions};

/// Answers a [`Command`] from the state directory itself. `settings` and `plan` are needed for a replay alone.
pub fn answer_offline(
    command: &Command,
    settings: &Settings,
    plan: Arc<Plan>,
) -> Result<Answer, RunError> {
    if let Command::Replay { id } = command {
        let (mut engine, mut store) = restore(plan, settings, &[])?;
        let letter = match store.dead_letter(*id) {
            Ok(letter) => letter,
            Err(error) => return Ok(Answer::error(error.to_string())),
        };
        let now = SystemClock::start().now();
        return Ok(match replay_offline(&mut engine, &mut store, *id, &letter, now)? {
            Ok(()) => Answer::Done { count: 1 },
            Err(reason) => Answer::error(format!("dead letter {id}: {reason}")),
        });
    }
    let (mut store, recovered) = open(&settings.state_dir, &settings.store)?;
    let answer = match command {
        Command::List { after, limit } => Answer::letters(Some(store.dead_letters_after(*after, *limit))),
        Command::Show { id } => {
            Answer::letters(Some(store.dead_letter(*id).map(|letter| vec![(*id, letter)])))
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
        Command::Replay { .. } => Answer::error("a replay needs the pipeline"),
    };
    Ok(answer)
}

fn open(
    dir: &Path,
    options: &StoreOptions,
) -> Result<(Store, crate::store::Recovered), StoreError> {
    Store::open(dir, options)
}

/// Drops the state of the named queries (`--all` for every one) where it does not fit the plan any more.
pub fn reset_state(
    plan: Arc<Plan>,
    settings: &Settings,
    names: &[String],
) -> Result<u64, RunError> {
    let (mut engine, mut store) = restore(plan, settings, names)?;
    let sealed = engine.seal(SystemClock::start().now());
    let epoch = sealed.epoch;
    super::driver::commit_offline(&mut store, settings, sealed, Vec::new())?;
    Ok(epoch)
}
