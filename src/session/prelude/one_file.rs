//! The source of a crate as one file: each `mod name;` with the module's file in its place.
//!
//! rust-analyzer keeps the syntax trees of 128 files and no more. To propose a name it reads the documentation of all that are in scope, and
//! the prelude's stand in several hundred files: each answer would read most of them anew.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// The text of the crate with this root file.
///
/// # Errors
/// A file can't be read, or is no text.
pub(crate) fn text(root: &Path) -> Result<String> {
    let mut text = String::new();
    add(root, &folder(root), &mut text)?;
    Ok(text)
}

/// Where the files of the root file's modules are.
fn folder(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// Adds a file whose modules are in `modules`.
fn add(file: &Path, modules: &Path, text: &mut String) -> Result<()> {
    // Whose file an attribute names is left out: in the crates that are shown these are tests, and what stands in for another system.
    let mut elsewhere = false;
    for line in fs::read_to_string(file)?.lines() {
        match declared(line).filter(|_| !elsewhere) {
            Some((visibility, name)) => {
                let plain = modules.join(format!("{name}.rs"));
                let within = modules.join(name).join("mod.rs");
                let file = [plain, within].into_iter().find(|file| file.is_file());
                match file {
                    Some(file) => {
                        text.push_str(&format!("{visibility}mod {name} {{\n"));
                        add(&file, &modules.join(name), text)?;
                        text.push_str("}\n");
                    }
                    None => text.push_str(&format!("{line}\n")),
                }
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
        elsewhere = line.starts_with("#[path") || (elsewhere && line.starts_with("#["));
    }
    Ok(())
}

/// Visibility and name of a module whose file is to be read. Only those at the beginning of a line: in the middle of one, code looks so
/// inside texts and macros.
fn declared(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_suffix(';')?;
    let (visibility, name) = match line.split_once("mod ") {
        Some((before, name)) => (before, name),
        None => return None,
    };
    let visible = visibility.is_empty()
        || visibility == "pub "
        || visibility.starts_with("pub(") && visibility.ends_with(") ");
    let word = !name.is_empty() && name.chars().all(|c| c == '_' || c.is_alphanumeric());
    (visible && word).then_some((visibility, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_stand_where_they_are_declared() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write(
            "lib.rs",
            "//! A crate.\npub mod a;\n#[path = \"other.rs\"]\n#[cfg(test)]\nmod b;\npub(crate) mod c;\nmod gone;\nmod here { }",
        );
        write("a.rs", "//! A module.\nmod deep;\npub struct A;");
        write("a/deep.rs", "// Ends in a comment");
        write("b.rs", "never");
        write("other.rs", "never");
        write("c/mod.rs", "mod inner;");
        write("c/inner.rs", "pub(super) fn f() {}\n");
        assert_eq!(
            text(&folder.path().join("lib.rs")).unwrap(),
            "//! A crate.\npub mod a {\n//! A module.\nmod deep {\n// Ends in a comment\n}\npub struct A;\n}\n#[path = \"other.rs\"]\n\
             #[cfg(test)]\nmod b;\npub(crate) mod c {\nmod inner {\npub(super) fn f() {}\n}\n}\nmod gone;\nmod here { }\n"
        );
        for line in ["mod a", "model a;", " mod a;", "use mod a::b;", "xmod a;"] {
            assert_eq!(declared(line), None, "{line}");
        }
    }

    #[test]
    fn the_prelude_is_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("prelude/src/lib.rs");
        let text = text(&root).unwrap();
        let left: Vec<&str> = text
            .lines()
            .filter(|line| declared(line).is_some())
            .collect();
        // Tests, and what stands in where there is no Unix: their files are named by an attribute.
        assert!(left.len() < 12, "{left:?}");
        assert!(text.contains("pub fn save_gguf") && text.contains("pub mod prelude {"));
    }
}
