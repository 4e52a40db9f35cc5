//! The socket under a client: few calls to the system for many packets.
//!
//! Such a call costs several times what is done for a message besides, while a client flushes each acknowledgement by
//! itself, and a broker sends each publish by itself. So
//! - what is flushed is written when the client reads next, and it reads whenever there is nothing else to do: packets that
//!   follow one another at once go together. So whoever writes must read afterwards, in the same task;
//! - where little comes again and again in quick succession, it is left to gather: at more than some two thousand messages a
//!   second each is a millisecond or two later. Not where we have just written: a broker whose window was full goes on only
//!   then.
//!
//! What waits here when the process dies is lost, and no promise with it: an acknowledgement has its message sent again, a
//! row its QoS 1; one of QoS 0 is sent at most once.
//!
//! Bound: what waits to be written takes [`MOST_WAITING`] bytes; with more it is written at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rumqttc::NetworkOptions;
use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A thousand acknowledgements, or under TLS some 150.
const MOST_WAITING: usize = 4_096;
/// How long what comes is left to gather; up to a millisecond more, the timer's tick.
const PAUSE: Duration = Duration::from_millis(1);
/// A socket that is empty again so soon has little in it each time.
const SOON: Duration = Duration::from_micros(500);
/// For so long after a write nothing is left to gather.
const AFTER_WRITE: Duration = Duration::from_millis(5);

/// Connects to `host`, an address or a name with a port.
///
/// # Errors
/// Those of name lookup and of the system's `connect`.
pub(super) async fn connect(host: String, options: NetworkOptions) -> io::Result<Socket> {
    let stream = rumqttc::default_socket_connect(host, options).await?;
    Ok(Socket::over(stream))
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// What waits to be written, and how much of it has been.
    waiting: Vec<u8>,
    written: usize,
    gathering: Gathering,
    pause: Pin<Box<Sleep>>,
    is_pausing: bool,
}

impl Socket {
    fn over(stream: TcpStream) -> Self {
        let now = Instant::now();
        Self {
            stream,
            waiting: Vec::with_capacity(MOST_WAITING),
            written: 0,
            gathering: Gathering::new(now),
            pause: Box::pin(sleep_until(now)),
            is_pausing: false,
        }
    }

    fn write_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest @ [_, ..]) = self.waiting.get(self.written..) {
            let written = write(&mut self.stream, &mut self.gathering, context, rest);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.waiting.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// Writes, and notes that what comes next may be an answer.
fn write(
    stream: &mut TcpStream,
    gathering: &mut Gathering,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let written = ready!(Pin::new(stream).poll_write(context, bytes))?;
    gathering.wrote(Instant::now());
    Poll::Ready(Ok(written))
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A peer that takes nothing may first want to be rid of something; and one that is gone may have said why.
        let written = this.write_waiting(context);
        let paused = this.is_pausing;
        if paused {
            ready!(this.pause.as_mut().poll(context));
            this.is_pausing = false;
            this.gathering.paused();
        }
        let before = buffer.filled().len();
        if let Poll::Ready(done) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.gathering.came(buffer.filled().len() - before);
            if paused {
                // What is read late the system acknowledges late, and a broker that gathers, too (Nagle's algorithm) sends
                // nothing until then. If it cannot be told to hurry, that is all there is.
                let _ = set_tcp_quickack(&this.stream, true);
            }
            return Poll::Ready(done);
        }
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(Err(error));
        }
        let now = Instant::now();
        if this.gathering.emptied(now) {
            this.pause.as_mut().reset(now + PAUSE);
            this.is_pausing = this.pause.as_mut().poll(context).is_pending();
        }
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting.len() + bytes.len() > MOST_WAITING {
            ready!(this.write_waiting(context))?;
        }
        if bytes.len() > MOST_WAITING {
            return write(&mut this.stream, &mut this.gathering, context, bytes);
        }
        this.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_waiting(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

impl Drop for Socket {
    /// A client that takes leave does not read any more.
    fn drop(&mut self) {
        if let Some(rest @ [_, ..]) = self.waiting.get(self.written..) {
            // If there is no room for it, the peer sees the connection close, which says as much as a farewell; what was not
            // acknowledged it sends again.
            let _ = self.stream.try_write(rest);
        }
    }
}

/// Whether what comes is to be left to gather.
#[derive(Debug)]
struct Gathering {
    /// When the socket was seen to be empty last; nothing after a pause, in which a peer may have held back more.
    since: Option<Instant>,
    /// Whether anything has come since.
    came: bool,
    not_before: Instant,
}

impl Gathering {
    const fn new(now: Instant) -> Self {
        Self {
            since: Some(now),
            came: false,
            not_before: now,
        }
    }

    const fn came(&mut self, bytes: usize) {
        self.came |= bytes > 0;
    }

    fn wrote(&mut self, now: Instant) {
        self.not_before = now + AFTER_WRITE;
    }

    const fn paused(&mut self) {
        self.since = None;
    }

    /// The socket is empty: whether to pause.
    fn emptied(&mut self, now: Instant) -> bool {
        let since = self.since.replace(now);
        let soon = since.is_some_and(|since| now.saturating_duration_since(since) < SOON);
        let came = std::mem::take(&mut self.came);
        soon && came && now >= self.not_before
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
    use tokio::net::TcpListener;
    use tokio::task::yield_now;
    use tokio::time::{advance, pause, timeout};

    use super::*;

    /// A wake-up that is lost is an error, not a wait for ever.
    fn run(test: impl Future<Output = io::Result<()>>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        let test = async { timeout(Duration::from_secs(60), test).await? };
        runtime.block_on(test).expect("the sockets work");
    }

    /// The byte at a place of a long stream.
    const fn byte(at: usize) -> u8 {
        ((at * 31) >> 3) as u8
    }

    async fn pair() -> io::Result<(Socket, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut options = NetworkOptions::new();
        options.set_tcp_nodelay(true);
        let socket = connect(address, options).await?;
        Ok((socket, listener.accept().await?.0))
    }

    /// What a client that reads finds at once.
    fn read_now(socket: &mut Socket) -> Option<usize> {
        let (mut bytes, mut context) = ([0; 64], Context::from_waker(Waker::noop()));
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = Pin::new(socket).poll_read(&mut context, &mut buffer);
        let filled = buffer.filled().len();
        match read {
            Poll::Ready(done) => done.ok().map(|()| filled),
            Poll::Pending => None,
        }
    }

    fn write_now(socket: &mut Socket, bytes: &[u8]) -> Option<usize> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(socket).poll_write(&mut context, bytes) {
            Poll::Ready(done) => done.ok(),
            Poll::Pending => None,
        }
    }

    #[test]
    fn packets_that_are_flushed_one_by_one_are_written_together_when_it_reads() {
        run(async {
            let (mut socket, mut peer) = pair().await?;
            for packet in [b"ab", b"cd"] {
                socket.write_all(packet).await?;
                socket.flush().await?;
            }
            let nothing = peer.try_read(&mut [0; 8]).map_err(|error| error.kind());
            assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
            let reading = tokio::spawn(async move { socket.read_u8().await });
            let mut found = [0; 8];
            assert_eq!(peer.read(&mut found).await?, 4);
            assert_eq!(&found[..4], b"abcd");
            peer.write_u8(7).await?;
            assert_eq!(reading.await??, 7);
            Ok(())
        });
    }

    #[test]
    fn what_waits_is_written_when_it_is_dropped_or_shut_down() {
        run(async {
            for shut_down in [false, true] {
                let (mut socket, mut peer) = pair().await?;
                socket.write_all(b"farewell").await?;
                socket.flush().await?;
                if shut_down {
                    socket.shutdown().await?;
                }
                drop(socket);
                let mut found = String::new();
                peer.read_to_string(&mut found).await?;
                assert_eq!(found, "farewell");
            }
            Ok(())
        });
    }

    #[test]
    fn much_is_written_at_once_and_all_of_it_comes_in_order_both_ways() {
        const BYTES: usize = 20 << 20;
        run(async {
            let (socket, mut peer) = pair().await?;
            let mut random = fastrand::Rng::with_seed(3);
            let mut sizes = std::iter::repeat_with(move || match random.u8(..8) {
                0 => random.usize(1..3 * MOST_WAITING),
                _ => random.usize(1..40),
            });
            // The peer gives back all it gets, and both ways are full at times.
            let echo = tokio::spawn(async move {
                let (mut from, mut to) = peer.split();
                tokio::io::copy(&mut from, &mut to).await
            });
            let (mut from, mut to) = tokio::io::split(socket);
            let (mut sent, mut came, mut buffer) = (0, 0, vec![0; 10_000]);
            let mut packet = Vec::new();
            while came < BYTES {
                if packet.is_empty() {
                    let size = sizes.next().unwrap_or(1).min(BYTES - sent);
                    packet.extend((sent..sent + size).map(byte));
                }
                // As a client does: it writes while there is something to write, and else reads.
                tokio::select! {
                    biased;
                    some = to.write(&packet), if !packet.is_empty() => {
                        let some = some?;
                        packet.drain(..some);
                        sent += some;
                        to.flush().await?;
                    }
                    some = from.read(&mut buffer) => {
                        let some = some?;
                        assert_ne!(some, 0, "closed after {came} bytes");
                        let expected: Vec<u8> = (came..came + some).map(byte).collect();
                        assert_eq!(buffer[..some], expected, "from byte {came}");
                        came += some;
                    }
                }
            }
            drop((from, to));
            assert_eq!(echo.await??, BYTES as u64);
            Ok(())
        });
    }

    #[test]
    fn what_waits_is_bounded_and_comes_once_even_if_part_of_it_was_written() {
        run(async {
            let (mut socket, mut peer) = pair().await?;
            let (mut accepted, mut partly) = (0, false);
            socket.stream.writable().await?;
            // Nobody reads, until nothing more is taken.
            for size in (1..100).cycle() {
                let packet: Vec<u8> = (accepted..accepted + size).map(byte).collect();
                let mut taken = write_now(&mut socket, &packet);
                if taken.is_none() {
                    // The runtime may just want its turn.
                    yield_now().await;
                    taken = write_now(&mut socket, &packet);
                }
                let Some(some) = taken else {
                    break;
                };
                accepted += some;
                partly |= socket.written > 0;
                assert!(socket.waiting.len() <= MOST_WAITING);
                assert_eq!(socket.waiting.capacity(), MOST_WAITING);
            }
            partly |= socket.written > 0;
            assert!(partly, "a write was cut short");
            let mut found = vec![0; accepted - (socket.waiting.len() - socket.written)];
            peer.read_exact(&mut found).await?;
            socket.stream.ready(Interest::WRITABLE).await?;
            drop(socket);
            peer.read_to_end(&mut found).await?;
            assert_eq!(found.len(), accepted);
            let differing = (0..accepted).find(|at| found[*at] != byte(*at));
            assert_eq!(differing, None);
            Ok(())
        });
    }

    #[test]
    fn little_that_comes_again_and_again_is_left_to_gather() {
        run(async {
            let (mut socket, mut peer) = pair().await?;
            pause();
            advance(10 * AFTER_WRITE).await;
            assert_eq!(read_now(&mut socket), None);
            assert!(!socket.is_pausing, "nothing has come");
            for _ in 0..3 {
                peer.write_all(b"one").await?;
                socket.stream.readable().await?;
                assert_eq!(read_now(&mut socket), Some(3));
                assert_eq!(read_now(&mut socket), None);
                assert!(socket.is_pausing, "it came at once");
                peer.write_all(b"two").await?;
                socket.stream.readable().await?;
                assert_eq!(read_now(&mut socket), None, "it gathers");
                advance(2 * PAUSE).await;
                assert_eq!(read_now(&mut socket), Some(3));
                assert_eq!(read_now(&mut socket), None);
                assert!(!socket.is_pausing, "a peer may have held back more");
            }
            advance(SOON).await;
            peer.write_all(b"one").await?;
            socket.stream.readable().await?;
            assert_eq!(read_now(&mut socket), Some(3));
            assert_eq!(read_now(&mut socket), None);
            assert!(!socket.is_pausing, "it came after a while");
            Ok(())
        });
    }

    #[test]
    fn what_may_be_an_answer_is_not_left_to_gather() {
        run(async {
            for size in [4, MOST_WAITING, MOST_WAITING + 1] {
                let (mut socket, mut peer) = pair().await?;
                pause();
                advance(10 * AFTER_WRITE).await;
                assert_eq!(read_now(&mut socket), None);
                assert_eq!(write_now(&mut socket, &vec![7; size]), Some(size));
                assert_eq!(read_now(&mut socket), None);
                for is_answer in [true, false] {
                    peer.write_all(b"one").await?;
                    socket.stream.readable().await?;
                    assert_eq!(read_now(&mut socket), Some(3));
                    assert_eq!(read_now(&mut socket), None);
                    assert_eq!(!socket.is_pausing, is_answer, "after {size} bytes");
                    advance(AFTER_WRITE).await;
                    assert_eq!(read_now(&mut socket), None);
                }
                tokio::time::resume();
            }
            Ok(())
        });
    }

    #[test]
    fn what_a_peer_said_before_it_went_is_read_though_it_takes_nothing_more() {
        run(async {
            let (mut socket, mut peer) = pair().await?;
            peer.write_all(b"farewell").await?;
            drop(peer);
            socket.stream.readable().await?;
            // The first write learns that nobody is there, the next one fails.
            for _ in 0..2 {
                assert_eq!(write_now(&mut socket, b"too late"), Some(8));
                let written = poll_fn(|context| socket.write_waiting(context)).await;
                if written.is_err() {
                    break;
                }
            }
            assert_ne!(socket.waiting.len(), socket.written, "it failed");
            assert_eq!(read_now(&mut socket), Some(8));
            Ok(())
        });
    }
}
