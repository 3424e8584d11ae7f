//! Hardening and the panic hook, seen from outside: the test runs itself again as a child and reads what the kernel says.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use cordon_daemon::telemetry::{self, Format};
use rustix::process::{Resource, Rlimit, Signal, kill_process};

/// Names the part that a child plays; unset in the parent.
const PART: &str = "CORDON_TEST_PART";

fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(PART, "child");
    command
}

fn output(test: &str) -> Output {
    child(test).output().unwrap()
}

fn is_child() -> bool {
    std::env::var_os(PART).is_some()
}

/// What follows `name` on its line. The test runner's own words may stand before it.
fn value<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines()
        .find_map(|line| line.split_once(name).map(|(_, rest)| rest))
        .unwrap_or_else(|| panic!("{name} in {text}"))
        .trim()
}

#[test]
fn a_hardened_process_shows_it_in_its_proc_entries() {
    if is_child() {
        let files = rustix::process::getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(256), ..files };
        rustix::process::setrlimit(Resource::Nofile, few).unwrap();
        let report = cordon_daemon::process::harden();
        println!("REPORT {}", serde_json::to_string(&report).unwrap());
        println!(
            "ALL FILES {}",
            rustix::process::getrlimit(Resource::Nofile) == Rlimit { current: files.maximum, ..files }
        );
        for file in ["/proc/self/limits", "/proc/thread-self/status"] {
            println!("{}", std::fs::read_to_string(file).unwrap());
        }
        let scratch = tempfile::tempdir().unwrap();
        let made = scratch.path().join("made");
        std::fs::write(&made, "").unwrap();
        println!("MODE {:?}", std::fs::metadata(made).unwrap().permissions());
        return;
    }
    let output = output("process::a_hardened_process_shows_it_in_its_proc_entries");
    let text = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(value(&text, "REPORT")).unwrap();
    for measure in ["core_dumps_off", "not_dumpable", "no_new_privileges", "private_files"] {
        assert_eq!(report[measure], true, "{measure}: {report}");
    }
    assert_eq!(value(&text, "ALL FILES"), "true");
    assert!(value(&text, "Max core file size").starts_with("0                    0"), "{text}");
    assert_eq!(value(&text, "NoNewPrivs:"), "1");
    assert!(
        value(&text, "MODE").contains("0o100600") || value(&text, "MODE").contains("rw-------"),
        "{text}"
    );
    let locked: u64 = value(&text, "VmLck:").trim_end_matches(" kB").parse().unwrap();
    assert_eq!(report["memory_locked"] == true, locked > 0, "{report} {locked}");
    assert_eq!(report["memory_locked"] == true, report["memory_lock_reason"].is_null());
}

#[test]
fn a_hardened_process_that_aborts_leaves_no_core() {
    if is_child() {
        cordon_daemon::process::harden();
        std::process::abort();
    }
    let output = output("process::a_hardened_process_that_aborts_leaves_no_core");
    assert!(output.status.signal().is_some());
    assert!(!output.status.core_dumped());
}

#[test]
fn a_panic_is_logged_by_its_place_and_without_its_payload() {
    if is_child() {
        telemetry::init(Format::Json, "info").unwrap();
        let payload = std::thread::Builder::new()
            .name("victim".to_owned())
            .spawn(|| panic!("the card was {} and the name was Ada", "4111111111111111"))
            .unwrap()
            .join();
        assert!(payload.is_err());
        assert!(telemetry::init(Format::Json, "info").is_err());
        return;
    }
    let output = output("process::a_panic_is_logged_by_its_place_and_without_its_payload");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("process.rs") && text.contains("victim") && text.contains("panicked"), "{text}");
    assert!(!text.contains("4111") && !text.contains("Ada"), "{text}");
}

#[test]
fn a_signal_triggers_the_drain() {
    if is_child() {
        let drain = cordon_daemon::drain::Drain::on_signals(
            cordon_daemon::drain::DEADLINE,
            std::time::Duration::ZERO,
        )
        .unwrap();
        println!("READY");
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(drain.triggered());
        println!("DRAINED");
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = child("process::a_signal_triggers_the_drain").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap().contains("READY")));
        kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        assert!(lines.any(|line| line.unwrap().contains("DRAINED")));
        assert!(child.wait().unwrap().success());
    }
}
