//! Tests of places.

use super::*;

#[test]
fn an_xml_path_is_read_or_refused() {
    let name = |name: &str| vec![Pick::Name(name.to_owned())];
    let deep = XmlSelector::parse("/order//card/*/@number").unwrap();
    let wanted = [
        Step::Child(name("order")),
        Step::Descendant(name("card")),
        Step::Child(vec![Pick::Any]),
        Step::Child(name("@number")),
    ];
    assert_eq!(deep.steps(), wanted);
    assert_eq!(deep.to_string(), "/order//card/*/@number");
    for text in ["//pan", "//@pan", "/a", "/\u{e9}t\u{e9}/a-b.c_d"] {
        assert!(XmlSelector::parse(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "/",
        "//",
        "a",
        "/a/",
        "/a//",
        "///a",
        "/x:a",
        "/@a",
        "/a/@b/c",
        "/a[1]",
        "/a/text()",
        "/1a",
        "/a b",
    ] {
        assert!(XmlSelector::parse(text).is_err(), "{text}");
    }
    assert!(XmlSelector::parse(&"/a".repeat(33)).is_err());
    assert!(XmlSelector::parse(&format!("/{}", "a".repeat(2_000))).is_err());
}

#[test]
fn columns_are_read_or_refused() {
    let columns = FixedColumns::parse("D:11-29").unwrap();
    assert_eq!((columns.columns(), columns.to_string()), (10..29, "D:11-29".to_owned()));
    assert!(
        columns.apply_to("D0000000014")
            && !columns.apply_to("D000000001")
            && !columns.apply_to("T00000000014")
    );
    assert_eq!(FixedColumns::parse("1-1").unwrap().columns(), 0..1);
    for text in ["", "1", "0-3", "3-2", "a-b", "1-", "-1", "1-70000", "+1-2", "D:1-2", "\u{e9}:5-9"] {
        assert!(FixedColumns::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_expression_has_one_named_group() {
    let selector = TextSelector::parse("(?m)^PAN: (?<pan>.+)$").unwrap();
    assert_eq!(selector.find("PAN: 12\nx\nPAN: 3").collect::<Vec<_>>(), [5..7, 15..16]);
    assert_eq!(selector, TextSelector::parse("(?m)^PAN: (?<pan>.+)$").unwrap());
    for text in ["", "(", "(.+)", "(?<a>.)(?<b>.)", "(?=x)(?<a>.)", "(?<a>[0-9]{1000}){1000}"] {
        assert!(TextSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_path_template_finds_its_segment() {
    let template = PathTemplate::parse("/cards/{}/refunds").unwrap();
    assert_eq!(template.to_string(), "/cards/{}/refunds");
    assert_eq!(template.find("/cards/4111/refunds"), Some(1));
    for path in [
        "/cards/4111",
        "/cards//refunds",
        "/cards/4111/refunds/",
        "/Cards/4111/refunds",
        "cards/4111/refunds",
    ] {
        assert_eq!(template.find(path), None, "{path}");
    }
    assert_eq!(PathTemplate::parse("/{}").unwrap().find("/x"), Some(0));
    for text in ["", "/", "/a", "{}", "/{}/{}", "/a{}", "/a//{}", "/%20/{}", "/{}/"] {
        assert!(PathTemplate::parse(text).is_err(), "{text}");
    }
}
