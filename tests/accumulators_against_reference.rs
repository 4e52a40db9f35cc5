//! Every aggregate against a reference that computes it from all its rows: rows come one at a time, are merged, given
//! back, written and read, at random. A failure prints its seed.
#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use headwater::expr::Expr;
use headwater::ops::{Accumulator, MAX_BYTES, MAX_VALUES, RELATIVE_ERROR, Retracted};
use headwater::plan::{Aggregate, AggregateFunction as F};
use headwater::state::{Decoder, Encoder, key_bytes};
use headwater::types::{EventTime, Type, Value};
use rust_decimal::{Decimal, RoundingStrategy};

/// A generator that is the same everywhere: the seed is the whole story of a failure.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn small(&mut self) -> i64 {
        self.below(41) as i64 - 20
    }

    /// A value of a type, NULL now and then, equal ones often.
    fn value(&mut self, ty: &Type) -> Value {
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

type Arguments = Vec<Value>;

/// A row that was taken: when it came, and its arguments.
type Taken = (u32, Arguments);

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
enum Expected {
    Is(Value),
    /// A double, but for rounding.
    Near(f64),
    /// Within one per cent of this.
    About(f64),
    /// An error.
    Fails,
}

const END: EventTime = EventTime::from_micros(60_000_000);

/// The aggregate of rows, computed at once.
fn reference(aggregate: &Aggregate, all: &[Taken]) -> Expected {
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

fn agrees(got: &Result<Value, String>, expected: &Expected) -> bool {
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

/// Every aggregate over every kind of arguments that it computes in a way of its own.
fn aggregates() -> Vec<Aggregate> {
    let decimal = |precision, scale| Type::Decimal { precision, scale };
    let ts = Type::Timestamp { precision: 3 };
    let one = |function, argument: Type, ty: Type| {
        Aggregate::new(function, vec![(Expr::Column(0), argument)], ty)
    };
    let two = |function, first: Type, second: Type, ty: Type| {
        Aggregate::new(
            function,
            vec![(Expr::Column(0), first), (Expr::Column(1), second)],
            ty,
        )
    };
    let with = |parameter: Value, aggregate: Aggregate| Aggregate {
        parameters: vec![parameter],
        ..aggregate
    };
    let nulls = |aggregate: Aggregate| Aggregate {
        respects_nulls: true,
        ..aggregate
    };
    let array = |ty: Type| Type::Array(ty.into());
    let multiset = |ty: Type| Type::Map(ty.into(), Type::Int.into());
    let mut all = vec![
        Aggregate::new(F::Count, Vec::new(), Type::BigInt),
        one(F::Count, Type::String, Type::BigInt),
    ];
    for ty in [
        Type::Int,
        Type::BigInt,
        Type::Float,
        Type::Double,
        Type::IntervalDayTime,
        Type::IntervalYearMonth,
    ] {
        all.push(one(F::Sum, ty.clone(), ty.clone()));
        all.push(one(F::Avg, ty.clone(), ty));
    }
    all.push(one(F::Sum, decimal(10, 2), decimal(38, 2)));
    all.push(one(F::Avg, decimal(10, 2), decimal(38, 6)));
    for ty in [
        Type::Boolean,
        Type::Int,
        Type::Double,
        decimal(10, 2),
        Type::String,
        ts.clone(),
        Type::IntervalDayTime,
    ] {
        for function in [F::Min, F::Max, F::FirstValue, F::LastValue] {
            all.push(one(function, ty.clone(), ty.clone()));
        }
        all.push(nulls(one(F::FirstValue, ty.clone(), ty.clone())));
        all.push(nulls(one(F::LastValue, ty.clone(), ty.clone())));
        all.push(one(F::ApproxCountDistinct, ty.clone(), Type::BigInt));
        all.push(one(F::ArrayAgg, ty.clone(), array(ty.clone())));
        all.push(nulls(one(F::ArrayAgg, ty.clone(), array(ty.clone()))));
        if ty != Type::Double {
            // Equal keys, so −0.0 comes out as 0.0; the reference does not know.
            all.push(one(F::Collect, ty.clone(), multiset(ty.clone())));
        }
        all.push(two(F::MaxBy, Type::String, ty.clone(), Type::String));
        all.push(two(F::MinBy, Type::String, ty, Type::String));
    }
    for function in [F::BitAnd, F::BitOr, F::BitXor] {
        all.push(one(function, Type::BigInt, Type::BigInt));
    }
    for function in [F::StddevPop, F::StddevSamp, F::VarPop, F::VarSamp] {
        all.push(one(function, Type::Int, Type::Double));
        all.push(one(function, Type::Float, Type::Float));
        all.push(one(function, Type::Double, Type::Double));
        all.push(one(function, decimal(10, 2), decimal(38, 6)));
    }
    for function in [
        F::CovarPop,
        F::CovarSamp,
        F::Corr,
        F::RegrCount,
        F::RegrSlope,
        F::RegrIntercept,
        F::RegrR2,
    ] {
        let ty = if function == F::RegrCount {
            Type::BigInt
        } else {
            Type::Double
        };
        all.push(two(function, Type::Double, Type::Double, ty.clone()));
        all.push(two(function, Type::Double, ts.clone(), ty));
    }
    all.push(with(
        Value::str("; "),
        one(F::ListAgg, Type::String, Type::String),
    ));
    for fraction in [0.0, 0.3, 0.5, 0.95, 1.0] {
        let fraction = Value::Double(fraction);
        all.push(with(
            fraction.clone(),
            one(F::Percentile, Type::Double, Type::Double),
        ));
        all.push(with(
            fraction.clone(),
            two(F::Percentile, Type::Double, Type::Int, Type::Double),
        ));
        all.push(with(
            fraction,
            one(F::ApproxPercentile, Type::Double, Type::Double),
        ));
    }
    for rule in ["LOCF", "LINEAR"] {
        all.push(with(
            Value::str(rule),
            two(F::TimeWeightedAvg, Type::Double, ts.clone(), Type::Double),
        ));
    }
    let without = [
        F::Min,
        F::Max,
        F::FirstValue,
        F::LastValue,
        F::MaxBy,
        F::MinBy,
        F::TimeWeightedAvg,
    ];
    let distinct: Vec<Aggregate> = all
        .iter()
        .filter(|aggregate| {
            !aggregate.arguments.is_empty() && !without.contains(&aggregate.function)
        })
        // Which of −0.0 and 0.0 is kept, the reference does not know.
        .filter(|aggregate| {
            aggregate.function != F::ArrayAgg || aggregate.argument_types[0] != Type::Double
        })
        .map(|aggregate| Aggregate {
            distinct: true,
            ..aggregate.clone()
        })
        .collect();
    all.extend(distinct);
    all
}

fn build(aggregate: &Aggregate, rows: &[Taken]) -> Accumulator {
    let mut accumulator = Accumulator::new(aggregate);
    for (arrival, arguments) in rows {
        accumulator.update(aggregate, arguments, *arrival);
    }
    accumulator
}

fn read_back(aggregate: &Aggregate, accumulator: &Accumulator) -> Accumulator {
    let mut out = Encoder::new();
    accumulator.encode(&mut out);
    let mut from = Decoder::new(out.as_slice());
    let back = Accumulator::decode(aggregate, &mut from).unwrap();
    from.finish().unwrap();
    let mut again = Encoder::new();
    back.encode(&mut again);
    assert_eq!(
        out.as_slice(),
        again.as_slice(),
        "written twice, {}",
        aggregate.canonical()
    );
    back
}

#[test]
fn every_aggregate_is_what_its_rows_make_it() {
    for (i, aggregate) in aggregates().iter().enumerate() {
        for round in 0..200 {
            let seed = i as u64 * 1_000 + round;
            let random = &mut Random(seed);
            // Groups stand side by side and are merged with their neighbours, until one is left.
            let mut groups: Vec<(Accumulator, Vec<Taken>)> = Vec::new();
            for _ in 0..=random.below(4) {
                groups.push((Accumulator::new(aggregate), Vec::new()));
            }
            let mut arrival = 0;
            for _ in 0..random.below(60) {
                let at = random.below(groups.len() as u64) as usize;
                let mergeable = at + 1 < groups.len();
                let (accumulator, rows) = &mut groups[at];
                match random.below(10) {
                    0 => *accumulator = read_back(aggregate, accumulator),
                    1 if !rows.is_empty() => {
                        // Sliding frames give back the oldest row; give back any.
                        let (_, gone) = rows.remove(random.below(rows.len() as u64) as usize);
                        let before = accumulator.result(aggregate, Some(END));
                        match accumulator.retract(aggregate, &gone) {
                            Retracted::Exactly => {}
                            Retracted::Recompute => {
                                let may = !Accumulator::retracts(aggregate);
                                assert!(
                                    may || before.is_err(),
                                    "seed {seed}: {}",
                                    aggregate.canonical()
                                );
                                *accumulator = build(aggregate, rows);
                            }
                        }
                    }
                    2 if mergeable => {
                        let (later, more) = groups.remove(at + 1);
                        let (accumulator, rows) = &mut groups[at];
                        accumulator.merge(aggregate, &later);
                        rows.extend(more);
                    }
                    _ => {
                        arrival += 1;
                        let types = aggregate.argument_types.iter();
                        let arguments: Arguments = types.map(|ty| random.value(ty)).collect();
                        accumulator.update(aggregate, &arguments, arrival);
                        rows.push((arrival, arguments));
                    }
                }
            }
            let (mut whole, mut rows) = groups.remove(0);
            for (accumulator, more) in groups {
                whole.merge(aggregate, &accumulator);
                rows.extend(more);
            }
            let got = read_back(aggregate, &whole).result(aggregate, Some(END));
            assert_eq!(
                format!("{got:?}"),
                format!("{:?}", whole.result(aggregate, Some(END))),
                "seed {seed}: {}",
                aggregate.canonical()
            );
            let expected = reference(aggregate, &rows);
            assert!(
                agrees(&got, &expected),
                "seed {seed}: {}: got {got:?}, expected {expected:?} of {rows:?}",
                aggregate.canonical()
            );
        }
    }
}

#[test]
fn damaged_state_is_an_error_or_a_value() {
    for (i, aggregate) in aggregates().iter().enumerate() {
        let random = &mut Random(i as u64);
        let types = &aggregate.argument_types;
        let rows: Vec<Taken> = (1..30)
            .map(|n| (n, types.iter().map(|ty| random.value(ty)).collect()))
            .collect();
        let mut out = Encoder::new();
        build(aggregate, &rows).encode(&mut out);
        for _ in 0..60 {
            let mut bytes = out.as_slice().to_vec();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            if let Ok(mut accumulator) = Accumulator::decode(aggregate, &mut Decoder::new(&bytes)) {
                accumulator.update(aggregate, &rows[0].1, 1);
                let _ = accumulator.retract(aggregate, &rows[0].1);
                let _ = accumulator.result(aggregate, Some(END));
            }
        }
    }
}

/// The bound of each aggregate that keeps values: it fails there and says why, and does not hold on to what it had.
#[test]
fn what_keeps_values_is_bounded() {
    let kept = [F::Count, F::ArrayAgg, F::Collect, F::Percentile];
    for function in kept {
        let mut aggregate =
            Aggregate::new(function, vec![(Expr::Column(0), Type::Int)], Type::BigInt);
        aggregate.distinct = function == F::Count;
        aggregate.parameters = vec![Value::Double(0.5)];
        let mut accumulator = Accumulator::new(&aggregate);
        for n in 0..MAX_VALUES as i64 {
            accumulator.update(&aggregate, &[Value::Int(n)], 1);
        }
        assert!(accumulator.result(&aggregate, None).is_ok(), "{function:?}");
        accumulator.update(&aggregate, &[Value::Int(-1)], 1);
        let error = accumulator.result(&aggregate, None).unwrap_err();
        assert!(
            error.contains("keeps at most 10000 values of a group"),
            "{error}"
        );
        assert!(Accumulator::bytes_bound(&aggregate) < 3 << 20);
        let mut out = Encoder::new();
        accumulator.encode(&mut out);
        assert_eq!(out.len(), 2, "{function:?}");
        // It stays failed, also beside one that has not.
        let mut fresh = Accumulator::new(&aggregate);
        fresh.merge(&aggregate, &read_back(&aggregate, &accumulator));
        assert_eq!(fresh.result(&aggregate, None), Err(error));
        assert_eq!(
            accumulator.retract(&aggregate, &[Value::Int(-1)]),
            Retracted::Recompute
        );
    }
    let aggregate = Aggregate::new(
        F::ListAgg,
        vec![(Expr::Column(0), Type::String)],
        Type::String,
    );
    let mut accumulator = Accumulator::new(&aggregate);
    let text = Value::str("x".repeat(MAX_BYTES / 4 - 1));
    for _ in 0..4 {
        accumulator.update(&aggregate, std::slice::from_ref(&text), 1);
    }
    assert!(accumulator.result(&aggregate, None).is_ok());
    accumulator.update(&aggregate, &[Value::str("")], 1);
    accumulator.update(&aggregate, &[Value::str("")], 1);
    assert!(
        accumulator
            .result(&aggregate, None)
            .unwrap_err()
            .contains("bytes of values")
    );
}

#[test]
fn many_different_values_are_counted_within_their_error() {
    let aggregate = Aggregate::new(
        F::ApproxCountDistinct,
        vec![(Expr::Column(0), Type::Int)],
        Type::BigInt,
    );
    for (round, count) in [500_i64, 513, 1_000, 5_000, 50_000].into_iter().enumerate() {
        let mut halves = [Accumulator::new(&aggregate), Accumulator::new(&aggregate)];
        for n in 0..count {
            let value = Value::Int(n * 7 + round as i64);
            halves[(n % 2) as usize].update(&aggregate, std::slice::from_ref(&value), 1);
            // Those that both have seen count once.
            halves[0].update(&aggregate, &[value], 1);
        }
        let [mut left, right] = halves;
        left.merge(&aggregate, &read_back(&aggregate, &right));
        let Value::Int(got) = left.result(&aggregate, None).unwrap() else {
            panic!()
        };
        // Three standard errors; exact up to 512.
        let allowed = if count <= 512 {
            0.0
        } else {
            0.05 * count as f64
        };
        assert!((got - count).abs() as f64 <= allowed, "{got} of {count}");
    }
}

/// More samples than are kept open, a little out of order, in panes that are merged: the average is that of all.
#[test]
fn long_time_weighted_averages_are_exact_or_refused() {
    for rule in ["LOCF", "LINEAR"] {
        let ts = Type::Timestamp { precision: 3 };
        let arguments = vec![(Expr::Column(0), Type::Double), (Expr::Column(1), ts)];
        let mut aggregate = Aggregate::new(F::TimeWeightedAvg, arguments, Type::Double);
        aggregate.parameters = vec![Value::str(rule)];
        for seed in 0..20 {
            let random = &mut Random(seed);
            let panes = 1 + random.below(5);
            let mut rows: Vec<Taken> = Vec::new();
            let mut whole: Option<Accumulator> = None;
            for pane in 0..panes {
                let mut times: Vec<i64> = (0..random.below(1_000) as i64).collect();
                for _ in 0..times.len() {
                    // No further out of order than what is kept open.
                    let at = random.below(times.len() as u64) as usize;
                    let other = (at + random.below(50) as usize).min(times.len() - 1);
                    if times[at].abs_diff(other as i64) < 60
                        && times[other].abs_diff(at as i64) < 60
                    {
                        times.swap(at, other);
                    }
                }
                let pane_rows: Vec<Taken> = times
                    .into_iter()
                    .map(|n| {
                        let time = (pane as i64 * 1_000 + n) * 10_000;
                        (
                            1,
                            vec![Value::Double(random.small() as f64), Value::Timestamp(time)],
                        )
                    })
                    .collect();
                let accumulator = read_back(&aggregate, &build(&aggregate, &pane_rows));
                rows.extend(pane_rows);
                match &mut whole {
                    None => whole = Some(accumulator),
                    Some(whole) => whole.merge(&aggregate, &accumulator),
                }
            }
            let mut whole = whole.unwrap();
            let got = whole.result(&aggregate, Some(END));
            let expected = reference(&aggregate, &rows);
            assert!(
                agrees(&got, &expected),
                "seed {seed}: got {got:?}, expected {expected:?}"
            );
            if rows.len() > 600 {
                whole.update(&aggregate, &[Value::Double(1.0), Value::Timestamp(-1)], 1);
                let error = whole.result(&aggregate, Some(END)).unwrap_err();
                assert!(error.contains("nearly in order"), "{error}");
            }
        }
    }
}
