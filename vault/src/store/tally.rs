//! The tally of rows: how many there are and a keyed hash of the set of them, kept in the commits that change them, so that
//! a row which was removed, put back or edited behind the vault's back is found (threat B14).
//!
//! The hash is MSet-Add-Hash (Clarke, Devadas, van Dijk, Gassend, Suh: "Incremental Multiset Hash Functions and Their
//! Application to Memory Integrity Checking", ASIACRYPT 2003): with H a pseudorandom function under a secret key, here
//! HMAC-SHA-256, the hash of rows is the sum of H(row) modulo 2^256, hidden by adding H(nonce). It changes with a row by one
//! addition or subtraction. Whoever has no key can neither make the hash of another set nor find two sets with one hash; the
//! hidden sum does not even tell which row a change was about. The hidden number is also bound to collection, commit and
//! count: an entry that is edited or moved stands for a sum that no rows have.
//!
//! It must never be used without its key, nor two sums be hidden by one nonce: a nonce is drawn whenever the tally is taken
//! up, and each commit after that has a number of its own. Tests: at the end of this file, `verify/tests.rs`,
//! `tests/tests/tally.rs`.

use std::fmt;

use super::{CollectionId, StoreError};
use crate::keys::{PreparedMac, TallyKey};

/// What hashes rows and hides sums.
pub struct TallyMac(PreparedMac);

impl TallyMac {
    /// Prepares a key.
    pub(crate) fn new(key: &TallyKey) -> TallyMac {
        TallyMac(PreparedMac::new(key))
    }

    /// The hash of one row: of its key, which has collection and token, and of all it says in clear.
    pub(super) fn row(&self, key: &[u8], clear: &[u8]) -> Sum {
        Sum::of(self.0.sign(ROW_LABEL, &[key, clear]))
    }

    /// A tally as it is stored in a commit.
    pub(super) fn hide(
        &self,
        of: Option<CollectionId>,
        sequence: u64,
        nonce: Nonce,
        tally: Tally,
    ) -> Vec<u8> {
        let Tally { count, sum } = tally;
        let hash = sum.plus(self.mask(of, sequence, count, nonce));
        [&[FORMAT][..], &sequence.to_be_bytes(), &count.to_be_bytes(), &nonce, &hash.to_bytes()].concat()
    }

    /// The tally that was stored. Of an entry that was edited, or is another collection's, it is one that no rows have.
    pub(super) fn uncover(&self, of: Option<CollectionId>, entry: &Entry) -> Tally {
        let mask = self.mask(of, entry.sequence, entry.count, entry.nonce);
        Tally { count: entry.count, sum: entry.hash.minus(mask) }
    }

    fn mask(&self, of: Option<CollectionId>, sequence: u64, count: u64, nonce: Nonce) -> Sum {
        let of = of.map(|CollectionId(number)| number.to_be_bytes());
        // All rows: an empty field, which is no collection's number.
        let of = of.as_ref().map_or(&[][..], <[u8; 4]>::as_slice);
        Sum::of(self.0.sign(MASK_LABEL, &[of, &sequence.to_be_bytes(), &count.to_be_bytes(), &nonce]))
    }
}

impl fmt::Debug for TallyMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TallyMac(..)")
    }
}

/// Drawn whenever the tally is taken up.
pub(super) type Nonce = [u8; 16];

/// How many rows, and the sum of their hashes. Both count modulo their size, so that a difference is one, too.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    sum: Sum,
}

impl Tally {
    pub(super) fn add(&mut self, row: Sum) {
        *self = self.plus(Tally { count: 1, sum: row });
    }

    pub(super) fn remove(&mut self, row: Sum) {
        *self = Tally { count: self.count.wrapping_sub(1), sum: self.sum.minus(row) };
    }

    pub(super) fn plus(self, other: Tally) -> Tally {
        Tally { count: self.count.wrapping_add(other.count), sum: self.sum.plus(other.sum) }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sum is what the mask hides.
        f.debug_struct("Tally").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A number modulo 2^256, lowest word first.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum([u64; 4]);

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sum(..)")
    }
}

impl Sum {
    fn of(bytes: [u8; 32]) -> Sum {
        let mut words = [0; 4];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*eight);
        }
        Sum(words)
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *eight = word.to_le_bytes();
        }
        bytes
    }

    fn plus(self, other: Sum) -> Sum {
        self.word_by_word(other, u64::overflowing_add)
    }

    fn minus(self, other: Sum) -> Sum {
        self.word_by_word(other, u64::overflowing_sub)
    }

    /// `step` on each pair of words, and on what the words below carry or borrow.
    fn word_by_word(self, other: Sum, step: impl Fn(u64, u64) -> (u64, bool)) -> Sum {
        let (mut out, mut carry) = ([0; 4], false);
        for ((to, one), two) in out.iter_mut().zip(self.0).zip(other.0) {
            let (word, first) = step(one, two);
            let (word, second) = step(word, u64::from(carry));
            (*to, carry) = (word, first || second);
        }
        Sum(out)
    }
}

/// A stored tally.
pub(super) struct Entry {
    /// The commit that wrote it.
    pub(super) sequence: u64,
    count: u64,
    nonce: Nonce,
    hash: Sum,
}

impl Entry {
    /// Reads one.
    pub(super) fn decode(value: &[u8]) -> Result<Entry, StoreError> {
        let read = || {
            let (format, rest) = value.split_first()?;
            let (sequence, rest) = rest.split_first_chunk()?;
            let (count, rest) = rest.split_first_chunk()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            let hash = <[u8; 32]>::try_from(rest).ok()?;
            let (sequence, count) = (u64::from_be_bytes(*sequence), u64::from_be_bytes(*count));
            (*format == FORMAT).then(|| Entry { sequence, count, nonce: *nonce, hash: Sum::of(hash) })
        };
        read().ok_or(StoreError::Corrupt("not a tally"))
    }
}

/// Checks that a value is a stored tally.
pub(super) fn check(value: &[u8]) -> Result<(), StoreError> {
    Entry::decode(value).map(drop)
}

const FORMAT: u8 = 1;
const ROW_LABEL: &str = "cordon/v1/tally-row";
const MASK_LABEL: &str = "cordon/v1/tally-mask";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac() -> TallyMac {
        TallyMac::new(&TallyKey::generate().unwrap())
    }

    fn tally(mac: &TallyMac, rows: &[u8]) -> Tally {
        let mut tally = Tally::default();
        rows.iter().for_each(|row| tally.add(mac.row(&[*row], b"clear")));
        tally
    }

    #[test]
    fn a_stored_tally_stands_for_its_rows_in_its_place_only() {
        let mac = mac();
        let (place, rows) = (Some(CollectionId(7)), tally(&mac, &[1, 2, 3]));
        let stored = mac.hide(place, 9, [5; 16], rows);
        let uncovered = |value: &[u8], place| mac.uncover(place, &Entry::decode(value).unwrap());
        assert!(uncovered(&stored, place) == rows);
        assert!(uncovered(&stored, None) != rows, "another place");
        assert!(
            TallyMac(self::mac().0).uncover(place, &Entry::decode(&stored).unwrap()) != rows,
            "another key"
        );
        for byte in 1..stored.len() {
            let mut edited = stored.clone();
            edited[byte] ^= 1;
            assert!(uncovered(&edited, place) != rows, "byte {byte}");
        }
        assert!(
            Entry::decode(&stored[1..]).is_err() && Entry::decode(&[&stored[..], &[0]].concat()).is_err()
        );
        assert!(Entry::decode(&[&[2], &stored[1..]].concat()).is_err());
    }

    #[test]
    fn what_a_change_was_about_is_hidden() {
        let mac = mac();
        let hash = |sequence, rows: &[u8]| {
            Entry::decode(&mac.hide(None, sequence, [5; 16], tally(&mac, rows))).unwrap().hash
        };
        let by_one = hash(2, &[1, 2]).minus(hash(1, &[1]));
        assert!(by_one != mac.row(&[2], b"clear"), "the difference of two commits is no row's hash");
    }

    #[test]
    fn carries_and_borrows_reach_the_highest_word() {
        let (all, one) = (Sum([u64::MAX; 4]), Sum([1, 0, 0, 0]));
        assert!(all.plus(one) == Sum::default());
        assert!(Sum::default().minus(one) == all);
        assert!(all.plus(all) == Sum([u64::MAX - 1, u64::MAX, u64::MAX, u64::MAX]));
    }

    fn sum() -> impl Strategy<Value = Sum> {
        any::<[u8; 32]>().prop_map(Sum::of)
    }

    proptest! {
        #[test]
        fn sums_are_a_group(a in sum(), b in sum(), c in sum()) {
            prop_assert!(a.plus(b) == b.plus(a));
            prop_assert!(a.plus(b).plus(c) == a.plus(b.plus(c)));
            prop_assert!(a.plus(b).minus(b) == a);
            prop_assert!(a.minus(b).plus(b) == a);
            prop_assert!(Sum::of(a.to_bytes()) == a);
        }

        #[test]
        fn the_order_does_not_matter_and_each_row_does(rows in proptest::collection::vec(any::<u8>(), 1..20)) {
            let mac = mac();
            let mut other: Vec<u8> = rows.clone();
            other.reverse();
            prop_assert!(tally(&mac, &rows) == tally(&mac, &other));
            let mut without = tally(&mac, &rows);
            without.remove(mac.row(&rows[..1], b"clear"));
            prop_assert!(without == tally(&mac, &rows[1..]));
            prop_assert!(without != tally(&mac, &rows));
            let mut edited = without;
            edited.add(mac.row(&rows[..1], b"Clear"));
            prop_assert!(edited.count == u64::try_from(rows.len()).unwrap() && edited != tally(&mac, &rows));
        }
    }
}
