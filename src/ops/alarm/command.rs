//! Commands to alarms: acknowledge, shelve, unshelve.
//!
//! A command is taken when it comes, at the time that its key has reached; a key that is silent is shelved by the time
//! that it is by now, since that of its last reading may be long ago. A command that cannot be used is discarded with a
//! reason; it never changes part of what it names.

use compact_str::CompactString;

use super::state::{Alarm, Behaviour, Change, Moment};
use super::{Alarms, Discard, Emit, key_bytes, values_text};
use crate::plan::{MAX_SHELVED, quantity};
use crate::types::{EventTime, Progress, Timespan, Value};

/// What is to be done.
#[derive(Clone, Copy, Debug)]
enum Act {
    Acknowledge,
    Shelve { until: EventTime },
    Unshelve,
}

impl Act {
    /// Does it; the error says why it cannot be done to this alarm.
    fn apply(
        self,
        alarm: &mut Alarm,
        rule: &Behaviour,
        now: Moment,
        out: &mut Vec<Change>,
    ) -> Result<(), &'static str> {
        match self {
            Self::Acknowledge => alarm.acknowledge(now, out),
            Self::Unshelve => alarm.unshelve(rule, now, out),
            Self::Shelve { until } => {
                alarm.shelve(rule, until, now, out);
                Ok(())
            }
        }
    }
}

impl Alarms {
    /// Takes a command: the key, then `command`, `alarm`, `duration`, `until`.
    pub(super) fn command(&mut self, row: &[Value], emit: &mut dyn Emit) {
        if let Err(discard) = self.obey(row, emit) {
            emit.discard(discard);
        }
    }

    fn obey(&mut self, row: &[Value], emit: &mut dyn Emit) -> Result<(), Discard> {
        let (key, said) = row.split_at(self.plan.partition.len());
        if self.is_for_others(&said[1]) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        key_bytes(key, &mut bytes);
        let whose = values_text(key);
        let slot = self.state.find(&bytes).ok_or_else(|| {
            let detail = format!("no reading of key {whose} has come yet, so it has no alarms");
            discard("command_unknown_key", detail)
        })?;
        let line = self.state.get(slot).line;
        let now = self.now(line);
        if now == EventTime::MIN || now == EventTime::MAX {
            let detail = format!("time has not begun for key {whose}: no watermark has come yet");
            return Err(discard("command_unknown_key", detail));
        }
        let act = act(said, self.present(line), |until| self.cut(until))?;
        let which = self.named(&said[1])?;
        let several = which.len() > 1;
        emit.on(Progress {
            line,
            watermark: self.reached(line),
        });
        let mut partition = std::mem::take(self.state.change(slot));
        self.rules_filled(&mut partition);
        let mut refused = None;
        let mut done = false;
        for which in which {
            self.tell(
                &mut partition,
                which,
                now,
                slot,
                emit,
                |alarm, rule, now, out| match act.apply(alarm, rule, now, out) {
                    Ok(()) => done = true,
                    Err(why) => refused = Some((which, why)),
                },
            );
        }
        partition.forget_nothing_known();
        *self.state.change(slot) = partition;
        self.arm(slot);
        match refused {
            // Of all alarms of the key, those of others among them.
            Some(_) if !done && said[1] == Value::Null && !self.beside.is_empty() => {
                emit.count("command_without_effect");
                Ok(())
            }
            Some((which, why)) if !done => {
                let detail = if several {
                    format!("there is no alarm of key {whose} that the command could change")
                } else {
                    format!(
                        "the alarm {} of key {whose} {why}",
                        self.plan.rules[which].name
                    )
                };
                Err(discard("command_without_effect", detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether a command names an alarm that is none of these, but of another call that takes the same commands.
    fn is_for_others(&self, name: &Value) -> bool {
        let Value::Str(name) = name else {
            return false;
        };
        let is = |known: &CompactString| known.eq_ignore_ascii_case(name.trim());
        self.beside.iter().any(is) && !self.plan.rules.iter().any(|rule| is(&rule.name))
    }

    /// The alarms that a command names: all for NULL.
    fn named(&self, name: &Value) -> Result<Vec<usize>, Discard> {
        let mut rules = self.plan.rules.iter();
        let Value::Str(name) = name else {
            return Ok((0..rules.len()).collect());
        };
        let found = rules.position(|rule| rule.name.eq_ignore_ascii_case(name.trim()));
        found.map(|which| vec![which]).ok_or_else(|| {
            let known: Vec<&str> = self.plan.rules.iter().map(|r| r.name.as_str()).collect();
            let detail = format!(
                "there is no alarm '{name}'; the alarms are {}, and NULL means all",
                known.join(", ")
            );
            discard("command_unknown_alarm", detail)
        })
    }
}

/// What `command`, `alarm`, `duration`, `until` say; `cut` brings a time to the digits that are given.
fn act(
    said: &[Value],
    now: EventTime,
    cut: impl Fn(EventTime) -> EventTime,
) -> Result<Act, Discard> {
    let invalid = |detail: String| discard("command_invalid", detail);
    let [Value::Str(command), _, duration, until] = said else {
        return Err(invalid(
            "the command is NULL: send 'acknowledge', 'shelve' or 'unshelve'".to_owned(),
        ));
    };
    match command.trim().to_ascii_lowercase().as_str() {
        "acknowledge" => Ok(Act::Acknowledge),
        "unshelve" => Ok(Act::Unshelve),
        "shelve" => {
            let until = match (span(duration)?, until) {
                (None, Value::Timestamp(micros)) => EventTime::from_micros(*micros),
                (Some(span), Value::Null) => now.plus(span),
                _ => {
                    return Err(invalid(
                        "shelving needs either a duration, such as '8 h', or a time until which it lasts"
                            .to_owned(),
                    ));
                }
            };
            let until = cut(until);
            if until <= now || until > now.plus(MAX_SHELVED) {
                return Err(invalid(format!(
                    "an alarm cannot be shelved until {until}: that must be after the present time of its key, {now}, and \
                     at most {MAX_SHELVED} later"
                )));
            }
            Ok(Act::Shelve { until })
        }
        other => Err(invalid(format!(
            "'{other}' is no command: send 'acknowledge', 'shelve' or 'unshelve'"
        ))),
    }
}

/// A duration: an interval, seconds, or text such as `8 h`.
fn span(value: &Value) -> Result<Option<Timespan>, Discard> {
    let micros = match value {
        Value::Null => return Ok(None),
        Value::Interval(micros) => *micros,
        // Beyond the bound it does not matter by how much: the cast saturates.
        Value::Double(seconds) => (seconds * 1e6).round() as i64,
        Value::Str(text) => {
            let span = quantity::parse_duration(text);
            let span = span.map_err(|why| discard("command_invalid", why))?;
            i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
        }
        _ => 0,
    };
    Ok(Some(Timespan::from_micros(micros)))
}

fn discard(reason: &'static str, detail: String) -> Discard {
    Discard { reason, detail }
}
