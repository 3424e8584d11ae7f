//! Finds the declared fields of an `application/x-www-form-urlencoded` body, with byte-exact places.
//!
//! Must never compare an encoded name, nor accept what two parsers could read differently: a stray `%`, bytes that
//! are not UTF-8, a declared name twice (threat B40).
//! Tests: here; fuzz target `fuzz/fuzz_targets/form_body.rs`.

use super::edit::Writing;
use super::{BodyError, Heard, Leaf, Text, UNDECLARED};
use percent_encoding::percent_decode_str;
use std::ops::Range;
use zeroize::Zeroizing;

/// Reads the pairs to their end and gives the declared fields in the order in which they stand.
///
/// # Errors
/// [`BodyError::Malformed`] for a `%` without two hexadecimal digits, and for what is not UTF-8 once decoded;
/// [`BodyError::Field`] for a declared name that stands twice or without `=`.
pub fn locate<'b>(
    body: &'b str,
    declared: &[(usize, String)],
    heard: Heard<'_>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut leaves: Vec<Leaf<'b>> = Vec::new();
    for pair in pairs(body) {
        let name = decoded(pair.name)?;
        hear(&name, heard);
        let Some((field, _)) = declared.iter().find(|(_, wanted)| wanted == name.expose()) else {
            if let Some((value, _)) = pair.value {
                hear(&decoded(value)?, heard);
            }
            continue;
        };
        let (value, span) = pair.value.ok_or(BodyError::Field(*field))?;
        if leaves.iter().any(|leaf| leaf.field == *field) {
            return Err(BodyError::Field(*field));
        }
        leaves.push(Leaf { field: *field, span, text: decoded(value)?, writing: Writing::Form });
    }
    Ok(leaves)
}

/// The values (not the names) of a body that [`locate`] has accepted, with their places.
///
/// # Errors
/// [`BodyError::Malformed`] when it has not.
pub fn values(body: &str) -> Result<Vec<Leaf<'_>>, BodyError> {
    let values = pairs(body).filter_map(|pair| pair.value);
    values
        .map(|(value, span)| {
            Ok(Leaf { field: UNDECLARED, span, text: decoded(value)?, writing: Writing::Form })
        })
        .collect()
}

struct Pair<'b> {
    name: &'b str,
    value: Option<(&'b str, Range<usize>)>,
}

fn pairs(body: &str) -> impl Iterator<Item = Pair<'_>> {
    let mut start = 0_usize;
    body.split('&').filter_map(move |pair| {
        let at = start;
        start = start.saturating_add(pair.len()).saturating_add(1);
        let found = match pair.split_once('=') {
            Some((name, value)) => {
                let from = at.saturating_add(name.len()).saturating_add(1);
                Pair { name, value: Some((value, from..from.saturating_add(value.len()))) }
            }
            None => Pair { name: pair, value: None },
        };
        (!pair.is_empty()).then_some(found)
    })
}

/// A scan of the raw bytes reads plain ASCII text as it is; all else is heard decoded.
pub(super) fn hear(text: &Text<'_>, heard: Heard<'_>) {
    if text.is_hidden() {
        heard(text.expose());
    }
}

/// Undoes `+` and percent-encoding, once.
fn decoded(raw: &str) -> Result<Text<'_>, BodyError> {
    if !raw.contains(['%', '+']) {
        return Ok(Text::Plain(raw));
    }
    let complete = raw.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !complete {
        return Err(BodyError::Malformed);
    }
    // Sized for the longest outcome, so that it never grows and leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(raw.len()));
    let mut parts = raw.split('+');
    bytes.extend(parts.next().into_iter().flat_map(percent_decode_str));
    for part in parts {
        bytes.push(b' ');
        bytes.extend(percent_decode_str(part));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_not_utf8| BodyError::Malformed)?;
    Ok(Text::Decoded(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::edit::{Edit, apply};
    use super::*;
    use proptest::prelude::*;

    fn declared(names: &[&str]) -> Vec<(usize, String)> {
        names.iter().map(|name| (*name).to_owned()).enumerate().collect()
    }

    fn found(body: &str, names: &[&str]) -> Result<Vec<(usize, Range<usize>, String)>, BodyError> {
        let leaves = locate(body, &declared(names), &mut |_| ())?;
        Ok(leaves.into_iter().map(|leaf| (leaf.field, leaf.span, leaf.text.expose().to_owned())).collect())
    }

    fn heard(body: &str, names: &[&str]) -> Vec<String> {
        let mut all = Vec::new();
        locate(body, &declared(names), &mut |text| all.push(text.to_owned())).unwrap();
        all
    }

    #[test]
    fn names_and_values_are_compared_decoded_and_placed_exactly() {
        let body = "a=b&card%5Bnumber%5D=4111+1111%201111+1111&c";
        let leaves = found(body, &["cvc", "card[number]"]).unwrap();
        assert_eq!(leaves, [(1, 21..42, "4111 1111 1111 1111".to_owned())]);
        assert_eq!(body.get(21..42).unwrap(), "4111+1111%201111+1111");
    }

    #[test]
    fn an_escaped_digit_is_a_digit() {
        assert_eq!(found("p=%34111", &["p"]).unwrap()[0].2, "4111");
    }

    #[test]
    fn a_declared_name_twice_or_without_a_value_is_refused() {
        assert_eq!(found("p=1&x=2&%70=3", &["p"]), Err(BodyError::Field(0)));
        assert_eq!(found("x=2&p", &["x", "p"]), Err(BodyError::Field(1)));
        assert_eq!(found("x=2&x=2&p=3", &["p"]).unwrap().len(), 1);
    }

    #[test]
    fn stray_percent_signs_and_bad_utf8_are_refused() {
        for body in ["a=%", "a=%4", "a=%zz", "%u0034=1", "a=100%&b=1", "a=%ff", "a=%c3", "a=%+1"] {
            assert_eq!(found(body, &[]), Err(BodyError::Malformed), "{body}");
        }
    }

    #[test]
    fn what_the_raw_scan_would_miss_is_heard() {
        assert_eq!(
            heard("a=%34111&b%31=plain&c=1+2&d=4111&%E4%BD%A0&p=%34", &["p"]),
            ["4111", "b1", "1 2", "\u{4f60}"]
        );
        assert_eq!(heard("a=\u{ff14}", &[]), ["\u{ff14}"]);
    }

    #[test]
    fn empty_pairs_are_passed_over() {
        assert_eq!(found("&&p=&", &["p"]).unwrap(), [(0, 4..4, String::new())]);
        assert_eq!(found("", &["p"]).unwrap(), []);
    }

    #[test]
    fn values_have_their_places() {
        let all = values("a=1&b&c=%32&=3").unwrap();
        let all: Vec<_> = all.into_iter().map(|leaf| (leaf.span, leaf.text.expose().to_owned())).collect();
        assert_eq!(all, [(2..3, "1".to_owned()), (8..11, "2".to_owned()), (13..14, "3".to_owned())]);
    }

    proptest! {
        #[test]
        fn what_form_urlencoded_writes_is_read_back_and_rewritten_in_place(
            pairs in prop::collection::vec(("\\PC{0,6}", "\\PC{0,20}"), 0..8),
            chosen in any::<prop::sample::Index>(),
        ) {
            let mut names: Vec<_> = pairs.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            names.dedup();
            prop_assume!(names.len() == pairs.len() && !pairs.is_empty());
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let (name, value) = &pairs[chosen.index(pairs.len())];
            let leaves = found(&body, &[name]).unwrap();
            prop_assert_eq!(leaves.len(), 1);
            prop_assert_eq!(&leaves[0].2, value);

            let span = leaves[0].1.clone();
            let text = Some(Zeroizing::new("tok/\u{e9} 1".to_owned()));
            let edit = Edit { span: span.clone(), text, writing: Writing::Form };
            let edited = apply(body.as_bytes(), &[edit]).unwrap();
            prop_assert_eq!(&edited.bytes[..span.start], &body.as_bytes()[..span.start]);
            prop_assert_eq!(&edited.bytes[edited.spans[0].end..], &body.as_bytes()[span.end..]);
            let after: Vec<_> = form_urlencoded::parse(&edited.bytes).into_owned().collect();
            for (before, after) in pairs.iter().zip(after) {
                prop_assert_eq!(&before.0, &after.0);
                prop_assert_eq!(if before.0 == *name { "tok/\u{e9} 1" } else { before.1.as_str() }, after.1.as_str());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(body in ".{0,64}") {
            if let Ok(leaves) = locate(&body, &declared(&["a", "b"]), &mut |_| ()) {
                for leaf in leaves {
                    prop_assert!(body.get(leaf.span).is_some());
                }
            }
        }
    }
}
