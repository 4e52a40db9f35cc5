//! The other ends of `benches/mqtt`: a publisher and a bare subscriber over MQTT 5 on this machine, as small as they can be.
//!
//! | arguments | do | print |
//! |---|---|---|
//! | `publish PORT QOS COUNT RESULTS` | publish as fast as the broker takes it, and wait for so many messages on `results` | when it began and ended, µs since 1970 |
//! | `subscribe PORT QOS COUNT` | take so many messages from `readings`, and acknowledge them | `subscribed`; then when it ended, and its CPU time in µs |
//! | `latency PORT QOS RATE SECONDS TOPIC` | publish at a rate, and take what comes on a topic | how many came; median, 99th percentile and greatest of their ages in µs |
//!
//! Acknowledgements and publishes are gathered as long as there is more to read or write: nothing here waits to be polite.
#![allow(clippy::print_stdout)]

#[path = "../../tests/broker/wire.rs"]
#[allow(dead_code)] // The tests need more of it.
mod wire;

use std::io::{BufReader, BufWriter, Error, ErrorKind, Result, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use wire::{ConnAck, Connect, Frame, kind, puback, publish, subscribe};

/// The topic of the messages.
const READINGS: &str = "readings";
/// The topic of what is derived from them.
const RESULTS: &str = "results";
/// Unacknowledged publishes, unless the broker wants less.
const WINDOW: usize = 500;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["publish", port, qos, count, results] => {
            let (begin, end) = flood(
                number(port) as u16,
                number(qos) as u8,
                number(count),
                number(results),
            )?;
            println!("{begin} {end}");
        }
        ["subscribe", port, qos, count] => {
            let mut subscriber = Subscriber::new(number(port) as u16, READINGS, number(qos) as u8)?;
            println!("subscribed");
            for _ in 0..number(count) {
                subscriber.next()?;
            }
            subscriber.writer.flush()?;
            println!("{} {}", now_micros(), cpu_time().as_micros());
        }
        ["latency", port, qos, rate, seconds, topic] => latency(
            number(port) as u16,
            number(qos) as u8,
            number(rate),
            number(seconds),
            topic,
        )?,
        _ => panic!(
            "arguments: publish PORT QOS COUNT RESULTS | subscribe PORT QOS COUNT | latency PORT QOS RATE SECONDS TOPIC"
        ),
    }
    Ok(())
}

fn number(text: &str) -> u64 {
    text.parse().expect("arguments are numbers")
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("it is after 1970").as_micros() as u64
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn connect(port: u16, client_id: &str) -> Result<(TcpStream, usize)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let hello = Connect {
        client_id,
        clean_start: true,
        session_expiry: 0,
    };
    hello.frame().write(&mut stream)?;
    let answer = Frame::read(&mut stream)?;
    let ack = ConnAck::parse(&answer)
        .filter(|ack| answer.kind() == kind::CONNACK && ack.reason == 0)
        .ok_or_else(|| Error::new(ErrorKind::ConnectionRefused, "the broker refuses us"))?;
    let window = ack.properties.receive_maximum.map_or(WINDOW, usize::from);
    Ok((stream, window.min(WINDOW)))
}

struct Subscriber {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
}

impl Subscriber {
    /// Returns when the broker has confirmed the subscription.
    fn new(port: u16, filter: &str, qos: u8) -> Result<Self> {
        let (stream, _) = connect(port, &format!("bare-{filter}"))?;
        let mut subscriber = Self {
            reader: BufReader::with_capacity(64 * 1_024, stream.try_clone()?),
            writer: BufWriter::with_capacity(64 * 1_024, stream),
        };
        subscribe(1, filter, qos).write(&mut subscriber.writer)?;
        subscriber.writer.flush()?;
        while Frame::read(&mut subscriber.reader)?.kind() != kind::SUBACK {}
        Ok(subscriber)
    }

    /// The next message, acknowledged: topic, perhaps an id, properties and payload.
    fn next(&mut self) -> Result<Frame> {
        loop {
            if self.reader.buffer().is_empty() {
                self.writer.flush()?;
            }
            let frame = Frame::read(&mut self.reader)?;
            if frame.kind() != kind::PUBLISH {
                continue;
            }
            if frame.qos() > 0 {
                let topic = usize::from(u16::from_be_bytes([frame.body[0], frame.body[1]]));
                let id = [frame.body[topic + 2], frame.body[topic + 3]];
                puback(u16::from_be_bytes(id)).write(&mut self.writer)?;
            }
            return Ok(frame);
        }
    }
}

/// Publishes, and reads acknowledgements only where it must.
struct Publisher {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
    qos: u8,
    window: usize,
    unacknowledged: usize,
    next_id: u16,
    number: u64,
}

impl Publisher {
    fn new(port: u16, qos: u8) -> Result<Self> {
        let (stream, window) = connect(port, "bare-publisher")?;
        Ok(Self {
            reader: BufReader::with_capacity(64 * 1_024, stream.try_clone()?),
            writer: BufWriter::with_capacity(16 * 1_024, stream),
            qos,
            window,
            unacknowledged: 0,
            next_id: 0,
            number: 0,
        })
    }

    /// A message of 154 bytes, which says when it was sent.
    fn send(&mut self) -> Result<()> {
        let (number, sent) = (self.number, now_micros());
        let (device, seq) = (number % 1_000, 100_000 + number % 900_000);
        let payload = format!(
            r#"{{"n":{number:7},"sent":{sent},"id":"pump-{device:04}","temp":21.57,"vib":1.2,"rpm":1500,"vol":230.1,"pa":1.0,"st":"run","ok":true,"fw":"1.4","seq":{seq}}}"#
        );
        assert_eq!(payload.len(), 154, "a message's size");
        self.number += 1;
        if self.qos == 0 {
            return publish(READINGS.as_bytes(), payload.as_bytes(), None).write(&mut self.writer);
        }
        while self.unacknowledged >= self.window {
            self.take_acknowledgement()?;
        }
        self.next_id = self.next_id % u16::MAX + 1;
        self.unacknowledged += 1;
        publish(READINGS.as_bytes(), payload.as_bytes(), Some(self.next_id)).write(&mut self.writer)
    }

    fn take_acknowledgement(&mut self) -> Result<()> {
        self.writer.flush()?;
        if Frame::read(&mut self.reader)?.kind() == kind::PUBACK {
            self.unacknowledged -= 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()?;
        while self.unacknowledged > 0 {
            self.take_acknowledgement()?;
        }
        Ok(())
    }
}

fn flood(port: u16, qos: u8, count: u64, results: u64) -> Result<(u64, u64)> {
    let mut subscriber = Subscriber::new(port, RESULTS, 0)?;
    let mut publisher = Publisher::new(port, qos)?;
    let begin = now_micros();
    for _ in 0..count {
        publisher.send()?;
    }
    publisher.flush()?;
    for _ in 0..results {
        subscriber.next()?;
    }
    Ok((begin, now_micros()))
}

fn latency(port: u16, qos: u8, rate: u64, seconds: u64, topic: &str) -> Result<()> {
    let mut subscriber = Subscriber::new(port, topic, qos)?;
    let count = rate * seconds;
    let (send, done) = mpsc::channel();
    let receiver = std::thread::spawn(move || {
        let mut ages = Vec::with_capacity(count as usize);
        while (ages.len() as u64) < count
            && let Ok(frame) = subscriber.next()
        {
            let now = now_micros();
            ages.push(now.saturating_sub(sent(&frame.body)));
        }
        // Nobody waits any more where that fails.
        let _ = send.send(ages);
    });
    let mut publisher = Publisher::new(port, qos)?;
    let begin = Instant::now();
    while publisher.number < count {
        let due = (begin.elapsed().as_micros() as u64 * rate / 1_000_000).min(count);
        while publisher.number < due {
            publisher.send()?;
        }
        publisher.writer.flush()?;
        std::thread::sleep(Duration::from_micros(500));
    }
    publisher.flush()?;
    let mut ages = done
        .recv_timeout(PATIENCE)
        .map_err(|_| Error::new(ErrorKind::TimedOut, "not all messages came"))?;
    drop(receiver);
    ages.sort_unstable();
    let at = |part: f64| ages[((ages.len() - 1) as f64 * part) as usize];
    println!("{} {} {} {}", ages.len(), at(0.5), at(0.99), at(1.0));
    Ok(())
}

/// The field `sent` of a message.
fn sent(body: &[u8]) -> u64 {
    const FIELD: &[u8] = b"\"sent\":";
    let at = body.windows(FIELD.len()).position(|window| window == FIELD);
    let digits = body[at.map_or(body.len(), |at| at + FIELD.len())..].iter();
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}
