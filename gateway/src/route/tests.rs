//! Tests of matching: the tricks first.

use super::*;
use proptest::prelude::*;

struct Row {
    hosts: Option<Vec<String>>,
    methods: Vec<String>,
    path: PathPattern,
}

impl Matched for Row {
    fn hosts(&self) -> Option<&[String]> {
        self.hosts.as_deref()
    }
    fn methods(&self) -> &[String] {
        &self.methods
    }
    fn path(&self) -> &PathPattern {
        &self.path
    }
}

fn row(host: &str, methods: &[&str], path: &str) -> Row {
    let path = match path.strip_suffix('*') {
        Some(prefix) => PathPattern::Prefix(prefix.to_owned()),
        None => PathPattern::Exact(path.to_owned()),
    };
    Row {
        hosts: (!host.is_empty()).then(|| vec![host.to_owned()]),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        path,
    }
}

/// The position of the route found, or what was found in its place.
fn found(rows: &[Row], host: &str, method: &str, path: &str) -> Result<usize, Vec<String>> {
    let path = CleanPath::parse(path).unwrap();
    match find(rows.iter(), Some(host), &method.parse().unwrap(), &path) {
        Match::Route(route) => Ok(rows.iter().position(|row| std::ptr::eq(row, route)).unwrap()),
        Match::OtherMethods(methods) => Err(methods.into_iter().map(str::to_owned).collect()),
        Match::Nothing => Err(Vec::new()),
    }
}

#[test]
fn paths_that_can_be_read_twice_are_refused() {
    for path in [
        "",
        "signup",
        "*",
        "/../signup",
        "/a/..",
        "/a/./b",
        "/.",
        "/%2e%2e/signup",
        "/%2E/x",
        "/.%2e/x",
        "/a/..;x/b",
        "/..;/x",
        "/;/..;a=b",
        "/a%2fb",
        "/a%2Fb",
        "/a\\b",
        "/a%5cb",
        "/a%00b",
        "/a%0d%0ab",
        "/a%7f",
        "/a\u{1}b",
        "/%",
        "/%4",
        "/%zz",
        "/a%252e%252e/b",
        "/a%252fb",
        "/%ff",
        "/%c3%28",
        "/%c2%85",
        "/ ../x",
        "/%u002e",
    ] {
        assert_eq!(CleanPath::parse(path), Err(Ambiguous), "{path}");
    }
}

#[test]
fn ordinary_paths_are_decoded_once() {
    for (raw, decoded) in [
        ("/", "/"),
        ("/signup", "/signup"),
        ("/%73ignup", "/signup"),
        ("/a%20b/%C3%A9", "/a b/\u{e9}"),
        ("/a//b", "/a//b"),
        ("/...", "/..."),
        ("/a..b/.well-known", "/a..b/.well-known"),
        ("/50%25", "/50%"),
        ("/x;v=1", "/x;v=1"),
    ] {
        assert_eq!(CleanPath::parse(raw).unwrap().as_str(), decoded, "{raw}");
    }
}

#[test]
fn only_declared_hosts_paths_and_methods_match() {
    let rows = [
        row("a.test", &["POST"], "/signup"),
        row("b.test", &["GET"], "/signup"),
        row("a.test", &["GET"], "/x/*"),
    ];
    assert_eq!(found(&rows, "a.test", "POST", "/signup"), Ok(0));
    assert_eq!(found(&rows, "b.test", "GET", "/signup"), Ok(1));
    assert_eq!(found(&rows, "a.test", "GET", "/x/y/z"), Ok(2));
    assert_eq!(found(&rows, "a.test", "GET", "/signup"), Err(vec!["POST".to_owned()]));
    for (host, path) in [
        ("c.test", "/signup"),
        ("a.test.", "/signup"),
        ("a.test", "/signup/"),
        ("a.test", "/Signup"),
        ("a.test", "/"),
        ("a.test", "/x"),
        ("a.test", "/signup2"),
        ("", "/signup"),
    ] {
        assert_eq!(found(&rows, host, "POST", path), Err(Vec::new()), "{host}{path}");
    }
    assert_eq!(found(&rows, "a.test", "post", "/signup"), Err(vec!["POST".to_owned()]));
}

#[test]
fn the_most_specific_route_wins() {
    let rows = [
        row("", &["GET", "POST"], "/*"),
        row("", &["POST"], "/v1/*"),
        row("", &["POST"], "/v1/charges"),
        row("", &["POST"], "/v1/charges"),
    ];
    assert_eq!(found(&rows, "", "POST", "/v1/charges"), Ok(2));
    assert_eq!(found(&rows, "", "POST", "/v1/refunds"), Ok(1));
    assert_eq!(found(&rows, "", "GET", "/v1/charges"), Ok(0));
    assert_eq!(found(&rows, "", "PUT", "/v1/charges"), Err(vec!["GET".to_owned(), "POST".to_owned()]));
}

fn parts(uri: &str, hosts: &[&str]) -> request::Parts {
    let mut builder = http::Request::builder().uri(uri);
    for host in hosts {
        builder = builder.header(HOST, *host);
    }
    builder.body(()).unwrap().into_parts().0
}

#[test]
fn a_host_is_refused_when_it_is_missing_doubled_or_contradicted() {
    for (uri, hosts) in [
        ("/x", &[][..]),
        ("/x", &["a.test", "a.test"]),
        ("https://a.test/x", &["b.test"]),
        ("/x", &["user@a.test"]),
        ("/x", &["a.test/b"]),
        ("/x", &["http://a.test"]),
        ("/x", &[""]),
        ("/x", &["a test"]),
        ("/x", &[":443"]),
        ("/x", &["a.test:"]),
        ("/x", &["a.test:+443"]),
        ("/x", &["a.test:99999"]),
        ("/x", &["a.test:443:443"]),
        ("/x", &["a.test:443@b.test"]),
        ("/x", &["a.test, b.test"]),
        ("/x", &["a.test#b"]),
        ("/x", &["[::1"]),
        ("/x", &["[::1]x"]),
        ("https://a.test:444/x", &["a.test"]),
        ("https://user@a.test/x", &["a.test"]),
    ] {
        assert_eq!(host(&parts(uri, hosts)), Err(Ambiguous), "{uri} {hosts:?}");
    }
}

#[test]
fn a_host_loses_its_case_and_port() {
    assert_eq!(host(&parts("/x", &["A.Test:8443"])).unwrap(), "a.test");
    assert_eq!(host(&parts("https://a.test/x", &["a.test:443"])).unwrap(), "a.test");
    assert_eq!(host(&parts("https://a.test:9/x", &[])).unwrap(), "a.test");
    assert_eq!(host(&parts("/x", &["[::1]:443"])).unwrap(), "[::1]");
}

proptest! {
    #[test]
    fn a_clean_path_never_leaves_its_prefix(raw in "/x/[a./%2e;\\\\0-9]{0,12}") {
        if let Ok(path) = CleanPath::parse(&raw) {
            let escapes = path.as_str().split('/').any(|segment| segment == ".." || segment == ".");
            prop_assert!(!escapes && path.as_str().starts_with("/x/"));
        }
    }
}
