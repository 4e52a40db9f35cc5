//! What OVER remembers of one key: rows that wait for the watermark, and what is known of the rows that were given.
//!
//! Written as what has changed: rows that came and rows that are no longer needed, so that a long frame is not
//! written again with each row. Bound: [`MAX_WAITING_ROWS`](super::MAX_WAITING_ROWS) rows wait, and a RANGE frame has
//! [`MAX_FRAME_ROWS`].

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::super::Discard;
use super::super::accumulator::Accumulator;
use super::super::anomaly::Detector;
use super::super::keyed::{KeyState, WrittenState};
use super::frames::{Kept, Placed, Rows, Slide};
use super::layout::{LagPlan, Layout, Source};
use crate::plan::{Frame, MAX_FRAME_ROWS};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Lineage, Row, Timeline, Timespan, Value};

/// A row that waits for the watermark.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) time: EventTime,
    /// The number under which it came.
    pub(super) arrival: u64,
    pub(super) lineage: Lineage,
    pub(super) row: Box<[Value]>,
    /// What is kept with it, and what is needed once.
    pub(super) inputs: [Box<[Value]>; 2],
}

/// What takes a row with the values of the functions, or why there are none.
type Each<'a> = dyn FnMut(Waiting, Result<&mut Row, Discard>) + 'a;

/// Rows of one time: mostly one.
pub(super) type Peers = SmallVec<[Waiting; 1]>;

/// What is known of the rows of a key that were given.
#[derive(Debug, Default)]
struct Given {
    rows: Rows,
    slides: Vec<Slide>,
    totals: Vec<Accumulator>,
    lags: Vec<VecDeque<Value>>,
    detectors: Box<[Detector]>,
    /// How many rows, and how many different times.
    count: u64,
    times: u64,
}

/// One key.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) line: Timeline,
    /// The rows that wait, in the order of their time.
    pub(super) waiting: VecDeque<Waiting>,
    /// When this key is listed, if it is.
    pub(super) armed: Option<EventTime>,
    /// Whether it is listed to be forgotten.
    pub(super) expires: bool,
    /// The time of the last row that was given.
    last: Option<EventTime>,
    arrivals: u64,
    given: Option<Box<Given>>,
    written: Option<Written>,
}

/// What was written of a key.
#[derive(Clone, Copy, Debug)]
struct Written {
    arrivals: u64,
    rows_end: u64,
    last: Option<EventTime>,
}

impl Partition {
    /// The time of the last row that was given, if one was.
    pub(super) fn last(&self) -> Option<EventTime> {
        self.last
    }

    /// Has a row wait.
    pub(super) fn wait(
        &mut self,
        time: EventTime,
        lineage: Lineage,
        row: Box<[Value]>,
        inputs: [Box<[Value]>; 2],
    ) {
        self.arrivals += 1;
        let waiting = Waiting {
            time,
            arrival: self.arrivals,
            lineage,
            row,
            inputs,
        };
        self.put(waiting);
    }

    fn put(&mut self, waiting: Waiting) {
        if self.waiting.capacity() == 0 {
            // Mostly there is one.
            self.waiting.reserve_exact(1);
        }
        // Nearly always behind all others.
        let place = self.waiting.iter().rposition(|w| w.time <= waiting.time);
        self.waiting
            .insert(place.map_or(0, |before| before + 1), waiting);
    }

    /// The rows of the earliest time that wait, if `until` has reached it.
    pub(super) fn take(&mut self, until: EventTime) -> Option<Peers> {
        let time = self.waiting.front()?.time;
        if time > until {
            return None;
        }
        let count = self.waiting.iter().take_while(|w| w.time == time).count();
        Some(self.waiting.drain(..count).collect())
    }

    /// Forgets the rows that were given, if the last one is older than `ttl` at `time`.
    pub(super) fn forget(&mut self, ttl: Timespan, time: EventTime) {
        if self.last.is_some_and(|last| time.since(last) > ttl) {
            self.given = None;
            self.last = None;
            self.written = None;
        }
    }

    /// Takes the rows of one time; gives each with the values of the functions, or why there are none. `values` is room
    /// for them.
    pub(super) fn advance(
        &mut self,
        layout: &Layout,
        mut peers: Peers,
        values: &mut Row,
        each: &mut Each<'_>,
    ) {
        let Some(time) = peers.first().map(|peer| peer.time) else {
            return;
        };
        self.last = Some(time);
        let given = self
            .given
            .get_or_insert_with(|| Box::new(Given::new(layout)));
        given.slide(layout, time);
        let room = given.room(layout);
        for refused in peers.drain(peers.len().min(room)..) {
            let detail = format!(
                "the frame has {MAX_FRAME_ROWS} rows at {time}, which is the most: shorten its RANGE, or aggregate by \
                 a window before"
            );
            let reason = "frame_limit";
            each(refused, Err(Discard { reason, detail }));
        }
        let first = given.rows.end();
        if !layout.frames.is_empty() {
            for peer in &mut peers {
                let inputs = std::mem::take(&mut peer.inputs[0]);
                given.rows.kept.push_back(Kept { time, inputs });
            }
        }
        for (slide, plan) in given.slides.iter_mut().zip(&layout.frames) {
            if matches!(plan.frame, Frame::Range(_)) {
                for _ in &peers {
                    slide.add(plan, &given.rows);
                }
            }
        }
        let before = given.count;
        given.times += 1;
        let of_peers = layout.sources.iter().filter_map(|source| match source {
            Source::Total { which, peers: true } => Some(*which),
            _ => None,
        });
        for which in of_peers {
            let placed = &layout.totals[which];
            for peer in &peers {
                placed.update(&mut given.totals[which], &peer.inputs[1], 1);
            }
        }
        for (number, peer) in (first..).zip(peers) {
            let found = given.row(layout, number, before, &peer, values);
            each(peer, found.map(|()| &mut *values));
        }
        given.tidy();
    }
}

impl Given {
    fn new(layout: &Layout) -> Self {
        let total = |placed: &Placed| Accumulator::new(&placed.aggregate);
        Self {
            rows: Rows::default(),
            slides: layout.frames.iter().map(Slide::new).collect(),
            totals: layout.totals.iter().map(total).collect(),
            lags: vec![VecDeque::new(); layout.lags.len()],
            detectors: layout
                .detectors
                .iter()
                .map(|(method, _)| Detector::new(method))
                .collect(),
            count: 0,
            times: 0,
        }
    }

    /// Moves the RANGE frames on to a time.
    fn slide(&mut self, layout: &Layout, time: EventTime) {
        for (slide, plan) in self.slides.iter_mut().zip(&layout.frames) {
            if let Frame::Range(span) = plan.frame {
                let from = time.minus(span);
                let old = |number: u64| self.rows.get(number).is_some_and(|row| row.time < from);
                let mut start = slide.start;
                while old(start) {
                    start += 1;
                }
                slide.begin(plan, start, &self.rows);
            }
        }
        self.tidy();
    }

    /// How many more rows the RANGE frames may have.
    fn room(&self, layout: &Layout) -> usize {
        let frames = self.slides.iter().zip(&layout.frames);
        let ranges = frames.filter(|(_, plan)| matches!(plan.frame, Frame::Range(_)));
        let most = ranges.map(|(slide, _)| slide.len()).max();
        most.map_or(usize::MAX, |most| MAX_FRAME_ROWS.saturating_sub(most))
    }

    /// Forgets the rows that no frame has.
    fn tidy(&mut self) {
        if let Some(start) = self.slides.iter().map(|slide| slide.start).min() {
            self.rows.forget(start);
        }
    }

    /// The values of the functions for a row.
    fn row(
        &mut self,
        layout: &Layout,
        number: u64,
        before: u64,
        row: &Waiting,
        values: &mut Vec<Value>,
    ) -> Result<(), Discard> {
        for (slide, plan) in self.slides.iter_mut().zip(&layout.frames) {
            if let Frame::Rows(rows) = plan.frame {
                slide.begin(plan, number.saturating_sub(rows as u64), &self.rows);
                slide.add(plan, &self.rows);
            }
        }
        self.count += 1;
        for source in &layout.sources {
            if let Source::Total {
                which,
                peers: false,
            } = source
            {
                let placed = &layout.totals[*which];
                placed.update(&mut self.totals[*which], &row.inputs[1], 1);
            }
        }
        values.clear();
        let mut failed = None;
        for source in &layout.sources {
            let value = match *source {
                Source::Slide(frame, which) => {
                    let plan = &layout.frames[frame];
                    self.slides[frame].result(plan, which, &self.rows, row.time)
                }
                Source::Place(frame) => {
                    let place = number - self.slides[frame].start + 1;
                    Ok(Value::Int(place as i64))
                }
                Source::Total { which, .. } => {
                    let aggregate = &layout.totals[which].aggregate;
                    self.totals[which].result(aggregate, Some(row.time))
                }
                Source::RowNumber => Ok(Value::Int(self.count as i64)),
                Source::Rank => Ok(Value::Int(before as i64 + 1)),
                Source::DenseRank => Ok(Value::Int(self.times as i64)),
                Source::Detector(which) => {
                    let (method, inputs) = &layout.detectors[which];
                    let inputs = &row.inputs[1][inputs.clone()];
                    Ok(self.detectors[which].take(method, row.time, inputs))
                }
                Source::Lag(which) => Ok(self.lag(&layout.lags[which], which, row)),
            };
            match value {
                Ok(value) => values.push(value),
                // The row counts all the same, and so all functions see it.
                Err(discard) => failed = failed.or(Some(discard)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn lag(&mut self, plan: &LagPlan, which: usize, row: &Waiting) -> Value {
        let inputs = &row.inputs[1];
        let earlier = &mut self.lags[which];
        earlier.push_back(inputs[plan.at].clone());
        if earlier.len() > plan.offset {
            earlier.pop_front().unwrap_or_default()
        } else if plan.default {
            inputs[plan.at + 1].clone()
        } else {
            Value::Null
        }
    }
}

impl KeyState for Partition {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.given.is_none()
    }
}

impl WrittenState for Partition {
    fn encode(&self, out: &mut Encoder) {
        self.write(None, out);
    }

    fn encode_changes(&mut self, out: &mut Encoder) {
        self.write(self.written, out);
        self.note_written();
    }
}

impl Partition {
    fn note_written(&mut self) {
        self.written = Some(Written {
            arrivals: self.arrivals,
            rows_end: self.given.as_ref().map_or(0, |given| given.rows.end()),
            last: self.last,
        });
    }

    /// Writes what has come after `written`, or all.
    fn write(&self, written: Option<Written>, out: &mut Encoder) {
        out.bool(written.is_none());
        if written.is_none() {
            out.timeline(self.line);
        }
        out.u64(self.arrivals);
        out.time(self.last.unwrap_or(EventTime::MIN));
        let known = written.map_or(0, |written| written.arrivals);
        let new = || self.waiting.iter().filter(|w| w.arrival > known);
        out.u64(new().count() as u64);
        for waiting in new() {
            out.time(waiting.time);
            out.u64(waiting.arrival);
            out.lineage(waiting.lineage);
            out.values(&waiting.row);
            waiting.inputs.iter().for_each(|inputs| out.values(inputs));
        }
        let changed = written.is_none_or(|written| written.last != self.last);
        let given = self.given.as_ref().filter(|_| changed);
        out.bool(given.is_some());
        if let Some(given) = given {
            given.write(written.map_or(0, |written| written.rows_end), out);
        }
    }

    /// Applies what was written.
    pub(super) fn read(
        &mut self,
        layout: &Layout,
        from: &mut Decoder<'_>,
    ) -> Result<(), StateError> {
        if from.bool()? {
            *self = Self {
                line: from.timeline(usize::MAX)?,
                ..Self::default()
            };
        }
        self.arrivals = from.u64()?;
        let last = from.time()?;
        // What waits is later than what was given.
        self.waiting.retain(|waiting| waiting.time > last);
        self.last = (last > EventTime::MIN).then_some(last);
        for _ in 0..from.count("waiting rows")? {
            let waiting = Waiting {
                time: from.time()?,
                arrival: from.u64()?,
                lineage: from.lineage()?,
                row: from.values()?.into(),
                inputs: [from.values()?.into(), from.values()?.into()],
            };
            let fits = waiting.inputs[0].len() == layout.kept.len()
                && waiting.inputs[1].len() == layout.once.len();
            if !fits {
                return Err(StateError::Invalid { what: "inputs" });
            }
            self.put(waiting);
        }
        if from.bool()? {
            let rows = self.given.take().map(|given| given.rows);
            let given = Given::read(layout, rows.unwrap_or_default(), from)?;
            self.given = Some(Box::new(given));
        }
        self.note_written();
        Ok(())
    }

    /// Builds what is derived, after all was read.
    pub(super) fn rebuild(&mut self, layout: &Layout) {
        self.armed = None;
        self.expires = false;
        let Some(given) = &mut self.given else { return };
        let slides = given.slides.iter().zip(&layout.frames);
        let rows = &given.rows;
        given.slides = slides
            .map(|(slide, plan)| Slide::rebuilt(plan, slide.start, slide.meet, rows))
            .collect();
    }
}

impl Given {
    /// Writes the rows from number `from` on, and all else.
    fn write(&self, from: u64, out: &mut Encoder) {
        out.u64(self.count);
        out.u64(self.times);
        out.u64(self.rows.base);
        let from = from.max(self.rows.base);
        out.u64(from);
        out.u64(self.rows.end() - from);
        for number in from..self.rows.end() {
            if let Some(row) = self.rows.get(number) {
                out.time(row.time);
                out.values(&row.inputs);
            }
        }
        for slide in &self.slides {
            out.u64(slide.start);
            out.u64(slide.meet);
        }
        self.totals.iter().for_each(|total| total.encode(out));
        self.detectors.iter().for_each(|one| one.encode(out));
        for lag in &self.lags {
            out.u64(lag.len() as u64);
            for value in lag {
                out.value(value);
            }
        }
    }

    fn read(layout: &Layout, mut rows: Rows, from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut given = Self::new(layout);
        (given.count, given.times) = (from.u64()?, from.u64()?);
        let (base, first) = (from.u64()?, from.u64()?);
        rows.forget(base);
        if rows.kept.is_empty() {
            rows.base = base;
        }
        if rows.base != base || rows.end() != first {
            return Err(StateError::Invalid { what: "row number" });
        }
        for _ in 0..from.count("rows")? {
            let (time, inputs) = (from.time()?, from.values()?.into());
            rows.kept.push_back(Kept { time, inputs });
        }
        for slide in &mut given.slides {
            (slide.start, slide.meet) = (from.u64()?, from.u64()?);
            if !(base <= slide.start
                && slide.start <= slide.meet.max(base)
                && slide.meet <= rows.end())
            {
                return Err(StateError::Invalid { what: "frame" });
            }
        }
        for (total, placed) in given.totals.iter_mut().zip(&layout.totals) {
            *total = Accumulator::decode(&placed.aggregate, from)?;
        }
        for (detector, (method, _)) in given.detectors.iter_mut().zip(&layout.detectors) {
            *detector = Detector::decode(method, from)?;
        }
        for lag in &mut given.lags {
            for _ in 0..from.count("values")? {
                lag.push_back(from.value()?);
            }
        }
        given.rows = rows;
        Ok(given)
    }
}
