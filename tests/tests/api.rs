//! The shape of the vault's API: batches, limits, problems, what machines read.

use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_card::Pan;
use cordon_tests::cards::{self, done};
use cordon_tests::https::{self, Answer};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{
    CreateCollection, InspectRequest, ItemResult, LookupItem, LookupRequest, ProblemCode, TokenProfile,
    TokenShapeChoice, TokenUse, TokenizeRequest,
};
use http::Request;
use http_body_util::Full;

async fn vault() -> Result<Stack> {
    Stack::start(Options { gateway: false, ..Options::default() }).await
}

async fn raw(stack: &Stack, method: &str, path: &str, body: impl Into<Bytes>) -> Result<Answer> {
    let tls = https::tls(&stack.authority.root(), Some(&stack.identity("gateway-ingress")))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "vault.cordon.test")
        .body(Full::new(body.into()))?;
    https::send(stack.vault.address("data")?, "vault.cordon.test", &tls, request).await
}

const TOKENIZE: &str = "/v1/collections/cards/tokenize";

#[tokio::test]
async fn a_bad_item_never_fails_its_neighbours() -> Result<()> {
    let stack = vault().await?;
    let body = format!(
        r#"{{"items":[{{"pan":"{0}"}},{{"pan":"4111111111111112"}},{{"pan":{0}}},{{"pan":"{1}","expiry":"13/99"}},
            {{"pan":"{1}","cvv":"12"}},{{"pan":"{0}","expiry":"12/30"}}]}}"#,
        cards::VISA,
        cards::AMEX
    );
    let answer = raw(&stack, "POST", TOKENIZE, body).await?;
    assert_eq!(answer.status, 200);
    let items = answer.json()?["items"].as_array().context("items")?.clone();
    let code = |index: usize| items[index]["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!(items[0]["ok"]["brand"], "visa");
    assert_eq!(items[0]["ok"]["last_four"], "1111");
    assert_eq!((code(1).as_str(), code(2).as_str()), ("bad-pan", "bad-pan"));
    assert_eq!((code(3).as_str(), code(4).as_str()), ("bad-expiry", "bad-cvv"));
    assert_eq!(items[5]["ok"], items[0]["ok"], "the same card twice in one batch has one token");
    Ok(())
}

#[tokio::test]
async fn what_is_not_a_call_is_a_problem_and_a_line() -> Result<()> {
    let stack = vault().await?;
    let many = format!(r#"{{"items":[{}{{"pan":"1"}}]}}"#, r#"{"pan":"1"},"#.repeat(1_000));
    let huge = format!(r#"{{"items":[],"x":"{}"}}"#, "x".repeat(3 * 1024 * 1024));
    let card = format!(r#"{{"items":[{{"pan":"{}"}}]}}"#, cards::VISA);
    let cases: Vec<(&str, &str, String, u16, &str)> = vec![
        ("POST", TOKENIZE, "{".to_owned(), 400, "malformed"),
        ("POST", TOKENIZE, r#"{"items":[],"more":1}"#.to_owned(), 400, "malformed"),
        ("POST", TOKENIZE, r#"{"items":[{"pan":"1","persist_cvv":true}]}"#.to_owned(), 400, "malformed"),
        ("POST", TOKENIZE, many, 413, "too-many-items"),
        ("POST", TOKENIZE, huge, 413, "too-large"),
        ("GET", TOKENIZE, String::new(), 405, "method-not-allowed"),
        ("POST", "/v1/collections/cards/export", card.clone(), 404, "unknown-route"),
        ("POST", "/v1/collections/nowhere/tokenize", card.clone(), 403, "denied"),
        ("POST", "/v1/collections/other/tokenize", card.clone(), 404, "unknown-collection"),
        ("POST", "/v1/collections/cards/lookup", card.replace("pan", "pam"), 400, "malformed"),
    ];
    for (method, path, body, status, code) in cases {
        let lines = stack.audit("vault").lines().count();
        let answer = raw(&stack, method, path, body).await?;
        assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (status, code), "{method} {path}");
        let audit = stack.audit("vault");
        assert!(
            audit.lines().skip(lines).any(|line| line.contains(code)),
            "{method} {path}: {code} is recorded"
        );
    }
    Ok(())
}

#[tokio::test]
async fn lookup_creates_nothing_and_inspect_shows_no_number() -> Result<()> {
    let stack = vault().await?;
    let (collection, client) = (stack::cards()?, stack.tokenizer("gateway-ingress")?);
    let visa = || Pan::parse(cards::VISA).context("a card");
    let look = |pan: Pan| LookupRequest { items: vec![LookupItem { pan: pan.into() }] };
    let first = |items: cordon_wire::Items<cordon_wire::LookupResult>| {
        done(items.items.into_iter().next().context("an item")?)
    };
    assert_eq!(first(client.lookup(&collection, &look(visa()?)).await?)?.card, None);
    let made = client.tokenize(&collection, &cards::only(visa()?)).await?;
    let made = done(made.items.into_iter().next().context("an item")?)?;
    let found = first(client.lookup(&collection, &look(visa()?)).await?)?.card.context("known now")?;
    assert_eq!((found.token.as_ref(), found.card_id), (Some(&made.token), made.card_id));
    let request = InspectRequest { items: vec![made.token.clone().into()] };
    let shown = stack.tokenizer("operator")?.inspect(&collection, &request).await?;
    let shown = done(shown.items.into_iter().next().context("an item")?)?;
    assert_eq!(shown.masked.to_string(), "************1111");
    Ok(())
}

#[tokio::test]
async fn profiles_shape_tokens_and_one_too_small_is_refused_with_its_arithmetic() -> Result<()> {
    let stack = vault().await?;
    let administrator = stack.administrator()?;
    let profile = |shape, usage| TokenProfile { shape, usage, keep_last_four: false, ttl_s: None };
    let tight = CreateCollection {
        name: cordon_card::CollectionName::parse("other").context("a name")?,
        profile: TokenProfile { keep_last_four: true, ..profile(TokenShapeChoice::Card, TokenUse::Multi) },
        expected_cards: 57_000_000,
    };
    match administrator.create_collection(&tight).await {
        Err(cordon_client::ClientError::Problem(problem)) => {
            assert_eq!(problem.code, ProblemCode::BadField);
            assert!(
                problem.detail.context("a detail")?.contains("57000000"),
                "the arithmetic is in the detail"
            );
        }
        other => anyhow::bail!("not refused: {other:?}"),
    }
    let single = CreateCollection { profile: profile(TokenShapeChoice::Uuid, TokenUse::Single), ..tight };
    administrator.create_collection(&single).await?;
    let client = stack.tokenizer("gateway-ingress")?;
    let two = TokenizeRequest { items: vec![cards::item(cards::bulk(1)?), cards::item(cards::bulk(1)?)] };
    let made = client.tokenize(&single.name, &two).await?.items;
    let made: Vec<_> = made.into_iter().map(done).collect::<Result<_>>()?;
    assert_ne!(made[0].token, made[1].token, "single-use: another token each time");
    assert_eq!(made[0].card_id, made[1].card_id, "and one card");
    Ok(())
}

#[tokio::test]
async fn machines_read_health_readiness_and_metrics() -> Result<()> {
    let stack = vault().await?;
    let address = stack.vault.address("metrics")?;
    raw(&stack, "POST", TOKENIZE, format!(r#"{{"items":[{{"pan":"{}"}}]}}"#, cards::VISA)).await?;
    assert_eq!(https::send_plain(address, "/health").await?.status, 200);
    assert_eq!(https::send_plain(address, "/ready").await?.status, 200);
    let metrics = String::from_utf8(https::send_plain(address, "/metrics").await?.body)?;
    for wanted in
        [r#"calls_total{call="tokenize",status="2xx"} 1"#, "unsealed 1", "call_latency_seconds_bucket"]
    {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
    stack.administrator()?.seal().await?;
    assert_eq!(https::send_plain(address, "/ready").await?.status, 503);
    assert_eq!(https::send_plain(address, "/health").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn status_tells_what_an_operator_needs() -> Result<()> {
    let stack = vault().await?;
    let status = stack.administrator()?.status().await?;
    assert_eq!(status.collections, 1);
    assert!(status.audit_size > 0 && status.store.sequence > 0);
    assert!(status.hardening.iter().any(|item| item.name == "core_dumps_off" && item.in_force));
    let page = stack.administrator()?.audit_page(0, 3).await?;
    assert_eq!((page.lines.len(), page.next), (3, 3));
    assert!(page.lines[0].contains("audit-open"), "{}", page.lines[0]);
    let answer =
        stack.tokenizer("gateway-ingress")?.tokenize(&stack::cards()?, &cards::only(cards::bulk(3)?)).await?;
    assert!(matches!(answer.items[0], ItemResult::Ok(_)));
    Ok(())
}
