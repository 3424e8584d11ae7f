//! The seal: how the root key is kept while the vault is down, and how it comes back.
//!
//! Must never keep the root key in the clear outside development, never combine shares that were not checked
//! one by one, and never hand out a root key that the seal document does not commit to (PCI DSS 3.6.1.2,
//! 3.7.6). What is stored is public: commitments and salted hashes of 256-bit secrets. Tests:
//! `seal/tests.rs`, `seal/share.rs`.

use cordon_audit::Name;
use cordon_card::Environment;
use cordon_wire::SealKind;
use jiff::Timestamp;
use thiserror::Error;

pub use device::{DeviceKind, Devices};
pub use document::SealDocument;
pub use pkcs11::HsmError;
pub use private_file::SecretSource;
pub use progress::{Given, Submitted, UnsealProgress};
pub use register::{Holder, Register, Wanted};
pub use settings::{Pkcs11Settings, SealSettings, StaticKey, StaticSettings};
pub use share::{ShareError, ShareText};

use crate::keys::{KeyError, RootKey};

mod deliver;
mod device;
mod document;
mod file;
mod pkcs11;
mod private_file;
mod progress;
mod register;
mod settings;
mod shamir;
mod share;

/// How the root key is to be sealed, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// Shared among these custodians: any `threshold` of them bring it back.
    Shamir {
        /// Shares needed.
        threshold: u8,
        /// One share each.
        holders: Vec<Holder>,
    },
    /// In a file in the clear, for development.
    DevFile,
    /// Under a key outside the vault.
    Device(DeviceKind),
}

impl Sealing {
    /// The same without the names.
    #[must_use]
    pub fn config(&self) -> SealConfig {
        match self {
            Sealing::Shamir { threshold, holders } => SealConfig::Shamir {
                threshold: *threshold,
                shares: u8::try_from(holders.len()).unwrap_or(u8::MAX),
            },
            Sealing::DevFile => SealConfig::DevFile,
            Sealing::Device(kind) => SealConfig::Device(*kind),
        }
    }
}

/// How the root key is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealConfig {
    /// Shared among custodians: any `threshold` of `shares` bring it back.
    Shamir {
        /// Shares needed, at least 2.
        threshold: u8,
        /// Shares made, at most 16.
        shares: u8,
    },
    /// In a file in the clear, for development.
    DevFile,
    /// Under a key outside the vault.
    Device(DeviceKind),
}

impl SealConfig {
    /// The kind, as the API names it.
    #[must_use]
    pub fn kind(self) -> SealKind {
        match self {
            SealConfig::Shamir { .. } => SealKind::Shamir,
            SealConfig::DevFile => SealKind::DevFile,
            SealConfig::Device(DeviceKind::Static) => SealKind::Static,
            SealConfig::Device(DeviceKind::Pkcs11) => SealKind::Pkcs11,
        }
    }

    /// Checks the limits, and that a live environment has no key file.
    pub(crate) fn check(self, environment: Environment) -> Result<(), SealError> {
        match self {
            SealConfig::Shamir { threshold, shares } => {
                if threshold < MIN_THRESHOLD || threshold > shares || shares > MAX_SHARES {
                    return Err(SealError::Limits { threshold, shares });
                }
                Ok(())
            }
            SealConfig::DevFile if environment == Environment::Live => Err(SealError::DevelopmentInLive),
            SealConfig::DevFile | SealConfig::Device(_) => Ok(()),
        }
    }
}

/// What a first sealing makes.
#[derive(Debug)]
pub struct Initialised {
    /// To be stored: says how to unseal, holds no secret.
    pub document: SealDocument,
    /// The new root key.
    pub root: RootKey,
    /// One share for each custodian, to be shown once; none for the development seal.
    pub shares: Vec<ShareText>,
}

/// Makes a root key and seals it. The file of a development seal must not exist yet.
///
/// # Errors
/// [`SealError::Limits`] or [`SealError::DevelopmentInLive`] for a seal that may not be; [`SealError::File`]
/// if the key file cannot be made; [`SealError::Key`] without randomness; what is wrong with the device that is to seal.
pub fn initialise(
    sealing: &Sealing,
    environment: Environment,
    devices: &Devices,
    now: Timestamp,
) -> Result<Initialised, SealError> {
    sealing.config().check(environment)?;
    let root = RootKey::generate()?;
    let (document, shares) = seal_root(&root, sealing, environment, &Register::default(), devices, now)?;
    if *sealing == Sealing::DevFile {
        file::create(&devices.dev_file, environment, &root)?;
    }
    Ok(Initialised { document, root, shares })
}

/// Unseals without custodians: from the development file, or by the device that sealed.
///
/// # Errors
/// [`SealError::DevelopmentInLive`], [`SealError::NotThisSeal`] for shares, [`SealError::File`], what is wrong with the
/// device, [`SealError::Root`] if it gives another root key, [`SealError::NotAuthentic`] if the document was changed.
pub fn unseal_alone(document: &SealDocument, devices: &Devices) -> Result<RootKey, SealError> {
    document.config().check(document.environment())?;
    let root = match (document.config(), document.wrapped()) {
        (SealConfig::DevFile, _) => file::read(&devices.dev_file, document.environment())?,
        (_, Some((kind, wrapped))) => devices.unwrap(kind, document.bound(), wrapped)?,
        (_, None) => return Err(SealError::NotThisSeal),
    };
    document.verify(&root)?;
    Ok(root)
}

/// The same seal under the device's current key; none if it is under that one, or under no device's.
pub(crate) fn moved_to_current_key(
    document: &SealDocument,
    root: &RootKey,
    devices: &Devices,
) -> Result<Option<SealDocument>, SealError> {
    match document.wrapped() {
        Some((kind, wrapped)) if !devices.is_current(kind, wrapped) => {
            document.under_current_key(root, devices).map(Some)
        }
        _ => Ok(None),
    }
}

/// A new ceremony for a root key: a new polynomial, new shares, a new document. `before` is what is remembered of the
/// custodians so far.
pub(crate) fn seal_root(
    root: &RootKey,
    sealing: &Sealing,
    environment: Environment,
    before: &Register,
    devices: &Devices,
    now: Timestamp,
) -> Result<(SealDocument, Vec<ShareText>), SealError> {
    sealing.config().check(environment)?;
    let ceremony = share::Ceremony::draw()?;
    let shares = match sealing {
        Sealing::Shamir { threshold, holders } => {
            let highest = holders.iter().map(|holder| holder.number).max().unwrap_or(0);
            // Numbers stay with their custodians: those that nobody has now are split off and dropped.
            shamir::split(root, *threshold, highest)?
                .into_iter()
                .filter(|(index, _secret)| holders.iter().any(|holder| holder.number == *index))
                .map(|(index, secret)| ShareText::new(environment, ceremony, index, secret))
                .collect()
        }
        Sealing::DevFile | Sealing::Device(_) => Vec::new(),
    };
    let register = before.succeeded_by(sealing, now);
    Ok((SealDocument::new(root, sealing, environment, ceremony, &shares, register, devices)?, shares))
}

/// Encrypts a share to an age recipient, as an armored file.
pub(crate) use deliver::encrypt;
/// What the key that authenticates the seal document is, for a root key.
pub(crate) use document::mac_of;

/// Why the root key cannot be sealed or unsealed. Names shares by number, never shows one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// Not 2 <= threshold <= shares <= 16. Client's fault.
    #[error(
        "{threshold} of {shares} shares: at least {MIN_THRESHOLD} must be needed, and at most {MAX_SHARES} made"
    )]
    Limits {
        /// Shares needed.
        threshold: u8,
        /// Shares made.
        shares: u8,
    },
    /// A key file in a live environment. Operator's fault.
    #[error("the development seal is refused in the live environment")]
    DevelopmentInLive,
    /// The vault has the other kind of seal. Client's fault.
    #[error("the vault is not sealed this way")]
    NotThisSeal,
    /// Not a seal document. Operator's fault: wrong or damaged store.
    #[error("the stored seal is not well formed")]
    Malformed,
    /// A seal document, share or key file of another environment. Operator's fault.
    #[error("this belongs to environment {found}, the vault to {expected}")]
    WrongEnvironment {
        /// The environment found.
        found: Environment,
        /// The environment of this vault.
        expected: Environment,
    },
    /// A custodian named twice. Client's fault.
    #[error("custodian {0} is named twice")]
    Custodian(Name),
    /// Two custodians with one recipient would be one person with two shares. Client's fault.
    #[error(
        "the recipient of custodian {0} is no X25519 age recipient, is another custodian's, or is missing"
    )]
    Recipient(Name),
    /// More custodians ever than there are numbers. Client's fault.
    #[error("no share number is left for custodian {0}; numbers are never given to another share")]
    Numbers(Name),
    /// A share given with another certificate. Client's fault, or an attack.
    #[error("share {0} belongs to custodian {1}, not to who gives it")]
    NotTheHolder(u8, Name),
    /// The custodian has not acknowledged. Client's fault.
    #[error("custodian {0} has not acknowledged the duties yet")]
    NotAcknowledged(Name),
    /// A share of another ceremony: an old one, or another vault's. Client's fault.
    #[error("share {0} belongs to another ceremony")]
    OtherCeremony(u8),
    /// A share with a secret that was never handed out. Client's fault, or an attack.
    #[error("share {0} ({holder}) is not the one that was handed out", holder = .1.as_ref().map_or("nobody's", Name::as_str))]
    WrongShare(u8, Option<Name>),
    /// A share given before. Client's fault.
    #[error("share {0} was given already")]
    GivenAlready(u8),
    /// The root key is not the one the seal commits to. Operator's fault, or an attack.
    #[error("this is not the root key of this vault; shares must be given again")]
    Root,
    /// The document was changed after it was sealed. An attack.
    #[error("the stored seal is not authentic under its root key")]
    NotAuthentic,
    /// The secret sharing library refused. A bug: everything given to it was checked.
    #[error("the root key could not be shared or combined")]
    Sharing,
    /// A file with a key or PIN: absent, unsafe or unreadable. Operator's fault.
    #[error("{which}: {what}{}", .source.as_ref().map(|source| format!(": {source}")).unwrap_or_default())]
    File {
        /// Which file: its purpose, not its name.
        which: &'static str,
        /// What about it.
        what: &'static str,
        /// The system's error, if it was one.
        source: Option<std::io::Error>,
    },
    /// The configuration has no such device. Operator's fault.
    #[error("[seal.{0}] is not configured")]
    NotConfigured(&'static str),
    /// A static key that is not configured. Operator's fault.
    #[error(
        "the root key is sealed under the static key {0}, which is not configured; make it the previous one"
    )]
    UnknownKey(Name),
    /// A static key with other bytes, or a document that was changed. Operator's fault, or an attack.
    #[error(
        "the static key {0} does not open the seal: another key has its id, or the stored seal was changed"
    )]
    WrongKey(Name),
    /// The HSM. Operator's fault.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// Age refused to encrypt. A bug: the recipient was checked.
    #[error("the share could not be encrypted to its recipient")]
    Delivery,
    /// A key could not be made.
    #[error("a key could not be made")]
    Key(#[from] KeyError),
}

/// Name of the seal's document in the store.
pub const DOCUMENT: &str = "seal";
/// One share alone must not be the key (PCI DSS 3.7.6).
const MIN_THRESHOLD: u8 = 2;
pub(crate) const MAX_SHARES: u8 = 16;

#[cfg(test)]
mod tests;
