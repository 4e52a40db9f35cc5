//! What is kept of a partition: rows that wait for the watermark, rows of open matches, and the matches that have begun.
//!
//! Invariants: the rows of all partial matches are kept once; a match that has begun stands in the order of its first
//! row, and the first of them is never decided. How an aggregate stands is not written but computed again from the
//! rows, in the same order.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::super::Accumulator;
use super::super::keyed::KeyState;
use super::path::Path;
use super::program::{Rounds, Wait};
use crate::plan::{Instruction, Match};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Timeline, Value};

/// The state of one key.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) line: Timeline,
    /// In the order in which they will be looked at.
    pub(super) waiting: Vec<HeldRow>,
    /// Rows that have been looked at and may be read again.
    pub(super) rows: VecDeque<HeldRow>,
    /// The number of the first of `rows`.
    pub(super) base: u64,
    /// What may become matches, in the order of their first rows.
    pub(super) begun: VecDeque<Begun>,
    /// How many matches there have been, where that is asked for.
    pub(super) matches: u64,
    /// The time for which the key is listed.
    pub(super) armed: Option<EventTime>,
}

/// A row with the columns that are kept.
#[derive(Debug)]
pub(super) struct HeldRow {
    pub(super) time: EventTime,
    pub(super) lineage: Lineage,
    pub(super) values: Box<[Value]>,
}

/// All partial matches that begin with one row.
#[derive(Debug)]
pub(super) struct Begun {
    /// The number of the row.
    pub(super) row: u64,
    pub(super) time: EventTime,
    /// The preferred first.
    pub(super) partial: Vec<Partial>,
    /// The best match so far; all partial ones that are left are preferred to it.
    pub(super) accepted: Option<Path>,
}

/// A partial match and how it can go on, the preferred first.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: Path,
    pub(super) totals: Totals,
    pub(super) waits: Vec<Wait>,
}

/// The running aggregates of a partial match.
pub(super) type Totals = SmallVec<[Accumulator; 1]>;

impl Partition {
    /// The row of a number, if it is kept.
    pub(super) fn row(&self, number: u64) -> Option<&HeldRow> {
        let at = number.checked_sub(self.base)?;
        self.rows.get(usize::try_from(at).ok()?)
    }

    /// How many partial matches there are.
    pub(super) fn partial_matches(&self) -> usize {
        self.begun.iter().map(|begun| begun.partial.len()).sum()
    }

    /// Forgets the rows that nothing will read any more.
    pub(super) fn forget_rows(&mut self, lookback: usize) {
        let end = self.base + self.rows.len() as u64;
        let first = self.begun.front().map_or(end, |begun| begun.row);
        let keep = first.saturating_sub(lookback as u64).max(self.base);
        self.rows.drain(..(keep - self.base) as usize);
        self.base = keep;
    }

    /// Reads what [`KeyState::encode`] wrote of a partition of this pattern.
    pub(super) fn decode(from: &mut Decoder<'_>, plan: &Match) -> Result<Self, StateError> {
        let mut partition = Self {
            line: from.timeline(usize::MAX)?,
            base: from.u64()?,
            matches: from.u64()?,
            ..Self::default()
        };
        for _ in 0..from.count("rows")? {
            partition.waiting.push(HeldRow::decode(from, plan)?);
        }
        for _ in 0..from.count("rows")? {
            partition.rows.push_back(HeldRow::decode(from, plan)?);
        }
        for _ in 0..from.count("matches")? {
            let begun = Begun::decode(from, plan, &partition)?;
            partition.begun.push_back(begun);
        }
        Ok(partition)
    }
}

impl KeyState for Partition {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rows.is_empty() && self.matches == 0
    }

    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        out.u64(self.base);
        out.u64(self.matches);
        out.u64(self.waiting.len() as u64);
        self.waiting.iter().for_each(|row| row.encode(out));
        out.u64(self.rows.len() as u64);
        self.rows.iter().for_each(|row| row.encode(out));
        out.u64(self.begun.len() as u64);
        self.begun.iter().for_each(|begun| begun.encode(out));
    }
}

impl HeldRow {
    fn encode(&self, out: &mut Encoder) {
        out.time(self.time);
        out.lineage(self.lineage);
        for value in &self.values {
            out.value(value);
        }
    }

    fn decode(from: &mut Decoder<'_>, plan: &Match) -> Result<Self, StateError> {
        Ok(Self {
            time: from.time()?,
            lineage: from.lineage()?,
            values: (0..plan.kept.len())
                .map(|_| from.value())
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Begun {
    fn encode(&self, out: &mut Encoder) {
        out.u64(self.row);
        out.time(self.time);
        out.bool(self.accepted.is_some());
        if let Some(path) = &self.accepted {
            path.encode(out);
        }
        out.u64(self.partial.len() as u64);
        for partial in &self.partial {
            partial.path.encode(out);
            out.u64(partial.waits.len() as u64);
            for wait in &partial.waits {
                out.u64(u64::from(wait.at));
                for rounds in &wait.rounds {
                    out.u64(u64::from(*rounds));
                }
            }
        }
    }

    fn decode(
        from: &mut Decoder<'_>,
        plan: &Match,
        partition: &Partition,
    ) -> Result<Self, StateError> {
        let invalid = StateError::Invalid { what: "match" };
        let (row, time) = (from.u64()?, from.time()?);
        let end = partition.base + partition.rows.len() as u64;
        if !(partition.base..end).contains(&row) {
            return Err(invalid);
        }
        let rows = (end - row) as usize;
        let path = |from: &mut Decoder<'_>| {
            let path = Path::decode(from, rows, plan.variables.len())?;
            let some = path.len() > 0;
            some.then_some(path)
                .ok_or(StateError::Invalid { what: "match" })
        };
        let accepted = if from.bool()? {
            Some(path(from)?)
        } else {
            None
        };
        let mut begun = Self {
            row,
            time,
            partial: Vec::new(),
            accepted,
        };
        for _ in 0..from.count("partial matches")? {
            let path = path(from)?;
            let mut waits = Vec::new();
            for _ in 0..from.count("instructions")? {
                let at = from.u64()?;
                let instruction = usize::try_from(at).ok().and_then(|at| plan.program.get(at));
                if !matches!(instruction, Some(Instruction::Row(_))) {
                    return Err(invalid);
                }
                let mut rounds = Rounds::new();
                for _ in 0..plan.loops {
                    rounds.push(u32::try_from(from.u64()?).map_err(|_| invalid.clone())?);
                }
                waits.push(Wait {
                    at: at as u32,
                    rounds,
                });
            }
            begun.partial.push(Partial {
                path,
                totals: Totals::new(),
                waits,
            });
        }
        Ok(begun)
    }
}
