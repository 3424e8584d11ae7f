//! The bodies that the round sends, and how what arrived differs from them.
//!
//! Must never hold a card number that is not a published test number. Tests: below.

use cordon_card::Token;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How a body was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

/// What became of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// The card number became a token.
    Tokenized,
    /// The token became the card number.
    Revealed,
    /// The security code was taken out and is held.
    Held,
    /// The kept expiry was put in.
    ExpiryGivenOut,
    /// The held security code was put in.
    CodeGivenOut,
    /// Something else.
    Other,
}

/// A charge that the round makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Call {
    /// The first one, with the held security code.
    Charge,
    /// A later one, with nothing but the token.
    Renewal,
}

impl Form {
    /// Its media type.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
        }
    }

    /// Names of the fields that hold the card number and the security code.
    pub(super) const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("card.number", "card.cvc"),
            Self::Form => ("card_number", "cvc"),
        }
    }

    /// The body of a sign-up with the test card.
    pub(super) fn sign_up(self, plan: &str) -> String {
        match self {
            // Written by hand: the order of fields is part of what is shown.
            Self::Json => format!(
                "{{\"email\":\"ada@example.test\",\"plan\":{},\"card\":{{\"number\":\"{TEST_CARD}\",\
                 \"expiry\":\"12/30\",\"cvc\":\"{TEST_CODE}\"}}}}",
                json!(plan)
            ),
            Self::Form => form_urlencoded::Serializer::new(String::new())
                .append_pair("email", "ada@example.test")
                .append_pair("plan", plan)
                .append_pair("card_number", TEST_CARD)
                .append_pair("expiry", "12/30")
                .append_pair("cvc", TEST_CODE)
                .finish(),
        }
    }

    /// The text fields of a body, by path or name.
    pub(super) fn fields(self, body: &[u8]) -> BTreeMap<String, String> {
        match self {
            Self::Form => form_urlencoded::parse(body).into_owned().collect(),
            Self::Json => {
                let mut found = BTreeMap::new();
                leaves(&serde_json::from_slice(body).unwrap_or_default(), String::new(), &mut found);
                found
            }
        }
    }
}

impl Call {
    /// Its path at the gateway and the processor.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Charge => "/v1/charges",
            Self::Renewal => "/v1/renewals",
        }
    }

    /// Its name in a sentence.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Renewal => "renewal",
        }
    }

    /// Its body, with a token.
    pub(super) fn body(self, token: &Token) -> String {
        let card = match self {
            Self::Charge => format!("{{\"number\":\"{token}\",\"expiry\":\"12/30\",\"cvc\":\"held\"}}"),
            Self::Renewal => format!("{{\"number\":\"{token}\",\"expiry\":\"kept\"}}"),
        };
        format!("{{\"amount\":1599,\"currency\":\"EUR\",\"card\":{card}}}")
    }
}

/// What differs between the fields that were sent and those that arrived.
pub(super) fn changes(
    sent: &BTreeMap<String, String>,
    arrived: &BTreeMap<String, String>,
) -> BTreeMap<String, Change> {
    let mut changed = BTreeMap::new();
    for name in sent.keys().chain(arrived.keys()) {
        let (before, after) = (sent.get(name), arrived.get(name));
        if before == after {
            continue;
        }
        let change = match after.map(String::as_str) {
            Some("held") => Change::Held,
            Some(text) if Token::recognise(text) => Change::Tokenized,
            _ => Change::Other,
        };
        changed.insert(name.clone(), change);
    }
    changed
}

fn leaves(value: &Value, path: String, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(member, path, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, format!("{path}[{index}]"), found);
            }
        }
        Value::String(text) => {
            found.insert(path, text.clone());
        }
        other => {
            found.insert(path, other.to_string());
        }
    }
}

/// A published test card number; never a real one.
pub(super) const TEST_CARD: &str = "4111 1111 1111 1111";
/// Its security code.
pub(super) const TEST_CODE: &str = "123";
/// Its expiry as the processor proves it.
pub(super) const TEST_EXPIRY: &str = "2030-12";

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_card::Environment;

    fn token() -> Token {
        Token::opaque(Environment::Dev, &[7; 17])
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let sent = Form::Json.fields(Form::Json.sign_up("monthly").as_bytes());
        let mut arrived = sent.clone();
        arrived.insert("card.number".into(), token().to_string());
        arrived.insert("card.cvc".into(), "held".into());
        let changed = changes(&sent, &arrived);
        let expected = [("card.cvc".to_owned(), Change::Held), ("card.number".to_owned(), Change::Tokenized)];
        assert_eq!(changed, BTreeMap::from(expected));
        arrived.remove("email");
        assert_eq!(changes(&sent, &arrived).get("email"), Some(&Change::Other));
    }

    #[test]
    fn a_card_number_that_stays_is_no_change() {
        let sent = Form::Form.fields(Form::Form.sign_up("monthly").as_bytes());
        assert!(changes(&sent, &sent.clone()).is_empty());
    }

    #[test]
    fn both_forms_hold_the_same_card() {
        let json = Form::Json.fields(Form::Json.sign_up("monthly").as_bytes());
        let form = Form::Form.fields(Form::Form.sign_up("monthly").as_bytes());
        assert_eq!(json.len(), form.len());
        assert_eq!(json.get("card.number"), form.get("card_number"));
        assert_eq!(json.get("card.cvc"), form.get("cvc"));
    }

    #[test]
    fn a_renewal_knows_nothing_but_the_token() {
        let body: Value = serde_json::from_str(&Call::Renewal.body(&token())).unwrap();
        assert_eq!(body["card"]["number"], token().as_str());
        assert_eq!(body["card"]["expiry"], "kept");
        assert!(body["card"].get("cvc").is_none());
    }
}
