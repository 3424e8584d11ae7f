//! `cordon policy prove`, `who-can` and `diff` with the real program: the bundle that ships holds, and broken ones do not.

use anyhow::{Context, Result};
use cordon_tests::process::binary;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn cordon(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("cordon")?).arg("policy").args(arguments).output()?)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// A file, what stands there, and what is put in its place.
type Change<'t> = (&'t str, &'t str, &'t str);

/// A copy of the files of the bundle that ships, with these changes.
fn bundle(dir: &Path, changes: &[Change<'_>]) -> Result<PathBuf> {
    let to = dir.join("policies");
    fs::create_dir_all(&to)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies"))? {
        let path = entry?.path();
        if path.is_file() {
            let target = to.join(path.file_name().context("a name")?);
            fs::copy(&path, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
        }
    }
    for (file, from, by) in changes {
        let path = to.join(file);
        let whole = fs::read_to_string(&path)?;
        anyhow::ensure!(whole.contains(from), "{file} has no {from}");
        fs::write(&path, whole.replacen(from, by, 1))?;
    }
    Ok(to)
}

fn proof(bundle: &Path) -> Result<(bool, Value)> {
    let output = cordon(&["prove", text(bundle), "--json"])?;
    let proof = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())?;
    Ok((output.status.success(), proof))
}

/// The claims that do not hold, with what speaks against them or why they could not be judged.
fn refuted(bundle: &Path) -> Result<Vec<(String, String)>> {
    let (fine, proof) = proof(bundle)?;
    let claims = proof.get("claims").and_then(Value::as_array).context("claims")?;
    let word = |claim: &Value, key: &str| claim.get(key).map(Value::to_string).unwrap_or_default();
    let open: Vec<_> = claims
        .iter()
        .filter(|claim| claim.get("verdict").is_none_or(|verdict| verdict != "proved"))
        .map(|claim| (word(claim, "claim"), word(claim, "against") + &word(claim, "unsure")))
        .collect();
    assert_eq!(fine, open.is_empty(), "{proof:#}");
    Ok(open)
}

#[test]
fn the_bundle_that_ships_holds_every_claim() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (fine, proof) = proof(&bundle(scratch.path(), &[])?)?;
    assert!(fine, "{proof:#}");
    assert_eq!(proof.get("claims").and_then(Value::as_array).map(Vec::len), Some(7));
    assert!(proof.get("asked").and_then(Value::as_u64) > Some(1_000), "{proof:#}");
    assert!(proof.get("not_covered").and_then(Value::as_array).is_some_and(|lines| lines.len() > 3));
    Ok(())
}

/// Not guarded by the statement that forbids it, and allowed by one of its own.
const OPENED: [Change<'_>; 2] = [
    (
        "scope.cedar",
        "when { principal.out_of_scope };",
        "when { principal.out_of_scope && principal.may_lookup };",
    ),
    (
        "egress.cedar",
        "// The gateway lets",
        "@id(\"support\") permit (principal is Service, action == Action::\"detokenize\", resource is Collection) when \
         { principal.collections.contains(resource) };\n// The gateway lets",
    ),
];

#[test]
fn a_bundle_that_gives_cards_to_a_service_out_of_scope_is_refuted_and_the_authorizer_agrees() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let bundle = bundle(scratch.path(), &OPENED)?;
    let open = refuted(&bundle)?;
    let (_, against) = open.first().context("a refuted claim")?;
    assert!(against.contains("billing may detokenize") && against.contains("by support"), "{open:?}");
    // The counter-example is no guess: the daemons would decide so.
    let asked =
        ["--dir", text(&bundle), "--action", "detokenize", "--principal", "billing", "--collection", "cards"];
    let more = ["--for", "billing", "--destination", "processor", "--route", "charge", "--purpose", "charge"];
    let output = cordon(&[&["explain"][..], &asked, &more].concat())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let output = cordon(&["who-can", "detokenize", "--dir", text(&bundle), "--for", "billing"])?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        listed.contains("billing may detokenize") && listed.contains("support (egress.cedar:"),
        "{listed}"
    );
    Ok(())
}

#[test]
fn broken_bundles_are_each_refuted_for_what_is_wrong_with_them() -> Result<()> {
    let elsewhere = "[[destination]]\nname = \"elsewhere\"\nhost = \"elsewhere.example\"\nport = 443\nroots = \"r.pem\"\n\
                     addresses = [\"203.0.113.32/28\"]\nowner = \"o\"\nneed = \"n\"\n\n[[destination]]";
    let broken: [(&[Change<'_>], &str, &str); 7] = [
        (
            &[
                ("segments.toml", "[[destination]]", elsewhere),
                (
                    "egress.cedar",
                    "    context.route.destination == context.destination &&\n    context.route.purpose == context.purpose &&\n    context.acted_for.collections.contains(resource) &&\n    context.acted_for.destinations.contains(context.destination)",
                    "    context.acted_for.collections.contains(resource)",
                ),
            ],
            "leaves only to a destination",
            "to elsewhere on route charge",
        ),
        (
            &[
                (
                    "scope.cedar",
                    "unless { context.mtls && context.from_own_segment };",
                    "unless { context.mtls };",
                ),
                (
                    "egress.cedar",
                    "principal.role == Role::\"gateway-egress\" &&\n    context.mtls &&\n    context.from_own_segment &&",
                    "principal.role == Role::\"gateway-egress\" &&\n    context.mtls &&",
                ),
            ],
            "egress gateway alone",
            "from any address",
        ),
        (
            &[(
                "egress.cedar",
                "context.route.reveals &&",
                "context.route.reveals && context.destination.port * 9223372036854775807 > 0 &&",
            )],
            "no statement can fail",
            "egress-detokenizes",
        ),
        (
            &[(
                "segments.toml",
                "addresses = [\"203.0.113.0/28\"]",
                "addresses = [\"203.0.113.0/28\", \"10.20.2.16/28\"]",
            )],
            "no destination lies",
            "lies in segment applications",
        ),
        (&[("routes.toml", "form = \"cvc\"\n", "")], "security codes are held", "has no place in form"),
        (
            &[(
                "routes.toml",
                "on_leak = \"deny\"",
                "on_leak = \"report\"\non_leak_reason = \"a test\"\non_leak_until = \"2027-03-31\"",
            )],
            "no route passes a card number",
            "passes card numbers on to signup",
        ),
        (
            &[(
                "egress.cedar",
                "context.route.reveals &&",
                "context.route.reveals && context.source_ip.isInRange(ip(\"10.20.0.0/25\")) &&",
            )],
            "no service out of scope",
            "looks at the address",
        ),
    ];
    for (changes, claim, against) in broken {
        let scratch = tempfile::tempdir()?;
        let open = refuted(&bundle(scratch.path(), changes)?)?;
        let found = open.iter().any(|(says, why)| says.contains(claim) && why.contains(against));
        assert!(found, "{claim}: {open:#?}");
    }
    Ok(())
}

#[test]
fn who_can_names_everybody_and_the_way_and_says_so_when_it_is_nobody() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let bundle = bundle(scratch.path(), &[])?;
    let output = cordon(&["who-can", "detokenize", "--dir", text(&bundle), "--json"])?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let grants = answer.get("grants").and_then(Value::as_array).context("grants")?;
    let services: Vec<_> = grants.iter().filter_map(|grant| grant.get("for")?.as_str()).collect();
    assert_eq!(services, ["billing", "signup"]);
    assert!(grants.iter().all(|grant| grant.get("principal").is_some_and(|who| who == "gateway-egress")));
    assert_eq!(answer.get("exhaustive"), Some(&Value::Bool(true)));
    let output = cordon(&["who-can", "detokenize", "--dir", text(&bundle), "--for", "fraud"])?;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b"nobody\n"[..]));
    Ok(())
}

#[test]
fn a_difference_is_told_in_what_is_allowed_and_none_is_none() -> Result<()> {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let before = bundle(one.path(), &[])?;
    let after = bundle(
        other.path(),
        &[
            ("routes.toml", "services = [\"signup\", \"billing\"]", "services = [\"signup\"]"),
            ("routes.toml", "form = \"cvc\"\n", ""),
            ("scope.cedar", "// PCI DSS scope:", "// Another comment changes nothing.\n// PCI DSS scope:"),
        ],
    )?;
    let output = cordon(&["diff", text(&before), text(&after)])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in [
        "- gateway-egress may detokenize for billing with cards to processor on route charge",
        "- billing may send to processor on route charge",
        "route charge\n  - service billing\n",
        "  - field json $.card.cvc, form cvc: Hold\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("\n+ "), "nothing more is allowed: {said}");
    let output = cordon(&["diff", text(&before), text(&before)])?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
