//! The timelines of keys, which take nothing where all are on the shared one.

use super::super::keyed::Slab;
use crate::types::Timeline;

/// Timelines by slot; those of slots behind the last are the shared one.
#[derive(Debug, Default)]
pub(super) struct Lines(Slab<Timeline>);

impl Lines {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Timeline {
        if (slot as usize) < self.0.len() {
            *self.0.get(slot)
        } else {
            Timeline::SHARED
        }
    }

    #[inline]
    pub(super) fn set(&mut self, slot: u32, line: Timeline) {
        if self.0.len() > 0 || line != Timeline::SHARED {
            self.note(slot, line);
        }
    }

    fn note(&mut self, slot: u32, line: Timeline) {
        while self.0.len() <= slot as usize {
            self.0.push(Timeline::SHARED);
        }
        *self.0.get_mut(slot) = line;
    }
}
