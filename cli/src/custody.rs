//! `init`, `unseal` and `seal`: the custodians' ceremony from the terminal.
//!
//! Must never take a share from an argument or the environment, echo one, or show one twice.
//! Tests: below; the ceremony itself in the workspace's `tests` crate.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::Args;
use cordon_client::Administrator;
use cordon_wire::{InitRequest, InitResponse, SealKind, SealState, SealStatus, ShareText, UnsealRequest};
use std::io::{self, BufRead, IsTerminal};
use zeroize::Zeroizing;

/// `cordon init`.
#[derive(Debug, Args)]
#[command(after_help = "The shares are shown once and kept nowhere. Give each to a different custodian
(PCI DSS 3.6.1.2, 3.7.6): whoever holds `threshold` of them holds the vault.

Examples:
  cordon init                             five shares, any three of which unseal
  cordon init --shares 7 --threshold 4
  cordon init --json                      the shares as JSON, for a ceremony script
  cordon init --dev                       a key file instead of shares; refused by a live vault")]
pub(crate) struct Init {
    /// Shares to make
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=255))]
    shares: u8,
    /// Shares needed to unseal
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=255))]
    threshold: u8,
    /// Seal with a key file instead of shares, for development
    #[arg(long, conflicts_with_all = ["shares", "threshold"])]
    dev: bool,
}

/// `cordon unseal`.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal the share is asked for and not echoed: one custodian, one run. From a pipe
every line is a share. Shares given before still count until the vault is unsealed or sealed again.

Examples:
  cordon unseal                           each custodian runs this once
  cordon unseal --all                     asks until the vault is unsealed
  cordon unseal < share.txt               shares from a file or a pipe, one per line"
)]
pub(crate) struct Unseal {
    /// Ask for shares until the vault is unsealed
    #[arg(long)]
    all: bool,
}

/// `cordon seal`.
#[derive(Debug, Args)]
#[command(after_help = "Takes effect at once: every call is refused until custodians unseal the vault again.

Examples:
  cordon seal
  cordon seal --json")]
pub(crate) struct Seal {}

impl Init {
    /// Makes the vault's keys and prints the shares.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let request = self.request()?;
        let console = settings.console();
        if request.seal == SealKind::Shamir && !console.json() && !io::stdout().is_terminal() {
            return Err(Failure::usage(
                "stdout is not a terminal: the shares would end up in a file or a log",
            )
            .next("run it on a terminal, or ask for --json if a ceremony script takes the shares"));
        }
        let administrator = settings.administrator()?;
        let response = block_on(async { Ok(administrator.init(&request).await?) })?;
        match console.answer(&response, announcement) {
            Err(_) if request.seal == SealKind::Shamir => Err(Failure::refused(
                "shares-lost",
                "the vault is initialised, but its shares could not be shown and nobody has them",
            )
            .next("it holds no cards yet: stop it, remove its data directory and initialise it again")),
            result => result.map(|()| Verdict::Fine),
        }
    }

    fn request(&self) -> Result<InitRequest, Failure> {
        if self.threshold > self.shares {
            return Err(Failure::usage(format!(
                "--threshold {} is more than --shares {}: nobody could ever unseal",
                self.threshold, self.shares
            )));
        }
        let seal = if self.dev { SealKind::DevFile } else { SealKind::Shamir };
        Ok(InitRequest { seal, shares: self.shares, threshold: self.threshold })
    }
}

impl Unseal {
    /// Gives shares until the vault is unsealed or there are no more.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let status = block_on(self.give_shares(&administrator, settings))?;
        settings.console().answer(&status, describe)?;
        Ok(Verdict::Fine)
    }

    async fn give_shares(
        &self,
        administrator: &Administrator,
        settings: &Settings,
    ) -> Result<SealStatus, Failure> {
        let mut status = administrator.seal_status().await?;
        match (status.state, status.seal) {
            (SealState::Unsealed, _) => return Ok(status),
            (SealState::Uninitialized, _) => {
                return Err(Failure::refused("not-initialized", "the vault has no keys yet")
                    .next("run `cordon init`"));
            }
            (SealState::Sealed, Some(SealKind::DevFile)) => {
                return Ok(administrator.unseal(&UnsealRequest { share: None }).await?);
            }
            (SealState::Sealed, _) => {}
        }
        let mut shares = Shares::of_stdin(self.all);
        let mut given = 0_u32;
        while status.state != SealState::Unsealed {
            let Some(share) = shares.next(&status)? else { break };
            status = administrator.unseal(&UnsealRequest { share: Some(share) }).await?;
            given = given.saturating_add(1);
            if self.all && !settings.console().json() && status.state != SealState::Unsealed {
                settings.console().note(&describe(&status));
            }
        }
        if given == 0 {
            return Err(
                Failure::usage("no share was given").next("type it, or pipe it in, one share per line")
            );
        }
        Ok(status)
    }
}

impl Seal {
    /// Seals the vault.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let administrator = settings.administrator()?;
        let status = block_on(async { Ok(administrator.seal().await?) })?;
        settings.console().answer(&status, describe)?;
        Ok(Verdict::Fine)
    }
}

/// Where shares come from.
enum Shares {
    /// A custodian at a terminal; `more` while another may be asked for.
    Terminal { all: bool, more: bool },
    /// Lines of a pipe or file.
    Lines,
}

impl Shares {
    fn of_stdin(all: bool) -> Self {
        if io::stdin().is_terminal() { Self::Terminal { all, more: true } } else { Self::Lines }
    }

    fn next(&mut self, status: &SealStatus) -> Result<Option<ShareText>, Failure> {
        match self {
            Self::Terminal { more: false, .. } => Ok(None),
            Self::Terminal { all, more } => {
                *more = *all;
                let nth = status.progress.saturating_add(1);
                let prompt = match status.threshold {
                    Some(threshold) => format!("Share {nth} of {threshold} (not shown): "),
                    None => "Share (not shown): ".to_owned(),
                };
                let text = Zeroizing::new(rpassword::prompt_password(prompt)?);
                Ok(share(&text))
            }
            Self::Lines => next_line(&mut io::stdin().lock()),
        }
    }
}

/// The next share of a stream: blank lines are skipped.
fn next_line(from: &mut impl BufRead) -> Result<Option<ShareText>, Failure> {
    loop {
        let mut line = Zeroizing::new(String::with_capacity(LONGEST_SHARE_LINE));
        let read = io::Read::take(&mut *from, LONGEST_SHARE_LINE as u64).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if read == LONGEST_SHARE_LINE && !line.ends_with('\n') {
            return Err(Failure::usage("a line is too long to be a share"));
        }
        if let Some(share) = share(&line) {
            return Ok(Some(share));
        }
    }
}

fn share(text: &str) -> Option<ShareText> {
    let text = text.trim();
    (!text.is_empty()).then(|| ShareText::new(Zeroizing::new(text.to_owned())))
}

/// What `init` tells a human.
fn announcement(response: &InitResponse) -> String {
    if response.shares.is_empty() {
        return "The vault is initialised with a development key file. Next: cordon unseal\n".to_owned();
    }
    // Built in one allocation: a growing string would leave pieces of shares behind in freed memory.
    let mut out =
        String::with_capacity(response.shares.len().saturating_mul(LONGEST_SHARE_LINE).saturating_add(1024));
    out.push_str("The vault is initialised. These shares are shown this once and kept nowhere.\n\n");
    for (index, share) in response.shares.iter().enumerate() {
        out.push_str(&format!("  {:>3}  ", index.saturating_add(1)));
        out.push_str(share.expose());
        out.push('\n');
    }
    let threshold = response.status.threshold.unwrap_or_default();
    out.push_str(&format!(
        "\nWARNING: hand each share to a different custodian, then clear this screen and its scrollback.\n\
         Any {threshold} of the {} together open the vault; with fewer it is lost, cards and all.\n\
         Next: each custodian runs `cordon unseal`.\n",
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

/// Bytes in one line of a share stream; shares are far shorter.
const LONGEST_SHARE_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use cordon_card::Environment;

    fn status(state: SealState, progress: u8) -> SealStatus {
        SealStatus {
            state,
            environment: Environment::Dev,
            seal: Some(SealKind::Shamir),
            threshold: Some(3),
            shares: Some(5),
            progress,
        }
    }

    #[test]
    fn a_threshold_above_the_shares_is_refused_before_the_vault_is_asked() {
        let init = Init { shares: 3, threshold: 4, dev: false };
        assert_eq!(init.request().unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn piped_shares_are_one_per_line_and_blank_lines_do_not_count() {
        let mut input = io::Cursor::new("\n  share-one  \r\n\nshare-two");
        assert_eq!(next_line(&mut input).unwrap().unwrap().expose(), "share-one");
        assert_eq!(next_line(&mut input).unwrap().unwrap().expose(), "share-two");
        assert!(next_line(&mut input).unwrap().is_none());
    }

    #[test]
    fn an_endless_line_is_refused_without_being_read_whole() {
        let mut input = io::BufReader::new(io::repeat(b'a'));
        assert!(next_line(&mut input).is_err());
    }

    #[test]
    fn the_announcement_numbers_the_shares_and_warns() {
        let shares = ["one", "two"].map(|text| ShareText::new(Zeroizing::new(text.to_owned())));
        let text =
            announcement(&InitResponse { shares: shares.into(), status: status(SealState::Sealed, 0) });
        assert!(text.contains("    1  one\n    2  two\n"), "{text}");
        assert!(text.contains("different custodian"), "{text}");
        assert!(text.lines().all(|line| line.len() <= layout::WIDTH), "{text}");
    }

    #[test]
    fn progress_says_how_many_shares_are_missing() {
        let text = describe(&status(SealState::Sealed, 2));
        assert!(text.contains("2 of 3 shares given, 1 share to go"), "{text}");
    }
}
