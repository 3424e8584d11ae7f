//! Bulk: makes files of cards, and times the real `cordon import`, `cordon backup` and `cordon-vault restore`.
//!
//! Must never make a number under an assigned range (see `cordon_tests::cards`). Measured, not tested.

use anyhow::{Context, Result, ensure};
use cordon_tests::cards;
use cordon_tests::process::binary;
use cordon_tests::stack::{Options, Stack};
use cordon_wire::SealKind;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// `cordon-load cards`.
#[derive(clap::Args)]
pub(crate) struct Cards {
    /// How many
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// The first one
    #[arg(long, default_value_t = 0)]
    from: u64,
}

/// `cordon-load import`.
#[derive(clap::Args)]
pub(crate) struct Import {
    /// Cards in each file
    #[arg(long, default_value_t = 1_000_000)]
    step: u64,
    /// Files, one after the other into the same vault: how the rate changes is the slope
    #[arg(long, default_value_t = 5)]
    steps: u64,
    /// Worker threads of the vault
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Calls in flight of the import
    #[arg(long, default_value_t = 8)]
    parallel: u8,
}

impl Cards {
    /// Writes them to stdout as CSV.
    pub(crate) fn run(&self) -> Result<()> {
        write(&mut BufWriter::with_capacity(1 << 20, io::stdout().lock()), self.from, self.count)
    }
}

fn write(out: &mut impl Write, from: u64, count: u64) -> Result<()> {
    writeln!(out, "id,card_number,expiry")?;
    for n in from..from + count {
        writeln!(out, "{n},{},12/30", cards::bulk(n)?.expose())?;
    }
    out.flush()?;
    Ok(())
}

impl Import {
    /// Imports step by step, then backs up and restores what came together.
    pub(crate) fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (key, public) = identity();
        let options = Options {
            gateway: false,
            workers: self.workers,
            seal: SealKind::Shamir,
            recipients: vec![public],
            ..Options::default()
        };
        let mut stack = runtime.block_on(Stack::start(options))?;
        let key_file = stack.dir().join("custodian.key");
        private(&key_file, key.as_bytes())?;
        let mut out = io::stdout();
        writeln!(
            out,
            "{:>12} {:>10} {:>10} {:>12} {:>10}",
            "cards", "seconds", "rows/s", "store bytes", "bytes/card"
        )?;
        for step in 0..self.steps {
            let seconds = self.step(&stack, step)?;
            let cards = (step + 1) * self.step;
            let administrator = stack.administrator()?;
            let disk = runtime.block_on(administrator.status())?.store.disk_bytes;
            writeln!(
                out,
                "{cards:>12} {seconds:>10.1} {:>10.0} {disk:>12} {:>10}",
                rate(self.step, seconds),
                disk / cards.max(1)
            )?;
        }
        let file = stack.dir().join("vault.backup");
        let cards = self.steps * self.step;
        let mut backup = cordon(&stack, "operator")?;
        backup.args(["backup", "create", "--out"]).arg(&file);
        report("backup", cards, timed(&mut backup)?, &file)?;
        let mut verify = cordon(&stack, "operator")?;
        verify.args(["backup", "verify"]).arg(&file).arg("--identity").arg(&key_file);
        report("verify", cards, timed(&mut verify)?, &file)?;
        runtime.block_on(stack.vault.terminate())?;
        fs::remove_dir_all(stack.vault_data())?;
        let mut restore = Command::new(binary("cordon-vault")?);
        restore.arg("restore").arg("--config").arg(stack.dir().join("vault.toml"));
        restore.arg("--from").arg(&file).arg("--identity").arg(&key_file);
        report("restore", cards, timed(&mut restore)?, &file)
    }

    fn step(&self, stack: &Stack, step: u64) -> Result<f64> {
        let input = stack.dir().join("cards.csv");
        let out = stack.dir().join(format!("tokens-{step}.csv"));
        write(&mut BufWriter::with_capacity(1 << 20, File::create(&input)?), step * self.step, self.step)?;
        fs::set_permissions(&input, fs::Permissions::from_mode(0o600))?;
        let mut command = cordon(stack, "importer")?;
        command.arg("import").arg(&input).args(["--collection", "cards", "--out"]).arg(&out);
        command.args(["--parallel", &self.parallel.to_string()]);
        let seconds = timed(&mut command)?;
        fs::remove_file(&out)?;
        Ok(seconds)
    }
}

/// A key pair by `age-keygen`'s format, private and public.
fn identity() -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

fn private(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn cordon(stack: &Stack, service: &str) -> Result<Command> {
    let mut command = Command::new(binary("cordon")?);
    command.arg("--json").arg("--config").arg(stack.cli(service)?);
    Ok(command)
}

fn timed(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let output = command.output().context("starting a command")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(started.elapsed().as_secs_f64())
}

fn report(what: &str, cards: u64, seconds: f64, file: &Path) -> Result<()> {
    let length = fs::metadata(file)?.len();
    writeln!(io::stdout(), "{what}: {seconds:.1} s, {:.0} cards/s, {length} bytes", rate(cards, seconds))?;
    Ok(())
}

fn rate(cards: u64, seconds: f64) -> f64 {
    cards as f64 / seconds.max(0.001)
}
