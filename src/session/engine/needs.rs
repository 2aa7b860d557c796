//! Which items a cell needs: a session that has defined much does not compile all of it again for each cell.
//!
//! ```text
//! words of the cell and of its variables' types ┐
//! what the cell itself defines, and its users   ┴▶ items called so ─▶ the words in them ─▶ items called so ─▶ …
//! ```
//! Names are compared as words, not by what they mean: so too many items are taken rather than too few. An item is taken if it is
//! called anything that is said, a trait also for a method of it, an `impl` for a type or trait of the session in its head, a call of
//! a macro for all that it makes.
//! What words can't show (a name that a macro puts together) the compiler misses; then the cell is compiled with everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ra_ap_syntax::ast;

use super::calls::Made;
use super::items::{Defines, Item, Items, associated, words};

/// Who needs an item, and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    needed: Needed,
    /// The words in it.
    words: BTreeSet<String>,
    /// It may change what any other item means.
    sweeping: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Needed {
    /// By every cell: imports, and what has no name.
    #[default]
    Always,
    /// By some.
    By {
        /// Whoever says one of these.
        names: BTreeSet<String>,
        /// Whoever needs one of those items of the session that are named so.
        heads: BTreeSet<String>,
    },
}

/// What a cell did to the items.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    /// What it defines.
    defined: BTreeSet<String>,
    /// Those of them that were not there before, or not so.
    pub changed: BTreeSet<String>,
    /// It may change what any other item means: a new trait or implementation of one, a glob import, an attribute.
    pub everything: bool,
    /// Items of earlier cells that were set aside and may fit again: all of them are compiled with this cell.
    pub back: Vec<Arc<Item>>,
}

impl Reach {
    pub(super) fn of(item: &ast::Item, defines: &Defines, code: &str) -> Reach {
        let mut names: BTreeSet<String> = defines
            .names
            .keys()
            .map(|name| bare(name).to_owned())
            .collect();
        let heads = heads(defines);
        // A trait's methods are new names too.
        let sweeping = matches!(item, ast::Item::Trait(_))
            || defines.implementations.iter().any(|block| block.of_trait)
            || names.is_empty() && heads.is_empty();
        if let ast::Item::Trait(item) = item {
            let methods = associated(item.assoc_item_list());
            names.extend(methods.iter().map(|name| bare(name).to_owned()));
        }
        let always = matches!(item, ast::Item::Use(_) | ast::Item::ExternCrate(_))
            || names.is_empty() && heads.is_empty()
            // A macro in it may be for the items that follow.
            || matches!(item, ast::Item::Module(_)) && code.contains("macro_rules");
        let needed = match always {
            true => Needed::Always,
            false => Needed::By { names, heads },
        };
        Reach {
            needed,
            words: words(code).map(str::to_owned).collect(),
            sweeping,
        }
    }

    /// Of a call that makes items: what it says is in its text and in that of the macro, which the text names.
    pub(super) fn of_call(made: &Made, code: &str) -> Reach {
        let names = made.defines.names.keys().map(|name| bare(name).to_owned());
        let names: BTreeSet<String> = names.chain(made.methods.iter().cloned()).collect();
        let heads = heads(&made.defines);
        let needed = match made.always || names.is_empty() && heads.is_empty() {
            true => Needed::Always,
            false => Needed::By { names, heads },
        };
        Reach {
            needed,
            words: words(code).map(str::to_owned).collect(),
            sweeping: made.sweeping,
        }
    }

    /// Whether one of these names is among the words.
    pub(super) fn says(&self, names: &BTreeSet<String>) -> bool {
        self.words.iter().any(|word| names.contains(word))
    }
}

/// The words in the heads of the `impl`s that an item is.
fn heads(defines: &Defines) -> BTreeSet<String> {
    let heads = defines.implementations.iter();
    heads
        .flat_map(|block| words(&block.header))
        .map(str::to_owned)
        .collect()
}

impl Item {
    /// What it is called, for types and traits in the heads of `impl`s.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.reach.needed != Needed::Always;
        let names = self.defines.names.keys().filter(move |_| own);
        names.map(|name| bare(name))
    }
}

impl Touched {
    /// Notes an item of the cell, which may have stood there before, word for word.
    pub(super) fn note(&mut self, item: &Item, known: bool) {
        let names = item.defines.names.keys().map(|name| bare(name).to_owned());
        let names: BTreeSet<String> = names.chain(heads(&item.defines)).collect();
        self.defined.extend(names.iter().cloned());
        if known {
            return;
        }
        self.changed.extend(names);
        self.everything |= item.reach.sweeping;
    }

    /// Whether the cell did nothing to them.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && !self.everything
    }
}

impl Items {
    /// The items that a cell with these words needs, if that is less than all.
    pub(crate) fn needed<'a>(&'a self, said: impl IntoIterator<Item = &'a str>) -> Option<Items> {
        if self.touched.everything {
            return None;
        }
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, item) in self.items.iter().enumerate() {
            if let Needed::By { names, .. } = &item.reach.needed {
                for name in names {
                    by_name.entry(name).or_default().push(place);
                }
            }
        }
        let own: BTreeSet<&str> = self.items.iter().flat_map(|item| item.names()).collect();
        // The `impl`s of each type and trait of the session, and the items that are always there.
        let mut with: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut found: Vec<usize> = Vec::new();
        for (place, item) in self.items.iter().enumerate() {
            let (named, heads): (bool, Vec<&str>) = match &item.reach.needed {
                Needed::Always => (false, Vec::new()),
                Needed::By { names, heads } => {
                    let heads = heads.iter().map(String::as_str);
                    let heads = heads.filter(|word| own.contains(word)).collect();
                    (!names.is_empty(), heads)
                }
            };
            if !named && heads.is_empty() {
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
        let back = |item: &Arc<Item>| self.touched.back.iter().any(|back| Arc::ptr_eq(back, item));
        found.extend((0..self.items.len()).filter(|&place| back(&self.items[place])));
        loop {
            while let Some(place) = found.pop() {
                let Some(item) = self.items.get(place) else {
                    continue;
                };
                if std::mem::replace(&mut taken[place], true) {
                    continue;
                }
                said.extend(item.reach.words.iter().map(String::as_str));
                let with = item.names().filter_map(|name| with.get(name));
                found.extend(with.flatten());
            }
            let Some(word) = said.pop() else { break };
            if heard.insert(word) {
                found.extend(by_name.get(word).into_iter().flatten());
            }
        }
        // However little is left out: what a cell does not need must not change its source, by which it is known when it runs again.
        if taken.iter().all(|taken| *taken) {
            return None;
        }
        let kept = self.items.iter().zip(&taken).filter(|(_, taken)| **taken);
        Some(Items {
            items: kept.map(|(item, _)| item.clone()).collect(),
            attributes: self.attributes.clone(),
            cell: self.cell,
            ..Items::default()
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
                    names.extend(item.names());
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
        let filler: String = (0..3)
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
    fn what_is_not_needed_is_left_out_however_little_it_is() {
        let mut items = Items::default();
        for statement in syntax::statements("fn a() {}\nfn b() {}") {
            let item = ast::Item::cast(statement.node.clone()).expect("an item");
            items.add(&item, statement.code);
        }
        items.settle();
        assert_eq!(
            items
                .needed(["a"])
                .map(|items| items.code().contains("fn b")),
            Some(false)
        );
        assert!(items.needed(["a", "b"]).is_none(), "nothing is left out");
    }
}
