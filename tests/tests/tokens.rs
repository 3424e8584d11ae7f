//! The life of a token: what a repeated tokenization changes, single use, expiry, deletion.

use anyhow::{Context, Result};
use cordon_card::{CollectionName, Expiry, Pan, Token};
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{
    CreateCollection, DeleteRequest, InspectRequest, Inspected, ProblemCode, Revealed, TokenProfile,
    TokenShapeChoice, TokenUse, TokenizeItem, TokenizeRequest, Tokenized,
};

async fn vault() -> Result<Stack> {
    Stack::start(Options { gateway: false, ..Options::default() }).await
}

async fn tokenize(stack: &Stack, collection: &CollectionName, item: TokenizeItem) -> Result<Tokenized> {
    let request = TokenizeRequest { items: vec![item] };
    let answer = stack.tokenizer("gateway-ingress")?.tokenize(collection, &request).await?;
    done(answer.items.into_iter().next().context("an item")?)
}

async fn reveal(stack: &Stack, token: &Token) -> Result<std::result::Result<Revealed, ProblemCode>> {
    let answer =
        stack.revealer("gateway-egress")?.detokenize(&stack::cards()?, &cards::reveal(token)).await?;
    Ok(match answer.items.into_iter().next().context("an item")? {
        cordon_wire::ItemResult::Ok(card) => Ok(card),
        cordon_wire::ItemResult::Error(problem) => Err(problem.code),
    })
}

async fn inspect(stack: &Stack, collection: &CollectionName, token: &Token) -> Result<Inspected> {
    let request = InspectRequest { items: vec![token.clone().into()] };
    let answer = stack.tokenizer("operator")?.inspect(collection, &request).await?;
    done(answer.items.into_iter().next().context("an item")?)
}

fn expiry(text: &str) -> Result<Expiry> {
    Expiry::parse(text).context("an expiry")
}

#[tokio::test]
async fn a_new_expiry_replaces_the_kept_one_and_its_absence_does_not() -> Result<()> {
    let (stack, collection) = (vault().await?, stack::cards()?);
    let item = |expiry: Option<Expiry>| -> Result<TokenizeItem> {
        Ok(TokenizeItem { expiry: expiry.map(Into::into), ..cards::item(cards::bulk(7)?) })
    };
    let first = tokenize(&stack, &collection, item(Some(expiry("12/30")?))?).await?;
    let again = tokenize(&stack, &collection, item(None)?).await?;
    assert_eq!(first, again);
    assert_eq!(inspect(&stack, &collection, &first.token).await?.expiry, Some(expiry("12/30")?));
    let third = tokenize(&stack, &collection, item(Some(expiry("01/35")?))?).await?;
    assert_eq!(first, third, "a reissued card keeps its token");
    let card = reveal(&stack, &first.token).await?.map_err(|code| anyhow::anyhow!("{code:?}"))?;
    assert_eq!(card.expiry, Some(expiry("01/35")?));
    Ok(())
}

#[tokio::test]
async fn a_deleted_card_is_gone_and_comes_back_as_another() -> Result<()> {
    let (stack, collection) = (vault().await?, stack::cards()?);
    let first = tokenize(&stack, &collection, cards::item(cards::bulk(9)?)).await?;
    let request = DeleteRequest { items: vec![first.token.clone().into()] };
    let operator = stack.tokenizer("operator")?;
    done(operator.delete(&collection, &request).await?.items.into_iter().next().context("an item")?)?;
    assert_eq!(reveal(&stack, &first.token).await?.err(), Some(ProblemCode::TokenNotFound));
    assert!(
        done(operator.delete(&collection, &request).await?.items.into_iter().next().context("one")?).is_err()
    );
    let second = tokenize(&stack, &collection, cards::item(cards::bulk(9)?)).await?;
    assert!(first.token != second.token && first.card_id != second.card_id, "nothing of the old one is left");
    Ok(())
}

/// A stack whose collection `cards` has this profile instead of the default one.
async fn with_profile(profile: TokenProfile) -> Result<Stack> {
    let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    let administrator = stack.administrator()?;
    let request = cordon_wire::InitRequest {
        seal: cordon_wire::SealKind::DevFile,
        custodians: Vec::new(),
        threshold: 3,
    };
    administrator.init(&request).await?;
    stack.unseal().await?;
    let create = CreateCollection { name: stack::cards()?, profile, expected_cards: 1_000 };
    administrator.create_collection(&create).await?;
    Ok(stack)
}

#[tokio::test]
async fn a_single_use_token_reveals_once_whoever_races_for_it() -> Result<()> {
    let shape = TokenShapeChoice::Card;
    let stack =
        with_profile(TokenProfile { shape, keep_last_four: true, usage: TokenUse::Single, ttl_s: None })
            .await?;
    let pan = || Pan::parse(cards::VISA).context("a card");
    let made = tokenize(&stack, &stack::cards()?, cards::item(pan()?)).await?;
    let text = made.token.as_str();
    assert!(text.len() == 16 && text.starts_with('0') && text.ends_with("1111"), "{text}");
    let (first, second) = tokio::join!(reveal(&stack, &made.token), reveal(&stack, &made.token));
    let outcomes = [first?.err(), second?.err()];
    assert!(outcomes.contains(&None) && outcomes.contains(&Some(ProblemCode::Gone)), "{outcomes:?}");
    assert_eq!(reveal(&stack, &made.token).await?.err(), Some(ProblemCode::Gone));
    Ok(())
}

#[tokio::test]
async fn a_token_whose_time_is_over_is_unknown_and_the_card_gets_another() -> Result<()> {
    let profile = TokenProfile { ttl_s: Some(1), ..TokenProfile::default() };
    let stack = with_profile(profile).await?;
    let first = tokenize(&stack, &stack::cards()?, cards::item(cards::bulk(4)?)).await?;
    let deadline = std::time::Instant::now() + cordon_tests::patience();
    while reveal(&stack, &first.token).await?.err() != Some(ProblemCode::TokenNotFound) {
        assert!(std::time::Instant::now() < deadline, "it expires");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let second = tokenize(&stack, &stack::cards()?, cards::item(cards::bulk(4)?)).await?;
    assert_ne!(first.token, second.token);
    Ok(())
}
