//! The inner pieces, each by itself: `cargo bench --bench pieces`, with an argument only those whose name has it.
//!
//! Everything is taken from the plan of a small pipeline, so that it is what the engine would run. A window's update and a
//! pattern's step are whole deliveries to an engine: what decoding takes is beside them.

use std::hint::black_box;

use criterion::Criterion;

use headwater::codec::{Decoder, InputColumn, JsonEncoder, Message, Origin, TimestampFormat};
use headwater::engine::{Clock, Engine, EngineOptions, LEAST_FOLD_BYTES};
use headwater::expr::{Context, Expr};
use headwater::ops::Accumulator;
use headwater::plan::{Aggregate, ColumnOrigin, Operator, Plan, Source, SourceId};
use headwater::sql::{Catalog, compile};
use headwater::state::Encoder;
use headwater::types::{EventTime, Row};

const SENSORS: &str = "CREATE TABLE sensors (id STRING, ts TIMESTAMP(3), temp DOUBLE, vib DOUBLE, rpm INT, \
WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
WITH ('connector' = 'filesystem', 'path' = 'sensors', 'json.timestamp-format.standard' = 'epoch-millis');\n";
const FILTER: &str = "CREATE TABLE o (id STRING, f DOUBLE) WITH ('connector' = 'print');
INSERT INTO o SELECT id, temp * 1.8 + 32 FROM sensors WHERE temp > 55 AND rpm BETWEEN 900 AND 1500;";
const WINDOW: &str = "CREATE TABLE o (id STRING, n BIGINT, mean DOUBLE, greatest DOUBLE) WITH ('connector' = 'print');
INSERT INTO o SELECT id, COUNT(*), AVG(temp), MAX(vib)
FROM TUMBLE(TABLE sensors, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY id, window_start, window_end;";
const PATTERN: &str = "CREATE TABLE o (id STRING, first TIMESTAMP(3), last TIMESTAMP(3)) WITH ('connector' = 'print');
INSERT INTO o SELECT id, first, last FROM sensors MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts
MEASURES A.ts AS first, B.ts AS last AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) WITHIN INTERVAL '1' MINUTE
DEFINE A AS vib > 7, B AS temp > 50);";

fn plan(sql: &str) -> Plan {
    let files = [("pieces.sql".to_owned(), format!("{SENSORS}{sql}"))];
    match compile(&files, &Catalog::default()) {
        Ok((plan, _)) => plan,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn payload(millis: u64) -> String {
    format!(
        r#"{{"id":"pump-0001234","ts":{millis},"temp":21.57,"at":"a1","vib":7.234,"rpm":1500,"vol":230.1,"pa":1.013,"st":"run","ok":true,"fw":"1.4","seq":100000}}"#
    )
}

fn message(payload: &str) -> Message<'_> {
    Message {
        topic: "plant/pumps/readings",
        payload: payload.as_bytes(),
        qos: 1,
        retain: false,
        received: EventTime::from_millis(1_800_000_000_000),
    }
}

fn decoder(source: &Source) -> Decoder {
    let columns = source.columns.iter().map(|column| InputColumn {
        name: column.name.clone(),
        ty: column.ty.clone(),
        nullable: column.nullable,
        origin: match &column.origin {
            ColumnOrigin::Payload { path } => Origin::Payload { path: path.clone() },
            _ => Origin::Elsewhere,
        },
    });
    Decoder::new(&source.format, columns.collect())
}

fn row() -> Row {
    let text = payload(1_767_225_600_000);
    let rows = decoder(&plan(FILTER).sources[0]).decode(&message(&text));
    rows.expect("the message fits the table").remove(0)
}

fn predicate() -> Expr {
    let nodes = plan(FILTER).nodes.into_iter();
    let mut found = nodes.filter_map(|node| match node.operator {
        Operator::Filter { predicate } => Some(predicate),
        _ => None,
    });
    found.next().expect("the pipeline has a filter")
}

fn aggregates() -> Vec<Aggregate> {
    let nodes = plan(WINDOW).nodes.into_iter();
    let mut found = nodes.filter_map(|node| match node.operator {
        Operator::WindowAggregate { aggregates, .. } => Some(aggregates),
        _ => None,
    });
    found.next().expect("the pipeline has a window")
}

fn pieces(criterion: &mut Criterion) {
    let text = payload(1_767_225_600_000);
    let mut decoder = decoder(&plan(FILTER).sources[0]);
    let mut rows = Vec::new();
    criterion.bench_function("decode five of twelve fields", |b| {
        b.iter(|| decoder.decode_into(black_box(&message(&text)), &mut rows));
    });

    let (row, predicate) = (row(), predicate());
    let context = Context {
        now: EventTime::from_millis(1_767_225_600_000),
    };
    criterion.bench_function("test a filter of three comparisons", |b| {
        b.iter(|| predicate.test(black_box(&row), &context));
    });

    let aggregates = aggregates();
    let mut accumulators: Vec<_> = aggregates.iter().map(Accumulator::new).collect();
    criterion.bench_function("update COUNT, AVG and MAX", |b| {
        b.iter(|| {
            for (accumulator, aggregate) in accumulators.iter_mut().zip(&aggregates) {
                let arguments = aggregate.arguments.len();
                accumulator.update(aggregate, black_box(&row[2..2 + arguments]), 1);
            }
        });
    });

    for (name, sql) in [
        ("deliver to a filter", FILTER),
        ("deliver to a window", WINDOW),
        ("deliver to a pattern of two steps", PATTERN),
    ] {
        deliver(criterion, name, sql);
    }

    let plan = plan(WINDOW);
    let source = plan.nodes.iter().find(|node| node.inputs.is_empty());
    let schema = &source.expect("the pipeline has a source").schema;
    let mut encoder = JsonEncoder::new(schema, &TimestampFormat::Sql, None);
    let mut text = String::new();
    criterion.bench_function("encode a row of five columns as JSON", |b| {
        b.iter(|| {
            text.clear();
            encoder.encode(black_box(&row), 0, &mut text);
        });
    });
    let mut state = Encoder::new();
    criterion.bench_function("encode a row of five columns as state", |b| {
        b.iter(|| {
            state.clear();
            state.values(black_box(&row));
        });
    });
}

/// One device, every millisecond of event time; commits are not in it.
fn deliver(criterion: &mut Criterion, name: &str, sql: &str) {
    let options = EngineOptions {
        max_keys: 1_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes: LEAST_FOLD_BYTES,
        connections: Vec::new(),
    };
    let mut engine = Engine::new(plan(sql).into(), &options);
    let clock = Clock {
        wall: EventTime::from_millis(1_800_000_000_000),
        steady_micros: 0,
    };
    let payloads: Vec<String> = (0..10_000)
        .map(|n| payload(1_767_225_600_000 + n))
        .collect();
    let mut number = 0;
    criterion.bench_function(name, |b| {
        b.iter(|| {
            // Time starts anew with a new engine: rows would be late otherwise.
            if number == payloads.len() {
                engine = Engine::new(engine.plan().clone(), &options);
                number = 0;
            }
            engine.deliver_to(SourceId(0), &message(&payloads[number]), clock);
            number += 1;
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    pieces(&mut criterion);
    criterion.final_summary();
}
