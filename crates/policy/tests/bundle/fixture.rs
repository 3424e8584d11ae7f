//! The shipped bundle, and edited copies of it.

use std::path::{Path, PathBuf};

use cordon_policy::{Ask, Bundle, Faults, shipped};

/// The folder of the bundle that ships.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

/// Files of a bundle, by name.
#[derive(Debug, Clone)]
pub(crate) struct Files(Vec<(String, String)>);

impl Files {
    /// The bundle that ships.
    pub(crate) fn shipped() -> Self {
        let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
        let mut files = vec![
            ("schema.cedarschema".to_owned(), shipped::SCHEMA.to_owned()),
            ("segments.toml".to_owned(), read("segments.toml")),
            ("routes.toml".to_owned(), read("routes.toml")),
        ];
        files.extend(shipped::POLICIES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        Self(files)
    }

    fn text(&mut self, file: &str) -> &mut String {
        let index = self.0.iter().position(|(name, _)| name == file).unwrap();
        &mut self.0[index].1
    }

    /// Replaces the first occurrence of `old`, which must be there.
    pub(crate) fn replace(mut self, file: &str, old: &str, new: &str) -> Self {
        let text = self.text(file);
        assert!(text.contains(old), "{file} has no {old:?}");
        *text = text.replacen(old, new, 1);
        self
    }

    /// Adds text at the end of a file, which is made if need be.
    pub(crate) fn append(mut self, file: &str, more: &str) -> Self {
        if !self.0.iter().any(|(name, _)| name == file) {
            self.0.push((file.to_owned(), String::new()));
        }
        self.text(file).push_str(more);
        self
    }

    /// Takes a file out.
    pub(crate) fn without(mut self, file: &str) -> Self {
        self.0.retain(|(name, _)| name != file);
        self
    }

    /// The line of the first occurrence of `text`.
    pub(crate) fn line_of(&self, file: &str, text: &str) -> usize {
        let (_, whole) = self.0.iter().find(|(name, _)| name == file).unwrap();
        whole.split_once(text).unwrap().0.matches('\n').count() + 1
    }

    pub(crate) fn parse(&self) -> Result<Bundle, Faults> {
        let files: Vec<(&str, &str)> =
            self.0.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Bundle::parse(&files, Path::new("/bundle"))
    }

    /// Writes the files to a folder, writable by the owner only.
    pub(crate) fn write(&self, dir: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in &self.0 {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// An address in the shipped segment `cde`.
pub(crate) const CDE: &str = "10.20.0.7";
/// An address in the shipped segment `operations`.
pub(crate) const OPERATIONS: &str = "10.20.1.7";
/// An address in the shipped segment `applications`.
pub(crate) const APPLICATIONS: &str = "10.20.2.10";

/// The ask that the shipped bundle lets the egress gateway detokenize with.
pub(crate) fn charge_for_signup() -> Ask<'static> {
    Ask {
        collection: Some("cards"),
        destination: Some("processor"),
        acting_for: Some("signup"),
        route: Some("charge"),
        purpose: Some("charge"),
        ..ask("gateway-egress", CDE)
    }
}

/// An ask with a certificate and nothing else.
pub(crate) fn ask(principal: &'static str, source: &str) -> Ask<'static> {
    Ask::new(principal, true, source.parse().unwrap())
}
