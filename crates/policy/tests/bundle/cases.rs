//! The case files that ship, and that the runner notices what they leave out.

use cordon_policy::{Case, Expect, load_cases};

use crate::fixture::{Files, folder};

fn shipped_cases() -> Vec<Case> {
    load_cases(&folder().join("cases")).unwrap()
}

#[test]
fn every_shipped_case_passes_and_nothing_is_left_untested() {
    let report = Files::shipped().parse().unwrap().run_cases(&shipped_cases());
    assert!(report.is_clean(), "{:#?}\n{:#?}", report.failures, report.gaps);
    assert!(report.passed >= 60, "{}", report.passed);
}

#[test]
fn a_statement_that_no_case_names_is_a_gap() {
    let rule =
        "\n@id(\"nobody-tests-me\")\npermit (principal is Service, action == Action::\"observe\", resource) \
                when { principal.may_lookup && context.purpose2 };\n"
            .replace(" && context.purpose2", "");
    let files = Files::shipped().append("administration.cedar", &rule);
    let report = files.parse().unwrap().run_cases(&shipped_cases());
    let line = files.line_of("administration.cedar", "@id(\"nobody-tests-me\")");
    let gap = format!("no case is decided by @id(\"nobody-tests-me\") at administration.cedar:{line}");
    assert_eq!(report.gaps, [gap]);
    assert_eq!(report.failures.len(), 1, "an application observes now: {:?}", report.failures);
}

#[test]
fn an_action_without_an_error_case_is_a_gap() {
    let mut cases = shipped_cases();
    cases.retain(|case| !(case.action == "observe" && case.expect == Expect::Error));
    let report = Files::shipped().parse().unwrap().run_cases(&cases);
    assert_eq!(report.gaps, ["no case expects \"error\" of \"observe\""]);
    assert!(!report.is_clean());
}

#[test]
fn a_case_with_the_wrong_statements_or_reason_fails() {
    let bundle = Files::shipped().parse().unwrap();
    let named = |name: &str| shipped_cases().into_iter().find(|case| case.name == name).unwrap();
    let mut wrong_statement = named("the operator inspects");
    wrong_statement.statements = vec!["ingress-forwards".to_owned()];
    let mut wrong_reason = named("the operator cannot tokenize");
    wrong_reason.reason = Some("forbidden".to_owned());
    let mut wrong_decision = named("tokenizing without a collection is refused");
    wrong_decision.expect = Expect::Deny;
    let report = bundle.run_cases(&[wrong_statement, wrong_reason, wrong_decision]);
    assert_eq!(report.passed, 0);
    assert_eq!(
        report.failures,
        [
            "\"the operator inspects\": expected allow, got allow by [operator-inspects-and-deletes]",
            "\"the operator cannot tokenize\": expected deny, got deny (no-statement) by []",
            "\"tokenizing without a collection is refused\": expected deny, got error (missing-part) by []",
        ]
    );
}

#[test]
fn a_case_file_that_cannot_be_read_is_a_fault_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), "[\n  {\"nmae\": 1}\n]").unwrap();
    std::fs::write(dir.path().join("b.json"), "nonsense").unwrap();
    let faults = load_cases(dir.path()).unwrap_err().to_string();
    assert!(faults.contains("a.json:2:"), "{faults}");
    assert!(faults.contains("b.json:1:"), "{faults}");
    assert!(load_cases(&dir.path().join("nowhere")).is_err());
}
