//! JSON lines: one object per line; the card number is cut out of the very text of the line.
//!
//! Must never accept a key twice where it is used. Tests: `tests.rs`.

use crate::columns::{Columns, Mapping};
use crate::row::Builder;
use crate::window::{LONGEST_ROW, Window};
use crate::{RowError, RowsError};
use cordon_wire::ProblemCode;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use zeroize::Zeroizing;

/// Finds the columns among the keys of the first object.
pub(crate) fn open<R: Read>(window: &mut Window<R>, told: &Columns) -> Result<Mapping, RowsError> {
    let start = window.available();
    let line = start.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let mut reader = serde_json::Deserializer::from_slice(line.unwrap_or_default());
    let keys = Keys.deserialize(&mut reader).map_err(|_json| {
        RowsError::Columns("the first line is not a JSON object, or is longer than 64 KiB".to_owned())
    })?;
    Mapping::by_name(keys, told)
}

/// Adds the next line to the batch. `false` at the end.
pub(crate) fn next<R: Read>(
    window: &mut Window<R>,
    lines: &mut u64,
    mapping: &Mapping,
    batch: &mut Builder,
) -> Result<bool, RowsError> {
    let mut searched = 0;
    let (length, whole) = loop {
        let available = window.available();
        if let Some(end) = memchr::memchr(b'\n', available.get(searched..).unwrap_or_default()) {
            break (searched.saturating_add(end).saturating_add(1), true);
        }
        searched = available.len();
        if searched > LONGEST_ROW.saturating_add(1) || !window.fill()? {
            break (window.available().len(), false);
        }
    };
    if length == 0 {
        return Ok(false);
    }
    *lines = lines.saturating_add(1);
    let line = window.available().get(..length).unwrap_or_default().trim_ascii();
    // With the line's end: the same whether the line was found whole or given up on.
    if length > LONGEST_ROW.saturating_add(1) {
        batch.refuse(*lines, ProblemCode::TooLarge);
        window.consume(length);
        if !whole {
            skip_line(window)?;
        }
        return Ok(true);
    }
    if !line.is_empty() {
        row(line, *lines, mapping, batch);
    }
    window.consume(length);
    Ok(true)
}

fn skip_line<R: Read>(window: &mut Window<R>) -> Result<(), RowsError> {
    loop {
        let available = window.available();
        let end = memchr::memchr(b'\n', available);
        let length = end.map_or(available.len(), |end| end.saturating_add(1));
        window.consume(length);
        if end.is_some() || !window.fill()? {
            return Ok(());
        }
    }
}

fn row(line: &[u8], number: u64, mapping: &Mapping, batch: &mut Builder) {
    let Ok(text) = std::str::from_utf8(line) else {
        return batch.refuse(number, ProblemCode::Malformed);
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read =
        Object(&mapping.names).deserialize(&mut reader).and_then(|values| reader.end().map(|()| values));
    let Ok(values) = read else {
        return batch.refuse(number, ProblemCode::Malformed);
    };
    let at = |place: usize| values.get(place).copied().flatten();
    let value = |place| at(place).map_or(Ok(None), |raw| plain(raw.get()));
    batch.add(number, mapping, value, |out| {
        let span = |place| at(place).map(|raw| place_of(text, raw));
        let card = span(mapping.pan).ok_or(ProblemCode::BadPan)?;
        let mut cuts: Vec<Range<usize>> = mapping.omit.iter().filter_map(|place| span(*place)).collect();
        cuts.push(card.clone());
        cuts.sort_by_key(|cut| cut.start);
        cuts.dedup();
        let start = out.len();
        let (mut token, mut from) = (start, 0);
        for cut in cuts {
            out.extend_from_slice(line.get(from..cut.start).unwrap_or_default());
            if cut == card {
                // The token is text whatever the number was.
                out.push(b'"');
                token = out.len();
                out.push(b'"');
            } else {
                out.extend_from_slice(b"null");
            }
            from = cut.end;
        }
        out.extend_from_slice(line.get(from..).unwrap_or_default());
        if hides_digits(out.get(start..).unwrap_or_default()) {
            return Err(ProblemCode::LeakBlocked);
        }
        out.push(b'\n');
        Ok(token)
    });
}

/// Whether a card number stands in the text in escapes (`\u0034`), which a scan of the raw bytes can't see.
fn hides_digits(text: &[u8]) -> bool {
    if memchr::memmem::find(text, b"\\u").is_none() {
        return false;
    }
    let decoded: Result<serde_json::Value, _> = serde_json::from_slice(text);
    decoded.map_or(true, |value| cordon_scan::first(value.to_string().as_bytes()).is_some())
}

/// Where a value stands in the line it was borrowed from.
fn place_of(text: &str, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start.saturating_add(raw.get().len())
}

/// A string or number as text.
fn plain(raw: &str) -> Result<Option<Plain<'_>>, RowError> {
    match raw.as_bytes().first() {
        Some(b'"') if raw.contains('\\') => {
            let text = serde_json::from_str(raw).map_err(|_json| ProblemCode::Malformed)?;
            Ok(Some(Plain::Decoded(text)))
        }
        Some(b'"') => Ok(raw.get(1..raw.len().saturating_sub(1)).map(Plain::Borrowed)),
        Some(b'0'..=b'9') => Ok(Some(Plain::Borrowed(raw))),
        _ if raw == "null" => Ok(None),
        _ => Err(ProblemCode::Malformed),
    }
}

enum Plain<'t> {
    Borrowed(&'t str),
    Decoded(Zeroizing<String>),
}

impl AsRef<str> for Plain<'_> {
    fn as_ref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Decoded(text) => text,
        }
    }
}

/// Reads the keys of an object.
struct Keys;

/// Reads the values of the named keys of an object.
struct Object<'n>(&'n [String]);

struct Key<'de>(Cow<'de, str>);

impl<'de> de::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = Vec<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = Vec::new();
        while let Some((Key(key), IgnoredAny)) = map.next_entry()? {
            keys.push(key.into_owned());
        }
        Ok(keys)
    }
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Vec<Option<&'de RawValue>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(Key(key)) = map.next_key()? {
            match self.0.iter().position(|name| *name == key).and_then(|place| values.get_mut(place)) {
                Some(Some(_)) => return Err(de::Error::custom("a key stands there twice")),
                Some(slot) => *slot = Some(map.next_value()?),
                None => {
                    let IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok(values)
    }
}
