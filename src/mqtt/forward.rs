//! A publishing connection: it sends rows of the outbox and tells which of them the broker has.
//!
//! It starts clean each time. Rows that were in flight when a connection ended are given to it again by the
//! runtime, in order; nothing is remembered here.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, Packet, PubAckReason, PublishNoticeError, PublishOptions,
    PublishProperties, PublishResult, QoS, StateError,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Backoff, Endpoint, STABLE};
use crate::engine::OutboxRow;

/// The MQTT 5 user property that carries an event's id.
pub(super) const ID_PROPERTY: &str = "headwater-id";

/// What a forward connection needs.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// The connection's name in the configuration.
    pub name: String,
    /// Its number, given with every event.
    pub connection: usize,
    /// The broker.
    pub endpoint: Endpoint,
    /// The client id.
    pub client_id: String,
    /// How many publishes may wait for their acknowledgement.
    pub in_flight: u16,
}

/// A row to send.
#[derive(Debug)]
pub struct ForwardRow {
    /// For which of the network connections it was handed over; rows for an earlier one are passed over.
    pub attempt: u64,
    /// Its number in the outbox.
    pub number: u64,
    /// The row.
    pub row: OutboxRow,
}

/// What happens on a forward connection.
#[derive(Debug)]
pub enum ForwardEvent {
    /// The broker takes rows: hand them over from the oldest that waits.
    Up {
        /// Which connection.
        connection: usize,
        /// Which of its network connections.
        attempt: u64,
        /// The largest packet the broker takes, if it says.
        max_packet_bytes: Option<u32>,
    },
    /// The connection is gone; what was handed over and not confirmed is to be handed over again.
    Down {
        /// Which connection.
        connection: usize,
    },
    /// The broker has a row.
    Delivered {
        /// Which connection.
        connection: usize,
        /// The row's number.
        number: u64,
    },
    /// The broker will never take a row.
    Refused {
        /// Which connection.
        connection: usize,
        /// The row's number.
        number: u64,
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Bytes,
        /// What the broker says.
        reason: String,
    },
}

/// A publishing connection and the task that runs it.
#[derive(Debug)]
pub struct Forward {
    rows: mpsc::Sender<ForwardRow>,
    stopping: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    longest_turn: Duration,
    task: tokio::task::JoinHandle<()>,
}

impl Forward {
    /// Connects, and connects again whenever the connection is lost, until it is stopped.
    pub fn start(options: ForwardOptions, events: mpsc::UnboundedSender<ForwardEvent>) -> Self {
        // As many again as are in flight are ready to follow.
        let (rows, receiver) = mpsc::channel(usize::from(options.in_flight));
        let stopping = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicU64::new(0));
        let longest_turn = options.endpoint.longest_write();
        let connection = Connection {
            turns: turns.clone(),
            options,
            events,
            rows: receiver,
            stopping: stopping.clone(),
            attempt: 0,
            declined: None,
            careful: 0,
            delivered: false,
        };
        Self {
            rows,
            stopping,
            turns,
            longest_turn,
            task: tokio::spawn(connection.run()),
        }
    }

    /// Hands over a row; gives it back if there is no room now.
    pub fn hand_over(&self, row: ForwardRow) -> Result<(), ForwardRow> {
        self.rows.try_send(row).map_err(|error| match error {
            mpsc::error::TrySendError::Full(row) | mpsc::error::TrySendError::Closed(row) => row,
        })
    }

    /// Grows whenever the connection has done something; for a task that has ended it is `None`.
    pub fn turns(&self) -> Option<u64> {
        (!self.task.is_finished()).then(|| self.turns.load(Ordering::Relaxed))
    }

    /// For how long it may do nothing, with the broker away or silent.
    pub const fn longest_turn(&self) -> Duration {
        self.longest_turn
    }

    /// How many rows it would take now.
    pub fn room(&self) -> usize {
        self.rows.capacity()
    }

    /// Ends the task. Rows in flight stay in the outbox.
    pub async fn stop(self, patience: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.rows);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            abort.abort();
        }
    }
}

struct Connection {
    options: ForwardOptions,
    events: mpsc::UnboundedSender<ForwardEvent>,
    rows: mpsc::Receiver<ForwardRow>,
    stopping: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    attempt: u64,
    /// The row that the broker declined last, and how many times in a row.
    declined: Option<(u64, u32)>,
    /// So many rows are still sent one at a time: one of them was answered with what cannot be read, and that answer
    /// does not say which.
    careful: usize,
    /// Whether the broker took a row on the connection that ended last.
    delivered: bool,
}

/// Rows that wait are given to the client's socket so many at a time.
const WRITE_BATCH: usize = 32;

/// A row that the broker declines so often without a reason that could pass is refused.
const DECLINED_LIMIT: u32 = 5;

/// How a network connection ended.
struct End {
    reason: String,
    /// Whether it had been up.
    connected: bool,
    /// Whether the broker sent what is not MQTT as the client knows it.
    unreadable: bool,
}

impl End {
    fn while_connected(reason: String) -> Self {
        Self {
            reason,
            connected: true,
            unreadable: false,
        }
    }
}

/// A row that was sent, until the broker's answer.
struct Sent {
    number: u64,
    topic: String,
    payload: Bytes,
    answer: Answer,
}

type Answer = Pin<Box<dyn Future<Output = Result<PublishResult, PublishNoticeError>> + Send>>;

impl Connection {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        while !self.stopping.load(Ordering::Relaxed) {
            self.attempt += 1;
            self.turns.fetch_add(1, Ordering::Relaxed);
            let since = tokio::time::Instant::now();
            let mut waiting = VecDeque::new();
            let End {
                reason,
                connected,
                unreadable,
            } = self.connect_and_send(&mut waiting).await;
            if unreadable && !self.suspect(waiting) {
                return;
            }
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            let name = &self.options.name;
            if std::mem::take(&mut self.delivered) || since.elapsed() >= STABLE {
                backoff.reset();
            }
            if connected {
                warn!(connection = %name, %reason, "upstream connection lost; connecting again");
                let event = ForwardEvent::Down {
                    connection: self.options.connection,
                };
                if self.events.send(event).is_err() {
                    return;
                }
            } else {
                let Endpoint { host, port, .. } = &self.options.endpoint;
                warn!(connection = %name, %host, port, %reason, "cannot connect upstream; trying again");
            }
            backoff.wait().await;
        }
    }

    /// One network connection from its beginning to its end.
    async fn connect_and_send(&mut self, waiting: &mut VecDeque<Sent>) -> End {
        let mut mqtt = self.options.endpoint.options(&self.options.client_id);
        mqtt.set_clean_start(true);
        mqtt.set_outgoing_inflight_upper_limit(self.options.in_flight);
        mqtt.set_max_request_batch(WRITE_BATCH);
        let capacity = usize::from(self.options.in_flight);
        let (client, mut event_loop) = AsyncClient::builder(mqtt).capacity(capacity).build();
        let (up, mut is_up) = mpsc::channel(1);
        // The poll task owns the event loop and is never cancelled while the connection lives.
        let turns = self.turns.clone();
        let mut poll = tokio::spawn(async move {
            loop {
                let event = event_loop.poll().await;
                turns.fetch_add(1, Ordering::Relaxed);
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                        let limit = ack.properties.and_then(|p| p.max_packet_size);
                        // Only fails when nobody waits for the connection any more.
                        let _ = up.send(limit).await;
                    }
                    Ok(Event::Incoming(Packet::Disconnect(disconnect))) => {
                        let reason = format!("the broker says {:?}", disconnect.reason_code);
                        return (reason, false);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let unreadable = matches!(
                            error,
                            ConnectionError::MqttState(StateError::Deserialization(_))
                        );
                        return (error.to_string(), unreadable);
                    }
                }
            }
        });
        let max_packet_bytes = tokio::select! {
            // The channel also ends with an attempt that fails: that is no connection, and `poll` knows why.
            Some(limit) = is_up.recv() => limit,
            ended = &mut poll => {
                let (reason, _) = ended.unwrap_or_else(|error| (error.to_string(), false));
                return End {
                    reason,
                    connected: false,
                    unreadable: false,
                };
            }
        };
        info!(connection = %self.options.name, "connected upstream");
        let (connection, attempt) = (self.options.connection, self.attempt);
        let up = ForwardEvent::Up {
            connection,
            attempt,
            max_packet_bytes,
        };
        if self.events.send(up).is_err() {
            poll.abort();
            return End::while_connected("shutting down".to_owned());
        }
        let end = tokio::select! {
            reason = self.send(&client, waiting) => End::while_connected(reason),
            ended = &mut poll => {
                let (reason, unreadable) = ended.unwrap_or_else(|error| (error.to_string(), false));
                End {
                    unreadable,
                    ..End::while_connected(reason)
                }
            }
        };
        // Taking leave lets the broker forget us at once; if there is no room for it, closing does.
        let _ = client.try_disconnect_now();
        if !poll.is_finished()
            && tokio::time::timeout(Duration::from_millis(200), &mut poll)
                .await
                .is_err()
        {
            poll.abort();
        }
        end
    }

    /// The broker's answer to one of the rows that wait cannot be read. One row alone that is answered so again and
    /// again is refused: it would keep all behind it waiting for ever. False if nobody listens any more.
    fn suspect(&mut self, mut waiting: VecDeque<Sent>) -> bool {
        self.careful = self.careful.max(waiting.len());
        let (Some(sent), true) = (waiting.pop_front(), waiting.is_empty()) else {
            return true;
        };
        let times = self.declined_again(sent.number);
        if times < DECLINED_LIMIT {
            return true;
        }
        let event = ForwardEvent::Refused {
            connection: self.options.connection,
            number: sent.number,
            topic: sent.topic,
            payload: sent.payload,
            reason: format!("the broker's answer cannot be read, {times} times"),
        };
        self.events.send(event).is_ok()
    }

    /// Counts that a row was declined; gives how many times in a row it has been.
    fn declined_again(&mut self, number: u64) -> u32 {
        let before = self.declined.filter(|(row, _)| *row == number);
        let times = before.map_or(1, |(_, times)| times + 1);
        self.declined = Some((number, times));
        times
    }

    /// Publishes what is handed over and reports what is confirmed, in order, until no more can be.
    async fn send(&mut self, client: &AsyncClient, waiting: &mut VecDeque<Sent>) -> String {
        loop {
            let window = match self.careful {
                0 => usize::from(self.options.in_flight),
                _ => 1,
            };
            tokio::select! {
                biased;
                answer = front(waiting), if !waiting.is_empty() => {
                    let Some(sent) = waiting.pop_front() else { continue };
                    if let Err(reason) = self.answered(sent, answer) {
                        return reason;
                    }
                }
                row = self.rows.recv(), if waiting.len() < window => {
                    let Some(ForwardRow { attempt, number, row }) = row else {
                        return "shutting down".to_owned();
                    };
                    if attempt != self.attempt {
                        continue;
                    }
                    match publish(client, number, row).await {
                        Ok(sent) => waiting.push_back(sent),
                        Err(reason) => return reason,
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        sent: Sent,
        answer: Result<PublishResult, PublishNoticeError>,
    ) -> Result<(), String> {
        let connection = self.options.connection;
        let Sent {
            number,
            topic,
            payload,
            ..
        } = sent;
        let refused = |topic: String, reason: String| ForwardEvent::Refused {
            connection,
            number,
            topic,
            payload,
            reason,
        };
        let delivered = ForwardEvent::Delivered { connection, number };
        let event = match answer {
            Ok(PublishResult::Qos1(ack)) => match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => delivered,
                PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => {
                    refused(topic, format!("{:?}", ack.reason))
                }
                // Short of something, or an access rule that somebody can mend: that passes, and a row dropped for it
                // would be lost.
                PubAckReason::NotAuthorized | PubAckReason::QuotaExceeded => {
                    return Err(format!("upstream does not take {topic}: {:?}", ack.reason));
                }
                // No reason that says what would have to change: after some attempts the row is the reason.
                PubAckReason::UnspecifiedError
                | PubAckReason::ImplementationSpecificError
                | PubAckReason::PacketIdentifierInUse => {
                    let times = self.declined_again(number);
                    if times < DECLINED_LIMIT {
                        return Err(format!(
                            "upstream does not take {topic} now: {:?}",
                            ack.reason
                        ));
                    }
                    refused(topic, format!("{:?}, {times} times", ack.reason))
                }
            },
            Ok(_) => delivered,
            Err(PublishNoticeError::RetainNotSupported) => {
                refused(topic, "the broker keeps no retained messages".to_owned())
            }
            Err(error) => return Err(error.to_string()),
        };
        self.delivered |= matches!(event, ForwardEvent::Delivered { .. });
        self.careful = self.careful.saturating_sub(1);
        self.events
            .send(event)
            .map_err(|_| "shutting down".to_owned())
    }
}

/// The answer to the oldest publish; never, if none waits.
async fn front(waiting: &mut VecDeque<Sent>) -> Result<PublishResult, PublishNoticeError> {
    match waiting.front_mut() {
        Some(sent) => (&mut sent.answer).await,
        None => std::future::pending().await,
    }
}

async fn publish(client: &AsyncClient, number: u64, row: OutboxRow) -> Result<Sent, String> {
    let qos = if row.qos == 0 {
        QoS::AtMostOnce
    } else {
        QoS::AtLeastOnce
    };
    let properties = PublishProperties {
        user_properties: vec![(ID_PROPERTY.to_owned(), row.id.to_string())],
        ..PublishProperties::default()
    };
    let options = PublishOptions::new(qos)
        .retain(row.retain)
        .properties(properties);
    let (topic, payload) = (row.topic, row.payload);
    let published = client
        .publish_tracked(topic.clone(), payload.clone(), options)
        .await;
    let notice = published.map_err(|error| error.to_string())?;
    Ok(Sent {
        number,
        topic,
        payload,
        answer: Box::pin(notice.wait_async()),
    })
}
