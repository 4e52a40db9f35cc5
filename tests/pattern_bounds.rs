//! Row patterns at their bounds: what is given up is counted and says why, and what an epoch writes follows what came.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::sync::Arc;

use headwater::codec::Message;
use headwater::engine::{Clock, Engine, EngineOptions, SealedEpoch, StateChange};
use headwater::plan::SourceId;
use headwater::sql::{Catalog, compile_query};
use headwater::types::EventTime;

const CLOCK: Clock = Clock {
    wall: EventTime::from_millis(4_102_444_800_000), // 2100-01-01
    steady_micros: 0,
};

struct Run(Engine);

impl Run {
    fn new(clause: &str) -> Self {
        let table = "CREATE TABLE t (k STRING, s BIGINT, v INT, pad STRING, ts AS TO_TIMESTAMP_LTZ(s, 0), WATERMARK FOR \
                     ts AS ts) WITH ('connector' = 'filesystem', 'path' = 't')";
        let files = vec![("t.sql".to_owned(), table.to_owned())];
        let query =
            format!("SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts {clause})");
        let query = ("query".to_owned(), query);
        let (plan, _) = compile_query(&files, &query, &Catalog::default()).unwrap();
        let options = EngineOptions {
            max_keys: 1_000,
            max_payload_bytes: 1 << 20,
            least_fold_bytes: 1 << 40,
            connections: Vec::new(),
        };
        Self(Engine::new(Arc::new(plan), &options))
    }

    fn row(&mut self, seconds: usize, value: usize, pad: &str) {
        let payload = format!("{{\"k\":\"x\",\"s\":{seconds},\"v\":{value},\"pad\":\"{pad}\"}}");
        let message = Message {
            topic: "t",
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            received: CLOCK.wall,
        };
        self.0.deliver_to(SourceId(0), &message, CLOCK);
    }

    fn seal(&mut self) -> SealedEpoch {
        let sealed = self.0.seal(CLOCK);
        self.0.committed();
        sealed
    }
}

/// The reasons and details of what was discarded, each reason once.
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
    // The last row is not taken yet: the watermark has not passed it.
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
