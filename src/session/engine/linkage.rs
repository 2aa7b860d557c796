//! Which crates besides the prelude a cell is compiled and linked with: those that its text names.
//!
//! ```text
//! words of the source ─▶ crates that the session added ─▶ their paths for rustc; their library for rustc, ld and the loader
//!                     └▶ crates of the prelude         ─▶ their paths for rustc; the prelude's library is there already
//! ```
//! A cell that names none costs nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::dependencies::{Added, Library, assigned};
use super::items::words;
use crate::session::prelude::cache::CachedPrelude;
use crate::session::prelude::prelude_crates;

/// What a source needs.
#[derive(Debug, Default)]
pub(super) struct Linkage {
    /// For rustc.
    pub arguments: Vec<OsString>,
    /// What stands behind the source: rustc looks for a crate in the libraries that the source names.
    pub source: String,
    /// What the loader needs, in this order.
    pub libraries: Vec<Arc<Library>>,
}

impl Linkage {
    pub(super) fn of(source: &str, added: &Added, prelude: &CachedPrelude) -> Linkage {
        let mut linkage = Linkage::default();
        let named: BTreeSet<&str> = words(source).collect();
        if added
            .externs
            .keys()
            .any(|name| named.contains(name.as_str()))
        {
            // A macro of one may name another.
            for (name, path) in &added.externs {
                linkage.extern_crate(name, path);
            }
            for library in &added.libraries {
                linkage.extern_crate(&library.name, &library.file());
                linkage.dependencies(&library.dependencies());
                linkage.source += &format!("extern crate {} as _;\n", library.name);
            }
            linkage.libraries.clone_from(&added.libraries);
        }
        let local = local(source);
        let inside = prelude.crates.iter().map(|krate| krate.name.as_str());
        let wanted: BTreeSet<&str> = inside
            .filter(|name| named.contains(name) && !local.contains(name))
            .filter(|name| !added.externs.contains_key(*name))
            .collect();
        for name in wanted {
            if let Some(krate) = prelude_crates::named(&prelude.crates, name) {
                linkage.extern_crate(name, &prelude.dependencies.join(&krate.file));
            }
        }
        // By its own name: rustc writes the paths of types as they begin with it.
        if !linkage.arguments.is_empty() && !imports_prelude(source) {
            linkage
                .source
                .insert_str(0, "\nextern crate glassbox_prelude;\n");
        }
        linkage
    }

    fn extern_crate(&mut self, name: &str, path: &Path) {
        self.arguments.push("--extern".into());
        self.arguments.push(assigned(name, path));
    }

    fn dependencies(&mut self, folder: &Path) {
        self.arguments.push("-L".into());
        self.arguments.push(assigned("dependency", folder));
    }

    /// Where the loader finds the libraries, as options that begin so.
    pub(super) fn run_paths(&self, option: &str) -> impl Iterator<Item = OsString> {
        self.libraries.iter().map(move |library| {
            let mut text = OsString::from(option);
            text.push(library.dir());
            text
        })
    }
}

/// Whether the source brings the prelude's own name in: a second time would be one too many, and rustc knows the crate then.
fn imports_prelude(source: &str) -> bool {
    source.match_indices("glassbox_prelude").any(|(at, name)| {
        let before = source[..at].trim_end().trim_end_matches("::").trim_end();
        let behind = source[at + name.len()..].trim_start();
        let whole = behind.starts_with(';')
            || (behind.starts_with("::") && behind[2..].trim_start().starts_with("{self"));
        whole && (before.ends_with("use") || before.ends_with("crate"))
    })
}

/// The names that the source gives to modules and imports: they hide crates.
fn local(source: &str) -> BTreeSet<&str> {
    let mut before = "";
    let mut found = BTreeSet::new();
    for word in words(source) {
        if ["mod", "as"].contains(&before) {
            found.insert(word);
        }
        before = word;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_of_the_prelude_itself_is_seen() {
        for source in [
            "use glassbox_prelude;",
            "use ::glassbox_prelude ;",
            "use glassbox_prelude::{self, data};",
            "extern crate glassbox_prelude;",
        ] {
            assert!(imports_prelude(source), "{source}");
        }
        for source in [
            "use glassbox_prelude::data;",
            "use glassbox_prelude as gp;",
            "::glassbox_prelude::cell::check::<u8>(\"a\");",
        ] {
            assert!(!imports_prelude(source), "{source}");
        }
    }

    #[test]
    fn modules_of_the_session_hide_crates() {
        let source = "mod rand { pub mod image {} }\nuse a::b as log; fn random() {}";
        let found: Vec<&str> = local(source).into_iter().collect();
        assert_eq!(found, ["image", "log", "rand"]);
    }
}
