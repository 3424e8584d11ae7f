//! XML 1.0: fields by paths of elements and attributes.
//!
//! quick-xml reads; what makes XML mean more than it says is refused: a document type, entities beyond the five, another
//! version, another encoding (threat B43). The text of an element is what a reader makes of it: references resolved,
//! CDATA taken as it is, pieces on both sides of a comment joined. Must never take text of a child for text of its parent.
//! Tests: `xml/tests.rs`; fuzz target `xml_body`.

use super::edit::Writing;
use super::path::{Child, Follower, Hit, Place, Selectors};
use super::{BodyError, Heard, Leaf, Text, UNDECLARED};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use std::ops::Range;
use zeroize::Zeroizing;

/// Reads the document to its end and gives the declared fields in the order in which they stand. An element or
/// attribute without text holds no field.
///
/// # Errors
/// [`BodyError::Malformed`] for what is not well formed or nested deeper than [`MAX_DEPTH`];
/// [`BodyError::Uninspectable`] for a document type, an entity, a version or an encoding that is not read here;
/// [`BodyError::Field`] for a declared element that holds more than text.
pub fn locate<'b>(body: &'b str, declared: &Selectors, heard: Heard<'_>) -> Result<Vec<Leaf<'b>>, BodyError> {
    Walk::new(body, declared, heard, false).run()
}

/// The attributes and the texts of elements without children of a document that [`locate`] has accepted.
///
/// # Errors
/// [`BodyError`] when it has not.
pub fn values(body: &str) -> Result<Vec<Leaf<'_>>, BodyError> {
    Walk::new(body, &Selectors::default(), &mut |_| (), true).run()
}

struct Walk<'w, 'b> {
    body: &'b str,
    follower: Follower<'w>,
    root: Place,
    heard: Heard<'w>,
    /// Give every value as a leaf.
    every: bool,
    open: Vec<Element<'b>>,
    begun: bool,
    leaves: Vec<Leaf<'b>>,
}

/// An element whose end was not met yet.
struct Element<'b> {
    place: Place,
    hit: Hit,
    /// Where its content begins.
    content: usize,
    text: Gathered<'b>,
    /// Whether text is all it holds.
    plain: bool,
}

/// The text directly in an element, so far.
#[derive(Default)]
enum Gathered<'b> {
    #[default]
    Nothing,
    /// One piece that stands there as it is.
    Piece(&'b str),
    /// Several pieces, or one that had to be resolved.
    Joined(Zeroizing<String>),
}

impl<'b> Gathered<'b> {
    fn add(&mut self, piece: &'b str) {
        match self {
            Self::Nothing => *self = Self::Piece(piece),
            Self::Piece(_) | Self::Joined(_) => self.add_resolved(piece),
        }
    }

    fn add_resolved(&mut self, piece: &str) {
        let mut joined = match std::mem::take(self) {
            Self::Nothing => Zeroizing::new(String::new()),
            Self::Piece(first) => Zeroizing::new(first.to_owned()),
            Self::Joined(joined) => joined,
        };
        joined.push_str(piece);
        *self = Self::Joined(joined);
    }

    fn into_text(self) -> Option<Text<'b>> {
        match self {
            Self::Nothing => None,
            Self::Piece(piece) => Some(Text::Plain(piece)),
            Self::Joined(joined) => Some(Text::Decoded(joined)),
        }
    }
}

impl<'w, 'b> Walk<'w, 'b> {
    fn new(body: &'b str, declared: &'w Selectors, heard: Heard<'w>, every: bool) -> Self {
        let (follower, root) = Follower::new(declared);
        Self { body, follower, root, heard, every, open: Vec::new(), begun: false, leaves: Vec::new() }
    }

    fn run(mut self) -> Result<Vec<Leaf<'b>>, BodyError> {
        if self.body.chars().any(is_no_character) {
            return Err(BodyError::Malformed);
        }
        let mut reader = Reader::from_str(self.body);
        reader.config_mut().check_comments = true;
        loop {
            let start = position(&reader);
            let event = reader.read_event().map_err(|_detail| BodyError::Malformed)?;
            let span = start..position(&reader);
            match event {
                Event::Decl(_) => self.declaration(span)?,
                Event::DocType(_) => return Err(BodyError::Uninspectable),
                Event::Start(tag) => self.start(&tag, span)?,
                Event::Empty(tag) => {
                    self.start(&tag, span.clone())?;
                    self.end(span.end)?;
                }
                Event::End(_) => self.end(span.start)?,
                Event::Text(_) => self.text(span)?,
                Event::CData(_) => self.cdata(span)?,
                Event::GeneralRef(_) => self.reference(span)?,
                Event::Comment(_) | Event::PI(_) => {
                    if let Some(element) = self.open.last_mut() {
                        element.plain = false;
                    }
                }
                Event::Eof => break,
            }
        }
        if self.open.is_empty() && self.begun { Ok(self.leaves) } else { Err(BodyError::Malformed) }
    }

    fn slice(&self, span: Range<usize>) -> Result<&'b str, BodyError> {
        self.body.get(span).ok_or(BodyError::Malformed)
    }

    /// `<?xml version="1.0" encoding="UTF-8"?>`, at the very start.
    fn declaration(&mut self, span: Range<usize>) -> Result<(), BodyError> {
        let at_start = span.start == 0;
        let inner = self.slice(span)?.strip_prefix("<?xml").and_then(|rest| rest.strip_suffix("?>"));
        let tag = BytesStart::from_content(inner.filter(|_| at_start).ok_or(BodyError::Malformed)?, 0);
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_detail| BodyError::Malformed)?;
            match (attribute.key.as_ref(), attribute.value.as_ref()) {
                ("version", "1.0") | ("standalone", "yes" | "no") => {}
                ("encoding", name) if name.eq_ignore_ascii_case("utf-8") => {}
                ("version" | "encoding", _) => return Err(BodyError::Uninspectable),
                _ => return Err(BodyError::Malformed),
            }
        }
        Ok(())
    }

    fn start(&mut self, tag: &BytesStart<'_>, span: Range<usize>) -> Result<(), BodyError> {
        if self.open.len() >= MAX_DEPTH || (self.open.is_empty() && self.begun) {
            return Err(BodyError::Malformed);
        }
        self.begun = true;
        if let Some(parent) = self.open.last_mut() {
            parent.plain = false;
        }
        let name = tag.local_name();
        let parent = self.open.last().map_or(&self.root, |parent| &parent.place);
        let (hit, place) = self.follower.enter(parent, Child::Member(name.as_ref()));
        self.attributes(tag, span.clone(), &place)?;
        self.open.push(Element { place, hit, content: span.end, text: Gathered::Nothing, plain: true });
        Ok(())
    }

    fn attributes(
        &mut self,
        tag: &BytesStart<'_>,
        span: Range<usize>,
        place: &Place,
    ) -> Result<(), BodyError> {
        // INVARIANT(tag-in-place): the tag's content is what stands between `<` and `>` or `/>` of its span.
        let content = span.start.saturating_add(1);
        let whole: &str = tag;
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_detail| BodyError::Malformed)?;
            let value = attribute.value.as_ref();
            let offset = value.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
            let start = content.saturating_add(offset);
            let span = start..start.saturating_add(value.len());
            let raw = self.slice(span.clone())?;
            if raw != value || raw.contains('<') {
                return Err(BodyError::Malformed);
            }
            let text = resolved(raw)?;
            let name = attribute.key.local_name();
            let (hit, _) = self.follower.enter(place, Child::Member(&format!("@{}", name.as_ref())));
            self.follower.back_to(place);
            self.value(hit, span, text)?;
        }
        Ok(())
    }

    fn end(&mut self, content_end: usize) -> Result<(), BodyError> {
        let element = self.open.pop().ok_or(BodyError::Malformed)?;
        let parent = self.open.last().map_or(&self.root, |parent| &parent.place);
        self.follower.back_to(parent);
        let text = element.text.into_text();
        if element.plain {
            return text.map_or(Ok(()), |text| self.value(element.hit, element.content..content_end, text));
        }
        if let Hit::Field(field) | Hit::Contested(field) = element.hit
            && !self.follower.is_lenient()
        {
            return Err(BodyError::Field(field));
        }
        self.hear(text);
        Ok(())
    }

    fn value(&mut self, hit: Hit, span: Range<usize>, text: Text<'b>) -> Result<(), BodyError> {
        let field = match hit {
            Hit::Contested(field) => return Err(BodyError::Field(field)),
            Hit::Field(field) => field,
            Hit::Undeclared if self.every => UNDECLARED,
            Hit::Undeclared => {
                self.hear(Some(text));
                return Ok(());
            }
        };
        if !text.expose().is_empty() {
            self.leaves.push(Leaf { field, span, text, writing: Writing::Xml });
        }
        Ok(())
    }

    fn hear(&mut self, text: Option<Text<'b>>) {
        if let Some(text) = text.filter(Text::is_hidden) {
            (self.heard)(text.expose());
        }
    }

    fn text(&mut self, span: Range<usize>) -> Result<(), BodyError> {
        let piece = self.slice(span)?;
        match self.open.last_mut() {
            // As in the standard: the end of CDATA does not stand in text.
            _ if piece.contains("]]>") => return Err(BodyError::Malformed),
            Some(element) => element.text.add(piece),
            None if piece.trim_ascii().is_empty() => {}
            None => return Err(BodyError::Malformed),
        }
        Ok(())
    }

    fn cdata(&mut self, span: Range<usize>) -> Result<(), BodyError> {
        let whole = self.slice(span)?;
        let inner = whole.strip_prefix("<![CDATA[").and_then(|rest| rest.strip_suffix("]]>"));
        let inner = inner.ok_or(BodyError::Malformed)?;
        self.open.last_mut().ok_or(BodyError::Malformed)?.text.add_resolved(inner);
        Ok(())
    }

    fn reference(&mut self, span: Range<usize>) -> Result<(), BodyError> {
        let Text::Decoded(character) = resolved(self.slice(span)?)? else { return Err(BodyError::Malformed) };
        self.open.last_mut().ok_or(BodyError::Malformed)?.text.add_resolved(&character);
        Ok(())
    }
}

/// References of characters and of the five entities resolved, and nothing else.
fn resolved(raw: &str) -> Result<Text<'_>, BodyError> {
    if !raw.contains('&') {
        return Ok(Text::Plain(raw));
    }
    // An entity of the document's own, or something broken: either way nothing that can be looked into.
    let text = unescape(raw).map_err(|_detail| BodyError::Uninspectable)?;
    Ok(Text::Decoded(Zeroizing::new(text.into_owned())))
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

/// What is no character of XML 1.0 (production 2).
fn is_no_character(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

/// Deepest nesting of elements accepted.
pub const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests;
