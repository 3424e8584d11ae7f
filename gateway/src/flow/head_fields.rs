//! Fields outside the body: headers, cookies, parameters of the query, segments of the path, basic credentials.
//!
//! Must never find a field that the next reader would find elsewhere (a name twice is refused), nor touch what stands
//! beside one. Tests: `flow/head_fields/tests.rs`.

use crate::body::edit::{self, Writing};
use crate::body::{BodyError, Text, form};
use crate::flow::Head;
use crate::leak::{Place, Search};
use cordon_policy::{Half, HeadPlace};
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use std::ops::Range;
use zeroize::Zeroizing;

/// Where in a head a field stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// In the path and query, at these bytes.
    Target(Range<usize>, Writing),
    /// In the value of this header that is so many lines behind the first of its name, at these bytes.
    Header(HeaderName, usize, Range<usize>),
    /// Half of the basic credentials.
    Basic(Half),
}

/// A field found in a head.
#[derive(Debug)]
pub struct HeadLeaf {
    /// The field's number in its route.
    pub field: usize,
    /// Where it stands.
    pub spot: Spot,
    /// Its text, decoded; a copy, since the head is not kept in one piece.
    pub text: Text<'static>,
}

impl HeadLeaf {
    /// The part of the head in which it stands.
    #[must_use]
    pub const fn place(&self, path_length: usize) -> Place {
        match &self.spot {
            Spot::Target(span, _) if span.end <= path_length => Place::Path,
            Spot::Target(..) => Place::Query,
            Spot::Header(..) | Spot::Basic(_) => Place::Header,
        }
    }

    /// Whether it is the value of this header.
    #[must_use]
    pub fn is_value_of(&self, name: &HeaderName) -> bool {
        matches!(&self.spot, Spot::Header(of, ..) if of == name)
    }
}

/// What takes the place of a field.
pub struct HeadEdit {
    /// Where it stands.
    pub spot: Spot,
    /// The text; `None` takes the value out.
    pub text: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for HeadEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadEdit").field("spot", &self.spot).finish_non_exhaustive()
    }
}

/// The declared fields of a head, with their numbers in the route.
#[derive(Debug, Clone, Default)]
pub struct Declared(pub Vec<(usize, HeadPlace)>);

impl Declared {
    /// The headers among them.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(_, place)| match place {
            HeadPlace::Header(name) => Some(name.as_str()),
            HeadPlace::Basic(_) => Some(AUTHORIZATION.as_str()),
            HeadPlace::Cookie(_) | HeadPlace::Query(_) | HeadPlace::Path(_) => None,
        })
    }
}

/// Finds the fields, in the order in which they are declared. One that is not there, or empty, is none.
///
/// # Errors
/// [`BodyError::Field`] for one that stands twice or is not UTF-8; [`BodyError::Malformed`] for a query that is to be
/// searched and cannot be read.
pub fn locate(head: &Head, path_length: usize, declared: &Declared) -> Result<Vec<HeadLeaf>, BodyError> {
    let mut leaves = Vec::new();
    for (field, place) in &declared.0 {
        let found = match place {
            HeadPlace::Header(name) => header(&head.headers, name, *field)?,
            HeadPlace::Cookie(name) => cookie(&head.headers, name, *field)?,
            HeadPlace::Query(name) => query(head, path_length, name, *field)?,
            HeadPlace::Path(template) => segment(head, path_length, template),
            HeadPlace::Basic(half) => basic(&head.headers, *half, *field)?,
        };
        let found = found.filter(|(_, text)| !text.is_empty());
        leaves.extend(found.map(|(spot, text)| HeadLeaf { field: *field, spot, text: Text::Decoded(text) }));
    }
    Ok(leaves)
}

/// Finds the fields of an answer's headers.
///
/// # Errors
/// As [`locate`].
pub fn locate_in_headers(headers: &HeaderMap, declared: &Declared) -> Result<Vec<HeadLeaf>, BodyError> {
    let mut leaves = Vec::new();
    for (field, place) in &declared.0 {
        let HeadPlace::Header(name) = place else { continue };
        let found = header(headers, name, *field)?.filter(|(_, text)| !text.is_empty());
        leaves.extend(found.map(|(spot, text)| HeadLeaf { field: *field, spot, text: Text::Decoded(text) }));
    }
    Ok(leaves)
}

type Found = Option<(Spot, Zeroizing<String>)>;

fn owned(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn header(headers: &HeaderMap, name: &str, field: usize) -> Result<Found, BodyError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|_| values.next().is_none());
    let text = text.ok_or(BodyError::Field(field))?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_never| BodyError::Field(field))?;
    Ok(Some((Spot::Header(name, 0, 0..text.len()), owned(text))))
}

/// One pair of `Cookie: a=1; b=2` (RFC 6265 section 4.2.1), in any of the lines that HTTP/2 may make of it.
fn cookie(headers: &HeaderMap, wanted: &str, field: usize) -> Result<Found, BodyError> {
    let mut found = None;
    for (line, value) in headers.get_all(COOKIE).iter().enumerate() {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_not_utf8| BodyError::Field(field))?;
        let mut start = 0_usize;
        for pair in value.split(';') {
            let at = start;
            start = start.saturating_add(pair.len()).saturating_add(1);
            let Some((name, text)) = pair.split_once('=').filter(|(name, _)| name.trim_ascii() == wanted)
            else {
                continue;
            };
            let from = at.saturating_add(name.len()).saturating_add(1);
            let span = from..from.saturating_add(text.len());
            let bare = text.trim_ascii();
            let bare = bare.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(bare);
            if found.replace((Spot::Header(COOKIE, line, span), owned(bare))).is_some() {
                return Err(BodyError::Field(field));
            }
        }
    }
    Ok(found)
}

fn query(head: &Head, path_length: usize, name: &str, field: usize) -> Result<Found, BodyError> {
    let (_, query) = head.path_and_query.split_at_checked(path_length).unwrap_or_default();
    let Some(query) = query.strip_prefix('?') else { return Ok(None) };
    // Found by the parser of forms, as the next reader finds it; the number of the only field is 0.
    let leaves = form::locate(query, &[(0, name.to_owned())], &mut |_| ()).map_err(|error| match error {
        BodyError::Field(_) => BodyError::Field(field),
        other => other,
    })?;
    let shift = path_length.saturating_add(1);
    Ok(leaves.into_iter().next().map(|leaf| {
        let span = leaf.span.start.saturating_add(shift)..leaf.span.end.saturating_add(shift);
        (Spot::Target(span, Writing::Form), owned(leaf.text.expose()))
    }))
}

fn segment(head: &Head, path_length: usize, template: &cordon_policy::PathTemplate) -> Found {
    let path = head.path_and_query.get(..path_length)?;
    // The route was found by the path decoded once, in which there are as many slashes as here.
    let decoded = Zeroizing::new(percent_encoding::percent_decode_str(path).decode_utf8().ok()?.into_owned());
    let number = template.find(&decoded)?;
    let mut start = 1_usize;
    let mut raw = path.strip_prefix('/')?.split('/');
    for passed in raw.by_ref().take(number) {
        start = start.saturating_add(passed.len()).saturating_add(1);
    }
    let length = raw.next()?.len();
    let text = decoded.strip_prefix('/')?.split('/').nth(number)?;
    Some((Spot::Target(start..start.saturating_add(length), Writing::Plain), owned(text)))
}

fn basic(headers: &HeaderMap, half: Half, field: usize) -> Result<Found, BodyError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BodyError::Field(field));
    }
    let (user, password) = credentials(value).ok_or(BodyError::Field(field))?;
    let text = match half {
        Half::User => user,
        Half::Password => password,
    };
    Ok(Some((Spot::Basic(half), text)))
}

/// User and password of `Basic` (RFC 7617).
fn credentials(value: &HeaderValue) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let (scheme, coded) = value.to_str().ok()?.split_once(' ')?;
    let bytes = Zeroizing::new(BASE64.decode(coded.trim_ascii().as_bytes()).ok()?);
    let text = std::str::from_utf8(&bytes).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, password) = text.split_once(':')?;
    Some((owned(user), owned(password)))
}

/// Looks for card numbers in a head outside of these fields.
pub fn look_outside(search: &mut Search<'_>, head: &Head, path_length: usize, leaves: &[HeadLeaf]) {
    let (path, query) = head.path_and_query.split_at_checked(path_length).unwrap_or_default();
    let in_target = spans(leaves, |spot| match spot {
        Spot::Target(span, _) => Some(span),
        Spot::Header(..) | Spot::Basic(_) => None,
    });
    let (in_path, in_query): (Vec<_>, Vec<_>) =
        in_target.into_iter().partition(|span| span.end <= path_length);
    let shifted = |at: usize| at.saturating_sub(path_length);
    let in_query: Vec<_> = in_query.into_iter().map(|span| shifted(span.start)..shifted(span.end)).collect();
    search.look_at_url(Place::Path, path.as_bytes(), &in_path);
    search.look_at_url(Place::Query, query.as_bytes(), &in_query);
    for name in head.headers.keys() {
        search.look(Place::Header, name.as_str().as_bytes());
        for (line, value) in head.headers.get_all(name).iter().enumerate() {
            let here = spans(leaves, |spot| match spot {
                Spot::Header(of, at, span) if of == name && *at == line => Some(span),
                Spot::Header(..) | Spot::Basic(_) | Spot::Target(..) => None,
            });
            search.look_outside(Place::Header, value.as_bytes(), &here);
            // Encoded by their own scheme, so they are looked at whatever the route wants of encodings.
            if name == AUTHORIZATION
                && let Some((user, password)) = credentials(value)
            {
                search.look(Place::Header, user.as_bytes());
                search.look(Place::Header, password.as_bytes());
            }
        }
    }
}

/// The spans of some of the fields, in order.
fn spans<'l>(
    leaves: &'l [HeadLeaf],
    chosen: impl Fn(&'l Spot) -> Option<&'l Range<usize>>,
) -> Vec<Range<usize>> {
    let mut spans: Vec<_> = leaves.iter().filter_map(|leaf| chosen(&leaf.spot).cloned()).collect();
    spans.sort_by_key(|span| span.start);
    spans
}

/// A head could not be edited: a defect of the caller, or a text that is none of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the edits do not fit the head")]
pub struct Misfit;

/// Makes the edits.
///
/// # Errors
/// [`Misfit`] when one does not fit.
pub fn apply(head: &mut Head, mut edits: Vec<HeadEdit>) -> Result<(), Misfit> {
    let start = |edit: &HeadEdit| match &edit.spot {
        Spot::Target(span, _) | Spot::Header(_, _, span) => span.start,
        Spot::Basic(_) => 0,
    };
    // From the end, so that the places of those before stay what they are.
    edits.sort_by_key(|edit| std::cmp::Reverse(start(edit)));
    for HeadEdit { spot, text } in edits {
        match spot {
            Spot::Target(span, writing) => {
                let edit = edit::Edit { span, text, writing };
                let edited =
                    edit::apply(head.path_and_query.as_bytes(), &[edit]).map_err(|_misfit| Misfit)?;
                head.path_and_query = std::str::from_utf8(&edited.bytes).map_err(|_cut| Misfit)?.to_owned();
            }
            Spot::Header(name, line, span) => header_edit(&mut head.headers, &name, (line, span), text)?,
            Spot::Basic(half) => basic_edit(&mut head.headers, half, text)?,
        }
    }
    Ok(())
}

/// Makes the edits of an answer's headers.
///
/// # Errors
/// [`Misfit`] when one does not fit.
pub fn apply_to_headers(headers: &mut HeaderMap, edits: Vec<HeadEdit>) -> Result<(), Misfit> {
    for HeadEdit { spot, text } in edits {
        let Spot::Header(name, line, span) = spot else { return Err(Misfit) };
        header_edit(headers, &name, (line, span), text)?;
    }
    Ok(())
}

fn header_edit(
    headers: &mut HeaderMap,
    name: &HeaderName,
    (line, span): (usize, Range<usize>),
    text: Option<Zeroizing<String>>,
) -> Result<(), Misfit> {
    if text.is_none() && name != COOKIE {
        headers.remove(name);
        return Ok(());
    }
    let mut values = headers.get_all(name).iter().cloned().collect::<Vec<_>>();
    let value = values.get_mut(line).ok_or(Misfit)?;
    let edit = edit::Edit { span, text, writing: Writing::Plain };
    let edited = edit::apply(value.as_bytes(), &[edit]).map_err(|_misfit| Misfit)?;
    *value = sensitive(&edited.bytes)?;
    headers.remove(name);
    for value in values {
        headers.append(name, value);
    }
    Ok(())
}

fn basic_edit(headers: &mut HeaderMap, half: Half, text: Option<Zeroizing<String>>) -> Result<(), Misfit> {
    let text = text.unwrap_or_default();
    let (mut user, mut password) = headers.get(AUTHORIZATION).and_then(credentials).ok_or(Misfit)?;
    match half {
        Half::User if text.contains(':') => return Err(Misfit),
        Half::User => user = text,
        Half::Password => password = text,
    }
    let plain = Zeroizing::new(format!("{}:{}", *user, *password));
    let value = Zeroizing::new(format!("Basic {}", BASE64.encode(plain.as_bytes())));
    headers.insert(AUTHORIZATION, sensitive(value.as_bytes())?);
    Ok(())
}

/// A value that HTTP/2 must not remember in its tables of headers.
fn sensitive(bytes: &[u8]) -> Result<HeaderValue, Misfit> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_not_a_value| Misfit)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
