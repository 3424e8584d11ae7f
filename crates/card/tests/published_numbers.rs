//! The published test numbers, all of them: parsed, branded, truncated, and plausible to a scanner.
//!
//! The numbers are data (`tests/data/test_pans.csv`), shared with the scanner's tests.

#[cfg(test)]
mod published {
    use cordon_card::{Brand, Pan, PanError, Truncation, plausible};

    const NUMBERS: &str = include_str!("data/test_pans.csv");

    struct Row<'a> {
        number: &'a str,
        brand: &'a str,
        length: usize,
    }

    fn rows() -> Vec<Row<'static>> {
        let row = |line: &'static str| {
            let mut cells = line.splitn(4, ',');
            Row {
                number: cells.next().unwrap(),
                brand: cells.next().unwrap(),
                length: cells.next().unwrap().parse().unwrap(),
            }
        };
        NUMBERS.lines().skip(1).map(row).collect()
    }

    fn valid() -> Vec<Row<'static>> {
        rows().into_iter().filter(|row| !row.brand.starts_with("INVALID")).collect()
    }

    /// The list says more than the brand: the product, the country, or the scheme a card is co-badged with.
    fn brand_of(listed: &str) -> Brand {
        match listed {
            "cartes bancaires" | "mada" => Brand::Visa,
            "bc/discover" => Brand::Discover,
            _ => listed.split(' ').next().unwrap().parse().unwrap(),
        }
    }

    #[test]
    fn the_list_is_whole() {
        assert_eq!(rows().len(), 94);
        assert_eq!(valid().len(), 93);
    }

    #[test]
    fn the_number_with_a_wrong_check_digit_is_refused() {
        let wrong: Vec<_> = rows().into_iter().filter(|row| row.brand.starts_with("INVALID")).collect();
        assert_eq!(wrong.len(), 1);
        for row in wrong {
            assert!(matches!(Pan::parse(row.number), Err(PanError::CheckDigit)));
            assert_eq!(plausible(row.number.as_bytes()), None);
        }
    }

    #[test]
    fn every_valid_number_is_read() {
        for row in valid() {
            let pan = Pan::parse(row.number).unwrap();
            assert_eq!(pan.expose(), row.number);
            assert_eq!(pan.len(), row.length);
            assert_eq!(Pan::from_ascii_digits(row.number.as_bytes()).unwrap().expose(), row.number);
        }
    }

    #[test]
    fn every_valid_number_has_the_listed_brand_and_length() {
        for row in valid() {
            let brand = brand_of(row.brand);
            assert_eq!(Pan::parse(row.number).unwrap().brand(), brand, "{} {}", row.number, row.brand);
            assert!(brand.has_length(row.length), "{} {}", row.number, row.brand);
        }
    }

    #[test]
    fn every_valid_number_is_plausible_with_its_brand() {
        for row in valid() {
            assert_eq!(plausible(row.number.as_bytes()), Some(brand_of(row.brand)), "{}", row.number);
        }
    }

    #[test]
    fn no_truncation_shows_more_than_allowed() {
        for row in valid() {
            let pan = Pan::parse(row.number).unwrap();
            for keep in [Truncation::LastFour, Truncation::SixAndFour, Truncation::EightAndFour] {
                let text = pan.truncated(keep).to_string();
                assert_eq!(text.len(), row.length);
                assert!(
                    row.number.ends_with(pan.last_four().as_str())
                        && text.ends_with(pan.last_four().as_str())
                );
                assert!(text.bytes().filter(|byte| *byte == b'*').count() >= 4);
                assert_eq!(text.parse(), Ok(pan.truncated(keep)));
            }
        }
    }

    #[test]
    fn no_error_and_no_debug_text_holds_digits() {
        for row in rows() {
            let text = match Pan::parse(row.number) {
                Ok(pan) => format!("{pan:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            assert!(digits <= 4, "{text}");
        }
    }
}
