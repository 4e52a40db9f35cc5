//! Random rows, and every aggregate computed from all its rows at once.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use headwater::ops::{Discard, RELATIVE_ERROR};
use headwater::plan::{Aggregate, AggregateFunction as F};
use headwater::state::key_bytes;
use headwater::types::{EventTime, Type, Value};
use rust_decimal::{Decimal, RoundingStrategy};

/// A generator that is the same everywhere: the seed is the whole story of a failure.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn small(&mut self) -> i64 {
        self.below(41) as i64 - 20
    }

    /// A value of a type, NULL now and then, equal ones often.
    pub(crate) fn value(&mut self, ty: &Type) -> Value {
        if self.below(8) == 0 {
            return Value::Null;
        }
        match ty {
            Type::Boolean => Value::Bool(self.below(2) == 0),
            Type::Int => Value::Int(self.small()),
            Type::BigInt if self.below(20) == 0 => {
                Value::Int([i64::MAX, i64::MIN][self.below(2) as usize])
            }
            Type::BigInt => Value::Int(self.small() * 1_000_000_007),
            Type::Float => Value::Float(self.small() as f32 / 4.0),
            Type::Double if self.below(10) == 0 => Value::Double(-0.0),
            Type::Double => {
                Value::Double(self.small() as f64 * 0.1 + 1000.0 * self.below(3) as f64)
            }
            Type::Decimal { scale, .. } => {
                Value::Decimal(Decimal::new(self.small() * 13, u32::from(*scale)))
            }
            Type::IntervalDayTime => Value::Interval(self.small() * 1_000_000),
            Type::IntervalYearMonth => Value::Months(self.small() as i32),
            Type::String => Value::str(["", "a", "b", "äöü", "a,b"][self.below(5) as usize]),
            Type::Timestamp { .. } => Value::Timestamp(self.below(60) as i64 * 1_000_000),
            ty => panic!("no values of {ty}"),
        }
    }
}

pub(crate) type Arguments = Vec<Value>;

/// A row that was taken: when it came, and its arguments.
pub(crate) type Taken = (u32, Arguments);

fn number(value: &Value) -> f64 {
    match value {
        Value::Int(number) => *number as f64,
        Value::Float(number) => f64::from(*number),
        Value::Double(number) => *number,
        Value::Decimal(number) => number.to_string().parse().unwrap(),
        Value::Timestamp(micros) => *micros as f64 / 1e6,
        other => panic!("{other:?} is no number"),
    }
}

fn key(arguments: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    key_bytes(arguments, &mut bytes);
    bytes
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Expected {
    Is(Value),
    /// A double, but for rounding.
    Near(f64),
    /// Within one per cent of this.
    About(f64),
    /// An error.
    Fails,
}

pub(crate) const END: EventTime = EventTime::from_micros(60_000_000);

/// The aggregate of rows, computed at once.
pub(crate) fn reference(aggregate: &Aggregate, all: &[Taken]) -> Expected {
    let counts = |row: &Taken| match aggregate.function {
        F::MaxBy | F::MinBy => !row.1[1].is_null(),
        _ => aggregate.respects_nulls || row.1.iter().all(|value| !value.is_null()),
    };
    let mut rows: Vec<Taken> = all.iter().filter(|row| counts(row)).cloned().collect();
    if aggregate.distinct {
        let mut seen = BTreeSet::new();
        rows.retain(|(_, arguments)| seen.insert(key(arguments)));
    }
    let first: Vec<&Value> = rows
        .iter()
        .map(|(_, arguments)| arguments.first().unwrap_or(&Value::Null))
        .collect();
    let n = rows.len();
    let null = Expected::Is(Value::Null);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let numbers = || {
        first
            .iter()
            .map(|value| number(value))
            .collect::<Vec<f64>>()
    };
    match aggregate.function {
        F::Count => Expected::Is(Value::Int(n as i64)),
        F::Collect => {
            let mut kinds: Vec<(Value, i64)> = Vec::new();
            for value in &first {
                match kinds.iter_mut().find(|(kind, _)| kind == *value) {
                    Some((_, count)) => *count += 1,
                    None => kinds.push(((*value).clone(), 1)),
                }
            }
            let pairs: Vec<_> = kinds
                .into_iter()
                .map(|(kind, n)| (kind, Value::Int(n)))
                .collect();
            Expected::Is(Value::Map(pairs.into()))
        }
        F::ApproxCountDistinct => {
            let kinds: BTreeSet<_> = rows.iter().map(|(_, arguments)| key(arguments)).collect();
            Expected::Is(Value::Int(kinds.len() as i64))
        }
        F::RegrCount => Expected::Is(Value::Int(n as i64)),
        _ if n == 0 => null,
        F::Sum | F::Avg => match first[0] {
            Value::Float(_) | Value::Double(_) => {
                let sum: f64 = numbers().iter().sum();
                Expected::Near(if aggregate.function == F::Avg {
                    sum / n as f64
                } else {
                    sum
                })
            }
            Value::Decimal(_) => {
                let scale = match aggregate.ty {
                    Type::Decimal { scale, .. } => u32::from(scale),
                    _ => 0,
                };
                let mut sum = Decimal::ZERO;
                for value in &first {
                    let Value::Decimal(number) = value else {
                        panic!("{value:?}")
                    };
                    sum += number;
                }
                if aggregate.function == F::Avg {
                    sum /= Decimal::from(n);
                }
                let strategy = RoundingStrategy::MidpointAwayFromZero;
                Expected::Is(Value::Decimal(sum.round_dp_with_strategy(scale, strategy)))
            }
            kind => {
                let mut sum: i128 = 0;
                for value in &first {
                    sum += match value {
                        Value::Int(number) | Value::Interval(number) => i128::from(*number),
                        Value::Months(number) => i128::from(*number),
                        other => panic!("{other:?}"),
                    };
                }
                if aggregate.function == F::Avg {
                    sum /= n as i128;
                }
                let (least, greatest) =
                    aggregate.ty.integer_range().unwrap_or((i64::MIN, i64::MAX));
                match i64::try_from(sum) {
                    Ok(sum) if (least..=greatest).contains(&sum) => Expected::Is(match kind {
                        Value::Int(_) => Value::Int(sum),
                        Value::Months(_) => Value::Months(sum as i32),
                        _ => Value::Interval(sum),
                    }),
                    _ => Expected::Fails,
                }
            }
        },
        F::Min | F::Max => {
            let mut sorted: Vec<&Value> = first.clone();
            // Stable: of equals, which differ only as −0.0 and 0.0, the first.
            sorted.sort_by(|a, b| a.compare(b).unwrap());
            let best = if aggregate.function == F::Min {
                sorted[0]
            } else {
                let greatest = sorted[n - 1];
                first
                    .iter()
                    .find(|value| value.compare(greatest).unwrap().is_eq())
                    .unwrap()
            };
            Expected::Is(best.clone())
        }
        F::FirstValue => Expected::Is(rows.iter().min_by_key(|row| row.0).unwrap().1[0].clone()),
        F::LastValue => Expected::Is(rows.iter().max_by_key(|row| row.0).unwrap().1[0].clone()),
        F::BitAnd | F::BitOr | F::BitXor => {
            let bits = first.iter().map(|value| match value {
                Value::Int(bits) => *bits,
                other => panic!("{other:?}"),
            });
            let all = match aggregate.function {
                F::BitAnd => bits.reduce(|a, b| a & b),
                F::BitOr => bits.reduce(|a, b| a | b),
                _ => bits.reduce(|a, b| a ^ b),
            };
            Expected::Is(Value::Int(all.unwrap()))
        }
        F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp => {
            let values = numbers();
            let mean = mean(&values);
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let population = matches!(aggregate.function, F::StddevPop | F::VarPop);
            let degrees = if population { n } else { n - 1 };
            if degrees == 0 {
                return null;
            }
            let variance = squares / degrees as f64;
            let root = matches!(aggregate.function, F::StddevPop | F::StddevSamp);
            Expected::Near(if root { variance.sqrt() } else { variance })
        }
        F::CovarPop | F::CovarSamp | F::Corr | F::RegrSlope | F::RegrIntercept | F::RegrR2 => {
            let ys = numbers();
            let xs: Vec<f64> = rows
                .iter()
                .map(|(_, arguments)| number(&arguments[1]))
                .collect();
            let (my, mx) = (mean(&ys), mean(&xs));
            let pairs = || ys.iter().zip(&xs);
            let xy: f64 = pairs().map(|(y, x)| (y - my) * (x - mx)).sum();
            let xx: f64 = xs.iter().map(|x| (x - mx).powi(2)).sum();
            let yy: f64 = ys.iter().map(|y| (y - my).powi(2)).sum();
            let flat = |values: &[f64]| {
                values
                    .iter()
                    .all(|value| value.partial_cmp(&values[0]) == Some(Ordering::Equal))
            };
            match aggregate.function {
                F::CovarPop => Expected::Near(xy / n as f64),
                F::CovarSamp if n > 1 => Expected::Near(xy / (n - 1) as f64),
                F::CovarSamp => null,
                _ if flat(&xs) => null,
                F::Corr if flat(&ys) => null,
                F::Corr => Expected::Near(xy / (xx * yy).sqrt()),
                F::RegrSlope => Expected::Near(xy / xx),
                F::RegrIntercept => Expected::Near(my - xy / xx * mx),
                _ if flat(&ys) => Expected::Near(1.0),
                _ => Expected::Near(xy * xy / (xx * yy)),
            }
        }
        F::MaxBy | F::MinBy => {
            let mut best = &rows[0].1;
            for (_, arguments) in &rows {
                let order = arguments[1].compare(&best[1]).unwrap();
                if if aggregate.function == F::MaxBy {
                    order.is_gt()
                } else {
                    order.is_lt()
                } {
                    best = arguments;
                }
            }
            Expected::Is(best[0].clone())
        }
        F::ListAgg => {
            let texts: Vec<&str> = first
                .iter()
                .map(|value| match value {
                    Value::Str(text) => text.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            Expected::Is(Value::str(texts.join("; ")))
        }
        F::ArrayAgg => {
            let values: Vec<Value> = first.into_iter().cloned().collect();
            Expected::Is(Value::Array(values.into()))
        }
        F::Percentile | F::ApproxPercentile => {
            let Value::Double(fraction) = aggregate.parameters[0] else {
                panic!()
            };
            let mut values = Vec::new();
            for (_, arguments) in &rows {
                let times = match arguments.get(1) {
                    Some(Value::Int(times)) if *times < 0 => return Expected::Fails,
                    Some(Value::Int(times)) => *times as usize,
                    _ => 1,
                };
                values.extend(std::iter::repeat_n(number(&arguments[0]), times));
            }
            if values.is_empty() {
                return null;
            }
            values.sort_by(f64::total_cmp);
            let rank = fraction * (values.len() - 1) as f64;
            let low = values[rank.floor() as usize];
            if aggregate.function == F::ApproxPercentile {
                return Expected::About(low);
            }
            let high = values[rank.ceil() as usize];
            Expected::Near(low + (high - low) * rank.fract())
        }
        F::TimeWeightedAvg => {
            let mut samples: Vec<(i64, f64)> = rows
                .iter()
                .map(|(_, arguments)| match arguments[1] {
                    Value::Timestamp(micros) => (micros, number(&arguments[0])),
                    ref other => panic!("{other:?}"),
                })
                .collect();
            samples.sort_by_key(|(time, _)| *time);
            let linear = aggregate.parameters[0] == Value::str("LINEAR");
            let last = samples[n - 1];
            if !linear {
                samples.push((END.as_micros(), last.1));
            }
            let area: f64 = samples
                .windows(2)
                .map(|pair| {
                    let height = if linear {
                        f64::midpoint(pair[0].1, pair[1].1)
                    } else {
                        pair[0].1
                    };
                    height * (pair[1].0 - pair[0].0) as f64
                })
                .sum();
            let span = samples[samples.len() - 1].0 - samples[0].0;
            Expected::Near(if span == 0 {
                last.1
            } else {
                area / span as f64
            })
        }
    }
}

pub(crate) fn agrees(got: &Result<Value, Discard>, expected: &Expected) -> bool {
    let near = |value: &Value, wanted: f64, tolerance: f64| {
        let got = number(value);
        (got - wanted).abs() <= tolerance * wanted.abs().max(1.0)
    };
    match (got, expected) {
        (Err(_), Expected::Fails) => true,
        (Ok(Value::Map(got)), Expected::Is(Value::Map(wanted))) => {
            // A multiset has no order.
            let sorted = |pairs: &[(Value, Value)]| {
                let pairs = pairs
                    .iter()
                    .map(|(kind, count)| (key(std::slice::from_ref(kind)), format!("{count:?}")));
                pairs.collect::<BTreeMap<_, _>>()
            };
            sorted(got) == sorted(wanted)
        }
        (Ok(got), Expected::Is(wanted)) => got == wanted,
        (Ok(value @ (Value::Double(_) | Value::Decimal(_))), Expected::Near(wanted)) => {
            // DECIMALs have six digits.
            near(
                value,
                *wanted,
                if matches!(value, Value::Decimal(_)) {
                    1e-6
                } else {
                    1e-9
                },
            )
        }
        (Ok(value @ Value::Float(_)), Expected::Near(wanted)) => near(value, *wanted, 1e-6),
        (Ok(Value::Double(got)), Expected::About(wanted)) => {
            (got - wanted).abs() <= wanted.abs() * RELATIVE_ERROR * 1.000_001
        }
        _ => false,
    }
}
