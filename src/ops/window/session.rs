//! SESSION windows: a session of a key lasts until no event has come for a gap.
//!
//! A row at `t` opens the session `[t, t + gap)`; sessions that overlap or touch are one (Flink: events exactly one gap
//! apart are in one session), also when a row out of order brings two of them together. A session is closed when the
//! watermark reaches its last instant. A row is late if it joins no open session and its own would be closed already.
//!
//! Sessions are those of the PARTITION BY columns; a GROUP BY with more keys aggregates each group of a session.
//!
//! State per PARTITION BY key: its open sessions, earliest first, none touching another. Most keys have one, and no groups
//! in it: then its accumulators stand beside those of other keys. Bounds: `max_keys` keys, and as many groups where GROUP BY
//! has more keys; [`MAX_SESSIONS`] open sessions of a key.
//!
//! Deliberately absent: revised sessions. A late row may join sessions that have been given already, and nothing could
//! take those back; planning refuses them.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed, Slab};
use super::super::timers::Deadlines;
use super::super::{Accumulator, Discard, Emit, Operator};
use super::lines::Lines;
use super::sessions::{Group, Session, Sessions};
use super::{
    Accumulators, Aggregation, Bounds, Shared, discard_corrupt, discard_new_key, discard_timeless,
    last_instant, next_arrival, time_of,
};
use crate::expr::{Context, EvalError};
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
    /// By slot, the accumulators of keys with one session that has no groups; those of others have taken nothing.
    single: Slab<Accumulator>,
    lines: Lines,
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
            single: Slab::default(),
            lines: Lines::default(),
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

    /// Lists a key for the end of its earliest session, or for nothing if it has none; it has been listed for `before`.
    fn arm(&mut self, slot: u32, before: Option<EventTime>) {
        let next = self.state.get(slot).first_end();
        if before == next {
            return;
        }
        let line = self.lines.get(slot);
        if let Some(before) = before {
            self.due.unset(line, last_instant(before), slot);
        }
        if let Some(end) = next {
            self.due.set(line, last_instant(end), slot);
        }
    }

    /// The accumulators of a key with one session.
    fn single(&mut self, slot: u32) -> &mut [Accumulator] {
        place_of(&mut self.single, &self.shared.empty, slot)
    }

    /// Takes those of a key that has one session no more.
    fn take_single(&mut self, slot: u32) -> Accumulators {
        let fresh = self.shared.fresh();
        let single = self.single(slot).iter_mut().zip(fresh);
        single
            .map(|(place, fresh)| std::mem::replace(place, fresh))
            .collect()
    }

    /// Has a key with one session be one of those that may have several.
    fn spread(&mut self, slot: u32) {
        if let Sessions::One(Bounds { start, end }) = *self.state.get(slot) {
            let (key, accumulators) = (Box::default(), self.take_single(slot));
            let groups = SmallVec::from_iter([Group { key, accumulators }]);
            *self.state.annotate(slot) = Sessions::Several(vec![Session { start, end, groups }]);
        }
    }

    /// The opposite, where it can be.
    fn settle(&mut self, slot: u32) {
        let place = if self.whole {
            place_of(&mut self.single, &self.shared.empty, slot)
        } else {
            &mut []
        };
        self.state.annotate(slot).settle(self.whole, place);
    }

    /// Gives the earliest session of a key and forgets it.
    fn close(&mut self, slot: u32, emit: &mut dyn Emit) {
        let sessions = self.state.change(slot);
        let session = match sessions {
            Sessions::Nothing => {
                unreachable!("what a key without sessions was listed for is taken back")
            }
            Sessions::One(window) => {
                let window = *window;
                *sessions = Sessions::Nothing;
                self.state.emptied();
                self.groups -= 1;
                let accumulators = self.take_single(slot);
                let key = self.state.key(slot);
                return self
                    .shared
                    .emit_of_key(key, window, &accumulators, None, emit);
            }
            Sessions::Several(all) => all.remove(0),
        };
        self.settle(slot);
        if self.state.get(slot).is_empty() {
            self.state.emptied();
        }
        self.arm(slot, None);
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

    /// Takes a row into the only session of a key, which it touches.
    fn extend(&mut self, slot: u32, open: Bounds, own: Bounds, row: &[Value], at: Progress) {
        self.lines.set(slot, at.line);
        *self.state.change(slot) = Sessions::One(Bounds {
            start: open.start.min(own.start),
            end: open.end.max(own.end),
        });
        let single = self.single.group_mut(slot, self.shared.empty.len());
        let arrival = if self.shared.by_arrival {
            next_arrival(single.iter())
        } else {
            1
        };
        self.shared.update(row, single, arrival);
        self.arm(slot, Some(open.end));
    }

    /// Opens the only session of a key, if it can be.
    fn open(
        &mut self,
        own: Bounds,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        if last_instant(own.end) <= at.watermark {
            return self.shared.late(row, lineage, own, at.watermark, emit);
        }
        let Some(slot) = self.state.slot(&self.scratch.partition) else {
            let key = self.shared.key_text(row, context);
            return discard_new_key(&key, self.state.len(), emit);
        };
        self.lines.set(slot, at.line);
        *self.state.change(slot) = Sessions::One(own);
        self.groups += 1;
        let place = place_of(&mut self.single, &self.shared.empty, slot);
        self.shared.update(row, place, 1);
        self.arm(slot, None);
    }

    /// Takes a row into those of the open sessions that it touches, or opens one, if it can be.
    #[expect(clippy::too_many_arguments, reason = "those of a row on its way")]
    fn join(
        &mut self,
        known: Option<u32>,
        own: Bounds,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let Bounds { start, end } = own;
        let open = known.map_or(&[][..], |slot| self.state.get(slot).several());
        // Those that the row's own session overlaps or touches.
        let first = open.partition_point(|session| session.end < start);
        let behind = first + open[first..].partition_point(|session| session.start <= end);
        let joined = &open[first..behind];
        if joined.is_empty() && last_instant(end) <= at.watermark {
            return self.shared.late(row, lineage, own, at.watermark, emit);
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
        self.lines.set(slot, at.line);
        let open = self.state.change(slot).make_several();
        let arrival = if self.shared.by_arrival {
            let groups = open.iter().flat_map(|session| &session.groups);
            next_arrival(groups.flat_map(|group| &group.accumulators))
        } else {
            1
        };
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
        let before = known.and_then(|slot| self.state.get(slot).first_end());
        let own = Bounds { start, end };
        if let Some(slot) = known
            && let Sessions::One(open) = *self.state.get(slot)
        {
            if start <= open.end && open.start <= end {
                return self.extend(slot, open, own, row, at);
            }
            if last_instant(end) <= at.watermark {
                return self.shared.late(row, lineage, own, at.watermark, emit);
            }
            self.spread(slot);
        }
        if known.is_none() && self.whole {
            return self.open(own, row, lineage, at, context, emit);
        }
        self.join(known, own, row, lineage, at, context, emit);
        let slot = self.state.find(&self.scratch.partition);
        if let Some(slot) = slot {
            self.settle(slot);
            self.arm(slot, before);
        }
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
        let (single, lines, width) = (&self.single, &self.lines, self.shared.empty.len());
        self.state.seal_by(out, |slot, sessions, out| {
            sessions.encode(lines.get(slot), sessions.single(single, slot, width), out);
        })
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        let (single, lines, width) = (&self.single, &self.lines, self.shared.empty.len());
        self.state
            .snapshot_by(piece_bytes, out, |slot, sessions, _, out| {
                sessions.encode(lines.get(slot), sessions.single(single, slot, width), out);
            });
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let Self {
            state,
            single,
            lines,
            shared,
            whole,
            ..
        } = self;
        state.restore_by(from, |slot, sessions, from| {
            let mut place: &mut [Accumulator] = &mut [];
            if *whole {
                place = place_of(single, &shared.empty, slot);
                place.clone_from_slice(&shared.empty);
            }
            if let Some(from) = from {
                lines.set(slot, from.timeline(usize::MAX)?);
                let all = Sessions::decode(&shared.plan.aggregates, from)?;
                *sessions = Sessions::Several(all);
                sessions.settle(*whole, place);
            }
            Ok(())
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        self.groups = 0;
        let slots: Vec<u32> = self.state.live().collect();
        for slot in slots {
            let groups = match self.state.get(slot) {
                Sessions::Nothing => 0,
                Sessions::One(_) => 1,
                Sessions::Several(all) => all.iter().map(|session| session.groups.len()).sum(),
            };
            self.groups += groups;
            self.arm(slot, None);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}

/// Where the accumulators of a key with one session stand.
fn place_of<'a>(
    single: &'a mut Slab<Accumulator>,
    empty: &Accumulators,
    slot: u32,
) -> &'a mut [Accumulator] {
    while single.len() <= slot as usize {
        single.push_group(empty.len(), empty.iter().cloned());
    }
    single.group_mut(slot, empty.len())
}
