//! The files of the throw-away stack: policy bundle and configurations, as text.
//!
//! Must never name a path outside the stack's own directory, or a network outside loopback. Tests: below, against
//! the policy crate itself.

use crate::exit::Failure;
use crate::pki;
use cordon_policy::shipped;
use std::net::SocketAddr;
use std::path::Path;

/// Writes the bundle: the shipped schema and statements, with segments and routes of a small shop.
pub(super) fn write(directory: &Path, signup: SocketAddr, processor: SocketAddr) -> Result<(), Failure> {
    pki::private_directory(directory)?;
    let put = |name: &str, text: &str| pki::write_new(&directory.join(name), 0o600, text.as_bytes());
    put("schema.cedarschema", shipped::SCHEMA)?;
    for (name, text) in shipped::POLICIES {
        put(name, text)?;
    }
    put("segments.toml", &segments(processor))?;
    put("routes.toml", &routes(signup))
}

/// Configuration of the vault.
pub(super) const VAULT: &str = r#"environment = "dev"
data_dir = "vault"
policies = "policies"

[data]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[metrics]
listen = "127.0.0.1:0"

[tls]
cert = "pki/vault.cordon.test.pem"
key = "pki/vault.cordon.test-key.pem"
client_roots = "pki/ca.pem"
"#;

/// Configuration of the gateway.
pub(super) fn gateway(vault: SocketAddr) -> String {
    format!(
        r#"environment = "dev"
data_dir = "gateway"
policies = "policies"

[ingress]
listen = "127.0.0.1:0"
cert = "pki/signup.cordon.test.pem"
key = "pki/signup.cordon.test-key.pem"

[egress]
listen = "127.0.0.1:0"
cert = "pki/gateway.cordon.test.pem"
key = "pki/gateway.cordon.test-key.pem"
client_roots = "pki/ca.pem"

[metrics]
listen = "127.0.0.1:0"

[vault]
address = "{vault}"
name = "vault.cordon.test"
roots = "pki/ca.pem"

[vault.ingress_identity]
cert = "pki/gateway-ingress.pem"
key = "pki/gateway-ingress-key.pem"

[vault.egress_identity]
cert = "pki/gateway-egress.pem"
key = "pki/gateway-egress-key.pem"
"#
    )
}

/// Configuration of the CLI for the operator or a custodian, so that every other command can be tried on the stack.
pub(super) fn client(service: &str, data: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"policies = "policies"

[vault]
data = "{data}"
admin = "{admin}"
name = "vault.cordon.test"
roots = "pki/ca.pem"
cert = "pki/{service}.pem"
key = "pki/{service}-key.pem"
"#
    )
}

/// Services of the stack that hold a client certificate.
pub(super) const SERVICES: [&str; 8] = [
    "gateway-ingress",
    "gateway-egress",
    "signup",
    "billing",
    "operator",
    "custodian-1",
    "custodian-2",
    "monitor",
];

/// Configurations of the CLI, and who each speaks as.
pub(super) const CLIENTS: [(&str, &str); 3] =
    [("cordon.toml", "operator"), ("custodian-1.toml", "custodian-1"), ("custodian-2.toml", "custodian-2")];

/// Who approves on the stack.
pub(super) const CUSTODIANS: [&str; 2] = ["custodian-1", "custodian-2"];

/// Servers of the stack.
pub(super) const SERVERS: [&str; 4] =
    ["vault.cordon.test", "gateway.cordon.test", "signup.cordon.test", "processor.cordon.test"];

fn segments(processor: SocketAddr) -> String {
    let mut out =
        String::from("# Everything on one loopback: only a development bundle may overlap like this.\n");
    out.push_str("development = true\n");
    for (name, scope) in [("cde", "cde"), ("signup", "out"), ("billing", "out")] {
        out.push_str(&format!(
            "\n[[segment]]\nname = \"{name}\"\ncidrs = [\"127.0.0.0/8\"]\nscope = \"{scope}\"\n"
        ));
    }
    out.push_str(
        "\n[[collection]]\nname = \"cards\"\nowner = \"dev\"\nneed = \"cards of the sample shop\"\n",
    );
    for name in SERVICES {
        out.push_str(&service(name));
    }
    for (name, process) in [
        ("way-in", "gateway.ingress"),
        ("way-out", "gateway.egress"),
        ("vault-data", "vault.data"),
        ("vault-admin", "vault.admin"),
    ] {
        out.push_str(&format!(
            "\n[[listener]]\nname = \"{name}\"\nprocess = \"{process}\"\nsegment = \"cde\"\nowner = \"dev\"\n\
             need = \"the sample shop\"\n"
        ));
    }
    out.push_str(&format!(
        "\n[[destination]]\nname = \"processor\"\nhost = \"processor.cordon.test\"\nport = 443\n\
         roots = \"../pki/ca.pem\"\naddresses = [\"127.0.0.1/32\"]\nconnect = \"{processor}\"\nowner = \"dev\"\n\
         need = \"charges of the sample shop\"\n"
    ));
    out
}

fn service(name: &str) -> String {
    let (segment, rest) = match name {
        "gateway-ingress" => ("cde", "role = \"gateway-ingress\"\ncollections = [\"cards\"]\n"),
        "gateway-egress" => ("cde", "role = \"gateway-egress\"\n"),
        "operator" => ("cde", "role = \"operator\"\ncollections = [\"cards\"]\n"),
        custodian if CUSTODIANS.contains(&custodian) => ("cde", "role = \"custodian\"\n"),
        "monitor" => ("cde", "role = \"monitor\"\n"),
        "signup" => ("signup", "collections = [\"cards\"]\ndestinations = [\"processor\"]\n"),
        _ => ("billing", ""),
    };
    format!(
        "\n[[service]]\nname = \"{name}\"\nuri = \"spiffe://cordon.test/{name}\"\nsegment = \"{segment}\"\n{rest}\
         owner = \"dev\"\nneed = \"the sample shop\"\n"
    )
}

fn routes(signup: SocketAddr) -> String {
    format!(
        r#"# The way in: browsers to the sign-up service.
[[ingress]]
name = "signup"
hosts = ["signup.cordon.test"]
methods = ["POST"]
path = "/signup"
upstream = "http://{signup}"
service = "signup"
collection = "cards"
content = ["json", "form"]

[[ingress.field]]
json = "$.card.number"
form = "card_number"
op = "tokenize"

[[ingress.field]]
json = "$.card.cvc"
form = "cvc"
op = "hold"

[[ingress.field]]
json = "$.card.expiry"
form = "expiry"
op = "expiry"

# The way out: the first charge, while the security code is still held.
[[egress]]
name = "charge"
methods = ["POST"]
path = "/v1/charges"
services = ["signup"]
destination = "processor"
collection = "cards"
purpose = "charge"
content = ["json", "form"]

[[egress.field]]
json = "$.card.number"
form = "card[number]"
op = "reveal"

[[egress.field]]
json = "$.card.cvc"
form = "card[cvc]"
op = "reveal_cvv"

# The way out: later charges, with nothing but the token.
[[egress]]
name = "renewal"
methods = ["POST"]
path = "/v1/renewals"
services = ["signup"]
destination = "processor"
collection = "cards"
purpose = "renewal"
content = ["json", "form"]

[[egress.field]]
json = "$.card.number"
form = "card[number]"
op = "reveal"

[[egress.field]]
json = "$.card.expiry"
form = "card[expiry]"
op = "reveal_expiry"
format = "MM/YY"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;
    use cordon_policy::{Ask, Bundle, Detokenize, Send};
    use std::net::{IpAddr, Ipv4Addr};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn bundle() -> (tempfile::TempDir, Bundle) {
        let scratch = tempfile::tempdir().unwrap();
        drop(Authority::open_or_make(&scratch.path().join("pki")).unwrap());
        let policies = scratch.path().join("policies");
        let port = |port| SocketAddr::new(HERE, port);
        write(&policies, port(7001), port(7002)).unwrap();
        let bundle = Bundle::load(&policies).map_err(|faults| faults.to_string()).unwrap();
        (scratch, bundle)
    }

    fn reveal<'a>(principal: &'a str, acting_for: &'a str) -> Ask<'a> {
        Ask {
            collection: Some("cards"),
            destination: Some("processor"),
            acting_for: Some(acting_for),
            route: Some("charge"),
            purpose: Some("charge"),
            ..Ask::new(principal, true, HERE)
        }
    }

    #[test]
    fn the_bundle_has_no_fault_and_is_marked_as_development() {
        let (_scratch, bundle) = bundle();
        assert!(bundle.development());
        assert_eq!(bundle.services().count(), SERVICES.len());
    }

    #[test]
    fn nobody_but_the_gateway_reveals_and_only_for_the_shop() {
        let (_scratch, bundle) = bundle();
        for (principal, acting_for) in [
            ("signup", "signup"),
            ("billing", "signup"),
            ("operator", "signup"),
            ("gateway-egress", "billing"),
        ] {
            assert!(bundle.decide::<Detokenize>(&reveal(principal, acting_for)).is_err(), "{principal}");
        }
        assert!(bundle.decide::<Detokenize>(&reveal("gateway-egress", "signup")).is_ok());
    }

    #[test]
    fn billing_may_not_use_the_way_out() {
        let (_scratch, bundle) = bundle();
        assert!(bundle.decide::<Send>(&reveal("billing", "billing")).is_err());
        assert!(bundle.decide::<Send>(&reveal("signup", "signup")).is_ok());
    }

    #[test]
    fn every_path_in_the_configurations_stays_in_the_directory() {
        let here = SocketAddr::new(HERE, 1);
        for text in [VAULT.to_owned(), gateway(here), client("operator", here, here)] {
            assert!(!text.contains("\"/") && !text.contains(".."), "{text}");
        }
    }
}
