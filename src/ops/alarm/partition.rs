//! What is kept of a key: readings that wait for the watermark, when it was heard last, and its alarms.
//!
//! Invariants: all readings that wait are after `taken`; readings of one time stand in the order in which they came.
//!
//! A reading is kept as what it says of each alarm, in one word, so that a wide row costs no more than a narrow one.
//! Written as what has changed: readings that came, and the rest if anything but a reading that waits has.

use super::super::keyed::{KeyState, WrittenState};
use super::state::{Alarm, decode_number, decode_time, encode_number, encode_time};
use crate::plan::MAX_ALARMS;
use crate::state::{Decoder, Encoder, StateError};
use crate::types::{EventTime, Timeline};

/// The state of one key.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) line: Timeline,
    /// In the order in which they will be taken.
    pub(super) waiting: Vec<Reading>,
    pub(super) known: Known,
    /// The time for which the key is listed.
    pub(super) armed: Option<EventTime>,
    /// Whether `known` has changed since it was written.
    pub(super) changed: bool,
    /// Whether anything is written.
    written: bool,
}

/// What follows from the readings and commands so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// Up to which time readings have been taken.
    pub(super) taken: Option<EventTime>,
    /// Whether it has ever reported, where that matters.
    pub(super) reported: bool,
    /// Whether it is to report.
    pub(super) expected: bool,
    /// The last sign of life, or since when it is waited for; `None` if it is not, or if time has not begun.
    pub(super) heard: Option<EventTime>,
    /// Up to which time its silence has been told ahead of the watermark.
    pub(super) ahead: Option<EventTime>,
    /// The last value.
    pub(super) value: Option<f64>,
    /// How many changes have been told.
    pub(super) told: u64,
    /// By the plan's rules; none as long as nothing has happened to any.
    pub(super) alarms: Vec<Alarm>,
}

impl Known {
    /// Whether something of it was told later than then.
    pub(super) fn is_later_than(&self, time: EventTime) -> bool {
        self.ahead > Some(time) || self.alarms.iter().any(|alarm| alarm.is_later_than(time))
    }

    /// Has nothing of it told later than then.
    pub(super) fn take_back(&mut self, time: EventTime) {
        self.ahead = self.ahead.map(|ahead| ahead.min(time));
        self.alarms
            .iter_mut()
            .for_each(|alarm| alarm.take_back(time));
    }
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) time: EventTime,
    pub(super) value: Option<f64>,
    pub(super) says: Says,
    written: bool,
}

/// What a row says of each alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Says(u64);

/// Bits for each alarm: whether it is known that it is raised, whether it is, and the same of clearing.
const BITS: usize = 4;
const _: () = assert!(MAX_ALARMS * BITS <= u64::BITS as usize);

impl Says {
    pub(super) fn note(&mut self, alarm: usize, raise: Option<bool>, clear: Option<bool>) {
        let bits = |known: Option<bool>| match known {
            None => 0,
            Some(is) => 1 | u64::from(is) << 1,
        };
        self.0 |= (bits(raise) | bits(clear) << 2) << (alarm * BITS);
    }

    /// Whether an alarm is raised, and whether it is cleared.
    pub(super) fn of(self, alarm: usize) -> (Option<bool>, Option<bool>) {
        let bits = self.0 >> (alarm * BITS);
        let known = |bits: u64| (bits & 1 != 0).then_some(bits & 2 != 0);
        (known(bits), known(bits >> 2))
    }
}

impl Reading {
    pub(super) fn new(time: EventTime, value: Option<f64>, says: Says) -> Self {
        Self {
            time,
            value,
            says,
            written: false,
        }
    }
}

impl Partition {
    /// Adds a reading to those that wait, behind those of its time.
    pub(super) fn wait(&mut self, reading: Reading) {
        let place = self
            .waiting
            .partition_point(|other| other.time <= reading.time);
        self.waiting.insert(place, reading);
    }

    /// How many readings there are up to a time; they are the first.
    pub(super) fn due(&self, up_to: EventTime) -> usize {
        self.waiting.partition_point(|row| row.time <= up_to)
    }

    /// The first `readings`, all up to a time, have been taken.
    pub(super) fn taken(&mut self, readings: usize, up_to: EventTime) {
        self.known.taken = self.known.taken.max(Some(up_to));
        self.changed = true;
        self.waiting.drain(..readings);
    }

    /// Forgets all but readings that wait, if nothing of it could ever matter.
    pub(super) fn forget_nothing_known(&mut self) {
        let known = &self.known;
        let matters = known.reported
            || known.expected
            || known.heard.is_some()
            || known.alarms.iter().any(|alarm| !alarm.is_fresh());
        if !matters {
            self.known = Known {
                taken: known.taken,
                ..Known::default()
            };
        }
    }

    fn write(&self, fresh: bool, out: &mut Encoder) {
        out.bool(fresh);
        if fresh {
            out.timeline(self.line);
        }
        let new = || self.waiting.iter().filter(|row| fresh || !row.written);
        out.u64(new().count() as u64);
        for row in new() {
            out.time(row.time);
            encode_number(row.value, out);
            out.u64(row.says.0);
        }
        out.bool(fresh || self.changed);
        if !(fresh || self.changed) {
            return;
        }
        let known = &self.known;
        encode_time(known.taken, out);
        out.bool(known.reported);
        out.bool(known.expected);
        encode_time(known.heard, out);
        encode_time(known.ahead, out);
        encode_number(known.value, out);
        out.u64(known.told);
        out.u64(known.alarms.len() as u64);
        known.alarms.iter().for_each(|alarm| alarm.encode(out));
    }

    /// Applies what was written, of `alarms` alarms.
    pub(super) fn read(&mut self, from: &mut Decoder<'_>, alarms: usize) -> Result<(), StateError> {
        if from.bool()? {
            *self = Self {
                line: from.timeline(usize::MAX)?,
                ..Self::default()
            };
        }
        for _ in 0..from.count("waiting readings")? {
            self.wait(Reading {
                time: from.time()?,
                value: decode_number(from)?,
                says: Says(from.u64()?),
                written: true,
            });
        }
        if from.bool()? {
            self.known = Known {
                taken: decode_time(from)?,
                reported: from.bool()?,
                expected: from.bool()?,
                heard: decode_time(from)?,
                ahead: decode_time(from)?,
                value: decode_number(from)?,
                told: from.u64()?,
                alarms: Vec::new(),
            };
            let count = from.count("alarms")?;
            if count != 0 && count != alarms {
                return Err(StateError::Invalid { what: "alarms" });
            }
            for _ in 0..count {
                self.known.alarms.push(Alarm::decode(from)?);
            }
            let taken = self.known.taken;
            self.waiting.retain(|row| Some(row.time) > taken);
        }
        (self.written, self.changed) = (true, false);
        Ok(())
    }
}

impl KeyState for Partition {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.known
                == Known {
                    taken: self.known.taken,
                    ..Known::default()
                }
    }
}

impl WrittenState for Partition {
    fn encode(&self, out: &mut Encoder) {
        self.write(true, out);
    }

    fn encode_changes(&mut self, out: &mut Encoder) {
        self.write(!self.written, out);
        (self.written, self.changed) = (true, false);
        self.waiting.iter_mut().for_each(|row| row.written = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_row_says_of_sixteen_alarms_fits_one_word() {
        let all = [None, Some(false), Some(true)];
        for alarm in 0..MAX_ALARMS {
            for raise in all {
                for clear in all {
                    let mut says = Says::default();
                    says.note(alarm, raise, clear);
                    assert_eq!(says.of(alarm), (raise, clear));
                    let others = (0..MAX_ALARMS).filter(|other| *other != alarm);
                    assert!(others.into_iter().all(|o| says.of(o) == (None, None)));
                }
            }
        }
    }
}
