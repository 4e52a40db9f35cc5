//! What can go wrong with storage, and what a person should hear of although it went on.
//!
//! Invariant: every message names the path and what to do. Inside the room a [`Fault`] says what happened without a
//! path; the room's edge adds it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use compact_str::CompactString;

use crate::state::StateError;

/// Why the store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error("the state directory {} is in use by another process: stop it first, or give this one a directory of its own", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The commit did not take effect. Give the same one again.
    #[error("the disk is full at {}: free some space; {}", path.display(), if *ballast_freed { "the ballast was deleted, so that the commit can be tried again now" } else { "there is no ballast left to delete" })]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Whether space was made, and the same commit can be expected to succeed.
        ballast_freed: bool,
    },
    /// Reading or writing failed. The handle is gone; the same commit may be given again, and takes effect once.
    #[error("storage failed at {}: {source}; check the disk (dmesg, smartctl), then start again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The open file turned out to be damaged. At the next start it is quarantined.
    #[error("{} is damaged: {what}; restart to fall back to the last intact copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// One outbox chunk or dead letter fails its checksum. Everything else can be used; remove this one.
    #[error("{} holds a damaged record: {what}; remove it to go on without it", path.display())]
    DamagedRecord {
        /// The file.
        path: PathBuf,
        /// Which.
        what: String,
    },
    /// The file is damaged and there is no fallback.
    #[error(
        "the state in {} cannot be opened ({what}), and there is no intact fallback: restore the directory from a backup, \
         or move it away to start with empty state (events that were acknowledged but not forwarded are then lost)",
        dir.display()
    )]
    Unopenable {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Written by another version of the program. Nothing was changed.
    #[error("{} has storage format {found}, this program reads format {newest}: use the version that wrote it, or move the directory away to start with empty state", path.display())]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
        /// The one that is read.
        newest: u8,
    },
    /// The caller broke the rules of the store. Nothing was changed.
    #[error("the commit to {} was refused: {what}", path.display())]
    Misuse {
        /// The file.
        path: PathBuf,
        /// Which rule.
        what: String,
    },
    /// There is no such outbox chunk or dead letter.
    #[error("{} holds no {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        what: String,
    },
}

impl StoreError {
    /// Whether the same commit may be given again.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Io { .. })
    }
}

/// What happened while opening that a person should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryNote {
    /// The file did not open and was renamed.
    Quarantined {
        /// Its new name.
        to: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The fallback took the place of the file. What was committed after its epoch is lost from here.
    FellBack {
        /// The epoch it holds.
        epoch: u64,
        /// Outbox chunks it had no room for.
        outbox_left_out: u64,
        /// Dead letters it had no room for.
        dead_letters_left_out: u64,
    },
    /// A chunk of the outbox fails its checksum. It is not in [`Recovered::outbox`](super::Recovered::outbox); remove
    /// it with the next commit.
    DamagedOutboxChunk {
        /// The connection.
        connection: CompactString,
        /// The number of its first row.
        first_number: u64,
    },
    /// There was no room for the ballast: a full disk now stops the gateway until someone frees space.
    NoBallast {
        /// What is wrong.
        what: String,
    },
    /// The disk was full when the file was opened, and the ballast was deleted.
    BallastFreed,
}

impl fmt::Display for RecoveryNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantined { to, what } => write!(
                f,
                "the state file did not open ({what}); it was kept as {}",
                to.display()
            ),
            Self::FellBack {
                epoch,
                outbox_left_out,
                dead_letters_left_out,
            } => write!(
                f,
                "state was restored from the fallback, which holds epoch {epoch}; what was acknowledged after it is lost, what was \
                 forwarded after it may be sent again; {outbox_left_out} outbox chunks and {dead_letters_left_out} dead letters had no room in it"
            ),
            Self::DamagedOutboxChunk {
                connection,
                first_number,
            } => {
                write!(
                    f,
                    "the outbox chunk of {connection} that starts at row {first_number} is damaged and cannot be sent"
                )
            }
            Self::NoBallast { what } => write!(
                f,
                "the ballast file could not be written ({what}); free some space"
            ),
            Self::BallastFreed => {
                f.write_str("the disk was full, so the ballast file was deleted; free some space")
            }
        }
    }
}

/// What happened, without a path.
#[derive(Debug)]
pub(super) enum Fault {
    Full,
    Io(io::Error),
    Damaged(String),
    DamagedRecord(String),
    Locked,
    OtherFormat { found: String },
    Misuse(String),
    Missing(String),
}

impl Fault {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Damage to a record that nothing else depends on.
    pub(super) fn of_one_record(self) -> Self {
        match self {
            Self::Damaged(what) => Self::DamagedRecord(what),
            fault => fault,
        }
    }

    /// Whether the handle it came from must not be used again.
    pub(super) const fn poisons(&self) -> bool {
        matches!(self, Self::Full | Self::Io(_) | Self::Damaged(_))
    }

    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_path_buf();
        match self {
            Self::Full => StoreError::DiskFull {
                path,
                ballast_freed: false,
            },
            Self::Io(source) => StoreError::Io { path, source },
            Self::Damaged(what) => StoreError::Damaged { path, what },
            Self::DamagedRecord(what) => StoreError::DamagedRecord { path, what },
            Self::Locked => StoreError::Locked {
                dir: path.parent().map_or(path.clone(), Path::to_path_buf),
            },
            Self::OtherFormat { found } => StoreError::OtherFormat {
                path,
                found,
                newest: super::record::FORMAT,
            },
            Self::Misuse(what) => StoreError::Misuse { path, what },
            Self::Missing(what) => StoreError::Missing { path, what },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            // What redb says of a file that is not one of its own, and of one that ends too soon.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        match error {
            StateError::NewerVersion { found, .. } => Self::OtherFormat {
                found: found.to_string(),
            },
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            redb::Error::UpgradeRequired(found) => Self::OtherFormat {
                found: format!("redb {found}"),
            },
            // An error that redb met before: the backend remembers which (see `Meter::fault`).
            redb::Error::PreviousIo => Self::Io(io::Error::other(error.to_string())),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

/// redb has an error type for each thing it does.
macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}
from_redb!(
    DatabaseError,
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    SetDurabilityError
);
