//! A TCP proxy that knows where MQTT frames begin and end, and spoils some of them.
//!
//! What it may do is what a network, a middlebox or a broken peer can do *and* what the protocol lets the receiver
//! see. A frame is never changed into another valid one: MQTT 5 over plain TCP has no checksum beyond TCP's, and a
//! PUBACK with another packet id, say, is believed by every implementation.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::random::Random;
use crate::wire::{Frame, kind};

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is cut in front of it.
    Cut,
    /// A part of it goes through, then the connection is cut.
    Truncate,
    /// It goes through, then the connection is cut.
    SendThenCut,
    /// It waits for up to a second.
    Delay,
    /// It is sent twice, byte for byte.
    Duplicate,
    /// Its type becomes one that MQTT forbids.
    GarbleType,
    /// Its remaining length becomes one that MQTT forbids.
    GarbleLength,
    /// Its remaining length is off by one to three: what follows is read from the wrong place on.
    ShiftLength,
}

/// The packet type.
const CONNECT: u8 = 1;

/// Where a fault is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the broker to headwater.
    Down,
    /// From headwater to the broker.
    Up,
}

/// Which faults a proxy makes. One frame in `one_in` has one.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) seed: u64,
    pub(crate) one_in: u64,
    pub(crate) down: Vec<Fault>,
    pub(crate) up: Vec<Fault>,
}

/// The proxy; it listens until it goes out of scope.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    broker: u16,
    faults: Faults,
    spoiling: AtomicBool,
    stopping: AtomicBool,
    connections: AtomicU64,
    made: Mutex<Vec<(Direction, Fault)>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn start(broker: u16, faults: Faults) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            broker,
            faults,
            spoiling: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            made: Mutex::default(),
            open: Mutex::default(),
        });
        let of_task = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if of_task.stopping.load(Ordering::Relaxed) {
                    return;
                }
                // A broker that is away refuses the client as well.
                let _ = of_task.clone().join(client);
            }
        });
        Self { port, shared }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// From now on everything goes through as it is.
    pub(crate) fn behave(&self) {
        self.shared.spoiling.store(false, Ordering::Relaxed);
    }

    /// How often each kind of fault was made, for the log.
    pub(crate) fn made(&self) -> Vec<(Direction, Fault)> {
        self.shared
            .made
            .lock()
            .expect("no task panics with it")
            .clone()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Ok(open) = self.shared.open.lock() {
            open.iter()
                .for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn join(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let broker = TcpStream::connect(("127.0.0.1", self.broker))?;
        for stream in [&client, &broker] {
            stream.set_nodelay(true)?;
            self.open
                .lock()
                .map_err(|_| io::ErrorKind::Other)?
                .push(stream.try_clone()?);
        }
        let ways = [
            (Direction::Up, client.try_clone()?, broker.try_clone()?),
            (Direction::Down, broker, client),
        ];
        for (direction, from, to) in ways {
            let shared = self.clone();
            let random = Random(
                self.faults.seed ^ number << 8 ^ u64::from(direction == Direction::Up) << 60,
            );
            std::thread::spawn(move || {
                let _ = shared.pass(direction, &from, &to, random);
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            });
        }
        Ok(())
    }

    /// Passes frames on until one side ends or a fault cuts both.
    fn pass(
        &self,
        direction: Direction,
        from: &TcpStream,
        mut to: &TcpStream,
        mut random: Random,
    ) -> io::Result<()> {
        let mut from = BufReader::new(from);
        loop {
            let frame = Frame::read(&mut from)?;
            let Some(fault) = self.fault(direction, &frame, &mut random) else {
                frame.write(&mut to)?;
                continue;
            };
            let bytes = frame.bytes();
            match fault {
                Fault::Cut => return Ok(()),
                Fault::Truncate => {
                    let length = random.between(1, bytes.len() as u64) as usize;
                    return to.write_all(&bytes[..length]);
                }
                Fault::SendThenCut => return to.write_all(&bytes),
                Fault::Delay => {
                    std::thread::sleep(Duration::from_millis(random.between(50, 1_000)));
                    to.write_all(&bytes)?;
                }
                // mosquitto forgets the session of a client that sends CONNECT twice, and with it what the client has not
                // acknowledged.
                Fault::Duplicate if bytes[0] >> 4 == CONNECT => to.write_all(&bytes)?,
                Fault::Duplicate => to.write_all(&[bytes.as_slice(), &bytes].concat())?,
                Fault::GarbleType => {
                    to.write_all(&[&[bytes[0] & 0x0f], &bytes[1..]].concat())?;
                }
                Fault::GarbleLength => {
                    to.write_all(
                        &[&[bytes[0], 0xff, 0xff, 0xff, 0xff], frame.body.as_slice()].concat(),
                    )?;
                }
                Fault::ShiftLength => {
                    let by = random.between(1, 4) as usize;
                    let length = frame.body.len();
                    let length = if random.once_in(2) {
                        length + by
                    } else {
                        length.saturating_sub(by)
                    };
                    to.write_all(&frame.bytes_with_length(length))?;
                }
            }
        }
    }

    fn fault(&self, direction: Direction, frame: &Frame, random: &mut Random) -> Option<Fault> {
        let allowed = match direction {
            Direction::Down => &self.faults.down,
            Direction::Up => &self.faults.up,
        };
        let drawn = random.once_in(self.faults.one_in);
        if !drawn || allowed.is_empty() || !self.spoiling.load(Ordering::Relaxed) {
            return None;
        }
        let fault = random.one_of(allowed);
        // A peer that is promised more bytes at the start waits for them; the interesting part comes later.
        if fault == Fault::ShiftLength && frame.kind() != kind::PUBLISH {
            return None;
        }
        self.made.lock().ok()?.push((direction, fault));
        Some(fault)
    }
}
