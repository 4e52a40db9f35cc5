//! Cuts the power at every flush of the store, and looks at what is left.
//!
//! A gateway lives several lives on one simulated disk. In each it opens the store and commits random epochs; at
//! every flush, also those of opening and of closing, images are made of what a power cut may leave: unflushed writes
//! lost, torn, out of order. Every image must open, and hold the last acknowledged epoch or the one in flight, whole.
//! The next life begins on one of the images.
//!
//! `HEADWATER_SEED=n` runs one seed alone, `HEADWATER_SEEDS=n` that many.

#[path = "support/disk.rs"]
mod disk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use disk::{Disk, Random};
use headwater::state::Packed;
use headwater::store::{
    DeadLetter, EpochCommit, OutboxChunk, Recovered, StateWrite, Store, StoreError, StoreOptions,
};

const SEEDS: u64 = 16;
const LIVES: usize = 3;
const EPOCHS: usize = 14;
const IMAGES_PER_FLUSH: usize = 3;
const DEAD_LIMIT: u64 = 6;

/// What the store must hold after an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    epoch: u64,
    meta: Option<Vec<u8>>,
    base: Vec<Packed>,
    deltas: Vec<(u64, Vec<u8>)>,
    outbox: BTreeMap<(String, u64), OutboxChunk>,
    dead: Vec<(u64, DeadLetter)>,
    next_dead_id: u64,
}

impl Model {
    /// The naive reference of a commit.
    fn after(&self, commit: &EpochCommit) -> Self {
        let mut next = self.clone();
        next.epoch = commit.epoch;
        next.meta = Some(commit.meta.clone());
        match &commit.state {
            StateWrite::Unchanged => {}
            StateWrite::Delta(delta) => next.deltas.push((commit.epoch, delta.clone())),
            StateWrite::Snapshot(chunks) => (next.base, next.deltas) = (chunks.clone(), Vec::new()),
        }
        for (connection, number) in &commit.outbox_remove {
            next.outbox.remove(&(connection.to_string(), *number));
        }
        for chunk in &commit.outbox_append {
            next.outbox.insert(
                (chunk.connection.to_string(), chunk.first_number),
                chunk.clone(),
            );
        }
        next.dead.retain(|(id, _)| !commit.dead_remove.contains(id));
        for letter in &commit.dead_append {
            next.next_dead_id += 1;
            next.dead.push((next.next_dead_id, letter.clone()));
        }
        let surplus = next.dead.len().saturating_sub(DEAD_LIMIT as usize);
        next.dead.drain(..surplus);
        next
    }

    /// A commit that does something of everything, now and then.
    fn random_commit(&self, random: &mut Random) -> EpochCommit {
        let epoch = self.epoch + 1;
        let size =
            |random: &mut Random| [0, 5, 300, 5_000, 40_000][random.below(5)] + random.below(20);
        let state = match random.below(8) {
            0 => StateWrite::Unchanged,
            1 => StateWrite::Snapshot(
                (0..random.below(5))
                    .map(|_| {
                        let len = size(random);
                        Packed::of(&random.bytes(len))
                    })
                    .collect(),
            ),
            _ => StateWrite::Delta({
                let len = size(random);
                random.bytes(len)
            }),
        };
        let outbox_append = (0..random.below(3))
            .map(|i| OutboxChunk {
                connection: ["cloud", "site"][random.below(2)].into(),
                first_number: epoch * 10 + i as u64,
                rows: random.below(100) as u32,
                appended_at_micros: random.next() as i64,
                bytes: {
                    let len = size(random);
                    random.bytes(len).into()
                },
            })
            .collect();
        let outbox_remove = self
            .outbox
            .keys()
            .filter(|_| random.once_in(3))
            .map(|(connection, number)| (connection.into(), *number))
            .collect();
        let dead_append = (0..random.below(4) / 2)
            .map(|_| DeadLetter {
                reason: "late".into(),
                topic: format!("t/{epoch}"),
                payload: {
                    let len = size(random) % 900;
                    random.bytes(len)
                },
                ..DeadLetter::default()
            })
            .collect();
        let dead_remove = self
            .dead
            .iter()
            .filter(|_| random.once_in(6))
            .map(|(id, _)| *id)
            .collect();
        EpochCommit {
            epoch,
            state,
            meta: random.bytes(40),
            outbox_remove,
            outbox_append,
            dead_append,
            dead_remove,
        }
    }
}

fn options() -> StoreOptions {
    StoreOptions {
        dead_letters_limit_count: DEAD_LIMIT,
        ..StoreOptions::default()
    }
}

fn open(disk: &Disk) -> Result<(Store, Recovered), String> {
    let disk = disk.clone();
    Store::open_with_backend(move || Ok(disk.clone()), &options())
        .map_err(|error| format!("does not open: {error}"))
}

/// Everything the store holds, as a model.
fn read_all(store: &mut Store, recovered: &Recovered) -> Result<Model, String> {
    if !recovered.notes.is_empty() {
        return Err(format!("notes: {:?}", recovered.notes));
    }
    let mut outbox = BTreeMap::new();
    for index in &recovered.outbox {
        let bytes = store
            .read_outbox(&index.connection, index.first_number)
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 != index.len_bytes {
            return Err("an outbox chunk has another length than its index".into());
        }
        let chunk = OutboxChunk {
            connection: index.connection.clone(),
            first_number: index.first_number,
            rows: index.rows,
            appended_at_micros: index.appended_at_micros,
            bytes: bytes.into(),
        };
        outbox.insert((index.connection.to_string(), index.first_number), chunk);
    }
    Ok(Model {
        epoch: recovered.epoch,
        meta: recovered.meta.clone(),
        base: recovered.base.clone(),
        deltas: recovered.deltas.clone(),
        outbox,
        dead: store
            .dead_letters_after(0, 1_000)
            .map_err(|error| error.to_string())?,
        next_dead_id: 0,
    })
}

/// The model that `disk` holds, which must be one of `allowed`.
fn check(disk: &Disk, allowed: &[Model], random: &mut Random) -> Result<Model, String> {
    let (mut store, recovered) = open(disk)?;
    let found = read_all(&mut store, &recovered)?;
    let expected = allowed.iter().find(|model| model.epoch == found.epoch);
    let Some(expected) = expected else {
        let epochs: Vec<u64> = allowed.iter().map(|model| model.epoch).collect();
        return Err(format!(
            "holds epoch {} where {epochs:?} would do",
            found.epoch
        ));
    };
    if (Model {
        next_dead_id: expected.next_dead_id,
        ..found
    }) != *expected
    {
        return Err(format!("epoch {} is not whole", expected.epoch));
    }
    // Now and then: it also goes on from there.
    if random.once_in(8) {
        let commit = expected.random_commit(random);
        store
            .commit(&commit)
            .map_err(|error| format!("does not go on: {error}"))?;
        drop(store);
        let next = Model {
            epoch: commit.epoch,
            ..expected.after(&commit)
        };
        let (mut store, recovered) = open(disk)?;
        let found = read_all(&mut store, &recovered)?;
        if (Model {
            next_dead_id: next.next_dead_id,
            ..found
        }) != next
        {
            return Err("the epoch after the cut is not whole".into());
        }
    }
    Ok(expected.clone())
}

/// What the watcher of the disk and the life share.
struct Shared {
    allowed: Vec<Model>,
    random: Random,
    images: usize,
    failures: Vec<String>,
    /// An image to begin the next life on.
    next_life: Option<Vec<u8>>,
}

#[test]
fn every_power_cut_leaves_a_whole_epoch() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse::<u64>().ok())
    };
    let seeds = number("HEADWATER_SEED")
        .map_or(0..number("HEADWATER_SEEDS").unwrap_or(SEEDS), |seed| {
            seed..seed + 1
        });
    let one_seed = seeds.end - seeds.start < SEEDS;
    let images: usize = seeds.map(one_gateway).sum();
    println!("{images} images, all whole");
    assert!(one_seed || images >= 2_000, "only {images} images");
}

fn one_gateway(seed: u64) -> usize {
    let mut random = Random(seed);
    // The file is made under another name and renamed, so no cut is to be survived before it is there.
    let mut disk = Disk::default();
    drop(open(&disk).expect("an empty disk opens"));
    let mut model = Model::default();
    let mut images = 0;
    for life in 0..LIVES {
        let shared = Arc::new(Mutex::new(Shared {
            allowed: vec![model.clone()],
            random: Random(random.next()),
            images: 0,
            failures: Vec::new(),
            next_life: None,
        }));
        let watcher = Arc::clone(&shared);
        disk.watch(Box::new(move |cut| {
            let mut guard = watcher.lock().expect("no one panics with it");
            let shared = &mut *guard;
            for _ in 0..IMAGES_PER_FLUSH {
                let image = cut.image(&mut shared.random);
                shared.images += 1;
                if let Err(failure) = check(
                    &Disk::holding(image.clone()),
                    &shared.allowed,
                    &mut shared.random,
                ) {
                    shared.failures.push(failure);
                }
                if shared.allowed.len() == 2 && shared.random.once_in(20) {
                    shared.next_life = Some(image);
                }
            }
        }));
        let survive = |place: &str| {
            let shared = shared.lock().expect("no one panics with it");
            assert!(
                shared.failures.is_empty(),
                "HEADWATER_SEED={seed}, life {life}, {place}: {:?}",
                shared.failures
            );
        };
        let (mut store, _) = open(&disk)
            .unwrap_or_else(|error| panic!("HEADWATER_SEED={seed}, life {life}: {error}"));
        survive("opening");
        let mut crash = None;
        for _ in 0..EPOCHS {
            let commit = model.random_commit(&mut random);
            let next = model.after(&commit);
            shared.lock().expect("no one panics with it").allowed =
                vec![model.clone(), next.clone()];
            store.commit(&commit).unwrap_or_else(|error| {
                panic!(
                    "HEADWATER_SEED={seed}, life {life}, epoch {}: {error}",
                    commit.epoch
                )
            });
            survive(&format!("epoch {}", commit.epoch));
            let mut shared = shared.lock().expect("no one panics with it");
            let cut = shared.next_life.take().filter(|_| random.once_in(3));
            if let Some(image) = cut {
                crash = Some((image, shared.allowed.clone()));
                break;
            }
            shared.allowed = vec![next.clone()];
            drop(shared);
            model = next;
        }
        drop(store);
        survive("closing");
        disk.unwatch();
        images += shared.lock().expect("no one panics with it").images;
        if let Some((image, allowed)) = crash {
            let copy = Disk::holding(image.clone());
            let mut quiet = Random(1); // which does not go on from there
            model = check(&copy, &allowed, &mut quiet)
                .unwrap_or_else(|error| panic!("HEADWATER_SEED={seed}, life {life}: {error}"));
            disk = Disk::holding(image);
        }
    }
    images
}

/// After an I/O error, given the same commit again, the store must say `Ok` and hold the epoch once, wherever the
/// error was.
#[test]
fn a_commit_given_again_after_an_io_error_takes_effect_once() {
    let mut failed = [0; 2];
    for seed in 0..40 {
        let mut random = Random(seed);
        let disk = Disk::default();
        let (mut store, _) = open(&disk).expect("an empty disk opens");
        let mut model = Model::default();
        for after in 0..40 {
            let commit = model.random_commit(&mut random);
            let kind =
                [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull][random.below(2)];
            disk.fail(after / 2, kind, random.clone());
            let first = store.commit(&commit);
            let had_failed = disk.mend();
            model = model.after(&commit);
            let place = || format!("seed {seed}, failure after {after}: {first:?}");
            match &first {
                Ok(_) => assert!(!had_failed, "{}", place()),
                Err(StoreError::DiskFull {
                    ballast_freed: false,
                    ..
                }) => failed[0] += 1,
                Err(StoreError::Io { .. }) => failed[1] += 1,
                Err(other) => panic!("{}: {other}", place()),
            }
            if first.is_err() {
                store
                    .commit(&commit)
                    .unwrap_or_else(|error| panic!("{}: again: {error}", place()));
            }
            let totals = (
                store.epoch(),
                store.totals().outbox_chunks,
                store.totals().dead_letters,
            );
            assert_eq!(
                totals,
                (
                    model.epoch,
                    model.outbox.len() as u64,
                    model.dead.len() as u64
                ),
                "{}",
                place()
            );
        }
        drop(store);
        check(&disk, &[model], &mut random).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    println!("{failed:?} commits met a full or a failing disk");
    assert!(failed.iter().all(|n| *n > 200), "{failed:?}");
}
