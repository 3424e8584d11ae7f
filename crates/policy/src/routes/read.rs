//! Reads route files: each row into its type, every reference, and what two routes must not share.
//!
//! Must never let a route through that reveals a card on the way in, or that can never match.
//! Tests: `routes/tests.rs` and `crates/policy/tests/bundle/faults.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use cordon_card::CollectionName;
use toml::Spanned;
use toml::de::DeTable;

use super::signature;
use super::values::{self, DEFAULT_BODY, DEFAULT_TIMEOUT};
use super::{
    Content, Declared, EgressOp, EgressRoute, ExpiryFormat, Field, IngressOp, IngressRoute, OnLeak,
    PathPattern, Routes, Upstream,
};
use crate::fault::{Faults, Source};
use crate::rows::{Mistake, Row, choose, document};
use crate::segments::{Service, check_reference, declared, host_text, name_text};
use crate::selector::JsonSelector;

/// Route files while they are read, one after the other.
#[derive(Debug)]
pub(crate) struct Reading<'d> {
    base: &'d Path,
    declared: Option<&'d Declared>,
    /// False while `segments.toml` has faults: its lists may lack what its author meant.
    lists_count: bool,
    names: BTreeMap<String, Range<usize>>,
    taken: BTreeSet<(&'static str, String, String, PathPattern)>,
    routes: Routes,
}

/// What both planes have in common.
struct Common {
    name: Option<String>,
    methods: Vec<String>,
    path: Option<Spanned<PathPattern>>,
    collection: Option<CollectionName>,
    content: Vec<Content>,
    max_body: Option<u64>,
    on_leak: Option<OnLeak>,
    timeout: Option<Duration>,
}

impl<'d> Reading<'d> {
    /// Starts with what `segments.toml` declares; without it, references are not checked. Whether services may do what
    /// the routes ask of them is checked only when that file is free of faults.
    pub(crate) fn new(base: &'d Path, declared: Option<&'d Declared>, lists_count: bool) -> Self {
        let (names, taken) = (BTreeMap::new(), BTreeSet::new());
        Self { base, declared, lists_count, names, taken, routes: Routes::default() }
    }

    /// Reads one file.
    pub(crate) fn file(&mut self, source: &Source<'_>, faults: &mut Faults) {
        let Some(table) = document(source, faults) else { return };
        let mut file = Row::new("routes file", table.get_ref(), 0..0, source, faults);
        for (span, row) in file.tables("ingress") {
            let route = self.ingress(file.inner("ingress route", span, row));
            self.routes.ingress.extend(route);
        }
        for (span, row) in file.tables("egress") {
            let route = self.egress(file.inner("egress route", span, row));
            self.routes.egress.extend(route);
        }
        file.finish();
    }

    /// All routes that could be read.
    pub(crate) fn finish(self) -> Routes {
        self.routes
    }

    fn ingress(&mut self, mut row: Row<'_, '_, '_>) -> Option<IngressRoute> {
        let hosts = row.list_of_some("hosts", host_text);
        let common = self.common(&mut row);
        let upstream = self.upstream(&mut row);
        let service = row.text("service");
        if let (Some(service), Some((_, names))) = (&service, self.declared) {
            check_reference("service", &names.services, service, &mut row);
        }
        let out_of_scope =
            service.as_ref().and_then(|name| self.service(name)).is_some_and(Service::out_of_scope);
        let (fields, all_read) = read_fields(&mut row, &common.content, |row| ingress_op(row, out_of_scope));
        if all_read {
            check_attached(&mut row, &fields);
        }
        self.check_collection(&mut row, service.as_ref(), common.collection.as_ref());
        let hosts: Vec<String> = hosts.into_iter().map(Spanned::into_inner).collect();
        self.claim("ingress", &hosts, &common, &mut row);
        row.finish();
        Some(IngressRoute {
            name: common.name?,
            hosts,
            methods: common.methods,
            path: common.path?.into_inner(),
            upstream: upstream?,
            service: service?.into_inner(),
            collection: common.collection?,
            content: common.content,
            max_body: common.max_body?,
            on_leak: common.on_leak?,
            timeout: common.timeout?,
            fields,
        })
    }

    fn egress(&mut self, mut row: Row<'_, '_, '_>) -> Option<EgressRoute> {
        let common = self.common(&mut row);
        let services = row.list_of_some("services", name_text);
        let destination = row.text("destination");
        if let Some((_, names)) = self.declared {
            for service in &services {
                check_reference("service", &names.services, service, &mut row);
            }
            if let Some(destination) = &destination {
                check_reference("destination", &names.destinations, destination, &mut row);
            }
        }
        let purpose = row.parsed("purpose", values::purpose);
        let (fields, _all_read) = read_fields(&mut row, &common.content, egress_op);
        let signatures = signature::read(&mut row);
        let idempotent_destination = row.flag("idempotent_destination");
        for service in &services {
            self.check_collection(&mut row, Some(service), common.collection.as_ref());
        }
        self.check_destination(&mut row, &services, destination.as_ref());
        let services: Vec<String> = services.into_iter().map(Spanned::into_inner).collect();
        let dry_run = dry_run(&mut row, &services);
        self.claim("egress", &services, &common, &mut row);
        row.finish();
        Some(EgressRoute {
            name: common.name?,
            methods: common.methods,
            path: common.path?.into_inner(),
            services,
            destination: destination?.into_inner(),
            collection: common.collection?,
            purpose: purpose?.into_inner(),
            content: common.content,
            max_body: common.max_body?,
            on_leak: common.on_leak?,
            timeout: common.timeout?,
            fields,
            signatures,
            dry_run,
            idempotent_destination,
        })
    }

    fn common(&mut self, row: &mut Row<'_, '_, '_>) -> Common {
        let name = declared(row, &mut self.names);
        let methods = row.list_of_some("methods", values::method);
        let path = row.parsed("path", values::path);
        let collection = row.parsed("collection", name_text);
        if let (Some(collection), Some((_, names))) = (&collection, self.declared) {
            check_reference("collection", &names.collections, collection, row);
        }
        let content = row.list_of_some("content", |text| choose("content", text, &CONTENT));
        let max_body = row.parsed_or_absent("max_body", values::size);
        let timeout = row.parsed_or_absent("timeout", values::duration);
        Common {
            name,
            methods: methods.into_iter().map(Spanned::into_inner).collect(),
            path,
            collection: collection.and_then(|name| CollectionName::parse(name.get_ref()).ok()),
            content: content.into_iter().map(Spanned::into_inner).collect(),
            max_body: max_body.map(|size| size.map_or(DEFAULT_BODY, Spanned::into_inner)),
            on_leak: row.word_or("on_leak", &ON_LEAK, OnLeak::Deny),
            timeout: timeout.map(|time| time.map_or(DEFAULT_TIMEOUT, Spanned::into_inner)),
        }
    }

    fn upstream(&self, row: &mut Row<'_, '_, '_>) -> Option<Upstream> {
        let upstream = row.parsed("upstream", values::upstream);
        let roots = row.optional("upstream_roots");
        let upstream = upstream?;
        let span = upstream.span();
        let mut upstream = upstream.into_inner();
        match (&roots, upstream.tls) {
            (None, true) => {
                let help = "name the PEM file that its certificate must chain to";
                row.fault(&span, "an https upstream needs `upstream_roots`", Some(help.to_owned()));
            }
            (Some(roots), false) => {
                let help = "write https://, or leave `upstream_roots` out";
                row.fault(&roots.span(), "an http upstream has no use for roots", Some(help.to_owned()));
            }
            _ => {}
        }
        upstream.roots = roots.map(|roots| self.base.join(roots.into_inner()));
        Some(upstream)
    }

    /// The declared service of this name.
    fn service(&self, name: &Spanned<String>) -> Option<&'d Service> {
        let (segments, _) = self.declared?;
        segments.services.iter().find(|known| known.name == *name.get_ref())
    }

    /// A destination that no decision would ever permit is a slip in one of the two files.
    fn check_destination(
        &self,
        row: &mut Row<'_, '_, '_>,
        services: &[Spanned<String>],
        destination: Option<&Spanned<String>>,
    ) {
        let (Some((_, names)), Some(to)) = (self.declared, destination.map(Spanned::get_ref)) else { return };
        for name in services {
            let Some(service) = self.service(name).filter(|_| self.lists_count) else { continue };
            if names.destinations.contains_key(to) && !service.destinations.contains(to) {
                let who = &service.name;
                let help = format!("add \"{to}\" to the `destinations` of \"{who}\" in segments.toml");
                row.fault(&name.span(), format!("\"{who}\" may not send cards to \"{to}\""), Some(help));
            }
        }
    }

    /// As `check_destination`, for the collection.
    fn check_collection(
        &self,
        row: &mut Row<'_, '_, '_>,
        service: Option<&Spanned<String>>,
        collection: Option<&CollectionName>,
    ) {
        let (Some((_, names)), Some(name), Some(collection)) = (self.declared, service, collection) else {
            return;
        };
        let Some(service) = self.service(name).filter(|_| self.lists_count) else { return };
        if names.collections.contains_key(collection.as_str()) && !service.collections.contains(collection) {
            let who = &service.name;
            let help = format!("add \"{collection}\" to the `collections` of \"{who}\" in segments.toml");
            row.fault(&name.span(), format!("\"{who}\" may not use collection \"{collection}\""), Some(help));
        }
    }

    /// Two routes with the same host or service, method and path: the second would never be reached.
    fn claim(&mut self, plane: &'static str, parties: &[String], common: &Common, row: &mut Row<'_, '_, '_>) {
        let Some(path) = &common.path else { return };
        for party in parties {
            for method in &common.methods {
                let key = (plane, party.clone(), method.clone(), path.get_ref().clone());
                if !self.taken.insert(key) {
                    let message =
                        format!("another route has {method} {} for {party} already", path.get_ref());
                    let help = "merge the two, or give one another path or method";
                    row.fault(&path.span(), message, Some(help.to_owned()));
                }
            }
        }
    }
}

/// Services of the route that may ask for dry runs.
fn dry_run(row: &mut Row<'_, '_, '_>, services: &[String]) -> Vec<String> {
    let named = row.list("dry_run", name_text);
    for name in named.iter().filter(|name| !services.contains(name.get_ref())) {
        let help = "add it to `services`, or take it out of `dry_run`";
        let message = format!("\"{}\" may not use this route", name.get_ref());
        row.fault(&name.span(), message, Some(help.to_owned()));
    }
    named.into_iter().map(Spanned::into_inner).collect()
}

/// The fields of a route, and whether every one could be read.
fn read_fields<'t, Op: Copy>(
    row: &mut Row<'t, '_, '_>,
    content: &[Content],
    read: impl Fn(&mut Row<'t, '_, '_>) -> Option<Op>,
) -> (Vec<Field<Op>>, bool) {
    let tables: Vec<(Range<usize>, &'t DeTable<'t>)> = row.tables("field");
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    let declared = tables.len();
    for (span, table) in tables {
        let mut row = row.inner("field", span, table);
        let json = row.parsed_or_absent("json", |text| {
            JsonSelector::parse(text).map_err(|error| Mistake::new(error.message(), error.help()))
        });
        let form = row.parsed_or_absent("form", values::form_name);
        let op = read(&mut row);
        let (Some(json), Some(form)) = (json, form) else {
            row.finish();
            continue;
        };
        check_places(&mut row, json.as_ref(), form.as_ref(), content, &mut seen);
        row.finish();
        let (json, form) = (json.map(Spanned::into_inner), form.map(Spanned::into_inner));
        fields.extend(op.map(|op| Field { json, form, op }));
    }
    let all_read = fields.len() == declared;
    (fields, all_read)
}

fn check_places(
    row: &mut Row<'_, '_, '_>,
    json: Option<&Spanned<JsonSelector>>,
    form: Option<&Spanned<String>>,
    content: &[Content],
    seen: &mut BTreeSet<(bool, String)>,
) {
    let span = row.span();
    if json.is_none() && form.is_none() {
        let help = "say where it stands: json = \"$.card.number\", form = \"card_number\", or both";
        row.fault(&span, "this field has neither `json` nor `form`", Some(help.to_owned()));
        return;
    }
    let reachable = (json.is_some() && content.contains(&Content::Json))
        || (form.is_some() && content.contains(&Content::Form));
    if !reachable && !content.is_empty() {
        let help = "add the content type to the route, or the field's place in the one it takes";
        row.fault(&span, "this field stands in no content type that the route takes", Some(help.to_owned()));
    }
    let places = json
        .map(|json| (json.span(), true, json.get_ref().as_str()))
        .into_iter()
        .chain(form.map(|form| (form.span(), false, form.get_ref().as_str())));
    for (span, is_json, place) in places {
        if !seen.insert((is_json, place.to_owned())) {
            row.fault(&span, format!("another field of this route is at \"{place}\" too"), None);
        }
    }
}

fn ingress_op(row: &mut Row<'_, '_, '_>, out_of_scope: bool) -> Option<IngressOp> {
    row.parsed("op", |text| {
        if EGRESS_OPS.iter().any(|(word, _)| *word == text) {
            let message = if out_of_scope {
                format!("`{text}` would bring card data to a service that is out of PCI scope")
            } else {
                format!("`{text}` has no place on the way in")
            };
            return Err(Mistake::new(message, "cards are revealed in an [[egress]] route only"));
        }
        choose("op", text, &INGRESS_OPS)
    })
    .map(Spanned::into_inner)
}

fn egress_op(row: &mut Row<'_, '_, '_>) -> Option<EgressOp> {
    let op = row.parsed("op", |text| {
        if INGRESS_OPS.iter().any(|(word, _)| *word == text) {
            return Err(Mistake::new(
                format!("`{text}` has no place on the way out"),
                "cards are tokenized in an [[ingress]] route only",
            ));
        }
        choose("op", text, &EGRESS_OPS)
    })?;
    if !matches!(op.get_ref(), EgressOp::RevealExpiry(_)) {
        return Some(op.into_inner());
    }
    let format = row.word_or("format", &EXPIRY_FORMATS, ExpiryFormat::MmSlashYy)?;
    Some(EgressOp::RevealExpiry(format))
}

/// A security code or an expiry belongs to a card: without one there is nothing to keep it with.
fn check_attached(row: &mut Row<'_, '_, '_>, fields: &[Field<IngressOp>]) {
    let has = |op: IngressOp| fields.iter().any(|field| field.op == op);
    let span = row.span();
    if !fields.is_empty() && !has(IngressOp::Tokenize) {
        let help = "add a field with op = \"tokenize\", or leave the fields out";
        row.fault(&span, "this route holds parts of a card but no card number", Some(help.to_owned()));
    }
    if has(IngressOp::ExpiryMonth) != has(IngressOp::ExpiryYear) {
        let help = "add the other, or use op = \"expiry\" for one field with both";
        row.fault(&span, "`expiry_month` and `expiry_year` go together", Some(help.to_owned()));
    }
}

const CONTENT: [(&str, Content); 2] = [("json", Content::Json), ("form", Content::Form)];

const ON_LEAK: [(&str, OnLeak); 2] = [("deny", OnLeak::Deny), ("mask", OnLeak::Mask)];

const INGRESS_OPS: [(&str, IngressOp); 5] = [
    ("tokenize", IngressOp::Tokenize),
    ("hold", IngressOp::Hold),
    ("expiry", IngressOp::Expiry),
    ("expiry_month", IngressOp::ExpiryMonth),
    ("expiry_year", IngressOp::ExpiryYear),
];

const EGRESS_OPS: [(&str, EgressOp); 3] = [
    ("reveal", EgressOp::Reveal),
    ("reveal_cvv", EgressOp::RevealCvv),
    ("reveal_expiry", EgressOp::RevealExpiry(ExpiryFormat::MmSlashYy)),
];

const EXPIRY_FORMATS: [(&str, ExpiryFormat); 4] = [
    ("MM/YY", ExpiryFormat::MmSlashYy),
    ("MM/YYYY", ExpiryFormat::MmSlashYyyy),
    ("YYYY-MM", ExpiryFormat::YyyyDashMm),
    ("MMYY", ExpiryFormat::Mmyy),
];
