//! The store as its users see it: opening, falling back, committing, and going on after a fault.
//!
//! Invariants: a ledger that met a fault is dropped before anything else is done; a file is renamed into quarantine
//! only when it is damaged, never because it is busy, new or unreadable; nothing starts from empty state where there
//! was state.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::backend::Disk;
use super::ballast::Ballast;
use super::error::Fault;
use super::fallback::{self, FallbackStats};
use super::head::Head;
use super::ledger::Ledger;
use super::{
    CommitStats, DeadLetter, EpochCommit, Layout, MAX_QUARANTINED, Recovered, RecoveryNote,
    StoreError, StoreOptions, Totals, files,
};

/// The durable state of one gateway. One owner, one writer.
pub struct Store {
    /// `None` after a fault, until the file is opened again.
    ledger: Option<Ledger>,
    head: Head,
    options: StoreOptions,
    place: Place,
    fallback_at_bytes: u64,
    fallback_len_bytes: u64,
}

/// Where the file is.
enum Place {
    Directory {
        layout: Layout,
        ballast: Ballast,
        _lock: File,
    },
    Simulated(Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>),
}

impl Store {
    /// Opens the state directory, makes it if it is not there, and reads and checks everything in the file.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<(Self, Recovered), StoreError> {
        let layout = Layout {
            dir: dir.to_path_buf(),
        };
        files::create_dir(dir).map_err(|error| Fault::from(error).at(dir))?;
        let lock = lock(&layout)?;
        let mut opening = Opening {
            ballast: Ballast::find(layout.ballast(), options.ballast_bytes),
            layout,
            options,
            notes: Vec::new(),
        };
        let (ledger, mut recovered) = opening.open()?;
        let Opening {
            mut ballast,
            layout,
            mut notes,
            ..
        } = opening;
        match ballast.restore() {
            Ok(true) => {}
            Ok(false) => notes.push(RecoveryNote::NoBallast {
                what: "not enough space".into(),
            }),
            Err(error) => notes.push(RecoveryNote::NoBallast {
                what: error.to_string(),
            }),
        }
        notes.append(&mut recovered.notes);
        recovered.notes = notes;
        for note in &recovered.notes {
            tracing::warn!(dir = %dir.display(), "{note}");
        }
        let fallback = fallback_on_disk(&layout);
        let head = *ledger.head();
        let store = Self {
            ledger: Some(ledger),
            head,
            options: options.clone(),
            fallback_at_bytes: fallback.map_or(0, |(at_bytes, _)| at_bytes),
            fallback_len_bytes: fallback.map_or(0, |(_, len_bytes)| len_bytes),
            place: Place::Directory {
                layout,
                ballast,
                _lock: lock,
            },
        };
        Ok((store, recovered))
    }

    /// The same store over a simulated disk, for tests: without directory, ballast, quarantine and fallback. `disk`
    /// opens it, again after each fault.
    pub fn open_with_backend<B: StorageBackend>(
        disk: impl Fn() -> io::Result<B> + Send + 'static,
        options: &StoreOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        let disk: Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send> =
            Box::new(move || disk().map(|b| Box::new(b) as Box<dyn StorageBackend>));
        let place = Place::Simulated(disk);
        let (ledger, recovered) = place
            .disk()
            .and_then(|disk| {
                if disk.backend.len()? == 0 {
                    let ledger = Ledger::create(disk, options, |_| Ok(()))?;
                    Ok((ledger, Recovered::default()))
                } else {
                    Ledger::open(disk, options)
                }
            })
            .map_err(|fault| fault.at(&place.path()))?;
        let head = *ledger.head();
        Ok((
            Self {
                ledger: Some(ledger),
                head,
                options: options.clone(),
                place,
                fallback_at_bytes: 0,
                fallback_len_bytes: 0,
            },
            recovered,
        ))
    }

    /// The last committed epoch.
    pub const fn epoch(&self) -> u64 {
        self.head.epoch
    }

    /// What the file holds.
    pub const fn totals(&self) -> &Totals {
        &self.head.totals
    }

    /// Makes one epoch durable. Blocks until the disk has it.
    ///
    /// After an error that [is retryable](StoreError::is_retryable) give the same commit again: the store opens the
    /// file anew, and if the epoch turns out to be in it, says `Ok`.
    pub fn commit(&mut self, commit: &EpochCommit) -> Result<CommitStats, StoreError> {
        if self.ledger.is_none() {
            self.reopen()?;
            if self.head.epoch == commit.epoch {
                return Ok(self.stats_of_last());
            }
        }
        match self.with_ledger(|ledger, options| ledger.commit(commit, options)) {
            Ok(mut stats) => {
                self.head = self
                    .ledger
                    .as_ref()
                    .map_or(self.head, |ledger| *ledger.head());
                stats.file_bytes = self.place.file_bytes();
                Ok(stats)
            }
            Err(Fault::Full) => {
                let ballast_freed = match &mut self.place {
                    Place::Directory { ballast, .. } => ballast.free(),
                    Place::Simulated(_) => false,
                };
                match self.reopen() {
                    Ok(epoch) if epoch == commit.epoch => Ok(self.stats_of_last()),
                    reopened => {
                        // What the last commit freed is taken back by the commit that follows.
                        if reopened.is_ok() {
                            let _ = self.with_ledger(|ledger, _| ledger.reclaim());
                        }
                        Err(StoreError::DiskFull {
                            path: self.place.path(),
                            ballast_freed,
                        })
                    }
                }
            }
            Err(fault) => Err(fault.at(&self.place.path())),
        }
    }

    /// After a fault: opens the file again, from what the disk really holds, and gives the epoch that was committed
    /// last.
    pub fn reopen(&mut self) -> Result<u64, StoreError> {
        self.ledger = None;
        let result = self
            .place
            .forget_cached_pages()
            .map_err(Fault::from)
            .and_then(|()| Ledger::reopen(self.place.disk()?, &self.options));
        let ledger = result.map_err(|fault| fault.at(&self.place.path()))?;
        let found = *ledger.head();
        // One more is the commit that was in doubt. Anything else is not the file we had.
        if found.epoch != self.head.epoch && found.epoch != self.head.epoch + 1 {
            let what = format!(
                "it holds epoch {} where epoch {} was committed",
                found.epoch, self.head.epoch
            );
            return Err(StoreError::Damaged {
                path: self.place.path(),
                what,
            });
        }
        self.head = found;
        self.ledger = Some(ledger);
        Ok(found.epoch)
    }

    /// The bytes of one outbox chunk.
    pub fn read_outbox(
        &mut self,
        connection: &str,
        first_number: u64,
    ) -> Result<Vec<u8>, StoreError> {
        self.read(|ledger| ledger.read_outbox(connection, first_number))
    }

    /// One dead letter.
    pub fn dead_letter(&mut self, id: u64) -> Result<DeadLetter, StoreError> {
        self.read(|ledger| ledger.dead_letter(id))
    }

    /// At most `limit` dead letters with an id above `after`, oldest first. The next page is after the last id of
    /// this one.
    pub fn dead_letters_after(
        &mut self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, DeadLetter)>, StoreError> {
        self.read(|ledger| ledger.dead_letters(after.saturating_add(1)..=u64::MAX, limit, false))
    }

    /// At most `limit` dead letters with an id below `before`, newest first. `u64::MAX` for the newest of all.
    pub fn dead_letters_before(
        &mut self,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, DeadLetter)>, StoreError> {
        self.read(|ledger| ledger.dead_letters(0..=before.saturating_sub(1), limit, true))
    }

    /// Whether enough was committed since the last fallback that a new one is worth its flash. Ask after a commit.
    pub fn fallback_is_due(&self) -> bool {
        let totals = &self.head.totals;
        let since = totals
            .committed_bytes
            .saturating_sub(self.fallback_at_bytes);
        let enough = self
            .options
            .fallback_every_bytes
            .max(self.fallback_len_bytes.saturating_mul(4));
        // It is shortest where the deltas have just been folded, which is worth some waiting; also where it would not have
        // room before.
        let folded = totals.deltas == 0;
        let has_room = totals.base_bytes + totals.delta_bytes < self.options.fallback_limit_bytes;
        matches!(self.place, Place::Directory { .. })
            && self.options.fallback_limit_bytes > 0
            && since >= enough
            && (folded || has_room && since >= enough.saturating_mul(2))
    }

    /// Writes the fallback now: when it is due, and at a clean shutdown. `None` if there is none to be, or the state
    /// exceeds its limit; the old fallback then stays. An error does not harm the store.
    pub fn export_fallback(&mut self) -> Result<Option<FallbackStats>, StoreError> {
        let Place::Directory { layout, .. } = &self.place else {
            return Ok(None);
        };
        if self.options.fallback_limit_bytes == 0 {
            return Ok(None);
        }
        let layout = layout.clone();
        // Also without success it is not due again at once: a full disk must not be asked after every commit.
        self.fallback_at_bytes = self.head.totals.committed_bytes;
        let limit_bytes = self.options.fallback_limit_bytes;
        if self.ledger.is_none() {
            self.reopen()?;
        }
        let stats = match &self.ledger {
            Some(ledger) => fallback::write(&layout, ledger, limit_bytes)
                .map_err(|fault| fault.at(&layout.fallback()))?,
            None => None,
        };
        if let Some(stats) = &stats {
            self.fallback_len_bytes = stats.file_bytes;
        } else {
            tracing::warn!(
                limit_bytes,
                "the state exceeds the limit of the fallback, so there is no fallback of it"
            );
        }
        Ok(stats)
    }

    /// Writes the ballast again if it was given up and there is space. Cheap when there is nothing to do. Whether
    /// there is one now.
    pub fn restore_ballast(&mut self) -> Result<bool, StoreError> {
        match &mut self.place {
            Place::Directory {
                layout, ballast, ..
            } => ballast
                .restore()
                .map_err(|error| Fault::from(error).at(&layout.ballast())),
            Place::Simulated(_) => Ok(true),
        }
    }

    /// Whether the ballast was given up: the disk is or was full.
    pub const fn ballast_is_missing(&self) -> bool {
        match &self.place {
            Place::Directory { ballast, .. } => ballast.is_missing(),
            Place::Simulated(_) => false,
        }
    }

    fn read<T>(&mut self, read: impl FnOnce(&Ledger) -> Result<T, Fault>) -> Result<T, StoreError> {
        if self.ledger.is_none() {
            self.reopen()?;
        }
        self.with_ledger(|ledger, _| read(ledger))
            .map_err(|fault| fault.at(&self.place.path()))
    }

    /// Runs `work`, and drops the ledger if it may not be used again.
    fn with_ledger<T>(
        &mut self,
        work: impl FnOnce(&mut Ledger, &StoreOptions) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let ledger = self
            .ledger
            .as_mut()
            .expect("every caller opens the ledger first");
        let result = work(ledger, &self.options);
        if result.as_ref().is_err_and(Fault::poisons) {
            self.ledger = None;
        }
        result
    }

    fn stats_of_last(&self) -> CommitStats {
        CommitStats {
            file_bytes: self.place.file_bytes(),
            totals: self.head.totals,
            ..CommitStats::default()
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.place.path())
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        match self {
            Self::Directory { layout, .. } => layout.database(),
            Self::Simulated(_) => PathBuf::from("simulated disk"),
        }
    }

    fn disk(&self) -> Result<Disk, Fault> {
        match self {
            Self::Directory { layout, .. } => disk_of(&layout.database()),
            Self::Simulated(open) => Ok(Disk {
                backend: open()?,
                directory: None,
            }),
        }
    }

    fn file_bytes(&self) -> u64 {
        match self {
            Self::Directory { layout, .. } => {
                fs::metadata(layout.database()).map_or(0, |meta| meta.len())
            }
            Self::Simulated(open) => open().and_then(|backend| backend.len()).unwrap_or(0),
        }
    }

    /// After a failed flush Linux holds pages that it believes to be on the disk. What is read next must come from
    /// there.
    fn forget_cached_pages(&self) -> io::Result<()> {
        match self {
            Self::Directory { layout, .. } => Ok(rustix::fs::fadvise(
                File::open(layout.database())?,
                0,
                None,
                rustix::fs::Advice::DontNeed,
            )?),
            Self::Simulated(_) => Ok(()),
        }
    }
}

/// The way to an open ledger.
struct Opening<'o> {
    layout: Layout,
    ballast: Ballast,
    options: &'o StoreOptions,
    notes: Vec<RecoveryNote>,
}

impl Opening<'_> {
    fn open(&mut self) -> Result<(Ledger, Recovered), StoreError> {
        let path = self.layout.database();
        for unfinished in [&path, &self.layout.fallback(), &self.layout.ballast()]
            .map(|path| files::unfinished(path))
        {
            files::remove_if_there(&unfinished)
                .map_err(|error| Fault::from(error).at(&unfinished))?;
        }
        if !path.exists() {
            return self.without_file();
        }
        match self.with_room(|layout, options| open_file(&layout.database(), options)) {
            Err(Fault::Damaged(what)) => {
                self.quarantine(what)?;
                self.without_file()
            }
            result => result.map_err(|fault| fault.at(&path)),
        }
    }

    /// There is no file: from the fallback, or from nothing if there never was one.
    fn without_file(&mut self) -> Result<(Ledger, Recovered), StoreError> {
        let path = self.layout.fallback();
        let unopenable = |dir: &Path, what: String| StoreError::Unopenable {
            dir: dir.to_path_buf(),
            what,
        };
        let summary = match fallback::check(&path) {
            Err(Fault::Damaged(what)) => return Err(unopenable(&self.layout.dir, what)),
            Err(fault) => return Err(fault.at(&path)),
            Ok(None) if self.layout.quarantine(1).exists() => {
                return Err(unopenable(
                    &self.layout.dir,
                    format!(
                        "the file in it was damaged and is kept as {}",
                        self.layout.quarantine(1).display()
                    ),
                ));
            }
            Ok(summary) => summary,
        };
        let result = self.with_room(|layout, options| {
            let database = layout.database();
            files::write_whole(&database, |file| {
                drop(file);
                let disk = disk_of(&files::unfinished(&database))?;
                let ledger = Ledger::create(disk, options, |filler| match &summary {
                    Some(summary) => fallback::restore(&path, summary, filler),
                    None => Ok(()),
                })?;
                // Closed before it gets its name, so that what is renamed is a file that was closed cleanly.
                drop(ledger);
                Ok::<_, Fault>(())
            })?;
            open_file(&database, options)
        });
        if let Some(summary) = summary {
            self.notes.push(RecoveryNote::FellBack {
                epoch: summary.epoch,
                outbox_left_out: summary.outbox_left_out,
                dead_letters_left_out: summary.dead_left_out,
            });
        }
        result.map_err(|fault| fault.at(&self.layout.database()))
    }

    /// Once more without the ballast if the disk is full: redb writes when it opens.
    fn with_room<T>(
        &mut self,
        work: impl Fn(&Layout, &StoreOptions) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match work(&self.layout, self.options) {
            Err(Fault::Full) if self.ballast.free() => {
                self.notes.push(RecoveryNote::BallastFreed);
                work(&self.layout, self.options)
            }
            result => result,
        }
    }

    fn quarantine(&mut self, what: String) -> Result<(), StoreError> {
        let path = self.layout.database();
        let free = (1..=MAX_QUARANTINED)
            .map(|n| self.layout.quarantine(n))
            .find(|to| !to.exists());
        let Some(to) = free else {
            let what = format!(
                "{what}; {MAX_QUARANTINED} damaged files are in quarantine already, so the disk is probably failing"
            );
            return Err(StoreError::Unopenable {
                dir: self.layout.dir.clone(),
                what,
            });
        };
        fs::rename(&path, &to)
            .and_then(|()| files::sync_parent(&path))
            .map_err(|error| Fault::from(error).at(&path))?;
        self.notes.push(RecoveryNote::Quarantined { to, what });
        Ok(())
    }
}

fn lock(layout: &Layout) -> Result<File, StoreError> {
    let path = layout.lock();
    let open = || match files::open_private(&path, true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            files::open_private(&path, false)
        }
        result => result,
    };
    let file = open().map_err(|error| Fault::from(error).at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::Locked.at(&path)),
        Err(TryLockError::Error(error)) => Err(Fault::from(error).at(&path)),
    }
}

fn disk_of(path: &Path) -> Result<Disk, Fault> {
    Ok(Disk {
        backend: Box::new(FileBackend::new(files::open_private(path, false)?)?),
        directory: path.parent().map(Path::to_path_buf),
    })
}

fn open_file(path: &Path, options: &StoreOptions) -> Result<(Ledger, Recovered), Fault> {
    let disk = disk_of(path)?;
    // redb would begin a new database in an empty file, and what was there would be forgotten without a word.
    if disk.backend.len()? == 0 {
        return Err(Fault::damaged("it is empty"));
    }
    Ledger::open(disk, options)
}

/// At which committed byte the fallback was written, and its length. A damaged one is as good as none.
fn fallback_on_disk(layout: &Layout) -> Option<(u64, u64)> {
    let summary = fallback::check(&layout.fallback()).ok().flatten()?;
    Some((
        summary.committed_bytes,
        fs::metadata(layout.fallback()).ok()?.len(),
    ))
}
