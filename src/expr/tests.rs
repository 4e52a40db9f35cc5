//! Tables of expressions and their values, across the files of this room.

use rust_decimal::Decimal;

use super::*;
use crate::types::{EventTime, Type, Value};

fn context() -> Context {
    Context {
        now: EventTime::from_millis(1_704_067_200_123),
    }
}

fn int(value: i64) -> Typed {
    Typed::literal(Value::Int(value), Type::Int)
}

fn double(value: f64) -> Typed {
    Typed::literal(Value::Double(value), Type::Double)
}

fn dec(text: &str) -> Typed {
    Typed::number(text).unwrap()
}

fn text(value: &str) -> Typed {
    Typed::string(value)
}

fn null() -> Typed {
    Typed::literal(Value::Null, Type::Null)
}

fn ts(value: &str) -> Typed {
    let point = calendar::parse_timestamp(value).unwrap();
    Typed::literal(Value::Timestamp(point), Type::Timestamp { precision: 3 })
}

fn bools(value: Option<bool>) -> Typed {
    Typed::literal(value.map_or(Value::Null, Value::Bool), Type::Boolean)
}

fn value(typed: &Typed) -> Result<Value, EvalError> {
    typed.expr.eval(&[], &context())
}

fn array(items: &[i64]) -> Typed {
    Typed::array(items.iter().map(|i| int(*i)).collect()).unwrap()
}

/// The value of a call as SQL text, with its type; `error` where there is none.
fn called(name: &str, args: Vec<Typed>) -> String {
    let typed = call(name, args).unwrap_or_else(|e| panic!("{name}: {e} ({:?})", e.hint));
    match value(&typed) {
        Ok(value) => format!("{} {}", Expr::Literal(value), typed.ty),
        Err(_) => "error".to_owned(),
    }
}

#[test]
fn functions_give_what_flink_gives() {
    for (name, args, expected) in [
        ("abs", vec![int(-3)], "3 INT"),
        (
            "ABS",
            vec![Typed::literal(Value::Int(i64::from(i32::MIN)), Type::Int)],
            "error",
        ),
        ("CEIL", vec![double(1.2)], "2e0 DOUBLE"),
        ("FLOOR", vec![dec("-1.2")], "DECIMAL '-2' DECIMAL(2, 0)"),
        ("ROUND", vec![double(2.675), int(2)], "2.68e0 DOUBLE"),
        ("ROUND", vec![double(-2.5)], "-3e0 DOUBLE"),
        ("ROUND", vec![int(1_250), int(-2)], "1300 INT"),
        ("TRUNCATE", vec![double(42.345), int(2)], "4.234e1 DOUBLE"),
        ("SIGN", vec![double(0.0)], "0e0 DOUBLE"),
        ("POWER", vec![int(2), int(10)], "1.024e3 DOUBLE"),
        ("SQRT", vec![int(-1)], "error"),
        ("LN", vec![int(0)], "error"),
        ("LOG", vec![int(2), int(8)], "3e0 DOUBLE"),
        ("MOD", vec![int(-7), int(3)], "-1 INT"),
        ("UPPER", vec![text("ü")], "'Ü' STRING"),
        ("CHAR_LENGTH", vec![text("Grüße")], "5 INT"),
        ("TRIM", vec![text("  a ")], "'a' STRING"),
        ("BTRIM", vec![text("xxaxy"), text("xy")], "'a' STRING"),
        ("SUBSTRING", vec![text("sensor/7"), int(8)], "'7' STRING"),
        (
            "SUBSTRING",
            vec![text("abcdef"), int(-3), int(2)],
            "'de' STRING",
        ),
        (
            "SUBSTRING",
            vec![text("abc"), int(1), int(i64::MAX)],
            "'abc' STRING",
        ),
        ("CONCAT", vec![text("a"), null(), text("b")], "NULL STRING"),
        (
            "CONCAT_WS",
            vec![text("-"), text("a"), null(), text("b")],
            "'a-b' STRING",
        ),
        ("POSITION", vec![text("b"), text("äb")], "2 INT"),
        ("LOCATE", vec![text("a"), text("aba"), int(2)], "3 INT"),
        ("LPAD", vec![text("7"), int(3), text("0")], "'007' STRING"),
        ("RPAD", vec![text("abc"), int(2), text("0")], "'ab' STRING"),
        (
            "LPAD",
            vec![text("7"), int(1_000_000_000), text("0")],
            "error",
        ),
        ("REPEAT", vec![text("ab"), int(2)], "'abab' STRING"),
        ("RIGHT", vec![text("grün"), int(2)], "'ün' STRING"),
        (
            "SPLIT_INDEX",
            vec![text("a/b/c"), text("/"), int(1)],
            "'b' STRING",
        ),
        (
            "SPLIT_INDEX",
            vec![text("a/b/c"), text("/"), int(9)],
            "NULL STRING",
        ),
        (
            "REGEXP_EXTRACT",
            vec![text("foo-12"), text("([a-z]+)-([0-9]+)"), int(2)],
            "'12' STRING",
        ),
        (
            "REGEXP_REPLACE",
            vec![text("a1b22"), text("[0-9]+"), text("#")],
            "'a#b#' STRING",
        ),
        ("REGEXP", vec![text("abc"), text("^b")], "FALSE BOOLEAN"),
        (
            "TO_TIMESTAMP",
            vec![text("2024-01-02 03:04:05.6")],
            "TIMESTAMP '2024-01-02 03:04:05.600000' TIMESTAMP(3)",
        ),
        (
            "TO_TIMESTAMP",
            vec![text("02.01.24 03:04"), text("dd.MM.yy HH:mm")],
            "TIMESTAMP '2024-01-02 03:04:00.000000' TIMESTAMP(3)",
        ),
        ("TO_TIMESTAMP", vec![text("yesterday")], "error"),
        (
            "TO_TIMESTAMP_LTZ",
            vec![dec("1704067200.25"), int(0)],
            "TIMESTAMP '2024-01-01 00:00:00.250000' TIMESTAMP_LTZ(3)",
        ),
        (
            "TO_TIMESTAMP_LTZ",
            vec![dec("1704067200123"), int(3)],
            "TIMESTAMP '2024-01-01 00:00:00.123000' TIMESTAMP_LTZ(3)",
        ),
        (
            "TO_TIMESTAMP_LTZ",
            vec![dec("170406720012300000"), int(3)],
            "error",
        ),
        (
            "NOW",
            vec![],
            "TIMESTAMP '2024-01-01 00:00:00.123000' TIMESTAMP_LTZ(3)",
        ),
        (
            "UNIX_TIMESTAMP",
            vec![text("2024-01-01 00:00:01")],
            "1704067201 BIGINT",
        ),
        (
            "FROM_UNIXTIME",
            vec![int(44)],
            "'1970-01-01 00:00:44' STRING",
        ),
        (
            "DATE_FORMAT",
            vec![ts("2024-03-05 16:07:08"), text("HH:mm")],
            "'16:07' STRING",
        ),
        (
            "EXTRACT",
            vec![text("DAY"), ts("2024-03-05 16:07:08")],
            "5 BIGINT",
        ),
        (
            "TIMESTAMPDIFF",
            vec![
                text("MINUTE"),
                ts("2024-01-01 00:00:00"),
                ts("2024-01-01 01:00:59"),
            ],
            "60 INT",
        ),
        (
            "TIMESTAMPADD",
            vec![text("MONTH"), int(1), ts("2024-01-31 12:00:00")],
            "TIMESTAMP '2024-02-29 12:00:00.000000' TIMESTAMP(3)",
        ),
        (
            "$FLOOR",
            vec![text("HOUR"), ts("2024-03-05 16:07:08")],
            "TIMESTAMP '2024-03-05 16:00:00.000000' TIMESTAMP(3)",
        ),
        ("GREATEST", vec![int(1), dec("2.5")], "2.5 DECIMAL(11, 1)"),
        ("LEAST", vec![int(1), null()], "NULL INT"),
        ("COALESCE", vec![null(), int(2), double(3.0)], "2e0 DOUBLE"),
        ("NULLIF", vec![int(1), int(1)], "NULL INT"),
        ("IF", vec![bools(None), int(1), int(2)], "2 INT"),
        ("CARDINALITY", vec![array(&[1, 2, 3])], "3 INT"),
        (
            "ARRAY_SLICE",
            vec![array(&[1, 2, 3]), int(-2), int(-1)],
            "ARRAY[2, 3] ARRAY<INT>",
        ),
        (
            "ARRAY_CONTAINS",
            vec![array(&[1, 2]), int(2)],
            "TRUE BOOLEAN",
        ),
    ] {
        assert_eq!(called(name, args), expected, "{name}");
    }
}

#[test]
fn a_function_that_cannot_be_called_says_what_to_do() {
    for (name, args, message, hint) in [
        (
            "CHAR_LENGHT",
            vec![text("a")],
            "there is no function CHAR_LENGHT",
            "did you mean CHAR_LENGTH?",
        ),
        (
            "UPPER",
            vec![int(1)],
            "UPPER does not take (INT)",
            "it takes UPPER(STRING)",
        ),
        (
            "LOG",
            vec![],
            "LOG does not take ()",
            "it takes LOG(number) or LOG(number, number)",
        ),
        (
            "GREATEST",
            vec![int(1), text("a")],
            "the arguments of GREATEST are of different types: INT and STRING",
            "convert one with CAST",
        ),
    ] {
        let error = call(name, args).unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.hint.as_deref()),
            (message, Some(hint))
        );
    }
}

#[test]
fn logic_has_three_values() {
    let all = [Some(true), Some(false), None];
    for a in all {
        for b in all {
            let and = Typed::all(vec![bools(a), bools(b)]).unwrap();
            let or = Typed::any(vec![bools(a), bools(b)]).unwrap();
            let and_expected = match (a, b) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            let or_expected = match (a, b) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            let of = |v: Option<bool>| v.map_or(Value::Null, Value::Bool);
            assert_eq!(value(&and), Ok(of(and_expected)), "{a:?} AND {b:?}");
            assert_eq!(value(&or), Ok(of(or_expected)), "{a:?} OR {b:?}");
            assert_eq!(
                and.expr.test(&[], &context()),
                Ok(and_expected == Some(true))
            );
        }
        assert_eq!(
            value(&bools(a).negated().unwrap()),
            Ok(a.map_or(Value::Null, |v| Value::Bool(!v)))
        );
        assert_eq!(
            value(&bools(a).is_bool(false).unwrap()),
            Ok(Value::Bool(a == Some(false)))
        );
    }
    let missing = int(2).in_list(vec![int(1), null()]).unwrap();
    assert_eq!(value(&missing), Ok(Value::Null));
    let between = int(5).between(int(6), null()).unwrap();
    assert_eq!(value(&between), Ok(Value::Bool(false)));
    assert_eq!(
        value(&Typed::distinct(null(), null()).unwrap()),
        Ok(Value::Bool(false))
    );
    assert_eq!(
        value(&Typed::distinct(null(), int(1)).unwrap()),
        Ok(Value::Bool(true))
    );
}

#[test]
fn arithmetic_is_exact_or_fails() {
    use Arithmetic as A;
    let big = Typed::literal(Value::Int(i64::from(i32::MAX)), Type::Int);
    for (op, left, right, expected) in [
        (A::Add, int(1), int(2), "3 INT"),
        (A::Add, big.clone(), int(1), "error"),
        (A::Add, big, dec("10000000000"), "12147483647 BIGINT"),
        (A::Div, int(7), int(-2), "-3 INT"),
        (A::Div, int(1), int(0), "error"),
        (A::Div, double(1.0), double(0.0), "infe0 DOUBLE"),
        (A::Mul, int(2), double(1.5), "3e0 DOUBLE"),
        (A::Add, dec("0.1"), dec("0.2"), "0.3 DECIMAL(2, 1)"),
        (
            A::Div,
            dec("1.00"),
            dec("3"),
            "0.3333333333333 DECIMAL(14, 13)",
        ),
        (A::Div, dec("1.0"), dec("0.0"), "error"),
    ] {
        let typed = Typed::arith(op, left, right).unwrap();
        let shown = match value(&typed) {
            Ok(Value::Double(v)) if v.is_infinite() => format!("infe0 {}", typed.ty),
            Ok(value) => format!("{} {}", Expr::Literal(value), typed.ty),
            Err(_) => "error".to_owned(),
        };
        assert_eq!(shown, expected, "{}", typed.expr);
    }
    assert_eq!(Decimal::MAX.checked_add(Decimal::ONE), None);
}

#[test]
fn kinds_that_do_not_compare_are_refused_with_a_remedy() {
    let error = Typed::compare(Comparison::Gt, text("1"), int(1)).unwrap_err();
    assert_eq!(error.message, "INT and STRING cannot be compared");
    assert!(error.hint.unwrap().contains("CAST"));
    let text_time = Typed::compare(Comparison::Lt, ts("2024-01-01"), text("2024-01-02")).unwrap();
    assert_eq!(value(&text_time), Ok(Value::Bool(true)));
    let error = Typed::compare(Comparison::Lt, ts("2024-01-01"), text("soon")).unwrap_err();
    assert_eq!(
        error.message,
        "'soon' is not a TIMESTAMP(3): write 'YYYY-MM-DD hh:mm:ss'"
    );
}

#[test]
fn the_text_of_an_expression_is_unambiguous() {
    let column = |index, ty| Typed::new(Expr::Column(index), ty, true);
    let sum = Typed::arith(Arithmetic::Add, column(0, Type::Int), dec("1.50")).unwrap();
    let test = Typed::compare(Comparison::GtEq, sum, double(2.0)).unwrap();
    let like = column(1, Type::String).like(text("it's%"), None).unwrap();
    let both = Typed::all(vec![test, like]).unwrap();
    assert_eq!(
        both.expr.to_string(),
        "((CAST((#0 + 1.50) AS DOUBLE) >= 2e0) AND (#1 LIKE 'it''s%'))"
    );
    assert_eq!(
        both.expr.describe(&|i| format!("c{i}")),
        "((CAST((c0 + 1.50) AS DOUBLE) >= 2e0) AND (c1 LIKE 'it''s%'))"
    );
}

#[test]
fn rows_arrays_and_maps_are_taken_apart() {
    let row = Typed::row(vec![("a".into(), int(1)), ("b".into(), text("x"))]);
    let field = row.clone().field("B").unwrap();
    assert_eq!(
        (value(&field), field.ty),
        (Ok(Value::str("x")), Type::String)
    );
    assert_eq!(
        row.field("c").unwrap_err().hint.as_deref(),
        Some("its fields are a, b")
    );
    let second = array(&[7, 8]).element(int(2)).unwrap();
    assert_eq!(value(&second), Ok(Value::Int(8)));
    assert_eq!(
        value(&array(&[7, 8]).element(int(0)).unwrap()),
        Ok(Value::Null)
    );
    let map = Typed::map(vec![text("k"), int(1), text("k"), int(2)]).unwrap();
    assert_eq!(value(&map.element(text("k")).unwrap()), Ok(Value::Int(2)));
}
