//! `dead-letters`: what could not be used, and what to do with it.

use anyhow::bail;
use clap::{Args, Subcommand};

use super::load::{load, settings};
use super::{ConfigArgument, Failure};
use crate::runtime::{Answer, Command, ControlError, Letter, answer_offline, ask};
use crate::types::EventTime;

#[derive(Debug, Subcommand)]
pub(super) enum DeadLettersCommand {
    /// List them, oldest first
    List(ListArguments),
    /// Show one with its payload
    Show(OneArgument),
    /// Send them through their table again, for instance after a fix; needs a running headwater
    Replay(SelectArguments),
    /// Remove them
    Purge(SelectArguments),
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    filter: Filter,
    /// JSON objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct OneArgument {
    #[command(flatten)]
    config: ConfigArgument,
    /// Its id
    id: u64,
}

#[derive(Debug, Args)]
pub(super) struct SelectArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    filter: Filter,
    /// Their ids
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All of them, or all that the filters leave
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

#[derive(Debug, Args)]
struct Filter {
    /// Only those of this table or query
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only those with this reason
    #[arg(long)]
    reason: Option<String>,
}

impl Filter {
    fn keeps(&self, letter: &Letter) -> bool {
        self.stream
            .as_ref()
            .is_none_or(|stream| *stream == letter.stream)
            && self
                .reason
                .as_ref()
                .is_none_or(|reason| *reason == letter.reason)
    }
}

/// Letters in one answer of a running Headwater.
const PAGE: usize = 64;

pub(super) fn run(command: &DeadLettersCommand) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List(arguments) => list(arguments),
        DeadLettersCommand::Show(arguments) => show(arguments),
        DeadLettersCommand::Replay(arguments) => replay(arguments),
        DeadLettersCommand::Purge(arguments) => purge(arguments),
    }
}

/// Asks the running Headwater, or the state directory if none runs.
struct Access {
    settings: crate::runtime::Settings,
}

impl Access {
    fn new(config: &ConfigArgument) -> Result<Self, Failure> {
        Ok(Self {
            settings: settings(&load(&config.config)?.config)?,
        })
    }

    fn ask(&self, command: &Command) -> anyhow::Result<Answer> {
        let answer = match ask(&self.settings.state_dir, command) {
            Err(ControlError::NotRunning) => answer_offline(command, &self.settings)?,
            other => other?,
        };
        match answer {
            Answer::Error { message } => bail!(message),
            answer => Ok(answer),
        }
    }

    fn each(&self, mut visit: impl FnMut(&Letter) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut after = 0;
        loop {
            let Answer::Letters(letters) = self.ask(&Command::List { after, limit: PAGE })? else {
                bail!("the running headwater gave another answer than asked for");
            };
            let Some(last) = letters.last() else {
                return Ok(());
            };
            after = last.id;
            letters.iter().try_for_each(&mut visit)?;
        }
    }

    fn select(&self, arguments: &SelectArguments) -> anyhow::Result<Vec<Letter>> {
        if arguments.ids.is_empty() && !arguments.all {
            bail!("say which: ids, or --all (with --stream and --reason to narrow it down)");
        }
        let mut selected = Vec::new();
        self.each(|letter| {
            if (arguments.all || arguments.ids.contains(&letter.id))
                && arguments.filter.keeps(letter)
            {
                // The payload is not needed to name it, and there may be many.
                selected.push(Letter {
                    payload: Vec::new(),
                    ..letter.clone()
                });
            }
            Ok(())
        })?;
        for id in &arguments.ids {
            if !selected.iter().any(|letter| letter.id == *id) {
                bail!("there is no dead letter {id}");
            }
        }
        Ok(selected)
    }
}

fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let access = Access::new(&arguments.config)?;
    let mut count = 0_u64;
    access.each(|letter| {
        if !arguments.filter.keeps(letter) {
            return Ok(());
        }
        count += 1;
        let received = EventTime::from_micros(letter.received_at_micros);
        if arguments.json {
            let object = serde_json::json!({
                "id": letter.id,
                "received": received.to_string(),
                "stream": letter.stream,
                "reason": letter.reason,
                "detail": letter.detail,
                "topic": letter.topic,
                "payload": String::from_utf8_lossy(&letter.payload),
                "payload_bytes": letter.payload.len(),
                "replayable": letter.replayable,
            });
            println!("{object}");
        } else {
            println!(
                "{:>6}  {received}  {}  {}  {}  {} bytes\n        {}",
                letter.id,
                letter.stream,
                letter.reason,
                letter.topic,
                letter.payload.len(),
                letter.detail
            );
        }
        Ok(())
    })?;
    if !arguments.json {
        println!("{count} dead letters");
    }
    Ok(())
}

fn show(arguments: &OneArgument) -> Result<(), Failure> {
    let access = Access::new(&arguments.config)?;
    let Answer::Letters(letters) = access.ask(&Command::Show { id: arguments.id })? else {
        return Err(anyhow::anyhow!("there is no dead letter {}", arguments.id).into());
    };
    for letter in letters {
        println!("id        {}", letter.id);
        println!(
            "received  {}",
            EventTime::from_micros(letter.received_at_micros)
        );
        println!("stream    {}", letter.stream);
        println!("reason    {}: {}", letter.reason, letter.detail);
        println!("topic     {}", letter.topic);
        println!(
            "replay    {}",
            if letter.replayable {
                "possible"
            } else {
                "not possible: other queries have used it"
            }
        );
        println!("payload   {} bytes", letter.payload.len());
        match std::str::from_utf8(&letter.payload) {
            Ok(text) if !text.contains('\0') => println!("{text}"),
            _ => print_hex(&letter.payload),
        }
    }
    Ok(())
}

fn print_hex(bytes: &[u8]) {
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect();
        println!("{:08x}  {:<47}  {text}", row * 16, hex.join(" "));
    }
}

fn replay(arguments: &SelectArguments) -> Result<(), Failure> {
    let access = Access::new(&arguments.config)?;
    let (mut sent, mut kept) = (0_u64, 0_u64);
    for letter in access.select(arguments)? {
        match access.ask(&Command::Replay { id: letter.id }) {
            Ok(_) => sent += 1,
            Err(reason) if arguments.all => {
                eprintln!("headwater: {reason}");
                kept += 1;
            }
            Err(reason) => return Err(reason.into()),
        }
    }
    println!("{sent} sent through again, {kept} kept");
    Ok(())
}

fn purge(arguments: &SelectArguments) -> Result<(), Failure> {
    let access = Access::new(&arguments.config)?;
    let ids: Vec<u64> = access
        .select(arguments)?
        .iter()
        .map(|letter| letter.id)
        .collect();
    for some in ids.chunks(1_000) {
        access.ask(&Command::Purge { ids: some.to_vec() })?;
    }
    println!("{} removed", ids.len());
    Ok(())
}
