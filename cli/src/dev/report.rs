//! What `cordon dev` says: the account of the round, the commands to try, and the same as JSON events.
//!
//! Must never print a card number: it shows what the round masked. Tests: below.

use super::bodies::{Call, Change, Form};
use super::round::{Check, Hop, Round};
use super::stack::{Addresses, Stack, Up};
use crate::layout;
use cordon_card::Token;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The event that the stack is up: everything a program needs to drive it.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    event: &'static str,
    directory: PathBuf,
    kept: bool,
    config: PathBuf,
    policies: PathBuf,
    collection: String,
    addresses: Addresses,
    names: BTreeMap<&'static str, &'static str>,
    ca: PathBuf,
    identities: BTreeMap<&'static str, Identity>,
    pids: BTreeMap<&'static str, u32>,
    logs: BTreeMap<&'static str, PathBuf>,
    audit: BTreeMap<&'static str, PathBuf>,
}

#[derive(Debug, Serialize)]
struct Identity {
    cert: PathBuf,
    key: PathBuf,
}

/// One hop as an event.
#[derive(Debug, Serialize)]
pub(super) struct HopEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    hop: &'a Hop,
}

/// The end of the round as an event.
#[derive(Debug, Serialize)]
pub(super) struct RoundEvent<'a> {
    event: &'static str,
    passed: bool,
    token: Option<&'a Token>,
    checks: &'a [Check],
}

impl<'a> HopEvent<'a> {
    /// The event of a hop.
    pub(super) const fn new(hop: &'a Hop) -> Self {
        Self { event: "hop", hop }
    }
}

impl<'a> RoundEvent<'a> {
    /// The event of a round.
    pub(super) fn new(round: &'a Round) -> Self {
        Self { event: "round", passed: round.passed(), token: round.token.as_ref(), checks: &round.checks }
    }
}

/// The event that the stack is up.
pub(super) fn ready(up: &Up, stack: &Stack) -> Ready {
    let at = |path: &str| up.directory.join(path);
    let identity = |name: &'static str| {
        (name, Identity { cert: at(&format!("pki/{name}.pem")), key: at(&format!("pki/{name}-key.pem")) })
    };
    let pids = stack.ids();
    Ready {
        event: "ready",
        directory: up.directory.clone(),
        kept: up.kept,
        config: at("cordon.toml"),
        policies: at("policies"),
        collection: up.collection.to_string(),
        addresses: up.addresses,
        names: BTreeMap::from([
            ("ingress", "signup.cordon.test"),
            ("egress", "gateway.cordon.test"),
            ("vault", "vault.cordon.test"),
            ("processor", "processor.cordon.test"),
        ]),
        ca: at("pki/ca.pem"),
        identities: super::bundle::SERVICES.into_iter().map(identity).collect(),
        logs: pids.keys().map(|name| (*name, at(&format!("logs/{name}.log")))).collect(),
        pids,
        audit: BTreeMap::from([("vault", at("vault/audit")), ("gateway", at("gateway/audit"))]),
    }
}

/// What is said before the round.
pub(super) fn heading(up: &Up) -> String {
    let kept = if up.kept { "kept at the end" } else { "removed at the end; --keep DIR keeps it" };
    format!(
        "Cordon is up for development: throw-away keys, everything on loopback.\n{}\n",
        layout::rows(&[("State", format!("{} ({kept})", up.directory.display()))])
    )
}

/// The account of the round.
pub(super) fn account(round: &Round) -> String {
    let mut out = String::new();
    let mut section = 0_u32;
    let mut before = None;
    for hop in &round.hops {
        if let Some(title) = title(hop, before) {
            section = section.saturating_add(1);
            out.push_str(&format!("{}{section}. {title}\n", if section > 1 { "\n" } else { "" }));
        }
        out.push_str(&layout::rows(&lines(hop)));
        before = Some(hop);
    }
    out.push('\n');
    let failed: Vec<_> = round.checks.iter().filter(|check| !check.passed).collect();
    if failed.is_empty() {
        let number = u64::try_from(round.checks.len()).unwrap_or(u64::MAX);
        out.push_str(&format!(
            "All {} passed: everyone saw what it may see, and no more.\n",
            layout::counted(number, "check")
        ));
    }
    for check in failed {
        let found = check.found.as_deref().unwrap_or("that is not so");
        out.push_str(&format!("FAILED {}: {}: {found}\n", check.name, check.claim));
    }
    out
}

fn title(hop: &Hop, before: Option<&Hop>) -> Option<&'static str> {
    match hop {
        Hop::Browser { form: Form::Json, .. } => Some("A browser signs up (JSON)"),
        Hop::Browser { form: Form::Form, .. } => Some("A browser signs up (form)"),
        Hop::Vault { .. } => Some("The vault"),
        Hop::Caller { call: Call::Charge, .. } => {
            Some("The sign-up service charges the card, with the token")
        }
        Hop::Caller { call: Call::Renewal, .. } => {
            Some("A month later it charges again, with nothing but the token")
        }
        Hop::Attempt { .. } if !matches!(before, Some(Hop::Attempt { .. })) => Some("What must not work"),
        _ => None,
    }
}

fn lines(hop: &Hop) -> Vec<(&'static str, String)> {
    match hop {
        Hop::Browser { sent, status, answered, .. } => {
            vec![(BROWSER, format!("sent {sent}")), (BLANK, format!("was answered {status} {answered}"))]
        }
        Hop::GatewayIngress { changed, .. } => vec![(GATEWAY, described(changed))],
        Hop::GatewayEgress { changed, .. } => vec![(GATEWAY, described(changed))],
        Hop::Signup { received, bytes, .. } => {
            vec![(SIGNUP, format!("received, all {bytes} bytes of it: {received}"))]
        }
        Hop::Vault { cards, tokens, masked, key_version, files, bytes, clean } => {
            let cards = layout::counted(number(*cards), "card");
            let tokens = layout::counted(number(*tokens), "token");
            let found = if *clean { "ciphertext only, no card number" } else { "THE CARD NUMBER" };
            let searched = format!("searched its {files} files ({}): {found}", layout::bytes(*bytes));
            vec![
                (
                    VAULT,
                    format!(
                        "holds {cards} under {tokens}: {masked}, sealed by data key version {key_version}"
                    ),
                ),
                (BLANK, searched),
            ]
        }
        Hop::Caller { sent, status, answered, .. } => {
            vec![(SIGNUP, format!("sent {sent}")), (BLANK, format!("was answered {status} {answered}"))]
        }
        Hop::Processor { masked, same_card, same_expiry, same_code, .. } => {
            let card = if *same_card { "the very card (MACs are equal)" } else { "ANOTHER number" };
            let expiry = if *same_expiry { "with its expiry" } else { "with ANOTHER expiry" };
            let code = if *same_code { "and its security code" } else { "and no security code" };
            vec![(PROCESSOR, format!("got {masked}: {card}, {expiry} {code}"))]
        }
        Hop::Attempt { what, status, code, reached } => {
            let reached = if *reached { "it REACHED the other side" } else { "it reached nobody" };
            vec![(GATEWAY, format!("{what}: refused with {status} {code}; {reached}"))]
        }
    }
}

fn described<F: fmt::Display>(changed: &BTreeMap<F, Change>) -> String {
    let mut changed: Vec<_> = changed.iter().collect();
    changed.sort_by_key(|(_, change)| **change);
    let each = changed.into_iter().map(|(field, change)| {
        let became = match change {
            Change::Tokenized => "card number -> token",
            Change::Held => "security code -> held in the vault's memory",
            Change::Revealed => "token -> card number",
            Change::ExpiryGivenOut => "kept -> expiry",
            Change::CodeGivenOut => "held -> security code, once",
            Change::Other => "CHANGED",
        };
        format!("{field}: {became}")
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "changed nothing".to_owned() } else { format!("changed {}", each.join("; ")) }
}

/// The commands to try, ready to paste.
pub(super) fn commands(up: &Up, program: &Path, token: &Token) -> String {
    let at = |path: &str| quoted(&up.directory.join(path));
    let ca = at("pki/ca.pem");
    let (ingress, egress) = (up.addresses.ingress.port(), up.addresses.egress.port());
    let signup = format!(
        "curl --cacert {ca} \\\n    --resolve signup.cordon.test:{ingress}:127.0.0.1 \\\n    \
         -H 'content-type: application/json' \\\n    --data '{}' \\\n    https://signup.cordon.test:{ingress}/signup",
        Form::Json.sign_up("monthly")
    );
    let charge = |call: Call| {
        format!(
            "curl --cacert {ca} \\\n    --cert {} \\\n    --key {} \\\n    \
             --resolve gateway.cordon.test:{egress}:127.0.0.1 \\\n    -H 'content-type: application/json' \\\n    \
             --data '{}' \\\n    https://gateway.cordon.test:{egress}{}",
            at("pki/signup.pem"),
            at("pki/signup-key.pem"),
            call.body(token),
            call.path()
        )
    };
    let (first, later) = (charge(Call::Charge), charge(Call::Renewal));
    let received = format!("curl http://{}/received", up.addresses.signup);
    let cordon = quoted(program);
    let config = at("cordon.toml");
    format!(
        "Try it in another terminal.\n\nSign up; the shop gets a token:\n  {signup}\n\nCharge, once for each sign-up (the \
         security code is given out once):\n  {first}\n\nCharge later, as often as you like:\n  {later}\n\nWhat the \
         sign-up service holds:\n  {received}\n\nThe vault:\n  {cordon} --config {config} status\n  \
         {cordon} --config {config} token inspect --collection {} {token}\n  {cordon} --config {config} audit tail -f\n  \
         {cordon} audit verify --dir {}\n\nCtrl-C ends everything.\n",
        up.collection,
        at("vault/audit")
    )
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@:,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

// Labels of one width, so that the rows of all hops share one column.
const BROWSER: &str = "   browser       ";
const GATEWAY: &str = "   gateway       ";
const SIGNUP: &str = "   sign-up       ";
const VAULT: &str = "   vault         ";
const PROCESSOR: &str = "   processor     ";
const BLANK: &str = "                 ";

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_card::Environment;

    fn round(passed: bool) -> Round {
        let check =
            Check { name: "signup-saw-no-card", passed, claim: "it saw no card number".into(), found: None };
        Round {
            hops: vec![
                Hop::Browser {
                    form: Form::Json,
                    sent: "{...}".repeat(40),
                    status: 201,
                    answered: "{}".into(),
                },
                Hop::GatewayIngress {
                    form: Form::Json,
                    changed: BTreeMap::from([("card.number".into(), Change::Tokenized)]),
                },
                Hop::Processor {
                    call: Call::Charge,
                    masked: "************1111".into(),
                    same_card: true,
                    same_expiry: true,
                    same_code: false,
                },
            ],
            checks: vec![check],
            token: Some(Token::opaque(Environment::Dev, &[1; 17])),
        }
    }

    #[test]
    fn the_account_fits_in_100_columns_and_names_every_hop() {
        let text = account(&round(true));
        assert!(text.lines().all(|line| line.chars().count() <= layout::WIDTH), "{text}");
        assert!(text.contains("1. A browser signs up (JSON)"), "{text}");
        assert!(text.contains("card.number: card number -> token"), "{text}");
        assert!(text.contains("got ************1111: the very card"), "{text}");
        assert!(text.contains("All 1 check passed"), "{text}");
    }

    #[test]
    fn a_failed_check_is_shouted() {
        let text = account(&round(false));
        assert!(text.contains("FAILED signup-saw-no-card"), "{text}");
        assert!(!text.contains("passed"), "{text}");
    }

    #[test]
    fn events_are_flat_and_tagged() {
        let round = round(true);
        let json = serde_json::to_value(HopEvent::new(&round.hops[2])).unwrap();
        assert_eq!((json["event"].as_str(), json["hop"].as_str()), (Some("hop"), Some("processor")));
        let json = serde_json::to_value(RoundEvent::new(&round)).unwrap();
        assert_eq!((json["event"].as_str(), json["passed"].as_bool()), (Some("round"), Some(true)));
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/tmp/cordon-dev-x/pki/ca.pem")), "/tmp/cordon-dev-x/pki/ca.pem");
        assert_eq!(quoted(Path::new("/tmp/it's here")), "'/tmp/it'\\''s here'");
    }
}
