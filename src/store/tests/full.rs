//! A disk that is full to the last byte.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

/// A file that may be so long and no longer.
#[derive(Clone, Debug, Default)]
struct Capped {
    bytes: Arc<Mutex<Vec<u8>>>,
    most: Arc<AtomicU64>,
}

impl StorageBackend for Capped {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let at = at as usize;
        let found = bytes.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        if len > self.most.load(Ordering::Relaxed).max(bytes.len() as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let at = at as usize;
        self.bytes.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn what_a_commit_has_freed_is_there_for_the_next_where_there_is_no_more() {
    let disk = Capped::default();
    disk.most.store(2 << 20, Ordering::Relaxed);
    let options = StoreOptions {
        ballast_bytes: 0,
        ..StoreOptions::default()
    };
    let backend = disk.clone();
    let (mut store, _) = Store::open_with_backend(move || Ok(backend.clone()), &options).unwrap();
    let adding = |epoch| EpochCommit {
        outbox_append: vec![chunk("cloud", epoch, &noise(30_000))],
        ..delta(epoch, b"")
    };
    let full = (1..1_000)
        .find(|epoch| store.commit(&adding(*epoch)).is_err())
        .unwrap();
    // A ballast is given up, as large as it takes to remove something.
    disk.most.fetch_add(256 << 10, Ordering::Relaxed);
    let gone = full * 3 / 4;
    let removing = EpochCommit {
        outbox_remove: (1..=gone).map(|number| ("cloud".into(), number)).collect(),
        ..delta(full, b"")
    };
    commit_at_last(&mut store, &removing);
    disk.most.store(0, Ordering::Relaxed);
    // Half of what has gone.
    let large = EpochCommit {
        state: StateWrite::Snapshot((0..gone / 4).map(|_| Packed::of(&noise(60_000))).collect()),
        ..delta(full + 1, b"")
    };
    commit_at_last(&mut store, &large);
}

/// Gives a commit again that a full disk has refused, as whoever commits does.
fn commit_at_last(store: &mut Store, commit: &EpochCommit) {
    let refused = (0..3).map_while(|_| store.commit(commit).err());
    let refused: Vec<_> = refused.collect();
    assert!(refused.len() < 3, "{refused:?}");
}
