//! Confinement seen from outside: the test runs itself again as a child, which confines itself and then does one thing. What it
//! may not do ends it, or fails; the same child does it unconfined as the control.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cordon_daemon::confine::{Confinement, Outbound};
use cordon_daemon::process::harden;
use cordon_daemon::server::reserve;

/// Names the deed of a child; unset in the parent.
const DEED: &str = "CORDON_TEST_DEED";
/// Whether it confines itself first: `no`, `vault` or `gateway`.
const CONFINED: &str = "CORDON_TEST_CONFINED";
const OWN: &str = "CORDON_TEST_OWN";
const PORT: &str = "CORDON_TEST_PORT";
/// Number of the signal that a forbidden system call ends in.
const SIGSYS: i32 = 31;

fn run(deed: &str, confined: &str, own: &Path, port: u16) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["confine::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DEED, deed)
        .env(CONFINED, confined)
        .env(OWN, own)
        .env(PORT, port.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The part of the child. Does nothing in the parent.
#[test]
fn child() {
    let Ok(deed) = std::env::var(DEED) else { return };
    let own = PathBuf::from(std::env::var_os(OWN).unwrap());
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let outbound = match std::env::var(CONFINED).unwrap().as_str() {
        "no" => None,
        "gateway" => Some(Outbound::Ports(vec![port])),
        _ => Some(Outbound::None),
    };
    let mut hardening = harden();
    let socket = reserve("data", "127.0.0.1:0".parse().unwrap()).unwrap();
    if let Some(outbound) = outbound {
        hardening.confine(&Confinement { writable: vec![own.clone()], outbound, ..Confinement::default() });
        println!("REPORT {}", serde_json::to_string(&hardening).unwrap());
    }
    drop(socket);
    let done = perform(&deed, &own, port);
    println!(
        "DEED {}",
        done.map_or_else(|error| format!("failed: {:?}", error.kind()), |()| "done".to_owned())
    );
}

fn perform(deed: &str, own: &Path, port: u16) -> std::io::Result<()> {
    match deed {
        "execute" => Command::new("/bin/true").status().map(drop),
        "execute-in-place" => {
            // The test runner waits for this thread; only an exec that fails comes back.
            Err(std::os::unix::process::CommandExt::exec(&mut Command::new("/bin/true")))
        }
        "read-outside" => fs::read("/etc/passwd").map(drop),
        "read-sibling" => fs::read(own.with_file_name("sibling")).map(drop),
        "list-outside" => fs::read_dir("/").map(drop),
        "write-outside" => fs::write(own.with_file_name("made"), "x"),
        "read-link" => fs::read(own.join("link")).map(drop),
        "own" => {
            fs::create_dir(own.join("d"))?;
            let mut file = File::create(own.join("d/a"))?;
            file.write_all(b"x")?;
            file.sync_all()?;
            fs::rename(own.join("d/a"), own.join("b"))?;
            assert_eq!(fs::read(own.join("b"))?, b"x");
            fs::remove_file(own.join("b"))?;
            fs::remove_dir(own.join("d"))
        }
        "thread" => std::thread::spawn(|| fs::read("/etc/passwd").map(drop)).join().unwrap(),
        "connect" => TcpStream::connect(("127.0.0.1", port)).map(drop),
        "connect-elsewhere" => {
            let elsewhere = port.checked_sub(1).unwrap();
            TcpStream::connect(("127.0.0.1", elsewhere)).map(drop)
        }
        "datagram" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "syslog" => UnixDatagram::unbound()?.send_to(b"<13>cordon: x", own.join("log")).map(drop),
        "core" => std::process::abort(),
        "raise-limit" => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).map_err(Into::into)
        }
        "signal-parent" => {
            let parent = rustix::process::getppid().unwrap();
            rustix::process::kill_process(parent, rustix::process::Signal::CONT).map_err(Into::into)
        }
        "root" => rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).map_err(Into::into),
        other => panic!("{other}"),
    }
}

/// A directory with `own` and a file beside it, and a socket in it where syslog would be.
struct Scene {
    directory: tempfile::TempDir,
    log: UnixDatagram,
    server: TcpListener,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(directory.path().join("sibling"), "x").unwrap();
        std::os::unix::fs::symlink(directory.path().join("sibling"), own.join("link")).unwrap();
        let log = UnixDatagram::bind(own.join("log")).unwrap();
        Scene { directory, log, server: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn run(&self, deed: &str, confined: &str) -> Output {
        let port = self.server.local_addr().unwrap().port();
        run(deed, confined, &self.directory.path().join("own"), port)
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once("DEED ").map(|(_, rest)| rest));
    line.unwrap_or("nothing").to_owned()
}

#[test]
fn everything_is_reported_in_force_on_this_kernel() {
    let output = Scene::new().run("own", "vault");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = text.lines().find_map(|line| line.split_once("REPORT ").map(|(_, rest)| rest)).unwrap();
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    for measure in ["landlock_files", "landlock_network", "seccomp"] {
        assert_eq!(report[measure], true, "{measure}: {report}");
    }
    assert_eq!(said(&output), "done", "its own directory stays usable: {text}");
}

#[test]
fn a_forbidden_system_call_kills() {
    let scene = Scene::new();
    for deed in ["execute", "datagram", "listen", "connect", "raise-limit", "signal-parent", "root"] {
        let control = scene.run(deed, "no");
        // Becoming root is refused to who is not, which does not matter here.
        assert!(said(&control) == "done" || deed == "root", "{deed} unconfined: {}", said(&control));
        let output = scene.run(deed, "vault");
        assert_eq!(output.status.signal(), Some(SIGSYS), "{deed} confined: {} {output:?}", said(&output));
    }
    let output = scene.run("execute-in-place", "vault");
    assert_eq!(output.status.signal(), Some(SIGSYS), "{output:?}");
}

#[test]
fn files_outside_its_directory_are_unreachable() {
    let scene = Scene::new();
    for deed in ["read-outside", "read-sibling", "list-outside", "write-outside", "read-link", "thread"] {
        let control = scene.run(deed, "no");
        assert_eq!(said(&control), "done", "{deed} unconfined");
        for profile in ["vault", "gateway"] {
            let output = scene.run(deed, profile);
            assert_eq!(said(&output), "failed: PermissionDenied", "{deed} as {profile}");
        }
    }
}

#[test]
fn a_local_log_socket_stays_reachable() {
    let scene = Scene::new();
    assert_eq!(said(&scene.run("syslog", "vault")), "done");
    let mut line = [0; 64];
    let length = scene.log.recv(&mut line).unwrap();
    assert_eq!(&line[..length], b"<13>cordon: x");
}

#[test]
fn a_gateway_connects_to_granted_ports_only() {
    let scene = Scene::new();
    assert_eq!(said(&scene.run("connect", "gateway")), "done");
    assert_eq!(said(&scene.run("connect-elsewhere", "gateway")), "failed: PermissionDenied");
    for deed in ["execute", "listen"] {
        let output = scene.run(deed, "gateway");
        assert_eq!(output.status.signal(), Some(SIGSYS), "{deed}: {output:?}");
    }
}

#[test]
fn an_abort_still_ends_in_sigabrt_and_leaves_no_core() {
    let scene = Scene::new();
    let output = scene.run("core", "vault");
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(!output.status.core_dumped());
}
