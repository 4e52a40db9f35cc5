//! The state machine of one alarm of one key, by the definitions of ISA-18.2 and OPC UA Part 9, section 5.8.
//!
//! Two layers. The [`Signal`] says whether the condition stands, after its delays; it follows the readings whatever
//! people do. The [`Phase`] says what people know of it. An alarm *stands* from its `raised` to its `cleared` or
//! `shelved`: between two `raised` there is always one of them.
//!
//! Not here: which reading raises what (the operator has evaluated that), time (it is an argument, and never goes back)
//! and other alarms (whether one is the first is told with the moment).

mod stored;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

pub(super) use self::stored::{decode_number, decode_time, encode_number, encode_time};

use crate::plan::AlarmRule;
use crate::types::{EventTime, Timespan};

/// Raises within so long make an alarm chatter,
const CHATTER_SPAN: Timespan = Timespan::from_secs(60);
/// if there are so many of them (ISA-18.2).
pub(super) const CHATTER_RAISES: usize = 3;
/// Raises of the last minute that are counted at most.
const MAX_RECENT: usize = 16;

/// Whether the condition of an alarm stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Signal {
    /// It does not.
    #[default]
    Off,
    /// It has come, and must hold until the on-delay is over.
    Rising {
        since: EventTime,
        /// The most extreme value since.
        peak: Option<f64>,
    },
    /// It does.
    On,
    /// It has gone, and must stay so until the off-delay is over.
    Falling { since: EventTime },
}

/// What people know of an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Normal,
    Standing {
        acknowledged: bool,
    },
    /// Its condition is gone, and it stands until it is acknowledged.
    Latched,
    Shelved {
        until: EventTime,
        /// Whether nobody had acknowledged it, and it is latched: shelving does not do that for them.
        latched: bool,
    },
}

/// What happens to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Raised,
    Returned,
    Cleared,
    /// Told again.
    ReAlarmed,
    /// Told again, because its condition has come again while it was latched.
    CameAgain,
    Acknowledged,
    Shelved,
    Unshelved,
}

impl Event {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Returned => "returned",
            Self::Cleared => "cleared",
            Self::ReAlarmed | Self::CameAgain => "re-alarmed",
            Self::Acknowledged => "acknowledged",
            Self::Shelved => "shelved",
            Self::Unshelved => "unshelved",
        }
    }
}

/// A change of an alarm, as it is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) event: Event,
    /// The state behind it.
    pub(super) state: &'static str,
    /// Since when it stands, or stood until now.
    pub(super) raised_at: Option<EventTime>,
    /// The most extreme value since its condition came.
    pub(super) peak: Option<f64>,
    /// Whether it is the first of those that stand.
    pub(super) first: Option<bool>,
    pub(super) raises: u64,
    pub(super) raises_last_minute: usize,
    pub(super) shelved_until: Option<EventTime>,
}

/// What is so when something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: EventTime,
    /// The last value that is known.
    pub(super) value: Option<f64>,
    /// Whether no other alarm of the key stands.
    pub(super) alone: bool,
}

/// An alarm. Time given to it never goes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Alarm {
    signal: Signal,
    phase: Phase,
    /// Of an alarm that stands, or is latched behind its shelving:
    raised_at: Option<EventTime>,
    first: bool,
    /// The most extreme value since its condition came, also while it is shelved.
    peak: Option<f64>,
    /// when it was told last that it stands.
    told_at: Option<EventTime>,
    /// How often it was raised, or came again while it was latched.
    raises: u64,
    /// When: the last of them.
    recent: SmallVec<[EventTime; 3]>,
}

impl Alarm {
    /// Whether nothing has ever happened to it.
    pub(super) fn is_fresh(&self) -> bool {
        *self == Self::default()
    }

    /// Since when it stands, or stood when it was shelved and latched.
    pub(super) const fn raised_at(&self) -> Option<EventTime> {
        self.raised_at
    }

    /// Whether it was told later than then.
    pub(super) fn is_later_than(&self, time: EventTime) -> bool {
        self.told_at.max(self.raised_at) > Some(time)
    }

    /// Has it told no later than then.
    pub(super) fn take_back(&mut self, time: EventTime) {
        let no_later = |told: Option<EventTime>| told.map(|told| told.min(time));
        (self.told_at, self.raised_at) = (no_later(self.told_at), no_later(self.raised_at));
    }

    /// Whether it stands.
    pub(super) const fn stands(&self) -> bool {
        matches!(self.phase, Phase::Standing { .. } | Phase::Latched)
    }

    /// Whether its condition stands, as far as delays have let it.
    pub(super) const fn is_signalled(&self) -> bool {
        !matches!(self.signal, Signal::Off)
    }

    /// A reading: whether it raises and whether it clears the alarm, each `None` where that is not known.
    pub(super) fn reading(
        &mut self,
        rule: &Behaviour,
        raise: Option<bool>,
        clear: Option<bool>,
        now: Moment,
        out: &mut Vec<Change>,
    ) {
        // A reading that says nothing of the condition says nothing of the peak.
        let value = now.value.filter(|_| raise.is_some());
        match self.signal {
            Signal::Off if raise == Some(true) => {
                self.signal = Signal::Rising {
                    since: now.at,
                    peak: value,
                };
                if !rule.on_delay.is_positive() {
                    self.come(rule, now, out);
                }
            }
            Signal::Off => {}
            Signal::Rising { .. } if raise == Some(false) => self.signal = Signal::Off,
            Signal::Rising { since, peak } => {
                self.signal = Signal::Rising {
                    since,
                    peak: rule.extreme(peak, value),
                };
            }
            Signal::On | Signal::Falling { .. } => {
                match (self.signal, clear) {
                    (Signal::On, Some(true)) => {
                        self.signal = Signal::Falling { since: now.at };
                        if !rule.off_delay.is_positive() {
                            self.go(rule, now, out);
                        }
                    }
                    (Signal::Falling { .. }, Some(false)) => self.signal = Signal::On,
                    _ => {}
                }
                // The reading that has ended it is no part of it.
                if self.is_signalled() {
                    self.peak = rule.extreme(self.peak, value);
                }
            }
        }
    }

    /// When time alone will change it.
    pub(super) fn due(&self, rule: &Behaviour) -> Option<EventTime> {
        let signal = match self.signal {
            Signal::Rising { since, .. } => Some(since.plus(rule.on_delay)),
            Signal::Falling { since } => Some(since.plus(rule.off_delay)),
            Signal::Off | Signal::On => None,
        };
        signal.into_iter().chain(self.phase_due(rule)).min()
    }

    /// When people are to be told of it though its condition has not changed.
    pub(super) fn phase_due(&self, rule: &Behaviour) -> Option<EventTime> {
        match self.phase {
            Phase::Standing {
                acknowledged: false,
            } => self
                .told_at
                .zip(rule.re_alarm)
                .map(|(told, after)| told.plus(after).max(rule.told_from)),
            Phase::Shelved { until, .. } => Some(until),
            _ => None,
        }
    }

    /// When time alone will change it though no reading comes: of readings it is theirs, and delays wait for it.
    pub(super) fn due_unheard(&self, rule: &Behaviour) -> Option<EventTime> {
        if rule.of_readings {
            self.phase_due(rule)
        } else {
            self.due(rule)
        }
    }

    /// Time has passed up to a moment; the readings at it have been taken.
    pub(super) fn pass(&mut self, rule: &Behaviour, now: Moment, out: &mut Vec<Change>) {
        match self.signal {
            Signal::Rising { since, .. } if since.plus(rule.on_delay) <= now.at => {
                self.come(rule, now, out);
            }
            Signal::Falling { since } if since.plus(rule.off_delay) <= now.at => {
                self.go(rule, now, out);
            }
            _ => {}
        }
        self.pass_phase(rule, now, out);
    }

    /// The same, of what people are told alone.
    pub(super) fn pass_phase(&mut self, rule: &Behaviour, now: Moment, out: &mut Vec<Change>) {
        if self.phase_due(rule).is_none_or(|due| due > now.at) {
            return;
        }
        if let Phase::Shelved { latched, .. } = self.phase {
            self.end_shelving(rule, latched, now, out);
        } else {
            self.told_at = Some(now.at);
            out.push(self.change(Event::ReAlarmed, now.at));
        }
    }

    /// The input has ended: nothing is told again, or it would be for ever.
    pub(super) fn tell_no_more(&mut self) {
        self.told_at = None;
    }

    /// Its condition stands from now on.
    pub(super) fn come(&mut self, rule: &Behaviour, now: Moment, out: &mut Vec<Change>) {
        let peak = match self.signal {
            Signal::Rising { peak, .. } => peak,
            _ => None,
        };
        self.signal = Signal::On;
        match self.phase {
            Phase::Normal => self.raise(peak, now, out),
            Phase::Latched => {
                self.peak = rule.extreme(self.peak, peak);
                self.phase = Phase::Standing {
                    acknowledged: false,
                };
                self.told_at = Some(now.at);
                self.count(now.at);
                out.push(self.change(Event::CameAgain, now.at));
            }
            Phase::Shelved { .. } => self.peak = rule.extreme(self.peak, peak),
            Phase::Standing { .. } => {}
        }
    }

    /// Its condition does not stand any more.
    pub(super) fn go(&mut self, rule: &Behaviour, now: Moment, out: &mut Vec<Change>) {
        self.signal = Signal::Off;
        match self.phase {
            Phase::Standing {
                acknowledged: false,
            } if rule.latch => {
                self.phase = Phase::Latched;
                out.push(self.change(Event::Returned, now.at));
            }
            Phase::Standing { .. } => self.clear(now.at, out),
            Phase::Shelved { latched: false, .. } => self.forget(),
            Phase::Shelved { latched: true, .. } | Phase::Normal | Phase::Latched => {}
        }
    }

    /// Nobody waits for what it is about any more: whether it is latched or shelved, it is over.
    pub(super) fn withdraw(&mut self, now: Moment, out: &mut Vec<Change>) {
        self.signal = Signal::Off;
        match self.phase {
            Phase::Standing { .. } | Phase::Latched => self.clear(now.at, out),
            Phase::Shelved { .. } => {
                self.forget();
                self.phase = Phase::Normal;
                out.push(self.change(Event::Unshelved, now.at));
            }
            Phase::Normal => {}
        }
    }

    /// Somebody has seen it; the error says why that changes nothing.
    pub(super) fn acknowledge(
        &mut self,
        now: Moment,
        out: &mut Vec<Change>,
    ) -> Result<(), &'static str> {
        match self.phase {
            Phase::Standing {
                acknowledged: false,
            } => {
                self.phase = Phase::Standing { acknowledged: true };
                out.push(self.change(Event::Acknowledged, now.at));
            }
            Phase::Latched => {
                let mut seen = self.change(Event::Acknowledged, now.at);
                seen.state = "normal";
                out.push(seen);
                self.clear(now.at, out);
            }
            Phase::Standing { acknowledged: true } => return Err("is acknowledged already"),
            Phase::Shelved { .. } => return Err("is shelved"),
            Phase::Normal => return Err("does not stand"),
        }
        Ok(())
    }

    /// Nobody is to be told of it until then.
    pub(super) fn shelve(
        &mut self,
        rule: &Behaviour,
        until: EventTime,
        now: Moment,
        out: &mut Vec<Change>,
    ) {
        let latched = match self.phase {
            Phase::Standing { acknowledged } => rule.latch && !acknowledged,
            Phase::Latched => true,
            Phase::Shelved { latched, .. } => latched,
            Phase::Normal => false,
        };
        self.phase = Phase::Shelved { until, latched };
        out.push(self.change(Event::Shelved, now.at));
        self.told_at = None;
        if !latched {
            let signalled = matches!(self.signal, Signal::On | Signal::Falling { .. });
            let peak = self.peak.filter(|_| signalled);
            self.forget();
            self.peak = peak;
        }
    }

    /// Ends that before its time; the error says why that changes nothing.
    pub(super) fn unshelve(
        &mut self,
        rule: &Behaviour,
        now: Moment,
        out: &mut Vec<Change>,
    ) -> Result<(), &'static str> {
        match self.phase {
            Phase::Shelved { latched, .. } => {
                self.end_shelving(rule, latched, now, out);
                Ok(())
            }
            _ => Err("is not shelved"),
        }
    }

    /// What stands by now is raised; what is `latched` and has gone waits for whoever acknowledges it.
    fn end_shelving(
        &mut self,
        rule: &Behaviour,
        latched: bool,
        now: Moment,
        out: &mut Vec<Change>,
    ) {
        let stands = match self.signal {
            Signal::On => true,
            // Its delay may be over by the clock before its time has come by readings.
            Signal::Falling { since } => since.plus(rule.off_delay) > now.at,
            Signal::Off | Signal::Rising { .. } => false,
        };
        if stands {
            let peak = self.peak;
            self.forget();
            self.phase = Phase::Normal;
            out.push(self.change(Event::Unshelved, now.at));
            self.raise(peak, now, out);
            return;
        }
        self.phase = if latched {
            Phase::Latched
        } else {
            Phase::Normal
        };
        out.push(self.change(Event::Unshelved, now.at));
    }

    fn raise(&mut self, peak: Option<f64>, now: Moment, out: &mut Vec<Change>) {
        self.phase = Phase::Standing {
            acknowledged: false,
        };
        (self.raised_at, self.told_at) = (Some(now.at), Some(now.at));
        (self.peak, self.first) = (peak, now.alone);
        self.count(now.at);
        out.push(self.change(Event::Raised, now.at));
    }

    fn clear(&mut self, at: EventTime, out: &mut Vec<Change>) {
        self.phase = Phase::Normal;
        out.push(self.change(Event::Cleared, at));
        self.forget();
    }

    /// What belongs to an alarm that stands.
    fn forget(&mut self) {
        (self.raised_at, self.told_at, self.peak, self.first) = (None, None, None, false);
    }

    fn count(&mut self, at: EventTime) {
        self.raises += 1;
        self.recent
            .retain(|raised| *raised > at.minus(CHATTER_SPAN) && *raised <= at);
        if self.recent.len() == MAX_RECENT {
            self.recent.remove(0);
        }
        self.recent.push(at);
    }

    fn change(&self, event: Event, at: EventTime) -> Change {
        let last_minute = self.recent.iter();
        let shelved_until = match self.phase {
            Phase::Shelved { until, .. } => Some(until),
            _ => None,
        };
        Change {
            event,
            state: match self.phase {
                Phase::Normal => "normal",
                Phase::Standing {
                    acknowledged: false,
                } => "unacknowledged",
                Phase::Standing { acknowledged: true } => "acknowledged",
                Phase::Latched => "latched unacknowledged",
                Phase::Shelved { .. } => "shelved",
            },
            raised_at: self.raised_at,
            peak: self.peak,
            first: self.raised_at.map(|_| self.first),
            raises: self.raises,
            raises_last_minute: last_minute
                .filter(|raised| **raised > at.minus(CHATTER_SPAN) && **raised <= at)
                .count(),
            shelved_until,
        }
    }
}

/// What decides how an alarm behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) on_delay: Timespan,
    pub(super) off_delay: Timespan,
    pub(super) re_alarm: Option<Timespan>,
    pub(super) latch: bool,
    /// Whether the least value is its peak.
    pub(super) low: bool,
    /// Whether it is of readings, and so has a peak.
    pub(super) of_readings: bool,
    /// The start of the gateway: what would have been told again while it was off is told once, then.
    pub(super) told_from: EventTime,
}

impl Behaviour {
    /// That of a rule of the plan.
    pub(super) fn of(rule: &AlarmRule) -> Self {
        use crate::plan::Trigger;
        Self {
            on_delay: rule.on_delay,
            off_delay: rule.off_delay,
            re_alarm: rule.re_alarm,
            latch: rule.latch,
            low: matches!(rule.trigger, Trigger::Limit { low: true, .. }),
            of_readings: !matches!(rule.trigger, Trigger::Silence { .. }),
            told_from: EventTime::MIN,
        }
    }

    fn extreme(&self, one: Option<f64>, other: Option<f64>) -> Option<f64> {
        match (one, other) {
            (Some(one), Some(other)) if self.low => Some(one.min(other)),
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        }
    }
}
