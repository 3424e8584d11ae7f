//! Long bodies: rewritten and searched in pieces, kept on disk in a form that nobody else reads until all of them are
//! found good, and only then sent.
//!
//! A request is tokenized or refused as a whole: nothing of it goes on before its last byte was looked at. Must never hold
//! more than a few pieces in memory, nor put a byte on disk that was not rewritten and sealed before.
//! Tests: `stream/tests.rs`, `tests/tests/streaming.rs`; fuzz target `stream_pieces`.

pub mod cutter;
pub mod parts;
pub mod piece;
pub mod seam;
pub mod source;
pub mod spool;

#[cfg(test)]
mod tests;
