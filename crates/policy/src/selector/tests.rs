//! Tests of the selector reader: every refusal first, then the accepted forms of RFC 9535.

use proptest::prelude::*;

use super::*;

fn names(list: &[&str]) -> Vec<Pick> {
    list.iter().map(|name| Pick::Name((*name).to_owned())).collect()
}

fn refused(text: &str) -> SelectorError {
    JsonSelector::parse(text).unwrap_err()
}

#[test]
fn filters_are_refused_and_the_help_says_what_to_write() {
    for text in ["$.a[?@.b]", "$[?(@.b == 'x')]", "$..[?@ > 1]", "$.a['b', ?@.c]"] {
        let error = refused(text);
        assert!(error.message().contains("filter"), "{text}: {error}");
        assert!(error.help().contains("[*]"), "{text}: {error}");
    }
}

#[test]
fn slices_are_refused_and_the_help_says_what_to_write() {
    for text in ["$.a[0:2]", "$[:]", "$[::2]", "$..[1:]"] {
        let error = refused(text);
        assert!(error.message().contains("slice"), "{text}: {error}");
        assert!(error.help().contains("[0,1,2]"), "{text}: {error}");
    }
}

#[test]
fn an_index_from_the_end_is_refused() {
    let error = refused("$.cards[-1].number");
    assert!(error.message().contains("index -1"), "{error}");
}

#[test]
fn what_is_not_a_query_is_refused() {
    for text in
        ["", "card.number", "$.", "$..", "$[", "$.a b", "$['a'", "$.a[\"\u{1}\"]", "$.a[01]", "@.a", "$ .a x"]
    {
        assert!(JsonSelector::parse(text).is_err(), "{text}");
    }
    for text in ["$.a b", "$ .a", "$.a .b", "$.a\n.b", " $.a", "$.a "] {
        assert!(JsonSelector::parse(text).is_err(), "{text}");
    }
    assert!(JsonSelector::parse("$[ 'a b' , 0 ].c").is_ok());
    assert!(JsonSelector::parse("$['it\\'s [ b'].c d").is_err());
    assert!(refused("$").message().contains("whole document"));
    assert!(refused(&format!("${}", ".a".repeat(33))).message().contains("32 segments"));
    assert!(refused(&format!("$.{}", "a".repeat(1_024))).message().contains("1024 bytes"));
    assert!(refused(&format!("${}", "[".repeat(500))).message().contains("not a JSONPath query"));
}

#[test]
fn names_are_read_in_every_notation() {
    for text in ["$.card.number", "$['card']['number']", "$[\"card\"].number", "$.card[ 'number' ]"] {
        let selector = JsonSelector::parse(text).unwrap();
        assert_eq!(
            selector.segments(),
            [Step::Child(names(&["card"])), Step::Child(names(&["number"]))],
            "{text}"
        );
        assert_eq!(selector.as_str(), text);
    }
}

#[test]
fn quoted_names_are_unescaped() {
    for (text, name) in [
        ("$['card-number']", "card-number"),
        ("$['it\\'s']", "it's"),
        ("$[\"a\\\"b\"]", "a\"b"),
        ("$['\\u0063ard']", "card"),
        ("$['\\uD83D\\uDCB3']", "\u{1f4b3}"),
        ("$['']", ""),
        ("$[' padded ']", " padded "),
        ("$['$.a[0:2]']", "$.a[0:2]"),
    ] {
        assert_eq!(JsonSelector::parse(text).unwrap().segments(), [Step::Child(names(&[name]))], "{text}");
    }
}

#[test]
fn wildcards_indices_unions_and_descendants_are_read() {
    let read = |text: &str| JsonSelector::parse(text).unwrap().segments().to_vec();
    assert_eq!(read("$.*"), [Step::Child(vec![Pick::Any])]);
    assert_eq!(read("$[*]"), [Step::Child(vec![Pick::Any])]);
    assert_eq!(read("$[0]"), [Step::Child(vec![Pick::Index(0)])]);
    assert_eq!(read("$['a', 'b']"), [Step::Child(names(&["a", "b"]))]);
    assert_eq!(read("$[0, 7, *]"), [Step::Child(vec![Pick::Index(0), Pick::Index(7), Pick::Any])]);
    assert_eq!(read("$..pan"), [Step::Descendant(names(&["pan"]))]);
    assert_eq!(read("$..*"), [Step::Descendant(vec![Pick::Any])]);
    assert_eq!(read("$..['pan','number']"), [Step::Descendant(names(&["pan", "number"]))]);
    assert_eq!(read("$.a..b[3]").len(), 3);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,64}") {
        if let Ok(selector) = JsonSelector::parse(&text) {
            prop_assert!((1..=MAX_STEPS).contains(&selector.segments().len()));
        }
    }

    #[test]
    fn any_near_query_is_read_or_refused_without_a_panic(text in "\\$[.\\[\\]*'\"a-c0-9,:?@ \\\\u-]{0,40}") {
        if let Ok(selector) = JsonSelector::parse(&text) {
            prop_assert!((1..=MAX_STEPS).contains(&selector.segments().len()));
        }
    }

    #[test]
    fn any_quoted_name_comes_back_as_it_was(name in "[^\\x00-\\x1f'\\\\]{0,40}") {
        let selector = JsonSelector::parse(&format!("$['{name}']")).unwrap();
        prop_assert_eq!(selector.segments(), [Step::Child(vec![Pick::Name(name)])]);
    }
}
