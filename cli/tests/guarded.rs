//! The guard of `cordon dev`'s processes: what it runs ends when the one that started it ends.

#[cfg(test)]
mod guarded {
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_guarded_program_ends_with_a_parent_that_was_killed() {
        // A shell starts the guarded program, says its id, and is killed without a chance to clean up.
        let script = format!(
            "{} sample guarded --parent $$ -- sleep 600 & echo $!; wait",
            env!("CARGO_BIN_EXE_cordon")
        );
        let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = shell.stdout.take().unwrap();
        while !line.ends_with('\n') {
            let mut byte = [0_u8; 1];
            stdout.read_exact(&mut byte).unwrap();
            line.push(char::from(byte[0]));
        }
        let process = format!("/proc/{}/comm", line.trim());
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::fs::read_to_string(&process).is_ok_and(|name| name.trim() != "sleep") {
            assert!(Instant::now() < deadline, "the program was never run");
            std::thread::yield_now();
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        while std::fs::read_to_string(&process)
            .is_ok_and(|name| name.trim() == "sleep" && !is_zombie(line.trim()))
        {
            assert!(Instant::now() < deadline, "the program outlived its parent");
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_refuses_to_run_for_a_parent_that_is_not_its_own() {
        let output = Command::new(env!("CARGO_BIN_EXE_cordon"))
            .args(["sample", "guarded", "--parent", "1", "--", "true"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
    }

    fn is_zombie(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    }
}
