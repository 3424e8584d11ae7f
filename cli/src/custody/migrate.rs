//! `cordon seal migrate`: from one seal to another, without touching a record.
//!
//! Must never begin what two custodians have not approved. Tests: below, and `tests/tests/seals.rs`.

use super::{CustodianSet, rekey};
use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use clap::{Args, Subcommand, ValueEnum};
use cordon_client::Administrator;
use cordon_wire::{RekeyRequest, SealKind};

/// What else than sealing `cordon seal` does.
#[derive(Debug, Subcommand)]
pub(crate) enum SealCommand {
    /// Change what seals the root key
    Migrate(Migrate),
}

/// `cordon seal migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Two custodians approve it first. From shares, a quorum of the present custodians then gives them:
`cordon rekey give`. To shares, new custodians fetch theirs and give them back: `cordon rekey
fetch`. The seal before counts until the new one is proven; no record is touched. docs/seals.md
has it all.

Examples:
  cordon seal migrate --to pkcs11
  cordon seal migrate --to static --rotate-root
  cordon seal migrate --to shamir --threshold 2 --custodian alice=age1... --custodian bob=age1..."
)]
pub(crate) struct Migrate {
    /// What seals afterwards
    #[arg(long, value_name = "KIND")]
    to: Target,
    /// Also make a new root key
    #[arg(long)]
    rotate_root: bool,
    #[command(flatten)]
    set: CustodianSet,
}

/// Seals that have no shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// A key in a file or systemd credential
    Static,
    /// A key in an HSM
    Pkcs11,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Custodians' shares
    Shamir,
    /// A key in a file or systemd credential
    Static,
    /// A key in an HSM
    Pkcs11,
}

impl From<Device> for SealKind {
    fn from(device: Device) -> Self {
        match device {
            Device::Static => SealKind::Static,
            Device::Pkcs11 => SealKind::Pkcs11,
        }
    }
}

impl Migrate {
    /// Begins it, or asks for the approvals.
    pub(super) fn run(&self, settings: &Settings, administrator: &Administrator) -> Result<Verdict, Failure> {
        rekey::begin(settings, administrator, &self.request()?)
    }

    fn request(&self) -> Result<RekeyRequest, Failure> {
        let device = match self.to {
            Target::Shamir => None,
            Target::Static => Some(Device::Static),
            Target::Pkcs11 => Some(Device::Pkcs11),
        };
        let (rotate_root, threshold) = (self.rotate_root, self.set.threshold());
        match device {
            None => {
                let custodians = self.set.checked()?.to_vec();
                Ok(RekeyRequest { to: SealKind::Shamir, rotate_root, threshold, custodians })
            }
            Some(_) if self.set.any() => {
                Err(Failure::usage("only a seal of shares has custodians; leave --custodian out"))
            }
            Some(device) => Ok(RekeyRequest { to: device.into(), rotate_root, ..RekeyRequest::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn shares_need_custodians_and_devices_take_none() {
        let migrate = |to| Migrate { to, rotate_root: false, set: CustodianSet::of(&["a"], 2) };
        assert_eq!(migrate(Target::Shamir).request().unwrap_err().exit(), Exit::Usage);
        assert_eq!(migrate(Target::Static).request().unwrap_err().exit(), Exit::Usage);
        let none = Migrate { to: Target::Pkcs11, rotate_root: true, set: CustodianSet::of(&[], 3) };
        let request = none.request().unwrap();
        assert_eq!((request.to, request.threshold, request.rotate_root), (SealKind::Pkcs11, 0, true));
    }
}
