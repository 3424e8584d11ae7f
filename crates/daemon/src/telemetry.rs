//! Logs: structured lines to standard error, each passed through the card scanner first; request ids.
//!
//! It must never print a line that was not scanned, nor the payload of a panic. Typed fields are the first protection; this
//! is the second (threat B23). Tests: `telemetry/tests.rs`.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::BASE32_NOPAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Starts logging to standard error, and replaces the panic message by its place. `filter` is a directive list such as
/// `info,hyper=warn`.
///
/// # Errors
/// [`TelemetryError`] if the filter is not one, or logging was started before.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_detail| TelemetryError::Started)?;
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map_or(("unknown", 0), |place| (place.file(), place.line()));
        let thread = std::thread::current();
        tracing::error!(file, line, thread = thread.name().unwrap_or("unnamed"), "panicked");
    }));
    Ok(())
}

/// Why logging cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter is not a list of directives. Operator.
    #[error("the log filter is not valid")]
    Filter,
    /// Logging was started before. Bug.
    #[error("logging was started twice")]
    Started,
}

/// The id of one request: `req_` and 26 letters and digits. Unique, and made without a lock or a system call.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// The next one: eight random bytes of this process, then a count.
    pub fn next() -> RequestId {
        static PROCESS: OnceLock<[u8; 8]> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let process = PROCESS.get_or_init(process_bytes);
        let count = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(process.iter().chain(&count)) {
            *to = *from;
        }
        RequestId(id)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "req_{}", BASE32_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

/// What [`init`] installs, writing to what `to` makes.
fn subscriber<W: Write + 'static>(
    format: Format,
    filter: &str,
    to: impl Fn() -> W + Send + Sync + 'static,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|_detail| TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Scrubbed(to));
    Ok(match format {
        Format::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).finish()),
        Format::Text => Box::new(builder.with_ansi(false).finish()),
    })
}

/// `line` with every card number in it masked; `None` if there is none.
fn masked(line: &[u8]) -> Option<Vec<u8>> {
    let mut findings = cordon_scan::scan(line);
    if findings.is_empty() {
        return None;
    }
    findings.sort_by_key(|finding| finding.start);
    let mut out = Vec::with_capacity(line.len());
    let mut done = 0_usize;
    for finding in findings {
        let start = usize::try_from(finding.start).unwrap_or(line.len()).max(done);
        let end = usize::try_from(finding.end).unwrap_or(line.len()).max(start);
        out.extend_from_slice(line.get(done..start).unwrap_or_default());
        out.extend_from_slice(MASK);
        done = end;
    }
    out.extend_from_slice(line.get(done..).unwrap_or_default());
    Some(out)
}

/// Makes writers that mask each line. A formatted line arrives in one write.
#[derive(Debug, Clone, Copy)]
struct Scrubbed<F>(F);

impl<'a, F: Fn() -> W, W: Write> MakeWriter<'a> for Scrubbed<F> {
    type Writer = Masking<W>;

    fn make_writer(&'a self) -> Masking<W> {
        Masking((self.0)())
    }
}

struct Masking<W>(W);

impl<W: Write> Write for Masking<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(masked(line).as_deref().unwrap_or(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Random bytes, or where there are none the process id: ids then stay unique on one machine.
fn process_bytes() -> [u8; 8] {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => bytes,
        Err(_) => u64::from(std::process::id()).to_be_bytes(),
    }
}

/// What stands in the place of a card number. No digit of it is kept: a log has no use for one.
const MASK: &[u8] = b"[card number removed]";

#[cfg(test)]
mod tests;
