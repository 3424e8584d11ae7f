//! What a core image of a running process would hold: all of its readable memory, read as root through /proc.
//! Must never be read from a process that this run did not start. Tests: `tests/tests/sad.rs`, whose control finds what
//! must be there.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Regions of a process's memory.
#[derive(Debug)]
pub struct Image(Vec<Vec<u8>>);

/// Reads the memory of a process. It works on one that cannot be dumped, for root alone.
///
/// # Errors
/// The process is gone, or the caller may not read it: run as root, or with `CAP_SYS_PTRACE`.
pub fn image(process: u32) -> Result<Image> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))
        .with_context(|| format!("reading the map of process {process}; this needs root"))?;
    let memory = File::open(format!("/proc/{process}/mem")).context("reading memory; this needs root")?;
    let mut regions = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        // What the process can write: its own data, not the code and constants of its files.
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        regions.push(read(&memory, start, end)?);
    }
    Ok(Image(regions))
}

/// One region, without what cannot be read (guard pages, memory that is secret from the kernel too).
fn read(memory: &File, start: u64, end: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut page = vec![0; PIECE];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at)?.min(PIECE);
        match memory.read_at(page.get_mut(..wanted).context("a piece")?, at) {
            Ok(got) if got > 0 => {
                bytes.extend_from_slice(page.get(..got).context("a piece")?);
                at += u64::try_from(got)?;
            }
            Ok(_) | Err(_) => at += 4096,
        }
    }
    Ok(bytes)
}

impl Image {
    /// How often `form` stands in it.
    #[must_use]
    pub fn count(&self, form: &[u8]) -> usize {
        self.0.iter().map(|region| crate::search::count(region, form)).sum()
    }
}

const PIECE: usize = 1024 * 1024;
