//! Bank account numbers (IBAN, ISO 13616).
//!
//! The digits of a Danish or Finnish account are as long as a card number, and one in forty would be a finding.
//! Country, length and check digits all have to fit; of other words with such a beginning, one in a hundred would.
//! Must never go by the two letters alone. Tests: at the end of this file.

/// Countries and the lengths of their account numbers, from the IBAN registry.
const COUNTRIES: &str = "\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 \
    EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 \
    IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 \
    NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 \
    TR26 UA29 VA22 VG24 XK20";

const LONGEST: usize = 32;

pub(super) fn explains(view: &[u8], start: usize, end: usize) -> bool {
    let (Some(before), Some(after)) = (view.get(..start), view.get(end..)) else { return false };
    let is_word = |byte: &&u8| byte.is_ascii_alphanumeric();
    let back = before.iter().rev().take(LONGEST).take_while(is_word).count();
    let ahead = after.iter().take(LONGEST).take_while(is_word).count();
    view.get(start - back..end + ahead).is_some_and(is_account)
}

fn is_account(word: &[u8]) -> bool {
    let Some((head, body)) = word.split_first_chunk::<4>() else { return false };
    let [first, second, ..] = *head;
    let length_fits = COUNTRIES.split(' ').any(|entry| {
        let Some((country, length)) = entry.split_at_checked(2) else { return false };
        country.as_bytes() == [first, second] && length.parse() == Ok(word.len())
    });
    length_fits && remainder(body.iter().chain(head)) == Some(1)
}

/// The remainder by 97 of the number that the characters spell, with A as 10 and so on (ISO/IEC 7064, MOD 97-10).
fn remainder<'a>(characters: impl Iterator<Item = &'a u8>) -> Option<u32> {
    characters.copied().try_fold(0, |remainder: u32, byte| {
        let value = char::from(byte).to_digit(36).filter(|_| !byte.is_ascii_lowercase())?;
        let shift = if value < 10 { 10 } else { 100 };
        Some((remainder * shift + value) % 97)
    })
}

#[cfg(test)]
mod tests {
    use super::explains;

    fn is_hidden(text: &str, digits: &str) -> bool {
        let start = text.find(digits).unwrap();
        explains(text.as_bytes(), start, start + digits.len())
    }

    #[test]
    fn two_letters_alone_hide_nothing() {
        for country in ["DK", "FI", "FO", "GL", "CC", "XX"] {
            assert!(!is_hidden(&format!("{country}4111111111111111"), "4111111111111111"), "{country}");
        }
    }

    #[test]
    fn a_wrong_length_check_digit_or_case_hides_nothing() {
        assert!(!is_hidden("DK50004004401162430", "50004004401162430"));
        assert!(!is_hidden("DK5100400440116243", "5100400440116243"));
        assert!(!is_hidden("dk5000400440116243", "5000400440116243"));
        assert!(!is_hidden("SE5000400440116243", "5000400440116243"));
    }

    #[test]
    fn the_registry_s_examples_are_recognised() {
        for (text, digits) in [
            ("DK5000400440116243", "5000400440116243"),
            ("FI2112345600000785", "2112345600000785"),
            ("NO9386011117947", "9386011117947"),
            ("BE68539007547034", "68539007547034"),
            ("AT611904300234573201", "611904300234573201"),
            ("EE382200221020145685", "382200221020145685"),
            ("HR1210010051863000160", "1210010051863000160"),
            ("GB29NWBK60161331926819", "60161331926819"),
        ] {
            assert!(is_hidden(text, digits), "{text}");
            assert!(is_hidden(&format!("\"{text}\""), digits), "{text}");
        }
    }
}
