//! Which crates rust-analyzer is shown, from what cargo says of a package that needs them.
//!
//! ```text
//! names and configurations ─▶ a package ─ cargo metadata ─▶ Crates
//! ```
//! Only crates that the cells or their dependencies name are among them; the standard library's come first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::programs;
use crate::session::engine::dependencies::PACKAGE;
use crate::session::prelude::analysis;
use crate::session::prelude::toolchain::Toolchain;

/// Where a crate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Standard,
    Prelude,
    Library,
}

/// One crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Krate {
    /// The name of its package.
    pub name: String,
    pub version: Option<String>,
    /// The file that it begins with.
    pub root: PathBuf,
    pub edition: String,
    pub features: Vec<String>,
    pub origin: Origin,
    pub makes_macros: bool,
    /// What it needs: the name in its code, and the place among all crates.
    pub needs: Vec<(String, usize)>,
}

/// All crates, and those that cells can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Crates {
    pub all: Vec<Krate>,
    pub named: Vec<(String, usize)>,
}

/// The standard library's crates, in the order in which they need each other.
pub(super) const STANDARD: [&str; 4] = ["core", "alloc", "std", "proc_macro"];

impl Crates {
    /// The standard library below `library`, the shown prelude, and `dependencies` with what they need.
    ///
    /// The package lies in `folder`; `lock` is the lock file with which the dependencies were built.
    pub(super) fn find(
        folder: &Path,
        shown: &Path,
        toolchain: &Toolchain,
        dependencies: &BTreeMap<String, String>,
        lock: &Path,
    ) -> Result<Crates, String> {
        let text = |error: std::io::Error| error.to_string();
        fs::create_dir_all(folder.join("src")).map_err(text)?;
        fs::write(folder.join("src/lib.rs"), "").map_err(text)?;
        fs::write(folder.join("Cargo.toml"), manifest(shown, dependencies)).map_err(text)?;
        // Without a lock file cargo chooses versions anew: as good for what depends on nothing else.
        if dependencies.is_empty() || fs::copy(lock, folder.join("Cargo.lock")).is_err() {
            let _ = fs::remove_file(folder.join("Cargo.lock"));
        }
        let output = programs::cargo(&toolchain.cargo)
            .args(["metadata", "--format-version=1", "--offline"])
            .args(["--filter-platform", toolchain.host(), "--manifest-path"])
            .arg(folder.join("Cargo.toml"))
            .env("RUSTC", &toolchain.rustc)
            .output()
            .map_err(text)?;
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let mut crates = Crates {
            all: standard(&analysis::library(shown)),
            named: Vec::new(),
        };
        crates.add(&metadata);
        Ok(crates)
    }

    /// Adds the packages that the root of cargo's metadata needs, each after those that it needs itself.
    fn add(&mut self, metadata: &Value) {
        let packages = by_id(&metadata["packages"]);
        let nodes = by_id(&metadata["resolve"]["nodes"]);
        let mut places = BTreeMap::new();
        let root = metadata["resolve"]["root"].as_str().unwrap_or_default();
        for (name, id) in needs(nodes.get(root)) {
            if let Some(place) = self.place(id, &packages, &nodes, &mut places) {
                self.named.push((name.to_owned(), place));
            }
        }
    }

    fn place<'a>(
        &mut self,
        id: &'a str,
        packages: &BTreeMap<&'a str, &'a Value>,
        nodes: &BTreeMap<&'a str, &'a Value>,
        places: &mut BTreeMap<&'a str, usize>,
    ) -> Option<usize> {
        if let Some(place) = places.get(id) {
            return Some(*place);
        }
        let node = nodes.get(id)?;
        let mut krate = krate(packages.get(id)?, node)?;
        for (name, needed) in needs(Some(node)) {
            if let Some(place) = self.place(needed, packages, nodes, places) {
                krate.needs.push((name.to_owned(), place));
            }
        }
        self.all.push(krate);
        places.insert(id, self.all.len() - 1);
        Some(self.all.len() - 1)
    }
}

fn manifest(shown: &Path, dependencies: &BTreeMap<String, String>) -> String {
    let path = Value::from(analysis::prelude(shown).to_string_lossy().into_owned());
    let mut text = format!(
        "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{} = {{ path = {path} }}\n",
        PACKAGE,
        analysis::PRELUDE,
    );
    for (name, config) in dependencies {
        text += &format!("{name} = {config}\n");
    }
    text
}

fn standard(library: &Path) -> Vec<Krate> {
    let krate = |(place, name): (usize, &&str)| Krate {
        name: (*name).to_owned(),
        version: None,
        root: library.join(name).join("src/lib.rs"),
        edition: "2024".to_owned(),
        features: Vec::new(),
        origin: Origin::Standard,
        makes_macros: false,
        needs: (0..place)
            .map(|place| (STANDARD[place].to_owned(), place))
            .collect(),
    };
    STANDARD.iter().enumerate().map(krate).collect()
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| Some((item["id"].as_str()?, item)))
        .collect()
}

/// Names and packages of what a node needs when it is used, not when it is tested or built.
fn needs<'a>(node: Option<&&'a Value>) -> Vec<(&'a str, &'a str)> {
    let deps = node.and_then(|node| node["deps"].as_array());
    deps.into_iter()
        .flatten()
        .filter(|dep| match dep["dep_kinds"].as_array() {
            Some(kinds) => kinds.iter().any(|kind| kind["kind"].is_null()),
            None => true,
        })
        .filter_map(|dep| Some((dep["name"].as_str()?, dep["pkg"].as_str()?)))
        .collect()
}

fn krate(package: &Value, node: &Value) -> Option<Krate> {
    let strings = |list: &Value| -> Vec<String> {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let texts = items.iter().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let kinds = |target: &Value| strings(&target["kind"]);
    let library = package["targets"].as_array()?.iter().find(|target| {
        let linked = ["lib", "rlib", "dylib", "proc-macro"];
        kinds(target)
            .iter()
            .any(|kind| linked.contains(&kind.as_str()))
    })?;
    let name = package["name"].as_str()?;
    Some(Krate {
        name: name.to_owned(),
        version: package["version"].as_str().map(str::to_owned),
        root: PathBuf::from(library["src_path"].as_str()?),
        edition: library["edition"].as_str().unwrap_or("2021").to_owned(),
        features: strings(&node["features"]),
        origin: match name {
            analysis::PRELUDE => Origin::Prelude,
            _ => Origin::Library,
        },
        makes_macros: kinds(library).iter().any(|kind| kind == "proc-macro"),
        needs: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_come_after_what_they_need_and_only_if_they_are_needed() {
        let package = |name: &str, kind: &str| {
            serde_json::json!({
                "id": name, "name": name, "version": "1.2.3",
                "targets": [
                    {"kind": ["bin"], "src_path": "/no.rs", "edition": "2021"},
                    {"kind": [kind], "src_path": format!("/{name}/src/lib.rs"), "edition": "2018"}],
            })
        };
        let need = |name: &str, kind: Value| serde_json::json!({"name": name, "pkg": name.replace('_', "-"), "dep_kinds": [{"kind": kind}]});
        let metadata = serde_json::json!({
            "packages": [
                package("glassbox-prelude", "lib"), package("rand", "lib"), package("rand-core", "lib"),
                package("derive", "proc-macro"), package("cc", "lib"), package("me", "lib")],
            "resolve": {"root": "me", "nodes": [
                {"id": "me", "features": [], "deps": [need("rand", Value::Null), need("glassbox_prelude", Value::Null)]},
                {"id": "rand", "features": ["std"], "deps": [need("rand_core", Value::Null), need("cc", "build".into()), need("derive", Value::Null)]},
                {"id": "rand-core", "features": [], "deps": []},
                {"id": "derive", "features": [], "deps": []},
                {"id": "glassbox-prelude", "features": [], "deps": []},
                {"id": "cc", "features": [], "deps": []}]},
        });
        let mut crates = Crates::default();
        crates.add(&metadata);
        let names: Vec<&str> = crates.all.iter().map(|krate| krate.name.as_str()).collect();
        assert_eq!(names, ["rand-core", "derive", "rand", "glassbox-prelude"]);
        assert_eq!(
            crates.named,
            [("rand".to_owned(), 2), ("glassbox_prelude".to_owned(), 3)]
        );
        let rand = &crates.all[2];
        assert_eq!(
            rand.needs,
            [("rand_core".to_owned(), 0), ("derive".to_owned(), 1)]
        );
        assert_eq!(
            (rand.edition.as_str(), &rand.features[..]),
            ("2018", &["std".to_owned()][..])
        );
        assert!(crates.all[1].makes_macros && !rand.makes_macros);
        assert_eq!(crates.all[3].origin, Origin::Prelude);
    }
}
