//! Windows whose bounds follow from a row alone: TUMBLE, HOP, CUMULATE, and windows that come with the row.
//!
//! A window is cut into panes as long as its slide (of CUMULATE: its step); a row updates one pane, and a window that
//! fires merges its panes. Windows lie on a grid anchored at 1970. A row is late when the last of its windows has
//! fired; if only some have, it counts in the others. With an allowed lateness panes are kept that much longer, and a
//! late row gives each window it changes again at once.
//!
//! State per key: its open panes, and its timeline. What is due when is derived from them and not stored. The panes of a
//! cumulating window that have been given are one pane, unless late rows may still change them one by one.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed};
use super::super::timers::Timers;
use super::super::{Accumulator, Discard, Emit, Operator};
use super::{
    Accumulators, Aggregation, Bounds, Shared, discard_new_key, discard_timeless, last_instant,
    merge, next_arrival, time_of,
};
use crate::expr::Context;
use crate::plan::{LateRows, Window};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Progress, Timeline, Timespan, Value};

/// The windows `[start, end)` that `time` belongs to, earliest first. None for windows that do not follow from it.
pub fn assign_windows(
    window: &Window,
    time: EventTime,
) -> impl Iterator<Item = (EventTime, EventTime)> {
    let (grid, count) = match Grid::of(window) {
        Some(grid) => (grid, grid.size.as_micros() / grid.slide.as_micros()),
        None => (Grid::NONE, 0),
    };
    let pane = grid.pane(time);
    let start = grid.start_of_size(pane);
    let span =
        move |panes: i64| Timespan::from_micros(grid.slide.as_micros().saturating_mul(panes));
    let passed = if grid.cumulates {
        pane.since(start).as_micros() / grid.slide.as_micros()
    } else {
        0
    };
    (passed..count).map(move |index| {
        if grid.cumulates {
            (start, start.plus(span(index + 1)))
        } else {
            let start = pane.minus(span(count - 1 - index));
            (start, start.plus(grid.size))
        }
    })
}

/// Where windows lie: panes every `slide`, shifted by `offset`.
#[derive(Clone, Copy, Debug)]
struct Grid {
    size: Timespan,
    slide: Timespan,
    offset: Timespan,
    /// Whether windows share their start and grow by `slide`, instead of sharing their length and starting every `slide`.
    cumulates: bool,
}

impl Grid {
    /// A grid for where none is used.
    const NONE: Self = Self {
        size: Timespan::MILLISECOND,
        slide: Timespan::MILLISECOND,
        offset: Timespan::ZERO,
        cumulates: false,
    };

    fn of(window: &Window) -> Option<Self> {
        let (size, slide, offset, cumulates) = match *window {
            Window::Tumble { size, offset } => (size, size, offset, false),
            Window::Hop {
                slide,
                size,
                offset,
            } => (size, slide, offset, false),
            Window::Cumulate { step, size, offset } => (size, step, offset, true),
            Window::Attached { .. } | Window::Session { .. } | Window::Count { .. } => return None,
        };
        Some(Self {
            size,
            slide,
            offset,
            cumulates,
        })
    }

    /// The start of the pane of a point in time.
    fn pane(&self, time: EventTime) -> EventTime {
        time.align_down(self.slide, self.offset)
    }

    /// The start of the longest cumulating window over a pane.
    fn start_of_size(&self, pane: EventTime) -> EventTime {
        pane.align_down(self.size, self.offset)
    }

    /// The end of the last window over a pane.
    fn last_end(&self, pane: EventTime) -> EventTime {
        if self.cumulates {
            self.start_of_size(pane).plus(self.size)
        } else {
            pane.plus(self.size)
        }
    }

    /// The start of the window that ends at `end`.
    fn start(&self, end: EventTime) -> EventTime {
        if self.cumulates {
            self.start_of_size(end.minus(self.slide))
        } else {
            end.minus(self.size)
        }
    }

    /// The ends of the windows over a pane, earliest first.
    fn ends(self, pane: EventTime) -> impl Iterator<Item = EventTime> {
        let last = self.last_end(pane);
        let next = move |end: &EventTime| {
            let next = end.plus(self.slide);
            (next <= last && next > *end).then_some(next)
        };
        std::iter::successors(Some(pane.plus(self.slide)), next)
    }
}

/// Aggregates per key and window.
#[derive(Debug)]
pub(super) struct AlignedAggregate {
    window: Window,
    /// The grid of the windows; none if they come with the row, in which case a pane is a window.
    grid: Option<Grid>,
    /// Whether a window is of several panes.
    merges: bool,
    /// How long a window that has fired can still be revised.
    allowed: Timespan,
    shared: Shared,
    state: Keyed<Panes>,
    /// Which keys have a window whose last instant is reached, or panes to forget.
    due: Timers,
    key_bytes: Vec<u8>,
    /// Room for the panes of a window, put together.
    merged: Accumulators,
}

/// The open panes of one key, earliest first.
#[derive(Debug, Default)]
struct Panes {
    open: SmallVec<[Pane; 1]>,
    line: Timeline,
    /// What this key is listed for, if it is: the end of its next window, or when its next pane is forgotten.
    armed: Option<EventTime>,
}

#[derive(Debug)]
struct Pane {
    start: EventTime,
    /// The end of the last window it is part of.
    last_end: EventTime,
    accumulators: Accumulators,
}

impl KeyState for Panes {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        out.u64(self.open.len() as u64);
        for pane in &self.open {
            out.time(pane.start);
            out.span(pane.last_end.since(pane.start));
            for accumulator in &pane.accumulators {
                accumulator.encode(out);
            }
        }
    }
}

impl AlignedAggregate {
    pub(super) fn new(window: &Window, aggregation: Aggregation, max_keys: usize) -> Self {
        let allowed = match aggregation.late {
            LateRows::Update { allowed } => allowed,
            LateRows::DeadLetter | LateRows::Table => Timespan::ZERO,
        };
        Self {
            grid: Grid::of(window),
            merges: matches!(window, Window::Hop { .. } | Window::Cumulate { .. }),
            window: window.clone(),
            allowed,
            shared: Shared::new(aggregation),
            state: Keyed::new(max_keys),
            due: Timers::default(),
            key_bytes: Vec::new(),
            merged: Accumulators::new(),
        }
    }

    /// The pane of a row, as its start and the end of its last window; `None` if the row has no time.
    fn pane_of(&self, row: &[Value]) -> Option<(EventTime, EventTime)> {
        match (&self.window, &self.grid) {
            (Window::Attached { start, end }, _) => {
                Some((time_of(row, *start)?, time_of(row, *end)?))
            }
            (_, Some(grid)) => {
                let start = grid.pane(time_of(row, self.shared.plan.time)?);
                Some((start, grid.last_end(start)))
            }
            (_, None) => None,
        }
    }

    /// When a pane is to be looked at next: at the end of the earliest window over it that has not fired, or when it
    /// is to be forgotten.
    fn next_due(
        &self,
        (start, last_end): (EventTime, EventTime),
        watermark: EventTime,
    ) -> EventTime {
        let forgotten = last_end.plus(self.allowed);
        if last_instant(last_end) <= watermark {
            return forgotten;
        }
        let Some(grid) = &self.grid else {
            return last_end;
        };
        let first = start.plus(grid.slide);
        if last_instant(first) > watermark {
            return first;
        }
        // Ends lie on the grid; the next one whose last instant is after the watermark.
        let passed = watermark.plus(Timespan::MILLISECOND);
        grid.pane(passed).plus(grid.slide).max(first)
    }

    /// Lists a key for `due` unless it is listed for something before.
    fn arm(&mut self, slot: u32, due: EventTime) {
        let panes = self.state.get(slot);
        if panes.armed.is_none_or(|armed| due < armed) {
            self.due.set(panes.line, last_instant(due), slot);
            // Being listed is derived from the panes: it does not make the key dirty.
            self.state.annotate(slot).armed = Some(due);
        }
    }

    /// Lists a key for what is due next of all its panes.
    fn arm_next(&mut self, slot: u32, watermark: EventTime) {
        let panes = self.state.get(slot);
        // On a grid the earliest pane has the earliest end, if it is not only waiting to be forgotten.
        let all = self.grid.is_none() || self.allowed > Timespan::ZERO;
        let looked_at = if all { usize::MAX } else { 1 };
        let panes = panes.open.iter().take(looked_at);
        let due = panes.map(|pane| self.next_due((pane.start, pane.last_end), watermark));
        if let Some(due) = due.min() {
            self.arm(slot, due);
        }
    }

    /// Does what is due at `at`.
    fn fire(&mut self, at: EventTime, slot: u32, emit: &mut dyn Emit) {
        if self.state.get(slot).armed != Some(at) {
            return;
        }
        self.give_windows_ending(at, slot, None, emit);
        let forgets = |pane: &Pane| pane.last_end.plus(self.allowed) <= at;
        if self.state.get(slot).open.iter().any(forgets) {
            let panes = &mut self.state.change(slot).open;
            panes.retain(|pane| pane.last_end.plus(self.allowed) > at);
            if panes.is_empty() {
                self.state.emptied();
            }
        }
        self.state.annotate(slot).armed = None;
        self.arm_next(slot, last_instant(at));
    }

    /// Gives the windows of a key that end at `end`.
    fn give_windows_ending(
        &mut self,
        end: EventTime,
        slot: u32,
        caused_by: Option<Lineage>,
        emit: &mut dyn Emit,
    ) {
        let Some(grid) = self.grid else {
            let panes = self.state.get(slot).open.iter();
            let windows: SmallVec<[_; 1]> = panes
                .filter(|pane| pane.last_end == end)
                .map(|pane| (pane.start, pane.accumulators.clone()))
                .collect();
            for (start, accumulators) in windows {
                self.emit(Bounds { start, end }, slot, &accumulators, caused_by, emit);
            }
            return;
        };
        if grid.pane(end) != end {
            return; // Panes are forgotten at any time.
        }
        let start = grid.start(end);
        let Self {
            shared,
            state,
            merged,
            ..
        } = self;
        let (key, open) = (state.key(slot), &state.get(slot).open);
        let from = open.partition_point(|pane| pane.start < start);
        let to = open.partition_point(|pane| pane.start < end);
        let Some((first, others)) = open[from..to].split_first() else {
            return;
        };
        let window = Bounds { start, end };
        if others.is_empty() {
            let accumulators = &first.accumulators;
            return shared.emit_of_key(key, window, accumulators, caused_by, emit);
        }
        merged.clear();
        merged.extend(first.accumulators.iter().cloned());
        for pane in others {
            merge(&shared.plan.aggregates, merged, &pane.accumulators);
        }
        shared.emit_of_key(key, window, merged, caused_by, emit);
        if grid.cumulates && self.allowed == Timespan::ZERO {
            // All longer windows have them too.
            let open = &mut state.change(slot).open;
            open[from].accumulators = std::mem::take(merged);
            open.drain(from + 1..to);
        }
    }

    /// Gives the windows over a pane again that had been given before a late row came.
    fn revise(
        &mut self,
        slot: u32,
        (start, last_end): (EventTime, EventTime),
        watermark: EventTime,
        lineage: Lineage,
        emit: &mut dyn Emit,
    ) {
        let ends: SmallVec<[EventTime; 4]> = match self.grid {
            Some(grid) => grid
                .ends(start)
                .take_while(|end| last_instant(*end) <= watermark)
                .filter(|end| last_instant(end.plus(self.allowed)) > watermark)
                .collect(),
            None if last_instant(last_end) <= watermark => SmallVec::from_slice(&[last_end]),
            None => SmallVec::new(),
        };
        if !ends.is_empty() {
            emit.count("late_update");
        }
        for end in ends {
            if self.grid.is_some() {
                self.give_windows_ending(end, slot, Some(lineage), emit);
                continue;
            }
            let panes = self.state.get(slot).open.iter();
            let found = panes
                .filter(|pane| (pane.start, pane.last_end) == (start, end))
                .map(|pane| pane.accumulators.clone())
                .next();
            if let Some(accumulators) = found {
                let window = Bounds { start, end };
                self.emit(window, slot, &accumulators, Some(lineage), emit);
            }
        }
    }

    fn emit(
        &mut self,
        window: Bounds,
        slot: u32,
        accumulators: &[Accumulator],
        caused_by: Option<Lineage>,
        emit: &mut dyn Emit,
    ) {
        let key = self.state.key(slot);
        self.shared
            .emit_of_key(key, window, accumulators, caused_by, emit);
    }
}

impl Operator for AlignedAggregate {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let Some(place) = self.pane_of(row) else {
            return discard_timeless(emit);
        };
        let (start, last_end) = place;
        if last_instant(last_end.plus(self.allowed)) <= at.watermark {
            let missed = Bounds {
                start: self.grid.map_or(start, |grid| grid.start(last_end)),
                end: last_end,
            };
            return self.shared.late(row, lineage, missed, at.watermark, emit);
        }
        if let Err(error) = self.shared.evaluate(row, context, &mut self.key_bytes) {
            return emit.discard(Discard::expression(&error));
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            let key = self.shared.key_text(row, context);
            return discard_new_key(&key, self.state.len(), emit);
        };
        let found = self.state.change(slot);
        found.line = at.line;
        let panes = &mut found.open;
        // The pane is nearly always the last one.
        let found = panes
            .iter()
            .rposition(|pane| (pane.start, pane.last_end) <= place);
        let pane = match found {
            Some(pane) if (panes[pane].start, panes[pane].last_end) == place => pane,
            other => {
                let pane = other.map_or(0, |before| before + 1);
                let accumulators = self.shared.fresh();
                panes.insert(
                    pane,
                    Pane {
                        start,
                        last_end,
                        accumulators,
                    },
                );
                pane
            }
        };
        let arrival = if self.merges && self.shared.by_arrival {
            next_arrival(panes.iter().flat_map(|pane| &pane.accumulators))
        } else {
            1
        };
        self.shared
            .update(row, &mut panes[pane].accumulators, arrival);
        self.arm(slot, self.next_due(place, at.watermark));
        if self.allowed > Timespan::ZERO {
            self.revise(slot, place, at.watermark, lineage, emit);
        }
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        // Fired one window after the other, so that a key's windows come in order.
        while let Some((instant, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            let at = instant.plus(Timespan::MILLISECOND);
            for slot in slots {
                self.fire(at, slot, emit);
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
            let mut panes = Panes {
                line: from.timeline(usize::MAX)?,
                ..Panes::default()
            };
            for _ in 0..from.u64()? {
                let start = from.time()?;
                let last_end = start.plus(from.span()?);
                let accumulators = aggregates.iter().map(|one| Accumulator::decode(one, from));
                let accumulators = accumulators.collect::<Result<_, _>>()?;
                panes.open.push(Pane {
                    start,
                    last_end,
                    accumulators,
                });
            }
            Ok(panes)
        })
    }

    fn resume(&mut self, watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            let found = self.state.annotate(slot);
            found.armed = None;
            let reached = watermark(found.line);
            self.arm_next(slot, reached);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
