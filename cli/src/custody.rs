//! `init`, `unseal` and `seal`: the custodians' ceremony from the terminal.
//!
//! Must never take a share from an argument or the environment, echo one, or show one twice.
//! Tests: below; the ceremony itself in the workspace's `tests` crate.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::Args;
use cordon_client::Administrator;
use cordon_wire::{
    Delivery, InitRequest, InitResponse, IssuedShare, NewCustodian, SealKind, SealState, SealStatus,
    UnsealRequest,
};
use share::ShareSource;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

mod migrate;
pub(crate) mod register;
pub(crate) mod rekey;
pub(crate) mod share;

/// `cordon init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each custodian is a service of the policy bundle with role \"custodian\", held by one person. With
an age recipient the share is written to NAME.age, which only that person opens; without one it is
shown once on this terminal and kept nowhere (PCI DSS 3.6.1.2, 3.7.2, 3.7.6).

Examples:
  cordon init --threshold 2 --custodian alice=age1... --custodian bob=age1... --custodian carol
  cordon init --threshold 3 --custodian a --custodian b --custodian c --custodian d --custodian e
  cordon init --json ...                  everything as JSON, for a ceremony script
  cordon init --seal pkcs11               a key in an HSM instead of shares; docs/seals.md
  cordon init --dev                       a key file instead of shares; refused by a live vault"
)]
pub(crate) struct Init {
    #[command(flatten)]
    set: CustodianSet,
    /// Write encrypted shares to NAME.age in this directory
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    shares_dir: PathBuf,
    /// Seal with a key file instead of shares, for development
    #[arg(long, conflicts_with_all = ["custodian", "threshold", "seal"])]
    dev: bool,
    /// Seal with a key of the vault's configuration instead of shares
    #[arg(long, value_name = "KIND", conflicts_with_all = ["custodian", "threshold"])]
    seal: Option<migrate::Device>,
}

/// Who holds shares, and how many are needed.
#[derive(Debug, Default, Args)]
pub(crate) struct CustodianSet {
    /// A custodian, and the age recipient the share is encrypted to; once for each
    #[arg(long, value_name = "NAME[=RECIPIENT]", value_parser = custodian)]
    custodian: Vec<NewCustodian>,
    /// Shares needed to unseal
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    threshold: u8,
}

/// `cordon unseal`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each custodian runs this once, with a certificate of their own: a share counts only from the
custodian it was assigned to. On a terminal it is asked for and not echoed; from a pipe it is the
first line. Shares wait 15 minutes for the others. With their first share custodians acknowledge
that they understand and accept their duties (PCI DSS 3.7.8; docs/ceremonies.md): --acknowledge.

Examples:
  cordon unseal
  cordon unseal --share-file alice.age --identity ~/.age/key.txt
  cordon unseal --acknowledge < share.txt"
)]
pub(crate) struct Unseal {
    #[command(flatten)]
    source: ShareSource,
    /// Acknowledge the duties of a custodian; recorded
    #[arg(long)]
    acknowledge: bool,
}

/// `cordon seal`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Takes effect at once: every call is refused until the vault is unsealed again.

Examples:
  cordon seal
  cordon seal --json
  cordon seal migrate --to pkcs11        let an HSM seal instead of custodians' shares"
)]
pub(crate) struct Seal {
    #[command(subcommand)]
    command: Option<migrate::SealCommand>,
}

impl Init {
    /// Makes the vault's keys and hands the shares over.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let request = self.request()?;
        let console = settings.console();
        let shown = request.custodians.iter().any(|custodian| custodian.recipient.is_none());
        if shown && !console.json() && !io::stdout().is_terminal() {
            return Err(Failure::usage(
                "stdout is not a terminal: the shares would end up in a file or a log",
            )
            .next("give every custodian an age recipient, run it on a terminal, or ask for --json"));
        }
        let files = ShareFiles::open(&self.shares_dir, &request.custodians, console.json())?;
        let administrator = settings.administrator()?;
        let response = match block_on(async { Ok(administrator.init(&request).await?) }) {
            Ok(response) => response,
            Err(failure) => {
                files.remove()?;
                return Err(failure);
            }
        };
        let handed = files.write(&response.shares).and_then(|()| console.answer(&response, announcement));
        match handed {
            Err(_) if request.seal == SealKind::Shamir => Err(Failure::refused(
                "shares-lost",
                "the vault is initialised, but its shares could not be handed over and nobody has them",
            )
            .next("it holds no cards yet: stop it, remove its data directory and initialise it again")),
            result => result.map(|()| Verdict::Fine),
        }
    }

    fn request(&self) -> Result<InitRequest, Failure> {
        let seal = match (self.dev, self.seal) {
            (true, _) => SealKind::DevFile,
            (false, Some(device)) => device.into(),
            (false, None) => SealKind::Shamir,
        };
        let custodians = if seal == SealKind::Shamir { self.set.checked()?.to_vec() } else { Vec::new() };
        Ok(InitRequest { seal, custodians, threshold: self.set.threshold })
    }
}

impl CustodianSet {
    /// The custodians, if they are enough.
    pub(crate) fn checked(&self) -> Result<&[NewCustodian], Failure> {
        if self.custodian.len() < usize::from(self.threshold) {
            return Err(Failure::usage(format!(
                "--threshold {} needs as many custodians, and {} are named: nobody could ever unseal",
                self.threshold,
                self.custodian.len()
            ))
            .next("name each with --custodian NAME=age1..."));
        }
        Ok(&self.custodian)
    }

    /// Shares needed to unseal.
    pub(crate) fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Whether anybody is named.
    fn any(&self) -> bool {
        !self.custodian.is_empty()
    }

    #[cfg(test)]
    fn of(custodians: &[&str], threshold: u8) -> Self {
        let custodian = custodians.iter().map(|text| custodian(text).unwrap()).collect();
        Self { custodian, threshold }
    }
}

/// `NAME` or `NAME=RECIPIENT`.
fn custodian(text: &str) -> Result<NewCustodian, String> {
    let (name, recipient) = match text.split_once('=') {
        Some((name, recipient)) => (name, Some(recipient.to_owned())),
        None => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err("give NAME or NAME=RECIPIENT, with a name of the policy bundle".to_owned());
    }
    if recipient.as_deref().is_some_and(|recipient| !recipient.starts_with("age1")) {
        return Err("a recipient begins with age1; the other half stays with the custodian".to_owned());
    }
    Ok(NewCustodian { name: name.to_owned(), recipient })
}

/// Files for encrypted shares, made before the vault makes the shares.
struct ShareFiles(Vec<(String, PathBuf, std::fs::File)>);

impl ShareFiles {
    fn open(directory: &Path, custodians: &[NewCustodian], json: bool) -> Result<Self, Failure> {
        let mut files = Self(Vec::new());
        if json {
            return Ok(files);
        }
        for NewCustodian { name, .. } in custodians.iter().filter(|custodian| custodian.recipient.is_some()) {
            let path = directory.join(format!("{name}.age"));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => files.0.push((name.clone(), path, file)),
                Err(error) => {
                    let failure = Failure::file(&path, &error);
                    files.remove()?;
                    return Err(failure);
                }
            }
        }
        Ok(files)
    }

    fn write(self, shares: &[IssuedShare]) -> Result<(), Failure> {
        for (name, path, mut file) in self.0 {
            let share = shares.iter().find(|share| share.custodian == name);
            let Some(Delivery::Age(text)) = share.map(|share| &share.delivery) else {
                return Err(Failure::refused("malformed", format!("no encrypted share came for {name}")));
            };
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| Failure::file(&path, &error))?;
        }
        Ok(())
    }

    fn remove(self) -> Result<(), Failure> {
        for (_, path, _) in self.0 {
            std::fs::remove_file(&path).map_err(|error| Failure::file(&path, &error))?;
        }
        Ok(())
    }
}

impl Unseal {
    /// Gives one share, or opens a development seal.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let status = block_on(self.give_share(&administrator))?;
        settings.console().answer(&status, describe)?;
        Ok(Verdict::Fine)
    }

    async fn give_share(&self, administrator: &Administrator) -> Result<SealStatus, Failure> {
        let status = administrator.seal_status().await?;
        let share = match (status.state, status.seal) {
            (SealState::Unsealed, _) => return Ok(status),
            (SealState::Uninitialized, _) => {
                return Err(Failure::refused("not-initialized", "the vault has no keys yet")
                    .next("run `cordon init`"));
            }
            (SealState::Sealed, Some(SealKind::DevFile | SealKind::Static | SealKind::Pkcs11)) => None,
            (SealState::Sealed, _) => Some(self.source.read(&prompt(&status))?),
        };
        Ok(administrator.unseal(&UnsealRequest { share, acknowledge: self.acknowledge }).await?)
    }
}

fn prompt(status: &SealStatus) -> String {
    match status.threshold {
        Some(threshold) => {
            format!("Share {} of {threshold} (not shown): ", status.progress.saturating_add(1))
        }
        None => "Share (not shown): ".to_owned(),
    }
}

impl Seal {
    /// Seals the vault.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        if let Some(migrate::SealCommand::Migrate(migrate)) = &self.command {
            return migrate.run(settings, &administrator);
        }
        let status = block_on(async { Ok(administrator.seal().await?) })?;
        settings.console().answer(&status, describe)?;
        Ok(Verdict::Fine)
    }
}

/// What `init` tells a human.
fn announcement(response: &InitResponse) -> String {
    if response.shares.is_empty() {
        let by = match response.status.seal {
            Some(SealKind::Static) => "a static key",
            Some(SealKind::Pkcs11) => "a key in the HSM",
            Some(SealKind::DevFile | SealKind::Shamir) | None => "a development key file",
        };
        return format!("The vault is initialised, sealed by {by}. Next: cordon unseal\n");
    }
    // Built in one allocation: a growing string would leave pieces of shares behind in freed memory.
    let mut out =
        String::with_capacity(response.shares.len().saturating_mul(LONGEST_ROW).saturating_add(1024));
    out.push_str("The vault is initialised.\n\n");
    let mut shown = false;
    for share in &response.shares {
        match &share.delivery {
            Delivery::Age(_) => {
                out.push_str(&format!(
                    "  {:>2}  {}: written to {}.age\n",
                    share.number, share.custodian, share.custodian
                ));
            }
            Delivery::Text(text) => {
                shown = true;
                out.push_str(&format!("  {:>2}  {}:\n      ", share.number, share.custodian));
                out.push_str(text.expose());
                out.push('\n');
            }
        }
    }
    if shown {
        out.push_str(
            "\nWARNING: shares in clear are shown this once and kept nowhere. Hand each to its custodian and to\n\
             nobody else, then clear this screen and its scrollback.\n",
        );
    }
    let threshold = response.status.threshold.unwrap_or_default();
    out.push_str(&format!(
        "\nAny {threshold} of the {} together open the vault; with fewer it is lost, cards and all.\n\
         Next: each custodian runs `cordon unseal --acknowledge`, with their own certificate.\n",
        response.shares.len()
    ));
    out
}

/// The seal in one line.
pub(crate) fn describe(status: &SealStatus) -> String {
    match (status.state, status.threshold) {
        (SealState::Unsealed, _) => {
            format!("The vault is unsealed (environment {}).", status.environment.as_str())
        }
        (SealState::Uninitialized, _) => "The vault is not initialised. Next: cordon init".to_owned(),
        (SealState::Sealed, Some(threshold)) => {
            let missing = u64::from(threshold.saturating_sub(status.progress));
            format!(
                "The vault is sealed: {} of {threshold} shares given, {} to go. Next: cordon unseal",
                status.progress,
                layout::counted(missing, "share")
            )
        }
        (SealState::Sealed, None) => "The vault is sealed. Next: cordon unseal".to_owned(),
    }
}

/// Bytes of one share in the announcement, at most.
const LONGEST_ROW: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use cordon_card::Environment;
    use cordon_wire::ShareText;
    use zeroize::Zeroizing;

    fn status(state: SealState, progress: u8) -> SealStatus {
        SealStatus {
            state,
            environment: Environment::Dev,
            seal: Some(SealKind::Shamir),
            key: None,
            threshold: Some(3),
            shares: Some(5),
            progress,
        }
    }

    #[test]
    fn a_threshold_above_the_custodians_is_refused_before_the_vault_is_asked() {
        let init = |threshold| Init {
            set: CustodianSet::of(&["a", "b", "c"], threshold),
            shares_dir: ".".into(),
            dev: false,
            seal: None,
        };
        assert_eq!(init(4).request().unwrap_err().exit(), Exit::Usage);
        assert_eq!(init(3).request().unwrap().custodians.len(), 3);
    }

    #[test]
    fn a_custodian_is_a_name_and_perhaps_a_recipient() {
        let named = custodian("alice=age1xyz").unwrap();
        assert_eq!((named.name.as_str(), named.recipient.as_deref()), ("alice", Some("age1xyz")));
        assert_eq!(custodian("bob").unwrap().recipient, None);
        for wrong in ["", "=age1x", "a b", "../a", "a/b", "a=AGE-SECRET-KEY-1X", "a="] {
            assert!(custodian(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_of_shares_are_private_and_never_replace_one() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let two = [custodian("a=age1x").unwrap(), custodian("b=age1y").unwrap()];
        let files = ShareFiles::open(scratch.path(), &two, false).unwrap();
        let mode = std::fs::metadata(scratch.path().join("a.age")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(ShareFiles::open(scratch.path(), &two, false).is_err());
        files.remove().unwrap();
        std::fs::write(scratch.path().join("b.age"), "another").unwrap();
        assert!(ShareFiles::open(scratch.path(), &two, false).is_err());
        assert!(!scratch.path().join("a.age").exists(), "nothing half done stays");
        assert!(ShareFiles::open(scratch.path(), &two, true).unwrap().0.is_empty());
    }

    #[test]
    fn the_announcement_names_the_custodians_and_warns() {
        let text = |number: u8, custodian: &str, text: &str| IssuedShare {
            number,
            custodian: custodian.into(),
            delivery: Delivery::Text(ShareText::new(Zeroizing::new(text.to_owned()))),
        };
        let age = IssuedShare { number: 3, custodian: "carol".into(), delivery: Delivery::Age("x".into()) };
        let shares = vec![text(1, "alice", "one"), text(2, "bob", "two"), age];
        let said = announcement(&InitResponse { shares, status: status(SealState::Sealed, 0) });
        assert!(said.contains("   1  alice:\n      one\n"), "{said}");
        assert!(said.contains("carol: written to carol.age") && said.contains("WARNING"), "{said}");
        assert!(said.lines().all(|line| line.len() <= layout::WIDTH), "{said}");
    }

    #[test]
    fn progress_says_how_many_shares_are_missing() {
        let text = describe(&status(SealState::Sealed, 2));
        assert!(text.contains("2 of 3 shares given, 1 share to go"), "{text}");
    }
}
