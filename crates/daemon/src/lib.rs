//! What two daemons need to be daemons: configuration, TLS listeners, scrubbed logs, metrics, drain, process limits, a clock.
//!
//! It must never know what a request means, nor print, log or keep one. Nothing here is a plug-in point: a daemon calls
//! these functions in `main`, in the order of this list. Tests: beside each module, and `tests/` with real sockets.
//!
//! 1. [`process::harden`] before anything else: threads started earlier keep their privileges.
//! 2. [`telemetry::init`], so that nothing is printed unscrubbed.
//! 3. [`config::load`]; on an error exit with [`config::EX_CONFIG`].
//! 4. [`server::reserve`] for each listener, then [`process::Hardening::confine`] and [`process::Hardening::admit`]: before any
//!    thread or data is opened.
//! 5. [`drain::Drain::on_signals`], then [`server::serve`], [`server::Server::announce`] and [`server::Server::wait`].
//!
//! Depends on: `cordon-scan`. Used by: `vault`, `gateway`.

pub mod body;
pub mod clock;
pub mod config;
pub mod confine;
pub mod drain;
pub mod metrics;
pub mod process;
pub mod scrub;
pub mod server;
pub mod telemetry;
pub mod tls;

pub use body::{Body, BoxError};
