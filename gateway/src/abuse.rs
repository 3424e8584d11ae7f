//! How often who may try on a way in: counted per client, session and range of cards, in memory that does not grow.
//!
//! Must never keep a card number, only digests of cards under a key of the process; nor let an attempt reach the vault or
//! a service that a rule stops; nor let many attempts at once gain anything over one after the other. What it counts and
//! why is `docs/abuse.md`. Tests: `abuse/tests.rs`, `tests/tests/abuse.rs`; bench `bench/benches/abuse.rs`.

mod admit;
mod judge;
mod proof;
mod subject;
mod table;
mod tally;

pub use admit::admit;
pub use judge::{Did, Fired, Judged, Verdict};
pub use subject::Client;

use crate::keyed::Keyed;
use crate::sign::{self, KeyConfig, KeyError};
use cordon_audit::Name;
use cordon_card::Pan;
use cordon_daemon::clock::{Clock, SystemClock};
use cordon_policy::{AbuseAction, AbuseKey, AbuseLimit, AbuseRule, Decision};
use http::HeaderName;
use proof::Verifier;
use ring::error::Unspecified;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use table::{Key, Table};
use tally::{CardMark, Measure, Tick};
use tokio::sync::Semaphore;

/// The counts of all workers.
#[derive(Debug)]
pub struct Guard {
    keyed: Keyed,
    table: Table,
    /// How many requests may still be held up.
    delays: Semaphore,
    clock: SystemClock,
}

/// The rules of one route, in their order.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

/// A rule, ready to judge by.
#[derive(Debug)]
pub struct Rule {
    spec: AbuseRule,
    route: String,
    /// As audit lines name it.
    name: Name,
    measure: Measure,
    within: Tick,
    challenge: Option<Challenge>,
}

#[derive(Debug)]
struct Challenge {
    header: HeaderName,
    verifier: Verifier,
    passes: Measure,
}

impl Rules {
    /// Makes a route's rules ready, with the keys that its proofs are made with.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load(
        route: &str,
        rules: &[AbuseRule],
        keys: &HashMap<String, KeyConfig>,
    ) -> Result<Self, KeyError> {
        rules.iter().map(|rule| Rule::load(route, rule, keys)).collect::<Result<_, _>>().map(Self)
    }
}

impl Rule {
    fn load(route: &str, spec: &AbuseRule, keys: &HashMap<String, KeyConfig>) -> Result<Self, KeyError> {
        let challenge = match &spec.action {
            AbuseAction::Challenge { key, header, passes } => {
                let hmac = sign::hmac_key(route, key, keys)?;
                let unusable = || KeyError::Unusable { key: key.clone(), scheme: "hmac-sha256" };
                let header = HeaderName::from_bytes(header.as_bytes()).map_err(|_no_name| unusable())?;
                let verifier = Verifier::new(hmac, bound_to(&spec.per).label());
                Some(Challenge {
                    header,
                    verifier,
                    passes: Measure { limit: AbuseLimit::Requests(*passes), doubts: true },
                })
            }
            AbuseAction::Report | AbuseAction::Delay(_) | AbuseAction::Deny => None,
        };
        Ok(Self {
            spec: spec.clone(),
            route: route.to_owned(),
            measure: Measure {
                limit: spec.limit,
                doubts: !matches!(spec.per, AbuseKey::Network | AbuseKey::Iin(_)),
            },
            name: Name::parse_or_withhold(&format!("abuse.{}", spec.name)),
            // What is rounded must not fall out of the window early.
            within: ticks(spec.within).saturating_add(1),
            challenge,
        })
    }

    /// Its name in the bundle.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its name for the audit log.
    #[must_use]
    pub const fn audit_name(&self) -> &Name {
        &self.name
    }
}

/// What a proof is bound to: the session where sessions are counted, else the client's address. A proof for all cards of a
/// range, or for a whole network, would be everybody's.
fn bound_to(per: &AbuseKey) -> &AbuseKey {
    match per {
        AbuseKey::Header(_) | AbuseKey::Cookie(_) => per,
        AbuseKey::Address | AbuseKey::Network | AbuseKey::Iin(_) | AbuseKey::Card => &AbuseKey::Address,
    }
}

impl Guard {
    /// Counts in at most `room` bytes, and holds up at most `delayed` requests at a time.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(room: usize, delayed: usize) -> Result<Arc<Self>, Unspecified> {
        let (keyed, table) = (Keyed::new()?, Table::new(room));
        let delays = Semaphore::new(delayed.min(Semaphore::MAX_PERMITS));
        Ok(Arc::new(Self { keyed, table, delays, clock: SystemClock::new() }))
    }

    /// How many clients, sessions, cards and ranges are known.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// How many of them were forgotten before their time, for want of room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.table.forgotten()
    }

    fn now(&self) -> Tick {
        ticks(self.clock.monotonic())
    }

    fn card(&self, pan: &Pan) -> Card {
        let digits = pan.expose().as_bytes();
        let mut iin = [0; 8];
        for (kept, digit) in iin.iter_mut().zip(digits) {
            *kept = *digit;
        }
        let [a, b, c, d, e, f, g, h, ..] = self.keyed.digest(b"card", &[digits]);
        Card { mark: CardMark::from_be_bytes([a, b, c, d, e, f, g, h]), iin }
    }

    /// Where a rule counts something, as a digest.
    fn key(&self, rule: &Rule, use_of_it: &[u8], of: &[u8]) -> Key {
        let digest = self.keyed.digest(use_of_it, &[rule.route.as_bytes(), rule.spec.name.as_bytes(), of]);
        let mut key = Key::default();
        for (kept, byte) in key.iter_mut().zip(digest) {
            *kept = byte;
        }
        key
    }
}

/// A card of a request.
#[derive(Clone, Copy)]
struct Card {
    mark: CardMark,
    /// The first digits, which are no card number.
    iin: [u8; 8],
}

/// An attempt that was counted. What became of it is told by [`Attempt::settle`]; when it is dropped before, the client hung
/// up, and the attempt counts as declined: else who asks and does not wait would not be counted.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts as declined"]
pub struct Attempt {
    guard: Arc<Guard>,
    touched: Vec<Touched>,
}

/// Where cards were counted as pending.
#[derive(Debug)]
struct Touched {
    key: Key,
    measure: Measure,
    within: Tick,
    cards: Vec<CardMark>,
}

impl Attempt {
    /// What became of it, if that is known. Only the first answer counts.
    pub fn settle(&mut self, decision: Option<Decision>) {
        let now = self.guard.now();
        for Touched { key, measure, within, cards } in self.touched.drain(..) {
            self.guard.table.amend(key, within, now, |row| row.tally.settle(measure, &cards, decision, now));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.settle(Some(Decision::Declined));
    }
}

fn ticks(time: Duration) -> Tick {
    Tick::try_from(time.as_millis().checked_div(MILLIS_PER_TICK).unwrap_or_default()).unwrap_or(Tick::MAX)
}

const MILLIS_PER_TICK: u128 = 100;

#[cfg(test)]
mod tests;
