//! `cordon export` against a real vault: nothing without two custodians, everything recorded before it is opened, and
//! only the recipient can read it.

use anyhow::{Context, Result, ensure};
use cordon_tests::cards::{self, done};
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{DeleteRequest, Operation, TokenizeRequest};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

const CARDS: u64 = 1_200;

fn export(stack: &Stack, service: &str, recipient: &str, out: &Path) -> Result<Output> {
    let mut command = Command::new(binary("cordon")?);
    command.arg("--json").arg("--config").arg(stack.cli(service)?);
    command.args(["export", "--collection", "cards", "--recipient", recipient, "--out"]).arg(out);
    Ok(command.output()?)
}

#[tokio::test]
async fn all_cards_leave_once_with_two_custodians_and_for_the_recipient_alone() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let items = (0..=CARDS).map(|n| Ok(cards::item(cards::bulk(n)?))).collect::<Result<Vec<_>>>()?;
    let client = stack.tokenizer("gateway-ingress")?;
    let mut tokens = BTreeMap::new();
    let mut items = items.into_iter();
    let mut n = 0;
    loop {
        let items: Vec<_> = items.by_ref().take(500).collect();
        if items.is_empty() {
            break;
        }
        for item in client.tokenize(&stack::cards()?, &TokenizeRequest { items }).await?.items {
            tokens.insert(done(item)?.token.to_string(), n);
            n += 1;
        }
    }
    let gone = tokens.pop_first().context("a token")?.0;
    let request = DeleteRequest { items: vec![cordon_card::Token::parse(&gone)?.into()] };
    stack.tokenizer("operator")?.delete(&stack::cards()?, &request).await?;
    let identity = age::x25519::Identity::generate();
    let (recipient, other) =
        (identity.to_public().to_string(), age::x25519::Identity::generate().to_public().to_string());
    let out = stack.dir().join("cards.age");
    assert_eq!(export(&stack, "monitor", &recipient, &out)?.status.code(), Some(1), "who may not");
    let asked = export(&stack, "operator", &recipient, &out)?;
    assert_eq!(asked.status.code(), Some(75), "{}", String::from_utf8_lossy(&asked.stdout));
    stack.approve(&Operation::Export { collection: stack::cards()?, recipient: other.clone() }).await?;
    assert_eq!(export(&stack, "operator", &recipient, &out)?.status.code(), Some(75), "another recipient's");
    assert!(!out.exists() && !stack.audit("vault").contains("\"begun\""));
    stack.approve(&Operation::Export { collection: stack::cards()?, recipient: recipient.clone() }).await?;
    let output = export(&stack, "operator", &recipient, &out)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let again = stack.dir().join("again.age");
    assert_eq!(
        export(&stack, "operator", &recipient, &again)?.status.code(),
        Some(75),
        "an approval is used once"
    );
    let sealed = fs::read(&out)?;
    assert!(memchr::memmem::find(&sealed, b"pan").is_none());
    let mut text = String::new();
    let decryptor = age::Decryptor::new_buffered(&*sealed)?;
    decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))?.read_to_string(&mut text)?;
    let mut seen = 0;
    for line in text.lines() {
        let card: serde_json::Value = serde_json::from_str(line)?;
        let token = card.get("token").and_then(serde_json::Value::as_str).context("a token")?;
        let number = tokens.get(token).context("a token of ours")?;
        let pan = cards::bulk(*number)?;
        assert_eq!(card.get("pan").and_then(serde_json::Value::as_str), Some(pan.expose()));
        seen += 1;
    }
    assert_eq!(seen, tokens.len(), "every card but the one that was erased");
    let audit = stack.audit("vault");
    let pages: Vec<_> = audit.lines().filter(|line| line.contains("\"what\":\"export\"")).collect();
    for token in tokens.keys() {
        assert!(pages.iter().any(|line| line.contains(token.as_str())), "each token is in a line");
    }
    assert!(
        pages.iter().any(|line| line.contains("\"complete\"") && line.contains(&format!("\"items\":{seen}")))
    );
    Ok(())
}
