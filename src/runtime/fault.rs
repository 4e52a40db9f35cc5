//! For tests alone (feature `fault-injection`): a part of the process that stops moving, so that `tests/supervised.rs`
//! can show that the watchdog notices. `HEADWATER_STALL` names the part.

use std::time::Duration;

/// Never returns if `$HEADWATER_STALL` names `part`.
pub(super) fn stall_if_asked(part: &str) {
    if std::env::var("HEADWATER_STALL").is_ok_and(|wanted| wanted == part) {
        tracing::warn!(part, "standing still, as asked");
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}
