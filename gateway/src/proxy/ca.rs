//! The authority under which the forward proxy is the hosts that it may be, and its succession.
//!
//! Must never sign for a host that the gate did not open, nor for longer than the authority itself is valid. Tests: here, and
//! `tests/tests/proxy.rs`.

use cordon_daemon::tls::{self, ClientAuth, Identity, Roots, TlsError};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// `[[proxy.ca]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaConfig {
    /// Its certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// When it begins to sign; at once if left out.
    #[serde(default)]
    pub from: Option<Timestamp>,
}

/// An authority that was read and found sound.
pub struct Authority {
    name: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    from: Timestamp,
    until: Timestamp,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why an authority cannot be used. Operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file.
    #[error(transparent)]
    File(#[from] TlsError),
    /// The certificate is none of an authority, or the key is another's.
    #[error("{path}: {what}; `cordon cert proxy-ca` makes one")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// None signs now.
    #[error("no [[proxy.ca]] may sign now: all have expired, or their `from` is to come")]
    NoneSigns,
}

impl Authority {
    /// Reads one.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn load(config: &CaConfig) -> Result<Self, CaError> {
        let unusable = |what| CaError::Unusable { path: config.cert.clone(), what };
        let (certificate, key) = Identity::load(&config.cert, &config.key)?.into_parts();
        let until = tls::valid_until(&config.cert)?;
        let PrivateKeyDer::Pkcs8(key) = key else { return Err(unusable("its key is not PKCS #8")) };
        let key = KeyPair::try_from(&key).map_err(|_detail| unusable("its key cannot be used"))?;
        let certificate =
            certificate.into_iter().next().ok_or_else(|| unusable("there is no certificate"))?;
        if !tls::is_authority_of(&certificate, &key.subject_public_key_info()) {
            return Err(unusable("it is no authority's certificate, or the key is another's"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_detail| unusable("its certificate cannot be used"))?;
        let name = config.cert.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let from = config.from.unwrap_or(Timestamp::MIN);
        Ok(Self { name: name.unwrap_or_default(), certificate, issuer, from, until })
    }

    /// Its file's name, for metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its certificate ends.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }
}

/// All authorities of a gateway, and what they have signed.
pub struct Authorities {
    all: Vec<Authority>,
    clients: Roots,
    signed: Mutex<HashMap<(String, bool), Signed>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("all", &self.all).finish_non_exhaustive()
    }
}

/// A certificate that is in use.
struct Signed {
    by: String,
    until: Timestamp,
    config: Arc<ServerConfig>,
}

impl Authorities {
    /// Reads them; clients of a tunnel show certificates under `clients` where they have not before.
    ///
    /// # Errors
    /// [`CaError`], also if none signs at `now`.
    pub fn load(configs: &[CaConfig], clients: Roots, now: Timestamp) -> Result<Self, CaError> {
        let all = configs.iter().map(Authority::load).collect::<Result<_, _>>()?;
        let authorities = Self { all, clients, signed: Mutex::default() };
        authorities.signing(now).ok_or(CaError::NoneSigns)?;
        Ok(authorities)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Authority] {
        &self.all
    }

    /// The one that signs at `now`: of those that have begun and have not ended, the last to begin.
    #[must_use]
    pub fn signing(&self, now: Timestamp) -> Option<&Authority> {
        self.all.iter().filter(|ca| ca.from <= now && now < ca.until).max_by_key(|ca| ca.from)
    }

    /// How to speak TLS as `host`. Clients that are `known` already are asked for nothing.
    ///
    /// # Errors
    /// [`CaError`]: none signs, or signing failed.
    pub fn config(&self, host: &str, known: bool, now: Timestamp) -> Result<Arc<ServerConfig>, CaError> {
        let ca = self.signing(now).ok_or(CaError::NoneSigns)?;
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), known);
        let soon = now.saturating_add(RENEW_BEFORE).unwrap_or(Timestamp::MAX);
        if let Some(signed) = signed.get(&key)
            && signed.by == ca.name
            && (signed.until > soon || signed.until >= ca.until)
        {
            return Ok(Arc::clone(&signed.config));
        }
        let (identity, until) = ca.sign(host, now)?;
        let clients = if known { ClientAuth::None } else { ClientAuth::Required(self.clients.clone()) };
        let config = tls::server_config(identity, clients)?;
        signed.insert(key, Signed { by: ca.name.clone(), until, config: Arc::clone(&config) });
        Ok(config)
    }
}

impl Authority {
    fn sign(&self, host: &str, now: Timestamp) -> Result<(Identity, Timestamp), CaError> {
        let failed = || CaError::Unusable { path: PathBuf::from(&self.name), what: "it does not sign" };
        let until = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX).min(self.until);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_detail| failed())?;
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(|_detail| failed())?;
        let instant = |at: Timestamp| {
            let since = u64::try_from(at.as_second()).unwrap_or_default();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since)
        };
        // From an hour ago, for clocks that are late.
        params.not_before = instant(now.saturating_sub(Duration::from_secs(3600)).unwrap_or(now));
        params.not_after = instant(until);
        params.distinguished_name.push(DnType::CommonName, "Cordon egress");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(|_detail| failed())?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Ok((Identity::from((chain, private)), until))
    }
}

/// A stolen certificate is of use for a day.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const RENEW_BEFORE: Duration = Duration::from_secs(6 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::BasicConstraints;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn write(dir: &Path, name: &str, days: i64, is_ca: IsCa) -> CaConfig {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        let now = u64::try_from(Timestamp::now().as_second()).unwrap();
        let days = u64::try_from(days * 86_400).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now + days);
        let config = CaConfig {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
            from: None,
        };
        fs::write(&config.cert, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&config.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&config.key, fs::Permissions::from_mode(0o600)).unwrap();
        config
    }

    fn ca() -> IsCa {
        IsCa::Ca(BasicConstraints::Constrained(0))
    }

    #[test]
    fn the_last_to_begin_signs_and_certificates_are_made_anew_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let day = |days: i64| {
            now.saturating_add(Duration::from_secs(u64::try_from(days * 86_400).unwrap())).unwrap()
        };
        let old = write(dir.path(), "old", 20, ca());
        let next = CaConfig { from: Some(day(10)), ..write(dir.path(), "next", 400, ca()) };
        let clients = Roots::load(&old.cert).unwrap();
        let all = Authorities::load(&[old.clone(), next], clients.clone(), now).unwrap();
        let by = |at| all.signing(at).map(Authority::name);
        assert_eq!(
            (by(now), by(day(9)), by(day(10)), by(day(300)), by(day(401))),
            (Some("old"), Some("old"), Some("next"), Some("next"), None)
        );

        let first = all.config("a.test", false, now).unwrap();
        assert!(Arc::ptr_eq(&first, &all.config("a.test", false, now).unwrap()));
        assert!(
            !Arc::ptr_eq(&first, &all.config("a.test", true, now).unwrap()),
            "who is known is asked for nothing"
        );
        assert!(!Arc::ptr_eq(&first, &all.config("b.test", false, now).unwrap()));
        let later = now.saturating_add(Duration::from_secs(19 * 3600)).unwrap();
        assert!(!Arc::ptr_eq(&first, &all.config("a.test", false, later).unwrap()), "renewed");
        assert!(matches!(all.config("a.test", false, day(401)), Err(CaError::NoneSigns)));
        assert!(matches!(Authorities::load(&[old], clients, day(21)), Err(CaError::NoneSigns)));
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let leaf = write(dir.path(), "leaf", 20, IsCa::ExplicitNoCa);
        assert!(matches!(Authority::load(&leaf), Err(CaError::Unusable { .. })));
        let (one, other) = (write(dir.path(), "one", 20, ca()), write(dir.path(), "other", 20, ca()));
        let mixed = CaConfig { key: other.key, ..one };
        assert!(matches!(Authority::load(&mixed), Err(CaError::Unusable { .. })));
    }
}
