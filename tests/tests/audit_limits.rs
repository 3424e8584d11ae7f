//! An audit log without room: data calls are refused, administration is still recorded, and nothing is revealed.

use anyhow::{Context, Result};
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{DetokenizeItem, DetokenizeRequest, ProblemCode, Submitted};

fn code<T>(result: Result<T, ClientError>) -> Option<ProblemCode> {
    match result {
        Err(ClientError::Problem(problem)) => Some(problem.code),
        _ => None,
    }
}

#[tokio::test]
async fn below_the_reserved_space_data_calls_are_refused_and_keys_can_still_be_turned() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let client = stack.tokenizer("gateway-ingress")?;
    let made = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await?;
    let token = done(made.items.into_iter().next().context("an item")?)?.token;
    stack.vault.terminate().await?;
    // No disk has this much room: the reserve is touched from the start.
    stack.configure_audit("[audit]\nreserve_mib = 1000000000000");
    stack.restart_vault()?;
    stack.unseal().await?;
    let tokenize = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(2)?)).await;
    assert_eq!(code(tokenize), Some(ProblemCode::AuditUnavailable));
    let ask = DetokenizeRequest {
        items: vec![DetokenizeItem { token: Submitted::Valid(token), cvv: false }],
        service: "signup".to_owned(),
        destination: "processor".to_owned(),
        route: "charge".to_owned(),
        purpose: "charge".to_owned(),
    };
    let reveal = stack.revealer("gateway-egress")?.detokenize(&stack::cards()?, &ask).await;
    assert_eq!(code(reveal), Some(ProblemCode::AuditUnavailable));
    let ready = cordon_tests::https::send_plain(stack.vault.address("metrics")?, "/ready").await?;
    assert_eq!(ready.status, 503);
    // What an operator does about it is recorded.
    let status = stack.administrator()?.status().await?;
    let warnings = status.warnings.join(" ");
    assert!(warnings.contains("less free space than is reserved"), "{warnings}");
    stack.administrator()?.seal().await?;
    stack.vault.terminate().await?;
    let audit = stack.audit("vault");
    assert!(audit.lines().any(|line| line.contains(r#""what":"seal""#) && line.contains("allowed")));
    let reveals = audit.lines().filter(|line| line.contains(r#""what":"detokenize""#));
    assert_eq!(reveals.count(), 0, "no line, no reveal");
    Ok(())
}
