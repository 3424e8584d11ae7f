//! What the gateway shows on its metrics listener: alive, ready, hardened.
//!
//! Must never ask beyond the machine: the page is plain text, on loopback. Tests: below.

use super::Check;
use super::vault::knob;
use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, with_causes};
use bytes::Bytes;
use cordon_card::Environment;
use cordon_wire::HardeningItem;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;

/// Nothing if no gateway is configured.
pub(super) fn checks(settings: &Settings) -> Result<Vec<Check>, Failure> {
    let Some(address) = settings.gateway_metrics()? else { return Ok(Vec::new()) };
    let fetched = block_on(async {
        let pages =
            async { Ok::<_, Failure>((get(address, "/ready").await?, get(address, "/metrics").await?)) };
        let in_time = tokio::time::timeout(WITHIN, pages).await;
        Ok(in_time.unwrap_or_else(|_| {
            Err(Failure::refused("gateway", format!("{address} did not answer in time")))
        }))
    })?;
    let (ready, metrics) = match fetched {
        Ok(pages) => pages,
        Err(failure) => {
            let next = "is the gateway running, and is [gateway] metrics in cordon.toml right?";
            return Ok(vec![Check::fail("gateway", failure.message()).next(next)]);
        }
    };
    let mut checks = vec![if ready.0 == 200 {
        Check::ok("gateway", format!("ready, metrics at {address}"))
    } else {
        Check::fail("gateway", "not ready: it drains, or its audit log is closed")
            .next("see its log, then restart it")
    }];
    let measures = measures(&metrics.1);
    if measures.is_empty() {
        checks.push(
            Check::warn("gateway hardening", "its metrics show no measure").next("is it of this version?"),
        );
    }
    // Which environment it serves is not on the page; it refuses to start where a live one would lack a measure.
    checks.extend(measures.iter().map(|item| {
        let check = knob(item, Environment::Dev);
        Check { name: format!("gateway {}", check.name), ..check }
    }));
    Ok(checks)
}

/// The gauges `cordon_gateway_hardening{measure="name"} 0|1`.
fn measures(metrics: &str) -> Vec<HardeningItem> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("cordon_gateway_hardening{measure=\""));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once("\"} ")?;
            Some(HardeningItem { name: name.to_owned(), in_force: value.trim() == "1", without: None })
        })
        .collect()
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::refused("gateway", format!("{address}: {}", with_causes(error)))
    };
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| failed(&*error))?;
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

const WITHIN: Duration = Duration::from_secs(3);
const LARGEST: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_from_the_metrics_page() {
        let page = "# TYPE cordon_gateway_hardening gauge\ncordon_gateway_hardening{measure=\"seccomp\"} 1\n\
                    cordon_gateway_hardening{measure=\"swap_off\"} 0\ncordon_gateway_other{x=\"y\"} 1\n";
        let read: Vec<(String, bool)> =
            measures(page).into_iter().map(|item| (item.name, item.in_force)).collect();
        assert_eq!(read, [("seccomp".to_owned(), true), ("swap_off".to_owned(), false)]);
    }
}
