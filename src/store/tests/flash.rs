//! What a commit writes.

use super::*;

#[test]
fn what_resembles_itself_is_packed_in_the_file_and_in_the_fallback() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let rows = br#"{"device":"pump-7","n":60,"mean":20.5}"#.repeat(400);
    let commit = EpochCommit {
        outbox_append: vec![chunk("cloud", 0, &rows)],
        ..delta(1, &rows)
    };
    let stats = store.commit(&commit).unwrap();
    assert!(stats.payload_bytes > 30_000, "{stats:?}");
    assert!(stats.totals.committed_bytes < 3_000, "{stats:?}");
    store
        .commit(&EpochCommit {
            epoch: 2,
            state: StateWrite::Snapshot(vec![rows.clone(), rows.clone()]),
            ..EpochCommit::default()
        })
        .unwrap();
    let fallback = store.export_fallback().unwrap().unwrap();
    assert!(fallback.file_bytes < 3_000, "{fallback:?}");
    drop(store);
    for fall_back in [false, true] {
        if fall_back {
            fs::write(dir.path().join("headwater.redb"), b"").unwrap();
        }
        let (mut store, recovered) = open(dir.path());
        assert_eq!(recovered.base, [&*rows, &*rows], "fallback: {fall_back}");
        assert_eq!(recovered.outbox[0].len_bytes, rows.len() as u64);
        assert_eq!(store.read_outbox("cloud", 0).unwrap(), rows);
    }
}

#[test]
fn a_small_epoch_costs_few_bytes_of_flash() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut mean_bytes = [0; 4];
    let mut filled = fs::metadata(dir.path().join("headwater.redb"))
        .unwrap()
        .len();
    for epoch in 1..=400 {
        let commit = match epoch % 4 {
            0 => EpochCommit {
                state: StateWrite::Unchanged,
                ..delta(epoch, b"")
            },
            1 => delta(epoch, &noise(200)),
            2 => delta(epoch, &noise(20_000)),
            _ => EpochCommit {
                outbox_append: vec![chunk("cloud", epoch, &noise(1_000))],
                ..delta(epoch, &noise(200))
            },
        };
        let stats = store.commit(&commit).unwrap();
        // What a small file grows by is written once.
        let len = stats.file_bytes.min(backend::FILLED_BYTES);
        let grown = len - filled;
        filled = len;
        mean_bytes[epoch as usize % 4] += (stats.written_bytes - grown) / 100;
    }
    println!(
        "unchanged, delta 200 B, delta 20 kB, delta 200 B + outbox 1 kB: {mean_bytes:?} bytes written in the mean"
    );
    // Four pages of 4 KiB and twice the header for any commit, and two pages for each table that is touched.
    for (mean, bound) in mean_bytes.into_iter().zip([24_600, 37_000, 56_000, 45_000]) {
        assert!(mean <= bound, "{mean_bytes:?}");
    }
}
