//! Initialising and unsealing by custodians against the real vault.

use anyhow::{Context, Result};
use cordon_client::{Administrator, ClientError};
use cordon_tests::stack::{Options, Stack};
use cordon_wire::{InitRequest, Problem, ProblemCode, SealKind, SealState, ShareText, UnsealRequest};
use zeroize::Zeroizing;

fn share(text: &str) -> UnsealRequest {
    UnsealRequest { share: Some(ShareText::new(Zeroizing::new(text.to_owned()))) }
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
    let request = InitRequest { seal: SealKind::Shamir, shares: 5, threshold: 3 };
    let made = administrator.init(&request).await?;
    assert_eq!(made.status.state, SealState::Sealed);
    let shares: Vec<String> = made.shares.iter().map(|share| share.expose().to_owned()).collect();
    Ok((stack, administrator, shares))
}

#[tokio::test]
async fn three_of_five_custodians_unseal_and_a_wrong_share_is_named() -> Result<()> {
    let (stack, administrator, shares) = fresh().await?;
    assert_eq!(shares.len(), 5);
    assert_eq!(administrator.unseal(&share(&shares[4])).await?.progress, 1);
    let repeated = problem(administrator.unseal(&share(&shares[4])).await)?;
    assert_eq!(repeated.code, ProblemCode::BadShare);
    assert!(repeated.detail.as_deref().context("a detail")?.contains("share 5"), "{repeated:?}");
    let mut letters: Vec<char> = shares[0].chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'a' { 'b' } else { 'a' };
    let broken: String = letters.into_iter().collect();
    assert_eq!(problem(administrator.unseal(&share(&broken)).await)?.code, ProblemCode::BadShare);
    assert_eq!(problem(administrator.unseal(&share("")).await)?.code, ProblemCode::BadShare);
    assert_eq!(administrator.unseal(&share(&shares[1])).await?.progress, 2, "a wrong share costs nothing");
    assert_eq!(administrator.unseal(&share(&shares[2])).await?.state, SealState::Unsealed);
    assert_eq!(administrator.seal().await?.state, SealState::Sealed);
    for text in &shares[..2] {
        administrator.unseal(&share(text)).await?;
    }
    assert_eq!(administrator.unseal(&share(&shares[3])).await?.state, SealState::Unsealed);
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
    let again = InitRequest { seal: SealKind::Shamir, shares: 5, threshold: 3 };
    assert_eq!(problem(administrator.init(&again).await)?.code, ProblemCode::Conflict);
    let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
    for (shares, threshold) in [(5, 1), (2, 3), (17, 3), (0, 0)] {
        let request = InitRequest { seal: SealKind::Shamir, shares, threshold };
        let refused = problem(stack.administrator()?.init(&request).await)?;
        assert_eq!(refused.code, ProblemCode::BadField);
        assert!(refused.detail.is_some(), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn shares_of_another_vault_do_not_count() -> Result<()> {
    let (_one, _, foreign) = fresh().await?;
    let (_two, administrator, _) = fresh().await?;
    assert_eq!(problem(administrator.unseal(&share(&foreign[0])).await)?.code, ProblemCode::BadShare);
    assert_eq!(administrator.seal_status().await?.progress, 0);
    Ok(())
}
