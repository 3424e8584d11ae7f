//! Security codes from the browser to the processor: given out once, gone at the first answer, at their time, at a
//! restart, and in no file at any time (PCI DSS 3.3.1).

#![expect(clippy::indexing_slicing, reason = "an end-to-end test: a panic is a failed assertion")]

use anyhow::{Context, Result};
use cordon_archive::{BackupReader, Identities};
use cordon_card::{Cvv, Token};
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_tests::stub::{self, Received};
use cordon_tests::{https, memory, search};
use cordon_wire::{
    DeleteRequest, DetokenizeItem, ItemResult, ProblemCode, Revealed, SettleRequest, TokenizeItem,
    TokenizeRequest,
};
use serde_json::json;
use std::sync::Arc;

/// Signs up with a security code and gives the token.
async fn sign_up(stack: &Stack, code: &str) -> Result<Token> {
    let body = json!({"card": {"number": cards::VISA, "expiry": "12/30", "cvc": code}});
    assert_eq!(stack.browser("/signup", "application/json", body.to_string()).await?.status, 201);
    let received = stack.signup.requests().pop().context("a signup")?;
    let body: serde_json::Value = serde_json::from_slice(&received.body)?;
    assert_eq!(body["card"]["cvc"], "held", "the service gets a word in its place");
    Token::parse(body["card"]["number"].as_str().context("a token")?).ok().context("a token")
}

/// Charges it, with or without its code.
async fn charge(stack: &Stack, token: &Token, with_code: bool) -> Result<https::Answer> {
    let mut body = json!({"amount": 5, "card": {"number": token.as_str(), "expiry": "-"}});
    if with_code {
        body["card"]["cvc"] = "held".into();
    }
    stack.charge("signup", "/v1/charges", &body).await
}

async fn held(stack: &Stack) -> Result<u64> {
    Ok(stack.administrator()?.status().await?.held_cvvs)
}

/// Charging with the code is refused as 410 and the processor gets nothing of it.
async fn assert_code_gone(stack: &Stack, token: &Token) -> Result<()> {
    let before = stack.processor.bytes().len();
    let answer = charge(stack, token, true).await?;
    assert_eq!((answer.status.as_u16(), answer.problem()?.as_str()), (410, "code-gone"));
    assert_eq!(search::find(cards::VISA, &answer.body), None);
    assert_eq!(stack.processor.bytes().len(), before, "nothing was sent");
    Ok(())
}

#[tokio::test]
async fn a_code_is_given_out_once_and_a_second_read_is_410() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let token = sign_up(&stack, "739").await?;
    assert_eq!(held(&stack).await?, 1);
    assert_eq!(charge(&stack, &token, true).await?.status, 200);
    let sent = stack.processor.requests().pop().context("a charge")?;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&sent.body)?["card"]["cvc"], "739");
    assert_eq!(held(&stack).await?, 0);
    assert_code_gone(&stack, &token).await?;
    assert_eq!(charge(&stack, &token, false).await?.status, 200, "the card itself stays");
    let audit = stack.audit("vault");
    let lines: Vec<_> = audit.lines().filter(|line| line.contains("security-code")).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("given-out") && lines[0].contains(token.as_str()),
        "{lines:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_first_answer_wipes_a_code_that_was_not_taken_approved_or_declined() -> Result<()> {
    for status in [200, 402, 500] {
        let processor = Arc::new(move |_: &Received| stub::json(status, &json!({"status": "as it is"})));
        let stack = Stack::start(Options { processor, ..Options::default() }).await?;
        let token = sign_up(&stack, "739").await?;
        assert_eq!(held(&stack).await?, 1);
        assert_eq!(charge(&stack, &token, false).await?.status, status);
        assert_eq!(held(&stack).await?, 0, "before the caller has the answer");
        assert_code_gone(&stack, &token).await?;
        let audit = stack.audit("vault");
        let line = audit.lines().find(|line| line.contains("wiped.answered")).context("a line")?;
        assert!(line.contains(token.as_str()) && line.contains("egress-settles"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_may_not_be_passed_on_ends_a_code_too_and_no_answer_does_not() -> Result<()> {
    let processor = Arc::new(|_: &Received| stub::json(200, &json!({"echo": cards::VISA})));
    let mut stack = Stack::start(Options { processor, ..Options::default() }).await?;
    let token = sign_up(&stack, "739").await?;
    assert_eq!(charge(&stack, &token, false).await?.status, 502);
    assert_eq!(held(&stack).await?, 0);
    // A processor that is not there authorizes nothing: the charge may be tried again with the code.
    let token = sign_up(&stack, "739").await?;
    let segments = std::fs::read_to_string(stack.dir().join("policies/segments.toml"))?;
    let nowhere = segments.replace(&stack.processor.address.to_string(), "127.0.0.1:1");
    std::fs::write(stack.dir().join("policies/segments.toml"), nowhere)?;
    stack.gateway = None;
    stack.start_gateway()?;
    assert_eq!(charge(&stack, &token, false).await?.status, 502);
    assert_eq!(held(&stack).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_restart_and_a_seal_forget_every_code() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let token = sign_up(&stack, "739").await?;
    stack.vault.kill()?;
    stack.restart_vault()?;
    stack.unseal().await?;
    assert_eq!(held(&stack).await?, 0);
    assert_code_gone(&stack, &token).await?;
    let token = sign_up(&stack, "740").await?;
    stack.administrator()?.seal().await?;
    stack.unseal().await?;
    assert_eq!(held(&stack).await?, 0);
    assert_code_gone(&stack, &token).await
}

#[tokio::test]
async fn a_code_ends_with_its_time_without_anybody_asking() -> Result<()> {
    let stack = Stack::start(Options { vault_tables: "[sad]\nttl_s = 1\n", ..Options::default() }).await?;
    let token = sign_up(&stack, "739").await?;
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    while held(&stack).await? > 0 {
        assert!(std::time::Instant::now() < deadline, "it is swept");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_code_gone(&stack, &token).await
}

fn settle_request(token: &Token) -> SettleRequest {
    let request = cards::reveal(token);
    SettleRequest {
        service: request.service,
        destination: request.destination,
        purpose: request.purpose,
        route: request.route,
        items: vec![token.clone().into()],
    }
}

fn with_code(n: u64, code: &str) -> Result<TokenizeItem> {
    let cvv = Cvv::parse(code).ok().context("a code")?;
    Ok(TokenizeItem { cvv: Some(cvv.into()), ..cards::item(cards::bulk(n)?) })
}

async fn tokenize(stack: &Stack, items: Vec<TokenizeItem>) -> Result<Vec<Token>> {
    let request = TokenizeRequest { items };
    let answer = stack.tokenizer("gateway-ingress")?.tokenize(&stack::cards()?, &request).await?;
    answer.items.into_iter().map(|item| Ok(done(item)?.token)).collect()
}

async fn reveal(stack: &Stack, token: &Token, cvv: bool) -> Result<ItemResult<Revealed>> {
    let mut request = cards::reveal(token);
    request.items = vec![DetokenizeItem { token: token.clone().into(), cvv }];
    let answer = stack.revealer("gateway-egress")?.detokenize(&stack::cards()?, &request).await?;
    answer.items.into_iter().next().context("an item")
}

#[tokio::test]
async fn settling_is_for_the_egress_alone_and_tells_nothing() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let collection = stack::cards()?;
    let held_one = tokenize(&stack, vec![with_code(1, "123")?]).await?.remove(0);
    let none = tokenize(&stack, vec![cards::item(cards::bulk(2)?)]).await?.remove(0);
    for service in ["signup", "gateway-ingress", "operator", "monitor"] {
        match stack.revealer(service)?.settle(&collection, &settle_request(&held_one)).await {
            Err(ClientError::Problem(problem)) => assert_eq!(problem.code, ProblemCode::Denied, "{service}"),
            other => anyhow::bail!("{service}: {other:?}"),
        }
    }
    let egress = stack.revealer("gateway-egress")?;
    assert!(matches!(reveal(&stack, &held_one, false).await?, ItemResult::Ok(card) if card.code_held));
    assert!(matches!(reveal(&stack, &none, false).await?, ItemResult::Ok(card) if !card.code_held));
    let answers = [
        egress.settle(&collection, &settle_request(&held_one)).await?,
        egress.settle(&collection, &settle_request(&none)).await?,
    ];
    for (answer, token) in answers.into_iter().zip([&held_one, &none]) {
        let settled = done(answer.items.into_iter().next().context("an item")?)?;
        assert_eq!(&settled.token, token, "the same answer whether a code was held or not");
    }
    assert_eq!(held(&stack).await?, 0);
    // The item carries the status that a call of its own would have, and nothing of the card.
    match reveal(&stack, &held_one, true).await? {
        ItemResult::Error(problem) => {
            assert_eq!((problem.code, problem.status), (ProblemCode::CodeGone, 410))
        }
        ItemResult::Ok(_) => anyhow::bail!("a settled code was given out"),
    }
    Ok(())
}

#[tokio::test]
async fn deleting_a_token_wipes_its_code_and_metadata_takes_none() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let token = tokenize(&stack, vec![with_code(1, "123")?]).await?.remove(0);
    assert_eq!(held(&stack).await?, 1);
    let request = DeleteRequest { items: vec![token.into()] };
    stack.tokenizer("operator")?.delete(&stack::cards()?, &request).await?;
    assert_eq!(held(&stack).await?, 0);
    for key in ["cvv", "Card-CVC", "security_code", "track2", "PIN"] {
        let metadata = Some([(key.to_owned(), "7391".to_owned())].into());
        let items =
            vec![TokenizeItem { metadata, ..cards::item(cards::bulk(3)?) }, cards::item(cards::bulk(4)?)];
        let request = TokenizeRequest { items };
        let answer = stack.tokenizer("gateway-ingress")?.tokenize(&stack::cards()?, &request).await?;
        let codes: Vec<_> = answer
            .items
            .iter()
            .map(|item| match item {
                ItemResult::Ok(_) => None,
                ItemResult::Error(problem) => Some((problem.code, problem.status)),
            })
            .collect();
        assert_eq!(codes, [Some((ProblemCode::MetadataForbidden, 422)), None], "{key}");
    }
    Ok(())
}

/// Cards whose code is the canary, held at once.
const CANARIES: u64 = 400;
/// Calls after them, without a code.
const CHURN: u64 = 600;
/// Four digits, as American Express has them.
const CANARY: &str = "7391";

/// What the canary's bare digits are counted under.
const BARE: &str = "bare";
/// What the forms beside a name are counted under.
const NAMED: &str = "named";

/// Every form in which the canary stands beside what names it.
fn in_context() -> Vec<Vec<u8>> {
    [
        "\"cvv\":\"7391\"",
        "\"cvv\": \"7391\"",
        "cvv=7391",
        "cvc=7391",
        "\"cvc\":\"7391\"",
        "Cvv(7391",
        "7391\"}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// What is looked for in memory: the canary, and the tokens that must be there.
fn needles(tokens: &[Token]) -> Vec<(String, Vec<u8>)> {
    let named = in_context().into_iter().map(|form| (NAMED.to_owned(), form));
    let bare = (BARE.to_owned(), CANARY.as_bytes().to_vec());
    let tokens = tokens
        .iter()
        .step_by(40)
        .map(|token| (token.as_str().to_owned(), token.as_str().as_bytes().to_vec()));
    named.chain([bare]).chain(tokens).collect()
}

/// Takes a backup and decrypts it: its rows, and how many they are.
async fn backup(stack: &Stack, key: &Identities) -> Result<(u64, Vec<u8>)> {
    let mut sealed = Vec::new();
    let take = |bytes: &[u8]| {
        sealed.extend_from_slice(bytes);
        Ok(())
    };
    stack.administrator()?.backup(take).await?;
    let mut reader = BackupReader::new(key.open(sealed.as_slice())?)?;
    let (mut count, mut rows) = (0, Vec::new());
    while let Some((key, value)) = reader.next_row()? {
        rows.extend_from_slice(&key);
        rows.extend_from_slice(&value);
        count += 1;
    }
    Ok((count, rows))
}

#[tokio::test]
async fn a_canary_code_is_in_no_file_backup_log_or_metric_and_is_held_sealed_in_memory() -> Result<()> {
    let key = age::x25519::Identity::generate();
    let recipients = vec![key.to_public().to_string()];
    let key = Identities::parse(age::secrecy::ExposeSecret::expose_secret(&key.to_string()).as_bytes())?;
    let mut stack = Stack::start(Options { gateway: false, recipients, ..Options::default() }).await?;
    let bare_before = memory::scan(stack.vault.id(), &needles(&[]))?.count(BARE);
    let (client, collection) = (stack.tokenizer("gateway-ingress")?, stack::cards()?);
    let mut tokens = Vec::new();
    for n in 0..CANARIES {
        let request = TokenizeRequest { items: vec![with_code(n, CANARY)?] };
        let answer = client.tokenize(&collection, &request).await?;
        tokens.push(done(answer.items.into_iter().next().context("an item")?)?.token);
    }
    assert_eq!(held(&stack).await?, CANARIES);
    // Buffers of the HTTP library keep what they carried last until they carry something else: let the same connection
    // do that. What is left then is what the vault keeps.
    for n in 0..CHURN {
        let metadata = Some([("note".to_owned(), "-".repeat(600))].into());
        let item = TokenizeItem { metadata, ..cards::item(cards::bulk(CANARIES + n)?) };
        client.tokenize(&collection, &TokenizeRequest { items: vec![item] }).await?;
    }
    assert_eq!(held(&stack).await?, CANARIES);
    let seen = memory::scan(stack.vault.id(), &needles(&tokens))?;
    for token in tokens.iter().step_by(40) {
        assert!(seen.count(token.as_str()) > 0, "positive control: a held code's token is in memory");
    }
    let bare = seen.count(BARE).saturating_sub(bare_before);
    println!("canary in memory: {bare} times bare, {} times named, {CANARIES} held", seen.count(NAMED));
    for hit in seen.hits.iter().filter(|hit| hit.what == BARE || hit.what == NAMED) {
        println!("{} at {:x} in {}: {}", hit.what, hit.address, hit.mapping, hit.around);
    }
    assert_eq!(seen.count(NAMED), 0, "no code is in memory beside its name");
    // A plain copy of each would be 400. Four digits also turn up by chance in tokens, ids and times.
    assert!(u64::try_from(bare)? < CANARIES / 10, "{bare} of {CANARIES} codes are in memory in clear");
    // What leaves the process: nothing of it.
    let metrics = https::send_plain(stack.vault.address("metrics")?, "/metrics").await?.body;
    let (rows, backup) = backup(&stack, &key).await?;
    assert!(rows > CANARIES + CHURN, "the backup holds the cards: {rows} rows");
    stack.vault.terminate().await?;
    let log = stack.vault.log().into_bytes();
    assert!(!log.is_empty() && !metrics.is_empty());
    let mut places = search::files(&stack.vault_data());
    places.push(("log".into(), log));
    places.push(("metrics".into(), metrics));
    places.push(("backup".into(), backup));
    assert!(places.iter().any(|(_, bytes)| search::contains(bytes, tokens[0].as_str().as_bytes())));
    for (place, bytes) in &places {
        for form in in_context() {
            assert!(!search::contains(bytes, &form), "{} holds the code beside its name", place.display());
        }
    }
    // Four digits turn up by chance in ciphertext and random names, once in 10,000 places, but not with each card.
    let files: usize = places.iter().map(|(_, bytes)| search::count(bytes, CANARY.as_bytes())).sum();
    assert!(u64::try_from(files)? < CANARIES / 10, "the digits stand {files} times in files");
    Ok(())
}
