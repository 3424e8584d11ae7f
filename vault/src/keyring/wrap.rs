//! Wrapping: a key's bytes under another key, bound to the place in the keyring they belong to.
//!
//! Must never unwrap without checking the commitment: an AES-GCM ciphertext can be made to open under two
//! keys. Tests: `keyring/tests.rs`.

use cordon_card::Environment;
use data_encoding::BASE64;
use jiff::Timestamp;

use super::KeyringError;
use super::document::{Document, KeyRow, TallyRow};
use crate::keys::frame::framed;
use crate::keys::usage::Stored;
use crate::keys::{Commitment, Key, KeyError, KeyId, TallyKey, WrapKey};
use crate::record::xaes::XaesKey;
use crate::store::TallyMac;
use std::sync::Arc;

/// Everything that says which key this is; a wrapped key moved to another place does not open there.
pub(super) struct Place<'a> {
    pub(super) environment: Environment,
    pub(super) id: &'a KeyId,
    pub(super) collection: Option<u32>,
    pub(super) version: u32,
    /// The version of the key-encryption key; none for the root.
    pub(super) wrapped_by: Option<u32>,
}

impl<'a> Place<'a> {
    pub(super) fn of(row: &'a KeyRow, environment: Environment) -> Place<'a> {
        let KeyRow { id, collection, version, wrapped_by, .. } = row;
        Place { environment, id, collection: *collection, version: *version, wrapped_by: *wrapped_by }
    }

    /// The one place of the key of the tally.
    pub(super) fn tally(id: &'a KeyId, environment: Environment) -> Place<'a> {
        Place { environment, id, collection: None, version: 1, wrapped_by: None }
    }

    fn aad<U: Stored>(&self) -> Vec<u8> {
        let collection = self.collection.map(u32::to_be_bytes);
        let wrapped_by = self.wrapped_by.map(u32::to_be_bytes);
        framed(
            WRAP_LABEL,
            &[
                self.environment.as_str().as_bytes(),
                self.id.as_str().as_bytes(),
                U::NAME.as_bytes(),
                collection.as_ref().map_or(&[], <[u8; 4]>::as_slice),
                &self.version.to_be_bytes(),
                wrapped_by.as_ref().map_or(&[], <[u8; 4]>::as_slice),
            ],
        )
    }
}

/// Wraps `key` for its place: nonce, ciphertext and tag in base64, and the commitment to the key.
pub(super) fn wrap<U: Stored>(
    place: &Place<'_>,
    key: &Key<U>,
    wrapper: &XaesKey,
) -> Result<(String, Commitment), KeyError> {
    let mut wrapped = Vec::new();
    wrapper.seal_onto(&place.aad::<U>(), key.expose_for_crypto(), &mut wrapped)?;
    Ok((BASE64.encode(&wrapped), key.commitment(place.id)?))
}

/// Unwraps the key of `row` and checks its commitment.
pub(super) fn unwrap<U: Stored>(
    row: &KeyRow,
    wrapper: &XaesKey,
    environment: Environment,
) -> Result<Key<U>, KeyringError> {
    let wrapped = row.wrapped.as_deref().ok_or_else(|| KeyringError::Unwrap(row.id.clone()))?;
    unwrap_at(&Place::of(row, environment), wrapped, &row.commitment, wrapper)
}

/// Unwraps the key of the tally.
pub(super) fn unwrap_tally(
    row: &TallyRow,
    wrapper: &XaesKey,
    environment: Environment,
) -> Result<TallyKey, KeyringError> {
    unwrap_at(&Place::tally(&row.id, environment), &row.wrapped, &row.commitment, wrapper)
}

/// The key of a keyring's tally, ready for use.
pub(super) fn tally_of(
    document: &Document,
    wrapper: &XaesKey,
) -> Result<Option<Arc<TallyMac>>, KeyringError> {
    let Some(row) = &document.tally else { return Ok(None) };
    let key = unwrap_tally(row, wrapper, document.environment)?;
    Ok(Some(Arc::new(TallyMac::new(&key))))
}

/// Wraps the key of the tally.
pub(super) fn wrap_tally(
    id: KeyId,
    created: Timestamp,
    key: &TallyKey,
    wrapper: &XaesKey,
    environment: Environment,
) -> Result<TallyRow, KeyError> {
    let (wrapped, commitment) = wrap(&Place::tally(&id, environment), key, wrapper)?;
    Ok(TallyRow { id, created, wrapped, commitment })
}

fn unwrap_at<U: Stored>(
    place: &Place<'_>,
    wrapped: &str,
    commitment: &Commitment,
    wrapper: &XaesKey,
) -> Result<Key<U>, KeyringError> {
    let refused = || KeyringError::Unwrap(place.id.clone());
    let wrapped = BASE64.decode(wrapped.as_bytes()).map_err(|_base64| refused())?;
    let aad = place.aad::<U>();
    let opened = wrapper.open(&aad, &wrapped).map_err(|_unauthentic| refused())?;
    let key = Key::fill_with(|out| {
        *out = *<&[u8; crate::keys::KEY_LENGTH]>::try_from(opened.as_slice()).map_err(|_length| refused())?;
        Ok::<(), KeyringError>(())
    })?;
    if !key.commitment(place.id)?.matches(commitment) {
        return Err(KeyringError::Commitment(place.id.clone()));
    }
    Ok(key)
}

/// Derives the key that wraps from a key that must not wrap directly, and prepares it.
pub(super) fn wrapper_of<U: Stored>(key: &Key<U>, label: &str) -> Result<XaesKey, KeyError> {
    let wrap: WrapKey = key.derive(label, &[])?;
    Ok(XaesKey::new(&wrap))
}

const WRAP_LABEL: &str = "cordon/v1/wrap";
