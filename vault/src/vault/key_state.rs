//! Suspending and resuming a key version, and calling one compromised (NIST SP 800-57 part 1, section 7).
//!
//! Must never let a card get a second token because its index key changed state, nor leave a compromised key without a
//! newer one to move to. Tests: `tests/tests/key_states.rs`.

use super::administer::keyring_error;
use super::rewrap::active;
use super::{Caller, Vault};
use crate::error::VaultError;
use crate::keyring::{KeyInfo, KeyState, Purpose, Unlocked};
use crate::store::{CollectionId, Store};
use cordon_audit::{Action, Name};
use cordon_policy::{Administer, Permit};
use cordon_wire::{
    DEFAULT_REWRAP_RATE, KeyChange, KeyPurpose, KeyStateRequest, KeyStateResponse, ProblemCode,
};
use std::sync::Arc;
use std::time::Duration;

/// One key version.
#[derive(Clone, Copy)]
struct Place {
    purpose: Purpose,
    collection: Option<CollectionId>,
    version: u32,
}

impl<S: Store> Vault<S> {
    /// Changes the state of one key version. A compromised key that was active is replaced in the same call, and its
    /// records begin to move.
    ///
    /// # Errors
    /// [`ProblemCode::Conflict`] with the reason if the state does not allow it; [`ProblemCode::UnknownCollection`];
    /// [`ProblemCode::Busy`] if earlier requests did not end in time: the new key is active then, and the call may be
    /// made again.
    pub async fn change_key_state(
        &self,
        caller: &Caller,
        permit: Permit<Administer>,
        request: &KeyStateRequest,
    ) -> Result<KeyStateResponse, VaultError> {
        let _one_change = self.changing.lock().await;
        let keys = self.keys()?;
        let place = self.place(request)?;
        let present = place.find(&keys).ok_or_else(|| {
            VaultError::Explained(ProblemCode::BadField, "there is no such key version".to_owned())
        })?;
        let (to, reason) = match request.change {
            KeyChange::Suspend => (KeyState::Suspended, "suspended"),
            KeyChange::Resume if place.is_replaced(&keys) => (KeyState::Deactivated, "resumed"),
            KeyChange::Resume => (KeyState::Active, "resumed"),
            KeyChange::Compromise => (KeyState::Compromised, "compromised"),
        };
        if request.change == KeyChange::Resume && present.state != KeyState::Suspended {
            return Err(VaultError::Explained(ProblemCode::Conflict, "the key is not suspended".to_owned()));
        }
        let replace = request.change == KeyChange::Compromise && present.state == KeyState::Active;
        // What is refused is refused before it is recorded as done.
        let first = if replace { place.rotate(&keys, self)? } else { place.change(&keys, to, self)? };
        let mut line = self.change(caller, Action::KeyState, &permit).reason(reason);
        line = line.on(&Name::parse_or_withhold(present.id.as_str()));
        if let Some(collection) = &request.collection {
            line = line.collection(collection);
        }
        self.note(line).await?;
        self.install(first).await?;
        // This call's own view is an earlier one, too.
        drop(keys);
        if replace {
            self.wait_for_earlier_views().await?;
            self.install(place.change(&self.keys()?, to, self)?).await?;
        }
        let keys = self.keys()?;
        if to == KeyState::Compromised && !place.is_replaced(&keys) {
            self.install(place.rotate(&keys, self)?).await?;
        }
        self.anchor(caller, Action::KeyState, self.store.sequence()).await?;
        let moving = to == KeyState::Compromised && place.collection.is_some();
        if let (true, Some(CollectionId(number))) = (moving, place.collection) {
            let keys = self.keys()?;
            let active = active(&keys, CollectionId(number))?;
            self.set_run(number, active, DEFAULT_REWRAP_RATE, false).await?;
        }
        let keys = self.keys()?;
        let changed = place.find(&keys).ok_or(VaultError::Integrity("a key is gone from the keyring"))?;
        let infos = self.key_infos(&keys);
        let key = infos.into_iter().find(|info| info.id == changed.id.as_str());
        let key = key.ok_or(VaultError::Integrity("a key is gone from the list"))?;
        Ok(KeyStateResponse { key, moving })
    }

    fn place(&self, request: &KeyStateRequest) -> Result<Place, VaultError> {
        let (purpose, collection) = match (request.purpose, &request.collection) {
            (KeyPurpose::Kek, None) => (Purpose::Kek, None),
            (KeyPurpose::Data, Some(name)) => (Purpose::Data, Some(self.collection(Some(name))?.number())),
            (KeyPurpose::Index, Some(name)) => (Purpose::Index, Some(self.collection(Some(name))?.number())),
            (KeyPurpose::Kek, Some(_)) | (_, None) => return Err(ProblemCode::BadField.into()),
        };
        Ok(Place { purpose, collection, version: request.version })
    }

    /// Waits until no request works with a keyring from before: it would enter cards where the next keyring does not
    /// look.
    async fn wait_for_earlier_views(&self) -> Result<(), VaultError> {
        let begun = self.clock.monotonic();
        while self.older_views_exist() {
            if self.clock.monotonic().saturating_sub(begun) > LONGEST_REQUEST {
                return Err(ProblemCode::Busy.into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Place {
    fn find(self, keys: &Unlocked) -> Option<KeyInfo> {
        self.versions(keys).find(|key| key.version == self.version)
    }

    /// Whether another version is active.
    fn is_replaced(self, keys: &Unlocked) -> bool {
        self.versions(keys).any(|key| key.state == KeyState::Active && key.version != self.version)
    }

    fn versions(self, keys: &Unlocked) -> impl Iterator<Item = KeyInfo> {
        let is_mine = move |key: &KeyInfo| {
            (key.purpose, key.collection.map(CollectionId)) == (self.purpose, self.collection)
        };
        keys.list().into_iter().filter(is_mine)
    }

    fn change<S: Store>(
        self,
        keys: &Arc<Unlocked>,
        to: KeyState,
        vault: &Vault<S>,
    ) -> Result<Unlocked, VaultError> {
        keys.change_state(self.purpose, self.collection, self.version, to, vault.wall())
            .map_err(|error| keyring_error(&error))
    }

    fn rotate<S: Store>(self, keys: &Arc<Unlocked>, vault: &Vault<S>) -> Result<Unlocked, VaultError> {
        let now = vault.wall();
        let next = match (self.purpose, self.collection) {
            (Purpose::Data, Some(collection)) => keys.rotate_data(collection, now),
            (Purpose::Index, Some(collection)) => keys.rotate_index(collection, now),
            (Purpose::Kek, _) | (_, None) => keys.rotate_kek(now),
        };
        next.map_err(|error| keyring_error(&error))
    }
}

/// No request of the data listener lives longer: its body, its answer and the writes between have deadlines.
const LONGEST_REQUEST: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
