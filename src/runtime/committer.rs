//! The thread that owns the store: it commits epochs one after the other and reads what others ask for.
//!
//! Invariant: an epoch is reported as committed only after its transaction is durable; nothing but the reports
//! tells the rest of the process what is on disk. When the disk is full it frees the ballast, goes on, and says so;
//! with no ballast left it tries again every second, and the runtime takes no input meanwhile.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::control::Answer;
use crate::store::{CommitStats, DeadLetter, EpochCommit, Store, StoreError};

/// How often a failing disk is tried again before the process gives up and leaves it to its supervisor.
const ATTEMPTS_AFTER_IO_ERROR: u32 = 5;

/// What the store's thread is asked to do.
pub(super) enum Job {
    /// To commit an epoch.
    Commit(Box<EpochCommit>, Vec<FileAppend>),
    /// To read a chunk of the outbox.
    ReadOutbox {
        connection: usize,
        name: CompactString,
        first_number: u64,
    },
    /// To do something with the store that only reads.
    Read(Box<dyn FnOnce(&mut Store) + Send>),
    /// To read a dead letter that is to be sent through again.
    ReadLetter {
        id: u64,
        reply: oneshot::Sender<Answer>,
    },
    /// To write the last fallback and end.
    Stop(oneshot::Sender<()>),
}

/// Lines for a file, appended and flushed before the commit that counts them.
pub(super) struct FileAppend {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// What the store's thread reports.
pub(super) enum StoreEvent {
    /// The epoch in hand is durable.
    Committed(CommitStats),
    /// It is not yet, because of the disk.
    Stalled,
    /// A chunk of the outbox; `None` if it is gone.
    Chunk {
        connection: usize,
        first_number: u64,
        bytes: Option<Bytes>,
    },
    /// A dead letter to be sent through again, and who waits to hear about it.
    Letter {
        id: u64,
        letter: Result<DeadLetter, StoreError>,
        reply: oneshot::Sender<Answer>,
    },
    /// The store cannot go on.
    Failed(StoreError),
}

/// The other end of the thread.
pub(super) struct Committer {
    jobs: blocking::Sender<Job>,
    turns: Arc<AtomicU64>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(
        store: Store,
        events: mpsc::UnboundedSender<StoreEvent>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = blocking::channel();
        let turns = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            store,
            events,
            files: Vec::new(),
            turns: turns.clone(),
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, turns })
    }

    /// Grows with each thing the thread does or tries again.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Hands over a job. At most one commit is under way, a read for each connection, and what people ask for by hand;
    /// if the thread has ended, it has reported why.
    pub(super) fn send(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}

struct Worker {
    store: Store,
    events: mpsc::UnboundedSender<StoreEvent>,
    files: Vec<(PathBuf, File)>,
    turns: Arc<AtomicU64>,
}

impl Worker {
    fn moves(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    fn run(mut self, queue: &blocking::Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            self.moves();
            let event = match job {
                Job::Commit(commit, appends) => match self.commit(&commit, &appends) {
                    Ok(stats) => StoreEvent::Committed(stats),
                    Err(error) => StoreEvent::Failed(error),
                },
                Job::ReadOutbox {
                    connection,
                    name,
                    first_number,
                } => {
                    let bytes = match self.store.read_outbox(&name, first_number) {
                        Err(error) if error.is_retryable() => {
                            warn!(connection = %name, first_number, %error, "reading the outbox failed; trying again");
                            std::thread::sleep(Duration::from_millis(500));
                            self.store
                                .reopen()
                                .and_then(|_| self.store.read_outbox(&name, first_number))
                        }
                        read => read,
                    };
                    let bytes = match bytes {
                        Ok(bytes) => Some(Bytes::from(bytes)),
                        Err(error) => {
                            error!(connection = %name, first_number, %error, "a piece of the outbox is lost");
                            None
                        }
                    };
                    StoreEvent::Chunk {
                        connection,
                        first_number,
                        bytes,
                    }
                }
                Job::ReadLetter { id, reply } => StoreEvent::Letter {
                    id,
                    letter: self.store.dead_letter(id),
                    reply,
                },
                Job::Read(read) => {
                    read(&mut self.store);
                    continue;
                }
                Job::Stop(done) => {
                    if let Err(error) = self.store.export_fallback() {
                        warn!(%error, "the fallback copy could not be written");
                    }
                    // The store closes its file before anybody hears that it has stopped.
                    drop(self.store);
                    let _ = done.send(());
                    return;
                }
            };
            let failed = matches!(event, StoreEvent::Failed(_));
            if self.events.send(event).is_err() || failed {
                return;
            }
        }
    }

    fn commit(
        &mut self,
        commit: &EpochCommit,
        appends: &[FileAppend],
    ) -> Result<CommitStats, StoreError> {
        #[cfg(feature = "fault-injection")]
        super::fault::stall_if_asked("store");
        self.append_files(appends);
        let mut failures = 0;
        let mut stalled = false;
        loop {
            self.moves();
            match self.store.commit(commit) {
                Ok(mut stats) => {
                    if stalled {
                        info!("the disk has room again; going on");
                    }
                    self.after_commit(&mut stats);
                    return Ok(stats);
                }
                Err(StoreError::DiskFull {
                    ballast_freed: true,
                    path,
                }) => {
                    error!(
                        path = %path.display(),
                        "DISK FULL: the reserve was freed to go on; free some space now"
                    );
                }
                Err(error @ StoreError::DiskFull { .. }) => {
                    if !stalled {
                        error!(%error, "DISK FULL: no input is acknowledged until there is space");
                        stalled = true;
                        let _ = self.events.send(StoreEvent::Stalled);
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
                Err(error) if error.is_retryable() && failures < ATTEMPTS_AFTER_IO_ERROR => {
                    failures += 1;
                    error!(%error, failures, "the disk fails; opening the state again");
                    std::thread::sleep(Duration::from_millis(200 << failures));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What follows a commit; what that writes is counted with it.
    fn after_commit(&mut self, stats: &mut CommitStats) {
        if stats.dead_letters_dropped > 0 {
            warn!(
                dropped = stats.dead_letters_dropped,
                "dead letters at their limit: the oldest were dropped"
            );
        }
        if self.store.ballast_is_missing() {
            match self.store.restore_ballast() {
                Ok(true) => info!("the disk reserve is in place again"),
                Ok(false) => {}
                Err(error) => warn!(%error, "the disk reserve could not be restored"),
            }
        }
        if self.store.fallback_is_due() {
            match self.store.export_fallback() {
                Ok(fallback) => stats.written_bytes += fallback.map_or(0, |it| it.file_bytes),
                Err(error) => warn!(%error, "the fallback copy could not be written"),
            }
        }
    }

    /// Appends to files; after a restart they are cut to the length that the last commit counted. Tries until it
    /// succeeds, because the rows are part of an epoch.
    fn append_files(&mut self, appends: &[FileAppend]) {
        for append in appends {
            let mut reported = false;
            while let Err(error) = self.append_file(append) {
                self.moves();
                if !reported {
                    error!(path = %append.path.display(), %error, "cannot append to the file; trying again");
                    reported = true;
                    let _ = self.events.send(StoreEvent::Stalled);
                }
                self.files.retain(|(path, _)| *path != append.path);
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    fn append_file(&mut self, append: &FileAppend) -> std::io::Result<()> {
        let at = match self.files.iter().position(|(path, _)| *path == append.path) {
            Some(at) => at,
            None => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&append.path)?;
                self.files.push((append.path.clone(), file));
                self.files.len() - 1
            }
        };
        let file = &mut self.files[at].1;
        let before = file.metadata()?.len();
        let written = file
            .write_all(&append.bytes)
            .and_then(|()| file.sync_data());
        if written.is_err() {
            // A line cut in the middle must not stay before the same line whole.
            file.set_len(before)?;
        }
        written
    }
}
