//! Interval joins: rows of two streams with equal keys whose times are not further apart than the bounds say.
//!
//! A row meets the rows of the other side that are held, at once, and is held itself until no partner can come any
//! more: a left row at `l` finds right rows in `[l - upper, l - lower]`, so it goes when the watermark reaches
//! `l - lower`, and a right row at `r` when it reaches `r + upper`. One that goes without having met a partner is
//! given out with NULLs if its side is the outer one: this is how absence is noticed. Rows of a window join have the
//! last instant of their window for a time, and bounds of zero.
//!
//! A row that comes when its partners may be gone already still meets those that are held. If it meets none, an outer
//! side gives it out with NULLs, and an inner one discards it as `late`. NULL keys meet nothing.

use smallvec::SmallVec;

use super::super::keyed::{KeyState, Keyed, WrittenState, read_key};
use super::super::timers::Timers;
use super::super::{Discard, Emit, Operator};
use super::{MAX_ROWS, max_keys_reached, time_of, too_many_rows};
use crate::expr::{Context, Expr};
use crate::plan::{self, JoinSide};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Timespan, Value};

/// An interval join.
#[derive(Debug)]
pub struct IntervalJoin {
    sides: [JoinSide; 2],
    lower: Timespan,
    upper: Timespan,
    residual: Option<Expr>,
    fingerprint: Fingerprint,
    state: Keyed<Held>,
    due: Timers,
    joined: Row,
    key_bytes: Vec<u8>,
    identity: Vec<u8>,
}

/// The rows of one key that are held.
#[derive(Debug, Default)]
struct Held {
    /// By side, in order of time and then of arrival.
    rows: [Vec<HeldRow>; 2],
    line: Timeline,
    /// The time for which the key is listed.
    armed: Option<EventTime>,
}

#[derive(Debug)]
struct HeldRow {
    time: EventTime,
    lineage: Lineage,
    /// Whether it has met a partner.
    matched: bool,
    row: Box<[Value]>,
}

impl KeyState for Held {
    fn is_empty(&self) -> bool {
        self.rows.iter().all(Vec::is_empty)
    }
}

impl WrittenState for Held {
    fn encode(&self, out: &mut Encoder) {
        out.timeline(self.line);
        for rows in &self.rows {
            out.u64(rows.len() as u64);
            for held in rows {
                out.time(held.time);
                out.lineage(held.lineage);
                out.bool(held.matched);
                for value in &held.row {
                    out.value(value);
                }
            }
        }
    }
}

impl IntervalJoin {
    /// The operator of a plan's node. `max_keys` bounds its state.
    pub fn new(join: &plan::IntervalJoin, fingerprint: Fingerprint, max_keys: usize) -> Self {
        Self {
            sides: join.sides.clone(),
            lower: join.lower,
            upper: join.upper,
            residual: join.residual.clone(),
            fingerprint,
            state: Keyed::new(max_keys),
            due: Timers::default(),
            joined: Row::new(),
            key_bytes: Vec::new(),
            identity: Vec::new(),
        }
    }

    /// The watermark at which a row of a side can find no partner any more.
    fn expiry(&self, side: usize, time: EventTime) -> EventTime {
        if side == 0 {
            time.minus(self.lower)
        } else {
            time.plus(self.upper)
        }
    }

    /// The times of the other side's rows that a row can meet.
    fn partners(&self, side: usize, time: EventTime) -> (EventTime, EventTime) {
        if side == 0 {
            (time.minus(self.upper), time.minus(self.lower))
        } else {
            (time.plus(self.lower), time.plus(self.upper))
        }
    }

    /// Gives out a row without a partner, if its side is outer.
    fn alone(&mut self, side: usize, row: &[Value], lineage: Lineage, emit: &mut dyn Emit) {
        if !self.sides[side].outer {
            return;
        }
        let mut output = std::mem::take(&mut self.joined);
        output.clear();
        let nulls = || std::iter::repeat_n(Value::Null, self.sides[1 - side].width);
        if side == 1 {
            output.extend(nulls());
        }
        output.extend_from_slice(row);
        if side == 0 {
            output.extend(nulls());
        }
        emit.row(&output, lineage.child(self.fingerprint, side as u64));
        self.joined = output;
    }

    /// Gives out a row with each partner that is held; whether there was one.
    fn meet(
        &mut self,
        side: usize,
        row: &[Value],
        (lineage, time): (Lineage, EventTime),
        slot: u32,
        context: &Context,
        emit: &mut dyn Emit,
    ) -> bool {
        let (from, to) = self.partners(side, time);
        let others = &self.state.get(slot).rows[1 - side];
        let start = others.partition_point(|held| held.time < from);
        let end = others.partition_point(|held| held.time <= to);
        let mut met: SmallVec<[usize; 8]> = SmallVec::new();
        let mut output = std::mem::take(&mut self.joined);
        for at in start..end {
            let other = &self.state.get(slot).rows[1 - side][at];
            output.clear();
            let (left, right): (&[Value], &[Value]) = if side == 0 {
                (row, &other.row)
            } else {
                (&other.row, row)
            };
            output.extend_from_slice(left);
            output.extend_from_slice(right);
            let fits = match &self.residual {
                Some(residual) => residual.test(&output, context),
                None => Ok(true),
            };
            match fits {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    emit.discard(Discard::expression(&error));
                    continue;
                }
            }
            let (left, right) = if side == 0 {
                (lineage, other.lineage)
            } else {
                (other.lineage, lineage)
            };
            self.identity.clear();
            self.identity.extend_from_slice(&left.0.to_le_bytes());
            self.identity.extend_from_slice(&right.0.to_le_bytes());
            met.push(at);
            emit.row(&output, Lineage::derived(self.fingerprint, &self.identity));
        }
        self.joined = output;
        for at in &met {
            if !self.state.get(slot).rows[1 - side][*at].matched {
                self.state.change(slot).rows[1 - side][*at].matched = true;
            }
        }
        !met.is_empty()
    }

    fn arm(&mut self, slot: u32) {
        let held = self.state.get(slot);
        let firsts = held.rows.iter().enumerate();
        let first = firsts
            .filter_map(|(side, rows)| rows.first().map(|row| self.expiry(side, row.time)))
            .min();
        let Some(at) = first else { return };
        if held.armed.is_none_or(|armed| at < armed) {
            self.due.set(held.line, at, slot);
            self.state.annotate(slot).armed = Some(at);
        }
    }

    /// Drops the rows of a key that can find no partner any more.
    fn expire(&mut self, slot: u32, at: EventTime, emit: &mut dyn Emit) {
        if self.state.get(slot).armed != Some(at) {
            return;
        }
        for side in 0..2 {
            let rows = &self.state.get(slot).rows[side];
            let gone = rows.partition_point(|held| self.expiry(side, held.time) <= at);
            if gone == 0 {
                continue;
            }
            let gone: Vec<HeldRow> = self.state.change(slot).rows[side].drain(..gone).collect();
            for held in gone.iter().filter(|held| !held.matched) {
                self.alone(side, &held.row, held.lineage, emit);
            }
        }
        if self.state.get(slot).is_empty() {
            self.state.emptied();
        }
        self.state.annotate(slot).armed = None;
        self.arm(slot);
    }
}

impl Operator for IntervalJoin {
    fn process(
        &mut self,
        input: usize,
        row: &[Value],
        lineage: Lineage,
        at: Progress,
        context: &Context,
        emit: &mut dyn Emit,
    ) {
        let JoinSide { time, shift, .. } = self.sides[input];
        let time = match time_of(row, time, shift) {
            Ok(time) => time,
            Err(discard) => return emit.discard(discard),
        };
        match read_key(&self.sides[input].keys, row, context, &mut self.key_bytes) {
            Ok(true) => {}
            Ok(false) => return self.alone(input, row, lineage, emit),
            Err(error) => {
                return emit.discard(Discard::expression(&error));
            }
        }
        let expiry = self.expiry(input, time);
        let late = expiry <= at.watermark;
        let known = self.state.find(&self.key_bytes);
        let matched = match known {
            Some(slot) => self.meet(input, row, (lineage, time), slot, context, emit),
            None => false,
        };
        if late {
            if self.sides[input].outer && !matched {
                self.alone(input, row, lineage, emit);
            } else if !matched {
                let detail = format!(
                    "late: what it could be joined with went when the watermark reached {expiry}; it is at {}",
                    at.watermark
                );
                emit.discard(Discard {
                    reason: "late",
                    detail,
                });
            }
            return;
        }
        if known.is_some_and(|slot| self.state.get(slot).rows[input].len() >= MAX_ROWS) {
            return emit.discard(too_many_rows(&self.key_bytes));
        }
        let Some(slot) = self.state.slot(&self.key_bytes) else {
            return emit.discard(max_keys_reached(&self.key_bytes, self.state.len()));
        };
        let held = self.state.change(slot);
        held.line = at.line;
        let rows = &mut held.rows[input];
        let place = rows.partition_point(|other| other.time <= time);
        rows.insert(
            place,
            HeldRow {
                time,
                lineage,
                matched,
                row: row.into(),
            },
        );
        self.arm(slot);
    }

    fn advance(&mut self, to: Progress, emit: &mut dyn Emit) {
        while let Some((at, mut slots)) = self.due.take(to) {
            self.state.sort(&mut slots);
            for slot in slots {
                self.expire(slot, at, emit);
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
        let widths = [self.sides[0].width, self.sides[1].width];
        self.state.restore(from, |from| {
            let mut held = Held {
                line: from.timeline(usize::MAX)?,
                ..Held::default()
            };
            for (rows, width) in held.rows.iter_mut().zip(widths) {
                for _ in 0..from.count("rows")? {
                    rows.push(HeldRow {
                        time: from.time()?,
                        lineage: from.lineage()?,
                        matched: from.bool()?,
                        row: (0..width).map(|_| from.value()).collect::<Result<_, _>>()?,
                    });
                }
            }
            Ok(held)
        })
    }

    fn resume(&mut self, _watermark: &dyn Fn(Timeline) -> EventTime) {
        self.due.clear();
        let mut slots: Vec<u32> = self.state.live().collect();
        slots.sort_unstable();
        for slot in slots {
            self.state.annotate(slot).armed = None;
            self.arm(slot);
        }
    }

    fn keys(&self) -> usize {
        self.state.len()
    }
}
