//! Window Top-N: the first rows of each key and window, in order, when the window closes.
//!
//! A window is kept as its best rows so far, at most as many as are asked for; one more drives out the last, as asked.
//! Of rows that are equal in order the one that came first is first. A row is late when its window has closed.

use std::cmp::Ordering;

use super::super::keyed::{KeyState, Keyed, WrittenState, key_text, read_key};
use super::super::timers::Timers;
use super::super::{Discard, Emit, Operator};
use super::{no_room, time_of};
use crate::expr::{Context, EvalError, Expr, total_order};
use crate::plan::SortKey;
use crate::state::{Decoder, Encoder, StateError, push_key};
use crate::types::{EventTime, Lineage, Progress, Row, Timeline, Timespan, Value};

/// `ROW_NUMBER() OVER (PARTITION BY window_start, window_end, keys ORDER BY …) <= limit`.
#[derive(Debug)]
pub struct WindowTop {
    /// The columns with the start and the end of the window.
    window: (usize, usize),
    keys: Vec<Expr>,
    order: Vec<SortKey>,
    limit: usize,
    state: Keyed<Best>,
    /// Which windows have closed.
    due: Timers,
    key_bytes: Vec<u8>,
    output: Row,
}

/// The best rows of one key and window.
#[derive(Debug, Default)]
struct Best {
    rows: Vec<Ranked>,
    line: Timeline,
    end: Option<EventTime>,
}

#[derive(Debug)]
struct Ranked {
    by: Box<[Value]>,
    lineage: Lineage,
    row: Box<[Value]>,
}

impl KeyState for Best {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl WrittenState for Best {
    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        out.time(self.end.unwrap_or(EventTime::MIN));
        out.u64(self.rows.len() as u64);
        for ranked in &self.rows {
            out.values(&ranked.by);
            out.lineage(ranked.lineage);
            out.values(&ranked.row);
        }
    }
}

impl WindowTop {
    /// The operator of a plan's node; `window` has the columns with its start and end. `max_keys` bounds its state.
    pub fn new(
        window: (usize, usize),
        keys: Vec<Expr>,
        order: Vec<SortKey>,
        limit: usize,
        max_keys: usize,
    ) -> Self {
        Self {
            window,
            keys,
            order,
            // A plan asks for one at least.
            limit: limit.max(1),
            state: Keyed::new(max_keys),
            due: Timers::default(),
            key_bytes: Vec::new(),
            output: Row::new(),
        }
    }

    fn evaluate(&mut self, row: &[Value], context: &Context) -> Result<Box<[Value]>, EvalError> {
        read_key(&self.keys, row, context, &mut self.key_bytes)?;
        // Windows of a key come out in the order of their end, as their timers do.
        push_key(&row[self.window.0], &mut self.key_bytes);
        push_key(&row[self.window.1], &mut self.key_bytes);
        let by = self.order.iter();
        by.map(|key| key.expr.eval(row, context)).collect()
    }
}

/// Which of two rows is first.
fn compare(order: &[SortKey], a: &[Value], b: &[Value]) -> Ordering {
    for (key, (a, b)) in order.iter().zip(a.iter().zip(b)) {
        let by = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (false, false) if key.descending => total_order(b, a),
            (false, false) => total_order(a, b),
            (a_null, _) if a_null == key.nulls_first => Ordering::Less,
            _ => Ordering::Greater,
        };
        if by.is_ne() {
            return by;
        }
    }
    Ordering::Equal
}

/// The last instant of a window that ends at `end`.
fn last_instant(end: EventTime) -> EventTime {
    end.minus(Timespan::MILLISECOND)
}

impl Operator for WindowTop {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let bounds = time_of(row, self.window.0).and_then(|start| {
            let end = time_of(row, self.window.1)?;
            Ok((start, end))
        });
        let (start, end) = match bounds {
            Ok(bounds) => bounds,
            Err(discard) => return emit.discard(discard),
        };
        if last_instant(end) <= at.watermark {
            let detail = format!(
                "late: its window [{start}, {end}) closed when the watermark reached {}",
                at.watermark
            );
            return emit.discard(Discard {
                reason: "late",
                detail,
            });
        }
        let by = match self.evaluate(row, context) {
            Ok(by) => by,
            Err(error) => return emit.discard(Discard::expression(&error)),
        };
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(no_room(&key_text(&self.key_bytes), self.state.len()));
        };
        let best = self.state.get(slot);
        let fresh = best.rows.is_empty();
        let order = &self.order;
        let place = best
            .rows
            .partition_point(|known| compare(order, &known.by, &by).is_le());
        if place >= self.limit {
            return;
        }
        let best = self.state.change(slot);
        best.rows.truncate(self.limit - 1);
        let ranked = Ranked {
            by,
            lineage,
            row: row.into(),
        };
        best.rows.insert(place, ranked);
        if fresh {
            best.line = at.line;
            best.end = Some(end);
            self.due.set(at.line, last_instant(end), slot);
        }
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some((instant, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                let end = self.state.get(slot).end;
                if end.map(last_instant) != Some(instant) {
                    continue;
                }
                let best = std::mem::take(self.state.change(slot));
                self.state.emptied();
                for (number, ranked) in (1..).zip(&best.rows) {
                    self.output.clear();
                    self.output.extend_from_slice(&ranked.row);
                    self.output.push(Value::Int(number));
                    emit.row(&self.output, ranked.lineage);
                }
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
        self.state.restore(from, |from| {
            let mut best = Best {
                line: from.timeline(usize::MAX)?,
                end: Some(from.time()?),
                rows: Vec::new(),
            };
            for _ in 0..from.count("rows")? {
                best.rows.push(Ranked {
                    by: from.values()?.into(),
                    lineage: from.lineage()?,
                    row: from.values()?.into(),
                });
            }
            Ok(best)
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            let best = self.state.get(slot);
            if let Some(end) = best.end {
                self.due.set(best.line, last_instant(end), slot);
            }
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
