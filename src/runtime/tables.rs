//! Tables that rows are looked up in: their files are read at the start, and again when they have changed.
//!
//! A file that cannot be read at the start ends the program; later the rows of before stay, and it is said.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{error, info};

use super::RunError;
use crate::engine::Engine;
use crate::plan::TableId;

/// How often the files are looked at.
pub(super) const LOOK_MICROS: u64 = 5_000_000;

/// The files, and how they were when they were read.
#[derive(Debug, Default)]
pub(super) struct Tables {
    files: Vec<(TableId, PathBuf, Option<Version>)>,
    looked_at: u64,
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
            tables.files.push((TableId(at), path, before));
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
        for (id, path, known) in &mut self.files {
            let found = version(path);
            if found == *known {
                continue;
            }
            // Also after a failure: it is said once, and tried again when the file changes again.
            *known = found;
            let name = &plan.tables[id.0].name;
            match read(engine, *id, path) {
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
