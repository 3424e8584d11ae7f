//! Reads `segments.toml`: each row into its type, then every reference between rows.
//!
//! Must never return a `Segments` whose references do not hold; a wrong row leaves a fault.
//! Tests: `segments/tests.rs` and `crates/policy/tests/bundle/faults.rs`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use cordon_card::CollectionName;
use ipnet::IpNet;
use toml::Spanned;

use super::addresses::overlap;
use super::{Collection, Destination, Listener, Process, Role, Scope, Segment, Segments, Service};
use crate::fault::{Faults, Source, nearest_or_all};
use crate::rows::{Mistake, Row, document};

/// Every declared name with its place, also of rows that are otherwise wrong: one slip gives one fault.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) segments: BTreeMap<String, Range<usize>>,
    pub(crate) services: BTreeMap<String, Range<usize>>,
    pub(crate) collections: BTreeMap<String, Range<usize>>,
    pub(crate) destinations: BTreeMap<String, Range<usize>>,
    listeners: BTreeMap<String, Range<usize>>,
    uris: BTreeMap<String, Range<usize>>,
    references: Vec<(Kind, Spanned<String>)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Segment,
    Collection,
    Destination,
}

/// Reads the file. `None` when its syntax is broken; otherwise what could be read, with faults for the rest.
pub(crate) fn read(source: &Source<'_>, base: &Path, faults: &mut Faults) -> Option<(Segments, Names)> {
    let table = document(source, faults)?;
    let mut names = Names::default();
    let mut found = Segments::default();
    let mut file = Row::new("segments file", table.get_ref(), 0..0, source, faults);
    found.development = file.flag("development");
    let mut cidrs = Vec::new();
    for (span, row) in file.tables("segment") {
        found.segments.extend(segment(file.inner("segment", span, row), &mut names, &mut cidrs));
    }
    for (span, row) in file.tables("collection") {
        found.collections.extend(collection(file.inner("collection", span, row), &mut names));
    }
    for (span, row) in file.tables("destination") {
        let row = file.inner("destination", span, row);
        found.destinations.extend(destination(row, &mut names, base, found.development));
    }
    for (span, row) in file.tables("service") {
        found.services.extend(service(file.inner("service", span, row), &mut names, &found.segments));
    }
    for (span, row) in file.tables("listener") {
        found.listeners.extend(listener(file.inner("listener", span, row), &mut names));
    }
    check_references(&names, &mut file);
    if !found.development {
        check_overlaps(&cidrs, &mut file);
    }
    file.finish();
    Some((found, names))
}

fn segment(
    mut row: Row<'_, '_, '_>,
    names: &mut Names,
    cidrs: &mut Vec<(String, Scope, Spanned<IpNet>)>,
) -> Option<Segment> {
    let name = declared(&mut row, &mut names.segments);
    let ranges = row.list_of_some("cidrs", cidr);
    let scope = row.word("scope", &SCOPES).map(Spanned::into_inner);
    row.finish();
    let (name, scope) = (name?, scope?);
    cidrs.extend(ranges.iter().map(|range| (name.clone(), scope, range.clone())));
    let cidrs = ranges.into_iter().map(Spanned::into_inner).collect();
    Some(Segment { name, cidrs, scope })
}

fn collection(mut row: Row<'_, '_, '_>, names: &mut Names) -> Option<Collection> {
    let name = declared(&mut row, &mut names.collections);
    let (owner, need) = accounted(&mut row);
    row.finish();
    let name = CollectionName::parse(&name?).ok()?;
    Some(Collection { name, owner: owner?, need: need? })
}

fn destination(
    mut row: Row<'_, '_, '_>,
    names: &mut Names,
    base: &Path,
    development: bool,
) -> Option<Destination> {
    let name = declared(&mut row, &mut names.destinations);
    let host = row.parsed("host", host_text);
    let port = row.port("port");
    let roots = row.text("roots");
    let addresses = row.list("addresses", cidr);
    let connect = row.parsed_or_absent("connect", socket);
    if let (Some(Some(address)), false) = (&connect, development) {
        let help = "list the address under `addresses` and let the name resolve, or set `development = true`";
        row.fault(
            &address.span(),
            "`connect` skips name resolution and is for development bundles only",
            Some(help.to_owned()),
        );
    }
    let (owner, need) = accounted(&mut row);
    row.finish();
    Some(Destination {
        name: name?,
        host: host?.into_inner(),
        port: port?,
        roots: base.join(roots?.into_inner()),
        addresses: addresses.into_iter().map(Spanned::into_inner).collect(),
        connect: connect?.map(Spanned::into_inner),
        owner: owner?,
        need: need?,
    })
}

fn service(mut row: Row<'_, '_, '_>, names: &mut Names, segments: &[Segment]) -> Option<Service> {
    let name = declared(&mut row, &mut names.services);
    let uri = row.parsed("uri", uri);
    if let Some(uri) = &uri
        && names.uris.insert(uri.get_ref().clone(), uri.span()).is_some()
    {
        let help = "one certificate identity is one service".to_owned();
        row.fault(&uri.span(), "another service has this `uri`", Some(help));
    }
    let segment = row.text("segment");
    names.references.extend(segment.clone().map(|segment| (Kind::Segment, segment)));
    let role = row.word_or("role", &roles(), Role::Application);
    let collections = row.list("collections", name_text);
    names.references.extend(collections.iter().map(|name| (Kind::Collection, name.clone())));
    let destinations = row.list("destinations", name_text);
    names.references.extend(destinations.iter().map(|name| (Kind::Destination, name.clone())));
    let may_lookup = row.flag("may_lookup");
    let (owner, need) = accounted(&mut row);
    row.close();
    let (role, segment) = (role?, segment?);
    let scope = segments.iter().find(|known| known.name == *segment.get_ref())?.scope;
    check_scope(&mut row, &segment, scope, role, may_lookup);
    Some(Service {
        name: name?,
        uri: uri?.into_inner(),
        segment: segment.into_inner(),
        role,
        scope,
        owner: owner?,
        need: need?,
        collections: collections
            .iter()
            .filter_map(|name| CollectionName::parse(name.get_ref()).ok())
            .collect(),
        destinations: destinations.into_iter().map(Spanned::into_inner).collect(),
        may_lookup,
    })
}

/// What handles card numbers, or what protects them, cannot live out of PCI scope.
fn check_scope(
    row: &mut Row<'_, '_, '_>,
    segment: &Spanned<String>,
    scope: Scope,
    role: Role,
    may_lookup: bool,
) {
    let (wrong, wanted) = match role {
        Role::GatewayIngress | Role::GatewayEgress | Role::Importer => (scope != Scope::Cde, "cde"),
        Role::Operator | Role::Custodian => (scope.is_out(), "cde or connected"),
        Role::Application | Role::Monitor => (may_lookup && scope.is_out(), "cde or connected"),
    };
    if wrong {
        let what = if may_lookup {
            "that may look up cards".to_owned()
        } else {
            format!("of role \"{}\"", role.as_str())
        };
        let message = format!("a service {what} cannot live in a segment with scope \"{}\"", scope.as_str());
        row.fault(&segment.span(), message, Some(format!("move it to a segment with scope {wanted}")));
    }
}

fn listener(mut row: Row<'_, '_, '_>, names: &mut Names) -> Option<Listener> {
    let name = declared(&mut row, &mut names.listeners);
    let process = row.word("process", &PROCESSES);
    let segment = row.text("segment");
    names.references.extend(segment.clone().map(|segment| (Kind::Segment, segment)));
    let port = row.port_or_absent("port");
    let (owner, need) = accounted(&mut row);
    row.finish();
    Some(Listener {
        name: name?,
        port,
        process: process?.into_inner(),
        segment: segment?.into_inner(),
        owner: owner?,
        need: need?,
    })
}

/// Owner and business need, which PCI DSS 1.2.5 asks of everything that listens, connects or is allowed.
fn accounted(row: &mut Row<'_, '_, '_>) -> (Option<String>, Option<String>) {
    (row.text("owner").map(Spanned::into_inner), row.text("need").map(Spanned::into_inner))
}

/// The row's name, registered so that doubles are found and references resolve.
pub(crate) fn declared(
    row: &mut Row<'_, '_, '_>,
    known: &mut BTreeMap<String, Range<usize>>,
) -> Option<String> {
    let name = row.parsed("name", name_text)?;
    let span = name.span();
    let name = name.into_inner();
    if known.contains_key(&name) {
        row.fault(&span, format!("the name \"{name}\" is taken"), Some("names are unique".to_owned()));
        return None;
    }
    known.insert(name.clone(), span);
    Some(name)
}

fn check_references(names: &Names, file: &mut Row<'_, '_, '_>) {
    for (kind, name) in &names.references {
        let (what, known) = match kind {
            Kind::Segment => ("segment", &names.segments),
            Kind::Collection => ("collection", &names.collections),
            Kind::Destination => ("destination", &names.destinations),
        };
        check_reference(what, known, name, file);
    }
}

/// A fault when `name` is not among the `known` names.
pub(crate) fn check_reference(
    what: &str,
    known: &BTreeMap<String, Range<usize>>,
    name: &Spanned<String>,
    row: &mut Row<'_, '_, '_>,
) {
    if !known.contains_key(name.get_ref()) {
        let help = nearest_or_all(name.get_ref(), known.keys().map(String::as_str), what);
        row.fault(&name.span(), format!("no {what} is called \"{}\"", name.get_ref()), help);
    }
}

/// An address cannot be inside the cardholder data environment and outside of PCI scope at once.
fn check_overlaps(cidrs: &[(String, Scope, Spanned<IpNet>)], file: &mut Row<'_, '_, '_>) {
    for (name, _, range) in cidrs.iter().filter(|(_, scope, _)| scope.is_out()) {
        for (inside, _, cde) in cidrs.iter().filter(|(_, scope, _)| *scope == Scope::Cde) {
            if overlap(range.get_ref(), cde.get_ref()) {
                let message = format!(
                    "{} of segment \"{name}\" overlaps {} of segment \"{inside}\", which is in the cardholder data environment",
                    range.get_ref(),
                    cde.get_ref()
                );
                let help =
                    "give them separate ranges; only a bundle with `development = true` may share them";
                file.fault(&range.span(), message, Some(help.to_owned()));
            }
        }
    }
}

/// A name: what `CollectionName` allows, for everything in a bundle.
pub(crate) fn name_text(text: &str) -> Result<String, Mistake> {
    CollectionName::parse(text).map(|name| name.to_string()).map_err(|_refused| {
        Mistake::new(
            format!("\"{text}\" is not a name"),
            "lower-case letters, digits and `-`, beginning with a letter, at most 63 characters",
        )
    })
}

/// A host name without a port, lower-cased (RFC 1123 letters, digits, hyphens and dots), or an IPv4 address in its one
/// plain form: `127.1`, `0x7f.1` and `0177.0.0.1` are addresses to some resolvers and names to others (threat B27).
pub(crate) fn host_text(text: &str) -> Result<String, Mistake> {
    let wrong = || {
        Mistake::new(
            format!("\"{text}\" is not a host name"),
            "write letters, digits, `-` and dots, without port, wildcard or trailing dot",
        )
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(wrong());
    }
    let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let numeric = hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit());
    if numeric && text.parse::<Ipv4Addr>().is_err() {
        return Err(Mistake::new(
            format!("\"{text}\" ends in a number and is no plain IPv4 address"),
            "write an address as four decimal numbers without leading zeros, like 192.0.2.1",
        ));
    }
    Ok(text.to_ascii_lowercase())
}

fn cidr(text: &str) -> Result<IpNet, Mistake> {
    let range: IpNet = text.parse().map_err(|_unreadable| {
        Mistake::new(
            format!("\"{text}\" is not an address range"),
            "write it like 192.0.2.0/24 or 2001:db8::/32",
        )
    })?;
    if range.trunc() == range {
        Ok(range)
    } else {
        Err(Mistake::new(format!("\"{text}\" has host bits set"), format!("did you mean {}?", range.trunc())))
    }
}

fn socket(text: &str) -> Result<SocketAddr, Mistake> {
    text.parse().map_err(|_unreadable| {
        Mistake::new(format!("\"{text}\" is not an address with a port"), "write it like 127.0.0.1:9443")
    })
}

fn uri(text: &str) -> Result<String, Mistake> {
    let well_formed = text.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
            && rest.starts_with(|first: char| first.is_ascii_alphanumeric())
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte))
    });
    if well_formed {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(
        format!("\"{text}\" is not a certificate URI"),
        "write it exactly as in the certificate, like spiffe://example.org/signup",
    ))
}

fn roles() -> [(&'static str, Role); 7] {
    Role::ALL.map(|role| (role.as_str(), role))
}

const SCOPES: [(&str, Scope); 4] = [
    ("cde", Scope::Cde),
    ("connected", Scope::Connected),
    ("out", Scope::Out),
    ("external", Scope::External),
];

const PROCESSES: [(&str, Process); 4] = [
    ("gateway.ingress", Process::GatewayIngress),
    ("gateway.egress", Process::GatewayEgress),
    ("vault.data", Process::VaultData),
    ("vault.admin", Process::VaultAdmin),
];
