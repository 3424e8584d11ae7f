//! `cordon policy diff`: two bundles, in terms of who may do what.
//!
//! Must never call two bundles the same of which one allows more. Tests: below, and `tests/tests/policy_proof.rs`.

use super::loaded;
use super::who_can::Shown;
use crate::configuration::Settings;
use crate::exit::{Failure, Verdict};
use clap::Args;
use cordon_policy::{Bundle, EgressRoute, Grant, IngressRoute, Places};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// `cordon policy diff`.
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 when the same is allowed and every route does the same, 1 when not.

Examples:
  cordon policy diff /etc/cordon/policies ./policies
  cordon policy diff old new --json | jq '.now_allowed'")]
pub(crate) struct Diff {
    /// The bundle before
    old: PathBuf,
    /// The bundle after
    new: PathBuf,
}

#[derive(Debug, Serialize)]
struct Difference {
    now_allowed: Vec<Shown>,
    no_longer_allowed: Vec<Shown>,
    /// What routes do otherwise, as lines of their declaration.
    routes: Vec<RouteChange>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct RouteChange {
    route: String,
    added: Vec<String>,
    removed: Vec<String>,
}

impl Diff {
    pub(super) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let (old, new) = (loaded(&self.old)?, loaded(&self.new)?);
        let difference = difference(&old, &new);
        settings.console().answer(&difference, said)?;
        let Difference { now_allowed, no_longer_allowed, routes } = &difference;
        let same = now_allowed.is_empty() && no_longer_allowed.is_empty() && routes.is_empty();
        Ok(if same { Verdict::Fine } else { Verdict::Refused })
    }
}

fn difference(old: &Bundle, new: &Bundle) -> Difference {
    let (before, after) = (old.grants(), new.grants());
    let only_in = |bundle: &Bundle, some: &[Grant], others: &[Grant]| {
        let others: BTreeSet<_> = others.iter().map(allowed).collect();
        let more = some.iter().filter(|grant| !others.contains(&allowed(grant)));
        more.map(|grant| Shown::of(bundle, grant)).collect()
    };
    Difference {
        now_allowed: only_in(new, &after.all, &before.all),
        no_longer_allowed: only_in(old, &before.all, &after.all),
        routes: route_changes(&declared(old), &declared(new)),
    }
}

/// A grant without the statements that give it: which those are changes nothing.
fn allowed(grant: &Grant) -> Grant {
    Grant { statements: Vec::new(), ..grant.clone() }
}

/// What each route does, as lines.
fn declared(bundle: &Bundle) -> BTreeMap<String, BTreeSet<String>> {
    let ingress = bundle.ingress().iter().map(|route| (route.name.clone(), of_ingress(route)));
    let egress = bundle.egress().iter().map(|route| (route.name.clone(), of_egress(route)));
    ingress.chain(egress).collect()
}

fn of_ingress(route: &IngressRoute) -> BTreeSet<String> {
    let mut lines = BTreeSet::from([
        format!("way in to {} at {}", route.service, route.upstream.authority()),
        format!("collection {}", route.collection),
        format!("path {}", route.path),
        format!(
            "on_leak {:?}, look_inside {:?}, leak_check {:?}",
            route.on_leak, route.look_inside, route.leak_check
        ),
        format!("max_body {}, stream {}", route.max_body, route.stream),
    ]);
    lines.extend(route.hosts.iter().map(|host| format!("host {host}")));
    lines.extend(route.methods.iter().map(|method| format!("method {method}")));
    lines.extend(route.content.iter().map(|content| format!("content {content:?}")));
    lines.extend(route.fields.iter().map(|field| format!("field {}: {:?}", places(&field.places), field.op)));
    lines
        .extend(route.answer.iter().map(|field| format!("answer {}: {:?}", places(&field.places), field.op)));
    lines.extend(route.exceptions.iter().map(|exception| {
        format!("exception {} until {}: {}", places(&exception.places), exception.until, exception.reason)
    }));
    lines.extend(route.abuse.iter().map(|rule| format!("abuse rule {}: {rule:?}", rule.name)));
    lines
}

fn of_egress(route: &EgressRoute) -> BTreeSet<String> {
    let mut lines = BTreeSet::from([
        format!("way out to {}", route.destination),
        format!("collection {}", route.collection),
        format!("purpose {}", route.purpose),
        format!("path {}", route.path),
        format!("on_leak {:?}, look_inside {:?}", route.on_leak, route.look_inside),
        format!("max_body {}", route.max_body),
    ]);
    lines.extend(route.services.iter().map(|service| format!("service {service}")));
    lines.extend(route.methods.iter().map(|method| format!("method {method}")));
    lines.extend(route.content.iter().map(|content| format!("content {content:?}")));
    lines.extend(route.pass_headers.iter().map(|header| format!("passes header {header}")));
    lines.extend(route.dry_run.iter().map(|service| format!("dry run for {service}")));
    lines.extend(route.fields.iter().map(|field| format!("field {}: {:?}", places(&field.places), field.op)));
    lines
        .extend(route.answer.iter().map(|field| format!("answer {}: {:?}", places(&field.places), field.op)));
    lines.extend(route.signatures.iter().map(|signature| format!("signature {signature:?}")));
    lines.extend(route.exceptions.iter().map(|exception| {
        format!("exception {} until {}: {}", places(&exception.places), exception.until, exception.reason)
    }));
    lines
}

fn places(places: &Places) -> String {
    places.labels().map(|(key, label)| format!("{key} {label}")).collect::<Vec<_>>().join(", ")
}

fn route_changes(
    old: &BTreeMap<String, BTreeSet<String>>,
    new: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<RouteChange> {
    let none = BTreeSet::new();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| {
        let (before, after) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        let added: Vec<_> = after.difference(before).cloned().collect();
        let removed: Vec<_> = before.difference(after).cloned().collect();
        let changed = !added.is_empty() || !removed.is_empty();
        changed.then(|| RouteChange { route: name.clone(), added, removed })
    };
    names.into_iter().filter_map(change).collect()
}

fn said(difference: &Difference) -> String {
    let Difference { now_allowed, no_longer_allowed, routes } = difference;
    let mut text = String::new();
    for (sign, grants) in [('+', now_allowed), ('-', no_longer_allowed)] {
        for grant in grants {
            text.push_str(&format!("{sign} {}", grant.line()));
        }
    }
    for RouteChange { route, added, removed } in routes {
        text.push_str(&format!("route {route}\n"));
        added.iter().for_each(|line| text.push_str(&format!("  + {line}\n")));
        removed.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
    }
    if text.is_empty() {
        text.push_str("The same is allowed, and every route does the same.\n");
    }
    text
}
