//! What the prelude brings into cells, by stage: from its own source, so that nothing here can be out of date.
//!
//! ```text
//! pub mod prelude { // Stage: what it is about     pub use …; … } ─▶ a heading each, and its names with the first sentence of their documentation
//! ```

use std::collections::BTreeMap;

use ra_ap_hir::{self as hir, Crate, ModuleSource, ScopeDef};
use ra_ap_ide::Edition;
use ra_ap_ide_db::RootDatabase;
use ra_ap_syntax::ast::{self, HasName};
use ra_ap_syntax::{AstNode, AstToken, NodeOrToken};

use super::markdown::first_paragraph;
use super::world::View;

/// The crate, and its module that cells import.
const CRATE: &str = "glassbox_prelude";
/// The module's name.
pub(super) const MODULE: &str = "prelude";

/// All names by stage, as Markdown; `None` if the prelude is not there.
pub(super) fn of_prelude(view: &View) -> Option<String> {
    let db = &view.database;
    hir::attach_db(db, || catalogue(db))
}

fn catalogue(db: &RootDatabase) -> Option<String> {
    let krate = Crate::all(db).into_iter().find(|krate| {
        krate
            .display_name(db)
            .is_some_and(|name| name.to_string() == CRATE)
    })?;
    let text = |name: &hir::Name| name.display(db, Edition::CURRENT).to_string();
    let module = krate
        .root_module(db)
        .children(db)
        .find(|child| child.name(db).is_some_and(|name| text(&name) == MODULE))?;
    let mut sentences: BTreeMap<String, String> = BTreeMap::new();
    for (name, definition) in module.scope(db, None) {
        if let Some(sentence) = sentence(db, &definition) {
            sentences.entry(text(&name)).or_insert(sentence);
        }
    }
    let ModuleSource::Module(source) = module.definition_source(db).value else {
        return None;
    };
    let mut page = String::from(
        "What `use glassbox_prelude::prelude::*;` brings into every cell, by stage. `?NAME` tells more of each.\n",
    );
    for stage in stages(&source) {
        page += &format!("\n### {}\n\n", stage.title);
        if !stage.about.is_empty() {
            page += &format!("{}\n\n", stage.about);
        }
        for name in stage.names {
            match sentences.get(&name) {
                Some(sentence) => page += &format!("- `{name}`: {sentence}\n"),
                None => page += &format!("- `{name}`\n"),
            }
        }
    }
    Some(page)
}

/// The first sentence of the documentation.
fn sentence(db: &RootDatabase, definition: &ScopeDef<'_>) -> Option<String> {
    let attributes = definition.attrs(db)?;
    let paragraph = first_paragraph(attributes.hir_docs(db)?.docs());
    let end = paragraph.find(". ").map_or(paragraph.len(), |end| end + 1);
    let sentence = paragraph[..end].trim_end_matches('.').to_owned();
    (!sentence.is_empty()).then_some(sentence)
}

/// What stands below one comment.
struct Stage {
    title: String,
    about: String,
    names: Vec<String>,
}

/// A comment `// Title: what it is about` begins a stage; the `pub use` below it are its names.
fn stages(source: &ast::Module) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    let Some(list) = source.item_list() else {
        return stages;
    };
    for element in list.syntax().descendants_with_tokens() {
        match element {
            // The parser gives a comment to the item below it.
            NodeOrToken::Token(token) => {
                let Some(comment) = ast::Comment::cast(token) else {
                    continue;
                };
                let text = comment.text().trim_start_matches('/').trim();
                let (title, about) = text.split_once(':').unwrap_or((text, ""));
                stages.push(Stage {
                    title: title.trim().to_owned(),
                    about: about.trim().to_owned(),
                    names: Vec::new(),
                });
            }
            // A tree comes after the comments above its item, and is taken whole.
            NodeOrToken::Node(node) => {
                let whole = node
                    .parent()
                    .is_some_and(|parent| ast::Use::can_cast(parent.kind()));
                let Some(tree) = ast::UseTree::cast(node).filter(|_| whole) else {
                    continue;
                };
                if stages.is_empty() {
                    stages.push(Stage {
                        title: "Names".to_owned(),
                        about: String::new(),
                        names: Vec::new(),
                    });
                }
                if let Some(stage) = stages.last_mut() {
                    leaves(&tree, &mut stage.names);
                }
            }
        }
    }
    stages.retain(|stage| !stage.names.is_empty());
    stages
}

/// The names that a tree of a `use` brings in.
fn leaves(tree: &ast::UseTree, names: &mut Vec<String>) {
    if let Some(list) = tree.use_tree_list() {
        for inner in list.use_trees() {
            leaves(&inner, names);
        }
        return;
    }
    let renamed = tree.rename().and_then(|rename| rename.name());
    let last = tree.path().and_then(|path| path.segment()?.name_ref());
    match (renamed, last) {
        (Some(name), _) => names.push(name.text().to_string()),
        (None, Some(name)) => names.push(name.text().to_string()),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use ra_ap_syntax::SourceFile;

    use super::*;

    #[test]
    fn comments_are_headings_and_uses_their_names() {
        let text = "pub mod prelude {\n    // Loss: how wrong it is.\n    pub use crate::vlm::{LossOutput, inner::{A as B, C}};\n\n    // Data\n    pub use x::Y;\n}";
        let file = SourceFile::parse(text, Edition::CURRENT).tree();
        let module = file.syntax().descendants().find_map(ast::Module::cast);
        let stages = stages(&module.expect("there is a module"));
        let told: Vec<(&str, &str, String)> = stages
            .iter()
            .map(|stage| {
                (
                    stage.title.as_str(),
                    stage.about.as_str(),
                    stage.names.join(" "),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("Loss", "how wrong it is.", "LossOutput B C".to_owned()),
                ("Data", "", "Y".to_owned())
            ]
        );
    }
}
