//! The files a stack is started with: configurations and bundle, as an operator would write them.
//! Must never hold what a real one could not. Tests: `tests/tests/harness.rs`.

use super::Options;
use crate::pki::Authority;
use anyhow::Result;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

pub(super) fn write_vault_configuration(
    dir: &Path,
    options: &Options,
    addresses: Option<(SocketAddr, SocketAddr)>,
) -> Result<()> {
    let Options { workers, audit, recipients, seal_keys, vault_tables: tables, .. } = options;
    let any = "127.0.0.1:0".to_owned();
    let (data, admin) =
        addresses.map_or((any.clone(), any), |(data, admin)| (data.to_string(), admin.to_string()));
    let text = format!(
        r#"environment = "dev"
data_dir = "vault-data"
policies = "policies"
workers = {workers}

[data]
listen = "{data}"

[admin]
listen = "{admin}"

[metrics]
listen = "127.0.0.1:0"

[backup]
recipients = {recipients:?}

[tls]
cert = "ca-vault.cordon.test.pem"
key = "ca-vault.cordon.test.key"
client_roots = "ca.pem"

{audit}

{seal_keys}

{tables}"#
    );
    write_private(&dir.join("vault.toml"), &text)
}

pub(super) fn write_gateway_configuration(dir: &Path, vault: SocketAddr, options: &Options) -> Result<()> {
    let Options { workers, gateway_tables: tables, .. } = options;
    let text = format!(
        r#"environment = "dev"
data_dir = "gateway-data"
policies = "policies"
workers = {workers}

[ingress]
listen = "127.0.0.1:0"
cert = "ca-gateway.cordon.test.pem"
key = "ca-gateway.cordon.test.key"

[egress]
listen = "127.0.0.1:0"
cert = "ca-gateway.cordon.test.pem"
key = "ca-gateway.cordon.test.key"
client_roots = "ca.pem"

[metrics]
listen = "127.0.0.1:0"

[vault]
address = "{vault}"
name = "vault.cordon.test"
roots = "ca.pem"

[vault.ingress_identity]
cert = "ca-gateway-ingress.pem"
key = "ca-gateway-ingress.key"

[vault.egress_identity]
cert = "ca-gateway-egress.pem"
key = "ca-gateway-egress.key"

{tables}"#
    );
    write_private(&dir.join("gateway.toml"), &text)
}

pub(super) fn write_bundle(
    dir: &Path,
    signup: SocketAddr,
    processor: SocketAddr,
    authority: &Authority,
    more_routes: &str,
) -> Result<()> {
    fs::create_dir(dir)?;
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    for entry in fs::read_dir(shipped)? {
        let path = entry?.path();
        let wanted =
            path.extension().is_some_and(|extension| extension == "cedar" || extension == "cedarschema");
        if let (true, Some(name)) = (wanted, path.file_name()) {
            fs::copy(&path, dir.join(name))?;
        }
    }
    let segments = include_str!("segments.toml")
        .replace("@ROOTS@", &authority.root().to_string_lossy())
        .replace("@PROCESSOR@", &processor.to_string());
    write_private(&dir.join("segments.toml"), &segments)?;
    let routes = format!("{}\n{}\n{more_routes}", include_str!("routes.toml"), include_str!("content.toml"));
    let routes = routes.replace("@SIGNUP@", &signup.to_string());
    write_private(&dir.join("routes.toml"), &routes)
}
