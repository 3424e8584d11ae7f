//! The way in: a public request, its cards turned into tokens, goes to the service of its route.
//!
//! Must never forward a byte when anything fails: each step below ends the request with its fault (threat B54).
//! Tests: the workspace's `tests` crate against the real binary; each step has its own.

mod long;

use crate::abuse::{self, Attempt};
use crate::admission::Client;
use crate::answer::{self, Rules};
use crate::flow::cards::Cards;
use crate::flow::long::Received;
use crate::flow::{self, Intake, Outbound, Permitted, Scanned, Watch};
use crate::gateway::{Asking, Ending, Gateway};
use crate::head;
use crate::leak::echo::Echoes;
use crate::leak::finding::Finding;
use crate::leak::suspects::{Suspects, Verdict};
use crate::ledger::{Exchange, Way};
use crate::metrics::Plane;
use crate::outcome;
use crate::plan::{IngressPlan, Plan};
use crate::problem::Fault;
use crate::route::{self, CleanPath, Match};
use crate::stream::cutter::Bounds;
use crate::trace::Trace;
use crate::upstream::{Answer, Upstreams, answer_limit};
use cordon_card::Iin;
use cordon_client::Tokenizer;
use cordon_daemon::Body;
use cordon_daemon::telemetry::RequestId;
use cordon_daemon::tls::Peer;
use cordon_policy::{Ask, Day, Forward, IngressOp, OnLeak};
use cordon_wire::{REQUEST_ID, Tokenized};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The ingress of one worker, with connections of its own.
#[derive(Debug)]
pub struct Ingress {
    gateway: Arc<Gateway>,
    tokenizer: Tokenizer,
    upstreams: Upstreams,
}

impl Ingress {
    /// An ingress that tokenizes through this client.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, tokenizer: Tokenizer) -> Self {
        let upstreams = Upstreams::new(gateway.metrics.repeated.clone());
        Self { gateway, tokenizer, upstreams }
    }

    /// Serves one request.
    pub async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let started = self.gateway.monotonic();
        let plan = self.gateway.plan();
        let source = peer.address.ip().to_canonical();
        let (parts, mut incoming) = request.into_parts();
        let (id, trace) = (RequestId::next().to_string(), Trace::begin(&parts.headers));
        let exchange = Exchange::new(id, plan.forwarder.clone(), source, trace);
        let (way, result) = match find(&plan, &parts) {
            Ok((route, host)) => {
                let added = added_headers(&exchange, &host);
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
        let _place = self.gateway.admission.enter(Client::outside(exchange.source))?;
        let intake = Intake { content: &route.content, max_body: route.max_body };
        let headers = head::of_ingress(&parts.headers);
        let inbound = if route.stream {
            match flow::long::receive_long(parts, headers, incoming, (intake, pieces(way))).await? {
                Received::Whole(inbound) => inbound,
                Received::Long(long) => return self.pass_long((exchange, plan, way), long, added).await,
            }
        } else {
            flow::receive(parts, headers, incoming, intake).await?
        };
        let parsed = flow::parse_ingress(inbound, &way.fields, self.watch(way))?;
        let permitted = parsed.permit::<Forward>(&plan.bundle, &ask(plan, way, exchange.source))?;
        let mut attempt =
            abuse::admit(&self.gateway, exchange, way, &parts.headers, permitted.fields()).await?;
        let passed = self.forward(exchange, way, permitted, (&parts.method, added), &mut attempt).await;
        // Where no answer said so before, nobody knows what became of it.
        attempt.settle(None);
        passed
    }

    fn watch(&self, way: &IngressPlan) -> Watch {
        watch(way, self.gateway.today())
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
        let asking = self.gateway.admits(&way.target)?;
        let ready = self.rewrite(exchange, way, permitted).await?;
        let Ready { scanned, tokens, iins, suspected } = ready;
        let receipt = self.gateway.ledger.forwards(exchange, way, scanned.permit(), &tokens).await?;
        let outbound = scanned.release(receipt, added);
        let answer = self.send(exchange, way, (asking, outbound), way.route.timeout).await?;
        attempt.settle(outcome::note(&self.gateway, exchange, Way::In(way), &answer, &iins));
        self.answer(exchange, way, answer, (method, suspected)).await
    }

    /// Asks the vault, and makes of a request what may go on.
    async fn rewrite(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        mut permitted: Permitted<Cards, Forward>,
    ) -> Result<Ready, Fault> {
        let suspects = permitted.take_suspects();
        let suspected = !suspects.is_empty();
        let verdict = self.recognize(exchange, suspects, way).await;
        let tokens = self.tokenize(exchange, &permitted, way).await?;
        let iins = permitted.fields().issuers();
        let scanned = flow::scan(permitted.rewrite(&tokens)?, verdict)?;
        self.gateway.note(Plane::Ingress, exchange, Way::In(way), scanned.findings()).await?;
        Ok(Ready { scanned, tokens, iins, suspected })
    }

    /// Sends it, and reads the answer.
    async fn send(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        (asking, outbound): (Asking<'_>, Outbound),
        within: Duration,
    ) -> Result<Answer, Fault> {
        let limit = limit(way);
        let answer = self.upstreams.send_noting(&way.target, outbound, limit, within, &exchange.told).await;
        asking.learns(&answer);
        answer::decode(answer?, limit)
    }

    /// Makes of a service's answer what its client may have.
    async fn answer(
        &self,
        exchange: &Exchange,
        way: &IngressPlan,
        mut answer: Answer,
        (method, suspected): (&Method, bool),
    ) -> Result<Response<Body>, Fault> {
        let route = &way.route;
        let echoes = Echoes::default();
        let rules = rules(way, self.gateway.today(), &echoes);
        if let Some(cuts) = answer::cuts(&answer, &way.answer, &rules)? {
            let ask = (&self.tokenizer, &route.collection);
            let tokens = self.gateway.tokenize(Plane::Ingress, exchange, &cuts, ask).await?;
            let tokens = cuts.make(&mut answer, tokens)?;
            if !tokens.is_empty() {
                let _recorded = self.gateway.ledger.answers(exchange, Way::In(way), &tokens).await?;
            }
        }
        let screened = answer::screen(answer, &rules)?;
        self.gateway.note(Plane::Ingress, exchange, Way::In(way), screened.findings()).await?;
        if suspected && !screened.findings().contains(&Finding::MASKED_ANSWER) {
            // A known number was masked before and comes back without a finding: that must not be quicker.
            self.gateway.note(Plane::Ingress, exchange, Way::In(way), &[Finding::CLEAN_ANSWER]).await?;
        }
        Ok(screened.respond(*method == Method::HEAD, &exchange.id))
    }

    /// Which numbers outside the fields count. A request that has some costs one call, whatever comes of it; where the
    /// vault may not or cannot be asked, all of them count.
    async fn recognize(&self, exchange: &Exchange, suspects: Suspects, way: &IngressPlan) -> Verdict {
        let question = suspects.question().filter(|question| {
            let now = self.gateway.monotonic();
            self.gateway.budget.spend(exchange.source, question.items.len(), now)
        });
        let Some(question) = question else { return suspects.judged(None) };
        let Ok(_turn) = self.gateway.admission.turn().await else { return suspects.judged(None) };
        let started = self.gateway.monotonic();
        let vault = self.tokenizer.for_request(&exchange.id, &exchange.trace);
        let answer = vault.recognize(&way.route.collection, &question).await;
        self.gateway.called_vault(Plane::Ingress, exchange, started);
        if let Err(error) = &answer {
            tracing::warn!(request = exchange.id, %error, "the vault does not say which numbers it knows");
        }
        suspects.judged(answer.ok())
    }

    /// One call to the vault for all cards of the request, or none.
    async fn tokenize(
        &self,
        exchange: &Exchange,
        permitted: &Permitted<Cards, Forward>,
        way: &IngressPlan,
    ) -> Result<Vec<Tokenized>, Fault> {
        let cards = permitted.fields();
        let Some(request) = cards.request() else { return Ok(Vec::new()) };
        let _turn = self.gateway.admission.turn().await?;
        let started = self.gateway.monotonic();
        let vault = self.tokenizer.for_request(&exchange.id, &exchange.trace);
        let answer = vault.tokenize(&way.route.collection, request).await;
        self.gateway.called_vault(Plane::Ingress, exchange, started);
        cards.tokens(answer.map_err(|error| Fault::of_vault(&error))?)
    }
}

/// What the service is told by us: the request's id, its trace, and who asked for which host.
fn added_headers(exchange: &Exchange, host: &str) -> HeaderMap {
    let lines = [
        (HeaderName::from_static(REQUEST_ID), exchange.id.clone()),
        (HeaderName::from_static("traceparent"), exchange.trace.clone()),
        (HeaderName::from_static("x-forwarded-for"), exchange.source.to_string()),
        (HeaderName::from_static("x-forwarded-host"), host.to_owned()),
        (HeaderName::from_static("x-forwarded-proto"), "https".to_owned()),
    ];
    lines.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}

/// What a route does on a day with a card number outside its fields.
pub(crate) fn watch(way: &IngressPlan, today: Day) -> Watch {
    let route = &way.route;
    Watch { on_leak: route.on_leak.on(today), inside: route.look_inside, check: route.leak_check, today }
}

/// How a service's answer is judged.
pub(crate) fn rules<'r>(way: &'r IngressPlan, today: Day, echoes: &'r Echoes) -> Rules<'r> {
    let Watch { on_leak, inside, .. } = watch(way, today);
    Rules {
        // A client outside gets no token for a number that its service should not have: no answer tells which is known.
        on_leak: if on_leak == OnLeak::Tokenize { OnLeak::Mask } else { on_leak },
        inside,
        echoes,
        from_outside: false,
        declared: &way.answer_types,
        exceptions: &way.answer.exceptions,
        today,
    }
}

/// A request that may go on once it is recorded.
struct Ready {
    scanned: Scanned<Forward>,
    tokens: Vec<Tokenized>,
    iins: Vec<Iin>,
    suspected: bool,
}

/// How the route's bodies are cut.
fn pieces(way: &IngressPlan) -> Bounds {
    Bounds::with_cards(way.route.fields.iter().filter(|field| field.op == IngressOp::Tokenize).count())
}

/// Bytes of answer that are read.
fn limit(way: &IngressPlan) -> usize {
    // What a streamed route takes in says nothing about what it gives back.
    answer_limit(if way.route.stream { 0 } else { way.route.max_body })
}

/// The route of a request, and the host it was for.
pub(crate) fn find<'p>(plan: &'p Plan, parts: &request::Parts) -> Result<(&'p IngressPlan, String), Fault> {
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

/// What the policy is asked about it.
pub(crate) fn ask<'a>(plan: &'a Plan, way: &'a IngressPlan, source: IpAddr) -> Ask<'a> {
    Ask {
        route: Some(&way.route.name),
        acting_for: Some(&way.route.service),
        ..Ask::new(plan.forwarder.as_str(), false, source)
    }
}
