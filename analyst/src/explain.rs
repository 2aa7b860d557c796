//! Inspection: what rust-analyzer knows of the name at the cursor, or of the function in whose arguments it stands.
//!
//! ```text
//! cursor ─▶ subject ─ hover ─▶ Markdown ─▶ Markdown for notebooks, HTML, text
//!             └─ signature help ─▶ which argument it is
//! ```

use glassbox_analyst_wire::{Inspection, Subject};
use ra_ap_ide::{
    FilePosition, FileRange, HoverAction, HoverConfig, HoverDocFormat, HoverResult,
    RaFixtureConfig, SubstTyLen,
};
use ra_ap_syntax::{TextRange, TextSize};

use super::type_page::{self, TypePage};
use super::world::View;
use super::{catalogue, markdown};

/// What separates parts of an explanation.
const RULE: &str = "\n\n---\n\n";

/// What is known of what the cursor is on.
pub(super) fn inspect(view: &View, subject: Subject) -> Option<Inspection> {
    let name = subject.name.clone().and_then(|name| {
        let found = described(view, inside(&name));
        match view.page.code.get(name) {
            Some(catalogue::MODULE) => with_catalogue(view, found),
            _ => found,
        }
    });
    let markdown = name.or_else(|| {
        let argument = argument(view);
        let callee = subject
            .callee
            .and_then(|name| described(view, inside(&name)));
        match (callee, argument) {
            (Some(callee), Some(argument)) => {
                Some(with_argument(&callee, argument.place.as_deref()))
            }
            (Some(callee), None) => Some(callee),
            (None, Some(argument)) => Some(argument.alone()),
            (None, None) => None,
        }
    })?;
    let markdown = markdown::tidy(&markdown);
    Some(Inspection {
        plain: markdown::plain(&markdown),
        html: markdown::html(&markdown),
        markdown,
    })
}

/// The type of the code on the page, which is one expression.
pub(super) fn type_of(view: &View) -> Option<String> {
    let code = &view.page.code;
    let begin = code.len() - code.trim_start().len();
    let range = TextRange::new(view.place(begin), view.place(code.trim_end().len()));
    let found = hover(view, view.file, range)?;
    let text = markdown::plain(found.markup.as_str());
    let first = text.lines().next()?.trim();
    (!first.is_empty() && first != "{unknown}").then(|| first.to_owned())
}

/// A place within a name that no other token touches, if the name is long enough.
fn inside(name: &std::ops::Range<usize>) -> usize {
    name.start + usize::from(name.len() > 1)
}

fn hover(view: &View, file_id: ra_ap_ide::FileId, range: TextRange) -> Option<HoverResult> {
    let config = HoverConfig {
        links_in_hover: true,
        memory_layout: None,
        documentation: true,
        keywords: true,
        format: HoverDocFormat::Markdown,
        max_trait_assoc_items_count: Some(usize::MAX),
        max_fields_count: Some(usize::MAX),
        max_enum_variants_count: Some(usize::MAX),
        max_subst_ty_len: SubstTyLen::Unlimited,
        show_drop_glue: false,
        ra_fixture: RaFixtureConfig {
            disable_ra_fixture: true,
            ..RaFixtureConfig::default()
        },
    };
    let found = view.analysis.hover(&config, FileRange { file_id, range });
    Some(found.ok()??.info)
}

/// Declaration and documentation of the name at an offset into the cell; of a variable also those of its type.
fn described(view: &View, at: usize) -> Option<String> {
    // A name of more than one byte may hold no character boundary here.
    let at = view.page.code.floor_char_boundary(at);
    let found = hover(view, view.file, TextRange::empty(view.place(at)))?;
    let text = found.markup.as_str().to_owned();
    if let Some(page) = type_page::of_name(view, view.file, view.place(at)) {
        return Some(with_page(&text, &page));
    }
    let mut text = text;
    if !has_text(&text)
        && let Some(of_type) = type_described(view, &found)
    {
        text = format!("{text}{RULE}{of_type}");
    }
    Some(text)
}

/// Whether there is more than declarations.
fn has_text(markdown: &str) -> bool {
    markdown.contains("\n___\n") || markdown.contains("\n---\n")
}

/// The beginning of what is said of the first type that a declaration names.
fn type_described(view: &View, found: &HoverResult) -> Option<String> {
    let target = found.actions.iter().find_map(|action| match action {
        HoverAction::GoToType(targets) => targets.first(),
        _ => None,
    })?;
    let name = target.nav.focus_range?;
    let found = hover(view, target.nav.file_id, TextRange::empty(name.start()))?;
    let text = markdown::beginning(found.markup.as_str());
    Some(
        match type_page::of_name(view, target.nav.file_id, name.start()) {
            Some(page) => with_page(text, &page),
            None => text.to_owned(),
        },
    )
}

/// What is said of a type, with what its page has to say: below the first words of its documentation, above the rest.
fn with_page(markdown: &str, page: &TypePage) -> String {
    let rule = first_rule(markdown).unwrap_or(markdown.len());
    let (head, documentation) = markdown.split_at(rule);
    // The first block names the module, the last is the declaration, with private fields and without all variants.
    let begin = head.rfind("```rust\n").unwrap_or(head.len());
    let whole = format!(
        "{}```rust\n{}\n```\n{documentation}",
        &head[..begin],
        page.declaration
    );
    let beginning = markdown::beginning(&whole);
    let rest = &whole[beginning.len()..];
    match rest.trim() {
        "" => format!("{beginning}{RULE}{}", page.sections),
        rest => format!("{beginning}{RULE}{}{RULE}{rest}", page.sections),
    }
}

/// What is said of the name of the prelude's module: if it is nothing else's name, what is in it.
fn with_catalogue(view: &View, found: Option<String>) -> Option<String> {
    match found {
        None => catalogue::of_prelude(view),
        Some(text) if text.contains("pub mod prelude") && text.contains("glassbox_prelude") => {
            let all = catalogue::of_prelude(view).unwrap_or_default();
            Some(format!("{text}{RULE}{all}"))
        }
        Some(text) => Some(text),
    }
}

/// Where the declarations end.
fn first_rule(markdown: &str) -> Option<usize> {
    ["\n___\n", "\n---\n"]
        .iter()
        .filter_map(|rule| markdown.find(rule))
        .min()
}

/// What is known of the call around the cursor.
struct Argument {
    signature: String,
    documentation: String,
    /// Which argument is being written.
    place: Option<String>,
}

impl Argument {
    fn alone(&self) -> String {
        let declaration = format!("```rust\n{}\n```", self.signature);
        let mut text = with_argument(&declaration, self.place.as_deref());
        if !self.documentation.is_empty() {
            text = format!("{text}{RULE}{}", self.documentation);
        }
        text
    }
}

fn argument(view: &View) -> Option<Argument> {
    let help = view.analysis.signature_help(FilePosition {
        file_id: view.file,
        offset: view.place(view.page.cursor),
    });
    let help = help.ok()??;
    let all = help.parameter_labels().count();
    let place = help.active_parameter.and_then(|at| {
        let label = help.parameter_labels().nth(at)?;
        Some(format!("argument {} of {all}: `{label}`", at + 1))
    });
    Some(Argument {
        documentation: help
            .doc
            .as_ref()
            .map(|docs| docs.as_str().to_owned())
            .unwrap_or_default(),
        place,
        signature: help.signature,
    })
}

/// Says, below the declaration, which argument is being written.
fn with_argument(markdown: &str, place: Option<&str>) -> String {
    let Some(place) = place else {
        return markdown.to_owned();
    };
    let rule = first_rule(markdown).unwrap_or(markdown.len());
    let (declaration, rest) = markdown.split_at(rule);
    format!("{}\n\n{place}\n{rest}", declaration.trim_end())
}

impl View {
    /// A place in the cell as a place on the page.
    pub(super) fn place(&self, at: usize) -> TextSize {
        // What rust-analyzer reads is shorter than 4 GB: the page was refused otherwise.
        TextSize::new(u32::try_from(self.page.start + at).unwrap_or(0))
    }

    /// A range of the page as offsets into the cell, if it lies there.
    pub(super) fn span(&self, range: TextRange) -> Option<(usize, usize)> {
        let start = usize::from(range.start()).checked_sub(self.page.start)?;
        let end = usize::from(range.end()).checked_sub(self.page.start)?;
        (end <= self.page.code.len()).then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_stands_below_the_declaration() {
        let text = with_argument(
            "```rust\nfn f(a: u8)\n```\n___\n\nDoes.",
            Some("argument 1 of 1: `a: u8`"),
        );
        assert_eq!(
            text,
            "```rust\nfn f(a: u8)\n```\n\nargument 1 of 1: `a: u8`\n\n___\n\nDoes."
        );
        assert_eq!(with_argument("x", Some("y")), "x\n\ny\n");
        assert_eq!(with_argument("x", None), "x");
    }
}
