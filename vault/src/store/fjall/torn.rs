//! A commit that a power cut left with a hole in the engine's journal.
//!
//! Must never touch any commit but the last, nor lose the journal as it was. Tests: `vault/tests/store_suite/recovery.rs`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The last commit of the newest journal, taken away to see whether the engine opens without it.
///
/// Pages of one write need not reach the disk in order on every file system, so a power cut can leave a commit that was never
/// acknowledged with a hole in its middle, which the engine refuses. Whether it was acknowledged all the same, and damaged later, the audit log's
/// anchor tells once the store is open.
#[derive(Debug)]
pub(super) struct Torn {
    journal: PathBuf,
    /// The journal as it was, kept for whoever looks into it.
    whole: PathBuf,
}

impl Torn {
    /// Takes it away; `None` if there is none.
    pub(super) fn cut(directory: &Path) -> io::Result<Option<Torn>> {
        let journal = path(directory, newest(directory)?);
        let bytes = std::fs::read(&journal)?;
        let end = |bytes: &[u8]| {
            let start = bytes.windows(TRAILER.len()).rposition(|window| window == TRAILER);
            start.map(|start| start.saturating_add(TRAILER.len()))
        };
        let Some(last) = end(&bytes) else { return Ok(None) };
        let has_trailer = bytes.get(last..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
        let before = bytes.get(..last.saturating_sub(TRAILER.len())).and_then(end).unwrap_or(0);
        let cut_at = if has_trailer { before } else { last };
        let whole = journal.with_extension("torn");
        std::fs::copy(&journal, &whole)?;
        File::open(&whole)?.sync_all()?;
        let cut = File::options().write(true).open(&journal)?;
        cut.set_len(u64::try_from(cut_at).unwrap_or(u64::MAX))?;
        cut.sync_all()?;
        Ok(Some(Torn { journal, whole }))
    }

    /// Puts it back.
    pub(super) fn restore(self) -> io::Result<()> {
        std::fs::rename(self.whole, self.journal)
    }
}

fn newest(directory: &Path) -> io::Result<u64> {
    let mut number = 0;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let journal = name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse().ok());
        number = number.max(journal.unwrap_or(0));
    }
    Ok(number)
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.jnl"))
}

/// What the engine writes at the end of every commit.
const TRAILER: &[u8] = b"FJL\x03";
