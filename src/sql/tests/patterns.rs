//! Row patterns: their plans, what tells two of them apart, and what `check` warns of.

use super::*;

fn pattern(clause: &str) -> String {
    format!(
        "{READINGS}{OUT}INSERT INTO out SELECT device, v FROM readings MATCH_RECOGNIZE (PARTITION BY device ORDER BY ts {clause})"
    )
}

/// The warnings without their places and hints.
fn warnings(clause: &str) -> Vec<String> {
    let (_, warnings) = plan(&pattern(clause));
    let plain = |warning: &String| {
        let (_, message) = warning.split_once(": ").unwrap();
        message.split(" (write ").next().unwrap().to_owned()
    };
    warnings.iter().map(plain).collect()
}

#[test]
fn a_pattern_is_explained() {
    let (plan, warnings) = plan(&pattern(
        "MEASURES LAST(UP.temp) - FIRST(temp, 1) AS v, AVG(S.n) FILTER (WHERE S.n > 0) AS m, NEXT(LAST(UP.n, 2), 3) AS x
         AFTER MATCH SKIP TO LAST UP
         PATTERN (A (UP{2,} | {- DOWN -})+ PERMUTE(B, C)?) WITHIN INTERVAL '5' MINUTE SUBSET S = (A, UP)
         DEFINE UP AS temp > PREV(temp), DOWN AS temp < LAST(S.temp) AND SUM(A.n) > 3",
    ));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let text = explain(&plan);
    let tree = text.split("└─ source").next().unwrap();
    assert_eq!(
        tree,
        "\
sink out to standard output  -- INSERT out at a.sql:9:13
│  columns device STRING, v DOUBLE
│  format json
└─ project
   │  device STRING
   │  v DOUBLE
   └─ match A (UP{2,} | {- DOWN -})+ PERMUTE(B, C)? by device on ts within 5 min, then to the last UP
      │  A is any row
      │  UP is (temp > PREV(temp, 1))
      │  DOWN is ((temp < A|UP.temp) AND (SUM(A.n) > 3))
      │  B is any row
      │  C is any row
      │  v = (UP.temp - FIRST(temp, 1))
      │  m = AVG(A|UP.n) FILTER (WHERE (A|UP.n > 0))
      │  x = NEXT(LAST(UP.n, 2), 3)
      "
    );
}

#[test]
fn what_is_risky_is_said() {
    let within = "WITHIN INTERVAL '1' MINUTE";
    let skip = "AFTER MATCH SKIP PAST LAST ROW";
    let none: [&str; 0] = [];
    let safe = format!("MEASURES A.temp AS v {skip} PATTERN (A B+ C) {within} DEFINE A AS n > 1");
    assert_eq!(warnings(&safe), none);
    let open = warnings("MEASURES A.temp AS v PATTERN (A B+ C) DEFINE A AS n > 1");
    assert_eq!(
        open,
        [
            "without AFTER MATCH it is SKIP TO NEXT ROW here, as in Flink, and PAST LAST ROW in other systems",
            "without WITHIN a match that is begun waits for its end for ever and holds its rows: up to 10000, about 1171 KB, \
             for each key",
        ]
    );
    let empty = format!("MEASURES A.temp AS v {skip} PATTERN (A*) {within} DEFINE A AS n > 1");
    assert_eq!(warnings(&empty).len(), 1);
    let anchored = format!("MEASURES A.temp AS v {skip} PATTERN (^ A) {within}");
    assert_eq!(warnings(&anchored).len(), 1);
}

#[test]
fn loops_that_take_the_same_rows_are_said_to_grow() {
    let grows = |pattern: &str, define: &str| {
        let found = warnings(&format!(
            "MEASURES A.temp AS v AFTER MATCH SKIP PAST LAST ROW PATTERN ({pattern}) WITHIN INTERVAL '1' MINUTE DEFINE {define}"
        ));
        found
            .iter()
            .any(|warning| warning.contains("a row may meet both"))
    };
    let remembers = "C AS C.temp > FIRST(A.temp)";
    assert!(grows("A* B* C", remembers));
    assert!(grows("A+ C? B{3,} C", remembers));
    assert!(grows("(A+ C)+ B", remembers));
    // Something obligatory stands between them, and each row takes one place alone.
    assert!(!grows("A* C B*", remembers));
    assert!(!grows("A{,3} B* C", remembers));
    // No condition reads what was matched before: partial matches at one place are alike.
    assert!(!grows("A* B* C", "C AS C.temp > 3"));
    for (a, b, apart) in [
        ("n = 1", "n = 2", true),
        ("n > 5", "n <= 5", true),
        ("n >= 5", "5 > n AND temp > 1", true),
        ("n = 1", "n <> 1", true),
        ("n >= 5", "n <= 5", false),
        ("n > 5", "temp <= 5", false),
        ("n > 5", "PREV(n) <= 5", false),
    ] {
        let define = format!("A AS {a}, B AS {b}, {remembers}");
        assert_eq!(grows("A* B* C", &define), !apart, "{a} and {b}");
    }
}

/// State that was written for another pattern is not read for this one.
#[test]
fn another_pattern_has_another_fingerprint() {
    let whole = "MEASURES A.temp AS v AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) WITHIN INTERVAL '1' MINUTE DEFINE A AS n > 1";
    let fingerprint = |clause: &str| {
        let (plan, _) = plan(&pattern(clause));
        let node = plan
            .nodes
            .iter()
            .find(|n| matches!(n.operator, crate::plan::Operator::Match(_)));
        node.unwrap().fingerprint
    };
    let first = fingerprint(whole);
    assert_eq!(first, fingerprint(&whole.replace("(A B)", "((A)  B)")));
    for (from, to) in [
        ("(A B)", "(A B+)"),
        ("(A B)", "(A {- B -})"),
        ("A.temp", "B.temp"),
        ("n > 1", "n > 2"),
        ("PAST LAST ROW", "TO NEXT ROW"),
        ("'1' MINUTE", "'2' MINUTE"),
        ("WITHIN INTERVAL '1' MINUTE", ""),
        ("AFTER", "ONE ROW PER MATCH SHOW TIMEOUT MATCHES AFTER"),
        ("AFTER", "ALL ROWS PER MATCH AFTER"),
    ] {
        let changed = whole.replace(from, to);
        assert_ne!(first, fingerprint(&changed), "{changed}");
    }
}
