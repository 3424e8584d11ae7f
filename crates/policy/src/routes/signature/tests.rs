//! Tests of signatures as routes declare them.

use super::*;
use crate::fault::{Faults, Source};
use crate::rows::document;

/// The signatures of a route, or all faults.
fn parse(text: &str) -> Result<Vec<Signature>, String> {
    let source = Source { file: "routes.toml", text };
    let mut faults = Faults::default();
    let mut found = Vec::new();
    if let Some(table) = document(&source, &mut faults) {
        let mut row = Row::new("route", table.get_ref(), table.span(), &source, &mut faults);
        found = read(&mut row, &["x-card"]);
        row.finish();
    }
    if faults.is_empty() { Ok(found) } else { Err(faults.to_string()) }
}

const HMAC: &str = "[[signature]]\nscheme = \"hmac-sha256\"\nkey = \"acme\"\nheader = \"x-signature\"\n";
const JWS: &str = "[[signature]]\nscheme = \"jws-rs256\"\nkey = \"acme\"\nheader = \"x-jws\"\n";

#[test]
fn what_is_declared_is_read() {
    let text = format!(
        "{HMAC}over = [\"timestamp\", \"header:content-type\", \"body-sha256\"]\nseparator = \"none\"\n\
         encoding = \"base64\"\nprefix = \"v1=\"\ntimestamp_header = \"x-time\"\n{JWS}payload = \"unencoded\"\n"
    );
    let scheme = SignatureScheme::Hmac {
        over: vec![
            SignedPart::Timestamp,
            SignedPart::Header("content-type".to_owned()),
            SignedPart::BodyDigest,
        ],
        separator: String::new(),
        encoding: SignatureEncoding::Base64,
        prefix: "v1=".to_owned(),
        timestamp_header: Some("x-time".to_owned()),
    };
    let [hmac, jws] = parse(&text).unwrap().try_into().unwrap();
    assert_eq!((hmac.key.as_str(), hmac.header.as_str(), hmac.scheme), ("acme", "x-signature", scheme));
    assert_eq!(jws.scheme, SignatureScheme::Jws { algorithm: JwsAlgorithm::Rs256, encoded: false });
    assert_eq!(parse(""), Ok(Vec::new()));
}

#[test]
fn slips_are_found() {
    for (text, told) in [
        (format!("{HMAC}over = [\"method\"]\n"), "leaves the body out"),
        (format!("{HMAC}over = []\n"), "`over` is empty"),
        (HMAC.to_owned(), "has no `over`"),
        (format!("{HMAC}over = [\"bodi\"]\n"), "did you mean \"body\"?"),
        (format!("{HMAC}over = [\"body\", \"body\"]\n"), "stands twice"),
        (format!("{HMAC}over = [\"body\", \"header:cookie\"]\n"), "\"cookie\" is not sent to destinations"),
        (format!("{HMAC}over = [\"body\", \"timestamp\"]\n"), "signed or sent, but not both"),
        (format!("{HMAC}over = [\"body\"]\ntimestamp_header = \"x-time\"\n"), "signed or sent, but not both"),
        (format!("{HMAC}over = [\"body\"]\nprefix = \"a b\"\n"), "has spaces"),
        (format!("{HMAC}over = [\"body\"]\npayload = \"encoded\"\n"), "unknown key `payload`"),
        (format!("{JWS}over = [\"body\"]\n"), "unknown key `over`"),
        (JWS.replace("rs256", "none"), "cannot be \"jws-none\""),
        (format!("{JWS}{JWS}"), "is set twice on this route"),
        (
            format!("{HMAC}over = [\"body\", \"timestamp\"]\ntimestamp_header = \"x-signature\"\n"),
            "is set twice on this route",
        ),
    ] {
        let faults = parse(&text).unwrap_err();
        assert!(faults.contains(told), "{text}: {faults}");
    }
}

#[test]
fn a_signature_has_a_header_of_its_own() {
    for header in [
        "host",
        "content-length",
        "content-type",
        "authorization",
        "cordon-x",
        "X-Signature",
        "a b",
        "x:y",
        "cookie",
    ] {
        let faults = parse(&JWS.replace("x-jws", header)).unwrap_err();
        assert!(faults.contains("cannot carry a signature"), "{header}: {faults}");
    }
}

#[test]
fn headers_of_fields_can_be_signed_and_carry_no_signature() {
    let [signed] =
        parse(&format!("{HMAC}over = [\"header:x-card\", \"body\"]\n")).unwrap().try_into().unwrap();
    let SignatureScheme::Hmac { over, .. } = signed.scheme else { panic!("an HMAC") };
    assert_eq!(over, [SignedPart::Header("x-card".to_owned()), SignedPart::Body]);
    let fault = parse(&format!("{HMAC}over = [\"header:x-other\", \"body\"]\n")).unwrap_err();
    assert!(fault.contains("\"x-other\" is not sent") && fault.contains("x-card"), "{fault}");
    let fault = parse(&JWS.replace("x-jws", "x-card")).unwrap_err();
    assert!(fault.contains("\"x-card\" is set twice on this route"), "{fault}");
}
