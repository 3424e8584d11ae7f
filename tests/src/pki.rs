//! A throw-away certificate authority for one run. Must never write a key outside the run's directory.
//! Tests: every end-to-end test stands on it.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// PEM files of one identity.
#[derive(Debug, Clone)]
pub struct Files {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key, 0600.
    pub key: PathBuf,
}

/// A certificate authority and the directory its files are in.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority; its root certificate is `<name>.pem` in `dir`.
    ///
    /// # Errors
    /// Key generation or writing failed.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("{name} of a test run"));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key)?;
        fs::write(dir.join(format!("{name}.pem")), root.pem())?;
        Ok(Self { dir: dir.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Path of the root certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A server certificate for DNS `name` and 127.0.0.1.
    ///
    /// # Errors
    /// Key generation or writing failed.
    pub fn server(&self, name: &str) -> Result<Files> {
        let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, params)
    }

    /// A client certificate whose URI SAN is `spiffe://cordon.test/<service>`.
    ///
    /// # Errors
    /// Key generation or writing failed.
    pub fn client(&self, service: &str) -> Result<Files> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://cordon.test/{service}").try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(service, params)
    }

    fn issue(&self, name: &str, mut params: CertificateParams) -> Result<Files> {
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let files = Files {
            cert: self.dir.join(format!("{}-{name}.pem", self.name)),
            key: self.dir.join(format!("{}-{name}.key", self.name)),
        };
        fs::write(&files.cert, cert.pem())?;
        let mut out =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&files.key)?;
        out.write_all(key.serialize_pem().as_bytes())?;
        Ok(files)
    }
}
