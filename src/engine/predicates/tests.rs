//! Random filters and rows: who is left out must be neither true nor fail, and who is true must be asked, in order.

use super::*;
use crate::expr::{Arithmetic, Context, LikePattern};
use crate::types::{EventTime, Type};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

const TEXTS: [&str; 6] = ["", "p", "pump", "pump-1", "pump-12", "valve"];

/// Columns: a STRING, a DOUBLE, a BIGINT.
fn value(random: &mut Random, column: usize) -> Value {
    match (random.below(12), column) {
        (0, _) => Value::Null,
        (_, 0) => Value::str(TEXTS[random.below(TEXTS.len())]),
        (1, 1) => Value::Double(f64::NAN),
        (2, 1) => Value::Double(-0.0),
        (_, 1) => Value::Double(random.below(5) as f64 - 2.0),
        _ => Value::Int(random.below(5) as i64),
    }
}

fn condition(random: &mut Random) -> Expr {
    let column = random.below(3);
    let boxed = |expr| Box::new(expr);
    let constant = |random: &mut Random| {
        let kind = if column > 0 && random.below(6) == 0 {
            3 - column
        } else {
            column
        };
        boxed(Expr::Literal(value(random, kind)))
    };
    let op = [
        Comparison::Eq,
        Comparison::NotEq,
        Comparison::Lt,
        Comparison::LtEq,
        Comparison::Gt,
        Comparison::GtEq,
    ][random.below(6)];
    match random.below(8) {
        0 => Expr::IsNull(boxed(Expr::Column(column))),
        1 => Expr::Between {
            expr: boxed(Expr::Column(column)),
            low: constant(random),
            high: constant(random),
        },
        2 => Expr::In {
            expr: boxed(Expr::Column(column)),
            list: (0..3).map(|_| *constant(random)).collect(),
        },
        3 => Expr::Like {
            expr: boxed(Expr::Column(0)),
            pattern: LikePattern::new(
                ["pump-1%", "pu_p%", "%1", "valve", "pump%1_", "p%"][random.below(6)],
                None,
            )
            .unwrap(),
        },
        // Fails where the third column is 0.
        4 => Expr::Compare {
            op,
            left: boxed(Expr::Arith {
                op: Arithmetic::Div,
                ty: Type::BigInt,
                left: boxed(Expr::Literal(Value::Int(4))),
                right: boxed(Expr::Column(2)),
            }),
            right: boxed(Expr::Literal(Value::Int(1))),
        },
        5 => Expr::Compare {
            op,
            left: constant(random),
            right: boxed(Expr::Column(column)),
        },
        _ => Expr::Compare {
            op,
            left: boxed(Expr::Column(column)),
            right: constant(random),
        },
    }
}

#[test]
fn who_is_left_out_would_have_let_nothing_through() {
    let context = Context {
        now: EventTime::MIN,
    };
    let (mut asked, mut left_out) = (0, 0);
    for seed in 1..2_000 {
        let mut random = Random(seed);
        let filters: Vec<Option<Expr>> = (0..30)
            .map(|_| match random.below(12) {
                0 => None,
                1..6 => Some(condition(&mut random)),
                _ => {
                    let all = (0..=random.below(3)).map(|_| condition(&mut random));
                    Some(Expr::And(all.collect()))
                }
            })
            .collect();
        let Some(mut index) = PredicateIndex::new(filters.iter().map(Option::as_ref)) else {
            continue;
        };
        let mut found = Vec::new();
        for _ in 0..20 {
            let row: Vec<Value> = (0..3).map(|at| value(&mut random, at)).collect();
            index.candidates(&row, &mut found);
            assert!(found.is_sorted_by(|a, b| a < b));
            asked += found.len();
            for (at, filter) in filters.iter().enumerate() {
                if found.contains(&(at as u32)) {
                    continue;
                }
                left_out += 1;
                let filter = filter.as_ref().expect("what is no filter is always asked");
                assert_eq!(
                    filter.test(&row, &context).ok(),
                    Some(false),
                    "seed {seed}: {filter:?} for {row:?}"
                );
            }
        }
    }
    assert!(asked > 500_000 && left_out > 200_000, "{asked} {left_out}");
}

#[test]
fn ranks_follow_the_order_of_values() {
    let doubles = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1.5,
        -f64::MIN_POSITIVE,
        -0.0,
        0.0,
        5e-324,
        1.0,
        1.5,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
        -f64::NAN,
    ];
    let decimals = [
        Decimal::MIN,
        Decimal::new(-15, 1),
        Decimal::new(-1, 28),
        Decimal::ZERO,
        Decimal::new(1, 7),
        Decimal::new(1, 6),
        Decimal::new(8_984, 3),
        Decimal::new(9, 0),
        Decimal::MAX,
    ];
    for values in [
        doubles.map(Value::Double).to_vec(),
        decimals.map(Value::Decimal).to_vec(),
        [i64::MIN, -1, 0, 7, i64::MAX].map(Value::Int).to_vec(),
    ] {
        for left in &values {
            for right in &values {
                let (order, ranks) = (left.compare(right).unwrap(), rank(left).cmp(&rank(right)));
                let coarse = matches!(left, Value::Decimal(_)) && ranks.is_eq();
                assert!(order == ranks || coarse, "{left:?} {right:?}");
            }
        }
    }
    let thousandths = |count| rank(&Value::Decimal(Decimal::new(count, 3)));
    assert!(thousandths(8_984) < thousandths(8_985));
}

#[test]
fn few_filters_are_not_indexed() {
    let filter = Expr::Compare {
        op: Comparison::Eq,
        left: Box::new(Expr::Column(0)),
        right: Box::new(Expr::Literal(Value::Int(1))),
    };
    let of = |count: usize| PredicateIndex::new((0..count).map(|_| Some(&filter)));
    assert!(of(LEAST_LISTED - 1).is_none());
    assert!(of(LEAST_LISTED).is_some());
}
