//! The sample payment processor: the one place outside the vault that needs the card number.
//!
//! Must never repeat a card number or a security code in an answer, a log or a record: it keeps a mask and a MAC.
//! Tests: below.

use super::listen::{self, Asked, Reply, Service};
use super::proof::ProofKey;
use crate::exit::{self, Failure, Verdict};
use crate::output::Console;
use clap::Args;
use cordon_card::{Cvv, Expiry, ExpiryStyle, Pan, Truncation};
use cordon_daemon::tls::{self, ClientAuth, Identity};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// `cordon sample processor`.
#[derive(Debug, Args)]
pub(crate) struct Processor {
    /// Loopback address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Server certificate, PEM
    #[arg(long)]
    cert: PathBuf,
    /// Its key, PEM
    #[arg(long)]
    key: PathBuf,
    /// File with the key of card proofs
    #[arg(long)]
    proof_key: PathBuf,
}

/// A charge as the processor remembers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charged {
    /// Its id.
    pub(crate) id: String,
    /// The card, masked.
    pub(crate) masked: String,
    /// MAC of the card number under the run's proof key.
    pub(crate) number_proof: String,
    /// MAC of the expiry as `YYYY-MM`.
    pub(crate) expiry_proof: String,
    /// MAC of the security code, when one was sent.
    pub(crate) cvc_proof: Option<String>,
    /// `approved` or `declined`.
    pub(crate) status: String,
}

/// Answer of `GET /received`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AllCharged {
    /// Oldest first.
    pub(crate) received: Vec<Charged>,
}

#[derive(Deserialize)]
struct Charge {
    amount: u64,
    currency: String,
    card: Card,
}

#[derive(Deserialize)]
struct Card {
    number: Zeroizing<String>,
    expiry: Zeroizing<String>,
    #[serde(default)]
    cvc: Option<Zeroizing<String>>,
}

/// The service itself.
pub(crate) struct Desk {
    proofs: ProofKey,
    charged: Mutex<Vec<Charged>>,
    console: Option<Console>,
}

impl Processor {
    /// Serves until told to stop.
    pub(crate) fn run(self, console: Console) -> Result<Verdict, Failure> {
        let tls = Identity::load(&self.cert, &self.key)
            .and_then(|identity| tls::server_config(identity, ClientAuth::None))
            .map_err(|error| Failure::configuration(exit::with_causes(&error)))?;
        let proofs = ProofKey::read(&self.proof_key)?;
        let desk = Desk { console: Some(console), ..Desk::new(proofs) };
        listen::serve("https", self.listen, Some(tls), Arc::new(desk))
    }
}

impl Service for Desk {
    fn answer(&self, asked: Asked) -> Reply {
        let path = asked.target.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path) {
            ("POST", "/v1/charges" | "/v1/renewals") => self.charge(&asked).unwrap_or_else(|refusal| refusal),
            ("GET", "/received") => {
                let received = self.charged.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Reply::new(200, AllCharged { received })
            }
            _ => Reply::refusal(404, "no-such-call"),
        }
    }
}

impl Desk {
    /// A desk without a log.
    pub(crate) fn new(proofs: ProofKey) -> Self {
        Self { proofs, charged: Mutex::default(), console: None }
    }

    fn charge(&self, asked: &Asked) -> Result<Reply, Reply> {
        let charge = read(asked).ok_or_else(|| Reply::refusal(400, "malformed"))?;
        let pan =
            Pan::parse(&charge.card.number).map_err(|_error| Reply::refusal(422, "not-a-card-number"))?;
        let expiry =
            Expiry::parse(&charge.card.expiry).map_err(|_error| Reply::refusal(422, "not-an-expiry"))?;
        let cvc = match &charge.card.cvc {
            None => None,
            Some(text) => {
                Some(Cvv::parse(text).map_err(|_error| Reply::refusal(422, "not-a-security-code"))?)
            }
        };
        let declined = decline(charge.amount, expiry);
        let status = if declined.is_some() { "declined" } else { "approved" };
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("chg_{:04}", charged.len().saturating_add(1));
        let masked = mask(&pan);
        if let Some(console) = self.console {
            console.note(&format!("{id} {status} {} {masked}", charge.amount));
        }
        let mut reply = json!({
            "id": id,
            "status": status,
            "amount": charge.amount,
            "currency": charge.currency,
            "card": {"brand": pan.brand(), "last_four": pan.last_four()},
        });
        if let (Some(reason), Some(reply)) = (declined, reply.as_object_mut()) {
            reply.insert("reason".to_owned(), reason.into());
        }
        charged.push(Charged {
            id,
            masked,
            number_proof: self.proofs.of(pan.expose()),
            expiry_proof: self.proofs.of(&expiry.text(ExpiryStyle::Iso)),
            cvc_proof: cvc.map(|cvc| self.proofs.of(cvc.expose())),
            status: status.to_owned(),
        });
        Ok(Reply { status: if declined.is_some() { 402 } else { 200 }, body: reply })
    }
}

/// All but the last four digits hidden.
pub(crate) fn mask(pan: &Pan) -> String {
    pan.truncated(Truncation::LastFour).to_string()
}

fn decline(amount: u64, expiry: Expiry) -> Option<&'static str> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC);
    let (year, month) = (i32::from(today.year()), i32::from(today.month()));
    if (i32::from(expiry.year()), i32::from(expiry.month())) < (year, month) {
        return Some("expired-card");
    }
    (amount > LIMIT).then_some("over-limit")
}

fn read(asked: &Asked) -> Option<Charge> {
    if asked.media_type() != "application/x-www-form-urlencoded" {
        return serde_json::from_slice(&asked.body).ok();
    }
    let field = |wanted: &str| {
        form_urlencoded::parse(&asked.body)
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    Some(Charge {
        amount: field("amount")?.parse().ok()?,
        currency: field("currency")?,
        card: Card {
            number: Zeroizing::new(field("card[number]")?),
            expiry: Zeroizing::new(field("card[expiry]")?),
            cvc: field("card[cvc]").map(Zeroizing::new),
        },
    })
}

/// Amounts above this (in minor units) are declined, to show a decline.
const LIMIT: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const PAN: &str = "4111111111111111";

    fn desk() -> (tempfile::TempDir, Desk) {
        let scratch = tempfile::tempdir().unwrap();
        let proofs = ProofKey::make(&scratch.path().join("key")).unwrap();
        (scratch, Desk::new(proofs))
    }

    fn post(media_type: &str, body: &str) -> Asked {
        Asked {
            method: "POST".into(),
            target: "/v1/charges".into(),
            headers: vec![("content-type".into(), media_type.into())],
            body: body.as_bytes().to_vec().into(),
        }
    }

    fn json_charge(number: &str, expiry: &str, amount: u64) -> Asked {
        let card = json!({"number": number, "expiry": expiry, "cvc": "123"});
        post("application/json", &json!({"amount": amount, "currency": "EUR", "card": card}).to_string())
    }

    #[test]
    fn a_token_is_no_card_number() {
        let (_scratch, desk) = desk();
        let reply = desk.answer(json_charge("tok_dev_abc", "12/99", 1));
        assert_eq!((reply.status, reply.body["reason"].as_str()), (422, Some("not-a-card-number")));
    }

    #[test]
    fn it_approves_in_json_and_form_and_proves_which_card_it_got() {
        let (_scratch, desk) = desk();
        assert_eq!(desk.answer(json_charge(PAN, "12/99", 1_599)).body["status"], "approved");
        let form = "amount=1599&currency=EUR&card%5Bnumber%5D=4111+1111+1111+1111&card%5Bexpiry%5D=12%2F99";
        assert_eq!(desk.answer(post("application/x-www-form-urlencoded", form)).body["status"], "approved");
        let charged = desk.charged.lock().unwrap();
        assert!(charged.iter().all(|charge| desk.proofs.holds(&charge.number_proof, PAN)));
        assert!(desk.proofs.holds(charged[0].cvc_proof.as_ref().unwrap(), "123"));
        assert!(charged[1].cvc_proof.is_none());
    }

    #[test]
    fn it_declines_with_a_reason() {
        let (_scratch, desk) = desk();
        let reply = desk.answer(json_charge(PAN, "12/99", LIMIT + 1));
        assert_eq!((reply.status, reply.body["reason"].as_str()), (402, Some("over-limit")));
        let reply = desk.answer(json_charge(PAN, "01/2020", 1));
        assert_eq!((reply.status, reply.body["reason"].as_str()), (402, Some("expired-card")));
    }

    #[test]
    fn neither_answers_nor_records_hold_the_card_number() {
        let (_scratch, desk) = desk();
        let mut texts = vec![desk.answer(json_charge(PAN, "12/99", 1)).body.to_string()];
        texts.push(desk.answer(json_charge("4111 1111 1111 1112", "12/99", 1)).body.to_string());
        let asked =
            Asked { method: "GET".into(), target: "/received".into(), ..json_charge(PAN, "12/99", 1) };
        texts.push(desk.answer(asked).body.to_string());
        for text in texts {
            assert!(!text.contains(PAN) && !text.contains("411111111111"), "{text}");
        }
    }
}
