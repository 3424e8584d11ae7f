//! The built binary as a user and a program meet it: help, completions, exit codes, JSON on stdout.

#[cfg(test)]
mod transcripts {
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    fn cordon(directory: &Path, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cordon"))
            .args(arguments)
            .current_dir(directory)
            .env_remove("CORDON_CONFIG")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn here(arguments: &[&str]) -> Output {
        let scratch = tempfile::tempdir().unwrap();
        cordon(scratch.path(), arguments)
    }

    fn stdout(output: &Output) -> String {
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    fn stderr(output: &Output) -> String {
        String::from_utf8(output.stderr.clone()).unwrap()
    }

    const COMMANDS: [&[&str]; 49] = [
        &["dev"],
        &["init"],
        &["unseal"],
        &["seal"],
        &["status"],
        &["doctor"],
        &["collection", "create"],
        &["collection", "list"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["keys", "destroy"],
        &["rekey"],
        &["rekey", "status"],
        &["rekey", "begin"],
        &["rekey", "give"],
        &["rekey", "fetch"],
        &["rekey", "abort"],
        &["custodians"],
        &["custodians", "list"],
        &["custodians", "ack"],
        &["approvals"],
        &["approvals", "approve"],
        &["approvals", "reject"],
        &["token", "inspect"],
        &["token", "delete"],
        &["import"],
        &["export"],
        &["backup", "create"],
        &["backup", "verify"],
        &["policy", "check"],
        &["policy", "explain"],
        &["policy", "test"],
        &["policy", "who-can"],
        &["policy", "diff"],
        &["policy", "prove"],
        &["scope"],
        &["render", "nftables"],
        &["render", "network-policy"],
        &["render", "systemd"],
        &["cert", "issue"],
        &["audit", "tail"],
        &["audit", "verify"],
        &["audit", "prove"],
        &["audit", "check-proof"],
        &["audit", "consistency"],
        &["audit", "witness", "init"],
        &["audit", "witness", "cosign"],
        &["audit", "cosign"],
        &["completions"],
    ];

    #[test]
    fn help_documents_the_commands_and_the_exit_codes() {
        let help = here(&["--help"]);
        assert!(help.status.success());
        let text = stdout(&help);
        for word in [
            "dev",
            "init",
            "unseal",
            "seal",
            "custodians",
            "rekey",
            "approvals",
            "status",
            "collection",
            "keys",
            "token",
            "policy",
            "cert",
            "audit",
        ] {
            assert!(text.contains(&format!("\n  {word} ")), "{word}: {text}");
        }
        for line in [
            "Exit codes:",
            "  0   done",
            "  1   refused",
            "  2   the command line",
            "  75  two custodians",
            "  78  the configuration",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("\n  sample "), "hidden: {text}");
    }

    #[test]
    fn every_command_has_help_with_examples_within_100_columns() {
        for command in COMMANDS {
            let help = here(&[command, &["--help"]].concat());
            let text = stdout(&help);
            assert!(help.status.success() && text.contains("Examples:"), "{command:?}: {text}");
            assert!(text.contains("--json"), "{command:?}: {text}");
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{command:?}: {line}");
            }
        }
    }

    #[test]
    fn completions_are_there_for_the_common_shells() {
        for shell in ["bash", "zsh", "fish"] {
            let output = here(&["completions", shell]);
            assert!(output.status.success(), "{shell}");
            let script = stdout(&output);
            assert!(script.len() > 1_000 && script.contains("cordon"), "{shell}");
        }
    }

    #[test]
    fn an_unknown_command_ends_with_2_in_text_and_json() {
        let text = here(&["reveal"]);
        assert_eq!(text.status.code(), Some(2));
        assert!(text.stdout.is_empty() && stderr(&text).contains("reveal"));
        let json = here(&["reveal", "--json"]);
        assert_eq!(json.status.code(), Some(2));
        let value: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
        assert_eq!(value["error"]["code"], "usage");
        assert!(json.stderr.is_empty());
    }

    #[test]
    fn a_card_number_on_the_command_line_is_never_repeated() {
        for arguments in [
            &["token", "inspect", "--collection", "cards", "4111111111111111"][..],
            &["unseal", "4111 1111 1111 1111"],
            &["collection", "create", "4111-1111-1111-1111"],
            &["4111111111111111"],
        ] {
            for json in [&[][..], &["--json"]] {
                let output = here(&[arguments, json].concat());
                assert_eq!(output.status.code(), Some(2), "{arguments:?}");
                let all = format!("{}{}", stdout(&output), stderr(&output));
                assert!(!all.contains("4111") && !all.is_empty(), "{arguments:?}: {all}");
            }
        }
    }

    #[test]
    fn without_a_configuration_it_ends_with_78_and_says_what_to_do() {
        for command in [&["status"][..], &["seal"], &["unseal"], &["keys", "list"], &["audit", "tail"]] {
            let output = here(command);
            assert_eq!(output.status.code(), Some(78), "{command:?}");
            assert!(stderr(&output).contains("next: "), "{command:?}");
            let json = here(&[command, &["--json"]].concat());
            let value: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
            assert_eq!(value["error"]["code"], "configuration", "{command:?}");
        }
    }

    #[test]
    fn shares_are_not_printed_into_a_pipe_by_accident() {
        let custodians = ["--custodian", "a", "--custodian", "b", "--threshold", "2"];
        let output = here(&[&["init"][..], &custodians].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("not a terminal"));
    }

    #[test]
    fn a_broken_bundle_is_listed_fault_by_fault_and_ends_with_1() {
        let scratch = tempfile::tempdir().unwrap();
        let bundle = scratch.path().join("policies");
        std::fs::create_dir(&bundle).unwrap();
        std::fs::write(bundle.join("segments.toml"), "devlopment = true\n").unwrap();
        let text = cordon(scratch.path(), &["policy", "check"]);
        assert_eq!(text.status.code(), Some(1));
        assert!(stdout(&text).contains("policies/segments.toml:1:1: "), "{}", stdout(&text));
        let json = cordon(scratch.path(), &["policy", "check", "policies", "--json"]);
        assert_eq!(json.status.code(), Some(1));
        let value: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
        assert_eq!(value["valid"], false);
        assert!(value["faults"].as_array().is_some_and(|faults| !faults.is_empty()), "{value}");
    }

    #[test]
    fn a_log_that_is_none_does_not_verify() {
        let scratch = tempfile::tempdir().unwrap();
        let output = cordon(scratch.path(), &["audit", "verify", "--dir", "."]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("verifier.txt"));
    }
}
