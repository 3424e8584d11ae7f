//! CPU time and memory of a process, as the kernel accounts them. Must never estimate. No tests: it reads /proc.

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// CPU time used so far, all threads, user and system.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<_> = after.split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64> { Ok(fields.get(index).context("a field")?.parse()?) };
    let total = ticks(11)?.saturating_add(ticks(12)?);
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(total.saturating_mul(1000) / per_second.max(1)))
}

/// Resident memory in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024)
}
