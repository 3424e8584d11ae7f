//! `cordon cert`: certificates of a development PKI, and the authority of a forward proxy.
//!
//! Must never overwrite a file or take a name as a path. Tests: below; against rustls in `cli/tests/certificates.rs`.

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::layout;
use crate::pki::{Authority, Subject, constrained_authority};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// `cordon cert ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificates {
    /// Issue a server or client certificate; makes the development CA when there is none
    Issue(Issue),
    /// Make an authority for the gateway's forward proxy, which can sign for some hosts only
    ProxyCa(ProxyCa),
}

/// `cordon cert proxy-ca`.
#[derive(Debug, Args)]
#[command(
    after_help = "Applications that use the forward proxy trust this certificate, so it can sign for the named hosts
and what is below them, and for nothing else. The key belongs on the gateways alone, mode 0600.
docs/forward-proxy.md has the steps of a rollover.

Examples:
  cordon cert proxy-ca --host api.processor.example
  cordon cert proxy-ca --name proxy-2027 --host api.processor.example --host eu.other.example"
)]
pub(crate) struct ProxyCa {
    /// Destination's host name; may be given several times
    #[arg(long, value_name = "NAME", required = true, value_parser = dns_name)]
    host: Vec<String>,
    /// Names the authority and its files
    #[arg(long, value_name = "NAME", default_value = "proxy-ca", value_parser = service_name)]
    name: String,
    /// Directory to make it in
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// Days it is valid
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=1825))]
    days: u16,
}

#[derive(Serialize)]
struct Made {
    certificate: PathBuf,
    key: PathBuf,
    hosts: Vec<String>,
    days: u16,
}

impl ProxyCa {
    fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let issued = constrained_authority(&self.dir, &self.name, &self.host, self.days)?;
        let made = Made {
            certificate: issued.certificate,
            key: issued.key,
            hosts: self.host.clone(),
            days: self.days,
        };
        settings.console().answer(&made, |made| {
            layout::rows(&[
                ("Certificate", made.certificate.display().to_string()),
                ("Key", made.key.display().to_string()),
                ("Signs for", made.hosts.join(" ")),
                ("Days", made.days.to_string()),
            ])
        })?;
        Ok(Verdict::Fine)
    }
}

/// `cordon cert issue`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("subject").required(true).args(["name", "service"]))]
#[command(
    after_help = "For development and tests: the CA's key lies beside the certificates (mode 0600). Nothing is
ever overwritten.

Examples:
  cordon cert issue --name vault.cordon.test --server
  cordon cert issue --name gateway.cordon.test --name signup.cordon.test --server --dir pki
  cordon cert issue --service signup --days 7
  cordon cert issue --service operator --json"
)]
pub(crate) struct Issue {
    /// DNS name or address of a server; may be given several times, the first names the files
    #[arg(long, value_name = "NAME", requires = "server", value_parser = server_name)]
    name: Vec<String>,
    /// It is a server's certificate; 127.0.0.1 is always among its names
    #[arg(long, requires = "name")]
    server: bool,
    /// Service of a client certificate: its URI is spiffe://TRUST_DOMAIN/SERVICE
    #[arg(long, value_name = "SERVICE", conflicts_with = "server", value_parser = service_name)]
    service: Option<String>,
    /// Trust domain of service URIs
    #[arg(long, value_name = "NAME", default_value = "cordon.test", value_parser = dns_name)]
    trust_domain: String,
    /// Directory of the CA and of what it issues
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// Days it is valid
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=825))]
    days: u16,
}

#[derive(Serialize)]
struct Answer {
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    ca_made: bool,
    names: Vec<String>,
    days: u16,
}

impl Certificates {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        match self {
            Self::Issue(issue) => issue.run(settings),
            Self::ProxyCa(ca) => ca.run(settings),
        }
    }
}

impl Issue {
    fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let (stem, subject) = self.subject()?;
        let (authority, ca_made) = Authority::open_or_make(&self.dir)?;
        let issued = authority.issue(&stem, &subject, self.days)?;
        let names = match subject {
            Subject::Server(names) => names,
            Subject::Client(uri) => vec![uri],
        };
        let answer = Answer {
            certificate: issued.certificate,
            key: issued.key,
            ca: authority.certificate(),
            ca_made,
            names,
            days: self.days,
        };
        settings.console().answer(&answer, describe)?;
        Ok(Verdict::Fine)
    }

    /// File stem and subject. `ca` is taken.
    fn subject(&self) -> Result<(String, Subject), Failure> {
        let (stem, subject) = match (&self.service, self.name.first()) {
            (Some(service), _) => {
                (service.clone(), Subject::Client(format!("spiffe://{}/{service}", self.trust_domain)))
            }
            (None, Some(first)) => {
                let mut names = self.name.clone();
                if !names.iter().any(|name| name == LOOPBACK) {
                    names.push(LOOPBACK.to_owned());
                }
                (first.clone(), Subject::Server(names))
            }
            (None, None) => return Err(Failure::usage("give --service or --name")),
        };
        if stem == "ca" {
            return Err(Failure::usage("`ca` is the CA's own name"));
        }
        Ok((stem, subject))
    }
}

fn describe(answer: &Answer) -> String {
    let ca = format!("{}{}", answer.ca.display(), if answer.ca_made { " (new)" } else { "" });
    layout::rows(&[
        ("Certificate", answer.certificate.display().to_string()),
        ("Key", answer.key.display().to_string()),
        ("CA", ca),
        ("For", answer.names.join(", ")),
        ("Valid", layout::counted(u64::from(answer.days), "day")),
    ])
}

fn server_name(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() { Ok(text.to_owned()) } else { dns_name(text) }
}

/// A DNS name in lower case. It also becomes part of a file name, hence nothing but letters, digits, `-` and `.`.
fn dns_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("a DNS name is labels of a-z, 0-9 and -, joined by dots".to_owned())
    }
}

fn service_name(text: &str) -> Result<String, String> {
    if text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.contains('.')
        && dns_name(text).is_ok()
    {
        Ok(text.to_owned())
    } else {
        Err("a service's name is a lower-case letter, then letters, digits and hyphens".to_owned())
    }
}

const LOOPBACK: &str = "127.0.0.1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    fn accepted(arguments: &[&str]) -> bool {
        let line = ["cordon", "cert", "issue"].iter().chain(arguments);
        Arguments::try_parse_from(line).is_ok()
    }

    #[test]
    fn a_name_can_not_leave_the_directory() {
        for name in ["../x", "/etc/x", "a/b", "..", ".", "", "-x", "a..b", "*.cordon.test", "UPPER"] {
            assert!(server_name(name).is_err(), "{name}");
            assert!(service_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn it_is_a_server_or_a_service_and_not_both() {
        assert!(!accepted(&[]));
        assert!(!accepted(&["--server"]));
        assert!(!accepted(&["--name", "a.test"]));
        assert!(!accepted(&["--service", "a", "--server"]));
        assert!(!accepted(&["--service", "a", "--name", "a.test", "--server"]));
        assert!(accepted(&["--service", "a"]));
        assert!(accepted(&["--name", "a.test", "--name", "10.0.0.1", "--server"]));
    }

    #[test]
    fn validity_is_bounded() {
        assert!(!accepted(&["--service", "a", "--days", "0"]));
        assert!(!accepted(&["--service", "a", "--days", "826"]));
    }
}
