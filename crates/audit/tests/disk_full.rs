//! A disk that is full, for real: the line that does not fit is refused, and no acknowledged one is lost.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use cordon_audit::{Action, AuditError, Event, Log, Outcome, VerifierKey, verify};
    use cordon_card::CardId;
    use rustix::process::{Resource, Rlimit, setrlimit};

    const DIRECTORY: &str = "CORDON_AUDIT_TEST_DIRECTORY";
    const ORIGIN: &str = "cordon.test/vault";

    /// A long line, so that the limit is reached soon.
    fn event() -> Event {
        let cards = (0..3_000_u128).map(|number| CardId::from_bytes(number.to_be_bytes()));
        Event::new(Action::Tokenize, Outcome::Allowed).cards(cards)
    }

    /// Not a test but the child: appends until its files may not grow any further, and says how that ended.
    #[test]
    fn child_that_fills_the_disk() {
        let Ok(directory) = std::env::var(DIRECTORY) else { return };
        let (log, _) = Log::open(Path::new(&directory), ORIGIN).unwrap();
        let limit = Rlimit { current: Some(16 << 20), maximum: Some(16 << 20) };
        setrlimit(Resource::Fsize, limit).unwrap();
        let mut acknowledged = 0;
        let refused = loop {
            match log.append_blocking(event()) {
                Ok(receipt) => acknowledged = receipt.index() + 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AuditError::Poisoned), "{refused:?}");
        // Nothing more is taken, not even what would fit.
        let small = log.append_blocking(Event::new(Action::Seal, Outcome::Allowed));
        assert!(matches!(small, Err(AuditError::Poisoned)));
        assert!(log.is_refusing() && !log.degraded().is_empty());
        println!("\nacknowledged {acknowledged}.");
    }

    #[test]
    fn a_full_disk_refuses_the_line_and_loses_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        // A process that ignores the signal gets an error for a write beyond its limit, as for a full disk.
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "tests::child_that_fills_the_disk", "--nocapture"])
            .env(DIRECTORY, scratch.path())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let acknowledged = said.lines().find_map(|line| line.strip_prefix("acknowledged ")).unwrap();
        let acknowledged: u64 = acknowledged.trim_end_matches('.').parse().unwrap();
        assert!(acknowledged > 50, "the limit came too early to show anything: {acknowledged}");
        // With room again the log opens, and every acknowledged line is in it.
        let (log, recovered) = Log::open(scratch.path(), ORIGIN).unwrap();
        assert!(recovered.size >= acknowledged, "{recovered:?}");
        log.append_blocking(Event::new(Action::AuditOpen, Outcome::Allowed)).unwrap();
        log.close().unwrap();
        let key = fs::read_to_string(scratch.path().join("verifier.txt")).unwrap();
        let verified = verify(scratch.path(), &VerifierKey::parse(&key).unwrap(), None).unwrap();
        assert_eq!(verified.lines, recovered.size + 1);
    }
}
