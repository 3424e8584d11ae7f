//! Where output goes: answers to stdout, everything else to stderr; JSON when asked.
//!
//! Must never mix the two on stdout: with `--json` a program can parse every line of it. Must never draw a
//! spinner where no human looks, or let text steer the terminal. Tests: below, and `cli/tests/transcripts.rs`.

use crate::exit::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use zeroize::Zeroizing;

/// The two output streams and the form the caller asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    json: bool,
}

impl Console {
    /// A console that answers in JSON when `json` is set.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads the answer.
    pub(crate) const fn json(self) -> bool {
        self.json
    }

    /// Prints the answer of a command: `value` as one line of JSON, or `human` text.
    pub(crate) fn answer<T: Serialize>(
        self,
        value: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json { self.line_of_json(value) } else { self.text(&human(value)) }
    }

    /// Prints one line of JSON. The buffer is wiped: an answer may hold shares.
    pub(crate) fn line_of_json<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let mut line = Zeroizing::new(Vec::with_capacity(4096));
        serde_json::to_writer(&mut *line, value).map_err(io::Error::from)?;
        line.push(b'\n');
        write_all(&line)
    }

    /// Prints text for a human, ended by a newline. The buffer is wiped: an answer may hold shares.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        write_all(&printable(text))
    }

    /// Says something beside the answer, on stderr. Nothing depends on it, so a closed stderr is no failure.
    pub(crate) fn note(self, text: &str) {
        io::stderr().lock().write_all(&printable(text)).unwrap_or(());
    }

    /// Reports a failure: JSON on stdout for a program, text on stderr for a human.
    pub(crate) fn failure(self, failure: &Failure) {
        #[derive(Serialize)]
        struct Report<'a> {
            error: &'a Failure,
        }
        if self.json {
            self.line_of_json(&Report { error: failure }).unwrap_or(());
        } else {
            self.note(&failure.to_string());
        }
    }

    /// A progress bar on stderr, over so many `unit`s; invisible unless a human looks at it.
    pub(crate) fn bar(self, unit: &'static str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(0);
        let template = format!("{{msg:10}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}, {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar
    }

    /// A progress bar on stderr over the bytes of a file, if its length is known; invisible unless a human looks.
    pub(crate) fn bytes_bar(self, length: Option<u64>) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), "{wide_bar} {percent}% {msg}, {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }

    /// A spinner on stderr while something takes time; invisible unless a human looks at it.
    pub(crate) fn spinner(self, message: &'static str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            spinner.set_style(style);
        }
        spinner.set_message(message);
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }
}

/// Text that ends in a newline and can't steer the terminal: parts of it come from files and peers.
fn printable(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len().saturating_add(1)));
    for letter in text.chars() {
        let shown = if letter.is_control() && !matches!(letter, '\n' | '\t') { '?' } else { letter };
        bytes.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
    }
    if !text.ends_with('\n') {
        bytes.push(b'\n');
    }
    bytes
}

fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_can_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2J\u{9b}b\tc\r\nd").as_slice(), b"a?[2J?b\tc?\nd\n");
    }
}
