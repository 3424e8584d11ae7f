//! `cordon import`: cards of a file become tokens of a collection, and a result file says which.
//!
//! Must never write a card number anywhere, nor say one: rows that can't be taken are named by line and code. Must
//! never lose its place: what is recorded as done is on the disk. Tests: below, `tests/tests/import.rs`, and the crate
//! `bulk`, which reads the rows.

use crate::collection;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict};
use clap::{Args, ValueEnum};
use cordon_bulk::{Columns, Format, Rows};
use cordon_card::CollectionName;
use input::Input;
use output::Outputs;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

mod input;
mod output;
mod progress;
mod send;

/// `cordon import`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Import {
    /// The file with the cards; `-` reads stdin
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The collection that takes the cards
    #[arg(long, value_name = "NAME", value_parser = collection::name)]
    collection: CollectionName,
    /// Where the rows go, with tokens in place of the card numbers
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where rows that are refused are named by line and code [default: OUT.rejects.csv]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// How the rows are written; else by the file's name, else by its first byte
    #[arg(long, value_enum)]
    format: Option<Kind>,
    /// What parts the columns of a CSV file; else found out from its first line
    #[arg(long, value_name = "LETTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// The first line of a CSV file is a row already; columns are then numbers
    #[arg(long)]
    no_header: bool,
    /// Column of the card number
    #[arg(long, value_name = "COLUMN")]
    pan_column: Option<String>,
    /// Column of the expiry
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["expiry_month_column", "expiry_year_column"])]
    expiry_column: Option<String>,
    /// Column of the expiry's month
    #[arg(long, value_name = "COLUMN", requires = "expiry_year_column")]
    expiry_month_column: Option<String>,
    /// Column of the expiry's year
    #[arg(long, value_name = "COLUMN", requires = "expiry_month_column")]
    expiry_year_column: Option<String>,
    /// Keep a column encrypted with the card, under a name; may be repeated
    #[arg(long, value_name = "COLUMN=NAME", value_parser = metadata)]
    metadata: Vec<(String, String)>,
    /// Neither send a column nor write it to the result; may be repeated
    #[arg(long, value_name = "COLUMN")]
    omit_column: Vec<String>,
    /// The file is encrypted with age; open it with this identity file
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Refuse the file, before anything is sent, unless this is its SHA-256
    #[arg(long, value_name = "HEX")]
    expect_sha256: Option<String>,
    /// Calls in flight at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=32))]
    parallel: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Comma-separated values, or other delimiters
    Csv,
    /// One JSON object per line
    Jsonl,
}

/// What an import did.
#[derive(Debug, Serialize)]
struct Summary {
    collection: CollectionName,
    columns: cordon_bulk::Chosen,
    /// Rows of the file, those of earlier runs included.
    rows: u64,
    tokens: u64,
    rejected: u64,
    /// Rows that earlier runs of this import had done.
    resumed_after: u64,
    seconds: f64,
    rows_per_second: f64,
    result: PathBuf,
    rejects: PathBuf,
}

impl Import {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        // Before the first card is read: no core dump, no reading of our memory, no swap where it can be had.
        let hardening = cordon_daemon::process::harden();
        if !hardening.core_dumps_off || !hardening.not_dumpable {
            return Err(Failure::refused("not-hardened", "core dumps of this process can't be switched off"));
        }
        let console = settings.console();
        let input = Input::open(&self.input, self.identity.as_deref(), self.expect_sha256.as_deref())?;
        for warning in input.warnings() {
            console.note(&format!("warning: {warning}"));
        }
        let (length, format) = (input.length(), self.format(&input));
        let mut rows = Rows::open(input, format, &self.columns()).map_err(|error| self.unreadable(&error))?;
        console.note(&described(rows.chosen()));
        let rejects = self.rejects.clone().unwrap_or_else(|| output::beside(&self.out, "rejects.csv"));
        let plan = progress::plan(&self.collection, format, rows.chosen(), &self.metadata);
        let mut outputs = Outputs::open(&self.out, &rejects, &plan, rows.heading(), rows.position())?;
        let (chosen, before) = (rows.chosen().clone(), outputs.counts());
        let started = Instant::now();
        if !outputs.is_done() {
            rows.resume(outputs.position()).map_err(|error| self.unreadable(&error))?;
            let bar = console.bytes_bar(length);
            let job = send::Job {
                clients: (0..CONNECTIONS).map(|_| settings.tokenizer()).collect::<Result<_, _>>()?,
                collection: self.collection.clone(),
                parallel: usize::from(self.parallel),
            };
            let sent = block_on(send::all(job, rows, &mut outputs, &bar));
            bar.finish_and_clear();
            // What was done is recorded, also when something stopped the rest.
            outputs.checkpoint(sent.is_ok())?;
            sent.map_err(resumable)?;
        } else {
            console.note("This import is complete; nothing was sent.");
        }
        self.report(settings, chosen, before, &outputs, started, rejects)
    }

    fn report(
        &self,
        settings: &Settings,
        columns: cordon_bulk::Chosen,
        before: progress::Counts,
        outputs: &Outputs,
        started: Instant,
        rejects: PathBuf,
    ) -> Result<Verdict, Failure> {
        let counts = outputs.counts();
        let seconds = started.elapsed().as_secs_f64();
        let rows_per_second = counts.rows.saturating_sub(before.rows) as f64 / seconds.max(0.001);
        let summary = Summary {
            collection: self.collection.clone(),
            columns,
            rows: counts.rows,
            tokens: counts.tokens,
            rejected: counts.rejected,
            resumed_after: before.rows,
            seconds,
            rows_per_second,
            result: self.out.clone(),
            rejects,
        };
        settings.console().answer(&summary, summarised)?;
        Ok(if summary.rejected == 0 { Verdict::Fine } else { Verdict::Refused })
    }

    fn columns(&self) -> Columns {
        Columns {
            pan: self.pan_column.clone(),
            expiry: self.expiry_column.clone(),
            expiry_month: self.expiry_month_column.clone(),
            expiry_year: self.expiry_year_column.clone(),
            metadata: self.metadata.clone(),
            omit: self.omit_column.clone(),
        }
    }

    fn format(&self, input: &Input) -> Format {
        let csv = Format::Csv { delimiter: self.delimiter, header: !self.no_header };
        match self.format {
            Some(Kind::Csv) => csv,
            Some(Kind::Jsonl) => Format::JsonLines,
            None if input.is_json() => Format::JsonLines,
            None => csv,
        }
    }

    fn unreadable(&self, error: &cordon_bulk::RowsError) -> Failure {
        match error {
            cordon_bulk::RowsError::Changed => Failure::refused("changed", error.to_string())
                .next("give the same file and columns again, or begin anew with another --out"),
            cordon_bulk::RowsError::Columns(_) => Failure::usage(error.to_string()),
            _ => Failure::refused("file", format!("{}: {error}", self.input.display())),
        }
    }
}

fn resumable(failure: Failure) -> Failure {
    if failure.has_advice() {
        return failure;
    }
    failure.next("run the same command again: it goes on after the last rows that were done")
}

fn described(chosen: &cordon_bulk::Chosen) -> String {
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "Columns: card number = {}, expiry = {}, metadata = {}, left out = {}; all others are copied.",
        chosen.pan,
        list(&chosen.expiry),
        list(&chosen.metadata),
        list(&chosen.omit)
    )
}

fn summarised(summary: &Summary) -> String {
    let mut text = format!(
        "{} rows: {} tokens in {}, {} rejected.\n{:.0} s, {:.0} rows a second",
        summary.rows,
        summary.tokens,
        summary.result.display(),
        summary.rejected,
        summary.seconds,
        summary.rows_per_second
    );
    if summary.resumed_after > 0 {
        text.push_str(&format!(", after {} rows of an earlier run", summary.resumed_after));
    }
    text.push_str(".\n");
    if summary.rejected > 0 {
        text.push_str(&format!("Lines and reasons of the rejected rows: {}\n", summary.rejects.display()));
    }
    text
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [b't'] | b"tab" | b"\\t" => Ok(b'\t'),
        [letter] if letter.is_ascii_punctuation() && !matches!(letter, b'"' | b'\'') => Ok(*letter),
        [letter @ (b'\t' | b' ')] => Ok(*letter),
        _ => Err("one of , ; | or tab".to_owned()),
    }
}

fn metadata(text: &str) -> Result<(String, String), String> {
    let (column, name) = text.split_once('=').ok_or("COLUMN=NAME")?;
    if column.is_empty() || name.is_empty() {
        Err("COLUMN=NAME".to_owned())
    } else {
        Ok((column.to_owned(), name.to_owned()))
    }
}

/// One connection is served by one thread of the vault; a few of them use all of its threads.
const CONNECTIONS: usize = 4;

const HELP: &str =
    "The same command again goes on where it stopped, also after kill -9. The configuration must name
the certificate of a service with role = \"importer\". Exits 1 when rows were rejected.

Examples:
  cordon import cards.csv --collection cards --out tokens.csv
  cordon import cards.csv.age --identity key.txt --collection cards --out tokens.csv
  cordon import c.jsonl --collection cards --out t.jsonl --pan-column nr --metadata ref=reference
  gpg --decrypt cards.csv.pgp | cordon import - --collection cards --out tokens.csv";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_and_metadata_are_read_as_documented() {
        assert_eq!(delimiter(";"), Ok(b';'));
        assert_eq!(delimiter("tab"), Ok(b'\t'));
        assert!(delimiter("\"").is_err() && delimiter("ab").is_err() && delimiter("4").is_err());
        assert_eq!(metadata("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(metadata("a").is_err() && metadata("=b").is_err() && metadata("a=").is_err());
    }
}
