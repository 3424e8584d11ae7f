//! The way in: a public request, its cards turned into tokens, goes to the service of its route.
//!
//! Must never forward a byte when anything fails: each step below ends the request with its fault (threat B54).
//! Tests: the workspace's `tests` crate against the real binary; each step has its own.

use crate::abuse::{self, Attempt};
use crate::answer::{self, Rules};
use crate::flow::cards::Cards;
use crate::flow::{self, Intake, Permitted, Watch};
use crate::gateway::{Ending, Gateway};
use crate::head;
use crate::leak::echo::Echoes;
use crate::ledger::{Exchange, Way};
use crate::metrics::Plane;
use crate::outcome;
use crate::plan::{IngressPlan, Plan};
use crate::problem::Fault;
use crate::route::{self, CleanPath, Match};
use crate::trace::Trace;
use crate::upstream::{Upstreams, answer_limit};
use cordon_client::Tokenizer;
use cordon_daemon::Body;
use cordon_daemon::telemetry::RequestId;
use cordon_daemon::tls::Peer;
use cordon_policy::{Ask, Forward};
use cordon_wire::{REQUEST_ID, Tokenized};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use ring::rand::{SecureRandom, SystemRandom};
use std::net::IpAddr;
use std::sync::Arc;

/// The ingress of one worker, with connections of its own.
#[derive(Debug)]
pub struct Ingress {
    gateway: Arc<Gateway>,
    tokenizer: Tokenizer,
    upstreams: Upstreams,
    random: SystemRandom,
}

impl Ingress {
    /// An ingress that tokenizes through this client.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, tokenizer: Tokenizer) -> Self {
        Self { gateway, tokenizer, upstreams: Upstreams::default(), random: SystemRandom::new() }
    }

    /// Serves one request.
    pub async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let started = self.gateway.monotonic();
        let plan = self.gateway.plan();
        let source = peer.address.ip().to_canonical();
        let exchange = Exchange::new(RequestId::next().to_string(), plan.forwarder.clone(), source);
        let (parts, mut incoming) = request.into_parts();
        let (way, result) = match find(&plan, &parts) {
            Ok((route, host)) => {
                let added = self.added_headers(&parts.headers, &exchange, &host);
                (Way::In(route), self.pass(&exchange, &plan, route, &parts, &mut incoming, added).await)
            }
            Err(fault) => (Way::UnknownIn, Err(fault)),
        };
        let ending =
            Ending { plane: Plane::Ingress, exchange: &exchange, way, headers: &parts.headers, started };
        self.gateway.conclude(ending, &mut incoming, result).await
    }

    /// The life of a request, top to bottom.
    async fn pass(
        &self,
        exchange: &Exchange,
        plan: &Plan,
        way: &IngressPlan,
        parts: &request::Parts,
        incoming: &mut Incoming,
        added: HeaderMap,
    ) -> Result<Response<Body>, Fault> {
        let route = &way.route;
        let intake = Intake { content: &route.content, max_body: route.max_body };
        let inbound = flow::receive(parts, head::of_ingress(&parts.headers), incoming, intake).await?;
        let watch = Watch { on_leak: route.on_leak, inside: route.look_inside };
        let parsed = flow::parse_ingress(inbound, &way.fields, watch)?;
        let permitted = parsed.permit::<Forward>(&plan.bundle, &ask(plan, way, exchange.source))?;
        let mut attempt =
            abuse::admit(&self.gateway, exchange, way, &parts.headers, permitted.fields()).await?;
        let passed = self.forward(exchange, way, permitted, (&parts.method, added), &mut attempt).await;
        // Where no answer said so before, nobody knows what became of it.
        attempt.settle(None);
        passed
    }

    /// What an attempt that no rule stops leads to.
    async fn forward(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        permitted: Permitted<Cards, Forward>,
        (method, added): (&Method, HeaderMap),
        attempt: &mut Attempt,
    ) -> Result<Response<Body>, Fault> {
        let route = &way.route;
        let tokens = self.tokenize(&permitted, way).await?;
        let iins = permitted.fields().issuers();
        let scanned = flow::scan(permitted.rewrite(&tokens)?)?;
        if scanned.masked() {
            self.note_found(exchange, way, ("body", "masked"), "masked.body").await?;
        }
        if scanned.reports() {
            self.note_found(exchange, way, ("inside", "reported"), "reported.inside").await?;
        }
        let receipt = self.gateway.ledger.forwards(exchange, way, scanned.permit(), &tokens).await?;
        let outbound = scanned.release(receipt, added);
        let limit = answer_limit(route.max_body);
        let answer = self.upstreams.send(&way.target, outbound, limit, route.timeout).await?;
        let mut answer = answer::decode(answer, limit)?;
        attempt.settle(outcome::note(&self.gateway, exchange, Way::In(way), &answer, &iins));
        if let Some(cuts) = answer::cuts(&answer, &way.answer, &way.answer_types)? {
            let _no_tokens = cuts.make(&mut answer, None)?;
        }
        let rules = Rules {
            on_leak: route.on_leak,
            inside: route.look_inside,
            echoes: &Echoes::default(),
            from_outside: false,
            declared: &way.answer_types,
        };
        let screened = answer::screen(answer, &rules)?;
        if screened.masked() {
            self.note_found(exchange, way, ("answer", "masked"), "masked.answer").await?;
        }
        if screened.reports() {
            self.note_found(exchange, way, ("inside", "reported"), "reported.answer").await?;
        }
        Ok(screened.respond(*method == Method::HEAD, &exchange.id))
    }

    /// One call to the vault for all cards of the request, or none.
    async fn tokenize(
        &self,
        permitted: &Permitted<Cards, Forward>,
        way: &IngressPlan,
    ) -> Result<Vec<Tokenized>, Fault> {
        let cards = permitted.fields();
        let Some(request) = cards.request() else { return Ok(Vec::new()) };
        let started = self.gateway.monotonic();
        let answer = self.tokenizer.tokenize(&way.route.collection, request).await;
        self.gateway.metrics.called_vault(Plane::Ingress, self.gateway.monotonic().saturating_sub(started));
        cards.tokens(answer.map_err(|error| Fault::of_vault(&error))?)
    }

    /// Records a card number that did not stop the request.
    async fn note_found(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        (place, outcome): (&'static str, &'static str),
        reason: &'static str,
    ) -> Result<(), Fault> {
        self.gateway.metrics.leaked(Plane::Ingress, place, outcome);
        let _recorded = self.gateway.ledger.finds(exchange, Way::In(way), reason).await?;
        Ok(())
    }

    /// What the service is told by us: the request's id, its trace, and who asked for which host.
    fn added_headers(&self, received: &HeaderMap, exchange: &Exchange, host: &str) -> HeaderMap {
        let mut random = [0; 24];
        if self.random.fill(&mut random).is_err() {
            tracing::warn!("no randomness for a trace id");
        }
        let trace = Trace::of(received, random).to_string();
        let lines = [
            (HeaderName::from_static(REQUEST_ID), exchange.id.clone()),
            (HeaderName::from_static("traceparent"), trace),
            (HeaderName::from_static("x-forwarded-for"), exchange.source.to_string()),
            (HeaderName::from_static("x-forwarded-host"), host.to_owned()),
            (HeaderName::from_static("x-forwarded-proto"), "https".to_owned()),
        ];
        lines
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
            .collect()
    }
}

/// The route of a request, and the host it was for.
fn find<'p>(plan: &'p Plan, parts: &request::Parts) -> Result<(&'p IngressPlan, String), Fault> {
    head::admit(parts)?;
    let host = route::host(parts)?;
    let path = CleanPath::parse(parts.uri.path()).map_err(|_ambiguous| Fault::UnknownRoute)?;
    match route::find(plan.ingress.iter(), Some(&host), &parts.method, &path) {
        Match::Route(way) => Ok((way, host)),
        Match::OtherMethods(methods) => {
            Err(Fault::MethodNotAllowed(methods.into_iter().map(str::to_owned).collect()))
        }
        Match::Nothing => Err(Fault::UnknownRoute),
    }
}

fn ask<'a>(plan: &'a Plan, way: &'a IngressPlan, source: IpAddr) -> Ask<'a> {
    Ask {
        route: Some(&way.route.name),
        acting_for: Some(&way.route.service),
        ..Ask::new(plan.forwarder.as_str(), false, source)
    }
}
