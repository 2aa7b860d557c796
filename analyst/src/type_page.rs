//! What is said of a type beyond its declaration and documentation: how a value of it is made, its methods, how it shows itself, what it
//! implements.
//!
//! ```text
//! a name ─▶ the type that it stands for ─▶ its impls in all crates ─▶ sections of Markdown
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ra_ap_hir::{
    self as hir, Adt, AssocItem, DisplayTarget, Function, HasAttrs, HasCrate, HasVisibility,
    HirDisplay, Impl, Module, ModuleDef, Semantics, Type, Visibility,
};
use ra_ap_ide::{Edition, FileId};
use ra_ap_ide_db::RootDatabase;
use ra_ap_ide_db::defs::{Definition, IdentClass};
use ra_ap_syntax::{AstNode, TextSize};

use super::world::View;

/// The crate whose traits are named with their methods.
const PRELUDE: &str = "glassbox_prelude";
/// So many functions that return a type are named at most.
const MAKERS: usize = 12;

/// What is known of a type besides its documentation.
pub(super) struct TypePage {
    /// The declaration, as Rust: public fields only, all variants.
    pub declaration: String,
    /// The sections, as Markdown.
    pub sections: String,
}

/// The page of the type that a name in a file stands for; `None` if it stands for something else.
pub(super) fn of_name(view: &View, file: FileId, at: TextSize) -> Option<TypePage> {
    let db = &view.database;
    hir::attach_db(db, || {
        let sema = Semantics::new(db);
        let file = sema.parse_guess_edition(file);
        let token = file.syntax().token_at_offset(at).right_biased()?;
        let adt = IdentClass::classify_token(&sema, &token)?
            .definitions_no_ops()
            .into_iter()
            .find_map(|definition| match definition {
                Definition::Adt(adt) => Some(adt),
                _ => None,
            })?;
        let own = sema
            .file_to_module_defs(view.file)
            .any(|module| module.krate(db) == adt.krate(db));
        Some(Page::new(db, adt, own).finish())
    })
}

struct Page<'db> {
    db: &'db RootDatabase,
    adt: Adt,
    /// Whether cells define it: then they see what is not public, too.
    own: bool,
    ty: Type<'db>,
    target: DisplayTarget,
}

impl<'db> Page<'db> {
    fn new(db: &'db RootDatabase, adt: Adt, own: bool) -> Page<'db> {
        Page {
            db,
            adt,
            own,
            ty: adt.ty(db),
            target: DisplayTarget::from_crate(db, adt.krate(db).into()),
        }
    }

    fn finish(&self) -> TypePage {
        let (mut constructors, mut methods) = (Vec::new(), Vec::new());
        let mut traits: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut others = BTreeSet::new();
        for imp in Impl::all_for_type(self.db, self.ty.clone()) {
            match imp.trait_(self.db) {
                None => {
                    for function in self.functions(imp) {
                        let signature = self.signature(function);
                        match function.has_self_param(self.db) {
                            true => methods.push(signature),
                            false => constructors.push(signature),
                        }
                    }
                }
                Some(of) => {
                    let name = of
                        .name(self.db)
                        .display(self.db, Edition::CURRENT)
                        .to_string();
                    if of
                        .krate(self.db)
                        .display_name(self.db)
                        .is_some_and(|krate| krate.to_string() == PRELUDE)
                    {
                        let items = of.items(self.db).into_iter().filter_map(|item| match item {
                            AssocItem::Function(function) => Some(self.name(function)),
                            _ => None,
                        });
                        traits.entry(name).or_default().extend(items);
                    } else if imp.is_negative(self.db) {
                        others.insert(format!("!{name}"));
                    } else {
                        others.insert(name);
                    }
                }
            }
        }
        let shows = match (traits.contains_key("Render"), others.contains("Debug")) {
            (true, _) => {
                "as the last expression of a cell, or by `display(&value)`: as text, and as HTML or a picture where that helps (`Render`)"
            }
            (_, true) => "as the last expression of a cell: as text, by `{:?}` (`Debug`)",
            _ => "not by itself: it has neither `Render` nor `Debug`",
        };
        let mut sections = String::new();
        let mut section = |title: &str, text: &str| {
            sections += &format!("**{title}**\n\n{text}\n\n");
        };
        let code = |lines: &[String]| format!("```rust\n{}\n```", lines.join("\n"));
        if !constructors.is_empty() {
            section(
                "Made by, and other functions without a value",
                &code(&constructors),
            );
        }
        let makers = self.makers();
        if !makers.is_empty() {
            section("Returned by", &makers);
        }
        if !methods.is_empty() {
            section(&format!("Methods ({})", methods.len()), &code(&methods));
        }
        section("Shows itself", shows);
        if !traits.is_empty() {
            let lines: Vec<String> = traits
                .iter()
                .map(|(name, methods)| match methods.as_slice() {
                    [] => format!("- `{name}`"),
                    methods => format!("- `{name}`: {}", quoted(methods)),
                })
                .collect();
            section("Traits of the prelude", &lines.join("\n"));
        }
        if !others.is_empty() {
            let others: Vec<String> = others.into_iter().collect();
            section("Other traits", &quoted(&others));
        }
        TypePage {
            declaration: self.declaration(),
            sections: sections.trim_end().to_owned(),
        }
    }

    /// The functions of an impl that cells can call.
    fn functions(&self, imp: Impl) -> Vec<Function> {
        let functions = imp
            .items(self.db)
            .into_iter()
            .filter_map(|item| match item {
                AssocItem::Function(function) => Some(function),
                _ => None,
            });
        functions
            .filter(|function| {
                (self.own || function.visibility(self.db) == Visibility::Public)
                    && !HasAttrs::attrs(*function, self.db).is_doc_hidden()
            })
            .collect()
    }

    fn declaration(&self) -> String {
        self.adt
            .display_limited(self.db, Some(usize::MAX), self.target)
            .with_private_fields(self.own)
            .to_string()
            .replace("/* … */", "/* private fields */")
    }

    fn name(&self, function: Function) -> String {
        let name = function.name(self.db);
        name.display(self.db, Edition::CURRENT).to_string()
    }

    /// A function on one line, without the words that are the same for all.
    fn signature(&self, function: Function) -> String {
        let text = function.display(self.db, self.target).to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.strip_prefix("pub ").unwrap_or(&text).to_owned()
    }

    /// Functions of other types, and free ones, of the crate of the type that return a value of it.
    fn makers(&self) -> String {
        let krate = self.adt.krate(self.db);
        let mut found = BTreeSet::new();
        for imp in Impl::all_in_crate(self.db, krate) {
            let of = imp.self_ty(self.db).as_adt();
            if imp.trait_(self.db).is_some() || of == Some(self.adt) {
                continue;
            }
            let Some(of) = of.filter(|of| of.visibility(self.db) == Visibility::Public) else {
                continue;
            };
            let of = of
                .name(self.db)
                .display(self.db, Edition::CURRENT)
                .to_string();
            for function in self.functions(imp) {
                if self.is_returned_by(function) {
                    found.insert(format!("{of}::{}", self.name(function)));
                }
            }
        }
        let mut modules: Vec<Module> = vec![krate.root_module(self.db)];
        while let Some(module) = modules.pop() {
            modules.extend(
                module
                    .children(self.db)
                    .filter(|child| child.visibility(self.db) == Visibility::Public),
            );
            for definition in module.declarations(self.db) {
                if let ModuleDef::Function(function) = definition
                    && function.visibility(self.db) == Visibility::Public
                    && self.is_returned_by(function)
                {
                    found.insert(self.name(function));
                }
            }
        }
        let all: Vec<String> = found.into_iter().collect();
        let (shown, rest) = all.split_at(all.len().min(MAKERS));
        match rest.len() {
            0 => quoted(shown),
            more => format!("{}, and {more} more", quoted(shown)),
        }
    }

    /// Whether a function returns the type, or a `Result`, `Option` or `Vec` of it.
    fn is_returned_by(&self, function: Function) -> bool {
        let returned = function.ret_type(self.db);
        returned.as_adt() == Some(self.adt)
            || returned
                .type_arguments()
                .any(|inner| inner.as_adt() == Some(self.adt))
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
