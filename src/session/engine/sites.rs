//! Where an item declares statics, and the two ways in which each is written.
//!
//! ```text
//! where it is made:  #[unsafe(export_name = "glassbox_static_7_0")] static CALLS: AtomicUsize = AtomicUsize::new(0);
//! in later cells:    unsafe extern "Rust" { #[link_name = "glassbox_static_7_0"] safe static CALLS: AtomicUsize; }
//! ```
//! A `thread_local!` is a constant that leads to its value: that constant is exported as a static of its type. What `lazy_static!`
//! makes is exported as a function that returns the value. Everything is written on as many lines as the user wrote, and what is
//! added stands between two marks, so that places in the user's text can be found again.

use std::collections::BTreeSet;
use std::ops::Range;

use ra_ap_syntax::ast::{self, HasAttrs, HasModuleItem, HasName, HasVisibility};
use ra_ap_syntax::{AstNode, SyntaxKind, SyntaxNode, SyntaxToken, T};

use super::items::{Item, words};
use crate::session::nesting::parse;

/// Stands before and after what is added to the user's text, never with a line's end between them.
pub(crate) const MARKS: (&str, &str) = ("/*{glassbox*/", "/*glassbox}*/");

/// Attributes that leave a static what it is.
const HARMLESS: [&str; 10] = [
    "allow",
    "cfg",
    "deny",
    "deprecated",
    "doc",
    "expect",
    "link_section",
    "used",
    "warn",
    "must_use",
];
/// Types whose values never change, however they are shared.
const FIXED: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16",
    "u32", "u64", "u128", "usize",
];

/// A piece of an item's text that declares statics: one `static`, or one call of a macro that is known to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declaration {
    pub statics: Vec<Static>,
    /// Why later cells can't share it.
    pub unshared: Option<String>,
    kind: Kind,
    /// Its bytes in the item's text.
    range: Range<usize>,
    /// Where what exports it is added.
    at: usize,
    /// How many line ends it spans.
    lines: usize,
    /// What a macro made of it.
    texts: Vec<String>,
}

/// A static as it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Static {
    pub name: String,
    /// What it is in: `next_id`, `Counter::next`, `shapes`; nothing at the top level.
    pub place: String,
    /// The words in its type.
    pub types: BTreeSet<String>,
    /// The words in its first value.
    pub initial: BTreeSet<String>,
    /// It holds data that no safe code can change: a copy is as good.
    pub fixed: bool,
    /// `#[cfg(…)]`
    conditions: String,
    visibility: String,
    mutable: bool,
    ty: String,
    /// The symbol that the user gave it, and the bytes of the attribute that does.
    symbol: Option<(String, Range<usize>)>,
}

/// A static that a call of a macro makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeStatic {
    /// As the macro wrote it; of one of `thread_local!` only its name and type.
    text: String,
    /// One for each thread.
    local: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// What a macro of the session makes: the static's text stands in place of the call.
    Expanded,
    ThreadLocal,
    LazyStatic,
}

/// What becomes of a declaration in a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form<'a> {
    /// It stands as the user wrote it.
    Own,
    /// It is made here, for later cells under these symbols.
    Made(&'a [String]),
    /// It was made by an earlier cell under these symbols.
    Shared(&'a [String]),
}

/// Whether an item's text may declare a static; `'static` is none.
pub(super) fn may_declare(code: &str) -> bool {
    let word = |at: usize| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c == '\'' || c == '_' || c.is_alphanumeric())
    };
    let mut found = code.match_indices("static").map(|(at, _)| at);
    found.any(|at| word(at) && code[at + 6..].starts_with(char::is_whitespace))
}

/// The declarations of an item, in order; those inside another's first value follow it.
pub(super) fn declarations(item: &Item) -> Vec<Declaration> {
    let found = written_in(&item.code);
    match found.is_empty() {
        true => expanded(&item.code, &item.makes).into_iter().collect(),
        false => found,
    }
}

fn written_in(code: &str) -> Vec<Declaration> {
    if !may_declare(code) {
        return Vec::new();
    }
    let parsed = parse(code);
    let nodes = parsed.syntax_node().descendants();
    let found = nodes.filter_map(|node| {
        if let Some(item) = ast::Static::cast(node.clone()) {
            return plain(&item, code);
        }
        called(&ast::MacroCall::cast(node)?, code)
    });
    found.collect()
}

fn plain(item: &ast::Static, code: &str) -> Option<Declaration> {
    let node = item.syntax();
    // Those of `extern` blocks have no value: others make them.
    item.body()?;
    let at = match (item.visibility(), item.static_token()) {
        (Some(visibility), _) => visibility.syntax().text_range().start(),
        (None, Some(token)) => token.text_range().start(),
        (None, None) => return None,
    };
    let range = range(node);
    Some(Declaration {
        unshared: foreign_attribute(item),
        statics: vec![Static::of(item, place(node))?],
        kind: Kind::Plain,
        at: at.into(),
        lines: newlines(code.get(range.clone())?),
        range,
        texts: Vec::new(),
    })
}

/// What a call of `thread_local!` or `lazy_static!` declares.
fn called(call: &ast::MacroCall, code: &str) -> Option<Declaration> {
    let path = call.path()?;
    let name = path.segment()?.name_ref()?;
    let kind = match name.text() {
        "thread_local" => Kind::ThreadLocal,
        "lazy_static" => Kind::LazyStatic,
        _ => return None,
    };
    let tree = call.token_tree()?.syntax().text().to_string();
    let inner = tree.get(1..tree.len().checked_sub(1)?)?;
    let inner = match kind {
        Kind::LazyStatic => without_ref(inner),
        _ => inner.to_owned(),
    };
    // The last semicolon may be left out.
    let items = only_statics(&inner).or_else(|| only_statics(&format!("{inner}\n;")))?;
    let place = place(call.syntax());
    let statics: Vec<Static> = items
        .iter()
        .map(|item| {
            let found = Static::of(item, place.clone())?;
            Some(Static {
                symbol: None,
                ..found
            })
        })
        .collect::<Option<_>>()?;
    if statics.is_empty() {
        return None;
    }
    let mut whole = call.syntax().clone();
    while let Some(parent) = whole.parent()
        && matches!(
            parent.kind(),
            SyntaxKind::MACRO_EXPR | SyntaxKind::EXPR_STMT
        )
    {
        whole = parent;
    }
    let unshared = whole
        .children()
        .filter_map(ast::Attr::cast)
        .find(|attribute| {
            let name = attribute.simple_name();
            !name.is_some_and(|name| name != "cfg" && HARMLESS.contains(&name.as_str()))
        })
        .map(|attribute| format!("`{}` stands before its macro", attribute.syntax().text()));
    let range = range(&whole);
    Some(Declaration {
        statics,
        unshared,
        kind,
        at: range.start,
        lines: newlines(code.get(range.clone())?),
        range,
        texts: Vec::new(),
    })
}

/// What a call of another macro declares, if rustc's expansion of it can be written in a cell.
fn expanded(code: &str, makes: &[MadeStatic]) -> Option<Declaration> {
    let local = makes.first()?.local;
    let alien = [
        "$crate",
        "::core::",
        "__rust",
        "#[rustc",
        "format_args",
        "::std::io::_",
    ];
    let plain = |made: &MadeStatic| {
        made.local == local && (local || !alien.iter().any(|words| made.text.contains(words)))
    };
    if !makes.iter().all(plain) {
        return None;
    }
    let texts: Vec<&str> = makes.iter().map(|made| made.text.as_str()).collect();
    let items = only_statics(&texts.concat())?;
    let statics: Vec<Static> = items
        .iter()
        .map(|item| {
            let found = Static::of(item, String::new())?;
            Some(Static {
                symbol: None,
                ..found
            })
        })
        .collect::<Option<_>>()?;
    let start = code.len() - code.trim_start().len();
    let range = start..code.trim_end().len();
    Some(Declaration {
        statics,
        unshared: items.iter().find_map(foreign_attribute),
        kind: if local {
            Kind::ThreadLocal
        } else {
            Kind::Expanded
        },
        at: start,
        lines: newlines(code.get(range.clone())?),
        range,
        texts: texts.into_iter().map(str::to_owned).collect(),
    })
}

fn only_statics(code: &str) -> Option<Vec<ast::Static>> {
    let parsed = parse(code);
    if !parsed.errors().is_empty() {
        return None;
    }
    let items = parsed.tree().items();
    items
        .map(|item| match item {
            ast::Item::Static(item) if item.body().is_some() => Some(item),
            _ => None,
        })
        .collect()
}

/// `static ref X` as `static X`.
fn without_ref(code: &str) -> String {
    let mut text = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("static") {
        let (before, after) = rest.split_at(at + "static".len());
        text.push_str(before);
        rest = after;
        if let Some(named) = after.trim_start().strip_prefix("ref")
            && named.starts_with(char::is_whitespace)
        {
            rest = named;
        }
    }
    text + rest
}

/// The bytes of a node without the comments before it.
fn range(node: &SyntaxNode) -> Range<usize> {
    let first = node
        .children_with_tokens()
        .find(|part| !matches!(part.kind(), SyntaxKind::COMMENT | SyntaxKind::WHITESPACE));
    let start = first.map_or(node.text_range().start(), |part| part.text_range().start());
    start.into()..node.text_range().end().into()
}

/// The names of what a node is in, from the outside.
fn place(node: &SyntaxNode) -> String {
    let names = node.ancestors().skip(1).filter_map(|outer| {
        if let Some(outer) = ast::Fn::cast(outer.clone()) {
            return Some(outer.name()?.text().to_string());
        }
        if let Some(outer) = ast::Module::cast(outer.clone()) {
            return Some(outer.name()?.text().to_string());
        }
        if let Some(outer) = ast::Trait::cast(outer.clone()) {
            return Some(outer.name()?.text().to_string());
        }
        let outer = ast::Impl::cast(outer)?;
        Some(outer.self_ty()?.syntax().text().to_string())
    });
    let mut names: Vec<String> = names.collect();
    names.reverse();
    names.join("::")
}

/// An attribute that may make something else of a static.
fn foreign_attribute(item: &ast::Static) -> Option<String> {
    let found = item.attrs().find(|attribute| {
        let name = attribute.simple_name();
        let text = attribute.syntax().text().to_string();
        let known = name.is_some_and(|name| HARMLESS.contains(&name.as_str()));
        !known && symbol(&text, "").is_none()
    })?;
    Some(format!("`{}` may change what it is", found.syntax().text()))
}

/// The symbol that an attribute gives to a static of that name.
fn symbol(attribute: &str, name: &str) -> Option<String> {
    let inner = attribute.trim_start_matches("#[").trim_end_matches(']');
    let inner = inner.trim();
    let inner = match inner.strip_prefix("unsafe") {
        Some(rest) => rest.trim().trim_start_matches('(').trim_end_matches(')'),
        None => inner,
    };
    let inner = inner.trim();
    if inner == "no_mangle" {
        return Some(name.to_owned());
    }
    let given = inner.strip_prefix("export_name")?.trim_start();
    let given = given.strip_prefix('=')?.trim();
    Some(given.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

impl MadeStatic {
    /// What rustc's expansion of a call says of an item, if it is a static.
    pub(super) fn of(item: &ast::Item) -> Option<MadeStatic> {
        match item {
            ast::Item::Static(item) => Some(MadeStatic {
                text: flat(item.syntax()),
                local: false,
            }),
            // thread_local! { static X: T = …; }
            ast::Item::Const(item) => {
                let ty = flat(item.ty()?.syntax());
                let (_, inner) = ty.split_once("LocalKey")?;
                let inner = inner.trim().strip_prefix('<')?.strip_suffix('>')?;
                let visibility = item
                    .visibility()
                    .map(|visibility| flat(visibility.syntax()) + " ");
                let visibility = visibility.unwrap_or_default();
                let name = item.name()?.text().to_string();
                Some(MadeStatic {
                    text: format!("{visibility}static {name}: {inner} = ();"),
                    local: true,
                })
            }
            _ => None,
        }
    }
}

/// The statics of a macro, exported.
fn text_of<'a>(statics: impl Iterator<Item = ((&'a Static, &'a String), &'a String)>) -> String {
    let text: String = statics
        .map(|((_, symbol), text)| format!("#[unsafe(export_name = \"{symbol}\")] {text} "))
        .collect();
    format!("{}{text}{}", MARKS.0, MARKS.1)
}

impl Static {
    fn of(item: &ast::Static, place: String) -> Option<Static> {
        let name = item.name()?.text().to_string();
        let ty = item.ty()?;
        let attributes: Vec<ast::Attr> = item.attrs().collect();
        let text = |attribute: &ast::Attr| attribute.syntax().text().to_string();
        let conditions = attributes
            .iter()
            .filter(|attribute| attribute.simple_name().is_some_and(|name| name == "cfg"))
            .map(|attribute| flat(attribute.syntax()) + " ");
        let given = attributes.iter().find_map(|attribute| {
            Some((symbol(&text(attribute), &name)?, range(attribute.syntax())))
        });
        let initial = item.body()?.syntax().text().to_string();
        let ty_text = flat(ty.syntax());
        Some(Static {
            place,
            conditions: conditions.collect(),
            visibility: item
                .visibility()
                .map(|visibility| flat(visibility.syntax()) + " ")
                .unwrap_or_default(),
            mutable: item.mut_token().is_some(),
            fixed: item.mut_token().is_none() && fixed(&ty),
            types: words(&ty_text).map(str::to_owned).collect(),
            initial: words(&initial).map(str::to_owned).collect(),
            ty: spelled(&ty),
            symbol: given,
            name,
        })
    }

    /// How people are told of it.
    pub(super) fn told(&self) -> String {
        match self.place.as_str() {
            "" => format!("`{}`", self.name),
            place => format!("`{}` in `{place}`", self.name),
        }
    }
}

/// A node's text on one line, without comments.
fn flat(node: &SyntaxNode) -> String {
    flat_with(node, |_| "")
}

/// A type's text on one line, with the lifetime written out that a reference in a static has without saying so.
fn spelled(ty: &ast::Type) -> String {
    flat_with(ty.syntax(), |token| {
        let reference = token.parent().and_then(ast::RefType::cast);
        let bare = reference.is_some_and(|reference| {
            let mut outer = reference.syntax().ancestors().skip(1);
            reference.lifetime().is_none()
                && !outer.any(|outer| {
                    matches!(
                        outer.kind(),
                        SyntaxKind::FN_PTR_TYPE | SyntaxKind::PARENTHESIZED_ARG_LIST
                    )
                })
        });
        if bare && token.kind() == T![&] {
            "'static "
        } else {
            ""
        }
    })
}

/// A node's text on one line, without comments, with something behind some of its tokens.
fn flat_with(node: &SyntaxNode, behind: impl Fn(&SyntaxToken) -> &'static str) -> String {
    let tokens = node
        .descendants_with_tokens()
        .filter_map(|part| part.into_token());
    let mut text = String::new();
    for token in tokens {
        match token.kind() {
            SyntaxKind::COMMENT | SyntaxKind::WHITESPACE => text.push(' '),
            _ => {
                text.push_str(token.text());
                text.push_str(behind(&token));
            }
        }
    }
    text
}

/// Whether the values of a type never change: told by its text, so some that never do are taken for others.
fn fixed(ty: &ast::Type) -> bool {
    match ty {
        ast::Type::ArrayType(array) => array.ty().is_some_and(|inner| fixed(&inner)),
        ast::Type::SliceType(slice) => slice.ty().is_some_and(|inner| fixed(&inner)),
        ast::Type::FnPtrType(_) => true,
        ast::Type::ParenType(paren) => paren.ty().is_some_and(|inner| fixed(&inner)),
        ast::Type::PathType(path) => FIXED.contains(&path.syntax().text().to_string().as_str()),
        ast::Type::RefType(reference) => {
            reference.mut_token().is_none() && reference.ty().is_some_and(|inner| fixed(&inner))
        }
        ast::Type::TupleType(tuple) => tuple.fields().all(|field| fixed(&field)),
        _ => false,
    }
}

fn newlines(text: &str) -> usize {
    text.matches('\n').count()
}

impl Declaration {
    /// The symbols for it, made from this one; those that the user gave, unless they are `taken`.
    pub(super) fn symbols(&self, prefix: &str, taken: &BTreeSet<String>) -> Vec<String> {
        let places = self.statics.iter().enumerate();
        places
            .map(|(place, found)| match &found.symbol {
                Some((symbol, _)) if !taken.contains(symbol) => symbol.clone(),
                _ => format!("{prefix}_{place}"),
            })
            .collect()
    }

    /// Whether it is a call of a macro that is replaced by what it makes.
    pub(super) fn is_expanded(&self) -> bool {
        self.kind == Kind::Expanded
    }

    /// Those of its symbols that the user gave.
    pub(super) fn chosen(&self, symbols: &[String]) -> impl Iterator<Item = String> {
        let statics = self.statics.iter().zip(symbols);
        statics.filter_map(|(found, symbol)| {
            let (given, _) = found.symbol.as_ref()?;
            (given == symbol).then(|| symbol.clone())
        })
    }

    /// What is added before it where it is made.
    fn export(&self, symbols: &[String]) -> String {
        let statics = self.statics.iter().zip(symbols);
        let text: String = match self.kind {
            Kind::Expanded => return text_of(statics.zip(&self.texts)),
            Kind::Plain => statics
                .filter(|(found, symbol)| {
                    found.symbol.as_ref().is_none_or(|(given, _)| given != *symbol)
                })
                .map(|(_, symbol)| format!("#[unsafe(export_name = \"{symbol}\")] "))
                .collect(),
            Kind::ThreadLocal => statics
                .map(|(found, symbol)| {
                    let Static { conditions, name, ty, .. } = found;
                    format!(
                        "{conditions}#[allow(warnings)] #[unsafe(export_name = \"{symbol}\")] static {symbol}: ::std::thread::LocalKey<{ty}> = {name}; "
                    )
                })
                .collect(),
            Kind::LazyStatic => statics
                .map(|(found, symbol)| {
                    let Static { conditions, name, ty, .. } = found;
                    format!(
                        "{conditions}#[allow(warnings)] #[unsafe(export_name = \"{symbol}\")] fn {symbol}() -> &'static {ty} {{ &*{name} }} "
                    )
                })
                .collect(),
        };
        if text.is_empty() {
            return text;
        }
        format!("{}{text}{}", MARKS.0, MARKS.1)
    }

    /// What stands in its place in later cells.
    fn import(&self, symbols: &[String]) -> String {
        let mut text = MARKS.0.to_owned();
        for (found, symbol) in self.statics.iter().zip(symbols) {
            let Static {
                conditions,
                visibility,
                name,
                ty,
                ..
            } = found;
            let block = format!(
                "{conditions}#[allow(warnings)] unsafe extern \"Rust\" {{ #[link_name = \"{symbol}\"] "
            );
            text += &match self.kind {
                Kind::Plain | Kind::Expanded => {
                    let keywords = if found.mutable {
                        "static mut"
                    } else {
                        "safe static"
                    };
                    format!("{block}{visibility}{keywords} {name}: {ty}; }} ")
                }
                Kind::ThreadLocal => {
                    format!(
                        "{block}{visibility}safe static {name}: ::std::thread::LocalKey<{ty}>; }} "
                    )
                }
                Kind::LazyStatic => format!(
                    "{block}safe fn {symbol}() -> &'static {ty}; }} \
                     {conditions}#[allow(warnings)] {visibility}struct {name} {{ }} \
                     {conditions}#[allow(warnings)] {visibility}static {name}: {name} = {name} {{ }}; \
                     {conditions}impl ::core::ops::Deref for {name} {{ type Target = {ty}; fn deref(&self) -> &Self::Target {{ {symbol}() }} }} \
                     {conditions}impl ::lazy_static::LazyStatic for {name} {{ fn initialize(lazy: &Self) {{ let _ = &**lazy; }} }} "
                ),
            };
        }
        text += MARKS.1;
        text + &"\n".repeat(self.lines)
    }
}

/// An item's text with its declarations in the given forms.
pub(super) fn written(code: &str, declarations: &[(&Declaration, Form<'_>)]) -> String {
    let mut text = String::new();
    let mut done = 0;
    for (declaration, form) in declarations {
        // Inside another one, which is not made here.
        if declaration.range.start < done {
            continue;
        }
        match form {
            Form::Own => {}
            Form::Made(symbols) => {
                let given = declaration.statics.iter().zip(symbols.iter());
                let unwanted = given.filter_map(|(found, symbol)| {
                    let (given, range) = found.symbol.as_ref()?;
                    (given != symbol).then_some(range.clone())
                });
                for range in unwanted {
                    text += &code[done..range.start];
                    text += &" ".repeat(range.len());
                    done = range.end;
                }
                if declaration.at >= done {
                    text += &code[done..declaration.at];
                    text += &declaration.export(symbols);
                    done = declaration.at;
                    if declaration.kind == Kind::Expanded {
                        text += &"\n".repeat(declaration.lines);
                        done = declaration.range.end;
                    }
                }
            }
            Form::Shared(symbols) => {
                text += &code[done..declaration.range.start];
                text += &declaration.import(symbols);
                done = declaration.range.end;
            }
        }
    }
    text + &code[done..]
}

/// A generated text as the user wrote it, and where something was added to it: line and column from 1, in characters, and how many.
pub(crate) fn without_additions(text: &str) -> (String, Vec<(usize, usize, usize)>) {
    let mut clean = String::new();
    let mut added = Vec::new();
    if !text.contains(MARKS.0) {
        return (text.to_owned(), added);
    }
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let mut rest = line;
        let mut column = 1;
        while let Some((before, after)) = rest.split_once(MARKS.0)
            && let Some((addition, after)) = after.split_once(MARKS.1)
        {
            clean += before;
            column += before.chars().count();
            let length = addition.chars().count() + MARKS.0.len() + MARKS.1.len();
            added.push((number + 1, column, length));
            column += length;
            rest = after;
        }
        clean += rest;
    }
    (clean, added)
}
