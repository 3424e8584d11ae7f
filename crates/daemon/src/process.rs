//! Process limits: no core dumps, not readable by others, no new privileges, memory locked, private files, confinement.
//!
//! It must never fail a start by itself: it reports what holds, and the daemon decides with [`Hardening::admit`]. Tests:
//! `tests/process.rs` and `tests/confine.rs`, which read a child's `/proc` entries, and the end of this file.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustix::fs::Mode;
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::confine::{Confined, Confinement};
use crate::metrics::Metrics;

/// One thing that is in force or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// `RLIMIT_CORE` is zero.
    CoreDumpsOff,
    /// Not dumpable: no core through a pipe handler, no `ptrace` or `/proc/<pid>/mem` for the same user.
    NotDumpable,
    /// No new privileges by executing a file.
    NoNewPrivileges,
    /// Memory is locked, now and in future.
    MemoryLocked,
    /// New files are private (`umask 077`).
    PrivateFiles,
    /// No swap is in use.
    SwapOff,
    /// Neither root nor any capability but that of locking memory.
    Unprivileged,
    /// Landlock: no file beyond the daemon's own.
    LandlockFiles,
    /// Landlock: no TCP port but those granted, no signal or abstract socket beyond the daemon.
    LandlockNetwork,
    /// seccomp: a system call that is not on the list ends the process.
    Seccomp,
}

impl Measure {
    /// Its name in status pages and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Measure::CoreDumpsOff => "core_dumps_off",
            Measure::NotDumpable => "not_dumpable",
            Measure::NoNewPrivileges => "no_new_privileges",
            Measure::MemoryLocked => "memory_locked",
            Measure::PrivateFiles => "private_files",
            Measure::SwapOff => "swap_off",
            Measure::Unprivileged => "unprivileged",
            Measure::LandlockFiles => "landlock_files",
            Measure::LandlockNetwork => "landlock_network",
            Measure::Seccomp => "seccomp",
        }
    }
}

/// Lets every other thread go before the calling one, for work in the background that nobody waits for. Where the kernel
/// does not let it, it goes on as it was.
pub fn give_way() {
    // For the kernel a thread is a process of its own here, and no process id is the calling one.
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND) {
        tracing::warn!(%error, "a background thread keeps its priority");
    }
}

/// A ninth of the weight of a thread that answers requests (`sched(7)`): where processors are idle it changes nothing.
const BACKGROUND: i32 = 10;

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What is in force (threats B18 to B21): after [`harden`] the limits, after [`Hardening::confine`] all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hardening {
    /// [`Measure::CoreDumpsOff`].
    pub core_dumps_off: bool,
    /// [`Measure::NotDumpable`].
    pub not_dumpable: bool,
    /// [`Measure::NoNewPrivileges`].
    pub no_new_privileges: bool,
    /// [`Measure::MemoryLocked`].
    pub memory_locked: bool,
    /// Why it is not, if it is not.
    pub memory_lock_reason: Option<&'static str>,
    /// [`Measure::PrivateFiles`].
    pub private_files: bool,
    /// [`Measure::SwapOff`]. `None` if the kernel does not say.
    pub swap_off: Option<bool>,
    /// [`Measure::Unprivileged`].
    pub unprivileged: bool,
    /// The last three measures.
    #[serde(flatten)]
    pub confined: Confined,
    /// What is done without, and why.
    #[serde(skip)]
    without: Exceptions,
}

impl Hardening {
    /// Each measure and whether it is in force, for a status page.
    pub fn items(&self) -> [(Measure, bool); 10] {
        [
            (Measure::CoreDumpsOff, self.core_dumps_off),
            (Measure::NotDumpable, self.not_dumpable),
            (Measure::NoNewPrivileges, self.no_new_privileges),
            (Measure::MemoryLocked, self.memory_locked),
            (Measure::PrivateFiles, self.private_files),
            (Measure::SwapOff, self.swap_off == Some(true)),
            (Measure::Unprivileged, self.unprivileged),
            (Measure::LandlockFiles, self.confined.landlock_files),
            (Measure::LandlockNetwork, self.confined.landlock_network),
            (Measure::Seccomp, self.confined.seccomp),
        ]
    }

    /// Confines this thread and all that it starts later; call it before there are others.
    pub fn confine(&mut self, confinement: &Confinement) {
        self.confined = crate::confine::apply(confinement);
    }

    /// One gauge for each measure, so that a monitor and `cordon doctor` see them: 1 in force, 0 not.
    pub fn register(&self, metrics: &mut Metrics) {
        let gauges = Family::<MeasureLabel, Gauge>::default();
        for (measure, in_force) in self.items() {
            gauges.get_or_create(&MeasureLabel { measure: measure.as_str() }).set(i64::from(in_force));
        }
        metrics.register("hardening", "Hardening measures in force", gauges);
    }

    /// Whether a daemon may serve: in a live environment every measure is in force, or `exceptions` names it with a reason.
    /// Says in the log what is missing.
    ///
    /// # Errors
    /// [`NotHardened`], with all that is missing. Operator.
    pub fn admit(&mut self, exceptions: &Exceptions, live: bool) -> Result<(), NotHardened> {
        self.without = exceptions.clone();
        let missing: Vec<Measure> = self.missing().collect();
        let mut refused = Vec::new();
        for measure in missing {
            if let Some(reason) = self.reason(measure) {
                tracing::warn!(measure = measure.as_str(), reason, "done without");
            } else {
                tracing::warn!(measure = measure.as_str(), "not in force");
                refused.push(measure.as_str());
            }
        }
        if live && !refused.is_empty() { Err(NotHardened(refused.join(", "))) } else { Ok(()) }
    }

    /// Why the configuration does without a measure, if it does.
    pub fn reason(&self, measure: Measure) -> Option<&str> {
        self.without.without.get(&measure).map(|reason| reason.trim()).filter(|reason| !reason.is_empty())
    }

    /// What is not in force. Swap does not count where memory is locked: nothing is written to it then.
    fn missing(&self) -> impl Iterator<Item = Measure> {
        let swap_is_harmless = self.memory_locked;
        self.items()
            .into_iter()
            .filter(|(_, in_force)| !in_force)
            .map(|(measure, _)| measure)
            .filter(move |measure| *measure != Measure::SwapOff || !swap_is_harmless)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MeasureLabel {
    measure: &'static str,
}

/// `[hardening.without]`: the measures that an installation does without, each with its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exceptions {
    without: BTreeMap<Measure, String>,
}

/// A live environment lacks measures that its configuration does not name.
#[derive(Debug, thiserror::Error)]
#[error(
    "a live environment needs every hardening measure; not in force: {0}. Put it in force (docs/hardening.md says how), \
     or name it in [hardening.without] with the reason"
)]
pub struct NotHardened(String);

/// Puts everything in force that the system allows. Call it first in `main`: `no_new_privileges` reaches only this thread
/// and those it starts later.
pub fn harden() -> Hardening {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let locked = lock_memory();
    // The kernel clears a huge page, two megabytes, while the thread that touched it first waits: milliseconds, in which
    // every request behind that thread waits too (docs/performance.md). A kernel without huge pages refuses; so be it.
    let _refused = rustix::thread::disable_transparent_huge_pages(true).is_err();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    open_many_files();
    Hardening {
        core_dumps_off: rustix::process::setrlimit(Resource::Core, none).is_ok(),
        not_dumpable: rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok(),
        no_new_privileges: rustix::thread::set_no_new_privs(true).is_ok(),
        memory_locked: locked.is_ok(),
        memory_lock_reason: locked.err(),
        // umask cannot fail.
        private_files: true,
        swap_off: swap_is_off(),
        unprivileged: is_unprivileged(),
        confined: Confined::default(),
        without: Exceptions::default(),
    }
}

/// Takes as many open files as it may: each connection is one, and many a service is started with room for a thousand.
fn open_many_files() {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit { current: maximum, maximum };
    if current != maximum && rustix::process::setrlimit(Resource::Nofile, all).is_err() {
        tracing::warn!(?current, "the limit of open files stays as it is");
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

fn is_unprivileged() -> bool {
    let kept = rustix::thread::capabilities(None)
        .is_ok_and(|sets| (sets.effective | sets.permitted).difference(CapabilitySet::IPC_LOCK).is_empty());
    kept && !rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Hardening {
        Hardening {
            core_dumps_off: true,
            not_dumpable: true,
            no_new_privileges: true,
            memory_locked: true,
            memory_lock_reason: None,
            private_files: true,
            swap_off: Some(true),
            unprivileged: true,
            confined: Confined { landlock_files: true, landlock_network: true, seccomp: true },
            without: Exceptions::default(),
        }
    }

    fn exceptions(text: &str) -> Exceptions {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_live_environment_needs_every_measure() {
        assert!(whole().admit(&Exceptions::default(), true).is_ok());
        let mut lacking = Hardening { unprivileged: false, memory_locked: false, ..whole() };
        let error = lacking.admit(&Exceptions::default(), true).unwrap_err().to_string();
        assert!(error.contains("not in force: memory_locked, unprivileged."), "{error}");
        assert!(lacking.admit(&Exceptions::default(), false).is_ok(), "reported only");
    }

    #[test]
    fn a_measure_named_with_a_reason_may_be_missing() {
        let mut lacking = Hardening { memory_locked: false, ..whole() };
        let named = exceptions("[without]\nmemory_locked = \"the host has no swap\"\n");
        assert!(lacking.admit(&named, true).is_ok());
        assert_eq!(lacking.reason(Measure::MemoryLocked), Some("the host has no swap"));
        assert!(lacking.admit(&exceptions("[without]\nmemory_locked = \" \"\n"), true).is_err(), "no reason");
        lacking.unprivileged = false;
        assert!(lacking.admit(&named, true).is_err(), "another one");
    }

    #[test]
    fn swap_is_harmless_only_where_memory_is_locked() {
        let mut swapping = Hardening { swap_off: Some(false), ..whole() };
        assert!(swapping.admit(&Exceptions::default(), true).is_ok());
        swapping.memory_locked = false;
        let error = swapping.admit(&Exceptions::default(), true).unwrap_err().to_string();
        assert!(error.contains("memory_locked, swap_off"), "{error}");
    }

    #[test]
    fn an_unknown_measure_is_refused() {
        assert!(toml::from_str::<Exceptions>("[without]\nlandlok = \"x\"\n").is_err());
        for (measure, _) in whole().items() {
            let text = format!("[without]\n{measure} = \"x\"\n");
            assert!(exceptions(&text).without.contains_key(&measure), "{measure}");
        }
    }
}
