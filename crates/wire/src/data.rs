//! The six data calls, all batches: `items` in, one result or one problem per item out, in order.
//! Must never give a PAN a second way out: [`Revealed`] is the only response that carries one.
//! Tests: `crates/wire/tests/golden.rs`.

use crate::{ItemProblem, Submitted};
use cordon_card::{Brand, CardId, Cvv, Expiry, LastFour, Pan, Token, Truncated};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The items of a response, in the order of the request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Items<T> {
    /// One entry per item of the request.
    pub items: Vec<ItemResult<T>>,
}

/// What became of one item.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemResult<T> {
    /// It was done.
    Ok(T),
    /// It was refused, alone.
    Error(ItemProblem),
}

/// Body of `POST /v1/collections/{c}/tokenize`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    /// Cards to tokenize, at most [`crate::limits::MAX_ITEMS`].
    pub items: Vec<TokenizeItem>,
}

/// One card to tokenize.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeItem {
    /// The card number; separators are accepted.
    pub pan: Submitted<Pan>,
    /// Expiry to keep with the card; replaces the one kept before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Submitted<Expiry>>,
    /// Security code to hold in memory for one later reveal; never stored (PCI DSS 3.3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvv: Option<Submitted<Cvv>>,
    /// Free key-value pairs kept encrypted with the card; replaces the ones kept before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A tokenized card; the same for a new and a known one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenized {
    /// What stands for the card from now on.
    pub token: Token,
    /// The same for all tokens of this card in this collection.
    pub card_id: CardId,
    /// Card brand.
    pub brand: Brand,
    /// Last four digits (PCI DSS 3.4.1 display form).
    pub last_four: LastFour,
}

/// Body of `POST /v1/collections/{c}/detokenize`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeRequest {
    /// Name of the service the caller acts for.
    pub service: String,
    /// Name of the destination that will get the card.
    pub destination: String,
    /// Why, as the route declares it.
    pub purpose: String,
    /// Name of the gateway route.
    pub route: String,
    /// Tokens to reveal.
    pub items: Vec<DetokenizeItem>,
}

/// One token to reveal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeItem {
    /// The token.
    pub token: Submitted<Token>,
    /// Also give out the held security code, once. If none is held the item is refused, and nothing of it revealed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cvv: bool,
}

/// A revealed card: the one response type that carries a PAN.
#[derive(Debug, Serialize, Deserialize)]
pub struct Revealed {
    /// The card number.
    pub pan: Submitted<Pan>,
    /// The kept expiry, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// The held security code, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvv: Option<Submitted<Cvv>>,
    /// A security code is held that was not asked for: settle the token once the destination has answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub code_held: bool,
}

/// Body of `POST /v1/collections/{c}/settle`: the destination answered a request that these tokens were revealed for,
/// so that no security code may be held for them any more (PCI DSS 3.3.1).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    /// Name of the service the caller acted for.
    pub service: String,
    /// Name of the destination that got the card.
    pub destination: String,
    /// Why, as the route declares it.
    pub purpose: String,
    /// Name of the gateway route.
    pub route: String,
    /// Tokens whose security codes are to be wiped.
    pub items: Vec<Submitted<Token>>,
}

/// Answer to one settled token, whether or not a code was held for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The token that no code is held for.
    pub token: Token,
}

/// Body of `POST /v1/collections/{c}/lookup`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// Cards to look for.
    pub items: Vec<LookupItem>,
}

/// One card to look for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupItem {
    /// The card number.
    pub pan: Submitted<Pan>,
}

/// What is known of a looked-up card; empty when nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupResult {
    /// The card, when this collection has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
}

/// Whether the collection has a card of this number, and nothing else of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recognized {
    /// It has.
    pub known: bool,
}

/// A known card, without its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its multi-use token; absent in single-use collections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Its id.
    pub card_id: CardId,
}

/// Body of `POST /v1/collections/{c}/inspect`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InspectRequest {
    /// Tokens to describe.
    pub items: Vec<Submitted<Token>>,
}

/// What may be shown of a card without revealing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// The token.
    pub token: Token,
    /// The card id.
    pub card_id: CardId,
    /// The masked number.
    pub masked: Truncated,
    /// Card brand.
    pub brand: Brand,
    /// The kept expiry, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// When the token was made (RFC 3339, UTC).
    pub created_at: String,
    /// Version of the data key that seals the record.
    pub key_version: u32,
    /// A single-use token that was given out.
    pub used: bool,
}

/// Body of `POST /v1/collections/{c}/delete`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// Tokens to delete with their records and index entries.
    pub items: Vec<Submitted<Token>>,
}

/// Answer to one deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The token that is gone.
    pub token: Token,
}
