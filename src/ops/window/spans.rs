//! The spans of time that panes cover, each once: most keys have the same panes open.
//!
//! Invariant: a number stands for its span as long as a pane has it. Bound: as many as there are panes.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::types::EventTime;

/// The time of a pane. The order is that of panes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: EventTime,
    /// The end of the last window that the pane is part of.
    pub(super) last_end: EventTime,
}

/// Spans by number.
#[derive(Debug, Default)]
pub(super) struct Spans {
    all: Vec<Counted>,
    by_span: HashTable<u32>,
    free: Vec<u32>,
    /// The one that was asked for last: mostly the one that is asked for next.
    last: u32,
}

#[derive(Debug)]
struct Counted {
    span: Span,
    panes: u32,
    /// Its own number, so that it is a list of one.
    number: u32,
}

impl Spans {
    #[inline]
    pub(super) fn get(&self, number: u32) -> Span {
        self.all[number as usize].span
    }

    /// A list of a number alone.
    pub(super) fn alone(&self, number: u32) -> &[u32] {
        std::slice::from_ref(&self.all[number as usize].number)
    }

    /// The number of a span, for one pane more.
    pub(super) fn take(&mut self, span: Span) -> u32 {
        let last = self.all.get_mut(self.last as usize);
        if let Some(known) = last.filter(|known| known.span == span && known.panes > 0) {
            known.panes += 1;
            return known.number;
        }
        let hash = hash(span);
        let all = &self.all;
        let found = self.by_span.find(hash, |&at| all[at as usize].span == span);
        if let Some(&number) = found {
            self.all[number as usize].panes += 1;
            self.last = number;
            return number;
        }
        let fresh = |number| Counted {
            span,
            panes: 1,
            number,
        };
        let number = if let Some(number) = self.free.pop() {
            self.all[number as usize] = fresh(number);
            number
        } else {
            let number = self.all.len() as u32;
            self.all.push(fresh(number));
            number
        };
        let all = &self.all;
        self.by_span
            .insert_unique(hash, number, |&at| self::hash(all[at as usize].span));
        self.last = number;
        number
    }

    /// A pane of this span is gone.
    pub(super) fn give_back(&mut self, number: u32) {
        let known = &mut self.all[number as usize];
        known.panes -= 1;
        if known.panes > 0 {
            return;
        }
        let hash = hash(known.span);
        if let Ok(entry) = self.by_span.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
    }
}

fn hash(span: Span) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&span.start.as_micros().to_le_bytes());
    bytes[8..].copy_from_slice(&span.last_end.as_micros().to_le_bytes());
    xxh3_64(&bytes)
}
