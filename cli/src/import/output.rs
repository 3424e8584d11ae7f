//! The result file, the reject file and the state that goes with them.
//!
//! Must never record rows as done before their lines are on the disk. Tests: `tests/tests/import.rs`.

use super::progress::{Counts, Progress, sync_parent};
use crate::exit::Failure;
use cordon_bulk::{Batch, Position, Row};
use cordon_wire::{ItemResult, Items, ProblemCode, Tokenized};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) struct Outputs {
    result: BufWriter<File>,
    rejects: BufWriter<File>,
    state: PathBuf,
    progress: Progress,
    recorded: Instant,
}

/// A file that is named after another one.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}.{end}", path.display()))
}

impl Outputs {
    /// Begins new files, or takes up those of an earlier run at the place it recorded.
    pub(super) fn open(
        result: &Path,
        rejects: &Path,
        plan: &str,
        heading: &[u8],
        start: Position,
    ) -> Result<Self, Failure> {
        let state = beside(result, "progress");
        let (result, rejects, progress) = match Progress::load(&state)? {
            Some(progress) if progress.plan != plan => {
                return Err(Failure::refused("changed", "the import that was begun here had other columns")
                    .next("give the same options again, or begin anew with another --out"));
            }
            Some(progress) => {
                (take_up(result, progress.result_bytes)?, take_up(rejects, progress.reject_bytes)?, progress)
            }
            None => {
                let (result_file, reject_file) = (begin(result)?, begin(rejects)?);
                let progress = Progress::new(plan, start);
                progress.store(&state).map_err(|error| Failure::file(&state, &error))?;
                for path in [result, rejects] {
                    sync_parent(path).map_err(|error| Failure::file(path, &error))?;
                }
                (result_file, reject_file, progress)
            }
        };
        let mut outputs = Self { result, rejects, state, progress, recorded: Instant::now() };
        if outputs.progress.reject_bytes == 0 {
            outputs.result.write_all(heading)?;
            outputs.rejects.write_all(REJECT_HEADING)?;
            outputs.progress.result_bytes = length_of(heading.len());
            outputs.progress.reject_bytes = length_of(REJECT_HEADING.len());
            outputs.checkpoint(false)?;
        }
        Ok(outputs)
    }

    pub(super) const fn is_done(&self) -> bool {
        self.progress.done
    }

    pub(super) const fn position(&self) -> &Position {
        &self.progress.position
    }

    pub(super) const fn counts(&self) -> Counts {
        self.progress.counts
    }

    /// Writes what became of a batch.
    pub(super) fn write(&mut self, batch: &Batch, answer: Items<Tokenized>) -> Result<(), Failure> {
        let mut items = answer.items.into_iter();
        for row in &batch.rows {
            self.progress.counts.rows = self.progress.counts.rows.saturating_add(1);
            match row {
                Row::Refused { line, code } => self.reject(*line, *code)?,
                Row::Sent { line, echo } => match items.next() {
                    Some(ItemResult::Ok(card)) => {
                        let (before, after) = batch.echo(*echo);
                        let token = card.token.as_str().as_bytes();
                        for part in [before, token, after] {
                            self.result.write_all(part)?;
                            let length = length_of(part.len());
                            self.progress.result_bytes = self.progress.result_bytes.saturating_add(length);
                        }
                        self.progress.counts.tokens = self.progress.counts.tokens.saturating_add(1);
                    }
                    Some(ItemResult::Error(problem)) => self.reject(*line, problem.code)?,
                    None => {
                        return Err(Failure::refused(
                            "malformed",
                            "the vault answered fewer items than it was asked",
                        ));
                    }
                },
            }
        }
        self.progress.position = batch.end;
        if self.recorded.elapsed() >= RECORD_EVERY { self.checkpoint(false) } else { Ok(()) }
    }

    /// Makes durable what was written, and then records it as done.
    pub(super) fn checkpoint(&mut self, done: bool) -> Result<(), Failure> {
        self.result.flush()?;
        self.rejects.flush()?;
        self.result.get_ref().sync_data()?;
        self.rejects.get_ref().sync_data()?;
        self.progress.done = done;
        self.progress.store(&self.state).map_err(|error| Failure::file(&self.state, &error))?;
        self.recorded = Instant::now();
        Ok(())
    }

    fn reject(&mut self, line: u64, code: ProblemCode) -> Result<(), Failure> {
        let text = format!("{line},{}\n", code.as_str());
        self.rejects.write_all(text.as_bytes())?;
        self.progress.reject_bytes = self.progress.reject_bytes.saturating_add(length_of(text.len()));
        self.progress.counts.rejected = self.progress.counts.rejected.saturating_add(1);
        Ok(())
    }
}

/// A new file. One that is there and empty is what a crash at the very start leaves.
fn begin(path: &Path) -> Result<BufWriter<File>, Failure> {
    let at = |error: io::Error| Failure::file(path, &error);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(at)?;
    if file.metadata().map_err(at)?.len() > 0 {
        return Err(Failure::refused("exists", format!("{}: exists already", path.display()))
            .next("it is not overwritten: choose another name, or remove it"));
    }
    file.try_lock().map_err(|error| at(error.into()))?;
    Ok(BufWriter::with_capacity(BUFFER, file))
}

/// Cuts what was written after the recorded moment.
fn take_up(path: &Path, length: u64) -> Result<BufWriter<File>, Failure> {
    let at = |error: io::Error| Failure::file(path, &error);
    let mut file = OpenOptions::new().write(true).open(path).map_err(at)?;
    if file.try_lock().is_err() {
        return Err(Failure::refused("in-use", format!("{}: another import writes to it", path.display())));
    }
    if file.metadata().map_err(at)?.len() < length {
        return Err(Failure::refused(
            "changed",
            format!("{}: shorter than this import left it", path.display()),
        )
        .next("begin anew with another --out; tokens that were made before stay the same"));
    }
    file.set_len(length).map_err(at)?;
    file.seek(SeekFrom::Start(length)).map_err(at)?;
    Ok(BufWriter::with_capacity(BUFFER, file))
}

fn length_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

const REJECT_HEADING: &[u8] = b"line,code\n";
const BUFFER: usize = 256 * 1024;
/// What a crash makes to be done again, in time.
const RECORD_EVERY: Duration = Duration::from_millis(250);
