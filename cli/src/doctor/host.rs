//! What can be seen on the vault's own host: its files and their rights, its disk, swap, where cores go.
//!
//! Must never read a key or a record: rights and sizes only. Tests: below.

use super::{Check, certificate};
use crate::exit::{Failure, with_causes};
use crate::layout;
use serde::Deserialize;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The parts of `vault.toml` that name files. The vault itself checks the rest (`cordon-vault --check`).
#[derive(Debug, Deserialize)]
struct Configuration {
    data_dir: PathBuf,
    tls: Tls,
}

#[derive(Debug, Deserialize)]
struct Tls {
    cert: PathBuf,
    key: PathBuf,
    client_roots: PathBuf,
}

/// Every check of this host. `file` is the vault's configuration.
pub(super) fn checks(file: &Path) -> Result<Vec<Check>, Failure> {
    let read: Configuration =
        cordon_daemon::config::load(file).map_err(|error| Failure::configuration(with_causes(&error)))?;
    let base = file.parent().unwrap_or(Path::new(""));
    let data = base.join(&read.data_dir);
    let mut checks = vec![
        certificate("vault", &base.join(&read.tls.cert)),
        certificate("client roots", &base.join(&read.tls.client_roots)),
        private("vault key", &base.join(&read.tls.key)),
        private("data directory", &data),
        private("store", &data.join("store")),
        private("audit log", &data.join("audit")),
    ];
    checks.extend(room(&data));
    checks.push(swap(&read_system("/proc/swaps")));
    checks.push(cores(&read_system("/proc/sys/kernel/core_pattern")));
    Ok(checks)
}

/// Nobody but the owner may use it.
fn private(name: &str, path: &Path) -> Check {
    let name = format!("files {name}");
    match fs::metadata(path) {
        Err(error) => Check::warn(name, format!("{}: {error}", path.display()))
            .next("run this as the vault's user or as root; a credential of systemd is there only while the vault runs"),
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            Check::fail(name, format!("{} is open to others (mode {:o})", path.display(), metadata.mode() & 0o7777))
                .next(format!("chmod go= {}", path.display()))
        }
        Ok(metadata) => Check::ok(name, format!("{} is its owner's alone (user {})", path.display(), metadata.uid())),
    }
}

/// Room for the audit log: without it, nothing is answered.
fn room(data: &Path) -> Option<Check> {
    let disk = rustix::fs::statvfs(data).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let all = disk.f_blocks.saturating_mul(disk.f_frsize);
    let percent = free.saturating_mul(100).checked_div(all)?;
    let text = format!("{} free, {percent}%", layout::bytes(free));
    let advice = "make room: without an audit line nothing is answered";
    Some(match percent {
        0..=2 => Check::fail("disk", text).next(advice),
        3..=14 => Check::warn("disk", text).next(advice),
        _ => Check::ok("disk", text),
    })
}

fn swap(swaps: &str) -> Check {
    let areas = swaps.lines().skip(1).count();
    if swaps.is_empty() {
        Check::warn("swap", "/proc/swaps can't be read")
    } else if areas == 0 {
        Check::ok("swap", "none on this host")
    } else {
        Check::warn(
            "swap",
            format!("{} in use", layout::counted(u64::try_from(areas).unwrap_or(u64::MAX), "area")),
        )
        .next("swapoff -a, unless memory_locked is in force above")
    }
}

/// A handler behind a pipe gets cores even where their size is limited to none; only `not_dumpable` keeps it out.
fn cores(pattern: &str) -> Check {
    let pattern = pattern.trim();
    if pattern.is_empty() {
        Check::warn("core dumps", "core_pattern can't be read")
    } else if let Some(handler) = pattern.strip_prefix('|') {
        let program = handler.split_whitespace().next().unwrap_or_default();
        Check::warn("core dumps", format!("go to the handler {program}; not_dumpable must be in force above"))
            .next("sysctl kernel.core_pattern=core, if nothing on this host needs the handler")
    } else {
        Check::ok("core dumps", format!("go to files named `{pattern}`, which core_dumps_off forbids"))
    }
}

fn read_system(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_can_enter_fails() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, wanted) in [(0o700, Finding::Ok), (0o750, Finding::Fail), (0o701, Finding::Fail)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(private("x", dir.path()).verdict, wanted, "{mode:o}");
        }
        assert_eq!(private("x", &dir.path().join("missing")).verdict, Finding::Warn);
    }

    #[test]
    fn swap_and_pipe_handlers_warn() {
        let heading = "Filename\tType\n";
        assert_eq!(swap(heading).verdict, Finding::Ok);
        assert_eq!(swap(&format!("{heading}/dev/sda2\tpartition\n")).verdict, Finding::Warn);
        assert_eq!(swap("").verdict, Finding::Warn);
        assert_eq!(cores("core\n").verdict, Finding::Ok);
        assert_eq!(cores("|/usr/share/apport/apport %p\n").verdict, Finding::Warn);
        assert!(cores("|/usr/share/apport/apport %p").detail.contains("/usr/share/apport/apport;"));
    }

    #[test]
    fn room_is_told_of_a_directory_that_is_there() {
        assert!(room(Path::new("/")).is_some());
        assert!(room(Path::new("/nowhere")).is_none());
    }
}
