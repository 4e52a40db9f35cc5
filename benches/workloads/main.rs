//! Workloads over the engine, from the bytes of messages to the lines of derived rows, with the commits' share of the
//! engine's work but without a disk.
//!
//! `cargo bench --bench workloads` prints CPU time per event, each workload beside its hand-written floor. `-- time NAME`
//! gives the two numbers of one. `-- once NAME EVENTS [DEVICES]` runs one once, for tools that count: what counts happens
//! within `measured`. `-- list` names all. `benches/run` does everything at once.
#![allow(clippy::print_stdout)]

mod floor;
mod generator;
mod queries;

use std::sync::Arc;
use std::time::Duration;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions, LEAST_FOLD_BYTES, StateChange};
use headwater::plan::{Plan, SourceId};
use headwater::sql::{Catalog, compile};
use headwater::types::EventTime;

use floor::{FLOORS, Floor};
use generator::{FIRST_MILLIS, Messages};
use queries::{WORKLOADS, Workload};

/// Messages between two commits: a second of a busy gateway.
const EPOCH_MESSAGES: usize = 10_000;
/// Rounds of which the median is given.
const ROUNDS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo itself adds `--bench`.
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| *argument != "--bench")
        .collect();
    match arguments[..] {
        [] => table(WORKLOADS.iter().collect()),
        ["list"] => {
            for workload in WORKLOADS {
                println!("{}", workload.name);
            }
            for (floor, _) in FLOORS {
                println!("floor-{floor}");
            }
        }
        ["once", name, events] => once(name, number(events), None),
        ["once", name, events, devices] => once(name, number(events), Some(number(devices))),
        ["time", name] => {
            let (engine, floor) = times(workload(name));
            println!("{engine:.1} {floor:.1}");
        }
        [name] => table(WORKLOADS.iter().filter(|w| w.name == name).collect()),
        _ => panic!("arguments: [NAME] | list | time NAME | once NAME EVENTS [DEVICES]"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("EVENTS and DEVICES are numbers")
}

fn plan(workload: &Workload) -> Arc<Plan> {
    let files = [("workload.sql".to_owned(), workload.sql())];
    match compile(&files, &Catalog::default()) {
        Ok((plan, _)) => plan.into(),
        Err(problems) => panic!("{}: {problems:?}", workload.name),
    }
}

fn engine(plan: &Arc<Plan>) -> Engine {
    let options = EngineOptions {
        max_keys: 1_000_000,
        max_payload_bytes: 1 << 20,
        least_fold_bytes: LEAST_FOLD_BYTES,
        connections: Vec::new(),
    };
    Engine::new(plan.clone(), &options)
}

/// What a run gave.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    rows: u64,
    dead: u64,
    state_bytes: u64,
}

/// Has the engine take all messages, with a commit every so often.
#[inline(never)]
fn measured(engine: &mut Engine, messages: &Messages) -> Given {
    let clock = Clock {
        wall: EventTime::from_millis(FIRST_MILLIS as i64 + 366 * 86_400_000),
        steady_micros: 0,
    };
    let mut given = Given::default();
    for (number, payload) in messages.iter().enumerate() {
        let message = Message {
            topic: "plant/pumps/readings",
            payload,
            qos: 1,
            retain: false,
            received: clock.wall,
        };
        engine.deliver_to(SourceId(0), &message, clock);
        if (number + 1) % EPOCH_MESSAGES == 0 {
            let sealed = engine.seal(clock);
            given.rows += sealed.local.len() as u64;
            given.dead += sealed.dead.len() as u64;
            given.state_bytes += state_bytes(&sealed.state);
            engine.committed();
        }
    }
    let sealed = engine.seal(clock);
    given.rows += sealed.local.len() as u64;
    given.dead += sealed.dead.len() as u64;
    given
}

fn state_bytes(change: &StateChange) -> u64 {
    let bytes = match change {
        StateChange::Unchanged => 0,
        StateChange::Delta(delta) => delta.len(),
        StateChange::Snapshot(pieces) => pieces.iter().map(Vec::len).sum(),
    };
    bytes as u64
}

fn workload(name: &str) -> &'static Workload {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    found.unwrap_or_else(|| panic!("no workload is named {name}"))
}

/// One run, for tools that count instructions or memory.
fn once(name: &str, events: usize, devices: Option<usize>) {
    if let Some((_, run)) = FLOORS
        .iter()
        .find(|(floor, _)| name.strip_prefix("floor-") == Some(floor))
    {
        let messages = Messages::new(events, 10_000);
        println!("{}", measured_floor(*run, &messages));
        return;
    }
    let workload = workload(name);
    let messages = Messages::new(events, devices.unwrap_or(workload.devices));
    let mut engine = engine(&plan(workload));
    let Given {
        rows,
        dead,
        state_bytes,
    } = measured(&mut engine, &messages);
    assert_eq!(dead, 0, "rows of {name} were discarded");
    let keys = engine.keys();
    println!(r#"{{"rows":{rows},"keys":{keys},"state_bytes":{state_bytes}}}"#);
}

#[inline(never)]
fn measured_floor(run: Floor, messages: &Messages) -> u64 {
    run(messages)
}

/// The CPU time of this thread: on a shared machine the time on the wall says little.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of CPU per event, as the difference between `small` and twice as many events.
fn per_event(small: &Messages, large: &Messages, run: &mut dyn FnMut(&Messages)) -> f64 {
    let mut time = |messages: &Messages| {
        let before = cpu_time();
        run(messages);
        cpu_time().saturating_sub(before).as_nanos() as f64
    };
    let (first, second) = (time(small), time(large));
    let events = large.iter().count() - small.iter().count();
    (second - first) / events as f64
}

/// All rounds with the floor beside the engine in each, and their medians.
fn table(workloads: Vec<&Workload>) {
    println!("CPU ns per event, medians of {ROUNDS} rounds\n");
    println!("| workload | engine | floor | ratio |\n|---|---:|---:|---:|");
    for workload in workloads {
        let (engine, floor) = times(workload);
        println!(
            "| {}: {} | {engine:.0} | {floor:.0} | {:.1} |",
            workload.name,
            workload.what,
            engine / floor
        );
    }
}

/// CPU nanoseconds per event of a workload and of its floor.
fn times(workload: &Workload) -> (f64, f64) {
    let events = workload.events;
    let small = Messages::new(events, workload.devices);
    let large = Messages::new(2 * events, workload.devices);
    let plan = plan(workload);
    let floor = FLOORS.iter().find(|(name, _)| *name == workload.floor);
    let (_, floor) = floor.expect("each workload names a floor");
    let (mut engines, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        engines.push(per_event(&small, &large, &mut |messages| {
            let given = measured(&mut engine(&plan), messages);
            assert_eq!(given.dead, 0);
        }));
        floors.push(per_event(&small, &large, &mut |messages| {
            std::hint::black_box(measured_floor(*floor, messages));
        }));
    }
    (median(engines), median(floors))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
