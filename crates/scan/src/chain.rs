//! A row of digit groups, read from where a group starts.
//!
//! Must never read more than [`MAX_SPAN`] bytes, nor keep digits beyond its own life: they are wiped on drop.
//! Tests: at the end of this file.

use cordon_card::MAX_LENGTH;
use cordon_card::digits::{Mark, Separator};
use zeroize::Zeroizing;

use crate::marks::{mark_at, mark_before};

/// Most bytes from the first digit of a number to its last, separators and invisible characters included.
pub(crate) const MAX_SPAN: usize = 512;

/// Most invisible characters between two digits or separators; more of them part a number.
const MAX_INVISIBLE: usize = 16;

/// Most separators between two groups.
const MAX_SEPARATORS: usize = 3;

/// Up to 19 digits in groups.
pub(crate) struct Chain {
    digits: Zeroizing<[u8; MAX_LENGTH]>,
    groups: [Group; MAX_LENGTH],
    complete: usize,
    /// The end of the first group, whether or not it was too long to be kept.
    first_end: usize,
}

/// One whole group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// How many digits.
    pub(crate) size: usize,
    /// Offset after the last byte of the last digit.
    pub(crate) end: usize,
    /// What leads to the next group, if there is one.
    pub(crate) gap: Option<Separator>,
}

impl Chain {
    /// Reads groups from `start`, until something parts them or there are more than 19 digits. A group that does
    /// not fit is left out.
    pub(crate) fn read(bytes: &[u8], start: usize) -> Self {
        let mut chain = Self {
            digits: Zeroizing::new([0; MAX_LENGTH]),
            groups: [Group::default(); MAX_LENGTH],
            complete: 0,
            first_end: start,
        };
        let mut at = start;
        let mut total = 0;
        loop {
            let Some((group, next)) = chain.read_group(bytes, start, at, total) else { return chain };
            total += group.size;
            if let Some(place) = chain.groups.get_mut(chain.complete) {
                *place = group;
                chain.complete += 1;
            }
            if group.gap.is_none() {
                return chain;
            }
            at = next;
        }
    }

    /// The groups, in order.
    pub(crate) fn groups(&self) -> &[Group] {
        self.groups.get(..self.complete).unwrap_or_default()
    }

    /// Up to where no other number can start: the end of the first group or, in a row of single digits, of the last
    /// digit that has the same separator on both sides, as such a row counts as a whole or not at all.
    pub(crate) fn barren_end(&self) -> usize {
        let family = self.groups().first().and_then(|group| group.gap);
        let inner = |group: &&Group| group.size == 1 && family.is_some() && group.gap == family;
        self.groups().iter().take_while(inner).last().map_or(self.first_end, |group| group.end)
    }

    /// The first `count` digits, in ASCII.
    pub(crate) fn digits(&self, count: usize) -> &[u8] {
        self.digits.get(..count).unwrap_or_default()
    }

    /// Reads one group and the gap after it; gives it with the offset of the group that follows.
    fn read_group(&mut self, bytes: &[u8], start: usize, at: usize, total: usize) -> Option<(Group, usize)> {
        let mut group = Group { size: 0, end: at, gap: None };
        let mut at = at;
        let mut invisible = 0;
        while let Some((mark, width)) = mark_at(bytes, at) {
            match mark {
                Mark::Digit(value) => {
                    group.end = at + width;
                    let place =
                        self.digits.get_mut(total + group.size).filter(|_| group.end - start <= MAX_SPAN);
                    if self.complete == 0 {
                        self.first_end = group.end;
                    }
                    *place? = b'0'.wrapping_add(value);
                    group.size += 1;
                    invisible = 0;
                }
                Mark::Ignorable if invisible < MAX_INVISIBLE => invisible += 1,
                Mark::Separator(_) => {
                    let gap = gap_after(bytes, at);
                    group.gap = gap.map(|gap| gap.family);
                    return Some((group, gap.map_or(at, |gap| gap.edge)));
                }
                Mark::Ignorable | Mark::Other => break,
            }
            at += width;
        }
        Some((group, at))
    }
}

/// Separators between two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The family; a dash or a dot with spaces around it is a dash or a dot.
    pub(crate) family: Separator,
    /// Where the digit on the other side begins (ahead) or ends (behind).
    pub(crate) edge: usize,
}

/// The gap that begins at or after `at`, if a digit follows it.
fn gap_after(bytes: &[u8], at: usize) -> Option<Gap> {
    walk_gap(at, |at| mark_at(bytes, at), usize::saturating_add)
}

/// The gap that ends at `end`, if a digit stands before it.
pub(crate) fn gap_before(bytes: &[u8], end: usize) -> Option<Gap> {
    walk_gap(end, |end| mark_before(bytes, end), usize::saturating_sub)
}

fn walk_gap(
    from: usize,
    look: impl Fn(usize) -> Option<(Mark, usize)>,
    step: impl Fn(usize, usize) -> usize,
) -> Option<Gap> {
    let (mut at, mut family, mut separators, mut invisible) = (from, None, 0, 0);
    loop {
        let (mark, width) = look(at)?;
        match mark {
            Mark::Digit(_) => return family.map(|family| Gap { family, edge: at }),
            Mark::Ignorable if invisible < MAX_INVISIBLE => invisible += 1,
            Mark::Separator(next) if separators < MAX_SEPARATORS => {
                family = Some(joined(family, next)?);
                separators += 1;
                invisible = 0;
            }
            Mark::Separator(_) | Mark::Ignorable | Mark::Other => return None,
        }
        at = step(at, width);
    }
}

/// The family of a gap that goes on with one more separator: spaces join anything, a second dash or dot parts.
fn joined(family: Option<Separator>, next: Separator) -> Option<Separator> {
    match (family, next) {
        (None | Some(Separator::Space), next) => Some(next),
        (family, Separator::Space) => family,
        (Some(Separator::Dash | Separator::Dot), Separator::Dash | Separator::Dot) => None,
    }
}

/// Says whether the digit at `at` is the first of its group.
pub(crate) fn starts_group(bytes: &[u8], at: usize) -> bool {
    let mut end = at;
    for _ in 0..=MAX_INVISIBLE {
        match mark_before(bytes, end) {
            Some((Mark::Ignorable, width)) => end = end.saturating_sub(width),
            Some((Mark::Digit(_), _)) => return false,
            Some((Mark::Separator(_) | Mark::Other, _)) | None => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Chain, gap_before, starts_group};
    use cordon_card::digits::Separator;

    fn sizes(text: &str) -> Vec<(usize, Option<Separator>)> {
        Chain::read(text.as_bytes(), 0).groups().iter().map(|group| (group.size, group.gap)).collect()
    }

    #[test]
    fn groups_end_at_gaps_and_at_everything_else() {
        assert_eq!(
            sizes("4111 1111-11x1"),
            [(4, Some(Separator::Space)), (4, Some(Separator::Dash)), (2, None)]
        );
        assert_eq!(sizes("12 "), [(2, None)]);
        assert_eq!(sizes("12,34"), [(2, None)]);
        assert_eq!(sizes("12 - 34"), [(2, Some(Separator::Dash)), (2, None)]);
        assert_eq!(sizes("12 -- 34"), [(2, None)]);
        assert_eq!(sizes("12    34"), [(2, None)]);
        assert_eq!(sizes("12\n34"), [(2, None)]);
    }

    #[test]
    fn a_group_that_does_not_fit_is_left_out() {
        assert_eq!(sizes("12345678901234567890"), []);
        assert_eq!(sizes("1234 1234567890123456"), [(4, Some(Separator::Space))]);
        let chain = Chain::read(b"12345678901234567890", 0);
        assert!(chain.digits(20).is_empty() && chain.barren_end() >= 19);
    }

    #[test]
    fn invisible_characters_do_not_part_unless_there_are_many() {
        let with = |count| format!("12{}34", "\u{200b}".repeat(count));
        assert_eq!(sizes(&with(16)), [(4, None)]);
        assert_eq!(sizes(&with(17)), [(2, None)]);
        for (count, starts) in [(0, false), (16, false), (17, true)] {
            let text = with(count);
            assert_eq!(starts_group(text.as_bytes(), text.len() - 2), starts);
        }
    }

    #[test]
    fn a_number_spread_too_far_is_cut() {
        let spread = |count| vec!["4"; 16].join(&"\u{e0041}".repeat(count));
        assert_eq!(sizes(&spread(8)), [(16, None)]);
        assert_eq!(sizes(&spread(9)), []);
    }

    #[test]
    fn gaps_are_read_backwards_too() {
        assert_eq!(gap_before(b"12 - 34", 5).map(|gap| (gap.family, gap.edge)), Some((Separator::Dash, 2)));
        assert_eq!(gap_before(b"12..34", 4), None);
        assert_eq!(gap_before(b"x 34", 2), None);
        assert_eq!(gap_before(b" 34", 1), None);
        assert_eq!(gap_before(b"1234", 2), None);
    }
}
