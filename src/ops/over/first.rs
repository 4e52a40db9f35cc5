//! Deduplication: the first row of each key, and again the first after the key was silent for longer than a span.
//!
//! Rows of a key that follow each other within the span are a run; its first row, by event time, is given when the
//! watermark reaches it, and the others are repetitions. A run is forgotten when no row that may come can belong to
//! it. A repetition that comes late is a repetition all the same; any other late row is discarded.
//!
//! State per key: its runs, nearly always one, and the first row of a run until it is given.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed, WrittenState, key_text, read_key};
use super::super::timers::Timers;
use super::super::{Discard, Emit, Operator};
use super::{MAX_WAITING_ROWS, no_room, time_of};
use crate::expr::{Context, Expr};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Progress, Row, Timeline, Timespan, Value};

/// The first row of each key within a span.
#[derive(Debug)]
pub struct Deduplicate {
    time: usize,
    keys: Vec<Expr>,
    within: Timespan,
    state: Keyed<Runs>,
    /// Which keys have a first row whose time is reached.
    due: Timers,
    /// Which keys have a run that may be forgotten. Nobody waits for that.
    expiry: Timers,
    key_bytes: Vec<u8>,
    output: Row,
}

/// The runs of one key, earliest first; more than `within` apart.
#[derive(Debug, Default)]
struct Runs {
    open: SmallVec<[Run; 1]>,
    line: Timeline,
}

#[derive(Debug)]
struct Run {
    first: EventTime,
    last: EventTime,
    /// Its first row, until that is given.
    row: Option<Box<(Lineage, Row)>>,
}

impl KeyState for Runs {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl WrittenState for Runs {
    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        out.u64(self.open.len() as u64);
        for run in &self.open {
            out.time(run.first);
            out.span(run.last.since(run.first));
            out.bool(run.row.is_some());
            if let Some(row) = &run.row {
                out.lineage(row.0);
                out.values(&row.1);
            }
        }
    }
}

/// What a row is to the runs of its key.
enum Place {
    /// A repetition in this run.
    Repeats(usize),
    /// It comes before the first row of this run, and takes its place.
    Leads(usize),
    /// A run of its own, before this one.
    New(usize),
}

impl Deduplicate {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(time: usize, keys: Vec<Expr>, within: Timespan, max_keys: usize) -> Self {
        Self {
            time,
            keys,
            within,
            state: Keyed::new(max_keys),
            due: Timers::default(),
            expiry: Timers::default(),
            key_bytes: Vec::new(),
            output: Row::new(),
        }
    }

    fn place(&self, runs: &[Run], time: EventTime) -> Place {
        let before = runs.iter().rposition(|run| run.first <= time);
        if let Some(before) = before
            && time <= runs[before].last.plus(self.within)
        {
            return Place::Repeats(before);
        }
        let next = before.map_or(0, |before| before + 1);
        match runs.get(next) {
            Some(run) if run.first.minus(self.within) <= time && run.row.is_some() => {
                Place::Leads(next)
            }
            _ => Place::New(next),
        }
    }

    /// Lists a run for its first row, or to be forgotten.
    fn arm(&mut self, slot: u32, run: usize) {
        let runs = self.state.get(slot);
        let Some(run) = runs.open.get(run) else {
            return;
        };
        if run.row.is_some() {
            self.due.set(runs.line, run.first, slot);
        } else {
            self.expiry.set(runs.line, run.last.plus(self.within), slot);
        }
    }
}

impl Operator for Deduplicate {
    fn process(
        &mut self,
        _input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let time = match time_of(row, self.time) {
            Ok(time) => time,
            Err(discard) => return emit.discard(discard),
        };
        if let Err(error) = read_key(&self.keys, row, context, &mut self.key_bytes) {
            return emit.discard(Discard::expression(&error));
        }
        if time <= at.watermark {
            let known = self.state.find(&self.key_bytes);
            let place = known.map(|slot| self.place(&self.state.get(slot).open, time));
            if !matches!(place, Some(Place::Repeats(_))) {
                let detail = format!("late: the watermark had reached {}", at.watermark);
                return emit.discard(Discard {
                    reason: "late",
                    detail,
                });
            }
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(no_room(&key_text(&self.key_bytes), self.state.len()));
        };
        let place = self.place(&self.state.get(slot).open, time);
        let held = || Some(Box::new((lineage, row.to_vec())));
        let (changed, fresh) = match place {
            Place::Repeats(run) => {
                if self.state.get(slot).open[run].last >= time {
                    return;
                }
                self.state.change(slot).open[run].last = time;
                (run, false)
            }
            Place::Leads(run) => {
                let run_before = &mut self.state.change(slot).open[run];
                run_before.first = time;
                run_before.row = held();
                (run, true)
            }
            Place::New(run) => {
                if self.state.get(slot).open.len() >= MAX_WAITING_ROWS {
                    let key = key_text(&self.key_bytes);
                    let detail = format!(
                        "{MAX_WAITING_ROWS} rows of key {key} wait for the watermark, which is the most: declare a shorter \
                         delay in WATERMARK, or a 'scan.watermark.idle-timeout'"
                    );
                    return emit.discard(Discard {
                        reason: "waiting_limit",
                        detail,
                    });
                }
                let runs = self.state.change(slot);
                runs.line = at.line;
                let new = Run {
                    first: time,
                    last: time,
                    row: held(),
                };
                runs.open.insert(run, new);
                (run, true)
            }
        };
        // A run that has grown may have reached the next: its rows are repetitions then.
        let within = self.within;
        let runs = &mut self.state.change(slot).open;
        while let Some(next) = runs.get(changed + 1)
            && next.first <= runs[changed].last.plus(within)
        {
            let next = runs.remove(changed + 1);
            runs[changed].last = runs[changed].last.max(next.last);
        }
        if fresh {
            self.arm(slot, changed);
        }
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some((at, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            slots.dedup();
            for slot in slots {
                let due = |run: &Run| run.first == at && run.row.is_some();
                let Some(run) = self.state.get(slot).open.iter().position(due) else {
                    continue;
                };
                if let Some(row) = self.state.change(slot).open[run].row.take() {
                    self.output.clear();
                    self.output.extend(row.1);
                    self.output.push(Value::Int(1));
                    emit.row(&self.output, row.0);
                }
                self.arm(slot, run);
            }
        }
        while let Some((at, slots)) = self.expiry.take(to) {
            for slot in slots {
                let given = |run: &Run| run.row.is_none();
                let open = &self.state.get(slot).open;
                let within = self.within;
                if open
                    .first()
                    .is_some_and(|run| given(run) && run.last.plus(within) <= at)
                {
                    let runs = self.state.change(slot);
                    runs.open.remove(0);
                    if runs.open.is_empty() {
                        *runs = Runs::default();
                        self.state.emptied();
                        continue;
                    }
                }
                // A repetition has moved the end, or a later run has one.
                if self.state.get(slot).open.first().is_some_and(given) {
                    self.arm(slot, 0);
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
            let mut runs = Runs {
                line: from.timeline(usize::MAX)?,
                ..Runs::default()
            };
            for _ in 0..from.count("runs")? {
                let first = from.time()?;
                let last = first.plus(from.span()?);
                let row = if from.bool()? {
                    Some(Box::new((from.lineage()?, from.values()?)))
                } else {
                    None
                };
                runs.open.push(Run { first, last, row });
            }
            Ok(runs)
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        self.expiry.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            for run in 0..self.state.get(slot).open.len() {
                self.arm(slot, run);
            }
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
