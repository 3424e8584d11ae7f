//! Process limits: no core dumps, not readable by others, no new privileges, memory locked, private files.
//!
//! It must never fail a start by itself: it reports what holds, and the daemon decides. Tests: `tests/process.rs`, which
//! reads a child's `/proc` entries.

use rustix::fs::Mode;
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;
use serde::Serialize;

/// What [`harden`] put in force (threat B18 to B21).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hardening {
    /// `RLIMIT_CORE` is zero.
    pub core_dumps_off: bool,
    /// Not dumpable: no core through a pipe handler, no `ptrace` or `/proc/<pid>/mem` for the same user.
    pub not_dumpable: bool,
    /// No new privileges by executing a file.
    pub no_new_privileges: bool,
    /// Memory is locked, now and in future.
    pub memory_locked: bool,
    /// Why it is not, if it is not.
    pub memory_lock_reason: Option<&'static str>,
    /// New files are private (`umask 077`).
    pub private_files: bool,
    /// No swap is in use, so unlocked pages stay in memory as well. `None` if the kernel does not say.
    pub swap_off: Option<bool>,
}

impl Hardening {
    /// Each measure and whether it is in force, for a status page.
    pub fn items(&self) -> [(&'static str, bool); 6] {
        [
            ("core_dumps_off", self.core_dumps_off),
            ("not_dumpable", self.not_dumpable),
            ("no_new_privileges", self.no_new_privileges),
            ("memory_locked", self.memory_locked),
            ("private_files", self.private_files),
            ("swap_off", self.swap_off == Some(true)),
        ]
    }
}

/// Puts everything in force that the system allows. Call it first in `main`: `no_new_privileges` reaches only this thread
/// and those it starts later.
pub fn harden() -> Hardening {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let locked = lock_memory();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    Hardening {
        core_dumps_off: rustix::process::setrlimit(Resource::Core, none).is_ok(),
        not_dumpable: rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok(),
        no_new_privileges: rustix::thread::set_no_new_privs(true).is_ok(),
        memory_locked: locked.is_ok(),
        memory_lock_reason: locked.err(),
        // umask cannot fail.
        private_files: true,
        swap_off: swap_is_off(),
    }
}

/// Locks all memory, but only where no limit applies: under a limit, a later allocation would fail and end the process.
///
/// Where the limit cannot be lifted, the capability that overrides it must be kept for the life of the process.
fn lock_memory() -> Result<(), &'static str> {
    let unlimited = Rlimit { current: None, maximum: None };
    let lifted = rustix::process::setrlimit(Resource::Memlock, unlimited).is_ok();
    let privileged =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if !lifted && !privileged {
        return Err("memlock-limit");
    }
    // On fault: reserved but unused space (stacks, arenas) is not filled with pages.
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|_detail| "refused-by-system")
}

fn swap_is_off() -> Option<bool> {
    // One line of heading, then one line for each swap area.
    std::fs::read_to_string("/proc/swaps").ok().map(|text| text.lines().count() <= 1)
}
