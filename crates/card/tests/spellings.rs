//! How people write a number: groups, separators, scripts, invisible characters. All are one number.

#[cfg(test)]
mod spellings {
    use cordon_card::digits::{Mark, classify};
    use cordon_card::{MAX_LENGTH, MIN_LENGTH, Pan, PanError, luhn_is_valid};
    use proptest::prelude::*;

    fn zeros() -> Vec<char> {
        let is_zero = |character: &char| classify(*character) == Mark::Digit(0);
        ('\0'..=char::MAX).filter(is_zero).collect()
    }

    fn in_script(number: &str, zero: char) -> String {
        let shift = |digit: char| char::from_u32(u32::from(zero) + digit.to_digit(10).unwrap()).unwrap();
        number.chars().map(shift).collect()
    }

    fn of_kind(wanted: fn(Mark) -> bool) -> Vec<char> {
        ('\0'..=char::MAX).filter(|character| wanted(classify(*character))).collect()
    }

    #[test]
    fn every_script_reads_the_same() {
        assert_eq!(zeros().len(), 77);
        for zero in zeros() {
            let pan = Pan::parse(&in_script("4111111111111111", zero)).unwrap();
            assert_eq!(pan.expose(), "4111111111111111");
        }
    }

    #[test]
    fn scripts_may_be_mixed() {
        assert_eq!(Pan::parse("\u{664}11111111111111\u{ff11}").unwrap().expose(), "4111111111111111");
    }

    #[test]
    fn every_separator_reads_the_same() {
        for separator in of_kind(|mark| matches!(mark, Mark::Separator(_))) {
            let text = ["4111", "1111", "1111", "1111"].join(&separator.to_string());
            assert_eq!(Pan::parse(&text).unwrap().expose(), "4111111111111111");
        }
    }

    #[test]
    fn every_invisible_character_is_skipped() {
        for ignorable in of_kind(|mark| mark == Mark::Ignorable) {
            let text = ["41", "11111111111", "111"].join(&ignorable.to_string());
            assert_eq!(Pan::parse(&text).unwrap().expose(), "4111111111111111");
        }
    }

    #[test]
    fn white_space_around_is_skipped() {
        assert_eq!(Pan::parse("\t 4111 1111 1111 1111\r\n").unwrap().expose(), "4111111111111111");
    }

    #[test]
    fn characters_that_only_look_like_digits_are_refused() {
        for stranger in ['\u{b2}', '\u{2460}', 'O', 'l', '\u{4e00}'] {
            let text = format!("411111111111111{stranger}");
            assert!(matches!(Pan::parse(&text), Err(PanError::Character)));
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_a_checked_number(text in "[0-9 .\\-\u{a0}\u{660}-\u{669}\u{200b}]{0,40}") {
            if let Ok(pan) = Pan::parse(&text) {
                prop_assert!((MIN_LENGTH..=MAX_LENGTH).contains(&pan.len()));
                prop_assert!(luhn_is_valid(pan.expose().as_bytes()));
                let again = Pan::from_ascii_digits(pan.expose().as_bytes()).unwrap();
                prop_assert_eq!(again.expose(), pan.expose());
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            prop_assert!(Pan::parse(&text).is_err() || text.chars().count() >= MIN_LENGTH);
        }
    }
}
