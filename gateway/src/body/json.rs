//! Finds the declared fields of a JSON body (RFC 8259) by streaming over it: no tree, and byte-exact places.
//!
//! Must never accept what two parsers could read differently (duplicate keys, trailing data, bad UTF-8: threat
//! B36, B39), nor skip a key, string or number that could hold a card number.
//! Tests: `body/json/tests.rs`; fuzz target `fuzz/fuzz_targets/json_body.rs`.

mod tokens;

pub(crate) use tokens::whole_digits;

use super::edit::Writing;
use super::path::{Child, Follower, Hit, Place, Selectors};
use super::{BodyError, Heard, Leaf, Text, UNDECLARED};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use zeroize::Zeroizing;

/// Reads the document to its end and gives the declared fields in the order in which they stand.
///
/// A declared field is a string, or a number that is written with digits alone.
///
/// # Errors
/// [`BodyError::Malformed`] for a document that is not well formed, has a key twice in one object, or is nested
/// deeper than [`MAX_DEPTH`]; [`BodyError::Field`] for a declared field of another type.
pub fn locate<'b>(
    document: &'b str,
    declared: &Selectors,
    heard: Heard<'_>,
) -> Result<Vec<Leaf<'b>>, BodyError> {
    let (follower, root) = Follower::new(declared);
    let mut walk = Walk {
        document,
        follower,
        heard,
        names: Vec::new(),
        depth: 0,
        leaves: Vec::new(),
        pointed: false,
        fault: None,
    };
    let mut reader = serde_json::Deserializer::from_str(document);
    let read = Value { walk: &mut walk, place: &root }.deserialize(&mut reader).and_then(|()| reader.end());
    if read.is_err() {
        return Err(walk.fault.unwrap_or(BodyError::Malformed));
    }
    if walk.pointed {
        tokens::numbers(document).filter_map(whole_digits).for_each(|digits| (walk.heard)(&digits));
    }
    Ok(walk.leaves)
}

/// The string values (not the keys) of a document that [`locate`] has accepted, with their places.
///
/// # Errors
/// [`BodyError::Malformed`] when it has not.
pub fn values(document: &str) -> Result<Vec<Leaf<'_>>, BodyError> {
    tokens::string_values(document)
        .map(|span| {
            let raw = document.get(span.clone()).ok_or(BodyError::Malformed)?;
            Ok(Leaf { field: UNDECLARED, span, text: unquoted(raw)?, writing: Writing::Json })
        })
        .collect()
}

/// Everything that is known while the document streams past.
struct Walk<'w, 'b> {
    document: &'b str,
    follower: Follower<'w>,
    heard: Heard<'w>,
    /// Keys of all open objects, one frame on top of the other.
    names: Vec<Cow<'b, str>>,
    depth: usize,
    leaves: Vec<Leaf<'b>>,
    /// A number as large as a card number was written with a point or an exponent.
    pointed: bool,
    fault: Option<BodyError>,
}

impl<'b> Walk<'_, 'b> {
    /// Stops the walk; the reason is kept here, since serde's error carries text only.
    fn stop<E: de::Error>(&mut self, fault: BodyError) -> E {
        self.fault = Some(fault);
        E::custom("stopped")
    }

    fn open<E: de::Error>(&mut self) -> Result<(), E> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH { Err(self.stop(BodyError::Malformed)) } else { Ok(()) }
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// A scan of the raw bytes reads plain ASCII text as it is; all else is heard decoded.
    fn hear_if_hidden(&mut self, text: &str, escaped: bool) {
        if escaped || !text.is_ascii() {
            (self.heard)(text);
        }
    }

    /// Remembers a key of the open object whose keys begin at `start`; false when it stands there already.
    fn is_new(&mut self, start: usize, many: &mut HashSet<Cow<'b, str>>, key: Cow<'b, str>) -> bool {
        if !many.is_empty() {
            return many.insert(key);
        }
        if self.names.len().saturating_sub(start) >= FEW_KEYS {
            many.extend(self.names.drain(start..));
            return many.insert(key);
        }
        if self.names.iter().skip(start).any(|known| *known == key) {
            return false;
        }
        self.names.push(key);
        true
    }

    /// Takes a value as a field; `false` for one that is no text and is passed over.
    fn capture<E: de::Error>(&mut self, field: usize, raw: &'b RawValue) -> Result<bool, E> {
        let raw = raw.get();
        let start = raw.as_ptr().addr().wrapping_sub(self.document.as_ptr().addr());
        let span = start..start.saturating_add(raw.len());
        let text = match leaf(raw) {
            Ok(Some(text)) => text,
            Ok(None) if self.follower.is_lenient() => return Ok(false),
            Ok(None) => return Err(self.stop(BodyError::Field(field))),
            Err(malformed) => return Err(self.stop(malformed)),
        };
        self.leaves.push(Leaf { field, span, text, writing: Writing::Json });
        Ok(true)
    }
}

/// The text of a declared field: a string or plain digits; `None` for anything else.
fn leaf(raw: &str) -> Result<Option<Text<'_>>, BodyError> {
    if raw.starts_with('"') {
        return unquoted(raw).map(Some);
    }
    let digits = raw.bytes().all(|byte| byte.is_ascii_digit());
    Ok(digits.then_some(Text::Plain(raw)))
}

/// A string token without its quotes and escapes.
fn unquoted(raw: &str) -> Result<Text<'_>, BodyError> {
    if raw.contains('\\') {
        // serde_json's scratch buffer keeps a copy of an escaped value until the allocator reuses it: a known limit.
        let decoded = serde_json::from_str(raw).map_err(|_bad_escape| BodyError::Malformed)?;
        return Ok(Text::Decoded(Zeroizing::new(decoded)));
    }
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map(Text::Plain).ok_or(BodyError::Malformed)
}

/// Reads a member or element: a declared field as it stands, anything else by walking through it.
struct Slot<'s, 'w, 'b> {
    walk: &'s mut Walk<'w, 'b>,
    hit: Hit,
    place: Place,
}

impl<'b> DeserializeSeed<'b> for Slot<'_, '_, 'b> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, reader: D) -> Result<(), D::Error> {
        match self.hit {
            Hit::Undeclared => Value { walk: &mut *self.walk, place: &self.place }.deserialize(reader),
            Hit::Field(field) => {
                let raw = <&RawValue>::deserialize(reader)?;
                if self.walk.capture(field, raw)? {
                    return Ok(());
                }
                // Read once more as what it is: nothing that no field takes may go unseen.
                let mut again = serde_json::Deserializer::from_str(raw.get());
                let value = Value { walk: &mut *self.walk, place: &self.place };
                value.deserialize(&mut again).map_err(|_kept_in_the_walk| de::Error::custom("stopped"))
            }
            Hit::Contested(field) => Err(self.walk.stop(BodyError::Field(field))),
        }
    }
}

/// Walks through one value at a known place.
struct Value<'s, 'w, 'b> {
    walk: &'s mut Walk<'w, 'b>,
    place: &'s Place,
}

impl<'w, 'b> Value<'_, 'w, 'b> {
    fn slot(&mut self, child: Child<'_>) -> Slot<'_, 'w, 'b> {
        let (hit, place) = self.walk.follower.enter(self.place, child);
        Slot { walk: self.walk, hit, place }
    }
}

impl<'b> DeserializeSeed<'b> for Value<'_, '_, 'b> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'b> Visitor<'b> for Value<'_, '_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'b>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.walk.open()?;
        let start = self.walk.names.len();
        let mut many = HashSet::new();
        while let Some((key, escaped)) = map.next_key_seed(Key)? {
            self.walk.hear_if_hidden(&key, escaped);
            let slot = self.slot(Child::Member(&key));
            if !slot.walk.is_new(start, &mut many, key) {
                return Err(slot.walk.stop(BodyError::Malformed));
            }
            map.next_value_seed(slot)?;
            self.walk.follower.back_to(self.place);
        }
        self.walk.names.truncate(start);
        self.walk.close();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'b>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.walk.open()?;
        let mut index = 0_u64;
        while elements.next_element_seed(self.slot(Child::Element(index)))?.is_some() {
            index = index.saturating_add(1);
            self.walk.follower.back_to(self.place);
        }
        self.walk.follower.back_to(self.place);
        self.walk.close();
        Ok(())
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'b str) -> Result<(), E> {
        self.walk.hear_if_hidden(text, false);
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.walk.hear_if_hidden(text, true);
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        self.walk.pointed |= number.abs() >= SMALLEST_CARD_NUMBER;
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a key, and whether it had escapes.
struct Key;

impl<'b> DeserializeSeed<'b> for Key {
    type Value = (Cow<'b, str>, bool);

    fn deserialize<D: Deserializer<'b>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'b> Visitor<'b> for Key {
    type Value = (Cow<'b, str>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'b str) -> Result<Self::Value, E> {
        Ok((Cow::Borrowed(key), false))
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok((Cow::Owned(key.to_owned()), true))
    }
}

/// Deepest nesting of objects and arrays accepted.
pub const MAX_DEPTH: usize = 64;
/// Up to so many keys an object's keys are compared one by one; beyond, a set keeps the cost linear.
const FEW_KEYS: usize = 16;
/// Twelve digits, the shortest card number there is.
const SMALLEST_CARD_NUMBER: f64 = 1e11;

#[cfg(test)]
mod tests;
