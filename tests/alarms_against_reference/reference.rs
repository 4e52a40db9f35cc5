//! The reference: a key goes through its whole input second by second, looking back at all readings each time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Message, Rule, Settings};

/// Behind the last row everything that is due by itself has happened.
const HORIZON: i64 = 4_000;

/// An alarm of a key in the reference.
#[derive(Clone, Debug)]
struct Alarm {
    rule: Rule,
    /// How many readings of the key had come when its condition last began or ceased to stand.
    turned: usize,
    signalled: bool,
    state: &'static str,
    raised: Option<i64>,
    told: i64,
    first: bool,
    peak: Option<f64>,
    shelved: Option<i64>,
    /// Whether it waits for an acknowledgement behind its shelving.
    kept: bool,
    raises: Vec<i64>,
}

/// What a reading says of an alarm: raised, cleared.
fn says(name: &str, deadband: f64, value: Option<f64>) -> Option<(bool, bool)> {
    let v = value?;
    Some(match name {
        "HI" => (v >= 8.0, v < 8.0 - deadband),
        "HIHI" => (v >= 10.0, v < 10.0 - deadband),
        "LO" => (v <= 2.0, v > 2.0 + deadband),
        _ => ([3.0, 5.0, 7.0, 9.0].contains(&v), [4.0, 6.0].contains(&v)),
    })
}

struct Key {
    number: u64,
    deadband: f64,
    silent: Option<i64>,
    /// All readings so far, in order.
    readings: Vec<(i64, Option<f64>)>,
    alarms: Vec<Alarm>,
    out: Vec<Value>,
}

impl Key {
    fn value(&self) -> Option<f64> {
        self.readings.iter().rev().find_map(|(_, value)| *value)
    }

    /// Since when all known readings raise (or clear) an alarm without a break, of those after it last turned.
    fn since(&self, which: usize, raise: bool) -> Option<i64> {
        let alarm = &self.alarms[which];
        let mut since = None;
        for (time, value) in self.readings[alarm.turned..].iter().rev() {
            match says(alarm.rule.name, self.deadband, *value) {
                None => {}
                Some((raised, cleared)) if (raise && raised) || (!raise && cleared) => {
                    since = Some(*time);
                }
                Some(_) => break,
            }
        }
        since
    }

    fn tell(&mut self, which: usize, event: &str, state: &'static str, now: i64) {
        let value = self.value();
        let alarm = &mut self.alarms[which];
        alarm.state = state;
        let recent = alarm.raises.iter().filter(|raised| **raised > now - 60);
        self.out.push(json!({
            "k": self.number, "alarm": alarm.rule.name, "event": event, "state": state, "at": now,
            "raised_at": alarm.raised, "duration": alarm.raised.map(|raised| (now - raised) as f64),
            "value": value, "peak": alarm.peak, "first_out": alarm.raised.map(|_| alarm.first),
            "raises": alarm.raises.len(), "raises_last_minute": recent.count().min(16),
            "shelved_until": alarm.shelved,
        }));
    }

    fn extreme(&self, which: usize, values: &[Option<f64>]) -> Option<f64> {
        let low = self.alarms[which].rule.name == "LO";
        let known = values.iter().copied().flatten();
        known.reduce(|one, other| if low { one.min(other) } else { one.max(other) })
    }

    fn raise(&mut self, which: usize, peak: Option<f64>, now: i64) {
        let others = self.alarms.iter().enumerate();
        let alone = others.into_iter().all(|(other, alarm)| {
            other == which || alarm.raised.is_none() || alarm.shelved.is_some()
        });
        let alarm = &mut self.alarms[which];
        (alarm.raised, alarm.told, alarm.first, alarm.peak) = (Some(now), now, alone, peak);
        alarm.raises.push(now);
        self.tell(which, "raised", "unacknowledged", now);
    }

    fn clear(&mut self, which: usize, now: i64) {
        self.tell(which, "cleared", "normal", now);
        self.forget(which);
    }

    fn forget(&mut self, which: usize) {
        (self.alarms[which].raised, self.alarms[which].peak) = (None, None);
    }

    /// The condition of an alarm begins to stand, or ceases to.
    fn turn(&mut self, which: usize, on: bool, since: i64, now: i64) {
        let alarm = &mut self.alarms[which];
        alarm.signalled = on;
        alarm.turned = self.readings.len();
        let (state, latch) = (alarm.state, alarm.rule.latch);
        if on {
            let of_readings = alarm.rule.name != "SILENT";
            let run = self
                .readings
                .iter()
                .filter(|(time, _)| of_readings && *time >= since);
            let mut run: Vec<Option<f64>> = run.map(|(_, value)| *value).collect();
            // Of readings at that very second only those of the run.
            let broken = |value: &Option<f64>| {
                says(self.alarms[which].rule.name, self.deadband, *value).is_some_and(|(r, _)| !r)
            };
            if let Some(last) = run.iter().rposition(broken) {
                run.drain(..=last);
            }
            match state {
                "normal" => {
                    let peak = self.extreme(which, &run);
                    self.raise(which, peak, now);
                }
                "latched unacknowledged" => {
                    run.push(self.alarms[which].peak);
                    self.alarms[which].peak = self.extreme(which, &run);
                    self.alarms[which].told = now;
                    self.alarms[which].raises.push(now);
                    self.tell(which, "re-alarmed", "unacknowledged", now);
                }
                "shelved" => {
                    run.push(self.alarms[which].peak);
                    self.alarms[which].peak = self.extreme(which, &run);
                }
                _ => {}
            }
        } else {
            match state {
                "unacknowledged" if latch => {
                    self.tell(which, "returned", "latched unacknowledged", now);
                }
                "unacknowledged" | "acknowledged" => self.clear(which, now),
                "shelved" if !self.alarms[which].kept => self.forget(which),
                _ => {}
            }
        }
    }

    fn read(&mut self, now: i64, value: Option<f64>) {
        self.readings.push((now, value));
        let silence = self.alarms.iter().position(|a| a.rule.name == "SILENT");
        if let Some(which) = silence.filter(|which| self.alarms[*which].signalled) {
            self.turn(which, false, now, now);
        }
        for which in 0..self.alarms.len() {
            let alarm = &self.alarms[which];
            let (rule, signalled) = (alarm.rule.clone(), alarm.signalled);
            if rule.name == "SILENT" {
                continue;
            }
            let Some((raised, cleared)) = says(rule.name, self.deadband, value) else {
                continue;
            };
            if !signalled && raised && rule.on == 0 {
                self.turn(which, true, now, now);
            } else if signalled && cleared && rule.off == 0 {
                self.turn(which, false, now, now);
            } else if signalled {
                let peak = self.alarms[which].peak;
                self.alarms[which].peak = self.extreme(which, &[peak, value]);
            }
        }
    }

    /// What is due at the end of a second; nothing is told again behind `last`.
    fn pass(&mut self, now: i64, last: i64) {
        for which in 0..self.alarms.len() {
            let rule = self.alarms[which].rule.clone();
            if rule.name == "SILENT" {
                self.pass_phase(which, &rule, now, last);
                continue;
            }
            let signalled = self.alarms[which].signalled;
            let after = if signalled { rule.off } else { rule.on };
            if let Some(since) = self.since(which, !signalled)
                && since + after <= now
            {
                self.turn(which, !signalled, since, now);
            }
            self.pass_phase(which, &rule, now, last);
        }
        if let (Some(silent), Some((heard, _))) = (self.silent, self.readings.last().copied()) {
            let which = self.alarms.len() - 1;
            if heard + silent <= now && !self.alarms[which].signalled {
                self.turn(which, true, now, now);
            }
        }
    }

    fn pass_phase(&mut self, which: usize, rule: &Rule, now: i64, last: i64) {
        let alarm = &self.alarms[which];
        let again = rule.again.is_some_and(|again| alarm.told + again <= now);
        if alarm.state == "unacknowledged" && again && now <= last {
            self.alarms[which].told = now;
            self.tell(which, "re-alarmed", "unacknowledged", now);
        } else if alarm.shelved.is_some_and(|until| until <= now) {
            self.unshelve(which, now);
        }
    }

    fn unshelve(&mut self, which: usize, now: i64) {
        self.alarms[which].shelved = None;
        let kept = std::mem::take(&mut self.alarms[which].kept);
        if self.alarms[which].signalled {
            let peak = self.alarms[which].peak;
            self.forget(which);
            self.tell(which, "unshelved", "normal", now);
            self.raise(which, peak, now);
        } else if kept {
            self.tell(which, "unshelved", "latched unacknowledged", now);
        } else {
            self.tell(which, "unshelved", "normal", now);
        }
    }

    /// False if the command changes nothing.
    fn command(
        &mut self,
        command: &str,
        alarm: Option<&str>,
        seconds: Option<i64>,
        now: i64,
    ) -> bool {
        let mut done = false;
        for which in 0..self.alarms.len() {
            if alarm.is_some_and(|name| name != self.alarms[which].rule.name) {
                continue;
            }
            match (command, self.alarms[which].state) {
                ("acknowledge", "unacknowledged") => {
                    self.tell(which, "acknowledged", "acknowledged", now);
                }
                ("acknowledge", "latched unacknowledged") => {
                    self.tell(which, "acknowledged", "normal", now);
                    self.clear(which, now);
                }
                ("unshelve", "shelved") => self.unshelve(which, now),
                ("shelve", before) => {
                    let alarm = &mut self.alarms[which];
                    alarm.shelved = seconds.map(|seconds| now + seconds);
                    alarm.kept |= before == "latched unacknowledged"
                        || before == "unacknowledged" && alarm.rule.latch;
                    let (kept, signalled, peak) = (alarm.kept, alarm.signalled, alarm.peak);
                    self.tell(which, "shelved", "shelved", now);
                    if !kept {
                        self.forget(which);
                        self.alarms[which].peak = peak.filter(|_| signalled);
                    }
                }
                _ => continue,
            }
            done = true;
        }
        done
    }
}

/// The rows of each key, and how many messages are discarded.
pub(crate) fn reference(
    settings: &Settings,
    messages: &[Message],
) -> (BTreeMap<u64, Vec<Value>>, usize) {
    let mut watermark: Option<i64> = None;
    let mut readings: BTreeMap<u64, Vec<(i64, Option<f64>)>> = BTreeMap::new();
    let mut commands: Vec<(i64, &Message)> = Vec::new();
    let mut dead = 0;
    for message in messages {
        match message {
            Message::Reading { key, time, value } => {
                if watermark.is_some_and(|watermark| *time <= watermark) {
                    dead += 1;
                    continue;
                }
                readings.entry(*key).or_default().push((*time, *value));
                watermark = watermark.max(Some(time - settings.lateness));
            }
            Message::Command { key, .. } => match watermark {
                Some(watermark) if readings.contains_key(key) => {
                    commands.push((watermark, message));
                }
                _ => dead += 1,
            },
        }
    }
    let mut rows = BTreeMap::new();
    for (key, mut readings) in readings {
        readings.sort_by_key(|(time, _)| *time);
        let last = readings.last().unwrap().0.max(watermark.unwrap());
        let fresh = |rule: &Rule| Alarm {
            rule: rule.clone(),
            turned: 0,
            signalled: false,
            state: "normal",
            raised: None,
            told: 0,
            first: false,
            peak: None,
            shelved: None,
            kept: false,
            raises: Vec::new(),
        };
        let mut state = Key {
            number: key,
            deadband: settings.deadband,
            silent: settings.silent,
            readings: Vec::new(),
            alarms: settings.rules.iter().map(fresh).collect(),
            out: Vec::new(),
        };
        for now in 0..HORIZON {
            for (_, value) in readings.iter().filter(|(time, _)| *time == now) {
                state.read(now, *value);
            }
            state.pass(now, last);
            for (_, message) in commands.iter().filter(|(time, _)| *time == now) {
                if let Message::Command {
                    key: whose,
                    command,
                    alarm,
                    seconds,
                } = message
                    && *whose == key
                    && !state.command(command, *alarm, *seconds, now)
                {
                    dead += 1;
                }
            }
        }
        rows.insert(key, state.out);
    }
    (rows, dead)
}
