//! Window aggregates against a reference that recomputes every window from all rows, over random streams with random
//! disorder, random windows, and a crash and restore at random points. A failure prints its seed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater::codec::{Format, JsonFormat, Message, TimestampFormat};
use headwater::engine::{Clock, Engine, EngineOptions, SealedEpoch, StateChange, Stored};
use headwater::expr::Expr;
use headwater::plan::{
    Aggregate, AggregateFunction, ColumnOrigin, LateRows, Node, NodeId, Operator, Place, Plan, Sink,
    SinkConnector, SinkId, Source, SourceColumn, SourceConnector, SourceId, Watermark, Window,
};
use headwater::types::{Column, EventTime, Fingerprint, Schema, Timespan, Type};

/// A generator that is the same everywhere: the seed is the whole story of a failure.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Clone, Copy, Debug)]
struct Event {
    key: u64,
    millis: i64,
    value: i64,
}

fn plan(window: &Window) -> Plan {
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
        time_keys: Vec::new(),
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
        window: window.clone(),
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
        late: LateRows::DeadLetter,
    };
    let empty = Schema::default();
    Plan {
        sources: vec![source],
        nodes: vec![
            node(Operator::Source(SourceId(0)), vec![], &empty, "source"),
            node(window, vec![NodeId(0)], &schema, "window"),
            node(Operator::Sink(SinkId(0)), vec![NodeId(1)], &empty, "sink"),
        ],
        sinks: vec![Sink {
            name: "out".into(),
            place: Place::default(),
            connector: SinkConnector::Print,
            format: json,
            schema,
            fingerprint: Fingerprint::of("out"),
        }],
    }
}

fn engine(plan: &Arc<Plan>, least_fold_bytes: u64) -> Engine {
    let options = EngineOptions {
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes,
        connections: Vec::new(),
    };
    Engine::new(plan.clone(), &options)
}

const CLOCK: Clock = Clock {
    wall: EventTime::from_micros(0),
    steady_micros: 0,
};

fn deliver(engine: &mut Engine, event: Event) {
    let Event { key, millis, value } = event;
    let payload = format!(r#"{{"k":"k{key}","ts":{millis},"v":{value}}}"#);
    let message = Message {
        topic: "t",
        payload: payload.as_bytes(),
        qos: 1,
        retain: false,
        received: CLOCK.wall,
    };
    engine.deliver_to(SourceId(0), &message, CLOCK);
}

/// What a store keeps.
#[derive(Default)]
struct Disk {
    epoch: u64,
    meta: Vec<u8>,
    base: Vec<Vec<u8>>,
    deltas: Vec<Vec<u8>>,
    rows: Vec<(String, String)>,
    late: usize,
}

impl Disk {
    fn commit(&mut self, sealed: SealedEpoch) {
        assert_eq!(sealed.epoch, self.epoch + 1);
        self.epoch = sealed.epoch;
        self.meta = sealed.meta;
        match sealed.state {
            StateChange::Unchanged => {}
            StateChange::Delta(delta) => self.deltas.push(delta),
            StateChange::Snapshot(base) => {
                self.base = base;
                self.deltas.clear();
            }
        }
        self.rows.extend(
            sealed
                .local
                .into_iter()
                .map(|row| (row.id.to_string(), row.line)),
        );
        self.late += sealed
            .dead
            .iter()
            .filter(|letter| letter.reason == "late")
            .count();
    }

    fn restore(&self, plan: &Arc<Plan>, fold: u64) -> Engine {
        let mut engine = engine(plan, fold);
        if self.epoch > 0 {
            let stored = Stored {
                epoch: self.epoch,
                meta: &self.meta,
                base: &self.base,
                deltas: &self.deltas,
            };
            engine.restore(&stored, &[]).unwrap();
        }
        engine
    }
}

/// Count, sum, least, greatest, first and last value of each window and key, straight from the definition; and how many are late.
fn reference(events: &[Event], size: i64, slide: i64, offset: i64) -> (Vec<String>, usize) {
    let mut windows: BTreeMap<(i64, u64), [i64; 6]> = BTreeMap::new();
    let mut watermark = i64::MIN;
    let mut late = 0;
    for event in events {
        let mut taken = false;
        let newest = event.millis - (event.millis - offset).rem_euclid(slide);
        for start in (0..size / slide).map(|back| newest - back * slide) {
            let end = start + size;
            if end - 1 <= watermark {
                continue;
            }
            taken = true;
            let [n, sum, least, greatest, _, last] = windows.entry((end, event.key)).or_insert([
                0,
                0,
                i64::MAX,
                i64::MIN,
                event.value,
                0,
            ]);
            *n += 1;
            *sum += event.value;
            *least = event.value.min(*least);
            *greatest = event.value.max(*greatest);
            *last = event.value;
        }
        late += usize::from(!taken);
        watermark = watermark.max(event.millis);
    }
    let rows = windows.iter().map(|((end, key), [n, sum, least, greatest, first, last])| {
        format!(
            r#"{{"k":"k{key}","n":{n},"sum":{sum},"min":{least},"max":{greatest},"first":{first},"last":{last},"start":{},"end":{end},"time":{}}}"#,
            end - size,
            end - 1
        )
    });
    (rows.collect(), late)
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let slide = 1 + random.below(50) as i64;
    let panes = if random.below(2) == 0 {
        1
    } else {
        1 + random.below(8) as i64
    };
    let size = slide * panes;
    let offset = random.below(40) as i64 - 20;
    let span = Timespan::from_millis;
    let window = if panes == 1 {
        Window::Tumble {
            size: span(size),
            offset: span(offset),
        }
    } else {
        Window::Hop {
            slide: span(slide),
            size: span(size),
            offset: span(offset),
        }
    };
    let keys = 1 + random.below(6);
    let disorder = 1 + random.below(100);
    let mut now = random.below(2_000) as i64 - 1_000;
    let events: Vec<Event> = (0..random.below(300))
        .map(|_| {
            now += random.below(20) as i64;
            if random.below(50) == 0 {
                now += random.below(500) as i64;
            }
            let late = if random.below(4) == 0 {
                random.below(disorder) as i64
            } else {
                0
            };
            Event {
                key: random.below(keys),
                millis: now - late,
                value: random.below(1_000) as i64 - 500,
            }
        })
        .collect();
    let plan = Arc::new(plan(&window));
    // Folded after every change, now and then, or never.
    let fold = [0, 500, 1 << 20][random.below(3) as usize];

    let mut whole = Disk::default();
    let mut running = engine(&plan, fold);
    for event in &events {
        deliver(&mut running, *event);
    }
    running.finish();
    whole.commit(running.seal(CLOCK));

    // The same again in epochs of random length, with crashes: what was not committed is delivered again.
    let mut disk = Disk::default();
    let mut running = engine(&plan, fold);
    let (mut next, mut committed) = (0, 0);
    while next < events.len() {
        deliver(&mut running, events[next]);
        next += 1;
        if random.below(5) == 0 {
            disk.commit(running.seal(CLOCK));
            committed = next;
        }
        if random.below(7) == 0 {
            running = disk.restore(&plan, fold);
            next = committed;
        }
    }
    running.finish();
    disk.commit(running.seal(CLOCK));

    let (mut expected, late) = reference(&events, size, slide, offset);
    let mut got: Vec<String> = whole.rows.iter().map(|(_, row)| row.clone()).collect();
    expected.sort();
    got.sort();
    assert_eq!(
        got, expected,
        "seed {seed}: rows differ from the reference ({window:?})"
    );
    assert_eq!(whole.late, late, "seed {seed}: late rows");
    assert_eq!(
        disk.rows, whole.rows,
        "seed {seed}: crashes or epochs changed rows, order or ids"
    );
    assert_eq!(disk.late, late, "seed {seed}: late rows after crashes");
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
    for seed in 0..400 {
        run(seed);
    }
}
