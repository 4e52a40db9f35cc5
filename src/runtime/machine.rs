//! What the machine is like, for `headwater doctor`: measured here, judged there.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::SystemClock;
use super::memory::machine_bytes;
use crate::engine::Clock;

/// Times that a write took until it was on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushTimes {
    /// The one in the middle.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
}

/// Kinds of filesystems that are no place for state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatile {
    /// In memory.
    Tmpfs,
    /// A layer over another, which on gateways is usually in memory.
    Overlay,
}

/// Whether the wall clock can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It says a time before this program was made.
    Unset,
    /// The system says that it follows a time server.
    Synchronised,
    /// The system says that it does not.
    Adrift,
    /// The system does not say.
    Unknown,
}

/// Writes `times` small blocks into a file in `dir`, each to the disk.
pub fn flush_times(dir: &Path, times: usize) -> std::io::Result<FlushTimes> {
    let path = dir.join(format!("doctor-{}.tmp", std::process::id()));
    let measured = (|| {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)?;
        let block = [0x5a; 4096];
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times.max(1) {
            let begin = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            taken.push(begin.elapsed());
        }
        taken.sort_unstable();
        Ok(FlushTimes {
            median: taken[taken.len() / 2],
            longest: taken[taken.len() - 1],
        })
    })();
    // Also after a failure; if even that fails there is nothing more to do.
    let _ = std::fs::remove_file(&path);
    measured
}

/// Whether `dir` is lost when the power goes.
pub fn volatile(dir: &Path) -> Option<Volatile> {
    // linux/magic.h
    match rustix::fs::statfs(dir).ok()?.f_type as u64 {
        0x0102_1994 => Some(Volatile::Tmpfs),
        0x794c_7630 => Some(Volatile::Overlay),
        _ => None,
    }
}

/// The permission bits of a file, such as 0o600.
pub fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.mode() & 0o7777)
}

/// Looks at the clock and asks the system about it.
pub fn clock() -> ClockState {
    if Clock::is_unset(SystemClock::start().now().wall) {
        return ClockState::Unset;
    }
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return ClockState::Synchronised;
    }
    let said = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    match said {
        Ok(output) if output.status.success() => match output.stdout.trim_ascii() {
            b"yes" => ClockState::Synchronised,
            b"no" => ClockState::Adrift,
            _ => ClockState::Unknown,
        },
        _ => ClockState::Unknown,
    }
}

/// The machine's memory, bytes.
pub fn memory_bytes() -> u64 {
    machine_bytes()
}
