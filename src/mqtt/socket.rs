//! The socket under a client: few calls to the system for many packets.
//!
//! Such a call costs several times what is done for a message besides, while a client flushes each acknowledgement by itself,
//! and a broker sends each publish by itself. So
//! - what is flushed is written when the client reads next, and it reads whenever there is nothing else to do: packets that
//!   follow one another at once go together. So whoever writes must read afterwards, in the same task;
//! - where little comes again and again in quick succession, it is left to gather for [`PAUSE`]. Not where we have just
//!   written: a broker whose window was full goes on only then.
//!
//! Bound: what waits to be written takes [`MOST_WAITING`] bytes; with more it is written at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rumqttc::NetworkOptions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A thousand acknowledgements.
const MOST_WAITING: usize = 4_096;
/// How long what comes is left to gather.
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
            waiting: Vec::new(),
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
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.waiting.clear();
        self.written = 0;
        self.gathering.wrote(Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A peer that takes nothing may first want to be rid of something.
        if let Poll::Ready(Err(error)) = this.write_waiting(context) {
            return Poll::Ready(Err(error));
        }
        if this.is_pausing {
            ready!(this.pause.as_mut().poll(context));
            this.is_pausing = false;
            this.gathering.paused(this.pause.deadline());
        }
        let before = buffer.filled().len();
        if let Poll::Ready(done) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.gathering.came(buffer.filled().len() - before);
            return Poll::Ready(done);
        }
        let now = Instant::now();
        if this.gathering.is_empty(now) {
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
            return Pin::new(&mut this.stream).poll_write(context, bytes);
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
            // If there is no room for it, the peer sees the connection close, which says as much.
            let _ = self.stream.try_write(rest);
        }
    }
}

/// Whether what comes is to be left to gather.
#[derive(Debug)]
struct Gathering {
    /// When the socket was seen to be empty last, or a pause ended.
    since: Instant,
    /// Whether anything has come since.
    came: bool,
    not_before: Instant,
}

impl Gathering {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
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

    const fn paused(&mut self, until: Instant) {
        self.since = until;
    }

    /// The socket is empty: whether to pause.
    fn is_empty(&mut self, now: Instant) -> bool {
        let soon = now.saturating_duration_since(self.since) < SOON;
        let came = std::mem::take(&mut self.came);
        self.since = now;
        soon && came && now >= self.not_before
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn run(test: impl Future<Output = io::Result<()>>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        runtime.block_on(test).expect("the sockets work");
    }

    async fn pair() -> io::Result<(Socket, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut options = NetworkOptions::new();
        options.set_tcp_nodelay(true);
        let socket = connect(address, options).await?;
        Ok((socket, listener.accept().await?.0))
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
            let byte = |at: usize| ((at * 31) >> 3) as u8;
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
    fn little_that_comes_again_and_again_is_left_to_gather() {
        let begin = Instant::now();
        let at = |micros| begin + Duration::from_micros(micros);
        let mut gathering = Gathering::new(begin);
        assert!(!gathering.is_empty(at(100)), "nothing came");
        gathering.came(170);
        assert!(!gathering.is_empty(at(1_000)), "after a long while");
        gathering.came(170);
        assert!(gathering.is_empty(at(1_300)), "soon after that");
        // For as long as the pauses find something.
        gathering.paused(at(2_300));
        gathering.came(900);
        assert!(gathering.is_empty(at(2_400)));
        gathering.paused(at(3_400));
        assert!(!gathering.is_empty(at(3_410)));
    }

    #[test]
    fn what_may_be_an_answer_is_not_left_to_gather() {
        let begin = Instant::now();
        let at = |micros| begin + Duration::from_micros(micros);
        let mut gathering = Gathering::new(begin);
        gathering.wrote(at(0));
        for micros in (100..5_000).step_by(100) {
            gathering.came(170);
            assert!(!gathering.is_empty(at(micros)), "after {micros} us");
        }
        gathering.came(170);
        assert!(gathering.is_empty(at(5_050)));
    }
}
