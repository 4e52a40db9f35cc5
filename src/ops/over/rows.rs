//! OVER: functions over a row and the rows before it, in the order of event time.
//!
//! A row waits until the watermark reaches its time; then it is given with all rows of its key and time, the frames
//! having slid on. Each row keeps its lineage: it is given once.
//!
//! What is late follows Flink: where a frame is unbounded, a row at or before the watermark; else a row that is not
//! after the last one of its key that was given, as all that it looks back on is still there.
//!
//! A key is forgotten when no row that may come can look back on it: after the longest RANGE, or after the time to
//! live that the plan says. Where neither is known a key stays, and `max_keys` is the bound. That a key was forgotten
//! must not change a late row's values: so the time of the latest row that was forgotten is remembered, and a late row
//! of an unknown key that might look back so far is refused.

use super::super::keyed::{Keyed, NO_MORE_KEYS, key_text, read_key};
use super::super::spare::{SpareQueues, SpareRows, heap_bytes};
use super::super::timers::Timers;
use super::super::{Discard, Emit, Operator};
use super::layout::Layout;
use super::partition::{Partition, Waiting};
use super::{MAX_WAITING_ROWS, no_room, time_of};
use crate::expr::{Context, Expr};
use crate::plan::{Frame, OverFunction};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Progress, Row, Timeline, Timespan, Value};

/// The shortest step of time.
const INSTANT: Timespan = Timespan::from_micros(1);

/// `f(…) OVER (PARTITION BY keys ORDER BY time …)`, one or several.
#[derive(Debug)]
pub struct Over {
    time: usize,
    keys: Vec<Expr>,
    layout: Layout,
    /// Whether a frame has no end in the past, so that a row at or before the watermark is late.
    strict: bool,
    /// How long a key's rows are looked back on, if that is known.
    reach: Option<Timespan>,
    /// Whether the rows of a key that was silent for longer no longer count in frames without an end.
    expires: bool,
    state: Keyed<Partition>,
    /// The time of the latest row of a key that was forgotten.
    forgotten: EventTime,
    /// Which keys have a row whose time is reached.
    due: Timers,
    /// Which keys nothing looks back on any more. Nobody waits for that: a silent key's time does not go on for it.
    expiry: Timers,
    key_bytes: Vec<u8>,
    output: Row,
    values: Row,
    /// For rows that wait, what is needed of them once, and the keys that have some.
    rows: SpareRows,
    inputs: SpareRows,
    queues: SpareQueues<Waiting>,
}

impl Over {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(
        time: usize,
        keys: Vec<Expr>,
        functions: Vec<OverFunction>,
        ttl: Option<Timespan>,
        max_keys: usize,
    ) -> Self {
        let spans = functions
            .iter()
            .filter_map(|function| match function.frame {
                Frame::Range(span) => Some(span),
                _ => None,
            });
        let longest = spans.clone().max();
        let only_spans = spans.count() == functions.len();
        // What a RANGE looks back on is not forgotten sooner.
        let ttl = ttl.map(|ttl| longest.map_or(ttl, |longest| longest.max(ttl)));
        Self {
            time,
            keys,
            layout: Layout::new(&functions),
            strict: functions.iter().any(|one| !one.frame.is_bounded()),
            reach: if only_spans { longest } else { ttl },
            expires: !only_spans,
            state: Keyed::new(max_keys),
            forgotten: EventTime::MIN,
            due: Timers::default(),
            expiry: Timers::default(),
            key_bytes: Vec::new(),
            output: Row::new(),
            values: Row::new(),
            rows: SpareRows::default(),
            inputs: SpareRows::default(),
            queues: SpareQueues::default(),
        }
    }

    /// Why a row at or before the watermark is late, if it is.
    fn late(&self, time: EventTime, watermark: EventTime) -> Option<String> {
        if self.strict {
            return Some(format!("late: the watermark had reached {watermark}"));
        }
        let known = self.state.find(&self.key_bytes);
        if let Some(last) = known.and_then(|slot| self.state.get(slot).last()) {
            return (time <= last).then(|| {
                let key = key_text(&self.key_bytes);
                format!("late: the rows of key {key} up to {last} have been given")
            });
        }
        // Of this key nothing is known that was given; something may have been forgotten.
        let reach = self.reach?;
        let whole = time > watermark.minus(reach) || self.forgotten == EventTime::MIN;
        (!whole && time <= self.forgotten.plus(reach)).then(|| {
            let key = key_text(&self.key_bytes);
            format!(
                "late: the watermark had reached {watermark}, and what the row looks back on of key {key} may have been \
                 forgotten"
            )
        })
    }

    /// Lists a key for its first row that waits, or to be forgotten.
    fn arm(&mut self, slot: u32, watermark: EventTime) {
        let partition = self.state.get(slot);
        let line = partition.line;
        if let Some(first) = partition.waiting.front() {
            // One that came late is given when time next moves.
            let at = first.time.max(watermark.plus(INSTANT));
            if partition.armed.is_none_or(|armed| at < armed) {
                self.due.set(line, at, slot);
                self.state.annotate(slot).armed = Some(at);
            }
        } else if let (Some(last), Some(hold), false) =
            (partition.last(), self.hold(), partition.expires)
        {
            self.expiry.set(line, last.plus(hold), slot);
            self.state.annotate(slot).expires = true;
        }
    }

    /// How long after its last row a key is kept. Twice as long as is looked back, where rows before the watermark are
    /// taken: they may look back as far again.
    fn hold(&self) -> Option<Timespan> {
        let reach = self.reach?;
        let factor = if self.strict { 1 } else { 2 };
        Some(Timespan::from_micros(
            reach.as_micros().saturating_mul(factor),
        ))
    }

    /// Gives the rows of a key up to a time.
    fn fire(&mut self, at: EventTime, slot: u32, emit: &mut dyn Emit) {
        if self.state.get(slot).armed != Some(at) {
            return;
        }
        let ttl = self.reach.filter(|_| self.expires);
        let Self {
            layout,
            state,
            output,
            values,
            rows,
            inputs,
            queues,
            ..
        } = self;
        let (key, partition) = state.change_of(slot);
        while let Some(peers) = partition.take(at) {
            if let (Some(ttl), Some(first)) = (ttl, peers.first()) {
                partition.forget(ttl, first.time);
            }
            partition.advance(layout, peers, values, &mut |mut row, values| {
                match values {
                    Ok(values) => {
                        // What the row before has left there is no longer needed, but as room.
                        output.resize(row.row.len() + values.len(), Value::Null);
                        let (own, given) = output.split_at_mut(row.row.len());
                        own.swap_with_slice(&mut row.row);
                        given.swap_with_slice(values);
                        emit.row(output, row.lineage);
                    }
                    Err(Discard { reason, detail }) => {
                        let key = key_text(key);
                        let of = if key.is_empty() { "" } else { " of key " };
                        let detail = format!("row{of}{key} at {}: {detail}", row.time);
                        emit.discard(Discard { reason, detail });
                    }
                }
                let [_, once] = row.inputs;
                for (spare, left) in [(&mut *rows, row.row), (&mut *inputs, once)] {
                    let apart = left.iter().map(heap_bytes).sum();
                    spare.leave(left, apart);
                }
            });
        }
        // Most keys are silent most of the time: room for rows that do not wait is most of what they would cost.
        queues.leave(&mut partition.waiting);
        partition.armed = None;
        self.arm(slot, at);
    }

    /// Forgets a key that nothing looks back on.
    fn expire(&mut self, at: EventTime, slot: u32) {
        if !std::mem::take(&mut self.state.annotate(slot).expires) {
            return;
        }
        let partition = self.state.get(slot);
        let (Some(last), Some(hold)) = (partition.last(), self.hold()) else {
            return;
        };
        if !partition.waiting.is_empty() || last.plus(hold) > at {
            return self.arm(slot, at);
        }
        self.forgotten = self.forgotten.max(last);
        *self.state.change(slot) = Partition::default();
        self.state.emptied();
    }
}

impl Operator for Over {
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
        if time <= at.watermark
            && let Some(detail) = self.late(time, at.watermark)
        {
            let reason = "late";
            return emit.discard(Discard { reason, detail });
        }
        let inputs = match self.layout.evaluate(row, context, self.inputs.take()) {
            Ok(inputs) => inputs,
            Err(error) => return emit.discard(Discard::expression(&error)),
        };
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(no_room(&key_text(&self.key_bytes), self.state.len()));
        };
        if self.state.get(slot).waiting.len() >= MAX_WAITING_ROWS {
            let key = key_text(&self.key_bytes);
            let detail = format!(
                "{MAX_WAITING_ROWS} rows of key {key} wait for the watermark, which is the most: declare a shorter delay \
                 in WATERMARK, or a 'scan.watermark.idle-timeout'"
            );
            let reason = "waiting_limit";
            return emit.discard(Discard { reason, detail });
        }
        let partition = self.state.change(slot);
        partition.line = at.line;
        self.queues.lend(&mut partition.waiting);
        partition.wait(time, lineage, self.rows.copy(row), inputs);
        self.arm(slot, at.watermark);
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        // One time after the other, so that all keys' rows come in order.
        while let Some((at, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                self.fire(at, slot, emit);
            }
        }
        while let Some((at, slots)) = self.expiry.take(to) {
            for slot in slots {
                self.expire(at, slot);
            }
        }
    }

    fn next_timer(&self, line: Timeline) -> Option<EventTime> {
        self.due.next(line)
    }

    fn seal(&mut self, out: &mut Encoder) -> bool {
        // It changes only with a key that is forgotten.
        out.time(self.forgotten);
        self.state.seal(out)
    }

    fn snapshot(&self, piece_bytes: usize, out: &mut dyn FnMut(&[u8])) {
        let mut piece = Encoder::new();
        piece.time(self.forgotten);
        let alone = piece.len();
        piece.u64(NO_MORE_KEYS);
        if self.forgotten > EventTime::MIN {
            out(piece.as_slice());
        }
        let head = piece.as_slice()[..alone].to_vec();
        self.state.snapshot(piece_bytes, &mut |body| {
            out(&[head.as_slice(), body].concat());
        });
    }

    fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        self.forgotten = from.time()?;
        let layout = &self.layout;
        self.state
            .restore_changes(from, |from, partition| partition.read(layout, from))
    }

    fn resume(&mut self, watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        self.expiry.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            let partition = self.state.annotate(slot);
            partition.rebuild(&self.layout);
            let reached = watermark(partition.line);
            self.arm(slot, reached);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Aggregate, AggregateFunction, MAX_FRAME_ROWS, OverCall};
    use crate::types::Type;

    #[derive(Default)]
    struct Out {
        rows: Vec<Row>,
        discards: Vec<Discard>,
    }

    impl Emit for Out {
        fn row(&mut self, row: &[Value], _lineage: Lineage) {
            self.rows.push(row.to_vec());
        }

        fn discard(&mut self, discard: Discard) {
            self.discards.push(discard);
        }

        fn late(&mut self, _row: &[Value], _lineage: Lineage) {
            panic!("late rows of OVER are dead letters");
        }

        fn count(&mut self, what: &'static str) {
            panic!("nothing is counted as {what}");
        }

        fn on(&mut self, _at: Progress) {
            panic!("rows of OVER are where their input is");
        }
    }

    /// `COUNT(*)` over a RANGE of an hour, for the rows (time in milliseconds, key).
    fn counting(max_keys: usize) -> Over {
        let count = Aggregate::new(AggregateFunction::Count, Vec::new(), Type::BigInt);
        let function = OverFunction {
            frame: Frame::Range(Timespan::from_secs(3_600)),
            call: OverCall::Aggregate(count),
        };
        Over::new(0, vec![Expr::Column(1)], vec![function], None, max_keys)
    }

    fn progress(millis: i64) -> Progress {
        Progress {
            line: Timeline::SHARED,
            watermark: EventTime::from_millis(millis),
        }
    }

    fn take(over: &mut Over, millis: i64, key: &str, at: i64, out: &mut Out) {
        let row = [Value::Timestamp(millis * 1_000), Value::str(key)];
        let context = Context {
            now: EventTime::MIN,
        };
        over.process(0, &row, Lineage(0), progress(at), &context, out);
    }

    #[test]
    fn waiting_rows_and_frames_and_keys_are_bounded() {
        let (mut over, mut out) = (counting(1), Out::default());
        for millis in 0..=MAX_WAITING_ROWS as i64 {
            take(&mut over, millis, "a", -1, &mut out);
        }
        assert_eq!(out.discards.len(), 1);
        assert_eq!(out.discards[0].reason, "waiting_limit");
        assert!(out.discards[0].detail.contains("key 'a'"));
        let last = MAX_WAITING_ROWS as i64;
        over.advance(progress(last), &mut out);
        assert_eq!(out.rows.len(), MAX_FRAME_ROWS);
        // The frame is full; what comes after it has slid on is taken.
        take(&mut over, last + 1, "a", last, &mut out);
        over.advance(progress(last + 1), &mut out);
        assert_eq!(out.rows.len(), MAX_FRAME_ROWS);
        assert_eq!(out.discards[1].reason, "frame_limit");
        take(&mut over, 3_600_010, "a", last + 1, &mut out);
        over.advance(progress(3_600_010), &mut out);
        let count = out.rows.last().unwrap()[2].clone();
        assert_eq!(count, Value::Int(MAX_FRAME_ROWS as i64 - 9));
        take(&mut over, 3_600_011, "b", 3_600_010, &mut out);
        assert_eq!(out.discards[2].reason, "max_keys");
        // A silent key is forgotten, and another has room; nobody waits for that.
        assert_eq!(over.next_timer(Timeline::SHARED), None);
        over.advance(progress(3 * 3_600_011), &mut out);
        assert_eq!(over.keys(), 0);
        take(&mut over, 4 * 3_600_000, "b", 3 * 3_600_011, &mut out);
        assert_eq!((over.keys(), out.discards.len()), (1, 3));
    }
}
