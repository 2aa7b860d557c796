//! Which items a cell needs: a session that has defined much does not compile all of it again for each cell.
//!
//! ```text
//! words of the cell and of its variables' types ┐
//! what the cell itself defines, and its users   ┴▶ items called so ─▶ the words in them ─▶ items called so ─▶ …
//! ```
//! Names are compared as words, not by what they mean: so too many items are taken rather than too few. An item is taken if it is
//! called anything that is said, a trait also for a method of it, an `impl` for a type or trait of the session in its head.
//! What words can't show (a name that a macro puts together) the compiler misses; then the cell is compiled with everything.

use std::collections::{BTreeMap, BTreeSet};

use ra_ap_syntax::ast::{self, HasName};

use super::items::{Item, Items, Key, words};

/// Leaving out less than this many bytes of code is not worth a second compilation of a cell that is wrong.
const WORTH: usize = 2048;

/// Who needs an item, and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    needed: Needed,
    /// The words in it.
    words: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Needed {
    /// By every cell: imports, and what has no name.
    #[default]
    Always,
    /// By whoever says one of these.
    ByName(BTreeSet<String>),
    /// By whoever needs one of those items of the session that are named so.
    With(BTreeSet<String>),
}

/// What a cell did to the items.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    /// What it defines.
    defined: BTreeSet<String>,
    /// Those of them that were not there before, or not so.
    changed: BTreeSet<String>,
    /// It may change what any other item means: a new trait or implementation of one, a glob import, an attribute.
    pub everything: bool,
}

impl Reach {
    pub(super) fn of(item: &ast::Item, key: &Key, code: &str) -> Reach {
        let owned = |text: &str| words(text).map(str::to_owned).collect::<BTreeSet<String>>();
        let needed = match (item, key) {
            (ast::Item::Use(_), _) | (_, Key::Text) => Needed::Always,
            (_, Key::Impl { header, .. }) => Needed::With(owned(header)),
            // A macro in it may be for the items that follow.
            (ast::Item::Module(_), _) if code.contains("macro_rules") => Needed::Always,
            (ast::Item::Trait(item), Key::Name(name)) => {
                let list = item.assoc_item_list().into_iter();
                let names = list.flat_map(|list| list.assoc_items()).filter_map(|item| {
                    let name = match item {
                        ast::AssocItem::Const(item) => item.name(),
                        ast::AssocItem::Fn(item) => item.name(),
                        ast::AssocItem::TypeAlias(item) => item.name(),
                        ast::AssocItem::MacroCall(_) => None,
                    };
                    name.map(|name| name.text().trim_start_matches("r#").to_owned())
                });
                Needed::ByName(names.chain([bare(name).to_owned()]).collect())
            }
            (_, Key::Name(name) | Key::Macro(name)) => {
                Needed::ByName(BTreeSet::from([bare(name).to_owned()]))
            }
        };
        Reach {
            needed,
            words: owned(code),
        }
    }
}

impl Item {
    /// What it is called, for types and traits in the heads of `impl`s.
    fn name(&self) -> Option<&str> {
        match (&self.key, &self.reach.needed) {
            (Key::Name(name) | Key::Macro(name), Needed::ByName(_)) => Some(bare(name)),
            _ => None,
        }
    }
}

impl Touched {
    /// Notes an item of the cell, which may have stood there before, word for word.
    pub(super) fn note(&mut self, item: &Item, known: bool) {
        let names: BTreeSet<String> = match (&item.key, &item.reach.needed) {
            (_, Needed::With(head)) => head.clone(),
            (Key::Name(name) | Key::Macro(name), _) => BTreeSet::from([bare(name).to_owned()]),
            _ => BTreeSet::new(),
        };
        self.defined.extend(names.iter().cloned());
        if known {
            return;
        }
        self.changed.extend(names);
        self.everything |= match (&item.key, &item.reach.needed) {
            (Key::Impl { of_trait, .. }, _) => *of_trait,
            (Key::Text, _) => true,
            // A trait's methods are new names too.
            (_, Needed::ByName(names)) => names.len() > 1 || item.code.contains("trait "),
            _ => false,
        };
    }
}

impl Items {
    /// The items that a cell with these words needs, if that is much less than all.
    pub(crate) fn needed<'a>(&'a self, said: impl IntoIterator<Item = &'a str>) -> Option<Items> {
        if self.touched.everything {
            return None;
        }
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, item) in self.items.iter().enumerate() {
            if let Needed::ByName(names) = &item.reach.needed {
                for name in names {
                    by_name.entry(name).or_default().push(place);
                }
            }
        }
        let own: BTreeSet<&str> = self.items.iter().filter_map(|item| item.name()).collect();
        // The `impl`s of each type and trait of the session, and the items that are always there.
        let mut with: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut found: Vec<usize> = Vec::new();
        for (place, item) in self.items.iter().enumerate() {
            let heads: Vec<&str> = match &item.reach.needed {
                Needed::ByName(_) => continue,
                Needed::Always => Vec::new(),
                Needed::With(head) => {
                    let head = head.iter().map(String::as_str);
                    head.filter(|word| own.contains(word)).collect()
                }
            };
            if heads.is_empty() {
                found.push(place);
            }
            for name in heads {
                with.entry(name).or_default().push(place);
            }
        }
        let users = self.users();
        let mut taken = vec![false; self.items.len()];
        let mut heard: BTreeSet<&str> = BTreeSet::new();
        let mut said: Vec<&str> = said.into_iter().collect();
        said.extend(self.touched.defined.iter().map(String::as_str));
        found.extend(users);
        loop {
            while let Some(place) = found.pop() {
                let Some(item) = self.items.get(place) else {
                    continue;
                };
                if std::mem::replace(&mut taken[place], true) {
                    continue;
                }
                said.extend(item.reach.words.iter().map(String::as_str));
                let with = item.name().and_then(|name| with.get(name));
                found.extend(with.into_iter().flatten());
            }
            let Some(word) = said.pop() else { break };
            if heard.insert(word) {
                found.extend(by_name.get(word).into_iter().flatten());
            }
        }
        let left_out = self.items.iter().zip(&taken).filter(|(_, taken)| !**taken);
        let saved: usize = left_out.map(|(item, _)| item.code.len()).sum();
        if saved < WORTH {
            return None;
        }
        let kept = self.items.iter().zip(&taken).filter(|(_, taken)| **taken);
        Some(Items {
            items: kept.map(|(item, _)| item.clone()).collect(),
            attributes: self.attributes.clone(),
            touched: Touched::default(),
        })
    }

    /// Where the items stand that may no longer compile because of what the cell defines anew: those that say its name, and
    /// those that say theirs.
    fn users(&self) -> BTreeSet<usize> {
        let mut names: BTreeSet<&str> = self.touched.changed.iter().map(String::as_str).collect();
        let mut users: BTreeSet<usize> = BTreeSet::new();
        loop {
            let before = users.len();
            for (place, item) in self.items.iter().enumerate() {
                if item.reach.needed != Needed::Always
                    && item
                        .reach
                        .words
                        .iter()
                        .any(|word| names.contains(word.as_str()))
                    && users.insert(place)
                {
                    names.extend(item.name());
                }
            }
            if users.len() == before {
                return users;
            }
        }
    }
}

/// A name without the mark of a raw identifier, as it stands among the words.
fn bare(name: &str) -> &str {
    name.trim_start_matches("r#")
}

#[cfg(test)]
mod tests {
    use ra_ap_syntax::AstNode as _;

    use super::*;
    use crate::session::syntax;

    /// A session that has defined much, after the last of these cells.
    fn session(cells: &[&str]) -> Items {
        let mut items = Items::default();
        let filler: String = (0..WORTH / 20)
            .map(|n| format!("fn filler_{n}() -> usize {{ {n} }}\n"))
            .collect();
        for cell in [filler.as_str()].iter().chain(cells) {
            items.settle();
            for statement in syntax::statements(cell) {
                let item = ast::Item::cast(statement.node.clone()).expect("an item");
                items.add(&item, statement.code);
            }
        }
        items
    }

    /// The items that a cell in it needs.
    fn needed(cells: &[&str], cell: &str) -> String {
        let mut items = session(cells);
        items.settle();
        let needed = items.needed(words(cell)).expect("much is left out");
        let code = needed.code();
        assert!(!code.contains("filler"), "{code}");
        code
    }

    #[test]
    fn what_is_called_is_needed_with_what_it_calls() {
        let cells = [
            "use std::fmt;\nfn a() { b(); }\nfn b() -> C { C }\nstruct C;\nfn d() {}",
            "impl C { fn e(&self) -> F { F } }\nstruct F;\nstruct G;\nimpl fmt::Debug for G {}\nimpl From<G> for F {}",
        ];
        let code = needed(&cells, "a()");
        for part in [
            "use std::fmt",
            "fn a",
            "fn b",
            "struct C",
            "impl C",
            "struct F",
            "impl From<G>",
            "struct G",
        ] {
            assert!(code.contains(part), "{part}: {code}");
        }
        assert!(!code.contains("fn d"), "{code}");
        let code = needed(&cells, "1 + 1");
        assert_eq!(code, "use std::fmt;\n");
    }

    #[test]
    fn a_trait_is_needed_for_its_methods_and_brings_its_implementations() {
        let cells = [
            "trait Area { fn area(&self) -> f64; }\nimpl Area for f64 { fn area(&self) -> f64 { side() } }\nfn side() -> f64 { 1.0 }",
        ];
        let code = needed(&cells, "println!(\"{}\", 2.0.area());");
        assert!(
            code.contains("impl Area for f64") && code.contains("fn side"),
            "{code}"
        );
        assert_eq!(needed(&cells, "2.0f64"), "");
    }

    #[test]
    fn names_in_format_strings_macros_and_raw_names_are_heard() {
        let cells =
            ["static COUNT: u8 = 1;\nfn r#type() {}\nmacro_rules! m { () => { r#type() } }"];
        assert!(needed(&cells, "println!(\"{COUNT}\")").contains("COUNT"));
        let code = needed(&cells, "m!()");
        assert!(
            code.contains("macro_rules! m") && code.contains("fn r#type"),
            "{code}"
        );
    }

    #[test]
    fn a_function_defined_anew_is_compiled_with_those_that_call_it() {
        let cells = [
            "fn a() -> u8 { 1 }\nfn b() -> u8 { a() }\nfn c() -> u8 { b() }\nfn other() {}",
            "fn a() -> u16 { 1 }",
        ];
        let items = session(&cells);
        let code = items.needed([]).expect("much is left out").code();
        assert!(
            code.contains("u16") && code.contains("fn c") && !code.contains("other"),
            "{code}"
        );
        // The same cell again changes nothing.
        let items = session(&[cells[0], cells[1], cells[1]]);
        let code = items.needed([]).expect("much is left out").code();
        assert!(code.contains("u16") && !code.contains("fn b"), "{code}");
    }

    #[test]
    fn a_cell_that_may_change_what_others_mean_is_compiled_with_everything() {
        for cell in [
            "trait T { fn a(&self) {} }",
            "impl Clone for S {}",
            "use std::fmt::*;",
        ] {
            assert!(session(&["struct S;", cell]).needed([]).is_none(), "{cell}");
        }
        assert!(
            session(&["struct S;", "impl S { fn a() {} }"])
                .needed([])
                .is_some()
        );
    }

    #[test]
    fn little_is_not_left_out() {
        let mut items = Items::default();
        for statement in syntax::statements("fn a() {}\nfn b() {}") {
            let item = ast::Item::cast(statement.node.clone()).expect("an item");
            items.add(&item, statement.code);
        }
        items.settle();
        assert!(items.needed(["a"]).is_none());
    }
}
