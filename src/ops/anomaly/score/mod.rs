//! `ANOMALY_SCORE`: how unlike its own past a stream is, without training and without settings.
//!
//! Six channels look at each value, each with statistics of its own, and each statistic knows how rare its value is
//! ([`tail`]): the *level* over five time scales; the *season*, against this hour of the day; the *spread* of the
//! differences, which falls when a sensor is stuck; the *range* that was ever seen; the *sequence* of what follows what;
//! and the *gap* to the value before. What they say is added up, as logarithms of probabilities are in Fisher's
//! method; the sum is mixed with how rare such a sum is on this stream ([`OWN_PAST`]), so that a restless one does not
//! alarm all the time. [`RETURN_PERIOD`] turns it into the score.
//!
//! What a statistic counts for does not differ between channels, and the threshold was set by the false alarms on synthetic
//! streams alone. On the development half of the Numenta benchmark the constants are on a plateau: each of them a
//! fifth away, at the same rate of false alarms, scores between 74.6 and 76.3, lean between 71.1 and 73.5.
//!
//! **What a score means**: the decimal logarithm of a return period in events: on a stationary stream an alarm at
//! score `s` comes at most once in `10^s` events (`tests/anomaly_streams.rs` measures it on nine kinds of stream). It is an
//! upper bound, and most streams stay well below it.
//!
//! Invariants: nothing is scored for the first [`WARM_UP`] events. A value is scored before it is learnt. There is no
//! look-ahead, no setting that depends on the length or the range of a stream, one set of constants for all
//! streams. State is fixed in size: at most 400 bytes lean, 700 with the sequence.
//!
//! Values are kept as distances from the median of the first ones ([`Origin`]), in 32 bits: a value that is large
//! against its changes loses nothing. Of a value far beyond the range that was seen only [`REACH`] is learnt: a fill value
//! or a spike is judged for what it is, and does not blind the channels for what comes after; a stream that stays there is
//! followed, as each value doubles the range.

mod gap;
mod season;
mod sequence;
mod tail;

use crate::plan::ScoreOptions;
use crate::state::{Decoder, Encoder, StateError};

use super::origin::Origin;
use gap::Gaps;
use season::Season;
use sequence::Sequence;
pub(super) use tail::Tail;

/// Events before the first score.
pub(super) const WARM_UP: u32 = 150;

/// Those of them that are not learnt, and say where the values are.
pub(super) const FIRST: usize = 15;
const LEARNT_WARM_UP: u32 = WARM_UP - FIRST as u32;

/// Events are counted up to here: far beyond what any rate depends on.
const MOST_COUNTED: u32 = 60_000;

/// Events before what was never seen counts.
const RANGE_WARM_UP: u32 = 75;

/// The time scales of the level: shares of a new value in its means.
const LEVEL_RATES: [f64; 5] = [0.2, 0.04, 0.008, 0.0016, 0.000_32];

/// The time scales of the spread.
const SPREAD_RATES: [f64; 4] = [1.0 / 8.0, 1.0 / 32.0, 1.0 / 128.0, 1.0 / 512.0];

/// What an excess of the spread counts for at most: its logarithm has a light tail, and a fall that lasts must not be
/// learnt before it is found.
const SPREAD_EXCESS: f64 = 4.0;

/// What each statistic's score counts for beyond 1, which is what one of ten events has.
const WEIGHT: f64 = 0.7;

/// How far beyond the range that was seen a value is learnt, in widths of it: so it at most doubles with each.
const REACH: f64 = 1.0;

/// What the sum counts for without the sequence: fewer add up to the same return period.
const LEAN_SHARE: f64 = 1.08;

/// What counts for how rare a sum is on this stream; the rest is for the sum itself.
const OWN_PAST: f64 = 0.4;

/// The sum of all channels, and the score that stands for it: straight lines between, and on beyond. Measured as the
/// return period of alarms on the worst of the synthetic streams.
const RETURN_PERIOD: [(f64, f64); 5] = [
    (0.0, 0.0),
    (3.6, 2.55),
    (6.1, 3.2),
    (8.3, 3.75),
    (11.4, 4.2),
];

/// The score of what is just beyond the range, and of a gap that is just strange.
const RANGE_SCORE: f64 = 4.0;
const GAP_SCORE: f64 = 12.0;

/// What has spoken loudest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// The level, over five time scales.
    Level,
    /// The hour of the day.
    Season,
    /// The spread of differences, which has fallen: a stuck sensor, a variance that collapses.
    Spread,
    /// Beyond all that was seen.
    Range,
    /// The order of values.
    Sequence,
    /// The time since the value before.
    Gap,
}

impl Channel {
    /// The name in results.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Season => "season",
            Self::Spread => "spread",
            Self::Range => "range",
            Self::Sequence => "sequence",
            Self::Gap => "gap",
        }
    }
}

/// What is said of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The score.
    pub(super) score: f64,
    /// Whether it reaches the threshold, for the first time since the quiet events after the last alarm.
    pub(super) alarm: bool,
    /// What was expected, before the value came; `None` of the very first.
    pub(super) expected: Option<f64>,
    /// The channel that says most, if one says something.
    pub(super) channel: Option<Channel>,
}

/// The state of one stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Score {
    /// How many values were learnt.
    count: u32,
    /// Events that are still quiet after an alarm.
    quiet: u32,
    origin: Origin<FIRST>,
    level: [f32; 5],
    level_tails: [Tail; 4],
    season: Season,
    spread: [f32; 4],
    spread_tails: [Tail; 3],
    range: [f32; 2],
    /// The time of the last event, in milliseconds.
    last: i64,
    gaps: Gaps,
    /// How rare a sum of all channels is.
    total: Tail,
    sequence: Option<Box<(Sequence, Tail)>>,
}

impl Score {
    /// One that has seen nothing.
    pub(super) fn new(options: &ScoreOptions) -> Self {
        Self {
            count: 0,
            quiet: 0,
            origin: Origin::new(),
            level: [0.0; 5],
            level_tails: [Tail::default(); 4],
            season: Season::new(),
            spread: [0.0; 4],
            spread_tails: [Tail::default(); 3],
            range: [0.0; 2],
            last: 0,
            gaps: Gaps::default(),
            total: Tail::default(),
            sequence: (!options.lean).then(|| Box::new((Sequence::new(), Tail::default()))),
        }
    }

    /// Takes a finite value at a time, which is not before the last one, and the time on the wall; all in microseconds.
    pub(super) fn take(
        &mut self,
        options: &ScoreOptions,
        value: f64,
        time: i64,
        clock: i64,
    ) -> Verdict {
        let median = self.origin.median();
        let Some(far) = self.origin.take(value) else {
            return Verdict {
                score: 0.0,
                alarm: false,
                expected: median,
                channel: None,
            };
        };
        self.count = (self.count + 1).min(MOST_COUNTED);
        let hour = season::hour_of(clock);
        let expected = median.map(|origin| origin + self.expect(time, hour));
        let x = self.within_reach(far, median.unwrap_or_default());
        let said = [
            (Channel::Spread, self.spread(x)),
            (Channel::Level, self.level(x)),
            (Channel::Season, self.season(x, time, hour)),
            (Channel::Range, self.range(far, x)),
            (Channel::Sequence, self.sequence(x, hour)),
            (Channel::Gap, self.gap(time)),
        ];
        let share = if self.sequence.is_some() {
            1.0
        } else {
            LEAN_SHARE
        };
        let sum = share * said.iter().map(|(_, weight)| weight).sum::<f64>();
        let rare = self.total.score(sum, self.count);
        self.total.learn(sum, self.count);
        let loudest = said.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let warm = self.count > LEARNT_WARM_UP;
        let score = if warm {
            score_of(sum + OWN_PAST * (rare - sum))
        } else {
            0.0
        };
        let quiet = self.quiet > 0;
        self.quiet = self.quiet.saturating_sub(1);
        let alarm = score >= options.threshold && !quiet;
        if alarm {
            self.quiet = options.quiet;
        }
        Verdict {
            score,
            alarm,
            expected,
            channel: loudest
                .filter(|(_, weight)| *weight > 0.0 && warm)
                .map(|(channel, _)| channel),
        }
    }

    /// What the next value should be: that of its hour where the hour knows better than the last values.
    fn expect(&self, time: i64, hour: usize) -> f64 {
        match self.season.expected(time, hour) {
            Some((expected, off)) if off < f64::from(self.spread[3]) => expected,
            _ => f64::from(self.level[0]),
        }
    }

    /// What is learnt of a value so far from the origin.
    fn within_reach(&self, far: f64, origin: f64) -> f64 {
        let [low, high] = self.range.map(f64::from);
        let width = if high > low {
            high - low
        } else {
            // A constant has no range to measure by; its own size has to do.
            origin.abs().max(1.0)
        };
        // No `clamp`, which panics where damaged state has its ends the wrong way round.
        far.max(low - REACH * width).min(high + REACH * width)
    }

    /// The share of a new value in a mean.
    fn rate(&self, least: f64) -> f64 {
        least.max(1.0 / f64::from(self.count))
    }

    /// A spread that falls: stuck, or a variance that collapses. To be called before the level learns the value.
    fn spread(&mut self, x: f64) -> f64 {
        let off = (x - f64::from(self.level[0])).abs();
        for (i, rate) in SPREAD_RATES.into_iter().enumerate() {
            let mean = f64::from(self.spread[i]);
            self.spread[i] = (mean + self.rate(rate) * (off - mean)) as f32;
        }
        let slow = f64::from(self.spread[3]);
        let mut said = 0.0;
        for (tail, fast) in self.spread_tails.iter_mut().zip(self.spread) {
            let below = f64::from(fast) + 0.02 * slow;
            // As a logarithm: a fall is found before its tail has learnt it.
            let fall = if below > 0.0 {
                (slow / below).ln().max(0.0)
            } else {
                0.0
            };
            said += weight(tail.score(fall, self.count));
            tail.learn_at_most(SPREAD_EXCESS, fall, self.count);
        }
        said
    }

    fn level(&mut self, x: f64) -> f64 {
        let mut input = x;
        for (i, rate) in LEVEL_RATES.into_iter().enumerate() {
            let mean = f64::from(self.level[i]);
            let mean = mean + self.rate(rate) * (input - mean);
            self.level[i] = mean as f32;
            if i == 0 {
                // Slower means take the smoothed value: what is alone does not move them.
                input = mean;
            }
        }
        let [fast, slower, slow, _, slowest] = self.level.map(f64::from);
        let mut said = 0.0;
        for (tail, mean) in self.level_tails.iter_mut().zip([x, fast, slower, slow]) {
            let off = (mean - slowest).abs();
            said += weight(tail.score(off, self.count));
            tail.learn(off, self.count);
        }
        said
    }

    fn season(&mut self, x: f64, time: i64, hour: usize) -> f64 {
        let mut said = 0.0;
        self.season
            .take(x, time, hour, &mut |score| said += weight(score));
        said
    }

    /// A value beyond all that was seen, and what is learnt of it.
    fn range(&mut self, far: f64, x: f64) -> f64 {
        let [low, high] = self.range.map(f64::from);
        self.range = [low.min(x) as f32, high.max(x) as f32];
        let width = high - low;
        let beyond = (far - high).max(low - far);
        if width > 0.0 && self.count > RANGE_WARM_UP {
            unseen(RANGE_SCORE, beyond / width / 0.1)
        } else {
            0.0
        }
    }

    fn sequence(&mut self, x: f64, hour: usize) -> f64 {
        let Some(sequence) = &mut self.sequence else {
            return 0.0;
        };
        let (sequence, tail) = &mut **sequence;
        let surprise = sequence.take(x, hour, self.count);
        let said = weight(tail.score(surprise, self.count));
        tail.learn(surprise, self.count);
        said
    }

    /// A gap far beyond those of lately.
    fn gap(&mut self, time: i64) -> f64 {
        let millis = time.div_euclid(1_000);
        let last = std::mem::replace(&mut self.last, millis);
        if self.count == 1 {
            return 0.0;
        }
        let gap = millis.saturating_sub(last).max(0) as f64;
        let strange = self.gaps.take(gap, self.count);
        if self.count > RANGE_WARM_UP {
            unseen(GAP_SCORE, strange)
        } else {
            0.0
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u64(self.origin.count() as u64 + u64::from(self.count));
        self.origin.encode(out);
        if self.origin.gathers() {
            return;
        }
        out.u64(u64::from(self.quiet));
        self.level.iter().for_each(|mean| out.f32(*mean));
        self.level_tails.iter().for_each(|tail| tail.encode(out));
        self.season.encode(out);
        self.spread.iter().for_each(|mean| out.f32(*mean));
        self.spread_tails.iter().for_each(|tail| tail.encode(out));
        self.range.iter().for_each(|end| out.f32(*end));
        out.i64(self.last);
        self.gaps.encode(out);
        self.total.encode(out);
        if let Some(sequence) = &self.sequence {
            sequence.0.encode(out);
            sequence.1.encode(out);
        }
    }

    pub(super) fn decode(
        options: &ScoreOptions,
        from: &mut Decoder<'_>,
    ) -> Result<Self, StateError> {
        let mut read = Self::new(options);
        let came = count(from, MOST_COUNTED + FIRST as u32)?;
        read.origin = Origin::decode(came as usize, from)?;
        if read.origin.gathers() {
            return Ok(read);
        }
        read.count = came - FIRST as u32;
        read.quiet = count(from, options.quiet)?;
        for mean in &mut read.level {
            *mean = from.f32()?;
        }
        for tail in &mut read.level_tails {
            *tail = Tail::decode(from)?;
        }
        read.season = Season::decode(from)?;
        for mean in &mut read.spread {
            *mean = from.f32()?;
        }
        for tail in &mut read.spread_tails {
            *tail = Tail::decode(from)?;
        }
        for end in &mut read.range {
            *end = from.f32()?;
        }
        read.last = from.i64()?;
        read.gaps = Gaps::decode(from)?;
        read.total = Tail::decode(from)?;
        if read.sequence.is_some() {
            read.sequence = Some(Box::new((Sequence::decode(from)?, Tail::decode(from)?)));
        }
        Ok(read)
    }
}

/// What a statistic's score counts for.
fn weight(score: f64) -> f64 {
    WEIGHT * (score - 1.0).max(0.0)
}

/// What counts for something never seen, `times` beyond what makes it strange.
fn unseen(base: f64, times: f64) -> f64 {
    if times > 1.0 {
        weight((base + 4.0 * times.ln()).min(20.0))
    } else {
        0.0
    }
}

/// The score of a sum.
fn score_of(sum: f64) -> f64 {
    let beyond = RETURN_PERIOD.len() - 1;
    let next = RETURN_PERIOD.iter().position(|(to, _)| sum < *to);
    let next = next.unwrap_or(beyond).max(1);
    let ((from, low), (to, high)) = (RETURN_PERIOD[next - 1], RETURN_PERIOD[next]);
    low + (sum - from) * (high - low) / (to - from)
}

/// A number of events.
fn count(from: &mut Decoder<'_>, most: u32) -> Result<u32, StateError> {
    u32::try_from(from.u64()?)
        .ok()
        .filter(|count| *count <= most)
        .ok_or(StateError::Invalid { what: "count" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size after so many events that no count grows any more.
    fn bytes(lean: bool) -> usize {
        let options = ScoreOptions {
            lean,
            ..ScoreOptions::default()
        };
        let mut score = Score::new(&options);
        for i in 0..100_000_i64 {
            let time = 1_900_000_000_000_000 + i * 300_000_000;
            let value = (i * i % 1_009) as f64 + (i % 7_919) as f64;
            score.take(&options, value, time, time);
        }
        let mut out = Encoder::new();
        score.encode(&mut out);
        let mut from = Decoder::new(out.as_slice());
        assert_eq!(Score::decode(&options, &mut from), Ok(score));
        out.len()
    }

    #[test]
    fn state_is_small() {
        assert!(bytes(true) <= 400, "{}", bytes(true));
        assert!(bytes(false) <= 700, "{}", bytes(false));
    }
}
