//! Cells → the source of a program that does the same.
//!
//! Items (functions, types, imports) stand once at the top of the file: when cells define a name again, the last definition
//! serves all, as it does in a session for all cells that run afterwards. Statements follow each other in `main`, and a
//! cell's last expression is shown as the session shows it. A cell whose variables did not all outlive it (a closure, a guard of a
//! lock) becomes a block that hands on those that did. `:dep` lines become dependencies.

use std::collections::{BTreeMap, BTreeSet};

use ra_ap_syntax::AstNode;
use ra_ap_syntax::ast;

use super::parse;
use crate::session::cell_log::definitions;
use crate::session::engine::namespaces::{Spaces, defined};
use crate::session::syntax;

/// A cell that ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    pub code: &'a str,
    /// Variables of it that were not there any more when it had ended.
    pub gone: &'a BTreeSet<String>,
    /// Which of its statements are calls of macros that make items, and the names of those with their namespaces.
    pub calls: &'a BTreeMap<usize, BTreeMap<String, Spaces>>,
}

/// A program and what it needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// The text of `main.rs`.
    pub source: String,
    /// Names and lines for `[dependencies]`, without the prelude.
    pub dependencies: BTreeMap<String, String>,
    /// What the program does otherwise than the session, for the user.
    pub notes: Vec<String>,
}

/// What stands at the top of the file.
const HEAD: &str = "\
#![allow(unused)]

use glassbox_prelude::cell::ShowDebug as _;
use glassbox_prelude::display::EvcxrDisplay as _;
use glassbox_prelude::prelude::*;
";
const MAIN: &str = "\nfn main() -> std::result::Result<(), Failed_> {\n";
/// The end of the file. As in a session, `?` takes whatever can say what is wrong, borrowing errors too.
const TAIL: &str = "\
Ok(())
}

/// What `?` makes of an error: its message.
#[allow(non_camel_case_types)]
struct Failed_(String);

impl<E: std::fmt::Display> From<E> for Failed_ {
    fn from(error: E) -> Self {
        Failed_(format!(\"{error:#}\"))
    }
}

impl std::fmt::Debug for Failed_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
";

/// What makes two items the same: a word for a namespace and the name, or no word and a text.
type Key = (&'static str, String);

#[derive(Default)]
struct Items {
    /// Text of each item in the order of the first definition.
    texts: Vec<String>,
    /// Where what a key stands for is in `texts`.
    places: BTreeMap<Key, usize>,
    redefined: Vec<String>,
}

/// Puts the program together, without the items that are set `aside`: the text of each, and what is said of it.
pub(super) fn program(cells: &[Cell<'_>], aside: &[(String, String)]) -> Result<Program, String> {
    let mut items = Items::default();
    let mut main = String::new();
    let mut dependencies: BTreeMap<String, String> = BTreeMap::new();
    let mut notes = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let code = cell.code;
        let (lines, rust) = parse(code);
        let rust = &code[rust..];
        for line in lines {
            let written = code[line.range.clone()].trim();
            match line.command.map(|command| command.words[0]) {
                Ok(":dep") => match dependency(line.arguments) {
                    Some((name, line)) => drop(dependencies.insert(name, line)),
                    None => notes.push(format!("`{written}` was left out")),
                },
                _ => notes.push(format!("`{written}` was left out: it is for the session")),
            }
        }
        let mut body = String::new();
        let statements = syntax::statements(rust);
        let last = statements.len().saturating_sub(1);
        for (place, statement) in statements.iter().enumerate() {
            let text = statement.code;
            match ast::Item::cast(statement.node.clone()) {
                _ if cell.calls.contains_key(&place) => {
                    let names = &cell.calls[&place];
                    let end = if text.trim_end().ends_with([';', '}']) {
                        ""
                    } else {
                        "\n;"
                    };
                    items.put(keys(names), &format!("{}{end}", text.trim_end()));
                }
                Some(item) if !matches!(item, ast::Item::MacroCall(_)) => items.add(&item, text),
                _ if place == last && ast::Expr::can_cast(statement.node.kind()) => {
                    body += &shown(text);
                }
                _ => body += text,
            }
        }
        if !body.trim().is_empty() {
            let body = handing_on(cell, body.trim_end());
            main += &format!("// cell {}\n{body}\n\n", number + 1);
        }
    }
    if items.places.contains_key(&("value", "main".to_owned())) {
        return Err(
            "a cell defines `main`, and the program needs that name for itself; rename it"
                .to_owned(),
        );
    }
    if main.contains(".await") {
        notes.push(
            "`.await` in a cell needs a runtime, which the program does not start".to_owned(),
        );
    }
    for name in &items.redefined {
        notes.push(format!(
            "`{name}` was defined more than once: its last definition serves the whole program"
        ));
    }
    for text in &mut items.texts {
        let mut found = aside.iter();
        if let Some((_, said)) = found.find(|(code, _)| is_same(code, text)) {
            notes.push(format!("left out: {said}"));
            text.clear();
        }
    }
    let mut source = HEAD.to_owned();
    for item in items.texts.iter().filter(|text| !text.is_empty()) {
        source += &format!("\n{}\n", item.trim());
    }
    source += MAIN;
    source += &main;
    source += TAIL;
    Ok(Program {
        source,
        dependencies,
        notes,
    })
}

/// Whether two texts of an item are one, whatever stands around it.
fn is_same(one: &str, other: &str) -> bool {
    let bare = |text: &str| text.trim().trim_end_matches(';').trim_end().to_owned();
    !other.trim().is_empty() && bare(one) == bare(other)
}

/// The statements of a cell, in a block if variables of it end with it.
fn handing_on(cell: &Cell<'_>, body: &str) -> String {
    if cell.gone.is_empty() {
        return body.to_owned();
    }
    let kept: BTreeMap<String, bool> = definitions(cell.code)
        .into_iter()
        .filter(|(name, _)| !cell.gone.contains(name))
        .collect();
    let listed = |mark: bool| {
        let names = kept.iter().map(|(name, mutable)| match mark && *mutable {
            true => format!("mut {name}, "),
            false => format!("{name}, "),
        });
        names.collect::<String>()
    };
    // A comment at the end must not swallow the value.
    match kept.is_empty() {
        true => format!("{{\n{body}\n}}"),
        false => format!(
            "let ({}) = {{\n{body}\n({})\n}};",
            listed(true),
            listed(false)
        ),
    }
}

impl Items {
    fn add(&mut self, item: &ast::Item, text: &str) {
        // Imports and implementations have no name: what makes them the same is their head or their text.
        let keys = match (item, defined(item)) {
            (_, Some((name, spaces))) => keys(&BTreeMap::from([(name, spaces)])),
            (ast::Item::Impl(item), _) => {
                let head = item.syntax().text().to_string();
                let key = head.split('{').next().unwrap_or_default().trim().to_owned()
                    + inherent_mark(item, &head);
                vec![("", key)]
            }
            _ => vec![("", item.syntax().text().to_string())],
        };
        self.put(keys, text);
    }

    /// Puts an item in the place of the first that has one of its keys; others that have one go.
    fn put(&mut self, keys: Vec<Key>, text: &str) {
        let mut before: Vec<usize> = keys
            .iter()
            .filter_map(|key| self.places.get(key).copied())
            .collect();
        before.sort_unstable();
        before.dedup();
        let place = before.first().copied().unwrap_or(self.texts.len());
        self.texts
            .resize(self.texts.len().max(place + 1), String::new());
        let again = self.texts[place].trim() == text.trim();
        if !before.is_empty() && !again {
            let names = keys.iter().filter(|key| self.places.contains_key(*key));
            self.redefined
                .extend(names.map(|(_, name)| name.clone()).take(1));
        }
        for gone in before {
            self.texts[gone].clear();
            self.places.retain(|_, place| *place != gone);
        }
        self.texts[place] = text.to_owned();
        self.places.extend(keys.into_iter().map(|key| (key, place)));
    }
}

/// What names are kept by: each once for each of its namespaces.
fn keys(names: &BTreeMap<String, Spaces>) -> Vec<Key> {
    let names = names.iter();
    names
        .flat_map(|(name, spaces)| spaces.each().map(move |word| (word, name.clone())))
        .collect()
}

/// Two inherent implementations of a type may stand side by side: their text tells them apart.
fn inherent_mark<'a>(item: &ast::Impl, text: &'a str) -> &'a str {
    if item.trait_().is_some() { "" } else { text }
}

/// The value of a last expression, shown as a session shows it.
fn shown(text: &str) -> String {
    let end = text.trim_end().len();
    // A comment after the value must not swallow the closing brackets.
    format!("(&(\n{}\n)).evcxr_display();", &text[..end])
}

/// Name and manifest line of `:dep regex = "1"`.
fn dependency(text: &str) -> Option<(String, String)> {
    let (name, config) = match text.split_once('=') {
        Some((name, config)) => (name.trim(), config.trim().to_owned()),
        None => (text.trim(), "\"*\"".to_owned()),
    };
    let named = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || "_-".contains(c));
    named.then(|| (name.to_owned(), format!("{name} = {config}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program of cells whose variables all outlived them.
    fn program_of(cells: &[&str]) -> Result<Program, String> {
        let (gone, calls) = (BTreeSet::new(), BTreeMap::new());
        let cells = cells.iter().map(|&code| Cell {
            code,
            gone: &gone,
            calls: &calls,
        });
        program(&cells.collect::<Vec<_>>(), &[])
    }

    #[test]
    fn variables_that_end_with_their_cell_end_with_a_block() {
        let gone = BTreeSet::from(["guard".to_owned()]);
        let calls = BTreeMap::new();
        let cell = |code| Cell {
            code,
            gone: &gone,
            calls: &calls,
        };
        let cells = [
            cell("let guard = lock.lock()?; // held\nlet mut a = *guard;\nlet b = 1;"),
            cell("let guard = lock.lock()?;\n*guard"),
        ];
        let source = program(&cells, &[]).unwrap().source;
        assert!(
            source.contains("let (mut a, b, ) = {\nlet guard"),
            "{source}"
        );
        assert!(source.contains("let b = 1;\n(a, b, )\n};"), "{source}");
        assert!(source.contains("// cell 2\n{\nlet guard"), "{source}");
    }

    #[test]
    fn items_go_to_the_top_and_statements_to_main() {
        let cells = [
            ":dep regex = \"1\"\nuse std::fmt::Write as _;\nlet a = 1;",
            "fn twice(x: i32) -> i32 { x * 2 }\nlet b = twice(a);\nb // the value",
            "println!(\"{b}\");",
        ];
        let found = program_of(&cells).unwrap();
        assert_eq!(found.dependencies["regex"], "regex = \"1\"");
        assert_eq!(found.notes, [""; 0]);
        let main = found.source.find("fn main()").unwrap();
        let at = |text: &str| found.source.find(text).unwrap();
        assert!(at("fn twice") < main && at("use std::fmt::Write") < main);
        assert!(main < at("let a = 1;") && at("let a = 1;") < at("let b = twice(a);"));
        assert!(
            found
                .source
                .contains("(&(\nb // the value\n)).evcxr_display();"),
            "{}",
            found.source
        );
        assert!(at("evcxr_display();\n\n// cell 3") > main);
    }

    #[test]
    fn the_last_definition_serves_all_and_is_told() {
        let cells = [
            "fn f() -> i32 { 1 }\nuse std::fmt;\nimpl A { fn a() {} }",
            "fn f() -> i32 { 2 }\nuse std::fmt;\nimpl A { fn b() {} }",
        ];
        let found = program_of(&cells).unwrap();
        assert!(!found.source.contains("{ 1 }") && found.source.contains("{ 2 }"));
        assert_eq!(found.source.matches("use std::fmt;").count(), 1);
        assert!(found.source.contains("fn a()") && found.source.contains("fn b()"));
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    }

    #[test]
    fn one_name_in_two_namespaces_is_two_items_and_calls_that_make_items_are_items() {
        let found = program_of(&["mod area {}\nfn area() {}", "fn area() -> u8 { 1 }"]).unwrap();
        assert!(found.source.contains("mod area {}") && found.source.contains("-> u8"));
        assert!(!found.source.contains("fn area() {}"), "{}", found.source);
        let gone = BTreeSet::new();
        let names = BTreeMap::from([("A".to_owned(), Spaces::TYPES.and(Spaces::VALUES))]);
        let calls = BTreeMap::from([(0, names)]);
        let cells = ["unit!(A)", "unit!(A, 2);\nlet a = A;"];
        let cells = cells.map(|code| Cell {
            code,
            gone: &gone,
            calls: &calls,
        });
        let found = program(&cells, &[]).unwrap();
        let main = found.source.find("fn main()").unwrap();
        assert!(found.source.find("unit!(A, 2);").unwrap() < main);
        assert!(!found.source.contains("unit!(A)"), "{}", found.source);
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    }

    #[test]
    fn what_is_for_the_session_is_told() {
        let found = program_of(&[":opt 2\n!ls\nlet a = 1;"]).unwrap();
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        assert!(program_of(&["fn main() {}"]).is_err());
    }
}
