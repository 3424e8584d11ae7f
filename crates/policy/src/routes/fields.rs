//! Reads the fields of a route: where each stands, and what happens to it there.
//!
//! Must never take a field that no request of the route could have, nor an operation that its place cannot take.
//! Tests: `routes/tests.rs` and `crates/policy/tests/bundle/faults.rs`.

use std::collections::BTreeSet;
use std::ops::Range;

use cordon_card::{ExpiryStyle, Truncation};
use toml::de::DeTable;

use super::{AnswerOp, Content, EgressOp, ExpiryWriting, Field, IngressOp, PathPattern, values};
use crate::place::{FixedColumns, Half, HeadPlace, PathTemplate, Places, TextSelector, XmlSelector};
use crate::rows::{Mistake, Row, choose};
use crate::selector::{JsonSelector, SelectorError};

/// What a field may stand in.
#[derive(Clone, Copy)]
pub(super) enum Plane<'r> {
    /// A request on its way in, of these types, to this path.
    In(&'r [Content], Option<&'r PathPattern>),
    /// One on its way out.
    Out(&'r [Content], Option<&'r PathPattern>),
    /// An answer, of whatever type.
    Answer,
}

/// What the checks of places look at in an operation.
pub(super) trait Operation: Copy {
    /// Whether it leaves nothing in the field's place.
    fn drops(self) -> bool;
}

impl Operation for IngressOp {
    fn drops(self) -> bool {
        self == Self::Drop
    }
}

impl Operation for EgressOp {
    fn drops(self) -> bool {
        self == Self::Drop
    }
}

impl Operation for AnswerOp {
    fn drops(self) -> bool {
        self == Self::Drop
    }
}

/// The fields under `key` of a route, and whether every one could be read.
pub(super) fn read_fields<'t, Op: Operation>(
    row: &mut Row<'t, '_, '_>,
    key: &'static str,
    plane: Plane<'_>,
    read: impl Fn(&mut Row<'t, '_, '_>) -> Option<Op>,
) -> (Vec<Field<Op>>, bool) {
    let tables: Vec<(Range<usize>, &'t DeTable<'t>)> = row.tables(key);
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    let declared = tables.len();
    for (span, table) in tables {
        let mut row = row.inner("field", span, table);
        let places = read_places(&mut row, plane);
        let op = read(&mut row);
        if let Some(places) = places {
            check_places(&mut row, &places, op.is_some_and(Op::drops), plane, &mut seen);
            let places = places.value;
            fields.extend(op.map(|op| Field { places, op }));
        }
        row.finish();
    }
    let all_read = fields.len() == declared;
    (fields, all_read)
}

/// The places of a field, and each with its key, its position in the file and its text.
pub(super) struct Read {
    pub(super) value: Places,
    pub(super) keys: Vec<Key>,
}

pub(super) type Key = (&'static str, Range<usize>, String);

/// The keys of one field that name places, while they are read.
struct Keys<'r, 't, 's, 'f> {
    row: &'r mut Row<'t, 's, 'f>,
    found: Vec<Key>,
    all_read: bool,
}

impl Keys<'_, '_, '_, '_> {
    fn place<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T, Mistake>) -> Option<T> {
        let read = |text: &str| read(text).map(|place| (place, text.to_owned()));
        let Some(found) = self.row.parsed_or_absent(key, read) else {
            self.all_read = false;
            return None;
        };
        let found = found?;
        let span = found.span();
        let (place, text) = found.into_inner();
        self.found.push((key, span, text));
        Some(place)
    }
}

/// `None` when one of the places cannot be read.
pub(super) fn read_places(row: &mut Row<'_, '_, '_>, plane: Plane<'_>) -> Option<Read> {
    let mut keys = Keys { row, found: Vec::new(), all_read: true };
    let mut value = Places {
        json: keys.place("json", selected(JsonSelector::parse)),
        form: keys.place("form", values::form_name),
        xml: keys.place("xml", selected(XmlSelector::parse)),
        csv: keys.place("csv", values::form_name),
        fixed: keys.place("fixed", selected(FixedColumns::parse)),
        text: keys.place("text", selected(TextSelector::parse)),
        head: None,
    };
    let mut heads = vec![keys.place("header", values::header).map(HeadPlace::Header)];
    if !matches!(plane, Plane::Answer) {
        heads.push(keys.place("query", values::form_name).map(HeadPlace::Query));
        heads.push(keys.place("path", selected(PathTemplate::parse)).map(HeadPlace::Path));
    }
    if matches!(plane, Plane::In(..)) {
        heads.push(keys.place("cookie", values::cookie).map(HeadPlace::Cookie));
    }
    if matches!(plane, Plane::Out(..)) {
        heads.push(keys.place("basic", |text| choose("basic", text, &HALVES)).map(HeadPlace::Basic));
    }
    let Keys { row, found, all_read } = keys;
    value.head = heads.into_iter().flatten().next();
    if value.head.is_some() && found.len() > 1 {
        let help =
            "make a field of its own for each place in the head; only places in bodies are listed together";
        let span = row.span();
        row.fault(&span, "this field stands in the head and elsewhere too", Some(help.to_owned()));
        return None;
    }
    all_read.then_some(Read { value, keys: found })
}

pub(super) fn check_places(
    row: &mut Row<'_, '_, '_>,
    places: &Read,
    drops: bool,
    plane: Plane<'_>,
    seen: &mut BTreeSet<(&'static str, String)>,
) {
    let span = row.span();
    if places.keys.is_empty() {
        let help = "say where it stands: json = \"$.card.number\", form = \"card_number\", or both; \
                    or xml, csv, fixed, text, header, query ...";
        row.fault(
            &span,
            "this field has neither `json` nor `form` nor any other place",
            Some(help.to_owned()),
        );
        return;
    }
    if let Plane::In(content, pattern) | Plane::Out(content, pattern) = plane {
        let reachable =
            places.value.head.is_some() || content.iter().any(|content| places.value.stand_in(*content));
        if !reachable && !content.is_empty() {
            let help = "add the content type to the route, or the field's place in the one it takes";
            row.fault(
                &span,
                "this field stands in no content type that the route takes",
                Some(help.to_owned()),
            );
        }
        if let (Some(HeadPlace::Path(template)), Some(pattern)) = (&places.value.head, pattern)
            && !could_match(template, pattern)
        {
            let help = "give the route a path that ends in /* before the field's segment";
            row.fault(&span, format!("the route {pattern} never takes {template}"), Some(help.to_owned()));
        }
    }
    if drops && matches!(places.value.head, Some(HeadPlace::Path(_))) {
        let help = "tokenize it, or refuse such requests by leaving the field out";
        row.fault(&span, "a segment of a path cannot be dropped", Some(help.to_owned()));
    }
    for (key, span, text) in &places.keys {
        if !seen.insert((key, text.clone())) {
            row.fault(span, format!("another field of this route is at \"{text}\" too"), None);
        }
    }
}

/// Whether a path that the template fits can take the route.
fn could_match(template: &PathTemplate, pattern: &PathPattern) -> bool {
    match pattern {
        PathPattern::Exact(path) => template.find(path).is_some(),
        PathPattern::Prefix(prefix) => {
            let fixed = template.to_string();
            let fixed = fixed.split("{}").next().unwrap_or_default();
            fixed.starts_with(prefix.as_str()) || prefix.starts_with(fixed)
        }
    }
}

/// A selector's own reader, with its error as a fault of the bundle.
fn selected<T>(
    read: impl FnOnce(&str) -> Result<T, SelectorError>,
) -> impl FnOnce(&str) -> Result<T, Mistake> {
    |text| read(text).map_err(|error| Mistake::new(error.message(), error.help()))
}

pub(super) fn ingress_op(row: &mut Row<'_, '_, '_>, out_of_scope: bool) -> Option<IngressOp> {
    let op = row.parsed("op", |text| {
        let known = INGRESS_OPS.iter().any(|(word, _)| *word == text);
        if !known && EGRESS_OPS.iter().any(|(word, _)| *word == text) {
            let message = if out_of_scope {
                format!("`{text}` would bring card data to a service that is out of PCI scope")
            } else {
                format!("`{text}` has no place on the way in")
            };
            return Err(Mistake::new(message, "cards are revealed in an [[egress]] route only"));
        }
        choose("op", text, &INGRESS_OPS)
    });
    match op?.into_inner() {
        IngressOp::Mask(_) => kept(row).map(IngressOp::Mask),
        other => Some(other),
    }
}

pub(super) fn egress_op(row: &mut Row<'_, '_, '_>) -> Option<EgressOp> {
    let op = row.parsed("op", |text| {
        let known = EGRESS_OPS.iter().any(|(word, _)| *word == text);
        if !known && INGRESS_OPS.iter().any(|(word, _)| *word == text) {
            return Err(Mistake::new(
                format!("`{text}` has no place on the way out"),
                "cards are tokenized in an [[ingress]] route only",
            ));
        }
        choose("op", text, &EGRESS_OPS)
    });
    match op?.into_inner() {
        EgressOp::RevealExpiry(_) => expiry_writing(row).map(EgressOp::RevealExpiry),
        EgressOp::Mask(_) => kept(row).map(EgressOp::Mask),
        other => Some(other),
    }
}

/// `format`, and `number` beside one that is a number.
fn expiry_writing(row: &mut Row<'_, '_, '_>) -> Option<ExpiryWriting> {
    let format = row.parsed_or_absent("format", |text| {
        text.parse::<ExpiryStyle>().map_err(|error| Mistake::new("no such format", error.to_string()))
    })?;
    let style = format.map_or(ExpiryStyle::MonthYear, toml::Spanned::into_inner);
    let number = row.flag("number");
    if number && !matches!(style, ExpiryStyle::BareMonth | ExpiryStyle::Year | ExpiryStyle::FullYear) {
        let help = "write format = \"M\", \"YY\" or \"YYYY\", a field for each";
        let span = row.span();
        row.fault(&span, "only a month or a year can be a number", Some(help.to_owned()));
        return None;
    }
    Some(ExpiryWriting { style, number })
}

/// What happens to a field of an answer.
pub(super) fn answer_op(row: &mut Row<'_, '_, '_>) -> Option<AnswerOp> {
    match row.parsed("op", |text| choose("op", text, &ANSWER_OPS))?.into_inner() {
        AnswerOp::Mask(_) => kept(row).map(AnswerOp::Mask),
        other => Some(other),
    }
}

/// Which digits a mask keeps.
fn kept(row: &mut Row<'_, '_, '_>) -> Option<Truncation> {
    row.word_or("keep", &KEPT, Truncation::LastFour)
}

/// A security code or an expiry belongs to a card: without one there is nothing to keep it with.
pub(super) fn check_attached(row: &mut Row<'_, '_, '_>, fields: &[Field<IngressOp>]) {
    let has = |op: IngressOp| fields.iter().any(|field| field.op == op);
    let span = row.span();
    let part = |field: &Field<IngressOp>| match field.op {
        IngressOp::Hold | IngressOp::Expiry | IngressOp::ExpiryMonth | IngressOp::ExpiryYear => true,
        IngressOp::Tokenize | IngressOp::Mask(_) | IngressOp::Drop => false,
    };
    if fields.iter().any(part) && !has(IngressOp::Tokenize) {
        let help = "add a field with op = \"tokenize\", or leave the fields out";
        row.fault(&span, "this route holds parts of a card but no card number", Some(help.to_owned()));
    }
    if has(IngressOp::ExpiryMonth) != has(IngressOp::ExpiryYear) {
        let help = "add the other, or use op = \"expiry\" for one field with both";
        row.fault(&span, "`expiry_month` and `expiry_year` go together", Some(help.to_owned()));
    }
}

const HALVES: [(&str, Half); 2] = [("user", Half::User), ("password", Half::Password)];

const INGRESS_OPS: [(&str, IngressOp); 7] = [
    ("tokenize", IngressOp::Tokenize),
    ("hold", IngressOp::Hold),
    ("expiry", IngressOp::Expiry),
    ("expiry_month", IngressOp::ExpiryMonth),
    ("expiry_year", IngressOp::ExpiryYear),
    ("mask", IngressOp::Mask(Truncation::LastFour)),
    ("drop", IngressOp::Drop),
];

const EGRESS_OPS: [(&str, EgressOp); 5] = [
    ("reveal", EgressOp::Reveal),
    ("reveal_cvv", EgressOp::RevealCvv),
    ("reveal_expiry", EgressOp::RevealExpiry(ExpiryWriting { style: ExpiryStyle::MonthYear, number: false })),
    ("mask", EgressOp::Mask(Truncation::LastFour)),
    ("drop", EgressOp::Drop),
];

const ANSWER_OPS: [(&str, AnswerOp); 3] = [
    ("tokenize", AnswerOp::Tokenize),
    ("mask", AnswerOp::Mask(Truncation::LastFour)),
    ("drop", AnswerOp::Drop),
];

const KEPT: [(&str, Truncation); 3] =
    [("last4", Truncation::LastFour), ("6+4", Truncation::SixAndFour), ("8+4", Truncation::EightAndFour)];
