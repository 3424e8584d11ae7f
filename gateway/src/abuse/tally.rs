//! What one key of one rule has seen within its window, one by one.
//!
//! Must never forget within the window what decides whether the limit is passed, nor hold more than the limit needs.
//! Tests: `abuse/tests.rs`.

use cordon_policy::{AbuseLimit, Decision};

/// Time since the start of the process, in tenths of a second.
pub(super) type Tick = u32;

/// A card as a truncated digest under the key of the process.
pub(super) type CardMark = u64;

/// What became of an attempt with a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody asks.
    Counted,
    /// It is not known yet.
    Pending,
    /// Approved.
    Approved,
    /// Declined, or stopped by this rule.
    Declined,
}

/// What a rule counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub(super) limit: AbuseLimit,
    /// Whether what is not answered yet counts as declined, so that many attempts at once gain nothing. Right for one
    /// client; of a range or network that many use, most would be held against it whenever it is busy.
    pub(super) doubts: bool,
}

/// A card, or a request where those are counted, and when it was last seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    mark: CardMark,
    at: Tick,
    fate: Fate,
}

/// The latest cards or requests of one key: the one seen last stands last.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: Vec<Seen>,
}

impl Tally {
    /// Forgets what is older than `within`.
    pub(super) fn forget(&mut self, now: Tick, within: Tick) {
        let over = self.seen.iter().take_while(|seen| now.saturating_sub(seen.at) > within).count();
        drop(self.seen.drain(..over));
    }

    /// Whether an attempt with these cards, each named once, would pass the limit.
    pub(super) fn exceeds(&self, measure: Measure, cards: &[CardMark]) -> bool {
        let fresh = || cards.iter().filter(|card| self.find(**card).is_none()).count();
        match measure.limit {
            AbuseLimit::Requests(over) => self.seen.len() >= over,
            AbuseLimit::Cards(over) | AbuseLimit::Declines(over) => {
                self.seen.len().saturating_add(fresh()) > over
            }
            AbuseLimit::DeclineRatio { percent, of } => {
                let (mut all, mut bad) = (0_usize, 0_usize);
                for declined in self.settled().take(of) {
                    all = all.saturating_add(1);
                    bad = bad.saturating_add(usize::from(declined));
                }
                if measure.doubts {
                    let pending = self.seen.iter().filter(|seen| seen.fate == Fate::Pending).count();
                    let doubtful = pending.saturating_add(fresh());
                    (all, bad) = (all.saturating_add(doubtful), bad.saturating_add(doubtful));
                }
                all >= of && bad.saturating_mul(100) > percent.saturating_mul(all)
            }
        }
    }

    /// Whether each card was declined, of those of which it is known, from the latest.
    fn settled(&self) -> impl Iterator<Item = bool> {
        self.seen.iter().rev().filter_map(|seen| match seen.fate {
            Fate::Declined => Some(true),
            Fate::Approved => Some(false),
            Fate::Counted | Fate::Pending => None,
        })
    }

    /// Counts an attempt that passed this rule, or one that it stopped.
    pub(super) fn count(&mut self, measure: Measure, cards: &[CardMark], now: Tick, stopped: bool) {
        let (limit, most) = (measure.limit, most(measure.limit));
        if matches!(limit, AbuseLimit::Requests(_)) {
            self.put(Seen { mark: 0, at: now, fate: Fate::Counted }, most);
            return;
        }
        for card in cards {
            if limit.needs_outcome() && !(measure.doubts || stopped) {
                continue;
            }
            let fate = match (limit, self.remove(*card)) {
                (AbuseLimit::Cards(_) | AbuseLimit::Requests(_), _) => Fate::Counted,
                (_, Some(Fate::Approved)) => Fate::Approved,
                (_, Some(Fate::Declined)) => Fate::Declined,
                (_, Some(_) | None) if stopped => Fate::Declined,
                (_, Some(_) | None) => Fate::Pending,
            };
            self.put(Seen { mark: *card, at: now, fate }, most);
        }
    }

    /// Learns what became of cards that were counted as pending. `None`: nothing did, as if they had not been tried.
    pub(super) fn settle(
        &mut self,
        measure: Measure,
        cards: &[CardMark],
        decision: Option<Decision>,
        now: Tick,
    ) {
        for card in cards {
            let before = self.remove(*card);
            let fate = match decision {
                // Among declines, who was approved has no place.
                Some(Decision::Approved) if matches!(measure.limit, AbuseLimit::Declines(_)) => None,
                Some(Decision::Approved) => Some(Fate::Approved),
                Some(Decision::Declined) => Some(Fate::Declined),
                None => before.filter(|fate| *fate != Fate::Pending),
            };
            if let Some(fate) = fate {
                self.put(Seen { mark: *card, at: now, fate }, most(measure.limit));
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.seen.capacity().saturating_mul(size_of::<Seen>())
    }

    fn find(&self, mark: CardMark) -> Option<&Seen> {
        self.seen.iter().rev().find(|seen| seen.mark == mark)
    }

    fn remove(&mut self, mark: CardMark) -> Option<Fate> {
        let at = self.seen.iter().rposition(|seen| seen.mark == mark)?;
        Some(self.seen.remove(at).fate)
    }

    /// The oldest gives way: of those that are left, there are as many as the limit asks about.
    fn put(&mut self, seen: Seen, most: usize) {
        let surplus = self.seen.len().saturating_add(1).saturating_sub(most);
        drop(self.seen.drain(..surplus));
        self.seen.push(seen);
    }
}

/// How many cards or requests decide about a limit.
const fn most(limit: AbuseLimit) -> usize {
    match limit {
        AbuseLimit::Cards(over) | AbuseLimit::Declines(over) => over.saturating_add(1),
        AbuseLimit::Requests(over) => over,
        // As many that are answered, and as many that are not.
        AbuseLimit::DeclineRatio { of, .. } => of.saturating_mul(2),
    }
}
