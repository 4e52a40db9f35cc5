//! What comes in: messages and the state of the connections they come on.

use compact_str::{CompactString, ToCompactString as _};
use tracing::{error, warn};

use super::{BATCH, Driver, Line, Receipt, SourceLine};
use crate::codec::Message;
use crate::engine::{Clock, Delivery, Verdict};
use crate::mqtt::{Received, SourceEvent};

impl Driver {
    pub(super) fn on_input(&mut self, event: SourceEvent) {
        let now = self.clock.now();
        self.take(event, now);
        for _ in 1..BATCH {
            if !self.takes_input() {
                break;
            }
            let Ok(event) = self.input.try_recv() else {
                break;
            };
            self.take(event, now);
            if self.committing.is_none() && self.commit_due() == Some(0) {
                break;
            }
        }
    }

    pub(super) fn take(&mut self, event: SourceEvent, now: Clock) {
        match event {
            SourceEvent::Received(received) => self.take_message(&received, now),
            SourceEvent::Connected {
                connection,
                link,
                session_present,
            } => {
                let lost = self.engine.connected(connection, session_present);
                let name = &self.settings.connections[connection].name;
                if lost {
                    error!(
                        connection = %name,
                        "SESSION_LOST: the broker has forgotten our session; what it held for us while we were \
                         away is gone (session expiry, or a broker without persistence)"
                    );
                    self.engine.count(&name.to_compact_string(), "session_lost");
                }
                let next_epoch = self.engine.epoch() + 1;
                if let Some(line) = self.line(connection) {
                    if session_present {
                        link.subscribe();
                        link.unsubscribe();
                    } else {
                        line.subscribe_after = Some(next_epoch);
                    }
                    line.link = Some(link);
                    line.acknowledgements.clear();
                    line.pacer.disconnected();
                }
                if session_present {
                    self.changes.note(now.steady_micros);
                } else {
                    // Nothing can come before the subscription, which waits for this commit.
                    self.changes.note_urgent();
                }
            }
            SourceEvent::Disconnected { connection } => {
                if let Some(line) = self.line(connection) {
                    line.link = None;
                    line.acknowledgements.clear();
                    line.subscribe_after = None;
                    line.pacer.disconnected();
                }
            }
        }
    }

    pub(super) fn line(&mut self, connection: usize) -> Option<&mut SourceLine> {
        self.sources
            .iter_mut()
            .find(|line| line.connection == connection)
    }

    pub(super) fn take_message(&mut self, received: &Received, now: Clock) {
        self.inbox.taken(received);
        #[cfg(feature = "fault-injection")]
        crate::runtime::fault::stall_if_asked("engine");
        let Ok(topic) = std::str::from_utf8(&received.topic) else {
            // The client checks topics; one that is not text reaches nobody.
            return;
        };
        let tracked = !self.settings.acknowledge_on_receipt;
        let delivery = Delivery {
            message: Message {
                topic,
                payload: &received.payload,
                qos: received.qos,
                retain: received.retain,
                received: now.wall,
            },
            dup: received.dup,
            packet_id: received.packet_id,
            subscription_ids: &received.subscription_ids,
            tracked,
        };
        let verdict = self.engine.deliver(received.connection, &delivery, now);
        if verdict == Verdict::PossibleDuplicate {
            warn!(
                topic,
                "a redelivery could not be told from a new message; it was processed"
            );
        }
        if received.qos > 0 && tracked {
            self.to_acknowledge.push(Receipt {
                connection: received.connection,
                attempt: received.attempt,
                packet_id: received.packet_id,
            });
            if let Some(line) = self.line(received.connection) {
                line.pacer.arrived(now.steady_micros);
            }
        } else if tracked {
            self.changes.note_rows(now.steady_micros);
        } else {
            // What is acknowledged on receipt is lost by a crash for no longer than the interval.
            self.changes.note(now.steady_micros);
        }
    }

    pub(super) fn take_line(&mut self, line: &Line) {
        #[cfg(feature = "fault-injection")]
        crate::runtime::fault::stall_if_asked("engine");
        let now = self.clock.now();
        let message = Message {
            topic: &line.path,
            payload: &line.bytes,
            qos: 1,
            retain: false,
            received: now.wall,
        };
        self.engine.deliver_line(line.source, &message, now);
        self.changes.note_rows(now.steady_micros);
    }

    /// Counts what the connections had to drop.
    pub(super) fn collect_drops(&mut self) {
        for line in &self.sources {
            for (source, count) in line.handle.take_drops() {
                self.engine
                    .count_many(&CompactString::new(source), "qos0_overflow", count);
            }
        }
    }
}
