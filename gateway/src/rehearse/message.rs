//! Requests and answers as text: to be played, and to be compared.
//!
//! Must never show a whole card number: what differs is shown masked. Tests: `rehearse/tests.rs`.

use crate::leak::masked_text;
use crate::upstream::Answer;
use cordon_card::Truncation;
use cordon_daemon::body::WipedBytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A message in parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Method and target, or status.
    pub(super) start: String,
    /// `name: value`, in the order of their names.
    pub(super) headers: Vec<String>,
    /// Body.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Takes a text apart.
    pub(super) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end_matches('\n'), ""));
        let mut lines = head.lines().map(str::trim);
        let start = lines.next().unwrap_or_default().to_owned();
        let line = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            format!("{}: {}", name.trim().to_ascii_lowercase(), value.trim())
        };
        let mut headers: Vec<_> = lines.map(line).collect();
        headers.sort();
        Self { start, headers, body: body.as_bytes().to_vec() }
    }

    /// A message of this program's.
    pub(super) fn of(start: String, headers: &HeaderMap, body: &[u8]) -> Self {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let mut headers: Vec<_> = headers.iter().map(line).collect();
        headers.sort();
        Self { start, headers, body: body.to_vec() }
    }

    /// As a request on a connection; its length is told unless the case tells one.
    pub(super) fn to_request(&self) -> Vec<u8> {
        let version = if self.start.contains(" HTTP/") { "" } else { " HTTP/1.1" };
        let mut text = format!("{}{version}\r\n", self.start);
        let told = |name: &str| self.headers.iter().any(|line| line.starts_with(name));
        for line in &self.headers {
            text.push_str(line);
            text.push_str("\r\n");
        }
        if !self.body.is_empty() && !told("content-length:") && !told("transfer-encoding:") {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// As an answer; `None` if its start is no status, or a header is none.
    pub(super) fn to_answer(&self) -> Option<Answer> {
        let mut headers = HeaderMap::new();
        for line in &self.headers {
            let (name, value) = line.split_once(": ")?;
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        let status = StatusCode::from_bytes(self.start.as_bytes()).ok()?;
        Some(Answer { status, headers, body: WipedBytes::from(self.body.clone()) })
    }

    /// What differs from this in another one, in words.
    pub(super) fn differences(&self, got: &Self) -> Vec<String> {
        let mut all = Vec::new();
        if self.start != got.start {
            all.push(format!("expected `{}`, got `{}`", masked(&self.start), masked(&got.start)));
        }
        let missing = self.headers.iter().filter(|line| !got.headers.contains(line));
        all.extend(missing.map(|line| format!("the header `{}` is missing", masked(line))));
        let more = got.headers.iter().filter(|line| !self.headers.contains(line));
        all.extend(more.map(|line| format!("there is a header `{}`", masked(line))));
        if self.body != got.body {
            let shown = |body: &[u8]| masked(&String::from_utf8_lossy(body));
            all.push(format!("expected the body\n{}\ngot\n{}", shown(&self.body), shown(&got.body)));
        }
        all
    }
}

/// The text without whole card numbers.
pub(super) fn masked(text: &str) -> String {
    masked_text(text, Truncation::LastFour).map_or_else(|| text.to_owned(), |masked| masked.to_string())
}
