//! Windows whose bounds follow from a row alone: TUMBLE, HOP, CUMULATE, and windows that come with the row.
//!
//! A window is cut into panes as long as its slide (of CUMULATE: its step); a row updates one pane, and a window that
//! fires is put together of its panes (`stacks`). A row is late when the last of its windows has
//! fired; if only some have, it counts in the others. With an allowed lateness panes are kept that much longer, and a
//! late row gives each window it changes again at once.
//!
//! State per key: its open panes, and its timeline. What is due when is derived from them and not stored. The panes of a
//! cumulating window that have been given are one pane, unless late rows may still change them one by one.
//!
//! Invariant: a key that has panes is listed for what is due next of them. It may be listed for more, so that whoever finds
//! it listed does what is due then, if anything is.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed};
use super::super::timers::Timers;
use super::super::{Accumulator, Discard, Emit, Operator};
use super::grid::Grid;
use super::panes::{OpenPanes, Panes};
use super::spans::Span;
use super::stacks::{FEW_PANES, Stacks, put_together};
use super::{
    Accumulators, Aggregation, Bounds, Shared, discard_new_key, discard_timeless, last_instant,
    next_arrival, time_of,
    written::{self, Before},
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
    open: OpenPanes,
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
        let stacks = {
            let mut aggregates = aggregation.aggregates.iter();
            aggregates.all(|one| Accumulator::bytes_bound(one) <= SMALL_BYTES)
        };
        let shared = Shared::new(aggregation);
        Self {
            grid: Grid::of(window),
            merges: matches!(window, Window::Hop { .. } | Window::Cumulate { .. }),
            window: window.clone(),
            allowed,
            stacks,
            open: OpenPanes::new(shared.empty.clone()),
            shared,
            state: Keyed::new(max_keys),
            due: Timers::default(),
            key_bytes: Vec::new(),
            merged: Accumulators::new(),
            spare: Accumulators::new(),
        }
    }

    /// The pane of a row; `None` if the row has no time.
    fn pane_of(&self, row: &[Value]) -> Option<Span> {
        let (start, last_end) = match (&self.window, &self.grid) {
            (Window::Attached { start, end }, _) => (time_of(row, *start)?, time_of(row, *end)?),
            (_, Some(grid)) => {
                let start = grid.pane(time_of(row, self.shared.plan.time)?);
                (start, grid.last_end(start))
            }
            (_, None) => return None,
        };
        Some(Span { start, last_end })
    }

    /// When a pane is to be looked at next: at the end of the earliest window over it that has not fired, or when it
    /// is to be forgotten.
    fn next_due(&self, Span { start, last_end }: Span, watermark: EventTime) -> EventTime {
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

    /// What is due next of the panes of a key that are not `but`.
    fn next_due_of(&self, slot: u32, but: Option<Span>, watermark: EventTime) -> Option<EventTime> {
        // On a grid the earliest pane has the earliest end, if it is not only waiting to be forgotten.
        let all = self.grid.is_none() || self.allowed > Timespan::ZERO;
        let looked_at = if all { usize::MAX } else { 1 };
        let spans = self.open.view(slot, *self.state.get(slot)).spans();
        let spans = spans.filter(|span| Some(*span) != but).take(looked_at);
        spans.map(|span| self.next_due(span, watermark)).min()
    }

    /// Lists a key for what is due next of all its panes.
    fn arm(&mut self, slot: u32, watermark: EventTime) {
        if let Some(due) = self.next_due_of(slot, None, watermark) {
            let line = self.open.line(slot);
            self.due.set(line, last_instant(due), slot);
        }
    }

    /// Lists a key that has a new pane, unless it is listed for others before or then.
    fn arm_for(&mut self, slot: u32, pane: Span, watermark: EventTime) {
        let due = self.next_due(pane, watermark);
        let others = self.next_due_of(slot, Some(pane), watermark);
        if others.is_none_or(|others| due < others) {
            let line = self.open.line(slot);
            self.due.set(line, last_instant(due), slot);
        }
    }

    /// Does what is due at `at`.
    fn fire(&mut self, at: EventTime, slot: u32, emit: &mut dyn Emit) {
        self.give_windows_ending(at, slot, None, emit);
        let allowed = self.allowed;
        let forgets = |pane: Span| pane.last_end.plus(allowed) <= at;
        let spans = self.open.view(slot, *self.state.get(slot)).spans();
        if self.grid.is_some() {
            // On a grid the earliest panes go first.
            let gone = spans.take_while(|pane| forgets(*pane)).count();
            if gone > 0 {
                let panes = self.state.change(slot);
                self.open.drop_first(slot, panes, gone);
            }
        } else if spans.into_iter().any(forgets) {
            let panes = self.state.change(slot);
            self.open.retain(slot, panes, |pane| !forgets(pane));
        }
        if self.state.get(slot).is_empty() {
            self.state.emptied();
        }
        self.arm(slot, last_instant(at));
    }

    /// Gives the windows of a key that end at `end`.
    fn give_windows_ending(
        &mut self,
        end: EventTime,
        slot: u32,
        caused_by: Option<Lineage>,
        emit: &mut dyn Emit,
    ) {
        let Self {
            shared,
            state,
            open,
            merged,
            spare,
            ..
        } = self;
        let panes = *state.get(slot);
        let all = open.view(slot, panes);
        let Some(grid) = self.grid else {
            for (at, span) in all.spans().enumerate() {
                if span.last_end == end {
                    let window = Bounds {
                        start: span.start,
                        end,
                    };
                    shared.emit_of_key(state.key(slot), window, all.of(at), caused_by, emit);
                }
            }
            return;
        };
        if grid.pane(end) != end {
            return; // Panes are forgotten at any time.
        }
        let start = grid.start(end);
        let (from, to) = (all.gone_before(start), all.before(end));
        let window = Bounds { start, end };
        match to - from {
            0 => return,
            1 => {
                let accumulators = all.of(from);
                return shared.emit_of_key(state.key(slot), window, accumulators, caused_by, emit);
            }
            _ => {}
        }
        let aggregates = &shared.plan.aggregates;
        let border = grid.start_of_size(end.minus(grid.slide));
        if self.stacks
            && to - from >= FEW_PANES
            && caused_by.is_none()
            && let Some((all, stacks)) = open.stacks(panes)
        {
            let panes = all.part(from..to);
            let stacks = match stacks {
                Some(stacks) if stacks.is_over(border) => stacks,
                _ => stacks.insert(Box::new(Stacks::new(aggregates, panes, border))),
            };
            stacks.window(aggregates, panes, end, merged);
        } else {
            let panes = open.view(slot, panes).part(from..to);
            put_together(aggregates, panes, border, merged, spare);
        }
        shared.emit_of_key(state.key(slot), window, merged, caused_by, emit);
        if grid.cumulates && self.allowed == Timespan::ZERO {
            // All longer windows have them too.
            let panes = state.change(slot);
            open.fold(slot, panes, from..to, merged);
        }
    }

    /// Gives the windows over a pane again that had been given before a late row came.
    fn revise(
        &mut self,
        slot: u32,
        Span { start, last_end }: Span,
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
            let panes = self.open.view(slot, *self.state.get(slot));
            let found = panes
                .spans()
                .position(|span| span == Span { start, last_end });
            if let Some(at) = found {
                let (key, window) = (self.state.key(slot), Bounds { start, end });
                self.shared
                    .emit_of_key(key, window, panes.of(at), Some(lineage), emit);
            }
        }
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
        let Span { start, last_end } = place;
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
        self.open.set_line(slot, at.line);
        let arrival = if self.merges && self.shared.by_arrival {
            let panes = self.open.view(slot, *self.state.get(slot));
            next_arrival(panes.accumulators().iter())
        } else {
            1
        };
        let panes = self.state.change(slot);
        let (accumulators, new) = self.open.take(slot, panes, place);
        self.shared.update(row, accumulators, arrival);
        if new {
            self.arm_for(slot, place, at.watermark);
        }
        if self.allowed > Timespan::ZERO {
            self.revise(slot, place, at.watermark, lineage, emit);
        }
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        // Fired one window after the other, so that a key's windows come in order.
        while let Some((instant, mut slots)) = self.due.take(to) {
            // Some have nothing left, or are another key's by now; some are listed twice.
            slots.retain(|slot| {
                !self.state.get(*slot).is_empty() && self.open.line(*slot) == to.line
            });
            self.state.sort(&mut slots);
            slots.dedup();
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
        let Self { state, open, .. } = self;
        let mut before = Before::default();
        state.seal_by(out, |slot, panes, out| {
            let (line, known) = (open.line(slot), open.known(*panes));
            written::encode(line, open.view(slot, *panes), known, &mut before, out);
            open.written(panes);
        })
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        let Self { state, open, .. } = self;
        let mut before = Before::default();
        state.snapshot_by(piece_bytes, out, |slot, panes, first, out| {
            if first {
                before = Before::default();
            }
            written::encode(
                open.line(slot),
                open.view(slot, *panes),
                0,
                &mut before,
                out,
            );
        });
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let Self {
            state,
            open,
            shared,
            ..
        } = self;
        let aggregates = &shared.plan.aggregates;
        let mut before = Before::default();
        state.restore_by(from, |slot, panes, from| match from {
            Some(from) => written::decode(aggregates, open, slot, panes, &mut before, from),
            None => {
                open.retain(slot, panes, |_| false);
                Ok(())
            }
        })
    }

    fn resume(&mut self, watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            let reached = watermark(self.open.line(slot));
            self.arm(slot, reached);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
