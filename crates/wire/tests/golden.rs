//! The exact JSON of the API's types: a change here is a change of the wire format.

#[cfg(test)]
mod golden {
    use cordon_card::{CardId, Cvv, Environment, Expiry, Pan, Token};
    use cordon_wire::{
        Delivery, DetokenizeItem, DetokenizeRequest, InitResponse, IssuedShare, ItemResult, Items, Problem,
        ProblemCode, Revealed, SealKind, SealState, SealStatus, SettleRequest, Settled, ShareText, Submitted,
        TokenProfile, TokenizeItem, TokenizeRequest, Tokenized,
    };
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    const VISA: &str = "4111111111111111";

    fn json(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn token() -> Token {
        Token::opaque(Environment::Dev, &[0; 17])
    }

    #[test]
    fn a_tokenize_request_is_written_and_read_as_documented() {
        let item = TokenizeItem {
            pan: Pan::parse(VISA).unwrap().into(),
            expiry: Some(Expiry::parse("12/30").unwrap().into()),
            cvv: Some(Cvv::parse("123").unwrap().into()),
            metadata: None,
        };
        let text = json(&TokenizeRequest { items: vec![item] });
        assert_eq!(text, r#"{"items":[{"pan":"4111111111111111","expiry":"2030-12","cvv":"123"}]}"#);
        let back: TokenizeRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(json(&back), text);
    }

    #[test]
    fn a_value_of_another_type_spoils_its_item_only() {
        let text = r#"{"items":[{"pan":4111111111111111},{"pan":null},{"pan":true},{"pan":1.5},{"pan":"x"},
            {"pan":"4111 1111 1111 1111"}]}"#;
        let request: TokenizeRequest = serde_json::from_str(text).unwrap();
        let codes: Vec<_> = request.items.into_iter().map(|item| item.pan.into_result().err()).collect();
        let bad = Some(ProblemCode::BadPan);
        assert_eq!(codes, [bad, bad, bad, bad, bad, None]);
    }

    #[test]
    fn unknown_fields_are_refused_and_no_error_repeats_a_value() {
        for text in [
            r#"{"items":[{"pan":"4111111111111111","persist_cvv":true}]}"#,
            r#"{"items":[{"pan":"4111111111111111","metadata":{"a":4111111111111111}}]}"#,
            r#"{"items":[{"pan":["4111111111111111"]}]}"#,
        ] {
            let result: Result<TokenizeRequest, _> = serde_json::from_str(text);
            assert!(result.is_err(), "{text}");
        }
    }

    #[test]
    fn answers_carry_one_result_per_item() {
        let done = Tokenized {
            token: token(),
            card_id: CardId::from_bytes([0; 16]),
            brand: Pan::parse(VISA).unwrap().brand(),
            last_four: Pan::parse(VISA).unwrap().last_four(),
        };
        let items = vec![ItemResult::Ok(done.clone()), ItemResult::Error(ProblemCode::BadPan.into())];
        let text = json(&Items { items });
        let wanted = format!(
            r#"{{"items":[{{"ok":{{"token":"{}","card_id":"{}","brand":"visa","last_four":"1111"}}}},{{"error":{{"code":"bad-pan","status":422,"title":"The card number is not valid."}}}}]}}"#,
            done.token, done.card_id
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_reveal_names_who_where_and_why() {
        let request = DetokenizeRequest {
            service: "signup".to_owned(),
            destination: "processor".to_owned(),
            purpose: "charge".to_owned(),
            route: "charge".to_owned(),
            items: vec![DetokenizeItem { token: token().into(), cvv: false }],
        };
        let wanted = format!(
            r#"{{"service":"signup","destination":"processor","purpose":"charge","route":"charge","items":[{{"token":"{}"}}]}}"#,
            token()
        );
        assert_eq!(json(&request), wanted);
        let card =
            Revealed { pan: Pan::parse(VISA).unwrap().into(), expiry: None, cvv: None, code_held: false };
        assert_eq!(json(&card), r#"{"pan":"4111111111111111"}"#);
        let waiting = Revealed { code_held: true, ..card };
        assert_eq!(json(&waiting), r#"{"pan":"4111111111111111","code_held":true}"#);
    }

    #[test]
    fn settling_names_the_reveal_and_answers_the_token_alone() {
        let request = SettleRequest {
            service: "signup".to_owned(),
            destination: "processor".to_owned(),
            purpose: "charge".to_owned(),
            route: "charge".to_owned(),
            items: vec![token().into()],
        };
        let wanted = format!(
            r#"{{"service":"signup","destination":"processor","purpose":"charge","route":"charge","items":["{}"]}}"#,
            token()
        );
        assert_eq!(json(&request), wanted);
        assert_eq!(json(&Settled { token: token() }), format!(r#"{{"token":"{}"}}"#, token()));
    }

    #[test]
    fn a_code_that_is_gone_is_410_for_the_item_and_the_call() {
        let item = ItemResult::<Revealed>::Error(ProblemCode::CodeGone.into());
        assert!(json(&item).starts_with(r#"{"error":{"code":"code-gone","status":410,"title":"#));
        assert_eq!(Problem::new(ProblemCode::CodeGone, "abc", None).status, 410);
    }

    #[test]
    fn every_problem_has_its_own_code_and_an_error_status() {
        let problem = Problem::new(ProblemCode::LeakBlocked, "abc", None);
        assert_eq!(
            json(&problem),
            r#"{"type":"https://cordon.invalid/problems/leak-blocked","title":"A card number stands outside the declared fields; nothing was forwarded.","status":422,"code":"leak-blocked","instance":"urn:cordon:request:abc"}"#
        );
        for code in [
            ProblemCode::Malformed,
            ProblemCode::Sealed,
            ProblemCode::Internal,
            ProblemCode::Gone,
            ProblemCode::CodeGone,
            ProblemCode::MetadataForbidden,
            ProblemCode::LimitReached,
            ProblemCode::RestoreNotAccepted,
            ProblemCode::NotACustodian,
        ] {
            assert!((400..600).contains(&code.status()));
            assert_eq!(json(&code), format!("\"{}\"", code.as_str()));
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let pan: Submitted<Pan> = Pan::parse(VISA).unwrap().into();
        assert!(!format!("{pan:?}").contains("411111"));
        let share = ShareText::new(Zeroizing::new("cordon-share-v1-secret".to_owned()));
        assert_eq!(format!("{share:?}"), "ShareText(***)");
        let status = SealStatus {
            state: SealState::Sealed,
            environment: Environment::Dev,
            seal: Some(SealKind::Shamir),
            key: None,
            threshold: Some(3),
            shares: Some(5),
            progress: 0,
        };
        let answer = InitResponse {
            shares: vec![IssuedShare {
                number: 1,
                custodian: "custodian-1".into(),
                delivery: Delivery::Text(share),
            }],
            status,
        };
        assert!(!format!("{answer:?}").contains("secret"));
    }

    #[test]
    fn the_default_profile_is_opaque_and_multi_use() {
        let text = json(&TokenProfile::default());
        assert_eq!(text, r#"{"shape":"opaque","keep_last_four":false,"use":"multi"}"#);
    }

    proptest! {
        #[test]
        fn any_string_is_a_valid_or_an_invalid_value_and_never_an_error(text in "\\PC{0,40}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let value: Submitted<Pan> = serde_json::from_str(&quoted).unwrap();
            match value.into_result() {
                Ok(pan) => prop_assert_eq!(pan.expose().len(), pan.len()),
                Err(code) => prop_assert_eq!(code, ProblemCode::BadPan),
            }
        }
    }
}
