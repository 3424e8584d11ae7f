//! Where a vault is, which name and roots it must show, and who we are to it.
//! Must never accept a certificate by anything but the given roots and name, nor TLS below 1.3.
//! Tests: `tests/tests/identity.rs`.

use crate::ClientError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Address, expected name, pinned roots and our own certificate.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) address: Arc<str>,
    pub(crate) name: ServerName<'static>,
    pub(crate) authority: Arc<str>,
    pub(crate) tls: Arc<ClientConfig>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("authority", &self.authority)
            .finish()
    }
}

impl Endpoint {
    /// Reads PEM files: `roots` the vault must chain to, and our certificate chain with its key.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] names the file and what is wrong with it.
    pub fn from_files(
        address: &str,
        name: &str,
        roots: &Path,
        cert: &Path,
        key: &Path,
    ) -> Result<Self, ClientError> {
        let mut store = RootCertStore::empty();
        for root in certificates(roots)? {
            store.add(root).map_err(|error| unusable(roots, &error))?;
        }
        let chain = certificates(cert)?;
        let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ClientError::Configuration(error.to_string()))?
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key_der)
            .map_err(|error| unusable(cert, &error))?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_source| ClientError::Configuration(format!("`{name}` is not a server name")))?;
        Ok(Self { address: address.into(), name: server, authority: name.into(), tls: Arc::new(tls) })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unusable(path, &error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"no certificate in it"));
    }
    Ok(found)
}

fn unusable(path: &Path, error: &dyn fmt::Display) -> ClientError {
    ClientError::Configuration(format!("{}: {error}", path.display()))
}
