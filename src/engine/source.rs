//! A source at work: a message becomes rows with all columns filled and an event time that can be believed.
//!
//! A message is checked as a whole before any of its rows goes on: if one is bad, the message is rejected and can be
//! sent through again later without counting the others twice.

use crate::codec::{self, Decoder, InputColumn, Message, Origin};
use crate::expr::Context;
use crate::ops::Discard;
use crate::plan::{self, ColumnOrigin, Watermark};
use crate::state::key_bytes;
use crate::types::{EventTime, Fingerprint, Lineage, Row, Timeline, Timespan, Value};

use super::key_times::KeyTimes;
use super::meeting::Step;
use super::timelines::Timelines;

/// A wall clock that says less than this has not been set since power came back (a Raspberry Pi has no battery).
const CLOCK_UNSET_BEFORE: EventTime = EventTime::from_millis(1_735_689_600_000);

/// How often event time moves on while a source is silent.
const IDLE_STEP_MICROS: u64 = 1_000_000;

pub(super) struct Source {
    decoder: Decoder,
    computed: Vec<(usize, crate::expr::Expr)>,
    watermark_rule: Option<Watermark>,
    max_future: Option<Timespan>,
    idle_timeout: Option<Timespan>,
    fingerprint: Fingerprint,
    /// The node that gives its rows.
    pub(super) node: usize,
    /// Rows accepted so far, over all restarts.
    pub(super) accepted: u64,
    /// Lines of its file taken so far, rejected ones included, over all restarts.
    pub(super) lines: u64,
    /// The watermark; where each key has its own, the greatest of them.
    pub(super) watermark: EventTime,
    /// The watermarks of the keys, if each has its own.
    pub(super) keys: Option<KeyTimes>,
    key: Vec<u8>,
    /// When the last row came, on the clock that never jumps; and the watermark then.
    last_row: Option<(u64, EventTime)>,
    idle: bool,
    idle_looked_at: u64,
}

impl Source {
    pub(super) fn new(source: &plan::Source, node: usize) -> Self {
        let columns = source.columns.iter().map(|column| InputColumn {
            name: column.name.clone(),
            ty: column.ty.clone(),
            nullable: column.nullable,
            origin: match &column.origin {
                ColumnOrigin::Payload { path } => Origin::Payload { path: path.clone() },
                ColumnOrigin::Metadata(metadata) => Origin::Metadata(*metadata),
                ColumnOrigin::Computed(_) => Origin::Elsewhere,
            },
        });
        let computed = source.columns.iter().enumerate();
        let computed = computed.filter_map(|(slot, column)| match &column.origin {
            ColumnOrigin::Computed(expr) => Some((slot, expr.clone())),
            _ => None,
        });
        Self {
            decoder: Decoder::new(&source.format, columns.collect()),
            computed: computed.collect(),
            watermark_rule: source.watermark.clone(),
            max_future: source.max_future,
            idle_timeout: source.idle_timeout,
            fingerprint: source.fingerprint,
            node,
            accepted: 0,
            lines: 0,
            watermark: EventTime::MIN,
            keys: (!source.time_keys.is_empty())
                .then(|| KeyTimes::new(source.time_keys.clone(), source.idle_timeout)),
            key: Vec::new(),
            last_row: None,
            idle: false,
            idle_looked_at: 0,
        }
    }

    /// The rows of a message, whole or not at all.
    pub(super) fn rows(
        &mut self,
        message: &Message<'_>,
        context: &Context,
    ) -> Result<Vec<Row>, Discard> {
        let mut rows = self
            .decoder
            .decode(message)
            .map_err(|error: codec::CodecError| Discard {
                reason: error.reason(),
                detail: error.to_string(),
            })?;
        for row in &mut rows {
            for (slot, expr) in &self.computed {
                row[*slot] = expr.eval(row, context).map_err(|error| Discard {
                    reason: "expression_error",
                    detail: error.to_string(),
                })?;
            }
            if let Some(rule) = &self.watermark_rule {
                check_time(&row[rule.column], self.max_future, message.received)?;
            }
        }
        Ok(rows)
    }

    /// Takes back the buffers of `rows`.
    pub(super) fn give_back(&mut self, rows: Vec<Row>) {
        self.decoder.give_back(rows);
    }

    /// The timeline of a row; `None` if its key is new and there is no room for one more.
    pub(super) fn line(&mut self, row: &[Value], timelines: &mut Timelines) -> Option<Timeline> {
        let Some(keys) = &self.keys else {
            return Some(Timeline::SHARED);
        };
        let key: Row = keys.columns.iter().map(|at| row[*at].clone()).collect();
        self.key.clear();
        key_bytes(&key, &mut self.key);
        timelines.of(&self.key)
    }

    /// Counts one row in; gives its lineage and the step of time behind it.
    pub(super) fn accept(
        &mut self,
        row: &[Value],
        line: Timeline,
        context: &Context,
        steady_micros: u64,
    ) -> (Lineage, Step) {
        let lineage = Lineage::of_event(self.fingerprint, self.accepted);
        self.accepted += 1;
        // An expression that fails gives no watermark, like one that is NULL; the row itself is sound.
        let watermark = match self
            .watermark_rule
            .as_ref()
            .map(|r| r.expr.eval(row, context))
        {
            Some(Ok(Value::Timestamp(micros))) => Some(EventTime::from_micros(micros)),
            _ => None,
        };
        let before = self.watermark;
        self.watermark = watermark.map_or(before, |watermark| watermark.max(before));
        let (from, to) = match &mut self.keys {
            Some(keys) => keys.row(line, watermark, steady_micros),
            None => (before, self.watermark),
        };
        self.last_row = Some((steady_micros, self.watermark));
        (lineage, Step { line, from, to })
    }

    /// Whether a line has become active with this row.
    pub(super) fn wakes(&mut self, line: Timeline) -> bool {
        match &mut self.keys {
            Some(keys) => keys.wakes(line),
            None => std::mem::take(&mut self.idle),
        }
    }

    /// What a line has reached.
    pub(super) fn reached(&self, line: Timeline) -> EventTime {
        match &self.keys {
            Some(keys) => keys.reached(line),
            None if line == Timeline::SHARED => self.watermark,
            None => EventTime::MIN,
        }
    }

    /// Lets time pass. A source that has been silent for its idle timeout no longer holds others back, and its own
    /// event time goes on at the pace of the clock that never jumps, so that the last windows close. A restart counts
    /// as a row: nobody knows how long the silence before it was.
    pub(super) fn tick(&mut self, steady_micros: u64) -> Tick {
        let Some(timeout) = self.idle_timeout.filter(|_| self.keys.is_none()) else {
            return Tick::default();
        };
        let (since, then) = *self.last_row.get_or_insert((steady_micros, self.watermark));
        let silent = Timespan::from_micros(steady_micros.saturating_sub(since) as i64);
        if silent < timeout {
            return Tick::default();
        }
        self.idle_looked_at = steady_micros;
        let fell_idle = !std::mem::replace(&mut self.idle, true);
        let reached = then.plus(silent);
        let from = self.watermark;
        let moved = then > EventTime::MIN && reached > from;
        if moved {
            self.watermark = reached;
        }
        Tick {
            fell_idle,
            step: moved.then_some(Step {
                line: Timeline::SHARED,
                from,
                to: reached,
            }),
        }
    }

    /// If each key has its own time and all are silent: the time that the source as a whole may have reached.
    pub(super) fn all_silent(&mut self, steady_micros: u64) -> Option<EventTime> {
        let reached = self.keys.as_ref()?.all_silent(steady_micros)?;
        self.idle_looked_at = steady_micros;
        self.watermark = self.watermark.max(reached);
        Some(reached)
    }

    /// When `tick` is worth calling again, on the clock that never jumps: at the timeout, then once a second.
    pub(super) fn tick_at(&self) -> Option<u64> {
        let timeout = self.idle_timeout?.as_micros().max(0) as u64;
        if let Some(keys) = &self.keys {
            let again = self.idle_looked_at.saturating_add(IDLE_STEP_MICROS);
            let all_silent = keys.all_silent(again).map(|_| again);
            return keys.next_check().into_iter().chain(all_silent).min();
        }
        let Some((since, _)) = self.last_row else {
            return Some(0);
        };
        let due = since.saturating_add(timeout);
        let again = self.idle_looked_at.saturating_add(IDLE_STEP_MICROS);
        Some(if self.idle { due.max(again) } else { due })
    }
}

/// What the passing of time does to a source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tick {
    /// It is idle from now on.
    pub(super) fell_idle: bool,
    /// How its watermark has moved, if it has.
    pub(super) step: Option<Step>,
}

fn check_time(
    time: &Value,
    max_future: Option<Timespan>,
    received: EventTime,
) -> Result<(), Discard> {
    let Value::Timestamp(micros) = time else {
        let detail = "the event time is NULL".to_owned();
        return Err(Discard {
            reason: "null_time",
            detail,
        });
    };
    let time = EventTime::from_micros(*micros);
    match max_future {
        Some(bound) if received >= CLOCK_UNSET_BEFORE && time > received.plus(bound) => {
            let detail = format!(
                "event time {time} is more than {bound} ahead of the arrival at {received}; \
                 one such row would make all others late (scan.watermark.max-future)"
            );
            Err(Discard {
                reason: "future",
                detail,
            })
        }
        _ => Ok(()),
    }
}
