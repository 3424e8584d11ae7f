//! Hardening of the real daemons, looked at and attacked from outside. Needs root: nobody else may look.

use anyhow::{Context, Result, ensure};
use cordon_tests::process::{Daemon, binary};
use cordon_tests::stack::{Options, Stack};
use cordon_tests::{https, memory};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `nobody`: some other user.
const OTHER: u32 = 65_534;
const MEASURES: [&str; 10] = [
    "core_dumps_off",
    "not_dumpable",
    "no_new_privileges",
    "memory_locked",
    "private_files",
    "swap_off",
    "unprivileged",
    "landlock_files",
    "landlock_network",
    "seccomp",
];

async fn vault() -> Result<Stack> {
    ensure!(rustix::process::geteuid().is_root(), "run this test as root: it looks into other processes");
    Stack::start(Options { gateway: false, ..Options::default() }).await
}

/// What follows `name` in a process's status file.
fn status_of(file: &Path, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).context("a line of the status")?;
    Ok(value.trim_start_matches(':').trim().to_owned())
}

#[tokio::test]
async fn every_thread_of_both_daemons_is_confined() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let gateway = stack.gateway.as_ref().context("a gateway")?;
    for process in [stack.vault.id(), gateway.id()] {
        let mut threads = 0;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let file = thread?.path().join("status");
            for (name, wanted) in [("Seccomp", "2"), ("Seccomp_filters", "3"), ("NoNewPrivs", "1")] {
                assert_eq!(status_of(&file, name)?, wanted, "{name} of {}", file.display());
            }
            threads += 1;
        }
        assert!(threads > 3, "{threads} threads");
    }
    Ok(())
}

#[tokio::test]
async fn each_measure_is_visible_in_status_and_in_the_gateways_metrics() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let status = stack.administrator()?.status().await?;
    let names: Vec<&str> = status.hardening.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, MEASURES);
    let gateway = stack.gateway.as_ref().context("a gateway")?;
    let metrics = https::send_plain(gateway.address("metrics")?, "/metrics").await?;
    let metrics = String::from_utf8(metrics.body)?;
    for item in status.hardening {
        // Whether memory can be locked, and whether there is swap, is for the machine to say; root is who runs this.
        let wanted = match item.name.as_str() {
            "memory_locked" => {
                let locked =
                    status_of(&PathBuf::from(format!("/proc/{}/status", stack.vault.id())), "VmLck")?;
                locked != "0 kB"
            }
            "swap_off" => fs::read_to_string("/proc/swaps")?.lines().count() <= 1,
            "unprivileged" => !rustix::process::geteuid().is_root(),
            _ => true,
        };
        assert_eq!(item.in_force, wanted, "{}", item.name);
        let line = format!("cordon_gateway_hardening{{measure=\"{}\"}} {}", item.name, u8::from(wanted));
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn another_user_can_read_nothing_of_a_vault() -> Result<()> {
    let stack = vault().await?;
    let read = |uid: u32, file: &str| -> Result<Output> {
        let mut cat = Command::new("head");
        cat.args(["-c", "1", &format!("/proc/{}/{file}", stack.vault.id())]).uid(uid).gid(uid);
        Ok(cat.output()?)
    };
    for file in ["maps", "environ", "auxv", "stack", "io"] {
        let output = read(OTHER, file)?;
        assert!(!output.status.success() && output.stdout.is_empty(), "{file}: {output:?}");
        let control = read(0, file)?;
        assert!(control.status.success(), "root reads {file}: {control:?}");
    }
    // Memory itself, at an address that exists.
    let maps = fs::read_to_string(format!("/proc/{}/maps", stack.vault.id()))?;
    let address = maps.split('-').next().context("an address")?;
    let skip = u64::from_str_radix(address, 16)? / 4096;
    for (uid, readable) in [(OTHER, false), (0, true)] {
        let mut dd = Command::new("dd");
        dd.arg(format!("if=/proc/{}/mem", stack.vault.id())).arg(format!("skip={skip}"));
        let output = dd.args(["bs=4096", "count=1", "status=none"]).uid(uid).gid(uid).output()?;
        assert_eq!(output.stdout.len() == 4096, readable, "uid {uid}: {:?}", output.status);
    }
    Ok(())
}

fn abort(process: u32) -> Result<()> {
    kill_process(Pid::from_raw(i32::try_from(process)?).context("a process id")?, Signal::ABORT)?;
    Ok(())
}

#[tokio::test]
async fn an_aborted_vault_leaves_no_core() -> Result<()> {
    let stack = vault().await?;
    let dir = tempfile::tempdir()?;
    // The wish for cores is inherited by both; only the vault takes it back.
    let wish = Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(Resource::Core, wish).context("root may raise the limit of cores")?;
    let mut control = Command::new("sleep").arg("60").current_dir(dir.path()).spawn()?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    abort(control.id())?;
    let status = control.wait()?;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(status.core_dumped() || pattern.starts_with('|'), "the control does leave one");
    for file in fs::read_dir(dir.path())? {
        fs::remove_file(file?.path())?;
    }
    // The stack's vault holds the data directory; this one has its own.
    let own = stack.dir().join("second.toml");
    let text = fs::read_to_string(stack.dir().join("vault.toml"))?.replace("vault-data", "second-data");
    fs::write(&own, text)?;
    let mut command = Command::new(binary("cordon-vault")?);
    command.arg("--config").arg(&own).current_dir(dir.path());
    let mut second = Daemon::launch(command, &stack.dir().join("second.log"))?;
    abort(second.id())?;
    let status = second.wait()?;
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
    assert_eq!(fs::read_dir(dir.path())?.count(), 0, "no file where a core would be");
    Ok(())
}

#[tokio::test]
async fn a_vault_reaches_no_file_outside_its_directory() -> Result<()> {
    let mut stack = vault().await?;
    stack.vault.terminate().await?;
    let outside = stack.dir().join("outside");
    fs::rename(stack.vault_data().join("audit"), &outside)?;
    symlink(&outside, stack.vault_data().join("audit"))?;
    let config = stack.dir().join("vault.toml");
    let output = Command::new(binary("cordon-vault")?).arg("--config").arg(&config).output()?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("ermission denied"), "even root is refused: {log}");
    // Control: the same files in their place.
    fs::remove_file(stack.vault_data().join("audit"))?;
    fs::rename(&outside, stack.vault_data().join("audit"))?;
    stack.restart_vault()
}

#[tokio::test]
async fn nothing_of_a_vault_lies_in_swap() -> Result<()> {
    let stack = vault().await?;
    let status = PathBuf::from(format!("/proc/{}/status", stack.vault.id()));
    assert_eq!(status_of(&status, "VmSwap")?, "0 kB");
    let needle = [("the vault's certificate".to_owned(), b"vault.cordon.test".to_vec())];
    let seen = memory::scan(stack.vault.id(), &needle)?;
    assert!(!seen.hits.is_empty() && seen.swapped == 0, "{} pages in swap", seen.swapped);
    // The kernel marks each mapping that it will never swap, with the flag `lo`.
    let locked = stack
        .administrator()?
        .status()
        .await?
        .hardening
        .into_iter()
        .any(|item| item.name == "memory_locked" && item.in_force);
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", stack.vault.id()))?;
    let heap_is_locked = smaps
        .lines()
        .any(|line| line.starts_with("VmFlags:") && line.contains(" wr ") && line.contains(" lo"));
    assert_eq!(locked, heap_is_locked);
    assert!(
        locked || fs::read_to_string("/proc/swaps")?.lines().count() <= 1,
        "locked, or nowhere to swap to"
    );
    Ok(())
}

/// A vault of a live environment that runs as `nobody`, as under systemd: its own files, the shipped bundle.
struct Live {
    dir: tempfile::TempDir,
}

impl Live {
    fn new(stack: &Stack) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cordon-live-").tempdir()?;
        fs::copy(binary("cordon-vault")?, dir.path().join("cordon-vault"))?;
        for file in ["ca.pem", "ca-vault.cordon.test.pem", "ca-vault.cordon.test.key"] {
            fs::copy(stack.dir().join(file), dir.path().join(file))?;
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        copy_all(&shipped, &dir.path().join("policies"))?;
        let text = fs::read_to_string(stack.dir().join("vault.toml"))?;
        let config = dir.path().join("vault.toml");
        fs::write(&config, text.replace("\"dev\"", "\"live\""))?;
        fs::set_permissions(config, fs::Permissions::from_mode(0o600))?;
        Ok(Self { dir })
    }

    fn command(&self, uid: u32) -> Command {
        let mut command = Command::new(self.dir.path().join("cordon-vault"));
        command
            .arg("--config")
            .arg(self.dir.path().join("vault.toml"))
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::null());
        command
    }

    fn without(&self, measures: &str) -> Result<()> {
        let path = self.dir.path().join("vault.toml");
        let text = fs::read_to_string(&path)?;
        fs::write(path, format!("{text}\n[hardening.without]\n{measures}\n"))?;
        Ok(())
    }
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, name) = (entry?, to.to_owned());
        let target = name.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Gives a directory and all in it to the other user.
fn own(path: &Path) -> Result<()> {
    chown(path, Some(OTHER), Some(OTHER))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path())?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_live_vault_refuses_to_lack_a_measure_that_is_not_named() -> Result<()> {
    let live = Live::new(&vault().await?)?;
    // As root, with root's files.
    let output = live.command(0).output()?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(log.contains("unprivileged") && output.stdout.is_empty(), "{log}");
    // As another user, without the right to lock memory.
    own(live.dir.path())?;
    let output = live.command(OTHER).output()?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(log.contains("not in force: memory_locked") && !log.contains("unprivileged"), "{log}");
    // With that named, and a reason, it serves. Every other measure is in force for an ordinary user.
    live.without("memory_locked = \"this machine has no swap\"\nswap_off = \"and nothing to say so\"")?;
    let daemon = Daemon::launch(live.command(OTHER), &live.dir.path().join("log"))?;
    let status = PathBuf::from(format!("/proc/{}/status", daemon.id()));
    for (name, wanted) in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("CapEff", "0000000000000000")] {
        assert_eq!(status_of(&status, name)?, wanted);
    }
    // A neighbour of the same user reads nothing either.
    let maps =
        Command::new("cat").arg(format!("/proc/{}/maps", daemon.id())).uid(OTHER).gid(OTHER).output()?;
    assert!(!maps.status.success() && maps.stdout.is_empty(), "{maps:?}");
    Ok(())
}

#[test]
fn the_systemd_units_score_under_two() -> Result<()> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    for unit in ["cordon-vault.service", "cordon-gateway.service"] {
        let analyse = |threshold: &str| {
            Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager", threshold])
                .arg(units.join(unit))
                .output()
                .context("systemd-analyze is missing; install the package systemd")
        };
        let output = analyse("--threshold=20")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("Overall exposure level"), "{unit}: {text}");
        assert!(!analyse("--threshold=1")?.status.success(), "control: the threshold is looked at");
        let verified = Command::new("systemd-analyze").arg("verify").arg(units.join(unit)).output()?;
        let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
        // The binaries are not installed where the tests run; nothing else may be wrong.
        let other: Vec<&str> =
            complaints.lines().filter(|line| !line.contains("is not executable")).collect();
        assert_eq!(other, Vec::<&str>::new(), "{unit}");
    }
    Ok(())
}
