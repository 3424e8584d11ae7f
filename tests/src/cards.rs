//! Card numbers for tests: the published test numbers, and numbers no issuer has for bulk loads.
//! Must never make a number under an assigned range: it could be somebody's card (PCI DSS 6.5.5).
//! Tests: `tests/tests/harness.rs`.

use anyhow::{Context, Result};
use cordon_card::Pan;
use cordon_wire::{TokenizeItem, TokenizeRequest};

/// The published Visa test number.
pub const VISA: &str = "4111111111111111";
/// The published Mastercard test number.
pub const MASTERCARD: &str = "5555555555554444";
/// The published American Express test number.
pub const AMEX: &str = "378282246310005";

/// The `n`-th bulk number: 16 digits that start with 0 (no brand has industry identifier 0) and satisfy Luhn. The digits
/// of `n` stand in it last first, so that neighbours are of different issuers, as customers' cards are: a hundred of one
/// issuer and one last four are more than a vault takes in a day.
///
/// # Errors
/// Never for `n` below 10^14.
pub fn bulk(n: u64) -> Result<Pan> {
    checked(&std::iter::once('0').chain(format!("{n:014}").chars().rev()).collect::<String>())
}

/// The `n`-th number of a range: its first eight digits are 0 and those of `range`.
///
/// # Errors
/// Never for both below 10^7.
pub fn of_range(range: u32, n: u32) -> Result<Pan> {
    checked(&format!("0{range:07}{n:07}"))
}

/// Fifteen digits and the one that checks them.
fn checked(body: &str) -> Result<Pan> {
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, digit)| {
            let value = u32::from(digit - b'0');
            if index % 2 == 0 { (value * 2) / 10 + (value * 2) % 10 } else { value }
        })
        .sum();
    Pan::parse(&format!("{body}{}", (10 - sum % 10) % 10)).context("a bulk number is a card number")
}

/// A tokenize request for one number and nothing else.
#[must_use]
pub fn only(pan: Pan) -> TokenizeRequest {
    TokenizeRequest { items: vec![item(pan)] }
}

/// An item with one number and nothing else.
#[must_use]
pub fn item(pan: Pan) -> TokenizeItem {
    TokenizeItem { pan: pan.into(), expiry: None, cvv: None, metadata: None }
}

/// A detokenize request of the route `charge` for one token.
#[must_use]
pub fn reveal(token: &cordon_card::Token) -> cordon_wire::DetokenizeRequest {
    reveal_all(std::slice::from_ref(token))
}

/// A detokenize request of the route `charge`.
#[must_use]
pub fn reveal_all(tokens: &[cordon_card::Token]) -> cordon_wire::DetokenizeRequest {
    cordon_wire::DetokenizeRequest {
        service: "signup".to_owned(),
        destination: "processor".to_owned(),
        purpose: "charge".to_owned(),
        route: "charge".to_owned(),
        items: tokens
            .iter()
            .map(|token| cordon_wire::DetokenizeItem { token: token.clone().into(), cvv: false })
            .collect(),
    }
}

/// The value of an item that must have been done.
///
/// # Errors
/// It was refused; the code is in the error.
pub fn done<T>(result: cordon_wire::ItemResult<T>) -> Result<T> {
    match result {
        cordon_wire::ItemResult::Ok(value) => Ok(value),
        cordon_wire::ItemResult::Error(problem) => anyhow::bail!("refused: {}", problem.code.as_str()),
    }
}
