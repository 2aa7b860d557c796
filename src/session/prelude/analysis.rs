//! A package that shows rust-analyzer as much of the prelude as variables and completion need, and no more.
//!
//! rust-analyzer reads every crate below a dependency before it names the first type. Most of the two hundred crates
//! below the prelude never appear in a cell. So beside the library stand packages of our own for the few that do: each
//! holds a copy of the crate's source as it was built and depends only on the others. A copy, because the library is found by what
//! its source says, not by where it was: that checkout may be gone by now, or hold something else.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::one_file;
use super::source::PreludeSource;
use super::toolchain::Toolchain;
use crate::programs;
use crate::session::error::SessionError;

/// Name of the prelude's package.
pub(crate) const PRELUDE: &str = "glassbox-prelude";
/// The crates whose types appear in cells; the last only where the prelude was built with it.
const SHOWN: [&str; 4] = [PRELUDE, "candle-core", "candle-nn", "candle-transformers"];

/// The crates of the standard library that it is shown; those below them hold no type that a cell can name.
const STANDARD: [&str; 4] = ["alloc", "core", "proc_macro", "std"];
/// The folder with these.
const LIBRARY: &str = "library";
/// Tells rust-analyzer where the standard library's source is.
pub(crate) const LIBRARY_VARIABLE: &str = "RUST_SRC_PATH";

/// In each package: the crate's source.
const SOURCE: &str = "source.rs";

/// Writes the packages below `dir` and returns the names of their files; the prelude's is in the folder of its name.
pub(crate) fn write(
    dir: &Path,
    source: &PreludeSource,
    toolchain: &Toolchain,
    features: &[String],
) -> Result<Vec<String>, SessionError> {
    let mut cargo = programs::cargo(&toolchain.cargo);
    cargo
        .args(["metadata", "--format-version=1", "--manifest-path"])
        .arg(source.manifest())
        .env("RUSTC", &toolchain.rustc);
    if !features.is_empty() {
        cargo.args(["--features", &features.join(",")]);
    }
    let broken = |reason: String| SessionError::BrokenRust {
        program: toolchain.cargo.clone(),
        reason,
    };
    let output = cargo.output().map_err(|error| broken(error.to_string()))?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| broken(String::from_utf8_lossy(&output.stderr).into_owned()))?;
    let mut names = Vec::new();
    for (name, root, manifest) in manifests(&metadata) {
        let package = dir.join(name);
        fs::create_dir_all(&package).map_err(SessionError::cache("create", &package))?;
        let source = one_file::text(Path::new(root)).map_err(SessionError::cache("read", root))?;
        for (file, text) in [("Cargo.toml", manifest), (SOURCE, source)] {
            let path = package.join(file);
            fs::write(&path, text).map_err(SessionError::cache("write", &path))?;
            names.push(format!("{name}/{file}"));
        }
    }
    link_library(dir, toolchain)?;
    Ok(names)
}

/// Makes the folder with the standard library's main crates.
pub(crate) fn link_library(dir: &Path, toolchain: &Toolchain) -> Result<(), SessionError> {
    let library = library(dir);
    fs::create_dir_all(&library).map_err(SessionError::cache("create", &library))?;
    for name in STANDARD {
        let link = library.join(name);
        std::os::unix::fs::symlink(toolchain.library.join(name), &link)
            .map_err(SessionError::cache("write", &link))?;
    }
    Ok(())
}

/// The folder, below `dir`, with links to the standard library's main crates and nothing else.
///
/// Without the workspace manifest that stands beside the real ones, rust-analyzer takes these crates as they are and
/// does not read the thirty megabytes of processor intrinsics and of crates below `std`.
pub(crate) fn library(dir: &Path) -> PathBuf {
    dir.join(LIBRARY)
}

/// The prelude's package among the manifests below `dir`.
pub(crate) fn prelude(dir: &Path) -> PathBuf {
    dir.join(PRELUDE)
}

/// Name, root file and our `Cargo.toml` of each shown package in cargo's metadata.
fn manifests<'a>(metadata: &'a Value) -> Vec<(&'a str, &'a str, String)> {
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let shown: Vec<(&'a Value, &'a str)> = packages
        .iter()
        .filter_map(|package| Some((package, package["name"].as_str()?)))
        .filter(|(_, name)| SHOWN.contains(name))
        .collect();
    let name_of = |id: &Value| {
        shown
            .iter()
            .find(|(package, _)| package["id"] == *id)
            .map(|&(_, name)| name)
    };
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let manifest = |(package, name): (&'a Value, &'a str)| {
        let targets = package["targets"].as_array()?;
        let library = targets.iter().find(|target| {
            let kinds = target["kind"].as_array();
            kinds
                .into_iter()
                .flatten()
                .any(|kind| matches!(kind.as_str(), Some("lib" | "dylib" | "rlib")))
        })?;
        let root = library["src_path"].as_str()?;
        let node = nodes.iter().find(|node| node["id"] == package["id"])?;
        let mut text = String::new();
        // Strings of JSON are strings of TOML. Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "[package]\nname = \"{name}\"\nversion = {}",
            package["version"]
        );
        let _ = writeln!(text, "edition = {}\n", package["edition"]);
        let _ = writeln!(
            text,
            "[lib]\nname = {}\npath = {}\n",
            library["name"],
            Value::from(SOURCE)
        );
        let _ = writeln!(text, "[features]");
        let enabled: Vec<&str> = node["features"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| *name != "default")
            .collect();
        let _ = writeln!(text, "default = {}", Value::from(enabled.clone()));
        for feature in enabled {
            let _ = writeln!(text, "\"{feature}\" = []");
        }
        let _ = writeln!(text, "\n[dependencies]");
        for dependency in node["deps"].as_array().into_iter().flatten() {
            if let Some(other) = name_of(&dependency["pkg"]) {
                let used_as = &dependency["name"];
                let _ = writeln!(
                    text,
                    "{used_as} = {{ path = \"../{other}\", package = \"{other}\" }}"
                );
            }
        }
        Some((name, root, text))
    };
    shown.iter().copied().filter_map(manifest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_crates_depend_only_on_each_other() {
        let metadata = serde_json::json!({
            "packages": [
                {"name": "glassbox-prelude", "id": "p", "version": "0.1.0", "edition": "2024",
                 "targets": [{"kind": ["dylib", "rlib"], "name": "glassbox_prelude", "src_path": "/s/prelude/src/lib.rs"}]},
                {"name": "candle-core", "id": "c", "version": "0.11.1", "edition": "2021",
                 "targets": [{"kind": ["lib"], "name": "candle_core", "src_path": "/r/candle-core/src/lib.rs"}]},
                {"name": "rayon", "id": "r", "version": "1.0.0", "edition": "2021",
                 "targets": [{"kind": ["lib"], "name": "rayon", "src_path": "/r/rayon/src/lib.rs"}]},
            ],
            "resolve": {"nodes": [
                {"id": "p", "features": [], "deps": [{"name": "candle_core", "pkg": "c"}, {"name": "rayon", "pkg": "r"}]},
                {"id": "c", "features": ["default", "cuda"], "deps": [{"name": "rayon", "pkg": "r"}]},
            ]},
        });
        let written = manifests(&metadata);
        assert_eq!(
            written
                .iter()
                .map(|(name, root, _)| (*name, *root))
                .collect::<Vec<_>>(),
            [
                ("glassbox-prelude", "/s/prelude/src/lib.rs"),
                ("candle-core", "/r/candle-core/src/lib.rs")
            ]
        );
        assert!(written[0].2.contains("path = \"source.rs\""));
        assert!(written[0].2.contains(
            "\"candle_core\" = { path = \"../candle-core\", package = \"candle-core\" }"
        ));
        assert!(!written[0].2.contains("rayon") && !written[1].2.contains("rayon"));
        assert!(
            written[1].2.contains("\"cuda\" = []") && written[1].2.contains("default = [\"cuda\"]")
        );
    }
}
