//! What people ask of the running process.

use tokio::sync::oneshot;

use super::Driver;
use crate::runtime::commit::replay_letter;
use crate::runtime::control::{Answer, Command};
use crate::store::Store;

impl Driver {
    pub(super) async fn on_command(&mut self, command: Command, reply: oneshot::Sender<Answer>) {
        let answer = match command {
            Command::List { after, limit } => {
                let read = move |store: &mut Store| store.dead_letters_after(after, limit);
                Answer::letters(self.committer.read(read).await)
            }
            Command::Show { id } => {
                let read =
                    move |store: &mut Store| store.dead_letter(id).map(|letter| vec![(id, letter)]);
                Answer::letters(self.committer.read(read).await)
            }
            Command::Purge { ids } => {
                let count = ids.len();
                self.dead_remove.extend(ids);
                let now = self.clock.now();
                self.note_other_change(now);
                Answer::Done { count }
            }
            Command::Replay { id } => self.replay(id).await,
        };
        // Whoever asked may have gone away.
        let _ = reply.send(answer);
    }

    /// Sends a dead letter through again; it is removed in the epoch in which it takes effect.
    pub(super) async fn replay(&mut self, id: u64) -> Answer {
        let letter = match self
            .committer
            .read(move |store| store.dead_letter(id))
            .await
        {
            Some(Ok(letter)) => letter,
            other => return Answer::letters(other.map(|r| r.map(|letter| vec![(id, letter)]))),
        };
        if self.dead_remove.contains(&id) {
            return Answer::error(format!("dead letter {id} is being removed"));
        }
        let now = self.clock.now();
        match replay_letter(&mut self.engine, &letter, now) {
            Ok(()) => {
                self.dead_remove.push(id);
                self.note_other_change(now);
                Answer::Done { count: 1 }
            }
            Err(reason) => Answer::error(format!("dead letter {id}: {reason}")),
        }
    }
}
