//! What people ask of the running process.
//!
//! The loop does not wait for the store here: on a full disk the store answers when there is space again, and the
//! process must see its signals meanwhile. Whoever asks has a timeout of their own.

use tokio::sync::oneshot;

use super::Driver;
use crate::runtime::commit::replay_letter;
use crate::runtime::committer::Job;
use crate::runtime::control::{Answer, Command};
use crate::store::{DeadLetter, Store, StoreError};

impl Driver {
    pub(super) fn on_command(&mut self, command: Command, reply: oneshot::Sender<Answer>) {
        match command {
            Command::List { after, limit } => {
                self.read(reply, move |store| store.dead_letters_after(after, limit));
            }
            Command::Show { id } => {
                self.read(reply, move |store| {
                    store.dead_letter(id).map(|letter| vec![(id, letter)])
                });
            }
            Command::Purge { ids } => {
                let count = ids.len();
                self.dead_remove.extend(ids);
                let now = self.clock.now();
                self.changes.note(now.steady_micros);
                // Whoever asked may have gone away.
                let _ = reply.send(Answer::Done { count });
            }
            Command::Replay { id } => self.committer.send(Job::ReadLetter { id, reply }),
        }
    }

    /// Has the store's thread answer.
    fn read(
        &self,
        reply: oneshot::Sender<Answer>,
        ask: impl FnOnce(&mut Store) -> Result<Vec<(u64, DeadLetter)>, StoreError> + Send + 'static,
    ) {
        self.committer.send(Job::Read(Box::new(move |store| {
            let _ = reply.send(Answer::letters(ask(store)));
        })));
    }

    /// Sends a dead letter that was read through again; it is removed in the epoch in which it takes effect.
    pub(super) fn replay(&mut self, id: u64, letter: Result<DeadLetter, StoreError>) -> Answer {
        let letter = match letter {
            Ok(letter) => letter,
            Err(error) => return Answer::error(error.to_string()),
        };
        if self.dead_remove.contains(&id) {
            return Answer::error(format!("dead letter {id} is being removed"));
        }
        let now = self.clock.now();
        match replay_letter(&mut self.engine, &letter, now) {
            Ok(()) => {
                self.dead_remove.push(id);
                self.changes.note(now.steady_micros);
                Answer::Done { count: 1 }
            }
            Err(reason) => Answer::error(format!("dead letter {id}: {reason}")),
        }
    }
}
