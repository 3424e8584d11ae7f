//! The root key under an AES-256 key that never leaves an HSM, by PKCS#11.
//!
//! Must never use a key that could be read out of the HSM, ask it to wrap or unwrap a key (the answer to an unwrap is the
//! holder of the PIN's to choose), keep a session, or show a PIN. Tests: `device/tests.rs` and `tests/tests/seals.rs`, on
//! SoftHSM.

use cordon_audit::Name;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use super::SealError;
use super::settings::Pkcs11Settings;
use crate::keys::{KEY_LENGTH, RootKey, fill_random};

/// An HSM whose module is loaded.
pub(super) struct Hsm {
    settings: Pkcs11Settings,
    /// Logging in is a matter of the process, not of the session: one at a time.
    module: Mutex<Pkcs11>,
}

/// Why an HSM does not seal or unseal. Operator's fault, or the HSM's. Shows labels, never a PIN.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum HsmError {
    /// The module is not there, or is none.
    #[error("the PKCS#11 module can't be loaded: {0}")]
    Module(#[source] Error),
    /// No token with the label.
    #[error("no token has the label {0:?}: is the HSM connected?")]
    NoToken(String),
    /// Two tokens with the label.
    #[error("more than one token has the label {0:?}")]
    ManyTokens(String),
    /// The token refuses the PIN.
    #[error("the token refuses the PIN; it may lock itself after a few more attempts")]
    Pin,
    /// The token has locked the PIN.
    #[error("the token has locked the PIN; its security officer must set another one")]
    PinLocked,
    /// The PIN is no text.
    #[error("the PIN is not UTF-8 text, or is empty")]
    PinText,
    /// No such key.
    #[error("the token has no AES key with the label {0}; without it the vault can't be unsealed")]
    NoKey(Name),
    /// Two keys with the label.
    #[error("the token has more than one AES key with the label {0}")]
    ManyKeys(Name),
    /// A key that does not protect the root key as an HSM's must.
    #[error(
        "key {0} is refused: it must be a 256-bit key made in the HSM, sensitive and never extractable, and it is not \
         ({1})"
    )]
    UnsafeKey(Name, &'static str),
    /// What was sealed does not open: HSMs do not say why.
    #[error("key {0} does not open the seal: another key has its label, or the stored seal was changed")]
    Refused(Name),
    /// The answer of the HSM is not what AES-GCM gives.
    #[error("the HSM gave something else than AES-GCM gives")]
    Answer,
    /// Anything else.
    #[error("the HSM failed while it was to {0}: {1}")]
    Failed(&'static str, #[source] Error),
}

impl Hsm {
    /// Loads the module, and makes it look for its HSM while its files can still be reached.
    pub(super) fn load(settings: Pkcs11Settings) -> Result<Hsm, SealError> {
        let module = Pkcs11::new(&settings.module).map_err(HsmError::Module)?;
        if let Err(error) = initialise(&module) {
            tracing::warn!(%error, "the HSM can't be used yet; `cordon unseal` tries again");
        }
        Ok(Hsm { settings, module: Mutex::new(module) })
    }

    /// Label of the key that seals.
    pub(super) fn key(&self) -> &Name {
        &self.settings.key
    }

    /// Seals a root key: initialisation vector, ciphertext and tag.
    pub(super) fn wrap(&self, aad: &[u8], root: &RootKey) -> Result<Vec<u8>, SealError> {
        let mut iv = [0; IV_LENGTH];
        fill_random(&mut iv)?;
        let module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        let session = self.log_in(&module, self.settings.create_key)?;
        let key = match find(&session, self.key()) {
            Err(HsmError::NoKey(_)) if self.settings.create_key => generate(&session, self.key())?,
            found => found?,
        };
        check(&session, key, self.key())?;
        let parameters = GcmParams::new(&mut iv, aad, TAG_BITS.into()).map_err(failed("encrypt"))?;
        let mechanism = Mechanism::AesGcm(parameters);
        let sealed = session.encrypt(&mechanism, key, root.expose_for_crypto()).map_err(failed("encrypt"))?;
        drop(mechanism);
        if sealed.len() != SEALED_LENGTH {
            return Err(HsmError::Answer.into());
        }
        // Some HSMs put an initialisation vector of their own in the place of ours.
        Ok([iv.as_slice(), &sealed].concat())
    }

    /// Opens what `wrap` gave.
    pub(super) fn unwrap(
        &self,
        label: &Name,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (iv, sealed) = sealed.split_first_chunk::<IV_LENGTH>().ok_or(SealError::Malformed)?;
        let mut iv = *iv;
        let module = self.module.lock().unwrap_or_else(PoisonError::into_inner);
        let session = self.log_in(&module, false)?;
        let key = find(&session, label)?;
        check(&session, key, label)?;
        let parameters = GcmParams::new(&mut iv, aad, TAG_BITS.into()).map_err(failed("decrypt"))?;
        let opened = session.decrypt(&Mechanism::AesGcm(parameters), key, sealed).map(Zeroizing::new);
        Ok(opened.map_err(|error| match error {
            Error::Pkcs11(
                RvError::GeneralError | RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange,
                _,
            ) => HsmError::Refused(label.clone()),
            other => HsmError::Failed("decrypt", other),
        })?)
    }

    /// A session as the user. It is logged out and closed when it is dropped.
    fn log_in(&self, module: &Pkcs11, writes: bool) -> Result<Session, SealError> {
        initialise(module)?;
        let label = &self.settings.token;
        let mut found = None;
        for slot in module.get_slots_with_initialized_token().map_err(failed("list its tokens"))? {
            let token = module.get_token_info(slot).map_err(failed("describe a token"))?;
            if token.label().trim_end() == label && found.replace(slot).is_some() {
                return Err(HsmError::ManyTokens(label.clone()).into());
            }
        }
        let slot = found.ok_or_else(|| HsmError::NoToken(label.clone()))?;
        let opened = if writes { module.open_rw_session(slot) } else { module.open_ro_session(slot) };
        let session = opened.map_err(failed("open a session"))?;
        let read = self.settings.pin.read("HSM PIN")?;
        let pin = std::str::from_utf8(read.trim_ascii()).ok().filter(|pin| !pin.is_empty());
        let pin = AuthPin::from(pin.ok_or(HsmError::PinText)?);
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired,
                _,
            )) => Err(HsmError::Pin.into()),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(HsmError::PinLocked.into()),
            Err(other) => Err(HsmError::Failed("log in", other).into()),
        }
    }
}

impl fmt::Debug for Hsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hsm({:?}, {})", self.settings.token, self.settings.key)
    }
}

fn initialise(module: &Pkcs11) -> Result<(), HsmError> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(HsmError::Failed("start", error)),
    }
}

/// The one AES key with a label.
fn find(session: &Session, label: &Name) -> Result<ObjectHandle, HsmError> {
    let wanted = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Label(label.as_str().as_bytes().to_vec()),
    ];
    match session.find_objects(&wanted).map_err(failed("look for the key"))?.as_slice() {
        [] => Err(HsmError::NoKey(label.clone())),
        [key] => Ok(*key),
        _ => Err(HsmError::ManyKeys(label.clone())),
    }
}

/// Makes a key that encrypts and decrypts in the HSM, and does nothing else.
fn generate(session: &Session, label: &Name) -> Result<ObjectHandle, HsmError> {
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::ValueLen(KEY_BYTES.into()),
        Attribute::Label(label.as_str().as_bytes().to_vec()),
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).map_err(failed("make a key"))
}

/// Refuses a key that can leave the HSM, ever could, or came from outside.
fn check(session: &Session, key: ObjectHandle, label: &Name) -> Result<(), HsmError> {
    let asked = [
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
        AttributeType::ValueLen,
    ];
    let told = session.get_attributes(key, &asked).map_err(failed("describe the key"))?;
    let needed = [
        (Attribute::Extractable(false), "it is extractable"),
        (Attribute::Sensitive(true), "it is not sensitive"),
        (Attribute::NeverExtractable(true), "it was extractable once, or came from outside"),
        (Attribute::AlwaysSensitive(true), "it was not always sensitive, or came from outside"),
        (Attribute::ValueLen(KEY_BYTES.into()), "it has another length"),
    ];
    match needed.iter().find(|(attribute, _)| !told.contains(attribute)) {
        Some((_, why)) => Err(HsmError::UnsafeKey(label.clone(), why)),
        None => Ok(()),
    }
}

fn failed(doing: &'static str) -> impl FnOnce(Error) -> HsmError {
    move |error| HsmError::Failed(doing, error)
}

/// The initialisation vector of AES-GCM, drawn anew for each sealing: a root key is sealed a few times in its life.
const IV_LENGTH: usize = 12;
const TAG_BITS: u64 = 128;
const SEALED_LENGTH: usize = KEY_LENGTH + 16;
const KEY_BYTES: u64 = 32;
