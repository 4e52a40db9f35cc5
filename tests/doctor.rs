//! `headwater doctor` on a fresh machine, without a broker: what it finds, and that its exit status tells. With a broker it
//! is in `tests/broker`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const SQL: &str = "
    CREATE TABLE readings (k STRING, v BIGINT) WITH (
      'connector' = 'mqtt', 'topic' = 'in/+', 'qos' = '1', 'format' = 'json');
    CREATE TABLE doubled (k STRING, v BIGINT) WITH (
      'connector' = 'mqtt', 'topic' = 'out/{k}', 'qos' = '1', 'format' = 'json');
    INSERT INTO doubled SELECT k, v * 2 FROM readings;
";

/// What doctor prints about a configuration with these lines, and its exit status.
fn doctor(dir: &Path, lines: &str, arguments: &[&str]) -> (String, i32) {
    let config = dir.join("headwater.toml");
    let text = format!("pipelines.files = [\"p.sql\"]\nstate.dir = \"state\"\n{lines}");
    fs::write(&config, text).unwrap();
    fs::write(dir.join("p.sql"), SQL).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(["doctor", "--config"])
        .arg(&config)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    (format!("{said}{errors}"), output.status.code().unwrap())
}

fn has(said: &str, parts: &[&str]) {
    let line = said
        .lines()
        .any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(line, "no line with {parts:?} in:\n{said}");
}

#[test]
fn a_broker_that_is_not_there_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let plant = format!("[connections.plant]\nurl = \"mqtt://127.0.0.1:{port}\"\n");
    let (said, status) = doctor(dir.path(), &plant, &[]);
    assert_eq!(status, 1, "{said}");
    has(&said, &["FAIL", "broker plant", "is not reached"]);
    has(&said, &["->", "check host and port"]);
    has(&said, &["ok", "state ", "a flush takes"]);
}

#[test]
fn secrets_that_others_can_read_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    fs::write(&secret, "x").unwrap();
    let lines = "[connections.plant]\nurl = \"mqtt://127.0.0.1\"\nusername = \"u\"\npassword_file = \"password\"\n";
    for (mode, grade) in [(0o644, "warn"), (0o640, "ok"), (0o600, "ok")] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let (said, _) = doctor(dir.path(), lines, &["--offline"]);
        has(&said, &[grade, "secret ", &format!("mode {mode:04o}")]);
        assert!(!said.contains("broker plant"), "{said}");
    }
    fs::remove_file(&secret).unwrap();
    let (said, status) = doctor(dir.path(), lines, &["--offline"]);
    has(&said, &["FAIL", "secret ", "cannot be read"]);
    assert_eq!(status, 1);
}

#[test]
fn a_budget_beyond_the_machine_is_warned_of_and_a_wrong_configuration_is_78() {
    let dir = tempfile::tempdir().unwrap();
    let plant = "[connections.plant]\nurl = \"mqtt://127.0.0.1\"\n";
    let (said, status) = doctor(
        dir.path(),
        &format!("limits.memory = \"1000GB\"\n{plant}"),
        &["--offline"],
    );
    has(&said, &["warn", "memory", "1000000 MB"]);
    // Not 1 unless the machine the test runs on has something worse, such as a state directory in memory.
    assert!(status == 3 || said.contains("FAIL"), "{status} {said}");
    let (_, status) = doctor(dir.path(), "nonsense = 1\n", &["--offline"]);
    assert_eq!(status, 78);
}
