//! Workloads over the engine, from the bytes of messages to the lines of derived rows, with the commits' share of the
//! engine's work but without a disk. The rows are compared with those of hand-written loops before anything is timed.
//!
//! `cargo bench --bench workloads` prints CPU time per event, each workload beside its floor, `-- NAME` of one alone.
//! `benches/run` does everything at once, and asks for what it needs:
//!
//! | arguments | give |
//! |---|---|
//! | `list` | all workloads, a line of JSON each |
//! | `check NAME` | nothing, but fail where rows are not what they should be |
//! | `time NAME` | CPU nanoseconds per event, of the engine and of the floor |
//! | `once NAME WARM EVENTS [DEVICES]` | what `EVENTS` messages gave after `WARM` others, for tools that count: what counts is within `measured` |
//! | `day NAME` | bytes changed and written in the mean minute of a day of 1,000 devices |
//! | `generate NAME EVENTS [DEVICES]` | nothing: what a run takes besides |
#![allow(clippy::print_stdout)]

mod check;
mod day;
mod floor;
mod input;
mod nexmark;
mod queries;
mod riotbench;
mod sensors;
mod workload;

use std::time::Duration;

use floor::{FLOORS, floor};
use input::Batch;
use sensors::Sensors;
use workload::{Committed, Discarded, Input, Taker, Workload, plan, run};

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
        [] => table(&mut all()),
        ["list"] => list(),
        ["check", name] => {
            check::check(workload(name));
        }
        ["time", name] => {
            let (engine, floor) = times(workload(name));
            println!("{engine:.1} {floor:.1}");
        }
        ["once", name, warm, events] => once(name, number(warm), number(events), None),
        ["once", name, warm, events, devices] => {
            once(name, number(warm), number(events), Some(number(devices)));
        }
        ["day", name] => {
            let day::Written { changed, written } = day::day(name);
            let found = serde_json::json!({"changed_bytes": changed, "written_bytes": written});
            println!("{found}");
        }
        ["generate", name, events] => generate(name, number(events), None),
        ["generate", name, events, devices] => {
            generate(name, number(events), Some(number(devices)));
        }
        [name] => table(&mut std::iter::once(workload(name))),
        _ => panic!(
            "arguments: [NAME] | list | check NAME | time NAME | once NAME WARM EVENTS [DEVICES] \
             | day NAME | generate NAME EVENTS [DEVICES]"
        ),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("WARM, EVENTS and DEVICES are numbers")
}

fn all() -> impl Iterator<Item = &'static Workload> {
    let kinds = [queries::WORKLOADS, riotbench::WORKLOADS, nexmark::WORKLOADS];
    kinds.into_iter().flatten()
}

fn workload(name: &str) -> &'static Workload {
    let found = all().find(|workload| workload.name == name);
    found.unwrap_or_else(|| panic!("no workload is named {name}"))
}

/// What a floor is fed where it stands alone.
const FLOOR_INPUT: Input = Input::Sensors(Sensors {
    devices: 1_000,
    period_millis: 10_000,
    pause: 0,
});

fn list() {
    for workload in all() {
        let Workload {
            name, what, input, ..
        } = workload;
        let counted = input.with_devices(workload.counted_devices);
        println!(
            "{}",
            serde_json::json!({
                "name": name,
                "what": what,
                "devices": input.devices(),
                "warm": input.events(workload.warm_seconds),
                "events": input.events(workload.seconds),
                "counted_devices": workload.counted_devices,
                "counted_warm": counted.events(workload.warm_seconds),
                "counted_events": counted.events(workload.seconds),
                "memory_devices": workload.memory_devices,
                "memory_events": input.with_devices(workload.memory_devices).events(workload.warm_seconds),
            })
        );
    }
    for name in day::names() {
        println!("{}", serde_json::json!({"name": name, "day": true}));
    }
    for (name, _) in FLOORS {
        let (warm, events) = (FLOOR_INPUT.events(60), FLOOR_INPUT.events(120));
        println!(
            "{}",
            serde_json::json!({
                "name": format!("floor-{name}"),
                "counted_devices": FLOOR_INPUT.devices(),
                "counted_warm": warm,
                "counted_events": events,
            })
        );
    }
}

/// The input of a workload, or of a floor.
fn input(name: &str, devices: Option<usize>) -> Input {
    let input = match name.strip_prefix("floor-") {
        Some(_) => FLOOR_INPUT,
        None => workload(name).input,
    };
    input.with_devices(devices.unwrap_or(input.devices()))
}

/// Writes messages that nobody takes.
fn generate(name: &str, events: usize, devices: Option<usize>) {
    struct Nobody;
    impl Taker for Nobody {
        fn take(&mut self, batch: &Batch) {
            std::hint::black_box(batch);
        }
    }
    let mut generator = input(name, devices).generator();
    run(&mut *generator, events, &mut Nobody, &mut |take| take());
}

/// One run, for tools that count instructions or memory.
fn once(name: &str, warm: usize, events: usize, devices: Option<usize>) {
    let input = input(name, devices);
    let mut generator = input.generator();
    if let Some(name) = name.strip_prefix("floor-") {
        let mut floor = Discarded::new(floor(name));
        run(&mut *generator, warm, &mut floor, &mut |take| take());
        run(&mut *generator, events, &mut floor, &mut measured);
        return;
    }
    let mut engine = Committed::new(input, &plan(input, &workload(name).query));
    run(&mut *generator, warm, &mut engine, &mut |take| take());
    engine.commit();
    let before = engine.given;
    run(&mut *generator, events, &mut engine, &mut measured);
    measured(&mut || engine.commit());
    let given = engine.given;
    println!(
        "{}",
        serde_json::json!({
            "rows": given.rows - before.rows,
            "row_bytes": given.row_bytes - before.row_bytes,
            "state_bytes": given.state_bytes - before.state_bytes,
            "keys": engine.engine.keys(),
            "peak_bytes": peak_bytes(),
        })
    );
}

/// What tools count is in here, by this name.
#[inline(never)]
fn measured(take: &mut dyn FnMut()) {
    take();
}

/// The most memory that this program ever had resident. What a parent reads of its children counts also what the parent
/// itself had when it forked.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

/// The CPU time of this thread: on a shared machine the time on the wall says little.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of CPU per event once it is warm: what a run takes beyond a shorter one.
fn per_event(workload: &Workload, taker: &mut dyn Taker) -> f64 {
    let input = workload.input;
    let mut generator = input.generator();
    run(
        &mut *generator,
        input.events(workload.warm_seconds),
        taker,
        &mut |take| take(),
    );
    let events = input.events(workload.seconds);
    let mut time = Duration::ZERO;
    run(&mut *generator, events, taker, &mut |take| {
        let before = cpu_time();
        take();
        time += cpu_time().saturating_sub(before);
    });
    time.as_nanos() as f64 / events as f64
}

/// All rounds with the floor beside the engine in each, and their medians.
fn table(workloads: &mut dyn Iterator<Item = &'static Workload>) {
    println!("CPU ns per event, medians of {ROUNDS} rounds\n");
    println!("| workload | engine | floor | ratio |\n|---|---:|---:|---:|");
    for workload in workloads {
        check::check(workload);
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
    let plan = plan(workload.input, &workload.query);
    let (mut engines, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        engines.push(per_event(
            workload,
            &mut Committed::new(workload.input, &plan),
        ));
        let mut floor = Discarded::new(floor(workload.floor));
        floors.push(per_event(workload, &mut floor));
    }
    (median(engines), median(floors))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
