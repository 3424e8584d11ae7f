//! Tests of the check in front of HTTP/1.1.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn pass(bytes: &[u8]) -> Result<(), usize> {
    Framing::new(8).pass(bytes)
}

fn request(headers: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn plain_requests_pass_one_after_the_other() {
    let all = [
        request("", ""),
        request("Content-Length: 0\r\n", ""),
        request("Content-Length: 3\r\n", "abc"),
        request(CHUNKED, "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        request("transfer-encoding: CHUNKED\r\n", "0000000000000003\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n"),
        request("Expect: 100-continue\r\nContent-Length: 2\r\n", "\n\n"),
    ]
    .concat();
    assert_eq!(pass(all.as_bytes()), Ok(()));
}

#[test]
fn a_head_that_frames_in_two_ways_is_a_fault_at_its_last_byte() {
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: \r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 3\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n",
        "X\0: 1\r\n",
        "X: \0\r\n",
        "X: \x0b\r\n",
        ": empty\r\n",
    ] {
        let text = request(headers, "");
        assert_eq!(pass(text.as_bytes()), Err(0), "{headers:?}");
        // What was let pass of it before stays without its end.
        let mut framing = Framing::new(8);
        let (first, last) = text.as_bytes().split_at(text.len() - 1);
        assert_eq!((framing.pass(first), framing.pass(last)), (Ok(()), Err(0)), "{headers:?}");
    }
    let old = format!("POST / HTTP/1.0\r\n{CHUNKED}\r\n");
    assert_eq!(pass(old.as_bytes()), Err(0));
}

#[test]
fn a_line_ends_in_crlf_only() {
    for (text, good) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 0),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 0),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 0),
        ("GET / HTTP/1.1\r\nHost: a\r\rX: y\r\n\r\n", 0),
        ("\r\nGET / HTTP/1.1\r\n\r\n", 0),
        ("\nGET / HTTP/1.1\r\n\r\n", 0),
    ] {
        assert_eq!(pass(text.as_bytes()), Err(good), "{text:?}");
    }
    let (one, two) = (request("", ""), "GET / HTTP/1.1\n\n");
    assert_eq!(pass(format!("{one}{two}").as_bytes()), Err(one.len()));
}

#[test]
fn a_chunk_is_its_size_and_nothing_else() {
    let head = request(CHUNKED, "");
    for (body, good) in [
        ("3;a=b\r\nabc\r\n0\r\n\r\n", 1),
        ("3 \r\nabc\r\n0\r\n\r\n", 1),
        ("3\nabc\r\n0\r\n\r\n", 1),
        ("0x3\r\nabc\r\n0\r\n\r\n", 1),
        ("+3\r\nabc\r\n0\r\n\r\n", 0),
        ("-1\r\n", 0),
        ("\r\n", 0),
        ("3\r\nabcd\r\n0\r\n\r\n", 6),
        ("3\r\nabc\n0\r\n\r\n", 6),
        ("3\r\nabc0\r\n\r\n", 6),
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", 16),
        ("0\r\nX: 1\n\r\n", 7),
        ("0\r\n\n", 3),
    ] {
        let text = format!("{head}{body}");
        assert_eq!(pass(text.as_bytes()), Err(head.len() + good), "{body:?}");
    }
}

#[test]
fn too_many_headers_are_left_to_hyper() {
    assert_eq!(pass(request(&"X: 1\r\n".repeat(9), "").as_bytes()), Ok(()));
}

#[test]
fn a_reader_gets_what_is_good_then_what_no_parser_takes_then_the_end() {
    let good = request("Content-Length: 1\r\n", "a");
    let sent = format!("{good}GET / HTTP/1.1\nX: 4111111111111111\r\n\r\n");
    for room in [1, 2, 3, 7, 64, 4096] {
        let faults = std::cell::Cell::new(0);
        let limits = Limits::default();
        let mut strict = Strict::new(sent.as_bytes(), &limits, || faults.set(faults.get() + 1));
        let mut got = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut buffer = vec![0; room];
            loop {
                match strict.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => got.extend_from_slice(&buffer[..count]),
                }
                let seen = buffer.windows(16).any(|window| window == b"4111111111111111");
                assert!(!seen, "what was taken back is wiped");
            }
        });
        assert!(got.starts_with(good.as_bytes()) && got.ends_with(NO_HTTP), "room {room}");
        let between = &got[good.len()..got.len() - NO_HTTP.len()];
        assert!(b"GET / HTTP/1.1".starts_with(between), "room {room}: {between:?}");
        assert_eq!(faults.get(), 1);
    }
}

/// How many requests end in these bytes before the first fault, as the check sees it.
fn ends(bytes: &[u8]) -> usize {
    let mut framing = Framing::new(Limits::default().headers);
    let mut ends = 0;
    for byte in bytes {
        if framing.pass(&[*byte]).is_err() {
            break;
        }
        let between = matches!(&framing.place, Place::Head(lines) if lines.total == 0);
        ends += usize::from(between && framing.head.is_empty());
    }
    ends
}

/// How many requests hyper reads whole behind the check.
fn served(bytes: &[u8]) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let count = AtomicUsize::new(0);
    runtime.block_on(async {
        let (mut near, far) = tokio::io::duplex(1024 * 1024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let service = service_fn(async |request: Request<Incoming>| {
            let whole = request.into_body().collect().await.is_ok();
            count.fetch_add(usize::from(whole), Ordering::Relaxed);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let strict = Strict::new(far, &Limits::default(), || {});
        let connection =
            http1::Builder::new().half_close(true).serve_connection(TokioIo::new(strict), service);
        // How it ends is for others to test.
        let _ended = connection.await.is_err();
    });
    count.into_inner()
}

#[test]
fn hyper_sees_as_many_requests_as_the_check() {
    let all =
        [request("", ""), request("Content-Length: 3\r\n", "abc"), request(CHUNKED, "3\r\nabc\r\n0\r\n\r\n")];
    assert_eq!((ends(all.concat().as_bytes()), served(all.concat().as_bytes())), (3, 3));
}

/// Some requests in a row, each with headers and a body that need not go together.
fn requests() -> impl Strategy<Value = String> {
    let headers = prop::collection::vec(prop::sample::select(HEADERS.to_vec()), 0..4);
    let one = (headers, prop::sample::select(BODIES.to_vec()));
    prop::collection::vec(one, 0..5)
        .prop_map(|all| all.iter().map(|(headers, body)| request(&headers.concat(), body)).collect())
}

/// A byte that means something to a parser, more often than not.
fn odd_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b"\r\n \t:;,0159af\0+-".to_vec()), any::<u8>()]
}

proptest! {
    /// The check and hyper agree about where each request ends: else a request could hide in another one's body.
    #[test]
    fn hyper_reads_no_other_requests_than_the_check(text in requests()) {
        prop_assert_eq!(ends(text.as_bytes()), served(text.as_bytes()), "{:?}", text);
    }

    /// Nor does it with bytes in them that nobody meant; it may stop earlier.
    #[test]
    fn hyper_reads_no_more_requests_than_the_check_whatever_stands_in_them(
        requests in requests(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), odd_byte(), any::<bool>()), 1..4),
    ) {
        let mut text = requests.into_bytes();
        for (place, byte, inserted) in edits {
            let place = place.index(text.len() + 1);
            match text.get_mut(place) {
                Some(old) if !inserted => *old = byte,
                _ => text.insert(place, byte),
            }
        }
        let (ends, served) = (ends(&text), served(&text));
        prop_assert!(served <= ends, "{served} > {ends}: {:?}", String::from_utf8_lossy(&text));
    }

    /// However the bytes arrive, the same ones pass, save that more of a bad head may have gone before its fault.
    #[test]
    fn the_fault_does_not_depend_on_how_bytes_arrive(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12),
        cuts in prop::collection::vec(1_usize..9, 1..40),
    ) {
        let all = pieces.concat();
        let whole = Framing::new(8).pass(&all);
        let mut framing = Framing::new(8);
        let mut rest = all.as_slice();
        let mut cuts = cuts.into_iter().cycle();
        let mut parted = Ok(());
        let mut passed = 0;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            if let Err(good) = framing.pass(now) {
                parted = Err(passed + good);
                break;
            }
            passed += now.len();
            rest = later;
        }
        prop_assert_eq!(whole.is_ok(), parted.is_ok());
        prop_assert!(whole.err() <= parted.err());
    }
}

const HEADERS: &[&str] = &[
    "X: y\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 05\r\n",
    "Content-Length:5 \r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\tchunked \r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "X: y\n",
    "Expect: 100-continue\r\n",
];

const BODIES: &[&str] = &[
    "",
    "abcde",
    "abcdef",
    "0\r\n\r\n",
    "5\r\nabcde\r\n0\r\n\r\n",
    "05\r\nabcde\r\n00\r\nT: 1\r\nU: 2\r\n\r\n",
    "5;x\r\nabcde\r\n0\r\n\r\n",
    "5\r\nabcde\r\n0\r\nT: 1\n\r\n",
];

const PIECES: &[&[u8]] = &[
    b"POST / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"abcde",
    b"0\r\nX: y\r\n\r\n",
    b"\0",
];
