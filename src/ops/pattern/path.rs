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
    runs: SmallVec<[Run; 2]>,
    length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    step: Step,
    count: u32,
}

/// What a row is matched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The variable: there are at most [`Variables::MAX`].
    pub(super) variable: u8,
    /// Whether it is given where all rows are.
    pub(super) shown: bool,
}

impl Path {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.length as usize
    }

    /// Bytes of memory beside the path itself.
    pub(super) fn heap_bytes(&self) -> usize {
        // Not by its capacity, which is another after a restart.
        if self.runs.len() > self.runs.inline_size() {
            self.runs.len() * size_of::<Run>()
        } else {
            0
        }
    }

    /// Adds the next row.
    pub(super) fn push(&mut self, step: Step) {
        self.length += 1;
        match self.runs.last_mut() {
            Some(last) if last.step == step => last.count += 1,
            _ => self.runs.push(Run { step, count: 1 }),
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

    /// What the rows are matched to, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + Clone {
        let of = |run: &Run| std::iter::repeat_n(run.step, run.count as usize);
        self.runs.iter().flat_map(of)
    }

    /// The position of the row that a navigation leads to among the first `seen` rows, before its offset.
    pub(super) fn find(&self, at: Navigation, seen: usize) -> Option<usize> {
        let seen = if at.whole { self.len() } else { seen };
        match at.from {
            End::First => self.nth(at.of, at.skip).filter(|found| *found < seen),
            End::Last => self.nth_last(at.of, at.skip, seen),
        }
    }

    /// The first row of some variables after `skip` of them.
    pub(super) fn nth(&self, of: Variables, mut skip: usize) -> Option<usize> {
        let mut start = 0;
        for run in &self.runs {
            let count = run.count as usize;
            if of.contains(run.step.variable as usize) {
                if skip < count {
                    return Some(start + skip);
                }
                skip -= count;
            }
            start += count;
        }
        None
    }

    /// Of the first `seen` rows, the last one of some variables before `skip` of them.
    pub(super) fn nth_last(&self, of: Variables, mut skip: usize, seen: usize) -> Option<usize> {
        let mut end = self.len();
        for run in self.runs.iter().rev() {
            let start = end - run.count as usize;
            let count = end.min(seen).saturating_sub(start);
            if of.contains(run.step.variable as usize) {
                if skip < count {
                    return Some(start + count - 1 - skip);
                }
                skip -= count;
            }
            end = start;
        }
        None
    }

    /// What the row at a position is matched to.
    pub(super) fn step(&self, position: usize) -> Option<Step> {
        let mut end = 0;
        let run = self.runs.iter().find(|run| {
            end += run.count as usize;
            position < end
        })?;
        Some(run.step)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.runs.len() as u64);
        for run in &self.runs {
            out.u64(u64::from(run.step.variable) << 1 | u64::from(run.step.shown));
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
            let (step, count) = (from.u64()?, from.u64()?);
            let variable = step >> 1;
            let left = (rows - path.len()) as u64;
            if variable >= variables as u64 || count == 0 || count > left {
                return Err(StateError::Invalid { what: "run" });
            }
            path.length += count as u32;
            path.runs.push(Run {
                step: Step {
                    variable: variable as u8,
                    shown: step & 1 == 1,
                },
                count: count as u32,
            });
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_small() {
        // Each partial match has one.
        assert!(size_of::<Path>() <= 40, "{}", size_of::<Path>());
    }

    #[test]
    fn rows_are_found_among_those_that_are_seen() {
        let mut path = Path::default();
        for variable in [0, 0, 1, 0, 1] {
            path.push(Step {
                variable,
                shown: true,
            });
        }
        let (a, b) = (Variables::one(0), Variables::one(1));
        assert_eq!(path.nth(a, 2), Some(3));
        assert_eq!(path.nth(b, 2), None);
        assert_eq!(path.nth_last(a, 0, 5), Some(3));
        assert_eq!(path.nth_last(a, 0, 3), Some(1));
        assert_eq!(path.nth_last(b, 0, 4), Some(2));
        assert_eq!(path.nth_last(b, 1, 4), None);
        assert_eq!(path.nth_last(Variables::ALL, 1, 4), Some(2));
        assert_eq!(path.step(4).map(|step| step.variable), Some(1));
        path.pop();
        path.pop();
        assert_eq!(path.nth_last(a, 1, 3), Some(0));
    }
}
