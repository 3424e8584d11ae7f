//! Tests of fields in a head.

use super::*;
use cordon_policy::{LookInside, PathTemplate};
use http::Method;

const PAN: &str = "4111111111111111";

fn head(target: &str, lines: &[(&str, &str)]) -> (Head, usize) {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let length = target.find('?').unwrap_or(target.len());
    (Head { method: Method::POST, path_and_query: target.to_owned(), headers }, length)
}

fn places(places: Vec<HeadPlace>) -> Declared {
    Declared(places.into_iter().enumerate().collect())
}

fn all() -> Declared {
    places(vec![
        HeadPlace::Header("x-card".to_owned()),
        HeadPlace::Cookie("pan".to_owned()),
        HeadPlace::Query("card no".to_owned()),
        HeadPlace::Path(PathTemplate::parse("/cards/{}/x").unwrap()),
        HeadPlace::Basic(Half::User),
        HeadPlace::Basic(Half::Password),
    ])
}

fn found(target: &str, lines: &[(&str, &str)]) -> Result<Vec<(usize, String)>, BodyError> {
    let (head, length) = head(target, lines);
    let leaves = locate(&head, length, &all())?;
    Ok(leaves.into_iter().map(|leaf| (leaf.field, leaf.text.expose().to_owned())).collect())
}

fn basic(text: &str) -> String {
    format!("Basic {}", BASE64.encode(text.as_bytes()))
}

#[test]
fn fields_are_found_decoded() {
    let authorization = basic("tok:a:b");
    let lines = [
        ("x-card", "4111 1111"),
        ("cookie", "a=1; pan=\"41 11\";b=2"),
        ("authorization", authorization.as_str()),
    ];
    let leaves = found("/cards/%34111/x?a=1&card+no=4111%201111", &lines).unwrap();
    let wanted = [(0, "4111 1111"), (1, "41 11"), (2, "4111 1111"), (3, "4111"), (4, "tok"), (5, "a:b")];
    assert_eq!(leaves, wanted.map(|(field, text)| (field, text.to_owned())));
    assert_eq!(found("/cards/4111?x", &[("x-card", ""), ("cookie", "pan=; pang=1")]).unwrap(), []);
    let utf8 = found("/", &[("x-card", "\u{ff14}111")]).unwrap();
    assert_eq!(utf8, [(0, "\u{ff14}111".to_owned())]);
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let plain = basic("a:b");
    for (target, lines, field) in [
        ("/", vec![("x-card", "1"), ("X-Card", "1")], 0),
        ("/", vec![("cookie", "pan=1; pan=2")], 1),
        ("/", vec![("cookie", "pan=1"), ("cookie", "x=1;  pan=2")], 1),
        ("/?card+no=1&card%20no=2", vec![], 2),
        ("/", vec![("authorization", &plain), ("authorization", &plain)], 4),
        ("/", vec![("authorization", "Bearer x")], 4),
        ("/", vec![("authorization", "Basic !")], 4),
    ] {
        assert_eq!(found(target, &lines), Err(BodyError::Field(field)), "{target} {lines:?}");
    }
    assert_eq!(found("/?a=%4", &[]), Err(BodyError::Malformed));
}

fn rewritten(target: &str, lines: &[(&str, &str)], text: Option<&str>) -> (String, Vec<String>) {
    let (mut head, length) = head(target, lines);
    let leaves = locate(&head, length, &all()).unwrap();
    let edit = |leaf: HeadLeaf| HeadEdit { spot: leaf.spot, text: text.map(owned) };
    apply(&mut head, leaves.into_iter().map(edit).collect()).unwrap();
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    (head.path_and_query.clone(), head.headers.iter().map(line).collect())
}

#[test]
fn another_text_takes_the_place_and_all_else_stays() {
    let lines = [
        ("x-card", PAN),
        ("cookie", "a=1"),
        ("cookie", "b=2; pan=4111; c=\"3\""),
        ("authorization", "Basic YTpi"),
        ("x-other", "1"),
    ];
    let (target, headers) = rewritten("/cards/4111/x?a=%41&card+no=4111&&z", &lines, Some("tok a/b"));
    assert_eq!(target, "/cards/tok a/b/x?a=%41&card+no=tok+a%2Fb&&z");
    let wanted = [
        "x-card: tok a/b",
        "cookie: a=1",
        "cookie: b=2; pan=tok a/b; c=\"3\"",
        &format!("authorization: {}", basic("tok a/b:tok a/b")),
        "x-other: 1",
    ];
    for line in wanted {
        assert!(headers.iter().any(|found| found == line), "{line} in {headers:?}");
    }
    assert_eq!(headers.len(), wanted.len());
}

#[test]
fn what_is_dropped_leaves_no_value() {
    let lines = [("x-card", PAN), ("cookie", "pan=4111; c=3"), ("authorization", "Basic YTpi")];
    let (target, mut headers) = rewritten("/?card+no=4111", &lines, None);
    headers.sort();
    assert_eq!(target, "/?card+no=");
    assert_eq!(headers, ["authorization: Basic Og==".to_owned(), "cookie: pan=; c=3".to_owned()]);
}

#[test]
fn a_user_with_a_colon_and_a_header_with_a_line_end_are_refused() {
    let (mut with_user, _) = head("/", &[("authorization", "Basic YTpi")]);
    let edit = |spot, text: &str| vec![HeadEdit { spot, text: Some(owned(text)) }];
    assert_eq!(apply(&mut with_user, edit(Spot::Basic(Half::User), "a:b")), Err(Misfit));
    let (mut with_card, _) = head("/", &[("x-card", "1")]);
    let name = HeaderName::from_static("x-card");
    assert_eq!(apply(&mut with_card, edit(Spot::Header(name, 0, 0..1), "a\nb")), Err(Misfit));
}

fn leak(target: &str, lines: &[(&str, &str)]) -> Option<Place> {
    let (head, length) = head(target, lines);
    let leaves = locate(&head, length, &all()).unwrap();
    let mut search = Search::new(LookInside::Deny);
    look_outside(&mut search, &head, length, &leaves);
    search.found()
}

#[test]
fn credentials_are_decoded_by_every_route() {
    let value = basic(&format!("user:{PAN}"));
    let (head, length) = head("/", &[("authorization", value.as_str())]);
    let mut search = Search::new(LookInside::Off);
    look_outside(&mut search, &head, length, &[]);
    assert_eq!(search.found(), Some(Place::Header));
}

#[test]
fn numbers_beside_the_fields_are_found_and_those_in_them_are_not() {
    let target = format!("/cards/{PAN}/x?card+no={PAN}&a=1");
    let cookie = format!("pan={PAN}; a=1");
    assert_eq!(leak(&target, &[("x-card", PAN), ("cookie", &cookie)]), None);
    for (target, lines, place) in [
        (format!("/{PAN}"), vec![], Place::Path),
        (format!("/cards/4111/x/{PAN}"), vec![], Place::Path),
        ("/%34111111111111111".to_owned(), vec![], Place::Path),
        (format!("/cards/4111/x;n={PAN}"), vec![], Place::Path),
        (format!("/?card+no=1&b={PAN}"), vec![], Place::Query),
        ("/?pan=4111+1111+1111+1111".to_owned(), vec![], Place::Query),
        ("/?pan=%2534111111111111111".to_owned(), vec![], Place::Query),
        (format!("/?{PAN}"), vec![], Place::Query),
        ("/".to_owned(), vec![("x-other", PAN)], Place::Header),
        ("/".to_owned(), vec![("x-4111111111111111", "1")], Place::Header),
        ("/".to_owned(), vec![("cookie", "pan=1; b=4111-1111-1111-1111")], Place::Header),
        ("/".to_owned(), vec![("x-other", "a=%34111111111111111")], Place::Header),
        ("/".to_owned(), vec![("x-other", "NDExMTExMTExMTExMTExMQ==")], Place::Inside),
        ("/?a=NDExMTExMTExMTExMTExMQ".to_owned(), vec![], Place::Inside),
    ] {
        assert_eq!(leak(&target, &lines), Some(place), "{target} {lines:?}");
    }
}
