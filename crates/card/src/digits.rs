//! What a character means inside a written number: a digit, a separator, something invisible, or the end of it.
//!
//! This is the only such table: [`crate::Pan::parse`] and the scanner both read it, so a number that one of them
//! accepts is never spelled in a way the other one does not know.
//! Must never treat a line break, a tab or JSON punctuation as part of a number.
//! Tests: at the end of this file.

/// What one character contributes to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A decimal digit of any script, as its value 0 to 9.
    Digit(u8),
    /// A character that people put between groups of digits.
    Separator(Separator),
    /// A character without width or meaning: it neither joins nor parts.
    Ignorable,
    /// Anything else: ends a number.
    Other,
}

/// The families of separators; within one number a person uses one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// Spaces of any width, breaking or not. Not the tab, not a line break.
    Space,
    /// Hyphens, dashes and the minus sign.
    Dash,
    /// Full stops, bullets and middle dots.
    Dot,
}

/// Classifies one character.
#[must_use]
pub fn classify(character: char) -> Mark {
    match character {
        '0'..='9' => Mark::Digit(ascii_value(character)),
        ' ' => Mark::Separator(Separator::Space),
        '-' => Mark::Separator(Separator::Dash),
        '.' => Mark::Separator(Separator::Dot),
        '\0'..='\x7f' => Mark::Other,
        // Most letters of most languages, ahead of the search below, which is slow.
        '\u{c0}'..='\u{2ff}' | '\u{370}'..='\u{57f}' | '\u{620}'..='\u{65f}' | '\u{3165}'..='\u{9fff}' => {
            Mark::Other
        }
        _ => classify_beyond_ascii(character),
    }
}

/// The value of a decimal digit of any script (general category Nd), or nothing.
#[must_use]
pub fn value(character: char) -> Option<u8> {
    match classify(character) {
        Mark::Digit(value) => Some(value),
        Mark::Separator(_) | Mark::Ignorable | Mark::Other => None,
    }
}

fn ascii_value(character: char) -> u8 {
    u8::try_from(character).map_or(0, |byte| byte.wrapping_sub(b'0'))
}

fn classify_beyond_ascii(character: char) -> Mark {
    if let Some(value) = script_digit(character) {
        return Mark::Digit(value);
    }
    match character {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            Mark::Separator(Separator::Space)
        }
        '\u{58a}'
        | '\u{1806}'
        | '\u{2010}'..='\u{2015}'
        | '\u{2043}'
        | '\u{2212}'
        | '\u{fe58}'
        | '\u{fe63}'
        | '\u{ff0d}' => Mark::Separator(Separator::Dash),
        '\u{b7}' | '\u{2022}' | '\u{2024}' | '\u{2027}' | '\u{2219}' | '\u{22c5}' | '\u{30fb}'
        | '\u{ff0e}' | '\u{ff65}' => Mark::Separator(Separator::Dot),
        // Default ignorable code points, and the combining marks that strike out or box a digit.
        '\u{ad}'
        | '\u{300}'..='\u{36f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{20d0}'..='\u{20f0}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => Mark::Ignorable,
        _ => Mark::Other,
    }
}

fn script_digit(character: char) -> Option<u8> {
    let code = u32::from(character);
    let next = ZEROS.partition_point(|zero| *zero <= code);
    let zero = ZEROS.get(next.checked_sub(1)?)?;
    u8::try_from(code.checked_sub(*zero)?).ok().filter(|value| *value < 10)
}

/// The code point of zero of each run of ten decimal digits (Unicode 17.0, general category Nd), in order.
const ZEROS: [u32; 77] = [
    0x0030, 0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30,
    0x10d40, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0,
    0x116da, 0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50, 0x11d50, 0x11da0, 0x11de0, 0x11f50, 0x16130,
    0x16a60, 0x16ac0, 0x16b50, 0x16d70, 0x1ccf0, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140,
    0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

#[cfg(test)]
mod tests {
    use super::{Mark, Separator, ZEROS, classify, classify_beyond_ascii, value};

    /// "Total code points" of Nd in DerivedGeneralCategory-17.0.0.txt: the 760 of version 16.0 and Tolong Siki.
    const PUBLISHED_COUNT: usize = 770;

    #[test]
    fn every_published_decimal_digit_is_known() {
        let known = ('\0'..=char::MAX).filter(|character| value(*character).is_some()).count();
        assert_eq!(known, PUBLISHED_COUNT);
        assert_eq!(ZEROS.len() * 10, PUBLISHED_COUNT);
        assert!(ZEROS.windows(2).all(|pair| pair[0] + 10 <= pair[1]), "runs overlap or are out of order");
    }

    #[test]
    fn the_shortcut_for_letters_agrees_with_the_search() {
        for character in '\u{80}'..=char::MAX {
            assert_eq!(
                classify(character),
                classify_beyond_ascii(character),
                "U+{:04X}",
                u32::from(character)
            );
        }
    }

    #[test]
    fn the_standard_library_agrees_that_each_is_a_number() {
        for character in ('\0'..=char::MAX).filter(|character| value(*character).is_some()) {
            assert!(character.is_numeric(), "U+{:04X}", u32::from(character));
        }
    }

    #[test]
    fn digits_keep_their_value() {
        for (text, wanted) in [
            ("\u{660}\u{669}", [0, 9]),
            ("\u{966}\u{96f}", [0, 9]),
            ("\u{ff11}\u{ff18}", [1, 8]),
            ("\u{1d7ce}\u{1d7d7}", [0, 9]),
            ("\u{1d7d8}\u{1d7ff}", [0, 9]),
            ("\u{19d0}\u{19d9}", [0, 9]),
            ("\u{1e5f1}\u{1e5fa}", [0, 9]),
        ] {
            let values: Vec<u8> = text.chars().filter_map(value).collect();
            assert_eq!(values, wanted);
        }
    }

    #[test]
    fn numbers_that_are_not_decimal_digits_are_other() {
        for character in ['\u{b2}', '\u{2074}', '\u{2460}', '\u{19da}', '\u{4e00}', '\u{2167}', '\u{bd}'] {
            assert_eq!(classify(character), Mark::Other);
        }
    }

    #[test]
    fn line_breaks_tabs_and_punctuation_end_a_number() {
        for character in "\n\r\t\u{b}\u{c}\u{85}\u{2028}\u{2029}\0,;:\"'[]{}()/\\=&|_+*".chars() {
            assert_eq!(classify(character), Mark::Other, "U+{:04X}", u32::from(character));
        }
    }

    #[test]
    fn separators_and_invisible_characters_are_known() {
        assert_eq!(classify('\u{a0}'), Mark::Separator(Separator::Space));
        assert_eq!(classify('\u{2011}'), Mark::Separator(Separator::Dash));
        assert_eq!(classify('\u{2212}'), Mark::Separator(Separator::Dash));
        assert_eq!(classify('\u{ff0e}'), Mark::Separator(Separator::Dot));
        for character in ['\u{ad}', '\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{fe0f}', '\u{20e3}'] {
            assert_eq!(classify(character), Mark::Ignorable, "U+{:04X}", u32::from(character));
        }
    }
}
