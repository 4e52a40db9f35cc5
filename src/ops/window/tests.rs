//! The bounds of the state of windows, and what is said at them.

use super::*;
use crate::plan::AggregateFunction;
use crate::types::{Progress, Timeline, Type};

/// What an operator has made.
#[derive(Default)]
struct Made {
    rows: Vec<Row>,
    discards: Vec<Discard>,
}

impl Emit for Made {
    fn row(&mut self, row: &[Value], _lineage: Lineage) {
        self.rows.push(row.into());
    }

    fn discard(&mut self, discard: Discard) {
        self.discards.push(discard);
    }

    fn late(&mut self, _row: &[Value], _lineage: Lineage) {}

    fn count(&mut self, _what: &'static str) {}

    fn on(&mut self, _at: Progress) {}
}

/// `COUNT(*)` by the first columns of rows whose last is the time.
fn counting(window: &Window, keys: usize, max_keys: usize) -> Box<dyn Operator> {
    let aggregation = Aggregation {
        time: keys,
        keys: (0..keys).map(Expr::Column).collect(),
        aggregates: vec![Aggregate::new(
            AggregateFunction::Count,
            Vec::new(),
            Type::BigInt,
        )],
        late: LateRows::DeadLetter,
        fingerprint: Fingerprint::of("test"),
    };
    window_aggregate(window, aggregation, max_keys)
}

fn at(millis: i64) -> Progress {
    Progress {
        line: Timeline::SHARED,
        watermark: EventTime::from_millis(millis),
    }
}

fn feed(operator: &mut dyn Operator, keys: &[&str], millis: i64, made: &mut Made) {
    let mut row: Row = keys.iter().copied().map(Value::str).collect();
    row.push(Value::Timestamp(millis * 1_000));
    let context = Context {
        now: EventTime::MIN,
    };
    let lineage = Lineage(millis.unsigned_abs().into());
    operator.process(0, &row, lineage, at(-1), &context, made);
}

fn session(partition: usize) -> Window {
    Window::Session {
        gap: Timespan::from_millis(10),
        partition: (0..partition).collect(),
    }
}

#[test]
fn a_key_has_a_bounded_number_of_open_sessions() {
    let mut made = Made::default();
    let mut operator = counting(&session(1), 1, 10);
    for number in 0..=1_000 {
        feed(&mut *operator, &["a"], number * 100, &mut made);
    }
    let said = &made.discards[0];
    assert_eq!((made.discards.len(), said.reason), (1, "max_sessions"));
    assert_eq!(
        said.detail,
        "key 'a' has 1000 open sessions, from 1970-01-01T00:00:00Z on; shorten the delay of the watermark or lengthen the gap"
    );
    // A row that joins one is no new one, and another key is none of its business.
    feed(&mut *operator, &["a"], 50_001, &mut made);
    feed(&mut *operator, &["b"], 0, &mut made);
    assert_eq!(made.discards.len(), 1);
    operator.advance(at(100_000), &mut made);
    assert_eq!((made.rows.len(), operator.keys()), (1_001, 0));
    assert_eq!(operator.next_timer(Timeline::SHARED), None);
}

#[test]
fn groups_of_sessions_count_as_keys() {
    let mut made = Made::default();
    let mut operator = counting(&session(0), 1, 3);
    for key in ["a", "b", "c", "d", "a"] {
        feed(&mut *operator, &[key], 0, &mut made);
    }
    assert_eq!(made.discards.len(), 1);
    assert_eq!(made.discards[0].reason, "max_keys");
    assert!(made.discards[0].detail.contains("key 'd' is new"));
    operator.advance(at(9), &mut made);
    assert_eq!(made.rows.len(), 3);
    // There is room again.
    feed(&mut *operator, &["d"], 100, &mut made);
    assert_eq!(made.discards.len(), 1);
}

#[test]
fn count_windows_forget_a_key_with_its_last_row() {
    let mut made = Made::default();
    let window = Window::Count {
        size: 2,
        slide: 2,
        partition: vec![0],
    };
    let mut operator = counting(&window, 1, 1);
    feed(&mut *operator, &["a"], 5, &mut made);
    feed(&mut *operator, &["b"], 5, &mut made);
    assert_eq!(made.discards[0].reason, "max_keys");
    feed(&mut *operator, &["a"], 3, &mut made);
    assert_eq!((made.rows.len(), operator.keys()), (1, 0));
    feed(&mut *operator, &["b"], 5, &mut made);
    assert_eq!((made.discards.len(), operator.keys()), (1, 1));
}

#[test]
fn the_edges_of_time_do_not_overflow() {
    for window in [
        session(1),
        Window::Cumulate {
            step: Timespan::from_millis(5),
            size: Timespan::from_millis(10),
            offset: Timespan::from_millis(3),
        },
        Window::Hop {
            slide: Timespan::from_millis(5),
            size: Timespan::from_millis(10),
            offset: Timespan::ZERO,
        },
    ] {
        let mut made = Made::default();
        let mut operator = counting(&window, 1, 10);
        for micros in [i64::MAX, i64::MAX - 1, i64::MIN, i64::MIN + 1, 0] {
            let row = [Value::str("a"), Value::Timestamp(micros)];
            let context = Context {
                now: EventTime::MIN,
            };
            let start = Progress {
                line: Timeline::SHARED,
                watermark: EventTime::MIN,
            };
            operator.process(0, &row, Lineage(0), start, &context, &mut made);
        }
        let end = Progress {
            line: Timeline::SHARED,
            watermark: EventTime::MAX,
        };
        operator.advance(end, &mut made);
        assert_eq!(operator.keys(), 0, "{window:?}");
    }
}
