//! The processes of the stack: started, waited for, watched, and ended by their ids.
//!
//! Must never leave one behind, or end one that it did not start. Tests: the workspace's `tests` crate.

use crate::exit::Failure;
use crate::sample::Guarded;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

/// A child process of the stack.
pub(super) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    announcements: Option<Lines<BufReader<ChildStdout>>>,
    log: PathBuf,
}

/// How to start one.
pub(super) struct Start<'a> {
    pub(super) name: &'static str,
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<OsString>,
    /// The stack's directory; logs go to `logs/<name>.log` in it.
    pub(super) directory: &'a Path,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Announcement {
    Listening { listener: String, address: SocketAddr },
    Ready,
}

impl Child {
    /// Starts it. It ends when this process does, however that happens.
    pub(super) fn start(start: Start<'_>) -> Result<Self, Failure> {
        let log = start.directory.join("logs").join(format!("{}.log", start.name));
        let sink = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&log);
        let sink = sink.map_err(|error| Failure::file(&log, &error))?;
        let guard = std::env::current_exe().map_err(|error| unstarted(start.name, &error))?;
        let mut process = Command::new(guard)
            .args(Guarded::arguments(start.program.into(), start.arguments))
            .current_dir(start.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(sink)
            // Its own group: Ctrl-C comes to us alone, and we end the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| unstarted(start.name, &error))?;
        let announcements = process.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { name: start.name, process, announcements, log })
    }

    /// Its name in the stack.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits until it has announced that all its listeners are up.
    pub(super) async fn ready(&mut self) -> Result<BTreeMap<String, SocketAddr>, Failure> {
        let Some(mut lines) = self.announcements.take() else {
            return Err(Failure::refused("dev-start", format!("{} was waited for already", self.name)));
        };
        let listeners = match tokio::time::timeout(START_TIME, announced(&mut lines)).await {
            Ok(Some(listeners)) => listeners,
            Ok(None) => return Err(self.not_up("it ended before it was ready")),
            Err(_) => return Err(self.not_up("it was not ready in time")),
        };
        // Read on, so that it never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(listeners)
    }

    /// What happened to it, if it is no longer running.
    pub(super) fn gone(&mut self) -> Option<Failure> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(self.failure("dev-child", &format!("it ended by itself ({status})")))
    }

    /// Asks it to end, waits, and ends it.
    pub(super) async fn stop(&mut self) {
        // An id is ours as long as the process was not waited for: it cannot have been given to another.
        let id = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            kill_process(id, Signal::TERM).unwrap_or(());
        }
        if tokio::time::timeout(STOP_TIME, self.process.wait()).await.is_err() {
            self.process.kill().await.unwrap_or(());
        }
    }

    fn not_up(&self, what: &str) -> Failure {
        self.failure("dev-start", what)
    }

    fn failure(&self, code: &'static str, what: &str) -> Failure {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
        let mut message = format!("{}: {what}", self.name);
        for line in last {
            message.push_str("\n  | ");
            message.push_str(line);
        }
        Failure::refused(code, message).next("run again with --keep DIR, and read DIR/logs")
    }
}

/// The listeners announced up to `ready`; none when the output ends before.
async fn announced(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<BTreeMap<String, SocketAddr>> {
    let mut listeners = BTreeMap::new();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Announcement::Listening { listener, address }) => {
                listeners.insert(listener, address);
            }
            Ok(Announcement::Ready) => return Some(listeners),
            Err(_) => {}
        }
    }
    None
}

fn unstarted(name: &str, error: &std::io::Error) -> Failure {
    Failure::refused("dev-start", format!("{name} can't be started: {error}"))
}

/// Time for a daemon to be up, on a slow and busy machine.
const START_TIME: Duration = Duration::from_secs(60);
/// Time to end: a little more than the daemons' drain.
const STOP_TIME: Duration = Duration::from_secs(12);
/// Lines of its log shown when a process failed.
const LOG_LINES: usize = 12;
