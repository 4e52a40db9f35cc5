//! What a broker is like: short connections that look and leave nothing behind. For `headwater doctor` alone.
//!
//! Each probe connects under a client id of its own, never under that of `run`, whose session it would take over.

use std::time::Duration;

use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, Packet, PublishOptions, QoS, SubscribeReasonCode,
};
use tokio::time::{Instant, timeout_at};

use super::Endpoint;

/// A connection for looking.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// The broker.
    pub endpoint: &'a Endpoint,
    /// The client id; not that of a client at work.
    pub client_id: &'a str,
    /// How long a probe may take.
    pub patience: Duration,
}

/// What a broker says when it accepts a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Whether it had a session of this client.
    pub session_present: bool,
    /// How long it keeps the session, if other than asked for.
    pub session_expiry: Option<Duration>,
    /// The highest quality of service it takes.
    pub max_qos: u8,
    /// How many publishes of ours it takes at once.
    pub receive_maximum: u16,
}

impl Probe<'_> {
    fn client(
        &self,
        clean: bool,
        expiry: Duration,
        window: Option<u16>,
    ) -> (AsyncClient, EventLoop) {
        let mut mqtt = self.endpoint.options(self.client_id);
        mqtt.set_clean_start(clean);
        let expiry = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
        mqtt.set_session_expiry_interval(Some(expiry));
        if let Some(window) = window {
            mqtt.set_receive_maximum(Some(window));
            mqtt.set_ack_mode(AckMode::Manual);
        }
        // As many requests as the probe of a window makes at once.
        AsyncClient::builder(mqtt).capacity(1_024).build()
    }

    /// Connects and leaves again, keeping the session for `expiry`.
    pub async fn greet(&self, clean: bool, expiry: Duration) -> Result<Greeting, String> {
        let deadline = Instant::now() + self.patience;
        let (client, mut events) = self.client(clean, expiry, None);
        let greeting = greeting(&mut events, deadline).await?;
        leave(&client, &mut events, deadline).await;
        Ok(greeting)
    }

    /// How many of `messages` unacknowledged QoS 1 messages the broker sends at once to a client that takes `window`.
    /// They go to `topic`, which nobody else should read.
    pub async fn window(&self, topic: &str, messages: u16, window: u16) -> Result<u16, String> {
        let deadline = Instant::now() + self.patience;
        let (client, mut events) = self.client(true, Duration::ZERO, Some(window));
        greeting(&mut events, deadline).await?;
        let queue = |error: rumqttc::ClientError| error.to_string();
        client
            .try_subscribe(topic, QoS::AtLeastOnce)
            .map_err(queue)?;
        let (mut came, mut confirmed) = (0, 0);
        let mut quiet = deadline;
        loop {
            let Ok(event) = timeout_at(quiet.min(deadline), events.poll()).await else {
                break;
            };
            match event.map_err(|error| error.to_string())? {
                Event::Incoming(Packet::SubAck(ack)) => {
                    if !matches!(ack.return_codes[..], [SubscribeReasonCode::Success(_)]) {
                        return Err(format!(
                            "it refuses a subscription to {topic} ({:?})",
                            ack.return_codes
                        ));
                    }
                    for _ in 0..messages {
                        let options = PublishOptions::new(QoS::AtLeastOnce);
                        client.try_publish(topic, "probe", options).map_err(queue)?;
                    }
                }
                Event::Incoming(Packet::Publish(_)) => came += 1,
                Event::Incoming(Packet::PubAck(_)) => confirmed += 1,
                _ => continue,
            }
            if confirmed >= messages {
                // What is still to come follows at once.
                quiet = Instant::now() + Duration::from_millis(300);
            }
        }
        leave(
            &client,
            &mut events,
            Instant::now() + Duration::from_secs(1),
        )
        .await;
        if came == 0 {
            return Err(format!(
                "{confirmed} of {messages} messages to {topic} were taken and none came back: its access rules, perhaps"
            ));
        }
        Ok(came)
    }

    /// The retained messages of a topic filter, as text: what a broker says about itself under `$SYS`.
    pub async fn retained(&self, filter: &str) -> Result<Vec<(String, String)>, String> {
        let deadline = Instant::now() + self.patience;
        let (client, mut events) = self.client(true, Duration::ZERO, None);
        greeting(&mut events, deadline).await?;
        client
            .try_subscribe(filter, QoS::AtMostOnce)
            .map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        let mut quiet = deadline;
        while let Ok(event) = timeout_at(quiet.min(deadline), events.poll()).await {
            match event.map_err(|error| error.to_string())? {
                Event::Incoming(Packet::SubAck(_)) => {
                    quiet = Instant::now() + Duration::from_millis(500);
                }
                Event::Incoming(Packet::Publish(publish)) if publish.retain => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    found.push((text(&publish.topic), text(&publish.payload)));
                }
                _ => {}
            }
        }
        leave(
            &client,
            &mut events,
            Instant::now() + Duration::from_secs(1),
        )
        .await;
        Ok(found)
    }
}

async fn greeting(events: &mut EventLoop, deadline: Instant) -> Result<Greeting, String> {
    loop {
        let event = timeout_at(deadline, events.poll())
            .await
            .map_err(|_| "it does not answer".to_owned())?;
        let Event::Incoming(Packet::ConnAck(ack)) = event.map_err(|error| error.to_string())?
        else {
            continue;
        };
        let properties = ack.properties.as_ref();
        return Ok(Greeting {
            session_present: ack.session_present,
            session_expiry: properties
                .and_then(|p| p.session_expiry_interval)
                .map(|seconds| Duration::from_secs(seconds.into())),
            max_qos: properties.and_then(|p| p.max_qos).unwrap_or(2),
            receive_maximum: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        });
    }
}

/// Takes leave; whatever goes wrong there concerns nobody.
async fn leave(client: &AsyncClient, events: &mut EventLoop, deadline: Instant) {
    if client.try_disconnect().is_err() {
        return;
    }
    while let Ok(Ok(_)) = timeout_at(deadline, events.poll()).await {}
}
