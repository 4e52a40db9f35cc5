//! Tables that rows are looked up in: their files are read at the start, and again when they have changed.
//!
//! A file that cannot be read at the start ends the program; later the rows of before stay, and it is said. A file that
//! changes while it is looked at is being written: it is read when it has stood still from one look to the next.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{error, info};

use super::RunError;
use crate::engine::Engine;
use crate::plan::TableId;

/// How often the files are looked at.
pub(super) const LOOK_MICROS: u64 = 5_000_000;

/// The files.
#[derive(Debug, Default)]
pub(super) struct Tables {
    files: Vec<Watched>,
    looked_at: u64,
}

/// A table's file.
#[derive(Debug)]
struct Watched {
    id: TableId,
    path: PathBuf,
    /// How it was when it was read,
    read: Option<Version>,
    /// and when it was looked at last.
    seen: Option<Version>,
}

impl Watched {
    /// Whether it is to be read again, now that it is like this.
    fn has_changed(&mut self, found: Option<Version>) -> bool {
        let still = std::mem::replace(&mut self.seen, found) == found;
        let changed = still && found != self.read;
        if changed {
            // Also if it cannot be read: it is said once, and tried again when the file changes again.
            self.read = found;
        }
        changed
    }
}

type Version = (Option<SystemTime>, u64);

fn version(path: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

/// Reads the files of all tables into an engine.
pub fn load_tables(engine: &mut Engine) -> Result<(), RunError> {
    Tables::load(engine).map(|_| ())
}

impl Tables {
    /// Reads all files.
    pub(super) fn load(engine: &mut Engine) -> Result<Self, RunError> {
        let mut tables = Self::default();
        let plan = engine.plan().clone();
        for (at, table) in plan.tables.iter().enumerate() {
            let path = PathBuf::from(&table.path);
            let before = version(&path);
            let read = read(engine, TableId(at), &path);
            let rows = read.map_err(|detail| RunError::File {
                path: path.clone(),
                detail: format!("the table {} cannot be read: {detail}", table.name),
            })?;
            info!(table = %table.name, path = %path.display(), rows, "read a table");
            tables.files.push(Watched {
                id: TableId(at),
                path,
                read: before,
                seen: before,
            });
        }
        Ok(tables)
    }

    /// When to look at the files again.
    pub(super) fn look_at(&self) -> Option<u64> {
        (!self.files.is_empty()).then_some(self.looked_at + LOOK_MICROS)
    }

    /// Reads again what has changed.
    pub(super) fn look(&mut self, engine: &mut Engine, steady_micros: u64) {
        self.looked_at = steady_micros;
        let plan = engine.plan().clone();
        for file in &mut self.files {
            if !file.has_changed(version(&file.path)) {
                continue;
            }
            let (id, path) = (file.id, &file.path);
            let name = &plan.tables[id.0].name;
            match read(engine, id, path) {
                Ok(rows) => info!(table = %name, rows, "the table's file has changed: read again"),
                Err(detail) => {
                    engine.count(name, "table_unreadable");
                    error!(
                        table = %name, path = %path.display(), detail,
                        "the table's file has changed and cannot be read; its rows of before stay"
                    );
                }
            }
        }
    }
}

fn read(engine: &mut Engine, id: TableId, path: &Path) -> Result<usize, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    engine.load_table(id, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that is read while it is written lacks keys, which would not be missed any more.
    #[test]
    fn a_file_is_read_when_it_has_stood_still() {
        let version = |bytes| Some((None, bytes));
        let mut file = Watched {
            id: TableId(0),
            path: PathBuf::new(),
            read: version(10),
            seen: version(10),
        };
        let looks = [10, 0, 4, 12, 12, 12, 9, 12, 12];
        let read = looks.map(|bytes| file.has_changed(version(bytes)));
        assert_eq!(
            read,
            [false, false, false, false, true, false, false, false, false]
        );
        assert!(!file.has_changed(None));
        assert!(file.has_changed(None));
        assert!(!file.has_changed(None));
    }
}
