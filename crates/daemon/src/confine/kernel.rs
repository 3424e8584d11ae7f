//! Landlock: files below granted paths, TCP to granted ports, nothing else.
//!
//! It must never grant execution, devices or links. Tests: `tests/confine.rs`.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use super::{Confinement, Outbound};

/// Why a rule cannot be made. Operator, or the kernel.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    /// The kernel refuses a rule.
    #[error("the kernel refuses it: {0}")]
    Ruleset(#[from] RulesetError),
    /// A granted directory cannot be opened.
    #[error("{} cannot be granted", path.display())]
    Path {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: PathFdError,
    },
}

/// What the kernel enforces of one set of rules: files, then network.
pub(super) type Enforced = (bool, bool);

/// Denies every file but those granted, TCP beyond the granted ports, and reaching other processes by signals or abstract
/// sockets. One set of rules: a second would deny moving files between directories, whatever the first says.
pub(super) fn restrict(confinement: &Confinement) -> Result<Enforced, ConfineError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::from_all(NETWORK))?
        .scope(Scope::from_all(NETWORK))?
        .create()?;
    for directory in &confinement.writable {
        let opened = PathFd::new(directory)
            .map_err(|source| ConfineError::Path { path: directory.clone(), source })?;
        rules = rules.add_rule(PathBeneath::new(opened, WRITABLE))?;
    }
    for path in &confinement.readable {
        // What is not there can't be read; if it appears later, it stays denied.
        let Ok(opened) = PathFd::new(path) else { continue };
        rules = rules.add_rule(PathBeneath::new(opened, readable(path)))?;
    }
    if let Outbound::Ports(ports) = &confinement.outbound {
        for port in ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => (true, true),
        RulesetStatus::PartiallyEnforced => (knows_files(), knows_network()),
        RulesetStatus::NotEnforced => (false, false),
    })
}

/// Whether this kernel knows every file right.
fn knows_files() -> bool {
    let all = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    all.handle_access(AccessFs::from_all(FILES)).and_then(Ruleset::create).is_ok()
}

/// Whether it knows every network right and scope.
fn knows_network() -> bool {
    let all = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let handled =
        all.handle_access(AccessNet::from_all(NETWORK)).and_then(|all| all.scope(Scope::from_all(NETWORK)));
    handled.and_then(Ruleset::create).is_ok()
}

fn readable(path: &Path) -> BitFlags<AccessFs> {
    if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() }
}

/// Linux 6.10: all file rights, device control included.
const FILES: ABI = ABI::V5;
/// Linux 6.12: TCP ports, signals, abstract sockets.
const NETWORK: ABI = ABI::V6;
/// All that a store and a log do: regular files and directories, also moved between directories.
const WRITABLE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});
