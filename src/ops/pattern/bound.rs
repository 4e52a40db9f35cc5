//! The bounds of what has begun.
//!
//! Per key: at [`MAX_PARTIAL_MATCHES`] the newest match that has begun is given up, and at [`MAX_PATTERN_ROWS`] or
//! [`MAX_PATTERN_BYTES`] the oldest, which holds the rows; what it has accepted so far is its match. All are counted as
//! `pattern_limit`.

use super::super::{Accumulator, Discard, Emit};
use super::matcher::Matcher;
use super::partition::{Begun, Partial, Partition};
use super::path::Path;
use super::program::Wait;
use super::read::key_text;
use crate::plan::{MAX_PARTIAL_MATCHES, MAX_PATTERN_BYTES, MAX_PATTERN_ROWS};

impl Matcher {
    /// Gives up what goes beyond the bounds.
    pub(super) fn bound(&mut self, partition: &mut Partition, key: &[u8], emit: &mut dyn Emit) {
        if self.is_far_from_bounds(partition) {
            return;
        }
        while partition.partial_matches() > MAX_PARTIAL_MATCHES {
            let newest = partition.begun.iter().rposition(|b| !b.partial.is_empty());
            let Some(newest) = newest else { break };
            self.give_up(partition, newest, key, emit);
        }
        while !partition.begun.is_empty()
            && (partition.rows.len() > MAX_PATTERN_ROWS + self.plan.lookback + self.plan.lookahead
                || self.bytes(partition) > MAX_PATTERN_BYTES)
        {
            self.give_up(partition, 0, key, emit);
        }
    }

    /// Whether there is only one partial match, over few rows: what most keys have.
    fn is_far_from_bounds(&self, partition: &Partition) -> bool {
        let few = partition.begun.len() <= 1 && partition.rows.len() <= 8;
        few && self.plan.totals.is_empty()
            && partition.row_bytes < MAX_PATTERN_BYTES / 2
            && partition.partial_matches() <= 1
    }

    /// Bytes of memory of a partition, about.
    fn bytes(&self, partition: &Partition) -> usize {
        let partial = |partial: &Partial| {
            let length = partial.path.len();
            let totals = self.plan.totals.iter().map(|total| {
                // What keeps its values has at most one for each row.
                Accumulator::bytes_bound(&total.aggregate).min(32 + 64 * length)
            });
            let waits = partial.waits.len() * (size_of::<Wait>() + 4 * self.plan.loops);
            size_of::<Partial>() + partial.path.heap_bytes() + waits + totals.sum::<usize>()
        };
        let begun = |begun: &Begun| {
            let accepted = begun.accepted.as_ref().map_or(0, Path::heap_bytes);
            size_of::<Begun>() + accepted + begun.partial.iter().map(partial).sum::<usize>()
        };
        partition.row_bytes + partition.begun.iter().map(begun).sum::<usize>()
    }

    fn give_up(&mut self, partition: &mut Partition, at: usize, key: &[u8], emit: &mut dyn Emit) {
        emit.discard(Discard {
            reason: "pattern_limit",
            detail: format!(
                "key {} has {} partial matches over {} rows in {} bytes, of at most {MAX_PARTIAL_MATCHES}, \
                 {MAX_PATTERN_ROWS} and {MAX_PATTERN_BYTES}; the one that began at {} is given up. Bound it by WITHIN or \
                 {{n,m}}, or let the conditions exclude each other",
                key_text(key),
                partition.partial_matches(),
                partition.rows.len(),
                self.bytes(partition),
                partition.begun[at].time
            ),
        });
        partition.begun[at].partial.clear();
        partition.begun.retain(Begun::is_alive);
        self.decide(partition, key, emit);
        partition.forget_rows(self.plan.lookback, &mut self.spare);
    }
}
