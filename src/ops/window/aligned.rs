//! Windows whose bounds follow from a row alone: TUMBLE, HOP, CUMULATE, and windows that come with the row.
//!
//! A window is cut into panes as long as its slide (of CUMULATE: its step); a row updates one pane, and a window that
//! fires is put together of its panes (`stacks`). A row is late when the last of its windows has
//! fired; if only some have, it counts in the others. With an allowed lateness panes are kept that much longer, and a
//! late row gives each window it changes again at once.
//!
//! State per key: its open panes, and its timeline. What is due when is derived from them and not stored. The panes of a
//! cumulating window that have been given are one pane, unless late rows may still change them one by one.

use smallvec::SmallVec;

use super::super::keyed::Keyed;
use super::super::timers::Timers;
use super::super::{Accumulator, Discard, Emit, Operator};
use super::grid::Grid;
use super::panes::{Pane, Panes};
use super::stacks::{FEW_PANES, Stacks, put_together};
use super::{
    Accumulators, Aggregation, Bounds, Shared, discard_new_key, discard_timeless, last_instant,
    next_arrival, time_of,
};
use crate::expr::Context;
use crate::plan::{LateRows, Window};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Progress, Timeline, Timespan, Value};

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
    /// Whether what has been put together of panes is kept: where accumulators are small.
    stacks: bool,
    /// Room for the panes of a window, put together, and for the work.
    merged: Accumulators,
    spare: Accumulators,
}

/// The most bytes of the accumulators of an aggregate that are kept a second time.
const SMALL_BYTES: usize = 160;

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
            stacks: {
                let mut aggregates = aggregation.aggregates.iter();
                aggregates.all(|one| Accumulator::bytes_bound(one) <= SMALL_BYTES)
            },
            shared: Shared::new(aggregation),
            state: Keyed::new(max_keys),
            due: Timers::default(),
            key_bytes: Vec::new(),
            merged: Accumulators::new(),
            spare: Accumulators::new(),
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
        let allowed = self.allowed;
        let forgets = |pane: &Pane| pane.last_end.plus(allowed) <= at;
        if self.grid.is_some() {
            // On a grid the earliest panes go first.
            let gone = self.state.get(slot).open.partition_point(forgets);
            if gone > 0 {
                self.state.change(slot).open.drain(..gone);
            }
        } else if let Some(gone) = self.state.get(slot).open.iter().find(|pane| forgets(pane)) {
            let first = gone.start;
            let panes = self.state.change(slot);
            panes.changes(first);
            panes.open.retain(|pane| !forgets(pane));
        }
        if self.state.get(slot).open.is_empty() {
            self.state.emptied();
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
            spare,
            ..
        } = self;
        let open = &state.get(slot).open;
        let from = open.partition_point(|pane| pane.start < start);
        let to = open.partition_point(|pane| pane.start < end);
        let window = Bounds { start, end };
        match to - from {
            0 => return,
            1 => {
                let accumulators = &open[from].accumulators;
                return shared.emit_of_key(state.key(slot), window, accumulators, caused_by, emit);
            }
            _ => {}
        }
        let aggregates = &shared.plan.aggregates;
        let border = grid.start_of_size(end.minus(grid.slide));
        if self.stacks && to - from >= FEW_PANES && caused_by.is_none() {
            let Panes { open, stacks, .. } = state.annotate(slot);
            let panes = &open[from..to];
            let stacks = match stacks {
                Some(stacks) if stacks.is_over(border) => stacks,
                _ => stacks.insert(Box::new(Stacks::new(aggregates, panes, border))),
            };
            stacks.window(aggregates, panes, end, merged);
        } else {
            put_together(aggregates, &open[from..to], border, merged, spare);
        }
        shared.emit_of_key(state.key(slot), window, merged, caused_by, emit);
        if grid.cumulates && self.allowed == Timespan::ZERO {
            // All longer windows have them too.
            let panes = state.change(slot);
            panes.changes(panes.open[from].start);
            panes.open[from].accumulators = std::mem::take(merged);
            panes.open.drain(from + 1..to);
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
        found.changes(start);
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
        self.state
            .restore_changes(from, |from, panes| panes.decode_changes(aggregates, from))
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
