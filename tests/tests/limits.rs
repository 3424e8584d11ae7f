//! Limits of the vault: per range of card numbers, per client, and on tokens that do not exist.

use anyhow::{Context, Result};
use cordon_card::{Environment, Pan, Token};
use cordon_client::{ClientError, Tokenizer};
use cordon_tests::cards::{self, done};
use cordon_tests::https;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{ItemResult, LookupItem, LookupRequest, ProblemCode, TokenizeRequest};

async fn vault(tables: &'static str) -> Result<Stack> {
    Stack::start(Options { gateway: false, vault_tables: tables, ..Options::default() }).await
}

/// Different card numbers with one issuer number and one last four, as a guesser has them who knows these twelve digits.
fn guesses() -> Vec<Pan> {
    (0..10_000).filter_map(|middle| Pan::parse(&format!("00000000{middle:04}4242")).ok()).collect()
}

/// The code of each item, none where it was done.
async fn tokenize(client: &Tokenizer, pans: &[Pan]) -> Result<Vec<Option<ProblemCode>>> {
    let items = pans.iter().map(|pan| cards::item(pan.duplicate())).collect();
    let answer = client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?;
    let code = |item| match item {
        ItemResult::Ok(_) => None,
        ItemResult::Error(problem) => Some(problem.code),
    };
    Ok(answer.items.into_iter().map(code).collect())
}

async fn metric(stack: &Stack, line: &str) -> Result<bool> {
    let text = https::send_plain(stack.vault.address("metrics")?, "/metrics").await?.body;
    Ok(String::from_utf8_lossy(&text).lines().any(|found| found.starts_with(line)))
}

#[tokio::test]
async fn guessing_the_middle_digits_ends_after_few_and_known_cards_are_refused_alike() -> Result<()> {
    let stack = vault("[limits]\ncards_per_range = 20\n").await?;
    let client = stack.tokenizer("gateway-ingress")?;
    let guesses = guesses();
    assert!(guesses.len() >= 900, "a thousand candidates at twelve known digits: {}", guesses.len());
    // Ten of the numbers are cards that were there before.
    let (known, rest) = guesses.split_at_checked(10).context("enough numbers")?;
    assert!(tokenize(&client, known).await?.iter().all(Option::is_none));
    let mut passed = 0;
    for batch in rest.chunks(100) {
        passed += tokenize(&client, batch).await?.iter().filter(|code| code.is_none()).count();
    }
    assert!((4..=25).contains(&passed), "{passed} guesses passed, ten were cards already");
    let limit = Some(ProblemCode::LimitReached);
    assert!(
        tokenize(&client, known).await?.iter().all(|code| *code == limit),
        "known cards look like the others"
    );
    assert_eq!(
        tokenize(&client, &[cards::bulk(1)?, cards::bulk(2)?]).await?,
        [None, None],
        "other ranges go on"
    );
    // Looking up is no way around it.
    let items = known.iter().map(|pan| LookupItem { pan: pan.duplicate().into() }).collect();
    let looked = client.lookup(&stack::cards()?, &LookupRequest { items }).await?;
    assert!(looked.items.into_iter().all(|item| done(item).is_err()));
    assert!(metric(&stack, "cordon_vault_limited_total{limit=\"limit-reached.range\"}").await?);
    assert!(stack.audit("vault").contains("\"reason\":\"limit-reached\""));
    Ok(())
}

#[tokio::test]
async fn a_client_over_its_limit_is_told_when_to_come_again() -> Result<()> {
    let stack = vault("[limits]\nlookups_per_minute = 5\ncards_per_second = 3\n").await?;
    let client = stack.tokenizer("gateway-ingress")?;
    let look = |count: u64| -> Result<LookupRequest> {
        let items =
            (0..count).map(|n| Ok(LookupItem { pan: cards::bulk(n)?.into() })).collect::<Result<_>>()?;
        Ok(LookupRequest { items })
    };
    assert!(client.lookup(&stack::cards()?, &look(5)?).await.is_ok());
    match client.lookup(&stack::cards()?, &look(1)?).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!((problem.code, problem.status), (ProblemCode::LimitReached, 429))
        }
        other => anyhow::bail!("not refused: {other:?}"),
    }
    assert!(stack.audit("vault").lines().last().context("a line")?.contains("limit-reached.lookups"));
    let body = serde_json::to_vec(&TokenizeRequest {
        items: (0..4).map(|n| Ok(cards::item(cards::bulk(n)?))).collect::<Result<_>>()?,
    })?;
    let request = http::Request::post("/v1/collections/cards/tokenize")
        .header("host", "vault.cordon.test")
        .body(http_body_util::Full::new(body.into()))?;
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("gateway-ingress")))?;
    let answer = https::send(stack.vault.address("data")?, "vault.cordon.test", &tls, request).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (429, "limit-reached"));
    let wait: u64 = answer.headers.get("retry-after").context("a time")?.to_str()?.parse()?;
    assert!((1..=2).contains(&wait), "{wait}");
    Ok(())
}

#[tokio::test]
async fn a_storm_of_unknown_tokens_locks_the_service_behind_it_and_no_other() -> Result<()> {
    let stack = vault("[limits]\nmisses = 20\n").await?;
    let client = stack.tokenizer("gateway-ingress")?;
    let answer = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await?;
    let token = done(answer.items.into_iter().next().context("an item")?)?.token;
    let revealer = stack.revealer("gateway-egress")?;
    let guesses: Vec<_> = (0..20).map(|n| Token::opaque(Environment::Dev, &[n; 17])).collect();
    revealer.detokenize(&stack::cards()?, &cards::reveal_all(&guesses)).await?;
    match revealer.detokenize(&stack::cards()?, &cards::reveal(&token)).await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.code, ProblemCode::LimitReached),
        other => anyhow::bail!("not locked: {other:?}"),
    }
    assert!(stack.audit("vault").lines().last().context("a line")?.contains("limit-reached.misses"));
    // The same gateway acting for another service, and other callers.
    let mut request = cards::reveal(&token);
    (request.service, request.route) = ("renewals".to_owned(), "charge-elsewhere".to_owned());
    request.destination = "other-processor".to_owned();
    let other = revealer.detokenize(&stack::cards()?, &request).await?;
    done(other.items.into_iter().next().context("an item")?)?;
    let request = cordon_wire::InspectRequest { items: vec![token.into()] };
    stack.tokenizer("operator")?.inspect(&stack::cards()?, &request).await?;
    assert!(metric(&stack, "cordon_vault_limited_total{limit=\"limit-reached.misses\"} 1").await?);
    Ok(())
}
