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

use super::fields::{Plane, answer_op, check_attached, egress_op, ingress_op, read_fields};
use super::values::{self, DEFAULT_BODY, DEFAULT_TIMEOUT};
use super::{
    Content, Declared, EgressRoute, Field, IngressRoute, LookInside, OnLeak, PathPattern, Routes, Upstream,
};
use super::{IngressOp, abuse, leaks, outcome, signature, stream};
use crate::fault::{Faults, Source};
use crate::place::{HeadPlace, Places};
use crate::rows::{Row, choose, document};
use crate::segments::{Service, check_reference, declared, host_text, name_text};

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
    look_inside: Option<LookInside>,
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
        let stream = row.flag("stream");
        let common = self.common(&mut row, stream);
        let upstream = self.upstream(&mut row);
        let service = row.text("service");
        if let (Some(service), Some((_, names))) = (&service, self.declared) {
            check_reference("service", &names.services, service, &mut row);
        }
        let out_of_scope =
            service.as_ref().and_then(|name| self.service(name)).is_some_and(Service::out_of_scope);
        let taken = Plane::In(&common.content, common.path.as_ref().map(Spanned::get_ref));
        let (fields, all_read) = read_fields(&mut row, "field", taken, |row| ingress_op(row, out_of_scope));
        if all_read {
            check_attached(&mut row, &fields);
        }
        let (answer, _all_read) = read_fields(&mut row, "answer", Plane::Answer, answer_op);
        let outcome = outcome::read(&mut row);
        let has_cards = fields.iter().any(|field| field.op == IngressOp::Tokenize);
        let abuse = abuse::read(&mut row, has_cards, outcome.is_some());
        self.check_collection(&mut row, service.as_ref(), common.collection.as_ref());
        let hosts: Vec<String> = hosts.into_iter().map(Spanned::into_inner).collect();
        let leak_check = leaks::leak_check(&mut row, common.on_leak);
        let exceptions = leaks::exceptions(&mut row, taken, (&places(&fields), &places(&answer)));
        let timings = leaks::timings(&mut row, leak_check);
        if stream {
            stream::check(&mut row, &common.content, &fields, &abuse);
        }
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
            stream,
            on_leak: common.on_leak?,
            look_inside: common.look_inside?,
            timeout: common.timeout?,
            fields,
            answer,
            leak_check: leak_check?,
            exceptions,
            timings,
            abuse,
            outcome,
        })
    }

    fn egress(&mut self, mut row: Row<'_, '_, '_>) -> Option<EgressRoute> {
        let common = self.common(&mut row, false);
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
        let taken = Plane::Out(&common.content, common.path.as_ref().map(Spanned::get_ref));
        let (fields, _all_read) = read_fields(&mut row, "field", taken, egress_op);
        let (answer, _all_read) = read_fields(&mut row, "answer", Plane::Answer, answer_op);
        let exceptions = leaks::exceptions(&mut row, taken, (&places(&fields), &places(&answer)));
        let in_headers = fields.iter().filter_map(|field| match &field.places.head {
            Some(HeadPlace::Header(name)) => Some(name.as_str()),
            Some(_) | None => None,
        });
        let outcome = outcome::read(&mut row);
        let pass_headers = row.list("pass_headers", values::header);
        let signatures = signature::read(&mut row, &in_headers.collect::<Vec<_>>());
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
            look_inside: common.look_inside?,
            timeout: common.timeout?,
            fields,
            pass_headers: pass_headers.into_iter().map(Spanned::into_inner).collect(),
            signatures,
            dry_run,
            idempotent_destination,
            answer,
            exceptions,
            outcome,
        })
    }

    fn common(&mut self, row: &mut Row<'_, '_, '_>, stream: bool) -> Common {
        let name = declared(row, &mut self.names);
        let methods = row.list_of_some("methods", values::method);
        let path = row.parsed("path", values::path);
        let collection = row.parsed("collection", name_text);
        if let (Some(collection), Some((_, names))) = (&collection, self.declared) {
            check_reference("collection", &names.collections, collection, row);
        }
        let content = row.list_of_some("content", |text| choose("content", text, &CONTENT));
        if let Some(second) =
            content.iter().rfind(|known| matches!(known.get_ref(), Content::Fixed | Content::Text))
            && content
                .iter()
                .filter(|known| matches!(known.get_ref(), Content::Fixed | Content::Text))
                .count()
                > 1
        {
            let help = "take one of the two, or make two routes";
            row.fault(&second.span(), "`fixed` and `text` are both text/plain", Some(help.to_owned()));
        }
        let size = if stream { values::stream_size } else { values::size };
        let max_body = row.parsed_or_absent("max_body", size);
        let timeout = row.parsed_or_absent("timeout", values::duration);
        Common {
            name,
            methods: methods.into_iter().map(Spanned::into_inner).collect(),
            path,
            collection: collection.and_then(|name| CollectionName::parse(name.get_ref()).ok()),
            content: content.into_iter().map(Spanned::into_inner).collect(),
            max_body: max_body.map(|size| size.map_or(DEFAULT_BODY, Spanned::into_inner)),
            on_leak: leaks::on_leak(row),
            look_inside: row.word_or("look_inside", &LOOK_INSIDE, LookInside::Deny),
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

fn places<Op>(fields: &[Field<Op>]) -> Vec<&Places> {
    fields.iter().map(|field| &field.places).collect()
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

const CONTENT: [(&str, Content); 8] = [
    ("json", Content::Json),
    ("ndjson", Content::Ndjson),
    ("form", Content::Form),
    ("multipart", Content::Multipart),
    ("xml", Content::Xml),
    ("csv", Content::Csv),
    ("fixed", Content::Fixed),
    ("text", Content::Text),
];

const LOOK_INSIDE: [(&str, LookInside); 3] =
    [("deny", LookInside::Deny), ("report", LookInside::Report), ("off", LookInside::Off)];
