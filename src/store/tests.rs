//! The store in a real directory: what it leaves there, and how it opens what it finds.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

mod damage;
mod flash;
mod full;

use super::*;

fn options() -> StoreOptions {
    StoreOptions {
        ballast_bytes: 64 << 10,
        ..StoreOptions::default()
    }
}

fn open(dir: &Path) -> (Store, Recovered) {
    Store::open(dir, &options()).unwrap()
}

fn delta(epoch: u64, bytes: &[u8]) -> EpochCommit {
    EpochCommit {
        epoch,
        state: StateWrite::Delta(bytes.to_vec()),
        meta: epoch.to_le_bytes().to_vec(),
        ..EpochCommit::default()
    }
}

fn chunk(connection: &str, first_number: u64, bytes: &[u8]) -> OutboxChunk {
    OutboxChunk {
        connection: connection.into(),
        first_number,
        rows: 2,
        appended_at_micros: 7,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

fn letter(payload: &[u8]) -> DeadLetter {
    DeadLetter {
        reason: "late".into(),
        payload: payload.to_vec(),
        ..DeadLetter::default()
    }
}

/// Three epochs with something of everything.
fn fill(store: &mut Store) {
    store
        .commit(&EpochCommit {
            state: StateWrite::Snapshot(vec![Packed::of(b"base"), Packed::of(b"")]),
            ..delta(1, b"")
        })
        .unwrap();
    store
        .commit(&EpochCommit {
            outbox_append: vec![chunk("cloud", 1, b"rows"), chunk("cloud", 3, b"more")],
            ..delta(2, b"two")
        })
        .unwrap();
    store
        .commit(&EpochCommit {
            dead_append: vec![letter(b"first"), letter(b"second")],
            outbox_remove: vec![("cloud".into(), 3)],
            ..delta(3, b"three")
        })
        .unwrap();
}

/// A directory with what [`fill`] commits, and a fallback of it.
fn filled_with_fallback() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store);
    store.export_fallback().unwrap();
    dir
}

fn assert_filled(store: &mut Store, recovered: &Recovered) {
    assert_eq!(recovered.epoch, 3);
    assert_eq!(
        recovered.meta.as_deref(),
        Some(3u64.to_le_bytes().as_slice())
    );
    assert_eq!(recovered.base, [Packed::of(b"base"), Packed::of(b"")]);
    assert_eq!(
        recovered.deltas,
        [(2, b"two".to_vec()), (3, b"three".to_vec())]
    );
    let index = OutboxIndex {
        connection: "cloud".into(),
        first_number: 1,
        rows: 2,
        len_bytes: 4,
        appended_at_micros: 7,
    };
    assert_eq!(recovered.outbox, [index]);
    assert_eq!(store.read_outbox("cloud", 1).unwrap(), b"rows");
    let letters = store.dead_letters_after(0, 10).unwrap();
    assert_eq!(
        letters
            .iter()
            .map(|(_, letter)| letter.payload.as_slice())
            .collect::<Vec<_>>(),
        [b"first".as_slice(), b"second"]
    );
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    fill(&mut store);
    drop(store);
    let (mut store, recovered) = open(dir.path());
    assert!(recovered.notes.is_empty());
    assert_filled(&mut store, &recovered);
    assert!(matches!(
        store.read_outbox("cloud", 3),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn files_are_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("deep/state");
    let (mut store, _) = open(&state);
    store.export_fallback().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut names: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(names.iter().all(|path| mode(path) == 0o600), "{names:?}");
    assert_eq!(
        names
            .iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap())
            .collect::<Vec<_>>(),
        ["ballast", "headwater.redb", "lock", "state.fallback"]
    );
}

#[test]
fn a_second_process_is_told_which_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = open(dir.path());
    let error = Store::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(
        error.to_string().contains(dir.path().to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn epochs_follow_each_other_and_chunks_do_not_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store);
    for epoch in [0, 3, 5] {
        assert!(matches!(
            store.commit(&delta(epoch, b"")),
            Err(StoreError::Misuse { .. })
        ));
    }
    let twice = EpochCommit {
        outbox_append: vec![chunk("cloud", 1, b"other")],
        ..delta(4, b"lost")
    };
    assert!(matches!(
        store.commit(&twice),
        Err(StoreError::Misuse { .. })
    ));
    assert_eq!(store.epoch(), 3);
    let replaced = EpochCommit {
        outbox_remove: vec![("cloud".into(), 1)],
        ..twice
    };
    store.commit(&replaced).unwrap();
    assert_eq!(store.read_outbox("cloud", 1).unwrap(), b"other");
}

#[test]
fn the_oldest_dead_letters_go_first_and_ids_are_never_reused() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        dead_letters_limit_count: 3,
        dead_letters_limit_bytes: 100,
        ..options()
    };
    let (mut store, _) = Store::open(dir.path(), &options).unwrap();
    let commit = |epoch, letters: Vec<DeadLetter>| EpochCommit {
        dead_append: letters,
        ..delta(epoch, b"")
    };
    let stats = store
        .commit(&commit(1, (0..5).map(|i| letter(&[i])).collect()))
        .unwrap();
    assert_eq!(
        (
            stats.first_dead_letter_id,
            stats.dead_letters_dropped,
            stats.totals.dead_letters
        ),
        (1, 2, 3)
    );
    let ids = |store: &mut Store| {
        store
            .dead_letters_after(0, 9)
            .unwrap()
            .iter()
            .map(|(id, _)| *id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&mut store), [3, 4, 5]);
    // By bytes: one that is larger than the limit takes all others with it, and goes too.
    let stats = store.commit(&commit(2, vec![letter(&[0; 200])])).unwrap();
    assert_eq!(
        (
            stats.dead_letters_dropped,
            stats.totals.dead_letters,
            stats.totals.dead_letter_bytes
        ),
        (4, 0, 0)
    );
    drop(store);
    let (mut store, _) = Store::open(dir.path(), &options).unwrap();
    let stats = store
        .commit(&EpochCommit {
            dead_remove: vec![7, 1],
            ..commit(3, vec![letter(b"a"), letter(b"b"), letter(b"c")])
        })
        .unwrap();
    assert_eq!(stats.first_dead_letter_id, 7);
    assert_eq!(ids(&mut store), [7, 8, 9]);
    assert_eq!(
        store
            .dead_letters_before(u64::MAX, 2)
            .unwrap()
            .iter()
            .map(|(id, _)| *id)
            .collect::<Vec<_>>(),
        [9, 8]
    );
    assert_eq!(store.dead_letters_after(7, 1).unwrap()[0].0, 8);
    assert_eq!(store.dead_letter(8).unwrap().payload, b"b");
    assert!(matches!(
        store.dead_letter(1),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = filled_with_fallback();
    let path = dir.path().join("state.fallback");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.write_all_at(&[record::FORMAT + 1], 8).unwrap();
    fs::rename(
        dir.path().join("headwater.redb"),
        dir.path().join("elsewhere"),
    )
    .unwrap();
    let error = Store::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::OtherFormat { .. }), "{error}");
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn the_file_of_an_older_build_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headwater.redb");
    let db = redb::Database::create(&path).unwrap();
    let tx = db.begin_write().unwrap();
    let deltas: redb::TableDefinition<'_, (u64, u32), &[u8]> = redb::TableDefinition::new("deltas");
    tx.open_table(deltas).unwrap();
    let mut frame = [0; record::FRAME_BYTES + 2];
    record::fill_frame(&mut frame, record::Kind::Head, 0, b"12");
    frame[0] = 3;
    tx.open_table(ledger::HEAD)
        .unwrap()
        .insert(0, frame.as_slice())
        .unwrap();
    tx.commit().unwrap();
    drop(db);
    let error = Store::open(dir.path(), &options()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has storage format 3, this program reads format 5"),
        "{error}"
    );
    assert!(path.exists());
    assert!(!dir.path().join("headwater.redb.corrupt-1").exists());
}

#[test]
fn a_fallback_keeps_to_its_limit_and_says_what_was_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        fallback_limit_bytes: 5_000,
        fallback_every_bytes: 3_000,
        ..options()
    };
    let (mut store, _) = Store::open(dir.path(), &options).unwrap();
    assert!(!store.fallback_is_due());
    let outbox_append = (0..4).map(|n| chunk("cloud", n, &noise(1_500))).collect();
    store
        .commit(&EpochCommit {
            outbox_append,
            dead_append: vec![letter(&[1; 3_000]), letter(b"small")],
            ..delta(1, &noise(1_000))
        })
        .unwrap();
    assert!(store.fallback_is_due());
    let stats = store.export_fallback().unwrap().unwrap();
    assert_eq!((stats.outbox_left_out, stats.dead_letters_left_out), (2, 1));
    assert!(!store.fallback_is_due());
    // The state itself does not fit: there is no new fallback, and the old one stays.
    store.commit(&delta(2, &noise(6_000))).unwrap();
    assert_eq!(store.export_fallback().unwrap(), None);
    drop(store);
    fs::write(dir.path().join("headwater.redb"), b"").unwrap();
    let (_store, recovered) = Store::open(dir.path(), &options).unwrap();
    assert_eq!((recovered.epoch, recovered.outbox.len()), (1, 2));
    assert!(recovered.notes.contains(&RecoveryNote::FellBack {
        epoch: 1,
        outbox_left_out: 2,
        dead_letters_left_out: 1
    }));
}

#[test]
fn a_fallback_waits_for_the_fold_after_which_it_is_short() {
    let due = |limit_bytes, folds: &[u64]| {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            fallback_limit_bytes: limit_bytes,
            fallback_every_bytes: 3_000,
            ..options()
        };
        let (mut store, _) = Store::open(dir.path(), &options).unwrap();
        let mut due = Vec::new();
        for epoch in 1..=16 {
            let state = if folds.contains(&epoch) {
                StateWrite::Snapshot(vec![Packed::of(&noise(500))])
            } else {
                StateWrite::Delta(noise(1_000))
            };
            let commit = EpochCommit {
                state,
                ..delta(epoch, b"")
            };
            store.commit(&commit).unwrap();
            if store.fallback_is_due() {
                store.export_fallback().unwrap();
                due.push(epoch);
            }
        }
        due
    };
    // At most twice as long, and then with all the deltas.
    assert_eq!(due(1 << 20, &[1, 5, 9]), [5, 9, 15]);
    // Not before there is room.
    assert_eq!(due(2_000, &[1, 12]), [12]);
}

#[test]
fn the_ballast_holds_real_space_and_comes_back() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let path = dir.path().join("ballast");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(meta.len(), 64 << 10);
    assert!(meta.blocks() * 512 >= meta.len(), "sparse");
    assert!(!store.ballast_is_missing());
    drop(store);
    fs::remove_file(&path).unwrap();
    (store, _) = open(dir.path());
    assert!(path.exists() && store.restore_ballast().unwrap());
}

/// Bytes that cannot be packed.
fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}
