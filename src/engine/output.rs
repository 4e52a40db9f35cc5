//! What leaves the graph within an epoch: rows for brokers, rows for this machine, dead letters, and the counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::discovery::{Announced, Announcement, announcement};
use super::graph::Exit;
use super::{ConnectionOptions, NewRow, Outbox};
use crate::codec::{CsvFormat, JsonEncoder, Message, TimestampFormat, encode_csv, encode_text};
use crate::ops::Discard;
use crate::plan::{Format, NodeId, Plan, Sink, SinkConnector, SinkId, TopicPart};
use crate::types::{EventTime, Fingerprint, Lineage, Value};

/// A derived row for this machine: a line for standard output or for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRow {
    /// The sink it is for.
    pub sink: SinkId,
    /// A line of JSON or text, without the end of line.
    pub line: String,
    /// The event's id.
    pub id: Lineage,
}

/// An input, or part of one, that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The table or query that could not use it.
    pub stream: CompactString,
    /// The short name under which it is counted.
    pub reason: &'static str,
    /// What a person needs to know.
    pub detail: String,
    /// The topic it came on; empty where it was no message.
    pub topic: String,
    /// The bytes as they came.
    pub payload: Vec<u8>,
    /// 0 or 1.
    pub qos: u8,
    /// Whether the broker sent it as a retained message.
    pub retain: bool,
    /// When it came.
    pub received: EventTime,
    /// Whether all of it was rejected, by one table, so that sending it through again counts nothing twice.
    pub replayable: bool,
}

/// Counts since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Messages from brokers.
    pub received: u64,
    /// Rows that sources gave.
    pub rows_in: u64,
    /// Rows that sinks were given.
    pub rows_out: u64,
    /// Redeliveries recognised and left out.
    pub duplicates: u64,
    /// Redeliveries that were processed because nothing could tell whether they had been before.
    pub possible_duplicates: u64,
    /// Everything discarded, by table or query or connection, and by reason.
    pub discards: BTreeMap<(CompactString, &'static str), u64>,
    /// What people should see though nothing was lost, by query and kind: late rows that went to a table
    /// (`late_to_table`) or revised a window (`late_update`), topics beyond `limits.max_keys` of which Home Assistant is not
    /// told (`discovery_limit`, once for each table).
    pub notes: BTreeMap<(CompactString, &'static str), u64>,
}

pub(super) struct Output {
    pub(super) outboxes: Vec<Outbox>,
    pub(super) local: Vec<LocalRow>,
    pub(super) dead: Vec<DeadLetter>,
    pub(super) counters: Counters,
    /// Bytes written to each file sink over all restarts, line ends included; 0 for other sinks.
    pub(super) file_bytes: Vec<u64>,
    /// Whether a committed epoch says that the sink's file is ours.
    pub(super) file_claimed: Vec<bool>,
    pub(super) now_micros: i64,
    /// Bytes of `local` and `dead`.
    pub(super) waiting_bytes: u64,
    targets: Vec<Target>,
    /// For each sink what writes its rows.
    encoders: Vec<Encoding>,
    /// For each sink the topics that Home Assistant was told of, at most as many as there may be keys.
    announced: Vec<Announced>,
    max_topics: usize,
    text: String,
    topic: String,
}

enum Target {
    Outbox(usize),
    Local { file: bool },
}

impl Output {
    pub(super) fn new(plan: &Plan, connections: &[ConnectionOptions], max_keys: usize) -> Self {
        let target = |sink: &Sink| match &sink.connector {
            SinkConnector::Mqtt { connection, .. } => {
                let at = connections
                    .iter()
                    .position(|options| options.name == *connection);
                Target::Outbox(at.expect("every connection of the plan is among the options"))
            }
            SinkConnector::Print => Target::Local { file: false },
            SinkConnector::Filesystem { .. } => Target::Local { file: true },
        };
        Self {
            outboxes: connections
                .iter()
                .map(|options| Outbox::new(options.outbox))
                .collect(),
            local: Vec::new(),
            dead: Vec::new(),
            counters: Counters::default(),
            file_bytes: vec![0; plan.sinks.len()],
            file_claimed: vec![false; plan.sinks.len()],
            now_micros: 0,
            waiting_bytes: 0,
            targets: plan.sinks.iter().map(target).collect(),
            encoders: plan.sinks.iter().map(Encoding::of).collect(),
            announced: plan.sinks.iter().map(|_| Announced::default()).collect(),
            max_topics: max_keys,
            text: String::new(),
            topic: String::new(),
        }
    }

    pub(super) fn count(&mut self, stream: &CompactString, reason: &'static str) {
        *self
            .counters
            .discards
            .entry((stream.clone(), reason))
            .or_default() += 1;
    }

    /// Keeps a message that a source could not use at all.
    pub(super) fn reject(
        &mut self,
        stream: CompactString,
        message: &Message<'_>,
        discard: Discard,
    ) {
        self.count(&stream, discard.reason);
        self.keep(dead_letter(stream, Some(message), discard, true));
    }

    /// Keeps a derived event that upstream does not take.
    pub(super) fn refuse(
        &mut self,
        stream: CompactString,
        message: &Message<'_>,
        discard: Discard,
    ) {
        self.count(&stream, discard.reason);
        self.keep(dead_letter(stream, Some(message), discard, false));
    }

    /// The exit of the graph while `message` is processed; dead letters from `dead_before` on are of this message.
    pub(super) fn during<'a>(
        &'a mut self,
        plan: &'a Arc<Plan>,
        message: Option<&'a Message<'a>>,
        dead_before: usize,
    ) -> DuringMessage<'a> {
        DuringMessage {
            output: self,
            plan,
            message,
            dead_before,
        }
    }

    fn keep(&mut self, letter: DeadLetter) {
        self.waiting_bytes += (letter.payload.len() + letter.detail.len() + 128) as u64;
        self.dead.push(letter);
    }
}

fn dead_letter(
    stream: CompactString,
    message: Option<&Message<'_>>,
    discard: Discard,
    replayable: bool,
) -> DeadLetter {
    let Discard { reason, detail } = discard;
    match message {
        Some(message) => DeadLetter {
            stream,
            reason,
            detail,
            topic: message.topic.to_owned(),
            payload: message.payload.to_vec(),
            qos: message.qos,
            retain: message.retain,
            received: message.received,
            replayable,
        },
        None => DeadLetter {
            stream,
            reason,
            detail,
            topic: String::new(),
            payload: Vec::new(),
            qos: 0,
            retain: false,
            received: EventTime::MIN,
            replayable: false,
        },
    }
}

/// [`Output`] while a message, or the passing of time, goes through the graph.
pub(super) struct DuringMessage<'a> {
    output: &'a mut Output,
    plan: &'a Arc<Plan>,
    pub(super) message: Option<&'a Message<'a>>,
    /// Dead letters from here on are of this message.
    dead_before: usize,
}

impl Exit for DuringMessage<'_> {
    fn sink(&mut self, id: SinkId, row: &[Value], lineage: Lineage) {
        let sink = &self.plan.sinks[id.0];
        let event = lineage.child(sink.fingerprint, 0);
        let output = &mut *self.output;
        output.counters.rows_out += 1;
        output.text.clear();
        match &mut output.encoders[id.0] {
            Encoding::Json(encoder) => encoder.encode(row, event, &mut output.text),
            Encoding::Csv(options) => encode_csv(row, &sink.schema, options, &mut output.text),
            Encoding::Text => {
                if let (Some(value), Some(column)) = (row.first(), sink.schema.columns.first()) {
                    encode_text(
                        value,
                        &column.ty,
                        &TimestampFormat::Iso8601,
                        &mut output.text,
                    );
                }
            }
        }
        match output.targets[id.0] {
            Target::Local { file } => {
                if file {
                    output.file_bytes[id.0] += output.text.len() as u64 + 1;
                }
                output.waiting_bytes += output.text.len() as u64 + 64;
                output.local.push(LocalRow {
                    sink: id,
                    line: output.text.clone(),
                    id: event,
                });
            }
            Target::Outbox(connection) => {
                let SinkConnector::Mqtt {
                    topic,
                    qos,
                    retain,
                    discovery,
                    ..
                } = &sink.connector
                else {
                    return;
                };
                output.topic.clear();
                match render_topic(topic, row, sink, &mut output.topic) {
                    Ok(()) => {
                        let topic = output.topic.as_str();
                        if let Some(discovery) = discovery {
                            match output.announced[id.0].note(topic, output.max_topics) {
                                Announcement::Due => output.outboxes[connection].append(
                                    announcement(discovery, sink, topic, *qos).as_new(),
                                    output.now_micros,
                                ),
                                Announcement::Refused => {
                                    let note = (sink.name.clone(), "discovery_limit");
                                    *output.counters.notes.entry(note).or_default() += 1;
                                }
                                Announcement::Known => {}
                            }
                        }
                        let row = NewRow {
                            topic,
                            payload: output.text.as_bytes(),
                            qos: *qos,
                            retain: *retain,
                            id: event,
                        };
                        output.outboxes[connection].append(row, output.now_micros);
                    }
                    Err(detail) => {
                        let discard = Discard {
                            reason: "invalid_topic",
                            detail,
                        };
                        output.count(&sink.name, discard.reason);
                        let mut letter =
                            dead_letter(sink.name.clone(), self.message, discard, false);
                        letter.payload = output.text.clone().into_bytes();
                        output.keep(letter);
                    }
                }
            }
        }
    }

    fn discard(&mut self, node: NodeId, discard: Discard) {
        let stream = &self.plan.nodes[node.0].query;
        self.output.count(stream, discard.reason);
        // A message with many rows may be discarded many times over, by several queries: its bytes are kept once for
        // each query and reason.
        let of_message = &self.output.dead[self.dead_before..];
        let kept =
            |letter: &DeadLetter| letter.stream == *stream && letter.reason == discard.reason;
        if self.message.is_none() || !of_message.iter().any(kept) {
            let letter = dead_letter(stream.clone(), self.message, discard, false);
            self.output.keep(letter);
        }
    }

    fn count(&mut self, node: NodeId, what: &'static str) {
        let stream = self.plan.nodes[node.0].query.clone();
        let notes = &mut self.output.counters.notes;
        *notes.entry((stream, what)).or_default() += 1;
    }
}

/// What writes the rows of a sink.
pub(super) enum Encoding {
    Json(JsonEncoder),
    Csv(CsvFormat),
    Text,
}

impl Encoding {
    fn of(sink: &Sink) -> Self {
        match &sink.format {
            Format::Json(options) => {
                let id_field = options.id_field.as_deref();
                Self::Json(JsonEncoder::new(&sink.schema, &options.timestamp, id_field))
            }
            Format::Csv(options) => Self::Csv(options.clone()),
            Format::Text => Self::Text,
        }
    }
}

/// Writes the topic of a row to `topic`, which is empty.
fn render_topic(
    parts: &[TopicPart],
    row: &[Value],
    sink: &Sink,
    topic: &mut String,
) -> Result<(), String> {
    for part in parts {
        match part {
            TopicPart::Literal(text) => topic.push_str(text),
            TopicPart::Column(index) => {
                let start = topic.len();
                let column = &sink.schema.columns[*index];
                if row[*index].is_null() {
                    return Err(format!("column `{}` of the topic is NULL", column.name));
                }
                encode_text(&row[*index], &column.ty, &TimestampFormat::Iso8601, topic);
                if topic[start..].contains(['+', '#', '\0']) || topic.len() == start {
                    return Err(format!(
                        "column `{}` = {:?} cannot be part of a topic (empty, or with +, # or NUL)",
                        column.name,
                        &topic[start..]
                    ));
                }
            }
        }
    }
    if topic.len() > usize::from(u16::MAX) {
        return Err(format!(
            "the topic has {} bytes; MQTT allows 65535",
            topic.len()
        ));
    }
    Ok(())
}

/// The fingerprint under which something beside an operator keeps state.
pub(super) fn named_state(kind: &str, name: &str) -> Fingerprint {
    Fingerprint::of(&format!("{kind}\0{name}"))
}
