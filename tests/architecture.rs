//! The house stays as `src/lib.rs` draws it: imports point only to a lower floor, rooms on one floor do not know each
//! other, and a library that belongs to one room is named in no other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the ground up.
const FLOORS: &[&[&str]] = &[
    &["types"],
    &["expr", "codec", "state"],
    &["plan"],
    &["sql", "config", "ops"],
    &["engine"],
    &["store", "mqtt"],
    &["runtime"],
    &["cli"],
];

/// Libraries and the only rooms that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("redb", &["store"]),
    ("rumqttc", &["mqtt"]),
    ("rustls", &["mqtt"]),
    ("sqlparser", &["sql"]),
    ("toml", &["config"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli"]),
    ("indicatif", &["cli"]),
    ("mqtt5", &["cli"]),
    ("tokio", &["mqtt", "runtime", "cli"]),
    ("sqllogictest", &["cli"]),
    ("csv", &["codec"]),
];

fn rooms() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    fn walk(dir: &Path, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = BTreeMap::new();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let mut files = Vec::new();
            walk(&path, &mut files);
            rooms.insert(
                path.file_name().unwrap().to_string_lossy().into_owned(),
                files,
            );
        }
    }
    rooms
}

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().position(|rooms| rooms.contains(&room));
    found.unwrap_or_else(|| {
        panic!("room `{room}` has no floor: add it here and to the map in src/lib.rs")
    })
}

/// The lines of code, without comments, up to the tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line));
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
}

#[test]
fn imports_point_down() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for (room, files) in &rooms {
        for (path, text) in files {
            for (number, line) in code(text) {
                for found in line.match_indices("crate::") {
                    let rest = &line[found.0 + "crate::".len()..];
                    let named: String = rest
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    if named == *room || !rooms.contains_key(&named) {
                        continue;
                    }
                    if floor(&named) >= floor(room) {
                        wrong.push(format!(
                            "{}:{number}: `{room}` uses `{named}`",
                            path.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports against the floors:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (room, files) in &rooms() {
        for (path, text) in files {
            for (number, line) in code(text) {
                for (library, owners) in OWNERS {
                    let named = line.contains(&format!("{library}::"))
                        || line.contains(&format!("use {library};"));
                    if named && !owners.contains(&room.as_str()) {
                        wrong.push(format!(
                            "{}:{number}: `{room}` names {library}",
                            path.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "libraries outside their rooms:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_engine_reads_no_clock_and_does_not_wait() {
    let mut wrong = Vec::new();
    for (room, files) in &rooms() {
        if floor(room) > floor("engine") {
            continue;
        }
        for (path, text) in files {
            for (number, line) in code(text) {
                for word in [
                    "SystemTime::now",
                    "Instant::now",
                    "async fn",
                    ".await",
                    "std::net",
                    "Timestamp::now",
                ] {
                    if line.contains(word) {
                        wrong.push(format!("{}:{number}: {word}", path.display()));
                    }
                }
                if line.contains("std::fs") && room != "config" {
                    wrong.push(format!("{}:{number}: std::fs", path.display()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "clocks, files or waiting in the core:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_opens_with_what_it_is() {
    for files in rooms().values() {
        for (path, text) in files {
            assert!(
                text.starts_with("//!"),
                "{} has no //! header",
                path.display()
            );
        }
    }
}
