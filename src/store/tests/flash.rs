//! What a commit writes.

use super::*;

/// Opens what is there, or the fallback of it because the file is damaged.
fn reopen(dir: &Path, fall_back: bool) -> (Store, Recovered) {
    if fall_back {
        fs::write(dir.join("headwater.redb"), b"").unwrap();
    }
    open(dir)
}

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
            state: StateWrite::Snapshot(vec![Packed::of(&rows); 2]),
            ..EpochCommit::default()
        })
        .unwrap();
    let fallback = store.export_fallback().unwrap().unwrap();
    assert!(fallback.file_bytes < 3_000, "{fallback:?}");
    drop(store);
    for fall_back in [false, true] {
        let (mut store, recovered) = reopen(dir.path(), fall_back);
        for piece in &recovered.base {
            assert_eq!(*piece.unpacked(), *rows, "fallback: {fall_back}");
        }
        assert_eq!(recovered.base.len(), 2, "fallback: {fall_back}");
        assert_eq!(recovered.outbox[0].len_bytes, rows.len() as u64);
        assert_eq!(store.read_outbox("cloud", 0).unwrap(), rows);
    }
}

#[test]
fn what_a_quiet_minute_changes_is_packed_tightly_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let reading = |device: u32| {
        let mean = f64::from(device * 31 % 1_000) / 10.0;
        let device = format!("+{}", device % 10);
        [
            device.as_bytes(),
            b"\0\0\x01\0\x08\x09",
            &mean.to_le_bytes(),
        ]
        .concat()
    };
    let changed: Vec<u8> = (0..1_000).flat_map(reading).collect();
    let stats = store.commit(&delta(1, &changed)).unwrap();
    let fast = crate::state::pack(&changed).len() as u64;
    let packed = stats.totals.delta_bytes;
    assert!(packed * 4 < fast * 3, "{packed} of {fast}");
    store.export_fallback().unwrap().unwrap();
    drop(store);
    for fall_back in [false, true] {
        let (_, recovered) = reopen(dir.path(), fall_back);
        assert_eq!(recovered.deltas, [(1, changed.clone())], "{fall_back}");
    }
}

#[test]
fn a_small_epoch_costs_few_bytes_of_flash() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut written_bytes = [const { Vec::new() }; 5];
    let mut filled = fs::metadata(dir.path().join("headwater.redb"))
        .unwrap()
        .len();
    for epoch in 1..=500 {
        let kind = epoch as usize % 5;
        let commit = match kind {
            0 => EpochCommit {
                state: StateWrite::Unchanged,
                ..delta(epoch, b"")
            },
            1 => delta(epoch, &noise(200)),
            2 => delta(epoch, &noise(20_000)),
            3 => EpochCommit {
                outbox_append: vec![chunk("cloud", epoch, &noise(1_000))],
                ..delta(epoch, &noise(200))
            },
            _ => EpochCommit {
                outbox_remove: vec![("cloud".into(), epoch - 1)],
                ..delta(epoch, &noise(200))
            },
        };
        let stats = store.commit(&commit).unwrap();
        // What a small file grows by is written once.
        let len = stats.file_bytes.min(backend::FILLED_BYTES);
        written_bytes[kind].push(stats.written_bytes - len.saturating_sub(filled));
        filled = len;
    }
    let mean = |all: &Vec<u64>| all.iter().sum::<u64>() / all.len() as u64;
    println!(
        "unchanged, delta 200 B, delta 20 kB, delta 200 B and 1 kB of rows, these removed: {:?} bytes written in the mean",
        written_bytes.each_ref().map(mean)
    );
    // Four pages of 4 KiB and twice the header for any commit. Now and then what the head has no more room for follows; the
    // large delta is five pages, and their path.
    let least = written_bytes.iter().flatten().min().unwrap();
    assert_eq!(*least, crate::engine::COMMIT_BYTES);
    for (all, bound) in written_bytes
        .iter()
        .zip([24_600, 27_000, 56_000, 29_000, 27_000])
    {
        assert!(mean(all) <= bound, "{} of {bound}", mean(all));
    }
}
