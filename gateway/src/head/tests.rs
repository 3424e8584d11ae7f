//! Tests of header filtering.

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn admitted(method: &str, lines: &[(&str, &str)]) -> Result<(), Fault> {
    let (mut parts, ()) = http::Request::builder().method(method).body(()).unwrap().into_parts();
    parts.headers = headers(lines);
    admit(&parts)
}

#[test]
fn what_would_make_something_else_of_the_connection_is_refused() {
    for (method, lines, fault) in [
        ("CONNECT", &[][..], Fault::Malformed("method")),
        ("GET", &[("upgrade", "websocket")], Fault::Malformed("upgrade")),
        ("POST", &[("http2-settings", "AAMAAABk")], Fault::Malformed("upgrade")),
        ("POST", &[("content-length", "3"), ("content-length", "3")], Fault::Malformed("length")),
        ("POST", &[("content-length", "+3")], Fault::Malformed("length")),
        ("POST", &[("expect", "100-continue"), ("expect", "100-continue")], Fault::Expectation),
        ("POST", &[("expect", "200-ok")], Fault::Expectation),
        ("POST", &[("expect", "")], Fault::Expectation),
    ] {
        assert_eq!(admitted(method, lines), Err(fault), "{method} {lines:?}");
    }
    assert_eq!(admitted("POST", &[("expect", "100-Continue"), ("content-length", "3")]), Ok(()));
    assert_eq!(admitted("GET", &[("te", "trailers"), ("connection", "te")]), Ok(()));
}

#[test]
fn a_client_cannot_speak_for_the_gateway() {
    let received = headers(&[
        ("Forwarded", "for=10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Anything", "x"),
        ("X-Real-IP", "10.0.0.1"),
        ("Cordon-Request-Id", "mine"),
        ("cordon-anything", "x"),
        ("X_Forwarded_For", "y"),
        ("cordon_request_id", "z"),
        ("x-original-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("x.forwarded.for", "10.0.0.1"),
        ("client-cert", ":AA==:"),
        ("x-ssl-client-verify", "SUCCESS"),
        ("proxy", "http://10.0.0.1"),
        ("proxy_connection", "close"),
        ("accept", "*/*"),
    ]);
    assert_eq!(names(&of_ingress(&received)), ["accept", "accept-encoding"]);
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    let received = headers(&[
        ("connection", "keep-alive, x-nominated"),
        ("connection", " X-Also "),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-late"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAA"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-connection", "close"),
        ("expect", "100-continue"),
        ("host", "a.test"),
        ("content-length", "5"),
        ("x-nominated", "1"),
        ("x-also", "1"),
        ("transfer_encoding", "chunked"),
        ("cookie", "a=b"),
        ("x-custom", "kept"),
    ]);
    assert_eq!(names(&of_ingress(&received)), ["accept-encoding", "cookie", "x-custom"]);
    assert_eq!(names(&of_answer(&received, false)), ["cookie", "x-custom"]);
}

#[test]
fn the_content_type_cannot_be_nominated_away() {
    let received = headers(&[("connection", "Content-Type"), ("content-type", "application/json")]);
    assert!(of_ingress(&received).contains_key("content-type"));
    assert!(of_egress(&received).contains_key("content-type"));
}

#[test]
fn the_service_is_asked_for_plain_bytes() {
    let kept = of_ingress(&headers(&[("accept-encoding", "gzip, br")]));
    assert_eq!(kept.get_all("accept-encoding").iter().collect::<Vec<_>>(), ["identity"]);
}

#[test]
fn a_destination_gets_listed_headers_only() {
    let received = headers(&[
        ("content-type", "application/json"),
        ("accept", "*/*"),
        ("authorization", "Bearer x"),
        ("idempotency-key", "k"),
        ("user-agent", "app"),
        ("cookie", "a=b"),
        ("x-anything", "1"),
        ("origin", "x"),
        ("content_type", "text/plain"),
        ("traceparent", "00-x"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer y"),
        ("connection", "accept"),
    ]);
    let kept = of_egress(&received);
    assert_eq!(
        names(&kept),
        ["accept-encoding", "authorization", "content-type", "idempotency-key", "user-agent"]
    );
}

#[test]
fn an_answer_cannot_speak_for_the_gateway_and_keeps_its_length_for_head_only() {
    let received = headers(&[("cordon-request-id", "theirs"), ("content-length", "9"), ("etag", "x")]);
    assert_eq!(names(&of_answer(&received, false)), ["etag"]);
    assert_eq!(names(&of_answer(&received, true)), ["content-length", "etag"]);
}
