//! Behaviour of SQL: the files in `tests/sql`, run as `headwater test` runs those of a user (see `cli::test` for how
//! they read), each query also with a crash after every row.
//!
//! `UPDATE_SLT=1 cargo test --test sql` writes the results into the files; look at each before you believe it.
#![cfg(feature = "test-command")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

#[test]
fn sql_behaves_as_the_files_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", dir.display());
    let update = std::env::var_os("UPDATE_SLT").is_some();
    let failures: Vec<String> = files
        .iter()
        .flat_map(|file| headwater::cli::test::run_stand_alone(file, update).unwrap())
        .collect();
    assert!(
        failures.is_empty(),
        "{} cases fail:\n\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A function that nobody has called here is a function that nobody has checked, and one that the README lacks is one
/// that nobody finds.
#[test]
fn every_function_has_a_case_and_is_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut called = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let name_ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        called.extend(text.split(name_ends).map(str::to_owned));
    }
    let mut missing = functions();
    missing.retain(|name| !called.contains(*name));
    assert!(missing.is_empty(), "no case in tests/sql for {missing:?}");
    let readme = std::fs::read_to_string("README.md").unwrap();
    let mut unlisted = functions();
    unlisted.retain(|name| {
        !["`", "("]
            .iter()
            .any(|behind| readme.contains(&format!("`{name}{behind}")))
    });
    assert!(unlisted.is_empty(), "not in README.md: {unlisted:?}");
}

fn functions() -> Vec<&'static str> {
    [
        headwater::expr::function_names(),
        headwater::sql::detector_names(),
    ]
    .concat()
}
