//! Initialising and unsealing by custodians against the real vault.

use anyhow::{Context, Result};
use cordon_client::{Administrator, ClientError};
use cordon_tests::stack::{self, Options, Stack};
use cordon_wire::{
    Delivery, InitRequest, NewCustodian, Problem, ProblemCode, SealKind, SealState, SealStatus, ShareText,
    UnsealRequest,
};
use zeroize::Zeroizing;

fn share(text: &str) -> UnsealRequest {
    UnsealRequest { share: Some(ShareText::new(Zeroizing::new(text.to_owned()))), acknowledge: true }
}

/// Gives a share as custodian `number`.
async fn give(stack: &Stack, number: usize, text: &str) -> Result<Result<SealStatus, ClientError>> {
    let custodian = stack.administrator_as(&format!("custodian-{number}"))?;
    Ok(custodian.unseal(&share(text)).await)
}

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Result<Problem> {
    match result {
        Err(ClientError::Problem(problem)) => Ok(*problem),
        other => anyhow::bail!("no problem document: {other:?}"),
    }
}

async fn fresh() -> Result<(Stack, Administrator, Vec<String>)> {
    let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    let administrator = stack.administrator()?;
    assert_eq!(administrator.seal_status().await?.state, SealState::Uninitialized);
    let request = InitRequest { seal: SealKind::Shamir, custodians: stack::custodians(), threshold: 3 };
    let made = administrator.init(&request).await?;
    assert_eq!(made.status.state, SealState::Sealed);
    let mut shares = Vec::new();
    for (number, issued) in (1_u8..).zip(made.shares) {
        assert_eq!((issued.number, issued.custodian), (number, format!("custodian-{number}")));
        match issued.delivery {
            Delivery::Text(share) => shares.push(share.expose().to_owned()),
            Delivery::Age(_) => anyhow::bail!("nobody asked for an encrypted share"),
        }
    }
    Ok((stack, administrator, shares))
}

#[tokio::test]
async fn three_of_five_custodians_unseal_and_a_wrong_share_is_named() -> Result<()> {
    let (stack, administrator, shares) = fresh().await?;
    assert_eq!(shares.len(), 5);
    assert_eq!(give(&stack, 5, &shares[4]).await??.progress, 1);
    let repeated = problem(give(&stack, 5, &shares[4]).await?)?;
    assert_eq!(repeated.code, ProblemCode::BadShare);
    assert!(repeated.detail.as_deref().context("a detail")?.contains("share 5"), "{repeated:?}");
    let mut letters: Vec<char> = shares[0].chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'a' { 'b' } else { 'a' };
    let broken: String = letters.into_iter().collect();
    assert_eq!(problem(give(&stack, 1, &broken).await?)?.code, ProblemCode::BadShare);
    assert_eq!(problem(give(&stack, 1, "").await?)?.code, ProblemCode::BadShare);

    // A share counts with its own custodian's certificate alone; who it belongs to is said.
    for thief in ["operator", "custodian-1", "custodian-3"] {
        let refused = problem(stack.administrator_as(thief)?.unseal(&share(&shares[1])).await)?;
        assert_eq!(refused.code, ProblemCode::BadShare, "{thief}");
        let words = refused.detail.context("a detail")?;
        assert!(words.contains("share 2") && words.contains("custodian-2"), "{words}");
    }
    assert_eq!(give(&stack, 2, &shares[1]).await??.progress, 2, "a wrong share costs nothing");
    let silent = UnsealRequest { acknowledge: false, ..share(&shares[2]) };
    let refused = problem(stack.administrator_as("custodian-3")?.unseal(&silent).await)?;
    assert_eq!(refused.code, ProblemCode::NotAcknowledged);
    assert_eq!(give(&stack, 3, &shares[2]).await??.state, SealState::Unsealed);
    assert_eq!(administrator.seal().await?.state, SealState::Sealed);

    // Who acknowledged once need not again; custodian 1 never did.
    for number in [2, 3] {
        let request = UnsealRequest { acknowledge: false, ..share(&shares[number - 1]) };
        stack.administrator_as(&format!("custodian-{number}"))?.unseal(&request).await?;
    }
    assert_eq!(give(&stack, 4, &shares[3]).await??.state, SealState::Unsealed);
    assert_eq!(stack.audit("vault").matches(r#""on":"custodian-duties""#).count(), 4);
    let everything = [stack.audit("vault"), stack.vault.log()].concat();
    for text in &shares {
        let secret = text.rsplit('-').nth(1).context("the share's secret part")?;
        assert!(!everything.contains(secret), "no share is in the audit log or the log");
    }
    for event in ["init", "unseal", "seal"] {
        assert!(
            stack.audit("vault").contains(&format!(r#""what":"{event}""#)),
            "{event} is in the audit log"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_second_init_is_refused_and_limits_are_explained() -> Result<()> {
    let (_stack, administrator, _shares) = fresh().await?;
    let five = stack::custodians();
    let again = InitRequest { seal: SealKind::Shamir, custodians: five.clone(), threshold: 3 };
    assert_eq!(problem(administrator.init(&again).await)?.code, ProblemCode::Conflict);
    let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    let named = |name: &str| NewCustodian { name: name.to_owned(), recipient: None };
    let key = |recipient: &str| Some(recipient.to_owned());
    let alike = age::x25519::Identity::generate().to_public().to_string();
    let with = |recipient: Option<String>| NewCustodian { recipient, ..named("custodian-1") };
    for (custodians, threshold) in [
        (five.clone(), 1),
        (five.get(..2).context("two")?.to_vec(), 3),
        (Vec::new(), 0),
        ([five.clone(), vec![named("custodian-1")]].concat(), 3),
        (vec![named("custodian-1"), named("operator")], 2),
        (vec![named("custodian-1"), named("nobody")], 2),
        (vec![with(key("age1nonsense")), named("custodian-2")], 2),
        (vec![with(key(&alike)), NewCustodian { recipient: key(&alike), ..named("custodian-2") }], 2),
    ] {
        let request = InitRequest { seal: SealKind::Shamir, custodians, threshold };
        let refused = problem(stack.administrator()?.init(&request).await)?;
        assert_eq!(refused.code, ProblemCode::BadField, "{request:?}");
        assert!(refused.detail.is_some(), "{refused:?}");
    }
    assert_eq!(stack.administrator()?.seal_status().await?.state, SealState::Uninitialized);
    Ok(())
}

#[tokio::test]
async fn shares_of_another_vault_do_not_count() -> Result<()> {
    let (_one, _, foreign) = fresh().await?;
    let (two, administrator, _) = fresh().await?;
    assert_eq!(problem(give(&two, 1, &foreign[0]).await?)?.code, ProblemCode::BadShare);
    assert_eq!(administrator.seal_status().await?.progress, 0);
    Ok(())
}
