//! HTTP/2 frames written by hand: what must not survive the way to HTTP/1.1, and floods that must not cost much.

use anyhow::{Context, Result, bail};
use cordon_tests::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, Raw, http2_preface,
};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::{cards, https, search};

const BODY: &str = r#"{"card":{"number":"4111111111111111","expiry":"12/30","cvc":"123"}}"#;

type Field<'f> = (&'f [u8], &'f [u8]);

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With an answer; its body.
    Answer(String),
    /// With its stream reset.
    Reset,
    /// With the connection.
    Closed,
}

async fn connect(stack: &Stack) -> Result<Raw> {
    let tls = https::tls(&stack.authority.root(), None)?;
    let mut raw = Raw::connect(stack.gateway_address("ingress")?, &tls, b"h2").await?;
    raw.write(&http2_preface()).await?;
    Ok(raw)
}

/// The fields of a good request, without its length.
fn good() -> Vec<Field<'static>> {
    vec![
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"signup.cordon.test"),
        (b":path", b"/signup"),
        (b"content-type", b"application/json"),
    ]
}

fn request(fields: &[Field<'_>], body: &[u8]) -> Vec<u8> {
    let head = Frame::headers(1, END_HEADERS, fields);
    [head.bytes(), Frame::data(1, END_STREAM, body).bytes()].concat()
}

async fn end_of(raw: &mut Raw) -> Result<End> {
    let mut body = Vec::new();
    loop {
        let Ok(frame) = raw.frame().await else { return Ok(End::Closed) };
        match frame.kind {
            RST_STREAM => return Ok(End::Reset),
            GOAWAY => return Ok(End::Closed),
            DATA => body.extend(&frame.payload),
            _ => {}
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            return Ok(End::Answer(String::from_utf8(body)?));
        }
    }
}

async fn exchange(stack: &Stack, bytes: &[u8]) -> Result<End> {
    let mut raw = connect(stack).await?;
    raw.write(bytes).await?;
    end_of(&mut raw).await
}

fn answered(end: &End, part: &str) -> bool {
    matches!(end, End::Answer(body) if body.contains(part))
}

#[tokio::test]
async fn a_request_that_is_malformed_in_http2_never_becomes_one_of_http1() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let long = (BODY.len() + 1).to_string();
    let short = (BODY.len() - 1).to_string();
    let added: Vec<(&str, Field<'_>)> = vec![
        ("H2.CL: too long", (b"content-length", long.as_bytes())),
        ("H2.CL: too short", (b"content-length", short.as_bytes())),
        ("H2.CL: none", (b"content-length", b"0")),
        ("H2.CL: a sign", (b"content-length", b"+5")),
        ("H2.CL: a list", (b"content-length", b"66, 66")),
        ("H2.TE", (b"transfer-encoding", b"chunked")),
        ("connection", (b"connection", b"close")),
        ("keep-alive", (b"keep-alive", b"timeout=5")),
        ("proxy-connection", (b"proxy-connection", b"keep-alive")),
        ("upgrade", (b"upgrade", b"websocket")),
        ("te other than trailers", (b"te", b"gzip")),
        ("CRLF in a value", (b"x", b"a\r\ntransfer-encoding: chunked")),
        ("CR in a value", (b"x", b"a\rb")),
        ("LF in a value", (b"x", b"a\nb")),
        ("NUL in a value", (b"x", b"a\0b")),
        ("CRLF in a name", (b"x: a\r\ny", b"b")),
        ("a colon in a name", (b"x:y", b"b")),
        ("a space in a name", (b"x y", b"b")),
        ("an upper-case name", (b"X-Upper", b"b")),
        ("an empty name", (b"", b"b")),
        ("a second path", (b":path", b"/other")),
        ("a pseudo-header behind headers", (b":authority", b"elsewhere.test")),
        ("an unknown pseudo-header", (b":unknown", b"x")),
        ("a pseudo-header of answers", (b":status", b"200")),
    ];
    for (name, field) in added {
        let mut fields = good();
        fields.push(field);
        let end = exchange(&stack, &request(&fields, BODY.as_bytes())).await?;
        assert!(matches!(end, End::Reset | End::Closed), "{name}: {end:?}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    let replaced: Vec<(&str, usize, Option<&[u8]>)> = vec![
        ("CRLF in the path", 3, Some(b"/signup HTTP/1.1\r\nx: y")),
        ("a space in the path", 3, Some(b"/signup x")),
        ("an empty path", 3, Some(b"")),
        ("no path", 3, None),
        ("CRLF in the authority", 2, Some(b"signup.cordon.test\r\nx: y")),
        ("CRLF in the method", 0, Some(b"GET / HTTP/1.1\r\nx: y\r\n\r\nPOST")),
        ("a space in the method", 0, Some(b"POST /x")),
        ("no method", 0, None),
        ("CRLF in the scheme", 1, Some(b"https\r\nx: y")),
    ];
    for (name, place, value) in replaced {
        let mut fields = good();
        match (value, fields.get_mut(place)) {
            (Some(value), Some(field)) => field.1 = value,
            (_, _) => drop(fields.remove(place)),
        }
        let end = exchange(&stack, &request(&fields, BODY.as_bytes())).await?;
        assert!(matches!(end, End::Reset | End::Closed), "{name}: {end:?}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    Ok(())
}

#[tokio::test]
async fn what_http2_takes_and_two_readers_could_not_agree_on_is_400() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let cases: Vec<(&str, Vec<Field<'_>>)> = vec![
        ("another host", vec![(b"host", b"elsewhere.test")]),
        ("another port in the host", vec![(b"host", b"signup.cordon.test:8443")]),
        ("two hosts", vec![(b"host", b"signup.cordon.test"), (b"host", b"signup.cordon.test")]),
        ("settings of an upgrade", vec![(b"http2-settings", b"AAMAAABk")]),
    ];
    for (name, more) in cases {
        let fields = [good(), more].concat();
        let end = exchange(&stack, &request(&fields, BODY.as_bytes())).await?;
        assert!(answered(&end, "\"malformed\""), "{name}: {end:?}");
        assert!(stack.signup.bytes().is_empty(), "{name}: not a byte was forwarded");
    }
    let connect: [Field<'_>; 2] = [(b":method", b"CONNECT"), (b":authority", b"signup.cordon.test:443")];
    let end = exchange(&stack, &request(&connect, b"tunnel")).await?;
    assert!(answered(&end, "\"malformed\""), "CONNECT: {end:?}");
    let mut extended = good();
    extended.splice(0..1, [(&b":method"[..], &b"CONNECT"[..]), (b":protocol", b"websocket")]);
    let end = exchange(&stack, &request(&extended, b"tunnel")).await?;
    assert!(matches!(end, End::Reset | End::Closed), "extended CONNECT: {end:?}");
    assert!(stack.signup.bytes().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_good_request_is_written_anew_and_its_trailers_are_dropped() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let length = BODY.len().to_string();
    let sized = [good(), vec![(&b"content-length"[..], length.as_bytes()), (b"te", b"trailers")]].concat();
    let end = exchange(&stack, &request(&sized, BODY.as_bytes())).await?;
    assert!(answered(&end, "welcome"), "{end:?}");
    let card: &[Field<'_>] = &[(b"x-card", cards::AMEX.as_bytes())];
    let trailed = [
        Frame::headers(1, END_HEADERS, &good()).bytes(),
        Frame::data(1, 0, BODY.as_bytes()).bytes(),
        Frame::headers(1, END_HEADERS | END_STREAM, card).bytes(),
    ];
    let end = exchange(&stack, &trailed.concat()).await?;
    assert!(answered(&end, "welcome"), "{end:?}");
    for request in stack.signup.requests() {
        let of = |name: &str| request.headers.iter().filter(|header| header.starts_with(name)).count();
        assert_eq!((of("content-length:"), of("transfer-encoding:"), of("host:"), of("te:")), (1, 0, 1, 0));
    }
    for pan in [cards::VISA, cards::AMEX] {
        assert_eq!(search::find(pan, &stack.signup.bytes()), None);
    }
    Ok(())
}

#[tokio::test]
async fn a_card_number_that_is_cut_anywhere_by_frames_is_found() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let undeclared = BODY.replacen("{", &format!(r#"{{"note":"{}","#, cards::MASTERCARD), 1);
    for (body, pan, told) in
        [(BODY, cards::VISA, "welcome"), (undeclared.as_str(), cards::MASTERCARD, "leak-blocked")]
    {
        let start = body.find(pan).context("a number")?;
        for cut in start + 1..start + pan.len() {
            let (one, two) = body.split_at(cut);
            let mut raw = connect(&stack).await?;
            raw.write(&Frame::headers(1, END_HEADERS, &good()).bytes()).await?;
            raw.write(&Frame::data(1, 0, one.as_bytes()).bytes()).await?;
            raw.write(&Frame::data(1, END_STREAM, two.as_bytes()).bytes()).await?;
            let end = end_of(&mut raw).await?;
            assert!(answered(&end, told), "frames at {cut}: {end:?}");
        }
    }
    assert_eq!(stack.signup.requests().len(), 15);
    for pan in [cards::VISA, cards::MASTERCARD] {
        assert_eq!(search::find(pan, &stack.signup.bytes()), None);
    }
    Ok(())
}

/// Writes pieces until the gateway ends the connection: how many it took, and the error code it gave.
async fn flood(raw: &mut Raw, most: usize, piece: impl Fn(usize) -> Vec<u8>) -> Result<(usize, Option<u32>)> {
    let mut taken = 0;
    while taken < most && raw.write(&piece(taken)).await.is_ok() {
        taken += 1;
    }
    loop {
        match raw.frame().await {
            Ok(frame) if frame.kind == GOAWAY => return Ok((taken, frame.code())),
            Ok(_) => {}
            Err(_) => return Ok((taken, None)),
        }
    }
}

#[tokio::test]
async fn floods_end_their_connection_and_no_other() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    // Streams opened and reset at once (CVE-2023-44487).
    let reset = |count: usize| {
        let stream = u32::try_from(2 * count + 1).unwrap_or(u32::MAX);
        let cancel = Frame { kind: RST_STREAM, flags: 0, stream, payload: vec![0, 0, 0, 8] };
        [Frame::headers(stream, END_HEADERS, &good()).bytes(), cancel.bytes()].concat()
    };
    let (taken, code) = flood(&mut connect(&stack).await?, 50_000, reset).await?;
    assert!(taken < 50_000 && code.is_none_or(|code| code == CALM_DOWN), "resets: {taken}, {code:?}");
    // A head that never ends (CVE-2024-27316).
    let endless = |count: usize| {
        let mut frame = Frame::headers(1, 0, &[(b"x", &[b'a'; 16_000])]);
        if count == 0 {
            frame.payload = [Frame::headers(1, 0, &good()).payload, frame.payload].concat();
            frame.payload.truncate(16_384);
        } else {
            frame.kind = CONTINUATION;
        }
        frame.bytes()
    };
    let (taken, code) = flood(&mut connect(&stack).await?, 10_000, endless).await?;
    assert!(taken < 10_000, "an endless head: {taken}, {code:?}");
    let before = stack.signup.requests().len();
    assert!(stack.signup.bytes().is_empty(), "{before} requests were forwarded");
    let end = exchange(&stack, &request(&good(), BODY.as_bytes())).await?;
    if !answered(&end, "welcome") {
        bail!("others are served: {end:?}");
    }
    Ok(())
}

/// ENHANCE_YOUR_CALM (RFC 9113 section 7).
const CALM_DOWN: u32 = 11;
