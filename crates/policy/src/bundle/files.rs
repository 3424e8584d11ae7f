//! The files of a bundle's folder: which count, how large they may be, who may write them.
//!
//! Must never read outside of the folder and its `routes/`, and never skip a file whose name looks like a slip.
//! Tests: `crates/policy/tests/bundle/files.rs`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::fault::{Faults, nearest};
use crate::routes::ROUTES_FILE;
use crate::segments::SEGMENTS_FILE;

/// A file of the bundle.
#[derive(Debug)]
pub(crate) struct File {
    /// Name relative to the folder.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
}

/// The schema's file name.
pub(super) const SCHEMA_FILE: &str = "schema.cedarschema";

/// Folder of further route files.
const ROUTES_FOLDER: &str = "routes";

/// True for `routes.toml` and `routes/*.toml`.
pub(super) fn is_routes(name: &str) -> bool {
    name == ROUTES_FILE || (name.starts_with("routes/") && has_ending(name, "toml"))
}

/// True for `*.cedar`.
pub(super) fn is_statements(name: &str) -> bool {
    has_ending(name, "cedar")
}

/// Reads every file that counts; what cannot be read is a fault.
pub(super) fn load(dir: &Path, faults: &mut Faults) -> Vec<File> {
    let mut found = Vec::new();
    for name in names(dir, "", faults) {
        if name == SEGMENTS_FILE || name == SCHEMA_FILE || is_routes(&name) || is_statements(&name) {
            found.extend(read(dir, name, faults));
        } else if has_ending(&name, "toml") || has_ending(&name, "cedarschema") {
            let help = nearest(&name, [SEGMENTS_FILE, ROUTES_FILE, SCHEMA_FILE])
                .unwrap_or_else(|| "route files go to routes/, and nothing else belongs here".to_owned());
            faults.of_file(&name, "a bundle has no file of this name", Some(help));
        }
    }
    if dir.join(ROUTES_FOLDER).is_dir() {
        for name in names(&dir.join(ROUTES_FOLDER), "routes/", faults) {
            if is_routes(&name) {
                found.extend(read(dir, name, faults));
            }
        }
    }
    found
}

/// Reads every file of a folder of cases that has this ending.
pub(crate) fn cases(dir: &Path, ending: &str, faults: &mut Faults) -> Vec<File> {
    let names =
        names(dir, "", faults).into_iter().filter(|name| has_ending(name, ending)).collect::<Vec<_>>();
    names.into_iter().filter_map(|name| read(dir, name, faults)).collect()
}

/// A fault for each path that others than its owner may write, and for the folder (PCI DSS 1.2.8).
pub(super) fn check_writable(dir: &Path, files: &[File], faults: &mut Faults) {
    let paths = files.iter().map(|file| (file.name.as_str(), dir.join(&file.name)));
    for (name, path) in paths.chain([(".", dir.to_owned())]) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            let help = "chmod go-w: whoever can write it decides who sees card numbers".to_owned();
            faults.of_file(name, "others than the owner may write this", Some(help));
        }
    }
}

/// File names in a folder, sorted; hidden ones (editors, config maps) do not count.
fn names(dir: &Path, prefix: &str, faults: &mut Faults) -> Vec<String> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        entries
            .take(MAX_FILES)
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut names = match listed {
        Ok(names) => names,
        Err(error) => {
            let place = if prefix.is_empty() { "." } else { prefix };
            faults.of_file(place, format!("the folder cannot be read: {}", error.kind()), None);
            return Vec::new();
        }
    };
    if names.len() == MAX_FILES {
        faults.of_file(".", format!("the folder has {MAX_FILES} files or more"), None);
    }
    names.sort();
    if names.iter().any(|name| name.to_str().is_none()) {
        faults.of_file(".", "a file name is not UTF-8", None);
    }
    names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .map(|name| format!("{prefix}{name}"))
        .collect()
}

fn read(dir: &Path, name: String, faults: &mut Faults) -> Option<File> {
    match read_bounded(&dir.join(&name)) {
        Ok(text) => Some(File { name, text }),
        Err(reason) => {
            faults.of_file(&name, format!("the file cannot be read: {reason}"), None);
            None
        }
    }
}

fn read_bounded(path: &PathBuf) -> Result<String, String> {
    // Asked before opening: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(|error| error.kind().to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = fs::File::open(path).map_err(|error| error.kind().to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| error.kind().to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_not_text| "it is not UTF-8".to_owned())
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == ending)
}

/// Bits of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Largest file, in bytes.
const MAX_BYTES: u64 = 4 * 1_024 * 1_024;
/// Most entries in a folder.
const MAX_FILES: usize = 1_000;
