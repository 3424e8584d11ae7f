//! A real binary as a child process: its announced addresses, its log, and its end by id.
//! Must never leave a process behind. Tests: `tests/tests/harness.rs`.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A running daemon that has announced its listeners.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    listeners: BTreeMap<String, SocketAddr>,
    log: PathBuf,
}

impl Daemon {
    /// Starts the binary `name` of this build and waits until it says that it is ready.
    ///
    /// # Errors
    /// The binary is missing, ended early or said nothing in time; the log's end is in the error.
    pub fn start(name: &str, arguments: &[&str], log: &Path) -> Result<Self> {
        let mut command = Command::new(binary(name)?);
        command.args(arguments);
        Self::launch(command, log)
    }

    /// The same for any command that announces itself as the daemons do.
    ///
    /// # Errors
    /// It ended early or said nothing in time; the log's end is in the error.
    pub fn launch(mut command: Command, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let stdout = child.stdout.take().context("the child has a stdout")?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut daemon = Self { child, listeners: BTreeMap::new(), log: log.to_owned() };
        let deadline = Instant::now() + crate::patience();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = receive.recv_timeout(left) else {
                bail!("{name} did not become ready: {}", daemon.log_end());
            };
            let event: serde_json::Value = serde_json::from_str(&line).context("an announcement is JSON")?;
            match event.get("event").and_then(|value| value.as_str()) {
                Some("listening") => daemon.learn(&event)?,
                Some("ready") => return Ok(daemon),
                _ => bail!("{name} said something else: {line}"),
            }
        }
    }

    fn learn(&mut self, event: &serde_json::Value) -> Result<()> {
        let text = |key: &str| event.get(key).and_then(|value| value.as_str()).context("a listening event");
        self.listeners.insert(text("listener")?.to_owned(), text("address")?.parse()?);
        Ok(())
    }

    /// Address of a listener by the name it was announced under.
    ///
    /// # Errors
    /// No such listener.
    pub fn address(&self, listener: &str) -> Result<SocketAddr> {
        self.listeners.get(listener).copied().with_context(|| format!("no listener {listener}"))
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// kill -9, and waits for its end.
    ///
    /// # Errors
    /// It could not be signalled or reaped.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end, however it comes.
    ///
    /// # Errors
    /// It could not be reaped.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// SIGTERM, and waits for a graceful end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let id = i32::try_from(self.child.id())?;
        kill_process(Pid::from_raw(id).context("a process id")?, Signal::TERM)?;
        let deadline = Instant::now() + crate::patience();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("no end after SIGTERM: {}", self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// Path of a binary of this build: beside the test executable's `deps` directory.
///
/// # Errors
/// It has not been built; the error says with which command.
pub fn binary(name: &str) -> Result<PathBuf> {
    let mut dir = std::env::current_exe()?;
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join(name);
    if !path.exists() {
        bail!("{} is not built; run: cargo build --workspace --bins", path.display());
    }
    Ok(path)
}
