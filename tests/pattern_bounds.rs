//! Row patterns at their bounds and in the store: what is given up is counted and says why, what an epoch writes follows
//! what came, and a changed pattern does not read what another has written.
#![allow(clippy::unwrap_used)]

#[path = "support/engine.rs"]
mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use headwater::engine::{Engine, SealedEpoch, StateChange, Stored};
use headwater::plan::Plan;
use headwater::sql::{Catalog, compile_query};

struct Run(Engine);

impl Run {
    fn new(clause: &str) -> Self {
        // Everything is written as changes.
        Self(support::engine(&plan(clause), 1 << 40))
    }

    fn row(&mut self, seconds: usize, value: usize, pad: &str) {
        let payload = format!("{{\"k\":\"x\",\"s\":{seconds},\"v\":{value},\"pad\":\"{pad}\"}}");
        support::deliver(&mut self.0, 0, &payload, support::clock(0));
    }

    fn seal(&mut self) -> SealedEpoch {
        let sealed = self.0.seal(support::clock(0));
        self.0.committed();
        sealed
    }
}

fn plan(clause: &str) -> Arc<Plan> {
    let table = "CREATE TABLE t (k STRING, s BIGINT, v INT, pad STRING, ts AS TO_TIMESTAMP_LTZ(s, 0), WATERMARK FOR ts AS \
                 CASE WHEN v < 1000000 THEN ts END) WITH ('connector' = 'filesystem', 'path' = 't')";
    let view = format!(
        "CREATE VIEW found AS SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts {clause})"
    );
    let files = vec![
        ("t.sql".to_owned(), table.to_owned()),
        ("found.sql".to_owned(), view),
    ];
    let query = ("query".to_owned(), "SELECT * FROM found".to_owned());
    let (plan, _) = compile_query(&files, &query, &Catalog::default()).unwrap();
    Arc::new(plan)
}

/// The reasons and details of what was discarded.
fn discarded(sealed: &SealedEpoch) -> String {
    let mut text = String::new();
    for letter in &sealed.dead {
        let _ = writeln!(text, "{} {}", letter.reason, letter.detail);
    }
    text
}

#[test]
fn a_match_that_never_ends_gives_up_its_rows() {
    let mut run = Run::new(
        "MEASURES FIRST(A.v) AS f, COUNT(*) AS n AFTER MATCH SKIP PAST LAST ROW PATTERN (A+ B) DEFINE B AS v < 0",
    );
    for second in 0..10_050 {
        run.row(second, second, "");
    }
    let sealed = run.seal();
    let text = discarded(&sealed);
    assert!(text.contains("pattern_limit key 'x' has"), "{text}");
    assert!(text.contains("is given up. Bound it by WITHIN"), "{text}");
}

#[test]
fn partial_matches_beyond_the_bound_are_given_up_newest_first() {
    // Each row begins a match that waits for its own end.
    let mut run = Run::new(
        "MEASURES A.v AS f AFTER MATCH SKIP TO NEXT ROW PATTERN (A X* B) WITHIN INTERVAL '1' DAY DEFINE B AS v = 0 - A.v",
    );
    for second in 0..1_010 {
        run.row(second, second + 1, "");
    }
    let text = discarded(&run.seal());
    let given_up = text
        .lines()
        .filter(|line| line.contains("pattern_limit"))
        .count();
    assert_eq!(given_up, 10, "{text}");
    assert!(
        text.contains("has 1001 partial matches over 1001 rows"),
        "{text}"
    );
    // The oldest are still there.
    run.0.finish();
    assert_eq!(run.seal().local.len(), 0);
}

#[test]
fn rows_beyond_the_bytes_of_a_key_are_given_up() {
    let mut run = Run::new(
        "MEASURES LAST(B.pad) AS pad AFTER MATCH SKIP PAST LAST ROW PATTERN (A B+ C) WITHIN INTERVAL '1' DAY DEFINE A AS v = 1, B \
         AS v = 2, C AS v = 3",
    );
    let pad = "p".repeat(100_000);
    run.row(0, 1, &pad);
    for second in 1..60 {
        run.row(second, 2, &pad);
    }
    let text = discarded(&run.seal());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("of at most 1000, 10000 and 4194304"),
        "{text}"
    );
    // After it there is room again.
    run.row(100, 1, "");
    run.row(101, 2, "x");
    run.row(102, 3, "");
    run.row(103, 3, "");
    let sealed = run.seal();
    assert_eq!(sealed.local.len(), 1);
    assert!(sealed.local[0].line.contains("\"pad\":\"x\""));
}

#[test]
fn rows_that_wait_for_the_watermark_are_bounded() {
    let mut run = Run::new(
        "MEASURES A.v AS a, B.v AS b AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) WITHIN INTERVAL '1' DAY DEFINE A AS pad > ''",
    );
    let pad = "p".repeat(1_000_000);
    // These rows do not move the watermark.
    for _ in 0..6 {
        run.row(20, 1_000_000, &pad);
    }
    let text = discarded(&run.seal());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("key 'x' has 5 rows of 50"), "{text}");
    assert!(text.contains("that wait for the watermark"), "{text}");
    // They are there when the watermark comes.
    run.row(30, 1, "");
    assert_eq!(run.seal().local.len(), 2);
}

#[test]
fn an_epoch_writes_the_rows_that_came_and_not_those_that_wait() {
    let mut run = Run::new(
        "MEASURES LAST(B.pad) AS pad AFTER MATCH SKIP PAST LAST ROW PATTERN (A B+ C) WITHIN INTERVAL '1' DAY DEFINE A AS v = 1, B \
         AS v = 2, C AS v = 3",
    );
    let pad = "p".repeat(100);
    run.row(0, 1, &pad);
    for second in 1..500 {
        run.row(second, 2, &pad);
    }
    let bytes = |sealed: SealedEpoch| match sealed.state {
        StateChange::Delta(delta) => delta.len(),
        other => panic!("{other:?}"),
    };
    let many = bytes(run.seal());
    run.row(500, 2, &pad);
    let one = bytes(run.seal());
    assert!(many > 50_000, "{many}");
    assert!(one < 600, "{one}");
}

#[test]
fn another_pattern_does_not_read_the_state_of_the_one_before() {
    let clause = "MEASURES A.v AS a, B.v AS b AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) WITHIN INTERVAL '1' DAY DEFINE A AS v = 1";
    let mut run = Run::new(clause);
    run.row(0, 1, "");
    let sealed = run.seal();
    let StateChange::Delta(delta) = sealed.state else {
        panic!("{:?}", sealed.state);
    };
    let restored = |clause: &str| {
        let mut engine = support::engine(&plan(clause), 1 << 40);
        let stored = Stored {
            epoch: sealed.epoch,
            meta: &sealed.meta,
            base: Vec::new(),
            deltas: vec![delta.clone()],
        };
        engine.restore(stored, &[]).map(|()| engine)
    };
    let error = restored(&clause.replace("v = 1", "v = 2"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("found"), "{error}");
    assert!(error.contains("headwater state reset"), "{error}");
    // Spelt another way it is the same, and goes on where it was.
    let mut run = Run(restored(&clause.replace("(A B)", "( (A)  B )")).unwrap());
    run.row(2, 5, "");
    let rows = run.seal().local;
    assert_eq!(rows.len(), 1);
    assert!(rows[0].line.contains("\"a\":1,\"b\":5"), "{}", rows[0].line);
}
