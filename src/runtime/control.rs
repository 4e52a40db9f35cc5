//! The control socket: how `headwater dead-letters` reaches a running `headwater run`, which holds the state file.
//!
//! A Unix socket in the state directory, so that whoever may write there may use it and nobody else. One request and
//! one answer a connection, as postcard, each side closing its half when it is done.
//! Bounds: [`MAX_REQUEST_BYTES`] a request, one request at a time, a second of patience with a slow client.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::store::{DeadLetter, StoreError};

const MAX_REQUEST_BYTES: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(1);

/// What can be asked of a running Headwater.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Dead letters with ids above `after`, at the most `limit`, oldest first.
    List {
        /// The last id seen; 0 for the beginning.
        after: u64,
        /// How many.
        limit: usize,
    },
    /// One dead letter.
    Show {
        /// Its id.
        id: u64,
    },
    /// Sends one through its table again; it is removed in the same commit.
    Replay {
        /// Its id.
        id: u64,
    },
    /// Removes dead letters.
    Purge {
        /// Their ids.
        ids: Vec<u64>,
    },
}

/// A dead letter as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its id.
    pub id: u64,
    /// The table or query that could not use it.
    pub stream: String,
    /// The short reason.
    pub reason: String,
    /// The whole reason.
    pub detail: String,
    /// The topic it came on.
    pub topic: String,
    /// The bytes as they came.
    pub payload: Vec<u8>,
    /// When it came, microseconds since 1970.
    pub received_at_micros: i64,
    /// Whether it can be sent through again.
    pub replayable: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Dead letters.
    Letters(Vec<Letter>),
    /// It is done, to so many.
    Done {
        /// How many.
        count: usize,
    },
    /// It is not done.
    Error {
        /// Why, and what to do.
        message: String,
    },
}

impl Answer {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::Error {
            message: message.into(),
        }
    }

    pub(super) fn letters(read: Result<Vec<(u64, DeadLetter)>, StoreError>) -> Self {
        match read {
            Ok(letters) => Self::Letters(letters.into_iter().map(Letter::from).collect()),
            Err(error) => Self::error(error.to_string()),
        }
    }
}

impl From<(u64, DeadLetter)> for Letter {
    fn from((id, letter): (u64, DeadLetter)) -> Self {
        Self {
            id,
            stream: letter.stream,
            reason: letter.reason,
            detail: letter.detail,
            topic: letter.topic,
            payload: letter.payload,
            received_at_micros: letter.received_at_micros,
            replayable: letter.replayable,
        }
    }
}

/// The socket's path in a state directory.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Why a running Headwater could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing listens: no `headwater run` has this state directory.
    #[error("no headwater is running on this state directory")]
    NotRunning,
    /// Something went wrong on the way.
    #[error("asking the running headwater failed: {0}")]
    Io(#[from] std::io::Error),
    /// What came back is not an answer of this version.
    #[error("the running headwater is of another version; restart it")]
    Version,
}

/// Asks the Headwater that runs on `state_dir`.
pub fn ask(state_dir: &Path, command: &Command) -> Result<Answer, ControlError> {
    use std::io::ErrorKind;
    let mut stream =
        BlockingStream::connect(socket_path(state_dir)).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning,
            _ => ControlError::Io(error),
        })?;
    let request = postcard::to_stdvec(command).map_err(|_| ControlError::Version)?;
    stream.write_all(&request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    postcard::from_bytes(&answer).map_err(|_| ControlError::Version)
}

/// Listens on the socket and passes requests on.
pub(super) async fn serve(
    listener: UnixListener,
    commands: mpsc::Sender<(Command, oneshot::Sender<Answer>)>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        // A client that fails or dawdles concerns nobody else.
        let _ = serve_one(stream, &commands).await;
    }
}

async fn serve_one(
    mut stream: UnixStream,
    commands: &mpsc::Sender<(Command, oneshot::Sender<Answer>)>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(MAX_REQUEST_BYTES);
    let read = limited.read_to_end(&mut request);
    if tokio::time::timeout(PATIENCE, read).await.is_err() {
        return Ok(());
    }
    let answer = match postcard::from_bytes(&request) {
        Ok(command) => {
            let (reply, answer) = oneshot::channel();
            if commands.send((command, reply)).await.is_err() {
                return Ok(());
            }
            answer
                .await
                .unwrap_or_else(|_| Answer::error("headwater is stopping"))
        }
        Err(_) => Answer::error("the request is of another version of headwater"),
    };
    let bytes = postcard::to_stdvec(&answer).unwrap_or_default();
    tokio::time::timeout(PATIENCE, stream.write_all(&bytes))
        .await
        .unwrap_or(Ok(()))
}

/// Opens the socket, in place of one that a crash has left behind. The caller holds the state's lock.
pub(super) fn listen(state_dir: &Path) -> std::io::Result<UnixListener> {
    let path = socket_path(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}
