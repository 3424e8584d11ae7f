//! Copies of the log in another form: what a daemon makes of its lines, for readers that know nothing of the log.
//!
//! It must never give a reader what is not in a durable line. Tests: `sink/tests.rs`; the gateway's events in
//! `tests/tests/events.rs`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::note::VerifierKey;

/// Where lines are taken, in order.
pub trait Outlet: Send {
    /// Takes a line, without its newline. After an error it is offered again.
    ///
    /// # Errors
    /// It is not taken.
    fn take(&mut self, index: u64, line: &[u8]) -> io::Result<()>;

    /// Waits until all that was taken is certain. After an error the lines since the last time are offered again.
    ///
    /// # Errors
    /// It is not certain.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What becomes of a line.
pub trait Form: Send {
    /// The line of a log in this form, without a newline in it; nothing for a line that is none of the reader's business.
    fn render(&self, log: &VerifierKey, line: &[u8]) -> Option<Vec<u8>>;

    /// The index of the line that a text in this form is of.
    fn index(&self, rendered: &[u8]) -> Option<u64>;
}

/// Where a feed leads.
pub enum FeedTo {
    /// To a file that is appended to. It goes on where the file ends, an empty one from the log's beginning.
    File(PathBuf),
    /// To standard output, once the daemon has announced its listeners there.
    Stdout,
    /// To this outlet.
    Outlet(Box<dyn Outlet>),
}

impl fmt::Debug for FeedTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedTo::File(path) => f.debug_tuple("File").field(path).finish(),
            FeedTo::Stdout => f.write_str("Stdout"),
            FeedTo::Outlet(_) => f.write_str("Outlet"),
        }
    }
}

/// A copy of the log in another form.
pub struct Feed {
    /// What its status says it is.
    pub kind: &'static str,
    /// What distinguishes it from the others: where it goes on after a restart is kept by this name.
    pub name: String,
    /// Lines it may be behind before it counts as late.
    pub backlog: u64,
    /// The form.
    pub form: Box<dyn Form>,
    /// Where it leads.
    pub to: FeedTo,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// An outlet that gets lines in a form.
pub(super) struct Formed {
    pub(super) log: VerifierKey,
    pub(super) form: Box<dyn Form>,
    pub(super) outlet: Box<dyn Outlet>,
}

impl Outlet for Formed {
    fn take(&mut self, index: u64, line: &[u8]) -> io::Result<()> {
        match self.form.render(&self.log, line) {
            Some(rendered) => self.outlet.take(index, &rendered),
            None => Ok(()),
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        self.outlet.settle()
    }
}
