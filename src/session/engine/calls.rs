//! Calls of macros that stand where items may stand: what each makes.
//!
//! ```text
//! cell ─▶ calls that may make items ─▶ rustc expands them between marks ─▶ items │ statements, and the variables they bind
//!           │ std's and the session's own macros are known by their text
//!           ▼ no such call: nothing is asked
//! ```
//! Whether `unit!(Metre);` is an item or a statement its text does not say. If all that it makes is items, it is one: functions and
//! later cells see what it defines. An answer is kept, so that a cell that runs again asks nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ra_ap_syntax::ast::{self, HasAttrs, HasName};
use ra_ap_syntax::{AstNode, NodeOrToken, SyntaxKind, SyntaxNode, T};

use super::items::{Defines, Items, Kind, associated, words};
use super::namespaces::{Spaces, imports};
use super::sites::MadeStatic;
use crate::session::nesting::parse;
use crate::session::syntax;

/// Macros that make no items: those of the standard library, and what cells call most of others.
const STATEMENTS: [&str; 62] = [
    "addr_of",
    "addr_of_mut",
    "anyhow",
    "array",
    "assert",
    "assert_eq",
    "assert_matches",
    "assert_ne",
    "bail",
    "cfg",
    "column",
    "compile_error",
    "concat",
    "concat_bytes",
    "concat_idents",
    "dbg",
    "debug",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "ensure",
    "env",
    "eprint",
    "eprintln",
    "error",
    "file",
    "format",
    "format_args",
    "include_bytes",
    "include_str",
    "info",
    "json",
    "line",
    "log",
    "matches",
    "module_path",
    "offset_of",
    "option_env",
    "panic",
    "pin",
    "print",
    "println",
    "ready",
    "s",
    "select",
    "span",
    "stringify",
    "todo",
    "trace",
    "try_join",
    "unimplemented",
    "unreachable",
    "vec",
    "warn",
    "write",
    "writeln",
    "is_x86_feature_detected",
    "join",
    "izip",
    "iproduct",
    "azip",
    "event",
];
/// Those of the names above that the standard library gives to everybody: an import of everything that a crate has may hide them, which
/// hardly any does.
const COMMON: [&str; 30] = [
    "assert",
    "assert_eq",
    "assert_matches",
    "assert_ne",
    "cfg",
    "column",
    "compile_error",
    "concat",
    "dbg",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "env",
    "eprint",
    "eprintln",
    "file",
    "format",
    "format_args",
    "include_str",
    "line",
    "matches",
    "panic",
    "print",
    "println",
    "stringify",
    "todo",
    "unimplemented",
    "unreachable",
    "vec",
    "write",
];
/// Crates whose macros of those names are the ones that are meant above.
const MEANT: [&str; 20] = [
    "alloc",
    "anyhow",
    "color_eyre",
    "core",
    "defmt",
    "eyre",
    "futures",
    "futures_util",
    "glassbox_prelude",
    "itertools",
    "log",
    "memoffset",
    "miette",
    "ndarray",
    "plotters",
    "serde_json",
    "std",
    "tokio",
    "tracing",
    "rand",
];
/// Words that an item or a `let` begins with.
const OPENERS: [&str; 16] = [
    "struct",
    "enum",
    "union",
    "fn",
    "impl",
    "mod",
    "static",
    "const",
    "type",
    "trait",
    "use",
    "extern",
    "macro_rules",
    "macro",
    "let",
    "thread_local",
];
/// The function around the calls that rustc expands, and the marks before and behind each.
const AROUND: &str = "glassbox_calls";
const BEGIN: &str = "GLASSBOX_CALL_";
const END: &str = "GLASSBOX_END_";

/// A call that may make items.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Which statement of the cell it is.
    pub statement: usize,
    /// It ends with a semicolon or a brace.
    pub ended: bool,
    /// How it begins, for messages.
    pub label: String,
    text: String,
}

/// What a call makes.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    pub defines: Defines,
    /// The names in traits that it makes.
    pub methods: BTreeSet<String>,
    /// Every cell needs it.
    pub always: bool,
    /// It may change what any other item means.
    pub sweeping: bool,
    /// Variables that it binds where it stands, and whether they are mutable.
    pub bindings: Vec<(String, bool)>,
    /// The statics that it makes.
    statics: Vec<MadeStatic>,
    /// It makes items that are no statics.
    others: bool,
    items: bool,
    statements: bool,
}

/// What has been learnt of calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    known: HashMap<String, Made>,
}

/// What the calls of a cell make, by the statement.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<usize, (Call, Made)>);

/// What the text of a macro says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    /// It makes no items.
    Statements,
    /// Nothing: it is not the session's.
    Nothing,
    /// It may make some.
    Items,
}

impl Made {
    /// All that it makes is items.
    pub(super) fn is_item(&self) -> bool {
        self.items && !self.statements
    }

    /// The statics that it makes, if it makes nothing else.
    pub(super) fn only_statics(&self) -> Vec<MadeStatic> {
        match self.others || self.statements {
            true => Vec::new(),
            false => self.statics.clone(),
        }
    }

    /// It makes items among statements: they end with the cell.
    pub(super) fn is_mixed(&self) -> bool {
        self.items && self.statements
    }
}

impl Found {
    pub(super) fn get(&self, statement: usize) -> Option<&(Call, Made)> {
        self.0.get(&statement)
    }

    /// How many of the calls are no values.
    pub(super) fn taken(&self) -> usize {
        let made = self.0.values().map(|(_, made)| made);
        made.filter(|made| made.is_item() || !made.bindings.is_empty())
            .count()
    }

    /// The statements that are items, and the names that each makes.
    pub(super) fn items(&self) -> BTreeMap<usize, BTreeMap<String, Spaces>> {
        let items = self.0.iter().filter(|(_, (_, made))| made.is_item());
        items
            .map(|(statement, (_, made))| (*statement, made.defines.names.clone()))
            .collect()
    }
}

impl Calls {
    /// Whether a cell calls a macro where items may stand of which not everybody knows what it makes.
    pub(super) fn any(rust: &str, items: &Items) -> bool {
        let own = rust.contains("macro_rules");
        let unknown = |name: &str| own || !STATEMENTS.contains(&name) || is_defined(name, items);
        let calls = syntax::statements(rust);
        let mut calls = calls.iter().filter_map(|part| call_of(&part.node));
        calls.any(|call| {
            let name = name_of(&call);
            match qualified(&call) {
                true => is_foreign(&call) || name.is_some_and(|name| !STATEMENTS.contains(&&*name)),
                false => name.is_some_and(|name| unknown(&name)),
            }
        })
    }

    /// The calls of a cell, taken with its items into `items`, that may make items. `guess` leaves out a last one without a semicolon
    /// of a macro that is not known: most of those are values.
    pub(super) fn candidates(rust: &str, items: &Items, guess: bool) -> Vec<Call> {
        let statements = syntax::statements(rust);
        let last = statements.len().saturating_sub(1);
        let calls = statements
            .iter()
            .enumerate()
            .filter_map(|(statement, part)| {
                let call = call_of(&part.node)?;
                let braces = call
                    .token_tree()
                    .is_some_and(|tree| tree.l_curly_token().is_some());
                let semicolon =
                    call.semicolon_token().is_some() || ast::ExprStmt::can_cast(part.node.kind());
                let text = part.node.text().to_string();
                let name = name_of(&call)?;
                let simple = call.path()?.qualifier().is_none();
                let says = match is_foreign(&call) {
                    true => Says::Nothing,
                    false => says(&name, simple, &text, items, &mut BTreeSet::new()),
                };
                let value = says == Says::Nothing && statement == last && !braces && !semicolon;
                let asked = says > Says::Statements && !(guess && value);
                asked.then(|| Call {
                    statement,
                    ended: braces || semicolon,
                    label: label(&text),
                    text,
                })
            });
        calls.collect()
    }

    /// The source that rustc is to expand for those of `calls` that are not known, if there are any. `items` are those of the cell too.
    pub(super) fn question(&self, calls: &[Call], items: &Items) -> Option<String> {
        let context = context(items);
        let known = |call: &Call| self.known.contains_key(&key(call, &context));
        if calls.iter().all(known) {
            return None;
        }
        let mut source = items.code();
        source += &format!("fn {AROUND}() {{\n");
        for call in calls {
            let end = if call.ended { "" } else { ";" };
            let (statement, text) = (call.statement, &call.text);
            source += &format!(
                "const {BEGIN}{statement}: () = ();\n{text}{end}\nconst {END}{statement}: () = ();\n"
            );
        }
        source.push_str("}\n");
        Some(source)
    }

    /// What the calls make, by what rustc made of the question if one was asked.
    pub(super) fn answer(
        &mut self,
        calls: Vec<Call>,
        items: &Items,
        expanded: Option<&str>,
    ) -> Found {
        let context = context(items);
        let mut fresh = expanded.map(read).unwrap_or_default();
        let mut found = Found::default();
        for call in calls {
            let key = key(&call, &context);
            let made = match fresh.remove(&call.statement) {
                // What a file says may be otherwise next time.
                Some(made) if call.text.contains("include!") => Some(made),
                Some(made) => Some(self.known.entry(key).insert_entry(made).get().clone()),
                None => self.known.get(&key).cloned(),
            };
            if let Some(made) = made {
                found.0.insert(call.statement, (call, made));
            }
        }
        found
    }
}

/// The call that a statement is.
fn call_of(node: &SyntaxNode) -> Option<ast::MacroCall> {
    if let Some(statement) = ast::ExprStmt::cast(node.clone()) {
        return match statement.expr()? {
            ast::Expr::MacroExpr(call) => call.macro_call(),
            _ => None,
        };
    }
    ast::MacroCall::cast(node.clone()).or_else(|| ast::MacroExpr::cast(node.clone())?.macro_call())
}

/// The last name in the path of the macro.
fn name_of(call: &ast::MacroCall) -> Option<String> {
    Some(call.path()?.segment()?.name_ref()?.text().to_string())
}

fn qualified(call: &ast::MacroCall) -> bool {
    call.path().and_then(|path| path.qualifier()).is_some()
}

/// Whether a call names the crate that the macro is of, and that is not one whose macros are known.
fn is_foreign(call: &ast::MacroCall) -> bool {
    let mut path = call.path();
    let mut qualified = false;
    while let Some(outer) = path.as_ref().and_then(ast::Path::qualifier) {
        (path, qualified) = (Some(outer), true);
    }
    let root = path.and_then(|path| path.segment()?.name_ref());
    qualified && root.is_some_and(|root| !MEANT.contains(&root.text().trim_start_matches("r#")))
}

/// Whether the session has a macro of the name, or imports one that may be another than everybody's.
fn is_defined(name: &str, items: &Items) -> bool {
    items.items.iter().any(|item| match item.kind {
        Kind::Import => {
            let everything = item.defines.names.is_empty() && !COMMON.contains(&name);
            let named = item.defines.names.contains_key(name) || everything;
            named && !imported_root(&item.code).is_some_and(|root| MEANT.contains(&root))
        }
        // `#[macro_use] extern crate …`
        Kind::Other => {
            let all = item.code.contains("macro_use") && !COMMON.contains(&name);
            all && !words(&item.code).any(|word| MEANT.contains(&word))
        }
        _ => {
            let spaces = item.defines.names.get(name);
            spaces.is_some_and(|spaces| spaces.meet(Spaces::MACROS))
        }
    })
}

/// The first name of what an import says.
fn imported_root(code: &str) -> Option<&str> {
    let (_, path) = code.rsplit_once("use ")?;
    words(path).next()
}

/// How a call is called in messages: its text in one line.
fn label(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(50) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.trim_end_matches(';').to_owned(),
    }
}

fn key(call: &Call, context: &str) -> String {
    format!("{}\n{context}", call.text)
}

/// The items that say what a call means.
fn context(items: &Items) -> String {
    let says = |kind: Kind| matches!(kind, Kind::Macro | Kind::MacroCall | Kind::Import);
    let items = items.items.iter().filter(|item| says(item.kind));
    items.map(|item| item.code.as_str()).collect()
}

/// What the text of the macro `name` says of a call that reads `text`.
fn says(name: &str, simple: bool, text: &str, items: &Items, seen: &mut BTreeSet<String>) -> Says {
    if !seen.insert(name.to_owned()) {
        return Says::Statements;
    }
    let mut own = items.items.iter().filter(|item| {
        let spaces = item.defines.names.get(name);
        spaces.is_some_and(|spaces| spaces.meet(Spaces::MACROS))
    });
    match own.next_back() {
        Some(item) if simple && item.kind == Kind::Macro => {
            let file = parse(&item.code).tree();
            let rules = file.syntax().descendants().find_map(ast::MacroRules::cast);
            let Some(rules) = rules.and_then(|rules| rules.token_tree()) else {
                return Says::Items;
            };
            // Pattern, body, pattern, body…
            let bodies = rules.syntax().children().skip(1).step_by(2);
            bodies
                .map(|body| body_says(&body, text, items, seen))
                .max()
                .unwrap_or(Says::Statements)
        }
        Some(_) => Says::Items,
        None if STATEMENTS.contains(&name) && !(simple && is_defined(name, items)) => {
            Says::Statements
        }
        None => Says::Nothing,
    }
}

/// What the part of a macro's body says that is not inside of brackets: nothing else gets out.
fn body_says(body: &SyntaxNode, text: &str, items: &Items, seen: &mut BTreeSet<String>) -> Says {
    let opens = |word: &str| OPENERS.contains(&word);
    let mut found = Says::Statements;
    // The last two tokens.
    let (mut before, mut last) = (None, None);
    for part in body.children_with_tokens() {
        let says = match &part {
            NodeOrToken::Node(inner) if last == Some(T![$]) => body_says(inner, text, items, seen),
            NodeOrToken::Node(_) => Says::Statements,
            NodeOrToken::Token(token) if token.kind().is_trivia() => continue,
            NodeOrToken::Token(token) if opens(token.text()) => Says::Items,
            NodeOrToken::Token(_) if last == Some(T![$]) && words(text).any(opens) => Says::Items,
            NodeOrToken::Token(token)
                if token.kind() == T![!] && last == Some(SyntaxKind::IDENT) =>
            {
                let name = token.prev_token().map(|name| name.text().to_owned());
                // What another's macro makes in there is as good as not known, and asked.
                match says(
                    &name.unwrap_or_default(),
                    before != Some(T![:]),
                    text,
                    items,
                    seen,
                ) {
                    Says::Statements => Says::Statements,
                    _ => Says::Items,
                }
            }
            NodeOrToken::Token(_) => Says::Statements,
        };
        found = found.max(says);
        (before, last) = (last, Some(part.kind()));
    }
    found
}

/// What stands between the marks of each statement in the text that rustc expanded.
fn read(expanded: &str) -> BTreeMap<usize, Made> {
    let file = parse(expanded).tree();
    let functions = file.syntax().children().filter_map(ast::Fn::cast);
    let around = functions
        .filter(|function| function.name().is_some_and(|name| name.text() == AROUND))
        .last();
    let list = around.and_then(|function| function.body()?.stmt_list());
    let mut found = BTreeMap::new();
    let mut open: Option<Made> = None;
    for node in list.into_iter().flat_map(|list| list.syntax().children()) {
        let mark = ast::Const::cast(node.clone()).and_then(|item| item.name());
        let mark = mark.map(|name| name.text().to_string()).unwrap_or_default();
        if mark.starts_with(BEGIN) {
            open = Some(Made::default());
        } else if let Some(statement) = mark.strip_prefix(END) {
            if let (Some(made), Ok(statement)) = (open.take(), statement.parse()) {
                found.insert(statement, made);
            }
        } else if node.text().to_string().contains("/*ERROR*/") {
            // Not understood, so not learnt.
            open = None;
        } else if let Some(made) = &mut open {
            made.add(&node);
        }
    }
    found
}

impl Made {
    fn add(&mut self, node: &SyntaxNode) {
        if let Some(binding) = ast::LetStmt::cast(node.clone()) {
            self.statements = true;
            let pattern = binding.pat().into_iter();
            let names =
                pattern.flat_map(|pattern| pattern.syntax().descendants().collect::<Vec<_>>());
            for bound in names.filter_map(ast::IdentPat::cast) {
                let mutable = bound.mut_token().is_some();
                if let Some(name) = bound.name().filter(is_the_cells) {
                    self.bindings.push((name.text().to_string(), mutable));
                }
            }
            return;
        }
        let Some(item) = ast::Item::cast(node.clone()) else {
            self.statements = true;
            return;
        };
        self.items = true;
        match MadeStatic::of(&item) {
            Some(made) => self.statics.push(made),
            None => self.others = true,
        }
        match &item {
            ast::Item::Impl(block) => {
                let derived = block.attrs().any(|attribute| {
                    attribute
                        .syntax()
                        .text()
                        .to_string()
                        .contains("automatically_derived")
                });
                if !derived {
                    let found = Defines::of(&item);
                    self.sweeping |= block.trait_().is_some();
                    self.defines.implementations.extend(found.implementations);
                }
            }
            ast::Item::Use(import) => {
                let mut found = Vec::new();
                if let Some(tree) = import.use_tree() {
                    imports(&tree, "", &mut found);
                }
                self.always = true;
                self.sweeping |= found.iter().any(|(name, _)| name.is_none());
                let names = found.into_iter().filter_map(|(name, _)| name);
                self.defines
                    .names
                    .extend(names.map(|name| (plain(&name), Spaces::UNKNOWN)));
            }
            _ => {
                let found = Defines::of(&item);
                if let ast::Item::Trait(item) = &item {
                    self.sweeping = true;
                    self.methods.extend(associated(item.assoc_item_list()));
                }
                // What has no name may be for the whole crate.
                self.sweeping |= found.names.is_empty() && !ast::Const::can_cast(node.kind());
                self.always |=
                    matches!(item, ast::Item::ExternBlock(_) | ast::Item::ExternCrate(_));
                for (name, spaces) in found.names {
                    let before = self.defines.names.entry(name).or_default();
                    *before = before.and(spaces);
                }
            }
        }
    }
}

/// A name without the mark of its origin that rustc writes behind it.
fn plain(name: &str) -> String {
    words(name).next().unwrap_or_default().to_owned()
}

/// Whether a name is one of the cell's and not of the macro's own: rustc marks it `/* 12#0 */`.
fn is_the_cells(name: &ast::Name) -> bool {
    let mut next = name
        .syntax()
        .last_token()
        .and_then(|token| token.next_token());
    while let Some(token) = next {
        match token.kind() {
            SyntaxKind::WHITESPACE => next = token.next_token(),
            SyntaxKind::COMMENT => {
                let text = token.text().trim_end_matches("*/").trim_end();
                return text.ends_with("#0");
            }
            _ => break,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::source::Plan;
    use super::*;

    fn candidates(cell: &str) -> Vec<String> {
        let mut items = Items::default();
        items.settle();
        Plan::take(cell, &mut items, &Found::default());
        let calls = Calls::candidates(cell, &items, true);
        calls.into_iter().map(|call| call.label).collect()
    }

    #[test]
    fn what_cannot_make_items_is_not_asked() {
        for cell in [
            "println!(\"a\"); assert!(true);\nvec![1]",
            "macro_rules! sq { ($x:expr) => { $x * $x } }\nsq!(2);",
            "macro_rules! add { ($x:expr) => {{ let y = $x; y + 1 }} }\nadd!(2);\nadd!(3)",
            "macro_rules! say { ($($x:tt)*) => { println!($($x)*) } }\nsay!(\"x\");",
            "serde_json::json!([1])",
            "html!(1)",
            "let a = unit!(b);",
            "use log::info;\ninfo!(\"x\");",
            "use tracing::{info, warn as careful};\nuse rayon::prelude::*;\nprintln!(\"x\"); tracing::info!(1);",
        ] {
            assert_eq!(candidates(cell), Vec::<String>::new(), "{cell}");
        }
    }

    #[test]
    fn a_common_name_that_somebody_else_gave_to_a_macro_is_asked() {
        for cell in [
            "use items::info;\ninfo!(A);",
            "use items::more::{other, info};\ninfo!(A);",
            "use items::make as info;\ninfo!(A);",
            "use items::*;\ninfo!(A);",
            "items::info!(A);",
            "crate::info!(A);",
            "#[macro_use]\nextern crate items;\ninfo!(A);",
            "macro_rules! info { ($n:ident) => { struct $n; } }\ninfo!(A);",
        ] {
            assert_eq!(candidates(cell).len(), 1, "{cell}");
        }
    }

    #[test]
    fn what_may_make_items_is_asked() {
        for cell in [
            "thread_local! { static A: u8 = 1 }",
            "lazy_static::lazy_static! { static ref A: u8 = 1; }",
            "macro_rules! unit { ($n:ident) => { struct $n; } }\nunit!(A)",
            "macro_rules! many { ($($n:ident),*) => { $( struct $n; )* } }\nmany!(A);",
            "macro_rules! outer { ($n:ident) => { inner!($n); } }\nmacro_rules! inner { ($n:ident) => { fn $n() {} } }\nouter!(a);",
            "macro_rules! same { ($($x:tt)*) => { $($x)* } }\nsame!(fn a() {});",
            "macro_rules! set { ($n:ident) => { let $n = 1; } }\nset!(a);",
            "html! { a }",
            "other!(1);",
        ] {
            assert_eq!(candidates(cell).len(), 1, "{cell}");
        }
    }

    #[test]
    fn what_rustc_expanded_is_read() {
        let text = "fn glassbox_calls /* 1#0 */() {\n\
            const GLASSBOX_CALL_0 /* 2#0 */: () = ();\nstruct A /* 3#0 */;\n#[automatically_derived]\nimpl Clone for A {}\n\
            impl A { fn b() {} }\nconst GLASSBOX_END_0: () = ();\n\
            const GLASSBOX_CALL_2: () = ();\nlet x /* 4#0 */ = 1;\nlet mut hidden /* 4#7 */ = 1;\nconst GLASSBOX_END_2: () = ();\n\
            const GLASSBOX_CALL_3: () = ();\n{ print(1); };\nfn f() {}\nconst GLASSBOX_END_3: () = ();\n\
            const GLASSBOX_CALL_4: () = ();\n(/*ERROR*/);\nconst GLASSBOX_END_4: () = ();\n}\n";
        let found = read(text);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
        assert!(found[&0].is_item() && found[&0].defines.names.contains_key("A"));
        assert_eq!(found[&0].defines.implementations.len(), 1);
        assert!(!found[&2].is_item() && !found[&2].is_mixed());
        assert_eq!(found[&2].bindings, [("x".to_owned(), false)]);
        assert!(found[&3].is_mixed());
    }
}
