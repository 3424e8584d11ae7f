//! Files that TLS is set up from: refused when others may read the key, or when they are not what they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cordon_daemon::tls::{ClientAuth, Identity, Roots, TlsError, server_config};
use rcgen::ExtendedKeyUsagePurpose;

use crate::pki::Authority;

#[test]
fn a_key_that_others_may_read_is_refused() {
    let authority = Authority::new();
    let (chain, key) = authority.files("server", &[], ExtendedKeyUsagePurpose::ServerAuth);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let error = Identity::load(&chain, &key).unwrap_err();
        assert!(matches!(error, TlsError::KeyOpenToOthers { .. }), "{mode:o}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    Identity::load(&chain, &key).unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let (chain, _) = authority.files("one", &[], ExtendedKeyUsagePurpose::ServerAuth);
    let (_, key) = authority.files("two", &[], ExtendedKeyUsagePurpose::ServerAuth);
    let identity = Identity::load(&chain, &key).unwrap();
    assert!(matches!(server_config(identity, ClientAuth::None), Err(TlsError::Setup(_))));
}

#[test]
fn files_without_what_they_should_hold_are_refused() {
    let authority = Authority::new();
    let (chain, key) = authority.files("server", &[], ExtendedKeyUsagePurpose::ServerAuth);
    assert!(matches!(Identity::load(&key, &key), Err(TlsError::Pem { what: "certificate", .. })));
    fs::set_permissions(&chain, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Identity::load(&chain, &chain), Err(TlsError::Pem { what: "private key", .. })));
    assert!(matches!(Identity::load(Path::new("/nonexistent"), &key), Err(TlsError::Io { .. })));
    assert!(matches!(Roots::load(&key), Err(TlsError::Pem { .. })));
}

#[test]
fn an_identity_does_not_show_its_key() {
    let authority = Authority::new();
    assert_eq!(format!("{:?}", authority.server()), "Identity(1 certificates)");
}
