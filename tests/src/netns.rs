//! Network namespaces that a test makes, joined by a router of their own: nothing in them reaches the machine's network.
//! Must never leave one behind. Tests: those that use it.

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Hosts, each in a namespace and a network of its own.
#[derive(Debug)]
pub struct Networks {
    prefix: String,
    made: Vec<String>,
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.made {
            drop(Command::new("ip").args(["netns", "del", name]).status());
        }
    }
}

impl Networks {
    /// Makes a host for each name at its address; all are /24 networks with the router at `.1`.
    ///
    /// # Errors
    /// It takes root and the program `ip` (Debian package iproute2).
    pub fn make(hosts: &[(&str, &str)]) -> Result<Self> {
        let prefix = format!("c{}", std::process::id());
        let mut networks = Self { prefix, made: Vec::new() };
        let router = networks.add("router")?;
        ip(&["netns", "exec", &router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        for (number, (name, address)) in hosts.iter().enumerate() {
            let host = networks.add(name)?;
            let (gateway, _) = address.rsplit_once('.').context("an address of IPv4")?;
            let (gateway, link) = (format!("{gateway}.1"), format!("v{number}"));
            ip(&[
                "link", "add", &link, "netns", &router, "type", "veth", "peer", "name", "eth0", "netns",
                &host,
            ])?;
            ip(&["-n", &router, "addr", "add", &format!("{gateway}/24"), "dev", &link])?;
            ip(&["-n", &router, "link", "set", &link, "up"])?;
            ip(&["-n", &host, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
            ip(&["-n", &host, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host, "route", "add", "default", "via", &gateway])?;
        }
        Ok(networks)
    }

    fn add(&mut self, name: &str) -> Result<String> {
        let name = format!("{}-{name}", self.prefix);
        ip(&["netns", "add", &name]).context("network namespaces take root")?;
        self.made.push(name.clone());
        Ok(name)
    }

    /// Gives rules to `nft` on a host.
    ///
    /// # Errors
    /// The kernel refuses them.
    pub fn load(&self, host: &str, rules: &str) -> Result<()> {
        let name = format!("{}-{host}", self.prefix);
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ip and nft (Debian packages iproute2, nftables)")?;
        nft.stdin.take().context("a pipe")?.write_all(rules.as_bytes())?;
        let output = nft.wait_with_output()?;
        ensure!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Listens on a host until the process ends; whoever connects is taken and let go.
    ///
    /// # Errors
    /// The port cannot be had.
    pub fn listen(&self, host: &str, port: u16) -> Result<()> {
        let listener = self.on(host, move || Ok(TcpListener::bind(("0.0.0.0", port))?))?;
        std::thread::spawn(move || while listener.accept().is_ok() {});
        Ok(())
    }

    /// Whether a connection from one host to an address comes to be.
    ///
    /// # Errors
    /// It cannot be tried.
    pub fn connects(&self, host: &str, to: IpAddr, port: u16) -> Result<bool> {
        self.on(host, move || Ok(TcpStream::connect_timeout(&SocketAddr::new(to, port), PATIENCE).is_ok()))
    }

    /// Does something on a host: on a thread that is moved into its namespace. A socket stays where it was made.
    fn on<T: Send + 'static>(
        &self,
        host: &str,
        act: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let namespace = File::open(format!("/run/netns/{}-{host}", self.prefix))?;
        let moved = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            act()
        });
        moved.join().unwrap_or_else(|_panicked| bail!("the thread panicked"))
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip (Debian package iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What is dropped is not answered; within one machine an answer takes far less.
const PATIENCE: Duration = Duration::from_millis(500);
