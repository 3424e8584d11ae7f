//! New shares for new custodians and a new root key, against the real vault: agreed to by a quorum, encrypted to each, proven
//! before they count, across kills, and never the other way round.

use age::x25519::Identity;
use anyhow::{Context, Result, ensure};
use cordon_card::Token;
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_vault::store::{FjallStore, Store};
use cordon_wire::{
    ApprovalState, Delivery, InitRequest, KeyPurpose, NewCustodian, Problem, ProblemCode, RekeyRequest,
    RekeyShare, RekeyState, RekeyStatus, RotateRequest, SealKind, SealState, ShareText, UnsealRequest,
};
use std::collections::BTreeMap;
use std::time::Duration;
use zeroize::Zeroizing;

/// A vault, the age identities of five custodians, and the shares that count now.
struct Ceremony {
    stack: Stack,
    identities: BTreeMap<String, Identity>,
    shares: BTreeMap<String, String>,
}

fn name(number: u8) -> String {
    format!("custodian-{number}")
}

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Result<Problem> {
    match result {
        Err(ClientError::Problem(problem)) => Ok(*problem),
        other => anyhow::bail!("no problem document: {other:?}"),
    }
}

fn text(share: &str) -> ShareText {
    ShareText::new(Zeroizing::new(share.to_owned()))
}

impl Ceremony {
    /// Custodians 1 to 3, any two of whom unseal.
    async fn start() -> Result<Ceremony> {
        let stack = Stack::bare(Options { gateway: false, ..Options::default() }).await?;
        let identities = (1..=5).map(|number| (name(number), Identity::generate())).collect();
        let mut ceremony = Ceremony { stack, identities, shares: BTreeMap::new() };
        let custodians = ceremony.named(&[1, 2, 3])?;
        let request = InitRequest { seal: SealKind::Shamir, custodians, threshold: 2 };
        let made = ceremony.stack.administrator()?.init(&request).await?;
        for issued in made.shares {
            let share = ceremony.open(&issued.custodian, &issued.delivery)?;
            ceremony.shares.insert(issued.custodian, share);
        }
        ceremony.unseal(&[1, 2]).await?;
        Ok(ceremony)
    }

    fn named(&self, numbers: &[u8]) -> Result<Vec<NewCustodian>> {
        let custodian = |number: &u8| {
            let name = name(*number);
            let recipient = self.identities.get(&name).context("an identity")?.to_public().to_string();
            Ok(NewCustodian { name, recipient: Some(recipient) })
        };
        numbers.iter().map(custodian).collect()
    }

    /// What a custodian does with the file, and only this one can.
    fn open(&self, custodian: &str, delivery: &Delivery) -> Result<String> {
        let Delivery::Age(file) = delivery else { anyhow::bail!("a share in clear for {custodian}") };
        for (other, identity) in self.identities.iter().filter(|(other, _)| other.as_str() != custodian) {
            ensure!(
                age::decrypt(identity, file.as_bytes()).is_err(),
                "{other} opens the share of {custodian}"
            );
        }
        let identity = self.identities.get(custodian).context("an identity")?;
        Ok(String::from_utf8(age::decrypt(identity, file.as_bytes())?)?)
    }

    async fn unseal(&self, numbers: &[u8]) -> Result<()> {
        for number in numbers {
            let share = self.shares.get(&name(*number)).map(|share| text(share));
            let request = UnsealRequest { share, acknowledge: true };
            self.stack.administrator_as(&name(*number))?.unseal(&request).await?;
        }
        ensure!(
            self.stack.administrator()?.seal_status().await?.state == SealState::Unsealed,
            "still sealed"
        );
        Ok(())
    }

    async fn begin(&self, numbers: &[u8], rotate_root: bool) -> Result<RekeyStatus> {
        let request = RekeyRequest {
            rotate_root,
            threshold: 2,
            custodians: self.named(numbers)?,
            ..RekeyRequest::default()
        };
        Ok(self.stack.administrator()?.begin_rekey(&request).await?)
    }

    async fn give(&self, id: &str, number: u8, share: &str) -> Result<Result<RekeyStatus, ClientError>> {
        let request = RekeyShare { id: id.to_owned(), share: text(share), acknowledge: true };
        Ok(self.stack.administrator_as(&name(number))?.give_rekey_share(&request).await)
    }

    /// Custodians give what they hold.
    async fn agree(&self, id: &str, numbers: &[u8]) -> Result<RekeyStatus> {
        let mut status = None;
        for number in numbers {
            let share = self.shares.get(&name(*number)).context("a share")?;
            status = Some(self.give(id, *number, share).await??);
        }
        status.context("a status")
    }

    /// The new shares, opened by their custodians.
    fn fetched(&self, status: &RekeyStatus) -> Result<BTreeMap<String, String>> {
        let share = |issued: &cordon_wire::IssuedShare| {
            Ok((issued.custodian.clone(), self.open(&issued.custodian, &issued.delivery)?))
        };
        status.issued.iter().map(share).collect()
    }

    /// All of it: present custodians 1 and 2 agree, new ones prove.
    async fn rekey(&mut self, numbers: &[u8], rotate_root: bool, provers: [u8; 2]) -> Result<()> {
        let id = self.begin(numbers, rotate_root).await?.id;
        let made = self.agree(&id, &[1, 2]).await?;
        self.shares = self.fetched(&made)?;
        let done = self.agree(&id, &provers).await?;
        ensure!(done.state == RekeyState::Done, "{done:?}");
        Ok(())
    }

    async fn reseal(&self) -> Result<()> {
        self.stack.administrator()?.seal().await?;
        Ok(())
    }

    async fn card(&self, n: u64) -> Result<Token> {
        let client = self.stack.tokenizer("gateway-ingress")?;
        let answer = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(n)?)).await?;
        Ok(done(answer.items.into_iter().next().context("an item")?)?.token)
    }

    async fn collection(&self) -> Result<()> {
        let create = cordon_wire::CreateCollection {
            name: stack::cards()?,
            profile: cordon_wire::TokenProfile::default(),
            expected_cards: 1_000,
        };
        self.stack.administrator()?.create_collection(&create).await?;
        Ok(())
    }

    async fn old_share_is_refused(&self, number: u8, share: &str) -> Result<()> {
        let request = UnsealRequest { share: Some(text(share)), acknowledge: true };
        let refused = problem(self.stack.administrator_as(&name(number))?.unseal(&request).await)?;
        ensure!(refused.code == ProblemCode::BadShare, "{refused:?}");
        Ok(())
    }
}

#[tokio::test]
async fn new_shares_count_once_a_quorum_of_them_came_back_and_the_old_ones_never_again() -> Result<()> {
    let mut ceremony = Ceremony::start().await?;
    ceremony.collection().await?;
    let token = ceremony.card(1).await?;
    let old = ceremony.shares.clone();
    // Custodian 2 leaves, 4 comes.
    let begun = ceremony.begin(&[1, 3, 4], false).await?;
    assert_eq!((begun.state, begun.needed), (RekeyState::Collecting, 2));
    let second =
        RekeyRequest { threshold: 2, custodians: ceremony.named(&[1, 3])?, ..RekeyRequest::default() };
    let administrator = ceremony.stack.administrator()?;
    assert_eq!(problem(administrator.begin_rekey(&second).await)?.code, ProblemCode::Conflict);

    // Not with another id, not by another custodian, not twice, not by one who only joins.
    let share_1 = old.get(&name(1)).context("a share")?;
    assert_eq!(problem(ceremony.give("rekey-other", 1, share_1).await?)?.code, ProblemCode::Conflict);
    assert_eq!(problem(ceremony.give(&begun.id, 4, share_1).await?)?.code, ProblemCode::BadShare);
    ceremony.give(&begun.id, 1, share_1).await??;
    assert_eq!(problem(ceremony.give(&begun.id, 1, share_1).await?)?.code, ProblemCode::BadShare);
    let made = ceremony.agree(&begun.id, &[2]).await?;
    assert_eq!((made.state, made.given, made.needed), (RekeyState::Proving, 0, 2));
    let new = ceremony.fetched(&made)?;
    assert_eq!(new.keys().cloned().collect::<Vec<_>>(), [name(1), name(3), name(4)]);

    // Until they are proven, nothing has changed.
    let new_1 = new.get(&name(1)).context("a share")?;
    assert_eq!(
        problem(ceremony.give(&begun.id, 1, share_1).await?)?.code,
        ProblemCode::BadShare,
        "an old one"
    );
    ceremony.give(&begun.id, 1, new_1).await??;
    ceremony.reseal().await?;
    ceremony.old_share_is_refused(1, new_1).await?;
    ceremony.unseal(&[2, 3]).await?;
    assert!(administrator.rekeys().await?.rekeys.is_empty(), "sealing gave it up");

    ceremony.rekey(&[1, 3, 4], false, [4, 1]).await?;
    assert_eq!(ceremony.card(1).await?, token);
    ceremony.reseal().await?;
    for (number, share) in [(1, share_1), (2, old.get(&name(2)).context("a share")?)] {
        ceremony.old_share_is_refused(number, share).await?;
    }
    ceremony.unseal(&[3, 4]).await?;
    assert_eq!(ceremony.card(1).await?, token);

    // The history stays: 4 took the number that nobody holds now, 2 keeps his for ever.
    let listed = administrator.custodians().await?.custodians;
    let row = |custodian: &str, present: bool| {
        listed.iter().find(|row| row.name == custodian && row.until.is_none() == present)
    };
    assert_eq!(row("custodian-4", true).context("a row")?.number, Some(2));
    assert_eq!(row("custodian-1", true).context("a row")?.number, Some(1));
    let left = row("custodian-2", false).context("a row")?;
    assert!(left.number == Some(2) && left.until.is_some() && left.acknowledged_at.is_some(), "{left:?}");
    let back = RekeyRequest {
        rotate_root: true,
        threshold: 2,
        custodians: ceremony.named(&[1, 2, 4])?,
        ..RekeyRequest::default()
    };
    let refused = problem(administrator.begin_rekey(&back).await)?;
    assert_eq!(refused.code, ProblemCode::BadField, "2 and 4 both had number 2, for ever");

    let everything = [ceremony.stack.audit("vault"), ceremony.stack.vault.log()].concat();
    for share in old.values().chain(ceremony.shares.values()) {
        let secret = share.rsplit('-').nth(1).context("the share's secret part")?;
        assert!(!everything.contains(secret), "no share is in the audit log or the log");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_root_key_touches_no_record_and_the_old_shares_open_nothing() -> Result<()> {
    let mut ceremony = Ceremony::start().await?;
    ceremony.collection().await?;
    let token = ceremony.card(1).await?;
    let administrator = ceremony.stack.administrator()?;
    administrator.rotate(&RotateRequest { purpose: KeyPurpose::Kek, collection: None }).await?;
    // Two custodians have approved something: that outlives the root key.
    let operation =
        cordon_wire::Operation::DestroyKey { purpose: KeyPurpose::Kek, collection: None, version: 1 };
    let asked = administrator.request_approval(&operation).await?;
    let unacknowledged = ceremony.stack.administrator_as("custodian-3")?;
    assert_eq!(problem(unacknowledged.approve(&asked.id).await)?.code, ProblemCode::NotAcknowledged);
    let without_a_share = ceremony.stack.administrator_as("custodian-5")?;
    without_a_share.acknowledge().await?;
    assert_eq!(problem(without_a_share.approve(&asked.id).await)?.code, ProblemCode::NotACustodian);
    ceremony.stack.administrator_as("custodian-1")?.approve(&asked.id).await?;
    let old = ceremony.shares.clone();
    let keys = administrator.keys().await?.keys;
    ceremony.rekey(&[1, 2, 3], true, [2, 3]).await?;
    assert_eq!(ceremony.card(1).await?, token);
    assert_eq!(administrator.keys().await?.keys, keys, "no key but the root has changed");
    // The third one acknowledged with a new share.
    unacknowledged.approve(&asked.id).await?;
    ceremony.reseal().await?;
    for (number, share) in (1..).zip(old.values()) {
        ceremony.old_share_is_refused(number, share).await?;
    }
    ceremony.stack.vault.kill()?;
    ceremony.stack.restart_vault()?;
    ceremony.unseal(&[3, 1]).await?;
    assert_eq!(ceremony.card(1).await?, token);
    let destroy = cordon_wire::DestroyRequest { purpose: KeyPurpose::Kek, collection: None, version: 1 };
    ceremony.stack.administrator()?.destroy_key(&destroy).await?;
    Ok(())
}

#[tokio::test]
async fn who_was_left_out_by_a_rekey_approves_nothing_any_more() -> Result<()> {
    let mut ceremony = Ceremony::start().await?;
    let administrator = ceremony.stack.administrator()?;
    administrator.rotate(&RotateRequest { purpose: KeyPurpose::Kek, collection: None }).await?;
    let operation =
        cordon_wire::Operation::DestroyKey { purpose: KeyPurpose::Kek, collection: None, version: 1 };
    let destroy = cordon_wire::DestroyRequest { purpose: KeyPurpose::Kek, collection: None, version: 1 };
    let custodian = |ceremony: &Ceremony, number| ceremony.stack.administrator_as(&name(number));
    let id = administrator.request_approval(&operation).await?.id;
    // The control: while they hold shares, 1 and 2 are enough.
    for number in [1, 2] {
        custodian(&ceremony, number)?.approve(&id).await?;
    }
    let state = |list: cordon_wire::ApprovalList| {
        let one = list.approvals.into_iter().find(|one| one.id == id).context("the request")?;
        Ok::<_, anyhow::Error>((one.state, one.approved_by))
    };
    let both = vec![name(1), name(2)];
    assert_eq!(state(administrator.approvals().await?)?, (ApprovalState::Approved, both));

    // 2 is left out, and the bundle still names 2 as a custodian.
    ceremony.rekey(&[1, 3, 4], false, [3, 4]).await?;
    assert_eq!(state(administrator.approvals().await?)?, (ApprovalState::Pending, vec![name(1)]));
    let refused = problem(administrator.destroy_key(&destroy).await)?;
    assert_eq!(refused.code, ProblemCode::ApprovalRequired, "what 2 approved before counts no more");
    for answer in [custodian(&ceremony, 2)?.approve(&id).await, custodian(&ceremony, 2)?.reject(&id).await] {
        assert_eq!(problem(answer)?.code, ProblemCode::NotACustodian);
    }
    ceremony.stack.vault.kill()?;
    ceremony.stack.restart_vault()?;
    ceremony.unseal(&[1, 3]).await?;
    let refused = problem(custodian(&ceremony, 2)?.approve(&id).await)?;
    assert_eq!(refused.code, ProblemCode::NotACustodian, "nor after a restart");
    assert!(ceremony.stack.audit("vault").contains("\"reason\":\"not-a-custodian\""));
    custodian(&ceremony, 4)?.approve(&id).await?;
    ceremony.stack.administrator()?.destroy_key(&destroy).await?;
    Ok(())
}

#[tokio::test]
async fn a_seal_that_was_put_back_is_refused() -> Result<()> {
    let mut ceremony = Ceremony::start().await?;
    let store_dir = ceremony.stack.vault_data().join("store");
    ceremony.stack.vault.kill()?;
    let before = FjallStore::open(&store_dir, None)?.document("seal")?.context("a seal")?;
    ceremony.stack.restart_vault()?;
    ceremony.unseal(&[1, 2]).await?;
    let old = ceremony.shares.clone();
    ceremony.rekey(&[1, 2, 4], false, [1, 4]).await?;
    ceremony.stack.vault.kill()?;
    {
        let store = FjallStore::open(&store_dir, None)?;
        let present = store.document("seal")?.context("a seal")?;
        store.put_document("seal", Some(present.version), before.bytes).await?;
    }
    ceremony.stack.restart_vault()?;
    ceremony.shares = old;
    let refused = ceremony.unseal(&[2, 3]).await.err().context("it unsealed by shares that are over")?;
    match refused.downcast_ref::<ClientError>() {
        Some(ClientError::Problem(problem)) => assert_eq!(problem.code, ProblemCode::Conflict),
        other => anyhow::bail!("not a problem: {other:?}"),
    }
    assert!(ceremony.stack.audit("vault").contains("seal-rolled-back"));
    Ok(())
}

#[tokio::test]
async fn a_kill_leaves_the_old_shares_or_the_new_ones_valid() -> Result<()> {
    let mut ceremony = Ceremony::start().await?;
    ceremony.collection().await?;
    let token = ceremony.card(1).await?;
    for round in 0..6_u64 {
        let id = ceremony.begin(&[1, 2, 3], round % 2 == 0).await?.id;
        let made = ceremony.agree(&id, &[1, 2]).await?;
        let new = ceremony.fetched(&made)?;
        ceremony.give(&id, 1, new.get(&name(1)).context("a share")?).await??;
        // The share that puts the new ones in force, and a kill before, between and after the documents.
        let request =
            RekeyShare { id, share: text(new.get(&name(2)).context("a share")?), acknowledge: true };
        let custodian = ceremony.stack.administrator_as(&name(2))?;
        let call = tokio::spawn(async move { custodian.give_rekey_share(&request).await });
        tokio::time::sleep(Duration::from_millis(round * 5)).await;
        ceremony.stack.vault.kill()?;
        let answered = call.await?.is_ok();
        ceremony.stack.restart_vault()?;
        let old = std::mem::replace(&mut ceremony.shares, new);
        if ceremony.unseal(&[1, 2]).await.is_err() {
            ensure!(!answered, "acknowledged new shares do not unseal");
            ceremony.shares = old;
            ceremony.unseal(&[1, 2]).await?;
        }
        assert_eq!(ceremony.card(1).await?, token, "round {round}");
    }
    Ok(())
}
