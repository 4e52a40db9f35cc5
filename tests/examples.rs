//! What is shipped works as it stands: the example configuration and pipelines through the commands of the binary,
//! and what the commands say when a copy of them is broken.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The exit status for configuration that is wrong (`EX_CONFIG` of sysexits.h): services are not restarted on it.
const EX_CONFIG: i32 = 78;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap()
}

fn headwater(arguments: &[&str], config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a command that succeeds prints.
#[track_caller]
fn said(arguments: &[&str], config: &Path) -> String {
    let output = headwater(arguments, config);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments:?}: {}: {errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that is to fail prints to standard error.
#[track_caller]
fn refused(arguments: &[&str], config: &Path, status: i32) -> String {
    let output = headwater(arguments, config);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert!(output.stdout.is_empty(), "nothing is printed but the error");
    errors
}

/// A copy of the configuration and its pipelines, with changes.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pipelines")).unwrap();
        let copy = Self(dir);
        copy.write("headwater.toml", &read("headwater.toml"));
        copy.write("pipelines/plant.sql", &read("pipelines/plant.sql"));
        copy
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.0.path().join(path), text).unwrap();
    }

    fn replace(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.0.path().join(path)).unwrap();
        assert!(text.contains(old), "{path} has no {old:?} any more");
        self.write(path, &text.replacen(old, new, 1));
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("headwater.toml")
    }

    /// Where a text begins first: `file:line:column` as the messages write it.
    fn place(&self, path: &str, text: &str) -> String {
        let path = self.0.path().join(path);
        let content = fs::read_to_string(&path).unwrap();
        let (number, line) = content
            .lines()
            .enumerate()
            .find(|(_, line)| line.contains(text))
            .unwrap();
        let column = line[..line.find(text).unwrap()].chars().count();
        format!("{}:{}:{}", path.display(), number + 1, column + 1)
    }
}

#[test]
fn every_example_passes_check() {
    let files = [
        "pipelines",
        "pipelines/alarms",
        "pipelines/patterns",
        "pipelines/anomalies",
    ]
    .into_iter()
    .flat_map(|dir| {
        let entries = fs::read_dir(shipped(dir)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    let sql = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sql");
    let pipelines: Vec<_> = files.filter(sql).collect();
    assert!(pipelines.len() > 5);
    // The shipped configuration runs all of them, and they name only what is there.
    let said = said(&["check"], &shipped("headwater.toml"));
    assert!(said.contains(": ok: "), "{said}");
    for path in pipelines {
        let copy = Copy::new();
        fs::remove_file(copy.0.path().join("pipelines/plant.sql")).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        copy.write(
            &format!("pipelines/{name}"),
            &fs::read_to_string(&path).unwrap(),
        );
        let output = headwater(&["check"], &copy.config());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} alone: {errors}");
        assert!(errors.is_empty(), "{name} has warnings: {errors}");
    }
}

#[test]
#[cfg(feature = "test-command")]
fn every_test_beside_an_example_passes() {
    let files = fs::read_dir(shipped("examples")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let tests: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    assert!(!tests.is_empty());
    for test in &tests {
        let said = said(
            &["test", test.to_str().unwrap()],
            &shipped("headwater.toml"),
        );
        assert!(said.contains(": ok, "), "{said}");
    }
    // And one that does not hold fails, and says where.
    let text = fs::read_to_string(&tests[0]).unwrap();
    let copy = Copy::new();
    copy.write("wrong.slt", &text.replacen("2.7 14.4", "2.7 14.5", 1));
    let wrong = copy.0.path().join("wrong.slt");
    let output = headwater(&["test", wrong.to_str().unwrap()], &copy.config());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("wrong.slt:11"), "{errors}");
}

#[test]
fn explain_prints_a_tree() {
    let tree = said(&["explain"], &shipped("headwater.toml"));
    for line in [
        "sink pump_summary to mqtt upstream 'derived/{pump}'",
        "└─ source pumps from mqtt plant 'plant/pumps/+/telemetry'",
        "aggregate per window of 10 s",
    ] {
        assert!(tree.contains(line), "no {line:?} in\n{tree}");
    }
}

#[test]
#[cfg(feature = "test-command")]
fn what_is_there_to_copy_from_is_sound_and_does_as_its_tests_say() {
    for kind in ["patterns", "anomalies", "alarms"] {
        let config = shipped(&format!("{kind}.toml"));
        let checked = headwater(&["check"], &config);
        assert!(checked.status.success());
        assert_eq!(String::from_utf8(checked.stderr).unwrap(), "");
        let name_of = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let names = |dir: &str, extension: &str| {
            let dir = shipped(&format!("{dir}/{kind}"));
            let paths = fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let of_kind = paths.filter(|path| path.extension().is_some_and(|e| e == extension));
            let mut names: Vec<String> = of_kind.map(name_of).collect();
            names.sort();
            names
        };
        let pipelines = names("pipelines", "sql");
        assert_eq!(pipelines, names("examples", "slt"), "each has a test");
        for name in pipelines {
            let file = shipped(&format!("examples/{kind}/{name}.slt"));
            said(&["test", file.to_str().unwrap()], &config);
        }
    }
}

#[test]
fn replay_gives_exactly_the_expected_rows() {
    let expected = read("examples/plant.expected.jsonl");
    let recording = shipped("examples/plant.jsonl");
    let arguments = ["replay", recording.to_str().unwrap()];
    for _ in 0..2 {
        assert_eq!(said(&arguments, &shipped("headwater.toml")), expected);
    }
}

/// The rows of a recording that comes on standard input.
fn replayed(recording: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(["replay", "-", "--config"])
        .arg(shipped("headwater.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = recording.as_bytes().to_vec();
    let writing = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The recording as another tool would have written it; `None` leaves a message out.
fn rewritten(with: impl Fn(&Value) -> Option<Value>) -> String {
    let recording = read("examples/plant.jsonl");
    let lines = recording.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        with(&message).map(|message| message.to_string())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn replay_reads_standard_input() {
    let expected = read("examples/plant.expected.jsonl");
    assert_eq!(replayed(&read("examples/plant.jsonl")), expected);
    // Empty lines, and no end of the last line.
    let spaced = read("examples/plant.jsonl").replace('\n', "\n\n");
    assert_eq!(replayed(spaced.trim_end()), expected);
    assert_eq!(replayed(""), "");
}

#[test]
fn replay_reads_what_mosquitto_sub_writes() {
    let expected = read("examples/plant.expected.jsonl");
    // -F %j: mosquitto writes a Z and the zone of the machine behind it, which is what counts.
    let of_mosquitto = |message: &Value, payload: Value| {
        let time = message["time"].as_str().unwrap().trim_end_matches('Z');
        let (day, clock) = time.split_once('T').unwrap();
        let hour: u32 = clock[..2].parse().unwrap();
        json!({
            "tst": format!("{day}T{:02}{}000Z+0100", hour + 1, &clock[2..]),
            "topic": message["topic"],
            "qos": 0,
            "retain": 0,
            "payloadlen": message["payload"].as_str().unwrap().len(),
            "payload": payload,
        })
    };
    let as_text = rewritten(|message| Some(of_mosquitto(message, message["payload"].clone())));
    assert_eq!(replayed(&as_text), expected);
    // -F %J: the payload as JSON, so only those that are.
    let as_json = rewritten(|message| {
        let payload = serde_json::from_str(message["payload"].as_str().unwrap()).ok()?;
        Some(of_mosquitto(message, payload))
    });
    assert_eq!(replayed(&as_json), expected);
    // A retained message was not sent just now: mosquitto_sub gets it on subscribing.
    let retained = rewritten(|message| {
        let mut message = of_mosquitto(message, message["payload"].clone());
        message["retain"] = json!(1);
        Some(message)
    });
    assert_eq!(replayed(&retained), "");
}

#[test]
fn a_broken_line_of_a_recording_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recorded.jsonl");
    let good = read("examples/plant.jsonl");
    let good = good.lines().next().unwrap();
    for (broken, reason) in [
        ("{\"topic\": \"a\", \"payload\"", "EOF while parsing"),
        ("{\"topic\": \"a\"}", "payload"),
        ("{\"payload\": \"a\"}", "missing field `topic`"),
        (
            "{\"topic\": \"a\", \"payload\": \"\", \"time\": \"noon\"}",
            "noon",
        ),
        ("plant/pumps/pump-1 {}", "expected value"),
    ] {
        fs::write(&path, format!("{good}\n\n{broken}\n{good}\n")).unwrap();
        let output = headwater(
            &["replay", path.to_str().unwrap()],
            &shipped("headwater.toml"),
        );
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        let place = format!("headwater: {}:3: ", path.display());
        assert!(errors.contains(&place), "{broken}: {errors}");
        assert!(errors.contains(reason), "{broken}: {errors}");
    }
    let missing = dir.path().join("missing.jsonl");
    let arguments = ["replay", missing.to_str().unwrap()];
    let errors = refused(&arguments, &shipped("headwater.toml"), 1);
    assert!(errors.contains("cannot open"), "{errors}");
    assert!(errors.contains("missing.jsonl"), "{errors}");
}

#[test]
fn a_misspelt_column_is_found_with_its_neighbour() {
    let copy = Copy::new();
    copy.replace("pipelines/plant.sql", "AVG(vibration)", "AVG(vibratoin)");
    let place = copy.place("pipelines/plant.sql", "vibratoin");
    for command in [&["check"][..], &["explain"], &["run"], &["replay", "-"]] {
        let errors = refused(command, &copy.config(), EX_CONFIG);
        let message = format!("{place}: error: there is no column vibratoin\n");
        assert!(errors.contains(&message), "{command:?}: {errors}");
        assert!(errors.contains("did you mean vibration?"), "{errors}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let copy = Copy::new();
    copy.replace("pipelines/plant.sql", "AVG(vibration)", "AVG(vibratoin)");
    copy.replace(
        "pipelines/plant.sql",
        "'connection' = 'upstream'",
        "'connection' = 'upsteam'",
    );
    copy.write(
        "pipelines/second.sql",
        "INSERT INTO alerts SELECT nothing FROM nowhere;\n",
    );
    let errors = refused(&["check"], &copy.config(), EX_CONFIG);
    assert!(errors.contains("vibratoin"), "{errors}");
    assert!(errors.contains("upsteam"), "{errors}");
    assert!(errors.contains("second.sql:1:40: error: "), "{errors}");
    assert_eq!(errors.matches(": error: ").count(), 3, "{errors}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let copy = Copy::new();
    let missing = copy.0.path().join("nothing.toml");
    let errors = refused(&["check"], &missing, 1);
    assert!(errors.contains("nothing.toml"), "{errors}");

    // A directory is not a file, whoever reads it.
    fs::create_dir(copy.0.path().join("pipelines/folder.sql")).unwrap();
    let errors = refused(&["check"], &copy.config(), 1);
    assert!(errors.contains("folder.sql"), "{errors}");
    fs::remove_dir(copy.0.path().join("pipelines/folder.sql")).unwrap();

    fs::write(copy.0.path().join("pipelines/plant.sql"), b"-- \xff\n").unwrap();
    let errors = refused(&["check"], &copy.config(), 1);
    assert!(errors.contains("plant.sql"), "{errors}");

    fs::remove_file(copy.0.path().join("pipelines/plant.sql")).unwrap();
    let errors = refused(&["check"], &copy.config(), EX_CONFIG);
    assert!(errors.contains("no file matches"), "{errors}");
    assert!(errors.contains("pipelines/*.sql"), "{errors}");
}

#[test]
fn errors_of_the_configuration_have_their_places() {
    let copy = Copy::new();
    let text = fs::read_to_string(copy.config()).unwrap();
    copy.write("headwater.toml", &format!("{text}\n[state\n"));
    let line = text.lines().count() + 2;
    let errors = refused(&["check"], &copy.config(), EX_CONFIG);
    let place = format!("headwater.toml:{line}:");
    assert!(errors.contains(&place), "{errors}");

    copy.write("headwater.toml", &text);
    copy.replace(
        "headwater.toml",
        "receive_maximum = 1000",
        "recieve_maximum = 100",
    );
    copy.replace("headwater.toml", "limit = \"64MB\"", "limit = \"a lot\"");
    let errors = refused(&["check"], &copy.config(), EX_CONFIG);
    let place = copy.place("headwater.toml", "recieve_maximum");
    assert!(errors.contains(&format!("{place}: error: ")), "{errors}");
    assert!(errors.contains("receive_maximum"), "{errors}");
    let place = copy.place("headwater.toml", "\"a lot\"");
    assert!(
        errors.contains(&format!("{place}: error: ")),
        "both are reported: {errors}"
    );
}
