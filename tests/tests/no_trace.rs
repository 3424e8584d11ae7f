//! Marked card numbers are driven through everything, then looked for everywhere in many encodings.

use anyhow::{Context, Result};
use cordon_tests::stack::{self, Options, Stack};
use cordon_tests::{cards, https, search};

/// Every byte that left a trace outside the vault's memory, by where it was found.
async fn traces(stack: &Stack) -> Result<Vec<(String, Vec<u8>)>> {
    let mut traces = vec![
        ("the bytes the signup service received".to_owned(), stack.signup.bytes()),
        ("the vault's log".to_owned(), stack.vault.log().into_bytes()),
        ("the vault's audit log".to_owned(), stack.audit("vault").into_bytes()),
        ("the gateway's audit log".to_owned(), stack.audit("gateway").into_bytes()),
    ];
    let gateway = stack.gateway.as_ref().context("a gateway")?;
    traces.push(("the gateway's log".to_owned(), gateway.log().into_bytes()));
    for (name, address) in
        [("vault", stack.vault.address("metrics")?), ("gateway", gateway.address("metrics")?)]
    {
        for path in ["/metrics", "/health", "/ready"] {
            let answer = https::send_plain(address, path).await?;
            assert_eq!(answer.status, 200, "{name}{path}");
            traces.push((format!("{name}{path}"), answer.body));
        }
    }
    Ok(traces)
}

#[tokio::test]
async fn a_card_leaves_no_trace_outside_the_vault_and_the_processor() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let marked = [cards::VISA, cards::MASTERCARD, cards::AMEX];
    let cvv = "7391";
    for pan in marked {
        let code = if pan == cards::AMEX { cvv } else { "739" };
        let json = serde_json::json!({"card": {"number": pan, "expiry": "11/29", "cvc": code}}).to_string();
        assert_eq!(stack.browser("/signup", "application/json", json).await?.status, 201);
        let form = format!("card_number={pan}&expiry=11/29");
        assert_eq!(stack.browser("/signup", "application/x-www-form-urlencoded", form).await?.status, 201);
        // Refused ones too: an undeclared field, a malformed body, the path and the query.
        let undeclared = serde_json::json!({"note": pan}).to_string();
        assert_eq!(stack.browser("/signup", "application/json", undeclared).await?.status, 422);
        stack.browser("/signup", "application/json", format!("{{\"card\":{{\"number\":\"{pan}\"")).await?;
        stack.browser(&format!("/{pan}"), "application/json", "{}").await?;
        stack.browser(&format!("/signup?n={pan}"), "application/json", "{}").await?;
    }
    for received in stack.signup.requests().iter().step_by(2) {
        let body: serde_json::Value = serde_json::from_slice(&received.body)?;
        let token = body["card"]["number"].as_str().context("a token")?;
        let charge = serde_json::json!({"card": {"number": token, "cvc": "held", "expiry": "-"}});
        assert_eq!(stack.charge("signup", "/v1/charges", &charge).await?.status, 200);
    }
    let traces = traces(&stack).await?;
    for pan in marked {
        for (name, bytes) in &traces {
            assert_eq!(search::find(pan, bytes), None, "{name} holds a card number");
        }
        assert!(
            search::find(pan, &stack.processor.bytes()).is_some(),
            "positive control: the processor got it"
        );
    }
    // A clean end writes whatever was still buffered; then every file of both daemons is read.
    stack.vault.terminate().await?;
    stack.gateway.as_mut().context("a gateway")?.terminate().await?;
    for pan in marked {
        assert_eq!(search::find_in_files(pan, stack.dir()), Vec::<String>::new());
    }
    for (name, bytes) in
        [("store", files(&stack.vault_data())), ("gateway", files(&stack.dir().join("gateway-data")))]
    {
        assert!(!bytes.is_empty());
        let planted = format!("\"{cvv}\"");
        assert!(!search::contains(&bytes, planted.as_bytes()), "{name}: the security code is in no file");
    }
    // The search itself: a planted number in the very same directory is found.
    std::fs::write(stack.vault_data().join("planted"), format!("x{}", cards::VISA))?;
    assert_eq!(search::find_in_files(cards::VISA, stack.dir()).len(), 1);
    Ok(())
}

fn files(dir: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    let mut queue = vec![dir.to_owned()];
    while let Some(next) = queue.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else {
                all.extend(std::fs::read(path).unwrap_or_default());
            }
        }
    }
    all
}

#[tokio::test]
async fn the_store_shows_nothing_of_a_card_in_clear() -> Result<()> {
    let mut stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let item = cordon_wire::TokenizeItem {
        metadata: Some([("holder".to_owned(), "Marked Cardholder".to_owned())].into()),
        expiry: Some(cordon_card::Expiry::parse("2031-07").context("an expiry")?.into()),
        ..cards::item(cordon_card::Pan::parse(cards::VISA).context("a card")?)
    };
    let request = cordon_wire::TokenizeRequest { items: vec![item] };
    stack.tokenizer("gateway-ingress")?.tokenize(&stack::cards()?, &request).await?;
    stack.vault.terminate().await?;
    let bytes = files(&stack.vault_data());
    for (what, text) in
        [("holder", "Marked Cardholder"), ("expiry", "2031-07"), ("last four and IIN", "411111")]
    {
        assert!(!search::contains(&bytes, text.as_bytes()), "{what} is in clear");
    }
    Ok(())
}
