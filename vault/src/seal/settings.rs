//! `[seal]`: which keys outside the vault can seal its root key. The seal document says which one does.
//!
//! Must never hold a key or a PIN, only where they are. Tests: at the end of this file.

use std::path::{Path, PathBuf};

use cordon_audit::Name;
use cordon_card::Environment;
use serde::Deserialize;

use super::private_file::SecretSource;

/// Both may stand there, for the time of a change from one to the other.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SealSettings {
    /// A key in a file or a systemd credential.
    #[serde(rename = "static")]
    pub static_key: Option<StaticSettings>,
    /// A key in an HSM.
    pub pkcs11: Option<Pkcs11Settings>,
}

/// Static keys, by id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    /// The key that seals.
    pub current: StaticKey,
    /// The key that sealed before; at the next start the root key moves to the current one.
    pub previous: Option<StaticKey>,
}

/// One static key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticKey {
    /// Its name in the seal document; each key has another one.
    pub id: Name,
    /// Where it is: 32 bytes in base64.
    pub key: SecretSource,
}

/// An HSM, by its PKCS#11 module.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Settings {
    /// The shared object of its maker.
    pub module: PathBuf,
    /// Label of the token. Slots have other numbers after every start.
    pub token: String,
    /// Label of the AES-256 key.
    pub key: Name,
    /// Where the user's PIN is.
    pub pin: SecretSource,
    /// Make the key in the HSM when the root key is first sealed under it and it is not there.
    #[serde(default)]
    pub create_key: bool,
    /// Directories that the module writes, such as SoftHSM's tokens.
    #[serde(default)]
    pub writable: Vec<PathBuf>,
    /// Files and directories that it reads after it was loaded.
    #[serde(default)]
    pub readable: Vec<PathBuf>,
    /// TCP ports on which it reaches the HSM.
    #[serde(default)]
    pub ports: Vec<u16>,
}

impl SealSettings {
    /// Makes paths absolute and lists every fault.
    #[must_use]
    pub fn resolve(&mut self, base: &Path, environment: Environment) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(StaticSettings { current, previous }) = &mut self.static_key {
            if previous.as_ref().is_some_and(|previous| previous.id == current.id) {
                faults.push("seal.static: the current and the previous key need different ids".to_owned());
            }
            for StaticKey { id, key } in [Some(current), previous.as_mut()].into_iter().flatten() {
                if let Err(wrong) = key.resolve(base) {
                    faults.push(format!("seal.static key {id}: {wrong}"));
                }
                if environment == Environment::Live && matches!(key, SecretSource::File(_)) {
                    faults.push(format!(
                        "seal.static key {id}: a live environment takes it from a systemd credential, not from a \
                         file in clear (PCI DSS 3.6.1.2)"
                    ));
                }
            }
        }
        if let Some(pkcs11) = &mut self.pkcs11 {
            let own = [&mut pkcs11.module].into_iter();
            for path in own.chain(&mut pkcs11.writable).chain(&mut pkcs11.readable) {
                *path = base.join(&*path);
            }
            if let Err(wrong) = pkcs11.pin.resolve(base) {
                faults.push(format!("seal.pkcs11.pin: {wrong}"));
            }
            if pkcs11.token.is_empty() || pkcs11.token.len() > LONGEST_LABEL {
                faults.push(format!("seal.pkcs11.token must be from 1 to {LONGEST_LABEL} bytes"));
            }
        }
        faults
    }

    /// Files and directories that are read when the vault unseals.
    #[must_use]
    pub fn readable(&self) -> Vec<PathBuf> {
        let keys = self.static_key.iter().flat_map(|StaticSettings { current, previous }| {
            [Some(current), previous.as_ref()].into_iter().flatten().map(|key| &key.key)
        });
        let secrets = keys.chain(self.pkcs11.iter().map(|pkcs11| &pkcs11.pin));
        let mut paths: Vec<PathBuf> = secrets.filter_map(SecretSource::path).collect();
        paths.extend(self.pkcs11.iter().flat_map(|pkcs11| pkcs11.readable.clone()));
        paths
    }

    /// Directories that an HSM's module writes. One that is missing is a missing HSM, not a fault of the start.
    #[must_use]
    pub fn writable(&self) -> Vec<PathBuf> {
        let paths = self.pkcs11.iter().flat_map(|pkcs11| pkcs11.writable.clone());
        paths.filter(|path| path.is_dir()).collect()
    }

    /// TCP ports on which an HSM is reached.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        self.pkcs11.as_ref().map_or(&[], |pkcs11| &pkcs11.ports)
    }
}

/// A token's label has 32 bytes (PKCS#11 `CK_TOKEN_INFO`).
const LONGEST_LABEL: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> SealSettings {
        toml::from_str(text).unwrap()
    }

    const FILES: &str = "[static]\ncurrent = { id = \"b\", key = { file = \"b.key\" } }\n\
                         previous = { id = \"a\", key = { file = \"/k/a.key\" } }\n";

    #[test]
    fn a_live_environment_takes_static_keys_from_credentials_only() {
        let mut files = parsed(FILES);
        assert!(files.resolve(Path::new("/etc"), Environment::Test).is_empty());
        assert_eq!(files.readable(), [Path::new("/etc/b.key"), Path::new("/k/a.key")]);
        assert_eq!(parsed(FILES).resolve(Path::new("/etc"), Environment::Live).len(), 2);
        let mut credentials = parsed(&FILES.replace("file", "credential").replace("/k/", ""));
        assert!(credentials.resolve(Path::new("/etc"), Environment::Live).is_empty());
    }

    #[test]
    fn two_keys_have_two_ids_and_nothing_unknown_is_taken() {
        let mut same = parsed(&FILES.replace("\"b\"", "\"a\""));
        assert_eq!(same.resolve(Path::new("/"), Environment::Dev).len(), 1);
        assert!(toml::from_str::<SealSettings>(&FILES.replace("key =", "bytes =")).is_err());
        assert!(toml::from_str::<SealSettings>("kind = \"static\"").is_err());
        let pin = "[pkcs11]\nmodule = \"m.so\"\ntoken = \"t\"\nkey = \"k\"\npin = \"1234\"\n";
        assert!(toml::from_str::<SealSettings>(pin).is_err(), "a PIN is never inline");
        let mut good = parsed(&pin.replace("\"1234\"", "{ file = \"pin\" }"));
        assert!(good.resolve(Path::new("/etc"), Environment::Live).is_empty());
        assert_eq!(good.pkcs11.unwrap().module, Path::new("/etc/m.so"));
    }
}
