//! `replay`: the pipelines over recorded messages, as fast as they go.
//!
//! The same engine as in `run`, with the recorded times for the clock and no state on disk; so the same input gives
//! the same rows, and the rows that `run` gave.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::load::load;
use super::recording::{self, Recorded};
use super::{ConfigArgument, Failure};
use crate::codec::Message;
use crate::engine::{Clock, Engine, EngineOptions, LEAST_FOLD_BYTES, topic_matches};
use crate::plan::{Plan, SinkConnector, SourceConnector, SourceId};
use crate::runtime::load_tables;
use crate::types::EventTime;

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Recorded messages, one JSON object a line with topic, payload and time, as `mosquitto_sub -F %j` writes
    /// them; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print only the rows of this table (may be given more than once)
    #[arg(long, value_name = "TABLE")]
    sink: Vec<String>,
    /// Wrap each row with its table and its event id
    #[arg(long)]
    envelope: bool,
}

/// Messages between two seals: what an epoch gathers is bounded in memory.
const EPOCH_MESSAGES: u64 = 1_024;

pub(super) fn replay(arguments: &ReplayArguments) -> Result<(), Failure> {
    let pipeline = load(&arguments.config.config)?;
    let mut plan = Plan::clone(&pipeline.plan);
    for wanted in &arguments.sink {
        if !plan.sinks.iter().any(|sink| sink.name == wanted.as_str()) {
            return Err(anyhow::anyhow!("no query writes to a table `{wanted}`").into());
        }
    }
    for sink in &mut plan.sinks {
        sink.connector = SinkConnector::Print;
    }
    let options = EngineOptions {
        max_keys: pipeline.config.limits.max_keys,
        max_payload_bytes: pipeline.config.limits.max_payload_bytes as usize,
        least_fold_bytes: LEAST_FOLD_BYTES,
        connections: Vec::new(),
    };
    let mut engine = Engine::new(plan.into(), &options);
    load_tables(&mut engine)?;
    let mut player = Player {
        engine,
        out: BufWriter::new(std::io::stdout().lock()),
        arguments,
        clock: Clock {
            wall: EventTime::from_micros(0),
            steady_micros: 0,
        },
        messages: 0,
    };
    player.play_recording()?;
    player.finish()?;
    Ok(())
}

struct Player<'a, W> {
    engine: Engine,
    out: W,
    arguments: &'a ReplayArguments,
    clock: Clock,
    messages: u64,
}

impl<W: Write> Player<'_, W> {
    fn play_recording(&mut self) -> anyhow::Result<()> {
        let path = &self.arguments.file;
        if path.as_os_str() == "-" {
            return self.play(
                &mut BufReader::new(std::io::stdin().lock()),
                &progress(None),
            );
        }
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let length = file.metadata().map(|metadata| metadata.len()).ok();
        let bar = progress(length);
        let played = self.play(&mut BufReader::new(file), &bar);
        bar.finish_and_clear();
        played
    }

    fn play(&mut self, input: &mut dyn BufRead, bar: &ProgressBar) -> anyhow::Result<()> {
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            let read = input
                .read_line(&mut line)
                .with_context(|| self.place(number))?;
            if read == 0 {
                break;
            }
            bar.inc(read as u64);
            if line.trim().is_empty() {
                continue;
            }
            match recording::parse(&line) {
                Ok(recorded) => self.take(&recorded)?,
                Err(reason) => bail!("{}: {reason}", self.place(number)),
            }
        }
        Ok(())
    }

    fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.arguments.file.display())
    }

    fn take(&mut self, recorded: &Recorded) -> anyhow::Result<()> {
        if let Some(time) = recorded.time {
            // Silence in the recording is silence here: idle timeouts pass before the message comes.
            let passed = time.since(self.clock.wall).as_micros();
            if passed > 0 {
                let first = self.messages == 0;
                self.clock.wall = time;
                self.clock.steady_micros += if first { 0 } else { passed as u64 };
                if self
                    .engine
                    .next_tick()
                    .is_some_and(|due| due <= self.clock.steady_micros)
                {
                    self.engine.tick(self.clock);
                }
            }
        }
        let message = Message {
            topic: &recorded.topic,
            payload: &recorded.payload,
            qos: recorded.qos,
            retain: recorded.retain,
            received: recorded.time.unwrap_or(self.clock.wall),
        };
        let plan = self.engine.plan().clone();
        let mut taken = false;
        for (id, source) in plan.sources.iter().enumerate() {
            if let SourceConnector::Mqtt {
                filters, retained, ..
            } = &source.connector
                && filters
                    .iter()
                    .any(|filter| topic_matches(filter, message.topic))
                && (*retained || !message.retain)
            {
                taken = true;
                self.engine.deliver_to(SourceId(id), &message, self.clock);
            }
        }
        if !taken {
            self.engine.count(&"replay".into(), "unrouted");
        }
        self.messages += 1;
        if self.messages.is_multiple_of(EPOCH_MESSAGES) {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends an epoch and prints its rows.
    fn flush(&mut self) -> anyhow::Result<()> {
        let sealed = self.engine.seal(self.clock);
        self.engine.committed();
        for row in sealed.local {
            let sink = &self.engine.plan().sinks[row.sink.0];
            let wanted = &self.arguments.sink;
            if !wanted.is_empty() && !wanted.iter().any(|name| sink.name == name.as_str()) {
                continue;
            }
            if self.arguments.envelope {
                let name = serde_json::to_string(sink.name.as_str())?;
                writeln!(
                    self.out,
                    "{{\"sink\":{name},\"id\":\"{}\",\"row\":{}}}",
                    row.id, row.line
                )?;
            } else {
                writeln!(self.out, "{}", row.line)?;
            }
        }
        Ok(())
    }

    /// Closes all windows and says what was discarded.
    fn finish(mut self) -> anyhow::Result<()> {
        self.engine.finish();
        self.flush()?;
        self.out.flush()?;
        let counters = self.engine.counters();
        for ((stream, reason), count) in &counters.discards {
            eprintln!("headwater: {stream}: {count} discarded: {reason}");
        }
        Ok(())
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    match length {
        Some(length) => {
            let style = ProgressStyle::with_template(
                "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            ProgressBar::new(length)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
        None => ProgressBar::new_spinner(),
    }
}
