//! An encrypted stream of the vault into a file that has its name only when it is whole.
//!
//! Must never leave a part under the name that was asked for. Tests: `tests/tests/backup.rs`, `tests/tests/export.rs`.

use crate::configuration::block_on;
use crate::exit::Failure;
use crate::output::Console;
use cordon_client::ClientError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What takes the chunks of a stream.
pub(crate) type Take<'t> = &'t mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Runs `call`, which hands over the chunks, and gives the length of the file. The inner error is the vault's.
pub(crate) fn whole(
    console: Console,
    out: &Path,
    call: impl AsyncFnOnce(Take<'_>) -> Result<u64, ClientError>,
) -> Result<Result<u64, ClientError>, Failure> {
    if out.exists() {
        return Err(Failure::refused("exists", format!("{}: exists already", out.display()))
            .next("it is not overwritten: choose another name"));
    }
    let partial = PathBuf::from(format!("{}.partial", out.display()));
    let at = |error: io::Error| Failure::file(&partial, &error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let mut output = BufWriter::with_capacity(BUFFER, file.map_err(at)?);
    let bar = console.bytes_bar(None);
    let mut take = |chunk: &[u8]| {
        bar.inc(u64::try_from(chunk.len()).unwrap_or(0));
        output.write_all(chunk)
    };
    let taken = block_on(async { Ok(call(&mut take).await) });
    bar.finish_and_clear();
    let stored = match taken {
        Ok(Ok(length)) => finish(output, &partial, out).map(|()| Ok(length)).map_err(at),
        other => {
            drop(output);
            other
        }
    };
    if !matches!(stored, Ok(Ok(_))) {
        // What is there of it is of no use; the failure is what counts.
        drop(fs::remove_file(&partial));
    }
    stored
}

fn finish(output: BufWriter<File>, partial: &Path, out: &Path) -> io::Result<()> {
    output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(partial, out)?;
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

const BUFFER: usize = 256 * 1024;
