//! Tests of signatures, with the vectors of the RFCs.

use super::*;
use crate::flow::Head;
use bytes::Bytes;
use http::{HeaderMap, Method};
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn outbound(path_and_query: &str, body: &'static [u8]) -> Outbound {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let head = Head { method: Method::POST, path_and_query: path_and_query.to_owned(), headers };
    Outbound::of(head, Bytes::from_static(body))
}

fn decode(text: &str) -> Vec<u8> {
    BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
}

/// The header that this signature puts on a request.
fn signed(scheme: SignatureScheme, key: Key, outbound: &mut Outbound) -> String {
    let spec = Signature { key: "k".to_owned(), header: "x-signature".to_owned(), scheme };
    let one = One { spec, header: HeaderName::from_static("x-signature"), key, id: None };
    Signer(vec![one]).sign(outbound, "p.test", 1_700_000_000).unwrap();
    String::from_utf8(outbound.header("x-signature").to_vec()).unwrap()
}

fn hmac_over(over: &[SignedPart], separator: &str, encoding: SignatureEncoding) -> SignatureScheme {
    let timed = over.contains(&SignedPart::Timestamp);
    SignatureScheme::Hmac {
        over: over.to_vec(),
        separator: separator.to_owned(),
        encoding,
        prefix: String::new(),
        timestamp_header: timed.then(|| "x-time".to_owned()),
    }
}

fn hmac_key(secret: &[u8]) -> Key {
    Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret))
}

const fn jws(algorithm: JwsAlgorithm, encoded: bool) -> SignatureScheme {
    SignatureScheme::Jws { algorithm, encoded }
}

/// RFC 7515 appendix A: the payload of its examples.
const JOE: &[u8] = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

#[test]
fn hmac_of_a_body_is_that_of_rfc_4231() {
    let body = || hmac_over(&[SignedPart::Body], "\n", SignatureEncoding::Hex);
    for (secret, body_bytes, expected) in [
        (
            &[0x0b; 20][..],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    ] {
        assert_eq!(signed(body(), hmac_key(secret), &mut outbound("/", body_bytes)), expected);
    }
}

#[test]
fn parts_are_signed_in_their_order_as_they_are_sent() {
    let over = [
        SignedPart::Timestamp,
        SignedPart::Method,
        SignedPart::Host,
        SignedPart::Path,
        SignedPart::Query,
        SignedPart::Header("content-type".to_owned()),
        SignedPart::Header("accept".to_owned()),
        SignedPart::BodyDigest,
    ];
    let mut request = outbound("/v1/a%20b?x=1&y=2", b"{}");
    let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let text = format!("1700000000|POST|p.test|/v1/a%20b|x=1&y=2|application/json||{digest}");
    let secret = [7; 32];
    let expected =
        BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), text.as_bytes()).as_ref());
    let scheme = hmac_over(&over, "|", SignatureEncoding::Base64);
    assert_eq!(signed(scheme, hmac_key(&secret), &mut request), expected);
    assert_eq!(request.header("x-time"), b"1700000000");
}

#[test]
fn a_jws_over_an_unencoded_payload_is_that_of_rfc_7797() {
    let secret =
        decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    for (encoded, expected) in [
        (true, "eyJhbGciOiJIUzI1NiJ9..5mvfOroL-g7HyqJoozehmsaqmvTYGEq5jTI1gVvoEoQ"),
        (
            false,
            "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..\
             A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY",
        ),
    ] {
        let scheme = jws(JwsAlgorithm::Hs256, encoded);
        assert_eq!(signed(scheme, hmac_key(&secret), &mut outbound("/", b"$.02")), expected);
    }
}

fn components() -> [Vec<u8>; 8] {
    [
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "AQAB",
        "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
        "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
        "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
        "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
        "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
        "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
    ]
    .map(decode)
}

/// RFC 7515 appendix A.2, whose payload stands between the points there and is left out here.
const RS256: &str = "eyJhbGciOiJSUzI1NiJ9..cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

#[test]
fn rs256_is_that_of_rfc_7515_also_with_the_key_from_a_file() {
    let [n, e, d, p, q, dp, dq, qinv] = components();
    let public_key = PublicKeyComponents { n: &n, e: &e };
    let parts = KeyPairComponents { public_key, d: &d, p: &p, q: &q, dP: &dp, dQ: &dq, qInv: &qinv };
    let key = Key::Rsa(Box::new(RsaKeyPair::from_components(&parts).unwrap()));
    assert_eq!(signed(jws(JwsAlgorithm::Rs256, true), key, &mut outbound("/", JOE)), RS256);

    // The same as a file (RFC 8017 appendix A.1.2).
    let length = |length: usize| {
        let bytes = u16::try_from(length).unwrap().to_be_bytes();
        match length {
            0..128 => vec![bytes[1]],
            128..256 => vec![0x81, bytes[1]],
            _ => [vec![0x82], bytes.to_vec()].concat(),
        }
    };
    let integer = |value: &[u8]| {
        let value = if value[0] >= 128 { [&[0], value].concat() } else { value.to_vec() };
        [vec![2], length(value.len()), value].concat()
    };
    let numbers = [vec![0], n, e, d, p, q, dp, dq, qinv].map(|value| integer(&value)).concat();
    let der = [vec![0x30], length(numbers.len()), numbers].concat();
    let name = "RSA PRIVATE KEY";
    let pem = format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", BASE64.encode(&der));
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), pem.as_bytes(), 0o600);
    let key = read_key(&jws(JwsAlgorithm::Rs256, true), &config).unwrap().unwrap();
    assert_eq!(signed(jws(JwsAlgorithm::Rs256, true), key, &mut outbound("/", JOE)), RS256);
    // It is no key for anything else.
    assert!(read_key(&jws(JwsAlgorithm::Es256, true), &config).unwrap().is_none());
}

#[test]
fn es256_signs_what_rfc_7515_signs() {
    let [x, y, d] = [
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
    ]
    .map(decode);
    let point = [vec![4], x, y].concat();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone());
    let head = jose_header(JwsAlgorithm::Es256, None, true);
    assert_eq!(head, "eyJhbGciOiJFUzI1NiJ9");
    let input = jws_input(&head, JOE, true);
    let theirs = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    public.verify(&input, &decode(theirs)).unwrap();
    let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(curve, &d, &point, &SystemRandom::new()).unwrap();
    let ours = signed(jws(JwsAlgorithm::Es256, true), Key::Ecdsa(Box::new(pair)), &mut outbound("/", JOE));
    let (ours_head, signature) = ours.split_once("..").unwrap();
    assert_eq!(ours_head, head);
    public.verify(&input, &decode(signature)).unwrap();
}

#[test]
fn a_key_s_id_stands_in_the_header_as_json() {
    let head = decode(&jose_header(JwsAlgorithm::Es256, Some("a\"b"), false));
    assert_eq!(head, br#"{"alg":"ES256","kid":"a\"b","b64":false,"crit":["b64"]}"#);
}

fn file(dir: &Path, bytes: &[u8], mode: u32) -> KeyConfig {
    let path = dir.join("key");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    KeyConfig { file: path, format: Format::Raw, id: None }
}

#[test]
fn a_key_that_others_may_read_is_short_or_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = Signature {
        key: "acme".to_owned(),
        header: "x-signature".to_owned(),
        scheme: hmac_over(&[SignedPart::Body], "", SignatureEncoding::Hex),
    };
    let load = |config: Option<KeyConfig>| {
        let keys = config.map(|config| ("acme".to_owned(), config)).into_iter().collect();
        Signer::load("charge", std::slice::from_ref(&spec), &keys).map(drop)
    };
    assert!(load(Some(file(dir.path(), &[7; 16], 0o600))).is_ok());
    assert!(load(Some(file(dir.path(), &[7; 16], 0o400))).is_ok());
    for mode in [0o640, 0o604, 0o644] {
        let refused = load(Some(file(dir.path(), &[7; 16], mode))).unwrap_err();
        assert!(matches!(refused, KeyError::File(TlsError::KeyOpenToOthers { .. })), "{mode:o}");
    }
    let short = load(Some(file(dir.path(), b"0123456789abcde\n", 0o600))).unwrap_err();
    assert!(matches!(short, KeyError::Unusable { .. }), "{short}");
    let missing = load(None).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "route `charge` uses the key `acme`; name its file in [signing.acme] of gateway.toml"
    );
}

#[test]
fn a_secret_is_read_as_it_is_written() {
    let raw = hmac_secret(Format::Raw, b"whsec_0123456789\r\n").unwrap();
    assert_eq!(raw.as_slice(), b"whsec_0123456789");
    let hex = hmac_secret(Format::Hex, b"000102030405060708090A0b0c0d0e0f\n").unwrap();
    assert_eq!(hex.as_slice(), (0..16).collect::<Vec<u8>>());
    let base64 = hmac_secret(Format::Base64, b"AAECAwQFBgcICQoLDA0ODw==").unwrap();
    assert_eq!(base64.as_slice(), (0..16).collect::<Vec<u8>>());
    for (format, text) in
        [(Format::Hex, "zz"), (Format::Base64, "AAECAwQFBgcICQoLDA0ODw"), (Format::Hex, "00")]
    {
        assert!(hmac_secret(format, text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn no_key_shows() {
    let spec = Signature {
        key: "acme".to_owned(),
        header: "x-signature".to_owned(),
        scheme: jws(JwsAlgorithm::Hs256, true),
    };
    let key = hmac_key(b"0123456789abcdef");
    let signer = Signer(vec![One { spec, header: HeaderName::from_static("x-signature"), key, id: None }]);
    assert_eq!(format!("{signer:?}"), "Signer([One { header: \"x-signature\", .. }])");
}
