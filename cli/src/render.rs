//! `cordon render`: the bundle's connections as rules for networks, everything else denied.
//!
//! Must never allow a connection that the bundle does not need. Tests: `tests/tests/render.rs`, which loads them into a kernel.

mod kubernetes;
mod nftables;
mod systemd;

use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use crate::policy;
use clap::{Args, Subcommand};
use cordon_policy::{Bundle, End, Flow};
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// `cordon render ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Renders {
    /// Rules of nftables for the hosts of a segment
    Nftables(ForSegment),
    /// Kubernetes NetworkPolicies, one for each segment
    NetworkPolicy(ForCluster),
    /// A drop-in for a systemd unit in a segment: the addresses it may speak with
    Systemd(ForSegment),
}

/// `cordon render nftables` and `systemd`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every listener of the bundle needs a `port`. A destination without `addresses` may be anywhere
public: then so is what its segment may connect to on that port.

Examples:
  cordon render nftables --segment cde --dns 10.20.0.53 > /etc/nftables.d/cordon.nft
  nft -c -f /etc/nftables.d/cordon.nft
  cordon render systemd --segment cde > /etc/systemd/system/cordon-vault.service.d/addresses.conf"
)]
pub(crate) struct ForSegment {
    #[command(flatten)]
    common: Common,
    /// The segment the host is in
    #[arg(long, value_name = "NAME")]
    segment: String,
}

/// `cordon render network-policy`.
#[derive(Debug, Args)]
#[command(after_help = "Pods are chosen by their label cordon.segment.

Examples:
  cordon render network-policy | kubectl apply --dry-run=server -f -")]
pub(crate) struct ForCluster {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The bundle [default: `policies` of the configuration, then ./policies]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address of a name server that may be asked; several times for several
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
}

/// What was rendered.
#[derive(Debug, Serialize)]
struct Rendered {
    bundle: String,
    text: String,
}

/// A bundle and what is to be rendered of it.
struct Subject {
    bundle: Bundle,
    flows: Vec<Flow>,
    dns: Vec<IpAddr>,
}

impl Renders {
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let (subject, text) = match self {
            Self::Nftables(asked) => {
                let subject = asked.subject(settings)?;
                let text = nftables::rules(&subject, &asked.segment);
                (subject, text)
            }
            Self::Systemd(asked) => {
                let subject = asked.subject(settings)?;
                let text = systemd::drop_in(&subject, &asked.segment);
                (subject, text)
            }
            Self::NetworkPolicy(asked) => {
                let subject = asked.common.subject(settings)?;
                let text = kubernetes::policies(&subject);
                (subject, text)
            }
        };
        let rendered = Rendered { bundle: subject.bundle.digest().to_owned(), text };
        settings.console().answer(&rendered, |rendered| rendered.text.clone())?;
        Ok(Verdict::Fine)
    }
}

impl ForSegment {
    fn subject(&self, settings: &Settings) -> Result<Subject, Failure> {
        let subject = self.common.subject(settings)?;
        if subject.bundle.segment(&self.segment).is_none() {
            let known: Vec<&str> = subject.bundle.segments().map(|segment| segment.name.as_str()).collect();
            return Err(Failure::refused("segment", format!("the bundle has no segment {}", self.segment))
                .next(format!("its segments are: {}", known.join(", "))));
        }
        Ok(subject)
    }
}

impl Common {
    fn subject(&self, settings: &Settings) -> Result<Subject, Failure> {
        let bundle = policy::loaded(&settings.policies(self.dir.as_deref())?)?;
        if let Some(listener) = bundle.listeners().find(|listener| listener.port.is_none()) {
            return Err(Failure::refused("port", format!("listener {} has no port", listener.name))
                .next("write `port = 8443` in its table of segments.toml"));
        }
        if let Some(route) =
            bundle.ingress().iter().find(|route| route.upstream.host.parse::<IpAddr>().is_err())
        {
            let host = &route.upstream.host;
            return Err(Failure::refused("upstream", format!("route {}: {host} is a name", route.name))
                .next("rules are about addresses: write the upstream's address in the route"));
        }
        let flows = bundle.flows(&bundle.grants());
        Ok(Subject { bundle, flows, dns: self.dns.clone() })
    }
}

impl Subject {
    /// Connections that hosts of the segment take, each with the ranges they come from; those within it as well.
    fn taken(&self, segment: &str) -> impl Iterator<Item = (&Flow, Vec<String>)> {
        let taken = self.flows.iter().filter(move |flow| is(&flow.to, segment));
        taken.map(|flow| (flow, self.ranges(&flow.from, None)))
    }

    /// Connections that hosts of the segment open, each with the ranges they go to.
    fn opened(&self, segment: &str) -> impl Iterator<Item = (&Flow, Vec<String>)> {
        let opened = self.flows.iter().filter(move |flow| is(&flow.from, segment));
        opened.map(|flow| (flow, self.ranges(&flow.to, flow.address)))
    }

    /// Where an end is; nothing for anywhere.
    fn ranges(&self, end: &End, address: Option<IpAddr>) -> Vec<String> {
        if let Some(address) = address {
            return vec![address.to_string()];
        }
        match end {
            End::Anywhere => Vec::new(),
            End::Host(host) => vec![host.clone()],
            End::Segment(name) => {
                let segment = self.bundle.segment(name);
                segment.into_iter().flat_map(|segment| &segment.cidrs).map(ToString::to_string).collect()
            }
            End::Destination(name) => {
                let destination = self.bundle.destination(name);
                destination.into_iter().flat_map(|it| &it.addresses).map(ToString::to_string).collect()
            }
        }
    }
}

fn is(end: &End, segment: &str) -> bool {
    matches!(end, End::Segment(name) if name == segment)
}

/// Whether a range is of IPv6.
fn is_v6(range: &str) -> bool {
    range.contains(':')
}
