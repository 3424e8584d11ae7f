//! The sample sign-up service: the application that Cordon takes out of scope. It keeps and logs whatever it is
//! sent, as applications do; that is the point.
//!
//! Must never know how to tell a token from a card number: what protects it stands in front of it. Tests: below.

use super::listen::{self, Asked, Reply, Service};
use crate::exit::{Failure, Verdict};
use crate::output::Console;
use clap::Args;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// `cordon sample signup`.
#[derive(Debug, Args)]
pub(crate) struct Signup {
    /// Loopback address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// A request as the service got it, byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Headers in their order.
    pub(crate) headers: Vec<(String, String)>,
    /// Body, base64.
    pub(crate) body: String,
    /// Body as text, for a human.
    pub(crate) text: String,
}

/// Answer of `GET /received`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AllReceived {
    /// Oldest first.
    pub(crate) received: Vec<Received>,
}

/// The service itself.
#[derive(Default)]
pub(crate) struct Shop {
    received: Mutex<Vec<Received>>,
    console: Option<Console>,
}

impl Signup {
    /// Serves until told to stop.
    pub(crate) fn run(self, console: Console) -> Result<Verdict, Failure> {
        let shop = Shop { console: Some(console), ..Shop::default() };
        listen::serve("http", self.listen, None, Arc::new(shop))
    }
}

impl Received {
    /// The body's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        BASE64.decode(self.body.as_bytes()).unwrap_or_default()
    }

    /// Everything that came, for a search: target, headers, body.
    pub(crate) fn everything(&self) -> Vec<u8> {
        let mut all = self.target.clone().into_bytes();
        for (name, value) in &self.headers {
            all.extend_from_slice(format!("\n{name}: {value}").as_bytes());
        }
        all.push(b'\n');
        all.extend_from_slice(&self.bytes());
        all
    }
}

impl Service for Shop {
    fn answer(&self, asked: Asked) -> Reply {
        let path = asked.target.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path) {
            ("POST", "/signup") => self.sign_up(&asked),
            ("GET", "/received") => {
                let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Reply::new(200, AllReceived { received })
            }
            _ => Reply::refusal(404, "no-such-page"),
        }
    }
}

impl Shop {
    fn sign_up(&self, asked: &Asked) -> Reply {
        let number = self.keep(asked);
        let Some(card) = card_of(asked) else {
            return Reply::refusal(400, "no-card");
        };
        // The browser learns what stands for its card, and uses it for the charge.
        Reply::new(201, json!({"account": format!("acc_{number:04}"), "card": {"token": card}}))
    }

    fn keep(&self, asked: &Asked) -> usize {
        let entry = Received {
            method: asked.method.clone(),
            target: asked.target.clone(),
            headers: asked.headers.clone(),
            body: BASE64.encode(&asked.body),
            text: String::from_utf8_lossy(&asked.body).into_owned(),
        };
        if let Some(console) = self.console {
            console.note(&format!(
                "received {} {} {:?}",
                asked.method,
                asked.target,
                String::from_utf8_lossy(&asked.body)
            ));
        }
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.len() >= KEPT {
            received.remove(0);
        }
        received.push(entry);
        received.len()
    }
}

/// Whatever stands in the card number's place.
fn card_of(asked: &Asked) -> Option<String> {
    if asked.media_type() == "application/x-www-form-urlencoded" {
        let mut pairs = form_urlencoded::parse(&asked.body);
        return pairs.find(|(name, _)| name == "card_number").map(|(_, value)| value.into_owned());
    }
    let body: Value = serde_json::from_slice(&asked.body).ok()?;
    body.pointer("/card/number")?.as_str().map(str::to_owned)
}

/// Requests the service remembers.
const KEPT: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, target: &str, media_type: &str, body: &str) -> Asked {
        Asked {
            method: method.into(),
            target: target.into(),
            headers: vec![("content-type".into(), media_type.into())],
            body: body.as_bytes().to_vec().into(),
        }
    }

    #[test]
    fn it_keeps_what_it_was_sent_byte_for_byte() {
        let shop = Shop::default();
        let body = "{\"card\": {\"number\": \"tok_x\"} }\n";
        let reply = shop.answer(asked("POST", "/signup?a=1", "application/json", body));
        assert_eq!((reply.status, reply.body["card"]["token"].as_str()), (201, Some("tok_x")));
        let reply = shop.answer(asked("GET", "/received", "", ""));
        let all: AllReceived = serde_json::from_value(reply.body).unwrap();
        assert_eq!(all.received[0].bytes(), body.as_bytes());
        assert!(
            String::from_utf8(all.received[0].everything()).unwrap().contains("/signup?a=1\ncontent-type: ")
        );
    }

    #[test]
    fn it_reads_forms_too_and_refuses_what_has_no_card() {
        let shop = Shop::default();
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let reply = shop.answer(asked("POST", "/signup", form, "email=a%40b&card_number=tok_y"));
        assert_eq!(reply.body["card"]["token"].as_str(), Some("tok_y"));
        assert_eq!(shop.answer(asked("POST", "/signup", "application/json", "{}")).status, 400);
        assert_eq!(shop.answer(asked("GET", "/signup", "", "")).status, 404);
    }
}
