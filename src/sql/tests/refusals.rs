//! What is said to SQL that is wrong or not supported: place, message, remedy.

use super::*;

#[test]
fn queries_are_refused_at_their_place_with_a_remedy() {
    let mut wrong = Vec::new();
    for (query, error) in [
        // Names.
        (
            "INSERT INTO out SELECT devise, temp FROM readings",
            "a.sql:9:24: there is no column devise (did you mean device?)",
        ),
        (
            "INSERT INTO out SELECT device, tmp + 1 FROM readings",
            "a.sql:9:32: there is no column tmp (did you mean temp?)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM reading",
            "a.sql:9:42: there is no table reading (did you mean readings?)",
        ),
        (
            "INSERT INTO outt SELECT device, temp FROM readings",
            "a.sql:9:13: there is no table outt to write (did you mean out?)",
        ),
        (
            "INSERT INTO out SELECT device, ABBS(temp) FROM readings",
            "a.sql:9:32: there is no function ABBS (did you mean ABS?)",
        ),
        (
            "INSERT INTO out SELECT r.device, s.temp FROM readings r",
            "a.sql:9:34: there is no column s.temp (did you mean temp?)",
        ),
        (
            "INSERT INTO out SELECT a.* FROM readings r",
            "a.sql:9:24: there is no table a in FROM (use the alias if it has one)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM c.readings",
            "a.sql:9:42: names of catalogs and databases are not supported (write the name of the table alone)",
        ),
        // Types.
        (
            "INSERT INTO out SELECT device, temp FROM readings WHERE device > 3",
            "a.sql:9:57: STRING and INT cannot be compared (convert the text: CAST(… AS DOUBLE), or TRY_CAST for NULL where it is no number)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM readings WHERE temp",
            "a.sql:9:57: WHERE needs a BOOLEAN, not DOUBLE (compare the value with something, for instance x <> 0)",
        ),
        (
            "INSERT INTO out SELECT device, device || temp FROM readings",
            "a.sql:9:32: CONCAT does not take (STRING, DOUBLE) (it takes CONCAT(STRING, …))",
        ),
        (
            "INSERT INTO out SELECT device, UPPER(device) FROM readings",
            "a.sql:9:32: the column v is DOUBLE, and the query gives EXPR$1 of type STRING (write CAST(EXPR$1 AS DOUBLE))",
        ),
        (
            "INSERT INTO out SELECT device FROM readings",
            "a.sql:9:13: the table takes 2 columns (device, v) and the query gives 1 (device) (give each column a value, or name the columns: INSERT INTO t (a, b) SELECT …)",
        ),
        (
            "INSERT INTO out (device, w) SELECT device, temp FROM readings",
            "a.sql:9:26: the table out has no column w to write (did you mean v?)",
        ),
        (
            "INSERT INTO out SELECT device, CAST(ts AS DOUBLE) FROM readings",
            "a.sql:9:37: TIMESTAMP(3) cannot be cast to DOUBLE (use UNIX_TIMESTAMP(CAST(ts AS STRING)) for seconds, or EXTRACT(EPOCH FROM ts))",
        ),
        (
            "INSERT INTO out SELECT device, CAST(temp AS DUBLE) FROM readings",
            "a.sql:9:45: there is no type DUBLE (did you mean DOUBLE?)",
        ),
        // Grouping.
        (
            "INSERT INTO out SELECT device, AVG(temp) FROM readings GROUP BY device",
            "a.sql:9:65: a GROUP BY without a window never ends: each event would change a result already sent (group by a window: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) … GROUP BY …, window_start, window_end)",
        ),
        (
            "INSERT INTO out SELECT 'all', AVG(temp) FROM readings",
            "a.sql:9:17: an aggregate over a whole stream never ends (group by a window: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) … GROUP BY …, window_start, window_end)",
        ),
        (
            "INSERT INTO out SELECT device, AVG(temp) FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY device, window_start",
            "a.sql:9:116: GROUP BY names window_start and not window_end (add window_end to GROUP BY)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY device, window_start, window_end",
            "a.sql:9:32: the column temp is neither grouped nor aggregated (add it to GROUP BY, or aggregate it: MAX(temp))",
        ),
        (
            "INSERT INTO out SELECT device, SUM(device) FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY device, window_start, window_end",
            "a.sql:9:32: SUM takes a number, not STRING (convert it first, for instance CAST(x AS DOUBLE))",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM readings WHERE AVG(temp) > 1",
            "a.sql:9:57: the aggregate AVG cannot stand here (aggregates stand in SELECT and HAVING, and not inside of each other)",
        ),
        (
            "INSERT INTO out SELECT device, MEDIAN(temp) FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY device, window_start, window_end",
            "a.sql:9:32: MEDIAN is not supported as an aggregate (write PERCENTILE(x, 0.5))",
        ),
        // Windows.
        (
            "INSERT INTO out SELECT device, temp FROM TUMBLE(TABLE readings, DESCRIPTOR(n), INTERVAL '1' MINUTE)",
            "a.sql:9:76: n is not a time attribute, so no window can be closed by it (the time attribute here is ts)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM TUMBLE(TABLE readings, ts, INTERVAL '1' MINUTE)",
            "a.sql:9:65: the time column is written DESCRIPTOR(column) (write TUMBLE(TABLE t, DESCRIPTOR(ts), SIZE => INTERVAL …))",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM TUMBLE(readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
            "a.sql:9:49: write TABLE before readings (write TUMBLE(TABLE t, DESCRIPTOR(ts), SIZE => INTERVAL …))",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '2' MINUTE, INTERVAL '5' MINUTE)",
            "a.sql:9:42: the size of HOP (5 min) is not a multiple of its slide (2 min) (the slide comes first: HOP(TABLE t, DESCRIPTOR(ts), slide, size))",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '0' MINUTE)",
            "a.sql:9:90: SIZE must be longer than zero (write INTERVAL '1' MINUTE)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MONTH)",
            "a.sql:9:90: months and years have no fixed length (use DAY or shorter)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(ts))",
            "a.sql:9:42: SESSION needs GAP (write SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), GAP => INTERVAL …))",
        ),
        (
            "INSERT INTO out SELECT device, AVG(temp) FROM readings GROUP BY device, TUMBLE(ts, INTERVAL '1' MINUTE)",
            "a.sql:9:73: TUMBLE in GROUP BY or SELECT is the old form of a window (write FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end)",
        ),
        // What is not there yet.
        (
            "INSERT INTO out SELECT device, temp FROM readings ORDER BY ts",
            "a.sql:9:60: ORDER BY is not supported on a stream (events are given as they come: remove it)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM readings LIMIT 3",
            "a.sql:9:17: LIMIT is not supported on a stream (a stream has no end: remove it, or filter with WHERE)",
        ),
        (
            "INSERT INTO out SELECT DISTINCT device, temp FROM readings",
            "a.sql:9:17: SELECT DISTINCT over a whole stream would remember every row for ever (group by the columns over a window: GROUP BY a, window_start, window_end)",
        ),
        (
            "INSERT INTO out SELECT a.device, a.temp FROM readings a JOIN readings b ON a.device = b.device",
            "a.sql:9:62: a join of streams without bounds on time would keep all rows for ever (bound it by time: JOIN b ON a.key = b.key AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' MINUTE)",
        ),
        (
            "INSERT INTO out SELECT device, LEAD(temp) OVER (PARTITION BY device ORDER BY ts) FROM readings",
            "a.sql:9:32: LEAD is not supported on a stream (the next row is not known yet: look back from it, LAG(x) OVER (…) gives the pair when its later row comes)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM readings UNION SELECT device, temp FROM readings",
            "a.sql:9:57: UNION without ALL is not supported on a stream (write UNION ALL)",
        ),
        (
            "INSERT INTO out SELECT device, (SELECT 1) FROM readings",
            "a.sql:9:33: a query inside of an expression is not supported (join the tables in FROM, or write the values into IN (…))",
        ),
        (
            "INSERT INTO out SELECT 'a', 1",
            "a.sql:9:17: a query without FROM has no events (write SELECT … FROM a table)",
        ),
        (
            "INSERT OVERWRITE out SELECT * FROM readings",
            "a.sql:9:8: INSERT OVERWRITE is not supported (events cannot be taken back: write INSERT INTO)",
        ),
        // Syntax.
        (
            "INSERT INTO out SELECT device, FROM readings",
            "a.sql:9:32: expected an expression, found FROM",
        ),
        (
            "INSERT INTO out SELECT (device, temp FROM readings",
            "a.sql:9:38: expected ), found FROM",
        ),
        (
            "INSERT INTO out SELECT \"device\", temp FROM readings",
            "a.sql:9:24: double quotes are not used in Flink SQL (write strings in single quotes and names in backticks)",
        ),
        (
            "INSERT INTO out SELECT 'device, temp FROM readings",
            "a.sql:9:24: unterminated string literal (close the string, name or comment that begins here)",
        ),
        (
            "INSERT INTO out SELECT device, temp FROM readings WHERE REGEXP(device, '(a')",
            "a.sql:9:57: '(a' is not a regular expression",
        ),
        (
            "SELECT * FROM readings",
            "a.sql:9:1: SELECT is not supported here (say where the rows go: INSERT INTO table SELECT …)",
        ),
        (
            "SET 'a' = 'b'",
            "a.sql:9:5: there is no setting 'a' (the setting is 'table.exec.state.ttl'; deployment options are in headwater.toml, options of a table in its WITH (…))",
        ),
        (
            "INSRT INTO out SELECT 1",
            "a.sql:9:1: there is no statement INSRT (did you mean INSERT?)",
        ),
        (
            "CREATE FUNCTION f AS 'x'",
            "a.sql:9:1: only CREATE TABLE and CREATE VIEW are supported (functions cannot be added: write the expression in a view)",
        ),
        (
            "CREATE VIEW a AS SELECT * FROM b; CREATE VIEW b AS SELECT * FROM a; INSERT INTO out SELECT * FROM a",
            "a.sql:9:66: the view a refers to itself (a → b → a) (a view can only use tables and views before it)",
        ),
        (
            "CREATE VIEW readings AS SELECT * FROM out",
            "a.sql:9:13: readings is declared twice (rename one: the first stands at a.sql:1:14)",
        ),
        (
            "CREATE VIEW v AS SELECT device, device FROM readings",
            "a.sql:9:13: the view has two columns device (rename one with AS)",
        ),
    ] {
        let found = query_errors(query);
        if found.len() != 1 || !found[0].starts_with(error) {
            wrong.push(format!(
                "{query}
  {}
  {error}
",
                found.join(
                    "
  "
                )
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_are_refused_at_their_place_with_a_remedy() {
    let mut wrong = Vec::new();
    let table = |columns: &str, options: &str| {
        errors(&format!(
            "CREATE TABLE t (\n{columns}\n) WITH (\n{options}\n);\nINSERT INTO o SELECT v FROM t; CREATE TABLE o (v INT) WITH ('connector'='print');"
        ))
    };
    let mqtt = "'connector'='mqtt','topic'='a','format'='json'";
    for (columns, options, error) in [
        (
            "v INTT",
            mqtt,
            "a.sql:2:3: there is no type INTT (did you mean INT?)",
        ),
        (
            "v INT, v INT",
            mqtt,
            "a.sql:2:8: the table has two columns v (rename one)",
        ),
        (
            "v DECIMAL(3, 4)",
            mqtt,
            "a.sql:2:10: DECIMAL(3, 4) does not exist (DECIMAL(p, s) has 1 to 38 digits, at most 28 of them after the point)",
        ),
        (
            "v INT METADATA FROM 'qqos'",
            mqtt,
            "a.sql:2:21: messages have no metadata 'qqos' (did you mean METADATA FROM 'qos'?)",
        ),
        (
            "v STRING METADATA FROM 'qos'",
            mqtt,
            "a.sql:2:1: the metadata 'qos' is INT, not STRING (declare the column as INT)",
        ),
        (
            "v INT, ts STRING, WATERMARK FOR ts AS ts",
            mqtt,
            "a.sql:2:33: a watermark needs a TIMESTAMP(3) or TIMESTAMP_LTZ(3), and ts is STRING (declare the column as TIMESTAMP(3) and set 'timestamp-format', or compute it: ts AS TO_TIMESTAMP(text))",
        ),
        (
            "v INT, ts TIMESTAMP(3), WATERMARK FOR t AS ts",
            mqtt,
            "a.sql:2:39: there is no column t (did you mean ts?)",
        ),
        (
            "v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS v",
            mqtt,
            "a.sql:2:39: the watermark is INT, not a TIMESTAMP (write WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)",
        ),
        (
            "v INT, PRIMARY KEY (v)",
            mqtt,
            "a.sql:2:8: a PRIMARY KEY of a stream cannot be enforced (write PRIMARY KEY (…) NOT ENFORCED, or remove it)",
        ),
        (
            "v AS w + 1, w AS 1",
            mqtt,
            "a.sql:2:6: there is no column w (there are no columns here)",
        ),
        (
            "v INT",
            "'conector'='mqtt'",
            "a.sql:4:1: there is no option 'conector' (did you mean 'connector'?)",
        ),
        (
            "v INT",
            "'connector'='mqqt'",
            "a.sql:4:13: there is no connector 'mqqt' (did you mean 'mqtt'?)",
        ),
        (
            "v INT",
            "'connector'='print'",
            "a.sql:4:13: print can only be written (read from 'mqtt' or 'filesystem')",
        ),
        (
            "v INT",
            "'connector'='mqtt','format'='json'",
            "a.sql:1:14: the table t has no option 'topic' (add 'topic' = 'sensors/+/telemetry')",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a/#/b','format'='json'",
            "a.sql:4:28: # is not the whole last level of 'a/#/b' (write # after the last /)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a/{v}','format'='json'",
            "a.sql:4:28: a topic that is read has no {columns} (use the wildcards + and #, and METADATA FROM 'topic[1]')",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','qos'='2'",
            "a.sql:4:54: QoS 2 is not supported (use '1': the handshake of QoS 2",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','retain'='true'",
            "a.sql:4:48: the option 'retain' has no effect on a table that is only read (remove it)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','fields.v.unit'='°C'",
            "a.sql:4:48: the option 'fields.v.unit' has no effect on a table that is only read (remove it)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','fields.w.path'='x'",
            "a.sql:4:48: the table has no column w (did you mean 'fields.v.path'?)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','retained'='yes'",
            "a.sql:4:59: 'retained' is 'true' or 'false', not 'yes'",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='avro'",
            "a.sql:4:41: there is no format 'avro' (the formats are json, csv and text)",
        ),
        (
            "v INT, w INT",
            "'connector'='mqtt','topic'='a','format'='text'",
            "a.sql:4:41: the format 'text' needs a table with one column that is a scalar (declare value STRING or value DOUBLE; METADATA columns come beside it)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='text','timestamp-format'='SQL'",
            "a.sql:4:48: the option 'timestamp-format' has no effect with this connector and format (remove it)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','timestamp-format'='epoch-milis'",
            "a.sql:4:67: 'epoch-milis' is not a spelling of timestamps (did you mean 'epoch-millis'?)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','connection'='defualt'",
            "a.sql:4:61: there is no connection 'defualt' (did you mean 'default'?)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','fields.w.path'='a'",
            "a.sql:4:48: the table has no column w (did you mean 'fields.v.path'?)",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','fields.v.path'='a[0]'",
            "a.sql:4:64: 'a[0]' picks an element of an array",
        ),
        (
            "v INT",
            "'connector'='mqtt','topic'='a','format'='json','scan.watermark.idle-timeout'='5'",
            "a.sql:4:78: '5' has no unit",
        ),
    ] {
        let found = table(columns, options);
        if found.len() != 1 || !found[0].starts_with(error) {
            wrong.push(format!(
                "{columns} {options}
  {}
  {error}
",
                found.join(
                    "
  "
                )
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_errors_come_at_once() {
    let found = query_errors(
        "INSERT INTO out SELECT devise, tmp FROM readings;
         CREATE TABLE broken (a INTT) WITH ('connector' = 'print');
         INSERT INTO broken SELECT * FROM readings;
         CREATE VIEW v AS SELECT a FROM broken;
         INSERT INTO out SELECT device, nothing FROM readings WHERE n = 'x';",
    );
    assert_eq!(
        found,
        [
            "a.sql:9:24: there is no column devise (did you mean device?)",
            "a.sql:9:32: there is no column tmp (did you mean temp?)",
            "a.sql:10:33: there is no type INTT (did you mean INT?)",
            "a.sql:13:69: INT and STRING cannot be compared (convert the text: CAST(… AS DOUBLE), or TRY_CAST for NULL where it is no number)",
        ]
    );
}
