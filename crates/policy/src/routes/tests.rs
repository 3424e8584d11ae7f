//! Tests of `routes.rs` and of the value readers of `routes/values.rs`.

use proptest::prelude::*;

use super::values::{duration, form_name, method, path, size, upstream};
use super::*;

#[test]
fn a_prefix_matches_below_itself_only() {
    let prefix = path("/v1/cards/*").unwrap();
    assert_eq!(prefix.to_string(), "/v1/cards/*");
    for taken in ["/v1/cards/", "/v1/cards/1", "/v1/cards/1/2"] {
        assert!(prefix.matches(taken), "{taken}");
    }
    for refused in ["/v1/cards", "/v1/cardsx", "/v1", "/", "", "v1/cards/1", "/V1/cards/1"] {
        assert!(!prefix.matches(refused), "{refused}");
    }
    assert!(path("/*").unwrap().matches("/"));
}

#[test]
fn an_exact_path_matches_itself_only() {
    let exact = path("/signup").unwrap();
    assert_eq!(exact.to_string(), "/signup");
    assert!(exact.matches("/signup"));
    for refused in ["/signup/", "/signup/x", "/Signup", "/signu", "signup", "/signup?x"] {
        assert!(!exact.matches(refused), "{refused}");
    }
}

#[test]
fn odd_paths_are_refused() {
    for text in [
        "", "a", "*", "/a*", "/*/b", "/a/**", "/a//b", "//", "/.", "/..", "/a/./b", "/a/../b", "/a/..",
        "/a?b", "/a#b", "/a%20b", "/a b", "/\u{e9}", "/a\\b", "/a\0",
    ] {
        assert!(path(text).is_err(), "{text:?}");
    }
    for text in ["/", "/a", "/a/", "/a.b/c~d", "/a:b@c", "/...", "/*", "/a/*"] {
        assert!(path(text).is_ok(), "{text:?}");
    }
}

#[test]
fn odd_upstreams_are_refused() {
    for text in [
        "",
        "signup",
        "http://",
        "https:///",
        "http://a:",
        "http://a:0",
        "http://a:+80",
        "http://a:65536",
        "http://a:80:80",
        "http://u@a",
        "http://a/b",
        "http://a?b",
        "http://a#b",
        "HTTP://a",
        "ftp://a",
        "http://[::1",
        "http://[zz]:1",
        "http://::1:80",
        "http://a b",
        "//a",
        "http://a//",
    ] {
        assert!(upstream(text).is_err(), "{text:?}");
    }
    for (text, tls, authority) in [
        ("http://127.0.0.1:7001", false, "127.0.0.1:7001"),
        ("http://Signup.Example", false, "signup.example:80"),
        ("https://signup.example/", true, "signup.example:443"),
        ("http://[::1]:7001", false, "[::1]:7001"),
        ("https://[2001:DB8::1]", true, "[2001:db8::1]:443"),
    ] {
        let found = upstream(text).unwrap();
        assert_eq!((found.tls, found.authority().as_str()), (tls, authority), "{text}");
    }
}

#[test]
fn sizes_and_durations_have_units_and_bounds() {
    for text in [
        "",
        "1",
        "1kb",
        "0B",
        "-1B",
        "1.5MiB",
        "65MiB",
        "99999999999999999999MiB",
        " 1B",
        "1 B",
        "MiB",
        "1\u{e9}",
    ] {
        assert!(size(text).is_err(), "{text:?}");
    }
    assert_eq!(
        (size("1B").unwrap(), size("64KiB").unwrap(), size("64MiB").unwrap()),
        (1, 65_536, 67_108_864)
    );
    for text in ["", "10", "0s", "11m", "1h", "-1s", "1.5s", "99999999999999999999s", "s"] {
        assert!(duration(text).is_err(), "{text:?}");
    }
    assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
    assert_eq!(duration("10m").unwrap(), Duration::from_secs(600));
}

#[test]
fn methods_that_open_tunnels_or_echo_are_refused() {
    for text in ["CONNECT", "TRACE", "post", "", "GET ", "PROPFIND"] {
        assert!(method(text).is_err(), "{text:?}");
    }
    assert_eq!(method("POST").unwrap(), "POST");
}

#[test]
fn form_names_are_bounded_and_printable() {
    assert!(form_name(&"a".repeat(257)).is_err());
    assert!(form_name("a\nb").is_err());
    assert_eq!(form_name("card[number]").unwrap(), "card[number]");
}

const SEGMENTS: &str = r#"
[[segment]]
name = "apps"
cidrs = ["10.0.0.0/8"]
scope = "connected"
[[collection]]
name = "cards"
owner = "o"
need = "n"
[[service]]
name = "signup"
uri = "spiffe://cordon.test/signup"
segment = "apps"
collections = ["cards"]
owner = "o"
need = "n"
"#;

const INGRESS: &str = r#"
[[ingress]]
name = "signup"
hosts = ["signup.example"]
methods = ["POST", "PUT"]
path = "/signup/*"
upstream = "https://10.0.0.1"
upstream_roots = "ca.pem"
service = "signup"
collection = "cards"
content = ["json"]
[[ingress.field]]
json = "$.cards[*].number"
op = "tokenize"
"#;

#[test]
fn what_is_left_out_takes_the_safe_value() {
    let routes = Routes::parse(INGRESS, SEGMENTS, Path::new("/b")).unwrap();
    let [route] = routes.ingress.as_slice() else { panic!("one route") };
    assert_eq!(
        (route.on_leak, route.max_body, route.timeout),
        (OnLeak::Deny, 1_048_576, Duration::from_secs(10))
    );
    assert_eq!(route.upstream.roots.as_deref(), Some(Path::new("/b/ca.pem")));
    let [field] = route.fields.as_slice() else { panic!("one field") };
    assert_eq!((field.op, &field.places.form), (IngressOp::Tokenize, &None));
}

#[test]
fn a_field_has_a_place_for_each_type_or_one_in_the_head() {
    let places = r#"
[[ingress.field]]
form = "pan"
xml = "//pan"
csv = "pan"
text = '(?<pan>.+)'
op = "mask"
keep = "6+4"
[[ingress.field]]
path = "/signup/{}/x"
op = "tokenize"
[[ingress.field]]
header = "X-Gone"
op = "drop"
[[ingress.answer]]
json = "$.card"
op = "mask"
"#;
    let text = INGRESS.replace(
        "[\"json\"]",
        "[\"json\", \"multipart\", \"xml\", \"csv\", \"text\"]\nlook_inside = \"off\"",
    );
    let routes = Routes::parse(&format!("{text}{places}"), SEGMENTS, Path::new("/b")).unwrap();
    let [route] = routes.ingress.as_slice() else { panic!("one route") };
    let ops: Vec<_> = route.fields.iter().map(|field| field.op).collect();
    let mask = IngressOp::Mask(Truncation::SixAndFour);
    assert_eq!(ops, [IngressOp::Tokenize, mask, IngressOp::Tokenize, IngressOp::Drop]);
    let labels: Vec<_> = route.fields.iter().map(|field| field.places.label()).collect();
    assert_eq!(labels, ["$.cards[*].number", "pan", "path /signup/{}/x", "header x-gone"]);
    let second = &route.fields[1].places;
    let in_types: Vec<_> = Content::ALL.into_iter().filter(|content| second.stand_in(*content)).collect();
    let wanted = [Content::Form, Content::Multipart, Content::Xml, Content::Csv, Content::Text];
    assert_eq!(in_types, wanted);
    assert_eq!(route.look_inside, LookInside::Off);
    assert_eq!(route.answer[0].op, AnswerOp::Mask(Truncation::LastFour));
}

#[test]
fn a_reveal_on_the_way_in_is_refused_for_in_scope_services_too() {
    let text = INGRESS.replace("tokenize", "reveal");
    let faults = Routes::parse(&text, SEGMENTS, Path::new("")).unwrap_err();
    assert!(faults.to_string().contains("`reveal` has no place on the way in"), "{faults}");
    let out = SEGMENTS.replace("connected", "out");
    let faults = Routes::parse(&text, &out, Path::new("")).unwrap_err();
    assert!(faults.to_string().contains("out of PCI scope"), "{faults}");
}

#[test]
fn a_streamed_route_takes_large_bodies_of_records_and_nothing_that_needs_all_of_one() {
    let rows = INGRESS.replace("[\"json\"]", "[\"ndjson\", \"csv\"]\nstream = true\nmax_body = \"2GiB\"");
    let rows = rows.replace("op =", "csv = \"number\"\nop =");
    let routes = Routes::parse(&rows, SEGMENTS, Path::new("")).unwrap();
    let [route] = routes.ingress.as_slice() else { panic!("one route") };
    assert_eq!((route.stream, route.max_body), (true, 2 << 30));
    let head = "[[ingress.field]]\nheader = \"x-card\"\nop = \"drop\"\n";
    let rule = "[[ingress.abuse]]\nname = \"a\"\nper = \"address\"\ncount = \"cards\"\nover = 9\nwithin = \"1m\"\naction = \"deny\"\n";
    for (text, wanted) in [
        (rows.replace("stream = true\n", ""), "out of range"),
        (rows.replace("2GiB", "65GiB"), "out of range"),
        (INGRESS.replace("collection =", "stream = true\ncollection ="), "bodies of records only"),
        (format!("{rows}{head}"), "fields in the body"),
        (format!("{rows}{rule}"), "no abuse rules"),
    ] {
        let faults = Routes::parse(&text, SEGMENTS, Path::new("")).unwrap_err();
        assert!(faults.to_string().contains(wanted), "{faults}");
    }
}

#[test]
fn roots_on_a_plain_upstream_are_refused() {
    let faults = Routes::parse(&INGRESS.replace("https:", "http:"), SEGMENTS, Path::new("")).unwrap_err();
    assert!(faults.to_string().contains("no use for roots"), "{faults}");
}

proptest! {
    #[test]
    fn any_edit_of_a_good_file_is_read_or_refused_without_a_panic(
        at in 0..INGRESS.len(),
        length in 0..40_usize,
        new in "[\\PC\n]{0,12}",
    ) {
        let mut text = INGRESS.to_owned();
        text.replace_range(at..(at + length).min(INGRESS.len()), &new);
        if let Err(faults) = Routes::parse(&text, SEGMENTS, Path::new("")) {
            prop_assert!(!faults.is_empty());
        }
    }

    #[test]
    fn any_value_is_read_or_refused_without_a_panic(text in "\\PC{0,40}") {
        let read = [path(&text).is_ok(), upstream(&text).is_ok(), size(&text).is_ok(), duration(&text).is_ok()];
        prop_assert!(read.into_iter().filter(|ok| *ok).count() <= 1);
    }

    #[test]
    fn a_path_that_is_accepted_matches_itself(text in "/[a-z./*-]{0,20}") {
        if let Ok(pattern) = path(&text) {
            prop_assert_eq!(pattern.to_string(), text.clone());
            let matches_itself = pattern.matches(text.strip_suffix('*').unwrap_or(&text));
            prop_assert!(matches_itself);
        }
    }
}
