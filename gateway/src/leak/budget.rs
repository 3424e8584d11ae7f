//! How many numbers one client may have the vault asked about in a minute (`leak_check = "exact"`).
//!
//! Must never grow with the number of clients, nor let a question pass that it could not count: then the numbers count as
//! known. No rate-limiting crate: a window for all clients at once is one table that is emptied. Tests: here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The counts of the running minute.
#[derive(Debug)]
pub struct Budget {
    each: u32,
    minute: Mutex<Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    since: Duration,
    spent: HashMap<IpAddr, u32>,
}

impl Budget {
    /// So many numbers for each client.
    #[must_use]
    pub fn new(each: u32) -> Self {
        Self { each, minute: Mutex::new(Minute::default()) }
    }

    /// Counts numbers of a client, at a time since the start of the process; false when they are too many, and then they
    /// count for nothing.
    #[must_use]
    pub fn spend(&self, client: IpAddr, numbers: usize, now: Duration) -> bool {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(minute.since) >= WINDOW {
            minute.since = now;
            minute.spent.clear();
        }
        let client = network(client);
        if minute.spent.len() >= MOST_CLIENTS && !minute.spent.contains_key(&client) {
            return false;
        }
        let spent = minute.spent.entry(client).or_default();
        let after = u32::try_from(numbers).ok().and_then(|numbers| spent.checked_add(numbers));
        match after.filter(|after| *after <= self.each) {
            Some(after) => *spent = after,
            None => return false,
        }
        true
    }
}

/// An IPv6 client has a whole network of its own.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

const WINDOW: Duration = Duration::from_secs(60);
/// About two megabytes.
const MOST_CLIENTS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SOON: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_has_its_own_numbers_each_minute() {
        let budget = Budget::new(10);
        assert!(budget.spend(HERE, 7, SOON) && !budget.spend(HERE, 4, SOON) && budget.spend(HERE, 3, SOON));
        assert!(!budget.spend(HERE, 1, SOON + Duration::from_secs(30)));
        assert!(budget.spend(IpAddr::from([192, 0, 2, 1]), 10, SOON), "others are not affected");
        assert!(budget.spend(HERE, 10, SOON + WINDOW));
        assert!(!Budget::new(0).spend(HERE, 1, SOON));
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let budget = Budget::new(1);
        let address = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        assert!(budget.spend(address(1), 1, SOON) && !budget.spend(address(2), 1, SOON));
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_room_for() {
        let budget = Budget::new(1);
        let clients = (0..=u32::try_from(MOST_CLIENTS).unwrap()).map(|n| IpAddr::V4(Ipv4Addr::from_bits(n)));
        let counted = clients.filter(|client| budget.spend(*client, 1, SOON)).count();
        assert_eq!(counted, MOST_CLIENTS);
        assert_eq!(budget.minute.lock().unwrap().spent.len(), MOST_CLIENTS);
    }
}
