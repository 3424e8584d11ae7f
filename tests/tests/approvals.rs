//! Approvals against the real vault: two distinct custodians, exactly one operation, once, across kills, and nothing that
//! somebody wrote into the store.

use anyhow::{Context, Result};
use cordon_client::ClientError;
use cordon_tests::stack::{Options, Stack};
use cordon_vault::store::{FjallStore, Store};
use cordon_wire::{
    Approval, ApprovalState, DestroyRequest, DestructionRecord, KeyPurpose, KeyState, Operation, ProblemCode,
    RotateRequest,
};
use std::time::Duration;

const KEK_1: Operation = Operation::DestroyKey { purpose: KeyPurpose::Kek, collection: None, version: 1 };
const KEK_2: Operation = Operation::DestroyKey { purpose: KeyPurpose::Kek, collection: None, version: 2 };

/// A vault whose first `versions` key-encryption keys wrap nothing any more.
async fn with_retired_keks(versions: u32) -> Result<Stack> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    for _ in 0..versions {
        stack.administrator()?.rotate(&RotateRequest { purpose: KeyPurpose::Kek, collection: None }).await?;
    }
    Ok(stack)
}

async fn destroy(stack: &Stack, version: u32) -> Result<Result<DestructionRecord, ClientError>> {
    let request = DestroyRequest { purpose: KeyPurpose::Kek, collection: None, version };
    Ok(stack.administrator()?.destroy_key(&request).await)
}

async fn kek_state(stack: &Stack, version: u32) -> Result<KeyState> {
    let keys = stack.administrator()?.keys().await?.keys;
    let kek = keys.iter().find(|key| key.purpose == KeyPurpose::Kek && key.version == version);
    Ok(kek.context("the key")?.state)
}

async fn find(stack: &Stack, id: &str) -> Result<Approval> {
    let list = stack.administrator()?.approvals().await?.approvals;
    list.into_iter().find(|approval| approval.id == id).context("the request")
}

#[expect(clippy::panic, reason = "an end-to-end test: a panic is a failed assertion")]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ProblemCode {
    match answer {
        Err(ClientError::Problem(problem)) => problem.code,
        other => panic!("not a problem: {other:?}"),
    }
}

#[tokio::test]
async fn nobody_destroys_a_key_without_two_custodians() -> Result<()> {
    let stack = with_retired_keks(2).await?;
    let (operator, one, two) = (
        stack.administrator()?,
        stack.administrator_as("custodian-1")?,
        stack.administrator_as("custodian-2")?,
    );
    assert_eq!(refused(destroy(&stack, 1).await?), ProblemCode::ApprovalRequired);
    let asked = operator.request_approval(&KEK_1).await?;
    assert_eq!(
        (asked.state, asked.needed, asked.requested_by.as_str()),
        (ApprovalState::Pending, 2, "operator")
    );
    assert_eq!(operator.request_approval(&KEK_1).await?, asked, "asking again gives the same request");
    assert_eq!(one.request_approval(&KEK_1).await?, asked, "whoever asks");

    // The one who asks is no custodian; neither is the monitor, nor a stranger to operations.
    for service in ["operator", "monitor", "gateway-egress", "signup"] {
        let caller = stack.administrator_as(service)?;
        assert_eq!(refused(caller.approve(&asked.id).await), ProblemCode::Denied, "{service}");
        assert_eq!(refused(caller.reject(&asked.id).await), ProblemCode::Denied, "{service}");
    }
    let half = one.approve(&asked.id).await?;
    assert_eq!(
        (half.state, half.approved_by.as_slice()),
        (ApprovalState::Pending, &["custodian-1".to_owned()][..])
    );
    assert_eq!(refused(one.approve(&asked.id).await), ProblemCode::Conflict, "one custodian counts once");
    assert_eq!(refused(destroy(&stack, 1).await?), ProblemCode::ApprovalRequired);
    assert_eq!(two.approve(&asked.id).await?.state, ApprovalState::Approved);

    // It stands for its own arguments only, and a refused attempt does not use it up.
    assert_eq!(refused(destroy(&stack, 2).await?), ProblemCode::ApprovalRequired);
    assert_eq!(refused(destroy(&stack, 3).await?), ProblemCode::Conflict, "the active key, approved or not");
    assert_eq!(find(&stack, &asked.id).await?.state, ApprovalState::Approved);
    assert_eq!(destroy(&stack, 1).await??.version, 1);
    assert_eq!(kek_state(&stack, 1).await?, KeyState::Destroyed);
    assert_eq!(find(&stack, &asked.id).await?.state, ApprovalState::Used);
    assert_eq!(refused(two.approve(&asked.id).await), ProblemCode::Conflict);
    assert_eq!(refused(one.approve("approval-aaaaaaaaaaaaaaaa").await), ProblemCode::BadField);

    let audit = stack.audit("vault");
    for what in ["approval-request", "approval-grant", "approval-use", "key-destroy"] {
        assert!(audit.contains(&format!(r#""what":"{what}","outcome":"allowed""#)), "{what}");
    }
    assert!(audit.contains(r#""what":"approval-grant","outcome":"denied""#));
    assert!(audit.contains(&format!("{}/destroy-key", asked.id)));
    Ok(())
}

#[tokio::test]
async fn one_custodian_who_rejects_ends_it_for_good() -> Result<()> {
    let mut stack = with_retired_keks(1).await?;
    stack.approve(&KEK_1).await?;
    let id = stack.administrator()?.request_approval(&KEK_1).await?.id;
    let store_dir = stack.vault_data().join("store");
    stack.vault.kill()?;
    let approved = FjallStore::open(&store_dir, None)?.document("approvals")?.context("approvals")?;
    stack.restart_vault()?;
    stack.unseal().await?;
    assert_eq!(find(&stack, &id).await?.state, ApprovalState::Approved, "a restart keeps it");
    let rejected = stack.administrator_as("custodian-3")?.reject(&id).await?;
    assert_eq!(
        (rejected.state, rejected.rejected_by.as_deref()),
        (ApprovalState::Rejected, Some("custodian-3"))
    );
    assert_eq!(refused(destroy(&stack, 1).await?), ProblemCode::ApprovalRequired);

    // The approvals of before, authentic as they are, are put back into the store.
    stack.vault.kill()?;
    {
        let store = FjallStore::open(&store_dir, None)?;
        let present = store.document("approvals")?.context("approvals")?;
        store.put_document("approvals", Some(present.version), approved.bytes).await?;
    }
    stack.restart_vault()?;
    stack.unseal().await?;
    assert_eq!(refused(destroy(&stack, 1).await?), ProblemCode::ApprovalRequired);
    assert_ne!(find(&stack, &id).await?.state, ApprovalState::Approved);
    assert_ne!(stack.administrator()?.request_approval(&KEK_1).await?.id, id, "asked anew");
    Ok(())
}

#[tokio::test]
async fn what_somebody_wrote_into_the_store_is_no_approval() -> Result<()> {
    let mut stack = with_retired_keks(1).await?;
    let id = stack.administrator()?.request_approval(&KEK_1).await?.id;
    stack.administrator_as("custodian-1")?.approve(&id).await?;
    stack.vault.kill()?;
    {
        let store = FjallStore::open(&stack.vault_data().join("store"), None)?;
        let present = store.document("approvals")?.context("approvals")?;
        let text = String::from_utf8(present.bytes)?;
        let forged = text.replace(r#"["custodian-1"]"#, r#"["custodian-1","custodian-2"]"#);
        assert_ne!(forged, text);
        store.put_document("approvals", Some(present.version), forged.into_bytes()).await?;
    }
    stack.restart_vault()?;
    stack.unseal().await?;
    assert_eq!(refused(destroy(&stack, 1).await?), ProblemCode::ApprovalRequired);
    assert_eq!(kek_state(&stack, 1).await?, KeyState::Deactivated);
    assert!(stack.audit("vault").contains("approvals-not-authentic"));
    stack.approve(&KEK_1).await?;
    destroy(&stack, 1).await??;
    Ok(())
}

#[tokio::test]
async fn a_kill_in_between_never_leaves_a_used_approval_open() -> Result<()> {
    let mut stack = with_retired_keks(2).await?;
    for (version, operation) in [(1, KEK_1), (2, KEK_2)] {
        for round in 0..6_u64 {
            if kek_state(&stack, version).await? == KeyState::Destroyed {
                break;
            }
            let asked = stack.administrator()?.request_approval(&operation).await?;
            if asked.state == ApprovalState::Pending {
                for custodian in ["custodian-1", "custodian-2"] {
                    stack.administrator_as(custodian)?.approve(&asked.id).await?;
                }
            }
            let request = DestroyRequest { purpose: KeyPurpose::Kek, collection: None, version };
            let administrator = stack.administrator()?;
            let call = tokio::spawn(async move { administrator.destroy_key(&request).await });
            // Kills fall before, between and after the two changes.
            tokio::time::sleep(Duration::from_millis(round * 4)).await;
            stack.vault.kill()?;
            let answered = call.await?.is_ok();
            stack.restart_vault()?;
            stack.unseal().await?;
            let gone = kek_state(&stack, version).await? == KeyState::Destroyed;
            let state = find(&stack, &asked.id).await?.state;
            assert!(gone || !answered, "an acknowledged destruction is undone");
            assert!(!gone || state == ApprovalState::Used, "destroyed, and the approval is {state:?}");
            if state == ApprovalState::Used && !gone {
                assert_eq!(refused(destroy(&stack, version).await?), ProblemCode::ApprovalRequired);
            }
        }
    }
    Ok(())
}
