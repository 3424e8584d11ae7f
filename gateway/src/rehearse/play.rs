//! Plays a case: the steps of `ingress.rs` and `egress.rs` up to where a request would be sent, and those after its answer.
//!
//! Must never take another way through a step than the one that serves. Tests: `rehearse/tests.rs`.

use super::case::{CardText, Case};
use super::message::{Message, masked};
use super::vault::{ENVIRONMENT, Vault};
use crate::answer::{self, Rules};
use crate::flow::{self, Intake, Preview};
use crate::leak::echo::Echoes;
use crate::leak::suspects::Verdict;
use crate::plan::{EgressPlan, Fields, IngressPlan, Plan};
use crate::problem::Fault;
use crate::upstream::{Answer, answer_limit};
use crate::{egress, head, ingress};
use bytes::Bytes;
use cordon_policy::{AnswerOp, Bundle, Day, Forward, Send, Service};
use cordon_wire::{Played, REQUEST_ID};
use http::header::ACCEPT_ENCODING;
use http::{HeaderName, Method, Request, Response, request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A request that would be sent now.
struct Ready<'p> {
    way: Way<'p>,
    preview: Preview,
    echoes: Echoes,
}

/// The route it took.
#[derive(Clone, Copy)]
enum Way<'p> {
    In(&'p IngressPlan),
    Out(&'p EgressPlan),
}

impl<'p> Way<'p> {
    fn name(self) -> &'p str {
        match self {
            Self::In(way) => &way.route.name,
            Self::Out(way) => &way.route.name,
        }
    }

    fn answer(self, today: Day, echoes: &'p Echoes) -> (&'p Fields<AnswerOp>, Rules<'p>, u64) {
        match self {
            Self::In(way) => (&way.answer, ingress::rules(way, today, echoes), way.route.max_body),
            Self::Out(way) => (&way.answer, egress::rules(way, today, echoes), way.route.max_body),
        }
    }
}

/// Who asks, on which day.
struct Scene<'c> {
    plan: &'c Plan,
    service: Option<&'c Service>,
    source: IpAddr,
    today: Day,
}

/// Plays one case.
pub(super) async fn play(plan: &Plan, file: &str, case: &Case) -> Played {
    let mut played =
        Played { file: file.to_owned(), name: case.name.clone(), passed_by: None, differences: Vec::new() };
    match scene(plan, case).and_then(|scene| Ok((scene, Vault::with(&case.cards)?))) {
        Err(wrong) => played.differences.push(masked(&wrong)),
        Ok((scene, mut vault)) => act(&scene, case, &mut vault, &mut played).await,
    }
    played
}

fn scene<'c>(plan: &'c Plan, case: &Case) -> Result<Scene<'c>, String> {
    let today = case.today.as_deref().map_or(Some(Day::today()), Day::parse);
    let today = today.ok_or("`today` is no day: write it like 2027-03-31")?;
    let service = match &case.service {
        None => None,
        Some(name) => Some(plan.bundle.service(name).ok_or_else(|| format!("no service is called {name}"))?),
    };
    let first = || service.and_then(|service| first_address(&plan.bundle, service)).unwrap_or(NOBODY);
    Ok(Scene { plan, service, source: case.address.unwrap_or_else(first), today })
}

fn first_address(bundle: &Bundle, service: &Service) -> Option<IpAddr> {
    let range = bundle.segment(&service.segment)?.cidrs.first()?;
    range.hosts().next()
}

async fn act(scene: &Scene<'_>, case: &Case, vault: &mut Vault, played: &mut Played) {
    let request = Message::read(&vault.named(&case.request)).to_request();
    let kept = tokio::sync::Mutex::new(vault);
    let outcome = over_http(request, async |parts: &request::Parts, incoming: &mut Incoming| {
        // One request at a time: nobody else holds it.
        let mut vault = kept.lock().await;
        match scene.service {
            None => pass_in(scene, &mut vault, parts, incoming).await,
            Some(service) => pass_out(scene, service, &vault, parts, incoming).await,
        }
    })
    .await;
    let vault = kept.into_inner();
    let ready = match outcome {
        Some(Ok(ready)) => ready,
        Some(Err(fault)) => return refused(case.refused.as_deref(), fault.code().as_str(), played),
        // hyper took it for no request at all.
        None => return refused(case.refused.as_deref(), "malformed", played),
    };
    let Ready { way, preview, echoes } = &ready;
    played.passed_by = Some(way.name().to_owned());
    let start = format!("{} {}", preview.method(), preview.target());
    let mut headers = preview.headers().clone();
    // Ours, and the same on every request.
    headers.remove(ACCEPT_ENCODING);
    let got = Message::of(start, &headers, preview.body());
    let Some(sends) = &case.sends else {
        let code = case.refused.as_deref().unwrap_or_default();
        played.differences.push(format!("expected a refusal with {code}, but route {} takes it", way.name()));
        return;
    };
    compare(sends, got, vault, played);
    if let Some(keeps) = case.keeps.as_ref().filter(|keeps| **keeps != vault.given) {
        let (expected, got) = (kept_in_words(keeps), kept_in_words(&vault.given));
        played.differences.push(format!("expected the vault to be given {expected}; it was given {got}"));
    }
    if let Some(text) = &case.answer {
        let Some(answer) = Message::read(&vault.named(text)).to_answer() else {
            played.differences.push("`answer` begins with a status, then headers".to_owned());
            return;
        };
        match give(*way, scene.today, answer, (echoes, preview.method()), vault).await {
            Ok(got) => match &case.gives {
                Some(gives) => compare(gives, got, vault, played),
                None => {
                    played.differences.push("expected the answer to be withheld, but it is given".to_owned())
                }
            },
            Err(fault) => refused(case.withheld.as_deref(), fault.code().as_str(), played),
        }
    }
}

/// Compares with tokens by their names, which also tells of one that is not the expected card's.
fn compare(expected: &str, got: Message, vault: &Vault, played: &mut Played) {
    let Message { start, headers, body } = got;
    let got = Message {
        start: vault.unnamed(&start),
        headers: headers.iter().map(|line| vault.unnamed(line)).collect(),
        body: match String::from_utf8(body) {
            Ok(text) => vault.unnamed(&text).into_bytes(),
            Err(no_text) => no_text.into_bytes(),
        },
    };
    played.differences.extend(Message::read(expected).differences(&got));
}

fn kept_in_words(cards: &[CardText]) -> String {
    let word = |CardText { number, expiry, code }: &CardText| {
        let expiry = expiry.as_deref().unwrap_or("no expiry");
        format!("{} with {expiry} and {} code", masked(number), if code.is_some() { "a" } else { "no" })
    };
    if cards.is_empty() {
        "nothing".to_owned()
    } else {
        cards.iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

fn refused(expected: Option<&str>, code: &str, played: &mut Played) {
    if expected != Some(code) {
        let expected = expected.map_or_else(|| "it to pass".to_owned(), |code| format!("`{code}`"));
        played.differences.push(format!("expected {expected}, got the refusal `{code}`"));
    }
}

/// Gives the request to a server as a client does, and what is made of it back. `None` if it is no request.
async fn over_http<T>(
    request: Vec<u8>,
    play: impl AsyncFn(&request::Parts, &mut Incoming) -> T,
) -> Option<T> {
    let (near, far) = duplex(64 * 1024);
    let result = Mutex::new(None);
    let service = service_fn(async |request: Request<Incoming>| {
        let (parts, mut incoming) = request.into_parts();
        let played = play(&parts, &mut incoming).await;
        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(played);
        let mut response = Response::new(Empty::<Bytes>::new());
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        Ok::<_, Infallible>(response)
    });
    let server = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(far), service);
    let client = async {
        let (mut reader, mut writer) = tokio::io::split(near);
        let mut answer = Vec::new();
        let write = async {
            let written = writer.write_all(&request).await;
            // The end of what is sent: a body that is shorter than it says breaks off.
            written.is_ok() && writer.shutdown().await.is_ok()
        };
        tokio::join!(write, reader.read_to_end(&mut answer))
    };
    let _either_may_break = tokio::join!(server, client);
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

async fn pass_in<'p>(
    scene: &Scene<'p>,
    vault: &mut Vault,
    parts: &request::Parts,
    incoming: &mut Incoming,
) -> Result<Ready<'p>, Fault> {
    let (way, _host) = ingress::find(scene.plan, parts)?;
    let route = &way.route;
    let intake = Intake { content: &route.content, max_body: route.max_body };
    let inbound = flow::receive(parts, head::of_ingress(&parts.headers), incoming, intake).await?;
    let parsed = flow::parse_ingress(inbound, &way.fields, ingress::watch(way, scene.today))?;
    let ask = ingress::ask(scene.plan, way, scene.source);
    let mut permitted = parsed.permit::<Forward>(&scene.plan.bundle, &ask)?;
    let verdict = permitted.take_suspects().judged(None);
    let tokens = match permitted.fields().request() {
        Some(request) => permitted.fields().tokens(vault.tokenize(request))?,
        None => Vec::new(),
    };
    let preview = flow::scan(permitted.rewrite(&tokens)?, verdict)?.into_preview();
    Ok(Ready { way: Way::In(way), preview, echoes: Echoes::default() })
}

async fn pass_out<'p>(
    scene: &Scene<'p>,
    service: &'p Service,
    vault: &Vault,
    parts: &request::Parts,
    incoming: &mut Incoming,
) -> Result<Ready<'p>, Fault> {
    let found = egress::find(scene.plan, Some(service), parts, None);
    let (way, service) = found.map_err(|(_way, fault)| fault)?;
    let route = &way.route;
    if !service.destinations.contains(&route.destination) {
        return Err(Fault::DestinationNotAllowed);
    }
    let intake = Intake { content: &route.content, max_body: route.max_body };
    let headers = egress::with_declared(head::of_egress(&parts.headers), &parts.headers, way);
    let inbound = flow::receive(parts, headers, incoming, intake).await?;
    let sight = (route.look_inside, scene.today);
    let parsed = flow::parse_egress(inbound, &way.fields, ENVIRONMENT, sight)?;
    let permitted = parsed.permit::<Send>(&scene.plan.bundle, &egress::ask((way, service), scene.source))?;
    let cards = match permitted.fields().items() {
        Some(items) => permitted.fields().cards(vault.detokenize(&items))?,
        None => Vec::new(),
    };
    let (rewritten, echoes) = permitted.rewrite(cards)?;
    let preview = flow::scan(rewritten, Verdict::AllCount)?.into_preview();
    Ok(Ready { way: Way::Out(way), preview, echoes })
}

/// What the caller gets of an answer.
async fn give(
    way: Way<'_>,
    today: Day,
    answer: Answer,
    (echoes, method): (&Echoes, &str),
    vault: &mut Vault,
) -> Result<Message, Fault> {
    let (fields, rules, max_body) = way.answer(today, echoes);
    let mut answer = answer::decode(answer, answer_limit(max_body))?;
    if let Some(cuts) = answer::cuts(&answer, fields, &rules)? {
        let tokens = cuts.request()?.map(|request| vault.tokenize(request));
        let _tokens = cuts.make(&mut answer, tokens)?;
    }
    let response = answer::screen(answer, &rules)?.respond(method == Method::HEAD.as_str(), "");
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(HeaderName::from_static(REQUEST_ID));
    let body = body.collect().await.map_err(|_never| Fault::Internal("internal.rehearsal"))?.to_bytes();
    Ok(Message::of(parts.status.as_u16().to_string(), &parts.headers, &body))
}

/// An address for documentation (RFC 5737).
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
