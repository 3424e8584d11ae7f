//! Bundles on disk: which files count, which are refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cordon_policy::{Bundle, Faults};

use crate::fixture::Files;

fn written(files: &Files) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.write(dir.path());
    dir
}

fn faults(dir: &Path) -> Faults {
    Bundle::load(dir).unwrap_err()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    for name in ["segments.toml", "scope.cedar", "schema.cedarschema", "."] {
        for mode in [0o766, 0o762, 0o722] {
            let dir = written(&Files::shipped());
            chmod(&dir.path().join(name), mode);
            let found = faults(dir.path());
            assert_eq!(found.len(), 1, "{found}");
            assert!(
                found.to_string().starts_with(&format!("{name}:0:0: others than the owner may write")),
                "{found}"
            );
        }
    }
}

#[test]
fn a_development_bundle_is_marked_and_may_be_writable() {
    let dir =
        written(&Files::shipped().replace("segments.toml", "[[segment]]", "development = true\n[[segment]]"));
    chmod(&dir.path().join("segments.toml"), 0o666);
    assert!(Bundle::load(dir.path()).unwrap().development());
    std::fs::write(dir.path().join("routes.toml"), "x = 1").unwrap();
    assert_eq!(faults(dir.path()).len(), 1, "still known as a development bundle");
}

#[test]
fn a_misnamed_file_is_a_fault_with_a_suggestion() {
    let dir = written(&Files::shipped());
    std::fs::rename(dir.path().join("segments.toml"), dir.path().join("segment.toml")).unwrap();
    let found = faults(dir.path()).to_string();
    assert!(
        found.contains(
            "segment.toml:0:0: a bundle has no file of this name (help: did you mean \"segments.toml\"?)"
        ),
        "{found}"
    );
    assert!(found.contains("segments.toml:0:0: the bundle has no such file"), "{found}");
}

#[test]
fn routes_may_be_split_over_files() {
    let second = "[[egress]]\nname = \"refund\"\nmethods = [\"POST\"]\npath = \"/v1/refunds\"\nservices = [\"billing\"]\n\
                  destination = \"processor\"\ncollection = \"cards\"\npurpose = \"refund\"\ncontent = [\"json\"]\n";
    let dir = written(&Files::shipped().append("routes/refund.toml", second));
    let bundle = Bundle::load(dir.path()).unwrap();
    assert_eq!(
        bundle.egress().iter().map(|route| route.name.as_str()).collect::<Vec<_>>(),
        ["charge", "refund"]
    );

    let dir = written(&Files::shipped().append("routes/again.toml", &second.replace("refund", "charge")));
    let found = faults(dir.path()).to_string();
    assert!(found.contains("routes/again.toml:2:8: the name \"charge\" is taken"), "{found}");
    assert!(found.contains("another route has POST /v1/charges for billing already"), "{found}");
}

#[test]
fn what_cannot_be_read_is_a_fault() {
    let dir = written(&Files::shipped());
    std::fs::write(dir.path().join("broken.cedar"), b"\xff\xfe").unwrap();
    std::fs::write(dir.path().join("huge.cedar"), vec![b'/'; 4 * 1024 * 1024 + 1]).unwrap();
    std::fs::create_dir(dir.path().join("folder.cedar")).unwrap();
    let found = faults(dir.path()).to_string();
    assert!(found.contains("broken.cedar:0:0: the file cannot be read: it is not UTF-8"), "{found}");
    assert!(found.contains("huge.cedar:0:0: the file cannot be read: it is larger than"), "{found}");
    assert!(found.contains("folder.cedar:0:0: the file cannot be read"), "{found}");
    assert!(faults(&dir.path().join("nowhere")).to_string().contains(".:0:0: the folder cannot be read"));
}

#[test]
fn hidden_files_and_other_endings_do_not_count() {
    let dir = written(&Files::shipped());
    let before = Bundle::load(dir.path()).unwrap().digest().to_owned();
    std::fs::write(dir.path().join(".scope.cedar"), "nonsense").unwrap();
    std::fs::write(dir.path().join("README.md"), "text").unwrap();
    std::fs::create_dir(dir.path().join("cases")).unwrap();
    std::fs::write(dir.path().join("cases/a.json"), "[]").unwrap();
    assert_eq!(Bundle::load(dir.path()).unwrap().digest(), before);
}
