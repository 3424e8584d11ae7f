//! What was acknowledged is on the disk: syncs counted from outside, processes killed, a second process
//! refused.
//!
//! The child processes are this test binary again, told by environment variables which child to be.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use cordon_vault::store::{FjallStore, Inserted, Store, StoreError};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cards::{CARDS, card, token};

const DIR: &str = "CORDON_STORE_TEST_DIR";
const COUNT: &str = "CORDON_STORE_TEST_COUNT";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// This binary as a child that runs one of the functions below.
fn child(program: Command, name: &str, dir: &Path, count: Option<u64>) -> Command {
    let mut command = program;
    command.args(["--exact", &format!("durability::{name}"), "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(COUNT, count.unwrap_or(u64::MAX).to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn myself() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Not a test but the child: inserts one card per batch and prints each number once it is acknowledged.
#[test]
fn child_that_inserts() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let count: u64 = std::env::var(COUNT).unwrap().parse().unwrap();
    let store = FjallStore::open(Path::new(&dir), None).unwrap();
    let begin = store.sequence() + 1;
    let mut out = std::io::stdout();
    runtime().block_on(async {
        for number in begin..begin.saturating_add(count) {
            let answer = store.insert(vec![card(number, number)]).await.unwrap();
            assert_eq!((&answer.value[..], answer.sequence), (&[Inserted::Won][..], number));
            writeln!(out, "\nacknowledged {number}.").unwrap();
        }
    });
}

/// What a child acknowledges, as it comes. A kill can cut a line; only a whole one ends in a full stop.
fn acknowledged(out: ChildStdout) -> impl Iterator<Item = u64> {
    BufReader::new(out)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("acknowledged ")?.strip_suffix('.')?.parse().ok())
}

#[test]
fn every_acknowledged_card_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..10_usize {
        let mut child = child(myself(), "child_that_inserts", dir.path(), None).spawn().unwrap();
        let mut lines = acknowledged(child.stdout.take().unwrap());
        // The moment differs by round and by how the machine is loaded, never by a sleep.
        let mut numbers: Vec<_> = lines.by_ref().take(1 + round * 37 % 101).collect();
        child.kill().unwrap();
        numbers.extend(lines);
        child.wait().unwrap();
        assert!(numbers.iter().zip(last + 1..).all(|(seen, expected)| *seen == expected));
        let store = FjallStore::open(dir.path(), numbers.last().copied()).unwrap();
        let tokens: Vec<_> = (1..=store.sequence()).map(token).collect();
        assert!(store.get(CARDS, &tokens).unwrap().iter().all(Option::is_some));
        last = store.sequence();
    }
    assert!(last >= 400, "the children did hardly anything: {last}");
}

/// Not a test but the child: inserts until its files may not grow any further, and says how that ended.
#[test]
fn child_that_fills_the_disk() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = FjallStore::open(Path::new(&dir), None).unwrap();
    let limit = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    setrlimit(Resource::Fsize, limit).unwrap();
    runtime().block_on(async {
        let mut number = 0;
        let failed = loop {
            match store.insert((number..number + 16).map(|number| card(number, number)).collect()).await {
                Ok(_) => number += 16,
                Err(error) => break error,
            }
        };
        let after = store.insert(vec![card(number + 16, number + 16)]).await;
        assert!(matches!((failed, after), (StoreError::Full, Err(StoreError::Closed))));
        assert!(store.get(CARDS, &[token(0)]).unwrap()[0].is_some(), "reads go on");
        println!("\nacknowledged {}.", number - 1);
    });
}

#[test]
fn a_full_disk_refuses_the_insert_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A process that ignores the signal gets an error for a write beyond its limit, as for a full disk.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    let mut filling = child(shell, "child_that_fills_the_disk", dir.path(), None).spawn().unwrap();
    let last = acknowledged(filling.stdout.take().unwrap()).last().unwrap();
    assert!(filling.wait().unwrap().success());
    let store = FjallStore::open(dir.path(), Some((last + 1) / 16)).unwrap();
    let tokens: Vec<_> = (0..=last).map(token).collect();
    assert!(store.get(CARDS, &tokens).unwrap().iter().all(Option::is_some));
    assert!(last > 500, "the limit came too early to show anything");
}

/// Counts the system calls of a child that make data durable. A machine that can't trace fails the test.
fn traced_syncs(count: u64) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync", "-o"]);
    strace.arg(&trace).arg(std::env::current_exe().unwrap());
    let output = child(strace, "child_that_inserts", &dir.path().join("store"), Some(count)).output();
    let output = output.expect("strace runs; install it with: apt-get install strace");
    let done = String::from_utf8_lossy(&output.stdout).lines().filter(|l| l.starts_with("ack")).count();
    assert_eq!(done as u64, count, "strace may trace: {}", String::from_utf8_lossy(&output.stderr));
    let trace = std::fs::read_to_string(trace).unwrap();
    trace.lines().filter(|line| line.contains("sync") && !line.contains("resumed")).count()
}

#[test]
fn a_hundred_acknowledged_batches_are_a_hundred_syncs() {
    let (idle, busy) = (traced_syncs(0), traced_syncs(100));
    let batches = busy - idle;
    assert!((100..=104).contains(&batches), "{batches} syncs for 100 batches ({idle} to open and close)");
}

#[test]
fn the_engine_counts_one_sync_for_each_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = FjallStore::open(dir.path(), None).unwrap();
    let before = store.statistics();
    runtime().block_on(async {
        for number in 0..100 {
            store.insert(vec![card(number, number)]).await.unwrap();
        }
    });
    let after = store.statistics();
    assert_eq!((after.commits - before.commits, after.fsyncs - before.fsyncs), (100, 100));
    assert_eq!((after.operations, after.items, after.largest_group), (100, 100, 1));
    assert!(after.bytes_on_disk > 0);
}

/// Not a test but the child: reports what it is told when it opens the directory.
#[test]
fn child_that_opens() {
    let Ok(dir) = std::env::var(DIR) else { return };
    match FjallStore::open(Path::new(&dir), None) {
        Ok(_) => println!("\noutcome opened"),
        Err(StoreError::Locked) => println!("\noutcome locked"),
        Err(_) => println!("\noutcome failed"),
    }
}

fn opened_by_another_process(dir: &Path) -> String {
    let output = child(myself(), "child_that_opens", dir, None).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("outcome ")).unwrap().to_owned()
}

#[test]
fn a_second_process_or_handle_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = FjallStore::open(dir.path(), None).unwrap();
    assert_eq!(opened_by_another_process(dir.path()), "locked");
    assert!(matches!(FjallStore::open(dir.path(), None), Err(StoreError::Locked)));
    drop(store);
    assert_eq!(opened_by_another_process(dir.path()), "opened");
}
