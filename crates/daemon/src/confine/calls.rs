//! seccomp: the system calls that a daemon may make once it is confined. Any other ends the process (SIGSYS).
//!
//! It must never hold a call that starts a program, reads another process, or changes what is enforced. Tests: here and
//! `tests/confine.rs`.

mod list;

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{Confinement, Outbound};

/// Puts the list in force for every thread of the process.
pub(super) fn restrict(confinement: &Confinement) -> Result<(), CallsError> {
    let architecture = std::env::consts::ARCH.try_into().map_err(CallsError::Filter)?;
    let compile = |rules: Rules, otherwise, matched| -> Result<BpfProgram, CallsError> {
        let filter =
            SeccompFilter::new(rules, otherwise, matched, architecture).map_err(CallsError::Filter)?;
        filter.try_into().map_err(CallsError::Filter)
    };
    // Of two filters the kernel obeys the stricter answer. The first turns what libraries merely try into an error.
    let unsupported = SeccompAction::Errno(code(libc::ENOSYS));
    let refused =
        compile(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), SeccompAction::Allow, unsupported)?;
    let no_family = SeccompAction::Errno(code(libc::EAFNOSUPPORT));
    let tried = compile(tried_families(confinement)?, SeccompAction::Allow, no_family)?;
    let allowed = compile(allowed(confinement)?, SeccompAction::KillProcess, SeccompAction::Allow)?;
    for program in [&refused, &tried, &allowed] {
        seccompiler::apply_filter_all_threads(program).map_err(CallsError::Apply)?;
    }
    Ok(())
}

/// Why the list is not in force. Operator (an unknown machine), or the kernel.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallsError {
    /// A rule is not well formed, or the machine is not known.
    #[error("the list cannot be compiled: {0}")]
    Filter(seccompiler::BackendError),
    /// The kernel refuses.
    #[error("the kernel refuses the list: {0}")]
    Apply(seccompiler::Error),
}

/// Rules by system call; no rule means any arguments.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn allowed(confinement: &Confinement) -> Result<Rules, CallsError> {
    let mut rules: Rules = list::ANY_ARGUMENTS.iter().map(|call| (*call, Vec::new())).collect();
    let mut only = |call: c_long, alternatives: Vec<Vec<SeccompCondition>>| -> Result<(), CallsError> {
        let alternatives = alternatives.into_iter().map(SeccompRule::new).collect::<Result<_, _>>();
        rules.insert(call, alternatives.map_err(CallsError::Filter)?);
        Ok(())
    };
    // Threads, never processes. clone3 hides its flags in memory, so the first filter sends glibc back to clone.
    only(libc::SYS_clone, vec![vec![has(0, wide(libc::CLONE_THREAD) | wide(libc::CLONE_VM))?]])?;
    // Signals to itself only: abort().
    let own = u64::from(std::process::id());
    only(libc::SYS_tgkill, vec![vec![equals(0, own)?]])?;
    // Names of threads and of memory areas; everything else of prctl changes what is enforced.
    only(libc::SYS_prctl, vec![vec![equals(0, wide(libc::PR_SET_NAME))?], vec![equals(0, PR_SET_VMA)?]])?;
    // Limits are read, not set.
    only(libc::SYS_prlimit64, vec![vec![null(2)?]])?;
    // A thread's own priority: work in the background gives way. Raising it again takes a privilege that nothing here has.
    only(libc::SYS_setpriority, vec![vec![equals(0, wide(libc::PRIO_PROCESS))?, equals(1, 0)?]])?;
    // Non-blocking mode, close-on-exec, "is this a terminal"; no device control.
    let controls = [wide(libc::FIONBIO), wide(libc::FIOCLEX), libc::TCGETS];
    let controls = controls.into_iter().map(|request| Ok(vec![equals(1, request)?]));
    only(libc::SYS_ioctl, controls.collect::<Result<_, CallsError>>()?)?;
    // Local sockets: the pair behind signal handling, datagrams to syslog. Internet sockets only where they are granted.
    let mut families = vec![libc::AF_UNIX];
    if confinement.outbound != Outbound::None {
        families.extend([libc::AF_INET, libc::AF_INET6]);
        families.extend(TRIED);
    }
    let families = families.into_iter().map(|family| Ok(vec![equals(0, wide(family))?]));
    only(libc::SYS_socket, families.collect::<Result<_, CallsError>>()?)?;
    only(libc::SYS_socketpair, vec![vec![equals(0, wide(libc::AF_UNIX))?]])?;
    // Memory is written or executed, never made executable, unless modules are loaded.
    if confinement.loads_modules {
        rules.extend([(libc::SYS_mmap, Vec::new()), (libc::SYS_mprotect, Vec::new())]);
    } else {
        only(libc::SYS_mmap, vec![vec![lacks(2, wide(libc::PROT_EXEC))?]])?;
        only(libc::SYS_mprotect, vec![vec![lacks(2, wide(libc::PROT_EXEC))?]])?;
    }
    Ok(rules)
}

/// Families that the resolver of the C library tries and can do without.
fn tried_families(confinement: &Confinement) -> Result<Rules, CallsError> {
    // Where no socket is granted, the empty set of rules would match all calls: a call that is killed anyway stands in.
    if confinement.outbound == Outbound::None {
        return Ok(BTreeMap::from([(libc::SYS_kexec_load, Vec::new())]));
    }
    let rules = TRIED
        .iter()
        .map(|family| SeccompRule::new(vec![equals(0, wide(*family))?]).map_err(CallsError::Filter));
    Ok(BTreeMap::from([(libc::SYS_socket, rules.collect::<Result<_, _>>()?)]))
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, CallsError> {
    SeccompCondition::new(argument, length, operator, value).map_err(CallsError::Filter)
}

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, CallsError> {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn null(argument: u8) -> Result<SeccompCondition, CallsError> {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// All of these bits are set.
fn has(argument: u8, bits: u64) -> Result<SeccompCondition, CallsError> {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bits), bits)
}

/// None of these bits is set.
fn lacks(argument: u8, bits: u64) -> Result<SeccompCondition, CallsError> {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bits), 0)
}

/// A constant of the C library as the kernel sees it in an argument. All that are used here are positive.
fn wide(constant: impl TryInto<u64>) -> u64 {
    constant.try_into().unwrap_or(u64::MAX)
}

fn code(errno: i32) -> u32 {
    errno.unsigned_abs()
}

const TRIED: [i32; 1] = [libc::AF_NETLINK];
/// `PR_SET_VMA`, by which allocators name their areas.
const PR_SET_VMA: u64 = 0x5356_4d41;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_starts_a_program_reads_another_process_or_loosens_the_list_is_on_it() {
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_init_module,
            libc::SYS_memfd_create,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_bind,
            libc::SYS_munlockall,
            libc::SYS_setrlimit,
        ];
        let rules = allowed(&Confinement::default()).unwrap();
        for call in forbidden {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn every_list_compiles() {
        let architecture: seccompiler::TargetArch = std::env::consts::ARCH.try_into().unwrap();
        for outbound in [Outbound::None, Outbound::Ports(vec![443])] {
            let confinement = Confinement { outbound, loads_modules: true, ..Confinement::default() };
            let rules = allowed(&confinement).unwrap();
            let filter =
                SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)
                    .unwrap();
            let program: BpfProgram = filter.try_into().unwrap();
            assert!(program.len() < 4096);
        }
    }
}
