//! `[audit]` of the daemons' configuration files.
//!
//! It must never hold a secret. Tests: at the end of this file.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::witness::WitnessKey;

/// `[audit]`, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Free space on the log's disk, in MiB, below which data calls are refused so that the other lines still fit.
    pub reserve_mib: u64,
    /// Files with the keys of witnesses whose cosignatures count.
    pub witnesses: Vec<PathBuf>,
    /// Where each durable line is also sent.
    pub sinks: Vec<SinkSettings>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { reserve_mib: 64, witnesses: Vec::new(), sinks: Vec::new() }
    }
}

/// One of `sinks`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// What it is.
    pub kind: SinkKind,
    /// The file, or the socket of the system log (`/dev/log` when left out). Standard output has none.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Whether calls are refused while it is behind by more than `backlog`.
    #[serde(default)]
    pub required: bool,
    /// Lines it may be behind.
    #[serde(default = "default_backlog")]
    pub backlog: u64,
}

/// What a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    /// A file that is appended to.
    File,
    /// RFC 5424 messages to a UNIX datagram socket.
    Syslog,
    /// Standard output.
    Stdout,
}

impl SinkKind {
    /// As the configuration says it.
    pub fn as_str(self) -> &'static str {
        match self {
            SinkKind::File => "file",
            SinkKind::Syslog => "syslog",
            SinkKind::Stdout => "stdout",
        }
    }
}

impl Settings {
    /// Makes relative paths start at `base` and lists every fault.
    pub fn resolve(&mut self, base: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        for witness in &mut self.witnesses {
            *witness = base.join(&*witness);
        }
        for (number, sink) in self.sinks.iter_mut().enumerate() {
            sink.path = sink.path.take().map(|path| base.join(path));
            match (sink.kind, &sink.path) {
                (SinkKind::File, None) => faults.push(format!("audit.sinks[{number}] needs a path")),
                (SinkKind::Stdout, Some(_)) => {
                    faults.push(format!("audit.sinks[{number}]: standard output has no path"));
                }
                (SinkKind::File | SinkKind::Syslog, _) | (SinkKind::Stdout, None) => {}
            }
            if sink.backlog == 0 {
                faults.push(format!("audit.sinks[{number}].backlog must be at least 1"));
            }
        }
        for (number, sink) in self.sinks.iter().enumerate() {
            if self
                .sinks
                .iter()
                .take(number)
                .any(|other| (other.kind, &other.path) == (sink.kind, &sink.path))
            {
                faults.push(format!("audit.sinks[{number}] is there twice"));
            }
        }
        faults.extend(self.witness_keys().err().unwrap_or_default());
        faults
    }

    /// Where file sinks are: what a confined daemon writes to beside its own directory.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.sinks.iter().filter(|sink| sink.kind == SinkKind::File);
        files.filter_map(|sink| sink.path.as_deref()?.parent().map(Path::to_owned))
    }

    /// The witnesses' keys.
    pub(crate) fn witness_keys(&self) -> Result<Vec<WitnessKey>, Vec<String>> {
        let mut faults = Vec::new();
        let mut keys = Vec::new();
        for path in &self.witnesses {
            let text = fs::read_to_string(path).map_err(|error| error.to_string());
            match text.and_then(|text| WitnessKey::parse(text.trim_end()).map_err(|error| error.to_string()))
            {
                Ok(key) => keys.push(key),
                Err(error) => faults.push(format!("audit.witnesses: {}: {error}", path.display())),
            }
        }
        if faults.is_empty() { Ok(keys) } else { Err(faults) }
    }
}

const fn default_backlog() -> u64 {
    100_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<Settings, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn paths_start_at_the_file_and_every_fault_is_listed() {
        let mut good =
            settings(r#"{"sinks":[{"kind":"file","path":"copy.jsonl"},{"kind":"syslog"}]}"#).unwrap();
        assert_eq!(good.resolve(Path::new("/etc/cordon")), Vec::<String>::new());
        assert_eq!(good.sinks[0].path.as_deref(), Some(Path::new("/etc/cordon/copy.jsonl")));
        assert_eq!((good.sinks[1].backlog, good.sinks[1].required, good.reserve_mib), (100_000, false, 64));
        let mut bad = settings(
            r#"{"witnesses":["nowhere.txt"],"sinks":[{"kind":"file"},{"kind":"stdout","path":"x"},
               {"kind":"syslog","backlog":0},{"kind":"syslog"}]}"#,
        )
        .unwrap();
        assert_eq!(bad.resolve(Path::new("/etc")).len(), 5);
    }

    #[test]
    fn an_unknown_key_or_kind_is_refused() {
        for json in
            [r#"{"sink":[]}"#, r#"{"sinks":[{"kind":"kafka"}]}"#, r#"{"sinks":[{"kind":"file","url":"x"}]}"#]
        {
            assert!(settings(json).is_err(), "{json}");
        }
    }
}
