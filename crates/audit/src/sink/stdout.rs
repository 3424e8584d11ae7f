//! Standard output, for a service manager that keeps it.
//!
//! It must never write before the daemon has announced its listeners there: who waits for those reads nothing else.
//! Tests: `tests/tests/sinks.rs`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Outlet;

/// Standard output, once it is free.
#[derive(Debug)]
pub(super) struct Stdout {
    announced: Arc<AtomicBool>,
}

impl Stdout {
    pub(super) fn new(announced: Arc<AtomicBool>) -> Stdout {
        Stdout { announced }
    }
}

impl Outlet for Stdout {
    fn take(&mut self, _index: u64, line: &[u8]) -> io::Result<()> {
        if !self.announced.load(Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut out = io::stdout().lock();
        out.write_all(line)?;
        out.write_all(b"\n")?;
        out.flush()
    }
}
