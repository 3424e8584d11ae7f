//! A bundle with one rule less, for each of its rules: if every case still passes, no case tests that rule.
//!
//! Must never change more than one rule at a time. Tests: below, and `tests/tests/policy_test.rs`.

use cordon_policy::{Bundle, Statement};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// A changed bundle.
#[derive(Debug)]
pub(super) struct Mutant {
    /// The file that was changed.
    pub(super) file: String,
    /// What was changed in it.
    pub(super) change: String,
    /// The text of that file.
    text: String,
}

impl Mutant {
    /// The bundle's files with the change.
    pub(super) fn files(&self, files: &[(String, String)]) -> Vec<(String, String)> {
        let changed = |(name, text): &(String, String)| {
            let text = if *name == self.file { &self.text } else { text };
            (name.clone(), text.clone())
        };
        files.iter().map(changed).collect()
    }
}

/// Every change there is to try.
pub(super) fn mutants(files: &[(String, String)], bundle: &Bundle) -> Vec<Mutant> {
    let mut all = Vec::new();
    for (name, text) in files {
        let statements: Vec<_> = bundle.statements().filter(|statement| statement.file == *name).collect();
        all.extend(without_statements(name, text, &statements));
        let Ok(document) = text.parse::<DocumentMut>() else { continue };
        let mut found = Found { file: name, document: &document, all: &mut all };
        for plane in ["ingress", "egress"] {
            found.routes(plane);
        }
        found.services();
    }
    all
}

/// The text without one of its statements, for each.
fn without_statements(file: &str, text: &str, statements: &[&Statement]) -> Vec<Mutant> {
    let starts: Vec<usize> = statements.iter().map(|statement| offset(text, statement)).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let spans = starts.iter().copied().zip(ends);
    let mutant = |(statement, (start, end)): (&&Statement, (usize, usize))| {
        let (before, after) = (text.get(..start)?, text.get(end..)?);
        let change = format!("line {}: statement {} removed", statement.line, statement.id);
        Some(Mutant { file: file.to_owned(), change, text: format!("{before}{after}") })
    };
    statements.iter().zip(spans).filter_map(mutant).collect()
}

fn offset(text: &str, statement: &Statement) -> usize {
    let lines = text.split_inclusive('\n').take(statement.line.saturating_sub(1));
    lines.map(str::len).sum::<usize>().saturating_add(statement.column.saturating_sub(1))
}

/// What was found in one file.
struct Found<'a> {
    file: &'a str,
    document: &'a DocumentMut,
    all: &'a mut Vec<Mutant>,
}

impl Found<'_> {
    /// Keeps the document as a change leaves it.
    fn add(&mut self, change: String, edit: impl FnOnce(&mut DocumentMut) -> Option<()>) {
        let mut document = self.document.clone();
        if edit(&mut document).is_some() {
            self.all.push(Mutant { file: self.file.to_owned(), change, text: document.to_string() });
        }
    }

    fn routes(&mut self, plane: &'static str) {
        for (index, route) in tables(self.document, plane).iter().enumerate() {
            let name = named(route);
            self.add(format!("{plane} route {name} removed"), |document| remove(document, plane, index));
            for list in LISTS {
                for (number, element) in elements(route, list).enumerate() {
                    self.add(format!("{plane} route {name}: {element} removed from `{list}`"), |document| {
                        nth(document, plane, index)?.get_mut(list)?.as_array_mut()?.remove(number);
                        Some(())
                    });
                }
            }
            for part in PARTS {
                for (number, table) in inner(route, part).iter().enumerate() {
                    let what = described(table);
                    for place in places(table) {
                        self.add(
                            format!("{plane} route {name}: {part} {what} without `{place}`"),
                            |document| {
                                let tables =
                                    nth(document, plane, index)?.get_mut(part)?.as_array_of_tables_mut()?;
                                tables.get_mut(number)?.remove(place).map(drop)
                            },
                        );
                    }
                    self.add(format!("{plane} route {name}: {part} {what} removed"), |document| {
                        let tables = nth(document, plane, index)?.get_mut(part)?.as_array_of_tables_mut()?;
                        tables.remove(number);
                        Some(())
                    });
                }
            }
            for (key, weaker, strict) in WEAKER {
                if route.get(key).and_then(Item::as_str).is_none_or(|word| word == strict) {
                    self.add(format!("{plane} route {name}: `{key}` weakened to \"{weaker}\""), |document| {
                        nth(document, plane, index)?.insert(key, value(weaker));
                        Some(())
                    });
                }
            }
        }
    }

    fn services(&mut self) {
        for (index, service) in tables(self.document, "service").iter().enumerate() {
            let name = named(service);
            self.add(format!("service {name} removed"), |document| remove(document, "service", index));
            for list in ["collections", "destinations"] {
                for (number, element) in elements(service, list).enumerate() {
                    self.add(format!("service {name}: {element} removed from `{list}`"), |document| {
                        nth(document, "service", index)?.get_mut(list)?.as_array_mut()?.remove(number);
                        Some(())
                    });
                }
            }
        }
    }
}

fn tables<'d>(document: &'d DocumentMut, key: &str) -> Vec<&'d Table> {
    inner(document.as_table(), key)
}

fn inner<'d>(table: &'d Table, key: &str) -> Vec<&'d Table> {
    table.get(key).and_then(Item::as_array_of_tables).map(ArrayOfTables::iter).into_iter().flatten().collect()
}

fn nth<'d>(document: &'d mut DocumentMut, key: &str, index: usize) -> Option<&'d mut Table> {
    document.get_mut(key)?.as_array_of_tables_mut()?.get_mut(index)
}

fn remove(document: &mut DocumentMut, key: &str, index: usize) -> Option<()> {
    document.get_mut(key)?.as_array_of_tables_mut()?.remove(index);
    Some(())
}

fn named(table: &Table) -> String {
    table.get("name").and_then(Item::as_str).unwrap_or("without a name").to_owned()
}

/// The strings of a list of at least two: with its only one gone, a list is no list any more.
fn elements<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t str> {
    let list = table.get(key).and_then(Item::as_array).filter(|list| list.len() > 1);
    list.into_iter().flatten().filter_map(toml_edit::Value::as_str)
}

/// The places of a field that has more than one.
fn places(table: &Table) -> Vec<&'static str> {
    let found: Vec<_> = PLACES.into_iter().filter(|place| table.contains_key(place)).collect();
    if found.len() > 1 { found } else { Vec::new() }
}

/// A field or exception by its place.
fn described(table: &Table) -> String {
    let place = table.iter().find_map(|(key, item)| {
        PLACES.contains(&key).then(|| item.as_str().map(|text| format!("{key} {text}"))).flatten()
    });
    let op = table.get("op").and_then(Item::as_str).map(|op| format!(" ({op})")).unwrap_or_default();
    format!("{}{op}", place.unwrap_or_default())
}

/// Lists of a route whose elements are rules.
const LISTS: [&str; 5] = ["hosts", "methods", "services", "content", "pass_headers"];
/// Parts of a route that are rules.
const PARTS: [&str; 3] = ["field", "answer", "exception"];
/// Words with a weaker one, and the one that is meant when they are left out.
const WEAKER: [(&str, &str, &str); 2] = [("on_leak", "mask", "deny"), ("look_inside", "off", "deny")];
const PLACES: [&str; 11] =
    ["json", "form", "xml", "csv", "fixed", "text", "header", "cookie", "query", "path", "basic"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped() -> (Vec<(String, String)>, Bundle) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        (Bundle::read(&dir).unwrap(), Bundle::load(&dir).unwrap())
    }

    #[test]
    fn each_changes_one_file_and_leaves_the_others_alone() {
        let (files, bundle) = shipped();
        let all = mutants(&files, &bundle);
        assert!(all.len() > 50, "{}", all.len());
        for mutant in &all {
            let changed = mutant.files(&files);
            let differ: Vec<_> =
                files.iter().zip(&changed).filter(|(before, after)| before != after).collect();
            assert_eq!(differ.len(), 1, "{}", mutant.change);
        }
        let changes: Vec<&str> = all.iter().map(|mutant| mutant.change.as_str()).collect();
        for wanted in [
            "ingress route signup removed",
            "ingress route signup: json removed from `content`",
            "ingress route signup: `on_leak` weakened to \"mask\"",
            "ingress route signup: field json $.card.number (tokenize) removed",
            "service signup removed",
        ] {
            assert!(changes.contains(&wanted), "{wanted}: {changes:#?}");
        }
        assert!(changes.iter().any(|change| change.contains("statement ")), "{changes:?}");
    }

    #[test]
    fn a_statement_goes_with_its_annotation_and_the_others_stay() {
        let (files, bundle) = shipped();
        let statements = bundle.statements().count();
        let all = mutants(&files, &bundle);
        let without: Vec<_> = all.iter().filter(|mutant| mutant.change.contains("statement ")).collect();
        assert_eq!(without.len(), statements);
        for mutant in without {
            let owned = mutant.files(&files);
            let files: Vec<_> = owned.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            let left = Bundle::parse(&files, Path::new("/")).map(|bundle| bundle.statements().count());
            assert_eq!(left.ok(), Some(statements - 1), "{}", mutant.change);
        }
    }
}
