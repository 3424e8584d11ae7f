//! `Idempotency-Key` on the way out: what a caller sends under one key reaches its destination once.
//!
//! Must never keep a key or a request, only keyed digests of them; nor an answer that was not screened; nor forget an
//! outcome before its time. What is kept is in memory and ends with the process (`docs/request-life.md`). Tests:
//! `idempotency/tests.rs`, `tests/tests/idempotency.rs`.

use crate::answer::Screened;
use crate::keyed::{Digest, Keyed};
use crate::problem::Fault;
use http::HeaderMap;
use ring::error::Unspecified;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The header (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Set on an answer that was kept from the first time.
pub const REPLAYED: &str = "idempotency-replayed";

/// Outcomes of all workers.
pub struct Outcomes {
    key: Keyed,
    ttl: Duration,
    room: usize,
    kept: Mutex<Kept>,
}

/// Only how much it holds.
impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes").field("kept", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Digest, Entry>,
    /// When entries end, first to last: all live equally long. Some were given back before.
    ends: VecDeque<(Duration, Digest)>,
    /// Bytes per service.
    used: HashMap<String, usize>,
}

struct Entry {
    request: Digest,
    service: String,
    size: usize,
    end: Duration,
    state: State,
}

enum State {
    /// Being carried out.
    Running,
    /// It came to this.
    Done(Result<Screened, Fault>),
    /// It was sent, and nobody knows what came of it.
    Unknown,
}

/// By which a request is told from another one under the same key.
#[derive(Clone, Copy)]
pub struct Fingerprint(Digest);

/// Nothing of it.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// One use of a key.
pub struct Claim<'r> {
    /// Who sends.
    pub service: &'r str,
    /// Under which route.
    pub route: &'r str,
    /// The key.
    pub key: &'r [u8],
    /// What is sent, as it was received.
    pub request: Fingerprint,
    /// Whether the destination tells a repeated key itself, so that it may be asked again when the outcome is unknown.
    pub known_there: bool,
}

/// The key and the request are the caller's.
impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("service", &self.service)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

/// What a claim comes to.
#[derive(Debug)]
pub enum Claimed {
    /// Nobody had it: carry it out.
    First(Hold),
    /// It was carried out.
    Before(Result<Screened, Fault>),
}

/// The key a request carries, if it has one.
///
/// # Errors
/// [`Fault::Malformed`] for more than one, an empty or an overlong one, or one that is not visible ASCII.
pub fn key_of(headers: &HeaderMap) -> Result<Option<&[u8]>, Fault> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next().map(|key| key.as_bytes()) else { return Ok(None) };
    let sound = (1..=LONGEST_KEY).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if sound && keys.next().is_none() { Ok(Some(key)) } else { Err(Fault::Malformed(IDEMPOTENCY_KEY)) }
}

impl Outcomes {
    /// Keeps each outcome for `ttl`, in at most `room` bytes for each service.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(ttl: Duration, room: usize) -> Result<Arc<Self>, Unspecified> {
        Ok(Arc::new(Self { key: Keyed::new()?, ttl, room, kept: Mutex::default() }))
    }

    /// The fingerprint of a request of these parts.
    #[must_use]
    pub fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        Fingerprint(self.key.digest(b"request", parts))
    }

    /// Claims a key at `now`.
    ///
    /// # Errors
    /// [`Fault::InFlight`], [`Fault::KeyReused`], [`Fault::OutcomeUnknown`]; [`Fault::Busy`] when the service's room is
    /// used up: to forget an outcome would be to send a request twice.
    pub fn claim(self: &Arc<Self>, claim: &Claim<'_>, now: Duration) -> Result<Claimed, Fault> {
        let name = self.key.digest(b"key", &[claim.service.as_bytes(), claim.route.as_bytes(), claim.key]);
        let Fingerprint(request) = claim.request;
        let mut kept = self.lock();
        kept.forget(now);
        if let Some(entry) = kept.entries.get(&name) {
            return match &entry.state {
                _ if entry.request != request => Err(Fault::KeyReused),
                State::Running => Err(Fault::InFlight),
                State::Unknown => Err(Fault::OutcomeUnknown),
                State::Done(outcome) => Ok(Claimed::Before(outcome.clone())),
            };
        }
        let used = kept.used.entry(claim.service.to_owned()).or_default();
        let after = used.saturating_add(ENTRY);
        if after > self.room {
            return Err(Fault::Busy);
        }
        *used = after;
        let end = now.saturating_add(self.ttl);
        let service = claim.service.to_owned();
        kept.entries.insert(name, Entry { request, service, size: ENTRY, end, state: State::Running });
        kept.ends.push_back((end, name));
        let hold = Hold { outcomes: Arc::clone(self), name, sent: false, known_there: claim.known_there };
        Ok(Claimed::First(hold))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Forgets what is over. A request that still runs then is older than any time it may take.
    fn forget(&mut self, now: Duration) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            let Some((_, name)) = self.ends.pop_front() else { return };
            // A key that was given back may be in use again, until later.
            if self.entries.get(&name).is_some_and(|entry| entry.end <= now) {
                self.remove(&name);
            }
        }
    }

    fn remove(&mut self, name: &Digest) {
        let Some(entry) = self.entries.remove(name) else { return };
        if let Some(used) = self.used.get_mut(&entry.service) {
            *used = used.saturating_sub(entry.size);
        }
    }
}

/// The right and the duty to carry a request out. Dropped before anything was sent it gives the key back; dropped later, or
/// with a request whose outcome nobody knows, it keeps others from sending again.
pub struct Hold {
    outcomes: Arc<Outcomes>,
    name: Digest,
    sent: bool,
    known_there: bool,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Hold {
    /// From now on the destination may have the request.
    pub const fn sends(&mut self) {
        self.sent = true;
    }

    /// It turned out that it has not.
    pub const fn was_not_sent(&mut self) {
        self.sent = false;
    }

    /// The destination answered, and this is what the caller gets, now and later.
    pub fn answered(&self, outcome: &Result<Screened, Fault>) {
        let more = outcome.as_ref().map_or(0, Screened::size);
        let mut kept = self.outcomes.lock();
        if let Some(entry) = kept.entries.get_mut(&self.name) {
            entry.size = entry.size.saturating_add(more);
            entry.state = State::Done(outcome.clone());
            let service = entry.service.clone();
            // An answer is kept even where it goes beyond the room: the next claim waits instead.
            if let Some(used) = kept.used.get_mut(&service) {
                *used = used.saturating_add(more);
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut kept = self.outcomes.lock();
        let entry = kept.entries.get_mut(&self.name);
        let Some(entry) = entry.filter(|entry| matches!(entry.state, State::Running)) else { return };
        if self.sent && !self.known_there {
            entry.state = State::Unknown;
        } else {
            kept.remove(&self.name);
        }
    }
}

/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;
/// What an entry takes without its answer, in bytes: digests, names, its place in the lists.
const ENTRY: usize = 512;

#[cfg(test)]
mod tests;
