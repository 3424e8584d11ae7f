//! Who may talk to what: certificates, services, and equal answers to those who guess.

use anyhow::{Context, Result};
use cordon_card::{Environment, Token};
use cordon_client::{Administrator, ClientError, Endpoint, Revealer, Tokenizer};
use cordon_tests::cards::{self, done};
use cordon_tests::pki::Authority;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::ProblemCode;

fn code<T: std::fmt::Debug>(result: std::result::Result<T, ClientError>) -> Result<ProblemCode> {
    match result {
        Err(ClientError::Problem(problem)) => Ok(problem.code),
        other => anyhow::bail!("no problem document: {other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_none_gets_no_answer() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let other = Authority::new(stack.dir(), "other")?;
    let files = other.client("gateway-ingress")?;
    let roots = stack.authority.root();
    let address = stack.vault.address("data")?;
    let endpoint =
        Endpoint::from_files(&address.to_string(), "vault.cordon.test", &roots, &files.cert, &files.key)?;
    let answer = Tokenizer::new(endpoint).tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await;
    assert!(matches!(answer, Err(ClientError::Unreachable(_))), "{answer:?}");
    let tls = cordon_tests::https::tls(&roots, None)?;
    let request = http::Request::get("/v1/status").body(http_body_util::Full::default())?;
    assert!(cordon_tests::https::send(address, "vault.cordon.test", &tls, request).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_known_authority_with_an_unknown_service_is_unauthenticated_and_audited() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.authority.client("stranger")?;
    let answer = stack.tokenizer("stranger")?.tokenize(&stack::cards()?, &cards::only(cards::bulk(1)?)).await;
    assert_eq!(code(answer)?, ProblemCode::Unauthenticated);
    let audit = stack.audit("vault");
    let line = audit.lines().last().context("a line")?;
    assert!(line.contains("denied") && line.contains("unauthenticated"), "{line}");
    Ok(())
}

#[tokio::test]
async fn each_service_can_do_its_own_part_only() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let collection = stack::cards()?;
    let answer =
        stack.tokenizer("gateway-ingress")?.tokenize(&collection, &cards::only(cards::bulk(5)?)).await?;
    let token = done(answer.items.into_iter().next().context("an item")?)?.token;
    for service in ["signup", "billing", "gateway-ingress", "operator", "monitor"] {
        let revealed = stack.revealer(service)?.detokenize(&collection, &cards::reveal(&token)).await;
        assert_eq!(code(revealed)?, ProblemCode::Denied, "{service} can't reveal");
        assert!(stack.audit("vault").lines().last().context("a line")?.contains("denied"));
    }
    for service in ["signup", "gateway-egress", "monitor"] {
        let made = stack.tokenizer(service)?.tokenize(&collection, &cards::only(cards::bulk(6)?)).await;
        assert_eq!(code(made)?, ProblemCode::Denied, "{service} can't tokenize");
    }
    let revealer = stack.revealer("gateway-egress")?;
    let mut request = cards::reveal(&token);
    request.service = "billing".to_owned();
    assert_eq!(code(revealer.detokenize(&collection, &request).await)?, ProblemCode::Denied);
    let mut request = cards::reveal(&token);
    request.destination = "other-processor".to_owned();
    assert_eq!(code(revealer.detokenize(&collection, &request).await)?, ProblemCode::Denied);
    let mut request = cards::reveal(&token);
    request.purpose = "curiosity".to_owned();
    assert_eq!(code(revealer.detokenize(&collection, &request).await)?, ProblemCode::Denied);
    let answer = revealer.detokenize(&collection, &cards::reveal(&token)).await?;
    let card = done(answer.items.into_iter().next().context("an item")?)?;
    let pan = card.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
    assert_eq!(pan.expose(), cards::bulk(5)?.expose());
    Ok(())
}

#[tokio::test]
async fn administration_is_for_the_operator_alone_and_on_its_own_listener() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let roots = stack.authority.root();
    for service in ["signup", "gateway-ingress", "gateway-egress"] {
        let files = stack.identity(service);
        let address = stack.vault.address("admin")?.to_string();
        let endpoint = Endpoint::from_files(&address, "vault.cordon.test", &roots, &files.cert, &files.key)?;
        assert_eq!(code(Administrator::new(endpoint).seal().await)?, ProblemCode::Denied, "{service}");
    }
    let files = stack.identity("operator");
    let address = stack.vault.address("data")?.to_string();
    let endpoint = Endpoint::from_files(&address, "vault.cordon.test", &roots, &files.cert, &files.key)?;
    assert_eq!(code(Administrator::new(endpoint).seal().await)?, ProblemCode::UnknownRoute);
    Ok(())
}

/// The answer to one token, as bytes, without what differs by request (the request's id).
async fn answer_to(stack: &Stack, service: &str, call: &str, body: &impl serde::Serialize) -> Result<String> {
    let request = http::Request::post(format!("/v1/collections/cards/{call}"))
        .header("host", "vault.cordon.test")
        .header("cordon-request-id", "the-same")
        .body(http_body_util::Full::new(serde_json::to_vec(body)?.into()))?;
    let tls = cordon_tests::https::tls(&stack.authority.root(), Some(&stack.identity(service)))?;
    let address = stack.vault.address("data")?;
    let mut answer = cordon_tests::https::send(address, "vault.cordon.test", &tls, request).await?;
    answer.headers.remove("date");
    Ok(format!("{} {:?} {}", answer.status, answer.headers, String::from_utf8_lossy(&answer.body)))
}

/// Tokens that this caller must not tell apart: drawn by nobody, another collection's, expired, deleted.
async fn tokens_that_are_not_there(stack: &Stack) -> Result<[Token; 4]> {
    let administrator = stack.administrator()?;
    let request = cordon_wire::InitRequest {
        seal: cordon_wire::SealKind::DevFile,
        custodians: Vec::new(),
        threshold: 3,
    };
    administrator.init(&request).await?;
    stack.unseal().await?;
    let create = |name, ttl_s| cordon_wire::CreateCollection {
        name,
        profile: cordon_wire::TokenProfile { ttl_s, ..cordon_wire::TokenProfile::default() },
        expected_cards: 1_000,
    };
    let (collection, other) =
        (stack::cards()?, cordon_card::CollectionName::parse("other").context("a name")?);
    administrator.create_collection(&create(collection.clone(), Some(1))).await?;
    administrator.create_collection(&create(other.clone(), None)).await?;
    let tokenizer = stack.tokenizer("gateway-ingress")?;
    let made = async |collection, n| -> Result<Token> {
        let answer = tokenizer.tokenize(collection, &cards::only(cards::bulk(n)?)).await?;
        Ok(done(answer.items.into_iter().next().context("an item")?)?.token)
    };
    let foreign = made(&other, 1).await?;
    let deleted = made(&collection, 2).await?;
    let request = cordon_wire::DeleteRequest { items: vec![deleted.clone().into()] };
    stack.tokenizer("operator")?.delete(&collection, &request).await?;
    let expired = made(&collection, 3).await?;
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    let inspect = cordon_wire::InspectRequest { items: vec![expired.clone().into()] };
    while answer_to(stack, "operator", "inspect", &inspect).await?.contains("masked") {
        anyhow::ensure!(std::time::Instant::now() < deadline, "it expires");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok([Token::opaque(Environment::Dev, &[3; 17]), foreign, expired, deleted])
}

#[tokio::test]
async fn unknown_foreign_expired_and_deleted_tokens_get_the_same_bytes() -> Result<()> {
    let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    let tokens = tokens_that_are_not_there(&stack).await?;
    let mut answers: [Vec<String>; 3] = Default::default();
    for token in &tokens {
        let inspect = cordon_wire::InspectRequest { items: vec![token.clone().into()] };
        let delete = cordon_wire::DeleteRequest { items: vec![token.clone().into()] };
        let given = [
            answer_to(&stack, "gateway-egress", "detokenize", &cards::reveal(token)).await?,
            answer_to(&stack, "operator", "inspect", &inspect).await?,
            answer_to(&stack, "operator", "delete", &delete).await?,
        ];
        for (all, one) in answers.iter_mut().zip(given) {
            all.push(one);
        }
    }
    for all in &answers {
        assert!(all.iter().all(|one| Some(one) == all.first()), "{all:#?}");
        assert!(all.iter().all(|one| one.contains("token-not-found")), "{all:#?}");
    }
    // In one batch too, in any place of it.
    let answer =
        stack.revealer("gateway-egress")?.detokenize(&stack::cards()?, &cards::reveal_all(&tokens)).await?;
    let items = answer.items.iter().map(serde_json::to_string).collect::<std::result::Result<Vec<_>, _>>()?;
    assert!(items.iter().all(|item| Some(item) == items.first()), "{items:#?}");
    Ok(())
}

#[tokio::test]
async fn a_revealer_for_an_unsealed_vault_only() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    stack.administrator()?.seal().await?;
    let revealer: Revealer = stack.revealer("gateway-egress")?;
    let token = Token::opaque(Environment::Dev, &[3; 17]);
    assert_eq!(
        code(revealer.detokenize(&stack::cards()?, &cards::reveal(&token)).await)?,
        ProblemCode::Sealed
    );
    assert!(stack.audit("vault").lines().last().context("a line")?.contains("sealed"));
    Ok(())
}
