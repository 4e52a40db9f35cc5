//! Alarms, as the table function ALARM is planned: when each is raised and cleared, and what may be done to it.

use std::fmt::Write;

use compact_str::CompactString;

use crate::expr::Expr;
use crate::types::{Schema, Timespan};

use super::{LateRows, Operator, Plan, SourceId, TableId};

/// The most alarms of one call: what a reading says of all of them fits one word.
pub const MAX_ALARMS: usize = 16;

/// For how long an alarm can be shelved at most.
pub const MAX_SHELVED: Timespan = Timespan::from_secs(7 * 86_400);

/// The alarms of one stream, for each key.
///
/// Output: the key; `alarm`, `severity`, `event`, `state`, `at`, `raised_at`, `duration`, `value`, `peak`, `first_out`,
/// `raises`, `raises_last_minute`, `chattering`, `shelved_until`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarms {
    /// The columns that make the key; none for one key.
    pub partition: Vec<usize>,
    /// The column with the event time.
    pub time: usize,
    /// The resolution of the times that it gives.
    pub unit: Timespan,
    /// A DOUBLE: what limits and peaks are of.
    pub value: Option<Expr>,
    /// The alarms, at most [`MAX_ALARMS`]. Of those that are raised by one reading an earlier one is the first.
    pub rules: Vec<AlarmRule>,
    /// The keys that are to report.
    pub expected: Option<ExpectedKeys>,
    /// Whether there is a second input with commands: the key, then `command`, `alarm`, `duration`, `until`.
    pub commands: bool,
    /// What becomes of late rows.
    pub late: LateRows,
}

/// One alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRule {
    /// Its name, such as `HI`.
    pub name: CompactString,
    /// How severe it is, for people.
    pub severity: Option<CompactString>,
    /// What raises and clears it.
    pub trigger: Trigger,
    /// How long its condition must hold before it is raised; zero for at once.
    pub on_delay: Timespan,
    /// How long its condition must be gone before it is cleared; zero for at once.
    pub off_delay: Timespan,
    /// After how long it is told again while it stands and nobody has acknowledged it.
    pub re_alarm: Option<Timespan>,
    /// Whether it stands until it is acknowledged.
    pub latch: bool,
}

/// What raises and clears an alarm: BOOLEANs over the row.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// The value is at or beyond a limit.
    Limit {
        /// Whether the limit is a lower one, so that the least value is its peak.
        low: bool,
        /// Whether the value is at the limit or beyond.
        raise: Expr,
        /// Whether the value is inside of the limit by more than the deadband.
        clear: Expr,
    },
    /// A condition holds.
    Condition {
        /// The condition.
        raise: Expr,
        /// What clears it; without, that the condition is false.
        clear: Option<Expr>,
    },
    /// Nothing has come.
    Silence {
        /// For how long.
        after: Timespan,
        /// How far behind a start of the gateway event time must be.
        grace: Timespan,
    },
}

/// A table with the keys that are to report.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedKeys {
    /// The table.
    pub table: TableId,
    /// The key, over the table's row, in the types of the partition.
    pub keys: Vec<Expr>,
}

impl Plan {
    /// Whether somebody waits for keys of a source that may never report: then time must begin without them.
    pub fn waits_for_unheard(&self, source: SourceId) -> bool {
        let mut behind = vec![false; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            let mut inputs = node.inputs.iter().enumerate();
            behind[at] = node.operator == Operator::Source(source)
                || inputs.any(|(input, from)| behind[from.0] && node.operator.leads(input));
            if let Operator::Alarms(alarms) = &node.operator
                && behind[at]
                && alarms.expected.is_some()
            {
                return true;
            }
        }
        false
    }

    /// The alarms of other calls that take commands from a table from which this node, an ALARM, takes its own.
    pub fn alarms_beside(&self, node: usize) -> Vec<CompactString> {
        let own = self.command_sources(node);
        let mut names = Vec::new();
        for (at, other) in self.nodes.iter().enumerate() {
            if let Operator::Alarms(alarms) = &other.operator
                && at != node
                && self.command_sources(at).iter().any(|s| own.contains(s))
            {
                names.extend(alarms.rules.iter().map(|rule| rule.name.clone()));
            }
        }
        names
    }

    /// The sources of the commands to a node.
    pub fn command_sources(&self, node: usize) -> Vec<SourceId> {
        let node = &self.nodes[node];
        let mut behind = match node.operator {
            Operator::Alarms(_) => node.inputs.iter().skip(1).copied().collect(),
            _ => Vec::new(),
        };
        let mut sources = Vec::new();
        while let Some(at) = behind.pop() {
            let node = &self.nodes[at.0];
            if let Operator::Source(source) = node.operator {
                sources.push(source);
            }
            behind.extend(&node.inputs);
        }
        sources
    }
}

impl Alarms {
    /// The silence that raises an alarm, and the grace after a start; with the alarm's position.
    pub fn silence(&self) -> Option<(usize, Timespan, Timespan)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find_map(|(at, rule)| match rule.trigger {
            Trigger::Silence { after, grace } => Some((at, after, grace)),
            _ => None,
        })
    }

    /// The text that decides what its state belongs to; `table` is that of the expected keys. Limits, conditions and
    /// delays are no part of it: whoever moves a setpoint does not want to lose what stands, is latched or shelved.
    pub fn identity(&self, table: &str) -> String {
        let mut text = format!(
            "alarms #{} {} by {:?} of",
            self.time,
            self.unit.as_micros(),
            self.partition
        );
        // Writing to a string cannot fail.
        if let Some(value) = &self.value {
            let _ = write!(text, " [{value}]");
        }
        for rule in &self.rules {
            let kind = match &rule.trigger {
                Trigger::Limit { low: false, .. } => "above",
                Trigger::Limit { low: true, .. } => "below",
                Trigger::Condition { .. } => "if",
                Trigger::Silence { .. } => "silent",
            };
            let _ = write!(text, " {:?} {kind}", rule.name);
        }
        if let Some(expected) = &self.expected {
            let _ = write!(text, " expected {table}");
            for key in &expected.keys {
                let _ = write!(text, " [{key}]");
            }
        }
        let _ = write!(text, " {} {:?}", self.commands, self.late);
        text
    }

    /// The text that decides what it does, beyond its identity.
    pub fn settings(&self) -> String {
        let mut text = String::new();
        for rule in &self.rules {
            let _ = write!(
                text,
                " {:?} {} {} {:?} {}",
                rule.severity,
                rule.on_delay.as_micros(),
                rule.off_delay.as_micros(),
                rule.re_alarm.map(Timespan::as_micros),
                rule.latch
            );
            let _ = match &rule.trigger {
                Trigger::Limit { raise, clear, .. } => write!(text, " limit [{raise}] [{clear}]"),
                Trigger::Condition { raise, clear: None } => write!(text, " if [{raise}]"),
                Trigger::Condition {
                    raise,
                    clear: Some(clear),
                } => write!(text, " if [{raise}] until [{clear}]"),
                Trigger::Silence { after, grace } => {
                    write!(text, " silent {} {}", after.as_micros(), grace.as_micros())
                }
            };
        }
        text
    }

    /// The alarms for people in one line, over their input.
    pub(super) fn title(&self, input: &Schema) -> String {
        let name = |at: &usize| input.columns[*at].name.as_str();
        let mut text = "alarms".to_owned();
        if let Some(value) = &self.value {
            let _ = write!(text, " on {}", super::explain::described(value, input));
        }
        if !self.partition.is_empty() {
            let keys: Vec<&str> = self.partition.iter().map(name).collect();
            let _ = write!(text, " by {}", keys.join(", "));
        }
        let _ = write!(text, ", time {}", name(&self.time));
        text
    }

    /// Each alarm for people, over the input; `table` is that of the expected keys.
    pub(super) fn details(&self, input: &Schema, table: Option<&str>) -> Vec<String> {
        let mut lines = Vec::new();
        if self.late == LateRows::Table {
            lines.push("late rows go to a table".to_owned());
        }
        let described = |expr| super::explain::described(expr, input);
        for rule in &self.rules {
            let mut text = rule.name.to_string();
            if let Some(severity) = &rule.severity {
                let _ = write!(text, " ({severity})");
            }
            let _ = match &rule.trigger {
                Trigger::Limit { raise, clear, .. }
                | Trigger::Condition {
                    raise,
                    clear: Some(clear),
                } => write!(text, " if {}, until {}", described(raise), described(clear)),
                Trigger::Condition { raise, clear: None } => {
                    write!(text, " if {}", described(raise))
                }
                Trigger::Silence { after, grace } => {
                    write!(
                        text,
                        " if nothing comes for {after}, not within {grace} of a start"
                    )
                }
            };
            for (span, what) in [
                (rule.on_delay, "raised after"),
                (rule.off_delay, "cleared after"),
                (rule.re_alarm.unwrap_or_default(), "again every"),
            ] {
                if span.is_positive() {
                    let _ = write!(text, ", {what} {span}");
                }
            }
            if rule.latch {
                text.push_str(", until it is acknowledged");
            }
            lines.push(text);
        }
        if self.commands {
            lines.push("commands come by the second input".to_owned());
        }
        if let Some(table) = table {
            lines.push(format!("keys of the table {table} are to report"));
        }
        lines
    }
}
