//! Signatures over what is sent to a destination: made last, over the very bytes that leave.
//!
//! Must never sign a request before its tokens are cards, nor show a key or what was signed. Keys are read once, from files
//! that their owner alone may read. Tests: `sign/tests.rs` (RFC 4231, 7515 and 7797), `tests/tests/signing.rs`.

use crate::flow::Outbound;
use crate::problem::Fault;
use cordon_daemon::tls::{self, TlsError};
use cordon_policy::{JwsAlgorithm, Signature, SignatureEncoding, SignatureScheme, SignedPart};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use ring::{digest, hmac};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// `[signing.NAME]`: a key that signs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The file: for HMAC the key as `format` says, else a private key in PEM.
    pub file: PathBuf,
    /// How an HMAC key is written in it.
    #[serde(default)]
    pub format: Format,
    /// Its id for who verifies, in the header of a JWS.
    #[serde(default)]
    pub id: Option<String>,
}

/// How an HMAC key is written in its file.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes are the key, without a line end at their end.
    #[default]
    Raw,
    /// Hexadecimal.
    Hex,
    /// Base64 (RFC 4648 section 4), padded.
    Base64,
}

/// Why a signature cannot be made. Operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] TlsError),
    /// The bundle names a key that is not there.
    #[error("route `{route}` uses the key `{key}`; name its file in [signing.{key}] of gateway.toml")]
    Missing {
        /// The route.
        route: String,
        /// The key's name.
        key: String,
    },
    /// The key cannot be used.
    #[error("[signing.{key}]: the file holds no key for {scheme}{}", hint(scheme))]
    Unusable {
        /// The key's name.
        key: String,
        /// What it was wanted for.
        scheme: &'static str,
    },
}

/// Makes the signatures of one route.
#[derive(Debug, Default)]
pub struct Signer(Vec<One>);

struct One {
    spec: Signature,
    header: HeaderName,
    key: Key,
    id: Option<String>,
}

/// Only where it goes.
impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("One").field("header", &self.header).finish_non_exhaustive()
    }
}

enum Key {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Signer {
    /// Reads the keys that a route needs.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load(
        route: &str,
        signatures: &[Signature],
        keys: &HashMap<String, KeyConfig>,
    ) -> Result<Self, KeyError> {
        let one = |spec: &Signature| {
            let config = keys
                .get(&spec.key)
                .ok_or_else(|| KeyError::Missing { route: route.to_owned(), key: spec.key.clone() })?;
            let scheme = scheme_name(&spec.scheme);
            let unusable = || KeyError::Unusable { key: spec.key.clone(), scheme };
            let key = read_key(&spec.scheme, config)?.ok_or_else(unusable)?;
            let header = HeaderName::from_bytes(spec.header.as_bytes()).map_err(|_no_name| unusable())?;
            Ok(One { spec: spec.clone(), header, key, id: config.id.clone() })
        };
        signatures.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The headers that it sets.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|one| {
            let timed = match &one.spec.scheme {
                SignatureScheme::Hmac { timestamp_header, .. } => timestamp_header.as_deref(),
                SignatureScheme::Jws { .. } => None,
            };
            std::iter::once(one.header.as_str()).chain(timed)
        })
    }

    /// Refuses what could not be signed as a whole: of a header that stands twice a reader may take either.
    ///
    /// # Errors
    /// [`Fault::Malformed`].
    pub fn admit(&self, sent: &HeaderMap) -> Result<(), Fault> {
        let signed = self.0.iter().flat_map(|one| match &one.spec.scheme {
            SignatureScheme::Hmac { over, .. } => over.as_slice(),
            SignatureScheme::Jws { .. } => &[],
        });
        let twice = |part: &SignedPart| match part {
            SignedPart::Header(name) => sent.get_all(name).iter().count() > 1,
            _ => false,
        };
        if signed.into_iter().any(twice) { Err(Fault::Malformed("signed-header")) } else { Ok(()) }
    }

    /// Adds the signatures to a request that is about to be sent to `host`. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Fault::Internal`] when a key does not sign; the request must not be sent.
    pub fn sign(&self, outbound: &mut Outbound, host: &str, now: i64) -> Result<(), Fault> {
        for one in &self.0 {
            one.sign(outbound, host, now)?;
        }
        Ok(())
    }
}

impl One {
    fn sign(&self, outbound: &mut Outbound, host: &str, now: i64) -> Result<(), Fault> {
        let now = now.to_string();
        let text = match &self.spec.scheme {
            SignatureScheme::Hmac { over, separator, encoding, prefix, timestamp_header } => {
                if let Some(name) = timestamp_header {
                    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_no_name| FAILED)?;
                    outbound.set(name, HeaderValue::from_str(&now).map_err(|_no_value| FAILED)?);
                }
                let input = signed_parts(outbound, over, separator, host, &now);
                format!("{prefix}{}", encoded(*encoding, &self.key.sign(&input)?))
            }
            SignatureScheme::Jws { algorithm, encoded } => {
                let head = jose_header(*algorithm, self.id.as_deref(), *encoded);
                let input = jws_input(&head, outbound.body(), *encoded);
                format!("{head}..{}", BASE64URL_NOPAD.encode(&self.key.sign(&input)?))
            }
        };
        outbound.set(self.header.clone(), HeaderValue::from_str(&text).map_err(|_no_value| FAILED)?);
        Ok(())
    }
}

/// The parts as they are sent, in their order.
fn signed_parts(
    outbound: &Outbound,
    over: &[SignedPart],
    separator: &str,
    host: &str,
    now: &str,
) -> Zeroizing<Vec<u8>> {
    let (path, query) = outbound.path_and_query();
    let digest = HEXLOWER.encode(digest::digest(&digest::SHA256, outbound.body()).as_ref());
    let parts: Vec<&[u8]> = over
        .iter()
        .map(|part| match part {
            SignedPart::Method => outbound.method().as_bytes(),
            SignedPart::Host => host.as_bytes(),
            SignedPart::Path => path.as_bytes(),
            SignedPart::Query => query.as_bytes(),
            SignedPart::Timestamp => now.as_bytes(),
            SignedPart::Body => outbound.body(),
            SignedPart::BodyDigest => digest.as_bytes(),
            SignedPart::Header(name) => outbound.header(name),
        })
        .collect();
    // In one piece: a buffer that grows would leave a copy behind.
    Zeroizing::new(parts.join(separator.as_bytes()))
}

/// The protected header in base64url (RFC 7515 section 4; `b64` and `crit` by RFC 7797 section 6).
fn jose_header(algorithm: JwsAlgorithm, id: Option<&str>, encoded: bool) -> String {
    let id = id.map(|id| format!(",\"kid\":{}", serde_json::Value::from(id))).unwrap_or_default();
    let payload = if encoded { "" } else { ",\"b64\":false,\"crit\":[\"b64\"]" };
    BASE64URL_NOPAD.encode(format!("{{\"alg\":\"{}\"{id}{payload}}}", algorithm.as_str()).as_bytes())
}

/// What a JWS signs (RFC 7515 section 5.1, RFC 7797 section 3).
fn jws_input(head: &str, body: &[u8], encoded: bool) -> Zeroizing<Vec<u8>> {
    let length = if encoded { BASE64URL_NOPAD.encode_len(body.len()) } else { body.len() };
    let mut input = Zeroizing::new(Vec::with_capacity(head.len().saturating_add(length).saturating_add(1)));
    input.extend_from_slice(head.as_bytes());
    input.push(b'.');
    if encoded {
        let start = input.len();
        input.resize(start.saturating_add(length), 0);
        if let Some(place) = input.get_mut(start..) {
            BASE64URL_NOPAD.encode_mut(body, place);
        }
    } else {
        input.extend_from_slice(body);
    }
    input
}

impl Key {
    fn sign(&self, input: &[u8]) -> Result<Vec<u8>, Fault> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => Ok(hmac::sign(key, input).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature).map_err(|_unspecified| FAILED)?;
                Ok(signature)
            }
            Self::Ecdsa(key) => key
                .sign(&random, input)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_unspecified| FAILED),
        }
    }
}

/// A key by which an HMAC of another party is verified.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn hmac_key(
    route: &str,
    name: &str,
    keys: &HashMap<String, KeyConfig>,
) -> Result<hmac::Key, KeyError> {
    let config =
        keys.get(name).ok_or_else(|| KeyError::Missing { route: route.to_owned(), key: name.to_owned() })?;
    let secret = hmac_secret(config.format, &tls::secret_file(&config.file)?);
    let unusable = || KeyError::Unusable { key: name.to_owned(), scheme: "hmac-sha256" };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret.ok_or_else(unusable)?))
}

/// The key in a file, or `None` if it is none for this scheme.
fn read_key(scheme: &SignatureScheme, config: &KeyConfig) -> Result<Option<Key>, TlsError> {
    let algorithm = match scheme {
        SignatureScheme::Hmac { .. } => JwsAlgorithm::Hs256,
        SignatureScheme::Jws { algorithm, .. } => *algorithm,
    };
    Ok(match algorithm {
        JwsAlgorithm::Hs256 => {
            let secret = tls::secret_file(&config.file)?;
            hmac_secret(config.format, &secret)
                .map(|secret| Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
        }
        JwsAlgorithm::Rs256 => match tls::private_key(&config.file)? {
            rustls_pki_types::PrivateKeyDer::Pkcs8(der) => {
                RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()
            }
            rustls_pki_types::PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
            _ => None,
        }
        .map(|key| Key::Rsa(Box::new(key))),
        JwsAlgorithm::Es256 => match tls::private_key(&config.file)? {
            rustls_pki_types::PrivateKeyDer::Pkcs8(der) => {
                let random = SystemRandom::new();
                let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
                EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der(), &random).ok()
            }
            _ => None,
        }
        .map(|key| Key::Ecdsa(Box::new(key))),
    })
}

/// The bytes of an HMAC key, if there are enough of them.
fn hmac_secret(format: Format, file: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = file.strip_suffix(b"\n").unwrap_or(file);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let secret = Zeroizing::new(match format {
        Format::Raw => text.to_vec(),
        Format::Hex => HEXLOWER_PERMISSIVE.decode(text).ok()?,
        Format::Base64 => BASE64.decode(text).ok()?,
    });
    (secret.len() >= SHORTEST).then_some(secret)
}

fn encoded(encoding: SignatureEncoding, bytes: &[u8]) -> String {
    match encoding {
        SignatureEncoding::Hex => HEXLOWER.encode(bytes),
        SignatureEncoding::Base64 => BASE64.encode(bytes),
        SignatureEncoding::Base64Url => BASE64URL_NOPAD.encode(bytes),
    }
}

const fn scheme_name(scheme: &SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::Hmac { .. } => "hmac-sha256",
        SignatureScheme::Jws { algorithm: JwsAlgorithm::Hs256, .. } => "jws-hs256",
        SignatureScheme::Jws { algorithm: JwsAlgorithm::Rs256, .. } => "jws-rs256",
        SignatureScheme::Jws { algorithm: JwsAlgorithm::Es256, .. } => "jws-es256",
    }
}

fn hint(scheme: &str) -> &'static str {
    match scheme {
        "jws-rs256" => ": it wants an RSA key of 2048 to 4096 bits in PEM",
        "jws-es256" => ": it wants a P-256 key in PEM (PKCS#8)",
        _ => ": it wants at least 16 bytes, written as `format` says",
    }
}

const FAILED: Fault = Fault::Internal("internal.signature");
/// The shortest HMAC key, in bytes: half of what SHA-256 could use, as long as secrets of processors get.
const SHORTEST: usize = 16;

#[cfg(test)]
mod tests;
