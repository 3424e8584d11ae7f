//! `cordon gateway`: routes in force, another bundle, and a stop that loses nothing, over the gateway's control socket.
//!
//! Must never ask beyond the machine: the socket is a file of the gateway's data directory. Tests: below, and
//! `tests/tests/reload.rs`, `tests/tests/drain.rs`.

use crate::configuration::{Settings, block_on};
use crate::exit::{Failure, Verdict, with_causes};
use crate::layout;
use bytes::Bytes;
use clap::{Args, Subcommand};
use cordon_wire::{Draining, GatewayRoute, GatewayRoutes, GatewayStatus, Reloaded};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// `cordon gateway ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Gateways {
    /// Show which bundle is in force and since when, and what was wrong with the last one
    Status(Asked),
    /// List the routes in force, with the state of what is behind them
    Routes(Asked),
    /// Take up the policy bundle as it is on the disk now, whole or not at all
    Reload(Asked),
    /// Stop the gateway: it says that it is not ready, finishes what runs, and ends
    Drain(Drain),
}

/// Which gateway.
#[derive(Debug, Args)]
#[command(
    after_help = "The socket is `control.sock` in the gateway's data_dir; it answers the gateway's own user and root.

Examples:
  cordon gateway status
  cordon gateway routes --json | jq '.routes[] | select(.breaker != \"closed\")'
  sudo -u cordon cordon gateway reload --socket /var/lib/cordon-gateway/control.sock"
)]
pub(crate) struct Asked {
    /// Control socket of the gateway [default: gateway.control in cordon.toml]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

/// `cordon gateway drain`.
#[derive(Debug, Args)]
#[command(
    after_help = "As on SIGTERM: not ready at once, no more connections after [drain] notice_s, and what is not
finished [drain] deadline_s later is cut off. Ends with 1 if the gateway still runs after --timeout.

Examples:
  cordon gateway drain
  cordon gateway drain --timeout 2m --socket /var/lib/cordon-gateway/control.sock"
)]
pub(crate) struct Drain {
    #[command(flatten)]
    asked: Asked,
    /// How long to wait for its end [default: as long as it may take]
    #[arg(long, value_name = "TIME", value_parser = layout::seconds)]
    timeout: Option<u64>,
}

/// What came of a drain.
#[derive(Debug, Serialize)]
struct Drained {
    ended: bool,
    took_s: u64,
}

impl Gateways {
    /// Does what was asked.
    pub(crate) fn run(&self, settings: &Settings) -> Result<Verdict, Failure> {
        let console = settings.console();
        match self {
            Self::Status(asked) => {
                let status: GatewayStatus = block_on(asked.call(settings, Method::GET, "/v1/status"))?;
                console.answer(&status, describe)?;
                Ok(Verdict::Fine)
            }
            Self::Routes(asked) => {
                let routes: GatewayRoutes = block_on(asked.call(settings, Method::GET, "/v1/routes"))?;
                console.answer(&routes, |routes| table(&routes.routes))?;
                Ok(Verdict::Fine)
            }
            Self::Reload(asked) => {
                let reloaded: Reloaded = block_on(asked.call(settings, Method::POST, "/v1/reload"))?;
                console.answer(&reloaded, said)?;
                Ok(if reloaded.faults.is_empty() { Verdict::Fine } else { Verdict::Refused })
            }
            Self::Drain(drain) => {
                let drained = block_on(drain.run(settings))?;
                console.answer(&drained, |drained| {
                    let Drained { ended, took_s } = drained;
                    let end = if *ended { "The gateway has ended" } else { "The gateway still runs" };
                    format!("{end} after {}.\n", layout::duration(*took_s))
                })?;
                Ok(if drained.ended { Verdict::Fine } else { Verdict::Refused })
            }
        }
    }
}

impl Drain {
    async fn run(&self, settings: &Settings) -> Result<Drained, Failure> {
        let begun = Instant::now();
        let draining: Draining = self.asked.call(settings, Method::POST, "/v1/drain").await?;
        let patience = Duration::from_secs(self.timeout.unwrap_or(draining.within_s)).saturating_add(GRACE);
        let bar = settings.console().spinner("waiting for requests in flight");
        let mut ended = false;
        while !ended && begun.elapsed() < patience {
            tokio::time::sleep(POLL).await;
            match self.asked.call::<GatewayStatus>(settings, Method::GET, "/v1/status").await {
                Ok(status) => bar.set_message(format!("{} requests in flight", status.in_flight)),
                Err(_gone) => ended = true,
            }
        }
        bar.finish_and_clear();
        Ok(Drained { ended, took_s: begun.elapsed().as_secs() })
    }
}

impl Asked {
    async fn call<T: DeserializeOwned>(
        &self,
        settings: &Settings,
        method: Method,
        path: &str,
    ) -> Result<T, Failure> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => settings.gateway_control()?,
        };
        let call = exchange(&socket, method, path);
        let body = tokio::time::timeout(WITHIN, call).await.map_err(|_late| {
            Failure::refused("gateway", format!("{}: no answer in time", socket.display()))
        })??;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::refused("gateway", format!("its answer is not understood: {error}"))
                .next("are gateway and cordon of the same version?")
        })
    }
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<Bytes, Failure> {
    let failed = |error: &dyn Error| {
        let words = format!("{}: {}", socket.display(), with_causes(error));
        Failure::refused("gateway", words)
            .next("is the gateway running, and are you its user or root? see --socket")
    };
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "gateway");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    connection.abort();
    Ok(body.map_err(|error| failed(&*error))?.to_bytes())
}

fn describe(status: &GatewayStatus) -> String {
    let state = if status.draining { "stopping" } else { "serving" };
    let mut text = layout::rows(&[
        (
            "State",
            format!(
                "{state}, {} in flight",
                layout::counted(u64::try_from(status.in_flight).unwrap_or(u64::MAX), "request")
            ),
        ),
        ("Environment", status.environment.clone()),
        ("Bundle", status.bundle.clone()),
        ("In force since", layout::moment(&status.since)),
        ("Version", format!("{}, process {}", status.version, status.pid)),
    ]);
    for sink in &status.sinks {
        let late = if sink.late { ", late" } else { "" };
        let behind = layout::counted(sink.behind, "line");
        text.push_str(&layout::rows(&[("Sink", format!("{}, {behind} behind{late}", sink.kind))]));
    }
    if !status.refused.is_empty() {
        text.push_str("A newer bundle was refused:\n");
        text.push_str(&lines(&status.refused));
    }
    text
}

fn said(reloaded: &Reloaded) -> String {
    let Reloaded { bundle, changed, faults } = reloaded;
    if !faults.is_empty() {
        return format!("Refused; bundle {bundle} stays in force:\n{}", lines(faults));
    }
    let what = if *changed { "In force now" } else { "The same bundle, read again" };
    format!("{what}: {bundle}\n")
}

fn lines(faults: &[String]) -> String {
    faults.iter().map(|fault| format!("  {fault}\n")).collect()
}

fn table(routes: &[GatewayRoute]) -> String {
    let rows: Vec<_> = routes
        .iter()
        .map(|route| {
            let from =
                if route.plane == "ingress" { route.hosts.join(" ") } else { route.services.join(" ") };
            vec![
                route.name.clone(),
                route.plane.clone(),
                from,
                format!("{} {}", route.methods.join(","), route.path),
                route.to.clone(),
                route.fields.to_string(),
                route.breaker.clone(),
            ]
        })
        .collect();
    layout::table(&["ROUTE", "PLANE", "FROM", "TAKES", "TO", "FIELDS", "BREAKER"], &rows)
}

const WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
/// What a process takes to end beyond its own deadline.
const GRACE: Duration = Duration::from_secs(5);
const LONGEST: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_bundle_is_shown_with_its_faults() {
        let faults = vec!["routes.toml:3:1: unknown key".to_owned()];
        let reloaded = Reloaded { bundle: "ab".into(), changed: false, faults };
        assert_eq!(said(&reloaded), "Refused; bundle ab stays in force:\n  routes.toml:3:1: unknown key\n");
        let same = Reloaded { faults: Vec::new(), ..reloaded };
        assert_eq!(said(&same), "The same bundle, read again: ab\n");
    }

    #[test]
    fn routes_are_listed_with_what_they_take() {
        let route = GatewayRoute {
            plane: "egress".into(),
            name: "charge".into(),
            hosts: Vec::new(),
            services: vec!["billing".into()],
            methods: vec!["POST".into()],
            path: "/v1/charges".into(),
            to: "processor".into(),
            fields: 3,
            breaker: "open".into(),
        };
        let text = table(&[route]);
        assert!(
            text.contains("charge  egress  billing  POST /v1/charges  processor  3       open"),
            "{text}"
        );
    }
}
