//! Fills a real, small file system under the store: full disks deadlock redb, and only a real one shows it.
//!
//! `HEADWATER_TEST_SMALL_FS` names a directory on a file system of 16 to 64 MiB that nobody else uses (a loop-mounted
//! ext4).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use headwater::store::{
    EpochCommit, OutboxChunk, Recovered, StateWrite, Store, StoreError, StoreOptions,
};

fn small_fs(name: &str) -> PathBuf {
    let root = std::env::var("HEADWATER_TEST_SMALL_FS")
        .expect("HEADWATER_TEST_SMALL_FS names the mount point of a small file system");
    let dir = Path::new(&root).join(name);
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// Bytes that cannot be packed.
fn bytes_of(epoch: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(epoch);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// An epoch that adds to the state and to the outbox.
fn growing(epoch: u64) -> EpochCommit {
    EpochCommit {
        epoch,
        state: StateWrite::Delta(bytes_of(epoch, 3_000)),
        meta: epoch.to_le_bytes().to_vec(),
        outbox_append: vec![OutboxChunk {
            connection: "cloud".into(),
            first_number: epoch,
            rows: 1,
            appended_at_micros: 0,
            bytes: bytes_of(epoch, 60_000).into(),
        }],
        ..EpochCommit::default()
    }
}

fn assert_whole(store: &mut Store, recovered: &Recovered, epochs: u64, removed: u64) {
    assert_eq!(recovered.epoch, epochs);
    for (index, (epoch, delta)) in recovered.deltas.iter().enumerate() {
        assert!(
            *epoch == index as u64 + 1 && *delta == bytes_of(*epoch, 3_000),
            "delta {epoch}"
        );
    }
    for number in removed + 1
        ..=recovered
            .outbox
            .last()
            .expect("it is not empty")
            .first_number
    {
        assert!(
            store
                .read_outbox("cloud", number)
                .expect("the chunk is there")
                == bytes_of(number, 60_000),
            "chunk {number}"
        );
    }
}

#[test]
#[ignore = "needs a small file system of its own in HEADWATER_TEST_SMALL_FS"]
fn a_full_disk_stops_nothing_for_good() {
    let dir = small_fs("full");
    let options = StoreOptions {
        ballast_bytes: 2 << 20,
        ..StoreOptions::default()
    };
    let (mut store, recovered) = Store::open(&dir, &options).expect("there is space at first");
    assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);

    // Until it is full.
    let mut epoch = 1;
    let error = loop {
        match store.commit(&growing(epoch)) {
            Ok(_) => epoch += 1,
            Err(error) => break error,
        }
        assert!(epoch < 10_000, "the file system is not small");
    };
    assert!(
        matches!(
            error,
            StoreError::DiskFull {
                ballast_freed: true,
                ..
            }
        ) && error.is_retryable(),
        "{error}"
    );
    assert!(store.ballast_is_missing() && !dir.join("ballast").exists());
    assert_eq!(store.epoch(), epoch - 1);
    println!("full at epoch {epoch}");

    // The same commit, in the space of the ballast.
    store
        .commit(&growing(epoch))
        .expect("the ballast made room");
    // An outbox that drains makes room inside the file, so draining goes on for ever on a full disk.
    let mut removed = 0;
    for _ in 0..20 {
        epoch += 1;
        removed += 1;
        let drain = EpochCommit {
            epoch,
            meta: vec![1],
            outbox_remove: vec![("cloud".into(), removed)],
            ..EpochCommit::default()
        };
        store.commit(&drain).expect("removing needs little");
    }
    assert!(
        !store.restore_ballast().expect("asking is no error"),
        "there is no space for a ballast yet"
    );

    // And full again, now without a ballast: the error says so, again and again, and nothing breaks.
    let last = epoch;
    let deltas = |epoch| EpochCommit {
        epoch,
        meta: vec![2],
        outbox_append: vec![OutboxChunk {
            connection: "site".into(),
            ..growing(epoch).outbox_append.remove(0)
        }],
        ..EpochCommit::default()
    };
    let mut refused = 0;
    for _ in 0..2_000 {
        match store.commit(&deltas(epoch + 1)) {
            Ok(_) => epoch += 1,
            Err(error) => {
                assert!(
                    matches!(
                        error,
                        StoreError::DiskFull {
                            ballast_freed: false,
                            ..
                        }
                    ),
                    "{error}"
                );
                refused += 1;
                if refused == 5 {
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 5, "it did not fill again after epoch {last}");
    let stuck = epoch;

    // A restart on the full disk.
    drop(store);
    let (mut store, recovered) =
        Store::open(&dir, &options).expect("a full disk is no reason not to start");
    assert_eq!(recovered.epoch, stuck);
    println!(
        "restarted on the full disk at epoch {stuck}: {:?}",
        recovered.notes
    );

    // Everything acknowledged is there, whatever was refused on the way.
    assert_eq!(
        recovered
            .outbox
            .iter()
            .filter(|index| index.connection == "site")
            .count() as u64,
        stuck - last
    );
    let cloud = Recovered {
        outbox: recovered
            .outbox
            .iter()
            .filter(|index| index.connection == "cloud")
            .cloned()
            .collect(),
        ..recovered
    };
    assert_whole(&mut store, &cloud, stuck, removed);
    drop(store);
    let _ = fs::remove_dir_all(&dir);
}

#[test]
#[ignore = "needs a small file system of its own in HEADWATER_TEST_SMALL_FS"]
fn it_goes_on_when_space_returns() {
    let dir = small_fs("returns");
    let options = StoreOptions {
        ballast_bytes: 1 << 20,
        ..StoreOptions::default()
    };
    let (mut store, _) = Store::open(&dir, &options).expect("there is space at first");
    // Another program takes all of the disk.
    let hog = dir.join("hog");
    let mut file = fs::File::create(&hog).expect("a file can be made");
    let block = vec![0x5a; 65_536];
    while file.write_all(&block).is_ok() {}
    let _ = file.sync_all();
    let mut epoch = 1;
    let mut freed = 0;
    let mut refused = 0;
    while refused < 5 && epoch < 10_000 {
        match store.commit(&growing(epoch)) {
            Ok(_) => epoch += 1,
            Err(StoreError::DiskFull {
                ballast_freed: true,
                ..
            }) => freed += 1,
            Err(StoreError::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((freed, refused), (1, 5));
    println!("stuck before epoch {epoch}");
    drop(file);
    fs::remove_file(&hog).expect("it is there");
    // The very commit that was refused.
    let committed = epoch;
    store
        .commit(&growing(committed))
        .expect("there is space again");
    assert!(store.restore_ballast().expect("there is space again") && dir.join("ballast").exists());
    drop(store);
    let (mut store, recovered) = Store::open(&dir, &options).expect("there is space");
    assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);
    assert_whole(&mut store, &recovered, committed, 0);
    let _ = fs::remove_dir_all(&dir);
}
