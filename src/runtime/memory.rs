//! The memory budget: what the process takes is measured, and at the bound no more input is taken.
//!
//! Gateways often run without the kernel's memory controller (stock Raspberry Pi OS has it switched off), and its remedy
//! would be to kill. Two numbers are looked at, because neither is enough: what is *resident* is what the machine has
//! to give, but it seldom shrinks when memory becomes free inside the process; what is *allocated* follows at once, but
//! the budget is not about it. So input stops when the resident memory has reached the budget and most of it is in use,
//! and goes on when one of the two has fallen well below.
//!
//! What is deliberately absent: anything that fails an allocation. Timers, commits and the way upstream go on at the
//! bound, and they are what frees memory.

use cap::Cap;
use dlmalloc::GlobalDlmalloc;

/// The heap, which counts the bytes that are allocated. It refuses none.
///
/// It is not the C library's. That of the static binaries is zig's, which rounds each block up to a power of two, has slabs
/// for each of these and each thread, and never uses for one what has become free in another.
#[global_allocator]
static HEAP: Cap<GlobalDlmalloc> = Cap::new(GlobalDlmalloc, usize::MAX);

/// What the process takes of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Pages in memory, code among them.
    pub(super) resident_bytes: u64,
    /// What is allocated on the heap.
    pub(super) allocated_bytes: u64,
}

impl Usage {
    /// Measures this process. Where `/proc` cannot be read, what is allocated counts as resident.
    pub(super) fn measure() -> Self {
        let allocated_bytes = HEAP.allocated() as u64;
        let resident = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = resident.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        Self {
            resident_bytes: pages.map_or(allocated_bytes, |pages| {
                pages * rustix::param::page_size() as u64
            }),
            allocated_bytes,
        }
    }
}

/// The budget, and whether it is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    reached: bool,
}

/// What is done when the budget is first reached, or is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Input stops.
    Reached,
    /// Input goes on.
    Left,
}

impl Budget {
    pub(super) const fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            reached: false,
        }
    }

    pub(super) const fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Whether input has to stay out.
    pub(super) const fn is_reached(&self) -> bool {
        self.reached
    }

    /// Takes a measurement; tells when it changes what is done.
    pub(super) fn look(&mut self, usage: Usage) -> Option<Turn> {
        let part = |percent: u64| self.limit_bytes / 100 * percent;
        if self.reached {
            let left = usage.resident_bytes < part(95) || usage.allocated_bytes < part(65);
            self.reached = !left;
            left.then_some(Turn::Left)
        } else {
            let full = usage.resident_bytes >= self.limit_bytes;
            self.reached = full && usage.allocated_bytes >= part(75);
            self.reached.then_some(Turn::Reached)
        }
    }
}

/// The machine's memory, bytes. Asked of the kernel and not read from `/proc/meminfo`, which a sandbox may hide.
pub(super) fn machine_bytes() -> u64 {
    let said = rustix::system::sysinfo();
    // The kernel's long, which is shorter on 32-bit machines.
    let units = usize::try_from(said.totalram).unwrap_or(usize::MAX);
    units as u64 * u64::from(said.mem_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn usage(resident: u64, allocated: u64) -> Usage {
        Usage {
            resident_bytes: resident,
            allocated_bytes: allocated,
        }
    }

    #[test]
    fn input_stops_at_the_budget_and_goes_on_well_below_it() {
        let mut budget = Budget::new(1_000);
        assert_eq!(budget.look(usage(900, 800)), None);
        assert_eq!(budget.look(usage(1_000, 800)), Some(Turn::Reached));
        assert_eq!(budget.look(usage(1_000, 700)), None);
        assert!(budget.is_reached());
        // Freed inside the process, and still resident.
        assert_eq!(budget.look(usage(1_000, 600)), Some(Turn::Left));
        assert!(!budget.is_reached());
    }

    #[test]
    fn memory_that_is_resident_and_free_is_used_before_input_stops() {
        let mut budget = Budget::new(1_000);
        assert_eq!(budget.look(usage(1_200, 500)), None);
        assert_eq!(budget.look(usage(1_200, 800)), Some(Turn::Reached));
        assert_eq!(budget.look(usage(940, 800)), Some(Turn::Left));
    }

    #[test]
    fn this_process_is_measured() {
        let before = Usage::measure();
        let block = vec![1_u8; 8 << 20];
        let after = Usage::measure();
        assert!(after.allocated_bytes >= before.allocated_bytes + (4 << 20));
        assert!(after.resident_bytes > 1 << 20, "{after:?}");
        drop(block);
        assert!(machine_bytes() > after.resident_bytes);
    }
}
