//! What an item defines, and in which of Rust's namespaces: two items of one name stand side by side if they share none.
//!
//! ```text
//! types   modules, structs, enums, unions, traits, aliases, crates
//! values  functions, constants, statics, the constructors of unit and tuple structs
//! macros  macro_rules
//! ```
//! In which of them an import brings its name in, its text does not say: only the compiler knows.

use ra_ap_syntax::AstNode as _;
use ra_ap_syntax::ast::{self, HasName};

/// Some of the namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spaces(u8);

impl Spaces {
    /// Which it is, the text does not say.
    pub(crate) const UNKNOWN: Spaces = Spaces(0);
    pub(crate) const TYPES: Spaces = Spaces(1);
    pub(crate) const VALUES: Spaces = Spaces(2);
    pub(crate) const MACROS: Spaces = Spaces(4);

    /// Those of either.
    pub(crate) fn and(self, other: Spaces) -> Spaces {
        Spaces(self.0 | other.0)
    }

    /// A word for each, such as `type`.
    pub(crate) fn each(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (Spaces::TYPES, "type"),
            (Spaces::VALUES, "value"),
            (Spaces::MACROS, "macro"),
        ];
        all.into_iter()
            .filter(move |(space, _)| self.meet(*space))
            .map(|(_, word)| word)
    }

    /// Whether a name in these and the same in those are a duplicate for certain.
    pub(crate) fn meet(self, other: Spaces) -> bool {
        self.0 & other.0 != 0
    }
}

/// The name that an item defines and where; `None` for imports, `impl`s and whatever else has no name of its own.
pub(crate) fn defined(item: &ast::Item) -> Option<(String, Spaces)> {
    let (name, spaces) = match item {
        ast::Item::Const(item) => (item.name(), Spaces::VALUES),
        ast::Item::Enum(item) => (item.name(), Spaces::TYPES),
        ast::Item::ExternCrate(item) => {
            let renamed = item.rename().and_then(|rename| rename.name());
            let name = renamed
                .map(|name| name.text().to_string())
                .or_else(|| Some(item.name_ref()?.text().to_string()));
            return Some((name?, Spaces::TYPES));
        }
        ast::Item::Fn(item) => (item.name(), Spaces::VALUES),
        ast::Item::MacroDef(item) => (item.name(), Spaces::MACROS),
        ast::Item::MacroRules(item) => (item.name(), Spaces::MACROS),
        ast::Item::Module(item) => (item.name(), Spaces::TYPES),
        ast::Item::Static(item) => (item.name(), Spaces::VALUES),
        ast::Item::Struct(item) => {
            let constructor = match item.kind() {
                ast::StructKind::Record(_) => Spaces::UNKNOWN,
                _ => Spaces::VALUES,
            };
            (item.name(), Spaces::TYPES.and(constructor))
        }
        ast::Item::Trait(item) => (item.name(), Spaces::TYPES),
        ast::Item::TypeAlias(item) => (item.name(), Spaces::TYPES),
        ast::Item::Union(item) => (item.name(), Spaces::TYPES),
        _ => return None,
    };
    // `const _: () = …;` may stand any number of times.
    name.map(|name| (name.text().to_string(), spaces))
        .filter(|(name, _)| name != "_")
}

/// The single imports in a tree: the name each brings in (`None` for `*` and `_`), and its path.
pub(crate) fn imports(
    tree: &ast::UseTree,
    prefix: &str,
    found: &mut Vec<(Option<String>, String)>,
) {
    let own = tree.path().map(|path| path.syntax().text().to_string());
    let absolute = prefix.is_empty() && tree.coloncolon_token().is_some() && own.is_none();
    let joined = match &own {
        Some(own) if prefix.is_empty() => own.clone(),
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
    } else if !joined.is_empty() {
        let rename = tree.rename().map(|rename| {
            let name = rename.name();
            name.map_or_else(|| "_".to_owned(), |name| name.text().to_string())
        });
        // `{self}` imports a module alone, whatever else has its path.
        let (path, own, close) = match joined.strip_suffix("::self") {
            Some(module) => (format!("{module}::{{self"), module, "}"),
            None => (joined.clone(), joined.as_str(), ""),
        };
        let name = match rename.as_deref() {
            Some("_") => None,
            Some(name) => Some(name.to_owned()),
            None => own.rsplit("::").next().map(str::to_owned),
        };
        let renamed = rename.map_or_else(String::new, |name| format!(" as {name}"));
        found.push((name, format!("{path}{renamed}{close}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::syntax;

    #[test]
    fn each_kind_of_item_has_its_namespaces() {
        let both = Spaces::TYPES.and(Spaces::VALUES);
        for (code, name, spaces) in [
            ("mod a {}", "a", Spaces::TYPES),
            ("struct A { b: u8 }", "A", Spaces::TYPES),
            ("struct A;", "A", both),
            ("struct A(u8);", "A", both),
            ("enum A { B }", "A", Spaces::TYPES),
            ("trait A {}", "A", Spaces::TYPES),
            ("type A = u8;", "A", Spaces::TYPES),
            ("extern crate std as a;", "a", Spaces::TYPES),
            ("fn a() {}", "a", Spaces::VALUES),
            ("const A: u8 = 1;", "A", Spaces::VALUES),
            ("static A: u8 = 1;", "A", Spaces::VALUES),
            ("macro_rules! a { () => {} }", "a", Spaces::MACROS),
        ] {
            let statements = syntax::statements(code);
            let item = ast::Item::cast(statements[0].node.clone()).expect("an item");
            assert_eq!(defined(&item), Some((name.to_owned(), spaces)), "{code}");
        }
        assert!(!Spaces::TYPES.meet(Spaces::VALUES) && both.meet(Spaces::VALUES));
        assert!(!Spaces::UNKNOWN.meet(both));
    }
}
