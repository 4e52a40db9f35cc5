//! The test's own clients: one that publishes and counts what the broker has acknowledged, one that collects.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufReader, BufWriter, Error, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::waiting::{settled, wait_until};
use crate::wire::{ConnAck, Connect, Frame, Publish, kind, puback, publish, subscribe};

/// The MQTT 5 user property with which Headwater names a derived event.
const ID_PROPERTY: &str = "headwater-id";

fn connect(port: u16, hello: &Connect<'_>) -> io::Result<(TcpStream, ConnAck)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    hello.frame().write(&mut stream)?;
    let answer = Frame::read(&mut stream)?;
    let ack =
        ConnAck::parse(&answer).filter(|ack| answer.kind() == kind::CONNACK && ack.reason == 0);
    let ack = ack.ok_or_else(|| {
        Error::new(
            ErrorKind::ConnectionRefused,
            "the broker refuses the client",
        )
    })?;
    Ok((stream, ack))
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// Publishes over one connection.
pub(crate) struct Publisher {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
    window: usize,
    waiting: VecDeque<u16>,
    next_id: u16,
    acknowledged: u64,
}

impl Publisher {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let hello = Connect {
            client_id: "test-publisher",
            clean_start: true,
            session_expiry: 0,
        };
        let (stream, ack) = connect(port, &hello)?;
        Ok(Self {
            reader: BufReader::new(stream.try_clone()?),
            writer: BufWriter::with_capacity(64 * 1024, stream),
            window: usize::from(ack.properties.receive_maximum.unwrap_or(u16::MAX)).min(200),
            waiting: VecDeque::new(),
            next_id: 1,
            acknowledged: 0,
        })
    }

    /// Publishes at `QoS` 1, waiting for room in the broker's window.
    pub(crate) fn send(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        while self.waiting.len() >= self.window {
            self.take_acknowledgement()?;
        }
        let id = self.next_id;
        self.next_id = self.next_id % u16::MAX + 1;
        self.waiting.push_back(id);
        publish(topic.as_bytes(), payload, Some(id)).write(&mut self.writer)
    }

    /// Publishes at `QoS` 0.
    pub(crate) fn send_qos0(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        publish(topic.as_bytes(), payload, None).write(&mut self.writer)
    }

    /// Waits until all that was sent is acknowledged; gives how much that is since the connection began.
    pub(crate) fn flush(&mut self) -> io::Result<u64> {
        self.writer.flush()?;
        while !self.waiting.is_empty() {
            self.take_acknowledgement()?;
        }
        Ok(self.acknowledged)
    }

    fn take_acknowledgement(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let frame = Frame::read(&mut self.reader)?;
        let id = frame
            .body
            .get(..2)
            .map(|id| u16::from_be_bytes([id[0], id[1]]));
        if frame.kind() != kind::PUBACK || id != self.waiting.pop_front() {
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!("not the next PUBACK: {frame:?}"),
            ));
        }
        // Reason codes from 0x80 on are refusals.
        if frame.body.get(2).is_some_and(|reason| *reason >= 0x80) {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "the broker refuses a publish",
            ));
        }
        self.acknowledged += 1;
        Ok(())
    }
}

/// Publishes `messages` at `QoS` 1 through a broker that may go away: what is not acknowledged is published again on
/// the next connection. Returns how often each was sent.
pub(crate) fn publish_stubbornly(
    port: u16,
    messages: &[Message],
    mut pace: impl FnMut(usize),
) -> Vec<u32> {
    let mut sent = vec![0; messages.len()];
    let mut done = 0;
    let mut failures = 0;
    while done < messages.len() {
        let attempt = Publisher::connect(port).and_then(|mut publisher| {
            let before = done;
            let mut next = done;
            let mut outcome = Ok(());
            while outcome.is_ok() && next < messages.len() {
                pace(next);
                sent[next] += 1;
                outcome = publisher.send(&messages[next].topic, &messages[next].payload);
                next += 1;
                if next % 16 == 0 {
                    outcome = outcome.and_then(|()| publisher.flush().map(drop));
                }
            }
            let outcome = outcome.and_then(|()| publisher.flush().map(drop));
            // Acknowledgements come in order.
            done = before + publisher.acknowledged as usize;
            outcome
        });
        match attempt {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                assert!(
                    failures < 600,
                    "the publisher cannot reach its broker: {error}"
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    sent
}

/// Something that was collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) topic: String,
    pub(crate) id: Option<String>,
    pub(crate) payload: Vec<u8>,
}

/// Subscribes at `QoS` 1 with a session that lasts, and keeps all that comes.
pub(crate) struct Collector {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    collected: Mutex<Vec<Collected>>,
    stream: Mutex<Option<TcpStream>>,
    subscribed: AtomicBool,
    stopping: AtomicBool,
}

impl Collector {
    /// Returns when the broker has confirmed the subscription.
    pub(crate) fn start(port: u16, filter: &str) -> Self {
        let shared = Arc::new(Shared {
            collected: Mutex::new(Vec::new()),
            stream: Mutex::new(None),
            subscribed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let (of_task, filter) = (shared.clone(), filter.to_owned());
        let task = std::thread::spawn(move || {
            while !of_task.stopping.load(Ordering::Relaxed) {
                // A broker that is away is part of some tests; it is tried until it is back.
                let _ = collect(&of_task, port, &filter);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let collector = Self {
            shared,
            task: Some(task),
        };
        wait_until(
            "the collector has subscribed",
            Duration::from_secs(30),
            || collector.shared.subscribed.load(Ordering::Relaxed),
        );
        collector
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// All that has come so far, in the order in which it came.
    pub(crate) fn all(&self) -> Vec<Collected> {
        self.lock().clone()
    }

    /// What has come under `topic` or below it.
    pub(crate) fn under(&self, topic: &str) -> Vec<Collected> {
        self.lock()
            .iter()
            .filter(|one| one.topic.starts_with(topic))
            .cloned()
            .collect()
    }

    /// How many different ids have come.
    pub(crate) fn distinct(&self) -> usize {
        let all = self.lock();
        let mut ids: Vec<&str> = all.iter().filter_map(|one| one.id.as_deref()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }

    /// Waits until `count` different ids have come and then until nothing more comes.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize, patience: Duration) {
        // What is missing in the end is for the oracle to say; here only time is limited.
        if !crate::waiting::until(patience, || self.len() >= count && self.distinct() >= count) {
            eprintln!(
                "only {} of {count} events came within {patience:?}",
                self.distinct()
            );
        }
        settled(
            "the collector",
            Duration::from_millis(1_500),
            Duration::from_secs(60),
            || self.len(),
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Collected>> {
        self.shared
            .collected
            .lock()
            .expect("the collecting thread does not panic")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Ok(stream) = self.shared.stream.lock()
            && let Some(stream) = stream.as_ref()
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(task) = self.task.take() {
            let _ = task.join();
        }
    }
}

fn collect(shared: &Shared, port: u16, filter: &str) -> io::Result<()> {
    let hello = Connect {
        client_id: "test-collector",
        clean_start: false,
        session_expiry: u32::MAX,
    };
    let (mut stream, ack) = connect(port, &hello)?;
    *shared.stream.lock().map_err(|_| ErrorKind::Other)? = Some(stream.try_clone()?);
    if shared.stopping.load(Ordering::Relaxed) {
        return Ok(());
    }
    if !ack.session_present {
        subscribe(1, filter, 1).write(&mut stream)?;
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let frame = Frame::read(&mut reader)?;
        match frame.kind() {
            kind::SUBACK => shared.subscribed.store(true, Ordering::Relaxed),
            kind::PUBLISH => {
                let publish = Publish::parse(&frame).ok_or(ErrorKind::InvalidData)?;
                let Publish {
                    topic,
                    packet_id,
                    properties,
                    payload,
                } = publish;
                let id = properties
                    .user
                    .into_iter()
                    .find(|(name, _)| name == ID_PROPERTY)
                    .map(|(_, id)| id);
                shared
                    .collected
                    .lock()
                    .map_err(|_| ErrorKind::Other)?
                    .push(Collected { topic, id, payload });
                if let Some(id) = packet_id {
                    puback(id).write(&mut stream)?;
                }
            }
            _ => {}
        }
    }
}

/// The different events by id. Panics if an event has no id, or one id stands for two payloads.
#[track_caller]
pub(crate) fn by_id(collected: &[Collected]) -> BTreeMap<String, Collected> {
    let mut events: BTreeMap<String, Collected> = BTreeMap::new();
    for one in collected {
        let id = one
            .id
            .clone()
            .unwrap_or_else(|| panic!("an event without an id: {one:?}"));
        if let Some(before) = events.insert(id, one.clone()) {
            assert_eq!(before, *one, "one id for two different events");
        }
    }
    events
}
