//! Puts copies of the prelude's source and of the analyst's into the binary, so that an installed `glassbox` works without its checkout.
//!
//! Writes `embedded.rs` and `embedded_analyst.rs` to `OUT_DIR`: lists of paths with `include_bytes!` of the files that enter the library, and
//! the program. Each is a workspace of its own: who builds the one downloads nothing for the other.

// Cargo is told things through stdout.
#![allow(clippy::print_stdout)]

#[path = "analyst/key.rs"]
mod key;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let package = root.join("prelude");
    for part in ["src", "assets", "wire", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", package.join(part).display());
    }
    println!(
        "cargo::rerun-if-changed={}",
        root.join("Cargo.toml").display()
    );
    println!(
        "cargo::rerun-if-changed={}",
        root.join("Cargo.lock").display()
    );

    let mut files = vec![root.join("Cargo.lock")];
    for part in ["src", "assets", "wire"] {
        list(&package.join(part), &mut files)?;
    }
    // The manifest without the host's own package: only what the prelude inherits.
    let workspace = out.join("prelude_workspace.toml");
    let settings = tables(&root.join("Cargo.toml"), |table| {
        table.starts_with("workspace") || table.starts_with("profile")
    })?;
    fs::write(
        &workspace,
        carried_members(&settings, "\"prelude\", \"prelude/wire\"")?,
    )?;
    // The prelude's without its tests and examples, whose files stay behind: cargo wants each file that a manifest names.
    let library = out.join("prelude.toml");
    fs::write(
        &library,
        tables(&package.join("Cargo.toml"), |table| {
            !["[test]]", "[example]]", "[bench]]"].contains(&table.trim_end())
        })?,
    )?;

    write_list(
        &out.join("embedded.rs"),
        &root,
        &files,
        &[("Cargo.toml", &workspace), ("prelude/Cargo.toml", &library)],
    )?;

    let analyst = root.join("analyst");
    println!("cargo::rerun-if-changed={}", analyst.display());
    println!(
        "cargo::rustc-env=GLASSBOX_ANALYST_KEY={}",
        key::key(&analyst)?
    );
    let mut files = key::files(&analyst)?;
    files.push(root.join("Cargo.lock"));
    let workspace = out.join("analyst_workspace.toml");
    fs::write(
        &workspace,
        carried_members(&settings, "\"analyst\", \"analyst/wire\"")?,
    )?;
    write_list(
        &out.join("embedded_analyst.rs"),
        &root,
        &files,
        &[("Cargo.toml", &workspace)],
    )
}

/// Writes the list of files, by their paths below `root`, and of those that have another name.
fn write_list(
    list: &Path,
    root: &Path,
    files: &[PathBuf],
    renamed: &[(&str, &Path)],
) -> io::Result<()> {
    let mut code = String::from("&[\n");
    let mut entry = |name: &Path, path: &Path| {
        writeln!(
            code,
            "    ({:?}, include_bytes!({:?})),",
            name.display().to_string(),
            path.display().to_string()
        )
    };
    for file in files {
        entry(file.strip_prefix(root).unwrap_or(file), file).map_err(io::Error::other)?;
    }
    for (name, path) in renamed {
        entry(Path::new(name), path).map_err(io::Error::other)?;
    }
    code.push(']');
    fs::write(list, code)
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

/// The workspace's settings with those members alone whose folders are carried: cargo wants each member that a workspace names.
fn carried_members(settings: &str, members: &str) -> io::Result<String> {
    let (before, list) = settings
        .split_once("\nmembers = [")
        .ok_or_else(|| io::Error::other("Cargo.toml names no members of the workspace"))?;
    let (_, after) = list
        .split_once(']')
        .ok_or_else(|| io::Error::other("the list of members in Cargo.toml does not end"))?;
    Ok(format!("{before}\nmembers = [{members}]{after}"))
}

/// A manifest's tables of which `kept` says so, by what stands behind their first bracket.
fn tables(manifest: &Path, kept: impl Fn(&str) -> bool) -> io::Result<String> {
    let mut text = String::new();
    let mut keep = true;
    for line in fs::read_to_string(manifest)?.lines() {
        if let Some(table) = line.trim().strip_prefix('[') {
            keep = kept(table);
        }
        if keep {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}
