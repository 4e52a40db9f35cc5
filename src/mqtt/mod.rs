//! Floor 5: the broker connections. Only here is rumqttc named.
//!
//! A source connection and a forward connection are separate clients, each with one task that does nothing but poll
//! its event loop at full speed: a `poll` that is cancelled loses packets, and one that waits for us lets the
//! keep-alive lapse. Under each is a `socket` that makes few calls to the system for many packets. After any error the
//! event loop is thrown away and a new one made, so that nothing from before a cut (an acknowledgement, a publish) can
//! reach the connection after it.
//!
//! What is deliberately absent: QoS 2 (the client's state for it lives in memory and does not survive a crash),
//! topic aliases, and any decision: what to do with an event is said by the engine and the runtime.
//!
//! Bounds: unacknowledged input is bounded by the Receive Maximum we advertise, where the broker heeds it, and by 16 MiB
//! where it does not, at which the connection ends until there is room again; QoS 0 input by
//! [`SourceOptions::qos0_limit_bytes`], beyond which it is dropped and counted; output in flight by
//! [`ForwardOptions::in_flight`].

mod connect;
mod forward;
mod probe;
mod socket;
mod source;

pub use connect::{Credentials, Endpoint, Tls, TlsError};
pub use forward::{Forward, ForwardEvent, ForwardOptions, ForwardRow};
pub use probe::{Greeting, Probe};
pub use source::{
    Inbox, Received, SourceConnection, SourceEvent, SourceLink, SourceOptions, Subscription,
};

/// A connection that brought or took a message, or lived this long, was a good one: the next attempt does not wait for
/// what went wrong before it.
const STABLE: std::time::Duration = std::time::Duration::from_secs(1);

/// The waits between attempts to connect: doubled from a tenth of a second up to ten seconds.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: std::time::Duration,
}

impl Backoff {
    const LEAST: std::time::Duration = std::time::Duration::from_millis(100);
    const MOST: std::time::Duration = std::time::Duration::from_secs(10);

    pub(crate) const fn new() -> Self {
        Self { next: Self::LEAST }
    }

    pub(crate) const fn reset(&mut self) {
        self.next = Self::LEAST;
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Self::MOST);
    }
}
