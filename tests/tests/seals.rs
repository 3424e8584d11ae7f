//! Seals without custodians on the real vault: a static key, a key in SoftHSM, and changes from one seal to another, across
//! kills, with every card readable and no record touched.

use age::x25519::Identity;
use anyhow::{Context, Result, ensure};
use cordon_card::Token;
use cordon_client::ClientError;
use cordon_tests::cards::{self, done};
use cordon_tests::stack::{self, Options, Stack};
use cordon_vault::store::{CollectionId, FjallStore, Store};
use cordon_wire::{
    ApprovalState, Delivery, NewCustodian, Operation, ProblemCode, RekeyRequest, RekeyShare, RekeyState,
    RekeyStatus, SealKind, SealState, ShareText, UnsealRequest,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use zeroize::Zeroizing;

const PIN: &str = "271828";
const CARDS: u64 = 5;

/// Keys outside the vault: two static ones and a SoftHSM token, in a directory of their own.
struct Keys(TempDir);

impl Keys {
    fn new() -> Result<Keys> {
        let keys = Keys(tempfile::Builder::new().prefix("cordon-seals-").tempdir()?);
        for (name, byte) in [("one", 1), ("two", 2)] {
            keys.write(name, &data_encoding::BASE64.encode(&[byte; 32]))?;
        }
        keys.write("pin", PIN)?;
        fs::create_dir(keys.tokens())?;
        let conf =
            format!("directories.tokendir = {}\nobjectstore.backend = file\n", keys.tokens().display());
        keys.write("softhsm2.conf", &conf)?;
        let made = ["--init-token", "--free", "--label", "cordon", "--so-pin", "31415926", "--pin", PIN];
        let mut command = Command::new("softhsm2-util");
        command.args(made).env("SOFTHSM2_CONF", keys.path("softhsm2.conf"));
        let output = command.output().context("softhsm2-util (Debian package softhsm2)")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(keys)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tokens(&self) -> PathBuf {
        self.path("tokens")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text)?;
        Ok(fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600))?)
    }

    fn place(&self, id: &str, file: &str) -> String {
        format!("{{ id = {id:?}, key = {{ file = {:?} }} }}", self.path(file))
    }

    fn static_key(&self) -> String {
        format!("[seal.static]\ncurrent = {}\n", self.place("key-1", "one"))
    }

    fn hsm(&self) -> String {
        format!(
            "[seal.pkcs11]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\ntoken = \"cordon\"\nkey = \"root-1\"\n\
             pin = {{ file = {:?} }}\ncreate_key = true\nwritable = [{:?}]\nreadable = [{:?}]\n",
            self.path("pin"),
            self.tokens(),
            self.path("softhsm2.conf")
        )
    }

    fn options(&self, seal: SealKind, seal_keys: String) -> Options {
        let conf = self.path("softhsm2.conf").to_string_lossy().into_owned();
        let environment = vec![("SOFTHSM2_CONF".to_owned(), conf)];
        Options { gateway: false, seal, seal_keys, environment, ..Options::default() }
    }

    /// The files of the token's objects.
    fn objects(&self) -> Result<Vec<PathBuf>> {
        let mut objects = Vec::new();
        for token in fs::read_dir(self.tokens())? {
            for file in fs::read_dir(token?.path())? {
                let path = file?.path();
                let object = path.extension().is_some_and(|extension| extension == "object");
                if object && path.file_stem().is_some_and(|stem| stem != "token") {
                    objects.push(path);
                }
            }
        }
        Ok(objects)
    }
}

async fn fill(stack: &Stack) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for n in 0..CARDS {
        let client = stack.tokenizer("gateway-ingress")?;
        let answer = client.tokenize(&stack::cards()?, &cards::only(cards::bulk(n)?)).await?;
        tokens.push(done(answer.items.into_iter().next().context("an item")?)?.token);
    }
    Ok(tokens)
}

async fn readable(stack: &Stack, tokens: &[Token]) -> Result<()> {
    let client = stack.revealer("gateway-egress")?;
    let answer = client.detokenize(&stack::cards()?, &cards::reveal_all(tokens)).await?;
    ensure!(answer.items.len() == tokens.len());
    for (n, item) in (0..).zip(answer.items) {
        let pan = done(item)?.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
        ensure!(pan.expose() == cards::bulk(n)?.expose(), "token {n} reveals another card");
    }
    Ok(())
}

/// The same cards get the same tokens. It writes: a known card is sealed anew like a new one.
async fn known(stack: &Stack, tokens: &[Token]) -> Result<()> {
    ensure!(fill(stack).await? == tokens, "the same cards have the same tokens");
    Ok(())
}

async fn state(stack: &Stack) -> Result<(SealState, Option<SealKind>, Option<String>)> {
    let status = stack.administrator()?.seal_status().await?;
    Ok((status.state, status.seal, status.key))
}

fn restart(stack: &mut Stack) -> Result<()> {
    stack.vault.kill()?;
    stack.restart_vault()
}

/// Asks the vault to unseal, and gives what it says.
async fn refusal(stack: &Stack) -> Result<String> {
    let asked = UnsealRequest { share: None, acknowledge: false };
    match stack.administrator()?.unseal(&asked).await {
        Err(ClientError::Problem(problem)) => {
            ensure!(problem.code == ProblemCode::KeyUnavailable, "{problem:?}");
            Ok(format!("{problem:?}"))
        }
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_static_key_unseals_at_the_start_and_gives_way_to_the_next() -> Result<()> {
    let keys = Keys::new()?;
    let mut stack = Stack::start(keys.options(SealKind::Static, keys.static_key())).await?;
    let tokens = fill(&stack).await?;
    restart(&mut stack)?;
    let unsealed = |key: &str| (SealState::Unsealed, Some(SealKind::Static), Some(key.to_owned()));
    assert_eq!(state(&stack).await?, unsealed("key-1"));
    readable(&stack, &tokens).await?;
    known(&stack, &tokens).await?;
    let audit = stack.audit("vault");
    assert!(audit.lines().any(|line| line.contains("seal:static") && line.contains("\"unseal\"")), "{audit}");

    let current = format!("[seal.static]\ncurrent = {}\n", keys.place("key-2", "two"));
    stack.configure_seal(format!("{current}previous = {}\n", keys.place("key-1", "one")));
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?, unsealed("key-2"));
    assert!(stack.audit("vault").contains("seal-key/key-2"));
    // The one before is not needed any more.
    stack.configure_seal(current);
    fs::remove_file(keys.path("one"))?;
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?, unsealed("key-2"));
    readable(&stack, &tokens).await?;
    known(&stack, &tokens).await?;

    // Other bytes under the same id, an id that nothing was sealed under, no key at all.
    keys.write("two", &data_encoding::BASE64.encode(&[3; 32]))?;
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?.0, SealState::Sealed);
    assert!(refusal(&stack).await?.contains("key-2 does not open the seal"));
    keys.write("two", &data_encoding::BASE64.encode(&[2; 32]))?;
    stack.unseal().await?;
    readable(&stack, &tokens).await?;
    known(&stack, &tokens).await?;
    stack.configure_seal(keys.static_key());
    restart(&mut stack)?;
    assert!(refusal(&stack).await?.contains("key-2, which is not configured"));
    assert!(stack.audit("vault").contains("seal-unavailable"));
    let log = stack.vault.log();
    for secret in [[1; 32], [2; 32], [3; 32]].map(|key| data_encoding::BASE64.encode(&key)) {
        assert!(!log.contains(&secret) && !stack.audit("vault").contains(&secret));
    }
    Ok(())
}

#[tokio::test]
async fn a_key_in_the_hsm_unseals_at_the_start_and_nothing_opens_without_it() -> Result<()> {
    let keys = Keys::new()?;
    let mut stack = Stack::start(keys.options(SealKind::Pkcs11, keys.hsm())).await?;
    let tokens = fill(&stack).await?;
    restart(&mut stack)?;
    let unsealed = (SealState::Unsealed, Some(SealKind::Pkcs11), Some("root-1".to_owned()));
    assert_eq!(state(&stack).await?, unsealed);
    readable(&stack, &tokens).await?;
    known(&stack, &tokens).await?;
    let audit = stack.audit("vault");
    assert!(audit.lines().any(|line| line.contains("seal:pkcs11") && line.contains("\"unseal\"")), "{audit}");

    // A wrong PIN: sealed, said why, and unsealed once it is right.
    keys.write("pin", "000000")?;
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?.0, SealState::Sealed);
    assert!(refusal(&stack).await?.contains("refuses the PIN"));
    keys.write("pin", PIN)?;
    stack.unseal().await?;
    readable(&stack, &tokens).await?;
    known(&stack, &tokens).await?;

    // The key is gone from the token: sealed, and no other is made in its place.
    let objects = keys.objects()?;
    assert!(!objects.is_empty());
    let aside = keys.path("aside");
    fs::create_dir(&aside)?;
    let moved = |path: &PathBuf| Ok::<_, anyhow::Error>(aside.join(path.file_name().context("a name")?));
    for object in &objects {
        fs::rename(object, moved(object)?)?;
    }
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?.0, SealState::Sealed);
    assert!(refusal(&stack).await?.contains("has no AES key with the label root-1"));
    assert!(keys.objects()?.is_empty());
    for object in &objects {
        fs::rename(moved(object)?, object)?;
    }
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?, unsealed);
    readable(&stack, &tokens).await?;
    known(&stack, &tokens).await?;
    let log = stack.vault.log();
    assert!(!log.contains(PIN) && !stack.audit("vault").contains(PIN), "the PIN is nowhere");

    // No token at all: the vault runs, sealed.
    fs::rename(keys.tokens(), keys.path("elsewhere"))?;
    restart(&mut stack)?;
    assert_eq!(state(&stack).await?.0, SealState::Sealed);
    refusal(&stack).await?;
    Ok(())
}

/// A vault that has been through seals: custodians, their identities, and the shares that count.
struct Moving {
    stack: Stack,
    identities: BTreeMap<String, Identity>,
    shares: BTreeMap<String, String>,
    tokens: Vec<Token>,
}

fn name(number: u8) -> String {
    format!("custodian-{number}")
}

impl Moving {
    fn to_shares(&self) -> RekeyRequest {
        let named = |(name, identity): (&String, &Identity)| NewCustodian {
            name: name.clone(),
            recipient: Some(identity.to_public().to_string()),
        };
        let custodians = self.identities.iter().map(named).collect();
        RekeyRequest { to: SealKind::Shamir, rotate_root: false, threshold: 2, custodians }
    }

    async fn begin(&self, request: &RekeyRequest) -> Result<RekeyStatus> {
        let refused = self.stack.administrator()?.begin_rekey(request).await;
        let needs = |error: &ClientError| matches!(error, ClientError::Problem(problem) if problem.code == ProblemCode::ApprovalRequired);
        ensure!(refused.as_ref().err().is_some_and(needs), "two custodians must approve: {refused:?}");
        self.stack.approve(&Operation::ChangeSeal(request.clone())).await?;
        Ok(self.stack.administrator()?.begin_rekey(request).await?)
    }

    async fn give(&self, id: &str, number: u8, share: &str) -> Result<RekeyStatus, anyhow::Error> {
        let share = ShareText::new(Zeroizing::new(share.to_owned()));
        let request = RekeyShare { id: id.to_owned(), share, acknowledge: true };
        Ok(self.stack.administrator_as(&name(number))?.give_rekey_share(&request).await?)
    }

    /// The new shares, opened by their custodians.
    fn fetched(&self, status: &RekeyStatus) -> Result<BTreeMap<String, String>> {
        let mut shares = BTreeMap::new();
        for issued in &status.issued {
            let Delivery::Age(file) = &issued.delivery else { anyhow::bail!("a share in clear") };
            let identity = self.identities.get(&issued.custodian).context("an identity")?;
            shares.insert(
                issued.custodian.clone(),
                String::from_utf8(age::decrypt(identity, file.as_bytes())?)?,
            );
        }
        Ok(shares)
    }

    async fn unseal_by_shares(&self) -> Result<()> {
        for number in [1, 2] {
            let share = self.shares.get(&name(number)).context("a share")?;
            let share = Some(ShareText::new(Zeroizing::new(share.clone())));
            let request = UnsealRequest { share, acknowledge: true };
            self.stack.administrator_as(&name(number))?.unseal(&request).await?;
        }
        Ok(())
    }

    /// Every record, to the byte. The vault is down for it.
    fn rows(&mut self) -> Result<Vec<String>> {
        self.stack.vault.kill()?;
        let rows = {
            let store = FjallStore::open(&self.stack.vault_data().join("store"), None)?;
            let mut rows = Vec::new();
            for number in 0..4 {
                let read = store.scan(CollectionId(number), None, 100)?;
                rows.extend(read.iter().map(|row| format!("{number} {row:?} {:?}", row.sealed.as_bytes())));
            }
            rows
        };
        self.stack.restart_vault()?;
        Ok(rows)
    }

    async fn check(&self, kind: SealKind) -> Result<()> {
        let (state, seal, _key) = state(&self.stack).await?;
        ensure!((state, seal) == (SealState::Unsealed, Some(kind)), "{state:?} {seal:?}");
        readable(&self.stack, &self.tokens).await
    }
}

#[tokio::test]
async fn from_shares_to_the_hsm_to_a_static_key_and_back_without_touching_a_record() -> Result<()> {
    let keys = Keys::new()?;
    let both = format!("{}\n{}", keys.static_key(), keys.hsm());
    let stack = Stack::start(keys.options(SealKind::Pkcs11, both)).await?;
    let identities = (1..=3).map(|number| (name(number), Identity::generate())).collect();
    let tokens = fill(&stack).await?;
    let mut moving = Moving { stack, identities, shares: BTreeMap::new(), tokens };
    let before = moving.rows()?;
    assert_eq!(before.len(), usize::try_from(CARDS)?);
    moving.check(SealKind::Pkcs11).await?;

    // HSM to shares: they count once a quorum of them came back, the HSM until then.
    let to_shares = moving.to_shares();
    let begun = moving.begin(&to_shares).await?;
    assert_eq!((begun.state, begun.to, begun.issued.len()), (RekeyState::Proving, SealKind::Shamir, 3));
    let proven = moving.fetched(&begun)?;
    restart(&mut moving.stack)?;
    moving.check(SealKind::Pkcs11).await?;
    let begun = moving.begin(&to_shares).await?;
    moving.shares = moving.fetched(&begun)?;
    assert!(proven.values().all(|old| !moving.shares.values().any(|new| new == old)));
    for number in [1, 2] {
        let share = moving.shares.get(&name(number)).context("a share")?.clone();
        moving.give(&begun.id, number, &share).await?;
    }
    moving.check(SealKind::Shamir).await?;
    restart(&mut moving.stack)?;
    assert_eq!(state(&moving.stack).await?.0, SealState::Sealed, "no device opens it now");
    moving.unseal_by_shares().await?;
    moving.check(SealKind::Shamir).await?;

    // Shares to the HSM: the quorum gives its shares for it, with a new root key.
    let to_hsm = RekeyRequest { to: SealKind::Pkcs11, rotate_root: true, ..RekeyRequest::default() };
    let begun = moving.begin(&to_hsm).await?;
    assert_eq!((begun.state, begun.needed), (RekeyState::Collecting, 2));
    for number in [1, 3] {
        let share = moving.shares.get(&name(number)).context("a share")?.clone();
        moving.give(&begun.id, number, &share).await?;
    }
    moving.check(SealKind::Pkcs11).await?;
    restart(&mut moving.stack)?;
    moving.check(SealKind::Pkcs11).await?;

    // HSM to static key: at once.
    let to_static = RekeyRequest { to: SealKind::Static, ..RekeyRequest::default() };
    assert_eq!(moving.begin(&to_static).await?.state, RekeyState::Done);
    moving.check(SealKind::Static).await?;
    moving.stack.configure_seal(keys.static_key());
    assert_eq!(moving.rows()?, before, "no record was touched");
    moving.check(SealKind::Static).await?;
    known(&moving.stack, &moving.tokens).await?;
    // Without the HSM in the configuration there is no way to it, and no approval is used up.
    let refused = moving.stack.administrator()?.begin_rekey(&to_hsm).await;
    assert!(
        matches!(&refused, Err(ClientError::Problem(problem)) if problem.code == ProblemCode::BadField),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn from_a_static_key_to_shares_without_touching_a_record_and_the_key_opens_nothing_more() -> Result<()>
{
    let keys = Keys::new()?;
    let stack = Stack::start(keys.options(SealKind::Static, keys.static_key())).await?;
    let identities = (1..=3).map(|number| (name(number), Identity::generate())).collect();
    let tokens = fill(&stack).await?;
    let mut moving = Moving { stack, identities, shares: BTreeMap::new(), tokens };
    let before = moving.rows()?;
    assert_eq!(before.len(), usize::try_from(CARDS)?);
    moving.stack.vault.kill()?;
    let store = moving.stack.vault_data().join("store");
    let static_seal = FjallStore::open(&store, None)?.document("seal")?.context("a seal")?;
    moving.stack.restart_vault()?;

    // The shares are out, and the key counts until a quorum of them came back: across a restart, too.
    let to_shares = moving.to_shares();
    let begun = moving.begin(&to_shares).await?;
    assert_eq!((begun.state, begun.to, begun.issued.len()), (RekeyState::Proving, SealKind::Shamir, 3));
    restart(&mut moving.stack)?;
    moving.check(SealKind::Static).await?;
    let begun = moving.begin(&to_shares).await?;
    moving.shares = moving.fetched(&begun)?;
    let share = |number: u8| moving.shares.get(&name(number)).cloned().context("a share");
    moving.give(&begun.id, 1, &share(1)?).await?;
    moving.check(SealKind::Static).await?;
    assert_eq!(moving.give(&begun.id, 2, &share(2)?).await?.state, RekeyState::Done);
    moving.check(SealKind::Shamir).await?;

    // The key is configured and its file is there, and it opens nothing.
    restart(&mut moving.stack)?;
    assert_eq!(state(&moving.stack).await?.0, SealState::Sealed);
    let asked = UnsealRequest { share: None, acknowledge: false };
    match moving.stack.administrator()?.unseal(&asked).await {
        Err(ClientError::Problem(problem)) => assert_eq!(problem.code, ProblemCode::BadShare),
        other => anyhow::bail!("not refused: {other:?}"),
    }
    moving.unseal_by_shares().await?;
    moving.check(SealKind::Shamir).await?;
    assert_eq!(moving.rows()?, before, "no record was touched");
    moving.unseal_by_shares().await?;
    moving.check(SealKind::Shamir).await?;
    known(&moving.stack, &moving.tokens).await?;

    // Nor with the seal of before put back: its root key is the same, and the keyring knows that it is over.
    moving.stack.vault.kill()?;
    let present = {
        let store = FjallStore::open(&store, None)?;
        let present = store.document("seal")?.context("a seal")?;
        store.put_document("seal", Some(present.version), static_seal.bytes).await?;
        present
    };
    moving.stack.restart_vault()?;
    assert_eq!(state(&moving.stack).await?.0, SealState::Sealed);
    assert!(moving.stack.audit("vault").contains("seal-rolled-back"));
    moving.stack.vault.kill()?;
    {
        let store = FjallStore::open(&store, None)?;
        let rolled_back = store.document("seal")?.context("a seal")?;
        store.put_document("seal", Some(rolled_back.version), present.bytes).await?;
    }
    moving.stack.restart_vault()?;
    moving.unseal_by_shares().await?;
    moving.check(SealKind::Shamir).await
}

#[tokio::test]
async fn a_kill_leaves_the_seal_before_or_the_one_after() -> Result<()> {
    let keys = Keys::new()?;
    let both = format!("{}\n{}", keys.static_key(), keys.hsm());
    let stack = Stack::start(keys.options(SealKind::Static, both)).await?;
    let tokens = fill(&stack).await?;
    let mut moving = Moving { stack, identities: BTreeMap::new(), shares: BTreeMap::new(), tokens };
    let mut moved = 0;
    for round in 0..8_u64 {
        let to = match state(&moving.stack).await?.1 {
            Some(SealKind::Static) => SealKind::Pkcs11,
            _ => SealKind::Static,
        };
        let request = RekeyRequest { to, rotate_root: round % 2 == 0, ..RekeyRequest::default() };
        let administrator = moving.stack.administrator()?;
        let operation = Operation::ChangeSeal(request.clone());
        // A round that was killed before it used its approval leaves it to one that asks for the same.
        if administrator.request_approval(&operation).await?.state == ApprovalState::Pending {
            moving.stack.approve(&operation).await?;
        }
        let call = tokio::spawn(async move { administrator.begin_rekey(&request).await });
        // Before, between and after the documents; whichever it hits, the claims below hold.
        tokio::time::sleep(Duration::from_millis(round * 6)).await;
        restart(&mut moving.stack)?;
        let answered = call.await?.is_ok();
        let (state, seal, _key) = state(&moving.stack).await?;
        assert_eq!(state, SealState::Unsealed, "round {round}");
        assert!(!answered || seal == Some(to), "round {round}: what was answered is in force");
        moved += u32::from(seal == Some(to));
        readable(&moving.stack, &moving.tokens).await?;
        known(&moving.stack, &moving.tokens).await?;
    }
    println!("{moved} of 8 changes came through");
    Ok(())
}

#[tokio::test]
async fn neither_a_key_nor_a_pin_stands_in_the_configuration_or_is_open_to_others() -> Result<()> {
    let keys = Keys::new()?;
    let mut stack = Stack::start(keys.options(SealKind::Static, keys.static_key())).await?;
    fs::set_permissions(keys.path("one"), fs::Permissions::from_mode(0o644))?;
    restart(&mut stack)?;
    assert!(refusal(&stack).await?.contains("is open to others"));
    let config = stack.dir().join("vault.toml");
    let text = fs::read_to_string(&config)?;
    let checked = |text: &str, path: &Path| {
        fs::write(path, text)?;
        let vault = cordon_tests::process::binary("cordon-vault")?;
        Ok::<_, anyhow::Error>(Command::new(vault).arg("--config").arg(path).arg("--check").output()?)
    };
    let inline = text.replace("{ file =", "{ value =");
    assert_eq!(checked(&inline, &stack.dir().join("inline.toml"))?.status.code(), Some(78));
    let live = text.replace("environment = \"dev\"", "environment = \"live\"");
    let refused = checked(&live, &stack.dir().join("live.toml"))?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(78) && said.contains("systemd credential"), "{said}");
    assert!(checked(&text, &stack.dir().join("good.toml"))?.status.success());
    Ok(())
}
