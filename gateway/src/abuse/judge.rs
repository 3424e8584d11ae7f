//! Judges an attempt by the rules of its route, from the first to the last.
//!
//! An attempt counts in each rule down to the first that stops it: so what is stopped for one address is not held against
//! everybody's cards of the same range. Rules behind that one are only looked at, since the strictest decides.
//!
//! Must never count with one lock and judge with another: else attempts at the same time would all pass. Tests:
//! `abuse/tests.rs`.

use super::subject::Client;
use super::table::Key;
use super::tally::{CardMark, Tick};
use super::{Attempt, Card, Guard, Rule, Rules, Touched, bound_to};
use crate::problem::Fault;
use cordon_card::Pan;
use cordon_policy::{AbuseAction, AbuseKey, AbuseLimit};
use std::sync::Arc;
use std::time::Duration;

/// What came of judging an attempt.
#[derive(Debug)]
pub struct Judged<'r> {
    /// The attempt, as it was counted.
    pub attempt: Attempt,
    /// The rules whose limits it is beyond.
    pub fired: Vec<Fired<'r>>,
    /// What to do with it.
    pub verdict: Verdict,
}

/// A rule whose limit an attempt is beyond.
#[derive(Debug, Clone, Copy)]
pub struct Fired<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// What it did.
    pub did: Did,
    /// Whether it is the first time in the rule's window, for whom it counts.
    pub first: bool,
}

/// What a rule did with an attempt beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It passes.
    Reported,
    /// It has to wait.
    Delayed,
    /// It has a proof, and passes.
    Proved,
    /// It needs a proof.
    Challenged,
    /// It is refused.
    Denied,
}

impl Did {
    /// As a label, and as the reason of an audit line after `abuse.`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Delayed => "delayed",
            Self::Proved => "proved",
            Self::Challenged => "challenged",
            Self::Denied => "denied",
        }
    }

    /// Whether the attempt goes no further.
    #[must_use]
    pub const fn stops(self) -> bool {
        matches!(self, Self::Challenged | Self::Denied)
    }
}

/// What to do with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It passes after this time, or is refused with this where too many wait already.
    Delay(Duration, Fault),
    /// It is refused.
    Refuse(Fault),
}

impl Verdict {
    const fn strictness(&self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Delay(..) => 1,
            Self::Refuse(Fault::ChallengeRequired { .. }) => 2,
            Self::Refuse(_) => 3,
        }
    }

    /// The stricter of the two; of two delays the longer one.
    fn and(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Delay(one, _), Self::Delay(another, _)) if another > one => other,
            _ if other.strictness() > self.strictness() => other,
            _ => self,
        }
    }
}

/// One attempt while it is judged.
struct Judging<'g, 'r> {
    guard: &'g Guard,
    client: Client<'g>,
    cards: Vec<Card>,
    now: Tick,
    seconds: i64,
    touched: Vec<Touched>,
    fired: Vec<Fired<'r>>,
    verdict: Verdict,
    stopped: bool,
}

impl Guard {
    /// Counts and judges an attempt. `seconds` is the wall time since 1970, for proofs.
    pub fn judge<'r, 'p>(
        self: &Arc<Self>,
        rules: &'r Rules,
        client: Client<'_>,
        pans: impl IntoIterator<Item = &'p Pan>,
        seconds: i64,
    ) -> Judged<'r> {
        self.judge_at(self.now(), rules, client, pans, seconds)
    }

    pub(super) fn judge_at<'r, 'p>(
        self: &Arc<Self>,
        now: Tick,
        rules: &'r Rules,
        client: Client<'_>,
        pans: impl IntoIterator<Item = &'p Pan>,
        seconds: i64,
    ) -> Judged<'r> {
        let mut cards: Vec<Card> = pans.into_iter().map(|pan| self.card(pan)).collect();
        cards.sort_unstable_by_key(|card| card.mark);
        cards.dedup_by_key(|card| card.mark);
        let (touched, fired, verdict) = (Vec::new(), Vec::new(), Verdict::Pass);
        let mut judging =
            Judging { guard: self, client, cards, now, seconds, touched, fired, verdict, stopped: false };
        for rule in &rules.0 {
            judging.by(rule);
        }
        let Judging { touched, fired, verdict, .. } = judging;
        Judged { attempt: Attempt { guard: Arc::clone(self), touched }, fired, verdict }
    }
}

impl<'r> Judging<'_, 'r> {
    fn by(&mut self, rule: &'r Rule) {
        // Proved, and not used up: asked once, and only if it matters.
        let mut proved = None;
        for (key, cards) in self.counted(rule) {
            if self.stopped {
                let exceeds = self
                    .guard
                    .table
                    .look(key, rule.within, self.now, |tally| tally.exceeds(rule.measure, &cards));
                if exceeds {
                    let did = self.did(rule, &mut proved);
                    self.fires(rule, did, false);
                }
            } else {
                self.count(rule, key, cards, &mut proved);
            }
        }
    }

    fn count(&mut self, rule: &'r Rule, key: Key, cards: Vec<CardMark>, proved: &mut Option<bool>) {
        let (now, measure) = (self.now, rule.measure);
        let waits = rule.challenge.is_some() && *proved != Some(false);
        let stops = matches!(rule.spec.action, AbuseAction::Deny | AbuseAction::Challenge { .. });
        let (exceeds, first) = self.guard.table.with(key, rule.within, now, |row| {
            let exceeds = row.tally.exceeds(measure, &cards);
            // Whether a proof is there is found out only where one is needed, and not with this lock in hand.
            if !(exceeds && waits) {
                row.tally.count(measure, &cards, now, exceeds && stops);
            }
            row.hot = exceeds;
            let first = exceeds && row.noted.is_none_or(|at| now.saturating_sub(at) > rule.within);
            if first {
                row.noted = Some(now);
            }
            (exceeds, first)
        });
        if exceeds {
            let did = self.did(rule, proved);
            if waits {
                self.guard
                    .table
                    .with(key, rule.within, now, |row| row.tally.count(measure, &cards, now, did.stops()));
            }
            self.fires(rule, did, first);
        }
        if measure.limit.needs_outcome() {
            self.touched.push(Touched { key, measure, within: rule.within, cards });
        }
    }

    /// What becomes of an attempt that is beyond the limit of a rule.
    fn did(&self, rule: &Rule, proved: &mut Option<bool>) -> Did {
        match rule.spec.action {
            AbuseAction::Report => Did::Reported,
            AbuseAction::Delay(_) => Did::Delayed,
            AbuseAction::Deny => Did::Denied,
            AbuseAction::Challenge { .. } => {
                if *proved.get_or_insert_with(|| self.proves(rule)) {
                    Did::Proved
                } else {
                    Did::Challenged
                }
            }
        }
    }

    /// Whether the client shows a proof, and has not used up what proofs let pass.
    fn proves(&self, rule: &Rule) -> bool {
        let Some(challenge) = &rule.challenge else { return false };
        let Some(subject) = self.client.subject(bound_to(&rule.spec.per)) else { return false };
        let mut proofs = self.client.headers.get_all(&challenge.header).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else { return false };
        if self.stopped || !challenge.verifier.verifies(proof.as_bytes(), &subject, self.seconds) {
            return false;
        }
        let key = self.guard.key(rule, b"passes", &subject);
        self.guard.table.with(key, rule.within, self.now, |row| {
            let used_up = row.tally.exceeds(challenge.passes, &[]);
            row.tally.count(challenge.passes, &[], self.now, used_up);
            !used_up
        })
    }

    fn fires(&mut self, rule: &'r Rule, did: Did, first: bool) {
        let denied =
            || Fault::TooManyAttempts { rule: rule.name.clone(), wait_s: rule.spec.within.as_secs() };
        let verdict = match (did, &rule.spec.action) {
            (Did::Challenged, _) => {
                let bound_to = rule.challenge.as_ref().map_or("", |challenge| challenge.verifier.label());
                let (rule, bound_to) = (rule.name.clone(), bound_to.to_owned());
                Verdict::Refuse(Fault::ChallengeRequired { rule, bound_to })
            }
            (Did::Denied, _) => Verdict::Refuse(denied()),
            (Did::Delayed, AbuseAction::Delay(time)) => Verdict::Delay(*time, denied()),
            (Did::Delayed | Did::Reported | Did::Proved, _) => Verdict::Pass,
        };
        self.verdict = std::mem::replace(&mut self.verdict, Verdict::Pass).and(verdict);
        self.stopped |= did.stops();
        self.fired.push(Fired { rule, did, first });
    }

    /// Under which keys a rule counts the attempt, and which of its cards under each.
    fn counted(&self, rule: &Rule) -> Vec<(Key, Vec<CardMark>)> {
        let (guard, cards) = (self.guard, &self.cards);
        let of_cards = !matches!(rule.spec.limit, AbuseLimit::Requests(_));
        if of_cards && cards.is_empty() {
            return Vec::new();
        }
        match &rule.spec.per {
            AbuseKey::Card => cards
                .iter()
                .map(|card| (guard.key(rule, b"count", &card.mark.to_be_bytes()), vec![card.mark]))
                .collect(),
            AbuseKey::Iin(digits) => {
                let mut cards: Vec<(&[u8], CardMark)> = cards
                    .iter()
                    .map(|card| (card.iin.get(..*digits).unwrap_or(&card.iin), card.mark))
                    .collect();
                cards.sort_unstable();
                cards
                    .chunk_by(|one, other| one.0 == other.0)
                    .map(|range| {
                        let iin = range.first().map_or(&[][..], |(iin, _)| iin);
                        (guard.key(rule, b"count", iin), range.iter().map(|(_, mark)| *mark).collect())
                    })
                    .collect()
            }
            per => {
                let marks = || cards.iter().map(|card| card.mark).collect();
                self.client
                    .subject(per)
                    .map(|subject| (guard.key(rule, b"count", &subject), marks()))
                    .into_iter()
                    .collect()
            }
        }
    }
}
