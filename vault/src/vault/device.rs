//! Seals that need no custodian: unsealing at the start, and moving to the current one of their keys.
//!
//! Must never wait for an HSM on a thread that serves, nor unseal without a line that says by what. Tests:
//! `tests/tests/seals.rs`.

use super::ceremony::explained;
use super::{Caller, State, Vault};
use crate::error::VaultError;
use crate::keys::RootKey;
use crate::seal::{self, DeviceKind, Devices, SealConfig, SealError, Sealing};
use crate::store::Store;
use cordon_audit::{Action, Name, Outcome};
use cordon_wire::{NewCustodian, ProblemCode, SealKind};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError};

impl<S: Store> Vault<S> {
    /// Unseals a vault that a device sealed. One that can't be stays sealed, and says why in the log.
    ///
    /// # Errors
    /// The audit line can't be written.
    pub async fn unseal_at_start(&self) -> Result<(), VaultError> {
        let kind = self.seal_status().seal;
        let Some(kind @ (SealKind::Static | SealKind::Pkcs11)) = kind else { return Ok(()) };
        let by = if kind == SealKind::Static { DeviceKind::Static } else { DeviceKind::Pkcs11 };
        let caller = Caller {
            who: Name::parse_or_withhold(&format!("seal:{}", by.as_str())),
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request: Name::parse_or_withhold("start"),
        };
        let _one_change = self.changing.lock().await;
        self.note(caller.event(Action::Unseal, Outcome::Allowed)).await?;
        let opened = match self.open_alone().await {
            Ok(root) => self.open(&caller, root, &BTreeSet::new()).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = opened {
            tracing::error!(%error, "the vault stays sealed; `cordon unseal` tries again");
            self.note(caller.event(Action::Unseal, Outcome::Failed).reason("seal-unavailable")).await?;
        }
        Ok(())
    }

    /// The root key of a sealed vault, from the development file or the device that sealed it.
    pub(super) async fn open_alone(&self) -> Result<RootKey, VaultError> {
        let document = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Sealed(sealed) => sealed.document().clone(),
            State::Uninitialized => return Err(VaultError::NotUnsealed(ProblemCode::NotInitialized)),
            State::Unsealed { .. } => return Err(ProblemCode::Conflict.into()),
        };
        if matches!(document.config(), SealConfig::Shamir { .. }) {
            let words = "this vault is unsealed by shares; give one";
            return Err(VaultError::Explained(ProblemCode::BadShare, words.to_owned()));
        }
        self.apart(move |devices| seal::unseal_alone(&document, devices)).await
    }

    /// Moves the root key of an unsealed vault under the device's current key, if it is under an earlier one. A key that
    /// can't be used yet leaves it where it is.
    pub(super) async fn renew_wrapping(&self, caller: &Caller, root: RootKey) -> Result<(), VaultError> {
        let (document, version) = self.stored_seal()?;
        let moved = self
            .apart(move |devices| {
                let moved = seal::moved_to_current_key(&document, &root, devices)?;
                // It must open before it counts.
                moved.map(|next| seal::unseal_alone(&next, devices).map(|_root| next)).transpose()
            })
            .await;
        let next = match moved {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, "the seal stays under the key before");
                return Ok(());
            }
        };
        let key = next.sealing_key().map_or("", Name::as_str);
        let line = caller.event(Action::Rekey, Outcome::Allowed);
        self.note(line.on(&Name::parse_or_withhold(&format!("seal-key/{key}")))).await?;
        let bytes = next.to_bytes().map_err(explained)?;
        let committed = self.store.put_document(seal::DOCUMENT, Some(version), bytes).await?;
        self.anchor(caller, Action::Rekey, committed.sequence).await
    }

    /// A device that may seal.
    pub(super) fn device(
        &self,
        kind: DeviceKind,
        custodians: &[NewCustodian],
    ) -> Result<Sealing, VaultError> {
        self.devices.check(kind).map_err(explained)?;
        if !custodians.is_empty() {
            let words = "this seal has no shares, so it takes no custodians";
            return Err(VaultError::Explained(ProblemCode::BadField, words.to_owned()));
        }
        Ok(Sealing::Device(kind))
    }

    /// Works with devices on a thread that serves nobody: an HSM may take its time.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Devices) -> Result<T, SealError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let devices = Arc::clone(&self.devices);
        let done = tokio::task::spawn_blocking(move || work(&devices)).await;
        done.map_err(|_panic| VaultError::Integrity("a seal"))?.map_err(explained)
    }
}
