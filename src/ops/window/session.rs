//! SESSION windows: a session of a key lasts until no event has come for a gap.
//!
//! A row at `t` opens the session `[t, t + gap)`; sessions that overlap or touch are one (Flink: events exactly one gap
//! apart are in one session), also when a row out of order brings two of them together. A session is closed when the
//! watermark reaches its last instant. A row is late if it joins no open session and its own would be closed already.
//!
//! Sessions are those of the PARTITION BY columns; a GROUP BY with more keys aggregates each group of a session.
//!
//! State per PARTITION BY key: its open sessions, earliest first, none touching another. Bounds: `max_keys` keys, and as
//! many groups where GROUP BY has more keys; [`MAX_SESSIONS`] open sessions of a key.
//!
//! Deliberately absent: revised sessions. A late row may join sessions that have been given already, and nothing could
//! take those back; planning refuses them.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed};
use super::super::timers::Deadlines;
use super::super::{Accumulator, Discard, Emit, Operator};
use super::{
    Accumulators, Aggregation, Bounds, Shared, discard_corrupt, discard_new_key, discard_timeless,
    last_instant, merge, next_arrival, time_of,
};
use crate::expr::{Context, EvalError};
use crate::plan::Aggregate;
use crate::state::{Decoder, Encoder, StateError, decode_key, push_key};
use crate::types::{EventTime, Lineage, Progress, Timeline, Timespan, Value};

/// Open sessions of one key: more only come of clocks that jump about.
const MAX_SESSIONS: usize = 1_000;

/// Aggregates per session and group.
#[derive(Debug)]
pub(super) struct SessionAggregate {
    gap: Timespan,
    /// Where each key of the GROUP BY stands: among those of PARTITION BY, or among the others.
    places: Vec<Place>,
    /// How many keys PARTITION BY has.
    partition: usize,
    /// Whether those are the keys of the GROUP BY, in its order.
    whole: bool,
    max_keys: usize,
    shared: Shared,
    state: Keyed<Sessions>,
    /// Which keys have a session whose last instant is reached.
    due: Deadlines,
    /// Groups of all open sessions.
    groups: usize,
    scratch: Scratch,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Partition(usize),
    Group(usize),
}

#[derive(Debug, Default)]
struct Scratch {
    /// The PARTITION BY key of the row at hand, and the rest of its GROUP BY key.
    partition: Vec<u8>,
    group: Vec<u8>,
}

#[derive(Debug, Default)]
struct Sessions {
    open: SmallVec<[Session; 1]>,
    line: Timeline,
    /// The end that this key is listed for, if it is.
    armed: Option<EventTime>,
}

#[derive(Debug)]
struct Session {
    start: EventTime,
    end: EventTime,
    /// By key.
    groups: SmallVec<[Group; 1]>,
}

#[derive(Debug)]
struct Group {
    /// The bytes of the keys that PARTITION BY does not name.
    key: Box<[u8]>,
    accumulators: Accumulators,
}

impl KeyState for Sessions {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        out.u64(self.open.len() as u64);
        for session in &self.open {
            out.time(session.start);
            out.span(session.end.since(session.start));
            out.u64(session.groups.len() as u64);
            for group in &session.groups {
                out.bytes(&group.key);
                for accumulator in &group.accumulators {
                    accumulator.encode(out);
                }
            }
        }
    }
}

impl Session {
    /// Takes the rows of a later session in.
    fn absorb(&mut self, aggregates: &[Aggregate], later: Self) {
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

impl SessionAggregate {
    /// `partition` are the positions of the PARTITION BY columns among the keys.
    pub(super) fn new(
        gap: Timespan,
        partition: &[usize],
        aggregation: Aggregation,
        max_keys: usize,
    ) -> Self {
        // Both parts of a key are written in the order of GROUP BY.
        let (mut of_partition, mut of_group) = (0.., 0..);
        let places: Vec<Place> = (0..aggregation.keys.len())
            .map(|key| {
                if partition.contains(&key) {
                    Place::Partition(of_partition.next().unwrap_or_default())
                } else {
                    Place::Group(of_group.next().unwrap_or_default())
                }
            })
            .collect();
        Self {
            gap,
            whole: places
                .iter()
                .all(|place| matches!(place, Place::Partition(_))),
            places,
            partition: partition.len(),
            max_keys,
            shared: Shared::new(aggregation),
            state: Keyed::new(max_keys),
            due: Deadlines::default(),
            groups: 0,
            scratch: Scratch::default(),
        }
    }

    /// Computes the keys of a row, those of PARTITION BY apart from the others, and the arguments.
    fn evaluate(&mut self, row: &[Value], context: &Context) -> Result<(), EvalError> {
        let Scratch { partition, group } = &mut self.scratch;
        partition.clear();
        group.clear();
        let plan = &self.shared.plan;
        for (place, key) in self.places.iter().zip(&plan.keys) {
            let value = key.eval_ref(row, context)?;
            match place {
                Place::Partition(_) => push_key(&value, partition),
                Place::Group(_) => push_key(&value, group),
            }
        }
        self.shared
            .arguments
            .evaluate(&plan.aggregates, row, context)
    }

    /// Lists a key for the end of its earliest session, or for nothing if it has none.
    fn arm(&mut self, slot: u32) {
        let sessions = self.state.get(slot);
        let next = sessions.open.first().map(|session| session.end);
        if sessions.armed == next {
            return;
        }
        let line = sessions.line;
        if let Some(armed) = sessions.armed {
            self.due.unset(line, last_instant(armed), slot);
        }
        if let Some(end) = next {
            self.due.set(line, last_instant(end), slot);
        }
        // Being listed is derived from the sessions: it does not make the key dirty.
        self.state.annotate(slot).armed = next;
    }

    /// Gives the earliest session of a key and forgets it.
    fn close(&mut self, slot: u32, emit: &mut dyn Emit) {
        let sessions = self.state.change(slot);
        sessions.armed = None;
        let session = sessions.open.remove(0);
        if sessions.open.is_empty() {
            self.state.emptied();
        }
        self.arm(slot);
        self.groups -= session.groups.len();
        let window = Bounds {
            start: session.start,
            end: session.end,
        };
        let bytes = self.state.key(slot);
        for group in &session.groups {
            if self.whole {
                let accumulators = &group.accumulators;
                self.shared
                    .emit_of_key(bytes, window, accumulators, None, emit);
                continue;
            }
            let both = decode_key(bytes).and_then(|partition| {
                let others = decode_key(&group.key)?;
                Ok((partition, others))
            });
            match both {
                Ok((partition, others)) => {
                    let value = |place: &Place| match place {
                        Place::Partition(at) => partition.get(*at).cloned(),
                        Place::Group(at) => others.get(*at).cloned(),
                    };
                    let keys = self
                        .places
                        .iter()
                        .map(|place| value(place).unwrap_or(Value::Null));
                    let key_bytes = [bytes, &*group.key];
                    let accumulators = &group.accumulators;
                    self.shared
                        .emit(keys, &key_bytes, window, accumulators, None, emit);
                }
                Err(error) => discard_corrupt(&error, emit),
            }
        }
    }
}

impl Operator for SessionAggregate {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let Some(start) = time_of(row, self.shared.plan.time) else {
            return discard_timeless(emit);
        };
        let end = start.plus(self.gap);
        if let Err(error) = self.evaluate(row, context) {
            return emit.discard(Discard::expression(&error));
        }
        let known = self.state.find(&self.scratch.partition);
        let open: &[Session] = known.map_or(&[], |slot| &self.state.get(slot).open);
        // Those that the row's own session overlaps or touches.
        let first = open.partition_point(|session| session.end < start);
        let behind = first + open[first..].partition_point(|session| session.start <= end);
        let joined = &open[first..behind];
        if joined.is_empty() && last_instant(end) <= at.watermark {
            let missed = Bounds { start, end };
            return self.shared.late(row, lineage, missed, at.watermark, emit);
        }
        if joined.is_empty() && open.len() >= MAX_SESSIONS {
            let detail = format!(
                "key {} has {MAX_SESSIONS} open sessions, from {} on; shorten the delay of the watermark or lengthen the gap",
                self.shared.key_text(row, context),
                open[0].start
            );
            let reason = "max_sessions";
            return emit.discard(Discard { reason, detail });
        }
        let is_of = |group: &Group| *group.key == *self.scratch.group;
        let is_new_group = !joined.iter().flat_map(|session| &session.groups).any(is_of);
        let has_groups = self.places.len() > self.partition;
        if has_groups && is_new_group && self.groups >= self.max_keys {
            let key = self.shared.key_text(row, context);
            return discard_new_key(&key, self.groups, emit);
        }
        let Some(slot) = self.state.slot(&self.scratch.partition) else {
            let key = self.shared.key_text(row, context);
            return discard_new_key(&key, self.state.len(), emit);
        };
        let sessions = self.state.change(slot);
        sessions.line = at.line;
        let arrival = if self.shared.by_arrival {
            let groups = sessions.open.iter().flat_map(|session| &session.groups);
            next_arrival(groups.flat_map(|group| &group.accumulators))
        } else {
            1
        };
        let open = &mut sessions.open;
        let aggregates = &self.shared.plan.aggregates;
        if first == behind {
            let groups = SmallVec::new();
            open.insert(first, Session { start, end, groups });
        } else {
            let later: SmallVec<[Session; 1]> = open.drain(first + 1..behind).collect();
            let session = &mut open[first];
            session.start = session.start.min(start);
            session.end = session.end.max(end);
            for later in later {
                let before = session.groups.len() + later.groups.len();
                session.absorb(aggregates, later);
                self.groups -= before - session.groups.len();
            }
        }
        let groups = &mut open[first].groups;
        let key = &*self.scratch.group;
        let group = groups
            .binary_search_by(|known| (*known.key).cmp(key))
            .unwrap_or_else(|at| {
                let accumulators = self.shared.fresh();
                let key = key.into();
                groups.insert(at, Group { key, accumulators });
                self.groups += 1;
                at
            });
        self.shared
            .update(row, &mut groups[group].accumulators, arrival);
        self.arm(slot);
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some((_, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                self.close(slot, emit);
            }
        }
    }

    fn next_timer(&self, line: Timeline) -> Option<EventTime> {
        self.due.next(line)
    }

    fn seal(&mut self, out: &mut Encoder) -> bool {
        self.state.seal(out)
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        self.state.snapshot(piece_bytes, out);
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let aggregates = &self.shared.plan.aggregates;
        self.state.restore(from, |from| {
            let mut sessions = Sessions {
                line: from.timeline(usize::MAX)?,
                ..Sessions::default()
            };
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
                sessions.open.push(Session { start, end, groups });
            }
            Ok(sessions)
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        self.groups = 0;
        let slots: Vec<u32> = self.state.live().collect();
        for slot in slots {
            self.state.annotate(slot).armed = None;
            self.arm(slot);
            let open = &self.state.get(slot).open;
            self.groups += open
                .iter()
                .map(|session| session.groups.len())
                .sum::<usize>();
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
