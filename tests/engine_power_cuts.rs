//! Cuts the power under the whole machine: the engine's own epochs on a simulated disk, with a broker on one side and
//! an upstream on the other.
//!
//! A gateway takes publishes, commits epochs, acknowledges, forwards. At every flush of its disk, images are made of
//! what a power cut may leave. Each image is started again and run to the end, with the broker delivering again what
//! was not acknowledged and upstream remembering what it got. What must hold in each: the epoch is the last one that
//! was acknowledged or the one in flight, the outbox is that epoch's, and in the end every derived event of a run
//! without a cut has arrived, none else, and no id with two contents; every useless payload is one dead letter.
//!
//! `HEADWATER_SEED=n` runs one seed alone, `HEADWATER_SEEDS=n` that many.

#[path = "support/disk.rs"]
mod disk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use disk::{Disk, Random};
use headwater::codec::Message;
use headwater::engine::{
    Clock, ConnectionOptions, Delivery, Engine, EngineOptions, OutboxLimits, Policy, Verdict,
    decode_rows,
};
use headwater::plan::Plan;
use headwater::runtime::commit::{epoch_commit, resume};
use headwater::sql::{Catalog, compile};
use headwater::store::{EpochCommit, Store, StoreOptions};
use headwater::types::EventTime;

const SEEDS: u64 = 14;
const PUBLISHES: usize = 60;
const WINDOW: usize = 12;
const IMAGES_PER_FLUSH: usize = 3;
/// The connection to the site's broker, and the one upstream.
const SITE: usize = 0;
const CLOUD: usize = 1;

const PIPELINE: &str = "
CREATE TABLE t (device STRING, ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'mqtt', 'connection' = 'site', 'topic' = 't', 'format' = 'json');
CREATE TABLE every (device STRING, v INT)
WITH ('connector' = 'mqtt', 'connection' = 'cloud', 'topic' = 'every', 'format' = 'json');
CREATE TABLE windows (device STRING, start TIMESTAMP(3), n BIGINT, s INT)
WITH ('connector' = 'mqtt', 'connection' = 'cloud', 'topic' = 'windows/{device}', 'format' = 'json');
INSERT INTO every SELECT device, v FROM t WHERE v > 2;
INSERT INTO windows SELECT device, window_start, COUNT(*), SUM(v)
FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY device, window_start, window_end;
INSERT INTO windows SELECT 'all', window_start, COUNT(*), SUM(v)
FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end;
";

fn plan() -> Arc<Plan> {
    let catalog = Catalog {
        connections: vec!["site".to_owned(), "cloud".to_owned()],
    };
    let files = [("pipeline.sql".to_owned(), PIPELINE.to_owned())];
    let (plan, _) = compile(&files, &catalog).expect("the pipeline is sound");
    Arc::new(plan)
}

fn options(fold: u64) -> EngineOptions {
    let connection = |name: &str| ConnectionOptions {
        name: name.into(),
        receive_maximum: WINDOW as u16,
        outbox: OutboxLimits {
            limit_bytes: 1 << 20,
            max_age_micros: None,
            policy: Policy::Block,
        },
    };
    EngineOptions {
        max_keys: 100,
        max_payload_bytes: 1 << 16,
        least_fold_bytes: fold,
        connections: vec![connection("site"), connection("cloud")],
    }
}

fn store_options() -> StoreOptions {
    StoreOptions::default()
}

/// A broker with one client: it delivers in order, and again what was not acknowledged.
#[derive(Clone, Debug)]
struct Broker {
    payloads: Arc<Vec<String>>,
    session: bool,
    /// The next to be delivered for the first time.
    next: usize,
    /// Delivered and not acknowledged: the packet id and the publish.
    in_flight: Vec<(u16, usize)>,
}

impl Broker {
    fn packet_id(publish: usize) -> u16 {
        publish as u16 + 1
    }

    fn is_done(&self) -> bool {
        self.next == self.payloads.len() && self.in_flight.is_empty()
    }
}

/// What upstream has, by id.
type Upstream = BTreeMap<String, String>;
/// Rows in the outbox, by chunk.
type Chunks = BTreeMap<u64, bytes::Bytes>;

/// Everything outside the gateway, and what must be inside.
#[derive(Clone, Debug)]
struct World {
    broker: Broker,
    upstream: Upstream,
    epoch: u64,
    outbox: Chunks,
    wall: i64,
}

struct Gateway {
    engine: Engine,
    store: Store,
    options: EngineOptions,
    /// To acknowledge after the next commit.
    receipts: Vec<u16>,
}

impl Gateway {
    /// Starts on what the disk holds, and connects.
    fn start(disk: &Disk, plan: &Arc<Plan>, fold: u64, world: &mut World) -> Result<Self, String> {
        let disk = disk.clone();
        let (mut store, recovered) =
            Store::open_with_backend(move || Ok(disk.clone()), &store_options())
                .map_err(|error| format!("does not open: {error}"))?;
        if !recovered.notes.is_empty() {
            return Err(format!("notes: {:?}", recovered.notes));
        }
        let mut found = Chunks::new();
        for index in &recovered.outbox {
            let bytes = store.read_outbox(&index.connection, index.first_number);
            found.insert(index.first_number, bytes.map_err(|e| e.to_string())?.into());
        }
        if recovered.epoch == world.epoch && found != world.outbox {
            let epoch = world.epoch;
            return Err(format!("the outbox is not that of epoch {epoch}"));
        }
        (world.epoch, world.outbox) = (recovered.epoch, found);
        let options = options(fold);
        let (engine, homeless) =
            resume(plan.clone(), &options, recovered, &[]).map_err(|error| error.to_string())?;
        if !homeless.is_empty() {
            return Err("chunks of no connection".to_owned());
        }
        let mut gateway = Self {
            engine,
            store,
            options,
            receipts: Vec::new(),
        };
        let present = std::mem::replace(&mut world.broker.session, true);
        if gateway.engine.connected(SITE, present) {
            return Err("a session is missed that was never lost".to_owned());
        }
        for at in 0..world.broker.in_flight.len() {
            let (packet_id, publish) = world.broker.in_flight[at];
            gateway.take(world, packet_id, publish, true);
        }
        Ok(gateway)
    }

    fn clock(world: &World) -> Clock {
        Clock {
            wall: EventTime::from_micros(world.wall),
            steady_micros: world.wall as u64,
        }
    }

    fn take(&mut self, world: &World, packet_id: u16, publish: usize, dup: bool) -> Verdict {
        let clock = Self::clock(world);
        let delivery = Delivery {
            message: Message {
                topic: "t",
                payload: world.broker.payloads[publish].as_bytes(),
                qos: 1,
                retain: false,
                received: clock.wall,
            },
            dup,
            packet_id,
            subscription_ids: &[],
            tracked: true,
        };
        self.receipts.push(packet_id);
        self.engine.deliver(SITE, &delivery, clock)
    }

    /// Takes some new publishes, as far as the window allows.
    fn read(&mut self, world: &mut World, count: usize) {
        for _ in 0..count {
            let broker = &mut world.broker;
            if broker.in_flight.len() >= WINDOW || broker.next == broker.payloads.len() {
                break;
            }
            let publish = broker.next;
            broker.next += 1;
            let packet_id = Broker::packet_id(publish);
            broker.in_flight.push((packet_id, publish));
            world.wall += 50_000;
            self.take(world, packet_id, publish, false);
        }
    }

    fn seal(&mut self, world: &World) -> EpochCommit {
        let sealed = self.engine.seal(Self::clock(world));
        epoch_commit(&self.options, sealed, Vec::new())
    }

    /// The epoch is durable: acknowledge, forward, take upstream's acknowledgements. Each may be lost on its way.
    fn committed(&mut self, world: &mut World, commit: &EpochCommit, random: &mut Random) {
        self.engine.committed();
        let totals = *self.store.totals();
        self.engine.stored(totals.base_bytes, totals.delta_bytes);
        world.epoch = commit.epoch;
        world.outbox = outbox_after(&world.outbox, commit);
        for packet_id in std::mem::take(&mut self.receipts) {
            if random.once_in(6) {
                // The broker never sees it; a later connection brings the publish again, and it is acknowledged then.
                continue;
            }
            world.broker.in_flight.retain(|(id, _)| *id != packet_id);
        }
        let mut after = None;
        while let Some(first) = self.engine.outbox(CLOUD).chunk_after(after) {
            after = Some(first);
            let rows = decode_rows(&world.outbox[&first]).expect("a chunk can be read");
            for (at, row) in rows.into_iter().enumerate() {
                let number = first + at as u64;
                if !self.engine.outbox(CLOUD).is_waiting(number) || random.once_in(10) {
                    continue;
                }
                let content = format!("{} {}", row.topic, String::from_utf8_lossy(&row.payload));
                let known = world.upstream.insert(row.id.to_string(), content.clone());
                assert!(
                    known.is_none_or(|known| known == content),
                    "one id with two contents: {content}"
                );
                if !random.once_in(5) {
                    self.engine.outbox(CLOUD).acknowledge(number);
                }
            }
        }
    }

    /// The network breaks and comes back: what was not acknowledged comes again.
    fn reconnect(&mut self, world: &World) {
        self.receipts.clear();
        self.engine.connected(SITE, true);
        for (packet_id, publish) in world.broker.in_flight.clone() {
            self.take(world, packet_id, publish, true);
        }
    }
}

fn outbox_after(before: &Chunks, commit: &EpochCommit) -> Chunks {
    let mut after = before.clone();
    for (_, first) in &commit.outbox_remove {
        after.remove(first);
    }
    for chunk in &commit.outbox_append {
        after.insert(chunk.first_number, chunk.bytes.clone());
    }
    after
}

/// Runs until nothing is left to do, without further cuts.
fn run_on(gateway: &mut Gateway, world: &mut World, random: &mut Random) -> Result<(), String> {
    for _ in 0..200 {
        gateway.read(world, 7);
        let commit = gateway.seal(world);
        gateway
            .store
            .commit(&commit)
            .map_err(|error| format!("does not go on: {error}"))?;
        gateway.committed(world, &commit, random);
        if world.broker.is_done() && world.outbox.is_empty() {
            return Ok(());
        }
        if world.broker.next == world.broker.payloads.len()
            || world.broker.in_flight.len() == WINDOW
        {
            gateway.reconnect(world);
        }
    }
    Err("it never comes to an end".to_owned())
}

/// What must come out in the end.
struct Expected {
    upstream: Upstream,
    dead_letters: u64,
}

fn start_again(
    image: &Disk,
    plan: &Arc<Plan>,
    allowed: &[World],
    expected: &Expected,
    random: &mut Random,
) -> Result<(), String> {
    let (Some(before), Some(after)) = (allowed.first(), allowed.last()) else {
        return Err("no epoch is allowed".to_owned());
    };
    // The world outside is the same for both epochs that the disk may hold.
    let mut world = before.clone();
    let fold = [0, 300, 1_500, 1 << 20][random.below(4)];
    let mut gateway = Gateway::start(image, plan, fold, &mut world)?;
    let held = allowed
        .iter()
        .find(|world| world.epoch == gateway.store.epoch());
    let Some(held) = held else {
        let (found, least, most) = (gateway.store.epoch(), before.epoch, after.epoch);
        return Err(format!(
            "holds epoch {found} where {least} or {most} would do"
        ));
    };
    if held.outbox != world.outbox {
        return Err(format!("the outbox is not that of epoch {}", held.epoch));
    }
    run_on(&mut gateway, &mut world, random)?;
    if world.upstream != expected.upstream {
        let missing: Vec<_> = expected
            .upstream
            .iter()
            .filter(|(id, _)| !world.upstream.contains_key(*id))
            .collect();
        let wrong: Vec<_> = world
            .upstream
            .iter()
            .filter(|(id, row)| expected.upstream.get(*id) != Some(*row))
            .collect();
        return Err(format!(
            "after epoch {}: missing {missing:?}, wrong {wrong:?}",
            held.epoch
        ));
    }
    let dead = gateway.store.totals().dead_letters;
    if dead != expected.dead_letters {
        return Err(format!(
            "{dead} dead letters instead of {}",
            expected.dead_letters
        ));
    }
    Ok(())
}

/// Publishes of three devices, half of them alike, a tenth useless, some out of order.
fn payloads(random: &mut Random) -> Vec<String> {
    let mut second = 0;
    let mut payloads: Vec<String> = Vec::new();
    for at in 0..PUBLISHES {
        if at % 2 == 1 && !random.once_in(10) {
            payloads.push(payloads[at - 1].clone());
            continue;
        }
        second += random.below(4);
        let early = second - random.below(3).min(second);
        payloads.push(if random.once_in(10) {
            format!("{{\"device\": {at}")
        } else {
            let (device, v) = (random.below(3), random.below(9));
            let (minute, rest) = (early / 60, early % 60);
            format!(
                r#"{{"device":"pump-{device}","ts":"2026-01-01 00:{minute:02}:{rest:02}","v":{v}}}"#
            )
        });
    }
    payloads
}

fn new_world(payloads: &Arc<Vec<String>>) -> World {
    World {
        broker: Broker {
            payloads: payloads.clone(),
            session: false,
            next: 0,
            in_flight: Vec::new(),
        },
        upstream: Upstream::new(),
        epoch: 0,
        outbox: Chunks::new(),
        wall: 1_767_225_600_000_000, // 2026-01-01
    }
}

struct Shared {
    allowed: Vec<World>,
    random: Random,
    images: usize,
    failures: Vec<String>,
    next_life: Option<Vec<u8>>,
}

fn one_gateway(seed: u64, plan: &Arc<Plan>) -> usize {
    let mut random = Random(seed);
    let payloads = Arc::new(payloads(&mut random));
    let expected = {
        let mut world = new_world(&payloads);
        let mut gateway = Gateway::start(&Disk::default(), plan, 0, &mut world).expect("starts");
        run_on(&mut gateway, &mut world, &mut Random(seed)).expect("runs to the end");
        Arc::new(Expected {
            upstream: world.upstream,
            dead_letters: gateway.store.totals().dead_letters,
        })
    };
    assert!(expected.upstream.len() > 20, "{}", expected.upstream.len());
    let mut disk = Disk::default();
    // The file is made under another name and renamed: no cut is to be survived before it is there.
    drop(Store::open_with_backend(
        {
            let disk = disk.clone();
            move || Ok(disk.clone())
        },
        &store_options(),
    ));
    let mut world = new_world(&payloads);
    let mut images = 0;
    // What the disk may hold when a life begins.
    let mut begins_with = vec![world.clone()];
    for life in 0..4 {
        let shared = Arc::new(Mutex::new(Shared {
            allowed: begins_with.clone(),
            random: Random(random.next()),
            images: 0,
            failures: Vec::new(),
            next_life: None,
        }));
        let (watcher, watched_plan, watched) = (shared.clone(), plan.clone(), expected.clone());
        disk.watch(Box::new(move |cut| {
            let mut guard = watcher.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = &mut *guard;
            for _ in 0..IMAGES_PER_FLUSH {
                let image = cut.image(&mut shared.random);
                shared.images += 1;
                let copy = Disk::holding(image.clone());
                let ended = start_again(
                    &copy,
                    &watched_plan,
                    &shared.allowed,
                    &watched,
                    &mut shared.random,
                );
                if let Err(failure) = ended {
                    shared.failures.push(failure);
                }
                if shared.random.once_in(30) {
                    shared.next_life = Some(image);
                }
            }
        }));
        let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        let survive = |place: &str| {
            let failures = lock().failures.clone();
            assert!(
                failures.is_empty(),
                "HEADWATER_SEED={seed}, life {life}, {place}: {failures:?}"
            );
        };
        let mut gateway = Gateway::start(&disk, plan, 200, &mut world)
            .unwrap_or_else(|error| panic!("HEADWATER_SEED={seed}, life {life}: {error}"));
        survive("opening");
        lock().allowed = vec![world.clone()];
        let mut cut = None;
        while !world.broker.is_done() {
            gateway.read(&mut world, random.below(9));
            let commit = gateway.seal(&world);
            let after = World {
                epoch: commit.epoch,
                outbox: outbox_after(&world.outbox, &commit),
                ..world.clone()
            };
            lock().allowed = vec![world.clone(), after];
            gateway.store.commit(&commit).expect("the disk works");
            survive(&format!("epoch {}", commit.epoch));
            let mut seen = lock();
            if let Some(image) = seen.next_life.take() {
                begins_with.clone_from(&seen.allowed);
                cut = Some(image);
                break;
            }
            drop(seen);
            gateway.committed(&mut world, &commit, &mut random);
            lock().allowed = vec![world.clone()];
            if random.once_in(8) || world.broker.in_flight.len() == WINDOW {
                gateway.reconnect(&world);
            }
            if world.broker.next == payloads.len() {
                gateway.reconnect(&world);
            }
        }
        drop(gateway);
        survive("closing");
        disk.unwatch();
        images += lock().images;
        let Some(image) = cut else { break };
        // The next life begins on an image: with the last epoch, or the one in flight.
        disk = Disk::holding(image);
    }
    images
}

#[test]
fn a_power_cut_loses_nothing_and_doubles_nothing() {
    let number = |name| {
        let text = std::env::var(name).ok();
        text.and_then(|text: String| text.parse::<u64>().ok())
    };
    let seeds = match number("HEADWATER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HEADWATER_SEEDS").unwrap_or(SEEDS),
    };
    let all = seeds.end - seeds.start >= SEEDS;
    let plan = plan();
    let images: usize = seeds.map(|seed| one_gateway(seed, &plan)).sum();
    println!("{images} images, all run to the same end");
    assert!(!all || images >= 2_000, "only {images} images");
}
