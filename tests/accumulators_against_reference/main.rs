//! Every aggregate against a reference that computes it from all its rows: rows come one at a time, are merged, given
//! back, written and read, at random. A failure prints its seed.
#![allow(clippy::unwrap_used)]

mod reference;

use headwater::expr::Expr;
use headwater::ops::{Accumulator, MAX_BYTES, MAX_VALUES, Retracted};
use headwater::plan::{Aggregate, AggregateFunction as F};
use headwater::state::{Decoder, Encoder};
use headwater::types::{Type, Value};

use reference::{Arguments, END, Random, Taken, agrees, reference};

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
            error
                .detail
                .contains("keeps at most 10000 values of a group"),
            "{error:?}"
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
            .detail
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
                assert!(error.detail.contains("nearly in order"), "{error:?}");
            }
        }
    }
}
