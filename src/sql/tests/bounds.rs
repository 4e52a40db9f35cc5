//! Text that is too large, too deep, or no SQL at all.

use super::*;

#[test]
fn what_is_too_large_or_too_deep_is_refused_and_not_overflowed() {
    let select =
        |expr: &str| format!("{READINGS}{OUT}INSERT INTO out SELECT device, {expr} FROM readings");
    let deep = [
        "(".repeat(5_000) + "temp" + &")".repeat(5_000),
        "(".repeat(39) + "temp" + &")".repeat(39),
        "ABS(".repeat(39) + "temp" + &")".repeat(39),
        "-".repeat(3_000) + "temp",
        "- ".repeat(390) + "temp",
        "NOT ".repeat(390) + "TRUE",
        "temp".to_owned() + &" + temp".repeat(5_000),
        "temp".to_owned() + &" + temp".repeat(390),
        "CASE WHEN TRUE THEN ".repeat(120) + "1" + &" END".repeat(120),
        "CAST(temp AS ".to_owned() + &"ARRAY<".repeat(100) + "INT" + &">".repeat(100) + ")",
        "temp".to_owned() + &"[1]".repeat(390),
        "temp".to_owned() + &".a".repeat(390),
        "CASE ".repeat(300),
        "INTERVAL ".repeat(390) + "'1' DAY",
    ];
    for expr in deep {
        let _ = compile(&files(&select(&expr)), &catalog());
    }
    let unions = format!(
        "{READINGS}{OUT}INSERT INTO out SELECT device, temp FROM readings {}",
        "UNION ALL SELECT device, temp FROM readings ".repeat(99)
    );
    assert!(compile(&files(&unions), &catalog()).is_ok());
    let nested = format!(
        "{READINGS}{OUT}INSERT INTO out {} readings {}",
        "SELECT * FROM (".repeat(39),
        ")".repeat(39)
    );
    let _ = compile(&files(&nested), &catalog());
    let long = select(&("temp".to_owned() + &" + temp".repeat(150)));
    assert!(compile(&files(&long), &catalog()).is_ok());
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in ".{0,300}") {
        let _ = compile(&files(&text), &catalog());
    }

    #[test]
    fn arbitrary_words_do_not_panic(words in proptest::collection::vec(0..WORDS.len(), 0..60)) {
        let text: Vec<&str> = words.into_iter().map(|i| WORDS[i]).collect();
        let text = text.join(" ");
        let _ = compile(&files(&text), &catalog());
        let _ = compile(&files(&format!("{READINGS}{OUT}INSERT INTO out SELECT {text}")), &catalog());
        let _ = compile(&files(&format!("{READINGS}{OUT}INSERT INTO out SELECT device, {text} FROM readings")), &catalog());
        let _ = compile(&files(&format!("CREATE TABLE t ({text})")), &catalog());
    }
}

const WORDS: [&str; 84] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "INSERT INTO",
    "CREATE TABLE",
    "CREATE VIEW",
    "readings",
    "out",
    "device",
    "temp",
    "ts",
    "n",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    ".",
    "*",
    "+",
    "-",
    "/",
    "%",
    "=",
    "<>",
    "<",
    ">",
    ">>",
    "||",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "IS",
    "IN",
    "BETWEEN",
    "LIKE",
    "ESCAPE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "TRY_CAST(",
    "AS",
    "INT",
    "STRING",
    "DECIMAL(4,2)",
    "TIMESTAMP(3)",
    "ARRAY<",
    "ROW<",
    "MAP[",
    "MAP",
    "ARRAY[",
    "INTERVAL '1' MINUTE",
    "INTERVAL",
    "'x'",
    "'%'",
    "1",
    "1.5",
    "1e400",
    "9223372036854775808",
    "COUNT(*)",
    "SUM(",
    "FILTER (WHERE",
    "TUMBLE(TABLE",
    "HOP(",
    "TABLE",
    "DESCRIPTOR(ts)",
    "window_start",
    "UNNEST(",
    "CROSS JOIN",
    "LEFT JOIN",
    "ON TRUE",
    "UNION ALL",
    "WITH",
    "METADATA FROM",
    "WATERMARK FOR",
    "EXTRACT(",
    "FLOOR(",
];
