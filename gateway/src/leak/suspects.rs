//! Numbers that look like cards on a route where only cards that the vault knows count (`leak_check = "exact"`).
//!
//! Must never let a number pass that was not asked about: whatever is unclear counts as known. Tests: here, and
//! `tests/tests/exact.rs`.

use cordon_card::Pan;
use cordon_scan::Finding;
use cordon_wire::{ItemResult, Items, LookupItem, LookupRequest, Recognized};

/// The numbers of one request, each once.
#[derive(Debug)]
pub struct Suspects {
    pans: Vec<Pan>,
    unclear: bool,
}

/// Which of them count.
#[derive(Debug)]
pub enum Verdict {
    /// All.
    AllCount,
    /// None of these; all others.
    Cleared(Vec<Pan>),
}

impl Default for Suspects {
    fn default() -> Self {
        // With room for all: a vector that grows would leave copies behind that are not wiped.
        Self { pans: Vec::with_capacity(MOST), unclear: false }
    }
}

impl Suspects {
    /// Notes the numbers that were found in these bytes.
    pub fn note(&mut self, bytes: &[u8], findings: &[Finding]) {
        for finding in findings {
            match number_at(bytes, finding) {
                Some(pan) => self.add(pan),
                None => self.unclear = true,
            }
        }
    }

    fn add(&mut self, pan: Pan) {
        if self.pans.iter().any(|known| known.expose() == pan.expose()) {
            return;
        }
        if self.pans.len() < MOST {
            self.pans.push(pan);
        } else {
            self.unclear = true;
        }
    }

    /// The numbers.
    #[must_use]
    pub fn pans(&self) -> &[Pan] {
        &self.pans
    }

    /// Those of another part of the request as well.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.unclear |= other.unclear;
        other.pans.into_iter().for_each(|pan| self.add(pan));
        self
    }

    /// What to ask the vault; nothing when there is none, or when the answer would not matter.
    #[must_use]
    pub fn question(&self) -> Option<LookupRequest> {
        let item = |pan: &Pan| LookupItem { pan: pan.duplicate().into() };
        let asked = !self.unclear && !self.pans.is_empty();
        asked.then(|| LookupRequest { items: self.pans.iter().map(item).collect() })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pans.is_empty() && !self.unclear
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pans.len()
    }

    /// What comes of the vault's answer, if there is one.
    #[must_use]
    pub fn judged(self, answer: Option<Items<Recognized>>) -> Verdict {
        let Some(answer) = answer.filter(|answer| !self.unclear && answer.items.len() == self.pans.len())
        else {
            return Verdict::AllCount;
        };
        let mut cleared = Vec::with_capacity(self.pans.len());
        for (pan, item) in self.pans.into_iter().zip(answer.items) {
            if matches!(item, ItemResult::Ok(Recognized { known: false })) {
                cleared.push(pan);
            }
        }
        Verdict::Cleared(cleared)
    }
}

/// The number of a finding, if it is one of a brand.
fn number_at(bytes: &[u8], finding: &Finding) -> Option<Pan> {
    let at = usize::try_from(finding.start).ok()?..usize::try_from(finding.end).ok()?;
    Pan::parse(std::str::from_utf8(bytes.get(at)?).ok()?).ok()
}

/// Whether all card numbers in these bytes are among the cleared ones.
pub(super) fn are_cleared(bytes: &[u8], cleared: &[Pan]) -> bool {
    cordon_scan::scan(bytes).iter().all(|finding| {
        number_at(bytes, finding)
            .is_some_and(|pan| cleared.iter().any(|known| known.expose() == pan.expose()))
    })
}

/// More different numbers than this are no order numbers.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_wire::ProblemCode;

    fn of(text: &str) -> Suspects {
        let mut suspects = Suspects::default();
        suspects.note(text.as_bytes(), &cordon_scan::scan(text.as_bytes()));
        suspects
    }

    fn known(list: &[Option<bool>]) -> Option<Items<Recognized>> {
        let item = |known: &Option<bool>| match known {
            Some(known) => ItemResult::Ok(Recognized { known: *known }),
            None => ItemResult::Error(ProblemCode::LimitReached.into()),
        };
        Some(Items { items: list.iter().map(item).collect() })
    }

    fn cleared(verdict: &Verdict) -> &[Pan] {
        match verdict {
            Verdict::AllCount => &[],
            Verdict::Cleared(pans) => pans,
        }
    }

    #[test]
    fn each_number_is_asked_about_once() {
        let suspects =
            of("4111 1111 1111 1111, 4111111111111111, 5555555555554444").with(of("5555-5555-5555-4444"));
        assert_eq!(suspects.question().unwrap().items.len(), 2);
        assert!(of("none").is_empty() && of("none").question().is_none());
    }

    #[test]
    fn only_what_the_vault_does_not_know_is_cleared() {
        let body = "4111111111111111 5555555555554444 4242424242424242";
        let verdict = of(body).judged(known(&[Some(true), Some(false), None]));
        assert_eq!(cleared(&verdict).len(), 1);
        assert!(are_cleared(b"a 5555 5555 5555 4444", cleared(&verdict)));
        assert!(!are_cleared(body.as_bytes(), cleared(&verdict)));
    }

    #[test]
    fn without_a_fitting_answer_all_count() {
        for answer in [None, known(&[]), known(&[Some(false), Some(false)])] {
            assert!(matches!(of("4111111111111111").judged(answer), Verdict::AllCount));
        }
    }

    #[test]
    fn too_many_numbers_are_not_asked_about() {
        let digits = |n: u32| (0..10).map(move |check| format!("411111{n:09}{check}"));
        let many: Vec<String> =
            (0..70).flat_map(|n| digits(n).find(|text| Pan::parse(text).is_ok())).collect();
        let suspects = of(&many.join(", "));
        assert!(suspects.question().is_none() && !suspects.is_empty());
        let answer = known(&[Some(false); MOST]);
        assert!(matches!(suspects.judged(answer), Verdict::AllCount));
    }
}
