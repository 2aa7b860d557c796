//! The reference is whole: every name that a cell sees without a path has an example that runs, on the item itself.
//!
//! # Flow
//! the list in `src/lib.rs`, `mod prelude` → each name's definition under `src/` → its doc comment → at least one fenced example that `cargo test --doc` runs.
//! Names of other crates (candle, rand) have their own reference and are left out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a fence may say beside `rust` when its block is compiled and run.
const RUNS: &[&str] = &["rust", "should_panic", "standalone"];

/// The modules whose other names, those that a cell reaches by a path such as `glassbox_prelude::nn::Attention`, have examples too.
const MODULES: &[&str] = &[
    "projector",
    "vision",
    "senses",
    "language",
    "nn",
    "vlm",
    "lora",
    "hub",
    "parallel",
    "train",
    "runs",
    "headless",
    "evaluate",
    "data",
    "inspect",
    "edits",
    "display",
    "widgets",
];

#[test]
fn every_name_that_a_cell_sees_has_an_example_that_runs() {
    let source = Source::read();
    let names = names_of_cells(&source.text("lib.rs"));
    assert!(names.len() > 300, "the list of names is read: {names:?}");
    let faults = source.faults(&names);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_name_that_a_stage_exports_has_an_example_that_runs() {
    let source = Source::read();
    for module in MODULES {
        let (file, folder) = (format!("{module}.rs"), format!("{module}/mod.rs"));
        let names = exports(
            module,
            &source.text(if source.has(&file) { &file } else { &folder }),
        );
        assert!(names.len() > 3, "the names of {module} are read: {names:?}");
        let faults = source.faults(&names);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

#[test]
fn fences_that_do_not_run_are_no_examples() {
    for (doc, runs) in [
        ("Words.", false),
        ("```\nlet x = 1;\n```", true),
        ("```rust\nlet x = 1;\n```", true),
        ("```should_panic\npanic!();\n```", true),
        ("```text\na → b\n```", false),
        ("```ignore\nlet x = 1;\n```", false),
        ("```no_run\nlet x = 1;\n```", false),
        ("```rust,no_run\nlet x = 1;\n```", false),
        ("```\n```", false),
        // The end of a block is not the start of another.
        ("```text\na\n```\nlet x = 1;", false),
        ("```text\na\n```\n```\nlet x = 1;\n```", true),
    ] {
        assert_eq!(has_running_example(doc), runs, "{doc}");
    }
}

/// A name of `mod prelude`, with its module's path below `crate::` ("" for the crate's root).
#[derive(Debug)]
struct Name {
    path: String,
    name: String,
}

/// The names that `mod prelude` takes from this crate.
fn names_of_cells(library: &str) -> Vec<Name> {
    let (_, list) = library.split_once("pub mod prelude {").unwrap();
    names_used(list, "pub use crate::")
}

/// The names that a module's own file takes from its parts for others to use, and those that it defines; what is hidden is left out.
fn exports(module: &str, text: &str) -> Vec<Name> {
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().enumerate().filter(|(at, line)| {
        let hidden = *at > 0 && lines[at - 1] == "#[doc(hidden)]";
        !(line.starts_with("//") || hidden)
    });
    let shown: Vec<&str> = shown.map(|(_, line)| *line).collect();
    let defined = shown.iter().filter_map(|line| {
        let rest = KINDS.iter().find_map(|kind| line.strip_prefix(kind))?;
        let end = rest.find(|next: char| !(next.is_alphanumeric() || next == '_'));
        Some(Name {
            path: String::new(),
            name: rest[..end.unwrap_or(rest.len())].to_owned(),
        })
    });
    let names = names_used(&shown.join("\n"), "pub use ");
    let names = names.into_iter().chain(defined);
    names
        .map(|name| Name {
            path: format!("{module}::{}", name.path),
            ..name
        })
        .collect()
}

/// The names of the `use` declarations that begin so.
fn names_used(text: &str, start: &str) -> Vec<Name> {
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !(line.starts_with("//") || line.starts_with("#[")))
        .collect();
    let mut names = Vec::new();
    for uses in words.join(" ").split(';') {
        let Some(path) = uses.trim().strip_prefix(start) else {
            continue;
        };
        let (path, list) = path.rsplit_once("::").unwrap_or(("", path));
        for name in list.trim_matches(['{', '}']).split(',').map(str::trim) {
            if !name.is_empty() {
                names.push(Name {
                    path: path.to_owned(),
                    name: name.to_owned(),
                });
            }
        }
    }
    names
}

/// The Rust files of the library, each with its text.
struct Source {
    folder: PathBuf,
    files: Vec<(PathBuf, String)>,
}

impl Source {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = rust_files(&folder);
        Self { folder, files }
    }

    fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap()
    }

    /// What is to be done, for each of these names.
    fn faults(&self, names: &[Name]) -> Vec<String> {
        let mut faults = Vec::new();
        for Name { path, name } in names {
            match self.doc_comments(path, name).as_slice() {
                [doc] if has_running_example(doc) => {}
                [_] => faults.push(format!(
                    "{name} has no example that runs: write one in its doc comment (not `ignore`, `no_run` or `text`)"
                )),
                found => faults.push(format!(
                    "crate::{path}::{name} is defined {} times under src/, so its example is not found",
                    found.len()
                )),
            }
        }
        faults
    }

    /// The doc comment of each definition of `name` in the files of the module `path` (anywhere, for a macro: those live at the
    /// crate's root).
    fn doc_comments(&self, path: &str, name: &str) -> Vec<String> {
        let module = path.split("::").next().unwrap_or_default();
        let folder = self.folder.join(module);
        let file = self.folder.join(format!("{module}.rs"));
        let mut docs = Vec::new();
        for (at, text) in &self.files {
            if !(at.starts_with(&folder) || *at == file) {
                continue;
            }
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                if !defines(line, name) {
                    continue;
                }
                // Attributes and the doc comment stand right above the item; a blank line or another item ends them.
                let start = lines[..index]
                    .iter()
                    .rposition(|above| {
                        !above.starts_with("///")
                            && (above.is_empty() || *above == "}" || above.ends_with(';'))
                    })
                    .map_or(0, |above| above + 1);
                let doc: Vec<&str> = lines[start..index]
                    .iter()
                    .filter_map(|above| above.strip_prefix("///"))
                    .map(|above| above.strip_prefix(' ').unwrap_or(above))
                    .collect();
                docs.push(doc.join("\n"));
            }
        }
        docs
    }
}

/// How the definition of a name begins.
const KINDS: [&str; 7] = [
    "pub struct ",
    "pub enum ",
    "pub trait ",
    "pub fn ",
    "pub type ",
    "pub const ",
    "macro_rules! ",
];

/// Every Rust file below `folder`, with its text.
fn rust_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files
}

/// Whether this line begins the definition of `name` at a file's outermost level.
fn defines(line: &str, name: &str) -> bool {
    let item = KINDS
        .iter()
        .find_map(|start| line.strip_prefix(start))
        .and_then(|rest| rest.strip_prefix(name));
    item.is_some_and(|after| !after.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// Whether a doc comment holds a code block that `cargo test --doc` compiles and runs.
fn has_running_example(doc: &str) -> bool {
    // Inside a block: whether it runs.
    let mut block: Option<bool> = None;
    for line in doc.lines() {
        match (line.trim_start().strip_prefix("```"), block) {
            (Some(words), None) => {
                block = Some(
                    words
                        .split([',', ' '])
                        .all(|word| word.is_empty() || RUNS.contains(&word)),
                );
            }
            (Some(_), Some(_)) => block = None,
            (None, Some(true)) if !line.trim().is_empty() => return true,
            (None, _) => {}
        }
    }
    false
}
