//! The way of a message into the graph: whose it is, whether it was here before, and what its rows do.

use super::graph::{self, Passing};
use super::{Clock, Delivery, Engine, Verdict, publish_hash, topic_matches};
use crate::codec::Message;
use crate::ops::Discard;
use crate::plan::{self, SourceConnector, SourceId};
use crate::types::{Progress, Timeline, Value};

impl Engine {
    /// Takes a message from a broker.
    pub fn deliver(&mut self, connection: usize, delivery: &Delivery<'_>, clock: Clock) -> Verdict {
        let message = &delivery.message;
        let mut verdict = Verdict::New;
        if message.qos > 0 && delivery.tracked {
            let hash = publish_hash(message.topic, message.payload);
            verdict = self.ledgers[connection].judge(delivery.dup, delivery.packet_id, hash);
            self.changed = true;
        }
        let counters = &mut self.output.counters;
        counters.received += 1;
        match verdict {
            Verdict::Duplicate => {
                counters.duplicates += 1;
                return verdict;
            }
            Verdict::PossibleDuplicate => counters.possible_duplicates += 1,
            Verdict::New => {}
        }
        let mut taken = false;
        let mut ignored = false;
        for id in 0..self.sources.len() {
            match self.subscribed(id, connection, delivery) {
                Some(retained) if retained || !message.retain => {
                    taken = true;
                    self.deliver_to(SourceId(id), message, clock);
                }
                Some(_) => ignored = true,
                None => {}
            }
        }
        if !taken {
            let reason = if ignored { "retained" } else { "unrouted" };
            self.output.count(&self.names[connection].clone(), reason);
        }
        verdict
    }

    /// Whether source `id` subscribed to this delivery; if so, whether it wants retained messages.
    fn subscribed(&self, id: usize, connection: usize, delivery: &Delivery<'_>) -> Option<bool> {
        let SourceConnector::Mqtt {
            connection: name,
            filters,
            retained,
            ..
        } = &self.plan.sources[id].connector
        else {
            return None;
        };
        if *name != self.names[connection] {
            return None;
        }
        let ids = delivery.subscription_ids;
        let known = |id: &u32| self.subscription_ids.iter().any(|owned| owned.contains(id));
        // An id from before a change of the pipeline says nothing about the tables of now.
        let matches = if !ids.is_empty() && ids.iter().all(known) {
            self.subscription_ids[id]
                .iter()
                .any(|owned| ids.contains(owned))
        } else {
            filters
                .iter()
                .any(|filter| topic_matches(filter, delivery.message.topic))
        };
        matches.then_some(*retained)
    }

    /// Takes the next line of a source's file; how many were taken is remembered over restarts.
    pub fn deliver_line(&mut self, id: SourceId, message: &Message<'_>, clock: Clock) {
        self.sources[id.0].lines += 1;
        self.deliver_to(id, message, clock);
    }

    /// Takes a message for one source: from a recording or the dead letters.
    pub fn deliver_to(&mut self, id: SourceId, message: &Message<'_>, clock: Clock) {
        self.changed = true;
        self.set_clock(clock);
        self.before_message(id.0, clock.steady_micros);
        let source = &mut self.sources[id.0];
        let mut rows = source.buffers();
        let size = message.payload.len();
        let found = if size > self.max_payload_bytes {
            Err(too_large(size, self.max_payload_bytes))
        } else {
            source.rows(message, &self.graph.context, &mut rows)
        };
        let count = match found {
            Ok(count) => count,
            Err(discard) => {
                source.give_back(rows);
                return self.reject(id, message, discard);
            }
        };
        let dead_before = self.output.dead.len();
        for row in &rows[..count] {
            self.accept(id.0, row, message, dead_before, clock);
        }
        self.sources[id.0].give_back(rows);
        self.after_message(id.0, clock.steady_micros);
    }

    fn accept(
        &mut self,
        id: usize,
        row: &[Value],
        message: &Message<'_>,
        dead_before: usize,
        clock: Clock,
    ) {
        let lines = self.timelines.count();
        let source = &mut self.sources[id];
        let node = source.node;
        let Some(line) = source.line(row, &mut self.timelines) else {
            return self.refuse_key(node, message, dead_before);
        };
        if source.wakes(line) {
            self.set_idle(id, line, false);
        }
        if self.timelines.count() > lines {
            self.expect_line(line, clock);
        }
        let source = &mut self.sources[id];
        let (lineage, step) = source.accept(row, line, &self.graph.context, clock.steady_micros);
        self.output.counters.rows_in += 1;
        if node == usize::MAX {
            return;
        }
        let mut exit = self.output.during(&self.plan, Some(message), dead_before);
        let progress = Progress {
            line,
            watermark: step.from,
        };
        let passing = Passing {
            row,
            lineage,
            progress,
        };
        self.graph.forward(node, &passing, &mut exit);
        if step.to > step.from {
            exit.message = None;
            self.graph.lead(node, step, &mut exit);
        }
    }

    /// Has every source with keys of their own wait for a new one.
    #[cold]
    fn expect_line(&mut self, line: Timeline, clock: Clock) {
        for keys in self.sources.iter_mut().filter_map(|s| s.keys.as_mut()) {
            keys.expect_line(line, clock.steady_micros);
        }
    }

    #[cold]
    fn reject(&mut self, id: SourceId, message: &Message<'_>, discard: Discard) {
        let stream = self.plan.sources[id.0].name.clone();
        self.output.reject(stream, message, discard);
    }

    /// Discards a row whose key is one too many to have a watermark of its own.
    #[cold]
    fn refuse_key(&mut self, node: usize, message: &Message<'_>, dead_before: usize) {
        if node == usize::MAX {
            return;
        }
        let reason = "max_keys";
        let detail = format!(
            "its key is new and limits.max_keys = {} keys have a watermark of their own",
            self.timelines.count() - 1
        );
        let mut exit = self.output.during(&self.plan, Some(message), dead_before);
        graph::Exit::discard(&mut exit, plan::NodeId(node), Discard { reason, detail });
    }
}

#[cold]
fn too_large(bytes: usize, limit: usize) -> Discard {
    let reason = "too_large";
    let detail = format!("the payload has {bytes} bytes, more than limits.max_payload = {limit}");
    Discard { reason, detail }
}
