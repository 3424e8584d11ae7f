//! What is no card number is not found: ids, clocks, our own tokens, numbers in tables.
//!
//! Random material comes from a fixed generator, so that each run tests the same.

#[cfg(test)]
mod lookalikes {
    use cordon_card::{Environment, LastFour, Token, TokenShape};
    use cordon_scan::scan;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }

        fn bytes<const N: usize>(&mut self) -> [u8; N] {
            let mut bytes = [0; N];
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
            }
            bytes
        }

        fn within(&mut self, low: u64, high: u64) -> u64 {
            low + self.next() % (high - low)
        }
    }

    fn assert_none(texts: impl Iterator<Item = String>) {
        let found: Vec<String> = texts.filter(|text| !scan(text.as_bytes()).is_empty()).collect();
        assert!(found.is_empty(), "{} found, first {:?}", found.len(), found.first());
    }

    const MILLION: usize = 1_000_000;

    #[test]
    fn a_million_random_uuids_with_hyphens_are_not_found() {
        let mut random = Random(1);
        assert_none((0..MILLION).map(|_| {
            let uuid = uuid::Builder::from_random_bytes(random.bytes()).into_uuid();
            uuid.hyphenated().to_string()
        }));
    }

    #[test]
    fn a_million_random_uuids_without_hyphens_are_not_found() {
        let mut random = Random(2);
        assert_none((0..MILLION).map(|place| {
            let uuid = uuid::Builder::from_random_bytes(random.bytes()).into_uuid();
            let text = uuid.simple().to_string();
            if place % 2 == 0 { text } else { text.to_ascii_uppercase() }
        }));
    }

    #[test]
    fn uuids_in_urls_and_json_are_not_found() {
        let mut random = Random(3);
        assert_none((0..20_000).map(|_| {
            let uuid = uuid::Builder::from_random_bytes(random.bytes()).into_uuid();
            format!("{{\"id\":\"{uuid}\",\"url\":\"/v1/orders/{}?t=urn:uuid:{uuid}\"}}", uuid.simple())
        }));
    }

    #[test]
    fn trace_ids_object_ids_and_digests_are_not_found() {
        let mut random = Random(4);
        assert_none((0..100_000).map(|_| {
            let hex: String = random.bytes::<64>().iter().map(|byte| format!("{byte:02x}")).collect();
            let cut = |length| hex.get(..length).unwrap();
            format!(
                "00-{}-{}-01 {} {} {}",
                cut(32),
                hex.get(64..80).unwrap(),
                hex.get(80..104).unwrap(),
                cut(40),
                cut(64)
            )
        }));
    }

    /// 9 September 2001 to 18 May 2033: the seconds that start with 1 and have ten digits. Later clocks in
    /// microseconds and nanoseconds share their prefix with brands; see the crate page.
    const CLOCK: (u64, u64) = (1_000_000_000, 2_000_000_000);

    #[test]
    fn a_million_clocks_in_all_units_are_not_found() {
        let mut random = Random(5);
        assert_none((0..MILLION / 5).map(|_| {
            let seconds = random.within(CLOCK.0, CLOCK.1);
            let fraction = random.within(0, 1_000_000_000);
            let (millis, micros) = (fraction / 1_000_000, fraction / 1000);
            format!(
                "{seconds} {seconds}{millis:03},{seconds}{micros:06}:{seconds}{fraction:09};\
                 {seconds}.{fraction:09}|{seconds}.{micros:06}"
            )
        }));
    }

    #[test]
    fn seconds_of_the_whole_century_are_not_found() {
        assert_none((978_307_200_u64..4_102_444_800).step_by(99_991).map(|seconds| format!("{seconds}")));
    }

    #[test]
    fn written_dates_of_the_whole_century_are_not_found() {
        let mut random = Random(6);
        assert_none((0..100_000).map(|_| {
            let (year, month, day) = (random.within(2001, 2101), random.within(1, 13), random.within(1, 29));
            let (hour, minute, second) = (random.within(0, 24), random.within(0, 60), random.within(0, 60));
            let nanos = random.within(0, 1_000_000_000);
            let date = format!("{year}-{month:02}-{day:02}");
            let bare = format!("{year}{month:02}{day:02}");
            let time = format!("{hour:02}:{minute:02}:{second:02}");
            let tight = format!("{hour:02}{minute:02}{second:02}");
            format!(
                "{date}T{time}.{nanos:09}Z {date} {time} {bare}T{tight}Z {bare}{tight}\n\
                 {bare}T{tight}.{nanos:09}+0000 {date}T{time}+02:00 {bare} {tight} {bare}-{tight}\n\
                 {day:02}.{month:02}.{year} {time} {date}-{hour:02}-{minute:02}-{second:02}"
            )
        }));
    }

    #[test]
    fn doubles_are_not_found() {
        let mut random = Random(7);
        assert_none((0..100_000).map(|_| {
            let unit = f64::from_bits(0x3ff0_0000_0000_0000 | (random.next() >> 12)) - 1.0;
            format!("{{\"score\":{unit},\"lat\":{},\"lon\":{}}}", unit * 180.0 - 90.0, unit * 360.0 - 180.0)
        }));
    }

    #[test]
    fn our_own_tokens_are_not_found() {
        let mut random = Random(8);
        let mut shapes = [0; 3];
        assert_none((0..100_000_u64).filter_map(|place| {
            let token = match place % 3 {
                0 => {
                    Token::opaque(Environment::ALL[usize::try_from(place % 9 / 3).unwrap()], &random.bytes())
                }
                1 => {
                    let length = usize::try_from(random.within(12, 20)).unwrap();
                    let keep = LastFour::parse(&format!("{:04}", random.within(0, 10_000))).unwrap();
                    Token::card(length, (place % 2 == 0).then_some(keep), &random.bytes()).unwrap()
                }
                _ => Token::uuid(&random.bytes())?,
            };
            shapes[match token.shape() {
                TokenShape::Opaque => 0,
                TokenShape::Card => 1,
                TokenShape::Uuid => 2,
            }] += 1;
            Some(format!("{token} \"{token}\" token={token}&x"))
        }));
        assert!(shapes.iter().all(|count| *count > 30_000), "{shapes:?}");
    }

    #[test]
    fn a_token_that_spells_a_card_is_not_found_unless_it_is_broken() {
        let mut entropy = [0; 17];
        entropy[..10].copy_from_slice(&[0xe6, 0xb9, 0xae, 0x6b, 0x9a, 0xe6, 0xb9, 0xae, 0x6b, 0x9a]);
        for environment in Environment::ALL {
            let token = Token::opaque(environment, &entropy);
            assert!(token.as_str().contains("4242424242424242"));
            assert_none(
                [format!("{token}"), format!("{{\"token\":\"{token}\"}}"), format!("x{token}x")].into_iter(),
            );
            assert_eq!(scan(token.as_str().replace("tok_", "tik_").as_bytes()).len(), 1);
        }
    }

    #[test]
    fn bank_accounts_are_not_found() {
        let mut random = Random(9);
        assert_none((0..50_000).map(|place| {
            // The check digits follow from the rest: 98 minus the remainder by 97 (ISO 13616).
            let (country, spelt) = [("DK", 1320), ("FI", 1518), ("FO", 1524), ("GL", 1621)][place % 4];
            let account = random.within(0, 100_000_000_000_000);
            let remainder = (u128::from(account) * 1_000_000 + spelt * 100) % 97;
            format!("{{\"iban\":\"{country}{:02}{account:014}\"}}", 98 - remainder)
        }));
    }

    #[test]
    fn named_cases_are_not_found() {
        for text in [
            // Two cells of a table, which an early scanner of another maker took for one number.
            "1234.5678,1234.5678",
            "4111.1111,1111.1111",
            "4111,1111,1111,1111",
            "4111\n1111\n1111\n1111",
            "4111\t1111\t1111\t1111",
            "4111 1111-1111 1111",
            "4111-1111.1111-1111",
            "[4111,1111,1111,1111]",
            "{\"a\":\"4111\",\"b\":\"1111\",\"c\":\"1111\",\"d\":\"1111\"}",
            "41 11 11 11 11 11 11 11",
            "411 111 111 111 111 1",
            // Longer rows of digits: no sliding inside.
            "41111111111111111111",
            "14111111111111111",
            "4111 11111 1111 1111 1111",
            "00004111111111111111",
            // SIM card, article, account and phone numbers.
            "8931440400000000009",
            "04006381333931",
            "DE89370400440532013000",
            "+49 30 901820 +1 415 555 0123",
            "100000000000009",
            "0.4111111111111111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "192.168.100.100",
            "",
            "4",
        ] {
            assert_eq!(scan(text.as_bytes()), [], "{text}");
        }
    }
}
