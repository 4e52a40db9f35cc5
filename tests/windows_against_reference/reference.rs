//! The rows that windows give, straight from the definitions: every window is recomputed from its rows.

use std::collections::BTreeMap;

/// An event of the stream, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: u64,
    pub(crate) millis: i64,
    pub(crate) value: i64,
}

/// A kind of window; all lengths in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Windows of `size` every `slide`.
    Hop { size: i64, slide: i64, offset: i64 },
    /// Windows from a common start that grow by `step` up to `size`.
    Cumulate { size: i64, step: i64, offset: i64 },
    /// Sessions of each key or, not `partitioned`, of all, aggregated by key.
    Session { gap: i64, partitioned: bool },
    /// Windows of `size` rows every `slide` rows.
    Count { size: usize, slide: usize },
}

/// What comes out of a stream.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// The windows' rows, in no particular order, revisions among them.
    pub(crate) rows: Vec<String>,
    /// The rows that were late, with the window that they missed, in order.
    pub(crate) late: Vec<String>,
}

impl Expected {
    fn window(&mut self, key: u64, (start, end): (i64, i64), values: &[i64]) {
        let (n, sum) = (values.len(), values.iter().sum::<i64>());
        let (least, greatest) = (values.iter().min().unwrap(), values.iter().max().unwrap());
        let (first, last) = (values.first().unwrap(), values.last().unwrap());
        self.rows.push(format!(
            r#"{{"k":"k{key}","n":{n},"sum":{sum},"min":{least},"max":{greatest},"first":{first},"last":{last},"start":{start},"end":{end},"time":{}}}"#,
            end - 1
        ));
    }

    fn late(&mut self, event: Event, (start, end): (i64, i64)) {
        let Event { key, millis, value } = event;
        self.late.push(format!(
            r#"{{"k":"k{key}","ts":{millis},"v":{value},"start":{start},"end":{end}}}"#
        ));
    }
}

/// What a stream gives. Windows can be revised until `allowed` after they have closed. With `per_key` every key has a
/// watermark of its own.
pub(crate) fn expected(kind: Kind, allowed: i64, per_key: bool, events: &[Event]) -> Expected {
    match kind {
        Kind::Hop { .. } | Kind::Cumulate { .. } => aligned(kind, allowed, per_key, events),
        Kind::Session { gap, partitioned } => sessions(gap, partitioned, per_key, events),
        Kind::Count { size, slide } => counted(size, slide, events),
    }
}

/// The windows of a point in time, the last to end at the end.
fn windows_of(kind: Kind, millis: i64) -> Vec<(i64, i64)> {
    let down = |step: i64, offset: i64| millis - (millis - offset).rem_euclid(step);
    match kind {
        Kind::Hop {
            size,
            slide,
            offset,
        } => {
            let starts = (0..size / slide).rev();
            let starts = starts.map(|back| down(slide, offset) - back * slide);
            starts.map(|start| (start, start + size)).collect()
        }
        Kind::Cumulate { size, step, offset } => {
            let start = down(size, offset);
            let ends = (1..=size / step).map(|steps| start + steps * step);
            let ends = ends.filter(|end| *end > millis);
            ends.map(|end| (start, end)).collect()
        }
        _ => unreachable!("no grid"),
    }
}

/// The watermarks that a stream has reached: one, or one for each key.
struct Watermarks {
    per_key: bool,
    reached: BTreeMap<u64, i64>,
}

impl Watermarks {
    fn new(per_key: bool) -> Self {
        Self {
            per_key,
            reached: BTreeMap::new(),
        }
    }

    fn line(&self, key: u64) -> u64 {
        if self.per_key { key } else { 0 }
    }

    fn of(&self, key: u64) -> i64 {
        let known = self.reached.get(&self.line(key));
        known.copied().unwrap_or(i64::MIN)
    }

    fn take(&mut self, event: Event) {
        let line = self.line(event.key);
        let reached = self.reached.entry(line).or_insert(i64::MIN);
        *reached = event.millis.max(*reached);
    }
}

/// The values of a window, and whether it has been given.
type Window = (Vec<i64>, bool);

fn aligned(kind: Kind, allowed: i64, per_key: bool, events: &[Event]) -> Expected {
    let mut expected = Expected::default();
    let mut watermarks = Watermarks::new(per_key);
    let mut windows: BTreeMap<(u64, (i64, i64)), Window> = BTreeMap::new();
    for event in events {
        let watermark = watermarks.of(event.key);
        let own = windows_of(kind, event.millis);
        let mut taken = false;
        for window in &own {
            if (window.1 - 1).saturating_add(allowed) <= watermark {
                continue;
            }
            taken = true;
            let (values, given) = windows.entry((event.key, *window)).or_default();
            values.push(event.value);
            if window.1 - 1 <= watermark {
                *given = true;
                expected.window(event.key, *window, values);
            }
        }
        if !taken {
            expected.late(*event, *own.last().unwrap());
        }
        watermarks.take(*event);
        for ((key, window), (values, given)) in &mut windows {
            if !*given && window.1 - 1 <= watermarks.of(*key) {
                *given = true;
                expected.window(*key, *window, values);
            }
        }
    }
    for ((key, window), (values, given)) in &windows {
        if !given {
            expected.window(*key, *window, values);
        }
    }
    expected
}

/// The sessions of events: each with its bounds and the positions of its events.
fn sessions_of(gap: i64, open: &[Event]) -> Vec<((i64, i64), Vec<usize>)> {
    let mut by_time: Vec<usize> = (0..open.len()).collect();
    by_time.sort_by_key(|at| open[*at].millis);
    let mut sessions: Vec<((i64, i64), Vec<usize>)> = Vec::new();
    for at in by_time {
        let millis = open[at].millis;
        match sessions.last_mut() {
            Some(((_, end), members)) if millis <= *end => {
                *end = millis + gap;
                members.push(at);
            }
            _ => sessions.push(((millis, millis + gap), vec![at])),
        }
    }
    for (_, members) in &mut sessions {
        members.sort_unstable();
    }
    sessions
}

fn sessions(gap: i64, partitioned: bool, per_key: bool, events: &[Event]) -> Expected {
    let mut expected = Expected::default();
    let mut watermarks = Watermarks::new(per_key);
    // The events of open sessions, in order of arrival.
    let mut open: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    let close = |open: &mut Vec<Event>, watermark: i64, expected: &mut Expected| {
        let mut closed = Vec::new();
        for (window, members) in sessions_of(gap, open) {
            if window.1 - 1 > watermark {
                continue;
            }
            let mut groups: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
            for at in &members {
                groups
                    .entry(open[*at].key)
                    .or_default()
                    .push(open[*at].value);
            }
            for (key, values) in groups {
                expected.window(key, window, &values);
            }
            closed.extend(members);
        }
        let mut at = 0;
        open.retain(|_| {
            at += 1;
            !closed.contains(&(at - 1))
        });
    };
    for event in events {
        let watermark = watermarks.of(event.key);
        let of_key = open
            .entry(if partitioned { event.key } else { 0 })
            .or_default();
        let own = (event.millis, event.millis + gap);
        let joins = sessions_of(gap, of_key)
            .iter()
            .any(|((start, end), _)| *start <= own.1 && own.0 <= *end);
        if joins || own.1 - 1 > watermark {
            of_key.push(*event);
        } else {
            expected.late(*event, own);
        }
        watermarks.take(*event);
        for (key, open) in &mut open {
            close(open, watermarks.of(*key), &mut expected);
        }
    }
    for open in open.values_mut() {
        close(open, i64::MAX, &mut expected);
    }
    expected
}

fn counted(size: usize, slide: usize, events: &[Event]) -> Expected {
    let mut expected = Expected::default();
    let mut rows: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    for event in events {
        let rows = rows.entry(event.key).or_default();
        rows.push(*event);
        if rows.len() >= size && (rows.len() - size).is_multiple_of(slide) {
            let window = &rows[rows.len() - size..];
            let times = || window.iter().map(|event| event.millis);
            let bounds = (times().min().unwrap(), times().max().unwrap() + 1);
            let values: Vec<i64> = window.iter().map(|event| event.value).collect();
            expected.window(event.key, bounds, &values);
        }
    }
    expected
}
