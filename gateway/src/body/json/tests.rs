//! Tests of the streaming walk: tricks one by one, and generated documents against a tree evaluator.

use super::super::edit::{Edit, apply};
use super::*;
use cordon_policy::{JsonSelector, Pick, Step};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::ops::Range;

const PAN: &str = "4111111111111111";

fn selectors(texts: &[&str]) -> Selectors {
    let parsed = texts.iter().map(|text| JsonSelector::parse(text).unwrap().segments().to_vec());
    Selectors::new(parsed.enumerate())
}

fn found(body: &str, texts: &[&str]) -> Result<Vec<(usize, Range<usize>, String)>, BodyError> {
    let declared = selectors(texts);
    let leaves = locate(body, &declared, &mut |_| ())?;
    Ok(leaves.into_iter().map(|leaf| (leaf.field, leaf.span, leaf.text.expose().to_owned())).collect())
}

fn heard(body: &str, texts: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    locate(body, &selectors(texts), &mut |text| all.push(text.to_owned())).unwrap();
    all
}

#[test]
fn spans_take_in_the_quotes_and_nothing_else() {
    let body = "{ \"card\" : { \"number\" :\t\"4111111111111111\" , \"x\":1 } }";
    let leaves = found(body, &["$.card.number"]).unwrap();
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[0].2, PAN);
    assert_eq!(body.get(leaves[0].1.clone()).unwrap(), "\"4111111111111111\"");
}

#[test]
fn an_escaped_number_is_decoded() {
    let body = r#"{"pan":"\u0034111-1111\u00201111 1111"}"#;
    assert_eq!(found(body, &["$.pan"]).unwrap()[0].2, "4111-1111 1111 1111");
}

#[test]
fn an_escaped_key_is_the_same_key() {
    assert_eq!(found(r#"{"\u0070an":"x"}"#, &["$.pan"]).unwrap().len(), 1);
    assert_eq!(found(r#"{"\u0070an":1,"pan":2}"#, &["$.x"]), Err(BodyError::Malformed));
}

#[test]
fn a_number_counts_when_it_is_digits_alone() {
    let leaves = found(r#"{"a":4111111111111111,"b":6304000000000000018}"#, &["$.a", "$.b"]).unwrap();
    assert_eq!(leaves[0].2, PAN);
    assert_eq!(leaves[1].2, "6304000000000000018");
    for number in ["4.111111111111111e15", "-4111111111111111", "4111111111111111.0"] {
        assert_eq!(found(&format!("{{\"a\":{number}}}"), &["$.a"]), Err(BodyError::Field(0)), "{number}");
    }
}

#[test]
fn a_declared_field_of_another_type_is_refused() {
    for value in ["null", "true", "false", "{}", "[]", r#"{"number":"x"}"#, r#"["4111111111111111"]"#] {
        assert_eq!(
            found(&format!("{{\"a\":1,\"b\":{value}}}"), &["$.x", "$.b"]),
            Err(BodyError::Field(1)),
            "{value}"
        );
    }
}

#[test]
fn a_contested_field_is_refused() {
    assert_eq!(found(r#"{"a":{"b":"x"}}"#, &["$.a.b", "$..b"]), Err(BodyError::Field(0)));
}

#[test]
fn what_two_parsers_could_read_differently_is_malformed() {
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let bodies = [
        "",
        " ",
        "{",
        "{}{}",
        "{} x",
        "[1,]",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":1,\"a\":2}",
        "{\"x\":{\"a\":1,\"a\":2}}",
        "[{\"a\":1},{\"b\":1,\"b\":1}]",
        "// c\n{}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":+1}",
        "{\"a\":1e999}",
        "\u{feff}{}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\x34\"}",
        "{\"a\":1}\n{\"a\":2}",
        &deep,
    ];
    for body in bodies {
        assert_eq!(found(body, &["$.zz"]), Err(BodyError::Malformed), "{body}");
    }
    assert!(found(&format!("{}1{}", "[".repeat(64), "]".repeat(64)), &[]).is_ok());
}

#[test]
fn a_lone_surrogate_in_a_declared_field_is_malformed() {
    assert_eq!(found(r#"{"pan":"4111\ud800"}"#, &["$.pan"]), Err(BodyError::Malformed));
}

#[test]
fn a_key_twice_is_seen_among_many() {
    let mut body = "{".to_owned();
    for index in 0..40 {
        write!(body, "\"k{index}\":{index},").unwrap();
    }
    assert!(found(&format!("{body}\"z\":1}}"), &[]).is_ok());
    for twice in ["k0", "k15", "k16", "k39"] {
        assert_eq!(found(&format!("{body}\"{twice}\":1}}"), &[]), Err(BodyError::Malformed), "{twice}");
    }
}

#[test]
fn many_keys_cost_linear_time() {
    let mut body = "{".to_owned();
    for index in 0..200_000 {
        write!(body, "\"{index}\":0,").unwrap();
    }
    body.push_str("\"x\":0}");
    assert!(found(&body, &["$..y"]).is_ok());
}

#[test]
fn what_the_raw_scan_would_miss_is_heard() {
    let body = r#"{"a\u0031":"\u0034111","plain":"4111","wide":"WIDE","z":[4.111111111111111e15,4111111111111111],"pan":"\u0034"}"#;
    let body = &body.replace("WIDE", "\u{ff14}\u{ff11}");
    assert_eq!(heard(body, &["$.pan"]), ["a1", "4111", "\u{ff14}\u{ff11}", PAN, PAN]);
    assert_eq!(heard(r#"{"a":[1,2.5,true,null,"x",{"b":-7}]}"#, &[]), [""; 0]);
}

#[test]
fn string_values_are_found_with_their_places_and_keys_are_not() {
    let body = r#"{"k":"v\u0031","l":["w",{"m":3}],"n" : "" }"#;
    let all = values(body).unwrap();
    let all: Vec<_> =
        all.iter().map(|leaf| (body.get(leaf.span.clone()).unwrap(), leaf.text.expose())).collect();
    let expected = [(r#""v\u0031""#, "v1"), (r#""w""#, "w"), (r#""""#, "")];
    assert_eq!(all, expected);
}

/// A small random source: one seed is one document, so that a million shapes cost no shrinking machinery.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Other(&'static str),
    Digits(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

const NAMES: &[&str] = &["a", "b", "pan", "card", "x y", "\u{e9}", "", "\"q\\"];
const TEXTS: &[&str] =
    &["", "4111 1111 1111 1111", "\u{1f600}", "\\", "\"", "a\nb", "/", "\u{7f}tok", "{\"a\":1}"];

fn tree(dice: &mut Dice, depth: u64) -> Tree {
    match dice.below(if depth == 0 { 4 } else { 8 }) {
        0 => Tree::Other(dice.one_of(&["null", "true", "false", "-1", "2.5", "1e3", "-0.0"])),
        1 => Tree::Digits(dice.one_of(&["0", "7", "4111111111111111", "18446744073709551615"]).to_owned()),
        2 | 3 => Tree::Text(dice.one_of(TEXTS).to_owned()),
        4 | 5 => Tree::Array((0..dice.below(4)).map(|_| tree(dice, depth - 1)).collect()),
        _ => {
            let mut members: Vec<(String, Tree)> = Vec::new();
            for _ in 0..dice.below(5) {
                let name = dice.one_of(NAMES).to_owned();
                if !members.iter().any(|(known, _)| *known == name) {
                    members.push((name, tree(dice, depth - 1)));
                }
            }
            Tree::Object(members)
        }
    }
}

fn render(dice: &mut Dice, tree: &Tree, out: &mut String) {
    space(dice, out);
    match tree {
        Tree::Other(text) => out.push_str(text),
        Tree::Digits(text) => out.push_str(text),
        Tree::Text(text) => quote(dice, text, out),
        Tree::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                render(dice, element, out);
            }
            space(dice, out);
            out.push(']');
        }
        Tree::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                space(dice, out);
                quote(dice, name, out);
                space(dice, out);
                out.push(':');
                render(dice, value, out);
            }
            space(dice, out);
            out.push('}');
        }
    }
    space(dice, out);
}

fn space(dice: &mut Dice, out: &mut String) {
    out.push_str(dice.one_of(&["", "", "", " ", "\n", "\t\r\n "]));
}

fn quote(dice: &mut Dice, text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if dice.below(4) == 0 || character.is_control() || matches!(character, '"' | '\\') {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").unwrap();
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

/// The reference: evaluates the steps over the tree and marks the values they name, in document order.
fn marks(tree: &Tree, positions: &[(usize, &[Step])], out: &mut Vec<(Vec<usize>, Tree)>) {
    let children: Vec<(Option<&str>, u64, &Tree)> = match tree {
        Tree::Array(elements) => {
            elements.iter().zip(0..).map(|(element, index)| (None, index, element)).collect()
        }
        Tree::Object(members) => {
            members.iter().map(|(name, value)| (Some(name.as_str()), 0, value)).collect()
        }
        Tree::Other(_) | Tree::Digits(_) | Tree::Text(_) => Vec::new(),
    };
    for (name, index, child) in children {
        let mut claims = Vec::new();
        let mut inside: Vec<(usize, &[Step])> = Vec::new();
        for (field, steps) in positions {
            let (Step::Child(picks) | Step::Descendant(picks)) = &steps[0];
            if matches!(steps[0], Step::Descendant(_)) {
                inside.push((*field, steps));
            }
            let picked = picks.iter().any(|pick| match pick {
                Pick::Any => true,
                Pick::Name(wanted) => name == Some(wanted),
                Pick::Index(wanted) => name.is_none() && *wanted == index,
            });
            match (picked, &steps[1..]) {
                (false, _) => {}
                (true, []) => claims.push(*field),
                (true, rest) => inside.push((*field, rest)),
            }
        }
        claims.sort_unstable();
        claims.dedup();
        if claims.is_empty() {
            marks(child, &inside, out);
        } else {
            out.push((claims, child.clone()));
        }
    }
}

const DECLARED: &[&[&str]] = &[
    &["$.pan"],
    &["$..pan", "$.card.a"],
    &["$.card[*]", "$[0]"],
    &["$[*][1]", "$['x y']..b"],
    &["$..card..pan", "$['a','b']"],
    &["$..*"],
];

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let document = tree(&mut dice, 4);
    let mut body = String::new();
    render(&mut dice, &document, &mut body);
    let declared = dice.one_of(DECLARED);
    let parsed: Vec<_> = declared.iter().map(|text| JsonSelector::parse(text).unwrap()).collect();
    let positions: Vec<_> =
        parsed.iter().enumerate().map(|(field, selector)| (field, selector.segments())).collect();
    let mut marked = Vec::new();
    marks(&document, &positions, &mut marked);
    let readable = |tree: &Tree| match tree {
        Tree::Text(text) | Tree::Digits(text) => Some(text.clone()),
        Tree::Other(_) | Tree::Array(_) | Tree::Object(_) => None,
    };
    let expected: Option<Vec<_>> = marked
        .iter()
        .map(|(claims, value)| if let [field] = claims[..] { Some((field, readable(value)?)) } else { None })
        .collect();
    let leaves = found(&body, declared);
    let Some(expected) = expected else {
        assert!(matches!(leaves, Err(BodyError::Field(_))), "seed {seed}: {body}");
        return;
    };
    let leaves = leaves.unwrap_or_else(|error| panic!("seed {seed}: {error}: {body}"));
    let texts: Vec<_> = leaves.iter().map(|(field, _, text)| (*field, text.clone())).collect();
    assert_eq!(texts, expected, "seed {seed}: {body}");
    rewritten_in_place(seed, &body, &leaves);
}

/// Replaces every found field and checks that all bytes outside are the same, and that it is still JSON.
fn rewritten_in_place(seed: u64, body: &str, leaves: &[(usize, Range<usize>, String)]) {
    let text = "tok_dev_\"\u{e9}\n";
    let edits: Vec<_> = leaves
        .iter()
        .map(|(_, span, _)| Edit {
            span: span.clone(),
            text: Some(Zeroizing::new(text.to_owned())),
            writing: Writing::Json,
        })
        .collect();
    let edited = apply(body.as_bytes(), &edits).unwrap();
    let (mut before, mut after) = (0, 0);
    for (edit, span) in edits.iter().zip(&edited.spans) {
        assert_eq!(
            &body.as_bytes()[before..edit.span.start],
            &edited.bytes[after..span.start],
            "seed {seed}"
        );
        assert_eq!(serde_json::from_slice::<String>(&edited.bytes[span.clone()]).unwrap(), text);
        (before, after) = (edit.span.end, span.end);
    }
    assert_eq!(&body.as_bytes()[before..], &edited.bytes[after..], "seed {seed}");
    assert!(serde_json::from_slice::<serde_json::Value>(&edited.bytes).is_ok(), "seed {seed}");
}

#[test]
fn ten_thousand_generated_documents_agree_with_the_tree() {
    (0..10_000).for_each(check);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(body in ".{0,64}") {
        if let Ok(leaves) = locate(&body, &selectors(&["$..a", "$[*]"]), &mut |_| ()) {
            for leaf in leaves {
                prop_assert!(body.get(leaf.span).is_some());
            }
        }
    }

    #[test]
    fn a_broken_document_is_never_half_read(seed: u64, cut in any::<prop::sample::Index>()) {
        let mut dice = Dice(seed);
        let mut body = String::new();
        let document = Tree::Object(vec![("k".to_owned(), tree(&mut dice, 3))]);
        render(&mut dice, &document, &mut body);
        let body = body.trim_ascii();
        let cut = cut.index(body.len());
        if let Some(part) = body.get(..cut) {
            prop_assert!(found(part, &["$..pan"]).is_err());
        }
    }
}
