//! Tests of the daemon's parts from outside: real sockets, real certificates, child processes.

#[cfg(test)]
mod confine;
#[cfg(test)]
mod http;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod process;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tls;
