//! The items of all cells: functions, types, imports, macros and calls of macros that make such, which every later cell is
//! compiled with.
//!
//! A new item takes the place of those that Rust would call its duplicates: same name in the same namespace, or an `impl` that
//! cannot stand beside it. Where only the compiler knows (imports, overlapping `impl`s), both stay until it objects (see
//! [`super::aside`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ra_ap_syntax::ast::{self, HasName};
use ra_ap_syntax::{AstNode, NodeOrToken};

use super::aside::Aside;
use super::calls::{Call, Made};
use super::namespaces::{Spaces, defined, imports};
use super::needs::{Reach, Touched};
use super::sites::MadeStatic;

/// Items in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    pub(super) items: Vec<Arc<Item>>,
    /// Items that do not compile with the others now.
    pub(super) aside: Vec<Aside>,
    /// `#![…]` of all cells.
    pub(super) attributes: Vec<String>,
    /// What the present cell did to them.
    pub(super) touched: Touched,
    /// How many cells there were, the present one among them.
    pub(super) cell: u64,
}

#[derive(Debug)]
pub(super) struct Item {
    pub kind: Kind,
    pub defines: Defines,
    /// The user's text, whole lines.
    pub code: String,
    /// Who needs it, and what it needs.
    pub reach: Reach,
    /// The statics that it makes, if it is a call that makes nothing else.
    pub makes: Vec<MadeStatic>,
    /// The cell that it came with, as [`Items::cell`] counts them.
    pub cell: u64,
}

/// What sort of item it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A single import.
    Import,
    /// `macro_rules!`.
    Macro,
    Impl,
    Function,
    Constant,
    Static,
    /// A struct, enum, union or alias.
    Type,
    Trait,
    Module,
    /// A call of a macro that makes items.
    Call,
    /// A call of a macro that makes macros too, which have to stand before their use.
    MacroCall,
    /// Whatever else: `extern` blocks and crates, `const _`.
    Other,
}

/// What an item defines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defines {
    /// Names, each with its namespaces.
    pub names: BTreeMap<String, Spaces>,
    pub implementations: Vec<Implementation>,
}

/// What an `impl` is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Implementation {
    pub header: String,
    pub of_trait: bool,
    /// The names in it.
    pub names: BTreeSet<String>,
}

/// The lines of a source, from 1, that an item stands on.
pub(super) type Placed = (Range<usize>, Arc<Item>);

impl Items {
    /// A new cell begins: what earlier ones did to the items is settled.
    pub(crate) fn settle(&mut self) {
        self.touched = Touched::default();
        self.cell += 1;
    }

    /// Takes an attribute of the whole crate.
    pub(crate) fn add_attribute(&mut self, code: &str) {
        let code = code.trim().to_owned();
        if !self.attributes.contains(&code) {
            self.attributes.push(code);
            self.touched.everything = true;
        }
    }

    /// Takes an item that stands in a cell as `code`; returns the names whose definition changed so that types made of them did too.
    pub(crate) fn add(&mut self, item: &ast::Item, code: &str) -> Vec<String> {
        if let ast::Item::Use(import) = item
            && let Some(tree) = import.use_tree()
        {
            let attributes = import
                .syntax()
                .children()
                .filter_map(ast::Attr::cast)
                .map(|attribute| attribute.syntax().text().to_string())
                .collect::<String>();
            let mut found = Vec::new();
            imports(&tree, "", &mut found);
            for (name, path) in found {
                let code = format!("{attributes}use {path};\n");
                let defines = Defines::import(name);
                let reach = Reach::of(item, &defines, &code);
                self.put(Kind::Import, defines, reach, code, Vec::new());
            }
            return Vec::new();
        }
        let code = lines(code);
        let defines = Defines::of(item);
        let reach = Reach::of(item, &defines, &code);
        self.put(kind_of(item), defines, reach, code, Vec::new())
    }

    /// Takes a call of a macro that makes items; returns the names whose definition changed.
    pub(super) fn add_call(&mut self, call: &Call, made: &Made, code: &str) -> Vec<String> {
        let mut spaces = made.defines.names.values();
        let kind = match spaces.any(|spaces| spaces.meet(Spaces::MACROS)) {
            true => Kind::MacroCall,
            false => Kind::Call,
        };
        let mut code = lines(code);
        // Between items a call ends with a semicolon or a brace.
        if !call.ended {
            code.push_str(";\n");
        }
        let reach = Reach::of_call(made, &code);
        self.put(kind, made.defines.clone(), reach, code, made.only_statics())
    }

    /// Puts an item in the place of those that it replaces, or behind all others.
    fn put(
        &mut self,
        kind: Kind,
        defines: Defines,
        reach: Reach,
        code: String,
        makes: Vec<MadeStatic>,
    ) -> Vec<String> {
        let item = Arc::new(Item {
            kind,
            defines,
            code,
            reach,
            makes,
            cell: self.cell,
        });
        // What a file says is not in the text that includes it.
        let whole = !item.code.contains("include!");
        let known = whole && self.items.iter().any(|other| other.same(&item));
        self.touched.note(&item, known);
        let mut changed = Vec::new();
        let mut place = None;
        let mut index = 0;
        self.aside
            .retain(|aside| !aside.item.same(&item) && !aside.item.yields_to(&item));
        while let Some(other) = self.items.get(index) {
            if !other.same(&item) && !other.yields_to(&item) {
                index += 1;
                continue;
            }
            if !known && item.shapes_types() {
                let names = other.defines.names.keys();
                changed.extend(
                    names
                        .filter(|name| item.defines.names.contains_key(*name))
                        .cloned(),
                );
            }
            let other = self.items.remove(index);
            place = place.or(Some(index));
            self.aside.extend(Aside::of_replaced(other, &item));
        }
        self.items.insert(place.unwrap_or(self.items.len()), item);
        changed
    }

    /// `names` and everything that types are made of whose definition mentions one of them, directly or not.
    pub(crate) fn users_of(&self, names: Vec<String>) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = names.into_iter().collect();
        let aside = self.aside.iter().map(|aside| &aside.item);
        let items: Vec<&Arc<Item>> = self.items.iter().chain(aside).collect();
        loop {
            let before = all.len();
            let shapes = |item: &&&Arc<Item>| item.shapes_types() || item.kind == Kind::Import;
            for item in items.iter().filter(shapes) {
                if words(&item.code).any(|word| all.contains(word)) {
                    all.extend(item.defines.names.keys().cloned());
                }
            }
            if all.len() == before {
                return all;
            }
        }
    }

    /// Whether an item has this name.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.items
            .iter()
            .any(|item| item.defines.names.contains_key(name))
    }

    /// The attributes, then macros (which have to stand before their use), then the other items.
    pub(crate) fn code(&self) -> String {
        self.placed().0
    }

    /// The same, and which item stands where in it.
    pub(super) fn placed(&self) -> (String, Vec<Placed>) {
        let mut code = String::new();
        for attribute in &self.attributes {
            code.push_str(attribute);
            code.push('\n');
        }
        let mut line = code.matches('\n').count() + 1;
        let mut places = Vec::new();
        let first = |item: &&Arc<Item>| match item.kind {
            Kind::Macro => 0,
            Kind::MacroCall => 1,
            _ => 2,
        };
        let mut items: Vec<&Arc<Item>> = self.items.iter().collect();
        items.sort_by_key(first);
        for item in items {
            code.push_str(&item.code);
            let end = line + item.code.matches('\n').count();
            places.push((line..end, item.clone()));
            line = end;
        }
        (code, places)
    }
}

impl Item {
    /// Whether it is the same text for the same thing.
    fn same(&self, other: &Item) -> bool {
        self.kind == other.kind && self.code == other.code
    }

    /// Whether a newer item takes its place. Within one cell nothing does, but a macro: there a duplicate is for the compiler to refuse.
    fn yields_to(&self, newer: &Item) -> bool {
        let both_macros = self.kind == Kind::Macro && newer.kind == Kind::Macro;
        (self.cell < newer.cell || both_macros) && self.defines.contradict(&newer.defines)
    }

    /// Whether types, and so the values of variables, are made of it.
    fn shapes_types(&self) -> bool {
        match self.kind {
            Kind::Type
            | Kind::Trait
            | Kind::Module
            | Kind::Constant
            | Kind::Macro
            | Kind::Call
            | Kind::MacroCall => true,
            Kind::Function => self.code.contains("const "),
            Kind::Import | Kind::Impl | Kind::Static | Kind::Other => false,
        }
    }
}

impl Defines {
    /// What an item other than an import defines.
    pub(super) fn of(item: &ast::Item) -> Defines {
        let implementations = match item {
            ast::Item::Impl(block) => vec![implementation(block)],
            _ => Vec::new(),
        };
        Defines {
            names: defined(item).into_iter().collect(),
            implementations,
        }
    }

    /// What a single import brings in.
    pub(super) fn import(name: Option<String>) -> Defines {
        Defines {
            names: name
                .into_iter()
                .map(|name| (name, Spaces::UNKNOWN))
                .collect(),
            implementations: Vec::new(),
        }
    }

    /// Whether both cannot stand in one crate, as far as the text shows.
    fn contradict(&self, other: &Defines) -> bool {
        let names = self.names.iter().any(|(name, spaces)| {
            let others = other.names.get(name);
            others.is_some_and(|others| spaces.meet(*others))
        });
        let clash = |one: &Implementation| {
            let mut others = other.implementations.iter();
            others.any(|other| one.contradicts(other))
        };
        names || self.implementations.iter().any(clash)
    }
}

impl Implementation {
    fn contradicts(&self, other: &Implementation) -> bool {
        self.header == other.header
            && (self.of_trait || self.names == other.names || !self.names.is_disjoint(&other.names))
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

fn kind_of(item: &ast::Item) -> Kind {
    match item {
        ast::Item::Const(item) if item.name().is_some() => Kind::Constant,
        ast::Item::Enum(_)
        | ast::Item::Struct(_)
        | ast::Item::TypeAlias(_)
        | ast::Item::Union(_) => Kind::Type,
        ast::Item::Fn(_) => Kind::Function,
        ast::Item::Impl(_) => Kind::Impl,
        ast::Item::MacroRules(_) | ast::Item::MacroDef(_) => Kind::Macro,
        ast::Item::Module(_) => Kind::Module,
        ast::Item::Static(_) => Kind::Static,
        ast::Item::Trait(_) => Kind::Trait,
        _ => Kind::Other,
    }
}

/// What an `impl` is known by: its header without trivia, and what is in it.
pub(super) fn implementation(block: &ast::Impl) -> Implementation {
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
    Implementation {
        header,
        of_trait: block.trait_().is_some(),
        names: associated(block.assoc_item_list()),
    }
}

/// The names in the body of an `impl` or trait.
pub(super) fn associated(list: Option<ast::AssocItemList>) -> BTreeSet<String> {
    list.into_iter()
        .flat_map(|list| list.assoc_items())
        .filter_map(|item| match item {
            ast::AssocItem::Const(item) => item.name(),
            ast::AssocItem::Fn(item) => item.name(),
            ast::AssocItem::TypeAlias(item) => item.name(),
            ast::AssocItem::MacroCall(_) => None,
        })
        .map(|name| name.text().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::syntax;

    fn items(cells: &[&str]) -> (Items, Vec<String>) {
        let mut items = Items::default();
        let mut changed = Vec::new();
        for cell in cells {
            items.settle();
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
            "use std::collections::{self};\nuse std::collections::hash_map::HashMap;\nuse std::collections::HashSet as Set;\nuse std::fmt::Write as _;\nuse other::HashMap;\nuse std::fmt::*;\n"
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
