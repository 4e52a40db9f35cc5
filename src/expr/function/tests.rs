//! Every function with every kind of hostile value: errors and NULLs are fine, a panic or a wrapped number is not.

use std::borrow::Cow;

use super::*;
use crate::expr::Context;
use crate::types::{EventTime, Field};

/// Values of a type that find the edges.
fn edges(ty: &Type) -> Vec<Value> {
    let numbers = [0, 1, -1, 7, i64::MAX, i64::MIN];
    let mut values = match ty {
        Type::Boolean => vec![Value::Bool(true), Value::Bool(false)],
        Type::TinyInt | Type::Int | Type::BigInt => {
            let (least, greatest) = ty.integer_range().unwrap();
            let fits = numbers.map(|n| Value::Int(n.clamp(least, greatest)));
            fits.to_vec()
        }
        Type::Double => [0.0, -0.0, 1.5, -1e300, f64::NAN, f64::INFINITY]
            .map(Value::Double)
            .to_vec(),
        Type::Decimal { .. } => ["0", "-1.5", "99999999999999999999999999.99"]
            .map(|text| Value::Decimal(text.parse().unwrap()))
            .to_vec(),
        Type::String => [
            "",
            "a",
            "größe 😀",
            "-12.5",
            "%d %s %",
            "$.a[0]",
            "Europe/Berlin",
            "yyyy-MM-dd HH:mm",
            "2024-02-29 12:00:00",
            "{\"a\":[1,{\"b\":null}]}",
            "DAY",
            "(",
            "http://h:1/p?a=b#c",
            "UTF-16",
        ]
        .map(Value::str)
        .to_vec(),
        Type::Bytes => vec![
            Value::Bytes([].into()),
            Value::Bytes([0xff, 0x00, 0xd8].into()),
        ],
        Type::Date => [0, -719_162, 2_932_896].map(Value::Date).to_vec(),
        Type::Time { .. } => [0, 86_399_999_999].map(Value::Time).to_vec(),
        Type::Timestamp { .. } => {
            use crate::types::calendar::{GREATEST_MICROS, LEAST_MICROS};
            // Beyond the calendar too: a payload of numbers may say so.
            [0, -1, LEAST_MICROS, GREATEST_MICROS, i64::MAX, i64::MIN]
                .map(Value::Timestamp)
                .to_vec()
        }
        Type::IntervalDayTime => [0, -1, i64::MAX, i64::MIN].map(Value::Interval).to_vec(),
        Type::IntervalYearMonth => [0, -1, i32::MAX, i32::MIN].map(Value::Months).to_vec(),
        Type::Array(item) => {
            let mut items = edges(item);
            items.push(Value::Null);
            vec![Value::Array([].into()), Value::Array(items.into())]
        }
        Type::Map(key, value) => {
            let pairs = edges(key).into_iter().zip(edges(value));
            vec![Value::Map([].into()), Value::Map(pairs.collect())]
        }
        Type::Row(fields) => {
            let first = fields.iter().map(|f| edges(&f.ty)[0].clone());
            vec![Value::Row(first.collect())]
        }
        _ => Vec::new(),
    };
    values.push(Value::Null);
    values
}

fn types_of(kind: Kind) -> Vec<Type> {
    let all = [
        Type::Boolean,
        Type::TinyInt,
        Type::BigInt,
        Type::Double,
        Type::Decimal {
            precision: 28,
            scale: 2,
        },
        Type::String,
        Type::Bytes,
        Type::Date,
        Type::Time { precision: 3 },
        Type::Timestamp { precision: 3 },
        Type::IntervalDayTime,
        Type::IntervalYearMonth,
        Type::Array(Type::BigInt.into()),
        Type::Array(Type::String.into()),
        Type::Map(Type::String.into(), Type::Double.into()),
        Type::Row(
            [Field {
                name: "f".into(),
                ty: Type::Double,
            }]
            .into(),
        ),
    ];
    all.into_iter().filter(|ty| kind.accepts(ty)).collect()
}

/// Calls `visit` with every choice of one item from each list.
fn product<T: Clone>(lists: &[Vec<T>], chosen: &mut Vec<T>, visit: &mut dyn FnMut(&[T])) {
    let Some((first, rest)) = lists.split_first() else {
        return visit(chosen);
    };
    for item in first {
        chosen.push(item.clone());
        product(rest, chosen, visit);
        chosen.pop();
    }
}

#[test]
fn no_value_makes_a_function_panic() {
    let context = Context {
        now: EventTime::from_micros(1_709_208_000_123_456),
    };
    for function in all() {
        // Beyond three arguments the product is too large; those that have more are tried by their SQL cases.
        let most = function.params.len().min(3);
        for count in function.params.len() - function.optional..=most {
            let kinds: Vec<Vec<Type>> = function.params[..count]
                .iter()
                .map(|k| types_of(*k))
                .collect();
            product(&kinds, &mut Vec::new(), &mut |types| {
                let Ok(resolved) = resolve(function.name, types) else {
                    return;
                };
                let wide = count > 2;
                let values: Vec<Vec<Value>> = resolved
                    .args
                    .iter()
                    .map(|ty| {
                        edges(ty)
                            .into_iter()
                            .step_by(1 + 2 * usize::from(wide))
                            .collect()
                    })
                    .collect();
                product(&values, &mut Vec::new(), &mut |values| {
                    evaluate(resolved.function, &resolved, values, &context);
                });
            });
        }
    }
}

fn evaluate(function: &'static Function, resolved: &Resolved, values: &[Value], context: &Context) {
    if function.strict && values.iter().any(Value::is_null) {
        return;
    }
    let args: Box<[Expr]> = values.iter().cloned().map(Expr::Literal).collect();
    // As if all arguments were constant: what is wrong with one is refused here.
    let Ok(prepared) = prepare::prepare(function, &args) else {
        return;
    };
    let call = Call {
        function,
        args,
        types: resolved.args.clone().into(),
        ty: resolved.ty.clone(),
        prepared,
    };
    let borrowed: Vec<Cow<'_, Value>> = values.iter().map(Cow::Borrowed).collect();
    if let Ok(Value::Int(v)) = function.run(&Args::new(&borrowed, &call, context))
        && let Some((least, greatest)) = resolved.ty.integer_range()
    {
        assert!(
            (least..=greatest).contains(&v),
            "{function:?}{values:?} = {v}"
        );
    }
}
