//! Waiting for something to become true, with patience and without a fixed sleep.

use std::time::{Duration, Instant};

/// Asks `happened` until it says yes; false if it does not within `patience`.
pub(crate) fn until(patience: Duration, mut happened: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if happened() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// As [`until`], and panics with `what` if it does not happen.
#[track_caller]
pub(crate) fn wait_until(what: &str, patience: Duration, happened: impl FnMut() -> bool) {
    assert!(
        until(patience, happened),
        "waited {patience:?} in vain until {what}"
    );
}

/// Waits until `count` has not changed for `calm`, and gives it.
#[track_caller]
pub(crate) fn settled(
    what: &str,
    calm: Duration,
    patience: Duration,
    mut count: impl FnMut() -> usize,
) -> usize {
    let end = Instant::now() + patience;
    let (mut last, mut since) = (count(), Instant::now());
    while since.elapsed() < calm {
        assert!(
            Instant::now() < end,
            "{what} has not settled within {patience:?}, at {last}"
        );
        std::thread::sleep(Duration::from_millis(20));
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
