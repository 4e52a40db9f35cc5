//! The definitions of the standards, as scripts of readings, commands and time.

use super::*;

fn rule(on: i64, off: i64, re_alarm: i64, latch: bool) -> Behaviour {
    Behaviour {
        on_delay: Timespan::from_secs(on),
        off_delay: Timespan::from_secs(off),
        re_alarm: (re_alarm > 0).then(|| Timespan::from_secs(re_alarm)),
        latch,
        low: false,
        of_readings: true,
        told_from: EventTime::MIN,
    }
}

fn at(seconds: i64) -> Moment {
    Moment {
        at: EventTime::from_millis(seconds * 1_000),
        value: None,
        alone: true,
    }
}

/// An alarm under a script: what happens at which second, with time passing between.
struct Script {
    rule: Behaviour,
    alarm: Alarm,
    out: Vec<String>,
}

impl Script {
    fn new(rule: Behaviour) -> Self {
        Self {
            rule,
            alarm: Alarm::default(),
            out: Vec::new(),
        }
    }

    fn note(&mut self, now: EventTime, changes: &[Change]) {
        for change in changes {
            let second = now.as_millis() / 1_000;
            let text = format!("{second} {} {}", change.event.name(), change.state);
            self.out.push(text);
        }
    }

    /// What is due before the second; with `through`, also at it.
    fn pass(&mut self, seconds: i64, through: bool) {
        while let Some(due) = self.alarm.due(&self.rule) {
            if due > at(seconds).at || (due == at(seconds).at && !through) {
                break;
            }
            let mut changes = Vec::new();
            let now = Moment { at: due, ..at(0) };
            self.alarm.pass(&self.rule, now, &mut changes);
            self.note(due, &changes);
        }
    }

    fn read(mut self, seconds: i64, raise: Option<bool>) -> Self {
        self.pass(seconds, false);
        let mut changes = Vec::new();
        let clear = raise.map(|raise| !raise);
        let rule = self.rule;
        self.alarm
            .reading(&rule, raise, clear, at(seconds), &mut changes);
        self.note(at(seconds).at, &changes);
        self
    }

    fn acknowledge(mut self, seconds: i64) -> Self {
        self.pass(seconds, true);
        let mut changes = Vec::new();
        if let Err(why) = self.alarm.acknowledge(at(seconds), &mut changes) {
            self.out.push(format!("{seconds} {why}"));
        }
        self.note(at(seconds).at, &changes);
        self
    }

    fn shelve(mut self, seconds: i64, until: i64) -> Self {
        self.pass(seconds, true);
        let mut changes = Vec::new();
        self.alarm
            .shelve(&self.rule, at(until).at, at(seconds), &mut changes);
        self.note(at(seconds).at, &changes);
        self
    }

    #[track_caller]
    fn gives(mut self, seconds: i64, expected: &[&str]) {
        self.pass(seconds, true);
        assert_eq!(self.out, expected);
    }
}

const HOLDS: Option<bool> = Some(true);
const GONE: Option<bool> = Some(false);

#[test]
fn on_delay_holds_back_until_it_has_held_continuously() {
    let script = || Script::new(rule(10, 0, 0, false)).read(0, HOLDS);
    script().gives(9, &[]);
    script().gives(10, &["10 raised unacknowledged"]);
    // A reading at the very moment is taken first, and what it says counts.
    script().read(10, GONE).gives(60, &[]);
    script()
        .read(10, HOLDS)
        .gives(60, &["10 raised unacknowledged"]);
    // Broken off, it begins anew; no reading of the condition does not break it.
    script()
        .read(9, GONE)
        .read(9, HOLDS)
        .gives(60, &["19 raised unacknowledged"]);
    script()
        .read(9, None)
        .gives(60, &["10 raised unacknowledged"]);
}

#[test]
fn off_delay_holds_until_it_has_been_gone_continuously() {
    let script = || {
        Script::new(rule(0, 10, 0, false))
            .read(0, HOLDS)
            .read(1, GONE)
    };
    let raised = "0 raised unacknowledged";
    script().gives(10, &[raised]);
    script().gives(11, &[raised, "11 cleared normal"]);
    script().read(11, HOLDS).gives(60, &[raised]);
    script()
        .read(5, HOLDS)
        .read(6, GONE)
        .gives(60, &[raised, "16 cleared normal"]);
}

#[test]
fn it_is_told_again_until_somebody_has_acknowledged() {
    let script = || Script::new(rule(0, 0, 10, false)).read(0, HOLDS);
    let (raised, again) = ("0 raised unacknowledged", "10 re-alarmed unacknowledged");
    script().gives(25, &[raised, again, "20 re-alarmed unacknowledged"]);
    let seen = "15 acknowledged acknowledged";
    script().acknowledge(15).gives(60, &[raised, again, seen]);
    script()
        .read(15, GONE)
        .gives(60, &[raised, again, "15 cleared normal"]);
}

#[test]
fn a_latched_alarm_needs_both_its_condition_gone_and_somebody_who_has_seen_it() {
    let script = || Script::new(rule(0, 0, 0, true)).read(0, HOLDS);
    let raised = "0 raised unacknowledged";
    script().acknowledge(1).read(2, GONE).gives(
        9,
        &[raised, "1 acknowledged acknowledged", "2 cleared normal"],
    );
    let returned = "2 returned latched unacknowledged";
    script().read(2, GONE).acknowledge(3).gives(
        9,
        &[
            raised,
            returned,
            "3 acknowledged normal",
            "3 cleared normal",
        ],
    );
    // Its condition comes again: it has never been cleared.
    script().read(2, GONE).read(3, HOLDS).acknowledge(4).gives(
        9,
        &[
            raised,
            returned,
            "3 re-alarmed unacknowledged",
            "4 acknowledged acknowledged",
        ],
    );
    script()
        .acknowledge(1)
        .acknowledge(2)
        .read(3, GONE)
        .acknowledge(4)
        .gives(
            9,
            &[
                raised,
                "1 acknowledged acknowledged",
                "2 is acknowledged already",
                "3 cleared normal",
                "4 does not stand",
            ],
        );
}

#[test]
fn shelving_ends_by_itself_and_what_still_stands_is_raised() {
    let script = || Script::new(rule(5, 5, 0, false)).read(0, HOLDS);
    let (shelved, unshelved) = ("2 shelved shelved", "20 unshelved normal");
    // During the on-delay, which goes on.
    script()
        .shelve(2, 20)
        .gives(60, &[shelved, unshelved, "20 raised unacknowledged"]);
    script()
        .shelve(2, 20)
        .read(10, GONE)
        .gives(60, &[shelved, unshelved]);
    // It is over while the off-delay runs: the alarm still stands, and is cleared as usual.
    script().shelve(2, 20).read(18, GONE).gives(
        60,
        &[
            shelved,
            unshelved,
            "20 raised unacknowledged",
            "23 cleared normal",
        ],
    );
    // Of an alarm that stands.
    script().shelve(7, 20).acknowledge(8).gives(
        60,
        &[
            "5 raised unacknowledged",
            "7 shelved shelved",
            "8 is shelved",
            unshelved,
            "20 raised unacknowledged",
        ],
    );
}

/// A day of downtime gave a reminder for each hour of it, of each key, all at once.
#[test]
fn what_would_have_been_told_again_before_the_start_is_told_once() {
    let mut script = Script::new(rule(0, 0, 10, false)).read(0, HOLDS);
    script.pass(15, true);
    script.rule.told_from = at(1_000).at;
    let again = ["1000", "1010"].map(|second| format!("{second} re-alarmed unacknowledged"));
    script.gives(
        1_019,
        &[
            "0 raised unacknowledged",
            "10 re-alarmed unacknowledged",
            &again[0],
            &again[1],
        ],
    );
}

#[test]
fn three_raises_within_a_minute_are_chatter() {
    let rule = rule(0, 0, 0, false);
    let (mut alarm, mut out) = (Alarm::default(), Vec::new());
    for second in [0, 20, 40, 60, 100, 101] {
        alarm.reading(&rule, HOLDS, GONE, at(second), &mut out);
        alarm.reading(&rule, GONE, HOLDS, at(second + 1), &mut out);
    }
    let raised = out.iter().filter(|change| change.event == Event::Raised);
    let counts: Vec<usize> = raised.map(|change| change.raises_last_minute).collect();
    // One that is a whole minute ago counts no more.
    assert_eq!(counts, [1, 2, 3, 3, 2, 3]);
    assert_eq!(out.last().unwrap().raises, 6);
    for second in 200..300 {
        alarm.reading(&rule, HOLDS, GONE, at(second), &mut out);
        alarm.reading(&rule, GONE, HOLDS, at(second), &mut out);
    }
    assert_eq!(out.last().unwrap().raises_last_minute, MAX_RECENT);
}

#[test]
fn the_peak_is_of_the_whole_excursion() {
    let rule = rule(10, 0, 0, false);
    let (mut alarm, mut out) = (Alarm::default(), Vec::new());
    let mut read = |second: i64, value: f64| {
        let now = Moment {
            value: Some(value),
            ..at(second)
        };
        if alarm.due(&rule).is_some_and(|due| due <= now.at) {
            alarm.pass(&rule, now, &mut out);
        }
        let high = value >= 8.0;
        alarm.reading(&rule, Some(high), Some(!high), now, &mut out);
    };
    for (second, value) in [
        (0, 20.0),
        (1, 1.0),
        (2, 8.0),
        (5, 15.0),
        (20, 9.0),
        (21, 3.0),
    ] {
        read(second, value);
    }
    let peaks: Vec<(Event, Option<f64>)> = out.iter().map(|c| (c.event, c.peak)).collect();
    let peak = Some(15.0);
    assert_eq!(peaks, [(Event::Raised, peak), (Event::Cleared, peak)]);
}
