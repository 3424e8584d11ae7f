//! `cordon import` against a real vault: killed at any moment it goes on where it was, bad rows are named without a
//! digit, and no card number is in anything it writes.

use anyhow::{Context, Result, ensure};
use cordon_tests::cards::{self, AMEX, VISA, done};
use cordon_tests::process::binary;
use cordon_tests::stack::{self, Options, Stack};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const ROWS: u64 = 20_000;

fn import(stack: &Stack, service: &str, input: &Path, out: &Path, more: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("cordon")?);
    command.arg("--json").arg("--config").arg(stack.cli(service)?).arg("import").arg(input);
    command.args(["--collection", "cards", "--out"]).arg(out).args(more);
    command.stdin(Stdio::null());
    Ok(command)
}

fn private(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn summary(output: &Output) -> Result<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A file with a bad row in every thousand, and the number of good ones.
fn file(path: &Path) -> Result<u64> {
    let mut text = "id,card_number,name,expiry\n".to_owned();
    let mut good = 0;
    for n in 0..ROWS {
        let number = cards::bulk(n)?;
        if n % 1000 == 7 {
            text.push_str(&format!("{n},4111111111111112,bad,12/30\n"));
        } else {
            text.push_str(&format!("{n},{},\"Name, {n}\",12/30\n", number.expose()));
            good += 1;
        }
    }
    private(path, text.as_bytes())?;
    Ok(good)
}

/// Kills the import once it has recorded more than before. `false`: it came to its end first.
fn killed_midway(mut command: Command, state: &Path, seen: &mut Vec<u8>) -> Result<bool> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + cordon_tests::patience();
    loop {
        ensure!(Instant::now() < deadline, "the import neither records nor ends");
        let ended = child.try_wait()?.is_some();
        let now = fs::read(state).unwrap_or_default();
        if ended {
            return Ok(false);
        }
        if !now.is_empty() && now != *seen {
            *seen = now;
            child.kill()?;
            child.wait()?;
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn rows_of(path: &Path) -> Result<Vec<String>> {
    Ok(fs::read_to_string(path)?.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn an_import_that_is_killed_again_and_again_ends_as_one_that_was_not() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let input = stack.dir().join("cards.csv");
    let good = file(&input)?;
    let (broken, whole) = (stack.dir().join("broken.csv"), stack.dir().join("whole.csv"));
    let (mut kills, mut seen) = (0, Vec::new());
    let state = PathBuf::from(format!("{}.progress", broken.display()));
    while kills < 8 && killed_midway(import(&stack, "importer", &input, &broken, &[])?, &state, &mut seen)? {
        kills += 1;
    }
    ensure!(kills > 0, "nothing was killed");
    let output = import(&stack, "importer", &input, &broken, &[])?.output()?;
    let end = summary(&output)?;
    assert_eq!(output.status.code(), Some(1), "there are rejects");
    assert_eq!((end["rows"].as_u64(), end["tokens"].as_u64()), (Some(ROWS), Some(good)), "{end}");
    let plain = import(&stack, "importer", &input, &whole, &["--parallel", "3"])?.output()?;
    assert_eq!(summary(&plain)?["rejected"].as_u64(), Some(ROWS - good));
    let rows = rows_of(&whole)?;
    assert_eq!(rows_of(&broken)?, rows, "killed {kills} times");
    let rejects = |out: &Path| fs::read_to_string(format!("{}.rejects.csv", out.display()));
    assert_eq!(rejects(&broken)?, rejects(&whole)?);
    assert!(rejects(&whole)?.starts_with("line,code\n9,bad-pan\n1009,bad-pan\n"));
    check_tokens(&stack, &rows).await?;
    let again = import(&stack, "importer", &input, &whole, &["--parallel", "3"])?.output()?;
    assert!(String::from_utf8_lossy(&again.stderr).contains("complete"), "a second run sends nothing");
    assert_eq!(rows_of(&whole)?, rows);
    Ok(())
}

/// Every row stands in its place, with a token of its own that opens to its card.
async fn check_tokens(stack: &Stack, rows: &[String]) -> Result<()> {
    let mut numbers = (0..ROWS).filter(|n| n % 1000 != 7);
    let mut tokens = std::collections::BTreeSet::new();
    let (heading, rows) = rows.split_first().context("a heading")?;
    assert_eq!(heading, "id,card_number,name,expiry");
    let mut last = None;
    for row in rows {
        let n = numbers.next().context("a row too many")?;
        let (start, rest) = row.split_once(',').context("an id")?;
        let (token, rest) = rest.split_once(',').context("a token")?;
        assert_eq!((start, rest), (&*n.to_string(), &*format!("\"Name, {n}\",12/30")));
        tokens.insert(token.to_owned());
        last = Some((n, cordon_card::Token::parse(token)?));
    }
    assert_eq!(tokens.len(), rows.len(), "each card has a token of its own");
    assert!(numbers.next().is_none());
    let (n, token) = last.context("a row")?;
    let revealer = stack.revealer("gateway-egress")?;
    let answer = revealer.detokenize(&stack::cards()?, &cards::reveal(&token)).await?;
    let revealed = done(answer.items.into_iter().next().context("an item")?)?;
    let pan = revealed.pan.into_result().map_err(|code| anyhow::anyhow!("{code:?}"))?;
    assert_eq!(pan.expose(), cards::bulk(n)?.expose());
    Ok(())
}

#[tokio::test]
async fn an_encrypted_file_is_read_and_nothing_that_is_written_holds_a_digit_of_it() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let identity = age::x25519::Identity::generate();
    let key = stack.dir().join("key.txt");
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    private(&key, secret.as_bytes())?;
    let text = format!(
        "{{\"pan\":\"{VISA}\",\"exp\":\"01/31\",\"ref\":\"a\"}}\n{{\"pan\":\"{AMEX}\",\"ref\":\"b\"}}\n\
         {{\"pan\":\"4111111111111112\",\"ref\":\"c\"}}\n{{\"pan\":\"{VISA}\",\"ref\":\"{AMEX}\"}}\n"
    );
    let recipients = [identity.to_public()];
    let encryptor =
        age::Encryptor::with_recipients(recipients.iter().map(|key| -> &dyn age::Recipient { key }))?;
    let mut sealed = encryptor.wrap_output(Vec::new())?;
    sealed.write_all(text.as_bytes())?;
    let input = stack.dir().join("cards.jsonl.age");
    private(&input, &sealed.finish()?)?;
    let out = stack.dir().join("out.jsonl");
    let without = import(&stack, "importer", &input, &out, &[])?.output()?;
    assert_eq!(without.status.code(), Some(2), "it says that a key is needed");
    assert!(String::from_utf8_lossy(&without.stdout).contains("--identity"));
    let key = key.to_string_lossy().into_owned();
    let wrong = "0".repeat(64);
    let poisoned =
        import(&stack, "importer", &input, &out, &["--identity", &key, "--expect-sha256", &wrong])?
            .output()?;
    assert_eq!(poisoned.status.code(), Some(1));
    assert!(!out.exists() && !stack.audit("vault").contains("\"tokenize\""), "nothing was sent");
    let output =
        import(&stack, "importer", &input, &out, &["--identity", &key, "--metadata", "ref=reference"])?
            .output()?;
    let end = summary(&output)?;
    assert_eq!((end["tokens"].as_u64(), end["rejected"].as_u64()), (Some(2), Some(2)), "{end}");
    let rows = rows_of(&out)?;
    assert!(
        rows[0].starts_with("{\"pan\":\"tok_dev_")
            && rows[0].ends_with("\",\"exp\":\"01/31\",\"ref\":\"a\"}")
    );
    let rejects = fs::read_to_string(format!("{}.rejects.csv", out.display()))?;
    assert_eq!(rejects, "line,code\n3,bad-pan\n4,leak-blocked\n");
    for entry in fs::read_dir(stack.dir())? {
        let path = entry?.path();
        if path.is_file() {
            let bytes = fs::read(&path)?;
            for number in [VISA, AMEX, "411111111111"] {
                ensure!(
                    memchr::memmem::find(&bytes, number.as_bytes()).is_none(),
                    "{} holds a card number",
                    path.display()
                );
            }
        }
    }
    for stream in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains("41111"));
    }
    Ok(())
}

/// GnuPG in a home of its own, whose agent ends with the test.
struct Gpg(PathBuf);

impl Gpg {
    fn new(home: PathBuf) -> Result<Self> {
        fs::create_dir(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        Ok(Self(home))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.0).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        command.args(["--passphrase", ""]).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(arguments).output().context("gpg, of Debian's package gnupg")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ended = Command::new("gpgconf").arg("--homedir").arg(&self.0).args(["--kill", "all"]).status();
    }
}

/// As docs/import.md says it: `gpg --decrypt FILE | cordon import -`.
#[tokio::test]
async fn a_file_encrypted_with_openpgp_comes_in_through_gpg() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let gpg = Gpg::new(stack.dir().join("gnupg"))?;
    gpg.run(&["--quick-generate-key", "custodian@cordon.test", "future-default", "default", "never"])?;
    let plain = stack.dir().join("cards.csv");
    private(&plain, format!("id,pan,expiry\n1,{VISA},12/30\n2,{AMEX},01/31\n").as_bytes())?;
    let sealed = format!("{}.pgp", plain.display());
    let recipient = ["--trust-model", "always", "--recipient", "custodian@cordon.test"];
    gpg.run(&[&recipient[..], &["--output", &sealed, "--encrypt", &plain.to_string_lossy()]].concat())?;
    fs::remove_file(&plain)?;
    let out = stack.dir().join("out.csv");
    let bare = import(&stack, "importer", Path::new(&sealed), &out, &[])?.output()?;
    ensure!(!bare.status.success() && !out.exists(), "a file that is not decrypted is refused");
    ensure!(String::from_utf8_lossy(&bare.stdout).contains("gpg --decrypt"), "and it says what to do");
    let mut decrypting = gpg.command(&["--decrypt", &sealed]).stdout(Stdio::piped()).spawn()?;
    let pipe = decrypting.stdout.take().context("its output")?;
    let output = import(&stack, "importer", Path::new("-"), &out, &[])?.stdin(pipe).output()?;
    ensure!(decrypting.wait()?.success());
    let end = summary(&output)?;
    assert_eq!((end["tokens"].as_u64(), end["rejected"].as_u64()), (Some(2), Some(0)), "{end}");
    let rows = rows_of(&out)?;
    assert!(rows.len() == 3 && rows[1].starts_with("1,tok_dev_") && rows[2].starts_with("2,tok_dev_"));
    Ok(())
}

#[tokio::test]
async fn who_may_not_tokenize_imports_nothing_and_can_go_on_once_they_may() -> Result<()> {
    let stack = Stack::start(Options { gateway: false, ..Options::default() }).await?;
    let input = stack.dir().join("cards.csv");
    private(&input, format!("pan;id\r\n{VISA};7\r\n").as_bytes())?;
    let out = stack.dir().join("out.csv");
    let denied = import(&stack, "operator", &input, &out, &[])?.output()?;
    assert_eq!(denied.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&denied.stdout).contains("\"denied\""));
    assert_eq!(fs::read_to_string(&out)?, "pan;id\r\n");
    let output = import(&stack, "importer", &input, &out, &[])?.output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(&out)?.ends_with(";7\r\n"));
    let other = import(&stack, "importer", &input, &out, &["--omit-column", "id"])?.output()?;
    assert_eq!(other.status.code(), Some(1), "another import does not write into this one's files");
    Ok(())
}
