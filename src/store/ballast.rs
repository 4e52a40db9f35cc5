//! A file of no use but its size: given up when the disk is full, so that redb has the room it needs even to delete.
//!
//! Its bytes are really written and do not compress, because a sparse file holds no space.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::files;

#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    size_bytes: u64,
    present: bool,
}

impl Ballast {
    /// Looks whether it is there; one of another size is replaced by [`restore`](Self::restore).
    pub(super) fn find(path: PathBuf, size_bytes: u64) -> Self {
        let present = fs::metadata(&path).is_ok_and(|meta| meta.len() == size_bytes);
        Self {
            path,
            size_bytes,
            present,
        }
    }

    /// Whether there is none although there should be.
    pub(super) const fn is_missing(&self) -> bool {
        self.size_bytes > 0 && !self.present
    }

    /// Deletes it; whether that made room.
    pub(super) fn free(&mut self) -> bool {
        self.present = false;
        let freed = files::remove_if_there(&self.path).unwrap_or(false);
        if freed {
            // So that the space is free now, not when the journal gets to it. If it fails, the retry will tell.
            let _ = files::sync_parent(&self.path);
            tracing::error!(path = %self.path.display(), "the disk is full: deleted the ballast file; free some space");
        }
        freed
    }

    /// Writes it again if it is missing and the disk has three times its size free: room for it, and some to work with.
    /// Cheap when there is nothing to do. Whether it is there now.
    pub(super) fn restore(&mut self) -> io::Result<bool> {
        if !self.is_missing() {
            return Ok(true);
        }
        let free_bytes = files::free_bytes(self.path.parent().unwrap_or(Path::new(".")))?;
        if free_bytes < self.size_bytes.saturating_mul(3) {
            return Ok(false);
        }
        files::write_whole(&self.path, |file| {
            let mut out = BufWriter::with_capacity(64 << 10, file);
            let mut state = 0x9e37_79b9_7f4a_7c15_u64; // xorshift: bytes that a compressing file system cannot shrink
            for _ in 0..self.size_bytes.div_ceil(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                out.write_all(&state.to_le_bytes())?;
            }
            out.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .set_len(self.size_bytes)
        })?;
        self.present = true;
        Ok(true)
    }
}
