//! Cases as they are written, in TOML.
//!
//! Must never take a case that says nothing of what it expects. Tests: `rehearse/tests.rs`.

use serde::Deserialize;
use std::net::IpAddr;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    #[serde(rename = "case")]
    cases: Vec<Case>,
}

/// A request, and what becomes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What it shows, as a sentence.
    pub(super) name: String,
    /// The service that makes the request, by its name in the bundle; somebody outside when left out.
    #[serde(default)]
    pub(super) service: Option<String>,
    /// Where it comes from; the first address of the service's segment, or one of nobody (RFC 5737), when left out.
    #[serde(default)]
    pub(super) address: Option<IpAddr>,
    /// The day on which it is, like 2027-03-31; today when left out.
    #[serde(default)]
    pub(super) today: Option<String>,
    /// Cards that the vault has; their tokens are `{token:1}` and so on. Published test numbers only.
    #[serde(default)]
    pub(super) cards: Vec<CardText>,
    /// The request: its line, its headers, an empty line, its body.
    pub(super) request: String,
    /// What the upstream gets: method and target, the caller's headers that go on, an empty line, the body.
    #[serde(default)]
    pub(super) sends: Option<String>,
    /// What the vault is given to keep of it; not looked at when left out.
    #[serde(default)]
    pub(super) keeps: Option<Vec<CardText>>,
    /// The code of the problem that it gets instead.
    #[serde(default)]
    pub(super) refused: Option<String>,
    /// What the upstream answers: status, headers, an empty line, the body.
    #[serde(default)]
    pub(super) answer: Option<String>,
    /// What the caller gets of it.
    #[serde(default)]
    pub(super) gives: Option<String>,
    /// The code of the problem that the caller gets instead.
    #[serde(default)]
    pub(super) withheld: Option<String>,
}

/// A card of the made-up vault.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CardText {
    /// Card number.
    pub(super) number: String,
    /// Expiry, `MM/YY`.
    #[serde(default)]
    pub(super) expiry: Option<String>,
    /// Security code, if it is held.
    #[serde(default)]
    pub(super) code: Option<String>,
}

impl Cases {
    /// Reads a file; what is wrong with it is told with its place.
    pub(super) fn read(text: &str) -> Result<Vec<Case>, String> {
        let cases: Cases = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map(|span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            format!("{place}{}", error.message())
        })?;
        let fault = cases.cases.iter().find_map(Case::fault);
        fault.map_or(Ok(cases.cases), Err)
    }
}

impl Case {
    fn fault(&self) -> Option<String> {
        let wrong = match (&self.sends, &self.refused, &self.answer, &self.gives, &self.withheld) {
            (None, None, ..) => "say what is sent (`sends`), or the code it is refused with (`refused`)",
            (Some(_), Some(_), ..) => "it is sent or refused, not both",
            (None, Some(_), Some(_), ..) => "what is refused has no answer",
            (None, ..) if self.keeps.is_some() => "of what is refused nothing is kept",
            (_, _, Some(_), None, None) => "say what the caller gets of the answer (`gives`), or `withheld`",
            (_, _, Some(_), Some(_), Some(_)) => "the caller gets the answer, or it is withheld, not both",
            (_, _, None, Some(_), _) | (_, _, None, _, Some(_)) => "say what is answered (`answer`)",
            _ => return None,
        };
        Some(format!("\"{}\": {wrong}", self.name))
    }
}
