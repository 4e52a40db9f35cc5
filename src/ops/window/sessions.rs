//! The open sessions of a key, and how they are written down.

use smallvec::SmallVec;

use super::{Accumulators, Bounds, merge};
use crate::ops::accumulator::Accumulator;
use crate::ops::keyed::{KeyState, Slab};
use crate::plan::Aggregate;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timeline};

/// The open sessions of one key.
#[derive(Debug, Default)]
pub(super) enum Sessions {
    #[default]
    Nothing,
    /// One without groups, whose accumulators stand beside those of other keys.
    One(Bounds),
    Several(Vec<Session>),
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    /// By key.
    pub(super) groups: SmallVec<[Group; 1]>,
}

#[derive(Debug)]
pub(super) struct Group {
    /// The bytes of the keys that PARTITION BY does not name.
    pub(super) key: Box<[u8]>,
    pub(super) accumulators: Accumulators,
}

impl KeyState for Sessions {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl Sessions {
    /// The end of the earliest.
    pub(super) fn first_end(&self) -> Option<EventTime> {
        match self {
            Self::Nothing => None,
            Self::One(bounds) => Some(bounds.end),
            Self::Several(all) => all.first().map(|session| session.end),
        }
    }

    /// Those of a key that has several.
    pub(super) fn several(&self) -> &[Session] {
        match self {
            Self::Several(all) => all,
            _ => &[],
        }
    }

    /// The same, to change; makes the key one of those.
    pub(super) fn make_several(&mut self) -> &mut Vec<Session> {
        if !matches!(self, Self::Several(_)) {
            *self = Self::Several(Vec::new());
        }
        match self {
            Self::Several(all) => all,
            _ => unreachable!("made above"),
        }
    }

    /// The accumulators of one without groups.
    pub(super) fn single<'a>(
        &self,
        all: &'a Slab<Accumulator>,
        slot: u32,
        width: usize,
    ) -> &'a [Accumulator] {
        match self {
            Self::One(_) => all.group(slot, width),
            _ => &[],
        }
    }

    /// Writes them. `single` are the accumulators of one without groups.
    pub(super) fn encode(&self, line: Timeline, single: &[Accumulator], out: &mut Encoder) {
        out.timeline(line);
        let accumulators = |accumulators: &[Accumulator], out: &mut Encoder| {
            for accumulator in accumulators {
                accumulator.encode(out);
            }
        };
        if let Self::One(bounds) = self {
            out.u64(1);
            out.time(bounds.start);
            out.span(bounds.end.since(bounds.start));
            out.u64(1);
            out.bytes(&[]);
            return accumulators(single, out);
        }
        out.u64(self.several().len() as u64);
        for session in self.several() {
            out.time(session.start);
            out.span(session.end.since(session.start));
            out.u64(session.groups.len() as u64);
            for group in &session.groups {
                out.bytes(&group.key);
                accumulators(&group.accumulators, out);
            }
        }
    }

    /// Has a single session, if it has no groups, be kept in the least room: its accumulators at `place`.
    pub(super) fn settle(&mut self, whole: bool, place: &mut [Accumulator]) {
        let Self::Several(all) = self else { return };
        if all.len() > usize::from(whole) {
            return;
        }
        let last = all.pop();
        *self = Self::Nothing;
        if let Some(Session {
            start,
            end,
            mut groups,
        }) = last
            && let Some(group) = groups.pop()
        {
            for (place, moved) in place.iter_mut().zip(group.accumulators) {
                *place = moved;
            }
            *self = Self::One(Bounds { start, end });
        }
    }

    /// Reads them.
    pub(super) fn decode(
        aggregates: &[Aggregate],
        from: &mut Decoder<'_>,
    ) -> Result<Vec<Session>, StateError> {
        let mut all = Vec::new();
        for _ in 0..from.u64()? {
            let start = from.time()?;
            let end = start.plus(from.span()?);
            let mut groups = SmallVec::new();
            for _ in 0..from.u64()? {
                let key = from.bytes()?.into();
                let accumulators = aggregates.iter().map(|one| Accumulator::decode(one, from));
                let accumulators = accumulators.collect::<Result<_, _>>()?;
                groups.push(Group { key, accumulators });
            }
            all.push(Session { start, end, groups });
        }
        Ok(all)
    }
}

impl Session {
    /// Takes the rows of a later session in.
    pub(super) fn absorb(&mut self, aggregates: &[Aggregate], later: Self) {
        self.end = self.end.max(later.end);
        for group in later.groups {
            match self
                .groups
                .binary_search_by(|known| known.key.cmp(&group.key))
            {
                Ok(at) => merge(
                    aggregates,
                    &mut self.groups[at].accumulators,
                    &group.accumulators,
                ),
                Err(at) => self.groups.insert(at, group),
            }
        }
    }
}
