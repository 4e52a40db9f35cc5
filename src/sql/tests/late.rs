//! What plans do with late rows.

use super::*;
use crate::plan::Operator;

const LATE: &str = "CREATE TABLE late (device STRING, temp DOUBLE, window_end TIMESTAMP(3)) WITH ('connector' = 'print');
";
const MINUTES: &str = "TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)";

/// The table of readings with one more option.
fn readings(option: &str) -> String {
    READINGS.replace("'format' = 'json'", &format!("'format' = 'json'{option}"))
}

fn averages() -> String {
    format!(
        "INSERT INTO out SELECT device, AVG(temp) FROM {MINUTES} GROUP BY device, window_start, window_end;\n"
    )
}

#[test]
fn late_rows_go_to_their_table_once_for_each_step() {
    let to_table = readings(", 'late-rows' = 'table', 'late-rows.table' = 'late'");
    let again = averages().replace("device, AVG", "UPPER(device), AVG");
    let (plan, warnings) = plan(&format!("{to_table}{OUT}{LATE}{}{again}", averages()));
    assert_eq!(warnings, Vec::<String>::new());
    // Both queries read one step, and its late rows are written once.
    let names: Vec<&str> = plan.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["out", "late", "out"]);
    let text = explain(&plan);
    let late = text.split("\n\n").nth(1).unwrap();
    assert_eq!(
        late,
        "\
sink late to standard output  -- late rows of INSERT out at a.sql:1:14
│  columns device STRING, temp DOUBLE, window_end TIMESTAMP(3)
│  format json
└─ project
   │  device STRING
   │  temp DOUBLE
   │  window_end TIMESTAMP(3)
   └─ rows that were too late for
      └─ [1] (shared, see above)"
    );
    assert!(text.contains("late rows go to a table"), "{text}");
}

/// The fingerprint of the only step with state.
fn of_the_window(option: &str) -> crate::types::Fingerprint {
    let (plan, _) = plan(&format!("{}{OUT}{LATE}{}", readings(option), averages()));
    let is_window = |operator: &Operator| matches!(operator, Operator::WindowAggregate { .. });
    let node = plan.nodes.iter().find(|node| is_window(&node.operator));
    node.unwrap().fingerprint
}

#[test]
fn a_late_table_does_not_reset_a_window() {
    let plain = of_the_window("");
    let table = of_the_window(", 'late-rows' = 'table', 'late-rows.table' = 'late'");
    let update = |allowed: &str| {
        of_the_window(&format!(
            ", 'late-rows' = 'update', 'late-rows.allowed-lateness' = '{allowed}'"
        ))
    };
    assert_eq!(plain, table);
    // What is kept differs.
    assert_ne!(plain, update("1 min"));
    assert_ne!(update("1 min"), update("2 min"));
}

#[test]
fn one_stream_under_two_names_says_one_thing_of_late_rows() {
    let twin = readings(", 'late-rows' = 'update', 'late-rows.allowed-lateness' = '1 min'")
        .replace("readings", "twin");
    let other = averages().replace("readings", "twin");
    assert_eq!(
        errors(&format!("{READINGS}{OUT}{twin}{}{other}", averages())),
        [
            "a.sql:9:14: twin and readings are the same stream and say different things of its late rows (declare it once, or give both the same 'late-rows')"
        ]
    );
}
