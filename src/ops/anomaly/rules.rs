//! Runs rules of Western Electric (Statistical Quality Control Handbook, 1956) and Nelson (J. Quality Technology 16,
//! 1984), over values in standard deviations from the target.
//!
//! Fixed where the sources leave it open: all comparisons are strict, so a value on a limit is within, and one on the
//! target breaks a run on one side; a rule fires at every further value for which it holds; Nelson's sixth step counts points,
//! not steps.

use super::baseline::Baseline;
use super::charts::standard;
use super::{row, text};
use crate::plan::{ControlRule, Normal};
use crate::state::{Decoder, Encoder, StateError};
use crate::types::Value;

/// The longest run that a rule looks at.
const LONGEST: usize = 15;

/// The last values of a stream, in standard deviations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rules {
    baseline: Baseline,
    /// The last ones, the newest at the end; so many are known.
    last: [f64; LONGEST],
    known: usize,
}

impl Rules {
    pub(super) fn take(&mut self, normal: &Normal, rules: &[ControlRule], value: f64) -> Value {
        let learning = self.baseline.takes(normal);
        let known = self.baseline.take(normal, value);
        let (Some((target, sigma)), false) = (known, learning) else {
            return row([Value::Null, Value::Null]);
        };
        let z = standard(value, target, sigma);
        self.last.rotate_left(1);
        self.last[LONGEST - 1] = z;
        self.known = (self.known + 1).min(LONGEST);
        let last = &self.last[LONGEST - self.known..];
        let mut fired = String::new();
        for rule in rules.iter().filter(|rule| holds(**rule, last)) {
            if !fired.is_empty() {
                fired.push(',');
            }
            fired.push_str(rule.name());
        }
        let fired = Some(fired.as_str()).filter(|fired| !fired.is_empty());
        row([Value::Double(z), text(fired)])
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.baseline.encode(out);
        out.u64(self.known as u64);
        for z in &self.last[LONGEST - self.known..] {
            out.f64(*z);
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut read = Self {
            baseline: Baseline::decode(from)?,
            ..Self::default()
        };
        read.known = from.count("values")?;
        if read.known > LONGEST {
            return Err(StateError::Invalid { what: "run" });
        }
        for z in &mut read.last[LONGEST - read.known..] {
            *z = from.f64()?;
        }
        Ok(read)
    }
}

/// Whether a rule holds at the last of some values.
fn holds(rule: ControlRule, values: &[f64]) -> bool {
    use ControlRule as R;
    match rule {
        R::N1 | R::WE1 => values.last().is_some_and(|z| z.abs() > 3.0),
        R::N2 => one_side(values, 9),
        R::WE4 => one_side(values, 8),
        R::N3 => {
            let steps = |rises: bool| {
                newest(values, 6).is_some_and(|run| {
                    run.windows(2).all(|pair| {
                        if rises {
                            pair[1] > pair[0]
                        } else {
                            pair[1] < pair[0]
                        }
                    })
                })
            };
            steps(true) || steps(false)
        }
        R::N4 => newest(values, 14).is_some_and(|run| {
            run.windows(3)
                .all(|three| (three[1] - three[0]) * (three[2] - three[1]) < 0.0)
        }),
        R::N5 | R::WE2 => some_beyond(values, 2, 3, 2.0),
        R::N6 | R::WE3 => some_beyond(values, 4, 5, 1.0),
        R::N7 => newest(values, 15).is_some_and(|run| run.iter().all(|z| z.abs() < 1.0)),
        R::N8 => newest(values, 8).is_some_and(|run| {
            run.iter().all(|z| z.abs() > 1.0)
                && run.iter().any(|z| *z > 0.0)
                && run.iter().any(|z| *z < 0.0)
        }),
    }
}

/// The newest values, if there are so many.
fn newest(values: &[f64], count: usize) -> Option<&[f64]> {
    values.len().checked_sub(count).map(|from| &values[from..])
}

fn one_side(values: &[f64], count: usize) -> bool {
    newest(values, count)
        .is_some_and(|run| run.iter().all(|z| *z > 0.0) || run.iter().all(|z| *z < 0.0))
}

/// Whether of the last `of` values, or of all where there are fewer, `least` are beyond a limit on one side, the last
/// one among them.
fn some_beyond(values: &[f64], least: usize, of: usize, limit: f64) -> bool {
    let run = &values[values.len().saturating_sub(of)..];
    let beyond = |sign: f64| run.iter().filter(|z| **z * sign > limit).count() >= least;
    let last = values.last().copied().unwrap_or_default();
    (last > limit && beyond(1.0)) || (last < -limit && beyond(-1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternating(low: f64, high: f64, count: usize) -> Vec<f64> {
        (0..count)
            .map(|i| if i % 2 == 0 { low } else { high })
            .collect()
    }

    /// The least sequence for which each rule fires, and the nearest for which it does not.
    #[test]
    fn each_rule_fires_at_its_least_sequence_and_not_before() {
        use ControlRule as R;
        let nines = vec![0.1; 9];
        let mut broken = nines.clone();
        broken[4] = 0.0;
        let mut repeated = alternating(0.0, 1.0, 14);
        repeated[7] = 0.0;
        let cases: [(&[R], Vec<f64>, Vec<f64>); 9] = [
            (&[R::N1, R::WE1], vec![0.0, 0.0, 3.01], vec![0.0, 0.0, 3.0]),
            (&[R::N2], nines.clone(), broken),
            (&[R::N2], nines.clone(), nines[..8].to_vec()),
            (&[R::WE4], nines[..8].to_vec(), nines[..7].to_vec()),
            (
                &[R::N3],
                vec![0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
                vec![0.0, 0.1, 0.2, 0.2, 0.4, 0.5],
            ),
            (&[R::N4], alternating(0.0, 1.0, 14), repeated),
            (&[R::N5, R::WE2], vec![2.1, 0.0, 2.1], vec![2.1, 0.0, -2.1]),
            (
                &[R::N6, R::WE3],
                vec![1.1, 1.1, 0.0, 1.1, 1.1],
                vec![1.1, 1.1, 0.0, -1.1, 1.1],
            ),
            (
                &[R::N7],
                alternating(0.5, -0.5, 15),
                alternating(0.5, -0.5, 14),
            ),
        ];
        for (rules, fires, not) in cases {
            for rule in rules {
                assert!(holds(*rule, &fires), "{rule:?} {fires:?}");
                let mirrored: Vec<f64> = fires.iter().map(|z| -z).collect();
                assert!(holds(*rule, &mirrored), "{rule:?} {mirrored:?}");
                assert!(!holds(*rule, &not), "{rule:?} {not:?}");
                for end in 1..fires.len() {
                    assert!(!holds(*rule, &fires[..end]), "{rule:?} {:?}", &fires[..end]);
                }
            }
        }
        assert!(holds(R::N8, &alternating(1.2, -1.2, 8)));
        assert!(!holds(R::N8, &[1.2; 8]));
        assert!(holds(R::N6, &[1.2; 8]));
        assert!(holds(R::WE4, &nines[..8]) && !holds(R::N2, &nines[..8]));
    }
}
