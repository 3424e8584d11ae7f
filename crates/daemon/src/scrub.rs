//! Wiping what calls leave on the stack: a card number that is moved from function to function leaves a copy in each frame.
//!
//! It must never be called with anything still needed in frames below the caller's: there are none, they have returned.
//! Tests: `tests/tests/memory.rs` for the effect.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Overwrites the stack below the caller's frame, as deep as the calls of a request go.
#[inline(never)]
pub fn stack() {
    let mut room = [0_u8; DEPTH];
    // Seen from here, somebody may read it: the compiler can't leave the zeros out.
    black_box(&mut room);
}

/// A future after each step of which the stack is scrubbed.
#[derive(Debug)]
pub struct Scrubbed<F>(F);

impl<F: Future + Unpin> Scrubbed<F> {
    /// Wraps a future that handles what must not stay behind.
    pub fn new(future: F) -> Scrubbed<F> {
        Scrubbed(future)
    }
}

impl<F: Future + Unpin> Future for Scrubbed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let result = Pin::new(&mut self.get_mut().0).poll(context);
        stack();
        result
    }
}

/// Frames of unoptimised code are several times as large.
const DEPTH: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 48 * 1024 };
