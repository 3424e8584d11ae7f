//! How much the gateway takes on at once: in all, from one client, and towards the vault.
//!
//! Must never let one client keep others out, nor hand the vault more calls than it was set to take. What finds no room is
//! refused at once, with nothing sent. Tests: here, and `tests/tests/overload.rs`.

use crate::problem::Fault;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// `[limits]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections open at once, over all listeners.
    pub connections: usize,
    /// Requests served at once.
    pub requests: usize,
    /// Calls to the vault at once.
    pub vault_calls: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { connections: 8192, requests: 4096, vault_calls: 256 }
    }
}

impl LimitsConfig {
    /// Whether each is at least one, and few enough to be counted.
    #[must_use]
    pub fn is_sound(self) -> bool {
        [self.connections, self.requests, self.vault_calls]
            .iter()
            .all(|limit| (1..=1_000_000).contains(limit))
    }
}

/// Who asks: the unit that shares are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Address(IpAddr),
    Service(String),
}

impl Client {
    /// Somebody outside: an address, of IPv6 its first 64 bits, since one subscriber has all of the rest.
    #[must_use]
    pub fn outside(address: IpAddr) -> Self {
        let network = |address: Ipv6Addr| Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX));
        Self(Kind::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => IpAddr::V6(network(address)),
        }))
    }

    /// A service of the bundle.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self(Kind::Service(name.to_owned()))
    }
}

/// The places that there are.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    taken: Mutex<Taken>,
    vault: Semaphore,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<Client, usize>,
}

impl Admission {
    /// All places free.
    #[must_use]
    pub fn new(limits: LimitsConfig) -> Arc<Self> {
        let vault = Semaphore::new(limits.vault_calls.min(Semaphore::MAX_PERMITS));
        Arc::new(Self { most: limits.requests, taken: Mutex::default(), vault })
    }

    /// Takes a place until it is dropped. Up to half of them are anybody's; beyond, a client has no more than its share among
    /// those who are being served and one more, so that there is room for who comes next.
    ///
    /// # Errors
    /// [`Fault::Shed`].
    pub fn enter(self: &Arc<Self>, client: Client) -> Result<Place, Fault> {
        let mut taken = self.taken();
        if taken.total >= self.most {
            return Err(Fault::Shed("busy.full"));
        }
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        let clients = taken.by_client.len().saturating_add(usize::from(own == 0));
        let share = self.most.checked_div(clients.saturating_add(1)).unwrap_or_default().max(1);
        if taken.total.saturating_mul(2) >= self.most && own >= share {
            return Err(Fault::Shed("busy.share"));
        }
        taken.total = taken.total.saturating_add(1);
        taken.by_client.insert(client.clone(), own.saturating_add(1));
        drop(taken);
        Ok(Place { admission: Arc::clone(self), client })
    }

    /// Requests that are being served.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.taken().total
    }

    /// Waits for a turn at the vault. Turns are given in the order in which they were asked for.
    ///
    /// # Errors
    /// [`Fault::Shed`] when there is none in time.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        match tokio::time::timeout(TURN_WITHIN, self.vault.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Fault::Shed("busy.vault")),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, free again when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    client: Client,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.admission.taken();
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

/// Long enough for a burst to pass, short enough that nobody's client has given up.
const TURN_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admission(requests: usize) -> Arc<Admission> {
        Admission::new(LimitsConfig { requests, vault_calls: 1, ..LimitsConfig::default() })
    }

    fn client(number: u8) -> Client {
        Client::outside(IpAddr::from([127, 0, 0, number]))
    }

    #[test]
    fn a_client_that_fills_half_leaves_the_rest_to_others() {
        let admission = admission(10);
        let mut places: Vec<_> = (0..5).map(|_| admission.enter(client(1)).unwrap()).collect();
        assert_eq!(admission.enter(client(1)).unwrap_err(), Fault::Shed("busy.share"));
        places.extend((0..3).map(|_| admission.enter(client(2)).unwrap()));
        assert_eq!(admission.enter(client(2)).unwrap_err(), Fault::Shed("busy.share"));
        places.push(admission.enter(client(3)).unwrap());
        places.push(admission.enter(client(4)).unwrap());
        assert_eq!(admission.enter(client(5)).unwrap_err(), Fault::Shed("busy.full"));
        assert_eq!(admission.in_flight(), 10);
        places.clear();
        assert_eq!((admission.in_flight(), admission.taken().by_client.len()), (0, 0));
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_client() {
        let of = |text: &str| Client::outside(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::8"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
        assert_ne!(of("127.0.0.1"), Client::service("127.0.0.1"));
    }

    #[test]
    fn who_gets_no_turn_in_time_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async {
            let admission = admission(1);
            let turn = admission.turn().await.unwrap();
            assert_eq!(admission.turn().await.unwrap_err(), Fault::Shed("busy.vault"));
            drop(turn);
            assert!(admission.turn().await.is_ok());
        });
    }

    proptest! {
        #[test]
        fn places_are_never_more_than_there_are_and_always_come_back(
            steps in prop::collection::vec((any::<bool>(), 0..4_u8), 0..200)
        ) {
            let admission = admission(8);
            let mut places = Vec::new();
            for (comes, number) in steps {
                if comes {
                    places.extend(admission.enter(client(number)));
                } else if !places.is_empty() {
                    drop(places.swap_remove(usize::from(number) % places.len()));
                }
                prop_assert_eq!(admission.in_flight(), places.len());
                prop_assert!(places.len() <= 8);
            }
            places.clear();
            prop_assert!(admission.taken().by_client.is_empty());
        }
    }
}
