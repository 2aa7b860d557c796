//! From a cell to the crate that is compiled for it.
//!
//! ```text
//! items of all cells
//! fn run_user_code_of_cell() {
//!     let mut x = take("x");                 // variables of earlier cells that this one names
//!     run(Box::new(|| {
//!         the cell's statements, each on lines of its own and unchanged
//!         put("y", y);                       // its own variables
//!         Ok(())
//!     }));
//!     put_back("x", x);                      // what it did not consume
//! }
//! ```
//! Every generated line is known by what it is for, so that an error of the compiler in it can be understood.

use std::collections::{BTreeMap, BTreeSet};

use ra_ap_syntax::AstNode;
use ra_ap_syntax::ast::{self, HasAttrs, HasName};

use super::by_hand;
use super::calls::Found;
use super::dependencies::RUNTIME;
use super::error_types::{error_types, register};
use super::items::{Items, Placed, words};
use super::notes::{Note, mixed};
use super::statics::Makes;
use crate::session::syntax;

/// A variable of earlier cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its type as cells write it.
    pub ty: String,
    pub mutable: bool,
}

/// A cell taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The statements without items, as they stand in the cell.
    body: Vec<String>,
    /// The last statement is an expression without a semicolon: its value is shown.
    shows: bool,
    /// How it is shown.
    pub show: Show,
    /// New variables, and whether they are mutable.
    new: BTreeMap<String, bool>,
    /// Which statement is the first that makes a new variable, of those that always do.
    bound: BTreeMap<String, usize>,
    /// What new variables are made from, if it shows.
    made: BTreeMap<String, Made>,
    /// Variables of earlier cells that the cell may use.
    pub uses: BTreeMap<String, Use>,
    /// Variables in the store that no cell can use any more.
    pub stale: Vec<String>,
    /// The cell awaits futures.
    pub is_async: bool,
}

/// How the value of the last expression is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Show {
    /// As a picture if it can, else by `{:?}`.
    #[default]
    Best,
    /// By `{:?}` alone: for the compiler's message about a type that can do neither.
    Debug,
}

/// What a new variable is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Made {
    /// A closure that stands there.
    Closure,
    /// An `async` block that stands there.
    Future,
    #[default]
    Otherwise,
}

/// What becomes of a variable that a cell uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is borrowed, and put back however the cell ends.
    Borrowed,
    /// The cell moves it and gives it a new value: it is put back if the cell ends well.
    Renewed,
    /// The cell consumes it.
    Consumed,
}

/// What a generated line is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Takes a variable.
    Take(String),
    /// Puts a new variable.
    Put(String),
    /// Puts a variable of an earlier cell back.
    PutBack(String),
    /// Shows the last expression.
    Show,
}

/// A crate to compile.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub text: String,
    /// Line numbers, from 1.
    pub lines: BTreeMap<usize, Line>,
    /// Where the items stand.
    pub(super) items: Vec<Placed>,
    /// The function to call; `None` if there is nothing to run.
    pub function: Option<String>,
    /// The statics that exist once it is loaded.
    pub(super) makes: Makes,
}

/// A cell's Rust code with what it did to the items.
pub(crate) struct Taken {
    pub plan: Plan,
    /// Types whose definition changed.
    pub changed: Vec<String>,
    /// Crates named by `extern crate`.
    pub crates: Vec<String>,
    /// What is to be said of the cell's own items.
    pub notes: Vec<Note>,
}

impl Plan {
    /// Takes `rust` apart; its items, and the calls that make such, go to `items`.
    pub(super) fn take(rust: &str, items: &mut Items, calls: &Found) -> Taken {
        let mut plan = Plan::default();
        let mut changed = Vec::new();
        let mut crates = Vec::new();
        let mut notes = Vec::new();
        let statements = syntax::statements(rust);
        let last = statements.len().saturating_sub(1);
        for (index, statement) in statements.iter().enumerate() {
            let node = &statement.node;
            if let Some((call, made)) = calls.get(index) {
                if made.is_item() {
                    changed.extend(items.add_call(call, made, statement.code));
                    continue;
                }
                if made.is_mixed() {
                    notes.push(mixed(&call.label));
                }
                if !made.bindings.is_empty() {
                    plan.new.extend(made.bindings.iter().cloned());
                    // It is no value, and what follows needs its end.
                    let end = if call.ended { "" } else { "\n;" };
                    plan.body
                        .push(format!("{}{end}\n", statement.code.trim_end()));
                    continue;
                }
            }
            if let Some(binding) = ast::LetStmt::cast(node.clone()) {
                if let Some(pattern) = binding.pat() {
                    // One with an attribute may not be there at all.
                    let always = binding.let_else().is_none() && binding.attrs().next().is_none();
                    plan.bind(&pattern, binding.let_else().is_some(), always);
                    let made = match binding.initializer() {
                        Some(ast::Expr::ClosureExpr(_)) => Made::Closure,
                        Some(ast::Expr::BlockExpr(block)) if block.async_token().is_some() => {
                            Made::Future
                        }
                        _ => Made::Otherwise,
                    };
                    if let ast::Pat::IdentPat(name) = pattern
                        && let Some(name) = name.name()
                    {
                        plan.made.insert(name.text().to_string(), made);
                    }
                }
            } else if ast::Attr::can_cast(node.kind()) {
                items.add_attribute(statement.code);
                continue;
            } else if let Some(item) = ast::Item::cast(node.clone())
                && !matches!(item, ast::Item::MacroCall(_))
            {
                if let ast::Item::ExternCrate(krate) = &item
                    && let Some(name) = krate.name_ref()
                {
                    crates.push(name.text().to_string());
                }
                changed.extend(items.add(&item, statement.code));
                continue;
            } else if index == last && ast::Expr::can_cast(node.kind()) {
                plan.shows = true;
            }
            plan.body.push(statement.code.to_owned());
        }
        // What the parser could not take apart is for the compiler to object to.
        let covered: usize = statements
            .iter()
            .map(|statement| statement.code.len())
            .sum();
        let rest = rust.get(covered..).unwrap_or_default();
        if syntax::has_code(rest) {
            plan.body.push(rest.to_owned());
            plan.shows = false;
        }
        Taken {
            plan,
            changed,
            crates,
            notes,
        }
    }

    /// Notes the variables of a pattern, which need not match if it is `refutable`.
    fn bind(&mut self, pattern: &ast::Pat, refutable: bool, always: bool) {
        let whole = matches!(pattern, ast::Pat::IdentPat(_)) && !refutable;
        for name in pattern
            .syntax()
            .descendants()
            .filter_map(ast::IdentPat::cast)
        {
            let mutable = name.mut_token().is_some();
            let Some(name) = name.name() else { continue };
            let name = name.text().to_string();
            // `None` in a pattern that need not match is a constant, not a new variable.
            let constant = !whole && name.chars().next().is_some_and(char::is_uppercase);
            if constant {
                continue;
            }
            if always {
                let next = self.body.len();
                self.bound.entry(name.clone()).or_insert(next);
            }
            self.new.insert(name, mutable);
        }
    }

    /// Looks for the variables of earlier cells that the cell names, without those that it makes before it can mean the earlier ones: a cell that
    /// runs again has the same text, and the value that it replaces stays where it is until then.
    pub(crate) fn find_uses(&mut self, variables: &BTreeMap<String, Stored>) {
        let body = self.body.concat();
        let named: BTreeSet<&str> = words(&body).collect();
        self.uses = variables
            .keys()
            .filter(|name| named.contains(name.trim_start_matches("r#")))
            .filter(|name| !self.makes_first(name))
            .map(|name| (name.clone(), Use::Borrowed))
            .collect();
    }

    /// Whether the cell names a variable first where it makes it.
    fn makes_first(&self, name: &str) -> bool {
        let Some(at) = self.bound.get(name) else {
            return false;
        };
        let times = |statement: &String| words(statement).filter(|word| *word == name).count();
        let before = self
            .body
            .iter()
            .take(*at)
            .any(|statement| times(statement) > 0);
        !before && self.body.get(*at).map(times) == Some(1)
    }

    /// Every word that may name an item: those of the cell, and of the types of the variables that it uses.
    pub(crate) fn words<'a>(
        &'a self,
        variables: &'a BTreeMap<String, Stored>,
    ) -> impl Iterator<Item = &'a str> {
        let used = self.uses.keys().filter_map(|name| variables.get(name));
        let types = used.map(|stored| stored.ty.as_str());
        let body = self.body.iter().map(String::as_str);
        body.chain(types).flat_map(words)
    }

    /// Whether the cell gives the variable a new value somewhere.
    pub(crate) fn assigns(&self, name: &str) -> bool {
        self.body.iter().any(|statement| {
            statement.match_indices(name).any(|(at, _)| {
                let before = statement[..at].chars().next_back();
                let rest = statement[at + name.len()..].trim_start();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
                    && rest.starts_with('=')
                    && !rest.starts_with("==")
            })
        })
    }

    /// Whether nothing is to be run.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    pub(crate) fn defines(&self, name: &str) -> bool {
        self.new.contains_key(name)
    }

    /// Whether the variable is mutable, if the cell defines it.
    pub(crate) fn mutability(&self, name: &str) -> Option<bool> {
        self.new.get(name).copied()
    }

    /// What the cell makes the variable from.
    pub(crate) fn made(&self, name: &str) -> Made {
        self.made.get(name).copied().unwrap_or_default()
    }

    /// Leaves a new variable to the cell, which does not keep it until its end.
    pub(crate) fn drop_new(&mut self, name: &str) {
        self.new.remove(name);
    }

    /// The crate for this cell.
    pub(crate) fn source(&self, items: &Items, variables: &BTreeMap<String, Stored>) -> Source {
        let mut text = Writer::default();
        let (code, places) = items.placed();
        match by_hand::may_show(&code) {
            true => text.push(&by_hand::marked(&code)),
            false => text.push(&code),
        }
        text.source.items = places;
        if self.is_empty() {
            return text.finish(None);
        }
        let function = FUNCTION.to_owned();
        text.push("#[unsafe(no_mangle)]\n#[allow(improper_ctypes_definitions)]\n");
        text.push(&format!("pub extern \"C\" fn {function}() {{\n"));
        if self.body.iter().any(|statement| statement.contains('?')) {
            for name in error_types(&code) {
                text.push(&register(&name));
                text.push("\n");
            }
        }
        for name in &self.stale {
            text.push(&format!("{CELL}forget(\"{name}\");\n"));
        }
        let stored = |name: &String| variables.get(name);
        for (name, stored) in self
            .uses
            .keys()
            .filter_map(|name| Some((name, stored(name)?)))
        {
            let ty = &stored.ty;
            text.line(
                Line::Take(name.clone()),
                &format!("if !{CELL}check::<{ty}>(\"{name}\") {{ return }}"),
            );
        }
        let take = |name: &str, stored: &Stored| {
            let mutable = if stored.mutable { "mut " } else { "" };
            format!(
                "let {mutable}{name} = {CELL}take::<{}>(\"{name}\");",
                stored.ty
            )
        };
        let used = |wanted: bool| {
            self.uses
                .iter()
                .filter(move |(_, how)| (**how == Use::Borrowed) == wanted)
                .filter_map(move |(name, how)| Some((name, *how, stored(name)?)))
        };
        for (name, _, stored) in used(true) {
            text.line(Line::Take(name.clone()), &take(name, stored));
        }
        text.push(&format!(
            "{CELL}run(::std::boxed::Box::new(|| -> ::core::result::Result<(), {CELL}Failed> {{\n"
        ));
        if self.is_async {
            text.push(&format!("::{RUNTIME}::block_on(async {{\n"));
        }
        for (name, _, stored) in used(false) {
            text.line(Line::Take(name.clone()), &take(name, stored));
        }
        for (index, statement) in self.body.iter().enumerate() {
            let shown = self.shows && index + 1 == self.body.len();
            if shown {
                text.line(Line::Show, match self.show {
                    Show::Best => "{ use ::glassbox_prelude::{cell::ShowDebug as _, display::EvcxrDisplay as _}; match &(",
                    Show::Debug => "::glassbox_prelude::session::send_result(&::std::format!(\"{:?}\", &(",
                });
            }
            match by_hand::may_show(statement) {
                true => text.push(&marked_statement(statement)),
                false => text.push(statement),
            }
            text.end_line();
            if shown {
                text.line(
                    Line::Show,
                    match self.show {
                        Show::Best => ") { value => { ::glassbox_prelude::cell::showing(true); value.evcxr_display(); ::glassbox_prelude::cell::showing(false) } } };",
                        Show::Debug => ")));",
                    },
                );
            }
        }
        for name in self.new.keys() {
            text.line(
                Line::Put(name.clone()),
                &format!("{CELL}put(\"{name}\", {name});"),
            );
        }
        for (name, how, _) in used(false) {
            if how == Use::Renewed && !self.defines(name) {
                text.line(
                    Line::PutBack(name.clone()),
                    &format!("{CELL}put(\"{name}\", {name});"),
                );
            }
        }
        text.push(&format!(
            "::core::result::Result::<(), {CELL}Failed>::Ok(())\n"
        ));
        if self.is_async {
            text.push("})?\n");
        }
        text.push("}));\n");
        for (name, _, stored) in used(true) {
            let changed = if stored.mutable { "_changed" } else { "" };
            text.line(
                Line::PutBack(name.clone()),
                &format!("{CELL}put_back{changed}(\"{name}\", {name});"),
            );
        }
        text.push("}\n");
        text.finish(Some(function))
    }
}

/// A statement whose calls that show something are marked.
fn marked_statement(statement: &str) -> String {
    const AROUND: (&str, &str) = ("fn f(){", "\n}");
    let marked = by_hand::marked(&format!("{}{statement}{}", AROUND.0, AROUND.1));
    let inside = marked
        .strip_prefix(AROUND.0)
        .and_then(|text| text.strip_suffix(AROUND.1));
    inside.unwrap_or(statement).to_owned()
}

/// What the function around a cell is called: the same in all cells, so that one that runs again has the same text. Each is looked for in its
/// own library alone.
pub(super) const FUNCTION: &str = "run_user_code_of_cell";
const CELL: &str = "::glassbox_prelude::cell::";

/// Writes a source and counts its lines.
#[derive(Default)]
struct Writer {
    source: Source,
    lines: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.source.text.push_str(text);
        self.lines += text.matches('\n').count();
    }

    fn end_line(&mut self) {
        if !self.source.text.ends_with('\n') {
            self.push("\n");
        }
    }

    fn line(&mut self, line: Line, text: &str) {
        self.source.lines.insert(self.lines + 1, line);
        self.push(text);
        self.push("\n");
    }

    fn finish(mut self, function: Option<String>) -> Source {
        self.source.function = function;
        self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(ty: &str, mutable: bool) -> Stored {
        Stored {
            ty: ty.to_owned(),
            mutable,
        }
    }

    #[test]
    fn only_what_a_cell_names_is_taken_and_lines_are_known() {
        let mut items = Items::default();
        let variables = BTreeMap::from([
            ("a".to_owned(), stored("u8", true)),
            ("b".to_owned(), stored("u8", false)),
            ("unused".to_owned(), stored("u8", false)),
        ]);
        let taken = Plan::take(
            "fn f() {}\nlet (c, mut d) = (a, 1);\nprintln!(\"{b}\");\nc",
            &mut items,
            &Found::default(),
        );
        let mut plan = taken.plan;
        plan.find_uses(&variables);
        let source = plan.source(&items, &variables);
        assert_eq!(source.function.as_deref(), Some(FUNCTION));
        assert!(!source.text.contains("unused"));
        assert!(source.text.contains("let mut a =") && source.text.contains("let b ="));
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in &source.lines {
            let text = lines[number - 1];
            match line {
                Line::Take(name) | Line::Put(name) | Line::PutBack(name) => {
                    assert!(text.contains(&format!("\"{name}\"")), "{text}");
                }
                Line::Show => assert!(text.contains("display") || text.contains(")))"), "{text}"),
            }
        }
        assert_eq!(plan.mutability("d"), Some(true));
        assert_eq!(plan.mutability("c"), Some(false));
    }

    #[test]
    fn a_variable_that_the_cell_makes_first_is_not_taken_from_earlier_cells() {
        let stored = Stored {
            ty: "u8".to_owned(),
            mutable: false,
        };
        let variables = BTreeMap::from([("a".to_owned(), stored)]);
        let uses = |cell: &str| {
            let mut items = Items::default();
            let mut plan = Plan::take(cell, &mut items, &Found::default()).plan;
            plan.find_uses(&variables);
            !plan.uses.is_empty()
        };
        for cell in [
            "let a = 1;",
            "let mut a: u8 = 1;\na += 1;\na",
            "let (a, b) = (1, 2);\nprintln!(\"{a}\");",
            "let P { a, .. } = p;",
            "println!(\"x\");\nlet a = 1;\nlet a = a + 1;",
        ] {
            assert!(!uses(cell), "{cell}");
        }
        for cell in [
            "let a = a + 1;",
            "let b = a;\nlet a = 1;",
            "println!(\"{a}\");\nlet a = 1;",
            "#[cfg(any())]\nlet a = 1;\na",
            "let Some(a) = b else { return Ok(()) };",
            "let Some(a) = b else { a };",
            "if true { let a = 1; }\na",
            "let a = { let a = 1; a };",
            "let b = { let a = 1; a };\na",
            "let f = || { return };\nf(a);",
            "a = 1;",
        ] {
            assert!(uses(cell), "{cell}");
        }
    }

    #[test]
    fn constants_in_patterns_are_no_variables() {
        let taken = Plan::take(
            "let Some(x) = y else { return };\nlet None = z else { panic!() };\nlet X = 1;",
            &mut Items::default(),
            &Found::default(),
        );
        assert_eq!(taken.plan.new.keys().collect::<Vec<_>>(), ["X", "x"]);
    }

    #[test]
    fn nothing_but_comments_is_left_out() {
        let comments = "// only a comment\n/* and another */";
        assert!(
            Plan::take(comments, &mut Items::default(), &Found::default())
                .plan
                .is_empty()
        );
        for code in ["fn broken( {", "1 } 2", "let a = 1; } fn g() {"] {
            let mut items = Items::default();
            let plan = Plan::take(code, &mut items, &Found::default()).plan;
            let whole = plan.source(&items, &BTreeMap::new()).text;
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            let last = code.split_whitespace().next_back().unwrap_or_default();
            assert!(squeezed(&whole).contains(&squeezed(last)), "{whole}");
        }
    }

    #[test]
    fn assignments_are_told_from_comparisons() {
        let plan = Plan::take(
            "model = step(model);\nif tape == other {}\na.model2 = 1;",
            &mut Items::default(),
            &Found::default(),
        )
        .plan;
        assert!(plan.assigns("model"));
        assert!(!plan.assigns("tape") && !plan.assigns("model2") && !plan.assigns("step"));
    }
}
