//! A certificate authority for development: ECDSA P-256, files in one directory, keys mode 0600.
//!
//! Must never replace a file, or use a CA key that others can read. Not for production: there a PKI of your own
//! issues the certificates. Tests: below.

use crate::exit::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// A development CA and the directory it lives and issues in.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A server under these DNS names and addresses.
    Server(Vec<String>),
    /// A service, known by the URI of its client certificate.
    Client(String),
}

/// The files of an issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    /// The certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM (PKCS #8), mode 0600.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// The CA of `directory`; makes the directory (0700) and the CA when there is none. The flag says it was made.
    pub(crate) fn open_or_make(directory: &Path) -> Result<(Self, bool), Failure> {
        private_directory(directory)?;
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        match (certificate.exists(), key.exists()) {
            (true, true) => Ok((Self::open(directory, &key)?, false)),
            (false, false) => Ok((Self::make(directory, &certificate, &key)?, true)),
            (true, false) => Err(half(&key, &certificate)),
            (false, true) => Err(half(&certificate, &key)),
        }
    }

    /// Where the CA's certificate is.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join(CA_CERTIFICATE)
    }

    /// Issues a certificate into `<stem>.pem` and `<stem>-key.pem`.
    pub(crate) fn issue(&self, stem: &str, subject: &Subject, days: u16) -> Result<Issued, Failure> {
        let issued = Issued {
            certificate: self.directory.join(format!("{stem}.pem")),
            key: self.directory.join(format!("{stem}-key.pem")),
        };
        for path in [&issued.certificate, &issued.key] {
            if path.exists() {
                return Err(exists(path));
            }
        }
        let key = new_key()?;
        let certificate =
            leaf(stem, subject, days)?.signed_by(&key, &self.issuer).map_err(|error| unmade(&error))?;
        write_new(&issued.key, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        write_new(&issued.certificate, 0o644, certificate.pem().as_bytes())?;
        Ok(issued)
    }

    fn make(directory: &Path, certificate: &Path, key_path: &Path) -> Result<Self, Failure> {
        let key = new_key()?;
        let params = authority_params(&key);
        let signed = params.self_signed(&key).map_err(|error| unmade(&error))?;
        write_new(key_path, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        write_new(certificate, 0o644, signed.pem().as_bytes())?;
        Ok(Self { directory: directory.to_owned(), issuer: Issuer::new(params, key) })
    }

    fn open(directory: &Path, key_path: &Path) -> Result<Self, Failure> {
        let mode =
            fs::metadata(key_path).map_err(|error| Failure::file(key_path, &error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Failure::refused(
                "key-exposed",
                format!("{}: others can read this key", key_path.display()),
            )
            .next(format!("if nobody did: chmod 600 {}; else remove the directory", key_path.display())));
        }
        let pem = fs::read_to_string(key_path).map_err(|error| Failure::file(key_path, &error))?;
        let key = KeyPair::from_pem(&Zeroizing::new(pem)).map_err(|_error| {
            Failure::refused("pki", format!("{}: not a private key in PEM", key_path.display()))
        })?;
        // Name and key id of the CA follow from its key, so its certificate need not be parsed.
        let params = authority_params(&key);
        Ok(Self { directory: directory.to_owned(), issuer: Issuer::new(params, key) })
    }
}

/// Makes an authority of its own into `<stem>.pem` and `<stem>-key.pem`, which can sign for servers under `hosts` only
/// (name constraints, RFC 5280 section 4.2.1.10).
pub(crate) fn constrained_authority(
    directory: &Path,
    stem: &str,
    hosts: &[String],
    days: u16,
) -> Result<Issued, Failure> {
    private_directory(directory)?;
    let issued = Issued {
        certificate: directory.join(format!("{stem}.pem")),
        key: directory.join(format!("{stem}-key.pem")),
    };
    for path in [&issued.certificate, &issued.key] {
        if path.exists() {
            return Err(exists(path));
        }
    }
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, stem);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let permitted_subtrees = hosts.iter().cloned().map(GeneralSubtree::DnsName).collect();
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    valid_for(&mut params, days);
    let signed = params.self_signed(&key).map_err(|error| unmade(&error))?;
    write_new(&issued.key, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
    write_new(&issued.certificate, 0o644, signed.pem().as_bytes())?;
    Ok(issued)
}

/// Makes a directory that only we can enter, with its parents; one that exists is left as it is.
pub(crate) fn private_directory(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| Failure::file(path, &error))
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    match open.and_then(|mut file| file.write_all(bytes)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(Failure::file(path, &error)),
    }
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| unmade(&error))
}

fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id = params.key_identifier(key);
    let short = data_encoding::HEXLOWER.encode(id.get(..4).unwrap_or_default());
    params.distinguished_name.push(DnType::CommonName, format!("Cordon development CA {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    params
}

fn leaf(stem: &str, subject: &Subject, days: u16) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, stem);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let (names, usage) = match subject {
        Subject::Server(names) => {
            let names = names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
            (names, ExtendedKeyUsagePurpose::ServerAuth)
        }
        Subject::Client(uri) => {
            let uri = uri.as_str().try_into().map_err(|error| unmade(&error))?;
            (vec![SanType::URI(uri)], ExtendedKeyUsagePurpose::ClientAuth)
        }
    };
    params.subject_alt_names = names;
    params.extended_key_usages = vec![usage];
    valid_for(&mut params, days);
    Ok(params)
}

fn server_name(name: &str) -> Result<SanType, Failure> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into().map_err(|error| unmade(&error))?)),
    }
}

/// Valid from an hour ago, for clocks that are late, until `days` from now.
fn valid_for(params: &mut CertificateParams, days: u16) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let day = Duration::from_secs(86_400);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(3_600));
    params.not_after = epoch + now.saturating_add(day.saturating_mul(u32::from(days)));
}

fn exists(path: &Path) -> Failure {
    Failure::refused("exists", format!("{}: it exists and is not replaced", path.display()))
        .next("remove it first, or issue into another --dir")
}

fn half(missing: &Path, present: &Path) -> Failure {
    Failure::refused("pki", format!("{}: missing, though {} is there", missing.display(), present.display()))
        .next("bring the missing file back, or use another --dir for a new CA")
}

fn unmade(error: &rcgen::Error) -> Failure {
    Failure::refused("pki", format!("the certificate can't be made: {error}"))
}

/// The CA's certificate in its directory.
pub(crate) const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
/// Days a development CA is valid.
const AUTHORITY_DAYS: u16 = 3_650;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let pki = directory.path().join("pki");
        (directory, pki)
    }

    #[test]
    fn keys_and_their_directory_are_ours_alone() {
        let (_scratch, pki) = scratch();
        let (authority, made) = Authority::open_or_make(&pki).unwrap();
        assert!(made);
        let issued =
            authority.issue("signup", &Subject::Client("spiffe://cordon.test/signup".into()), 30).unwrap();
        assert_eq!(mode(&pki), 0o700);
        assert_eq!(mode(&pki.join(CA_KEY)), 0o600);
        assert_eq!(mode(&issued.key), 0o600);
    }

    #[test]
    fn nothing_is_overwritten() {
        let (_scratch, pki) = scratch();
        let (authority, _) = Authority::open_or_make(&pki).unwrap();
        let subject = Subject::Client("spiffe://cordon.test/signup".into());
        let issued = authority.issue("signup", &subject, 30).unwrap();
        let before = fs::read(&issued.key).unwrap();
        assert_eq!(authority.issue("signup", &subject, 30).unwrap_err().code(), "exists");
        assert_eq!(fs::read(&issued.key).unwrap(), before);
        // A lone key is not overwritten either.
        fs::remove_file(&issued.certificate).unwrap();
        assert_eq!(authority.issue("signup", &subject, 30).unwrap_err().code(), "exists");
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let (_scratch, pki) = scratch();
        drop(Authority::open_or_make(&pki).unwrap());
        fs::set_permissions(pki.join(CA_KEY), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Authority::open_or_make(&pki).err().unwrap().code(), "key-exposed");
    }

    #[test]
    fn half_a_ca_is_refused() {
        for missing in [CA_KEY, CA_CERTIFICATE] {
            let (_scratch, pki) = scratch();
            drop(Authority::open_or_make(&pki).unwrap());
            fs::remove_file(pki.join(missing)).unwrap();
            let failure = Authority::open_or_make(&pki).err().unwrap().to_string();
            assert!(failure.contains(missing), "{failure}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let (_scratch, pki) = scratch();
        let (authority, _) = Authority::open_or_make(&pki).unwrap();
        assert!(authority.issue("x", &Subject::Server(vec!["caf\u{e9}".into()]), 30).is_err());
    }
}
