//! `cordon token`: inspect and delete tokens.
//!
//! Must never reveal (it holds a client that cannot), and never repeat an argument that is not a token: it may be
//! a card number. Tests: below.

use crate::collection;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use crate::layout;
use clap::{Args, Subcommand};
use cordon_card::{CollectionName, Pan, Token};
use cordon_wire::{DeleteRequest, Deleted, InspectRequest, Inspected, ItemResult, Items, Submitted, limits};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use zeroize::Zeroizing;

/// `cordon token ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Show what is known of tokens without revealing them
    Inspect(Inspect),
    /// Erase tokens with their records, for ever
    Delete(Delete),
}

/// `cordon token inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 when any of the tokens was refused.

Examples:
  cordon token inspect --collection cards tok_dev_...
  cordon token inspect --collection cards --json - < tokens.txt")]
pub(crate) struct Inspect {
    #[command(flatten)]
    named: Named,
}

/// `cordon token delete`.
#[derive(Debug, Args)]
#[command(
    after_help = "There is no way back. On a terminal it asks first. Exits 1 when any token was refused.

Examples:
  cordon token delete --collection cards tok_dev_...
  cordon token delete --collection cards --yes - < tokens.txt"
)]
pub(crate) struct Delete {
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct Named {
    /// The collection they belong to
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: CollectionName,
    /// Tokens; `-` reads them from stdin, one per line
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
}

impl Tokens {
    /// Does what was asked.
    pub(crate) fn run(self, settings: &Settings) -> Result<Verdict, Failure> {
        match self {
            Self::Inspect(inspect) => inspect.run(settings),
            Self::Delete(delete) => delete.run(settings),
        }
    }
}

impl Inspect {
    fn run(self, settings: &Settings) -> Result<Verdict, Failure> {
        let tokens = self.named.read(&mut io::stdin().lock())?;
        let client = settings.tokenizer()?;
        let mut answer = Items { items: Vec::with_capacity(tokens.len()) };
        block_on(async {
            for batch in tokens.chunks(limits::MAX_ITEMS) {
                let request = InspectRequest { items: batch.iter().cloned().map(Submitted::Valid).collect() };
                answer.items.extend(client.inspect(&self.named.collection, &request).await?.items);
            }
            Ok(())
        })?;
        settings.console().answer(&answer, |answer| describe(&tokens, answer, inspected))?;
        Ok(verdict(&answer))
    }
}

impl Delete {
    fn run(self, settings: &Settings) -> Result<Verdict, Failure> {
        let tokens = self.named.read(&mut io::stdin().lock())?;
        if !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal() && !confirmed(tokens.len())? {
            return Err(Failure::refused("not-confirmed", "nothing was deleted"));
        }
        let client = settings.tokenizer()?;
        let mut answer = Items { items: Vec::with_capacity(tokens.len()) };
        let spinner = settings.console().spinner("deleting");
        let done = block_on(async {
            for batch in tokens.chunks(limits::MAX_ITEMS) {
                let request = DeleteRequest { items: batch.iter().cloned().map(Submitted::Valid).collect() };
                answer.items.extend(client.delete(&self.named.collection, &request).await?.items);
            }
            Ok::<(), Failure>(())
        });
        spinner.finish_and_clear();
        // What was erased before a failure is erased: it is reported in any case.
        if !answer.items.is_empty() || done.is_ok() {
            settings.console().answer(&answer, |answer| describe(&tokens, answer, deleted))?;
        }
        done?;
        Ok(verdict(&answer))
    }
}

impl Named {
    fn read(&self, stdin: &mut impl BufRead) -> Result<Vec<Token>, Failure> {
        let mut tokens = Vec::new();
        for (index, argument) in self.tokens.iter().enumerate() {
            if argument != "-" {
                tokens.push(token(argument, &format!("argument {}", index.saturating_add(1)))?);
                continue;
            }
            let mut number = 0_u64;
            loop {
                let mut line = Zeroizing::new(String::with_capacity(LONGEST_LINE));
                if Read::take(&mut *stdin, LONGEST_LINE as u64).read_line(&mut line)? == 0 {
                    break;
                }
                number = number.saturating_add(1);
                if !line.trim().is_empty() {
                    tokens.push(token(line.trim(), &format!("line {number}"))?);
                }
            }
        }
        if tokens.is_empty() { Err(Failure::usage("no token was given")) } else { Ok(tokens) }
    }
}

/// Parses a token; on failure says where it stood, not what it was.
fn token(text: &str, place: &str) -> Result<Token, Failure> {
    Token::parse(text).map_err(|_error| {
        if Pan::parse(text).is_ok() {
            return Failure::usage(format!("{place} is a card number, not a token"))
                .next("remove it from your shell's history, and from wherever it came from");
        }
        Failure::usage(format!("{place} is not a token (it is not repeated here)"))
    })
}

fn confirmed(count: usize) -> Result<bool, Failure> {
    let mut stderr = io::stderr().lock();
    let tokens = layout::counted(u64::try_from(count).unwrap_or(u64::MAX), "token");
    write!(stderr, "Delete {tokens} with their cards, for ever? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    Read::take(io::stdin().lock(), 16).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn verdict<T>(answer: &Items<T>) -> Verdict {
    let refused = answer.items.iter().any(|item| matches!(item, ItemResult::Error(_)));
    if refused { Verdict::Refused } else { Verdict::Fine }
}

/// One block per token, in the order asked.
fn describe<T>(tokens: &[Token], answer: &Items<T>, one: impl Fn(&T) -> String) -> String {
    let mut out = String::new();
    for (token, item) in tokens.iter().zip(&answer.items) {
        out.push_str(token.as_str());
        out.push('\n');
        match item {
            ItemResult::Ok(found) => out.push_str(&one(found)),
            ItemResult::Error(problem) => {
                out.push_str(&format!("  refused   {} ({})\n", problem.code.title(), problem.code.as_str()));
            }
        }
    }
    out
}

fn inspected(card: &Inspected) -> String {
    let expiry =
        card.expiry.map_or_else(String::new, |e| format!(", expires {:04}-{:02}", e.year(), e.month()));
    let used = if card.used { ", already given out" } else { "" };
    format!(
        "  card      {} {}{expiry}{used}\n  card id   {}\n  created   {}, key version {}\n",
        card.masked,
        card.brand.as_str(),
        card.card_id,
        layout::moment(&card.created_at),
        card.key_version
    )
}

fn deleted(_: &Deleted) -> String {
    "  deleted\n".to_owned()
}

/// Bytes of one line of tokens; tokens are far shorter.
const LONGEST_LINE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_card::Environment;
    use cordon_wire::ProblemCode;

    fn opaque(fill: u8) -> Token {
        Token::opaque(Environment::Dev, &[fill; 17])
    }

    fn named(tokens: &[&str]) -> Named {
        Named {
            collection: CollectionName::parse("cards").unwrap(),
            tokens: tokens.iter().map(|&token| token.to_owned()).collect(),
        }
    }

    #[test]
    fn an_argument_that_is_no_token_is_not_repeated() {
        for text in ["4111 1111 1111 1111", "4111111111111111", "secret-text"] {
            let failure = named(&[text]).read(&mut io::empty()).unwrap_err().to_string();
            assert!(failure.contains("argument 1"), "{failure}");
            assert!(!failure.contains("4111") && !failure.contains("secret"), "{failure}");
        }
    }

    #[test]
    fn a_card_number_given_by_mistake_is_called_one() {
        let failure = named(&["4111111111111111"]).read(&mut io::empty()).unwrap_err().to_string();
        assert!(failure.contains("shell's history"), "{failure}");
    }

    #[test]
    fn a_dash_reads_lines_and_skips_blank_ones() {
        let input = format!("{}\n\n  {}  \n", opaque(1), opaque(2));
        let read = named(&[opaque(3).as_str(), "-"]).read(&mut input.as_bytes()).unwrap();
        assert_eq!(read, [opaque(3), opaque(1), opaque(2)]);
    }

    #[test]
    fn no_token_at_all_is_refused() {
        assert!(named(&["-"]).read(&mut "\n".as_bytes()).is_err());
    }

    #[test]
    fn one_refused_token_refuses_the_command_and_is_shown_in_its_place() {
        let answer: Items<Deleted> = Items {
            items: vec![
                ItemResult::Ok(Deleted { token: opaque(1) }),
                ItemResult::Error(ProblemCode::TokenNotFound.into()),
            ],
        };
        assert_eq!(verdict(&answer), Verdict::Refused);
        let text = describe(&[opaque(1), opaque(2)], &answer, deleted);
        assert!(text.contains(&format!("{}\n  refused   No such token", opaque(2))), "{text}");
    }
}
