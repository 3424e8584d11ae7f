//! The gateway next to a bare proxy with the same TLS to the same upstream, and the memory of idle connections.
//! Must never compare figures of two runs. How to read it: docs/performance.md.

use crate::load::Target;
use crate::scenario::{Bench, digits};
use anyhow::{Context, Result};
use bytes::Bytes;
use cordon_tests::https;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A route that has nothing to swap, for the stack's bundle.
pub(crate) const PLAIN_ROUTE: &str = r#"[[ingress]]
name = "plain"
hosts = ["plain.cordon.test"]
methods = ["POST"]
path = "/plain"
upstream = "http://@SIGNUP@"
service = "signup"
collection = "cards"
content = ["json"]

[[ingress]]
name = "signup"
"#;

impl Bench<'_> {
    /// `proxy` is the bare one, by address and process id.
    pub(crate) fn gateway(&mut self, proxy: (SocketAddr, u32)) -> Result<()> {
        let gateway = self.stack.gateway.as_ref().context("a gateway")?;
        let (address, pids) = (gateway.address("ingress")?, [gateway.id(), self.stack.vault.id()]);
        let small = Target {
            address,
            name: "gateway.cordon.test",
            tls: https::tls(&self.stack.authority.root(), None)?,
            path: "/signup",
            host: "signup.cordon.test",
            body: self.signup(0),
            wanted: "tok_dev_",
            rate: None,
            connections: None,
        };
        self.measure("gateway ingress, one field, new card", 1.0, &pids, &small)?;
        let field = Target { body: self.signup(KIB), ..small.clone() };
        let plain = Target {
            path: "/plain",
            host: "plain.cordon.test",
            body: Arc::new(|_| filled("\"plain\":true")),
            wanted: "plain",
            ..small
        };
        let bare = Target { address: proxy.0, ..plain.clone() };
        self.measure(BARE, 1.0, &[proxy.1], &bare)?;
        self.measure("gateway, 1 KiB, no field", 1.0, &pids, &plain)?;
        self.measure("gateway, 1 KiB, one field, new card", 1.0, &pids, &field)?;
        self.measure("bare proxy, 1 KiB, again", 1.0, &[proxy.1], &bare)?;
        // One request at a time: what is added to it when nothing queues.
        let alone = |target: &Target| Target { connections: Some(1), ..target.clone() };
        let vault =
            self.vault_target("gateway-ingress", "/v1/collections/cards/tokenize", self.new_cards(1))?;
        self.measure("alone: bare proxy, 1 KiB", 1.0, &[proxy.1], &alone(&bare))?;
        self.measure("alone: vault, tokenize, new card", 1.0, &[self.stack.vault.id()], &alone(&vault))?;
        self.measure("alone: gateway, 1 KiB, no field", 1.0, &pids, &alone(&plain))?;
        self.measure("alone: gateway, 1 KiB, one field", 1.0, &pids, &alone(&field))
    }

    /// Signups of a new card each, of about `size` bytes.
    fn signup(&self, size: usize) -> Arc<dyn Fn(u64) -> Bytes + Send + Sync> {
        let next = Arc::clone(&self.next);
        Arc::new(move |_| {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let card = format!(r#""card":{{"number":"{}","expiry":"12/30"}}"#, digits(n));
            if size == 0 { Bytes::from(format!("{{{card}}}")) } else { filled(&card) }
        })
    }
}

/// A JSON object of 1 KiB that begins with `member`: an address, some lines of an order.
fn filled(member: &str) -> Bytes {
    let mut text = format!(
        r#"{{{member},"email":"ada@shop.example","name":"Ada Example","address":{{"street":"12 Long Road","city":"Springfield","zip":"12345"}},"items":["#
    );
    let mut line = 0;
    while text.len() < KIB {
        if line > 0 {
            text.push(',');
        }
        text.push_str(r#"{"sku":"AB-17","price":19.99,"quantity":3,"note":"left at the door"}"#);
        line += 1;
    }
    text.push_str("]}");
    Bytes::from(text)
}

/// The row that those of the gateway are compared with.
pub(crate) const BARE: &str = "bare proxy (hyper + rustls), 1 KiB";
const KIB: usize = 1000;
