//! A source at work: a message becomes rows with all columns filled and an event time that can be believed.
//!
//! A message is checked as a whole before any of its rows goes on: if one is bad, the message is rejected and can be
//! sent through again later without counting the others twice.

use crate::codec::{self, Decoder, InputColumn, Message, Origin};
use crate::expr::{Arithmetic, Context, Expr, checked_timestamp};
use crate::ops::Discard;
use crate::plan::{self, ColumnOrigin};
use crate::state::key_bytes;
use crate::types::{EventTime, Fingerprint, Lineage, Row, Timeline, Timespan, Value};

use super::Clock;
use super::key_times::KeyTimes;
use super::meeting::Step;
use super::silence::unheard_for;
use super::timelines::Timelines;

/// Row buffers that are kept between messages; one large array must not hold its memory for ever. The values of few rows are
/// kept until the next message, as are those of one.
const ROWS_KEPT: usize = 64;

/// How often event time moves on while a source is silent.
const IDLE_STEP_MICROS: u64 = 1_000_000;

/// How a row gives a watermark.
struct WatermarkRule {
    /// The column with the event time.
    column: usize,
    watermark: GivenBy,
}

enum GivenBy {
    /// The event time less so many microseconds, as nearly all tables have it.
    Delay(i64),
    Expr(Expr),
}

impl WatermarkRule {
    fn new(declared: &plan::Watermark) -> Self {
        let column = declared.column;
        let delay = match &declared.expr {
            Expr::Column(at) if *at == column => Some(0),
            Expr::Arith {
                op: Arithmetic::Sub,
                left,
                right,
                ..
            } => match (&**left, &**right) {
                (Expr::Column(at), Expr::Literal(Value::Interval(micros))) if *at == column => {
                    Some(*micros)
                }
                _ => None,
            },
            _ => None,
        };
        let expr = || GivenBy::Expr(declared.expr.clone());
        let watermark = delay.map_or_else(expr, GivenBy::Delay);
        Self { column, watermark }
    }

    /// The watermark of a row. An expression that fails gives none, like one that is NULL; the row itself is sound.
    #[inline]
    fn of(&self, row: &[Value], context: &Context) -> Option<EventTime> {
        let micros = match (&self.watermark, &row[self.column]) {
            (GivenBy::Delay(delay), Value::Timestamp(time)) => {
                checked_timestamp(time.checked_sub(*delay)?).ok()?
            }
            (GivenBy::Delay(_), _) => return None,
            (GivenBy::Expr(expr), _) => match expr.eval(row, context) {
                Ok(Value::Timestamp(micros)) => micros,
                _ => return None,
            },
        };
        Some(EventTime::from_micros(micros))
    }
}

pub(super) struct Source {
    decoder: Decoder,
    /// Buffers for the rows of a message, but while one is taken.
    buffers: Option<Vec<Row>>,
    computed: Vec<(usize, crate::expr::Expr)>,
    watermark_rule: Option<WatermarkRule>,
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
    /// Whether a row has come since the start of this process.
    heard: bool,
    idle: bool,
    idle_looked_at: u64,
    /// Whether time begins without a first row: somebody waits for keys that may never report.
    begins: bool,
    /// Since when it has been waited for a first row, on the clock that never jumps.
    unheard_since: Option<u64>,
}

impl Source {
    /// A source whose rows are given by `node`. With `begins`, time begins after the idle timeout if there is no row.
    pub(super) fn new(source: &plan::Source, node: usize, begins: bool) -> Self {
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
            buffers: None,
            computed: computed.collect(),
            watermark_rule: source.watermark.as_ref().map(WatermarkRule::new),
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
            heard: false,
            idle: false,
            idle_looked_at: 0,
            begins,
            unheard_since: None,
        }
    }

    /// The buffers for the rows of a message.
    #[inline]
    pub(super) fn buffers(&mut self) -> Vec<Row> {
        self.buffers.take().unwrap_or_default()
    }

    /// Takes back what [`Source::buffers`] gave.
    #[inline]
    pub(super) fn give_back(&mut self, buffers: Vec<Row>) {
        if buffers.len() <= ROWS_KEPT {
            self.buffers = Some(buffers);
        }
    }

    /// Writes the rows of a message into the first of `rows`, whole or not at all, and gives how many there are.
    #[inline]
    pub(super) fn rows(
        &mut self,
        message: &Message<'_>,
        context: &Context,
        rows: &mut Vec<Row>,
    ) -> Result<usize, Discard> {
        let count =
            self.decoder
                .decode_into(message, rows)
                .map_err(|error: codec::CodecError| Discard {
                    reason: error.reason(),
                    detail: error.to_string(),
                })?;
        for row in &mut rows[..count] {
            for (slot, expr) in &self.computed {
                row[*slot] = expr
                    .eval(row, context)
                    .map_err(|error| Discard::expression(&error))?;
            }
            if let Some(rule) = &self.watermark_rule {
                check_time(&row[rule.column], self.max_future, message.received)?;
            }
        }
        Ok(count)
    }

    /// The timeline of a row; `None` if its key is new and there is no room for one more.
    #[inline]
    pub(super) fn line(&mut self, row: &[Value], timelines: &mut Timelines) -> Option<Timeline> {
        if self.keys.is_none() {
            return Some(Timeline::SHARED);
        }
        self.line_of_key(row, timelines)
    }

    fn line_of_key(&mut self, row: &[Value], timelines: &mut Timelines) -> Option<Timeline> {
        let keys = self.keys.as_ref()?;
        let key: Row = keys.columns.iter().map(|at| row[*at].clone()).collect();
        self.key.clear();
        key_bytes(&key, &mut self.key);
        timelines.of(&self.key)
    }

    /// Counts one row in; gives its lineage and the step of time behind it.
    #[inline]
    pub(super) fn accept(
        &mut self,
        row: &[Value],
        line: Timeline,
        context: &Context,
        steady_micros: u64,
    ) -> (Lineage, Step) {
        let lineage = Lineage::of_event(self.fingerprint, self.accepted);
        self.accepted += 1;
        let watermark = self
            .watermark_rule
            .as_ref()
            .and_then(|rule| rule.of(row, context));
        let before = self.watermark;
        self.watermark = watermark.map_or(before, |watermark| watermark.max(before));
        let (from, to) = match &mut self.keys {
            Some(keys) => keys.row(line, watermark, steady_micros),
            None => (before, self.watermark),
        };
        self.last_row = Some((steady_micros, self.watermark));
        self.heard = true;
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
    pub(super) fn tick(&mut self, steady_micros: u64, wall: EventTime) -> Tick {
        let Some(timeout) = self.idle_timeout.filter(|_| self.keys.is_none()) else {
            return Tick::default();
        };
        if let Some(begun) = self.begun(steady_micros, wall) {
            self.last_row = Some((steady_micros.saturating_sub(span_micros(timeout)), begun));
        }
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

    /// The time at which a source begins that has had no row at all for its idle timeout, where that is asked for: the
    /// timeout ago by the wall clock, so that a first row may be that late.
    fn begun(&mut self, steady_micros: u64, wall: EventTime) -> Option<EventTime> {
        let timeout = self.idle_timeout.filter(|_| self.begins)?;
        if self.watermark > EventTime::MIN || Clock::is_unset(wall) {
            return None;
        }
        let since = *self.unheard_since.get_or_insert(steady_micros);
        let unheard = steady_micros.saturating_sub(since);
        (unheard >= span_micros(timeout)).then(|| wall.minus(timeout).minus(timeout))
    }

    /// If each key has its own time and all are silent: the time that the source as a whole may have reached.
    pub(super) fn all_silent(&mut self, steady_micros: u64, wall: EventTime) -> Option<EventTime> {
        let keys = self.keys.as_ref()?;
        let reached = if self.begins && keys.is_unseen() {
            self.unheard(steady_micros, wall)?
        } else {
            keys.all_silent(steady_micros)?
        };
        self.idle_looked_at = steady_micros;
        self.watermark = self.watermark.max(reached);
        Some(reached)
    }

    /// The time of a source of which no key has ever come.
    fn unheard(&mut self, steady_micros: u64, wall: EventTime) -> Option<EventTime> {
        if let Some(begun) = self.begun(steady_micros, wall) {
            let timeout = self.idle_timeout.unwrap_or_default();
            self.last_row = Some((steady_micros, begun.plus(timeout)));
        } else if self.watermark > EventTime::MIN {
            // It had begun before a restart.
            self.last_row.get_or_insert((steady_micros, self.watermark));
        }
        let (since, then) = self.last_row?;
        let passed = Timespan::from_micros(steady_micros.saturating_sub(since) as i64);
        Some(then.plus(passed))
    }

    /// What time it is by now on a line that is silent, or for all of its lines if all are.
    pub(super) fn present(
        &self,
        line: Option<Timeline>,
        start: Option<Clock>,
        steady_micros: u64,
    ) -> Option<EventTime> {
        let unheard = unheard_for(start, steady_micros);
        match (&self.keys, line) {
            (None, Some(Timeline::SHARED) | None) if self.idle && !self.heard => unheard,
            (Some(keys), Some(line)) => keys.present(line, unheard, steady_micros),
            (Some(keys), None) if keys.all_unheard() => unheard,
            _ => None,
        }
    }

    /// Whether something is idle and has been silent since the start of this process.
    pub(super) fn is_unheard(&self) -> bool {
        match &self.keys {
            Some(keys) => keys.any_unheard(),
            None => self.idle && !self.heard,
        }
    }

    /// When `tick` is worth calling again, on the clock that never jumps: at the timeout, then once a second.
    pub(super) fn tick_at(&self) -> Option<u64> {
        let timeout = span_micros(self.idle_timeout?);
        if let Some(keys) = &self.keys {
            let again = self.idle_looked_at.saturating_add(IDLE_STEP_MICROS);
            let unseen = self.begins && keys.is_unseen();
            let silent = unseen || keys.all_silent(again).is_some();
            let all_silent = silent.then_some(again);
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

fn span_micros(span: Timespan) -> u64 {
    span.as_micros().max(0) as u64
}

#[inline]
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
        Some(bound) if !Clock::is_unset(received) && time > received.plus(bound) => {
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
