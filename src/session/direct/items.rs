//! The items of all cells: functions, types, imports and macros, which every later cell is compiled with.
//!
//! A new item takes the place of the one that had its name; an `impl` takes the place of one that would contradict it,
//! so that a cell can be run again.

use std::collections::BTreeSet;
use std::sync::Arc;

use ra_ap_syntax::ast::{self, HasName};
use ra_ap_syntax::{AstNode, NodeOrToken};

use super::needs::{Reach, Touched};

/// Items in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    pub(super) items: Vec<Arc<Item>>,
    /// `#![…]` of all cells.
    pub(super) attributes: Vec<String>,
    /// What the present cell did to them.
    pub(super) touched: Touched,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub key: Key,
    /// The user's text, whole lines.
    pub code: String,
    /// Who needs it, and what it needs.
    pub reach: Reach,
}

/// What an item is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Functions, types, named imports.
    Name(String),
    Macro(String),
    /// Its header, whether it is of a trait, and the names in it.
    Impl {
        header: String,
        of_trait: bool,
        names: BTreeSet<String>,
    },
    /// Known by its text: glob imports and whatever has no name.
    Text,
}

impl Items {
    /// A new cell begins: what earlier ones did to the items is settled.
    pub(crate) fn settle(&mut self) {
        self.touched = Touched::default();
    }

    /// Takes an attribute of the whole crate.
    pub(crate) fn add_attribute(&mut self, code: &str) {
        let code = code.trim().to_owned();
        if !self.attributes.contains(&code) {
            self.attributes.push(code);
            self.touched.everything = true;
        }
    }

    /// Takes an item that stands in a cell as `code`; returns the names of types whose definition changed by it.
    pub(crate) fn add(&mut self, item: &ast::Item, code: &str) -> Vec<String> {
        match item {
            ast::Item::Use(import) => match import.use_tree() {
                Some(tree) => {
                    let attributes = import
                        .syntax()
                        .children()
                        .filter_map(ast::Attr::cast)
                        .map(|attribute| attribute.syntax().text().to_string())
                        .collect::<String>();
                    let mut found = Vec::new();
                    imports(&tree, "", &mut found);
                    for (name, path) in found {
                        let key = name.map_or(Key::Text, Key::Name);
                        self.put(key, format!("{attributes}use {path};\n"), item);
                    }
                }
                None => self.put(Key::Text, lines(code), item),
            },
            ast::Item::MacroRules(rules) => {
                let key = rules
                    .name()
                    .map_or(Key::Text, |name| Key::Macro(name.text().to_string()));
                self.put(key, lines(code), item);
            }
            ast::Item::Impl(block) => self.put(impl_key(block), lines(code), item),
            other => {
                let name = name_of(other);
                let defines = matches!(
                    other,
                    ast::Item::Struct(_)
                        | ast::Item::Enum(_)
                        | ast::Item::Union(_)
                        | ast::Item::TypeAlias(_)
                        | ast::Item::Module(_)
                        | ast::Item::Trait(_)
                );
                let code = lines(code);
                let key = name.clone().map_or(Key::Text, Key::Name);
                let changed = self
                    .items
                    .iter()
                    .any(|item| item.key == key && item.code.trim() != code.trim());
                self.put(key, code, item);
                if let (true, true, Some(name)) = (defines, changed, name) {
                    return vec![name];
                }
            }
        }
        Vec::new()
    }

    /// Puts an item in the place of the one that it replaces, or behind all others.
    fn put(&mut self, key: Key, code: String, item: &ast::Item) {
        let item = Arc::new(Item {
            reach: Reach::of(item, &key, &code),
            key,
            code,
        });
        self.touched.note(&item, self.items.contains(&item));
        if let Key::Impl { .. } = item.key {
            self.items.retain(|other| !other.key.contradicts(&item.key));
            self.items.push(item);
            return;
        }
        let same = |other: &&mut Arc<Item>| {
            other.key == item.key && (item.key != Key::Text || other.code == item.code)
        };
        match self.items.iter_mut().find(same) {
            Some(place) => *place = item,
            None => self.items.push(item),
        }
    }

    /// `names` and every type or alias whose definition mentions one of them, directly or not.
    pub(crate) fn users_of(&self, names: Vec<String>) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = names.into_iter().collect();
        loop {
            let found: Vec<String> = self
                .items
                .iter()
                .filter_map(|item| match &item.key {
                    Key::Name(name) if !all.contains(name) => Some((name, &item.code)),
                    _ => None,
                })
                .filter(|(_, code)| {
                    !code.starts_with("use ") && words(code).any(|word| all.contains(word))
                })
                .map(|(name, _)| name.clone())
                .collect();
            if found.is_empty() {
                return all;
            }
            all.extend(found);
        }
    }

    /// The attributes, then macros (which have to stand before their use), then the other items.
    pub(crate) fn code(&self) -> String {
        let mut code = String::new();
        for attribute in &self.attributes {
            code.push_str(attribute);
            code.push('\n');
        }
        let (macros, others): (Vec<&Arc<Item>>, Vec<&Arc<Item>>) = self
            .items
            .iter()
            .partition(|item| matches!(item.key, Key::Macro(_)));
        for item in macros.into_iter().chain(others) {
            code.push_str(&item.code);
        }
        code
    }
}

impl Key {
    /// Whether both cannot stand in one crate.
    fn contradicts(&self, other: &Key) -> bool {
        match (self, other) {
            (
                Key::Impl {
                    header,
                    of_trait,
                    names,
                },
                Key::Impl {
                    header: other_header,
                    names: other_names,
                    ..
                },
            ) => {
                header == other_header
                    && (*of_trait || names == other_names || !names.is_disjoint(other_names))
            }
            _ => false,
        }
    }
}

/// Text that ends with its line.
fn lines(code: &str) -> String {
    if code.ends_with('\n') {
        code.to_owned()
    } else {
        format!("{code}\n")
    }
}

/// The identifiers of a text, strings included: `{name}` in a format string is a use.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

fn name_of(item: &ast::Item) -> Option<String> {
    let name = match item {
        ast::Item::Const(item) => item.name(),
        ast::Item::Enum(item) => item.name(),
        ast::Item::Fn(item) => item.name(),
        ast::Item::MacroDef(item) => item.name(),
        ast::Item::Module(item) => item.name(),
        ast::Item::Static(item) => item.name(),
        ast::Item::Struct(item) => item.name(),
        ast::Item::Trait(item) => item.name(),
        ast::Item::TypeAlias(item) => item.name(),
        ast::Item::Union(item) => item.name(),
        _ => None,
    };
    // `const _: () = …;` may stand any number of times.
    name.map(|name| name.text().to_string())
        .filter(|name| name != "_")
}

fn impl_key(block: &ast::Impl) -> Key {
    let mut header = String::new();
    for part in block.syntax().children_with_tokens() {
        match part {
            NodeOrToken::Node(node) if ast::AssocItemList::can_cast(node.kind()) => break,
            NodeOrToken::Token(token) if token.kind().is_trivia() => {}
            NodeOrToken::Node(node) if ast::Attr::can_cast(node.kind()) => {}
            part => {
                header.extend(part.to_string().split_whitespace());
                header.push(' ');
            }
        }
    }
    let list = block.assoc_item_list();
    let names = list
        .into_iter()
        .flat_map(|list| list.assoc_items())
        .filter_map(|item| match item {
            ast::AssocItem::Const(item) => item.name(),
            ast::AssocItem::Fn(item) => item.name(),
            ast::AssocItem::TypeAlias(item) => item.name(),
            ast::AssocItem::MacroCall(_) => None,
        })
        .map(|name| name.text().to_string())
        .collect();
    Key::Impl {
        header,
        of_trait: block.trait_().is_some(),
        names,
    }
}

/// The single imports in a tree: the name each brings in (`None` for `*` and `_`), and its path.
fn imports(tree: &ast::UseTree, prefix: &str, found: &mut Vec<(Option<String>, String)>) {
    let own = tree.path().map(|path| path.syntax().text().to_string());
    let absolute = prefix.is_empty() && tree.coloncolon_token().is_some() && own.is_none();
    let joined = match &own {
        Some(own) if prefix.is_empty() => own.clone(),
        Some(own) if own == "self" => prefix.to_owned(),
        Some(own) => format!("{prefix}::{own}"),
        None if absolute => String::new(),
        None => prefix.to_owned(),
    };
    if let Some(list) = tree.use_tree_list() {
        for inner in list.use_trees() {
            imports(&inner, &joined, found);
        }
    } else if tree.star_token().is_some() {
        found.push((None, format!("{joined}::*")));
    } else if let Some(rename) = tree.rename() {
        match rename.name() {
            Some(name) => {
                let name = name.text().to_string();
                found.push((Some(name.clone()), format!("{joined} as {name}")));
            }
            None => found.push((None, format!("{joined} as _"))),
        }
    } else if !joined.is_empty() {
        let last = joined.rsplit("::").next().unwrap_or(&joined).to_owned();
        found.push((Some(last), joined));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::syntax;

    fn items(cells: &[&str]) -> (Items, Vec<String>) {
        let mut items = Items::default();
        let mut changed = Vec::new();
        for cell in cells {
            for statement in syntax::statements(cell) {
                let item = ast::Item::cast(statement.node.clone()).expect("an item");
                changed.extend(items.add(&item, statement.code));
            }
        }
        (items, changed)
    }

    #[test]
    fn imports_are_taken_one_by_one() {
        let (items, _) = items(&[
            "use std::collections::{self, hash_map::{HashMap}, HashSet as Set};\nuse std::fmt::Write as _;",
            "use other::HashMap;\nuse std::fmt::*;use std::fmt::*;",
        ]);
        assert_eq!(
            items.code(),
            "use std::collections;\nuse other::HashMap;\nuse std::collections::HashSet as Set;\nuse std::fmt::Write as _;\nuse std::fmt::*;\n"
        );
    }

    #[test]
    fn a_cell_that_is_run_again_replaces_its_own_items() {
        let cell = "struct P { a: i32 }\nimpl P { fn a(&self) {} }\nimpl P { fn b(&self) {} }\nimpl Clone for P { fn clone(&self) -> P { P { a: 1 } } }\nconst _: () = ();\n";
        let (once, _) = items(&[cell]);
        let (twice, changed) = items(&[cell, cell]);
        let sorted = |items: &Items| {
            let mut lines: Vec<String> = items.code().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&once), sorted(&twice));
        assert!(changed.is_empty());
    }

    #[test]
    fn macros_stand_first_and_changed_types_are_told_with_their_users() {
        let (items, changed) = items(&[
            "struct P;\nstruct Q(Vec<P>);\nstruct R(Q);\nstruct S;\nfn f() { m!() }",
            "macro_rules! m { () => {} }\nstruct P(u8);",
        ]);
        assert!(items.code().starts_with("macro_rules! m"));
        assert_eq!(changed, ["P"]);
        let users: Vec<String> = items.users_of(changed).into_iter().collect();
        assert_eq!(users, ["P", "Q", "R"]);
    }
}
