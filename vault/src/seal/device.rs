//! Keys outside the vault that seal its root key without custodians: static keys and an HSM.
//!
//! Must never keep such a key, or a PIN, beyond the one sealing or unsealing it is for. What is sealed is bound to the
//! environment, the ceremony, the root key's name and the sealing key's name. Tests: `device/tests.rs`.

use std::path::{Path, PathBuf};

use cordon_audit::Name;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::SealError;
use super::pkcs11::Hsm;
use super::settings::{SealSettings, StaticKey, StaticSettings};
use crate::keys::frame::framed;
use crate::keys::{KEY_LENGTH, Key, RootKey, usage};
use crate::record::xaes::XaesKey;

/// All that can seal without custodians, as configured.
#[derive(Debug)]
pub struct Devices {
    pub(super) dev_file: PathBuf,
    static_key: Option<StaticSettings>,
    hsm: Option<Hsm>,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A key in a file or credential.
    Static,
    /// A key in an HSM.
    Pkcs11,
}

impl DeviceKind {
    /// Its name in the configuration and in what is sealed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DeviceKind::Static => "static",
            DeviceKind::Pkcs11 => "pkcs11",
        }
    }
}

/// A root key under a key outside the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrapped {
    /// Id of the static key, or label of the HSM's.
    pub(super) key: Name,
    /// Nonce, ciphertext and tag, in base64.
    sealed: String,
}

/// What a sealed root key belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) environment: &'a str,
    pub(super) ceremony: &'a [u8],
    pub(super) root: &'a str,
}

impl Bound<'_> {
    fn aad(self, kind: DeviceKind, key: &Name) -> Vec<u8> {
        let fields = [
            self.environment.as_bytes(),
            self.ceremony,
            self.root.as_bytes(),
            kind.as_str().as_bytes(),
            key.as_str().as_bytes(),
        ];
        framed(LABEL, &fields)
    }
}

impl Devices {
    /// Loads the HSM's module, if one is configured: do this before confinement. `dev_file` is where the development seal
    /// keeps its key.
    ///
    /// # Errors
    /// [`SealError::Hsm`] if the module can't be loaded. An HSM that does not answer is no error here.
    pub fn load(settings: &SealSettings, dev_file: &Path) -> Result<Devices, SealError> {
        let hsm = settings.pkcs11.clone().map(Hsm::load).transpose()?;
        Ok(Devices { dev_file: dev_file.to_owned(), static_key: settings.static_key.clone(), hsm })
    }

    /// Whether one is configured.
    ///
    /// # Errors
    /// [`SealError::NotConfigured`].
    pub fn check(&self, kind: DeviceKind) -> Result<(), SealError> {
        match kind {
            DeviceKind::Static => self.statics().map(drop),
            DeviceKind::Pkcs11 => self.hsm().map(drop),
        }
    }

    /// Whether a root key is sealed under the key that is current in the configuration.
    pub(super) fn is_current(&self, kind: DeviceKind, wrapped: &Wrapped) -> bool {
        match kind {
            DeviceKind::Static => self.static_key.as_ref().is_some_and(|keys| keys.current.id == wrapped.key),
            DeviceKind::Pkcs11 => self.hsm.as_ref().is_some_and(|hsm| *hsm.key() == wrapped.key),
        }
    }

    /// Seals under the current key.
    pub(super) fn wrap(
        &self,
        kind: DeviceKind,
        bound: Bound<'_>,
        root: &RootKey,
    ) -> Result<Wrapped, SealError> {
        let (key, sealed) = match kind {
            DeviceKind::Static => {
                let current = &self.statics()?.current;
                let mut sealed = Vec::new();
                let aad = bound.aad(kind, &current.id);
                opened(current)?.seal_onto(&aad, root.expose_for_crypto(), &mut sealed)?;
                (current.id.clone(), sealed)
            }
            DeviceKind::Pkcs11 => {
                let hsm = self.hsm()?;
                (hsm.key().clone(), hsm.wrap(&bound.aad(kind, hsm.key()), root)?)
            }
        };
        Ok(Wrapped { key, sealed: BASE64.encode(&sealed) })
    }

    /// Opens what was sealed under the current key or an earlier one that is still there.
    pub(super) fn unwrap(
        &self,
        kind: DeviceKind,
        bound: Bound<'_>,
        wrapped: &Wrapped,
    ) -> Result<RootKey, SealError> {
        let sealed = BASE64.decode(wrapped.sealed.as_bytes()).map_err(|_base64| SealError::Malformed)?;
        let aad = bound.aad(kind, &wrapped.key);
        let bytes = match kind {
            DeviceKind::Static => {
                let StaticSettings { current, previous } = self.statics()?;
                let mut keys = [Some(current), previous.as_ref()].into_iter().flatten();
                let key = keys.find(|key| key.id == wrapped.key);
                let key = key.ok_or_else(|| SealError::UnknownKey(wrapped.key.clone()))?;
                opened(key)?.open(&aad, &sealed).map_err(|_aead| SealError::WrongKey(wrapped.key.clone()))?
            }
            DeviceKind::Pkcs11 => self.hsm()?.unwrap(&wrapped.key, &aad, &sealed)?,
        };
        RootKey::fill_with(|out| {
            *out =
                *<&[u8; KEY_LENGTH]>::try_from(bytes.as_slice()).map_err(|_length| SealError::Malformed)?;
            Ok(())
        })
    }

    fn statics(&self) -> Result<&StaticSettings, SealError> {
        self.static_key.as_ref().ok_or(SealError::NotConfigured(DeviceKind::Static.as_str()))
    }

    fn hsm(&self) -> Result<&Hsm, SealError> {
        self.hsm.as_ref().ok_or(SealError::NotConfigured(DeviceKind::Pkcs11.as_str()))
    }
}

/// A static key, ready for one use.
fn opened(key: &StaticKey) -> Result<XaesKey, SealError> {
    let text = key.key.read("static seal key")?;
    let malformed =
        || SealError::File { which: "static seal key", what: "is not 32 bytes in base64", source: None };
    let text = text.trim_ascii();
    let mut decoded = zeroize::Zeroizing::new([0; DECODED_ROOM]);
    if BASE64.decode_len(text.len()) != Ok(DECODED_ROOM)
        || BASE64.decode_mut(text, &mut *decoded) != Ok(KEY_LENGTH)
    {
        return Err(malformed());
    }
    let key: Key<usage::Seal> = Key::fill_with(|out| {
        *out = *decoded.first_chunk().ok_or_else(malformed)?;
        Ok::<(), SealError>(())
    })?;
    Ok(XaesKey::new(&key))
}

const LABEL: &str = "cordon/v1/seal-key";
/// The room that a decoder of 44 characters asks for before it meets the padding.
const DECODED_ROOM: usize = 33;

#[cfg(test)]
mod tests;
