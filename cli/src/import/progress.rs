//! The state of an import: what is done, as of one moment at which everything before it was on the disk.
//!
//! Must never hold anything of a row. Tests: below, and `tests/tests/import.rs`.

use crate::exit::Failure;
use cordon_bulk::{Chosen, Format, Position};
use cordon_card::CollectionName;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How many rows were done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) tokens: u64,
    pub(super) rejected: u64,
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    format: u32,
    /// Digest of the collection and the columns: with others it would be another import.
    pub(super) plan: String,
    pub(super) position: Position,
    pub(super) counts: Counts,
    /// Bytes of the two output files that belong to it.
    pub(super) result_bytes: u64,
    pub(super) reject_bytes: u64,
    pub(super) done: bool,
}

impl Progress {
    /// Nothing was done yet.
    pub(super) fn new(plan: &str, position: Position) -> Self {
        let counts = Counts::default();
        Self {
            format: 1,
            plan: plan.to_owned(),
            position,
            counts,
            result_bytes: 0,
            reject_bytes: 0,
            done: false,
        }
    }

    /// Reads the state of an earlier run, if there was one.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file(path, &error)),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(progress) if progress.format == 1 => Ok(Some(progress)),
            _ => Err(Failure::refused("progress", format!("{}: not the state of an import", path.display()))
                .next("begin anew with another --out; tokens that were made before stay the same")),
        }
    }

    /// Puts it in place of the one before, so that a crash leaves the one or the other.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        let next = PathBuf::from(format!("{}.next", path.display()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        sync_parent(path)
    }
}

/// Makes an entry of a directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A digest of everything that decides what a row becomes.
pub(super) fn plan(
    collection: &CollectionName,
    format: Format,
    chosen: &Chosen,
    metadata: &[(String, String)],
) -> String {
    let text = format!("{collection}\n{format:?}\n{chosen:?}\n{metadata:?}");
    data_encoding::HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.progress");
        assert_eq!(Progress::load(&path).unwrap(), None);
        let position = Position { offset: 9, line: 2, digest: [3; 32] };
        let progress = Progress::new("p", position);
        progress.store(&path).unwrap();
        assert_eq!(Progress::load(&path).unwrap(), Some(progress));
        fs::write(&path, "{\"format\":1}").unwrap();
        assert_eq!(Progress::load(&path).unwrap_err().code(), "progress");
    }
}
