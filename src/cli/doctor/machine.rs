//! The machine: clock, memory, the state's disk, the modes of secrets.

use std::path::Path;

use super::Findings;
use crate::config::{Config, Secret};
use crate::runtime::machine::{self, ClockState, Volatile};

const MB: u64 = 1_000_000;
/// Permissions that a secret should not give: a group that reads it, such as the service's, is as far as it goes.
const MORE_THAN_GROUP_READ: u32 = 0o037;

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    clock(findings);
    memory(config, findings);
    disk(config, findings);
    secrets(config, findings);
}

fn clock(findings: &mut Findings) {
    let remedy = "switch on a time service: timedatectl set-ntp true, or install chrony";
    match machine::clock() {
        ClockState::Synchronised => findings.good("clock", "follows a time server"),
        ClockState::Unset => findings.fail(
            "clock",
            "is not set: windows over times of arrival, idle timeouts and the bound on future times go by it",
            remedy,
        ),
        ClockState::Adrift => findings.warn(
            "clock",
            "follows no time server: windows over times of arrival, idle timeouts and the bound on future times go by it",
            remedy,
        ),
        ClockState::Unknown => findings.good(
            "clock",
            "is set; the system does not say whether it follows a time server",
        ),
    }
}

fn memory(config: &Config, findings: &mut Findings) {
    let total = machine::memory_bytes();
    let said = config.limits.memory_bytes;
    let budget = said.unwrap_or(total / 2);
    let found = format!("budget {} MB of {} MB", budget / MB, total / MB);
    if budget > total / 10 * 8 {
        findings.warn(
            "memory",
            &format!("{found}: the kernel would kill a process before the budget is reached"),
            "lower limits.memory to at most 80 % of the machine's",
        );
    } else {
        findings.good("memory", &found);
    }
}

fn disk(config: &Config, findings: &mut Findings) {
    let dir = &config.state.dir;
    let subject = format!("state {}", dir.display());
    // Before the first start the directory is not there; what it will be on is.
    let existing = dir.ancestors().find(|dir| dir.is_dir());
    let existing = existing.unwrap_or(Path::new("."));
    match machine::volatile(existing) {
        Some(Volatile::Tmpfs) => findings.fail(
            &subject,
            "is in memory: a power cut loses everything that was promised",
            "move state.dir to a disk",
        ),
        Some(Volatile::Overlay) => findings.warn(
            &subject,
            "is on an overlay, which on gateways is usually in memory and lost with the power",
            "mount a partition of its own there",
        ),
        None => {}
    }
    match crate::store::free_bytes(existing) {
        Ok(free) => {
            let outboxes = config.connections.iter().map(|c| c.outbox.limit_bytes);
            let bound = outboxes.sum::<u64>()
                + config.dead_letters.limit_bytes
                + config.state.ballast_bytes;
            let found = format!(
                "{} MB free; outboxes, dead letters and the reserve may take {} MB, beside the state of the queries",
                free / MB,
                bound / MB
            );
            if free < bound {
                findings.warn(
                    &subject,
                    &found,
                    "free some space, or lower outbox.limit and dead_letters.limit: a full disk stops the input",
                );
            } else {
                findings.good(&subject, &found);
            }
        }
        Err(error) => findings.fail(
            &subject,
            &format!("cannot be asked for its free space: {error}"),
            "mount it",
        ),
    }
    match machine::flush_times(existing, 16) {
        Ok(times) => {
            let (median, longest) = (times.median.as_millis(), times.longest.as_millis());
            let found = format!("a flush takes {median} ms, at the longest {longest} ms");
            if median > 100 || longest > 2_000 {
                findings.warn(
                    &subject,
                    &format!("{found}; each commit waits for some, and acknowledgements wait for the commit"),
                    "use a better card or an SSD, or give the brokers a larger receive_maximum; check that nothing \
                     else writes to it all the time",
                );
            } else {
                findings.good(&subject, &found);
            }
        }
        Err(error) => findings.fail(
            &subject,
            &format!("cannot be written by this user: {error}"),
            "run doctor as the user of the service: sudo -u headwater headwater doctor",
        ),
    }
}

fn secrets(config: &Config, findings: &mut Findings) {
    for connection in &config.connections {
        let mut files: Vec<&Path> = Vec::new();
        if let Some(Secret::File(path)) = &connection.password {
            files.push(path);
        }
        if let Some((_, key)) = &connection.client_certificate {
            files.push(key);
        }
        for path in files {
            let subject = format!("secret {}", path.display());
            match machine::mode(path) {
                Ok(mode) if mode & MORE_THAN_GROUP_READ == 0 => {
                    findings.good(&subject, &format!("mode {mode:04o}"));
                }
                Ok(mode) => findings.warn(
                    &subject,
                    &format!("mode {mode:04o}: others on this machine can read it"),
                    &format!("chmod 0640 {0}; chgrp headwater {0}", path.display()),
                ),
                Err(error) => findings.fail(
                    &subject,
                    &format!("cannot be read: {error}"),
                    "check the path and its permissions, or use LoadCredential= of systemd",
                ),
            }
        }
    }
}
