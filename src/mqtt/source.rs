//! A subscribing connection: it reads as fast as the broker sends, and acknowledges when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AckMode, AsyncClient, ClientError, Event, EventLoop, ManualAck, Packet, PubAck, Publish, QoS,
    RetainForwardRule, SubscribeFilter, SubscribeProperties, SubscribeReasonCode,
};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{Backoff, Endpoint, STABLE};
use crate::engine::topic_matches;

/// What a source connection asks for.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The connection's name in the configuration.
    pub name: String,
    /// Its number, given with every event.
    pub connection: usize,
    /// The broker.
    pub endpoint: Endpoint,
    /// The client id; it names the session at the broker and must not change.
    pub client_id: String,
    /// How many unacknowledged publishes the broker may send.
    pub receive_maximum: u16,
    /// How long the broker keeps the session, and what it holds for us, while we are away.
    pub session_expiry: Duration,
    /// QoS 0 messages that wait are dropped beyond this many bytes.
    pub qos0_limit_bytes: u64,
    /// Whether publishes are acknowledged on receipt rather than on command.
    pub acknowledge_on_receipt: bool,
    /// What is subscribed to.
    pub subscriptions: Vec<Subscription>,
    /// The tables that read from it, with their topic filters, to count what has to be dropped.
    pub tables: Vec<(String, Vec<String>)>,
    /// What an earlier pipeline subscribed to and nobody wants any more: the session would go on gathering it.
    pub unsubscribe: Vec<String>,
}

/// One topic filter. Several tables may share it; a broker knows it once.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The identifier that the broker returns with each message.
    pub id: u32,
    /// The topic filter.
    pub filter: String,
    /// 0 or 1.
    pub qos: u8,
    /// Whether retained messages are wanted.
    pub retained: bool,
}

/// What happens on a source connection.
#[derive(Debug)]
pub enum SourceEvent {
    /// The broker has accepted us.
    Connected {
        /// Which connection.
        connection: usize,
        /// For subscribing, and for acknowledging what comes.
        link: SourceLink,
        /// Whether the broker still had our session.
        session_present: bool,
    },
    /// The connection is gone; another attempt follows by itself.
    Disconnected {
        /// Which connection.
        connection: usize,
    },
    /// A message.
    Received(Received),
}

/// A message as the client gives it.
#[derive(Debug)]
pub struct Received {
    /// Which connection.
    pub connection: usize,
    /// On which of its network connections, counted from 1.
    pub attempt: u64,
    /// The topic, UTF-8.
    pub topic: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: u8,
    /// Sent as a retained message.
    pub retain: bool,
    /// Marked as sent before.
    pub dup: bool,
    /// The packet id; 0 for QoS 0.
    pub packet_id: u16,
    /// The subscriptions it is sent for.
    pub subscription_ids: SmallVec<[u32; 2]>,
}

impl Received {
    fn bytes(&self) -> u64 {
        (self.topic.len() + self.payload.len() + size_of::<Self>()) as u64
    }
}

/// One network connection, for what is to be said on it. After a cut it does nothing.
#[derive(Clone, Debug)]
pub struct SourceLink {
    client: AsyncClient,
    attempt: u64,
    options: Arc<SourceOptions>,
    /// Whether the broker returns subscription identifiers.
    identifiers: bool,
}

impl SourceLink {
    /// Which network connection this is.
    pub const fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Sends a PUBACK for `packet_id`. False if the client has no room for it now: try again soon.
    pub fn acknowledge(&self, packet_id: u16) -> bool {
        let ack = ManualAck::PubAck(PubAck::new(packet_id, None));
        // If the event loop is gone, so is the connection, and the broker will send the message again.
        !matches!(
            self.client.try_manual_ack(ack),
            Err(ClientError::RequestChannelFull(_))
        )
    }

    /// Subscribes to everything. To be done on every connection, also on a resumed session: a session may have lost its
    /// subscriptions and would then be silent for ever. In a new session only after the commit that remembers it: the
    /// packet ids begin anew, and a crash must not leave the old ones in the ledger.
    pub fn subscribe(&self) {
        for subscription in &self.options.subscriptions {
            let qos = if subscription.qos == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            };
            let mut filter = SubscribeFilter::new(&subscription.filter, qos);
            // A repeated SUBSCRIBE must not make the broker send its retained messages again.
            filter.retain_forward_rule = if subscription.retained {
                RetainForwardRule::OnNewSubscribe
            } else {
                RetainForwardRule::Never
            };
            let id = self.identifiers.then_some(subscription.id as usize);
            let properties = SubscribeProperties {
                id,
                user_properties: Vec::new(),
            };
            if let Err(error) = self
                .client
                .try_subscribe_many_with_properties([filter], properties)
            {
                warn!(filter = %subscription.filter, %error, "cannot subscribe");
            }
        }
    }

    /// Ends subscriptions of earlier pipelines.
    pub fn unsubscribe(&self) {
        for filter in &self.options.unsubscribe {
            if let Err(error) = self.client.try_unsubscribe(filter) {
                warn!(filter, %error, "cannot unsubscribe");
            }
        }
    }

    /// Takes leave of the broker; the session stays.
    pub fn disconnect(&self) {
        // After the acknowledgements that wait. If there is no room for it, the connection is simply closed, which
        // leaves the session as well.
        let _ = self.client.try_disconnect();
    }
}

/// What waits between the connections and the engine, and what had to be dropped.
#[derive(Debug)]
pub struct Inbox {
    sender: mpsc::UnboundedSender<SourceEvent>,
    /// Bytes of QoS 0 messages that wait, over all connections.
    qos0_bytes: AtomicU64,
    /// QoS 1 messages that wait, over all connections,
    qos1_waiting: AtomicUsize,
    /// and their bytes.
    qos1_bytes: AtomicU64,
}

/// QoS 1 messages that wait beyond this many bytes end the connection until half of them are processed. Receive
/// Maximum should keep the broker from sending so much; mosquitto 2.0 does not heed it while it has a backlog.
const QOS1_LIMIT_BYTES: u64 = 16 << 20;

impl Inbox {
    /// An inbox and its other end. The channel has no bound of its own: QoS 0 messages are
    /// bounded in bytes, QoS 1 messages by what the broker may send without acknowledgement, connection events by their rarity.
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<SourceEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let inbox = Self {
            sender,
            qos0_bytes: AtomicU64::new(0),
            qos1_waiting: AtomicUsize::new(0),
            qos1_bytes: AtomicU64::new(0),
        };
        (Arc::new(inbox), receiver)
    }

    /// Notes that `received` has been taken out.
    pub fn taken(&self, received: &Received) {
        if received.qos == 0 {
            self.qos0_bytes
                .fetch_sub(received.bytes(), Ordering::Relaxed);
        } else {
            self.qos1_waiting.fetch_sub(1, Ordering::Relaxed);
            self.qos1_bytes
                .fetch_sub(received.bytes(), Ordering::Relaxed);
        }
    }

    /// Whether QoS 1 messages fill `1 / parts` of their limit.
    fn is_filled(&self, parts: u64) -> bool {
        self.qos1_bytes.load(Ordering::Relaxed) >= QOS1_LIMIT_BYTES / parts
    }
}

/// Acknowledgements that wait in the client, which takes 240 bytes for each. Further ones wait with whoever gives them.
const ACKNOWLEDGEMENTS: usize = 256;

/// How often a connection that ended for want of room looks whether there is some.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// A subscribing connection and the task that runs it.
#[derive(Debug)]
pub struct SourceConnection {
    task: tokio::task::JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    drops: Arc<Vec<AtomicU64>>,
    names: Vec<String>,
    turns: Arc<AtomicU64>,
    longest_turn: Duration,
}

impl SourceConnection {
    /// Connects, and connects again whenever the connection is lost, until it is stopped.
    pub fn start(options: SourceOptions, inbox: Arc<Inbox>) -> Self {
        let names: Vec<String> = options
            .tables
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let drops = Arc::new(names.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let stopping = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicU64::new(0));
        let longest_turn = options.endpoint.longest_turn();
        let connection = Connection {
            options: Arc::new(options),
            turns: turns.clone(),
            inbox,
            stopping: stopping.clone(),
            drops: drops.clone(),
            attempt: 0,
            received: AtomicBool::new(false),
        };
        Self {
            task: tokio::spawn(connection.run()),
            stopping,
            drops,
            names,
            turns,
            longest_turn,
        }
    }

    /// Grows whenever the connection's task has done something; for a task that has ended it is `None`.
    pub fn turns(&self) -> Option<u64> {
        (!self.task.is_finished()).then(|| self.turns.load(Ordering::Relaxed))
    }

    /// For how long a task may do nothing, with the broker away or silent.
    pub const fn longest_turn(&self) -> Duration {
        self.longest_turn
    }

    /// QoS 0 messages dropped since the last call for want of room, by source.
    pub fn take_drops(&self) -> impl Iterator<Item = (&str, u64)> {
        let drops = self
            .drops
            .iter()
            .map(|count| count.swap(0, Ordering::Relaxed));
        self.names
            .iter()
            .map(String::as_str)
            .zip(drops)
            .filter(|(_, count)| *count > 0)
    }

    /// Waits until it has taken leave, at the most for `patience`. Tell its [`SourceLink`] to disconnect first.
    pub async fn stop(self, patience: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            abort.abort();
        }
    }

    /// Marks the connection as about to be stopped: it does not connect again.
    pub fn about_to_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

struct Connection {
    options: Arc<SourceOptions>,
    inbox: Arc<Inbox>,
    stopping: Arc<AtomicBool>,
    drops: Arc<Vec<AtomicU64>>,
    turns: Arc<AtomicU64>,
    attempt: u64,
    /// Whether a message came on the connection that ended last.
    received: AtomicBool,
}

impl Connection {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        while !self.stopping.load(Ordering::Relaxed) {
            self.attempt += 1;
            let since = tokio::time::Instant::now();
            let (client, mut event_loop) = self.client();
            let (reason, connected) = self.poll(&client, &mut event_loop).await;
            // It is not read any more: nobody is to wait for it.
            drop(event_loop);
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            let name = &self.options.name;
            if connected {
                warn!(connection = %name, %reason, "broker connection lost; connecting again");
                let event = SourceEvent::Disconnected {
                    connection: self.options.connection,
                };
                if self.inbox.sender.send(event).is_err() {
                    return;
                }
            } else {
                let Endpoint { host, port, .. } = &self.options.endpoint;
                warn!(connection = %name, %host, port, %reason, "cannot connect to the broker; trying again");
            }
            if self.received.swap(false, Ordering::Relaxed) || since.elapsed() >= STABLE {
                backoff.reset();
            }
            backoff.wait().await;
            // Connecting now would bring the same messages again. The broker holds them.
            while self.inbox.is_filled(2) && !self.stopping.load(Ordering::Relaxed) {
                tokio::time::sleep(ROOM_INTERVAL).await;
                self.turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn client(&self) -> (AsyncClient, EventLoop) {
        let options = &self.options;
        let mut mqtt = options.endpoint.options(&options.client_id);
        let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
        mqtt.set_clean_start(false);
        mqtt.set_session_expiry_interval(Some(expiry));
        mqtt.set_receive_maximum(Some(options.receive_maximum));
        mqtt.set_outgoing_inflight_upper_limit(1);
        if !options.acknowledge_on_receipt {
            mqtt.set_ack_mode(AckMode::Manual);
        }
        // Subscriptions come before all acknowledgements of their connection, so that there is a place for each.
        let capacity = ACKNOWLEDGEMENTS + options.subscriptions.len() + options.unsubscribe.len();
        AsyncClient::builder(mqtt).capacity(capacity).build()
    }

    /// Polls until the connection ends; says why, and whether there was one.
    async fn poll(&self, client: &AsyncClient, event_loop: &mut EventLoop) -> (String, bool) {
        let mut connected = false;
        loop {
            let event = event_loop.poll().await;
            self.turns.fetch_add(1, Ordering::Relaxed);
            match event {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if let Err(reason) = self.take(publish) {
                        return (reason, connected);
                    }
                    // More than a window waits: those who process it get their turn first.
                    let waiting = self.inbox.qos1_waiting.load(Ordering::Relaxed);
                    if waiting > usize::from(self.options.receive_maximum) {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                    connected = true;
                    let identifiers = ack.properties.as_ref();
                    let identifiers =
                        identifiers.and_then(|p| p.subscription_identifiers_available);
                    info!(
                        connection = %self.options.name,
                        session_present = ack.session_present,
                        "connected to the broker"
                    );
                    let link = SourceLink {
                        client: client.clone(),
                        attempt: self.attempt,
                        options: self.options.clone(),
                        identifiers: identifiers != Some(0),
                    };
                    let event = SourceEvent::Connected {
                        connection: self.options.connection,
                        link,
                        session_present: ack.session_present,
                    };
                    if self.inbox.sender.send(event).is_err() {
                        return ("shutting down".to_owned(), connected);
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    self.check_subscribed(&ack.return_codes);
                }
                Ok(Event::Incoming(Packet::Disconnect(disconnect))) => {
                    return (
                        format!("the broker says {:?}", disconnect.reason_code),
                        connected,
                    );
                }
                Ok(_) => {}
                Err(error) => return (error.to_string(), connected),
            }
        }
    }

    fn check_subscribed(&self, codes: &[SubscribeReasonCode]) {
        for code in codes {
            match code {
                SubscribeReasonCode::Success(_) => {
                    debug!(connection = %self.options.name, "subscribed");
                }
                refused => warn!(
                    connection = %self.options.name,
                    reason = ?refused,
                    "the broker refuses a subscription: no message will come; check its access rules"
                ),
            }
        }
    }

    /// Puts a publish into the inbox, or drops it if it is QoS 0 and there is no room.
    fn take(&self, publish: Publish) -> Result<(), String> {
        let ids = publish
            .properties
            .iter()
            .flat_map(|p| &p.subscription_identifiers);
        let received = Received {
            connection: self.options.connection,
            attempt: self.attempt,
            subscription_ids: ids.filter_map(|id| u32::try_from(*id).ok()).collect(),
            qos: u8::from(publish.qos != QoS::AtMostOnce),
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.pkid,
            topic: publish.topic,
            payload: publish.payload,
        };
        if received.qos == 0 {
            let bytes = received.bytes();
            let waiting = self.inbox.qos0_bytes.fetch_add(bytes, Ordering::Relaxed);
            if waiting + bytes > self.options.qos0_limit_bytes {
                self.inbox.qos0_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.count_drop(&received);
                return Ok(());
            }
        } else {
            if self.inbox.is_filled(1) {
                return Err(
                    "the broker sends far more than our Receive Maximum and than can be held"
                        .to_owned(),
                );
            }
            self.inbox.qos1_waiting.fetch_add(1, Ordering::Relaxed);
            self.inbox
                .qos1_bytes
                .fetch_add(received.bytes(), Ordering::Relaxed);
        }
        self.received.store(true, Ordering::Relaxed);
        let sent = self.inbox.sender.send(SourceEvent::Received(received));
        sent.map_err(|_| "shutting down".to_owned())
    }

    fn count_drop(&self, received: &Received) {
        let topic = std::str::from_utf8(&received.topic).unwrap_or_default();
        let mut counted = false;
        for ((_, filters), drops) in self.options.tables.iter().zip(self.drops.iter()) {
            if filters.iter().any(|filter| topic_matches(filter, topic)) {
                drops.fetch_add(1, Ordering::Relaxed);
                counted = true;
            }
        }
        if !counted && let Some(drops) = self.drops.first() {
            drops.fetch_add(1, Ordering::Relaxed);
        }
    }
}
