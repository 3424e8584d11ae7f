//! The audit log: typed events become JSON lines, lines become a Merkle tree, the tree is signed in checkpoints.
//!
//! It must never take free text: an event is built from ids, tokens, validated names, static codes, times and counts,
//! so that a card number has no way in (PCI DSS 10.2, 3.5.1). It must never hand out a [`Receipt`] before the line's
//! `fdatasync` has returned. Tests: beside each module, and `tests/log.rs` against real directories.
//!
//! ```
//! use cordon_audit::{Action, Event, Name, Outcome};
//! let id = Name::parse("req_AAAA").unwrap();
//! let event = Event::new(Action::Tokenize, Outcome::Allowed).request_id(&id);
//! ```
//! ```compile_fail
//! use cordon_audit::{Action, Event, Outcome};
//! let text = String::from("4111111111111111");
//! let event = Event::new(Action::Tokenize, Outcome::Allowed).request_id(text); // a String is not a Name
//! ```
//! ```compile_fail
//! let pan = cordon_card::Pan::parse("4111111111111111").unwrap();
//! let event = cordon_audit::Event::new(cordon_audit::Action::Tokenize, cordon_audit::Outcome::Allowed).tokens([pan]);
//! ```
//!
//! Layout of a log directory (mode 0700, files 0600):
//!
//! | file | holds |
//! |---|---|
//! | `audit-<first index>.jsonl` | lines, the oldest segment first; each line ends in the running sum of all before it; the segment being written may end in zeros written ahead |
//! | `checkpoint` | the newest signed tree head (C2SP tlog-checkpoint) |
//! | `cosigned` | the newest one that witnesses cosigned (C2SP tlog-cosignature) |
//! | `tile/` | the hashes of the tree (C2SP tlog-tiles), made from the lines |
//! | `sink-<kind>-<id>` | the index of the line that a sink without a memory takes next |
//! | `signer.pk8` | the Ed25519 key that signs checkpoints |
//! | `verifier.txt` | its public half, for [`verify()`] on another machine |
//!
//! What proves what: the *sum* at the end of a line names the first line that was edited; the *checkpoint* proves that
//! nothing was edited, removed, reordered or cut, against anyone without the signing key; a checkpoint *kept elsewhere*
//! proves it against everyone, and so does one that a *witness* cosigned.
//!
//! Depends on: `cordon-card`. Used by: `vault`, `gateway`, `cli`.

mod anchors;
mod appending;
mod chain;
mod checkpoint;
mod cosigned;
mod directory;
mod error;
mod event;
mod flood;
mod follow;
mod gate;
mod inlet;
mod keeper;
mod line;
mod log;
mod merkle;
mod name;
mod note;
mod path;
mod proof;
mod publisher;
mod read;
mod receipt;
mod room;
mod segment;
mod settings;
mod sink;
mod tiles;
mod verify;
mod walk;
mod witness;
mod writer;

pub use anchors::{
    AwaitingRestore, Floor, RESTORE_ACCEPTED, RESTORED_STALE, RESTORED_WITHOUT_LOG, RestoredBackup,
};
pub use checkpoint::Checkpoint;
pub use cosigned::{CosignError, Cosigned, keep_cosigned};
pub use error::AuditError;
pub use event::{Action, Code, Event, Outcome, Source};
pub use line::{Line, LineError};
pub use log::{Log, Recovered, Statistics};
pub use merkle::TreeHash;
pub use name::{Name, NameError};
pub use note::{NoteError, VerifierKey};
pub use proof::{InclusionProof, ProofError, Proven, lines_of_request, prove, submission};
pub use read::{Lines, ReadError, read, read_from};
pub use receipt::{Inspection, Kind, Plain, Receipt, Reveal};
pub use settings::{Settings, SinkKind, SinkSettings};
pub use sink::{Feed, FeedTo, Form, Outlet, SinkError, SinkStatus};
pub use verify::{Against, Verified, VerifyError, verify, verify_against};
pub use walk::Flaw;
pub use witness::{Submission, Witness, WitnessError, WitnessKey};
