//! TLS 1.3 with client certificates: identities from PEM files, server and client configurations, the peer's name.
//!
//! It must never speak an older version, accept a peer without checking it, or use a key that others may read. Tests:
//! `tests/tls.rs`, `tests/server.rs`.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The one URI in its verified certificate's subject alternative names; `None` without a certificate, or if there is
    /// not exactly one.
    pub uri: Option<String>,
    /// Its address.
    pub address: SocketAddr,
    /// Where it believes to be, if it came through a tunnel.
    pub via: Option<Arc<Via>>,
}

/// What a client named to the proxy that it came through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Via {
    /// Host name, lower case.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A certificate chain and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM files. The key's file must be readable by its owner only.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(chain: &Path, key: &Path) -> Result<Identity, TlsError> {
        Ok(Identity { chain: certificates(chain)?, key: private_key(key)? })
    }
}

impl Identity {
    /// The chain, its own certificate first, and the key.
    #[must_use]
    pub fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }
}

impl From<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> for Identity {
    fn from((chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)) -> Identity {
        Identity { chain, key }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identity({} certificates)", self.chain.len())
    }
}

/// Certificates that are trusted to sign others.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Reads all certificates of a PEM file.
    ///
    /// # Errors
    /// [`TlsError`] if there is none, or one is unusable.
    pub fn load(path: &Path) -> Result<Roots, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(path)? {
            store.add(certificate).map_err(|source| TlsError::Root { path: path.to_owned(), source })?;
        }
        Ok(Roots(Arc::new(store)))
    }
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// They need not, and none is asked for.
    None,
    /// They must, signed by one of these.
    Required(Roots),
}

/// How a listener speaks TLS: version 1.3, HTTP/2 preferred over HTTP/1.1, resumption within this process.
///
/// # Errors
/// [`TlsError`] if the key does not fit the chain or the roots are unusable.
pub fn server_config(identity: Identity, clients: ClientAuth) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Setup)?;
    let builder = match clients {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.0, provider())
                .build()
                .map_err(TlsError::Verifier)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key).map_err(TlsError::Setup)?;
    config.alpn_protocols = alpn();
    // Each configuration has a cache of its own, so that a session is resumed only where it was verified.
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}

/// How to speak TLS to a server that these roots signed, showing `identity` if it asks.
///
/// # Errors
/// [`TlsError`] if the key does not fit the chain.
pub fn client_config(roots: Roots, identity: Option<Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots.0);
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain, identity.key).map_err(TlsError::Setup)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

/// When the first to end of a PEM file's certificates ends.
///
/// # Errors
/// [`TlsError`] if there is none, or one is unusable.
pub fn valid_until(path: &Path) -> Result<Timestamp, TlsError> {
    let unusable = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let mut first = Timestamp::MAX;
    for certificate in certificates(path)? {
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_detail| unusable())?;
        let end =
            Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|_range| unusable())?;
        first = first.min(end);
    }
    Ok(first)
}

/// Whether a certificate is an authority's, and this is its key (a subject public key info, DER).
#[must_use]
pub fn is_authority_of(certificate: &CertificateDer<'_>, key: &[u8]) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.is_ca() && parsed.tbs_certificate.subject_pki.raw == key)
}

/// The same with HTTP/1.1 only, for a listener whose clients send one request before something else.
#[must_use]
pub fn http1_only(config: &Arc<ServerConfig>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The one URI among a certificate's subject alternative names.
pub(crate) fn uri_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) if uri.len() <= LONGEST_URI => Some(uri.to_owned()),
        _ => None,
    }
}

/// Why TLS cannot be set up. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A private key that others may read is no secret.
    #[error("{} may be read by others than its owner; run: chmod 600 {0}", path.display())]
    KeyOpenToOthers {
        /// The file.
        path: PathBuf,
    },
    /// No certificate, or no key, in the file, or its PEM is broken.
    #[error("{} holds no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// A certificate that cannot be a root.
    #[error("{} holds a certificate that cannot be trusted", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The roots for clients are unusable.
    #[error("client certificates cannot be verified")]
    Verifier(#[source] VerifierBuilderError),
    /// Key and chain do not fit, or the version is not supported.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn alpn() -> Vec<Vec<u8>> {
    vec![ALPN_H2.to_vec(), b"http/1.1".to_vec()]
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    let missing = |_: pem::Error| TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(missing)?;
    if chain.is_empty() { Err(missing(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

/// Reads a private key from a PEM file that its owner alone may read.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = secret_file(path)?;
    // The PEM reader's own error repeats a line of the file, so it goes no further.
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_detail| TlsError::Pem { path: path.to_owned(), what: "private key" })
}

/// Reads a file that its owner alone may read.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let at = |source: io::Error| TlsError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(at)?;
    let metadata = file.metadata().map_err(at)?;
    if metadata.mode() & others(path, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref()) != 0 {
        return Err(TlsError::KeyOpenToOthers { path: path.to_owned() });
    }
    let room = usize::try_from(metadata.len()).unwrap_or_default().saturating_add(1);
    // With room for all of it, reading does not move the key and leave copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.read_to_end(&mut bytes).map_err(at)?;
    Ok(bytes)
}

/// The permission bits that a key's file must not have. systemd hands a credential to one service's user by an access list,
/// whose mask shows as the group's bits; nobody else can enter the directory.
fn others(path: &Path, credentials: Option<&OsStr>) -> u32 {
    let handed = credentials.is_some_and(|directory| path.parent() == Some(Path::new(directory)));
    if handed { 0o037 } else { 0o077 }
}

/// The protocol name under which HTTP/2 is negotiated (RFC 9113 section 3.2).
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// Sessions that can be resumed: clients are few and keep their connections.
const SESSIONS: usize = 4096;
/// The longest URI that can name a service (SPIFFE ID section 2.3).
const LONGEST_URI: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_credential_of_this_service_may_show_an_access_list() {
        let directory = Some(OsStr::new("/run/credentials/cordon-vault.service"));
        assert_eq!(others(Path::new("/run/credentials/cordon-vault.service/tls.key"), directory), 0o037);
        for (path, directory) in [
            ("/run/credentials/cordon-vault.service/tls.key", None),
            ("/run/credentials/other.service/tls.key", directory),
            ("/run/credentials/cordon-vault.service/../other/tls.key", directory),
            ("/etc/cordon/vault.key", directory),
        ] {
            assert_eq!(others(Path::new(path), directory), 0o077, "{path}");
        }
    }
}
