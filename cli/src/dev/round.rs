//! The round: two sign-ups, a charge, a renewal, two attempts that must fail, and what each hop saw.
//!
//! Must never print: it gives an account. Tests: `round/tests.rs`, with hops that leak; with the real
//! ones in the workspace's `tests` crate.

use super::bodies::{Call, Change, Form, TEST_CARD, TEST_CODE, TEST_EXPIRY, changes};
use super::site::{Answer, Site};
use super::stack::{self, Up};
use super::traces::Traces;
use crate::exit::Failure;
use crate::sample::processor::{AllCharged, Charged};
use crate::sample::signup::{AllReceived, Received};
use cordon_card::{Pan, Token, Truncation};
use cordon_client::Tokenizer;
use cordon_wire::{InspectRequest, Inspected, ItemResult, Submitted};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the round found.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) hops: Vec<Hop>,
    pub(super) checks: Vec<Check>,
    /// The token that stands for the card, if the round got that far.
    pub(super) token: Option<Token>,
}

/// What one party saw. Card numbers and codes are masked, except in what the sign-up service received: that is
/// shown as it came.
#[derive(Debug, Serialize)]
#[serde(tag = "hop", rename_all = "kebab-case")]
pub(super) enum Hop {
    /// The browser, in front of everything.
    Browser { form: Form, sent: String, status: u16, answered: String },
    /// The gateway on the way in: what differs between what came and what went on.
    GatewayIngress { form: Form, changed: BTreeMap<String, Change> },
    /// The sign-up service.
    Signup { form: Form, received: String, bytes: usize },
    /// The vault: what it says of the tokens it gave, and what a search of its files found.
    Vault {
        cards: usize,
        tokens: usize,
        masked: String,
        key_version: u32,
        files: u64,
        bytes: u64,
        clean: bool,
    },
    /// The sign-up service when it charges.
    Caller { call: Call, sent: String, status: u16, answered: String },
    /// The gateway on the way out, as the processor's proofs show it.
    GatewayEgress { call: Call, changed: BTreeMap<&'static str, Change> },
    /// The processor.
    Processor { call: Call, masked: String, same_card: bool, same_expiry: bool, same_code: bool },
    /// An attempt that must fail.
    Attempt { what: &'static str, status: u16, code: String, reached: bool },
}

/// One thing that must be so.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) passed: bool,
    /// What must be so.
    pub(super) claim: String,
    /// What was found instead, where there is more to say than that it is not so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<String>,
}

impl Round {
    /// Whether everything was as it must be.
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// Does the round. What keeps it from its end is one of its failed checks.
pub(super) async fn run(up: &Up) -> Result<Round, Failure> {
    Ok(Walk::new(up)?.round().await)
}

struct Walk<'u> {
    up: &'u Up,
    pan: Pan,
    traces: Traces,
    browser: Site,
    way_out: Site,
    signup: Site,
    processor: Site,
    hops: Vec<Hop>,
    checks: Vec<Check>,
}

impl<'u> Walk<'u> {
    fn new(up: &'u Up) -> Result<Self, Failure> {
        let pan = Pan::parse(TEST_CARD)
            .map_err(|_error| Failure::refused("test-card", "the test card is not one"))?;
        let traces = Traces::of(pan.expose());
        let site = |address, name, tls| Site { address, name, tls };
        let at = &up.addresses;
        Ok(Self {
            up,
            pan,
            traces,
            browser: site(at.ingress, "signup.cordon.test", Some(up.browser.clone())),
            way_out: site(at.egress, "gateway.cordon.test", Some(up.signup.clone())),
            signup: site(at.signup, "localhost", None),
            processor: site(at.processor, "processor.cordon.test", Some(up.browser.clone())),
            hops: Vec::new(),
            checks: Vec::new(),
        })
    }

    async fn round(mut self) -> Round {
        let mut token = None;
        let found = self.steps(&mut token).await.err().map(|failure| failure.message().to_owned());
        let claim = "the round goes to its end".to_owned();
        self.checks.push(Check { name: "round-completed", passed: found.is_none(), claim, found });
        Round { hops: self.hops, checks: self.checks, token }
    }

    async fn steps(&mut self, given: &mut Option<Token>) -> Result<(), Failure> {
        let token = self.sign_up(Form::Json).await?;
        let same = self.sign_up(Form::Form).await?;
        *given = Some(token.clone());
        self.vault([&token, &same]).await?;
        self.charge(Call::Charge, &token).await?;
        self.charge(Call::Renewal, &token).await?;
        self.misplaced_card().await?;
        self.stranger(&token).await?;
        self.disk()
    }

    fn check(&mut self, name: &'static str, passed: bool, claim: impl Into<String>) {
        self.checks.push(Check { name, passed, claim: claim.into(), found: None });
    }

    /// Nobody but the processor may see the card: `who` saw `bytes`.
    fn check_clean(&mut self, name: &'static str, who: &str, bytes: &[u8]) {
        let found = self.traces.find(bytes).map(|encoding| format!("it stood there as {encoding}"));
        let claim = format!("{who} saw no card number, searched in {} encodings", self.traces.encodings());
        self.checks.push(Check { name, passed: found.is_none(), claim, found });
    }

    async fn sign_up(&mut self, form: Form) -> Result<Token, Failure> {
        let body = form.sign_up("monthly");
        let answer = self.browser.post("/signup", form.media_type(), &body).await?;
        expect(&answer, 201, "the sign-up")?;
        let received = self.received().await?;
        let received = received.last().ok_or_else(|| unfit("nothing reached the sign-up service"))?;
        let arrived = received.bytes();
        let arrived_fields = form.fields(&arrived);
        let changed = changes(&form.fields(body.as_bytes()), &arrived_fields);
        let (number, code) = form.names();
        let held = changed.get(code) == Some(&Change::Held);
        let only_these = changed.keys().all(|name| name == number || name == code);
        let (sent, answered) = (self.masked(&body), self.masked(&answer.text()));
        self.hops.push(Hop::Browser { form, sent, status: answer.status, answered });
        self.hops.push(Hop::GatewayIngress { form, changed });
        let shown = String::from_utf8_lossy(&arrived).into_owned();
        self.hops.push(Hop::Signup { form, received: shown, bytes: arrived.len() });

        let token = arrived_fields.get(number).cloned().unwrap_or_default();
        self.check("signup-saw-a-token", Token::recognise(&token), "the sign-up service got a token");
        self.check("signup-saw-no-code", held, "the security code was taken out on the way in");
        self.check("nothing-else-changed", only_these, "no other field was changed on the way in");
        self.check_clean("signup-saw-no-card", "the sign-up service", &received.everything());
        self.check_clean("browser-saw-no-card", "the browser", &answer.everything());
        Token::parse(&token).map_err(|_error| unfit("the sign-up service got no token (not repeated here)"))
    }

    async fn vault(&mut self, tokens: [&Token; 2]) -> Result<(), Failure> {
        let endpoint = stack::operator(&self.up.directory.join("pki"), self.up.addresses.vault_data)?;
        let request = InspectRequest { items: tokens.into_iter().cloned().map(Submitted::Valid).collect() };
        let answer = Tokenizer::new(endpoint).inspect(&self.up.collection, &request).await?;
        let known: Vec<Inspected> = answer
            .items
            .into_iter()
            .map(|item| match item {
                ItemResult::Ok(card) => Ok(card),
                ItemResult::Error(_) => Err(unfit("the vault does not know a token it gave")),
            })
            .collect::<Result<_, _>>()?;
        let first = known.first().ok_or_else(|| unfit("the vault gave no answer"))?;
        let distinct: BTreeSet<&Token> = known.iter().map(|card| &card.token).collect();
        let cards: BTreeSet<_> = known.iter().map(|card| card.card_id).collect();
        let masked = first.masked.to_string();
        let right = first.masked.last_four() == self.pan.last_four();
        self.check("vault-knows-the-card", right, "the vault knows the card behind the token");
        let one = cards.len() == 1 && distinct.len() == 1;
        self.check("one-card-one-token", one, "two sign-ups with one card are one card under one token");

        let directory = self.up.directory.join("vault");
        let (searched, trace) =
            self.traces.find_below(&directory).map_err(|error| Failure::file(&directory, &error))?;
        let clean = trace.is_none();
        self.checks.push(Check {
            name: "vault-files-are-ciphertext",
            passed: clean,
            claim: "the vault's files hold no card number".to_owned(),
            found: trace.map(|trace| trace.to_string()),
        });
        self.hops.push(Hop::Vault {
            cards: cards.len(),
            tokens: distinct.len(),
            masked,
            key_version: first.key_version,
            files: searched.files,
            bytes: searched.bytes,
            clean,
        });
        Ok(())
    }

    async fn charge(&mut self, call: Call, token: &Token) -> Result<(), Failure> {
        let sent = call.body(token);
        let answer = self.way_out.post(call.path(), Form::Json.media_type(), &sent).await?;
        expect(&answer, 200, "the charge")?;
        let charged = self.charged().await?;
        let last = charged.last().ok_or_else(|| unfit("nothing reached the processor"))?;
        let proofs = &self.up.proofs;
        let same_card = proofs.holds(&last.number_proof, self.pan.expose());
        let same_expiry = proofs.holds(&last.expiry_proof, TEST_EXPIRY);
        let same_code = last.cvc_proof.as_deref().is_some_and(|proof| proofs.holds(proof, TEST_CODE));
        let renewal = call == Call::Renewal;
        let shown = |same, change| if same { change } else { Change::Other };
        let mut changed = BTreeMap::from([("card.number", shown(same_card, Change::Revealed))]);
        if renewal {
            changed.insert("card.expiry", shown(same_expiry, Change::ExpiryGivenOut));
        } else {
            changed.insert("card.cvc", shown(same_code, Change::CodeGivenOut));
        }
        let answered = self.masked(&answer.text());
        self.hops.push(Hop::Caller { call, sent, status: answer.status, answered });
        self.hops.push(Hop::GatewayEgress { call, changed });
        self.hops.push(Hop::Processor {
            call,
            masked: last.masked.clone(),
            same_card,
            same_expiry,
            same_code,
        });

        let name = call.name();
        self.check(
            "processor-got-the-card",
            same_card,
            format!("{name}: the processor got the very card number"),
        );
        self.check(
            "processor-got-the-expiry",
            same_expiry,
            format!("{name}: the processor got the right expiry"),
        );
        let claim =
            if renewal { "a later charge carries no security code" } else { "the first charge carries it" };
        self.check("code-is-given-out-once", same_code != renewal, claim);
        self.check_clean("caller-saw-no-card", "the charging service", &answer.everything());
        Ok(())
    }

    /// A card where none is declared: refused, and nobody behind the gateway hears of it.
    async fn misplaced_card(&mut self) -> Result<(), Failure> {
        let before = self.received().await?.len();
        let body = Form::Json.sign_up(&format!("charge {TEST_CARD} please"));
        let answer = self.browser.post("/signup", Form::Json.media_type(), &body).await?;
        let reached = self.received().await?.len() != before;
        self.attempt("a card number in a field that is none", &answer, reached, &[422]);
        self.check_clean("browser-saw-no-card", "the browser", &answer.everything());
        Ok(())
    }

    /// A service without a grant: it holds a good certificate and a good token, and gets nothing.
    async fn stranger(&mut self, token: &Token) -> Result<(), Failure> {
        let before = self.charged().await?.len();
        let at = self.up.addresses.egress;
        let billing = Site { address: at, name: "gateway.cordon.test", tls: Some(self.up.billing.clone()) };
        let body = Call::Renewal.body(token);
        let answer = billing.post(Call::Renewal.path(), Form::Json.media_type(), &body).await?;
        let reached = self.charged().await?.len() != before;
        // A service that has no route may be told that there is none.
        self.attempt("a charge by a service without a grant", &answer, reached, &[403, 404]);
        self.check_clean("stranger-saw-no-card", "the service without a grant", &answer.everything());
        Ok(())
    }

    fn attempt(&mut self, what: &'static str, answer: &Answer, reached: bool, refusals: &[u16]) {
        let refused = refusals.contains(&answer.status) && !reached;
        self.check("refused-as-it-must-be", refused, format!("{what} is refused and reaches nobody"));
        let code = answer.problem_code().unwrap_or_else(|| "none".to_owned());
        self.hops.push(Hop::Attempt { what, status: answer.status, code, reached });
    }

    /// Everything the stack wrote: stores, audit logs, logs.
    fn disk(&mut self) -> Result<(), Failure> {
        let directory = &self.up.directory;
        let (searched, trace) =
            self.traces.find_below(directory).map_err(|error| Failure::file(directory, &error))?;
        self.checks.push(Check {
            name: "nothing-on-disk",
            passed: trace.is_none(),
            claim: format!("{} files of the whole stack, logs included, hold no card number", searched.files),
            found: trace.map(|trace| trace.to_string()),
        });
        Ok(())
    }

    async fn received(&self) -> Result<Vec<Received>, Failure> {
        Ok(self.signup.get::<AllReceived>("/received").await?.received)
    }

    async fn charged(&self) -> Result<Vec<Charged>, Failure> {
        Ok(self.processor.get::<AllCharged>("/received").await?.received)
    }

    /// Text that may be printed: the card number masked, and the security code gone.
    fn masked(&self, text: &str) -> String {
        let mask = self.pan.truncated(Truncation::LastFour).to_string();
        let mut out = text.replace(TEST_CARD, &mask).replace(&TEST_CARD.replace(' ', "+"), &mask);
        out = out.replace(self.pan.expose(), &mask);
        out.replace(&format!("\"{TEST_CODE}\""), "\"***\"").replace(&format!("cvc={TEST_CODE}"), "cvc=***")
    }
}

fn expect(answer: &Answer, status: u16, what: &str) -> Result<(), Failure> {
    if answer.status == status {
        return Ok(());
    }
    let code = answer.problem_code().unwrap_or_else(|| "no problem code".to_owned());
    Err(unfit(&format!("{what} was answered {} ({code}), not {status}", answer.status)))
}

/// The round cannot go on.
fn unfit(what: &str) -> Failure {
    Failure::refused("dev-round", what).next("run again with --keep DIR, and read DIR/logs")
}

#[cfg(test)]
mod tests;
