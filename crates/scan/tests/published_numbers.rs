//! Every published test number is found, however it is written and whatever is around it.

#[cfg(test)]
mod published {
    use cordon_card::Pan;
    use cordon_card::digits::{Mark, Separator, classify};
    use cordon_scan::{Finding, first, scan};

    const NUMBERS: &str = include_str!("../../card/tests/data/test_pans.csv");

    fn numbers() -> Vec<&'static str> {
        let lines = NUMBERS.lines().skip(1).filter(|line| !line.contains("INVALID"));
        lines.map(|line| line.split(',').next().unwrap()).collect()
    }

    fn of_kind(wanted: impl Fn(Mark) -> bool) -> Vec<char> {
        ('\0'..=char::MAX).filter(|character| wanted(classify(*character))).collect()
    }

    fn grouped(number: &str, sizes: &[usize], separator: &str) -> String {
        let mut rest = number;
        let mut parts = Vec::new();
        for size in sizes {
            let (part, after) = rest.split_at(*size);
            parts.push(part);
            rest = after;
        }
        assert_eq!(rest, "");
        parts.join(separator)
    }

    /// How cards of each length are printed.
    fn groupings(length: usize) -> Vec<Vec<usize>> {
        match length {
            13 => vec![vec![4, 4, 4, 1], vec![4, 3, 3, 3]],
            14 => vec![vec![4, 6, 4], vec![4, 4, 4, 2]],
            15 => vec![vec![4, 6, 5], vec![4, 5, 6], vec![4, 4, 4, 3]],
            16 => vec![vec![4, 4, 4, 4]],
            18 => vec![vec![4, 4, 4, 4, 2]],
            19 => vec![vec![4, 4, 4, 4, 3], vec![6, 13]],
            _ => Vec::new(),
        }
    }

    fn assert_found(text: &str, written: &str, number: &str) {
        let start = text.find(written).unwrap();
        let pan = Pan::parse(number).unwrap();
        let wanted = Finding {
            start: u64::try_from(start).unwrap(),
            end: u64::try_from(start + written.len()).unwrap(),
            brand: pan.brand(),
            masked: pan.truncated(cordon_card::Truncation::LastFour),
        };
        assert_eq!(first(text.as_bytes()).as_ref(), Some(&wanted), "{text}");
        assert_eq!(scan(text.as_bytes()), [wanted], "{text}");
    }

    #[test]
    fn the_number_with_a_wrong_check_digit_is_not_found() {
        assert_eq!(scan(b"4242424242424241"), []);
    }

    #[test]
    fn all_are_found_plain_and_in_context() {
        assert_eq!(numbers().len(), 93);
        for number in numbers() {
            for (before, after) in [
                ("", ""),
                ("{\"card\":{\"number\":\"", "\",\"cvc\":\"123\"}}"),
                ("{\"number\":", ",\"id\":17}"),
                ("pan", ""),
                ("card_", "_end"),
                ("", "USD"),
                (";", "=26122010000000000?"),
                ("%B", "^HOLDER/CARD^2612101"),
                ("number=", "&cvv=123"),
                ("/cards/", "/charges"),
                ("<pan>", "</pan>"),
                ("\u{5361}\u{53f7}", "\u{53f7}"),
                ("12345,", ",67890"),
                ("first\n", "\n1234"),
                ("-", "-"),
                ("", ".00"),
                ("", " 123"),
                ("", " 12/26 123"),
                ("17 ", ""),
                ("\u{feff}", "\0"),
            ] {
                let text = [before, number, after].concat();
                assert_found(&text, number, number);
            }
        }
    }

    #[test]
    fn all_are_found_in_groups_with_every_separator() {
        for separator in of_kind(|mark| matches!(mark, Mark::Separator(_))) {
            for number in numbers() {
                for sizes in groupings(number.len()) {
                    let written = grouped(number, &sizes, &separator.to_string());
                    assert_found(&format!("pan: {written}, thanks"), &written, number);
                    assert_eq!(Pan::parse(&written).unwrap().expose(), number);
                }
            }
        }
    }

    #[test]
    fn all_are_found_with_spaces_around_dashes_and_dots() {
        for separator in [" - ", " -", "- ", " . ", "  ", "\u{a0}\u{2013}\u{a0}"] {
            for number in numbers() {
                for sizes in groupings(number.len()) {
                    let written = grouped(number, &sizes, separator);
                    assert_found(&format!("pan: {written}, thanks"), &written, number);
                }
            }
        }
    }

    #[test]
    fn all_are_found_digit_by_digit() {
        for number in numbers() {
            for separator in [" ", "-"] {
                let written = grouped(number, &vec![1; number.len()], separator);
                assert_found(&format!("pan: {written}, thanks"), &written, number);
            }
        }
    }

    #[test]
    fn all_are_found_in_every_script() {
        for zero in of_kind(|mark| mark == Mark::Digit(0)) {
            let shift = |digit: char| char::from_u32(u32::from(zero) + digit.to_digit(10).unwrap()).unwrap();
            for number in numbers() {
                let written: String = number.chars().map(shift).collect();
                assert_found(&format!("pan: {written}, thanks"), &written, number);
            }
        }
    }

    #[test]
    fn all_are_found_with_invisible_characters_between_digits() {
        for ignorable in of_kind(|mark| mark == Mark::Ignorable).into_iter().step_by(37) {
            for number in numbers() {
                let written = grouped(number, &vec![1; number.len()], &ignorable.to_string());
                assert_found(&format!("pan: {written}, thanks"), &written, number);
            }
        }
    }

    #[test]
    fn keycap_digits_are_found() {
        let written: String =
            "4111111111111111".chars().map(|digit| format!("{digit}\u{fe0f}\u{20e3}")).collect();
        let found = scan(written.as_bytes());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].masked.as_str(), "************1111");
    }

    #[test]
    fn several_are_found_in_order() {
        let separators = [" ", ",", "\n", "-", "\":\"", "x"];
        for separator in separators {
            let text = numbers().join(separator);
            let found = scan(text.as_bytes());
            assert_eq!(found.len(), 93, "{separator}");
            assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    #[test]
    fn grouped_numbers_in_a_row_are_each_found() {
        let found = scan(b"4111 1111 1111 1111 5555 5555 5555 4444 3782 822463 10005");
        let masked: Vec<&str> = found.iter().map(|finding| finding.masked.as_str()).collect();
        assert_eq!(masked, ["************1111", "************4444", "***********0005"]);
    }

    #[test]
    fn rows_that_lead_to_a_number_do_not_hide_it() {
        for (text, start, end) in [
            ("1234 4111 1111 1111 1111", 5, 24),
            ("123456 1234 4111 1111 1111 1111", 12, 31),
            ("1 2 3 4111 1111 1111 1111", 6, 25),
            ("1 2 3 4111111111111111", 6, 22),
            ("1-4 2 2 2 2 2 2 2 2 2 2 2 2", 2, 27),
            ("1.2.3-4 2 2 2 2 2 2 2 2 2 2 2 2", 6, 31),
            ("00000000000000000000 4111111111111111", 21, 37),
        ] {
            let found = scan(text.as_bytes());
            let places: Vec<_> = found.iter().map(|finding| (finding.start, finding.end)).collect();
            assert_eq!(places, [(start, end)], "{text}");
        }
    }

    #[test]
    fn a_number_of_the_least_length_is_found_at_the_very_end() {
        // The published Maestro number with four of its zeros left out.
        for (before, written) in [("", "630400000000"), ("x ", "630400000000"), ("x", "6304 0000 0000")] {
            assert_found(&[before, written].concat(), written, "630400000000");
        }
    }

    #[test]
    fn of_two_that_start_together_the_longer_is_reported() {
        // The number with two zeros appended has a length of the brand and a right check digit, too.
        let found = scan(b"4111 1111 1111 1111 00");
        assert_eq!(found.iter().map(|finding| (finding.start, finding.end)).collect::<Vec<_>>(), [(0, 22)]);
    }

    #[test]
    fn the_dot_family_is_known_to_both_sides() {
        assert_eq!(classify('.'), Mark::Separator(Separator::Dot));
        assert_found("4111.1111.1111.1111", "4111.1111.1111.1111", "4111111111111111");
    }
}
