//! How a way out signs what it sends: which parts, with which key, in which header.
//!
//! Must never name a key's material, only its name in `gateway.toml`; nor sign without the body, which carries the card.
//! Tests: `signature/tests.rs`.

use std::collections::BTreeSet;

use toml::Spanned;

use crate::rows::{Mistake, Row, choose};
use crate::segments::name_text;

/// A signature that the gateway adds to a request, over the bytes that are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key's name in `gateway.toml`.
    pub key: String,
    /// The header it stands in, lower case.
    pub header: String,
    /// How it is made.
    pub scheme: SignatureScheme,
}

/// How a signature is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureScheme {
    /// HMAC-SHA-256 over parts of the request.
    Hmac {
        /// What is signed, in this order.
        over: Vec<SignedPart>,
        /// What stands between two parts.
        separator: String,
        /// How the result is written.
        encoding: SignatureEncoding,
        /// What stands before it in the header.
        prefix: String,
        /// The header that carries the time, if it is signed.
        timestamp_header: Option<String>,
    },
    /// A JSON Web Signature whose payload is the body and is left out of it (RFC 7515 appendix F).
    Jws {
        /// Its algorithm.
        algorithm: JwsAlgorithm,
        /// Whether the payload is signed in base64url, as by RFC 7515; else as it is (RFC 7797).
        encoded: bool,
    },
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedPart {
    /// The method, upper case.
    Method,
    /// The destination's host, with its port unless it is 443.
    Host,
    /// The path as sent.
    Path,
    /// The query as sent, without `?`; empty without one.
    Query,
    /// The time of sending, in seconds since 1970.
    Timestamp,
    /// The body.
    Body,
    /// The body's SHA-256 in lower-case hexadecimal.
    BodyDigest,
    /// The value of a header as sent; empty if there is none.
    Header(String),
}

/// How an HMAC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Lower-case hexadecimal.
    Hex,
    /// Base64 (RFC 4648 section 4), padded.
    Base64,
    /// Base64 for URLs (RFC 4648 section 5), not padded.
    Base64Url,
}

/// An algorithm of JSON Web Signatures (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwsAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl JwsAlgorithm {
    /// Its name in a JOSE header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// Reads the signatures of a route, whose fields stand in these headers besides those that are always sent.
pub(super) fn read(row: &mut Row<'_, '_, '_>, fields: &[&str]) -> Vec<Signature> {
    let mut headers = fields.iter().map(|&name| name.to_owned()).collect();
    let mut found = Vec::new();
    for (span, table) in row.tables("signature") {
        found.extend(one(row.inner("signature", span, table), fields, &mut headers));
    }
    found
}

fn one(mut row: Row<'_, '_, '_>, fields: &[&str], taken: &mut BTreeSet<String>) -> Option<Signature> {
    let kind = row.word("scheme", &SCHEMES).map(Spanned::into_inner);
    let key = row.parsed("key", name_text);
    let header = row.parsed("header", header_name);
    if let Some(header) = &header {
        claim(&mut row, header, taken);
    }
    let scheme = match kind {
        Some(Kind::Hmac) => hmac(&mut row, fields, taken),
        Some(Kind::Jws(algorithm)) => {
            let encoded = row.word_or("payload", &[("encoded", true), ("unencoded", false)], true);
            encoded.map(|encoded| SignatureScheme::Jws { algorithm, encoded })
        }
        None => None,
    };
    row.finish();
    Some(Signature { key: key?.into_inner(), header: header?.into_inner(), scheme: scheme? })
}

fn hmac(row: &mut Row<'_, '_, '_>, fields: &[&str], taken: &mut BTreeSet<String>) -> Option<SignatureScheme> {
    let span = row.span();
    let over = row.list_of_some("over", |text| part(text, fields));
    let over: Vec<SignedPart> = over.into_iter().map(Spanned::into_inner).collect();
    let separator = row.word_or("separator", &SEPARATORS, "\n")?;
    let encoding = row.word_or("encoding", &ENCODINGS, SignatureEncoding::Hex)?;
    let prefix = row.parsed_or_absent("prefix", visible)?;
    let timestamp = row.parsed_or_absent("timestamp_header", header_name)?;
    if let Some(header) = &timestamp {
        claim(row, header, taken);
    }
    if !over.iter().any(|part| matches!(part, SignedPart::Body | SignedPart::BodyDigest)) && !over.is_empty()
    {
        let help = "add \"body\" or \"body-sha256\" to `over`";
        row.fault(&span, "this signature leaves the body out", Some(help.to_owned()));
    }
    if over.contains(&SignedPart::Timestamp) != timestamp.is_some() {
        let help = "a signed time needs `timestamp_header`, and the header needs \"timestamp\" in `over`";
        row.fault(&span, "the time is signed or sent, but not both", Some(help.to_owned()));
    }
    Some(SignatureScheme::Hmac {
        over,
        separator: separator.to_owned(),
        encoding,
        prefix: prefix.map(Spanned::into_inner).unwrap_or_default(),
        timestamp_header: timestamp.map(Spanned::into_inner),
    })
}

/// Two things in one header would be neither.
fn claim(row: &mut Row<'_, '_, '_>, header: &Spanned<String>, taken: &mut BTreeSet<String>) {
    if !taken.insert(header.get_ref().clone()) {
        row.fault(&header.span(), format!("\"{}\" is set twice on this route", header.get_ref()), None);
    }
}

fn part(text: &str, fields: &[&str]) -> Result<SignedPart, Mistake> {
    if let Some(name) = text.strip_prefix("header:") {
        let sent: Vec<&str> = SENT.iter().chain(fields).copied().collect();
        return sent.contains(&name).then(|| SignedPart::Header(name.to_owned())).ok_or_else(|| {
            Mistake::new(
                format!("the header \"{name}\" is not sent to destinations"),
                format!("write one of {}", sent.join(", ")),
            )
        });
    }
    let words: Vec<(&str, usize)> = PARTS.iter().enumerate().map(|(at, (word, _))| (*word, at)).collect();
    let at = choose("over", text, &words)?;
    PARTS.get(at).map(|(_, part)| part.clone()).ok_or_else(|| Mistake::new("unreadable", ""))
}

/// A header of the signature's own: not one that the gateway or the caller sets.
fn header_name(text: &str) -> Result<String, Mistake> {
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let plain = (1..=64).contains(&text.len()) && text.bytes().all(token);
    let ours = SENT.contains(&text) || TAKEN.contains(&text) || text.starts_with("cordon-");
    if plain && !ours {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(
        format!("\"{text}\" cannot carry a signature"),
        "write a header of its own in lower case, like x-signature",
    ))
}

fn visible(text: &str) -> Result<String, Mistake> {
    let plain = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain {
        return Ok(text.to_owned());
    }
    Err(Mistake::new("the prefix is too long or has spaces", "write visible characters, like sha256="))
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Hmac,
    Jws(JwsAlgorithm),
}

const SCHEMES: [(&str, Kind); 4] = [
    ("hmac-sha256", Kind::Hmac),
    ("jws-hs256", Kind::Jws(JwsAlgorithm::Hs256)),
    ("jws-rs256", Kind::Jws(JwsAlgorithm::Rs256)),
    ("jws-es256", Kind::Jws(JwsAlgorithm::Es256)),
];

const ENCODINGS: [(&str, SignatureEncoding); 3] = [
    ("hex", SignatureEncoding::Hex),
    ("base64", SignatureEncoding::Base64),
    ("base64url", SignatureEncoding::Base64Url),
];

const SEPARATORS: [(&str, &str); 5] =
    [("newline", "\n"), ("point", "."), ("colon", ":"), ("pipe", "|"), ("none", "")];

const PARTS: [(&str, SignedPart); 7] = [
    ("method", SignedPart::Method),
    ("host", SignedPart::Host),
    ("path", SignedPart::Path),
    ("query", SignedPart::Query),
    ("timestamp", SignedPart::Timestamp),
    ("body", SignedPart::Body),
    ("body-sha256", SignedPart::BodyDigest),
];

/// What destinations get of a caller's headers on every route (`gateway/src/head.rs`).
const SENT: [&str; 5] = ["content-type", "accept", "authorization", "idempotency-key", "user-agent"];
/// Headers that mean something else to whoever reads the request.
const TAKEN: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests;
