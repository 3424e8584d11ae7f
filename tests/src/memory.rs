//! Reads another process's writable memory, page by page, and says where in it something stands.
//! Must never read a page that is not there: that would bring it into being. Tests: `tests/tests/memory.rs`, `tests/tests/sad.rs`, whose
//! controls find what must be there.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// A place where one of the needles stands.
#[derive(Debug)]
pub struct Hit {
    /// Which encoding of what was found.
    pub what: String,
    /// The mapping, as the kernel names it.
    pub mapping: String,
    /// Address.
    pub address: u64,
    /// Bytes around it, printable ones as they are.
    pub around: String,
}

/// What a scan saw.
#[derive(Debug)]
pub struct Scan {
    /// Every hit.
    pub hits: Vec<Hit>,
    /// Bytes that were read.
    pub bytes: usize,
    /// Pages of the process that lie in swap.
    pub swapped: usize,
}

impl Scan {
    /// How often a needle stands in it.
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        self.hits.iter().filter(|hit| hit.what == what).count()
    }
}

/// Looks for every needle in every writable mapping of a process, stacks included.
///
/// # Errors
/// The process is gone, or its memory may not be read: only root's is a full view.
pub fn scan(process: u32, needles: &[(String, Vec<u8>)]) -> Result<Scan> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).context("its mappings")?;
    let memory = File::open(format!("/proc/{process}/mem")).context("its memory")?;
    let pages = File::open(format!("/proc/{process}/pagemap")).context("its page map")?;
    let finders: Vec<_> =
        needles.iter().map(|(name, bytes)| (name, memchr::memmem::Finder::new(bytes))).collect();
    let mut scan = Scan { hits: Vec::new(), bytes: 0, swapped: 0 };
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let name = words.nth(3).unwrap_or("anonymous");
        let Some((start, end)) = range.split_once('-') else { continue };
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        for (from, to) in present(&pages, start, end, &mut scan.swapped)? {
            let mut bytes = vec![0; usize::try_from(to - from)?];
            if memory.read_exact_at(&mut bytes, from).is_err() {
                // Unmapped since.
                continue;
            }
            scan.bytes += bytes.len();
            for (what, finder) in &finders {
                for at in finder.find_iter(&bytes) {
                    let near =
                        bytes.get(at.saturating_sub(48)..(at + 64).min(bytes.len())).unwrap_or_default();
                    scan.hits.push(Hit {
                        what: (*what).clone(),
                        mapping: name.to_owned(),
                        address: from + u64::try_from(at)?,
                        around: near.escape_ascii().to_string(),
                    });
                }
            }
        }
    }
    Ok(scan)
}

/// Runs of pages that are in memory.
fn present(pages: &File, start: u64, end: u64, swapped: &mut usize) -> Result<Vec<(u64, u64)>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut entries = vec![0; usize::try_from((end - start) / PAGE * ENTRY)?];
    let read = pages.read_at(&mut entries, start / PAGE * ENTRY)?;
    entries.truncate(read);
    for (number, entry) in entries.chunks_exact(8).enumerate() {
        let entry = u64::from_le_bytes(entry.try_into()?);
        let address = start + u64::try_from(number)? * PAGE;
        *swapped += usize::from(entry & SWAPPED != 0);
        if entry & PRESENT == 0 {
            continue;
        }
        match runs.last_mut() {
            Some((_, to)) if *to == address => *to = address + PAGE,
            _ => runs.push((address, address + PAGE)),
        }
    }
    Ok(runs)
}

const PAGE: u64 = 4096;
const ENTRY: u64 = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
