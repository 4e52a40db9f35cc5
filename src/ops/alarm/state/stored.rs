//! An alarm as it is written down.

use smallvec::SmallVec;

use super::{Alarm, Phase, Signal};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::EventTime;

impl Alarm {
    /// Writes it.
    pub(in super::super) fn encode(&self, out: &mut Encoder) {
        match self.signal {
            Signal::Off => out.u8(0),
            Signal::Rising { since, peak } => {
                out.u8(1);
                out.time(since);
                encode_number(peak, out);
            }
            Signal::On => out.u8(2),
            Signal::Falling { since } => {
                out.u8(3);
                out.time(since);
            }
        }
        match self.phase {
            Phase::Normal => out.u8(0),
            Phase::Standing { acknowledged } => out.u8(1 + u8::from(acknowledged)),
            Phase::Latched => out.u8(3),
            Phase::Shelved { until, latched } => {
                out.u8(4 + u8::from(latched));
                out.time(until);
            }
        }
        encode_time(self.raised_at, out);
        encode_number(self.peak, out);
        out.bool(self.first);
        encode_time(self.told_at, out);
        out.u64(self.raises);
        out.u64(self.recent.len() as u64);
        self.recent.iter().for_each(|raised| out.time(*raised));
    }

    /// Reads what `encode` wrote.
    pub(in super::super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let invalid = StateError::Invalid { what: "alarm" };
        let signal = match from.u8()? {
            0 => Signal::Off,
            1 => Signal::Rising {
                since: from.time()?,
                peak: decode_number(from)?,
            },
            2 => Signal::On,
            3 => Signal::Falling {
                since: from.time()?,
            },
            _ => return Err(invalid),
        };
        let phase = match from.u8()? {
            0 => Phase::Normal,
            acknowledged @ (1 | 2) => Phase::Standing {
                acknowledged: acknowledged == 2,
            },
            3 => Phase::Latched,
            shelved @ (4 | 5) => Phase::Shelved {
                until: from.time()?,
                latched: shelved == 5,
            },
            _ => return Err(invalid),
        };
        let mut alarm = Self {
            signal,
            phase,
            raised_at: decode_time(from)?,
            peak: decode_number(from)?,
            first: from.bool()?,
            told_at: decode_time(from)?,
            raises: from.u64()?,
            recent: SmallVec::new(),
        };
        for _ in 0..from.count("raises")? {
            alarm.recent.push(from.time()?);
        }
        Ok(alarm)
    }
}

pub(in super::super) fn encode_time(time: Option<EventTime>, out: &mut Encoder) {
    out.bool(time.is_some());
    if let Some(time) = time {
        out.time(time);
    }
}

pub(in super::super) fn decode_time(
    from: &mut Decoder<'_>,
) -> Result<Option<EventTime>, StateError> {
    Ok(if from.bool()? {
        Some(from.time()?)
    } else {
        None
    })
}

pub(in super::super) fn encode_number(number: Option<f64>, out: &mut Encoder) {
    out.bool(number.is_some());
    if let Some(number) = number {
        out.f64(number);
    }
}

pub(in super::super) fn decode_number(from: &mut Decoder<'_>) -> Result<Option<f64>, StateError> {
    Ok(if from.bool()? {
        Some(from.f64()?)
    } else {
        None
    })
}
