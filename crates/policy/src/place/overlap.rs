//! Whether two places can be the same bytes of one message.
//!
//! Must never say no when they can; it may say yes when they cannot. Two expressions over a plain text are told apart by
//! their text alone: where they meet in a message, its parser refuses it. Tests: here.

use std::collections::BTreeSet;

use super::{FixedColumns, Places};
use crate::selector::{Pick, Step};

impl Places {
    /// Whether a field at these places can share bytes with one at those.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        let json = self.json.as_ref().zip(other.json.as_ref());
        let xml = self.xml.as_ref().zip(other.xml.as_ref());
        let fixed = self.fixed.as_ref().zip(other.fixed.as_ref());
        let same = |one: &Option<String>, two: &Option<String>| one.is_some() && one == two;
        json.is_some_and(|(one, two)| meet(one.segments(), two.segments()))
            || xml.is_some_and(|(one, two)| meet(one.steps(), two.steps()))
            || fixed.is_some_and(|(one, two)| columns_meet(one, two))
            || same(&self.form, &other.form)
            || same(&self.csv, &other.csv)
            || self.text.is_some() && self.text == other.text
            || self.head.is_some() && self.head == other.head
    }
}

/// Whether some value is named by both: both are followed at once, each pair of positions once.
fn meet(one: &[Step], two: &[Step]) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![(0_usize, 0_usize)];
    while let Some((at, other)) = open.pop() {
        if at == one.len() && other == two.len() {
            return true;
        }
        let (Some(step), Some(with)) = (one.get(at), two.get(other)) else { continue };
        if !seen.insert((at, other)) {
            continue;
        }
        let (next, beyond) = (at.saturating_add(1), other.saturating_add(1));
        let (picks, others) = (picks(step), picks(with));
        if picks.iter().any(|pick| others.iter().any(|other| same_child(pick, other))) {
            open.push((next, beyond));
        }
        // A descendant may lie deeper than the step that leads there.
        if matches!(step, Step::Descendant(_)) {
            open.push((at, beyond));
        }
        if matches!(with, Step::Descendant(_)) {
            open.push((next, other));
        }
    }
    false
}

fn picks(step: &Step) -> &[Pick] {
    match step {
        Step::Child(picks) | Step::Descendant(picks) => picks,
    }
}

fn same_child(one: &Pick, two: &Pick) -> bool {
    matches!(one, Pick::Any) || matches!(two, Pick::Any) || one == two
}

fn columns_meet(one: &FixedColumns, two: &FixedColumns) -> bool {
    let (first, second) = (one.columns(), two.columns());
    let lines = one.lines.starts_with(&two.lines) || two.lines.starts_with(&one.lines);
    lines && first.start < second.end && second.start < first.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{HeadPlace, TextSelector, XmlSelector};
    use crate::selector::JsonSelector;

    fn json(text: &str) -> Places {
        Places { json: Some(JsonSelector::parse(text).unwrap()), ..Places::default() }
    }

    fn xml(text: &str) -> Places {
        Places { xml: Some(XmlSelector::parse(text).unwrap()), ..Places::default() }
    }

    fn fixed(text: &str) -> Places {
        Places { fixed: Some(FixedColumns::parse(text).unwrap()), ..Places::default() }
    }

    #[test]
    fn selectors_that_can_name_one_value_overlap() {
        for (one, two) in [
            ("$.card.number", "$.card.number"),
            ("$..number", "$.card.number"),
            ("$.card.*", "$.card.number"),
            ("$.card['a','number']", "$.card.number"),
            ("$..card..number", "$.a.card.b.c.number"),
            ("$..a.b", "$..b"),
            ("$..a", "$..*"),
            ("$.a[*]", "$.a[3]"),
            ("$..x.y", "$.q..y"),
        ] {
            assert!(json(one).overlap(&json(two)) && json(two).overlap(&json(one)), "{one} {two}");
        }
        for (one, two) in [
            ("$.order.number", "$.card.number"),
            ("$..number", "$.card.code"),
            ("$.card", "$.card.number"),
            ("$.a[0]", "$.a[1]"),
            ("$.a[0]", "$.a.b"),
            ("$..a.b", "$..c"),
            ("$.order..id", "$.card..id"),
        ] {
            assert!(!json(one).overlap(&json(two)) && !json(two).overlap(&json(one)), "{one} {two}");
        }
    }

    #[test]
    fn places_of_different_kinds_do_not_and_equal_ones_do() {
        assert!(xml("//number").overlap(&xml("/order/card/number")));
        assert!(!xml("/order/@id").overlap(&xml("/order/card/@id")));
        for (one, two, wanted) in [
            ("11-29", "29-40", true),
            ("11-29", "30-40", false),
            ("D:11-29", "11-20", true),
            ("D:11-29", "E:11-29", false),
        ] {
            assert_eq!(fixed(one).overlap(&fixed(two)), wanted, "{one} {two}");
        }
        let form = |name: &str| Places { form: Some(name.to_owned()), ..Places::default() };
        let head =
            |name: &str| Places { head: Some(HeadPlace::Header(name.to_owned())), ..Places::default() };
        let text =
            |text: &str| Places { text: Some(TextSelector::parse(text).unwrap()), ..Places::default() };
        assert!(form("a").overlap(&form("a")) && !form("a").overlap(&form("b")));
        assert!(head("a").overlap(&head("a")) && !head("a").overlap(&head("b")));
        assert!(text("(?<a>x)").overlap(&text("(?<a>x)")) && !text("(?<a>x)").overlap(&text("(?<a>y)")));
        assert!(!Places::default().overlap(&Places::default()) && !form("a").overlap(&head("a")));
    }
}
