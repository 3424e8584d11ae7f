//! Requests for approval as they are stored: who asked for what, who agreed, and how each ended.
//!
//! Must never count one custodian twice or the one who asked, count anybody after the time is over, or be trusted before its
//! tag was checked.
//! Whether a request is used up or rejected for good is the keyring's to say (`Unlocked::is_closed`): an older version of
//! this document that somebody puts back must not open one again. No I/O: `vault/approve.rs` reads and writes. Tests:
//! below, `tests/tests/approvals.rs`; fuzzed by `fuzz/fuzz_targets/keyring.rs`.

use crate::keys::{KeyError, KeyId, PreparedMac};
use cordon_audit::Name;
use cordon_card::Environment;
use cordon_wire::{APPROVALS_NEEDED, Approval, ApprovalState, Operation};
use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Name of the document that keeps all requests.
pub const DOCUMENT: &str = "approvals";

/// All requests that are open or ended lately, oldest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    format: u32,
    environment: Environment,
    requests: Vec<Request>,
}

/// One request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    id: KeyId,
    operation: Operation,
    requested_by: Name,
    requested_at: Timestamp,
    expires_at: Timestamp,
    approved_by: Vec<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Ended {
    Rejected { by: Name },
    Used {},
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    approvals: Box<RawValue>,
    mac: String,
}

impl Approvals {
    /// No requests.
    #[must_use]
    pub fn new(environment: Environment) -> Approvals {
        Approvals { format: FORMAT, environment, requests: Vec::new() }
    }

    /// Parses requests. Says nothing about who wrote them.
    ///
    /// # Errors
    /// [`ApprovalError::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Approvals, ApprovalError> {
        let read: Approvals = serde_json::from_slice(body).map_err(|_json| ApprovalError::Malformed)?;
        if read.format != FORMAT || read.requests.len() > MOST_KEPT {
            return Err(ApprovalError::Malformed);
        }
        for request in &read.requests {
            let distinct: std::collections::BTreeSet<_> = request.approved_by.iter().collect();
            if distinct.len() != request.approved_by.len() {
                return Err(ApprovalError::Malformed);
            }
        }
        Ok(read)
    }

    /// Checks the tag of stored requests, then parses them.
    pub(crate) fn authenticate(
        bytes: &[u8],
        environment: Environment,
        mac: &PreparedMac,
    ) -> Result<Approvals, ApprovalError> {
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_json| ApprovalError::Malformed)?;
        let tag = BASE64.decode(envelope.mac.as_bytes()).map_err(|_base64| ApprovalError::Malformed)?;
        let body = envelope.approvals.get().as_bytes();
        if !mac.verify(MAC_LABEL, &[body], &tag) {
            return Err(ApprovalError::NotAuthentic);
        }
        let read = Approvals::parse(body)?;
        if read.environment != environment {
            return Err(ApprovalError::NotAuthentic);
        }
        Ok(read)
    }

    /// The document as it is stored: the requests and their tag.
    pub(crate) fn to_bytes(&self, mac: &PreparedMac) -> Result<Vec<u8>, ApprovalError> {
        let approvals = serde_json::value::to_raw_value(self).map_err(|_json| ApprovalError::Malformed)?;
        let mac = BASE64.encode(&mac.sign(MAC_LABEL, &[approvals.get().as_bytes()]));
        serde_json::to_vec(&Envelope { approvals, mac }).map_err(|_json| ApprovalError::Malformed)
    }

    /// The open request for an operation, or a new one and `true`.
    ///
    /// # Errors
    /// [`ApprovalError::TooMany`] are open; no randomness.
    pub fn ask(
        &mut self,
        operation: Operation,
        by: Name,
        now: Timestamp,
    ) -> Result<(KeyId, bool), ApprovalError> {
        if let Some(open) =
            self.requests.iter().find(|request| request.is_open(now) && request.operation == operation)
        {
            return Ok((open.id.clone(), false));
        }
        if self.requests.iter().filter(|request| request.is_open(now)).count() >= MOST_OPEN {
            return Err(ApprovalError::TooMany);
        }
        while self.requests.len() >= MOST_KEPT {
            let oldest = self.requests.iter().position(|request| !request.is_open(now));
            self.requests.remove(oldest.ok_or(ApprovalError::TooMany)?);
        }
        let expires_at = now.saturating_add(LIFE).map_err(|_range| ApprovalError::Clock)?;
        let id = KeyId::draw("approval")?;
        let request = Request {
            id: id.clone(),
            operation,
            requested_by: by,
            requested_at: now,
            expires_at,
            approved_by: Vec::new(),
            ended: None,
        };
        self.requests.push(request);
        Ok((id, true))
    }

    /// Counts one custodian.
    ///
    /// # Errors
    /// [`ApprovalError::Unknown`], [`ApprovalError::Over`], [`ApprovalError::Own`] for who asked, or
    /// [`ApprovalError::Twice`] for who agreed before.
    pub fn approve(&mut self, id: &str, by: &Name, now: Timestamp) -> Result<(), ApprovalError> {
        let request = self.open(id, now)?;
        if request.requested_by == *by {
            return Err(ApprovalError::Own);
        }
        if request.approved_by.contains(by) {
            return Err(ApprovalError::Twice);
        }
        request.approved_by.push(by.clone());
        Ok(())
    }

    /// Ends a request: one custodian who says no is enough.
    ///
    /// # Errors
    /// [`ApprovalError::Unknown`] or [`ApprovalError::Over`].
    pub fn reject(&mut self, id: &str, by: &Name, now: Timestamp) -> Result<(), ApprovalError> {
        self.open(id, now)?.ended = Some(Ended::Rejected { by: by.clone() });
        Ok(())
    }

    /// The request that lets an operation be done now, if enough custodians agreed to exactly it.
    #[must_use]
    pub fn granted(&self, operation: &Operation, now: Timestamp) -> Option<&Request> {
        self.requests.iter().find(|request| {
            request.is_open(now)
                && request.operation == *operation
                && request.approved_by.len() >= usize::from(APPROVALS_NEEDED)
        })
    }

    /// Notes that a request was used.
    pub fn mark_used(&mut self, id: &KeyId) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.id == *id) {
            request.ended = Some(Ended::Used {});
        }
    }

    /// Ends requests that the keyring knows to be over although this document says that they are open.
    pub fn close(&mut self, is_closed: impl Fn(&KeyId) -> bool) {
        for request in self.requests.iter_mut().filter(|request| request.ended.is_none()) {
            if is_closed(&request.id) {
                request.ended = Some(Ended::Used {});
            }
        }
    }

    /// Drops the agreement of who is no custodian any more from requests that did not end.
    pub fn keep_answers_of(&mut self, is_custodian: impl Fn(&Name) -> bool) {
        for request in self.requests.iter_mut().filter(|request| request.ended.is_none()) {
            request.approved_by.retain(&is_custodian);
        }
    }

    /// Forgets requests that are open.
    pub fn forget_open(&mut self, now: Timestamp) {
        self.requests.retain(|request| !request.is_open(now));
    }

    /// One request.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Request> {
        self.requests.iter().find(|request| request.id.as_str() == id)
    }

    /// Every request, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().rev()
    }

    fn open(&mut self, id: &str, now: Timestamp) -> Result<&mut Request, ApprovalError> {
        let request = self.requests.iter_mut().find(|request| request.id.as_str() == id);
        let request = request.ok_or(ApprovalError::Unknown)?;
        if request.is_open(now) { Ok(request) } else { Err(ApprovalError::Over) }
    }
}

impl Request {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What is to be approved.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The custodians who agreed.
    #[must_use]
    pub fn approved_by(&self) -> &[Name] {
        &self.approved_by
    }

    /// Until when it can be approved and used.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// As the API shows it.
    #[must_use]
    pub fn shown(&self, now: Timestamp) -> Approval {
        let rejected_by = match &self.ended {
            Some(Ended::Rejected { by }) => Some(by.as_str().to_owned()),
            Some(Ended::Used {}) | None => None,
        };
        Approval {
            id: self.id.as_str().to_owned(),
            operation: self.operation.clone(),
            state: self.state(now),
            needed: APPROVALS_NEEDED,
            requested_by: self.requested_by.as_str().to_owned(),
            requested_at: self.requested_at.to_string(),
            expires_at: self.expires_at.to_string(),
            approved_by: self.approved_by.iter().map(|name| name.as_str().to_owned()).collect(),
            rejected_by,
        }
    }

    fn state(&self, now: Timestamp) -> ApprovalState {
        match &self.ended {
            Some(Ended::Rejected { .. }) => ApprovalState::Rejected,
            Some(Ended::Used {}) => ApprovalState::Used,
            None if !self.is_open(now) => ApprovalState::Expired,
            None if self.approved_by.len() >= usize::from(APPROVALS_NEEDED) => ApprovalState::Approved,
            None => ApprovalState::Pending,
        }
    }

    /// A clock that was set back before the request opens nothing either.
    fn is_open(&self, now: Timestamp) -> bool {
        self.ended.is_none() && self.requested_at <= now && now < self.expires_at
    }
}

/// Why a request cannot be made, approved or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// Not a document of requests. Operator's fault: wrong or damaged store.
    #[error("the stored approvals are not well formed")]
    Malformed,
    /// The tag is wrong: written under another root key, or by somebody else. An attack, or a lost root rotation.
    #[error("the stored approvals are not authentic")]
    NotAuthentic,
    /// Client's fault: others must end first.
    #[error("{MOST_OPEN} requests are open already; have some of them rejected")]
    TooMany,
    /// There is no such request. Client's fault.
    #[error("there is no such request for approval")]
    Unknown,
    /// The request ended. Client's fault.
    #[error("the request has ended or its time is over; ask again")]
    Over,
    /// The custodian asked for it. Client's fault.
    #[error("you asked for this; two other custodians have to approve it")]
    Own,
    /// The custodian agreed before. Client's fault.
    #[error("you approved this before; another custodian has to")]
    Twice,
    /// The clock is out of range.
    #[error("the clock is out of range")]
    Clock,
    /// No randomness.
    #[error("an id could not be made")]
    Random(#[from] KeyError),
}

const FORMAT: u32 = 1;
const MAC_LABEL: &str = "cordon/v1/approvals";
/// How long a request can be approved and used.
pub(crate) const LIFE: SignedDuration = SignedDuration::from_hours(1);
const MOST_OPEN: usize = 16;
const MOST_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{DocumentKey, RootKey};
    use cordon_wire::KeyPurpose;

    fn destroy(version: u32) -> Operation {
        Operation::DestroyKey { purpose: KeyPurpose::Kek, collection: None, version }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn mac() -> PreparedMac {
        let key: DocumentKey = RootKey::generate().unwrap().derive("test", &[]).unwrap();
        PreparedMac::new(&key)
    }

    fn asked() -> (Approvals, String) {
        let mut approvals = Approvals::new(Environment::Dev);
        let (id, new) = approvals.ask(destroy(1), name("operator"), at(0)).unwrap();
        assert!(new);
        (approvals, id.as_str().to_owned())
    }

    #[test]
    fn two_distinct_custodians_grant_exactly_the_operation() {
        let (mut approvals, id) = asked();
        assert!(approvals.granted(&destroy(1), at(1)).is_none());
        approvals.approve(&id, &name("alice"), at(1)).unwrap();
        assert!(matches!(approvals.approve(&id, &name("alice"), at(2)), Err(ApprovalError::Twice)));
        assert!(approvals.granted(&destroy(1), at(2)).is_none(), "one custodian twice is one");
        approvals.approve(&id, &name("bob"), at(3)).unwrap();
        assert!(approvals.granted(&destroy(1), at(4)).is_some());
        assert!(approvals.granted(&destroy(2), at(4)).is_none());
        approvals.mark_used(&KeyId::try_from(id.clone()).unwrap());
        assert!(approvals.granted(&destroy(1), at(5)).is_none());
        assert!(matches!(approvals.approve(&id, &name("carol"), at(5)), Err(ApprovalError::Over)));
    }

    #[test]
    fn who_asked_can_say_no_but_not_yes() {
        let mut approvals = Approvals::new(Environment::Dev);
        let (id, _new) = approvals.ask(destroy(1), name("alice"), at(0)).unwrap();
        assert!(matches!(approvals.approve(id.as_str(), &name("alice"), at(1)), Err(ApprovalError::Own)));
        for other in ["bob", "carol"] {
            approvals.approve(id.as_str(), &name(other), at(1)).unwrap();
        }
        let by = approvals.granted(&destroy(1), at(1)).unwrap().approved_by();
        assert_eq!(by, [name("bob"), name("carol")]);
        approvals.reject(id.as_str(), &name("alice"), at(2)).unwrap();
        assert!(approvals.granted(&destroy(1), at(2)).is_none());
    }

    #[test]
    fn who_is_no_custodian_any_more_has_not_agreed() {
        let (mut approvals, id) = asked();
        for custodian in ["alice", "bob"] {
            approvals.approve(&id, &name(custodian), at(1)).unwrap();
        }
        approvals.keep_answers_of(|custodian| custodian.as_str() != "alice");
        assert!(approvals.granted(&destroy(1), at(2)).is_none());
        approvals.approve(&id, &name("carol"), at(2)).unwrap();
        approvals.mark_used(&KeyId::try_from(id.clone()).unwrap());
        approvals.keep_answers_of(|_nobody| false);
        assert_eq!(approvals.find(&id).unwrap().approved_by(), [name("bob"), name("carol")], "it is history");
    }

    #[test]
    fn what_is_open_can_be_forgotten() {
        let (mut approvals, id) = asked();
        let used = KeyId::try_from(id).unwrap();
        approvals.mark_used(&used);
        let (open, _new) = approvals.ask(destroy(2), name("operator"), at(1)).unwrap();
        approvals.forget_open(at(2));
        assert!(approvals.find(open.as_str()).is_none() && approvals.find(used.as_str()).is_some());
    }

    #[test]
    fn nothing_counts_before_the_request_or_after_its_time() {
        let (mut approvals, id) = asked();
        approvals.approve(&id, &name("alice"), at(1)).unwrap();
        approvals.approve(&id, &name("bob"), at(3_599)).unwrap();
        assert!(approvals.granted(&destroy(1), at(3_599)).is_some());
        for wrong in [at(-1), at(3_600), at(1_000_000)] {
            assert!(approvals.granted(&destroy(1), wrong).is_none());
            assert!(matches!(approvals.approve(&id, &name("carol"), wrong), Err(ApprovalError::Over)));
            assert!(matches!(approvals.reject(&id, &name("carol"), wrong), Err(ApprovalError::Over)));
        }
        assert_eq!(approvals.find(&id).unwrap().shown(at(3_600)).state, ApprovalState::Expired);
    }

    #[test]
    fn one_custodian_rejects_even_what_two_approved() {
        let (mut approvals, id) = asked();
        approvals.approve(&id, &name("alice"), at(1)).unwrap();
        approvals.approve(&id, &name("bob"), at(1)).unwrap();
        approvals.reject(&id, &name("carol"), at(2)).unwrap();
        assert!(approvals.granted(&destroy(1), at(2)).is_none());
        let shown = approvals.find(&id).unwrap().shown(at(2));
        assert_eq!((shown.state, shown.rejected_by.as_deref()), (ApprovalState::Rejected, Some("carol")));
    }

    #[test]
    fn asking_again_gives_the_open_request_and_the_open_ones_are_bounded() {
        let (mut approvals, id) = asked();
        let (again, new) = approvals.ask(destroy(1), name("other"), at(9)).unwrap();
        assert!(again.as_str() == id && !new);
        for version in 2..=16 {
            approvals.ask(destroy(version), name("operator"), at(9)).unwrap();
        }
        assert!(matches!(approvals.ask(destroy(99), name("operator"), at(9)), Err(ApprovalError::TooMany)));
        // Ended requests make room, and are forgotten in the end.
        for round in 1..10_i64 {
            for version in 1..=16 {
                approvals.ask(destroy(version), name("operator"), at(round * 3_700)).unwrap();
            }
        }
        assert_eq!(approvals.requests.len(), MOST_KEPT);
        assert!(approvals.find(&id).is_none());
    }

    #[test]
    fn a_stored_request_changed_in_any_byte_counts_for_nothing() {
        let (mut approvals, id) = asked();
        approvals.approve(&id, &name("alice"), at(1)).unwrap();
        let mac = mac();
        let bytes = approvals.to_bytes(&mac).unwrap();
        assert!(Approvals::authenticate(&bytes, Environment::Dev, &mac).is_ok());
        assert!(Approvals::authenticate(&bytes, Environment::Test, &mac).is_err());
        assert!(Approvals::authenticate(&bytes, Environment::Dev, &self::mac()).is_err());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Approvals::authenticate(&changed, Environment::Dev, &mac).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_custodian_written_twice_is_no_document() {
        let (mut approvals, id) = asked();
        approvals.approve(&id, &name("alice"), at(1)).unwrap();
        approvals.requests[0].approved_by.push(name("alice"));
        assert!(Approvals::parse(&serde_json::to_vec(&approvals).unwrap()).is_err());
    }
}
