//! A flood of refusals: some lines and a count, and no reveal, admin call or allowed call among what is counted.

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_tests::cards::{self, done};
use cordon_tests::https;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{DetokenizeItem, DetokenizeRequest, Submitted};
use http::Request;
use http_body_util::Full;

fn lines(stack: &Stack, daemon: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> Vec<serde_json::Value> {
    let text = stack.audit(daemon);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(|line| wanted(line)).collect()
}

/// How many refusals the lines stand for, and how many lines that takes.
fn counted(lines: &[serde_json::Value]) -> (u64, usize) {
    let events = lines.iter().map(|line| match line.get("since") {
        Some(_) => line.get("items").and_then(serde_json::Value::as_u64).unwrap_or(0),
        None => 1,
    });
    (events.sum(), lines.len())
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_nothing_else_is() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.authority.client("stranger")?;
    let stranger = https::tls(&stack.authority.root(), Some(&stack.identity("stranger")))?;
    let nobody = https::tls(&stack.authority.root(), None)?;
    let address = stack.vault.address("data")?;
    let request = |path: &str| {
        Request::post(path).header("host", "vault.cordon.test").body(Full::new(Bytes::from_static(b"{}")))
    };
    for _ in 0..FLOOD {
        let path = "/v1/collections/cards/tokenize";
        let answer = https::send(address, "vault.cordon.test", &stranger, request(path)?).await?;
        assert_eq!(answer.status, 401, "refused, whether its line is written or counted");
        // No certificate: the handshake fails, which the client may learn with its first read only.
        let refused = https::send(address, "vault.cordon.test", &nobody, request(path)?).await;
        assert!(refused.is_err());
        let wrong = stack.browser("/nowhere", "application/json", "{}").await?;
        assert_eq!(wrong.status, 404);
    }
    // What is allowed has a line each, however much of it there is.
    let (client, revealer) = (stack.tokenizer("gateway-ingress")?, stack.revealer("gateway-egress")?);
    let made = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await?;
    let token = done(made.items.into_iter().next().context("an item")?)?.token;
    for _ in 0..FLOOD {
        let ask = DetokenizeRequest {
            items: vec![DetokenizeItem { token: Submitted::Valid(token.clone()), cvv: false }],
            service: "signup".to_owned(),
            destination: "processor".to_owned(),
            route: "charge".to_owned(),
            purpose: "charge".to_owned(),
        };
        revealer.detokenize(&stack::cards()?, &ask).await?;
        stack.administrator()?.status().await?;
    }
    stack.vault.terminate().await?;
    stack.gateway.as_mut().context("a gateway")?.terminate().await?;
    for (daemon, reason) in
        [("vault", "unauthenticated"), ("vault", "no-certificate"), ("gateway", "unknown-route")]
    {
        let refused = lines(&stack, daemon, |line| line["reason"] == reason);
        let (events, lines) = counted(&refused);
        assert_eq!(events, u64::from(FLOOD), "{reason}: none is lost: {refused:?}");
        // Twenty in each minute the flood touched, and a count.
        assert!(lines < 90, "{reason}: {lines} lines");
        assert!(refused.iter().any(|line| line.get("since").is_some()), "{reason}");
    }
    for action in ["detokenize", "observe"] {
        let all = lines(&stack, "vault", |line| line["what"] == action && line["outcome"] == "allowed");
        assert!(all.len() >= usize::try_from(FLOOD)?, "{action}: {}", all.len());
        assert!(all.iter().all(|line| line.get("since").is_none()), "{action}");
    }
    Ok(())
}

const FLOOD: u32 = 120;
