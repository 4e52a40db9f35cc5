//! Which rows of a partial match are matched to which variables.
//!
//! The rows of a match follow each other without a gap, so a path is a list of runs: so many rows of one variable. Rows
//! themselves are elsewhere, once for all partial matches.

use smallvec::SmallVec;

use crate::plan::{End, Navigation, Variables};
use crate::state::{Decoder, Encoder, StateError};

/// The rows of a match, from its first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    runs: SmallVec<[Run; 3]>,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    variable: u32,
    count: u32,
}

impl Path {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds the next row.
    pub(super) fn push(&mut self, variable: usize) {
        self.length += 1;
        match self.runs.last_mut() {
            Some(last) if last.variable as usize == variable => last.count += 1,
            _ => self.runs.push(Run {
                variable: variable as u32,
                count: 1,
            }),
        }
    }

    /// Takes the last row away again.
    pub(super) fn pop(&mut self) {
        let Some(last) = self.runs.last_mut() else {
            return;
        };
        self.length -= 1;
        last.count -= 1;
        if last.count == 0 {
            self.runs.pop();
        }
    }

    /// The variables of the rows, in order.
    pub(super) fn variables(&self) -> impl Iterator<Item = usize> {
        let of = |run: &Run| std::iter::repeat_n(run.variable as usize, run.count as usize);
        self.runs.iter().flat_map(of)
    }

    /// The position of the row that a navigation leads to, before going back.
    pub(super) fn find(&self, at: Navigation) -> Option<usize> {
        match at.from {
            End::First => self.nth(at.of, at.skip),
            End::Last => self.nth_last(at.of, at.skip),
        }
    }

    /// The first row of some variables after `skip` of them.
    pub(super) fn nth(&self, of: Variables, mut skip: usize) -> Option<usize> {
        let mut start = 0;
        for run in &self.runs {
            let count = run.count as usize;
            if of.contains(run.variable as usize) {
                if skip < count {
                    return Some(start + skip);
                }
                skip -= count;
            }
            start += count;
        }
        None
    }

    /// The last row of some variables before `skip` of them.
    pub(super) fn nth_last(&self, of: Variables, mut skip: usize) -> Option<usize> {
        let mut end = self.length;
        for run in self.runs.iter().rev() {
            let count = run.count as usize;
            if of.contains(run.variable as usize) {
                if skip < count {
                    return Some(end - 1 - skip);
                }
                skip -= count;
            }
            end -= count;
        }
        None
    }

    /// The variable of a row.
    pub(super) fn variable(&self, position: usize) -> Option<usize> {
        let mut end = 0;
        let run = self.runs.iter().find(|run| {
            end += run.count as usize;
            position < end
        })?;
        Some(run.variable as usize)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.runs.len() as u64);
        for run in &self.runs {
            out.u64(u64::from(run.variable));
            out.u64(u64::from(run.count));
        }
    }

    /// Reads a path of at most `rows` rows, matched to the first `variables` variables.
    pub(super) fn decode(
        from: &mut Decoder<'_>,
        rows: usize,
        variables: usize,
    ) -> Result<Self, StateError> {
        let mut path = Self::default();
        for _ in 0..from.count("runs")? {
            let variable = from.u64()?;
            let count = from.u64()?;
            let left = (rows - path.length) as u64;
            if variable >= variables as u64 || count == 0 || count > left {
                return Err(StateError::Invalid { what: "run" });
            }
            path.length += count as usize;
            path.runs.push(Run {
                variable: variable as u32,
                count: count as u32,
            });
        }
        Ok(path)
    }
}
