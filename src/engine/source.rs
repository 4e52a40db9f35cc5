//! A source at work: a message becomes rows with all columns filled and an event time that can be believed.
//!
//! A message is checked as a whole before any of its rows goes on: if one is bad, the message is rejected and can be
//! sent through again later without counting the others twice.

use crate::codec::{self, Decoder, InputColumn, Message, Origin};
use crate::expr::Context;
use crate::ops::Discard;
use crate::plan::{self, ColumnOrigin, Watermark};
use crate::types::{EventTime, Fingerprint, Lineage, Row, Timespan, Value};

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
    pub(super) watermark: EventTime,
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

    /// Counts one row in; gives its lineage and the watermark after it.
    pub(super) fn accept(
        &mut self,
        row: &[Value],
        context: &Context,
        steady_micros: u64,
    ) -> (Lineage, EventTime) {
        let lineage = Lineage::of_event(self.fingerprint, self.accepted);
        self.accepted += 1;
        if let Some(rule) = &self.watermark_rule {
            // An expression that fails gives no watermark, like one that is NULL; the row itself is sound.
            if let Ok(Value::Timestamp(micros)) = rule.expr.eval(row, context) {
                self.watermark = self.watermark.max(EventTime::from_micros(micros));
            }
        }
        self.last_row = Some((steady_micros, self.watermark));
        (lineage, self.watermark)
    }

    /// Whether the source has become active with this row.
    pub(super) fn wakes(&mut self) -> bool {
        std::mem::take(&mut self.idle)
    }

    /// Lets time pass. A source that has been silent for its idle timeout no longer holds others back, and its own
    /// event time goes on at the pace of the clock that never jumps, so that the last windows close. A restart counts
    /// as a row: nobody knows how long the silence before it was.
    pub(super) fn tick(&mut self, steady_micros: u64) -> Tick {
        let Some(timeout) = self.idle_timeout else {
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
        let moved = then > EventTime::MIN && reached > self.watermark;
        if moved {
            self.watermark = reached;
        }
        Tick {
            fell_idle,
            watermark: moved.then_some(reached),
        }
    }

    /// When `tick` is worth calling again, on the clock that never jumps: at the timeout, then once a second.
    pub(super) fn tick_at(&self) -> Option<u64> {
        let timeout = self.idle_timeout?.as_micros().max(0) as u64;
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
    /// Its watermark, if it has moved.
    pub(super) watermark: Option<EventTime>,
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
