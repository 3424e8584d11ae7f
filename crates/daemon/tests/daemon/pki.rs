//! A throw-away certificate authority, its files in a scratch directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cordon_daemon::tls::{Identity, Roots};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), directory }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::load(&self.directory.path().join("ca.pem")).unwrap()
    }

    pub(crate) fn server(&self) -> Identity {
        let (chain, key) = self.files("server", &[], ExtendedKeyUsagePurpose::ServerAuth);
        Identity::load(&chain, &key).unwrap()
    }

    pub(crate) fn client(&self, uris: &[&str]) -> Identity {
        let (chain, key) = self.files("client", uris, ExtendedKeyUsagePurpose::ClientAuth);
        Identity::load(&chain, &key).unwrap()
    }

    /// Chain and key as files.
    pub(crate) fn files(
        &self,
        name: &str,
        uris: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = |end: &str| self.directory.path().join(format!("{name}{end}"));
        fs::write(at(".pem"), certificate.pem()).unwrap();
        fs::write(at(".key"), key.serialize_pem()).unwrap();
        fs::set_permissions(at(".key"), fs::Permissions::from_mode(0o600)).unwrap();
        (at(".pem"), at(".key"))
    }
}
