//! The `filesystem` connector: lines of files as input, and files of lines as output.
//!
//! A source's file is read once, from the first line that no committed epoch has seen, and not watched for more. A
//! sink's file is cut back at the start to what is committed: lines after it belong to an epoch that is not.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::RunError;
use crate::engine::Engine;
use crate::plan::SourceId;

/// A line of a source's file.
pub(super) struct Line {
    pub(super) source: SourceId,
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

/// A longer line is taken in pieces of this size, which become dead letters.
const LINE_LIMIT_BYTES: u64 = 1 << 20;

/// Lines that wait between the reader and the engine.
const LINES_WAITING: usize = 256;

/// Starts reading the files of all sources that have one.
pub(super) fn read(engine: &Engine) -> Result<mpsc::Receiver<Line>, RunError> {
    let (sender, lines) = mpsc::channel(LINES_WAITING);
    for (source, path, done) in engine.file_sources() {
        let error = |cause: std::io::Error| RunError::File {
            path: PathBuf::from(path),
            detail: cause.to_string(),
        };
        let file = File::open(path).map_err(error)?;
        let (sender, path) = (sender.clone(), path.to_owned());
        let reader = std::thread::Builder::new().name("file".to_owned());
        reader
            .spawn(move || read_lines(source, path, file, done, &sender))
            .map_err(RunError::Thread)?;
    }
    Ok(lines)
}

fn read_lines(source: SourceId, path: String, file: File, done: u64, sender: &mpsc::Sender<Line>) {
    let mut file = BufReader::new(file);
    for number in 0_u64.. {
        let mut bytes = Vec::new();
        // One byte more than is allowed, so that the engine sees that the line is too long.
        let read = (&mut file)
            .take(LINE_LIMIT_BYTES + 1)
            .read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(cause) => {
                error!(path, line = number + 1, error = %cause, "reading stops here");
                return;
            }
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if number >= done {
            let line = Line {
                source,
                path: path.clone(),
                bytes,
            };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    }
    info!(path, "read to its end");
}

/// Cuts the files of sinks to what is committed: lines after it belong to an epoch that is not. Returns whether there
/// are files that no committed epoch claims yet: that is to be committed before the first line is written, so that
/// after a crash they are known to be ours.
pub(super) fn settle(engine: &Engine) -> Result<bool, RunError> {
    let mut unclaimed = false;
    for (path, (committed, claimed)) in engine.sink_files() {
        let path = PathBuf::from(path);
        let error = |detail: String| RunError::File {
            path: path.clone(),
            detail,
        };
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => 0,
            Err(cause) => return Err(error(cause.to_string())),
        };
        unclaimed |= !claimed;
        if !claimed && length > 0 {
            let detail = "the file is not empty and was not written by this query; move it away";
            return Err(error(detail.to_owned()));
        }
        if length < committed {
            warn!(
                path = %path.display(),
                committed,
                length,
                "the file is shorter than what was written to it"
            );
        } else if length > committed {
            let file = std::fs::OpenOptions::new().write(true).open(&path);
            file.and_then(|file| file.set_len(committed))
                .map_err(|cause| error(cause.to_string()))?;
        }
    }
    Ok(unclaimed)
}
