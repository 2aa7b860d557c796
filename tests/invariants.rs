//! House rules that can be checked: what each half of the project must not depend on, and where wire formats live.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The `[dependencies]` names of a manifest, read line by line (the tables here have no dotted headings).
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside
            && let Some((name, _)) = line.split_once('=')
            && !name.trim_start().starts_with('#')
        {
            names.push(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    assert!(
        names.len() > 5,
        "{} names too few dependencies: the check reads it wrongly",
        manifest.display()
    );
    names
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn the_host_knows_nothing_of_tensors() {
    let names = dependencies(&root().join("Cargo.toml"));
    for banned in [
        "candle-core",
        "candle-nn",
        "candle-transformers",
        "tokenizers",
        "glassbox-prelude",
    ] {
        assert!(
            !names.iter().any(|name| name == banned),
            "the host depends on {banned}"
        );
    }
    for (path, text) in sources(&root().join("src")) {
        assert!(
            !text.contains("use candle_core"),
            "{} uses candle",
            path.display()
        );
    }
}

#[test]
fn the_prelude_knows_nothing_of_jupyter_or_evcxr() {
    let names = dependencies(&root().join("prelude/Cargo.toml"));
    for banned in [
        "evcxr",
        "evcxr_jupyter",
        "zeromq",
        "jupyter-protocol",
        "jupyter-zmq-client",
    ] {
        assert!(
            !names.iter().any(|name| name == banned),
            "the prelude depends on {banned}"
        );
    }
}

#[test]
fn one_module_knows_jupyters_wire_format() {
    for (path, text) in sources(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        if !relative.starts_with("kernel") {
            assert!(
                !text.contains("jupyter_protocol") && !text.contains("jupyter_zmq_client"),
                "{} speaks Jupyter's protocol outside src/kernel",
                path.display()
            );
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for folder in ["src", "prelude/src", "prelude/examples"] {
        for (path, text) in sources(&root().join(folder)) {
            assert!(text.starts_with("//!"), "{} has no header", path.display());
        }
    }
}
