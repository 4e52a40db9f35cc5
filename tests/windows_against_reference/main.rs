//! Window aggregates against a reference that recomputes every window from its rows: random windows of all kinds, random
//! streams with random disorder, one watermark or one for each key, late rows as dead letters, in a table or as
//! revisions, and a crash and restore at random points. A failure prints its seed.
#![allow(clippy::unwrap_used)]

mod reference;
#[path = "../support/engine.rs"]
mod support;

use std::sync::Arc;

use fastrand::Rng;
use headwater::codec::{Format, JsonFormat, TimestampFormat};
use headwater::engine::{Clock, Engine};
use headwater::expr::Expr;
use headwater::plan::{
    Aggregate, AggregateFunction, ColumnOrigin, LateRows, Node, NodeId, Operator, Place, Plan,
    Sink, SinkConnector, SinkId, Source, SourceColumn, SourceConnector, SourceId, Watermark,
    Window,
};
use headwater::types::{Column, EventTime, Fingerprint, Schema, Timespan, Type};

use reference::{Event, Expected, Kind};
use support::Disk;

/// What a run is of.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    late: LateRows,
    per_key: bool,
}

impl Case {
    fn random(random: &mut Rng) -> Self {
        let slide = 1 + random.u64(..50) as i64;
        let panes = if random.u64(..2) == 0 {
            1
        } else {
            1 + random.u64(..8) as i64
        };
        let (size, offset) = (slide * panes, random.u64(..40) as i64 - 20);
        let mut per_key = random.u64(..3) == 0;
        let kind = match random.u64(..8) {
            0..3 => Kind::Hop {
                size,
                slide,
                offset,
            },
            3..5 => Kind::Cumulate {
                size,
                step: slide,
                offset,
            },
            5..7 => {
                let partitioned = random.u64(..3) > 0;
                // Else the plan would have to put the times of the keys together.
                per_key &= partitioned;
                Kind::Session {
                    gap: 1 + random.u64(..60) as i64,
                    partitioned,
                }
            }
            _ => {
                let slide = 1 + random.u64(..5) as usize;
                let size = slide * (1 + random.u64(..4) as usize);
                Kind::Count { size, slide }
            }
        };
        let late = match (random.u64(..3), kind) {
            (0, Kind::Hop { .. } | Kind::Cumulate { .. }) => LateRows::Update {
                allowed: Timespan::from_millis(1 + random.u64(..100) as i64),
            },
            (1, Kind::Hop { .. } | Kind::Cumulate { .. } | Kind::Session { .. }) => LateRows::Table,
            _ => LateRows::DeadLetter,
        };
        Self {
            kind,
            late,
            per_key,
        }
    }

    fn window(self) -> Window {
        let span = Timespan::from_millis;
        match self.kind {
            Kind::Hop {
                size,
                slide,
                offset,
            } if size == slide => Window::Tumble {
                size: span(size),
                offset: span(offset),
            },
            Kind::Hop {
                size,
                slide,
                offset,
            } => Window::Hop {
                slide: span(slide),
                size: span(size),
                offset: span(offset),
            },
            Kind::Cumulate { size, step, offset } => Window::Cumulate {
                step: span(step),
                size: span(size),
                offset: span(offset),
            },
            Kind::Session { gap, partitioned } => Window::Session {
                gap: span(gap),
                partition: if partitioned { vec![0] } else { Vec::new() },
            },
            Kind::Count { size, slide } => Window::Count {
                size: size as u64,
                slide: slide as u64,
                partition: vec![0],
            },
        }
    }

    fn expected(self, events: &[Event]) -> Expected {
        let allowed = match self.late {
            LateRows::Update { allowed } => allowed.as_micros() / 1_000,
            _ => 0,
        };
        reference::expected(self.kind, allowed, self.per_key, events)
    }
}

fn plan(case: Case) -> Plan {
    let json = Format::Json(JsonFormat {
        timestamp: TimestampFormat::EpochMillis,
        ignore_parse_errors: false,
        fail_on_missing_field: false,
        id_field: None,
    });
    let column = |name: &str, ty: Type| SourceColumn {
        name: name.into(),
        ty,
        nullable: true,
        origin: ColumnOrigin::Payload {
            path: vec![name.to_owned()],
        },
    };
    let timestamp = Type::Timestamp { precision: 3 };
    let source = Source {
        name: "t".into(),
        place: Place::default(),
        connector: SourceConnector::Filesystem {
            path: String::new(),
        },
        format: json.clone(),
        columns: vec![
            column("k", Type::String),
            column("ts", timestamp.clone()),
            column("v", Type::BigInt),
        ],
        watermark: Some(Watermark {
            column: 1,
            expr: Expr::Column(1),
        }),
        max_future: None,
        idle_timeout: None,
        time_keys: if case.per_key { vec![0] } else { Vec::new() },
        fingerprint: Fingerprint::of("t"),
    };
    let aggregate = |function, argument: Option<usize>| {
        let arguments = argument.map(|column| (Expr::Column(column), Type::BigInt));
        Aggregate::new(function, arguments.into_iter().collect(), Type::BigInt)
    };
    let names = [
        "k", "n", "sum", "min", "max", "first", "last", "start", "end", "time",
    ];
    let types = |name: &str| match name {
        "k" => Type::String,
        "start" | "end" | "time" => timestamp.clone(),
        _ => Type::BigInt,
    };
    let schema = Schema::new(
        names
            .iter()
            .map(|name| Column::new(*name, types(name)))
            .collect(),
    );
    let node = |operator, inputs: Vec<NodeId>, schema: &Schema, name: &str| Node {
        operator,
        inputs,
        schema: schema.clone(),
        fingerprint: Fingerprint::of(name),
        query: "q".into(),
        place: Place::default(),
    };
    let window = Operator::WindowAggregate {
        window: case.window(),
        time: 1,
        keys: vec![Expr::Column(0)],
        aggregates: vec![
            aggregate(AggregateFunction::Count, None),
            aggregate(AggregateFunction::Sum, Some(2)),
            aggregate(AggregateFunction::Min, Some(2)),
            aggregate(AggregateFunction::Max, Some(2)),
            aggregate(AggregateFunction::FirstValue, Some(2)),
            aggregate(AggregateFunction::LastValue, Some(2)),
        ],
        late: case.late,
    };
    let empty = Schema::default();
    let sink = |name: &str, schema: Schema| Sink {
        name: name.into(),
        place: Place::default(),
        connector: SinkConnector::Print,
        format: json.clone(),
        schema,
        fingerprint: Fingerprint::of(name),
    };
    let late = ["k", "ts", "v", "start", "end"].map(|name| {
        let ty = match name {
            "k" => Type::String,
            "v" => Type::BigInt,
            _ => timestamp.clone(),
        };
        Column::new(name, ty)
    });
    let mut plan = Plan {
        tables: Vec::new(),
        sources: vec![source],
        nodes: vec![
            node(Operator::Source(SourceId(0)), vec![], &empty, "source"),
            node(window, vec![NodeId(0)], &schema, "window"),
            node(Operator::Sink(SinkId(0)), vec![NodeId(1)], &empty, "sink"),
        ],
        sinks: vec![sink("out", schema)],
    };
    if case.late == LateRows::Table {
        plan.nodes.extend([
            node(Operator::LateRows, vec![NodeId(1)], &empty, "late"),
            node(
                Operator::Sink(SinkId(1)),
                vec![NodeId(3)],
                &empty,
                "late sink",
            ),
        ]);
        plan.sinks.push(sink("late", Schema::new(late.to_vec())));
    }
    plan
}

const CLOCK: Clock = Clock {
    wall: EventTime::from_micros(0),
    steady_micros: 0,
};

fn deliver(engine: &mut Engine, event: Event) {
    let Event { key, millis, value } = event;
    let payload = format!(r#"{{"k":"k{key}","ts":{millis},"v":{value}}}"#);
    support::deliver(engine, 0, &payload, CLOCK);
}

/// The lines of a sink.
fn lines(disk: &Disk, of: SinkId) -> Vec<String> {
    let rows = disk.rows.iter().zip(&disk.sinks);
    let rows = rows.filter(|(_, sink)| **sink == of);
    rows.map(|((_, line), _)| line.clone()).collect()
}

/// How many rows were late and are dead letters.
fn late(disk: &Disk) -> usize {
    disk.dead
        .iter()
        .filter(|(reason, _)| reason == "late")
        .count()
}

fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let case = Case::random(&mut random);
    let keys = 1 + random.u64(..6);
    let disorder = 1 + random.u64(..100);
    let mut now = random.u64(..2_000) as i64 - 1_000;
    let events: Vec<Event> = (0..random.u64(..300))
        .map(|_| {
            now += random.u64(..20) as i64;
            if random.u64(..50) == 0 {
                now += random.u64(..500) as i64;
            }
            let late = if random.u64(..4) == 0 {
                random.u64(..disorder) as i64
            } else {
                0
            };
            Event {
                key: random.u64(..keys),
                millis: now - late,
                value: random.u64(..1_000) as i64 - 500,
            }
        })
        .collect();
    let plan = Arc::new(plan(case));
    // Folded after every change, now and then, or never.
    let fold = [0, 500, 1 << 20][random.u64(..3) as usize];

    let mut whole = Disk::default();
    let mut running = support::engine(&plan, fold);
    for event in &events {
        deliver(&mut running, *event);
    }
    running.finish();
    whole.commit(running.seal(CLOCK));

    // The same again in epochs of random length, with crashes: what was not committed is delivered again.
    let mut disk = Disk::default();
    let mut running = support::engine(&plan, fold);
    let (mut next, mut committed) = (0, 0);
    while next < events.len() {
        deliver(&mut running, events[next]);
        next += 1;
        if random.u64(..5) == 0 {
            disk.commit(running.seal(CLOCK));
            committed = next;
        }
        if random.u64(..7) == 0 {
            running = disk.restored(&plan, fold);
            next = committed;
        }
    }
    running.finish();
    disk.commit(running.seal(CLOCK));

    let Expected {
        mut rows,
        late: late_rows,
    } = case.expected(&events);
    let mut got = lines(&whole, SinkId(0));
    rows.sort();
    got.sort();
    assert_eq!(
        got, rows,
        "seed {seed}: rows differ from the reference ({case:?})"
    );
    if case.late == LateRows::Table {
        let got = lines(&whole, SinkId(1));
        assert_eq!(got, late_rows, "seed {seed}: late rows ({case:?})");
        assert_eq!(late(&whole), 0, "seed {seed}: late rows are in their table");
    } else {
        assert_eq!(
            late(&whole),
            late_rows.len(),
            "seed {seed}: late rows ({case:?})"
        );
    }
    assert_eq!(
        disk.rows, whole.rows,
        "seed {seed}: crashes or epochs changed rows, order or ids ({case:?})"
    );
    assert_eq!(
        late(&disk),
        late(&whole),
        "seed {seed}: late rows after crashes ({case:?})"
    );
    let mut ids: Vec<&String> = whole.rows.iter().map(|(id, _)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        whole.rows.len(),
        "seed {seed}: two events have one id"
    );
}

#[test]
fn windows_are_what_the_reference_says_whatever_crashes() {
    for seed in 0..1_500 {
        run(seed);
    }
}
