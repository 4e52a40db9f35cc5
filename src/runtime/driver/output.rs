//! What goes out: acknowledgements after a commit, rows to upstream and to this machine.

use std::io::Write as _;

use tracing::warn;

use super::{Driver, KEPT_ACKNOWLEDGEMENTS, Receipt, RunError};
use crate::mqtt::{ForwardEvent, SourceLink};
use crate::runtime::committer::StoreEvent;

impl Driver {
    pub(super) fn on_store(&mut self, event: StoreEvent) -> Result<(), RunError> {
        match event {
            StoreEvent::Committed(stats) => {
                self.stalled = false;
                self.summary.committed(&stats);
                self.wrote(stats.written_bytes);
                let Some(done) = self.committing.take() else {
                    return Ok(());
                };
                self.engine.committed();
                self.engine
                    .stored(stats.totals.base_bytes, stats.totals.delta_bytes);
                self.subscribe_new_sessions();
                for (connection, first_number, bytes) in done.chunks {
                    if let Some(forwarding) = &mut self.forwards[connection] {
                        forwarding.committed(first_number, bytes);
                    }
                }
                self.acknowledge(done.receipts);
                print_lines(&done.lines);
            }
            StoreEvent::Stalled => self.stalled = true,
            StoreEvent::Chunk {
                connection,
                first_number,
                bytes,
            } => {
                if let Some(forwarding) = &mut self.forwards[connection] {
                    forwarding.chunk_read(first_number, bytes.as_ref());
                }
                if bytes.is_none() && self.engine.outbox_unreadable(connection, first_number) {
                    self.note_removal();
                }
            }
            StoreEvent::Letter { id, letter, reply } => {
                let answer = self.replay(id, letter);
                // Whoever asked may have gone away.
                let _ = reply.send(answer);
            }
            StoreEvent::Failed(error) => return Err(RunError::Store(error)),
        }
        Ok(())
    }

    /// New sessions subscribe when the epoch that knows of them is durable.
    fn subscribe_new_sessions(&mut self) {
        let durable = self.engine.epoch();
        for line in &mut self.sources {
            if line.subscribe_after.is_some_and(|epoch| epoch <= durable) {
                line.subscribe_after = None;
                if let Some(link) = &line.link {
                    link.subscribe();
                }
            }
        }
    }

    pub(super) fn acknowledge(&mut self, receipts: Vec<Receipt>) {
        for receipt in receipts {
            let Some(line) = self.line(receipt.connection) else {
                continue;
            };
            let attempt = line.link.as_ref().map(SourceLink::attempt);
            // If the connection it came on is gone the broker sends it again, and the ledger knows it.
            if attempt == Some(receipt.attempt) {
                line.acknowledgements.push_back(receipt.packet_id);
            }
        }
        self.send_acknowledgements();
    }

    /// Gives acknowledgements to the clients as far as they have room.
    fn send_acknowledgements(&mut self) {
        let now = self.clock.now().steady_micros;
        for line in &mut self.sources {
            let Some(link) = &line.link else {
                continue;
            };
            let mut given = 0;
            while let Some(packet_id) = line.acknowledgements.front()
                && link.acknowledge(*packet_id)
            {
                line.acknowledgements.pop_front();
                given += 1;
            }
            if given > 0 {
                line.pacer.acknowledged(given, now);
            }
            if line.acknowledgements.is_empty() {
                line.acknowledgements.shrink_to(KEPT_ACKNOWLEDGEMENTS);
            }
        }
    }

    /// Whether some wait until their client has room.
    pub(super) fn has_acknowledgements(&self) -> bool {
        let mut lines = self.sources.iter();
        lines.any(|line| !line.acknowledgements.is_empty())
    }

    pub(super) fn on_forward(&mut self, event: ForwardEvent) {
        match event {
            ForwardEvent::Up {
                connection,
                attempt,
                max_packet_bytes,
            } => {
                if let Some(forwarding) = &mut self.forwards[connection] {
                    forwarding.up(attempt, max_packet_bytes, self.engine.outbox(connection));
                }
            }
            ForwardEvent::Down { connection } => {
                if let Some(forwarding) = &mut self.forwards[connection] {
                    forwarding.down();
                }
            }
            ForwardEvent::Delivered { connection, number } => {
                if self.engine.outbox(connection).acknowledge(number) {
                    self.summary.delivered += 1;
                }
                self.note_removal();
            }
            ForwardEvent::Refused {
                connection,
                number,
                topic,
                payload,
                reason,
            } => {
                self.refuse(connection, number, &topic, &payload, &reason);
            }
        }
    }

    /// Chunks that upstream has acknowledged are removed with an epoch; nobody waits for it.
    pub(super) fn note_removal(&mut self) {
        self.changes.note_quiet(self.clock.now().steady_micros);
    }

    /// A row that upstream will never take becomes a dead letter, so that it does not block those behind it.
    pub(super) fn refuse(
        &mut self,
        connection: usize,
        number: u64,
        topic: &str,
        payload: &[u8],
        reason: &str,
    ) {
        let name = self.settings.connections[connection].name.clone();
        warn!(connection = %name, topic, reason, "upstream refuses an event; it is kept as a dead letter");
        let now = self.clock.now();
        self.engine
            .refused_upstream(connection, number, topic, payload, reason, now);
        self.changes.note(now.steady_micros);
    }

    pub(super) fn pump(&mut self) {
        if self.has_acknowledgements() {
            self.send_acknowledgements();
        }
        for connection in 0..self.forwards.len() {
            let Some(forwarding) = &mut self.forwards[connection] else {
                continue;
            };
            for row in forwarding.pump(self.engine.outbox(connection), &self.committer) {
                self.refuse(
                    connection,
                    row.number,
                    &row.row.topic,
                    &row.row.payload,
                    &row.reason,
                );
            }
        }
    }
}

/// Prints the rows of `print` sinks. A reader that has gone away must not end the process.
fn print_lines(lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
}
