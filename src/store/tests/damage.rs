//! What does not open, or is not what was written.

use super::*;

#[test]
fn a_file_that_does_not_open_is_kept_and_the_fallback_takes_its_place() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 5] = [
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("not a database", |path| {
            fs::write(path, [7; 9_000]).unwrap();
        }),
        ("cut off", |path| {
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(8_192)
                .unwrap();
        }),
        ("header zeroed", |path| {
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(&[0; 4_096], 0)
                .unwrap();
        }),
        ("pages overwritten", |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let len = file.metadata().unwrap().len();
            file.write_all_at(&vec![0x55; len as usize - 4_096], 4_096)
                .unwrap();
        }),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store);
        let stats = store.export_fallback().unwrap().unwrap();
        assert_eq!(
            (
                stats.epoch,
                stats.outbox_left_out,
                stats.dead_letters_left_out
            ),
            (3, 0, 0)
        );
        store.commit(&delta(4, b"after the fallback")).unwrap();
        drop(store);
        let path = dir.path().join("headwater.redb");
        damage(&path);
        let kept = fs::read(&path).unwrap();

        let (mut store, recovered) = open(dir.path());
        assert_filled(&mut store, &recovered);
        let [RecoveryNote::Quarantined { to, .. }, fell_back] = recovered.notes.as_slice() else {
            panic!("{name}: {:?}", recovered.notes)
        };
        assert_eq!(
            *fell_back,
            RecoveryNote::FellBack {
                epoch: 3,
                outbox_left_out: 0,
                dead_letters_left_out: 0
            },
            "{name}"
        );
        assert_eq!(
            to.file_name().unwrap(),
            "headwater.redb.corrupt-1",
            "{name}"
        );
        if name != "pages overwritten" && name != "header zeroed" && name != "cut off" {
            assert!(fs::read(to).unwrap() == kept, "{name}");
        }
        // It goes on from the fallback's epoch, and no id that the lost file may have given out is given again.
        let stats = store
            .commit(&EpochCommit {
                dead_append: vec![letter(b"new")],
                ..delta(4, b"again")
            })
            .unwrap();
        assert!(stats.first_dead_letter_id > 1_000, "{name}");
        drop(store);
        assert!(open(dir.path()).1.notes.is_empty(), "{name}");
    }
}

#[test]
fn without_a_fallback_it_refuses_to_start_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store);
    drop(store);
    fs::write(dir.path().join("headwater.redb"), [7; 9_000]).unwrap();
    // Also the second time, when the damaged file is no longer in the way.
    for _ in 0..2 {
        let error = Store::open(dir.path(), &options()).unwrap_err();
        assert!(matches!(error, StoreError::Unopenable { .. }));
        assert!(error.to_string().contains("move it away"), "{error}");
    }
    // A damaged fallback is none.
    let garbage = [&b"hwfallbk"[..], &[record::FORMAT], b"garbage"].concat();
    fs::write(dir.path().join("state.fallback"), garbage).unwrap();
    assert!(matches!(
        Store::open(dir.path(), &options()),
        Err(StoreError::Unopenable { .. })
    ));
}

#[test]
fn a_crash_between_quarantine_and_restoring_is_made_good() {
    let dir = filled_with_fallback();
    fs::rename(
        dir.path().join("headwater.redb"),
        dir.path().join("headwater.redb.corrupt-1"),
    )
    .unwrap();
    fs::write(dir.path().join("headwater.redb.new"), b"half written").unwrap();
    let (mut store, recovered) = open(dir.path());
    assert_filled(&mut store, &recovered);
    assert!(matches!(
        recovered.notes.as_slice(),
        [RecoveryNote::FellBack { epoch: 3, .. }]
    ));
    assert!(!dir.path().join("headwater.redb.new").exists());
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let dir = filled_with_fallback();
    let path = dir.path().join("headwater.redb");
    let image = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0).collect();
    for at in used.iter().step_by(used.len() / 300) {
        let mut damaged = image.clone();
        damaged[*at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let (mut store, recovered) = open(dir.path());
        if recovered.epoch == 3 && !recovered.outbox.is_empty() {
            assert_filled(&mut store, &recovered);
        } else {
            assert!(
                matches!(
                    recovered.notes.as_slice(),
                    [RecoveryNote::DamagedOutboxChunk { .. }]
                ),
                "byte {at}: {recovered:?}"
            );
        }
        drop(store);
        for n in 1..=MAX_QUARANTINED {
            let _ = fs::remove_file(dir.path().join(format!("headwater.redb.corrupt-{n}")));
        }
    }
}

#[test]
fn pages_that_rot_under_an_open_file_are_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(
        dir.path(),
        &StoreOptions {
            cache_bytes: 0,
            ..options()
        },
    )
    .unwrap();
    fill(&mut store);
    let file = OpenOptions::new()
        .write(true)
        .open(dir.path().join("headwater.redb"))
        .unwrap();
    let len = file.metadata().unwrap().len() as usize;
    file.write_all_at(&vec![0x55; len - 4_096], 4_096).unwrap();
    assert!(store.dead_letters_after(0, 10).is_err());
    assert!(store.commit(&delta(4, b"")).is_err());
    drop(store);
    assert!(matches!(
        Store::open(dir.path(), &options()),
        Err(StoreError::Unopenable { .. })
    ));
}

#[test]
fn a_fallback_with_a_flipped_byte_is_refused() {
    let dir = filled_with_fallback();
    let path = dir.path().join("state.fallback");
    let intact = fs::read(&path).unwrap();
    assert!(fallback::check(&path).unwrap().is_some());
    for at in 0..intact.len() {
        let mut damaged = intact.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(fallback::check(&path).is_err(), "byte {at}");
        fs::write(&path, &intact[..at]).unwrap();
        assert!(fallback::check(&path).is_err(), "cut at {at}");
    }
}
