//! Tells the program what it is built from.

// Cargo is told things through stdout.
#![allow(clippy::print_stdout)]

#[path = "key.rs"]
mod key;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    for part in key::PARTS {
        println!("cargo::rerun-if-changed={}", package.join(part).display());
    }
    println!(
        "cargo::rustc-env=GLASSBOX_ANALYST_KEY={}",
        key::key(&package)?
    );
    Ok(())
}
