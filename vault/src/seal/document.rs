//! The seal as it is stored: how the root key is kept, what it must be, and which shares were handed out.
//!
//! Must never hold a secret: a share's digest is over a 256-bit secret and a salt, and the commitment to the
//! root key takes the root key to compute. It can be checked in full only once the root key is back; until
//! then every value from it is used in ways that fail closed. Tests: `seal/tests.rs`.

use std::fmt;

use cordon_audit::Name;
use cordon_card::Environment;
use data_encoding::BASE64;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use super::device::{Bound, Wrapped};
use super::share::{Ceremony, ShareText};
use super::{DeviceKind, Devices, MAX_SHARES, Register, SealConfig, SealError, Sealing};
use crate::keys::frame::framed;
use crate::keys::{Commitment, DocumentKey, KEY_LENGTH, KeyId, PreparedMac, RootKey, fill_random};

/// A stored seal, parsed.
#[derive(Clone)]
pub struct SealDocument {
    body: Body,
    // INVARIANT(raw): `envelope.seal` is the text that `body` was read from or written as, and what the tag
    // covers.
    envelope: Envelope,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    seal: Box<RawValue>,
    mac: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    format: u32,
    environment: Environment,
    ceremony: Ceremony,
    root: RootRow,
    by: By,
    /// Who holds and held shares, and who acknowledged. It outlives ceremonies and root keys.
    register: Register,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootRow {
    id: KeyId,
    commitment: Commitment,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum By {
    Shamir { threshold: u8, shares: Vec<ShareRow> },
    DevFile {},
    Static(Wrapped),
    Pkcs11(Wrapped),
}

impl By {
    fn of_device(kind: DeviceKind, wrapped: Wrapped) -> By {
        match kind {
            DeviceKind::Static => By::Static(wrapped),
            DeviceKind::Pkcs11 => By::Pkcs11(wrapped),
        }
    }
}

/// What tells a right share from a wrong one, for one share.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareRow {
    index: u8,
    salt: String,
    digest: String,
}

impl SealDocument {
    pub(super) fn new(
        root: &RootKey,
        sealing: &Sealing,
        environment: Environment,
        ceremony: Ceremony,
        shares: &[ShareText],
        register: Register,
        devices: &Devices,
    ) -> Result<SealDocument, SealError> {
        let id = KeyId::draw("root")?;
        let by = match sealing {
            Sealing::Shamir { threshold, .. } => By::Shamir {
                threshold: *threshold,
                shares: shares.iter().map(ShareRow::of).collect::<Result<_, _>>()?,
            },
            Sealing::DevFile => By::DevFile {},
            Sealing::Device(kind) => {
                By::of_device(*kind, devices.wrap(*kind, bound(environment, &ceremony, &id), root)?)
            }
        };
        let root_row = RootRow { commitment: root.commitment(&id)?, id };
        let body = Body { format: FORMAT, environment, ceremony, root: root_row, by, register };
        SealDocument::signed(body, &mac_of(root)?)
    }

    fn signed(body: Body, mac: &PreparedMac) -> Result<SealDocument, SealError> {
        let seal = serde_json::value::to_raw_value(&body).map_err(|_json| SealError::Malformed)?;
        let mac = BASE64.encode(&mac.sign(MAC_LABEL, &[seal.get().as_bytes()]));
        Ok(SealDocument { body, envelope: Envelope { seal, mac } })
    }

    /// The same seal with another register. `mac` is of its root key ([`mac_of`]).
    pub(crate) fn with_register(
        &self,
        register: Register,
        mac: &PreparedMac,
    ) -> Result<SealDocument, SealError> {
        SealDocument::signed(Body { register, ..self.body.clone() }, mac)
    }

    /// The same seal under the device's current key: the same ceremony, the same root key.
    pub(super) fn under_current_key(
        &self,
        root: &RootKey,
        devices: &Devices,
    ) -> Result<SealDocument, SealError> {
        let (kind, _wrapped) = self.wrapped().ok_or(SealError::NotThisSeal)?;
        let by = By::of_device(kind, devices.wrap(kind, self.bound(), root)?);
        SealDocument::signed(Body { by, ..self.body.clone() }, &mac_of(root)?)
    }

    /// The root key as a device keeps it.
    pub(super) fn wrapped(&self) -> Option<(DeviceKind, &Wrapped)> {
        match &self.body.by {
            By::Static(wrapped) => Some((DeviceKind::Static, wrapped)),
            By::Pkcs11(wrapped) => Some((DeviceKind::Pkcs11, wrapped)),
            By::Shamir { .. } | By::DevFile {} => None,
        }
    }

    /// Name of the device's key that seals, if one does.
    #[must_use]
    pub fn sealing_key(&self) -> Option<&Name> {
        self.wrapped().map(|(_kind, wrapped)| &wrapped.key)
    }

    pub(super) fn bound(&self) -> Bound<'_> {
        bound(self.body.environment, &self.body.ceremony, &self.body.root.id)
    }

    /// Who holds and held shares, and who acknowledged.
    #[must_use]
    pub fn register(&self) -> &Register {
        &self.body.register
    }

    /// Whether another document is of the same ceremony: the same shares unseal it.
    #[must_use]
    pub fn same_ceremony(&self, other: &SealDocument) -> bool {
        self.body.ceremony == other.body.ceremony
    }

    /// Reads a stored seal and checks what can be checked without the root key.
    ///
    /// # Errors
    /// [`SealError::Malformed`], [`SealError::WrongEnvironment`], or what is wrong with its limits.
    pub fn parse(stored: &[u8], environment: Environment) -> Result<SealDocument, SealError> {
        let envelope: Envelope = serde_json::from_slice(stored).map_err(|_json| SealError::Malformed)?;
        let body: Body = serde_json::from_str(envelope.seal.get()).map_err(|_json| SealError::Malformed)?;
        if body.format != FORMAT {
            return Err(SealError::Malformed);
        }
        if body.environment != environment {
            return Err(SealError::WrongEnvironment { found: body.environment, expected: environment });
        }
        let numbers: Vec<u8> = match &body.by {
            By::Shamir { shares, .. } => shares.iter().map(|share| share.index).collect(),
            By::DevFile {} | By::Static(_) | By::Pkcs11(_) => Vec::new(),
        };
        let ascending = numbers.is_sorted_by(|one, next| one < next);
        let within = numbers.iter().all(|number| (1..=MAX_SHARES).contains(number));
        if !ascending || !within || !body.register.fits(&numbers) {
            return Err(SealError::Malformed);
        }
        let document = SealDocument { body, envelope };
        document.config().check(environment)?;
        Ok(document)
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// [`SealError::Malformed`] if it cannot be written as JSON, which would be a bug.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SealError> {
        serde_json::to_vec(&self.envelope).map_err(|_json| SealError::Malformed)
    }

    /// How the root key is sealed.
    #[must_use]
    pub fn config(&self) -> SealConfig {
        match &self.body.by {
            By::Shamir { threshold, shares } => SealConfig::Shamir {
                threshold: *threshold,
                shares: u8::try_from(shares.len()).unwrap_or(u8::MAX),
            },
            By::DevFile {} => SealConfig::DevFile,
            By::Static(_) => SealConfig::Device(DeviceKind::Static),
            By::Pkcs11(_) => SealConfig::Device(DeviceKind::Pkcs11),
        }
    }

    /// The environment the root key belongs to.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.body.environment
    }

    pub(super) fn ceremony(&self) -> Ceremony {
        self.body.ceremony
    }

    /// Whether a share is, to the bit, one that was handed out.
    pub(super) fn knows(&self, share: &ShareText) -> bool {
        let By::Shamir { shares, .. } = &self.body.by else { return false };
        shares.iter().find(|row| row.index == share.index).is_some_and(|row| row.is_of(share))
    }

    /// Checks a root key against the commitment, and then this document against the root key.
    pub(super) fn verify(&self, root: &RootKey) -> Result<(), SealError> {
        if !root.commitment(&self.body.root.id)?.matches(&self.body.root.commitment) {
            return Err(SealError::Root);
        }
        let tag = BASE64.decode(self.envelope.mac.as_bytes()).map_err(|_base64| SealError::NotAuthentic)?;
        if !mac_of(root)?.verify(MAC_LABEL, &[self.envelope.seal.get().as_bytes()], &tag) {
            return Err(SealError::NotAuthentic);
        }
        Ok(())
    }
}

impl fmt::Debug for SealDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealDocument({}, {:?})", self.body.environment, self.config())
    }
}

impl ShareRow {
    fn of(share: &ShareText) -> Result<ShareRow, SealError> {
        let mut salt = [0; KEY_LENGTH];
        fill_random(&mut salt)?;
        let digest = BASE64.encode(digest_of(share, &salt).as_ref());
        Ok(ShareRow { index: share.index, salt: BASE64.encode(&salt), digest })
    }

    fn is_of(&self, share: &ShareText) -> bool {
        let (Ok(salt), Ok(stored)) =
            (BASE64.decode(self.salt.as_bytes()), BASE64.decode(self.digest.as_bytes()))
        else {
            return false;
        };
        digest_of(share, &salt).as_ref().ct_eq(&stored).into()
    }
}

fn bound<'a>(environment: Environment, Ceremony(ceremony): &'a Ceremony, root: &'a KeyId) -> Bound<'a> {
    Bound { environment: environment.as_str(), ceremony, root: root.as_str() }
}

fn digest_of(share: &ShareText, salt: &[u8]) -> ring::digest::Digest {
    let fields = [
        salt,
        share.environment.as_str().as_bytes(),
        &share.ceremony.0,
        &[share.index],
        share.secret.as_slice(),
    ];
    let framed = zeroize::Zeroizing::new(framed(SHARE_LABEL, &fields));
    digest(&SHA256, &framed)
}

/// The key that authenticates the seal document.
pub(crate) fn mac_of(root: &RootKey) -> Result<PreparedMac, SealError> {
    let key: DocumentKey = root.derive(ROOT_SEAL_LABEL, &[])?;
    Ok(PreparedMac::new(&key))
}

const FORMAT: u32 = 2;
const MAC_LABEL: &str = "cordon/v1/seal";
const SHARE_LABEL: &str = "cordon/v1/share";
const ROOT_SEAL_LABEL: &str = "cordon/v1/root/seal";
