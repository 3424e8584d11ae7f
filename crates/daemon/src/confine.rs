//! Confinement: which files, ports and system calls a daemon keeps once it has opened what it needs.
//!
//! It must never be looser than it reports. Tests: `tests/confine.rs`, where confined children try what they must not,
//! and `tests/tests/hardening.rs` on the real daemons.

mod calls;
mod kernel;

use std::path::PathBuf;

use serde::Serialize;

/// What a daemon keeps. Listeners are reserved before ([`crate::server::reserve`]), so none may be bound later.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// Directories whose files may be read, written, made and removed.
    pub writable: Vec<PathBuf>,
    /// Files, and directories with all below, that may be read. Those that do not exist grant nothing.
    pub readable: Vec<PathBuf>,
    /// Whether it connects to others, and where.
    pub outbound: Outbound,
    /// Whether shared objects are loaded later: memory may then become executable.
    pub loads_modules: bool,
}

/// Connections that a daemon makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outbound {
    /// None: no Internet socket can be made at all. Datagrams to a local socket (syslog) can.
    #[default]
    None,
    /// TCP to these ports, UDP to a resolver.
    Ports(Vec<u16>),
}

/// What came into force. Each is true only if the kernel enforces all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Confined {
    /// Landlock on files.
    pub landlock_files: bool,
    /// Landlock on TCP, signals and abstract sockets.
    pub landlock_network: bool,
    /// The list of system calls.
    pub seccomp: bool,
}

/// Confines the calling thread and all threads and programs it starts later. Files first: the list of system calls does not
/// hold those that confine.
pub(crate) fn apply(confinement: &Confinement) -> Confined {
    let (landlock_files, landlock_network) = kernel::restrict(confinement).unwrap_or_else(|error| {
        tracing::warn!(%error, "Landlock cannot confine");
        (false, false)
    });
    let seccomp = match calls::restrict(confinement) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "system calls cannot be confined");
            false
        }
    };
    Confined { landlock_files, landlock_network, seccomp }
}
