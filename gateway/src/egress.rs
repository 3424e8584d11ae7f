//! The way out: a service's request, its tokens turned into cards, goes to the destination of its route.
//!
//! Must never give the caller a card number: it goes to the destination's connection alone, and the answer is searched
//! for it (threat B4, B26). Tests: the workspace's `tests` crate against the real binary; each step has its own.

use crate::admission::Client;
use crate::answer::{self, Rules, Screened};
use crate::flow::tokens::Tokens;
use crate::flow::{self, Inbound, Intake, Permitted};
use crate::gateway::{Ending, Gateway};
use crate::head;
use crate::idempotency::{self, Claim, Claimed, Fingerprint, Hold, REPLAYED};
use crate::leak::echo::Echoes;
use crate::leak::finding::Finding;
use crate::leak::suspects::Verdict;
use crate::ledger::{Exchange, Way};
use crate::metrics::Plane;
use crate::outcome;
use crate::plan::{EgressPlan, Plan};
use crate::preview;
use crate::problem::Fault;
use crate::proxy;
use crate::route::{self, CleanPath, Match};
use crate::trace::Trace;
use crate::upstream::{Answer, Upstreams, answer_limit, was_not_sent};
use cordon_audit::Name;
use cordon_card::{Iin, Token};
use cordon_client::{Revealer, Tokenizer};
use cordon_daemon::Body;
use cordon_daemon::scrub::Scrubbed;
use cordon_daemon::telemetry::RequestId;
use cordon_daemon::tls::{Peer, Via};
use cordon_policy::{Ask, Day, Send, Service};
use cordon_wire::{DetokenizeRequest, Revealed, SettleRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, request};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The egress of one worker, with connections of its own.
#[derive(Debug)]
pub struct Egress {
    gateway: Arc<Gateway>,
    revealer: Revealer,
    tokenizer: Tokenizer,
    upstreams: Upstreams,
}

impl Egress {
    /// An egress that reveals through one client, and makes tokens of answers through the other.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, revealer: Revealer, tokenizer: Tokenizer) -> Self {
        let upstreams = Upstreams::new(gateway.metrics.repeated.clone());
        Self { gateway, revealer, tokenizer, upstreams }
    }

    /// Serves one request. It is carried to its end even if the caller hangs up: what was sent has an outcome that is
    /// recorded, settled and, under an idempotency key, kept.
    pub async fn handle(self: &Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Body> {
        let egress = Arc::clone(self);
        let whole = Box::pin(async move { egress.serve(request, &peer).await });
        let ended = tokio::spawn(Scrubbed::new(whole)).await;
        ended.unwrap_or_else(|_panicked| {
            Fault::Internal("internal.panic").response(&RequestId::next().to_string())
        })
    }

    async fn serve(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let started = self.gateway.monotonic();
        let plan = self.gateway.plan();
        let service = peer.uri.as_deref().and_then(|uri| plan.bundle.service_by_uri(uri));
        let who = service.map_or_else(|| peer.uri.as_deref().unwrap_or("unknown"), |service| &service.name);
        let who = Name::parse_or_withhold(who);
        let (parts, mut incoming) = request.into_parts();
        let (id, trace) = (RequestId::next().to_string(), Trace::begin(&parts.headers));
        let exchange = Exchange::new(id, who, peer.address.ip().to_canonical(), trace);
        let (way, result) = match find(&plan, service, &parts, peer.via.as_deref()) {
            Ok((way, service)) => {
                (Way::Out(way), self.pass(&exchange, &plan, (way, service), &parts, &mut incoming).await)
            }
            Err((way, fault)) => (way, Err(fault)),
        };
        let ending =
            Ending { plane: Plane::Egress, exchange: &exchange, way, headers: &parts.headers, started };
        self.gateway.conclude(ending, &mut incoming, result).await
    }

    /// The life of a request, top to bottom.
    async fn pass(
        &self,
        exchange: &Exchange,
        plan: &Plan,
        (way, service): (&EgressPlan, &Service),
        parts: &request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Response<Body>, Fault> {
        let route = &way.route;
        if !service.destinations.contains(&route.destination) {
            return Err(Fault::DestinationNotAllowed);
        }
        let _place = self.gateway.admission.enter(Client::service(&service.name))?;
        let intake = Intake { content: &route.content, max_body: route.max_body };
        let dry_run = preview::wanted(&parts.headers, way, service)?;
        let key = idempotency::key_of(&parts.headers)?;
        let headers = with_declared(head::of_egress(&parts.headers), &parts.headers, way);
        way.signer.admit(&headers)?;
        let inbound = flow::receive(parts, headers, incoming, intake).await?;
        let key = key.map(|key| (key, self.fingerprint(&inbound, &parts.headers, way)));
        let sight = (route.look_inside, self.gateway.today());
        let parsed = flow::parse_egress(inbound, &way.fields, self.gateway.environment, sight)?;
        let permitted = parsed.permit::<Send>(&plan.bundle, &ask((way, service), exchange.source))?;
        if dry_run {
            let tokens = permitted.fields().tokens().to_vec();
            let preview = permitted.preview()?;
            let _recorded = self.gateway.ledger.previews(exchange, way, &tokens).await?;
            return Ok(preview::respond(&preview, way, &exchange.id));
        }
        let (screened, replayed) = match key {
            None => (self.carry_out(exchange, (way, service), permitted, None).await?, false),
            Some((key, request)) => {
                let known_there = route.idempotent_destination;
                let claim = Claim { service: &service.name, route: &route.name, key, request, known_there };
                match self.gateway.outcomes.claim(&claim, self.gateway.monotonic())? {
                    Claimed::First(hold) => {
                        (self.carry_out(exchange, (way, service), permitted, Some(hold)).await?, false)
                    }
                    Claimed::Before(outcome) => {
                        let _recorded = self.gateway.ledger.replays(exchange, way).await?;
                        let screened = outcome?;
                        exchange.told.answered(screened.status().as_u16());
                        (screened, true)
                    }
                }
            }
        };
        self.gateway.note(Plane::Egress, exchange, Way::Out(way), screened.findings()).await?;
        let mut response = screened.respond(parts.method == Method::HEAD, &exchange.id);
        if replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    /// Of what is sent as it was received: the declared headers each by name, so that a value in one is not taken for the
    /// same value in another.
    fn fingerprint(&self, inbound: &Inbound, received: &HeaderMap, way: &EgressPlan) -> Fingerprint {
        let declared = way.fields.head.headers().flat_map(|name| {
            let values = received.get_all(name).iter();
            values.flat_map(move |value| [name.as_bytes(), value.as_bytes()])
        });
        let whole: Vec<&[u8]> = inbound.parts().into_iter().chain(declared).collect();
        self.gateway.outcomes.fingerprint(&whole)
    }

    /// From the reveal to the screened answer. `hold` is the claim on the request's idempotency key, if it has one.
    async fn carry_out(
        &self,
        exchange: &Exchange,
        (way, service): (&EgressPlan, &Service),
        permitted: Permitted<Tokens, Send>,
        mut hold: Option<Hold>,
    ) -> Result<Screened, Fault> {
        let route = &way.route;
        let tokens = permitted.fields().tokens().to_vec();
        let asking = self.gateway.admits(&way.target)?;
        let cards = self.reveal(exchange, &permitted, (way, service)).await?;
        let held = held_for(&tokens, &cards);
        let iins = outcome::issuers(cards.iter().map(|card| &card.pan));
        let (rewritten, echoes) = permitted.rewrite(cards)?;
        let scanned = flow::scan(rewritten, Verdict::AllCount)?;
        self.gateway.note(Plane::Egress, exchange, Way::Out(way), scanned.findings()).await?;
        let receipt = self.gateway.ledger.sends(exchange, way, scanned.permit(), &tokens).await?;
        let mut outbound = scanned.release(receipt, HeaderMap::new());
        way.signer.sign(&mut outbound, way.target.authority(), self.gateway.seconds())?;
        if let Some(hold) = &mut hold {
            hold.sends();
            if route.idempotent_destination {
                outbound.may_be_repeated();
            }
        }
        let (limit, told) = (answer_limit(route.max_body), &exchange.told);
        let answer = self.upstreams.send_noting(&way.target, outbound, limit, route.timeout, told).await;
        asking.learns(&answer);
        let answered = told.was_answered();
        if answered && !held.is_empty() {
            self.settle(exchange, way, service, held).await;
        }
        let unsent = answer.as_ref().is_err_and(was_not_sent);
        let outcome = match answer {
            Ok(answer) => self.screened(exchange, way, answer, (&echoes, &iins)).await,
            Err(fault) => Err(fault),
        };
        // What kept us from telling the answer passes, and was not the destination's answer.
        let ours = outcome.as_ref().is_err_and(|fault| matches!(fault, Fault::Vault(_) | Fault::Audit));
        match &mut hold {
            Some(hold) if answered && !ours => hold.answered(&outcome),
            Some(hold) if unsent => hold.was_not_sent(),
            Some(_) | None => {}
        }
        outcome
    }

    /// The answer, decoded, with tokens in its declared fields, and looked through.
    async fn screened(
        &self,
        exchange: &Exchange,
        way: &EgressPlan,
        answer: Answer,
        (echoes, iins): (&Echoes, &[Iin]),
    ) -> Result<Screened, Fault> {
        let route = &way.route;
        let mut answer = answer::decode(answer, answer_limit(route.max_body))?;
        let _decision = outcome::note(&self.gateway, exchange, Way::Out(way), &answer, iins);
        let rules = rules(way, self.gateway.today(), echoes);
        if let Some(cuts) = answer::cuts(&answer, &way.answer, &rules)? {
            let found = cuts.cut_loose().then_some(Finding::TOKENIZED_ANSWER);
            // By the identity that may only tokenize: the one that reveals may not.
            let ask = (&self.tokenizer, &route.collection);
            let tokens = self.gateway.tokenize(Plane::Egress, exchange, &cuts, ask).await?;
            let tokens = cuts.make(&mut answer, tokens)?;
            if !tokens.is_empty() {
                let _recorded = self.gateway.ledger.answers(exchange, Way::Out(way), &tokens).await?;
                self.gateway.note(Plane::Egress, exchange, Way::Out(way), found.as_slice()).await?;
            }
        }
        answer::screen(answer, &rules)
    }

    /// Tells the vault that the destination answered: approved or declined, no security code may be held for its cards
    /// any more (PCI DSS 3.3.1). Done before the caller has its answer, so that it can count on it; a vault that does not
    /// answer soon does not keep it waiting, and then the code's own time ends it.
    async fn settle(&self, exchange: &Exchange, way: &EgressPlan, service: &Service, tokens: Vec<Token>) {
        let request = SettleRequest {
            service: service.name.clone(),
            destination: way.route.destination.clone(),
            purpose: way.route.purpose.clone(),
            route: way.route.name.clone(),
            items: tokens.into_iter().map(Into::into).collect(),
        };
        let started = self.gateway.monotonic();
        let vault = self.revealer.for_request(&exchange.id, &exchange.trace);
        let settled = tokio::time::timeout(SETTLE_WITHIN, vault.settle(&way.route.collection, &request));
        let settled = settled.await;
        exchange.told.vault_took(self.gateway.monotonic().saturating_sub(started));
        let done = match settled {
            Ok(Ok(_items)) => true,
            Ok(Err(error)) => {
                tracing::warn!(request = exchange.id, %error, "security codes are not settled");
                false
            }
            Err(_late) => {
                tracing::warn!(
                    request = exchange.id,
                    "security codes are not settled: the vault is too slow"
                );
                false
            }
        };
        self.gateway.metrics.settled(done);
    }

    /// One call to the vault for all tokens of the request, or none.
    async fn reveal(
        &self,
        exchange: &Exchange,
        permitted: &Permitted<Tokens, Send>,
        (way, service): (&EgressPlan, &Service),
    ) -> Result<Vec<Revealed>, Fault> {
        let tokens = permitted.fields();
        let Some(items) = tokens.items() else { return Ok(Vec::new()) };
        let request = DetokenizeRequest {
            service: service.name.clone(),
            destination: way.route.destination.clone(),
            purpose: way.route.purpose.clone(),
            route: way.route.name.clone(),
            items,
        };
        let _turn = self.gateway.admission.turn().await?;
        let started = self.gateway.monotonic();
        let vault = self.revealer.for_request(&exchange.id, &exchange.trace);
        let answer = vault.detokenize(&way.route.collection, &request).await;
        self.gateway.called_vault(Plane::Egress, exchange, started);
        tokens.cards(answer.map_err(|error| Fault::of_vault(&error))?)
    }
}

/// What the policy is asked about a request. A service is known by its verified client certificate alone, so the connection
/// is authenticated.
pub(crate) fn ask<'a>((way, service): (&'a EgressPlan, &'a Service), source: IpAddr) -> Ask<'a> {
    Ask {
        route: Some(&way.route.name),
        destination: Some(&way.route.destination),
        ..Ask::new(&service.name, true, source)
    }
}

/// How a destination's answer is judged.
pub(crate) fn rules<'r>(way: &'r EgressPlan, today: Day, echoes: &'r Echoes) -> Rules<'r> {
    Rules {
        on_leak: way.route.on_leak.on(today),
        inside: way.route.look_inside,
        echoes,
        from_outside: true,
        declared: &way.answer_types,
        exceptions: &way.answer.exceptions,
        today,
    }
}

/// The headers that a destination gets, and besides those that the route passes or has fields in.
pub(crate) fn with_declared(mut kept: HeaderMap, received: &HeaderMap, way: &EgressPlan) -> HeaderMap {
    let passed = way.route.pass_headers.iter().map(String::as_str);
    for name in way.fields.head.headers().chain(passed) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        kept.remove(&name);
        for value in received.get_all(&name) {
            kept.append(&name, value.clone());
        }
    }
    kept
}

/// The tokens whose security codes the vault still holds.
fn held_for(tokens: &[Token], cards: &[Revealed]) -> Vec<Token> {
    tokens.iter().zip(cards).filter(|(_, card)| card.code_held).map(|(token, _)| token.clone()).collect()
}

/// The route of a request among those that its service may use, and the service; else as far as it is known, and why
/// not.
pub(crate) fn find<'p>(
    plan: &'p Plan,
    service: Option<&'p Service>,
    parts: &request::Parts,
    via: Option<&Via>,
) -> Result<(&'p EgressPlan, &'p Service), (Way<'p>, Fault)> {
    let unknown = |fault| (Way::UnknownOut, fault);
    let service = service.ok_or_else(|| unknown(Fault::Unauthenticated))?;
    head::admit(parts).map_err(unknown)?;
    // Where it goes is the route's to say, and nobody may think otherwise: no URL as to a proxy, no two hosts.
    if parts.version < Version::HTTP_2 && parts.uri.scheme().is_some() {
        return Err(unknown(Fault::Malformed("target")));
    }
    let host = route::host(parts).map_err(|ambiguous| unknown(ambiguous.into()))?;
    if via.is_some_and(|via| via.host != host) {
        return Err(unknown(Fault::Malformed("host")));
    }
    // Through a proxy one reaches the host that one named, and no other.
    let there = |way: &&EgressPlan| via.is_none_or(|via| proxy::is_at(plan, &way.route.destination, via));
    let path = CleanPath::parse(parts.uri.path()).map_err(|_ambiguous| unknown(Fault::UnknownRoute))?;
    let own = plan.egress.iter().filter(there).filter(|way| way.route.services.contains(&service.name));
    match route::find(own, None, &parts.method, &path) {
        Match::Route(way) => Ok((way, service)),
        Match::OtherMethods(methods) => {
            Err(unknown(Fault::MethodNotAllowed(methods.into_iter().map(str::to_owned).collect())))
        }
        Match::Nothing => match route::find(plan.egress.iter().filter(there), None, &parts.method, &path) {
            Match::Route(way) => Err((Way::Out(way), not_for(service, &way.route.destination))),
            Match::OtherMethods(_) => Err(unknown(Fault::NotYours)),
            Match::Nothing => Err(unknown(Fault::UnknownRoute)),
        },
    }
}

/// Why a service may not use a route of others. One that sends cards out at all is told when it is the destination.
fn not_for(service: &Service, destination: &String) -> Fault {
    if service.destinations.is_empty() || service.destinations.contains(destination) {
        Fault::NotYours
    } else {
        Fault::DestinationNotAllowed
    }
}

/// Time for the vault to settle, while the caller waits.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);
