//! The register of custodians: who holds which share, who ever did, and who acknowledged the duties.
//!
//! Must never forget a custodian, nor let one who was given a share be given one of another number, in this ceremony or any
//! later one (PCI DSS 3.7.6: who held A must not later get B or C). It is part of the seal document and authenticated with
//! it. Tests: below and `tests/tests/custodians.rs`.

use std::collections::{BTreeMap, BTreeSet};

use cordon_audit::Name;
use cordon_wire::Custodian;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{MAX_SHARES, SealError, Sealing, deliver};

/// A custodian and the share that is his.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The share's number.
    pub number: u8,
    /// The service of the bundle that may give it.
    pub custodian: Name,
    /// The age recipient it is encrypted to.
    pub recipient: Option<String>,
}

/// Who somebody wants to hold a share.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The service of the bundle.
    pub custodian: Name,
    /// The age recipient.
    pub recipient: Option<String>,
}

/// Present and former holders, and acknowledgements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Counts ceremonies: a seal with a lower number than the keyring knows was put back.
    generation: u32,
    holdings: Vec<Holding>,
    acknowledged: BTreeMap<Name, Timestamp>,
}

/// One share in one custodian's hands, for as long as it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holding {
    number: u8,
    custodian: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

impl Register {
    /// How many ceremonies there were.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Gives each a number: the one he ever had, else one that nobody has in this set.
    ///
    /// # Errors
    /// [`SealError::Custodian`] for a name given twice, [`SealError::Recipient`] for one that is no recipient or given
    /// twice, [`SealError::Numbers`] when the numbers are used up.
    pub fn assign(&self, wanted: &[Wanted]) -> Result<Vec<Holder>, SealError> {
        let (mut names, mut recipients, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for Wanted { custodian, recipient } in wanted {
            if !names.insert(custodian) {
                return Err(SealError::Custodian(custodian.clone()));
            }
            if let Some(recipient) = recipient
                && (!deliver::is_recipient(recipient) || !recipients.insert(recipient))
            {
                return Err(SealError::Recipient(custodian.clone()));
            }
            // Two who held the same number at different times can't both come back.
            if let Some(number) = self.number_of(custodian)
                && !taken.insert(number)
            {
                return Err(SealError::Numbers(custodian.clone()));
            }
        }
        let mut holders = Vec::new();
        for Wanted { custodian, recipient } in wanted {
            let number = match self.number_of(custodian) {
                Some(number) => number,
                None => {
                    let free = (1..=MAX_SHARES).find(|number| !taken.contains(number));
                    let free = free.ok_or_else(|| SealError::Numbers(custodian.clone()))?;
                    taken.insert(free);
                    free
                }
            };
            holders.push(Holder { number, custodian: custodian.clone(), recipient: recipient.clone() });
        }
        holders.sort_by_key(|holder| holder.number);
        Ok(holders)
    }

    /// The number a custodian has or ever had.
    #[must_use]
    pub fn number_of(&self, custodian: &Name) -> Option<u8> {
        self.holdings.iter().find(|holding| holding.custodian == *custodian).map(|holding| holding.number)
    }

    /// Whose share a number is now.
    #[must_use]
    pub fn holder_of(&self, number: u8) -> Option<&Name> {
        self.present().find(|holding| holding.number == number).map(|holding| &holding.custodian)
    }

    /// Whether somebody acknowledged the duties.
    #[must_use]
    pub fn has_acknowledged(&self, custodian: &Name) -> bool {
        self.acknowledged.contains_key(custodian)
    }

    /// Whether somebody is a custodian now: who holds a share. Under a seal without shares it is who held one when they were
    /// given up, and who never held any; who was left out before that stays out.
    #[must_use]
    pub fn is_custodian(&self, who: &Name) -> bool {
        let until = |holding: &Holding| holding.until.unwrap_or(Timestamp::MAX);
        let mine = self.holdings.iter().filter(|holding| holding.custodian == *who).map(until).max();
        let last = self.holdings.iter().map(until).max();
        match mine {
            Some(_) => mine == last,
            None => self.present().next().is_none(),
        }
    }

    /// The same with acknowledgements; the first one of a custodian stays.
    #[must_use]
    pub fn acknowledging<'a>(&self, who: impl IntoIterator<Item = &'a Name>, now: Timestamp) -> Register {
        let mut next = self.clone();
        for custodian in who {
            next.acknowledged.entry(custodian.clone()).or_insert(now);
        }
        next
    }

    /// The same with the acknowledgements of another one.
    #[must_use]
    pub fn with_acknowledgements_of(&self, other: &Register) -> Register {
        let mut next = self.clone();
        next.acknowledged.extend(other.acknowledged.iter().map(|(name, at)| (name.clone(), *at)));
        next
    }

    /// What is remembered after the next ceremony.
    #[must_use]
    pub fn succeeded_by(&self, sealing: &Sealing, now: Timestamp) -> Register {
        let mut next = self.clone();
        next.generation = next.generation.saturating_add(1);
        for holding in &mut next.holdings {
            holding.until.get_or_insert(now);
        }
        if let Sealing::Shamir { holders, .. } = sealing {
            next.holdings.extend(holders.iter().map(|Holder { number, custodian, recipient }| Holding {
                number: *number,
                custodian: custodian.clone(),
                recipient: recipient.clone(),
                since: now,
                until: None,
            }));
        }
        next
    }

    /// Everybody, as the API shows them.
    #[must_use]
    pub fn shown(&self) -> Vec<Custodian> {
        let mut holdings: Vec<&Holding> = self.holdings.iter().collect();
        holdings.sort_by_key(|holding| (holding.until.is_some(), holding.number, holding.since));
        let acknowledged = |name: &Name| self.acknowledged.get(name).map(Timestamp::to_string);
        let mut shown: Vec<Custodian> = holdings
            .into_iter()
            .map(|holding| Custodian {
                name: holding.custodian.as_str().to_owned(),
                number: Some(holding.number),
                recipient: holding.recipient.clone(),
                since: Some(holding.since.to_string()),
                until: holding.until.map(|until| until.to_string()),
                acknowledged_at: acknowledged(&holding.custodian),
            })
            .collect();
        for (name, at) in &self.acknowledged {
            if self.number_of(name).is_none() {
                shown.push(Custodian {
                    name: name.as_str().to_owned(),
                    number: None,
                    recipient: None,
                    since: None,
                    until: None,
                    acknowledged_at: Some(at.to_string()),
                });
            }
        }
        shown
    }

    /// Whether these are the numbers of the present holders, each held once, and nobody ever had two.
    pub(super) fn fits(&self, numbers: &[u8]) -> bool {
        let mut present: Vec<u8> = self.present().map(|holding| holding.number).collect();
        present.sort_unstable();
        let one_each =
            self.holdings.iter().all(|holding| self.number_of(&holding.custodian) == Some(holding.number));
        let names: BTreeSet<&Name> = self.present().map(|holding| &holding.custodian).collect();
        present == numbers && one_each && names.len() == present.len()
    }

    fn present(&self) -> impl Iterator<Item = &Holding> {
        self.holdings.iter().filter(|holding| holding.until.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> Vec<Wanted> {
        let name = |text: &&str| Wanted { custodian: Name::parse(text).unwrap(), recipient: None };
        names.iter().map(name).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn next(register: &Register, names: &[&str], now: i64) -> Register {
        let holders = register.assign(&wanted(names)).unwrap();
        register.succeeded_by(&Sealing::Shamir { threshold: 2, holders }, at(now))
    }

    fn numbers(register: &Register, names: &[&str]) -> Vec<(String, u8)> {
        let holders = register.assign(&wanted(names)).unwrap();
        holders.into_iter().map(|holder| (holder.custodian.as_str().to_owned(), holder.number)).collect()
    }

    #[test]
    fn who_held_a_share_keeps_its_number_for_ever() {
        let first = next(&Register::default(), &["a", "b", "c"], 1);
        let second = next(&first, &["d", "c"], 2);
        assert_eq!(second.holder_of(3).unwrap().as_str(), "c");
        assert_eq!(second.holder_of(1).unwrap().as_str(), "d");
        assert!(second.holder_of(2).is_none());
        // b comes back: his number again, whatever the order of names.
        assert_eq!(numbers(&second, &["e", "b"]), [("e".to_owned(), 1), ("b".to_owned(), 2)]);
        // a and d both had number 1: both together would need one of them to get another.
        assert!(matches!(second.assign(&wanted(&["a", "d"])), Err(SealError::Numbers(_))));
        assert_eq!((first.generation(), second.generation()), (1, 2));
    }

    #[test]
    fn who_was_left_out_is_no_custodian_any_more() {
        let is = |register: &Register, text: &str| register.is_custodian(&Name::parse(text).unwrap());
        assert!(is(&Register::default(), "a"), "no shares yet, so the policy alone says who is one");
        let first = next(&Register::default(), &["a", "b"], 1);
        assert!(is(&first, "a") && is(&first, "b") && !is(&first, "c"));
        let second = next(&first, &["b", "c"], 2);
        assert!(!is(&second, "a") && is(&second, "b") && is(&second, "c"));
        // Shares are given up: who had the last ones and who never had any may approve, who was left out before may not.
        let without = second.succeeded_by(&Sealing::DevFile, at(3));
        assert!(!is(&without, "a") && is(&without, "b") && is(&without, "c") && is(&without, "d"));
        let again = without.succeeded_by(&Sealing::DevFile, at(4));
        assert!(!is(&again, "a") && is(&again, "b"));
        let back = next(&again, &["a", "b"], 5);
        assert!(is(&back, "a") && !is(&back, "c") && !is(&back, "d"));
    }

    #[test]
    fn nobody_holds_two() {
        let register = Register::default();
        assert!(matches!(register.assign(&wanted(&["a", "b", "a"])), Err(SealError::Custodian(_))));
        let key = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa".to_owned();
        let same: Vec<_> = wanted(&["a", "b"])
            .into_iter()
            .map(|wanted| Wanted { recipient: Some(key.clone()), ..wanted })
            .collect();
        assert!(matches!(register.assign(&same), Err(SealError::Recipient(name)) if name.as_str() == "b"));
        let broken = Wanted { recipient: Some("age1nonsense".to_owned()), ..wanted(&["a"]).remove(0) };
        assert!(matches!(register.assign(&[broken]), Err(SealError::Recipient(_))));
    }

    #[test]
    fn the_history_is_shown_and_stays() {
        let first =
            next(&Register::default(), &["a", "b"], 1).acknowledging([&Name::parse("a").unwrap()], at(5));
        let second = next(&first, &["b", "c"], 9);
        let shown = second.shown();
        let row = |index: usize| {
            let Custodian { name, number, until, acknowledged_at, .. } = &shown[index];
            (name.as_str(), *number, until.is_some(), acknowledged_at.is_some())
        };
        assert_eq!(row(0), ("c", Some(1), false, false));
        assert_eq!(row(1), ("b", Some(2), false, false));
        assert_eq!(row(2), ("a", Some(1), true, true));
        assert_eq!(row(3), ("b", Some(2), true, false));
        assert!(second.fits(&[1, 2]) && !second.fits(&[1]) && !second.fits(&[1, 3]));
        assert_eq!(second.acknowledging([&Name::parse("a").unwrap()], at(99)), second, "the first one stays");
    }

    #[test]
    fn a_register_that_gives_one_person_two_numbers_does_not_fit() {
        let mut register = next(&Register::default(), &["a", "b"], 1);
        let mut former = register.holdings[0].clone();
        (former.number, former.until) = (7, Some(at(0)));
        register.holdings.push(former);
        assert!(!register.fits(&[1, 2]));
    }
}
