//! `multipart/form-data` (RFC 7578): parts by their names.
//!
//! Delimiters are found by a strict search of the whole body and not by a library: those that were looked at (multer,
//! multiparty) stream parts without their places, and are lenient where every server is lenient in its own way. Here a
//! boundary that stands anywhere but as a delimiter is refused, and so are line feeds alone, text before the first part,
//! and whatever RFC 7578 does not give a part (threat B38). Header lines are read by httparse.
//! Must never pass on a part that is not text. Tests: `multipart/tests.rs`; fuzz target `multipart_body`.

use super::edit::Writing;
use super::form::hear;
use super::{BodyError, Declared, Format, Heard, Leaf, Text, UNDECLARED, utf8};
use crate::media::parameters::Parameters;
use crate::media::{self, Uninspectable};
use data_encoding::BASE64;
use memchr::memmem;
use quoted_printable::ParseMode;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// What stands between parts, without its two hyphens.
#[derive(Clone, PartialEq, Eq)]
pub struct Boundary(String);

/// It is the sender's text.
impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Boundary(***)")
    }
}

impl Boundary {
    /// Takes a boundary (RFC 2046 section 5.1.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        let fits = (1..=LONGEST_BOUNDARY).contains(&text.len()) && !text.ends_with(' ');
        (fits && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// With its two hyphens.
    #[must_use]
    pub fn dashed(&self) -> String {
        format!("--{}", self.0)
    }
}

/// Reads every part and gives the declared ones in the order in which they stand. An empty part is a field as well.
///
/// # Errors
/// [`BodyError::Malformed`], as above; [`BodyError::Uninspectable`] for a part of parts, in another charset or
/// transfer encoding; [`BodyError::Field`] for a declared name that two parts have.
pub fn locate<'b>(
    body: &'b str,
    boundary: &Boundary,
    declared: &[(usize, String)],
    heard: Heard<'_>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut leaves: Vec<Leaf<'b>> = Vec::new();
    for part in parts(body, boundary)? {
        let Part { name, file, span, text, writing, format } = part?;
        hear(&Text::Plain(name), heard);
        hear(&Text::Plain(file), heard);
        let Some((field, _)) = declared.iter().find(|(_, wanted)| wanted == name) else {
            hear(&text, heard);
            if let Some(format) = format {
                super::locate(&format, text.expose().as_bytes(), &Declared::default(), heard)?;
            }
            continue;
        };
        if leaves.iter().any(|leaf| leaf.field == *field) {
            return Err(BodyError::Field(*field));
        }
        leaves.push(Leaf { field: *field, span, text, writing });
    }
    Ok(leaves)
}

/// The contents of the parts of a body that [`locate`] has accepted, with their places. Parts of a structured type
/// are left out: what is in them is theirs to encode.
///
/// # Errors
/// [`BodyError`] when it has not.
pub fn values<'b>(body: &'b str, boundary: &Boundary) -> Result<Vec<Leaf<'b>>, BodyError> {
    let mut all = Vec::new();
    for part in parts(body, boundary)? {
        let Part { span, text, writing, format, .. } = part?;
        if format.is_none() {
            all.push(Leaf { field: UNDECLARED, span, text, writing });
        }
    }
    Ok(all)
}

struct Part<'b> {
    name: &'b str,
    /// The file's name; empty if it is none.
    file: &'b str,
    span: Range<usize>,
    text: Text<'b>,
    writing: Writing,
    /// The type of its content, where that has a parser of its own.
    format: Option<Format>,
}

/// The parts between the delimiters.
fn parts<'b>(
    body: &'b str,
    boundary: &Boundary,
) -> Result<impl Iterator<Item = Result<Part<'b>, BodyError>>, BodyError> {
    let dashed = boundary.dashed();
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    let mut closed = false;
    for at in memmem::find_iter(body.as_bytes(), &dashed) {
        let (before, after) = body.split_at_checked(at).ok_or(BodyError::Malformed)?;
        let after = after.get(dashed.len()..).ok_or(BodyError::Malformed)?;
        match before.strip_suffix("\r\n") {
            _ if closed => return Err(BodyError::Malformed),
            Some(content) if !starts.is_empty() => ends.push(content.len()),
            None if at == 0 => {}
            Some(_) | None => return Err(BodyError::Malformed),
        }
        if let Some(rest) = after.strip_prefix("\r\n") {
            starts.push(body.len().saturating_sub(rest.len()));
        } else {
            closed = !starts.is_empty() && matches!(after, "--" | "--\r\n");
            if !closed {
                return Err(BodyError::Malformed);
            }
        }
    }
    if !closed || starts.len() > MOST_PARTS {
        return Err(BodyError::Malformed);
    }
    Ok(starts.into_iter().zip(ends).map(move |(start, end)| part(body, start..end)))
}

fn part(body: &str, span: Range<usize>) -> Result<Part<'_>, BodyError> {
    let whole = body.get(span.clone()).ok_or(BodyError::Malformed)?;
    let head_length =
        memmem::find(whole.as_bytes(), b"\r\n\r\n").ok_or(BodyError::Malformed)?.saturating_add(4);
    let (head, content) = whole.split_at_checked(head_length).ok_or(BodyError::Malformed)?;
    let head = Head::parse(head)?;
    let span = span.start.saturating_add(head_length)..span.end;
    let (text, writing) = match head.transfer.to_ascii_lowercase().as_str() {
        "" | "7bit" | "8bit" | "binary" => (Text::Plain(content), Writing::Plain),
        "base64" => (decoded(unbase64(content)?)?, Writing::Base64),
        "quoted-printable" => (decoded(unquoted(content)?)?, Writing::QuotedPrintable),
        _ => return Err(BodyError::Uninspectable),
    };
    // A field of this name tells a server which charset the others have (HTML, section 4.10.22.8).
    if head.name.eq_ignore_ascii_case("_charset_") && !text.expose().eq_ignore_ascii_case("utf-8") {
        return Err(BodyError::Uninspectable);
    }
    Ok(Part { name: head.name, file: head.file, span, text, writing, format: head.format })
}

fn decoded<'b>(bytes: Zeroizing<Vec<u8>>) -> Result<Text<'b>, BodyError> {
    utf8(&bytes).map(|text| Text::Decoded(Zeroizing::new(text.to_owned())))
}

/// Lines of base64 (RFC 2045 section 6.8), in the one way to write them.
fn unbase64(content: &str) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let joined = Zeroizing::new(content.replace("\r\n", ""));
    BASE64.decode(joined.as_bytes()).map(Zeroizing::new).map_err(|_detail| BodyError::Malformed)
}

fn unquoted(content: &str) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let bytes = quoted_printable::decode(content, ParseMode::Strict);
    bytes.map(Zeroizing::new).map_err(|_detail| BodyError::Malformed)
}

/// What the header lines of a part say.
struct Head<'b> {
    name: &'b str,
    file: &'b str,
    transfer: &'b str,
    format: Option<Format>,
}

impl<'b> Head<'b> {
    fn parse(lines: &'b str) -> Result<Self, BodyError> {
        // httparse takes line feeds alone as well.
        if lines.replace("\r\n", "").contains(['\r', '\n']) {
            return Err(BodyError::Malformed);
        }
        let mut room = [httparse::EMPTY_HEADER; MOST_LINES];
        let read =
            httparse::parse_headers(lines.as_bytes(), &mut room).map_err(|_detail| BodyError::Malformed)?;
        let httparse::Status::Complete((_, headers)) = read else { return Err(BodyError::Malformed) };
        let (mut disposition, mut kind, mut transfer) = (None, None, None);
        for header in headers.iter() {
            let value = std::str::from_utf8(header.value).map_err(|_cut| BodyError::Malformed)?;
            let known = match header.name.to_ascii_lowercase().as_str() {
                "content-disposition" => disposition.replace(value),
                "content-type" => kind.replace(value),
                "content-transfer-encoding" => transfer.replace(value),
                // RFC 7578 section 4.8: no other has a meaning here.
                _ => return Err(BodyError::Malformed),
            };
            // An encoded word (RFC 2047) is decoded by some readers only.
            if known.is_some() || value.contains("=?") {
                return Err(BodyError::Malformed);
            }
        }
        let disposition =
            Parameters::parse(disposition.ok_or(BodyError::Malformed)?).ok_or(BodyError::Malformed)?;
        let only_known = disposition.names().all(|name| matches!(name, "name" | "filename"));
        let name = disposition.get("name").filter(|_| disposition.value == "form-data" && only_known);
        let file = disposition.get("filename").unwrap_or_default();
        let format = kind.map_or(Ok(None), content)?;
        Ok(Self {
            name: name.ok_or(BodyError::Malformed)?,
            file,
            transfer: transfer.unwrap_or_default(),
            format,
        })
    }
}

/// The format of a part's content, if it has a parser.
fn content(kind: &str) -> Result<Option<Format>, BodyError> {
    media::of_part(kind).map_err(|Uninspectable| BodyError::Uninspectable)
}

const LONGEST_BOUNDARY: usize = 70;
const MOST_LINES: usize = 3;
/// Most parts of one body.
pub const MOST_PARTS: usize = 1_000;

#[cfg(test)]
mod tests;
