//! Completion: from rust-analyzer's proposals to those that a notebook shows.
//!
//! What is inserted is a name and nothing else, as everywhere in Jupyter: no parentheses, no placeholders.

use std::cmp::Reverse;
use std::collections::HashSet;

use glassbox_analyst_wire::{Completion, Completions, FUNCTION};
use ra_ap_hir::PrefixKind;
use ra_ap_ide::{
    CompletionConfig, CompletionFieldsToResolve, CompletionItem, CompletionItemKind, FilePosition,
    RaFixtureConfig, SymbolKind,
};
use ra_ap_ide_db::imports::insert_use::{ImportGranularity, InsertUseConfig};

use super::markdown;
use super::world::View;

/// Names that only generated code uses, and a word that is none of Rust's.
const HIDDEN: [&str; 3] = [FUNCTION, "evcxr_display", "letm"];

/// Proposals for the cursor, best first, with offsets into the cell's code.
pub(super) fn complete(view: &View) -> Completions {
    let cursor = view.page.cursor;
    let nothing = Completions {
        start: cursor,
        end: cursor,
        items: Vec::new(),
    };
    let position = FilePosition {
        file_id: view.file,
        offset: view.place(cursor),
    };
    let found = view.analysis.completions(&config(), position, None);
    let Ok(Some(found)) = found else {
        return nothing;
    };
    // The word around the cursor.
    let Some((start, end)) = found
        .first()
        .and_then(|item| view.span(item.source_range))
        .filter(|(start, end)| (*start..=*end).contains(&cursor))
    else {
        return nothing;
    };
    let mut items: Vec<(&CompletionItem, &str)> = found
        .iter()
        .filter_map(|item| Some((item, inserted(item)?)))
        .filter(|(_, text)| !HIDDEN.contains(text))
        .collect();
    let begun = &view.page.code[start..cursor];
    let begins = |item: &CompletionItem| item.lookup().starts_with(begun);
    if items.iter().any(|(item, _)| begins(item)) {
        items.retain(|(item, _)| begins(item));
    } else {
        // Nothing begins so: perhaps but for small and capital letters.
        let small = begun.to_lowercase();
        items.retain(|(item, _)| item.lookup().to_lowercase().starts_with(&small));
    }
    items.sort_by_cached_key(|(item, text)| {
        (
            item.deprecated,
            Reverse(item.relevance.score()),
            rank(item.kind),
            (*text).to_owned(),
        )
    });
    let mut seen = HashSet::new();
    let items = items
        .into_iter()
        .map(|(item, text)| proposal(item, text))
        .filter(|item| seen.insert((item.text.clone(), item.kind)))
        .collect();
    Completions { start, end, items }
}

fn config() -> CompletionConfig<'static> {
    CompletionConfig {
        enable_postfix_completions: false,
        enable_imports_on_the_fly: false,
        enable_self_on_the_fly: false,
        enable_auto_iter: false,
        enable_auto_await: false,
        enable_private_editable: false,
        enable_term_search: false,
        term_search_fuel: 0,
        full_function_signatures: true,
        callable: None,
        add_colons_to_module: false,
        add_semicolon_to_unit: false,
        snippet_cap: None,
        insert_use: InsertUseConfig {
            granularity: ImportGranularity::Item,
            enforce_granularity: false,
            prefix_kind: PrefixKind::ByCrate,
            group: false,
            skip_glob_imports: false,
        },
        prefer_no_std: false,
        prefer_prelude: true,
        prefer_absolute: false,
        snippets: Vec::new(),
        limit: None,
        fields_to_resolve: CompletionFieldsToResolve::empty(),
        exclude_flyimport: Vec::new(),
        exclude_traits: &[],
        ra_fixture: RaFixtureConfig::default(),
    }
}

/// What is put in the word's place; `None` for a proposal that does more than that, or proposes no word.
fn inserted(item: &CompletionItem) -> Option<&str> {
    if item.kind == CompletionItemKind::UnresolvedReference {
        return None;
    }
    let mut edits = item.text_edit.iter();
    let edit = edits.next()?;
    let word = edit.delete == item.source_range && !item.is_snippet && edits.next().is_none();
    let text = edit.insert.trim_end();
    (word && !text.is_empty() && !text.contains(['\n', '{', '(', ' '])).then_some(text)
}

fn proposal(item: &CompletionItem, text: &str) -> Completion {
    let detail = item.detail.as_deref().map(plain_declaration);
    // Of a type, a variant or a macro it says the name again.
    let again = |detail: &String| detail == text || detail.starts_with("macro");
    let detail = detail.filter(|detail| !again(detail));
    let label = match detail.as_deref() {
        Some(detail) => labelled(text, detail),
        None => text.to_owned(),
    };
    Completion {
        text: text.to_owned(),
        label,
        kind: jupyter_kind(item.kind),
        detail,
        documentation: item
            .documentation
            .as_ref()
            .map(|docs| markdown::first_paragraph(docs.as_str()))
            .filter(|docs| !docs.is_empty()),
        deprecated: item.deprecated,
    }
}

/// A declaration without what does not matter to who uses it.
fn plain_declaration(detail: &str) -> String {
    let mut rest = detail.trim();
    if let Some(after) = rest.strip_prefix("pub") {
        let after = match after.strip_prefix('(') {
            Some(inside) => inside.split_once(')').map_or(inside, |(_, after)| after),
            None => after,
        };
        if after.starts_with(' ') {
            rest = after.trim_start();
        }
    }
    // The allocator that everybody uses goes without saying.
    rest.trim_end_matches([';', ',']).replace(", Global>", ">")
}

/// The name with what is known of it: `name(…) -> …` of a function, `name: Type` of a value.
fn labelled(text: &str, detail: &str) -> String {
    match detail.split_once(&format!("fn {text}")) {
        Some((_, signature)) => format!("{text}{signature}"),
        None if detail.contains("fn ") => format!("{text}  {detail}"),
        None => format!("{text}: {detail}"),
    }
}

/// Which of two equally likely proposals comes first: what belongs to a value before what can be done with it.
fn rank(kind: CompletionItemKind) -> u8 {
    use CompletionItemKind as Kind;
    match kind {
        Kind::SymbolKind(SymbolKind::Local | SymbolKind::ValueParam | SymbolKind::SelfParam) => 0,
        Kind::SymbolKind(SymbolKind::Field | SymbolKind::Variant) => 1,
        Kind::SymbolKind(SymbolKind::Method | SymbolKind::Function) => 2,
        Kind::Keyword | Kind::Snippet | Kind::UnresolvedReference => 4,
        _ => 3,
    }
}

/// Jupyter's word for what a proposal is.
fn jupyter_kind(kind: CompletionItemKind) -> &'static str {
    use CompletionItemKind as Kind;
    match kind {
        Kind::SymbolKind(symbol) => match symbol {
            SymbolKind::Function
            | SymbolKind::Method
            | SymbolKind::Macro
            | SymbolKind::ProcMacro
            | SymbolKind::Derive
            | SymbolKind::DeriveHelper
            | SymbolKind::Attribute
            | SymbolKind::BuiltinAttr => "function",
            SymbolKind::Struct
            | SymbolKind::Enum
            | SymbolKind::Union
            | SymbolKind::Trait
            | SymbolKind::TypeAlias
            | SymbolKind::TypeParam
            | SymbolKind::SelfType
            | SymbolKind::Impl => "class",
            SymbolKind::Module | SymbolKind::CrateRoot | SymbolKind::ToolModule => "module",
            _ => "instance",
        },
        Kind::BuiltinType | Kind::InferredType => "class",
        Kind::Keyword => "keyword",
        Kind::Binding | Kind::Snippet | Kind::UnresolvedReference | Kind::Expression => "instance",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_type_or_signature() {
        let label = |text: &str, detail: &str| labelled(text, &plain_declaration(detail));
        assert_eq!(
            label("push", "pub const fn push(&mut self, value: T)"),
            "push(&mut self, value: T)"
        );
        assert_eq!(
            label(
                "map",
                "pub fn map<U, F>(self, f: F) -> Option<U> where F: FnOnce(T) -> U"
            ),
            "map<U, F>(self, f: F) -> Option<U> where F: FnOnce(T) -> U"
        );
        assert_eq!(label("words", "Vec<String, Global>"), "words: Vec<String>");
        assert_eq!(plain_declaration("pub(crate) fn f()"), "fn f()");
        assert_eq!(plain_declaration("public"), "public");
    }
}
