//! Who and where: segments, services, listeners, destinations and collections, as `segments.toml` declares them.
//!
//! Must never decide anything: these are the data that the Cedar statements look at.
//! Tests: `segments/tests.rs` and `crates/policy/tests/bundle/faults.rs`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use cordon_card::CollectionName;
use ipnet::IpNet;

use crate::fault::Faults;

mod addresses;
mod read;

pub(crate) use addresses::canonical;
pub(crate) use read::{Names, check_reference, declared, host_text, name_text, read};

/// How a segment stands to the cardholder data environment (PCI DSS v4.0.1, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Stores, processes or transmits card numbers.
    Cde,
    /// Holds no card number but connects to what does.
    Connected,
    /// Neither; sees tokens only.
    Out,
    /// Somebody else's network.
    External,
}

impl Scope {
    /// True where a card number must never arrive.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::External)
    }

    /// As written in `segments.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cde => "cde",
            Self::Connected => "connected",
            Self::Out => "out",
            Self::External => "external",
        }
    }
}

/// What a service is for; the Cedar statements grant by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The gateway's ingress: tokenizes.
    GatewayIngress,
    /// The gateway's egress: the only one that detokenizes.
    GatewayEgress,
    /// Brings existing cards in from a file: tokenizes, and nothing else.
    Importer,
    /// An application behind the gateway.
    Application,
    /// Runs the system: inspects, deletes, administers.
    Operator,
    /// Holds a share of the root key: administers the seal.
    Custodian,
    /// Reads status and metrics.
    Monitor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::GatewayIngress,
        Self::GatewayEgress,
        Self::Importer,
        Self::Application,
        Self::Operator,
        Self::Custodian,
        Self::Monitor,
    ];

    /// As written in `segments.toml` and in the Cedar schema.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayIngress => "gateway-ingress",
            Self::GatewayEgress => "gateway-egress",
            Self::Importer => "importer",
            Self::Application => "application",
            Self::Operator => "operator",
            Self::Custodian => "custodian",
            Self::Monitor => "monitor",
        }
    }
}

/// A part of the network, by address ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// Its address ranges.
    pub cidrs: Vec<IpNet>,
    /// How it stands to the cardholder data environment.
    pub scope: Scope,
}

impl Segment {
    /// True when the address lies in one of its ranges; an IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.cidrs.iter().any(|cidr| cidr.contains(&address))
    }
}

/// A principal: something that authenticates with a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The URI in its certificate's subject alternative name.
    pub uri: String,
    /// The segment it lives in.
    pub segment: String,
    /// What it is for.
    pub role: Role,
    /// The scope of its segment.
    pub scope: Scope,
    /// Who answers for it (PCI DSS 1.2.5).
    pub owner: String,
    /// Why it exists (PCI DSS 1.2.5).
    pub need: String,
    /// Collections it may name.
    pub collections: Vec<CollectionName>,
    /// Destinations that cards may be sent to on its behalf.
    pub destinations: Vec<String>,
    /// May ask whether a card is known. An oracle: by explicit grant only.
    pub may_lookup: bool,
}

impl Service {
    /// True where a card number must never arrive.
    #[must_use]
    pub const fn out_of_scope(&self) -> bool {
        self.scope.is_out()
    }
}

/// Which socket of which process a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The gateway's public side.
    GatewayIngress,
    /// The gateway's side towards the applications that send cards out.
    GatewayEgress,
    /// The vault's data calls.
    VaultData,
    /// The vault's administration.
    VaultAdmin,
}

impl Process {
    /// As written in `segments.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayIngress => "gateway.ingress",
            Self::GatewayEgress => "gateway.egress",
            Self::VaultData => "vault.data",
            Self::VaultAdmin => "vault.admin",
        }
    }
}

/// A declared listening socket (PCI DSS 1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Which socket of which process it is.
    pub process: Process,
    /// The segment it listens in.
    pub segment: String,
    /// Its TCP port, for what is made of the bundle for networks.
    pub port: Option<u16>,
    /// Who answers for it.
    pub owner: String,
    /// Why it exists.
    pub need: String,
}

/// A namespace of cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its name.
    pub name: CollectionName,
    /// Who answers for it.
    pub owner: String,
    /// Why it exists.
    pub need: String,
}

/// Where cards may be sent, pinned to host, port, trust roots and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Host name, lower case; also the name its certificate must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// PEM file of the only roots its certificate may chain to.
    pub roots: PathBuf,
    /// Ranges its address must lie in; empty means any public address.
    pub addresses: Vec<IpNet>,
    /// A fixed address to connect to in place of resolution; development bundles only.
    pub connect: Option<SocketAddr>,
    /// Who answers for it (PCI DSS 1.2.5).
    pub owner: String,
    /// Why it exists (PCI DSS 1.2.5).
    pub need: String,
}

impl Destination {
    /// True when a resolved address may be connected to: it is listed, or nothing is listed and it is public. A private,
    /// link-local or otherwise special address counts as listed only in a range of such addresses: `0.0.0.0/0` does not
    /// open the way to a cloud's metadata.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        let public = addresses::is_public(address);
        if self.addresses.is_empty() {
            return public;
        }
        let listed = |range: &IpNet| range.contains(&address) && (public || addresses::is_special(range));
        self.addresses.iter().any(listed)
    }
}

/// All of `segments.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    pub(crate) development: bool,
    pub(crate) segments: Vec<Segment>,
    pub(crate) services: Vec<Service>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) collections: Vec<Collection>,
    pub(crate) destinations: Vec<Destination>,
}

impl Segments {
    /// Reads the text of a `segments.toml`; relative paths in it start at `base`.
    ///
    /// # Errors
    /// Every fault in it, with its place.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Faults> {
        let source = crate::fault::Source { file: SEGMENTS_FILE, text };
        let mut faults = Faults::default();
        let found = read(&source, base, &mut faults);
        faults.into_result(found.map(|(segments, _names)| segments))
    }
}

/// The file's name in a bundle.
pub(crate) const SEGMENTS_FILE: &str = "segments.toml";

#[cfg(test)]
mod tests;
