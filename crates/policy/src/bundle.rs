//! A bundle: reads its folder, finds every fault, and holds what the rest of Cordon asks of it.
//!
//! Must never exist half-valid: a `Bundle` has passed every check, or there are faults instead.
//! Tests: `crates/policy/tests/bundle`.

use std::path::Path;
use std::sync::Arc;

use ring::digest;

use crate::action::{Action, ActionKind};
use crate::decide::{Ask, Decider, Permit, Refusal, RefusalKind};
use crate::explain::{Explanation, explain};
use crate::fault::{Faults, Source};
use crate::known::{Declarations, Known};
use crate::routes::{EgressRoute, IngressRoute, Passing, ROUTES_FILE, Reading, Routes, passing};
use crate::segments::{Collection, Destination, Listener, SEGMENTS_FILE, Segment, Segments, Service};
use crate::statements::{self, Statement};

mod files;

pub(crate) use files::cases as case_files;

/// A validated policy bundle. Immutable; share it by `Arc` and swap the `Arc` to reload.
#[derive(Debug)]
pub struct Bundle {
    digest: String,
    segments: Segments,
    routes: Routes,
    decider: Decider,
}

impl Bundle {
    /// Reads and validates the bundle in a folder.
    ///
    /// # Errors
    /// Every fault found, with file, line, column and what to write instead. Also when a file may be written by
    /// others than its owner (PCI DSS 1.2.8), unless the bundle is marked for development.
    pub fn load(dir: &Path) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let loaded = files::load(dir, &mut faults);
        let files: Vec<(&str, &str)> =
            loaded.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
        let (bundle, development) = build(&files, dir, &mut faults);
        if !development {
            files::check_writable(dir, &loaded, &mut faults);
        }
        faults.into_result(bundle)
    }

    /// Name (relative to the bundle) and text of each file of a bundle that counts, as [`Bundle::parse`] takes them.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(dir: &Path) -> Result<Vec<(String, String)>, Faults> {
        let mut faults = Faults::default();
        let files = files::load(dir, &mut faults);
        faults.into_result(Some(files.into_iter().map(|file| (file.name, file.text)).collect()))
    }

    /// Validates a bundle that is in memory: name (relative to the bundle) and text of each file. Relative paths in
    /// it start at `base`; nothing is read from there.
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(files: &[(&str, &str)], base: &Path) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let (bundle, _development) = build(files, base, &mut faults);
        faults.into_result(bundle)
    }

    /// SHA-256 over the names and bytes of the files that count, in hex. Case files do not count.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// True when the bundle is for one machine on loopback; a live environment must refuse it.
    #[must_use]
    pub const fn development(&self) -> bool {
        self.segments.development
    }

    /// The service whose certificate carries this URI, compared exactly.
    #[must_use]
    pub fn service_by_uri(&self, uri: &str) -> Option<&Service> {
        self.segments.services.iter().find(|service| service.uri == uri)
    }

    /// A service by name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.segments.services.iter().find(|service| service.name == name)
    }

    /// A destination by name.
    #[must_use]
    pub fn destination(&self, name: &str) -> Option<&Destination> {
        self.segments.destinations.iter().find(|destination| destination.name == name)
    }

    /// A segment by name.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<&Segment> {
        self.segments.segments.iter().find(|segment| segment.name == name)
    }

    /// All services, in file order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.segments.services.iter()
    }

    /// All destinations, in file order.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.segments.destinations.iter()
    }

    /// All segments, in file order.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.segments.iter()
    }

    /// All declared listeners, in file order.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.segments.listeners.iter()
    }

    /// All collections, in file order.
    pub fn collections(&self) -> impl Iterator<Item = &Collection> {
        self.segments.collections.iter()
    }

    /// All statements, in file order.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.decider.engine.statements.all.iter()
    }

    /// All ways in, in file order.
    #[must_use]
    pub fn ingress(&self) -> &[IngressRoute] {
        &self.routes.ingress
    }

    /// All ways out, in file order.
    #[must_use]
    pub fn egress(&self) -> &[EgressRoute] {
        &self.routes.egress
    }

    /// Asks the statements for permission to do `A`.
    ///
    /// # Errors
    /// A refusal: nothing permits it, something forbids it, a name is unknown, a part is missing, or a statement
    /// could not be evaluated.
    pub fn decide<A: Action>(&self, ask: &Ask<'_>) -> Result<Permit<A>, Refusal> {
        self.decider.decide(ask)
    }

    /// Whether a statement about an action looks at the address itself.
    pub(crate) fn looks_at_address(&self, kind: ActionKind) -> bool {
        self.decider.engine.looks_at_address(kind)
    }

    /// As `decide` for an action named by text, without a permit: for case files.
    pub(crate) fn outcome(&self, action: &str, ask: &Ask<'_>) -> Result<Arc<[Arc<str>]>, Refusal> {
        let kind = action.parse().map_err(|_unknown| Refusal::new(None, RefusalKind::UnknownAction))?;
        self.decider.outcome(&self.decider.resolve(kind, ask)?)
    }

    /// Everything that is allowed for a time only, in the order of the routes.
    #[must_use]
    pub fn passing(&self) -> Vec<Passing> {
        let ingress =
            self.ingress().iter().map(|route| passing(&route.name, route.on_leak, &route.exceptions));
        let egress = self.egress().iter().map(|route| passing(&route.name, route.on_leak, &route.exceptions));
        ingress.chain(egress).flatten().collect()
    }

    /// Says how `decide` would answer and why, with the places of the statements.
    ///
    /// # Errors
    /// A refusal that comes before any statement: unknown action, unknown name, missing part.
    pub fn explain(&self, action: &str, ask: &Ask<'_>) -> Result<Explanation, Refusal> {
        explain(&self.decider, action, ask)
    }
}

/// The bundle, if it can be built at all, and whether it says that it is for development.
fn build(files: &[(&str, &str)], base: &Path, faults: &mut Faults) -> (Option<Bundle>, bool) {
    let mut files: Vec<Source<'_>> = files.iter().map(|(file, text)| Source { file, text }).collect();
    files.sort_by(|left, right| left.file.cmp(right.file));
    let find = |name: &str| files.iter().find(|source| source.file == name);
    for name in [SEGMENTS_FILE, ROUTES_FILE, files::SCHEMA_FILE] {
        let elsewhere = name == ROUTES_FILE && files.iter().any(|source| files::is_routes(source.file));
        if find(name).is_none() && !elsewhere {
            faults.of_file(name, "the bundle has no such file", None);
        }
    }
    let before = faults.len();
    let declared = find(SEGMENTS_FILE).and_then(|source| crate::segments::read(source, base, faults));
    let mut reading = Reading::new(base, declared.as_ref(), faults.len() == before);
    for source in files.iter().filter(|source| files::is_routes(source.file)) {
        reading.file(source, faults);
    }
    let routes = reading.finish();
    let cedar: Vec<Source<'_>> = files
        .iter()
        .filter(|source| files::is_statements(source.file))
        .map(|source| Source { file: source.file, text: source.text })
        .collect();
    let statements = find(files::SCHEMA_FILE).and_then(|schema| statements::read(schema, &cedar, faults));
    let Some((segments, _names)) = declared else { return (None, false) };
    let development = segments.development;
    let bundle =
        statements.and_then(|statements| assemble(digest_of(&files), segments, routes, statements, faults));
    (bundle, development)
}

fn assemble(
    digest: String,
    segments: Segments,
    routes: Routes,
    statements: statements::Statements,
    faults: &mut Faults,
) -> Option<Bundle> {
    match decider(&segments, &routes, statements) {
        Ok(decider) => Some(Bundle { digest, segments, routes, decider }),
        Err(problem) => {
            faults.of_file(files::SCHEMA_FILE, problem, None);
            None
        }
    }
}

fn decider(
    segments: &Segments,
    routes: &Routes,
    statements: statements::Statements,
) -> Result<Decider, String> {
    let declared = Declarations {
        segments: &segments.segments,
        services: &segments.services,
        collections: &segments.collections,
        destinations: &segments.destinations,
        ingress: &routes.ingress,
        egress: &routes.egress,
    };
    Known::new(&declared, &statements.schema)
        .and_then(|known| Decider::new(known, statements))
        .map_err(|problem| problem.0)
}

/// Each file as length and bytes of its name, length and bytes of its text: no two bundles share the input.
fn digest_of(files: &[Source<'_>]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for source in files {
        for part in [source.file, source.text] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part.as_bytes());
        }
    }
    data_encoding::HEXLOWER.encode(context.finish().as_ref())
}
