//! Loads a configuration and the SQL files it names.

use std::io;
use std::path::{Path, PathBuf};

use crate::plan::Diagnostic;

use super::{Config, Secret};

/// A configuration with its files.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration; its paths are relative to the working directory or absolute.
    pub config: Config,
    /// The SQL files, name and text, in the order of the patterns and then of the names.
    pub pipelines: Vec<(String, String)>,
}

/// Why a configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {}: {source} (check the path and its permissions)", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pattern of SQL files finds nothing.
    #[error("no file matches {} (see [pipelines] files in the configuration)", pattern.display())]
    NoPipeline {
        /// The pattern.
        pattern: PathBuf,
    },
    /// What is written is wrong.
    #[error("{} in the configuration", count(.0.len()))]
    Invalid(Vec<Diagnostic>),
}

fn count(errors: usize) -> String {
    if errors == 1 {
        "1 error".to_owned()
    } else {
        format!("{errors} errors")
    }
}

/// Reads the configuration at `path` and the SQL files it names. Paths in it are relative to its directory.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let text = read(path)?;
    let mut config =
        Config::parse(&path.display().to_string(), &text).map_err(LoadError::Invalid)?;
    let base = path.parent().unwrap_or(Path::new(""));
    config.rebase(base);
    let mut pipelines: Vec<(String, String)> = Vec::new();
    for pattern in &config.pipelines {
        for file in expand(&base.join(pattern))? {
            let name = file.display().to_string();
            if !pipelines.iter().any(|(known, _)| *known == name) {
                pipelines.push((name, read(&file)?));
            }
        }
    }
    Ok(Loaded { config, pipelines })
}

impl Config {
    /// Makes relative paths relative to `base`.
    fn rebase(&mut self, base: &Path) {
        let rebase = |path: &mut PathBuf| *path = base.join(&*path);
        rebase(&mut self.state.dir);
        for connection in &mut self.connections {
            connection.ca_file.as_mut().map(rebase);
            if let Some((certificate, key)) = &mut connection.client_certificate {
                rebase(certificate);
                rebase(key);
            }
            if let Some(Secret::File(path)) = &mut connection.password {
                rebase(path);
            }
        }
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The files that match a pattern, sorted by name.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let name = pattern
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    if !name.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let folder = pattern
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let fail = |source| LoadError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|file| matches(name, file))
        {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        return Err(LoadError::NoPipeline {
            pattern: pattern.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name matches a pattern in which `*` is any text. Hidden files match only if the pattern begins
/// with a dot, as in a shell.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.sql", "a.sql", true),
            ("*.sql", ".a.sql", false),
            ("*.sql", "a.sql~", false),
            ("a*b*.sql", "axxb1.sql", true),
            ("a*a", "a", false),
            ("a.sql", "a.sql", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_loaded_relative_to_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headwater.toml");
        std::fs::create_dir(dir.path().join("pipelines")).unwrap();
        std::fs::write(&path, "[state]\ndir = \"data\"\n").unwrap();
        assert!(matches!(load(&path), Err(LoadError::NoPipeline { .. })));
        std::fs::write(dir.path().join("pipelines/b.sql"), "B").unwrap();
        std::fs::write(dir.path().join("pipelines/a.sql"), "A").unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.config.state.dir, dir.path().join("data"));
        let texts: Vec<&str> = loaded
            .pipelines
            .iter()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(texts, ["A", "B"]);
    }
}
