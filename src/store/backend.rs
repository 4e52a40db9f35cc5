//! What stands between redb and the disk: it counts what is written, fills what a small file grows by, and remembers the
//! first error, because redb forgets it.
//!
//! Why it fills: a file that grows by its length alone has holes, and a filesystem that gives a hole its block journals
//! that, 20 to 30 KB with each commit (ext4) until the last hole is gone. Filled at once it costs the growth alone. A larger
//! file is not filled: it grows by commits that write much themselves, an outbox makes it longer and shorter, and redb doubles
//! it. Nor is it where the disk has little more left than that: what redb does not need yet belongs to others.
//!
//! Invariant: what redb writes and reads passes through as it is.

use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

use super::error::Fault;
use super::files;

/// What a disk writes at the least.
const BLOCK_BYTES: u64 = 4_096;
/// The part of the file that is filled, from its beginning,
pub(super) const FILLED_BYTES: u64 = 1 << 20;
/// with writes of this size.
const FILL_BYTES: usize = 64 << 10;

/// What was counted, shared by the store and the backend that redb owns.
#[derive(Debug, Default)]
pub(super) struct Meter {
    written_bytes: AtomicU64,
    first_error: Mutex<Option<io::ErrorKind>>,
}

impl Meter {
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// `fault`, or what it came from: after the first error redb only says that there was one.
    pub(super) fn fault(&self, fault: Fault) -> Fault {
        let first = *self
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match (fault, first.map(|kind| Fault::from(io::Error::from(kind)))) {
            (Fault::Io(error), Some(Fault::Io(_))) if error.raw_os_error().is_some() => {
                Fault::Io(error)
            }
            (Fault::Io(_), Some(first))
            | (Fault::Damaged(_), Some(first @ (Fault::Full | Fault::Io(_)))) => first,
            (fault, _) => fault,
        }
    }

    fn note<T>(&self, result: Result<T, io::Error>) -> Result<T, io::Error> {
        if let Err(error) = &result {
            self.first_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error.kind());
        }
        result
    }
}

/// What the file may grow by at once, as a part of what is free: one of so many.
const ROOM: u64 = 4;

/// Where the file is.
#[derive(Debug)]
pub(super) struct Disk {
    /// The file.
    pub(super) backend: Box<dyn StorageBackend>,
    /// Its directory; `None` for a simulated disk, which has room.
    pub(super) directory: Option<PathBuf>,
}

impl Disk {
    /// Whether it has plenty of room for so many bytes.
    fn has_room(&self, bytes: u64) -> bool {
        let Some(directory) = &self.directory else {
            return true;
        };
        files::free_bytes(directory).is_ok_and(|free_bytes| free_bytes / ROOM >= bytes)
    }
}

/// A backend whose traffic is counted.
#[derive(Debug)]
pub(super) struct Metered {
    disk: Disk,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(disk: Disk, meter: Arc<Meter>) -> Self {
        Self { disk, meter }
    }

    /// Counts the blocks of a write.
    fn count(&self, begin: u64, end: u64) {
        let blocks = end.div_ceil(BLOCK_BYTES) - begin / BLOCK_BYTES;
        self.meter
            .written_bytes
            .fetch_add(blocks * BLOCK_BYTES, Ordering::Relaxed);
    }
}

impl StorageBackend for Metered {
    fn len(&self) -> Result<u64, io::Error> {
        self.meter.note(self.disk.backend.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.meter.note(self.disk.backend.read(offset, out))
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.meter.note(self.disk.backend.len().and_then(|before| {
            self.disk.backend.set_len(len)?;
            let filled = len.min(FILLED_BYTES);
            if filled <= before || !self.disk.has_room(filled - before) {
                return Ok(());
            }
            // redb opens only lengths that it has set: none of the writes may be what makes the file longer.
            self.disk.backend.sync_data()?;
            let zeros = vec![0; FILL_BYTES];
            for offset in (before..filled).step_by(FILL_BYTES) {
                let end = filled.min(offset + FILL_BYTES as u64);
                self.count(offset, end);
                self.disk
                    .backend
                    .write(offset, &zeros[..(end - offset) as usize])?;
            }
            Ok(())
        }))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.meter.note(self.disk.backend.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.count(offset, offset + data.len() as u64);
        self.meter.note(self.disk.backend.write(offset, data))
    }

    fn close(&self) -> Result<(), io::Error> {
        self.disk.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.disk.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.backend.query_lock_range(start, end)
    }
}
