//! Receipts: proof that a line is durable, and of what that line is about.
//!
//! It must never let one kind of line pass for another: only the receipt of a reveal's own line opens a record, and only
//! the records that line names. Tests: the examples below, and `vault/src/record/tests.rs`.
//!
//! ```
//! use cordon_audit::{Event, Log, Outcome, Receipt, Reveal};
//! let directory = tempfile::tempdir().unwrap();
//! let (log, _) = Log::open(directory.path(), "example").unwrap();
//! let cards = cordon_card::CollectionName::parse("cards").unwrap();
//! let receipt: Receipt<Reveal> = log.append_blocking(Event::reveal(Outcome::Allowed, &cards)).unwrap();
//! assert!(receipt.is_of(&cards));
//! ```
//! ```compile_fail,E0308
//! use cordon_audit::{Action, Event, Log, Outcome, Receipt, Reveal};
//! let directory = tempfile::tempdir().unwrap();
//! let (log, _) = Log::open(directory.path(), "example").unwrap();
//! // The line of a tokenization, whatever it says, gives no receipt of a reveal.
//! let receipt: Receipt<Reveal> =
//!     log.append_blocking(Event::new(Action::Tokenize, Outcome::Allowed)).unwrap();
//! ```
//! ```compile_fail,E0308
//! use cordon_audit::{Action, Event, Log, Outcome, Receipt, Reveal};
//! let directory = tempfile::tempdir().unwrap();
//! let (log, _) = Log::open(directory.path(), "example").unwrap();
//! // Nor does a line that only has the action of one, such as a refusal.
//! let receipt: Receipt<Reveal> =
//!     log.append_blocking(Event::new(Action::Detokenize, Outcome::Denied)).unwrap();
//! ```

use std::fmt;
use std::marker::PhantomData;

use cordon_card::{CollectionName, Token};

use crate::event::Event;

/// What a line can be.
pub trait Kind: sealed::Sealed + Send + 'static {
    /// Whether its receipt remembers collection and tokens.
    #[doc(hidden)]
    const COVERS: bool;
}

mod sealed {
    #[expect(unnameable_types, reason = "what cannot be named cannot be implemented elsewhere")]
    pub trait Sealed {}
    impl Sealed for super::Plain {}
    impl Sealed for super::Reveal {}
    impl Sealed for super::Inspection {}
}

impl Kind for Plain {
    const COVERS: bool = false;
}

impl Kind for Reveal {
    const COVERS: bool = true;
}

impl Kind for Inspection {
    const COVERS: bool = true;
}

/// A line that opens nothing.
#[derive(Debug, Clone, Copy)]
pub enum Plain {}

/// The line of a reveal.
#[derive(Debug, Clone, Copy)]
pub enum Reveal {}

/// The line of an inspection.
#[derive(Debug, Clone, Copy)]
pub enum Inspection {}

/// Proof that a line is durable. Only the writer makes one.
pub struct Receipt<K = Plain> {
    index: u64,
    collection: Option<CollectionName>,
    /// Sorted.
    tokens: Vec<Token>,
    kind: PhantomData<K>,
}

impl Receipt {
    pub(crate) fn new(index: u64) -> Receipt {
        Receipt { index, collection: None, tokens: Vec::new(), kind: PhantomData }
    }

    /// The receipt of the event that has become this line.
    pub(crate) fn covering<K: Kind>(self, event: Event<K>) -> Receipt<K> {
        let (mut collection, mut tokens) = (None, Vec::new());
        if K::COVERS {
            (collection, tokens) = event.into_covered();
            tokens.sort_unstable();
        }
        Receipt { index: self.index, collection, tokens, kind: PhantomData }
    }
}

impl<K> Receipt<K> {
    /// The line's place in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Whether the line is about this collection.
    pub fn is_of(&self, collection: &CollectionName) -> bool {
        self.collection.as_ref() == Some(collection)
    }

    /// Whether the line names this token.
    pub fn names(&self, token: &Token) -> bool {
        self.tokens.binary_search(token).is_ok()
    }
}

impl<K> fmt::Debug for Receipt<K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Receipt({})", self.index)
    }
}
