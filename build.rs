//! Puts a copy of the prelude's source into the binary, so that an installed `glassbox` works without its checkout.
//!
//! Writes `embedded.rs` to `OUT_DIR`: a list of paths with `include_bytes!` of the files that enter the library.

// Cargo is told things through stdout.
#![allow(clippy::print_stdout)]

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

    let mut files = vec![package.join("Cargo.toml"), root.join("Cargo.lock")];
    for part in ["src", "assets", "wire"] {
        list(&package.join(part), &mut files)?;
    }
    let workspace = out.join("workspace.toml");
    fs::write(
        &workspace,
        workspace_only(&fs::read_to_string(root.join("Cargo.toml"))?),
    )?;

    let mut code = String::from("&[\n");
    let mut entry = |name: &Path, path: &Path| {
        writeln!(
            code,
            "    ({:?}, include_bytes!({:?})),",
            name.display().to_string(),
            path.display().to_string()
        )
    };
    for file in &files {
        entry(file.strip_prefix(&root).unwrap_or(file), file).map_err(io::Error::other)?;
    }
    entry(Path::new("Cargo.toml"), &workspace).map_err(io::Error::other)?;
    code.push(']');
    fs::write(out.join("embedded.rs"), code)
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

/// The manifest without the host's own package: only what the prelude inherits.
fn workspace_only(manifest: &str) -> String {
    let mut kept = String::new();
    let mut keep = true;
    for line in manifest.lines() {
        if let Some(table) = line.trim().strip_prefix('[') {
            keep = table.starts_with("workspace") || table.starts_with("profile");
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
