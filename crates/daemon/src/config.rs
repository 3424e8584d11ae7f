//! Configuration: one TOML file into one typed value, or an error with its place and a suggestion.
//!
//! It must never accept an unknown key (the types say `deny_unknown_fields`), nor a file that others may write: whoever
//! writes the configuration decides where cards go. Tests: at the end of this file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Exit code for a configuration error (`sysexits.h`).
pub const EX_CONFIG: u8 = 78;

/// Reads `path` as a `T`.
///
/// # Errors
/// [`ConfigError`], with line and column where it is the content's fault.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read(path)?;
    toml::from_str(&text).map_err(|error| ConfigError::in_text(path, &text, &error))
}

/// Why a configuration cannot be used. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may write it.
    #[error("{} may be written by others than its owner; run: chmod go-w {0}", path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to a user who is neither root nor the one the daemon runs as.
    #[error("{} belongs to user {owner}, who is neither root nor the user this daemon runs as", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Larger than any configuration.
    #[error("{} is larger than {} bytes", path.display(), LONGEST)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The content is not TOML, or not this configuration.
    #[error("{}:{line}:{column}: {message}{}", path.display(), suggest(suggestion.as_deref()))]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The known key that was probably meant.
        suggestion: Option<String>,
    },
}

impl ConfigError {
    fn in_text(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
        // The error's own display repeats the source line; its message does not.
        let message = error.message().trim().replace('\n', "; ");
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        let suggestion = nearest_key(&message);
        ConfigError::Content { path: path.to_owned(), line, column, message, suggestion }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let at = |source: io::Error| ConfigError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(at)?;
    // Of the opened file, not of the path: it cannot be exchanged in between.
    let metadata = file.metadata().map_err(at)?;
    if metadata.mode() & 0o022 != 0 {
        return Err(ConfigError::OpenToOthers { path: path.to_owned() });
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(ConfigError::ForeignOwner { path: path.to_owned(), owner });
    }
    let mut text = String::new();
    let read = file.take(LONGEST.saturating_add(1)).read_to_string(&mut text).map_err(at)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LONGEST {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Line and column, from 1, of a byte of the text.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

fn suggest(key: Option<&str>) -> String {
    key.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

/// The known key nearest to the unknown one, if serde's message names both and they are near.
fn nearest_key(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field `")?;
    let mut quoted = rest.split('`');
    let unknown = quoted.next()?;
    // Between backticks, every second part is a name.
    let known = quoted.skip(1).step_by(2);
    known
        .map(|key| (distance(unknown, key), key))
        .min()
        .filter(|(distance, key)| *distance <= key.len().max(unknown.len()) / 3 + 1)
        .map(|(_, key)| key.to_owned())
}

/// Edits (insert, remove, exchange one character) between two keys.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (done, a) in from.chars().enumerate() {
        let mut diagonal = done;
        let mut left = done.saturating_add(1);
        let mut next = vec![left];
        for (b, above) in to.chars().zip(row.iter().skip(1)) {
            let exchanged = diagonal.saturating_add(usize::from(a != b));
            left = exchanged.min(left.saturating_add(1)).min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

const LONGEST: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        listen: String,
        workers: u16,
    }

    fn load_text(text: &str, mode: u32) -> Result<Example, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        load(&path)
    }

    const GOOD: &str = "listen = \"127.0.0.1:0\"\nworkers = 2\n";

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        for mode in [0o620, 0o602, 0o666] {
            let error = load_text(GOOD, mode).unwrap_err();
            assert!(matches!(error, ConfigError::OpenToOthers { .. }), "{mode:o}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_key() {
        let error = load_text("listen = \"a\"\n  worker = 2\n", 0o600).unwrap_err().to_string();
        assert!(error.contains("vault.toml:2:3: unknown field `worker`"), "{error}");
        assert!(error.ends_with("did you mean `workers`?"), "{error}");
    }

    #[test]
    fn a_key_like_no_other_gets_no_suggestion() {
        let error = load_text("zzz = 2\n", 0o600).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_its_place() {
        let error = load_text("listen = \"a\"\nworkers = -1\n", 0o600).unwrap_err().to_string();
        assert!(error.contains("vault.toml:2:11: "), "{error}");
    }

    #[test]
    fn a_missing_key_and_text_that_is_not_toml_are_refused() {
        assert!(load_text("workers = 2\n", 0o600).unwrap_err().to_string().contains("`listen`"));
        let error = load_text("workers = = 2\n", 0o600).unwrap_err().to_string();
        assert!(error.contains("vault.toml:1:"), "{error}");
    }

    #[test]
    fn a_file_without_end_and_a_missing_file_are_refused() {
        let endless = load::<Example>(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(endless, ConfigError::TooLarge { .. } | ConfigError::OpenToOthers { .. }));
        assert!(matches!(load::<Example>(Path::new("/nonexistent")), Err(ConfigError::Io { .. })));
        assert!(matches!(load_text(&"#".repeat(1024 * 1024 + 1), 0o600), Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn a_good_file_loads() {
        let example = load_text(GOOD, 0o644).unwrap();
        assert_eq!((example.listen.as_str(), example.workers), ("127.0.0.1:0", 2));
    }

    #[test]
    fn the_distance_counts_edits() {
        for (from, to, edits) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("", "ab", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), edits);
            assert_eq!(distance(to, from), edits);
        }
    }
}
