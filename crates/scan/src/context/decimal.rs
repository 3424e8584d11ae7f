//! Fractions of decimal numbers.
//!
//! A double prints at most 17 significant digits, and such fractions are frequent in JSON: without this rule one in
//! forty of them would be a finding. Must never hide a number with more digits than a double has.
//! Tests: at the end of this file.

/// Most significant digits in the shortest decimal form of a double (IEEE 754).
const SIGNIFICANT: usize = 17;

pub(super) fn explains(view: &[u8], start: usize, end: usize) -> bool {
    let (Some(before), Some(fraction)) = (view.get(..start), view.get(start..end)) else { return false };
    let Some(before) = before.strip_suffix(b".") else { return false };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let whole_length =
        before.iter().rev().take(SIGNIFICANT + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let Some((rest, whole)) = before.split_at_checked(before.len() - whole_length) else { return false };
    // In 1.2.3 no dot is a decimal point.
    if whole.is_empty() || rest.last() == Some(&b'.') {
        return false;
    }
    let significant = whole.iter().chain(fraction).skip_while(|byte| **byte == b'0').count();
    significant <= SIGNIFICANT
}

#[cfg(test)]
mod tests {
    use super::explains;

    fn is_hidden(text: &str) -> bool {
        let start = text.find("4111").unwrap();
        explains(text.as_bytes(), start, text.len())
    }

    #[test]
    fn what_no_double_prints_is_not_hidden() {
        for text in [
            "4111111111111111",
            ".4111111111111111",
            "x.4111111111111111",
            "12.4111111111111111",
            "1.0.4111111111111111",
            "0.4111 1111 1111 1111",
            "4242424242424242.4111111111111111",
        ] {
            assert!(!is_hidden(text), "{text}");
        }
    }

    #[test]
    fn fractions_of_doubles_are_recognised() {
        for text in ["0.4111111111111111", "1.4111111111111111", "-0.4111111111111111", "00.4111111111111111"]
        {
            assert!(is_hidden(text), "{text}");
        }
    }
}
