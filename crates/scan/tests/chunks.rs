//! However a stream is cut, the findings and their offsets are those of the whole.

#[cfg(test)]
mod chunks {
    use cordon_card::Token;
    use cordon_scan::{Finding, Scanner, scan};
    use proptest::prelude::*;

    fn in_chunks<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut scanner = Scanner::default();
        for chunk in chunks {
            scanner.feed(chunk, &mut |finding| all.push(finding));
        }
        scanner.finish(&mut |finding| all.push(finding));
        all
    }

    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|place| place % (bytes.len() + 1)).collect();
        places.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for place in places {
            chunks.push(&bytes[from..place]);
            from = place;
        }
        chunks.push(&bytes[from..]);
        chunks
    }

    /// Pieces that exercise each rule, its beginnings and its near misses.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let fixed = prop::sample::select(vec![
            "4111111111111111",
            "4111 1111 1111 1111",
            "3782-822463-10005",
            "4 2 2 2 2 2 2 2 2 2 2 2 2",
            "4\u{200b}111111111111111",
            "\u{664}\u{661}\u{661}\u{661}111111111111",
            "\u{1d7d2}111111111111111",
            "\u{ff14}\u{ff11}11\u{2011}1111\u{2011}1111\u{2011}1111",
            "6f9619ff-8b86-4011-b42d-676774000004",
            "deadbeefdeadbeef4111111111111111",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-4111111111111111-01",
            "0.4111111111111111",
            "12345678901234567890123",
            "tok_live_424242424242424242424242424242",
            "\"number\":",
            "2026-11-22 20:39:00",
            " ",
            "-",
            ".",
            "\n",
            "x",
            "1111",
            "\u{fe0f}",
            "\u{4e00}",
        ]);
        prop_oneof![
            8 => fixed.prop_map(|text| text.as_bytes().to_vec()),
            2 => any::<[u8; 17]>().prop_map(|entropy| {
                Token::opaque(cordon_card::Environment::Live, &entropy).as_str().as_bytes().to_vec()
            }),
            1 => prop::collection::vec(any::<u8>(), 0..8),
            1 => (0_usize..900).prop_map(|count| vec![b'1'; count]),
            1 => (0_usize..900).prop_map(|count| vec![b'a'; count]),
            1 => (0_usize..40).prop_map(|count| "\u{200b}".repeat(count).into_bytes()),
        ]
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_findings(bytes in stream(), cuts in prop::collection::vec(any::<usize>(), 0..40)) {
            prop_assert_eq!(in_chunks(cut(&bytes, &cuts).into_iter()), scan(&bytes));
        }

        #[test]
        fn even_chunks_give_the_same_findings(bytes in stream(), size in 1_usize..3000) {
            prop_assert_eq!(in_chunks(bytes.chunks(size)), scan(&bytes));
        }

        #[test]
        fn no_finding_starts_where_the_stream_was_settled(bytes in stream(), size in 1_usize..3000) {
            let mut scanner = Scanner::default();
            let mut fed = 0;
            for chunk in bytes.chunks(size) {
                let settled = scanner.settled();
                scanner.feed(chunk, &mut |finding| assert!(settled <= finding.start));
                fed += u64::try_from(chunk.len()).unwrap();
                prop_assert!(settled <= scanner.settled() && scanner.settled() <= fed);
                prop_assert!(fed - scanner.settled() < 1024);
            }
            let settled = scanner.settled();
            scanner.finish(&mut |finding| assert!(settled <= finding.start));
        }

        #[test]
        fn findings_are_in_order_and_apart(bytes in stream()) {
            let found = scan(&bytes);
            prop_assert!(found.iter().all(|finding| finding.start < finding.end));
            prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }

    #[test]
    fn single_bytes_give_the_same_findings() {
        let text = "a 4111 1111 1111 1111 b 378282246310005, \u{664}\u{661}11111111111111 ".repeat(150);
        assert_eq!(scan(text.as_bytes()).len(), 450);
        assert_eq!(in_chunks(text.as_bytes().chunks(1)), scan(text.as_bytes()));
    }

    #[test]
    fn a_number_at_every_place_of_a_cut_is_found() {
        for before in 0..2000 {
            let text = [&vec![b'x'; before][..], b"\"4111 1111 1111 1111\"", &[b'y'; 900]].concat();
            let chunks = text.chunks(1000);
            let start = u64::try_from(before + 1).unwrap();
            assert_eq!(in_chunks(chunks).iter().map(|finding| finding.start).collect::<Vec<_>>(), [start]);
        }
    }

    #[test]
    fn nothing_and_empty_chunks_give_nothing() {
        assert_eq!(in_chunks([].into_iter()), []);
        assert_eq!(in_chunks([&b""[..], b"", b"4111", b"", b"111111111111"].into_iter()).len(), 1);
    }

    #[test]
    fn offsets_count_from_the_start_of_the_stream() {
        let mut text = "clean text without numbers, ".repeat(5000);
        let start = u64::try_from(text.len()).unwrap();
        text.push_str("4111111111111111");
        let found = in_chunks(text.as_bytes().chunks(16 * 1024));
        assert_eq!(
            found.iter().map(|finding| (finding.start, finding.end)).collect::<Vec<_>>(),
            [(start, start + 16)]
        );
    }

    #[test]
    fn debug_shows_nothing_of_what_is_held() {
        let mut scanner = Scanner::default();
        scanner.feed(b"4111111111111111", &mut |_| ());
        assert_eq!(format!("{scanner:?}"), "Scanner");
    }
}
