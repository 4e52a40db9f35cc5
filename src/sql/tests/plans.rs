//! What SQL becomes: plans, fingerprints, warnings.

use super::*;

#[test]
fn a_filter_becomes_a_plan() {
    let (plan, warnings) = plan(&format!(
        "{READINGS}{OUT}INSERT INTO out SELECT device, temp * 2 FROM readings WHERE temp > 30 AND device LIKE 'pump%';"
    ));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        explain(&plan),
        "\
sink out to standard output  -- INSERT out at a.sql:9:13
│  columns device STRING, v DOUBLE
│  format json
└─ project
   │  device STRING
   │  EXPR$1 DOUBLE = (temp * 2)
   └─ filter ((temp > 3e1) AND (device LIKE 'pump%'))
      └─ source readings from mqtt default 'sensors/+/data' qos 1
            device STRING = level 1 of the topic
            temp DOUBLE = [\"temp\"]
            n INT = [\"n\"]
            ts TIMESTAMP(3) = [\"ts\"]
            watermark for ts = (ts - INTERVAL '5 s')
            at most 5 min ahead of its arrival
            idle after 1 min
            format json
"
    );
}

#[test]
fn windows_become_steps() {
    for form in [
        "TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '60' SECONDS)",
        "TABLE(TUMBLE(DATA => TABLE readings, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))",
        "TUMBLE((SELECT * FROM readings), DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
    ] {
        let (plan, _) = plan(&format!(
            "{READINGS}{OUT}INSERT INTO out
             SELECT r.device, AVG(temp) - MIN(temp) FILTER (WHERE n > 0) AS spread
             FROM {form} AS r
             WHERE temp IS NOT NULL
             GROUP BY device, window_start, window_end
             HAVING COUNT(*) > 2 AND AVG(temp) < 100"
        ));
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
   │  spread DOUBLE = (avg - min)
   └─ filter ((count > 2) AND (avg < 1e2))
      └─ aggregate per window of 1 min on ts
         │  key device STRING
         │  avg DOUBLE = AVG(temp)
         │  min DOUBLE = MIN(temp) FILTER (WHERE (n > 0))
         │  count BIGINT = COUNT(*)
         └─ filter (NOT (temp IS NULL))
            ",
            "{form}"
        );
    }
}

#[test]
fn a_window_without_group_by_is_assigned() {
    let (plan, _) = plan(&format!(
        "{READINGS}CREATE TABLE w (d STRING, s TIMESTAMP(3), e TIMESTAMP(3), t TIMESTAMP(3)) WITH ('connector' = 'print');
         INSERT INTO w SELECT device, window_start, window_end, window_time
         FROM HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE) WHERE window_start > TIMESTAMP '2024-01-01 00:00:00'"
    ));
    let text = explain(&plan);
    assert!(
        text.contains("assign window of 5 min every 1 min on ts"),
        "{text}"
    );
    assert!(
        text.contains("filter (window_start > TIMESTAMP '2024-01-01 00:00:00.000000')"),
        "{text}"
    );
}

#[test]
fn windows_cascade() {
    let (plan, _) = plan(&format!(
        "{READINGS}CREATE TABLE w (c BIGINT, s TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
         INSERT INTO w SELECT c, window_start, COUNT(*) FROM (
           SELECT device, window_start, window_end, COUNT(*) AS c
           FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' DAY, INTERVAL '-8' HOUR))
           GROUP BY device, window_start, window_end)
         GROUP BY c, window_start, window_end"
    ));
    let text = explain(&plan);
    assert!(
        text.contains("aggregate per window from window_start to window_end on window_end"),
        "{text}"
    );
    assert!(
        text.contains("aggregate per window of 1 d shifted by -8 h on ts"),
        "{text}"
    );
}

#[test]
fn equal_steps_are_shared_and_unused_ones_go() {
    let (plan, warnings) = plan(&format!(
        "{READINGS}{OUT}
         CREATE VIEW hot AS SELECT device, temp FROM readings WHERE temp > 30;
         CREATE VIEW idle AS SELECT * FROM readings WHERE temp < 0;
         INSERT INTO out SELECT * FROM hot;
         INSERT INTO out SELECT device, temp FROM hot WHERE device <> 'x';
         INSERT INTO out (device, v) SELECT h.device, h.temp FROM (SELECT device, temp FROM readings WHERE temp > 30) AS h;"
    ));
    assert_eq!(plan.sources.len(), 1);
    assert_eq!(plan.nodes.len(), 7, "{}", explain(&plan));
    assert_eq!(
        plan.nodes
            .iter()
            .filter(|n| n.query == "INSERT out 2")
            .count(),
        2
    );
    assert_eq!(
        warnings,
        ["a.sql:11:22: the view idle is not used (remove it, or read it in an INSERT)"]
    );
    assert!(explain(&plan).contains("(shared, see above)"));
}

#[test]
fn fingerprints_follow_meaning_and_not_spelling() {
    let base = plan(&format!(
        "{READINGS}{OUT}INSERT INTO out SELECT device, temp FROM readings WHERE temp > 30;"
    ))
    .0;
    let same = plan(&format!(
        "{OUT} -- a comment\n{READINGS}\n\n/* another */ INSERT INTO OUT\n select r.DEVICE, `temp` as x from readings as r where (TEMP) > 30.0e0 ;"
    ))
    .0;
    let tuned = plan(
        &format!(
            "{READINGS}{OUT}INSERT INTO out SELECT device, temp FROM readings WHERE temp > 30;"
        )
        .replace("'format'", "'qos' = '0', 'format'"),
    )
    .0;
    let other = plan(&format!(
        "{READINGS}{OUT}INSERT INTO out SELECT device, temp FROM readings WHERE temp > 31;"
    ))
    .0;
    let prints = |plan: &Plan| plan.nodes.iter().map(|n| n.fingerprint).collect::<Vec<_>>();
    assert_eq!(prints(&base), prints(&same));
    assert_eq!(prints(&base), prints(&tuned));
    assert_eq!(prints(&base)[0], prints(&other)[0]);
    assert_ne!(base.sinks[0].fingerprint, other.sinks[0].fingerprint);
}

#[test]
fn statements_may_stand_in_any_order_and_in_sets() {
    let text = format!(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO out SELECT device, temp FROM v2; INSERT INTO out SELECT device, temp FROM v1; END;
         CREATE TEMPORARY VIEW v2 AS SELECT * FROM v1; CREATE VIEW v1 (device, temp) AS SELECT device, temp FROM readings;{OUT}{READINGS}"
    );
    let (plan, _) = plan(&text);
    assert_eq!(plan.sinks.len(), 2);
}

#[test]
fn tables_say_where_their_columns_are() {
    let (plan, warnings) = plan(
        "CREATE TABLE shelly (
           `src` STRING,
           switch0 ROW<output BOOLEAN, apower DOUBLE NOT NULL, aenergy ROW<total DOUBLE, by_minute ARRAY<DOUBLE>>>,
           tags MAP<STRING, ARRAY<INT>>,
           name VARCHAR(20) COMMENT 'a name',
           at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
           topic STRING METADATA VIRTUAL,
           unix DOUBLE,
           ts AS TO_TIMESTAMP_LTZ(unix, 0),
           power AS switch0.apower * 1.0e0,
           PRIMARY KEY (`src`) NOT ENFORCED,
           WATERMARK FOR ts AS ts
         ) WITH (
           'connector' = 'mqtt', 'topic' = '+/events/rpc; shellies/#', 'format' = 'json', 'retained' = 'true', 'qos' = '0',
           'fields.switch0.path' = '$.params.\"switch:0\"', 'fields.unix.path' = 'params.ts',
           'timestamp-format' = 'epoch-seconds', 'json.ignore-parse-errors' = 'true',
           'scan.watermark.idle-timeout' = '1 min', 'scan.watermark.max-future' = '0s');
         CREATE TABLE power (id STRING, power DOUBLE NOT NULL, at TIMESTAMP_LTZ(3)) WITH (
           'connector' = 'mqtt', 'topic' = 'power/{id}/now', 'format' = 'json', 'retain' = 'true',
           'json.id-field' = 'event_id', 'json.timestamp-format.standard' = 'ISO-8601');
         INSERT INTO power SELECT `src`, power, at FROM shelly WHERE switch0.output AND tags['x'][1] = 3;",
    );
    assert_eq!(
        explain(&plan),
        "\
sink power to mqtt default 'power/{id}/now' qos 1, retained  -- INSERT power at a.sql:21:22
│  columns id STRING, power DOUBLE NOT NULL, at TIMESTAMP_LTZ(3)
│  format json, timestamps in ISO 8601, event id in 'event_id'
└─ project
   │  id STRING = src
   │  power DOUBLE NOT NULL = $NOT_NULL(power, 'power')
   │  at TIMESTAMP_LTZ(3)
   └─ filter (switch0.`output`@0 AND (tags['x'][1] = 3))
      └─ source shelly from mqtt default '+/events/rpc; shellies/#' qos 0, retained messages too
            src STRING = [\"src\"]
            switch0 ROW<`output` BOOLEAN, `apower` DOUBLE, `aenergy` ROW<`total` DOUBLE, `by_minute` ARRAY<DOUBLE>>> = [\"params\"][\"switch:0\"]
            tags MAP<STRING, ARRAY<INT>> = [\"tags\"]
            name STRING = [\"name\"]
            at TIMESTAMP_LTZ(3) = the time of arrival
            topic STRING = the topic
            unix DOUBLE = [\"params\"][\"ts\"]
            ts TIMESTAMP_LTZ(3) = TO_TIMESTAMP_LTZ(unix, 0)
            power DOUBLE = (switch0.`apower`@1 * 1e0)
            watermark for ts = ts
            idle after 1 min
            format json, timestamps in seconds since 1970, wrong fields are NULL
"
    );
    assert_eq!(
        warnings,
        [
            "a.sql:5:12: the length 20 of the column name is not checked (write STRING or BYTES, or cut it in the query with LEFT(x, n))",
            "a.sql:11:12: the PRIMARY KEY changes nothing: events are sent one by one (remove it; to keep the last event of each key, use 'retain' = 'true' and a topic for each key)",
        ]
    );
}

#[test]
fn arrays_are_taken_apart() {
    let (plan, _) = plan(
        "CREATE TABLE t (tags ARRAY<ROW<name STRING, val DOUBLE>>, xs ARRAY<INT>) WITH ('connector' = 'filesystem', 'path' = 'in.jsonl');
         CREATE TABLE o (name STRING, v DOUBLE, x INT) WITH ('connector' = 'filesystem', 'path' = 'out.jsonl');
         INSERT INTO o SELECT r.n, v * 2, x FROM t CROSS JOIN UNNEST(tags) AS r (n, v) LEFT JOIN UNNEST(t.xs) AS s (x) ON TRUE
         UNION ALL SELECT name, 1.5, CAST(NULL AS INT) FROM t, UNNEST(tags) AS u WHERE u.val IS NOT NULL;",
    );
    assert_eq!(
        explain(&plan),
        "\
sink o to file 'out.jsonl'  -- INSERT o at a.sql:3:22
│  columns name STRING, v DOUBLE, x INT
│  format json
└─ union
   ├─ project
   │  │  n STRING
   │  │  EXPR$1 DOUBLE = (v * 2)
   │  │  x INT
   │  └─ unnest xs, keeping rows without elements
   │     └─ [1] unnest tags
   │        └─ source t from file 'in.jsonl'
   │              tags ARRAY<ROW<`name` STRING, `val` DOUBLE>> = [\"tags\"]
   │              xs ARRAY<INT> = [\"xs\"]
   │              format json
   └─ project
      │  n STRING
      │  EXPR$1 DOUBLE = CAST(1.5 AS DOUBLE)
      │  x INT = NULL
      └─ filter (NOT (v IS NULL))
         └─ [1] (shared, see above)
"
    );
}

#[test]
fn a_source_that_may_fall_silent_is_warned_of_where_something_waits_for_time() {
    let table = |options: &str| {
        format!(
            "CREATE TABLE t (v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
             WITH ('connector'='mqtt','topic'='a','format'='json'{options});
             CREATE TABLE o (v INT) WITH ('connector'='print');"
        )
    };
    let window = "INSERT INTO o SELECT MAX(v) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE) \
                  GROUP BY window_start, window_end;";
    let filter = "INSERT INTO o SELECT v FROM t WHERE v > 1;";
    let warned = |options: &str, query: &str| plan(&format!("{}{query}", table(options))).1;
    assert_eq!(
        warned("", window),
        [
            "a.sql:1:14: while t is silent its time stands still: the last windows, joins, patterns and alarms over it stay \
             as they are until its next message (add 'scan.watermark.idle-timeout' = '1 min')"
        ]
    );
    assert!(warned(", 'scan.watermark.idle-timeout'='1 min'", window).is_empty());
    assert!(warned("", filter).is_empty());
    // Delays and silence need time to pass; the table of commands has no part in it.
    let alarm = "CREATE TABLE c (command STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) \
                 WITH ('connector'='mqtt','topic'='c','format'='json');
                 INSERT INTO o SELECT CAST(raises AS INT) FROM ALARM(TABLE t, DESCRIPTOR(ts), value => v, high => 8, \
                 commands => TABLE c);";
    assert_eq!(warned("", alarm).len(), 1);
    assert!(warned(", 'scan.watermark.idle-timeout'='1 min'", alarm).is_empty());
}

#[test]
fn warnings_say_what_may_go_wrong() {
    let (_, warnings) = plan(
        "CREATE TABLE t (v INT) WITH ('connector'='mqtt','topic'='a/+','format'='json');
         CREATE TABLE unused (v INT) WITH ('connector'='print');
         CREATE TABLE o (v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='print');
         INSERT INTO o (v) SELECT v FROM t;",
    );
    assert_eq!(
        warnings,
        [
            "a.sql:1:14: t reads many topics, and no column says which one a row came from (add a column: device STRING METADATA FROM 'topic[1]')",
            "a.sql:2:23: the table unused is not used (remove it, or read or write it in an INSERT)",
            "a.sql:3:64: the watermark of o has no effect: the table is only written (remove it)",
        ]
    );
}

#[test]
fn connections_are_found_by_name() {
    let text = files(
        "CREATE TABLE t (v INT) WITH ('connector'='mqtt','topic'='a','format'='json');
         CREATE TABLE o (v INT) WITH ('connector'='mqtt','topic'='b','format'='json');
         INSERT INTO o SELECT v FROM t;",
    );
    let of = |names: &[&str]| {
        compile(
            &text,
            &Catalog {
                connections: names.iter().map(ToString::to_string).collect(),
            },
        )
    };
    assert!(of(&["x"]).is_ok());
    assert!(of(&["source", "upstream", "other"]).is_ok());
    let problems = of(&["a", "b"]).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "a.sql:1:14: the table t does not say which connection it uses (add 'connection' = '…': the connections are a, b)"
    );
    assert_eq!(
        of(&[]).unwrap_err()[0].message,
        "there is no connection to a broker"
    );
}

#[test]
fn over_becomes_one_step_for_each_partition() {
    let text = |query: &str| {
        let (plan, warnings) = plan(&format!("{READINGS}{OUT}INSERT INTO out {query}"));
        (
            explain(&plan).split("└─ source").next().unwrap().to_owned(),
            warnings,
        )
    };
    let (tree, warnings) = text(
        "SELECT device, SUM(temp) OVER w + LAG(temp, 2, 0e0) OVER w - AVG(temp) OVER (PARTITION BY device ORDER BY ts \
         RANGE INTERVAL '1' MINUTE PRECEDING) FROM readings WINDOW w AS (PARTITION BY device ORDER BY ts)",
    );
    let over = "over rows by ts
      │  key device
      │  sum DOUBLE = SUM(temp) OVER (RANGE UNBOUNDED PRECEDING)
      │  lag DOUBLE = LAG(temp, 2, 0e0)
      │  avg DOUBLE = AVG(temp) OVER (RANGE 1 min PRECEDING)";
    assert!(tree.contains(over), "{tree}");
    assert_eq!(tree.matches("over rows").count(), 1);
    assert_eq!(
        warnings,
        [
            "a.sql:9:32: OVER remembers every key for ever, up to limits.max_keys (where keys come and go, write SET \
             'table.exec.state.ttl' = '1 d' before the statement, or RANGE BETWEEN INTERVAL … PRECEDING AND CURRENT ROW)"
        ]
    );
    // A frame with an end in the past forgets by itself.
    let (_, warnings) = text(
        "SELECT device, SUM(temp) OVER (PARTITION BY device ORDER BY ts RANGE INTERVAL '1' MINUTE PRECEDING) FROM readings",
    );
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_filter_on_a_row_number_bounds_the_state() {
    let text = |statements: &str| {
        let (plan, warnings) = plan(&format!("{READINGS}{OUT}{statements}"));
        assert_eq!(warnings, Vec::<String>::new());
        explain(&plan)
    };
    let first = text(
        "CREATE VIEW numbered AS SELECT device, temp, ROW_NUMBER() OVER (PARTITION BY device, n ORDER BY ts \
         RANGE INTERVAL '10' MINUTE PRECEDING) AS rn FROM readings WHERE temp > 0;
         INSERT INTO out SELECT device, temp FROM (SELECT * FROM numbered WHERE temp < 100) WHERE 1 >= rn;",
    );
    assert!(first.contains("first row within 10 min by ts"), "{first}");
    assert!(!first.contains("over rows"), "{first}");
    let kept = text(
        "SET 'table.exec.state.ttl' = '2 h';
         INSERT INTO out SELECT device, temp FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts) AS rn FROM readings) WHERE rn = 1;",
    );
    assert!(kept.contains("first row within 2 h by ts"), "{kept}");
    let top = text(
        "INSERT INTO out SELECT device, temp FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY temp DESC) AS rn \
         FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE rn BETWEEN 2 AND 5 AND temp > 0;",
    );
    assert!(
        top.contains("first 5 rows per window from window_start to window_end"),
        "{top}"
    );
    assert!(top.contains("by temp DESC NULLS LAST"), "{top}");
}

#[test]
fn a_detector_says_all_its_settings_and_equal_calls_are_one() {
    let (plan, _) = plan(&format!(
        "{READINGS}{OUT}INSERT INTO out SELECT device, a.score + b.score + (CUSUM(temp, target => 20) OVER w).high \
         FROM (SELECT *, ANOMALY_SCORE(temp, threshold => 4) OVER w AS a, ANOMALY_SCORE(temp, THRESHOLD => 4.0, quiet => 100) OVER w AS b \
         FROM readings WINDOW w AS (PARTITION BY device ORDER BY ts)) WINDOW w AS (PARTITION BY device ORDER BY ts);"
    ));
    let text = explain(&plan);
    assert_eq!(
        text.matches("ANOMALY_SCORE(temp, threshold => 4, quiet => 100, lean => false)")
            .count(),
        1,
        "{text}"
    );
    assert!(
        text.contains(
            "CUSUM(temp, target => 20, baseline => 100, k => 0.5, h => 5, head_start => 0, restart => false)"
        ),
        "{text}"
    );
}
