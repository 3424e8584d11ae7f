//! Card verification codes held for one later use: in memory only, encrypted under a key that dies with the
//! process.
//!
//! Must never reach a disk, be serialized, be given out twice, outlive its time or the first answer of a destination
//! (PCI DSS 3.3.1). Time is monotonic and passed in: no step of the wall clock makes a code last longer (threat B53).
//! Tests: `sad/tests.rs`, `tests/tests/sad.rs`.
//!
//! ```compile_fail
//! fn needs_serialize<T: serde::Serialize>() {}
//! needs_serialize::<cordon_vault::sad::Holds>();
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use cordon_card::{Cvv, Token};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::frame::framed;
use crate::keys::{KeyError, SadKey};
use crate::record::xaes::XaesKey;
use crate::store::CollectionId;

/// How long a code is held when nothing else is configured.
pub const DEFAULT_HOLD: Duration = Duration::from_secs(15 * 60);
/// The longest a code may be held.
pub const MAX_HOLD: Duration = Duration::from_secs(60 * 60);

/// The held codes. Dropping it forgets them all.
pub struct Holds {
    key: XaesKey,
    hold: Duration,
    capacity: usize,
    held: Expiring<Held>,
    /// Which codes were given out, until they would have expired: told apart from never held in the audit
    /// log.
    taken: Expiring<()>,
}

/// One held code.
struct Held {
    sealed: Zeroizing<Vec<u8>>,
    /// The card was revealed without it: the answer to that request ends its time.
    unanswered: bool,
}

/// Why there is no code to give out. For the audit log: the caller outside is told nothing but that there is
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Absent {
    /// None was held, or so long ago that it is forgotten, or the process was restarted since.
    #[error("no verification code was held")]
    NeverHeld,
    /// It was given out before.
    #[error("the verification code was given out already")]
    Gone,
    /// It was held too long and is wiped.
    #[error("the verification code expired")]
    Expired,
}

/// Why a code is not held, or no place to hold codes could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HoldError {
    /// As many codes are held as may be. Operator's fault: raise the bound, or find out who fills it.
    #[error("no more verification codes can be held")]
    Full,
    /// The holding time is zero or over an hour. Operator's fault.
    #[error("a verification code is held for one second to one hour")]
    Hold,
    /// No randomness. Operator's fault.
    #[error("the verification code could not be encrypted")]
    Key(#[from] KeyError),
}

impl Holds {
    /// A place for at most `capacity` codes, each held for `hold`, under a key made here and kept nowhere
    /// else.
    ///
    /// # Errors
    /// [`HoldError::Hold`] unless `hold` is at least a second and at most [`MAX_HOLD`]; [`HoldError::Key`].
    pub fn new(hold: Duration, capacity: usize) -> Result<Holds, HoldError> {
        if hold < Duration::from_secs(1) || hold > MAX_HOLD {
            return Err(HoldError::Hold);
        }
        let key = XaesKey::new(&SadKey::generate()?);
        Ok(Holds { key, hold, capacity, held: Expiring::default(), taken: Expiring::default() })
    }

    /// Holds a code for a token from `now` on. One held before for the same token is wiped.
    ///
    /// # Errors
    /// [`HoldError::Full`] when there is no room after expired codes are gone; [`HoldError::Key`]. The code
    /// is wiped in either case.
    pub fn hold(
        &mut self,
        collection: CollectionId,
        token: &Token,
        cvv: &Cvv,
        now: Duration,
    ) -> Result<(), HoldError> {
        let place = (number_of(collection), token.clone());
        if self.held.len() >= self.capacity && !self.held.contains(&place) {
            self.sweep(now);
            if self.held.len() >= self.capacity {
                return Err(HoldError::Full);
            }
        }
        let mut sealed = Zeroizing::new(Vec::new());
        self.key.seal_onto(&aad(&place), &*padded(cvv), &mut sealed)?;
        self.taken.remove(&place);
        self.held.insert(place, now.saturating_add(self.hold), Held { sealed, unanswered: false });
        Ok(())
    }

    /// Gives out the code held for a token and wipes it. The second call for a token finds it gone.
    ///
    /// # Errors
    /// [`Absent`], which must look the same from outside whichever it is.
    pub fn take(&mut self, collection: CollectionId, token: &Token, now: Duration) -> Result<Cvv, Absent> {
        let place = (number_of(collection), token.clone());
        let Some((deadline, Held { sealed, .. })) = self.held.remove(&place) else {
            let gone = self.taken.deadline(&place).is_some_and(|deadline| now < deadline);
            return Err(if gone { Absent::Gone } else { Absent::NeverHeld });
        };
        if now >= deadline {
            return Err(Absent::Expired);
        }
        let cvv = self.open(&place, &sealed);
        if self.taken.len() >= self.capacity {
            self.taken.remove_earliest();
        }
        self.taken.insert(place, deadline, ());
        cvv.ok_or(Absent::Gone)
    }

    /// The token's card is about to be revealed without its code. Says whether one is held, which the first answer of
    /// the destination then ends ([`Holds::settle`]).
    pub fn pass_over(&mut self, collection: CollectionId, token: &Token, now: Duration) -> bool {
        let place = (number_of(collection), token.clone());
        match self.held.get_mut(&place) {
            Some((deadline, held)) if now < *deadline => {
                held.unanswered = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// A destination answered a request that the token's card was revealed for: wipes the code that was held then. One
    /// that came since belongs to another authorization and stays. Says whether there was one to wipe.
    pub fn settle(&mut self, collection: CollectionId, token: &Token) -> bool {
        let place = (number_of(collection), token.clone());
        let due = self.held.get_mut(&place).is_some_and(|(_deadline, held)| held.unanswered);
        if due {
            drop(self.held.remove(&place));
        }
        due
    }

    /// Wipes the code of a token that is no more.
    pub fn forget(&mut self, collection: CollectionId, token: &Token) {
        let place = (number_of(collection), token.clone());
        drop(self.held.remove(&place));
        self.taken.remove(&place);
    }

    /// Wipes every code whose time is over, and says how many there were.
    pub fn sweep(&mut self, now: Duration) -> usize {
        self.taken.remove_until(now);
        self.held.remove_until(now)
    }

    /// Wipes every code, as on sealing.
    pub fn purge(&mut self) {
        self.held = Expiring::default();
        self.taken = Expiring::default();
    }

    /// How many codes are held, expired ones that no sweep has met included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no code is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.len() == 0
    }

    fn open(&self, place: &Place, sealed: &[u8]) -> Option<Cvv> {
        let padded = self.key.open(&aad(place), sealed).ok()?;
        let (length, digits) = padded.split_first()?;
        Cvv::parse(std::str::from_utf8(digits.get(..usize::from(*length))?).ok()?).ok()
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holds({} of {})", self.held.len(), self.capacity)
    }
}

type Place = (u32, Token);

/// Values that leave by themselves: found by place, and by deadline for sweeping without looking at the rest.
struct Expiring<V> {
    // INVARIANT(deadlines): `deadlines` holds exactly the deadline and place of each value.
    values: BTreeMap<Place, (Duration, V)>,
    deadlines: BTreeSet<(Duration, Place)>,
}

impl<V> Default for Expiring<V> {
    fn default() -> Expiring<V> {
        Expiring { values: BTreeMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<V> Expiring<V> {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn contains(&self, place: &Place) -> bool {
        self.values.contains_key(place)
    }

    fn get_mut(&mut self, place: &Place) -> Option<&mut (Duration, V)> {
        self.values.get_mut(place)
    }

    fn deadline(&self, place: &Place) -> Option<Duration> {
        self.values.get(place).map(|(deadline, _value)| *deadline)
    }

    fn insert(&mut self, place: Place, deadline: Duration, value: V) {
        drop(self.remove(&place));
        self.deadlines.insert((deadline, place.clone()));
        self.values.insert(place, (deadline, value));
    }

    fn remove(&mut self, place: &Place) -> Option<(Duration, V)> {
        let (deadline, value) = self.values.remove(place)?;
        self.deadlines.remove(&(deadline, place.clone()));
        Some((deadline, value))
    }

    fn remove_earliest(&mut self) {
        if let Some((_deadline, place)) = self.deadlines.pop_first() {
            self.values.remove(&place);
        }
    }

    /// Removes what is due at `now`, and says how much that was.
    fn remove_until(&mut self, now: Duration) -> usize {
        let before = self.len();
        while self.deadlines.first().is_some_and(|(deadline, _place)| *deadline <= now) {
            self.remove_earliest();
        }
        before - self.len()
    }
}

/// Length and digits in five bytes, so that three and four digits look alike.
fn padded(cvv: &Cvv) -> Zeroizing<[u8; 5]> {
    let digits = cvv.expose().as_bytes();
    let mut out = Zeroizing::new([0; 5]);
    if let Some((length, rest)) = out.split_first_mut() {
        for (to, from) in rest.iter_mut().zip(digits) {
            *to = *from;
            *length += 1;
        }
    }
    out
}

fn aad((collection, token): &Place) -> Vec<u8> {
    framed(SAD_LABEL, &[&collection.to_be_bytes(), token.as_str().as_bytes()])
}

fn number_of(CollectionId(number): CollectionId) -> u32 {
    number
}

const SAD_LABEL: &str = "cordon/sad";

#[cfg(test)]
mod tests;
