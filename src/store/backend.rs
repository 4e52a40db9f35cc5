//! What stands between redb and the disk: it counts what is written, fills what the file grows by, and remembers the first
//! error, because redb forgets it.
//!
//! Why it fills: a file that grows by its length alone has holes, and a filesystem that gives a hole its block journals
//! that, 20 to 30 KB with each commit (ext4) until the last hole is gone. Filled at once it costs the growth alone, and
//! a full disk shows itself there.
//!
//! Invariant: what redb writes and reads passes through as it is.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

use super::error::Fault;

/// What a disk writes at the least.
const BLOCK_BYTES: u64 = 4_096;
/// What a file grows by is filled with writes of this size.
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

/// A backend whose traffic is counted.
#[derive(Debug)]
pub(super) struct Metered {
    inner: Box<dyn StorageBackend>,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(inner: Box<dyn StorageBackend>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
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
        self.meter.note(self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.meter.note(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.meter.note(self.inner.len().and_then(|before| {
            self.inner.set_len(len)?;
            if len <= before {
                return Ok(());
            }
            // redb opens only lengths that it has set: none of the writes may be what makes the file longer.
            self.inner.sync_data()?;
            let zeros = vec![0; FILL_BYTES.min((len - before) as usize)];
            for offset in (before..len).step_by(FILL_BYTES) {
                let end = len.min(offset + FILL_BYTES as u64);
                self.count(offset, end);
                self.inner
                    .write(offset, &zeros[..(end - offset) as usize])?;
            }
            Ok(())
        }))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.meter.note(self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.count(offset, offset + data.len() as u64);
        self.meter.note(self.inner.write(offset, data))
    }

    fn close(&self) -> Result<(), io::Error> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
