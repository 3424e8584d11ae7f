//! The rule of what is a finding, applied from left to right.
//!
//! Each decision depends on the bytes from [`LOOK_BEHIND`] before a group's start to [`LOOK_AHEAD`] after it and on
//! nothing else; this is what makes the scanner give the same answer however a stream is cut.
//! Must never look at a byte outside of that view. Tests: at the end of this file, `tests/*.rs`.

use std::ops::ControlFlow;

use cordon_card::digits::{Mark, Separator};
use cordon_card::{Brand, MAX_LENGTH, MIN_LENGTH, Pan, Truncated, Truncation, luhn_is_valid, plausible};

use crate::Finding;
use crate::chain::{Chain, Group, MAX_SPAN, gap_before, starts_group};
use crate::context;
use crate::marks::mark_at;
use crate::skip::{Run, next_run};

/// How many bytes before a group are looked at.
pub(crate) const LOOK_BEHIND: usize = context::REACH;

/// How many bytes from the start of a group on are looked at.
pub(crate) const LOOK_AHEAD: usize = MAX_SPAN + context::REACH;

/// A finding with offsets into the window it was found in.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    brand: Brand,
    masked: Truncated,
}

impl Hit {
    /// The finding, when the window begins at `base` in the stream.
    pub(crate) fn into_finding(self, base: u64) -> Finding {
        let offset = |place: usize| base.saturating_add(u64::try_from(place).unwrap_or(u64::MAX));
        Finding { start: offset(self.start), end: offset(self.end), brand: self.brand, masked: self.masked }
    }
}

/// The first finding that starts in `from..limit`.
///
/// The window has to reach [`LOOK_AHEAD`] bytes beyond `limit`, or to the end of the stream; and [`LOOK_BEHIND`]
/// bytes before `from`, or to the start of the stream.
pub(crate) fn next_in(window: &[u8], from: usize, limit: usize) -> Option<Hit> {
    let mut from = from;
    while from < limit {
        let run = next_run(window, from)?;
        let hit = first_in_run(window, run, limit);
        if hit.is_some() {
            return hit;
        }
        from = run.end;
    }
    None
}

fn first_in_run(window: &[u8], run: Run, limit: usize) -> Option<Hit> {
    let mut at = run.start;
    // The end of a run is too short for a number.
    while at < limit && at + MIN_LENGTH <= run.end {
        let (mark, width) = mark_at(window, at)?;
        let step = match mark {
            Mark::Digit(_) => match plain_digits_without_number(window, at) {
                Some(length) => length,
                None => match read_at(window, at) {
                    ControlFlow::Break(hit) => return Some(hit),
                    ControlFlow::Continue(length) => length,
                },
            },
            Mark::Separator(_) | Mark::Ignorable | Mark::Other => width,
        };
        at += step.max(1);
    }
    None
}

/// A shortcut for what most runs are: how many ASCII digits stand here, when it is plain that no number starts among
/// them. Only sizes that a form of [`is_written_like_a_card`] begins with are of interest, and a size that stands
/// alone has to pass the Luhn check.
fn plain_digits_without_number(window: &[u8], at: usize) -> Option<usize> {
    let rest = window.get(at..)?;
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at_checked(length)?;
    let after = after.first().copied().unwrap_or_default();
    let is_plain = match length {
        // Something invisible may join these to more digits.
        0..=MAX_LENGTH if !after.is_ascii() => false,
        MIN_LENGTH..=MAX_LENGTH => !luhn_is_valid(digits),
        4 | 6 => !matches!(after, b' ' | b'-' | b'.'),
        1 => !matches!(after, b' ' | b'-'),
        _ => true,
    };
    is_plain.then_some(length)
}

/// Reads the groups from `at` on: the finding that starts here, or how many bytes hold no start of another.
fn read_at(window: &[u8], at: usize) -> ControlFlow<Hit, usize> {
    let view_start = at.saturating_sub(LOOK_BEHIND);
    let view = window.get(view_start..window.len().min(at + LOOK_AHEAD)).unwrap_or_default();
    let start = at - view_start;
    if !starts_group(view, start) {
        return ControlFlow::Continue(mark_at(window, at).map_or(1, |(_, width)| width));
    }
    let chain = Chain::read(view, start);
    match longest(view, start, &chain) {
        Some(hit) => ControlFlow::Break(Hit { start: at, end: view_start + hit.end, ..hit }),
        None => ControlFlow::Continue(chain.barren_end() - start),
    }
}

/// The longest finding that starts with the first group of the chain.
fn longest(view: &[u8], start: usize, chain: &Chain) -> Option<Hit> {
    let groups = chain.groups();
    (1..=groups.len()).rev().find_map(|count| {
        let (taken, last) = groups.get(..count).and_then(|taken| Some((taken, *taken.last()?)))?;
        let total = taken.iter().map(|group| group.size).sum();
        if total < MIN_LENGTH || !is_written_like_a_card(view, start, taken, last) {
            return None;
        }
        let digits = chain.digits(total);
        let brand = plausible(digits)?;
        if context::explains(view, start, last.end) {
            return None;
        }
        let masked = Pan::from_ascii_digits(digits).ok()?.truncated(Truncation::LastFour);
        Some(Hit { start, end: last.end, brand, masked })
    })
}

/// Fewest digits with which a number in groups may be part of a longer row: three fours are part of any four.
const SHORTEST_PART: usize = 13;

fn is_written_like_a_card(view: &[u8], start: usize, taken: &[Group], last: Group) -> bool {
    let [first, .., _] = taken else { return true };
    let inner = taken.split_last().map_or(taken, |(_, inner)| inner);
    let Some(family) = first.gap.filter(|_| inner.iter().all(|group| group.gap == first.gap)) else {
        return false;
    };
    let sizes = || taken.iter().map(|group| group.size);
    let singles = sizes().all(|size| size == 1);
    let form_is_known = singles && family != Separator::Dot
        || inner.iter().all(|group| group.size == 4) && (1..=4).contains(&last.size)
        || FORMS.iter().any(|form| sizes().eq(form.iter().copied()));
    let total: usize = sizes().sum();
    let may_be_part = total >= SHORTEST_PART && !singles;
    let is_whole =
        || last.gap != Some(family) && gap_before(view, start).is_none_or(|gap| gap.family != family);
    form_is_known && (may_be_part || is_whole())
}

/// Ways of writing a number other than in fours: American Express, Diners, UATP, Visa of 13, UnionPay of 19.
const FORMS: [&[usize]; 5] = [&[4, 6, 5], &[4, 6, 4], &[4, 5, 6], &[4, 3, 3, 3], &[6, 13]];

#[cfg(test)]
mod tests {
    use super::{Chain, ControlFlow, is_written_like_a_card, next_in, read_at};
    use crate::marks::mark_at;
    use cordon_card::digits::Mark;
    use proptest::prelude::*;

    /// Whether the first `count` groups of a text, which may begin within a longer row, are a way of writing.
    fn is_form(before: &str, text: &str, count: usize) -> bool {
        let whole = [before, text].concat();
        let chain = Chain::read(whole.as_bytes(), before.len());
        let taken = &chain.groups()[..count];
        is_written_like_a_card(whole.as_bytes(), before.len(), taken, taken[count - 1])
    }

    #[test]
    fn other_ways_of_grouping_are_not_known() {
        for text in [
            "0000 0000 00000",
            "0000 0000 0000 00000",
            "00 0000 0000 0000",
            "00000000 00000000",
            "0000 0000-0000 0000",
            "000000 0000000000",
            "00 00 00 00 00 00 00 00",
            "0.0.0.0.0.0.0.0.0.0.0.0.0",
        ] {
            let count = Chain::read(text.as_bytes(), 0).groups().len();
            assert!(count > 1 && !is_form("", text, count), "{text}");
        }
    }

    #[test]
    fn twelve_digits_in_groups_count_as_a_whole_row_only() {
        assert!(is_form("", "0000 0000 0000", 3));
        assert!(is_form("12-", "0000 0000 0000-12", 3));
        assert!(!is_form("", "0000 0000 0000 0000", 3));
        assert!(!is_form("", "0000 0000 0000 12", 3));
        assert!(!is_form("12 ", "0000 0000 0000", 3));
        assert!(is_form("12 ", "0000 0000 0000 0 12", 4));
    }

    #[test]
    fn single_digits_count_as_a_whole_row_only() {
        assert!(is_form("", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", 16));
        assert!(!is_form("", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", 16));
        assert!(!is_form("0 ", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", 16));
    }

    /// The rule without the shortcuts.
    fn slow(bytes: &[u8]) -> Option<(usize, usize)> {
        (0..bytes.len()).find_map(|at| match mark_at(bytes, at)? {
            (Mark::Digit(_), _) => match read_at(bytes, at) {
                ControlFlow::Break(hit) => Some((hit.start, hit.end)),
                ControlFlow::Continue(_) => None,
            },
            _ => None,
        })
    }

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            6 => prop::sample::select(vec!["4", "41", "411", "4111", "1111", "111111", "11111", "2222", "8"]),
            2 => prop::sample::select(vec![" ", "-", ".", " - "]),
            1 => prop::sample::select(vec![
                "x", ",", "/", " 1", "-1", "\u{200b}", "\u{664}", "\u{ff11}",
                "1 2 3 4 5 6 7 8 9 0 1 2", "1-2-3-4-5-6-7-8-9-0-1-2", "4111111111111111", "3782 822463 10005",
                "6205500000000000004", "620550 0000000000004", "4222222222222", "0.", "4 2 2 2 2 2 2 2 2 2 2 2 2"
            ]),
        ]
        .prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_shortcuts_change_nothing(text in prop::collection::vec(piece(), 0..30)) {
            let text = text.concat();
            let fast = next_in(text.as_bytes(), 0, text.len()).map(|hit| (hit.start, hit.end));
            prop_assert_eq!(fast, slow(text.as_bytes()), "{}", text);
        }
    }
}
