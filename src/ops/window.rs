//! Tumbling and hopping event-time windows: aggregates per key and window.
//!
//! A window is cut into panes as long as its slide; a row updates one pane, and a window that fires merges its
//! panes. Windows are `[start, end)` on a grid anchored at 1970 and fire when the watermark reaches their last
//! instant, `end - 1 ms` (Flink's rule). A row is late when the last of its windows has fired; if only some have,
//! it counts in the others. A key gets a row only for windows in which it has events.
//!
//! State per key: its open panes, and its timeline. What is due when is derived from them and not stored.

use smallvec::SmallVec;

use super::accumulator::{Accumulator, Arguments};
use super::keyed::{KeyState, Keyed};
use super::timers::Timers;
use super::{Discard, Emit, Operator};
use crate::expr::{Context, EvalError, Expr};
use crate::plan::{Aggregate, AggregateFunction as Function, Window};
use crate::state::{Decoder, Encoder, StateError, decode_key, key_bytes};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Timespan, Value};

/// The windows `[start, end)` that `time` belongs to, earliest first. None for windows that come with the row.
pub fn assign_windows(
    window: &Window,
    time: EventTime,
) -> impl Iterator<Item = (EventTime, EventTime)> {
    let grid = Grid::of(window);
    let count = grid.map_or(0, |grid| {
        (grid.size.as_micros() / grid.slide.as_micros()).max(1)
    });
    let grid = grid.unwrap_or(Grid::NONE);
    let last = time.align_down(grid.slide, grid.offset);
    (0..count).rev().map(move |back| {
        let span = grid.slide.as_micros().saturating_mul(back);
        let start = last.minus(Timespan::from_micros(span));
        (start, start.plus(grid.size))
    })
}

/// Where windows of one size begin: every `slide`, shifted by `offset`.
#[derive(Clone, Copy, Debug)]
struct Grid {
    size: Timespan,
    slide: Timespan,
    offset: Timespan,
}

impl Grid {
    /// A grid for where none is used.
    const NONE: Self = Self {
        size: Timespan::MILLISECOND,
        slide: Timespan::MILLISECOND,
        offset: Timespan::ZERO,
    };

    fn of(window: &Window) -> Option<Self> {
        match *window {
            Window::Tumble { size, offset } => Some(Self {
                size,
                slide: size,
                offset,
            }),
            Window::Hop {
                slide,
                size,
                offset,
            } => Some(Self {
                size,
                slide,
                offset,
            }),
            Window::Attached { .. } => None,
        }
    }
}

/// The last instant of a window that ends at `end`; the watermark that reaches it closes the window.
fn last_instant(end: EventTime) -> EventTime {
    end.minus(Timespan::MILLISECOND)
}

/// A key for people: its values as SQL writes them.
fn key_text(key: &[Value]) -> String {
    let values = key.iter().cloned().map(|v| Expr::Literal(v).to_string());
    values.collect::<Vec<_>>().join(", ")
}

/// `GROUP BY keys, window_start, window_end` over TUMBLE or HOP.
#[derive(Debug)]
pub struct WindowAggregate {
    window: Window,
    /// The grid of the windows; none if they come with the row, in which case a pane is a window.
    grid: Option<Grid>,
    time: usize,
    keys: Vec<Expr>,
    aggregates: Vec<Aggregate>,
    empty: SmallVec<[Accumulator; 2]>,
    /// Whether panes are merged of which the first or last to arrive counts.
    by_arrival: bool,
    fingerprint: Fingerprint,
    state: Keyed<Panes>,
    /// Which keys have a window whose last instant is reached.
    due: Timers,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    key: Row,
    key_bytes: Vec<u8>,
    arguments: Arguments,
    output: Row,
}

/// The open panes of one key, earliest first.
#[derive(Debug, Default)]
struct Panes {
    open: SmallVec<[Pane; 1]>,
    line: Timeline,
    /// The end of the next window this key is listed for, if it is.
    armed: Option<EventTime>,
}

#[derive(Debug)]
struct Pane {
    start: EventTime,
    /// The end of the last window it is part of.
    last_end: EventTime,
    accumulators: SmallVec<[Accumulator; 2]>,
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

impl WindowAggregate {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(
        window: &Window,
        time: usize,
        keys: Vec<Expr>,
        aggregates: Vec<Aggregate>,
        fingerprint: Fingerprint,
        max_keys: usize,
    ) -> Self {
        let empty = aggregates.iter().map(Accumulator::new).collect();
        let first_or_last =
            |a: &Aggregate| matches!(a.function, Function::FirstValue | Function::LastValue);
        let by_arrival =
            matches!(window, Window::Hop { .. }) && aggregates.iter().any(first_or_last);
        Self {
            grid: Grid::of(window),
            window: window.clone(),
            time,
            keys,
            aggregates,
            empty,
            by_arrival,
            fingerprint,
            state: Keyed::new(max_keys),
            due: Timers::default(),
            scratch: Scratch::default(),
        }
    }

    fn evaluate(&mut self, row: &[Value], context: &Context) -> Result<(), EvalError> {
        let scratch = &mut self.scratch;
        scratch.key.clear();
        for key in &self.keys {
            scratch.key.push(key.eval(row, context)?);
        }
        scratch.key_bytes.clear();
        key_bytes(&scratch.key, &mut scratch.key_bytes);
        scratch.arguments.evaluate(&self.aggregates, row, context)
    }

    /// The pane of a row, as its start and the end of its last window; `None` if the row has no time.
    fn pane_of(&self, row: &[Value]) -> Option<(EventTime, EventTime)> {
        let time = |column: usize| match row[column] {
            Value::Timestamp(micros) => Some(EventTime::from_micros(micros)),
            _ => None,
        };
        match (&self.window, &self.grid) {
            (Window::Attached { start, end }, _) => Some((time(*start)?, time(*end)?)),
            (_, Some(grid)) => {
                let start = time(self.time)?.align_down(grid.slide, grid.offset);
                Some((start, start.plus(grid.size)))
            }
            (_, None) => None,
        }
    }

    /// The end of the earliest window over a pane that has not fired at a watermark.
    fn next_end(&self, pane: &Pane, watermark: EventTime) -> EventTime {
        let Some(grid) = &self.grid else {
            return pane.last_end;
        };
        let first = pane.start.plus(grid.slide);
        if last_instant(first) > watermark {
            return first;
        }
        // Ends lie on the grid; the next one whose last instant is after the watermark.
        let passed = watermark.plus(Timespan::MILLISECOND);
        passed
            .align_down(grid.slide, grid.offset)
            .plus(grid.slide)
            .max(first)
    }

    fn arm(&mut self, slot: u32, watermark: EventTime) {
        let panes = self.state.get(slot);
        // On a grid the earliest pane has the earliest end.
        let looked_at = if self.grid.is_some() { 1 } else { usize::MAX };
        let ends = panes
            .open
            .iter()
            .take(looked_at)
            .map(|pane| self.next_end(pane, watermark));
        let Some(end) = ends.min() else { return };
        if panes.armed.is_none_or(|armed| end < armed) {
            self.due.set(panes.line, last_instant(end), slot);
            // Being listed is derived from the panes: it does not make the key dirty.
            self.state.annotate(slot).armed = Some(end);
        }
    }

    fn fire(&mut self, end: EventTime, slot: u32, emit: &mut dyn Emit) {
        let panes = self.state.get(slot);
        if panes.armed != Some(end) {
            return;
        }
        match self.grid {
            Some(grid) => {
                let start = end.minus(grid.size);
                let inside = |pane: &&Pane| pane.start >= start && pane.start < end;
                let mut merged: Option<SmallVec<[Accumulator; 2]>> = None;
                for pane in panes.open.iter().filter(inside) {
                    match &mut merged {
                        None => merged = Some(pane.accumulators.clone()),
                        Some(merged) => {
                            let pairs = merged.iter_mut().zip(&pane.accumulators);
                            for ((into, from), aggregate) in pairs.zip(&self.aggregates) {
                                into.merge(aggregate, from);
                            }
                        }
                    }
                }
                if let Some(merged) = merged {
                    self.emit_window(start, end, slot, &merged, emit);
                }
            }
            None => {
                let ending = |pane: &&Pane| pane.last_end == end;
                let windows: SmallVec<[_; 1]> = panes
                    .open
                    .iter()
                    .filter(ending)
                    .map(|pane| (pane.start, pane.accumulators.clone()))
                    .collect();
                for (start, accumulators) in windows {
                    self.emit_window(start, end, slot, &accumulators, emit);
                }
            }
        }
        if self
            .state
            .get(slot)
            .open
            .iter()
            .any(|pane| pane.last_end <= end)
        {
            let panes = &mut self.state.change(slot).open;
            panes.retain(|pane| pane.last_end > end);
            if panes.is_empty() {
                self.state.emptied();
            }
        }
        self.state.annotate(slot).armed = None;
        self.arm(slot, last_instant(end));
    }

    fn emit_window(
        &mut self,
        start: EventTime,
        end: EventTime,
        slot: u32,
        accumulators: &[Accumulator],
        emit: &mut dyn Emit,
    ) {
        let key = self.state.key(slot);
        let output = &mut self.scratch.output;
        output.clear();
        match decode_key(key) {
            Ok(key) => output.extend(key),
            Err(error) => {
                let detail = format!("the key of a window cannot be read: {error}");
                emit.discard(Discard {
                    reason: "corrupt_key",
                    detail,
                });
                return;
            }
        }
        for (accumulator, aggregate) in accumulators.iter().zip(&self.aggregates) {
            match accumulator.result(aggregate, Some(end)) {
                Ok(value) => output.push(value),
                Err(Discard { reason, detail }) => {
                    let key = key_text(&output[..self.keys.len()]);
                    let detail = format!("window [{start}, {end}) of key {key}: {detail}");
                    emit.discard(Discard { reason, detail });
                    return;
                }
            }
        }
        output.push(Value::Timestamp(start.as_micros()));
        output.push(Value::Timestamp(end.as_micros()));
        output.push(Value::Timestamp(last_instant(end).as_micros()));
        let identity = &mut self.scratch.key_bytes;
        identity.clear();
        identity.extend_from_slice(key);
        identity.extend_from_slice(&start.as_micros().to_le_bytes());
        identity.extend_from_slice(&end.as_micros().to_le_bytes());
        emit.row(output, Lineage::derived(self.fingerprint, identity));
    }
}

impl Operator for WindowAggregate {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        _lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let Some((start, last_end)) = self.pane_of(row) else {
            let detail = "the event time is NULL, so the row belongs to no window".to_owned();
            emit.discard(Discard {
                reason: "null_time",
                detail,
            });
            return;
        };
        if last_instant(last_end) <= at.watermark {
            let begin = self.grid.map_or(start, |grid| last_end.minus(grid.size));
            let detail = format!(
                "late: its window [{begin}, {last_end}) closed when the watermark reached {}",
                at.watermark
            );
            emit.discard(Discard {
                reason: "late",
                detail,
            });
            return;
        }
        if let Err(error) = self.evaluate(row, context) {
            emit.discard(Discard {
                reason: "expression_error",
                detail: error.to_string(),
            });
            return;
        }
        let Some(slot) = self.state.slot(&self.scratch.key_bytes) else {
            let detail = format!(
                "key {} is new and limits.max_keys = {} keys have open windows",
                key_text(&self.scratch.key),
                self.state.len()
            );
            emit.discard(Discard {
                reason: "max_keys",
                detail,
            });
            return;
        };
        let found = self.state.change(slot);
        found.line = at.line;
        let panes = &mut found.open;
        // The pane is nearly always the last one.
        let place = (start, last_end);
        let found = panes
            .iter()
            .rposition(|pane| (pane.start, pane.last_end) <= place);
        let pane = match found {
            Some(pane) if (panes[pane].start, panes[pane].last_end) == place => pane,
            other => {
                let pane = other.map_or(0, |before| before + 1);
                let accumulators = self.empty.clone();
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
        let arrival = if self.by_arrival {
            let held = panes.iter().flat_map(|pane| &pane.accumulators);
            held.map(Accumulator::arrival)
                .max()
                .map_or(1, |last| last.saturating_add(1))
        } else {
            1
        };
        let accumulators = &mut panes[pane].accumulators;
        let arguments = &self.scratch.arguments;
        arguments.update(&self.aggregates, accumulators, arrival);
        self.arm(slot, at.watermark);
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        // Fired one window after the other, so that a key's windows come in order.
        while let Some((instant, mut slots)) = self.due.take(to) {
            slots.sort_unstable_by(|a, b| self.state.key(*a).cmp(self.state.key(*b)));
            let end = instant.plus(Timespan::MILLISECOND);
            for slot in slots {
                self.fire(end, slot, emit);
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
        let aggregates = &self.aggregates;
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
            self.arm(slot, reached);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
