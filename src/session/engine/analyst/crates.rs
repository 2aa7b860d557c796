//! Which crates rust-analyzer is shown, from what cargo says of a package that needs them.
//!
//! ```text
//! names and configurations ─▶ a package ─ cargo metadata ─▶ Crates
//! ```
//! Only crates that the cells or their dependencies name are among them; the standard library's come first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use glassbox_analyst_wire::{Crates, Krate, Origin, STANDARD};
use serde_json::Value;

use super::Analysis;

use crate::programs;
use crate::session::engine::dependencies::PACKAGE;
use crate::session::prelude::analysis;
use crate::session::prelude::toolchain::Toolchain;

/// The standard library, the shown prelude, and `dependencies` with what they need.
///
/// # Errors
/// What cargo or rustc said.
pub(super) fn find(
    analysis: &Analysis,
    dependencies: &BTreeMap<String, String>,
) -> Result<Crates, String> {
    let Analysis {
        folder,
        shown,
        lock,
        toolchain,
        ..
    } = analysis;
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
    let target = rustc(
        toolchain,
        &["-Zunstable-options", "--print=target-spec-json"],
    )?;
    let mut crates = Crates {
        all: standard(&analysis::library(shown)),
        named: Vec::new(),
        settings: rustc(toolchain, &["--print=cfg", "-O"])?,
        layout: layout(&target),
        release: toolchain.release().to_owned(),
    };
    add(&mut crates, &metadata);
    Ok(crates)
}

/// Adds the packages that the root of cargo's metadata needs, each after those that it needs itself.
fn add(crates: &mut Crates, metadata: &Value) {
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let mut places = BTreeMap::new();
    let root = metadata["resolve"]["root"].as_str().unwrap_or_default();
    for (name, id) in needs(nodes.get(root)) {
        if let Some(place) = place(crates, id, &packages, &nodes, &mut places) {
            crates.named.push((name.to_owned(), place));
        }
    }
}

fn place<'a>(
    crates: &mut Crates,
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
        if let Some(place) = place(crates, needed, packages, nodes, places) {
            krate.needs.push((name.to_owned(), place));
        }
    }
    crates.all.push(krate);
    places.insert(id, crates.all.len() - 1);
    Some(crates.all.len() - 1)
}

/// What rustc says.
fn rustc(toolchain: &Toolchain, arguments: &[&str]) -> Result<String, String> {
    let output = programs::rust(&toolchain.rustc)
        .args(arguments)
        // The layout of a target, and settings that only the standard library asks for, are for nightly compilers.
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn layout(spec: &str) -> Option<String> {
    let spec: Value = serde_json::from_str(spec).ok()?;
    Some(spec["data-layout"].as_str()?.to_owned())
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
        add(&mut crates, &metadata);
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
